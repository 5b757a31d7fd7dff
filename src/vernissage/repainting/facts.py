"""The facts of a reference as yes/no questions: each leaf of its tree, asked about a painting of it.

Similarity sees style before content; questions weigh all facts alike. What TIFA (arXiv 2303.11897) and DSG (arXiv 2310.18235) do with
the facts of a prompt is done here with those of a picture.
"""

import re
from collections.abc import Iterator, Sequence

from vernissage.prompts.words import ask_for, bare, is_plural, plural, with_article
from vernissage.records.tree import SceneObject, UnderstandingTree
from vernissage.records.verdict import Answer, Score, Unscored

_WHERE = ("in ", "on ", "at ", "by ", "under", "over ", "near ", "inside ", "outside", "outdoors", "indoors")
_ONE, _NONE = ("1", "one", "a", "an", "single"), ("0", "no", "none", "zero")
_NUMBERS = (
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen"),
    *("sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"),
    *("hundred", "dozen"),
)


def facts_to_ask(tree: UnderstandingTree) -> tuple[str, ...]:
    """A question for each fact that a tree states, of the whole, of an object or of two; about the reference all answers are yes.

    Example:
        >>> star = SceneObject(name="star", features={"count": "2", "colour": "yellow"})
        >>> tree = UnderstandingTree(caption="Stars.", style="neon", objects=(star,), relations=("star above car",))
        >>> print(*facts_to_ask(tree))
        Is this a neon picture? Is there a star? Are there exactly 2 stars? Are the stars yellow? Does it show star above car?
    """
    things = [thing for thing in tree.objects if bare(thing.name) and _count(thing) not in _NONE]
    return tuple(dict.fromkeys([*_of_the_whole(tree), *(text for thing in things for text in _of_object(thing)), *_relations(tree)]))


def _of_the_whole(tree: UnderstandingTree) -> Iterator[str]:
    if style := bare(tree.style):
        yield f"Is this {with_article(style)} picture?"
    if lighting := _phrase(tree.lighting):
        yield f"Is the lighting {lighting}?"
    if palette := _phrase(tree.colour_palette):
        yield f"Are its colours {palette}?"
    for part in map(_phrase, tree.composition.split(",")):
        if part:
            yield f"Is the picture {part}?" if part.lower().startswith(_WHERE) else f"Does it show {part}?"


def _phrase(text: str) -> str:
    return text.strip().rstrip(".").strip()


def _count(thing: SceneObject) -> str:
    """The count as it was told, less a thing's name after it and noughts behind it."""
    said = _phrase(thing.features.get("count", "")).lower()
    said = re.sub(rf"\s+(?:{re.escape(bare(thing.name).lower())}|{re.escape(plural(thing.name).lower())})$", "", said)
    return re.sub(r"^(\d+)\.0+$", r"\1", said)


def _is_number(said: str) -> bool:
    return said.isdecimal() or all(part in _NUMBERS or part in _ONE for part in re.split(r"[\s-]+", said))


def _of_object(thing: SceneObject) -> Iterator[str]:
    name, count = bare(thing.name), _count(thing)
    yield ask_for(name)
    several = (bool(count) and count not in _ONE) or (not count and is_plural(name))
    subject = plural(name) if several else name
    for feature, value in sorted(thing.features.items(), reverse=True):
        if feature == "count":
            if count:
                exactly = "exactly " if _is_number(count) else ""
                yield f"Are there {exactly}{count} {plural(name)}?" if several else f"Is there exactly one {name}?"
        elif feature.strip() and (said := _phrase(value)):
            is_it = "Are" if several else "Is"
            yield f"{is_it} the {subject} {said}?" if feature == "colour" else f"Is the {feature} of the {subject} {said}?"


def _relations(tree: UnderstandingTree) -> Iterator[str]:
    """A relation between two named objects is asked as a question, any other as it stands."""
    names = {bare(thing.name).lower(): bare(thing.name) for thing in tree.objects if bare(thing.name)}
    any_name = "|".join(map(re.escape, names))
    between = rf"(?:the |an? )?(?P<first>{any_name})\s+(?:(?:is|are)\s+)?(?P<how>.+?)\s+(?:the |an? )?(?P<second>{any_name})"
    for relation in filter(None, map(_phrase, tree.relations)):
        match = re.fullmatch(between, relation, re.IGNORECASE) if names else None
        if match:
            yield f"Is the {names[match['first'].lower()]} {match['how']} the {names[match['second'].lower()]}?"
        else:
            yield f"Does it show {relation}?"


def share_of_facts(answers: Sequence[Answer]) -> Score | Unscored:
    """The mean probability of yes over all facts, with those that are missing as the reason.

    Returns:
        In [0, 1]; Unscored where a single fact could not be asked, for then pictures would be compared by different questions.
    """
    missing: list[str] = []
    total = 0.0
    for answer in answers:
        if isinstance(answer.yes, Unscored):
            return Unscored(reason=f"{answer.question} {answer.yes.reason}")
        total += answer.yes.value
        if answer.yes.value < 0.5:
            missing.append(answer.question)
    if not answers:
        return Unscored(reason="the tree states no facts")
    return Score(value=total / len(answers), reason=f"no to: {' '.join(missing)}" if missing else "yes to all")
