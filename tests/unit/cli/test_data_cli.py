"""`vernissage data` end to end on small sets: filter, role-play, deduplicate, split."""

import csv
import json
from pathlib import Path

import pytest
import spacy
from PIL import Image

from vernissage.datasets.collect import read_demonstrations, write_demonstrations
from vernissage.datasets.queries import Query, read_queries, write_queries
from vernissage.datasets.role_play import plan_tasks
from vernissage.drivers.fake import FakeMLLM
from vernissage.errors import DriverError, RateLimited, Refused
from vernissage.records.chat import Chat
from vernissage.records.demonstration import Demonstration
from vernissage.records.picture import Picture, Provenance
from vernissage.records.plan import Plan

COMMAND = ("data",)
CONFIG = 'clip = false\ndinov2 = false\nmllm = { driver = "fake", brief = true }\nt2i = { driver = "fake" }\n'
WORDS = [
    "cat",
    "dog",
    "sea",
    "tree",
    "red",
    "blue",
    "car",
    "boat",
    "sun",
    "moon",
    "house",
    "rain",
    "night",
    "day",
    "neon",
    "photo",
    "green",
    "forest",
    "desert",
    "city",
]


@pytest.fixture(autouse=True)
def studio(tmp_path):
    (tmp_path / "vernissage.toml").write_text(CONFIG, encoding="utf-8")


@pytest.fixture
def playing(monkeypatch):
    """Sets what MLLMs say; keeps the questions."""
    made = FakeMLLM.__init__

    def playing(script):
        heard = []

        def answer(ask):
            heard.append(ask)
            return script(ask)

        monkeypatch.setattr(FakeMLLM, "__init__", lambda self, _script=(), *, brief=False: made(self, answer, brief=brief))
        return heard

    return playing


def obliging(ask):
    head, _, rest = ask.messages[0].text.partition("\n")
    user = {"role": "user", "text": f"please {rest}"}
    turns = [user, {"role": "assistant", "text": "so?"}, user] if head.endswith("history") else [user]
    return json.dumps({"turns": turns})


def demonstrations(count, path="d.jsonl", **changes):
    given = [Demonstration(id=f"d{n}", plan=Plan(prompt=f"a cat number {n}", model="mini/neon"), **changes) for n in range(count)]
    write_demonstrations(given, Path(path))
    return path


def queries(count, path="q.jsonl", models=2):
    """Requests of words in turn, so that each differs from every other."""
    made = []
    for number in range(count):
        chosen = [WORDS[(number * step + step) % len(WORDS)] for step in (1, 3, 7, 9, 11)]
        text = f"can you make me {' '.join(chosen)}"
        made.append(Query(id=f"q{number}", chat=Chat.of(text), plan=Plan(prompt="x", model=f"m{number % models}")))
    write_queries(made, Path(path))
    return path


def table(path):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --------------------------------------------------------------------------------------------------------------- filter


def test_demonstrations_are_filtered_and_what_went_is_told_with_its_reason(run):
    kept = [Demonstration(id=str(n), plan=Plan(prompt=f"cat {n}", model="m"), popularity=n) for n in range(3)]
    gone = [
        kept[0].model_copy(update={"id": "double"}),
        kept[0].model_copy(update={"id": "other double"}),
        Demonstration(id="old", plan=Plan(prompt="old", model="m"), base_model="SD 1.4"),
        Demonstration(id="rare", plan=Plan(prompt="rare", model="rare")),
        Demonstration(id="unsafe", plan=Plan(prompt="unsafe", model="m"), nsfw=True),
    ]
    write_demonstrations([*kept, *gone], Path("d.jsonl"))
    found = run("filter", "d.jsonl", "--outdated", "sd 1.4, SD 2.0")
    assert found == (
        0,
        "3 demonstrations\n5 not taken:\n  2 x the same plan as another\n  1 x an outdated model\n  1 x not safe for work\n"
        "  1 x a model with too few demonstrations\nfiltered.jsonl\n",
        "",
    )
    assert read_demonstrations(Path("filtered.jsonl")) == kept
    found = run("filter", "d.jsonl", "--least", "1", "--nsfw", "-o", "new/all.jsonl")
    assert found.out == "6 demonstrations\n2 not taken:\n  2 x the same plan as another\nnew/all.jsonl\n"


