"""`vernissage repaint` and `vernissage bench repaint` on fakes: what is printed and kept, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from vernissage.cli.repaint import place_results
from vernissage.drivers.fake import FakeMLLM, FakeT2I
from vernissage.errors import DriverError, ReplyError
from vernissage.ports import Ask
from vernissage.records.picture import Picture
from vernissage.records.regeneration import Regeneration
from vernissage.repainting.loop import first_noise

CONFIG = 'mllm = { driver = "fake", brief = true }\nt2i = { driver = "fake" }\nclip = { driver = "fake" }\ndinov2 = { driver = "fake" }\n'


def talk(ask: Ask) -> str:
    """A whole script: what is said to the MLLM is a word on the first line, see the prompts' brief form."""
    answers = {
        "caption": "A cat.",
        "overall": '{"style": "photo"}',
        "objects": '{"objects": [{"name": "cat", "type": "animal"}]}',
        "features": '{"colour": "red"}',
        "rate": '{"reason": "so", "rating": 3}',
        "compare": "more\x1b[2J red",
    }
    return answers.get(ask.messages[0].text.split()[0], "a red cat")


@pytest.fixture(autouse=True)
def small_studio(tmp_path):
    """A studio of fakes, as a user would configure it, with a small model."""
    card = {"id": "tiny/ink", "title": "Ink", "description": "Ink.", "licence": "MIT"}
    lines = [f'{key} = "{value}"' for key, value in card.items()]
    lines += ["width = 16", "height = 16", "size_multiple = 8", "sizes = { low = 8, high = 64 }", '[source]\npath = "."']
    lines += ["[defaults]", "steps = 5", "cfg_scale = 2.0"]
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "ink.toml").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "vernissage.toml").write_text('models = ["tiny/*"]\ncards = ["cards"]\n' + CONFIG, encoding="utf-8")


@pytest.fixture
def talking(monkeypatch):
    """The fake of the configuration answers from a script."""
    made = FakeMLLM.__init__
    monkeypatch.setattr(FakeMLLM, "__init__", lambda self, script=(), *, brief=False: made(self, talk, brief=brief))


def reference(path: Path, colour: str = "red") -> Path:
    return Picture.of(Image.new("RGB", (20, 14), colour)).save(path)


@pytest.fixture
def data(tmp_path) -> Path:
    for number, colour in enumerate(("red", "green", "blue"), start=1):
        reference(tmp_path / "data" / f"portrait_{number}.png", colour)
    return tmp_path / "data"


# ----------------------------------------------------------------------------------------------------------- repaint


def test_a_picture_is_repainted_and_everything_is_kept(run, talking, tmp_path):
    found = run("repaint", reference(tmp_path / "cat.png"), "--model", "tiny/ink", "--rounds", "2", "--candidates", "2")
    assert found.code == 0, found.err
    folder = Path("repainted") / "cat"
    names = ["strip.png", "best.png", "last.png", "tree.svg", "regeneration.json", "settings.json"]
    assert found.out.splitlines() == [str(folder / name) for name in names]
    done = Regeneration.model_validate_json((folder / "regeneration.json").read_text(encoding="utf-8"))
    assert done.reference == Picture.open(tmp_path / "cat.png").hash
    assert (done.model, done.words, [len(each.candidates) for each in done.rounds]) == ("tiny/ink", "tree", [2, 2])
    assert Picture.open(folder / "best.png").hash == done.best.picture
    assert Picture.open(folder / "last.png").hash == done.last.picture
    strip = Picture.open(folder / "strip.png").image
    assert strip.width == 3 * 200 + 8  # the reference and two rounds
    svg = (folder / "tree.svg").read_text(encoding="utf-8")
    for words in ("A cat.", "style: photo", "cat (animal)", "colour: red"):
        assert words in svg
        assert words in found.err
    for words in ("round 1, overall image", "round 2, style", "more[2J red", "last round", "best round", "consistency 0.500"):
        assert words in found.err
    assert "\x1b[2J" not in found.err  # what a model says cannot command the terminal


