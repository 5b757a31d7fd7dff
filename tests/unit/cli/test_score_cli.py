"""`vernissage score` on fakes and on tiny checkpoints: what is scored, printed and written, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from vernissage.api import Studio
from vernissage.cli.score import summary, table_of
from vernissage.drivers.fake import FakeEncoder, FakeMLLM
from vernissage.errors import BadInput, UnknownName
from vernissage.metrics.distribution import gather, save_statistics
from vernissage.metrics.interval import mean_interval
from vernissage.records.picture import Picture, Provenance
from vernissage.records.plan import Plan
from vernissage.records.table import write_table
from vernissage.records.verdict import Score, Unscored
from vernissage.scoring.layouts import Entry
from vernissage.scoring.registry import METRICS
from vernissage.scoring.score import Scored
from vernissage.wiring import DriverConfig, StudioConfig

COMMAND = ("score",)

FAKES = "".join(f'{port} = {{ driver = "fake" }}\n' for port in ("clip", "dinov2", "mllm", "t2i"))
SCORES, SUMMARY = Path("runs/score/scores.csv"), Path("runs/score/summary.json")


@pytest.fixture(autouse=True)
def config(tmp_path):
    (tmp_path / "vernissage.toml").write_text(FAKES, encoding="utf-8")


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many pictures the encoders were given in each pass."""
    passes: list[int] = []
    original = FakeEncoder.encode_raw

    def encode_raw(self, images):
        passes.append(len(images))
        return original(self, images)

    monkeypatch.setattr(FakeEncoder, "encode_raw", encode_raw)
    return passes


@pytest.fixture
def picture(noise_picture):
    def picture(path: str, seed: int = 0, prompt: str = "") -> Image.Image:
        provenance = Provenance(plan=Plan(prompt=prompt, model="mini/neon")) if prompt else None
        Picture.of(noise_picture(seed), provenance).save(path)
        return noise_picture(seed)

    return picture


def text(path: str, content: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content, encoding="utf-8")
    return path


def table(path: Path = SCORES) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rows() -> list[dict]:
    return json.loads(SUMMARY.read_text(encoding="utf-8"))


def clipscores(images: list[Image.Image], prompts: list[str]) -> list[float]:
    cosines = (FakeEncoder().encode(images) * FakeEncoder().encode_text(prompts)).sum(axis=1)
    return [pytest.approx(100 * max(0.0, float(cosine)), abs=1e-3) for cosine in cosines]


# ------------------------------------------------------------------------------------------------- what is written


def test_a_folder_gets_a_table_a_summary_and_a_line_for_each_metric(run, picture):
    images = [picture(f"in/{index}.png", index, f"a cat {index}") for index in range(3)]
    found = run("in", "--metrics", "clipscore, vqascore,clipscore")
    assert found.code == 0, found.err
    expected = clipscores(images, [f"a cat {index}" for index in range(3)])
    assert [(row["image"], row["group"], float(row["clipscore"]), row["vqascore"], row["unscored"]) for row in table()] == [
        (f"{index}.png", "", score, "1.0", "") for index, score in enumerate(expected)
    ]
    assert list(table()[0]) == ["image", "group", "prompt", "clipscore", "vqascore", "unscored", "why"]
    first, second = rows()
    values = [float(row["clipscore"]) for row in table()]
    low, high = mean_interval(np.array(values))[1:3]
    assert first == {
        **{"metric": "clipscore", "group": "", "scored": 3, "asked": 3, "mean": pytest.approx(np.mean(values)), "low": low, "high": high},
        "reasons": {},
        "by": "fake",
    }
    assert second["mean"] == second["low"] == second["high"] == 1
    assert found.out.splitlines() == [
        f"clipscore                    {np.mean(values):.4f} [{low:.4f}, {high:.4f}], 3/3 scored",
        "vqascore                     1.0000 [1.0000, 1.0000], 3/3 scored",
        str(SCORES),
        str(SUMMARY),
    ]


