"""Does repainting rank models as the truth does, does it get better round by round, and what is the tree worth?

Command:   .venv/bin/python benchmarks/mini_repaint.py [--references 100] [--out build/mini-repaint] [--record]
Protocol:  drawn pictures of held-out scenes (seed 314) as references, all mini T2I models, 4 rounds of 3 pictures. The truth of
           a model is what the checker finds right in pictures of the references' own exact prompts; the truth of its repaintings,
           what he finds right in the pictures of the last round. Models are ranked by each score (last round and best round), by
           the mini judge, who compares the last round's picture with the reference's first words, by the facts of the reference's
           tree, asked of the judge about the last round's picture, and by the MLLM's direct rating of text and picture; SRCC
           against either truth over the models. Split halves: SRCC of the truth on every second reference against the truth on
           the others, the highest that a score on so few pictures could be expected to reach. Rise:
           picture chosen in the last round, or over all rounds, minus that of round 1, paired; for mini/general also where pictures
           are chosen by CLIP, DINOv2 and the judge's answers about the tree's facts, one weight each. No change: the share of
           feedbacks that ask for nothing; the best picture then stays among the round's candidates, so that what it is chosen by
           cannot fall, and the facts right tell whether more than that is gained. Tree against direct: the same references and
           one model with prompts by either way, paired. Resumable: start it again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from record import append_result

from vernissage.api import Studio
from vernissage.bench.references import find_references
from vernissage.bench.repaint import final, leaderboard, open_run, read_items, rise, run_benchmark, score_names, score_of
from vernissage.metrics.correlation import or_none, srcc
from vernissage.metrics.interval import Estimate, mean_interval, ratio_interval
from vernissage.records.picture import Picture
from vernissage.records.plan import Arguments, Plan
from vernissage.records.verdict import Score
from vernissage.repainting.facts import facts_to_ask, share_of_facts
from vernissage.repainting.loop import Settings
from vernissage.repainting.revise import is_no_change
from vernissage.repainting.select import Attempt, rating_question, read_rating
from vernissage.world import tell
from vernissage.world.draw import draw
from vernissage.world.facts import check_facts, facts_of
from vernissage.world.nn.recogniser import load_recogniser, read_pictures
from vernissage.world.scene import Scene, sample_scene
from vernissage.zoo.catalogue import package_folder


def facts_right(recogniser, scenes: list[Scene], images: list) -> tuple[np.ndarray, np.ndarray]:
    checks = [check_facts(facts_of(scene), seen) for scene, seen in zip(scenes, read_pictures(recogniser, images), strict=True)]
    return np.array([sum(c.right for c in each) for each in checks]), np.array([len(each) for each in checks])


def _estimates(values: dict) -> dict[str, Estimate]:
    return {model: Estimate(*value) for model, value in values.items()}


def last_minus_first(items, name: str) -> Estimate:
    """The score of the picture chosen in the last round minus that of round 1's, paired."""
    apart = []
    for item in items:
        rounds = item.regeneration.rounds if item.regeneration else ()
        if not rounds or rounds[0].best is None or rounds[-1].best is None:
            continue
        first, last = (each.candidates[each.best].scores.get(name) for each in (rounds[0], rounds[-1]))
        if isinstance(first, Score) and isinstance(last, Score):
            apart.append(last.value - first.value)
    return mean_interval(np.array(apart))


def judge_last(studio: Studio, run, items) -> dict[str, dict[str, Estimate]]:
    """What the judge says of each model's last pictures: how well they show the reference in words, how good they look, its facts."""
    found: dict[str, dict[str, Estimate]] = {}

    def keep(name: str, model: str, scores: list) -> None:
        found.setdefault(name, {})[model] = mean_interval(np.array([score.value for score in scores if isinstance(score, Score)]))

    for model in dict.fromkeys(item.model for item in items):
        done = [item.regeneration for item in items if item.model == model and item.regeneration]
        images = [run.picture(final(each, "last").picture) for each in done]
        facts = [facts_to_ask(each.tree) if each.tree else () for each in done]
        verdicts = studio.critic.judge(images, [each.prompt for each in done], facts)
        keep("judge, correspondence", model, [v.correspondence for v in verdicts])
        keep("judge, perception", model, [v.perception for v in verdicts])
        keep("judge, facts", model, [share_of_facts(v.answers) for v in verdicts])
    return found


