"""How alike two pictures are, from their pixels."""

from functools import partial

import numpy as np
from numpy import ndarray

from vernissage.errors import BadInput

_SIGMA = 1.5  # of the Gaussian window; Wang et al. 2004, section III.B
_RADIUS = 5
_K1, _K2 = 0.01, 0.03
_STRIP = 400_000
"""Values of a picture that are compared at once."""


def ssim(first: ndarray, second: ndarray) -> float:
    """Structural similarity of two pictures, averaged over pixels and channels.

    Args:
        first: Shape (height, width, channel) or (height, width), values 0 to 255, at least 11 pixels a side.
        second: Same shape.

    Returns:
        In [-1, 1]; 1 means equal.

    Raises:
        BadInput: Shapes differ, or a side is shorter than 11 pixels.

    References:
        Wang, Bovik, Sheikh and Simoncelli (2004), Image quality assessment, eq. 13, Gaussian window of 11 pixels; only
        pixels whose whole window lies inside are averaged, as scikit-image does.

    Example:
        >>> grey = np.full((16, 16), 128)
        >>> ssim(grey, grey)
        1.0
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.ndim not in (2, 3):
        raise BadInput(f"SSIM compares pictures of one size, not {first.shape} and {second.shape}.", hint="Resize one of them first.")
    if min(first.shape[:2]) < 2 * _RADIUS + 1:
        raise BadInput(f"SSIM needs at least {2 * _RADIUS + 1} pixels a side, not {first.shape[:2]}.", hint="Use larger pictures.")
    rows = len(first) - 2 * _RADIUS  # strip by strip, so that a large picture does not fill the memory
    strip = max(1, _STRIP // first[0].size)
    parts = [slice(start, start + strip + 2 * _RADIUS) for start in range(0, rows, strip)]
    maps = (_similarity_map(first[part].astype(float), second[part].astype(float)) for part in parts)
    return float(sum(each.sum() for each in maps) / (rows * (first.shape[1] - 2 * _RADIUS) * first[0, 0].size))


def _similarity_map(first: ndarray, second: ndarray) -> ndarray:
    """SSIM at each pixel whose window lies inside."""
    blur = partial(gaussian_means, sigma=_SIGMA, radius=_RADIUS)
    mean_1, mean_2 = blur(first), blur(second)
    variance_1, variance_2 = blur(first**2) - mean_1**2, blur(second**2) - mean_2**2
    covariance = blur(first * second) - mean_1 * mean_2
    c1, c2 = (_K1 * 255) ** 2, (_K2 * 255) ** 2
    likeness = (2 * mean_1 * mean_2 + c1) * (2 * covariance + c2)
    return likeness / ((mean_1**2 + mean_2**2 + c1) * (variance_1 + variance_2 + c2))


def gaussian_means(values: ndarray, *, sigma: float, radius: int) -> ndarray:
    """Gaussian means over all square windows that lie inside, over the first two axes."""
    window = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    window /= window.sum()
    for axis in (0, 1):
        length = values.shape[axis] - 2 * radius
        shifted = [values[at : at + length] if axis == 0 else values[:, at : at + length] for at in range(len(window))]
        total, product = shifted[0] * window[0], np.empty(shifted[0].shape)
        for part, weight in zip(shifted[1:], window[1:], strict=True):
            total += np.multiply(part, weight, out=product)
        values = total
    return values


def psnr(first: ndarray, second: ndarray) -> float:
    """Peak signal-to-noise ratio of two pictures in decibels: 10 log10(255^2 / mean squared error).

    Args:
        first: Shape (height, width, channel) or (height, width), values 0 to 255.
        second: Same shape.

    Returns:
        Higher is more alike; 100 where they are equal or nearly so, of which there is no finite ratio.

    Raises:
        BadInput: Shapes differ.

    Example:
        >>> round(psnr(np.zeros((4, 4)), np.full((4, 4), 255.0)), 6)
        0.0
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape:
        raise BadInput(f"PSNR compares pictures of one size, not {first.shape} and {second.shape}.", hint="Resize one of them first.")
    error = float(((first - second) ** 2).mean())
    return 100.0 if error < 255**2 / 1e10 else float(10 * np.log10(255**2 / error))
