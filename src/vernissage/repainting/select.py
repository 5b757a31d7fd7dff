"""Score the pictures of a round against the reference and choose the best (ImageRepainter, stage 2, step 3).

Scores, all "higher is better": `clip` and `dinov2`, cosine of picture and reference in [-1, 1]; `ssim`, likeness of pixels;
and ratings of the MLLM from 1 to 5 as numbers in [0, 1]: `consistency` of content, `perception`, which is quality, and
`match`, of picture and prompt without the reference, which is what repainting is compared with. A score that could not
be had is `Unscored` with the reason; candidates are compared only by scores that every one of them has.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from vernissage.errors import BadInput, VernissageError
from vernissage.metrics.similarity import ssim
from vernissage.ports import Ask, Reply
from vernissage.records.verdict import Score, Unscored, Verdict
from vernissage.repainting.lockstep import Encodings, Features, Judgements, Questions, Replies, Work
from vernissage.repainting.replies import Rating
from vernissage.repainting.understand import question

Scores = dict[str, Score | Unscored]
RATINGS = {
    "consistency": "repainting/rate_consistency",
    "perception": "repainting/rate_perception",
    "match": "repainting/rate_match",
}


class Attempt(NamedTuple):
    """A picture and the prompt it was painted from."""

    picture: Image.Image
    prompt: str


def score_attempts(
    reference: Image.Image,
    attempts: Sequence[Attempt],
    *,
    ratings: Sequence[str],
    encoders: Sequence[str],
    brief: bool,
    judged_by: str = "",
) -> Work[list[Scores]]:
    """Scores of each picture against the reference.

    Args:
        reference: What was to be painted again.
        attempts: The pictures with their prompts.
        ratings: Which ratings are asked for: any of `RATINGS`.
        encoders: Names of the scores by encoders, Unscored where encoding fails.
        brief: Whether the MLLM wants the short form of prompts.
        judged_by: See `rate_attempts`.
    """
    if not attempts:
        return []
    pictures = [attempt.picture for attempt in attempts]
    scores: list[Scores] = [{} for _ in pictures]
    try:
        features: Features = yield Encodings([reference, *pictures])
    except VernissageError as error:
        for values in scores:
            values.update({name: Unscored(reason=str(error)) for name in encoders})
    else:
        for index, values in enumerate(scores, start=1):
            values.update({name: _cosine(rows[0], rows[index]) for name, rows in features.items()})
    for values, picture in zip(scores, pictures, strict=True):
        values["ssim"] = pixel_likeness(reference, picture)
    rated = yield from rate_attempts(reference, attempts, ratings, brief=brief, judged_by=judged_by)
    return [values | own for values, own in zip(scores, rated, strict=True)]


def rate_attempts(
    reference: Image.Image, attempts: Sequence[Attempt], ratings: Sequence[str], *, brief: bool, judged_by: str = ""
) -> Work[list[Scores]]:
    """Ratings of each picture, by the MLLM or by a judge.

    Args:
        reference: What was to be painted again.
        attempts: The pictures with their prompts.
        ratings: Any of `RATINGS`.
        brief: Whether the MLLM wants the short form of prompts.
        judged_by: The reference in words, if a judge shall rate: perception is then the judge's, consistency its
            correspondence of picture and these words, match that of picture and own prompt, all over 100. Empty: the MLLM rates.
    """
    if not ratings:
        return [{} for _ in attempts]
    wanted = [(attempt, name) for attempt in attempts for name in ratings]
    if judged_by:
        pairs = [(attempt.picture, attempt.prompt if name == "match" else judged_by) for attempt, name in wanted]
        verdicts: list[Verdict | VernissageError] = yield Judgements(pairs)
        found = [read_verdict(verdict, name) for verdict, (_, name) in zip(verdicts, wanted, strict=True)]
    else:
        replies: Replies = yield Questions([rating_question(name, reference, attempt, brief=brief) for attempt, name in wanted])
        found = [read_rating(reply) for reply in replies]
    return [dict(zip(ratings, found[index : index + len(ratings)], strict=True)) for index in range(0, len(found), len(ratings))]


def read_verdict(verdict: Verdict | VernissageError, name: str) -> Score | Unscored:
    """A judge's perception or correspondence as a number in [0, 1], or why there is none."""
    if isinstance(verdict, VernissageError):
        return Unscored(reason=str(verdict))
    found = verdict.perception if name == "perception" else verdict.correspondence
    return found if isinstance(found, Unscored) else Score(value=found.value / 100, reason=verdict.judge)


