"""Time and memory against N for each solver and the naive version: `python bench/scaling.py`.

Writes docs/scaling.png and docs/scaling.json, from fits in fresh processes, the fastest of up to five
runs each; some six minutes. With `--draw` it draws what was measured before.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import fastcov as fc
from fastcov._bench._children import PEAK, output

DOCS = pathlib.Path(__file__).parent.parent / "docs"
D, RELATIVE_RIDGE = 100, 1e-3
SIZES = [300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000]
# What takes longer, by estimate, or more memory than this is left out.
LONGEST, LARGEST = 40.0, 12e9

FIT = (
    PEAK
    + """
import json, sys, time
import numpy as np
import fastcov as fc
from fastcov._bench._naive import system
name, N, D, relative = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
sim = fc.datasets.simulate(N, D, rng=0)
X, S = sim.X, sim.S
del sim

def naive(X, S):
    A, b = system(X, S)
    ridge = relative * np.linalg.eigvalsh(A)[-1]
    return np.linalg.solve(A + ridge * np.eye(len(X)), b)

def run(X, S):
    if name == "naive":
        return naive(X, S)
    fit = fc.fit(X, S, relative_ridge=relative, solver=name)
    assert fit.status == "converged", fit
    return fit

run(X[:200], S)  # compiles
start_peak()
took = []
while len(took) < 5 and sum(took) < 10:
    start = time.perf_counter()
    run(X, S)
    took.append(time.perf_counter() - start)
print(json.dumps({"seconds": min(took), "bytes": peak()}))
"""
)


def measure() -> list[dict]:
    points = []
    for N in SIZES:
        plan = fc.plan(N, D, relative_ridge=RELATIVE_RIDGE)
        for name in ("naive", "cholesky", "dual", "pcg"):
            if name == "naive":
                fits = 3 * 8 * N * D * D < LARGEST and N <= 10_000
            else:
                cost = plan.cost(name)
                fits = cost.seconds < LONGEST and cost.nbytes < LARGEST
            if not fits:
                continue
            found = json.loads(output(FIT, name, str(N), str(D), str(RELATIVE_RIDGE)))
            points.append({"solver": name, "N": N, **found})
            print(points[-1], flush=True)
    return points


def draw(points: list[dict], path: pathlib.Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure((9, 4.2), layout="constrained")
    looks = {
        "naive": ("naive: NumPy, G formed", "0.55", "s"),
        "cholesky": ('solver="cholesky"', "C0", "o"),
        "dual": ('solver="dual"', "C2", "^"),
        "pcg": ('solver="pcg"', "C3", "D"),
    }
    quantities = [("seconds", 1.0, "Time of a fit (s)"), ("bytes", 1e-9, "Peak memory beyond X (GB)")]
    for axes, (key, unit, label) in zip(figure.subplots(1, 2), quantities, strict=True):
        for name, (text, colour, marker) in looks.items():
            chosen = [p for p in points if p["solver"] == name]
            N, values = [p["N"] for p in chosen], [unit * p[key] for p in chosen]
            axes.loglog(N, values, marker=marker, color=colour, label=text, lw=1.8, ms=5)
        if key == "bytes":
            axes.loglog(SIZES, [8e-9 * N * D for N in SIZES], color="k", ls=":", lw=1.2)
            axes.annotate("X itself", (SIZES[1], 8e-9 * SIZES[1] * D), (0, -14), textcoords="offset points")
        axes.set(xlabel="Channels N", ylabel=label)
        axes.grid(which="major", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        if key == "seconds":
            axes.legend(frameon=False, loc="lower right")
    figure.suptitle(f"fc.fit at D = {D} conditions, ridge {RELATIVE_RIDGE:g} of the largest eigenvalue")
    figure.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", action="store_true", help="draw docs/scaling.json again")
    data = DOCS / "scaling.json"
    if not parser.parse_args().draw:
        data.write_text(json.dumps(measure(), indent=1) + "\n")
    draw(json.loads(data.read_text()), DOCS / "scaling.png")


if __name__ == "__main__":
    main()
