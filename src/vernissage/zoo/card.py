"""A model card: what a T2I model is, where its weights lie, what it can take, and pictures others made with it.

Cards are TOML files. Unknown keys are refused, so that a misspelt one cannot pass for a default.
"""

import re
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vernissage.errors import BadCard, BadPlan, UnknownName
from vernissage.records.parameters import split_sampler
from vernissage.records.plan import Arguments, Plan

_WEIGHTS = ("safetensors", "ckpt", "pt", "bin")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoraFile(_Strict):
    """An adapter that belongs to a model."""

    path: str
    """File or folder; relative paths start at the card's folder."""
    weight: float = 1.0


class Source(_Strict):
    """Where the weights lie. `path` is a local file or folder, `repo` a hub id; exactly one of them, or a `base`."""

    path: str | None = None
    repo: str | None = None
    revision: str | None = None
    """Commit or tag of the repo."""
    base: str | None = None
    """Another card whose weights are the starting point, for adapters and replaced parts."""
    loras: tuple[LoraFile, ...] = ()
    parts: dict[Literal["unet", "transformer", "vae", "text_encoder"], str] = {}
    """Folders of single parts that replace the base's own, for example a fine-tuned UNet."""
    sha256: str | None = None
    """Hash of a single file; checked before it is loaded."""
    config: str | None = None
    """Folder or hub id with the pipeline's configuration, for single files of an unusual shape or without network."""
    pipeline: str | None = None
    """Name of the diffusers pipeline class for single files that do not tell."""
    variant: str | None = None
    """File variant of a repo, for example "fp16"."""

    @model_validator(mode="after")
    def _one_origin(self) -> "Source":
        if sum(origin is not None for origin in (self.path, self.repo, self.base)) != 1:
            raise ValueError("give exactly one of path, repo and base")
        return self


class Range(_Strict):
    """Smallest and largest value allowed, both included."""

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_order(self) -> "Range":
        if self.low > self.high:
            raise ValueError("low is larger than high")
        return self


class Demonstration(_Strict):
    """A prompt that works well with the model, and the arguments it was painted with."""

    prompt: str
    negative_prompt: str = ""
    arguments: Arguments = Arguments()


