"""English words in questions: articles and plurals."""

import re

_IRREGULAR = {
    "child": "children",
    "deer": "deer",
    "fish": "fish",
    "foot": "feet",
    "goose": "geese",
    "knife": "knives",
    "leaf": "leaves",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "sheep": "sheep",
    "shelf": "shelves",
    "tooth": "teeth",
    "wolf": "wolves",
    "woman": "women",
}
_SINGULAR = ("gas", "lens", "canvas", "atlas")
"""End like plurals and are none."""


def bare(name: str) -> str:
    """A name without its article, and without what stands around it.

    Example:
        >>> bare(" the dog. ")
        'dog'
    """
    return re.sub(r"^(?:an?|the)\s+", "", name.strip().rstrip("."), flags=re.IGNORECASE)


def with_article(name: str) -> str:
    """A name with a or an.

    Example:
        >>> with_article("oil painting"), with_article("one-eyed cat"), with_article("the dog")
        ('an oil painting', 'a one-eyed cat', 'a dog')
    """
    name = bare(name)
    return f"{'an' if name[:1].lower() in set('aeiou') and not name.lower().startswith('one') else 'a'} {name}"


def is_plural(name: str) -> bool:
    """Whether a name looks like more than one already.

    Example:
        >>> is_plural("flowers"), is_plural("bus"), is_plural("scissors")
        (True, False, True)
    """
    last = name.lower().rsplit(maxsplit=1)[-1] if name.strip() else ""
    return last.endswith("s") and not last.endswith(("ss", "us", "is")) and last not in _SINGULAR


def plural(name: str) -> str:
    """More than one of it.

    Example:
        >>> plural("lorry"), plural("bus"), plural("computer mouse"), plural("flowers")
        ('lorries', 'buses', 'computer mice', 'flowers')
    """
    name = bare(name)
    before, _, last = name.rpartition(" ")
    if last.lower() in _IRREGULAR:
        return f"{before} {_IRREGULAR[last.lower()]}".strip()
    if is_plural(name):
        return name
    if re.search(r"[^aeiou]y$", name):
        return name[:-1] + "ies"
    return name + ("es" if re.search(r"(s|x|z|ch|sh)$", name) else "s")


def ask_for(name: str) -> str:
    """The question whether there is such a thing.

    Example:
        >>> ask_for("owl"), ask_for("scissors")
        ('Is there an owl?', 'Are there scissors?')
    """
    return f"Are there {bare(name)}?" if is_plural(name) else f"Is there {with_article(name)}?"
