"""Import of judges in the InternVLChat layout, that of LMM4LMM's published checkpoints; none of their code is run.

What differs from transformers' own layout: InternViT's fused `qkv`, InternLM2's fused `wqkv` (per key-value head: its queries, then the
key, then the value), the names, LoRA inside PEFT's wrapping, and the head `mlpscore`. Fused LoRA is taken apart exactly: the parts share
A, and B's rows are divided as the weight's are.
"""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251  the error alone, which torch raises instead of running code
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, GotOcr2ImageProcessorPil, InternVLConfig, InternVLForConditionalGeneration

from vernissage.errors import BadCard, BadInput, IntegrityError
from vernissage.judging.nn.checkpoint import save_judge, trained_tensors
from vernissage.judging.nn.model import JudgeModel, Reader, add_heads
from vernissage.judging.spec import SPEC, Dimension, HeadSpec, JudgeSpec
from vernissage.local.adapter_spec import AdapterSpec
from vernissage.local.adapters import PARTS, add_adapter
from vernissage.local.pretrained import fingerprint, load_pretrained
from vernissage.local.tensors import restore

_LANGUAGE = {"InternLM2ForCausalLM": "llama", "LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2"}
_VISION_FIELDS = {"attention_probs_dropout_prob": "attention_dropout", "qk_normalization": "use_qk_norm", "qkv_bias": "attention_bias"}
# What the authors' inference code asks and lets the answer begin with; the state is read before the level word.
_ASKED: dict[Dimension | Literal["answers"], tuple[str, str]] = {
    "answers": ("{question}", ""),
    "perception": ("How would you rate the quality of this image?", "The quality of the image is"),
    "correspondence": (
        "How would you rate the correspondence of this image and its prompt? prompt: {prompt}",
        "The correspondence of the image and its prompt is",
    ),
}


def _template(system: str, end: str) -> str:
    """A conversation as InternVL's code writes it; the placeholder of a picture has a line of its own."""
    closed = end.replace("\n", "\\n")
    return (
        f"{{{{ bos_token or '' }}}}<|im_start|>system\n{system}{end}"
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['content'] is string %}"
        "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
        "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
        f"{{{{ '{closed}' }}}}{{% endfor %}}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )


_COMMA = "\N{FULLWIDTH COMMA}"
_TEMPLATES = {
    "internlm2-chat": _template(
        f"你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型{_COMMA}英文名叫InternVL, 是一个有用无害的人工智能助手。", "<|im_end|>"
    ),
    "internvl2_5": _template(
        f"你是书生·万象{_COMMA}英文名是InternVL{_COMMA}是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。",
        "<|im_end|>\n",
    ),
}
"""InternVL's conversation templates by name."""
_RENAMED = [
    (r"^vision_model\.embeddings\.class_embedding", "model.vision_tower.embeddings.cls_token"),
    (r"^vision_model\.embeddings\.position_embedding", "model.vision_tower.embeddings.position_embeddings"),
    (r"^vision_model\.embeddings\.patch_embedding", "model.vision_tower.embeddings.patch_embeddings.projection"),
    (r"^vision_model\.encoder\.layers", "model.vision_tower.encoder.layer"),
    (r"^mlp1\.0\.", "model.multi_modal_projector.layer_norm."),
    (r"^mlp1\.1\.", "model.multi_modal_projector.linear_1."),
    (r"^mlp1\.3\.", "model.multi_modal_projector.linear_2."),
    (r"^language_model\.(output|lm_head)\.", "lm_head."),
    (r"^language_model\.model\.tok_embeddings", "model.language_model.embed_tokens"),
    (r"^language_model\.model\.", "model.language_model."),
    (r"\.attn\.proj\.", ".attention.projection_layer."),
    (r"\.attn\.(q|k)_norm\.", r".attention.\1_norm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.ls([12])$", r".lambda_\1"),
    (r"\.attention\.wo\.", ".self_attn.o_proj."),
    (r"\.feed_forward\.w1\.", ".mlp.gate_proj."),
    (r"\.feed_forward\.w3\.", ".mlp.up_proj."),
    (r"\.feed_forward\.w2\.", ".mlp.down_proj."),
    (r"\.attention_norm\.", ".input_layernorm."),
    (r"\.ffn_norm\.", ".post_attention_layernorm."),
]


