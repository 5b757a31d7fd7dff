"""A chat: what somebody asked for, in turns of text and pictures.

The three input types of ChatGen (single, multimodal, history) are one record; `input_type` tells them apart.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vernissage.errors import BadInput
from vernissage.records.plan import Text

InputType = Literal["single", "multimodal", "history"]
INPUT_TYPE_SHARES: dict[InputType, float] = {"single": 0.58, "multimodal": 0.27, "history": 0.15}
"""How often each comes in ChatGenBench's training set (ChatGen, arXiv 2411.17176, table of splits)."""


class Turn(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["user", "assistant"] = "user"
    text: Text
    images: tuple[Path, ...] = ()
    """Reference pictures sent with the message."""


class Chat(BaseModel):
    """A request for a picture; the last turn is the user's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    turns: tuple[Turn, ...] = Field(min_length=1)

    @classmethod
    def of(cls, text: str, *, images: tuple[Path, ...] = (), history: tuple[Turn, ...] = ()) -> "Chat":
        """A chat that ends with this text.

        Raises:
            BadInput: There is neither text nor a picture to go by.

        Example:
            >>> Chat.of("a red car").input_type
            'single'
        """
        if not text.strip() and not images:
            raise BadInput("There is nothing to paint: the text is empty.", hint='Say what you want, e.g. "a red car".')
        return cls(turns=(*history, Turn(text=text.strip(), images=images)))

    @property
    def input_type(self) -> InputType:
        """Multimodal when a picture is attached, else history when there is more than one turn, else single."""
        if any(turn.images for turn in self.turns):
            return "multimodal"
        return "history" if len(self.turns) > 1 else "single"

    @property
    def images(self) -> tuple[Path, ...]:
        """All pictures of the chat, oldest first."""
        return tuple(image for turn in self.turns for image in turn.images)