def test_clipscore_is_what_is_scored_unless_something_else_is_asked_for(run, picture):
    picture("in/a.png", 0, "a cat")
    run("in", "--out", "there/deep")
    assert list(table(Path("there/deep/scores.csv"))[0]) == ["image", "group", "prompt", "clipscore", "unscored", "why"]
    assert not Path("runs").exists()


def test_set_scores_stand_in_the_summary_with_their_note(run, picture):
    for index in range(8):
        picture(f"in/{index}.png", index)
        picture(f"ref/{index}.png", 100 + index)
    found = run("in", "--metrics", "clip-fid,precision,ssim", "--reference", "ref")
    assert found.code == 0, found.err
    assert list(table()[0]) == ["image", "group", "prompt", "ssim", "unscored", "why"]
    by_name = {row["metric"]: row for row in rows()}
    assert by_name["clip-fid"]["value"] > 0
    assert "8 pictures for 8 features" in by_name["clip-fid"]["note"]
    assert by_name["precision"]["note"] == ""
    assert by_name["clip-fid"]["scored"] == by_name["clip-fid"]["asked"] == 1
    assert f"clip-fid                     {by_name['clip-fid']['value']:.4f}  (8 pictures" in found.out
    assert f"precision                    {by_name['precision']['value']:.4f}\n" in found.out


def test_a_set_score_that_could_not_be_computed_is_no_number(run, picture):
    for folder in ("in", "ref"):
        picture(f"{folder}/a.png", 0, "a cat")
    found = run("in", "--metrics", "clip-fid,clipscore", "--reference", "ref")
    assert found.code == 0
    assert "clip-fid                     unscored  (a Frechet distance needs" in found.out
    (row,) = (row for row in rows() if row["metric"] == "clip-fid")
    assert (row["value"], row["scored"]) == (None, 0)


def test_statistics_may_be_given_as_the_reference(run, picture):
    for index in range(12):
        picture(f"in/{index}.png", index)
    save_statistics(Path("ref.npz"), gather(FakeEncoder().encode_raw([picture("x.png", seed) for seed in range(50, 70)])))
    assert run("in", "--metrics", "clip-fid", "--reference", "ref.npz").code == 0
    (row,) = rows()
    assert row["value"] > 0


@pytest.mark.parametrize("layout", ["geneval", "hpsv2", "compbench", "csv"])
def test_groups_have_a_line_each(run, picture, noise_picture, layout):
    source = "in"
    fits = FakeEncoder().encode([noise_picture(seed) for seed in range(20)]) @ FakeEncoder().encode_text(["a cat"])[0]
    seeds = np.argsort(-fits)[:2]
    for group in ("anime", "photo"):
        for index in range(2):
            match layout:
                case "geneval":
                    picture(f"in/{group}{index}/samples/0.png", seeds[index])
                    text(f"in/{group}{index}/metadata.jsonl", json.dumps({"prompt": "a cat", "tag": group}))
                case "hpsv2":
                    picture(f"in/{group}/{index}.png", seeds[index], "a cat")
                case "compbench":
                    picture(f"in/{group}/samples/a cat_00000{index}.png", seeds[index])
                case "csv":
                    picture(f"{group}{index}.png", seeds[index])
    if layout == "csv":
        source = text("t.csv", "image,prompt,group\n" + "".join(f"{g}{i}.png,a cat,{g}\n" for g in ("anime", "photo") for i in (0, 1)))
    found = run(source)
    assert [(row["group"], row["asked"]) for row in rows()] == [("", 4), ("anime", 2), ("photo", 2), ("mean of groups", 4)]
    assert [line.split("  ")[0] for line in found.out.splitlines()[:3]] == ["clipscore", "clipscore (anime)", "clipscore (photo)"]
    assert [row["group"] for row in table()] == ["anime", "anime", "photo", "photo"]
    assert len({row["clipscore"] for row in table()}) == 2
    assert all(row["mean"] == pytest.approx(rows()[0]["mean"]) for row in rows()[1:]), "the same two pictures in each group"


