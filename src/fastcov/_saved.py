"""Fit.save() and load(): a fit in one file, .npz or HDF5, without pickle.

Arrays are entries of the names they have in a `Fit`; all else is JSON in the entry ``metadata``, which
says where each array belongs. A checksum is of both: HDF5 has none of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from . import __version__
from ._io import check_output, library, writing
from ._result import Fit
from ._scores import CrossValidation, Scores
from ._tables import intact

Array = NDArray[Any]

FORMAT = "fastcov.Fit"
FORMAT_VERSION = 2  # 1 was without nuisance terms
SUFFIXES = (".npz", ".h5", ".hdf5")

_SPARSE: dict[str, Any] = {"csr_array": sp.csr_array, "csr_matrix": sp.csr_matrix}
_PARTS = ("data", "indices", "indptr")
_CLASSES: dict[str, Any] = {"Fit": Fit, "CrossValidation": CrossValidation, "Scores": Scores}


def save(fit: Fit, path: str | os.PathLike[str]) -> None:
    """Write a fit to a file, beside it and renamed."""
    target = check_output(path, SUFFIXES)
    if target.suffix.lower() != ".npz":
        library("h5py", target, "h5", "Writing")
    arrays: dict[str, Array] = {}
    metadata = json.dumps(_encoded(fit, "", arrays), allow_nan=False).encode("ascii")
    write_entries(target, {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "version": __version__,
        **_readable(fit, arrays),
        **arrays,
        "metadata": np.bytes_(metadata),
        "checksum": _checksum(metadata, arrays),
    })  # fmt: skip


def _readable(fit: Fit, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """What whoever opens the file without fastcov may look for, and `load` does not."""
    found: dict[str, Any] = {
        "method": fit.method, "status": fit.status, "center": fit.stats["center"],
        **{name: np.nan if (value := getattr(fit, name)) is None else value
           for name in ("ridge", "relative_ridge")},
    }  # fmt: skip
    for name in ("channels", "conditions"):
        if (names := getattr(fit, name)) is not None:
            found[name] = np.array([str(each) for each in names])
    return {name: value for name, value in found.items() if name not in arrays and not sp.issparse(value)}


def load(path: str | os.PathLike[str]) -> Fit:
    """Read a fit from a file that `Fit.save` wrote.

    Parameters
    ----------
    path : path
        Of a .npz, .h5 or .hdf5 file.

    Returns
    -------
    Fit
        Equal to the one that was saved, bit by bit: arrays, names, `Fit.stats`, and the
        `CrossValidation` in them.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    ImportError
        If the file is HDF5 and h5py is missing.
    ValueError
        If the file is none of `Fit.save`, is of a later version of the format, or is damaged.

    Notes
    -----
    Nothing in the file is executed: numbers are arrays, all else is JSON. Without fastcov,
    ``numpy.load(path)`` has ``"gains"``, ``"delta"``, ``"covariance"``, ``"target"``, ``"loss"`` and more.

    Examples
    --------
    >>> import os, tempfile, fastcov as fc
    >>> sim = fc.datasets.simulate(20, 6, rng=0)
    >>> fit = fc.fit(sim.X, sim.S, relative_ridge=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "fit.npz")
    ...     fit.save(path)
    ...     same = fc.load(path)
    >>> bool((same.gains == fit.gains).all())
    True
    """
    file = pathlib.Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"Argument 'path' must end in .npz, .h5 or .hdf5, not be {str(file)!r}: rename it.")
    if file.is_dir():
        raise IsADirectoryError(
            f"Argument 'path' must be a file, and {str(file)!r} is a folder: check the path."
        )
    if not file.exists():
        raise FileNotFoundError(
            f"Argument 'path' must be a file, and {str(file)!r} is missing: check the path."
        )
    read = _read_npz if file.suffix.lower() == ".npz" else _read_h5
    entries = read(file)
    if entries is None or _text(entries.get("format")) != FORMAT:
        raise ValueError(
            f"Argument 'path' must be a file that Fit.save wrote, and {str(file)!r} is none: fit again and "
            "save the fit."
        )
    with intact(file, "path"):
        version = int(_entry(entries, "format_version"))
        writer = _text(entries.get("version")) or "unknown"
    if version > FORMAT_VERSION:
        raise ValueError(
            f"Argument 'path' must be of format version {FORMAT_VERSION}, which fastcov {__version__} reads, "
            f"and {str(file)!r} is of version {version}, of fastcov {writer}: upgrade fastcov to that."
        )
    with intact(file, "path"):
        metadata = bytes(_entry(entries, "metadata")[()])
        record, places = json.loads(metadata), set[str]()
        fit = _decoded(record, entries, places)
        if version < 1 or _text(_entry(entries, "checksum")) != _checksum(
            metadata, {place: entries[place] for place in places}
        ):
            raise ValueError("its checksum is that of other content")
        _check(fit)
    fit.delta.flags.writeable = False
    return fit


def _check(fit: Any) -> None:
    """Raise unless all shapes belong together."""
    if not isinstance(fit, Fit):
        raise ValueError("it holds no fit")
    N, D = fit.stats["shape"]
    T = fit.delta.shape[:-1]
    square = (*T, D, D)
    wanted: dict[str, tuple[Any, tuple[int, ...]]] = {
        "delta": (fit.delta, (*T, N)),
        "gains": (fit._gains, (*T, N)),
        "covariance": (fit._covariance, square),
        "target": (fit._target, square),
        "covariance_at_one": (fit._covariance_at_one, (D, D)),
        **{name: (getattr(fit, name), T) for name in ("loss", "loss_at_one", "r2", "residual")},
        **{f"nuisance.{name}": (value, T) for name, value in fit.nuisance.items()},
        **{
            name: (np.empty(len(names)), (n,))
            for name, names, n in (("channels", fit.channels, N), ("conditions", fit.conditions, D))
            if names is not None
        },
    }
    for name, (value, shape) in wanted.items():
        if np.shape(value) != shape or len(T) > 1:
            raise ValueError(f"the shape of {name!r} is {np.shape(value)}, and others say {shape}")


# ---- values as JSON and arrays


def _encoded(value: Any, place: str, arrays: dict[str, Array]) -> Any:
    """What JSON can say of a value; numbers of NumPy go to `arrays`."""
    name = type(value).__name__
    if type(value) is _CLASSES.get(name):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
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
        f"Argument 'fit' must hold numbers, texts, lists and dicts in its stats, not a {name} in {place!r}: "
        "remove it."
    )


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _decoded(value: Any, entries: Mapping[str, Any], places: set[str]) -> Any:
    """What `_encoded` was given; adds to `places` the entries that are used."""

    def inside(each: Any) -> Any:
        return _decoded(each, entries, places)

    if isinstance(value, list):
        return [inside(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "class" in value:
        return _CLASSES[value["class"]](**{k: inside(v) for k, v in value["fields"].items()})
    if "texts" in value:
        return np.array(value["texts"], value["dtype"]).reshape(value["shape"])
    if "sparse" in value:
        parts = tuple(inside(value[part]) for part in _PARTS)
        return _SPARSE[value["sparse"]](parts, shape=tuple(value["shape"]))
    ((kind, content),) = value.items()
    if kind in ("array", "scalar"):
        places.add(content)
        array = _entry(entries, content)
        return array if kind == "array" else array[()]
    if kind == "dict":
        return {k: inside(v) for k, v in content.items()}
    return float(content) if kind == "float" else tuple(inside(each) for each in content)


def _entry(entries: Mapping[str, Any], name: str) -> Any:
    if name not in entries:
        raise ValueError(f"{name!r} is missing")
    return entries[name]


def _checksum(metadata: bytes, arrays: Mapping[str, Array]) -> str:
    found = hashlib.sha256(metadata)
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode("utf-8", "surrogatepass"))
        found.update(arrays[name].tobytes())
    return found.hexdigest()


def _text(entry: Any) -> str | None:
    value = entry[()] if isinstance(entry, np.ndarray) and entry.ndim == 0 else None
    return (
        value.decode("utf-8", "replace")
        if isinstance(value, bytes)
        else value
        if isinstance(value, str)
        else None
    )


# ---- files


def write_entries(path: pathlib.Path, entries: Mapping[str, Any]) -> None:
    """Arrays, numbers and texts to a .npz or HDF5 file, which takes its place at the end."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in entries.items()}
    if objects := [name for name, values in arrays.items() if values.dtype.hasobject]:
        raise TypeError(f"Argument 'entries' must hold arrays of numbers or texts, not objects in {objects}.")
    with writing(path) as draft:
        if path.suffix.lower() == ".npz":
            np.savez(draft, **arrays)
            return
        h5py = library("h5py", path, "h5", "Writing")
        with h5py.File(draft, "w", libver=("v110", "v110")) as file:  # whose headers have checksums
            for name, values in arrays.items():
                if values.dtype.kind == "U":
                    texts = [
                        each.replace("\0", "").encode("utf-8", "replace") for each in values.ravel().tolist()
                    ]
                    values = np.array(texts, object).reshape(values.shape)
                    file.create_dataset(name, data=values, dtype=h5py.string_dtype())
                else:
                    file.create_dataset(name, data=values)


def _read_npz(path: pathlib.Path) -> dict[str, Any] | None:
    """All entries; None if none says what the file is."""
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
    h5py = library("h5py", path, "h5")
    entries: dict[str, Any] = {}

    def collect(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            entries[name] = np.asarray(node[()])

    with intact(path, "path"), h5py.File(path, "r") as file:
        if not isinstance(file.get("format"), h5py.Dataset):
            return None
        file.visititems(collect)
    return entries