def test_options_reach_the_road(run, talking, tmp_path):
    found = run(
        *("repaint", reference(tmp_path / "cat.png"), "--model", "tiny/ink", "--words", "interrogate", "--rounds", "3"),
        *("--candidates", "1", "--patience", "1", "--seed", "40", "--rate", "match", "--out", "deep/out"),
    )
    assert found.code == 0, found.err
    folder = tmp_path / "deep" / "out" / "cat"
    assert not (folder / "tree.svg").exists()
    done = json.loads((folder / "regeneration.json").read_text(encoding="utf-8"))
    assert done["words"] == "interrogate"
    assert done["prompt"].startswith("A cat, ")
    assert {each["candidates"][0]["seed"] for each in done["rounds"]} == {first_noise(40)}, "a revision keeps the noise"
    assert set(done["rounds"][0]["candidates"][0]["scores"]) == {"clip", "dinov2", "ssim", "match"}
    found = run("repaint", tmp_path / "cat.png", "--model", "tiny/ink", "--rounds", "1", "--rate", "none", "--out", "none")
    done = json.loads((tmp_path / "none" / "cat" / "regeneration.json").read_text(encoding="utf-8"))
    assert set(done["rounds"][0]["candidates"][0]["scores"]) == {"clip", "dinov2", "ssim"}


def test_several_pictures_get_a_folder_each_and_no_live_news(run, talking, tmp_path):
    pictures = [reference(tmp_path / f"{colour}.png", colour) for colour in ("red", "blue")]
    found = run("repaint", *pictures, "--model", "tiny/ink", "--rounds", "1")
    assert found.code == 0, found.err
    assert "round 1, overall image" not in found.err
    for path in pictures:
        done = json.loads((tmp_path / "repainted" / path.stem / "regeneration.json").read_text(encoding="utf-8"))
        assert done["reference"] == Picture.open(path).hash


def test_pictures_that_cannot_be_put_into_words_are_named_with_the_reason(run, tmp_path):
    pictures = [reference(tmp_path / f"{colour}.png", colour) for colour in ("red", "blue")]
    found = run("repaint", *pictures, "--model", "tiny/ink")
    assert (found.code, found.out) == (1, "")
    for path in pictures:
        assert f"{path}: not repainted: The script of this fake has run out." in found.err
    assert not (tmp_path / "repainted").exists()


def test_pictures_of_one_name_get_numbered_folders(run, talking, tmp_path):
    pictures = [reference(tmp_path / name, colour) for name, colour in (("a/cat.png", "red"), ("b/cat.png", "blue"), ("cat.png", "green"))]
    found = run("repaint", *pictures, "--model", "tiny/ink", "--rounds", "1", "--candidates", "1")
    assert found.code == 0, found.err
    for path, name in zip(pictures, ("cat", "cat-2", "cat-3"), strict=True):
        done = json.loads((tmp_path / "repainted" / name / "regeneration.json").read_text(encoding="utf-8"))
        assert done["reference"] == Picture.open(path).hash
        assert str(Path("repainted") / name / "best.png") in found.out.splitlines()


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (("a.png", "b.png"), ("a", "b")),
        (("a.png", "a.jpg", "x/a.png"), ("a", "a-2", "a-3")),
        (("a.png", "x/a.png", "a-2.png"), ("a", "a-2", "a-2-2")),
        (("a-2.png", "a.png", "x/a.png"), ("a-2", "a", "a-3")),
    ],
)
def test_no_two_pictures_share_a_folder(tmp_path, given, names):
    places = place_results([Path(name) for name in given], tmp_path, lambda _path, _folder: True)
    assert places == {Path(name): tmp_path / folder for name, folder in zip(given, names, strict=True)}


def test_what_other_models_settings_and_pictures_gave_is_not_written_over(run, talking, tmp_path):
    path, short = reference(tmp_path / "cat.png"), ("--rounds", "1", "--candidates", "1")
    for extra, folder in (((), "cat"), (("--seed", "1"), "cat-2"), ((), "cat"), (("--words", "direct"), "cat-3")):
        found = run("repaint", path, "--model", "tiny/ink", *short, *extra)
        assert found.code == 0, found.err
        assert str(Path("repainted") / folder / "best.png") in found.out.splitlines(), extra
    reference(path, "blue")
    assert str(Path("repainted") / "cat-4" / "best.png") in run("repaint", path, "--model", "tiny/ink", *short).out.splitlines()
    (tmp_path / "repainted" / "cat-4" / "settings.json").unlink()
    assert str(Path("repainted") / "cat-5" / "best.png") in run("repaint", path, "--model", "tiny/ink", *short).out.splitlines()


