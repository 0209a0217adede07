"""save() and load(): a fit, a path, a study or a test in one file, .npz or HDF5, without pickle.

Arrays are entries of the names they have there, as ``fits.0.gains``; all else is JSON in the entry
``metadata``, which says where each array belongs. A checksum is of both: HDF5 has none of its own.
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

from .._inputs.files import check_output, library, writing
from .._inputs.text_tables import intact
from .._studies.permutation_test import ChannelTest, PermutationTest
from .._studies.ridge_path import RidgePath
from .._version import __version__
from .cross_validation import CrossValidation, Nested, Scores
from .fit import Fit
from .moments import Moments

Array = NDArray[Any]

FORMAT_VERSION = 2  # 1 was without nuisance terms, and with other scores of studies
SUFFIXES = (".npz", ".h5", ".hdf5")

_SPARSE: dict[str, Any] = {"csr_array": sp.csr_array, "csr_matrix": sp.csr_matrix}
_PARTS = ("data", "indices", "indptr")


def save(value: Fit | RidgePath | CrossValidation | PermutationTest, path: str | os.PathLike[str]) -> None:
    """Write a fit, a path, a study or a test to a file, beside it and renamed."""
    target = check_output(path, SUFFIXES)
    if target.suffix.lower() != ".npz":
        library("h5py", target, "h5", "Writing")
    arrays: dict[str, Array] = {}
    if isinstance(value, RidgePath):  # whose fits may not be made yet
        value = dataclasses.replace(value, fits=tuple(value.fits))
    metadata = json.dumps(_encoded(value, "", arrays), allow_nan=False).encode("ascii")
    write_entries(target, {
        "format": f"fastcov.{type(value).__name__}",
        "format_version": FORMAT_VERSION,
        "version": __version__,
        **_readable(value, arrays),
        **arrays,
        "metadata": np.bytes_(metadata),
        "checksum": _checksum(metadata, arrays),
    })  # fmt: skip


def _readable(value: Any, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """What whoever opens the file without fastcov may look for, and `load` does not."""
    found: dict[str, Any]
    if isinstance(value, CrossValidation):
        found = {"methods": np.array(value.methods, dtype=str)}
        for method, scores in value.scores.items():  # which are held as the sums that they are made of
            found |= {f"scores.{method}.{name}": getattr(scores, name) for name in ("r2", "pearson")}
    elif isinstance(value, PermutationTest):
        found = {name: getattr(value, name) for name in ("method", "score", "observed", "p")}
    elif isinstance(value, RidgePath):
        names = ("ridges", "relative_ridges", "loss", "r2", "residual", "status")
        numbers = {name: getattr(value, name) for name in names}
        found = {
            "method": value[0].method, **{name: each for name, each in numbers.items() if each is not None}
        }  # fmt: skip
    else:
        found = {
            "method": value.method, "status": value.status, "center": value.stats["center"],
            **{name: np.nan if (given := getattr(value, name)) is None else given
               for name in ("ridge", "relative_ridge")},
        }  # fmt: skip
        for name in ("channels", "conditions"):
            if (labels := getattr(value, name)) is not None:
                found[name] = np.array([str(each) for each in labels])
    return {name: each for name, each in found.items() if name not in arrays and not sp.issparse(each)}


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` of a Fit, RidgePath, CrossValidation or PermutationTest wrote to a file.

    Parameters
    ----------
    path : path
        Of a .npz, .h5 or .hdf5 file.

    Returns
    -------
    Fit, RidgePath, CrossValidation or PermutationTest
        What the file is of, equal to what was saved, bit by bit: arrays, names, stats, and all fits and
        studies within.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    ImportError
        If the file is HDF5 and h5py is missing.
    ValueError
        If the file is none of these, is of a later version of the format, holds a study of version 1, which
        had other scores, or is damaged.

    Notes
    -----
    Nothing in the file is executed: numbers are arrays, all else is JSON. Without fastcov,
    ``numpy.load(path)`` has ``"gains"``, ``"delta"``, ``"covariance"``, ``"target"``, ``"loss"`` and more of
    a fit, ``"ridges"``, ``"loss"`` and ``"fits.0.gains"`` of a path, ``"ridges"`` and ``"scores.exact.r2"``
    of a study, ``"p"`` and ``"null"`` of a test.

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
    form = None if entries is None else _text(entries.get("format"))
    if entries is None or form is None or not form.startswith("fastcov."):
        raise ValueError(
            f"Argument 'path' must be a file that save of a {_KINDS} wrote, and {str(file)!r} is none: fit "
            "again and save the fit."
        )
    with intact(file, "path"):
        version = int(_entry(entries, "format_version"))
        writer = _text(entries.get("version")) or "unknown"
    if form not in _FORMATS:
        raise ValueError(
            f"Argument 'path' must hold a {_KINDS}, and {str(file)!r} is of class "
            f"{form.removeprefix('fastcov.')}, of fastcov {writer}: upgrade fastcov to that."
        )
    if version > FORMAT_VERSION:
        raise ValueError(
            f"Argument 'path' must be of format version {FORMAT_VERSION}, which fastcov {__version__} reads, "
            f"and {str(file)!r} is of version {version}, of fastcov {writer}: upgrade fastcov to that."
        )
    with intact(file, "path"):
        metadata = bytes(_entry(entries, "metadata")[()])
    if version == 1 and b'"class": "CrossValidation"' in metadata:
        raise ValueError(
            f"Argument 'path' must hold a study of format version {FORMAT_VERSION}, and {str(file)!r} holds "
            f"one of version 1, of fastcov {writer}, with other scores: cross-validate again."
        )
    with intact(file, "path"):
        record, places = json.loads(metadata), set[str]()
        value = _decoded(record, entries, places)
        if version < 1 or _text(_entry(entries, "checksum")) != _checksum(
            metadata, {place: entries[place] for place in places}
        ):
            raise ValueError("its checksum is that of other content")
        if type(value).__name__ != _FORMATS[form]:
            raise ValueError(f"it holds no {_FORMATS[form]}")
    return value


# ---- checks: all shapes belong together, or ValueError


def _agree(wanted: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    """Raise unless each shape is the one that others say."""
    for name, (found, shape) in wanted.items():
        if tuple(found) != tuple(shape):
            raise ValueError(f"the shape of {name!r} is {tuple(found)}, and others say {tuple(shape)}")


def _check_fit(fit: Fit) -> None:
    N, D = fit.stats["shape"]
    T = fit.delta.shape[:-1]
    if len(T) > 1:
        raise ValueError(f"the shape of 'gains' is {fit.delta.shape}, and others say {(N,)}")
    square = (*T, D, D)
    _agree({
        "delta": (fit.delta.shape, (*T, N)),
        "gains": (fit._gains.shape, (*T, N)),
        "covariance": (fit._covariance.shape, square),
        "target": (fit._target.shape, square),
        "covariance_at_one": (fit._covariance_at_one.shape, (D, D)),
        **{name: (np.shape(getattr(fit, name)), T) for name in ("loss", "loss_at_one", "r2", "residual")},
        **{f"nuisance.{name}": (np.shape(value), T) for name, value in fit.nuisance.items()},
        **{
            name: ((len(names),), (n,))
            for name, names, n in (("channels", fit.channels, N), ("conditions", fit.conditions, D))
            if names is not None
        },
    })  # fmt: skip
    fit.delta.flags.writeable = False


def _check_path(path: RidgePath) -> None:
    if not path.fits or not all(isinstance(fit, Fit) for fit in path.fits):
        raise ValueError("it is not of fits")
    first = path.fits[0]
    for k, fit in enumerate(path.fits):
        _agree({
            f"fits.{k}": (fit.stats["shape"], first.stats["shape"]),
            f"fits.{k}.delta": (fit.delta.shape, first.delta.shape),
        })  # fmt: skip


def _check_study(cv: CrossValidation) -> None:
    """Of fields that are known here; others may be of any shape."""
    N, D = cv.stats["shape"]
    F, K = len(cv.folds), len(cv.ridges)
    if not all(np.all((part >= 0) & (part < D)) for fold in cv.folds for part in fold):
        raise ValueError(f"'folds' hold out other conditions than {D}")
    wanted: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "ridges": (np.shape(cv.ridges), (K,)),
        **{f"baselines.{name}": (moments.sums.shape[:-1], (F,)) for name, moments in cv.baselines.items()},
    }
    for method, scores in cv.scores.items():
        wanted[f"scores.{method}.moments"] = scores.moments.sums.shape[:-1], (K, F)
        if scores.shuffled is not None:
            wanted[f"scores.{method}.shuffled"] = scores.shuffled.sums.shape[1:-1], (K, F)
        if scores.nested is not None:
            wanted[f"scores.{method}.nested.places"] = np.shape(scores.nested.places), (F,)
            wanted[f"scores.{method}.nested.moments"] = scores.nested.moments.sums.shape[:-1], (F,)
        for name in ("residual", "status", "errors", "gains"):
            if (values := getattr(scores, name)) is not None:
                wanted[f"scores.{method}.{name}"] = np.shape(values)[:2], (F, K)
    for name, moments in cv.baselines_shuffled.items():
        wanted[f"baselines_shuffled.{name}"] = moments.sums.shape[1:-1], (F,)
    wanted |= {f"fits.{method}": (fit.stats["shape"], (N, D)) for method, fit in cv.fits.items()}
    _agree(wanted)


def _check_test(test: PermutationTest) -> None:
    N, _ = test.cv.stats["shape"]
    K = len(test.null)
    wanted = {f"null_over.{name}": (np.shape(null), (K,)) for name, null in test.null_over.items()}
    for method, scores in test.cv.scores.items():
        found = () if scores.shuffled is None else scores.shuffled.sums.shape[:1]
        wanted[f"cv.scores.{method}.shuffled"] = found, (K,)
    if test.channels is not None:
        for name in ("gains", "mean", "deviation", "p", "q"):
            wanted[f"channels.{name}"] = np.shape(getattr(test.channels, name)), (N,)
        wanted["channels.correlation"] = np.shape(test.channels.correlation), (K,)
    _agree(wanted)


# What may be in a file, by itself or inside of another: frozen dataclasses, whose fields that are missing in
# an older file take their defaults.
_CLASSES: dict[str, type[Any]] = {
    "Fit": Fit,
    "RidgePath": RidgePath,
    "CrossValidation": CrossValidation,
    "Scores": Scores,
    "Moments": Moments,
    "Nested": Nested,
    "PermutationTest": PermutationTest,
    "ChannelTest": ChannelTest,
}
# What a file may be of, by the name of its format; and what is checked wherever it stands.
_FORMATS = {f"fastcov.{name}": name for name in ("Fit", "RidgePath", "CrossValidation", "PermutationTest")}
_KINDS = "Fit, RidgePath, CrossValidation or PermutationTest"
_CHECKS: dict[str, Callable[[Any], None]] = {
    "Fit": _check_fit,
    "RidgePath": _check_path,
    "CrossValidation": _check_study,
    "PermutationTest": _check_test,
}


# ---- values as JSON and arrays


def _encoded(value: Any, place: str, arrays: dict[str, Array]) -> Any:
    """What JSON can say of a value; numbers of NumPy go to `arrays`."""
    name = type(value).__name__
    if type(value) is _CLASSES.get(name):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
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


def _decoded(value: Any, entries: Mapping[str, Any], places: set[str]) -> Any:
    """What `_encoded` was given; adds to `places` the entries that are used."""

    def inside(each: Any) -> Any:
        return _decoded(each, entries, places)

    if isinstance(value, list):
        return [inside(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "class" in value:
        name = value["class"]
        found = _CLASSES[name](**{k: inside(v) for k, v in value["fields"].items()})
        if name in _CHECKS:
            _CHECKS[name](found)
        return found
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
