"""Role-play with fakes: which requests are planned, what becomes of replies, and going on where it was cut off."""

import json
from collections import Counter
from pathlib import Path

import pytest

from vernissage.datasets import role_play as road
from vernissage.datasets.queries import read_queries
from vernissage.datasets.role_play import ROLES, Estimate, estimate, load_roles, plan_tasks, role_play
from vernissage.drivers.fake import FakeMLLM
from vernissage.errors import BadInput, Refused
from vernissage.records.chat import INPUT_TYPE_SHARES
from vernissage.records.demonstration import Demonstration
from vernissage.records.plan import Arguments, Plan

ROLE_NAMES = [f"role {number}" for number in range(8)]


def shown(name, **changes):
    return Demonstration(id=name, plan=Plan(prompt=f"picture {name}, 8k", model="m", arguments=Arguments(steps=20)), **changes)


def said(*turns):
    return json.dumps({"turns": [{"role": role, "text": text} for role, text in turns]})


def obliging(ask):
    """Says what was asked for, in as many turns; the question's second line is the role, the last the prompt."""
    head, _, rest = ask.messages[0].text.partition("\n")
    if head.endswith("history"):
        return said(("user", "hm"), ("assistant", "yes?"), ("user", rest))
    return said(("user", rest))


def player(script=obliging):
    return FakeMLLM(script, brief=True)


def of_form(form, count=1):
    """Tasks of one form."""
    tasks = plan_tasks([shown(str(number)) for number in range(60)], ["a"], ROLE_NAMES, each=4)
    return [task._replace(form=form) for task in tasks[:count]]


def play(tasks, script, out, **options):
    return role_play(tasks, {"a": player(script)}, out, descriptions={}, **options)


# ------------------------------------------------------------------------------------------------------------- planning


def test_a_demonstration_is_asked_for_by_different_roles():
    tasks = plan_tasks([shown("x"), shown("y")], ["a"], ROLE_NAMES, each=5)
    assert [task.id for task in tasks] == [f"{name}#{number}" for name in "xy" for number in range(5)]
    for name in "xy":
        roles = [task.role for task in tasks if task.demonstration.id == name]
        assert len(set(roles)) == 5
        assert set(roles) <= set(ROLE_NAMES)
    assert len(plan_tasks([shown("x")], ["a"], ROLE_NAMES[:2], each=5)) == 2, "there are no more roles"


def test_the_same_seed_gives_the_same_tasks_whatever_else_is_in_the_set():
    many = [shown(str(number)) for number in range(30)]
    first = plan_tasks(many, ["a", "b"], ROLE_NAMES, seed=3)
    assert plan_tasks(many, ["a", "b"], ROLE_NAMES, seed=3) == first
    assert plan_tasks(many[10:11], ["a", "b"], ROLE_NAMES, seed=3) == first[50:55]
    fewer = plan_tasks(many, ["a", "b"], ROLE_NAMES, each=2, seed=3)
    assert fewer == [task for task in first if int(task.id.partition("#")[2]) < 2], "more can be asked for later"
    assert plan_tasks(many, ["a", "b"], ROLE_NAMES, seed=4) != first


def test_every_whole_number_is_a_seed():
    assert plan_tasks([shown("x")], ["a"], ROLE_NAMES, seed=-1)


def test_forms_roles_and_players_are_as_frequent_as_they_should_be(tmp_path):
    (tmp_path / "a.png").write_bytes(b"there")
    tasks = plan_tasks([shown(str(number), picture="a.png") for number in range(800)], ["a", "b"], ROLE_NAMES, each=4)
    forms = Counter(task.form for task in tasks)
    for form, share in INPUT_TYPE_SHARES.items():
        assert forms[form] / len(tasks) == pytest.approx(share, abs=5 * (share * (1 - share) / len(tasks)) ** 0.5)
    assert Counter(task.mllm for task in tasks)["a"] / len(tasks) == pytest.approx(0.5, abs=5 * 0.5 / len(tasks) ** 0.5)
    assert min(Counter(task.role for task in tasks).values()) > 300


