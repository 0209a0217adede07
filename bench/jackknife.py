"""Standard errors of the jackknife over those of a bootstrap: the table of docs/uncertainty.md.

    python bench/jackknife.py [--draws 500] [--times]

With FASTCOV_REAL_DATA the recordings are among the data. `--times` adds what both take, over one exact fit:
medians of interleaved calls, for which the machine should do nothing else.
"""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py

# isort: split
import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator

import fastcov as fc

RIDGES = (0.1, 0.01)
KINDS = ("cells", "conditions")
REPEATS = 25  # of fits and jackknives; bootstraps take long and are timed five times


def data() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Names, X and Y."""
    for realistic in (False, True):
        sim = fc.datasets.simulate(148, 48, rng=0, realistic=realistic)
        yield f"{'realistic' if realistic else 'default'} simulation, (148, 48)", sim.X, sim.Y
    sim = fc.datasets.simulate(871, 52, rng=0, realistic=True)
    yield "realistic simulation, (871, 52)", sim.X, sim.Y
    if path := os.environ.get("FASTCOV_REAL_DATA"):
        recorded = np.load(path)
        yield "recordings, (871, 52)", recorded["glomeruli"], recorded["mitral"]


def seconds(call: Callable[[], object]) -> float:
    """The time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=500, help="bootstraps")
    parser.add_argument("--times", action="store_true", help="time both beside an exact fit")
    asked = parser.parse_args()
    head = ["data", "λ/λ_max", *(f"over {kind}" for kind in KINDS)]
    if asked.times:
        head += ["intervals / fit", "a bootstrap / fit"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)
    for name, X, Y in data():
        live = X.any(axis=1)
        for ridge in RIDGES:
            fit = fc.fit(X, responses=Y, relative_ridge=ridge, method="exact")
            cells = [name, f"{ridge:g}"]
            for kind in KINDS:
                one, many = fit.uncertainty(Y, kind), fit.uncertainty(Y, kind, n_boot=asked.draws)
                cells.append(f"{np.median(one.se[live] / many.se[live]):.3f}")
            if asked.times:
                S, lam = fit.target(), fit.ridge
                calls = {
                    "fit": lambda: fc.fit(X, S, ridge=lam, method="exact"),  # noqa: B023
                    "jackknife": lambda: fit.uncertainty(Y),  # noqa: B023
                    "bootstrap": lambda: fit.uncertainty(Y, n_boot=asked.draws),  # noqa: B023
                }
                rounds = [
                    [seconds(call) for key, call in calls.items() if key != "bootstrap" or k % 5 == 0]
                    for k in range(REPEATS)
                ]
                jackknife = statistics.median(each[1] / each[0] for each in rounds)
                single = statistics.median(each[0] for each in rounds)
                bootstrap = statistics.median(each[2] / single for each in rounds if len(each) > 2)
                cells += [f"{jackknife:.1f}", f"{bootstrap / asked.draws:.2f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
