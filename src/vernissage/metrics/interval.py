"""Confidence intervals by the bootstrap: every number of a table comes with one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from vernissage.errors import BadInput

_Z = 1.959964
"""Of the normal distribution, 97.5 %."""


class Estimate(NamedTuple):
    """A value with its 95 % interval and the number of items it rests on."""

    value: float
    low: float
    high: float
    n: int

    @property
    def is_open(self) -> bool:
        """Whether it rests on a single item, and so has no interval."""
        return self.n < 2 and self.low == self.high

    def __str__(self) -> str:
        """As a percentage with its interval."""
        if self.is_open:
            return f"{100 * self.value:.1f} [-]"
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def decimals(estimate: Estimate | None) -> str:
    """A value with its interval in three decimals; a dash where there is none.

    Example:
        >>> decimals(Estimate(0.5, 0.25, 0.75, 9)), decimals(None)
        ('0.500 [0.250, 0.750]', '-')
    """
    if estimate is None:
        return "-"
    if estimate.is_open:
        return f"{estimate.value:.3f} [-]"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def ratio_interval(right: ndarray, asked: ndarray, *, draws: int = 2000, seed: int = 0) -> Estimate:
    """The share of right answers, with a percentile bootstrap over items.

    Answers about one item hang together, so items are resampled, not single answers. Where items are right or wrong as a whole, or all
    alike so that no sample differs, the interval is Wilson's for as many items.

    Args:
        right: Right answers per item, shape (item,).
        asked: Answers per item, shape (item,), each at least 0, some above.
        draws: Bootstrap samples.
        seed: Decides the resampling.

    Returns:
        Share in [0, 1], higher is better, its 95 % interval, and the number of items.

    Raises:
        BadInput: Shapes differ, or nothing was asked.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 13.3; Wilson (1927), Probable inference, the law of
        succession, and statistical inference; Brown, Cai and DasGupta (2001) on how well it covers small samples.

    Example:
        >>> ratio_interval(np.array([3, 1, 2]), np.array([3, 2, 2])).value
        0.8571428571428571
        >>> print(ratio_interval(np.ones(12), np.ones(12)))
        100.0 [75.8, 100.0]
    """
    found = _resampled(right, asked, draws, seed)
    right, asked = np.asarray(right, dtype=float), np.asarray(asked, dtype=float)
    known = asked > 0
    whole = (asked[known] == asked[known][0]).all() and np.isin(right[known] / asked[known], (0.0, 1.0)).all()
    return _wilson(found, int(known.sum())) if whole or found.low == found.high else found


def share_interval(values: ndarray, *, draws: int = 2000, seed: int = 0) -> Estimate:
    """The mean of values in [0, 1], such as 1 for right and 0 for wrong; see `ratio_interval`.

    Raises:
        BadInput: There are no values, or they are not finite.

    Example:
        >>> print(share_interval(np.array([1, 1, 1, 0])))
        75.0 [30.1, 95.4]
    """
    return ratio_interval(values, np.ones(np.shape(values)), draws=draws, seed=seed)


def _wilson(found: Estimate, n: float) -> Estimate:
    """With the score interval of a share of n."""
    p, z = found.value, _Z
    middle, half = (p + z**2 / (2 * n)) / (1 + z**2 / n), z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return found._replace(low=0.0 if p == 0 else float(middle - half), high=1.0 if p == 1 else float(middle + half))


def _resampled(right: ndarray, asked: ndarray, draws: int, seed: int) -> Estimate:
    """The ratio of two sums with its percentile bootstrap over items."""
    right, asked = np.asarray(right, dtype=float), np.asarray(asked, dtype=float)
    if right.shape != asked.shape or right.ndim != 1 or not asked.sum() > 0 or not np.isfinite(right).all():
        raise BadInput(
            "A share needs as many items right as asked, something asked, and finite numbers.", hint="Pass two arrays of one length."
        )
    rng = np.random.default_rng(seed)
    sums = []
    for block in np.array_split(np.arange(draws), max(1, draws * len(asked) // 4_000_000)):  # so that memory stays small
        chosen = rng.integers(len(asked), size=(len(block), len(asked)))
        sums.append((right[chosen].sum(axis=1), asked[chosen].sum(axis=1)))
    rights, totals = (np.concatenate(parts) for parts in zip(*sums, strict=True))
    shares = rights[totals > 0] / totals[totals > 0]
    low, high = np.percentile(shares, [2.5, 97.5])
    return Estimate(float(right.sum() / asked.sum()), float(low), float(high), len(asked))


def mean_interval(values: ndarray, *, draws: int = 2000, seed: int = 0) -> Estimate:
    """The mean of values with a percentile bootstrap interval; pass paired differences for a paired comparison.

    Raises:
        BadInput: There are no values.

    Example:
        >>> mean_interval(np.array([1.0, 2.0, 3.0])).value
        2.0
    """
    values = np.asarray(values, dtype=float)
    return _resampled(values, np.ones_like(values), draws, seed)


def mean_of_means(groups: Sequence[ndarray], *, draws: int = 2000, seed: int = 0) -> Estimate:
    """The mean of groups' means, each group counting alike, with a percentile bootstrap within groups.

    It is what GenEval calls its overall score, over tasks. Where all values are 0 or 1, as there, groups are too often all alike for a
    bootstrap; then the interval is Wilson's for a share of as many items as would vary so much if the groups were alike.

    Raises:
        BadInput: There are no groups, or one is empty.

    Example:
        >>> mean_of_means([np.array([1.0, 1.0, 1.0]), np.array([0.0])]).value
        0.5
    """
    groups = [np.asarray(group, dtype=float) for group in groups]
    if not groups or not all(len(group) and np.isfinite(group).all() for group in groups):
        raise BadInput("A mean of groups needs groups that are not empty, and finite numbers.", hint="Leave out groups without values.")
    value, n = float(np.mean([group.mean() for group in groups])), sum(map(len, groups))
    if all(np.isin(group, (0.0, 1.0)).all() for group in groups):
        return _wilson(Estimate(value, 0.0, 1.0, n), len(groups) ** 2 / sum(1 / len(group) for group in groups))
    rng = np.random.default_rng(seed)
    drawn = np.mean([_means_of_draws(group, draws, rng) for group in groups], axis=0)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high), n)


def _means_of_draws(values: ndarray, draws: int, rng: np.random.Generator) -> ndarray:
    """Means of resampled values, shape (draw,), in blocks so that memory stays small."""
    blocks = np.array_split(np.arange(draws), max(1, draws * len(values) // 4_000_000))
    return np.concatenate([values[rng.integers(len(values), size=(len(block), len(values)))].mean(axis=1) for block in blocks])


def sign_flip_test(differences: ndarray, *, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value that paired differences have mean zero, by flipping their signs at random.

    Returns:
        In (0, 1]: the share of sign patterns whose mean is at least as far from zero, the observed one counted in.

    Raises:
        BadInput: There are no differences.

    References:
        Fisher (1935), The Design of Experiments, section 21; Phipson and Smyth (2010) for counting the observed one in.

    Example:
        >>> sign_flip_test(np.zeros(5))
        1.0
    """
    differences = np.asarray(differences, dtype=float)
    if differences.ndim != 1 or not len(differences) or not np.isfinite(differences).all():
        raise BadInput("A paired test needs differences, all of them finite.", hint="Use items that both have scored.")
    rng = np.random.default_rng(seed)
    observed = abs(differences.sum())
    further = 1
    for _ in range(0, draws, 1000):
        signs = rng.integers(0, 2, size=(1000, len(differences)), dtype=np.int8) * 2 - 1
        further += int((np.abs(signs @ differences) >= observed - 1e-12).sum())
    return further / (1 + -(-draws // 1000) * 1000)
