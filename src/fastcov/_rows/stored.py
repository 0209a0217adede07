"""Responses outside memory: files whose blocks of rows are read ahead of the work on them."""

from __future__ import annotations

import concurrent.futures
import math
import mmap
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rows import Array, Rows, Watch

# Bytes read at once: large compared with the cost of a call, small compared with any memory budget. Two such
# chunks are held.
CHUNK_BYTES = 1 << 24
# Bytes at each end of a memory-mapped array that are compared with the file of the same name.
COMPARED_BYTES = 4096


def is_stored(value: Any) -> bool:
    """Whether `value` is an array outside memory: a memory-mapped file, or anything with rows to slice."""
    if isinstance(value, np.ndarray):
        return isinstance(value, np.memmap) and _file_place(value) is not None
    try:
        np.dtype(value.dtype), tuple(value.shape)
        # These have NumPy scalars, sparse arrays, and arrays of other libraries in memory.
        known = any(hasattr(value, name) for name in ("__array_interface__", "__dlpack__", "nnz"))
        return hasattr(value, "__getitem__") and not known
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return False  # not an array, or its file is closed: conversion to an array will report that


class Stored(Rows):
    """An array outside memory whose rows are read: an HDF5 or Zarr array, or a memory-mapped file.

    A memory-mapped file is read by calls, not through its mapping. If it has been truncated, this raises an
    error instead of killing the process, and rows once read do not count as memory of the process.
    """

    read_again = True

    def __init__(self, name: str, array: Any) -> None:
        self.name = name
        self.shape: tuple[Any, ...] = tuple(array.shape)
        self.dtype = np.dtype(array.dtype)
        self.ndim, self.size = len(self.shape), math.prod(self.shape)
        self._rows = self.shape[1:]
        self._read: Callable[[int, Array], Array]
        self._writeable = False
        if isinstance(array, np.memmap):
            path, offset = _file_place(array) or ("", 0)
            self._read = lambda start, out: _read_file(path, offset + start * self._row_bytes, out)
            self._writeable = array.mode != "r"
            watched: Any = path
        else:
            self._read = lambda start, out: np.asanyarray(array[start : start + len(out)])
            file = getattr(array, "file", None)  # h5py's attribute
            watched = getattr(file, "filename", None) if getattr(file, "mode", None) == "r" else None
        self._watched = watched if isinstance(watched, str) and os.path.exists(watched) else None
        self._seen = self._state()
        chunks = getattr(array, "chunks", None)
        together = chunks[0] if isinstance(chunks, tuple) and chunks else 1  # a tuple for Dask arrays
        self._stored_rows = max(1, together) if isinstance(together, int) else 1

    @property
    def _row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self._rows)

    def _state(self) -> tuple[int, ...]:
        """File state that changes if another process writes; without the time if we might write ourselves."""
        if self._watched is None:
            return ()
        stat = os.stat(self._watched)
        return stat.st_ino, stat.st_size, 0 if self._writeable else stat.st_mtime_ns

    def _fill(self, start: int, out: Array) -> Array:
        try:
            rows = self._read(start, out)
            state = self._state()
            if rows.shape != out.shape:
                raise EOFError(f"shape {rows.shape} was found")
        except MemoryError:
            raise
        except Exception as error:  # a library may raise anything on a damaged file
            cause = " ".join(str(error).split()) or type(error).__name__
            raise OSError(
                f"Argument '{self.name}' must be intact, and its rows {start} to {start + len(out) - 1} "
                f"could not be read ({cause}): write or copy it again."
            ) from error
        if state != self._seen:
            raise self.changed()
        if rows is not out:
            self._take(rows, out)
        return out

    def _take(self, rows: Array, out: Array) -> None:
        if np.ma.is_masked(rows):
            raise TypeError(
                f"Argument '{self.name}' must be an array without a mask, not one with masked rows: "
                "fill it with .filled(value), or drop what is masked."
            )
        if not np.can_cast(rows.dtype, out.dtype):
            raise TypeError(
                f"Argument '{self.name}' must have rows of its dtype {self.dtype}, not {rows.dtype}: "
                "give it the dtype of its rows."
            )
        out[...] = rows

    def __getitem__(self, key: Any) -> Array:
        """Rows at a slice, or at indices of channels, as an array in memory."""
        if isinstance(key, slice) and key.step in (None, 1):
            start, stop, _ = key.indices(len(self))
            rows = np.empty((max(0, stop - start), *self._rows), self.dtype)
            return self._fill(start, rows) if len(rows) else rows
        if isinstance(key, slice):
            key = np.arange(*key.indices(len(self)))
        index = np.flatnonzero(key) if np.asarray(key).dtype == bool else np.asarray(key)
        distinct, inverse = np.unique(index % len(self), return_inverse=True)
        rows = np.empty((len(distinct), *self._rows), self.dtype)
        breaks = np.flatnonzero(np.diff(distinct) != 1) + 1
        for first, last in zip([0, *breaks], [*breaks, len(distinct)], strict=True):
            if first < last:
                self._fill(int(distinct[first]), rows[first:last])
        return rows[inverse]

    def columns(self, conditions: NDArray[np.intp]) -> Any:
        """Some of the columns, in any order."""
        return ColumnSubset(self, conditions)

    def chunks(self, multiple: int = 1, watch: Watch | None = None) -> Iterator[tuple[int, Array]]:
        """First row and rows of each chunk, valid until the next one, which is read meanwhile.

        If possible, the number of rows in a chunk is a multiple of `multiple` and of rows stored together.
        """
        most = max(1, CHUNK_BYTES // max(1, self._row_bytes))
        for unit in (math.lcm(multiple, self._stored_rows), self._stored_rows, multiple, 1):
            if unit <= most:
                break
        step = most // unit * unit
        buffers = [np.empty((min(step, len(self)), *self._rows), self.dtype) for _ in range(2)]

        def read(start: int) -> Array:
            out = buffers[(start // step) % 2][: len(self) - start]
            return self._fill(start, out)

        with concurrent.futures.ThreadPoolExecutor(1, "fastcov-read-ahead") as reader:
            ahead = reader.submit(read, 0)
            for start in range(0, len(self), step):
                rows = ahead.result()
                if start + step < len(self):
                    ahead = reader.submit(read, start + step)
                yield start, rows
                if watch is not None:
                    watch(min(1.0, (start + step) / len(self)))


class ColumnSubset:
    """Some of the columns of an array outside memory, in any order."""

    def __init__(self, X: Any, columns: NDArray[np.intp]) -> None:
        self._X, self._columns = X, columns
        self.shape, self.dtype = (X.shape[0], len(columns)), X.dtype

    def __getitem__(self, rows: slice) -> Array:
        return np.asarray(self._X[rows])[:, self._columns]


def _file_place(array: np.memmap[Any, Any]) -> tuple[str, int] | None:
    """Path of the file and offset of the first element, if a mapped array's rows are in it in order."""
    mapping = getattr(array, "_mmap", None)
    path = getattr(array, "filename", None)
    if mapping is None or path is None or array.mode == "c" or not array.flags.c_contiguous or not array.size:
        return None  # mode "c": changes are in memory only
    base = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
    inside = array.__array_interface__["data"][0] - base
    if not 0 <= inside <= len(mapping) - array.nbytes:
        return None  # computed from a mapped array, not part of it
    place = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY + inside
    return (os.fspath(path), place) if _is_mapped(path, place, mapping, inside, array.nbytes) else None


def _is_mapped(path: Any, place: int, mapping: mmap.mmap, inside: int, nbytes: int) -> bool:
    """Whether the file of this name is the mapped one. It may have been deleted or replaced since."""
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size != mapping.size():
                return False
            if place + nbytes > size:
                return True  # truncated: reading will detect it; access would kill the process
            count = min(nbytes, COMPARED_BYTES)
            for skipped in (0, nbytes - count):
                file.seek(place + skipped)
                if file.read(count) != mapping[inside + skipped : inside + skipped + count]:
                    return False
    except (OSError, ValueError):
        return False
    return True


def _read_file(path: str, offset: int, out: Array) -> Array:
    target = out.data.cast("B")
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        done = 0
        while done < len(target):
            read = file.readinto(target[done:])
            if not read:
                raise EOFError("the file ends before them")
            done += read
    return out
