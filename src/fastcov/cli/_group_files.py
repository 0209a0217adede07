"""Read the groups of channels from files."""

from __future__ import annotations

import csv
import pathlib
from typing import Any

TABLES = (".csv", ".tsv")


def _column(spec: str) -> tuple[str, str] | None:
    """Return the file and the column of a spec such as table.csv:animal."""
    path, _, column = spec.rpartition(":")
    return (path, column) if path.lower().endswith(TABLES) else None


def file_of(spec: str | None) -> str | None:
    """Return the file that a spec names, without a column."""
    found = None if spec is None else _column(spec)
    return spec if found is None else found[0]


def read_groups(spec: str, n: int, option: str, what: str) -> list[Any]:
    """Read a label for each of n channels: lines of text, a vector in a file, or a column of a table."""
    from .._inputs.name_files import read_names

    found = _column(spec)
    if found is None:
        return read_names(spec, n, name=option, what=what)
    path, column = found
    from .._inputs.files import check_there

    check_there(pathlib.Path(path), option)
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, delimiter="\t" if path.lower().endswith(".tsv") else ","))
    head = list(rows[0]) if rows else []
    if column not in head:
        raise ValueError(
            f"Argument '{option}' must name a column of {path!r}, not {column!r}: it has "
            f"{', '.join(map(repr, head))}."
        )
    if len(rows) != n:
        raise ValueError(
            f"Argument '{option}' must hold a label for each of the {n} {what}, and {spec!r} holds "
            f"{len(rows)}."
        )
    return [row[column] for row in rows]


def labels_of(spec: str | None, X: Any, option: str = "--groups") -> list[Any] | None:
    """Read the group of each channel of X, if there is a file of them."""
    return None if spec is None else read_groups(spec, X.shape[-2], option, "channels of X")
