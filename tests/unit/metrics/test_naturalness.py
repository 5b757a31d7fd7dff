"""NIQE and BRISQUE against piq, scikit-video and scikit-learn, and what they say of pictures that were spoilt."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from formulas import grey, spread_evenly
from vernissage.errors import BadInput
from vernissage.metrics.naturalness import (
    BLOCK,
    FEATURES,
    Pristine,
    Regression,
    brisque,
    brisque_features,
    fit_pristine,
    half,
    niqe,
    niqe_features,
)

# fmt: off
# piq 0.8.0 on grey(120, 160) in float64: piq.brisque._natural_scene_statistics(x, 7, 7 / 6) of x and of
# piq.functional.imresize(x, sizes=(60, 80)), one after the other.
PIQ_FEATURES = [
    4.998, 0.504859634108, 1.136, -0.0152134236876, 0.253429094305, 0.232838548432, 1.138, -0.0300895016335, 0.265096475087,
    0.224283876727, 1.096, -0.0520154655333, 0.289370822836, 0.217117222499, 1.107, 0.0232056919071, 0.231043612018, 0.262868971123,
    2.46, 0.271811480956, 0.856, 0.128129942738, 0.0246472020895, 0.119734922466, 0.882, 0.0928907004217, 0.0348800896298,
    0.104083227553, 0.954, 0.0522345645422, 0.0412740995524, 0.0772443295266, 0.88, 0.101131037241, 0.0314802583028, 0.105906024017,
]

# piq 0.8.0: piq.functional.imresize(x, scale=0.5) of grey(12, 10) and of grey(7, 9), row by row.
PIQ_HALVES = {
    (12, 10): [
        128.117721558, 132.521453857, 132.371704102, 133.579040527, 147.076095581, 140.080566406, 144.610977173, 152.285232544,
        147.033004761, 147.964828491, 149.584442139, 156.944396973, 166.682220459, 159.734634399, 157.57383728, 150.808563232,
        156.647171021, 173.335418701, 177.041366577, 171.770996094, 143.942245483, 156.377151489, 171.70916748, 179.16456604,
        181.920150757, 136.093414307, 147.603927612, 160.467819214, 174.85559082, 172.602294922,
    ],
    (7, 9): [
        130.129760742, 132.002258301, 128.084899902, 139.861572266, 141.651611328, 141.37727356, 142.168029785, 150.932632446,
        151.715408325, 146.230499268, 148.51121521, 158.176391602, 161.438201904, 163.823776245, 175.147705078, 151.752563477,
        160.861328125, 164.584625244, 190.686767578, 161.284118652,
    ],
}

# scikit-video 1.1.10 on the two blocks of grey(96, 192): _niqe_extract_subband_feats of what compute_image_mscn_transform makes with
# extend_mode="nearest", its float32 made float64; the half scale is piq's imresize. It repeats the left spread of both diagonals
# (entries 13 and 17 of each scale): in their place stands the right spread that its aggd_features gives.
SCIKIT_VIDEO_FEATURES = [
    [
        4.772, 1.17090079317, 1.106, -0.017766882392, 0.372740557573, 0.352467820832, 1.14, -0.0170764726338, 0.384086946963,
        0.363898503203, 1.076, -0.0142567748331, 0.358634001041, 0.342907546655, 1.092, 0.0154501122182, 0.349909521767, 0.367268004147,
        2.427, 0.766007056355, 0.837, 0.137801622744, 0.0632813907288, 0.165996027356, 0.833, 0.106291030127, 0.0803826682953,
        0.158889179346, 0.886, 0.0390106433989, 0.114806254621, 0.147049497843, 0.859, 0.104261990311, 0.0811855222536, 0.162745848937,
    ],
    [
        5.265, 1.36531593342, 1.223, 0.0158545338316, 0.522048393547, 0.5422636033, 1.188, -0.0631043008857, 0.560618085911,
        0.482544566487, 1.148, -0.0914978680808, 0.561278648416, 0.452244712966, 1.154, 0.0193516931647, 0.499299951334, 0.522495883061,
        2.121, 0.769063223544, 0.765, 0.142489439217, 0.0616427987865, 0.150022862303, 0.803, 0.0689032146729, 0.0947625730101,
        0.142103228773, 0.761, 0.0677714872638, 0.0854987189658, 0.127052281548, 0.828, 0.0553891990901, 0.10418323364, 0.144622460173,
    ],
]
# fmt: on


def fractal(seed: int, side: int = 288, power: float = 1.4) -> np.ndarray:
    """Noise with the falling spectrum of photographs, with a sharp edge or two in it."""
    rng = np.random.default_rng(seed)
    falling = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    falling[0, 0] = 1
    waves = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(side, side))) / falling**power, s=(side, side))
    steps = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(side, side))) / falling**2, s=(side, side))
    waves = waves / waves.std() + np.where(steps > 0, 0.7, -0.7)
    return np.round(128 + 45 * waves).clip(0, 255)


def blurred(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image.astype(np.uint8)).filter(ImageFilter.GaussianBlur(2)), dtype=float)


def noisy(image: np.ndarray) -> np.ndarray:
    return np.round(image + 25 * np.random.default_rng(0).normal(size=image.shape)).clip(0, 255)


def in_squares(image: np.ndarray) -> np.ndarray:
    """As strong compression leaves it."""
    return np.kron(image[4::8, 4::8], np.ones((8, 8)))


@pytest.fixture(scope="module")
def pristine():
    return fit_pristine([fractal(seed) for seed in range(8)])


# ------------------------------------------------------------------------------------------------------- other tools


def test_brisques_features_are_those_of_piq():
    assert brisque_features(grey(120, 160)) == pytest.approx(np.array(PIQ_FEATURES), abs=1e-6)


def test_niqes_features_are_those_of_scikit_video():
    assert niqe_features(grey(96, 192)) == pytest.approx(np.array(SCIKIT_VIDEO_FEATURES), abs=1e-6)


@pytest.mark.parametrize("size", PIQ_HALVES)
def test_half_an_image_is_that_of_piq_for_even_and_odd_sizes(size):
    expected = np.array(PIQ_HALVES[size]).reshape(-(-size[0] // 2), -(-size[1] // 2))
    assert half(grey(*size)) == pytest.approx(expected, abs=1e-6)


def test_half_an_image_is_that_of_pillow_away_from_the_edges():
    image = grey(60, 44)
    expected = np.asarray(Image.fromarray(image.astype(np.float32)).resize((22, 30), Image.Resampling.BICUBIC))
    assert half(image)[2:-2, 2:-2] == pytest.approx(expected[2:-2, 2:-2], abs=1e-3)


# ------------------------------------------------------------------------------------------------------------- half


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 3), (5, 5), (16, 31)])
def test_half_of_one_brightness_is_that_brightness_at_half_the_size_rounded_up(shape):
    assert half(np.full(shape, 7.5)) == pytest.approx(np.full((-(-shape[0] // 2), -(-shape[1] // 2)), 7.5))


def test_half_keeps_slopes_and_turns_with_the_image():
    slope = 3.0 * np.arange(40)[None] + 2.0 * np.arange(30)[:, None]
    expected = 3 * (2 * np.arange(20)[None] + 0.5) + 2 * (2 * np.arange(15)[:, None] + 0.5)
    assert half(slope)[2:-2, 2:-2] == pytest.approx(expected[2:-2, 2:-2])
    image = grey(24, 18)
    assert half(image[::-1]) == pytest.approx(half(image)[::-1])
    assert half(image.T) == pytest.approx(half(image).T)


def test_half_leaves_the_image_itself_as_it_was():
    image = grey(20, 20)
    before = image.copy()
    half(image)
    brisque_features(image)
    assert np.array_equal(image, before)


# --------------------------------------------------------------------------------------------------------- features


def order(groups: list[int]) -> list[int]:
    """Places of the features when products across (0), down (1) and along both diagonals (2, 3) are taken in another order."""
    one = [0, 1, *(2 + 4 * group + part for group in groups for part in range(4))]
    return one + [place + FEATURES // 2 for place in one]


def test_features_of_a_mirrored_or_turned_picture_are_the_same_for_other_neighbours():
    image = grey(64, 64)
    features = brisque_features(image)
    assert brisque_features(image[:, ::-1]) == pytest.approx(features[order([0, 1, 3, 2])], abs=1e-9)
    assert brisque_features(image[::-1]) == pytest.approx(features[order([0, 1, 3, 2])], abs=1e-9)
    assert brisque_features(image.T) == pytest.approx(features[order([1, 0, 2, 3])], abs=1e-9)


def test_niqes_blocks_go_row_by_row_and_what_does_not_fill_a_block_is_left_out():
    image = grey(2 * BLOCK + 40, 3 * BLOCK + 95)
    features = niqe_features(image)
    assert features.shape == (6, FEATURES)
    assert np.array_equal(features, niqe_features(image[: 2 * BLOCK, : 3 * BLOCK]))
    mirrored = niqe_features(image[: 2 * BLOCK, : 3 * BLOCK][:, ::-1])
    assert mirrored == pytest.approx(features[[2, 1, 0, 5, 4, 3]][:, order([0, 1, 3, 2])], abs=1e-9)


def test_niqes_features_do_not_hang_on_how_light_a_picture_is():
    image = grey(BLOCK, 2 * BLOCK) / 2
    assert niqe_features(image + 90) == pytest.approx(niqe_features(image), abs=1e-6)


def test_bytes_and_floats_give_the_same_features():
    image = grey(BLOCK, 2 * BLOCK)
    as_bytes = image.astype(np.uint8)
    assert np.array_equal(niqe_features(as_bytes), niqe_features(image))
    assert np.array_equal(brisque_features(as_bytes), brisque_features(image))


def test_pictures_that_are_too_small_are_refused():
    with pytest.raises(BadInput, match="at least 16 pixels a side, not 40 x 15"):
        brisque_features(grey(15, 40))
    assert np.isfinite(brisque_features(grey(16, 16))).all()
    for size in ((BLOCK, BLOCK), (2 * BLOCK - 1, 2 * BLOCK - 1), (BLOCK - 1, 900), (0, 500)):
        with pytest.raises(BadInput, match="two blocks of 96 pixels"):
            niqe_features(grey(*size))


@pytest.mark.parametrize("brightness", [0, 7, 128, 255])
def test_a_flat_picture_is_refused_whatever_its_brightness(brightness, pristine):
    flat = np.full((BLOCK, 2 * BLOCK), float(brightness))
    with pytest.raises(BadInput, match="no contrast"):
        brisque_features(flat)  # though zeros are taken around it
    assert np.isnan(niqe_features(flat)).all()
    with pytest.raises(BadInput, match="no two blocks"):
        niqe(flat, pristine)


def test_blocks_without_contrast_do_not_count(pristine):
    image = fractal(30, 5 * BLOCK)
    image[BLOCK : 4 * BLOCK, BLOCK : 4 * BLOCK] = 100
    features = niqe_features(image)
    measured = np.isfinite(features)
    assert not measured[12].any()  # the block in the middle sees nothing else
    assert not measured[17].all()  # an edge that is all light, below: its products are never negative
    assert measured[17].any()
    whole = measured.all(axis=1)
    assert np.flatnonzero(~whole).tolist() == [12, 17]
    # As with Matlab's nanmean and nancov: what can be measured counts in the mean, only whole blocks in the covariance.
    apart = pristine.mean - np.array([features[measured[:, place], place].mean() for place in range(FEATURES)])
    spread = np.linalg.pinv((pristine.covariance + np.cov(features[whole].T)) / 2)
    assert niqe(image, pristine) == pytest.approx(np.sqrt(apart @ spread @ apart), rel=1e-9)


def test_one_block_with_contrast_is_too_few(pristine):
    image = np.full((BLOCK, 4 * BLOCK), 100.0)
    image[:, : BLOCK - 8] = grey(BLOCK, BLOCK - 8)
    assert np.isfinite(niqe_features(image)).all(axis=1).tolist() == [True, False, False, False]
    with pytest.raises(BadInput, match="no two blocks"):
        niqe(image, pristine)


# ------------------------------------------------------------------------------------------------------------- NIQE


def test_niqe_is_the_distance_of_means_by_the_mean_of_the_covariances():
    rng = np.random.default_rng(5)
    root = rng.normal(size=(FEATURES, FEATURES))
    model = Pristine(rng.normal(size=FEATURES), root @ root.T + np.eye(FEATURES))
    features = niqe_features(grey(2 * BLOCK, 3 * BLOCK))
    apart = features.mean(axis=0) - model.mean
    middle = features - features.mean(axis=0)
    covariance = (model.covariance + middle.T @ middle / (len(features) - 1)) / 2
    assert niqe(grey(2 * BLOCK, 3 * BLOCK), model) == pytest.approx(np.sqrt(apart @ np.linalg.solve(covariance, apart)), rel=1e-6)


def test_a_picture_with_the_statistics_of_the_pristine_is_no_distance_away():
    features = niqe_features(fractal(31))
    model = Pristine(features.mean(axis=0), np.cov(features.T))
    assert niqe(fractal(31), model) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("spoil", [blurred, noisy, in_squares])
def test_spoilt_pictures_are_farther_from_pristine_ones_than_they_were(pristine, spoil):
    for seed in range(40, 45):
        image = fractal(seed)
        assert niqe(spoil(image), pristine) > 3 * niqe(image, pristine)


def test_more_noise_and_more_blur_are_farther_away(pristine):
    image = fractal(50)
    once, twice = noisy(image), noisy(noisy(image).astype(float))
    assert niqe(image, pristine) < niqe(once, pristine) < niqe(twice, pristine)
    once, twice = blurred(image), blurred(blurred(blurred(image)))
    assert niqe(image, pristine) < niqe(once, pristine) < niqe(twice, pristine)


def test_pristine_pictures_are_learned_from_their_sharp_blocks():
    images = [np.concatenate([fractal(seed, 2 * BLOCK), blurred(fractal(seed, 2 * BLOCK))], axis=1) for seed in range(60, 71)]
    sharp = np.concatenate([niqe_features(image).reshape(2, 4, FEATURES)[:, :2].reshape(-1, FEATURES) for image in images])
    found = fit_pristine(images, sharpness=0.6)
    assert len(sharp) == 44
    assert found.mean == pytest.approx(sharp.mean(axis=0))
    assert found.covariance == pytest.approx(np.cov(sharp.T))
    every = np.concatenate([niqe_features(image) for image in images])
    assert fit_pristine(images, sharpness=0).mean == pytest.approx(every.mean(axis=0))


def test_blocks_without_contrast_teach_nothing():
    image = fractal(30, 5 * BLOCK)
    image[BLOCK : 4 * BLOCK, BLOCK : 4 * BLOCK] = 100
    found = fit_pristine([image, fractal(32, 4 * BLOCK)], sharpness=-1)
    assert np.isfinite(found.mean).all()
    assert np.isfinite(found.covariance).all()


def test_too_few_sharp_blocks_are_refused():
    with pytest.raises(BadInput, match=r"^0 sharp blocks are too few"):
        fit_pristine([])
    with pytest.raises(BadInput, match=r"^36 sharp blocks are too few"):
        fit_pristine([grey(BLOCK, 36 * BLOCK)], sharpness=0)
    assert fit_pristine([grey(BLOCK, 37 * BLOCK)], sharpness=0).covariance.shape == (FEATURES, FEATURES)
    with pytest.raises(BadInput, match=r"^0 sharp blocks are too few"):
        fit_pristine([np.full((BLOCK, 40 * BLOCK), 128.0)])
    with pytest.raises(BadInput, match="two blocks"):
        fit_pristine([fractal(1), grey(50, 50)])


# ---------------------------------------------------------------------------------------------------------- BRISQUE


def a_regression(vectors: int = 12) -> Regression:
    low, high = np.array(PIQ_FEATURES) - 0.4, np.array(PIQ_FEATURES) + 1.1
    return Regression(
        low, high, spread_evenly("vectors", (vectors, FEATURES)).astype(float), 30 * spread_evenly("weights", (vectors,)), 0.05, -41.5
    )


def test_brisque_is_the_sum_of_its_vectors_by_how_near_they_are():
    model, image = a_regression(), grey(120, 160)
    expected = 0.0
    for weight, vector in zip(model.weights, model.vectors, strict=True):
        distance = 0.0
        for value, low, high, other in zip(brisque_features(image), model.low, model.high, vector, strict=True):
            distance += (-1 + 2 * (value - low) / (high - low) - other) ** 2
        expected += weight * np.exp(-model.gamma * distance)
    assert brisque(image, model) == pytest.approx(expected + 41.5, rel=1e-9)


def test_a_picture_far_from_all_vectors_gets_the_constant():
    model = a_regression()._replace(vectors=np.full((12, FEATURES), 1000.0))
    assert brisque(grey(40, 40), model) == pytest.approx(41.5)


def test_brisque_refuses_what_it_cannot_measure():
    with pytest.raises(BadInput, match="no contrast"):
        brisque(np.zeros((50, 50)), a_regression())
    with pytest.raises(BadInput, match="at least 16"):
        brisque(grey(10, 10), a_regression())