def test_prompts_of_a_file_go_before_those_that_pictures_carry(run, picture):
    images = [picture(f"in/{name}.png", seed, "carried") for seed, name in enumerate("ab")]
    run("in", "--prompts", text("p.txt", "a cat\na dog\n"))
    assert [float(row["clipscore"]) for row in table()] == clipscores(images, ["a cat", "a dog"])
    run("in", "--prompts", text("p.csv", "image,prompt\nb.png,a dog\n"))
    first, second = table()
    assert (first["prompt"], first["clipscore"], first["unscored"]) == ("", "", "clipscore: no prompt is known"), "none is made up"
    assert (second["prompt"], float(second["clipscore"])) == ("a dog", clipscores(images[1:], ["a dog"])[0])


# ------------------------------------------------------------------------------------------------------------- faults


def test_pictures_that_cannot_be_scored_are_left_empty_with_the_reason_and_counted(run, picture):
    for index in range(18):
        picture(f"in/{index}.png", index, "a cat" if index else "")
        if index != 1:
            picture(f"ref/{index}.png", index)
    Path("in/18.png").write_bytes(b"no picture")
    Path("in/19.png").write_bytes(Path("in/2.png").read_bytes()[:90])
    found = run("in", "--metrics", "clipscore,psnr", "--reference", "ref")
    assert found.code == 0
    (bare, alone, good, *_, text_file, cut) = table()
    assert (bare["clipscore"], bare["psnr"], bare["unscored"]) == ("", "100.0", "clipscore: no prompt is known")
    assert (alone["psnr"], alone["unscored"]) == ("", "psnr: there is no reference picture of that name")
    assert good["unscored"] == ""
    assert (text_file["clipscore"], text_file["psnr"]) == ("", "")
    assert text_file["unscored"].startswith("in/18.png is not a picture"), "one reason, told once"
    assert cut["unscored"].startswith("in/19.png is damaged or cut off")
    first, second = rows()
    assert (first["scored"], first["asked"], sum(first["reasons"].values())) == (17, 20, 3)
    assert (second["scored"], second["mean"]) == (17, 100)
    assert "17/20 scored; 1 x no prompt is known; 1 x in/18.png is not a picture" in found.out
    assert found.out.count("; 1 further reasons in the table") == 2


def test_where_nothing_could_be_scored_the_exit_code_tells(run, picture):
    picture("in/a.png")
    found = run("in")
    assert found.code == 1
    assert found.out.startswith("clipscore                    unscored, 0/1 scored; 1 x no prompt is known\n")
    assert "mean" not in rows()[0]
    assert table()[0]["clipscore"] == ""


def test_one_picture_alone_has_no_interval(run, picture):
    picture("in/a.png", prompt="a cat")
    found = run("in")
    (row,) = rows()
    assert (row["low"], row["high"]) == (None, None)
    assert f"{row['mean']:.4f} [-], 1/1 scored\n" in found.out


