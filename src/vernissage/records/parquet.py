"""Rows in Parquet files, where pyarrow is installed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vernissage.errors import BadInput, MissingExtra


def read_parquet(path: Path, what: str) -> list[dict[str, Any]]:
    """All rows of a file, by column.

    Args:
        path: The file.
        what: What it holds, for error messages.

    Raises:
        BadInput: It is no Parquet file, or cannot be read.
        MissingExtra: pyarrow is not installed.
    """
    arrow, parquet = arrow_modules()
    try:
        return parquet.read_table(path).to_pylist()
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Cannot read the {what} {path}: {str(error).splitlines()[0]}.", hint="It must be a Parquet file.") from error


def write_parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], path: Path) -> None:
    """Write rows; what a row lacks is null.

    Raises:
        OSError: It cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    arrow, parquet = arrow_modules()
    parquet.write_table(arrow.table({name: [row.get(name) for row in rows] for name in columns}), path)


def arrow_modules() -> tuple[Any, Any]:
    """The modules of pyarrow: itself and its Parquet part.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("pyarrow", extra="data") from error
    return pyarrow, pyarrow.parquet
