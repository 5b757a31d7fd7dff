"""Checks of a prompt's own words, as T2I-CompBench asks them: its things with their attributes, and how they are placed.

Found by articles, numbers and prepositions, without a parser: the benchmark's prompts are short and written so.
"""

import re
from typing import NamedTuple

from vernissage.scoring.checks import Check

_ARTICLE = r"(?:an?|the|one|two|three|four|five|six|seven|eight|nine|ten|\d+|some|several|his|her|its|their)"
_MANY = re.compile(r"(?:two|three|four|five|six|seven|eight|nine|ten|several|[2-9]|\d\d+)\b", re.IGNORECASE)
_STOP = (  # never part of a thing's name
    r"(?:and|or|with|of|on|in|at|to|by|for|from|is|are|was|were|has|have|had|that|which|while|as|it|them|an?|the"
    r"|under|underneath|above|below|beneath|near|behind|beside|next|over|inside|outside|between|through|past|across|against|along"
    r"|into|onto|off|left of|right of|hidden|sits?|sat|sitting|stands?|stood|standing|sleeps?|sleeping|slept|lies|lying|lay|leans?"
    r"|leaning|hangs?|hung|hanging|rest(?:s|ing)|float(?:s|ing))"
)
_FIRST = rf"(?!{_STOP}\b)[\w'-]+"
_WORD = (  # what an article or a preposition of motion follows is a verb: "holds a", "leaped into", "contrasted with"
    rf"(?!{_STOP}\b)(?!\w+\s+{_ARTICLE}\b)(?!\w+\s+(?:past|through|into|onto|across)\b)"
    r"(?!(?!red\b|bed\b)\w{3,}ed\s+(?:in|on|at|to|by|with|from|over|near|above|next)\b)[\w'-]+"
)
_COMMA = rf"(?:,\s+(?!{_ARTICLE}\b){_WORD}\s+{_WORD}(?:\s+{_WORD})*)?"  # "the tall, green cactus"
_BARE = rf"(?!{_ARTICLE}\b){_FIRST}"
_THING = re.compile(rf"(?:\b{_ARTICLE}\s+{_FIRST}|(?<=\band ){_BARE}|(?<=\bwith ){_BARE})(?:\s+{_WORD})*{_COMMA}", re.IGNORECASE)
_HEAD = re.compile(rf"^{_BARE}(?:\s+{_WORD})*(?=\s+and\s+{_ARTICLE}\b)", re.IGNORECASE)
_NO_THINGS = {"side", "left", "right", "top", "bottom", "front", "middle"}
_SPATIAL = {
    "on the left side of": "to the left of",
    "on the left of": "to the left of",
    "to the left of": "to the left of",
    "left of": "to the left of",
    "on the right side of": "to the right of",
    "on the right of": "to the right of",
    "to the right of": "to the right of",
    "right of": "to the right of",
    "on the top of": "on top of",
    "on top of": "on top of",
    "above": "above",
    "on the bottom of": "below",
    "below": "below",
    "under": "under",
    "underneath": "under",
    "beneath": "beneath",
    "in front of": "in front of",
    "behind": "behind",
    "hidden by": "hidden by",
    "next to": "next to",
    "on the side of": "beside",
    "on side of": "beside",
    "beside": "beside",
    "near": "near",
}
_COMPLEX = r"(?:on (?:the )?(?:top|bottom|left|right|side) of|next to|near)"
_RELATION = re.compile(
    r"\b(?:(?:is|are|was|were)\s+)?(?:(?:hung|resting|lying|sitting|standing|sits?|sat|stands?|stood|lies|lay|floated)\s+)?"
    rf"(?P<how>{'|'.join(sorted(_SPATIAL, key=len, reverse=True))})\b",
    re.IGNORECASE,
)


_PLACED = re.compile(rf"\b{_COMPLEX}\b", re.IGNORECASE)
_ONLY_PLACED = re.compile(rf"{_THING.pattern} (?:is|are|was|were) {_COMPLEX} {_THING.pattern}\.?", re.IGNORECASE)


def noun_phrases(prompt: str) -> list[str]:
    """Things of a prompt with their attributes; the whole prompt where none is found, nothing of one without words.

    Example:
        >>> noun_phrases("a red car on the left of a blue wooden bench, and two small dogs")
        ['a red car', 'a blue wooden bench', 'two small dogs']
    """
    prompt = prompt.strip()
    head = _HEAD.match(prompt)
    found = ([head[0]] if head else []) + [match[0].strip() for match in _THING.finditer(prompt)]
    kept = [each for each in found if each.split()[-1].lower() not in _NO_THINGS]
    if any(re.match(rf"{_ARTICLE}\b", each, re.IGNORECASE) for each in kept):
        return kept
    whole = prompt.rstrip(".").strip()
    parts = [each.strip() for each in re.split(r",\s*(?:and\s+)?|\s+and\s+", whole)]
    if len(parts) > 1 and all(re.fullmatch(rf"{_FIRST}(?:\s+{_FIRST})*", each, re.IGNORECASE) for each in parts):
        return parts
    return [whole] if re.search(r"\w", whole) else []


def attribute_checks(prompt: str) -> tuple[Check, ...]:
    """A check for each noun phrase, worded as T2I-CompBench does: the phrase and a question mark."""
    return tuple(Check(f"{phrase}?") for phrase in noun_phrases(prompt))


def says_where(prompt: str) -> bool:
    """Whether one of the relations is named that T2I-CompBench's complex prompts have, which are fewer than `spatial_checks` knows."""
    return _PLACED.search(prompt) is not None


def says_only_where(prompt: str) -> bool:
    """Whether a prompt says where one thing is beside another and nothing else; without a verb that is not sure.

    Example:
        >>> says_only_where("The red cup was next to the blue plate."), says_only_where("The red cup stood next to the blue plate.")
        (True, False)
    """
    return _ONLY_PLACED.fullmatch(prompt.strip()) is not None


class Placed(NamedTuple):
    """A spatial relation of two noun phrases."""

    first: str
    how: str
    """Such as "to the left of", one phrase for each relation."""
    second: str


def spatial_relations(prompt: str) -> tuple[Placed, ...]:
    """The spatial relations between two noun phrases that a prompt names.

    Example:
        >>> spatial_relations("two dogs on the right of a red car")
        (Placed(first='two dogs', how='to the right of', second='a red car'),)
    """
    found: list[Placed] = []
    for match in _RELATION.finditer(prompt):
        before = [each[0].strip() for each in _THING.finditer(prompt[: match.start()])]
        after = _THING.match(prompt[match.end() :].lstrip())
        if before and after:
            found.append(Placed(before[-1], _SPATIAL[match["how"].lower()], after[0].strip()))
    return tuple(found)


def spatial_checks(prompt: str) -> tuple[Check, ...]:
    """A check for each spatial relation between two noun phrases.

    Example:
        >>> spatial_checks("two dogs on the right of a red car")[0].question
        'Are two dogs to the right of a red car?'
    """
    return tuple(
        Check(f"{'Are' if _MANY.match(first) else 'Is'} {first} {how} {second}?") for first, how, second in spatial_relations(prompt)
    )


def bare_name(phrase: str) -> str:
    """A noun phrase without its article or number, in lower case.

    Example:
        >>> bare_name("The two wooden chairs"), bare_name("a cat")
        ('two wooden chairs', 'cat')
    """
    return re.sub(rf"^{_ARTICLE}\s+", "", phrase.strip(), flags=re.IGNORECASE).lower()
