"""Tiny checkpoints of the true architectures, with random weights, written once a session; no network, no torchvision."""

import json
import re

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    BertTokenizer,
    BitImageProcessorPil,
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
    ByT5Tokenizer,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from formulas import spread_evenly

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
IMAGE_TOKENS = 4
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}PICTURE{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


# ---------------------------------------------------------------------------------------------------- text-to-image


def clip_tokenizer() -> CLIPTokenizer:
    """Every byte is a token, so that words are long and limits are reached soon."""
    letters = [*BYTES, *(letter + "</w>" for letter in BYTES), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={letter: index for index, letter in enumerate(letters)}, merges=[], model_max_length=77)


def clip_text_config(tokenizer: CLIPTokenizer, **changes) -> CLIPTextConfig:
    values = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "projection_dim": 16,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CLIPTextConfig(**values | changes)


def vivid(model, factor: float = 4.0):
    """Wake a model with random weights up: what words and adapters do must be seen in eight bits."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "attn2" in name or "token_embedding" in name or name.startswith(("conv_out", "decoder.conv_out")):
                parameter *= factor
    return model.eval()


def tiny_vae(channels: int = 4) -> AutoencoderKL:
    torch.manual_seed(1)
    return vivid(
        AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=channels,
            norm_num_groups=4,
            sample_size=64,
        )
    )


def tiny_unet(**changes) -> UNet2DConditionModel:
    values = {
        "sample_size": 8,
        "block_out_channels": (8, 8, 16, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return vivid(UNet2DConditionModel(**values | changes))


@pytest.fixture(scope="session")
def sd15_folder(tmp_path_factory):
    """A Stable Diffusion 1.5 pipeline folder: four levels, CLIP text encoder, the scheduler that SD 1.5 comes with."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    pipeline = StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=vivid(CLIPTextModel(clip_text_config(tokenizer))),
        tokenizer=tokenizer,
        unet=tiny_unet(),
        scheduler=PNDMScheduler(**NOISE, skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("sd15")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory):
    """A Stable Diffusion XL pipeline folder: three levels, two text encoders, size conditioning."""
    torch.manual_seed(2)
    tokenizer = clip_tokenizer()
    config = clip_text_config(tokenizer)
    pipeline = StableDiffusionXLPipeline(
        vae=tiny_vae(),
        text_encoder=vivid(CLIPTextModel(config)),
        text_encoder_2=vivid(CLIPTextModelWithProjection(config)),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=tiny_unet(
            block_out_channels=(8, 8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 1, 2),
            cross_attention_dim=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16 + 6 * 8,
            use_linear_projection=True,
        ),
        scheduler=EulerDiscreteScheduler(**NOISE, timestep_spacing="leading", steps_offset=1),
        add_watermarker=False,
    )
    folder = tmp_path_factory.mktemp("sdxl")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sd3_folder(tmp_path_factory):
    """A Stable Diffusion 3 pipeline folder, the flow-matching family: three text encoders, the third a T5 that reads bytes."""
    torch.manual_seed(3)
    tokenizer = clip_tokenizer()
    config = clip_text_config(tokenizer)
    pipeline = StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=32,
            caption_projection_dim=32,
            pooled_projection_dim=32,
            pos_embed_max_size=16,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderKL.from_config(tiny_vae().config, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06),
        text_encoder=CLIPTextModelWithProjection(config),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(config),
        tokenizer_2=tokenizer,
        text_encoder_3=T5EncoderModel(T5Config(vocab_size=384, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)),
        tokenizer_3=ByT5Tokenizer(model_max_length=77),
    )
    folder = tmp_path_factory.mktemp("sd3")
    pipeline.save_pretrained(folder)
    return folder


def ldm_resnet(key: str) -> str:
    names = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "time_emb_proj": "emb_layers.1",
        "conv_shortcut": "skip_connection",
    }
    return re.sub("|".join(names), lambda match: names[match[0]], key)


