"""Pictures of the world: repeatable, and showing what they claim."""

import numpy as np
import pytest

from vernissage.world.draw import draw
from vernissage.world.scene import COLOURS, STYLES, Group, Scene, sample_scene
from vernissage.world.styles import COLOUR_RGB


@pytest.mark.parametrize("style", STYLES)
def test_the_same_scene_and_seed_give_the_same_picture(style):
    scene = sample_scene(np.random.default_rng(1), style=style)
    first, again, other = (draw(scene, seed=seed).image for seed in (5, 5, 6))
    assert first.size == (128, 128)
    assert first.mode == "RGB"
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("style", ["photo", "cartoon", "pixel art", "sketch", "watercolour"])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_thing_has_the_colour_it_is_said_to_have(style, colour):
    scene = Scene(groups=(Group(kind="heart", colour=colour, count=1),), place="meadow", time="day", style=style)
    drawing = draw(scene, seed=0)
    box = drawing.boxes[0]
    x, y, r = (int(128 * value) for value in (box.x, box.y, box.radius / 3))
    middle = np.asarray(drawing.image)[y - r : y + r, x - r : x + r].reshape(-1, 3).mean(axis=0)
    distance = {name: np.abs(middle - np.array(rgb)).sum() for name, rgb in COLOUR_RGB.items()}
    assert min(distance, key=distance.get) == colour


def test_every_thing_stands_out_from_its_place():
    rng = np.random.default_rng(2)
    for seed in range(30):
        drawing = draw(sample_scene(rng), seed=seed)
        pixels = np.asarray(drawing.image, dtype=float)
        for box in drawing.boxes:
            x, y, r = (int(128 * value) for value in (box.x, box.y, box.radius))
            patch = pixels[max(0, y - r) : y + r, max(0, x - r) : x + r]
            assert patch.std(axis=(0, 1)).max() > 12
