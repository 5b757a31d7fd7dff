"""A text encoder for these tests: a word's features follow from its letters, so equal words are equal and others are not."""

import hashlib
from functools import cache

import numpy as np
import pytest

WIDTH = 64


@cache
def direction(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    row = np.random.default_rng(seed).normal(size=WIDTH)
    return (row / np.linalg.norm(row)).astype(np.float32)


class WordEncoder:
    """One token a word, between a token that begins and one that ends and that do not count."""

    name = "words"
    baseline = None

    def __init__(self):
        self.encoded = []

    def encode_tokens(self, texts):
        self.encoded += texts
        found = []
        for text in texts:
            words = ["<begin>", *text.lower().split(), "<end>"]
            counted = np.array([False, *[True] * (len(words) - 2), False])
            found.append((np.stack([direction(word) for word in words]), counted))
        return found


@pytest.fixture
def encoder():
    return WordEncoder()