def test_an_mllm_that_fails_for_one_picture_costs_one_score(run, picture, monkeypatch):
    for index in range(3):
        picture(f"in/{index}.png", index, f"a cat {index}")

    def choose(self, asks, options):
        return [BadInput("too\x1b[2J dark") if "cat 1" in ask.messages[0].text else np.array([0.7, 0.3]) for ask in asks]

    monkeypatch.setattr(FakeMLLM, "choose", choose)
    found = run("in", "--metrics", "vqascore")
    assert found.code == 0
    assert [row["vqascore"] for row in table()] == ["0.7", "", "0.7"]
    assert "2/3 scored; 1 x too[2J dark" in found.out
    assert "\x1b" not in found.out + found.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "nothing to score"),
        (("none",), "There is no none"),
        (("empty",), "no pictures in empty"),
        (("in", "--metrics", "clip-score"), "Did you mean 'clipscore'"),
        (("in", "--metrics", "ssim"), "--reference"),
        (("in", "--metrics", "clip-fid"), "--reference"),
        (("in", "--metrics", "ssim", "--reference", "none"), "There is no none"),
        (("in", "--metrics", "ssim", "--reference", "empty"), "no pictures in empty"),
        (("in", "--metrics", "ssim", "--reference", "ref.npz"), "no folder"),
        (("in", "--prompts", "none.txt"), "Cannot read the prompts"),
        (("in", "--prompts", "two.txt"), "2 prompts for 1 pictures"),
        (("in/a.png",), "CSV or JSONL"),
        (("in", "--out", "in/a.png"), "is a file"),
        (("in", "--out", "in/a.png/deep"), "is a file"),
        (("in", "--config", "none.toml"), "none.toml"),
        (("in", "--config", "poor.toml"), "needs `clip`"),
    ],
)
def test_what_cannot_be_scored_is_refused_and_nothing_is_left_behind(fails, picture, arguments, told):
    picture("in/a.png", 0, "a cat")
    Path("empty").mkdir()
    text("two.txt", "one\ntwo\n")
    text("poor.toml", 'clip = false\nmllm = { driver = "fake" }\n')
    save_statistics(Path("ref.npz"), gather(np.eye(8)))
    assert told in fails(*arguments)


def test_a_table_that_cannot_be_written_is_told_with_the_fix(run, picture):
    picture("in/a.png", 0, "a cat")
    SCORES.mkdir(parents=True)
    found = run("in")
    assert found.code == 2
    assert found.err == f"error: Cannot write {SCORES}: is a directory. Choose another place.\n"


def test_all_metrics_are_listed_with_what_they_need(run):
    found = run("--list")
    assert found.code == 0
    lines = found.out.splitlines()
    assert [line.split()[0] for line in lines] == list(METRICS)
    for line, metric in zip(lines, METRICS.values(), strict=True):
        assert f"{metric.direction} is better; needs {', '.join(sorted(metric.needs))}" in line


# ---------------------------------------------------------------------------------------------------------- the cache


def test_a_second_run_encodes_nothing_and_writes_the_same(run, picture, encoded):
    for index in range(5):
        picture(f"in/{index}.png", index, "a cat")
    first = run("in", "--metrics", "clipscore,vqascore")
    written = SCORES.read_bytes(), SUMMARY.read_bytes()
    assert sum(encoded) == 5
    assert run("in", "--metrics", "clipscore,vqascore") == first
    assert (SCORES.read_bytes(), SUMMARY.read_bytes()) == written
    assert sum(encoded) == 5
    run("in", "--out", "other")
    assert sum(encoded) == 10, "another folder, another memory"


def test_a_run_that_was_interrupted_goes_on(run, picture, encoded, monkeypatch):
    monkeypatch.setattr("vernissage.scoring.score.CHUNK", 2)
    for index in range(8):
        picture(f"in/{index}.png", index, f"a cat {index}")
    run("in", "--metrics", "clipscore,vqascore", "--out", "whole")
    encoded.clear()
    choose = FakeMLLM.choose

    def interrupted(self, asks, options):
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return choose(self, asks, options)

    monkeypatch.setattr(FakeMLLM, "choose", interrupted)
    assert run("in", "--metrics", "clipscore,vqascore").code != 0
    assert not SCORES.exists(), "no table of a part"
    monkeypatch.setattr(FakeMLLM, "choose", choose)
    assert run("in", "--metrics", "clipscore,vqascore").code == 0
    assert encoded == [2, 2, 2, 2], "the last two pictures alone were left"
    for name in ("scores.csv", "summary.json"):
        assert Path("whole", name).read_bytes() == Path("runs/score", name).read_bytes()


# --------------------------------------------------------------------------------------------------------- the tables


