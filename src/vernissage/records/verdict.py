"""A score that was measured, or the reason why there is none. Never a zero, a constant or a dropped row."""

from pydantic import BaseModel, ConfigDict

from vernissage.records.plan import Text


class Score(BaseModel):
    """A measured number; its scale and direction are stated where it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    reason: Text = ""
    """Why, where whoever scored it said so."""


class Unscored(BaseModel):
    """No number, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Text
