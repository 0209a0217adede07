"""Has anything become slower? `python bench/gate.py`, exits 0: no; 1: yes, and what; 75: too noisy to tell.

Seconds of another time or machine say little, so each row of gate_rows.py is a ratio to something that
runs beside it: the median over interleaved rounds, in one process, of equally long blocks of calls. With one
thread the time is that of the processor, which stands still while others have the core; with all it is the
wall's.

What one process cannot see is where its memory happened to lie. So a row above its first line (or that was
too noisy) is measured again in two fresh processes, and fails if the median of the three is above the second:
two of three have to agree. Nor can they see that others slow a machine that is shared for a minute or two.
So what fails is measured all over again, up to twice, each time after a pause: slower is what is so each
time.

The usual ratios are those of gate.json for this kind of machine, which `python bench/gate.py --record`
measures (five minutes, on a machine that does nothing else); without them wider lines apply, which hold
anywhere. All processes import NumPy before fastcov, as nearly all programs do.

Where the processor has AVX-512, a short set of rows runs once more as on one that has AVX2 and no more; see
gate_avx2.py.
"""

from __future__ import annotations

import gate_rows  # first: it imports NumPy before fastcov

# isort: split
import argparse
import contextlib
import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import threadpoolctl

import fastcov as fc
import gate_avx2
from fastcov._bench._machine import processor
from fastcov._bench._timing import interleaved
from fastcov._compute import system
from fastcov._compute.environment import as_given
from fastcov._timings.runs import OURS
from gate_rows import ALL, BEFORE, CALLS, MARGINS, ONE, ROWS, Row

# As sysexits.h has it for what may go better later; 2 is that of wrong options.
BUSY = 75
USUAL = pathlib.Path(__file__).with_name("gate.json")
# Rounds: as many as there is time for, within these.
ROUNDS, SECONDS = (31, 101), 0.6
# Shorter than the turn of a process on a core, so that most blocks are undisturbed; and long enough for the
# clock, which takes half a microsecond.
BLOCK = 1e-3
# Processes of a row that is measured again, and of a record.
PROCESSES, RECORDED = 3, 7
# Times that a row found slower is measured again, and seconds before each: what others on a machine did to
# some rows has lasted for two minutes.
AGAIN, PAUSE = 2, 60.0
# Memory that is freed stays with the process, and does not come again page by page in some processes alone.
# On a busy machine ratios of explain at (148, 48) were 12 % apart without, and 2 % with it.
MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}
# The usual ratio is told from the line while the standard error is below this part of the way between them;
# and any ratio is that is so many standard errors away from it.
RESOLVED, TOLD = 1 / 3, 3.0


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A median over rounds, and its relative standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Ratio:
        """From those of the rounds; the error as of a normal distribution with their quartiles."""
        low, middle, high = statistics.quantiles(ratios, n=4)
        return cls(middle, 0.93 * (high - low) / middle / len(ratios) ** 0.5)


def verdict(ratios: Sequence[Ratio], row: Row, usual: float | None) -> str:
    """Of PROCESSES ratios "ok", "slower" or "noisy"; of the first alone "ok" or "again"."""
    warn, fail = row.lines(usual)
    value = statistics.median(ratio.value for ratio in ratios)
    error = statistics.median(ratio.error for ratio in ratios)
    coarse = error > RESOLVED * (MARGINS[row.margins or row.threads][1] - 1.0)
    noisy = coarse and abs(value / fail - 1.0) < TOLD * error
    if len(ratios) < PROCESSES:
        return "again" if noisy or value > warn else "ok"
    if noisy:
        return "noisy"
    return "slower" if value > fail else "ok"


