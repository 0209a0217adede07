"""Arrays from files, without pickle, and files that are whole or not there at all."""

from __future__ import annotations

import contextlib
import csv
import os
import pathlib
import re
import secrets
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

READABLE = (".npy", ".npz", ".mat", ".csv", ".tsv")
# The path ends at the first readable suffix that a colon or nothing follows, so that the colon of a
# Windows drive is part of the path.
_SPEC = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, READABLE))}))(?::(.*))?", re.IGNORECASE | re.DOTALL)

_MATLAB_NUMBERS = {"double", "single", "logical", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64))}


def read_array(spec: str | os.PathLike[str], *, name: str = "spec") -> Array:
    """Array from "file.npy", "file.npz:key", "file.mat:key", "file.csv" or "file.tsv".

    The key may be left out where the file holds one numeric array, or one numeric matrix beside
    vectors and scalars. A table in text may have a header row and a first column of names; comma,
    semicolon and tab are told apart. A header of nothing but numbers is read as data, but refused where
    it counts the columns.

    Raises ValueError or an OSError that names the argument, what was found and the remedy.
    """
    text = os.fspath(spec)
    match = _SPEC.fullmatch(text)
    if match is None:
        raise ValueError(
            f"Argument '{name}' must be a {_listed(READABLE)} file, not {text!r}: convert it first."
        )
    path, key = pathlib.Path(match[1]), match[2]
    if path.is_dir() or not path.exists():
        kind, found = (IsADirectoryError, "a folder") if path.is_dir() else (FileNotFoundError, "missing")
        raise kind(f"Argument '{name}' must be a file, and {str(path)!r} is {found}: check the path.")
    suffix = path.suffix.lower()
    if suffix in (".npz", ".mat"):
        return (_read_npz if suffix == ".npz" else _read_mat)(path, key, name)
    if key is not None:
        raise ValueError(
            f"Argument '{name}' must be without a key for a {suffix} file, not {text!r}: drop ':{key}'."
        )
    return _read_npy(path, name) if suffix == ".npy" else _read_table(path, name)


