"""What every learned metric promises, on tiny checkpoints of the true architectures; numbers against transformers and by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
)

from vernissage.drivers.score_aesthetic import AestheticScorer
from vernissage.drivers.score_blip import BlipScorer
from vernissage.drivers.score_clip import ClipScorer
from vernissage.drivers.score_lpips import LpipsScorer
from vernissage.errors import BadCard, BadInput, DriverError
from vernissage.records.verdict import Score, Unscored
from vernissage.wiring import DriverConfig, StudioConfig, load_config, load_driver

PROMPTS = ["a cat", "two dogs at sea", "a cat", "red"]


@pytest.fixture(scope="session")
def blip_folder(tmp_path_factory):
    torch.manual_seed(8)
    folder = tmp_path_factory.mktemp("blip")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", "a", "cat", "two", "dogs", "at", "sea", "red"]
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BlipConfig(
        text_config=small | {"vocab_size": len(words), "encoder_hidden_size": 16, "max_position_embeddings": 12, "projection_dim": 8},
        vision_config=small | {"image_size": 32, "patch_size": 8},
        projection_dim=8,
        image_text_hidden_size=8,
    )
    model = BlipForImageTextRetrieval(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def aesthetic_head(clip_folder, tmp_path_factory):
    torch.manual_seed(9)
    width = CLIPModel.from_pretrained(clip_folder).config.projection_dim
    path = tmp_path_factory.mktemp("aesthetic") / "head.safetensors"
    sizes = {0: (6, width), 2: (4, 6), 7: (1, 4)}
    tensors = {f"layers.{n}.weight": torch.randn(shape) for n, shape in sizes.items()}
    save_file(tensors | {f"layers.{n}.bias": torch.randn(shape[0]) for n, shape in sizes.items()}, path)
    return path


@pytest.fixture(scope="session")
def lpips_files(tmp_path_factory):
    torch.manual_seed(10)
    folder = tmp_path_factory.mktemp("lpips")
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    network = {f"features.{n}.weight": torch.randn(shape) * (2 / np.prod(shape[1:])) ** 0.5 for n, shape in shapes.items()}
    network |= {f"features.{n}.bias": torch.randn(shape[0]) * 0.1 for n, shape in shapes.items()}
    network["classifier.1.weight"] = torch.zeros(2, 2)
    save_file(network, folder / "alexnet.safetensors")
    weights = {f"lin{i}.model.1.weight": torch.rand(1, shape[0], 1, 1) for i, shape in enumerate(shapes.values())}
    torch.save(weights, folder / "alex.pth")
    return folder / "alexnet.safetensors", folder / "alex.pth"


@pytest.fixture(params=["pickscore", "hpsv2", "blip-itm", "aesthetic", "lpips"])
def scorer(request, clip_folder):
    if request.param == "blip-itm":
        return BlipScorer(str(request.getfixturevalue("blip_folder")), device="cpu", batch_size=3)
    if request.param == "aesthetic":
        return AestheticScorer(str(clip_folder), head=str(request.getfixturevalue("aesthetic_head")), device="cpu", batch_size=3)
    if request.param == "lpips":
        network, weights = request.getfixturevalue("lpips_files")
        return LpipsScorer(str(network), weights=str(weights), device="cpu", batch_size=3)
    return ClipScorer(str(clip_folder), scale="logit" if request.param == "pickscore" else "cosine", device="cpu", batch_size=3)


@pytest.fixture
def pictures(noise_picture):
    return [noise_picture(1, (64, 80)), noise_picture(2, (70, 64)), noise_picture(3, (64, 80)), noise_picture(4, (96, 96))]


def values(found) -> list[float]:
    assert all(isinstance(score, Score) for score in found), found
    return [score.value for score in found]


def test_every_picture_gets_a_score_in_order_whatever_the_batch(scorer, pictures):
    references = pictures[::-1]
    together = values(scorer.score(pictures, PROMPTS, references))
    alone = [values(scorer.score([p], [text], [r]))[0] for p, text, r in zip(pictures, PROMPTS, references, strict=True)]
    assert together == pytest.approx(alone, abs=1e-4)
    assert len({round(value, 6) for value in together}) > 1, "different pictures have different scores"


def test_no_pictures_give_no_scores(scorer):
    assert scorer.score([], [], []) == []


def test_pickscore_is_the_checkpoints_own_logit_and_hpsv2_its_cosine(clip_folder, pictures):
    model, pixels = CLIPModel.from_pretrained(clip_folder).eval(), CLIPImageProcessorPil.from_pretrained(clip_folder)
    limit = model.config.text_config.max_position_embeddings
    tokens = CLIPTokenizer.from_pretrained(clip_folder)(
        PROMPTS, padding="max_length", truncation=True, max_length=limit, return_tensors="pt"
    )
    with torch.no_grad():
        out = model(pixel_values=pixels(images=pictures, return_tensors="pt").pixel_values, **tokens)
    logits = out.logits_per_image.diagonal()
    nobody = [None] * 4
    assert values(ClipScorer(str(clip_folder), device="cpu").score(pictures, PROMPTS, nobody)) == pytest.approx(logits.tolist(), abs=1e-4)
    cosines = values(ClipScorer(str(clip_folder), scale="cosine", device="cpu").score(pictures, PROMPTS, nobody))
    assert cosines == pytest.approx((logits / model.logit_scale.exp().detach()).tolist(), abs=1e-5)


def test_blip_gives_the_probability_of_a_match(blip_folder, pictures):
    model, pixels = BlipForImageTextRetrieval.from_pretrained(blip_folder).eval(), BlipImageProcessorPil.from_pretrained(blip_folder)
    tokens = BertTokenizer.from_pretrained(blip_folder)(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            pixel_values=pixels(images=pictures, return_tensors="pt").pixel_values,
            use_itm_head=True,
        ).itm_score
    found = values(BlipScorer(str(blip_folder), device="cpu").score(pictures, PROMPTS, [None] * 4))
    assert found == pytest.approx(logits.softmax(1)[:, 1].tolist(), abs=1e-5)


def test_the_aesthetic_predictor_is_its_layers_on_features_of_unit_length(clip_folder, aesthetic_head, pictures):
    from safetensors.torch import load_file

    model, pixels = CLIPModel.from_pretrained(clip_folder).eval(), CLIPImageProcessorPil.from_pretrained(clip_folder)
    with torch.no_grad():
        vision = model.vision_model(pixel_values=pixels(images=pictures, return_tensors="pt").pixel_values)
        x = F.normalize(model.visual_projection(vision.pooler_output), dim=-1)
    tensors = load_file(aesthetic_head)
    for n in (0, 2, 7):
        x = x @ tensors[f"layers.{n}.weight"].T + tensors[f"layers.{n}.bias"]
    found = values(AestheticScorer(str(clip_folder), head=str(aesthetic_head), device="cpu").score(pictures, [None] * 4, [None] * 4))
    assert found == pytest.approx(x[:, 0].tolist(), abs=1e-5)


def test_lpips_is_the_weighted_distance_of_unit_features_of_alexnet(lpips_files, pictures):
    from safetensors.torch import load_file

    network, weights = load_file(lpips_files[0]), torch.load(lpips_files[1], weights_only=True)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 11, 4, 2),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(3, 2),
        torch.nn.Conv2d(64, 192, 5, padding=2),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(3, 2),
        torch.nn.Conv2d(192, 384, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(384, 256, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(256, 256, 3, padding=1),
        torch.nn.ReLU(),
    )
    layers.load_state_dict({name.removeprefix("features."): value for name, value in network.items() if name.startswith("features.")})

    def features(image):
        x = torch.from_numpy(np.asarray(image, dtype=np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
        x = (x - torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)) / torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
        found = []
        for index, layer in enumerate(layers):
            x = layer(x)
            if index in (1, 4, 7, 9, 11):
                found.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return found

    other = pictures[2].resize(pictures[0].size)
    wanted = 0.0
    with torch.no_grad():
        for index, (a, b) in enumerate(zip(features(pictures[0]), features(other), strict=True)):
            weight = weights[f"lin{index}.model.1.weight"].flatten()
            wanted += ((a - b) ** 2 * weight.view(1, -1, 1, 1)).sum(dim=1).mean().item()
    scorer = LpipsScorer(str(lpips_files[0]), weights=str(lpips_files[1]), device="cpu")
    assert values(scorer.score([pictures[0]], [None], [other])) == pytest.approx([wanted], abs=1e-5)
    assert values(scorer.score([pictures[0]], [None], [pictures[0]])) == [0.0]
    (tiny,) = scorer.score([Image.new("RGB", (20, 80))], [None], [pictures[0]])
    assert isinstance(tiny, Unscored)


def test_files_that_are_no_such_checkpoint_are_named(clip_folder, lpips_files, tmp_path):
    (tmp_path / "odd.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DriverError, match=r"odd\.safetensors"):
        AestheticScorer(str(clip_folder), head=str(tmp_path / "odd.safetensors"), device="cpu")
    with pytest.raises(DriverError, match="LPIPS cannot be read"):
        LpipsScorer(str(lpips_files[0]), weights=str(lpips_files[0]), device="cpu")
    with pytest.raises(DriverError, match="no layers that end in one number"):
        AestheticScorer(str(clip_folder), head=str(lpips_files[0]), device="cpu")
    with pytest.raises(DriverError, match="cannot be loaded"):
        BlipScorer(str(tmp_path / "none"), device="cpu")


def test_an_aesthetic_predictor_for_another_clip_is_refused(clip_folder, tmp_path, pictures):
    save_file({"layers.0.weight": torch.zeros(1, 5), "layers.0.bias": torch.zeros(1)}, tmp_path / "head.safetensors")
    scorer = AestheticScorer(str(clip_folder), head=str(tmp_path / "head.safetensors"), device="cpu")
    with pytest.raises(DriverError, match="takes 5 features"):
        scorer.score(pictures, [None] * 4, [None] * 4)


def test_a_studio_scores_with_the_metrics_it_is_configured_for(clip_folder, tmp_path, pictures):
    from vernissage.api import Studio

    pictures[0].save(tmp_path / "a.png")
    (tmp_path / "vernissage.toml").write_text(
        f'[scorers.pickscore]\ndriver = "clip"\nmodel = "{clip_folder}"\ndevice = "cpu"\n', encoding="utf-8"
    )
    (tmp_path / "prompts.txt").write_text("a cat\n", encoding="utf-8")
    studio = Studio(load_config(tmp_path / "vernissage.toml"))
    scored = studio.score(tmp_path, ["pickscore"], prompts=tmp_path / "prompts.txt", cache=tmp_path / "cache")
    wanted = ClipScorer(str(clip_folder), device="cpu").score([pictures[0]], ["a cat"], [None])
    assert scored.pictures["pickscore"][0].value == pytest.approx(wanted[0].value, abs=1e-5)
    with pytest.raises(BadInput, match="hpsv2 needs its checkpoint"):
        studio.score(tmp_path, ["hpsv2"])


def test_paths_of_scorers_start_at_the_configuration(tmp_path):
    (tmp_path / "vernissage.toml").write_text(
        '[scorers.lpips]\ndriver = "lpips"\nmodel = "./alexnet.safetensors"\nweights = "./alex.pth"\n', encoding="utf-8"
    )
    config = load_config(tmp_path / "vernissage.toml")
    assert config.scorers["lpips"].options == {"model": str(tmp_path / "alexnet.safetensors"), "weights": str(tmp_path / "alex.pth")}


def test_a_scorer_that_lacks_a_file_is_refused_with_the_option():
    with pytest.raises(BadCard, match="needs the option 'weights'"):
        load_driver("scorer", DriverConfig.model_validate({"driver": "lpips", "model": "x"}))
    assert StudioConfig().scorers == {}
