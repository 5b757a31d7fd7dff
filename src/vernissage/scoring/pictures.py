"""Scores of single pictures: what a chunk of pictures shares is computed once, and each metric takes of it what it needs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from PIL import Image

from vernissage.errors import BadInput, VernissageError
from vernissage.metrics.similarity import psnr, ssim
from vernissage.ports import MLLM, Ask, Detection, Detector, ImageEncoder, Judge, Message, Reply, Scorer, Tagger, TextImageEncoder
from vernissage.prompts import load_prompt
from vernissage.records.verdict import LEVELS, Rating, Score, Unscored, Verdict, as_score
from vernissage.scoring.checks import (
    Check,
    Checked,
    all_right,
    ask_checks,
    product,
    share_right,
    share_with_needs,
    write_checks,
)
from vernissage.scoring.detected import geneval_labels, relation_labels, score_geneval, score_relations
from vernissage.scoring.features import FeatureStore
from vernissage.scoring.questions import Metadata
from vernissage.scoring.registry import Metric
from vernissage.scoring.things import attribute_checks, says_only_where, says_where, spatial_checks, spatial_relations

Found = Score | Unscored
NO_QUESTIONS = Unscored(reason="there are no questions about this picture")
NO_RELATION = Unscored(reason="the prompt names no spatial relation of two things")


class Sources(NamedTuple):
    """Who encodes, answers and judges; only those that the chosen metrics need."""

    clip: TextImageEncoder | None = None
    dinov2: ImageEncoder | None = None
    inception: ImageEncoder | None = None
    mllm: MLLM | None = None
    judge: Judge | None = None
    detector: Detector | None = None
    tagger: Tagger | None = None
    """Tells the words that say what things are like; nobody need."""
    scorers: Mapping[str, Scorer] = MappingProxyType({})
    """Learned metrics by name."""
    identities: Mapping[str, str] = MappingProxyType({})
    """Cache identifier of a scorer, the "mllm", the "judge", the "detector" or the "tagger"; the name where there is none."""


class Opened(NamedTuple):
    """A picture that could be read."""

    key: bytes
    """Hash of its file."""
    image: Image.Image
    prompt: str | None
    reference: "Opened | Unscored | None"
    """The reference picture of its name, or why it cannot be read; None where there is none."""
    checks: tuple[Check, ...] | None = None
    """Questions with known answers; None where nobody says, and then the MLLM writes them."""
    metadata: Metadata | None = None
    """GenEval's, for a detector."""


