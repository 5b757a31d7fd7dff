"""Pictures with their prompts, in the layouts that people already have: GenEval, HPSv2, T2I-CompBench, a table, a plain folder."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from vernissage.errors import BadInput, VernissageError, reason_of
from vernissage.records.picture import SUFFIXES, carried_prompt, find_pictures, metadata
from vernissage.records.plan import whole_characters
from vernissage.records.table import read_csv
from vernissage.scoring.checks import Check
from vernissage.scoring.packed import is_packed, unpack
from vernissage.scoring.questions import Metadata, geneval_checks, read_questions
from vernissage.zoo.card import explain


class Entry(NamedTuple):
    """A picture to score."""

    name: str
    """Path below the folder."""
    path: Path
    prompt: str | None = None
    """What it should show, empty for nothing; None where nobody says, and then the prompt that it carries is taken."""
    group: str = ""
    """Such as GenEval's tag or HPSv2's style; empty where there are no groups."""
    checks: tuple[Check, ...] | None = None
    """Questions with known answers, such as GenEval's; None where nobody says, and then an MLLM may write them."""
    metadata: Metadata | None = None
    """GenEval's, for a detector."""


def find_entries(source: Path, *, prompts: Path | None = None, questions: Path | None = None) -> list[Entry]:
    """The pictures of a folder or table, in the order of their names.

    Args:
        source: A folder in GenEval's, HPSv2's or T2I-CompBench's layout, or any folder of pictures; or a CSV or JSONL file with a column
            image (path from the file on) and maybe prompt and group; or a dataset of Hugging Face's `datasets`, Parquet or saved to disk.
        prompts: CSV or JSONL with image and prompt, a JSON list, text with a prompt a line, or a folder with a JSON list for each
            group, as HPSv2 has them; where the layout does not tell them.
        questions: See `questions.read_questions`; where the layout does not tell them.

    Raises:
        BadInput: There is nothing there, or a file does not fit.
    """
    if is_packed(source):
        entries = [_entry(*row) for row in unpack(source)]
    elif source.suffix.lower() in SUFFIXES and source.is_file():
        raise BadInput(f"{source} is a picture.", hint="Give its folder, or a CSV or JSONL file that names pictures.")
    elif source.is_file():
        entries = [
            _entry(row["image"], source.parent / row["image"], row.get("prompt"), row.get("group")) for row in _rows(source, "image")
        ]
    elif source.is_dir():
        found = find_pictures(source)
        layout = next((each for each in (_geneval, _compbench) if each(source, found)), _plain)
        entries = layout(source, found)
    else:
        raise BadInput(f"There is no {source}.", hint="Give a folder of pictures, or a CSV or JSONL file.")
    if not entries:
        raise BadInput(f"There are no pictures in {source}.", hint=f"They end in {', '.join(SUFFIXES)}.")
    entries = with_prompts(entries, prompts) if prompts else entries
    return with_questions(entries, questions) if questions else entries


def with_questions(entries: list[Entry], path: Path) -> list[Entry]:
    """Entries with the questions of a file, found by the names of pictures or by their prompts, also those that pictures carry.

    A picture about which neither file nor layout asks anything has no questions; none are written to it.

    Raises:
        BadInput: The file cannot be read, or is about none of the pictures.
    """
    questions = read_questions(path)
    known = [
        entry if entry.prompt is not None or questions.named(entry.name) else entry._replace(prompt=_carried(entry.path))
        for entry in entries
    ]
    found = [questions.find(entry.name, entry.prompt) for entry in known]
    if not any(found):
        raise BadInput(
            f"{path} has no questions about these pictures.", hint="Their ids must be names of pictures, or their prompts be known."
        )
    return [entry._replace(checks=own or entry.checks or ()) for entry, own in zip(known, found, strict=True)]


def _carried(path: Path) -> str | None:
    """The prompt that a picture carries."""
    try:
        return carried_prompt(metadata(path.read_bytes()))
    except (OSError, VernissageError):
        return None  # told when the picture is read


def _entry(name: str, path: Path, prompt: str | None = None, group: str | None = None) -> Entry:
    return Entry(
        whole_characters(name), path, whole_characters(prompt) if prompt and prompt.strip() else None, whole_characters(group or "")
    )


