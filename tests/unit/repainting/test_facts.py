"""Facts of a reference as questions, from odd trees too, and the rating by facts from end to end."""

import json

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image

from vernissage.drivers.fake import FakeMLLM
from vernissage.errors import DriverError, ReplyError, VernissageError
from vernissage.ports import Ask
from vernissage.records.picture import Picture, Provenance
from vernissage.records.plan import Arguments, Plan
from vernissage.records.tree import SceneObject, UnderstandingTree
from vernissage.records.verdict import Answer, Score, Unscored, Verdict
from vernissage.repainting.facts import facts_to_ask, share_of_facts
from vernissage.repainting.lockstep import Ports
from vernissage.repainting.loop import Settings, repaint_all

RED = Image.new("RGB", (16, 16), "red")
PLAN = Plan(prompt="x", model="m", arguments=Arguments(width=16, height=16))


def thing(name: str, /, **features: str) -> SceneObject:
    return SceneObject(name=name, features=features)


def facts(*things: SceneObject, relations: tuple[str, ...] = (), **whole: str) -> list[str]:
    return list(facts_to_ask(UnderstandingTree(caption="A caption.", objects=things, relations=relations, **whole)))


# --------------------------------------------------------------------------------------------------------- the whole


@pytest.mark.parametrize(
    ("composition", "questions"),
    [
        ("", []),
        (", , ", []),
        ("centred, , two groups, in the sky, ", ["Does it show centred?", "Does it show two groups?", "Is the picture in the sky?"]),
        ("In a city, Outdoors, undersea", ["Is the picture In a city?", "Is the picture Outdoors?", "Is the picture undersea?"]),
        ("inner ring, online shop, atlas", ["Does it show inner ring?", "Does it show online shop?", "Does it show atlas?"]),
        ("two groups, two groups", ["Does it show two groups?"]),
    ],
)
def test_each_part_of_the_composition_is_a_fact(composition, questions):
    assert facts(composition=composition) == questions


@pytest.mark.parametrize(
    ("style", "question"),
    [
        ("oil painting", "Is this an oil painting picture?"),
        ("neon", "Is this a neon picture?"),
        ("Ukiyo-e", "Is this an Ukiyo-e picture?"),
        ("日本画", "Is this a 日本画 picture?"),
        ("an oil painting", "Is this an oil painting picture?"),
        ("Photo.", "Is this a Photo picture?"),
    ],
)
def test_the_style_is_a_fact(style, question):
    assert facts(style=style) == [question]


def test_light_and_colours_are_facts_and_what_was_not_seen_is_none():
    assert facts(lighting="low sun", colour_palette="warm") == ["Is the lighting low sun?", "Are its colours warm?"]
    assert facts() == []


# ----------------------------------------------------------------------------------------------------------- objects


@pytest.mark.parametrize("count", ["1", "one", "One", "ONE", "a", "an", "single"])
def test_one_of_a_thing_is_asked_in_the_singular(count):
    assert facts(thing("cat", count=count, colour="red")) == ["Is there a cat?", "Is there exactly one cat?", "Is the cat red?"]


@pytest.mark.parametrize("count", ["2", "two", "12", "twenty-one"])
def test_several_of_a_thing_are_asked_in_the_plural(count):
    assert facts(thing("lorry", count=count, colour="red", posture="parked")) == [
        "Is there a lorry?",
        "Is the posture of the lorries parked?",
        f"Are there exactly {count} lorries?",
        "Are the lorries red?",
    ]


@pytest.mark.parametrize(
    ("count", "questions"),
    [
        ("1.0", ["Is there a cat?", "Is there exactly one cat?"]),
        (" 1 ", ["Is there a cat?", "Is there exactly one cat?"]),
        ("several", ["Is there a cat?", "Are there several cats?"]),
        ("many", ["Is there a cat?", "Are there many cats?"]),
        ("two cats", ["Is there a cat?", "Are there exactly two cats?"]),
        ("no", []),
        ("0", []),
    ],
)
def test_odd_counts_are_asked_so_that_the_reference_s_answer_is_yes(count, questions):
    assert facts(thing("cat", count=count)) == questions


