"""Hold responses on a Dask cluster as chunks of rows that stay on their workers, and map functions over them.

A sum over channels, or a result with an entry for each channel, is computed chunk by chunk where the chunks
are: a function decorated with `summed` or `by_channels` does on each worker what it does here with an array.
All its arguments are kept here, so that a map can be repeated if a worker is lost.
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

# Number of partial sums that one task adds, so that D x D matrices do not queue up for one worker; it is
# smaller for large matrices, because all of them are held at once.
TOGETHER, LARGE_TOGETHER, LARGE_BYTES = 8, 2, 1 << 24
# Up to this number, partial sums are added here: a task on the cluster would cost one more task and transfer.
FEW = 2
# An argument up to this size is sent with the tasks, through the scheduler; a larger one is sent separately.
TRAVELS_BYTES = 1 << 17
# Number of arguments that stay on the workers: gains before and after a step, scales, and a preconditioner.
MAX_SENT_ARGUMENTS = 4
# Parameters M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of glibc, in bytes.
MALLOC = ((-3, 1 << 22), (-1, 1 << 24))
# Number of times that a map is tried, since it is restarted when a worker is lost.
MAX_MAP_ATTEMPTS = 5


class Piece:
    """A chunk of rows on a worker, in the layout of the kernels, and results derived from it once."""

    def __init__(self, X: Array) -> None:
        self.X = X
        self.kept: dict[str, Any] = {}

    def __sizeof__(self) -> int:
        return 64 + self.X.nbytes

    def __reduce__(self) -> Any:  # `kept` is not sent: it can be computed again
        return Piece, (self.X,)


def piece_of(name: str, start: int, shape: tuple[int, int], rows: Any) -> Piece:
    """Make a piece of the rows from channel `start` on, in C order and in float32 or float64."""
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
    """Return the number of NaNs and infinities, and the place of the first."""
    bad = np.argwhere(~np.isfinite(piece.X))
    return len(bad), (int(bad[0][0]), int(bad[0][1])) if len(bad) else None


def _rows(piece: Piece, index: Array) -> Array:
    return piece.X[index]


def _columns(piece: Piece, conditions: Array) -> Piece:
    return Piece(np.ascontiguousarray(piece.X[:, conditions]))


@dataclasses.dataclass(frozen=True, eq=False)
class PerChunkArgument:
    """An argument with an entry for each channel that is used repeatedly, and therefore sent once."""

    values: Array


@dataclasses.dataclass(frozen=True, eq=False)
class BroadcastArgument:
    """A large argument that is used repeatedly, and therefore sent to every worker once."""

    value: Any


class _Call:
    """A function to call on each chunk, with the problem of its channels and further arguments."""

    def __init__(self, function: Callable[..., Any], problem: Any, named: dict[str, Any], kept: bool) -> None:
        none = np.empty(0)
        # Keep only the parts of the problem that do not grow with the number of channels.
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
def raise_malloc_thresholds() -> None:
    """Let malloc reuse freed blocks up to a few MB, as it does in processes that Dask has not started.

    A nanny sets MALLOC_TRIM_THRESHOLD_ for its worker, and glibc then requests each block above 128 KB from
    the system again, page by page: the maps of `pcg` took 1.6 times as much processor time.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        with contextlib.suppress(OSError, TypeError, AttributeError):  # another operating system or C library
            mallopt = ctypes.CDLL(None).mallopt
            for parameter, value in MALLOC:
                mallopt(parameter, value)


def _run(call: _Call, piece: Piece, gains: Array | None, *args: Any) -> Any:
    raise_malloc_thresholds()
    return call(piece, gains, *args)


def _added(*parts: Any) -> Any:
    """Add arrays, or tuples of arrays, entry by entry."""
    if isinstance(parts[0], tuple):
        return tuple(_added(*each) for each in zip(*parts, strict=True))
    total = np.array(parts[0])
    for part in parts[1:]:
        total += part
    return total[()]


