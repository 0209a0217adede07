"""Responses that are not in memory: files read by blocks of rows, ahead of the work on them."""

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

# Bytes read at once: large beside the cost of a call, small beside any budget. Two such chunks are held.
CHUNK_BYTES = 1 << 24
# Bytes at either end of a mapped array that are compared with the file of its name.
COMPARED_BYTES = 4096


def is_stored(value: Any) -> bool:
    """Whether `value` is an array outside memory: a mapped file, or anything with rows to slice."""
    if isinstance(value, np.ndarray):
        return isinstance(value, np.memmap) and _file_place(value) is not None
    try:
        np.dtype(value.dtype), tuple(value.shape)
        # NumPy's scalars, sparse arrays, and arrays of other libraries that are in memory
        known = any(hasattr(value, name) for name in ("__array_interface__", "__dlpack__", "nnz"))
        return hasattr(value, "__getitem__") and not known
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return False  # no array, or of a file that was closed: conversion to an array says so


class Stored(Rows):
    """An array outside memory, of which rows are read: an HDF5 or Zarr array, or a mapped file.

    A mapped file is read, not touched through its mapping: a file that is cut short then gives an
    error, not the end of the process, and what was read does not count as memory of the process.
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
            file = getattr(array, "file", None)  # of h5py
            watched = getattr(file, "filename", None) if getattr(file, "mode", None) == "r" else None
        self._watched = watched if isinstance(watched, str) and os.path.exists(watched) else None
        self._seen = self._state()
        chunks = getattr(array, "chunks", None)
        together = chunks[0] if isinstance(chunks, tuple) and chunks else 1  # of Dask it is a tuple itself
        self._stored_rows = max(1, together) if isinstance(together, int) else 1

    @property
    def _row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self._rows)

    def _state(self) -> tuple[int, ...]:
        """What changes when somebody else writes to the file; less of it where we might ourselves."""
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
        except Exception as error:  # whatever a library makes of a damaged file
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
        """Rows as an array in memory: a slice, or an index of channels."""
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
        return Columns(self, conditions)

    def chunks(self, multiple: int = 1, watch: Watch | None = None) -> Iterator[tuple[int, Array]]:
        """First row and rows of each chunk, good until the next one; the next is read meanwhile.

        Chunks have a multiple of the rows given, and of those that are stored together, if that fits.
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


class Columns:
    """Some of the columns of an array outside memory, in any order."""

    def __init__(self, X: Any, columns: NDArray[np.intp]) -> None:
        self._X, self._columns = X, columns
        self.shape, self.dtype = (X.shape[0], len(columns)), X.dtype

    def __getitem__(self, rows: slice) -> Array:
        return np.asarray(self._X[rows])[:, self._columns]


def _file_place(array: np.memmap[Any, Any]) -> tuple[str, int] | None:
    """Path and offset of the first element, if the rows of a mapped array stand in a file in order."""
    mapping = getattr(array, "_mmap", None)
    path = getattr(array, "filename", None)
    if mapping is None or path is None or array.mode == "c" or not array.flags.c_contiguous or not array.size:
        return None  # mode "c": changes are in memory only
    base = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
    inside = array.__array_interface__["data"][0] - base
    if not 0 <= inside <= len(mapping) - array.nbytes:
        return None  # computed from a mapped array, no part of it
    place = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY + inside
    return (os.fspath(path), place) if _is_mapped(path, place, mapping, inside, array.nbytes) else None


def _is_mapped(path: Any, place: int, mapping: mmap.mmap, inside: int, nbytes: int) -> bool:
    """Whether the file of this name is the one in the mapping: it may be deleted, or another by now."""
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size != mapping.size():
                return False
            if place + nbytes > size:
                return True  # it was cut short, which reading finds out; touching would end the process
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
