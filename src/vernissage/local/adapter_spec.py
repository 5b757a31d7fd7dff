"""What an adapter is, in the description of whatever was trained with it; nothing of torch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AdapterSpec(BaseModel):
    """A LoRA adapter: where it sits and how strongly it works."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: tuple[Literal["vision", "language"], ...] = Field(min_length=1)
    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
