"""Scoring pictures with many metrics at once: one decoding, one encoding by each encoder, whoever else is asked once a picture.

A picture that cannot be read, or lacks what a metric needs, is Unscored with the reason; the others are scored all the same.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from PIL import Image

from vernissage.errors import BadInput, VernissageError
from vernissage.metrics.distribution import Statistics, frechet_distance, kernel_distance, load_statistics, manifold_scores
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


class Opened(NamedTuple):
    """A picture that could be read."""

    entry: Entry
    key: str
    image: Image.Image
    prompt: str | None
    reference: Image.Image | None
    reference_key: str


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
        BadInput: A metric needs reference pictures and there are none, or somebody who is not configured.
    """
    _check(metrics, sources, reference)
    stores = {name: FeatureStore(encoder, cache) for name in ("clip", "dinov2") if (encoder := getattr(sources, name)) is not None}
    single, sets = [metric for metric in metrics if not metric.of_set], [metric for metric in metrics if metric.of_set]
    known = _Journal(cache)
    pairs = _by_name(reference) if any("reference" in metric.needs for metric in metrics) and reference else {}
    others = find_entries(reference) if sets and reference and reference.is_dir() else []
    total, done = len(entries) + len(others), 0
    scores: dict[str, list[Found]] = {metric.name: [] for metric in single}
    mine = {name: Gathered() for name in _encoders(sets)}
    for part in _opened(entries, pairs):
        good = [each for each in part if isinstance(each, Opened)]
        chunk = Chunk(good, sources, stores)
        for metric in single:
            found = iter(_score_chunk(metric, chunk, known))
            scores[metric.name] += [next(found) if isinstance(each, Opened) else each for each in part]
        for name, gathered in mine.items():
            gathered.add(chunk.raw(name))
        done += len(part)
        if progress:
            progress(done, total)
    theirs = {name: Gathered() for name in mine}
    for part in _opened(others, {}):
        chunk = Chunk([each for each in part if isinstance(each, Opened)], sources, stores)
        for name, gathered in theirs.items():
            gathered.add(chunk.raw(name))
        done += len(part)
        if progress:
            progress(done, total)
    given = load_statistics(reference) if sets and reference and not reference.is_dir() else None
    return Scored(list(entries), scores, {metric.name: _score_set(metric, mine, theirs, given) for metric in sets})


