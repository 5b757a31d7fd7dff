"""FID, KID and Inception Score of folders, through an encoder that tells classes too: against plain computations, and what they lack."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats

from vernissage.drivers.fake import FakeEncoder
from vernissage.errors import BadInput
from vernissage.metrics.distribution import frechet_distance, gather, inception_score, kernel_distance, save_statistics
from vernissage.records.picture import Picture
from vernissage.records.verdict import Score, Unscored
from vernissage.scoring.features import SAMPLE
from vernissage.scoring.layouts import find_entries
from vernissage.scoring.registry import find_metrics
from vernissage.scoring.score import Sources, score_entries
from vernissage.scoring.sets import _sampled, unify

REFERENCE = Path("ref")
CLASSES = 5


class Inception:
    """Eight features by content and probabilities of five classes, by a matrix, as Inception's last layer; ill for those in `ill`."""

    name = "inception"
    head = np.random.default_rng(7).normal(size=(8, CLASSES)) * 3

    def __init__(self) -> None:
        self.encoded = 0
        self.ill: set[bytes] = set()

    def encode_raw(self, images):
        self.encoded += len(images)
        rows = FakeEncoder().encode_raw(images)
        rows[[image.tobytes() in self.ill for image in images]] = np.nan
        return rows

    def probabilities(self, features):
        return scipy.special.softmax(features @ self.head, axis=1)


@pytest.fixture
def folder(noise_picture):
    """Writes so many pictures and gives their features."""

    def folder(name: str, count: int, first: int = 0) -> np.ndarray:
        images = [noise_picture(seed) for seed in range(first, first + count)]
        for index, image in enumerate(images):
            Picture.of(image).save(f"{name}/{index}.png")
        return FakeEncoder().encode_raw(images).astype(np.float64)

    return folder


def score(metrics: str, source: str = "in", *, reference: Path | None = None, cache: Path | None = None, inception=None):
    sources = Sources(inception=inception or Inception())
    return score_entries(find_entries(Path(source)), find_metrics(metrics.split(",")), sources, reference=reference, cache=cache).sets


# --------------------------------------------------------------------------------------------------------------- numbers


def test_fid_and_kid_are_the_distances_of_the_features(folder):
    mine, theirs = folder("in", 30), folder("ref", 40, 1000)
    found = score("fid,kid", reference=REFERENCE)
    assert found["fid"].value == pytest.approx(frechet_distance(gather(mine), gather(theirs)), rel=1e-6)
    assert found["kid"].value == pytest.approx(kernel_distance(mine, theirs).mean, rel=1e-6)
    assert found["kid"].reason == f"standard deviation over subsets {kernel_distance(mine, theirs).std:.4g}"


def test_fid_is_the_formula_by_a_matrix_root_and_kid_the_one_by_kernels(folder):
    mine, theirs = folder("in", 30), folder("ref", 30, 1000)
    found = score("fid,kid", reference=REFERENCE)
    one, two = np.cov(mine.T), np.cov(theirs.T)
    apart = mine.mean(axis=0) - theirs.mean(axis=0)
    fid = apart @ apart + np.trace(one + two - 2 * scipy.linalg.sqrtm(one @ two).real)
    assert found["fid"].value == pytest.approx(fid, rel=1e-5)
    xx, yy, xy = ((a @ b.T / 8 + 1) ** 3 for a, b in ((mine, mine), (theirs, theirs), (mine, theirs)))
    inner = [(kernel.sum() - np.trace(kernel)) / (30 * 29) for kernel in (xx, yy)]
    assert found["kid"].value == pytest.approx(sum(inner) - 2 * xy.mean(), rel=1e-5), "with equal counts every subset is the whole set"


