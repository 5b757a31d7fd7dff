"""Who fills which port: the one place where names meet drivers.

Drivers are reached by name and imported on first use, so that nothing heavy is loaded before it is needed. Other
packages add drivers through entry points of the groups `vernissage.mllm`, `vernissage.t2i` and `vernissage.encoder`.
"""

import importlib
import inspect
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vernissage.errors import BadCard, MissingExtra, UnknownName
from vernissage.zoo.card import explain
from vernissage.zoo.catalogue import package_folder

Port = Literal["mllm", "t2i", "encoder"]


class Driver(NamedTuple):
    """Where a driver is defined and which extra installs what it needs."""

    target: str
    extra: str = ""


DRIVERS: dict[Port, dict[str, Driver]] = {
    "mllm": {
        "transformers": Driver("vernissage.drivers.mllm_transformers:TransformersMLLM", "local"),
        "openai": Driver("vernissage.drivers.mllm_openai:OpenAIMLLM"),
        "fake": Driver("vernissage.drivers.fake:FakeMLLM"),
    },
    "t2i": {
        "diffusers": Driver("vernissage.drivers.t2i_diffusers:DiffusersT2I", "local"),
        "fake": Driver("vernissage.drivers.fake:FakeT2I"),
    },
    "encoder": {
        "clip": Driver("vernissage.drivers.encode_clip:ClipEncoder", "local"),
        "dinov2": Driver("vernissage.drivers.encode_dinov2:Dinov2Encoder", "local"),
        "fake": Driver("vernissage.drivers.fake:FakeEncoder"),
    },
}


class DriverConfig(BaseModel):
    """A driver by name; all further keys are the driver's own options."""

    model_config = ConfigDict(frozen=True, extra="allow")

    driver: str

    @property
    def options(self) -> dict[str, Any]:
        """The driver's own options."""
        return dict(self.model_extra or {})


def _mini(driver: str, folder: str, **options: object) -> DriverConfig:
    return DriverConfig.model_validate({"driver": driver, "model": f"mini/{folder}", **options})


class StudioConfig(BaseModel):
    """What a studio works with. The default is the embedded mini studio."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = ("mini/*",)
    """Models that may be chosen; a trailing * stands for all that begin so."""
    cards: tuple[Path, ...] = ()
    """Further folders with model cards."""
    mllm: DriverConfig = Field(default_factory=lambda: _mini("transformers", "mllm", brief=True))
    """Who plans, describes and compares."""
    t2i: DriverConfig = Field(default_factory=lambda: DriverConfig(driver="diffusers"))
    """Who paints."""
    clip: DriverConfig | None = Field(default_factory=lambda: _mini("clip", "clip"))
    """Compares pictures with words; none leaves similarities out."""
    dinov2: DriverConfig | None = Field(default_factory=lambda: _mini("dinov2", "dinov2"))
    """Compares pictures with pictures."""


def load_config(path: Path) -> StudioConfig:
    """Read a `vernissage.toml`; its relative paths start at its own folder.

    Raises:
        BadCard: It cannot be read, or has a mistake in it.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadCard(f"Cannot read the configuration {path}: {error.strerror}.", hint="Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadCard(f"The configuration {path} is not valid TOML: {error}.", hint="Mend that line.") from error
    try:
        config = StudioConfig.model_validate(values)
    except ValidationError as error:
        raise BadCard(f"The configuration {path} has a mistake: {explain(error)}.", hint="See docs/how-to/real-models.md.") from error
    parts: list[tuple[Port, DriverConfig | None]] = [("mllm", config.mllm), ("t2i", config.t2i)]
    for port, part in [*parts, ("encoder", config.clip), ("encoder", config.dinov2)]:
        if part is not None:
            find_driver(port, part.driver)
    return config.model_copy(update={"cards": tuple(path.parent / folder for folder in config.cards)})


def find_driver(port: Port, name: str) -> Driver:
    """A driver by its name, ours or an installed package's.

    Raises:
        UnknownName: Nobody offers it.
    """
    known = dict(DRIVERS[port])
    known |= {point.name: Driver(point.value) for point in entry_points(group=f"vernissage.{port}") if point.name not in known}
    if name not in known:
        raise UnknownName(f"{port} driver", name, known)
    return known[name]


def load_driver(port: Port, config: DriverConfig, **given: Any) -> Any:
    """Import a driver and make it, with what wiring gives (the catalogue, say) and the configured options.

    Raises:
        MissingExtra: A package it needs is not installed.
        BadCard: It does not take one of the options.
    """
    driver = find_driver(port, config.driver)
    module, name = driver.target.split(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or module, extra=driver.extra or "local") from error
    accepted = inspect.signature(make).parameters
    for option in config.options:
        if option not in accepted:
            known = ", ".join(sorted(set(accepted) - set(given)))
            raise BadCard(f"The driver {config.driver!r} has no option {option!r}.", hint=f"It takes: {known}.")
    options = {key: value for key, value in given.items() if key in accepted} | config.options
    if str(options.get("model", "")).startswith("mini/"):
        options["model"] = str(package_folder("mini") / str(options["model"]).removeprefix("mini/"))
    return make(**options)
