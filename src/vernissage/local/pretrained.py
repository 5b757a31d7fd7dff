"""Loading a model in transformers format: quietly, never running code from it, with clear errors."""

import hashlib
from typing import Any

import torch
import transformers
from torch import nn

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
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DriverError(f"{kind.__name__} cannot be loaded from {model}: {error}") from error


def fingerprint(model: nn.Module) -> str:
    """What tells a backbone from every other: names, shapes and the first numbers of all its tensors, adapters left out.

    Numbers are taken in bfloat16, so that the number type a model is loaded in makes no difference.
    """
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        if "lora_" in key:
            continue
        digest.update(f"{key.replace('.base_layer', '')} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten()[:32].to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
