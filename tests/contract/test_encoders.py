"""What every encoder promises, on the fake and on tiny CLIP and DINOv2 checkpoints."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from vernissage.drivers.encode_clip import ClipEncoder
from vernissage.drivers.encode_dinov2 import Dinov2Encoder
from vernissage.drivers.fake import FakeEncoder
from vernissage.drivers.features import FeatureCache
from vernissage.errors import DriverError, OutOfMemory

WIDTHS = {"fake": 8, "clip": 24, "dinov2-cls": 32, "dinov2-mean": 32}
CLOSE = 1e-5


@pytest.fixture(scope="module")
def encoders(request):
    """Makes encoders by name, each time a fresh one."""

    def make(name: str, **options):
        if name == "fake":
            return FakeEncoder()
        if name == "clip":
            return ClipEncoder(str(request.getfixturevalue("clip_folder")), device="cpu", **options)
        return Dinov2Encoder(str(request.getfixturevalue("dinov2_folder")), pooling=name.split("-")[1], device="cpu", **options)

    return make


@pytest.fixture(params=WIDTHS)
def name(request):
    return request.param


@pytest.fixture
def encoder(encoders, name):
    return encoders(name)


@pytest.fixture(params=["clip", "dinov2-cls"])
def real(request, encoders):
    return encoders(request.param)


@pytest.fixture(params=["fake", "clip"])
def text_encoder(request, encoders):
    return encoders(request.param)


@pytest.fixture
def pictures(noise_picture):
    return [noise_picture(seed, size) for seed, size in enumerate([(40, 32), (32, 64), (28, 28), (100, 90), (33, 47)])]


def counting(encoder, monkeypatch) -> list[int]:
    """The number of pictures in each pass through the model, as it goes on."""
    passes, original = [], encoder._encode_new

    def count(images):
        passes.append(len(images))
        return original(images)

    monkeypatch.setattr(encoder, "_encode_new", count)
    return passes


def test_features_are_rows_of_unit_length(encoder, name, pictures):
    features = encoder.encode(pictures)
    assert features.shape == (5, WIDTHS[name])
    assert features.dtype == np.float32
    assert np.linalg.norm(features, axis=1) == pytest.approx(np.ones(5), abs=CLOSE)


def test_features_come_in_the_order_of_the_pictures(encoder, pictures):
    forward, backward = encoder.encode(pictures), encoder.encode(pictures[::-1])
    assert forward == pytest.approx(backward[::-1], abs=CLOSE)
    assert len({row.tobytes() for row in forward}) == 5


@pytest.mark.parametrize("size", [1, 2, 32])
def test_features_do_not_depend_on_the_batch(encoders, pictures, size):
    for name in ("clip", "dinov2-cls", "dinov2-mean"):
        together = encoders(name, batch_size=size).encode(pictures)
        alone = np.concatenate([encoders(name).encode([picture]) for picture in pictures])
        assert together == pytest.approx(alone, abs=CLOSE)


def test_no_pictures_give_no_rows_of_the_right_width(encoder, name):
    assert encoder.encode([]).shape == (0, WIDTHS[name])
    assert encoder.encode([]).dtype == np.float32


@pytest.mark.parametrize(
    ("trouble", "kind"), [(RuntimeError("broken"), DriverError), (MemoryError(), OutOfMemory), (torch.OutOfMemoryError(), OutOfMemory)]
)
def test_what_goes_wrong_in_clip_is_an_error_of_ours(encoders, pictures, monkeypatch, trouble, kind):
    encoder = encoders("clip")

    def fail(*args, **options):
        raise trouble

    for part in (encoder._model.vision_model, encoder._model.text_model):
        monkeypatch.setattr(type(part), "forward", fail)
    for ask in (lambda: encoder.encode(pictures), lambda: encoder.encode_text(["a cat"])):
        with pytest.raises(DriverError, match="clip") as caught:
            ask()
        assert type(caught.value) is kind


def test_a_picture_seen_before_is_not_encoded_again(real, pictures, monkeypatch):
    passes = counting(real, monkeypatch)
    first = real.encode(pictures[:2])
    again = real.encode([pictures[1].copy(), pictures[2], pictures[0], pictures[2]])
    assert passes == [2, 1]
    assert np.array_equal(again[[2, 0]], first)
    assert np.array_equal(again[1], again[3])


def test_features_handed_out_may_be_changed_without_harm(real, pictures):
    first = real.encode(pictures[:1])
    expected = first.copy()
    first *= 0
    assert np.array_equal(real.encode(pictures[:1]), expected)


def test_the_batch_size_bounds_each_pass(encoders, pictures, monkeypatch):
    encoder = encoders("clip", batch_size=2)
    passes = counting(encoder, monkeypatch)
    encoder.encode(pictures)
    assert passes == [2, 2, 1]


def test_pictures_that_look_different_are_told_apart_in_any_mode(real):
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) // 8
    red, blue = (Image.fromarray(values, "L").convert("P") for _ in range(2))
    red.putpalette([channel for step in range(256) for channel in (255 - step * 20 % 256, 0, 0)])
    blue.putpalette([channel for step in range(256) for channel in (0, 0, step * 30 % 256)])
    features = real.encode([red, blue])  # one and the same indices, two palettes
    assert np.abs(features[0] - features[1]).max() > CLOSE
    assert features == pytest.approx(real.encode([red.convert("RGB"), blue.convert("RGB")]), abs=CLOSE)


def test_the_cache_forgets_the_oldest(noise_picture):
    cache, passes = FeatureCache(1, torch.device("cpu"), limit=2), []

    def encode(images):
        passes.append(len(images))
        return np.array([[image.getpixel((0, 0))[0]] for image in images], dtype=np.float32)

    images = [noise_picture(seed) for seed in range(3)]
    found = cache.encode(images, encode, 2)
    assert found.ravel().tolist() == [image.getpixel((0, 0))[0] for image in images]
    cache.encode(images[1:], encode, 2)
    assert passes == [2, 1]
    cache.encode(images[:1], encode, 2)
    assert passes == [2, 1, 1]


# ------------------------------------------------------------------------------------------------- against transformers


def test_clip_features_are_those_of_transformers(encoders, clip_folder, pictures):
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    pixels = transformers.CLIPImageProcessorPil.from_pretrained(clip_folder)(images=pictures, return_tensors="pt")
    tokens = transformers.AutoTokenizer.from_pretrained(clip_folder)(["a cat", "a dog here"], padding=True, return_tensors="pt")
    with torch.no_grad():
        output = model(**tokens, **pixels)
    encoder = encoders("clip")
    assert encoder.encode(pictures) == pytest.approx(output.image_embeds.numpy(), abs=CLOSE)
    assert encoder.encode_text(["a cat", "a dog here"]) == pytest.approx(output.text_embeds.numpy(), abs=CLOSE)


def test_texts_and_pictures_are_in_one_space(encoders, clip_folder, pictures):
    encoder = encoders("clip")
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(clip_folder)(["a cat"], return_tensors="pt")
    pixels = transformers.CLIPImageProcessorPil.from_pretrained(clip_folder)(images=pictures, return_tensors="pt")
    with torch.no_grad():
        expected = (model(**tokens, **pixels).logits_per_image / model.logit_scale.exp()).numpy()
    assert encoder.encode(pictures) @ encoder.encode_text(["a cat"]).T == pytest.approx(expected, abs=CLOSE)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_dinov2_features_are_those_of_transformers(encoders, dinov2_folder, pictures, pooling):
    model = transformers.Dinov2Model.from_pretrained(dinov2_folder).eval()
    pixels = transformers.BitImageProcessorPil.from_pretrained(dinov2_folder)(images=pictures, return_tensors="pt")
    with torch.no_grad():
        output = model(**pixels)
    rows = output.pooler_output if pooling == "cls" else output.last_hidden_state.mean(dim=1)
    expected = rows / rows.norm(dim=1, keepdim=True)
    assert encoders(f"dinov2-{pooling}").encode(pictures) == pytest.approx(expected.numpy(), abs=CLOSE)


def test_dinov2_may_see_whole_pictures_as_squares_as_dgm_eval_shows_them(dinov2_folder, noise_picture):
    picture = noise_picture(5, (90, 40))
    model = transformers.Dinov2Model.from_pretrained(dinov2_folder).eval()
    pixels = np.asarray(picture.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    process = transformers.BitImageProcessorPil.from_pretrained(dinov2_folder)
    pixels = (pixels - np.array(process.image_mean, np.float32)) / np.array(process.image_std, np.float32)
    with torch.no_grad():
        expected = model(pixel_values=torch.from_numpy(pixels).permute(2, 0, 1)[None]).last_hidden_state[0, 0]
    encoder, plain = (Dinov2Encoder(str(dinov2_folder), device="cpu", like=like) for like in ("dgm-eval", "transformers"))
    assert encoder.encode_raw([picture])[0] == pytest.approx(expected.numpy(), abs=1e-4)
    assert plain.encode_raw([picture])[0] != pytest.approx(expected.numpy(), abs=1e-3)
    assert encoder.name != plain.name


@pytest.mark.parametrize(("make", "folder"), [(ClipEncoder, "clip_folder"), (Dinov2Encoder, "dinov2_folder")])
def test_features_of_another_number_type_go_by_another_name(request, make, folder):
    halved, whole = (make(str(request.getfixturevalue(folder)), device="cpu", dtype=dtype) for dtype in ("bfloat16", "auto"))
    assert halved.name == f"{whole.name} in bfloat16"


def test_the_two_poolings_differ_and_say_so(encoders, pictures):
    cls, mean = encoders("dinov2-cls"), encoders("dinov2-mean")
    assert np.abs(cls.encode(pictures) - mean.encode(pictures)).max() > 1e-3
    assert cls.name.startswith("dinov2-cls:")
    assert mean.name.startswith("dinov2-mean:")


# ------------------------------------------------------------------------------------------------------------- raw


def test_raw_features_have_the_direction_of_the_others_and_their_own_length(encoder, name, pictures):
    raw, features = encoder.encode_raw(pictures), encoder.encode(pictures)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert raw.shape == (5, WIDTHS[name])
    assert raw.dtype == np.float32
    assert raw / lengths == pytest.approx(features, abs=CLOSE)
    assert np.abs(lengths - 1).max() > 1e-3
    assert encoder.encode_raw([]).shape == (0, WIDTHS[name])


@pytest.mark.parametrize("raw_first", [True, False])
def test_a_picture_is_encoded_once_for_raw_features_and_others(real, pictures, monkeypatch, raw_first):
    passes = counting(real, monkeypatch)
    ways = [real.encode_raw, real.encode] if raw_first else [real.encode, real.encode_raw]
    for encode in (*ways, *ways):
        encode(pictures)[:] = 0  # what is handed out may be changed
    assert passes == [5]
    assert np.linalg.norm(real.encode(pictures), axis=1) == pytest.approx(np.ones(5), abs=CLOSE)


def test_raw_clip_features_are_those_of_transformers(encoders, clip_folder, pictures):
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    pixels = transformers.CLIPImageProcessorPil.from_pretrained(clip_folder)(images=pictures, return_tensors="pt")
    with torch.no_grad():
        expected = model.visual_projection(model.vision_model(**pixels).pooler_output)
    assert encoders("clip", batch_size=2).encode_raw(pictures) == pytest.approx(expected.numpy(), abs=CLOSE)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_raw_dinov2_features_are_those_of_transformers(encoders, dinov2_folder, pictures, pooling):
    model = transformers.Dinov2Model.from_pretrained(dinov2_folder).eval()
    pixels = transformers.BitImageProcessorPil.from_pretrained(dinov2_folder)(images=pictures, return_tensors="pt")
    with torch.no_grad():
        output = model(**pixels)
    expected = output.pooler_output if pooling == "cls" else output.last_hidden_state.mean(dim=1)
    assert encoders(f"dinov2-{pooling}", batch_size=2).encode_raw(pictures) == pytest.approx(expected.numpy(), abs=CLOSE)


# ---------------------------------------------------------------------------------------------------------------- texts


def test_text_features_are_rows_of_unit_length_in_order(text_encoder, pictures):
    texts = ["a cat", "", "a dog on a roof", "日本の猫"]
    features = text_encoder.encode_text(texts)
    assert features.shape == (4, text_encoder.encode(pictures).shape[1])
    assert features.dtype == np.float32
    assert np.linalg.norm(features, axis=1) == pytest.approx(np.ones(4), abs=CLOSE)
    assert features == pytest.approx(text_encoder.encode_text(texts[::-1])[::-1], abs=CLOSE)
    assert len({row.tobytes() for row in features}) == 4


def test_no_texts_give_no_rows_of_the_right_width(text_encoder, pictures):
    assert text_encoder.encode_text([]).shape == (0, text_encoder.encode(pictures[:1]).shape[1])


@pytest.mark.parametrize("size", [1, 3])
def test_text_features_do_not_depend_on_the_batch(encoders, size):
    texts = ["a", "a cat", "a cat on a roof and much more than fits into the model", "b"]
    together = encoders("clip", batch_size=size).encode_text(texts)
    alone = np.concatenate([encoders("clip").encode_text([text]) for text in texts])
    assert together == pytest.approx(alone, abs=CLOSE)


def test_a_text_longer_than_the_limit_is_cut_and_not_refused(encoders):
    encoder = encoders("clip")
    start = "abcdefghijklmnopqr"  # 18 letters and the two marks fill the 20 places
    long, other, short = encoder.encode_text([f"{start}{'x' * 500}", f"{start}yyy", start[:-1]])
    assert long == pytest.approx(other, abs=CLOSE)
    assert np.abs(long - short).max() > CLOSE


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("kind", [ClipEncoder, Dinov2Encoder])
def test_a_folder_without_a_model_is_an_error_with_its_place(kind, tmp_path):
    with pytest.raises(DriverError, match=str(tmp_path)):
        kind(str(tmp_path), device="cpu")


@pytest.mark.parametrize(("kind", "folder"), [(ClipEncoder, "clip_folder"), (Dinov2Encoder, "dinov2_folder")])
def test_pickled_weights_are_not_opened(kind, folder, request, tmp_path):
    for path in request.getfixturevalue(folder).iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"whatever it is, it is not opened")
    with pytest.raises(DriverError, match="safetensors"):
        kind(str(tmp_path), device="cpu")
