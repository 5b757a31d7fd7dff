"""On which device and in which number type a local model runs; knows torch and nothing of any model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import nn

from vernissage.errors import BadInput, DriverError, OutOfMemory
from vernissage.local.dense import onednn_is_faster, use_onednn

Model = TypeVar("Model", bound=nn.Module)
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)
"""What transformers and its image processors raise when something is wrong with a model or a picture."""


def pick_device(device: str) -> torch.device:
    """The device of that name; "auto" means the first accelerator there is, else the CPU.

    Raises:
        BadInput: There is no such device here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": hasattr(torch, "xpu") and torch.xpu.is_available(),
    }
    if found is None or found.type not in there:
        raise BadInput(f"There is no kind of device {device!r}.", hint=f"Known: {', '.join(map(repr, ('auto', *there)))}.")
    if not there[found.type]:
        raise BadInput(f"torch finds no device {device!r} here.", hint="Use device = 'auto', or install torch for your accelerator.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise BadInput(f"torch finds no device {device!r} here.", hint=f"The last is 'cuda:{torch.cuda.device_count() - 1}'.")
    return found


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The type of that name; "auto" means float32 on a CPU, bfloat16 where the accelerator has it, else float16.

    Raises:
        BadInput: There is no such type.
    """
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if dtype in known:
        return known[dtype]
    if dtype != "auto":
        raise BadInput(f"There is no number type {dtype!r}.", hint=f"Known: auto, {', '.join(known)}.")
    if device.type == "cpu":
        return torch.float32
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float16


def in_type(dtype: torch.dtype) -> str:
    """How a name tells what is computed in this type from what is computed in float32, which is not told.

    Example:
        >>> in_type(torch.bfloat16), in_type(torch.float32)
        (' in bfloat16', '')
    """
    return "" if dtype is torch.float32 else f" in {str(dtype).removeprefix('torch.')}"


def pick_precision(precision: Literal["auto", "no", "bf16"], device: torch.device) -> Literal["no", "bf16"]:
    """Of matrix products in training: "auto" means bfloat16 where the device has instructions for it, else float32 ("no").

    A CPU without them would take many times as long: eight times for the products of small networks on AMD's Zen 3.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # an older torch cannot tell
        has = any(there for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)
    else:
        has = False
    return "bf16" if has else "no"


@contextmanager
def explained(name: str, device: torch.device, doing: str) -> Iterator[None]:
    """Turns what goes wrong in a model into errors of ours.

    Args:
        name: Whose model.
        device: Where it runs.
        doing: What it was to do, such as "encode".
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(f"{device} is too small for {name}.", hint="Lower its batch_size.") from error
    except _FAILURES as error:
        raise DriverError(f"{name} could not {doing}: {error}") from error


def settle(model: Model, device: torch.device, dtype: torch.dtype | None = None) -> Model:
    """The same model on that device and in that type, ready to be asked: evaluating, with the fastest dense layers there are here."""
    if device.type == "cpu" and onednn_is_faster():
        use_onednn(model)
    return model.to(device, dtype).eval()