def ldm_unet_key(key: str, layers: int) -> str:
    """The name that CompVis' UNet gives to a tensor of diffusers' one."""
    simple = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    for name, ldm in simple.items():
        if key.startswith(name + "."):
            return ldm + key.removeprefix(name)
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", key):
        index = 2 * int(found[2]) + (found[1] == "attentions")
        return f"middle_block.{index}.{ldm_resnet(found[3]) if found[1] == 'resnets' else found[3]}"
    side, block, kind, layer, rest = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", key).groups()
    block, layer = int(block), int(layer)
    if side == "down":
        first = 1 + block * (layers + 1)
        if kind == "downsamplers":
            return f"input_blocks.{first + layers}.0.op.{rest.removeprefix('conv.')}"
        return f"input_blocks.{first + layer}." + (f"0.{ldm_resnet(rest)}" if kind == "resnets" else f"1.{rest}")
    first = block * (layers + 1)
    if kind == "upsamplers":  # after the attention where the block has one
        return f"output_blocks.{first + layers}.{1 if block == 0 else 2}.{rest}"
    return f"output_blocks.{first + layer}." + (f"0.{ldm_resnet(rest)}" if kind == "resnets" else f"1.{rest}")


def ldm_vae_key(key: str, blocks: int) -> str:
    """The name that CompVis' autoencoder gives to a tensor of diffusers' one."""
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", key)
    if "mid_block.attentions.0" in key:
        key = key.replace("mid_block.attentions.0", "mid.attn_1")
        for name, ldm in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            key = key.replace(name, ldm)
    key = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d)\.resnets", lambda match: f"up.{blocks - 1 - int(match[1])}.block", key)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda match: f"up.{blocks - 1 - int(match[1])}.upsample", key)


@pytest.fixture(scope="session")
def sd15_file(sd15_folder, tmp_path_factory):
    """The same weights as one file in the layout of CompVis' latent diffusion, as model sites share them."""
    pipeline = StableDiffusionPipeline.from_pretrained(sd15_folder)
    layers = pipeline.unet.config.layers_per_block
    tensors = {f"model.diffusion_model.{ldm_unet_key(key, layers)}": value for key, value in pipeline.unet.state_dict().items()}
    for key, value in pipeline.vae.state_dict().items():
        name = ldm_vae_key(key, len(pipeline.vae.config.block_out_channels))
        # CompVis' attention projects with 1x1 convolutions.
        is_projection = re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name)
        tensors[f"first_stage_model.{name}"] = value[:, :, None, None] if is_projection else value
    for key, value in pipeline.text_encoder.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"] = value
    path = tmp_path_factory.mktemp("single") / "tiny-sd15.safetensors"
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)
    return path


@pytest.fixture(scope="session")
def write_lora(sd15_folder):
    """Writes a LoRA for the tiny SD 1.5 in diffusers' format: `write(path, seed=…, text=…)`."""

    def adapted(model, targets: list[str], seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        model.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False))
        return {key: value * 3 for key, value in get_peft_model_state_dict(model).items()}

    def write(path, *, seed: int = 0, text: bool = False):
        path.parent.mkdir(parents=True, exist_ok=True)
        unet = adapted(tiny_unet(), ["to_q", "to_k", "to_v", "to_out.0"], seed)
        tensors = {f"unet.{key}": value for key, value in unet.items()}
        if text:
            encoder = adapted(CLIPTextModel(clip_text_config(clip_tokenizer())), ["q_proj", "v_proj"], seed)
            tensors |= {f"text_encoder.{key}": value for key, value in encoder.items()}
        StableDiffusionPipeline.write_lora_layers(
            tensors,
            save_directory=str(path.parent),
            is_main_process=True,
            weight_name=path.name,
            save_function=None,
            safe_serialization=True,
        )
        return path

    return write


# ------------------------------------------------------------------------------------------ multimodal language models


