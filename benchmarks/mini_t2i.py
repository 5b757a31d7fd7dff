"""How many facts of a prompt do the mini T2I models paint right?

Command:   .venv/bin/python benchmarks/mini_t2i.py [--prompts 200] [--record]
Protocol:  200 prompts of held-out scenes (seed 2024), each model's default arguments, seed = index of the prompt; facts
           read back by the recogniser and compared with the prompt's (`vernissage.world.facts`). Then 100 held-out
           prompts of each specialist's own style, specialist against general model, paired; half of them again by prompts
           that do not name the style (a specialist needs no telling); and, for the style itself, the
           Frechet distance (mini DINOv2 features) of the same pictures to 400 other drawn pictures of that style, its
           difference with a bootstrap over prompts. Drawn pictures of the same scenes give the ceiling: what the
           recogniser reads right when nothing was painted wrong.
"""

import argparse

import numpy as np
from record import append_result

from vernissage.api import Studio
from vernissage.metrics.distribution import frechet_distance, gather
from vernissage.metrics.interval import mean_interval, ratio_interval
from vernissage.records.picture import Picture
from vernissage.records.plan import Arguments, Plan
from vernissage.world import tell
from vernissage.world.draw import draw
from vernissage.world.facts import check_facts, facts_of
from vernissage.world.nn.recogniser import load_recogniser, read_pictures
from vernissage.world.scene import Scene, sample_scene
from vernissage.zoo.catalogue import package_folder

SPECIALISTS = {"mini/neon": "neon", "mini/pixel": "pixel art", "mini/sketch": "sketch", "mini/watercolour": "watercolour"}


def counts(recogniser, scenes: list[Scene], images: list) -> tuple[np.ndarray, np.ndarray, dict[str, list[bool]]]:
    right, asked, by_fact = [], [], {}
    for scene, seen in zip(scenes, read_pictures(recogniser, images), strict=True):
        checks = check_facts(facts_of(scene), seen)
        right.append(sum(check.right for check in checks))
        asked.append(len(checks))
        for check in checks:
            name = "kind" if check.fact.startswith("a ") else check.fact.split(" of ")[0]
            by_fact.setdefault(name, []).append(check.right)
    return np.array(right), np.array(asked), by_fact


def distances(special: np.ndarray, general: np.ndarray, drawn: np.ndarray) -> tuple[float, float, float, float, float]:
    """Frechet distances of both to the drawn pictures, times 1,000, their difference and its bootstrap interval."""
    truth = gather(drawn)
    one, two = (1000 * frechet_distance(gather(each), truth) for each in (special, general))
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(500):
        chosen = rng.integers(len(special), size=len(special))
        differences.append(1000 * (frechet_distance(gather(special[chosen]), truth) - frechet_distance(gather(general[chosen]), truth)))
    low, high = np.percentile(differences, [2.5, 97.5])
    return one, two, one - two, float(low), float(high)


def painted(studio: Studio, model: str, scenes: list[Scene], facts: frozenset = tell.ALL_FACTS) -> list:
    plans = [Plan(prompt=tell.prompt(scene, facts=facts), model=model, arguments=Arguments(seed=i)) for i, scene in enumerate(scenes)]
    pictures = studio.t2i.paint(plans)
    assert all(isinstance(picture, Picture) for picture in pictures), "a model failed to paint"
    return [picture.image for picture in pictures]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--own", type=int, default=100)
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    studio, recogniser = Studio(), load_recogniser(package_folder("mini") / "recogniser")
    rng = np.random.default_rng(2024)
    scenes = [sample_scene(rng, split="held-out") for _ in range(arguments.prompts)]
    right, asked, by_fact = counts(recogniser, scenes, [draw(scene, seed=i).image for i, scene in enumerate(scenes)])
    rows = {"drawn (ceiling)": ratio_interval(right, asked)}
    facts = {"drawn (ceiling)": {name: round(float(np.mean(values)), 3) for name, values in by_fact.items()}}
    print(f"{'drawn (ceiling)':<18} {rows['drawn (ceiling)']}", flush=True)
    for model in studio.catalogue:
        right, asked, by_fact = counts(recogniser, scenes, painted(studio, model, scenes))
        rows[model] = ratio_interval(right, asked)
        facts[model] = {name: round(float(np.mean(values)), 3) for name, values in by_fact.items()}
        print(f"{model:<18} {rows[model]}  {facts[model]}", flush=True)
    own, unnamed, distance = {}, {}, {}
    for model, style in SPECIALISTS.items():
        scenes = [sample_scene(rng, split="held-out", style=style) for _ in range(arguments.own)]
        drawn = [draw(sample_scene(rng, split="held-out", style=style), seed=i).image for i in range(400)]
        shares, features = {}, {"drawn": studio.dinov2.encode(drawn)}
        for name in (model, "mini/general"):
            images = painted(studio, name, scenes)
            right, asked, _ = counts(recogniser, scenes, images)
            shares[name], features[name] = right / asked, studio.dinov2.encode(images)
        own[style] = (
            mean_interval(shares[model]),
            mean_interval(shares["mini/general"]),
            mean_interval(shares[model] - shares["mini/general"]),
        )
        shares = {}
        for name in (model, "mini/general"):  # half of them again, by prompts that do not name the style
            half = scenes[: arguments.own // 2]
            right, asked, _ = counts(recogniser, half, painted(studio, name, half, frozenset({"place", "time"})))
            shares[name] = right / asked
        unnamed[style] = tuple(
            mean_interval(each) for each in (shares[model], shares["mini/general"], shares[model] - shares["mini/general"])
        )
        distance[style] = distances(features[model], features["mini/general"], features["drawn"])
        print(f"{style:<12} specialist {own[style][0]}  general {own[style][1]}  difference {own[style][2]}", flush=True)
        print(f"{'':<12} style not named: specialist {unnamed[style][0]}  general {unnamed[style][1]}  difference {unnamed[style][2]}")
        print(f"{'':<12} distance to drawn: specialist, general, difference with interval {distance[style]}", flush=True)
    if arguments.record:
        figures = {"facts_right": rows, "by_fact": facts, "own_style": own, "own_style_unnamed": unnamed, "own_distance": distance}
        append_result("mini_t2i", figures, prompts=arguments.prompts, own=arguments.own)


if __name__ == "__main__":
    main()
