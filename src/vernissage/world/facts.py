"""Facts of a picture or a prompt, and how many of the wanted ones are right.

Facts come from three sources: a scene (all known), a text (only what it says), or the recogniser that reads pictures.
This is the mini world's GenEval: wanted facts against facts seen, one by one.
"""

import re
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from vernissage.world import phrases
from vernissage.world.scene import MAX_COUNT, OPPOSITE, Colour, Group, Kind, Place, Relation, Scene, Style, Time


class GroupFacts(BaseModel):
    """What is known of one group of things; None where nothing is said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    colour: Colour | None = None
    count: int | None = None


class Facts(BaseModel):
    """What is known of a picture; None where nothing is said. `relation` is that of the first group to the second."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: tuple[GroupFacts, ...] = ()
    relation: Relation | None = None
    place: Place | None = None
    time: Time | None = None
    style: Style | None = None


Name = TypeVar("Name", bound=str)


class FactCheck(NamedTuple):
    """One wanted fact, what was seen instead, and whether they agree."""

    fact: str
    wanted: str
    seen: str
    right: bool


def facts_of(scene: Scene) -> Facts:
    """Everything that is true of a scene."""
    groups = tuple(GroupFacts(kind=g.kind, colour=g.colour, count=g.count) for g in scene.groups)
    return Facts(groups=groups, relation=scene.relation, place=scene.place, time=scene.time, style=scene.style)


def scene_of(facts: Facts) -> Scene | None:
    """The scene that these facts fix completely, or None where something is left open or beyond what scenes can hold."""
    if None in (facts.place, facts.time, facts.style) or not 1 <= len(facts.groups) <= 2:
        return None
    if any(group.colour is None or group.count is None or group.count > MAX_COUNT for group in facts.groups):
        return None
    if (facts.relation is None) != (len(facts.groups) == 1):
        return None
    groups = tuple(Group.model_validate(group.model_dump()) for group in facts.groups)
    return Scene.model_validate(facts.model_dump(exclude={"groups"}) | {"groups": groups})


def _alternatives(words: list[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_KIND_OF: dict[str, Kind] = {
    name: kind
    for kind, synonyms in phrases.KIND_SYNONYMS.items()
    for synonym in synonyms
    for name in ({synonym, synonym + "s", synonym.removesuffix("y") + "ies"} | ({"fishes", "goldfishes"} if kind == "fish" else set()))
}
_COLOUR_OF: dict[str, Colour] = {s: colour for colour, synonyms in phrases.COLOUR_SYNONYMS.items() for s in synonyms}
_COUNT_OF = {word: count for count, words in phrases.COUNT_WORDS.items() for word in words} | {
    "an": 1,
    "the": None,
    "a couple of": 2,
    "both": 2,
}
_RELATION_OF: dict[str, Relation] = {
    **{phrase: relation for relation, several in phrases.RELATION_PHRASES.items() for phrase in several},
    "beneath": "below",
    "on top of": "above",
    "left from": "left of",
    "right from": "right of",
}
_GROUP = re.compile(
    rf"(?:\b(?P<count>{_alternatives(list(_COUNT_OF))})\s+)?"
    rf"(?:[a-z-]+\s+){{0,1}}?(?:\b(?P<colour>{_alternatives(list(_COLOUR_OF))})\s+)?"
    rf"\b(?P<kind>{_alternatives(list(_KIND_OF))})\b"
)
_RELATION = re.compile(rf"\b(?P<relation>{_alternatives(list(_RELATION_OF))})\b")


def _said(words: dict[Name, str], text: str) -> Name | None:
    """The fact whose words come last in the text: in a request, later words correct earlier ones."""
    found = [(match.end(), name) for name, pattern in words.items() for match in re.finditer(rf"\b(?:{pattern})\b", text)]
    return max(found)[1] if found else None


def read_text(text: str) -> Facts:
    """The facts that a prompt or caption states.

    Reads the mini world's own vocabulary with common synonyms; words it does not know are passed over. At most two
    groups are read, and the relation is the one that stands between them.

    Example:
        >>> facts = read_text("two yellow stars above a red car, at sea, night, neon sign style")
        >>> [(g.count, g.colour, g.kind) for g in facts.groups], facts.relation, facts.place, facts.time, facts.style
        ([(2, 'yellow', 'star'), (1, 'red', 'car')], 'above', 'sea', 'night', 'neon')
    """
    text = re.sub(r"\s+", " ", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    matches = []
    for match in _GROUP.finditer(text):
        if _KIND_OF[match["kind"]] not in {_KIND_OF[seen["kind"]] for seen in matches}:
            matches.append(match)
    matches = matches[:2]
    groups = tuple(
        GroupFacts(
            kind=_KIND_OF[match["kind"]],
            colour=_COLOUR_OF[match["colour"]] if match["colour"] else None,
            count=_COUNT_OF[match["count"]] if match["count"] else None,
        )
        for match in matches
    )
    relation = None
    if len(matches) == 2:
        between = _RELATION.search(text, matches[0].end("kind"), matches[1].end())
        relation = _RELATION_OF[between["relation"]] if between else None
    return Facts(
        groups=groups,
        relation=relation,
        place=_said(phrases.PLACE_WORDS, text),
        time=_said(phrases.TIME_WORDS, text),
        style=_said(phrases.STYLE_WORDS, text),
    )


def outside_the_world(text: str) -> str:
    """What to tell somebody whose request names no thing that the mini world knows; empty when it names one.

    Example:
        >>> outside_the_world("a dragon over the sea")[:60]
        'The mini studio knows no such thing, so it made a guess. It '
        >>> outside_the_world("two kittens over the sea")
        ''
    """
    if read_text(text).groups:
        return ""
    kinds = ", ".join(phrases.PLURAL.values())
    return f"The mini studio knows no such thing, so it made a guess. It knows {kinds}. For anything else, configure real models."


def check_facts(wanted: Facts, seen: Facts) -> list[FactCheck]:
    """Compare wanted facts with facts seen, one by one.

    Only what is wanted is checked: place, time, style; each group's kind, colour and count; and the relation. Groups
    are matched by kind; of a kind that is missing, colour and count are wrong too.

    Example:
        >>> wanted = read_text("two red cats, at sea")
        >>> [check.fact for check in check_facts(wanted, read_text("two blue cats, at sea")) if not check.right]
        ['colour of cat']
    """
    checks = [
        _check(name, getattr(wanted, name), getattr(seen, name)) for name in ("style", "place", "time") if getattr(wanted, name) is not None
    ]
    found = {group.kind: group for group in seen.groups}
    for group in wanted.groups:
        other = found.get(group.kind)
        checks.append(_check(f"a {group.kind}", group.kind, other and other.kind))
        for name in ("colour", "count"):
            value = getattr(group, name)
            if value is not None:
                checks.append(_check(f"{name} of {group.kind}", value, other and getattr(other, name)))
    if wanted.relation is not None:
        relation = seen.relation
        kinds, found_kinds = [group.kind for group in wanted.groups], [group.kind for group in seen.groups[:2]]  # a relation is of two
        if relation and found_kinds == kinds[::-1]:
            relation = OPPOSITE[relation]
        elif found_kinds != kinds:
            relation = None
        checks.append(_check("relation", wanted.relation, relation))
    return checks


def _check(fact: str, wanted: object, seen: object) -> FactCheck:
    return FactCheck(fact, str(wanted), "nothing" if seen is None else str(seen), wanted == seen)