class Chunk:
    """Some pictures with everything that metrics share; each is computed when first asked for, once.

    Args:
        pictures: Those that could be read.
        sources: Who encodes, answers and judges.
        stores: Features by encoder.
        written: Questions that were written to prompts in this run already; added to.
    """

    def __init__(
        self, pictures: list[Opened], sources: Sources, stores: dict[str, FeatureStore], written: dict[str, tuple[Check, ...] | Unscored]
    ) -> None:
        self.pictures, self.sources, self._stores, self._written = pictures, sources, stores, written
        self._raw: dict[str, ndarray] = {}
        self._verdicts: dict[int, Verdict] = {}
        self._checked: dict[tuple[int, Check], Checked | Unscored] = {}
        self._detected: dict[tuple[int, tuple[str, ...]], list[Detection] | Unscored] = {}

    def raw(self, encoder: str) -> ndarray:
        """Features with the length that they have, shape (picture, feature)."""
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
        return self._text_cosines([each.prompt or None for each in self.pictures])

    @cached_property
    def bare_text_cosines(self) -> list[float]:
        """The same with prompts that say what there is and not what it is like, where a tagger tells adjectives."""
        if self.sources.tagger is None:
            return self.text_cosines
        prompts = list(dict.fromkeys(each.prompt for each in self.pictures if each.prompt))
        tagged = zip(prompts, self.sources.tagger(prompts), strict=True)
        bare = {prompt: " ".join(word for word, part in words if part != "ADJ") for prompt, words in tagged}
        return self._text_cosines([bare[each.prompt] if each.prompt else None for each in self.pictures])

    def _text_cosines(self, texts: Sequence[str | None]) -> list[float]:
        asked = list(dict.fromkeys(text for text in texts if text is not None))
        assert self.sources.clip is not None
        rows = dict(zip(asked, self.sources.clip.encode_text(asked), strict=True)) if asked else {}
        return [_cosine(row, rows[text]) if text is not None else np.nan for text, row in zip(texts, self.raw("clip"), strict=True)]

    def detections(self, names: Mapping[int, Sequence[str]]) -> dict[int, list[Detection] | Unscored]:
        """What the detector finds of those names in some pictures; of one that knows what it can find, once for all names."""
        detector = self.sources.detector
        assert detector is not None
        keys = {row: (row, () if detector.known is not None else tuple(own)) for row, own in names.items()}
        left = [row for row, key in keys.items() if key not in self._detected]
        said = detector.detect([self.pictures[row].image for row in left], [list(names[row]) for row in left]) if left else []
        for row, found in zip(left, said, strict=True):
            if isinstance(found, VernissageError):
                self._detected[keys[row]] = Unscored(reason=str(found))
            elif np.isfinite([(*each.box, each.confidence) for each in found]).all():
                self._detected[keys[row]] = found
            else:
                self._detected[keys[row]] = Unscored(reason="the detector's numbers are not finite")
        return {row: self._detected[key] for row, key in keys.items()}

    def verdicts(self, rows: Sequence[int]) -> list[Verdict]:
        """What the judge says of some of them, asked once about each; perception and correspondence come together."""
        assert self.sources.judge is not None
        left = [row for row in rows if row not in self._verdicts]
        chosen = [self.pictures[row] for row in left]
        said = self.sources.judge.judge([each.image for each in chosen], [each.prompt for each in chosen], [()] * len(left)) if left else []
        self._verdicts |= dict(zip(left, said, strict=True))
        return [self._verdicts[row] for row in rows]

    def checks(self, rows: Sequence[int]) -> list[tuple[Check, ...] | Unscored]:
        """The questions to ask of some of them: those that came with them, or that the MLLM writes to each prompt, once."""
        assert self.sources.mllm is not None
        chosen = [self.pictures[row] for row in rows]
        prompts = [each.prompt for each in chosen if each.checks is None and each.prompt and each.prompt not in self._written]
        if new := list(dict.fromkeys(prompts)):
            self._written |= dict(zip(new, write_checks(self.sources.mllm, new), strict=True))
        nobody = Unscored(reason="no questions and no prompt are known")
        return [
            (each.checks or NO_QUESTIONS) if each.checks is not None else self._written[each.prompt] if each.prompt else nobody
            for each in chosen
        ]

    def checked(self, cases: Sequence[tuple[int, tuple[Check, ...]]]) -> list[list[Checked] | Unscored]:
        """The MLLM's answers to the checks of some pictures, each asked once."""
        assert self.sources.mllm is not None
        new = list(dict.fromkeys((row, check) for row, checks in cases for check in checks if (row, check) not in self._checked))
        said = ask_checks(self.sources.mllm, [(self.pictures[row].image, check) for row, check in new])
        self._checked |= dict(zip(new, said, strict=True))
        found: list[list[Checked] | Unscored] = []
        for row, checks in cases:
            answers = [self._checked[row, check] for check in checks]
            failed = next((answer for answer in answers if isinstance(answer, Unscored)), None)
            found.append(failed or [answer for answer in answers if isinstance(answer, Checked)])
        return found


def compute(metric: Metric, chunk: Chunk, rows: Sequence[int]) -> list[Found]:
    """The scores of some pictures of a chunk, those that have what the metric needs."""
    return (_learned(metric) if "scorer" in metric.needs else _COMPUTE[metric.name])(chunk, rows)


def as_scores(values: Iterable[float]) -> list[Found]:
    """Numbers as scores; those that are not finite are Unscored."""
    return [as_score(value) for value in values]


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


def _ask(chunk: Chunk, row: int, prompt_id: str, reply: type[Rating] | None = None, **inputs: str) -> Ask:
    assert chunk.sources.mllm is not None
    text = load_prompt(prompt_id).render(brief=chunk.sources.mllm.brief, **inputs)
    return Ask(messages=(Message(text=text, images=(chunk.pictures[row].image,)),), reply=reply)


def _vqascore(chunk: Chunk, rows: Sequence[int]) -> list[Found]:
    assert chunk.sources.mllm is not None
    asks = [_ask(chunk, row, "judging/answer", question=f'Does this picture show "{chunk.pictures[row].prompt}"?') for row in rows]
    chosen = chunk.sources.mllm.choose(asks, ("yes", "no"))
    return [Unscored(reason=str(one)) if isinstance(one, VernissageError) else as_scores([np.clip(one[0], 0, 1)])[0] for one in chosen]


