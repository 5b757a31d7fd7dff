"""The facts of a reference as yes/no questions: each leaf of its tree, asked about a painting of it.

Similarity sees style before content; questions weigh all facts alike. What TIFA (arXiv 2303.11897) and DSG (arXiv 2310.18235) do with
the facts of a prompt is done here with those of a picture.
"""

import re
from collections.abc import Iterator, Sequence

from vernissage.prompts.words import plural, with_article
from vernissage.records.tree import SceneObject, UnderstandingTree
from vernissage.records.verdict import Answer, Score, Unscored

_ONE = ("1", "one", "a", "an", "single")
_WHERE = ("in ", "on ", "at ", "by ", "under", "over ", "near ", "inside ", "outside", "outdoors", "indoors")


def facts_to_ask(tree: UnderstandingTree) -> tuple[str, ...]:
    """A question for each fact that a tree states, of the whole, of an object or of two; about the reference all answers are yes.

    Example:
        >>> star = SceneObject(name="star", features={"count": "2", "colour": "yellow"})
        >>> tree = UnderstandingTree(caption="Stars.", style="neon", objects=(star,), relations=("star above car",))
        >>> print(*facts_to_ask(tree))
        Is this a neon picture? Is there a star? Are there exactly 2 stars? Are the stars yellow? Does it show star above car?
    """
    return tuple(dict.fromkeys([*_of_the_whole(tree), *(text for thing in tree.objects for text in _of_object(thing)), *_relations(tree)]))


def _of_the_whole(tree: UnderstandingTree) -> Iterator[str]:
    if tree.style:
        yield f"Is this {with_article(tree.style)} picture?"
    if tree.lighting:
        yield f"Is the lighting {tree.lighting}?"
    if tree.colour_palette:
        yield f"Are its colours {tree.colour_palette}?"
    for part in tree.composition.split(", "):
        if part:
            yield f"Is the picture {part}?" if part.lower().startswith(_WHERE) else f"Does it show {part}?"


def _of_object(thing: SceneObject) -> Iterator[str]:
    yield f"Is there {with_article(thing.name)}?"
    count = thing.features.get("count", "")
    several = bool(count) and count.lower() not in _ONE
    subject = f"Are the {plural(thing.name)}" if several else f"Is the {thing.name}"
    for feature, value in sorted(thing.features.items(), reverse=True):
        if feature == "count":
            yield f"Are there exactly {value} {plural(thing.name)}?" if several else f"Is there exactly one {thing.name}?"
        elif feature == "colour":
            yield f"{subject} {value}?"
        else:
            yield f"Is the {feature} of the {plural(thing.name) if several else thing.name} {value}?"


def _relations(tree: UnderstandingTree) -> Iterator[str]:
    """A relation between two named objects is asked as a question, any other as it stands."""
    name = "|".join(re.escape(thing.name) for thing in tree.objects)
    for relation in tree.relations:
        match = re.fullmatch(rf"(?P<first>{name})\s+(?P<how>.+)\s+(?P<second>{name})", relation) if name else None
        yield f"Is the {match['first']} {match['how']} the {match['second']}?" if match else f"Does it show {relation}?"


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
