"""The repainting road, station by station and as a whole, with scripted models."""

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from vernissage import api
from vernissage.api import Studio
from vernissage.drivers.fake import FakeEncoder, FakeMLLM, FakeT2I
from vernissage.errors import BadInput, BadPlan, DriverError, OutOfMemory, ReplyError, UnknownName, VernissageError
from vernissage.metrics.similarity import ssim
from vernissage.ports import Ask, Reply
from vernissage.records.picture import Picture, Provenance
from vernissage.records.plan import Arguments, Plan
from vernissage.records.regeneration import ASPECTS, Candidate, Regeneration, Round
from vernissage.records.tree import SceneObject, UnderstandingTree
from vernissage.records.verdict import Answer, Rating, Score, Unscored, Verdict
from vernissage.repainting.describe import closest_phrases, describe, phrase_banks
from vernissage.repainting.drawing import draw_tree
from vernissage.repainting.facts import facts_to_ask
from vernissage.repainting.lockstep import Ports, run_together
from vernissage.repainting.loop import Settings, first_noise, repaint_all
from vernissage.repainting.replies import AnimalFeatures, NamedObject, ObjectFeatures, PersonFeatures
from vernissage.repainting.revise import TEMPERATURE, give_feedback, is_no_change, revise, rewrite
from vernissage.repainting.select import Attempt, Rater, is_better, read_rating, score_attempts, select, weigh
from vernissage.repainting.understand import MAX_CHARACTERS, understand, words_of
from vernissage.wiring import DriverConfig, StudioConfig
from vernissage.world import tell
from vernissage.world.scene import sample_scene

RED, BLUE = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
PLAN = Plan(prompt="x", model="m", negative_prompt="blurry", arguments=Arguments(width=16, height=16, steps=7))


def failure(*_: object) -> str:
    raise ReplyError("The model rambled.", reply="la la")


ANSWERS = {
    "caption": "A cat and a car.",
    "overall": json.dumps({"style": "photo", "lighting": "noon", "colour_palette": ""}),
    "objects": json.dumps({"objects": [{"name": "cat", "type": "animal"}, {"name": "car", "type": "vehicle"}]}),
    "features": json.dumps({"count": "1", "colour": "red", "species": "tabby", "function": "", "posture": "sitting"}),
    "relations": json.dumps({"relations": ["cat left of car", " "]}),
    "describe": "a cat, a car",
    "direct": "a cat beside a car",
    "rewrite": "synonym",
    "compare": "more red",
    "revise": "revised",
    "rate": json.dumps({"reason": "fair", "rating": 4}),
}
"""What the scripted MLLM answers by the first word of a question: a text or a function of the question."""


def said(ask: Ask) -> str:
    return ask.messages[0].text


def kind(ask: Ask) -> str:
    return said(ask).split()[0]


def scripted(**changes) -> FakeMLLM:
    answers = ANSWERS | changes

    def script(ask: Ask) -> str:
        answer = answers[kind(ask)]
        return answer(ask) if callable(answer) else answer

    return FakeMLLM(script, brief=True)


def walk(work, mllm: FakeMLLM | None = None, encoders=None):
    """The result of one piece of work; an error is returned."""
    (result,) = run_together([work], Ports(mllm or scripted(), FakeT2I(), encoders or {}))
    return result


class Angles:
    """Features whose cosine is 1 for equal greys and falls to 0 from black to white."""

    name = "angles"

    def encode(self, images):
        turns = np.array([image.convert("L").getpixel((0, 0)) for image in images]) / 255 * np.pi / 2
        return np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)

    def encode_text(self, texts):
        raise NotImplementedError


def cosine(grey: int) -> float:
    """Likeness of a grey to black."""
    return float(np.cos(grey / 255 * np.pi / 2))


class Greys:
    """Paints the greys it is told, one after another; an error stands for a picture that cannot be painted."""

    def __init__(self, *greys):
        self.greys = list(greys)
        self.painted: list[Plan] = []

    def paint(self, plans, *, progress=None):
        self.painted += plans
        return [self._one(plan, self.greys.pop(0)) for plan in plans]

    def _one(self, plan, grey):
        if isinstance(grey, VernissageError):
            return grey
        return Picture.of(Image.new("RGB", (16, 16), (grey, grey, grey)), Provenance(plan=plan))


BLACK = Image.new("RGB", (16, 16), "black")
BROKEN = DriverError("The painter fell asleep.")


def repaint(*greys, mllm: FakeMLLM | None = None, watch=None, **values):
    """Black repainted in those greys: what came of it and who painted."""
    t2i = Greys(*greys)
    ports = Ports(mllm or scripted(), t2i, {"clip": Angles()})
    chosen = Settings.model_validate({"weights": {"clip": 1}, "rate": (), "words": "direct"} | values)
    (result,) = repaint_all([BLACK], PLAN, chosen, ports, watch=watch)
    return result, t2i


# ------------------------------------------------------------------------------------------------------- understand


def test_a_picture_is_understood_in_two_waves_of_questions():
    waves, mllm = [], scripted()

    class Waves:
        brief, name = True, "waves"

        def answer(self, asks):
            waves.append([said(ask).splitlines() for ask in asks])
            return mllm.answer(asks)

    tree, failures = walk(understand(RED, brief=True), Waves())
    assert waves == [[["caption"], ["overall"], ["objects"]], [["features", "cat"], ["features", "car"], ["relations", "cat, car"]]]
    assert all(ask.messages[0].images == (RED,) for ask in mllm.asked)
    assert all((ask.temperature, ask.seed) == (0, 0) for ask in mllm.asked)
    assert failures == ()
    assert tree == UnderstandingTree(
        caption="A cat and a car.",
        style="photo",
        lighting="noon",
        objects=(
            SceneObject(name="cat", type="animal", features={"count": "1", "colour": "red", "posture": "sitting", "species": "tabby"}),
            SceneObject(name="car", type="object", features={"count": "1", "colour": "red"}),  # a vehicle is no type of ours
        ),
        relations=("cat left of car",),
    )


@pytest.mark.parametrize("type", ["vehicle", "", None, 5, ["animal"], {"a": 1}])
def test_an_unknown_type_of_object_is_object(type):
    assert NamedObject.model_validate({"name": "x", "type": type}).type == "object"
    assert NamedObject.model_validate({"name": "x", "type": "animal"}).type == "animal"


def test_features_are_asked_by_the_type_of_the_object():
    things = [{"name": "king", "type": "person"}, {"name": "cat", "type": "animal"}, {"name": "cup"}]
    mllm = scripted(objects=json.dumps({"objects": things}))
    walk(understand(RED, brief=True), mllm)
    asked = [ask.reply for ask in mllm.asked if kind(ask) == "features"]
    assert asked == [PersonFeatures, AnimalFeatures, ObjectFeatures]
    long = FakeMLLM(["A king.", "{}", json.dumps({"objects": things[:1]}), "{}"])
    walk(understand(RED, brief=False), long)
    assert "clothing" in said(long.asked[3])
    assert "species" not in said(long.asked[3])


def test_at_most_five_objects_are_looked_at_and_nameless_ones_are_not():
    names = ["", "a", "b", " ", "c", "d", "e", "f", "g"]
    mllm = scripted(objects=json.dumps({"objects": [{"name": name} for name in names]}))
    tree, _ = walk(understand(RED, brief=True), mllm)
    assert [thing.name for thing in tree.objects] == list("abcde")
    assert [said(ask) for ask in mllm.asked if kind(ask) == "relations"] == ["relations\na, b, c, d, e"]


@pytest.mark.parametrize("count", [0, 1])
def test_relations_are_not_asked_of_fewer_than_two_objects(count):
    mllm = scripted(objects=json.dumps({"objects": [{"name": "cat", "type": "animal"}] * count}))
    tree, failures = walk(understand(RED, brief=True), mllm)
    assert [kind(ask) for ask in mllm.asked] == ["caption", "overall", "objects", *["features"] * count]
    assert (len(tree.objects), tree.relations, failures) == (count, (), ())


@pytest.mark.parametrize("answer", [failure, "none", '{"style": 5}'])
def test_a_part_that_fails_is_left_empty_and_told(answer):
    tree, failures = walk(understand(RED, brief=True), scripted(overall=answer))
    assert tree.overall() == {}
    assert len(tree.objects) == 2
    assert len(failures) == 1
    assert failures[0].startswith("overall features: The ")


