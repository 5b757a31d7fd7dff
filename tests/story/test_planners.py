"""The story of planners on the mini studio: chats become plans, a planner is trained, measured and used."""

import json
from pathlib import Path

import pytest

from vernissage.api import Studio
from vernissage.cli import main
from vernissage.datasets.queries import Query, write_queries
from vernissage.records.chat import Chat, Turn
from vernissage.records.plan import Plan
from vernissage.wiring import planner_config
from vernissage.world.community import found_community, right_member, sample_asked
from vernissage.world.facts import check_facts, read_text


@pytest.fixture(scope="module")
def asked():
    members = found_community()
    return sample_asked(members, {member.id: 1 for member in members if not member.rare}, seed=9, split="held-out")


@pytest.fixture(scope="module")
def evo() -> Studio:
    return Studio(Studio().config.model_copy(update={"planner": planner_config("evo")}))


def as_chat(world_chat) -> Chat:
    return Chat(turns=tuple(Turn(role=role, text=text) for role, text in world_chat.turns))


def test_evo_keeps_most_facts_and_mostly_finds_the_model_of_a_community_whose_names_tell_nothing(evo, asked):
    texts = [each for each in asked if each.chat.reference is None][:16]
    plans = evo.planner.plan([as_chat(each.chat) for each in texts], [[]] * len(texts), evo.catalogue)
    assert all(isinstance(plan, Plan) for plan in plans), plans
    kept = [check.right for plan, each in zip(plans, texts, strict=True) for check in check_facts(each.chat.wanted, read_text(plan.prompt))]
    assert sum(kept) / len(kept) > 0.85
    right = [plan.model == right_member(each.chat, found_community()).id for plan, each in zip(plans, texts, strict=True)]
    assert sum(right) / len(right) > 0.4, "by chance it would be one in 49"
    assert all(len(plan.choices) == 10 for plan in plans)


def test_a_plan_of_evo_is_painted_by_a_model_of_the_community(evo):
    picture = evo.paint("a blue boat at sea by day, as a sketch please")
    assert picture.plan.model.startswith("community/")
    assert picture.image.size == (128, 128)


def test_a_conversation_refines_its_picture(monkeypatch, tmp_path, capsys):
    import io

    said = "a red car in the city, as a sketch\nnice, now make the car blue instead of red\n/save last.png\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["chat", "--seed", "5"])
    assert ended.value.code in (None, 0)
    first, second, _ = capsys.readouterr().out.splitlines()
    assert "red car" in first
    assert "blue car" in second
    assert Path("last.png").read_bytes() == Path("chat/002.png").read_bytes()


def test_planners_are_compared_by_one_command(tmp_path, asked, capsys):
    queries = [
        Query(id=str(number), chat=as_chat(each.chat), plan=each.plan, division=each.division)
        for number, each in enumerate([each for each in asked if each.chat.reference is None][:6])
    ]
    write_queries(queries, tmp_path / "test.jsonl")
    run = ["bench", "chatgen", "--data", str(tmp_path / "test.jsonl"), "--planners", "evo,base", "--out", str(tmp_path / "run")]
    for _ in range(2):  # the second time nothing is left to do, and the table is the same
        with pytest.raises(SystemExit) as ended:
            main(run)
        assert ended.value.code in (None, 0)
        table = capsys.readouterr().out
        assert "evo - base, selection" in table
        assert "6/6" in table
    assert len((tmp_path / "run" / "items.jsonl").read_text().splitlines()) == 12
    assert json.loads((tmp_path / "run" / "header.json").read_text())["settings"]["known"] == "nothing"