def qwen_tokenizer(**special: str) -> Qwen2Tokenizer:
    vocabulary = {letter: index for index, letter in enumerate(BYTES)}
    merges = [("y", "e"), ("ye", "s"), ("n", "o")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=merges, model_max_length=2048, extra_special_tokens=special)
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    tokenizer.add_tokens([AddedToken("<|im_start|>", special=True)], special_tokens=True)
    return tokenizer


def text_config(kind: str, tokenizer: Qwen2Tokenizer, **changes) -> dict:
    return {
        "model_type": kind,
        "vocab_size": len(tokenizer) + 5,  # as true checkpoints have it: more rows than there are tokens
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.2,
        **changes,
    }


def save_mllm(model, tokenizer: Qwen2Tokenizer, pixels, folder, picture: str):
    """Write the checkpoint; its head is made to say letters, and by a clear margin."""
    letters = tokenizer.convert_tokens_to_ids([*"abcdefghijklmnopqrstuvwxyz", "yes", "no"])
    with torch.no_grad():
        model.lm_head.weight[letters] *= 3
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.eval().save_pretrained(folder)
    tokenizer.chat_template = CHATML.replace("PICTURE", picture)
    tokenizer.save_pretrained(folder)
    pixels.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def internvl_folder(tmp_path_factory):
    torch.manual_seed(4)
    tokenizer = qwen_tokenizer(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>"
    )
    vision = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": [32, 32],
        "patch_size": [8, 8],
    }
    config = InternVLConfig(
        vision_config=vision,
        text_config=text_config("qwen2", tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=IMAGE_TOKENS,
        downsample_ratio=0.5,
    )
    pixels = GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, crop_to_patches=False, max_patches=1)
    folder = tmp_path_factory.mktemp("internvl")
    save_mllm(InternVLForConditionalGeneration(config), tokenizer, pixels, folder, "<IMG_CONTEXT>\n")
    # transformers cannot make an InternVLProcessor without torchvision, so its configuration is written by hand.
    (folder / "processor_config.json").write_text(
        json.dumps({"processor_class": "InternVLProcessor", "image_seq_length": IMAGE_TOKENS}), encoding="utf-8"
    )
    return folder


def save_qwen_vl(folder, kind, config, tokenizer: Qwen2Tokenizer):
    pixels = Qwen2VLImageProcessorPil(min_pixels=16 * 16, max_pixels=64 * 64, patch_size=8, merge_size=2)
    return save_mllm(kind(config), tokenizer, pixels, folder, "<|vision_start|><|image_pad|><|vision_end|>")


QWEN_SPECIAL = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "start": "<|vision_start|>", "end": "<|vision_end|>"}


def qwen_ids(tokenizer: Qwen2Tokenizer) -> dict[str, int]:
    names = {"image": "image_token", "video": "video_token", "vision_start": "start", "vision_end": "end"}
    return {f"{name}_token_id": tokenizer.convert_tokens_to_ids(QWEN_SPECIAL[key]) for name, key in names.items()}


@pytest.fixture(scope="session")
def qwen25_vl_folder(tmp_path_factory):
    torch.manual_seed(5)
    tokenizer = qwen_tokenizer(**QWEN_SPECIAL)
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 8,
        "spatial_merge_size": 2,
        "window_size": 32,
        "fullatt_block_indexes": [1],
    }
    rope = {"rope_type": "default", "type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = Qwen2_5_VLConfig(
        vision_config=vision, text_config=text_config("qwen2_5_vl_text", tokenizer, rope_parameters=rope), **qwen_ids(tokenizer)
    )
    return save_qwen_vl(tmp_path_factory.mktemp("qwen25vl"), Qwen2_5_VLForConditionalGeneration, config, tokenizer)


