"""English words in questions: articles and plurals."""

import re


def with_article(name: str) -> str:
    """A name with a or an.

    Example:
        >>> with_article("oil painting"), with_article("one-eyed cat")
        ('an oil painting', 'a one-eyed cat')
    """
    return f"{'an' if name[:1].lower() in set('aeiou') and not name.lower().startswith('one') else 'a'} {name}"


def plural(name: str) -> str:
    """More than one of it.

    Example:
        >>> plural("lorry"), plural("bus"), plural("cat")
        ('lorries', 'buses', 'cats')
    """
    if re.search(r"[^aeiou]y$", name):
        return name[:-1] + "ies"
    return name + ("es" if re.search(r"(s|x|z|ch|sh)$", name) else "s")
