"""A1111 prompt syntax: `(word:1.2)`, `((word))`, `[word]`, `BREAK`, escapes. Read here, handed on to compel.

`AND` and prompt editing `[from:to:when]` are refused by name instead of being guessed.
"""

import re
from typing import NamedTuple

from vernissage.errors import BadPlan


class Weighted(NamedTuple):
    """A stretch of prompt and its weight; 1 is neutral."""

    text: str
    weight: float


_TOKEN = re.compile(r"\\[()\[\]\\]|\(|\[|:\s*[+-]?\d*\.?\d+\s*\)|\)|\]|[^\\()\[\]:]+|:|\\")
_EDITING = re.compile(r"\[[^\[\]()]*:[^\[\]()]*:\s*\d*\.?\d+\s*\]|\[[^\[\]()|]+\|[^\[\]()]*\]")
_UP, _DOWN = 1.1, 1 / 1.1  # A1111's factors for ( ) and [ ]


def read_weights(prompt: str) -> list[list[Weighted]]:
    """The stretches of a prompt with their weights, one list per part between BREAKs.

    Raises:
        BadPlan: The prompt uses AND or prompt editing, which no diffusers pipeline can do.

    Example:
        >>> read_weights("a (red:1.3) cat, ((big))")
        [[Weighted(text='a ', weight=1.0), Weighted(text='red', weight=1.3), Weighted(text=' cat, ', weight=1.0), Weighted(text='big', weight=1.21)]]
    """
    if re.search(r"(?:^|\s)AND(?:\s|$)", prompt):
        raise BadPlan("The prompt combines parts by AND, which is not supported.", hint="Write one prompt.")
    if editing := _EDITING.search(re.sub(r"\\.", "  ", prompt)):
        raise BadPlan(f"The prompt uses prompt editing, {editing[0]!r}, which is not supported.", hint="Choose one of the words.")
    return [_read_part(part) for part in re.split(r"\s*\bBREAK\b\s*", prompt)]


def _read_part(prompt: str) -> list[Weighted]:
    stretches: list[Weighted] = []
    open_brackets: list[tuple[str, int]] = []

    def scale(start: int, factor: float) -> None:
        stretches[start:] = [Weighted(text, weight * factor) for text, weight in stretches[start:]]

    for match in _TOKEN.finditer(prompt):
        token = match[0]
        if token in "([" and token:
            open_brackets.append((token, len(stretches)))
        elif token.startswith(":") and token.endswith(")") and open_brackets and open_brackets[-1][0] == "(":
            scale(open_brackets.pop()[1], float(token[1:-1]))
        elif token == ")" and open_brackets and open_brackets[-1][0] == "(":
            scale(open_brackets.pop()[1], _UP)
        elif token == "]" and open_brackets and open_brackets[-1][0] == "[":
            scale(open_brackets.pop()[1], _DOWN)
        else:
            stretches.append(Weighted(token[1] if len(token) == 2 and token[0] == "\\" else token, 1.0))
    for bracket, start in open_brackets:  # never closed: A1111 weighs to the end
        scale(start, _UP if bracket == "(" else _DOWN)
    merged: list[Weighted] = []
    for text, weight in stretches:
        if merged and abs(merged[-1].weight - weight) < 1e-9:
            merged[-1] = Weighted(merged[-1].text + text, weight)
        else:
            merged.append(Weighted(text, round(weight, 6)))
    return merged


def plain_text(prompt: str) -> str | None:
    """The prompt without any syntax when all its weights are neutral, else None.

    Example:
        >>> plain_text("a cat \\\\(cartoon\\\\)"), plain_text("a (cat)")
        ('a cat (cartoon)', None)
    """
    parts = read_weights(prompt)
    if len(parts) > 1 or any(abs(stretch.weight - 1) > 1e-9 for stretch in parts[0]):
        return None
    return "".join(stretch.text for stretch in parts[0])


def to_compel(prompt: str) -> str:
    """The prompt in compel's syntax.

    Example:
        >>> to_compel("a (red:1.3) cat"), to_compel("sky BREAK sea")
        ('a (red)1.3 cat', '("sky", "sea").and()')
    """
    parts = ["".join(_compel_stretch(stretch) for stretch in part).strip() for part in read_weights(prompt)]
    if len(parts) == 1:
        return parts[0]
    quoted = ", ".join('"' + part.replace('"', '\\"') + '"' for part in parts)
    return f"({quoted}).and()"


def _compel_stretch(stretch: Weighted) -> str:
    text = re.sub(r'([()"+\\-])', r"\\\1", stretch.text) if re.search(r'[()"\\]|[+-]{1,}(?=\s|$)', stretch.text) else stretch.text
    if abs(stretch.weight - 1) < 1e-9:
        return text
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{before}({text.strip()}){stretch.weight:g}{after}"
