"""Tables in files."""

import pytest

from vernissage.errors import BadInput
from vernissage.records.table import read_csv, read_rows, write_table


@pytest.fixture
def table(tmp_path):
    def table(text: str):
        path = tmp_path / "t.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return table


def test_rows_come_with_the_lines_they_end_on(table):
    path = table('image,prompt\n1.png,"a cat,\nasleep"\n2.png,a dog\n')
    assert read_csv(path, "prompts") == [(3, {"image": "1.png", "prompt": "a cat,\nasleep"}), (4, {"image": "2.png", "prompt": "a dog"})]


def test_what_a_row_lacks_is_empty_and_so_may_be_what_it_has_too_many(table):
    assert read_csv(table("image,prompt\n1.png\n2.png,a dog,,\n"), "prompts") == [
        (2, {"image": "1.png", "prompt": ""}),
        (3, {"image": "2.png", "prompt": "a dog"}),
    ]


def test_a_comma_outside_quotes_is_told_with_its_line_instead_of_cutting_the_prompt_off(table):
    with pytest.raises(BadInput, match="line 3: more cells than columns") as refused:
        read_csv(table("image,prompt\n1.png,a dog\n2.png,a cat, red\n"), "prompts")
    assert "quotes" in refused.value.hint


def test_a_column_that_stands_there_twice_is_refused(table):
    with pytest.raises(BadInput, match="several columns score"):
        read_csv(table("image,score,score\n1.png,1,2\n"), "predictions")


def test_semicolons_are_told(table):
    with pytest.raises(BadInput, match="lacks the column image") as refused:
        read_csv(table("image;prompt\n1.png;a cat\n"), "prompts", ("image",))
    assert "semicolons" in refused.value.hint


def test_columns_without_a_name_may_be_several(table):
    assert read_csv(table("image,,\n1.png,,\n"), "predictions")[0][1]["image"] == "1.png"


def test_half_a_character_does_not_keep_a_table_from_being_written(tmp_path):
    for name in ("t.csv", "t.parquet"):
        write_table(tmp_path / name, [{"image": "sc\udcff.png", "score": 1.5}])
        ((_, row),) = read_rows(tmp_path / name, "scores", ("image",))
        assert row["image"].startswith("sc")


def test_rows_that_a_form_cannot_hold_are_told(tmp_path):
    with pytest.raises(BadInput, match="cannot hold these rows"):
        write_table(tmp_path / "t.parquet", [{"a": 1}, {"a": "x"}])
    with pytest.raises(BadInput, match="cannot hold these rows"):
        write_table(tmp_path / "t.csv", [{"a": 1}, {"a": 1, "b": 2}])
