"""Fetching what Civitai's list of pictures only names: the pictures themselves, and what their models are (ChatGenBench, step 1).

What is there already is not fetched again, so a call that was cut off is resumed. What cannot be had is counted by its reason.
"""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from vernissage.errors import BadInput, DriverError, Refused, VernissageError
from vernissage.ports import Progress
from vernissage.processes import Pool
from vernissage.records.demonstration import Demonstration
from vernissage.records.files import append_lines, read_lines, write_whole
from vernissage.records.picture import SUFFIXES, decode
from vernissage.records.plan import Text
from vernissage.zoo.civitai import ADDRESS, check, fetch, patiently, read_model, request

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


class FetchedModels(NamedTuple):
    """What is known of models."""

    notes: dict[str, ModelNote]
    """By model."""
    failed: dict[str, int]
    """Models of which nothing could be had, by reason."""


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
    progress: Progress | None = None,
) -> FetchedPictures:
    """Fetch the pictures that demonstrations name by their addresses.

    Args:
        demonstrations: Those whose pictures lie here, or that have none, stay as they are.
        folder: For the pictures.
        retries: How often a picture is asked for again where its server is busy or fails.
        progress: Called with (done, total) pictures.

    Raises:
        BadInput: The folder cannot be written.
        DriverError: Of many pictures in turn none can be reached; what was fetched is kept.
    """
    wanted = {_name(each): each.picture for each in demonstrations if "://" in each.picture}
    here = {path.stem: path for path in folder.iterdir() if path.suffix in SUFFIXES} if folder.is_dir() else {}
    found: dict[str, Path] = {}
    failed: Counter[str] = Counter()
    names = list(wanted)

    def get(name: str) -> Path | str | VernissageError:
        try:
            return here[name] if name in here else _fetch_picture(wanted[name], folder / name, retries)
        except (DriverError, Refused) as error:
            return error

    with Pool(AT_ONCE) as pool:
        for start in range(0, len(names), 16 * AT_ONCE):
            part = names[start : start + 16 * AT_ONCE]
            got = dict(zip(part, pool.map(get, part), strict=True))
            _give_up(got.values())
            found |= {name: each for name, each in got.items() if isinstance(each, Path)}
            failed.update(each if isinstance(each, str) else each.message for each in got.values() if not isinstance(each, Path))
            if progress:
                progress(start + len(part), len(names))
    placed = [
        each.model_copy(update={"picture": str(path)}) if "://" in each.picture and (path := found.get(_name(each))) else each
        for each in demonstrations
    ]
    return FetchedPictures(placed, len(found), dict(failed))


def _give_up(got: Collection[object]) -> None:
    """End where of several things none can be had: the network is down then, and not one server.

    Raises:
        DriverError: So it is.
    """
    errors = [each for each in got if isinstance(each, DriverError) and not isinstance(each, _Failed | Refused)]
    if len(errors) == len(got) >= AT_ONCE:
        raise errors[0]


def fetch_models(
    names: Iterable[str],
    path: Path,
    *,
    address: str = ADDRESS,
    retries: int = 5,
    progress: Progress | None = None,
) -> FetchedModels:
    """What Civitai says of models, kept in a JSONL file, one a line.

    Args:
        names: As demonstrations name models; only those like "civitai/128713" can be asked about.
        path: What is in it already is not asked for again.
        address: The API.
        retries: How often a model is asked for again where Civitai is busy or fails.
        progress: Called with (done, total) models.

    Raises:
        BadInput: The file cannot be read or written.
        DriverError: Of several models in turn none can be had, because Civitai cannot be reached or fails; what was fetched is kept.
    """
    known = read_models(path, mend=True) if path.exists() else {}
    wanted = [name for name in dict.fromkeys(names) if re.fullmatch(r"civitai/\d+", name)]
    left = [name for name in wanted if name not in known]
    done, failed = len(wanted) - len(left), Counter[str]()

    def get(name: str) -> ModelNote | VernissageError:
        try:
            return _fetch_model(name, address, retries)
        except VernissageError as error:
            return error

    with Pool(AT_ONCE) as pool:
        for start in range(0, len(left), AT_ONCE):
            got = list(pool.map(get, left[start : start + AT_ONCE]))
            notes = [each for each in got if isinstance(each, ModelNote)]
            append_lines(path, (json.dumps(note.model_dump(exclude_defaults=True), ensure_ascii=False) for note in notes))
            _give_up(got)
            known |= {note.id: note for note in notes}
            failed.update(re.sub(r"\b\d{4,}\b", "…", each.message) for each in got if isinstance(each, VernissageError))
            done += len(got)
            if progress:
                progress(done, len(wanted))
    return FetchedModels(known, dict(failed))


def read_models(path: Path, *, mend: bool = False) -> dict[str, ModelNote]:
    """The notes of a JSONL file, by model.

    Args:
        path: As `fetch_models` writes it.
        mend: Whether a last line that was cut off is taken out of the file.

    Raises:
        BadInput: It cannot be read, or a line has a mistake.
    """

    def parse(line: bytes, number: int) -> ModelNote:
        try:
            return ModelNote.model_validate_json(line)
        except ValidationError as error:
            raise BadInput(f"{path}, line {number}: {error.errors()[0]['msg']}.", hint="Mend or delete that line.") from error

    return {note.id: note for note in read_lines(path, parse, what="models", mend=mend)}


class _Failed(DriverError):
    """A picture's server answers, and fails."""


def _fetch_picture(address: str, place: Path, retries: int) -> Path | str:
    """Where the picture lies now, or why it could not be had.

    Raises:
        BadInput: The folder cannot be written.
        DriverError: Nothing answers, so nothing else would be had either.
    """

    def read(answer: httpx.Response) -> bytes:
        if answer.status_code >= 500:
            raise _Failed(f"its server failed with status {answer.status_code}")
        if answer.status_code != 200:
            raise Refused(f"its server answered with status {answer.status_code}")
        return answer.content

    try:
        data = patiently(lambda: fetch(address, largest=LARGEST), read, "picture", retries=retries)
        decode(data)
        kind = Image.open(io.BytesIO(data)).format
    except (_Failed, Refused) as error:
        return error.message
    except BadInput:
        return "no picture, or one too large"
    suffix = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif", "AVIF": ".avif"}.get(kind or "", "")
    if not suffix:
        return "no picture, or one too large"
    return write_whole(place.with_name(place.name + suffix), data, hint="Choose another folder.")


def _name(demonstration: Demonstration) -> str:
    told = re.sub(r"[^\w-]+", "-", demonstration.id)[:60]
    return f"{told}-{hashlib.sha256(demonstration.picture.encode()).hexdigest()[:8]}"


def _fetch_model(name: str, address: str, retries: int) -> ModelNote:
    number = name.removeprefix("civitai/")

    def read(response: httpx.Response) -> ModelNote:
        if response.status_code == 404:
            return ModelNote(id=name, gone=True)
        check(response, f"model version {number}")
        return ModelNote(id=name, **read_model(response.json())._asdict())

    return patiently(lambda: request(f"model-versions/{number}", {}, address=address), read, "model", retries=retries)
