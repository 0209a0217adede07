"""The rows of `explain` and of reports in the table: `python bench/explain.py [--pairs 25]`, a minute.

Applications of GᵀG are counted, not timed. The floor is one symmetric eigendecomposition by LAPACK of GᵀG,
which is made outside the clock.
"""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py

# isort: split
import argparse
import pathlib
import tempfile
from collections.abc import Iterator

import fastcov as fc
from fastcov._bench._case import data
from fastcov._bench._cases import case
from fastcov._bench._children import PEAK, child
from fastcov._bench._timing import paired
from fastcov._timings.runs import FLOOR, OURS
from study import Row, recordings

WHOLE, LARGE, MODES = (1004, 187), (20_000, 100), 50
# Peak beyond X over what the modes alone take.
MEMORY = (
    PEAK
    + f"""
import fastcov as fc
sim = fc.datasets.simulate(*{LARGE})
fc.explain(sim.X[:2000], sim.S, relative_ridge=0.1, modes=5)  # loads what it needs
start_peak()
why = fc.explain(sim.X, sim.S, relative_ridge=0.1, modes={MODES})
why.whitened_overlaps
print(peak() / (8 * {LARGE[0]} * {MODES}))
"""
)


def disagreement(X, S, relative: float, modes: int | None) -> float:
    """The largest relative error of the identities that an explanation promises."""
    why = fc.explain(X, S, relative_ridge=relative, modes=modes)
    delta, size = why.delta, abs(why.delta).max()
    some = np.random.default_rng(0).choice(len(delta), 5, replace=False)
    errors = [abs(why.reachable + why.unreachable - why.total) / why.total]
    errors += [abs(why.filter(i) @ why.overlaps - delta[i]) / size for i in some]
    errors += [abs(why.whitened_filter(i) @ why.whitened_overlaps - delta[i]) / size for i in some]
    if why.complete:
        errors.append(abs(why.coefficients @ why.gain_modes() - delta).max() / size)
    return max(errors)


def rows(pairs: int) -> Iterator[Row]:
    """What, at which size, the aim, the value and its format."""
    sim = data(WHOLE)
    at = f"({WHOLE[0]}, {WHOLE[1]})"
    ridges = (1e-1, 1e-2, 1e-3)
    yield (
        "`fc.explain`: identities apart, relative, λ/λ_max 1e-3 to 0.1", at, "≤ 1e-10",
        max(disagreement(sim.X, sim.S, ridge, None) for ridge in ridges), ".1e",
    )  # fmt: skip
    runs = case("explain", WHOLE, peers=False).runs
    ratio = paired(runs[OURS], runs[FLOOR], pairs)
    yield "`fc.explain` / `scipy.linalg.eigh` of GᵀG", at, "≤ 3", ratio, ".2f"
    sim = data(LARGE)
    at = f"({LARGE[0]}, {LARGE[1]})"
    yield (
        f"the same of `fc.explain(modes={MODES})`", at, "≤ 1e-10",
        max(disagreement(sim.X, sim.S, ridge, MODES) for ridge in ridges), ".1e",
    )  # fmt: skip
    for ridge in ridges:
        why = fc.explain(sim.X, sim.S, relative_ridge=ridge, modes=MODES)
        what = f"products with GᵀG of `fc.explain(modes={MODES})`, λ/λ_max {ridge:g}"
        yield what, at, "≤ 300", why.stats["applications"], "d"
    yield f"peak memory of it beyond X / that of {MODES} modes", at, "O(1)", child(MEMORY), ".1f"
    if (real := recordings()) is not None:
        X, Y = real.X, real.Y
        fit = fc.fit(X, responses=Y, relative_ridge=0.1)
        why = fc.explain(X, responses=Y, relative_ridge=0.1)
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder) / "report.html"
            fit.report(page, explanation=why)
            size = page.stat().st_size / 1e6
        yield "report of the real data with its explanation, MB", f"{X.shape}", "< 2", size, ".2f"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=25)
    print("| what | at | aim | measured |\n|---|---|---|---|")
    for what, at, bound, value, form in rows(parser.parse_args().pairs):
        print(f"| {what} | {at} | {bound} | {value:{form}} |", flush=True)


if __name__ == "__main__":
    main()
