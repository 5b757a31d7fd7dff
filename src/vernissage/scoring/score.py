"""Scoring pictures with many metrics at once: one decoding, one encoding by each encoder, whoever else is asked once a picture.

A picture that cannot be read, or lacks what a metric needs, is Unscored with the reason; the others are scored all the same.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from vernissage.errors import BadInput, VernissageError
from vernissage.metrics.distribution import ClassParts, Manifold, load_statistics
from vernissage.ports import ImageEncoder, Progress
from vernissage.processes import Pool
from vernissage.records.files import append_lines
from vernissage.records.picture import Picture, carried_prompt
from vernissage.records.verdict import Score, Unscored
from vernissage.scoring.checks import Check
from vernissage.scoring.features import SAMPLE, FeatureStore, Gathered
from vernissage.scoring.layouts import Entry, find_entries
from vernissage.scoring.pictures import Chunk, Found, Opened, Sources, compute
from vernissage.scoring.registry import ENCODERS, Metric
from vernissage.scoring.sets import FRECHET, PARTS, encoders_of, score_set, unify

CHUNK = 64
"""Pictures that are in memory at once; as many again are decoded ahead."""
NO_PROMPT, NO_REFERENCE = Unscored(reason="no prompt is known"), Unscored(reason="there is no reference picture of that name")
NO_METADATA = Unscored(reason="there are no GenEval metadata of this picture")


class Scored(NamedTuple):
    """The scores of a folder."""

    entries: list[Entry]
    pictures: dict[str, list[Found]]
    """By metric, one score a picture."""
    sets: dict[str, Found]
    """By metric, of the whole set."""
    unread: Mapping[int, Unscored] = MappingProxyType({})
    """Pictures that could not be read, by place among the entries."""
    prompts: Sequence[str | None] = ()
    """What each picture was scored by, the prompt that it carries where nobody else told one."""


def score_entries(
    entries: Sequence[Entry],
    metrics: Sequence[Metric],
    sources: Sources,
    *,
    reference: Path | Sequence[Entry] | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Scored:
    """Score pictures, and the set of them.

    Args:
        entries: See `layouts.find_entries`.
        metrics: See `registry.find_metrics`.
        sources: Whoever the metrics need.
        reference: Reference pictures or their folder, matched by name for scores of pairs, all of them for scores of sets; for Frechet
            distances also an .npz of statistics.
        cache: Folder that keeps features and slow scores by content, so that a run that was cut off goes on.
        progress: Called with (done, total) pictures, those of a reference set among them.

    Raises:
        BadInput: A metric needs reference pictures and there are none, or somebody who is not configured, or the cache cannot be written.
    """
    _check(metrics, sources, reference)
    single, sets = [metric for metric in metrics if not metric.of_set], [metric for metric in metrics if metric.of_set]
    paired, compared = (any(need in metric.needs for metric in metrics) for need in ("reference", "references"))
    statistics = reference if isinstance(reference, Path) and not reference.is_dir() else None
    if paired and statistics:
        raise BadInput(f"{statistics} is no folder of reference pictures.", hint="Statistics serve Frechet distances alone.")
    given = load_statistics(statistics) if sets and statistics else None
    references: list[Entry] = []
    if (paired or compared) and not statistics:
        references = find_entries(reference) if isinstance(reference, Path) else list(reference or ())
    pairs = _by_name(references, entries) if paired else None
    others = references if compared else []
    by_name: dict[str, FeatureStore] = {}  # one encoder may be both
    stores: dict[str, FeatureStore] = {}
    for name in ENCODERS:
        encoder = getattr(sources, name)
        if encoder is not None:
            if encoder.name not in by_name:  # opening one reads its file
                by_name[encoder.name] = FeatureStore(encoder, cache)
            stores[name] = by_name[encoder.name]
    known = _Journal(cache)
    written: dict[str, tuple[Check, ...] | Unscored] = {}
    total, done = len(entries) + len(others), 0
    scores: dict[str, list[Found]] = {metric.name: [] for metric in single}
    unread: dict[int, Unscored] = {}
    prompts: list[str | None] = []
    sampled = encoders_of([metric for metric in sets if metric.name not in (*FRECHET, "inception-score")])  # those need no sample
    told = any(metric.name == "inception-score" for metric in sets) and hasattr(sources.inception, "probabilities")
    classes = ClassParts(len(entries), splits=PARTS) if told else None
    mine, theirs = ({name: Gathered(limit=SAMPLE if name in sampled else 0) for name in encoders_of(sets)} for _ in range(2))
    for part in _opened(entries, pairs):
        unread |= {done + index: each for index, each in enumerate(part) if isinstance(each, Unscored)}
        prompts += [each.prompt if isinstance(each, Opened) else entries[done + index].prompt for index, each in enumerate(part)]
        chunk = Chunk([each for each in part if isinstance(each, Opened)], sources, stores, written)
        for metric in single:
            found = iter(_score_chunk(metric, chunk, known))
            scores[metric.name] += [next(found) if isinstance(each, Opened) else each for each in part]
        for name, gathered in mine.items():
            gathered.add(chunk.raw(name), asked=len(part))
        if classes is not None:
            _add_classes(classes, chunk, np.array([done + index for index, each in enumerate(part) if isinstance(each, Opened)], dtype=int))
        done += len(part)
        if progress:
            progress(done, total)
    for count in _gather(others, stores, theirs):
        done += count
        if progress:
            progress(done, total)
    manifolds: dict[str, Manifold] = {}
    found = {metric.name: score_set(metric, mine, theirs, given, manifolds, classes) for metric in sets if encoders_of([metric])}
    if any(metric.name == "unified" for metric in sets):
        found["unified"] = unify(scores, found)
    return Scored(list(entries), scores, found, unread, prompts)


def _add_classes(classes: ClassParts, chunk: Chunk, places: ndarray) -> None:
    rows = chunk.raw("inception")
    seen = np.isfinite(rows).all(axis=1) if len(rows) else np.zeros(0, dtype=bool)
    if seen.any():
        inception: Any = chunk.sources.inception
        classes.add(places[seen], inception.probabilities(rows[seen]))


def gather_entries(
    entries: Sequence[Entry], encoder: ImageEncoder, *, cache: Path | None = None, progress: Progress | None = None
) -> Gathered:
    """What a Frechet distance needs of a set of pictures; memory does not grow with their number.

    Args:
        entries: See `layouts.find_entries`.
        encoder: Whose features.
        cache: Folder that keeps features by content.
        progress: Called with (done, total) pictures.
    """
    gathered, done = Gathered(limit=0), 0
    for count in _gather(entries, {encoder.name: FeatureStore(encoder, cache)}, {encoder.name: gathered}):
        done += count
        if progress:
            progress(done, len(entries))
    return gathered


def _gather(entries: Sequence[Entry], stores: Mapping[str, FeatureStore], sets: Mapping[str, Gathered]) -> Iterator[int]:
    """Take the features of pictures into sets, by encoder, yielding how many pictures were done at a time."""
    for part in _opened(entries, None):
        opened = [each for each in part if isinstance(each, Opened)]
        for name, gathered in sets.items():
            gathered.add(stores[name].encode([each.key for each in opened], [each.image for each in opened]), asked=len(part))
        yield len(part)


def _score_chunk(metric: Metric, chunk: Chunk, known: "_Journal") -> list[Found]:
    """One score a picture; those that need nothing that is missing are computed, slow ones only where they are not known."""
    found: dict[int, Found] = {}
    for index, each in enumerate(chunk.pictures):
        if "prompt" in metric.needs and not each.prompt:
            found[index] = NO_PROMPT
        elif "reference" in metric.needs and not isinstance(each.reference, Opened):
            found[index] = each.reference or NO_REFERENCE
        elif "metadata" in metric.needs and not (each.metadata and (each.metadata.include or each.metadata.exclude)):
            found[index] = NO_METADATA
    asked = {metric.name: chunk.sources.scorers.get(metric.name)}
    asked |= {name: getattr(chunk.sources, name) for name in ("mllm", "judge", "detector") if name in metric.needs}
    slow = next(((who, each) for who, each in asked.items() if each is not None), None)
    keys: dict[int, str] = {}
    if slow is not None:
        source = chunk.sources.identities.get(slow[0]) or slow[1].name
        if "clip" in metric.needs and chunk.sources.clip is not None:
            source += f" and {chunk.sources.clip.name}"
        if "detector" in metric.needs and chunk.sources.detector is not None:
            source += f" and {tuple(chunk.sources.detector.thresholds)}"
        if metric.reads_tags and chunk.sources.tagger is not None:
            source += f" and {chunk.sources.identities.get('tagger', 'tagger')}"
        left = [(index, each) for index, each in enumerate(chunk.pictures) if index not in found]
        keys = {index: known.key(metric, source, each) for index, each in left}
        found |= {index: known.scores[key] for index, key in keys.items() if key in known.scores}
    rows = [index for index in range(len(chunk.pictures)) if index not in found]
    if rows:
        new = dict(zip(rows, compute(metric, chunk, rows), strict=True))
        known.add({keys[index]: score for index, score in new.items() if index in keys and isinstance(score, Score)})
        found |= new
    return [found[index] for index in range(len(chunk.pictures))]


def _check(metrics: Sequence[Metric], sources: Sources, reference: Path | Sequence[Entry] | None) -> None:
    for metric in metrics:
        if "scorer" in metric.needs and metric.name not in sources.scorers:
            raise BadInput(f"The metric {metric.name} needs its checkpoint.", hint=f"Add [scorers.{metric.name}]; docs/how-to/score.md.")
        if {"reference", "references"} & metric.needs and reference is None:
            raise BadInput(f"The metric {metric.name} needs reference pictures.", hint="Name their folder with --reference.")
        for name in (*ENCODERS, "mllm", "judge", "detector"):
            if name in metric.needs and getattr(sources, name) is None:
                raise BadInput(f"The metric {metric.name} needs `{name}`.", hint="Configure it in your vernissage.toml.")
    if isinstance(reference, Path) and not reference.exists():
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


def _by_name(references: Sequence[Entry], entries: Sequence[Entry]) -> References:
    def unique(key: Callable[[str], str]) -> dict[str, Path]:
        found: dict[str, list[Path]] = {}
        for entry in references:
            found.setdefault(key(entry.name), []).append(entry.path)
        return {name: paths[0] for name, paths in found.items() if len(paths) == 1}

    def place(name: str) -> str:
        return Path(name).with_suffix("").as_posix()

    # A reference in a folder that is one picture's by its path is not also that of pictures of its name in other folders.
    places = {place(entry.name) for entry in entries}
    taken = {Path(each.name).stem for each in references if Path(each.name).parent != Path() and place(each.name) in places}
    bare = {stem: path for stem, path in unique(lambda name: Path(name).stem).items() if stem not in taken}
    return References(unique(str), unique(place), bare)


def _opened(entries: Sequence[Entry], references: References | None) -> Iterator[list[Opened | Unscored]]:
    """The pictures chunk by chunk, the next chunk being decoded while one is worked on."""

    def read(path: Path, prompt: str | None) -> Opened | Unscored:
        try:
            picture = Picture.open(path)
            key = hashlib.blake2b(picture.data, digest_size=16).digest()
            return Opened(key, picture.image, carried_prompt(picture.told) if prompt is None else prompt, None)
        except VernissageError as error:
            return Unscored(reason=str(error))

    def read_pair(entry: Entry) -> Opened | Unscored:
        opened = read(entry.path, entry.prompt)
        if isinstance(opened, Opened):
            opened = opened._replace(checks=entry.checks, metadata=entry.metadata)
        if isinstance(opened, Unscored) or references is None or (path := references.find(entry.name)) is None:
            return opened
        return opened._replace(reference=read(path, ""))

    parts = [entries[start : start + CHUNK] for start in range(0, len(entries), CHUNK)]
    with Pool(4) as pool:
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
                except (ValueError, LookupError, TypeError, RecursionError):
                    continue  # a line that was cut off

    def key(self, metric: Metric, source: str, picture: Opened) -> str:
        """What a score depends on: who gives it, the picture, and prompt and reference where they matter."""
        prompt = picture.prompt or "" if {"prompt", "questions"} & metric.needs else ""
        paired = "reference" in metric.needs and isinstance(picture.reference, Opened)
        other = picture.reference.key.hex() if paired and isinstance(picture.reference, Opened) else ""
        asked = [list(check) for check in picture.checks or ()] if "questions" in metric.needs else []
        told: list[Any] = [metric.name, source, picture.key.hex(), prompt, other, *([asked] if asked else [])]
        if "metadata" in metric.needs and picture.metadata is not None:
            told.append(picture.metadata.model_dump(mode="json"))
        return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()

    def add(self, scores: dict[str, Score]) -> None:
        """Keep scores.

        Raises:
            BadInput: The folder cannot be written.
        """
        self.scores |= scores
        if self._path is None or not scores:
            return
        lines = (json.dumps({"key": key, "value": s.value, "reason": s.reason}) for key, s in scores.items())
        append_lines(self._path, lines, hint="Choose another folder.")
