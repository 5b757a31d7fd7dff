"""Queries: chats with the plan that people made of them, for training and measuring planners (ChatGenBench's samples).

A set lies in a folder as `train.jsonl` and `test.jsonl`, one query a line, reference pictures beside them. JSON lists of the same
objects and Parquet files of the same columns are read and written as well.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vernissage.errors import BadInput, reason_of
from vernissage.records.chat import Chat, InputType, Turn
from vernissage.records.files import append_lines, read_lines, write_whole
from vernissage.records.parameters import extract_loras, sampler_of
from vernissage.records.plan import Plan, Text
from vernissage.records.table import read_parquet, write_parquet
from vernissage.zoo.card import explain

Division = Literal["supervised", "few-shot"]

_INSTRUCTIONS_END = "content I need you to convert:"  # of both instructions on ChatGen's model cards
_IMAGE = "<image>"
_IMAGE_PLACE = re.compile(rf"(Image-\d+:\s*)?{_IMAGE}\s*")


class Query(BaseModel):
    """A chat and the right plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Text = Field(min_length=1)
    chat: Chat
    """Its pictures' paths start at the file's folder until the file is read."""
    plan: Plan
    division: Division | None = None
    """Whether many or few training queries are of the plan's model."""
    role: Text = ""
    """Who is imagined to ask."""
    demonstration: Text = ""
    """Id of the demonstration that it was made from."""

    @property
    def input_type(self) -> InputType:
        """See `Chat.input_type`."""
        return self.chat.input_type


def read_queries(path: Path) -> list[Query]:
    """The queries of a JSONL, JSON or Parquet file, ours or ChatGenBench's.

    Raises:
        BadInput: It cannot be read, or one has a mistake; names which.
        MissingExtra: A Parquet file, and pyarrow is not installed.
    """
    found = []
    for number, row in enumerate(_rows(path), start=1):
        query = _query(row, path, number)
        found.append(query.model_copy(update={"chat": _placed(query.chat, path.parent)}))
    ids = Counter(query.id for query in found)
    if twice := next((name for name, count in ids.items() if count > 1), None):
        raise BadInput(f"In {path} the id {twice!r} stands for more than one query.", hint="Give every query an id of its own.")
    if not found:
        raise BadInput(f"There are no queries in {path}.", hint="Give one JSON object a line.")
    return found


