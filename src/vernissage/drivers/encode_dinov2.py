"""DINOv2 through transformers: pictures to features of visual detail."""

from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from numpy import ndarray
from PIL import Image
from transformers import BitImageProcessorPil, Dinov2Model

from vernissage.drivers.features import FeatureCache, to_rows, unit_length
from vernissage.local.device import in_type, pick_device, pick_dtype, settle
from vernissage.local.pretrained import fingerprint, load_pretrained

Pooling = Literal["cls", "mean"]
Way = Literal["transformers", "dgm-eval"]

_DGM_SIDE = 224


@final
class Dinov2Encoder:
    """Encodes pictures with a DINOv2 checkpoint in transformers format.

    Args:
        model: Local folder or hub id.
        pooling: "cls" takes the class token; "mean" the mean of the last hidden state over all tokens, as
            ImageRepainter's released code does.
        like: Whose way of scaling pictures is followed: the checkpoint's own, mostly a crop of the middle, or that of dgm-eval, whose whole
            pictures the published Frechet distances of DINOv2 are of.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "float32", which published numbers are of, "bfloat16", "float16", or "auto" for the fastest here.
        batch_size: Pictures in one pass.
        revision: Commit or tag of the hub repository.
    """

    def __init__(
        self,
        model: str,
        *,
        pooling: Pooling = "cls",
        like: Way = "transformers",
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = 32,
        revision: str | None = None,
    ) -> None:
        self.name = f"dinov2-{pooling}:{model}" + (f" like {like}" if like != "transformers" else "")
        self._like = like
        self.pooling = pooling
        self.batch_size = batch_size
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        options: dict[str, Any] = {"revision": revision}
        self._model = settle(load_pretrained(Dinov2Model, model, dtype=self._dtype, use_safetensors=True, **options), self._device)
        self._pixels = load_pretrained(BitImageProcessorPil, model, **options)
        # Features that are kept on disk must not outlive their weights, nor be taken for those of another number type.
        self.name += f" {fingerprint(self._model)}{in_type(self._dtype)}"
        self._cache = FeatureCache(self._model.config.hidden_size, self._device)

    def encode(self, images: Sequence[Image.Image]) -> ndarray:
        """Features of shape (image, feature), float32, unit length; a picture seen before is not encoded again."""
        return unit_length(self.encode_raw(images))

    def encode_raw(self, images: Sequence[Image.Image]) -> ndarray:
        """The same features with the length that they have, as distances between sets of pictures want them."""
        return self._cache.encode(images, self._encode_new, self.batch_size)

    @torch.inference_mode()
    def _encode_new(self, images: Sequence[Image.Image]) -> ndarray:
        if self._like == "dgm-eval":
            images = [image.convert("RGB").resize((_DGM_SIDE, _DGM_SIDE), Image.Resampling.BICUBIC) for image in images]
            pixels = self._pixels(images=images, return_tensors="pt", do_resize=False, do_center_crop=False).pixel_values
        else:
            pixels = self._pixels(images=list(images), return_tensors="pt").pixel_values
        output = self._model(pixel_values=pixels.to(self._device, self._dtype))
        tokens = output.last_hidden_state
        return to_rows(tokens[:, 0] if self.pooling == "cls" else tokens.mean(dim=1))
