"""The LAION aesthetic predictor: a small network on CLIP features of unit length."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from vernissage.drivers.encode_clip import ClipEncoder
from vernissage.drivers.features import centre_square
from vernissage.errors import DriverError
from vernissage.local.pretrained import read_tensors
from vernissage.records.verdict import Score, Unscored, as_score


@final
class AestheticScorer:
    """Scores pictures with CLIP and the predictor's layers, `layers.<n>.weight` and `.bias`, without anything between them.

    Args:
        model: CLIP, local folder or hub id, in transformers format; openai/clip-vit-large-patch14 for the published predictor.
        head: File of the predictor: safetensors, or a PyTorch file, which is read without running code.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "float32", which published numbers are of, "bfloat16", "float16", or "auto" for the fastest here.
        batch_size: Pictures in one pass.
    """

    def __init__(self, model: str, *, head: str, device: str = "auto", dtype: str = "float32", batch_size: int = 32) -> None:
        self._encoder = ClipEncoder(model, device=device, dtype=dtype, batch_size=batch_size)
        self.name = f"aesthetic:{Path(head).name} on {self._encoder.name}"
        try:
            tensors = read_tensors(head)
            numbers = sorted({int(match[1]) for key in tensors if (match := re.fullmatch(r"layers\.(\d+)\.weight", key))})
            self._layers = [(tensors[f"layers.{n}.weight"].float(), tensors[f"layers.{n}.bias"].float()) for n in numbers]
        except (DriverError, RuntimeError, LookupError, ValueError) as error:
            raise DriverError(f"The aesthetic predictor cannot be read from {head}: {error}") from error
        if not self._layers or self._layers[-1][0].shape[0] != 1:
            raise DriverError(f"{head} holds no aesthetic predictor: there are no layers that end in one number.")

    @torch.inference_mode()
    def score(
        self, images: Sequence[Image.Image], prompts: Sequence[str | None], references: Sequence[Image.Image | None]
    ) -> list[Score | Unscored]:
        """See `ports.Scorer`.

        Raises:
            DriverError: The predictor was trained on a CLIP of another width.
        """
        values = torch.from_numpy(
            np.ascontiguousarray(self._encoder.encode([centre_square(image.convert("RGB"), self._encoder.side) for image in images]))
        )
        if values.shape[1] != self._layers[0][0].shape[1]:
            raise DriverError(f"The predictor takes {self._layers[0][0].shape[1]} features, and CLIP gives {values.shape[1]}.")
        for weight, bias in self._layers:
            values = F.linear(values, weight, bias)
        return [as_score(value) for value in values[:, 0].tolist()]