def test_a_file_may_be_filtered_into_itself(run):
    demonstrations(5)
    before = Path("d.jsonl").read_text(encoding="utf-8")
    run("filter", "d.jsonl", "-o", "d.jsonl")
    assert Path("d.jsonl").read_text(encoding="utf-8") == before


def test_pictures_are_compared_and_shown_though_a_step_runs_elsewhere(run, monkeypatch, noise_picture):
    for number, size in enumerate([(160, 128), (80, 64)]):  # one picture in two sizes
        provenance = Provenance(plan=Plan(prompt=f"a cat number {number}", model="mini/neon"))
        Path("in").mkdir(exist_ok=True)
        Picture.of(noise_picture(1, (160, 128)).resize(size), provenance).save(f"in/{number}.png")
    assert run("collect", "--pictures", "in", "-o", "set/d.jsonl").code == 0
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    found = run("filter", "../set/d.jsonl", "--least", "1", "-o", "new/f.jsonl")
    assert found.out == "1 demonstrations\n1 not taken:\n  1 x a picture that looks like another\nnew/f.jsonl\n"
    monkeypatch.chdir("new")
    tasks = plan_tasks(read_demonstrations(Path("f.jsonl")), ["a"], [f"role {number}" for number in range(50)], each=50)
    assert "multimodal" in {task.form for task in tasks}


def test_filtering_refuses_what_is_no_file_of_demonstrations(fails):
    queries(2)
    Path("folder").mkdir()
    demonstrations(3)
    assert "none.jsonl" in fails("filter", "none.jsonl")
    assert "q.jsonl, line 1" in fails("filter", "q.jsonl")
    assert "--out" in fails("filter", "d.jsonl", "-o", "folder")
    assert "is a file" in fails("filter", "d.jsonl", "-o", "q.jsonl/out.jsonl")
    assert "--least" in fails("filter", "d.jsonl", "--least", "0")


# ------------------------------------------------------------------------------------------------------------ role-play


def test_role_play_tells_its_cost_and_asks_before_it_begins(run, playing, monkeypatch):
    heard = playing(obliging)
    demonstrations(4)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda *_: "n")
    found = run("role-play", "d.jsonl", "--each", "2", "--input-price", "1000", "--output-price", "2000")
    assert (found.code, found.out, heard) == (1, "", [])
    words = found.err.replace(",", "").split()
    assert words[0] == "8"
    tokens_in, tokens_out = int(words[words.index("in") - 2]), int(words[words.index("out") - 1])
    assert f"about {(tokens_in * 1000 + tokens_out * 2000) / 1e6:.2f} in the currency" in found.err
    assert not Path("queries.jsonl").exists()
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda *_: "y")
    found = run("role-play", "d.jsonl", "--each", "2")
    assert (found.code, found.out) == (0, "8 queries\nqueries.jsonl\n")
    assert "currency" not in found.err
    assert len(read_queries(Path("queries.jsonl"))) == len(heard) == 8


def test_role_play_does_not_begin_where_nobody_can_answer(run, playing, monkeypatch):
    def nobody(*_):
        raise EOFError

    heard = playing(obliging)
    monkeypatch.setattr("click.termui.visible_prompt_func", nobody)
    assert run("role-play", demonstrations(2)).code == 1
    assert heard == []


def test_role_play_tells_what_came_to_nothing_and_asks_for_it_again(run, playing):
    demonstrations(3)
    playing(lambda ask: "I cannot." if "number 1" in ask.messages[0].text else obliging(ask))
    found = run("role-play", "d.jsonl", "--each", "3", "--yes")
    assert found.out == "6 queries\n3 not taken:\n  3 x the language model gave no usable reply\nqueries.jsonl\n"
    heard = playing(obliging)
    assert run("role-play", "d.jsonl", "--each", "3", "--yes").out == "9 queries\nqueries.jsonl\n"
    assert len(heard) == 3
    assert {each.demonstration for each in read_queries(Path("queries.jsonl"))} == {"d0", "d1", "d2"}


def test_several_language_models_play_and_roles_may_be_ones_own(run, playing):
    heard = playing(lambda ask: '{"turns": [{"text": "x"}]}')
    for name in ("a", "b"):
        Path(f"{name}.toml").write_text(CONFIG.replace("true", str(name == "a").lower()), encoding="utf-8")
    Path("roles.toml").write_text('roles = ["a baker", "a diver"]', encoding="utf-8")
    demonstrations(20)
    run("role-play", "d.jsonl", "--yes", "--config", "a.toml", "--config", "b.toml", "--roles", "roles.toml")
    assert len(heard) == 40
    assert 5 < sum("professional" in ask.messages[0].text for ask in heard) < 35, "one wants the short form, the other not"
    found = read_queries(Path("queries.jsonl"))
    assert {each.role for each in found} == {"a baker", "a diver"}


