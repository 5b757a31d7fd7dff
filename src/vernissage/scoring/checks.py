"""Questions about a picture whose right answers are known: GenEval's, TIFA's, DSG's, those of a prompt's own words.

Each asks one fact. An MLLM answers; who asks decides what the answers make: a share (TIFA), a share in which a fact counts only if
what it needs is there (DSG), all or nothing (GenEval), a product of probabilities (T2I-CompBench). `questions` reads checks from files,
`things` makes them of a prompt's own words.
"""

import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
from PIL import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from vernissage.errors import NoProbabilities, VernissageError
from vernissage.ports import MLLM, Ask, Message, Reply
from vernissage.prompts import load_prompt
from vernissage.records.verdict import Score, Unscored

YES_NO = ("yes", "no")
MOST_CHECKS = 40
"""Of a prompt: more are a sign of a rambling MLLM."""


class Check(NamedTuple):
    """A question with its right answer."""

    question: str
    expected: str = "yes"
    choices: tuple[str, ...] = YES_NO
    needs: tuple[int, ...] = ()
    """Checks, by place, without which this one makes no sense."""


class Checked(NamedTuple):
    """What an MLLM answered to a check."""

    likely: float
    """Probability of the right answer, in [0, 1]; 1 or 0 where the MLLM tells no probabilities."""
    right: bool


class WrittenCheck(BaseModel):
    """One question of `WrittenChecks`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    question: str
    needs: Annotated[list[int], BeforeValidator(lambda value: [] if value is None else value)] = []


class WrittenChecks(BaseModel):
    """Answer to `scoring/questions`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    questions: list[WrittenCheck] = Field(min_length=1, max_length=MOST_CHECKS)


def share_right(checks: Sequence[Check], answers: Sequence[Checked]) -> Score:
    """Share of right answers (TIFA, eq. 1), with the wrong ones as the reason.

    Example:
        >>> cat, red = Check("Is there a cat?"), Check("Is it red?", needs=(0,))
        >>> share_right([cat, red], [Checked(0.2, False), Checked(0.9, True)])
        Score(value=0.5, reason='wrong: Is there a cat?')
    """
    return _share(checks, [each.right for each in answers])


def share_with_needs(checks: Sequence[Check], answers: Sequence[Checked]) -> Score:
    """Share of right answers, those whose needs are not met counted as wrong (DSG, section 3.2).

    Example:
        >>> cat, red = Check("Is there a cat?"), Check("Is it red?", needs=(0,))
        >>> share_with_needs([cat, red], [Checked(0.2, False), Checked(0.9, True)]).value
        0.0
    """
    return _share(checks, [each.right and all(answers[n].right for n in check.needs) for check, each in zip(checks, answers, strict=True)])


def all_right(checks: Sequence[Check], answers: Sequence[Checked]) -> Score:
    """1 if all answers are right, else 0 (GenEval)."""
    score = _share(checks, [each.right for each in answers])
    return Score(value=float(score.value == 1), reason=score.reason)


def product(checks: Sequence[Check], answers: Sequence[Checked]) -> Score:
    """Product of the right answers' probabilities (T2I-CompBench, disentangled BLIP-VQA)."""
    return Score(value=float(np.prod([each.likely for each in answers])), reason=_share(checks, [each.right for each in answers]).reason)


def _share(checks: Sequence[Check], right: Sequence[bool]) -> Score:
    wrong = [check.question for check, each in zip(checks, right, strict=True) if not each]
    return Score(value=sum(right) / len(right), reason=f"wrong: {' '.join(wrong)}" if wrong else "all right")


# ------------------------------------------------------------------------------------------------------------- asking