def write_queries(queries: Sequence[Query], path: Path) -> None:
    """Write a set, in the form that the file's ending names; pictures' paths become relative to it where they can.

    Raises:
        BadInput: The ending is none of .jsonl, .json, .parquet, or the file cannot be written.
        MissingExtra: A Parquet file, and pyarrow is not installed.
    """
    check_ending(path)
    rows = [json.loads(_line(query, path)) for query in queries]
    if path.suffix == ".parquet":
        _write_parquet(rows, path)
    elif path.suffix == ".json":
        write_whole(path, json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
    else:
        write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_conversations(queries: Sequence[Query], path: Path) -> None:
    """Write a set as InternVL is trained on it and ChatGenBench has it: conversations whose last answer is the plan in JSON.

    Each row has `id`, `conversations` of "human" and "gpt", `image` where there are pictures, one path or a list of them, and
    `role`, `division` and `demonstration` where they are known; seeds
    are left out, since nobody can learn them. `read_queries` reads them again.

    Args:
        queries: Of any input type.
        path: .json for one list, .jsonl for a row a line; pictures' paths become relative to it where they can.

    Raises:
        BadInput: The ending is another, or the file cannot be written.
    """
    if path.suffix not in (".jsonl", ".json"):
        raise BadInput(f"Conversations are written as .jsonl or .json, not {path.suffix or path.name}.", hint="Change the ending.")
    rows = [_as_conversation(Query.model_validate_json(_line(query, path))) for query in queries]
    texts = [json.dumps(row, ensure_ascii=False) for row in rows]
    write_whole(path, "\n".join(texts) + "\n" if path.suffix == ".jsonl" else "[" + ",\n".join(texts) + "]\n")


def _as_conversation(query: Query) -> dict[str, Any]:
    said = []
    for turn in query.chat.turns:
        places = "".join(f"Image-{number}: {_IMAGE}\n" for number, _ in enumerate(turn.images, start=1))
        # A place for a picture that somebody typed would stand for one.
        said.append({"from": "human" if turn.role == "user" else "gpt", "value": places + turn.text.replace(_IMAGE, "< image >")})
    chosen = query.plan.arguments.model_dump(mode="json", include={"sampler", "steps", "cfg_scale", "width", "height", "clip_skip"})
    arguments = {name: value for name, value in chosen.items() if value is not None}
    tags = "".join(f" <lora:{lora.name}:{lora.weight:g}>" for lora in query.plan.arguments.loras)  # as people write them
    plan = {"prompt": query.plan.prompt + tags, "negative_prompt": query.plan.negative_prompt, "model": query.plan.model}
    answer = {**plan, "arguments": arguments}
    said.append({"from": "gpt", "value": json.dumps(answer, ensure_ascii=False)})
    images = [image.as_posix() for image in query.chat.images]
    told = {"image": images[0] if len(images) == 1 else images} if images else {}
    named = {name: value for name in ("role", "division", "demonstration") if (value := getattr(query, name))}
    return {"id": query.id, **told, "conversations": said, **named}


def check_ending(path: Path) -> None:
    """Refuse a file that queries cannot be written to.

    Raises:
        BadInput: Its ending is none of .jsonl, .json, .parquet.
    """
    if path.suffix not in (".jsonl", ".json", ".parquet"):
        raise BadInput(f"Queries are written as .jsonl, .json or .parquet, not {path.suffix or path.name}.", hint="Change the ending.")


def beside(image: Path, folder: Path) -> Path:
    """A picture's path as a file in that folder names it: relative where the picture lies below, else whole.

    Raises:
        ValueError: It is no path.
        OSError: It cannot be followed.
    """
    whole, base = image.resolve(), folder.resolve()
    return whole.relative_to(base) if whole.is_relative_to(base) else whole


def _line(query: Query, path: Path) -> str:
    try:
        return _seen_from(query, path.parent).model_dump_json(exclude_defaults=True)
    except (ValueError, OSError) as error:  # a picture's name with half a character or a NUL
        raise BadInput(f"A picture of the query {query.id!r} has a name that no file can hold.", hint="Rename the picture.") from error


def content_hash(queries: Iterable[Query]) -> str:
    """Hash of queries: all that is said and planned, and their pictures' bytes."""
    digest = hashlib.sha256()
    for query in queries:
        digest.update(query.model_dump_json(exclude={"chat": {"turns": {"__all__": {"images"}}}}).encode("utf-8", "surrogatepass"))
        for image in query.chat.images:
            digest.update(image.read_bytes() if image.is_file() else b"missing")
    return digest.hexdigest()[:16]


def resume_queries(path: Path) -> set[str]:
    """The ids of a JSONL file that is being written; a last line that was cut off is taken out of it.

    Raises:
        BadInput: It is no JSONL file, cannot be read, or another line has a mistake.
    """
    if path.suffix != ".jsonl":
        raise BadInput(f"Queries that come one by one are kept as .jsonl, not {path.suffix or path.name}.", hint="Change the ending.")
    if not path.exists():
        return set()
    found = read_lines(path, lambda line, number: _query(_parse(line, path, number), path, number), what="queries", mend=True)
    return {query.id for query in found}


def _parse(text: bytes, path: Path, number: int) -> Any:
    try:
        return json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}, line {number} is no JSON: {error}.", hint="Mend or delete that line.") from error


