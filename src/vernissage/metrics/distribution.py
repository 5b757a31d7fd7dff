"""How far two sets of pictures are apart, from their features: FID, KID, precision, recall, density, coverage, Inception Score.

Features come from any encoder; with Inception's pool features these are the usual numbers, with CLIP's or DINOv2's CLIP-FID
and FD-DINOv2. Statistics are gathered batch by batch and can be merged, so memory does not grow with the number of pictures.
"""

import os
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from threadpoolctl import threadpool_limits

from vernissage.errors import BadInput, MissingExtra

_WORTH_THREADS = 512
"""Features from which on several threads are faster at eigenvalues."""


class Statistics(NamedTuple):
    """What FID needs of a set of features."""

    n: int
    mean: ndarray
    """Shape (feature,), float64."""
    scatter: ndarray
    """Sum of outer products of deviations from the mean, shape (feature, feature), float64."""

    @property
    def covariance(self) -> ndarray:
        """With n - 1, as numpy.cov and all FID implementations have it.

        Raises:
            BadInput: There are fewer than two features.
        """
        return self.scatter / self.freedom

    @property
    def freedom(self) -> int:
        """Deviations from the mean that are free of each other: what the scatter is divided by.

        Raises:
            BadInput: There are fewer than two features.
        """
        if self.n < 2:
            raise BadInput(f"A covariance needs at least 2 pictures, not {self.n}.", hint="Score more pictures.")
        return self.n - 1


