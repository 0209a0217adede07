"""Measures the cases of a suite, after checking that what is measured is right."""

from __future__ import annotations

import contextlib
import datetime
import io
from collections.abc import Callable, Sequence

from .._jit import threads as limited
from .._progress import watching
from .._solvers import Progress
from . import _cases
from ._case import FLOOR, OURS, Case
from ._machine import load, machine
from ._record import Record, Timed
from ._timing import interleaved

Key = tuple[str, tuple[int, int], str]

ROUNDS = 25
# Seconds for the rounds of one case, by suite.
BUDGETS = {"quick": 2.0, "standard": 10.0, "full": 60.0}


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
    """Check and time cases, one after another.

    Parameters
    ----------
    keys : sequence of (operation, shape, dtype)
        The cases.
    suite : str
        What the record is called.
    rounds : int
        In which all runs of a case take their turn.
    budget : float
        Seconds for the rounds of one case. Runs that would take more than their share have fewer.
    threads : int, optional
        For Numba and BLAS; by default as the process has them.
    peers : bool
        Whether what users would take instead is measured, too.
    callback : callable, optional
        Called with a `Progress` of stage "bench" after each case; what it raises ends the run.

    Raises
    ------
    RuntimeError
        If a run fails or its result is not accurate: a time of something wrong is none.
    """
    settings = {"rounds": rounds, "budget": float(budget), "threads": threads, "peers": peers}
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    before, cases = load(), []
    with limited(threads) if threads is not None else contextlib.nullcontext(), watching(callback) as watch:
        found = machine()
        for i, key in enumerate(keys):
            watch(Progress("bench", i / len(keys)))
            # A fit of seconds has a bar of its own, which would be timed and drawn over this one.
            with contextlib.redirect_stderr(io.StringIO()):
                cases.append(_timed(_cases.case(*key, peers=peers), rounds, budget))
        watch(Progress("bench", 1.0))
    return Record(suite, started, (before, load()), found, settings, tuple(cases))


def _timed(case: Case, rounds: int, budget: float) -> Timed:
    for name, call in case.runs.items():
        if name == FLOOR:  # a part of the work, whose result is none
            continue
        remedy = "run 'fastcov doctor'" if name == OURS else "leave it out with --no-peers"
        try:
            case.check(call())
        except Exception as error:
            what = "is wrong" if isinstance(error, AssertionError) else "failed"
            said = " ".join(str(error).split()) or type(error).__name__
            raise RuntimeError(f"What {name!r} gives for {case.name!r} {what} ({said}): {remedy}.") from error
    seconds = interleaved(case.runs, rounds, budget)
    return Timed(
        case.operation, case.shape, case.dtype, seconds, float(case.flops), float(case.nbytes),
        dict(case.skipped),
    )  # fmt: skip