def test_every_part_but_the_caption_may_fail():
    tree, failures = walk(understand(RED, brief=True), scripted(overall=failure, objects=failure))
    assert tree == UnderstandingTree(caption="A cat and a car.")
    assert failures == ("overall features: The model rambled.", "objects: The model rambled.")
    tree, failures = walk(understand(RED, brief=True), scripted(features=failure, relations=failure))
    assert [(thing.name, thing.features) for thing in tree.objects] == [("cat", {}), ("car", {})]
    assert failures == tuple(f"{what}: The model rambled." for what in ("features of cat", "features of car", "relations"))


def test_features_that_fail_for_one_object_do_not_shift_to_another():
    def features(ask: Ask) -> str:
        return failure() if said(ask).endswith("cat") else json.dumps({"colour": "green"})

    tree, failures = walk(understand(RED, brief=True), scripted(features=features))
    assert [thing.features for thing in tree.objects] == [{}, {"colour": "green"}]
    assert tree.relations == ("cat left of car",)
    assert failures == ("features of cat: The model rambled.",)


@pytest.mark.parametrize("answer", [failure, "", " \n\t "])
def test_without_a_caption_there_is_no_tree(answer):
    mllm = scripted(caption=answer)
    assert isinstance(walk(understand(RED, brief=True), mllm), ReplyError)
    assert len(mllm.asked) == 3


def test_a_model_that_rambles_is_cut_off():
    tree, _ = walk(
        understand(RED, brief=True),
        scripted(
            caption="word " * 1000,
            overall=json.dumps({"style": "x" * 5000}),
            features=json.dumps({"colour": "y" * 5000}),
            relations=json.dumps({"relations": ["z" * 5000]}),
        ),
    )
    assert tree.caption == ("word " * 1000)[:MAX_CHARACTERS]
    assert {len(text) for text in (tree.style, tree.objects[0].features["colour"], tree.relations[0])} == {MAX_CHARACTERS}


def test_names_are_cut_off_before_they_are_asked_about():
    mllm = scripted(objects=json.dumps({"objects": [{"name": "cat " * 1000}, {"name": " old\n  car "}]}))
    tree, _ = walk(understand(RED, brief=True), mllm)
    long, short = (thing.name for thing in tree.objects)
    assert (long, short) == (("cat " * 1000)[:MAX_CHARACTERS], "old car")
    asked = [said(ask) for ask in mllm.asked if kind(ask) in {"features", "relations"}]
    assert all("cat " * 301 not in question for question in asked)
    assert asked[1].splitlines()[1] == "old car"


def test_blanks_are_stripped_and_what_is_blank_was_not_seen():
    features = json.dumps({"count": " 1\n", "colour": " \t ", "material": "soft\n\n  fur"})
    overall = json.dumps({"style": "  oil \n painting ", "lighting": " \n "})
    relations = json.dumps({"relations": [" cat  left\nof car ", "", "\n"]})
    tree, failures = walk(understand(RED, brief=True), scripted(features=features, overall=overall, relations=relations))
    assert tree.overall() == {"style": "oil painting"}
    assert [thing.features for thing in tree.objects] == [{"count": "1", "material": "soft fur"}] * 2
    assert tree.relations == ("cat left of car",)
    assert failures == ()


def test_halves_of_characters_do_not_get_into_a_record():
    assert words_of(Reply.model_construct(text="a \ud800 cat")) == "a \N{REPLACEMENT CHARACTER} cat"
    half = '{"style": "\\ud83d noon"}'
    tree, failures = walk(understand(RED, brief=True), scripted(overall=half))
    tree.model_dump_json().encode()
    assert "\ud83d" not in tree.outline()
    assert tree.style == "\N{REPLACEMENT CHARACTER} noon" or failures


def test_the_words_of_a_reply_are_its_text_on_one_line():
    assert words_of(Reply(text="  a cat,\n\n two  cars\t")) == "a cat, two cars"
    with pytest.raises(ReplyError, match="rambled"):
        words_of(ReplyError("The model rambled.", reply=""))


# --------------------------------------------------------------------------------------------------------- describe


def test_words_that_were_cut_off_are_none():
    with pytest.raises(ReplyError, match="cut off"):
        words_of(Reply(text="A cat that", cut=True))


def test_a_drawn_tree_is_xml_whatever_was_said():
    tree = UnderstandingTree(caption="a \x00\x1b cat & \ufffe dog <b>")
    (*_, text) = ElementTree.fromstring(draw_tree(tree)).iter("{http://www.w3.org/2000/svg}text")
    assert text.text == "a  cat &  dog <b>"


def test_the_tree_way_writes_the_prompt_from_the_outline_alone():
    mllm = scripted(overall=failure)
    prompt, tree, failures = walk(describe(RED, "tree", brief=True, clip=None), mllm)
    assert prompt == "a cat, a car"
    assert said(mllm.asked[-1]) == "describe\n" + tree.outline()
    assert mllm.asked[-1].messages[0].images == ()
    assert failures == ("overall features: The model rambled.",)


def test_the_direct_way_asks_one_question():
    mllm = scripted()
    assert walk(describe(RED, "direct", brief=True, clip=None), mllm) == ("a cat beside a car", None, ())
    assert [(said(ask), ask.messages[0].images) for ask in mllm.asked] == [("direct", (RED,))]


@pytest.mark.parametrize(
    ("words", "question"), [("tree", "describe"), ("tree", "caption"), ("direct", "direct"), ("interrogate", "caption")]
)
def test_a_picture_that_cannot_be_put_into_words_is_an_error(words, question):
    encoder = FakeEncoder()
    work = describe(RED, words, brief=True, clip=encoder)
    assert isinstance(walk(work, scripted(**{question: failure}), {"clip": encoder}), ReplyError)


def test_interrogating_adds_the_phrases_most_like_the_picture():
    encoder = FakeEncoder()
    prompt, tree, failures = walk(describe(RED, "interrogate", brief=True, clip=encoder), None, {"clip": encoder, "other": Angles()})
    (seen,) = encoder.encode([RED])
    expected = []
    for bank, phrases in phrase_banks().items():
        order = np.argsort(-(encoder.encode_text(phrases) @ seen))[: 3 if bank == "detail" else 1]
        expected += [phrases[place] for place in order]
    assert closest_phrases(seen, encoder) == expected
    assert prompt == ", ".join(["A cat and a car", *expected])
    assert (tree, failures) == (None, ())
    assert len(expected) == len(phrase_banks()) + 2


def test_interrogating_without_clip_is_a_mistake_that_asks_nothing():
    mllm = scripted()
    error = walk(describe(RED, "interrogate", brief=True, clip=None), mllm)
    assert isinstance(error, BadPlan)
    assert "--words" in error.hint
    assert mllm.asked == []


# ----------------------------------------------------------------------------------------------- rewrite and revise


def test_synonyms_are_drawn_with_seeds_that_differ_and_the_prompt_itself_stays_first():
    mllm = scripted(rewrite=lambda ask: f"synonym {ask.seed}")
    assert walk(rewrite("a cat", 4, seed=7, brief=True), mllm) == (["a cat", "synonym 7", "synonym 8", "synonym 9"], [])
    assert {ask.temperature for ask in mllm.asked} == {TEMPERATURE}
    assert {said(ask) for ask in mllm.asked} == {"rewrite\na cat"}
    assert TEMPERATURE > 0


def test_a_single_candidate_is_the_prompt_itself_and_asks_nothing():
    mllm = scripted()
    assert walk(rewrite("a cat", 1, seed=7, brief=True), mllm) == (["a cat"], [])
    assert mllm.asked == []


def test_revisions_are_the_likeliest_one_and_drawn_ones():
    mllm = scripted(revise=lambda ask: f"revision {ask.seed}")
    assert walk(revise("a cat", "more red", 3, seed=20, brief=True), mllm) == (["revision 20", "revision 21", "revision 22"], [])
    assert [ask.temperature for ask in mllm.asked] == [0, TEMPERATURE, TEMPERATURE]
    assert {said(ask) for ask in mllm.asked} == {"revise\na cat\nfeedback: more red"}


def test_in_place_of_a_rewritten_prompt_that_failed_stands_the_old_one():
    def odd(ask: Ask) -> str:
        return failure() if ask.seed % 2 else "" if ask.seed == 2 else f"new {ask.seed}"

    prompts, failures = walk(revise("old", "more red", 5, seed=0, brief=True), scripted(revise=odd))
    assert prompts == ["new 0", "old", "old", "old", "new 4"]
    assert failures == [
        "a rewritten prompt: The model rambled.",
        "a rewritten prompt: The MLLM answered nothing.",
        "a rewritten prompt: The model rambled.",
    ]
    assert walk(rewrite("old", 3, seed=0, brief=True), scripted(rewrite=odd)) == (["old", "new 0", "old"], failures[:1])


