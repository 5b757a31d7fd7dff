"""Model cards and the catalogue: what is refused, in which words, and what a card does with a plan."""

import re
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from vernissage.errors import BadCard, BadPlan, UnknownName
from vernissage.records.plan import Arguments, Lora, Plan
from vernissage.zoo.card import Card, load_card, parse_card
from vernissage.zoo.catalogue import Catalogue, home, load_catalogue, package_folder

GOOD = {
    "id": "my/ink",
    "title": "Ink",
    "description": "Ink drawings.",
    "licence": "MIT",
    "source": {"path": "weights"},
    "width": 512,
    "height": 768,
    "size_multiple": 16,
    "sizes": {"low": 128, "high": 1024},
    "samplers": ["Euler", "DPM++ 2M Karras"],
    "steps": {"low": 4, "high": 60},
    "cfg_scale": {"low": 1.0, "high": 10.0},
    "defaults": {"sampler": "Euler", "steps": 20, "cfg_scale": 4.0, "loras": [{"name": "grain"}]},
}


def card(**changes) -> Card:
    return parse_card(GOOD | changes, folder=Path(), name="test")


def write(path: Path, values: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomli_w.dumps(values), encoding="utf-8")
    return path


def plan(**arguments) -> Plan:
    return Plan(prompt="a cat", model="my/ink", arguments=Arguments(**arguments))


def test_a_good_card_is_read_and_its_paths_start_at_its_folder(tmp_path):
    found = load_card(write(tmp_path / "cards" / "ink.toml", GOOD))
    assert found.id == "my/ink"
    assert found.resolve("weights") == tmp_path / "cards" / "weights"
    assert found.resolve("../weights") == tmp_path / "weights"


