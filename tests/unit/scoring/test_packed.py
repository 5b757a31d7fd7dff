"""Datasets of Hugging Face's `datasets`, written here byte by byte as that package writes them."""

import io
import json

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from vernissage.errors import BadInput
from vernissage.scoring.layouts import find_entries

COLOURS = ("red", "green", "blue")


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("VERNISSAGE_HOME", str(tmp_path / "home"))


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


def table(**columns) -> arrow.Table:
    images = [{"bytes": png(colour), "path": None} for colour in COLOURS]
    return arrow.table({"image": images, **columns})


def seen(entries) -> list[tuple]:
    return [(Image.open(entry.path).getpixel((0, 0)), entry.prompt, entry.group) for entry in entries]


WANTED = [((255, 0, 0), "a", ""), ((0, 128, 0), "b", ""), ((0, 0, 255), "c", "")]


@pytest.mark.parametrize("column", ["prompt", "text", "caption"])
def test_a_parquet_file_is_a_folder_of_pictures_with_prompts(tmp_path, column):
    parquet.write_table(table(**{column: ["a", "b", "c"]}), tmp_path / "set.parquet")
    assert seen(find_entries(tmp_path / "set.parquet")) == WANTED


def test_shards_in_a_folder_are_read_in_order(tmp_path):
    whole = table(prompt=["a", "b", "c"])
    (tmp_path / "set" / "data").mkdir(parents=True)
    parquet.write_table(whole.slice(0, 2), tmp_path / "set" / "data" / "test-00000-of-00002.parquet")
    parquet.write_table(whole.slice(2), tmp_path / "set" / "data" / "test-00001-of-00002.parquet")
    assert seen(find_entries(tmp_path / "set")) == WANTED


def saved_to_disk(folder, rows: arrow.Table):
    folder.mkdir()
    with arrow.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file, arrow.ipc.new_stream(file, rows.schema) as stream:
        stream.write_table(rows)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))


def test_a_dataset_saved_to_disk_is_read(tmp_path):
    saved_to_disk(tmp_path / "set", table(prompt=["a", "b", "c"], group=["x", "y", "x"]))
    assert [row[1:] for row in seen(find_entries(tmp_path / "set"))] == [("a", "x"), ("b", "y"), ("c", "x")]


def test_pictures_are_unpacked_once_and_anew_where_the_file_has_changed(tmp_path):
    path = tmp_path / "set.parquet"
    parquet.write_table(table(prompt=["a", "b", "c"]), path)
    first = find_entries(path)
    written = [entry.path.stat().st_mtime_ns for entry in first]
    assert [entry.path.stat().st_mtime_ns for entry in find_entries(path)] == written
    parquet.write_table(table(prompt=["a", "b", "c"]).slice(1), path)
    assert seen(find_entries(path)) == WANTED[1:]


def test_paths_in_a_table_are_seen_from_the_table(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "one.png")
    parquet.write_table(arrow.table({"image": [{"bytes": None, "path": "one.png"}], "prompt": ["a"]}), tmp_path / "set.parquet")
    assert seen(find_entries(tmp_path / "set.parquet")) == WANTED[:1]


@pytest.mark.parametrize("rows", [{"prompt": ["a"]}, {"image": [None]}, {"image": [{"bytes": None, "path": None}]}])
def test_a_row_without_a_picture_is_named(tmp_path, rows):
    parquet.write_table(arrow.table(rows), tmp_path / "set.parquet")
    with pytest.raises(BadInput, match="row 0 holds no picture"):
        find_entries(tmp_path / "set.parquet")


def test_a_damaged_file_or_dataset_is_the_users_mistake(tmp_path):
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BadInput, match="damaged"):
        find_entries(tmp_path / "damaged.parquet")
    saved_to_disk(tmp_path / "disk", table())
    (tmp_path / "disk" / "state.json").write_text("{}")
    with pytest.raises(BadInput, match="no whole dataset"):
        find_entries(tmp_path / "disk")