def facts_of_rounds(recogniser, run, items, scene_of: dict[str, Scene]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(facts right, facts asked) of the pictures chosen in the first round, over all rounds, and in the last one."""
    done = [(scene_of[item.reference], item.regeneration) for item in items if item.regeneration]
    chosen = {
        "first": [final(each.model_copy(update={"rounds": each.rounds[:1]}), "last") for _, each in done],
        "best": [final(each, "best") for _, each in done],
        "last": [final(each, "last") for _, each in done],
    }
    scenes = [scene for scene, _ in done]
    return {name: facts_right(recogniser, scenes, [run.picture(each.picture) for each in those]) for name, those in chosen.items()}


def rises_of(recogniser, run, items, scene_of: dict[str, Scene]) -> dict[str, Estimate]:
    """What the rounds after the first are worth, by score and by facts right."""
    rises = {f"{name}, all rounds": rise(items, name) for name in score_names(items)}
    rises |= {f"{name}, last round": last_minus_first(items, name) for name in score_names(items)}
    share = {name: right / asked for name, (right, asked) in facts_of_rounds(recogniser, run, items, scene_of).items()}
    rises["facts right, best round"] = mean_interval(share["best"] - share["first"])
    rises["facts right, last round"] = mean_interval(share["last"] - share["first"])
    return rises


def share_of_no_change(items) -> float:
    """Of the feedbacks of later rounds."""
    said = [is_no_change(each.feedback) for item in items if item.regeneration for each in item.regeneration.rounds[1:]]
    return float(np.mean(said))


def say(done: int, total: int) -> None:
    if done % 40 == 0 or done == total:
        print(f"  {done}/{total}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("build/mini-repaint"))
    parser.add_argument("--record", action="store_true", help="append the figures to results/")
    arguments = parser.parse_args()
    studio, recogniser = Studio(), load_recogniser(package_folder("mini") / "recogniser")
    models = list(studio.catalogue)
    rng = np.random.default_rng(314)
    scenes = [sample_scene(rng, split="held-out") for _ in range(arguments.references)]
    data = arguments.out / f"references-{arguments.references}"
    for index, scene in enumerate(scenes):
        Picture.of(draw(scene, seed=index).image).save(data / f"{'single' if len(scene.groups) == 1 else 'pair'}_{index}.png")
    references = find_references(data)
    scene_of = {reference.name: scenes[int(reference.name.split("_")[1])] for reference in references}
    runs = {}
    with_facts = Settings(weights={"clip": 1.0, "dinov2": 1.0, "facts": 1.0}, rater="judge")
    for name, settings, chosen in (
        ("tree", Settings(), models),
        ("direct", Settings(words="direct"), ["mini/general"]),
        ("facts", with_facts, ["mini/general"]),
    ):
        run = open_run(arguments.out / f"{name}-{arguments.references}", studio, chosen, references, settings)
        print(name, flush=True)
        run_benchmark(run, studio, references, settings, progress=say)
        runs[name] = (run, read_items(run.header, run.items))
    run, items = runs["tree"]
    kept = arguments.out / f"truth-{arguments.references}.json"
    truth, direct = ({}, {}) if not kept.exists() else map(_estimates, json.loads(kept.read_text(encoding="utf-8"))[:2])
    halves = json.loads(kept.read_text(encoding="utf-8"))[2] if kept.exists() else {}
    for model in models if not truth else ():
        plans = [Plan(prompt=tell.prompt(scene), model=model, arguments=Arguments(seed=i)) for i, scene in enumerate(scenes)]
        images = [picture.image for picture in studio.t2i.paint(plans) if isinstance(picture, Picture)]
        right, wanted = facts_right(recogniser, scenes, images)
        truth[model] = ratio_interval(right, wanted)
        halves[model] = [float(right[half::2].sum() / wanted[half::2].sum()) for half in (0, 1)]
        asks = [
            rating_question("match", image, Attempt(image, plan.prompt), brief=studio.mllm.brief)
            for image, plan in zip(images, plans, strict=True)
        ]
        rated = [read_rating(reply) for reply in studio.mllm.answer(asks)]
        direct[model] = mean_interval(np.array([score.value for score in rated if isinstance(score, Score)]))
        print(f"{model:<18} truth {truth[model]}  direct rating {direct[model]}", flush=True)
    kept.write_text(json.dumps([truth, direct, halves]), encoding="utf-8")
    repainted = {}
    for model in models:
        own = [(scene_of[item.reference], item.regeneration) for item in items if item.model == model and item.regeneration]
        images = [run.picture(final(each, "last").picture) for _, each in own]
        repainted[model] = ratio_interval(*facts_right(recogniser, [scene for scene, _ in own], images))
    boards = {which: leaderboard(items, which) for which in ("last", "best")}
    judged = judge_last(studio, run, items)
    means = {"direct rating": {model: direct[model].value for model in models}}
    for which, board in boards.items():
        for name in score_names(items):
            means[f"{name}, {which} round"] = {model: board[model][name].estimate.value for model in models}
        means[f"clip and dinov2, {which} round"] = {
            model: (board[model]["clip"].estimate.value + board[model]["dinov2"].estimate.value) / 2 for model in models
        }
    for name, by_model in judged.items():
        means[f"{name}, last round"] = {model: estimate.value for model, estimate in by_model.items()}
        print(f"{name}: " + ", ".join(f"{model} {estimate.value:.3f}" for model, estimate in by_model.items()))
    print("truth: " + ", ".join(f"{model} {truth[model].value:.3f}" for model in models))
    print("truth of the repaintings: " + ", ".join(f"{model} {repainted[model].value:.3f}" for model in models))

    def rank(values: dict[str, float], against: dict[str, float]) -> float | None:
        return or_none(srcc, np.array([values[model] for model in models]), np.array([against[model] for model in models]))

    truths = {"models": {m: truth[m].value for m in models}, "repaintings": {m: repainted[m].value for m in models}}
    ranking = {of: {name: rank(values, against) for name, values in means.items()} for of, against in truths.items()}
    ranking["split halves"] = rank({m: halves[m][0] for m in models}, {m: halves[m][1] for m in models})
    print(f"SRCC of the truths of split halves: {ranking['split halves']:.3f}; of the two truths: {rank(*truths.values()):.3f}")
    for name in means:
        of_models, of_paintings = (ranking[of][name] for of in truths)
        told = [f"{value:.3f}" if value is not None else "undefined, all equal" for value in (of_models, of_paintings)]
        print(f"SRCC with the truth over {len(models)} models: {name:<34} {told[0]}, of the repaintings {told[1]}")
    rises = rises_of(recogniser, run, items, scene_of)
    by_facts = rises_of(recogniser, *runs["facts"], scene_of)
    no_change = share_of_no_change(items)
    print(f"feedbacks that ask for no change: {no_change:.3f}")
    for told, those in (("", rises), (", chosen by facts too", by_facts)):
        for name, estimate in those.items():
            print(f"rise from round 1{told}: {name:<28} {estimate}")
    general = {item.reference: item for item in items if item.model == "mini/general"}
    gains = {}
    for name in score_names(items):
        pairs = [(score_of(general[item.reference], name, "last"), score_of(item, name, "last")) for item in runs["direct"][1]]
        values = [a.value - b.value for a, b in pairs if isinstance(a, Score) and isinstance(b, Score)]
        gains[name] = mean_interval(np.array(values))
        print(f"tree minus direct, mini/general: {name:<14} {gains[name]}")
    if arguments.record:
        figures = {
            "truth": truth,
            "truth_of_repaintings": repainted,
            "split_halves": halves,
            "direct_rating": direct,
            "judged": judged,
            "boards": {w: {m: {n: c.estimate for n, c in cells.items()} for m, cells in board.items()} for w, board in boards.items()},
            "ranking": ranking,
            "rises": rises,
            "rises_chosen_by_facts": by_facts,
            "no_change": no_change,
            "tree_minus_direct": gains,
        }
        append_result("mini_repaint", figures, references=arguments.references)


if __name__ == "__main__":
    main()