class Chunked(Rows):
    """Chunks of rows on the workers of a Dask cluster, held there as long as this object exists."""

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
        """Load the chunks of a real dask array with two axes, once and evenly over the workers."""
        dtype = np.dtype(np.float32 if X.dtype.kind == "f" and X.dtype.itemsize <= 4 else np.float64)
        lengths = [n for n in X.chunks[0] if n]
        cluster = Cluster.of(client)
        pieces = cluster.loaded(name, X, [dtype.itemsize * n * X.shape[1] for n in lengths], piece_of)
        return cls(name, cluster, pieces, lengths, X.shape[1], dtype)

    def columns(self, conditions: NDArray[np.intp]) -> Chunked:
        """Select conditions, in any order: their responses are copied on the workers of the chunks."""
        graph = _Graph(self)
        keys = [graph.task("columns", c, _columns, conditions) for c in range(len(self.slices))]
        cluster, pieces = self._cluster.kept(graph.tasks, graph.places, keys)
        lengths = [rows.stop - rows.start for rows in self.slices]
        return Chunked(self.name, cluster, pieces, lengths, len(conditions), self.dtype)

    def __getitem__(self, key: Any) -> Array:
        """Return rows as an array in memory, for a slice or an index of channels."""
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
        """Bring each chunk here, and yield its first row and its rows, for work that is not done by a map."""
        for rows in self.slices:
            yield rows.start, self[rows]

    def nonfinite(self) -> tuple[int, tuple[int, int] | None]:
        """Return the number of NaNs and infinities, and the channel and condition of the first."""
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
        parts = self._results(lambda graph: graph.map(function, problem, (), 0, False, {}))
        return _added(*(total for total, _ in parts)), np.concatenate([each for _, each in parts])

    def resident(self, values: Array) -> list[Any]:
        """Send the entries of each chunk to its worker; use None for each chunk if all values are one."""

        def send() -> list[Any]:
            if (values == 1.0).all():
                return [None] * len(self.slices)
            return self._cluster.placed(self.cut(values), self._pieces)

        return self._send_once(values, send)

    def cut(self, values: Array) -> list[Array]:
        """Split values along the last axis into the entries of each chunk."""
        return [np.ascontiguousarray(values[..., rows]) for rows in self.slices]

    def everywhere(self, value: Any) -> Any:
        """Return a future of a value that all workers hold."""
        return self._send_once(value, lambda: self._cluster.scattered(value, everywhere=True))

    def _send_once(self, value: Any, send: Callable[[], Any]) -> Any:
        """Send a value; workers keep the MAX_SENT_ARGUMENTS values that were used last."""
        known = self._sent.pop(id(value), None) or (value, send())
        self._sent[id(value)] = known
        while len(self._sent) > MAX_SENT_ARGUMENTS:
            del self._sent[next(iter(self._sent))]
        return known[1]

    def _results(self, asked: Callable[[_Graph], list[str]]) -> list[Any]:
        """Return the results of tasks; if a worker is lost meanwhile, submit all tasks again."""
        for _ in range(MAX_MAP_ATTEMPTS):
            with contextlib.suppress(WorkerLost):
                graph = _Graph(self)
                keys = asked(graph)
                return self._cluster.results(graph.tasks, graph.places, keys)
            self._sent.clear()
            self._cluster.relocate_chunks(self._pieces)
        raise self._cluster.too_many_lost(MAX_MAP_ATTEMPTS)

    def room(self) -> float:
        """Return the bytes per channel that every worker with chunks can still hold."""
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
    """Tasks of one map over chunks, each on the worker that holds its chunk, and sums of their results."""

    def __init__(self, X: Chunked) -> None:
        self._X, self.chunks = X, range(len(X.slices))
        self._id = uuid.uuid4().hex
        self.tasks: dict[str, tuple[Any, ...]] = {}
        self._where = X.cluster.places(X.pieces)
        self.places: dict[str, str] = {}

    def task(self, what: str, c: int, function: Callable[..., Any], *args: Any) -> str:
        """Add a task that calls a function on a chunk, with further arguments; return its key."""
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
        """Return the entries of each chunk, or futures of them."""
        if values is None:
            return [None] * len(self.chunks)
        if isinstance(values, PerChunkArgument):
            return self._X.resident(values.values)
        parts = self._X.cut(values)
        return parts if values.nbytes <= TRAVELS_BYTES else self._X.cluster.placed(parts, self._X.pieces)

    def _common(self, value: Any) -> Any:
        if isinstance(value, BroadcastArgument):
            return self._X.everywhere(value.value)
        if getattr(value, "nbytes", 0) > TRAVELS_BYTES:
            return self._X.cluster.scattered(value)
        return value

    def sum(self, keys: list[str], nbytes: int = 0) -> list[str]:
        """Add tasks that sum results, in an order independent of workers; return the keys left to add."""
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