@pytest.fixture(scope="session")
def qwen2_vl_folder(tmp_path_factory):
    torch.manual_seed(6)
    tokenizer = qwen_tokenizer(**QWEN_SPECIAL)
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8, "spatial_merge_size": 2}
    rope = {"rope_type": "default", "type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = Qwen2VLConfig(
        vision_config=vision, text_config=text_config("qwen2_vl_text", tokenizer, rope_parameters=rope), **qwen_ids(tokenizer)
    )
    return save_qwen_vl(tmp_path_factory.mktemp("qwen2vl"), Qwen2VLForConditionalGeneration, config, tokenizer)


# ---------------------------------------------------------------------------------------------------------- encoders


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    torch.manual_seed(7)
    tokenizer = clip_tokenizer()
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "projection_dim": 24,
    }
    text = clip_text_config(tokenizer, projection_dim=24, max_position_embeddings=20)
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision, projection_dim=24)).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dinov2_folder(tmp_path_factory):
    torch.manual_seed(8)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=28, patch_size=7)
    folder = tmp_path_factory.mktemp("dinov2")
    Dinov2Model(config).eval().save_pretrained(folder)
    BitImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder


# ----------------------------------------------------------------------------------------------------------- scorers


def by_formula(model, spread: float = 0.25):
    """Give a model weights that are the same with every version of torch; those of norms are near 1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            numbers = torch.from_numpy(spread_evenly(name, tuple(parameter.shape), spread))
            parameter.copy_(numbers + 1 if "norm" in name.lower() and name.endswith("weight") else numbers)
    return model.eval()


def image_reward_parts():
    """The parts of a tiny ImageReward: encoders of transformers, and weight and bias of the layers at the end by their places."""
    vision = BlipVisionConfig(
        hidden_size=128,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        layer_norm_eps=1e-6,
    )
    text = BlipTextConfig(
        vocab_size=20,
        hidden_size=64,
        encoder_hidden_size=128,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=1,
        max_position_embeddings=40,
    )
    sizes = {0: (24, 64), 2: (16, 24), 4: (8, 16), 6: (4, 8), 7: (1, 4)}  # dropout takes places 1, 3 and 5
    layers = {
        place: tuple(torch.from_numpy(spread_evenly(f"{part} {place}", shape, 0.4)) for part, shape in (("w", size), ("b", size[:1])))
        for place, size in sizes.items()
    }
    return by_formula(BlipVisionModel(vision)), by_formula(BlipTextModel(text, add_pooling_layer=False)), layers


def image_reward_tensors() -> dict[str, torch.Tensor]:
    """The state dict of a tiny ImageReward with the names that `ImageReward.pt` has."""
    vision, text, layers = image_reward_parts()
    found = {}
    for name, tensor in vision.state_dict().items():
        for new, old in (
            ("embeddings.class_embedding", "cls_token"),
            ("embeddings.position_embedding", "pos_embed"),
            ("embeddings.patch_embedding.", "patch_embed.proj."),
            ("post_layernorm.", "norm."),
            ("encoder.layers.", "blocks."),
            (".self_attn.projection.", ".attn.proj."),
            (".self_attn.", ".attn."),
            (".layer_norm", ".norm"),
        ):
            name = name.replace(new, old)
        found[f"blip.visual_encoder.{name}"] = tensor
    found |= {f"blip.text_encoder.{name}": tensor for name, tensor in text.state_dict().items()}
    found["blip.text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
    found |= {"blip.vision_proj.weight": torch.ones(8, 128), "blip.text_proj.weight": torch.ones(8, 64)}  # of training, not used
    for place, (weight, bias) in layers.items():
        found |= {f"mlp.layers.{place}.weight": weight, f"mlp.layers.{place}.bias": bias}
    return found


@pytest.fixture(scope="session")
def image_reward_files(tmp_path_factory):
    """A tiny ImageReward.pt, and the folder of its tokenizer."""
    folder = tmp_path_factory.mktemp("imagereward")
    torch.save(image_reward_tensors(), folder / "ImageReward.pt")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "two", "dogs", "at", "sea", "red"]
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder / "tokenizer")
    return folder / "ImageReward.pt", folder / "tokenizer"


# fmt: off
FLANT5_WORDS = [
    "<pad>", "</s>", "<unk>", "Yes", "No", "A", "cat", "a", "two", "dogs", "at", "sea", "red", "show", "figure", "USER", "ASSISTANT",
    "Does", "this", "answer", "or", "no", ":", ".", ",", "?", '"', "'",
]
# fmt: on
FLANT5 = {
    "vocab_size": len(FLANT5_WORDS) + 5,  # as true checkpoints have it: more rows than there are tokens
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def flant5() -> T5ForConditionalGeneration:
    """A tiny FlanT5: its output layer has weights of its own."""
    model = T5ForConditionalGeneration(T5Config(**FLANT5))
    model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
    return by_formula(model, 0.8)


def clip_flant5_tensors() -> dict[str, torch.Tensor]:
    """Of a tiny CLIP-FlanT5: those of FlanT5, and the two layers that take CLIP's patches to it."""
    tensors = {name: tensor for name, tensor in flant5().state_dict().items() if "embed_tokens" not in name}
    for place, shape in {0: (16, 32), 2: (16, 16)}.items():
        tensors[f"mm_projector.{place}.weight"] = torch.from_numpy(spread_evenly(f"w{place}", shape, 0.6))
        tensors[f"mm_projector.{place}.bias"] = torch.from_numpy(spread_evenly(f"b{place}", shape[:1], 0.6))
    return tensors


