"""BERTScore on arrays: how alike two texts are, token by token, from the features that an encoder gives.

Every token is matched with the likest of the other text; precision is the mean over the candidate's tokens, recall over the
reference's, F their harmonic mean. Tokens that only begin or end a text may be matched with, but do not count.

References:
    Zhang et al., BERTScore: Evaluating Text Generation with BERT (ICLR 2020, arXiv 1904.09675), eq. 1 to 3, without idf weights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from vernissage.errors import BadInput
from vernissage.ports import TextEncoder
from vernissage.records.table import read_rows


class TokenFeatures(NamedTuple):
    """A text as an encoder sees it."""

    vectors: ndarray
    """Shape (token, width), float32, unit length."""
    counted: ndarray
    """Shape (token,), bool: false for tokens that only begin or end a text."""


class Match(NamedTuple):
    """Precision, recall and F of a pair, each at most 1; higher is more alike."""

    precision: float
    recall: float
    f: float


def match_tokens(candidate: TokenFeatures, reference: TokenFeatures) -> Match:
    """Compare two texts.

    Returns:
        Zeros where either has no token that counts.

    Example:
        >>> axes = np.eye(3, dtype=np.float32)
        >>> said = TokenFeatures(axes[[0, 1]], np.array([True, True]))
        >>> match_tokens(said, TokenFeatures(axes[[0]], np.array([True])))
        Match(precision=0.5, recall=1.0, f=0.6666666666666666)
    """
    if not candidate.counted.any() or not reference.counted.any():
        return Match(0.0, 0.0, 0.0)
    likeness = candidate.vectors @ reference.vectors.T
    precision = float(likeness.max(axis=1)[candidate.counted].mean(dtype=np.float64))
    recall = float(likeness.max(axis=0)[reference.counted].mean(dtype=np.float64))
    return Match(precision, recall, _harmonic(precision, recall))


def match_pairs(candidates: Sequence[TokenFeatures], references: Sequence[TokenFeatures]) -> ndarray:
    """Precision, recall and F of each pair, shape (pair, 3)."""
    return np.array([match_tokens(said, wanted) for said, wanted in zip(candidates, references, strict=True)]).reshape(-1, 3)


def baseline(features: Sequence[TokenFeatures], *, pairs: int = 2000, seed: int = 0) -> Match:
    """What texts that have nothing to do with each other score on average: the zero of rescaled scores.

    Args:
        features: Different texts of the kind that will be compared.
        pairs: Drawn at random, never a text with itself.
        seed: Decides them.

    Raises:
        ValueError: There are fewer than two texts.
    """
    if len(features) < 2:
        raise ValueError("a baseline wants two texts or more")
    rng = np.random.default_rng(seed)
    first = rng.integers(len(features), size=pairs)
    second = (first + rng.integers(1, len(features), size=pairs)) % len(features)
    found = match_pairs([features[row] for row in first], [features[row] for row in second])
    return Match(*(float(value) for value in found.mean(axis=0)))


def read_baseline(path: Path, layer: int) -> Match:
    """What unrelated texts score at a layer, from a table of the published kind: CSV with the columns LAYER, P, R, F.

    Raises:
        BadInput: The file cannot be read, or does not tell the layer.
    """
    for _, row in read_rows(path, "baseline", ("LAYER", "P", "R", "F")):
        try:
            if int(row["LAYER"]) == layer:
                found = Match(*(float(row[name]) for name in ("P", "R", "F")))
                if not all(-1 <= value < 1 for value in found):
                    raise ValueError("no baseline lies there")
                return found
        except (TypeError, ValueError) as error:
            raise BadInput(f"The baseline {path} is damaged at layer {row['LAYER']!r}.", hint="It needs numbers below 1.") from error
    raise BadInput(f"The baseline {path} has no layer {layer}.", hint="Take the file of the same model, or another `layer`.")


def zero_of(texts: Sequence[str], encoder: TextEncoder) -> Match | None:
    """What unrelated texts score: as published for the encoder, or what these, all different, score with one another.

    Returns:
        None where nobody published it and there are fewer than two texts.
    """
    if encoder.baseline:
        return Match(*encoder.baseline)
    return baseline([TokenFeatures(*each) for each in encoder.encode_tokens(texts)]) if len(texts) > 1 else None


def rescale(scores: ndarray, zero: Match) -> ndarray:
    """Scores moved so that unrelated texts have 0 and equal ones 1, shape kept; (pair, 3)."""
    return (scores - np.array(zero)) / (1 - np.array(zero))


def _harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
