"""Near duplicates among many short texts: BERTScore above a threshold, found fast enough for hundreds of thousands of queries.

Comparing all pairs token by token would take days. Texts whose mean features lie near one another are candidates; only those are
compared token by token.
"""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy import ndarray

from vernissage.metrics.bert_score import Match, TokenFeatures, match_tokens, zero_of
from vernissage.ports import Progress, TextEncoder

THRESHOLD = 0.8
"""ChatGen (arXiv 2411.17176) drops queries with a BERTScore similarity above it."""
NEIGHBOURS = 96
"""Candidates of a text among those before it."""
FEWEST = 50
"""Different texts below which nobody can say what unrelated ones score; then only equal ones are duplicates."""
ENCODED = 1024
ROWS, COLUMNS = 1024, 8192
"""Of the likeness of means that is in memory at once."""


class _Shelf:
    """Token features of all texts, in half precision, in a file: in memory they would take most of it."""

    def __init__(self, path: Path, count: int) -> None:
        self._file: BinaryIO = path.open("w+b")
        self._lengths = np.zeros(count, dtype=np.int64)
        self._starts = np.zeros(count + 1, dtype=np.int64)
        self.means = np.zeros((count, 0), dtype=np.float32)
        self._filled = 0

    def add(self, features: TokenFeatures) -> None:
        """Put one more on the shelf; its row of `means` is the unit mean of the tokens that count, zeros where none does."""
        row, width = self._filled, features.vectors.shape[1]
        if not self.means.shape[1]:
            self.means = np.zeros((len(self.means), width), dtype=np.float32)
        data = features.counted.astype(np.uint8).tobytes() + features.vectors.astype(np.float16).tobytes()
        self._file.write(data)
        self._lengths[row], self._starts[row + 1] = len(features.counted), self._starts[row] + len(data)
        if features.counted.any():
            mean = features.vectors[features.counted].mean(axis=0)
            self.means[row] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        self._filled += 1

    def __getitem__(self, row: int) -> TokenFeatures:
        start, stop, length = int(self._starts[row]), int(self._starts[row + 1]), int(self._lengths[row])
        self._file.seek(start)
        data = self._file.read(stop - start)
        vectors = np.frombuffer(data, dtype=np.float16, offset=length).reshape(length, -1).astype(np.float32)
        return TokenFeatures(vectors, np.frombuffer(data, dtype=np.uint8, count=length).astype(bool))

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def drop_near_duplicates(
    texts: Sequence[str], encoder: TextEncoder, *, threshold: float = THRESHOLD, zero: Match | None = None, progress: Progress | None = None
) -> list[int]:
    """The places of the texts that stay: those with no earlier one that stays and is too much like them.

    Args:
        texts: In order of preference. Equal ones are duplicates whatever they score.
        encoder: Whose features are compared.
        threshold: BERTScore F, rescaled, above which a text is a duplicate.
        zero: What unrelated texts score; see `sampled_zero` where left out.
        progress: Called with (done, total) texts, encoded and then compared.
    """
    first = list({text.strip(): place for place, text in reversed(list(enumerate(texts)))}.values())[::-1]
    first.sort()
    different = [texts[place] for place in first]
    if zero is None:
        zero = sampled_zero(different, encoder)
    if zero is None or zero.f >= 1 or len(different) < 2:
        return first
    total = 2 * len(different)
    with tempfile.TemporaryDirectory() as folder, closing(_Shelf(Path(folder) / "tokens", len(different))) as shelf:
        for start in range(0, len(different), ENCODED):
            for each in encoder.encode_tokens(different[start : start + ENCODED]):
                shelf.add(TokenFeatures(*each))
            if progress:
                progress(min(start + ENCODED, len(different)), total)
        stacked = shelf.means
        kept = np.zeros(0, dtype=np.int64)
        for start in range(0, len(different), ROWS):
            rows = np.arange(start, min(start + ROWS, len(different)))
            before, within = _nearest(stacked, rows, kept), stacked[rows] @ stacked[rows].T
            stay: list[int] = []
            for place, row in enumerate(rows.tolist()):
                # Only what stays can make another a double, so only that is among the candidates.
                near = [stay[each] for each in np.argsort(-within[place, stay], kind="stable")[:NEIGHBOURS]]
                others = [*before[place], *rows[near].tolist()]
                if not any(_f(shelf, row, other, zero) > threshold for other in others):
                    stay.append(place)
            kept = np.concatenate([kept, rows[stay]])
            if progress:
                progress(len(different) + int(rows[-1]) + 1, total)
    return [first[row] for row in kept.tolist()]


def sampled_zero(texts: Sequence[str], encoder: TextEncoder) -> Match | None:
    """What unrelated texts score: as published for the encoder, or from a random sample of these; None where too few differ to tell."""
    different = sorted(set(texts))
    if encoder.baseline is None and len(different) < FEWEST:
        return None
    sample = np.random.default_rng(0).permutation(len(different))[:1000]
    return zero_of([different[place] for place in sample], encoder)


def _nearest(means: ndarray, rows: ndarray, others: ndarray) -> list[list[int]]:
    """For each row the likest of others that come before it, the likest first."""
    best = np.full((len(rows), 0), -np.inf, dtype=np.float32)
    places = np.zeros((len(rows), 0), dtype=np.int64)
    for left in range(0, len(others), COLUMNS):
        part = others[left : left + COLUMNS]
        likeness = means[rows] @ means[part].T
        likeness[part[None, :] >= rows[:, None]] = -np.inf
        best = np.concatenate([best, likeness], axis=1)
        places = np.concatenate([places, np.broadcast_to(part, likeness.shape)], axis=1)
        if best.shape[1] > NEIGHBOURS:
            chosen = np.argpartition(-best, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
            best, places = np.take_along_axis(best, chosen, axis=1), np.take_along_axis(places, chosen, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    best, places = np.take_along_axis(best, order, axis=1), np.take_along_axis(places, order, axis=1)
    return [own[likely > -np.inf].tolist() for own, likely in zip(places, best, strict=True)]


def _f(shelf: _Shelf, row: int, other: int, zero: Match) -> float:
    return (match_tokens(shelf[row], shelf[other]).f - zero.f) / (1 - zero.f)
