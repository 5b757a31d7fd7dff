"""ChatGenBench: how good planners are at each step, for each input type, where there were many demonstrations and where few.

Plans are kept in a run that may be cut off. A query that could not be planned is Unscored and counted, and stands in no mean.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy import ndarray
from pydantic import ValidationError

from vernissage.api import Studio
from vernissage.bench.run import Header, Run
from vernissage.datasets.queries import Query, content_hash
from vernissage.errors import BadInput, IntegrityError, UserError, VernissageError
from vernissage.metrics.bert_score import Match, TokenFeatures, match_pairs, rescale, zero_of
from vernissage.metrics.interval import Estimate, mean_interval, ratio_interval
from vernissage.ports import Given, Planner, Progress, TextEncoder
from vernissage.records.parameters import split_sampler
from vernissage.records.picture import Picture
from vernissage.records.plan import Plan
from vernissage.wiring import planner_identity, stated

ARGUMENTS = ("sampler", "steps", "cfg_scale", "width", "height")
"""What ChatGen counts as configuration."""
GROUP = 64
"""Queries planned together; part of the protocol, because batches decide the last digits."""
TOP = 5
Known = Literal["nothing", "prompt", "model"]
"""What planners are told: nothing but the chat; the true prompt; the true prompt and model."""


class Item(NamedTuple):
    """What a planner made of a query."""

    query: Query
    plan: Plan | None
    unscored: str
    """Why there is no plan."""
    seconds: float


class Row(NamedTuple):
    """One line of the table: a planner on a part of the queries."""

    planner: str
    part: str
    scored: int
    asked: int
    prompt: Estimate | None
    """BERTScore F, rescaled; at most 1, higher is better. None without a text encoder."""
    selection: Estimate | None
    """Share of queries with the right model; None where none was planned."""
    among_five: Estimate | None
    """Share with the right model among the five likeliest; None where the planner does not tell likelihoods."""
    arguments: Estimate | None
    """Mean over arguments of exact match; None where no true plan states any."""
    by_argument: dict[str, Estimate]
    seconds: float
    """Of planning, a query, in batches."""


def open_run(folder: Any, studio: Studio, planners: Sequence[str], queries: Sequence[Query], known: Known) -> Run:
    """The run of this benchmark in a folder, new or resumed.

    Raises:
        UserError: The folder holds another run.
    """
    ids = Counter(query.id for query in queries)
    if twice := [name for name, count in ids.items() if count > 1]:
        raise BadInput(
            f"{len(twice)} ids stand for more than one query, among them {twice[0]!r}.", hint="Give every query an id of its own."
        )
    used = {
        "planners": {name: planner_identity(name) for name in planners},
        "known": known,
        "queries": [query.id for query in queries],
        "content": content_hash(queries),
        "models": {model: studio.catalogue.digest(model) for model in studio.catalogue.choosable},
        "studio": {"mllm": stated(studio.config.mllm), "t2i": stated(studio.config.t2i)},
        "group": GROUP,
    }
    return Run(folder, Header.of("chatgen", used, says=("painting/", "judging/")))


def run_benchmark(
    run: Run,
    studio: Studio,
    planners: dict[str, Callable[[], Planner]],
    queries: Sequence[Query],
    *,
    retry: bool = False,
    progress: Progress | None = None,
) -> None:
    """Plan what is not planned yet, group after group; with `retry`, also what ended unscored.

    Args:
        run: See `open_run`.
        studio: Whose catalogue the planners choose from.
        planners: By name, each made when its turn comes.
        queries: All of the benchmark.
        retry: Whether what ended unscored, for example because a server was down, is planned again.
        progress: Called with (done, total) plans.
    """
    done = {key for key, item in run.items.items() if not (retry and "unscored" in item)}
    known: Known = run.header.settings["known"]
    total = len(planners) * len(queries)
    for name, make in planners.items():
        planner: Planner | None = None
        for start in range(0, len(queries), GROUP):
            group = queries[start : start + GROUP]
            if any(f"{name} {query.id}" not in done for query in group):
                planner = planner or make()
                _plan_group(run, studio, name, planner, group, known)
            if progress:
                progress(len(run.items), total)


def _plan_group(run: Run, studio: Studio, name: str, planner: Planner, group: Sequence[Query], known: Known) -> None:
    opened = [_open(query) for query in group]
    usable = [(query, images) for query, images in zip(group, opened, strict=True) if not isinstance(images, VernissageError)]
    given = [
        Given(prompt=query.plan.prompt if known != "nothing" else None, model=query.plan.model if known == "model" else None)
        for query, _ in usable
    ]
    started = time.monotonic()
    plans = planner.plan([query.chat for query, _ in usable], [images for _, images in usable], studio.catalogue, given)
    seconds = (time.monotonic() - started) / max(1, len(usable))
    made: dict[str, Plan | VernissageError] = {
        query.id: images for query, images in zip(group, opened, strict=True) if isinstance(images, VernissageError)
    }
    made |= {query.id: plan for (query, _), plan in zip(usable, plans, strict=True)}
    for query in group:
        plan = made[query.id]
        item: dict[str, Any] = {"key": f"{name} {query.id}", "planner": name, "query": query.id, "seconds": seconds}
        if isinstance(plan, Plan):
            item["plan"] = plan.model_dump(mode="json", exclude_defaults=True)
        else:
            item["unscored"] = str(plan)
        run.add(item)


def _open(query: Query) -> list[Any] | VernissageError:
    try:
        return [Picture.open(image).image for image in query.chat.images]
    except UserError as error:
        return error


def read_items(run: Run, queries: Sequence[Query]) -> dict[str, list[Item]]:
    """The run's items by planner, in the order of the queries."""
    found: dict[str, list[Item]] = {}
    for name in run.header.settings["planners"]:
        found[name] = []
        for query in queries:
            line = run.items.get(f"{name} {query.id}")
            if line is None:
                continue
            try:
                plan = Plan.model_validate(line["plan"]) if "plan" in line else None
                found[name].append(Item(query, plan, line.get("unscored", ""), line["seconds"]))
            except (ValidationError, KeyError) as error:
                raise IntegrityError(f"In items.jsonl the line of {line['key']!r} is damaged.", hint="Delete that line.") from error
    return found