def test_feedback_sees_reference_and_picture_in_this_order_and_what_the_aspect_means():
    mllm = scripted(compare="more  red")
    tree = UnderstandingTree(caption="A cat.", style="photo")
    assert walk(give_feedback(RED, BLUE, "style", tree=tree, brief=True), mllm) == "more red"
    walk(give_feedback(RED, BLUE, "style", tree=None, brief=True), mllm)
    assert [ask.messages[0].images for ask in mllm.asked] == [(RED, BLUE)] * 2
    assert [said(ask) for ask in mllm.asked] == ["compare style\nA cat.", "compare style"]
    long = FakeMLLM(["x", "y"])
    walk(give_feedback(RED, BLUE, "colour", tree=tree, brief=False), long)
    assert ASPECTS["colour"] in said(long.asked[0])
    assert tree.outline() in said(long.asked[0])


# ------------------------------------------------------------------------------------------------- score and select


def test_pictures_are_scored_by_every_encoder_by_pixels_and_by_the_mllm():
    rng = np.random.default_rng(0)
    reference, *pictures = (Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)) for _ in range(3))
    encoder, attempts = FakeEncoder(), [Attempt(picture, f"prompt {index}") for index, picture in enumerate(pictures)]

    def rate(ask: Ask) -> str:
        question, images = said(ask), ask.messages[0].images
        own = pictures.index(images[-1])
        assert images[:-1] == ((reference,) if "consistency" in question else ())
        assert question == f"rate match\nprompt {own}" or "match" not in question
        return json.dumps({"reason": f"{question.split()[1]} of {own}", "rating": 2 + own})

    ratings = ("consistency", "perception", "match")
    found = walk(
        score_attempts(reference, attempts, ratings=ratings, encoders=["a", "b"], rater=Rater(True)),
        scripted(rate=rate),
        {"a": encoder, "b": Angles()},
    )
    for index, (scores, picture) in enumerate(zip(found, pictures, strict=True)):
        assert list(scores) == ["a", "b", "ssim", "consistency", "perception", "match"]
        for name, by in (("a", encoder), ("b", Angles())):
            rows = by.encode([reference, picture])
            assert scores[name].value == pytest.approx(float(rows[0] @ rows[1]))
        assert scores["ssim"].value == ssim(np.asarray(reference), np.asarray(picture))
        for name in ratings:
            assert scores[name] == Score(value=(1 + index) / 4, reason=f"{name} of {index}")


TREE = UnderstandingTree(
    caption="Two cats left of a lorry.",
    style="oil",
    lighting="low sun",
    colour_palette="warm and brown",
    composition="two groups, in the city",
    objects=(
        SceneObject(name="cat", type="animal", features={"count": "two", "colour": "red", "posture": "sitting"}),
        SceneObject(name="lorry", features={"count": "1", "colour": "blue"}),
    ),
    relations=("cat left of lorry", "city behind everything"),
)


def test_every_leaf_of_a_tree_becomes_one_question_that_its_reference_would_answer_with_yes():
    assert facts_to_ask(TREE) == (
        "Is this an oil picture?",
        "Is the lighting low sun?",
        "Are its colours warm and brown?",
        "Does it show two groups?",
        "Is the picture in the city?",
        "Is there a cat?",
        "Is the posture of the cats sitting?",
        "Are there exactly two cats?",
        "Are the cats red?",
        "Is there a lorry?",
        "Is there exactly one lorry?",
        "Is the lorry blue?",
        "Is the cat left of the lorry?",
        "Does it show city behind everything?",
    )
    assert facts_to_ask(UnderstandingTree(caption="Fog.")) == ()


def test_the_questions_of_a_perfect_tree_are_worded_as_the_mini_models_learn_them():
    scene = sample_scene(np.random.default_rng(3), split="held-out")
    taught = {question.text for question in tell.questions(scene, np.random.default_rng(0)) if question.answer}
    asked = {text for text in facts_to_ask(tell.tree(scene)) if not text.startswith(("Is the lighting", "Are its colours", "Does it show"))}
    assert asked
    assert asked <= taught


def test_the_facts_of_a_picture_are_asked_of_the_mllm_one_by_one_and_the_missing_ones_are_the_reason():
    mllm = scripted(question=lambda ask: "no" if "red" in said(ask) else "Yes.")
    rater = Rater(True, facts=("Is there a cat?", "Is the cat red?", "Is it night?", "Is this a photo picture?"))
    (scores,) = walk(score_attempts(RED, [Attempt(BLUE, "x")], ratings=["facts"], encoders=(), rater=rater), mllm)
    assert scores["facts"] == Score(value=0.75, reason="no to: Is the cat red?")
    assert [ask.messages[0].images for ask in mllm.asked] == [(BLUE,)] * 4


def test_facts_of_which_one_could_not_be_asked_are_unscored_because_pictures_would_be_compared_by_different_questions():
    mllm = scripted(question=lambda ask: failure() if "red" in said(ask) else "yes")
    rater = Rater(True, facts=("Is there a cat?", "Is the cat red?"))
    (scores,) = walk(score_attempts(RED, [Attempt(BLUE, "x")], ratings=["facts"], encoders=(), rater=rater), mllm)
    assert isinstance(scores["facts"], Unscored)
    assert "Is the cat red?" in scores["facts"].reason
    (scores,) = walk(score_attempts(RED, [Attempt(BLUE, "x")], ratings=["facts"], encoders=(), rater=Rater(True)), mllm)
    assert scores["facts"] == Unscored(reason="the tree states no facts")


def test_a_judge_tells_facts_by_probability_and_looks_once_for_all_ratings_of_the_same_words():
    looked = []

    class Judge:
        name = "strict"

        def judge(self, images, prompts, questions):
            looked.extend(zip(prompts, questions, strict=True))
            answers = [tuple(Answer(question=text, yes=Score(value=0.9 if "cat" in text else 0.3)) for text in each) for each in questions]
            return [Verdict(perception=Score(value=80), correspondence=Score(value=60), answers=each, judge="strict") for each in answers]

    rater = Rater(True, judged_by="a cat", facts=("Is there a cat?", "Is it night?"))
    work = score_attempts(RED, [Attempt(BLUE, "a dog")], ratings=["consistency", "perception", "facts", "match"], encoders=(), rater=rater)
    ((scores,),) = run_together([work], Ports(scripted(), FakeT2I(), {}, Judge()))
    assert looked == [("a cat", ("Is there a cat?", "Is it night?")), ("a dog", ())]
    assert [scores[name].value for name in ("consistency", "perception", "facts", "match")] == [0.6, 0.8, 0.6, 0.6]
    assert scores["facts"].reason == "no to: Is it night?"


def test_learned_metrics_of_pairs_stand_beside_the_other_scores_and_fail_alone():
    class Comparer:
        name = "pairs"

        def score(self, images, prompts, references):
            return [
                Score(value=float(image.getpixel((0, 0))[2] - other.getpixel((0, 0))[2]))
                for image, other in zip(images, references, strict=True)
            ]

    class Broken(Comparer):
        def score(self, images, prompts, references):
            raise DriverError("out of paint")

    attempts = [Attempt(BLUE, "x"), Attempt(RED, "y")]
    work = score_attempts(RED, attempts, ratings=(), encoders=(), rater=Rater(True))
    (found,) = run_together([work], Ports(scripted(), FakeT2I(), {}, comparers={"lpips": Comparer(), "other": Broken()}))
    assert [scores["lpips"] for scores in found] == [Score(value=255), Score(value=0)]
    assert [scores["other"] for scores in found] == [Unscored(reason="out of paint")] * 2


def test_a_studio_with_lpips_compares_by_it_and_does_not_choose_by_it():
    config = StudioConfig(scorers={"lpips": DriverConfig(driver="lpips"), "pickscore": DriverConfig(driver="clip")})
    studio = Studio(config)
    studio._scorers = {"lpips": object(), "pickscore": object()}
    assert list(studio.comparers) == ["lpips"]
    with pytest.raises(UnknownName, match="lpips"):
        studio.check_repainting(Settings(weights={"lpips": 1}))


def test_no_pictures_are_scored_without_asking_anybody():
    mllm = scripted()
    assert walk(score_attempts(RED, [], ratings=["match"], encoders=["a"], rater=Rater(True)), mllm) == []
    assert mllm.asked == []


def test_the_reference_is_scaled_to_the_picture_and_a_tiny_picture_has_no_likeness_of_pixels():
    small, tiny = Attempt(RED.resize((12, 20)), "x"), Attempt(RED.resize((8, 8)), "x")
    found = walk(score_attempts(RED, [small, tiny], ratings=(), encoders=(), rater=Rater(True)))
    assert found[0]["ssim"] == Score(value=1.0)
    assert isinstance(found[1]["ssim"], Unscored)
    assert "11 pixels" in found[1]["ssim"].reason


