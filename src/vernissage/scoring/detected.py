"""Scores of what a detector finds in pictures: GenEval's and T2I-CompBench's relations, by the rules of their authors' code."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

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
_LONGEST = 8
"""Times its width, of a thing that is cut out."""
_CLOSE = 0.1
"""Of the sizes of two things: centres closer than that stand neither left nor right, neither above nor below."""
_POSITIONS = ("left of", "right of", "above", "below")
_SAME = (  # as GenEval, COCO, mmdet and people call them
    ("motorcycle", "motorbike"),
    ("airplane", "aeroplane"),
    ("couch", "sofa"),
    ("potted plant", "pottedplant"),
    ("dining table", "diningtable", "table"),
    ("tv", "tvmonitor", "television"),
    ("computer mouse", "mouse"),
    ("tv remote", "remote"),
    ("computer keyboard", "keyboard"),
    ("cell phone", "phone"),
)

_SIDE = 480
"""T2I-CompBench measures distances in pictures of this side."""
_NEAR = 150
_OVERLAP = 0.1
_LEAST = 0.5
"""A relation's score below this is 0."""
_PEOPLE = ("girl", "boy", "man", "woman")
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


def label_of(name: str, known: frozenset[str] | None) -> str | None:
    """What a detector calls a thing, None where it cannot find it; whatever it is asked for, where it knows no names of its own.

    Example:
        >>> label_of("couch", frozenset({"sofa", "Cat"})), label_of("cats", frozenset({"Cat"})), label_of("zebra", frozenset({"Cat"}))
        ('sofa', 'Cat', None)
    """
    return name if known is None else _forms(known).get(name.lower())


@lru_cache(maxsize=8)
def _forms(known: frozenset[str]) -> Mapping[str, str]:
    """What people call each label, in lower case: by its own name first, then by another, then in the plural."""
    named = [(label.lower(), label) for label in sorted(known)]
    alike = [(other, label) for name, label in named for names in _SAME if name in names for other in names]
    alike += [(each, label) for name, label in named if name == "person" for each in _PEOPLE]
    return {plural(name): label for name, label in (*alike, *named)} | dict(alike) | dict(named)


# -------------------------------------------------------------------------------------------------------------- GenEval


def geneval_labels(row: Metadata, known: frozenset[str] | None) -> dict[str, str] | Unscored:
    """What a detector must look for, by GenEval's names; Unscored where it cannot, or where GenEval has no rule for what is asked."""
    for index, each in enumerate(row.include):
        if each.color and each.color.lower() not in COLOURS:
            return Unscored(reason=f"GenEval knows no colour {each.color}")
        if each.position and each.position.how.lower() not in _POSITIONS:
            return Unscored(reason=f"GenEval knows no position {each.position.how}")
        if each.position and each.position.other >= index:
            return Unscored(reason=f"the position of {each.name} is not told by a thing before it")
        if each.count > _MOST:
            return Unscored(reason=f"GenEval counts to {_MOST}, not to {each.count}")
    labels = {each.name: label_of(each.name, known) for each in (*row.include, *row.exclude)}
    lost = next((name for name, label in labels.items() if label is None), None)
    return Unscored(reason=f"the detector knows no {lost}") if lost else {name: label for name, label in labels.items() if label}


def score_geneval(
    rows: Sequence[Metadata],
    labels: Sequence[Mapping[str, str]],
    images: Sequence[Image.Image],
    found: Sequence[Sequence[Detection]],
    clip: TextImageEncoder,
    thresholds: Thresholds = PUBLISHED,
) -> list[Score]:
    """1 where all that is wanted is there and nothing that is excluded, else 0 with what is wrong.

    Args:
        rows: What must be in each picture.
        labels: What the detector calls it, see `geneval_labels`.
        images: The pictures.
        found: What a detector found in each, surest first.
        clip: Tells the colours of what was found.
        thresholds: How sure it must be.

    Returns:
        One score a picture.

    References:
        Ghosh et al. (2023), GenEval, and its `evaluate_images.py`: the surest of each kind; colours by CLIP on what is cut out; positions
        by centres, from a tenth of both sizes on.
    """
    kinds: list[dict[str, list[Detection]]] = []
    for row, names, several in zip(rows, labels, found, strict=True):
        least = thresholds.counting if row.tag.lower() == "counting" else thresholds.presence
        sure = [each for each in several if each.confidence > least]
        kinds.append({name: [each for each in sure if each.name == label][:_MOST] for name, label in names.items()})
    coloured = [
        (place, index, thing)
        for place, own in enumerate(kinds)
        for index, wanted in enumerate(rows[place].include)
        if wanted.color and len(own[wanted.name]) >= wanted.count
        for thing in own[wanted.name][: wanted.count]
    ]
    told = _colours([(images[place], thing, rows[place].include[index].name) for place, index, thing in coloured], clip)
    colours: list[dict[int, list[str]]] = [{} for _ in rows]
    for (place, index, _), colour in zip(coloured, told, strict=True):
        colours[place].setdefault(index, []).append(colour)
    return [_verdict(*each) for each in zip(rows, kinds, colours, strict=True)]


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
    if wanted.color and colours.count(wanted.color.lower()) < wanted.count:
        return f"{wanted.name} found {' and '.join(dict.fromkeys(colours))}, not {wanted.color}"
    if wanted.position:
        how, others = wanted.position.how.lower(), settled[wanted.position.other]
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
    """A thing by its box, what is not its own in grey where the detector tells that; of one that is very long the middle.

    The middle is all that CLIP looks at, and the whole would be scaled up for it first.
    """
    left, top, right, bottom = map(round, thing.box)
    cut = image.crop((left, top, max(right, left + 1), max(bottom, top + 1))).convert("RGB")
    if thing.mask is not None and thing.mask.size:
        mask = Image.fromarray(thing.mask).resize(cut.size, Image.Resampling.NEAREST)
        cut = Image.composite(cut, Image.new("RGB", cut.size, _GREY), mask)
    (width, height), most = cut.size, _LONGEST * min(cut.size)
    x, y = max(0, width - most) // 2, max(0, height - most) // 2
    return cut.crop((x, y, min(width, x + most), min(height, y + most))) if x or y else cut


