"""Scoring pictures with many metrics at once: one decoding, one encoding by each encoder, whoever else is asked once a picture.

A picture that cannot be read, or lacks what a metric needs, is Unscored with the reason; the others are scored all the same.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from PIL import Image

from vernissage.errors import BadInput, VernissageError
from vernissage.metrics.distribution import Manifold, Statistics, frechet_distance, kernel_distance, load_statistics, manifold_scores
from vernissage.metrics.similarity import psnr, ssim
from vernissage.ports import MLLM, Ask, ImageEncoder, Judge, Message, Progress, Scorer, TextImageEncoder
from vernissage.prompts import load_prompt
from vernissage.records.picture import Picture, read_plan
from vernissage.records.verdict import Score, Unscored, Verdict
from vernissage.scoring.features import FeatureStore, Gathered
from vernissage.scoring.layouts import Entry, find_entries
from vernissage.scoring.registry import Metric

CHUNK = 64
"""Pictures that are in memory at once; as many again are decoded ahead."""
Found = Score | Unscored
NO_PROMPT, NO_REFERENCE = Unscored(reason="no prompt is known"), Unscored(reason="there is no reference picture of that name")


class Sources(NamedTuple):
    """Who encodes, answers and judges; only those that the chosen metrics need."""

    clip: TextImageEncoder | None = None
    dinov2: ImageEncoder | None = None
    mllm: MLLM | None = None
    judge: Judge | None = None
    scorers: Mapping[str, Scorer] = MappingProxyType({})
    """Learned metrics by name."""


class Scored(NamedTuple):
    """The scores of a folder."""

    entries: list[Entry]
    pictures: dict[str, list[Found]]
    """By metric, one score a picture."""
    sets: dict[str, Found]
    """By metric, of the whole set."""
    unread: Mapping[int, Unscored] = MappingProxyType({})
    """Pictures that could not be read, by place among the entries."""


class Opened(NamedTuple):
    """A picture that could be read."""

    key: bytes
    """Hash of its file."""
    image: Image.Image
    prompt: str | None
    reference: "Opened | Unscored | None"
    """The reference picture of its name, or why it cannot be read; None where there is none."""


def score_entries(
    entries: Sequence[Entry],
    metrics: Sequence[Metric],
    sources: Sources,
    *,
    reference: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Scored:
    """Score pictures, and the set of them.

    Args:
        entries: See `layouts.find_entries`.
        metrics: See `registry.find_metrics`.
        sources: Whoever the metrics need.
        reference: Folder of reference pictures, matched by name for scores of pairs, all of them for scores of sets; for Frechet distances
            also an .npz of statistics.
        cache: Folder that keeps features and slow scores by content, so that a run that was cut off goes on.
        progress: Called with (done, total) pictures, those of a reference set among them.

    Raises:
        BadInput: A metric needs reference pictures and there are none, or somebody who is not configured, or the cache cannot be written.
    """
    _check(metrics, sources, reference)
    single, sets = [metric for metric in metrics if not metric.of_set], [metric for metric in metrics if metric.of_set]
    given = load_statistics(reference) if sets and reference and not reference.is_dir() else None
    pairs = _by_name(reference) if any("reference" in metric.needs for metric in metrics) and reference else None
    others = find_entries(reference) if sets and reference and reference.is_dir() else []
    by_name: dict[str, FeatureStore] = {}  # one encoder may be both
    stores: dict[str, FeatureStore] = {}
    for name in ("clip", "dinov2"):
        encoder = getattr(sources, name)
        if encoder is not None:
            if encoder.name not in by_name:  # opening one reads its file
                by_name[encoder.name] = FeatureStore(encoder, cache)
            stores[name] = by_name[encoder.name]
    known = _Journal(cache)
    total, done = len(entries) + len(others), 0
    scores: dict[str, list[Found]] = {metric.name: [] for metric in single}
    unread: dict[int, Unscored] = {}
    mine, theirs = ({name: Gathered() for name in _encoders(sets)} for _ in range(2))
    for part in _opened(entries, pairs):
        unread |= {done + index: each for index, each in enumerate(part) if isinstance(each, Unscored)}
        chunk = Chunk([each for each in part if isinstance(each, Opened)], sources, stores)
        for metric in single:
            found = iter(_score_chunk(metric, chunk, known))
            scores[metric.name] += [next(found) if isinstance(each, Opened) else each for each in part]
        for name, gathered in mine.items():
            gathered.add(chunk.raw(name), asked=len(part))
        done += len(part)
        if progress:
            progress(done, total)
    for part in _opened(others, None):
        chunk = Chunk([each for each in part if isinstance(each, Opened)], sources, stores)
        for name, gathered in theirs.items():
            gathered.add(chunk.raw(name), asked=len(part))
        done += len(part)
        if progress:
            progress(done, total)
    manifolds: dict[str, Manifold] = {}
    return Scored(list(entries), scores, {metric.name: _score_set(metric, mine, theirs, given, manifolds) for metric in sets}, unread)


class Chunk:
    """Some pictures with everything that metrics share; each is computed when first asked for, once."""

    def __init__(self, pictures: list[Opened], sources: Sources, stores: dict[str, FeatureStore]) -> None:
        self.pictures, self.sources, self._stores = pictures, sources, stores
        self._raw: dict[str, ndarray] = {}
        self._verdicts: dict[int, Verdict] = {}

    def raw(self, encoder: str) -> ndarray:
        """Features as they are, shape (picture, feature)."""
        if encoder not in self._raw:
            self._raw[encoder] = self._stores[encoder].encode([each.key for each in self.pictures], [each.image for each in self.pictures])
        return self._raw[encoder]

    def cosines(self, encoder: str) -> list[float]:
        """Picture against its reference; not a number for those that have none."""
        others = {each.reference.key: each.reference.image for each in self.pictures if isinstance(each.reference, Opened)}
        rows = dict(zip(others, self._stores[encoder].encode(list(others), list(others.values())), strict=True)) if others else {}
        mine = zip(self.pictures, self.raw(encoder), strict=True)
        return [_cosine(row, rows[each.reference.key]) if isinstance(each.reference, Opened) else np.nan for each, row in mine]

    @cached_property
    def text_cosines(self) -> list[float]:
        """Picture against its prompt under CLIP; not a number for those that have none."""
        prompts = list(dict.fromkeys(each.prompt for each in self.pictures if each.prompt))
        assert self.sources.clip is not None
        rows = dict(zip(prompts, self.sources.clip.encode_text(prompts), strict=True)) if prompts else {}
        mine = zip(self.pictures, self.raw("clip"), strict=True)
        return [_cosine(row, rows[each.prompt]) if each.prompt else np.nan for each, row in mine]

    def verdicts(self, rows: Sequence[int]) -> list[Verdict]:
        """What the judge says of some of them, asked once about each; perception and correspondence come together."""
        assert self.sources.judge is not None
        left = [row for row in rows if row not in self._verdicts]
        chosen = [self.pictures[row] for row in left]
        said = self.sources.judge.judge([each.image for each in chosen], [each.prompt for each in chosen], [()] * len(left)) if left else []
        self._verdicts |= dict(zip(left, said, strict=True))
        return [self._verdicts[row] for row in rows]


def _score_chunk(metric: Metric, chunk: Chunk, known: "_Journal") -> list[Found]:
    """One score a picture; those that need nothing that is missing are computed, slow ones only where they are not known."""
    found: dict[int, Found] = {}
    for index, each in enumerate(chunk.pictures):
        if "prompt" in metric.needs and not each.prompt:
            found[index] = NO_PROMPT
        elif "reference" in metric.needs and not isinstance(each.reference, Opened):
            found[index] = each.reference or NO_REFERENCE
    slow = chunk.sources.scorers.get(metric.name) or next(
        (source for name in ("mllm", "judge") if name in metric.needs and (source := getattr(chunk.sources, name))), None
    )
    keys: dict[int, str] = {}
    if slow is not None:
        left = [(index, each) for index, each in enumerate(chunk.pictures) if index not in found]
        keys = {index: known.key(metric, getattr(slow, "identity", slow.name), each) for index, each in left}
        found |= {index: known.scores[key] for index, key in keys.items() if key in known.scores}
    rows = [index for index in range(len(chunk.pictures)) if index not in found]
    if rows:
        compute = _learned(metric) if "scorer" in metric.needs else _COMPUTE[metric.name]
        new = dict(zip(rows, compute(chunk, rows), strict=True))
        known.add({keys[index]: score for index, score in new.items() if index in keys and isinstance(score, Score)})
        found |= new
    return [found[index] for index in range(len(chunk.pictures))]


def _scores(values: Iterable[float]) -> list[Found]:
    return [Score(value=float(value)) if np.isfinite(value) else Unscored(reason="the number is not finite") for value in values]


def _pixelwise(measure: Callable[[ndarray, ndarray], float]) -> "Compute":
    def compute(chunk: Chunk, rows: Sequence[int]) -> list[Found]:
        found: list[Found] = []
        for each in (chunk.pictures[row] for row in rows):
            assert isinstance(each.reference, Opened)
            scaled = each.reference.image.resize(each.image.size, Image.Resampling.BICUBIC)
            try:
                found.append(Score(value=measure(np.asarray(each.image), np.asarray(scaled))))
            except BadInput as error:
                found.append(Unscored(reason=str(error)))
        return found

    return compute


def _vqascore(chunk: Chunk, rows: Sequence[int]) -> list[Found]:
    mllm = chunk.sources.mllm
    assert mllm is not None
    asks = []
    for each in (chunk.pictures[row] for row in rows):
        text = load_prompt("judging/answer").render(brief=mllm.brief, question=f'Does this picture show "{each.prompt}"?')
        asks.append(Ask(messages=(Message(text=text, images=(each.image,)),)))
    chosen = mllm.choose(asks, ("yes", "no"))
    return [Unscored(reason=str(one)) if isinstance(one, VernissageError) else _scores([np.clip(one[0], 0, 1)])[0] for one in chosen]


def _judged(dimension: str) -> "Compute":
    return lambda chunk, rows: [getattr(verdict, dimension) for verdict in chunk.verdicts(rows)]


Compute = Callable[[Chunk, Sequence[int]], list[Found]]
"""The scores of some pictures of a chunk, those that have what the metric needs."""
_COMPUTE: dict[str, Compute] = {
    "clipscore": lambda chunk, rows: _scores(100 * np.maximum(0.0, np.array(chunk.text_cosines)[list(rows)])),
    "clip-image": lambda chunk, rows: _scores(np.array(chunk.cosines("clip"))[list(rows)]),
    "dinov2": lambda chunk, rows: _scores(np.array(chunk.cosines("dinov2"))[list(rows)]),
    "ssim": _pixelwise(ssim),
    "psnr": _pixelwise(psnr),
    "vqascore": _vqascore,
    "judge-perception": _judged("perception"),
    "judge-correspondence": _judged("correspondence"),
}


def _learned(metric: Metric) -> Compute:
    """A learned metric's scores; where a batch fails, each picture is tried alone."""

    def compute(chunk: Chunk, rows: Sequence[int]) -> list[Found]:
        chosen = [chunk.pictures[row] for row in rows]
        references = [each.reference.image if isinstance(each.reference, Opened) else None for each in chosen]
        try:
            return chunk.sources.scorers[metric.name].score([each.image for each in chosen], [each.prompt for each in chosen], references)
        except VernissageError as error:
            if len(rows) == 1:
                return [Unscored(reason=str(error))]
        return [score for row in rows for score in compute(chunk, [row])]

    return compute


