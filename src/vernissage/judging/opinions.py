"""A table of ratings as a whole: of each dimension the opinions of its pictures, who was screened out, and how far people agree."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from vernissage.datasets.judged import JudgedPicture
from vernissage.errors import BadInput
from vernissage.judging.mos import Opinion, Screening, likert, mean_opinions, screen, vote, without
from vernissage.judging.ratings import Panel, Rating, panel_of
from vernissage.judging.spec import DIMENSIONS
from vernissage.metrics.agreement import icc, krippendorff_alpha
from vernissage.metrics.correlation import srcc
from vernissage.records.verdict import Score

_FEW = 10
"""Pictures: of fewer a rank correlation says nothing."""
_SILENCED = "all who rated it were left out"


class OpinionRow(NamedTuple):
    """What people think of one picture in one dimension; what there is not is None, and `why` tells the reason."""

    picture: str
    dimension: str
    mos: float | None = None
    """Mean z-score, 0 to 100; see `mos.mean_opinions`."""
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    """Mean rating in [0, 1], where ratings are from 1 to 5."""
    yes: int | None = None
    """The majority's answer, where ratings are votes."""
    n: int = 0
    """Subjects."""
    why: str = ""


class Opinions(NamedTuple):
    """One dimension."""

    dimension: str
    votes: bool
    """Whether its ratings are 0 and 1 alone: answers to a yes/no question."""
    subjects: int
    rejected: tuple[Screening, ...]
    alpha: float | str
    """Krippendorff's, nominal for votes, interval else; or why there is none."""
    icc: float | str
    """ICC(2,k); or why there is none."""
    rows: tuple[OpinionRow, ...]
    odd: Mapping[str, float] = MappingProxyType({})
    """Subjects who count though chance alone would agree as well with the others' means, by rank correlation."""


def judged_of(found: Sequence[Opinions], folder: Path, prompts: Mapping[str, str | None]) -> list[JudgedPicture]:
    """Opinions as judges learn them, a picture each; those of whom nothing is known are left out.

    Args:
        found: Of every dimension; what is neither perception, correspondence nor votes is not learnt.
        folder: From where the pictures' names go.
        prompts: By the pictures' names.

    Raises:
        BadInput: A score is far outside of 0 to 100, as of hardly any ratings.
    """
    told: dict[str, dict[str, Any]] = {}
    for each in found:
        for row in each.rows:
            if each.votes and row.yes is not None:
                told.setdefault(row.picture, {}).setdefault("answers", {})[each.dimension] = bool(row.yes)
            elif each.dimension in DIMENSIONS and row.mos is not None:
                told.setdefault(row.picture, {})[each.dimension] = row.mos
    try:
        return [JudgedPicture(image=folder / picture, prompt=prompts.get(picture), **values) for picture, values in told.items()]
    except ValidationError as error:
        raise BadInput(f"A score cannot be learnt: {error.errors()[0]['msg']}.", hint="Collect more ratings.") from error


def gather_opinions(ratings: Sequence[Rating], *, screening: bool = True) -> list[Opinions]:
    """Opinions of every dimension of a table of ratings.

    Args:
        ratings: Of any dimensions.
        screening: Whether subjects whom BT.500 rejects are left out; votes are not screened.

    Raises:
        BadInput: A subject rated a picture twice, or screening leaves nobody for any dimension.

    Example:
        >>> said = [Rating(name, picture, "perception", value) for name in "ab" for picture, value in (("x", 2), ("y", 5))]
        >>> [(row.picture, round(row.mos), row.mean) for row in gather_opinions(said)[0].rows]
        [('x', 38, 0.25), ('y', 62, 1.0)]
    """
    found = [_of(panel_of(ratings, name), name, screening) for name in dict.fromkeys(rating.dimension for rating in ratings)]
    if found and all(len(each.rejected) == each.subjects for each in found):
        raise BadInput(f"Every subject was left out: {found[0].rejected[0].reason}.", hint="Check the ratings, or leave out the screening.")
    return found


def _of(panel: Panel, dimension: str, screening: bool) -> Opinions:
    given = panel.values[~np.isnan(panel.values)]
    votes = bool(np.isin(given, (0, 1)).all())
    rejected = tuple(row for row in screen(panel) if not row.kept) if screening and not votes else ()
    if rejected and len(rejected) == len(panel.subjects):
        nobody = f"every subject was left out: {rejected[0].reason}"
        rows = tuple(OpinionRow(picture, dimension, why=nobody) for picture in panel.pictures)
        return Opinions(dimension, votes, len(panel.subjects), rejected, nobody, nobody, rows)
    kept = without(panel, {row.subject for row in rejected})
    rows = _voted(kept, dimension) if votes else _rated(kept, dimension)
    before, after = ((~np.isnan(each.values)).sum(axis=0) for each in (panel, kept))
    rows = tuple(row._replace(why=_SILENCED) if had and not has else row for row, had, has in zip(rows, before, after, strict=True))
    alpha = _or_why(lambda: krippendorff_alpha(kept.values, "nominal" if votes else "interval"))
    odd = {} if votes else _odd(kept)
    return Opinions(dimension, votes, len(panel.subjects), rejected, alpha, _or_why(lambda: icc(kept.values)), rows, odd)


def _odd(panel: Panel) -> dict[str, float]:
    """Subjects whose ratings go no better with the means of the others than chance would; BT.500 does not look for them."""
    found = {}
    for index, subject in enumerate(panel.subjects):
        own, others = panel.values[index], np.delete(panel.values, index, axis=0)
        counts = (~np.isnan(others)).sum(axis=0)
        both = ~np.isnan(own) & (counts > 0)
        if both.sum() < _FEW or np.ptp(own[both]) == 0:
            continue
        means = np.nansum(others, axis=0)[both] / counts[both]
        correlation = srcc(own[both], means)
        if np.isfinite(correlation) and correlation < 1.645 / np.sqrt(both.sum() - 1):
            found[subject] = correlation
    return found


def _rated(panel: Panel, dimension: str) -> tuple[OpinionRow, ...]:
    try:
        scaled = likert(panel.values)
    except BadInput:  # another scale than 1 to 5
        scaled = np.full_like(panel.values, np.nan)
    rows = []
    for (picture, opinion), own in zip(mean_opinions(panel).items(), scaled.T, strict=True):
        mean = None if np.isnan(own).all() else float(np.nanmean(own))
        if isinstance(opinion, Opinion):
            ends = (opinion.low, opinion.high) if opinion.n > 1 else (None, None)  # infinite for one subject
            rows.append(OpinionRow(picture, dimension, opinion.mos, *ends, mean, n=opinion.n))
        else:
            rows.append(OpinionRow(picture, dimension, mean=mean, why=opinion.reason))
    return tuple(rows)


def _voted(panel: Panel, dimension: str) -> tuple[OpinionRow, ...]:
    counts = (~np.isnan(panel.values)).sum(axis=0)
    return tuple(
        OpinionRow(picture, dimension, yes=int(said.value), n=int(n))
        if isinstance(said, Score)
        else OpinionRow(picture, dimension, n=int(n), why=said.reason)
        for (picture, said), n in zip(vote(panel).items(), counts, strict=True)
    )


def _or_why(measure: Callable[[], float]) -> float | str:
    try:
        return measure()
    except BadInput as error:
        return error.message
