"""How true is what the mini studio's language model says about a picture?

Command:   .venv/bin/python benchmarks/mini_tree.py [--scenes 200] [--record]
Protocol:  pictures of held-out scenes (seed 91), understood as `vernissage repaint` does it. Objects: precision, recall and
           F1 of kinds over all trees. Attributes: of the objects found, colours and counts right. Relations: of the scenes
           with one, right. Overall: style and lighting right. Facts: of the picture's facts, those that caption, prompt
           from the tree, and direct prompt state rightly. Answers: yes/no questions about the picture (`world.tell`).
"""

import argparse

import numpy as np
from record import append_result

from vernissage.api import Studio
from vernissage.metrics.interval import Estimate, mean_interval, ratio_interval
from vernissage.ports import Ask, Message
from vernissage.prompts import load_prompt
from vernissage.records.tree import UnderstandingTree
from vernissage.repainting.describe import describe
from vernissage.repainting.lockstep import Ports, run_together
from vernissage.world import tell
from vernissage.world.draw import draw
from vernissage.world.facts import check_facts, facts_of, read_text
from vernissage.world.scene import OPPOSITE, sample_scene


def said_alike(tree: UnderstandingTree, true: UnderstandingTree) -> bool:
    """Whether the relation is the true one; "star above car" and "car below star" say the same."""
    (relation,) = true.relations
    word = next(each for each in OPPOSITE if each in relation)
    first, second = (part.strip() for part in relation.split(word))
    return tree.relations in ((relation,), (f"{second} {OPPOSITE[word]} {first}",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    studio = Studio()
    rng = np.random.default_rng(91)
    scenes = [sample_scene(rng, split="held-out") for _ in range(arguments.scenes)]
    images = [draw(scene, seed=i).image for i, scene in enumerate(scenes)]
    ports = Ports(studio.mllm, studio.t2i, studio.encoders)
    figures: dict[str, Estimate] = {}
    by_tree = run_together([describe(image, "tree", brief=True, clip=None) for image in images], ports)
    direct = run_together([describe(image, "direct", brief=True, clip=None) for image in images], ports)
    trees = [result[1] if isinstance(result, tuple) else None for result in by_tree]
    truth = [tell.tree(scene) for scene in scenes]
    named = [{thing.name for thing in tree.objects} if tree else set() for tree in trees]
    wanted = [{thing.name for thing in tree.objects} for tree in truth]
    hits = np.array([len(a & b) for a, b in zip(named, wanted, strict=True)])
    figures["objects_f1"] = ratio_interval(2 * hits, np.array([len(a) + len(b) for a, b in zip(named, wanted, strict=True)]))
    figures["objects_precision"] = ratio_interval(hits, np.array([len(a) for a in named]))
    figures["objects_recall"] = ratio_interval(hits, np.array([len(b) for b in wanted]))
    for attribute in ("colour", "count"):
        right, asked = [], []
        for tree, true in zip(trees, truth, strict=True):
            found = {thing.name: thing.features for thing in tree.objects} if tree else {}
            pairs = [(thing.features[attribute], found[thing.name].get(attribute)) for thing in true.objects if thing.name in found]
            right.append(sum(a == b for a, b in pairs))
            asked.append(len(pairs))
        figures[f"{attribute}_of_found"] = ratio_interval(np.array(right), np.array(asked))
    related = [(tree, true) for tree, true in zip(trees, truth, strict=True) if true.relations]
    figures["relations"] = mean_interval(np.array([bool(tree) and said_alike(tree, true) for tree, true in related], dtype=float))
    for name in ("style", "lighting"):
        figures[name] = mean_interval(
            np.array(
                [bool(tree) and getattr(tree, name) == getattr(true, name) for tree, true in zip(trees, truth, strict=True)], dtype=float
            )
        )
    texts = {
        "facts_of_caption": [tree.caption if tree else "" for tree in trees],
        "facts_of_tree_prompt": [result[0] if isinstance(result, tuple) else "" for result in by_tree],
        "facts_of_direct_prompt": [result[0] if isinstance(result, tuple) else "" for result in direct],
    }
    for name, said in texts.items():
        checks = [check_facts(facts_of(scene), read_text(text)) for scene, text in zip(scenes, said, strict=True)]
        figures[name] = ratio_interval(np.array([sum(c.right for c in each) for each in checks]), np.array([len(each) for each in checks]))
    asked = [
        (index, question)
        for index, scene in enumerate(scenes)
        for question in rng.permutation(np.array(tell.questions(scene, rng), dtype=object))[:5]
    ]
    prompt = load_prompt("judging/answer")
    asks = [Ask(messages=(Message(text=prompt.render(brief=True, question=text), images=(images[i],)),)) for i, (text, _, _) in asked]
    replies = studio.mllm.answer(asks)
    right = np.array(
        [getattr(reply, "text", "") == ("yes" if truth else "no") for reply, (_, (_, truth, _)) in zip(replies, asked, strict=True)]
    )
    figures["answers"] = ratio_interval(right.reshape(-1, 5).sum(axis=1), np.full(len(scenes), 5))
    for name, estimate in figures.items():
        print(f"{name:<24} {estimate}  n = {estimate.n}")
    if arguments.record:
        append_result("mini_tree", figures, scenes=arguments.scenes)


if __name__ == "__main__":
    main()