@pytest.mark.parametrize(
    ("name", "count", "questions"),
    [
        ("owl", "", ["Is there an owl?"]),
        ("one-eyed cat", "", ["Is there a one-eyed cat?"]),
        ("café", "3", ["Is there a café?", "Are there exactly 3 cafés?"]),
        ("猫", "2", ["Is there a 猫?", "Are there exactly 2 猫s?"]),
        ("salt, pepper", "", ["Is there a salt, pepper?"]),
        ("a cat", "", ["Is there a cat?"]),
        ("the dog", "", ["Is there a dog?"]),
        ("flowers", "3", ["Are there flowers?", "Are there exactly 3 flowers?"]),
        ("person", "2", ["Is there a person?", "Are there exactly 2 people?"]),
    ],
)
def test_a_thing_is_asked_for_by_its_name(name, count, questions):
    assert facts(thing(name, **({"count": count} if count else {}))) == questions


def test_things_of_the_same_name_and_feature_are_asked_about_once():
    assert facts(thing("cat", colour="red"), thing("cat", colour="red"), thing("cat", colour="blue")) == [
        "Is there a cat?",
        "Is the cat red?",
        "Is the cat blue?",
    ]


@pytest.mark.parametrize(
    "tree",
    [
        UnderstandingTree(caption="x", objects=(SceneObject(name=""),)),
        UnderstandingTree(caption="x", objects=(SceneObject(name="cat", features={"colour": ""}),)),
        UnderstandingTree(caption="x", objects=(SceneObject(name="cat", features={"": "red"}),)),
        UnderstandingTree(caption="x", relations=("",)),
        UnderstandingTree(caption="x", style=" "),
    ],
)
def test_what_is_blank_in_a_tree_is_no_fact(tree):
    assert not [text for text in facts_to_ask(tree) if text != "Is there a cat?"]


# ---------------------------------------------------------------------------------------------------------- relations


@pytest.mark.parametrize(
    ("names", "relation", "question"),
    [
        (("cat", "dog"), "cat left of dog", "Is the cat left of the dog?"),
        (("cat", "dog"), "dog near dog", "Is the dog near the dog?"),
        (("cat", "cat tree"), "cat tree behind cat", "Is the cat tree behind the cat?"),
        (("cat", "cat tree"), "cat behind cat tree", "Is the cat behind the cat tree?"),
        (("c++ (x) [a|b]", "\\d+ .*"), "c++ (x) [a|b] beside \\d+ .*", "Is the c++ (x) [a|b] beside the \\d+ .*?"),
        (("\\d+ .*", "dog"), "7 cats near dog", "Does it show 7 cats near dog?"),
        (("猫", "café"), "猫 left of café", "Is the 猫 left of the café?"),
        (("cat", "dog"), "concatenate near dog", "Does it show concatenate near dog?"),
        (("cat", "dog"), "cat dog", "Does it show cat dog?"),
        (("cat",), "fog everywhere", "Does it show fog everywhere?"),
        ((), "cat left of dog", "Does it show cat left of dog?"),
        (("cat", "dog"), "cat left\nof dog", "Does it show cat left\nof dog?"),
        (("Cat", "dog"), "cat near dog", "Is the Cat near the dog?"),
        (("cat", "dog"), "the cat near the dog", "Is the cat near the dog?"),
        (("cat", "dog"), "cat near dog.", "Is the cat near the dog?"),
        (("cat", "dog"), "cat is near dog", "Is the cat near the dog?"),
    ],
)
def test_a_relation_is_a_question_about_two_things_or_stays_as_it_is(names, relation, question):
    assert facts(*(thing(name) for name in names), relations=(relation,))[-1] == question


def test_long_names_of_many_words_are_matched_without_delay():
    names = [" ".join(["a"] * 600), "a " * 599 + "b"]
    assert len(facts(*map(thing, names), relations=("a " * 600,))) == 3


WORDS = st.text(alphabet='ab ,.?*+([{\\|^$\n"é猫', max_size=8)


