"""T2I through diffusers: pipeline folders, hub repositories, single files, LoRA adapters, replaced parts.

Plans are grouped by what must be equal in one call (model, size, sampler, steps, guidance, clip skip, adapters) and
painted in batches, on a CPU side by side. Starting noise comes from each plan's own seed on the CPU, so a picture does not
depend on its batch or device. Weights are read from safetensors only, unless pickle files are allowed explicitly.
"""

import copy
import gc
import hashlib
import inspect
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from safetensors import SafetensorError

from vernissage.drivers.clip_prompts import embed_prompts, layers_to_skip, must_be_embedded, must_be_painted_alone, takes_weights
from vernissage.drivers.prompt_syntax import plain_text
from vernissage.drivers.samplers import FLOW_SAMPLERS, find_sampler
from vernissage.errors import BadCard, BadInput, BadPlan, DriverError, IntegrityError, MissingExtra, OutOfMemory, Refused, VernissageError
from vernissage.local.device import pick_device, pick_dtype, settle
from vernissage.local.streams import evenly, side_by_side
from vernissage.ports import Progress
from vernissage.records.parameters import extract_loras, split_sampler
from vernissage.records.picture import Picture, Provenance
from vernissage.records.plan import Arguments, Plan
from vernissage.zoo.card import Card
from vernissage.zoo.catalogue import Catalogue, home

for _library in (diffusers, transformers):
    _library.utils.logging.set_verbosity_error()
    _library.utils.logging.disable_progress_bar()

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_OUT_OF_MEMORY = "Lower batch_size, paint smaller pictures, choose dtype = 'float16' or set offload = true, under [t2i] in vernissage.toml."
# What diffusers, peft and safetensors raise when something is wrong with a checkpoint or a call.
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ImportError, OSError, SafetensorError)


