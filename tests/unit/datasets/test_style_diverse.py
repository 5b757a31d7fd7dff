"""The style-diverse reference set: captions crossed with styles, painted once each, gone on with after a cut."""

import pytest

from vernissage.bench.references import find_references
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


def stems(folder):
    return sorted(path.stem for path in folder.glob("*.png"))


def paint(folder, ingredients=WANTED, plan=PLAN, t2i=None, **options):
    return build_style_diverse(folder, ingredients, plan, FakeMLLM(say_it_back, brief=True), t2i or FakeT2I(), **options)


def test_our_ingredients_are_twenty_captions_in_ten_styles():
    ours = load_ingredients()
    assert (len(set(ours.captions)), len(set(ours.styles))) == (20, 10)


def test_every_caption_is_painted_in_every_style_from_reworded_prompts(tmp_path):
    seen = []
    failed = build_style_diverse(
        tmp_path, WANTED, PLAN, FakeMLLM(say_it_back, brief=True), FakeT2I(), seed=5, progress=lambda *each: seen.append(each)
    )
    assert failed == []
    assert stems(tmp_path) == NAMES
    plan = Picture.open(tmp_path / "oil-painting_2.png").plan
    assert (plan.prompt, plan.arguments.seed, plan.model) == ("a kite, oil painting", 7, "m")
    assert seen == [(0, 4), (4, 4)]


def test_pictures_that_are_there_already_are_left_alone(tmp_path):
    build_style_diverse(tmp_path, WANTED, PLAN, FakeMLLM(say_it_back, brief=True), FakeT2I())
    (tmp_path / "oil-painting_1.png").unlink()
    painter = FakeT2I()
    build_style_diverse(tmp_path, WANTED, PLAN, FakeMLLM(say_it_back, brief=True), painter)
    assert [plan.prompt for plan in painter.painted] == ["a fox, oil painting"]
    assert stems(tmp_path) == NAMES


def test_styles_of_all_scripts_have_files_of_their_own(tmp_path):
    assert paint(tmp_path, Ingredients(captions=("a fox",), styles=("水墨画", "油絵", "Ölgemälde", "3D render"))) == []
    assert stems(tmp_path) == ["3d-render_1", "ölgemälde_1", "水墨画_1", "油絵_1"]
    kinds = [reference.kind for reference in find_references(tmp_path)]
    assert kinds == ["3d-render", "ölgemälde", "水墨画", "油絵"]


@pytest.mark.parametrize("styles", [("oil", "3D", "3D!"), ("oil", "Oil"), ("oil", "oil")])
def test_styles_that_would_share_files_are_refused_before_anything_is_painted(tmp_path, styles):
    painter = FakeT2I()
    with pytest.raises(BadInput, match=f"'{styles[-2]}' and '{styles[-1]}'"):
        paint(tmp_path / "set", Ingredients(captions=("a fox",), styles=styles), t2i=painter)
    assert (painter.painted, (tmp_path / "set").exists()) == ([], False)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"plan": Plan(prompt="x", model="n")}, "model"),
        ({"seed": 6}, "seed"),
        ({"card": "other"}, "card"),
        ({"ingredients": Ingredients(captions=("a fox", "a kite"), styles=("oil painting",))}, "ingredients"),
    ],
)
def test_a_set_is_not_gone_on_with_otherwise_than_it_was_begun(tmp_path, changes, named):
    paint(tmp_path, seed=5)
    (tmp_path / "oil-painting_1.png").unlink()
    painter = FakeT2I()
    with pytest.raises(BadInput, match=f"begun with another value of {named}"):
        paint(tmp_path, **{"seed": 5, "t2i": painter} | changes)
    assert painter.painted == []
    paint(tmp_path, seed=5)
    assert stems(tmp_path) == NAMES


def test_a_set_is_not_gone_on_with_by_another_mllm(tmp_path):
    paint(tmp_path)
    other = FakeMLLM(say_it_back, brief=True)
    other.name = "another"
    with pytest.raises(BadInput, match="begun with another value of mllm"):
        build_style_diverse(tmp_path, WANTED, PLAN, other, FakeT2I())


@pytest.mark.parametrize("style", ["1920", "\N{BLACK STAR}"])
def test_a_style_that_gives_no_kind_is_refused(tmp_path, style):
    with pytest.raises(BadInput, match="no letters"):
        paint(tmp_path / "set", Ingredients(captions=("a fox",), styles=(style,)))
    assert not (tmp_path / "set").exists()


def test_pictures_of_unknown_origin_are_not_gone_on_with(tmp_path):
    paint(tmp_path)
    (tmp_path / "header.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match=r"header\.json"):
        paint(tmp_path)
    (tmp_path / "header.json").unlink()
    with pytest.raises(BadInput, match="holds pictures"):
        paint(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    assert paint(tmp_path) == []


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
    assert stems(tmp_path) == NAMES[:1]


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
