"""Numbers and pictures by formula, the same with every version of every library: what stored numbers of other tools were computed on."""

import zlib

import numpy as np
from numpy import ndarray
from PIL import Image


def spread_evenly(name: str, shape: tuple[int, ...], spread: float = 1.0) -> ndarray:
    """Float32 numbers between -spread and spread that look random (MurmurHash's last steps on their places and a name)."""
    x = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()) << 32)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x ^= x >> np.uint64(33)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(33)
    return (((x >> np.uint64(11)).astype(np.float64) / 2**52 - 1) * spread).astype(np.float32).reshape(shape)


def grey(height: int, width: int) -> ndarray:
    """Slow and fast waves and some noise, whole numbers from 0 to 255 as float64; waves and noise grow to the right."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = 30 * np.sin(x / 7 + y / 13) + 20 * np.sin(y / 3 - x / 5) + 10 * np.sin(x * y / 97)
    noise = 24 * spread_evenly("grey", (height, width)).astype(np.float64) * (0.3 + x / width)
    return np.round(128 + waves * (0.6 + x / (2 * width)) + noise).clip(0, 255)


def colours(width: int, height: int) -> Image.Image:
    """A picture of waves of three colours with some noise."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    channels = [128 + 70 * np.sin(x / (9 + 4 * channel) + y / (17 - 3 * channel) + channel) for channel in range(3)]
    noise = 30 * spread_evenly("colours", (height, width, 3)).astype(np.float64)
    return Image.fromarray(np.round(np.stack(channels, axis=2) + noise).clip(0, 255).astype(np.uint8))
