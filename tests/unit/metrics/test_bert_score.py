"""BERTScore against its formula, written out in torch on hidden states that transformers gives for one text at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

from vernissage.drivers.encode_text import TransformersTextEncoder
from vernissage.errors import BadInput, DriverError
from vernissage.metrics.bert_score import Match, TokenFeatures, baseline, match_pairs, match_tokens, rescale

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "the",
    "red",
    "blue",
    "cat",
    "dog",
    "on",
    "sea",
    "car",
    "paint",
    "me",
    "please",
    "##s",
    "make",
    "it",
    "want",
    "i",
    ",",
    ".",
]
LONGEST, LAYERS = 24, 3
CLOSE = 1e-5


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    torch.manual_seed(9)
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LONGEST,
        initializer_range=0.5,
    )
    BertModel(config).eval().save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=LONGEST).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(bert_folder):
    return TransformersTextEncoder(str(bert_folder), device="cpu", batch_size=5)


def sentences(count, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS[5:], size=rng.integers(1, 12))) for _ in range(count)]


class Published:
    """The formula of the paper and of its package: matched with every token, averaged over all but [CLS] and [SEP]."""

    def __init__(self, folder, layer):
        self.model = BertModel.from_pretrained(folder).eval()
        self.tokenizer = BertTokenizerFast.from_pretrained(folder)
        self.layer = layer

    @torch.inference_mode()
    def states(self, text):
        tokens = self.tokenizer(text, truncation=True, max_length=LONGEST, return_tensors="pt")
        states = self.model(**tokens, output_hidden_states=True).hidden_states[self.layer][0].double()
        return states / states.norm(dim=1, keepdim=True)

    def score(self, candidate, reference):
        candidate, reference = self.states(candidate), self.states(reference)
        likeness = candidate @ reference.T
        precision = likeness.max(dim=1).values[1:-1].mean()
        recall = likeness.max(dim=0).values[1:-1].mean()
        return [float(precision), float(recall), float(2 * precision * recall / (precision + recall))]


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_scores_are_those_of_the_published_formula(bert_folder, layer):
    candidates, references = sentences(40), sentences(40, seed=1)
    candidates[:4] = ["xyz unheard", "a " * 50, references[2], "cats , dogs"]
    encoder = TransformersTextEncoder(str(bert_folder), layer=layer, device="cpu", batch_size=7)
    found = match_pairs(encoder.encode_tokens(candidates), encoder.encode_tokens(references))
    published = Published(bert_folder, layer or LAYERS)
    expected = np.array([published.score(*pair) for pair in zip(candidates, references, strict=True)])
    assert found == pytest.approx(expected, abs=CLOSE)
    assert found[2] == pytest.approx([1, 1, 1], abs=CLOSE)
    assert np.ptp(found[:, 2]) > 0.3, "the scores differ among themselves"


def test_features_are_of_unit_length_and_the_ends_do_not_count(encoder):
    (vectors, counted), (long, long_counted) = encoder.encode_tokens(["a red cats xyz", "a " * 50])
    assert vectors.dtype == np.float32
    assert counted.tolist() == [False, True, True, True, True, True, False]
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(7), abs=1e-6)
    assert (len(long), long_counted.sum()) == (LONGEST, LONGEST - 2)


def test_neither_batch_nor_order_nor_repetition_changes_features(encoder, bert_folder):
    texts = sentences(12, seed=2)
    texts += [texts[3], "", texts[0]]
    alone = TransformersTextEncoder(str(bert_folder), device="cpu", batch_size=1)
    for found, expected in zip(encoder.encode_tokens(texts), [alone.encode_tokens([text])[0] for text in texts], strict=True):
        assert found.vectors == pytest.approx(expected.vectors, abs=CLOSE)
        assert found.counted.tolist() == expected.counted.tolist()
    assert encoder.encode_tokens([]) == []


def test_a_text_without_words_scores_nothing(encoder):
    empty, said = encoder.encode_tokens(["", "a cat"])
    for pair in ((empty, said), (said, empty), (empty, empty)):
        assert match_tokens(*pair) == (0, 0, 0)


def test_a_layer_that_is_not_there_and_a_model_that_is_not_there_are_told(bert_folder, tmp_path):
    for layer in (-1, LAYERS + 1):
        with pytest.raises(BadInput, match=f"{LAYERS} layers"):
            TransformersTextEncoder(str(bert_folder), layer=layer, device="cpu")
    with pytest.raises(DriverError, match="nothing"):
        TransformersTextEncoder(str(tmp_path / "nothing"), device="cpu")


def test_clips_text_part_is_an_encoder_too(clip_folder):
    encoder = TransformersTextEncoder(str(clip_folder), device="cpu")
    first, second, other = encoder.encode_tokens(["cat", "cat", "dog house"])
    assert first.vectors.shape == (5, 16)
    assert match_tokens(first, second) == pytest.approx((1, 1, 1), abs=CLOSE)
    assert match_tokens(first, other).f < 0.99


def test_the_end_of_a_text_does_not_count_with_clip(clip_folder):
    (found,) = TransformersTextEncoder(str(clip_folder), device="cpu").encode_tokens(["cat"])
    assert found.counted.tolist() == [False, True, True, True, False]


def test_layers_have_names_of_their_own(bert_folder, encoder):
    assert encoder.name.endswith(f"layer {LAYERS}")
    assert TransformersTextEncoder(str(bert_folder), layer=1, device="cpu").name != encoder.name


@pytest.fixture(scope="module")
def roberta_folder(tmp_path_factory):
    """As on the hub: two more positions than tokens may have, and a tokenizer that does not say how long a text may be."""
    from tokenizers import pre_tokenizers
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

    torch.manual_seed(10)
    folder = tmp_path_factory.mktemp("roberta")
    letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    config = RobertaConfig(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=26,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.5,
    )
    RobertaModel(config).eval().save_pretrained(folder)
    RobertaTokenizerFast(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]).save_pretrained(folder)
    return folder


def test_roberta_reads_texts_that_are_short(roberta_folder):
    (found,) = TransformersTextEncoder(str(roberta_folder), device="cpu").encode_tokens(["a cat"])
    assert found.counted.tolist() == [False, *[True] * 6, False]  # the space before the first word is a letter of its own here


def test_roberta_reads_a_first_word_as_it_reads_one_after_a_space(roberta_folder):
    """So bert-score has it; without, "cat" at the beginning and "cat" within are unlike tokens."""
    encoder = TransformersTextEncoder(str(roberta_folder), device="cpu")
    (alone,) = encoder.encode_tokens(["t"])
    tokens = AutoTokenizer.from_pretrained(roberta_folder)(" t").input_ids
    assert len(alone.vectors) == len(tokens)
    assert len(tokens) == len(AutoTokenizer.from_pretrained(roberta_folder)("t").input_ids) + 1


def test_roberta_cuts_texts_that_are_long(roberta_folder):
    (found,) = TransformersTextEncoder(str(roberta_folder), device="cpu").encode_tokens(["a cat " * 20])
    assert len(found.vectors) == 24


def test_spaces_around_a_text_do_not_matter(roberta_folder):
    first, second = TransformersTextEncoder(str(roberta_folder), device="cpu").encode_tokens(["a cat", " a cat "])
    assert match_tokens(first, second).f == pytest.approx(1, abs=CLOSE)


# ------------------------------------------------------------------------------------------------------------ on arrays


def features(rng, count):
    rows = rng.normal(size=(count, 6)) + 0.8
    counted = rng.random(count) < 0.7
    counted[0] = True
    return TokenFeatures((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), counted)


@given(st.integers(0, 2**32), st.integers(1, 7), st.integers(1, 7))
def test_a_pair_is_compared_token_by_token(seed, first, second):
    rng = np.random.default_rng(seed)
    said, wanted = features(rng, first), features(rng, second)
    best = [max(float(a @ b) for b in wanted.vectors) for a, counts in zip(*said, strict=True) if counts]
    back = [max(float(a @ b) for a in said.vectors) for b, counts in zip(*wanted, strict=True) if counts]
    precision, recall = sum(best) / len(best), sum(back) / len(back)
    found = match_tokens(said, wanted)
    assert found[:2] == pytest.approx((precision, recall), abs=1e-5)
    if min(precision, recall) > 0.01:
        assert found.f == pytest.approx(2 / (1 / precision + 1 / recall), rel=1e-3)
        assert min(found[:2]) - 1e-6 <= found.f <= max(found[:2]) + 1e-6
    turned = match_tokens(wanted, said)
    assert (turned.precision, turned.recall) == pytest.approx((found.recall, found.precision), abs=1e-6)
    assert match_tokens(said, said) == pytest.approx((1, 1, 1), abs=1e-5)


def test_unrelated_texts_become_zero_and_equal_ones_one():
    rng = np.random.default_rng(0)
    texts = [features(rng, int(rng.integers(2, 8))) for _ in range(12)]
    zero = baseline(texts, pairs=20_000)
    exact = np.mean([match_tokens(a, b) for a in texts for b in texts if a is not b], axis=0)
    assert zero == pytest.approx(exact, abs=0.01)
    assert baseline(texts, pairs=50, seed=1) == baseline(texts, pairs=50, seed=1) != baseline(texts, pairs=50, seed=2)
    scores = np.array([zero, (1, 1, 1), [(1 + value) / 2 for value in zero]])
    assert rescale(scores, zero) == pytest.approx(np.array([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]]))
    assert baseline(texts[:2], pairs=4).f == pytest.approx(match_tokens(*texts[:2]).f, abs=1e-6), "never a text with itself"


@pytest.mark.parametrize("count", [0, 1])
def test_a_baseline_of_less_than_two_texts_is_refused(count):
    with pytest.raises(ValueError, match="two texts"):
        baseline([features(np.random.default_rng(0), 3)] * count)


def test_no_pairs_are_an_empty_table():
    assert match_pairs([], []).shape == (0, 3)
    assert rescale(match_pairs([], []), Match(0.5, 0.5, 0.5)).shape == (0, 3)
