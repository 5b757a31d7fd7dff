"""Loading a model in transformers format: quietly, never running code from it, with clear errors."""

import hashlib
from pickle import UnpicklingError  # noqa: TID251  only the name of what torch raises
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vernissage.errors import DriverError

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def load_pretrained(kind: Any, model: str, **options: Any) -> Any:
    """`kind.from_pretrained`, never running code from the checkpoint.

    Raises:
        DriverError: It is not there or not of that kind.
    """
    try:
        # Auto classes ask on a terminal whether to run a checkpoint's code; the answer is no.
        never = {"trust_remote_code": False} if kind.__name__.startswith("Auto") else {}
        return kind.from_pretrained(model, **never, **options)
    except ImportError as error:
        raise DriverError(f"{model} needs a package that is not installed: {' '.join(str(error).split())}") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DriverError(f"{kind.__name__} cannot be loaded from {model}: {error}") from error


def read_tensors(path: str) -> dict[str, Tensor]:
    """All tensors of a safetensors file, or of a PyTorch file, which is read without running code; of `state_dict` where it has one.

    Raises:
        DriverError: It is not there, or no such file.
    """
    try:
        found = load_file(path) if path.endswith(".safetensors") else torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, LookupError, TypeError, EOFError, AttributeError, UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DriverError(f"No tensors can be read from {path}: {reason}") from error
    found = found.get("state_dict", found) if isinstance(found, dict) else {}
    found = found if isinstance(found, dict) else {}
    tensors = {str(name): tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    if not tensors:
        raise DriverError(f"There are no tensors in {path}.")
    return tensors


def fingerprint(model: nn.Module) -> str:
    """Hash of a backbone: names, shapes and the first numbers of all its tensors, adapters left out.

    Numbers are taken in bfloat16, so that the number type a model is loaded in makes no difference.
    """
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        if "lora_" in key:
            continue
        digest.update(f"{key.replace('.base_layer', '')} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten()[:32].to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
