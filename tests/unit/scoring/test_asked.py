"""Metrics of single pictures that ask an MLLM: exact numbers, failures of one question, what is asked once, and what is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vernissage.drivers.fake import FakeDetector, FakeEncoder, FakeMLLM
from vernissage.errors import DriverError, NoProbabilities, Refused, ReplyError
from vernissage.ports import Ask, Reply
from vernissage.records.picture import Picture
from vernissage.records.verdict import LEVELS, Score, Unscored
from vernissage.scoring.checks import MOST_CHECKS, YES_NO, Check
from vernissage.scoring.layouts import Entry
from vernissage.scoring.registry import METRICS, find_metrics
from vernissage.scoring.score import Sources, score_entries

QUESTIONED = "tifa,dsg,geneval"
CAT, RED, DOG = Check("Is there a cat?"), Check("Is it red?", needs=(0,)), Check("Is there a dog?", "no")
CHECKS = (CAT, RED, DOG)


class Told:
    """An MLLM whose probability of yes (or of each level) follows from the question's words; keeps what it was asked.

    Args:
        chances: By a part of the question, the longest that fits: probability of yes, probabilities of all options, or an error; where
            none fits, the test ends.
        writes: What it answers where it is asked in words, likewise.
    """

    brief = False

    def __init__(self, chances=None, *, writes=None, name="told"):
        self.name = name
        self._chances, self._writes = chances or {}, writes or {}
        self.weighed: list[Ask] = []
        self.answered: list[Ask] = []

    def choose(self, asks, options):
        self.weighed += asks
        return [self._weigh(_find(self._chances, ask)) for ask in asks]

    def answer(self, asks):
        self.answered += asks
        return list(FakeMLLM(lambda ask: _say(_find(self._writes, ask))).answer(asks))

    @staticmethod
    def _weigh(chance):
        return np.array([chance, 1 - chance]) if isinstance(chance, float) else chance

    @property
    def asked(self) -> list[str]:
        return [ask.messages[0].text for ask in (*self.weighed, *self.answered)]


def _find(by_part, ask):
    return by_part[max((part for part in by_part if part in ask.messages[0].text), key=len)]


def _say(answer):
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.fixture
def entry(noise_picture):
    """A picture of noise, as an entry."""

    def entry(prompt: str | None = "a cat", *checks: Check, seed: int = 0) -> Entry:
        path = Path(f"in/{seed}.png")
        Picture.of(noise_picture(seed)).save(path)
        return Entry(path.name, path, prompt, checks=checks or None)

    return entry


def score(metrics: str, mllm, *entries: Entry, cache: Path | None = None, clip=None):
    sources = Sources(mllm=mllm, clip=clip, detector=FakeDetector())
    return score_entries(list(entries), find_metrics(metrics.split(",")), sources, cache=cache).pictures


def values(found) -> list[float | None]:
    return [getattr(each, "value", None) for each in found]


# ------------------------------------------------------------------------------------------------- levels and ratings


def test_q_align_is_the_mean_of_the_levels_by_their_probabilities(entry):
    chances = np.array([0.1, 0.2, 0.3, 0.25, 0.15])

    class Levels(Told):
        def choose(self, asks, options):
            assert tuple(options) == LEVELS == ("bad", "poor", "fair", "good", "excellent")
            return super().choose(asks, options)

    mllm = Levels({"quality": chances})
    found = score("q-align", mllm, entry(None), entry("a cat", seed=1))["q-align"]
    assert values(found) == pytest.approx([0.1 + 0.4 + 0.9 + 1.0 + 0.75] * 2, abs=1e-12)
    assert len(mllm.weighed) == 2
    assert all(len(ask.messages[0].images) == 1 for ask in mllm.weighed)


@pytest.mark.parametrize(("level", "value"), [(0, 1.0), (2, 3.0), (4, 5.0)])
def test_q_align_of_one_sure_level_is_its_number(entry, level, value):
    assert values(score("q-align", Told({"quality": np.eye(5)[level]}), entry())["q-align"]) == [value]


@pytest.mark.parametrize(
    "chances",
    [np.full(5, np.nan), Refused("no log-probabilities"), np.zeros(5)],
)
def test_q_align_without_probabilities_is_unscored(entry, chances):
    (found,) = score("q-align", Told({"quality": chances}), entry())["q-align"]
    assert isinstance(found, Unscored)
    assert found.reason in ("the probabilities of the levels are no numbers", "no log-probabilities")


@pytest.mark.parametrize("metric", ["mllm-perception", "mllm-match"])
@pytest.mark.parametrize(("rating", "value"), [(1, 0.0), (2, 0.25), (3, 0.5), (4, 0.75), (5, 1.0)])
def test_a_rating_from_one_to_five_is_a_number_from_zero_to_one_with_its_reason(entry, metric, rating, value):
    mllm = FakeMLLM([json.dumps({"reason": "so", "rating": rating})])
    assert score(metric, mllm, entry())[metric] == [Score(value=value, reason="so")]


@pytest.mark.parametrize("brief", [True, False])
def test_a_rating_of_the_match_sees_the_prompt_and_one_of_perception_does_not(entry, brief):
    mllm = FakeMLLM(lambda ask: '{"reason": "", "rating": 3}', brief=brief)
    score("mllm-perception,mllm-match", mllm, entry("a violet zebra"))
    perception, match = mllm.asked
    assert "violet zebra" in match.messages[0].text
    assert "violet zebra" not in perception.messages[0].text
    assert [len(ask.messages[0].images) for ask in mllm.asked] == [1, 1]


@pytest.mark.parametrize("answer", ["", "I rate it 4.", '{"rating": 9, "reason": ""}', '{"rating": "good", "reason": ""}', '{"rating": 4}'])
def test_what_is_no_rating_is_unscored_and_costs_no_other_picture(entry, answer):
    mllm = FakeMLLM([answer, '{"reason": "", "rating": 5}'])
    bad, good = score("mllm-perception", mllm, entry(), entry(seed=1))["mllm-perception"]
    assert isinstance(bad, Unscored)
    assert bad.reason.startswith("The reply")
    assert good.value == 1


def test_a_reply_without_a_record_is_no_rating(entry):
    class Forgetful(Told):
        def answer(self, asks):
            return [Reply(text='{"reason": "", "rating": 5}') for _ in asks]

    assert score("mllm-match", Forgetful(), entry())["mllm-match"] == [Unscored(reason="the MLLM answered without a rating")]


def test_ratings_are_given_of_pictures_without_a_prompt_only_where_none_is_needed(entry):
    mllm = FakeMLLM(lambda ask: '{"reason": "", "rating": 3}')
    found = score("mllm-perception,mllm-match,q-align", mllm, entry(None))
    assert values(found["mllm-perception"]) == [0.5]
    assert found["mllm-match"] == [Unscored(reason="no prompt is known")]


# ----------------------------------------------------------------------------------------------------------- questions


@pytest.mark.parametrize(
    ("cat", "red", "dog", "tifa", "dsg", "geneval"),
    [
        (0.9, 0.8, 0.1, 1, 1, 1),
        (0.2, 0.9, 0.1, 2 / 3, 1 / 3, 0),
        (0.9, 0.2, 0.1, 2 / 3, 2 / 3, 0),
        (0.9, 0.8, 0.7, 2 / 3, 2 / 3, 0),
        (0.1, 0.1, 0.9, 0, 0, 0),
    ],
)
def test_three_ways_to_count_the_same_answers(entry, cat, red, dog, tifa, dsg, geneval):
    mllm = Told({"a cat?": cat, "it red?": red, "a dog?": dog})
    found = score(QUESTIONED, mllm, entry("a red cat", *CHECKS))
    assert [values(found[name]) for name in ("tifa", "dsg", "geneval")] == [[pytest.approx(each)] for each in (tifa, dsg, geneval)]
    assert len(mllm.asked) == 3, "each question is asked once though three metrics share it"
    wrong = [check.question for check, share in zip(CHECKS, (cat, red, 1 - dog), strict=True) if share < 0.5]
    assert found["tifa"][0].reason == (f"wrong: {' '.join(wrong)}" if wrong else "all right")


def test_an_even_chance_is_decided_the_same_way_each_time(entry):
    found = score("tifa", Told({"a cat?": 0.5, "a dog?": 0.5}), entry("p", CAT, DOG))
    assert values(found["tifa"]) == [0.5], "the first option of equals, which is yes"


def test_questions_with_choices_and_yes_no_ones_count_together(entry):
    place = Check("Where?", "beach", ("park", "beach", "forest"))
    mllm = Told({"Where?": np.array([0.3, 0.4, 0.3]), "a cat?": 0.1})
    assert values(score("tifa", mllm, entry("p", place, CAT))["tifa"]) == [0.5]


@pytest.mark.parametrize("said", ["yes", "Yes.", "**Yes**, both"])
def test_an_mllm_that_tells_no_probabilities_is_asked_in_words(entry, said):
    down = NoProbabilities("no log-probabilities")
    mllm = Told({"": down}, writes={"a cat?": said, "it red?": "No", "a dog?": "no"})
    found = score(QUESTIONED, mllm, entry("p", *CHECKS))
    assert [values(found[name]) for name in ("tifa", "dsg", "geneval")] == [[2 / 3], [2 / 3], [0]]
    assert (len(mllm.weighed), len(mllm.answered)) == (3, 3)


def test_words_make_a_product_of_nothing_or_one(entry):
    down = NoProbabilities("no log-probabilities")
    mllm = Told({"": down}, writes={"a red car?": "Yes", "a dog?": "yes"})
    both = entry("a red car and a dog")
    assert values(score("compbench-attributes", mllm, both)["compbench-attributes"]) == [1.0]
    mllm = Told({"": down}, writes={"a red car?": "Yes", "a dog?": "no"})
    assert score("compbench-attributes", mllm, both)["compbench-attributes"] == [Score(value=0, reason="wrong: a dog?")]


@pytest.mark.parametrize("failure", [DriverError("it is ill"), Refused("not this picture")])
def test_one_question_that_fails_leaves_that_picture_unscored_and_no_other(entry, failure):
    owl = Check("Is there an owl?")
    mllm = Told({"a cat?": 0.9, "it red?": 0.9, "a dog?": 0.1, "an owl?": failure})
    entries = [entry("p", *CHECKS), entry("p", *CHECKS, owl, seed=1), entry("p", CAT, seed=2)]
    for found in score(QUESTIONED, mllm, *entries).values():
        assert values(found) == [1, None, 1]
        assert found[1].reason == str(failure)


def test_an_answer_in_words_that_is_neither_yes_nor_no_leaves_that_picture_unscored(entry):
    mllm = Told({"": NoProbabilities("no")}, writes={"a cat?": "yes", "a dog?": "I cannot tell."})
    first, second = score("tifa", mllm, entry("p", CAT), entry("p", CAT, DOG, seed=1))["tifa"]
    assert first.value == 1
    assert "I cannot tell." in second.reason


def test_pictures_are_asked_only_their_own_questions(entry):
    mllm = Told({"a cat?": 0.9, "a dog?": 0.1})
    score("tifa", mllm, entry("p", CAT), entry("p", DOG, seed=1))
    for ask, seed, part in zip(mllm.weighed, (0, 1), ("a cat?", "a dog?"), strict=True):
        assert part in ask.messages[0].text
        assert ask.messages[0].images[0].tobytes() == Image.open(f"in/{seed}.png").tobytes()


def test_a_question_that_is_given_twice_counts_twice_but_is_asked_once(entry):
    mllm = Told({"a cat?": 0.1, "a dog?": 0.1})
    assert values(score("tifa", mllm, entry("p", CAT, CAT, DOG))["tifa"]) == [pytest.approx(1 / 3)]
    assert len(mllm.asked) == 2


@pytest.mark.parametrize("metric", [name for name in ("tifa", "dsg", "geneval", "compbench-attributes", "compbench-spatial")])
def test_a_nan_from_an_mllm_ends_no_run_and_is_no_score(entry, metric):
    class Nan(Told):
        def choose(self, asks, options):
            return [np.full(len(options), np.nan) for _ in asks]

    (found,) = score(metric, Nan(), entry("a red car near a dog", CAT))[metric]
    assert isinstance(found, Unscored)


# ------------------------------------------------------------------------------------------------- questions by the MLLM

WRITTEN = json.dumps({"questions": [{"question": "Is there a cat?"}, {"question": "Is it red?", "needs": [1]}]})


def test_questions_that_the_mllm_writes_are_asked_and_counted(entry):
    mllm = Told({"a cat?": 0.2, "it red?": 0.9}, writes={"a red cat": WRITTEN})
    found = score(QUESTIONED, mllm, entry("a red cat"))
    assert [values(found[name]) for name in ("tifa", "dsg", "geneval")] == [[0.5], [0.0], [0.0]]
    assert (len(mllm.answered), len(mllm.weighed)) == (1, 2), "written once and asked once, though three metrics share them"


def test_questions_are_written_once_a_prompt(entry):
    mllm = Told({"a cat?": 0.9, "it red?": 0.9}, writes={"a red cat": WRITTEN, "a dog": '{"questions": [{"question": "a cat?"}]}'})
    found = score(QUESTIONED, mllm, entry("a red cat"), entry("a dog", seed=1), entry("a red cat", seed=2))
    assert values(found["tifa"]) == [1, 1, 1]
    assert (len(mllm.answered), len(mllm.weighed)) == (2, 5)


def test_questions_are_written_once_a_prompt_however_many_pictures_are_worked_on_at_once(entry, monkeypatch):
    monkeypatch.setattr("vernissage.scoring.score.CHUNK", 1)
    mllm = Told({"a cat?": 0.9, "it red?": 0.9}, writes={"a red cat": WRITTEN})
    score("tifa", mllm, entry("a red cat"), entry("a red cat", seed=1))
    assert len(mllm.answered) == 1


def test_pictures_with_questions_of_their_own_have_none_written(entry):
    mllm = Told({"a cat?": 0.9, "it red?": 0.9}, writes={"a red cat": WRITTEN})
    score("tifa", mllm, entry("a red fox", CAT), entry("a red cat", seed=1))
    assert ["a red fox" in ask.messages[0].text for ask in mllm.answered] == [False]


@pytest.mark.parametrize(
    "answer",
    [
        "Is there a cat?",
        "",
        json.dumps({"questions": [{"question": f"{index}?"} for index in range(MOST_CHECKS + 1)]}),
        ReplyError("The model rambled.", reply="la la"),
    ],
)
def test_a_prompt_to_which_no_questions_were_written_leaves_its_pictures_unscored_and_no_other(entry, answer):
    mllm = Told({"a cat?": 0.9, "it red?": 0.9}, writes={"a dog": answer, "a red cat": WRITTEN})
    entries = [entry("a dog"), entry("a red cat", seed=1), entry("a dog", seed=2), entry("a dog", CAT, seed=3)]
    for found in score(QUESTIONED, mllm, *entries).values():
        assert values(found) == [None, 1, None, 1]
        assert found[0] == found[2]
        assert found[0].reason.startswith("no questions could be had: ")
    assert len(mllm.answered) == 2, "a failure is not asked again by each metric"


@pytest.mark.parametrize("needs", [[[5], [9]], [[2], [1]], [[1], [2]], [[0, -1], []]])
def test_odd_needs_of_written_questions_do_no_harm(entry, needs):
    questions = [{"question": question, "needs": each} for question, each in zip(("a cat?", "it red?"), needs, strict=True)]
    mllm = Told({"a cat?": 0.9, "it red?": 0.9}, writes={"": json.dumps({"questions": questions})})
    assert values(score("dsg", mllm, entry("a red cat"))["dsg"]) == [1]


def test_a_small_mllm_answers_questions_that_are_given_but_writes_none(entry):
    mllm = FakeMLLM(brief=True)
    found = score(QUESTIONED, mllm, entry("a cat", CAT), entry("a dog", seed=1))
    for name in QUESTIONED.split(","):
        assert values(found[name]) == [1, None]
        assert "too small" in found[name][1].reason
    assert len(mllm.asked) == 1
    assert mllm.asked[0].messages[0].text.startswith("question\n")


def test_without_questions_and_prompt_nobody_is_asked(entry):
    mllm = Told()
    for found in score(QUESTIONED, mllm, entry(None)).values():
        assert found == [Unscored(reason="no questions and no prompt are known")]
    assert mllm.asked == []


# --------------------------------------------------------------------------------------------------------- T2I-CompBench

LEFT = "a red cat on the left of a dog"
CHANCES = {"~~~~\na red cat?": 0.8, "~~~~\na dog?": 0.5, "Is a red cat to the left of a dog?": 0.6}


def test_attributes_and_relations_are_products_of_probabilities(entry):
    mllm = Told(CHANCES)
    found = score("compbench-attributes,compbench-spatial", mllm, entry(LEFT))
    assert values(found["compbench-attributes"]) == [pytest.approx(0.4, abs=1e-12)]
    assert values(found["compbench-spatial"]) == [pytest.approx(0.6, abs=1e-12)]


def test_three_in_one_is_the_mean_of_attributes_relations_and_the_cosine_and_asks_nothing_again(entry, noise_picture):
    mllm = Told(CHANCES)
    found = score("compbench-attributes,compbench-spatial,compbench-3-in-1", mllm, entry(LEFT), clip=FakeEncoder())
    cosine = float(FakeEncoder().encode([noise_picture(0)])[0] @ FakeEncoder().encode_text([LEFT])[0])
    assert values(found["compbench-3-in-1"]) == [pytest.approx((0.4 + 0.6 + cosine) / 3, abs=1e-6)]
    assert found["compbench-3-in-1"][0].reason == ""
    assert len(mllm.asked) == 3


def test_three_in_one_without_a_relation_is_the_mean_of_the_other_two_and_says_so(entry, noise_picture):
    found = score("compbench-3-in-1,compbench-spatial", Told({"a red cat?": 0.8}), entry("a red cat"), clip=FakeEncoder())
    cosine = float(FakeEncoder().encode([noise_picture(0)])[0] @ FakeEncoder().encode_text(["a red cat"])[0])
    assert values(found["compbench-3-in-1"]) == [pytest.approx((0.8 + cosine) / 2, abs=1e-6)]
    assert found["compbench-spatial"] == [Unscored(reason="the prompt names no spatial relation of two things")]
    assert found["compbench-3-in-1"][0].reason == found["compbench-spatial"][0].reason


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("The red cup was next to the blue plate.", (0.4, 0.6)),
        ("The tall lamp is on the left of the low table", (0.4, 0.6)),
        ("The red cup shone next to the blue plate.", (0.4, 0.6, "cosine")),
        ("The grey dog slept on top of the warm bed.", (0.4, 0.6, "cosine")),
        ("The grey dog was hung above the warm bed.", (0.4, "cosine")),  # a relation, but none that the benchmark counts as one
        ("The grey dog chased the old cat.", (0.4, "cosine")),
    ],
)
def test_three_in_one_takes_the_parts_that_the_authors_take_for_a_prompt_of_that_kind(entry, noise_picture, prompt, parts):
    mllm = Told({"?": 0.4**0.5, "Is The ": 0.6})  # of two things each, so that the product is 0.4
    found = score("compbench-3-in-1", mllm, entry(prompt), clip=FakeEncoder())["compbench-3-in-1"]
    cosine = float(FakeEncoder().encode([noise_picture(0)])[0] @ FakeEncoder().encode_text([prompt])[0])
    assert values(found) == [pytest.approx(np.mean([cosine if part == "cosine" else part for part in parts]), abs=1e-6)]


@pytest.mark.parametrize("part", [*list(CHANCES)[:2], list(CHANCES)[2]])
def test_three_in_one_is_unscored_where_a_part_of_it_failed(entry, part):
    mllm = Told(CHANCES | {part: DriverError("it is ill")}, writes={"": "yes"})
    assert score("compbench-3-in-1", mllm, entry(LEFT), clip=FakeEncoder())["compbench-3-in-1"] == [Unscored(reason="it is ill")]


def test_three_in_one_is_unscored_where_the_picture_has_no_features(entry):
    class Blind:
        name = "blind"

        def encode_raw(self, images):
            return np.full((len(images), 8), np.nan, np.float32)

        def encode_text(self, texts):
            return FakeEncoder().encode_text(texts)

    assert score("compbench-3-in-1", Told(CHANCES), entry(LEFT), clip=Blind())["compbench-3-in-1"] == [
        Unscored(reason="the number is not finite")
    ]


def test_compbench_s_scores_need_a_prompt_and_leave_others_alone(entry):
    names = [name for name in METRICS if name.startswith("compbench")]
    found = score(",".join(names), Told(CHANCES), entry(None), entry(LEFT, seed=1), clip=FakeEncoder())
    for name in names:
        assert found[name][0] == Unscored(reason="no prompt is known")
        assert isinstance(found[name][1], Score)


def test_compbench_asks_the_prompt_s_own_things_whatever_questions_came_with_the_picture(entry):
    mllm = Told({"a red car?": 0.7})
    assert values(score("compbench-attributes", mllm, entry("a red car", CAT))["compbench-attributes"]) == [pytest.approx(0.7)]


# ------------------------------------------------------------------------------------------------------------- the cache

ASKING = "q-align,mllm-perception,mllm-match,tifa,dsg,geneval,compbench-attributes,compbench-spatial,compbench-3-in-1"


def everything() -> Told:
    return Told(
        {"quality of this image": np.eye(5)[3], "?": 0.9},
        writes={"1 to 5": '{"reason": "so", "rating": 4}', "Write the yes/no questions": WRITTEN},
    )


def test_a_second_run_asks_nothing_and_finds_the_same(entry):
    entries = [entry(LEFT), entry(LEFT, CAT, RED, seed=1)]
    first = score(ASKING, everything(), *entries, cache=Path("cache"), clip=FakeEncoder())
    assert all(isinstance(each, Score) for found in first.values() for each in found), first
    again = everything()
    assert score(ASKING, again, *entries, cache=Path("cache"), clip=FakeEncoder()) == first
    assert again.asked == []


@pytest.mark.parametrize(
    ("checks", "asked"),
    [
        ((CAT, RED), 0),
        ((CAT,), 1),
        ((RED, CAT), 2),
        ((CAT, RED._replace(needs=())), 2),
        ((CAT, RED._replace(expected="no")), 2),
        ((CAT, Check("Is it blue?", needs=(0,))), 2),
        ((CAT, RED._replace(choices=("no", "yes"))), 2),
    ],
)
def test_changed_questions_are_asked_anew(entry, checks, asked):
    def run(*own: Check) -> int:
        mllm = Told({"cat": 0.9, "it": 0.9})
        score("dsg", mllm, entry("p", *own), cache=Path("cache"))
        return len(mllm.asked)

    assert run(CAT, RED) == 2
    assert run(*checks) == asked


def test_questions_that_are_given_now_go_before_what_was_kept_of_written_ones(entry):
    first = score("tifa", Told({"a cat?": 0.9, "it red?": 0.1}, writes={"a red cat": WRITTEN}), entry("a red cat"), cache=Path("cache"))
    mllm = Told({"a dog?": 0.1})
    second = score("tifa", mllm, entry("a red cat", DOG), cache=Path("cache"))
    assert (values(first["tifa"]), values(second["tifa"]), len(mllm.asked)) == ([0.5], [1], 1)


def test_another_prompt_or_another_mllm_is_asked_anew(entry):
    def run(prompt: str, name: str = "told") -> int:
        mllm = Told({"?": 0.9}, writes={"": WRITTEN}, name=name)
        score("tifa,compbench-attributes", mllm, entry(prompt), cache=Path("cache"))
        return len(mllm.asked)

    assert run("a red car") == 4
    assert run("a red car") == 0
    assert run("a red car", "another") == 4
    assert run("a red van") == 4


def test_what_failed_is_not_kept_and_asked_again(entry):
    entries = [entry("p", CAT), entry("p", DOG, seed=1)]
    first = score("tifa", Told({"a cat?": 0.9, "a dog?": DriverError("ill")}), *entries, cache=Path("cache"))
    mllm = Told({"a dog?": 0.1})
    second = score("tifa", mllm, *entries, cache=Path("cache"))
    assert (values(first["tifa"]), values(second["tifa"]), len(mllm.asked)) == ([1, None], [1, 1], 1)


def test_a_metric_added_later_asks_only_its_own(entry):
    score("tifa", Told({"a cat?": 0.9}), entry("a red car", CAT), cache=Path("cache"))
    mllm = Told({"a red car?": 0.9})
    score("tifa,compbench-attributes", mllm, entry("a red car", CAT), cache=Path("cache"))
    assert len(mllm.asked) == 1


def test_every_metric_that_asks_an_mllm_is_tried_here():
    assert {name for name, metric in METRICS.items() if "mllm" in metric.needs} == {*ASKING.split(","), "vqascore"}
    assert YES_NO == ("yes", "no")
