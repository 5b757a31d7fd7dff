"""A run on disk: what is kept, what is taken away, and what is refused."""

import json
from pathlib import Path

import pytest
from PIL import Image

from vernissage.bench.run import Header, Run, read_header, read_lines
from vernissage.errors import BadInput, IntegrityError
from vernissage.prompts import load_prompt, prompt_ids
from vernissage.records.picture import Picture


def header(**settings) -> Header:
    return Header.of("test", {"models": ["a", "b"], "seed": 0} | settings, says=("repainting/",))


def picture(level: int) -> Picture:
    return Picture.of(Image.new("RGB", (4, 4), (level, 0, 0)))


def lines(run: Run) -> list[dict]:
    return [json.loads(line) for line in (run.folder / "items.jsonl").read_bytes().splitlines()]


@pytest.fixture
def run(tmp_path) -> Run:
    """A run with two items, each with a picture."""
    made = Run(tmp_path / "run", header())
    for name, level in (("one", 1), ("two", 2)):
        made.add({"key": name, "words": f"{name} \u2028 caf\u00e9\r\n"}, [picture(level)])
    return made


def test_a_new_run_makes_its_folder_and_states_what_it_is(tmp_path):
    run = Run(tmp_path / "deep" / "run", header(seed=5))
    assert Header.model_validate_json((run.folder / "header.json").read_text(encoding="utf-8")) == header(seed=5)
    assert run.items == {}
    assert run.header.prompts == {name: load_prompt(name).hash for name in prompt_ids() if name.startswith("repainting/")}
    (tmp_path / "empty").mkdir()
    assert Run(tmp_path / "empty", header()).items == {}


def test_a_run_goes_on_with_what_it_holds(run):
    again = Run(run.folder, header())
    assert again.items == run.items
    assert list(again.items) == ["one", "two"]
    again.add({"key": "three"})
    assert [item["key"] for item in lines(again)] == ["one", "two", "three"]
    assert read_lines(run.folder) == again.items
    assert read_header(run.folder) == header()


def test_an_item_that_is_there_already_is_left_as_it_is(run):
    run.add({"key": "one", "words": "other"}, [picture(9)])
    assert len(lines(run)) == 2
    assert run.items["one"] == lines(run)[0]
    assert not run.picture_path(picture(9).hash).exists()


def test_pictures_are_kept_by_their_content_and_read_back(run):
    assert run.picture(picture(2).hash).getpixel((0, 0)) == (2, 0, 0)
    before = run.picture_path(picture(1).hash).stat().st_mtime_ns
    run.add({"key": "three"}, [picture(1)])
    assert run.picture_path(picture(1).hash).stat().st_mtime_ns == before
    with pytest.raises(BadInput):
        run.picture("0" * 64)


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_last_line_that_was_cut_off_is_dropped_and_its_item_done_again(run, cut):
    path = run.folder / "items.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    again = Run(run.folder, header())
    assert list(again.items) == ["one"]
    assert path.read_bytes() == whole.splitlines(keepends=True)[0]
    again.add(run.items["two"])
    assert path.read_bytes() == whole


def test_a_file_that_holds_only_a_piece_of_a_line_is_an_empty_one(run):
    path = run.folder / "items.jsonl"
    path.write_bytes(path.read_bytes()[:10])
    assert Run(run.folder, header()).items == {}
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "damage",
    [
        *(b"\n", b"{\n", b'{"key": "on\n', b"\xff\xfe\n", b"\x00\x00\x00\n"),
        *(
            b"[1]\n",
            b"5\n",
            b"null\n",
            b'"key"\n',
            b"{}\n",
            b'{"keys": "a"}\n',
            b'{"key": ["a"]}\n',
            b'{"key": {}}\n',
        ),  # JSON, but no items
    ],
)
def test_a_line_in_the_middle_that_is_damaged_is_named(run, damage):
    path = run.folder / "items.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage + second)
    for open_again in (lambda: Run(run.folder, header()), lambda: read_lines(run.folder)):
        with pytest.raises(IntegrityError, match=r"items\.jsonl, line 2 is damaged"):
            open_again()
    assert path.read_bytes() == first + damage + second


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (header(seed=1), "settings seed"),
        (header(models=["a"]), "settings models"),
        (header(more=True), "settings more"),
        (header(seed=1, more=True), "settings more, settings seed"),
        (header(many={str(n): n for n in range(9)}), "settings many"),
        (header().model_copy(update={"suite": "other"}), "suite"),
        (header().model_copy(update={"versions": {"vernissage": "0.0.0"}}), "versions vernissage"),
        (header().model_copy(update={"prompts": header().prompts | {"repainting/direct": "x"}}), "prompts repainting/direct"),
    ],
)
def test_a_run_under_another_header_is_refused_and_told_what_differs(run, changed, named):
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(BadInput) as caught:
        Run(run.folder, changed)
    assert f"differs in: {named}." in str(caught.value)
    assert "--out" in caught.value.hint
    assert before == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


def test_a_run_may_go_on_on_another_machine(run):
    assert Run(run.folder, header().model_copy(update={"machine": "a toaster"})).items == run.items