class Broken:
    """An encoder that fails, or gives numbers that are none."""

    name = "broken"

    def __init__(self, gives: float | VernissageError) -> None:
        self.gives = gives

    def encode(self, images):
        if isinstance(self.gives, VernissageError):
            raise self.gives
        return np.full((len(images), 2), self.gives, dtype=np.float32)

    def encode_text(self, texts):
        raise NotImplementedError


def test_an_encoder_that_fails_leaves_its_scores_unscored_and_the_others_in_place():
    attempts = [Attempt(BLUE, "x"), Attempt(RED, "y")]
    work = score_attempts(RED, attempts, ratings=["match"], encoders=["a", "b"], rater=Rater(True))
    found = walk(work, None, {"a": FakeEncoder(), "b": Broken(DriverError("The card is full."))})
    for scores in found:
        assert scores["a"] == scores["b"] == Unscored(reason="The card is full.")
        assert scores["match"] == Score(value=0.75, reason="fair")
    assert found[1]["ssim"] == Score(value=1.0)


@pytest.mark.parametrize("gives", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_never_become_a_score(gives):
    work = score_attempts(RED, [Attempt(BLUE, "x")], ratings=(), encoders=["clip", "b"], rater=Rater(True))
    (scores,) = walk(work, None, {"clip": FakeEncoder(), "b": Broken(gives)})
    assert isinstance(scores["b"], Unscored)
    assert "finite" in scores["b"].reason
    assert isinstance(scores["clip"], Score)


@pytest.mark.parametrize(("rating", "value"), [(1, 0), (2, 0.25), (3, 0.5), (4, 0.75), (5, 1)])
def test_a_rating_becomes_a_number_from_0_to_1_with_its_reason(rating, value):
    assert read_rating(Reply(text="", record=Rating(reason="so", rating=rating))) == Score(value=value, reason="so")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (failure, "rambled"),
        ("5", "JSON"),
        ("", "JSON"),
        ('{"rating": 5}', "reason"),
        ('{"reason": "great"}', "rating"),
        ('{"reason": "great", "rating": 0}', "rating"),
        ('{"reason": "great", "rating": 6}', "rating"),
        ('{"reason": "great", "rating": null}', "rating"),
        ('{"reason": "great", "rating": "high"}', "rating"),
        ('{"reason": "great", "rating": 3.5}', "rating"),
        ('{"reason": "great", "rating": NaN}', "rating"),
    ],
)
def test_a_rating_that_was_not_given_never_becomes_a_number(answer, why):
    work = score_attempts(RED, [Attempt(BLUE, "x")], ratings=["perception"], encoders=(), rater=Rater(True))
    (scores,) = walk(work, scripted(rate=answer))
    assert isinstance(scores["perception"], Unscored)
    assert why in scores["perception"].reason


def test_a_reply_without_a_rating_is_unscored_and_a_long_reason_is_cut_off():
    assert isinstance(read_rating(Reply(text="5")), Unscored)
    assert isinstance(read_rating(Reply(text="5", record=ObjectFeatures())), Unscored)
    assert len(read_rating(Reply(text="", record=Rating(reason="x" * 5000, rating=3))).reason) == 1000


S, NONE = Score, Unscored(reason="no")


def test_candidates_are_compared_only_by_scores_that_all_of_them_have():
    one, two = {"clip": S(value=0.2), "match": S(value=1.0)}, {"clip": S(value=0.4), "match": NONE}
    assert weigh([one, two], {"clip": 1, "match": 5}) == [S(value=0.2), S(value=0.4)]
    assert weigh([one, {"clip": S(value=0.4)}], {"clip": 1, "match": 5}) == [S(value=0.2), S(value=0.4)]
    assert weigh([one], {"clip": 1, "match": 3}) == [S(value=(0.2 + 3) / 4)]


def test_scores_without_a_weight_do_not_count():
    one = {"clip": S(value=0.5), "ssim": S(value=0.1), "match": S(value=1.0)}
    assert weigh([one], {"clip": 2, "ssim": 0, "match": -1}) == [S(value=0.5)]


@pytest.mark.parametrize("weights", [{}, {"match": 1}, {"clip": 0}, {"other": 1}])
def test_candidates_without_a_common_score_are_unscored(weights):
    found = weigh([{"clip": S(value=0.2), "match": NONE}, {"clip": S(value=0.4), "match": S(value=1.0)}], weights)
    assert [type(each) for each in found] == [Unscored, Unscored]
    assert weigh([], {"clip": 1}) == []


def test_better_is_what_weighs_more_by_the_scores_that_both_have():
    new, old = {"clip": S(value=0.5), "match": S(value=0.2)}, {"clip": S(value=0.4), "match": S(value=1.0)}
    assert is_better(new, old, {"clip": 1})
    assert not is_better(new, old, {"clip": 1, "match": 1})
    assert is_better(new, {"clip": S(value=0.4), "match": NONE}, {"clip": 1, "match": 1})
    assert is_better({"clip": S(value=0.5)}, old, {"clip": 1, "match": 1})
    assert not is_better({"clip": S(value=0.4)}, old, {"clip": 1})  # as good is not better


def test_what_cannot_be_compared_is_not_better_but_any_score_is_better_than_none():
    one, none = {"clip": S(value=0.5)}, {"clip": NONE}
    for new, old in ((none, one), (none, none), ({}, {})):
        assert not is_better(new, old, {"clip": 1})
    assert is_better(one, none, {"clip": 1})
    assert is_better(one, {}, {"clip": 1})
    assert not is_better(one, {"clip": S(value=0.1)}, {"match": 1})
    assert not is_better(one, {"clip": S(value=0.1)}, {})


def test_the_first_of_the_highest_is_selected():
    assert select([S(value=0.1), S(value=0.7), S(value=0.7)]) == 1
    assert select([S(value=-1.0)]) == 0
    assert select([NONE, NONE]) == 0
    assert select([NONE, S(value=-1.0)]) == 1
    assert select([]) is None


verdicts = st.one_of(st.floats(-1, 1).map(lambda value: Score(value=value)), st.just(NONE))
candidates = st.lists(st.dictionaries(st.sampled_from("abc"), verdicts), min_size=1, max_size=5)


@examples(max_examples=100, database=None)
@given(candidates, st.dictionaries(st.sampled_from("abcd"), st.floats(0, 10).map(lambda weight: round(weight, 2)), max_size=4))
def test_the_selected_candidate_beats_the_others_by_the_mean_of_their_common_scores(scores, weights):
    common = [name for name in weights if weights[name] > 0 and all(isinstance(each.get(name), Score) for each in scores)]
    found = weigh(scores, weights)
    if not common:
        assert all(isinstance(each, Unscored) for each in found)
        assert select(found) == 0
        return
    means = [np.average([each[name].value for name in common], weights=[weights[name] for name in common]) for each in scores]
    assert [each.value for each in found] == pytest.approx(means)
    assert all(-1 - 1e-9 <= each.value <= 1 + 1e-9 for each in found)
    assert found[select(found)].value == max(each.value for each in found)


# ------------------------------------------------------------------------------------------------------ whole rounds


def test_the_best_picture_of_each_round_leads_to_the_next_prompts():
    mllm = scripted(
        rewrite=lambda ask: f"synonym {ask.seed}",
        compare=lambda ask: f"feedback on {ask.messages[0].images[1].getpixel((0, 0))[0]}",
        revise=lambda ask: f"revised {ask.seed}",
    )
    result, t2i = repaint(200, 100, 150, 90, 50, 40, mllm=mllm, rounds=2)
    done = result.regeneration
    assert [each.best for each in done.rounds] == [1, 2]
    assert [[c.prompt for c in each.candidates] for each in done.rounds] == [
        ["a cat beside a car", "synonym 0", "synonym 1"],
        ["revised 3", "revised 4", "revised 5"],
    ]
    assert [each.feedback for each in done.rounds] == ["", "feedback on 100"]
    (compared,) = [ask for ask in mllm.asked if kind(ask) == "compare"]
    assert np.array_equal(compared.messages[0].images[0], BLACK)
    (revised,) = {said(ask) for ask in mllm.asked if kind(ask) == "revise"}
    assert revised == "revise\nsynonym 0\nfeedback: feedback on 100"
    seeds = [0, 1, 2, 1, 4, 5]  # the likeliest revision starts from the noise of the picture that it revises
    assert [plan.arguments.seed - first_noise(0) for plan in t2i.painted] == seeds
    assert [candidate.seed - first_noise(0) for each in done.rounds for candidate in each.candidates] == seeds
    assert {(plan.model, plan.negative_prompt, plan.arguments.steps) for plan in t2i.painted} == {("m", "blurry", 7)}
    for grey, candidate in zip((200, 100, 150, 90, 50, 40), (c for each in done.rounds for c in each.candidates), strict=True):
        assert candidate.scores["clip"].value == pytest.approx(cosine(grey), abs=1e-6)
        assert candidate.selection == Score(value=candidate.scores["clip"].value)
        assert result.pictures[candidate.picture].image.getpixel((0, 0)) == (grey, grey, grey)
    assert done.last == done.best == done.rounds[1].candidates[2]


