"""`vernissage judge` on fakes: which pictures and prompts are taken, what is printed and written, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vernissage.api import Studio
from vernissage.cli import main
from vernissage.cli.judge import listed, read_prompts, write_verdicts
from vernissage.drivers.fake import FakeMLLM
from vernissage.errors import DriverError, NoProbabilities
from vernissage.ports import Ask
from vernissage.records.picture import SUFFIXES, Picture, Provenance
from vernissage.records.plan import Plan
from vernissage.records.verdict import Answer, Score, Unscored, Verdict

COMMAND = ("judge",)

CONFIG = 'clip = false\ndinov2 = false\nmllm = { driver = "fake", brief = true }\nt2i = { driver = "fake" }\n'


@pytest.fixture(autouse=True)
def studio(tmp_path):
    (tmp_path / "vernissage.toml").write_text(CONFIG, encoding="utf-8")


def colour_of(ask: Ask) -> str:
    red, green, blue = ask.messages[0].images[0].getpixel((0, 0))
    return "red" if red > max(green, blue) else "green" if green > blue else "blue"


@pytest.fixture
def asked(monkeypatch) -> list[Ask]:
    """The judge knows colours: a picture of a colour that the prompt or question names is excellent, or a yes; keeps the questions."""
    heard: list[Ask] = []

    def choose(self, asks, options):
        heard.extend(asks)
        fits = [colour_of(ask) in ask.messages[0].text for ask in asks]
        return [np.eye(len(options))[0 if (len(options) == 2) == fit else len(options) - 1] for fit in fits]

    monkeypatch.setattr(FakeMLLM, "choose", choose)
    return heard


@pytest.fixture
def talking(monkeypatch):
    """The judge cannot tell probabilities and answers by a script."""

    def talking(script) -> None:
        made = FakeMLLM.__init__
        monkeypatch.setattr(FakeMLLM, "__init__", lambda self, _script=(), *, brief=False: made(self, script, brief=brief))
        monkeypatch.setattr(FakeMLLM, "choose", lambda self, asks, options: [NoProbabilities("cannot") for _ in asks])

    return talking


def picture(path: str, colour: str = "red", prompt: str = "") -> Path:
    provenance = Provenance(plan=Plan(prompt=prompt, model="mini/neon")) if prompt else None
    return Picture.of(Image.new("RGB", (16, 12), colour), provenance).save(path)


def text(path: str, content: str, encoding: str = "utf-8") -> str:
    Path(path).write_text(content, encoding=encoding)
    return path


def table(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------------------------------------------------- pictures


def test_a_picture_is_judged_with_its_scores_on_one_line(run):
    picture("cat.png")
    found = run("cat.png")
    assert found.code == 0, found.err
    assert found.out == "cat.png: perception 10.0 (bad), correspondence unscored (no prompt was given)\n"
    assert found.err == "1/1 judged by fake, zero-shot, by the probabilities of its words: perception 1/1\n"


def test_files_folders_and_patterns_are_taken_each_picture_once():
    for path in ("b.png", "a.png", "in/deep/d.webp.PNG", "in/c.JPG", "in/notes.txt", "in/.keep"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    assert listed(("b.png", "a.png")) == [Path("b.png"), Path("a.png")]
    assert listed(("in",)) == [Path("in/c.JPG"), Path("in/deep/d.webp.PNG")]
    assert listed(("*.png",)) == [Path("a.png"), Path("b.png")]
    assert listed(("**/*.PNG", "in/c.???")) == [Path("in/deep/d.webp.PNG"), Path("in/c.JPG")]
    assert listed(("in", "in/c.JPG", "./in/c.JPG", "in/*.JPG", "b.png", "b.png")) == [
        *(Path("in/c.JPG"), Path("in/deep/d.webp.PNG"), Path("b.png")),
    ]
    assert listed(("none.png",)) == [Path("none.png")]  # told later, with the reason


def test_a_file_whose_name_reads_like_a_pattern_is_that_file():
    for path in ("[a].png", "a.png"):
        Path(path).touch()
    assert listed(("[a].png",)) == [Path("[a].png")]
    assert listed(("[ab].png",)) == [Path("a.png")]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pictures_of_every_kind_are_found_in_folders(suffix):
    Path("in").mkdir()
    (Path("in") / f"a{suffix.upper()}").touch()
    assert len(listed(("in",))) == 1


@pytest.mark.parametrize("given", [(), ("empty",), ("*.png",), ("empty", "none/**/*.png")])
def test_where_there_is_no_picture_that_is_said(fails, given):
    Path("empty").mkdir()
    assert "no pictures to judge" in fails(*given)


def test_an_unreadable_picture_among_good_ones_is_named_and_the_others_are_judged(run, asked):
    picture("a.png", "red", "a red cat")
    Path("b.png").write_bytes(b"no picture")
    picture("c.png", "blue", "a blue dog")
    found = run("a.png", "b.png", "none.png", "c.png", "--out", "out.csv")
    assert found.code == 1, found.err
    assert found.out.splitlines() == [
        "a.png: perception 10.0 (bad), correspondence 90.0 (excellent)",
        "c.png: perception 10.0 (bad), correspondence 90.0 (excellent)",
        "out.csv",
    ]
    told = [("a.png", False), ("b.png", True), ("none.png", True), ("c.png", False)]
    assert [(row["image"], row["unscored"] != "") for row in table("out.csv")] == told
    assert [line.partition(": ")[0] for line in found.err.splitlines()[:2]] == ["b.png", "none.png"]
    assert found.err.count("unscored") == 2
    assert "2/4 judged" in found.err
    assert [row["image"] for row in table("out.csv") if row["perception"]] == ["a.png", "c.png"]


def test_prompts_stay_with_their_pictures_where_one_between_cannot_be_read(run, asked):
    for name, colour in (("a", "red"), ("c", "blue")):
        picture(f"{name}.png", colour)
    Path("b.png").write_bytes(b"no picture")
    found = run("a.png", "b.png", "c.png", "--prompts", text("lines.txt", "red one\ngreen one\nblue one\n"))
    assert found.out.count("correspondence 90.0 (excellent)") == 2
    assert not any("green" in ask.messages[0].text for ask in asked)


def test_where_no_picture_can_be_read_all_are_named(run, monkeypatch):
    monkeypatch.setattr(FakeMLLM, "choose", None)  # asking would be a traceback
    Path("a.png").write_bytes(b"no picture")
    found = run("a.png", "b.png", "--out", "out.csv")
    assert (found.code, found.out) == (2, "")
    assert "a.png: unscored: " in found.err
    assert "b.png: unscored: " in found.err
    assert "None of the pictures can be read." in found.err
    assert not Path("out.csv").exists()


# ----------------------------------------------------------------------------------------------------------- prompts


def test_painted_pictures_are_judged_by_the_prompt_they_carry(run, asked):
    picture("a.png", "red", "a red cat")
    picture("b.png", "red", "a blue cat")
    picture("c.png", "red")
    assert run("a.png", "b.png", "c.png").out.splitlines() == [
        "a.png: perception 10.0 (bad), correspondence 90.0 (excellent)",
        "b.png: perception 10.0 (bad), correspondence 10.0 (bad)",
        "c.png: perception 10.0 (bad), correspondence unscored (no prompt was given)",
    ]


def test_one_prompt_for_all_goes_before_those_that_pictures_carry(run, asked):
    picture("a.png", "red", "a blue cat")
    picture("b.png", "blue")
    found = run("a.png", "b.png", "--prompt", "a red cat")
    assert found.out.splitlines() == [
        "a.png: perception 10.0 (bad), correspondence 90.0 (excellent)",
        "b.png: perception 10.0 (bad), correspondence 10.0 (bad)",
    ]


def test_prompts_are_read_by_file_name_from_a_table(run, asked):
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "green")):
        picture(f"in/{name}.png", colour)
    path = text("p.csv", 'remark,prompt,image\nhm,"a blue, ""old"" cat",elsewhere/b.png\n,a blue cat,a.png\n,red,other.png\n', "utf-8-sig")
    assert run("in", "--prompts", path).out.splitlines() == [
        "in/a.png: perception 10.0 (bad), correspondence 10.0 (bad)",
        "in/b.png: perception 10.0 (bad), correspondence 90.0 (excellent)",
        "in/c.png: perception 10.0 (bad), correspondence unscored (no prompt was given)",
    ]
    assert any(ask.messages[0].text.endswith('a blue, "old" cat') for ask in asked)


def test_prompts_are_read_line_by_line_in_the_order_of_the_pictures():
    pictures = [Path("b.png"), Path("a.png")]
    assert read_prompts(Path(text("p.txt", "\n one \r\n\n two, three\n\n")), pictures) == ["one", "two, three"]
    assert read_prompts(Path(text("p.txt", "\ufeffone\ntwo")), pictures) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "fix"),
    [
        ("p.txt", "one\ntwo\nthree\n", "has 3 prompts for 2 pictures"),
        ("p.txt", "one\n\n", "has 1 prompts for 2 pictures"),
        ("p.txt", "", "has 0 prompts for 2 pictures"),
        ("p.csv", "", "lacks the column image, prompt"),
        ("p.csv", "image,prompt\n", "names none of the pictures"),
        ("p.csv", "image,words\na.png,x\n", "lacks the column prompt"),
        ("p.CSV", "a.png,x\n", "lacks the column image, prompt"),
        ("p.csv", "image,prompt\nc.png,x\n", "names none of the pictures"),
        ("p.txt", None, "Cannot read the prompts"),
    ],
)
def test_prompts_that_do_not_fit_are_refused_before_anything_is_judged(fails, monkeypatch, name, content, fix):
    monkeypatch.setattr(FakeMLLM, "choose", None)  # asking would be a traceback
    picture("a.png")
    picture("b.png")
    if content is not None:
        text(name, content)
    assert fix in fails("a.png", "b.png", "--prompts", name)


def test_prompts_that_are_no_text_are_refused(fails):
    picture("a.png")
    assert "UTF-8" in fails("a.png", "--prompts", "a.png")
    assert "no JSON lists" in fails("a.png", "--prompts", ".")


# --------------------------------------------------------------------------------------------------------- questions


def test_questions_are_answered_about_every_picture(run, asked):
    picture("a.png", "red")
    picture("b.png", "blue")
    assert run("a.png", "b.png", "--ask", "Is it red?", "--ask", "Is it blue?").out.splitlines() == [
        "a.png: perception 10.0 (bad), correspondence unscored (no prompt was given)",
        "  Is it red?  yes 1.000",
        "  Is it blue?  yes 0.000",
        "b.png: perception 10.0 (bad), correspondence unscored (no prompt was given)",
        "  Is it red?  yes 0.000",
        "  Is it blue?  yes 1.000",
    ]


def test_a_judge_that_only_answers_is_named_so(run, talking):
    talking(lambda ask: "yes" if ask.messages[0].text.startswith("question") else "good")
    picture("a.png", "red", "a cat")
    found = run("a.png", "--ask", "Is it red?")
    assert found.out == "a.png: perception 70.0 (good), correspondence 70.0 (good)\n  Is it red?  yes 1.000\n"
    assert "by its word" in found.err


def test_what_could_not_be_scored_says_why_and_cannot_command_the_terminal(run, talking):
    talking(lambda _ask: "who \x1b[2J knows")
    picture("a.png", "red", "a cat")
    found = run("a.png", "--ask", "Is it\x1b[2J red?", "--out", "out.csv")
    assert found.code == 1, "nothing was scored"
    assert found.err.endswith("perception 0/1, correspondence 0/1, answers 0/1\n")
    assert "a.png: perception unscored (the answer names no one level" in found.out
    assert "Is it[2J red?  yes unscored (the answer is neither yes nor no" in found.out
    assert "\x1b" not in found.out + found.err
    (row,) = table("out.csv")
    assert row["perception"] == row["perception_level"] == row["correspondence"] == row["Is it\x1b[2J red?"] == ""


# ------------------------------------------------------------------------------------------------------------- table


def test_the_table_has_scores_levels_answers_reasons_and_the_judge(run, asked):
    picture("in/a.png", "red", "a red cat")
    picture("in/b.png", "blue")
    found = run("in", "--ask", 'Is it red, or "old"?', "--out", "out.csv")
    assert found.out.splitlines()[-1] == "out.csv"
    judge = "fake, zero-shot, by the probabilities of its words"
    first, second = table("out.csv")
    assert list(first) == [
        *("image", "perception", "perception_level", "correspondence", "correspondence_level"),
        *('Is it red, or "old"?', "unscored", "judge"),
    ]
    assert list(first.values()) == ["in/a.png", "10.0", "bad", "90.0", "excellent", "1.0", "", judge]
    assert list(second.values()) == ["in/b.png", "10.0", "bad", "", "", "0.0", "no prompt was given", judge]


def test_every_reason_is_told_once_and_no_missing_score_is_a_number(tmp_path):
    down, odd = Unscored(reason="down"), Unscored(reason="odd; very")
    verdicts = [
        Verdict(perception=down, correspondence=down, answers=(Answer(question="a?", yes=odd),), judge="j"),
        Verdict(
            perception=Score(value=0.0),
            perception_level="bad",
            correspondence=Score(value=12.5),
            correspondence_level="bad",
            answers=(Answer(question="a?", yes=Score(value=0.0)),),
            judge="j",
        ),
    ]
    write_verdicts(tmp_path / "out.csv", dict(zip([Path("a.png"), Path("caf\u00e9, 2.png")], verdicts, strict=True)), ("a?",))
    rows = [list(row.values()) for row in table("out.csv")]
    assert rows == [
        ["a.png", "", "", "", "", "", "down; odd; very", "j"],
        ["caf\u00e9, 2.png", "0.0", "bad", "12.5", "bad", "0.0", "", "j"],
    ]


def test_a_table_that_cannot_be_written_is_told_with_the_fix(run):
    picture("a.png")
    for out, told in (("a.png/out.csv", "is a file"), (".", "--out")):
        found = run("a.png", "--out", out)
        assert found.code == 2
        assert told in found.err


def test_many_pictures_are_judged_in_batches_and_stay_in_order(run, asked):
    numbers = range(1, 36)
    for number in numbers:
        picture(f"in/{number:02}.png", "red" if number % 2 else "blue", "a red cat")
    lines, said = run("in").out.splitlines(), ("10.0 (bad)", "90.0 (excellent)")
    assert lines == [f"in/{number:02}.png: perception 10.0 (bad), correspondence {said[number % 2]}" for number in numbers]


def test_a_configuration_may_be_given(run, fails):
    picture("a.png")
    script = json.dumps(["x"])
    text("other.toml", f'clip = false\ndinov2 = false\nmllm = {{ driver = "fake", script = {script} }}\nt2i = {{ driver = "fake" }}\n')
    assert run("a.png", "--config", "other.toml").code == 0
    assert "none.toml" in fails("a.png", "--config", "none.toml")


def test_a_run_that_was_cut_off_judges_only_what_is_left(run, asked, monkeypatch):
    monkeypatch.setattr("vernissage.cli.judge.CHUNK", 2)
    for number in range(5):
        picture(f"in/{number}.png", "red", f"a red cat {number}")
    real = Studio.judge_several

    def killed(self, pictures, **options):
        if len(asked) >= 8:  # two questions about each of four pictures
            raise KeyboardInterrupt
        return real(self, pictures, **options)

    monkeypatch.setattr(Studio, "judge_several", killed)
    with pytest.raises(SystemExit):
        main(["judge", "in", "--out", "out.csv"])
    assert Path("out.csv.part").exists()
    assert not Path("out.csv").exists()
    with Path("out.csv.part").open("a", encoding="utf-8") as file:
        file.write("0123 {cut off")
    monkeypatch.setattr(Studio, "judge_several", real)
    before = len(asked)
    run("in", "--out", "out.csv")
    assert len(asked) - before == 2, "one picture was left"
    resumed = Path("out.csv").read_text(encoding="utf-8")
    assert not Path("out.csv.part").exists()
    run("in", "--out", "again.csv")
    assert Path("again.csv").read_text(encoding="utf-8") == resumed


def test_a_journal_that_was_cut_off_twice_is_no_trouble(run, asked):
    for number in range(3):
        picture(f"in/{number}.png", "red", f"a red cat {number}")
    whole = run("in", "--out", "whole.csv").out
    for cut in ('0123 {"perception": {}', "4567 {}"):
        with Path("out.csv.part").open("a", encoding="utf-8") as file:
            file.write(cut)
        with pytest.raises(SystemExit):
            main(["judge", "in", "--out", "out.csv"])
    assert Path("out.csv").read_text(encoding="utf-8") == Path("whole.csv").read_text(encoding="utf-8")
    assert whole


def test_what_failed_before_a_run_was_cut_off_is_judged_again(run, asked, monkeypatch):
    monkeypatch.setattr("vernissage.cli.judge.CHUNK", 1)
    for colour in ("red", "green", "blue"):
        picture(f"in/{colour}.png", colour)
    works = FakeMLLM.choose

    def failing(self, asks, options):
        if len(asked) == 1:
            asked.extend(asks)
            return [DriverError("the server is down") for _ in asks]
        if len(asked) > 1:
            raise KeyboardInterrupt
        return works(self, asks, options)

    monkeypatch.setattr(FakeMLLM, "choose", failing)
    with pytest.raises(SystemExit):
        main(["judge", "in", "--out", "out.csv"])
    monkeypatch.setattr(FakeMLLM, "choose", works)
    asked.clear()
    run("in", "--out", "out.csv")
    assert len(asked) == 2, "the first was judged; that it has no prompt is no failure"
    assert all(row["perception"] for row in table("out.csv"))


def test_a_picture_that_a_table_of_prompts_leaves_out_is_not_judged_by_what_an_earlier_run_took(run, asked, monkeypatch):
    monkeypatch.setattr("vernissage.cli.judge.CHUNK", 1)
    picture("in/a.png", "red", "a red cat")
    picture("in/b.png", "red", "a red dog")
    text("prompts.csv", "image,prompt\nb.png,a red cup\n")
    real = Studio.judge

    def killed(self, pictures, **options):
        if asked:
            raise KeyboardInterrupt
        return real(self, pictures, **options)

    monkeypatch.setattr(Studio, "judge", killed)
    with pytest.raises(SystemExit):
        main(["judge", "in", "--out", "out.csv"])
    monkeypatch.setattr(Studio, "judge", real)
    run("in", "--prompts", "prompts.csv", "--out", "out.csv")
    first, second = table("out.csv")
    assert (first["correspondence"], bool(second["correspondence"])) == ("", True)


def test_another_question_or_another_prompt_is_judged_anew(run, asked):
    picture("a.png", "red", "a red cat")
    Path("out.csv.part").write_text("", encoding="utf-8")
    for options in ((), ("--ask", "Is it red?"), ("--prompt", "a dog")):
        before = len(asked)
        run("a.png", "--out", "out.csv", *options)
        assert len(asked) > before


def test_verdicts_and_prompts_travel_as_json_lines(run, asked):
    picture("a.png", "red")
    picture("b.png", "blue")
    Path("c.png").write_bytes(b"no picture")
    prompts = text("prompts.jsonl", '{"image": "x/a.png", "prompt": "red one"}\n\n{"image": "b.png", "prompt": null}\n')
    run("a.png", "b.png", "c.png", "--prompts", prompts, "--out", "out.jsonl")
    first, second, third = (json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines())
    assert first["correspondence"] == {"value": 90.0, "reason": ""}
    assert second["correspondence"] == {"reason": "no prompt was given"}
    assert third["image"] == "c.png"
    assert "unscored" in third


@pytest.mark.parametrize("line", ["nonsense", '{"image": "a.png"}', "[1]"])
def test_a_prompt_line_with_a_mistake_is_named(fails, line):
    picture("a.png", "red")
    assert "line 1" in fails("a.png", "--prompts", text("prompts.jsonl", line))


@pytest.mark.parametrize("prompt", ['{"a": 1}', "5", '["a"]'])
def test_a_prompt_that_is_no_text_is_refused_with_its_line(run, prompt):
    picture("a.png")
    Path("p.jsonl").write_text(f'{{"image": "a.png", "prompt": {prompt}}}\n', encoding="utf-8")
    found = run("a.png", "--prompts", "p.jsonl")
    assert (found.code, "p.jsonl, line 1: its prompt is no text" in found.err) == (2, True)


def test_an_empty_question_and_a_table_of_no_known_form_are_refused(run):
    picture("a.png")
    assert "A question is empty" in run("a.png", "--ask", " ").err
    assert "End it in .csv or .jsonl" in run("a.png", "--out", "v.txt").err


def test_a_question_asked_twice_is_asked_once_and_none_may_be_a_column(run, fails, asked):
    picture("cat.png", "red", "a red cat")
    assert run("cat.png", "--ask", "Is it red?", "--ask", "Is it red?", "--out", "v.csv").code == 0
    with Path("v.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)).count("Is it red?") == 1
    assert "is a column of the table" in fails("cat.png", "--ask", "perception", "--out", "w.csv")
