"""Exact fits, paths and cross-validation beside what a user would write: SciPy's L-BFGS-B over a NumPy loss.

    FASTCOV_REAL_DATA=data.npz python bench/study.py [--pairs 25]

prints the rows that `python bench/table.py` has too. Without the file the rows on recordings are left out.
"""

from __future__ import annotations

import fastcov as fc  # first, as in operations.py

# isort: split
import argparse
import os
from collections.abc import Iterator

import numpy as np
from scipy.linalg import blas
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from measure import paired
from operations import data

RELATIVE_RIDGES = np.logspace(-4, 0, 8)
FOLDS = 5
TOL = 1e-6
# Exact loss with its ridge term over that at gains of one, of a NumPy reference run to convergence.
REFERENCE = {1e-1: 0.6213, 1e-2: 0.3664, 1e-3: 0.237}

Row = tuple[str, str, str, float, str]  # what, at, aim, measured, format


def recordings() -> tuple[np.ndarray, np.ndarray] | None:
    if not (path := os.environ.get("FASTCOV_REAL_DATA")):
        return None
    with np.load(path) as real:
        return real["glomeruli"], real["mitral"]


def lbfgs(X, S, ridge):
    """Gains of SciPy's L-BFGS-B with one BLAS thread, to a gradient of 1e-6 of that at gains of one."""

    def loss(z):
        Y = z[:, np.newaxis] * X
        Y -= Y.mean(axis=0)
        E = Y.T @ Y - S
        gradient = 2 * (X * (Y @ E)).sum(axis=1) + ridge * (z - 1)
        return 0.5 * np.square(E).sum() + 0.5 * ridge * np.square(z - 1).sum(), gradient

    first, slope = loss(np.ones(len(X)))
    goal = TOL * np.linalg.norm(slope) / first
    last = {}

    def scaled(z):
        value, gradient = loss(z)
        last["z"], last["size"] = z.copy(), np.linalg.norm(gradient) / first
        return value / first, gradient / first

    def ended(z):
        if last["size"] <= goal:
            raise StopIteration

    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0.0, "gtol": goal / np.sqrt(len(X)) / 10}
    with threadpool_limits(1):
        minimize(scaled, np.ones(len(X)), jac=True, method="L-BFGS-B", callback=ended, options=options)
    assert last["size"] <= goal
    return last["z"]


def reference_scores(X, Y, folds):
    """Held-out R² of every fold and ridge with `lbfgs`."""
    Cx, Cy = fc.covariance(X), fc.covariance(Y)
    r2 = np.empty((len(folds), len(RELATIVE_RIDGES)))
    for f, (a, b) in enumerate(folds):
        S = Cy * (np.trace(Cx[np.ix_(a, a)]) / np.trace(Cy[np.ix_(a, a)]))
        A, B = np.ascontiguousarray(X[:, a]), X[:, b]
        largest = fc.fit(A, S[np.ix_(a, a)], relative_ridge=1.0, method="diagonal").ridge
        for k, share in enumerate(RELATIVE_RIDGES):
            z = lbfgs(A, S[np.ix_(a, a)], share * largest)
            P = z[:, np.newaxis] * B
            P -= P.mean(axis=0)
            r2[f, k] = 1 - np.square(P.T @ P - S[np.ix_(b, b)]).sum() / np.square(S[np.ix_(b, b)]).sum()
    return r2


