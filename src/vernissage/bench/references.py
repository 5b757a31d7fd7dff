"""Reference pictures to repaint: a folder, each with its kind where the file's name tells it, as in EvalRef-100."""

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from vernissage.errors import BadInput
from vernissage.records.picture import SUFFIXES, find_pictures
from vernissage.records.plan import whole_characters

# Words of all scripts and digits, a letter among them: a plain number is no kind.
_KIND = re.compile(r"(?=[^_]*[^\W\d_])(?P<kind>[^\W_](?:[^\W_]|[ -])*)_(?P<number>\d+)")


class Reference(NamedTuple):
    """One reference picture."""

    name: str
    """Path below the folder, without suffix: its key in results."""
    kind: str
    """Such as portrait, object, scene or complex; empty where the name does not say."""
    path: Path

    def content(self) -> str:
        """Hash of the file, so that a run notices when a reference is exchanged; "unreadable" where it cannot be read."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()[:16]
        except OSError:
            return "unreadable"


def find_references(folder: Path, *, limit: int | None = None) -> list[Reference]:
    """All pictures in a folder and below, in the order of their names, numbers counted as numbers.

    Args:
        folder: For example that of EvalRef-100, with files named `<kind>_<n>.png`.
        limit: Keep the first N.

    Raises:
        BadInput: There is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise BadInput(f"There is no folder {folder}.", hint="Give the folder of the reference pictures with --data.")
    paths = find_pictures(folder)
    if not paths:
        raise BadInput(f"There are no pictures in {folder}.", hint=f"They end in {', '.join(SUFFIXES)}.")
    found = []
    for path in paths:
        match = _KIND.fullmatch(path.stem)
        name = whole_characters(path.relative_to(folder).with_suffix("").as_posix())
        found.append(Reference(name, match["kind"] if match else "", path))
    doubled = [name for name, count in Counter(reference.name for reference in found).items() if count > 1]
    if doubled:
        raise BadInput(f"Two pictures are called {min(doubled)}.", hint="Rename one: results are kept by name without suffix.")
    return found[:limit]
