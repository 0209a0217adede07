"""Reads arrays from files, without pickle, and writes files that are either complete or absent."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import secrets
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .optional import optional
from .text_tables import intact, read_table

Array = NDArray[Any]

READABLE = (".npy", ".npz", ".mat", ".csv", ".tsv", ".h5", ".hdf5", ".zarr")
# The path ends at the first readable suffix that is followed by a colon or by nothing, so that the colon of a
# Windows drive is part of the path. A shell adds a slash after a folder.
SPEC = re.compile(
    rf"(.+?(?:{'|'.join(map(re.escape, READABLE))}))(?:(?<=\.zarr)[/\\]+)?(?::(.*))?",
    re.IGNORECASE | re.DOTALL,
)

# The most keys that an error lists when no key fits.
LISTED = 20

_MATLAB_NUMBERS = {"double", "single", "logical", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64))}


def read_array(spec: str | os.PathLike[str], *, name: str = "spec") -> Array:
    """Array from "file.npy", "file.npz:key", "file.mat:key", "file.csv", "file.h5:key" or "file.zarr".

    The key may be left out where the file holds one numeric array, or one numeric matrix beside
    vectors and scalars. A table in text may have a header row and a first column of names; comma,
    semicolon and tab are told apart. A header of nothing but numbers is read as data, but a header that
    counts the columns is refused.

    Raises ValueError or an OSError that names the argument, what was found and the remedy.
    """
    path, key = located(spec, name)
    suffix = path.suffix.lower()
    if suffix in (".npz", ".mat"):
        return (_read_npz if suffix == ".npz" else _read_mat)(path, key, name)
    if suffix == ".npy":
        return read_npy(path, name)
    if suffix in (".csv", ".tsv"):
        return np.asarray(read_table(path, name))
    array = open_array(spec, name=name)
    with intact(path, name):
        return np.asarray(array[...])


def open_array(spec: str | os.PathLike[str], *, name: str = "spec") -> Any:
    """Open an array that may be larger than memory: its shape and dtype are known, its rows stay in the file.

    "file.npy" is memory-mapped. "file.h5:group/data" and "file.zarr:group/data" are opened read-only, as an
    h5py.Dataset and a zarr.Array; an array at the root of a .zarr folder has no key. Files of other
    kinds are read whole by `read_array`, whose rules and errors apply here too.

    Raises ImportError if h5py or zarr is needed and missing.
    """
    path, key = located(spec, name)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return read_npy(path, name, mapped=True)
    if suffix in (".h5", ".hdf5"):
        return _open_h5(path, key, name)
    return _open_zarr(path, key, name) if suffix == ".zarr" else read_array(spec, name=name)


def open_named(spec: str | os.PathLike[str], *, name: str = "spec", id_column: bool = False) -> Any:
    """As `open_array`, but a table in text becomes a `Labelled` with the names that it has.

    With `id_column`, the first column of a table is names, whatever it looks like.
    """
    if not os.fspath(spec).lower().endswith((".csv", ".tsv")):
        return open_array(spec, name=name)
    path, _ = located(spec, name)
    return read_table(path, name, id_column=id_column)


def located(spec: str | os.PathLike[str], name: str) -> tuple[pathlib.Path, str | None]:
    """The path of a spec, which must exist, and its key."""
    text = os.fspath(spec)
    match = SPEC.fullmatch(text)
    if match is None:
        raise ValueError(
            f"Argument '{name}' must be a {_listed(READABLE)} file, not {text!r}: convert it first."
        )
    path, key = pathlib.Path(match[1]), match[2]
    suffix = path.suffix.lower()
    check_there(path, name, "folder" if suffix == ".zarr" else "file")
    if key is not None and suffix in (".npy", ".csv", ".tsv"):
        _reject_key(f"a {suffix} file", text, key, name)
    return path, key


def check_there(path: pathlib.Path, name: str, wanted: str = "file") -> None:
    """Raise unless there is such a file, or a folder if that is wanted."""
    kind, found = (IsADirectoryError, "folder") if path.is_dir() else (NotADirectoryError, "file")
    if not path.exists():
        raise FileNotFoundError(
            f"Argument '{name}' must be a {wanted}, and {str(path)!r} is missing: check the path."
        )
    if found != wanted:
        raise kind(f"Argument '{name}' must be a {wanted}, and {str(path)!r} is a {found}: check the path.")


def _reject_key(what: str, text: str, key: str, name: str) -> NoReturn:
    raise ValueError(f"Argument '{name}' must be without a key for {what}, not {text!r}: drop ':{key}'.")


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


def read_npy(path: pathlib.Path, name: str, *, mapped: bool = False) -> Array:
    with intact(path, name), path.open("rb") as file:
        _, dtype = _npy_header(file)
        if mapped and not dtype.hasobject:
            array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
            return array
        if not dtype.hasobject:
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
    _reject_pickle(path, "the array", name)


def _read_npz(path: pathlib.Path, key: str | None, name: str) -> Array:
    arrays = npz_headers(path, name)
    numeric = {k: shape for k, (shape, dtype) in arrays.items() if dtype.kind in "biuf"}
    key = choose(path, key, {k: shape for k, (shape, _) in arrays.items()}, numeric, name)
    return npz_array(path, key, arrays, name)


def npz_headers(path: pathlib.Path, name: str) -> dict[str, Any]:
    """The shape and dtype of each array of a .npz file."""
    arrays = {}
    with intact(path, name), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as file:
                    arrays[member.removesuffix(".npy")] = _npy_header(file)
    return arrays


def npz_array(path: pathlib.Path, key: str, arrays: dict[str, Any], name: str) -> Array:
    if arrays[key][1].hasobject:
        _reject_pickle(path, repr(key), name)
    with intact(path, name), zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_mat(path: pathlib.Path, key: str | None, name: str) -> Array:
    from scipy.io import loadmat, whosmat

    with path.open("rb") as file:
        if file.read(10) == b"MATLAB 7.3":
            raise ValueError(
                f"Argument '{name}' must be a MATLAB file up to version 7, and {str(path)!r} is 7.3: "
                "save it in MATLAB with save(..., '-v7')."
            )
    with intact(path, name):
        found = whosmat(path, appendmat=False)
    numeric = {k: shape for k, shape, kind in found if kind in _MATLAB_NUMBERS}
    key = choose(path, key, {k: shape for k, shape, _ in found}, numeric, name)
    with intact(path, name):
        array: Array = loadmat(path, variable_names=[key], appendmat=False)[key]
    return array


def _open_h5(path: pathlib.Path, key: str | None, name: str) -> Any:
    """The dataset; its file stays open for as long as the dataset is referenced."""
    h5py = optional("h5py", reading(path), "h5")
    arrays: dict[str, Any] = {}

    def collect(place: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.shape is not None:
            arrays[place] = node

    with intact(path, name):
        file = h5py.File(path, "r")
        node = file.get(key) if key else None
        if not isinstance(node, h5py.Dataset):
            node = None
            file.visititems(collect)
    return _chosen(path, key, node, arrays, name)


def _open_zarr(path: pathlib.Path, key: str | None, name: str) -> Any:
    zarr = optional("zarr", reading(path))
    arrays: dict[str, Any] = {}

    def collect(group: Any, prefix: str = "") -> None:
        arrays.update((prefix + place, array) for place, array in group.arrays())
        for place, inner in group.groups():
            collect(inner, f"{prefix}{place}/")

    with intact(path, name):
        node = root = zarr.open(str(path), mode="r")
        at_root = isinstance(root, zarr.Array)
        if not at_root:
            node = root.get(key) if key else None
            if not isinstance(node, zarr.Array):
                node = None
                collect(root)
    if at_root and key is not None:
        _reject_key("an array at the root", f"{path}:{key}", key, name)
    return _chosen(path, key, node, arrays, name)


def reading(path: pathlib.Path) -> str:
    """Words for an error that says what a missing library is needed for."""
    return f"Reading {path.suffix.lower()} files"


def _chosen(path: pathlib.Path, key: str | None, node: Any, arrays: dict[str, Any], name: str) -> Any:
    """The node that the key leads to, or else the one of `arrays` that is meant. It must hold numbers."""
    if node is None:
        shapes = {k: array.shape for k, array in arrays.items()}
        numeric = {k: array.shape for k, array in arrays.items() if array.dtype.kind in "biuf"}
        key = choose(path, key, shapes, numeric, name)
        node = arrays[key]
    if node.shape is None or node.dtype.kind not in "biufc":  # a later check refuses complex numbers
        found = "is empty" if node.shape is None else f"is of dtype {node.dtype}"
        what = repr(key) if key else "the array"
        raise ValueError(
            f"Argument '{name}' must hold numbers, and {what} in {str(path)!r} {found}: name another array."
        )
    return node


def choose(
    path: pathlib.Path,
    key: str | None,
    shapes: dict[str, tuple[int, ...]],
    numeric: dict[str, tuple[int, ...]],
    name: str,
) -> str:
    """The key that is meant: the given one, or the key of the only numeric array or matrix."""
    if key in shapes:
        return key
    if key is None:
        matrices = [k for k, shape in numeric.items() if len(shape) > 1 and min(shape) > 1]
        for candidates in (list(numeric), matrices):
            if len(candidates) == 1:
                return candidates[0]
    there = [f"{k} {' x '.join(map(str, shape))}".rstrip() for k, shape in shapes.items()]
    if len(there) > LISTED:
        there[LISTED:] = [f"{len(there) - LISTED} more"]
    asked = "none was given" if key is None else f"{key!r} is not one"
    raise ValueError(
        f"Argument '{name}' must name an array of {str(path)!r}, and {asked}: write '{path.name}:KEY' with "
        f"one of {', '.join(there) or '(none: the file is empty)'}."
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
    """Return `path` if a file with one of these suffixes can be written there; nothing is changed on disk.

    It must not be one of the files that the specs in `read` name, nor lie in one of the folders.

    Raises ValueError or an OSError with the remedy. It is called before a long computation, so that no result
    is lost.
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
    specs = ((spec, SPEC.fullmatch(spec)) for spec in read)
    inputs = (pathlib.Path(match[1] if match else spec).resolve() for spec, match in specs)
    for source in filter(os.path.exists, inputs):
        if (target.exists() and target.samefile(source)) or source in target.resolve().parents:
            raise ValueError(
                f"Argument '{name}' must not be {'in a folder' if source.is_dir() else 'a file'} that is "
                f"read, as {str(target)!r} is: choose another name."
            )
    if target.exists() and not os.access(target, os.W_OK):
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
    """Give a draft path, beside `path` and with its suffix; the draft replaces `path` at the end.

    If the block raises, the draft is deleted and `path` stays as it was.
    """
    target = pathlib.Path(os.path.realpath(path))  # a symbolic link stays, and its target is replaced
    draft = target.with_name(f".{target.stem}-{secrets.token_hex(4)}{target.suffix}")
    try:
        yield draft
        os.replace(draft, target)
    except BaseException:  # Ctrl-C as well
        draft.unlink(missing_ok=True)
        raise


def json_text(record: Any, path: str | os.PathLike[str] | None = None) -> str:
    """A record as JSON, written to a .json file too if a path is given."""
    text = json.dumps(record, allow_nan=False, indent=1)
    if path is not None:
        with writing(check_output(path, (".json",))) as draft:
            draft.write_text(text + "\n", encoding="utf-8")
    return text
