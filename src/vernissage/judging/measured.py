"""How far a judge agrees with people on pictures that it never saw: its predictions as tables, correlations with intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vernissage.datasets.judged import JudgedPicture
from vernissage.metrics.correlation import krcc, numbered, or_none, plcc_interval, srcc_interval
from vernissage.metrics.interval import Estimate, decimals, ratio_interval
from vernissage.records.plan import whole_characters
from vernissage.records.table import write_table


class Measured(NamedTuple):
    """A judge against people in one dimension; what is undefined is None. Intervals are over prompts, whose pictures hang together."""

    dimension: str
    """perception, correspondence, or answers"""
    srcc: Estimate | None
    plcc: Estimate | None
    krcc: float | None
    right: Estimate | None
    """Share of answers that are people's."""
    n: int

    def __str__(self) -> str:
        if self.dimension == "answers":
            return f"answers: right {decimals(self.right)}, n = {self.n}"
        bare = "-" if self.krcc is None else f"{self.krcc:.3f}"
        return f"{self.dimension}: SRCC {decimals(self.srcc)}, PLCC {decimals(self.plcc)}, KRCC {bare}, n = {self.n}"


def measure(said: Sequence[Mapping[Any, float]], rows: Sequence[JudgedPicture]) -> list[Measured]:
    """Predictions against people's opinions of the same pictures, a row a dimension that both speak of.

    Args:
        said: For each picture the score by dimension, and by number of its question the probability of yes; NaN where there is none.
        rows: With opinions.
    """
    groups = numbered(row.prompt or f"\0{index}" for index, row in enumerate(rows))
    found = []
    for dimension in ("perception", "correspondence"):
        mine = np.array([own.get(dimension, np.nan) for own in said], dtype=float)
        theirs = np.array([np.nan if (value := getattr(row, dimension)) is None else value for row in rows])
        both = np.isfinite(mine) & np.isfinite(theirs)
        if both.any():
            pair = mine[both], theirs[both]
            rank, line = (interval(*pair, groups=groups[both]) for interval in (srcc_interval, plcc_interval))
            found.append(Measured(dimension, rank, line, or_none(krcc, *pair), None, int(both.sum())))
    right, asked = np.zeros(int(groups.max(initial=-1)) + 1), np.zeros(int(groups.max(initial=-1)) + 1)
    for own, row, group in zip(said, rows, groups, strict=True):
        for number, answer in enumerate(row.answers.values()):
            if np.isfinite(own.get(number, np.nan)):
                asked[group] += 1
                right[group] += (own[number] > 0.5) == answer
    if asked.any():
        share = ratio_interval(right[asked > 0], asked[asked > 0])
        found.append(Measured("answers", None, None, None, share, int(asked.sum())))
    return found


def write_predictions(
    folder: Path, said: Sequence[Mapping[Any, float]], rows: Sequence[JudgedPicture], *, root: Path, folds: Sequence[int] = ()
) -> list[Path]:
    """A CSV a dimension, a row a picture (or question) with the judge's score and people's; `bench evalmi` reads them.

    Args:
        folder: Where they go: perception.csv, correspondence.csv, answers.csv.
        said: See `measure`.
        rows: The same pictures.
        root: Folder that pictures are named from, where they lie below it.
        folds: The fold that held each picture out.

    Returns:
        The files written.

    Raises:
        BadInput: One cannot be written.
    """
    tables: dict[str, list[dict[str, object]]] = {}
    for index, (own, row) in enumerate(zip(said, rows, strict=True)):
        held = {"fold": folds[index]} if folds else {}
        told = {"image": _name(row, root, index), "model": row.model, "prompt": whole_characters(row.prompt or ""), **held}
        for dimension in ("perception", "correspondence"):
            if dimension in own and getattr(row, dimension) is not None:
                scored = {"score": own[dimension] if np.isfinite(own[dimension]) else None, "people": getattr(row, dimension)}
                tables.setdefault(dimension, []).append(told | scored)
        for number, (question, answer) in enumerate(row.answers.items()):
            if number in own:
                asked = {"question": number + 1, "asked": whole_characters(question)}
                scored = {"score": own[number] if np.isfinite(own[number]) else None, "people": int(answer)}
                tables.setdefault("answers", []).append(told | asked | scored)
    for dimension, table in tables.items():
        write_table(folder / f"{dimension}.csv", table)
    return [folder / f"{dimension}.csv" for dimension in tables]


def _name(row: JudgedPicture, root: Path, index: int) -> str:
    if not isinstance(row.image, Path):
        return str(index)
    return whole_characters(row.image.relative_to(root).as_posix() if row.image.is_relative_to(root) else str(row.image))
