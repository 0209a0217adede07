"""Reads names from files: lines of text, or an array of texts or whole numbers."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import SPEC, check_there, choose, located, npz_array, npz_headers, read_npy, reading
from .optional import optional
from .text_tables import intact

Array = NDArray[Any]


def read_names(spec: str, n: int, *, name: str, what: str) -> list[Any]:
    """Read n names: an array in .npy, .npz:key or .h5:dataset, or else the lines of a text file."""
    match = SPEC.fullmatch(spec)
    suffix = pathlib.Path(match[1]).suffix.lower() if match else ""
    if suffix not in (".npy", ".npz", ".h5", ".hdf5"):
        names: list[Any] = read_lines(spec, name)
    else:
        path, key = located(spec, name)
        if suffix == ".npy":
            array = read_npy(path, name)
        else:
            array = (_of_npz if suffix == ".npz" else _of_h5)(path, key, n, name)
        if array.ndim != 1 or array.dtype.kind not in "USiu":
            raise ValueError(
                f"Argument '{name}' must hold a vector of texts or whole numbers, not one of dtype "
                f"{array.dtype} and shape {array.shape}: write a text file with a name a line."
            )
        texts = np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array
        names = texts.tolist()
    if len(names) != n:
        raise ValueError(
            f"Argument '{name}' must hold a name for each of the {n} {what}, and {spec!r} holds "
            f"{len(names)}: write one for each."
        )
    return names


def read_lines(path: str, name: str) -> list[str]:
    """The lines of a text file, without empty ones."""
    check_there(pathlib.Path(path), name)
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(
            f"Argument '{name}' must be a text file, and {path!r} is not: write a name a line."
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _of_npz(path: pathlib.Path, key: str | None, n: int, name: str) -> Array:
    arrays = npz_headers(path, name)
    fitting = {k: shape for k, (shape, dtype) in arrays.items() if shape == (n,) and dtype.kind in "USiu"}
    chosen = choose(path, key, {k: shape for k, (shape, _) in arrays.items()}, fitting, name)
    return npz_array(path, chosen, arrays, name)


def _of_h5(path: pathlib.Path, key: str | None, n: int, name: str) -> Array:
    h5py = optional("h5py", reading(path), "h5")
    shapes: dict[str, tuple[int, ...]] = {}
    kinds: dict[str, str] = {}

    def collect(place: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.shape is not None:
            text = h5py.check_string_dtype(node.dtype) is not None
            shapes[place], kinds[place] = node.shape, "U" if text else node.dtype.kind

    with intact(path, name), h5py.File(path, "r") as file:
        file.visititems(collect)
    fitting = {k: shape for k, shape in shapes.items() if [*shape] == [n] and kinds[k] in "Uiu"}
    chosen = choose(path, key, shapes, fitting, name)
    with intact(path, name), h5py.File(path, "r") as file:
        node = file[chosen]
        return np.asarray(node.asstr()[...], str) if kinds[chosen] == "U" else np.asarray(node[...])
