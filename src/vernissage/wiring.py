"""Who fills which port: the one place where names meet drivers.

Drivers are reached by name and imported on first use, so that nothing heavy is loaded before it is needed. Other
packages add drivers through entry points of the groups `vernissage.mllm`, `vernissage.planner`, `vernissage.t2i`,
`vernissage.encoder`, `vernissage.text_encoder`, `vernissage.tagger`, `vernissage.detector`, `vernissage.judge` and `vernissage.scorer`.
"""

import hashlib
import importlib
import inspect
import json
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_origin
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from vernissage.errors import BadCard, BadInput, MissingExtra, UnknownName
from vernissage.painting.planner_spec import WEIGHTS
from vernissage.records.files import files_hash
from vernissage.zoo.card import explain
from vernissage.zoo.catalogue import model_place

Port = Literal["mllm", "planner", "t2i", "encoder", "text_encoder", "tagger", "detector", "judge", "scorer"]
_PATIENCE = ("api_key_variable", "concurrency", "timeout_s", "retries", "longest_wait_s", "first_wait_s")
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


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
    "planner": {
        "trained": Driver("vernissage.painting.nn.planner:TrainedPlanner", "local"),
    },
    "t2i": {
        "diffusers": Driver("vernissage.drivers.t2i_diffusers:DiffusersT2I", "local"),
        "fake": Driver("vernissage.drivers.fake:FakeT2I"),
    },
    "encoder": {
        "clip": Driver("vernissage.drivers.encode_clip:ClipEncoder", "local"),
        "dinov2": Driver("vernissage.drivers.encode_dinov2:Dinov2Encoder", "local"),
        "inception": Driver("vernissage.drivers.encode_inception:InceptionEncoder", "local"),
        "fake": Driver("vernissage.drivers.fake:FakeEncoder"),
    },
    "text_encoder": {
        "transformers": Driver("vernissage.drivers.encode_text:TransformersTextEncoder", "local"),
    },
    "tagger": {
        "spacy": Driver("vernissage.drivers.tag_spacy:load_tagger", "spacy"),
    },
    "detector": {
        "transformers": Driver("vernissage.drivers.detect_transformers:TransformersDetector", "local"),
        "fake": Driver("vernissage.drivers.fake:FakeDetector"),
    },
    "scorer": {
        "clip": Driver("vernissage.drivers.score_clip:ClipScorer", "local"),
        "blip": Driver("vernissage.drivers.score_blip:BlipScorer", "local"),
        "aesthetic": Driver("vernissage.drivers.score_aesthetic:AestheticScorer", "local"),
        "lpips": Driver("vernissage.drivers.score_lpips:LpipsScorer", "local"),
        "hpsv2": Driver("vernissage.drivers.score_hpsv2:HpsScorer", "local"),
        "image-reward": Driver("vernissage.drivers.score_image_reward:ImageRewardScorer", "local"),
        "clip-flant5": Driver("vernissage.drivers.score_clip_flant5:ClipFlanT5Scorer", "local"),
        "niqe": Driver("vernissage.drivers.score_naturalness:NiqeScorer"),
        "brisque": Driver("vernissage.drivers.score_naturalness:BrisqueScorer"),
    },
    "judge": {
        "trained": Driver("vernissage.judging.nn.judge:TrainedJudge", "local"),
        "several": Driver("vernissage.judging.nn.several:SeveralJudges", "local"),
    },
}