def test_references_are_kept_before_the_next_ones_are_begun(run, talking, monkeypatch, tmp_path):
    monkeypatch.setattr("vernissage.cli.repaint.TOGETHER", 2)
    paint, painted = FakeT2I.paint, []

    def interrupted(self, plans, **options):
        painted.extend(plans)
        if len(painted) > 2:
            raise KeyboardInterrupt
        return paint(self, plans, **options)

    monkeypatch.setattr(FakeT2I, "paint", interrupted)
    pictures = [reference(tmp_path / f"{name}.png", name) for name in ("red", "green", "blue")]
    assert run("repaint", *pictures, "--model", "tiny/ink", "--rounds", "1", "--candidates", "1").code != 0
    assert sorted(path.name for path in (tmp_path / "repainted").iterdir()) == ["green", "red"]


def test_a_picture_that_the_last_round_lacks_is_not_that_of_an_earlier_repainting(run, talking, monkeypatch, tmp_path):
    path, paint = reference(tmp_path / "cat.png"), FakeT2I.paint
    asked = ("repaint", path, "--model", "tiny/ink", "--rounds", "2", "--candidates", "1")
    assert run(*asked).code == 0
    assert (tmp_path / "repainted" / "cat" / "last.png").exists()
    batches = []

    def tired(self, plans, **options):
        batches.append(plans)
        return paint(self, plans, **options) if len(batches) == 1 else [DriverError("asleep")] * len(plans)

    monkeypatch.setattr(FakeT2I, "paint", tired)
    found = run(*asked)
    assert found.code == 0, found.err
    assert sorted(each.name for each in (tmp_path / "repainted" / "cat").glob("*.png")) == ["best.png", "strip.png"]


def test_ratings_of_pictures_that_no_run_has_are_told(run, talking, data, tmp_path):
    rows = ["model,reference,rater,consistency,perception", "tiny/ink,portrait_1,Ann,5,5", "tiny/ink,portrait_1.png,Bob,5,5"]
    (tmp_path / "people.csv").write_text("\n".join(rows), encoding="utf-8")
    asked = ("--models", "tiny/ink", "--data", data, "--people", "people.csv", "--rounds", "1", "--candidates", "1")
    found = run("bench", "repaint", *asked)
    assert found.code == 0, found.err
    assert "1 of 2 rated pictures are not in this run, among them 'portrait_1.png' by 'tiny/ink'" in found.err


def test_a_picture_given_twice_is_repainted_once(run, talking, tmp_path):
    path = reference(tmp_path / "cat.png")
    found = run("repaint", path, path, "--model", "tiny/ink", "--rounds", "1", "--candidates", "1")
    assert found.code == 0, found.err
    assert [each.name for each in (tmp_path / "repainted").iterdir()] == ["cat"]
    assert len(found.out.splitlines()) == 6


def test_the_folder_is_looked_at_before_anything_is_painted(fails, monkeypatch, tmp_path):
    monkeypatch.setattr("vernissage.drivers.fake.FakeMLLM.answer", None)  # asking would be a traceback
    reference(tmp_path / "cat.png")
    (tmp_path / "taken").write_text("milk", encoding="utf-8")
    assert "taken is a file, not a folder" in fails("repaint", "cat.png", "--model", "tiny/ink", "--out", "taken")
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "milk"


def test_one_picture_that_fails_is_named_once_and_the_others_are_kept(run, monkeypatch, tmp_path):
    def script(ask: Ask) -> str:
        if ask.messages[0].images and ask.messages[0].images[0].getpixel((0, 0)) == (0, 0, 255):
            raise ReplyError("The model cannot see\x1b[2J blue.", reply="")
        return talk(ask)

    made = FakeMLLM.__init__
    monkeypatch.setattr(FakeMLLM, "__init__", lambda self, _script=(), *, brief=False: made(self, script, brief=brief))
    pictures = [reference(tmp_path / f"{colour}.png", colour) for colour in ("red", "blue", "green")]
    found = run("repaint", *pictures, "--model", "tiny/ink", "--rounds", "1", "--candidates", "1")
    assert found.code == 1
    assert found.err.count("not repainted") == found.err.count(str(pictures[1])) == 1
    assert f"{pictures[1]}: not repainted: The model cannot see[2J blue." in found.err
    assert sorted(path.name for path in (tmp_path / "repainted").iterdir()) == ["green", "red"]
    assert len(found.out.splitlines()) == 2 * 6


