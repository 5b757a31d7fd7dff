"""The judge without training: scores by probabilities or by words, and never a number that was not given."""

import numpy as np
import pytest
from PIL import Image

from vernissage.drivers.fake import FakeMLLM
from vernissage.errors import DriverError, NoProbabilities, Refused, ReplyError, TimedOut, VernissageError
from vernissage.judging.zero_shot import NO_PROMPT, ZeroShotJudge
from vernissage.ports import Ask
from vernissage.records.verdict import LEVELS, Score, Unscored

RED, BLUE = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
CANNOT = NoProbabilities("It cannot tell.")
DOWN = DriverError("The server is down.")


def said(ask: Ask) -> str:
    return ask.messages[0].text


class Sure:
    """Gives probabilities, or an error, as a function of question and options; answering is not expected unless told."""

    name, brief = "sure", True

    def __init__(self, choose, answer=None) -> None:
        self.asked: list[tuple[str, Image.Image, tuple[str, ...]]] = []
        self.calls: list[int] = []
        self._choose, self._words = choose, FakeMLLM(answer or (), brief=True)
        self._may_answer = answer is not None

    def choose(self, asks, options):
        self.calls.append(len(asks))
        self.asked += [(said(ask), ask.messages[0].images[0], tuple(options)) for ask in asks]
        return [self._choose(said(ask), ask.messages[0].images[0]) for ask in asks]

    def answer(self, asks):
        assert self._may_answer
        return self._words.answer(asks)


def one(mllm, prompt: str | None = None, *questions: str):
    (verdict,) = ZeroShotJudge(mllm).judge([RED], [prompt], [questions])
    return verdict


def by_words(script, *, prompt: str | None = None, questions=()):
    """A verdict of an MLLM that cannot tell probabilities."""
    return one(Sure(lambda *_: CANNOT, script), prompt, *questions)


# ------------------------------------------------------------------------------------------------- by probabilities


@pytest.mark.parametrize(
    ("probabilities", "value", "level"),
    [
        ([1, 0, 0, 0, 0], 10, "bad"),
        ([0, 0, 0, 0, 1], 90, "excellent"),
        ([0, 0, 0.5, 0.5, 0], 60, "fair"),
        ([0.2, 0.2, 0.2, 0.2, 0.2], 50, "fair"),
        ([0, 0, 0, 2, 0], 70, "good"),  # a sum that is off a little, or much, does not matter
    ],
)
def test_a_score_is_the_mean_over_the_words(probabilities, value, level):
    verdict = one(Sure(lambda *_: np.array(probabilities, dtype=np.float32)), "a cat")
    for score, word in ((verdict.perception, verdict.perception_level), (verdict.correspondence, verdict.correspondence_level)):
        assert score.value == pytest.approx(value, abs=1e-4)
        assert word == level
    assert verdict.judge == "sure, zero-shot, by the probabilities of its words"


def test_every_picture_is_asked_about_with_its_own_prompt_in_one_call():
    mllm = Sure(lambda text, image: np.eye(5)[(4 if "correspondence" in text else 0) if image == RED else 2])
    first, second = ZeroShotJudge(mllm).judge([RED, BLUE], ["a cat", "a dog"], [(), ()])
    assert mllm.calls == [4]
    assert mllm.asked == [
        ("level perception", RED, LEVELS),
        ("level perception", BLUE, LEVELS),
        ("level correspondence\na cat", RED, LEVELS),
        ("level correspondence\na dog", BLUE, LEVELS),
    ]
    assert (first.perception_level, first.correspondence_level) == ("bad", "excellent")
    assert (second.perception_level, second.correspondence_level) == ("fair", "fair")


