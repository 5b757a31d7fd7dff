"""Correlations against scipy, and the sign-flip test against all sign patterns."""

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from vernissage.errors import BadInput
from vernissage.metrics.correlation import krcc, or_none, plcc, plcc_interval, plcc_logistic, srcc, srcc_interval
from vernissage.metrics.interval import decimals, mean_interval, mean_of_means, ratio_interval, share_interval, sign_flip_test

MEASURES = {plcc: stats.pearsonr, srcc: stats.spearmanr, krcc: stats.kendalltau}
ratings = st.integers(1, 5).map(float)
rows = st.integers(3, 40).flatmap(lambda size: st.tuples(*(st.lists(ratings, min_size=size, max_size=size) for _ in range(2))))


@settings(max_examples=60, database=None)
@given(rows)
@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.__name__)
def test_a_correlation_of_ratings_with_many_ties_is_that_of_scipy(measure, pair):
    first, second = map(np.array, pair)
    assume(np.ptp(first) > 0 and np.ptp(second) > 0)
    assert measure(first, second) == pytest.approx(MEASURES[measure](first, second).statistic, abs=1e-12)
    assert measure(second, first) == pytest.approx(measure(first, second), abs=1e-12)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.__name__)
def test_a_correlation_of_measurements_is_that_of_scipy(measure):
    rng = np.random.default_rng(0)
    first = rng.normal(size=2300)  # more than two blocks of the pairwise comparison
    second = np.round(0.4 * first + rng.normal(size=2300), 1)
    assert measure(first, second) == pytest.approx(MEASURES[measure](first, second).statistic, abs=1e-12)


def test_rank_correlations_do_not_mind_a_bent_scale_and_pearson_does():
    first = np.array([1.0, 2.0, 3.0])
    assert srcc(first, first**2) == pytest.approx(1)
    assert krcc(first, -(first**2)) == pytest.approx(-1)
    assert plcc(first, first**2) == pytest.approx(8 / np.sqrt(2 * 294 / 9))  # products, squares and squares of the distances


def test_whole_numbers_and_lists_are_taken_too():
    assert krcc([1, 2, 3, 3], [1, 3, 2, 2]) == pytest.approx(stats.kendalltau([1, 2, 3, 3], [1, 3, 2, 2]).statistic)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.__name__)
@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([1.0, 2.0], [1.0, 2.0], "at least 3"),
        ([], [], "at least 3"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], "one length"),
        ([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]], "two rows"),
        ([1.0, 2.0, float("nan")], [1.0, 2.0, 3.0], "missing"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, float("inf")], "missing"),
        ([0.1, 0.1, 0.1], [1.0, 2.0, 3.0], "constant"),
        ([1.0, 2.0, 3.0], [0.3, 0.3, 0.3], "constant"),
    ],
)
def test_a_correlation_that_is_undefined_is_refused_with_the_reason(measure, first, second, reason):
    with pytest.raises(BadInput, match=reason):
        measure(np.array(first), np.array(second))


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e300, 1.0])
@pytest.mark.parametrize("other", [1e-200, 1e200])
def test_numbers_of_any_size_neither_over_nor_underflow(scale, other):
    rng = np.random.default_rng(0)
    first = rng.normal(size=50)
    second = first + rng.normal(size=50)
    assert plcc(first * scale, second * other) == pytest.approx(plcc(first, second), abs=1e-12)
    assert plcc(first * scale, -first * other) == pytest.approx(-1)


# -------------------------------------------------------------------------------------------------------- sign flips


def exact(differences: np.ndarray) -> float:
    """The share of all sign patterns whose sum is at least as far from zero."""
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    return float(np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12))


@pytest.mark.parametrize(
    "differences",
    [
        [0.3],
        [0.2, 0.2, 0.2, 0.2, 0.2],
        [0.1, -0.4, 0.3, 0.25],
        [0.5, -0.5, 0.1],
        [0.01, 0.02, 0.04, 0.08, 0.16, -0.32, 0.64],
        [-0.1, -0.2, -0.15, -0.3, -0.05, -0.12, 0.02, -0.2, -0.11, -0.07],
    ],
)
def test_the_sign_flip_test_is_that_over_all_patterns(differences):
    values, draws = np.array(differences), 20_000
    p = exact(values)
    spread = 4 * np.sqrt(p * (1 - p) / draws) + 1 / draws
    assert sign_flip_test(values, draws=draws) == pytest.approx(p, abs=spread)


