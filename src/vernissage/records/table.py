"""Tables in files: CSV, and Parquet where pyarrow is installed."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vernissage.errors import BadInput, MissingExtra, reason_of
from vernissage.records.files import write_whole
from vernissage.records.plan import whole_characters


def read_rows(path: Path, what: str, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with the lines they end on, or of a Parquet file with their numbers.

    Args:
        path: CSV in UTF-8, its first line naming the columns, or Parquet.
        what: What it holds, for error messages.
        columns: That it must have.

    Raises:
        BadInput: The file cannot be read, is empty, or lacks a column.
    """
    if path.suffix.lower() == ".parquet":
        table = read_parquet(path, what)
        rows = [
            (number, {name: "" if value is None else str(value) for name, value in row.items()})
            for number, row in enumerate(table, start=1)
        ]
        if table and set(columns) - set(table[0]):
            raise _lacking(path, set(columns) - set(table[0]))
    else:
        rows = read_csv(path, what, columns)
    if not rows:
        raise BadInput(f"There are no {what} in {path}.", hint="It needs a line that names the columns, and rows.")
    return rows


def read_csv(path: Path, what: str, columns: Sequence[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with the lines they end on; a cell that a row lacks is empty.

    Args:
        path: In UTF-8, its first line naming the columns.
        what: What it holds, for error messages.
        columns: That it must have.

    Raises:
        BadInput: The file cannot be read, lacks a column or names one twice, or a row has more cells than there are columns, as where a
            comma stands outside quotes.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="\0beyond", restval="")
            names = [name for name in reader.fieldnames or () if name]
            if set(columns) - set(names):
                raise _lacking(path, set(columns) - set(names), semicolons=any(";" in name for name in names))
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"Cannot read the {what} {path}: {reason_of(error)}.", hint="It must be a CSV file in UTF-8.") from error
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(f"{path} names several columns {', '.join(twice)}.", hint="Keep one of each.")
    for line, row in rows:
        if any(row.pop("\0beyond", ())):
            raise BadInput(f"{path}, line {line}: more cells than columns.", hint='Put cells with a comma in quotes: 1.png,"a cat, red"')
    return rows


def _lacking(path: Path, columns: set[str], *, semicolons: bool = False) -> BadInput:
    hint = "Save it with commas between the columns, not semicolons." if semicolons else "Its first line must name the columns."
    return BadInput(f"{path} lacks the column {', '.join(sorted(columns))}.", hint=hint)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV or, by the file's ending, as Parquet; the first row's keys are the columns.

    Raises:
        BadInput: There are no rows, the ending is another, or the file cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    if not rows:
        raise BadInput("There is nothing to write.", hint="Give at least one row.")
    check_table(path)
    rows = [{name: whole_characters(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows]
    try:
        if path.suffix.lower() == ".parquet":
            write_parquet(rows, list(rows[0]), path)
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, text.getvalue(), hint="Choose another place.")
    except (ValueError, OverflowError, TypeError) as error:  # of pyarrow's, ArrowInvalid is a ValueError
        raise BadInput(f"{path} cannot hold these rows: {str(error).splitlines()[0]}.", hint="Write it as CSV.") from error


def check_table(path: Path, *, forms: Sequence[str] = (".csv", ".parquet")) -> None:
    """Refuse a name that does not tell the form of a table, before any work is done for it.

    Raises:
        BadInput: It ends otherwise.
    """
    if path.suffix.lower() not in forms:
        raise BadInput(f"{path} does not tell its form by its ending.", hint=f"End it in {' or '.join(forms)}.")


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
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise BadInput(f"Cannot read the {what} {path}: {str(error).splitlines()[0]}.", hint="It must be a Parquet file.") from error


def write_parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], path: Path) -> None:
    """Write rows; what a row lacks is null.

    Raises:
        BadInput: It cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    arrow, parquet = arrow_modules()
    data = io.BytesIO()
    parquet.write_table(arrow.table({name: [row.get(name) for row in rows] for name in columns}), data)
    write_whole(path, data.getvalue(), hint="Choose another place.")


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