def test_the_estimate_is_of_what_is_left(run, playing):
    playing(obliging)
    demonstrations(3)
    run("role-play", "d.jsonl", "--each", "2", "--yes")
    assert run("role-play", "d.jsonl", "--each", "3", "--yes").err.startswith("3 requests")


def test_role_play_refuses_mistakes_before_anything_is_asked(fails, playing):
    heard = playing(obliging)
    demonstrations(2)
    queries(2)
    Path("roles.toml").write_text("roles = []", encoding="utf-8")
    assert "none.jsonl" in fails("role-play", "none.jsonl", "--yes")
    assert "roles.toml" in fails("role-play", "d.jsonl", "--roles", "roles.toml", "--yes")
    assert "none.toml" in fails("role-play", "d.jsonl", "--config", "none.toml", "--yes")
    assert "is a folder" in fails("role-play", "d.jsonl", "-o", ".", "--yes")
    assert "q.jsonl, line 1" in fails("role-play", "q.jsonl", "--yes")
    assert "would be written over" in fails("role-play", "d.jsonl", "-o", "d.jsonl", "--yes")
    assert heard == []
    assert len(read_demonstrations(Path("d.jsonl"))) == 2


@pytest.mark.parametrize("out", ["q.json", "q.parquet"])
def test_role_play_writes_json_lines_and_nothing_else(fails, playing, out):
    playing(obliging)
    fails("role-play", demonstrations(2), "-o", out, "--yes")


def test_role_play_into_a_list_of_queries_does_not_wipe_it_out(run, playing):
    playing(obliging)
    queries(2, "q.json")
    content = json.dumps(json.loads(Path("q.json").read_text(encoding="utf-8")))
    Path("q.json").write_text(content, encoding="utf-8")
    run("role-play", demonstrations(2), "-o", "q.json", "--yes")
    assert content in Path("q.json").read_text(encoding="utf-8")


def test_role_play_with_a_seed_below_zero_is_no_traceback(run, playing):
    playing(obliging)
    assert run("role-play", demonstrations(2), "--seed", "-1", "--yes").code in (0, 2)


def test_role_play_tells_why_a_language_model_failed(run, playing):
    def refusing(_ask):
        raise Refused("The key is wrong.")

    playing(refusing)
    found = run("role-play", demonstrations(2), "--yes")
    assert found.code == 1
    assert "key is wrong" in found.out + found.err


# ---------------------------------------------------------------------------------------------------------- deduplicate


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_queries_that_say_the_same_are_dropped(run, ending):
    queries(16)
    given = read_queries(Path("q.jsonl"))
    duplicates = [each.model_copy(update={"id": f"again {each.id}"}) for each in given[:5]]
    write_queries([*given, *duplicates], Path(f"in/all{ending}"))
    found = run("deduplicate", f"in/all{ending}", "--threshold", "0.97", "-o", f"out/distinct{ending}")
    assert found.out == f"16 queries\n5 not taken:\n  5 x the same as an earlier one\nout/distinct{ending}\n", found.err
    assert read_queries(Path(f"out/distinct{ending}")) == given
    assert run("deduplicate", f"out/distinct{ending}", "--threshold", "0.97").out == "16 queries\ndistinct.jsonl\n"


def test_deduplicating_refuses_mistakes(fails):
    queries(3)
    Path("bad.jsonl").write_text('{"id": "x", "chat": {}}\n', encoding="utf-8")
    Path("none.toml").write_text(CONFIG + "text_encoder = false\n", encoding="utf-8")
    assert "Cannot read the queries none.jsonl" in fails("deduplicate", "none.jsonl")
    assert "bad.jsonl, query 1" in fails("deduplicate", "bad.jsonl")
    assert "Configure `text_encoder`" in fails("deduplicate", "q.jsonl", "--config", "none.toml")
    assert "--threshold" in fails("deduplicate", "q.jsonl", "--threshold", "1.5")
    assert "is a folder" in fails("deduplicate", "q.jsonl", "-o", ".")
    assert "not .txt" in fails("deduplicate", "q.jsonl", "-o", "q.txt")


