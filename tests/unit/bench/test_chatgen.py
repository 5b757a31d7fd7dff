"""ChatGenBench's figures against computation by hand, what cannot be planned, and runs that go on."""

import json

import numpy as np
import pytest
from PIL import Image

from vernissage.api import Studio
from vernissage.bench import chatgen
from vernissage.bench.chatgen import Item, Prompts, argument_matches, differences, open_run, parts_of, read_items, run_benchmark, table
from vernissage.bench.chatgen_pictures import TRUE, paint_items, score_pictures
from vernissage.datasets.queries import Query
from vernissage.drivers.fake import FakeT2I
from vernissage.errors import BadInput, DriverError, IntegrityError, ReplyError
from vernissage.records.chat import Chat, Turn
from vernissage.records.picture import Picture
from vernissage.records.plan import Arguments, Choice, Plan
from vernissage.wiring import DriverConfig, StudioConfig
from words import Words


class Scripted:
    """A planner with a plan for each text; keeps what it was told."""

    name = "scripted"

    def __init__(self, plans):
        self.plans, self.calls = plans, []

    def plan(self, chats, images, catalogue, given=()):
        self.calls.append(([chat.turns[-1].text for chat in chats], [len(own) for own in images], list(given)))
        return [self.plans[chat.turns[-1].text] for chat in chats]


def query(name: str, *, model: str = "m", prompt: str = "a b", division=None, turns: int = 1, images=(), **arguments) -> Query:
    earlier = tuple(Turn(text="earlier") for _ in range(turns - 1))
    chat = Chat(turns=(*earlier, Turn(text=name, images=images)))
    return Query(id=name, chat=chat, plan=Plan(prompt=prompt, model=model, arguments=Arguments(**arguments)), division=division)


def planned(*, model: str = "m", prompt: str = "a b", choices=(), **arguments) -> Plan:
    shares = [0.5 ** (place + 1) for place in range(len(choices))]
    return Plan(
        prompt=prompt,
        model=model,
        arguments=Arguments(**arguments),
        choices=tuple(Choice(model=name, probability=share) for name, share in zip(choices, shares, strict=True)),
    )


def item(asked: Query, plan: Plan | None, seconds: float = 1.0) -> Item:
    return Item(asked, plan, "" if plan else "no idea", seconds)


def row_of(rows, planner: str, part: str):
    (found,) = [row for row in rows if (row.planner, row.part) == (planner, part)]
    return found


# ------------------------------------------------------------------------------------------------------------ figures


@pytest.fixture
def handful() -> list[Item]:
    """Five queries of all kinds; one of them could not be planned."""
    return [
        item(
            query("q1", division="supervised", sampler="DPM++ 2M Karras", steps=20, cfg_scale=7.0, width=512, height=512),
            planned(sampler="DPM++ 2M Karras", steps=20, cfg_scale=7.0, width=512, height=512, choices=("m", "n")),
            1.0,
        ),
        item(
            query("q2", division="supervised", steps=20, cfg_scale=7.0),
            planned(model="n", steps=30, cfg_scale=7.0, choices=("n", "m")),
            2.0,
        ),
        item(query("q3", division="few-shot", turns=3, steps=10), planned(model="o", choices=("o", "a", "b", "c", "d", "m")), 3.0),
        item(query("q4", division="few-shot", prompt="c d", steps=10), None, 4.0),
        item(query("q5", prompt="c d"), planned(prompt="c", choices=("m",)), 5.0),
    ]