def _geneval(folder: Path, found: list[Path]) -> list[Entry]:
    """`<index>/samples/<n>.png` with `metadata.jsonl`, one object, beside `samples`; nothing where no folder is so."""
    told: dict[Path, tuple[str | None, str | None, Metadata | None]] = {}
    for listing in folder.glob("*/metadata.jsonl"):
        if not (listing.parent / "samples").is_dir():
            continue
        try:
            values = json.loads(listing.read_text(encoding="utf-8-sig").strip().split("\n")[0])
            prompt, tag, metadata = values["prompt"], values.get("tag"), Metadata.model_validate(values)
        except ValidationError as error:
            raise BadInput(f"{listing} is no GenEval metadata: {explain(error)}.", hint="Write it as GenEval does.") from error
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = "it has no prompt" if isinstance(error, KeyError) else error
            raise BadInput(f"{listing} is no GenEval metadata: {reason}.", hint="It must hold one JSON object with a prompt.") from error
        if not all(value is None or isinstance(value, str) for value in (prompt, tag)):
            raise BadInput(f"{listing} has a prompt or tag that is no text.", hint="It must hold one JSON object with a prompt.")
        told[listing.parent / "samples"] = prompt, tag, metadata
    if not told:
        return []
    entries = []
    for path in found:
        if not any(above.name == "samples" for above in path.parents):
            continue  # GenEval's grids
        prompt, tag, metadata = next((told[above] for above in path.parents if above in told), (None, None, None))
        checks = geneval_checks(metadata) if metadata else None
        entries.append(_entry(path.relative_to(folder).as_posix(), path, prompt, tag)._replace(checks=checks, metadata=metadata))
    return entries


def _compbench(folder: Path, found: list[Path]) -> list[Entry]:
    """`samples/<prompt>_<id>.png`; nothing where no picture is named so."""
    entries, named = [], False
    for path in found:
        samples = next((above for above in path.parents if above.name == "samples" and above.is_relative_to(folder)), None)
        match = re.fullmatch(r"(?P<prompt>.+ .+)_\d{6}", path.stem) if samples else None
        group = samples.parent.relative_to(folder).as_posix().removeprefix(".") if match and samples and samples != folder else ""
        named |= match is not None
        entries.append(_entry(path.relative_to(folder).as_posix(), path, match["prompt"] if match else None, group))
    return entries if named else []


_HPS_STYLES = ("anime", "concept-art", "paintings", "photo")


def _plain(folder: Path, found: list[Path]) -> list[Entry]:
    """Any folder; those named like HPSv2's styles are groups."""
    entries = []
    for path in found:
        name = path.relative_to(folder).as_posix()
        top = name.split("/")[0]
        entries.append(_entry(name, path, None, top if top in _HPS_STYLES and "/" in name else ""))
    return entries


