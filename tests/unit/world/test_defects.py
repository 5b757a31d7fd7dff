"""Pictures spoiled on purpose: by how much, and that the seed decides where."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vernissage.world.defects import DEFECTS, STRONGEST, spoil

STRENGTHS = range(1, STRONGEST + 1)


def picture(side: int = 128) -> Image.Image:
    """Shapes on a gradient, the same at every size."""
    rows = np.linspace(40, 200, side)[:, None, None]
    image = Image.fromarray(np.broadcast_to(rows, (side, side, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((side * 0.1, side * 0.2, side * 0.5, side * 0.6), fill="red")
    draw.rectangle((side * 0.6, side * 0.3, side * 0.9, side * 0.8), fill="yellow")
    draw.polygon([(side * 0.2, side * 0.9), (side * 0.5, side * 0.7), (side * 0.4, side * 0.95)], fill="blue")
    return image


def error(spoiled: Image.Image, image: Image.Image) -> float:
    return float(np.abs(np.asarray(spoiled, dtype=float) - np.asarray(image, dtype=float)).mean())


@pytest.mark.parametrize("defect", DEFECTS)
def test_strength_zero_leaves_the_picture_as_it_is(defect):
    image = picture()
    assert spoil(image, defect, 0, seed=3).tobytes() == image.tobytes()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("defect", DEFECTS)
def test_the_error_grows_with_the_strength(defect, seed):
    image = picture()
    errors = [error(spoil(image, defect, strength, seed=seed), image) for strength in range(STRONGEST + 1)]
    assert errors[0] == 0
    assert errors[1] > 1
    assert np.diff(errors).min() > 0


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("defect", ["noise", "warp"])
def test_the_seed_decides_where_noise_and_waves_are(defect, strength):
    image = picture()
    assert spoil(image, defect, strength, seed=5).tobytes() == spoil(image, defect, strength, seed=5).tobytes()
    assert spoil(image, defect, strength, seed=5).tobytes() != spoil(image, defect, strength, seed=6).tobytes()


def test_noise_is_as_wide_as_stated():
    grey = Image.new("RGB", (128, 128), (128, 128, 128))
    for strength in (1, 2):  # beyond, much of it is clipped
        differences = np.asarray(spoil(grey, "noise", strength), dtype=float) - 128
        assert differences.std() == pytest.approx(16 * strength, rel=0.02)
        assert abs(differences.mean()) < 1


def test_a_blurred_picture_keeps_its_mean_and_a_warped_one_its_colours():
    image = picture()
    for strength in STRENGTHS:
        assert np.asarray(spoil(image, "blur", strength)).mean() == pytest.approx(np.asarray(image).mean(), abs=2)
        colours = {colour for _, colour in image.getcolors(1 << 16)}
        assert {colour for _, colour in spoil(image, "warp", strength).getcolors(1 << 16)} <= colours


@pytest.mark.parametrize("defect", ["blur", "warp"])
def test_strengths_are_alike_at_every_size(defect):
    small = error(spoil(picture(64), defect, 2), picture(64))
    large = error(spoil(picture(256), defect, 2), picture(256))
    assert large == pytest.approx(small, rel=0.35)


@pytest.mark.parametrize("defect", DEFECTS)
def test_oblong_and_tiny_pictures_keep_their_size_and_mode(defect):
    for size in ((96, 40), (1, 1), (3, 200)):
        image = Image.new("RGB", size, "teal")
        spoiled = spoil(image, defect, STRONGEST)
        assert (spoiled.size, spoiled.mode) == (size, "RGB")
    assert image.getpixel((0, 0)) == (0, 128, 128)  # the picture given is not touched
