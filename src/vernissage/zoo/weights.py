"""What a local file or folder with weights is, told from its header alone, without loading it."""

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

from vernissage.errors import BadInput

_LARGEST_HEADER = 100_000_000


class Weights(NamedTuple):
    """What the weights are: a pipeline folder, a single-file checkpoint, or an adapter; and the family."""

    form: str
    """folder, checkpoint or lora."""
    pipeline: str
    """Diffusers pipeline class, empty where it is not known."""
    size: int
    """Native side in pixels."""
    family: str
    """For example "SDXL"."""


def inspect_weights(path: Path) -> Weights:
    """Tell what lies at `path`.

    Raises:
        BadInput: Nothing is there, or it is no safetensors file and no diffusers folder.
    """
    if path.is_dir():
        return _inspect_folder(path)
    if not path.exists():
        raise BadInput(f"There is nothing at {path}.", hint="Give a file, a folder, a hub id (owner/name) or civitai:VERSION.")
    if path.suffix != ".safetensors":
        raise BadInput(
            f"{path} is not a safetensors file; pickle checkpoints can run any code when opened.",
            hint="Convert it to safetensors first.",
        )
    names = tensor_names(path)
    if any("lora_" in name or ".lora" in name for name in names):
        family = "SDXL" if any("text_encoder_2" in name or "lora_te2" in name for name in names) else ""
        return Weights("lora", "", 0, family)
    if any("double_blocks." in name for name in names):
        return Weights("checkpoint", "FluxPipeline", 1024, "FLUX")
    if any("joint_blocks." in name for name in names):
        return Weights("checkpoint", "StableDiffusion3Pipeline", 1024, "SD 3")
    if any(name.startswith("conditioner.embedders.") for name in names):
        return Weights("checkpoint", "StableDiffusionXLPipeline", 1024, "SDXL")
    if any(name.startswith("model.diffusion_model.") for name in names):
        second = any("cond_stage_model.model." in name for name in names)
        return Weights("checkpoint", "StableDiffusionPipeline", 768 if second else 512, "SD 2" if second else "SD 1")
    raise BadInput(f"{path} is neither a checkpoint nor a LoRA of a known family.", hint="Write its card by hand: docs/reference/cards.md.")


def _inspect_folder(path: Path) -> Weights:
    index = path / "model_index.json"
    if not index.is_file():
        raise BadInput(f"{path} is no diffusers pipeline: it has no model_index.json.", hint="Give the pipeline's own folder.")
    pipeline = str(_read_json(index).get("_class_name") or "")
    size = 512
    for part, usual in (("unet", 64), ("transformer", 128)):  # FLUX does not state its sample_size
        config, vae = path / part / "config.json", path / "vae" / "config.json"
        if config.is_file():
            sample = _read_json(config).get("sample_size") or usual
            blocks = _read_json(vae).get("block_out_channels") if vae.is_file() else None
            scale = 2 ** (len(blocks) - 1) if isinstance(blocks, list) and blocks else 8
            side = sample[0] if isinstance(sample, list) else sample
            if not isinstance(side, int) or side < 1:
                raise BadInput(f"{config} has a sample_size of {sample!r}.", hint="Correct it: it is the native side in latent pixels.")
            size = side * scale
    return Weights("folder", pipeline, size, "")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read as JSON.", hint="Download it again.") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path} is no JSON object.", hint="Download it again.")
    return found


def tensor_names(path: Path) -> list[str]:
    """The names in a safetensors file's header.

    Raises:
        BadInput: It is damaged, cut off, or no safetensors file at all.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LARGEST_HEADER:
                raise ValueError("header too long")
            header = json.loads(file.read(length))
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        end = max((int(tensor["data_offsets"][1]) for tensor in tensors.values()), default=0)
        if 8 + length + end > path.stat().st_size:
            raise ValueError("data cut off")
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, struct.error) as error:
        raise BadInput(f"{path} is damaged or no safetensors file.", hint="Download it again.") from error
    return list(tensors)