def _query(row: Any, path: Path, number: int) -> Query:
    """A query of ours or of ChatGenBench, its pictures' paths as they stand there."""
    if not isinstance(row, dict):
        raise BadInput(f"{path}, query {number} is no JSON object.", hint="Mend or delete it.")
    try:
        if "chat" in row:
            return Query.model_validate(row)
        return _published(row, number) if row.get("conversations") is None else _conversation(row, number)
    except ValidationError as error:
        raise BadInput(f"{path}, query {number}: {explain(error)}.", hint="Mend or delete it.") from error
    except (ValueError, BadInput) as error:
        raise BadInput(f"{path}, query {number}: {error}.", hint="Mend or delete it.") from error


def append_queries(path: Path, queries: Sequence[Query]) -> None:
    """Add queries to a JSONL file.

    Raises:
        BadInput: It cannot be written.
    """
    append_lines(path, (_line(query, path) for query in queries))


def divide(queries: Iterable[Query], trained: Iterable[Query], *, few: int = 10) -> list[Query]:
    """The queries with their division: few-shot where the training set has at most `few` queries of the model.

    References:
        ChatGen (arXiv 2411.17176), supervised and few-shot division; it does not state the number.
    """
    counts = Counter(query.plan.model for query in trained)

    def division(query: Query) -> Division:
        return "few-shot" if counts[query.plan.model] <= few else "supervised"

    return [query.model_copy(update={"division": division(query)}) for query in queries]


def _rows(path: Path) -> list[Any]:
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.suffix != ".json":
        return read_lines(path, lambda line, number: _parse(line, path, number), what="queries")
    try:
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise BadInput(f"Cannot read the queries {path}: {reason_of(error)}.", hint="Check the path.") from error
    rows = _parse(text, path, 1) if text.strip() else None
    if not isinstance(rows, list):
        raise BadInput(f"{path} is not a list of queries.", hint="Give one list, or a .jsonl with one JSON object a line.")
    return rows


def _published(row: dict[str, Any], number: int) -> Query:
    """A row in the manner of ChatGenBench's release: flat, with the question, the professional prompts, the model and its arguments.

    Keys are matched without regard to case and signs, numbers may be texts, earlier turns a list or a text.
    """
    told = _told(row)
    question = _first(told, "question", "query", "input", "userinput", "freestyle")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("it has no question, or no model")
    last = Turn(text=question, images=tuple(_images(told)))
    return _made(told, number, (*_earlier(told.get("history")), last), _plan(row, told))


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """What a row tells, by keys without regard to case and signs."""
    return {"".join(c for c in key.lower() if c.isalnum()): value for key, value in row.items() if value is not None and value != ""}


def _made(told: dict[str, Any], number: int, turns: Sequence[Turn], plan: dict[str, Any]) -> Query:
    """A query with the id, or else the number, and the role and division that its row tells."""
    name, role, division = _first(told, "id", "index"), str(told.get("role") or ""), told.get("division")
    named = {"role": role, "division": division if division in get_args(Division) else None}
    named |= {"demonstration": str(told.get("demonstration") or "")}
    return Query.model_validate({"id": str(number if name is None else name), "chat": Chat(turns=tuple(turns)), "plan": plan, **named})


def _first(told: dict[str, Any], *names: str) -> Any:
    """The first of these that a row tells."""
    return next((told[name] for name in names if name in told), None)


def _images(told: dict[str, Any]) -> list[Path]:
    images = _first(told, "images", "image", "referenceimages") or []
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not all(isinstance(image, str) and image for image in images):
        raise ValueError("its pictures are no paths")
    return [Path(image) for image in images]