def test_figures_are_those_computed_by_hand(handful):
    row = row_of(table({"p": handful}, None), "p", "all")
    assert (row.scored, row.asked) == (4, 5)
    assert (row.selection.value, row.selection.n) == (2 / 4, 4)
    assert (row.among_five.value, row.among_five.n) == (3 / 4, 4), "the sixth likeliest is not among five"
    # q1: all of 5 right; q2: 1 of 2; q3: 0 of 1; q5 names no arguments, q4 has no plan
    assert (row.arguments.value, row.arguments.n) == (pytest.approx((1 + 0.5 + 0) / 3), 3)
    assert {name: (each.value, each.n) for name, each in row.by_argument.items()} == {
        "sampler": (1.0, 1),
        "steps": (pytest.approx(1 / 3), 3),
        "cfg_scale": (1.0, 2),
        "width": (1.0, 1),
        "height": (1.0, 1),
    }
    assert row.seconds == 3.0
    assert row.prompt is None
    for each in (row.selection, row.arguments):
        assert each.low <= each.value <= each.high


def test_what_could_not_be_planned_is_counted_and_stands_in_no_mean(handful):
    without = [each for each in handful if each.plan is not None]
    with_it, rest = row_of(table({"p": handful}, None), "p", "all"), row_of(table({"p": without}, None), "p", "all")
    assert (with_it.scored, with_it.asked, rest.asked) == (4, 5, 4)
    for name in ("selection", "among_five", "arguments"):
        assert getattr(with_it, name) == getattr(rest, name)
    row = row_of(table({"p": handful}, None), "p", "few-shot")
    assert (row.scored, row.asked, row.selection.value) == (1, 2, 0.0)


def test_parts_are_divisions_and_input_types(handful):
    handful.append(item(query("q6", images=("x.png",), turns=2), None))
    parts = {name: [handful[row].query.id for row in rows] for name, rows in parts_of(handful)}
    assert parts == {
        "all": ["q1", "q2", "q3", "q4", "q5", "q6"],
        "supervised": ["q1", "q2"],
        "few-shot": ["q3", "q4"],
        "single": ["q1", "q2", "q4", "q5"],
        "multimodal": ["q6"],
        "history": ["q3"],
    }


def test_a_planner_that_tells_no_likelihoods_has_no_share_among_five(handful):
    handful[1] = handful[1]._replace(plan=planned(steps=20))
    rows = table({"p": handful[:4]}, None)
    assert row_of(rows, "p", "all").among_five is None
    assert row_of(rows, "p", "history").among_five.value == 0.0


def test_parts_that_nobody_was_asked_about_are_left_out(handful):
    assert [row.part for row in table({"p": handful[:2]}, None)] == ["all", "supervised", "single"]


def test_a_planner_that_could_plan_nothing_is_shown_with_none_scored(handful):
    rows = table({"p": [each._replace(plan=None) for each in handful], "other": handful}, None)
    assert (row_of(rows, "p", "all").scored, row_of(rows, "p", "all").asked) == (0, 5)


def test_a_part_without_arguments_takes_no_table_away(handful):
    rows = table({"p": [*handful, item(query("q6", images=("x.png",)), planned(choices=("m",)))]}, None)
    assert row_of(rows, "p", "multimodal").selection.value == 1.0


def test_queries_without_any_arguments_have_no_score_for_them():
    row, *_ = table({"p": [item(query("q1"), planned(steps=3))]}, None)
    assert (row.arguments, row.by_argument, row.scored) == (None, {}, 1)


@pytest.mark.parametrize(
    ("wanted", "got", "found"),
    [
        ({"sampler": "DPM++ 2M Karras"}, {"sampler": "DPM++ 2M Karras"}, {"sampler": True}),
        ({"sampler": "DPM++ 2M Karras"}, {"sampler": "DPM++ 2M"}, {"sampler": False}),
        ({"sampler": "Euler", "steps": 20}, {}, {"sampler": False, "steps": False}),
        ({"cfg_scale": 7.0, "width": 64}, {"cfg_scale": 7, "width": 65}, {"cfg_scale": True, "width": False}),
        ({"seed": 3, "clip_skip": 2}, {"seed": 4, "steps": 9}, {}),
    ],
)
def test_arguments_that_the_true_plan_states_are_compared_exactly(wanted, got, found):
    assert argument_matches(planned(**got), planned(**wanted)) == found