def measure(row: Row, slow: str = "", by: float = 1.0) -> Ratio:
    """The ratio of a row in this process."""
    clock = time.process_time if row.threads == ONE else time.perf_counter
    with fc.threads(1) if row.threads == ONE else contextlib.nullcontext():
        calls = gate_rows.runs(row, slow, by)
        once = {name: min(_timed(run) for _ in range(5)) for name, run in calls.items()}
        length = max(BLOCK, *once.values())
        before = BEFORE.get(row.what, {})
        # What happens before a call has to happen before each.
        times = {name: 1 if before else max(1, round(length / seconds)) for name, seconds in once.items()}
        blocks = {name: _repeated(run, times[name]) for name, run in calls.items()}
        least, most = ROUNDS
        rounds = min(most, max(least, int(SECONDS / (4 * length))))  # each block runs twice, once untimed
        seconds = interleaved(blocks, rounds, clock=clock, before=before)
    share = times[row.against] / times[OURS]
    return Ratio.of([share * a / b for a, b in zip(seconds[OURS], seconds[row.against], strict=True)])


def _timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _repeated(run: Callable[[], Any], times: int) -> Callable[[], None]:
    def block() -> None:
        for _ in range(times):
            run()

    return block


def in_child(names: Sequence[str], slow: str = "", by: float = 1.0, **variables: str) -> dict[str, Ratio]:
    """The ratios of rows in a fresh process, with variables beside those that this one was given."""
    command = [sys.executable, __file__, "--slow", slow, "--by", str(by), "--measure", *names]
    given = as_given() | MEMORY | variables
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=given)
    return {name: Ratio(*found) for name, found in json.loads(done.stdout).items()}


def kind() -> str:
    """What usual ratios depend on: processor, threads, BLAS, compiler, and what was imported first."""
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    blas = " and ".join(sorted(f"{p['internal_api']} {p['version']} {p.get('architecture')}" for p in pools))
    versions, threads = system.versions(), max((p["num_threads"] for p in pools), default=1)
    libraries = f"NumPy {versions['numpy']} first, Numba {versions['numba']}"
    return f"{processor()}, {threads} threads, {blas}, {libraries}"


def usual_ratios() -> dict[str, float]:
    """Those recorded for this kind of machine, by row; none where nothing was."""
    return json.loads(USUAL.read_text()).get(kind(), {}) if USUAL.exists() else {}


def record(names: Sequence[str]) -> int:
    """Write what is usual of each ratio over fresh processes; 1 if one is above its promise.

    That is halfway between the second lowest and the second highest: some ratios come at one of two values,
    as memory happens to lie, and their median is now the one, now the other.
    """
    taken = []
    for i in range(RECORDED):
        print(f"process {i + 1} of {RECORDED}", file=sys.stderr, flush=True)
        taken.append(in_child(names))
    usual, broken = {}, []
    print(f"{'what / beside what, threads':<48}{'usual':>9}  apart")
    for name in names:
        values = sorted(ratios[name].value for ratios in taken)
        middle = (values[1] + values[-2]) / 2.0
        apart = max(abs(value / middle - 1.0) for value in values)
        print(f"{name:<48}{middle:9.3f}  {apart:5.1%}")
        usual[name] = float(f"{middle:.4g}")
        if middle > ROWS[name].promise:
            broken.append(name)
    before = json.loads(USUAL.read_text()) if USUAL.exists() else {}
    kept = {name: ratio for name, ratio in before.get(kind(), {}).items() if name in ROWS}
    USUAL.write_text(json.dumps(before | {kind(): kept | usual}, indent=1) + "\n")
    if broken:
        print(f"\nAbove what holds anywhere: {'; '.join(broken)}.")
    return 1 if broken else 0


def measured(names: Sequence[str], processes: int, slow: str, by: float) -> dict[str, list[Ratio]]:
    """The ratios of rows, each of so many fresh processes."""
    taken = [in_child(names, slow, by) for _ in range(processes)]
    return {name: [ratios[name] for ratios in taken] for name in names}


