"""Pictures that lie inside tables, as Hugging Face `datasets` keeps them: Parquet files, or a folder of `save_to_disk`.

They are unpacked once, into the user's cache folder, because everything else works with files. A row is a picture: its column `image`
holds the bytes of a file, or the path of one; `prompt` (or `text`, `caption`) and `group` are taken where they are there.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vernissage.errors import BadInput
from vernissage.records.files import write_whole
from vernissage.records.table import arrow_modules
from vernissage.zoo.catalogue import home

_PROMPTS = ("prompt", "text", "caption")
_BATCH = 64


class Row(NamedTuple):
    """A picture of a table."""

    name: str
    path: Path
    prompt: str | None
    group: str


def is_packed(source: Path) -> bool:
    """Whether this is a Parquet file, a folder of them, or one that `save_to_disk` wrote."""
    if source.is_file():
        return source.suffix == ".parquet"
    return (source / "dataset_info.json").is_file() or any(source.glob("*.parquet")) or any(source.glob("*/*.parquet"))


def unpack(source: Path) -> list[Row]:
    """The pictures, unpacked where they are not yet.

    Raises:
        BadInput: A file cannot be read, or a row has no picture.
        MissingExtra: pyarrow is not installed.
    """
    files = _files(source)
    folder = home() / "cache" / "unpacked" / _digest(files)
    rows: list[Row] = []
    for number, row in enumerate(_rows(files)):
        image = row.get("image")
        prompt = next((row[name] for name in _PROMPTS if isinstance(row.get(name), str)), None)
        group = row["group"] if isinstance(row.get("group"), str) else ""
        data, path = _picture(image)
        if data is None and path is None:
            raise BadInput(f"{source}, row {number} holds no picture.", hint="Its column `image` must hold bytes or a path.")
        suffix = Path(path or "").suffix.lower() or ".png"
        name = f"{number:06d}{suffix}"
        place = folder / name if data is not None else source.parent / str(path)
        if data is not None and not place.exists():
            write_whole(place, data, hint="Set $VERNISSAGE_HOME to another folder.")
        rows.append(Row(name if data is not None else str(path), place, prompt, group))
    return rows


def _files(source: Path) -> list[Path]:
    """The table's files; those that `save_to_disk` wrote stand in its state.json in order."""
    if source.is_file():
        return [source]
    if (source / "dataset_info.json").is_file():
        try:
            state = json.loads((source / "state.json").read_text(encoding="utf-8"))
            found = [source / Path(each["filename"]).name for each in state["_data_files"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadInput(f"{source} is no whole dataset: {error}.", hint="Save it again with save_to_disk.") from error
    else:
        found = sorted([*source.glob("*.parquet"), *source.glob("*/*.parquet")])
    return found


def _rows(files: list[Path]) -> Iterator[dict[str, Any]]:
    arrow, parquet = arrow_modules()
    for file in files:
        try:
            if file.suffix == ".parquet":
                for batch in parquet.ParquetFile(file).iter_batches(batch_size=_BATCH):
                    yield from batch.to_pylist()
            else:
                with arrow.memory_map(str(file)) as mapped:
                    for batch in arrow.ipc.open_stream(mapped):
                        yield from batch.to_pylist()
        except (arrow.ArrowException, OSError) as error:
            raise BadInput(f"Cannot read {file}: {str(error).splitlines()[0]}.", hint="Save the dataset again.") from error


def _picture(image: object) -> tuple[bytes | None, str | None]:
    """Bytes and path, either of which may be missing."""
    if isinstance(image, dict):
        data, path = image.get("bytes"), image.get("path")
        return data if isinstance(data, bytes) else None, path if isinstance(path, str) and path else None
    return image if isinstance(image, bytes) else None, image if isinstance(image, str) and image else None


def _digest(files: list[Path]) -> str:
    """Tells these files from others and from what they were before."""
    digest = hashlib.sha256()
    for file in files:
        if not file.is_file():
            raise BadInput(f"{file} is not there.", hint="Save the dataset again.")
        state = file.stat()
        digest.update(f"{file.resolve()} {state.st_size} {state.st_mtime_ns}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]
