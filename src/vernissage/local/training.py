"""What every training needs: a device, a resumable loop state, a cosine learning rate, an average of weights, a log line.

A training writes `state.pt` beside its logs every two minutes and goes on from there when started again.
"""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251  the error, not the reader
from typing import Any, Protocol

import torch
from torch import nn

from vernissage.errors import BadInput, IntegrityError, reason_of
from vernissage.local.device import pick_precision

SAVE_EVERY_S = 120.0
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half_precision() -> torch.autocast:
    """Matrix products in bfloat16 where the device has instructions for them, else all in float32."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=pick_precision("auto", DEVICE) == "bf16")


class Stateful(Protocol):
    """What a training saves and takes up again: a module, or the part of one that learns."""

    def state_dict(self) -> dict[str, Any]:
        """The values as they are now."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Take on these values."""
        ...


class Average:
    """An exponential moving average of a module's weights, warmed up so that early noise is forgotten."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.steps = 0
        self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the module's weights of now."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in module.state_dict().items():
            if value.dtype.is_floating_point:
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)


def read_kept(path: Path) -> dict[str, Any]:
    """What a training remembers of its recipe; its folder is made where there is none.

    Raises:
        BadInput: The folder cannot be made.
        IntegrityError: The file is damaged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except OSError as error:
        raise BadInput(f"Cannot write into {path.parent}: {reason_of(error)}.", hint="Choose another `out`.") from error
    except (ValueError, RecursionError):
        kept = None
    if not isinstance(kept, dict):
        raise IntegrityError(
            f"{path} is damaged, so nobody knows what was trained there.", hint="Choose another `out`, or delete that folder."
        )
    return kept


def cosine(step: int, steps: int, peak: float) -> float:
    """Learning rate: a short linear warm-up to `peak`, then half a cosine down to a twentieth of it."""
    warmup = min(200, max(1, steps // 10))
    if step < warmup:
        return peak * (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


def training_steps(
    folder: Path,
    steps: int,
    optimizer: torch.optim.Optimizer,
    *,
    peak: float,
    modules: dict[str, Stateful],
    averages: dict[str, Average] | None = None,
    log_every: int = 50,
    writes: bool = True,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield (step, losses) until `steps`; the caller fills `losses`, which are averaged into `log.jsonl`.

    Sets the learning rate before, and saves the state after, a step; resumes from `folder/state.pt` where it exists.

    Args:
        folder: For the state and the log.
        steps: In all.
        optimizer: Its groups' learning rates are set, times a group's `lr_scale`.
        peak: Highest learning rate.
        modules: What learns, each `Stateful`, by name.
        averages: Averages of modules, by the module's name.
        log_every: Steps averaged in one line of the log.
        writes: Whether this process writes; of several that train together only one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    averages = averages or {}
    state_path, log_path = folder / "state.pt", folder / "log.jsonl"
    first, spent = 0, 0.0
    if state_path.exists():
        try:
            state = torch.load(state_path, map_location=DEVICE, weights_only=True)
            first, spent = state["step"], state["seconds"]
            optimizer.load_state_dict(state["optimizer"])
            for name, module in modules.items():
                module.load_state_dict(state["modules"][name])
            for name, average in averages.items():
                average.weights, average.steps = state["averages"][name], first
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, EOFError, OSError, UnpicklingError) as error:
            raise IntegrityError(
                f"The state {state_path} of a training is damaged.", hint="Delete it; the training begins anew."
            ) from error
    started = saved = time.monotonic()
    window: dict[str, list[float]] = {}

    def save(step: int) -> None:
        state: dict[str, Any] = {
            "step": step,
            "seconds": spent + time.monotonic() - started,
            "optimizer": optimizer.state_dict(),
            "modules": {name: module.state_dict() for name, module in modules.items()},
            "averages": {name: average.weights for name, average in averages.items()},
        }
        torch.save(state, state_path.with_suffix(".new"))
        state_path.with_suffix(".new").replace(state_path)

    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, steps, peak * group.get("lr_scale", 1.0))
        losses: dict[str, float] = {}
        yield step, losses
        for name, average in averages.items():
            average.update(modules[name])
        for name, value in losses.items():
            window.setdefault(name, []).append(value)
        if not writes:
            continue
        if (step + 1) % log_every == 0 or step + 1 == steps:
            row = {"step": step + 1, "seconds": round(spent + time.monotonic() - started)}
            row |= {name: round(sum(values) / len(values), 5) for name, values in window.items()}
            window.clear()
            with log_path.open("a", encoding="utf-8") as log:
                log.write(json.dumps(row) + "\n")
        if time.monotonic() - saved > SAVE_EVERY_S or step + 1 == steps:
            save(step + 1)
            saved = time.monotonic()