@final
class DiffusersT2I:
    """Paints with any diffusers text-to-image pipeline that a card describes.

    Args:
        catalogue: The models that plans may name.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto", "float32", "float16", "bfloat16".
        batch_size: Pictures in work at once at most; None for 8, on a CPU 16 small ones or as many as have the area of 8 of 512 x 512.
        offload: Keep weights in main memory and move each part to the accelerator when it is needed.
        allow_pickle: Also read pickle checkpoints, which can run any code they like when opened.
        keep: How many pipelines stay loaded.
        local_only: Never ask the hub.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | None = None,
        offload: bool = False,
        allow_pickle: bool = False,
        keep: int = 2,
        local_only: bool = False,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise BadInput(f"A batch cannot have {batch_size} pictures.", hint="Give a batch_size of 1 or more under [t2i].")
        self.catalogue = catalogue
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.batch_size = batch_size
        self.offload = offload
        self.allow_pickle = allow_pickle
        self.keep = keep
        self.local_only = local_only
        self._pipelines: dict[str, _Loaded] = {}
        self._one_at_a_time = threading.Lock()

    def paint(self, plans: Sequence[Plan], *, progress: Progress | None = None) -> list[Picture | VernissageError]:
        """Paint each plan, in order; a failed one becomes its error. See `vernissage.ports.T2I`."""
        with self._one_at_a_time:
            return self._paint(plans, progress)

    def _paint(self, plans: Sequence[Plan], progress: Progress | None) -> list[Picture | VernissageError]:
        results: dict[int, Picture | VernissageError] = {}
        ready: dict[int, Plan] = {}
        for index, plan in enumerate(plans):
            try:
                ready[index] = self._prepare(plan)
            except VernissageError as error:
                results[index] = error
        tally = _Tally(progress, total=sum(plan.arguments.steps or 1 for plan in ready.values()))
        for indices in _groups(ready):
            results |= zip(indices, self._paint_group([ready[index] for index in indices], tally), strict=True)
        return [results[index] for index in range(len(plans))]

    def _prepare(self, plan: Plan) -> Plan:
        """The plan with its card's defaults filled in and checked before anything is loaded."""
        card = self.catalogue[plan.model]
        prompt, loras = extract_loras(plan.prompt)
        arguments = plan.arguments.model_copy(update={"loras": (*plan.arguments.loras, *loras)})
        plan = plan.model_copy(update={"prompt": prompt, "arguments": card.complete(arguments)})
        card.check(plan)
        if plan.arguments.sampler:
            find_sampler(plan.arguments.sampler)
        plain_text(prompt), plain_text(plan.negative_prompt)
        for lora in plan.arguments.loras:
            self._find_lora(lora.name)
        if plan.arguments.seed is None:
            seed = int(torch.randint(2**32, (1,)).item())
            plan = plan.model_copy(update={"arguments": plan.arguments.model_copy(update={"seed": seed})})
        return plan

    def _paint_group(self, plans: list[Plan], tally: "_Tally") -> list[Picture | VernissageError]:
        """Pictures of plans that have all but prompts and seeds in common."""
        card = self.catalogue[plans[0].model]
        try:
            loaded = self._load(card)
            with _quiet(), self._adapted(loaded, card, plans):
                size = self._size(plans[0])
                streams = self._streams(len(plans), size)
                groups = _batches(loaded.pipeline, plans, size, streams)
                parts = [[plans[index] for index in indices] for indices in groups]
                work = partial(self._paint_batch, loaded, card, tally=tally)
                done = side_by_side(work, parts, self.device, streams=streams, stop=tally.stop)
        except VernissageError as error:
            tally.finish(plans)
            return [error] * len(plans)
        found: dict[int, Picture | VernissageError] = {}
        for indices, pictures in zip(groups, done, strict=True):
            found |= zip(indices, pictures, strict=True)
        return [found[index] for index in range(len(plans))]

    @contextmanager
    def _adapted(self, loaded: "_Loaded", card: Card, plans: Sequence[Plan]) -> Iterator[None]:
        """With the adapters of these plans on, but only while they are wanted: other pipelines may share the parts they sit in."""
        try:
            with self._failures_named(card, plans):
                self._switch_adapters_on(loaded, card, plans[0].arguments)
            yield
        finally:
            if loaded.adapters:
                loaded.pipeline.disable_lora()

    def _size(self, plan: Plan) -> int:
        """How many pictures like this are in work at once at most."""
        if self.batch_size is not None:
            return self.batch_size
        if self.device.type != "cpu":
            return 8
        area = (plan.arguments.width or 512) * (plan.arguments.height or 512)
        return max(1, min(16, 8 * 512 * 512 // area))

    def _streams(self, count: int, size: int) -> int:
        """How many batches of `size` pictures are painted side by side: on a CPU as many as there are cores, of 2 pictures or more.

        Args:
            count: Pictures to paint.
            size: In work at once at most.
        """
        # In half precision SDXL's autoencoder, which copies of a pipeline share, is switched to full precision and back in each call.
        alone = self.device.type != "cpu" or self.dtype == torch.float16
        return 1 if alone else max(1, min(torch.get_num_threads(), size // 2, count // 2))

    def _paint_batch(self, loaded: "_Loaded", card: Card, plans: list[Plan], *, tally: "_Tally") -> list[Picture | VernissageError]:
        """Pictures of plans that are painted in one call, or for each the error that kept it from being painted."""
        try:
            with torch.inference_mode(), self._failures_named(card, plans), loaded.borrowed() as pipeline:
                pipeline.scheduler = _scheduler(loaded.scheduler, plans[0].arguments.sampler, card)
                painted = pipeline(**_call_arguments(pipeline, plans, tally))
        except VernissageError as error:
            return [error] * len(plans)
        finally:
            tally.finish(plans)
        versions = {"vernissage-driver": "diffusers", "diffusers": diffusers.__version__, "torch": torch.__version__}
        revision = card.source.revision or card.source.sha256 or ""
        blacked = getattr(painted, "nsfw_content_detected", None) or [False] * len(plans)
        return [
            Refused(f"The safety checker of {card.id} blacked this picture out.", hint="Change the prompt or the seed.")
            if black
            else Picture.of(image, Provenance(plan=plan, model_revision=revision, versions=versions))
            for image, plan, black in zip(painted.images, plans, blacked, strict=True)
        ]

    @contextmanager
    def _failures_named(self, card: Card, plans: Sequence[Plan]) -> Iterator[None]:
        """Whatever goes wrong within becomes an error that names the card."""
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemory(f"{self.device} is too small for {len(plans)} pictures of {card.id}.", hint=_OUT_OF_MEMORY) from error
        except _FAILURES as error:
            sampler = plans[0].arguments.sampler
            # FLUX, Qwen-Image and others hand their own sigmas to the scheduler, and Heun's, for one, takes none.
            if sampler is not None and "set_timesteps" in str(error):
                hint = "Leave the sampler out, or take Euler." if sampler != "Euler" else "Leave the sampler out."
                raise BadPlan(f"{card.id} cannot use the sampler {sampler!r}: {error}", hint=hint) from error
            raise DriverError(f"{card.id} could not paint: {error}") from error

    def _load(self, card: Card) -> "_Loaded":
        """The pipeline of a card, from memory where it is loaded already."""
        base = card
        while base.source.base is not None and not base.source.parts:
            base = self.catalogue[base.source.base]
        if base.id in self._pipelines:
            self._pipelines[base.id] = self._pipelines.pop(base.id)  # now the most recent
            return self._pipelines[base.id]
        while len(self._pipelines) >= self.keep:
            del self._pipelines[next(iter(self._pipelines))]
            gc.collect()
        try:
            with _quiet():
                pipeline = self._replace_parts(base) if base.source.parts else self._read(base)
            pipeline.set_progress_bar_config(disable=True)
            for name in ("unet", "vae"):
                if (part := getattr(pipeline, name, None)) is not None:
                    part.to(memory_format=torch.channels_last)  # the order that convolutions are fastest in
            if self.offload and self.device.type != "cpu":
                pipeline.enable_model_cpu_offload(device=self.device)
            else:
                pipeline.to(self.device)
                for part in pipeline.components.values():
                    if isinstance(part, torch.nn.Module):
                        settle(part, self.device)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory(f"{base.id} does not fit into memory.", hint=_OUT_OF_MEMORY) from error
        self._pipelines[base.id] = _Loaded(pipeline, pipeline.scheduler, set(), [pipeline])
        return self._pipelines[base.id]

    def _read(self, card: Card) -> DiffusionPipeline:
        source = card.source
        where: str | Path = source.repo or card.resolve(source.path or "")
        if isinstance(where, Path) and not where.exists():
            raise BadCard(f"The weights of {card.id} are not at {where}.", hint="Correct `path` in its card.")
        options: dict[str, Any] = {"dtype": self.dtype, "local_files_only": self.local_only}
        if not self.allow_pickle:
            options["use_safetensors"] = True
        try:
            if isinstance(where, Path) and where.is_file():
                self._check_file(card, where)
                return _single_file_kind(card).from_single_file(str(where), config=_config_of(card), **options)
            return DiffusionPipeline.from_pretrained(str(where), revision=source.revision, variant=source.variant, **options)
        except _FAILURES as error:
            if not self.allow_pickle and _lacks_safetensors(error):
                raise BadInput(
                    f"{card.id} has no safetensors weights at {where}.",
                    hint="Convert them to safetensors, or set allow_pickle = true if you trust their author.",
                ) from error
            raise DriverError(f"{card.id} cannot be loaded from {where}: {error}") from error

    def _check_file(self, card: Card, path: Path) -> None:
        if path.suffix in PICKLES and not self.allow_pickle:
            raise BadInput(
                f"{path} is a pickle checkpoint, which can run any code when opened.",
                hint="Convert it to safetensors, or set allow_pickle = true if you trust its author.",
            )
        if card.source.sha256:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != card.source.sha256.lower():
                raise IntegrityError(
                    f"{path} has the SHA-256 {found[:12]}…, its card says {card.source.sha256[:12]}….",
                    hint="Download it again.",
                )

    def _replace_parts(self, card: Card) -> DiffusionPipeline:
        """The base's pipeline with some parts exchanged; what is not exchanged is shared with it."""
        base = self._load(self.catalogue[card.source.base or ""])
        whole = base.pipeline
        parts = {}
        for name, path in card.source.parts.items():
            folder = card.resolve(path)
            if not folder.is_dir():
                raise BadCard(f"The part {name} of {card.id} is not at {folder}.", hint="Correct `parts` in its card.")
            if getattr(whole, name, None) is None:
                raise BadCard(f"{card.source.base} has no {name} that could be replaced.", hint=f"Correct `parts` in the card {card.id}.")
            kind = type(getattr(whole, name))
            try:
                parts[name] = kind.from_pretrained(str(folder), dtype=self.dtype, use_safetensors=not self.allow_pickle or None)
            except _FAILURES as error:
                raise DriverError(f"The part {name} of {card.id} cannot be loaded from {folder}: {error}") from error
        settings = {name: whole.config[name] for name in inspect.signature(type(whole).__init__).parameters if name in whole.config}
        return type(whole)(**{**settings, **whole.components, "scheduler": base.scheduler, **parts})

    def _switch_adapters_on(self, loaded: "_Loaded", card: Card, arguments: Arguments) -> None:
        """Load and switch on exactly the adapters of the card, of those it builds on, and of the plan."""
        cards = [card]
        while cards[0].source.base is not None:
            cards.insert(0, self.catalogue[cards[0].source.base])
        wanted = {each.resolve(lora.path): lora.weight for each in cards for lora in each.source.loras}
        wanted |= {self._find_lora(lora.name): lora.weight for lora in arguments.loras}
        if not wanted:
            return
        for path in wanted.keys() - loaded.adapters:
            if not path.exists():
                raise BadCard(f"The adapter of {card.id} is not at {path}.", hint="Correct `loras` in its card.")
            if path.suffix in PICKLES and not self.allow_pickle:
                raise BadInput(f"{path} is a pickle file, which can run any code when opened.", hint="Use a safetensors LoRA.")
            name = loaded.adapter_name(path)
            try:
                loaded.pipeline.load_lora_weights(
                    str(path), adapter_name=name, use_safetensors=None if self.allow_pickle else True, local_files_only=True
                )
            except _FAILURES as error:
                with suppress(*_FAILURES):
                    loaded.pipeline.delete_adapters(name)  # what fitted of it would stay on
                if "mismatch" in str(error):  # and then a line for every tensor
                    raise BadCard(
                        f"The LoRA {path} does not fit {card.id}: its tensors have other shapes.", hint="Add it with the --base it is of."
                    ) from error
                raise
            loaded.adapters.add(path)
        loaded.pipeline.enable_lora()
        loaded.pipeline.set_adapters([loaded.adapter_name(path) for path in wanted], list(wanted.values()))

    def _find_lora(self, name: str) -> Path:
        """The file of a `<lora:name:weight>` tag, in the `loras` folder beside the user's cards."""
        folder = home() / "loras"
        known = {path.stem: path for path in folder.glob("*.safetensors")}
        if name not in known:
            raise BadPlan(
                f"There is no LoRA {name!r} in {folder}.", hint=f"Put {name}.safetensors there. Known: {', '.join(known) or 'none'}."
            )
        return known[name]


class _Loaded(NamedTuple):
    """A pipeline with the scheduler it came with, and the files of the adapters that are loaded into it."""

    pipeline: Any
    scheduler: Any
    adapters: set[Path]
    idle: list[Any]
    """The pipeline, and copies of it for batches that are painted at the same time."""

    @contextmanager
    def borrowed(self) -> Iterator[Any]:
        """A pipeline that nobody else paints with.

        A copy shares all weights. It has tokenizers of its own, because two threads that use the same one mix up how they pad.
        """
        try:
            own = self.idle.pop()
        except IndexError:
            own = copy.copy(self.pipeline)
            for name, part in own.components.items():
                if part is not None and ("tokenizer" in name or "processor" in name):
                    setattr(own, name, copy.deepcopy(part))
        try:
            yield own
        finally:
            self.idle.append(own)

    def adapter_name(self, path: Path) -> str:
        """Unlike the file's own name it is no other adapter's, not even in parts shared with another pipeline."""
        return "lora_" + hashlib.blake2b(f"{id(self.pipeline)} {path}".encode(), digest_size=8).hexdigest()


class _Stopped(Exception):
    """Painting was given up elsewhere."""


class _Tally:
    """Counts the steps painted in all batches for a `Progress`."""

    def __init__(self, progress: Progress | None, *, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._at_work: dict[int, int] = {}
        self._one_at_a_time = threading.Lock()
        self.stop = threading.Event()
        """Set where all batches are to stop at their next step."""

    def finish(self, plans: Sequence[Plan]) -> None:
        """These plans are done with, painted or failed."""
        if self.stop.is_set():
            return
        with self._one_at_a_time:
            self._done += sum(plan.arguments.steps or 1 for plan in plans)
            self._at_work.pop(id(plans), None)
            self._report()

    def show(self, plans: Sequence[Plan], steps: int) -> None:
        """Report what is done, with this many steps of the plans at work.

        Raises:
            _Stopped: Nobody waits for the picture any longer.
        """
        if self.stop.is_set():
            raise _Stopped
        with self._one_at_a_time:
            self._at_work[id(plans)] = steps
            self._report()

    def _report(self) -> None:
        if self._progress:
            self._progress(self._done + sum(self._at_work.values()), self._total)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without those warnings of diffusers and peft that neither the user nor we can do anything about."""
    with warnings.catch_warnings():
        # Schedulers hand tensors to numpy in the way of its version 1.
        warnings.filterwarnings("ignore", r"__array(_wrap)?__ ", DeprecationWarning)
        # An old checkpoint's configuration, which diffusers corrects by itself.
        warnings.filterwarnings("ignore", "The configuration file of ", FutureWarning)
        # SDXL's own way of decoding in half precision.
        warnings.filterwarnings("ignore", "`upcast_vae` is deprecated", FutureWarning)
        # A second adapter in one model, which is what we want.
        warnings.filterwarnings("ignore", "Already found a `peft_config` attribute", UserWarning)
        yield


def _groups(plans: dict[int, Plan]) -> list[list[int]]:
    """Indices of plans that have all in common that must be equal in one call."""
    groups: dict[object, list[int]] = {}
    for index, plan in plans.items():
        same = plan.arguments.model_copy(update={"seed": None})
        # Whether there is a negative prompt, because some models know none, and SDXL has a way of its own without one.
        groups.setdefault((plan.model, same.model_dump_json(), bool(plan.negative_prompt)), []).append(index)
    return list(groups.values())


def _batches(pipeline: Any, plans: list[Plan], size: int, streams: int) -> list[Sequence[int]]:
    """Indices of the plans of a group that can be painted in one call, alike in number, and as many to every stream.

    Args:
        pipeline: Who paints.
        plans: All.
        size: Pictures in work at once at most.
        streams: Batches in work at once.
    """
    alone = [index for index, plan in enumerate(plans) if must_be_painted_alone(pipeline, plan)]
    together = [index for index in range(len(plans)) if index not in alone]
    # A batch that is nearly empty costs almost a full one.
    count = streams * -(-len(together) // (size // streams * streams))
    return [*evenly(together, count), *([index] for index in alone)]


def _single_file_kind(card: Card) -> Any:
    name = card.source.pipeline or "StableDiffusionPipeline"
    if not hasattr(diffusers, name):
        raise BadCard(f"diffusers has no pipeline {name!r}, which the card {card.id} names.", hint="Correct `pipeline` in its card.")
    return getattr(diffusers, name)


def _config_of(card: Card) -> str | None:
    """Folder, seen from the card, or hub id of the configuration for a single file."""
    config = card.source.config
    return str(card.resolve(config)) if config and card.resolve(config).is_dir() else config


def _lacks_safetensors(error: Exception) -> bool:
    """Whether there are weights, but in another format than safetensors."""
    text = str(error)
    return "safetensors" in text and ("no file named" in text or "Could not find the necessary" in text)


def _scheduler(own: Any, sampler: str | None, card: Card) -> Any:
    """The scheduler for a sampler's name, with the noise schedule and prediction type of the model's own."""
    if sampler is None:
        return type(own).from_config(own.config)
    if "FlowMatch" in type(own).__name__:
        base, schedule = split_sampler(sampler)
        if base not in FLOW_SAMPLERS or schedule not in (None, "Simple", "Normal", "Automatic"):
            raise BadPlan(
                f"{card.id} is a flow-matching model and cannot use the sampler {sampler!r}.",
                hint=f"It takes: {', '.join(FLOW_SAMPLERS)}.",
            )
        return getattr(diffusers, FLOW_SAMPLERS[base]).from_config(own.config)
    found = find_sampler(sampler)
    # These belong to the sampler, not to the model that may come with one.
    belongings = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "algorithm_type", "solver_order", "solver_type")
    config = {name: value for name, value in own.config.items() if name not in belongings}
    scheduler: Any = getattr(diffusers, found.scheduler)
    try:
        return scheduler.from_config(config, **found.options)
    except ImportError as error:
        raise MissingExtra("scipy", extra="local") from error


def _call_arguments(pipeline: Any, plans: list[Plan], tally: _Tally) -> dict[str, Any]:
    arguments = plans[0].arguments
    steps = arguments.steps or 1
    accepted = inspect.signature(pipeline.__call__).parameters

    def on_step(running: Any, step: int, _time: object, values: dict[str, Any]) -> dict[str, Any]:
        # Some samplers call the model more often than there are steps.
        tally.show(plans, (step + 1) * steps // max(getattr(running, "num_timesteps", steps), step + 1) * len(plans))
        return values

    call: dict[str, Any] = {
        "num_inference_steps": arguments.steps,
        "guidance_scale": arguments.cfg_scale,
        "width": arguments.width,
        "height": arguments.height,
        "generator": [torch.Generator("cpu").manual_seed((plan.arguments.seed or 0) % 2**63) for plan in plans],
        "callback_on_step_end": on_step,
    }
    call = {name: value for name, value in call.items() if value is not None and name in accepted}
    return call | _prompt_arguments(pipeline, plans, accepted)


def _prompt_arguments(pipeline: Any, plans: list[Plan], accepted: Any) -> dict[str, Any]:
    """Prompts as plain text where the pipeline can do what is asked with them, else as embeddings."""
    model = plans[0].model
    negatives = [plan.negative_prompt for plan in plans]
    if any(negatives) and "negative_prompt" not in accepted:
        raise BadPlan(f"{model} takes no negative prompt.", hint="Say in the prompt what you want instead.")
    skipped = layers_to_skip(pipeline, plans[0])
    if skipped and "clip_skip" not in accepted:
        raise BadPlan(f"{model} has no clip skip.", hint="Leave clip_skip out.")
    if must_be_embedded(pipeline, plans):
        if not takes_weights(pipeline):
            raise BadPlan(
                f"{model} ({type(pipeline).__name__}) takes no weights in its prompt.", hint="Write the prompt without ( ) and [ ]."
            )
        return embed_prompts(pipeline, plans)
    call: dict[str, Any] = {"prompt": [plain_text(plan.prompt) for plan in plans]}
    if any(negatives):
        call["negative_prompt"] = [plain_text(negative) for negative in negatives]
    if skipped:
        call["clip_skip"] = skipped
    return call
