"""From ratings to opinion scores: z-scores, intervals, screening, votes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from vernissage.errors import BadInput
from vernissage.judging.levels import expected_score, level_of, score_of
from vernissage.judging.mos import Opinion, likert, mean_opinions, screen, vote, without, z_scores
from vernissage.judging.ratings import Panel, Rating, panel_of, read_ratings
from vernissage.records.table import write_table
from vernissage.records.verdict import LEVELS, Score, Unscored


def panel(values):
    values = np.asarray(values, dtype=float)
    return Panel(tuple(f"s{i}" for i in range(len(values))), tuple(f"p{i}" for i in range(values.shape[1])), values)


def test_z_scores_are_those_of_scipy_on_the_paper_s_scale():
    values = np.random.default_rng(0).integers(1, 6, size=(5, 30)).astype(float)
    assert z_scores(values) == pytest.approx(100 * (stats.zscore(values, axis=1, ddof=1) + 3) / 6)


def test_z_scores_pass_over_what_was_not_rated():
    values = np.array([[1.0, np.nan, 3.0, 5.0]])
    expected = 100 * (stats.zscore(np.array([1.0, 3.0, 5.0]), ddof=1) + 3) / 6
    assert z_scores(values)[0, [0, 2, 3]] == pytest.approx(expected)
    assert np.isnan(z_scores(values)[0, 1])


@given(
    arrays(float, (4, 6), elements=st.integers(1, 5).map(float)),
    st.floats(0.5, 3),
    st.floats(-2, 2),
)
def test_a_subject_s_own_scale_and_severity_do_not_matter(values, scale, shift):
    changed = values.copy()
    changed[1] = values[1] * scale + shift
    assert z_scores(changed) == pytest.approx(z_scores(values), nan_ok=True, abs=1e-6)


def test_opinions_come_with_the_interval_of_student_s_t():
    values = np.random.default_rng(1).integers(1, 6, size=(16, 40)).astype(float)
    opinions = mean_opinions(panel(values))
    own = z_scores(values)[:, 7]
    low, high = stats.t.interval(0.95, 15, loc=own.mean(), scale=stats.sem(own))
    assert isinstance(opinions["p7"], Opinion)
    assert opinions["p7"].n == 16
    assert opinions["p7"][1:4] == pytest.approx((own.mean(), low, high), abs=1e-6)


@pytest.mark.parametrize("raters", [2, 3, 4, 9, 31])
def test_the_interval_is_right_for_any_number_of_subjects(raters):
    values = np.random.default_rng(raters).normal(size=(raters, 12))
    own = z_scores(values)[:, 3]
    low, high = stats.t.interval(0.95, raters - 1, loc=own.mean(), scale=stats.sem(own))
    assert mean_opinions(panel(values))["p3"][2:4] == pytest.approx((low, high), rel=1e-6)


def test_a_constant_subject_and_one_who_rated_a_single_picture_give_no_number():
    opinions = mean_opinions(panel([[3, 3, 3], [np.nan, 4, np.nan]]))
    assert opinions == {name: Unscored(reason="no subject whose ratings differ rated it") for name in ("p0", "p1", "p2")}


def test_screening_finds_the_subject_who_answers_by_lot_and_the_one_who_never_differs():
    rng = np.random.default_rng(3)
    truth = rng.uniform(1, 5, size=200)
    honest = np.clip(np.rint(truth + rng.normal(0, 0.4, size=(14, 200))), 1, 5)
    by_lot = np.where(rng.random(200) < 0.5, 1.0, 5.0)
    strict = np.clip(honest[0] - 1, 1, 5)
    judged = screen(panel([*honest, by_lot, np.full(200, 3.0), strict]))
    rejected = {row.subject: row.reason for row in judged if not row.kept}
    assert set(rejected) == {"s14", "s15"}
    assert "outliers" in rejected["s14"]
    assert "equal" in rejected["s15"]
    assert without(panel([*honest, by_lot]), {"s14"}).values.shape == (14, 200)


def test_nobody_left_is_an_error():
    with pytest.raises(BadInput, match="Every subject"):
        without(panel([[1, 2]]), {"s0"})


def test_a_vote_is_the_majority_s_and_a_tie_is_none():
    votes = vote(panel([[1, 0, 1], [1, 0, 0], [0, np.nan, np.nan]]))
    assert votes == {"p0": Score(value=1.0), "p1": Score(value=0.0), "p2": Unscored(reason="1 said yes and 1 no")}
    with pytest.raises(BadInput, match="0 or 1"):
        vote(panel([[2.0]]))


def test_likert_ratings_outside_one_to_five_are_refused():
    assert likert(np.array([1, 3, np.nan])) == pytest.approx([0, 0.5, np.nan], nan_ok=True)
    with pytest.raises(BadInput, match="1 to 5"):
        likert(np.array([0.0]))


@given(st.floats(0, 100))
def test_a_score_lies_within_half_an_interval_of_the_middle_of_its_level(score):
    level = level_of(score, 0, 100)
    assert abs(score_of(level, 0, 100) - score) <= 10 + 1e-9


def test_levels_follow_the_paper_s_equation():
    assert [level_of(value, 20, 70) for value in (20, 30, 30.01, 40, 50, 60, 60.01, 70)] == [
        "bad", "bad", "poor", "poor", "fair", "good", "excellent", "excellent",
    ]  # fmt: skip
    assert (level_of(-5, 0, 1), level_of(9, 0, 1)) == ("bad", "excellent")
    assert expected_score([1, 0, 0, 0, 0], 0, 100) == score_of(LEVELS[0], 0, 100) == 10
    with pytest.raises(BadInput, match="no level"):
        level_of(1, 5, 5)
    with pytest.raises(BadInput, match="sum to 1"):
        expected_score([1, 1, 0, 0, 0], 0, 100)


def test_ratings_are_read_and_written_and_a_bad_line_is_named(tmp_path):
    rows = [Rating("ann", "a.png", "perception", 4.0), Rating("ann", "b.png", "perception", 2.0)]
    write_table(tmp_path / "ratings.csv", [row._asdict() for row in rows])
    assert read_ratings(tmp_path / "ratings.csv") == rows
    (tmp_path / "bad.csv").write_text("subject,picture,dimension,rating\nann,a.png,perception,4\nann,b.png,perception,NaN\n")
    with pytest.raises(BadInput, match="line 3"):
        read_ratings(tmp_path / "bad.csv")
    (tmp_path / "short.csv").write_text("subject,rating\nann,4\n")
    with pytest.raises(BadInput, match="lacks the column dimension, picture"):
        read_ratings(tmp_path / "short.csv")
    with pytest.raises(BadInput, match="twice"):
        panel_of([rows[0], rows[0]], "perception")
    with pytest.raises(BadInput, match="no ratings of 'beauty'"):
        panel_of(rows, "beauty")


def test_a_rating_beyond_all_scales_is_refused(tmp_path):
    (tmp_path / "r.csv").write_text("subject,picture,dimension,rating\nann,a,perception,1e308\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"line 2: the rating is '1e308'"):
        read_ratings(tmp_path / "r.csv")


def test_the_share_of_outliers_is_of_all_ratings_also_of_pictures_that_all_rate_alike():
    """ITU-R BT.500: P_i and Q_i over all presentations."""
    rng = np.random.default_rng(4)
    values = np.clip(np.round(3 + rng.normal(0, 0.6, (40, 60))), 1, 5)
    values[0, :2], values[0, 2:4] = 5, 1
    values[1:, :4] = np.where(rng.random((39, 4)) < 0.5, 3, 2.9)
    alike = np.full((40, 60), 3.0)
    few, many = (
        screen(Panel(tuple(map(str, range(40))), tuple(map(str, range(each.shape[1]))), each))[0]
        for each in (values, np.hstack([values, alike]))
    )
    assert not few.kept
    assert many.kept


def test_ratings_far_from_normal_are_screened_by_the_wider_bound():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 0.1, size=(20, 40))
    values[0, :4] += [9, -9, 9, -9]  # lone outliers: 4.36 of the 4.47 standard deviations that BT.500 allows there
    (found, *_) = screen(Panel(tuple(map(str, range(20))), tuple(map(str, range(40))), values))
    assert found.kept
