"""A conversation about pictures, turn after turn: what the planner is told, and what can be taken back."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from vernissage.errors import BadInput
from vernissage.records.chat import Chat, Turn
from vernissage.records.picture import Picture
from vernissage.records.plan import Plan

COMMANDS = {
    "model": "paint with this model from now on; without a name, let the planner choose again",
    "seed": "paint with this seed from now on; without a number, draw one at random",
    "undo": "take the last turn back",
    "plan": "show the last plan",
    "save": "save the last picture under this name",
    "help": "show these commands",
    "quit": "leave",
}


class Step(NamedTuple):
    """One turn: what was said, and what came of it."""

    said: str
    plan: Plan
    picture: Picture


def chat_after(steps: Sequence[Step], text: str) -> Chat:
    """The chat that a planner is asked about: the last picture's prompt stands for all that was said before it.

    Example:
        >>> [turn.text for turn in chat_after([], "a red car").turns]
        ['a red car']
    """
    if not text.strip():
        raise BadInput("There is nothing to paint: the text is empty.", hint='Say what you want, e.g. "a red car".')
    if not steps:
        return Chat(turns=(Turn(text=text),))
    last = steps[-1]
    first = last.said if len(steps) == 1 else last.plan.prompt
    return Chat(turns=(Turn(text=first), Turn(role="assistant", text=f"Here you are: {last.plan.prompt}"), Turn(text=text)))


def read_command(line: str) -> tuple[str, str] | None:
    """A command and its argument, or None where the line is part of the chat.

    Raises:
        BadInput: There is no such command.

    Example:
        >>> read_command("/seed 7"), read_command("a red car"), read_command("/undo")
        (('seed', '7'), None, ('undo', ''))
    """
    if not line.startswith("/"):
        return None
    name, *rest = re.split(r"\s+", line[1:], maxsplit=1)
    argument = rest[0] if rest else ""
    if name not in COMMANDS:
        raise BadInput(f"There is no command /{name}.", hint=f"There are: {', '.join('/' + known for known in COMMANDS)}.")
    return name, argument.strip()
