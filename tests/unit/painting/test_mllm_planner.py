"""Planners that are a language model that nobody trained: asked for whole plans, or for the prompt alone."""

import json

import numpy as np
import pytest
from PIL import Image

from cards import card
from vernissage.drivers.fake import FakeMLLM
from vernissage.errors import BadInput, DriverError, ReplyError, UnknownName
from vernissage.painting.mllm_planner import MLLMPlanner
from vernissage.painting.reply import PlanReply
from vernissage.painting.rewriting import RewritingPlanner
from vernissage.painting.road import MAX_TEXT
from vernissage.ports import Given
from vernissage.records.chat import Chat, Turn
from vernissage.records.plan import Arguments, Choice, Plan
from vernissage.zoo.card import Demonstration
from vernissage.zoo.catalogue import Catalogue

CATALOGUE = Catalogue([card("ink"), card("oil", defaults={"sampler": "DDIM", "steps": 9, "cfg_scale": 2.0}, width=128, height=32)])
OIL = Arguments(sampler="DDIM", steps=9, cfg_scale=2.0, width=128, height=32)


def reply(**values) -> str:
    return json.dumps({"prompt": "a cat", "model": "ink"} | values)


class Weighing(FakeMLLM):
    """Finds oil likelier wherever the question speaks of dogs."""

    def choose(self, asks, options):
        self.asked += asks
        return [np.array([0.25, 0.75] if "dog" in ask.messages[0].text else [0.9, 0.1]) for ask in asks]


class Mute(FakeMLLM):
    """Cannot tell how likely anything is."""

    def choose(self, asks, options):
        return [DriverError("cannot") for _ in asks]


def plan(planner, texts, given=(), pictures=None, catalogue=CATALOGUE):
    return planner.plan([Chat.of(text) for text in texts], pictures or [[] for _ in texts], catalogue, given)


# ------------------------------------------------------------------------------------------------------ whole plans


def test_the_plan_is_the_models_with_the_others_likelihoods():
    mllm = Weighing([reply(steps=7), reply(prompt="a dog")])
    one, other = plan(MLLMPlanner(mllm), ["cat please", "dog please"])
    assert (one.prompt, one.model, one.arguments.steps) == ("a cat", "ink", 7)
    assert one.choices == (Choice(model="ink", probability=0.9), Choice(model="oil", probability=0.1))
    assert (other.prompt, other.model) == ("a dog", "ink"), "the model that the plan names stays"
    assert [choice.model for choice in other.choices] == ["oil", "ink"]


def test_the_planner_bears_the_name_of_its_model():
    assert MLLMPlanner(FakeMLLM()).name == "fake"
    assert RewritingPlanner(FakeMLLM()).name == "baseline with fake"


def test_pictures_go_with_their_own_chats():
    mllm = Weighing([reply(), reply()])
    picture = Image.new("RGB", (8, 8), "red")
    plan(MLLMPlanner(mllm), ["one", "two"], pictures=[[], [picture]])
    assert [ask.messages[0].images for ask in mllm.asked[:2]] == [(), (picture,)]


def test_without_likelihoods_there_are_no_choices_and_nothing_is_made_up():
    (found,) = plan(MLLMPlanner(Mute([reply()])), ["cat"])
    assert found.choices == ()


def test_one_that_cannot_be_planned_fails_alone_and_the_others_keep_their_places():
    script = [reply(), "I'd rather not.", reply(prompt="a dog"), reply(model="wax")]
    one, bad, other, unknown = plan(MLLMPlanner(Weighing(script)), ["a", "b", "c", "d"])
    assert [each.prompt for each in (one, other)] == ["a cat", "a dog"]
    assert [len(each.choices) for each in (one, other)] == [2, 2]
    assert isinstance(bad, ReplyError)
    assert isinstance(unknown, ReplyError)
    assert "'wax'" in str(unknown)


def test_where_the_prompt_is_given_only_the_model_is_chosen_for_it():
    mllm = Weighing(lambda _: pytest.fail("a plan was asked for"))
    given = [Given(prompt="a  dog <lora:x:1>"), Given(prompt="a cat")]
    plans = plan(MLLMPlanner(mllm), ["x", "y"], given)
    assert [(each.prompt, each.model) for each in plans] == [("a  dog <lora:x:1>", "oil"), ("a cat", "ink")]
    assert [each.choices[0].model for each in plans] == ["oil", "ink"]


