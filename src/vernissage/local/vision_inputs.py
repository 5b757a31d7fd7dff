"""From messages with pictures to model inputs, for the two families that need it done by hand.

transformers' own processors for InternVL and Qwen-VL insist on torchvision for videos, which nobody asks for here. This
file does what they do for pictures alone, with the image processor and tokenizer of the checkpoint: expand each
picture's placeholder to as many tokens as the vision encoder will put there.
"""

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, BatchFeature

from vernissage.local.pretrained import load_pretrained

Pictures = Sequence[Sequence[Image.Image]]
"""Of each prompt its pictures, in order."""
Inputs = Callable[[Sequence[str], Pictures], BatchFeature]
"""Prompts and the pictures of each to a padded batch of tensors."""


def load_inputs(model: str, config: Any, **options: Any) -> tuple[Any, Any, Inputs]:
    """The tokenizer, what renders chats, and the function that makes inputs, for a checkpoint.

    Args:
        model: Local folder or hub id.
        config: The model's configuration, which tells its family.
        options: Passed on to `from_pretrained`.
    """
    asked: dict[str, Any] = {}
    if config.model_type == "internvl":
        expand, asked = _expand_internvl, {"crop_to_patches": True}  # what its processor asks for, whatever the checkpoint says
    elif config.model_type in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"):
        expand = _expand_qwen
    else:
        processor = load_pretrained(AutoProcessor, model, **options)
        processor.tokenizer.padding_side = "left"

        def by_processor(prompts: Sequence[str], images: Pictures) -> BatchFeature:
            # Nested: some processors, Gemma's among them, want to know whose they are; the others do not mind.
            pictures = {"images": [list(own) for own in images]} if any(images) else {}
            return processor(text=list(prompts), padding=True, return_tensors="pt", **pictures)

        return processor.tokenizer, processor, by_processor

    tokenizer = load_pretrained(AutoTokenizer, model, **options)
    tokenizer.padding_side = "left"
    pixels = load_pretrained(AutoImageProcessor, model, **options)

    def by_hand(prompts: Sequence[str], images: Pictures) -> BatchFeature:
        pictures = [picture for own in images for picture in own]
        seen = pixels(images=pictures, return_tensors="pt", **asked) if pictures else {}
        texts = expand(list(prompts), seen, config, tokenizer, pixels)
        tokens = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
        kept = {name: value for name, value in seen.items() if name in ("pixel_values", "image_grid_thw")}
        if "image_grid_thw" in kept:  # Qwen places pictures by rows and columns and must know where they are
            kept["mm_token_type_ids"] = (tokens["input_ids"] == config.image_token_id).int()
        return BatchFeature({"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"], **kept})

    return tokenizer, tokenizer, by_hand


def _replace_each(texts: list[str], placeholder: str, runs: list[str]) -> list[str]:
    """Each occurrence of a placeholder, over all texts, by its own run of tokens."""
    left = iter(runs)
    expanded = []
    for text in texts:
        head, *rest = text.split(placeholder)
        expanded.append(head + "".join(next(left) + part for part in rest))
    return expanded


def _expand_internvl(texts: list[str], seen: Any, config: Any, tokenizer: Any, pixels: Any) -> list[str]:
    token = tokenizer.convert_ids_to_tokens(config.image_token_id)
    patches = seen["num_patches"].tolist() if seen else []
    runs = [f"<img>{token * config.image_seq_length * count}</img>" for count in patches]
    return _replace_each(texts, token, runs)


def _expand_qwen(texts: list[str], seen: Any, config: Any, tokenizer: Any, pixels: Any) -> list[str]:
    token = tokenizer.convert_ids_to_tokens(config.image_token_id)
    grids = seen["image_grid_thw"].tolist() if seen else []
    runs = [token * (frames * rows * columns // pixels.merge_size**2) for frames, rows, columns in grids]
    return _replace_each(texts, token, runs)
