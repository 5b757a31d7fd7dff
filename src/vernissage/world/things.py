"""The twelve kinds of things as vector shapes, on a square from -1 to 1 with y growing downwards.

A thing is a list of parts, painted from back to front. Each part is a closed outline and a role, which tells the style
how to colour it: `main` is the thing's own colour, `shade` a darker and `tint` a lighter variant, `ink` a dark detail,
`light` an off-white one. This file knows nothing about styles or pixels.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy import ndarray

from vernissage.world.scene import Kind

Role = Literal["main", "shade", "tint", "ink", "light"]


class Part(NamedTuple):
    """A closed outline of shape (points, 2) and its role."""

    outline: ndarray
    role: Role


def _poly(*points: tuple[float, float]) -> ndarray:
    return np.array(points, dtype=float)


def _ellipse(x: float, y: float, rx: float, ry: float, start: float = 0, stop: float = 360) -> ndarray:
    angle = np.deg2rad(np.linspace(start, stop, 40))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def _star() -> ndarray:
    angle = np.deg2rad(-90 + 36 * np.arange(10))
    radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.43)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle) + 0.06], axis=1)


def _heart() -> ndarray:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x / 17, (y - 2.5) / 16], axis=1)


def _umbrella_canopy() -> ndarray:
    dome = _ellipse(0, 0.1, 1.0, 0.95, 180, 360)
    scallops = [_ellipse(x, 0.1, 1 / 3, 0.16, 0, -180) for x in (2 / 3, 0.0, -2 / 3)]
    return np.concatenate([dome, *scallops])


def _petals() -> list[Part]:
    angles = np.deg2rad(-90 + 72 * np.arange(5))
    return [Part(_ellipse(0.42 * np.cos(a), -0.32 + 0.42 * np.sin(a), 0.33, 0.33), "main") for a in angles]


THINGS: dict[Kind, list[Part]] = {
    "ball": [
        Part(_ellipse(0, 0, 0.95, 0.95), "main"),
        Part(_ellipse(-0.34, -0.38, 0.24, 0.18), "tint"),
        Part(
            np.concatenate([_ellipse(0, 0, 0.95, 0.95, 20, 100), _ellipse(-0.12, -0.12, 0.92, 0.92, 100, 20)]),
            "shade",
        ),
    ],
    "boat": [
        Part(_poly((-0.08, -1.0), (0.04, -1.0), (0.04, 0.4), (-0.08, 0.4)), "ink"),
        Part(_poly((0.1, -0.95), (0.1, 0.24), (0.85, 0.24)), "main"),
        Part(_poly((-0.14, -0.7), (-0.14, 0.24), (-0.72, 0.24)), "tint"),
        Part(_poly((-1.0, 0.38), (1.0, 0.38), (0.66, 0.92), (-0.62, 0.92)), "main"),
        Part(_poly((-0.86, 0.62), (0.86, 0.62), (0.76, 0.76), (-0.74, 0.76)), "shade"),
    ],
    "car": [
        Part(_poly((-0.55, -0.05), (-0.36, -0.55), (0.34, -0.55), (0.62, -0.05)), "main"),
        Part(_poly((-0.38, -0.08), (-0.26, -0.42), (-0.03, -0.42), (-0.03, -0.08)), "light"),
        Part(_poly((0.07, -0.08), (0.07, -0.42), (0.27, -0.42), (0.44, -0.08)), "light"),
        Part(
            _poly((-0.98, 0.4), (-0.98, 0.05), (-0.86, -0.08), (0.78, -0.08), (0.98, 0.1), (0.98, 0.4)),
            "main",
        ),
        Part(_poly((-0.98, 0.26), (0.98, 0.26), (0.98, 0.4), (-0.98, 0.4)), "shade"),
        Part(_ellipse(-0.55, 0.42, 0.25, 0.25), "ink"),
        Part(_ellipse(0.55, 0.42, 0.25, 0.25), "ink"),
        Part(_ellipse(-0.55, 0.42, 0.1, 0.1), "light"),
        Part(_ellipse(0.55, 0.42, 0.1, 0.1), "light"),
    ],
    "cat": [
        Part(
            np.concatenate([_ellipse(0.62, 0.42, 0.36, 0.5, 90, -80), _ellipse(0.62, 0.42, 0.2, 0.34, -80, 90)]),
            "shade",
        ),
        Part(_ellipse(0, 0.5, 0.58, 0.48), "main"),
        Part(_poly((-0.6, -0.95), (-0.6, -0.2), (-0.08, -0.55)), "main"),
        Part(_poly((0.6, -0.95), (0.6, -0.2), (0.08, -0.55)), "main"),
        Part(_ellipse(0, -0.25, 0.62, 0.5), "main"),
        Part(_ellipse(0, 0.58, 0.28, 0.34), "tint"),
        Part(_ellipse(-0.25, -0.3, 0.1, 0.13), "ink"),
        Part(_ellipse(0.25, -0.3, 0.1, 0.13), "ink"),
        Part(_poly((-0.09, -0.1), (0.09, -0.1), (0.0, 0.02)), "ink"),
    ],
    "cup": [
        Part(
            np.concatenate([_ellipse(0.55, 0.02, 0.42, 0.42, -90, 90), _ellipse(0.55, 0.02, 0.22, 0.22, 90, -90)]),
            "shade",
        ),
        Part(_poly((-0.75, -0.6), (0.6, -0.6), (0.45, 0.8), (-0.6, 0.8)), "main"),
        Part(_ellipse(-0.075, -0.6, 0.675, 0.2), "tint"),
        Part(_ellipse(-0.075, -0.58, 0.52, 0.13), "ink"),
    ],
    "fish": [
        Part(_poly((0.45, 0.0), (1.0, -0.52), (0.86, 0.0), (1.0, 0.52)), "shade"),
        Part(_poly((-0.3, -0.4), (0.1, -0.78), (0.34, -0.36)), "shade"),
        Part(_ellipse(-0.18, 0, 0.78, 0.5), "main"),
        Part(_ellipse(0.02, 0.08, 0.22, 0.14), "shade"),
        Part(_ellipse(-0.58, -0.1, 0.14, 0.14), "light"),
        Part(_ellipse(-0.6, -0.1, 0.075, 0.075), "ink"),
    ],
    "flower": [
        Part(_poly((-0.06, -0.1), (0.06, -0.1), (0.06, 1.0), (-0.06, 1.0)), "ink"),
        Part(_ellipse(0.28, 0.66, 0.26, 0.11), "ink"),
        *_petals(),
        Part(_ellipse(0, -0.32, 0.22, 0.22), "light"),
    ],
    "heart": [
        Part(_heart(), "main"),
        Part(_ellipse(-0.42, -0.34, 0.2, 0.16), "tint"),
    ],
    "house": [
        Part(_poly((0.36, -0.9), (0.6, -0.9), (0.6, -0.3), (0.36, -0.3)), "shade"),
        Part(_poly((-0.72, -0.12), (0.72, -0.12), (0.72, 0.9), (-0.72, 0.9)), "main"),
        Part(_poly((-0.98, -0.08), (0.0, -0.95), (0.98, -0.08)), "shade"),
        Part(_poly((-0.16, 0.3), (0.16, 0.3), (0.16, 0.9), (-0.16, 0.9)), "ink"),
        Part(_poly((-0.58, 0.14), (-0.3, 0.14), (-0.3, 0.44), (-0.58, 0.44)), "light"),
        Part(_poly((0.3, 0.14), (0.58, 0.14), (0.58, 0.44), (0.3, 0.44)), "light"),
    ],
    "mushroom": [
        Part(_poly((-0.26, 0.0), (0.26, 0.0), (0.36, 0.92), (-0.36, 0.92)), "light"),
        Part(np.concatenate([_ellipse(0, 0.12, 0.96, 1.0, 180, 360), _ellipse(0, 0.12, 0.96, 0.16, 0, 180)]), "main"),
        Part(_ellipse(-0.42, -0.28, 0.17, 0.15), "light"),
        Part(_ellipse(0.12, -0.52, 0.18, 0.14), "light"),
        Part(_ellipse(0.5, -0.14, 0.15, 0.14), "light"),
    ],
    "star": [
        Part(_star(), "main"),
        Part(0.45 * _star() + np.array([0.0, 0.02]), "tint"),
    ],
    "umbrella": [
        Part(_poly((-0.05, -0.95), (0.05, -0.95), (0.05, 0.8), (-0.05, 0.8)), "ink"),
        Part(np.concatenate([_ellipse(0.17, 0.76, 0.22, 0.24, 0, 180), _ellipse(0.17, 0.76, 0.12, 0.12, 180, 0)]), "ink"),
        Part(_umbrella_canopy(), "main"),
        Part(np.concatenate([_ellipse(0, 0.1, 1 / 3, 0.95, 180, 360), _ellipse(0, 0.1, 1 / 3, 0.16, 0, -180)]), "shade"),
    ],
}
