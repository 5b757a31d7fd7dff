"""A judge in the InternVLChat layout, written here with the authors' names and shapes, is read tensor by tensor."""

import json
from itertools import pairwise

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, InternVLForConditionalGeneration

from vernissage.errors import BadCard, BadInput, IntegrityError
from vernissage.judging.nn.internvl_chat import import_judge
from vernissage.judging.nn.judge import TrainedJudge
from vernissage.judging.nn.model import question
from vernissage.judging.spec import WEIGHTS, read_spec

WIDTH, HEADS, KV, LAYERS, RANK = 32, 4, 2, 2, 3
HEAD_WIDTH, GROUPS = WIDTH // HEADS, HEADS // KV
VISION, TILE, PATCH = 16, 32, 8
MLP = [WIDTH, 12, 6, 5, 4, 1]


def config(tokens):
    return {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoModel": "modeling_internvl_chat.InternVLChatModel"},
        "template": "internlm2-chat",
        "ps_version": "v2",
        "select_layer": -1,
        "downsample_ratio": 0.5,
        "force_image_size": TILE,
        "max_dynamic_patch": 6,
        "use_backbone_lora": RANK,
        "use_llm_lora": RANK,
        "vision_config": {
            "hidden_size": VISION,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "image_size": 64,
            "patch_size": PATCH,
            "qkv_bias": True,
            "qk_normalization": False,
            "norm_type": "layer_norm",
            "drop_path_rate": 0.1,
        },
        "llm_config": {
            "architectures": ["InternLM2ForCausalLM"],
            "vocab_size": tokens,
            "hidden_size": WIDTH,
            "intermediate_size": 40,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1000000.0,
            "max_position_embeddings": 512,
            "hidden_act": "silu",
            "bias": False,
            "tie_word_embeddings": False,
        },
    }


def linear(weights, name, rows, columns, *, bias, lora):
    """A linear layer as PEFT wraps it: base layer and the two factors."""
    weights[f"{name}.base_layer.weight" if lora else f"{name}.weight"] = torch.randn(rows, columns) * 0.2
    if bias:
        weights[f"{name}.base_layer.bias" if lora else f"{name}.bias"] = torch.randn(rows) * 0.2
    if lora:
        weights[f"{name}.lora_A.default.weight"] = torch.randn(RANK, columns) * 0.3
        weights[f"{name}.lora_B.default.weight"] = torch.randn(rows, RANK) * 0.3


