"""A judge on disk: judge.json with everything that must be known, judge.safetensors with everything that was trained."""

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vernissage.errors import BadCard, IntegrityError
from vernissage.judging.nn.model import JudgeModel, add_heads, backbone_place, load_backbone
from vernissage.judging.spec import SPEC, WEIGHTS, JudgeSpec, read_spec
from vernissage.local.adapters import adapter_tensors, add_adapter
from vernissage.prompts import load_prompt


def trained_tensors(model: JudgeModel, spec: JudgeSpec) -> dict[str, nn.Parameter]:
    """Every tensor of a judge that is not its backbone's, by name."""
    tensors = {f"adapters.{name}": tensor for name, tensor in adapter_tensors(model.backbone).items()}
    tensors |= {f"heads.{name}": tensor for name, tensor in model.heads.named_parameters()}
    if spec.projector:
        named = model.projector.named_parameters()  # of some families it lies in the vision part and has adapters itself
        tensors |= {f"projector.{name.replace('.base_layer', '')}": tensor for name, tensor in named if "lora_" not in name}
    return tensors


def save_judge(folder: Path, model: JudgeModel, spec: JudgeSpec, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a judge; both files appear whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in trained_tensors(model, spec).items()}
    save_file(tensors, folder / f"{WEIGHTS}.new")
    os.replace(folder / f"{WEIGHTS}.new", folder / WEIGHTS)
    (folder / f"{SPEC}.new").write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.replace(folder / f"{SPEC}.new", folder / SPEC)


def load_judge(folder: Path, *, device: torch.device, dtype: str = "auto") -> tuple[JudgeModel, JudgeSpec]:
    """Read a judge with its backbone.

    Raises:
        BadCard: There is no judge, or its description has a mistake.
        IntegrityError: The weights are damaged, do not fit the description, or were trained on another backbone.
        DriverError: The backbone cannot be loaded.
    """
    spec = read_spec(folder)
    for prompt_id, known in spec.prompts.items():
        if load_prompt(prompt_id).hash != known:
            raise IntegrityError(f"The judge {spec.name} was trained on other words of the prompt {prompt_id} than this version's.")
    model = load_backbone(backbone_place(spec.backbone, folder), device=device, dtype=dtype, revision=spec.revision)
    if (found := model.fingerprint) != spec.fingerprint:
        raise IntegrityError(
            f"The judge {spec.name} was trained on another backbone than {spec.backbone} is now ({spec.fingerprint}, not {found})."
        )
    for name, adapter in spec.adapters.items():
        add_adapter(model.backbone, name, parts=adapter.parts, rank=adapter.rank, alpha=adapter.alpha)
    add_heads(model, spec.heads)
    restore(model, spec, read_weights(folder / WEIGHTS))
    model.requires_grad_(False).eval()
    return model, spec


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, all of them finite.

    Raises:
        BadCard: It is not there.
        IntegrityError: It is damaged.
    """
    try:
        tensors = load_file(path)
    except OSError as error:
        raise BadCard(f"Cannot read the weights {path}: {error.strerror}.", hint="Save the judge again.") from error
    except SafetensorError as error:
        raise IntegrityError(f"The weights {path} are damaged: {error}.") from error
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise IntegrityError(f"The weights {path} are damaged: {name} is not finite.")
    return tensors


@torch.no_grad()
def restore(model: JudgeModel, spec: JudgeSpec, tensors: dict[str, Tensor]) -> None:
    """Put trained tensors where they belong.

    Raises:
        IntegrityError: One is missing, too many, or of another shape.
    """
    wanted = trained_tensors(model, spec)
    for names, what in ((wanted.keys() - tensors.keys(), "lack"), (tensors.keys() - wanted.keys(), "have, unasked,")):
        if names:
            raise IntegrityError(f"The weights of {spec.name} {what} {len(names)} tensors, among them {min(names)}.")
    for name, place in wanted.items():
        if place.shape != tensors[name].shape:
            raise IntegrityError(f"In the weights of {spec.name}, {name} is {tuple(tensors[name].shape)}, not {tuple(place.shape)}.")
        place.copy_(tensors[name].to(place.device, place.dtype))
