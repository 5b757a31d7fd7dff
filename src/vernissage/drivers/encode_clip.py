"""CLIP through transformers: pictures and texts to features in one space."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from numpy import ndarray
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from vernissage.drivers.features import FeatureCache, to_rows, unit_length
from vernissage.local.device import explained, in_type, pick_device, pick_dtype, settle
from vernissage.local.pretrained import fingerprint, load_pretrained
from vernissage.local.streams import batches, side_by_side


@final
class ClipEncoder:
    """Encodes pictures and texts with a CLIP checkpoint in transformers format.

    Args:
        model: Local folder or hub id.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "float32", which published numbers are of, "bfloat16", "float16", or "auto" for the fastest here.
        batch_size: Pictures or texts in one pass.
        revision: Commit or tag of the hub repository.
    """

    def __init__(
        self, model: str, *, device: str = "auto", dtype: str = "float32", batch_size: int = 32, revision: str | None = None
    ) -> None:
        self.name = f"clip:{model}"
        self.batch_size = batch_size
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        options: dict[str, Any] = {"revision": revision}
        self._model = settle(load_pretrained(CLIPModel, model, dtype=self._dtype, use_safetensors=True, **options), self._device)
        self._pixels = load_pretrained(CLIPImageProcessorPil, model, **options)
        self._tokenizer = load_pretrained(AutoTokenizer, model, **options)
        # Features that are kept on disk must not outlive their weights, nor be taken for those of another number type.
        self.name += f" {fingerprint(self._model)}{in_type(self._dtype)}"
        self._cache = FeatureCache(self._model.config.projection_dim, self._device)

    @property
    def logit_scale(self) -> float:
        """What the checkpoint multiplies cosines with."""
        return float(self._model.logit_scale.detach().exp())

    @property
    def side(self) -> int:
        """Of the squares that pictures are scaled and cut to."""
        return int(self._model.config.vision_config.image_size)

    def encode(self, images: Sequence[Image.Image]) -> ndarray:
        """Features of shape (image, feature), float32, unit length; a picture seen before is not encoded again."""
        return unit_length(self.encode_raw(images))

    def encode_raw(self, images: Sequence[Image.Image]) -> ndarray:
        """The same features with the length that they have, as distances between sets of pictures want them."""
        with explained(self.name, self._device, "encode"):
            return self._cache.encode(images, self._encode_new, self.batch_size)

    @torch.inference_mode()
    def _encode_new(self, images: Sequence[Image.Image]) -> ndarray:
        pixels = self._pixels(images=list(images), return_tensors="pt").pixel_values
        vision = self._model.vision_model(pixel_values=pixels.to(self._device, self._dtype))
        return to_rows(self._model.visual_projection(vision.pooler_output))

    def encode_text(self, texts: Sequence[str]) -> ndarray:
        """Features of shape (text, feature), float32, unit length; longer texts are cut at the model's limit."""
        rows = np.empty((len(texts), self._model.config.projection_dim), dtype=np.float32)
        limit = self._model.config.text_config.max_position_embeddings
        ids = self._tokenizer(list(texts), truncation=True, max_length=limit).input_ids if texts else []
        by_length = sorted(range(len(ids)), key=lambda index: len(ids[index]))  # padding is computed and tells nothing
        parts = batches(by_length, self.batch_size, self._device)
        with explained(self.name, self._device, "encode"):
            encoded = side_by_side(lambda part: self._encode_ids([ids[index] for index in part]), parts, self._device)
        for part, some in zip(parts, encoded, strict=True):
            rows[part] = some
        return rows

    @torch.inference_mode()
    def _encode_ids(self, ids: Sequence[Sequence[int]]) -> ndarray:
        tokens = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self._device)
        text = self._model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        return unit_length(to_rows(self._model.text_projection(text.pooler_output)))
