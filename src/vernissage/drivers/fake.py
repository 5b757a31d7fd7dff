"""Scripted stand-ins for every port, for tests of yours and ours. A fake never stands in for a result."""

import hashlib
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
from numpy import ndarray
from PIL import Image

from vernissage.drivers.replies import read_reply
from vernissage.errors import ReplyError, VernissageError
from vernissage.ports import Ask, Detection, Progress, Reply, Thresholds
from vernissage.records.picture import Picture, Provenance
from vernissage.records.plan import Plan
from vernissage.zoo.catalogue import Catalogue


@final
class FakeMLLM:
    """Answers from a script: a list of texts in turn, or a function of the question. Keeps what it was asked."""

    def __init__(self, script: Sequence[str] | Callable[[Ask], str] = (), *, brief: bool = False) -> None:
        self.name = "fake"
        self.brief = brief
        self.asked: list[Ask] = []
        self._script = script if callable(script) else iter(script)

    def answer(self, asks: Sequence[Ask]) -> list[Reply | VernissageError]:
        """Answer all questions, in order; a script that has run out gives `ReplyError`s."""
        replies: list[Reply | VernissageError] = []
        for ask in asks:
            self.asked.append(ask)
            try:
                text = self._script(ask) if callable(self._script) else next(self._script, None)
                if text is None:
                    raise ReplyError("The script of this fake has run out.", reply="")
                replies.append(read_reply(text, ask.reply))
            except VernissageError as error:
                replies.append(error)
        return replies

    def choose(self, asks: Sequence[Ask], options: Sequence[str]) -> list[ndarray | VernissageError]:
        """The first option with certainty."""
        self.asked += asks
        return [np.eye(len(options))[0] for _ in asks]


@final
class FakeDetector:
    """Finds what a function of picture and names says; keeps what it was asked for."""

    def __init__(
        self,
        script: Callable[[Image.Image, Sequence[str]], list[Detection] | VernissageError] = lambda _image, _names: [],
        *,
        known: frozenset[str] | None = None,
    ) -> None:
        self.name = "fake"
        self.known = known
        self.thresholds = Thresholds()
        self.asked: list[list[str]] = []
        self._script = script

    def detect(self, images: Sequence[Image.Image], names: Sequence[Sequence[str]]) -> list[list[Detection] | VernissageError]:
        """What the script says, in order."""
        self.asked += [list(own) for own in names]
        return [self._script(image, own) for image, own in zip(images, names, strict=True)]


@final
class FakeT2I:
    """Paints one flat colour that follows from prompt and seed."""

    def __init__(self, catalogue: Catalogue | None = None) -> None:
        self.catalogue = catalogue
        self.painted: list[Plan] = []

    def paint(self, plans: Sequence[Plan], *, progress: Progress | None = None) -> list[Picture | VernissageError]:
        """Paint each plan, in order."""
        results: list[Picture | VernissageError] = []
        for done, plan in enumerate(plans, start=1):
            self.painted.append(plan)
            try:
                results.append(self._paint_one(plan))
            except VernissageError as error:
                results.append(error)
            if progress:
                progress(done, len(plans))
        return results

    def _paint_one(self, plan: Plan) -> Picture:
        if self.catalogue is not None:
            self.catalogue[plan.model].check(plan)
        size = (plan.arguments.width or 64, plan.arguments.height or 64)
        digest = hashlib.sha256(f"{plan.prompt}|{plan.arguments.seed}".encode()).digest()
        return Picture.of(Image.new("RGB", size, (digest[0], digest[1], digest[2])), Provenance(plan=plan))


@final
class FakeEncoder:
    """Features from content hashes: equal pictures are equal, others are not."""

    name = "fake"

    def encode(self, images: Sequence[Image.Image]) -> ndarray:
        """Features of shape (image, 8), float32, unit length."""
        return _hashed([image.tobytes() for image in images])

    def encode_raw(self, images: Sequence[Image.Image]) -> ndarray:
        """The same, twice as long."""
        return 2 * self.encode(images)

    def encode_text(self, texts: Sequence[str]) -> ndarray:
        """Features of shape (text, 8), float32, unit length."""
        return _hashed([text.encode() for text in texts])


def _hashed(contents: Sequence[bytes]) -> ndarray:
    seeds = [int.from_bytes(hashlib.sha256(content).digest()[:8], "big") for content in contents]
    rows = np.stack([np.random.default_rng(seed).normal(size=8) for seed in seeds]) if seeds else np.empty((0, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
