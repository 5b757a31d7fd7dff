"""LPIPS: how unlike two pictures are to AlexNet's features, weighed as people compare (Zhang et al. 2018, version 0.1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vernissage.errors import DriverError
from vernissage.local.device import pick_device
from vernissage.local.pretrained import read_tensors
from vernissage.records.verdict import Score, Unscored

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
# AlexNet's convolutions: number in torchvision's `features`, stride, padding, and whether pooling comes before.
_LAYERS = ((0, 4, 2, False), (3, 1, 2, True), (6, 1, 1, True), (8, 1, 1, False), (10, 1, 1, False))
SMALLEST = 64


@final
class LpipsScorer:
    """Compares each picture with its reference.

    Args:
        model: File with AlexNet's weights, named as torchvision has them (`features.0.weight` …).
        weights: File with the weights of the five layers, named as the lpips package has them (`lin0.model.1.weight` …).
        device: "auto", "cpu", "cuda", "mps".
        batch_size: Pictures in one pass.
    """

    def __init__(self, model: str, *, weights: str, device: str = "auto", batch_size: int = 16) -> None:
        self.name = f"lpips:{Path(weights).name} on {Path(model).name}"
        self.batch_size = batch_size
        self._device = pick_device(device)
        try:
            network, weighed = read_tensors(model), read_tensors(weights)
            self._convolutions = [
                (network[f"features.{n}.weight"].to(self._device).float(), network[f"features.{n}.bias"].to(self._device).float())
                for n, *_ in _LAYERS
            ]
            self._weights = [weighed[f"lin{index}.model.1.weight"].to(self._device).float() for index in range(len(_LAYERS))]
        except (DriverError, RuntimeError, LookupError, ValueError) as error:
            raise DriverError(f"LPIPS cannot be read from {model} and {weights}: {error}") from error

    @torch.inference_mode()
    def score(
        self, images: Sequence[Image.Image], prompts: Sequence[str | None], references: Sequence[Image.Image | None]
    ) -> list[Score | Unscored]:
        """Distance of each picture to its reference, which is scaled to the picture's size; lower is more alike. See `ports.Scorer`."""
        found: dict[int, Score | Unscored] = {}
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            if min(image.size) < SMALLEST:
                found[index] = Unscored(reason=f"LPIPS needs at least {SMALLEST} pixels a side")
            else:
                by_size.setdefault(image.size, []).append(index)
        for size, rows in by_size.items():
            for start in range(0, len(rows), self.batch_size):
                part = rows[start : start + self.batch_size]
                others = [other.resize(size, Image.Resampling.BICUBIC) for row in part if (other := references[row]) is not None]
                distances = self._distances([images[row] for row in part], others).tolist()
                found |= {row: Score(value=value) for row, value in zip(part, distances, strict=True)}
        return [found[index] for index in range(len(images))]

    def _distances(self, first: Sequence[Image.Image], second: Sequence[Image.Image]) -> Tensor:
        total = torch.zeros(len(first), device=self._device)
        for mine, theirs, weight in zip(self._features(first), self._features(second), self._weights, strict=True):
            total += F.conv2d((_unit(mine) - _unit(theirs)) ** 2, weight).mean(dim=(1, 2, 3))
        return total.cpu()

    def _features(self, images: Sequence[Image.Image]) -> list[Tensor]:
        pixels = torch.from_numpy(np.stack([np.asarray(image.convert("RGB"), dtype=np.float32) for image in images]))
        x = pixels.permute(0, 3, 1, 2).to(self._device) / 127.5 - 1
        shift, scale = (torch.tensor(values, device=self._device).view(1, 3, 1, 1) for values in (_SHIFT, _SCALE))
        x, found = (x - shift) / scale, []
        for (weight, bias), (_, stride, padding, pooled) in zip(self._convolutions, _LAYERS, strict=True):
            x = F.relu(F.conv2d(F.max_pool2d(x, 3, 2) if pooled else x, weight, bias, stride=stride, padding=padding))
            found.append(x)
        return found


def _unit(features: Tensor) -> Tensor:
    return features / (features.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-10)
