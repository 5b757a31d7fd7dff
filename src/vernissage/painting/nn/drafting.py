"""An answer that is likely known beforehand: many of its tokens are checked in one pass, where saying them takes a pass each.

What is said is what greedy decoding says without a draft, for a token counts only where the model says it itself. Drafts of our own
making: the demonstrations of a model are likely to have the arguments that are asked for.

References:
    Leviathan et al., Fast Inference from Transformers via Speculative Decoding (ICML 2023, arXiv 2211.17192), section 2, with a text
    in the place of the smaller model.
"""

from collections.abc import Sequence

import torch
from llguidance import LLMatcher
from torch import Tensor

from vernissage.local.constrained import allowed_next

AHEAD = 48
"""Tokens of a draft that are checked in one pass."""
_GAP = -1
_FURTHER = 4
"""How far ahead in a draft the next token is looked for, where it is not the one expected."""


class Draft:
    """Likely answers, and how far the real one has come in one of them.

    Args:
        answers: Tokens of each, the likeliest first.

    Example:
        >>> draft = Draft([[1, 2, 3, 4, 5], [7, 8, 9]])
        >>> def after(*tokens):
        ...     for token in tokens:
        ...         draft.follow(token)
        ...     return draft.ahead(8)
        >>> after(), after(1, 6), after(3), after(7, 8)
        ([1, 2, 3, 4, 5], [3, 4, 5], [4, 5], [9])
    """

    def __init__(self, answers: Sequence[Sequence[int]]) -> None:
        self._tokens = [token for answer in answers for token in (*answer, _GAP)]
        self._place, self._lost, self._last = 0, False, _GAP

    def ahead(self, most: int) -> list[int]:
        """What is likely to come."""
        rest = self._tokens[self._place : self._place + most]
        return rest[: rest.index(_GAP)] if _GAP in rest else rest

    def follow(self, token: int) -> None:
        """Take the next token of the real answer.

        It is looked for close by, then, with the one before it, in all answers. Where it is nowhere, it stands for the one that was
        expected, and the rest is expected as before.
        """
        near = self.ahead(_FURTHER)
        if token in near:
            self._place, self._lost = self._place + near.index(token) + 1, False
        elif (place := self._find(self._last, token)) is not None:
            self._place, self._lost = place, False
        elif near and not self._lost:
            self._place, self._lost = self._place + 1, True
        self._last = token

    def _find(self, *pair: int) -> int | None:
        """The place behind two tokens that follow each other."""
        return next((place + 2 for place in range(len(self._tokens) - 1) if (self._tokens[place], self._tokens[place + 1]) == pair), None)


class Writer:
    """One answer as it is written.

    Args:
        draft: Tokens of likely answers, the likeliest first, maybe none.
        ends: Tokens that end an answer.
        most: Tokens that it may have.
        matcher: Keeps it to a shape; see `constrained.matchers`.
    """

    def __init__(self, draft: Sequence[Sequence[int]], ends: Sequence[int], most: int, matcher: LLMatcher | None = None) -> None:
        self.said: list[int] = []
        self.unread: list[int] = []
        """The last token, where the answer goes on behind it; empty when it has ended."""
        self._draft, self._ends, self._most, self._matcher = Draft(draft), ends, most, matcher
        self._ahead = AHEAD

    def ahead(self) -> list[int]:
        """What to check next."""
        return self._draft.ahead(min(self._ahead, self._most - len(self.said) - 1))

    def check(self, proposed: Sequence[int], logits: Tensor) -> int:
        """Take the tokens that the model says itself: those proposed as far as it agrees, and one of its own.

        Args:
            proposed: What was read after the last token of the answer.
            logits: After that token and after each of those proposed, shape (1 + proposed, vocabulary).

        Returns:
            How many of those proposed belong to the answer.
        """
        for index in range(len(proposed) + 1):
            token = self._greedy(logits[index])
            if token in self._ends:
                self.unread = []
                return index
            self.said.append(token)
            self._draft.follow(token)
            if self._matcher is not None:
                self._matcher.consume_token(token)
            if index == len(proposed) or token != proposed[index]:
                self.unread = [token] if len(self.said) < self._most else []
                self._ahead = AHEAD if index == len(proposed) else max(_FURTHER, index)
                return index
        raise AssertionError("unreachable: one token more than those proposed is always the model's own")

    def _greedy(self, logits: Tensor) -> int:
        if self._matcher is None:
            return int(logits.argmax())
        allowed = torch.from_numpy(allowed_next(self._matcher, len(logits), self._ends[0]))
        return int(logits.masked_fill(~allowed.to(logits.device), -torch.inf).argmax())