def test_a_mean_of_groups_is_drawn_anew_within_each_group():
    rng = np.random.default_rng(1)
    groups = [rng.normal(0, 1, 400), rng.normal(5, 1, 100)]
    found = mean_of_means(groups)
    assert found.value == pytest.approx((groups[0].mean() + groups[1].mean()) / 2)
    error = np.sqrt(groups[0].var() / 400 + groups[1].var() / 100) / 2
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert found.n == 500
    for wrong in ([], [np.array([1.0]), np.array([])], [np.array([np.nan])]):
        with pytest.raises(BadInput, match="groups"):
            mean_of_means(wrong)


def test_the_sign_flip_test_has_no_direction_and_never_says_never():
    values = np.full(40, 0.1)
    assert sign_flip_test(values) == sign_flip_test(-values) == 1 / 10_001  # only the observed pattern
    assert sign_flip_test(values, draws=500) == 1 / 1001  # draws come in thousands
    assert sign_flip_test(np.zeros(4)) == 1


def test_the_sign_flip_test_is_the_same_again_and_follows_its_seed():
    values = np.array([0.1, -0.4, 0.3, 0.25, 0.2])
    assert sign_flip_test(values) == sign_flip_test(values)
    assert len({sign_flip_test(values, seed=seed) for seed in range(5)}) > 1


@pytest.mark.parametrize("differences", [[], [[0.1, 0.2]], [0.1, float("nan")], [float("inf"), 0.1], [float("-inf")]])
def test_the_sign_flip_test_needs_a_row_of_differences(differences):
    with pytest.raises(BadInput, match="differences"):
        sign_flip_test(np.array(differences))


@pytest.mark.parametrize("values", [[], [[0.1, 0.2]], [0.1, float("nan")], [float("inf"), 0.1]])
def test_a_mean_of_missing_numbers_is_refused(values):
    with pytest.raises(BadInput, match="finite"):
        mean_interval(np.array(values))


INTERVALS = {srcc: srcc_interval, plcc: plcc_interval}


@pytest.mark.parametrize("measure", INTERVALS, ids=lambda measure: measure.__name__)
def test_an_interval_is_that_of_correlations_of_items_drawn_again(measure):
    rng = np.random.default_rng(1)
    first = rng.integers(1, 6, size=60).astype(float)  # with ties
    second = first + rng.normal(size=60)
    drawing = np.random.default_rng(7)
    drawn = [measure(first[chosen], second[chosen]) for chosen in (drawing.integers(60, size=60) for _ in range(300))]
    found = INTERVALS[measure](first, second, draws=300, seed=7)
    assert found == pytest.approx((measure(first, second), *np.percentile(drawn, [2.5, 97.5]), 60))
    assert found.low < found.value < found.high


@pytest.mark.parametrize("measure", INTERVALS, ids=lambda measure: measure.__name__)
def test_items_of_one_group_are_drawn_together(measure):
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(20), 5)
    first = rng.normal(size=20)[groups] + 0.1 * rng.normal(size=100)
    second = first + rng.normal(size=20)[groups]
    drawing = np.random.default_rng(3)
    drawn = []
    for _ in range(300):
        rows = np.concatenate([np.flatnonzero(groups == group) for group in drawing.integers(20, size=20)])
        drawn.append(measure(first[rows], second[rows]))
    found = INTERVALS[measure](first, second, groups=groups, draws=300, seed=3)
    assert found[1:3] == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    alone = INTERVALS[measure](first, second, draws=300, seed=3)
    assert found.high - found.low > 1.5 * (alone.high - alone.low), "twenty groups tell less than a hundred items"


def test_of_a_constant_there_is_no_interval():
    assert srcc_interval(np.ones(9), np.arange(9.0)) is None
    assert plcc_interval(np.arange(2.0), np.arange(2.0)) is None


