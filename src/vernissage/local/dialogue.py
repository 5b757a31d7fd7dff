"""How a checkpoint's chat template joins turns, found by rendering one, so that a dialogue can go on in the same cache."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from PIL import Image

from vernissage.errors import DriverError
from vernissage.local.vision_inputs import load_inputs

_GAPS = ("\N{LATIN SMALL LETTER EZH}first", "\N{LATIN SMALL LETTER EZH}second", "\N{LATIN SMALL LETTER EZH}third")


def special_tokens(tokenizer: Any) -> list[str]:
    """What the tokenizer takes for the end of a message, a picture or the like; to be kept, for large tokenizers tell it slowly."""
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]


def escape_special(text: str, tokens: Sequence[str]) -> str:
    """The text with a space in every special token."""
    for token in tokens:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


class Dialogue(NamedTuple):
    """A checkpoint's way of writing dialogues."""

    tokenizer: Any
    chat: Any
    inputs: Callable[..., Any]
    to_answer: str
    """Between a user's words and the answer."""
    to_question: str
    """Between an answer and the user's next words; begins with what ends an answer."""

    def opening(self, text: str, pictures: int = 0) -> str:
        """A first message with `pictures` pictures before it, up to where the answer begins."""
        content = [*({"type": "image"} for _ in range(pictures)), {"type": "text", "text": self.escape(text)}]
        return self.chat.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)

    def next_question(self, text: str) -> str:
        """From an answer's end through the user's next words to where the next answer begins."""
        return self.to_question + self.escape(text) + self.to_answer

    def escape(self, text: str) -> str:
        """See `escape_special`."""
        return escape_special(text, special_tokens(self.tokenizer))

    def ids(self, text: str) -> list[int]:
        """Tokens of a text as it is."""
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def batch(self, openings: Sequence[str], pictures: Sequence[Sequence[Image.Image]]) -> Any:
        """Model inputs of openings and the pictures of each, padded on the left."""
        return self.inputs(list(openings), [[picture.convert("RGB") for picture in own] for own in pictures])


def load_dialogue(model: str, config: Any, **options: Any) -> Dialogue:
    """The dialogue of a checkpoint; see `load_inputs`.

    Raises:
        DriverError: Its template cannot be taken apart.
    """
    tokenizer, chat, inputs = load_inputs(model, config, **options)
    turns = [
        {"role": role, "content": [{"type": "text", "text": gap}]} for role, gap in zip(("user", "assistant", "user"), _GAPS, strict=True)
    ]
    text = chat.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    parts = [text]
    for gap in _GAPS:
        *head, last = parts
        parts = [*head, *last.split(gap, 1)]
    if len(parts) != 4:
        raise DriverError(f"The chat template of {model} cannot be taken apart: it changes what is said.")
    return Dialogue(tokenizer, chat, inputs, to_answer=parts[3], to_question=parts[2])
