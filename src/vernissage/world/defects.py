"""Defects of a picture, by kind and strength, so that its quality is known because it was spoiled on purpose."""

from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageFilter

Defect = Literal["blur", "noise", "warp"]
DEFECTS: tuple[Defect, ...] = get_args(Defect)
STRONGEST = 4


def spoil(image: Image.Image, defect: Defect, strength: int, *, seed: int = 0) -> Image.Image:
    """The picture with a defect.

    Args:
        image: RGB, any size; blur and waves grow with the size, so that the picture as a whole looks alike.
        defect: "blur" (Gaussian), "noise" (Gaussian, per pixel and channel) or "warp" (shapes bent by smooth waves).
        strength: 0 (none) to 4 (ruined).
        seed: Decides noise and waves.

    Example:
        >>> picture = Image.new("RGB", (8, 8), "red")
        >>> spoil(picture, "noise", 0).tobytes() == picture.tobytes()
        True
    """
    if strength == 0:
        return image
    scale = max(image.size) / 128
    rng = np.random.default_rng(seed)
    if defect == "blur":
        return image.filter(ImageFilter.GaussianBlur(0.9 * strength * scale))
    pixels = np.asarray(image, dtype=np.float32)
    if defect == "noise":
        noisy = pixels + rng.normal(0, 16 * strength, size=pixels.shape)
        return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    rows, columns = np.mgrid[: image.height, : image.width].astype(np.float32)
    shift = 1.3 * strength * scale
    waves = rng.uniform(0, 2 * np.pi, size=4)
    period = 2 * np.pi / (22 * scale)
    source_rows = rows + shift * np.sin(columns * period + waves[0]) + 0.5 * shift * np.sin(rows * period + waves[1])
    source_columns = columns + shift * np.sin(rows * period + waves[2]) + 0.5 * shift * np.sin(columns * period + waves[3])
    source_rows = np.clip(np.rint(source_rows), 0, image.height - 1).astype(int)
    source_columns = np.clip(np.rint(source_columns), 0, image.width - 1).astype(int)
    return Image.fromarray(pixels[source_rows, source_columns].astype(np.uint8))
