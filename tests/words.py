"""A text encoder for tests: every word is a direction of its own."""

import numpy as np


class Words:
    """Equal words are equal, different ones have nothing in common; a baseline may be brought along."""

    name = "words"

    def __init__(self, baseline=None):
        self.known, self.baseline = {}, baseline

    def encode_tokens(self, texts):
        found = []
        for text in texts:
            vectors = np.zeros((len(text.split()), 64), dtype=np.float32)
            for row, word in enumerate(text.split()):
                vectors[row, self.known.setdefault(word, len(self.known))] = 1
            found.append((vectors, np.ones(len(vectors), dtype=bool)))
        return found
