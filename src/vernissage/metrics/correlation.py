"""How well two rows of numbers agree: SRCC, PLCC and KRCC, with intervals."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy import ndarray

from vernissage.errors import BadInput
from vernissage.metrics.interval import Estimate


def plcc(first: ndarray, second: ndarray) -> float:
    """Pearson's linear correlation.

    Args:
        first: One number per item, shape (item,).
        second: Likewise, same items.

    Returns:
        In [-1, 1]; 1 means a rising straight line.

    Raises:
        BadInput: Fewer than 3 items, different lengths, a missing number, or a constant row, of which there is no
            correlation.

    Example:
        >>> round(plcc(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])), 6)
        1.0
    """
    first, second = (values - values.mean() for values in _checked(first, second))
    first, second = first / np.abs(first).max(), second / np.abs(second).max()  # so that no square over- or underflows
    return float(np.clip(first @ second / np.sqrt((first @ first) * (second @ second)), -1, 1))


def srcc(first: ndarray, second: ndarray) -> float:
    """Spearman's rank correlation; equal numbers share the mean of their ranks. See `plcc`.

    Example:
        >>> round(srcc(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 100.0])), 6)
        1.0
    """
    first, second = _checked(first, second)
    return plcc(_ranks(first), _ranks(second))


def krcc(first: ndarray, second: ndarray) -> float:
    """Kendall's rank correlation, tau-b, which allows for equal numbers. See `plcc`.

    Sorts instead of comparing every pair: a tenth of a second for 50,000 items.

    References:
        Kendall (1945), The treatment of ties in ranking problems, tau-b; Knight (1966), A computer method for calculating
        Kendall's tau with ungrouped data.

    Example:
        >>> round(krcc(np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0, 2.0])), 3)
        -0.333
    """
    first, second = _checked(first, second)
    places = [np.unique(values, return_inverse=True)[1] for values in (first, second)]
    pairs = len(first) * (len(first) - 1) // 2
    untied = [pairs - _tied(place) for place in places]
    tied_in_both = _tied(places[0] * len(first) + places[1])
    disagreeing = _inversions(places[1][np.lexsort((places[1], places[0]))])
    # Pairs tied in neither are all but those tied in one, of which those tied in both were counted twice.
    untied_in_both = untied[0] + untied[1] - pairs + tied_in_both
    return float((untied_in_both - 2 * disagreeing) / np.sqrt(float(untied[0]) * float(untied[1])))


def _tied(codes: ndarray) -> int:
    """Pairs of equal codes."""
    counts = np.unique(codes, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def _inversions(values: ndarray) -> int:
    """Pairs of which the later value is the smaller, counted while sorting by merging, all merges of a size at once."""
    size = 1 << (len(values) - 1).bit_length()
    rows = np.full(size, values.max() + 1)
    rows[: len(values)] = values
    found, half = 0, 1
    while half < size:
        rows = rows.reshape(-1, 2 * half)
        order = np.argsort(rows, axis=1, kind="stable")
        # A later value should stand behind all of the first half; it stands before those that are larger.
        found += len(rows) * half * half + len(rows) * half * (half - 1) // 2 - int((order >= half).nonzero()[1].sum())
        rows, half = np.take_along_axis(rows, order, axis=1), 2 * half
    return found


def plcc_logistic(predicted: ndarray, opinions: ndarray) -> float:
    """Pearson's correlation after predictions are mapped through a four-parameter logistic, as is usual for opinion scores.

    Args:
        predicted: One score per item, any scale, shape (item,).
        opinions: Mean opinion per item.

    Returns:
        In [-1, 1]; higher is better.

    Raises:
        BadInput: See `plcc`.

    References:
        VQEG (2000), Final report, annex: y = b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|)), least squares; fitted by
        Levenberg and Marquardt's method from the usual starting point.

    Example:
        >>> x = np.linspace(-3, 3, 50)
        >>> round(plcc_logistic(x, 1 / (1 + np.exp(-2 * x))), 6)
        1.0
    """
    predicted, opinions = _checked(predicted, opinions)
    x = (predicted - predicted.mean()) / predicted.std()
    rising = plcc(x, opinions) >= 0
    ends = (opinions.max(), opinions.min()) if rising else (opinions.min(), opinions.max())
    b, damping = np.array([*ends, 0.0, 0.5]), 1e-3
    fitted, slopes = _logistic(x, b)
    error = ((opinions - fitted) ** 2).sum()
    for _ in range(200):
        normal = slopes.T @ slopes
        held = np.diag(damping * np.diag(normal) + 1e-12 * max(1.0, normal.max()))  # of its own, so that it is never singular
        tried = b + np.linalg.solve(normal + held, slopes.T @ (opinions - fitted))
        new, new_slopes = _logistic(x, tried)
        new_error = ((opinions - new) ** 2).sum()
        if new_error < error:
            settled = error - new_error < 1e-12 * error
            b, fitted, slopes, error, damping = tried, new, new_slopes, new_error, damping / 3
            if settled:
                break
        else:
            damping *= 4
            if damping > 1e12:
                break
    return plcc(fitted, opinions)


def _logistic(x: ndarray, b: ndarray) -> tuple[ndarray, ndarray]:
    """Values (item,) of the logistic and their derivatives (item, 4) by its parameters."""
    width = np.sign(b[3]) * max(abs(b[3]), 1e-3)
    z = np.clip((x - b[2]) / abs(width), -50, 50)
    s = 1 / (1 + np.exp(-z))
    slope = (b[0] - b[1]) * s * (1 - s)
    derivatives = np.stack([s, 1 - s, -slope / abs(width), -slope * z / width], axis=1)
    return b[1] + (b[0] - b[1]) * s, derivatives


def or_none(measure: Callable[[ndarray, ndarray], float], first: ndarray, second: ndarray) -> float | None:
    """A correlation, or None where it is undefined.

    Example:
        >>> or_none(plcc, np.array([1.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0])) is None
        True
    """
    try:
        return measure(first, second)
    except BadInput:
        return None


def plcc_interval(first: ndarray, second: ndarray, *, groups: ndarray | None = None, draws: int = 1000, seed: int = 0) -> Estimate | None:
    """Pearson's correlation with its 95 % percentile bootstrap; None where it is undefined.

    Args:
        first: One number per item, shape (item,).
        second: Likewise, same items.
        groups: Whatever items hang together by, such as their prompt, shape (item,); groups are drawn, not items. Left out, every item
            is drawn by itself.
        draws: Bootstrap samples; those in which it is undefined are left out. With one group alone the interval is all of [-1, 1].
        seed: Decides them.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 13.3.
    """
    return _interval(plcc, first, second, groups, draws, seed)


def srcc_interval(first: ndarray, second: ndarray, *, groups: ndarray | None = None, draws: int = 1000, seed: int = 0) -> Estimate | None:
    """Spearman's rank correlation with its interval; see `plcc_interval`.

    Example:
        >>> srcc_interval(np.arange(30.0), np.arange(30.0) ** 2)
        Estimate(value=1.0, low=1.0, high=1.0, n=30)
    """
    return _interval(srcc, first, second, groups, draws, seed)


def numbered(names: Iterable[str]) -> ndarray:
    """A number for each name, equal names alike: groups to resample, without an array of long texts.

    Example:
        >>> numbered(["a cat", "a dog", "a cat"]).tolist()
        [0, 1, 0]
    """
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def _interval(
    measure: Callable[[ndarray, ndarray], float], first: ndarray, second: ndarray, groups: ndarray | None, draws: int, seed: int
) -> Estimate | None:
    """Every sample is told by how often it holds each item, so that values are sorted once and not once a sample."""
    value = or_none(measure, first, second)
    if value is None:
        return None
    _, group_of = np.unique(np.arange(len(first)) if groups is None else groups, return_inverse=True)
    count = int(group_of.max()) + 1
    sides = [np.unique(np.asarray(values, dtype=float), return_inverse=True) for values in (first, second)]
    sides = [(known / np.abs(known).max(), places) for known, places in sides]  # so that no square over- or underflows
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws if count > 1 else 0):  # of a single group nothing is known but itself
        weights = np.bincount(rng.integers(count, size=count), minlength=count)[group_of].astype(float)
        drawn = []
        for known, places in sides:
            often = np.bincount(places, weights, minlength=len(known))
            values = (np.cumsum(often) - (often - 1) / 2 if measure is srcc else known)[places]
            drawn.append(values - (weights * values).sum() / weights.sum() if np.count_nonzero(often) > 1 else None)
        if drawn[0] is not None and drawn[1] is not None:
            spread = np.sqrt((weights * drawn[0] ** 2).sum() * (weights * drawn[1] ** 2).sum())
            found.append(float(np.clip((weights * drawn[0] * drawn[1]).sum() / spread, -1, 1)))
    low, high = np.percentile(found, [2.5, 97.5]) if found else (-1.0, 1.0)
    return Estimate(value, float(low), float(high), len(first))


def _checked(first: ndarray, second: ndarray) -> tuple[ndarray, ndarray]:
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape or first.ndim != 1:
        raise BadInput(f"A correlation needs two rows of one length, not {first.shape} and {second.shape}.", hint="Pass two arrays.")
    if len(first) < 3:
        raise BadInput(f"A correlation needs at least 3 items, not {len(first)}.", hint="Score more.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise BadInput("A correlation of missing or infinite numbers is undefined.", hint="Leave unscored items out first.")
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        raise BadInput("The correlation with a constant is undefined.", hint="Check the scores: they are all equal.")
    return first, second


def _ranks(values: ndarray) -> ndarray:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[places]