@pytest.fixture(scope="session")
def clip_flant5_folder(tmp_path_factory):
    """A tiny CLIP-FlanT5 in the folder model, with its tokenizer and CLIP in tokenizer and vision beside it."""
    folder = tmp_path_factory.mktemp("clipflant5")
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(FLANT5_WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    ).save_pretrained(folder / "tokenizer")
    vision = CLIPVisionConfig(hidden_size=32, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8)
    by_formula(CLIPVisionModel(vision)).save_pretrained(folder / "vision")
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder / "vision")
    (folder / "model").mkdir()
    told = FLANT5 | {
        "model_type": "clip_t5",
        "architectures": ["CLIPT5ForConditionalGeneration"],
        "mm_hidden_size": 32,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.31.0",
    }
    (folder / "model" / "config.json").write_text(json.dumps(told), encoding="utf-8")
    save_file(clip_flant5_tensors(), folder / "model" / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def niqe_file(tmp_path_factory):
    """A model of what is natural in Matlab's format, with the names of the authors."""
    from scipy.io import savemat

    root = spread_evenly("root", (36, 36)).astype(float)
    path = tmp_path_factory.mktemp("niqe") / "modelparameters.mat"
    savemat(path, {"mu_prisparam": spread_evenly("mean", (1, 36)).astype(float), "cov_prisparam": root @ root.T / 36})
    return path


def write_brisque(folder, vectors, weights, gamma: float, rho: float, low, high):
    """A regression and the ranges of its features as libsvm and its svm-scale write them: zeros are left out."""
    head = f"svm_type epsilon_svr\nkernel_type rbf\ngamma {gamma!r}\nnr_class 2\ntotal_sv {len(vectors)}\nrho {rho!r}\nSV\n"
    rows = []
    for weight, vector in zip(weights, vectors, strict=True):
        pairs = " ".join(f"{number}:{float(value)!r}" for number, value in enumerate(vector, start=1) if value)
        rows.append(f"{float(weight)!r} {pairs} \n")
    (folder / "allmodel").write_text(head + "".join(rows), encoding="utf-8")
    bounds = [f"{number} {float(a)!r} {float(b)!r}\n" for number, (a, b) in enumerate(zip(low, high, strict=True), start=1)]
    (folder / "allrange").write_text("x\n-1 1\n" + "".join(bounds), encoding="utf-8")
    return folder / "allmodel", folder / "allrange"


BRISQUE = {
    "vectors": spread_evenly("pictures", (12, 36)).astype(float) * 1.2,
    # Of scikit-learn 1.9.1: dual_coef_ and -intercept_ of SVR(kernel="rbf", gamma=0.03, C=60, epsilon=3, tol=1e-8), which was fit to
    # these vectors and to 50 + 40 * spread_evenly("opinions", (12,)); it takes all of them for support vectors, in this order.
    "weights": [
        *(-20.2922592191, 6.78273484425, -2.67806569809, 8.79224084502, -45.8549192525, -21.157324609),
        *(60.0, 38.2265875691, -24.0277070711, -11.4224459217, 34.040337256, -22.4091787429),
    ],
    "gamma": 0.03,
    "rho": -41.1244141421857,
    "low": -0.4 + 0.3 * spread_evenly("low", (36,)).astype(float),
    "high": -0.4 + 0.3 * spread_evenly("low", (36,)).astype(float) + np.where(np.arange(36) % 18, 1.5, 8),
}


@pytest.fixture(scope="session")
def brisque_files(tmp_path_factory):
    """A small regression and its ranges."""
    return write_brisque(tmp_path_factory.mktemp("brisque"), **BRISQUE)


# ----------------------------------------------------------------------------------------------------------- pictures


@pytest.fixture(scope="session")
def noise_picture():
    """Makes a picture of noise: `picture(seed, (width, height))`."""
    import numpy as np
    from PIL import Image

    def picture(seed: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST)

    return picture


# ------------------------------------------------------------------------------------------------------------ judges


@pytest.fixture(scope="session")
def tiny_judge(request, tmp_path_factory):
    """Trained judges by backbone, with adapters and heads of random weights."""
    from vernissage.judging.nn.checkpoint import save_judge
    from vernissage.judging.nn.judge import TrainedJudge
    from vernissage.judging.nn.model import add_heads, load_backbone
    from vernissage.judging.spec import HeadSpec, JudgeSpec
    from vernissage.local.adapter_spec import AdapterSpec
    from vernissage.local.adapters import adapter_tensors, add_adapter
    from vernissage.local.pretrained import fingerprint

    made: dict[tuple[str, str], TrainedJudge] = {}

    def get(kind: str, adapters: str = "shared") -> TrainedJudge:
        if (kind, adapters) in made:
            return made[kind, adapters]
        folder = tmp_path_factory.mktemp("judge")
        model = load_backbone(str(request.getfixturevalue(f"{kind}_folder")), device=torch.device("cpu"))
        names = ["shared"] * 3 if adapters == "shared" else ["perception", "correspondence", "answers"]
        head = {"widths": (6,), "center": 50.0, "spread": 12.0, "low": 10.0, "high": 90.0}
        spec = JudgeSpec(
            name=f"tiny {kind} {adapters}",
            backbone=str(request.getfixturevalue(f"{kind}_folder")),
            fingerprint=fingerprint(model.backbone),
            brief=True,
            adapters={name: AdapterSpec(parts=("vision", "language"), rank=2, alpha=4) for name in names},
            heads={"perception": HeadSpec(adapter=names[0], **head), "correspondence": HeadSpec(adapter=names[1], **head)},
            answers=names[2],
        )
        torch.manual_seed(3)
        for name, adapter in spec.adapters.items():
            add_adapter(model.backbone, name, parts=adapter.parts, rank=adapter.rank, alpha=adapter.alpha)
        add_heads(model, spec.heads)
        with torch.no_grad():
            for tensor in adapter_tensors(model.backbone).values():
                tensor.normal_(0, 0.3)
        save_judge(folder, model, spec)
        made[kind, adapters] = TrainedJudge(str(folder), device="cpu", batch_size=3)
        return made[kind, adapters]

    return get
