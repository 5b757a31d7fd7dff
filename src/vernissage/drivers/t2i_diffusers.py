"""T2I through diffusers: pipeline folders, hub repositories, single files, LoRA adapters, replaced parts.

Plans are grouped by what must be equal in one call (model, size, sampler, steps, guidance, clip skip, adapters) and
painted in batches. Starting noise comes from each plan's own seed on the CPU, so a picture does not depend on its batch
or device. Weights are read from safetensors only, unless pickle files are allowed explicitly.
"""

import gc
import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, final

import diffusers
import torch
from diffusers import DiffusionPipeline

from vernissage.drivers.prompt_syntax import plain_text, to_compel
from vernissage.drivers.samplers import FLOW_SAMPLERS, find_sampler
from vernissage.errors import BadCard, BadInput, BadPlan, DriverError, IntegrityError, OutOfMemory, VernissageError
from vernissage.ports import Progress
from vernissage.records.parameters import extract_loras, split_sampler
from vernissage.records.picture import Picture, Provenance
from vernissage.records.plan import Arguments, Plan
from vernissage.zoo.card import Card
from vernissage.zoo.catalogue import Catalogue

diffusers.utils.logging.set_verbosity_error()

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_OUT_OF_MEMORY = (
    "Lower --batch-size, paint smaller pictures, choose dtype = 'float16', or set offload = true in vernissage.toml."
)


