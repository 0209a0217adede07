"""Runs the fits of a study in parallel on all cores."""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .._compute.jit import blas_for
from .._compute.progress import Progress
from .._fitting.settings import Settings
from .._inputs.validation import available_memory
from .._model.group_forms import forms_bytes
from .._results.score import Split
from .._solvers import plan
from .held_out import KEPT_BYTES, HeldOut, Prediction
from .leave_out import LeftOut, pays
from .ridge_path import RELATIVE_RIDGES

# A path of exact fits is cut into chains of this many ridges, which run in parallel. Within a chain each fit
# warm-starts from the one before. If every fit started from gains of one, it would take 1.2 times the
# products at 1e-4 to 1; one cold start in four hardly counts.
CHAIN = 4
# Bytes that a fold holds for each response of its training conditions: copies in float64 and float32, and
# arrays made from them.
FOLD_BYTES = 24
# Tasks queued ahead for each worker. Queueing all tasks would be slower: looking through them, whenever one
# is done, takes longer than the tasks do.
WINDOW = 4
# Shuffled targets of a fold that are fitted in one loop: enough that Python's overhead does not count.
GROUP = 8

Predictions = dict[tuple[str, int, int], dict[int, Prediction]]  # keys: method, order and fold; then ridge


def _bytes(study: HeldOut, method: str, n_conditions: int, settings: Settings) -> float:
    """Bytes that a fold takes, as far as known in advance."""
    N, dtype = study.given.shape[0], study.given.dtype
    copies: float = FOLD_BYTES * N * n_conditions
    if study.groups is not None:
        copies += forms_bytes(len(study.groups), n_conditions)
    if method not in ("linear", "line-search") or settings.bounds is not None:
        return copies
    smallest = min((ridge for ridge in study.ridges if study.relative), default=RELATIVE_RIDGES[0])
    n = N if study.groups is None else len(study.groups)
    found = plan(
        n, n_conditions, solver=settings.solver, relative_ridge=smallest, dtype=dtype,
        tol=settings.linear_tol, memory_budget=settings.budget,
    )  # fmt: skip
    return copies + next(cost.nbytes for cost in found.costs if cost.solver == found.solver)


class _Cancelled(BaseException):
    """Raised in a fit on another thread to end it."""


def side_by_side(
    study: HeldOut,
    splits: list[Split],
    inner: list[Split],
    orders: list[NDArray[np.intp]],
    settings: Mapping[str, Settings],
    budget: float | None,
    watch: Callable[[Progress], object],
) -> Predictions:
    """Fit every method on every fold, with the conditions in each of the orders, on all cores.

    Inner folds are numbered after the outer ones. They use the conditions in their given order only.
    """
    cores = numba.get_num_threads()
    every = splits + inner
    whole = [
        (m, s, f)
        for s in range(len(orders))
        for f in range(len(every if s == 0 else splits))
        for m in settings
    ]
    N, K = study.given.shape[0], len(study.ridges)
    keep = 8 * len(splits) * K * N <= KEPT_BYTES
    falling = np.argsort(study.ridges)[::-1]
    cut = np.array_split(falling, -(-len(falling) // CHAIN))
    chains = {m: cut[::-1] if m == "exact" else [falling] for m in settings}
    at_once = {m for m in settings if m == "linear" and pays(study, splits, settings[m])}

    def together(m: str, s: int, f: int) -> bool:
        return m in at_once and f < len(splits) and (s == 0 or study.even)

    # Exact fits of a fold to several shuffled targets share one loop.
    shuffled = range(1, len(orders)) if "exact" in settings and study.even else range(0)
    groups = [tuple(shuffled[first : first + GROUP]) for first in range(0, len(shuffled), GROUP)]
    tasks: list[tuple[str, tuple[int, ...], int, list[int]]] = [
        (m, (s,), f, chain.tolist())
        for m, s, f in whole
        if not (m == "exact" and s in shuffled)
        for chain in ([falling] if together(m, s, f) else chains[m])
    ]
    tasks += [
        ("exact", some, f, chain.tolist())
        for some in groups
        for f in range(len(splits))
        for chain in chains["exact"]
    ]
    tasks.sort(key=lambda task: study.ridges[task[-1][-1]])  # small ridges take longest
    most = max(len(train) for train, _ in splits)
    needed = max(_bytes(study, m, most, asked) for m, asked in settings.items())
    needed += 64 * GROUP * (N + most * most) if groups else 0
    free = available_memory() if budget is None else min(budget, available_memory())
    workers = max(1, min(cores, len(tasks), int(free // needed)))
    if not study.given.rows.in_memory:
        workers = 1  # files are read by one worker at a time
    results: Predictions = {each: {} for each in whole}
    cancelled = False
    under_way: list[threading.Event] = []

    def check(_: Progress | None) -> None:
        if cancelled:
            raise _Cancelled

    left_out = LeftOut(study, check)

    def work(m: str, some: tuple[int, ...], f: int, part: list[int]) -> Predictions:
        ended = threading.Event()
        under_way.append(ended)
        try:
            check(None)
            kept = keep and some == (0,) and f < len(splits)
            if together(m, some[0], f):
                return {(m, some[0], f): left_out.fold(splits[f], orders[some[0]], kept)}
            asked = settings[m].watched(check, rng=np.random.default_rng(0))
            found = study.paths(every[f], [orders[s] for s in some], m, asked, part, kept)
            return {(m, s, f): row for s, row in zip(some, found, strict=True)}
        finally:
            ended.set()

    if workers == 1:
        for done, task in enumerate(tasks, 1):
            for key, row in work(*task).items():
                results[key].update(row)
            watch(Progress("folds", done / len(tasks)))
        return results
    pool = concurrent.futures.ThreadPoolExecutor(
        workers, "fastcov-fold", initializer=numba.set_num_threads, initargs=(1,)
    )
    with blas_for(0):
        try:
            queue, waiting, done = iter(tasks), set[concurrent.futures.Future[Any]](), 0
            while True:
                for task in itertools.islice(queue, WINDOW * workers - len(waiting)):
                    waiting.add(pool.submit(work, *task))
                if not waiting:
                    break
                # The wait is short, because a signal that comes just before it does not end it.
                ready, waiting = concurrent.futures.wait(waiting, 0.2, concurrent.futures.FIRST_COMPLETED)
                for future in ready:
                    for key, row in future.result().items():
                        results[key].update(row)
                done += len(ready)
                if ready:
                    watch(Progress("folds", done / len(tasks)))
        finally:  # after an error in a fold or a callback, or Ctrl-C, running fits end at once
            cancelled = True
            pool.shutdown(cancel_futures=True)
            for ended in under_way:  # the pool does not know a thread whose start was interrupted
                ended.wait()
    return results
