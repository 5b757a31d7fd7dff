"""What is said of a scene is true of it, and can be read back."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vernissage.world import tell
from vernissage.world.chats import INPUT_TYPE_SHARES, load_voices, sample_chat
from vernissage.world.facts import Facts, check_facts, facts_of, read_text, scene_of
from vernissage.world.scene import OPPOSITE, Group, Scene, sample_scene, split_of

seeds = st.integers(0, 2**32)


def wrong(wanted, seen):
    return [check.fact for check in check_facts(wanted, seen) if not check.right]


@given(seeds, st.sampled_from(["train", "held-out"]))
def test_every_prompt_and_caption_states_exactly_the_facts_of_its_scene(seed, split):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, split=split)
    for text in (tell.prompt(scene), tell.prompt(scene, rng), tell.caption(scene), tell.caption(scene, rng)):
        seen = read_text(text)
        assert wrong(facts_of(scene), seen) == []
        assert wrong(seen, facts_of(scene)) == []


@given(seeds)
def test_a_prompt_states_only_the_facts_it_was_asked_to(seed):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    seen = read_text(tell.prompt(scene, rng, facts=frozenset({"place"})))
    assert (seen.place, seen.time, seen.style) == (scene.place, None, None)


@given(seeds)
def test_facts_and_scene_are_two_forms_of_one_thing(seed):
    scene = sample_scene(np.random.default_rng(seed))
    assert scene_of(facts_of(scene)) == scene
    assert scene_of(facts_of(scene).model_copy(update={"time": None})) is None
    many = tuple(group.model_copy(update={"count": 5}) for group in facts_of(scene).groups)
    assert scene_of(facts_of(scene).model_copy(update={"groups": many})) is None, "no scene holds five of a kind"


@given(seeds)
def test_a_relation_said_from_the_other_side_is_the_same_relation(seed):
    scene = sample_scene(np.random.default_rng(seed), pairs=1.0)
    turned = scene.model_copy(update={"groups": scene.groups[::-1], "relation": OPPOSITE[scene.relation]})
    assert wrong(facts_of(scene), facts_of(turned)) == []
    not_turned = scene.model_copy(update={"relation": OPPOSITE[scene.relation]})
    assert wrong(facts_of(scene), facts_of(not_turned)) == ["relation"]


def test_of_a_missing_kind_everything_is_wrong():
    assert wrong(read_text("two red cats, at sea"), read_text("two red cars, at sea")) == ["a cat", "colour of cat", "count of cat"]


def test_nothing_is_wanted_of_a_text_without_facts():
    assert read_text("an undefinable longing") == Facts()
    assert check_facts(Facts(), read_text("two red cats")) == []


def test_a_right_relation_stays_right_when_a_third_kind_is_seen():
    wanted = read_text("a cat left of a car")
    cat, car = wanted.groups
    for seen in (Facts(groups=(cat, car), relation="left of"), Facts(groups=(car, cat), relation="right of")):
        third = seen.model_copy(update={"groups": (*seen.groups, *read_text("a star").groups)})
        assert wrong(wanted, third) == []
    first = Facts(groups=(*read_text("a star").groups, cat, car), relation="left of")  # of star and cat, so nothing is known of the car
    assert wrong(wanted, first) == ["relation"]


@pytest.mark.parametrize(
    ("text", "count", "colour", "kind"),
    [
        ("a kitten", 1, None, "cat"),
        ("4 violet toadstools", 4, "purple", "mushroom"),
        ("a couple of mugs", 2, None, "cup"),
        ("Kitties!", None, None, "cat"),
        ("a big red car", 1, "red", "car"),
        ("goldfish", None, None, "fish"),
    ],
)
def test_synonyms_are_read(text, count, colour, kind):
    (group,) = read_text(text).groups
    assert (group.count, group.colour, group.kind) == (count, colour, kind)


def true_of(scene, question):
    """The answer worked out from the question's words alone, independently of how questions are made."""
    text = question.text.rstrip("?")
    seen = read_text(text)
    facts = facts_of(scene)
    kinds = {group.kind: group for group in scene.groups}
    if question.aspect == "presence":
        return (seen.groups[0].kind in kinds) != (" no " in text)
    if question.aspect == "count":
        number = 1 if "exactly one" in text else int(text.split("exactly ")[1][0])
        return kinds[seen.groups[0].kind].count == number
    if question.aspect == "colour":
        return kinds[seen.groups[0].kind].colour == text.split()[-1]
    if question.aspect == "relation":
        return not [
            check
            for check in check_facts(Facts(groups=seen.groups, relation=seen.relation), facts)
            if check.fact == "relation" and not check.right
        ]
    return getattr(seen, question.aspect) == getattr(scene, question.aspect)


@given(seeds)
def test_every_answer_follows_from_the_scene(seed):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    asked = tell.questions(scene, rng)
    assert {question.aspect for question in asked} >= {"presence", "count", "colour", "place", "time", "style"}
    for question in asked:
        assert true_of(scene, question) == question.answer, question


@given(seeds)
@example(86938109)
def test_differences_are_empty_exactly_when_two_scenes_agree(seed):
    rng = np.random.default_rng(seed)
    one, two = sample_scene(rng), sample_scene(rng)
    assert tell.differences(one, one) == []
    agree = not wrong(facts_of(one), facts_of(two)) and not wrong(facts_of(two), facts_of(one))  # the one may show more than the other
    assert (tell.differences(one, two) == []) == agree


def test_a_tree_holds_every_fact():
    groups = (Group(kind="cat", colour="pink", count=3), Group(kind="boat", colour="white", count=1))
    tree = tell.tree(Scene(groups=groups, relation="below", place="city", time="dusk", style="sketch"))
    assert [(thing.name, thing.type, thing.features) for thing in tree.objects] == [
        ("cat", "animal", {"colour": "pink", "count": "3"}),
        ("boat", "object", {"colour": "white", "count": "1"}),
    ]
    assert tree.relations == ("cat below boat",)
    assert tree.style == "sketch"


def test_there_are_forty_voices_and_none_is_in_both_sets():
    train, held_out = load_voices("train"), load_voices("held-out")
    assert len(train) + len(held_out) >= 40
    assert not {voice.name for voice in train} & {voice.name for voice in held_out}
    said = {text for voice in train for text in (*voice.asks, *voice.styles)}
    assert not said & {text for voice in held_out for text in (*voice.asks, *voice.styles)}


@given(seeds, st.sampled_from(["train", "held-out"]), st.sampled_from(list(INPUT_TYPE_SHARES)))
def test_a_chat_is_of_its_type_and_set(seed, split, input_type):
    chat = sample_chat(np.random.default_rng(seed), split=split, input_type=input_type)
    assert split_of(chat.scene) == split
    assert chat.voice in {voice.name for voice in load_voices(split)}
    assert (chat.reference is not None) == (input_type == "multimodal")
    assert (len(chat.turns) > 1) == (input_type == "history")
    assert chat.turns[-1][0] == "user"
    assert all(text.strip() and "{" not in text for _, text in chat.turns)
    for fact in tell.ALL_FACTS:
        assert getattr(chat.wanted, fact) == (getattr(chat.scene, fact) if fact in chat.stated else None)


def test_single_chats_name_the_things_they_want():
    rng = np.random.default_rng(0)
    for _ in range(200):
        chat = sample_chat(rng, input_type="single")
        said = read_text(chat.turns[0][1])
        assert {group.kind for group in chat.wanted.groups} <= {group.kind for group in said.groups}, chat.turns