def test_a_given_prompt_among_others_is_given_to_its_own_chat():
    mllm = Weighing([reply(prompt="first"), reply(prompt="third")])
    plans = plan(MLLMPlanner(mllm), ["a", "b", "c"], [Given(), Given(prompt="a dog"), Given()])
    assert [each.prompt for each in plans] == ["first", "a dog", "third"]


def test_a_given_model_is_kept_with_a_given_prompt():
    (found,) = plan(MLLMPlanner(Weighing()), ["x"], [Given(prompt="a dog", model="ink")])
    assert (found.prompt, found.model) == ("a dog", "ink")


PORT = "ports.Planner: plans that their models can paint, with what is given kept"


def test_a_given_model_is_kept_where_the_prompt_is_open():
    (found,) = plan(MLLMPlanner(Weighing([reply(model="ink")])), ["x"], [Given(model="oil")])
    assert found.model == "oil"


def test_a_given_model_takes_the_place_of_one_that_there_is_not_and_brings_its_own_arguments():
    mllm = Weighing([reply(model="wax", steps=33), reply(model="oil", steps=33)])
    found, same = plan(MLLMPlanner(mllm), ["x", "y"], [Given(model="oil")] * 2)
    assert (found.prompt, found.model, found.arguments) == ("a cat", "oil", OIL)
    assert same.arguments.steps == 33
    catalogue = Catalogue(CATALOGUE.values(), along=["oil"])
    plans = plan(MLLMPlanner(Weighing([reply(model="wax"), reply(model="oil")])), ["x", "y"], [Given(model="oil")] * 2, catalogue=catalogue)
    assert [each.model for each in plans] == ["oil", "oil"]
    (unknown,) = plan(MLLMPlanner(Weighing([reply()])), ["x"], [Given(model="wax")])
    assert isinstance(unknown, UnknownName)


@pytest.mark.parametrize("given", [Given(prompt="a dog"), Given(prompt="a dog", model="oil")])
def test_a_given_prompt_is_kept_by_a_model_that_cannot_tell_likelihoods(given):
    (found,) = plan(MLLMPlanner(Mute([reply(prompt="a splendid dog", model="oil" if given.model is None else "ink")])), ["x"], [given])
    assert (found.prompt, found.model) == ("a dog", "oil")


def test_a_plan_for_a_given_prompt_has_arguments():
    (found,) = plan(MLLMPlanner(Weighing()), ["x"], [Given(prompt="a dog")])
    assert found.arguments == OIL


def test_a_given_prompt_that_is_far_too_long_fails_alone():
    given = [Given(), Given(prompt="x" * (MAX_TEXT + 1))]
    one, bad = plan(MLLMPlanner(Mute([reply()])), ["a", "b"], given)
    assert one.prompt == "a cat"
    assert isinstance(bad, BadInput)


def test_models_that_only_come_along_are_not_offered_or_chosen():
    mllm = Weighing(lambda _: reply(model="oil"))
    catalogue = Catalogue(CATALOGUE.values(), along=["oil"])
    mllm.choose = lambda asks, options: [np.ones(1) for _ in asks] if options == ["ink"] else pytest.fail(f"asked about {options}")
    (error,) = plan(MLLMPlanner(mllm), ["x"], catalogue=catalogue)
    assert isinstance(error, ReplyError)
    assert "Good at oil" not in mllm.asked[0].messages[0].text
    (found,) = plan(MLLMPlanner(mllm), ["x"], [Given(prompt="a dog")], catalogue=catalogue)
    assert found.model == "ink"


def test_nothing_is_asked_where_nothing_is_to_be_planned():
    for planner in (MLLMPlanner(Weighing()), RewritingPlanner(FakeMLLM())):
        assert planner.plan([], [], CATALOGUE) == []


# --------------------------------------------------------------------------------------------------------- baseline


