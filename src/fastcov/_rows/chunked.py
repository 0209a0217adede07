"""Responses on a Dask cluster: chunks of rows that stay on their workers, and maps over them.

Sums over channels, and arrays with an entry for each channel, are computed chunk by chunk on the workers that
hold the chunks: a function decorated with `summed` or `by_channels` does there what it does here with an
array. This process keeps all arguments of a map, so that it can repeat the map if a worker is lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import itertools
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute.jit import threads
from .._inputs.labels import UNLABELLED
from .cluster import Cluster
from .rows import Array, Rows, Watch
from .worker_faults import WorkerLost

# Partial sums that one task adds, so that D x D matrices do not queue up for one worker. From LARGE_BYTES on
# it adds fewer, because it holds them all.
TOGETHER, LARGE_TOGETHER, LARGE_BYTES = 8, 2, 1 << 24
# Up to this many partial sums are added here. A task for it would be one more task and one more transfer.
FEW = 2
# An argument up to this size is sent with the tasks, through the scheduler; a larger one is sent by itself.
TRAVELS_BYTES = 1 << 17
# Arguments kept on the workers: gains before and after a step, scales, and a preconditioner.
HELD = 4
# Parameters of glibc's mallopt, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, and their values in bytes.
MALLOC = ((-3, 1 << 22), (-1, 1 << 24))
# How often a map is tried if workers are lost.
ATTEMPTS = 5


class Piece:
    """A chunk of rows on a worker, in the form that kernels need, and results computed from it once."""

    def __init__(self, X: Array) -> None:
        self.X = X
        self.kept: dict[str, Any] = {}

    def __sizeof__(self) -> int:
        return 64 + self.X.nbytes

    def __reduce__(self) -> Any:  # without `kept`, which can be computed again
        return Piece, (self.X,)


def piece_of(name: str, start: int, shape: tuple[int, int], rows: Any) -> Piece:
    """The piece with rows from channel `start` on, in C order and in float32 or float64."""
    if np.ma.isMaskedArray(rows):
        raise TypeError(
            f"Argument '{name}' must be an array without a mask, not one with masked rows: fill it with "
            ".map_blocks(np.ma.filled, value), or drop what is masked."
        )
    if not isinstance(rows, np.ndarray):
        raise TypeError(
            f"Argument '{name}' must have chunks that are NumPy arrays, not {type(rows).__name__}: convert "
            "them with .map_blocks(convert)."
        )
    if rows.shape != shape:
        raise ValueError(
            f"Argument '{name}' must have chunks of the sizes that it says, not one of shape {rows.shape} in "
            f"place of {shape} from channel {start} on: see what makes them."
        )
    dtype = np.float32 if rows.dtype.kind == "f" and rows.dtype.itemsize <= 4 else np.float64
    with np.errstate(over="ignore"):  # a long double out of range becomes infinite, which is detected later
        return Piece(np.require(rows, dtype, ["C", "A", "W"]))


def _nonfinite(piece: Piece) -> tuple[int, tuple[int, int] | None]:
    """The number of NaNs and infinities, and the row and column of the first."""
    bad = np.argwhere(~np.isfinite(piece.X))
    return len(bad), (int(bad[0][0]), int(bad[0][1])) if len(bad) else None


def _rows(piece: Piece, index: Array) -> Array:
    return piece.X[index]


def _columns(piece: Piece, conditions: Array) -> Piece:
    return Piece(np.ascontiguousarray(piece.X[:, conditions]))


@dataclasses.dataclass(frozen=True, eq=False)
class Resident:
    """An argument with an entry for each channel that many maps use: it is sent once."""

    values: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Everywhere:
    """A large argument that many maps use: every worker holds it."""

    value: Any


class _Call:
    """The call for each chunk: a function of the problem of its channels, and of further arguments."""

    def __init__(self, function: Callable[..., Any], problem: Any, named: dict[str, Any], kept: bool) -> None:
        none = np.empty(0)
        # The problem of all channels, without the parts that grow with their number.
        self.problem = dataclasses.replace(problem, X=none, gains=none, sizes=none, labels=UNLABELLED)
        self.function, self.named, self.kept = function, named, kept

    def __call__(self, piece: Piece, gains: Array | None, *args: Any) -> Any:
        n = len(piece.X)
        problem = dataclasses.replace(
            self.problem, X=piece.X, gains=np.ones(n) if gains is None else gains, sizes=np.empty(n)
        )
        if self.kept:
            args = (piece.kept, *args)
        with threads(1):  # the worker runs as many tasks as it has threads
            return self.function(problem, *args, **self.named)


@functools.cache
def keep_freed_memory() -> None:
    """Let malloc reuse freed blocks up to some MB, as it does in processes that Dask has not started.

    A Dask nanny sets MALLOC_TRIM_THRESHOLD_ for its worker. glibc then requests each block above 128 KB anew
    from the system, page by page: the maps of `pcg` took 1.6 times as much processor time.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        with contextlib.suppress(OSError, TypeError, AttributeError):  # another system or C library
            mallopt = ctypes.CDLL(None).mallopt
            for parameter, value in MALLOC:
                mallopt(parameter, value)