def _score_set(
    metric: Metric, mine: dict[str, Gathered], theirs: dict[str, Gathered], given: Statistics | None, manifolds: dict[str, Manifold]
) -> Found:
    (encoder,) = _encoders([metric])
    own, other = mine[encoder], theirs[encoder]
    notes = [
        f"{each.missing} of {each.seen + each.missing} {what} could not be read or encoded"
        for each, what in ((own, "pictures"), (other, "reference pictures"))
        if each.missing
    ]
    try:
        if metric.name in ("clip-fid", "fd-dinov2"):
            statistics = given if given is not None else other.statistics
            if own.statistics is None or statistics is None or min(own.statistics.n, statistics.n) < 2:
                return Unscored(reason="; ".join(["a Frechet distance needs at least 2 pictures on either side", *notes]))
            n, width = min(own.statistics.n, statistics.n if given is None else own.statistics.n), len(own.statistics.mean)
            if n <= width:
                notes.append(f"{n} pictures for {width} features: biased, compare only with equal counts")
            (score,) = _scores([frechet_distance(own.statistics, statistics)])
        elif given is not None:
            return Unscored(reason=f"{metric.name} needs the reference pictures, not their statistics")
        elif metric.name == "clip-kid":
            (score,) = _scores([kernel_distance(own.features, other.features).mean])
        else:
            if encoder not in manifolds:
                manifolds[encoder] = manifold_scores(other.features, own.features)
            (score,) = _scores([getattr(manifolds[encoder], metric.name)])
    except BadInput as error:
        return Unscored(reason="; ".join([str(error), *notes]))
    return score.model_copy(update={"reason": "; ".join(notes)}) if isinstance(score, Score) else score