def test_prompts_are_compared_by_words_with_different_prompts_at_zero():
    items = [item(query("q1", prompt="a b", steps=1), planned(prompt="a b")), item(query("q2", prompt="c d"), planned(prompt="c x"))]
    items += [item(query("q3", prompt="c d"), planned(prompt="a b")), item(query("q4", prompt="a b"), None)]
    prompts = Prompts(Words(), [each.query for each in items])
    assert prompts.zero == (0, 0, 0), "the two true prompts share no word"
    assert prompts.scores(items)[:3] == pytest.approx([1.0, 0.5, 0.0])
    assert np.isnan(prompts.scores(items)[3])
    row = row_of(table({"p": items}, prompts), "p", "all")
    assert (row.prompt.value, row.prompt.n) == (pytest.approx(0.5), 3)


def test_a_prompt_score_is_rescaled_by_what_different_queries_share():
    queries = [query("q1", prompt="a b"), query("q2", prompt="a c")]
    prompts = Prompts(Words(), queries)
    assert prompts.zero.f == pytest.approx(0.5)
    scores = prompts.scores([item(queries[0], planned(prompt="a b")), item(queries[1], planned(prompt="a x"))])
    assert scores == pytest.approx([1.0, 0.0])
    assert prompts.scores([item(queries[0], planned(prompt="x y"))]) == pytest.approx([-1.0])


def test_prompts_that_are_all_the_same_cannot_be_scored():
    with pytest.raises(BadInput, match="all the same"):
        Prompts(Words(), [query("q1"), query("q2")])


# -------------------------------------------------------------------------------------------------------- differences


def test_differences_are_paired_over_queries_that_both_have_planned():
    asked = [query(f"q{number}", prompt="a b" if number % 2 else "c d", steps=10) for number in range(4)]
    asked[3] = query("q3", prompt="a b")  # names no arguments
    one = [
        item(asked[0], planned(prompt="c d", steps=10)),
        item(asked[1], planned(prompt="a x", steps=11)),
        item(asked[2], None),
        item(asked[3], planned(prompt="a b", model="n")),
    ]
    two = [
        item(asked[0], planned(prompt="c d", model="n", steps=9)),
        item(asked[1], planned(prompt="a b", steps=11)),
        item(asked[2], planned(prompt="c d", steps=10)),
        item(asked[3], planned(prompt="y", model="n")),
    ]
    found = differences({"one": one, "two": two}, Prompts(Words(), asked))
    assert [(each.first, each.second, each.measure) for each in found] == [
        ("one", "two", "prompt"),
        ("one", "two", "selection"),
        ("one", "two", "arguments"),
    ]
    prompt, selection, arguments = (each.difference for each in found)
    assert (prompt.value, prompt.n) == (pytest.approx((0 - 0.5 + 1) / 3), 3)
    assert (selection.value, selection.n) == (pytest.approx(1 / 3), 3)
    assert (arguments.value, arguments.n) == (pytest.approx(1 / 2), 2)
    (back, *_) = differences({"two": two, "one": one}, None)
    assert back.difference.value == pytest.approx(-1 / 3)


def test_every_pair_of_planners_is_compared_and_those_without_a_common_query_are_not():
    asked = [query("q1", steps=1), query("q2", steps=1)]
    items = {
        "a": [item(asked[0], planned()), item(asked[1], None)],
        "b": [item(asked[0], planned()), item(asked[1], planned())],
        "c": [item(asked[0], None), item(asked[1], planned())],
    }
    assert {(each.first, each.second) for each in differences(items, None)} == {("a", "b"), ("b", "c")}


# --------------------------------------------------------------------------------------------------------------- runs


@pytest.fixture
def asked(tmp_path) -> list[Query]:
    Image.new("RGB", (8, 8)).save(tmp_path / "there.png")
    return [
        query("q1", steps=10),
        query("gone", prompt="c d", images=(tmp_path / "gone.png",), steps=10),
        query("there", prompt="e f", images=(tmp_path / "there.png",), steps=10),
        query("odd", prompt="g h", steps=10),
    ]


