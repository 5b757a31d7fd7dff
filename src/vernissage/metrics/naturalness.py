"""How natural a picture looks, without a reference: NIQE and BRISQUE, from the statistics of its local contrasts.

In photographs, brightness less its local mean over its local spread (MSCN) is nearly Gaussian; noise, blur and blocks change that.
Both measures fit generalised Gaussians to it and to products of neighbours, at two scales.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from vernissage.errors import BadInput
from vernissage.metrics.similarity import gaussian_means

BLOCK = 96
"""Pixels of a side of NIQE's blocks."""
FEATURES = 36
_SIGMA, _RADIUS = 7 / 6, 3
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))


class Pristine(NamedTuple):
    """What NIQE's features are like in pictures that are as they should be."""

    mean: ndarray
    """Shape (feature,)."""
    covariance: ndarray
    """Shape (feature, feature)."""


class Regression(NamedTuple):
    """BRISQUE's support vector regression from features to opinions."""

    low: ndarray
    """Lowest value of each feature in training, shape (feature,); low to high is scaled to -1 to 1."""
    high: ndarray
    vectors: ndarray
    """Support vectors, shape (vector, feature)."""
    weights: ndarray
    """Of the vectors, shape (vector,)."""
    gamma: float
    rho: float


def niqe(grey: ndarray, pristine: Pristine) -> float:
    """Distance of a picture's statistics from those of pristine pictures; lower is more natural.

    Args:
        grey: Brightness from 0 to 255, shape (height, width), at least two blocks of 96 pixels.
        pristine: Of the published model, or see `fit_pristine`.

    Returns:
        From 0; about 2 to 5 for photographs with the published model.

    Raises:
        BadInput: The picture is too small, or all blocks are of one brightness.

    References:
        Mittal, Soundararajan and Bovik (2013), Making a "completely blind" image quality analyzer, eq. 10. Edges are repeated and the
        half scale is taken with antialiasing, as in the authors' code.
    """
    features = niqe_features(grey)
    whole = features[np.isfinite(features).all(axis=1)]
    if len(whole) < 2:
        raise BadInput("NIQE finds no two blocks with any contrast.", hint="The picture is flat.")
    apart = pristine.mean - np.nanmean(features, axis=0)
    spread = np.linalg.pinv((pristine.covariance + np.cov(whole.T)) / 2)
    return float(np.sqrt(np.maximum(0.0, apart @ spread @ apart)))


