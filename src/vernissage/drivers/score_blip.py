"""BLIP through transformers: how likely a picture and a prompt match, by its image-text head."""

from collections.abc import Sequence
from typing import final

import torch
from PIL import Image
from transformers import AutoTokenizer, BlipForImageTextRetrieval, BlipImageProcessorPil

from vernissage.local.device import pick_device, pick_dtype, settle
from vernissage.local.pretrained import load_pretrained
from vernissage.records.verdict import Score, Unscored, as_score

_TOKENS = 35
"""Of a prompt, as many as the authors' code reads."""


@final
class BlipScorer:
    """Scores picture and prompt with a BLIP retrieval checkpoint in transformers format.

    Args:
        model: Local folder or hub id, such as Salesforce/blip-itm-base-coco.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "float32", which published numbers are of, "bfloat16", "float16", or "auto" for the fastest here.
        batch_size: Pictures in one pass.
        revision: Commit or tag of the hub repository.
    """

    def __init__(
        self, model: str, *, device: str = "auto", dtype: str = "float32", batch_size: int = 16, revision: str | None = None
    ) -> None:
        self.name = f"blip:{model}"
        self.batch_size = batch_size
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        self._model = load_pretrained(BlipForImageTextRetrieval, model, dtype=self._dtype, use_safetensors=True, revision=revision)
        settle(self._model, self._device)
        self._pixels = load_pretrained(BlipImageProcessorPil, model, revision=revision)
        self._tokenizer = load_pretrained(AutoTokenizer, model, revision=revision)

    @torch.inference_mode()
    def score(
        self, images: Sequence[Image.Image], prompts: Sequence[str | None], references: Sequence[Image.Image | None]
    ) -> list[Score | Unscored]:
        """Probability of a match for each picture and its prompt; see `ports.Scorer`."""
        found: list[Score | Unscored] = []
        limit = min(_TOKENS, self._model.config.text_config.max_position_embeddings)
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            pixels = self._pixels(images=list(images[part]), return_tensors="pt").pixel_values
            texts = [prompt or "" for prompt in prompts[part]]
            tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt").to(self._device)
            logits = self._model(
                input_ids=tokens.input_ids,
                attention_mask=tokens.attention_mask,
                pixel_values=pixels.to(self._device, self._dtype),
                use_itm_head=True,
            ).itm_score
            for value in logits.float().softmax(dim=1)[:, 1].tolist():
                found.append(as_score(value))
        return found