def test_weights_decide_which_picture_is_chosen(run, talking, tmp_path):
    found = run(
        *("repaint", reference(tmp_path / "cat.png"), "--model", "tiny/ink", "--words", "direct"),
        *("--rounds", "1", "--candidates", "2", "--rate", "none", "--weights", "clip=1, match=0.5"),
    )
    assert found.code == 0, found.err
    done = Regeneration.model_validate_json((tmp_path / "repainted" / "cat" / "regeneration.json").read_text(encoding="utf-8"))
    for candidate in done.rounds[0].candidates:
        assert set(candidate.scores) == {"clip", "dinov2", "ssim", "match"}
        assert candidate.selection.value == pytest.approx((candidate.scores["clip"].value + 0.5 * candidate.scores["match"].value) / 1.5)


@pytest.mark.parametrize("without", ["clip", "dinov2", "both"])
def test_a_studio_without_an_encoder_chooses_by_what_it_has(run, talking, tmp_path, without):
    path = tmp_path / "vernissage.toml"
    text = path.read_text(encoding="utf-8")
    for name in ("clip", "dinov2"):
        if without in {name, "both"}:
            text = text.replace(f'{name} = {{ driver = "fake" }}', f"{name} = false")
    path.write_text(text, encoding="utf-8")
    found = run("repaint", reference(tmp_path / "cat.png"), "--model", "tiny/ink", "--rounds", "1", "--candidates", "2")
    assert found.code == 0, found.err
    done = Regeneration.model_validate_json((tmp_path / "repainted" / "cat" / "regeneration.json").read_text(encoding="utf-8"))
    weighed = {"clip": "dinov2", "dinov2": "clip", "both": "consistency"}[without]
    for candidate in done.rounds[0].candidates:
        assert candidate.selection.value == pytest.approx(candidate.scores[weighed].value)
    interrogated = run("repaint", "cat.png", "--model", "tiny/ink", "--words", "interrogate", "--rounds", "1", "--out", "other")
    assert interrogated.code == (0 if without == "dinov2" else 2), interrogated.err


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (("--model", "tiny/ink"), "vernissage repaint picture.png"),
        (("none.png", "--model", "tiny/ink"), "none.png"),
        (("vernissage.toml", "--model", "tiny/ink"), "PNG"),
        (("cat.png", "none.png", "--model", "tiny/ink"), "none.png"),
        (("cat.png",), "--model"),
        (("cat.png", "--model", "tiny/inc"), "Did you mean 'tiny/ink'"),
        (("cat.png", "--model", "tiny/ink", "--rate", "beauty"), "consistency"),
        (("cat.png", "--model", "tiny/ink", "--rate", "clip"), "no rating 'clip'"),
        (("cat.png", "--model", "tiny/ink", "--weights", "beauty=1"), "no score 'beauty'"),
        (("cat.png", "--model", "tiny/ink", "--weights", "clip"), "clip=1,dinov2=1"),
        (("cat.png", "--model", "tiny/ink", "--weights", "clip=high"), "clip=1,dinov2=1"),
        (("cat.png", "--model", "tiny/ink", "--weights", "clip=1;match=2"), "clip=1,dinov2=1"),
        (("cat.png", "--model", "tiny/ink", "--weights", ""), "clip=1,dinov2=1"),
        (("cat.png", "--model", "tiny/ink", "--out", "vernissage.toml"), "is a file"),
        (("cat.png", "--model", "tiny/ink", "--rounds", "0"), "--rounds"),
        (("cat.png", "--model", "tiny/ink", "--candidates", "33"), "--candidates"),
        (("cat.png", "--model", "tiny/ink", "--patience", "-1"), "--patience"),
        (("cat.png", "--model", "tiny/ink", "--words", "poem"), "--words"),
        (("cat.png", "--model", "tiny/ink", "--config", "none.toml"), "none.toml"),
    ],
)
def test_what_cannot_be_repainted_is_refused_with_the_fix(fails, tmp_path, arguments, fix):
    reference(tmp_path / "cat.png")
    assert fix in fails("repaint", *arguments)