def niqe_features(grey: ndarray) -> ndarray:
    """The statistics of each block, shape (block, feature); of a block without contrast they are not numbers.

    Raises:
        BadInput: There are fewer than two blocks.
    """
    rows, columns = (side // BLOCK for side in grey.shape)
    if rows * columns < 2:
        raise BadInput(f"NIQE needs two blocks of {BLOCK} pixels, not {grey.shape[1]} x {grey.shape[0]}.", hint="Use larger pictures.")
    grey = np.asarray(grey, dtype=float)[: rows * BLOCK, : columns * BLOCK]
    scales = []
    for image, block in ((grey, BLOCK), (half(grey), BLOCK // 2)):
        contrast, _ = _contrast(image, "edge")
        blocks = contrast.reshape(rows, block, columns, block).swapaxes(1, 2).reshape(-1, block, block)
        scales.append(np.array([_block_features(each) for each in blocks]))
    return np.concatenate(scales, axis=1)


def fit_pristine(greys: list[ndarray], *, sharpness: float = 0.75) -> Pristine:
    """NIQE's model of pristine pictures, from one's own.

    Args:
        greys: Brightness from 0 to 255, shape (height, width); all blocks of 96 pixels are taken that are sharp enough.
        sharpness: Least sharpness of a block, as a part of the sharpest of its picture.

    Raises:
        BadInput: They have fewer sharp blocks than there are features.

    References:
        Mittal et al. (2013), sections II-B and II-D.
    """
    kept = []
    for grey in greys:
        features = niqe_features(grey)
        rows, columns = (side // BLOCK for side in grey.shape)
        _, spread = _contrast(np.asarray(grey, dtype=float)[: rows * BLOCK, : columns * BLOCK], "edge")
        sharp = spread.reshape(rows, BLOCK, columns, BLOCK).mean(axis=(1, 3)).ravel()
        kept.append(features[(sharp > sharpness * sharp.max()) & np.isfinite(features).all(axis=1)])
    features = np.concatenate(kept) if kept else np.empty((0, FEATURES))
    if len(features) <= FEATURES:
        raise BadInput(f"{len(features)} sharp blocks are too few to learn what is natural.", hint="Give more and larger pictures.")
    return Pristine(features.mean(axis=0), np.cov(features.T))


def brisque(grey: ndarray, regression: Regression) -> float:
    """How distorted people would find a picture; lower is better.

    Args:
        grey: Brightness from 0 to 255, shape (height, width), at least 16 pixels a side.
        regression: Of the published model.

    Returns:
        About 0 to 100 with the published model.

    Raises:
        BadInput: The picture is too small or flat.

    References:
        Mittal, Moorthy and Bovik (2012), No-reference image quality assessment in the spatial domain, sections III and IV. Around the
        picture zeros are taken, as in the authors' code.
    """
    features = brisque_features(grey)
    scaled = 2 * (features - regression.low) / (regression.high - regression.low) - 1
    distances = ((regression.vectors - scaled) ** 2).sum(axis=1)
    return float(regression.weights @ np.exp(-regression.gamma * distances) - regression.rho)


def brisque_features(grey: ndarray) -> ndarray:
    """The statistics of a picture, shape (feature,).

    Raises:
        BadInput: The picture is too small or flat.
    """
    if min(grey.shape) < 16:
        raise BadInput(f"BRISQUE needs at least 16 pixels a side, not {grey.shape[1]} x {grey.shape[0]}.", hint="Use larger pictures.")
    features: list[float] = []
    image = np.asarray(grey, dtype=float)
    for scale in (image, half(image)):
        contrast, _ = _contrast(scale, "constant")
        features += _symmetric(contrast)
        for shift in _SHIFTS:
            shape, left, right = _asymmetric(contrast * np.roll(contrast, shift, axis=(0, 1)))
            features += [shape, _skew(shape, left, right), left**2, right**2]
    found = np.array(features)
    if not np.isfinite(found).all():
        raise BadInput("BRISQUE finds no contrast.", hint="The picture is flat.")
    return found


def half(image: ndarray) -> ndarray:
    """An image at half its size, bicubic with antialiasing, mirrored at the edges: what Matlab's imresize(image, 0.5) gives.

    Example:
        >>> half(np.full((6, 4), 7.0)).round(6).tolist()
        [[7.0, 7.0], [7.0, 7.0], [7.0, 7.0]]
    """
    distances = np.abs(np.arange(-3, 5) - 0.5) / 2
    near = 1.5 * distances**3 - 2.5 * distances**2 + 1
    far = -0.5 * distances**3 + 2.5 * distances**2 - 4 * distances + 2
    weights = np.where(distances <= 1, near, far)
    weights /= weights.sum()
    for axis in (0, 1):
        size = image.shape[axis]
        taps = 2 * np.arange((size + 1) // 2)[:, None] + np.arange(-3, 5)
        mirrored = np.concatenate([np.arange(size), np.arange(size)[::-1]])[taps % (2 * size)]
        image = np.moveaxis(np.tensordot(np.take(image, mirrored, axis=axis), weights, axes=([axis + 1], [0])), axis, axis)
    return image


def _contrast(image: ndarray, beyond: str) -> tuple[ndarray, ndarray]:
    """Brightness less its local mean over its local spread, and the spread."""
    padded = np.pad(image, _RADIUS, mode=beyond)  # pyright: ignore[reportCallIssue, reportArgumentType]
    mean = gaussian_means(padded, sigma=_SIGMA, radius=_RADIUS)
    spread = np.sqrt(np.abs(gaussian_means(padded**2, sigma=_SIGMA, radius=_RADIUS) - mean**2))
    apart = image - mean
    return np.where(np.abs(apart) < 1e-9, 0.0, apart) / (spread + 1), spread  # the last digits of a flat area are no contrast


def _block_features(contrast: ndarray) -> list[float]:
    shape, left, right = _asymmetric(contrast)
    factor = _widening(shape)
    features = [shape, (left + right) / 2 * factor]
    for shift in _SHIFTS:
        shape, left, right = _asymmetric(contrast * np.roll(contrast, shift, axis=(0, 1)))
        features += [shape, _skew(shape, left, right), left * _widening(shape), right * _widening(shape)]
    return features


@cache
def _shapes() -> tuple[ndarray, ndarray]:
    """Shapes that are tried, and the ratio of squared mean magnitude to mean square that each has."""
    shapes = np.arange(0.2, 10.001, 0.001)
    ratios = np.array([math.exp(2 * math.lgamma(2 / g) - math.lgamma(1 / g) - math.lgamma(3 / g)) for g in shapes])
    return shapes, ratios


def _symmetric(values: ndarray) -> list[float]:
    """Shape and variance of a generalised Gaussian, by moments."""
    variance, magnitude = float((values**2).mean()), float(np.abs(values).mean())
    if magnitude == 0:
        return [math.nan, math.nan]
    shapes, ratios = _shapes()
    return [float(shapes[np.abs(variance / magnitude**2 - 1 / ratios).argmin()]), variance]


def _asymmetric(values: ndarray) -> tuple[float, float, float]:
    """Shape, left and right spread of an asymmetric generalised Gaussian, by moments (Lasmar et al. 2009)."""
    # Flat areas are 0 here; in the authors' Matlab they are rounding noise, whose products with their like neighbours are positive.
    negative, positive = values[values < 0], values[values >= 0]
    if not len(negative) or not len(positive):
        return math.nan, math.nan, math.nan
    left, right = float(np.sqrt((negative**2).mean())), float(np.sqrt((positive**2).mean()))
    gamma = left / right
    ratio = np.abs(values).mean() ** 2 / (values**2).mean() * (gamma**3 + 1) * (gamma + 1) / (gamma**2 + 1) ** 2
    shapes, ratios = _shapes()
    return float(shapes[np.abs(ratio - ratios).argmin()]), left, right


def _widening(shape: float) -> float:
    """Spread to scale parameter."""
    return math.exp((math.lgamma(1 / shape) - math.lgamma(3 / shape)) / 2) if shape == shape else math.nan


def _skew(shape: float, left: float, right: float) -> float:
    """Mean of an asymmetric generalised Gaussian."""
    return (right - left) * math.exp(math.lgamma(2 / shape) - math.lgamma(1 / shape)) * _widening(shape) if shape == shape else math.nan
