"""Measures the cases of a suite, after checking that what is measured is right."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .._compute.jit import threads as limited
from .._compute.progress import Progress, watching
from .._results.overshoot import OvershootWarning
from .._timings.record import Record, Timed
from .._timings.runs import FLOOR, NAIVE, OURS
from . import _cases
from ._case import Case, reference, told
from ._machine import load, machine
from ._operation import Key, pairs
from ._timing import interleaved

# Simulated with 5 % of noise in each round, bursts, and 1 % between processes, no comparison of 20 unchanged
# operations fails with 50 rounds, and 15 % more time for one is caught in 99 of 100; with 25 rounds 6 of 100
# cannot be told, and 97 are caught.
ROUNDS = 50
# Of ours and what it is compared with over time, whatever they take.
LEAST = 15
# Seconds of a first call that serve as its warm-up, where a run is only looked at.
LONG = 1.0
# Seconds for the rounds of one case, by suite.
BUDGETS = {"quick": 1.0, "standard": 10.0, "full": 60.0}
# Of what cases that take turns hold. What disturbs a machine lasts for seconds: where the rounds of a
# case are spread over the time of many, it falls on few of them. With others at work, changes between two
# records of the same code came out half as large as with the rounds of each case in a row.
BATCH_BYTES = 512e6
# Arrays like X: X and Y of a simulation, and what a case makes of it for its runs, as the order that BLAS
# wants, centred or double ones, and the copies of two or three libraries.
SIMULATED, COPIES = 2, 4


def run(
    keys: Sequence[Key],
    *,
    suite: str,
    rounds: int = ROUNDS,
    budget: float = 10.0,
    threads: int | None = None,
    peers: bool = True,
    callback: Callable[[Progress], object] | None = None,
) -> Record:
    """Check cases, and time them in rounds in which all of them take their turn.

    Parameters
    ----------
    keys : sequence of (operation, shape, dtype)
        The cases.
    suite : str
        What the record is called.
    rounds : int
        In which all runs of all cases take their turn, as far as they fit into memory together.
    budget : float
        Seconds for a case, on average. Runs that would take more than their share have fewer rounds.
    threads : int, optional
        For Numba and BLAS; by default as the process has them.
    peers : bool
        Whether what users would take instead is measured, too.
    callback : callable, optional
        Called with a `Progress` of stage "bench" now and then; what it raises ends the run.

    Raises
    ------
    RuntimeError
        If ours or the naive version fails or is not accurate: a time of something wrong is none. A peer of
        which that is true is left out, with its reason.
    """
    settings = {"rounds": rounds, "budget": float(budget), "threads": threads, "peers": peers}
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    before = load()
    timed: dict[int, Timed] = {}
    with (
        limited(threads) if threads is not None else contextlib.nullcontext(),
        watching(callback) as watch,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", OvershootWarning)  # it is timed, not used
        found = machine()
        for batch in _batches(keys):
            start, share = len(timed) / len(keys), len(batch) / len(keys)

            def tell(done: float, start: float = start, share: float = share) -> None:
                watch(Progress("bench", start + done * share))

            tell(0.0)
            measured = _measured([keys[i] for i in batch], rounds, budget, peers, tell)
            timed |= dict(zip(batch, measured, strict=True))
        watch(Progress("bench", 1.0))
    return Record(suite, started, (before, load()), found, settings, tuple(timed[i] for i in sorted(timed)))


def _measured(
    keys: Sequence[Key], rounds: int, budget: float, peers: bool, tell: Callable[[float], object]
) -> list[Timed]:
    """Cases that take turns. What they hold is free again when this returns."""
    cases: list[Case] = []
    runs: dict[tuple[int, str], Callable[[], Any]] = {}
    took: dict[tuple[int, str], float] = {}
    for i, key in enumerate(keys):
        case, first = _checked(_cases.case(*key, peers=peers))
        cases.append(case)
        took |= {(i, name): each for name, each in first.items()}
        runs |= {(i, name): call for name, call in case.runs.items()}
    compared = [(i, name) for i, case in enumerate(cases) for name in (OURS, reference(case.runs))]
    seconds = interleaved(
        runs, rounds, budget * len(keys), tell,
        least={(i, name): LEAST for i, name in compared if name is not None},
        before={(i, name): call for i, case in enumerate(cases) for name, call in case.before.items()},
        warm=[key for key, each in took.items() if each > LONG and key not in compared],
    )  # fmt: skip
    return [
        Timed(
            case.operation, case.shape, case.dtype, {name: seconds[i, name] for name in case.runs},
            float(case.flops), float(case.nbytes), dict(case.skipped), float(case.repeats),
        )
        for i, case in enumerate(cases)
    ]  # fmt: skip


def _batches(keys: Sequence[Key]) -> Iterator[list[int]]:
    """Places in `keys` of cases that are in memory together, and take their turn in the same rounds.

    Those of one simulation come together, so that it is made once and they share it.
    """
    simulations: dict[tuple[tuple[int, int], str], list[int]] = {}
    for i, (_, shape, dtype) in enumerate(keys):
        simulations.setdefault((shape, dtype), []).append(i)
    batch: list[int] = []
    held = 0.0
    for (shape, dtype), places in simulations.items():
        itemsize = np.dtype(dtype).itemsize
        like_x, system = math.prod(shape) * itemsize, min(shape[0], pairs(shape[1])) ** 2 * itemsize
        made = 0.0
        for i in places:
            if batch and held + (SIMULATED + COPIES) * like_x + system - made > BATCH_BYTES:
                yield batch
                batch, held, made = [], 0.0, 0.0
            batch.append(i)
            held += (SIMULATED + COPIES) * like_x + system - made
            made = SIMULATED * like_x
    if batch:
        yield batch


def _checked(case: Case) -> tuple[Case, dict[str, float]]:
    """The case without the peers that fail or are wrong, and seconds of a first call of each run.

    But not of the floor, whose result is none. Raises where ours or the naive version is wrong: both are part
    of this package.
    """
    took: dict[str, float] = {}
    skipped = dict(case.skipped)
    for name, call in case.runs.items():
        if name == FLOOR:
            continue
        case.before.get(name, lambda: None)()
        start = time.perf_counter()
        try:
            result = call()
            took[name] = time.perf_counter() - start
            case.check(result)
        except Exception as error:
            what = "is wrong" if isinstance(error, AssertionError) else "failed"
            if name in (OURS, NAIVE):
                raise RuntimeError(
                    f"What {name!r} gives for {case.name!r} {what} ({told(error)}): run 'fastcov doctor', or "
                    "choose other cases with --only."
                ) from error
            skipped[name] = f"it {what} ({told(error)})"
    runs = {name: call for name, call in case.runs.items() if name not in skipped}
    return dataclasses.replace(case, runs=runs, skipped=skipped), took
