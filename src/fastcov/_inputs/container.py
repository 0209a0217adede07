"""Stores any dataclass in one file, .npz or HDF5, without pickle.

Each array is an entry of the file, named by its place in the dataclass, as ``fits.0.gains``. Everything else
is JSON in the entry ``metadata``, which says where each array belongs. A checksum covers both, as HDF5 has
none of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .._version import __version__
from .files import check_output, reading, writing
from .optional import optional
from .text_tables import intact

Array = NDArray[Any]
Maker = Callable[[str, dict[str, Any]], Any]

FORMAT_VERSION = 2  # version 1 had no nuisance terms, and other scores of studies
SUFFIXES = (".npz", ".h5", ".hdf5")

_SPARSE: dict[str, Any] = {"csr_array": sp.csr_array, "csr_matrix": sp.csr_matrix}
_PARTS = ("data", "indices", "indptr")


def save(value: Any, path: str | os.PathLike[str], readable: Mapping[str, Any]) -> None:
    """Write a dataclass to a file: first to a draft beside it, which is then renamed.

    `readable` holds entries for readers who open the file without fastcov; `fastcov.load` ignores them.
    """
    target = check_output(path, SUFFIXES)
    if target.suffix.lower() != ".npz":
        optional("h5py", f"Writing {target.suffix.lower()} files", "h5")
    arrays: dict[str, Array] = {}
    metadata = json.dumps(_encoded(value, "", arrays), allow_nan=False).encode("ascii")
    write_entries(target, {
        "format": f"fastcov.{type(value).__name__}",
        "format_version": FORMAT_VERSION,
        "version": __version__,
        **{name: each for name, each in readable.items() if name not in arrays and not sp.issparse(each)},
        **arrays,
        "metadata": np.bytes_(metadata),
        "checksum": checksum(metadata, arrays),
    })  # fmt: skip


# ---- values as JSON and arrays


def _encoded(value: Any, place: str, arrays: dict[str, Array]) -> Any:
    """A value as JSON can hold it; NumPy arrays and scalars go to `arrays`."""
    name = type(value).__name__
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: getattr(value, f.name)
            for f in dataclasses.fields(value)
            if f.init and f.metadata.get("saved", True)
        }
        return {
            "class": name,
            "fields": {k: _encoded(v, _join(place, k.lstrip("_")), arrays) for k, v in fields.items()},
        }
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if name in _SPARSE and sp.issparse(value):
        parts = {part: _encoded(getattr(value, part), _join(place, part), arrays) for part in _PARTS}
        return {"sparse": name, "shape": list(value.shape), **parts}
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind in "biufc":
            while place in arrays:
                place += "_"
            arrays[place] = np.asarray(value)
            return {"array" if isinstance(value, np.ndarray) else "scalar": place}
        texts = np.asarray(value).ravel().tolist()
        if all(isinstance(text, str) for text in texts):
            return {"texts": texts, "shape": list(value.shape), "dtype": value.dtype.str}
    if isinstance(value, float):
        return value if np.isfinite(value) else {"float": str(value)}
    if isinstance(value, (list, tuple)):
        each = [_encoded(v, _join(place, str(i)), arrays) for i, v in enumerate(value)]
        return each if isinstance(value, list) else {"tuple": each}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {k: _encoded(v, _join(place, k), arrays) for k, v in value.items()}}
    raise TypeError(
        f"Argument 'value' must hold numbers, texts, lists and dicts, not a {name} in {place!r}: remove it."
    )


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def decoded(value: Any, entries: Mapping[str, Any], places: set[str], made: Maker) -> Any:
    """The value that was encoded; adds the names of the entries it uses to `places`.

    `made` takes the name of a dataclass and its fields, and returns an instance.
    """

    def inside(each: Any) -> Any:
        return decoded(each, entries, places, made)

    if isinstance(value, list):
        return [inside(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "class" in value:
        return made(value["class"], {k: inside(v) for k, v in value["fields"].items()})
    if "texts" in value:
        return np.array(value["texts"], value["dtype"]).reshape(value["shape"])
    if "sparse" in value:
        parts = tuple(inside(value[part]) for part in _PARTS)
        return _SPARSE[value["sparse"]](parts, shape=tuple(value["shape"]))
    ((kind, content),) = value.items()
    if kind in ("array", "scalar"):
        places.add(content)
        array = entry(entries, content)
        return array if kind == "array" else array[()]
    if kind == "dict":
        return {k: inside(v) for k, v in content.items()}
    return float(content) if kind == "float" else tuple(inside(each) for each in content)


def entry(entries: Mapping[str, Any], name: str) -> Any:
    """The entry with this name; a ValueError if it is missing."""
    if name not in entries:
        raise ValueError(f"{name!r} is missing")
    return entries[name]


def checksum(metadata: bytes, arrays: Mapping[str, Array]) -> str:
    """SHA-256 of the JSON and of all arrays with their names."""
    found = hashlib.sha256(metadata)
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode("utf-8", "surrogatepass"))
        found.update(arrays[name].tobytes())
    return found.hexdigest()


def text(stored: Any) -> str | None:
    """The text of an entry; None if the entry is not a text."""
    value: Any = stored[()] if isinstance(stored, np.ndarray) and stored.ndim == 0 else None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


# ---- files


def write_entries(path: pathlib.Path, entries: Mapping[str, Any]) -> None:
    """Write arrays, numbers and texts to a .npz or HDF5 file, which appears at `path` only when complete."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in entries.items()}
    if objects := [name for name, values in arrays.items() if values.dtype.hasobject]:
        raise TypeError(f"Argument 'entries' must hold arrays of numbers or texts, not objects in {objects}.")
    with writing(path) as draft:
        if path.suffix.lower() == ".npz":
            np.savez(draft, **arrays)
            return
        h5py = optional("h5py", f"Writing {path.suffix.lower()} files", "h5")
        with h5py.File(draft, "w", libver=("v110", "v110")) as file:  # headers in this format have checksums
            for name, values in arrays.items():
                if values.dtype.kind == "U":
                    texts = [
                        each.replace("\0", "").encode("utf-8", "replace") for each in values.ravel().tolist()
                    ]
                    values = np.array(texts, object).reshape(values.shape)
                    file.create_dataset(name, data=values, dtype=h5py.string_dtype())
                else:
                    file.create_dataset(name, data=values)


def read_entries(path: pathlib.Path) -> dict[str, Any] | None:
    """All entries of a file; None if it has no entry ``format``, which says what the file is."""
    return _read_npz(path) if path.suffix.lower() == ".npz" else _read_h5(path)


def _read_npz(path: pathlib.Path) -> dict[str, Any] | None:
    with intact(path, "path"), zipfile.ZipFile(path) as archive:
        if "format.npy" not in archive.namelist():
            return None
        return {
            name.removesuffix(".npy"): np.lib.format.read_array(
                io.BytesIO(archive.read(name)), allow_pickle=False
            )
            for name in archive.namelist()
        }


def _read_h5(path: pathlib.Path) -> dict[str, Any] | None:
    h5py = optional("h5py", reading(path), "h5")
    entries: dict[str, Any] = {}

    def collect(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            entries[name] = np.asarray(node[()])

    with intact(path, "path"), h5py.File(path, "r") as file:
        if not isinstance(file.get("format"), h5py.Dataset):
            return None
        file.visititems(collect)
    return entries