def gather(features: ndarray) -> Statistics:
    """Statistics of one batch of features, shape (picture, feature).

    Raises:
        BadInput: Not a matrix, empty, or a number is missing.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or not len(features) or not np.isfinite(features).all():
        raise BadInput("Features must be a matrix (picture, feature) of finite numbers.", hint="Check the encoder's output.")
    mean = features.mean(axis=0)
    centred = features - mean
    return Statistics(len(features), mean, centred.T @ centred)


def merge(first: Statistics, second: Statistics) -> Statistics:
    """Statistics of two sets together.

    References:
        Chan, Golub and LeVeque (1979), Updating formulae and a pairwise algorithm for computing sample variances, eq. 2.1.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(10, 3))
        >>> merged = merge(gather(features[:4]), gather(features[4:]))
        >>> bool(np.allclose(merged.covariance, np.cov(features.T)))
        True
    """
    n = first.n + second.n
    apart = second.mean - first.mean
    mean = first.mean + apart * (second.n / n)
    return Statistics(n, mean, first.scatter + second.scatter + np.outer(apart, apart) * (first.n * second.n / n))


def gather_all(batches: Iterable[ndarray]) -> Statistics:
    """Statistics of many batches, one after the other.

    Raises:
        BadInput: There are no batches.
    """
    found: Statistics | None = None
    for batch in batches:
        found = gather(batch) if found is None else merge(found, gather(batch))
    if found is None:
        raise BadInput("There are no features.", hint="Score at least two pictures.")
    return found


def save_statistics(path: Path, statistics: Statistics) -> None:
    """Write mean and covariance as .npz with `mu` and `sigma`, as pytorch-fid and clean-fid read them, and the count `n`."""
    np.savez(path, mu=statistics.mean, sigma=statistics.covariance, n=statistics.n)


def load_statistics(path: Path) -> Statistics:
    """Read an .npz of this package, pytorch-fid or clean-fid; where it tells no count, n is 0 and FID works all the same.

    Raises:
        BadInput: It cannot be read or holds other arrays.
    """
    try:
        with path.open("rb") as data, np.load(data, allow_pickle=False) as file:
            mean, covariance = (file[name].astype(np.float64, casting="same_kind") for name in ("mu", "sigma"))
            n = int(file["n"]) if "n" in file else 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"{path} holds no FID statistics: {error}.", hint="It must be an .npz with mu and sigma.") from error
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise BadInput(f"{path} has numbers that are not finite.", hint="Save the statistics again.")
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise BadInput(f"{path} has mu of {mean.shape} and sigma of {covariance.shape}.", hint="Save the statistics again.")
    spread = np.sqrt(np.clip(np.diag(covariance), 0, None))
    if not np.allclose(covariance, covariance.T, rtol=1e-3, atol=1e-6 * spread.max(initial=0) ** 2):
        raise BadInput(f"The sigma of {path} is no covariance: it is not symmetric.", hint="Save the statistics again.")
    if (np.diag(covariance) < 0).any() or (np.abs(covariance) > 1.001 * np.outer(spread, spread) + 1e-6 * spread.max(initial=0) ** 2).any():
        raise BadInput(f"The sigma of {path} is no covariance: no features vary like that.", hint="Save the statistics again.")
    try:  # no variance is below 0 in any direction, but for rounding
        np.linalg.cholesky(covariance + 1e-5 * max(np.trace(covariance), 1e-300) * np.eye(len(mean)))
    except np.linalg.LinAlgError as error:
        raise BadInput(f"The sigma of {path} is no covariance: no features vary like that.", hint="Save the statistics again.") from error
    if n < 0 or n == 1:
        raise BadInput(f"{path} is of {n} pictures.", hint="Save the statistics of two or more.")
    return Statistics(n or 2, mean, covariance * ((n or 2) - 1))


def frechet_distance(first: Statistics, second: Statistics) -> float:
    """The squared Frechet distance of two normal distributions: FID, when the features are Inception's.

    Returns:
        At least 0; lower is better.

    Raises:
        BadInput: Features of different length, or a set of one picture.

    References:
        Heusel et al. (2017), GANs trained by a two time-scale update rule, section 4: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).
        Differs in how, not in what: the trace of the root needs only eigenvalues of a symmetric matrix, L' C2 L with C1 = L L',
        so no matrix root is taken.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(50, 4))
        >>> round(frechet_distance(gather(features), gather(features + 2)), 6)
        16.0
    """
    if len(first.mean) != len(second.mean):
        raise BadInput(f"Features of length {len(first.mean)} and {len(second.mean)} cannot be compared.", hint="Use one encoder.")
    n, m = first.freedom, second.freedom
    # Scatters are divided at the end: copies of them cost more than the arithmetic, where memory is new to the process.
    # More threads only wait for one another here; and scipy's spin on for a while, in the way of numpy's and torch's.
    threads = min(4, os.cpu_count() or 1) if len(first.mean) >= _WORTH_THREADS else 1
    with threadpool_limits(limits=threads, user_api="blas"):
        values = _eigenvalues_of_product(first.scatter, second.scatter)
    trace_of_root = np.sqrt(np.clip(values, 0, None)).sum() / (np.sqrt(n) * np.sqrt(m))
    apart = first.mean - second.mean
    return float(np.maximum(0.0, apart @ apart + np.trace(first.scatter) / n + np.trace(second.scatter) / m - 2 * trace_of_root))


def _eigenvalues_of_product(one: ndarray, two: ndarray) -> ndarray:
    """The eigenvalues of S1 S2, as those of the symmetric L' S2 L with L L' = S1.

    LAPACK's reduction of the generalised problem (sygst) computes L' S2 L in a quarter of the operations of two matrix
    products; where S1 is not of full rank it has no L, and one of its eigenvectors serves.
    """
    try:
        from scipy.linalg import eigvalsh, get_lapack_funcs
    except ImportError as error:
        raise MissingExtra("scipy", extra="local") from error
    potrf, sygst = get_lapack_funcs(("potrf", "sygst"), dtype=np.float64)
    root, rank_lost = potrf(one.T, lower=1, clean=0)  # transposed: symmetric all the same, and laid out as LAPACK wants it
    if not rank_lost:
        inner, _ = sygst(two.T, root, itype=2, lower=1)
        return eigvalsh(inner, lower=True, overwrite_a=True, check_finite=False, driver="evd")
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    inner = root.T @ two @ root
    return np.linalg.eigvalsh((inner + inner.T) / 2)


class KernelDistance(NamedTuple):
    """KID: the mean over subsets, and how much they differ."""

    mean: float
    std: float


def kernel_distance(first: ndarray, second: ndarray, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> KernelDistance:
    """KID: the unbiased squared maximum mean discrepancy under a cubic polynomial kernel, over random subsets.

    Args:
        first: Features, shape (picture, feature).
        second: Likewise.
        subsets: How many pairs of subsets are drawn.
        subset_size: Pictures in each; at most the smaller set.
        seed: Decides the subsets.

    Returns:
        Around 0 for equal distributions, may be negative; lower is better.

    Raises:
        BadInput: Different lengths, or fewer than two pictures.

    References:
        Binkowski et al. (2018), Demystifying MMD GANs, section 4: k(x, y) = (x y / d + 1)^3.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    size = min(subset_size, len(first), len(second))
    if first.shape[1:] != second.shape[1:] or size < 2:
        raise BadInput("KID needs two sets of at least 2 pictures with features of one length.", hint="Use one encoder and more pictures.")
    rng = np.random.default_rng(seed)
    rows = [(rng.choice(len(first), size, replace=False), rng.choice(len(second), size, replace=False)) for _ in range(subsets)]
    if max(len(first), len(second)) ** 2 <= subsets * size**2:  # subsets overlap so much that every pair of pictures is compared once
        members = (_members([pair[side] for pair in rows], len(whole)) for side, whole in enumerate((first, second)))
        values = _mmds(first, second, *members)
    else:
        everyone = np.ones((1, size))
        values = np.concatenate([_mmds(first[one], second[other], everyone, everyone) for one, other in rows])
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def _members(rows: Sequence[ndarray], count: int) -> ndarray:
    """Which pictures are in each subset, shape (subset, picture), 0 or 1."""
    found = np.zeros((len(rows), count))
    for subset, chosen in zip(found, rows, strict=True):
        subset[chosen] = 1
    return found


