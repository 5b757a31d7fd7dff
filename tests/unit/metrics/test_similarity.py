"""SSIM and PSNR against scikit-image."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vernissage.errors import BadInput
from vernissage.metrics.similarity import psnr, ssim


@pytest.mark.parametrize("shape", [(11, 40), (64, 48), (32, 32, 3), (37, 91, 3)])
def test_ssim_is_that_of_scikit_image(shape):
    rng = np.random.default_rng(len(shape))
    first = rng.integers(0, 256, size=shape)
    second = np.clip(first + rng.normal(0, 30, size=shape), 0, 255)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected = structural_similarity(first.astype(float), second, channel_axis=-1 if len(shape) == 3 else None, **options)
    assert ssim(first, second) == pytest.approx(expected, abs=1e-12)


def test_ssim_of_pictures_of_different_or_tiny_size_is_refused():
    with pytest.raises(BadInput, match="one size"):
        ssim(np.zeros((20, 20)), np.zeros((20, 21)))
    with pytest.raises(BadInput, match="at least 11"):
        ssim(np.zeros((10, 20)), np.zeros((10, 20)))


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (64, 48), (32, 32, 3), (1, 1, 3)])
@pytest.mark.parametrize("spread", [0.01, 3, 60, 255])
def test_psnr_is_that_of_scikit_image(shape, spread):
    rng = np.random.default_rng(len(shape))
    first = rng.integers(0, 256, size=shape)
    second = np.clip(first + rng.choice([-spread, spread], size=shape), 0, 255)
    second.flat[0] = abs(first.flat[0] - spread)  # never quite equal
    expected = peak_signal_noise_ratio(first.astype(float), second, data_range=255)
    assert psnr(first, second) == pytest.approx(expected, rel=1e-12)


def test_psnr_of_bytes_does_not_run_over():
    dark, light = np.full((4, 4, 3), 10, dtype=np.uint8), np.full((4, 4, 3), 250, dtype=np.uint8)
    expected = peak_signal_noise_ratio(dark, light)
    assert psnr(dark, light) == psnr(light, dark) == pytest.approx(expected, rel=1e-12)


def test_psnr_of_equal_pictures_is_a_hundred_and_nothing_is_above():
    grey = np.full((6, 6), 128.0)
    assert psnr(grey, grey) == 100
    assert psnr(grey, grey + 1e-4) == 100
    assert 99 < psnr(grey, grey + 255 * 10**-4.99) < 100


def test_psnr_of_pictures_of_different_size_is_refused():
    with pytest.raises(BadInput, match="one size"):
        psnr(np.zeros((20, 20)), np.zeros((20, 21)))
    with pytest.raises(BadInput, match="one size"):
        psnr(np.zeros((4, 4, 3)), np.zeros((4, 4)))


@pytest.mark.parametrize("strip", [1, 500, 10**9])
def test_a_picture_compared_in_strips_scores_as_in_one(monkeypatch, strip):
    rng = np.random.default_rng(3)
    first, second = (rng.integers(0, 256, size=(47, 31, 3)).astype(np.uint8) for _ in range(2))
    monkeypatch.setattr("vernissage.metrics.similarity._STRIP", strip)
    expected = structural_similarity(
        first, second, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(first, second) == pytest.approx(expected, abs=1e-9)
