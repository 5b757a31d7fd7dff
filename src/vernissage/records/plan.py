"""A plan: everything that decides a picture, so that the same plan gives the same picture again."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def whole_characters(text: str) -> str:
    r"""The text with halves of characters (lone surrogates) replaced, which JSON may hold and no file can.

    Example:
        >>> whole_characters("a \ud800 cat") == "a \N{REPLACEMENT CHARACTER} cat"
        True
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


Text = Annotated[str, AfterValidator(whole_characters)]
"""A text that every file can hold."""


class Lora(BaseModel):
    """A low-rank adapter to add to the model, by name, with its weight."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Text
    weight: float = 1.0


class Arguments(BaseModel):
    """How the sampler is run. A field left None takes the model card's default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: Text | None = None
    """A1111 sampler name with its schedule, for example "DPM++ 2M Karras"."""
    steps: int | None = None
    """Denoising steps."""
    cfg_scale: float | None = None
    """Classifier-free guidance; 1 means none."""
    width: int | None = None
    """Pixels."""
    height: int | None = None
    """Pixels."""
    seed: int | None = None
    """Decides the starting noise; the same seed gives the same picture. None draws one at random."""
    clip_skip: int | None = None
    """A1111 counting: 1 uses the text encoder's last layer, 2 the one before."""
    loras: tuple[Lora, ...] = ()


class Choice(BaseModel):
    """A model that might paint this, and how likely the planner finds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    probability: float = Field(ge=0, le=1)


class Plan(BaseModel):
    """A prompt, a model and sampler arguments: the answer to a chat, and all that a T2I driver needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Text
    negative_prompt: Text = ""
    model: Text
    """Id of a model card, for example "mini/neon"."""
    arguments: Arguments = Arguments()
    choices: tuple[Choice, ...] = ()
    """The models considered, most likely first; empty when the caller named the model."""