def by_hand(features: np.ndarray) -> tuple[float, float]:
    """Mean and spread over 10 parts of e to the mean divergence of each picture's classes from all of its part."""
    chances = scipy.special.softmax(features @ Inception.head, axis=1)
    mixed = np.random.default_rng(0).permutation(chances)
    parts = [mixed[number * len(mixed) // 10 : (number + 1) * len(mixed) // 10] for number in range(10)]
    scores = [np.exp(np.mean([scipy.stats.entropy(row, part.mean(axis=0)) for row in part])) for part in parts]
    return float(np.mean(scores)), float(np.std(scores))


@pytest.mark.parametrize("count", [20, 47])
def test_an_inception_score_is_computed_of_classes_and_needs_no_reference(folder, count):
    features = folder("in", count)
    found = score("inception-score")["inception-score"]
    mean, spread = by_hand(features)
    assert found.value == pytest.approx(mean, rel=1e-6)
    assert mean > 1.1
    assert found.reason == f"standard deviation over 10 parts {spread:.4f}"
    assert found.value == pytest.approx(inception_score(Inception().probabilities(features))[0], rel=1e-6)


def test_an_inception_score_of_sure_and_varied_classes_is_their_number(folder):
    class Sure(Inception):
        def probabilities(self, features):
            return np.eye(CLASSES)[np.zeros(len(features), int) + np.arange(len(features)) % CLASSES]

    class Dull(Inception):
        def probabilities(self, features):
            return np.tile(np.eye(CLASSES)[1], (len(features), 1))

    folder("in", 30)
    assert 1 < score("inception-score", inception=Sure())["inception-score"].value <= CLASSES
    assert score("inception-score", inception=Dull())["inception-score"].value == pytest.approx(1)


def test_three_metrics_share_one_pass(folder):
    folder("in", 12)
    folder("ref", 12, 1000)
    inception = Inception()
    found = score("fid,kid,inception-score", reference=REFERENCE, inception=inception, cache=Path("cache"))
    assert all(isinstance(each, Score) for each in found.values())
    assert inception.encoded == 24
    again = Inception()
    assert score("fid,kid,inception-score", reference=REFERENCE, inception=again, cache=Path("cache")) == found
    assert again.encoded == 0, "classes come from kept features"


@pytest.mark.parametrize("chunk", [1, 5])
def test_numbers_do_not_depend_on_how_many_pictures_are_worked_on_at_once(folder, monkeypatch, chunk):
    folder("in", 12)
    folder("ref", 12, 1000)
    expected = score("fid,kid,inception-score", reference=REFERENCE)
    monkeypatch.setattr("vernissage.scoring.score.CHUNK", chunk)
    found = score("fid,kid,inception-score", reference=REFERENCE)
    assert {name: each.value for name, each in found.items()} == {
        name: pytest.approx(each.value, rel=1e-9) for name, each in expected.items()
    }


# ------------------------------------------------------------------------------------------------------------ statistics


def test_statistics_of_few_pictures_are_told_to_be_biased_by_their_number(folder):
    folder("in", 20)
    few = folder("few", 3)
    save_statistics(Path("few.npz"), gather(few))
    found = score("fid", reference=Path("few.npz"))["fid"]
    assert found.reason.startswith("3 pictures for")


def test_statistics_serve_fid_but_not_kid_and_do_not_hinder_an_inception_score(folder):
    folder("in", 12)
    theirs = folder("ref", 20, 1000)
    save_statistics(Path("ref.npz"), gather(theirs))
    by_folder = score("fid", reference=REFERENCE)["fid"]
    found = score("fid,kid,inception-score", reference=Path("ref.npz"))
    assert found["fid"].value == pytest.approx(by_folder.value, rel=1e-6)
    assert found["kid"] == Unscored(reason="kid needs the reference pictures, not their statistics")
    assert isinstance(found["inception-score"], Score)


def test_statistics_of_2048_features_do_not_fit_eight(folder):
    folder("in", 12)
    np.savez("ref.npz", mu=np.zeros(20), sigma=np.eye(20))
    found = score("fid", reference=Path("ref.npz"))["fid"]
    assert isinstance(found, Unscored)
    assert "20" in found.reason


@pytest.mark.parametrize("metric", ["fid", "kid"])
def test_a_distance_without_a_reference_is_refused_before_anything_is_encoded(folder, metric):
    folder("in", 2)
    inception = Inception()
    with pytest.raises(BadInput, match="--reference"):
        score(f"inception-score,{metric}", inception=inception)
    assert inception.encoded == 0


def test_an_inception_score_without_inception_is_refused(folder):
    folder("in", 12)
    with pytest.raises(BadInput, match="inception"):
        score_entries(find_entries(Path("in")), find_metrics(["inception-score"]), Sources(clip=FakeEncoder()))


# ---------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("count", [1, 9])
def test_fewer_pictures_than_parts_have_no_inception_score(folder, count):
    folder("in", count)
    found = score("inception-score")["inception-score"]
    assert isinstance(found, Unscored)
    assert "at least 10 pictures" in found.reason


def test_ten_pictures_are_scored_alone_and_so_are_one(folder):
    folder("in", 10)
    assert score("inception-score")["inception-score"].value == pytest.approx(1)


def test_pictures_that_cannot_be_read_or_encoded_are_left_out_and_told(folder, noise_picture):
    features = folder("in", 22)
    Path("in/broken.png").write_bytes(b"no picture")
    inception = Inception()
    inception.ill = {noise_picture(3).tobytes()}
    found = score("inception-score", inception=inception)["inception-score"]
    assert found.value == pytest.approx(by_hand(np.delete(features, 3, axis=0))[0], rel=1e-6)
    assert found.reason.startswith("2 of 23 pictures could not be read or encoded; standard deviation")


def test_too_few_pictures_that_could_be_read_say_both(folder):
    folder("in", 9)
    Path("in/broken.png").write_bytes(b"no picture")
    found = score("inception-score")["inception-score"]
    assert isinstance(found, Unscored)
    assert "at least 10 pictures" in found.reason
    assert "1 of 10 pictures could not be read" in found.reason


def test_where_no_picture_could_be_read_there_is_no_inception_score_and_no_traceback():
    Path("in").mkdir()
    Path("in/broken.png").write_bytes(b"no picture")
    found = score("inception-score")["inception-score"]
    assert isinstance(found, Unscored)
    assert "1 of 1 pictures could not be read" in found.reason


def test_an_encoder_that_tells_no_classes_gives_no_inception_score_and_no_traceback(folder):
    folder("in", 12)
    try:
        found = score("inception-score", inception=FakeEncoder())["inception-score"]
    except BadInput:
        return
    assert isinstance(found, Unscored)


@pytest.mark.parametrize("kind", ["nan", "negative", "halves"])
def test_classes_that_are_no_probabilities_give_no_score(folder, kind):
    class Odd(Inception):
        def probabilities(self, features):
            chances = super().probabilities(features)
            return {"nan": chances * np.nan, "negative": chances - 0.5, "halves": chances / 2}[kind]

    folder("in", 12)
    found = score("inception-score", inception=Odd())["inception-score"]
    assert isinstance(found, Unscored)
    assert "probabilities" in found.reason


# --------------------------------------------------------------------------------------------------------------- unified


def test_unified_is_the_mean_after_the_norms_that_it_tells(folder):
    folder("in", 12), folder("ref", 12, 1000)
    found = score("fid,kid,unified", reference=REFERENCE)
    assert 0 < found["fid"].value < 100
    assert found["unified"].value == pytest.approx(1 - found["fid"].value / 100)
    assert found["unified"].reason == "norms: fid 100 to 0; without kid, of which there is no norm"


def test_unified_takes_the_mean_of_pictures_and_skips_those_unscored():
    pictures = {
        "clipscore": [Score(value=20.0), Unscored(reason="no prompt is known"), Score(value=36.0)],
        "ssim": [Score(value=0.1)] * 3,
    }
    assert unify(pictures, {"fid": Score(value=50.0)}) == Score(
        value=0.6, reason="norms: clipscore 0 to 40, fid 100 to 0; without ssim, of which there is no norm"
    )
    assert unify({"clipscore": [Unscored(reason="x")]}, {}) == Unscored(reason="there is no score of clipscore")
    assert isinstance(unify({"ssim": [Score(value=1.0)]}, {}), Unscored)


def test_without_one_of_its_scores_there_is_no_unified(folder):
    folder("in", 1), folder("ref", 12, 1000)
    found = score("fid,unified", reference=REFERENCE)
    assert found["unified"] == Unscored(reason="there is no score of fid")


def test_unified_alone_is_chatgens():
    assert [metric.name for metric in find_metrics(["unified"])] == ["fid", "clipscore", "hpsv2", "image-reward", "unified"]
    assert [metric.name for metric in find_metrics(["unified", "clipscore"])] == ["unified", "clipscore"]
    with pytest.raises(BadInput, match="needs a metric that has a norm"):
        find_metrics(["unified", "ssim"])


def test_a_large_set_is_told_to_be_a_sample_though_the_other_is_small():
    large, small = SimpleNamespace(seen=SAMPLE + 1), SimpleNamespace(seen=10)
    assert _sampled(large, small) == _sampled(small, large) == [f"of a sample of {SAMPLE:,}"]
    assert _sampled(small, small) == []
