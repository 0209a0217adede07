"""Open a dask array: leave its chunks on their cluster, or compute it here once."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.labels import outside
from .._inputs.validation import available_memory, check_form
from .chunked import Chunked
from .cluster import client_of, smallest_memory
from .rows import Rows
from .stored import Stored
from .worker_faults import unreadable


def dask_array(name: str, X: Any) -> Any:
    """Return the dask array that X is or holds; None if it is something else."""
    if type(X).__name__ == "Future" and type(X).__module__.startswith("distributed."):
        raise TypeError(
            f"Argument '{name}' must be a dask array, not a Future of one: use .result(), or "
            "dask.array.from_delayed."
        )
    dask = sys.modules.get("dask")
    if dask is None or not dask.is_dask_collection(X):
        return None
    if type(X).__module__.startswith("xarray."):
        return getattr(X, "data", None)  # a Dataset has no data
    if hasattr(type(X), "to_dask_array"):  # a DataFrame or a Series
        raise TypeError(
            f"Argument '{name}' must be a dask array, not a dask {type(X).__name__}: use "
            ".to_dask_array(lengths=True)."
        )
    if not all(hasattr(type(X), attribute) for attribute in ("chunks", "dtype", "shape")):
        raise TypeError(
            f"Argument '{name}' must be a dask array, not a {type(X).__name__.removesuffix('Leaf')}: use "
            "dask.array.from_delayed, or compute it."
        )
    return X


def opened(name: str, X: Any, forms: Sequence[str]) -> NDArray[Any] | Rows:
    """Return X as chunks on its cluster; without one, as an array, or as `Stored` if that is too large."""
    if any(np.isnan(n) for n in X.shape):
        raise ValueError(
            f"Argument '{name}' must have chunks of known sizes, not of shape {X.shape}: call "
            f"{name}.compute_chunk_sizes(), or give the sizes where it is made."
        )
    check_form(name, X, forms)
    client = client_of(name, X)
    _require_holder(name, X, client)
    if client is None:
        nbytes = 2 * X.dtype.itemsize * X.size  # the chunks, and the array that they are copied into
        return _computed(name, X) if nbytes <= available_memory() else Stored(name, X)
    return Chunked.of(name, _in_rows(name, X, client), client)


def _require_holder(name: str, X: Any, client: Any) -> None:
    """Raise an error if X has chunks on a cluster other than that of this client."""
    if "distributed" not in sys.modules:
        return
    from distributed import futures_of

    holders = {future.client for future in futures_of(X)} - {client}
    if holders:
        closed = any(holder.status == "closed" for holder in holders)
        raise ValueError(
            f"Argument '{name}' must be computed by the client that holds its chunks, "
            + ("which is closed: make it again." if closed else "not by another: use client.as_current().")
        )


def _computed(name: str, X: Any) -> NDArray[Any]:
    """Compute all of X with a local scheduler."""
    try:
        return np.asanyarray(X.compute())
    except MemoryError:
        raise
    except Exception as error:  # any error of a file or a function that X is made from
        raise unreadable(name, "it", error) from error


def _in_rows(name: str, X: Any, client: Any) -> Any:
    """Return X with all conditions in each chunk; warn if it has to be rechunked."""
    if len(X.chunks[1]) == 1:
        return X
    largest = max(X.chunks[0]) * X.shape[1] * X.dtype.itemsize
    room = smallest_memory(client)
    if 4 * largest > room:
        raise ValueError(
            f"Argument '{name}' must be chunked by rows, not along its conditions: a chunk with all of them "
            f"takes {largest / 1e9:.3g} GB, too much beside the {room / 1e9:.3g} GB of a worker. Rechunk it "
            "to fewer rows, as with .rechunk({0: 'auto', 1: -1})."
        )
    warnings.warn(
        f"Argument '{name}' is chunked along its conditions: it is rechunked by rows, which moves it once.",
        UserWarning,
        stacklevel=outside(),
    )
    return X.rechunk({1: -1})
