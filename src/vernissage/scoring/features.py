"""Features by picture content, kept on disk, so that a folder is encoded once however often and for however many metrics it is scored."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy import ndarray
from PIL import Image

from vernissage.errors import BadInput
from vernissage.metrics.distribution import Statistics, gather, merge
from vernissage.ports import ImageEncoder

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

_MAGIC = b"vernissage features 1\n"
_KEY = 16
SAMPLE = 10_000
"""Features of a set that are kept for distances that need them all."""
KEPT = 4096
"""Rows that stay in memory."""


class FeatureStore:
    """An encoder with a memory, on disk where a folder is given.

    The file is a header with the width and then records of one length, key and row together, only ever appended: a record that was cut
    off is dropped when the file is written again, and several processes may use one file. In memory are only the places of the records
    and the newest rows, so that it hardly grows with the number of pictures.

    Args:
        encoder: Who encodes what is new.
        folder: For the file; none keeps the newest features for this run alone.
    """

    def __init__(self, encoder: ImageEncoder, folder: Path | None) -> None:
        self.encoder = encoder
        self._path = folder / f"{hashlib.sha256(encoder.name.encode()).hexdigest()[:12]}.features" if folder else None
        self._recent: dict[bytes, ndarray] = {}
        self._inode = 0
        self._records: ndarray | None = None
        self._places: dict[bytes, int] = {}
        self._look()

    def encode(self, keys: Sequence[bytes], images: Sequence[Image.Image]) -> ndarray:
        """Features as they are, shape (image, feature), float32; only pictures whose key is new are encoded.

        Rows that are not finite are given back, but not kept.

        Raises:
            BadInput: The folder cannot be written.
        """
        found = {key: row for key in set(keys) if (row := self._known(key)) is not None}
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in found}
        if new:
            rows = dict(zip(new, np.asarray(self.encoder.encode_raw(list(new.values())), dtype=np.float32), strict=True))
            width = len(next(iter(rows.values())))
            if any(len(row) != width for row in found.values()):
                self._recent, self._places = {}, {}  # the encoder of that name gives other features now
                return self.encode(keys, images)
            found |= rows
            self._keep({key: row for key, row in rows.items() if np.isfinite(row).all()})
        return np.stack([found[key] for key in keys]) if keys else np.empty((0, 0), np.float32)

    def _known(self, key: bytes) -> ndarray | None:
        if key in self._recent or key not in self._places or self._records is None:
            return self._recent.get(key)
        return np.array(self._records["row"][self._places[key]])

    def _keep(self, rows: dict[bytes, ndarray]) -> None:
        self._recent |= rows
        if self._path and rows:
            _append(self._path, rows)
            self._look()
        for key in list(self._recent)[: max(0, len(self._recent) - KEPT)]:
            del self._recent[key]

    def _look(self) -> None:
        """Take in what records the file has by now; another file in its place is read from its beginning."""
        if self._path is None:
            return
        try:
            with self._path.open("rb") as file:
                there, head = os.fstat(file.fileno()), file.read(len(_header(0)))
            if there.st_ino != self._inode:
                self._inode, self._records, self._places = there.st_ino, None, {}
            width = int.from_bytes(head[len(_MAGIC) :], "little")
            seen = len(self._records) if self._records is not None else 0
            count = (there.st_size - len(head)) // (_KEY + 4 * width)
            if len(head) < len(_header(0)) or not head.startswith(_MAGIC) or width == 0 or count <= seen:
                return
            kind = np.dtype([("key", f"V{_KEY}"), ("row", "<f4", (width,))])
            self._records = np.memmap(self._path, dtype=kind, mode="r", offset=len(head), shape=(count,))
        except OSError:
            return
        self._places |= {key.tobytes(): place for place, key in enumerate(np.array(self._records["key"][seen:]), start=seen)}


def _header(width: int) -> bytes:
    return _MAGIC + width.to_bytes(4, "little")


def _append(path: Path, rows: dict[bytes, ndarray]) -> None:
    """Add records under a lock; a file of another width, or with a cut record at its end, is mended first."""
    width = len(next(iter(rows.values())))
    head, size = _header(width), _KEY + 4 * width
    records = b"".join(key + row.tobytes() for key, row in rows.items())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with path.open("a+b") as file, _locked(file):
                if path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                    continue  # another process has put a new file in its place meanwhile
                file.seek(0)
                found, end = file.read(len(head)), file.seek(0, 2)
                if found == head or not end:
                    file.truncate(len(head) + (end - len(head)) // size * size if end else 0)
                    file.write(records if end else head + records)
                    return
            # Never cut short what another process has mapped: the old file goes its way, a new one takes its name.
            fresh = path.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(head + records)
            fresh.replace(path)
            return
    except OSError as error:
        raise BadInput(f"Cannot keep features in {path}: {error.strerror}.", hint="Choose another folder.") from error


@contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """No other process writes meanwhile; where the system has no such locks, one process at a time must do."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)
    yield


class Gathered:
    """What distances between sets need of one set: statistics of all features, and a sample of them.

    Args:
        limit: Features that are kept for distances that need them all; of more, a random sample.
    """

    def __init__(self, *, limit: int = SAMPLE) -> None:
        self.statistics: Statistics | None = None
        self.sample: list[ndarray] = []
        self.seen = 0
        self.missing = 0
        """Pictures that could not be read or encoded."""
        self._limit = limit
        self._rng = np.random.default_rng(0)

    def add(self, rows: ndarray, *, asked: int) -> None:
        """Take in the features of some pictures; of `asked`, those without finite features are counted as missing."""
        rows = rows[np.isfinite(rows).all(axis=1)] if len(rows) else rows
        self.missing += asked - len(rows)
        if not len(rows):
            return
        found = gather(rows)
        self.statistics = found if self.statistics is None else merge(self.statistics, found)
        for row in rows:  # reservoir sampling: every picture has the same chance to be kept
            self.seen += 1
            if len(self.sample) < self._limit:
                self.sample.append(np.array(row))
            elif (place := int(self._rng.integers(self.seen))) < self._limit:
                self.sample[place] = np.array(row)

    @property
    def features(self) -> ndarray:
        """The sample, shape (picture, feature)."""
        return np.stack(self.sample) if self.sample else np.empty((0, 0), dtype=np.float32)
