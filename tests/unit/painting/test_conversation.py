"""Conversations and the demonstrations nearest to a prompt: what a planner is told."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from vernissage.errors import BadInput
from vernissage.painting.conversation import COMMANDS, Step, chat_after, read_command
from vernissage.painting.likeness import Shelf, words_of
from vernissage.records.demonstration import Demonstration
from vernissage.records.picture import Picture
from vernissage.records.plan import Plan

PICTURE = Picture.of(Image.new("RGB", (4, 4)))
texts = st.text(max_size=20).filter(str.strip)


def steps(*pairs):
    return [Step(said, Plan(prompt=prompt, model="m"), PICTURE) for said, prompt in pairs]


def shown(*prompts):
    return [Demonstration(id=str(number), plan=Plan(prompt=prompt, model="m")) for number, prompt in enumerate(prompts)]


# -------------------------------------------------------------------------------------------------------- conversations


def test_the_second_turn_is_told_with_the_first_words_and_the_third_with_the_last_prompt():
    first = steps(("a car", "a red car, 8k"))
    assert [(turn.role, turn.text) for turn in chat_after(first, "make it blue").turns] == [
        ("user", "a car"),
        ("assistant", "Here you are: a red car, 8k"),
        ("user", "make it blue"),
    ]
    both = [*first, *steps(("make it blue", "a blue car, 8k"))]
    assert [(turn.role, turn.text) for turn in chat_after(both, "at night").turns] == [
        ("user", "a blue car, 8k"),
        ("assistant", "Here you are: a blue car, 8k"),
        ("user", "at night"),
    ]


@given(st.lists(st.tuples(texts, texts), max_size=5), texts)
def test_a_chat_of_any_length_is_short_and_ends_with_what_was_said(pairs, text):
    chat = chat_after(steps(*pairs), text)
    assert [turn.role for turn in chat.turns] == (["user", "assistant", "user"] if pairs else ["user"])
    assert chat.turns[-1].text.strip() == text.strip()
    assert chat.input_type == ("history" if pairs else "single")
    if pairs:
        assert pairs[-1][1] in chat.turns[1].text
        assert chat.turns[0].text == (pairs[0][0] if len(pairs) == 1 else pairs[-1][1])
        assert chat_after(steps(*pairs[:-1]), pairs[-1][0]).turns[-1].text == pairs[-1][0], "what was taken back can be said again"


@pytest.mark.parametrize("text", ["", " \n\t"])
@pytest.mark.parametrize("before", [[], steps(("a car", "a car"))])
def test_nothing_said_is_nothing_to_paint(before, text):
    with pytest.raises(BadInput, match="nothing to paint"):
        chat_after(before, text)


@given(st.sampled_from(sorted(COMMANDS)), st.text(max_size=20))
def test_a_command_is_read_with_its_argument(name, argument):
    assert read_command(f"/{name} {argument}") == (name, argument.strip())
    assert read_command(f"/{name}") == (name, "")


@given(st.text(max_size=20))
def test_what_begins_with_no_slash_is_said_to_the_planner(line):
    assume(not line.startswith("/"))
    assert read_command(line) is None


@pytest.mark.parametrize("line", ["/", "/sed 7", "/Undo", "/undo7", "/imagine a cat", "//undo", "/ undo"])
def test_an_unknown_command_names_those_there_are(line):
    with pytest.raises(BadInput, match="There is no command") as told:
        read_command(line)
    assert all(f"/{name}" in str(told.value) for name in COMMANDS)


def test_a_tab_parts_a_command_from_its_argument():
    assert read_command("/seed\t7") == ("seed", "7")


# ------------------------------------------------------------------------------------------------------------- likeness

words = st.sampled_from(["red", "blue", "cat", "dog", "sea", "night", "car", "on", "the"])
prompts = st.lists(words, max_size=6).map(" ".join)


def cosine(prompts, place, asked):
    """TF-IDF with presence for frequency, from its definition."""
    bags = [set(prompt.split()) for prompt in prompts]

    def weight(word):
        count = sum(word in bag for bag in bags)
        return math.log((1 + len(bags)) / count) if count else 0.0

    own, other = bags[place], set(asked.split())
    lengths = [math.fsum(weight(word) ** 2 for word in bag) ** 0.5 for bag in (own, other)]
    return math.fsum(weight(word) ** 2 for word in own & other) / (lengths[0] * lengths[1]) if all(lengths) else 0.0


@given(st.lists(prompts, max_size=7), prompts, st.integers(0, 9))
def test_the_nearest_are_the_nearest_by_the_words_they_share(listed, asked, count):
    found = [int(each.id) for each in Shelf(shown(*listed)).nearest(asked, count)]
    assert len(found) == len(set(found)) == min(count, len(listed))
    likeness = [cosine(listed, place, asked) for place in range(len(listed))]
    assert [likeness[place] for place in found] == pytest.approx(sorted(likeness, reverse=True)[: len(found)], abs=1e-9)


def test_rare_words_count_more_than_common_ones():
    listed = ["a cat by day", "a cat by night", "a cat at sea", "zeppelin cat"]
    assert Shelf(shown(*listed)).nearest("a zeppelin by", 1)[0].plan.prompt == "zeppelin cat"


def test_of_prompts_that_share_nothing_the_earlier_come_first():
    assert [each.id for each in Shelf(shown("a cat", "a dog", "", "a cat")).nearest("zeppelin", 3)] == ["0", "1", "2"]
    assert [each.id for each in Shelf(shown("a cat", "a dog", "A CAT!", "a, cat")).nearest("cat", 3)] == ["0", "2", "3"]
    assert Shelf([]).nearest("cat", 3) == []


def test_equals_are_equal_whatever_order_their_words_have():
    names = [
        "red",
        "blue",
        "cat",
        "dog",
        "tree",
        "house",
        "sky",
        "sea",
        "night",
        "day",
        "neon",
        "photo",
        "car",
        "boat",
        "star",
        "moon",
        "sun",
        "rain",
        "snow",
        "wind",
    ]
    import random

    for seed in range(2000):
        drawn = random.Random(seed)
        first = drawn.sample(names, 12)
        second = drawn.sample(first, 12)
        listed = [" ".join(each) for each in (first, second, names[:5], names[3:9], names[8:12])]
        assert [each.id for each in Shelf(shown(*listed)).nearest(" ".join(first), 2)] == ["0", "1"]


def test_words_are_read_without_case_and_signs():
    assert words_of("A Cat, a (DOG:1.2) caf\u00e9_1") == {"a", "cat", "dog", "1", "2", "caf\u00e9_1"}
