"""Peers of linear fits, paths and explanations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import eigh, svd
from scipy.sparse.linalg import LinearOperator, lsqr

from ._atoms import pairs, system
from ._given import Array, Given, blas_threads, library, within

# The relative residual of the linear system that direct fits have here.
TOL = 1e-12
# Channels from which lsqr is faster than a Cholesky factor of GᵀG, at λ of a tenth of the largest eigenvalue:
# 2.2 against 1.5 ms at (148, 48), 198 against 228 at (1004, 187). The other solvers of Ridge never are.
MANY = 1000


def _scikit_learn(given: Given) -> Callable[[], Array]:
    Ridge = library("sklearn", "linear_model").linear_model.Ridge
    X, S = given.double
    pairs(given)
    solver = "lsqr" if len(X) > MANY else "cholesky"
    model = Ridge(
        given.ridge,
        fit_intercept=False,
        copy_X=False,
        solver=solver,
        tol=(given.tol or TOL) / 2,
        max_iter=10_000,
    )

    def run() -> Array:
        return 1.0 + model.fit(*system(X, S)).coef_

    return within(lambda: blas_threads(given.work), run)


def operator(X: Array) -> LinearOperator:
    """G (D², N) on vectors of symmetric matrices, without forming it: two products with X."""
    N, D = X.shape
    centred = X - X.mean(axis=0)

    def forward(v: Array) -> Array:
        half = X.T @ (v.reshape(N, 1) * centred)
        return (half + half.T).ravel()

    def adjoint(M: Array) -> Array:
        return 2.0 * np.einsum("ij,ij->i", X @ M.reshape(D, D), centred)

    return LinearOperator((D * D, N), matvec=forward, rmatvec=adjoint, dtype=np.float64)


def _scipy_lsqr(given: Given) -> Callable[[], Array]:
    X, S = given.double
    # Half of what is asked: it bounds the residual by an estimate of ‖G‖ ‖e‖, which may be too large.
    # `lsmr` and `cg` on the normal equations take as many iterations and the same time, to 5 %.
    tol = (given.tol or TOL) / 2

    def run() -> Array:
        G, centred = operator(X), X - X.mean(axis=0)
        e = (S - centred.T @ centred).ravel()
        return 1.0 + lsqr(G, e, damp=np.sqrt(given.ridge), atol=tol, btol=tol, iter_lim=10_000)[0]

    return within(lambda: blas_threads(given.work), run)


def _scipy_eigh(given: Given) -> Callable[[], Array]:
    X, S = given.double
    P, N = pairs(given), len(X)

    def run() -> Array:
        # Of the smaller of GᵀG and GGᵀ: 0.05 times the time of `svd` of G at (1004, 187).
        G, e = system(X, S)
        if P < N:
            values, vectors = eigh(G @ G.T, driver="evd", overwrite_a=True, check_finite=False)
            parts = (vectors.T @ e) / (values + given.ridges[:, np.newaxis])
            return 1.0 + (parts @ vectors.T) @ G
        values, vectors = eigh(G.T @ G, driver="evd", overwrite_a=True, check_finite=False)
        parts = (vectors.T @ (e @ G)) / (values + given.ridges[:, np.newaxis])
        return 1.0 + parts @ vectors.T

    return within(lambda: blas_threads(given.work), run)


def _scikit_learn_path(given: Given) -> Callable[[], Array]:
    Ridge = library("sklearn", "linear_model").linear_model.Ridge
    X, S = given.double
    pairs(given)
    # A Cholesky factor for each λ of one GᵀG, which "svd" takes longer than up to hundreds of λ.
    model = Ridge(given.ridges, fit_intercept=False, copy_X=False, solver="cholesky")

    def run() -> Array:
        G, e = system(X, S)
        return 1.0 + model.fit(G, np.repeat(e[:, np.newaxis], len(given.ridges), axis=1)).coef_

    return within(lambda: blas_threads(given.work), run)


def _scipy_svd(given: Given) -> Callable[[], tuple[Array, Array]]:
    X, S = given.double
    pairs(given)

    def run() -> tuple[Array, Array]:
        G, e = system(X, S)
        U, values, modes = svd(G, full_matrices=False, overwrite_a=True, check_finite=False)
        return values**2, 1.0 + (values * (e @ U) / (values**2 + given.ridge)) @ modes

    return within(lambda: blas_threads(given.work), run)


FITS: dict[str, Callable[[Given], Callable[[], Any]]] = {
    "scikit-learn": _scikit_learn,
    "SciPy lsqr": _scipy_lsqr,
}
PATHS: dict[str, Callable[[Given], Callable[[], Any]]] = {
    "scikit-learn": _scikit_learn_path,
    "SciPy eigh": _scipy_eigh,
}
SPECTRA: dict[str, Callable[[Given], Callable[[], Any]]] = {"SciPy svd": _scipy_svd}
