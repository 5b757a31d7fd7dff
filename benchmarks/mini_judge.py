"""Does the mini judge agree with the (synthetic) raters on prompts and T2I models it never saw, and what does each part bring?

Command:   .venv/bin/python benchmarks/mini_judge.py [--ablation] [--record]
Protocol:  the held-out set of recipes/mini/judge.py: drawn pictures with known defects and pictures of all mini models, prompts held
           out; `mini/pixel` and `mini/sketch` are held out too. Ratings are SYNTHETIC. SRCC of perception and correspondence with the MOS,
           share of answers that are the majority's; 95 % bootstrap intervals over pictures. Beside it: mini CLIPScore, sharpness
           (variance of the Laplacian), and the mini MLLM asked zero-shot; and what is to be had: the share of the prompt's facts that
           is true of the picture before it was spoiled, which is what raters go by, and the share that the recogniser, who defines
           that truth for painted pictures, still finds in the spoiled one. --ablation trains the paper's four variants (levels only,
           vision LoRA, levels with LoRA on the LLM, all) and one adapter for each dimension, each on a sixth of the training pictures
           by the same recipe (recipes/mini/judge-ablation.toml), resumable.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from record import append_result
from scipy.ndimage import laplace

from vernissage.api import Studio
from vernissage.datasets.judged import JudgedPicture, read_judged
from vernissage.judging.nn.checkpoint import load_judge
from vernissage.judging.nn.training import predict, split, train_judge
from vernissage.judging.recipe import load_recipe
from vernissage.judging.zero_shot import ZeroShotJudge
from vernissage.local.device import pick_device
from vernissage.metrics.correlation import srcc_interval
from vernissage.metrics.interval import Estimate, mean_interval
from vernissage.records.verdict import Score
from vernissage.zoo.catalogue import package_folder

HELD_OUT = ("mini/pixel", "mini/sketch")
VARIANTS = {
    "levels only": {"parts": ()},
    "vision LoRA": {"parts": ("vision",), "levels": False},
    "levels, LLM LoRA": {"parts": ("language",)},
    "all, one adapter each": {"adapters": "each"},
}


def measure(said: list[dict], rows: list[JudgedPicture]) -> dict[str, Estimate]:
    found = {}
    for dimension in ("perception", "correspondence"):
        pairs = [(own[dimension], getattr(row, dimension)) for own, row in zip(said, rows, strict=True) if dimension in own]
        values = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
        if (estimate := srcc_interval(values[:, 0], values[:, 1])) is not None:
            found[dimension] = estimate
    right = [
        float((own[number] > 0.5) == answer)
        for own, row in zip(said, rows, strict=True)
        for number, answer in enumerate(row.answers.values())
        if number in own
    ]
    if right:
        found["answers"] = mean_interval(np.array(right))
    return found


def by_group(said: list[dict], rows: list[JudgedPicture]) -> dict[str, dict[str, Estimate]]:
    groups = {
        "all": lambda row: True,
        "drawn": lambda row: row.model == "drawn",
        "models seen in training": lambda row: row.model != "drawn" and row.model not in HELD_OUT,
        "models held out": lambda row: row.model in HELD_OUT,
    }
    chosen = {name: [index for index, row in enumerate(rows) if keep(row)] for name, keep in groups.items()}
    return {name: measure([said[i] for i in indices], [rows[i] for i in indices]) for name, indices in chosen.items()}


def baselines(rows: list[JudgedPicture]) -> dict[str, list[dict]]:
    studio, images = Studio(), [row.open() for row in rows]
    words, pictures = studio.clip.encode_text([row.prompt for row in rows]), studio.clip.encode(images)
    similar = [float(a @ b) for a, b in zip(words, pictures, strict=True)]
    sharp = [float(laplace(np.asarray(image.convert("L"), dtype=float)).var()) for image in images]
    verdicts = ZeroShotJudge(studio.mllm).judge(images, [row.prompt for row in rows], [list(row.answers) for row in rows])
    asked = []
    for verdict in verdicts:
        own = {name: score.value for name in ("perception", "correspondence") if isinstance(score := getattr(verdict, name), Score)}
        asked.append(own | {number: answer.yes.value for number, answer in enumerate(verdict.answers) if isinstance(answer.yes, Score)})
    return {
        "mini CLIPScore": [{"perception": value, "correspondence": value} for value in similar],
        "sharpness": [{"perception": value, "correspondence": value} for value in sharp],
        "mini MLLM, zero-shot": asked,
    }


def attainable(file: Path, rows: list[JudgedPicture]) -> dict[str, list[dict]]:
    """Correspondence as those would tell it who know the facts, and as the recogniser tells it."""
    checked = {each["image"]: each for each in map(json.loads, file.read_text(encoding="utf-8").splitlines())}
    own = [checked[f"{row.image.parent.name}/{row.image.name}"] for row in rows]
    ways = {"the facts themselves": "true", "the recogniser, from the spoiled picture": "recognised"}
    return {name: [{"correspondence": each[key]} for each in own] for name, key in ways.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("build/mini/judged/held-out.jsonl"))
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    rows = read_judged(arguments.data)

    def judged(folder: Path) -> list[dict]:
        model, spec = load_judge(folder, device=pick_device("auto"))
        return predict(model, spec, rows, batch_size=32)

    def show(name: str, groups: dict[str, dict[str, Estimate]]) -> dict:
        for group, found in groups.items():
            print(f"{name:<26} {group:<24} " + "  ".join(f"{what} {estimate}" for what, estimate in found.items()), flush=True)
        return groups

    figures = {"mini judge": show("mini judge", by_group(judged(package_folder("mini") / "judge"), rows))}
    checked = attainable(arguments.data.with_name(f"{arguments.data.stem}-checked.jsonl"), rows)
    for name, said in (baselines(rows) | checked).items():
        figures[name] = show(name, by_group(said, rows))
    if arguments.ablation:
        recipe = load_recipe(Path("recipes/mini/judge-ablation.toml"))
        part = split(read_judged(recipe.data), recipe, test=False)
        for name, changes in {"all, shared adapter": {}, **VARIANTS}.items():
            folder = recipe.out / name.replace(", ", "-").replace(" ", "-")
            chosen = recipe.model_copy(update={**changes, "out": folder})
            train_judge(chosen, part.train, part.validation, folder)
            figures[name] = show(name, by_group(judged(folder), rows))
    if arguments.record:
        append_result("mini_judge", figures, pictures=len(rows), ablation=arguments.ablation)


if __name__ == "__main__":
    main()