PLANNERS = ("evo", "base")
"""Trained planners of the mini studio."""


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

    models: tuple[str, ...] = Field(default=("mini/*",), min_length=1)
    """Models that may be chosen; a trailing * stands for all that begin so."""
    cards: tuple[Path, ...] = ()
    """Further folders with model cards."""
    mllm: DriverConfig = Field(default_factory=lambda: _mini("transformers", "mllm", brief=True, batch_size=32))
    """Who plans, describes and compares."""
    planner: DriverConfig | None = None
    """Who plans instead of the MLLM, a trained planner."""
    t2i: DriverConfig = Field(default_factory=lambda: DriverConfig(driver="diffusers"))
    """Who paints."""
    clip: DriverConfig | None = Field(default_factory=lambda: _mini("clip", "clip"))
    """Compares pictures with words; none, in TOML `false`, leaves similarities out."""
    dinov2: DriverConfig | None = Field(default_factory=lambda: _mini("dinov2", "dinov2"))
    """Compares pictures with pictures; none, in TOML `false`, leaves that out."""
    inception: DriverConfig | None = None
    """Encodes pictures for FID, KID and the Inception Score; none without its weights."""
    text_encoder: DriverConfig | None = Field(default_factory=lambda: _mini("transformers", "clip"))
    """Compares words with words, for BERTScore; none, in TOML `false`, leaves that out."""
    detector: DriverConfig | None = None
    """Finds things in pictures, for `geneval-detector` and `compbench-spatial-detector`; none without one."""
    tagger: DriverConfig | None = None
    """Tells parts of speech, so that CLIP reads no adjectives in `compbench-3-in-1`, as its authors' does not; none without one."""
    judge: DriverConfig | None = None
    """Who judges, a trained judge; none, in TOML `false`, asks the MLLM. Left out, the mini judge where the MLLM is the mini one."""

    scorers: dict[str, DriverConfig] = {}
    """Learned metrics of `vernissage score`, by metric."""

    @field_validator("clip", "dinov2", "inception", "text_encoder", "detector", "tagger", "judge", "planner", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return None if value is False else value

    @property
    def planner_folder(self) -> Path | None:
        """Where the trained planner lies; none without one."""
        place = str(self.planner.options.get("model", "")) if self.planner else ""
        return Path(model_place(place, Path())) if place else None

    @property
    def trained_judge(self) -> DriverConfig | None:
        """The trained judge to use; none means that the MLLM is asked."""
        if "judge" in self.model_fields_set or not str(self.mllm.options.get("model", "")).startswith("mini/"):
            return self.judge
        return _mini("trained", "judge")


def planner_config(name: str) -> DriverConfig | None:
    """The planner of that name: the mini studio's evo or base, the folder of a trained one, or none for the MLLM ("mllm").

    Raises:
        UnknownName: There is none of that name.
    """
    if name == "mllm":
        return None
    if name in PLANNERS:
        return _mini("trained", f"planner-{name}")
    if name.startswith("mini/") or Path(name).is_dir():
        return DriverConfig.model_validate({"driver": "trained", "model": name})
    raise UnknownName("planner", name, ["mllm", *PLANNERS, "the folder of a trained one"])


def planner_identity(name: str) -> str:
    """Identifier of a planner: the hash of its weights if it is trained, else its name."""
    try:
        config = planner_config(name)
    except UnknownName:  # a planner that a program brings along
        return name
    if config is None:
        return name
    weights = Path(model_place(str(config.options["model"]), Path())) / WEIGHTS
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:16] if weights.is_file() else name


