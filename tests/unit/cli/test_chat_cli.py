"""`vernissage chat` from a pipe, on fakes: what it paints, which commands it takes, and that mistakes do not end it."""

import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from vernissage.drivers.fake import FakeMLLM, FakeT2I
from vernissage.errors import BadInput, DriverError
from vernissage.painting.conversation import COMMANDS as TALK
from vernissage.painting.conversation import Step, chat_after, read_command
from vernissage.records.picture import Picture
from vernissage.records.plan import Arguments, Plan

COMMAND = ("chat",)


def reply(**values) -> str:
    return json.dumps({"prompt": "one red cat, neon", "model": "mini/neon", "steps": 8} | values)


@pytest.fixture(autouse=True)
def studio(tmp_path, monkeypatch):
    """A studio of scripted models, whose plans are numbered in the order in which they are asked for."""
    monkeypatch.setattr(FakeMLLM, "choose", lambda self, asks, options: [BadInput("cannot") for _ in asks])
    script = json.dumps([reply(prompt=f"prompt {number}") for number in range(1, 9)])
    config = f'clip = false\ndinov2 = false\n[mllm]\ndriver = "fake"\nscript = {script}\n[t2i]\ndriver = "fake"\n'
    (tmp_path / "vernissage.toml").write_text(config, encoding="utf-8")


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The questions that the planner is asked."""
    heard = []
    answer = FakeMLLM.answer

    def listening(self, asks):
        heard.extend(ask.messages[0].text for ask in asks)
        return answer(self, asks)

    monkeypatch.setattr(FakeMLLM, "answer", listening)
    return heard


@pytest.fixture
def talk(run, monkeypatch):
    """Runs a conversation of these lines."""

    def talk(*lines: str, options: tuple[str, ...] = ()):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))
        return run(*options)

    return talk


def plan_of(path: str) -> Plan:
    return Picture.open(path).plan


def errors(found) -> list[str]:
    return [line.partition("error: ")[2] for line in found.err.splitlines() if line.startswith("error: ")]


# ------------------------------------------------------------------------------------------------------------ pictures


def test_each_turn_paints_a_picture_of_its_own_and_the_seed_stays(talk):
    found = talk("a red cat", "", "  now blue  ")
    assert (found.code, found.out.splitlines()) == (0, ["chat/001.png  prompt 1", "chat/002.png  prompt 2"]), found.err
    first, second = plan_of("chat/001.png"), plan_of("chat/002.png")
    assert (first.prompt, second.prompt) == ("prompt 1", "prompt 2")
    assert first.arguments.seed == second.arguments.seed is not None
    assert Picture.open("chat/002.png").provenance.request == "now blue"
    assert found.err == "> a red cat\n> \n>   now blue  \n> \n"


def test_a_later_turn_is_asked_with_what_was_said_and_painted_before(talk, asked):
    talk("a red cat", "now blue", "and bigger")
    assert "a red cat" in asked[0]
    for text in ("a red cat", "Here you are: prompt 1", "now blue"):
        assert text in asked[1]
    for text in ("prompt 2", "and bigger"):
        assert text in asked[2]
    assert "a red cat" not in asked[2], "the last prompt stands for what was said before"


def test_pictures_are_never_written_over(talk):
    Path("chat").mkdir()
    for name in ("002.png", "0007.png", "cat.png"):
        Image.new("RGB", (4, 4)).save(Path("chat") / name)
    before = {path: path.read_bytes() for path in Path("chat").iterdir()}
    assert talk("a red cat", "/undo", "another").out.splitlines() == [
        "chat/008.png  prompt 1",
        "taken back: a red cat",
        "chat/009.png  prompt 2",
    ]
    assert {path: path.read_bytes() for path in before} == before
    assert talk("a dog", options=("--out", "chat")).out == "chat/010.png  prompt 1\n"


def test_another_folder_can_be_chosen_and_a_file_is_refused_before_anything_is_planned(talk, asked):
    assert talk("a cat", options=("--out", "deep/in")).out == "deep/in/001.png  prompt 1\n"
    asked.clear()
    found = talk("a cat", options=("--out", "vernissage.toml"))
    assert (found.code, found.out, asked) == (2, "", [])
    assert "is a file" in found.err


def test_the_plan_is_explained_where_that_is_wanted(talk):
    found = talk("a cat", options=("--explain", "--seed", "5"))
    assert "prompt 1" in found.err
    assert "seed 5" in found.err
    assert found.out == "chat/001.png  prompt 1\n"


def test_a_conversation_without_a_word_ends_well(talk, asked):
    assert talk() == (0, "", "> \n")
    assert asked == []
    assert not Path("chat").exists()


def test_what_was_typed_cannot_command_the_terminal(talk):
    found = talk("a \x1b[2Jcat", "/undo", "/\x1b[2Jnone")
    assert "\x1b" not in found.out
    assert "\x1b[2J" not in found.err
    assert "taken back: a [2Jcat" in found.out


# ------------------------------------------------------------------------------------------------------------ commands


def test_help_lists_every_command(talk):
    found = talk("/help")
    assert [line.split()[0] for line in found.out.splitlines()] == [f"/{name}" for name in TALK]


def test_quit_ends_the_conversation_at_once(talk):
    found = talk("a cat", "/quit", "a dog")
    assert (found.code, found.out) == (0, "chat/001.png  prompt 1\n")


def test_undo_takes_the_last_turn_back_and_the_picture_stays(talk, asked):
    found = talk("a red cat", "now blue", "/undo", "now green", "/undo", "/undo", "/undo", "a dog")
    assert found.out.splitlines()[2] == "taken back: now blue"
    assert "now blue" not in asked[2]
    assert "now green" in asked[2]
    assert "a red cat" in asked[2]
    assert errors(found) == ['Nothing was painted yet. Say what you want, e.g. "a red car".']
    assert "a red cat" not in asked[3]
    assert sorted(path.name for path in Path("chat").iterdir()) == ["001.png", "002.png", "003.png", "004.png"]


def test_a_seed_is_used_from_then_on(talk):
    found = talk("/seed 7", "a cat", "bigger", "/seed 9", "smaller", options=("--seed", "3"))
    assert [line for line in found.out.splitlines() if line.startswith("seed")] == ["seed: 7", "seed: 9"]
    assert [plan_of(f"chat/00{number}.png").arguments.seed for number in (1, 2, 3)] == [7, 7, 9]


def test_seed_without_a_number_draws_one_by_lot(talk, monkeypatch):
    monkeypatch.setattr("vernissage.painting.road.secrets.randbelow", lambda _: 4321)
    found = talk("/seed 7", "a cat", "/seed", "again")
    assert "seed: random" in found.out
    assert [plan_of(f"chat/00{number}.png").arguments.seed for number in (1, 2)] == [7, 4321]


def test_undo_brings_the_seed_of_the_turn_before_back(talk, monkeypatch):
    seeds = iter([11, 22])
    monkeypatch.setattr("vernissage.painting.road.secrets.randbelow", lambda _: next(seeds))
    talk("a cat", "/undo", "a dog", "bigger")
    assert [plan_of(f"chat/00{number}.png").arguments.seed for number in (1, 2, 3)] == [11, 22, 22]


def test_a_model_is_painted_with_from_then_on_and_the_planner_chooses_again_without_one(talk):
    found = talk("/model mini/sketch", "a cat", "bigger", "/model", "a dog")
    assert [line for line in found.out.splitlines() if line.startswith("model")] == ["model: mini/sketch", "model: as the planner chooses"]
    assert [plan_of(f"chat/00{number}.png").model for number in (1, 2, 3)] == ["mini/sketch", "mini/sketch", "mini/neon"]


def test_the_model_of_the_command_line_is_checked_first(talk, asked):
    found = talk("a cat", options=("--model", "mini/neno"))
    assert (found.code, asked) == (2, [])
    assert "Did you mean 'mini/neon'" in found.err
    assert talk("a cat", options=("--model", "mini/sketch")).out.splitlines()[0] == "model: mini/sketch"
    assert plan_of("chat/001.png").model == "mini/sketch"


def test_plan_shows_the_last_plan(talk):
    found = talk("a cat", "bigger", "/undo", "/plan", options=("--seed", "5"))
    shown = dict(line.split(maxsplit=1) for line in found.out.splitlines()[3:])
    assert (shown["prompt"], shown["model"]) == ("prompt 1", "mini/neon")
    assert "seed 5" in shown["arguments"]


def test_save_writes_the_last_picture_under_its_name(talk):
    found = talk("a cat", "bigger", "/save deep/cat", "/undo", "/save first.PNG")
    assert found.out.splitlines()[2] == "deep/cat.png"
    assert Path("deep/cat.png").read_bytes() == Path("chat/002.png").read_bytes()
    assert Path("first.PNG").read_bytes() == Path("chat/001.png").read_bytes()


def test_save_writes_nothing_over(talk):
    found = talk("a cat", "/save cat.png", "bigger", "/save cat.png", "/save cat")
    assert found.out.splitlines()[1::2] == ["cat.png", "cat-2.png"]
    assert [Path(name).read_bytes() for name in ("cat.png", "cat-2.png", "cat-3.png")] == [
        Path(f"chat/{number}.png").read_bytes() for number in ("001", "002", "002")
    ]


@pytest.mark.parametrize("seed", ["-1", str(2**64)])
def test_a_seed_that_is_none_is_refused_before_anything_is_said(talk, asked, seed):
    found = talk("a cat", options=("--seed", seed))
    assert (found.code, found.out, asked) == (2, "", [])
    assert "is no seed" in found.err


def test_save_finds_the_home_folder(talk, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    talk("a cat", "/save ~/cat.png")
    assert (tmp_path / "me" / "cat.png").exists()


# ------------------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/nonsense", "There is no command /nonsense"),
        ("/", "There is no command /"),
        ("/seed -1", "'-1' is no seed"),
        ("/seed seven", "'seven' is no seed"),
        ("/seed 1.5", "'1.5' is no seed"),
        ("/model mini/neno", "Did you mean 'mini/neon'"),
        ("/save", "Where to?"),
        ("/save cat.jpg", "written as PNG, not .jpg"),
        ("/save vernissage.toml/cat.png", "Cannot write"),
    ],
)
def test_a_bad_command_is_told_and_the_conversation_goes_on(talk, line, told):
    found = talk("a cat", line, "bigger", options=("--seed", "5"))
    assert found.code == 0
    assert len(errors(found)) == 1
    assert told in errors(found)[0]
    assert found.out.splitlines() == ["chat/001.png  prompt 1", "chat/002.png  prompt 2"]
    assert plan_of("chat/002.png").arguments.seed == 5
    assert plan_of("chat/002.png").model == "mini/neon"


@pytest.mark.parametrize("line", ["/save .", "/save /", "/save ~nobody-of-this-name/cat.png", "/save a\0b.png"])
def test_a_place_that_is_none_is_told_and_the_conversation_goes_on(talk, line):
    found = talk("a cat", line, "bigger")
    assert (found.code, len(errors(found))) == (0, 1)


@pytest.mark.parametrize("line", ["/undo", "/plan", "/save cat.png"])
def test_before_anything_was_painted_that_is_said(talk, line):
    found = talk(line, "a cat")
    assert errors(found)[0].startswith("Nothing was painted yet.")
    assert found.out == "chat/001.png  prompt 1\n"
    assert not Path("cat.png").exists()


def test_a_turn_that_cannot_be_planned_or_painted_is_told_and_leaves_nothing_behind(talk, monkeypatch, asked):
    paint = FakeT2I.paint

    def failing(self, plans, **options):
        return [DriverError("the brush broke")] if plans[0].prompt == "prompt 2" else paint(self, plans, **options)

    monkeypatch.setattr(FakeT2I, "paint", failing)
    found = talk("a red cat", "now blue", "now green", "x" * 9000)
    assert found.code == 0
    assert found.out.splitlines() == ["chat/001.png  prompt 1", "chat/002.png  prompt 3"]
    broke, long = errors(found)
    assert broke == "the brush broke"
    assert "the limit is 8000" in long
    assert "now blue" not in asked[2]


def test_a_planner_that_says_nothing_more_does_not_end_the_conversation(talk):
    found = talk(*["a cat"] * 9, "/undo")
    assert len(list(Path("chat").iterdir())) == 8
    assert found.out.splitlines()[-1] == "taken back: a cat"
    assert "run out" in errors(found)[0]


def test_an_unknown_planner_is_refused_before_the_first_word(talk, asked):
    found = talk("a cat", options=("--planner", "eva"))
    assert (found.code, found.out, asked) == (2, "", [])
    assert "There is no planner 'eva'" in found.err
    assert talk("a cat", options=("--planner", "mllm")).code == 0


def test_bytes_that_are_no_characters_do_not_end_the_conversation(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a \xff cat\n/help\n"), encoding="utf-8"))
    found = run()
    assert found.code == 0
    assert "/help" in found.out


# -------------------------------------------------------------------------------------------------------------- records


def step(said: str, prompt: str) -> Step:
    plan = Plan(prompt=prompt, model="m", arguments=Arguments(seed=1))
    return Step(said, plan, Picture.of(Image.new("RGB", (2, 2))))


def test_the_chat_ends_with_what_is_said_now_and_holds_the_last_prompt_alone():
    first = chat_after([], "a red car")
    assert [(turn.role, turn.text) for turn in first.turns] == [("user", "a red car")]
    second = chat_after([step("a red car", "red car, sketch")], "now blue")
    assert [(turn.role, turn.text) for turn in second.turns] == [
        ("user", "a red car"),
        ("assistant", "Here you are: red car, sketch"),
        ("user", "now blue"),
    ]
    third = chat_after([step("a red car", "red car, sketch"), step("now blue", "blue car, sketch")], "bigger")
    assert [turn.text for turn in third.turns] == ["blue car, sketch", "Here you are: blue car, sketch", "bigger"]


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_turn_is_refused(text):
    with pytest.raises(BadInput, match="nothing to paint"):
        chat_after([step("a", "b")], text)


def test_commands_are_read_with_their_argument():
    assert read_command("/save  my cat.png ") == ("save", "my cat.png")
    assert read_command("save the cat") is None
    assert read_command("and/or") is None
    with pytest.raises(BadInput, match="/SEED"):
        read_command("/SEED 7")


@pytest.mark.parametrize("seed", ["9" * 5000, str(2**64), "-1", "x"])
def test_what_is_no_seed_does_not_end_the_conversation(talk, seed):
    found = talk(f"/seed {seed}", "a cat")
    assert found.code == 0
    assert "is no seed" in found.err
    assert Picture.open("chat/001.png").plan.prompt == "prompt 1"


def test_a_random_seed_is_still_wanted_after_a_turn_that_failed(talk, monkeypatch):
    paint, painted = FakeT2I.paint, []

    def failing(self, plans, **options):
        painted.append(plans[0].arguments.seed)
        return [DriverError("asleep")] if len(painted) == 2 else paint(self, plans, **options)

    monkeypatch.setattr(FakeT2I, "paint", failing)
    assert talk("a cat", "/seed", "a cat", "a cat", "a cat").code == 0
    first, _, third, fourth = painted
    assert first != third == fourth


def test_a_closed_standard_input_ends_it_at_once(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert run().code == 0
