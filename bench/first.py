"""What is to be reached where NumPy is imported first and nothing is set: `python bench/first.py`, 7 minutes.

    FASTCOV_REAL_DATA=data.npz python bench/first.py [--only REGEX] [--pairs 25] [--list]
    FASTCOV_REAL_DATA=data.npz python bench/first.py --minima        # half a minute more

Rows of (871, 52) are of the recordings in that file, and of simulated responses without it, which they say.
Ratios are medians over pairs of runs, interleaved A B B A in this process, which imports NumPy first as
nearly all programs do. What compares two orders of imports is of fresh processes, in turns. Nothing waits for
the threads of a NumPy product to sleep, but before a fit that is called alone.
"""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py

# isort: split
import argparse
import os
import re
import sys
import time
import warnings
from collections.abc import Sequence

import fastcov as fc
import first_minima
import first_rows
from fastcov._compute.environment import as_given
from first_rows import Row

HEAD = "| what | at | aim | measured | met |\n|---|---|---|---|---|"


def met(aim: str, value: float) -> str:
    """Whether a value is what an aim as "≤ 1.3" asks for."""
    relation, number = aim.split()
    reached = value <= float(number) if relation == "≤" else value >= float(number)
    return "yes" if reached else "no"


def line(row: Row, value: float) -> str:
    """A row of the page."""
    return f"| {row.what} | {row.at} | {row.aim} | {value:{row.form}} | {met(row.aim, value)} |"


def chosen(rows: Sequence[Row], only: str | None) -> list[Row]:
    """Those in whose text the expression is found; letters count as either case."""
    return [row for row in rows if only is None or re.search(only, f"{row.what} {row.at}", re.IGNORECASE)]


def process() -> str:
    """What the figures are of, in a line."""
    given = as_given()
    read = ("OPENBLAS_", "OMP_", "GOMP_", "MKL_", "NUMBA_", "FASTCOV_KEEP")
    said = ", ".join(f"{name}={given[name]}" for name in sorted(given) if name.startswith(read))
    return (
        f"NumPy {np.__version__} imported first; {said or 'no variables set'}; load {os.getloadavg()[0]:.2f}"
    )


def main() -> int:
    warnings.simplefilter("ignore", fc.OvershootWarning)  # fits are timed, not used
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="REGEX", help="rows in whose text this is found")
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--minima", action="store_true", help="the rows of exact minima too, which are slow")
    parser.add_argument("--list", action="store_true", help="print the rows, and measure none")
    asked = parser.parse_args()
    rows = first_rows.rows() + (first_minima.rows() if asked.minima else [])
    rows = chosen(rows, asked.only)
    if not rows:
        parser.error(f"--only {asked.only!r} is in no row: see them with --list.")
    if asked.list:
        print("\n".join(f"{row.what}, {row.at}: {row.aim}" for row in rows))
        return 0
    print(process(), file=sys.stderr)
    print(HEAD, flush=True)
    notes, start = [], time.monotonic()
    for row in rows:
        before = time.monotonic()
        value, note = row.measure(asked.pairs)
        print(line(row, value), flush=True)
        print(f"{time.monotonic() - before:6.0f} s", file=sys.stderr, flush=True)
        if note:
            notes.append(f"- {row.what}, {row.at}: {note}.")
    if notes:
        print("\n" + "\n".join(notes))
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
