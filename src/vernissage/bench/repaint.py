"""The repainting benchmark: every model repaints every reference; tables with intervals, and paired tests between models.

References are worked on in groups of fixed members, so that what is batched together, and with it every number, does not
depend on where a run was cut off. Several groups are under way at once: while one waits for the MLLM, another is painted.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from vernissage.api import Studio
from vernissage.bench.references import Reference
from vernissage.bench.run import Header, Run
from vernissage.errors import IntegrityError, UserError, VernissageError
from vernissage.metrics.interval import Estimate, mean_interval, sign_flip_test
from vernissage.ports import Progress
from vernissage.processes import Pool
from vernissage.records.picture import Picture, is_picture
from vernissage.records.regeneration import Candidate, Regeneration
from vernissage.records.verdict import Score, Unscored, is_passing
from vernissage.repainting.loop import Repainted, Settings
from vernissage.scoring.registry import METRICS
from vernissage.wiring import stated

GROUP = 8
"""References worked on together; part of the protocol, because batches decide the last digits."""
SCORES = ("clip", "dinov2", "consistency", "perception", "match", "facts", "ssim")
UNDER_WAY = 2
"""Groups at once where the MLLM is elsewhere: one paints while the other waits for answers. Two on one machine would only
stand in each other's way."""


class Item(NamedTuple):
    """One model's attempt at one reference, as read back from a run."""

    model: str
    reference: str
    kind: str
    regeneration: Regeneration | None
    unscored: str
    """Why there is no regeneration."""


def open_run(folder: Path, studio: Studio, models: Sequence[str], references: Sequence[Reference], settings: Settings) -> Run:
    """The run of this benchmark in a folder, new or resumed.

    Raises:
        UserError: A model is unknown, or the folder holds another run.
    """
    for model in models:
        studio.all_models[model]
    config = studio.config
    used: dict[str, Any] = {
        "models": list(models),
        "cards": {model: studio.all_models.digest(model) for model in models},
        "references": {reference.name: reference.content() for reference in references},
        "repaint": studio.check_repainting(settings).model_dump(),
        "studio": {name: stated(driver) for name in ("mllm", "t2i", "clip", "dinov2") if (driver := getattr(config, name)) is not None},
        "group": GROUP,
    }
    if studio.comparers:
        used["comparers"] = {name: stated(config.scorers[name]) for name in studio.comparers}
    if settings.rater == "judge":
        used["judge"] = stated(config.trained_judge) if config.trained_judge else "zero-shot"
    return Run(folder, Header.of("repaint", used, says=("repainting/", "judging/")))


def run_benchmark(
    run: Run, studio: Studio, references: Sequence[Reference], settings: Settings, *, retry: bool = False, progress: Progress | None = None
) -> None:
    """Do what is not done yet, and again what lost a picture; with `retry`, also what ended unscored or lacks something."""
    for item in read_items(run.header, run.items):
        if item.regeneration and (not _is_whole(run, item.regeneration) or (retry and _lacks(item.regeneration))):
            run.reopened.add(_key_of(item.model, item.reference))
    models: list[str] = run.header.settings["models"]
    groups = [(model, list(references[start : start + GROUP])) for model in models for start in range(0, len(references), GROUP)]
    done = {key for key, item in run.items.items() if key not in run.reopened and not (retry and "unscored" in item)}
    readable = {reference.name for reference in references if not retry or is_picture(reference.path)}  # else others would be done for it
    left = [(model, group) for model, group in groups if any(_key(model, each) not in done for each in group if each.name in readable)]
    total = len(models) * len(references)
    report = progress or (lambda _done, _total: None)
    report(len(run.items), total)
    _ports = studio.mllm, studio.t2i, studio.encoders  # loaded here, once, before several threads want them
    waiting = iter(left)
    at_once = 1 if studio.config.mllm.driver == "transformers" else UNDER_WAY
    with Pool(at_once) as pool:
        under_way: dict[Future[list[_Result]], tuple[str, list[Reference]]] = {}
        while True:
            for model, group in islice(waiting, at_once - len(under_way)):
                under_way[pool.submit(_repaint_group, studio, model, group, settings)] = (model, group)
            if not under_way:
                break
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                model, group = under_way.pop(future)
                for reference, result in zip(group, future.result(), strict=True):
                    _keep(run, model, reference, result)
                report(len(run.items), total)
    run.sweep(picture for item in read_items(run.header, run.items) if item.regeneration for picture in _pictures(item.regeneration))


class _Result(NamedTuple):
    """What became of a reference, with the reference itself."""

    reference: Picture | None
    repainted: Repainted | VernissageError


