"""Which demonstrations are most like a prompt: by the words they share, rare words more than common ones. No model is needed."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from vernissage.records.demonstration import Demonstration


class Shelf:
    """The demonstrations of one model.

    Example:
        >>> from vernissage.records.plan import Plan
        >>> shown = [Demonstration(id=text, plan=Plan(prompt=text, model="m")) for text in ("a red cat", "a blue dog", "a cat at night")]
        >>> [each.id for each in Shelf(shown).nearest("two cats, or one cat, at night", 2)]
        ['a cat at night', 'a red cat']
    """

    def __init__(self, demonstrations: Sequence[Demonstration]) -> None:
        self._demonstrations = list(demonstrations)
        self._words = [words_of(each.plan.prompt) for each in self._demonstrations]
        seen = Counter(word for words in self._words for word in words)
        self._weights = {word: math.log((1 + len(self._words)) / count) for word, count in seen.items()}
        self._lengths = [self._length(words) for words in self._words]

    def nearest(self, prompt: str, count: int) -> list[Demonstration]:
        """The demonstrations most like a prompt, the likest first; of equals the earlier."""
        words = words_of(prompt)
        length = self._length(words) or 1.0
        likeness = [
            math.fsum(self._weights[word] ** 2 for word in own if word in words) / (own_length * length or 1.0)
            for own, own_length in zip(self._words, self._lengths, strict=True)
        ]
        order = sorted(range(len(likeness)), key=lambda place: -likeness[place])
        return [self._demonstrations[place] for place in order[:count]]

    def _length(self, words: set[str]) -> float:
        return math.sqrt(math.fsum(self._weights.get(word, 0.0) ** 2 for word in words))


def words_of(prompt: str) -> set[str]:
    """The words of a prompt, in lower case."""
    return set(re.findall(r"\w+", prompt.lower()))
