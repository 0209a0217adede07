"""Opens X in any form that users pass: an array, a file, or a dask array."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .._inputs.labels import without_names
from .._inputs.validation import check_array, check_form
from .dask_arrays import dask_array, opened
from .rows import Array, Rows
from .stored import Stored, is_stored


def check_responses(name: str, X: Any) -> Array | Rows:
    """X as an array with two axes, in memory or outside it. Its values are not checked."""
    forms = ("channels", "conditions")
    if type(X) is np.ndarray:
        return check_array(name, X, forms)
    X = without_names(X)
    if isinstance(X, (str, bytes, os.PathLike)):
        raise TypeError(
            f"Argument '{name}' must be an array, not a path: open it, as with np.load(path, mmap_mode='r')."
        )
    if (lazy := dask_array(name, X)) is not None:
        X = opened(name, lazy, forms)
    if isinstance(X, Rows):
        return X
    if hasattr(X, "keys") and not hasattr(X, "__array__"):  # a file or group of HDF5 or Zarr, a dict
        raise TypeError(
            f"Argument '{name}' must be an array, not a {type(X).__name__}: name one that it holds."
        )
    if not is_stored(X):
        return check_array(name, X, forms)
    stored = Stored(name, X)
    check_form(name, stored, forms)
    return stored