def test_a_table_keeps_odd_names_and_tells_each_reason(tmp_path):
    entries = [Entry('caf\u00e9, "2".png', Path("x")), Entry("half \ud800.png", Path("y"), group="g"), Entry("c.png", Path("z"))]
    down = Unscored(reason="down; very")
    scores = {"one": [Score(value=0.0), down, down], "two": [Score(value=-1.5), Score(value=2.0), Unscored(reason="odd")]}
    write_table(tmp_path / "deep/out.csv", table_of(Scored(entries, scores, {}, prompts=["a cat", None, None])))
    assert [list(row.values()) for row in table(tmp_path / "deep/out.csv")] == [
        ['caf\u00e9, "2".png', "", "a cat", "0.0", "-1.5", "", ""],
        ["half \ufffd.png", "g", "", "", "2.0", "one: down; very", ""],
        ["c.png", "", "", "", "", "one: down; very; two: odd", ""],
    ]


def test_a_summary_takes_only_what_was_scored_into_the_mean():
    entries = [Entry(f"{index}.png", Path("x"), group="ab"[index % 2]) for index in range(4)]
    down = Unscored(reason="down")
    first, second, third, whole = summary(Scored(entries, {"one": [Score(value=0.0), down, Score(value=3.0), down]}, {}))
    assert (first["mean"], first["scored"], first["asked"], first["reasons"]) == (1.5, 2, 4, {"down": 2})
    assert (second["group"], second["mean"], second["scored"], second["reasons"]) == ("a", 1.5, 2, {})
    assert third == {"metric": "one", "group": "b", "scored": 0, "asked": 2, "reasons": {"down": 2}}
    assert whole == {"metric": "one", "group": "mean of groups", "scored": 2, "asked": 4, "reasons": {"down": 2}}, "a group has no mean"


def test_a_summary_tells_the_mean_of_groups_in_which_each_counts_alike():
    entries = [Entry(f"{index}.png", Path("x"), group=group) for index, group in enumerate(["a", "a", "a", "b", ""])]
    *_, whole = summary(Scored(entries, {"one": [Score(value=value) for value in (1.0, 1.0, 1.0, 0.0, 9.0)]}, {}))
    assert (whole["group"], whole["mean"]) == ("mean of groups", 0.5)
    assert whole["low"] < 0.3 < 0.7 < whole["high"], "groups that are all alike tell nothing of how sure it is"
    assert (whole["scored"], whole["asked"]) == (4, 4), "what is in no group is not among them"


# --------------------------------------------------------------------------------------------------------- the studio


def test_a_studio_scores_entries_and_loads_only_what_is_needed(picture, tmp_path):
    images = [picture(f"in/{name}.png", seed) for seed, name in enumerate("ab")]
    studio = Studio(StudioConfig(clip=DriverConfig(driver="fake"), mllm=DriverConfig(driver="fake")))
    entries = [Entry(f"{name}.png", tmp_path / f"in/{name}.png", prompt) for name, prompt in (("b", "a dog"), ("a", "a cat"))]
    scored = studio.score(entries, ["clipscore"])
    assert [found.value for found in scored.pictures["clipscore"]] == clipscores(images[::-1], ["a dog", "a cat"])
    assert not {"mllm", "dinov2", "critic"} & vars(studio).keys()
    by_folder = studio.score("in", ["clipscore"], prompts=text("p.csv", "image,prompt\na.png,a cat\nb.png,a dog\n"), cache="kept")
    assert by_folder.pictures["clipscore"] == scored.pictures["clipscore"][::-1]
    assert list(Path("kept").iterdir())


def test_a_studio_tells_a_metric_that_it_does_not_know():
    with pytest.raises(UnknownName, match="fids"):
        Studio().score("in", ["fids"])