def _encoders(metrics: Sequence[Metric]) -> list[str]:
    return [name for name in ("clip", "dinov2") if any(name in metric.needs for metric in metrics)]


def _check(metrics: Sequence[Metric], sources: Sources, reference: Path | None) -> None:
    for metric in metrics:
        if "scorer" in metric.needs and metric.name not in sources.scorers:
            raise BadInput(f"The metric {metric.name} needs its checkpoint.", hint=f"Add [scorers.{metric.name}]; docs/how-to/score.md.")
        if {"reference", "set"} & metric.needs and reference is None:
            raise BadInput(f"The metric {metric.name} needs reference pictures.", hint="Name their folder with --reference.")
        for name in ("clip", "dinov2", "mllm", "judge"):
            if name in metric.needs and getattr(sources, name) is None:
                raise BadInput(f"The metric {metric.name} needs `{name}`.", hint="Configure it in your vernissage.toml.")
    if reference is not None and not reference.exists():
        raise BadInput(f"There is no {reference}.", hint="Give a folder of reference pictures, or an .npz of statistics.")


class References(NamedTuple):
    """Reference pictures by what they may be found by, the surest first; a name that stands for several finds none."""

    whole: dict[str, Path]
    """By path below the folder."""
    without_suffix: dict[str, Path]
    bare: dict[str, Path]
    """By name alone, without suffix."""

    def find(self, name: str) -> Path | None:
        """The reference of a picture of that path."""
        path = Path(name)
        for known, key in ((self.whole, name), (self.without_suffix, path.with_suffix("").as_posix()), (self.bare, path.stem)):
            if key in known:
                return known[key]
        return None


