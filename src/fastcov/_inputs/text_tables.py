"""Tables in text files: labels are told from numbers, and an error names the place of an odd cell."""

from __future__ import annotations

import codecs
import contextlib
import csv
import pathlib
from collections.abc import Iterator, Sequence
from typing import NoReturn

import numpy as np

from .labels import Labelled


@contextlib.contextmanager
def intact(path: pathlib.Path, name: str) -> Iterator[None]:
    """Turn any error that a reader raises for a damaged file into one ValueError."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # zlib, zipfile, NumPy and SciPy each raise errors of their own
        if isinstance(error, OSError) and error.errno:  # an error of the system, as "permission denied"
            raise
        raise ValueError(
            f"Argument '{name}' must be an intact file, and {str(path)!r} is not "
            f"({' '.join(str(error).split()) or type(error).__name__}): write or copy it again."
        ) from error


def read_table(path: pathlib.Path, name: str, *, id_column: bool = False) -> Labelled:
    """Read numbers with the names of rows and columns; with `id_column` the first column is always names."""
    with path.open(newline="", encoding=_encoding(path)) as file, intact(path, name):
        delimiter = _delimiter(file.read(1 << 16))
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter)
        rows = ((reader.line_num, [cell.strip() for cell in row]) for row in reader)
        lines = [(line, row) for line, row in rows if len(row) > 1 or any(row)]
    if not lines:
        raise ValueError(
            f"Argument '{name}' must be a table of numbers, and {str(path)!r} is empty: fill it."
        )
    first, width = lines[0][0], len(lines[0][1])
    for line, row in lines:
        if len(row) != width:
            raise ValueError(
                f"Argument '{name}' must have as many cells in each row, not {width} in line {first} and "
                f"{len(row)} in line {line} of {str(path)!r}: fill in or delete what is odd."
            )
    header, names = _labels(lines[0][1], [row[0] for _, row in lines[1:]], path, name)
    if id_column:
        if width < 2:
            raise ValueError(
                f"Argument '{name}' must have columns of numbers beside its first, not {width} in all of "
                f"{str(path)!r}: leave out --id-column."
            )
        names = True
    if not header and len(lines) > 2 and _numbers(lines[0][1]):
        raise ValueError(
            f"Argument '{name}' must say whether line {lines[0][0]} of {str(path)!r}, which numbers its "
            "columns, is a header: delete it if it is, write 1.0 for 1 if it is not."
        )
    body = lines[header:]
    values = np.empty((len(body), width - names))
    for i, (line, row) in enumerate(body):
        try:
            values[i] = row[names:]
        except ValueError:
            column = next(j for j in range(names, width) if not _is_number(row[j]))
            _reject_cell(row[column], line, column + 1, path, name)
    return Labelled(
        values,
        channels=_worded([row[0] for _, row in body]) if names else None,
        conditions=_worded(lines[0][1][names:]) if header else None,
    )


def _worded(cells: list[str]) -> Sequence[str] | range | None:
    """Names; a range where they are just 0, 1, 2, …, as pandas writes the index that it makes itself."""
    if not any(cells):
        return None
    return range(len(cells)) if cells == [str(i) for i in range(len(cells))] else cells


def _encoding(path: pathlib.Path) -> str:
    """UTF-8, or else Latin-1, which reads any bytes: numbers are ASCII in nearly all encodings."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        try:
            while chunk := file.read(1 << 20):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8-sig"


def _delimiter(sample: str) -> str:
    """Find the delimiter: tab before semicolon before comma, since numbers may hold commas too.

    It is told from the second line, as a header may hold anything.
    """
    lines = [line for line in sample.splitlines() if line.strip()][:2]
    for delimiter in "\t;":
        if lines and len(next(csv.reader(lines[-1:], delimiter=delimiter))) > 1:
            return delimiter
    return ","


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python reads 1_2 as a number, here it is a name


def _counts(cells: Sequence[str]) -> bool:
    """Whether there are at least three cells, which count 0, 1, 2, … or 1, 2, 3, …"""
    return len(cells) > 2 and any(list(cells) == [str(i + k) for i in range(len(cells))] for k in (0, 1))


def _numbers(cells: Sequence[str]) -> bool:
    """As `_counts`, with the cells in any order."""
    return len(cells) > 2 and any(set(cells) == {str(i + k) for i in range(len(cells))} for k in (0, 1))


def _labels(top: Sequence[str], below: Sequence[str], path: pathlib.Path, name: str) -> tuple[bool, bool]:
    """Whether there is a header row and a first column of names.

    `top` is the first row, `below` the first column without its first cell. Labels are words. They may
    also be numbers that count columns and rows, if the corner is empty or a word.
    """
    corner, labels = top[0], top[1:]
    words_below = bool(below) and all(below) and not any(map(_is_number, below))
    header = not _is_number(corner) and (
        (all(labels) and not any(map(_is_number, labels)))
        or (_numbers(labels) and not (corner and words_below))
    )
    if corner and words_below and _numbers(labels):
        raise ValueError(
            f"Argument '{name}' must say whether line 1 of {str(path)!r} is a header: leave its first cell "
            "empty if it is, write 1.0 for 1 if it is not."
        )
    if header:
        return True, bool(labels) and (
            words_below or not corner or _counts(below) or (_numbers(labels) and _numbers(below))
        )
    return False, bool(labels) and bool(corner) and not _is_number(corner) and words_below


def _reject_cell(cell: str, line: int, column: int, path: pathlib.Path, name: str) -> NoReturn:
    found = f"{cell!r}" if cell else "an empty cell"
    remedy = "fill it in" if not cell else "correct it"
    if _is_number(cell.replace(",", ".", 1)):
        remedy = "write decimals with a point"
    raise ValueError(
        f"Argument '{name}' must have a number in each cell, not {found} in line {line}, column {column} of "
        f"{str(path)!r}: {remedy}."
    )
