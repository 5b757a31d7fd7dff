"""How a judge is trained, as a TOML file; the defaults are the paper's where it says."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vernissage.errors import BadCard
from vernissage.judging.spec import DIMENSIONS, Dimension
from vernissage.zoo.described import read_recipe


class JudgeRecipe(BaseModel):
    """A training of a judge.

    References:
        LMM4LMM (arXiv 2504.08358), section on training: LoRA rank 8 on vision encoder and LLM, lr 1e-5, cosine, batch 8, 1 + 5
        epochs, 4:1 split by 5 folds. The widths of the head are those of the released code.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    backbone: str
    """Folder, hub id, or mini/…"""
    revision: str | None = None
    data: Path
    """A JSONL file of judged pictures, or the folder of EvalMi-50K's files."""
    images: Path | None = None
    """Folder of EvalMi-50K's pictures."""
    out: Path
    name: str = ""
    """What the judge is called in verdicts; left out, as its folder is."""
    dimensions: tuple[Dimension, ...] = DIMENSIONS
    answers: bool = True
    """Whether yes/no questions are learnt."""
    adapters: Literal["shared", "each"] = "shared"
    """One adapter for everything, so that one look serves all; or one for each dimension and one for answers."""
    parts: tuple[Literal["vision", "language"], ...] = ("vision", "language")
    """Where adapters sit; none leaves the backbone as it is."""
    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16, gt=0)
    head: tuple[Annotated[int, Field(ge=1)], ...] = (1024, 256, 64, 16)
    resize: int | None = Field(default=None, ge=1)
    """Width and height to which every picture is brought first, 1024 in the paper; then tiles of InternVL are the same for all."""
    levels: bool = True
    """Whether a first step teaches the projector levels and answers in words."""
    level_epochs: float = Field(default=1, gt=0)
    epochs: float = Field(default=5, gt=0)
    lr: float = Field(default=1e-5, gt=0)
    batch_size: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)
    """Passes whose gradients are summed for one step."""
    answer_weight: float = Field(default=1.0, ge=0)
    """Of the answers' loss beside the scores'."""
    precision: Literal["auto", "no", "bf16"] = "auto"
    """Of matrix products: bfloat16, or float32 ("no"); "auto" is bfloat16 where the device has instructions for it."""
    checkpointing: bool = False
    """Recompute activations in the backward pass, for memory."""
    brief: bool = False
    """Use the short form of each prompt, as the mini model does."""
    folds: int = Field(default=5, ge=2)
    fold: int = Field(default=0, ge=0)
    """Which fold is held out as test set."""
    validation: float = Field(default=0.1, gt=0, le=0.5)
    """Share of the training prompts that choose the best epoch; the test fold never does."""
    evaluations: int = Field(default=5, ge=1)
    """How many times on the way the validation set is looked at."""
    seed: int = Field(default=0, ge=0)


def load_recipe(path: Path) -> JudgeRecipe:
    """Read a recipe; its relative paths start at its own folder.

    Raises:
        BadCard: It cannot be read, or has a mistake in it.
    """
    recipe = read_recipe(JudgeRecipe, path, places=("data", "images", "out"), page="docs/judge.md")
    if recipe.fold >= recipe.folds:
        raise BadCard(f"The recipe {path} holds out fold {recipe.fold} of {recipe.folds}.", hint="Folds are counted from 0.")
    return recipe
