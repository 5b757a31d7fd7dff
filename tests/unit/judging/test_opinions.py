"""A table of ratings as a whole: opinions, votes, screening and agreement, in Python and by the command."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from vernissage.cli import main
from vernissage.datasets.judged import read_judged
from vernissage.errors import BadInput
from vernissage.judging.mos import mean_opinions
from vernissage.judging.opinions import OpinionRow, gather_opinions
from vernissage.judging.ratings import Panel, Rating, panel_of, read_ratings
from vernissage.metrics.agreement import icc, krippendorff_alpha
from vernissage.records.table import read_rows, write_table


def ratings(values, dimension="perception"):
    """A table from rows of subjects; None where one did not rate."""
    return [
        Rating(f"s{subject}", f"p{picture}.png", dimension, value)
        for subject, row in enumerate(values)
        for picture, value in enumerate(row)
        if value is not None
    ]


GIVEN = [[1, 3, 5, 4], [2, 3, 4, 4], [1, 2, 5, 3]]


def test_opinions_are_those_of_the_dimensions_own_panel():
    (found,) = gather_opinions(ratings(GIVEN))
    expected = mean_opinions(panel_of(ratings(GIVEN), "perception"))
    assert [(row.mos, row.low, row.high, row.n) for row in found.rows] == [(o.mos, o.low, o.high, o.n) for o in expected.values()]
    assert [row.mean for row in found.rows] == pytest.approx((np.mean(GIVEN, axis=0) - 1) / 4)
    assert found.alpha == krippendorff_alpha(np.array(GIVEN, float))
    assert found.icc == icc(np.array(GIVEN, float))
    assert (found.subjects, found.votes, found.rejected) == (3, False, ())


def test_dimensions_stand_apart_and_votes_are_counted():
    table = ratings(GIVEN) + ratings([[1, 0, 1, None], [1, 0, 0, None], [1, 1, None, 0]], "Is it red?")
    _, votes = gather_opinions(table)
    assert votes.votes
    assert [(row.yes, row.n, row.mos) for row in votes.rows] == [(1, 3, None), (0, 3, None), (None, 2, None), (0, 1, None)]
    assert votes.rows[2].why == "1 said yes and 1 no"
    assert votes.alpha == krippendorff_alpha(np.array([[1, 0, 1, np.nan], [1, 0, 0, np.nan], [1, 1, np.nan, 0]]), "nominal")
    assert "without gaps" in votes.icc


def test_a_subject_who_is_rejected_takes_no_part_unless_screening_is_off():
    rng = np.random.default_rng(3)
    honest = np.clip(np.rint(rng.uniform(1, 5, size=200) + rng.normal(0, 0.4, size=(14, 200))), 1, 5)
    values = [*honest.tolist(), np.where(rng.random(200) < 0.5, 1.0, 5.0).tolist()]
    (screened,) = gather_opinions(ratings(values))
    assert [row.subject for row in screened.rejected] == ["s14"]
    assert {row.n for row in screened.rows} == {14}
    (whole,) = gather_opinions(ratings(values), screening=False)
    assert {row.n for row in whole.rows} == {15}
    assert screened.alpha > whole.alpha


def test_what_cannot_be_known_is_empty_with_the_reason():
    (found,) = gather_opinions(ratings([[4, 4], [None, None]]), screening=False)
    assert [row.mos for row in found.rows] == [None, None]
    assert [row.mean for row in found.rows] == [0.75, 0.75]
    assert all("differ" in row.why for row in found.rows)
    assert isinstance(found.alpha, str)
    (one,) = gather_opinions(ratings([[1, 50]]))
    assert [(row.low, row.mean) for row in one.rows] == [(None, None)] * 2, "one subject has no interval, and 50 is not from 1 to 5"
    with pytest.raises(BadInput, match="twice"):
        gather_opinions([*ratings(GIVEN), *ratings([[1]])])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_command_writes_the_table_and_tells_the_agreement(tmp_path, capsys, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    write_table(tmp_path / f"ratings.{ending}", [row._asdict() for row in ratings(GIVEN) + ratings([[1, 0]], "Is it red?")])
    out = tmp_path / f"mos.{ending}"
    with pytest.raises(SystemExit) as end:
        main(["data", "mos", str(tmp_path / f"ratings.{ending}"), "-o", str(out)])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "perception: opinions of 4 of 4 pictures by 3 subjects" in said
    assert f"Krippendorff's alpha: {krippendorff_alpha(np.array(GIVEN, float)):.3f}" in said
    assert "Is it red?: votes on 2 of 2 pictures by 1 subjects" in said
    rows = [row for _, row in read_rows(out, "opinions", OpinionRow._fields)]
    assert len(rows) == 6
    assert float(rows[0]["mos"]) == pytest.approx(gather_opinions(ratings(GIVEN))[0].rows[0].mos)
    assert (rows[4]["yes"], rows[4]["mos"]) == ("1", "")


def test_ratings_that_are_no_numbers_name_their_line(tmp_path, capsys):
    with (tmp_path / "r.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["subject", "picture", "dimension", "rating"], ["a", "x.png", "perception", "nan"]])
    with pytest.raises(SystemExit) as end:
        main(["data", "mos", str(tmp_path / "r.csv"), "-o", str(tmp_path / "out.csv")])
    assert end.value.code == 2
    assert "line 2" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
    assert isinstance(panel_of(ratings(GIVEN), "perception"), Panel)


def test_nobody_is_screened_for_votes():
    said = [Rating(f"s{s}", f"p{p}", "red?", 1.0 if s == 0 else float(p % 2)) for s in range(4) for p in range(6)]
    (found,) = gather_opinions(said)
    assert found.rejected == ()
    assert {row.n for row in found.rows} == {4}


def test_a_dimension_that_nobody_is_left_for_does_not_take_the_others_with_it():
    bored = [Rating("x", picture, "perception", 3.0) for picture in "ab"]
    awake = [Rating("x", picture, "correspondence", value) for picture, value in (("a", 3.0), ("b", 5.0))]
    first, second = gather_opinions([*bored, *awake])
    assert [row.why for row in first.rows] == ["every subject was left out: all 2 ratings are equal"] * 2
    assert (first.alpha, first.icc) == (first.rows[0].why, first.rows[0].why)
    assert all(row.mos is not None for row in second.rows)
    with pytest.raises(BadInput, match="Every subject was left out: all 2 ratings are equal"):
        gather_opinions(bored)


def test_a_picture_that_only_those_rated_who_were_left_out_says_so():
    bored = [Rating("x", picture, "perception", 3.0) for picture in "abz"]
    awake = [Rating(name, picture, "perception", value) for name in "mn" for picture, value in (("a", 2.0), ("b", 5.0))]
    (found,) = gather_opinions([*awake, *bored])
    assert [row.subject for row in found.rejected] == ["x"]
    assert {row.picture: row.why for row in found.rows} == {"a": "", "b": "", "z": "all who rated it were left out"}


def test_who_rates_at_random_is_told_and_still_counts():
    rng = np.random.default_rng(0)
    truth = rng.integers(1, 6, 40)
    values = [np.clip(truth + rng.integers(-1, 2, 40), 1, 5).tolist() for _ in range(6)] + [rng.integers(1, 6, 40).tolist()]
    (found,) = gather_opinions(ratings(values), screening=False)
    assert list(found.odd) == ["s6"]
    assert abs(found.odd["s6"]) < 0.26
    assert {row.n for row in found.rows} == {7}
    assert gather_opinions(ratings([row[:9] for row in values]))[0].odd == {}, "nine pictures are too few to tell"


def test_opinions_become_what_judges_are_trained_on(tmp_path, capsys):
    said = [*ratings(GIVEN), *ratings([[2, 2, 3, 5]], "correspondence")]
    said += [*ratings([[1, 0, 1, 1]], "Is it red?"), *ratings([[7, 8, 9, 10]], "fame")]
    (tmp_path / "in").mkdir()
    write_table(tmp_path / "in" / "ratings.csv", [row._asdict() for row in said])
    for index in range(4):
        Image.new("RGB", (4, 4), (60 * index, 0, 0)).save(tmp_path / "in" / f"p{index}.png")
    write_table(tmp_path / "prompts.csv", [{"image": "p0.png", "prompt": "a cat"}, {"image": "p3.png", "prompt": "a dog"}])
    out = tmp_path / "judged.jsonl"
    with pytest.raises(SystemExit) as end:
        main(["data", "mos", str(tmp_path / "in" / "ratings.csv"), "-o", str(out), "--prompts", str(tmp_path / "prompts.csv")])
    assert end.value.code == 0
    assert "Judges do not learn fame" in capsys.readouterr().err
    rows = read_judged(out)
    opinions = {(row.picture, each.dimension): row for each in gather_opinions(said) for row in each.rows}
    assert [row.open().getpixel((0, 0))[0] for row in rows] == [0, 60, 120, 180]
    assert [row.prompt for row in rows] == ["a cat", None, None, "a dog"]
    assert [row.perception for row in rows] == [pytest.approx(opinions[f"p{n}.png", "perception"].mos) for n in range(4)]
    assert [row.correspondence for row in rows] == [pytest.approx(opinions[f"p{n}.png", "correspondence"].mos) for n in range(4)]
    assert [row.answers for row in rows] == [{"Is it red?": said} for said in (True, False, True, True)]
    assert json.loads(out.read_text().split("\n")[0])["image"] == "in/p0.png"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_of_opinions_is_told_from_what_judges_read(tmp_path, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    write_table(tmp_path / f"mos.{ending}", [{"picture": "a.png", "mos": 50}])
    with pytest.raises(BadInput, match=r"data mos --out judged\.jsonl"):
        read_judged(tmp_path / f"mos.{ending}")


def test_prompts_have_no_place_in_a_table(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["data", "mos", "r.csv", "-o", str(tmp_path / "mos.csv"), "--prompts", "p.csv"])
    assert end.value.code == 2
    assert "no place for prompts" in capsys.readouterr().err


@pytest.mark.parametrize("line", [",a,perception,3", "x, ,perception,3", "x,a,,3"])
def test_a_rating_of_nobody_or_nothing_names_its_line(tmp_path, line):
    path = tmp_path / "ratings.csv"
    path.write_text(f"subject,picture,dimension,rating\nx,a, perception ,4\n{line}\n", encoding="utf-8")
    with pytest.raises(BadInput, match="line 3: subject, picture or dimension is empty"):
        read_ratings(path)
    path.write_text("subject,picture,dimension,rating\nx,a, perception ,4\n", encoding="utf-8")
    assert read_ratings(path) == [Rating("x", "a", "perception", 4.0)]