def pick_device(device: str) -> torch.device:
    """ "auto" means the first accelerator there is, else the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """ "auto" means float32 on a CPU, bfloat16 where the accelerator has it, else float16."""
    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type == "cpu":
        return torch.float32
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float16


@final
class DiffusersT2I:
    """Paints with any diffusers text-to-image pipeline that a card describes.

    Args:
        catalogue: The models that plans may name.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto", "float32", "float16", "bfloat16".
        batch_size: Pictures in one call at most.
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
        batch_size: int = 8,
        offload: bool = False,
        allow_pickle: bool = False,
        keep: int = 2,
        local_only: bool = False,
    ) -> None:
        self.catalogue = catalogue
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.batch_size = batch_size
        self.offload = offload
        self.allow_pickle = allow_pickle
        self.keep = keep
        self.local_only = local_only
        self._pipelines: dict[str, DiffusionPipeline] = {}
        self._adapters: dict[str, set[str]] = {}

    def paint(self, plans: Sequence[Plan], *, progress: Progress | None = None) -> list[Picture | VernissageError]:
        """Paint each plan, in order; a failed one becomes its error. See `vernissage.ports.T2I`."""
        results: dict[int, Picture | VernissageError] = {}
        ready: dict[int, Plan] = {}
        for index, plan in enumerate(plans):
            try:
                ready[index] = self._prepare(plan)
            except VernissageError as error:
                results[index] = error
        total = sum(plan.arguments.steps or 1 for plan in ready.values())
        done = 0
        for indices in _batches(ready, self.batch_size):
            batch = [ready[index] for index in indices]
            before = done

            def advance(step: int, before: int = before, width: int = len(batch)) -> None:
                if progress:
                    progress(before + step * width, total)

            try:
                pictures: Sequence[Picture | VernissageError] = self._paint_batch(batch, advance)
            except VernissageError as error:
                pictures = [error] * len(batch)
            results |= dict(zip(indices, pictures, strict=True))
            done += (batch[0].arguments.steps or 1) * len(batch)
            if progress:
                progress(done, total)
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
        if plan.arguments.seed is None:
            seed = int(torch.randint(2**32, (1,)).item())
            plan = plan.model_copy(update={"arguments": plan.arguments.model_copy(update={"seed": seed})})
        return plan

    def _paint_batch(self, plans: list[Plan], advance: Callable[[int], None]) -> list[Picture]:
        card, arguments = self.catalogue[plans[0].model], plans[0].arguments
        pipeline = self._load(card)
        try:
            self._set_adapters(pipeline, card, arguments)
            pipeline.scheduler = _scheduler(pipeline, arguments.sampler, card)
            call = self._call_arguments(pipeline, plans, advance)
            with torch.inference_mode():
                images = pipeline(**call).images
        except (torch.OutOfMemoryError, MemoryError) as error:
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemory(f"{self.device} is too small for {len(plans)} pictures of {card.id}.", hint=_OUT_OF_MEMORY) from error
        except (RuntimeError, ValueError, TypeError) as error:
            raise DriverError(f"{card.id} could not paint: {error}") from error
        versions = {"vernissage-driver": "diffusers", "diffusers": diffusers.__version__, "torch": torch.__version__}
        return [
            Picture.of(image, Provenance(plan=plan, model_revision=card.source.revision or card.source.sha256 or "", versions=versions))
            for image, plan in zip(images, plans, strict=True)
        ]

    def _call_arguments(
        self, pipeline: DiffusionPipeline, plans: list[Plan], advance: Callable[[int], None]
    ) -> dict[str, Any]:
        arguments = plans[0].arguments
        accepted = inspect.signature(pipeline.__call__).parameters

        def on_step(_pipeline: object, step: int, _time: object, values: dict[str, Any]) -> dict[str, Any]:
            advance(step + 1)
            return values

        call: dict[str, Any] = {
            "num_inference_steps": arguments.steps,
            "guidance_scale": arguments.cfg_scale,
            "width": arguments.width,
            "height": arguments.height,
            "generator": [torch.Generator("cpu").manual_seed((plan.arguments.seed or 0) % 2**63) for plan in plans],
            "callback_on_step_end": on_step if "callback_on_step_end" in accepted else None,
            # A1111 counts the last layer as 1, diffusers counts the layers skipped.
            "clip_skip": arguments.clip_skip - 1 if arguments.clip_skip and arguments.clip_skip > 1 else None,
        }
        if call["clip_skip"] and "clip_skip" not in accepted:
            raise BadPlan(f"{plans[0].model} has no clip skip.", hint="Leave clip_skip out.")
        call = {name: value for name, value in call.items() if value is not None and name in accepted}
        return call | _prompt_arguments(pipeline, plans, accepted)

    def _load(self, card: Card) -> DiffusionPipeline:
        """The pipeline of a card, from memory where it is loaded already."""
        base = card
        while base.source.base is not None and not base.source.parts:
            base = self.catalogue[base.source.base]
        if base.id in self._pipelines:
            self._pipelines[base.id] = self._pipelines.pop(base.id)  # now the most recent
            return self._pipelines[base.id]
        while len(self._pipelines) >= self.keep:
            oldest = next(iter(self._pipelines))
            del self._pipelines[oldest]
            self._adapters.pop(oldest, None)
            gc.collect()
        try:
            pipeline = self._replace_parts(base) if base.source.parts else self._read(base)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory(f"{base.id} does not fit into memory.", hint=_OUT_OF_MEMORY) from error
        pipeline.set_progress_bar_config(disable=True)
        if self.offload and self.device.type != "cpu":
            pipeline.enable_model_cpu_offload(device=self.device)
        else:
            pipeline.to(self.device)
        self._pipelines[base.id] = pipeline
        self._adapters[base.id] = set()
        return pipeline

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
                kind: Any = getattr(diffusers, source.pipeline or "StableDiffusionPipeline")
                config = source.config and (str(card.resolve(source.config)) if card.resolve(source.config).is_dir() else source.config)
                return kind.from_single_file(str(where), config=config, **options)
            return DiffusionPipeline.from_pretrained(
                str(where), revision=source.revision, variant=source.variant, **options
            )
        except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            if "safetensors" in str(error) and not self.allow_pickle:
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
        whole = self._load(self.catalogue[card.source.base or ""])
        parts = {}
        for name, path in card.source.parts.items():
            folder = card.resolve(path)
            if not folder.is_dir():
                raise BadCard(f"The part {name} of {card.id} is not at {folder}.", hint="Correct `parts` in its card.")
            kind = type(getattr(whole, name))
            parts[name] = kind.from_pretrained(str(folder), dtype=self.dtype, use_safetensors=not self.allow_pickle or None)
        return type(whole)(**{**whole.components, **parts})

    def _set_adapters(self, pipeline: DiffusionPipeline, card: Card, arguments: Arguments) -> None:
        """Load and switch on exactly the adapters of the card and of the plan."""
        wanted: dict[str, float] = {}
        files: dict[str, Path] = {}
        for lora in card.source.loras:
            path = card.resolve(lora.path)
            name = f"{card.id}:{path.stem}".replace("/", "_").replace(".", "_")
            wanted[name], files[name] = lora.weight, path
        for lora in arguments.loras:
            path = self._find_lora(lora.name)
            name = f"lora:{lora.name}".replace("/", "_").replace(".", "_")
            wanted[name], files[name] = lora.weight, path
        loaded = self._adapters[next(key for key, value in self._pipelines.items() if value is pipeline)]
        if not wanted and not loaded:
            return
        for name in wanted.keys() - loaded:
            if not files[name].exists():
                raise BadCard(f"The adapter of {card.id} is not at {files[name]}.", hint="Correct `loras` in its card.")
            if files[name].suffix in PICKLES and not self.allow_pickle:
                raise BadInput(f"{files[name]} is a pickle file, which can run any code when opened.", hint="Use a safetensors LoRA.")
            pipeline.load_lora_weights(
                str(files[name]), adapter_name=name, use_safetensors=None if self.allow_pickle else True, local_files_only=True
            )
            loaded.add(name)
        if wanted:
            pipeline.enable_lora()
            pipeline.set_adapters(list(wanted), list(wanted.values()))
        else:
            pipeline.disable_lora()

    def _find_lora(self, name: str) -> Path:
        """The file of a `<lora:name:weight>` tag, in the `loras` folder beside the user's cards."""
        from vernissage.zoo.catalogue import home

        folder = home() / "loras"
        known = {path.stem: path for path in folder.glob("*.safetensors")}
        if name not in known:
            raise BadPlan(
                f"There is no LoRA {name!r} in {folder}.", hint=f"Put {name}.safetensors there. Known: {', '.join(known) or 'none'}."
            )
        return known[name]


