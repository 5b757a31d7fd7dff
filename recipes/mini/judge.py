"""Make rated pictures of the mini world, on which the mini judge is trained: adapter and heads on the mini MLLM.

Command:   python recipes/mini/judge.py && vernissage train judge recipes/mini/judge.toml --all
Hardware:  2 CPU cores, or a GPU where torch sees one; needs build/mini/pictures.npy and the shipped models
Result:    build/mini/judged/{train,ablation,held-out}.jsonl with their pictures, what is true of the held-out ones and what the
           recogniser still sees of it in held-out-checked.jsonl, build/mini/judge; figures: benchmarks/mini_judge.py

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
from vernissage.world.facts import Facts, check_facts, facts_of, scene_of
from vernissage.world.nn.recogniser import legibility, load_recogniser, read_pictures
from vernissage.world.raters import answer, perceived_quality, rate, sample_raters
from vernissage.world.scene import Scene, Split, sample_scene, split_of
from vernissage.zoo.catalogue import package_folder

FOLDER = BUILD / "judged"
HELD_OUT = ("mini/pixel", "mini/sketch")
QUESTIONS = {"train": 6, "held-out": 16}
"""Asked about a picture; the mini MLLM knows most answers already, so a few keep it from forgetting them."""
DRAWN = {"train": 8000, "held-out": 240}
PAINTED = {"train": 1200, "held-out": 150}
"""Pictures of each model."""
OTHER_PROMPTS = {"train": 5, "held-out": 0}
"""Rated beside a picture's own prompt: the network tells a picture's prompts apart only if it sees several with one picture."""
ABLATION = 6
"""One training picture of so many is learnt from in the ablation, which trains five judges."""


def wanted_scene(shown: Scene, rng: np.random.Generator) -> Scene:
    """What the prompt asks for: mostly what is shown or something near it, so that every share of right facts occurs."""
    kind = rng.random()
    return shown if kind < 0.35 else near(shown, rng) if kind < 0.8 else sample_scene(rng, split=split_of(shown))


def other_scenes(shown: Scene | None, wanted: Scene, count: int, rng: np.random.Generator) -> list[Scene]:
    """What further prompts for a picture ask for: what is near the prompt's scene and the scene shown, if there is one of that split."""
    near_to = [wanted, shown] if shown and split_of(shown) == split_of(wanted) else [wanted]
    return [wanted_scene(near_to[number % len(near_to)], rng) for number in range(count)]


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


def plan_of(scene: Scene, model: str, split: Split, rng: np.random.Generator) -> Plan:
    """How a picture is painted: for training often hastily, so that models make more and other mistakes than they would."""
    arguments = {"seed": int(rng.integers(2**31))}
    if split == "train":
        arguments |= {"steps": int(rng.integers(6, 17)), "cfg_scale": float(rng.choice([1.0, 2.0, 3.0, 4.0]))}
    return Plan(prompt=tell.prompt(scene, rng), model=model, arguments=Arguments(**arguments))


def painted_pictures(split: Split, rng: np.random.Generator) -> list[tuple[Image.Image, None, Scene, str]]:
    """Pictures of the mini models with the scenes they were asked for; painted once and kept."""
    studio, rows = Studio(), []
    for model in studio.catalogue:
        if split == "train" and model in HELD_OUT:
            continue
        own = [np.random.default_rng([62, split == "held-out", *model.encode(), index]) for index in range(PAINTED[split])]
        scenes = [sample_scene(each, split=split) for each in own]
        plans = [plan_of(scene, model, split, each) for scene, each in zip(scenes, own, strict=True)]
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


def share_right(wanted: Scene, seen: Facts) -> float:
    checks = check_facts(facts_of(wanted), seen)
    return sum(check.right for check in checks) / len(checks)


def opinions(who: tuple[str, ...], ratings: np.ndarray) -> list[float]:
    """The MOS of each picture, from ratings (rater, picture)."""
    found = mean_opinions(Panel(who, tuple(map(str, range(ratings.shape[1]))), ratings)).values()
    return [round(opinion.mos, 3) for opinion in found if isinstance(opinion, Opinion)]


def make(split: Split) -> None:
    rng = np.random.default_rng([61, split == "held-out"])
    recogniser = load_recogniser(package_folder("mini") / "recogniser")
    rows = [*drawn_pictures(split, rng), *painted_pictures(split, rng)]
    clean = [image for image, *_ in rows]
    clear, seen = legibility(recogniser, clean), read_pictures(recogniser, clean)
    folder = FOLDER / split
    folder.mkdir(parents=True, exist_ok=True)
    qualities, matches, asked, lines = [], [], [], []
    for index, (image, shown, wanted, model) in enumerate(rows):
        strength = int(rng.integers(STRONGEST + 1)) if rng.random() < 0.6 else 0
        defect = DEFECTS[rng.integers(len(DEFECTS))]
        spoil(image, defect, strength, seed=index).save(folder / f"{index:05d}.png")
        facts = seen[index] if shown is None else facts_of(shown)
        true = scene_of(facts)  # what is painted may be no whole scene, and then nothing is asked about it
        qualities.append(perceived_quality(1.0 if model == "drawn" else float(clear[index]), strength))
        scenes = [wanted, *other_scenes(true, wanted, OTHER_PROMPTS[split], rng)]
        matches.append({tell.prompt(scene, rng): share_right(scene, facts) for scene in scenes})
        questions = tell.questions(true, rng) if true else []
        chosen = [questions[i] for i in rng.permutation(len(questions))[: QUESTIONS[split]]]
        asked.append(list({question.text: question.answer for question in chosen}.items()))
        lines.append({"image": f"{split}/{index:05d}.png", "prompt": next(iter(matches[-1])), "model": model})
    raters = sample_raters()
    who = tuple(rater.name for rater in raters)
    for line, mos in zip(lines, opinions(who, rate(np.array(qualities), raters, seed=0)), strict=True):
        line["perception"] = mos
    said = iter(opinions(who, rate(np.array([share for shares in matches for share in shares.values()]), raters, seed=1)))
    for line, shares in zip(lines, matches, strict=True):
        line["correspondence"], *others = (next(said) for _ in shares)
        if others:
            line["other_prompts"] = dict(zip(list(shares)[1:], others, strict=True))
    flat = [(index, text, truth) for index, several in enumerate(asked) for text, truth in several]
    votes = vote(Panel(who, tuple(map(str, range(len(flat)))), answer(np.array([truth for *_, truth in flat], float), raters, seed=2)))
    for (index, text, _), vote_of in zip(flat, votes.values(), strict=True):
        if isinstance(vote_of, Score):
            lines[index].setdefault("answers", {})[text] = vote_of.value == 1
    for name, part in {split: lines, **({"ablation": lines[::ABLATION]} if split == "train" else {})}.items():
        (FOLDER / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in part), encoding="utf-8")
    if split == "held-out":
        spoiled = [Picture.open(FOLDER / line["image"]).image for line in lines]
        still = [share_right(wanted, facts) for (_, _, wanted, _), facts in zip(rows, read_pictures(recogniser, spoiled), strict=True)]
        checked = [
            {"image": line["image"], "true": next(iter(shares.values())), "recognised": share}
            for line, shares, share in zip(lines, matches, still, strict=True)
        ]
        (FOLDER / "held-out-checked.jsonl").write_text("".join(json.dumps(each) + "\n" for each in checked), encoding="utf-8")
    print(f"{split}: {len(lines)} pictures, {len(flat)} questions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for split in ("train", "held-out"):
        make(split)


if __name__ == "__main__":
    main()