def test_aspects_follow_the_queue_and_begin_anew():
    mllm = scripted()
    result, _ = repaint(*range(100, 106), mllm=mllm, rounds=6, candidates=1)
    aspects = ["overall image", "style", "colour", "detailed content", "overall image", "style"]
    assert [each.aspect for each in result.regeneration.rounds] == aspects
    assert [each.number for each in result.regeneration.rounds] == [1, 2, 3, 4, 5, 6]
    assert [said(ask) for ask in mllm.asked if kind(ask) == "compare"] == [f"compare {aspect}" for aspect in aspects[1:]]


def test_the_best_picture_is_of_all_rounds_and_the_last_of_the_last_round():
    mllm = scripted()
    result, _ = repaint(100, 60, 200, 80, mllm=mllm, rounds=4, candidates=1)
    done = result.regeneration
    assert done.best == done.rounds[1].candidates[0]
    assert done.last == done.rounds[3].candidates[0]
    seen = [ask.messages[0].images[1].getpixel((0, 0))[0] for ask in mllm.asked if kind(ask) == "compare"]
    assert seen == [100, 60, 60]  # feedback is always on the best so far


def test_equally_good_pictures_keep_the_first():
    result, _ = repaint(70, 70, 70, rounds=3, candidates=1)
    assert result.regeneration.best is result.regeneration.rounds[0].candidates[0]


@pytest.mark.parametrize(("patience", "rounds"), [(0, 6), (1, 3), (2, 6), (3, 6)])
def test_patience_ends_the_rounds_when_nothing_gets_better(patience, rounds):
    result, t2i = repaint(100, 60, 90, 50, 80, 70, rounds=6, candidates=1, patience=patience)
    assert len(result.regeneration.rounds) == len(t2i.painted) == rounds


def test_where_patience_ends_it_the_best_so_far_stands_for_the_last_round():
    result, _ = repaint(60, 90, 100, 40, rounds=4, candidates=1, patience=1)
    done = result.regeneration
    assert (len(done.rounds), done.ended_early, done.last) == (2, True, done.best)
    assert Regeneration.model_validate_json(done.model_dump_json()).last == done.best
    whole = repaint(60, 90, 100, 40, rounds=4, candidates=1, patience=3)[0].regeneration
    assert (len(whole.rounds), whole.ended_early, whole.last) == (4, False, whole.rounds[-1].candidates[0])


def test_a_revision_that_says_the_same_is_painted_from_other_noise():
    for answer in (failure, lambda ask: "a cat, a car"):
        mllm = scripted(revise=answer, direct=lambda ask: "a cat, a car")
        result, t2i = repaint(60, 90, rounds=2, candidates=1, mllm=mllm)
        one, two = t2i.painted
        assert (one.prompt, one.arguments.seed) != (two.prompt, two.arguments.seed), result


def test_words_of_two_settings_share_no_seed():
    def drawn(seed: int) -> set[int]:
        mllm = scripted()
        repaint(*range(100, 112), rounds=4, candidates=3, seed=seed, mllm=mllm)
        return {ask.seed for ask in mllm.asked if ask.temperature > 0}

    assert drawn(0)
    assert not drawn(0) & drawn(1)


def test_patience_is_counted_anew_after_a_better_picture():
    result, _ = repaint(100, 110, 90, 95, 96, 1, rounds=6, candidates=1, patience=2)
    assert len(result.regeneration.rounds) == 5


def test_whoever_watches_is_told_the_tree_and_each_round_as_they_come():
    news = []
    t2i = Greys(*range(4))

    def watch(new) -> None:
        news.append((new, len(t2i.painted)))

    chosen = Settings(rounds=2, candidates=2, weights={"clip": 1}, rate=())
    (result,) = repaint_all([BLACK], PLAN, chosen, Ports(scripted(), t2i, {"clip": Angles()}), watch=watch)
    assert news == [(result.regeneration.tree, 0), (result.regeneration.rounds[0], 2), (result.regeneration.rounds[1], 4)]


def test_a_regeneration_states_what_it_is_of_and_what_it_cost():
    mllm = scripted()
    result, _ = repaint(10, BROKEN, 30, 40, mllm=mllm, rounds=2, candidates=2, words="tree", rate=["match"])
    done = result.regeneration
    assert done.reference == Picture.of(BLACK).hash
    assert (done.model, done.words, done.prompt, done.arguments) == ("m", "tree", "a cat, a car", PLAN.arguments)
    assert done.tree.caption == "A cat and a car."
    assert (done.cost.questions, done.cost.pictures) == (len(mllm.asked), 3)
    assert len(mllm.asked) == 3 + 3 + 1 + 1 + 1 + 2 + 2  # two waves, prompt, synonym, feedback, revisions, winners' ratings
    assert Regeneration.model_validate_json(done.model_dump_json()) == done


def test_the_seconds_of_all_answers_are_added_up():
    class Slow:
        name, brief = "slow", True

        def answer(self, asks):
            replies = scripted(rewrite=failure).answer(asks)
            return [reply.model_copy(update={"seconds": 0.25}) if isinstance(reply, Reply) else reply for reply in replies]

    result, _ = repaint(1, 2, mllm=Slow(), rounds=1, candidates=2)
    assert (result.regeneration.cost.questions, result.regeneration.cost.answer_seconds) == (2, 0.25)


def test_a_picture_that_could_not_be_painted_is_no_candidate_for_the_best():
    result, _ = repaint(BROKEN, 90, 50, 40, BROKEN, 60, rounds=2)
    first, second = result.regeneration.rounds
    assert (first.best, second.best) == (2, 0)
    lost = first.candidates[0]
    assert (lost.picture, lost.scores, lost.selection) == ("", {}, Unscored(reason=str(BROKEN)))
    assert result.regeneration.failures == (f"a picture: {BROKEN}",) * 2
    assert len(result.pictures) == 4


def test_a_round_without_any_picture_is_passed_over():
    mllm = scripted(rewrite=lambda ask: f"synonym {ask.seed}")
    result, t2i = repaint(BROKEN, BROKEN, 90, 50, BROKEN, BROKEN, mllm=mllm, rounds=3, candidates=2)
    done = result.regeneration
    assert [each.best for each in done.rounds] == [None, 1, None]
    assert done.last is None
    assert done.best == done.rounds[1].candidates[1]
    assert [plan.prompt for plan in t2i.painted[2:4]] == ["a cat beside a car", "synonym 2"]  # there was no picture to give feedback on
    assert [each.feedback for each in done.rounds] == ["", "", "more red"]


def test_a_painter_that_paints_nothing_at_all_is_an_error_with_its_reason():
    result, _ = repaint(*[BROKEN] * 4, rounds=2, candidates=2)
    assert isinstance(result, DriverError)
    assert "fell asleep" in str(result)
    assert "m painted nothing" in str(result)


def failing(times: int, error: VernissageError, t2i: Greys):
    """A painter that fails as a whole so many times and then works."""
    left = [error] * times

    class Failing:
        def paint(self, plans, *, progress=None):
            if left:
                raise left.pop()
            return t2i.paint(plans)

    return Failing()


FULL = OutOfMemory("The device is full.")


def test_a_painter_that_always_fails_as_a_whole_is_an_error_with_its_reason():
    ports = Ports(scripted(), failing(99, FULL, Greys()), {"clip": Angles(), "dinov2": Angles()})
    (result,) = repaint_all([BLACK], PLAN, Settings(), ports)
    assert isinstance(result, DriverError)
    assert str(result) == "m painted nothing: a picture: The device is full."


def test_a_painter_that_fails_as_a_whole_once_loses_that_round_only():
    settings = Settings(rounds=2, candidates=2, words="direct", rate=(), weights={"clip": 1})
    (result,) = repaint_all([BLACK], PLAN, settings, Ports(scripted(), failing(1, FULL, Greys(90, 50)), {"clip": Angles()}))
    done = result.regeneration
    assert [each.best for each in done.rounds] == [None, 1]
    assert [each.leads for each in done.rounds] == [False, True]
    assert [candidate.selection for candidate in done.rounds[0].candidates] == [Unscored(reason="The device is full.")] * 2
    assert done.failures == ("a picture: The device is full.",) * 2
    assert done.cost.pictures == 2


