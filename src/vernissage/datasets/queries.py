"""Queries: chats with the plan that people made of them, for training and measuring planners (ChatGenBench's samples).

A set lies in a folder as `train.jsonl` and `test.jsonl`, one query a line, reference pictures beside them. JSON lists of the same
objects and Parquet files of the same columns are read and written as well.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vernissage.errors import BadInput, MissingExtra
from vernissage.records.chat import Chat, InputType, Turn
from vernissage.records.plan import Plan, Text
from vernissage.zoo.card import explain

Division = Literal["supervised", "few-shot"]


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
        try:
            query = Query.model_validate(row) if "chat" in row else _published(row, number)
        except ValidationError as error:
            raise BadInput(f"{path}, query {number}: {explain(error)}.", hint="Mend or delete it.") from error
        found.append(query.model_copy(update={"chat": _placed(query.chat, path.parent)}))
    if not found:
        raise BadInput(f"There are no queries in {path}.", hint="Give one JSON object a line.")
    return found


def write_queries(queries: Sequence[Query], path: Path) -> None:
    """Write a set, in the form that the file's ending names; pictures' paths become relative to it where they can.

    Raises:
        BadInput: The ending is none of .jsonl, .json, .parquet, or the file cannot be written.
        MissingExtra: A Parquet file, and pyarrow is not installed.
    """
    rows = [json.loads(_seen_from(query, path.parent).model_dump_json(exclude_defaults=True)) for query in queries]
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            _write_parquet(rows, fresh)
        elif path.suffix == ".json":
            fresh.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        elif path.suffix == ".jsonl":
            fresh.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        else:
            raise BadInput(f"Queries are written as .jsonl, .json or .parquet, not {path.suffix or path.name}.", hint="Change the ending.")
        fresh.replace(path)
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.", hint="Choose another file.") from error


def resume_queries(path: Path) -> set[str]:
    """The ids of a JSONL file that is being written; a last line that was cut off is taken out of it.

    Raises:
        BadInput: It cannot be read, or another line has a mistake.
    """
    if not path.exists():
        return set()
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        with path.open("r+b") as file:
            file.truncate(end)
    return {query.id for query in read_queries(path)} if end else set()


def append_queries(path: Path, queries: Sequence[Query]) -> None:
    """Add queries to a JSONL file.

    Raises:
        BadInput: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(_seen_from(query, path.parent).model_dump_json(exclude_defaults=True) + "\n" for query in queries))
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.", hint="Choose another file.") from error


def divide(queries: Iterable[Query], trained: Iterable[Query], *, few: int = 10) -> list[Query]:
    """The queries with their division: few-shot where the training set has at most `few` queries of the model.

    References:
        ChatGen (arXiv 2411.17176), supervised and few-shot division; it does not state the number.
    """
    counts: dict[str, int] = {}
    for query in trained:
        counts[query.plan.model] = counts.get(query.plan.model, 0) + 1

    def division(query: Query) -> Division:
        return "few-shot" if counts.get(query.plan.model, 0) <= few else "supervised"

    return [query.model_copy(update={"division": division(query)}) for query in queries]


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Cannot read the queries {path}: {error}.", hint="Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The queries {path} are no JSON: {error}.", hint="Give one JSON object a line, or one list.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"{path} is not a list of queries.", hint="Give one JSON object a line, or one list.")
    return rows


def _published(row: dict[str, Any], number: int) -> Query:
    """A row in the manner of ChatGenBench's release: flat, with the question, the professional prompts, the model and its arguments.

    Keys are matched without regard to case and signs, numbers may be texts, earlier turns a list or a text.
    """
    values = {"".join(c for c in key.lower() if c.isalnum()): value for key, value in row.items()}

    def first(*names: str) -> Any:
        return next((values[name] for name in names if values.get(name) not in (None, "")), None)

    given = first("arguments", "args", "parameters", "config")
    given = {str(k).lower().replace(" ", "_"): v for k, v in (given if isinstance(given, dict) else row).items()}
    size = str(given.get("size") or "").lower().split("x")
    numbers = {
        "sampler": given.get("sampler") or given.get("sampler_name"),
        "steps": given.get("steps"),
        "cfg_scale": given.get("cfg_scale", given.get("cfgscale")),
        "width": given.get("width") or (size[0] if len(size) == 2 else None),
        "height": given.get("height") or (size[1] if len(size) == 2 else None),
    }
    earlier = first("history") or []
    turns = [
        Turn.model_validate(turn) if isinstance(turn, dict) else Turn(role=("user", "assistant")[place % 2], text=text)
        for place, pair in enumerate(earlier if isinstance(earlier, list) else [earlier])
        for text in (pair if isinstance(pair, list) else [pair])
        for turn in [text]
    ]
    images = first("images", "image", "referenceimages") or []
    last = Turn(
        text=str(first("question", "query", "input", "userinput", "freestyle") or ""),
        images=tuple(Path(image) for image in ([images] if isinstance(images, str) else images)),
    )
    return Query.model_validate(
        {
            "id": str(first("id", "index") or number),
            "chat": Chat(turns=(*turns, last)),
            "plan": {
                "prompt": first("prompt", "refinedprompt"),
                "negative_prompt": first("negativeprompt") or "",
                "model": str(first("model", "modelname") or ""),
                "arguments": {name: value for name, value in numbers.items() if value not in (None, "")},
            },
            "role": str(first("role") or ""),
        }
    )


def _placed(chat: Chat, folder: Path) -> Chat:
    return Chat(turns=tuple(turn.model_copy(update={"images": tuple(folder / image for image in turn.images)}) for turn in chat.turns))


def _seen_from(query: Query, folder: Path) -> Query:
    def beside(image: Path) -> Path:
        whole, base = image.resolve(), folder.resolve()
        return whole.relative_to(base) if whole.is_relative_to(base) else whole

    turns = (turn.model_copy(update={"images": tuple(beside(image) for image in turn.images)}) for turn in query.chat.turns)
    return query.model_copy(update={"chat": Chat(turns=tuple(turns))})


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    arrow, parquet = _arrow()
    flat = [
        row | {"chat": json.dumps(row["chat"], ensure_ascii=False), "plan": json.dumps(row["plan"], ensure_ascii=False)} for row in rows
    ]
    columns = ("id", "chat", "plan", "division", "role", "demonstration")
    parquet.write_table(arrow.table({name: [row.get(name) for row in flat] for name in columns}), path)


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    arrow, parquet = _arrow()
    try:
        table = parquet.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        raise BadInput(f"Cannot read the queries {path}: {error}.", hint="It must be a Parquet file.") from error
    rows = []
    for row in table.to_pylist():
        kept = {name: value for name, value in row.items() if value is not None}
        rows.append(kept | {name: json.loads(kept[name]) for name in ("chat", "plan") if isinstance(kept.get(name), str)})
    return rows


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("pyarrow", extra="data") from error
    return pyarrow, pyarrow.parquet
