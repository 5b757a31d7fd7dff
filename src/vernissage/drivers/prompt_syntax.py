"""A1111 prompt syntax: `(word:1.2)`, `((word))`, `[word]`, `BREAK`, escapes. Read here, handed on to compel.

`AND` and prompt editing `[from:to:when]` are refused by name instead of being guessed.
"""

import re
from typing import Any, NamedTuple

from vernissage.errors import BadPlan


class Weighted(NamedTuple):
    """A stretch of prompt and its weight; 1 is neutral."""

    text: str
    weight: float


_TOKEN = re.compile(r"\\[()\[\]\\]|[(\[)\]|]|:\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)\s*[)\]]|[^\\()\[\]:|]+|:|\\")
_FACTORS = {"(": 1.1, "[": 1 / 1.1}  # A1111's
_CLOSED_BY = {")": "(", "]": "["}
_HEAVIEST = 100.0


def read_weights(prompt: str) -> list[list[Weighted]]:
    """The stretches of a prompt with their weights, one list per part between BREAKs.

    Raises:
        BadPlan: The prompt uses AND or prompt editing, which no diffusers pipeline can do, or a weight out of range.

    Example:
        >>> read_weights("a (red:1.3) ((cat))")[0]  # doctest: +NORMALIZE_WHITESPACE
        [Weighted(text='a ', weight=1.0), Weighted(text='red', weight=1.3),
         Weighted(text=' ', weight=1.0), Weighted(text='cat', weight=1.21)]
    """
    if re.search(r"\bAND\b", prompt):
        raise BadPlan("The prompt combines parts by AND, which is not supported.", hint="Write one prompt.")
    pieces: list[Weighted | None] = []  # None is a BREAK
    open_at: dict[str, list[tuple[int, int]]] = {"(": [], "[": []}  # in the pieces and in the prompt
    alternates: set[int] = set()
    for match in _TOKEN.finditer(prompt):
        token = match[0]
        opener = "" if token[0] == "\\" else _CLOSED_BY.get(token[-1], "")
        if token in open_at:
            open_at[token].append((len(pieces), match.start()))
        elif opener and open_at[opener]:
            first, start = open_at[opener].pop()
            if opener == "[" and (len(token) > 1 or start in alternates):
                raise BadPlan(
                    f"The prompt uses prompt editing, {prompt[start : match.end()]!r}, which is not supported.",
                    hint="Choose one of the words. For less of a word, write (word:0.8).",
                )
            _scale(pieces, first, float(token[1:-1]) if len(token) > 1 else _FACTORS[opener])
        else:
            if token == "|" and open_at["["]:
                alternates.add(open_at["["][-1][1])
            texts = re.split(r"\bBREAK\b", token[1] if len(token) == 2 and token[0] == "\\" else token)
            pieces += [piece for text in texts for piece in (None, Weighted(text, 1.0))][1:]
    for opener, places in open_at.items():  # never closed: A1111 weighs to the end
        for first, _ in places:
            _scale(pieces, first, _FACTORS[opener])
    return _parts(pieces)


def _scale(pieces: list[Weighted | None], first: int, factor: float) -> None:
    pieces[first:] = [piece and Weighted(piece.text, piece.weight * factor) for piece in pieces[first:]]


def _parts(pieces: list[Weighted | None]) -> list[list[Weighted]]:
    """Divided at the BREAKs, without spaces beside them; neighbours of one weight become one stretch."""
    parts: list[list[Weighted]] = [[]]
    for piece in pieces:
        if piece is None:
            parts.append([])
            continue
        if not 0 <= piece.weight <= _HEAVIEST:
            raise BadPlan(
                f"The prompt gives {piece.text.strip()!r} the weight {piece.weight:g}; weights go from 0 to {_HEAVIEST:g}.",
                hint="Usual are 0.5 to 1.5; what is not wanted belongs into the negative prompt.",
            )
        part, weight = parts[-1], round(piece.weight, 6)
        if part and part[-1].weight == weight:
            part[-1] = Weighted(part[-1].text + piece.text, weight)
        elif piece.text:
            part.append(Weighted(piece.text, weight))
    for index, part in enumerate(parts):
        if part and index > 0:
            part[0] = Weighted(part[0].text.lstrip(), part[0].weight)
        if part and index < len(parts) - 1:
            part[-1] = Weighted(part[-1].text.rstrip(), part[-1].weight)
    return [[stretch for stretch in part if stretch.text] for part in parts]


def plain_text(prompt: str) -> str | None:
    r"""The prompt without any syntax when all its weights are neutral, else None.

    Example:
        >>> plain_text("a cat \\(cartoon\\)"), plain_text("a (cat)")
        ('a cat (cartoon)', None)
    """
    parts = read_weights(prompt)
    if len(parts) > 1 or any(stretch.weight != 1 for stretch in parts[0]):
        return None
    return "".join(stretch.text for stretch in parts[0])


def unweighted(prompt: str) -> str:
    """The words of a prompt alone, without its syntax.

    Example:
        >>> unweighted("a (red:1.3) sky BREAK sea")
        'a red sky sea'
    """
    return " ".join("".join(stretch.text for stretch in part).strip() for part in read_weights(prompt))


def to_compel(prompt: str) -> Any:
    """The prompt as compel's parser returns prompts, with BREAK as compel's conjunction.

    It is not written in compel's syntax, which has no way to say some texts: it takes the first of `c++ (red:1.3)` for a
    weight, and cannot weigh `=` at all.

    Example:
        >>> to_compel("a (red:1.3) cat")
        Conjunction:[FlattenedPrompt:[Fragment:'a'@1.0, Fragment:'red'@1.3, Fragment:'cat'@1.0]] | type AND | weights [1.0] | loras []
    """
    from compel.prompt_parser import Conjunction, FlattenedPrompt

    parts = []
    for part in read_weights(prompt):
        stretches = [(" ".join(stretch.text.split()), stretch.weight) for stretch in part]
        # compel takes one backslash off each of these.
        fragments = [(re.sub(r'([()"])', r"\\\1", text), weight) for text, weight in stretches if text]
        if fragments:
            parts.append(FlattenedPrompt(fragments))
    return Conjunction(parts or [FlattenedPrompt([("", 1.0)])])
