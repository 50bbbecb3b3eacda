"""Lists that people make with other programs, as text or CSV: what is wrong is named with its file and line."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")  # of UTF-16


def lines_of(opened: BinaryIO, name: str) -> Iterator[tuple[str, str]]:
    """Each line of a text in UTF-8 (with or without a byte order mark), with its file and number for messages.

    Args:
        name: what messages call the file.

    Raises:
        ValueError: a line is in another encoding, or no text.
    """
    for number, content in enumerate(opened, start=1):
        where = f"{name}, line {number}"
        if number == 1 and content.startswith(BYTE_ORDER_MARKS):
            raise ValueError(f"{where}: it is in UTF-16: save the list as UTF-8.")
        try:
            text = content.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}: it is not in UTF-8 ({content[:40]!r}): save the list as UTF-8.") from error
        if "\0" in text:
            raise ValueError(f"{where}: it holds a NUL, as binary files and UTF-16 do: save the list as UTF-8.")
        yield where, text


def csv_rows(opened: BinaryIO, name: str, columns: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row of a CSV file by its columns, with its file and line for messages; a cell that is missing is empty.

    Args:
        columns: those that must be there.

    Raises:
        ValueError: a column is missing, or a line cannot be read.
    """
    rows = csv.DictReader((text for _, text in lines_of(opened, name)), restval="")
    try:
        require_columns(name, columns, rows.fieldnames or ())
        for row in rows:
            yield f"{name}, line {rows.line_num}", row
    except csv.Error as error:
        raise ValueError(f"{name}, line {rows.line_num}: {error}") from error


def open_rows(file: Path, columns: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """As [`csv_rows`], of a file here.

    Raises:
        OSError: it cannot be opened.
    """
    with file.open("rb") as opened:
        yield from csv_rows(opened, str(file), columns)


def require_columns(name: str, columns: Iterable[str], found: Iterable[str]):
    """
    Raises:
        ValueError: one of the columns is not there; names all.
    """
    columns, found = list(columns), list(found)
    if not set(columns) <= set(found):
        wanted = f"a column `{columns[0]}`" if len(columns) == 1 else f"the columns {columns}"
        raise ValueError(f"{name}: expected {wanted}, found {', '.join(map(str, found)) or 'none'}.")