def _q_align(chunk: Chunk, rows: Sequence[int]) -> list[Found]:
    assert chunk.sources.mllm is not None
    chosen = chunk.sources.mllm.choose([_ask(chunk, row, "scoring/q_align") for row in rows], LEVELS)
    worth = np.arange(1, len(LEVELS) + 1)
    return [
        Unscored(reason=str(one)) if isinstance(one, VernissageError) else _mean_level(float(one @ worth), float(one.sum()))
        for one in chosen
    ]


def _mean_level(worth: float, total: float) -> Found:
    return as_scores([worth / total])[0] if total > 0 else Unscored(reason="the probabilities of the levels are no numbers")


def _rated(name: str) -> "Compute":
    def compute(chunk: Chunk, rows: Sequence[int]) -> list[Found]:
        assert chunk.sources.mllm is not None
        inputs = [{"prompt": chunk.pictures[row].prompt or ""} if name == "match" else {} for row in rows]
        asks = [_ask(chunk, row, f"repainting/rate_{name}", Rating, **given) for row, given in zip(rows, inputs, strict=True)]
        return [_rating(reply) for reply in chunk.sources.mllm.answer(asks)]

    return compute


def _rating(reply: Reply | VernissageError) -> Found:
    if isinstance(reply, VernissageError):
        return Unscored(reason=str(reply))
    return reply.record.as_score() if isinstance(reply.record, Rating) else Unscored(reason="the MLLM answered without a rating")


def _judged(dimension: str) -> "Compute":
    return lambda chunk, rows: [getattr(verdict, dimension) for verdict in chunk.verdicts(rows)]


def _questioned(make: Callable[[Sequence[Check], Sequence[Checked]], Score]) -> "Compute":
    """Of the questions that came with a picture, or that are written to its prompt."""

    def compute(chunk: Chunk, rows: Sequence[int]) -> list[Found]:
        checks = dict(zip(rows, chunk.checks(rows), strict=True))
        return _checked(chunk, checks, make)

    return compute


def _of_prompt(checks_of: Callable[[str], tuple[Check, ...]], nothing: Unscored) -> "Compute":
    """Of questions that are made from a prompt's own words."""

    def compute(chunk: Chunk, rows: Sequence[int]) -> list[Found]:
        return _checked(chunk, {row: checks_of(chunk.pictures[row].prompt or "") or nothing for row in rows}, product)

    return compute


def _checked(
    chunk: Chunk, checks: Mapping[int, tuple[Check, ...] | Unscored], make: Callable[[Sequence[Check], Sequence[Checked]], Score]
) -> list[Found]:
    cases = [(row, each) for row, each in checks.items() if not isinstance(each, Unscored)]
    answers = dict(zip([row for row, _ in cases], chunk.checked(cases), strict=True))
    found: list[Found] = []
    for row, each in checks.items():
        if isinstance(each, Unscored):
            found.append(each)
        else:
            said = answers[row]
            found.append(said if isinstance(said, Unscored) else make(each, said))
    return found


_attributes = _of_prompt(attribute_checks, Unscored(reason="the prompt is empty"))
_spatial = _of_prompt(spatial_checks, NO_RELATION)


def _three_in_one(chunk: Chunk, rows: Sequence[int]) -> list[Found]:
    """Mean of attributes, of spatial relations unless none is named, and of CLIP's cosine unless nothing else is said.

    The authors take each prompt's parts from two lists of theirs; the words tell the same for all but one of the 300. CLIP reads
    prompts without their adjectives where a tagger tells them, as the authors' does.
    """
    cosines = as_scores(np.array(chunk.bare_text_cosines)[list(rows)])
    prompts = [chunk.pictures[row].prompt or "" for row in rows]
    found: list[Found] = []
    for prompt, attributes, spatial, cosine in zip(prompts, _attributes(chunk, rows), _spatial(chunk, rows), cosines, strict=True):
        if says_only_where(prompt):
            parts, reason = (attributes, spatial), "the prompt says only where things are"
        elif says_where(prompt) and spatial is not NO_RELATION:
            parts, reason = (attributes, spatial, cosine), ""
        else:
            parts, reason = (attributes, cosine), NO_RELATION.reason
        failed = next((part for part in parts if isinstance(part, Unscored)), None)
        values = [part.value for part in parts if isinstance(part, Score)]
        found.append(failed or Score(value=sum(values) / len(values), reason=reason))
    return found