class Prompts:
    """BERTScore of planned prompts against the true ones, rescaled so that unrelated ones have 0.

    Args:
        encoder: Whose features are compared, and its published baseline where it brings one.
        queries: All of the benchmark; without a published baseline, different queries' true prompts are the unrelated ones.
    """

    def __init__(self, encoder: TextEncoder, queries: Sequence[Query]) -> None:
        self._encoder = encoder
        self.published = encoder.baseline is not None
        zero = zero_of(sorted({query.plan.prompt for query in queries}), encoder)
        if zero is None:
            raise BadInput("The prompts of these queries are all the same.", hint="A prompt score needs different ones.")
        self.zero: Match = zero

    def scores(self, items: Sequence[Item]) -> ndarray:
        """F of each item that has a plan, shape (item,), nan for the others."""
        rows = [row for row, item in enumerate(items) if item.plan is not None]
        said = [plan.prompt for row in rows if (plan := items[row].plan)]
        # All in one call, so that equal texts are encoded once.
        features = [TokenFeatures(*each) for each in self._encoder.encode_tokens(said + [items[row].query.plan.prompt for row in rows])]
        matched = match_pairs(features[: len(rows)], features[len(rows) :])
        found = np.full(len(items), np.nan)
        if rows:
            found[rows] = rescale(matched, self.zero)[:, 2]
        return found


def parts_of(items: Sequence[Item]) -> Iterator[tuple[str, list[int]]]:
    """The lines of the table: all, each division, each input type; as the rows that belong to each."""
    yield "all", list(range(len(items)))
    for division in ("supervised", "few-shot"):
        yield division, [row for row, item in enumerate(items) if item.query.division == division]
    for input_type in ("single", "multimodal", "history"):
        yield input_type, [row for row, item in enumerate(items) if item.query.input_type == input_type]