def _plan(row: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """The plan that flat keys tell."""
    given = _first(told, "arguments", "args", "parameters", "config")
    given = {str(k).lower().replace(" ", "_"): v for k, v in (given if isinstance(given, dict) else row).items()}
    size = str(given.get("size") or "").lower().split("x")
    numbers = {
        "sampler": sampler_of(given.get("sampler") or given.get("sampler_name"), given.get("schedule_type")),
        "steps": given.get("steps"),
        "cfg_scale": given.get("cfg_scale", given.get("cfgscale")),
        "width": given.get("width") or (size[0] if len(size) == 2 else None),
        "height": given.get("height") or (size[1] if len(size) == 2 else None),
        "clip_skip": given.get("clip_skip", given.get("clipskip")),
    }
    if (model := _first(told, "model", "modelname")) is None:
        raise ValueError("it has no question, or no model")
    prompt, loras = _first(told, "prompt", "refinedprompt"), ()
    if isinstance(prompt, str):
        prompt, loras = extract_loras(prompt)
        numbers["loras"] = loras or None
    return {
        "prompt": prompt,
        "negative_prompt": told.get("negativeprompt") or "",
        "model": str(model),
        "arguments": {name: value for name, value in numbers.items() if value not in (None, "")},
    }


def _conversation(row: dict[str, Any], number: int) -> Query:
    """A row whose `conversations` of "human" and "gpt" end with a plan; pictures belong where `<image>` stands for them.

    Raises:
        ValueError: It does not end with a question and a JSON object as its answer, or its pictures are others than its places.
    """
    said = row["conversations"]
    if not isinstance(said, list) or not all(isinstance(part, dict) and isinstance(part.get("value"), str) for part in said):
        raise ValueError("its conversation is no list of texts")
    *asked, answered = [part for part in said if part.get("from") != "system"] or [{}]
    if not asked or asked[-1].get("from") != "human" or answered.get("from") != "gpt":
        raise ValueError("its conversation does not end with a question and its answer")
    try:
        answer = json.loads(answered["value"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its answer is no JSON object: {error}") from error
    if not isinstance(answer, dict):
        raise ValueError("its answer is no JSON object")
    told = _told(row)
    images, places = _images(told), [part["value"].count(_IMAGE) for part in asked]
    if not any(places):
        places[0] = len(images)  # as InternVL's training reads them
    if sum(places) != len(images):
        raise ValueError(f"it has {len(images)} pictures and {sum(places)} places for them")
    left, turns = iter(images), []
    for part, count in zip(asked, places, strict=True):
        text = _IMAGE_PLACE.sub("", part["value"].rpartition(_INSTRUCTIONS_END)[2]).strip()
        role = "user" if part.get("from") == "human" else "assistant"
        turns.append(Turn(role=role, text=text, images=tuple(islice(left, count))))
    return _made(told, number, turns, _plan(answer, _told(answer)))


def _earlier(history: Any) -> list[Turn]:
    """Earlier turns from objects, from texts that take turns, or from pairs of question and answer."""
    if not isinstance(history, list | str | None):
        raise ValueError("its history is neither a list nor a text")
    turns: list[Turn] = []
    for part in history if isinstance(history, list) else [history] if history else []:
        if isinstance(part, dict):
            turns.append(Turn.model_validate(part))
        else:
            texts = part if isinstance(part, list) else [part]
            turns += [Turn(role="assistant" if (len(turns) + place) % 2 else "user", text=str(text)) for place, text in enumerate(texts)]
    return turns


def _placed(chat: Chat, folder: Path) -> Chat:
    return Chat(turns=tuple(turn.model_copy(update={"images": tuple(folder / image for image in turn.images)}) for turn in chat.turns))


def _seen_from(query: Query, folder: Path) -> Query:
    turns = (turn.model_copy(update={"images": tuple(beside(image, folder) for image in turn.images)}) for turn in query.chat.turns)
    return query.model_copy(update={"chat": Chat(turns=tuple(turns))})


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    flat = [
        row | {"chat": json.dumps(row["chat"], ensure_ascii=False), "plan": json.dumps(row["plan"], ensure_ascii=False)} for row in rows
    ]
    columns = ("id", "chat", "plan", "division", "role", "demonstration")
    write_parquet(flat, columns, path)


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, row in enumerate(read_parquet(path, "queries"), start=1):
        kept = {name: value for name, value in row.items() if value is not None}
        try:
            rows.append(kept | {name: json.loads(kept[name]) for name in ("chat", "plan") if isinstance(kept.get(name), str)})
        except ValueError as error:
            raise BadInput(f"{path}, query {number}: its chat or plan is no JSON: {error}.", hint="Mend or delete it.") from error
    return rows