class Chunk:
    """Some pictures with everything that metrics share; each is computed when first asked for, once."""

    def __init__(self, pictures: list[Opened], sources: Sources, stores: dict[str, FeatureStore]) -> None:
        self.pictures, self.sources, self._stores = pictures, sources, stores
        self._raw: dict[str, ndarray] = {}

    def raw(self, encoder: str) -> ndarray:
        """Features as they are, shape (picture, feature)."""
        if encoder not in self._raw:
            self._raw[encoder] = self._stores[encoder].encode([each.key for each in self.pictures], [each.image for each in self.pictures])
        return self._raw[encoder]

    def cosines(self, encoder: str) -> list[float]:
        """Picture against its reference, for those that have one; 0 elsewhere."""
        pairs = {each.reference_key: each.reference for each in self.pictures if each.reference is not None}
        rows = dict(zip(pairs, self._stores[encoder].encode(list(pairs), list(pairs.values())), strict=True)) if pairs else {}
        mine = zip(self.pictures, self.raw(encoder), strict=True)
        return [_cosine(row, rows[each.reference_key]) if each.reference_key in rows else 0.0 for each, row in mine]

    @cached_property
    def text_cosines(self) -> list[float]:
        """Picture against its prompt under CLIP, for those that have one; 0 elsewhere."""
        prompts = list(dict.fromkeys(each.prompt for each in self.pictures if each.prompt))
        assert self.sources.clip is not None
        rows = dict(zip(prompts, self.sources.clip.encode_text(prompts), strict=True)) if prompts else {}
        return [_cosine(row, rows[each.prompt]) if each.prompt else 0.0 for each, row in zip(self.pictures, self.raw("clip"), strict=True)]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What the judge says; perception and correspondence come together."""
        assert self.sources.judge is not None
        images, prompts = [each.image for each in self.pictures], [each.prompt for each in self.pictures]
        return self.sources.judge.judge(images, prompts, [()] * len(images))

    def part(self, rows: list[int]) -> "Chunk":
        """Only these pictures, with the features that are there already."""
        chunk = Chunk([self.pictures[row] for row in rows], self.sources, self._stores)
        chunk._raw = {name: values[rows] for name, values in self._raw.items()}
        return chunk


def _score_chunk(metric: Metric, chunk: Chunk, known: "_Journal") -> list[Found]:
    """One score a picture; those that need nothing that is missing are computed, slow ones only where they are not known."""
    found: dict[int, Found] = {}
    for index, each in enumerate(chunk.pictures):
        if "prompt" in metric.needs and not each.prompt:
            found[index] = NO_PROMPT
        elif "reference" in metric.needs and each.reference is None:
            found[index] = NO_REFERENCE
    slow = chunk.sources.scorers.get(metric.name) or next(
        (source for name in ("mllm", "judge") if name in metric.needs and (source := getattr(chunk.sources, name))), None
    )
    keys: dict[int, str] = {}
    if slow is not None:
        keys = {
            i: known.key(metric.name, slow.name, each.key, each.prompt or "", each.reference_key)
            for i, each in enumerate(chunk.pictures)
            if i not in found
        }
        found |= {index: known.scores[key] for index, key in keys.items() if key in known.scores}
    left = [index for index in range(len(chunk.pictures)) if index not in found]
    if left:
        part = chunk if len(left) == len(chunk.pictures) else chunk.part(left)
        new = dict(zip(left, _compute(metric)(part), strict=True))
        known.add({keys[index]: score for index, score in new.items() if index in keys and isinstance(score, Score)})
        found |= new
    return [found[index] for index in range(len(chunk.pictures))]


def _scores(values: Sequence[float]) -> list[Found]:
    return [Score(value=value) if np.isfinite(value) else Unscored(reason="the number is not finite") for value in values]


def _pixelwise(measure: Callable[[ndarray, ndarray], float]) -> Callable[[Chunk], list[Found]]:
    def compute(chunk: Chunk) -> list[Found]:
        found: list[Found] = []
        for each in chunk.pictures:
            assert each.reference is not None
            scaled = each.reference.resize(each.image.size, Image.Resampling.BICUBIC)
            try:
                found.append(Score(value=measure(np.asarray(each.image), np.asarray(scaled))))
            except BadInput as error:
                found.append(Unscored(reason=str(error)))
        return found

    return compute


def _vqascore(chunk: Chunk) -> list[Found]:
    mllm = chunk.sources.mllm
    assert mllm is not None
    texts = [f'Does this picture show "{each.prompt}"?' for each in chunk.pictures]
    asks = [
        Ask(messages=(Message(text=load_prompt("judging/answer").render(brief=mllm.brief, question=text), images=(each.image,)),))
        for text, each in zip(texts, chunk.pictures, strict=True)
    ]
    chosen = mllm.choose(asks, ("yes", "no"))
    return [Unscored(reason=str(one)) if isinstance(one, VernissageError) else Score(value=float(np.clip(one[0], 0, 1))) for one in chosen]


def _judged(dimension: str) -> Callable[[Chunk], list[Found]]:
    return lambda chunk: [getattr(verdict, dimension) for verdict in chunk.verdicts]


_COMPUTE: dict[str, Callable[[Chunk], list[Found]]] = {
    "clipscore": lambda chunk: _scores([100 * max(0.0, value) for value in chunk.text_cosines]),
    "clip-image": lambda chunk: _scores(chunk.cosines("clip")),
    "dinov2": lambda chunk: _scores(chunk.cosines("dinov2")),
    "ssim": _pixelwise(ssim),
    "psnr": _pixelwise(psnr),
    "vqascore": _vqascore,
    "judge-perception": _judged("perception"),
    "judge-correspondence": _judged("correspondence"),
}


def _compute(metric: Metric) -> Callable[[Chunk], list[Found]]:
    if "scorer" not in metric.needs:
        return _COMPUTE[metric.name]

    def learned(chunk: Chunk) -> list[Found]:
        images, prompts = [each.image for each in chunk.pictures], [each.prompt for each in chunk.pictures]
        try:
            return chunk.sources.scorers[metric.name].score(images, prompts, [each.reference for each in chunk.pictures])
        except VernissageError as error:
            return [Unscored(reason=str(error)) for _ in images]

    return learned


def _score_set(metric: Metric, mine: dict[str, Gathered], theirs: dict[str, Gathered], given: Statistics | None) -> Found:
    (encoder,) = _encoders([metric])
    own, other = mine[encoder], theirs[encoder]
    try:
        if metric.name in ("clip-fid", "fd-dinov2"):
            statistics = given if given is not None else other.statistics
            if own.statistics is None or statistics is None or min(own.statistics.n, statistics.n) < 2:
                return Unscored(reason="a Frechet distance needs at least 2 pictures on either side")
            n, width = own.statistics.n, len(own.statistics.mean)
            note = f"{n} pictures for {width} features: biased, compare only with equal counts" if n <= width else ""
            return Score(value=max(0.0, frechet_distance(own.statistics, statistics)), reason=note)
        if given is not None:
            return Unscored(reason=f"{metric.name} needs the reference pictures, not their statistics")
        if metric.name == "clip-kid":
            return Score(value=kernel_distance(own.features, other.features).mean)
        return Score(value=getattr(manifold_scores(other.features, own.features), metric.name))
    except BadInput as error:
        return Unscored(reason=str(error))


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


def _by_name(reference: Path) -> dict[str, Path]:
    """Reference pictures by path below the folder without suffix, and by bare name where that is unique."""
    if not reference.is_dir():
        raise BadInput(f"{reference} is no folder of reference pictures.", hint="Statistics serve Frechet distances alone.")
    found: dict[str, Path] = {}
    for entry in find_entries(reference):
        bare = Path(entry.name).stem
        found[bare] = entry.path if bare not in found else Path()
        found[Path(entry.name).with_suffix("").as_posix()] = entry.path
    return {name: path for name, path in found.items() if path != Path()}


def _opened(entries: Sequence[Entry], pairs: dict[str, Path]) -> Iterator[list[Opened | Unscored]]:
    """The pictures chunk by chunk, the next chunk being decoded while one is worked on."""

    def read(entry: Entry) -> Opened | Unscored:
        try:
            picture = Picture.open(entry.path)
            image, key = picture.image, hashlib.blake2b(picture.data, digest_size=16).hexdigest()
            prompt = entry.prompt
            if prompt is None and (found := read_plan(picture.data)):
                prompt = found.plan.prompt or None
            path = pairs.get(Path(entry.name).with_suffix("").as_posix()) or pairs.get(Path(entry.name).stem)
            if path is None:
                return Opened(entry, key, image, prompt, None, "")
            other = Picture.open(path)
            return Opened(entry, key, image, prompt, other.image, hashlib.blake2b(other.data, digest_size=16).hexdigest())
        except VernissageError as error:
            return Unscored(reason=str(error))

    parts = [entries[start : start + CHUNK] for start in range(0, len(entries), CHUNK)]
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(read, entry) for entry in parts[0]] if parts else []
        for index in range(len(parts)):
            ahead = [pool.submit(read, entry) for entry in parts[index + 1]] if index + 1 < len(parts) else []
            yield [future.result() for future in waiting]
            waiting = ahead


class _Journal:
    """Slow scores by what they depend on, one a line, so that a run that was cut off keeps them."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "scores.jsonl" if folder else None
        self.scores: dict[str, Score] = {}
        if self._path and self._path.is_file():
            for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    row = json.loads(line)
                    self.scores[row["key"]] = Score(value=row["value"], reason=row["reason"])
                except (ValueError, LookupError, TypeError):
                    continue  # the last line may be cut off

    def key(self, *parts: str) -> str:
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def add(self, scores: dict[str, Score]) -> None:
        self.scores |= scores
        if self._path is None or not scores:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"key": key, "value": s.value, "reason": s.reason}) + "\n" for key, s in scores.items())


def _cosine(first: ndarray, second: ndarray) -> float:
    product = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.clip(first @ second / product, -1, 1)) if product > 0 else float("nan")
