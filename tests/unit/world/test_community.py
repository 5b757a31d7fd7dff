"""The community of models: who is right for a chat, with which plan, and whose chats are drawn."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vernissage.world import tell
from vernissage.world.chats import sample_chat
from vernissage.world.community import RARE_SHARE, found_community, right_member, right_plan, sample_asked
from vernissage.world.facts import facts_of, read_text
from vernissage.world.habits import CFG_SCALES, SAMPLERS, SIDE, STEPS, sample_habit
from vernissage.world.scene import PLACES, STYLES, TIMES, sample_scene, split_of
from vernissage.zoo.card import load_card
from vernissage.zoo.catalogue import package_folder

MEMBERS = found_community()
seeds = st.integers(0, 2**32)


@pytest.mark.parametrize("seed", [0, 1, 2411])
def test_there_is_one_model_of_each_style_and_place_and_some_are_rare(seed):
    members = found_community(seed)
    pairs = {(member.style, member.place) for member in members}
    assert pairs == {(style, place) for style in (*STYLES, None) for place in (*PLACES, None)}
    assert len(members) == len({member.id for member in members}) == len({member.description for member in members}) == 49
    assert sum(member.rare for member in members) == int(RARE_SHARE * 49)
    assert members == found_community(seed)


def test_other_seeds_found_other_communities():
    assert [member.id for member in found_community(1)] != [member.id for member in MEMBERS]


def test_names_tell_nothing_and_descriptions_tell_style_and_place():
    for member in MEMBERS:
        assert not any(word in member.id for word in (*STYLES, *PLACES))
        assert not member.style or member.style in member.description.lower()
        assert member.style or "any style" in member.description
        assert member.place or "any place" in member.description


def test_every_card_names_a_model_that_is_there_and_takes_its_peoples_habits():
    for member in MEMBERS:
        card = member.card()
        base = load_card(package_folder("mini") / "cards" / f"{card.source.base.removeprefix('mini/')}.toml")
        assert base.id == card.source.base
        for arguments in (member.habit.usual, member.habit.then if member.habit.fact else member.habit.usual):
            completed = card.complete(arguments)
            assert (completed.width, completed.height) == (SIDE, SIDE)
            assert completed.model_copy(update={"width": SIDE}) == arguments


@given(seeds, st.sampled_from(["train", "held-out"]))
def test_the_right_model_is_for_what_the_chat_states_and_can_paint_the_plan(seed, split):
    chat = sample_chat(np.random.default_rng(seed), split=split)
    member = right_member(chat, MEMBERS)
    assert member.style == (chat.scene.style if "style" in chat.stated else None)
    assert member.place == (chat.scene.place if "place" in chat.stated else None)
    plan = right_plan(chat, member)
    member.card().check(plan)
    assert plan.model == member.id
    assert plan.prompt == tell.prompt(chat.scene, facts=chat.stated)
    night = member.habit.fact == "time" and "time" in chat.stated and chat.scene.time == member.habit.value
    assert plan.arguments == (member.habit.then if night else member.habit.usual)


@given(seeds)
def test_a_plans_prompt_says_what_the_chat_wants_and_no_more(seed):
    chat = sample_chat(np.random.default_rng(seed))
    assert read_text(right_plan(chat, right_member(chat, MEMBERS)).prompt) == chat.wanted


@given(seeds, st.sampled_from(["place", "time", "style", "", None]))
def test_a_habit_changes_two_arguments_at_most_and_for_its_fact_alone(seed, fact):
    rng = np.random.default_rng(seed)
    habit = sample_habit(rng, fact)
    if fact is not None:
        assert habit.fact == fact
    for arguments in (habit.usual, habit.then) if habit.fact else (habit.usual,):
        assert arguments.sampler in SAMPLERS
        assert arguments.steps in STEPS
        assert arguments.cfg_scale in CFG_SCALES
        assert (arguments.width, arguments.height, arguments.seed) == (SIDE, SIDE, None)
    if habit.fact:
        assert habit.value in {"place": PLACES, "time": TIMES, "style": STYLES}[habit.fact]
        assert sum(dict(habit.usual)[name] != value for name, value in habit.then) <= 2
    scene = sample_scene(rng)
    applies = bool(habit.fact) and getattr(scene, habit.fact) == habit.value
    assert habit.arguments(scene) == (habit.then if applies else habit.usual)


def test_an_exception_differs_from_what_is_usual():
    habits = [sample_habit(np.random.default_rng(seed), "time") for seed in range(1000)]
    assert all(habit.then != habit.usual for habit in habits)


def test_in_our_community_every_exception_differs():
    assert sum(bool(member.habit.fact) for member in MEMBERS) > 20
    assert all(member.habit.then != member.habit.usual for member in MEMBERS if member.habit.fact)


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_every_model_gets_its_quota(split):
    quota = {member.id: number % 3 for number, member in enumerate(MEMBERS)}
    found = sample_asked(MEMBERS, quota, seed=1, split=split)
    assert Counter(asked.plan.model for asked in found) == Counter(quota)
    rare = {member.id for member in MEMBERS if member.rare}
    assert all(asked.division == ("few-shot" if asked.plan.model in rare else "supervised") for asked in found)
    assert all(split_of(asked.chat.scene) == split for asked in found)
    assert all(facts_of(asked.chat.scene).place == asked.chat.scene.place for asked in found)
    assert found == sample_asked(MEMBERS, quota, seed=1, split=split)
    assert found[0] != sample_asked(MEMBERS, quota, seed=2, split=split)[0]


def test_no_quota_is_no_chat():
    assert sample_asked(MEMBERS, {}, seed=0) == []
