"""Time on a noisy machine, by rounds in which all implementations run one after another in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from .._timings.runs import ratio

# A run that takes less than this, in seconds, is called once before the clock starts, so that it finds its
# own data in the caches, and not those of the previous run.
SETTLED = 0.05

K = TypeVar("K", bound=Hashable)


def interleaved(
    runs: Mapping[K, Callable[[], Any]],
    rounds: int,
    budget: float = float("inf"),
    callback: Callable[[float], object] = lambda done: None,
    least: Mapping[K, int] = MappingProxyType({}),
    warm: Collection[K] = (),
    clock: Callable[[], float] = time.perf_counter,
    before: Mapping[K, Callable[[], Any]] = MappingProxyType({}),
) -> dict[K, list[float]]:
    """Return the seconds of each run in each round, in the order first to last, last to first, and so on.

    All runs take part in every round, except that a run which would take more than its share of `budget`
    seconds drops out after the rounds that it has time for (at least `least`, or one). Times at the same
    place in two lists are thus from the same round, in which other work on the machine affected both.
    `callback` gets the finished share of rounds, and `clock` returns the seconds. Each run is called once
    before the first round, except those in `warm`. `before` holds calls to make right before each run of a
    name, outside the clock.
    """
    seconds: dict[K, list[float]] = {name: [] for name in runs}
    first = {}
    for name, run in runs.items():  # compiles the code, and touches the data
        first[name] = SETTLED
        if name not in warm:
            start = clock()
            run()
            first[name] = clock() - start
    share = budget / max(1, len(runs))
    for i in range(rounds):
        callback(i / rounds)
        for name in list(runs)[:: 1 if i % 2 == 0 else -1]:
            done = seconds[name]
            if len(done) < i or (
                i >= least.get(name, 1) and sum(done) * (i + 1) / i > share
            ):  # a run that has dropped out never returns
                continue
            if first[name] < SETTLED:
                runs[name]()
            if name in before:
                before[name]()
            start = clock()
            result = runs[name]()
            done.append(clock() - start)
            del result  # freed outside the clock
    return seconds


def paired(a: Callable[[], Any], b: Callable[[], Any], pairs: int) -> float:
    """Return the median of time(a) / time(b) over pairs of runs, interleaved A B B A in one process."""
    seconds = interleaved({"a": a, "b": b}, pairs)
    return ratio(seconds["a"], seconds["b"])
