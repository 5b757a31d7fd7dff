"""A scene in words: prompt, caption, questions with answers, understanding tree, differences between two scenes.

Everything here follows from exact truth. With a source of randomness the wording varies; without one it is canonical.
Chats have a file of their own, `chats`.
"""

from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from vernissage.prompts.words import with_article
from vernissage.records.regeneration import Aspect
from vernissage.records.tree import SceneObject, UnderstandingTree
from vernissage.world import phrases
from vernissage.world.scene import (
    COLOURS,
    KINDS,
    MAX_COUNT,
    OPPOSITE,
    PLACES,
    RELATIONS,
    STYLES,
    TIMES,
    Group,
    Kind,
    Place,
    Relation,
    Scene,
    Time,
)

Fact = Literal["place", "time", "style"]
Name = TypeVar("Name")
ALL_FACTS: frozenset[Fact] = frozenset({"place", "time", "style"})


class Question(NamedTuple):
    """A yes/no question about a picture, its answer, and what it asks for."""

    text: str
    answer: bool
    aspect: Literal["presence", "count", "colour", "relation", "place", "time", "style"]


def _pick(words: list[str], rng: np.random.Generator | None) -> str:
    return words[0] if rng is None else words[rng.integers(len(words))]


def group_words(group: Group, rng: np.random.Generator | None = None) -> str:
    """A group in words, for example "two yellow stars"."""
    count = _pick(phrases.COUNT_WORDS[group.count], rng)
    colour = _pick(phrases.COLOUR_SYNONYMS[group.colour], rng)
    kind = _pick(phrases.KIND_SYNONYMS[group.kind], rng)
    if group.count > 1:
        kind = phrases.PLURAL[group.kind] if kind == group.kind else kind if kind.endswith("fish") else _plural(kind)
    return with_article(f"{colour} {kind}") if count == "a" else f"{count} {colour} {kind}"


def _plural(word: str) -> str:
    return word[:-1] + "ies" if word.endswith("ty") else word + "s"


