"""Opens X in any form that users pass: an array, a file, or a dask array."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .._inputs.labels import trial_axis, without_names
from .._inputs.validation import check_array, check_form
from .dask_arrays import dask_array, opened
from .rows import Array, Rows
from .stored import Stored, is_stored

FORMS = (("channels", "conditions"), ("trials", "channels", "conditions"))


def over_trials(
    name: str, X: Any, nan_policy: str = "raise", *, center: bool = True, rows: str | None = None
) -> Any:
    """X as `_inputs.trials.reduced` has it: itself, unless it has trials or may have missing values."""
    if nan_policy == "raise" and trial_axis(X, name) is None:
        return X
    from .._inputs.trials import reduced  # few need it

    return reduced(name, X, nan_policy, center=center, rows=rows)


def check_responses(name: str, X: Any) -> Array | Rows:
    """X as an array with two axes, in memory or outside it. Its values are not checked.

    Responses in trials, with three axes, are averaged.
    """
    if type(X) is np.ndarray and X.ndim != 3:
        return check_array(name, X, *FORMS)
    if trial_axis(X, name) is not None:
        return check_array(name, over_trials(name, X).values, *FORMS)
    X = without_names(X)
    if isinstance(X, (str, bytes, os.PathLike)):
        raise TypeError(
            f"Argument '{name}' must be an array, not a path: open it, as with np.load(path, mmap_mode='r')."
        )
    if (lazy := dask_array(name, X)) is not None:
        X = opened(name, lazy, FORMS[0])
    if isinstance(X, Rows):
        return X
    if hasattr(X, "keys") and not hasattr(X, "__array__"):  # a file or group of HDF5 or Zarr, a dict
        raise TypeError(
            f"Argument '{name}' must be an array, not a {type(X).__name__}: name one that it holds."
        )
    if not is_stored(X):
        return check_array(name, X, *FORMS)
    stored = Stored(name, X)
    check_form(name, stored, *FORMS)
    return stored