def _by_name(reference: Path) -> References:
    if not reference.is_dir():
        raise BadInput(f"{reference} is no folder of reference pictures.", hint="Statistics serve Frechet distances alone.")
    entries = find_entries(reference)

    def unique(key: Callable[[str], str]) -> dict[str, Path]:
        found: dict[str, list[Path]] = {}
        for entry in entries:
            found.setdefault(key(entry.name), []).append(entry.path)
        return {name: paths[0] for name, paths in found.items() if len(paths) == 1}

    return References(unique(str), unique(lambda name: Path(name).with_suffix("").as_posix()), unique(lambda name: Path(name).stem))


def _opened(entries: Sequence[Entry], references: References | None) -> Iterator[list[Opened | Unscored]]:
    """The pictures chunk by chunk, the next chunk being decoded while one is worked on."""

    def read(path: Path, prompt: str | None) -> Opened | Unscored:
        try:
            picture = Picture.open(path)
            key = hashlib.blake2b(picture.data, digest_size=16).digest()
            if prompt is None and (found := read_plan(picture.data)):
                prompt = found.plan.prompt if found.plan.prompt.strip() else None
            return Opened(key, picture.image, prompt, None)
        except VernissageError as error:
            return Unscored(reason=str(error))

    def read_pair(entry: Entry) -> Opened | Unscored:
        opened = read(entry.path, entry.prompt)
        if isinstance(opened, Unscored) or references is None or (path := references.find(entry.name)) is None:
            return opened
        return opened._replace(reference=read(path, ""))

    parts = [entries[start : start + CHUNK] for start in range(0, len(entries), CHUNK)]
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(read_pair, entry) for entry in parts[0]] if parts else []
        for index in range(len(parts)):
            ahead = [pool.submit(read_pair, entry) for entry in parts[index + 1]] if index + 1 < len(parts) else []
            yield [future.result() for future in waiting]
            waiting = ahead


class _Journal:
    """Slow scores by what they depend on, one a line, so that a run that was cut off keeps them."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "scores.jsonl" if folder else None
        self.scores: dict[str, Score] = {}
        if self._path and self._path.is_file():
            for line in self._path.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    row = json.loads(line)
                    self.scores[row["key"]] = Score(value=row["value"], reason=row["reason"])
                except (ValueError, LookupError, TypeError):
                    continue  # a line that was cut off

    def key(self, metric: Metric, source: str, picture: Opened) -> str:
        """What a score depends on: who gives it, the picture, and prompt and reference where they matter."""
        prompt = picture.prompt or "" if "prompt" in metric.needs else ""
        paired = "reference" in metric.needs and isinstance(picture.reference, Opened)
        other = picture.reference.key.hex() if paired and isinstance(picture.reference, Opened) else ""
        return hashlib.blake2b(json.dumps([metric.name, source, picture.key.hex(), prompt, other]).encode(), digest_size=16).hexdigest()

    def add(self, scores: dict[str, Score]) -> None:
        """Keep scores.

        Raises:
            BadInput: The folder cannot be written.
        """
        self.scores |= scores
        if self._path is None or not scores:
            return
        lines = [json.dumps({"key": key, "value": s.value, "reason": s.reason}) + "\n" for key, s in scores.items()]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(("\n" if file.tell() else "") + "".join(lines))  # whatever was cut off before ends here
        except OSError as error:
            raise BadInput(f"Cannot keep scores in {self._path}: {error.strerror}.", hint="Choose another folder.") from error


def _cosine(first: ndarray, second: ndarray) -> float:
    product = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.clip(first @ second / product, -1, 1)) if product > 0 else float("nan")