@pytest.mark.parametrize("picture", ["", "https://x/a.png", "none.png", "."])
def test_no_picture_is_attached_that_does_not_lie_here(picture):
    tasks = plan_tasks([shown(str(number), picture=picture) for number in range(100)], ["a"], ROLE_NAMES)
    assert {task.form for task in tasks} == {"single", "history"}


def test_our_roles_are_many_and_different():
    roles = load_roles()
    assert len(roles) == len(set(roles)) == 120
    assert load_roles(ROLES) == roles


@pytest.mark.parametrize(
    "content", ["", "roles = []", 'roles = "a baker"', "roles = [1]", 'roles = ["a", " "]', "roles = [", b"\xff", None]
)
def test_roles_that_cannot_be_read_are_refused_by_name(tmp_path, content):
    if content is not None:
        (tmp_path / "roles.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput, match=r"roles\.toml"):
        load_roles(tmp_path / "roles.toml")


def test_an_estimate_counts_what_is_asked_in_full():
    tasks = plan_tasks([shown("x"), shown("y")], ["a"], ROLE_NAMES, each=3)
    mllm = FakeMLLM(obliging)
    role_play(tasks, {"a": mllm}, Path("q.jsonl"), descriptions={"m": "a model"})
    letters = sum(len(ask.messages[0].text) for ask in mllm.asked)
    found = estimate(tasks, {"m": "a model"})
    assert (found.calls, found.input_tokens) == (6, pytest.approx(letters / 4, abs=1))
    assert found.output_tokens == 6 * 90
    assert estimate([], {}) == (0, 0, 0)
    assert Estimate(1, 2_000_000, 500_000).cost(0.15, 0.6) == pytest.approx(0.3 + 0.3)


# -------------------------------------------------------------------------------------------------------------- playing


def test_what_is_asked_and_what_is_kept(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"there")
    mllm = FakeMLLM(lambda ask: said(("user", " a nice one, please ")))
    (task,) = plan_tasks([shown("x", picture="in/a.png")], ["a"], ["an old baker"], each=1)
    out = tmp_path / "sets" / "q.jsonl"
    assert role_play([task._replace(form="multimodal")], {"a": mllm}, out, descriptions={"m": "paints boats"}) == (1, {})
    text = mllm.asked[0].messages[0].text
    assert all(words in text for words in ("an old baker", "picture x, 8k", "paints boats", "You attach a picture"))
    assert mllm.asked[0].temperature == 0.9
    (found,) = read_queries(out)
    assert (found.id, found.role, found.demonstration, found.plan) == ("x#0", "an old baker", "x", task.demonstration.plan)
    assert [turn.text for turn in found.chat.turns] == ["a nice one, please"]
    assert found.chat.images == (tmp_path / "in" / "a.png",)
    assert found.input_type == "multimodal"


@pytest.mark.parametrize(
    ("form", "reply", "reason"),
    [
        ("single", "I am sorry, I cannot do that.", "the language model gave no usable reply"),
        ("single", '{"turns": []}', "the language model gave no usable reply"),
        ("single", said(("user", "")), "the language model gave no usable reply"),
        ("single", said(("system", "x")), "the language model gave no usable reply"),
        ("single", said(("user", " \n ")), "the last turn is not the user's"),
        ("single", said(("assistant", "hello")), "the last turn is not the user's"),
        ("history", said(("user", "a cat"), ("assistant", "so?")), "the last turn is not the user's"),
        ("single", said(("user", "a"), ("assistant", "b"), ("user", "c")), "more than one turn where one was asked for"),
        ("multimodal", said(("user", "a"), ("user", "c")), "more than one turn where one was asked for"),
        ("history", said(("user", "a cat")), "one turn where a dialogue was asked for"),
    ],
)
def test_a_reply_that_is_none_is_counted_by_its_reason(tmp_path, form, reply, reason):
    out = tmp_path / "q.jsonl"
    replies = iter([reply, obliging, reply])
    tasks = of_form(form, 3)

    def script(ask):
        answer = next(replies)
        return answer(ask) if callable(answer) else answer

    found = play(tasks, script, out)
    assert found == (1, {reason: 2})
    assert [each.id for each in read_queries(out)] == [tasks[1].id]


def test_a_player_that_refuses_costs_only_its_request(tmp_path):
    def refusing(ask):
        if "role 3" in ask.messages[0].text:
            raise Refused("forbidden content")
        return obliging(ask)

    tasks = of_form("single", 40)
    refused = [task for task in tasks if task.role == "role 3"]
    found = play(tasks, refusing, tmp_path / "q.jsonl")
    assert len(refused) > 1
    assert found == (40 - len(refused), {"forbidden content": len(refused)})


def test_a_dialogue_is_kept_turn_by_turn(tmp_path):
    turns = [("user", "a cat"), ("assistant", "a red one?"), ("user", "yes, two of them")]
    play(of_form("history"), lambda ask: said(*turns), tmp_path / "q.jsonl")
    (found,) = read_queries(tmp_path / "q.jsonl")
    assert [(turn.role, turn.text) for turn in found.chat.turns] == turns
    assert found.input_type == "history"


def test_no_turn_of_a_dialogue_is_empty(tmp_path):
    tasks = of_form("history")
    found = play(tasks, lambda ask: said(("user", "a cat"), ("assistant", " "), ("user", "yes")), tmp_path / "q.jsonl")
    assert found == (0, {"an empty turn": len(tasks)})


def test_every_player_gets_its_own_requests_in_the_form_it_wants(tmp_path):
    tasks = plan_tasks([shown(str(number)) for number in range(20)], ["a", "b"], ROLE_NAMES, each=4)
    players = {"a": FakeMLLM(lambda ask: said(("user", "from a"))), "b": player(lambda ask: said(("user", "from b")))}
    tasks = [task._replace(form="single") for task in tasks]
    assert role_play(tasks, players, tmp_path / "q.jsonl", descriptions={}) == (80, {})
    found = read_queries(tmp_path / "q.jsonl")
    assert [(each.id, each.chat.turns[0].text) for each in found] == [(task.id, f"from {task.mllm}") for task in tasks], "the order is kept"
    for name, mllm in players.items():
        own = [task for task in tasks if task.mllm == name]
        assert len(mllm.asked) == len(own) > 20
        assert all(task.role in ask.messages[0].text for task, ask in zip(own, mllm.asked, strict=True))
        assert len({ask.seed for ask in mllm.asked}) == len(own)
        assert all(("professional" in ask.messages[0].text) != mllm.brief for ask in mllm.asked)


def test_a_role_play_that_was_cut_off_asks_only_for_what_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(road, "BATCH", 4)
    tasks = of_form("single", 18)
    play(tasks, obliging, tmp_path / "whole.jsonl")
    heard = []

    def cut(ask):
        if len(heard) == 10:
            raise KeyboardInterrupt
        heard.append(ask)
        return obliging(ask)

    out = tmp_path / "q.jsonl"
    with pytest.raises(KeyboardInterrupt):
        play(tasks, cut, out)
    assert len(read_queries(out)) == 8
    out.write_bytes(out.read_bytes()[:-5])  # and the last line was not whole
    mllm, steps = player(), []
    found = role_play(tasks, {"a": mllm}, out, descriptions={}, progress=lambda *step: steps.append(step))
    assert found == (18, {})
    assert len(mllm.asked) == 11
    assert steps == [(11, 18), (15, 18), (18, 18)]
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert role_play(tasks, {"a": player(())}, out, descriptions={}) == (18, {}), "nobody is asked again"


def test_what_failed_is_asked_for_again(tmp_path):
    tasks = of_form("single", 3)
    play(tasks, lambda ask: "no" if ask is not None and "picture 0" in ask.messages[0].text else obliging(ask), tmp_path / "q.jsonl")
    again = player()
    role_play([*tasks, *of_form("single", 6)[4:]], {"a": again}, tmp_path / "q.jsonl", descriptions={})
    assert len(again.asked) == sum(task.demonstration.id == "0" for task in tasks) + 2


def test_a_file_of_something_else_is_not_written_to(tmp_path):
    (tmp_path / "q.jsonl").write_text("my diary\n", encoding="utf-8")
    with pytest.raises(BadInput):
        play(of_form("single"), obliging, tmp_path / "q.jsonl")
    assert (tmp_path / "q.jsonl").read_text(encoding="utf-8") == "my diary\n"
