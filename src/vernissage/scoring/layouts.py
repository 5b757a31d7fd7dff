"""Pictures with their prompts, in the layouts that people already have: GenEval, HPSv2, T2I-CompBench, a table, a plain folder."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from vernissage.errors import BadInput
from vernissage.records.picture import SUFFIXES


class Entry(NamedTuple):
    """A picture to score."""

    name: str
    """Path below the folder."""
    path: Path
    prompt: str | None = None
    """What it should show; None where nobody says, and then the prompt that it carries is taken."""
    group: str = ""
    """Such as GenEval's tag or HPSv2's style; empty where there are no groups."""


def find_entries(source: Path, *, prompts: Path | None = None) -> list[Entry]:
    """The pictures of a folder or table, in the order of their names.

    Args:
        source: A folder in GenEval's, HPSv2's or T2I-CompBench's layout, or any folder of pictures; or a CSV or JSONL file with a column
            image (path from the file on) and maybe prompt and group.
        prompts: CSV or JSONL with image and prompt, a JSON list, or text with a prompt a line; where the layout does not tell them.

    Raises:
        BadInput: There is nothing there, or a file does not fit.
    """
    if source.is_file():
        entries = [
            Entry(row["image"], source.parent / row["image"], row.get("prompt") or None, row.get("group") or "") for row in _rows(source)
        ]
    elif source.is_dir():
        entries = next(found for layout in (_geneval, _compbench, _plain) if (found := list(layout(source))) or layout is _plain)
    else:
        raise BadInput(f"There is no {source}.", hint="Give a folder of pictures, or a CSV or JSONL file.")
    if not entries:
        raise BadInput(f"There are no pictures in {source}.", hint=f"They end in {', '.join(SUFFIXES)}.")
    return _with_prompts(entries, prompts) if prompts else entries


def _pictures(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    return sorted(found, key=lambda path: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.as_posix())])


def _geneval(folder: Path) -> Iterator[Entry]:
    """`<index>/samples/<n>.png` with `metadata.jsonl`, one object, beside `samples`."""
    for metadata in sorted(folder.glob("*/metadata.jsonl")):
        try:
            values = json.loads(metadata.read_text(encoding="utf-8").strip().splitlines()[0])
            prompt, tag = str(values["prompt"]), str(values.get("tag", ""))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BadInput(f"{metadata} is no GenEval metadata: {error}.", hint="It must hold one JSON object with a prompt.") from error
        for path in _pictures(metadata.parent / "samples"):
            yield Entry(path.relative_to(folder).as_posix(), path, prompt, tag)


def _compbench(folder: Path) -> Iterator[Entry]:
    """`samples/<prompt>_<id>.png`."""
    for samples in sorted({path for path in (folder, *folder.rglob("samples")) if path.is_dir() and path.name == "samples"}):
        for path in _pictures(samples):
            if match := re.fullmatch(r"(?P<prompt>.+)_\d{6}", path.stem):
                group = samples.parent.relative_to(folder).as_posix() if samples != folder else ""
                yield Entry(path.relative_to(folder).as_posix(), path, match["prompt"], group.removeprefix("."))


_HPS_STYLES = ("anime", "concept-art", "paintings", "photo")


def _plain(folder: Path) -> Iterator[Entry]:
    """Any folder; those named like HPSv2's styles are groups."""
    for path in _pictures(folder):
        name = path.relative_to(folder).as_posix()
        top = name.split("/")[0]
        yield Entry(name, path, None, top if top in _HPS_STYLES and "/" in name else "")


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV or JSONL file that have an image.

    Raises:
        BadInput: It cannot be read, or a row has none.
    """
    read: Callable[[str], list[dict[str, str]]] = _json_rows if path.suffix.lower() == ".jsonl" else _csv_rows
    try:
        rows = read(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise BadInput(f"Cannot read {path}: {error}.", hint="It must be CSV or JSONL in UTF-8.") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not row.get("image"):
            raise BadInput(f"{path}, row {number} names no image.", hint="Add a column image.")
    return rows


def _json_rows(text: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(keepends=True)))


def _with_prompts(entries: list[Entry], prompts: Path) -> list[Entry]:
    """Entries with the prompts of a file.

    Raises:
        BadInput: The file cannot be read, or does not fit.
    """
    if prompts.suffix.lower() in (".csv", ".jsonl"):
        by_name: dict[str, str] = {}
        for row in _rows(prompts):
            by_name[row["image"]] = by_name[Path(row["image"]).name] = row.get("prompt") or ""
        found = [by_name.get(entry.name, by_name.get(entry.path.name)) for entry in entries]
        if not any(found):
            raise BadInput(f"{prompts} names none of the pictures.", hint="Its column image must hold their names.")
        return [entry._replace(prompt=said or entry.prompt) for entry, said in zip(entries, found, strict=True)]
    try:
        text = prompts.read_text(encoding="utf-8-sig")
        lines = json.loads(text) if prompts.suffix.lower() == ".json" else [line.strip() for line in text.split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise BadInput(f"Cannot read the prompts {prompts}: {error}.", hint="It must be text or JSON in UTF-8.") from error
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise BadInput(f"{prompts} is no list of prompts.", hint='Write ["a cat", "a dog"].')
    return _by_group(entries, lines, prompts)


def _by_group(entries: list[Entry], lines: list[str], prompts: Path) -> list[Entry]:
    """Prompts in the pictures' order; HPSv2's are named by number, one list for each style."""
    own = [entry for entry in entries if entry.group == prompts.stem] or entries
    if len(own) != len(lines):
        raise BadInput(f"{prompts} has {len(lines)} prompts for {len(own)} pictures.", hint="Give one a picture, or a CSV by name.")
    said = dict(zip((entry.name for entry in own), lines, strict=True))
    return [entry._replace(prompt=said.get(entry.name, entry.prompt)) for entry in entries]