@examples(max_examples=80)
@given(
    st.lists(
        st.builds(SceneObject, name=WORDS, features=st.dictionaries(st.sampled_from(["count", "colour", "posture"]), WORDS)), max_size=3
    ),
    st.lists(WORDS, max_size=3),
    st.tuples(WORDS, WORDS, WORDS, WORDS),
)
def test_any_tree_gives_questions_each_once(things, relations, whole):
    style, lighting, palette, composition = whole
    tree = UnderstandingTree(
        caption="x",
        style=style,
        lighting=lighting,
        colour_palette=palette,
        composition=composition,
        objects=tuple(things),
        relations=tuple(relations),
    )
    found = facts_to_ask(tree)
    assert len(set(found)) == len(found)
    assert all(text.endswith("?") for text in found)
    assert facts_to_ask(tree) == found


# ------------------------------------------------------------------------------------------------------------- shares


def answer(question: str, yes: float | None) -> Answer:
    return Answer(question=question, yes=Unscored(reason="too dark") if yes is None else Score(value=yes))


def test_a_share_of_facts_is_the_mean_of_probabilities_with_the_unlikely_ones_as_the_reason():
    found = share_of_facts([answer("a?", 0.9), answer("b?", 0.4), answer("c?", 0.5), answer("d?", 0.0)])
    assert found.value == pytest.approx(0.45)
    assert found.reason == "no to: b? d?"
    assert share_of_facts([answer("a?", 1.0)]) == Score(value=1, reason="yes to all")


def test_a_share_of_facts_of_which_one_is_unknown_or_of_none_is_no_number():
    assert share_of_facts([answer("a?", 1), answer("b?", None)]) == Unscored(reason="b? too dark")
    assert share_of_facts([]) == Unscored(reason="the tree states no facts")


# --------------------------------------------------------------------------------------------------- from end to end

TOLD = {
    "caption": "A red cat and a car.",
    "overall": json.dumps({"style": "photo", "lighting": "noon"}),
    "objects": json.dumps({"objects": [{"name": "cat", "type": "animal"}, {"name": "car"}]}),
    "features": json.dumps({"count": "1", "colour": "red"}),
    "relations": json.dumps({"relations": ["cat left of car"]}),
    "describe": "a red cat, a car",
    "direct": "a red cat beside a car",
    "rewrite": "synonym",
    "compare": "more red",
    "revise": "revised",
    "rate": json.dumps({"reason": "fair", "rating": 4}),
}
ASKED = [
    "Is this a photo picture?",
    "Is the lighting noon?",
    "Is there a cat?",
    "Is there exactly one cat?",
    "Is the cat red?",
    "Is there a car?",
    "Is there exactly one car?",
    "Is the car red?",
    "Is the cat left of the car?",
]


def first_line(ask: Ask) -> str:
    return ask.messages[0].text.split()[0]


def redness(image: Image.Image) -> int:
    return image.getpixel((0, 0))[0]


def sees(text: str, image: Image.Image) -> bool:
    """Whether a picture shows a fact: cars in all, cats from a red of 100 on, what is red from 200 on."""
    return redness(image) >= (200 if "red" in text else 100 if "cat" in text else 0)


def talker(**changes) -> FakeMLLM:
    """Answers by the first word of a question, and a fact by looking at the picture."""
    answers = TOLD | {"question": lambda ask: "Yes." if sees(ask.messages[0].text, ask.messages[0].images[0]) else "no"} | changes

    def script(ask: Ask) -> str:
        found = answers[first_line(ask)]
        return found(ask) if callable(found) else found

    return FakeMLLM(script, brief=True)


class Reds:
    """Paints the reds it is told, one after another."""

    def __init__(self, *reds) -> None:
        self.reds = list(reds)

    def paint(self, plans, *, progress=None):
        return [self._one(plan, self.reds.pop(0)) for plan in plans]

    def _one(self, plan, red):
        if isinstance(red, VernissageError):
            return red
        return Picture.of(Image.new("RGB", (16, 16), (red, 0, 0)), Provenance(plan=plan))