def _rows(path: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV or JSONL file; image, prompt and group are texts or nothing.

    Raises:
        BadInput: It cannot be read, lacks a column, or a row names no image.
    """
    numbered = _json_rows(path, columns) if path.suffix.lower() == ".jsonl" else read_csv(path, "table of pictures", columns)
    for line, row in numbered:
        if not row["image"]:
            raise BadInput(f"{path}, line {line} names no image.", hint="Name one, or delete the line.")
        for name in ("image", "prompt", "group"):
            if not isinstance(row.get(name) or "", str) or "\0" in (row.get(name) or ""):
                raise BadInput(f"{path}, line {line}: its {name} is no text.", hint="Write it in quotes.")
    return [row for _, row in numbered]


def _json_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    line = 0
    try:
        rows = []
        for line, text in enumerate(path.read_bytes().decode("utf-8-sig").split("\n"), start=1):
            if text.strip():
                row = json.loads(text)
                rows.append((line, {**row, **{name: row[name] for name in columns}}))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Cannot read the table of pictures {path}: {reason_of(error)}.", hint="It must be JSONL in UTF-8.") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadInput(
            f"{path}, line {line}: there is no {' and '.join(columns)}.", hint='Write {"image": "a.png", "prompt": "…"}.'
        ) from error
    return rows


def with_prompts(entries: list[Entry], prompts: Path) -> list[Entry]:
    """Entries with the prompts of a file; a picture that a table does not name has none, not even the one that it carries.

    Raises:
        BadInput: The file cannot be read, or does not fit.
    """
    if prompts.is_dir():
        lists = sorted(prompts.glob("*.json"))
        if not lists:
            raise BadInput(f"There are no JSON lists in {prompts}.", hint="Name them after the groups, such as anime.json.")
        for path in lists:
            if any(entry.group == path.stem for entry in entries):
                entries = _by_group(entries, _listed(path), path)
        return [entry._replace(prompt=entry.prompt or "") for entry in entries]  # as below
    if prompts.suffix.lower() not in (".csv", ".jsonl"):
        return _by_group(entries, _listed(prompts), prompts)
    rows = [(Path(row["image"]).as_posix(), row["prompt"] or "") for row in _rows(prompts, "image", "prompt")]
    exact: dict[str, str] = {}
    for name, said in rows:
        if exact.setdefault(name, said) != said:
            raise BadInput(f"{prompts} has several prompts for {name}.", hint="Keep one of them.")
    by_path = prompts_by_path(rows, [entry.path for entry in entries])
    found = []
    for entry, said in zip(entries, by_path, strict=True):
        if entry.name not in exact and len(said) > 1:
            raise BadInput(f"{prompts} has several prompts for pictures called {entry.path.name}.", hint="Give each a name of its own.")
        found.append(exact.get(entry.name, next(iter(said), None)))
    if not any(found):
        raise BadInput(f"{prompts} names none of the pictures.", hint="Its column image must hold their names.")
    told = [_entry("", entry.path, said).prompt or entry.prompt for entry, said in zip(entries, found, strict=True)]
    # The file tells the prompts, so a picture that is not in it has none, whatever it carries.
    return [entry._replace(prompt=prompt or "") for entry, prompt in zip(entries, told, strict=True)]


def prompts_by_path(rows: Iterable[tuple[str, str]], paths: Sequence[Path]) -> list[set[str]]:
    """The prompts that a table's rows (name, prompt) have for each picture.

    A row is a picture's where the one's path is the end of the other's. A picture that no row is of, because pictures have moved, takes
    those of its bare name that are no other picture's.

    Example:
        >>> rows = [("a/1.png", "a cat"), ("2.png", "a dog"), ("old/3.png", "a cup")]
        >>> prompts_by_path(rows, [Path("x/a/1.png"), Path("x/b/1.png"), Path("x/2.png"), Path("new/3.png")])
        [{'a cat'}, set(), {'a dog'}, {'a cup'}]
    """
    given = [(Path(image).parts, prompt) for image, prompt in rows]
    whole: dict[tuple[str, ...], set[int]] = {}
    ends: dict[tuple[str, ...], set[int]] = {}
    for number, (parts, _) in enumerate(given):
        whole.setdefault(parts, set()).add(number)
        for start in range(1, len(parts)):
            ends.setdefault(parts[start:], set()).add(number)
    own = [set().union(ends.get(path.parts, ()), *(whole.get(path.parts[at:], ()) for at in range(len(path.parts)))) for path in paths]
    taken = set().union(*own)
    left: dict[str, set[str]] = {}
    for number, (parts, prompt) in enumerate(given):
        if parts and number not in taken:
            left.setdefault(parts[-1], set()).add(prompt)
    return [{given[row][1] for row in found} or left.get(path.name, set()) for found, path in zip(own, paths, strict=True)]


def _listed(path: Path) -> list[str]:
    """Prompts from a JSON list, or a line each.

    Raises:
        BadInput: The file cannot be read, or is no list of texts.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        lines = json.loads(text) if path.suffix.lower() == ".json" else [line.strip() for line in text.split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise BadInput(f"Cannot read the prompts {path}: {reason_of(error)}.", hint="It must be text or JSON in UTF-8.") from error
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise BadInput(f"{path} is no list of prompts.", hint='Write ["a cat", "a dog"].')
    return lines


def _by_group(entries: list[Entry], lines: list[str], prompts: Path) -> list[Entry]:
    """Prompts in the pictures' order, or where some are missing by the numbers of HPSv2's names.

    A file named after a group is for that group alone.
    """
    own = [index for index, entry in enumerate(entries) if entry.group == prompts.stem] or list(range(len(entries)))
    numbers = [int(entries[index].path.stem) if re.fullmatch(r"[0-9]{5}", entries[index].path.stem) else -1 for index in own]
    if len(own) == len(lines):
        said = dict(zip(own, lines, strict=True))
    elif len(set(numbers)) == len(own) and all(0 <= number < len(lines) for number in numbers):
        said = {index: lines[number] for index, number in zip(own, numbers, strict=True)}
    else:
        raise BadInput(f"{prompts} has {len(lines)} prompts for {len(own)} pictures.", hint="Give one a picture, or a CSV by name.")
    return [e._replace(prompt=_entry("", e.path, said.get(index, e.prompt)).prompt) for index, e in enumerate(entries)]
