"""LoRA adapters inside a model: put in, chosen, taken out as named tensors. Knows PEFT and nothing of what is learnt."""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from vernissage.errors import DriverError

Part = Literal["vision", "language"]
PARTS: tuple[Part, ...] = get_args(Part)
_PLACES: dict[Part, tuple[str, ...]] = {"vision": ("vision_tower", "visual", "vision_model"), "language": ("language_model",)}


class Trained:
    """The tensors of a model that learn, by name; what a training saves."""

    def __init__(self, tensors: dict[str, nn.Parameter]) -> None:
        self.tensors = tensors

    def state_dict(self) -> dict[str, Tensor]:
        """The values as they are now."""
        return {name: tensor.detach() for name, tensor in self.tensors.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take on these values."""
        for name, tensor in self.tensors.items():
            tensor.copy_(state[name])


def linear_layers(model: nn.Module, parts: Iterable[Part]) -> list[str]:
    """Names of the linear layers in the vision encoder, the language model, or both.

    Raises:
        DriverError: A part has none, so the model is of a family that is not known here.
    """
    found: list[str] = []
    for part in parts:
        names = [
            name.removesuffix(".base_layer")
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and "lora_" not in name and any(place in name.split(".") for place in _PLACES[part])
        ]
        if not names:
            raise DriverError(f"{type(model).__name__} has no {part} part with linear layers that an adapter could be put on.")
        found += names
    return found


def add_adapter(model: nn.Module, name: str, *, parts: Sequence[Part], rank: int, alpha: float) -> None:
    """Put a LoRA adapter of that name on all linear layers of some parts, in place; it does nothing until it is trained.

    Raises:
        DriverError: See `linear_layers`.

    References:
        Hu et al. (2021), LoRA: W + (alpha / rank) B A, B beginning at zero.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=linear_layers(model, parts))
    vars(model).pop("peft_config", None)  # PEFT's note of an earlier adapter, of which it warns; the layers know all they need
    inject_adapter_in_model(config, model, adapter_name=name)


def use_adapter(model: nn.Module, name: str | None, *, learning: bool = False) -> None:
    """Let one adapter work, or none; only its tensors learn, and only where that is wanted."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            has = name is not None and name in getattr(module, "lora_A", {})
            module.enable_adapters(has)
            if has:
                module.set_adapter(name)
    for tensor in adapter_tensors(model).values():
        tensor.requires_grad_(False)
    if name is not None and learning:
        for tensor in adapter_tensors(model, name).values():
            tensor.requires_grad_(True)


def merge_adapter(model: nn.Module, name: str) -> None:
    """Add an adapter to the weights it stands beside, so that it costs no time; exact up to rounding."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer) and name in getattr(module, "lora_A", {}):
            module.merge(adapter_names=[name])


def adapter_tensors(model: nn.Module, name: str | None = None) -> dict[str, nn.Parameter]:
    """The tensors of one adapter, or of all, by the names that they have in the model."""
    wanted = "." + name + "." if name else "."
    return {key: tensor for key, tensor in model.named_parameters() if "lora_" in key and wanted in key[key.index("lora_") :]}