def test_the_baseline_rewords_and_takes_the_first_models_defaults():
    mllm = FakeMLLM(["  a red\n cat, ink  "])
    (found,) = plan(RewritingPlanner(mllm), ["a cat, red"])
    assert found == Plan(prompt="a red cat, ink", model="ink", arguments=CATALOGUE["ink"].complete(CATALOGUE["ink"].defaults))
    assert mllm.asked[0].reply is None
    assert "a cat, red" in mllm.asked[0].messages[0].text


def test_the_baseline_is_shown_requests_with_prompts_and_what_its_model_painted_well():
    shown = [Demonstration(prompt=f"a heron {number}") for number in range(5)]
    cards = [CATALOGUE["ink"].model_copy(update={"demonstrations": tuple(shown)}), CATALOGUE["oil"]]
    mllm = FakeMLLM(lambda _: "a cat")
    plans = RewritingPlanner(mllm).plan([Chat(turns=(Turn(text="a cat"),))] * 2, [()] * 2, Catalogue(cards), [Given(), Given(model="oil")])
    assert [each.model for each in plans] == ["ink", "oil"]
    first, second = (ask.messages[0].text for ask in mllm.asked)
    assert [f"a heron {number}" in first for number in range(5)] == [True, True, True, False, False]
    assert "heron" not in second
    assert all("Request: can you do my grandma's old red bike" in text for text in (first, second))


def test_the_baseline_paints_everything_with_one_model():
    mllm = FakeMLLM(lambda _: "a dog")
    plans = plan(RewritingPlanner(mllm, model="oil"), ["a", "b"])
    assert [(each.model, each.arguments) for each in plans] == [("oil", OIL)] * 2
    (unknown,) = plan(RewritingPlanner(mllm, model="wax"), ["a"])
    assert isinstance(unknown, UnknownName)


def test_the_baseline_keeps_what_is_given():
    given = [Given(prompt="a dog"), Given(model="oil"), Given(prompt="a dog", model="oil"), Given()]
    plans = plan(RewritingPlanner(FakeMLLM(lambda _: "a cat")), ["a", "b", "c", "d"], given)
    assert [(each.prompt, each.model) for each in plans] == [("a dog", "ink"), ("a cat", "oil"), ("a dog", "oil"), ("a cat", "ink")]
    assert plans[2].arguments == OIL


def test_a_given_model_that_there_is_no_card_of_fails_alone():
    one, bad = plan(RewritingPlanner(FakeMLLM(lambda _: "a cat")), ["a", "b"], [Given(), Given(model="wax")])
    assert one.prompt == "a cat"
    assert isinstance(bad, UnknownName)


def test_the_baseline_hears_every_turn_and_sees_every_picture():
    mllm = FakeMLLM(lambda _: "a cat")
    chat = Chat(turns=(Turn(text="a cat"), Turn(role="assistant", text="Here."), Turn(text="but red")))
    picture = Image.new("RGB", (8, 8))
    RewritingPlanner(mllm).plan([chat], [[picture]], CATALOGUE)
    (ask,) = mllm.asked
    assert [ask.messages[0].text.count(turn.text) >= 1 for turn in chat.turns] == [True] * 3
    assert ask.messages[0].images == (picture,)


def test_a_baseline_that_says_nothing_or_fails_fails_alone():
    one, silent, gone = plan(RewritingPlanner(FakeMLLM(["a cat", " \n "])), ["a", "b", "c"])
    assert one.prompt == "a cat"
    assert isinstance(silent, ReplyError)
    assert "said nothing" in str(silent)
    assert isinstance(gone, ReplyError)
    assert "run out" in str(gone)


def test_a_baseline_that_fails_where_the_prompt_is_given_is_no_failure_of_the_others():
    one, other = plan(RewritingPlanner(FakeMLLM(["", "a cat"])), ["a", "b"], [Given(prompt="a dog"), Given()])
    assert (one.prompt, other.prompt) == ("a dog", "a cat")


def test_a_plan_is_asked_for_as_a_record():
    mllm = Weighing([reply()])
    plan(MLLMPlanner(mllm), ["x"])
    assert mllm.asked[0].reply is PlanReply