def things_words(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """All groups and their relation, for example "two yellow stars above a red car"."""
    words = [group_words(group, rng) for group in scene.groups]
    if scene.relation is None:
        return words[0]
    relation = scene.relation
    if rng is not None and rng.random() < 0.3:
        words, relation = words[::-1], OPPOSITE[relation]
    return f"{words[0]} {_pick(phrases.RELATION_PHRASES[relation], rng)} {words[1]}"


def prompt(scene: Scene, rng: np.random.Generator | None = None, *, facts: frozenset[Fact] = ALL_FACTS) -> str:
    """A T2I prompt in the professional comma-separated manner, things first.

    Args:
        scene: What the picture shall show.
        rng: Varies wording, order and tags; canonical wording when absent.
        facts: Which of place, time and style the prompt states; the things are always stated.

    Example:
        >>> from vernissage.world.scene import Group, Scene
        >>> star = Group(kind="star", colour="yellow", count=2)
        >>> prompt(Scene(groups=(star,), place="sea", time="night", style="neon"))
        'two yellow stars, at sea, at night, neon, glowing outlines, dark background'
    """
    parts = []
    if "place" in facts:
        parts.append(_pick(phrases.PLACE_PHRASES[scene.place], rng))
    if "time" in facts:
        parts.append(_pick(phrases.TIME_PHRASES[scene.time], rng))
    style = [_pick(phrases.STYLE_PHRASES[scene.style], rng)] if "style" in facts else []
    tags = phrases.STYLE_TAGS[scene.style] if "style" in facts else ["high quality", "highly detailed"]
    if rng is None:
        return ", ".join([things_words(scene), *parts, *style, *tags[:2]])
    chosen = [tags[index] for index in rng.choice(len(tags), size=rng.integers(0, 3), replace=False)]
    if rng.random() < 0.5:
        parts = parts[::-1]
    if rng.random() < 0.3:
        return ", ".join([*style, things_words(scene, rng), *parts, *chosen])
    return ", ".join([things_words(scene, rng), *parts, *style, *chosen])


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """A plain sentence, for example: A neon picture of two yellow stars at sea, at night."""
    manner = {"neon": "neon picture", "pixel art": "pixel art picture"}.get(scene.style, scene.style)
    place, time = phrases.PLACE_PHRASES[scene.place][0], phrases.TIME_PHRASES[scene.time][0]
    return f"{with_article(manner).capitalize()} of {things_words(scene, rng)} {place}, {time}."


PALETTE = {"day": "bright, clear colours", "dusk": "warm orange and purple", "night": "dark blue and black"}
LIGHTING = {"day": "bright daylight", "dusk": "low evening sun", "night": "moonlight"}
OBJECT_TYPE = {"cat": "animal", "fish": "animal"}


def tree(scene: Scene) -> UnderstandingTree:
    """The understanding tree of a scene: what a perfect reader would write down."""
    single = len(scene.groups) == 1
    return UnderstandingTree(
        caption=caption(scene),
        style=scene.style,
        lighting=LIGHTING[scene.time],
        colour_palette=PALETTE[scene.time],
        composition=("one group in the middle" if single else f"two groups, one {scene.relation} the other")
        + f", {phrases.PLACE_PHRASES[scene.place][0]}",
        objects=tuple(
            SceneObject(
                name=group.kind,
                type=OBJECT_TYPE.get(group.kind, "object"),
                features={"colour": group.colour, "count": str(group.count)},
            )
            for group in scene.groups
        ),
        relations=() if scene.relation is None else (f"{scene.groups[0].kind} {scene.relation} {scene.groups[1].kind}",),
    )


def questions(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Yes/no questions with their answers: for each fact one that holds and one that does not."""
    asked: list[Question] = []
    present = {group.kind for group in scene.groups}

    def other(names: tuple[Name, ...], not_in: Collection[object]) -> Name:
        left = [name for name in names if name not in not_in]
        return left[rng.integers(len(left))]

    for group in scene.groups:
        plural = phrases.PLURAL[group.kind]
        asked.append(Question(f"Is there {with_article(group.kind)}?", True, "presence"))
        absent = other(KINDS, present)
        asked.append(Question(f"Is there {with_article(absent)}?", False, "presence"))
        asked.append(Question(f"Is there no {absent}?", True, "presence"))
        wrong = other(tuple(range(1, MAX_COUNT + 1)), {group.count})
        for count, answer in ((group.count, True), (wrong, False)):
            text = "Is there exactly one " + group.kind if count == 1 else f"Are there exactly {count} {plural}"
            asked.append(Question(text + "?", answer, "count"))
        for colour, answer in ((group.colour, True), (other(COLOURS, {group.colour}), False)):
            text = f"Is the {group.kind} {colour}?" if group.count == 1 else f"Are the {plural} {colour}?"
            asked.append(Question(text, answer, "colour"))
    if scene.relation is not None:
        first, second = (group.kind for group in scene.groups)
        relations: list[tuple[Relation, bool]] = [(scene.relation, True), (other(RELATIONS, {scene.relation}), False)]
        for relation, answer in relations:
            asked.append(Question(f"Is the {first} {relation} the {second}?", answer, "relation"))
            asked.append(Question(f"Is the {second} {OPPOSITE[relation]} the {first}?", answer, "relation"))
    places: list[tuple[Place, bool]] = [(scene.place, True), (other(PLACES, {scene.place}), False)]
    for place, answer in places:
        asked.append(Question(f"Is the picture {phrases.PLACE_PHRASES[place][0]}?", answer, "place"))
    times: list[tuple[Time, bool]] = [(scene.time, True), (other(TIMES, {scene.time}), False)]
    for time, answer in times:
        asked.append(Question(f"Is it {phrases.TIME_PHRASES[time][0].removeprefix('by ')}?", answer, "time"))
    for style, answer in ((scene.style, True), (other(STYLES, {scene.style}), False)):
        asked.append(Question(f"Is this {with_article(style)} picture?", answer, "style"))
    return asked


def differences(current: Scene, wanted: Scene, aspect: Aspect = "overall image") -> list[str]:
    """What to change in `current` to get `wanted`, one instruction per differing fact; empty when they agree.

    Args:
        current: What there is.
        wanted: What there shall be.
        aspect: Which facts are looked at; "overall image" means all of them.

    Example:
        >>> from vernissage.world.scene import Group, Scene
        >>> night = Scene(groups=(Group(kind="cat", colour="red", count=1),), place="city", time="night", style="photo")
        >>> differences(night, night.model_copy(update={"time": "day"}))
        ['make it by day instead of at night']
    """
    changes = [*_whole_differences(current, wanted), *_group_differences(current, wanted)]
    return [text for about, text in changes if aspect in ("overall image", about)]


def _whole_differences(current: Scene, wanted: Scene) -> Iterator[tuple[Aspect, str]]:
    if current.style != wanted.style:
        yield "style", f"change the style from {current.style} to {wanted.style}"
    if current.place != wanted.place:
        there, here = phrases.PLACE_PHRASES[wanted.place][0], phrases.PLACE_PHRASES[current.place][0]
        yield "detailed content", f"move it {there}, not {here}"
    if current.time != wanted.time:
        yield "style", f"make it {phrases.TIME_PHRASES[wanted.time][0]} instead of {phrases.TIME_PHRASES[current.time][0]}"


def _group_differences(current: Scene, wanted: Scene) -> Iterator[tuple[Aspect, str]]:
    now: dict[Kind, Group] = {group.kind: group for group in current.groups}
    then: dict[Kind, Group] = {group.kind: group for group in wanted.groups}
    for kind in now:
        if kind not in then:
            yield "detailed content", f"remove the {phrases.PLURAL[kind] if now[kind].count > 1 else kind}"
    for kind, group in then.items():
        if kind not in now:
            yield "detailed content", f"add {group_words(group)}"
            continue
        name = phrases.PLURAL[kind] if group.count > 1 else kind
        if now[kind].count != group.count:
            more = f"{phrases.COUNT_WORDS[group.count][0]} {name} instead of {phrases.COUNT_WORDS[now[kind].count][0]}"
            yield "detailed content", f"show {more}"
        if now[kind].colour != group.colour:
            yield "colour", f"make the {name} {group.colour} instead of {now[kind].colour}"
    if wanted.relation is not None and set(now) == set(then):
        first, second = (group.kind for group in wanted.groups)
        stands = current.relation if current.groups[0].kind == first else current.relation and OPPOSITE[current.relation]
        if stands != wanted.relation:
            yield "detailed content", f"put the {first} {wanted.relation} the {second}"
