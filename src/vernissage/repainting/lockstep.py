"""Many pieces of work side by side, their questions, encodings and paintings each in one batch.

A piece of work is a generator: it yields what it needs from outside and is sent the answers, so that the road of one
reference reads from top to bottom. `run_together` moves a group of them forward in step: first everybody's questions are
answered together, until all wait for encodings or pictures, then those are made together. What is batched with what thus
follows from the group alone, never from timing, and a run that was cut off and resumed gives the same pictures.

Knows nothing about repainting.
"""

from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, final

import numpy as np
from numpy import ndarray
from PIL import Image

from vernissage.errors import DriverError, VernissageError
from vernissage.ports import MLLM, T2I, Ask, ImageEncoder, Judge, Progress, Reply, Scorer
from vernissage.records.picture import Picture
from vernissage.records.plan import Plan
from vernissage.records.verdict import Score, Unscored, Verdict

Result = TypeVar("Result")


class Questions(NamedTuple):
    """Independent questions; answered with a reply or an error each."""

    asks: Sequence[Ask]


class Encodings(NamedTuple):
    """Pictures to encode; answered with features (image, feature) by encoder name."""

    images: Sequence[Image.Image]


class Judgements(NamedTuple):
    """Pictures to judge, each with what it should show and yes/no questions; answered with a verdict or an error each."""

    cases: Sequence[tuple[Image.Image, str, tuple[str, ...]]]


class Comparisons(NamedTuple):
    """Pictures to hold against others, in pairs; answered with scores of each pair by name of whoever compares, maybe nobody."""

    pairs: Sequence[tuple[Image.Image, Image.Image]]


class Paintings(NamedTuple):
    """Plans to paint; answered with a picture or an error each."""

    plans: Sequence[Plan]


Request = Questions | Judgements | Encodings | Comparisons | Paintings
Work = Generator[Request, Any, Result]


class Ports(NamedTuple):
    """Who answers the requests."""

    mllm: MLLM
    t2i: T2I
    encoders: dict[str, ImageEncoder]
    judge: Judge | None = None
    comparers: Mapping[str, Scorer] = MappingProxyType({})
    """Learned metrics of picture and reference, such as LPIPS."""


def run_together(works: Sequence[Work[Result]], ports: Ports) -> list[Result | VernissageError]:
    """Run works to their ends, in step.

    Returns:
        The result of each, in order; of one that raised a `VernissageError`, that error. The work of an encoder that fails
        is told by an error raised at its `yield`.
    """
    results: dict[int, Result | VernissageError] = {}
    waiting: dict[int, Request] = {}

    def send(index: int, answer: Any) -> None:
        try:
            failed = isinstance(answer, VernissageError)
            waiting[index] = works[index].throw(answer) if failed else works[index].send(answer)
        except StopIteration as end:
            results[index] = end.value
        except VernissageError as error:
            results[index] = error

    for index in range(len(works)):
        send(index, None)
    while waiting:
        kind = next(
            kind
            for kind in (Questions, Judgements, Encodings, Comparisons, Paintings)
            if any(isinstance(request, kind) for request in waiting.values())
        )
        together = {index: waiting.pop(index) for index in sorted(waiting) if isinstance(waiting[index], kind)}
        answers = _serve(list(together.values()), ports)
        for index, answer in zip(together, answers, strict=True):
            send(index, answer)
    return [results[index] for index in range(len(works))]


def _serve(requests: Sequence[Any], ports: Ports) -> list[Any]:
    """Answers to requests of one kind, asked for all at once and dealt out again.

    Where a port fails as a whole, every question, judgement or plan gets its error; an encoding, which has no place for one, is
    answered by the error itself, which is raised in the work.
    """
    kind = type(requests[0])
    wanted = [thing for request in requests for thing in request[0]]
    sizes = [len(request[0]) for request in requests]
    if not wanted:
        nothing = {name: np.empty((0, 0)) for name in ports.encoders} if kind is Encodings else {} if kind is Comparisons else []
        return [nothing for _ in requests]
    try:
        if kind is Encodings:
            rows = {name: _deal(encoder.encode(wanted), sizes) for name, encoder in ports.encoders.items()}
            return [{name: parts[index] for name, parts in rows.items()} for index in range(len(requests))]
        if kind is Comparisons:
            scores = {name: _deal(_compared(scorer, wanted), sizes) for name, scorer in ports.comparers.items()}
            return [{name: parts[index] for name, parts in scores.items()} for index in range(len(requests))]
        if kind is Judgements:
            return _deal(_verdicts(wanted, ports.judge), sizes)
        return _deal(ports.mllm.answer(wanted) if kind is Questions else ports.t2i.paint(wanted), sizes)
    except VernissageError as error:
        return [error] * len(requests) if kind is Encodings else _deal([error] * len(wanted), sizes)


def _compared(scorer: Scorer, pairs: Sequence[tuple[Image.Image, Image.Image]]) -> list[Score | Unscored]:
    try:
        return scorer.score([picture for picture, _ in pairs], [None] * len(pairs), [other for _, other in pairs])
    except VernissageError as error:
        return [Unscored(reason=str(error))] * len(pairs)


def _verdicts(cases: Sequence[tuple[Image.Image, str, tuple[str, ...]]], judge: Judge | None) -> list[Verdict]:
    if judge is None:
        raise DriverError("there is no judge here")
    images, texts, questions = zip(*cases, strict=True)
    return judge.judge(images, texts, questions)


def _deal(things: Any, sizes: Sequence[int]) -> list[Any]:
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [things[end - size : end] for end, size in zip(ends, sizes, strict=True)]


Replies = list[Reply | VernissageError]
Features = dict[str, ndarray]
Pictures = list[Picture | VernissageError]


@final
class Reporting:
    """A painter that reports how many of all pictures are painted."""

    def __init__(self, t2i: T2I, progress: Progress, total: int) -> None:
        self._t2i, self._progress = t2i, progress
        self._done, self._total = 0, total
        progress(0, total)

    def paint(self, plans: Sequence[Plan], *, progress: Progress | None = None) -> list[Picture | VernissageError]:
        """See `ports.T2I`."""
        painted = self._t2i.paint(plans, progress=progress)
        self._done += len(plans)
        self._progress(self._done, self._total)
        return painted
