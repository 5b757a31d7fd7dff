"""From ratings to mean opinion scores (MOS), with screening of subjects and votes on yes/no questions.

A subject whose ratings have no spread says nothing about pictures, and a z-score of one is undefined: such a subject is
left out and told, never given a number.
"""

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from vernissage.errors import BadInput
from vernissage.judging.ratings import Panel
from vernissage.records.verdict import Score, Unscored


class Opinion(NamedTuple):
    """The opinion of one picture."""

    picture: str
    mos: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    n: int
    """Subjects."""


class Screening(NamedTuple):
    """Whether a subject is kept, and why not."""

    subject: str
    kept: bool
    reason: str


def z_scores(values: ndarray) -> ndarray:
    """Ratings of each subject relative to that subject's own mean and spread, rescaled so that most lie in 0 to 100.

    Args:
        values: Shape (subject, picture), NaN where unrated.

    Returns:
        Same shape, NaN where unrated and for subjects with fewer than two ratings or none of them different.

    References:
        LMM4LMM (arXiv 2504.08358), section on MOS: z = (r - mean) / sigma with n - 1, then 100 (z + 3) / 6.

    Example:
        >>> z_scores(np.array([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]]))
        array([[33.33333333, 50.        , 66.66666667],
               [        nan,         nan,         nan]])
    """
    counts = (~np.isnan(values)).sum(axis=1, keepdims=True)
    means = np.nansum(values, axis=1, keepdims=True) / np.maximum(counts, 1)
    spread = np.sqrt(np.nansum((values - means) ** 2, axis=1, keepdims=True) / np.maximum(counts - 1, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where((counts > 1) & (spread > 1e-12), (values - means) / spread, np.nan)
    return 100 * (z + 3) / 6


def mean_opinions(panel: Panel) -> dict[str, Opinion | Unscored]:
    """The MOS of every picture with its 95 % interval, mean of z-scores over subjects.

    Returns:
        By picture, on the scale of `z_scores`; Unscored where no usable subject rated it. The interval is that of Student's t; with
        a single subject it is infinite.
    """
    scores = z_scores(panel.values)
    opinions: dict[str, Opinion | Unscored] = {}
    for index, picture in enumerate(panel.pictures):
        own = scores[:, index]
        own = own[~np.isnan(own)]
        if not len(own):
            opinions[picture] = Unscored(reason="no subject whose ratings differ rated it")
            continue
        half = _t_quantile(len(own) - 1) * own.std(ddof=1) / np.sqrt(len(own)) if len(own) > 1 else np.inf
        opinions[picture] = Opinion(picture, float(own.mean()), float(own.mean() - half), float(own.mean() + half), len(own))
    return opinions


def screen(panel: Panel) -> list[Screening]:
    """Which subjects rate too unlike the others, after ITU-R BT.500.

    For every picture the mean and spread of all ratings are taken, and how far a subject lies outside of them: two
    standard deviations where the ratings' kurtosis is that of a normal distribution (2 to 4), else the square root of 20
    standard deviations. A subject is rejected who lies outside for more than 5 % of the pictures and on both sides about
    alike (else it is a subject who is merely strict or kind).

    References:
        ITU-R BT.500-14 (2019), annex 1, section A1-2.3.1.
    """
    values = panel.values
    counts = (~np.isnan(values)).sum(axis=0)
    means = np.nansum(values, axis=0) / np.maximum(counts, 1)
    moments = [np.nansum((values - means) ** power, axis=0) / np.maximum(counts, 1) for power in (2, 4)]
    spread = np.sqrt(np.nansum((values - means) ** 2, axis=0) / np.maximum(counts - 1, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        kurtosis = moments[1] / moments[0] ** 2
    width = np.where((kurtosis >= 2) & (kurtosis <= 4), 2.0, np.sqrt(20)) * spread
    judged = []
    for index, subject in enumerate(panel.subjects):
        own = values[index]
        rated = ~np.isnan(own)
        differ = rated & (spread > 0)  # where all agree nobody lies outside
        above, below = int((own >= means + width)[differ].sum()), int((own <= means - width)[differ].sum())
        share = (above + below) / max(1, int(rated.sum()))
        sided = abs(above - below) / max(1, above + below)
        if np.nanstd(own) <= 1e-12:
            reason = f"all {int((~np.isnan(own)).sum())} ratings are equal"
        elif share > 0.05 and sided < 0.3:
            reason = f"{share:.0%} of the ratings are outliers, {above} above and {below} below"
        else:
            reason = ""
        judged.append(Screening(subject, not reason, reason))
    return judged


def without(panel: Panel, rejected: set[str]) -> Panel:
    """The panel without some subjects.

    Raises:
        BadInput: Nobody is left.
    """
    kept = [index for index, subject in enumerate(panel.subjects) if subject not in rejected]
    if not kept:
        raise BadInput("Every subject was rejected.", hint="Check the ratings; screening wants subjects who mostly agree.")
    return Panel(tuple(panel.subjects[index] for index in kept), panel.pictures, panel.values[kept])


def vote(panel: Panel) -> dict[str, Score | Unscored]:
    """The majority's answer to a yes/no question about each picture: 1 yes, 0 no; a tie is Unscored.

    Raises:
        BadInput: A rating is neither 0 nor 1.
    """
    if not np.isin(panel.values[~np.isnan(panel.values)], (0, 1)).all():
        raise BadInput("Votes must be 0 or 1.", hint="Give 1 for yes and 0 for no.")
    votes: dict[str, Score | Unscored] = {}
    for picture, own in zip(panel.pictures, panel.values.T, strict=True):
        yes, no = int((own == 1).sum()), int((own == 0).sum())
        votes[picture] = Unscored(reason=f"{yes} said yes and {no} no") if yes == no else Score(value=float(yes > no))
    return votes


def likert(values: ndarray) -> ndarray:
    """Ratings from 1 to 5 as numbers from 0 to 1, as ImagenHub does.

    Raises:
        BadInput: A rating is not from 1 to 5.

    Example:
        >>> likert(np.array([1, 2, 5]))
        array([0.  , 0.25, 1.  ])
    """
    values = np.asarray(values, dtype=float)
    if not ((values >= 1) & (values <= 5) | np.isnan(values)).all():
        raise BadInput("A rating is not from 1 to 5.", hint="Mend it or leave it out.")
    return (values - 1) / 4


def _t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t, by bisection on its distribution function."""
    low, high = 0.0, 1000.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, degrees) < 0.975 else (low, middle)
    return (low + high) / 2


def _t_below(t: float, degrees: int) -> float:
    """P(T < t) for t >= 0, closed form in the angle arctan(t / sqrt(degrees)) (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = np.arctan(t / np.sqrt(degrees))
    sine, cosine = np.sin(angle), np.cos(angle)
    if degrees % 2:
        term = total = cosine
        for k in range(3, degrees, 2):
            term *= cosine**2 * (k - 1) / k
            total += term
        inside = 2 / np.pi * (angle + (sine * total if degrees > 1 else 0))
    else:
        term = total = 1.0
        for k in range(2, degrees, 2):
            term *= cosine**2 * (k - 1) / k
            total += term
        inside = sine * total
    return float(0.5 + inside / 2)