def test_an_mllm_that_fails_as_a_whole_while_rewriting_leaves_the_prompt_as_it_was():
    class Down:
        name, brief = "down", True

        def answer(self, asks):
            if kind(asks[0]) != "direct":
                raise DriverError("The server is down.")
            return scripted().answer(asks)

    result, t2i = repaint(90, 50, 40, 30, mllm=Down(), rounds=2, candidates=2, rate=["match"])
    assert {plan.prompt for plan in t2i.painted} == {"a cat beside a car"}
    told = [failure for failure in result.regeneration.failures if failure.endswith("The server is down.")]
    assert len(told) == len(result.regeneration.failures) == 3  # one synonym, feedback, one synonym
    assert result.regeneration.last.scores["match"] == Unscored(reason="The server is down.")


def test_the_noise_is_not_that_of_small_numbers_that_references_are_painted_with():
    noise = [first_noise(seed) for seed in range(200)]
    assert len(set(noise)) == 200
    assert 10_000 < min(noise) < max(noise) < 2**31


def test_without_feedback_the_next_prompts_are_synonyms_of_the_best_one():
    mllm = scripted(compare=failure, rewrite=lambda ask: f"synonym {ask.seed}")
    result, _ = repaint(90, 50, 40, 30, mllm=mllm, rounds=2, candidates=2)
    second = result.regeneration.rounds[1]
    assert [candidate.prompt for candidate in second.candidates] == ["synonym 0", "synonym 2"]
    assert [candidate.seed - first_noise(0) for candidate in second.candidates] == [
        2,
        3,
    ]  # the same words from the same noise were the same picture
    assert second.feedback == ""
    assert result.regeneration.failures == ("feedback on style: The model rambled.",)
    assert "revise" not in map(kind, mllm.asked)


@pytest.mark.parametrize(
    "answer", ["no change", "No change.", "**No changes needed!**", "There is no change required", "Nothing must change."]
)
def test_where_nothing_must_change_the_best_picture_stays_in_the_running_and_others_of_its_prompt_are_painted(answer):
    mllm = scripted(rewrite=lambda ask: f"synonym {ask.seed}", compare=answer)
    result, t2i = repaint(90, 50, 70, 30, 60, 80, 75, mllm=mllm, rounds=3, candidates=3, rate=("consistency",))
    first, second, third = result.regeneration.rounds
    kept = first.candidates[1]
    assert [candidate.prompt for candidate in second.candidates] == ["synonym 0"] * 3
    assert [candidate.seed - first_noise(0) for candidate in second.candidates] == [1, 4, 5]
    assert (second.feedback, second.best, second.leads) == (answer, 1, True)
    assert second.candidates[0].picture == kept.picture
    assert second.candidates[0].scores["clip"] == kept.scores["clip"]
    assert third.candidates[0].picture == second.candidates[1].picture
    assert (third.best, third.leads) == (0, False)
    assert result.regeneration.last.picture == result.regeneration.best.picture
    assert [plan.arguments.seed - first_noise(0) for plan in t2i.painted] == [0, 1, 2, 4, 5, 7, 8]
    assert result.regeneration.cost.pictures == 7
    assert "revise" not in map(kind, mllm.asked)
    assert len([ask for ask in mllm.asked if kind(ask) == "rate"]) == 2  # the picture that won twice is rated once
    assert third.candidates[0].scores["consistency"] == Score(value=0.75, reason="fair")
    assert result.regeneration.failures == ()


def test_where_nothing_must_change_a_single_candidate_is_the_best_picture_itself():
    result, t2i = repaint(90, mllm=scripted(compare="no change"), rounds=3, candidates=1)
    assert len(t2i.painted) == 1
    assert {each.candidates[0].picture for each in result.regeneration.rounds} == {result.regeneration.best.picture}


@pytest.mark.parametrize("answer", ["no change in style; make the sky bluer", "change nothing but the colour", "no", "nothing", "more red"])
def test_feedback_that_asks_for_something_is_not_taken_for_no_change(answer):
    assert not is_no_change(answer)


def test_every_answer_that_failed_is_told_once():
    mllm = scripted(overall=failure, relations=failure, rewrite=failure, revise=failure)
    result, _ = repaint(90, 50, BROKEN, 30, mllm=mllm, rounds=2, candidates=2, words="tree")
    assert result.regeneration.failures == (
        "overall features: The model rambled.",
        "relations: The model rambled.",
        "a rewritten prompt: The model rambled.",
        "a rewritten prompt: The model rambled.",
        "a rewritten prompt: The model rambled.",
        f"a picture: {BROKEN}",
    )
    assert {candidate.prompt for each in result.regeneration.rounds for candidate in each.candidates} == {"a cat, a car"}


# ----------------------------------------------------------------------------------------------------------- ratings


def test_ratings_without_a_weight_are_given_of_each_rounds_best_only():
    def rate(ask: Ask) -> str:
        grey = ask.messages[0].images[-1].getpixel((0, 0))[0]
        return json.dumps({"reason": f"{said(ask).split()[1]} of {grey}", "rating": 2 if grey == 50 else 4})

    mllm = scripted(rate=rate)
    result, _ = repaint(90, 50, 40, 30, mllm=mllm, rounds=2, candidates=2, rate=["consistency", "perception"])
    rated = [[sorted(candidate.scores) for candidate in each.candidates] for each in result.regeneration.rounds]
    assert rated == [[["clip", "ssim"], ["clip", "consistency", "perception", "ssim"]]] * 2
    first, second = (each.candidates[1].scores for each in result.regeneration.rounds)
    assert (first["consistency"], first["perception"]) == (
        Score(value=0.25, reason="consistency of 50"),
        Score(value=0.25, reason="perception of 50"),
    )
    assert second["perception"] == Score(value=0.75, reason="perception of 30")
    assert sum(kind(ask) == "rate" for ask in mllm.asked) == 4


def test_a_rating_with_a_weight_is_given_of_every_picture_and_decides():
    def rate(ask: Ask) -> str:
        return json.dumps({"reason": "so", "rating": 5 if ask.messages[0].images[-1].getpixel((0, 0))[0] == 250 else 2})

    mllm = scripted(rate=rate)
    result, _ = repaint(0, 250, 20, mllm=mllm, rounds=1, rate=["perception", "match"], weights={"perception": 1})
    (only,) = result.regeneration.rounds
    assert only.best == 1
    assert [candidate.selection for candidate in only.candidates] == [Score(value=0.25), Score(value=1.0), Score(value=0.25)]
    assert ["match" in candidate.scores for candidate in only.candidates] == [False, True, False]
    assert sum(kind(ask) == "rate" for ask in mllm.asked) == 4


@pytest.mark.parametrize("rate", [(), ("match",), ("consistency",)])
def test_a_weight_implies_that_the_rating_is_asked_for_once_of_every_picture(rate):
    mllm = scripted()
    result, _ = repaint(90, 50, 40, 30, mllm=mllm, rounds=2, candidates=2, weights={"match": 1}, rate=rate)
    tried = [candidate for each in result.regeneration.rounds for candidate in each.candidates]
    assert all(candidate.scores["match"] == Score(value=0.75, reason="fair") for candidate in tried)
    assert all(candidate.selection == Score(value=0.75) for candidate in tried)
    assert sum(said(ask).startswith("rate match") for ask in mllm.asked) == 4
    assert sum(kind(ask) == "rate" for ask in mllm.asked) == (6 if "consistency" in rate else 4)


def test_a_weight_of_zero_asks_for_nothing():
    mllm = scripted()
    repaint(90, 50, mllm=mllm, rounds=1, candidates=2, weights={"clip": 1, "match": 0})
    assert "rate" not in map(kind, mllm.asked)


def test_a_rating_that_one_picture_lacks_does_not_decide_between_them():
    def rate(ask: Ask) -> str:
        grey = ask.messages[0].images[-1].getpixel((0, 0))[0]
        return failure() if grey == 80 else json.dumps({"reason": "so", "rating": 5 if grey == 200 else 1})

    result, _ = repaint(200, 80, 90, mllm=scripted(rate=rate), rounds=1, rate=["perception"], weights={"clip": 1, "perception": 9})
    (only,) = result.regeneration.rounds
    assert [candidate.selection.value for candidate in only.candidates] == pytest.approx([cosine(200), cosine(80), cosine(90)], abs=1e-6)
    assert only.best == 1
    assert only.candidates[1].scores["perception"] == Unscored(reason="The model rambled.")