def load_config(path: Path) -> StudioConfig:
    """Read a `vernissage.toml`; its relative paths start at its own folder.

    Raises:
        BadCard: It cannot be read, or has a mistake in it.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadCard(f"Cannot read the configuration {path}: {error.strerror}.", hint="Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCard(f"The configuration {path} is not valid TOML: {error}.", hint="Mend that line.") from error
    try:
        config = StudioConfig.model_validate(values)
    except ValidationError as error:
        known = ", ".join(StudioConfig.model_fields)
        raise BadCard(f"The configuration {path} has a mistake: {explain(error)}.", hint=f"Its keys are {known}.") from error
    update: dict[str, Any] = {"cards": tuple(path.parent / folder.expanduser() for folder in config.cards)}
    ports: dict[str, Port] = {
        "mllm": "mllm",
        "planner": "planner",
        "t2i": "t2i",
        "clip": "encoder",
        "dinov2": "encoder",
        "inception": "encoder",
        "text_encoder": "text_encoder",
        "detector": "detector",
        "tagger": "tagger",
        "judge": "judge",
    }
    for name, port in ports.items():
        part: DriverConfig | None = getattr(config, name)
        if part is not None and name in config.model_fields_set:
            find_driver(port, part.driver)
            update[name] = _seen_from(path.parent, part)
    for part in config.scorers.values():
        find_driver("scorer", part.driver)
    if config.scorers:
        from vernissage.scoring.registry import METRICS

        known = [name for name, metric in METRICS.items() if "scorer" in metric.needs]
        for name in config.scorers:
            if name not in known:
                raise UnknownName("metric with a checkpoint of its own", name, known)
        update["scorers"] = {name: _seen_from(path.parent, part) for name, part in config.scorers.items()}
    return config.model_copy(update=update)


def _seen_from(folder: Path, part: DriverConfig) -> DriverConfig:
    """A driver's configuration with options that begin with a dot as whole paths; others are names or hub ids."""

    def placed(value: Any) -> Any:
        return str((folder / value).resolve()) if isinstance(value, str) and value.startswith(("./", "../")) else value

    whole = {name: [placed(each) for each in value] if isinstance(value, list) else placed(value) for name, value in part.options.items()}
    return DriverConfig(driver=part.driver, **whole)


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
        BadInput: A number of things at once is less than 1.
    """
    driver = find_driver(port, config.driver)
    module, _, name = driver.target.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or module, extra=driver.extra or "local") from error
    except AttributeError as error:
        raise BadCard(f"The driver {config.driver!r} is not at {driver.target!r}.", hint="Mend the package that offers it.") from error
    accepted = inspect.signature(make).parameters
    given = {key: value for key, value in given.items() if key in accepted}
    options = given | _check_options(config, {key: value for key, value in accepted.items() if key not in given})
    if str(options.get("model", "")).startswith("mini/"):
        options["model"] = model_place(str(options["model"]), Path())
    if isinstance(options.get("models"), list):
        options["models"] = [model_place(each, Path()) if each.startswith("mini/") else each for each in options["models"]]
    return make(**options)


def stated(config: DriverConfig) -> dict[str, Any]:
    """What a driver's answers depend on: its options and a hash of the files that they name, for the header of a run.

    How a server is reached is left out, so that a run may go on with more patience, and so are passwords and keys in addresses.
    """
    told = {name: value for name, value in config.model_dump(mode="json").items() if name not in _PATIENCE}
    if isinstance(address := told.get("base_url"), str):
        parts = urlsplit(address)
        told["base_url"] = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    named = [each for name, value in config.options.items() if name not in ("device", "dtype") for each in _texts(value)]
    files = files_hash(place for each in named if (place := Path(model_place(each, Path()))).exists())
    return told | ({"files": files} if files else {})


def _texts(value: object) -> list[str]:
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str) and each]


def identity_of(config: DriverConfig) -> str:
    """Hash of what a driver's answers depend on; see `stated`."""
    return hashlib.sha256(json.dumps(stated(config), sort_keys=True).encode()).hexdigest()[:16]


def import_local(module: str) -> Any:
    """A module of ours that runs or trains models here.

    Raises:
        MissingExtra: A package it needs is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or module, extra="local") from error


def _check_options(config: DriverConfig, accepted: dict[str, inspect.Parameter]) -> dict[str, Any]:
    """The configured options; numbers and texts are checked here, so that a mistake is named and not met later."""
    options = config.options
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    accepted = {name: parameter for name, parameter in accepted.items() if parameter.kind not in _VARIADIC}
    for option, value in options.items():
        if option not in accepted and takes_any:
            continue
        if option not in accepted:
            raise BadCard(
                f"The driver {config.driver!r} has no option {option!r}.", hint=f"It takes: {', '.join(sorted(accepted)) or 'none'}."
            )
        kind = accepted[option].annotation
        if kind in (str, int, float, bool) or get_origin(kind) in (Literal, list):
            try:
                options[option] = TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise BadCard(f"The option {option!r} of the driver {config.driver!r} has a mistake: {reason}.", hint="Mend it.") from error
        value = options[option]
        if option in ("batch_size", "keep") and value is not None and not (isinstance(value, int) and value >= 1):
            raise BadInput(f"The option {option!r} of the driver {config.driver!r} is {value!r}.", hint="Give a whole number, 1 or more.")
    for option, parameter in accepted.items():
        if parameter.default is parameter.empty and option not in options:
            raise BadCard(f"The driver {config.driver!r} needs the option {option!r}.", hint="Add it.")
    return options
