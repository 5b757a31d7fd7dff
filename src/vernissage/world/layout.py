"""Where the things of a scene stand: one box per thing, in units of the picture's side, origin at the top left.

The layout keeps things apart, so that counts and relations can be read off the picture without doubt.
"""

from typing import NamedTuple

import numpy as np

from vernissage.world.scene import Group, Relation, Scene


class Box(NamedTuple):
    """A thing's place: centre and half-size, in [0, 1] of the picture's side, and the group it belongs to."""

    x: float
    y: float
    radius: float
    group: int


# Regions as (centre x, centre y, width, height).
_WHOLE = (0.5, 0.52, 0.86, 0.80)
_FIRST_REGION: dict[Relation, tuple[float, float, float, float]] = {
    "left of": (0.265, 0.53, 0.46, 0.84),
    "right of": (0.735, 0.53, 0.46, 0.84),
    "above": (0.5, 0.275, 0.92, 0.46),
    "below": (0.5, 0.745, 0.92, 0.46),
}
_SECOND_REGION: dict[Relation, tuple[float, float, float, float]] = {
    "left of": _FIRST_REGION["right of"],
    "right of": _FIRST_REGION["left of"],
    "above": _FIRST_REGION["below"],
    "below": _FIRST_REGION["above"],
}

# Formations by count: centres in units of the region, and the thing's radius in units of its shorter side.
_WIDE = {
    1: ([(0.0, 0.0)], 0.40),
    2: ([(-0.24, 0.0), (0.24, 0.0)], 0.38),
    3: ([(-0.32, 0.0), (0.0, 0.0), (0.32, 0.0)], 0.31),
    4: ([(-0.37, 0.0), (-0.123, 0.0), (0.123, 0.0), (0.37, 0.0)], 0.245),
}
_SQUARE = {
    1: ([(0.0, 0.0)], 0.34),
    2: ([(-0.25, 0.0), (0.25, 0.0)], 0.24),
    3: ([(0.0, -0.24), (-0.25, 0.22), (0.25, 0.22)], 0.21),
    4: ([(-0.24, -0.24), (0.24, -0.24), (-0.24, 0.24), (0.24, 0.24)], 0.20),
}
_TALL = {
    1: ([(0.0, 0.0)], 0.42),
    2: ([(0.0, -0.24), (0.0, 0.24)], 0.38),
    3: ([(0.0, -0.32), (0.0, 0.0), (0.0, 0.32)], 0.29),
    4: ([(-0.25, -0.22), (0.25, -0.22), (-0.25, 0.22), (0.25, 0.22)], 0.235),
}


def place_things(scene: Scene, rng: np.random.Generator) -> list[Box]:
    """Boxes for every thing of a scene, group after group, with a little jitter in place and size."""
    relation = scene.relation
    regions = [_WHOLE] if relation is None else [_FIRST_REGION[relation], _SECOND_REGION[relation]]
    boxes = []
    for index, (group, region) in enumerate(zip(scene.groups, regions, strict=True)):
        boxes += _place_group(group, region, index, rng)
    return boxes


def _place_group(group: Group, region: tuple[float, float, float, float], index: int, rng: np.random.Generator) -> list[Box]:
    x, y, width, height = region
    table = _WIDE if width > 1.4 * height else _TALL if height > 1.4 * width else _SQUARE
    centres, radius = table[group.count]
    radius *= min(width, height) * rng.uniform(0.92, 1.04)
    dx, dy = rng.uniform(-0.02, 0.02, size=2)
    return [
        Box(
            x=float(x + dx + cx * width + rng.uniform(-0.012, 0.012)),
            y=float(y + dy + cy * height + rng.uniform(-0.012, 0.012)),
            radius=float(radius),
            group=index,
        )
        for cx, cy in centres
    ]