def table(items: dict[str, list[Item]], prompts: Prompts | None) -> list[Row]:
    """The step-wise table; parts that nobody was asked about are left out."""
    rows = []
    for planner, own in items.items():
        scores = prompts.scores(own) if prompts else None
        for part, chosen in parts_of(own):
            if chosen:
                rows.append(_row(planner, part, [own[row] for row in chosen], None if scores is None else scores[chosen]))
    return rows


def _row(planner: str, part: str, items: Sequence[Item], scores: ndarray | None) -> Row:
    planned = [(item.plan, item.query.plan) for item in items if item.plan is not None]
    told = bool(planned) and all(plan.choices for plan, _ in planned)
    matches = [argument_matches(plan, true) for plan, true in planned]
    by_argument = {
        name: _share([match[name] for match in matches if name in match]) for name in ARGUMENTS if any(name in match for match in matches)
    }
    means = [float(np.mean(list(match.values()))) for match in matches if match]
    return Row(
        planner=planner,
        part=part,
        scored=len(planned),
        asked=len(items),
        prompt=None if scores is None else _mean(scores[np.isfinite(scores)].tolist()),
        selection=_share([plan.model == true.model for plan, true in planned]) if planned else None,
        among_five=_share([true.model in [choice.model for choice in plan.choices[:TOP]] for plan, true in planned]) if told else None,
        arguments=_mean(means),
        by_argument=by_argument,
        seconds=float(np.mean([item.seconds for item in items])),
    )


def _share(right: Sequence[bool]) -> Estimate:
    return ratio_interval(np.array(right, dtype=float), np.ones(len(right)))


def _mean(values: Sequence[float]) -> Estimate | None:
    return mean_interval(np.array(values, dtype=float)) if values else None


def argument_matches(plan: Plan, true: Plan) -> dict[str, bool]:
    """Which arguments are exactly the true ones; those that the true plan leaves open are not compared.

    References:
        ChatGen (arXiv 2411.17176), argument accuracy: the mean over arguments of exact match.
    """
    found = {}
    for name in ARGUMENTS:
        wanted, got = getattr(true.arguments, name), getattr(plan.arguments, name)
        if wanted is None:
            continue
        found[name] = got is not None and (split_sampler(got) == split_sampler(wanted) if name == "sampler" else got == wanted)
    return found


class Difference(NamedTuple):
    """Two planners on the queries that both have planned, paired."""

    first: str
    second: str
    measure: str
    difference: Estimate


def differences(items: dict[str, list[Item]], prompts: Prompts | None) -> list[Difference]:
    """First minus second for every pair of planners, on all queries that both have planned."""
    names = list(items)
    found = []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            both = {item.query.id for item in items[first] if item.plan} & {item.query.id for item in items[second] if item.plan}
            if not both:
                continue
            one, two = ([item for item in items[name] if item.query.id in both] for name in (first, second))
            for measure, values in _measures(one, two, prompts):
                if len(values):
                    found.append(Difference(first, second, measure, mean_interval(values)))
    return found


def _measures(one: Sequence[Item], two: Sequence[Item], prompts: Prompts | None) -> Iterable[tuple[str, ndarray]]:
    if prompts:
        yield "prompt", prompts.scores(one) - prompts.scores(two)
    for measure, value in (("selection", _selected), ("arguments", _argument_share)):
        pairs = [(value(a), value(b)) for a, b in zip(one, two, strict=True)]
        yield measure, np.array([a - b for a, b in pairs if a is not None and b is not None])


def _selected(item: Item) -> float:
    return float(item.plan is not None and item.plan.model == item.query.plan.model)


def _argument_share(item: Item) -> float | None:
    matches = argument_matches(item.plan, item.query.plan) if item.plan else {}
    return float(np.mean(list(matches.values()))) if matches else None
