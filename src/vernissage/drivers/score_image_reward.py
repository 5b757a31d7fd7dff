"""ImageReward: BLIP's text encoder looking at a picture, and a small network trained on people's rankings (Xu et al. 2023)."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import final

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel, CLIPImageProcessorPil

from vernissage.drivers.features import centre_square
from vernissage.errors import DriverError
from vernissage.local.device import pick_device, pick_dtype, settle
from vernissage.local.pretrained import load_pretrained, read_tensors
from vernissage.records.verdict import Score, Unscored, as_score

_MEAN, _STD = 0.16717362830052426, 1.0333394966054072  # of the rewards in training, as the authors' code has them
_TOKENS, _HEAD = 35, 64
_RENAMED = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
    (r"^blocks\.(\d+)\.attn\.", r"encoder.layers.\1.self_attn."),
    (r"^blocks\.(\d+)\.norm", r"encoder.layers.\1.layer_norm"),
    (r"^blocks\.(\d+)\.", r"encoder.layers.\1."),
)
"""From the names of the published vision encoder to those of transformers."""


@final
class ImageRewardScorer:
    """Scores picture and prompt with the authors' checkpoint.

    Args:
        model: File of the checkpoint, `ImageReward.pt`, or the same as safetensors; sizes are read off it.
        tokenizer: Local folder or hub id.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "float32", which published numbers are of, "bfloat16", "float16", or "auto" for the fastest here.
        batch_size: Pictures in one pass.
    """

    def __init__(
        self, model: str, *, tokenizer: str = "bert-base-uncased", device: str = "auto", dtype: str = "float32", batch_size: int = 16
    ) -> None:
        self.name = f"image-reward:{Path(model).name}"
        self.batch_size = batch_size
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        self._tokenizer = load_pretrained(AutoTokenizer, tokenizer)
        try:
            tensors = read_tensors(model)
            self._vision, self._text = _vision(_below(tensors, "blip.visual_encoder.")), _text(_below(tensors, "blip.text_encoder."))
            layers = _below(tensors, "mlp.layers.")
            numbers = sorted({int(name.split(".")[0]) for name in layers})
            self._layers = [tuple(layers[f"{n}.{part}"].float().to(self._device) for part in ("weight", "bias")) for n in numbers]
        except (DriverError, RuntimeError, LookupError, ValueError) as error:
            raise DriverError(f"ImageReward cannot be read from {model}: {error}") from error
        if not self._layers or len(self._layers[-1][1]) != 1:
            raise DriverError(f"{model} holds no ImageReward: there are no layers that end in one number.")
        widths = [
            (self._vision.config.hidden_size, self._text.config.encoder_hidden_size),
            (self._text.config.hidden_size, self._layers[0][0].shape[1]),
            *((len(bias), weight.shape[1]) for (_, bias), (weight, _) in pairwise(self._layers)),
        ]
        if any(given != taken for given, taken in widths):
            raise DriverError(f"{model} holds no ImageReward: its parts are of widths that do not fit one another.")
        if len(self._tokenizer) > self._text.config.vocab_size:
            raise DriverError(f"The tokenizer {tokenizer} has {len(self._tokenizer)} words, {model} {self._text.config.vocab_size}.")
        for part in (self._vision, self._text):
            settle(part, self._device, self._dtype)
        side = self._vision.config.image_size
        self._pixels = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})

    @torch.inference_mode()
    def score(
        self, images: Sequence[Image.Image], prompts: Sequence[str | None], references: Sequence[Image.Image | None]
    ) -> list[Score | Unscored]:
        """The reward of each picture for its prompt, about -2 to 2; see `ports.Scorer`."""
        found: list[Score | Unscored] = []
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            squares = [centre_square(image.convert("RGB"), self._vision.config.image_size) for image in images[part]]
            pixels = self._pixels(images=squares, return_tensors="pt").pixel_values
            seen = self._vision(pixel_values=pixels.to(self._device, self._dtype)).last_hidden_state
            tokens = self._tokenizer(
                [prompt or "" for prompt in prompts[part]],
                padding="max_length",
                truncation=True,
                max_length=min(_TOKENS, self._text.config.max_position_embeddings),
                return_tensors="pt",
            ).to(self._device)
            values = self._text(
                input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, encoder_hidden_states=seen, is_decoder=False
            ).last_hidden_state[:, 0]
            values = values.float()
            for weight, bias in self._layers:
                values = F.linear(values, weight, bias)
            for value in ((values[:, 0] - _MEAN) / _STD).tolist():
                found.append(as_score(value))
        return found


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _vision(tensors: dict[str, Tensor]) -> BlipVisionModel:
    width, _, patch, _ = tensors["patch_embed.proj.weight"].shape
    config = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=len(tensors["blocks.0.mlp.fc1.bias"]),
        num_hidden_layers=len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}),
        num_attention_heads=max(1, width // _HEAD),
        image_size=patch * round((tensors["pos_embed"].shape[1] - 1) ** 0.5),
        patch_size=patch,
        layer_norm_eps=1e-6,
    )
    renamed = {}
    for name, tensor in tensors.items():
        pattern, new = next(((old, new) for old, new in _RENAMED if re.search(old, name)), ("", ""))
        renamed[re.sub(pattern, new, name)] = tensor
    model = BlipVisionModel(config)
    model.load_state_dict(renamed)
    return model


def _text(tensors: dict[str, Tensor]) -> BlipTextModel:
    words = tensors["embeddings.word_embeddings.weight"]
    config = BlipTextConfig(
        vocab_size=len(words),
        hidden_size=words.shape[1],
        encoder_hidden_size=tensors["encoder.layer.0.crossattention.self.key.weight"].shape[1],
        intermediate_size=len(tensors["encoder.layer.0.intermediate.dense.bias"]),
        num_hidden_layers=len({name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}),
        num_attention_heads=max(1, words.shape[1] // _HEAD),
        max_position_embeddings=len(tensors["embeddings.position_embeddings.weight"]),
    )
    model = BlipTextModel(config, add_pooling_layer=False)
    tensors.pop("embeddings.position_ids", None)  # of old checkpoints; numbers from 0 on
    model.load_state_dict(tensors)
    return model
