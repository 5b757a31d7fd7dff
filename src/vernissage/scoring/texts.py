"""BERTScore of pairs of texts: how alike prompts or captions are to those that they should be like."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vernissage.errors import BadInput
from vernissage.metrics.bert_score import Match, TokenFeatures, match_pairs, rescale, zero_of
from vernissage.ports import Progress, TextEncoder
from vernissage.records.picture import listed
from vernissage.records.table import read_rows
from vernissage.records.verdict import Unscored

CHUNK = 4096
"""Pairs whose features are in memory at once."""
ENOUGH = 1000
"""Reference texts from which the zero is taken where none was published."""


class Pair(NamedTuple):
    """A text and what it should be like."""

    text: str
    reference: str


class Matched(NamedTuple):
    """How alike a pair is, as BERTScore has it, and rescaled so that unrelated texts have 0."""

    match: Match
    rescaled: Match | None
    """None where nobody knows what unrelated texts score."""


class ScoredTexts(NamedTuple):
    """Pairs with their scores."""

    pairs: list[Pair]
    scores: list[Matched | Unscored]
    encoder: str
    zero: Match | None
    """What unrelated texts score: of a published baseline, or of these references with one another."""
    published: bool


def read_pairs(path: Path) -> list[Pair]:
    """Pairs from a CSV or Parquet file with the columns text and reference.

    Raises:
        BadInput: The file cannot be read, or lacks a column.
    """
    return [Pair(row["text"] or "", row["reference"] or "") for _, row in read_rows(path, "pairs of texts", ("text", "reference"))]


def score_texts(pairs: Sequence[Pair], encoder: TextEncoder, *, progress: Progress | None = None) -> ScoredTexts:
    """BERTScore of each pair; one with an empty text is Unscored.

    Args:
        pairs: In any order; equal texts near one another are encoded once.
        encoder: Whose token features are compared; if it brings a published baseline, scores are rescaled by that, and else by what
            different references score with one another.
        progress: Called with (done, total) pairs.

    References:
        Zhang et al., BERTScore (ICLR 2020, arXiv 1904.09675), section 3 and, for rescaling, its authors' package.
    """
    references = sorted({pair.reference for pair in pairs if pair.reference.strip()})
    zero = zero_of(references[:: max(1, len(references) // ENOUGH)], encoder)
    scores: list[Matched | Unscored] = []
    for start in range(0, len(pairs), CHUNK):
        part = pairs[start : start + CHUNK]
        features = [TokenFeatures(*each) for each in encoder.encode_tokens([text for pair in part for text in pair])]
        found = match_pairs(features[::2], features[1::2])
        moved = rescale(found, zero) if zero and max(zero) < 1 else None
        for index, pair in enumerate(part):
            empty = [name for name, text in zip(Pair._fields, pair, strict=True) if not text.strip()]
            own = None if moved is None else Match(*moved[index].tolist())
            scores.append(Unscored(reason=f"its {empty[0]} is empty") if empty else Matched(Match(*found[index].tolist()), own))
        if progress:
            progress(len(scores), len(pairs))
    return ScoredTexts(list(pairs), scores, encoder.name, zero, encoder.baseline is not None)


def check_pairs(texts: Sequence[str], references: Sequence[str]) -> list[Pair]:
    """Texts with their references.

    Raises:
        BadInput: There are not as many of the one as of the other, or something is no text.
    """
    if isinstance(texts, str) or isinstance(references, str):
        raise BadInput("Every text needs its reference.", hint="Give two lists of one length.")
    texts, references = listed(texts, "texts"), listed(references, "texts")
    if not all(isinstance(text, str) for text in (*texts, *references)):
        raise BadInput("There is something to compare that is no text.", hint="Leave out what is missing, or give an empty text.")
    if len(texts) != len(references):
        raise BadInput("Every text needs its reference.", hint="Give two lists of one length.")
    return [Pair(*pair) for pair in zip(texts, references, strict=True)]
