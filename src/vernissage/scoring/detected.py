"""Scores of what a detector finds in pictures: GenEval's and T2I-CompBench's relations, by the rules of their authors' code."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy import ndarray
from PIL import Image

from vernissage.ports import Detection, TextImageEncoder, Thresholds
from vernissage.prompts.words import plural
from vernissage.records.verdict import Score, Unscored
from vernissage.scoring.questions import Metadata, Wanted
from vernissage.scoring.things import Placed, bare_name

PUBLISHED = Thresholds()
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
"""GenEval's."""
_COLOURED = ("a photo of a {colour} {name}", "a photo of a {colour}-colored {name}", "a photo of a {colour} object")
_GREY = (153, 153, 153)
"""What is not the thing itself, in the pictures that its colour is told by."""
_MOST = 16
"""Of one kind that count in a picture."""
_CLOSE = 0.1
"""Of the sizes of two things: centres closer than that stand neither left nor right, neither above nor below."""
_COCO = {"computer mouse": "mouse", "tv remote": "remote", "computer keyboard": "keyboard"}
"""GenEval's names that are not those of the set that its detector was trained on."""

_SIDE = 480
"""T2I-CompBench measures distances in pictures of this side."""
_NEAR = 150
_OVERLAP = 0.1
_LEAST = 0.5
"""A relation's score below this is 0."""
_PEOPLE = {"girl", "boy", "man", "woman"}
_WAYS = {
    "to the left of": (0, 1),
    "to the right of": (0, -1),
    "on top of": (1, 1),
    "above": (1, 1),
    "below": (1, -1),
    "under": (1, -1),
    "beneath": (1, -1),
}
"""Along which axis the second thing is further on (1) or further back (-1)."""
_BESIDE = ("next to", "beside", "near")


# -------------------------------------------------------------------------------------------------------------- GenEval


def geneval_names(row: Metadata) -> tuple[str, ...]:
    """What must be looked for, each once."""
    return tuple(dict.fromkeys(each.name for each in (*row.include, *row.exclude)))


def score_geneval(
    rows: Sequence[Metadata],
    images: Sequence[Image.Image],
    found: Sequence[Sequence[Detection]],
    clip: TextImageEncoder,
    *,
    known: Collection[str] | None = None,
    thresholds: Thresholds = PUBLISHED,
) -> list[Score | Unscored]:
    """1 where all that is wanted is there and nothing that is excluded, else 0 with what is wrong.

    Args:
        rows: What must be in each picture.
        images: The pictures.
        found: What a detector found in each, surest first.
        clip: Tells the colours of what was found.
        known: What the detector can find; None for everything.
        thresholds: How sure it must be.

    Returns:
        One score a picture; Unscored where the detector cannot find what is asked for.

    References:
        Ghosh et al. (2023), GenEval, and its `evaluate_images.py`: the surest of each kind; colours by CLIP on what is cut out; positions
        by centres, from a tenth of both sizes on.
    """
    scores: dict[int, Score | Unscored] = {}
    kinds: dict[int, dict[str, list[Detection]]] = {}
    for place, (row, several) in enumerate(zip(rows, found, strict=True)):
        labels = {name: _label(name, known) for name in geneval_names(row)}
        if lost := [name for name, label in labels.items() if label is None]:
            scores[place] = Unscored(reason=f"the detector knows no {lost[0]}")
            continue
        least = thresholds.counting if row.tag == "counting" else thresholds.presence
        sure = [each for each in several if each.confidence > least]
        kinds[place] = {name: [each for each in sure if each.name == label][:_MOST] for name, label in labels.items()}
    coloured = [
        (place, index, thing)
        for place, own in kinds.items()
        for index, wanted in enumerate(rows[place].include)
        if wanted.color and len(own[wanted.name]) >= wanted.count
        for thing in own[wanted.name][: wanted.count]
    ]
    told = _colours([(images[place], thing, rows[place].include[index].name) for place, index, thing in coloured], clip)
    colours: dict[tuple[int, int], list[str]] = {}
    for (place, index, _), colour in zip(coloured, told, strict=True):
        colours.setdefault((place, index), []).append(colour)
    for place, own in kinds.items():
        scores[place] = _verdict(rows[place], own, {index: several for (of, index), several in colours.items() if of == place})
    return [scores[place] for place in range(len(rows))]