class Card(_Strict):
    """Everything that is known about one T2I model."""

    id: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*$")
    """Its name in plans, for example "mini/neon"."""
    title: str
    description: str
    """What it is good at; planners read this."""
    licence: str
    """SPDX name or the licence's own title."""
    homepage: str = ""
    source: Source
    keywords: tuple[str, ...] = ()
    """Words of a request that speak for this model."""
    width: int = Field(ge=8)
    """Native width in pixels."""
    height: int = Field(ge=8)
    """Native height in pixels."""
    size_multiple: int = Field(default=8, ge=1)
    """Width and height must be multiples of this."""
    sizes: Range = Range(low=64, high=2048)
    samplers: tuple[str, ...] = ()
    """Samplers that suit it, best first; empty for any."""
    steps: Range = Range(low=1, high=150)
    cfg_scale: Range = Range(low=1, high=30)
    defaults: Arguments
    demonstrations: tuple[Demonstration, ...] = ()
    folder: Path = Field(default=Path(), exclude=True)
    """Where the card was found."""
    file: str = Field(default="", exclude=True)
    """The file it was read from, for messages."""

    @model_validator(mode="after")
    def _some_size(self) -> "Card":
        if not self.sizes.low <= self.nearest_side(self.sizes.low) <= self.sizes.high:
            raise ValueError(f"sizes holds no multiple of {self.size_multiple}")
        return self

    def resolve(self, path: str) -> Path:
        """A path of the card, seen from the card's folder."""
        return (self.folder / path).resolve()

    def files(self) -> list[Path]:
        """The local files and folders that its weights are read from, those that are there."""
        source = self.source
        told = [source.path, source.config, *source.parts.values(), *(lora.path for lora in source.loras)]
        return [place for path in told if path and (place := self.resolve(path)).exists()]

    def complete(self, arguments: Arguments) -> Arguments:
        """Fill what is left open with the card's defaults and native size."""
        native = {"width": self.width, "height": self.height}
        given = {name: value for name, value in arguments if value not in (None, ())}
        defaults = {name: value for name, value in self.defaults if value not in (None, ())}
        return Arguments.model_validate(native | defaults | given)

    def nearest_side(self, value: float) -> int:
        """The side in pixels nearest to this one that the model can paint."""
        low, high = (-(-self.sizes.low // self.size_multiple), self.sizes.high // self.size_multiple)
        return int(round(min(max(value, low * self.size_multiple), high * self.size_multiple) / self.size_multiple) * self.size_multiple)

    def check(self, plan: Plan) -> None:
        """See that the model can paint this plan.

        Raises:
            BadPlan: A number is out of range or the size does not fit; names the fix.
            UnknownName: The sampler is none of the card's.
        """
        arguments = self.complete(plan.arguments)
        for name, allowed in (("steps", self.steps), ("cfg_scale", self.cfg_scale)):
            value = getattr(arguments, name)
            if value is not None and not allowed.low <= value <= allowed.high:
                raise BadPlan(
                    f"{self.id} takes {name} from {allowed.low:g} to {allowed.high:g}, not {value:g}.",
                    hint=f"Its default is {getattr(self.defaults, name) or allowed.low:g}.",
                )
        if arguments.clip_skip is not None and arguments.clip_skip < 1:
            raise BadPlan(f"A clip_skip of {arguments.clip_skip} skips nothing.", hint="1 is the last layer; leave it out to skip none.")
        for name in ("width", "height"):
            value = getattr(arguments, name)
            if value % self.size_multiple or not self.sizes.low <= value <= self.sizes.high:
                raise BadPlan(
                    f"{self.id} cannot paint a {name} of {value} pixels: it takes multiples of {self.size_multiple}"
                    f" from {self.sizes.low:g} to {self.sizes.high:g}.",
                    hint=f"The nearest is {self.nearest_side(value)}; its native size is {self.width}x{self.height}.",
                )
        if arguments.seed is not None and not 0 <= arguments.seed < 2**64:
            raise BadPlan(f"A seed is a whole number from 0 to 2^64 - 1, not {arguments.seed}.", hint="Leave it out to draw one at random.")
        if arguments.sampler is not None and self.samplers and arguments.sampler not in self.samplers:
            known = {split_sampler(sampler) for sampler in self.samplers}
            if split_sampler(arguments.sampler) not in known:
                raise UnknownName(f"sampler for {self.id}", arguments.sampler, self.samplers)


def local_id(name: str) -> str:
    """The id of a model that is known by its file's name alone: `zoo add` gives it to the file, collecting to the demonstrations.

    Example:
        >>> local_id("dream shaper (v2).safetensors"), local_id("墨")
        ('local/dream-shaper-v2', 'local/model-墨')
    """
    stem, _, ending = name.rpartition(".")
    if ending.lower() in _WEIGHTS:
        name = re.split(r"[\\/]", stem)[-1]
    signs = "".join(sign if sign.isalpha() or sign.isdecimal() or sign in "._-" else " " for sign in name)
    name = "-".join(signs.split()).lstrip("._-").rstrip(".-")
    return f"local/{name if name[:1].isascii() and name else f'model-{name}'.rstrip('-')}"


def load_card(path: Path) -> Card:
    """Read a card.

    Raises:
        BadCard: Not TOML, a key nobody knows, or a value that does not fit; names the file, the key and the reason.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadCard(f"Cannot read the card {path}: {error.strerror}.", hint="Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCard(f"The card {path} is not valid TOML: {error}.", hint="Mend that line.") from error
    return parse_card(values, folder=path.parent, name=str(path))


def parse_card(values: dict[str, object], *, folder: Path, name: str) -> Card:
    """Check the values of a card; see `load_card`."""
    for key in ("folder", "file"):  # ours to fill
        if key in values:
            raise BadCard(f"The card {name} has a mistake: unknown key '{key}'.", hint="See docs/reference/cards.md.")
    try:
        return Card.model_validate(values | {"folder": folder, "file": name})
    except ValidationError as error:
        raise BadCard(f"The card {name} has a mistake: {explain(error)}.", hint="See docs/reference/cards.md.") from error


def explain(error: ValidationError) -> str:
    """The first mistake of a validation in words, with its key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the whole"
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'"
    return f"'{key}': {first['msg'].removeprefix('Value error, ')}"
