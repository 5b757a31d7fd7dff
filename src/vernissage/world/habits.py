"""Habits: with which sampler arguments the people of the mini world like to paint, so that there is something to learn and to check.

A habit is a set of arguments and, for most, an exception: when the picture shows a certain fact, some arguments differ. It can be
read off a few demonstrations, as the habits of real communities can.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from vernissage.records.plan import Arguments
from vernissage.world.scene import PLACES, STYLES, TIMES, Scene

SAMPLERS = ("Euler", "Euler a", "DPM++ 2M", "DPM++ 2M Karras", "DPM++ SDE Karras", "DDIM")
STEPS = (8, 10, 12, 14, 16, 18, 20, 22, 24, 25, 28, 30)
CFG_SCALES = (2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0)
SIDE = 128
"""Pixels; what every mini model paints."""
Value = TypeVar("Value")
_VALUES = {"place": PLACES, "time": TIMES, "style": STYLES}


class Habit(NamedTuple):
    """Arguments, and others for pictures of a kind."""

    usual: Arguments
    fact: Literal["place", "time", "style", ""] = ""
    value: str = ""
    """Of the fact; pictures with this one are painted with `then`."""
    then: Arguments = Arguments()

    def arguments(self, scene: Scene) -> Arguments:
        """The arguments for a picture of this scene, seed left open."""
        return self.then if self.fact and getattr(scene, self.fact) == self.value else self.usual


def sample_habit(rng: np.random.Generator, fact: Literal["place", "time", "style", ""] | None = None) -> Habit:
    """Draw a habit at random; the fact of its exception too where it is left out, "" for none."""
    usual = Arguments(sampler=_pick(SAMPLERS, rng), steps=_pick(STEPS, rng), cfg_scale=_pick(CFG_SCALES, rng), width=SIDE, height=SIDE)
    if fact is None:
        fact = ("place", "time", "style", "")[rng.integers(4)]
    if not fact:
        return Habit(usual)
    while True:
        changes = {"sampler": _pick(SAMPLERS, rng), "steps": _pick(STEPS, rng), "cfg_scale": _pick(CFG_SCALES, rng)}
        changes.pop(list(changes)[rng.integers(3)])  # one of the three stays as it is
        if any(getattr(usual, name) != value for name, value in changes.items()):
            break
    return Habit(usual, fact, _pick(_VALUES[fact], rng), usual.model_copy(update=changes))


def _pick(values: Sequence[Value], rng: np.random.Generator) -> Value:
    return values[int(rng.integers(len(values)))]
