"""From a model's words to a record: finding the JSON in a reply and checking it."""

import json
import re

from pydantic import BaseModel, ValidationError

from vernissage.errors import ReplyError
from vernissage.zoo.card import explain


def parse_reply(text: str, record: type[BaseModel] | None) -> BaseModel | None:
    """The record in a reply; None when none was asked for.

    Takes the last JSON object of the text, because reasoning models think aloud first.

    Raises:
        ReplyError: There is no JSON, or it does not fit; keeps the reply.
    """
    if record is None:
        return None
    found = list(_objects(re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)))
    if not found:
        raise ReplyError("The reply holds no complete JSON object.", reply=text)
    try:
        return record.model_validate(found[-1])
    except ValidationError as error:
        raise ReplyError(f"The reply does not fit: {explain(error)}.", reply=text) from error


def _objects(text: str):
    decoder = json.JSONDecoder()
    position = text.find("{")
    while position != -1:
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            end = position + 1
        else:
            yield value
        position = text.find("{", end)


def in_words(record: type[BaseModel]) -> str:
    """The request for a JSON object of that shape, for servers that take no schema."""
    return f"Answer with one JSON object only, of this JSON schema:\n{json.dumps(record.model_json_schema())}"
