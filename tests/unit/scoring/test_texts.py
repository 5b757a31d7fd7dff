"""BERTScore of pairs of texts: raw, rescaled by a published baseline or by the texts' own, and what cannot be compared."""

import numpy as np
import pytest

from vernissage.errors import BadInput
from vernissage.metrics.bert_score import Match, read_baseline
from vernissage.records.verdict import Unscored
from vernissage.scoring.texts import Pair, check_pairs, read_pairs, score_texts
from words import Words

PUBLISHED = "LAYER,P,R,F\n0,0.25,0.5,0.75\n1,0.1,0.2,0.5\n"


def test_texts_are_matched_word_by_word_and_rescaled_by_the_published_baseline():
    found = score_texts([Pair("a red cat", "a red cat"), Pair("a cat", "a red cat on hills")], Words(baseline=(0.25, 0.2, 0.5)))
    assert found.published
    assert found.scores[0].match == found.scores[0].rescaled == Match(1, 1, 1)
    assert found.scores[1].match == pytest.approx((1, 0.4, 0.8 / 1.4))
    assert found.scores[1].rescaled == pytest.approx((1, (0.4 - 0.2) / 0.8, (0.8 / 1.4 - 0.5) / 0.5))


def test_without_a_published_baseline_different_references_have_nought():
    pairs = [Pair("one two", "one two"), Pair("three two", "three four"), Pair("one four", "three four")]
    found = score_texts(pairs, Words())
    assert (found.published, found.zero) == (False, Match(0, 0, 0)), "the two references share no word"
    assert [each.rescaled.f for each in found.scores] == [each.match.f for each in found.scores] == [1, 0.5, 0.5]
    alone = score_texts(pairs[:1], Words())
    assert (alone.zero, alone.scores[0].rescaled, alone.scores[0].match.f) == (None, None, 1), "of one text nobody knows"


def test_an_empty_text_is_unscored_and_the_others_are_not():
    first, second, third = score_texts([Pair(" ", "a cat"), Pair("a dog", ""), Pair("a cat", "a cat")], Words()).scores
    assert (first, second) == (Unscored(reason="its text is empty"), Unscored(reason="its reference is empty"))
    assert third.match.f == 1


def test_texts_are_scored_in_parts_with_the_same_numbers(monkeypatch):
    rng = np.random.default_rng(0)
    pairs = [Pair(*(" ".join(rng.choice(list("abcdefgh"), 4)) for _ in range(2))) for _ in range(23)]
    whole, steps = score_texts(pairs, Words()), []
    monkeypatch.setattr("vernissage.scoring.texts.CHUNK", 5)
    assert score_texts(pairs, Words(), progress=lambda *told: steps.append(told)) == whole
    assert steps == [(done, 23) for done in (5, 10, 15, 20, 23)]


def test_pairs_are_read_from_a_table_and_lists_must_fit(tmp_path):
    (tmp_path / "p.csv").write_text('text,reference,note\n"a, b",c,x\n,d,\n', encoding="utf-8")
    assert read_pairs(tmp_path / "p.csv") == [Pair("a, b", "c"), Pair("", "d")]
    (tmp_path / "q.csv").write_text("text,wanted\na,b\n", encoding="utf-8")
    with pytest.raises(BadInput, match="lacks the column reference"):
        read_pairs(tmp_path / "q.csv")
    for texts, references in ((["a"], ["b", "c"]), ("a", "b")):
        with pytest.raises(BadInput, match="Every text needs its reference"):
            check_pairs(texts, references)


def test_a_published_baseline_is_that_of_the_layer(tmp_path):
    (tmp_path / "b.tsv").write_text(PUBLISHED, encoding="utf-8")
    assert read_baseline(tmp_path / "b.tsv", 1) == Match(0.1, 0.2, 0.5)
    with pytest.raises(BadInput, match="has no layer 17"):
        read_baseline(tmp_path / "b.tsv", 17)
    with pytest.raises(BadInput, match="no such file"):
        read_baseline(tmp_path / "none.tsv", 1)


@pytest.mark.parametrize("row", ["0,0.1,nan,0.3", "0,0.1,1.0,0.3", "0,0.1,,0.3", "first,0.1,0.2,0.3", "0,0.1"])
def test_a_damaged_baseline_is_refused(tmp_path, row):
    (tmp_path / "b.tsv").write_text(f"LAYER,P,R,F\n{row}\n", encoding="utf-8")
    with pytest.raises(BadInput, match="is damaged at layer"):
        read_baseline(tmp_path / "b.tsv", 0)