def test_without_a_prompt_there_is_no_correspondence():
    mllm = Sure(lambda text, _image: np.eye(5)[3 if "dog" in text else 0])
    verdicts = ZeroShotJudge(mllm).judge([RED, BLUE, RED], [None, "a dog", None], [(), (), ()])
    assert [verdict.correspondence_level for verdict in verdicts] == [None, "good", None]
    assert verdicts[0].correspondence == verdicts[2].correspondence == NO_PROMPT == Unscored(reason="no prompt was given")
    assert verdicts[1].correspondence == Score(value=70.0)
    assert all(isinstance(verdict.perception, Score) for verdict in verdicts)
    assert mllm.calls == [4]


def test_one_question_that_fails_is_unscored_and_never_falls_back_to_words():
    def choose(text: str, image: Image.Image):
        return DOWN if image == BLUE and "perception" in text else np.eye(5)[4]

    first, second = ZeroShotJudge(Sure(choose)).judge([RED, BLUE], ["a", "b"], [(), ()])
    assert (second.perception, second.perception_level) == (Unscored(reason="The server is down."), None)
    assert first.perception == first.correspondence == second.correspondence == Score(value=90.0)
    assert first.judge == second.judge == "sure, zero-shot, by the probabilities of its words"


# -------------------------------------------------------------------------------------------------------- by its word


@pytest.mark.parametrize(("answer", "level"), [*zip(LEVELS, LEVELS, strict=True), ("Good.", "good"), (" **Fair**\n", "fair")])
def test_an_mllm_that_only_answers_gives_the_middle_of_its_word(answer, level):
    verdict = by_words(lambda _ask: answer, prompt="a cat")
    assert verdict.perception == verdict.correspondence == Score(value=10.0 + 20 * LEVELS.index(level))
    assert verdict.perception_level == verdict.correspondence_level == level
    assert verdict.judge == "sure, zero-shot, by its word"


@pytest.mark.parametrize("answer", ["The picture looks 'good', I think.", "GOOD! good, good", "quality: good"])
def test_a_word_may_stand_in_a_sentence(answer):
    assert by_words(lambda _ask: answer).perception_level == "good"


@pytest.mark.parametrize("answer", ["", "7", "great", "goodness", "good or fair", "bad, no: excellent", "bad poor fair good excellent"])
def test_an_answer_that_names_no_one_level_is_unscored_with_the_answer(answer):
    verdict = by_words(lambda _ask: answer)
    assert verdict.perception_level is None
    assert isinstance(verdict.perception, Unscored)
    assert repr(answer) in verdict.perception.reason


def test_a_long_answer_is_cut_off_in_the_reason():
    assert len(by_words(lambda _ask: "hm " * 500).perception.reason) < 150


def test_a_question_that_fails_in_words_is_unscored_alone():
    def script(ask: Ask) -> str:
        if "perception" in said(ask):
            raise ReplyError("The model rambled.", reply="la la")
        return "good"

    verdict = by_words(script, prompt="a cat")
    assert (verdict.perception, verdict.perception_level) == (Unscored(reason="The model rambled."), None)
    assert verdict.correspondence == Score(value=70.0)


def test_all_scores_come_by_one_way():
    """Where a single question has probabilities, none is answered by a word."""

    def choose(text: str, _image):
        return np.eye(5)[1] if text == "level correspondence\nc" else CANNOT

    verdicts = ZeroShotJudge(Sure(choose)).judge([RED, BLUE, RED], ["a", "b", "c"], [(), (), ()])
    assert [verdict.correspondence for verdict in verdicts] == [Unscored(reason="It cannot tell.")] * 2 + [Score(value=30.0)]
    assert {verdict.perception for verdict in verdicts} == {Unscored(reason="It cannot tell.")}
    assert {verdict.judge for verdict in verdicts} == {"sure, zero-shot, by the probabilities of its words"}


def test_a_failure_that_passes_does_not_turn_the_judge_to_words():
    failures = iter([DOWN, Refused("not this picture")])
    judge = ZeroShotJudge(Sure(lambda *_: next(failures, np.eye(5)[1])))
    lost, refused, found = (judge.judge([RED], [None], [()])[0] for _ in range(3))
    assert (lost.perception, lost.judge) == (Unscored(reason=str(DOWN)), "sure, zero-shot")
    assert refused.perception == Unscored(reason="not this picture")
    assert (found.perception, found.judge) == (Score(value=30.0), "sure, zero-shot, by the probabilities of its words")


