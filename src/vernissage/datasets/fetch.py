"""Fetching what Civitai's list of pictures only names: the pictures themselves, and what their models are (ChatGenBench, step 1).

What is there already is not fetched again, so a call that was cut off is gone on with. What cannot be had is counted by its reason.
"""

import hashlib
import io
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from vernissage.errors import BadInput, DriverError, Refused, reason_of
from vernissage.ports import Progress
from vernissage.processes import Pool
from vernissage.records.demonstration import Demonstration
from vernissage.records.picture import SUFFIXES, decode
from vernissage.records.plan import Text
from vernissage.zoo.civitai import ADDRESS, Answer, check, fetch, patiently, read_model, request

AT_ONCE = 4
LARGEST = 64 * 2**20
"""Bytes of a picture; videos are larger."""


class ModelNote(BaseModel):
    """What Civitai says of a model version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Text
    """As demonstrations name it, such as "civitai/128713"."""
    title: Text = ""
    description: Text = ""
    base_model: Text = ""
    downloads: int = 0
    gone: bool = False
    """Whether Civitai no longer has it."""


class FetchedPictures(NamedTuple):
    """Demonstrations whose pictures lie here where they could be had."""

    demonstrations: list[Demonstration]
    fetched: int
    failed: dict[str, int]
    """By reason."""


def fetch_pictures(
    demonstrations: Sequence[Demonstration],
    folder: Path,
    *,
    retries: int = 3,
    sleep: Callable[[float], None] = time.sleep,
    progress: Progress | None = None,
) -> FetchedPictures:
    """Fetch the pictures that demonstrations name by their addresses.

    Args:
        demonstrations: Those whose pictures lie here, or that have none, stay as they are.
        folder: For the pictures.
        retries: How often a picture is asked for again where its server is busy or fails.
        sleep: Waits.
        progress: Called with (done, total) pictures.

    Raises:
        BadInput: The folder cannot be written.
        DriverError: Nothing can be reached; what was fetched is kept.
    """
    wanted = [each for each in demonstrations if "://" in each.picture]
    here = {path.stem: path for path in folder.iterdir() if path.suffix in SUFFIXES} if folder.is_dir() else {}
    found: dict[str, Path] = {}
    failed: Counter[str] = Counter()

    def get(each: Demonstration) -> Path | str:
        name = _name(each)
        return here[name] if name in here else _fetch_picture(each.picture, folder / name, retries, sleep)

    with Pool(AT_ONCE) as pool:
        for start in range(0, len(wanted), 16 * AT_ONCE):
            part = wanted[start : start + 16 * AT_ONCE]
            for each, got in zip(part, pool.map(get, part), strict=True):
                if isinstance(got, Path):
                    found[each.id] = got
                else:
                    failed[got] += 1
            if progress:
                progress(start + len(part), len(wanted))
    placed = [each.model_copy(update={"picture": str(found[each.id])}) if each.id in found else each for each in demonstrations]
    return FetchedPictures(placed, len(found), dict(failed))


def fetch_models(
    names: Iterable[str],
    path: Path,
    *,
    address: str = ADDRESS,
    retries: int = 5,
    sleep: Callable[[float], None] = time.sleep,
    progress: Progress | None = None,
) -> dict[str, ModelNote]:
    """What Civitai says of models, kept in a JSONL file, one a line.

    Args:
        names: As demonstrations name models; only those like "civitai/128713" can be asked about.
        path: What is in it already is not asked for again.
        address: The API.
        retries: How often a model is asked for again where Civitai is busy or fails.
        sleep: Waits.
        progress: Called with (done, total) models.

    Raises:
        BadInput: The file cannot be read or written.
        DriverError: Civitai cannot be reached, refuses or fails for good; what was fetched is kept.
    """
    known = read_models(path, cut=True) if path.exists() else {}
    wanted = [name for name in dict.fromkeys(names) if re.fullmatch(r"civitai/\d+", name)]
    left = [name for name in wanted if name not in known]
    done = len(wanted) - len(left)
    with Pool(AT_ONCE) as pool:
        for start in range(0, len(left), AT_ONCE):
            part = left[start : start + AT_ONCE]
            notes = list(pool.map(lambda name: _fetch_model(name, address, retries, sleep), part))
            _append(path, notes)
            known |= {note.id: note for note in notes}
            done += len(part)
            if progress:
                progress(done, len(wanted))
    return known


def read_models(path: Path, *, cut: bool = False) -> dict[str, ModelNote]:
    """The notes of a JSONL file, by model.

    Args:
        path: As `fetch_models` writes it.
        cut: Whether a last line that was cut off is taken out of the file.

    Raises:
        BadInput: It cannot be read, or a line has a mistake.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BadInput(f"Cannot read the models {path}: {reason_of(error)}.", hint="Give the file that `data fetch` wrote.") from error
    notes: dict[str, ModelNote] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            note = ModelNote.model_validate_json(line)
        except ValidationError as error:
            if cut and number == len(lines):
                path.write_bytes(b"\n".join([*lines[:-1], b""]))
                break
            raise BadInput(f"{path}, line {number}: {error.errors()[0]['msg']}.", hint="Mend or delete that line.") from error
        notes[note.id] = note
    return notes


class _Failed(DriverError):
    """A picture's server answers, and fails."""


def _fetch_picture(address: str, place: Path, retries: int, sleep: Callable[[float], None]) -> Path | str:
    """Where the picture lies now, or why it could not be had.

    Raises:
        BadInput: The folder cannot be written.
        DriverError: Nothing answers, so nothing else would be had either.
    """

    def read(answer: Answer) -> bytes:
        if answer.status_code >= 500:
            raise _Failed(f"its server failed with status {answer.status_code}")
        if answer.status_code != 200:
            raise Refused(f"its server answered with status {answer.status_code}")
        return answer.content

    try:
        data = patiently(lambda: fetch(address, largest=LARGEST), read, "picture", retries=retries, sleep=sleep)
        decode(data)
        kind = Image.open(io.BytesIO(data)).format
    except (_Failed, Refused) as error:
        return error.message
    except BadInput:
        return "no picture, or one too large"
    suffix = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif", "AVIF": ".avif"}.get(kind or "", "")
    if not suffix:
        return "no picture, or one too large"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f"{place.name}.part")
        part.write_bytes(data)
        return part.replace(place.with_name(place.name + suffix))
    except OSError as error:
        raise BadInput(f"Cannot write {place}: {reason_of(error)}.", hint="Choose another folder.") from error


def _name(demonstration: Demonstration) -> str:
    told = re.sub(r"[^\w-]+", "-", demonstration.id)[:60]
    return f"{told}-{hashlib.sha256(demonstration.picture.encode()).hexdigest()[:8]}"


def _fetch_model(name: str, address: str, retries: int, sleep: Callable[[float], None]) -> ModelNote:
    number = name.removeprefix("civitai/")

    def read(response: httpx.Response) -> ModelNote:
        if response.status_code == 404:
            return ModelNote(id=name, gone=True)
        check(response, f"model version {number}")
        return ModelNote(id=name, **read_model(response.json())._asdict())

    return patiently(lambda: request(f"model-versions/{number}", {}, address=address), read, "model", retries=retries, sleep=sleep)


def _append(path: Path, notes: Sequence[ModelNote]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(note.model_dump(exclude_defaults=True), ensure_ascii=False) + "\n" for note in notes))
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {reason_of(error)}.", hint="Choose another file.") from error
