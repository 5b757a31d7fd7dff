"""Make rated pictures of the mini world, on which the mini judge is trained: adapter and heads on the mini MLLM.

Command:   python recipes/mini/judge.py && vernissage train judge recipes/mini/judge.toml --all
Hardware:  2 CPU cores, or a GPU where torch sees one; needs build/mini/pictures.npy and the shipped models
Result:    build/mini/judged/{train,held-out}.jsonl with their pictures, build/mini/judge; figures: benchmarks/mini_judge.py

The ratings are SYNTHETIC: sixteen raters that never were (`world.raters`) rate how legible a picture is and what spoiled it
(perception), which share of its prompt's facts it shows (correspondence), and answer questions. The training pictures are drawn
ones, and painted by four of the mini models; `mini/pixel` and `mini/sketch` are held out, and so are the test prompts.
"""

import argparse
import json

import numpy as np
from PIL import Image

from lessons import near
from pictures import BUILD, load_pictures
from vernissage.api import Studio
from vernissage.judging.mos import Opinion, mean_opinions, vote
from vernissage.judging.ratings import Panel
from vernissage.records.picture import Picture
from vernissage.records.plan import Arguments, Plan
from vernissage.records.verdict import Score
from vernissage.world import tell
from vernissage.world.defects import DEFECTS, STRONGEST, spoil
from vernissage.world.draw import draw
from vernissage.world.facts import check_facts, facts_of, scene_of
from vernissage.world.nn.recogniser import legibility, load_recogniser, read_pictures
from vernissage.world.raters import answer, perceived_quality, rate, sample_raters
from vernissage.world.scene import Scene, Split, sample_scene, split_of
from vernissage.zoo.catalogue import package_folder

FOLDER = BUILD / "judged"
HELD_OUT = ("mini/pixel", "mini/sketch")
QUESTIONS = {"train": 6, "held-out": 16}
"""Asked about a picture; the mini MLLM knows most answers already, so a few keep it from forgetting them."""
DRAWN = {"train": 6000, "held-out": 240}
PAINTED = {"train": 500, "held-out": 60}
"""Pictures of each model."""


def wanted_scene(shown: Scene, rng: np.random.Generator) -> Scene:
    """What the prompt asks for: mostly what is shown or something near it, so that every share of right facts occurs."""
    kind = rng.random()
    return shown if kind < 0.35 else near(shown, rng) if kind < 0.8 else sample_scene(rng, split=split_of(shown))


def drawn_pictures(split: Split, rng: np.random.Generator) -> list[tuple[Image.Image, Scene, Scene, str]]:
    """Drawn pictures as (picture, scene shown, scene wanted, "drawn")."""
    rows = []
    if split == "train":
        pictures, scenes, _ = load_pictures()
        for index in rng.choice(len(scenes), DRAWN[split], replace=False):
            rows.append((Image.fromarray(pictures[index]), scenes[index], wanted_scene(scenes[index], rng), "drawn"))
    else:
        for index in range(DRAWN[split]):
            shown = sample_scene(rng, split="held-out")
            rows.append((draw(shown, seed=10_000 + index).image, shown, wanted_scene(shown, rng), "drawn"))
    return rows


def painted_pictures(split: Split, rng: np.random.Generator) -> list[tuple[Image.Image, None, Scene, str]]:
    """Pictures of the mini models with the scenes they were asked for; painted once and kept."""
    studio, rows = Studio(), []
    for model in studio.catalogue:
        if split == "train" and model in HELD_OUT:
            continue
        scenes = [sample_scene(rng, split=split) for _ in range(PAINTED[split])]
        plans = [Plan(prompt=tell.prompt(scene, rng), model=model, arguments=Arguments(seed=int(rng.integers(2**31)))) for scene in scenes]
        folder = FOLDER / "painted" / split / model.replace("/", "-")
        missing = [index for index in range(len(plans)) if not (folder / f"{index}.png").exists()]
        for start in range(0, len(missing), 32):
            part = missing[start : start + 32]
            for index, picture in zip(part, studio.t2i.paint([plans[index] for index in part]), strict=True):
                if isinstance(picture, Picture):
                    picture.save(folder / f"{index}.png")
            print(f"{split} {model}: {start + len(part)}/{len(missing)}", flush=True)
        for index, scene in enumerate(scenes):
            # Some prompts are another picture's: a model's own mistakes are too few to learn from.
            asked = near(scene, rng) if rng.random() < 0.3 else scene
            rows.append((Picture.open(folder / f"{index}.png").image, None, asked, model))
    return rows


def make(split: Split) -> None:
    rng = np.random.default_rng([61, split == "held-out"])
    recogniser = load_recogniser(package_folder("mini") / "recogniser")
    rows = [*drawn_pictures(split, rng), *painted_pictures(split, rng)]
    clean = [image for image, *_ in rows]
    clear, seen = legibility(recogniser, clean), read_pictures(recogniser, clean)
    folder = FOLDER / split
    folder.mkdir(parents=True, exist_ok=True)
    perceptions, correspondences, asked, lines = [], [], [], []
    for index, (image, shown, wanted, model) in enumerate(rows):
        strength = int(rng.integers(STRONGEST + 1)) if rng.random() < 0.6 else 0
        defect = DEFECTS[rng.integers(len(DEFECTS))]
        spoil(image, defect, strength, seed=index).save(folder / f"{index:05d}.png")
        facts = seen[index] if shown is None else facts_of(shown)
        checks = check_facts(facts_of(wanted), facts)
        perceptions.append(perceived_quality(1.0 if model == "drawn" else float(clear[index]), strength))
        correspondences.append(sum(check.right for check in checks) / len(checks))
        true = scene_of(facts)  # what is painted may be no whole scene, and then nothing is asked about it
        questions = tell.questions(true, rng) if true else []
        chosen = [questions[i] for i in rng.permutation(len(questions))[: QUESTIONS[split]]]
        asked.append(list({question.text: question.answer for question in chosen}.items()))
        lines.append({"image": f"{split}/{index:05d}.png", "prompt": tell.prompt(wanted, rng), "model": model})
    raters, names = sample_raters(), tuple(str(index) for index in range(len(rows)))
    who = tuple(rater.name for rater in raters)
    for number, (dimension, qualities) in enumerate((("perception", perceptions), ("correspondence", correspondences))):
        opinions = mean_opinions(Panel(who, names, rate(np.array(qualities), raters, seed=number)))
        for line, opinion in zip(lines, opinions.values(), strict=True):
            if isinstance(opinion, Opinion):
                line[dimension] = round(opinion.mos, 3)
    flat = [(index, text, truth) for index, several in enumerate(asked) for text, truth in several]
    votes = vote(Panel(who, tuple(map(str, range(len(flat)))), answer(np.array([truth for *_, truth in flat], float), raters, seed=2)))
    for (index, text, _), said in zip(flat, votes.values(), strict=True):
        if isinstance(said, Score):
            lines[index].setdefault("answers", {})[text] = said.value == 1
    (FOLDER / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    print(f"{split}: {len(lines)} pictures, {len(flat)} questions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for split in ("train", "held-out"):
        make(split)


if __name__ == "__main__":
    main()