def _mmds(x: ndarray, y: ndarray, in_x: ndarray, in_y: ndarray) -> ndarray:
    """The unbiased estimate for each subset; `in_x` and `in_y` tell its members, shape (subset, picture), as many in each."""
    m = in_x[0].sum()
    within = sum(
        _kernel_sums(own, own, inside, inside) - inside @ _cubed(np.einsum("ij,ij->i", own, own) / own.shape[1] + 1)
        for own, inside in ((x, in_x), (y, in_y))
    )
    return within / (m * (m - 1)) - 2 * _kernel_sums(x, y, in_x, in_y) / m**2


def _kernel_sums(x: ndarray, y: ndarray, in_x: ndarray, in_y: ndarray, *, block: int = 1024) -> ndarray:
    """Sum of the kernel over all pairs of a subset, one from `x` and one from `y`; memory stays within some rows of the kernel."""
    found = np.zeros(len(in_x))
    for start in range(0, len(x), block):
        rows = slice(start, start + block)
        found += ((in_x[:, rows] @ _cubed(x[rows] @ y.T / x.shape[1] + 1)) * in_y).sum(axis=1)
    return found


def _cubed(values: ndarray) -> ndarray:
    return values * values * values  # many times as fast as numpy's power


class Manifold(NamedTuple):
    """How true and how varied generated pictures are; all in [0, 1] but density, which may exceed 1; higher is better."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_scores(real: ndarray, generated: ndarray, *, neighbours: int = 5, block: int = 1024) -> Manifold:
    """Precision, recall, density and coverage by distances to the k-th nearest neighbour.

    Args:
        real: Features of real pictures, shape (picture, feature).
        generated: Of generated ones.
        neighbours: k.
        block: Pictures compared at once: memory is `block` times the larger set.

    Raises:
        BadInput: Different lengths, or not more pictures than neighbours.

    References:
        Kynkaanniemi et al. (2019), Improved precision and recall metric, eq. 1 and 2; Naeem et al. (2020), Reliable fidelity and
        diversity metrics, eq. 4 and 6.
    """
    real, generated = np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    if real.shape[1:] != generated.shape[1:] or min(len(real), len(generated)) <= neighbours:
        raise BadInput(
            f"{neighbours} neighbours need more than that many pictures, with features of one length.", hint="Use more pictures."
        )
    real_radius, generated_radius = _radii(real, neighbours, block), _radii(generated, neighbours, block)
    inside_real = np.zeros(len(generated))  # how many real neighbourhoods hold a generated picture
    near_generated = np.zeros(len(real), dtype=bool)
    covered = np.zeros(len(real), dtype=bool)
    for start in range(0, len(generated), block):
        part = slice(start, start + block)
        distances = _distances(real, generated[part])
        inside_real[part] = (distances <= real_radius[:, None]).sum(axis=0)
        near_generated |= (distances <= generated_radius[part]).any(axis=1)
        covered |= (distances <= real_radius[:, None]).any(axis=1)
    return Manifold(
        precision=float((inside_real > 0).mean()),
        recall=float(near_generated.mean()),
        density=float(inside_real.mean() / neighbours),
        coverage=float(covered.mean()),
    )


def _radii(features: ndarray, neighbours: int, block: int) -> ndarray:
    """Distance of each picture to its k-th nearest other one."""
    radii = np.empty(len(features))
    for start in range(0, len(features), block):
        distances = _distances(features[start : start + block], features)
        radii[start : start + block] = np.partition(distances, neighbours, axis=1)[:, neighbours]  # the nearest is itself
    return radii


def _distances(first: ndarray, second: ndarray) -> ndarray:
    squared = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    return np.sqrt(np.clip(squared, 0, None))


def inception_score(probabilities: ndarray, *, splits: int = 10, seed: int | None = 0) -> tuple[float, float]:
    """Inception Score: how sure a classifier is of each picture and how varied it finds all, as (mean, std) over splits.

    Args:
        probabilities: Of each class, shape (picture, class), rows summing to 1.
        splits: Parts that are scored apart.
        seed: Shuffles the pictures first; None keeps their order.

    Returns:
        At least 1; higher is better.

    Raises:
        BadInput: Fewer pictures than splits, or rows that are no probabilities.

    References:
        Salimans et al. (2016), Improved techniques for training GANs, section 4: exp(E KL(p(y|x) || p(y))).
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or (rows < 0).any() or not np.allclose(rows.sum(axis=1), 1, atol=1e-4):
        raise BadInput("Rows must be probabilities that sum to 1.", hint="Apply a softmax first.")
    parts = ClassParts(len(probabilities), splits=splits, seed=seed)
    parts.add(np.arange(len(rows)), rows)
    return parts.score()