# ------------------------------------------------------------------------------------------------------------- bench


def bench(data: Path, *more: str | Path) -> tuple:
    return ("bench", "repaint", "--models", "tiny/ink", "--data", data, "--out", "run", "--rounds", "1", "--candidates", "2", *more)


def test_a_benchmark_prints_its_tables_and_writes_report_and_export(run, talking, data, tmp_path):
    people = tmp_path / "people.csv"
    rows = "".join(f"tiny/ink,portrait_{number},Ann,{number},3\n" for number in (1, 2, 3))
    people.write_text("model,reference,rater,consistency,perception\n" + rows, encoding="utf-8")
    found = run(*bench(data, "--export", "out", "--people", people))
    assert found.code == 0, found.err
    assert "last round, as in the paper, which is the best of all rounds" in found.out
    assert found.out.count("50.0 [50.0, 50.0]  3/3") == 2, "consistency and perception, every rating is 3"
    assert "consistency with people's consistency: SRCC -  PLCC -  KRCC -  n = 3" in found.out  # ours are all equal
    assert "clip with people's consistency: SRCC" in found.out
    assert found.out.splitlines()[-2:] == ["run/report.html", "out/benchmark_results/run"]
    assert "portrait_3" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "benchmark_results" / "run" / "tiny_ink" / "portrait_1" / "final" / "best_image.png").is_file()
    assert "unscored" not in found.err


def test_a_finished_benchmark_is_not_done_again(run, talking, data, tmp_path, monkeypatch):
    first = run(*bench(data))
    before = (tmp_path / "run" / "items.jsonl").read_bytes()
    monkeypatch.setattr("vernissage.drivers.fake.FakeT2I.paint", None)  # painting would be a traceback
    again = run(*bench(data))
    assert (again.code, again.out) == (0, first.out)
    assert (tmp_path / "run" / "items.jsonl").read_bytes() == before


def test_a_star_stands_for_all_models_that_begin_so_and_a_limit_keeps_the_first_references(run, talking, data, tmp_path):
    found = run("bench", "repaint", "--models", "tiny/*, tiny/ink", "--data", data, "--limit", "2", "--rounds", "1", "--rate", "none")
    assert found.code == 0, found.err
    settings = json.loads((tmp_path / "runs" / "repaint" / "header.json").read_text(encoding="utf-8"))["settings"]
    assert (settings["models"], list(settings["references"])) == (["tiny/ink"], ["portrait_1", "portrait_2"])


def test_references_that_could_not_be_scored_are_counted_and_named_with_the_reason(run, data, tmp_path):
    found = run(*bench(data))
    assert found.code == 1, "nothing was scored"
    assert "0/3" in found.out
    for number in (1, 2, 3):
        assert f"unscored: tiny/ink portrait_{number}: ReplyError: The script of this fake has run out." in found.err
    assert "dinov2" not in found.out  # no column of numbers
    assert "0 of 3 repaintings (every model, every reference) are there" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_what_ended_unscored_is_done_again_with_retry(run, data, tmp_path, request):
    assert run(*bench(data)).err.count("unscored: ") == 3
    request.getfixturevalue("talking")
    assert run(*bench(data)).err.count("unscored: ") == 3  # not without the option
    again = run(*bench(data, "--retry"))
    assert (again.code, "unscored" in again.err) == (0, False)
    assert again.out.count("3/3") == 1 + 5, "repainted, and five scores"
    assert run(*bench(data)).out == again.out
    assert "3 of 3 repaintings (every model, every reference) are there" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_an_exchanged_reference_is_refused_when_a_benchmark_goes_on(run, fails, talking, data):
    run(*bench(data))
    reference(data / "portrait_2.png", "yellow")
    assert "settings references" in fails(*bench(data))


def test_weights_are_part_of_a_benchmark(run, fails, talking, data, tmp_path):
    found = run(*bench(data, "--weights", "match=1", "--rate", "none"))
    assert found.code == 0, found.err
    stated = json.loads((tmp_path / "run" / "header.json").read_text(encoding="utf-8"))["settings"]["repaint"]
    assert stated["weights"] == {"match": 1.0}
    assert "match" in found.out
    assert "perception" not in found.out
    assert "settings repaint" in fails(*bench(data, "--weights", "match=2", "--rate", "none"))


