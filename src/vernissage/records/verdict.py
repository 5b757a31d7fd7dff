"""A score that was measured, or the reason why there is none. Never a zero, a constant or a dropped row."""

import math
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vernissage.records.plan import Text

Level = Literal["bad", "poor", "fair", "good", "excellent"]
LEVELS: tuple[Level, ...] = get_args(Level)
"""The five words for a score, worst first (LMM4LMM, eq. 2)."""


class Score(BaseModel):
    """A measured number; its scale and direction are stated where it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float = Field(allow_inf_nan=False)
    reason: Text = ""
    """Why, where whoever scored it said so."""


class Unscored(BaseModel):
    """No number, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Text


NO_PROMPT = Unscored(reason="no prompt was given")
NOT_TRAINED = "was not trained on"
"""Part of the reason where a judge never learnt what it is asked for."""


def is_passing(score: Score | Unscored) -> bool:
    """Whether there is no number for a reason that another try may do away with, not for want of a prompt or of training."""
    return isinstance(score, Unscored) and score != NO_PROMPT and NOT_TRAINED not in score.reason


def as_score(value: float) -> Score | Unscored:
    """A number as a score; Unscored where it is not finite.

    Example:
        >>> as_score(2).value, as_score(float("nan")).reason
        (2.0, 'the number is not finite')
    """
    return Score(value=float(value)) if math.isfinite(value) else Unscored(reason="the number is not finite")


class Rating(BaseModel):
    """An MLLM's answer to the prompts `repainting/rate_*`: the reason, then 1 (worst) to 5 (best)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    reason: str
    rating: int = Field(ge=1, le=5)

    @field_validator("rating", mode="before")
    @classmethod
    def _is_number(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("a rating is a number from 1 to 5, not yes or no")
        return value

    def as_score(self) -> Score:
        """The rating as a number in [0, 1], with its reason.

        Example:
            >>> Rating(reason="one cup is missing", rating=4).as_score()
            Score(value=0.75, reason='one cup is missing')
        """
        return Score(value=(self.rating - 1) / 4, reason=self.reason[:1000])


def read_yes(text: str) -> Score | Unscored:
    """1 for yes and 0 for no, as the first word of an answer; Unscored for anything else.

    Example:
        >>> read_yes("Yes, two of them.").value, read_yes("There are cats.").reason
        (1.0, "the answer is neither yes nor no: 'There are cats.'")
    """
    word = text.strip().lower().split(maxsplit=1)[0].strip(".,!*\"'") if text.strip() else ""
    if word not in ("yes", "no"):
        return Unscored(reason=f"the answer is neither yes nor no: {text[:80]!r}")
    return Score(value=float(word == "yes"))


class Answer(BaseModel):
    """A yes/no question about a picture and how likely the judge finds yes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: Text
    yes: Score | Unscored
    """Probability of yes, in [0, 1]."""


class Verdict(BaseModel):
    """What a judge says of a picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    perception: Score | Unscored
    """How good it looks, 0 to 100."""
    perception_level: Level | None = None
    correspondence: Score | Unscored
    """How well it shows what its prompt asks for, 0 to 100."""
    correspondence_level: Level | None = None
    answers: tuple[Answer, ...] = ()
    judge: Text = Field(min_length=1)
    """Who says so, and in which way."""
