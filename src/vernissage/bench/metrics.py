"""Which metric agrees with people, or with exact truth? Every metric's scores against opinions of the same pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vernissage.datasets.judged import JudgedPicture
from vernissage.errors import BadInput
from vernissage.metrics.correlation import krcc, numbered, or_none, plcc_interval, srcc_interval
from vernissage.metrics.interval import Estimate
from vernissage.records.verdict import Score
from vernissage.scoring.layouts import Entry
from vernissage.scoring.registry import METRICS
from vernissage.scoring.score import Scored


class Agreement(NamedTuple):
    """A metric against opinions in one dimension; what is undefined is None. For metrics where lower is better the sign is turned."""

    metric: str
    dimension: str
    srcc: Estimate | None
    plcc: Estimate | None
    krcc: float | None
    n: int
    asked: int


def entries_of(rows: Sequence[JudgedPicture]) -> list[Entry]:
    """Judged pictures as pictures to score.

    Raises:
        BadInput: A picture is no file.
    """
    found = []
    for row in rows:
        if not isinstance(row.image, Path):
            raise BadInput("Pictures to score must be files.", hint="Save them first.")
        found.append(Entry(str(row.image), row.image, row.prompt, row.model))
    return found


def agreements(rows: Sequence[JudgedPicture], scored: Scored, *, seed: int = 0) -> list[Agreement]:
    """Each metric against each dimension that people spoke of, the metrics that agree best first.

    Args:
        rows: With opinions.
        scored: Of the same pictures, in their order.
        seed: Decides the bootstrap over prompts; pictures of one hang together, those without one stand for themselves.
    """
    prompts = numbered(row.prompt or f"\0{index}" for index, row in enumerate(rows))
    found = []
    for dimension in ("perception", "correspondence"):
        opinions = np.array([np.nan if (value := getattr(row, dimension)) is None else value for row in rows])
        if np.isnan(opinions).all():
            continue
        for metric, scores in scored.pictures.items():
            sign = 1 if METRICS[metric].direction == "higher" else -1
            mine = np.array([sign * score.value if isinstance(score, Score) else np.nan for score in scores])
            both = ~np.isnan(mine) & ~np.isnan(opinions)
            pair = mine[both], opinions[both]
            rank, line = (interval(*pair, groups=prompts[both], seed=seed) for interval in (srcc_interval, plcc_interval))
            found.append(Agreement(metric, dimension, rank, line, or_none(krcc, *pair), int(both.sum()), int((~np.isnan(opinions)).sum())))
    return sorted(found, key=lambda row: (row.dimension, -(row.srcc.value if row.srcc else -2)))
