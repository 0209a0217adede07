"""Measures the cases of a suite, after checking that what is measured is right."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator, Sequence

from .._jit import threads as limited
from .._progress import watching
from .._solvers import Progress
from . import _cases
from ._case import FLOOR, OURS, Case, reference
from ._machine import load, machine
from ._record import Record, Timed
from ._timing import interleaved

Key = tuple[str, tuple[int, int], str]

ROUNDS = 25
# Of ours and what it is compared with over time, whatever they take: with 8 rounds in either record one that
# was disturbed does not move the interval far.
LEAST = 8
# Seconds for the rounds of one case, by suite.
BUDGETS = {"quick": 1.0, "standard": 10.0, "full": 60.0}
# Of the responses of cases that take turns. What disturbs a machine lasts for seconds: where the rounds of a
# case are spread over the time of many, it falls on few of them. With others at work, changes between two
# records of the same code came out half as large as with the rounds of each case in a row.
BATCH_BYTES = 64e6


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
        If a run fails or its result is not accurate: a time of something wrong is none.
    """
    settings = {"rounds": rounds, "budget": float(budget), "threads": threads, "peers": peers}
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    before = load()
    timed: list[Timed] = []
    with limited(threads) if threads is not None else contextlib.nullcontext(), watching(callback) as watch:
        found = machine()
        for batch in _batches(keys):
            start, share = len(timed) / len(keys), len(batch) / len(keys)

            def tell(done: float, start: float = start, share: float = share) -> None:
                watch(Progress("bench", start + done * share))

            tell(0.0)
            cases = [_checked(_cases.case(*key, peers=peers)) for key in batch]
            runs = {(i, name): call for i, case in enumerate(cases) for name, call in case.runs.items()}
            least = {
                (i, name): LEAST for i, case in enumerate(cases) for name in (OURS, reference(case.runs))
            }
            seconds = interleaved(runs, rounds, budget * len(batch), tell, least)
            for i, case in enumerate(cases):
                timed.append(_timed(case, {name: seconds[i, name] for name in case.runs}))
        watch(Progress("bench", 1.0))
    return Record(suite, started, (before, load()), found, settings, tuple(timed))


def _timed(case: Case, seconds: dict[str, list[float]]) -> Timed:
    return Timed(
        case.operation, case.shape, case.dtype, seconds, float(case.flops), float(case.nbytes),
        dict(case.skipped),
    )  # fmt: skip


def _batches(keys: Sequence[Key]) -> Iterator[list[Key]]:
    """Cases that are in memory together, and take their turn in the same rounds."""
    batch: list[Key] = []
    held = 0
    for key in keys:
        _, (N, D), _ = key
        if batch and held + 8 * N * D > BATCH_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(key)
        held += 8 * N * D
    if batch:
        yield batch


def _checked(case: Case) -> Case:
    """The case, of which every run gives what it should."""
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
    return case
