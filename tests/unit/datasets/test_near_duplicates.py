"""Near duplicates against brute force: BERTScore written out once more, every pair compared."""

import numpy as np
import pytest

from vernissage.datasets import near_duplicates
from vernissage.datasets.near_duplicates import NEIGHBOURS, drop_near_duplicates
from vernissage.metrics.bert_score import Match, TokenFeatures, baseline

ZERO = Match(0.3, 0.3, 0.3)


def brute_force(texts, encoder, threshold, zero=0.3):
    """Greedy, from the definition: a text stays unless it is too like one before it that stays."""
    features = [vectors[counted].astype(np.float64) for vectors, counted in encoder.encode_tokens(texts)]
    whole = [vectors.astype(np.float64) for vectors, _ in encoder.encode_tokens(texts)]

    def f(row, other):
        precision = (features[row] @ whole[other].T).max(axis=1).mean()
        recall = (features[other] @ whole[row].T).max(axis=1).mean()
        return 2 * precision * recall / (precision + recall)

    stays = []
    for row in range(len(texts)):
        if not any((f(row, other) - zero) / (1 - zero) > threshold for other in stays):
            stays.append(row)
    return stays


def clusters(count, size, words=12, changed=1, seed=0):
    """Texts in clusters: each its first text with some words changed; shuffled."""
    rng = np.random.default_rng(seed)
    texts = []
    for cluster in range(count):
        first = [f"w{rng.integers(400)}" for _ in range(words)]
        for number in range(size):
            varied = list(first)
            for place in rng.choice(words, size=changed if number else 0, replace=False):
                varied[place] = f"v{cluster}x{number}x{place}"
            texts.append(" ".join(varied))
    return [texts[place] for place in rng.permutation(len(texts))]


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9])
@pytest.mark.parametrize("changed", [1, 2, 3])
def test_small_clusters_are_found_as_by_brute_force(encoder, threshold, changed):
    texts = clusters(40, 6, changed=changed)
    expected = brute_force(texts, encoder, threshold)
    found = drop_near_duplicates(texts, encoder, threshold=threshold, zero=ZERO)
    dropped, wanted = set(range(len(texts))) - set(found), set(range(len(texts))) - set(expected)
    assert len(dropped & wanted) >= 0.98 * len(wanted)
    assert len(dropped - wanted) <= 0.02 * len(texts)


def test_the_cases_hold_doubles_and_others(encoder):
    counts = [len(brute_force(clusters(40, 6, changed=changed), encoder, 0.8)) for changed in (1, 2, 3)]
    assert 40 <= counts[0] < 60, "most of a cluster are duplicates"
    assert counts[0] < counts[1] <= counts[2] <= 240
    assert counts[2] > 200, "hardly any are"


@pytest.mark.parametrize("block", [16, 64])
def test_blocks_make_no_difference(encoder, monkeypatch, block):
    texts = clusters(20, 8)
    whole = drop_near_duplicates(texts, encoder, zero=ZERO)
    monkeypatch.setattr(near_duplicates, "ROWS", block)
    monkeypatch.setattr(near_duplicates, "COLUMNS", block // 2)
    monkeypatch.setattr(near_duplicates, "ENCODED", 7)
    steps = []
    assert drop_near_duplicates(texts, encoder, zero=ZERO, progress=lambda *step: steps.append(step)) == whole
    assert 20 <= len(whole) < 30
    assert steps[-1] == (2 * len(texts), 2 * len(texts))
    assert steps == sorted(set(steps)), "only ever further"


def test_a_cluster_over_many_blocks_leaves_its_first(encoder, monkeypatch):
    monkeypatch.setattr(near_duplicates, "ROWS", NEIGHBOURS // 2)
    texts = clusters(1, 4 * NEIGHBOURS, words=16)
    assert drop_near_duplicates(texts, encoder, threshold=0.7, zero=ZERO) == brute_force(texts, encoder, 0.7)


@pytest.mark.parametrize("varied", [False, True])
def test_a_cluster_larger_than_the_number_of_candidates_leaves_what_brute_force_leaves(encoder, varied):
    texts = clusters(1, 4 * NEIGHBOURS, words=14, changed=int(varied))
    expected = brute_force(texts, encoder, 0.8)
    assert len(drop_near_duplicates(texts, encoder, zero=ZERO)) == len(expected)


def test_the_zero_is_what_texts_of_the_set_score_on_average(encoder):
    texts = clusters(30, 4)
    zero = baseline([TokenFeatures(*each) for each in encoder.encode_tokens(texts)])
    assert 0.2 < zero.f < 0.6
    assert drop_near_duplicates(texts, encoder) == drop_near_duplicates(texts, encoder, zero=zero)


def test_the_earlier_of_two_stays(encoder):
    texts = [f"word{number} and{number} more{number} here{number}" for number in range(30)]
    texts += [texts[7], texts[3], "quite another text", texts[7]]
    assert drop_near_duplicates(texts, encoder) == [*range(30), 32]


@pytest.mark.parametrize("texts", [[], ["a cat"]])
def test_none_and_one_stay(encoder, texts):
    assert drop_near_duplicates(texts, encoder) == list(range(len(texts)))
    assert encoder.encoded == []


@pytest.mark.parametrize("count", [2, 3, 40])
def test_of_equal_texts_one_stays(encoder, count):
    assert drop_near_duplicates(["paint me a red cat"] * count, encoder) == [0]


def test_of_equal_texts_whose_score_is_exactly_one_one_stays():
    class Exact:
        name = "exact"
        baseline = None

        def encode_tokens(self, texts):
            return [(np.eye(2, dtype=np.float32), np.array([True, True])) for _ in texts]

    assert drop_near_duplicates(["a", "a", "a"], Exact()) == [0]


def test_of_equal_texts_without_words_one_stays(encoder):
    texts = ["", "", *(f"word{number} and{number}" for number in range(10))]
    assert drop_near_duplicates(texts, encoder) == [0, *range(2, 12)]