class Judge:
    """Finds a fact 0.9 likely where the picture shows it, else 0.2; keeps what it was asked."""

    name = "strict"

    def __init__(self, blind: bool = False) -> None:
        self.blind = blind
        self.looked: list[tuple[str, tuple[str, ...]]] = []

    def judge(self, images, prompts, questions):
        self.looked += zip(prompts, questions, strict=True)
        return [self._one(image, each) for image, each in zip(images, questions, strict=True)]

    def _one(self, image, questions):
        unknown = Unscored(reason="too dark")
        answers = [
            Answer(question=text, yes=unknown if self.blind else Score(value=0.9 if sees(text, image) else 0.2)) for text in questions
        ]
        return Verdict(perception=Score(value=50), correspondence=Score(value=50), answers=tuple(answers), judge="strict")


def repaint(*reds, mllm=None, judge=None, rounds: int = 1, **values):
    chosen = Settings.model_validate({"rounds": rounds, "candidates": 3, "rate": ("facts",), "weights": {"facts": 1}} | values)
    (result,) = repaint_all([RED], PLAN, chosen, Ports(mllm or talker(), Reds(*reds), {}, judge))
    assert not isinstance(result, VernissageError), result
    return result.regeneration


def test_facts_decide_which_picture_is_the_best_and_are_asked_once_of_each():
    mllm = talker()
    done = repaint(50, 250, 150, mllm=mllm)
    tried = done.rounds[0].candidates
    assert [each.scores["facts"].value for each in tried] == pytest.approx([4 / 9, 1, 7 / 9])
    assert [each.selection for each in tried] == [Score(value=each.scores["facts"].value) for each in tried]
    assert done.rounds[0].best == 1
    assert tried[1].scores["facts"].reason == "yes to all"
    assert tried[2].scores["facts"].reason == "no to: Is the cat red? Is the car red?"
    asked = [ask.messages[0].text.removeprefix("question\n") for ask in mllm.asked if first_line(ask) == "question"]
    assert asked == ASKED * 3, "the rate of each round's best is known already"


def share(red: int) -> float:
    image = Image.new("RGB", (16, 16), (red, 0, 0))
    return sum(sees(text, image) for text in ASKED) / len(ASKED)


def test_the_shares_of_these_tests_are_as_counted_by_hand():
    assert [share(red) for red in (50, 150, 250)] == pytest.approx([4 / 9, 7 / 9, 1])


def test_facts_lead_over_rounds():
    done = repaint(50, 60, 70, 150, 50, 50, 120, 110, 100, rounds=3)
    assert [each.leads for each in done.rounds] == [True, True, False]
    assert done.best.scores["facts"].value == pytest.approx(7 / 9)


def test_a_fact_that_could_not_be_asked_of_one_picture_takes_facts_from_the_choice_of_that_round():
    def question(ask: Ask) -> str:
        if redness(ask.messages[0].images[0]) == 150 and "photo" in ask.messages[0].text:
            raise ReplyError("The model rambled.", reply="")
        return "yes"

    done = repaint(50, 150, 250, mllm=talker(question=question))
    first, second, third = done.rounds[0].candidates
    assert [isinstance(each.scores["facts"], Score) for each in (first, second, third)] == [True, False, True]
    assert second.scores["facts"].reason == "Is this a photo picture? The model rambled."
    assert all(isinstance(each.selection, Unscored) for each in (first, second, third))


@pytest.mark.parametrize("said", ["maybe", "", "There is a cat."])
def test_answers_that_are_neither_yes_nor_no_make_no_share(said):
    done = repaint(50, 150, 250, mllm=talker(question=said))
    assert all(isinstance(each.scores["facts"], Unscored) for each in done.rounds[0].candidates)


def test_a_picture_that_was_not_painted_is_asked_nothing():
    mllm = talker()
    done = repaint(DriverError("asleep"), 250, 150, mllm=mllm)
    assert done.rounds[0].best == 1
    assert sum(first_line(ask) == "question" for ask in mllm.asked) == 2 * len(ASKED)


