"""Files that a kill leaves whole."""

import json
import os
from pathlib import Path

import pytest

from vernissage.errors import BadInput
from vernissage.records.files import append_lines, is_unfinished, read_lines, write_whole


def numbers(path: Path, *, mend: bool = False) -> list[int]:
    def parse(line: bytes, number: int) -> int:
        try:
            return json.loads(line)["id"]
        except (ValueError, LookupError, TypeError) as error:
            raise BadInput(f"line {number}: {error}") from error

    return read_lines(path, parse, what="numbers", mend=mend)


def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_nothing_beside_it(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "a" / "x.txt", "old \ud800")
    assert path.read_bytes() == b"old ?"

    def full(*_told: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(BadInput, match=r"Cannot write .*x\.txt: no space left on device") as refused:
        write_whole(path, b"new", hint="Buy a disk.")
    assert refused.value.hint == "Buy a disk."
    assert [(each.name, each.read_bytes()) for each in path.parent.iterdir()] == [("x.txt", b"old ?")]


def test_what_a_kill_leaves_is_told_from_other_files(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Path, "replace", lambda fresh, path: seen.append(fresh) or os.replace(fresh, path))
    path = write_whole(tmp_path / f"{'long' * 50}.json", "1")
    assert path.read_text(encoding="utf-8") == "1"
    assert [is_unfinished(each) for each in seen] == [True]
    assert not any(map(is_unfinished, [path, tmp_path / ".lock", tmp_path / "x.part", tmp_path / "header.json"]))


@pytest.mark.parametrize(
    ("before", "after"), [(None, '{"id": 1}\n'), ("", '{"id": 1}\n'), ("x\n", 'x\n{"id": 1}\n'), ("{cut", '{cut\n{"id": 1}\n')]
)
def test_lines_are_added_after_whatever_was_cut_off(tmp_path, before, after):
    path = tmp_path / "in" / "x.jsonl"
    if before is not None:
        write_whole(path, before)
    append_lines(path, ['{"id": 1}'])
    assert path.read_text(encoding="utf-8") == after


def test_what_cannot_be_written_or_read_is_told_with_the_fix(tmp_path):
    for write in (write_whole, append_lines):
        with pytest.raises(BadInput, match="Cannot write") as refused:
            write(tmp_path, "x", hint="Move.")
        assert refused.value.hint == "Move."
    with pytest.raises(BadInput, match="Cannot read the numbers"):
        numbers(tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "found", "mended"),
    [
        (b'{"id": 1}\n{"id": 2}\n', [1, 2], None),
        (b'\xef\xbb\xbf{"id": 1}\r\n\r\n{"id": 2}', [1, 2], b'{"id": 1}\r\n\r\n{"id": 2}\n'),
        (b'{"id": 1}\n{"id":', [1], b'{"id": 1}\n'),
        (b'{"id": 1}\ncut', [1], b'{"id": 1}\n'),
        (b'{"id":', [], b""),
        (b"", [], None),
    ],
)
def test_a_last_line_that_was_cut_off_is_taken_out(tmp_path, content, found, mended):
    path = write_whole(tmp_path / "x.jsonl", content)
    assert numbers(path, mend=True) == found
    assert path.read_bytes() == (content if mended is None else mended)


def test_a_mistake_elsewhere_or_a_foreign_file_is_left_as_it_is(tmp_path):
    for content, where in ((b'{"id": 1}\nmilk\n{"id": 2}\n', "line 2"), (b"milk", "line 1"), (b'\n\n{"name": 3}\n', "line 3")):
        path = write_whole(tmp_path / "x.jsonl", content)
        with pytest.raises(BadInput, match=where):
            numbers(path, mend=True)
        assert path.read_bytes() == content
    with pytest.raises(BadInput, match="line 2"):
        numbers(write_whole(tmp_path / "y.jsonl", b'{"id": 1}\n{"id":'))
