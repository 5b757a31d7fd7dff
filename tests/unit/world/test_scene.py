"""Scenes: what may be, and which belong to the held-out set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vernissage.world.layout import place_things
from vernissage.world.scene import COLOURS, KINDS, PLACES, RELATIONS, STYLES, TIMES, Scene, is_held_out, sample_scene, split_of


def test_the_world_is_as_large_as_it_claims():
    assert (len(KINDS), len(COLOURS), len(PLACES), len(TIMES), len(STYLES), len(RELATIONS)) == (12, 8, 6, 3, 6, 4)


@given(st.integers(0, 2**32), st.sampled_from(["train", "held-out"]))
def test_a_scene_drawn_for_a_set_belongs_to_it(seed, split):
    scene = sample_scene(np.random.default_rng(seed), split=split)
    assert split_of(scene) == split
    assert any(is_held_out(g.kind, g.colour, scene.place) for g in scene.groups) == (split == "held-out")


def test_every_kind_colour_and_place_is_seen_in_training():
    kept = [(k, c, p) for k in KINDS for c in COLOURS for p in PLACES if not is_held_out(k, c, p)]
    for position, names in enumerate((KINDS, COLOURS, PLACES)):
        assert {combination[position] for combination in kept} == set(names)
    assert {(k, c) for k, c, _ in kept} == {(k, c) for k in KINDS for c in COLOURS}


def test_the_same_generator_state_gives_the_same_scene():
    assert sample_scene(np.random.default_rng(4)) == sample_scene(np.random.default_rng(4))


@pytest.mark.parametrize(
    ("groups", "relation"),
    [
        ([("cat", "red", 1)], "left of"),
        ([("cat", "red", 1), ("car", "red", 1)], None),
        ([("cat", "red", 1), ("cat", "blue", 1)], "above"),
        ([("cat", "red", 5)], None),
    ],
)
def test_an_impossible_scene_is_refused(groups, relation):
    rows = [{"kind": kind, "colour": colour, "count": count} for kind, colour, count in groups]
    with pytest.raises(ValidationError):
        Scene.model_validate({"groups": rows, "relation": relation, "place": "sea", "time": "day", "style": "photo"})


@given(st.integers(0, 2**32))
def test_things_stand_apart_inside_the_picture_and_in_their_relation(seed):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    boxes = place_things(scene, rng)
    assert [box.group for box in boxes].count(0) == scene.groups[0].count
    assert len(boxes) == sum(group.count for group in scene.groups)
    for index, box in enumerate(boxes):
        assert 0 < box.x < 1
        assert 0 < box.y < 1
        for other in boxes[:index]:
            assert np.hypot(box.x - other.x, box.y - other.y) > 0.8 * (box.radius + other.radius)
    first = [(b.x, b.y) for b in boxes if b.group == 0]
    second = [(b.x, b.y) for b in boxes if b.group == 1]
    for x, y in first:
        for other_x, other_y in second:
            match scene.relation:
                case "left of":
                    assert x < other_x
                case "right of":
                    assert x > other_x
                case "above":
                    assert y < other_y
                case "below":
                    assert y > other_y
