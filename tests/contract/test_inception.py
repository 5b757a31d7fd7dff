"""Inception's features on weights by formula: numbers against torch-fidelity, and what every encoder promises."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from formulas import colours, spread_evenly
from vernissage.drivers.encode_inception import InceptionEncoder
from vernissage.errors import DriverError

WAYS = ("torch-fidelity", "pytorch-fid", "clean-fid")
CLOSE = 1e-4

# Of every convolution: channels in and out, height and width of its kernel.
SHAPES = {
    "Conv2d_1a_3x3": (3, 32, 3, 3),
    "Conv2d_2a_3x3": (32, 32, 3, 3),
    "Conv2d_2b_3x3": (32, 64, 3, 3),
    "Conv2d_3b_1x1": (64, 80, 1, 1),
    "Conv2d_4a_3x3": (80, 192, 3, 3),
}
for block, into, pooled in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
    SHAPES |= {
        f"Mixed_{block}.branch1x1": (into, 64, 1, 1),
        f"Mixed_{block}.branch5x5_1": (into, 48, 1, 1),
        f"Mixed_{block}.branch5x5_2": (48, 64, 5, 5),
        f"Mixed_{block}.branch3x3dbl_1": (into, 64, 1, 1),
        f"Mixed_{block}.branch3x3dbl_2": (64, 96, 3, 3),
        f"Mixed_{block}.branch3x3dbl_3": (96, 96, 3, 3),
        f"Mixed_{block}.branch_pool": (into, pooled, 1, 1),
    }
SHAPES |= {
    "Mixed_6a.branch3x3": (288, 384, 3, 3),
    "Mixed_6a.branch3x3dbl_1": (288, 64, 1, 1),
    "Mixed_6a.branch3x3dbl_2": (64, 96, 3, 3),
    "Mixed_6a.branch3x3dbl_3": (96, 96, 3, 3),
}
for block, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
    SHAPES |= {
        f"Mixed_{block}.branch1x1": (768, 192, 1, 1),
        f"Mixed_{block}.branch7x7_1": (768, inner, 1, 1),
        f"Mixed_{block}.branch7x7_2": (inner, inner, 1, 7),
        f"Mixed_{block}.branch7x7_3": (inner, 192, 7, 1),
        f"Mixed_{block}.branch7x7dbl_1": (768, inner, 1, 1),
        f"Mixed_{block}.branch7x7dbl_2": (inner, inner, 7, 1),
        f"Mixed_{block}.branch7x7dbl_3": (inner, inner, 1, 7),
        f"Mixed_{block}.branch7x7dbl_4": (inner, inner, 7, 1),
        f"Mixed_{block}.branch7x7dbl_5": (inner, 192, 1, 7),
        f"Mixed_{block}.branch_pool": (768, 192, 1, 1),
    }
SHAPES |= {
    "Mixed_7a.branch3x3_1": (768, 192, 1, 1),
    "Mixed_7a.branch3x3_2": (192, 320, 3, 3),
    "Mixed_7a.branch7x7x3_1": (768, 192, 1, 1),
    "Mixed_7a.branch7x7x3_2": (192, 192, 1, 7),
    "Mixed_7a.branch7x7x3_3": (192, 192, 7, 1),
    "Mixed_7a.branch7x7x3_4": (192, 192, 3, 3),
}
for block, into in (("7b", 1280), ("7c", 2048)):
    SHAPES |= {
        f"Mixed_{block}.branch1x1": (into, 320, 1, 1),
        f"Mixed_{block}.branch3x3_1": (into, 384, 1, 1),
        f"Mixed_{block}.branch3x3_2a": (384, 384, 1, 3),
        f"Mixed_{block}.branch3x3_2b": (384, 384, 3, 1),
        f"Mixed_{block}.branch3x3dbl_1": (into, 448, 1, 1),
        f"Mixed_{block}.branch3x3dbl_2": (448, 384, 3, 3),
        f"Mixed_{block}.branch3x3dbl_3a": (384, 384, 1, 3),
        f"Mixed_{block}.branch3x3dbl_3b": (384, 384, 3, 1),
        f"Mixed_{block}.branch_pool": (into, 192, 1, 1),
    }


def weights() -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of pt_inception-2015-12-05; numbers stay of one size from layer to layer."""
    found = {}
    for name, (into, out, height, width) in SHAPES.items():
        found |= {
            f"{name}.conv.weight": spread_evenly(name, (out, into, height, width), (6 / (into * height * width)) ** 0.5),
            f"{name}.bn.weight": 1 + spread_evenly(f"{name} w", (out,), 0.2),
            f"{name}.bn.bias": spread_evenly(f"{name} b", (out,), 0.1),
            f"{name}.bn.running_mean": spread_evenly(f"{name} m", (out,), 0.1),
            f"{name}.bn.running_var": 1 + spread_evenly(f"{name} v", (out,), 0.5),
            f"{name}.bn.num_batches_tracked": np.array(0),
        }
    found |= {"fc.weight": spread_evenly("fc", (1008, 2048), 0.05), "fc.bias": spread_evenly("fc b", (1008,), 0.1)}
    return {name: torch.from_numpy(numbers) for name, numbers in found.items()}