def test_real_encoders_score_a_folder_from_end_to_end(run, picture, clip_folder, dinov2_folder):
    text(
        "vernissage.toml",
        f"clip = {{ driver = 'clip', model = '{clip_folder}', device = 'cpu' }}\n"
        f"dinov2 = {{ driver = 'dinov2', model = '{dinov2_folder}', device = 'cpu' }}\n",
    )
    for index in range(8):
        picture(f"in/{index}.png", index, f"a cat {index}")
        picture(f"ref/{index}.png", index if index < 4 else 100 + index)
    metrics = "clipscore,clip-image,dinov2,ssim,psnr,clip-fid,clip-kid,fd-dinov2,precision,recall,density,coverage"
    found = run("in", "--metrics", metrics, "--reference", "ref")
    assert found.code == 0, found.err
    by_name = {row["metric"]: row for row in rows()}
    assert list(by_name) == metrics.split(",")
    assert all(row["scored"] == row["asked"] for row in by_name.values())
    for row in table()[:4]:
        assert float(row["clip-image"]) == pytest.approx(1, abs=1e-5)
        assert float(row["dinov2"]) == pytest.approx(1, abs=1e-5)
        assert float(row["psnr"]) == 100
    assert all(float(row["psnr"]) < 50 for row in table()[4:])


def test_the_table_can_be_parquet(run, tmp_path):
    Image.linear_gradient("L").save(tmp_path / "one.png")
    done = run(tmp_path, "--metrics", "ssim", "--reference", tmp_path, "--table", "parquet", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "scores.parquet").to_pylist()
    assert [row["ssim"] for row in rows] == [pytest.approx(1.0)]
    assert set(rows[0]) == {"image", "group", "prompt", "ssim", "unscored", "why"}


# ---------------------------------------------------------------------------------------------------------- questions


def tifa(*rows: tuple[str, str, str], name: str = "tifa.json") -> str:
    """TIFA's file of (id, question, right answer)."""
    made = [{"id": i, "caption": "", "question": q, "choices": ["yes", "no"], "answer": a, "element": "x"} for i, q, a in rows]
    return text(name, json.dumps(made))


def answering(monkeypatch, **shares: float) -> list[str]:
    """Lets the fake MLLM find yes as likely as told for questions with a word in them; gives what it is asked."""
    asked: list[str] = []

    def choose(self, asks, options):
        asked.extend(ask.messages[0].text for ask in asks)
        chances = [next((share for word, share in shares.items() if word in ask.messages[0].text), 1.0) for ask in asks]
        return [np.array([share, 1 - share]) for share in chances]

    monkeypatch.setattr(FakeMLLM, "choose", choose)
    return asked


def test_questions_of_a_file_are_scored_by_name_and_counted(run, picture, monkeypatch):
    for index, name in enumerate("abc"):
        picture(f"in/{name}.png", index)
    answering(monkeypatch, dog=0.2)
    questions = tifa(("a", "Is there a cat?", "yes"), ("a", "Is there a dog?", "yes"), ("b", "Is there a cat?", "yes"))
    found = run("in", "--metrics", "tifa,dsg,geneval", "--questions", questions)
    assert found.code == 0, found.err
    assert [(row["tifa"], row["dsg"], row["geneval"]) for row in table()] == [("0.5", "0.5", "0.0"), ("1.0", "1.0", "1.0"), ("", "", "")]
    assert table()[0]["why"] == "tifa: wrong: Is there a dog?; dsg: wrong: Is there a dog?; geneval: wrong: Is there a dog?"
    reason = "there are no questions about this picture"
    assert table()[2]["unscored"] == "; ".join(f"{name}: {reason}" for name in ("tifa", "dsg", "geneval"))
    assert [(row["metric"], row["scored"], row["asked"], row["mean"], row["reasons"]) for row in rows()] == [
        ("tifa", 2, 3, 0.75, {reason: 1}),
        ("dsg", 2, 3, 0.75, {reason: 1}),
        ("geneval", 2, 3, 0.5, {reason: 1}),
    ]
    assert f"2/3 scored; 1 x {reason}" in found.out


@pytest.mark.parametrize(("brief", "reason"), [("true", "too small to write questions; give them with --questions"), ("false", "run out")])
def test_where_nobody_writes_questions_the_summary_says_why(run, picture, brief, reason):
    text("vernissage.toml", FAKES.replace('mllm = { driver = "fake" }', f'mllm = {{ driver = "fake", brief = {brief} }}'))
    picture("in/a.png", 0, "a cat")
    found = run("in", "--metrics", "tifa")
    assert found.code == 1
    (row,) = rows()
    assert (row["scored"], list(row["reasons"].values())) == (0, [1])
    assert reason in next(iter(row["reasons"]))
    assert reason in found.out
    assert reason in table()[0]["unscored"]