def _run(call: _Call, piece: Piece, gains: Array | None, *args: Any) -> Any:
    keep_freed_memory()
    return call(piece, gains, *args)


def _added(*parts: Any) -> Any:
    """The sum of arrays, or the entrywise sum of tuples of arrays."""
    if isinstance(parts[0], tuple):
        return tuple(_added(*each) for each in zip(*parts, strict=True))
    total = np.array(parts[0])
    for part in parts[1:]:
        total += part
    return total[()]


class Chunked(Rows):
    """Chunks of rows on the workers of a Dask cluster, which hold them as long as this object exists."""

    on_workers = True

    def __init__(
        self, name: str, cluster: Cluster, pieces: Sequence[Any], lengths: Sequence[int],
        n_conditions: int, dtype: np.dtype[Any],
    ) -> None:  # fmt: skip
        self.name, self._cluster, self._pieces = name, cluster, list(pieces)
        ends = list(itertools.accumulate(lengths))
        self.slices = [slice(end - n, end) for n, end in zip(lengths, ends, strict=True)]
        self.shape, self.dtype = (ends[-1], n_conditions), dtype
        self.ndim, self.size = 2, ends[-1] * n_conditions
        self._sent: dict[int, tuple[Any, Any]] = {}

    @classmethod
    def of(cls, name: str, X: Any, client: Any) -> Chunked:
        """The chunks of a dask array of real numbers with two axes, loaded once and spread evenly."""
        dtype = np.dtype(np.float32 if X.dtype.kind == "f" and X.dtype.itemsize <= 4 else np.float64)
        lengths = [n for n in X.chunks[0] if n]
        cluster = Cluster.of(client)
        pieces = cluster.loaded(name, X, [dtype.itemsize * n * X.shape[1] for n in lengths], piece_of)
        return cls(name, cluster, pieces, lengths, X.shape[1], dtype)

    def columns(self, conditions: NDArray[np.intp]) -> Chunked:
        """Responses to some of the conditions, in any order, copied on the workers beside the chunks."""
        graph = _Graph(self)
        keys = [graph.task("columns", c, _columns, conditions) for c in range(len(self.slices))]
        cluster, pieces = self._cluster.kept(graph.tasks, graph.places, keys)
        lengths = [rows.stop - rows.start for rows in self.slices]
        return Chunked(self.name, cluster, pieces, lengths, len(conditions), self.dtype)

    def __getitem__(self, key: Any) -> Array:
        """Rows at a slice, or at indices of channels, as an array in memory."""
        if isinstance(key, slice):
            key = np.arange(*key.indices(len(self)))
        index = np.flatnonzero(key) if np.asarray(key).dtype == bool else np.asarray(key, np.intp) % len(self)
        out = np.empty((len(index), self.shape[1]), self.dtype)
        order = np.argsort(index, kind="stable")
        ends = np.searchsorted(index[order], [rows.stop for rows in self.slices])
        wanted = {
            c: order[start:stop]
            for c, (start, stop) in enumerate(itertools.pairwise([0, *ends]))
            if start < stop
        }

        def asked(graph: _Graph) -> list[str]:
            return [
                graph.task("rows", c, _rows, index[places] - self.slices[c].start)
                for c, places in wanted.items()
            ]

        if wanted:
            for places, rows in zip(wanted.values(), self._results(asked), strict=True):
                out[places] = rows
        return out

    def chunks(self, multiple: int = 1, watch: Watch | None = None) -> Iterator[tuple[int, Array]]:
        """First row and rows of each chunk, brought to this process, for work that no map can do."""
        for rows in self.slices:
            yield rows.start, self[rows]

    def nonfinite(self) -> tuple[int, tuple[int, int] | None]:
        """The number of NaNs and infinities, and the channel and condition of the first."""
        found = self._results(lambda graph: [graph.task("finite", c, _nonfinite) for c in graph.chunks])
        first = next(
            ((rows.start + place[0], place[1])
             for rows, (_, place) in zip(self.slices, found, strict=True) if place is not None), None,
        )  # fmt: skip
        return sum(count for count, _ in found), first

    def map_sum(
        self, function: Callable[..., Any], problem: Any, *args: Any, each: int = 0, kept: bool = False,
        nbytes: int = 0, **named: Any,
    ) -> Any:  # fmt: skip
        targets = max((len(value) for value in args if getattr(value, "ndim", 0) > 1), default=1)
        nbytes = nbytes or 8 * targets * self.shape[1] ** 2

        def asked(graph: _Graph) -> list[str]:
            return graph.sum(graph.map(function, problem, args, each, kept, named), nbytes)

        return _added(*self._results(asked))

    def map_channels(
        self, function: Callable[..., Any], problem: Any, *args: Any, each: int = 0, kept: bool = False,
        **named: Any,
    ) -> Any:  # fmt: skip
        parts = self._results(lambda graph: graph.map(function, problem, args, each, kept, named))
        if isinstance(parts[0], tuple):
            return tuple(np.concatenate(found, axis=-1) for found in zip(*parts, strict=True))
        return np.concatenate(parts, axis=-1)

    def map_both(self, function: Callable[..., Any], problem: Any) -> tuple[Any, Array]:
        """Map a function that returns a sum over channels, and an array with an entry for each channel."""
        parts = self._results(lambda graph: graph.map(function, problem, (), 0, False, {}))
        return _added(*(total for total, _ in parts)), np.concatenate([each for _, each in parts])

    def resident(self, values: Array) -> list[Any]:
        """The entries for each chunk, sent to its worker; None for each if all values are one."""

        def send() -> list[Any]:
            if (values == 1.0).all():
                return [None] * len(self.slices)
            return self._cluster.placed(self.cut(values), self._pieces)

        return self._once(values, send)

    def cut(self, values: Array) -> list[Array]:
        """The entries for each chunk, along the last axis."""
        return [np.ascontiguousarray(values[..., rows]) for rows in self.slices]

    def everywhere(self, value: Any) -> Any:
        """A future of a value that all workers hold."""
        return self._once(value, lambda: self._cluster.scattered(value, everywhere=True))

    def _once(self, value: Any, send: Callable[[], Any]) -> Any:
        """Send a value once, and keep it on the workers while it is among the last HELD that were used."""
        known = self._sent.pop(id(value), None) or (value, send())
        self._sent[id(value)] = known
        while len(self._sent) > HELD:
            del self._sent[next(iter(self._sent))]
        return known[1]

    def _results(self, asked: Callable[[_Graph], list[str]]) -> list[Any]:
        """Results of tasks. If a worker is lost meanwhile, the tasks are built and run again."""
        for _ in range(ATTEMPTS):
            with contextlib.suppress(WorkerLost):
                graph = _Graph(self)
                keys = asked(graph)
                return self._cluster.results(graph.tasks, graph.places, keys)
            self._sent.clear()
            self._cluster.found_again(self._pieces)
        raise self._cluster.too_many_lost(ATTEMPTS)

    def room(self) -> float:
        """Bytes for each channel that may still be allocated on every worker with chunks."""
        channels: dict[str, int] = {}
        for worker, rows in zip(self._cluster.places(self._pieces), self.slices, strict=True):
            channels[worker] = channels.get(worker, 0) + rows.stop - rows.start
        free = self._cluster.free()
        return min(free.get(worker, np.inf) / n for worker, n in channels.items())

    @property
    def pieces(self) -> list[Any]:
        return self._pieces

    @property
    def cluster(self) -> Cluster:
        return self._cluster


