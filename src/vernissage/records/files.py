"""Files that a kill leaves whole: written at once or not at all, or grown line by line."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from vernissage.errors import BadInput, reason_of

T = TypeVar("T")

_BOM = b"\xef\xbb\xbf"
_UNFINISHED = ".part"


def write_whole(path: Path, content: str | bytes, *, hint: str = "Choose another file.") -> Path:
    """Write a file, which appears whole or not at all, and return its path.

    Args:
        path: Its folder is made where there is none.
        content: Bytes, or a text that is written as UTF-8; halves of characters in it become question marks.
        hint: What to do where it cannot be written.

    Raises:
        BadInput: It cannot be written.
    """
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    with _writing(path, hint):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:40]}-", suffix=_UNFINISHED)
        fresh = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            fresh.chmod(0o644)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    return path


def is_unfinished(path: Path) -> bool:
    """Whether this is what `write_whole` leaves where it is killed."""
    return path.name.startswith(".") and path.suffix == _UNFINISHED


def append_lines(path: Path, lines: Iterable[str], *, hint: str = "Choose another file.") -> None:
    """Add lines to a file and see them onto the disk; whatever was cut off at its end gets a line of its own.

    Raises:
        BadInput: It cannot be written.
    """
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
    with _writing(path, hint):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                data = (b"" if file.read(1) == b"\n" else b"\n") + data
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def read_lines(path: Path, parse: Callable[[bytes, int], T], *, what: str, mend: bool = False) -> list[T]:
    """What the lines of a file say, empty ones left out.

    Args:
        path: A text in UTF-8.
        parse: Reads a line of a number, and raises `BadInput` where it has a mistake.
        what: The file holds, for messages.
        mend: Whether it is a file of ours that goes on: a last line that was cut off is taken out of it, and one without its end gets it.

    Raises:
        BadInput: It cannot be read, or a line has a mistake.
    """
    try:
        data = path.read_bytes().removeprefix(_BOM)
    except OSError as error:
        raise BadInput(f"Cannot read the {what} {path}: {reason_of(error)}.", hint="Check the path.") from error
    *lines, last = data.split(b"\n")
    found = [parse(line, number) for number, line in enumerate(lines, start=1) if line.strip()]
    if last.strip():
        try:
            found.append(parse(last, len(lines) + 1))
            whole = data + b"\n"
        except BadInput:
            if not mend or (not found and not last.startswith(b'{"id":')):
                raise  # nothing says that this is a file of ours
            whole = data.removesuffix(last)
        if mend:
            write_whole(path, whole)
    return found


def files_hash(places: Iterable[Path]) -> str:
    """Hash of files and of what is in folders: their names, sizes, and first and last megabytes; empty where there is none.

    Of weights that differ few are alike there, and large files are read quickly.
    """
    digest, found = hashlib.sha256(), False
    for place in places:
        for path in [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file()):
            size, found = path.stat().st_size, True
            digest.update(json.dumps([path.name, size]).encode())
            with path.open("rb") as file:
                digest.update(file.read(2**20))
                file.seek(max(2**20, size - 2**20))
                digest.update(file.read())
    return digest.hexdigest()[:16] if found else ""


@contextmanager
def _writing(path: Path, hint: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {reason_of(error)}.", hint=hint) from error
