"""What a trained planner is made of, as one JSON beside its weights: everything needed to load it, nothing of torch."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vernissage.local.adapter_spec import AdapterSpec
from vernissage.zoo.described import read_description

SPEC, WEIGHTS, DEMONSTRATIONS, CARDS = "planner.json", "planner.safetensors", "demonstrations.jsonl", "cards"
Kind = Literal["base", "evo"]


class PlannerSpec(BaseModel):
    """A trained planner without its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str = Field(min_length=1)
    kind: Kind
    """Base answers prompt, model and arguments at once; Evo one after the other."""
    backbone: str
    """Folder, from the planner's own folder on, or hub id, or mini/…"""
    revision: str | None = None
    fingerprint: str
    brief: bool = False
    """Whether it was trained on the short form of each prompt."""
    adapter: AdapterSpec | None = None
    models: tuple[str, ...] = ()
    """Those with a ModelToken, in order."""
    shown: int = Field(default=4, ge=1)
    """Demonstrations of the chosen model that the arguments are read off."""
    prompts: dict[str, str] = {}
    """Hashes of the package's prompts that it was trained on."""
    trained: dict[str, Any] = {}
    """How: recipe, data, versions, what was measured."""


def read_spec(folder: Path) -> PlannerSpec:
    """The description of a planner.

    Raises:
        BadCard: There is none, or it has a mistake in it.
    """
    return read_description(PlannerSpec, folder, what="planner", files=(SPEC, WEIGHTS), again="Train it again.")