def _check_asked(out: Path, dimension: str, wording: str | None, low: float, high: float) -> None:
    """Refuse what would be found out only when all is written, or later still."""
    if (out / SPEC).exists():
        raise BadInput(f"{out} holds a judge already.", hint="Choose another folder.")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise BadInput(f"There are no scores from {low} to {high}.", hint="Give the smallest and the largest score of its training.")
    place = {"correspondence": "{prompt}", "answers": "{question}"}.get(dimension, "")
    if wording is not None and place not in wording:
        raise BadInput(f"The wording {wording!r} has no {place}.", hint=f"Write {place} where it belongs.")


def import_judge(
    source: Path,
    out: Path,
    *,
    dimension: Dimension | Literal["answers"],
    tokenizer: str | None = None,
    wording: str | None = None,
    lead: str | None = None,
    low: float = 0.0,
    high: float = 100.0,
    resize: int | None = 1024,
) -> JudgeSpec:
    """Turn a checkpoint in the InternVLChat layout into a judge of ours, backbone included.

    Args:
        source: Folder with config.json and safetensors, or PyTorch .bin files, and lora_weights.pth where there is one, whose tensors
            take the place of others of their name; PyTorch files are read without running code.
        out: Folder for the judge; its backbone goes to `out`/backbone.
        dimension: What its head scores; or "answers" of a checkpoint that answers questions, whose head is left out.
        tokenizer: Folder or hub id of the tokenizer in transformers format; default: `source`.
        wording: The question it was trained on, {prompt} standing for the prompt, or {question} of one that answers; default: that of the
            authors' inference code, or the question itself.
        lead: How its answers begin, up to the level word; default: as in that code.
        low: Smallest score of its training, for level words.
        high: Largest.
        resize: Width and height to which pictures are brought first, as the authors' code does.

    Raises:
        BadCard: There is no such checkpoint.
        BadInput: It is of an architecture that is not known here, the tokenizer does not fit, `out` holds a judge, or a number or the
            wording makes no sense.
        IntegrityError: A tensor is missing, left over, or of another shape.
    """
    _check_asked(out, dimension, wording, low, high)
    config, weights = _read_config(source), _read_weights(source)
    native = native_config(config)
    with torch.device("meta"):
        backbone = InternVLForConditionalGeneration(native)
    plain, lora, head = convert(weights, native)
    dtype = next(iter(plain.values())).dtype
    backbone.to(dtype)
    _check(set(backbone.state_dict()) - _tied(native), set(plain), source)
    backbone.load_state_dict(plain, strict=False, assign=True)
    backbone.tie_weights()
    words = _tokenizer(tokenizer or str(source), config, native)
    backbone.config.image_token_id = words.convert_tokens_to_ids("<IMG_CONTEXT>")
    backbone.save_pretrained(out / "backbone")
    words.save_pretrained(out / "backbone")
    _image_processor(config, native).save_pretrained(out / "backbone")
    model = JudgeModel(backbone, Reader(words, "", "", list))
    rank = int(config.get("use_llm_lora") or config.get("use_backbone_lora") or 0)
    if bool(rank) != bool(lora):
        there = "none" if rank else "some"
        raise IntegrityError(f"The checkpoint {source} speaks of LoRA of rank {rank}, but there is {there} among its weights.")
    name, heads, tensors = "imported" if lora else "", {}, {}
    if dimension != "answers":
        widths = tuple(len(head[f"layers.{index}.bias"]) for index in range(len(head) // 2 - 1))
        heads[dimension] = HeadSpec(adapter=name, widths=widths, last_relu=True, center=0.0, spread=1.0, low=low, high=high)
        tensors |= {f"heads.{dimension}.{key}": value for key, value in head.items()}
    parts = tuple(part for part in PARTS if any((part == "vision") == ("vision_tower" in layer) for layer, _ in lora))
    prompt_id, (asked, begun) = "judging/answer" if dimension == "answers" else f"judging/{dimension}", _ASKED[dimension]
    spec = JudgeSpec(
        name=f"{source.name}, imported",
        backbone="backbone",
        fingerprint=fingerprint(backbone),
        adapters={name: AdapterSpec(parts=parts, rank=rank, alpha=2 * rank)} if lora else {},  # alpha as the authors' code has it
        resize=resize,
        heads=heads,
        answers=name if dimension == "answers" else None,
        wording={prompt_id: wording or asked},
        leads={} if dimension == "answers" else {prompt_id: begun if lead is None else lead},
        trained={"imported_from": source.name},
    )
    if lora:
        add_adapter(backbone, name, parts=parts, rank=rank, alpha=2 * rank)
    add_heads(model, spec.heads)
    tensors |= {f"adapters.{key}.{letter}.{name}.weight": value for (key, letter), value in lora.items()}
    restore(trained_tensors(model, spec), tensors, spec.name)
    save_judge(out, model, spec)
    return spec


def native_config(config: dict[str, Any]) -> InternVLConfig:
    """The configuration in transformers' layout.

    Raises:
        BadInput: The language model's architecture is not known here.
    """
    vision, text = dict(config["vision_config"]), dict(config["llm_config"])
    architecture = (text.get("architectures") or ["?"])[0]
    if architecture not in _LANGUAGE or config.get("ps_version", "v2") != "v2":
        reason = f"language model {architecture}, ps_version {config.get('ps_version')}"
        raise BadInput(f"A checkpoint with {reason} cannot be imported.", hint=f"Known: {', '.join(_LANGUAGE)}, with ps_version v2.")
    kept = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size", "num_channels", "layer_norm_eps")
    size = config.get("force_image_size") or vision["image_size"]
    values = {name: vision[name] for name in kept if name in vision}
    values |= {"image_size": size, "norm_type": vision.get("norm_type", "layer_norm")}
    values |= {ours: vision[theirs] for theirs, ours in _VISION_FIELDS.items() if theirs in vision}
    fields = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    more = ("rms_norm_eps", "max_position_embeddings", "rope_theta", "hidden_act", "bos_token_id", "eos_token_id", "pad_token_id")
    spoken = {name: text[name] for name in (*fields, *more) if name in text}
    tied = bool(text.get("tie_word_embeddings", False))
    ratio = config.get("downsample_ratio", 0.5)
    # Mean pooling stands for: no norm after the last layer, as in InternViT.
    values |= {"use_absolute_position_embeddings": True, "use_mean_pooling": True}
    return InternVLConfig(
        vision_config=values,
        text_config=spoken | {"model_type": _LANGUAGE[architecture], "tie_word_embeddings": tied},
        downsample_ratio=ratio,
        image_seq_length=int((size // vision["patch_size"]) ** 2 * ratio**2),
        vision_feature_layer=config.get("select_layer", -1),
        tie_word_embeddings=tied,
    )


def convert(
    weights: dict[str, Tensor], config: InternVLConfig
) -> tuple[dict[str, Tensor], dict[tuple[str, str], Tensor], dict[str, Tensor]]:
    """Tensors by transformers' names, LoRA by (layer, "lora_A" or "lora_B"), and the head's layers."""
    plain: dict[str, Tensor] = {}
    lora: dict[tuple[str, str], Tensor] = {}
    head: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        if key.startswith("mlpscore."):
            if match := re.fullmatch(r"mlpscore\.fc(\d+)\.(weight|bias)", key):  # its layer norm is never used
                head[f"layers.{int(match[1]) - 1}.{match[2]}"] = tensor.float()
            continue
        name = key.replace(".base_model.model.", ".", 1).replace(".base_layer.", ".")
        found = re.search(r"\.(lora_[AB])\.\w+\.weight$", name)
        if found is None:
            plain |= _renamed(name, tensor, config, divide=True)
            continue
        name = name[: found.start()] + ".weight"
        divided = _renamed(name, tensor, config, divide=found[1] == "lora_B")
        lora |= {(each.removesuffix(".weight"), found[1]): value for each, value in divided.items()}
    return plain, lora, head


def _renamed(name: str, tensor: Tensor, config: InternVLConfig, *, divide: bool) -> dict[str, Tensor]:
    """A tensor under its name in transformers, or its parts where it is fused; undivided parts are the tensor itself."""
    for pattern, place in ((r"\.attn\.qkv\.", ".attention."), (r"\.attention\.wqkv\.", ".self_attn.")):
        if not re.search(pattern, name):
            continue
        fused = _fused_vision(tensor) if "qkv" in pattern and "wqkv" not in pattern else _fused_language(tensor, config)
        parts = fused if divide else (tensor, tensor.clone(), tensor.clone())
        names = [re.sub(pattern, f"{place}{letter}_proj.", name) for letter in "qkv"]
        return {_rename(each): part.contiguous() for each, part in zip(names, parts, strict=True)}
    return {_rename(name): tensor}


def _rename(name: str) -> str:
    for pattern, new in _RENAMED:
        name = re.sub(pattern, new, name)
    return name


def _fused_vision(tensor: Tensor) -> Iterable[Tensor]:
    return tensor.chunk(3, dim=0)


def _fused_language(tensor: Tensor, config: InternVLConfig) -> Iterable[Tensor]:
    """Rows of queries, keys and values; each key-value head has its queries, its key and its value one after the other."""
    text = config.text_config
    groups = text.num_attention_heads // text.num_key_value_heads
    width = text.hidden_size // text.num_attention_heads
    if tensor.shape[0] != text.num_key_value_heads * (groups + 2) * width:
        return (tensor,) * 3  # LoRA's A, which is not divided
    rows = tensor.reshape(text.num_key_value_heads, groups + 2, width, *tensor.shape[1:])
    return [part.flatten(0, 2) for part in (rows[:, :groups], rows[:, groups : groups + 1], rows[:, groups + 1 :])]


def _tied(config: InternVLConfig) -> set[str]:
    return {"lm_head.weight"} if config.tie_word_embeddings else set()


def _check(wanted: set[str], found: set[str], source: Path) -> None:
    if missing := wanted - found:
        raise IntegrityError(f"The checkpoint {source} lacks {len(missing)} tensors, among them {min(missing)}.")
    if surplus := found - wanted - {"lm_head.weight"}:
        raise IntegrityError(f"The checkpoint {source} has {len(surplus)} tensors that have no place, among them {min(surplus)}.")


def _read_config(source: Path) -> dict[str, Any]:
    try:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadCard(f"There is no checkpoint in {source}: {error}.", hint="Give a folder with config.json and weights.") from error
    if "llm_config" not in config or "vision_config" not in config:
        raise BadCard(f"The checkpoint {source} is not in the InternVLChat layout.", hint="Its config.json must have an llm_config.")
    return config


def _read_weights(source: Path) -> dict[str, Tensor]:
    files = sorted(source.glob("*.safetensors")) or sorted(source.glob("pytorch_model*.bin"))
    files += source.glob("lora_weights.pth")  # the authors' code loads it over the others
    weights: dict[str, Tensor] = {}
    for path in files:
        try:
            weights |= load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
            raise IntegrityError(f"The weights {path} are damaged: {error}.") from error
    if not weights or not any(key.startswith("mlpscore.") for key in weights):
        raise BadCard(f"There is no judge in {source}: its weights have no mlpscore.", hint="Give the folder of a score checkpoint.")
    return weights


def _tokenizer(place: str, config: dict[str, Any], native: InternVLConfig) -> Any:
    """The tokenizer, with the conversation's template that the checkpoint names."""
    words, rows = load_pretrained(AutoTokenizer, place), native.text_config.vocab_size
    if words.convert_tokens_to_ids("<IMG_CONTEXT>") in (None, words.unk_token_id) or len(words) > rows:
        raise BadInput(f"The tokenizer has {len(words)} tokens for {rows} rows, or no <IMG_CONTEXT>.", hint="Give the backbone's own.")
    named = str(config.get("template") or "")
    if named and named not in _TEMPLATES:
        raise BadInput(f"The conversation template {named!r} is not known here.", hint=f"Known: {', '.join(_TEMPLATES)}.")
    words.chat_template = _TEMPLATES.get(named, words.chat_template)
    return words


def _image_processor(config: dict[str, Any], native: InternVLConfig) -> GotOcr2ImageProcessorPil:
    """InternVL's preparation of pictures: tiles of one size, ImageNet's mean and deviation."""
    height, width = native.vision_config.image_size
    return GotOcr2ImageProcessorPil(
        size={"height": height, "width": width},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        crop_to_patches=True,
        min_patches=config.get("min_dynamic_patch", 1),
        max_patches=config.get("max_dynamic_patch", 6),  # the authors' default
    )