def test_an_interval_of_a_share_is_as_wide_as_theory_says_and_draws_items_whole():
    rng = np.random.default_rng(0)
    asked = rng.integers(1, 9, size=400)
    right = rng.binomial(asked, rng.beta(1, 1, 400))  # answers about one item hang together
    found, share = ratio_interval(right, asked), right.sum() / asked.sum()
    error = np.sqrt(((right - share * asked) ** 2).sum()) / asked.sum()
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.08)
    values = rng.normal(size=400)
    mean = mean_interval(values)
    assert (mean.high - mean.low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.08)


def test_draws_in_which_nothing_was_asked_say_nothing():
    found = ratio_interval(np.array([1.0, 1.0, 0.0, 0.0]), np.array([2.0, 1.0, 0.0, 0.0]))
    assert (found.value, found.low, found.high) == (pytest.approx(2 / 3), 0.5, 1), "never nought of nought"


@pytest.mark.parametrize(("right", "count"), [(1, 1), (0, 1), (12, 12), (11, 12), (0, 12), (6, 12), (299, 300), (300, 300)])
def test_the_interval_of_a_share_of_right_ones_is_wilsons(right, count):
    values = np.arange(count) < right
    expected = stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    found = share_interval(values)
    assert found[:3] == pytest.approx((right / count, expected.low, expected.high), abs=1e-6)
    assert ratio_interval(3 * values, np.full(count, 3)) == found, "answers about one item hang together"


def test_a_single_item_is_shown_without_an_interval():
    assert str(mean_interval(np.array([0.5]))) == "50.0 [-]"
    assert decimals(mean_interval(np.array([0.5]))) == "0.500 [-]"


def test_items_that_are_all_alike_have_an_interval_all_the_same():
    assert ratio_interval(np.array([7]), np.array([8])).high - ratio_interval(np.array([7]), np.array([8])).low > 0.5
    half = ratio_interval(np.ones(12), np.full(12, 2))
    assert half[:3] == pytest.approx((0.5, *stats.binomtest(6, 12).proportion_ci(0.95, method="wilson")), abs=1e-6)
    assert mean_interval(np.ones(9))[:3] == (1, 1, 1), "a mean of values that are no shares is left alone"


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
def test_a_mean_of_shares_is_where_its_interval_says_also_of_few_that_are_nearly_all_right(share):
    rng = np.random.default_rng(3)
    samples = [mean_of_means([(rng.random(4) < share).astype(float) for _ in range(6)]) for _ in range(2000)]
    assert np.mean([found.low <= share <= found.high for found in samples]) > 0.92  # Wilson's own is 0.936 for 12 of 24
    assert all(found.low <= found.value <= found.high and 0 <= found.low < found.high <= 1 for found in samples)


def test_a_correlation_is_never_beyond_one():
    rng = np.random.default_rng(0)
    for _ in range(300):
        x = rng.normal(size=5)
        assert abs(plcc(x, 3 * x + 1)) <= 1


def test_a_falling_logistic_is_fitted_too():
    x = np.linspace(-3, 3, 50)
    assert plcc_logistic(x, 1 / (1 + np.exp(2 * x))) == pytest.approx(1)
    assert plcc_logistic(x, 1 / (1 + np.exp(2 * x))) > plcc(x, -1 / (1 + np.exp(2 * x))) + 0.01


def test_a_logistic_is_fitted_to_whatever_few_or_stepped_scores_there_are():
    rng = np.random.default_rng(0)
    for _ in range(1500):
        n = int(rng.integers(3, 6))
        x, y = rng.normal(50, 20, n), rng.normal(50, 10, n)
        if rng.random() < 0.3:
            x = np.where(x > 50, 100.0, 0.0)
        value = or_none(plcc_logistic, x, y)  # a fit that is flat has none
        assert value is None or -1 <= value <= 1
    assert np.isfinite(plcc_logistic(np.array([44.0, 77, 50, 18]), np.array([52.1, 60.3, 48.8, 31.7])))