@pytest.mark.parametrize("rater", ["mllm", "judge"])
def test_without_a_tree_there_are_no_facts_and_that_is_said(rater):
    mllm, judge = talker(), Judge()
    done = repaint(50, 150, 250, mllm=mllm, judge=judge, words="direct", rater=rater)
    assert done.tree is None
    for each in done.rounds[0].candidates:
        assert each.scores["facts"] == Unscored(reason="the tree states no facts")
        assert isinstance(each.selection, Unscored)
    assert not [ask for ask in mllm.asked if first_line(ask) == "question"]
    assert {questions for _, questions in judge.looked} <= {()}


def test_a_tree_of_a_caption_alone_states_no_facts():
    nothing = talker(overall="{}", objects='{"objects": []}')
    done = repaint(50, 150, 250, mllm=nothing)
    assert done.tree is not None
    assert {each.scores["facts"] for each in done.rounds[0].candidates} == {Unscored(reason="the tree states no facts")}


def test_a_judge_answers_facts_by_probability_in_one_look_a_picture():
    mllm, judge = talker(), Judge()
    done = repaint(50, 250, 150, mllm=mllm, judge=judge, rater="judge")
    assert [each.scores["facts"].value for each in done.rounds[0].candidates] == pytest.approx(
        [0.9 * share(red) + 0.2 * (1 - share(red)) for red in (50, 250, 150)]
    )
    assert done.rounds[0].best == 1
    assert judge.looked == [(done.prompt, tuple(ASKED))] * 3
    assert not [ask for ask in mllm.asked if first_line(ask) in ("question", "rate")]


def test_a_judge_that_cannot_answer_leaves_facts_unscored():
    done = repaint(50, 250, 150, judge=Judge(blind=True), rater="judge")
    assert {each.scores["facts"] for each in done.rounds[0].candidates} == {Unscored(reason="Is this a photo picture? too dark")}


def test_without_a_judge_facts_by_a_judge_are_unscored_with_the_reason():
    done = repaint(50, 250, 150, rater="judge")
    assert {each.scores["facts"] for each in done.rounds[0].candidates} == {Unscored(reason="there is no judge here")}


@pytest.mark.parametrize("rater", ["mllm", "judge"])
def test_facts_without_a_weight_are_asked_of_each_round_s_best_alone(rater):
    mllm, judge = talker(), Judge()
    done = repaint(50, 250, 150, mllm=mllm, judge=judge, rater=rater, weights={"ssim": 1})
    (round,) = done.rounds
    assert [index for index, each in enumerate(round.candidates) if "facts" in each.scores] == [round.best]
    asked = [ask for ask in mllm.asked if first_line(ask) == "question"]
    assert (len(asked), len(judge.looked)) == ((len(ASKED), 0) if rater == "mllm" else (0, 1))


def test_facts_beside_other_ratings_do_not_mix_up_their_answers():
    done = repaint(50, 250, 150, rate=(), weights={"match": 1, "facts": 1, "consistency": 1, "perception": 1})
    for each, red in zip(done.rounds[0].candidates, (50, 250, 150), strict=True):
        assert {name: each.scores[name].value for name in ("match", "consistency", "perception")} == dict.fromkeys(
            ("match", "consistency", "perception"), 0.75
        )
        assert each.scores["facts"].value == pytest.approx(share(red))
        assert each.selection.value == pytest.approx((3 * 0.75 + share(red)) / 4)


def test_references_side_by_side_are_asked_their_own_facts():
    def features(ask: Ask) -> str:
        return json.dumps({"colour": "red" if redness(ask.messages[0].images[0]) else "blue"})

    asked: dict[int, set[str]] = {}

    def question(ask: Ask) -> str:
        asked.setdefault(redness(ask.messages[0].images[0]), set()).add(ask.messages[0].text)
        return "yes"

    chosen = Settings(rounds=1, candidates=1, rate=("facts",), weights={"facts": 1})
    ports = Ports(talker(features=features, question=question), Reds(10, 20), {})
    results = repaint_all([RED, Image.new("RGB", (16, 16), "blue")], PLAN, chosen, ports)
    assert all(each.regeneration.best.scores["facts"].value == 1 for each in results)
    assert "question\nIs the cat red?" in asked[10] - asked[20]
    assert "question\nIs the cat blue?" in asked[20] - asked[10]
