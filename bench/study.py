"""Exact fits, paths and cross-validation beside what a user would write: SciPy's L-BFGS-B over a NumPy loss.

    FASTCOV_REAL_DATA=data.npz python bench/study.py [--pairs 25]

prints the rows that `python bench/table.py` has too. Without the file the rows on recordings are left out.
"""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py

# isort: split
import argparse
import os
from collections.abc import Iterator

import fastcov as fc
from fastcov._bench._case import data
from fastcov._bench._cases import case, case_of
from fastcov._bench._studies import FEW_RIDGES
from fastcov._bench._timing import paired
from fastcov._timings.runs import FLOOR, OURS

# Exact loss with its ridge term over that at gains of one, of a NumPy reference run to convergence.
REFERENCE = {1e-1: 0.6213, 1e-2: 0.3664, 1e-3: 0.237}
PEER = "L-BFGS-B, NumPy"

Row = tuple[str, str, str, float, str]  # what, at, aim, measured, format


def recordings() -> fc.datasets.Simulation | None:
    """Glomeruli and mitral cells in float64, as if they were simulated, without gains to find."""
    if not (path := os.environ.get("FASTCOV_REAL_DATA")):
        return None
    with np.load(path) as real:
        X, Y = (np.ascontiguousarray(real[name], np.float64) for name in ("glomeruli", "mitral"))
    return fc.datasets.Simulation(X, Y, fc.target_covariance(Y, like=X), np.ones(len(X)))


def on_recordings(real: fc.datasets.Simulation, pairs: int) -> Iterator[Row]:
    X, S = real.X, real.S
    at = f"({X.shape[0]}, {X.shape[1]})"
    study = case_of("cross-validate", real)
    cv, theirs = study.runs[OURS](), study.runs[PEER]()
    apart = np.abs(cv.r2 - theirs)[:, np.array(FEW_RIDGES) >= 1e-2].max()
    yield "R² of `cross_validate` and of L-BFGS-B apart, λ/λ_max ≥ 1e-2", at, "≤ 0.01", apart, ".1e"
    ratio = paired(study.runs[PEER], study.runs[OURS], pairs)
    yield f"L-BFGS-B / `fc.cross_validate`, {len(cv.folds)} folds, 8 λ", at, "≥ 5", ratio, ".1f"
    for share, known in REFERENCE.items():
        found = case_of("exact", real, relative_ridge=share)
        fit = found.runs[OURS]()
        found.check(fit)
        loss = fc.loss(X, S, found.runs[PEER](), ridge=fit.ridge)
        assert fit.loss <= 1.001 * min(loss, known * fit.loss_at_one * 1.0005)
        ratio = paired(found.runs[PEER], found.runs[OURS], pairs)
        yield f'L-BFGS-B / `fc.fit(method="exact")`, λ/λ_max {share:g}', at, "≥ 4", ratio, ".1f"
        name = f"its loss / that at gains of one, λ/λ_max {share:g}"
        yield name, at, f"≤ {known}", fit.loss / fit.loss_at_one, ".4f"


def simulated(pairs: int) -> Iterator[Row]:
    sim = data((50_000, 100))
    exact, linear = (case_of(name, sim, peers=False, relative_ridge=1e-2) for name in ("exact", "pcg"))
    exact.check(exact.runs[OURS]())
    ratio = paired(exact.runs[OURS], linear.runs[OURS], max(3, pairs // 5))
    yield "exact fit / linear fit by `pcg`, λ/λ_max 1e-2", "(50000, 100)", "≤ 15", ratio, ".1f"
    for shape in [(871, 52), (8000, 187)]:
        runs = case("loss-and-gradient", shape, peers=False).runs
        ratio = paired(runs[OURS], runs[FLOOR], pairs)
        at = f"({shape[0]}, {shape[1]})"
        yield "`fc.loss_and_gradient` / (`dsyrk` + one `dgemm`)", at, "≤ 1.5", ratio, ".2f"
    sim = data((2000, 187))
    path = case_of("ridge-path", sim, peers=False).runs[OURS]
    for what, aim, one in [
        (
            "a path of one by eigenvectors", "≤ 8",
            lambda: fc.ridge_path(sim.X, sim.S, relative_ridges=[1e-2], solver="spectral"),
        ),
        ("`fc.fit`", "", lambda: fc.fit(sim.X, sim.S, relative_ridge=1e-2)),
    ]:  # fmt: skip
        yield f"linear `fc.ridge_path` of 100 λ / {what}", "(2000, 187)", aim, paired(path, one, 3), ".1f"


def rows(pairs: int) -> Iterator[Row]:
    """The rows of this study."""
    if (real := recordings()) is not None:
        yield from on_recordings(real, pairs)
    yield from simulated(pairs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=25)
    for what, at, aim, value, form in rows(parser.parse_args().pairs):
        print(f"| {what} | {at} | {aim} | {value:{form}} |", flush=True)
