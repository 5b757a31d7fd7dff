"""Scores and the five words for them (LMM4LMM, eq. 2)."""

from collections.abc import Sequence

import numpy as np
from numpy import ndarray

from vernissage.errors import BadInput
from vernissage.records.verdict import LEVELS, Level


def level_of(score: float, low: float, high: float) -> Level:
    """The word for a score: the range of the training scores is cut into five equal intervals.

    Args:
        score: Below the range it is bad, above it excellent.
        low: Smallest score of the training set.
        high: Largest.

    Raises:
        BadInput: The range is empty or a number is missing.

    References:
        LMM4LMM (arXiv 2504.08358), eq. 2: interval i is low + (i - 1)/5 (high - low) < s <= low + i/5 (high - low).

    Example:
        >>> [level_of(score, 0, 100) for score in (0, 20, 20.1, 55, 100)]
        ['bad', 'bad', 'poor', 'fair', 'excellent']
    """
    if not (np.isfinite([score, low, high]).all() and low < high):
        raise BadInput(f"There is no level of {score} between {low} and {high}.", hint="Take the range from the training scores.")
    return LEVELS[int(np.clip(np.ceil(5 * (score - low) / (high - low)) - 1, 0, 4))]


def score_of(level: Level, low: float, high: float) -> float:
    """The middle of a word's interval.

    Example:
        >>> score_of("fair", 0, 100)
        50.0
    """
    return low + (LEVELS.index(level) + 0.5) / 5 * (high - low)


def expected_score(probabilities: ndarray | Sequence[float], low: float, high: float) -> float:
    """The score that probabilities of the five words stand for: the mean of the intervals' middles.

    Args:
        probabilities: Of bad, poor, fair, good, excellent, shape (5,), summing to 1.
        low: Smallest score of the range.
        high: Largest.

    References:
        Q-Align (Wu et al. 2023), eq. 3, which this follows with the middles of the intervals in place of 1 to 5.

    Example:
        >>> expected_score([0, 0, 0.5, 0.5, 0], 0, 100)
        60.0
    """
    probabilities = np.asarray(probabilities, dtype=float)
    if probabilities.shape != (5,) or not np.isclose(probabilities.sum(), 1, atol=1e-6):
        raise BadInput("Five probabilities that sum to 1 are needed.", hint="Give those of bad, poor, fair, good, excellent.")
    return float(sum(p * score_of(level, low, high) for p, level in zip(probabilities, LEVELS, strict=True)))
