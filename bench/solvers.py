"""Every solver at every size, beside what the plan expects: `python bench/solvers.py`, some minutes.

The constants of `fastcov._solvers._plan` were fitted to these numbers. The last column is the time of
the solver that "auto" takes over that of the fastest: at most 1.5 is the aim.
"""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py

# isort: split
import functools
import math
import time

import fastcov as fc
from fastcov._bench._case import data

SIZES = [(148, 48), (871, 52), (1004, 187), (2000, 187), (1000, 500), (4000, 500)]
# Wide, narrow, long and low problems beside those of the other benchmarks.
MORE = [(300, 20), (3000, 8), (20000, 12), (100_000, 6), (3000, 30), (4000, 100), (8000, 187), (20000, 50)]
RIDGES = (0.1, 1e-3, 1e-6)
SOLVERS = ("cholesky", "dual", "pcg")
# Runs that would take longer than this, by estimate, are left out.
LONGEST = 10.0


def seconds(run, repeats: int = 5) -> float:
    """Median, after one run to warm up; of fewer where it lasts."""
    start = time.perf_counter()
    run()
    repeats = repeats if time.perf_counter() - start < 2 else 1
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return float(np.median(took))


def solvers_for(shape: tuple[int, int], relative: float) -> list[str]:
    plan = fc.plan(*shape, relative_ridge=relative)
    return [name for name in SOLVERS if plan.cost(name).fits and plan.cost(name).seconds < LONGEST]


def disagreement(shape: tuple[int, int]) -> float:
    """Largest relative difference between the gains of two solvers, each to rounding or 1e-12."""
    sim, largest = data(shape), 0.0
    for relative in RIDGES:
        deltas = [
            fc.fit(sim.X, sim.S, relative_ridge=relative, solver=name, tol=1e-12).delta
            for name in solvers_for(shape, relative)
        ]
        for delta in deltas[1:]:
            largest = max(largest, float(np.linalg.norm(delta - deltas[0]) / np.linalg.norm(deltas[0])))
    return largest


def main() -> None:
    print("| at | λ/λ_max | " + " | ".join(f"{name}, s (plan)" for name in SOLVERS) + " | auto / fastest |")
    print("|---|---|" + "---|" * (len(SOLVERS) + 1))
    worst = 0.0
    for shape in SIZES + MORE:
        sim = data(shape)
        common = seconds(functools.partial(fc.fit, sim.X, sim.S, ridge=1.0, method="diagonal"))
        for relative in RIDGES:
            ridge = fc.fit(sim.X, sim.S, relative_ridge=relative, method="diagonal").ridge
            plan, took, cells = fc.plan(*shape, relative_ridge=relative), {}, []
            for name in SOLVERS:
                estimate = plan.cost(name).seconds
                if name in solvers_for(shape, relative):
                    run = functools.partial(fc.fit, sim.X, sim.S, ridge=ridge, solver=name)
                    took[name] = seconds(run)
                    cells.append(f"{took[name] - common:.3g} ({estimate:.3g})")
                else:
                    cells.append(f"({estimate:.3g})" if math.isfinite(estimate) else "")
            chosen = fc.fit(sim.X, sim.S, ridge=ridge).stats["solver"]
            ratio = took.get(chosen, math.inf) / min(took.values())
            worst = max(worst, ratio)
            at = f"({shape[0]}, {shape[1]})"
            print(f"| {at} | {relative:g} | {' | '.join(cells)} | {chosen} {ratio:.2f} |", flush=True)
    print(f"\nThe solver chosen is at most {worst:.2f} times slower than the fastest.")


if __name__ == "__main__":
    main()