class _Graph:
    """Tasks of one map over chunks, each on the worker that holds its chunk, and tasks that sum results."""

    def __init__(self, X: Chunked) -> None:
        self._X, self.chunks = X, range(len(X.slices))
        self._id = uuid.uuid4().hex
        self.tasks: dict[str, tuple[Any, ...]] = {}
        self._where = X.cluster.places(X.pieces)
        self.places: dict[str, str] = {}

    def task(self, what: str, c: int, function: Callable[..., Any], *args: Any) -> str:
        """Add a task that calls a function with a chunk and further arguments; returns its key."""
        return self._add(what, c, function, self._X.pieces[c], *args)

    def _add(self, what: str, c: int, *task: Any) -> str:
        key = f"fastcov-{what}-{self._id}-{c}"
        self.tasks[key], self.places[key] = task, self._where[c]
        return key

    def map(
        self, function: Callable[..., Any], problem: Any, args: tuple[Any, ...], each: int, kept: bool,
        named: dict[str, Any],
    ) -> list[str]:  # fmt: skip
        call, X = _Call(function, problem, named, kept), self._X
        what, gains = function.__name__.strip("_"), X.resident(problem.gains)
        own = [self._own(values) for values in args[:each]]
        common = [self._common(value) for value in args[each:]]
        return [
            self._add(what, c, _run, call, X.pieces[c], gains[c], *(parts[c] for parts in own), *common)
            for c in self.chunks
        ]

    def _own(self, values: Any) -> Sequence[Any]:
        """An argument's entries for each chunk."""
        if values is None:
            return [None] * len(self.chunks)
        if isinstance(values, Resident):
            return self._X.resident(values.values)
        parts = self._X.cut(values)
        return parts if values.nbytes <= TRAVELS_BYTES else self._X.cluster.placed(parts, self._X.pieces)

    def _common(self, value: Any) -> Any:
        if isinstance(value, Everywhere):
            return self._X.everywhere(value.value)
        if getattr(value, "nbytes", 0) > TRAVELS_BYTES:
            return self._X.cluster.scattered(value)
        return value

    def sum(self, keys: list[str], nbytes: int = 0) -> list[str]:
        """Add tasks that sum results; returns the keys of the sum, or of the few parts left to add.

        The order of summation does not depend on which workers hold the results.
        """
        together = TOGETHER if nbytes < LARGE_BYTES else LARGE_TOGETHER
        level = 0
        while len(keys) > (1 if level else FEW):
            above = []
            for first in range(0, len(keys), together):
                some = keys[first : first + together]
                if len(some) == 1:
                    above += some
                    continue
                key = f"fastcov-sum-{self._id}-{level}-{first}"
                self.tasks[key] = (_added, *some)
                above.append(key)
            keys, level = above, level + 1
        return keys
