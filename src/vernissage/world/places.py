"""The six places as layers of coloured outlines, in units of the picture's side (x right, y down, 0 to 1).

A backdrop is the sky's two colours and a list of patches painted from back to front. Light depends on the time of day.
This file knows nothing about styles or pixels.
"""

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from vernissage.world.scene import Place, Time

RGB = tuple[int, int, int]


class Patch(NamedTuple):
    """A closed outline of shape (points, 2) and its colour."""

    outline: ndarray
    colour: RGB


class Backdrop(NamedTuple):
    """The sky from top to horizon, and what lies before it."""

    sky_top: RGB
    sky_bottom: RGB
    patches: list[Patch]


_SKY: dict[Time, tuple[RGB, RGB]] = {
    "day": ((104, 176, 238), (206, 232, 250)),
    "dusk": ((92, 62, 128), (250, 158, 96)),
    "night": ((8, 12, 44), (30, 40, 92)),
}
_LIGHT: dict[Time, tuple[float, float, float]] = {
    "day": (1.0, 1.0, 1.0),
    "dusk": (0.80, 0.62, 0.62),
    "night": (0.42, 0.46, 0.62),
}
_SUN: dict[Time, RGB] = {"day": (255, 246, 200), "dusk": (255, 208, 130), "night": (228, 232, 246)}


def backdrop(place: Place, time: Time, rng: np.random.Generator) -> Backdrop:
    """The place at that time, with a little random variation."""
    patches = [_light_in_the_sky(time, rng)]
    if time == "night":
        patches += [_dot(rng.uniform(0.03, 0.97), rng.uniform(0.02, 0.3), 0.005, (215, 220, 240)) for _ in range(14)]
    patches += [Patch(outline, _lit(colour, time)) for outline, colour in _GROUNDS[place](rng)]
    if place == "city" and time != "day":
        patches += _lit_windows(rng)
    return Backdrop(*_SKY[time], patches)


def _lit(colour: RGB, time: Time) -> RGB:
    red, green, blue = (round(channel * light) for channel, light in zip(colour, _LIGHT[time], strict=True))
    return red, green, blue


def _dot(x: float, y: float, radius: float, colour: RGB) -> Patch:
    angle = np.linspace(0, 2 * np.pi, 24)
    return Patch(np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1), colour)


def _light_in_the_sky(time: Time, rng: np.random.Generator) -> Patch:
    x = float(rng.choice([0.07, 0.93]))
    if time == "night":  # a crescent
        angle = np.linspace(-np.pi / 2, np.pi / 2, 16)
        outer = np.stack([0.05 * np.cos(angle), 0.05 * np.sin(angle)], axis=1)
        inner = np.stack([0.02 * np.cos(angle[::-1]), 0.05 * np.sin(angle[::-1])], axis=1)
        return Patch(np.concatenate([outer, inner]) + (x - 0.02, 0.075), _SUN[time])
    return _dot(x, 0.075 if time == "day" else 0.40, 0.045 if time == "day" else 0.07, _SUN[time])


def _hills(base: float, height: float, waves: float, rng: np.random.Generator) -> ndarray:
    x = np.linspace(-0.02, 1.02, 48)
    top = base - height * np.sin(2 * np.pi * (waves * x + rng.random()))
    return np.concatenate([np.stack([x, top], axis=1), [(1.02, 1.02), (-0.02, 1.02)]])


def _sea(rng: np.random.Generator) -> list[tuple[ndarray, RGB]]:
    layers = [
        (_hills(0.48, 0.004, 3, rng), (52, 128, 196)),
        (_hills(0.64, 0.014, 4, rng), (40, 108, 182)),
        (_hills(0.82, 0.018, 3, rng), (28, 88, 162)),
    ]
    for _ in range(9):  # crests
        x, y, length = rng.uniform(0, 0.9), rng.uniform(0.54, 0.97), rng.uniform(0.05, 0.13)
        crest = np.array([(x, y), (x + length / 2, y - 0.008), (x + length, y), (x + length / 2, y + 0.004)])
        layers.append((crest, (176, 214, 236)))
    return layers


def _desert(rng: np.random.Generator) -> list[tuple[ndarray, RGB]]:
    layers = [
        (_hills(0.56, 0.05, 0.9, rng), (236, 202, 138)),
        (_hills(0.70, 0.05, 0.7, rng), (224, 184, 116)),
        (_hills(0.86, 0.03, 1.1, rng), (210, 166, 98)),
    ]
    for x in (rng.uniform(0.04, 0.16), rng.uniform(0.84, 0.96)):  # cacti
        y, s = 0.55, rng.uniform(0.07, 0.09)
        cactus = np.array([(-0.12, 1), (-0.12, -1), (0.12, -1), (0.12, 1)]) * s + (x, y)
        arm = np.array([(-0.5, -0.3), (-0.5, 0.25), (0.5, 0.25), (0.5, -0.5), (0.32, -0.5), (0.32, 0.05), (-0.32, 0.05), (-0.32, -0.3)])
        layers[1:1] = [(cactus, (96, 138, 78)), (arm * s + (x, y), (96, 138, 78))]
    return layers