def on_recordings(X, Y, pairs: int) -> Iterator[Row]:
    at, X64 = f"({X.shape[0]}, {X.shape[1]})", np.ascontiguousarray(X, np.float64)
    Y = np.ascontiguousarray(Y, np.float64)

    def ours():
        return fc.cross_validate(X64, Y, relative_ridges=RELATIVE_RIDGES, folds=FOLDS, refit=None)

    cv = ours()
    apart = np.abs(cv.r2 - reference_scores(X64, Y, cv.folds))[:, RELATIVE_RIDGES >= 1e-2].max()
    yield "R² of `cross_validate` and of L-BFGS-B apart, λ/λ_max ≥ 1e-2", at, "≤ 0.01", apart, ".1e"
    ratio = paired(lambda: reference_scores(X64, Y, cv.folds), ours, pairs)
    yield f"L-BFGS-B / `fc.cross_validate`, {FOLDS} folds, 8 λ", at, "≥ 5", ratio, ".1f"
    S = fc.target_covariance(Y, like=X64)
    largest = fc.fit(X64, S, relative_ridge=1.0, method="diagonal").ridge
    for share, known in REFERENCE.items():
        fit = fc.fit(X64, S, ridge=share * largest, method="exact")
        loss = fc.loss(X64, S, lbfgs(X64, S, fit.ridge), ridge=fit.ridge)
        assert fit.residual <= 1.001 * TOL
        assert fit.loss <= 1.001 * min(loss, known * fit.loss_at_one * 1.0005)
        ratio = paired(
            lambda r=fit.ridge: lbfgs(X64, S, r),
            lambda r=fit.ridge: fc.fit(X64, S, ridge=r, method="exact"),
            pairs,
        )
        name = f'L-BFGS-B / `fc.fit(method="exact")`, λ/λ_max {share:g}'
        yield name, at, "≥ 4", ratio, ".1f"
        yield (
            f"its loss / that at gains of one, λ/λ_max {share:g}",
            at,
            f"≤ {known}",
            fit.loss / fit.loss_at_one,
            ".4f",
        )


def simulated(pairs: int) -> Iterator[Row]:
    sim = data((50_000, 100))
    ridge = fc.fit(sim.X, sim.S, relative_ridge=1e-2, method="diagonal").ridge
    exact = fc.fit(sim.X, sim.S, ridge=ridge, method="exact")
    assert exact.status == "converged"
    ratio = paired(
        lambda: fc.fit(sim.X, sim.S, ridge=ridge, method="exact"),
        lambda: fc.fit(sim.X, sim.S, ridge=ridge, solver="pcg"), max(3, pairs // 5),
    )  # fmt: skip
    yield "exact fit / linear fit by `pcg`, λ/λ_max 1e-2", "(50000, 100)", "≤ 15", ratio, ".1f"
    for shape in [(871, 52), (8000, 187)]:
        sim = data(shape)
        X, S = sim.X, sim.S
        z = np.random.default_rng(0).lognormal(0, 0.3, len(X))
        out, E = np.empty_like(X), np.asfortranarray(S)

        def floor(X=X, out=out, E=E):
            blas.dsyrk(1.0, X.T)
            return blas.dgemm(1.0, E, X.T, c=out.T, overwrite_c=1)

        ratio = paired(lambda X=X, S=S, z=z: fc.loss_and_gradient(X, S, z), floor, pairs)
        yield (
            "`fc.loss_and_gradient` / (`dsyrk` + one `dgemm`)",
            f"({shape[0]}, {shape[1]})",
            "≤ 1.5",
            ratio,
            ".2f",
        )
    sim = data((2000, 187))
    many, few = np.logspace(-4, 0, 100), [1e-2]
    for what, one in [
        (
            "a path of one by eigenvectors",
            lambda: fc.ridge_path(sim.X, sim.S, relative_ridges=few, solver="spectral"),
        ),
        ("`fc.fit`", lambda: fc.fit(sim.X, sim.S, relative_ridge=1e-2)),
    ]:
        ratio = paired(lambda: fc.ridge_path(sim.X, sim.S, relative_ridges=many), one, 3)
        aim = "≤ 8" if what != "`fc.fit`" else ""
        yield f"linear `fc.ridge_path` of 100 λ / {what}", "(2000, 187)", aim, ratio, ".1f"


def rows(pairs: int) -> Iterator[Row]:
    """The rows of this study."""
    if (real := recordings()) is not None:
        yield from on_recordings(*real, pairs)
    yield from simulated(pairs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=25)
    for what, at, aim, value, form in rows(parser.parse_args().pairs):
        print(f"| {what} | {at} | {aim} | {value:{form}} |", flush=True)