def test_geneval_s_own_questions_are_asked_and_grouped_by_task(run, picture, monkeypatch):
    for index, (tag, name) in enumerate([("single_object", "cat"), ("single_object", "dog"), ("colors", "cat")]):
        picture(f"in/{index}/samples/0.png", index)
        include = [{"class": name, "count": 1} | ({"color": "red"} if tag == "colors" else {})]
        text(f"in/{index}/metadata.jsonl", json.dumps({"prompt": f"a {name}", "tag": tag, "include": include}))
    asked = answering(monkeypatch, dog=0.1)
    assert run("in", "--metrics", "geneval").code == 0
    assert [(row["group"], row["scored"], row["mean"]) for row in rows()] == [
        ("", 3, pytest.approx(2 / 3)),
        ("colors", 1, 1),
        ("single_object", 2, 0.5),
        ("mean of groups", 3, 0.75),
    ]
    assert len(asked) == 4


def test_geneval_s_things_are_found_by_a_configured_detector_and_what_it_does_not_know_is_told(run, picture, detector_folders):
    for index, name in enumerate(["cat", "cat", "zebra"]):
        picture(f"in/{index}/samples/0.png", index)
        include = [{"class": name, "count": 1}]
        text(f"in/{index}/metadata.jsonl", json.dumps({"prompt": f"a {name} near a dog", "tag": "single_object", "include": include}))
    surely = "threshold = 0.0\nrelation_threshold = 1.0"
    text("vernissage.toml", f'[detector]\ndriver = "transformers"\nmodel = "{detector_folders["detr"]}"\n{surely}\n')
    assert run("in", "--metrics", "geneval-detector,compbench-spatial-detector").code == 0
    scores = [row["geneval-detector"] for row in table()]
    assert scores[2] == ""
    assert set(scores[:2]) <= {"0.0", "1.0"}
    assert [row["compbench-spatial-detector"] for row in table()] == ["0.0", "0.0", ""]
    first, second = (row for row in rows() if row["group"] == "")
    assert (first["scored"], first["reasons"]) == (2, {"the detector knows no zebra": 1})
    assert first["by"] == f"clip:mini/clip, transformers:{detector_folders['detr']}"
    assert second["by"] == f"transformers:{detector_folders['detr']}"


def test_changed_questions_are_asked_anew_and_others_are_not(run, picture, monkeypatch):
    picture("in/a.png", 0)
    picture("in/b.png", 1)
    asked = answering(monkeypatch)
    for expected, question in ((2, "Is there a cat?"), (2, "Is there a cat?"), (3, "Is there a dog?")):
        questions = tifa(("a", question, "yes"), ("b", "Is there a cow?", "yes"))
        assert run("in", "--metrics", "tifa", "--questions", questions).code == 0
        assert len(asked) == expected


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.json", None, "Cannot read questions from none.json"),
        ("q.json", "[", "Cannot read questions from q.json"),
        ("q.json", "[]", "There are no questions in q.json"),
        ("q.jsonl", '{"id": "b", "questions": [{"question": "?"}]}', "q.jsonl has no questions about these pictures"),
        ("q.csv", "image,prompt\na.png,a cat\n", "Cannot read questions from q.csv"),
    ],
)
def test_questions_that_do_not_fit_are_refused_and_nothing_is_left_behind(fails, picture, name, content, told):
    picture("in/a.png", 0, "a cat")
    if content is not None:
        text(name, content)
    assert told in fails("in", "--metrics", "tifa", "--questions", name)


def test_what_asks_questions_says_so_in_the_list(run):
    lines = {line.split()[0]: line for line in run("--list").out.splitlines()}
    assert all(lines[name].endswith("needs mllm, questions") for name in ("tifa", "dsg", "geneval"))
    assert lines["compbench-3-in-1"].endswith("needs clip, mllm, prompt")
    assert lines["inception-score"].endswith("needs inception, set")
    assert lines["fid"].endswith("needs inception, references, set")