@pytest.mark.parametrize("path", sorted((package_folder("mini") / "cards").glob("*.toml")), ids=lambda path: path.stem)
def test_the_cards_of_the_package_can_paint_their_own_demonstrations(path):
    found = load_card(path)
    assert found.demonstrations
    for shown in found.demonstrations:
        found.check(Plan(prompt=shown.prompt, model=found.id, arguments=shown.arguments))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"sampelrs": ["Euler"]}, "unknown key 'sampelrs'"),
        ({"source": {"path": "x", "sha": "1"}}, "unknown key 'source.sha'"),
        ({"defaults": {"cfg": 3}}, "unknown key 'defaults.cfg'"),
        ({"folder": "/etc"}, "unknown key 'folder'"),
        ({"file": "/etc"}, "unknown key 'file'"),
        ({"width": "wide"}, "'width'"),
        ({"width": 4}, "'width'"),
        ({"steps": {"low": "a", "high": 3}}, "'steps.low'"),
        ({"steps": {"low": 30, "high": 3}}, "'steps'"),
        ({"sizes": {"low": 5}}, "'sizes.high'"),
        ({"sizes": {"low": 130, "high": 140}}, "sizes holds no multiple of 16"),
        ({"sizes": {"low": 130, "high": float("inf")}}, "'sizes.high'"),
        ({"size_multiple": 0}, "'size_multiple'"),
        ({"size_multiple": -8}, "'size_multiple'"),
        ({"samplers": "Euler"}, "'samplers'"),
        ({"source": "weights"}, "'source'"),
        ({"source": {"path": "x", "repo": "a/b"}}, "'source': give exactly one of path, repo and base"),
        ({"source": {}}, "'source': give exactly one of path, repo and base"),
        ({"source": {"base": "a", "parts": {"nose": "x"}}}, "'source.parts.nose"),
        ({"id": "../evil"}, "'id'"),
        ({"id": "a//b"}, "'id'"),
        ({"id": "a/.."}, "'id'"),
        ({"id": ""}, "'id'"),
        ({"demonstrations": [{"negative_prompt": "x"}]}, "'demonstrations.0.prompt'"),
    ],
)
def test_a_mistake_in_a_card_names_the_file_and_the_key(tmp_path, changes, key):
    path = write(tmp_path / "ink.toml", GOOD | changes)
    with pytest.raises(BadCard, match=re.escape(key)) as caught:
        load_card(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("missing", ["id", "title", "description", "licence", "source", "width", "height", "defaults"])
def test_a_key_that_is_missing_is_named(tmp_path, missing):
    path = write(tmp_path / "ink.toml", {key: value for key, value in GOOD.items() if key != missing})
    with pytest.raises(BadCard, match=f"'{missing}': Field required"):
        load_card(path)


@pytest.mark.parametrize("content", [b"id = ", b"{}", b"\xff\xfe", b"id = 1\nid = 2", b"a = " + b"[" * 5000])
def test_a_card_that_is_not_toml_names_the_file(tmp_path, content):
    path = tmp_path / "ink.toml"
    path.write_bytes(content)
    with pytest.raises(BadCard, match=re.escape(str(path))) as caught:
        load_card(path)
    assert "TOML" in str(caught.value)


def test_a_card_that_is_missing_or_a_folder_names_the_file(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(BadCard, match=re.escape(str(path))):
            load_card(path)


def test_what_is_left_open_comes_from_the_card():
    assert card().complete(Arguments()) == Arguments(
        sampler="Euler", steps=20, cfg_scale=4.0, width=512, height=768, loras=(Lora(name="grain"),)
    )
    given = Arguments(sampler="DPM++ 2M Karras", steps=5, width=256, seed=0, loras=(Lora(name="ink", weight=0.5),))
    assert card().complete(given) == given.model_copy(update={"cfg_scale": 4.0, "height": 768})
    assert card(defaults={"width": 640}).complete(Arguments()).width == 640


@pytest.mark.parametrize(
    ("arguments", "says", "fix"),
    [
        ({"width": 63}, "width of 63 pixels", "nearest is 128"),
        ({"height": 5000}, "height of 5000 pixels", "nearest is 1024"),
        ({"width": 500}, "multiples of 16", "nearest is 496"),
        ({"width": 0}, "width of 0 pixels", "nearest is 128"),
        ({"width": -512}, "width of -512 pixels", "nearest is 128"),
        ({"steps": 0}, "steps from 4 to 60, not 0", "default is 20"),
        ({"steps": 61}, "steps from 4 to 60, not 61", "default is 20"),
        ({"cfg_scale": 0.5}, "cfg_scale from 1 to 10, not 0.5", "default is 4"),
        ({"cfg_scale": float("nan")}, "cfg_scale", "default is 4"),
        ({"cfg_scale": float("inf")}, "cfg_scale", "default is 4"),
        ({"seed": -1}, "seed", "Leave it out"),
    ],
)
def test_a_number_out_of_range_is_refused_with_the_fix(arguments, says, fix):
    with pytest.raises(BadPlan, match=re.escape(says)) as caught:
        card().check(plan(**arguments))
    assert fix in caught.value.hint


@pytest.mark.parametrize(
    "arguments", [{}, {"width": 1024}, {"steps": 4}, {"steps": 60}, {"cfg_scale": 10}, {"seed": 2**64 - 1}, {"seed": 0}]
)
def test_numbers_at_the_edge_are_taken(arguments):
    assert card().check(plan(**arguments)) is None


def test_the_nearest_size_named_is_one_that_can_be_painted():
    odd = card(width=144, height=144, size_multiple=48, sizes={"low": 100, "high": 500})
    for value in (1, 63, 100, 143, 150, 170, 495, 501, 9999):
        if value in (144, 192, 240, 288, 336, 384, 432, 480):
            continue
        with pytest.raises(BadPlan) as caught:
            odd.check(plan(width=value))
        near = int(re.search(r"nearest is (\d+)", caught.value.hint)[1])
        assert odd.check(plan(width=near)) is None
        assert abs(near - value) == min(abs(size - value) for size in range(144, 481, 48))


def test_an_unknown_sampler_is_refused_with_the_nearest_named():
    with pytest.raises(UnknownName, match="Did you mean 'Euler'") as caught:
        card().check(plan(sampler="Euller"))
    assert "DPM++ 2M Karras" in str(caught.value)


def test_a_sampler_may_be_written_as_the_card_or_in_any_equal_form():
    assert card(samplers=[]).check(plan(sampler="anything")) is None
    assert card().check(plan(sampler="DPM++ 2M karras")) is None
    with pytest.raises(UnknownName):
        card().check(plan(sampler="DPM++ 2M"))


def test_a_base_that_nobody_knows_names_the_file_and_the_key(tmp_path):
    path = write(tmp_path / "lora.toml", GOOD | {"source": {"base": "my/nothing"}})
    with pytest.raises(BadCard, match="my/nothing") as caught:
        load_catalogue([tmp_path])
    assert str(path) in str(caught.value)
    assert "`base`" in caught.value.hint


@pytest.mark.parametrize("bases", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
def test_cards_that_build_on_each_other_in_a_circle_are_refused(bases):
    cards = [card(id=name, source={"base": base}) for name, base in bases.items()]
    with pytest.raises(BadCard, match="circle"):
        Catalogue(cards)


def test_a_catalogue_is_a_mapping_that_names_the_nearest_model():
    catalogue = Catalogue([card(), card(id="my/oil")])
    assert list(catalogue) == ["my/ink", "my/oil"]
    assert len(catalogue) == 2
    assert "my/oil" in catalogue
    with pytest.raises(UnknownName, match="Did you mean 'my/ink'"):
        catalogue["my/inc"]


def test_a_part_of_the_catalogue_is_chosen_by_name_or_by_beginning():
    catalogue = load_catalogue()
    assert set(catalogue.choose(["mini/*"])) == {name for name in catalogue if name.startswith("mini/")}
    assert len(catalogue.choose(["mini/*"])) == 6
    assert list(Catalogue([card(), card(id="other")]).choose(["other", "my/*"])) == ["other", "my/ink"]
    for unknown in ("mni/*", "mini/neno"):
        with pytest.raises(UnknownName, match=re.escape(unknown)):
            catalogue.choose([unknown])


def test_what_a_chosen_model_builds_on_comes_along():
    chain = [card(), card(id="b", source={"base": "my/ink"}), card(id="c", source={"base": "b"})]
    assert set(Catalogue(chain).choose(["c"])) == {"c", "b", "my/ink"}


def test_cards_of_the_user_replace_those_of_the_package(tmp_path):
    write(home() / "cards" / "neon.toml", GOOD | {"id": "mini/neon", "title": "Mine"})
    assert load_catalogue()["mini/neon"].title == "Mine"
    write(tmp_path / "further" / "neon.toml", GOOD | {"id": "mini/neon", "title": "Further"})
    assert load_catalogue([tmp_path / "further"])["mini/neon"].title == "Further"
    assert "mini/general" in load_catalogue()


def test_a_folder_of_cards_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(BadCard, match="crads") as caught:
        load_catalogue([tmp_path / "crads"])
    assert caught.value.hint


toml_values = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=80, deadline=None, database=None)
@given(key=st.sampled_from(sorted(Card.model_fields)), value=toml_values)
def test_whatever_value_a_key_has_the_card_is_good_or_its_mistake_is_told(key, value):
    try:
        found = card(**{key: value})
        found.check(plan())
    except (BadCard, BadPlan, UnknownName) as error:
        said = str(error)
    else:
        said = str(found.complete(Arguments()).width)
    assert said


def test_exchanged_weights_are_another_model(tmp_path):
    (tmp_path / "ink.safetensors").write_bytes(b"one")
    values = {"title": "T", "description": "D.", "licence": "MIT", "width": 16, "height": 16, "size_multiple": 8}
    rest = {"source": {"path": "ink.safetensors"}, "sizes": {"low": 8, "high": 64}, "defaults": {"steps": 5, "cfg_scale": 2.0}}
    catalogue = Catalogue([parse_card({"id": "local/ink"} | values | rest, folder=tmp_path, name="ink")])
    before = catalogue.digest("local/ink")
    assert catalogue.digest("local/ink") == before
    (tmp_path / "ink.safetensors").write_bytes(b"two")
    assert catalogue.digest("local/ink") != before
