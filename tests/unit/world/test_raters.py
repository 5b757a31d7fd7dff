"""Synthetic raters rate as their stated model says, and opinions made from them follow the truth."""

import numpy as np
import pytest

from vernissage.judging.mos import mean_opinions, vote
from vernissage.judging.ratings import Panel
from vernissage.metrics.correlation import srcc
from vernissage.world.defects import DEFECTS, spoil
from vernissage.world.draw import draw
from vernissage.world.nn.recogniser import legibility, load_recogniser
from vernissage.world.raters import Rater, answer, perceived_quality, rate, sample_raters
from vernissage.world.scene import sample_scene
from vernissage.zoo.catalogue import package_folder


def test_a_rater_without_faults_tells_the_truth():
    exact = Rater("exact", 0.0, 1.0, 0.0, 0.0)
    assert rate(np.array([0, 0.25, 0.5, 0.75, 1]), [exact]).tolist() == [[1, 2, 3, 4, 5]]
    assert answer(np.array([1, 0, 1]), [exact]).tolist() == [[1, 0, 1]]


def test_a_strict_rater_rates_lower_and_nobody_leaves_the_scale():
    strict, wild = Rater("strict", -0.25, 1.0, 0.0, 0.0), Rater("wild", 0.0, 3.0, 2.0, 0.0)
    said = rate(np.linspace(0, 1, 200), [strict, wild])
    assert said[0].tolist() == (rate(np.linspace(0, 1, 200) - 0.25, [Rater("x", 0, 1, 0, 0)])[0]).tolist()
    assert said.min() == 1
    assert said.max() == 5


def test_lapses_are_as_frequent_as_stated():
    careless = Rater("careless", 0, 1, 0, 0.2)
    wrong = answer(np.ones(5000), [careless]) == 0
    assert wrong.mean() == pytest.approx(0.2, abs=0.02)


def test_raters_and_their_ratings_follow_from_seeds():
    assert sample_raters(seed=1) == sample_raters(seed=1) != sample_raters(seed=2)
    truth = np.linspace(0, 1, 50)
    assert np.array_equal(rate(truth, sample_raters(), seed=3), rate(truth, sample_raters(), seed=3))
    assert not np.array_equal(rate(truth, sample_raters(), seed=3), rate(truth, sample_raters(), seed=4))


def test_opinions_of_sixteen_raters_follow_the_truth_and_votes_are_right():
    truth, raters = np.random.default_rng(0).random(300), sample_raters()
    names = tuple(map(str, range(300)))
    opinions = mean_opinions(Panel(tuple(r.name for r in raters), names, rate(truth, raters)))
    assert srcc(np.array([opinion.mos for opinion in opinions.values()]), truth) > 0.97
    facts = (truth > 0.5).astype(float)
    votes = vote(Panel(tuple(r.name for r in raters), names, answer(facts, raters)))
    assert np.mean([getattr(said, "value", -1) == fact for said, fact in zip(votes.values(), facts, strict=True)]) > 0.99


def test_a_defect_takes_away_from_what_is_legible():
    assert [perceived_quality(0.8, strength) for strength in range(5)] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])


def test_drawn_pictures_are_legible_and_warped_or_empty_ones_less_so():
    recogniser = load_recogniser(package_folder("mini") / "recogniser")
    rng = np.random.default_rng(2)
    pictures = [draw(sample_scene(rng), seed=index).image for index in range(12)]
    clean = legibility(recogniser, pictures)
    assert clean.mean() > 0.9
    assert ((clean >= 0) & (clean <= 1)).all()
    assert legibility(recogniser, [spoil(picture, "warp", 4) for picture in pictures]).mean() < clean.mean() - 0.2
    assert legibility(recogniser, []).shape == (0,)
    assert "warp" in DEFECTS