def gate(names: Sequence[str], slow: str = "", by: float = 1.0, pause: float = PAUSE) -> dict[str, str]:
    """Measure rows, those in doubt or slower again, and print tables. Verdicts by row."""
    usual = usual_ratios()
    if unknown := [name for name in names if name not in usual]:
        which = "anything" if len(unknown) == len(names) else "; ".join(unknown)
        print(
            f"No usual ratio is recorded for {which} on this kind of machine ({kind()}):\n"
            "the lines are those that hold anywhere. Record it with `python bench/gate.py --record`."
        )
    ratios = measured(names, 1, slow, by)
    if doubtful := [name for name, word in verdicts(ratios, usual).items() if word == "again"]:
        for name, more in measured(doubtful, PROCESSES - 1, slow, by).items():
            ratios[name] += more
    said = verdicts(ratios, usual)
    show(ratios, usual, said)
    for _ in range(AGAIN):
        slower = [name for name, word in said.items() if word == "slower"]
        if not slower:
            break
        print(f"\nAgain, after {pause:g} s, what was slower:", flush=True)
        time.sleep(pause)
        ratios = measured(slower, PROCESSES, slow, by)
        said |= verdicts(ratios, usual)
        show(ratios, usual, said)
    return said


def verdicts(ratios: Mapping[str, Sequence[Ratio]], usual: Mapping[str, float]) -> dict[str, str]:
    """That of each row."""
    return {name: verdict(found, ROWS[name], usual.get(name)) for name, found in ratios.items()}


def show(ratios: Mapping[str, Sequence[Ratio]], usual: Mapping[str, float], said: Mapping[str, str]) -> None:
    """Print a table of rows, their lines and verdicts."""
    print(f"{'what / beside what, threads':<48}{'ratio':>9}{'usual':>9}{'warn':>9}{'fail':>9}  verdict")
    for name, found in ratios.items():
        row, known = ROWS[name], usual.get(name)
        warn, fail = row.lines(known)
        middle = statistics.median(ratio.value for ratio in found)
        before = f"{known:9.3f}" if known is not None else f"{'-':>9}"
        again = f" of {', '.join(f'{r.value:.3f}' for r in found)}" if len(found) > 1 else ""
        print(f"{name:<48}{middle:9.3f}{before}{warn:9.3f}{fail:9.3f}  {said[name]}{again}")


def main() -> int:
    warnings.simplefilter("ignore", fc.OvershootWarning)  # fits are timed, not used
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="operations or kernels")
    parser.add_argument("--threads", choices=(ONE, ALL), help="rows of one thread or of all; by default both")
    parser.add_argument("--record", action="store_true", help="write gate.json for this kind of machine")
    parser.add_argument("--slow", default="", metavar="NAME", help="slow this down on purpose")
    parser.add_argument("--by", type=float, default=1.15, help="how many times as long it then takes")
    parser.add_argument(
        "--pause", type=float, default=PAUSE, help="seconds before what is slower is measured again"
    )
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write verdicts by row")
    parser.add_argument("--measure", nargs="+", metavar="ROW", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    known = {row.what for row in ROWS.values()}
    if unknown := {*asked.only, *filter(None, [asked.slow])} - known:
        parser.error(f"Names must be of {', '.join(sorted(known))}, not {', '.join(sorted(unknown))}.")
    if asked.slow in CALLS:
        gate_rows.slow_kernels({asked.slow: asked.by})
    if asked.measure:
        measured = {name: measure(ROWS[name], asked.slow, asked.by) for name in asked.measure}
        print(json.dumps({name: dataclasses.astuple(ratio) for name, ratio in measured.items()}))
        return 0
    names = [
        name for name, row in ROWS.items()
        if (not asked.only or row.what in asked.only) and asked.threads in (None, row.threads)
    ]  # fmt: skip
    if asked.record:
        return record(names)
    said = gate(names, asked.slow, asked.by, asked.pause)
    if not asked.slow:  # there it would be slower twice, and cancel
        said |= gate_avx2.compared([name for name in gate_avx2.ROWS if name in names], in_child)
    if asked.json:
        asked.json.write_text(json.dumps(said))
    slower = [name for name, word in said.items() if word == "slower"]
    noisy = [name for name, word in said.items() if word == "noisy"]
    if slower:
        print(f"\nSlower than usual: {'; '.join(slower)}.")
        return 1
    if noisy:
        print(f"\nThis machine is too busy to tell: {'; '.join(noisy)}.")
        return BUSY
    print("\nNothing is slower.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