def _forest(rng: np.random.Generator) -> list[tuple[ndarray, RGB]]:
    layers: list[tuple[ndarray, RGB]] = []
    for row, (base, size, colour) in enumerate([(0.56, 0.30, (62, 108, 78)), (0.64, 0.36, (38, 82, 54))]):
        for x in np.arange(-0.02 + 0.06 * row, 1.1, 0.125) + rng.uniform(-0.02, 0.02):
            height = size * rng.uniform(0.8, 1.15)
            tree = np.array([(-0.09, base), (0.0, base - height), (0.09, base)]) + (x, 0)
            layers.append((tree, colour))
        layers.append((_hills(base, 0.006, 2, rng), colour))
    layers.append((_hills(0.72, 0.012, 1.5, rng), (88, 96, 56)))
    layers.append((_hills(0.88, 0.012, 1.2, rng), (74, 80, 46)))
    return layers


def _city(rng: np.random.Generator) -> list[tuple[ndarray, RGB]]:
    layers: list[tuple[ndarray, RGB]] = []
    for shade, low, high in (((158, 164, 180), 0.24, 0.40), ((118, 124, 144), 0.38, 0.54)):
        x = -0.03
        while x < 1.0:
            width, top = rng.uniform(0.08, 0.15), rng.uniform(low, high)
            layers.append((np.array([(x, top), (x + width, top), (x + width, 0.74), (x, 0.74)]), shade))
            x += width + rng.uniform(0.0, 0.02)
    layers.append((np.array([(-0.02, 0.70), (1.02, 0.70), (1.02, 1.02), (-0.02, 1.02)]), (128, 128, 134)))
    layers.append((np.array([(-0.02, 0.78), (1.02, 0.78), (1.02, 1.02), (-0.02, 1.02)]), (88, 90, 98)))
    for x in np.arange(0.02, 1.0, 0.2):
        layers.append((np.array([(x, 0.885), (x + 0.1, 0.885), (x + 0.1, 0.9), (x, 0.9)]), (222, 222, 214)))
    return layers


def _lit_windows(rng: np.random.Generator) -> list[Patch]:
    patches = []
    for _ in range(26):
        x, y = rng.uniform(0.02, 0.97), rng.uniform(0.52, 0.68)
        patches.append(Patch(np.array([(0, 0), (0.016, 0), (0.016, 0.02), (0, 0.02)]) + (x, y), (250, 222, 140)))
    return patches


def _mountains(rng: np.random.Generator) -> list[tuple[ndarray, RGB]]:
    layers: list[tuple[ndarray, RGB]] = []
    for x in np.array([0.1, 0.86, 0.48]) + rng.uniform(-0.05, 0.05, size=3):
        top, half = rng.uniform(0.14, 0.24), rng.uniform(0.30, 0.38)
        layers.append((np.array([(x - half, 0.72), (x, top), (x + half, 0.72)]), (126, 128, 148)))
        layers.append((np.array([(x, top), (x + half, 0.72), (x + 0.06, 0.72)]), (104, 106, 128)))
        cap = [(-0.24, 0.24), (0.0, 0.0), (0.24, 0.24), (0.1, 0.19), (0.0, 0.26), (-0.1, 0.19)]
        layers.append((np.array([(x + half * cx, top + (0.72 - top) * cy) for cx, cy in cap]), (242, 246, 252)))
    layers.append((_hills(0.72, 0.02, 1.1, rng), (122, 130, 104)))
    layers.append((_hills(0.87, 0.015, 1.6, rng), (104, 112, 90)))
    return layers


def _meadow(rng: np.random.Generator) -> list[tuple[ndarray, RGB]]:
    layers = [
        (_hills(0.52, 0.035, 0.8, rng), (150, 206, 110)),
        (_hills(0.68, 0.03, 1.0, rng), (126, 190, 88)),
        (_hills(0.85, 0.02, 1.3, rng), (104, 172, 72)),
    ]
    for _ in range(26):  # tufts of grass
        x, y = rng.uniform(0, 1), rng.uniform(0.58, 0.98)
        layers.append(
            (np.array([(x - 0.012, y), (x - 0.016, y - 0.03), (x, y - 0.008), (x + 0.016, y - 0.03), (x + 0.012, y)]), (78, 146, 58))
        )
    return layers


_GROUNDS = {
    "sea": _sea,
    "desert": _desert,
    "forest": _forest,
    "city": _city,
    "mountains": _mountains,
    "meadow": _meadow,
}
