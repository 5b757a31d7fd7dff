"""The road of judging on the embedded studio: pictures in, verdicts out, and they follow what is known to be true."""

import numpy as np
import pytest

import vernissage as vs
from vernissage.cli import main
from vernissage.judging.nn.judge import TrainedJudge
from vernissage.metrics.correlation import srcc
from vernissage.records.picture import Picture
from vernissage.records.verdict import Score
from vernissage.world import tell
from vernissage.world.defects import spoil
from vernissage.world.draw import draw
from vernissage.world.scene import sample_scene


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(77)
    return [sample_scene(rng, split="held-out") for _ in range(40)]


@pytest.fixture(scope="module")
def pictures(scenes):
    return [draw(scene, seed=900 + index).image for index, scene in enumerate(scenes)]


def test_the_embedded_judge_is_a_trained_one_and_says_that_its_ratings_were_synthetic(mini):
    assert isinstance(mini.critic, TrainedJudge)
    assert "synthetic" in mini.critic.name


def test_spoiled_pictures_look_worse_the_more_they_are_spoiled(mini, pictures):
    strengths = [index % 5 for index in range(len(pictures))]
    spoiled = [spoil(image, ("blur", "noise", "warp")[i % 3], strengths[i], seed=i) for i, image in enumerate(pictures)]
    verdicts = mini.judge_several(spoiled)
    assert srcc(np.array([verdict.perception.value for verdict in verdicts]), -np.array(strengths, dtype=float)) > 0.7
    assert all(verdict.correspondence.reason == "no prompt was given" for verdict in verdicts)


def test_the_right_prompt_fits_better_than_another_pictures(mini, scenes, pictures):
    right = mini.judge_several(pictures, prompts=[tell.prompt(scene) for scene in scenes])
    wrong = mini.judge_several(pictures, prompts=[tell.prompt(scene) for scene in [*scenes[1:], scenes[0]]])
    better = [a.correspondence.value > b.correspondence.value for a, b in zip(right, wrong, strict=True)]
    assert np.mean(better) > 0.8


def test_questions_are_answered_better_than_by_chance(mini, scenes, pictures):
    rng = np.random.default_rng(5)
    right = []
    for scene, image in zip(scenes, pictures, strict=True):
        asked = tell.questions(scene, rng)
        (verdict,) = mini.judge_several([image], questions=[question.text for question in asked])
        right += [(answer.yes.value > 0.5) == question.answer for answer, question in zip(verdict.answers, asked, strict=True)]
    assert np.mean(right) > 0.7


def test_a_picture_painted_here_is_judged_by_the_prompt_it_carries(mini, tmp_path, capsys):
    picture = vs.paint("a red cat in the city at night, neon", studio=mini)
    picture.save(tmp_path / "cat.png")
    verdict = vs.judge(Picture.open(tmp_path / "cat.png"), studio=mini, questions=["Is there a cat?"])
    assert isinstance(verdict.correspondence, Score)
    assert verdict.answers[0].question == "Is there a cat?"
    with pytest.raises(SystemExit) as ended:
        main(["judge", str(tmp_path / "cat.png"), "--ask", "Is there a cat?"])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert f"perception {verdict.perception.value:.1f} ({verdict.perception_level}), correspondence" in shown
    assert f"correspondence {verdict.correspondence.value:.1f} ({verdict.correspondence_level})" in shown


def test_repainting_can_be_rated_by_the_judge(mini, pictures):
    repainted = mini.repaint(pictures[0], model="mini/general", rounds=1, candidates=2, rater="judge", words="direct")
    (first,) = repainted.regeneration.rounds
    scores = first.candidates[first.best].scores
    assert "synthetic" in scores["perception"].reason
    assert 0 <= scores["consistency"].value <= 1
