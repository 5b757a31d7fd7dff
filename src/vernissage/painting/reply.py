"""The shape in which a planner answers: prompt, model and arguments in one record (ChatGen's Base form)."""

from pydantic import BaseModel, ConfigDict, Field


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