def _geneval_by_detector(chunk: Chunk, rows: Sequence[int]) -> list[Found]:
    detector, clip = chunk.sources.detector, chunk.sources.clip
    assert detector is not None
    assert clip is not None
    wanted = {row: metadata for row in rows if (metadata := chunk.pictures[row].metadata) is not None}
    labels = {row: geneval_labels(each, detector.known) for row, each in wanted.items()}
    known = {row: each for row, each in labels.items() if not isinstance(each, Unscored)}
    things = chunk.detections({row: list(each.values()) for row, each in known.items()})
    found: dict[int, Found] = {row: each for row, each in (labels | things).items() if isinstance(each, Unscored)}
    seen = {row: each for row, each in things.items() if not isinstance(each, Unscored)}
    given = [wanted[row] for row in seen], [known[row] for row in seen], [chunk.pictures[row].image for row in seen]
    found |= dict(zip(seen, score_geneval(*given, list(seen.values()), clip, detector.thresholds), strict=True))
    return [found[row] for row in rows]


def _spatial_by_detector(chunk: Chunk, rows: Sequence[int]) -> list[Found]:
    detector = chunk.sources.detector
    assert detector is not None
    placed = {row: spatial_relations(chunk.pictures[row].prompt or "") for row in rows}
    labels = {row: relation_labels(each, detector.known) if each else NO_RELATION for row, each in placed.items()}
    known = {row: each for row, each in labels.items() if not isinstance(each, Unscored)}
    things = chunk.detections({row: list(dict.fromkeys(name for pair in each for name in pair)) for row, each in known.items()})
    found: dict[int, Found] = {row: each for row, each in (labels | things).items() if isinstance(each, Unscored)}
    for row, several in things.items():
        if not isinstance(several, Unscored):
            found[row] = score_relations(placed[row], known[row], chunk.pictures[row].image.size, several, detector.thresholds)
    return [found[row] for row in rows]


def _or_each_alone(together: "Compute") -> "Compute":
    """The same scores; where several pictures fail together, each is tried alone."""

    def compute(chunk: Chunk, rows: Sequence[int]) -> list[Found]:
        try:
            return together(chunk, rows)
        except VernissageError as error:
            if len(rows) == 1:
                return [Unscored(reason=str(error))]
        return [score for row in rows for score in compute(chunk, [row])]

    return compute


Compute = Callable[[Chunk, Sequence[int]], list[Found]]
_COMPUTE: dict[str, Compute] = {
    "clipscore": lambda chunk, rows: as_scores(100 * np.maximum(0.0, np.array(chunk.text_cosines)[list(rows)])),
    "clip-image": lambda chunk, rows: as_scores(np.array(chunk.cosines("clip"))[list(rows)]),
    "dinov2": lambda chunk, rows: as_scores(np.array(chunk.cosines("dinov2"))[list(rows)]),
    "ssim": _pixelwise(ssim),
    "psnr": _pixelwise(psnr),
    "vqascore": _vqascore,
    "q-align": _q_align,
    "mllm-perception": _rated("perception"),
    "mllm-match": _rated("match"),
    "judge-perception": _judged("perception"),
    "judge-correspondence": _judged("correspondence"),
    "tifa": _questioned(share_right),
    "dsg": _questioned(share_with_needs),
    "geneval": _questioned(all_right),
    "geneval-detector": _or_each_alone(_geneval_by_detector),
    "compbench-attributes": _attributes,
    "compbench-spatial": _spatial,
    "compbench-spatial-detector": _spatial_by_detector,
    "compbench-3-in-1": _three_in_one,
}


def _learned(metric: Metric) -> Compute:
    def compute(chunk: Chunk, rows: Sequence[int]) -> list[Found]:
        chosen = [chunk.pictures[row] for row in rows]
        references = [each.reference.image if isinstance(each.reference, Opened) else None for each in chosen]
        return chunk.sources.scorers[metric.name].score([each.image for each in chosen], [each.prompt for each in chosen], references)

    return _or_each_alone(compute)


def _cosine(first: ndarray, second: ndarray) -> float:
    product = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.clip(first @ second / product, -1, 1)) if product > 0 else float("nan")