def test_a_run_whose_lines_are_damaged_is_a_failure_that_names_the_line(run, talking, data, tmp_path):
    run(*bench(data))
    path = tmp_path / "run" / "items.jsonl"
    path.write_bytes(b"[1]\n" + path.read_bytes())
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    for command in (bench(data), ("bench", "compare", "run", "other")):
        found = run(*command)
        assert found.code == 1
        assert "items.jsonl, line 1 is damaged" in found.err


def test_a_run_is_not_compared_with_itself(run, talking, data, fails):
    run(*bench(data))
    assert "compared with itself" in fails("bench", "compare", "run", "./run")


def test_tables_of_kinds_with_hardly_any_references_are_left_to_the_report(run, talking, data, noise_picture):
    for number in range(3):
        noise_picture(20 + number).save(data / f"scene_{number}.png")
    found = run(*bench(data))
    assert found.code == 0, found.err
    assert ("last round, scene" in found.out, "last round, portrait" in found.out) == (True, True)
    noise_picture(30).save(data / "sketch_1.png")
    found = run(*bench(data), "--out", "other")
    assert "last round, sketch" not in found.out
    assert "Of sketch there are fewer than 3 references" in found.err


def test_one_reference_that_cannot_be_read_does_not_stop_the_others(run, talking, data):
    (data / "portrait_2.png").write_bytes(b"no picture")
    found = run(*bench(data))
    assert found.code == 0, found.err
    assert "2/3" in found.out
    assert "unscored: tiny/ink portrait_2: BadInput" in found.err


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"--models": "tiny/inc"}, "Did you mean 'tiny/ink'"),
        ({"--models": "tiny/ink,nobody/*"}, "nobody/*"),
        ({"--models": " , "}, "--models"),
        ({"--data": "none"}, "--data"),
        ({"--data": "cards"}, ".png"),
        ({"--limit": "0"}, "--limit"),
        ({"--people": "none.csv"}, "none.csv"),
        ({"--people": "vernissage.toml"}, "perception"),
        ({"--config": "none.toml"}, "none.toml"),
        ({"--out": "data"}, "--out"),
        ({"--out": "vernissage.toml"}, "is a file"),
        ({"--out": "vernissage.toml/run"}, "--out"),
        ({"--rate": "clip"}, "no rating 'clip'"),
        ({"--weights": "beauty=1"}, "no score 'beauty'"),
        ({"--weights": "clip"}, "clip=1,dinov2=1"),
        ({"--config": "blind.toml", "--words": "interrogate"}, "needs CLIP"),
        ({"--config": "blind.toml", "--weights": "clip=1"}, "no score 'clip'"),
    ],
)
def test_what_cannot_be_benchmarked_is_refused_with_the_fix(fails, data, tmp_path, changes, fix):
    blind = (tmp_path / "vernissage.toml").read_text(encoding="utf-8").replace('clip = { driver = "fake" }', "clip = false")
    (tmp_path / "blind.toml").write_text(blind, encoding="utf-8")
    options = {"--models": "tiny/ink", "--data": "data"} | changes
    assert fix in fails("bench", "repaint", *(part for pair in options.items() for part in pair))


def test_the_folder_of_another_run_is_refused_and_left_alone(run, fails, talking, data, tmp_path):
    run(*bench(data))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    error = fails(*bench(data, "--rounds", "2", "--limit", "2"))
    assert "settings references portrait_3, settings repaint rounds" in error
    assert "--out" in error
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_two_runs_are_compared_on_what_they_share(run, fails, talking, data, tmp_path):
    run(*bench(data))
    run(*bench(data, "--out", "other", "--words", "direct", "--limit", "2"))
    found = run("bench", "compare", "run", "other")
    assert found.code == 0, found.err
    lines = found.out.splitlines()
    assert lines[0] == "The runs differ in: settings references portrait_3, settings repaint words."
    assert [line.split()[:2] for line in lines[1:]] == [
        ["tiny/ink", name] for name in ("clip", "dinov2", "consistency", "perception", "ssim")
    ]
    assert all("n = 2" in line for line in lines[1:])
    assert "0.0 [0.0, 0.0]" in lines[3]  # every rating is 3 in both
    assert "holds no run" in fails("bench", "compare", "run", "data")
