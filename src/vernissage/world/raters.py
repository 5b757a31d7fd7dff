"""Synthetic raters: people that never were, who rate as a stated model says. Whatever rests on them is synthetic and named so.

A rater sees a quality q in [0, 1] and says round(1 + 4 (gain (q - 1/2) + 1/2 + bias + noise)), kept within 1 to 5. Bias, gain and
the size of the noise are the rater's own. A yes/no question is answered wrongly at random, with the rater's own share of lapses.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from vernissage.world.defects import STRONGEST


class Rater(NamedTuple):
    """Who rates, and how far from the truth."""

    name: str
    bias: float
    gain: float
    noise: float
    lapses: float


def sample_raters(count: int = 16, *, seed: int = 0) -> list[Rater]:
    """Random raters: bias N(0, 0.08), gain N(1, 0.1), noise 0.05 to 0.2, lapses 1 % to 10 %.

    Example:
        >>> [rater.name for rater in sample_raters(2)]
        ['synthetic-01', 'synthetic-02']
    """
    rng = np.random.default_rng(seed)
    return [
        Rater(
            f"synthetic-{number:02d}",
            *(float(x) for x in (rng.normal(0, 0.08), rng.normal(1, 0.1), rng.uniform(0.05, 0.2), rng.uniform(0.01, 0.1))),
        )
        for number in range(1, count + 1)
    ]


def rate(qualities: ndarray, raters: Sequence[Rater], *, seed: int = 0) -> ndarray:
    """What each rater says of each picture.

    Args:
        qualities: Shape (picture,), in [0, 1].
        raters: Who is asked.
        seed: Decides the noise.

    Returns:
        Shape (rater, picture), whole numbers from 1 to 5.
    """
    rng = np.random.default_rng(seed)
    said = [rater.gain * (qualities - 0.5) + 0.5 + rater.bias + rng.normal(0, rater.noise, len(qualities)) for rater in raters]
    return np.clip(np.rint(1 + 4 * np.stack(said)), 1, 5)


def answer(truths: ndarray, raters: Sequence[Rater], *, seed: int = 0) -> ndarray:
    """What each rater answers to each yes/no question: 1 yes, 0 no, shape (rater, question)."""
    rng = np.random.default_rng(seed)
    wrong = np.stack([rng.random(len(truths)) < rater.lapses for rater in raters])
    return np.where(wrong, 1 - truths, truths).astype(float)


def perceived_quality(legibility: float, strength: int) -> float:
    """How good a picture looks, in [0, 1]: how clearly it shows anything, less what its defect takes away.

    Args:
        legibility: In [0, 1], see `world.nn.recogniser.legibility`; 1 for a drawn picture.
        strength: Of the defect it was spoiled with, 0 to 4.

    Example:
        >>> perceived_quality(1.0, 0), perceived_quality(0.8, 2)
        (1.0, 0.4)
    """
    return legibility * (1 - strength / STRONGEST)
