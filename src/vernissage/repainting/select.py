"""Score the pictures of a round against the reference and choose the best (ImageRepainter, stage 2, step 3).

Scores, all "higher is better": `clip` and `dinov2`, cosine of picture and reference in [-1, 1]; `ssim`, likeness of pixels;
ratings of the MLLM from 1 to 5 as numbers in [0, 1]: `consistency` of content, `perception`, which is quality, and
`match`, of picture and prompt without the reference, which is what repainting is compared with; and `facts`, the share of
the tree's facts that hold in the picture, asked one by one. Learned metrics that a studio has for pairs, such as `lpips`, stand
beside them, on their own scale, and do not choose. A score that could not
be had is `Unscored` with the reason; candidates are compared only by scores that every one of them has.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from vernissage.errors import BadInput, VernissageError
from vernissage.metrics.similarity import ssim
from vernissage.ports import Ask, Reply
from vernissage.records.verdict import Answer, Rating, Score, Unscored, Verdict, read_yes
from vernissage.repainting.facts import share_of_facts
from vernissage.repainting.lockstep import Comparisons, Encodings, Features, Judgements, Questions, Replies, Work
from vernissage.repainting.understand import question

Scores = dict[str, Score | Unscored]
RATINGS = ("consistency", "perception", "match", "facts")
"""Scores that somebody is asked for."""


class Attempt(NamedTuple):
    """A picture and the prompt it was painted from."""

    picture: Image.Image
    prompt: str


class Rater(NamedTuple):
    """Who rates, and what is known of the reference beforehand."""

    brief: bool
    """Whether the MLLM wants the short form of prompts."""
    judged_by: str = ""
    """The reference in words, if a judge shall rate: perception is then the judge's, consistency its correspondence of picture and these
    words, match that of picture and own prompt, all over 100. Empty: the MLLM rates."""
    facts: tuple[str, ...] = ()
    """Questions about the reference's facts; see `facts.facts_to_ask`."""


def score_attempts(
    reference: Image.Image, attempts: Sequence[Attempt], *, ratings: Sequence[str], encoders: Sequence[str], rater: Rater
) -> Work[list[Scores]]:
    """Scores of each picture against the reference.

    Args:
        reference: What was to be painted again.
        attempts: The pictures with their prompts.
        ratings: Which ratings are asked for: any of `RATINGS`.
        encoders: Names of the scores by encoders, Unscored where encoding fails.
        rater: Who rates.
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
    compared: dict[str, list[Score | Unscored]] = yield Comparisons([(picture, reference) for picture in pictures])
    for index, (values, picture) in enumerate(zip(scores, pictures, strict=True)):
        values["ssim"] = pixel_likeness(reference, picture)
        values.update({name: found[index] for name, found in compared.items()})
    rated = yield from rate_attempts(reference, attempts, ratings, rater)
    return [values | own for values, own in zip(scores, rated, strict=True)]


def rate_attempts(reference: Image.Image, attempts: Sequence[Attempt], ratings: Sequence[str], rater: Rater) -> Work[list[Scores]]:
    """Ratings of each picture, by the MLLM or by a judge.

    Args:
        reference: What was to be painted again.
        attempts: The pictures with their prompts.
        ratings: Any of `RATINGS`.
        rater: Who rates.
    """
    if not ratings or not attempts:
        return [{} for _ in attempts]
    rate = _rate_by_judge if rater.judged_by else _rate_by_mllm
    return (yield from rate(reference, attempts, ratings, rater))


def _rate_by_mllm(reference: Image.Image, attempts: Sequence[Attempt], ratings: Sequence[str], rater: Rater) -> Work[list[Scores]]:
    asks: list[Ask] = []
    for attempt in attempts:
        for name in ratings:
            asks += _fact_questions(attempt, rater) if name == "facts" else [rating_question(name, reference, attempt, brief=rater.brief)]
    replies: Replies = yield Questions(asks)
    said = iter(replies)
    return [{name: _facts_said(rater.facts, said) if name == "facts" else read_rating(next(said)) for name in ratings} for _ in attempts]


def _rate_by_judge(_reference: Image.Image, attempts: Sequence[Attempt], ratings: Sequence[str], rater: Rater) -> Work[list[Scores]]:
    """One look at a picture answers for all ratings but `match`, which asks for other words."""
    words = {name: [attempt.prompt if name == "match" else rater.judged_by for attempt in attempts] for name in ratings}
    facts = rater.facts if "facts" in ratings else ()
    cases = list(dict.fromkeys((index, text) for several in words.values() for index, text in enumerate(several)))
    verdicts: list[Verdict | VernissageError] = yield Judgements(
        [(attempts[index].picture, text, facts if text == rater.judged_by else ()) for index, text in cases]
    )
    found = dict(zip(cases, verdicts, strict=True))
    return [{name: read_verdict(found[index, words[name][index]], name) for name in ratings} for index in range(len(attempts))]


def _fact_questions(attempt: Attempt, rater: Rater) -> list[Ask]:
    return [question("judging/answer", (attempt.picture,), brief=rater.brief, question=text) for text in rater.facts]


def _facts_said(facts: Sequence[str], said: Iterator[Reply | VernissageError]) -> Score | Unscored:
    replies = [next(said) for _ in facts]
    answers = [
        Answer(question=text, yes=Unscored(reason=str(reply)) if isinstance(reply, VernissageError) else read_yes(reply.text))
        for text, reply in zip(facts, replies, strict=True)
    ]
    return share_of_facts(answers)


def read_verdict(verdict: Verdict | VernissageError, name: str) -> Score | Unscored:
    """A judge's perception, correspondence or answers as a number in [0, 1], or why there is none."""
    if isinstance(verdict, VernissageError):
        return Unscored(reason=str(verdict))
    if name == "facts":
        return share_of_facts(verdict.answers)
    found = verdict.perception if name == "perception" else verdict.correspondence
    return found if isinstance(found, Unscored) else Score(value=found.value / 100, reason=verdict.judge)


def rating_question(name: str, reference: Image.Image, attempt: Attempt, *, brief: bool) -> Ask:
    """What an MLLM is asked for a rating from 1 to 5; each sees only what it needs."""
    if name == "consistency":
        return question(f"repainting/rate_{name}", (reference, attempt.picture), brief=brief, reply=Rating)
    if name == "perception":
        return question(f"repainting/rate_{name}", (attempt.picture,), brief=brief, reply=Rating)
    return question(f"repainting/rate_{name}", (attempt.picture,), brief=brief, reply=Rating, prompt=attempt.prompt)


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
    return reply.record.as_score()


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