@contextlib.contextmanager
def _intact(path: pathlib.Path, name: str) -> Iterator[None]:
    """Whatever a reader makes of a damaged file becomes one ValueError."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # zlib, zipfile, NumPy and SciPy each raise errors of their own
        if isinstance(error, OSError) and error.errno:  # the system's own word, as "permission denied"
            raise
        raise ValueError(
            f"Argument '{name}' must be an intact file, and {str(path)!r} is not "
            f"({' '.join(str(error).split()) or type(error).__name__}): write or copy it again."
        ) from error


def _reject_pickle(path: pathlib.Path, what: str, name: str) -> NoReturn:
    raise ValueError(
        f"Argument '{name}' must hold numbers, and {what} in {str(path)!r} holds Python objects, which are "
        "not unpickled: save it again with .astype(float)."
    )


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _read_npy(path: pathlib.Path, name: str) -> Array:
    with _intact(path, name), path.open("rb") as file:
        _, dtype = _npy_header(file)
        if not dtype.hasobject:
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
    _reject_pickle(path, "the array", name)


def _read_npz(path: pathlib.Path, key: str | None, name: str) -> Array:
    with _intact(path, name), zipfile.ZipFile(path) as archive:
        arrays = {}
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as file:
                    arrays[member.removesuffix(".npy")] = _npy_header(file)
    numeric = {k: shape for k, (shape, dtype) in arrays.items() if dtype.kind in "biuf"}
    key = _choose(path, key, {k: shape for k, (shape, _) in arrays.items()}, numeric, name)
    if arrays[key][1].hasobject:
        _reject_pickle(path, repr(key), name)
    with _intact(path, name), zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_mat(path: pathlib.Path, key: str | None, name: str) -> Array:
    from scipy.io import loadmat, whosmat

    with path.open("rb") as file:
        if file.read(10) == b"MATLAB 7.3":
            raise ValueError(
                f"Argument '{name}' must be a MATLAB file up to version 7, and {str(path)!r} is 7.3: "
                "save it in MATLAB with save(..., '-v7')."
            )
    with _intact(path, name):
        found = whosmat(path, appendmat=False)
    numeric = {k: shape for k, shape, kind in found if kind in _MATLAB_NUMBERS}
    key = _choose(path, key, {k: shape for k, shape, _ in found}, numeric, name)
    with _intact(path, name):
        array: Array = loadmat(path, variable_names=[key], appendmat=False)[key]
    return array


def _choose(
    path: pathlib.Path,
    key: str | None,
    shapes: dict[str, tuple[int, ...]],
    numeric: dict[str, tuple[int, ...]],
    name: str,
) -> str:
    """The key that is meant: the one given, or that of the only numeric array or matrix."""
    if key in shapes:
        return key
    if key is None:
        matrices = [k for k, shape in numeric.items() if len(shape) > 1 and min(shape) > 1]
        for candidates in (list(numeric), matrices):
            if len(candidates) == 1:
                return candidates[0]
    there = ", ".join(f"{k} {' x '.join(map(str, shape))}".rstrip() for k, shape in shapes.items())
    asked = "none was given" if key is None else f"{key!r} is not one"
    raise ValueError(
        f"Argument '{name}' must name an array of {str(path)!r}, and {asked}: write '{path.name}:KEY' with "
        f"one of {there or '(none: the file is empty)'}."
    )


def _read_table(path: pathlib.Path, name: str) -> Array:
    # Names may be in any encoding and are dropped; numbers are ASCII in nearly all of them.
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file, _intact(path, name):
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
    if not header and len(lines) > 2 and _counts(lines[0][1]):
        raise ValueError(
            f"Argument '{name}' must say whether line {lines[0][0]} of {str(path)!r}, which counts its "
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
    return values


def _delimiter(sample: str) -> str:
    """Tab before semicolon before comma, which may be in numbers too; a header may hold anything."""
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
    """Whether at least three cells count 0, 1, 2, … or 1, 2, 3, …"""
    return len(cells) > 2 and any(list(cells) == [str(i + k) for i in range(len(cells))] for k in (0, 1))


def _labels(top: Sequence[str], below: Sequence[str], path: pathlib.Path, name: str) -> tuple[bool, bool]:
    """Whether there is a header row and a first column of names.

    `top` is the first row, `below` the first column without its first cell. Labels are words, or
    count rows and columns under an empty or a worded corner.
    """
    corner, labels = top[0], top[1:]
    words_below = bool(below) and all(below) and not any(map(_is_number, below))
    header = not _is_number(corner) and (
        (all(labels) and not any(map(_is_number, labels)))
        or (_counts(labels) and not (corner and words_below))
    )
    if corner and words_below and _counts(labels):
        raise ValueError(
            f"Argument '{name}' must say whether line 1 of {str(path)!r} is a header: leave its first cell "
            "empty if it is, write 1.0 for 1 if it is not."
        )
    if header:
        return True, bool(labels) and (words_below or not corner or _counts(below))
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


def _listed(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def check_output(
    path: str | os.PathLike[str],
    suffixes: Sequence[str],
    *,
    name: str = "path",
    read: Sequence[str] = (),
) -> pathlib.Path:
    """`path`, if a file of one of these kinds can be written there; nothing is touched.

    It must be none of the files that the specs in `read` name.

    Raises ValueError or an OSError with the remedy: for the moment before a long computation.
    """
    target = pathlib.Path(path)
    if target.suffix.lower() not in suffixes:
        raise ValueError(
            f"Argument '{name}' must end in {_listed(suffixes)}, not be {str(target)!r}: rename it."
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"Argument '{name}' must lie in a folder that exists, not in {str(target.parent)!r}: create it."
        )
    if target.exists() and not target.is_file():
        raise OSError(f"Argument '{name}' must be a file, not {str(target)!r}: choose another name.")
    if target.exists():
        inputs = (pathlib.Path(match[1]) for match in map(_SPEC.fullmatch, read) if match)
        if any(source.exists() and target.samefile(source) for source in inputs):
            raise ValueError(
                f"Argument '{name}' must not be a file that is read, as {str(target)!r} is: "
                "choose another name."
            )
        if not os.access(target, os.W_OK):
            raise PermissionError(
                f"Argument '{name}' must be a file that can be written, not {str(target)!r}: choose another."
            )
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(
            f"Argument '{name}' must lie in a folder that can be written to, not in {str(target.parent)!r}: "
            "choose another."
        )
    return target


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A path to write to, beside `path` and with its suffix, that takes its place at the end.

    If the block raises, whatever it had written goes and `path` stays as it was.
    """
    target = pathlib.Path(os.path.realpath(path))  # a link stays a link
    draft = target.with_name(f".{target.stem}-{secrets.token_hex(4)}{target.suffix}")
    try:
        yield draft
        os.replace(draft, target)
    except BaseException:  # Ctrl-C as well
        draft.unlink(missing_ok=True)
        raise
