"""Replies that are kept to a record's shape while they are written (llguidance): one that is complete always fits."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import llguidance
import llguidance.hf
import numpy as np
import torch
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from torch import Tensor
from transformers import LogitsProcessor

_COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}


def guide_tokenizer(tokenizer: Any, config: Any) -> llguidance.LLTokenizer:
    """What `Constrained` needs of a model's tokenizer; slow to make, so make it once."""
    return llguidance.hf.from_tokenizer(tokenizer, n_vocab=config.get_text_config().vocab_size)


class _ClosedSchema(GenerateJsonSchema):
    """JSON schemas whose objects hold nothing but their fields, or a model could go on inventing more."""

    def model_schema(self, schema: Any) -> dict[str, Any]:
        """See pydantic."""
        return {"additionalProperties": False} | super().model_schema(schema)


def matchers(tokenizer: llguidance.LLTokenizer, reply: type[BaseModel], count: int) -> list[llguidance.LLMatcher]:
    """So many replies to come, each to be kept to a record's JSON schema.

    Raises:
        ValueError: The schema is one that cannot be kept to.
    """
    schema = json.dumps(reply.model_json_schema(schema_generator=_ClosedSchema))
    grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, defaults=_COMPACT)
    made = [llguidance.LLMatcher(tokenizer, grammar) for _ in range(count)]
    if made and (mistake := made[0].get_error()):
        raise ValueError(f"replies cannot be kept to their schema: {mistake}")
    return made


def allowed_next(matcher: llguidance.LLMatcher, vocabulary: int, end: int) -> np.ndarray:
    """Which tokens may come next in a reply, shape (vocabulary,), bool; when it is complete, its end alone."""
    allowed = np.zeros(vocabulary, dtype=bool)
    if matcher.is_stopped():
        allowed[end] = True
    else:
        bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
        allowed[: len(bits)] = bits[:vocabulary]
    return allowed


class Constrained(LogitsProcessor):
    """Allows at each step only the tokens that a record's JSON schema allows, row by row.

    Args:
        tokenizer: See `guide_tokenizer`.
        replies: The record of each row of the batch; a row without one may say anything.
        prompt_length: Tokens before the reply.
        end: The token that ends a reply.
    """

    def __init__(self, tokenizer: llguidance.LLTokenizer, replies: Sequence[type[BaseModel] | None], prompt_length: int, end: int) -> None:
        made = {reply: matchers(tokenizer, reply, count) for reply, count in Counter(replies).items() if reply is not None}
        self._matchers = [None if reply is None else made[reply].pop() for reply in replies]
        self._length = prompt_length
        self._end = end

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (row, token) with minus infinity for what may not follow."""
        if input_ids.shape[1] > self._length:
            for row, matcher in enumerate(self._matchers):
                if matcher is not None and not matcher.is_stopped():
                    matcher.consume_token(int(input_ids[row, -1]))
        anything = np.ones(scores.shape[1], dtype=bool)
        allowed = np.stack(
            [anything if matcher is None else allowed_next(matcher, scores.shape[1], self._end) for matcher in self._matchers]
        )
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)