def _label(name: str, known: Collection[str] | None) -> str | None:
    if known is None or name in known:
        return name
    return _COCO[name] if _COCO.get(name) in known else None


def _verdict(row: Metadata, kinds: dict[str, list[Detection]], colours: dict[int, list[str]]) -> Score:
    wrong: list[str] = []
    settled: list[list[Detection]] = []
    for index, wanted in enumerate(row.include):
        things = kinds[wanted.name][: wanted.count]
        reason = _missing(wanted, things, colours.get(index, []), settled)
        wrong += [reason] if reason else []
        settled.append([] if reason else things)
    for excluded in row.exclude:
        there = len(kinds[excluded.name])
        wrong += [f"{there} {excluded.name} found, not fewer than {excluded.count}"] if there >= excluded.count else []
    return Score(value=float(not wrong), reason="; ".join(wrong) or "all right")


def _missing(wanted: Wanted, things: Sequence[Detection], colours: Sequence[str], settled: Sequence[Sequence[Detection]]) -> str:
    """What is wrong with things that are wanted; empty where nothing is."""
    if len(things) < wanted.count:
        return f"{len(things)} {wanted.name} found of {wanted.count}"
    if wanted.color and colours.count(wanted.color) < wanted.count:
        return f"{wanted.name} found {' and '.join(dict.fromkeys(colours))}, not {wanted.color}"
    if wanted.position:
        how, other = wanted.position
        others = settled[other] if other < len(settled) else []
        if not others:
            return f"nothing found that {wanted.name} could be {how}"
        if any(how not in relative_position(thing, target) for thing in things for target in others):
            return f"{wanted.name} not found {how} {others[0].name}"
    return ""


def relative_position(first: Detection, second: Detection) -> set[str]:
    """Where the first thing is, seen from the second: none, one or two of "left of", "right of", "above", "below".

    Example:
        >>> left, right = Detection("cup", (0, 0, 10, 10), 1.0), Detection("cup", (40, 0, 50, 10), 1.0)
        >>> relative_position(left, right), relative_position(left, left)
        ({'left of'}, set())
    """
    sides = [np.reshape(each.box, (2, 2)) for each in (first, second)]
    apart = sides[0].mean(axis=0) - sides[1].mean(axis=0)
    sizes = sum(np.abs(side[1] - side[0]) for side in sides)
    beyond = np.sign(apart) * np.maximum(np.abs(apart) - _CLOSE * sizes, 0)
    if (np.abs(beyond) < 1e-3).all():
        return set()
    x, y = beyond / np.linalg.norm(apart)
    told = {"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}
    return {how for how, holds in told.items() if holds}


def cut_out(image: Image.Image, thing: Detection) -> Image.Image:
    """A thing by its box, what is not its own in grey where the detector tells that."""
    left, top, right, bottom = map(round, thing.box)
    cut = image.convert("RGB").crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    if thing.mask is None or not thing.mask.size:
        return cut
    return Image.composite(cut, Image.new("RGB", cut.size, _GREY), Image.fromarray(thing.mask).resize(cut.size, Image.Resampling.NEAREST))


def _colours(things: Sequence[tuple[Image.Image, Detection, str]], clip: TextImageEncoder) -> list[str]:
    """The colour of each thing: the one whose descriptions CLIP finds nearest."""
    if not things:
        return []
    names = list(dict.fromkeys(name for _, _, name in things))
    texts = [text.format(colour=colour, name=name) for name in names for colour in COLOURS for text in _COLOURED]
    rows = clip.encode_text(texts).reshape(len(names), len(COLOURS), len(_COLOURED), -1).mean(axis=2)
    rows /= np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), 1e-12)
    seen: ndarray = clip.encode([cut_out(image, thing) for image, thing, _ in things])
    return [COLOURS[int(np.argmax(rows[names.index(name)] @ row))] for row, (_, _, name) in zip(seen, things, strict=True)]


# -------------------------------------------------------------------------------------------------------- T2I-CompBench