def test_a_wrong_ending_is_refused_before_anything_is_made(fails):
    fails("deduplicate", queries(3), "-o", "new/q.txt")


def test_the_same_words_about_different_pictures_are_different_queries(run):
    made = []
    for number, colour in enumerate(["red", "blue", "green"]):
        Image.new("RGB", (8, 8), colour).save(f"{colour}.png")
        chat = Chat.of("The same again, please.", images=(Path(f"{colour}.png"),))
        made.append(Query(id=f"p{number}", chat=chat, plan=Plan(prompt=colour, model="m")))
    queries(12)
    write_queries([*made, *read_queries(Path("q.jsonl"))], Path("all.jsonl"))
    run("deduplicate", "all.jsonl", "--threshold", "0.97")
    assert {"p0", "p1", "p2"} <= {each.id for each in read_queries(Path("distinct.jsonl"))}


# ---------------------------------------------------------------------------------------------------------------- split


def test_a_set_is_split_and_can_be_reviewed(run):
    queries(40)
    found = run("split", "q.jsonl", "-o", "out", "--few", "15")
    assert found == (0, "8 test queries (8 supervised, 0 few-shot), 32 for training\nout\n", "")
    train, test = (read_queries(Path("out") / f"{name}.jsonl") for name in ("train", "test"))
    assert (len(train), len(test)) == (32, 8)
    assert sorted([each.plan.model for each in test]) == ["m0"] * 4 + ["m1"] * 4
    plain = [each.model_copy(update={"division": None}) for each in [*train, *test]]
    assert sorted(plain, key=lambda each: each.id) == sorted(read_queries(Path("q.jsonl")), key=lambda each: each.id)
    assert [(row["id"], row["keep"], row["model"]) for row in table("out/review.csv")] == [
        (each.id, "yes", each.plan.model) for each in test
    ]
    lines = Path("out/review.csv").read_text(encoding="utf-8").replace(f"{test[2].id},yes", f"{test[2].id},no")
    Path("mine.csv").write_text(lines, encoding="utf-8")
    found = run("split", "q.jsonl", "-o", "out", "--few", "16", "--review", "mine.csv")
    assert found.out == "7 test queries (0 supervised, 7 few-shot), 32 for training\n1 not taken:\n  1 x refused in the review\nout\n"
    assert [each.id for each in read_queries(Path("out/test.jsonl"))] == [each.id for each in test if each is not test[2]]
    assert read_queries(Path("out/train.jsonl")) == train, "what is refused is not trained on either"
    assert {each.division for each in read_queries(Path("out/test.jsonl"))} == {"few-shot"}


def test_a_review_in_its_place_is_not_forgotten(run):
    queries(40)
    run("split", "q.jsonl", "-o", "out")
    first = table("out/review.csv")[0]["id"]
    path = Path("out/review.csv")
    path.write_text(path.read_text(encoding="utf-8").replace(f"{first},yes", f"{first},no"), encoding="utf-8")
    for _ in range(2):
        run("split", "q.jsonl", "-o", "out", "--review", path)
        assert first not in [each.id for each in read_queries(Path("out/test.jsonl"))]


def test_a_split_that_leaves_nothing_to_test_says_why(run):
    queries(9, models=3)
    found = run("split", "q.jsonl", "-o", "a", "--share", "0.2")
    assert found.code == 1
    assert "0.2 of 3 queries, the most that one model has, is less than one. Raise --share" in found.err


def test_a_folder_without_pictures_is_refused(fails, tmp_path):
    (tmp_path / "in").mkdir()
    assert "There are no pictures below in" in fails("collect", "--pictures", "in")


def test_the_language_model_is_asked_only_if_wanted(run, playing):
    heard = playing(lambda ask: '{"natural": false}')
    queries(20)
    assert run("split", "q.jsonl", "-o", "a", "--share", "0.1").out.startswith("2 test queries")
    assert heard == []
    found = run("split", "q.jsonl", "-o", "b", "--ask")
    assert found.out.startswith("0 test queries"), found.err
    assert "4 x a language model finds it unnatural" in found.out
    assert len(heard) == 4
    assert (Path("b/test.jsonl").read_text(encoding="utf-8"), table("b/review.csv")) == ("", [])
    assert len(read_queries(Path("b/train.jsonl"))) == 20


