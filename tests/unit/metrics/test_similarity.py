"""SSIM against scikit-image."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from vernissage.errors import BadInput
from vernissage.metrics.similarity import ssim


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
