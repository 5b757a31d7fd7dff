"""A judge on disk: judge.json with everything that must be known, judge.safetensors with everything that was trained."""

from pathlib import Path

import torch
from torch import nn

from vernissage.errors import IntegrityError
from vernissage.judging.nn.model import JudgeModel, add_heads, load_backbone
from vernissage.judging.spec import SPEC, WEIGHTS, JudgeSpec, read_spec
from vernissage.local.adapters import adapter_tensors, add_adapter
from vernissage.local.tensors import read_tensors, restore, save_tensors
from vernissage.prompts import load_prompt
from vernissage.records.files import write_whole
from vernissage.zoo.catalogue import model_place


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
    save_tensors(trained_tensors(model, spec), folder / WEIGHTS, dtype=dtype)
    write_whole(folder / SPEC, spec.model_dump_json(indent=2) + "\n")


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
    model = load_backbone(model_place(spec.backbone, folder), device=device, dtype=dtype, revision=spec.revision)
    if (found := model.fingerprint) != spec.fingerprint:
        raise IntegrityError(
            f"The judge {spec.name} was trained on another backbone than {spec.backbone} is now ({spec.fingerprint}, not {found})."
        )
    model.resize = spec.resize
    for name, adapter in spec.adapters.items():
        add_adapter(model.backbone, name, parts=adapter.parts, rank=adapter.rank, alpha=adapter.alpha)
    add_heads(model, spec.heads)
    restore(trained_tensors(model, spec), read_tensors(folder / WEIGHTS), spec.name)
    model.requires_grad_(False).eval()
    return model, spec
