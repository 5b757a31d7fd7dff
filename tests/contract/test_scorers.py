"""What every learned metric promises, on tiny checkpoints of the true architectures; numbers against transformers and by hand."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionModel,
)

from checkpoints import BRISQUE, clip_flant5_tensors, flant5, image_reward_parts, image_reward_tensors, write_brisque
from formulas import colours, grey, spread_evenly
from vernissage.drivers.features import centre_square
from vernissage.drivers.score_aesthetic import AestheticScorer
from vernissage.drivers.score_blip import BlipScorer
from vernissage.drivers.score_clip import ClipScorer
from vernissage.drivers.score_clip_flant5 import ClipFlanT5Scorer
from vernissage.drivers.score_image_reward import ImageRewardScorer
from vernissage.drivers.score_lpips import LpipsScorer
from vernissage.drivers.score_naturalness import BrisqueScorer, NiqeScorer
from vernissage.errors import BadCard, BadInput, DriverError
from vernissage.metrics.naturalness import Pristine, brisque_features, niqe
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


def flant5_scorer(folder, *, model=None, **options) -> ClipFlanT5Scorer:
    beside = {"vision": str(folder / "vision"), "tokenizer": str(folder / "tokenizer")}
    return ClipFlanT5Scorer(str(model or folder / "model"), **beside | {"device": "cpu"} | options)


@pytest.fixture(params=["pickscore", "hpsv2", "blip-itm", "aesthetic", "lpips", "image-reward", "clip-flant5", "niqe", "brisque"])
def scorer(request, clip_folder):
    if request.param == "image-reward":
        checkpoint, tokenizer = request.getfixturevalue("image_reward_files")
        return ImageRewardScorer(str(checkpoint), tokenizer=str(tokenizer), device="cpu", batch_size=3)
    if request.param == "clip-flant5":
        return flant5_scorer(request.getfixturevalue("clip_flant5_folder"), batch_size=3)
    if request.param == "niqe":
        return NiqeScorer(str(request.getfixturevalue("niqe_file")))
    if request.param == "brisque":
        model, ranges = request.getfixturevalue("brisque_files")
        return BrisqueScorer(str(model), ranges=str(ranges))
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


@pytest.fixture
def measurable(scorer, pictures):
    """Pictures that the scorer can measure: with detail, and for NIQE of two blocks or more."""
    if isinstance(scorer, NiqeScorer | BrisqueScorer):
        return [colours(200, 100), colours(210, 192), colours(96, 200).convert("L"), colours(201, 120).transpose(Image.Transpose.ROTATE_90)]
    return pictures


def test_every_picture_gets_a_score_in_order_whatever_the_batch(scorer, measurable):
    pictures, references = measurable, measurable[::-1]
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


def test_blip_reads_35_tokens_of_a_prompt(blip_folder, pictures):
    scorer = BlipScorer(str(blip_folder), device="cpu")
    first, longer, other = values(scorer.score(pictures[:1] * 3, ["a" + " a" * 60, "a" + " a" * 60 + " cat", "a cat"], [None] * 3))
    assert first == longer != other


def test_the_aesthetic_predictor_cuts_a_margin_of_odd_pixels_as_torchvision_does(clip_folder, aesthetic_head):
    """transformers rounds half a pixel down, torchvision to the even number."""
    side = AestheticScorer(str(clip_folder), head=str(aesthetic_head), device="cpu")._encoder.side
    wide = Image.effect_noise((side + 3, side), 90).convert("RGB")  # a margin of 1.5 pixels
    cut = wide.crop((2, 0, 2 + side, side))
    scorer = AestheticScorer(str(clip_folder), head=str(aesthetic_head), device="cpu")
    one, two = values(scorer.score([wide, cut], [None] * 2, [None] * 2))
    assert one == pytest.approx(two, abs=1e-6)


def test_the_aesthetic_predictor_is_its_layers_on_features_of_unit_length(clip_folder, aesthetic_head, pictures):
    from safetensors.torch import load_file

    model, pixels = CLIPModel.from_pretrained(clip_folder).eval(), CLIPImageProcessorPil.from_pretrained(clip_folder)
    with torch.no_grad():
        squares = [centre_square(picture.convert("RGB"), model.config.vision_config.image_size) for picture in pictures]
        vision = model.vision_model(pixel_values=pixels(images=squares, return_tensors="pt").pixel_values)
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


def test_image_reward_is_the_layers_on_what_the_text_encoder_sees_of_the_picture(image_reward_files, noise_picture):
    pictures = [noise_picture(number, size) for number, size in enumerate([(64, 80), (80, 64), (32, 32), (96, 96)])]
    checkpoint, tokenizer = image_reward_files
    vision, text, layers = image_reward_parts()
    pixels = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    tokens = BertTokenizer.from_pretrained(tokenizer)(PROMPTS, padding="max_length", max_length=35, return_tensors="pt")
    with torch.no_grad():
        seen = vision(pixel_values=pixels(images=pictures, return_tensors="pt").pixel_values).last_hidden_state
        x = text(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long),
            is_decoder=False,
        ).last_hidden_state[:, 0]
    for weight, bias in layers.values():
        x = x @ weight.T + bias
    scorer = ImageRewardScorer(str(checkpoint), tokenizer=str(tokenizer), device="cpu")
    expected = (x[:, 0] - 0.16717362830052426) / 1.0333394966054072
    assert values(scorer.score(pictures, PROMPTS, [None] * 4)) == pytest.approx(expected.tolist(), abs=1e-5)


# The classes of image-reward 1.5 (BLIP/vit.py, BLIP/med.py, ImageReward.py) with the state dict of image_reward_tensors(); pictures are
# prepared by torchvision's rules for Resize(32, bicubic) and CenterCrop(32).
@pytest.mark.parametrize(
    ("size", "prompt", "expected"),
    [
        ((64, 80), "a cat", 0.015440678),
        ((32, 32), "red " * 60, -0.029535834),
        ((70, 64), "two dogs at sea", -0.043226007),
    ],
)
def test_image_reward_is_that_of_its_authors(image_reward_files, size, prompt, expected):
    checkpoint, tokenizer = image_reward_files
    scorer = ImageRewardScorer(str(checkpoint), tokenizer=str(tokenizer), device="cpu")
    assert values(scorer.score([colours(*size)], [prompt], [None])) == pytest.approx([expected], abs=1e-5)


def test_image_reward_reads_35_tokens_of_a_prompt_and_takes_none_for_an_empty_one(image_reward_files, pictures):
    checkpoint, tokenizer = image_reward_files
    scorer = ImageRewardScorer(str(checkpoint), tokenizer=str(tokenizer), device="cpu")
    same = [pictures[0]] * 4
    fits, longer, shorter, much = values(scorer.score(same, ["red " * 33, "red " * 33 + "cat", "red " * 32, "red " * 9000], [None] * 4))
    assert fits == pytest.approx(longer, abs=1e-6)
    assert fits == pytest.approx(much, abs=1e-6)
    assert abs(fits - shorter) > 1e-4
    empty, none, unknown, other = values(scorer.score(same, ["", None, "\u65e5\u672c \U0001f408 \x00", "red"], [None] * 4))
    assert empty == none
    assert len({round(value, 5) for value in (empty, unknown, other)}) == 3


def test_image_reward_as_safetensors_or_inside_a_training_checkpoint_gives_the_same(image_reward_files, pictures, tmp_path):
    checkpoint, tokenizer = image_reward_files
    save_file(image_reward_tensors(), tmp_path / "ImageReward.safetensors")
    torch.save({"state_dict": image_reward_tensors(), "epoch": 3}, tmp_path / "last.ckpt")
    expected, *others = (
        values(ImageRewardScorer(str(path), tokenizer=str(tokenizer), device="cpu").score(pictures, PROMPTS, [None] * 4))
        for path in (checkpoint, tmp_path / "ImageReward.safetensors", tmp_path / "last.ckpt")
    )
    assert others == [expected, expected]


def flant5_by_its_loss(folder, picture, prompt: str) -> float:
    """exp(-loss) of T5 for the answer Yes, with the question spelled out and pictures made square by hand."""
    tokenizer, pixels = AutoTokenizer.from_pretrained(folder / "tokenizer"), CLIPImageProcessorPil.from_pretrained(folder / "vision")
    vision, model, tensors = CLIPVisionModel.from_pretrained(folder / "vision").eval(), flant5(), clip_flant5_tensors()
    side = max(picture.size)
    square = ImageOps.pad(picture, (side, side), color=tuple(int(255 * mean) for mean in pixels.image_mean))
    before = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite "
        "answers to the user's questions. USER: "
    )
    after = f'\nDoes this figure show "{prompt}"? Please answer yes or no. ASSISTANT: '
    with torch.no_grad():
        seen = vision(pixel_values=pixels(images=square, return_tensors="pt").pixel_values, output_hidden_states=True).hidden_states[-2][
            0, 1:
        ]
        seen = F.gelu(seen @ tensors["mm_projector.0.weight"].T + tensors["mm_projector.0.bias"])
        seen = seen @ tensors["mm_projector.2.weight"].T + tensors["mm_projector.2.bias"]
        words = [model.shared(torch.tensor(tokenizer(text).input_ids)) for text in (before, after)]
        labels = torch.tensor([tokenizer("Yes").input_ids])
        assert labels.tolist() == [[3, 1]], "Yes, and the end after it"
        return model(inputs_embeds=torch.cat([words[0], seen, words[1]])[None], labels=labels).loss.neg().exp().item()


def test_clip_flant5_is_how_likely_yes_is_by_the_loss_of_t5(clip_flant5_folder, pictures):
    scorer = flant5_scorer(clip_flant5_folder, batch_size=1)
    expected = [flant5_by_its_loss(clip_flant5_folder, picture, prompt) for picture, prompt in zip(pictures, PROMPTS, strict=True)]
    assert values(scorer.score(pictures, PROMPTS, [None] * 4)) == pytest.approx(expected, abs=1e-5)
    assert max(expected) > 1.2 * min(expected), "the model is awake"
    assert abs(expected[0] - expected[2]) > 1e-4, "one prompt, two pictures"


def test_clip_flant5_gives_pictures_with_prompts_of_different_length_the_same_in_batches(clip_flant5_folder, pictures):
    prompts = ["red", "two dogs at sea, a red cat and two dogs", "", "a cat"]
    expected = [flant5_by_its_loss(clip_flant5_folder, picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]
    for size in (2, 3, 8):
        found = values(flant5_scorer(clip_flant5_folder, batch_size=size).score(pictures, prompts, [None] * 4))
        assert found == pytest.approx(expected, abs=1e-5)


def test_clip_flant5_may_lie_in_pytorch_model_bin(clip_flant5_folder, pictures, tmp_path):
    shutil.copy(clip_flant5_folder / "model" / "config.json", tmp_path)
    torch.save(clip_flant5_tensors(), tmp_path / "pytorch_model.bin")
    one, other = (
        values(flant5_scorer(clip_flant5_folder, model=model, batch_size=1).score(pictures, PROMPTS, [None] * 4))
        for model in (clip_flant5_folder / "model", tmp_path)
    )
    assert one == other


def test_clip_flant5_may_lie_in_several_files(clip_flant5_folder, pictures, tmp_path):
    shutil.copy(clip_flant5_folder / "model" / "config.json", tmp_path)
    tensors, names = clip_flant5_tensors(), ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    places = {name: names[index % 2] for index, name in enumerate(sorted(tensors))}
    for file in names:
        torch.save({name: tensors[name] for name, place in places.items() if place == file}, tmp_path / file)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    one, other = (
        values(flant5_scorer(clip_flant5_folder, model=model, batch_size=1).score(pictures, PROMPTS, [None] * 4))
        for model in (clip_flant5_folder / "model", tmp_path)
    )
    assert one == other


def test_what_a_training_left_beside_clip_flant5_is_not_opened(clip_flant5_folder, pictures, tmp_path):
    from transformers import TrainingArguments

    shutil.copytree(clip_flant5_folder / "model", tmp_path / "model")
    torch.save(TrainingArguments(output_dir=str(tmp_path), use_cpu=True), tmp_path / "model" / "training_args.bin")
    scorer = flant5_scorer(clip_flant5_folder, model=tmp_path / "model")
    assert len(values(scorer.score(pictures[:1], PROMPTS[:1], [None]))) == 1


def test_clip_flant5_takes_any_prompt_as_it_is(clip_flant5_folder, pictures):
    prompts = ["", "{} {0} {x} %s", "\u65e5\u672c \U0001f408 \x00", 'a\n\ncat "red"', "a cat " * 400]
    scorer = flant5_scorer(clip_flant5_folder, batch_size=1)
    found = values(scorer.score([pictures[0]] * 5, prompts, [None] * 5))
    assert found == pytest.approx([flant5_by_its_loss(clip_flant5_folder, pictures[0], prompt) for prompt in prompts], abs=1e-5)
    assert values(scorer.score(pictures[:1], [None], [None])) == found[:1]
    assert all(0 <= value <= 1 for value in found)


def test_clip_flant5_cuts_a_question_where_its_authors_do(clip_flant5_folder, pictures):
    scorer = flant5_scorer(clip_flant5_folder, batch_size=1)
    one, other = values(scorer.score([pictures[0]] * 2, ["red " * 2100 + "a cat", "red " * 2100 + "two dogs at sea"], [None] * 2))
    assert one == pytest.approx(other, abs=1e-7)


def test_half_precision_changes_learned_scores_a_little(image_reward_files, clip_flant5_folder, pictures):
    checkpoint, tokenizer = image_reward_files
    for make in (
        lambda dtype: ImageRewardScorer(str(checkpoint), tokenizer=str(tokenizer), device="cpu", dtype=dtype),
        lambda dtype: flant5_scorer(clip_flant5_folder, batch_size=1, dtype=dtype),
    ):
        full, half = (values(make(dtype).score(pictures, PROMPTS, [None] * 4)) for dtype in ("float32", "bfloat16"))
        assert half == pytest.approx(full, abs=0.05)
        assert half != full


def test_niqe_is_the_distance_from_the_model_in_the_file_whatever_its_format(niqe_file, tmp_path):
    from scipy.io import loadmat, savemat

    told = loadmat(niqe_file)
    mean, covariance = told["mu_prisparam"], told["cov_prisparam"]
    savemat(tmp_path / "niqe_image_params.mat", {"pop_mu": mean, "pop_cov": covariance}, do_compression=True)
    np.savez(tmp_path / "own.npz", mean=mean.ravel(), covariance=covariance)
    np.savez_compressed(tmp_path / "other.npz", mu_pris_param=mean, cov_pris_param=covariance)
    picture = colours(200, 110)
    expected = niqe(np.asarray(picture.convert("L")), Pristine(mean.ravel(), covariance))
    for path in (niqe_file, *(tmp_path / name for name in ("niqe_image_params.mat", "own.npz", "other.npz"))):
        assert values(NiqeScorer(str(path)).score([picture, picture.convert("L")], [None] * 2, [None] * 2)) == [expected] * 2


def test_niqe_and_brisque_leave_pictures_unscored_that_they_cannot_measure(niqe_file, brisque_files):
    flat, tiny, good = Image.new("RGB", (200, 200), (90, 90, 90)), colours(12, 12), colours(200, 100)
    model, ranges = brisque_files
    for scorer, words in (
        (NiqeScorer(str(niqe_file)), ("flat", "two blocks of 96 pixels, not 12 x 12")),
        (BrisqueScorer(str(model), ranges=str(ranges)), ("flat", "at least 16 pixels a side, not 12 x 12")),
    ):
        found = scorer.score([flat, tiny, good], [None] * 3, [None] * 3)
        assert [type(each) for each in found] == [Unscored, Unscored, Score]
        assert all(word in each.reason for word, each in zip(words, found, strict=False))


def test_brisque_is_the_regression_of_scikit_learn_on_the_features_of_piq(brisque_files):
    # scikit-learn 1.9.1's SVR, from which the vectors come, predicts 49.90593365856037 for piq 0.8.0's features of this picture.
    model, ranges = brisque_files
    picture = Image.fromarray(grey(120, 160).astype(np.uint8))
    found = values(BrisqueScorer(str(model), ranges=str(ranges)).score([picture, picture.convert("RGB")], [None] * 2, [None] * 2))
    assert found == pytest.approx([49.90593365856037] * 2, abs=1e-6)


def test_brisque_predicts_what_a_regression_of_scikit_learn_does(tmp_path):
    SVR = pytest.importorskip("sklearn.svm").SVR
    rng = np.random.default_rng(2)
    pictures = [colours(64 + 8 * number, 100 - 6 * number) for number in range(8)]
    features = np.array([brisque_features(np.asarray(picture.convert("L"))) for picture in pictures])
    low, high = features.min(axis=0) - 0.1, features.max(axis=0) + 0.3
    rows = rng.uniform(-1, 1, size=(60, 36))
    svr = SVR(kernel="rbf", gamma=0.05, C=100).fit(rows, rng.uniform(0, 100, size=60))
    files = write_brisque(tmp_path, svr.support_vectors_, svr.dual_coef_[0], 0.05, -float(svr.intercept_[0]), low, high)
    expected = svr.predict(2 * (features - low) / (high - low) - 1)
    found = values(BrisqueScorer(str(files[0]), ranges=str(files[1])).score(pictures, [None] * 8, [None] * 8))
    assert found == pytest.approx(expected.tolist(), abs=1e-6)


def test_brisque_takes_what_libsvm_leaves_out_for_nought(tmp_path):
    changes = {"vectors": BRISQUE["vectors"] * (spread_evenly("kept", (12, 36)) > 0)}
    model, ranges = write_brisque(tmp_path, **BRISQUE | changes)
    text = model.read_text(encoding="utf-8")
    assert text.count(":") < 300
    features, low, high = brisque_features(grey(64, 64)), BRISQUE["low"], BRISQUE["high"]
    distances = ((changes["vectors"] - (2 * (features - low) / (high - low) - 1)) ** 2).sum(axis=1)
    expected = float(np.array(BRISQUE["weights"]) @ np.exp(-0.03 * distances) + 41.1244141421857)
    picture = Image.fromarray(grey(64, 64).astype(np.uint8))
    assert values(BrisqueScorer(str(model), ranges=str(ranges)).score([picture], [None], [None])) == pytest.approx([expected], abs=1e-9)


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
