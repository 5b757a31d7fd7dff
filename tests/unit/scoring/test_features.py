"""The memory of features: what is encoded again and what is not, whatever happened to its files; and the sample of a set."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy import ndarray

from vernissage.drivers.fake import FakeEncoder
from vernissage.errors import BadInput
from vernissage.scoring.features import FeatureStore, Gathered

KEYS = [number.to_bytes(16, "big") for number in range(6)]


class Encoder:
    """The fake, which keeps how many pictures it was given each time."""

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.passes: list[int] = []

    def encode_raw(self, images) -> ndarray:
        self.passes.append(len(images))
        return FakeEncoder().encode_raw(images)


@pytest.fixture
def encode(noise_picture, tmp_path):
    """Encodes pictures by key, each time with a fresh store; returns features and how many pictures were encoded in each pass."""

    def encode(keys: Sequence[bytes], *, folder: Path | None = tmp_path / "cache", name: str = "fake") -> tuple[ndarray, list[int]]:
        encoder = Encoder(name)
        rows = FeatureStore(encoder, folder).encode(keys, [noise_picture(int.from_bytes(key, "big")) for key in keys])
        return rows, encoder.passes

    return encode


@pytest.fixture
def expected(noise_picture):
    return lambda keys: FakeEncoder().encode_raw([noise_picture(int.from_bytes(key, "big")) for key in keys])


def test_features_have_the_order_of_the_keys_and_the_length_that_the_encoder_gives(encode, expected):
    keys = [KEYS[3], KEYS[0], KEYS[3], KEYS[1]]
    rows, passes = encode(keys)
    assert rows.dtype == np.float32
    assert np.array_equal(rows, expected(keys))
    assert passes == [3], "one picture is there twice"
    assert np.linalg.norm(rows, axis=1) == pytest.approx(2 * np.ones(4), abs=1e-5)


def test_a_second_run_encodes_only_what_is_new(encode, expected):
    encode(KEYS[:3])
    rows, passes = encode(KEYS[2::-1])
    assert passes == []
    assert np.array_equal(rows, expected(KEYS[2::-1]))
    mixed = [KEYS[5], KEYS[1], KEYS[4], KEYS[0]]
    rows, passes = encode(mixed)
    assert passes == [2]
    assert np.array_equal(rows, expected(mixed))
    assert encode(KEYS)[1] == [1]
    assert np.array_equal(encode(KEYS)[0], expected(KEYS))


def test_one_store_remembers_what_it_encoded_itself(noise_picture, tmp_path, expected):
    encoder = Encoder()
    store = FeatureStore(encoder, tmp_path)
    for key in (*KEYS, *KEYS):
        assert np.array_equal(store.encode([key], [noise_picture(int.from_bytes(key, "big"))]), expected([key]))
    assert encoder.passes == [1] * len(KEYS)


@pytest.mark.parametrize("kept", [0, 2])
def test_only_the_newest_rows_stay_in_memory_and_the_others_are_read_from_the_file(noise_picture, tmp_path, expected, monkeypatch, kept):
    monkeypatch.setattr("vernissage.scoring.features.KEPT", kept)
    encoder = Encoder()
    store = FeatureStore(encoder, tmp_path)
    for key in (*KEYS, *KEYS[::-1]):
        assert np.array_equal(store.encode([key], [noise_picture(int.from_bytes(key, "big"))]), expected([key]))
        assert len(store._recent) <= kept
    assert encoder.passes == [1] * len(KEYS)


def test_what_another_process_keeps_meanwhile_is_found(noise_picture, tmp_path, expected):
    pictures = [noise_picture(number) for number in range(6)]
    mine, theirs = FeatureStore(Encoder(), tmp_path), FeatureStore(Encoder(), tmp_path)
    theirs.encode(KEYS[:3], pictures[:3])
    mine.encode(KEYS[5:], pictures[5:])
    assert np.array_equal(mine.encode(KEYS[:3], pictures[:3]), expected(KEYS[:3]))
    assert mine.encoder.passes == [1]


def test_without_a_folder_nothing_is_written(encode, expected, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    for _ in range(2):
        rows, passes = encode(KEYS, folder=None)
        assert passes == [len(KEYS)]
        assert np.array_equal(rows, expected(KEYS))
    assert sorted(tmp_path.rglob("*")) == before


def test_no_pictures_give_no_rows(encode):
    assert len(encode([])[0]) == 0
    encode(KEYS)
    rows, passes = encode([])
    assert len(rows) == 0
    assert passes == []


def test_encoders_of_different_name_do_not_share_features(encode):
    encode(KEYS, name="clip:one")
    assert encode(KEYS, name="clip:two")[1] == [len(KEYS)]
    assert encode(KEYS, name="clip:one")[1] == []


def test_features_that_were_handed_out_may_be_changed_without_harm(encode, expected):
    encode(KEYS)
    rows, _ = encode(KEYS)
    rows *= 0
    assert np.array_equal(encode(KEYS)[0], expected(KEYS))


def test_an_encoder_that_fails_leaves_what_was_kept_before(encode, expected, noise_picture, tmp_path, monkeypatch):
    encode(KEYS[:2])
    monkeypatch.setattr(Encoder, "encode_raw", lambda self, images: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        encode(KEYS)
    monkeypatch.undo()
    rows, passes = encode(KEYS)
    assert passes == [4]
    assert np.array_equal(rows, expected(KEYS))


@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.5, 0.77, 0.99])
def test_a_file_that_was_cut_off_anywhere_costs_time_and_nothing_else(encode, expected, tmp_path, share):
    encode(KEYS)
    for number, path in enumerate(sorted((tmp_path / "cache").iterdir())):
        other = tmp_path / f"cut {number}"
        shutil.copytree(tmp_path / "cache", other)
        whole = path.read_bytes()
        (other / path.name).write_bytes(whole[: int(share * len(whole))])
        rows, passes = encode(KEYS, folder=other)
        assert np.array_equal(rows, expected(KEYS))
        assert 0 < sum(passes) <= len(KEYS)


def test_a_file_that_was_lost_costs_time_and_nothing_else(encode, expected, tmp_path):
    encode(KEYS)
    for path in sorted((tmp_path / "cache").iterdir()):
        path.unlink()
        rows, passes = encode(KEYS)
        assert sum(passes) == len(KEYS)
        assert np.array_equal(rows, expected(KEYS))
        assert encode(KEYS)[1] == []


# ------------------------------------------------------------------------------------------------------ what sets need


@pytest.mark.parametrize("sizes", [(200,), (1, 199), (64, 64, 64, 8), (0, 100, 0, 100)])
def test_gathered_statistics_are_those_of_all_features_at_once(sizes):
    features = (np.random.default_rng(1).normal(size=(200, 12)) * np.arange(1, 13) + 50).astype(np.float32)
    gathered = Gathered(limit=30)
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        gathered.add(features[end - size : end], asked=len(features[end - size : end]))
    assert gathered.statistics is not None
    assert gathered.statistics.n == 200
    assert gathered.statistics.mean == pytest.approx(features.mean(axis=0, dtype=float), rel=1e-12)
    assert gathered.statistics.covariance == pytest.approx(np.cov(features.T.astype(float)), rel=1e-9)


def test_up_to_the_limit_all_features_are_kept_in_their_order():
    features = np.random.default_rng(2).normal(size=(40, 5)).astype(np.float32)
    gathered = Gathered(limit=40)
    for start in range(0, 40, 16):
        gathered.add(features[start : start + 16], asked=len(features[start : start + 16]))
    assert np.array_equal(gathered.features, features)


def test_beyond_the_limit_a_sample_is_kept_in_which_every_picture_has_the_same_chance():
    gathered = Gathered(limit=4000)
    for start in range(0, 20_000, 1000):
        gathered.add(
            np.arange(start, start + 1000, dtype=np.float32)[:, None], asked=len(np.arange(start, start + 1000, dtype=np.float32)[:, None])
        )
    kept = gathered.features.ravel()
    assert gathered.seen == 20_000
    assert len(kept) == len(set(kept)) == 4000
    # A quarter each, five standard deviations aside: sqrt(4000 x 1/4 x 3/4 x 4/5).
    assert np.abs(np.histogram(kept, bins=4, range=(0, 20_000))[0] - 1000).max() < 5 * 24.5


def test_nothing_gathered_is_an_empty_matrix():
    gathered = Gathered()
    gathered.add(np.empty((0, 7), dtype=np.float32), asked=0)
    assert gathered.statistics is None
    assert gathered.features.shape == (0, 0)


def test_the_sample_of_one_set_is_the_same_each_time():
    features = np.random.default_rng(3).normal(size=(100, 3)).astype(np.float32)
    one, two = Gathered(limit=10), Gathered(limit=10)
    one.add(features, asked=len(features))
    for row in features:
        two.add(row[None], asked=len(row[None]))
    assert np.array_equal(one.features, two.features)


def test_one_picture_has_no_covariance():
    gathered = Gathered()
    gathered.add(np.ones((1, 3), dtype=np.float32), asked=1)
    assert gathered.statistics is not None
    with pytest.raises(BadInput):
        _ = gathered.statistics.covariance