def test_prompts_alone_are_enough_for_compbench(run, picture, monkeypatch):
    picture("in/samples/a red cat near a dog_000000.png", 0)
    answering(monkeypatch, **{"Is a red cat near a dog?": 0.5, "a red cat?": 0.75, "a dog?": 0.5})
    assert run("in", "--metrics", "compbench-attributes,compbench-spatial").code == 0
    (row,) = table()
    assert (float(row["compbench-attributes"]), float(row["compbench-spatial"])) == (0.375, 0.5)


def test_a_reason_from_a_file_of_questions_cannot_move_the_cursor(run, picture, monkeypatch):
    picture("in/a.png", 0)
    answering(monkeypatch, cat=0.1)
    found = run("in", "--metrics", "tifa", "--questions", tifa(("a", "Is there a cat?\x1b[2J\r\n", "yes")))
    assert found.code == 0
    assert "\x1b" not in found.out + found.err


# ---------------------------------------------------------------------------------------------------------- Inception


def test_fid_and_kid_come_from_the_encoder_named_inception(run, picture):
    text("vernissage.toml", FAKES + 'inception = { driver = "fake" }\n')
    for index in range(12):
        picture(f"in/{index}.png", index)
        picture(f"ref/{index}.png", 100 + index)
    found = run("in", "--metrics", "fid,kid", "--reference", "ref")
    assert found.code == 0, found.err
    by_name = {row["metric"]: row["value"] for row in rows()}
    run("in", "--metrics", "clip-fid,clip-kid", "--reference", "ref")
    assert list(by_name.values()) == [row["value"] for row in rows()], "the same fake under another name"


@pytest.mark.parametrize("metric", ["fid", "inception-score"])
def test_without_inception_what_needs_it_is_refused(fails, picture, metric):
    picture("in/a.png")
    assert "needs `inception`" in fails("in", "--metrics", metric, "--reference", "in")


def test_an_inception_that_tells_no_classes_ends_in_no_traceback(run, picture):
    text("vernissage.toml", FAKES + 'inception = { driver = "fake" }\n')
    for index in range(10):
        picture(f"in/{index}.png", index)
    assert run("in", "--metrics", "inception-score").code in (1, 2)


# --------------------------------------------------------------------------------------------------------------- texts


def test_texts_are_compared_with_those_that_they_should_be_like(run):
    Path("pairs.csv").write_text("text,reference\na red cat,a red cat\ntwo blue stars,a green tree at night\nthe sea,\n", encoding="utf-8")
    found = run("--texts", "pairs.csv", "--out", "out")
    assert found.code == 0, found.err
    lines = found.out.splitlines()
    assert lines[0].startswith("by mini/clip ")
    assert "0 is what these references score with one another" in lines[0]
    same, other, empty = table(Path("out/texts.csv"))
    assert float(same["bertscore-f"]) == pytest.approx(1, abs=1e-5)
    assert float(other["bertscore-f-rescaled"]) < float(other["bertscore-f"]) < 1
    assert (empty["bertscore-f"], empty["unscored"]) == ("", "its reference is empty")
    told = {row["metric"]: row for row in json.loads(Path("out/summary.json").read_text(encoding="utf-8"))}
    assert (told["bertscore-f"]["scored"], told["bertscore-f"]["asked"]) == (2, 3)
    assert told["bertscore-f"]["mean"] == pytest.approx((float(same["bertscore-f"]) + float(other["bertscore-f"])) / 2)


def test_texts_and_pictures_are_not_scored_in_one_go_and_a_table_without_references_is_refused(run):
    found = run("in", "--texts", "pairs.csv")
    assert (found.code, "Either pictures or texts" in found.err) == (2, True)
    Path("pairs.csv").write_text("text,wanted\na,b\n", encoding="utf-8")
    assert "lacks the column reference" in run("--texts", "pairs.csv").err