def ask_checks(mllm: MLLM, cases: Sequence[tuple[Image.Image, Check]]) -> list[Checked | Unscored]:
    """An answer to each check, in order, all asked together; by probability where the MLLM tells it, else by its words."""
    found: dict[int, Checked | Unscored] = {}
    by_choices: dict[tuple[str, ...], list[int]] = {}
    for index, (_, check) in enumerate(cases):
        by_choices.setdefault(check.choices, []).append(index)
    for choices, rows in by_choices.items():
        asks = [_ask(mllm, *cases[row]) for row in rows]
        chosen = mllm.choose(asks, choices)
        expected = [choices.index(cases[row][1].expected) for row in rows]
        if all(isinstance(each, NoProbabilities) for each in chosen):  # of some, what failed is not mixed with certain words
            found |= {row: _by_words(reply, choices, right) for row, reply, right in zip(rows, mllm.answer(asks), expected, strict=True)}
        else:
            found |= {row: _by_probability(each, right) for row, each, right in zip(rows, chosen, expected, strict=True)}
    return [found[index] for index in range(len(cases))]


def _ask(mllm: MLLM, image: Image.Image, check: Check) -> Ask:
    if check.choices == YES_NO:
        text = load_prompt("judging/answer").render(brief=mllm.brief, question=check.question)
    else:
        text = load_prompt("scoring/choice").render(brief=mllm.brief, question=check.question, choices=list(check.choices))
    return Ask(messages=(Message(text=text, images=(image,)),), max_tokens=32)


def _by_probability(chances: np.ndarray | VernissageError, right: int) -> Checked | Unscored:
    if isinstance(chances, VernissageError):
        return Unscored(reason=str(chances))
    if not np.isfinite(chances).all() or chances.sum() <= 0:
        return Unscored(reason="the probabilities of the answers are no numbers")
    return Checked(float(np.clip(chances[right], 0, 1)), int(np.argmax(chances)) == right)


def _by_words(reply: Reply | VernissageError, choices: tuple[str, ...], right: int) -> Checked | Unscored:
    if isinstance(reply, VernissageError):
        return Unscored(reason=str(reply))
    said, marks = reply.text.strip().lower(), " .,!*\"'"
    stripped = [choice.lower().strip(marks) for choice in choices]
    exact = [index for index, choice in enumerate(stripped) if choice == said.strip(marks)]
    begins = [index for index, choice in enumerate(stripped) if re.match(rf"[{marks}]*{re.escape(choice)}(?![\w/])", said)]
    named = exact or [index for index in begins if len(stripped[index]) == max(len(stripped[other]) for other in begins)]
    if len(named) != 1:
        return Unscored(reason=f"the answer is none of {', '.join(choices)}: {reply.text[:80]!r}")
    return Checked(float(named[0] == right), named[0] == right)


def write_checks(mllm: MLLM, prompts: Sequence[str]) -> list[tuple[Check, ...] | Unscored]:
    """Questions that an MLLM writes to each prompt; a small one is not asked, for what it wrote would mean nothing."""
    if mllm.brief:
        return [Unscored(reason=f"{mllm.name} is too small to write questions; give them with --questions")] * len(prompts)
    text = load_prompt("scoring/questions")
    asks = [Ask(messages=(Message(text=text.render(prompt=prompt)),), reply=WrittenChecks, max_tokens=2048) for prompt in prompts]
    return [_written(reply) for reply in mllm.answer(asks)]


def _written(reply: Reply | VernissageError) -> tuple[Check, ...] | Unscored:
    if isinstance(reply, VernissageError):
        return Unscored(reason=f"no questions could be had: {reply}")
    if not isinstance(reply.record, WrittenChecks):
        return Unscored(reason="no questions could be had: the MLLM wrote none")
    several = reply.record.questions
    if not any(each.question.strip() for each in several):
        return Unscored(reason="no questions could be had: all are blank")
    if blank := {number for number, each in enumerate(several, start=1) if not each.question.strip()}:
        places = [number for number in range(1, len(several) + 1) if number not in blank]
        several = [
            each.model_copy(update={"needs": [places.index(n) + 1 for n in each.needs if n in places]})
            for number, each in enumerate(several, start=1)
            if number not in blank
        ]
    return tuple(
        Check(each.question, needs=tuple(sorted({n - 1 for n in each.needs if 1 <= n <= len(several) and n - 1 != index})))
        for index, each in enumerate(several)
    )
