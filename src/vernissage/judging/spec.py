"""What a judge is made of, as one JSON beside its weights: everything needed to load it, nothing of torch."""

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from vernissage.local.adapter_spec import AdapterSpec
from vernissage.zoo.described import read_description

Dimension = Literal["perception", "correspondence"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
SPEC, WEIGHTS = "judge.json", "judge.safetensors"


class HeadSpec(BaseModel):
    """A regression head: hidden state in, score out as center + spread x output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter: str
    """The adapter under which the hidden state is taken; "" for the bare backbone."""
    widths: tuple[int, ...]
    """Of the hidden layers, with ReLU after each."""
    last_relu: bool = False
    """Whether the output passes a ReLU as well, as in the authors' code."""
    center: float
    spread: float = Field(gt=0)
    low: float
    """Smallest score of the training set, from which the five levels are cut (LMM4LMM, eq. 2)."""
    high: float


class JudgeSpec(BaseModel):
    """A judge without its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str = Field(min_length=1)
    backbone: str
    """Folder, from the judge's own folder on, or hub id, or mini/…"""
    revision: str | None = None
    fingerprint: str
    brief: bool = False
    """Whether it was trained on the short form of each prompt."""
    adapters: dict[str, AdapterSpec] = {}
    projector: bool = False
    """Whether the projector was trained and lies among the weights."""
    heads: dict[Dimension, HeadSpec] = {}
    resize: int | None = Field(default=None, ge=1)
    """Width and height to which every picture is brought before the backbone's own preparation; as it is where left out."""
    answers: str | None = None
    """The adapter under which questions are answered, "" for none; absent where the judge answers none."""
    wording: dict[str, str] = {}
    """Questions in the words it was trained on, by prompt id, with {prompt} or {question}; the package's own where left out."""
    leads: dict[str, str] = {}
    """How its answer begins, by prompt id, where the state is not read before the answer but after these words of it."""
    prompts: dict[str, str] = {}
    """Hashes of the package's prompts that it was trained on."""
    trained: dict[str, Any] = {}
    """How: recipe, data, seed, versions, what was measured."""


def read_spec(folder: Path) -> JudgeSpec:
    """The description of a judge.

    Raises:
        BadCard: There is none, or it has a mistake in it.
    """
    return read_description(JudgeSpec, folder, what="judge", files=(SPEC, WEIGHTS), again="Save it again.")
