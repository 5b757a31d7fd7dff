"""ChatGenBench, the last step: plans painted and compared with pictures that people would have made of the same chats.

Pictures are painted once and kept below the run; each planner's plan and the true plan of a query share a seed.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vernissage.api import Studio
from vernissage.bench.chatgen import Item
from vernissage.bench.duels import Duel, judged_duels
from vernissage.bench.run import Run, is_whole
from vernissage.errors import BadInput
from vernissage.metrics.interval import Estimate, mean_interval
from vernissage.metrics.unified import check_norms
from vernissage.ports import Progress
from vernissage.records.picture import Picture
from vernissage.records.plan import Plan
from vernissage.records.verdict import Score
from vernissage.scoring.layouts import Entry

TRUE = "people"
"""The name under which the true plans are painted."""
BATCH = 8


class Drawn(NamedTuple):
    """A planner's pictures, scored."""

    planner: str
    scores: dict[str, Estimate | None]
    """By metric, on its own scale; metrics of sets have no interval of their own and stand as (value, value, value)."""
    unified: float | None
    """Of the metrics, in [0, 1]; None where one of them is missing."""
    painted: int
    asked: int


class Painted(NamedTuple):
    """Pictures of the same queries by planner, the true plans' under `TRUE`."""

    entries: dict[str, list[Entry]]
    failures: dict[str, list[str]]
    """Why a plan was not painted, by planner."""


def paint_items(run: Run, studio: Studio, items: dict[str, list[Item]], count: int, *, progress: Progress | None = None) -> Painted:
    """Pictures of the first `count` queries that every planner has planned and whose true model is there, painted where they are not yet.

    Raises:
        BadInput: There is no such query, or a planner has the true plans' name.
    """
    if TRUE in items:
        raise BadInput(f"Under the name {TRUE!r} the true plans are painted.", hint="Give the planner's folder another name.")
    planned = [{item.query.id for item in own if item.plan is not None} for own in items.values()]
    shared = set.intersection(*planned) if planned else set()
    first = next(iter(items.values()), [])
    queries = [item.query for item in first if item.query.id in shared]
    if not queries:
        raise BadInput("No query was planned by every planner.", hint="Look at why they are unscored.")
    queries = [query for query in queries if query.plan.model in studio.all_models][:count]
    if not queries:
        raise BadInput("Of no query there is the model that people would have taken.", hint="Add cards of them: vernissage zoo add.")
    # By the place in the whole benchmark: which queries are planned may change when planning is tried again.
    chosen = {query.id for query in queries}
    seeds = {item.query.id: number for number, item in enumerate(first) if item.query.id in chosen}
    plans = {name: {item.query.id: item.plan for item in own if item.query.id in seeds} for name, own in items.items()}
    plans[TRUE] = {query.id: _complete(query.plan, studio) for query in queries}
    entries: dict[str, list[Entry]] = {}
    failures: dict[str, list[str]] = {}
    done, total = 0, len(plans) * len(queries)
    for name, own in plans.items():
        folder = run.folder / "painted" / _folder_of(name)
        paths = {query.id: folder / f"{seeds[query.id]:05d}.png" for query in queries}
        missing = [query.id for query in queries if not is_whole(paths[query.id])]
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            seeded = [_seeded(own[each], seeds[each]) for each in part]
            for each, picture in zip(part, studio.t2i.paint(seeded), strict=True):
                if isinstance(picture, Picture):
                    picture.save(paths[each])
                else:
                    failures.setdefault(name, []).append(str(picture))
            if progress:
                progress(done + len(queries) - len(missing) + start + len(part), total)
        done += len(queries)
        entries[name] = [Entry(query.id, paths[query.id], query.plan.prompt) for query in queries if is_whole(paths[query.id])]
    return Painted(entries, failures)


def _folder_of(planner: str) -> str:
    """A folder of its own for each planner, whatever paths their names are."""
    told = hashlib.sha256(planner.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{planner.replace('/', '-').strip('.-')}-{told}" if "/" in planner or planner.startswith(".") else planner


def _complete(plan: Plan, studio: Studio) -> Plan:
    card = studio.all_models[plan.model]
    return plan.model_copy(update={"arguments": card.complete(plan.arguments)})


def _seeded(plan: Plan | None, seed: int) -> Plan:
    if plan is None:
        raise BadInput("A query without a plan cannot be painted.", hint="Run the benchmark to its end first.")
    return plan.model_copy(update={"arguments": plan.arguments.model_copy(update={"seed": seed}), "choices": ()})


def score_pictures(
    run: Run, studio: Studio, entries: dict[str, list[Entry]], metrics: Sequence[str], *, asked: int, progress: Progress | None = None
) -> tuple[list[Drawn], list[Duel]]:
    """Score each planner's pictures, by the true prompts and against the true plans' pictures, and let planners' pictures meet.

    Raises:
        BadInput: A metric has no norm, so that Unified could not be told.
    """
    check_norms(metrics)
    reference = entries[TRUE]  # of this call's queries; an earlier one may have painted more
    drawn, by_planner = [], {}
    for name, own in entries.items():
        if name == TRUE:
            continue
        scored = studio.score(own, [*metrics, "unified"], reference=reference, cache=run.folder / "cache", progress=progress)
        by_planner[name] = {
            metric: dict(zip([entry.name for entry in own], values, strict=True)) for metric, values in scored.pictures.items()
        }
        found: dict[str, Estimate | None] = {}
        for metric in metrics:
            if metric in scored.sets:
                value = scored.sets[metric]
                found[metric] = Estimate(value.value, value.value, value.value, 1) if isinstance(value, Score) else None
            else:
                values = [value.value for value in scored.pictures[metric] if isinstance(value, Score)]
                found[metric] = mean_interval(np.array(values)) if values else None
        drawn.append(Drawn(name, found, getattr(scored.sets["unified"], "value", None), len(own), asked))
    return drawn, judged_duels(by_planner)