def relation_names(relations: Sequence[Placed], known: Collection[str] | None = None) -> list[tuple[str | None, str | None]]:
    """What a detector should look for to see each relation; None for what it cannot find.

    Example:
        >>> relation_names([Placed("a white dining table", "near", "two girls")], known={"table", "dining table", "person"})
        [('dining table', 'person')]
    """
    return [(_thing(first, known), _thing(second, known)) for first, _, second in relations]


def _thing(phrase: str, known: Collection[str] | None) -> str | None:
    name = bare_name(phrase)
    if known is None:
        return name
    labels = {form: label for label in known for form in (label, plural(label))}
    if "person" in known:
        labels |= {form: "person" for each in _PEOPLE for form in (each, plural(each))}
    words = name.split()
    return next((labels[tail] for start in range(len(words)) if (tail := " ".join(words[start:])) in labels), None)


def score_relations(
    relations: Sequence[Placed],
    size: tuple[int, int],
    found: Sequence[Detection],
    *,
    known: Collection[str] | None = None,
    thresholds: Thresholds = PUBLISHED,
) -> Score | Unscored:
    """How surely relations hold: of each half the things' confidence and half where they are; their product.

    Args:
        relations: One or more, see `things.spatial_relations`.
        size: Width and height of the picture.
        found: What a detector found there, surest first.
        known: What it can find; None for everything.
        thresholds: How sure it must be.

    Returns:
        In [0, 1]; Unscored where the detector cannot find what is asked for, or depth decides.

    References:
        Huang et al. (2023), T2I-CompBench, and its `2D_spatial_eval.py`. Its code leaves "on top of" without a rule where it has one for
        "on the top of"; here both mean the same, and so does "above"; "below" and "under" are its "on the bottom of".
    """
    value, told = 1.0, []
    for (first, how, second), names in zip(relations, relation_names(relations, known), strict=True):
        if how not in _WAYS and how not in _BESIDE:
            return Unscored(reason=f'"{how}" is a matter of depth, which a detector does not tell')
        if None in names:
            return Unscored(reason=f"the detector knows no {bare_name(first if names[0] is None else second)}")
        sure = [each for each in found if each.confidence >= thresholds.relation]
        ones = [each for each in sure if each.name == names[0]][:1]
        others = [each for each in sure if each.name == names[1]][1 if names[0] == names[1] else 0 :][:1]
        score = 0.25 * sum(each.confidence for each in (*ones, *others))
        if ones and others:
            score += relation_holds(how, ones[0], others[0], size) / 2
        else:
            told.append(f"not found: {bare_name(second if ones else first)}")
        value *= score if score >= _LEAST else 0.0
    return Score(value=value, reason="; ".join(told))


def relation_holds(how: str, first: Detection, second: Detection, size: tuple[int, int]) -> float:
    """How well a relation of two things holds, in [0, 1]: less where boxes overlap, or where what should be near is not.

    Example:
        >>> cat, dog = Detection("cat", (0, 100, 50, 150), 0.9), Detection("dog", (200, 100, 250, 150), 0.9)
        >>> relation_holds("to the left of", cat, dog, (480, 480)), relation_holds("next to", cat, dog, (480, 480))
        (1.0, 1.0)
    """
    long, short = max(size), min(size)
    scale = (_SIDE - 1) / short if long * (_SIDE - 1) / short <= _SIDE else _SIDE / long
    boxes = [scale * np.reshape(each.box, (2, 2)) for each in (first, second)]
    apart = boxes[1].mean(axis=0) - boxes[0].mean(axis=0)
    if how in _BESIDE:
        return 1.0 if np.abs(apart).min() < _NEAR else float(_NEAR / np.abs(apart).max())
    axis, sign = _WAYS[how]
    if sign * apart[axis] <= 0 or abs(apart[axis]) <= abs(apart[1 - axis]):
        return 0.0
    shared = np.clip(np.minimum(boxes[0][1], boxes[1][1]) - np.maximum(boxes[0][0], boxes[1][0]), 0, None).prod()
    overlap = shared / (sum(np.prod(box[1] - box[0]) for box in boxes) - shared)
    return 1.0 if overlap < _OVERLAP else float(_OVERLAP / overlap)
