"""Named tensors on disk: written whole or not at all, read with every doubt voiced, put where they belong."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vernissage.errors import BadCard, IntegrityError


def save_tensors(tensors: Mapping[str, Tensor], path: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a safetensors file; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    save_file({name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in tensors.items()}, fresh)
    os.replace(fresh, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, all of them finite.

    Raises:
        BadCard: It is not there.
        IntegrityError: It is damaged.
    """
    try:
        tensors = load_file(path)
    except OSError as error:
        raise BadCard(f"Cannot read the weights {path}: {error.strerror}.", hint="Save them again.") from error
    except SafetensorError as error:
        raise IntegrityError(f"The weights {path} are damaged: {error}.") from error
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise IntegrityError(f"The weights {path} are damaged: {name} is not finite.")
    return tensors


@torch.no_grad()
def restore(places: Mapping[str, Tensor], tensors: Mapping[str, Tensor], name: str) -> None:
    """Put tensors where they belong.

    Args:
        places: Where, by name.
        tensors: What, by the same names.
        name: Of what they make up, for messages.

    Raises:
        IntegrityError: One is missing, too many, or of another shape.
    """
    for names, what in ((places.keys() - tensors.keys(), "lack"), (tensors.keys() - places.keys(), "have, unasked,")):
        if names:
            raise IntegrityError(f"The weights of {name} {what} {len(names)} tensors, among them {min(names)}.")
    for key, place in places.items():
        if place.shape != tensors[key].shape:
            raise IntegrityError(f"In the weights of {name}, {key} is {tuple(tensors[key].shape)}, not {tuple(place.shape)}.")
        place.copy_(tensors[key].to(place.device, place.dtype))