def _batches(plans: dict[int, Plan], size: int) -> Iterator[list[int]]:
    """Indices of plans that can be painted in one call, `size` at most."""
    groups: dict[object, list[int]] = {}
    for index, plan in plans.items():
        same = plan.arguments.model_copy(update={"seed": None})
        weighted = plain_text(plan.prompt) is None or plain_text(plan.negative_prompt) is None
        long = len(plan.prompt) > 200 or len(plan.negative_prompt) > 200
        # Weighted and long prompts are encoded alone: their embeddings' length must not depend on the neighbours'.
        groups.setdefault((plan.model, same.model_dump_json(), index if weighted or long else None), []).append(index)
    for indices in groups.values():
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


def _scheduler(pipeline: DiffusionPipeline, sampler: str | None, card: Card) -> Any:
    """The scheduler for a sampler's name, with the model's own noise schedule and prediction type."""
    current = pipeline.scheduler
    if sampler is None:
        return current
    if "FlowMatch" in type(current).__name__:
        base, schedule = split_sampler(sampler)
        if base not in FLOW_SAMPLERS or schedule not in (None, "Simple", "Normal", "Automatic"):
            raise BadPlan(
                f"{card.id} is a flow-matching model and cannot use the sampler {sampler!r}.",
                hint=f"It takes: {', '.join(FLOW_SAMPLERS)}.",
            )
        return getattr(diffusers, FLOW_SAMPLERS[base]).from_config(current.config)
    found = find_sampler(sampler)
    # The schedule's options are stated each time, or those of the last sampler would linger in the config.
    neutral = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
    config = {name: value for name, value in current.config.items() if name not in neutral}
    config |= {"algorithm_type": "dpmsolver++", "solver_order": 2} if "DPMSolver" in found.scheduler else {}
    scheduler: Any = getattr(diffusers, found.scheduler)
    return scheduler.from_config(config, **found.options)


def _prompt_arguments(pipeline: DiffusionPipeline, plans: list[Plan], accepted: Any) -> dict[str, Any]:
    """Prompts as plain text where they are plain and short enough, else as embeddings made by compel."""
    negatives = [plan.negative_prompt for plan in plans]
    if any(negatives) and "negative_prompt" not in accepted:
        raise BadPlan(f"{plans[0].model} takes no negative prompt.", hint="Say in the prompt what you want instead.")
    plain = [plain_text(plan.prompt) for plan in plans]
    plain_negatives = [plain_text(negative) for negative in negatives]
    tokenizer = getattr(pipeline, "tokenizer", None)
    limit = getattr(tokenizer, "model_max_length", 77)

    def fits(text: str | None) -> bool:
        if text is None or (tokenizer is not None and len(text) > 4 * limit):
            return False
        return tokenizer is None or len(tokenizer(text).input_ids) <= limit

    kind = type(pipeline).__name__
    clip_only = kind in ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
    if all(text is not None for text in [*plain, *plain_negatives]) and (
        not clip_only or all(fits(text) for text in [*plain, *plain_negatives])
    ):
        call: dict[str, Any] = {"prompt": plain}
        return call | ({"negative_prompt": plain_negatives} if "negative_prompt" in accepted else {})
    if not clip_only:
        raise BadPlan(f"{plans[0].model} ({kind}) takes no weights in its prompt.", hint="Write the prompt without ( ) and [ ].")
    from compel import CompelForSD, CompelForSDXL

    compel = (CompelForSDXL if "XL" in kind else CompelForSD)(pipeline)
    found = compel([to_compel(plan.prompt) for plan in plans], negative_prompt=[to_compel(text) for text in negatives])
    call = {"prompt_embeds": found.embeds, "negative_prompt_embeds": found.negative_embeds}
    if found.pooled_embeds is not None:
        call |= {"pooled_prompt_embeds": found.pooled_embeds, "negative_pooled_prompt_embeds": found.negative_pooled_embeds}
    return call
