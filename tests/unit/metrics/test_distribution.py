"""Distances between sets of features, against scipy and against plain definitions."""

import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.distance import cdist

from vernissage.errors import BadInput
from vernissage.metrics.distribution import (
    ClassParts,
    Statistics,
    frechet_distance,
    gather,
    gather_all,
    inception_score,
    kernel_distance,
    load_statistics,
    manifold_scores,
    merge,
    save_statistics,
)
from vernissage.metrics.unified import NORMS, Norm, unified


def features(n, d, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d) + shift


def frechet_by_matrix_root(one, two):
    """As pytorch-fid computes it."""
    first, second = np.cov(one.T), np.cov(two.T)
    root = scipy.linalg.sqrtm(first @ second).real
    apart = one.mean(axis=0) - two.mean(axis=0)
    return apart @ apart + np.trace(first) + np.trace(second) - 2 * np.trace(root)


@pytest.mark.parametrize(("n", "d"), [(200, 8), (500, 64), (1000, 128)])
def test_the_frechet_distance_is_that_of_a_matrix_root(n, d):
    one, two = features(n, d, 1), features(n // 2, d, 2, shift=0.3)
    assert frechet_distance(gather(one), gather(two)) == pytest.approx(frechet_by_matrix_root(one, two), rel=1e-9)


def test_fewer_pictures_than_features_are_no_trouble():
    one, two = features(20, 48, 1), features(30, 48, 2)
    # A matrix root of a singular product is inaccurate, so the trace is taken from the nuclear norm of the data instead.
    first, second = (one - one.mean(axis=0)) / np.sqrt(19), (two - two.mean(axis=0)) / np.sqrt(29)
    apart = one.mean(axis=0) - two.mean(axis=0)
    nuclear = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    expected = apart @ apart + (first**2).sum() + (second**2).sum() - 2 * nuclear
    assert frechet_distance(gather(one), gather(two)) == pytest.approx(expected, rel=1e-6)


def test_equal_sets_are_no_distance_apart():
    one = features(300, 32, 3)
    assert frechet_distance(gather(one), gather(one)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("sizes", [[500], [1, 499], [3, 7, 200, 290], [50] * 10])
def test_statistics_gathered_in_any_batches_are_the_same(sizes):
    whole = features(500, 16, 4) + 1000  # a far mean is where sums of squares lose digits
    parts = np.split(whole, np.cumsum(sizes)[:-1])
    found = gather_all(iter(parts))
    assert found.n == 500
    assert found.mean == pytest.approx(whole.mean(axis=0), rel=1e-12)
    assert found.covariance == pytest.approx(np.cov(whole.T), rel=1e-8, abs=1e-10)
    reverse = merge(gather_all(parts[1:]), gather(parts[0])) if len(parts) > 1 else found
    assert reverse.covariance == pytest.approx(found.covariance, rel=1e-8, abs=1e-10)


def test_statistics_are_kept_as_other_tools_keep_them(tmp_path):
    one, two = features(100, 8, 5), features(120, 8, 6)
    save_statistics(tmp_path / "ours.npz", gather(one))
    np.savez(tmp_path / "theirs.npz", mu=two.mean(axis=0), sigma=np.cov(two.T))
    ours, theirs = load_statistics(tmp_path / "ours.npz"), load_statistics(tmp_path / "theirs.npz")
    assert ours.n == 100
    assert frechet_distance(ours, theirs) == pytest.approx(frechet_by_matrix_root(one, two), rel=1e-9)
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(BadInput, match="no FID statistics"):
        load_statistics(tmp_path / "broken.npz")
    np.savez(tmp_path / "odd.npz", mu=np.zeros(3), sigma=np.zeros((2, 2)))
    with pytest.raises(BadInput, match="sigma of"):
        load_statistics(tmp_path / "odd.npz")


def test_kid_of_whole_sets_is_the_unbiased_estimate_by_definition():
    one, two = features(40, 12, 7), features(40, 12, 8, shift=0.5)
    xx, yy, xy = ((np.einsum("id,jd->ij", a, b) / 12 + 1) ** 3 for a, b in ((one, one), (two, two), (one, two)))
    m = 40
    expected = (xx.sum() - np.trace(xx)) / (m * (m - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1)) - 2 * xy.mean()
    found = kernel_distance(one, two, subsets=3, subset_size=40)
    assert found.mean == pytest.approx(expected)
    assert found.std == pytest.approx(0, abs=1e-12)
    near = kernel_distance(features(300, 12, 9), features(300, 12, 9), subsets=50, subset_size=100)
    assert abs(near.mean) < 3 * near.std / np.sqrt(50) + 0.05


def test_precision_recall_density_and_coverage_follow_their_definitions():
    real, generated, k = features(60, 5, 10), features(50, 5, 11, shift=0.7), 3
    real_radius = np.sort(cdist(real, real), axis=1)[:, k]
    generated_radius = np.sort(cdist(generated, generated), axis=1)[:, k]
    between = cdist(real, generated)
    found = manifold_scores(real, generated, neighbours=k, block=7)
    assert found.precision == pytest.approx((between <= real_radius[:, None]).any(axis=0).mean())
    assert found.recall == pytest.approx((between <= generated_radius).any(axis=1).mean())
    assert found.density == pytest.approx((between <= real_radius[:, None]).sum() / (k * 50))
    assert found.coverage == pytest.approx((between.min(axis=1) <= real_radius).mean())


def test_the_inception_score_of_sure_and_varied_is_the_number_of_classes():
    sure = np.tile(np.eye(5), (20, 1))
    assert inception_score(sure, splits=1)[0] == pytest.approx(5)
    assert inception_score(np.full((30, 5), 0.2))[0] == pytest.approx(1)
    with pytest.raises(BadInput, match="sum to 1"):
        inception_score(np.ones((30, 5)))
    with pytest.raises(BadInput, match="10 parts"):
        inception_score(sure[:3])


def test_an_inception_score_in_parts_that_come_one_by_one_is_that_of_all_at_once():
    probabilities = np.random.default_rng(0).dirichlet(np.full(7, 0.3), size=103)
    parts = ClassParts(103, limit=20)
    for start in range(0, 103, 16):
        places = np.arange(start, min(start + 16, 103))
        parts.add(places, probabilities[places])
    assert parts.score() == pytest.approx(inception_score(probabilities), rel=1e-12)


def test_the_parts_of_an_inception_score_are_cut_as_torch_fidelity_cuts_them():
    probabilities = np.random.default_rng(1).dirichlet(np.full(7, 0.3), size=23)
    scores = []
    for number in range(10):
        part = probabilities[number * 23 // 10 : (number + 1) * 23 // 10]
        scores.append(np.exp((part * (np.log(part) - np.log(part.mean(axis=0)))).sum(axis=1).mean()))
    assert inception_score(probabilities, seed=None) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-12)


def test_sets_that_cannot_be_compared_are_refused():
    with pytest.raises(BadInput, match="length 4 and 5"):
        frechet_distance(gather(features(9, 4, 0)), gather(features(9, 5, 0)))
    with pytest.raises(BadInput, match="at least 2"):
        frechet_distance(gather(features(1, 4, 0)), gather(features(9, 4, 0)))
    with pytest.raises(BadInput, match="finite"):
        gather(np.array([[1.0, np.nan]]))
    with pytest.raises(BadInput, match="no features"):
        gather_all([])
    with pytest.raises(BadInput, match="KID needs"):
        kernel_distance(features(1, 4, 0), features(9, 4, 0))
    with pytest.raises(BadInput, match="neighbours"):
        manifold_scores(features(5, 4, 0), features(9, 4, 0))


def test_unified_is_the_mean_of_normed_scores_and_a_lower_fid_counts_more():
    scores = {"fid": 20.0, "clipscore": 30.0, "hpsv2": 0.25, "image-reward": 0.2}
    assert unified(scores) == pytest.approx((0.8 + 0.75 + 0.5 + 0.7) / 4)
    assert unified(scores | {"fid": 10.0}) > unified(scores)
    assert Norm(0, 10).apply(99) == 1
    with pytest.raises(BadInput, match="no norm for ssim"):
        unified({"fid": 1.0, "ssim": 0.5})
    with pytest.raises(BadInput, match="needs a score"):
        unified({})
    with pytest.raises(BadInput, match="two different"):
        Norm(1, 1).apply(1)


@pytest.mark.parametrize(
    ("fid", "clip", "hps", "reward", "printed"),
    [
        (32.7, 64.6, 20.2, -34.6, 37.3),
        (21.3, 69.9, 23.5, 2.4, 59.0),
        (20.8, 70.7, 23.9, 4.0, 60.7),
        (19.1, 72.9, 25.1, 8.9, 65.9),
        (41.4, 70.6, 23.4, -3.1, 52.5),
        (40.7, 72.5, 25.0, 5.1, 59.2),
    ],
)
def test_unified_of_chatgens_columns_is_what_chatgen_prints(fid, clip, hps, reward, printed):
    scores = {"fid": fid, "clipscore": clip / 2.5, "hpsv2": hps / 100, "image-reward": reward / 100}
    assert 100 * unified(scores) == pytest.approx(printed, abs=0.05001)


def test_a_distance_of_known_normal_distributions_is_exact():
    one = Statistics(3, np.zeros(2), 2 * np.diag([1.0, 4.0]))
    two = Statistics(3, np.array([3.0, 0.0]), 2 * np.diag([4.0, 9.0]))
    assert frechet_distance(one, two) == pytest.approx(9 + (1 - 2) ** 2 + (2 - 3) ** 2)


@pytest.mark.parametrize(
    ("sizes", "subsets", "size"), [((60, 50), 20, 30), ((300, 40), 3, 20), ((1500, 1300), 4, 1100)], ids=["whole", "apart", "blocks"]
)
def test_kid_over_subsets_is_the_mean_of_each_subsets_estimate(sizes, subsets, size):
    one, two = features(sizes[0], 12, 7), features(sizes[1], 12, 8, shift=0.5)
    rng, expected = np.random.default_rng(5), []
    for _ in range(subsets):
        x, y = one[rng.choice(sizes[0], size, replace=False)], two[rng.choice(sizes[1], size, replace=False)]
        xx, yy, xy = ((a @ b.T / 12 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        expected.append((xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1)) - 2 * xy.mean())
    found = kernel_distance(one, two, subsets=subsets, subset_size=size, seed=5)
    assert found == pytest.approx((np.mean(expected), np.std(expected)), rel=1e-9)


@pytest.mark.parametrize(
    ("sigma", "told"),
    [
        (-100 * np.eye(3), "no features vary like that"),
        (np.eye(3) + 2 * (np.eye(3, k=1) + np.eye(3, k=-1)), "no features vary like that"),
        (np.eye(3) + np.eye(3, k=1), "not symmetric"),
        (np.eye(3) * (1 + 1j), "holds no FID statistics"),
    ],
)
def test_statistics_that_no_features_have_are_refused_and_not_scored_as_perfect(tmp_path, sigma, told):
    np.savez(tmp_path / "s.npz", mu=np.zeros(3), sigma=sigma)
    with pytest.raises(BadInput, match=told):
        load_statistics(tmp_path / "s.npz")


def test_statistics_of_few_or_constant_features_are_taken(tmp_path):
    rng = np.random.default_rng(0)
    for features in (rng.normal(size=(3, 40)), np.ones((5, 4)), rng.normal(size=(500, 6)).astype(np.float32)):
        save_statistics(tmp_path / "s.npz", gather(features))
        assert load_statistics(tmp_path / "s.npz").covariance == pytest.approx(gather(features).covariance)


def test_kernel_distance_takes_a_hundred_subsets_of_a_thousand_as_its_authors_do():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(1100, 4)), rng.normal(size=(1100, 4)) + 0.1
    assert kernel_distance(one, two) == kernel_distance(one, two, subsets=100, subset_size=1000)


def test_norms_of_unified_have_their_better_end_at_one():
    ends = {name: (each.zero, each.one) for name, each in NORMS.items()}
    assert (ends["pickscore"], ends["clip-fid"], ends["judge-perception"]) == ((15, 30), (100, 0), (0, 100))