def _repaint_group(studio: Studio, model: str, group: Sequence[Reference], settings: Settings) -> list[_Result]:
    """A group's results; a reference that cannot be read fails alone."""
    results: dict[int, _Result] = {}
    images: dict[int, Picture] = {}
    for index, reference in enumerate(group):
        try:
            images[index] = Picture.open(reference.path)
        except UserError as error:
            results[index] = _Result(None, error)
    repainted = studio.repaint_several(list(images.values()), model=model, settings=settings)
    results |= {index: _Result(image, result) for (index, image), result in zip(images.items(), repainted, strict=True)}
    return [results[index] for index in range(len(group))]


def _keep(run: Run, model: str, reference: Reference, result: _Result) -> None:
    item: dict[str, Any] = {"key": _key(model, reference), "model": model, "reference": reference.name, "kind": reference.kind}
    if result.reference is None or isinstance(result.repainted, VernissageError):
        run.add({**item, "unscored": f"{type(result.repainted).__name__}: {result.repainted}"})
        return
    regeneration, pictures = result.repainted
    if (old := _kept(run, item["key"])) and _is_whole(run, old) and _lacks(old) <= _lacks(regeneration):
        run.reopened.discard(item["key"])  # no better than what is there
        return
    run.add({**item, "regeneration": regeneration.model_dump(mode="json")}, [Picture.of(result.reference.image), *pictures.values()])


def _kept(run: Run, key: str) -> Regeneration | None:
    found = run.items.get(key, {}).get("regeneration")
    return None if found is None else Regeneration.model_validate(found)


def _is_whole(run: Run, regeneration: Regeneration) -> bool:
    """Whether all its pictures are there."""
    return all(map(run.has_picture, _pictures(regeneration)))


def _lacks(regeneration: Regeneration) -> int:
    """How much could not be had, and may be had by another try."""
    winners = [each.candidates[each.best] for each in regeneration.rounds if each.best is not None]
    return len(regeneration.failures) + sum(is_passing(score) for winner in winners for score in winner.scores.values())


def _key(model: str, reference: Reference) -> str:
    return _key_of(model, reference.name)


def _key_of(model: str, reference: str) -> str:
    return f"{model} {reference}"


def _pictures(regeneration: Regeneration) -> list[str]:
    tried = [candidate.picture for each in regeneration.rounds for candidate in each.candidates if candidate.picture]
    return [regeneration.reference, *tried]


def read_items(header: Header, lines: Mapping[str, Mapping[str, Any]]) -> list[Item]:
    """Everything finished, in the order models and references were given.

    Args:
        header: Of the run.
        lines: Its finished items by key.
    """
    items = []
    for model in header.settings["models"]:
        for name in header.settings["references"]:
            found = lines.get(_key_of(model, name))
            if found is None:
                continue
            try:
                regeneration = Regeneration.model_validate(found["regeneration"]) if "regeneration" in found else None
                items.append(Item(model, name, found["kind"], regeneration, found.get("unscored", "")))
            except (ValidationError, KeyError) as error:
                raise IntegrityError(f"In items.jsonl the line of {found['key']!r} is damaged.", hint="Delete that line.") from error
    return items


def final(regeneration: Regeneration | None, which: str) -> Candidate | None:
    """The candidate a table speaks of: "last" as in the paper, or "best" over all rounds."""
    return None if regeneration is None else regeneration.last if which == "last" else regeneration.best


def score_of(item: Item, name: str, which: str) -> Score | Unscored:
    """One score of an item, or why there is none."""
    candidate = final(item.regeneration, which)
    if candidate is None:
        return Unscored(reason=item.unscored or "nothing was painted in the last round")
    return candidate.scores.get(name, Unscored(reason=f"there is no {name} of this picture"))


class Cell(NamedTuple):
    """A mean with its interval, and how many of how many items were scored; no estimate where none was."""

    estimate: Estimate | None
    asked: int

    def __str__(self) -> str:
        """As a percentage with interval and count."""
        return f"{self.estimate}  {self.estimate.n}/{self.asked}" if self.estimate else f"-  0/{self.asked}"


def cell(scores: Sequence[Score | Unscored]) -> Cell:
    """The mean of those scored."""
    values = [score.value for score in scores if isinstance(score, Score)]
    return Cell(mean_interval(np.array(values)) if values else None, len(scores))


def leaderboard(
    items: Sequence[Item], which: str, *, kind: str | None = None, names: Sequence[str] | None = None
) -> dict[str, dict[str, Cell]]:
    """By model and score: mean, interval, counts; of one kind of reference, or of all; of some scores, or of all."""
    chosen = [item for item in items if kind is None or item.kind == kind]
    models = list(dict.fromkeys(item.model for item in chosen))
    names = score_names(items) if names is None else names
    return {
        model: {name: cell([score_of(item, name, which) for item in chosen if item.model == model]) for name in names} for model in models
    }