@pytest.fixture(scope="module")
def tensors():
    return weights()


@pytest.fixture(scope="module")
def checkpoint(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "pt_inception-2015-12-05.pth"
    torch.save(tensors, path)
    yield path
    path.unlink()  # it is large


@pytest.fixture(scope="module")
def encoders(checkpoint):
    """By whose scaling they follow; they remember what they have seen."""
    return {way: InceptionEncoder(str(checkpoint), like=way, device="cpu", batch_size=2) for way in WAYS}


@pytest.fixture
def encoder(encoders):
    return encoders["torch-fidelity"]


@pytest.fixture(scope="module")
def pictures():
    return [colours(96, 64), colours(333, 400), colours(64, 96)]


# torch-fidelity 0.4.0's FeatureExtractorInceptionV3 with the state dict of weights(), one picture at a time: mean and spread of "2048",
# its entries at PLACES, and the highest of the softmax of "logits_unbiased" in float64. For the other two its scaling was exchanged
# for theirs: as in pytorch-fid 0.3.0 F.interpolate of values 0 to 1 without aligned corners and 2 * x - 1; as clean-fid does it,
# Pillow's bicubic resize of each channel in mode F, clipped to 0 to 255.
PLACES = [0, 100, 400, 800, 1000, 1500, 1900, 2047]
# fmt: off
GOLDEN = {
    ("torch-fidelity", 0): (1.2772767, 1.7609463,
        [2.7406421, 4.7597942, 0.14153674, 0.083729424, 0.013876807, 0.54747146, 0.019502204, 4.4430699], 0.33629792),
    ("torch-fidelity", 1): (1.5152655, 2.0919735,
        [3.3550215, 5.5702, 0.19469772, 0.077636145, 0.035187881, 0.76992095, 0.098935246, 4.8498764], 0.49495435),
    ("pytorch-fid", 0): (1.2861318, 1.7729849,
        [2.8016124, 4.8095117, 0.15154716, 0.081079237, 0.019266317, 0.56561691, 0.017713303, 4.4251575], 0.34261127),
    ("pytorch-fid", 1): (1.5206296, 2.0992911,
        [3.3420205, 5.5862379, 0.19310452, 0.085041702, 0.03225914, 0.78416932, 0.097931124, 4.8862572], 0.50176498),
    ("clean-fid", 0): (1.3485305, 1.8589027,
        [2.9010739, 5.0111628, 0.16201164, 0.081387483, 0.021577425, 0.61394364, 0.029484395, 4.6535859], 0.38193355),
    ("clean-fid", 1): (1.5169269, 2.0941388,
        [3.3275626, 5.5642581, 0.20726635, 0.081488483, 0.032180965, 0.77431667, 0.10017657, 4.9072485], 0.50089895),
}
# fmt: on


@pytest.mark.parametrize(("way", "number"), GOLDEN)
def test_features_and_probabilities_are_those_of_torch_fidelity(encoders, pictures, way, number):
    mean, spread, entries, highest = GOLDEN[way, number]
    features = encoders[way].encode_raw([pictures[number]])
    assert features.shape == (1, 2048)
    assert features.dtype == np.float32
    assert features.mean() == pytest.approx(mean, rel=CLOSE)
    assert features.std() == pytest.approx(spread, rel=CLOSE)
    assert features[0, PLACES] == pytest.approx(np.array(entries), rel=CLOSE)
    probabilities = encoders[way].probabilities(features)
    assert probabilities.max() == pytest.approx(highest, rel=CLOSE)
    assert probabilities.argmax() == 47


def test_the_three_ways_of_scaling_differ_and_say_so(encoders, pictures):
    found = [encoders[way].encode_raw(pictures[:1]) for way in WAYS]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(found[one] - found[other]).max() > 0.05
    assert [encoders[way].name.split()[:3] for way in WAYS] == [["inception:pt_inception-2015-12-05.pth", "like", way] for way in WAYS]


@pytest.mark.parametrize("way", ["torch-fidelity", "clean-fid"])
def test_one_pixel_is_a_picture_of_its_colour(encoders, way):
    pixel = Image.new("RGB", (1, 1), (200, 90, 30))
    one, other = encoders[way].encode_raw([pixel, Image.new("RGB", (299, 299), (200, 90, 30))])
    assert one == pytest.approx(other, rel=CLOSE, abs=1e-5)


def test_features_do_not_depend_on_the_batch_or_the_order(checkpoint, encoder, pictures):
    together = InceptionEncoder(str(checkpoint), device="cpu", batch_size=3).encode_raw(pictures[::-1])[::-1]
    alone = np.concatenate([encoder.encode_raw([picture]) for picture in pictures])
    assert together == pytest.approx(alone, rel=CLOSE, abs=1e-5)
    assert len({row.round(3).tobytes() for row in alone}) == 3


def test_each_picture_is_encoded_once_and_in_batches(encoders, monkeypatch):
    encoder, passes = encoders["pytorch-fid"], []
    monkeypatch.setattr(encoder, "_encode_new", lambda images: passes.append(len(images)) or np.ones((len(images), 2048), np.float32))
    seen = [colours(10 + number, 10) for number in range(3)]
    encoder.encode_raw(seen)
    encoder.encode([seen[1], colours(20, 20), seen[0]])
    assert passes == [2, 1, 1]


def test_features_have_unit_length_or_their_own(encoder, pictures):
    raw, features = encoder.encode_raw(pictures), encoder.encode(pictures)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert features == pytest.approx(raw / lengths, abs=1e-6)
    assert lengths.min() > 2
    assert (raw >= 0).all()


def test_no_pictures_give_no_rows(encoder):
    for rows, width in ((encoder.encode_raw([]), 2048), (encoder.encode([]), 2048), (encoder.probabilities(encoder.encode_raw([])), 1008)):
        assert rows.shape == (0, width)


def test_probabilities_are_of_1008_classes_sum_to_one_and_leave_the_bias_out(encoder, tensors, pictures):
    features = encoder.encode_raw(pictures)
    found = encoder.probabilities(features)
    assert found.shape == (3, 1008)
    assert found.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-12)
    logits = features.astype(float) @ tensors["fc.weight"].numpy().astype(float).T
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_the_same_as_safetensors_gives_the_same(encoder, tensors, pictures, tmp_path):
    path = tmp_path / "inception.safetensors"
    save_file(tensors, path)
    other = InceptionEncoder(str(path), device="cpu")
    path.unlink()
    assert np.array_equal(other.encode_raw(pictures[:1]), encoder.encode_raw(pictures[:1]))
    assert other.name == encoder.name.replace("pt_inception-2015-12-05.pth", "inception.safetensors")


