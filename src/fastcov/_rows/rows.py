"""The interface to X: rows of responses, wherever they are stored.

Callers ask `rows_of(X)` for its properties, such as whether X is in memory, and never for its type.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])
Watch = Callable[[float], object]


class Rows(abc.ABC):
    """Responses (N, D), one row a channel."""

    in_memory: ClassVar[bool] = False  # whether X is an array of this process
    read_again: ClassVar[bool] = False  # every pass reads the rows: it takes time, and they may have changed
    on_workers: ClassVar[bool] = False  # functions of channels run on the workers that hold their chunks

    name: str  # of the argument, for error messages
    shape: tuple[Any, ...]
    dtype: np.dtype[Any]
    ndim: int
    size: int

    def __len__(self) -> int:
        return int(self.shape[0])

    @abc.abstractmethod
    def __getitem__(self, key: Any) -> Array:
        """Rows at a slice, or at indices of channels, as an array in memory."""

    @abc.abstractmethod
    def columns(self, conditions: NDArray[np.intp]) -> Any:
        """Responses to some of the conditions, in any order."""

    @abc.abstractmethod
    def chunks(self, multiple: int = 1, watch: Watch | None = None) -> Iterator[tuple[int, Array]]:
        """First row and rows of each chunk, valid until the next one; reports the share done to `watch`."""

    def changed(self, detail: str = "") -> ValueError:
        """The error for rows that differ from an earlier pass."""
        return ValueError(
            f"Argument '{self.name}' must stay as it is while it is read, and it has changed{detail}: "
            "wait until it is written, or copy it."
        )

    def map_sum(
        self, function: Callable[..., Any], problem: Any, *args: Any, each: int = 0, kept: bool = False,
        nbytes: int = 0, **named: Any,
    ) -> Any:  # fmt: skip
        """Sum the results of a function over chunks; each result is an array, or a tuple of arrays.

        The first `each` arguments have an entry for each channel along their last axis. With `kept` the
        function is also passed a dictionary, after the problem, in which it may keep results for the chunk.
        `nbytes` is the size of a result; by default, that of matrices over conditions.
        """
        return _plain(function)(problem, *(({},) if kept else ()), *args, **named)

    def map_channels(
        self, function: Callable[..., Any], problem: Any, *args: Any, each: int = 0, kept: bool = False,
        **named: Any,
    ) -> Any:  # fmt: skip
        """Concatenate the results of a function over chunks along the last axis; else as `map_sum`."""
        return _plain(function)(problem, *(({},) if kept else ()), *args, **named)

    def map_both(self, function: Callable[..., Any], problem: Any) -> tuple[Any, Array]:
        """Map a function that returns a sum over channels, to be added, and an entry each, to be joined."""
        found: tuple[Any, Array] = _plain(function)(problem)
        return found

    def room(self) -> float:
        """Bytes for each channel that may still be allocated where the rows are."""
        return float("inf")


class InMemory(Rows):
    """A NumPy array."""

    in_memory = True

    def __init__(self, array: Array) -> None:
        self.array, self.name, self.shape, self.dtype = array, "X", array.shape, array.dtype
        self.ndim, self.size = array.ndim, array.size

    def __getitem__(self, key: Any) -> Array:
        return self.array[key]

    def columns(self, conditions: NDArray[np.intp]) -> Array:
        return np.take(self.array, conditions, axis=1)

    def chunks(self, multiple: int = 1, watch: Watch | None = None) -> Iterator[tuple[int, Array]]:
        return iter([(0, self.array)])


def rows_of(X: Array | Rows) -> Rows:
    """The rows of responses as returned by `check_responses`."""
    return X if isinstance(X, Rows) else InMemory(X)


def summed(each: int = 0) -> Callable[[F], F]:
    """Declare that a function of a problem returns a sum over channels; on a cluster, chunks are summed.

    The first `each` of the function's other arguments have an entry for each channel.
    """
    return _mapped(Rows.map_sum.__name__, each)


def by_channels(each: int = 0) -> Callable[[F], F]:
    """Declare that a function of a problem returns an entry for each channel; arguments as for `summed`."""
    return _mapped(Rows.map_channels.__name__, each)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, of one that is declared: all rows are one chunk here."""
    return getattr(function, "__wrapped__", function)


def _mapped(method: str, each: int) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        @functools.wraps(function)
        def mapped(problem: Any, *args: Any, **named: Any) -> Any:
            return getattr(problem.rows, method)(mapped, problem, *args, each=each, **named)

        return mapped  # type: ignore[return-value]

    return decorate
