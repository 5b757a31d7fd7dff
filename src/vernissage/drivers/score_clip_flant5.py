"""VQAScore by CLIP-FlanT5: how likely "Yes" is when asked whether a picture shows its prompt (Lin et al. 2024)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import final

import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPVisionModel, T5Config, T5ForConditionalGeneration

from vernissage.errors import DriverError
from vernissage.local.device import pick_device, pick_dtype, settle
from vernissage.local.pretrained import load_pretrained, read_tensors
from vernissage.records.verdict import Score, Unscored, as_score

_BEFORE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: "
)
_AFTER = '\nDoes this figure show "{}"? Please answer yes or no. ASSISTANT: '
_ANSWER = "Yes"
_CONTEXT = 2048
"""Tokens of a question that are read, the picture counted as one."""


@final
class ClipFlanT5Scorer:
    """Scores picture and prompt with a CLIP-FlanT5 checkpoint: FlanT5 with a projector that lets it read CLIP's patches.

    Args:
        model: Local folder with the checkpoint, such as a download of zhiqiulin/clip-flant5-xl.
        vision: Local folder or hub id of CLIP.
        tokenizer: Local folder or hub id; that of the FlanT5 the checkpoint grew from.
        layer: Of CLIP's hidden states the one that is read.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "auto", "float32", "float16", "bfloat16".
        batch_size: Pictures in one pass.
    """

    def __init__(
        self,
        model: str,
        *,
        vision: str = "openai/clip-vit-large-patch14-336",
        tokenizer: str = "google/flan-t5-xl",
        layer: int = -2,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 8,
    ) -> None:
        self.name = f"clip-flant5:{model}"
        self.batch_size = batch_size
        self._layer = layer
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        self._tokenizer = load_pretrained(AutoTokenizer, tokenizer)
        self._pixels = load_pretrained(CLIPImageProcessorPil, vision)
        self._vision = settle(load_pretrained(CLIPVisionModel, vision, dtype=self._dtype), self._device)
        try:
            told = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
            config = T5Config(**{name: value for name, value in told.items() if name not in ("model_type", "architectures")})
            self._projector = [part.to(self._device, self._dtype) for part in _projector(Path(model))]
        except (OSError, DriverError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, StrictDataclassError) as error:
            raise DriverError(f"CLIP-FlanT5 cannot be read from {model}: {error}") from error
        loaded, told = load_pretrained(T5ForConditionalGeneration, model, config=config, dtype=self._dtype, output_loading_info=True)
        others = [name for name in told["unexpected_keys"] if not name.startswith(("mm_projector.", "vision_tower."))]
        odd = [*sorted(told["missing_keys"]), *sorted(others)]
        if loaded.lm_head.weight is loaded.shared.weight and not config.scale_decoder_outputs:
            odd.append("lm_head.weight")
        if odd:
            raise DriverError(f"{model} does not hold the CLIP-FlanT5 of its config.json: {', '.join(odd[:3])}")
        self._model = settle(loaded, self._device)
        seen, width = self._vision.config, config.d_model
        shapes = [tuple(part.shape) for part in self._projector]
        inner = shapes[1][0]
        if shapes != [(inner, seen.hidden_size), (inner,), (width, inner), (width,)]:
            raise DriverError(f"The projector of {model} is {shapes}: not for CLIP of {seen.hidden_size} and FlanT5 of {width}.")
        if not -seen.num_hidden_layers - 1 <= layer <= seen.num_hidden_layers:
            raise DriverError(f"There is no layer {layer} in {vision}.")
        if len(self._tokenizer) > config.vocab_size or max(self._tokenizer.get_vocab().values()) >= config.vocab_size:
            raise DriverError(f"The tokenizer {tokenizer} has more words than {model}.")

    @torch.inference_mode()
    def score(
        self, images: Sequence[Image.Image], prompts: Sequence[str | None], references: Sequence[Image.Image | None]
    ) -> list[Score | Unscored]:
        """The mean probability, geometric, of the tokens of "Yes" and the end after it, in [0, 1]; see `ports.Scorer`."""
        found: list[Score | Unscored] = []
        (labels,) = self._tokenizer([_ANSWER], return_tensors="pt").input_ids.to(self._device)
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            seen = self._see(images[part])
            before = self._words(_BEFORE)
            rows = [
                torch.cat([before, row, self._words(_AFTER.format(text or ""))[: _CONTEXT - 1 - len(before)]])
                for row, text in zip(seen, prompts[part], strict=True)
            ]
            mask = pad_sequence([torch.ones(len(row), dtype=torch.long, device=self._device) for row in rows], batch_first=True)
            logits = self._model(
                inputs_embeds=pad_sequence(rows, batch_first=True), attention_mask=mask, labels=labels.repeat(len(rows), 1)
            ).logits
            chances = logits.float().log_softmax(dim=-1).gather(2, labels.expand(len(rows), -1)[..., None])[..., 0].mean(dim=1).exp()
            found += [as_score(min(value, 1.0)) for value in chances.tolist()]
        return found

    def _see(self, images: Sequence[Image.Image]) -> Tensor:
        """Patches in FlanT5's space, shape (picture, patch, width); pictures are made square with CLIP's mean colour first."""
        colour = tuple(int(each * 255) for each in self._pixels.image_mean)
        pixels = self._pixels(images=[_squared(image.convert("RGB"), colour) for image in images], return_tensors="pt").pixel_values
        x = self._vision(pixel_values=pixels.to(self._device, self._dtype), output_hidden_states=True).hidden_states[self._layer][:, 1:]
        first_weight, first_bias, weight, bias = self._projector
        return F.linear(F.gelu(F.linear(x, first_weight, first_bias)), weight, bias)

    def _words(self, text: str) -> Tensor:
        """Embeddings of a text and the end token after it: the authors' tokeniser closes each part of a question."""
        (ids,) = self._tokenizer([text], return_tensors="pt").input_ids.to(self._device)
        return self._model.get_input_embeddings()(ids)


def _squared(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    side = max(image.size)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _projector(folder: Path) -> list[Tensor]:
    """Weights and biases of the two layers of `mm_projector`, from whichever file of the checkpoint holds them."""
    wanted = [f"mm_projector.{n}.{part}" for n in (0, 2) for part in ("weight", "bias")]
    found: dict[str, Tensor] = {}
    for path in sorted([*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")]):
        tensors = read_tensors(str(path))
        found |= {name: tensors[name] for name in wanted if name in tensors}
    return [found[name] for name in wanted]
