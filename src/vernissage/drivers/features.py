"""What all encoders share: features as rows, of unit length, and a cache by content."""

import hashlib
import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy import ndarray
from PIL import Image
from torch import Tensor

from vernissage.local.streams import batches, side_by_side


def to_rows(features: Tensor) -> ndarray:
    """Features as float32 rows on the CPU."""
    return features.float().cpu().numpy()


def unit_length(rows: ndarray) -> ndarray:
    """Rows scaled to length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


class FeatureCache:
    """Features by picture content, so that a picture that comes back is not encoded again.

    Args:
        width: Length of a feature vector.
        device: Where pictures are encoded.
        limit: How many pictures are remembered.
    """

    def __init__(self, width: int, device: torch.device, *, limit: int = 4096) -> None:
        self._width = width
        self._device = device
        self._limit = limit
        self._rows: dict[str, ndarray] = {}
        self._one_at_a_time = threading.Lock()

    def encode(self, images: Sequence[Image.Image], encode_new: Callable[[Sequence[Image.Image]], ndarray], batch_size: int) -> ndarray:
        """Features in the order of the images; only unseen ones are encoded, each once, in batches, as RGB."""
        if not images:
            return np.empty((0, self._width), dtype=np.float32)
        # The bytes of other modes do not tell all: palettes are apart.
        seen = [image if image.mode == "RGB" else image.convert("RGB") for image in images]
        keys = [hashlib.blake2b(f"{image.size}".encode() + image.tobytes()).hexdigest() for image in seen]
        with self._one_at_a_time:
            rows: dict[str, ndarray] = {key: self._rows[key] for key in keys if key in self._rows}
            new = {key: image for key, image in zip(keys, seen, strict=True) if key not in rows}
            parts = batches(list(new.values()), batch_size, self._device)
            encoded = [row for rows_of_part in side_by_side(encode_new, parts, self._device) for row in rows_of_part]
            rows |= dict(zip(new, encoded, strict=True))
            self._rows |= {key: rows[key] for key in new}
            while len(self._rows) > self._limit:
                self._rows.pop(next(iter(self._rows)))
        return np.stack([rows[key] for key in keys])


def centre_square(image: Image.Image, side: int) -> Image.Image:
    """As torchvision's Resize and CenterCrop make it: half a pixel is rounded to the even one."""
    width, height = (side if each == min(image.size) else int(side * each / min(image.size)) for each in image.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
