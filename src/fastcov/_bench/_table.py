"""Format a record as a table, for a terminal or for a Markdown page."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence

from .._timings.record import Record, Timed, others, size, times_ours
from .._timings.runs import FLOOR, NAIVE, OURS, UNITS

# If there were more processes per core than this before the start, others were at work.
BUSY = 0.5
# Number of peers, the fastest first, that fit into a line of a terminal.
SHOWN = 2
HEAD = ("operation", "size", "dtype", "fastcov", "GFLOP/s", "/ floor", "naive", "instead of it")


def table(record: Record) -> str:
    """Format a record for a terminal: the machine, a line for each case, and the runs that were skipped."""
    return "\n".join([
        *about(record),
        "",
        aligned([HEAD, *(_row(case, most=SHOWN) for case in record.cases)], left=(0, 1, 2, 7)),
        "",
        *legend(record),
    ])  # fmt: skip


def markdown(record: Record) -> str:
    """Format a record for a Markdown page."""
    rows = [HEAD, ("---",) * 3 + ("---:",) * 4 + ("---",), *map(_row, record.cases)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n\n".join(["  \n".join(about(record)), "\n".join(lines), *legend(record)])


def aligned(rows: Sequence[Sequence[str]], left: Collection[int]) -> str:
    """Align columns at their smallest widths, those in `left` flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if j in left else cell.rjust(width)
            for j, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def about(record: Record) -> list[str]:
    """Describe machine, versions, threads and variables, and say whether others were at work.

    Variables that threadpoolctl itself sets, which begin with KMP_, are left out.
    """
    found = record.machine
    versions = [f"{name} {found['versions'].get(name)}" for name in ("numpy", "scipy", "numba", "python")]
    code = f"fastcov {found['versions'].get('fastcov')}"
    blas = {f"{pool['internal_api']} {pool['version']} ({pool['architecture']})" for pool in found["blas"]}
    threads = {pool["num_threads"] for pool in found["blas"]}
    names = {"numpy": "NumPy", "fastcov": "fastcov"}
    given = [f"{name}={value}" for name, value in found["environment"].items() if not name.startswith("KMP_")]
    lines = [
        f"{found['processor']}, {found['cores']} cores, {found['memory_gb']:g} GB, {found['system']}",
        ", ".join([code + (f" ({found['commit']})" if found["commit"] else ""), *versions]),
        f"{', '.join(sorted(blas))}; threads: Numba {found['numba']['threads']}, "
        f"BLAS {', '.join(map(str, sorted(threads)))}",
        f"{names[found['imported_first']]} imported first; {', '.join(given) or 'no variables set'}",
        f"suite {record.suite}, at most {record.settings['rounds']} rounds a case, {record.started}",
    ]
    return lines + [word for word in (disturbance(record),) if word]


def disturbance(record: Record) -> str:
    """Say that others were at work on the machine; empty if they were not."""
    busy, cores = record.load[0], record.machine["cores"]
    return (
        f"others were at work, {busy:g} processes on {cores} cores before the start"
        if busy > BUSY * cores
        else ""
    )


def legend(record: Record) -> list[str]:
    """Explain the columns, and list the runs that were skipped, once for each reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for case in record.cases:
        for run, reason in case.skipped.items():
            reasons.setdefault((run, reason), []).append(f"{case.operation} {size(case)}")
    lines = [
        "fastcov: median. / floor: our time over that of the bare BLAS or LAPACK work. naive, and what one "
        "would take",
        "instead: how many times as long as fastcov they take. Each ratio is the median over rounds in which "
        "both ran.",
    ]
    for (run, reason), cases in reasons.items():
        lines.append(f"Without {run} in {_listed(list(dict.fromkeys(cases)))}: {reason}.")
    return lines


def duration(seconds: float) -> str:
    """Write seconds with three digits and a unit."""
    unit, scale = next((u for u in UNITS if seconds >= u[1]), UNITS[-1])
    return f"{_digits(seconds / scale)} {unit}"


def _row(case: Timed, most: int | None = None) -> tuple[str, ...]:
    """Return the cells of a line, with at most `most` peers, the fastest first."""
    median = statistics.median(case.seconds[OURS])
    instead = sorted((times_ours(case, run), run) for run in others(case))
    return (
        case.operation,
        size(case),
        case.dtype,
        duration(median),
        _digits(case.flops / median / 1e9) if case.flops else "",
        _digits(1 / times_ours(case, FLOOR)) if FLOOR in case.seconds else "",
        f"{_digits(times_ours(case, NAIVE))} x" if NAIVE in case.seconds else "",
        "; ".join(f"{run} {_digits(times)} x" for times, run in instead[:most])
        + ("; ..." if len(instead[:most]) < len(instead) else ""),
    )


def _digits(value: float) -> str:
    """Write three digits, without an exponent."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _listed(names: list[str], most: int = 3) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
