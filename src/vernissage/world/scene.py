"""What the mini world holds: scenes as exact facts, how to draw one at random, and which belong to the held-out set.

A scene is one or two groups of things (kind, colour, count) in a place, at a time of day, in a style. This file knows
nothing about pixels or words: `draw` paints a scene, `tell` puts it into words, `facts` compares two of them.
"""

from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["ball", "boat", "car", "cat", "cup", "fish", "flower", "heart", "house", "mushroom", "star", "umbrella"]
Colour = Literal["red", "orange", "yellow", "green", "blue", "purple", "pink", "white"]
Place = Literal["sea", "desert", "forest", "city", "mountains", "meadow"]
Time = Literal["day", "dusk", "night"]
Style = Literal["photo", "cartoon", "sketch", "neon", "pixel art", "watercolour"]
Relation = Literal["left of", "right of", "above", "below"]
Split = Literal["train", "held-out"]

KINDS: tuple[Kind, ...] = get_args(Kind)
COLOURS: tuple[Colour, ...] = get_args(Colour)
PLACES: tuple[Place, ...] = get_args(Place)
TIMES: tuple[Time, ...] = get_args(Time)
STYLES: tuple[Style, ...] = get_args(Style)
RELATIONS: tuple[Relation, ...] = get_args(Relation)
MAX_COUNT = 4

OPPOSITE: dict[Relation, Relation] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}


class Group(BaseModel):
    """Equal things that stand together, for example three red cups."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    colour: Colour
    count: int = Field(ge=1, le=MAX_COUNT)


class Scene(BaseModel):
    """Everything that is true of one picture of the mini world.

    `relation` says where the first group lies as seen from the second; it is None exactly when there is one group.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: tuple[Group, ...] = Field(min_length=1, max_length=2)
    relation: Relation | None = None
    place: Place
    time: Time
    style: Style

    def model_post_init(self, _context: object) -> None:
        """Refuse a scene that cannot be."""
        if (self.relation is None) != (len(self.groups) == 1):
            raise ValueError("a scene of two groups needs a relation, and a scene of one group has none")
        if len({group.kind for group in self.groups}) < len(self.groups):
            raise ValueError("the two groups of a scene are of different kinds")


def is_held_out(kind: Kind, colour: Colour, place: Place) -> bool:
    """Whether this combination is kept away from every training set.

    One combination in eight is held out, spread as in a Latin square, so that every kind, colour and place is seen in
    training, only never all three together.

    Example:
        >>> sum(is_held_out(k, c, p) for k in KINDS for c in COLOURS for p in PLACES)
        72
    """
    return (KINDS.index(kind) + 3 * COLOURS.index(colour) + 5 * PLACES.index(place)) % 8 == 0


def split_of(scene: Scene) -> Split:
    """The set a scene belongs to: "held-out" when any of its groups is a held-out combination."""
    held_out = any(is_held_out(group.kind, group.colour, scene.place) for group in scene.groups)
    return "held-out" if held_out else "train"


def sample_scene(
    rng: np.random.Generator,
    *,
    split: Split = "train",
    style: Style | None = None,
    style_weights: dict[Style, float] | None = None,
    pairs: float = 0.55,
) -> Scene:
    """Draw one scene at random.

    Args:
        rng: Source of randomness; the same generator state gives the same scene.
        split: Which set the scene must belong to.
        style: Fixes the style.
        style_weights: Relative frequency of each style; even when absent.
        pairs: Share of scenes with two groups.
    """
    while True:
        groups = tuple(
            Group(kind=KINDS[kind], colour=COLOURS[rng.integers(len(COLOURS))], count=int(rng.integers(1, MAX_COUNT + 1)))
            for kind in rng.choice(len(KINDS), size=2 if rng.random() < pairs else 1, replace=False)
        )
        if style_weights is None:
            drawn_style = STYLES[rng.integers(len(STYLES))]
        else:
            weights = np.array([style_weights[name] for name in STYLES])
            drawn_style = STYLES[rng.choice(len(STYLES), p=weights / weights.sum())]
        scene = Scene(
            groups=groups,
            relation=RELATIONS[rng.integers(len(RELATIONS))] if len(groups) == 2 else None,
            place=PLACES[rng.integers(len(PLACES))],
            time=TIMES[rng.integers(len(TIMES))],
            style=style or drawn_style,
        )
        if split_of(scene) == split:
            return scene