def _colours(things: Sequence[tuple[Image.Image, Detection, str]], clip: TextImageEncoder) -> list[str]:
    """The colour of each thing: the one whose descriptions CLIP finds nearest."""
    if not things:
        return []
    names = list(dict.fromkeys(name for _, _, name in things))
    texts = [text.format(colour=colour, name=name) for name in names for colour in COLOURS for text in _COLOURED]
    known = {text: row for row, text in enumerate(dict.fromkeys(texts))}  # "a photo of a red object" is said of all
    rows = clip.encode_text(list(known))[[known[text] for text in texts]]
    rows = rows.reshape(len(names), len(COLOURS), len(_COLOURED), -1).mean(axis=2)
    rows /= np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), 1e-12)
    seen: ndarray = clip.encode([cut_out(image, thing) for image, thing, _ in things])
    return [COLOURS[int(np.argmax(rows[names.index(name)] @ row))] for row, (_, _, name) in zip(seen, things, strict=True)]


# -------------------------------------------------------------------------------------------------------- T2I-CompBench


def relation_labels(relations: Sequence[Placed], known: frozenset[str] | None) -> list[tuple[str, str]] | Unscored:
    """What a detector must look for to see each relation; Unscored where it cannot, or where depth decides.

    Example:
        >>> relation_labels([Placed("a white dining table", "near", "two girls")], frozenset({"dining table", "person"}))
        [('dining table', 'person')]
    """
    found: list[tuple[str, str]] = []
    for first, how, second in relations:
        if how not in _WAYS and how not in _BESIDE:
            return Unscored(reason=f'"{how}" is a matter of depth, which a detector does not tell')
        one, other = _thing(first, known), _thing(second, known)
        if one is None or other is None:
            return Unscored(reason=f"the detector knows no {bare_name(first if one is None else second)}")
        found.append((one, other))
    return found


def _thing(phrase: str, known: frozenset[str] | None) -> str | None:
    """The label of as many of a phrase's last words as have one: "white dining table" is no table but a dining table."""
    words = bare_name(phrase).split()
    return next((label for start in range(len(words)) if (label := label_of(" ".join(words[start:]), known))), None)


def score_relations(
    relations: Sequence[Placed],
    labels: Sequence[tuple[str, str]],
    size: tuple[int, int],
    found: Sequence[Detection],
    thresholds: Thresholds = PUBLISHED,
) -> Score:
    """How surely relations hold: of each half the things' confidence and half where they are; their product.

    Args:
        relations: One or more, see `things.spatial_relations`.
        labels: What the detector calls their things, see `relation_labels`.
        size: Width and height of the picture.
        found: What a detector found there, surest first.
        thresholds: How sure it must be.

    Returns:
        In [0, 1].

    References:
        Huang et al. (2023), T2I-CompBench, and its `2D_spatial_eval.py`. Its code leaves "on top of" without a rule where it has one for
        "on the top of"; here both mean the same, and so does "above"; "below" and "under" are its "on the bottom of". Of two people it
        takes one box for both, here the two surest.
    """
    value, told = 1.0, []
    sure = [each for each in found if each.confidence >= thresholds.relation]
    for (first, how, second), (one, other) in zip(relations, labels, strict=True):
        ones = [each for each in sure if each.name == one][:1]
        others = [each for each in sure if each.name == other][1 if one == other else 0 :][:1]
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
    union = sum(np.prod(box[1] - box[0]) for box in boxes) - shared
    return 1.0 if shared < _OVERLAP * union or union <= 0 else float(_OVERLAP * union / shared)
