"""The shapes in which a planner answers: all in one record (ChatGen's Base form), or the arguments alone (Evo's step 3)."""

from pydantic import BaseModel, ConfigDict, Field


class ArgumentsReply(BaseModel):
    """What a language model answers to the prompt `painting/arguments`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    negative_prompt: str = ""
    sampler: str | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None


class PlanReply(BaseModel):
    """What a language model answers to the prompt `painting/plan`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str = Field(min_length=1)
    negative_prompt: str = ""
    model: str
    sampler: str | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None
