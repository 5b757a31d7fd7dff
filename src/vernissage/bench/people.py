"""How well the scores of a run agree with people: the user study of ImageRepainter, after the ImagenHub template.

Ratings come as CSV with the columns model, reference, rater, consistency, perception, each rating from 1 to 5. Raters' numbers
are scaled to [0, 1] and averaged per picture.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vernissage.bench.repaint import Item, lower_is_better, score_names, score_of
from vernissage.errors import BadInput
from vernissage.metrics.correlation import krcc, numbered, or_none, plcc_interval, srcc_interval
from vernissage.metrics.interval import Estimate
from vernissage.records.table import read_rows
from vernissage.records.verdict import Score

COLUMNS = ("model", "reference", "rater", "consistency", "perception")
Opinions = dict[tuple[str, str], dict[str, float]]


class Agreement(NamedTuple):
    """A score of ours against an opinion of people; a correlation that is undefined is None."""

    score: str
    opinion: str
    srcc: Estimate | None
    """With its interval over references."""
    plcc: Estimate | None
    krcc: float | None
    n: int


def read_ratings(path: Path) -> Opinions:
    """Mean opinion in [0, 1] by (model, reference) and dimension.

    Raises:
        BadInput: The file cannot be read, lacks a column, holds a rating that is not from 1 to 5, or two of a rater for one picture.
    """
    rows = read_rows(path, "ratings", COLUMNS)
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    seen: set[tuple[str, str, str]] = set()
    for number, row in rows:
        if (rated := (row["model"], row["reference"], row["rater"])) in seen:
            raise BadInput(
                f"{path}, line {number}: {row['rater']!r} rates {row['reference']!r} by {row['model']!r} once more.", hint="Keep one line."
            )
        seen.add(rated)
        for dimension in COLUMNS[3:]:
            try:
                rating = float(row[dimension])
            except (TypeError, ValueError):
                rating = float("nan")
            if not 1 <= rating <= 5:
                raise BadInput(
                    f"{path}, line {number}: {dimension} is {row[dimension]!r}, not from 1 to 5.", hint="Mend or delete that line."
                )
            found.setdefault((row["model"], row["reference"]), {}).setdefault(dimension, []).append((rating - 1) / 4)
    return {key: {name: float(np.mean(values)) for name, values in opinions.items()} for key, opinions in found.items()}


def agreement(items: Sequence[Item], opinions: Opinions, which: str = "last") -> list[Agreement]:
    """Correlation of every score with both opinions, over the pictures that have both; positive where the better score is people's."""
    rows = []
    for name in score_names(items):
        for dimension in COLUMNS[3:]:
            pairs = [
                (-score.value if lower_is_better(name) else score.value, opinions[item.model, item.reference][dimension], item.reference)
                for item in items
                if (item.model, item.reference) in opinions and isinstance(score := score_of(item, name, which), Score)
            ]
            ours, theirs = np.array([a for a, *_ in pairs]), np.array([b for _, b, _ in pairs])
            groups = numbered(reference for *_, reference in pairs)
            ranks, line = srcc_interval(ours, theirs, groups=groups), plcc_interval(ours, theirs, groups=groups)
            rows.append(Agreement(name, dimension, ranks, line, or_none(krcc, ours, theirs), len(pairs)))
    return rows