def plans() -> dict:
    return {"q1": planned(steps=10), "gone": planned(), "there": planned(model="n", steps=10), "odd": ReplyError("no idea", reply="")}


def test_a_missing_picture_and_a_failed_plan_are_unscored_with_their_reason(asked, tmp_path):
    planner, studio, seen = Scripted(plans()), Studio(), []
    run = open_run(tmp_path / "run", studio, ["p"], asked, "nothing")
    run_benchmark(run, studio, {"p": lambda: planner}, asked, progress=lambda done, total: seen.append((done, total)))
    assert planner.calls == [(["q1", "there", "odd"], [0, 1, 0], planner.calls[0][2])]
    found = read_items(run, asked)["p"]
    assert [(each.query.id, each.plan is None) for each in found] == [("q1", False), ("gone", True), ("there", False), ("odd", True)]
    assert "gone.png" in found[1].unscored
    assert found[3].unscored == "no idea"
    assert found[2].plan == planned(model="n", steps=10)
    row = row_of(table({"p": found}, None), "p", "all")
    assert (row.scored, row.asked, row.selection.value) == (2, 4, 0.5)
    assert seen[-1] == (4, 4)


@pytest.mark.parametrize(("known", "prompt", "model"), [("nothing", None, None), ("prompt", "a b", None), ("model", "a b", "m")])
def test_planners_are_told_what_is_known_and_no_more(asked, tmp_path, known, prompt, model):
    planner, studio = Scripted(plans()), Studio()
    run = open_run(tmp_path / "run", studio, ["p"], asked[:1], known)
    run_benchmark(run, studio, {"p": lambda: planner}, asked[:1])
    ((_, _, (given,)),) = planner.calls
    assert (given.prompt, given.model) == (prompt, model)


