"""HPSv2 and v2.1 from the published files: a CLIP in open_clip's naming, trained on people's rankings (Wu et al. 2023)."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import ftfy
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPConfig, CLIPModel

from vernissage.drivers.features import to_rows, unit_length
from vernissage.errors import DriverError
from vernissage.local.device import pick_device, pick_dtype, settle
from vernissage.local.pretrained import load_pretrained, read_tensors
from vernissage.records.verdict import Score, Unscored, as_score

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HEADS = {1280: 16, 1408: 16, 1664: 16}
"""Of the large vision encoders; the others have heads of 64."""
_END = 49407
_LAYER = (
    (r"resblocks\.(\d+)\.ln_(\d)\.", r"encoder.layers.\1.layer_norm\2."),
    (r"resblocks\.(\d+)\.attn\.out_proj\.", r"encoder.layers.\1.self_attn.out_proj."),
    (r"resblocks\.(\d+)\.mlp\.c_fc\.", r"encoder.layers.\1.mlp.fc1."),
    (r"resblocks\.(\d+)\.mlp\.c_proj\.", r"encoder.layers.\1.mlp.fc2."),
)
_WHOLE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
_TURNED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}


@final
class HpsScorer:
    """Scores picture and prompt by the cosine of their features, pictures padded to squares as the authors do.

    Args:
        model: File of the checkpoint, such as `HPS_v2.1_compressed.pt`, or the same as safetensors; sizes are read off it.
        tokenizer: Local folder or hub id.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "float32", which published numbers are of, "bfloat16", "float16", or "auto" for the fastest here.
        batch_size: Pictures in one pass.
    """

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str = "openai/clip-vit-large-patch14",
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = 16,
    ) -> None:
        self.name = f"hpsv2:{Path(model).name}"
        self.batch_size = batch_size
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        self._tokenizer = load_pretrained(AutoTokenizer, tokenizer)
        try:
            self._model = settle(_as_transformers(read_tensors(model)), self._device, self._dtype)
        except (DriverError, RuntimeError, LookupError, ValueError) as error:
            raise DriverError(f"HPSv2 cannot be read from {model}: {error}") from error

    @torch.inference_mode()
    def score(
        self, images: Sequence[Image.Image], prompts: Sequence[str | None], references: Sequence[Image.Image | None]
    ) -> list[Score | Unscored]:
        """Cosine of each picture and its prompt; see `ports.Scorer`."""
        found: list[Score | Unscored] = []
        side = self._model.config.vision_config.image_size
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            pixels = torch.stack([_prepared(image, side) for image in images[part]]).to(self._device, self._dtype)
            tokens = self._tokenizer(
                [_cleaned(prompt or "") for prompt in prompts[part]],
                padding=True,
                truncation=True,
                max_length=self._model.config.text_config.max_position_embeddings,
                return_tensors="pt",
            ).to(self._device)
            seen = self._model.visual_projection(self._model.vision_model(pixel_values=pixels).pooler_output)
            said = self._model.text_projection(self._model.text_model(input_ids=tokens.input_ids).pooler_output)
            for value in (unit_length(to_rows(seen)) * unit_length(to_rows(said))).sum(axis=1):
                found.append(as_score(value))
        return found


def _cleaned(text: str) -> str:
    """As the authors' tokenizer reads it: curled quotes made straight, wide and joined letters plain, and entities of HTML resolved."""
    return html.unescape(html.unescape(ftfy.fix_text(text)))


def _prepared(image: Image.Image, side: int) -> Tensor:
    """The longer side scaled, black added around, colours normalised; shape (channel, side, side)."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255
    height, width = (max(1, round(length * side / max(image.size))) for length in (image.height, image.width))
    if max(image.size) != side:
        pixels = F.interpolate(pixels[None], (height, width), mode="bicubic", align_corners=False, antialias=True)[0]
    down, right = side - height, side - width
    padded = F.pad(pixels, (right // 2, right - right // 2, down // 2, down - down // 2))
    return (padded - torch.tensor(_MEAN).view(3, 1, 1)) / torch.tensor(_STD).view(3, 1, 1)


def _as_transformers(tensors: Mapping[str, Tensor]) -> CLIPModel:
    """A CLIP of open_clip's as one of transformers'."""
    patches, words = tensors["visual.conv1.weight"], tensors["token_embedding.weight"]
    (wide, _, _, patch), (vocabulary, narrow) = patches.shape, words.shape
    side = patch * round((len(tensors["visual.positional_embedding"]) - 1) ** 0.5)
    context = len(tensors["positional_embedding"])

    def part(prefix: str, width: int, heads: int) -> dict[str, int | str]:
        layers = {name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)}
        inner = len(tensors[f"{prefix}0.mlp.c_fc.bias"])
        return {
            "hidden_size": width,
            "intermediate_size": inner,
            "num_hidden_layers": len(layers),
            "num_attention_heads": heads,
            "hidden_act": "gelu",
        }

    config = CLIPConfig(
        text_config=part("transformer.resblocks.", narrow, max(1, narrow // 64))
        | {"vocab_size": vocabulary, "max_position_embeddings": context, "eos_token_id": min(_END, vocabulary - 1)},
        vision_config=part("visual.transformer.resblocks.", wide, _HEADS.get(wide, max(1, wide // 64)))
        | {"patch_size": patch, "image_size": side},
        projection_dim=tensors["text_projection"].shape[1],
    )
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in _WHOLE:
            renamed[_WHOLE[name]] = tensor
        elif name in _TURNED:
            renamed[_TURNED[name]] = tensor.T.contiguous()
        elif name.startswith(("transformer.", "visual.transformer.")):
            renamed |= _layer(name, tensor)
    model = CLIPModel(config)
    model.load_state_dict(renamed)
    return model


def _layer(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A tensor of a layer by its new name; of the three projections in one, three."""
    tower = "vision_model." if name.startswith("visual.") else "text_model."
    inside = name.removeprefix("visual.").removeprefix("transformer.")
    if joined := re.fullmatch(r"resblocks\.(\d+)\.attn\.in_proj_(weight|bias)", inside):
        names = [f"{tower}encoder.layers.{joined[1]}.self_attn.{letter}_proj.{joined[2]}" for letter in "qkv"]
        return dict(zip(names, tensor.chunk(3), strict=True))
    for old, new in _LAYER:
        inside = re.sub(old, new, inside)
    return {tower + inside: tensor}
