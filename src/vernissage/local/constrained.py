"""Replies that are kept to a record's shape while they are written (llguidance): one that is complete always fits."""

import json
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


class Constrained(LogitsProcessor):
    """Allows at each step only the tokens that a record's JSON schema allows, row by row.

    Args:
        tokenizer: See `guide_tokenizer`.
        reply: The record.
        rows: In the batch.
        prompt_length: Tokens before the reply.
        end: The token that ends a reply.
    """

    def __init__(self, tokenizer: llguidance.LLTokenizer, reply: type[BaseModel], rows: int, prompt_length: int, end: int) -> None:
        schema = json.dumps(reply.model_json_schema(schema_generator=_ClosedSchema))
        grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, defaults=_COMPACT)
        self._matchers = [llguidance.LLMatcher(tokenizer, grammar) for _ in range(rows)]
        if mistake := self._matchers[0].get_error():
            raise ValueError(f"replies cannot be kept to their schema: {mistake}")
        self._length = prompt_length
        self._end = end

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (row, token) with minus infinity for what may not follow."""
        allowed = np.zeros(scores.shape, dtype=bool)
        for row, matcher in enumerate(self._matchers):
            if input_ids.shape[1] > self._length and not matcher.is_stopped():
                matcher.consume_token(int(input_ids[row, -1]))
            if matcher.is_stopped():
                allowed[row, self._end] = True  # the reply is complete, and nothing may follow it
            else:
                bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
                allowed[row, : len(bits)] = bits[: scores.shape[1]]
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)