def test_a_run_that_was_cut_off_plans_only_the_groups_that_are_left_and_ends_with_the_same_items(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(chatgen, "GROUP", 2)
    studio = Studio()

    def run_it(folder, planner):
        run = open_run(tmp_path / folder, studio, ["p"], asked, "nothing")
        run_benchmark(run, studio, {"p": lambda: planner}, asked)
        return {key: {k: v for k, v in each.items() if k != "seconds"} for key, each in run.items.items()}

    whole = run_it("whole", Scripted(plans()))
    run_it("cut", Scripted(plans()))
    lines = tmp_path / "cut" / "items.jsonl"
    lines.write_bytes(b"".join(lines.read_bytes().splitlines(keepends=True)[:3])[:-5])
    again = Scripted(plans())
    assert run_it("cut", again) == whole
    assert [texts for texts, _, _ in again.calls] == [["there", "odd"]]
    finished = Scripted(plans())
    assert run_it("cut", finished) == whole
    assert finished.calls == []


def test_a_planner_that_has_nothing_left_to_plan_is_not_loaded(asked, tmp_path):
    studio = Studio()
    for make in (lambda: Scripted(plans()), lambda: pytest.fail("loaded")):
        run = open_run(tmp_path / "run", studio, ["p"], asked, "nothing")
        run_benchmark(run, studio, {"p": make}, asked)
    assert len(run.items) == 4


def test_what_ended_unscored_is_planned_again_only_where_that_is_asked_for(asked, tmp_path):
    studio = Studio()
    run = open_run(tmp_path / "run", studio, ["p"], asked, "nothing")
    run_benchmark(run, studio, {"p": lambda: Scripted(plans())}, asked)
    mended = plans() | {"odd": planned()}
    run_benchmark(run, studio, {"p": lambda: Scripted(mended)}, asked)
    assert [each.plan is None for each in read_items(run, asked)["p"]] == [False, True, False, True]
    run_benchmark(run, studio, {"p": lambda: Scripted(mended)}, asked, retry=True)
    assert [each.plan is None for each in read_items(run, asked)["p"]] == [False, True, False, False]


def test_plans_are_painted_once_and_compared_with_the_pictures_of_the_same_queries_alone(tmp_path):
    class Half(FakeT2I):
        def paint(self, plans, *, progress=None):
            return [
                DriverError("no paint left") if plan.prompt == "no" else picture
                for plan, picture in zip(plans, super().paint(plans), strict=True)
            ]

    fake = DriverConfig(driver="fake")
    studio = Studio(StudioConfig(t2i=fake, clip=fake))
    studio.__dict__["t2i"] = Half()
    queries = [query(f"q{number}", model="mini/neon", prompt=f"p {number}") for number in range(6)]
    run = open_run(tmp_path / "run", studio, ["p"], queries, "nothing")
    said = {each.id: planned(model="mini/neon", prompt="no" if each.id == "q1" else f"{each.id} x") for each in queries}
    run_benchmark(run, studio, {"p": lambda: Scripted(said)}, queries)
    items = read_items(run, queries)
    entries, failures = paint_items(run, studio, items, 3)
    assert failures == {"p": ["no paint left"]}
    assert [[entry.name for entry in entries[name]] for name in ("p", TRUE)] == [["q0", "q2"], ["q0", "q1", "q2"]]
    (few,), _ = score_pictures(run, studio, entries, ["clip-fid"], asked=3)
    more, _ = paint_items(run, studio, items, 6)
    assert len(more[TRUE]) == 6
    painted = len(studio.t2i.painted)
    again, _ = paint_items(run, studio, items, 3)
    assert len(studio.t2i.painted) == painted + 1, "only what failed is tried again"
    (same,), _ = score_pictures(run, studio, again, ["clip-fid"], asked=3)
    assert (same.painted, same.asked) == (2, 3)
    assert same.scores["clip-fid"] == few.scores["clip-fid"], "the further pictures of people do not count"


def test_queries_for_models_without_a_card_are_left_to_others_when_plans_are_painted(tmp_path):
    fake = DriverConfig(driver="fake")
    studio = Studio(StudioConfig(t2i=fake, clip=fake))
    queries = [query(f"q{number}", model="civitai/12" if number == 0 else "mini/neon", prompt=f"p {number}") for number in range(3)]
    run = open_run(tmp_path / "run", studio, ["p"], queries, "nothing")
    run_benchmark(run, studio, {"p": lambda: Scripted({each.id: planned(model="mini/neon") for each in queries})}, queries)
    entries, failures = paint_items(run, studio, read_items(run, queries), 2)
    assert failures == {}
    assert [[entry.name for entry in entries[name]] for name in ("p", TRUE)] == [["q1", "q2"]] * 2


def test_painted_pictures_stay_their_queries_when_another_is_planned_after_all(tmp_path):
    fake = DriverConfig(driver="fake")
    studio = Studio(StudioConfig(t2i=fake, clip=fake))
    queries = [query(f"q{number}", model="mini/neon", prompt=f"p {number}") for number in range(3)]
    run = open_run(tmp_path / "run", studio, ["p"], queries, "nothing")
    said = {each.id: planned(model="mini/neon", prompt=f"{each.id} x") for each in queries}
    run_benchmark(run, studio, {"p": lambda: Scripted(said | {"q0": ReplyError("down", reply="")})}, queries)
    paint_items(run, studio, read_items(run, queries), 3)
    run_benchmark(run, studio, {"p": lambda: Scripted(said)}, queries, retry=True)
    entries, _ = paint_items(run, studio, read_items(run, queries), 3)
    shown = [Picture.open(entry.path).plan for entry in entries["p"]]
    assert [(entry.name, plan.prompt, plan.arguments.seed) for entry, plan in zip(entries["p"], shown, strict=True)] == [
        ("q0", "q0 x", 0),
        ("q1", "q1 x", 1),
        ("q2", "q2 x", 2),
    ]


@pytest.mark.parametrize("change", ["queries", "content", "planners", "known"])
def test_a_run_of_something_else_is_not_gone_on_with(asked, tmp_path, change):
    studio = Studio()
    open_run(tmp_path / "run", studio, ["p"], asked, "nothing")
    changed = [asked[0].model_copy(update={"plan": planned(model="n")}), *asked[1:]]
    given = {
        "queries": (["p"], asked[1:], "nothing"),
        "content": (["p"], changed, "nothing"),
        "planners": (["p", "r"], asked, "nothing"),
        "known": (["p"], asked, "model"),
    }[change]
    with pytest.raises(BadInput, match="differs"):
        open_run(tmp_path / "run", studio, *given)


def test_two_planners_have_items_of_their_own(asked, tmp_path):
    studio = Studio()
    run = open_run(tmp_path / "run", studio, ["p", "r"], asked[:1], "nothing")
    makers = {"p": lambda: Scripted(plans()), "r": lambda: Scripted({"q1": planned(model="other")})}
    run_benchmark(run, studio, makers, asked[:1])
    found = read_items(run, asked[:1])
    assert [found[name][0].plan.model for name in ("p", "r")] == ["m", "other"]
    keys = [json.loads(line)["key"] for line in (tmp_path / "run" / "items.jsonl").read_bytes().splitlines()]
    assert keys == ["p q1", "r q1"]


def test_two_queries_of_one_id_are_refused_or_kept_apart(tmp_path):
    studio = Studio()
    twins = [query("q1", steps=10), query("q1", steps=10).model_copy(update={"chat": Chat.of("other"), "plan": planned(model="n")})]
    try:
        run = open_run(tmp_path / "run", studio, ["p"], twins, "nothing")
    except BadInput:
        return
    run_benchmark(run, studio, {"p": lambda: Scripted({"q1": planned(), "other": planned(model="n")})}, twins)
    assert [each.plan.model for each in read_items(run, twins)["p"]] == ["m", "n"]


def test_planners_whose_paths_look_alike_do_not_share_pictures(tmp_path):
    fake = DriverConfig(driver="fake")
    studio = Studio(StudioConfig(t2i=fake, clip=fake))
    queries = [query("q0", model="mini/neon", prompt="p")]
    names = ["a/b", "a-b", "./a/b", ".a/b"]
    run = open_run(tmp_path / "run", studio, names, queries, "nothing")
    plans = {name: Scripted({"q0": planned(model="mini/neon", prompt=f"by {name}")}) for name in names}
    run_benchmark(run, studio, {name: lambda planner=planner: planner for name, planner in plans.items()}, queries)
    entries, _ = paint_items(run, studio, read_items(run, queries), 1)
    assert [Picture.open(entries[name][0].path).plan.prompt for name in names] == [f"by {name}" for name in names]
    with pytest.raises(BadInput, match="Under the name 'people'"):
        paint_items(run, studio, {TRUE: read_items(run, queries)["a-b"]}, 1)


def test_a_line_without_its_seconds_is_told(tmp_path):
    studio = Studio(StudioConfig(t2i=DriverConfig(driver="fake")))
    queries = [query("q0", model="mini/neon", prompt="p")]
    run = open_run(tmp_path / "run", studio, ["p"], queries, "nothing")
    run.add({"key": "p q0", "unscored": "down"})
    with pytest.raises(IntegrityError, match="the line of 'p q0' is damaged"):
        read_items(run, queries)


def test_a_run_states_studio_and_models(tmp_path):
    fake = DriverConfig(driver="fake")
    studio = Studio(StudioConfig(mllm=fake, t2i=fake))
    stated = open_run(tmp_path / "run", studio, ["p"], [query("q", model="mini/neon", prompt="p")], "nothing").header.settings
    assert stated["studio"]["mllm"]["driver"] == stated["studio"]["t2i"]["driver"] == "fake"
    assert stated["models"] == {name: studio.catalogue.digest(name) for name in studio.catalogue.choosable} != {}
