"""Understand a picture: fill the image understanding tree by questions to an MLLM (ImageRepainter, stage 1).

Two waves: caption, overall features and objects know nothing of one another and are asked together; then the features
of every object and the relations, which need the objects' names, together again.
"""

from typing import NamedTuple, TypeVar

from PIL import Image
from pydantic import BaseModel

from vernissage.errors import ReplyError, VernissageError
from vernissage.ports import Ask, Message
from vernissage.prompts import load_prompt
from vernissage.records.plan import whole_characters
from vernissage.records.tree import SceneObject, UnderstandingTree
from vernissage.repainting.lockstep import Questions, Replies, Work
from vernissage.repainting.replies import FEATURES, MOST_OBJECTS, NamedObject, Objects, Overall, Relations

Record = TypeVar("Record", bound=BaseModel)

MAX_CHARACTERS = 1200
"""Of a caption or phrase that are kept: a model that rambles shall not fill every later prompt."""


class Understanding(NamedTuple):
    """A tree and what of it could not be had."""

    tree: UnderstandingTree
    failures: tuple[str, ...]


def question(
    prompt_id: str, images: tuple[Image.Image, ...], *, brief: bool, reply: type[BaseModel] | None = None, **inputs: object
) -> Ask:
    """One question about pictures, worded by a prompt file."""
    text = load_prompt(prompt_id).render(brief=brief, **inputs)
    return Ask(messages=(Message(text=text, images=images),), reply=reply)


def understand(image: Image.Image, *, brief: bool) -> Work[Understanding]:
    """The tree of a picture.

    A part that could not be answered is left empty and told among the failures; without a caption there is no tree.

    Raises:
        VernissageError: The caption could not be had.
    """
    see = (image,)
    replies: Replies = yield Questions(
        [
            question("repainting/caption", see, brief=brief),
            question("repainting/overall", see, brief=brief, reply=Overall),
            question("repainting/objects", see, brief=brief, reply=Objects, most=MOST_OBJECTS),
        ]
    )
    failures: list[str] = []
    caption = words_of(replies[0])
    overall = _record(replies[1], Overall(), "overall features", failures)
    listed = [thing for thing in _record(replies[2], Objects(), "objects", failures).objects if thing.name.strip()]
    by_name = {_cut(thing.name): thing for thing in reversed(listed)}  # a name given twice would only be asked about twice
    named = [thing.model_copy(update={"name": name}) for name, thing in reversed(by_name.items())][:MOST_OBJECTS]
    names = [thing.name for thing in named]
    asks = [
        question(
            "repainting/features",
            see,
            brief=brief,
            reply=FEATURES[thing.type],
            name=thing.name,
            type=thing.type,
            features=list(FEATURES[thing.type].model_fields),
        )
        for thing in named
    ]
    if len(named) > 1:
        asks.append(question("repainting/relations", see, brief=brief, reply=Relations, names=names))
    replies = yield Questions(asks)
    objects = tuple(
        _object(thing, _record(reply, FEATURES[thing.type](), f"features of {thing.name}", failures))
        for thing, reply in zip(named, replies, strict=False)
    )
    relations = _record(replies[-1], Relations(), "relations", failures).relations if len(named) > 1 else []
    tree = UnderstandingTree(
        caption=caption,
        **{name: _cut(value) for name, value in overall.model_dump().items()},
        objects=objects,
        relations=tuple(_cut(phrase) for phrase in relations if phrase.strip()),
    )
    return Understanding(tree, tuple(failures))


def words_of(reply: object) -> str:
    """The words of a free answer.

    Raises:
        VernissageError: There are none, they were cut off, or it is an error already.
    """
    if isinstance(reply, VernissageError):
        raise reply
    if getattr(reply, "cut", False):
        raise ReplyError("The MLLM's answer was cut off at its limit of tokens.", reply=getattr(reply, "text", ""))
    text = whole_characters(" ".join(str(getattr(reply, "text", "")).split()))
    if not text:
        raise ReplyError("The MLLM answered nothing.", reply="")
    return text[:MAX_CHARACTERS]


def _record(reply: object, empty: Record, what: str, failures: list[str]) -> Record:
    """The record of a typed answer, or an empty one and a line among the failures."""
    if isinstance(reply, VernissageError):
        failures.append(f"{what}: {reply}")
        return empty
    record = getattr(reply, "record", None)
    if not isinstance(record, type(empty)):
        failures.append(f"{what}: the MLLM answered without a record")
        return empty
    return record


def _object(named: NamedObject, features: BaseModel) -> SceneObject:
    seen = {name: _cut(value) for name, value in features.model_dump().items() if value.strip()}
    return SceneObject(name=named.name, type=named.type, features=seen)


def _cut(text: str) -> str:
    return " ".join(text.split())[:MAX_CHARACTERS]
