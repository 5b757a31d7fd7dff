"""Texts to token features with any encoder in transformers format (BERT, RoBERTa, DeBERTa, CLIP's text part), for BERTScore."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy import ndarray
from transformers import AutoModel, AutoTokenizer

from vernissage.errors import BadInput
from vernissage.local.device import pick_device, pick_dtype, settle
from vernissage.local.pretrained import fingerprint, load_pretrained
from vernissage.local.streams import batches, side_by_side
from vernissage.metrics.bert_score import TokenFeatures, read_baseline


@final
class TransformersTextEncoder:
    """Hidden states of one layer, for each token.

    Args:
        model: Local folder or hub id.
        layer: Whose output is taken, counted from 1 as bert-score does; 0 for the last.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "float32", which published numbers are of, "bfloat16", "float16", or "auto" for the fastest here.
        batch_size: Texts in one pass.
        revision: Commit or tag of the hub repository.
        baseline: A table of what unrelated texts score, as the package bert-score has them in `rescale_baseline`; without one, scores are
            rescaled by the texts that they are of.
    """

    def __init__(
        self,
        model: str,
        *,
        layer: int = 0,
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = 64,
        revision: str | None = None,
        baseline: str = "",
    ) -> None:
        self._device = pick_device(device)
        whole = load_pretrained(AutoModel, model, dtype=pick_dtype(dtype, self._device), use_safetensors=True, revision=revision)
        self._model: Any = settle(getattr(whole, "text_model", whole), self._device)
        config = self._model.config
        # bert-score's numbers and baselines are of a space before the first word, which these tokenizers leave out unless told.
        options = {"add_prefix_space": True} if config.model_type in ("roberta", "gpt2") else {}
        self._tokenizer = load_pretrained(AutoTokenizer, model, revision=revision, **options)
        if not 0 <= layer <= config.num_hidden_layers:
            raise BadInput(f"{model} has {config.num_hidden_layers} layers, not {layer}.", hint="Correct `layer`.")
        self._layer = layer or config.num_hidden_layers
        self.baseline = read_baseline(Path(baseline), self._layer) if baseline else None
        # Models of BERT's make have no norm behind their layers, so those above the wanted one may go.
        if isinstance(above := getattr(getattr(self._model, "encoder", None), "layer", None), torch.nn.ModuleList):
            del above[self._layer :]
        # Positions of the RoBERTa family begin behind the one of padding.
        taken = (config.pad_token_id or 0) + 1 if "roberta" in config.model_type or config.model_type == "camembert" else 0
        self._longest = min(int(self._tokenizer.model_max_length), int(getattr(config, "max_position_embeddings", 512)) - taken)
        self.name = f"{model} {fingerprint(self._model)} layer {self._layer}"
        self.batch_size = batch_size
        self._one_at_a_time = threading.Lock()

    def encode_tokens(self, texts: Sequence[str]) -> list[TokenFeatures]:
        """Features of each text, in order. Equal texts are encoded once, like lengths together, so that little is padding."""
        different = list(dict.fromkeys(text.strip() for text in texts))
        if not different:
            return []
        read = self._tokenizer(different, truncation=True, max_length=self._longest, return_special_tokens_mask=True)
        rows, special = read["input_ids"], read["special_tokens_mask"]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        found: dict[str, TokenFeatures] = {}
        with self._one_at_a_time:
            parts = batches(order, self.batch_size, self._device)
            encoded = side_by_side(lambda part: self._encode([rows[row] for row in part]), parts, self._device)
            for row, vectors in zip(order, (each for part in encoded for each in part), strict=True):
                found[different[row]] = TokenFeatures(vectors, np.array(special[row]) == 0)
        return [found[text.strip()] for text in texts]

    @torch.inference_mode()
    def _encode(self, rows: list[list[int]]) -> list[ndarray]:
        padded = self._tokenizer.pad({"input_ids": rows}, return_tensors="pt").to(self._device)
        states = self._model(
            input_ids=padded["input_ids"], attention_mask=padded["attention_mask"], output_hidden_states=True
        ).hidden_states[self._layer]
        vectors = torch.nn.functional.normalize(states.float(), dim=-1).cpu().numpy()
        left = self._tokenizer.padding_side == "left"
        return [own[-len(row) :] if left else own[: len(row)] for row, own in zip(rows, vectors, strict=True)]