@pytest.mark.parametrize("odd", [np.full(5, np.nan), np.zeros(5)])
def test_probabilities_that_are_no_numbers_leave_one_question_unscored(odd):
    def choose(text: str, image: Image.Image):
        return np.eye(5)[1] if image == BLUE else odd if text.startswith("level") else odd[:2]

    first, second = ZeroShotJudge(Sure(choose)).judge([RED, BLUE], [None, None], [("a?",), ()])
    assert first.perception == first.answers[0].yes == Unscored(reason="the probabilities of the answers are no numbers")
    assert (first.perception_level, second.perception) == (None, Score(value=30.0))


def test_words_are_asked_for_with_the_same_questions():
    mllm = FakeMLLM(lambda _ask: "poor", brief=True)
    mllm.choose = lambda asks, _options: [CANNOT for _ in asks]
    verdicts = ZeroShotJudge(mllm).judge([RED, BLUE], ["a", None], [(), ()])
    assert [(said(ask), ask.messages[0].images) for ask in mllm.asked] == [
        ("level perception", (RED,)),
        ("level perception", (BLUE,)),
        ("level correspondence\na", (RED,)),
    ]
    assert all(ask.reply is None and ask.temperature == 0 for ask in mllm.asked)
    assert [verdict.perception_level for verdict in verdicts] == ["poor", "poor"]


# --------------------------------------------------------------------------------------------------------- questions


def likely(yes: float):
    return lambda text, _image: np.array([yes, 1 - yes]) if text.startswith("question") else np.eye(5)[2]


@pytest.mark.parametrize("yes", [0.0, 0.25, 1.0])
def test_an_answer_is_the_probability_of_yes(yes):
    mllm = Sure(likely(yes))
    verdict = one(mllm, None, "Is there a cat?", "Is it red?")
    assert [(answer.question, answer.yes) for answer in verdict.answers] == [
        ("Is there a cat?", Score(value=yes)),
        ("Is it red?", Score(value=yes)),
    ]
    assert mllm.asked[1:] == [(f"question\n{text}", RED, ("yes", "no")) for text in ("Is there a cat?", "Is it red?")]


def test_questions_are_asked_of_the_pictures_they_are_about():
    def choose(text: str, image: Image.Image):
        return np.array([float(image == RED), float(image == BLUE)]) if text.startswith("question") else np.eye(5)[2]

    mllm = Sure(choose)
    first, second, third = ZeroShotJudge(mllm).judge([RED, BLUE, RED], [None] * 3, [("a?", "b?"), ("b?",), ()])
    assert mllm.calls == [3, 3]
    assert [(answer.question, answer.yes.value) for answer in first.answers] == [("a?", 1.0), ("b?", 1.0)]
    assert [(answer.question, answer.yes.value) for answer in second.answers] == [("b?", 0.0)]
    assert third.answers == ()


def test_a_question_asked_twice_is_answered_twice():
    assert [answer.yes.value for answer in one(Sure(likely(0.25)), None, "a?", "a?").answers] == [0.25, 0.25]


def test_a_rounding_error_never_leaves_the_range():
    assert one(Sure(likely(1.0000001)), None, "a?").answers[0].yes == Score(value=1.0)


@pytest.mark.parametrize(
    ("answer", "value"),
    [("yes", 1), ("no", 0), ("Yes.", 1), ("No, there is none.", 0), ("**YES**", 1), (" yes\n", 1), ("'no'", 0)],
)
def test_an_mllm_that_only_answers_says_yes_or_no(answer, value):
    verdict = by_words(lambda ask: answer if said(ask).startswith("question") else "good", questions=["Is there a cat?"])
    assert verdict.answers[0].yes == Score(value=value)