def rating_question(name: str, reference: Image.Image, attempt: Attempt, *, brief: bool) -> Ask:
    """What an MLLM is asked for a rating of `RATINGS`; each sees only what it needs."""
    if name == "consistency":
        return question(RATINGS[name], (reference, attempt.picture), brief=brief, reply=Rating)
    if name == "perception":
        return question(RATINGS[name], (attempt.picture,), brief=brief, reply=Rating)
    return question(RATINGS[name], (attempt.picture,), brief=brief, reply=Rating, prompt=attempt.prompt)


def _cosine(first: np.ndarray, second: np.ndarray) -> Score | Unscored:
    value = float(first @ second)
    return Score(value=min(1.0, max(-1.0, value))) if np.isfinite(value) else Unscored(reason="the encoder gave no finite features")


def pixel_likeness(reference: Image.Image, picture: Image.Image) -> Score | Unscored:
    """SSIM of a picture and the reference, which is scaled to the picture's size; Unscored for tiny pictures."""
    scaled = reference.convert("RGB").resize(picture.size, Image.Resampling.BICUBIC)
    try:
        return Score(value=ssim(np.asarray(scaled), np.asarray(picture.convert("RGB"))))
    except BadInput as error:
        return Unscored(reason=str(error))


def read_rating(reply: Reply | VernissageError) -> Score | Unscored:
    """A rating from 1 to 5 as a number in [0, 1] with its reason, or why there is none.

    Example:
        >>> read_rating(Reply(text="", record=Rating(reason="one cup is missing", rating=4)))
        Score(value=0.75, reason='one cup is missing')
    """
    if isinstance(reply, VernissageError):
        return Unscored(reason=str(reply))
    if not isinstance(reply.record, Rating):
        return Unscored(reason="the MLLM answered without a rating")
    return Score(value=(reply.record.rating - 1) / 4, reason=reply.record.reason[:1000])


def weigh(scores: Sequence[Scores], weights: Mapping[str, float]) -> list[Score | Unscored]:
    """The selection score of each candidate: the weighted mean of the scores that all of them have.

    Args:
        scores: By candidate and name.
        weights: By name of score; others do not count.

    Returns:
        In [-1, 1], higher is better; Unscored where no weighted score is had by all.

    Example:
        >>> near, far = {"clip": Score(value=1.0), "dinov2": Score(value=0.5)}, {"clip": Score(value=0.5)}
        >>> [score.value for score in weigh([near, far], {"clip": 1, "dinov2": 1})]
        [1.0, 0.5]
    """
    names = [name for name, weight in weights.items() if weight > 0 and all(isinstance(each.get(name), Score) for each in scores)]
    if not names:
        return [Unscored(reason=f"no score of {', '.join(weights) or 'any name'} was had for all candidates")] * len(scores)
    total = sum(weights[name] for name in names)
    return [Score(value=sum(weights[name] * each[name].value for name in names) / total) for each in scores]  # pyright: ignore


def is_better(new: Scores, old: Scores, weights: Mapping[str, float]) -> bool:
    """Whether new scores weigh more than old ones, by those that both have; any score weighs more than none at all.

    Example:
        >>> better, worse = {"clip": Score(value=0.99), "match": Score(value=0.5)}, {"clip": Score(value=0.93)}
        >>> is_better(better, worse, {"clip": 1, "match": 1})
        True
    """
    mine, theirs = weigh([new, old], weights)
    if isinstance(mine, Score) and isinstance(theirs, Score):
        return mine.value > theirs.value
    return isinstance(weigh([new], weights)[0], Score) and isinstance(weigh([old], weights)[0], Unscored)


def select(selection: Sequence[Score | Unscored]) -> int | None:
    """Index of the highest score, the first of equals; 0 where candidates cannot be compared, None where there are none."""
    if not selection:
        return None
    values = [score.value if isinstance(score, Score) else -np.inf for score in selection]
    return int(np.argmax(values))