def test_requests_are_told_by_a_spacy_pipeline_where_one_is_named(run, fails):
    nlp = spacy.blank("en")
    nlp.add_pipe("attribute_ruler").add([[{"LOWER": "cat"}]], {"POS": "NOUN"})
    nlp.to_disk("rules")
    queries(20)
    assert run("split", "q.jsonl", "-o", "a").out.startswith("4 test queries")
    found = run("split", "q.jsonl", "-o", "b", "--spacy", "rules")
    assert "4 x reads like a prompt" in found.out, found
    assert "en_nowhere_sm" in fails("split", "q.jsonl", "-o", "c", "--spacy", "en_nowhere_sm")


def test_pictures_of_a_split_set_are_still_found(run, noise_picture):
    queries(9, "in/q.jsonl", models=1)
    noise_picture(1).save("in/a.png")
    asked = Query(id="p", chat=Chat.of("could you paint this again", images=(Path("in/a.png"),)), plan=Plan(prompt="x", model="m0"))
    write_queries([*read_queries(Path("in/q.jsonl")), asked], Path("in/q.jsonl"))
    run("split", "in/q.jsonl", "-o", "elsewhere/out")
    both = [*read_queries(Path("elsewhere/out/train.jsonl")), *read_queries(Path("elsewhere/out/test.jsonl"))]
    (found,) = [each for each in both if each.id == "p"]
    assert [path.resolve() for path in found.chat.images] == [Path("in/a.png").resolve()]


def test_splitting_refuses_mistakes(fails):
    queries(10)
    Path("bad.csv").write_text("id,keep\nq1,perhaps\n", encoding="utf-8")
    Path("none.toml").write_text(CONFIG + "text_encoder = false\n", encoding="utf-8")
    assert "none.jsonl" in fails("split", "none.jsonl", "-o", "out")
    assert "bad.csv, line 2" in fails("split", "q.jsonl", "-o", "out", "--review", "bad.csv")
    assert "none.csv" in fails("split", "q.jsonl", "-o", "out", "--review", "none.csv")
    assert "is a file" in fails("split", "q.jsonl", "-o", "bad.csv")
    assert "--share" in fails("split", "q.jsonl", "--share", "1")
    assert "Configure `text_encoder`" in fails("split", "q.jsonl", "-o", "out", "--config", "none.toml")


def test_from_demonstrations_to_a_split_set(run, playing):
    def varied(ask):
        text = ask.messages[0].text
        number = sum(map(ord, text))
        chosen = [WORDS[(number * step + step) % len(WORDS)] for step in (1, 3, 7, 9, 11)]
        return json.dumps({"turns": [{"text": f"can you make me {' '.join(chosen)}"}] * (3 if "role play history" in text else 1)})

    playing(varied)
    demonstrations(12)
    assert run("filter", "d.jsonl").code == 0
    assert run("role-play", "filtered.jsonl", "--each", "3", "--yes").code == 0
    assert run("deduplicate", "queries.jsonl", "--threshold", "0.99").code == 0
    found = run("split", "distinct.jsonl", "-o", "set")
    assert found.code == 0, found.err
    train, test = (read_queries(Path("set") / f"{name}.jsonl") for name in ("train", "test"))
    assert test
    assert not {each.demonstration for each in train} & {each.demonstration for each in test}
    assert {each.demonstration for each in [*train, *test]} <= {f"d{n}" for n in range(12)}


def test_queries_are_written_in_another_layout_and_back(run, tmp_path):
    made = [Query(id=str(number), chat=Chat.of(f"a cat {number}"), plan=Plan(prompt="a cat", model="mini/neon")) for number in range(3)]
    write_queries(made, tmp_path / "q.jsonl")
    code, out, err = run("convert", "q.jsonl", "--out", "c.json")
    assert (code, out.splitlines()) == (0, ["3 queries", "c.json"]), err
    code, *_ = run("convert", "c.json", "--layout", "ours", "--out", "back.parquet")
    assert code == 0
    assert read_queries(tmp_path / "back.parquet") == made
    code, _, err = run("convert", "q.jsonl", "--out", "c.csv")
    assert (code, "Change the ending" in err) == (2, True)


