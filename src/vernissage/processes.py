"""Processes and threads that share work: one process at a place at a time, and pools of threads that an interruption ends at once."""

import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from vernissage.errors import BadInput

try:
    import fcntl
except ImportError:  # Windows: whoever starts two processes at one place there is not warned
    fcntl = None


class Place:
    """A place where this process works, to the end of a `with`, or until nobody here holds it any more; other processes are kept out."""

    def __init__(self, descriptor: int | None, path: Path) -> None:
        self._descriptor, self._path, self._process = descriptor, path, os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_told: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Let others in, whoever here still holds it."""
        descriptor, self._descriptor = self._descriptor, None
        if _held.get(self._path) is self:
            del _held[self._path]
        if descriptor is not None:
            if os.getpid() == self._process:  # a child has the lock from its parent, who goes on holding it
                with suppress(OSError):
                    self._path.unlink()
            os.close(descriptor)

    def __del__(self) -> None:
        self.leave()


_held: weakref.WeakValueDictionary[Path, Place] = weakref.WeakValueDictionary()
_one_at_a_time = threading.Lock()


def work_at(place: Path) -> Place:
    """Keep other processes out of a folder, or away from a file, as long as the answer is held.

    Args:
        place: An existing folder, or a file, whose folder is made where there is none.

    Raises:
        BadInput: Another process works there, or the folder cannot be made.
    """
    true = place.resolve()  # the same by whatever link
    path = true / ".lock" if true.is_dir() else true.with_name(f".{true.name}.lock")
    with _one_at_a_time:
        if (known := _held.get(path)) is not None:
            return known
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"Cannot write {place}: {error.strerror}.", hint="Choose another file.") from error
        held = Place(_locked(path, place), path)
        _held[path] = held
        return held


def _locked(path: Path, place: Path) -> int | None:
    if fcntl is None:
        return None
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None  # what cannot be written is told by whoever writes there
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise BadInput(f"Another process works at {place}.", hint="Wait until it is done, or choose another place.") from error
        except OSError:  # a file system without locks
            return file
        try:
            same = os.fstat(file).st_ino == path.stat().st_ino
        except FileNotFoundError:
            same = False
        if same:
            return file
        os.close(file)  # whoever had it has just taken it away


class Pool(ThreadPoolExecutor):
    """Threads whose work is waited for, but not where the program is interrupted: what they still do is then in vain."""

    def __exit__(self, kind: type[BaseException] | None, *told: Any) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self.shutdown(wait=False, cancel_futures=True)
            return
        super().__exit__(kind, *told)
