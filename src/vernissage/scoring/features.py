"""Features by picture content, kept on disk, so that a folder is encoded once however often and for however many metrics it is scored."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray
from PIL import Image

from vernissage.metrics.distribution import Statistics, gather, merge
from vernissage.ports import ImageEncoder


class FeatureStore:
    """An encoder with a memory on disk: a file of rows, and one with their keys.

    Rows are written before their keys, so that a row that was cut off has no key and is written over.

    Args:
        encoder: Who encodes what is new.
        folder: For the files; none keeps nothing.
    """

    def __init__(self, encoder: ImageEncoder, folder: Path | None) -> None:
        self.encoder = encoder
        self._stem = folder / f"features-{hashlib.sha256(encoder.name.encode()).hexdigest()[:12]}" if folder else None
        self._places: dict[str, int] = {}
        self._width = 0
        if self._stem and self._keys.is_file():
            width, *keys = self._keys.read_text(encoding="utf-8").splitlines() or ["0"]
            self._width = int(width)
            whole = self._rows.stat().st_size // (4 * self._width) if self._rows.is_file() and self._width else 0
            self._places = {key: place for place, key in enumerate(keys[:whole])}

    @property
    def _keys(self) -> Path:
        assert self._stem is not None
        return self._stem.with_suffix(".keys")

    @property
    def _rows(self) -> Path:
        assert self._stem is not None
        return self._stem.with_suffix(".f32")

    def encode(self, keys: Sequence[str], images: Sequence[Image.Image]) -> ndarray:
        """Features as they are, shape (image, feature), float32; only pictures whose key is new are encoded."""
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self._places}
        found: dict[str, ndarray] = {}
        if new:
            encoded = self.encoder.encode_raw(list(new.values()))
            found = dict(zip(new, encoded, strict=True))
            self._keep(list(new), encoded)
        known = [key for key in dict.fromkeys(keys) if key not in found]
        if known:
            rows = np.memmap(self._rows, dtype=np.float32, mode="r").reshape(-1, self._width)
            found |= {key: np.array(rows[self._places[key]]) for key in known}
        return np.stack([found[key] for key in keys]) if keys else np.empty((0, self._width), dtype=np.float32)

    def _keep(self, keys: list[str], rows: ndarray) -> None:
        if self._stem is None:
            return
        self._stem.parent.mkdir(parents=True, exist_ok=True)
        self._width = rows.shape[1]
        with self._rows.open("r+b" if self._rows.exists() else "w+b") as file:
            file.truncate(4 * self._width * len(self._places))
            file.seek(0, 2)
            file.write(np.ascontiguousarray(rows, dtype=np.float32).tobytes())
        fresh = not self._places
        with self._keys.open("w" if fresh else "a", encoding="utf-8") as file:
            file.write((f"{self._width}\n" if fresh else "") + "".join(f"{key}\n" for key in keys))
        self._places |= {key: len(self._places) + index for index, key in enumerate(keys)}


class Gathered:
    """What distances between sets need of one set: statistics of all features, and a sample of them.

    Args:
        limit: Features that are kept for distances that need them all; of more, a sample by lot.
    """

    def __init__(self, *, limit: int = 10_000) -> None:
        self.statistics: Statistics | None = None
        self.sample: list[ndarray] = []
        self.seen = 0
        self._limit = limit
        self._rng = np.random.default_rng(0)

    def add(self, rows: ndarray) -> None:
        """Take in the features of some pictures."""
        if not len(rows):
            return
        found = gather(rows)
        self.statistics = found if self.statistics is None else merge(self.statistics, found)
        for row in rows:  # reservoir sampling: every picture has the same chance to be kept
            self.seen += 1
            if len(self.sample) < self._limit:
                self.sample.append(row)
            elif (place := int(self._rng.integers(self.seen))) < self._limit:
                self.sample[place] = row

    @property
    def features(self) -> ndarray:
        """The sample, shape (picture, feature)."""
        return np.stack(self.sample) if self.sample else np.empty((0, 0), dtype=np.float32)
