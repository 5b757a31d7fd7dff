"""The checker's eyes: what they read off pictures whose truth is known."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from vernissage.world.draw import draw
from vernissage.world.facts import check_facts, facts_of
from vernissage.world.nn.recogniser import load_recogniser, read_pictures
from vernissage.world.scene import sample_scene
from vernissage.zoo.catalogue import package_folder


@pytest.fixture(scope="module")
def recogniser():
    return load_recogniser(package_folder("mini") / "recogniser")


@pytest.fixture(scope="module")
def held_out():
    rng = np.random.default_rng(123)
    scenes = [sample_scene(rng, split="held-out") for _ in range(120)]
    return scenes, [draw(scene, seed=10_000 + index).image for index, scene in enumerate(scenes)]


def share_right(scenes, seen):
    checks = [check for scene, facts in zip(scenes, seen, strict=True) for check in check_facts(facts_of(scene), facts)]
    return sum(check.right for check in checks) / len(checks)


def test_at_least_98_percent_of_the_facts_of_held_out_pictures_are_read_right(recogniser, held_out):
    scenes, images = held_out
    assert share_right(scenes, read_pictures(recogniser, images)) >= 0.98


def test_a_larger_or_slightly_blurred_picture_is_read_as_well(recogniser, held_out):
    scenes, images = held_out
    spoiled = [image.resize((256, 256), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1.5)) for image in images]
    assert share_right(scenes, read_pictures(recogniser, spoiled)) >= 0.95


def test_pictures_of_other_scenes_are_found_out(recogniser, held_out):
    scenes, images = held_out
    seen = read_pictures(recogniser, images)
    assert share_right(scenes[1:], seen[:-1]) < 0.4


def test_nothing_is_seen_on_an_empty_picture(recogniser):
    (facts,) = read_pictures(recogniser, [Image.new("RGB", (128, 128), (200, 220, 240))])
    assert facts.groups == ()
    assert facts.relation is None


def test_a_picture_is_read_the_same_alone_and_in_a_batch(recogniser, held_out):
    _, images = held_out
    together = read_pictures(recogniser, images[:9], batch=4)
    assert together == [read_pictures(recogniser, [image])[0] for image in images[:9]]