@pytest.mark.parametrize("way", WAYS)
def test_pictures_of_any_mode_are_their_rgb(encoders, way):
    base = colours(40, 30)
    faint = base.copy()
    faint.putalpha(Image.new("L", base.size, 40))
    for picture in (base.convert("L"), base.convert("P", palette=Image.Palette.ADAPTIVE), faint, base.convert("CMYK"), base.convert("1")):
        one, other = encoders[way].encode_raw([picture]), encoders[way].encode_raw([picture.convert("RGB")])
        assert np.array_equal(one, other)
    grey, colour = encoders[way].encode_raw([base.convert("L"), base])
    assert np.abs(grey - colour).max() > 0.05


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [(1, 1), (3000, 20), (1, 700), (299, 299)])
def test_pictures_of_any_size_have_features(encoders, way, size):
    (features,) = encoders[way].encode_raw([colours(*size)])
    assert np.isfinite(features).all()
    assert features.std() > 0.5


# Of torch-fidelity 0.4.0 as above: mean and spread of "2048".
@pytest.mark.parametrize(
    ("way", "size", "mean", "spread"),
    [
        ("torch-fidelity", (1, 1), 1.120561, 1.5425771),
        ("torch-fidelity", (3000, 20), 1.8758718, 2.5809599),
        ("pytorch-fid", (1, 1), 1.1304298, 1.5562037),
        ("pytorch-fid", (3000, 20), 1.8775135, 2.5837633),
        ("clean-fid", (1, 1), 1.120561, 1.5425771),
        ("clean-fid", (3000, 20), 1.7770975, 2.446361),
    ],
)
def test_features_of_odd_sizes_are_those_of_torch_fidelity(encoders, way, size, mean, spread):
    features = encoders[way].encode_raw([colours(*size)])
    assert (features.mean(), features.std()) == pytest.approx((mean, spread), rel=CLOSE)


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("way", ["", "tensorflow", "Clean-FID", None])
def test_another_way_of_scaling_is_refused_before_anything_is_read(tmp_path, way):
    with pytest.raises(DriverError, match="choose torch-fidelity, pytorch-fid or clean-fid"):
        InceptionEncoder(str(tmp_path / "none.pth"), like=way, device="cpu")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"no such thing " * 40, b"<!DOCTYPE html><html>Not found</html>", b"PK\x03\x04" + b"\x00" * 200])