def test_a_role_play_is_not_gone_on_with_by_other_people(run, playing, tmp_path):
    playing(lambda ask: '{"turns": [{"role": "user", "text": "a cat please"}]}')
    write_demonstrations([Demonstration(id="a", plan=Plan(prompt="a cat", model="m"))], tmp_path / "d.jsonl")
    assert run("role-play", "d.jsonl", "--yes", "--each", "2", "--out", "q.jsonl")[0] == 0
    assert run("role-play", "d.jsonl", "--yes", "--each", "3", "--out", "q.jsonl")[0] == 0, "more of the same may follow"
    code, _, err = run("role-play", "d.jsonl", "--yes", "--seed", "5", "--out", "q.jsonl")
    assert (code, "q.jsonl was begun with other settings: seed" in err) == (2, True)


@pytest.mark.parametrize(
    "options",
    [("deduplicate", "q.jsonl", "--threshold", "nan"), ("split", "q.jsonl", "--share", "nan"), ("role-play", "d", "--input-price", "nan")],
)
def test_a_number_that_is_none_lies_within_no_bounds(run, options):
    code, _, err = run(*options)
    assert (code, "'nan' is" in err) == (2, True), err


def test_decisions_of_people_are_not_written_over(run, fails):
    queries(20)
    assert run("split", "q.jsonl", "-o", "a").code == 0
    review = Path("a/review.csv")
    assert run("split", "q.jsonl", "-o", "a").code == 0, "as long as nothing was decided"
    review.write_text(review.read_text(encoding="utf-8").replace(",yes,", ",no,", 1), encoding="utf-8")
    before = review.read_bytes()
    assert "holds decisions" in fails("split", "q.jsonl", "-o", "a")
    assert review.read_bytes() == before
    found = run("split", "q.jsonl", "-o", "a", "--review", review)
    assert (found.code, table(review)[0]["keep"]) == (0, "no")
    review.write_text(review.read_text(encoding="utf-8") + "elsewhere,no,,,,\n", encoding="utf-8")
    assert (
        "1 decisions are of queries that are not among those to be tested, such as 'elsewhere'"
        in run("split", "q.jsonl", "-o", "b", "--review", review).err
    )


def test_what_is_read_is_not_written_over(fails):
    queries(20, "train.jsonl")
    demonstrations(3)
    before = Path("train.jsonl").read_bytes(), Path("d.jsonl").read_bytes()
    for command in (
        ("split", "train.jsonl"),
        ("deduplicate", "train.jsonl", "-o", "./train.jsonl"),
        ("convert", "train.jsonl", "-o", "train.jsonl", "--layout", "ours"),
        ("filter", "d.jsonl", "-o", "d.jsonl"),
    ):
        assert "would be written over" in fails(*command), command
    assert (Path("train.jsonl").read_bytes(), Path("d.jsonl").read_bytes()) == before


def test_queries_that_nobody_could_judge_stay_and_are_told(run, fails, playing):
    queries(20)
    heard = []

    def half(ask):
        heard.append(ask)
        if len(heard) % 2:
            raise DriverError("The server is down.")
        return '{"natural": true}'

    playing(half)
    found = run("split", "q.jsonl", "-o", "a", "--ask")
    assert (found.code, found.out.startswith("4 test queries")) == (0, True)
    assert "2 queries could not be judged by the MLLM, and stay." in found.err

    def down(ask):
        raise DriverError("The server is down.")

    playing(down)
    assert "The server is down." in fails("split", "q.jsonl", "-o", "b", "--ask", code=1)


def test_role_play_ends_where_a_language_model_is_gone_and_keeps_what_was_said(run, playing):
    heard = []

    def dying(ask):
        heard.append(ask)
        if len(heard) > 32:
            raise RateLimited("Come back in an hour.")
        return obliging(ask)

    playing(dying)
    found = run("role-play", demonstrations(40), "--each", "2", "--yes")
    assert (found.code, len(heard)) == (1, 64)
    assert "Come back in an hour." in found.err
    assert len(read_queries(Path("queries.jsonl"))) == 32


def test_demonstrations_of_one_id_are_refused_before_anybody_is_paid(fails, playing):
    playing(obliging)
    Path("d.jsonl").write_bytes(b"\xef\xbb\xbf" + Path(demonstrations(2)).read_bytes() * 2)
    assert "the id 'd0' stands for more than one demonstration" in fails("role-play", "d.jsonl", "--yes")


def test_few_texts_are_told_to_be_compared_by_their_words_alone(run):
    queries(16)
    assert "only equal ones are dropped" in run("deduplicate", "q.jsonl").err