def chat_weights(tokens, *, lora=True):
    torch.manual_seed(0)
    weights = {}
    vision, language = ("vision_model.base_model.model", "language_model.base_model.model") if lora else ("vision_model", "language_model")
    weights[f"{vision}.embeddings.class_embedding"] = torch.randn(1, 1, VISION)
    weights[f"{vision}.embeddings.position_embedding"] = torch.randn(1, (TILE // PATCH) ** 2 + 1, VISION)
    weights[f"{vision}.embeddings.patch_embedding.weight"] = torch.randn(VISION, 3, PATCH, PATCH) * 0.1
    weights[f"{vision}.embeddings.patch_embedding.bias"] = torch.randn(VISION)
    for index in range(LAYERS):
        layer = f"{vision}.encoder.layers.{index}"
        linear(weights, f"{layer}.attn.qkv", 3 * VISION, VISION, bias=True, lora=lora)
        linear(weights, f"{layer}.attn.proj", VISION, VISION, bias=True, lora=lora)
        linear(weights, f"{layer}.mlp.fc1", 24, VISION, bias=True, lora=lora)
        linear(weights, f"{layer}.mlp.fc2", VISION, 24, bias=True, lora=lora)
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1", "ls2"):
            weights[f"{layer}.{name}"] = torch.randn(VISION)
    for name, shape in (("0", (4 * VISION,)), ("1", (WIDTH, 4 * VISION)), ("3", (WIDTH, WIDTH))):
        weights[f"mlp1.{name}.weight"] = torch.randn(shape) * 0.2
        weights[f"mlp1.{name}.bias"] = torch.randn(shape[0]) * 0.2
    weights[f"{language}.model.tok_embeddings.weight"] = torch.randn(tokens, WIDTH)
    weights[f"{language}.output.weight"] = torch.randn(tokens, WIDTH)
    weights[f"{language}.model.norm.weight"] = torch.randn(WIDTH)
    for index in range(LAYERS):
        layer = f"{language}.model.layers.{index}"
        linear(weights, f"{layer}.attention.wqkv", (HEADS + 2 * KV) * HEAD_WIDTH, WIDTH, bias=False, lora=lora)
        linear(weights, f"{layer}.attention.wo", WIDTH, WIDTH, bias=False, lora=lora)
        for name, rows, columns in (("w1", 40, WIDTH), ("w3", 40, WIDTH), ("w2", WIDTH, 40)):
            linear(weights, f"{layer}.feed_forward.{name}", rows, columns, bias=False, lora=lora)
        weights[f"{layer}.attention_norm.weight"] = torch.randn(WIDTH)
        weights[f"{layer}.ffn_norm.weight"] = torch.randn(WIDTH)
    for number, (columns, rows) in enumerate(pairwise(MLP), start=1):
        weights[f"mlpscore.fc{number}.weight"] = torch.rand(rows, columns) * 0.1
        weights[f"mlpscore.fc{number}.bias"] = torch.rand(rows)
    weights["mlpscore.ln1.weight"], weights["mlpscore.ln1.bias"] = torch.ones(12), torch.zeros(12)
    return weights


@pytest.fixture
def tokens(internvl_folder):
    return json.loads((internvl_folder / "config.json").read_text())["text_config"]["vocab_size"]


@pytest.fixture
def source(tmp_path, tokens):
    folder = tmp_path / "LMM4LMM-Perception"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config(tokens)))
    weights = {name: tensor.contiguous() for name, tensor in chat_weights(tokens).items()}
    half = list(weights)[: len(weights) // 2]
    save_file({name: weights[name] for name in half}, folder / "model-00001-of-00002.safetensors")
    save_file({name: weights[name] for name in weights if name not in half}, folder / "model-00002-of-00002.safetensors")
    return folder


def language_rows(part, fused):
    """Which rows of the fused weight are queries, keys or values, head by head, as InternLM2 lays them out."""
    rows = []
    for head in range(KV):
        start = head * (GROUPS + 2) * HEAD_WIDTH
        first, count = {"q": (0, GROUPS), "k": (GROUPS, 1), "v": (GROUPS + 1, 1)}[part]
        rows += range(start + first * HEAD_WIDTH, start + (first + count) * HEAD_WIDTH)
    return fused[rows]


def test_every_tensor_arrives_at_its_place(source, internvl_folder, tmp_path, tokens):
    given, out = chat_weights(tokens), tmp_path / "judge"
    spec = import_judge(source, out, dimension="perception", tokenizer=str(internvl_folder))
    backbone = InternVLForConditionalGeneration.from_pretrained(out / "backbone").state_dict()
    trained = load_file(out / WEIGHTS)
    vision, language = "vision_model.base_model.model", "language_model.base_model.model"
    used = set()

    def same(ours, theirs, pick=lambda tensor: tensor):
        found = next(tensor for name, tensor in (backbone | trained).items() if name.endswith(ours))
        assert torch.equal(found, pick(given[theirs])), ours
        used.add(theirs)

    same("vision_tower.embeddings.cls_token", f"{vision}.embeddings.class_embedding")
    same("vision_tower.embeddings.position_embeddings", f"{vision}.embeddings.position_embedding")
    for end in ("weight", "bias"):
        same(f"embeddings.patch_embeddings.projection.{end}", f"{vision}.embeddings.patch_embedding.{end}")
        for ours, theirs in (("layer_norm", "0"), ("linear_1", "1"), ("linear_2", "3")):
            same(f"multi_modal_projector.{ours}.{end}", f"mlp1.{theirs}.{end}")
        for number in range(1, 6):
            same(f"heads.perception.layers.{number - 1}.{end}", f"mlpscore.fc{number}.{end}")
    for index in range(LAYERS):
        ours, theirs = f"vision_tower.encoder.layer.{index}", f"{vision}.encoder.layers.{index}"
        for part, name in enumerate("qkv"):
            rows = slice(part * VISION, (part + 1) * VISION)
            for end in ("weight", "bias"):
                same(f"{ours}.attention.{name}_proj.{end}", f"{theirs}.attn.qkv.base_layer.{end}", lambda t, rows=rows: t[rows])
            same(f"{ours}.attention.{name}_proj.lora_A.imported.weight", f"{theirs}.attn.qkv.lora_A.default.weight")
            same(f"{ours}.attention.{name}_proj.lora_B.imported.weight", f"{theirs}.attn.qkv.lora_B.default.weight", lambda t, r=rows: t[r])
        for mine, other in (("attention.projection_layer", "attn.proj"), ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2")):
            for end in ("weight", "bias"):
                same(f"{ours}.{mine}.{end}", f"{theirs}.{other}.base_layer.{end}")
            for letter in "AB":
                same(f"{ours}.{mine}.lora_{letter}.imported.weight", f"{theirs}.{other}.lora_{letter}.default.weight")
        for mine, other in (("layernorm_before", "norm1"), ("layernorm_after", "norm2")):
            for end in ("weight", "bias"):
                same(f"{ours}.{mine}.{end}", f"{theirs}.{other}.{end}")
        for number in (1, 2):
            same(f"{ours}.lambda_{number}", f"{theirs}.ls{number}")
        ours, theirs = f"language_model.layers.{index}", f"{language}.model.layers.{index}"
        for part in "qkv":
            same(
                f"{ours}.self_attn.{part}_proj.weight", f"{theirs}.attention.wqkv.base_layer.weight", lambda t, p=part: language_rows(p, t)
            )
            same(f"{ours}.self_attn.{part}_proj.lora_A.imported.weight", f"{theirs}.attention.wqkv.lora_A.default.weight")
            same(
                f"{ours}.self_attn.{part}_proj.lora_B.imported.weight",
                f"{theirs}.attention.wqkv.lora_B.default.weight",
                lambda t, p=part: language_rows(p, t),
            )
        mlp = (("mlp.gate_proj", "w1"), ("mlp.up_proj", "w3"), ("mlp.down_proj", "w2"))
        for mine, other in (("self_attn.o_proj", "attention.wo"), *((mine, f"feed_forward.{other}") for mine, other in mlp)):
            same(f"{ours}.{mine}.weight", f"{theirs}.{other}.base_layer.weight")
            for letter in "AB":
                same(f"{ours}.{mine}.lora_{letter}.imported.weight", f"{theirs}.{other}.lora_{letter}.default.weight")
        same(f"{ours}.input_layernorm.weight", f"{theirs}.attention_norm.weight")
        same(f"{ours}.post_attention_layernorm.weight", f"{theirs}.ffn_norm.weight")
    same("language_model.embed_tokens.weight", f"{language}.model.tok_embeddings.weight")
    same("language_model.norm.weight", f"{language}.model.norm.weight")
    same("lm_head.weight", f"{language}.output.weight")
    assert used == set(given) - {"mlpscore.ln1.weight", "mlpscore.ln1.bias"}, "nothing is left over"
    assert spec.adapters["imported"].alpha == 2 * RANK
    assert spec.heads["perception"].widths == (12, 6, 5, 4)
    assert read_spec(out) == spec


def test_the_imported_judge_scores_as_the_merged_model_does(source, internvl_folder, tmp_path, tokens, noise_picture):
    out = tmp_path / "judge"
    import_judge(source, out, dimension="perception", tokenizer=str(internvl_folder))
    judge = TrainedJudge(str(out), device="cpu")
    image = noise_picture(1, size=(40, 24))
    assert judge._model.resize == 1024
    (verdict,) = judge.judge([image], ["a cat"], [["Is it red?"]])
    assert verdict.correspondence.reason.endswith("not trained on correspondence")
    # The same by hand: LoRA added to the fused weights, no adapter anywhere.
    merged = {}
    for name, tensor in chat_weights(tokens).items():
        if "lora_" in name:
            continue
        if ".base_layer.weight" in name:
            a, b = (chat_weights(tokens)[name.replace(".base_layer.weight", f".lora_{letter}.default.weight")] for letter in "AB")
            tensor = tensor + 2.0 * b @ a
        merged[name.replace(".base_model.model", "").replace(".base_layer", "")] = tensor.contiguous()
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "config.json").write_text(json.dumps(config(tokens) | {"use_llm_lora": 0, "use_backbone_lora": 0}))
    save_file(merged, plain / "model.safetensors")
    import_judge(plain, tmp_path / "bare", dimension="perception", tokenizer=str(internvl_folder))
    backbone = InternVLForConditionalGeneration.from_pretrained(tmp_path / "bare" / "backbone")
    # The authors' conversation up to the level word, "excellent" in their code, behind whose predecessor they read the state.
    said = (
        "<|im_start|>system\n你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型"
        "\N{FULLWIDTH COMMA}英文名叫InternVL, 是一个有用无害的人工智能助手。<|im_end|>"
        "<|im_start|>user\n<IMG_CONTEXT>\nHow would you rate the quality of this image?<|im_end|>"
        "<|im_start|>assistant\nThe quality of the image is"
    )
    inputs = judge._model.reader.inputs([said], [[image.resize((1024, 1024), Image.Resampling.BICUBIC)]])
    assert len(inputs["pixel_values"]) == 5, "two by two tiles and the whole, which a picture of its shape would not have had"
    hidden = backbone.model(**inputs).last_hidden_state[0, -1]
    for number in range(1, 6):
        hidden = torch.relu(merged[f"mlpscore.fc{number}.weight"] @ hidden + merged[f"mlpscore.fc{number}.bias"])
    assert verdict.perception.value == pytest.approx(min(100, max(0, hidden.item())), rel=1e-4)
    assert hidden.item() > 0, "a head that is dead would prove nothing"


def test_words_that_are_given_take_the_place_of_the_authors(source, internvl_folder, tmp_path):
    words = {"wording": "Does it show {prompt}?", "lead": "", "resize": None}
    spec = import_judge(source, tmp_path / "judge", dimension="correspondence", tokenizer=str(internvl_folder), **words)
    asked = question(spec, "judging/correspondence", prompt="a cat")
    assert (asked.text, asked.lead, spec.resize) == ("Does it show a cat?", "", None)
    for changes, named in (({}, "holds a judge"), ({"low": 5, "high": 5}, "no scores"), ({"wording": "How good?"}, "has no {prompt}")):
        place = tmp_path / ("judge" if not changes else "another")
        with pytest.raises(BadInput, match=named):
            import_judge(source, place, dimension="correspondence", tokenizer=str(internvl_folder), **changes)
    spec = import_judge(source, tmp_path / "theirs", dimension="correspondence", tokenizer=str(internvl_folder))
    asked = question(spec, "judging/correspondence", prompt="a cat")
    assert asked.text == "How would you rate the correspondence of this image and its prompt? prompt: a cat"
    assert asked.lead == "The correspondence of the image and its prompt is"


def test_pytorch_files_are_read_without_running_code(source, internvl_folder, tmp_path, tokens):
    for path in source.glob("*.safetensors"):
        path.unlink()
    torch.save(chat_weights(tokens), source / "pytorch_model.bin")
    spec = import_judge(source, tmp_path / "judge", dimension="correspondence", tokenizer=str(internvl_folder))
    assert list(spec.heads) == ["correspondence"]


def test_lora_in_a_file_of_its_own_takes_the_place_of_what_the_other_files_hold(source, internvl_folder, tmp_path, tokens):
    newer = {name: tensor + 1 for name, tensor in chat_weights(tokens).items() if ".lora_" in name or name.startswith("mlpscore.fc")}
    torch.save(newer, source / "lora_weights.pth")
    import_judge(source, tmp_path / "judge", dimension="perception", tokenizer=str(internvl_folder))
    trained = load_file(tmp_path / "judge" / WEIGHTS)
    wo = "language_model.base_model.model.model.layers.1.attention.wo.lora_A.default.weight"
    (found,) = [
        tensor for name, tensor in trained.items() if name.endswith("language_model.layers.1.self_attn.o_proj.lora_A.imported.weight")
    ]
    assert torch.equal(found, newer[wo])
    assert torch.equal(trained["heads.perception.layers.0.weight"], newer["mlpscore.fc1.weight"])


def test_a_checkpoint_whose_lora_is_missing_is_refused_instead_of_judged_by_the_bare_backbone(source, internvl_folder, tmp_path, tokens):
    for path in source.glob("*.safetensors"):
        path.unlink()
    bare = {name: tensor.contiguous() for name, tensor in chat_weights(tokens, lora=False).items()}
    save_file(bare, source / "model.safetensors")
    with pytest.raises(IntegrityError, match="LoRA of rank 3, but there is none"):
        import_judge(source, tmp_path / "judge", dimension="perception", tokenizer=str(internvl_folder))
    torch.save({name: tensor for name, tensor in chat_weights(tokens).items() if ".lora_" in name}, source / "lora_weights.pth")
    spec = import_judge(source, tmp_path / "judge", dimension="perception", tokenizer=str(internvl_folder))
    assert spec.adapters["imported"].rank == RANK


def test_a_checkpoint_that_is_not_whole_is_refused(source, internvl_folder, tmp_path, tokens):
    def importing(changed):
        for path in source.glob("*.safetensors"):
            path.unlink()
        save_file({name: tensor.contiguous() for name, tensor in changed.items()}, source / "model.safetensors")
        return import_judge(source, tmp_path / "judge", dimension="perception", tokenizer=str(internvl_folder))

    given = chat_weights(tokens)
    missing = "language_model.base_model.model.model.norm.weight"
    with pytest.raises(IntegrityError, match="lacks 1 tensors"):
        importing({name: tensor for name, tensor in given.items() if name != missing})
    with pytest.raises(IntegrityError, match="has 1 tensors that have no place"):
        importing(given | {"vision_model.base_model.model.odd": torch.zeros(1)})
    with pytest.raises(BadCard, match="no mlpscore"):
        importing({name: tensor for name, tensor in given.items() if "mlpscore" not in name})
    lora = next(name for name in given if name.endswith("lora_A.default.weight"))
    with pytest.raises(IntegrityError, match="lack"):
        importing({name: tensor for name, tensor in given.items() if name != lora})
    (source / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(IntegrityError, match="damaged"):
        import_judge(source, tmp_path / "judge", dimension="perception", tokenizer=str(internvl_folder))


def test_what_is_no_such_checkpoint_is_refused(source, internvl_folder, tmp_path, tokens):
    with pytest.raises(BadCard, match="no checkpoint"):
        import_judge(tmp_path, tmp_path / "judge", dimension="perception")
    with pytest.raises(BadCard, match="not in the InternVLChat layout"):
        import_judge(internvl_folder, tmp_path / "judge", dimension="perception")
    values = config(tokens)
    values["llm_config"]["architectures"] = ["Phi3ForCausalLM"]
    (source / "config.json").write_text(json.dumps(values))
    with pytest.raises(BadInput, match="Phi3ForCausalLM"):
        import_judge(source, tmp_path / "judge", dimension="perception", tokenizer=str(internvl_folder))


def test_the_conversation_is_that_of_the_template_which_the_checkpoint_names(source, internvl_folder, tmp_path, tokens):
    def written(name: str, values: dict) -> str:
        (source / "config.json").write_text(json.dumps(values), encoding="utf-8")
        import_judge(source, tmp_path / name, dimension="perception", tokenizer=str(internvl_folder))
        chat = AutoTokenizer.from_pretrained(tmp_path / name / "backbone")
        asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Well?"}]}]
        return chat.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)

    newer = written("newer", config(tokens) | {"template": "internvl2_5"})
    assert newer.removeprefix(AutoTokenizer.from_pretrained(internvl_folder).bos_token or "") == (
        "<|im_start|>system\n你是书生·万象\N{FULLWIDTH COMMA}英文名是InternVL\N{FULLWIDTH COMMA}"
        "是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。<|im_end|>\n"
        "<|im_start|>user\n<IMG_CONTEXT>\nWell?<|im_end|>\n<|im_start|>assistant\n"
    )
    theirs = AutoTokenizer.from_pretrained(internvl_folder).chat_template
    written("none", {name: value for name, value in config(tokens).items() if name != "template"})
    assert AutoTokenizer.from_pretrained(tmp_path / "none" / "backbone").chat_template == theirs
    with pytest.raises(BadInput, match="template 'phi3-chat' is not known here"):
        written("other", config(tokens) | {"template": "phi3-chat"})
    assert not (tmp_path / "other").exists()


def test_a_checkpoint_that_answers_is_read_without_its_head_and_answers_in_the_questions_own_words(source, internvl_folder, tmp_path):
    out = tmp_path / "judge"
    spec = import_judge(source, out, dimension="answers", tokenizer=str(internvl_folder))
    assert (spec.heads, spec.answers, read_spec(out)) == ({}, "imported", spec)
    assert question(spec, "judging/answer", question="Is it red?").text == "Is it red?"
    judge = TrainedJudge(str(out), device="cpu")
    (verdict,) = judge.judge([Image.new("RGB", (40, 24), "red")], ["a cat"], [["Is it red?"]])
    assert 0 < verdict.answers[0].yes.value < 1
    assert verdict.perception.reason.endswith("not trained on perception")