def test_what_is_no_checkpoint_is_named(tmp_path, suffix, content):
    path = tmp_path / f"odd.{suffix}"
    path.write_bytes(content)
    with pytest.raises(DriverError, match=f"Inception cannot be read from {re.escape(str(path))}"):
        InceptionEncoder(str(path), device="cpu")


def test_weights_that_are_not_there_are_named(tmp_path):
    for name in ("none.pth", "none.safetensors", "no/such/folder.pth", ""):
        with pytest.raises(DriverError, match=f"Inception cannot be read from {re.escape(str(tmp_path / name))}"):
            InceptionEncoder(str(tmp_path / name), device="cpu")


@pytest.mark.parametrize("part", [0.001, 0.5, 0.999])
def test_a_download_that_broke_off_is_no_checkpoint(tensors, tmp_path, part):
    few = {name: tensor for name, tensor in tensors.items() if name.startswith("Conv2d")}
    torch.save(few, tmp_path / "few.pth")
    save_file(few, tmp_path / "few.safetensors")
    for path in (tmp_path / "few.pth", tmp_path / "few.safetensors"):
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
        with pytest.raises(DriverError, match="Inception cannot be read"):
            InceptionEncoder(str(path), device="cpu")


@pytest.mark.parametrize(
    "thing",
    [
        [torch.zeros(2)],
        torch.zeros(2),
        torch.nn.Linear(2, 2),
        {1: torch.zeros(2)},
        {"Conv2d_1a_3x3.conv.weight": 1.0},
        {"features.0.weight": torch.zeros(64, 3, 11, 11)},
        {f"{name}.{part}": 1.0 for name in SHAPES for part in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")},
    ],
    ids=["a list", "a tensor", "a module", "numbers for names", "a number", "another model", "numbers"],
)
def test_a_checkpoint_of_something_else_is_no_inception(tmp_path, thing):
    torch.save(thing, tmp_path / "other.pth")
    with pytest.raises(DriverError, match="Inception cannot be read"):
        InceptionEncoder(str(tmp_path / "other.pth"), device="cpu")


def changed(tensors, folder, pictures, **change):
    """The features of pictures with a changed checkpoint."""
    torch.save(tensors | {name.replace("__", "."): tensor for name, tensor in change.items()}, folder / "changed.pth")
    try:
        return InceptionEncoder(str(folder / "changed.pth"), device="cpu").encode_raw(pictures)
    finally:
        (folder / "changed.pth").unlink()


def test_a_normalisation_of_another_width_is_refused(tensors, tmp_path, pictures):
    with pytest.raises(DriverError, match=r"changed\.pth"):
        changed(tensors, tmp_path, pictures[:1], Conv2d_1a_3x3__bn__bias=torch.zeros(31))


@pytest.mark.parametrize("shape", [(320, 100, 1, 1), (300, 2048, 1, 1)])
def test_a_convolution_of_another_width_is_refused(tensors, tmp_path, pictures, shape):
    change = {"Mixed_7c__branch1x1__conv__weight": torch.zeros(shape)}
    change |= {f"Mixed_7c__branch1x1__bn__{part}": torch.ones(shape[0]) for part in ("weight", "bias", "running_mean", "running_var")}
    with pytest.raises(DriverError, match=r"changed\.pth"):
        changed(tensors, tmp_path, pictures[:1], **change)


def test_the_inception_of_torchvision_is_refused_by_its_thousand_classes(tensors, tmp_path, pictures):
    with pytest.raises(DriverError, match="1000"):
        changed(tensors, tmp_path, pictures[:1], fc__weight=torch.zeros(1000, 2048), fc__bias=torch.zeros(1000))


def test_a_checkpoint_without_classes_is_refused(tensors, tmp_path):
    torch.save({name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}, tmp_path / "few.pth")
    with pytest.raises(DriverError, match=r"few\.pth"):
        InceptionEncoder(str(tmp_path / "few.pth"), device="cpu")
    (tmp_path / "few.pth").unlink()
