"""From a scene to its picture, drawn anti-aliased with exact knowledge of where everything stands."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from vernissage.world.layout import Box, place_things
from vernissage.world.places import backdrop
from vernissage.world.scene import Scene
from vernissage.world.styles import COLOUR_RGB, PAINTERS, SUPERSAMPLING, Thing
from vernissage.world.things import THINGS

SIZE = 128


class Drawing(NamedTuple):
    """A picture of a scene and the box of every thing in it."""

    image: Image.Image
    boxes: list[Box]


def draw(scene: Scene, *, seed: int) -> Drawing:
    """Draw a scene.

    Args:
        scene: What to draw.
        seed: Decides everything the scene leaves open: exact places, sizes, waves, windows, grain.

    Returns:
        An RGB picture of 128 by 128 pixels, and one box per thing, group after group.
    """
    rng = np.random.default_rng(seed)
    canvas = SIZE * SUPERSAMPLING
    boxes = place_things(scene, rng)
    things = []
    for box in boxes:
        group = scene.groups[box.group]
        centre, radius = np.array([box.x, box.y]) * canvas, box.radius * canvas
        flip = rng.choice([-1, 1]) if group.kind in ("fish", "car", "boat", "cup") else 1
        parts = [part._replace(outline=part.outline * (flip * radius, radius) + centre) for part in THINGS[group.kind]]
        things.append(Thing(parts, COLOUR_RGB[group.colour], (centre[0], centre[1]), radius))
    image = PAINTERS[scene.style](canvas, backdrop(scene.place, scene.time, rng), things, rng)
    return Drawing(image, boxes)
