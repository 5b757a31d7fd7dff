"""From a model's words to a reply: its thoughts left out, and the JSON in it found and checked."""

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from vernissage.errors import ReplyError
from vernissage.ports import Reply
from vernissage.records.plan import whole_characters
from vernissage.zoo.card import explain

# A thought may lack its beginning, which stood in the template, or its end, where the answer was cut off.
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)|\A(?:(?!<think>).)*?</think>", re.DOTALL)
_FIRST_THOUGHT = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
# What begins like JSON; other brackets are punctuation.
_OPENING = re.compile(r"""\{\s*["'}]|\[\s*[\[\]{"']""")
_BRACKET = re.compile(r'"(?:\\.|[^"\\])*(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)


def read_reply(text: str, record: type[BaseModel] | None, *, seconds: float = 0.0, cut: bool = False) -> Reply:
    """A model's words as a reply, without its thoughts, and with the record where one was asked for.

    Takes the last JSON object of the text that has a key of the record, because models say more than they are asked for; of what was
    cut off or broken, and of lists, no parts are taken.

    Raises:
        ReplyError: There is no answer after the thoughts, no JSON, or it does not fit; keeps the reply.
    """
    said = (_THOUGHTS if record is None else _FIRST_THOUGHT).sub("", text)  # a record's own texts may speak of such signs
    said = whole_characters(text if said == text else said.strip())
    if not said and text:
        raise ReplyError("The reply holds nothing but thoughts.", reply=text)
    if record is None:
        return Reply(text=said, seconds=seconds, cut=cut)
    found = list(_objects(said))
    if not found:
        raise ReplyError("The reply holds no complete JSON object.", reply=text)
    fitting = [each for each in found if each.keys() & record.model_fields.keys()] or [each for each in found if not each]
    if not fitting and record.model_fields:
        raise ReplyError(f"The reply has none of the keys {', '.join(record.model_fields)}.", reply=text)
    try:
        return Reply(text=said, record=record.model_validate((fitting or found)[-1]), seconds=seconds)
    except ValidationError as error:
        raise ReplyError(f"The reply does not fit: {explain(error)}.", reply=text) from error


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    opening = _OPENING.search(text)
    while opening is not None:
        try:
            value, end = decoder.raw_decode(text, opening.start())
            value = json.loads(whole_characters(json.dumps(value, ensure_ascii=False)))
        except (ValueError, RecursionError):
            end = _closing(text, opening.start())
        else:
            if isinstance(value, dict):
                yield value
        opening = _OPENING.search(text, end)


def _closing(text: str, start: int) -> int:
    """Behind the bracket that closes the one at `start`; the end of the text where none does."""
    depth = 0
    for found in _BRACKET.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    return len(text)


def in_words(record: type[BaseModel]) -> str:
    """The request for a JSON object of that shape, for servers that take no schema."""
    return f"Answer with one JSON object only, of this JSON schema:\n{json.dumps(record.model_json_schema())}"
