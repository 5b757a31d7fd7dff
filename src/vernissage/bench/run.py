"""A run on disk: what it was (header.json), what is finished (items.jsonl) and the pictures, by content hash.

A line is written when an item is finished and after its pictures, so a run may be killed at any moment: what has a line is
whole, what has none is done again. Lines are only ever appended.
"""

import json
import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict

from vernissage.errors import BadInput, IntegrityError
from vernissage.processes import work_at
from vernissage.prompts import load_prompt, prompt_ids
from vernissage.records.files import append_lines, is_unfinished, write_whole
from vernissage.records.picture import Picture

_END = b"IEND\xaeB`\x82"
"""Of every PNG that is whole."""


class Header(BaseModel):
    """What decides the numbers of a run; a run is resumed only under the same header."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    settings: dict[str, Any]
    """Everything the caller chose: models, data, seeds and so on."""
    prompts: dict[str, str]
    """Hash of every prompt that may be said, by id."""
    versions: dict[str, str]
    machine: str

    @classmethod
    def of(cls, suite: str, settings: dict[str, Any], *, says: tuple[str, ...]) -> "Header":
        """The header of a run that starts now, with this package's version, on this machine.

        Args:
            suite: Which benchmark.
            settings: Everything the caller chose.
            says: Beginnings of the ids of prompts that the run may say; others may change without harm.
        """
        prompts = {prompt_id: load_prompt(prompt_id).hash for prompt_id in prompt_ids() if prompt_id.startswith(says)}
        machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
        plain = json.loads(json.dumps(settings, default=str))
        return cls(suite=suite, settings=plain, prompts=prompts, versions={"vernissage": version("vernissage")}, machine=machine)

    def differences(self, other: "Header") -> list[str]:
        """What is not the same, the machine aside; of much the first."""
        found = sorted(_differences(self.model_dump(exclude={"machine"}), other.model_dump(exclude={"machine"})))
        return found[:6] + ([f"{len(found) - 6} more"] if len(found) > 6 else [])


def _differences(mine: dict[str, Any], theirs: dict[str, Any], above: str = "") -> list[str]:
    """Paths of what is not the same in two trees of settings, such as "settings repaint seed"."""
    found = []
    for key in {*mine, *theirs}:
        one, two = mine.get(key), theirs.get(key)
        if isinstance(one, dict) and isinstance(two, dict):
            found += _differences(one, two, f"{above}{key} ")
        elif one != two:
            found.append(f"{above}{key}")
    return found


class Run:
    """An open run. Items are JSON objects with a `key` of their own.

    Args:
        folder: Made where it does not exist; goes on with what it holds.
        header: What this run is.

    Raises:
        BadInput: The folder holds another run, or something else, or another process works in it.
        IntegrityError: A line is damaged that is not the last one.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder = folder
        self.header = header
        if folder.exists() and not folder.is_dir():
            raise BadInput(f"{folder} is a file, not a folder.", hint="Choose another folder with --out.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"Cannot write into {folder}: {error.strerror}.", hint="Choose another folder with --out.") from error
        self._place = work_at(folder)  # before anything is read: whoever comes second reads what the first has written
        try:
            self._open()
        except BaseException:
            del self._place
            raise
        self.items = read_lines(folder)
        self.reopened: set[str] = set()
        """Items that are to be done again; what they were stands until then."""

    def _open(self) -> None:
        folder, path = self.folder, self.folder / "header.json"
        if path.exists():
            changed = read_header(folder).differences(self.header)
            if changed:
                raise BadInput(
                    f"{folder} holds a run that differs in: {', '.join(changed)}.",
                    hint="Choose another folder with --out, or go on as before.",
                )
        elif any(each.name != ".lock" and not is_unfinished(each) for each in folder.iterdir()):
            raise BadInput(f"{folder} is not empty and holds no run.", hint="Choose another folder with --out.")
        if not path.exists():
            write_whole(path, self.header.model_dump_json(indent=2) + "\n", hint="Choose another folder with --out.")
        try:
            (folder / "pictures").mkdir(exist_ok=True)
            for left in filter(is_unfinished, folder.iterdir()):
                left.unlink()
        except OSError as error:
            raise BadInput(f"Cannot write into {folder}: {error.strerror}.", hint="Choose another folder with --out.") from error
        self._cut_off_last_line()

    def _cut_off_last_line(self) -> None:
        """Take away a last line that a killed run left unfinished."""
        path = self.folder / "items.jsonl"
        if path.exists():
            data = path.read_bytes()
            end = data.rfind(b"\n") + 1
            if end < len(data):
                with path.open("r+b") as file:
                    file.truncate(end)

    def add(self, item: dict[str, Any], pictures: Iterable[Picture] = ()) -> None:
        """Keep a finished item, its pictures first.

        One that is there already is left as it is, unless it was unscored, or was reopened and is scored now.
        """
        scored = "unscored" not in self.items.get(item["key"], {"unscored": ""})
        if scored and not (item["key"] in self.reopened and "unscored" not in item):
            return
        for picture in pictures:
            if not self.has_picture(picture.hash):
                picture.save(self.picture_path(picture.hash))
        append_lines(self.folder / "items.jsonl", [json.dumps(item)], hint="Make room on the disk; the run goes on where it was.")
        self.items[item["key"]] = item
        self.reopened.discard(item["key"])

    def has_picture(self, content: str) -> bool:
        """Whether the picture with this hash is there to its end."""
        return is_whole(self.picture_path(content))

    def picture_path(self, content: str) -> Path:
        """Where the picture with this hash lies."""
        return self.folder / "pictures" / f"{content}.png"

    def picture(self, content: str) -> Image.Image:
        """The picture with this hash.

        Raises:
            BadInput: It is not there or damaged.
        """
        return Picture.open(self.picture_path(content)).image

    def sweep(self, kept: Iterable[str]) -> int:
        """Delete pictures that no item speaks of, left by an item that was cut off; returns how many."""
        names = {f"{content}.png" for content in kept}
        found = [path for path in (self.folder / "pictures").iterdir() if path.suffix == ".png" or is_unfinished(path)]
        orphans = [path for path in found if path.name not in names and path.is_file()]
        for path in orphans:
            path.unlink()
        return len(orphans)


def is_whole(path: Path) -> bool:
    """Whether a PNG is there to its end."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_END), os.SEEK_END)
            return file.read() == _END
    except OSError:
        return False


def read_header(folder: Path) -> Header:
    """The header of a run that is there.

    Raises:
        BadInput: The folder holds no run, or a damaged header.
    """
    try:
        return Header.model_validate_json((folder / "header.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder} holds no run, or its header.json is damaged.", hint="Give the folder of a run.") from error


def read_lines(folder: Path) -> dict[str, dict[str, Any]]:
    """Finished items by key; of an item that was done again, the later. A last line without its end is passed over.

    Raises:
        IntegrityError: Another line is damaged.
    """
    path = folder / "items.jsonl"
    data = path.read_bytes() if path.exists() else b""
    items: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].split(b"\n")[:-1], start=1):
        try:
            item = json.loads(line)
            items[item["key"]] = item
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise IntegrityError(f"{path}, line {number} is damaged.", hint="Delete that line; its item is done again.") from error
    return items
