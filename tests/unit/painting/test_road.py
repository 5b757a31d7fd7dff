"""The painting road, station by station, with scripted models."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cards import card
from vernissage.api import Studio
from vernissage.drivers.fake import FakeEncoder, FakeMLLM, FakeT2I
from vernissage.errors import BadInput, BadPlan, DriverError, OutOfMemory, Refused, ReplyError, UnknownName, UserError
from vernissage.painting.road import MAX_TEXT, Overrides, check_overrides, choose, fit_arguments, listen, override, paint_plans, plan_chats
from vernissage.records.chat import Chat, Turn
from vernissage.records.picture import Picture
from vernissage.records.plan import Arguments, Lora, Plan
from vernissage.zoo.catalogue import Catalogue

INK, OIL = card("ink"), card("oil", defaults={"sampler": "DDIM", "steps": 9, "cfg_scale": 2.0}, width=128, height=32)
CATALOGUE = Catalogue([INK, OIL])


def reply(**values) -> str:
    return json.dumps({"prompt": "a cat", "model": "ink"} | values)


class Chooser(FakeMLLM):
    """Weighs the options as told, or cannot."""

    def __init__(self, weights, script=()):
        super().__init__(script)
        self.weights = weights

    def choose(self, asks, options):
        self.asked += asks
        return [self.weights for _ in asks]


def studio(mllm: FakeMLLM) -> Studio:
    made = Studio()
    made.all_models = made.catalogue = CATALOGUE
    made.mllm, made.t2i, made.clip = mllm, FakeT2I(CATALOGUE), FakeEncoder()
    return made


def plan_one(text: str, catalogue: Catalogue = CATALOGUE):
    (found,) = plan_chats([Chat.of("a cat please")], [[]], FakeMLLM([text]), catalogue)
    return found


# ----------------------------------------------------------------------------------------------------------- listen


@pytest.mark.parametrize("text", ["", " ", "\n\t \u3000"])
def test_an_empty_text_is_refused_with_an_example(text):
    with pytest.raises(BadInput, match="nothing to paint") as caught:
        listen(text)
    assert "a red car" in caught.value.hint
    with pytest.raises(BadInput):
        listen(Chat(turns=(Turn(text="a cat"), Turn(text=text))))


def test_a_picture_without_words_is_enough():
    picture = Image.new("RGB", (8, 8))
    assert listen("", images=[picture]).turns[-1].text == ""
    assert listen(Chat(turns=(Turn(text=""),)), images=[picture]).turns[-1].text == ""


def test_a_huge_text_is_refused_with_the_limit():
    assert listen("x" * MAX_TEXT).turns[0].text == "x" * MAX_TEXT
    long = "x" * (MAX_TEXT + 1)
    for request, history in ((long, ()), (Chat(turns=(Turn(text=long), Turn(text="and red"))), ()), ("and red", (Turn(text=long),))):
        with pytest.raises(BadInput, match=str(MAX_TEXT)):
            listen(request, history=history)


def test_spaces_around_the_text_are_dropped_and_earlier_turns_kept():
    history = (Turn(text="a cat"), Turn(role="assistant", text="Here."))
    assert listen("  but red\n", history=history) == Chat(turns=(*history, Turn(text="but red")))


def test_halves_of_characters_are_replaced():
    assert listen("a \udcff cat").turns[0].text == "a \N{REPLACEMENT CHARACTER} cat"


# ------------------------------------------------------------------------------------------------------------- plan


def test_a_reply_becomes_a_plan_with_the_cards_defaults():
    text = reply(negative_prompt="blurry", sampler="DDIM", steps=7, cfg_scale=3, width=96, height=32)
    arguments = Arguments(sampler="DDIM", steps=7, cfg_scale=3, width=96, height=32)
    assert plan_one(text) == Plan(prompt="a cat", negative_prompt="blurry", model="ink", arguments=arguments)
    assert plan_one(reply(model="oil")).arguments == Arguments(sampler="DDIM", steps=9, cfg_scale=2, width=128, height=32)


def test_adapters_in_a_planned_prompt_become_arguments():
    found = plan_one(reply(prompt="a cat <lora:grain:0.5>"))
    assert (found.prompt, found.arguments.loras) == ("a cat", (Lora(name="grain", weight=0.5),))


def test_a_planner_that_names_an_unknown_model_answered_unusably():
    error = plan_one(reply(model="mini/dream"))
    assert isinstance(error, ReplyError)
    assert "mini/dream" in str(error)
    assert "--model" in error.hint
    assert error.reply == reply(model="mini/dream")


@pytest.mark.parametrize(
    "text", ["", "a cat", "{}", reply(prompt=""), reply(prompt="  "), reply(prompt="<lora:x>"), reply(steps="many"), reply(model=None)]
)
def test_a_planner_that_answers_without_a_plan_answered_unusably(text):
    error = plan_one(text)
    assert isinstance(error, ReplyError)
    assert error.reply == text


@pytest.mark.parametrize(
    ("planned", "fitted"),
    [
        ({"steps": 200}, {"steps": 60}),
        ({"steps": 0}, {"steps": 4}),
        ({"steps": -5}, {"steps": 4}),
        ({"cfg_scale": 99}, {"cfg_scale": 10}),
        ({"cfg_scale": 0}, {"cfg_scale": 1}),
        ({"width": 500, "height": 1}, {"width": 128, "height": 32}),
        ({"width": 50, "height": 90}, {"width": 48, "height": 96}),
        ({"sampler": "Restart"}, {"sampler": "Euler"}),
        ({"sampler": ""}, {"sampler": "Euler"}),
        ({"steps": 10**400, "width": 10**400, "cfg_scale": 1e300}, {"steps": 60, "width": 128, "cfg_scale": 10}),
    ],
)
def test_arguments_out_of_range_are_brought_into_the_cards_range(planned, fitted):
    found = plan_one(reply(**planned))
    for name, value in fitted.items():
        assert getattr(found.arguments, name) == value
    assert INK.check(found) is None


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_guidance_that_is_no_number_is_the_cards_own_or_its_nearest(word):
    found = plan_one('{"prompt": "a cat", "model": "ink", "cfg_scale": ' + word + "}")
    assert found.arguments.cfg_scale == {"NaN": 4.0, "Infinity": 10.0, "-Infinity": 1.0, "1e999": 10.0}[word]


numbers = st.none() | st.integers() | st.integers(10**300, 10**301)


@settings(max_examples=100, deadline=None, database=None)
@given(
    arguments=st.builds(
        Arguments,
        steps=numbers,
        width=numbers,
        height=numbers,
        cfg_scale=st.none() | st.floats(),
        sampler=st.none() | st.sampled_from(["DDIM", "x"]),
    ),
    multiple=st.integers(1, 60),
    low=st.integers(8, 400),
)
def test_whatever_a_planner_plans_its_model_can_paint_it(arguments, multiple, low):
    odd = card("odd", size_multiple=multiple, sizes={"low": low, "high": low + 100})
    fitted = fit_arguments(arguments.model_copy(update={"width": arguments.width or 1, "height": arguments.height or 1}), odd)
    assert odd.check(Plan(prompt="x", model="odd", arguments=fitted)) is None


def test_a_sampler_left_empty_is_the_cards_own_even_where_any_will_do():
    found = fit_arguments(Arguments(sampler=""), card("any", samplers=[]))
    assert found.sampler == "Euler"
    assert fit_arguments(Arguments(sampler="LMS"), card("any", samplers=[])).sampler == "LMS"


def test_one_bad_reply_in_a_batch_does_not_hurt_the_others():
    chats = [Chat.of(f"request {number}") for number in range(4)]
    mllm = FakeMLLM([reply(prompt="first"), "I'd rather not.", reply(prompt="third")])
    first, second, third, fourth = plan_chats(chats, [[]] * 4, mllm, CATALOGUE)
    assert (first.prompt, third.prompt) == ("first", "third")
    assert isinstance(second, ReplyError)
    assert second.reply == "I'd rather not."
    assert isinstance(fourth, ReplyError)  # the script has run out


def test_the_planner_is_shown_the_chat_the_pictures_and_the_models():
    mllm = FakeMLLM([reply()])
    picture = Image.new("RGB", (8, 8))
    plan_chats([listen("now red", history=(Turn(text="a cat"),))], [[picture]], mllm, CATALOGUE)
    (message,) = mllm.asked[0].messages
    assert message.images == (picture,)
    for words in ("a cat", "now red", "Good at ink.", "Good at oil."):
        assert words in message.text


# ----------------------------------------------------------------------------------------------------------- choose


def test_the_runners_up_are_sorted_and_sum_to_one():
    plan = Plan(prompt="a cat", model="ink")
    (found,) = choose([plan], Chooser(np.array([0.25, 0.75])), CATALOGUE)
    assert [(choice.model, choice.probability) for choice in found.choices] == [("oil", 0.75), ("ink", 0.25)]
    assert sum(choice.probability for choice in found.choices) == pytest.approx(1)
    assert found.model == "ink"  # the planner's own model stays


def test_equal_models_keep_the_catalogues_order_and_rounding_does_no_harm():
    (found,) = choose([Plan(prompt="a cat", model="ink")], Chooser(np.array([0.5, 0.5])), CATALOGUE)
    assert [choice.model for choice in found.choices] == ["ink", "oil"]
    (found,) = choose([Plan(prompt="a cat", model="ink")], Chooser(np.array([1 + 1e-12, -1e-12])), CATALOGUE)
    assert [choice.probability for choice in found.choices] == [1, 0]


def test_a_chooser_that_fails_leaves_the_plan_without_runners_up():
    plans = [Plan(prompt="a cat", model="ink"), Plan(prompt="a dog", model="oil")]
    assert choose(plans, Chooser(Refused("gave no log-probabilities")), CATALOGUE) == plans


# --------------------------------------------------------------------------------------------------------- override


def test_what_the_caller_fixes_wins_over_the_plan():
    plan = Plan(prompt="a cat", negative_prompt="x", model="ink", arguments=Arguments(steps=7, seed=3, sampler="DDIM"))
    fixed = Overrides(prompt="a dog", negative_prompt="", arguments=Arguments(steps=5, width=32, seed=0))
    found = override(plan, fixed, CATALOGUE)
    assert (found.prompt, found.negative_prompt, found.model) == ("a dog", "", "ink")
    assert found.arguments == Arguments(steps=5, width=32, height=96, seed=0, sampler="DDIM", cfg_scale=4)


def test_nothing_fixed_leaves_the_plan_as_it_is_but_complete():
    plan = Plan(prompt="a cat", model="ink", arguments=Arguments(seed=3))
    assert override(plan, Overrides(), CATALOGUE) == plan.model_copy(update={"arguments": INK.complete(plan.arguments)})


def test_another_model_brings_its_own_defaults_and_keeps_the_seed():
    plan = Plan(prompt="a cat", model="ink", arguments=INK.complete(Arguments(steps=50, seed=3)))
    found = override(plan, Overrides(model="oil"), CATALOGUE)
    assert found.arguments == Arguments(sampler="DDIM", steps=9, cfg_scale=2, width=128, height=32, seed=3)


@pytest.mark.parametrize(
    ("fixed", "kind", "says"),
    [
        ({"model": "inc"}, UnknownName, "Did you mean 'ink'"),
        ({"prompt": ""}, BadPlan, "prompt is empty"),
        ({"prompt": " \n"}, BadPlan, "prompt is empty"),
        ({"arguments": {"steps": 0}}, BadPlan, "default is 20"),
        ({"arguments": {"width": 63}}, BadPlan, "nearest is 64"),
        ({"arguments": {"sampler": "Eular"}}, UnknownName, "Did you mean 'Euler'"),
        ({"arguments": {"cfg_scale": float("nan")}}, BadPlan, "cfg_scale"),
        ({"arguments": {"seed": -1}}, BadPlan, "Leave it out"),
        ({"model": "oil", "arguments": {"height": 5}}, BadPlan, "nearest is 32"),
    ],
)
def test_a_mistake_in_what_the_caller_fixes_is_found_before_any_model_is_asked(fixed, kind, says):
    mllm = FakeMLLM([reply()])
    overrides = Overrides.model_validate(fixed)
    with pytest.raises(kind, match=says):
        check_overrides(overrides, CATALOGUE)
    with pytest.raises(kind, match=says):
        studio(mllm).plan("a cat", **fixed.get("arguments", {}), **{name: value for name, value in fixed.items() if name != "arguments"})
    with pytest.raises(kind, match=says):
        override(Plan(prompt="a cat", model="ink"), overrides, CATALOGUE)
    assert mllm.asked == []


def test_what_only_one_of_the_models_takes_is_no_mistake_yet():
    wide = Catalogue([INK, card("wide", sizes={"low": 32, "high": 512})])
    assert check_overrides(Overrides(arguments=Arguments(width=512)), wide) is None


# --------------------------------------------------------------------------------------------------- the whole road


def test_with_prompt_and_model_given_no_language_model_is_asked():
    mllm = FakeMLLM()
    plan = studio(mllm).plan(prompt="a dog", model="oil", seed=1)
    assert (plan.prompt, plan.model, plan.choices) == ("a dog", "oil", ())
    assert plan.arguments == Arguments(sampler="DDIM", steps=9, cfg_scale=2, width=128, height=32, seed=1)
    assert mllm.asked == []


def test_with_a_prompt_given_only_the_model_is_chosen():
    mllm = Chooser(np.array([0.1, 0.9]))
    plan = studio(mllm).plan(prompt="a dog")
    assert (plan.prompt, plan.model, plan.arguments.steps) == ("a dog", "oil", 9)
    assert len(mllm.asked) == 1


def test_with_a_prompt_given_and_no_chooser_the_planner_names_the_model():
    mllm = Chooser(Refused("no log-probabilities"), [reply(prompt="a dog, nicely", model="oil")])
    plan = studio(mllm).plan(prompt="a dog")
    assert (plan.prompt, plan.model, plan.choices) == ("a dog", "oil", ())


def test_pictures_of_earlier_turns_are_shown_to_the_planner_oldest_first(tmp_path):
    paths = [tmp_path / f"{colour}.png" for colour in ("red", "blue")]
    for path in paths:
        Image.new("RGB", (8, 8), path.stem).save(path)
    mllm = FakeMLLM([reply(prompt="a cat", model="oil")] * 2)
    history = (Turn(text="like this", images=(paths[0],)), Turn(role="assistant", text="Here."))
    studio(mllm).plan("now so", history=history, images=[paths[1]])
    assert [image.getpixel((0, 0)) for image in mllm.asked[0].messages[0].images] == [(255, 0, 0), (0, 0, 255)]
    with pytest.raises(UserError, match=r"gone\.png"):
        studio(mllm).plan("now so", history=(Turn(text="this", images=(tmp_path / "gone.png",)),))


def test_with_a_model_given_the_prompt_is_planned_and_nothing_chosen():
    mllm = Chooser(np.array([0.1, 0.9]), [reply(prompt="a red cat", model="oil", steps=33)])
    plan = studio(mllm).plan("a cat, red", model="ink")
    assert (plan.prompt, plan.model, plan.arguments.steps, plan.choices) == ("a red cat", "ink", 20, ())
    assert len(mllm.asked) == 1


def test_a_request_is_planned_chosen_and_painted_with_its_likeness():
    mllm = Chooser(np.array([0.9, 0.1]), [reply()])
    pictures = studio(mllm).paint_several("a cat please", count=2, seed=5)
    assert [picture.plan.arguments.seed for picture in pictures] == [5, 6]
    for picture in pictures:
        assert picture.provenance.request == "a cat please"
        assert [choice.model for choice in picture.plan.choices] == ["ink", "oil"]
        assert -1 <= picture.provenance.similarity <= 1
        assert picture.image.size == (64, 96)


def test_a_planner_that_fails_is_raised():
    with pytest.raises(ReplyError):
        studio(FakeMLLM(["No."])).plan("a cat")


@pytest.mark.parametrize("request_text", ["", "  ", "x" * (MAX_TEXT + 1)])
def test_a_request_that_cannot_be_used_is_refused_before_any_model_is_asked(request_text):
    mllm = FakeMLLM([reply()])
    with pytest.raises(UserError):
        studio(mllm).plan(request_text)
    assert mllm.asked == []


def test_a_plan_that_cannot_be_painted_does_not_hurt_the_others():
    plans = [
        Plan(prompt="a", model="ink", arguments=INK.complete(Arguments(seed=1))),
        Plan(prompt="b", model="nobody"),
        Plan(prompt="c", model="oil", arguments=OIL.complete(Arguments(seed=1))),
    ]
    first, second, third = paint_plans(plans, FakeT2I(CATALOGUE), encoder=FakeEncoder(), request="r")
    assert isinstance(second, UnknownName)
    assert (first.plan.prompt, third.plan.prompt) == ("a", "c")
    assert None not in (first.provenance.similarity, third.provenance.similarity)


def test_without_an_encoder_no_likeness_is_made_up():
    (picture,) = paint_plans([Plan(prompt="a", model="ink")], FakeT2I())
    assert isinstance(picture, Picture)
    assert picture.provenance.similarity is None


def test_an_encoder_that_fails_costs_no_picture():
    class Small(FakeEncoder):
        def encode_text(self, texts):
            raise OutOfMemory("no room")

    pictures = paint_plans([Plan(prompt="a", model="ink")] * 2, FakeT2I(), encoder=Small(), request="r")
    assert [(picture.provenance.request, picture.provenance.similarity) for picture in pictures] == [("r", None)] * 2


def test_when_nothing_could_be_painted_the_errors_come_back():
    class Broken:
        def paint(self, plans, *, progress=None):
            return [DriverError("broken") for _ in plans]

    assert [str(error) for error in paint_plans([Plan(prompt="a", model="ink")] * 2, Broken(), encoder=FakeEncoder())] == ["broken"] * 2
