"""Let the workers of a Dask cluster read a shared file themselves, each the rows of its own chunks."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.files import located, open_array
from .._inputs.validation import check_form
from .stored import Stored, is_stored

# Largest size of a chunk in bytes, unless the chunks in the file are larger: several then fit a worker, and a
# lost one is soon read again. And smallest size, in small files: a task then takes longer than its round
# trip.
CHUNK_BYTES, LEAST_BYTES = 1 << 26, 1 << 20
# Rows in the same chunk of the file are read together, up to this many bytes.
TOGETHER_BYTES = 1 << 29
# Chunks per thread: with more than one, no thread waits long for the last.
FOR_EACH_THREAD = 2


class SharedFile:
    """An array in a .npy, .h5 or .zarr file, which each worker opens when it needs rows.

    Only path and key are sent to workers.
    """

    def __init__(self, spec: str, array: Any, *, name: str) -> None:
        path, key = located(spec, name)
        self._path, self._key, self._name = os.path.abspath(path), key, name
        self.shape, self.dtype = tuple(array.shape), np.dtype(array.dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        """Return a slice of rows, always with all conditions."""
        array = self._opened()
        if (tuple(array.shape), np.dtype(array.dtype)) != (self.shape, self.dtype):
            raise ValueError(
                f"Argument '{self._name}' must be the same file for all, and {self._path!r} is of shape "
                f"{tuple(array.shape)} and dtype {array.dtype} on {_worker()}, not {self.shape} and "
                f"{self.dtype}: copy it again."
            )
        if is_stored(array):
            return Stored(self._name, array)[index[0]]
        return np.array(array[index[0]])

    def _opened(self) -> Any:
        spec = self._path if self._key is None else f"{self._path}:{self._key}"
        try:
            return open_array(spec, name=self._name)
        except ImportError as error:
            raise ImportError(f"On {_worker()}: {error}") from error
        except OSError as error:
            found = f"cannot be opened ({error})" if os.path.exists(self._path) else "is missing"
            raise OSError(
                f"Argument '{self._name}' must be a file that all workers see, and {self._path!r} {found} on "
                f"{_worker()}: put it on a file system that they share, under the same path."
            ) from error


def _worker() -> str:
    """Name the worker that this runs on."""
    from distributed import get_worker

    return f"the worker at {get_worker().address}"


def chunk_lengths(shape: tuple[int, int], itemsize: int, together: int, n_threads: int) -> tuple[int, ...]:
    """Return the rows of each chunk: nearly equal, in multiples of the file's own `together` if these fit."""
    row_bytes = itemsize * shape[1]
    unit = together if together * row_bytes <= TOGETHER_BYTES else 1
    units, nbytes = -(-shape[0] // unit), row_bytes * shape[0]
    wanted = max(-(-nbytes // CHUNK_BYTES), min(FOR_EACH_THREAD * n_threads, nbytes // LEAST_BYTES), 1)
    count = min(units, wanted)
    ends = np.minimum(unit * (units * np.arange(count + 1) // count), shape[0])
    return tuple(np.diff(ends).tolist())


def as_dask(spec: str, array: Any, *, n_threads: int, name: str) -> Any:
    """Make a dask array: workers read the rows they need, or are sent them if the array is in memory."""
    import dask.array as da

    check_form(name, array, ("channels", "conditions"))
    stored = getattr(array, "chunks", None)
    if not isinstance(array, np.ndarray) or isinstance(array, np.memmap):
        array = SharedFile(spec, array, name=name)
    lengths = chunk_lengths(array.shape, array.dtype.itemsize, stored[0] if stored else 1, n_threads)
    return da.from_array(
        array, chunks=(lengths, array.shape[1:]), name=False, asarray=False, fancy=False, inline_array=True,
        meta=np.empty((0, 0), array.dtype),
    )  # fmt: skip