def score_names(items: Sequence[Item]) -> list[str]:
    """The scores that occur, the usual ones first."""
    found = {name for item in items if item.regeneration for each in item.regeneration.rounds for c in each.candidates for name in c.scores}
    return [name for name in SCORES if name in found] + sorted(found - set(SCORES))


def heading(name: str) -> str:
    """A score's name for tables; an arrow stands where lower is better.

    Example:
        >>> heading("clip"), heading("lpips")
        ('clip', 'lpips \N{DOWNWARDS ARROW}')
    """
    return f"{name} \N{DOWNWARDS ARROW}" if lower_is_better(name) else name


def lower_is_better(name: str) -> bool:
    """Whether a lower score is the better one, as of a distance."""
    return name in METRICS and METRICS[name].direction == "lower"


class Comparison(NamedTuple):
    """One model against another, on the references that both were scored on."""

    first: str
    second: str
    score: str
    difference: Estimate
    p_value: float


def compare_models(items: Sequence[Item], which: str) -> list[Comparison]:
    """Every pair of models on every score: mean paired difference, its interval, and a sign-flip test."""
    models = list(dict.fromkeys(item.model for item in items))
    rows = {(item.model, item.reference): item for item in items}
    compared = []
    for name in score_names(items):
        for index, first in enumerate(models):
            for second in models[index + 1 :]:
                pairs = [
                    (rows[first, reference], rows[second, reference])
                    for model, reference in rows
                    if model == first and (second, reference) in rows
                ]
                compared.append(_compare(first, second, name, pairs, which))
    return [each for each in compared if each is not None]


def _compare(first: str, second: str, name: str, pairs: Sequence[tuple[Item, Item]], which: str) -> Comparison | None:
    """One comparison over pairs of items; None where no pair is scored on both sides."""
    scores = [(score_of(one, name, which), score_of(two, name, which)) for one, two in pairs]
    differences = np.array([a.value - b.value for a, b in scores if isinstance(a, Score) and isinstance(b, Score)])
    return Comparison(first, second, name, mean_interval(differences), sign_flip_test(differences)) if len(differences) else None


def by_round(items: Sequence[Item], name: str) -> list[Cell]:
    """A score of the best picture so far after each round, over all items: what the rounds are worth."""
    length = max((len(item.regeneration.rounds) for item in items if item.regeneration), default=0)
    return [cell([_so_far(item, name, number) for item in items]) for number in range(1, length + 1)]


def rise(items: Sequence[Item], name: str) -> Estimate | None:
    """The paired difference between the best picture of all rounds and the first round's, for one score."""
    pairs = [(_so_far(item, name, 1), _so_far(item, name, 10**6)) for item in items if item.regeneration]
    differences = [after.value - before.value for before, after in pairs if isinstance(before, Score) and isinstance(after, Score)]
    return mean_interval(np.array(differences)) if differences else None


def _so_far(item: Item, name: str, number: int) -> Score | Unscored:
    if item.regeneration is None:
        return Unscored(reason=item.unscored)
    best = item.regeneration.model_copy(update={"rounds": item.regeneration.rounds[:number]}).best
    return (
        Unscored(reason="nothing was painted")
        if best is None
        else best.scores.get(name, Unscored(reason=f"there is no {name} of this picture"))
    )


def exchanged(first: Sequence[Item], second: Sequence[Item]) -> set[str]:
    """References of two runs that are different pictures of the same name."""
    theirs = {item.reference: item.regeneration.reference for item in second if item.regeneration}
    return {
        item.reference
        for item in first
        if item.regeneration and item.regeneration.reference != theirs.get(item.reference, item.regeneration.reference)
    }


def compare_runs(first: Sequence[Item], second: Sequence[Item], which: str) -> list[Comparison]:
    """One run against another on the same models and references: what a setting is worth.

    For example tree against direct, three pictures a round against one. References that only share a name are left out.
    """
    others, other_pictures = {(item.model, item.reference): item for item in second}, exchanged(first, second)
    compared = []
    for model in dict.fromkeys(item.model for item in first):
        own = [item for item in first if item.model == model and item.reference not in other_pictures]
        pairs = [(item, others[model, item.reference]) for item in own if (model, item.reference) in others]
        for name in score_names([*first, *second]):
            compared.append(_compare(model, model, name, pairs, which))
    return [each for each in compared if each is not None]