class ClassParts:
    """The probabilities of classes in parts of a set, for its Inception Score; memory does not grow with the number of pictures.

    Args:
        count: Pictures of the set; some may never come, because they cannot be read.
        splits: Parts that are scored apart, as alike in size as can be.
        seed: Shuffles the pictures first; None keeps their order.
        limit: Pictures that wait for the number of those that come; of a larger set the parts are those of all.
    """

    def __init__(self, count: int, *, splits: int = 10, seed: int | None = 0, limit: int = 10_000) -> None:
        self._count, self._splits, self._seed, self._limit = count, splits, seed, limit
        self._waiting: list[tuple[ndarray, ndarray]] = []
        self._came = 0
        self._part_of: ndarray | None = None
        self._counts, self._certainty = np.zeros(splits), np.zeros(splits)
        self._sums: ndarray = np.zeros((splits, 0))

    def add(self, places: ndarray, probabilities: ndarray) -> None:
        """Take in some pictures, by their places in the set, in that order."""
        self._waiting.append((places, np.asarray(probabilities)))
        self._came += len(places)
        if self._came > self._limit:
            self._part_of = self._parts(self._count) if self._part_of is None else self._part_of
            self._sum_up(self._part_of)

    def score(self) -> tuple[float, float]:
        """The score as (mean, std) over the parts; see `inception_score`.

        Raises:
            BadInput: Fewer pictures than parts, or a row that is no probabilities.
        """
        if self._came < self._splits:
            few = f"An Inception Score of {self._splits} parts needs at least {self._splits} pictures."
            raise BadInput(few, hint="Score more pictures.")
        if self._part_of is None:
            self._waiting = [(np.arange(self._came), np.concatenate([rows for _, rows in self._waiting]))]
            self._part_of = self._parts(self._came)
        self._sum_up(self._part_of)
        marginals = self._sums / self._counts[:, None]
        if (marginals < 0).any() or not np.allclose(marginals.sum(axis=1), 1, atol=1e-4):
            raise BadInput("Rows must be probabilities that sum to 1.", hint="Apply a softmax first.")
        # E KL(p(y|x) || p(y)) = E sum p log p - sum p(y) log p(y)
        scores = np.exp(self._certainty / self._counts - _times_log(marginals).sum(axis=1))
        return float(np.mean(scores)), float(np.std(scores))

    def _parts(self, count: int) -> ndarray:
        """The part that each of `count` pictures belongs to."""
        order = np.arange(count) if self._seed is None else np.random.default_rng(self._seed).permutation(count)
        part_of = np.empty(count, dtype=np.int64)
        for part in range(self._splits):
            part_of[order[part * count // self._splits : (part + 1) * count // self._splits]] = part
        return part_of

    def _sum_up(self, part_of: ndarray) -> None:
        for places, rows in self._waiting:
            if self._sums.shape[1] == 0:
                self._sums = np.zeros((self._splits, rows.shape[1]))
            exact = rows.astype(np.float64)
            np.add.at(self._counts, part_of[places], 1)
            np.add.at(self._certainty, part_of[places], _times_log(exact).sum(axis=1))
            np.add.at(self._sums, part_of[places], exact)
        self._waiting = []


def _times_log(probabilities: ndarray) -> ndarray:
    """P log p, 0 for 0."""
    return probabilities * np.log(np.where(probabilities > 0, probabilities, 1))
