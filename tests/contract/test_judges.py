"""What every judge promises: the embedded ones, and a trained one on tiny checkpoints of two families."""

import pytest

from vernissage.drivers.fake import FakeMLLM
from vernissage.judging.zero_shot import ZeroShotJudge
from vernissage.records.verdict import Score, Unscored

PROMPTS = ["a red cat", "two yellow stars over the sea, at night", None, "  "]
QUESTIONS = [["Is there a cat?", "Is it night?"], [], ["Is there a dog?"], ["Is it red?"] * 3]


@pytest.fixture(params=["zero-shot", "internvl", "qwen25_vl", "qwen2_vl"])
def judge(request, tiny_judge):
    return ZeroShotJudge(FakeMLLM()) if request.param == "zero-shot" else tiny_judge(request.param)


@pytest.fixture
def pictures(noise_picture):
    return [noise_picture(1), noise_picture(2, (48, 20)), noise_picture(3).convert("L"), noise_picture(4).convert("RGBA")]


def test_every_picture_gets_a_verdict_in_order_with_all_its_answers(judge, pictures):
    verdicts = judge.judge(pictures, PROMPTS, QUESTIONS)
    assert len(verdicts) == len(pictures)
    assert [[answer.question for answer in verdict.answers] for verdict in verdicts] == QUESTIONS
    assert all(verdict.judge.startswith(judge.name) for verdict in verdicts)


def test_no_pictures_give_no_verdicts(judge):
    assert judge.judge([], [], []) == []


def test_scores_stay_on_their_scales_and_levels_come_with_scores(judge, pictures):
    for verdict in judge.judge(pictures, PROMPTS, QUESTIONS):
        for score, level in ((verdict.perception, verdict.perception_level), (verdict.correspondence, verdict.correspondence_level)):
            assert (level is not None) == isinstance(score, Score)
            if isinstance(score, Score):
                assert 0 <= score.value <= 100
        for answer in verdict.answers:
            assert isinstance(answer.yes, Unscored) or 0 <= answer.yes.value <= 1


def test_without_a_prompt_there_is_no_correspondence_and_the_reason_is_told(judge, pictures):
    verdicts = judge.judge(pictures, PROMPTS, QUESTIONS)
    assert all(verdict.correspondence == Unscored(reason="no prompt was given") for verdict in verdicts[2:])


def test_a_verdict_does_not_depend_on_the_other_pictures(judge, pictures):
    together = judge.judge(pictures, PROMPTS, QUESTIONS)
    alone = [judge.judge([image], [prompt], [several])[0] for image, prompt, several in zip(pictures, PROMPTS, QUESTIONS, strict=True)]
    for one, other in zip(together, alone, strict=True):
        assert one.model_dump(exclude={"perception", "correspondence", "answers"}) == other.model_dump(
            exclude={"perception", "correspondence", "answers"}
        )
        pairs = [(one.perception, other.perception), (one.correspondence, other.correspondence)]
        pairs += [(a.yes, b.yes) for a, b in zip(one.answers, other.answers, strict=True)]
        for first, second in pairs:
            if isinstance(first, Score):
                assert first.value == pytest.approx(second.value, abs=1e-3)
            else:
                assert first == second
