"""Timing on a noisy machine: rounds in which all implementations run, one after another, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from .._timings.runs import ratio

# A run that takes less is called once before the clock starts, so that it finds its own data in the caches
# and not what the one before left there.
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
    """Seconds of each run in each round: first to last, last to first, and so on.

    All run in every round but those that would take more than their share of `budget` seconds, which sit
    out after the rounds that they have time for (`least` of them, or one). So times of one place in two
    lists are of one round, and whatever else the machine did then fell on both. `callback` is told the share
    of rounds that is done; `clock` is asked for the seconds. Each is called once before, but those in `warm`.
    `before` is what happens right before each run of a name, outside the clock.
    """
    seconds: dict[K, list[float]] = {name: [] for name in runs}
    first = {}
    for name, run in runs.items():  # compiles, and touches what is to be touched
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
            ):  # once out, out for good
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
    """Median of time(a) / time(b) over pairs of runs, interleaved A B B A in one process."""
    seconds = interleaved({"a": a, "b": b}, pairs)
    return ratio(seconds["a"], seconds["b"])
