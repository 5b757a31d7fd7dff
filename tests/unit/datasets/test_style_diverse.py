"""The style-diverse reference set: captions crossed with styles, painted once each, gone on with after a cut."""

import pytest

from vernissage.datasets.style_diverse import Ingredients, build_style_diverse, load_ingredients
from vernissage.drivers.fake import FakeMLLM, FakeT2I
from vernissage.errors import BadInput, DriverError
from vernissage.records.picture import Picture
from vernissage.records.plan import Plan

WANTED = Ingredients(captions=("a fox", "a kite"), styles=("oil painting", "ukiyo-e woodblock print"))
PLAN = Plan(prompt="x", model="m")
NAMES = ["oil-painting_1", "oil-painting_2", "ukiyo-e-woodblock-print_1", "ukiyo-e-woodblock-print_2"]


def say_it_back(ask):
    return ask.messages[0].text.splitlines()[-1]


def test_our_ingredients_are_twenty_captions_in_ten_styles():
    ours = load_ingredients()
    assert (len(set(ours.captions)), len(set(ours.styles))) == (20, 10)


def test_every_caption_is_painted_in_every_style_from_reworded_prompts(tmp_path):
    seen = []
    failed = build_style_diverse(
        tmp_path, WANTED, PLAN, FakeMLLM(say_it_back, brief=True), FakeT2I(), seed=5, progress=lambda *each: seen.append(each)
    )
    assert failed == []
    assert sorted(path.stem for path in tmp_path.iterdir()) == NAMES
    plan = Picture.open(tmp_path / "oil-painting_2.png").plan
    assert (plan.prompt, plan.arguments.seed, plan.model) == ("a kite, oil painting", 7, "m")
    assert seen == [(0, 4), (4, 4)]


def test_pictures_that_are_there_already_are_left_alone(tmp_path):
    build_style_diverse(tmp_path, WANTED, PLAN, FakeMLLM(say_it_back, brief=True), FakeT2I())
    (tmp_path / "oil-painting_1.png").unlink()
    painter = FakeT2I()
    build_style_diverse(tmp_path, WANTED, PLAN, FakeMLLM(say_it_back, brief=True), painter)
    assert [plan.prompt for plan in painter.painted] == ["a fox, oil painting"]
    assert len(list(tmp_path.iterdir())) == 4


def test_what_cannot_be_worded_or_painted_is_told_and_the_rest_is_made(tmp_path):
    class Moody:
        def paint(self, plans, *, progress=None):
            return [DriverError("no paint left") if "kite" in plan.prompt else FakeT2I().paint([plan])[0] for plan in plans]

    words = FakeMLLM(["a fox in oil", "a kite in oil", "", "a kite in wood"], brief=True)
    failed = build_style_diverse(tmp_path, WANTED, PLAN, words, Moody())
    assert [(row.name, row.reason) for row in failed] == [
        (NAMES[2], "the MLLM answered nothing"),
        (NAMES[1], "no paint left"),
        (NAMES[3], "no paint left"),
    ]
    assert [path.stem for path in tmp_path.iterdir()] == [NAMES[0]]


def test_ingredients_with_a_mistake_are_refused(tmp_path):
    path = tmp_path / "mine.toml"
    for content in (
        "captions = []\nstyles = ['oil']",
        "captions = ['a fox']",
        "captions = ['a'",
        "captions = ['a']\nstyles = ['b']\nmore = 1",
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(BadInput, match=r"mine\.toml does not hold two lists"):
            load_ingredients(path)
    with pytest.raises(BadInput, match="Cannot read"):
        load_ingredients(tmp_path / "none.toml")