def test_settings_are_compared_as_json_tells_them(tmp_path):
    Run(tmp_path / "run", header(sizes=(1, 2), folder=tmp_path, one=1))
    assert Run(tmp_path / "run", header(sizes=[1, 2], folder=str(tmp_path), one=1)).items == {}


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("milk", encoding="utf-8")
    with pytest.raises(BadInput, match="is not empty and holds no run"):
        Run(tmp_path / "notes", header())
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["todo.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "run").write_text("milk", encoding="utf-8")
    for folder in (tmp_path / "run", tmp_path / "run" / "deeper"):
        with pytest.raises(BadInput, match="run") as caught:
            Run(folder, header())
        assert "--out" in caught.value.hint
        with pytest.raises(BadInput, match="holds no run"):
            read_header(folder)
    assert (tmp_path / "run").read_text(encoding="utf-8") == "milk"


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[1]", b"\xff\xfe", b'{"suite": 5}'])
def test_a_run_whose_header_is_damaged_is_refused_and_left_alone(run, content):
    (run.folder / "header.json").write_bytes(content)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(BadInput, match="damaged"):
        Run(run.folder, header())
    assert before == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("left", [b"", b'{"suite": "te', None])
def test_a_run_that_was_cut_off_before_its_header_was_whole_can_be_begun_anew(tmp_path, left):
    folder = tmp_path / "run"
    folder.mkdir()
    if left is not None:
        (folder / ".header.json.part").write_bytes(left)
    run = Run(folder, header())
    assert read_header(folder) == header()
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "header.json", "pictures"]
    run.add({"key": "one"}, [picture(1)])
    assert list(Run(folder, header()).items) == ["one"]


def test_sweeping_leaves_folders_and_files_of_others_alone(tmp_path):
    run = Run(tmp_path / "run", header())
    for name in ("@eaDir", "orphan.png"):
        (run.folder / "pictures" / name).mkdir() if name.startswith("@") else picture(2).save(run.folder / "pictures" / name)
    (run.folder / "pictures" / "notes.txt").write_text("mine", encoding="utf-8")
    assert run.sweep([]) == 1
    assert sorted(path.name for path in (run.folder / "pictures").iterdir()) == ["@eaDir", "notes.txt"]


def test_the_header_is_there_before_anything_else(tmp_path, monkeypatch):
    made = Path.mkdir

    def cut_off(self, *arguments, **options):
        if self.name == "pictures":
            raise KeyboardInterrupt
        made(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", cut_off)
        with pytest.raises(KeyboardInterrupt):
            Run(tmp_path / "run", header())
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["header.json"]
    Run(tmp_path / "run", header()).add({"key": "one"}, [picture(1)])
    assert list(read_lines(tmp_path / "run")) == ["one"]


def test_reading_a_run_writes_nothing(run):
    path = run.folder / "items.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])  # a run that is just writing
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert list(read_lines(run.folder)) == ["one"]
    assert read_header(run.folder) == header()
    assert before == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


def test_a_run_without_any_line_holds_nothing(tmp_path):
    run = Run(tmp_path / "run", header())
    assert read_lines(run.folder) == {}
    (run.folder / "items.jsonl").touch()
    assert read_lines(run.folder) == Run(run.folder, header()).items == {}


def test_an_item_with_half_a_character_is_kept_and_read_back(run):
    item = {"key": "odd \ud800", "words": "\udfff caf\u00e9 \U0001f600"}
    run.add(item)
    assert read_lines(run.folder)["odd \ud800"] == Run(run.folder, header()).items["odd \ud800"] == item


def test_an_unscored_item_is_replaced_when_it_was_done_again(run):
    run.add({"key": "three", "unscored": "down"})
    run.add({"key": "three", "unscored": "still down"})
    run.add({"key": "three", "words": "at last"}, [picture(3)])
    run.add({"key": "three", "words": "once more"}, [picture(4)])
    assert run.items["three"] == {"key": "three", "words": "at last"}
    assert read_lines(run.folder) == Run(run.folder, header()).items == run.items
    assert run.picture_path(picture(3).hash).exists()
    assert not run.picture_path(picture(4).hash).exists()
    run.add({"key": "one", "unscored": "down"})  # what is scored does not get lost
    assert "unscored" not in read_lines(run.folder)["one"]


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", b"[1]", b'{"suite": "test"}'])
def test_reading_a_folder_that_holds_no_run_says_so(tmp_path, content):
    folder = tmp_path / "run"
    if content is not None:
        folder.mkdir()
        (folder / "header.json").write_bytes(content)
    with pytest.raises(BadInput, match="holds no run"):
        read_header(folder)


def test_a_line_is_written_only_after_its_pictures(run, monkeypatch):
    def fail(self, path):
        raise KeyboardInterrupt

    first = picture(7)
    with monkeypatch.context() as patch:
        patch.setattr(Picture, "save", fail)
        with pytest.raises(KeyboardInterrupt):
            run.add({"key": "three"}, [first])
    assert "three" not in run.items
    assert len(lines(run)) == 2
    run.add({"key": "three"}, [first])
    assert "three" in Run(run.folder, header()).items
    assert run.picture_path(first.hash).exists()


def test_pictures_are_on_disk_when_their_line_is_written(run, monkeypatch):
    seen = []
    monkeypatch.setattr("os.fsync", lambda _file: seen.append(run.picture_path(picture(7).hash).exists()))
    run.add({"key": "three"}, [picture(7)])
    assert seen == [True]


def test_sweeping_takes_orphans_away_and_nothing_else(run):
    run.add({"key": "three"}, [picture(3)])
    folder = run.folder / "pictures"
    picture(8).save(run.picture_path(picture(8).hash))
    (folder / ".half-xyz.part").write_bytes(b"half a picture")
    kept = [picture(level).hash for level in (1, 2, 3)]
    assert run.sweep(kept) == 2
    assert sorted(path.stem for path in folder.iterdir()) == sorted(kept)
    assert run.sweep(kept) == 0
    assert len(Run(run.folder, header()).items) == 3


def test_of_many_differences_the_first_are_told_and_the_rest_counted():
    one, two = (header(references={f"r{n}": sign * (n + 1) for n in range(9)}) for sign in (1, -1))
    assert one.differences(two) == [*(f"settings references r{n}" for n in range(6)), "3 more"]
