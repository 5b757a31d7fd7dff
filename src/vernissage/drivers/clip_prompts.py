"""Prompts that a CLIP pipeline cannot read itself, weighted, long or with clip skip, as embeddings made by compel."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from vernissage.drivers.prompt_syntax import plain_text, to_compel, unweighted
from vernissage.errors import BadPlan
from vernissage.records.plan import Plan

_EMBEDDABLE = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


class _Shortened:
    """A CLIP text encoder without its last layers, for compel, which knows no clip skip.

    diffusers cannot do it for Stable Diffusion 1 and 2 since transformers 5.6, where `text_model` is gone.

    Args:
        encoder: The text encoder.
        skipped: How many layers to leave out at its end.
        normalised: Whether the final layer norm is applied, as in Stable Diffusion 1 and 2, but not in XL.
        device: Where it works, which with offloading is not where it lies.
    """

    def __init__(self, encoder: Any, *, skipped: int, normalised: bool, device: Any) -> None:
        self._encoder = encoder
        self._skipped = skipped
        self._normalised = normalised
        self.device = device
        self.dtype = encoder.dtype

    def __call__(self, ids: Tensor, attention_mask: Tensor | None = None, **_options: object) -> Any:
        states = self._encoder(ids, attention_mask, output_hidden_states=True, return_dict=True).hidden_states
        state = states[-1 - self._skipped]
        if self._normalised:
            state = getattr(self._encoder, "text_model", self._encoder).final_layer_norm(state)
        return SimpleNamespace(last_hidden_state=state)


def takes_weights(pipeline: Any) -> bool:
    """Whether prompts can be embedded here instead of by the pipeline."""
    return type(pipeline).__name__ in _EMBEDDABLE


def layers_to_skip(pipeline: Any, plan: Plan) -> int:
    """How many layers more than by itself the pipeline is to leave out at the end of its text encoder.

    A1111 counts the last layer as 1. SDXL and SD3 begin with the last but one, so 1 and 2 are the same there.

    Raises:
        BadPlan: There are fewer layers.
    """
    asked = plan.arguments.clip_skip or 1
    first = 2 if "XL" in type(pipeline).__name__ or "Diffusion3" in type(pipeline).__name__ else 1
    layers = getattr(getattr(getattr(pipeline, "text_encoder", None), "config", None), "num_hidden_layers", asked)
    if asked > layers:
        raise BadPlan(f"The text encoder of {plan.model} has {layers} layers, so clip_skip {asked} is too much.", hint="1 skips none.")
    return max(asked - first, 0)


def must_be_painted_alone(pipeline: Any, plan: Plan) -> bool:
    """Whether the length of the plan's embeddings, or that it fails, must not concern its neighbours."""
    texts = [plain_text(plan.prompt), plain_text(plan.negative_prompt)]
    return None in texts or (takes_weights(pipeline) and not all(_fits(pipeline.tokenizer, text or "") for text in texts))


def must_be_embedded(pipeline: Any, plans: list[Plan]) -> bool:
    """Whether the pipeline cannot do itself what these plans ask with their prompts."""
    skips_layers = type(pipeline).__name__ == "StableDiffusionPipeline" and layers_to_skip(pipeline, plans[0]) > 0
    return skips_layers or any(must_be_painted_alone(pipeline, plan) for plan in plans)


def embed_prompts(pipeline: Any, plans: list[Plan]) -> dict[str, Any]:
    """The arguments of the pipeline's call that stand for the prompts of plans."""
    negatives = [plan.negative_prompt for plan in plans]
    texts = [plan.prompt for plan in plans] + negatives
    encoders = [(pipeline.tokenizer, pipeline.text_encoder)]
    if "XL" in type(pipeline).__name__:
        encoders.append((pipeline.tokenizer_2, pipeline.text_encoder_2))
    skipped, device, is_xl = layers_to_skip(pipeline, plans[0]), pipeline._execution_device, len(encoders) > 1
    embedded = torch.cat(
        [
            # SDXL leaves out one layer more, and the last norm.
            _embed(tokenizer, _Shortened(encoder, skipped=skipped + is_xl, normalised=not is_xl, device=device), texts)
            for tokenizer, encoder in encoders
        ],
        dim=-1,
    )
    found = {"prompt_embeds": embedded[: len(plans)], "negative_prompt_embeds": embedded[len(plans) :]}
    if is_xl:
        ids = pipeline.tokenizer_2(
            [unweighted(text) for text in texts], padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        pooled = pipeline.text_encoder_2(ids.to(device)).text_embeds
        found |= {"pooled_prompt_embeds": pooled[: len(plans)], "negative_pooled_prompt_embeds": pooled[len(plans) :]}
        if not any(negatives) and pipeline.config.force_zeros_for_empty_prompt:  # the pipeline fills zeros in, as SDXL was trained
            found = {name: tensor for name, tensor in found.items() if "negative" not in name}
    return found


def _embed(tokenizer: Any, encoder: _Shortened, texts: list[str]) -> Tensor:
    """Embeddings (text, token, feature), all as long as the longest."""
    from compel import Compel

    compel: Any = Compel(tokenizer, encoder, truncate_long_prompts=False)
    embedded = [compel.build_conditioning_tensor_for_conjunction(to_compel(text))[0] for text in texts]
    return torch.cat(compel.pad_conditioning_tensors_to_same_length(embedded))


def _fits(tokenizer: Any, text: str) -> bool:
    return len(tokenizer(text).input_ids) <= tokenizer.model_max_length