@pytest.mark.parametrize("answer", ["", "  ", "maybe", "there is no cat", "yesterday", "1", "nope"])
def test_an_answer_that_is_neither_yes_nor_no_is_unscored(answer):
    verdict = by_words(lambda ask: answer if said(ask).startswith("question") else "good", questions=["Is there a cat?"])
    assert isinstance(verdict.answers[0].yes, Unscored)
    assert repr(answer) in verdict.answers[0].yes.reason
    assert verdict.perception == Score(value=70.0)


def test_a_question_that_fails_is_unscored_alone():
    def choose(text: str, _image) -> np.ndarray | VernissageError:
        return DOWN if text == "question\nb?" else np.array([0.5, 0.5]) if text.startswith("question") else np.eye(5)[2]

    verdict = one(Sure(choose), None, "a?", "b?")
    assert [answer.yes for answer in verdict.answers] == [Score(value=0.5), Unscored(reason="The server is down.")]

    def script(ask: Ask) -> str:
        if said(ask) == "question\nb?":
            raise DOWN
        return "yes" if said(ask).startswith("question") else "good"

    verdict = by_words(script, questions=["a?", "b?"])
    assert [answer.yes for answer in verdict.answers] == [Score(value=1.0), Unscored(reason="The server is down.")]


# ------------------------------------------------------------------------------------------------------------- all


def test_a_judge_that_is_down_scores_nothing():
    def script(_ask: Ask) -> str:
        raise DOWN

    verdict = by_words(script, prompt="a cat", questions=["a?"])
    down = Unscored(reason="The server is down.")
    assert verdict.perception == verdict.correspondence == verdict.answers[0].yes == down
    assert (verdict.perception_level, verdict.correspondence_level) == (None, None)


def test_no_pictures_are_judged_without_asking_anybody():
    mllm = Sure(likely(1.0))
    assert ZeroShotJudge(mllm).judge([], [], []) == []
    assert mllm.calls == []


def test_the_judge_is_called_after_its_mllm():
    assert ZeroShotJudge(FakeMLLM()).name == "fake, zero-shot"


def test_long_prompts_explain_the_task_and_fence_what_people_wrote():
    mllm = Sure(likely(1.0))
    mllm.brief = False
    one(mllm, "a cat", "Is there a cat?")
    perception, correspondence, answer = (text for text, _, _ in mllm.asked)
    assert all(level in perception and level in correspondence for level in LEVELS)
    assert "a cat" in correspondence
    assert "a cat" not in perception
    assert "yes or no" in answer
    assert "Is there a cat?" in answer


def test_one_answer_without_probabilities_among_failures_does_not_end_asking_for_them():
    class Shaky(FakeMLLM):
        calls = 0

        def choose(self, asks, options):
            self.calls += 1
            if self.calls == 1:
                return [NoProbabilities("not of this one"), *[TimedOut("busy")] * (len(asks) - 1)]
            return [np.array([0, 0, 0, 0, 1.0])] * len(asks)

    pictures = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    judge = ZeroShotJudge(Shaky(lambda ask: "bad"))
    judge.judge(pictures, [None, None], [[], []])
    (verdict,) = judge.judge(pictures[:1], [None], [[]])
    assert verdict.perception.value == 90


@pytest.mark.parametrize(
    ("said", "level"),
    [("Good;", "good"), ("(poor)", "poor"), ("It is fair!", "fair"), ("It is not good.", None), ("not bad", None), ("It isn't bad.", None)],
)
def test_a_word_is_a_level_unless_it_is_denied(said, level):
    mllm = FakeMLLM([said] * 2)
    mllm.choose = lambda asks, options: [NoProbabilities("cannot") for _ in asks]
    (verdict,) = ZeroShotJudge(mllm).judge([RED], ["a cat"], [[]])
    assert verdict.perception_level == level
    assert isinstance(verdict.perception, Score if level else Unscored)
