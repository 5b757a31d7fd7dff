"""How a planner is trained, as a TOML file; the defaults are the paper's where it says."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vernissage.painting.planner_spec import Kind
from vernissage.zoo.described import read_recipe


class PlannerRecipe(BaseModel):
    """A training of a planner.

    References:
        ChatGen (arXiv 2411.17176), section on ChatGen-Evo: AdamW, lr 4e-5, weight decay 1.0 and 5 epochs for the ModelTokens. The
        paper tunes the whole backbone in step 1; here an adapter is, so that both planners share one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Kind
    backbone: str
    """Folder, hub id, or mini/…"""
    revision: str | None = None
    data: Path
    """Queries to learn from: JSONL, JSON or Parquet."""
    cards: Path | None = None
    """Folder of the models' cards; they go along with the planner, and let it learn from descriptions what models are like."""
    out: Path
    name: str = "planner"
    parts: tuple[Literal["vision", "language"], ...] = ("language",)
    """Where the adapter sits; none leaves the backbone as it is, and no step learns but the ModelTokens."""
    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    lr: float = Field(default=4e-5, gt=0)
    epochs: float = Field(default=1, gt=0)
    batch_size: int = Field(default=16, ge=1)
    precision: Literal["auto", "no", "bf16"] = "auto"
    """Of matrix products: bfloat16, or float32 ("no"); "auto" is bfloat16 where the device has instructions for it."""
    brief: bool = False
    """Use the short form of each prompt, as the mini model does."""
    token_lr: float = Field(default=4e-5, gt=0)
    token_weight_decay: float = Field(default=1.0, ge=0)
    token_epochs: int = Field(default=5, ge=1)
    token_batch_size: int = Field(default=64, ge=1)
    shown: int = Field(default=4, ge=1)
    """Demonstrations that arguments are read off."""
    practice: bool = False
    """Whether Evo's adapter practises reading arguments off demonstrations. The paper does not train that; a backbone of a few million
    parameters, which cannot read unknown text yet, needs it."""
    kept: int = Field(default=64, ge=1)
    """Demonstrations of a model that go along with the planner."""
    seed: int = Field(default=0, ge=0)


def load_recipe(path: Path) -> PlannerRecipe:
    """Read a recipe; its relative paths start at its own folder.

    Raises:
        BadCard: It cannot be read, or has a mistake in it.
    """
    return read_recipe(PlannerRecipe, path, places=("data", "cards", "out"), page="docs/planners.md")
