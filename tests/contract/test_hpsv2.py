"""HPSv2 from a file in open_clip's naming: numbers against transformers, padding by hand, faults."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPConfig, CLIPModel

from vernissage.drivers.score_hpsv2 import HpsScorer
from vernissage.errors import DriverError
from vernissage.records.verdict import Score
from vernissage.wiring import DriverConfig, load_driver

PROMPTS = ["a cat", "two dogs at sea", "red"]
MEAN, STD = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])


@pytest.fixture(scope="module")
def model(clip_folder):
    torch.manual_seed(3)
    words = len(AutoTokenizer.from_pretrained(clip_folder))
    small = {"intermediate_size": 48, "num_hidden_layers": 2, "hidden_act": "gelu"}
    config = CLIPConfig(
        text_config=small
        | {"hidden_size": 64, "num_attention_heads": 1, "vocab_size": words, "max_position_embeddings": 12, "eos_token_id": words - 1},
        vision_config=small | {"hidden_size": 128, "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model


def as_open_clip(model: CLIPModel) -> dict[str, torch.Tensor]:
    """The weights by open_clip's names: projections turned, the three of attention in one."""
    state = {name: tensor for name, tensor in model.state_dict().items() if "position_ids" not in name}
    found: dict[str, torch.Tensor] = {"logit_scale": state["logit_scale"]}
    found["visual.proj"] = state["visual_projection.weight"].T.contiguous()
    found["text_projection"] = state["text_projection.weight"].T.contiguous()
    plain = {
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
    }
    found |= {new: state[old] for old, new in plain.items()}
    for part in ("weight", "bias"):
        found[f"visual.ln_pre.{part}"] = state[f"vision_model.pre_layrnorm.{part}"]
        found[f"visual.ln_post.{part}"] = state[f"vision_model.post_layernorm.{part}"]
        found[f"ln_final.{part}"] = state[f"text_model.final_layer_norm.{part}"]
    for tower, prefix in (("vision_model", "visual."), ("text_model", "")):
        for number in range(2):
            old, new = f"{tower}.encoder.layers.{number}.", f"{prefix}transformer.resblocks.{number}."
            for part in ("weight", "bias"):
                found[f"{new}attn.in_proj_{part}"] = torch.cat([state[f"{old}self_attn.{letter}_proj.{part}"] for letter in "qkv"])
                found[f"{new}attn.out_proj.{part}"] = state[f"{old}self_attn.out_proj.{part}"]
                found[f"{new}ln_1.{part}"], found[f"{new}ln_2.{part}"] = (state[f"{old}layer_norm{n}.{part}"] for n in (1, 2))
                found[f"{new}mlp.c_fc.{part}"], found[f"{new}mlp.c_proj.{part}"] = (state[f"{old}mlp.fc{n}.{part}"] for n in (1, 2))
    assert sum(tensor.numel() for tensor in found.values()) == sum(tensor.numel() for tensor in state.values())
    return found


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("hps") / "HPS_v2.1_compressed.pt"
    torch.save({"state_dict": as_open_clip(model)}, path)
    return path


@torch.no_grad()
def expected(model: CLIPModel, folder, pixels: torch.Tensor) -> list[float]:
    limit = model.config.text_config.max_position_embeddings
    tokens = AutoTokenizer.from_pretrained(folder)(PROMPTS, padding="max_length", truncation=True, max_length=limit, return_tensors="pt")
    out = model(pixel_values=pixels, **tokens)
    return F.cosine_similarity(out.image_embeds, out.text_embeds).tolist()


def values(found) -> list[float]:
    assert all(isinstance(score, Score) for score in found), found
    return [score.value for score in found]


def test_hpsv2_is_the_cosine_of_the_same_model_in_transformers(model, checkpoint, clip_folder, noise_picture):
    pictures = [noise_picture(seed, (32, 32)) for seed in range(3)]
    pixels = torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255 for picture in pictures])
    pixels = (pixels - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    scorer = HpsScorer(str(checkpoint), tokenizer=str(clip_folder), device="cpu", batch_size=2)
    assert values(scorer.score(pictures, PROMPTS, [None] * 3)) == pytest.approx(expected(model, clip_folder, pixels), abs=1e-5)


def test_a_picture_that_is_no_square_is_scaled_whole_and_padded_with_black(model, checkpoint, clip_folder):
    wide = Image.new("RGB", (64, 32), "white")
    square = Image.new("RGB", (32, 32), "black")
    square.paste("white", (0, 8, 32, 24))
    scorer = HpsScorer(str(checkpoint), tokenizer=str(clip_folder), device="cpu")
    one, two = values(scorer.score([wide, square], ["a cat", "a cat"], [None] * 2))
    assert one == pytest.approx(two, abs=1e-4)
    (other,) = values(scorer.score([Image.new("RGB", (32, 32), "white")], ["a cat"], [None]))
    assert abs(one - other) > 1e-3


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("a \N{LEFT DOUBLE QUOTATION MARK}cat\N{RIGHT DOUBLE QUOTATION MARK}", 'a "cat"'),
        ("a &amp;amp; b", "a & b"),
        ("\uff43\uff41\uff54", "cat"),
    ],
)
def test_prompts_are_cleaned_as_the_authors_clean_them(checkpoint, clip_folder, noise_picture, written, plain):
    scorer = HpsScorer(str(checkpoint), tokenizer=str(clip_folder), device="cpu")
    one, two, other = values(scorer.score([noise_picture(1)] * 3, [written, plain, "a dog"], [None] * 3))
    assert one == two != other


@pytest.mark.parametrize("size", [(1, 1), (400, 2), (3, 90)])
def test_pictures_of_any_size_and_mode_are_scored(checkpoint, clip_folder, size):
    scorer = HpsScorer(str(checkpoint), tokenizer=str(clip_folder), device="cpu")
    found = scorer.score([Image.new(mode, size) for mode in ("L", "RGBA", "P", "RGB")], [None, "", "x" * 5000, "日本の猫"], [None] * 4)
    assert len(values(found)) == 4


def test_a_safetensors_file_gives_the_same(model, checkpoint, clip_folder, noise_picture, tmp_path):
    save_file(as_open_clip(model), tmp_path / "hps.safetensors")
    config = DriverConfig(driver="hpsv2", model=str(tmp_path / "hps.safetensors"), tokenizer=str(clip_folder), device="cpu")
    first = HpsScorer(str(checkpoint), tokenizer=str(clip_folder), device="cpu")
    pictures = [noise_picture(7, (40, 30))]
    assert load_driver("scorer", config).score(pictures, ["a cat"], [None]) == first.score(pictures, ["a cat"], [None])


@pytest.mark.parametrize("fault", ["missing", "cut", "text", "other", "narrow"])
def test_a_file_that_holds_no_hpsv2_is_refused(model, checkpoint, clip_folder, tmp_path, fault):
    path = tmp_path / "hps.pt"
    if fault == "cut":
        path.write_bytes(checkpoint.read_bytes()[:3000])
    elif fault == "text":
        path.write_text("nothing", encoding="utf-8")
    elif fault == "other":
        torch.save({"state_dict": {"a": torch.zeros(2)}}, path)
    elif fault == "narrow":
        tensors = as_open_clip(model)
        torch.save({name: tensor[..., :-1] if re.search("ln_post", name) else tensor for name, tensor in tensors.items()}, path)
    with pytest.raises(DriverError, match="HPSv2"):
        HpsScorer(str(path), tokenizer=str(clip_folder), device="cpu")