@pytest.mark.parametrize("answer", [failure, "great", '{"rating": 5}'])
def test_ratings_that_all_fail_leave_no_number_anywhere(answer):
    result, _ = repaint(90, 50, mllm=scripted(rate=answer), rounds=1, candidates=2, rate=["match"], weights={"match": 1})
    (only,) = result.regeneration.rounds
    assert all(isinstance(candidate.scores["match"], Unscored) for candidate in only.candidates)
    assert all(isinstance(candidate.selection, Unscored) for candidate in only.candidates)
    assert only.best == 0
    assert result.regeneration.best == only.candidates[0]
    result, _ = repaint(90, 50, mllm=scripted(rate=answer), rounds=1, candidates=2, rate=["match"])
    assert isinstance(result.regeneration.last.scores["match"], Unscored)
    assert isinstance(result.regeneration.last.selection, Score)


def test_an_mllm_that_only_fails_leaves_an_error_and_paints_nothing():
    for words in ("tree", "direct"):
        result, t2i = repaint(mllm=FakeMLLM(brief=True), words=words)
        assert isinstance(result, ReplyError)
        assert t2i.painted == []


@pytest.mark.parametrize(
    "values",
    [{"rounds": 0}, {"candidates": 0}, {"patience": -1}, {"words": "verse"}, {"round": 3}, {"seed": "x"}, {"weights": {"clip": "x"}}],
)
def test_settings_that_cannot_be_are_refused(values):
    with pytest.raises(ValidationError):
        Settings.model_validate(values)


def candidate(value: float | None, prompt: str = "x") -> Candidate:
    return Candidate(prompt=prompt, seed=0, picture=prompt, selection=NONE if value is None else Score(value=value))


def of_rounds(*winners: tuple[Candidate | None, bool]) -> Regeneration:
    """A regeneration whose rounds have those winners, each with whether it leads."""
    rounds = tuple(
        Round(
            number=number, aspect="style", candidates=() if winner is None else (winner,), best=None if winner is None else 0, leads=leads
        )
        for number, (winner, leads) in enumerate(winners, start=1)
    )
    return Regeneration(reference="r", model="m", arguments=Arguments(), tree=None, prompt="x", rounds=rounds)


def test_the_best_is_the_winner_of_the_last_round_that_leads():
    assert of_rounds((candidate(0.1, "a"), True), (candidate(0.9, "b"), True), (candidate(0.8, "c"), False)).best.prompt == "b"
    assert of_rounds((candidate(0.9, "a"), True), (candidate(None, "b"), False)).best.prompt == "a"
    assert of_rounds((None, False), (candidate(None, "a"), True), (None, False)).best.prompt == "a"
    assert of_rounds((None, False), (None, False)).best is None
    assert of_rounds((candidate(0.1), True), (None, False)).last is None
    assert of_rounds((candidate(0.1, "a"), True), (candidate(0.05, "b"), False)).last.prompt == "b"


def test_rounds_are_compared_by_the_scores_that_both_have():
    """Round 2 has no match; by clip, which both have, it is better, whatever the selection scores of each round say."""

    def rate(ask: Ask) -> str:
        grey = ask.messages[0].images[-1].getpixel((0, 0))[0]
        return failure() if grey == 50 else json.dumps({"reason": "so", "rating": 5})

    mllm = scripted(rate=rate)
    result, _ = repaint(100, 50, 120, mllm=mllm, rounds=3, candidates=1, weights={"clip": 1, "match": 1})
    done = result.regeneration
    first, second = (each.candidates[0].selection.value for each in done.rounds[:2])
    assert first == pytest.approx((cosine(100) + 1) / 2, abs=1e-6)
    assert second == pytest.approx(cosine(50), abs=1e-6)
    assert [each.leads for each in done.rounds] == [True, True, False]
    assert done.best == done.rounds[1].candidates[0]
    result, _ = repaint(70, 50, mllm=mllm, rounds=2, candidates=1, weights={"clip": 1, "match": 9})
    done = result.regeneration
    first, second = (each.candidates[0].selection.value for each in done.rounds)
    assert first > second
    assert done.best == done.rounds[1].candidates[0]


greys = st.one_of(st.integers(0, 255), st.just(BROKEN))


