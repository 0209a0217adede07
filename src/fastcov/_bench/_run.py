"""Check the results of the cases of a suite, and then time them."""

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
from ._case import Case, error_summary, reference
from ._machine import load, machine
from ._operation import Key, pairs
from ._timing import interleaved

# Number of rounds. In simulations with 5 % of noise in each round, bursts, and 1 % between processes, no
# comparison of 20 unchanged operations fails with 50 rounds, and 15 % more time for one operation is detected
# in 99 of 100; with 25 rounds, 6 of 100 comparisons are undecided, and 97 are detected.
ROUNDS = 50
# Fewest rounds of fastcov and of its reference, however long they take.
LEAST = 15
# A first call that takes longer than this, in seconds, serves as the warm-up of a run that is only reported.
LONG = 1.0
# Seconds for the rounds of one case, by suite.
BUDGETS = {"quick": 1.0, "standard": 10.0, "full": 60.0}
# Most bytes that cases hold that take turns. A disturbance of a machine lasts for seconds: if the rounds of a
# case are spread over the time of many cases, it affects only a few of them. With others at work, changes
# between two records of the same code were half as large as with the rounds of each case in a row.
BATCH_BYTES = 512e6
# Numbers of arrays of the size of X: X and Y of a simulation, and the copies that a case makes for its runs,
# such as those in the order of BLAS, centred or in float64, and those of two or three libraries.
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
    """Check cases, and time them in rounds in which all of them take turns.

    Parameters
    ----------
    keys : sequence of (operation, shape, dtype)
        The cases.
    suite : str
        The name of the suite, for the record.
    rounds : int
        Number of rounds, in each of which all runs of all cases that fit in memory together take turns.
    budget : float
        Seconds for a case, on average. Runs that would take more than their share have fewer rounds.
    threads : int, optional
        Threads for Numba and BLAS; by default those of the process.
    peers : bool
        Whether to measure peers, too.
    callback : callable, optional
        Called with a `Progress` of stage "bench" now and then; an exception from it ends the run.

    Raises
    ------
    RuntimeError
        If fastcov or the naive version fails or is not accurate, because the time of a wrong result is
        meaningless. A peer that fails or is not accurate is left out, with the reason.
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
        warnings.simplefilter("ignore", OvershootWarning)  # the fit is timed, not used
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
    """Measure cases that take turns, and free their memory at the end."""
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
    """Yield places in `keys` of cases that are in memory together, and take turns in the same rounds.

    Cases of one simulation stay together, so that they share it and it is made once.
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
    """Return the case without peers that fail or are wrong, and the seconds of a first call of each run.

    The floor is not called, since it has no result. Raises an error if fastcov or the naive version is wrong,
    because both are part of this package.
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
                    f"What {name!r} gives for {case.name!r} {what} ({error_summary(error)}): run "
                    "'fastcov doctor', or choose other cases with --only."
                ) from error
            skipped[name] = f"it {what} ({error_summary(error)})"
    runs = {name: call for name, call in case.runs.items() if name not in skipped}
    return dataclasses.replace(case, runs=runs, skipped=skipped), took
