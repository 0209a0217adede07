"""What a fit asks of a cluster: the tasks, bytes and seconds of each of its maps, recorded as it runs."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcov._rows.chunked import Chunked
from fastcov._rows.cluster import Cluster


@dataclasses.dataclass
class Asked:
    """One map over the chunks, or what was sent besides (then without a name)."""

    name: str = ""
    chunks: int = 0  # tasks on chunks
    tasks: int = 0
    sent: int = 0  # bytes of arrays, to the chunks
    parts: int = 0  # bytes of partial sums, if no two chunks share a worker; a sum is where one part is
    results: int = 0  # bytes to the client
    seconds: float = 0.0
    exact: bool = False  # in float64

    @property
    def moved(self) -> int:
        return self.sent + self.parts + self.results


@contextlib.contextmanager
def recorded() -> Iterator[list[Asked]]:
    """What is asked of clusters meanwhile; arrays that go with a task count once for each."""
    found: list[Asked] = []
    current = [Asked()]
    maps, scatter = Chunked._results, Cluster._scatter

    def results(self: Chunked, asked: Any) -> Any:
        current[0] = now = Asked()

        def noted(graph: Any) -> Any:
            keys = asked(graph)
            chunks = [task for key, task in graph.tasks.items() if "-sum-" not in key]
            now.name = next(iter(graph.tasks)).split("-")[1]
            now.chunks, now.tasks = len(chunks), len(graph.tasks)
            now.sent += sum(_nbytes(part) for task in chunks for part in task)
            now.exact = any(_is_exact(part) for part in chunks[0])
            return keys

        start = time.perf_counter()
        values = maps(self, noted)
        now.seconds, now.results = time.perf_counter() - start, sum(map(_nbytes, values))
        now.parts = (now.chunks - 1) * now.results if now.tasks > now.chunks else 0
        found.append(now)
        current[0] = Asked()
        return values

    def scattered(self: Cluster, values: list[Any], *args: Any, **named: Any) -> Any:
        current[0].sent += sum(map(_nbytes, values))
        return scatter(self, values, *args, **named)

    Chunked._results, Cluster._scatter = results, scattered  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Chunked._results, Cluster._scatter = maps, scatter  # type: ignore[method-assign]


def _nbytes(value: Any) -> int:
    """Of the arrays in a value, as a result or as an argument."""
    if isinstance(value, (tuple, list)):
        return sum(map(_nbytes, value))
    return value.nbytes if isinstance(value, (np.ndarray, np.generic)) else 0


def _is_exact(part: Any) -> bool:
    problem = getattr(part, "problem", None)
    return problem is not None and problem.dtype == np.float64
