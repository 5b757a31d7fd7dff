"""What all encoders share: features as rows, of unit length, and a cache by content."""

import hashlib
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy import ndarray
from PIL import Image
from torch import Tensor


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
        limit: How many pictures are remembered.
    """

    def __init__(self, width: int, *, limit: int = 4096) -> None:
        self._width = width
        self._limit = limit
        self._rows: dict[str, ndarray] = {}
        self._one_at_a_time = threading.Lock()

    def encode(self, images: Sequence[Image.Image], encode_new: Callable[[Sequence[Image.Image]], ndarray], batch_size: int) -> ndarray:
        """Features in the order of the images; only unseen ones are encoded, each once, in batches, as RGB."""
        if not images:
            return np.empty((0, self._width), dtype=np.float32)
        seen = [image.convert("RGB") for image in images]  # the bytes of other modes do not tell all: palettes are apart
        keys = [hashlib.blake2b(f"{image.size}".encode() + image.tobytes()).hexdigest() for image in seen]
        with self._one_at_a_time:
            rows: dict[str, ndarray] = {key: self._rows[key] for key in keys if key in self._rows}
            new = {key: image for key, image in zip(keys, seen, strict=True) if key not in rows}
            for start in range(0, len(new), batch_size):
                part = list(new)[start : start + batch_size]
                rows |= dict(zip(part, encode_new([new[key] for key in part]), strict=True))
            self._rows |= {key: rows[key] for key in new}
            while len(self._rows) > self._limit:
                self._rows.pop(next(iter(self._rows)))
        return np.stack([rows[key] for key in keys])