@examples(max_examples=60, database=None)
@given(st.integers(1, 4).flatmap(lambda rounds: st.lists(greys, min_size=2 * rounds, max_size=2 * rounds)), st.integers(0, 2))
def test_the_loop_and_the_record_agree_on_the_best_picture(tried, patience):
    """What feedback was given on is the record's best so far, and the record's best is the lightest difference of all."""

    def rate(ask: Ask) -> str:
        grey = ask.messages[0].images[-1].getpixel((0, 0))[0]
        return failure() if grey % 3 == 0 else json.dumps({"reason": "so", "rating": 1 + grey % 5})

    compared = []

    def compare(ask: Ask) -> str:
        compared.append(Picture.of(ask.messages[0].images[1]).hash)
        return "more"

    weights = {"clip": 1.0, "match": 1.0}
    mllm = scripted(rate=rate, compare=compare)
    result, _ = repaint(*tried, mllm=mllm, rounds=len(tried) // 2, candidates=2, patience=patience, weights=weights)
    if all(grey is BROKEN for grey in tried):
        assert isinstance(result, DriverError)
        return
    done = result.regeneration
    best, expected = None, []
    for each in done.rounds:
        if best is not None:
            expected.append(best.picture)
        winner = None if each.best is None else each.candidates[each.best]
        leads = winner is not None and (best is None or is_better(winner.scores, best.scores, weights))
        assert each.leads == leads
        best = winner if leads else best
    assert compared == expected
    assert done.best == best
    assert Regeneration.model_validate_json(done.model_dump_json()).best == best


# -------------------------------------------------------------------------------------- what a studio makes of settings

FAKE = DriverConfig(driver="fake")


def studio(*encoders: str) -> Studio:
    return Studio(StudioConfig(mllm=FAKE, t2i=FAKE, **{name: FAKE if name in encoders else None for name in ("clip", "dinov2")}))


@pytest.mark.parametrize(
    ("encoders", "weights"),
    [
        (("clip", "dinov2"), {"clip": 1.0, "dinov2": 1.0}),
        (("clip",), {"clip": 1.0}),
        (("dinov2",), {"dinov2": 1.0}),
        ((), {"consistency": 1.0}),
    ],
)
def test_weights_left_open_go_to_the_encoders_that_are_there_or_to_consistency(encoders, weights):
    checked = studio(*encoders).check_repainting(Settings(rounds=2, seed=9))
    assert checked == Settings(rounds=2, seed=9, weights=weights)
    assert studio(*encoders).check_repainting(checked) == checked


def test_weights_that_were_given_are_kept():
    for weights in ({"ssim": 2.0, "match": 0.5}, {"dinov2": 1.0}):
        assert studio("clip", "dinov2").check_repainting(Settings(weights=weights)).weights == weights


@pytest.mark.parametrize("weights", [{}, {"clip": 0.0}, {"clip": -1.0}, {"clip": float("nan")}, {"clip": float("inf")}])
def test_weights_that_weigh_nothing_or_too_much_are_refused(weights):
    with pytest.raises(ValidationError, match="one of them above 0"):
        Settings(weights=weights)


class FailsOnce:
    """An encoder that has no memory left when it is called first."""

    def __init__(self, encoder):
        self.name, self._encoder, self._failed = "fails", encoder, False

    def encode(self, images):
        if not self._failed:
            self._failed = True
            raise FULL
        return self._encoder.encode(images)


def test_an_encoder_that_fails_in_one_round_leaves_that_round_unscored_and_keeps_its_pictures():
    settings = Settings(rounds=3, candidates=1, words="direct", rate=(), weights={"clip": 1})
    (result,) = repaint_all([BLACK], PLAN, settings, Ports(scripted(), Greys(90, 50, 10), {"clip": FailsOnce(Angles())}))
    first, second, third = result.regeneration.rounds
    assert first.candidates[0].scores["clip"] == Unscored(reason="The device is full.")
    assert isinstance(second.candidates[0].scores["clip"], Score)
    assert [each.leads for each in (first, second, third)] == [True, True, True]  # each darker, and so nearer to black
    assert len(result.pictures) == 3


def test_a_judge_rates_in_the_mllm_s_place_when_it_is_asked_to():
    class Strict:
        name = "strict"

        def judge(self, images, prompts, questions):
            seen.extend(prompts)
            low = Unscored(reason="too dark")
            return [Verdict(perception=Score(value=80), correspondence=low, judge="strict") for _ in images]

    seen: list[str] = []
    settings = Settings(rounds=1, candidates=1, words="direct", rater="judge", weights={"clip": 1})
    (result,) = repaint_all([BLACK], PLAN, settings, Ports(scripted(), Greys(90), {"clip": Angles()}, Strict()))
    scores = result.regeneration.last.scores
    assert scores["perception"] == Score(value=0.8, reason="strict")
    assert scores["consistency"] == Unscored(reason="too dark")
    assert set(seen) == {result.regeneration.prompt}


@pytest.mark.parametrize(
    ("encoders", "values", "error", "named"),
    [
        (("clip",), {"weights": {"dinov2": 1.0}}, UnknownName, "no score 'dinov2'"),
        ((), {"weights": {"clip": 1.0, "dinov2": 1.0}}, UnknownName, "no score 'clip'"),
        (("clip",), {"weights": {"beauty": 1.0}}, UnknownName, "no score 'beauty'"),
        (("clip",), {"rate": ("clip",)}, UnknownName, "no rating 'clip'"),
        (("clip",), {"rate": ("match", "ssim")}, UnknownName, "no rating 'ssim'"),
        (("dinov2",), {"words": "interrogate"}, BadPlan, "needs CLIP"),
    ],
)
def test_settings_that_a_studio_cannot_follow_are_refused_before_anything_starts(encoders, values, error, named):
    made = studio(*encoders)
    made.__dict__["mllm"] = made.__dict__["t2i"] = None  # touching either would be a traceback
    with pytest.raises(error, match=named):
        made.repaint_several([RED], model="mini/neon", settings=Settings.model_validate(values))


def test_a_studio_without_encoders_repaints_by_the_rating_of_consistency():
    made = studio()
    made.__dict__["mllm"] = scripted()
    plain = Settings(rounds=1, candidates=2, words="direct", rate=())
    (result,) = made.repaint_several([RED], model="mini/neon", settings=plain)
    for tried in result.regeneration.rounds[0].candidates:
        assert (sorted(tried.scores), tried.selection) == (["consistency", "ssim"], Score(value=0.75))


@pytest.mark.parametrize("settings", [{"rounds": 0}, {"weights": {"clip": "x"}}, {"colour": "red"}])
def test_a_setting_with_a_mistake_is_told_as_bad_input(settings):
    with pytest.raises(BadInput, match=next(iter(settings))):
        api.repaint(RED, model="mini/neon", studio=studio(), **settings)


# ------------------------------------------------------------------------------------ references do not leak anywhere


class Colour(NamedTuple):
    name: str
    rgb: tuple[int, int, int]


COLOURS = [Colour("crimson", (220, 20, 20)), Colour("emerald", (20, 200, 20)), Colour("navy", (20, 20, 180))]


def colour_of(image: Image.Image) -> str:
    """By the strongest channel."""
    return COLOURS[int(np.argmax(image.getpixel((0, 0))))].name


class Tinter:
    """Paints the colour that the prompt names, a shade that follows from prompt and seed."""

    def paint(self, plans, *, progress=None):
        return [self._one(plan) for plan in plans]

    def _one(self, plan):
        (named,) = [colour for colour in COLOURS if colour.name in plan.prompt]
        shades = hashlib.sha256(f"{plan.prompt}{plan.arguments.seed}".encode()).digest()
        rgb = tuple(channel - shade % 20 for channel, shade in zip(named.rgb, shades, strict=False))
        return Picture.of(Image.new("RGB", (16, 16), rgb), Provenance(plan=plan))


def talk(ask: Ask) -> str:
    """Answers everything with the colour of the pictures seen, or of the words read; more than one is a leak."""
    message = ask.messages[0]
    found = {colour_of(image) for image in message.images} | set(re.findall("crimson|emerald|navy", message.text))
    (name,) = found  # a leak ends the test with an error
    answers = {
        "caption": f"a {name} wall",
        "overall": json.dumps({"style": f"{name} style"}),
        "objects": json.dumps({"objects": [{"name": f"{name} cat", "type": "animal"}, {"name": f"{name} car"}]}),
        "features": json.dumps({"colour": name}),
        "relations": json.dumps({"relations": [f"{name} cat left of {name} car"]}),
        "describe": f"prompt in {name}",
        "rewrite": f"synonym {ask.seed} in {name}",
        "compare": f"more {name}",
        "revise": f"revision {ask.seed} in {name}",
        "rate": json.dumps({"reason": f"all {name}", "rating": 3}),
    }
    return answers[kind(ask)]


def reference(colour: Colour, shade: int = 0) -> Image.Image:
    return Image.new("RGB", (16, 16), tuple(channel + shade for channel in colour.rgb))


def check(result, colour: Colour, image: Image.Image) -> None:
    """Every word and picture of a result speaks of its own reference."""
    done = result.regeneration
    assert done.reference == Picture.of(image).hash
    assert done.failures == ()
    text = done.model_dump_json()
    assert set(re.findall("crimson|emerald|navy", text)) == {colour.name}
    assert done.tree.caption == f"a {colour.name} wall"
    assert [each.feedback for each in done.rounds] == ["", f"more {colour.name}", f"more {colour.name}"]
    tried = [each for round in done.rounds for each in round.candidates]
    assert {each.picture for each in tried} == set(result.pictures)
    for each in tried:
        picture = result.pictures[each.picture]
        assert picture.plan.prompt == each.prompt
        assert picture.plan.arguments.seed == each.seed
        assert colour_of(picture.image) == colour.name
        seen = FakeEncoder().encode([image, picture.image])
        assert each.scores["clip"].value == pytest.approx(float(seen[0] @ seen[1]))
    assert done.best.scores["consistency"] == Score(value=0.5, reason=f"all {colour.name}")


LOOP = Settings(rounds=3, candidates=2, weights={"clip": 1})


def test_references_that_walk_together_never_leak_into_each_other():
    images = [reference(colour, shade) for shade in (0, 5) for colour in COLOURS]
    results = repaint_all(images, PLAN, LOOP, Ports(FakeMLLM(talk, brief=True), Tinter(), {"clip": FakeEncoder()}))
    for index, (image, result) in enumerate(zip(images, results, strict=True)):
        check(result, COLOURS[index % 3], image)


def test_a_reference_alone_gives_what_it_gives_among_others():
    images = [reference(colour) for colour in COLOURS]
    together = repaint_all(images, PLAN, LOOP, Ports(FakeMLLM(talk, brief=True), Tinter(), {"clip": FakeEncoder()}))
    for image, result in zip(images, together, strict=True):
        (alone,) = repaint_all([image], PLAN, LOOP, Ports(FakeMLLM(talk, brief=True), Tinter(), {"clip": FakeEncoder()}))
        assert alone.regeneration == result.regeneration


def test_a_reference_that_fails_does_not_disturb_the_others():
    def script(ask: Ask) -> str:
        answer = talk(ask)
        return failure() if "emerald" in answer and kind(ask) == "describe" else answer

    images = [reference(colour) for colour in COLOURS]
    first, second, third = repaint_all(images, PLAN, LOOP, Ports(FakeMLLM(script, brief=True), Tinter(), {"clip": FakeEncoder()}))
    assert isinstance(second, ReplyError)
    check(first, COLOURS[0], images[0])
    check(third, COLOURS[2], images[2])


def test_groups_that_walk_at_once_in_threads_never_leak_into_each_other():
    ports = Ports(FakeMLLM(talk, brief=True), Tinter(), {"clip": FakeEncoder()})
    groups = [[(colour, reference(colour, shade)) for colour in order] for shade, order in ((0, COLOURS), (5, COLOURS[::-1]))]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda group: repaint_all([image for _, image in group], PLAN, LOOP, ports), groups))
    for group, results in zip(groups, found, strict=True):
        for (colour, image), result in zip(group, results, strict=True):
            check(result, colour, image)


def test_a_rating_that_weighs_nothing_is_given_all_the_same():
    def said(ask):
        return json.dumps({"reason": "so", "rating": 4}) if ask.reply is not None else "a cat"

    settings = Settings(rounds=1, candidates=1, words="direct", weights={"clip": 1, "match": 0}, rate=("match",))
    ports = Ports(FakeMLLM(said, brief=True), FakeT2I(), {"clip": FakeEncoder()})
    plan = Plan(prompt="x", model="m", arguments=Arguments(width=16, height=16))
    (done,) = repaint_all([Image.new("RGB", (16, 16))], plan, settings, ports)
    assert done.regeneration.best.scores["match"] == Score(value=0.75, reason="so")
