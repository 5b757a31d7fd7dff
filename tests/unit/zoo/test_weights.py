"""Telling what a file or folder with weights is, from its header alone."""

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vernissage.errors import BadInput
from vernissage.zoo.weights import Weights, inspect_weights, tensor_names

SD1 = ["model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.transformer.text_model.embeddings.position_ids"]
SD2 = ["model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.model.transformer.resblocks.0.ln_1.weight"]
SDXL = ["model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.1.model.ln_final.weight"]
SD3 = ["model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight", "text_encoders.clip_l.logit_scale"]
FLUX = ["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"]
FLUX_BARE = ["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight"]


def write(path: Path, names: list[str], *, metadata: dict[str, str] | None = None) -> Path:
    """A true safetensors file of tensors with two float32 numbers each."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    header |= {name: {"dtype": "F32", "shape": [2], "data_offsets": [8 * i, 8 * i + 8]} for i, name in enumerate(names)}
    data = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(data)) + data + bytes(8 * len(names)))
    return path


def folder(path: Path, index: object, **configs: object) -> Path:
    path.mkdir()
    (path / "model_index.json").write_text(index if isinstance(index, str) else json.dumps(index), encoding="utf-8")
    for part, config in configs.items():
        (path / part).mkdir()
        (path / part / "config.json").write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("names", "pipeline", "size", "family"),
    [
        (SD1, "StableDiffusionPipeline", 512, "SD 1"),
        (SD2, "StableDiffusionPipeline", 768, "SD 2"),
        (SDXL, "StableDiffusionXLPipeline", 1024, "SDXL"),
        (SD3, "StableDiffusion3Pipeline", 1024, "SD 3"),
        (FLUX, "FluxPipeline", 1024, "FLUX"),
        (FLUX_BARE, "FluxPipeline", 1024, "FLUX"),
    ],
    ids=["sd1", "sd2", "sdxl", "sd3", "flux", "flux-bare"],
)
def test_a_checkpoint_is_told_by_the_names_of_its_tensors(tmp_path, names, pipeline, size, family):
    path = write(tmp_path / "model.safetensors", names, metadata={"format": "pt"})
    assert inspect_weights(path) == Weights("checkpoint", pipeline, size, family)


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"], ""),
        (["unet.down_blocks.0.attentions.0.to_k.lora_A.weight"], ""),
        (["unet.down_blocks.0.attentions.0.to_k.lora.down.weight"], ""),
        (["lora_unet_input_blocks_4_1_proj_in.alpha", "lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha"], "SDXL"),
        (["text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_A.weight"], "SDXL"),
        (["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"], ""),
        (["base_model.model.double_blocks.0.img_attn.qkv.lora_A.weight"], ""),
    ],
)
def test_an_adapter_is_told_from_a_checkpoint(tmp_path, names, family):
    assert inspect_weights(write(tmp_path / "ink.safetensors", names)) == Weights("lora", "", 0, family)


def test_a_file_of_an_unknown_kind_is_refused_with_a_way_out(tmp_path):
    path = write(tmp_path / "vae.safetensors", ["decoder.conv_in.weight"], metadata={"lora_": "not a tensor"})
    with pytest.raises(BadInput, match="known family") as caught:
        inspect_weights(path)
    assert "card" in caught.value.hint
    assert tensor_names(path) == ["decoder.conv_in.weight"]


@pytest.mark.parametrize("keep", [0, 4, 8, 20, -1])
def test_a_file_that_is_cut_off_is_refused_by_name(tmp_path, keep):
    path = write(tmp_path / "model.safetensors", SD1)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match=r"model\.safetensors is damaged") as caught:
        inspect_weights(path)
    assert caught.value.hint


@pytest.mark.parametrize(
    "header",
    [b"[]", b"[1, 2]", b"5", b"null", b'"lora_"', b"{", b"\xff\xff", b"[" * 100_000, b'{"a": 1}', b'{"a": {"data_offsets": "x"}}']
    + [b'{"a": {"data_offsets": [0]}}', b'{"a": {"data_offsets": [0, null]}}', b'{"a": {}}'],
    ids=lambda header: header[:20].decode(errors="replace"),
)
def test_a_header_that_is_none_is_refused(tmp_path, header):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(BadInput, match="damaged or no safetensors file"):
        inspect_weights(path)


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(BadInput, match="damaged"):
        inspect_weights(path)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin", "model", "model.safetensors.pt"])
def test_a_pickle_is_refused_without_being_opened(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x80\x04cposix\nsystem\n.")
    with pytest.raises(BadInput, match="not a safetensors file") as caught:
        inspect_weights(path)
    assert "Convert" in caught.value.hint


def test_nothing_at_all_is_said_so(tmp_path):
    with pytest.raises(BadInput, match="There is nothing at") as caught:
        inspect_weights(tmp_path / "none.safetensors")
    assert "hub id" in caught.value.hint


def test_a_pipeline_folder_is_told_by_its_index_and_its_size_by_its_parts(tmp_path):
    vae = {"block_out_channels": [128, 256, 512, 512]}
    sdxl = folder(tmp_path / "sdxl", {"_class_name": "StableDiffusionXLPipeline"}, unet={"sample_size": 128}, vae=vae)
    assert inspect_weights(sdxl) == Weights("folder", "StableDiffusionXLPipeline", 1024, "")
    tiny = folder(tmp_path / "tiny", {"_class_name": "X"}, unet={"sample_size": [32, 32]}, vae={"block_out_channels": [8, 8, 8]})
    assert inspect_weights(tiny) == Weights("folder", "X", 128, "")
    sd1 = folder(tmp_path / "sd1", {"_class_name": "StableDiffusionPipeline"}, unet={})
    assert inspect_weights(sd1) == Weights("folder", "StableDiffusionPipeline", 512, "")


def test_a_transformer_that_does_not_state_its_size_paints_at_the_size_of_flux(tmp_path):
    vae = {"block_out_channels": [128, 256, 512, 512]}
    path = folder(tmp_path / "flux", {"_class_name": "FluxPipeline"}, transformer={"patch_size": 1}, vae=vae)
    assert inspect_weights(path) == Weights("folder", "FluxPipeline", 1024, "")


def test_a_folder_without_an_index_is_refused(tmp_path):
    (tmp_path / "unet").mkdir()
    with pytest.raises(BadInput, match=r"model_index\.json"):
        inspect_weights(tmp_path)


@pytest.mark.parametrize("index", ["", "{", "[]", "null", "[" * 100_000])
def test_a_folder_with_a_broken_index_is_refused_by_name(tmp_path, index):
    path = folder(tmp_path / "broken", index)
    with pytest.raises(BadInput, match=r"model_index\.json"):
        inspect_weights(path)


@pytest.mark.parametrize("config", [{}, {"sample_size": None}, {"sample_size": []}, {"sample_size": 0}])
def test_a_part_that_leaves_its_size_open_is_painted_at_the_usual_one(tmp_path, config):
    path = folder(tmp_path / "odd", {"_class_name": None}, unet=config, vae={"block_out_channels": None})
    assert inspect_weights(path) == Weights("folder", "", 512, "")


@pytest.mark.parametrize(
    "config", ["", "[]", {"sample_size": "big"}, {"sample_size": -5}, {"sample_size": ["x"]}, {"sample_size": {"": 1}}]
)
def test_a_part_with_a_size_that_is_none_is_refused_by_name(tmp_path, config):
    path = folder(tmp_path / "odd", {"_class_name": "X"}, unet=config)
    with pytest.raises(BadInput, match=r"config\.json") as caught:
        inspect_weights(path)
    assert caught.value.hint


@settings(max_examples=100, deadline=None, database=None)
@given(content=st.binary(max_size=60) | st.binary(max_size=40).map(lambda data: struct.pack("<Q", len(data)) + data))
def test_whatever_bytes_a_file_has_it_is_told_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        inspect_weights(path)
