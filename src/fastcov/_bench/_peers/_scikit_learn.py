"""scikit-learn as a peer: `Ridge` on G, and its covariance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._atoms import pairs, system
from ._given import RESIDUAL, Array, PeerInput, blas_threads, library, threaded

# Number of channels from which lsqr is faster than a Cholesky factor of GᵀG, at λ of a tenth of the largest
# eigenvalue: 2.2 against 1.5 ms at (148, 48), 198 against 228 at (1004, 187). Ridge's other solvers never
# are.
MANY = 1000


def fit(given: PeerInput) -> Callable[[], Array]:
    Ridge = library("sklearn", "linear_model").linear_model.Ridge
    X, S = given.double
    pairs(given)
    solver = "lsqr" if len(X) > MANY else "cholesky"
    model = Ridge(
        given.ridge,
        fit_intercept=False,
        copy_X=False,
        solver=solver,
        tol=(given.tol or RESIDUAL) / 2,
        max_iter=10_000,
    )

    def run() -> Array:
        return 1.0 + model.fit(*system(X, S)).coef_

    return threaded(blas_threads, given.work, run)


def path(given: PeerInput) -> Callable[[], Array]:
    Ridge = library("sklearn", "linear_model").linear_model.Ridge
    X, S = given.double
    pairs(given)
    # Use a Cholesky factor of GᵀG for each λ: nine λ take 0.4 times the time of "svd" at (148, 48).
    model = Ridge(given.ridges, fit_intercept=False, copy_X=False, solver="cholesky")

    def run() -> Array:
        G, e = system(X, S)
        return 1.0 + model.fit(G, np.repeat(e[:, np.newaxis], len(given.ridges), axis=1)).coef_

    return threaded(blas_threads, given.work, run)


def covariance(given: PeerInput) -> Callable[[], Array]:
    empirical = library("sklearn", "covariance").covariance.empirical_covariance
    X, N = given.X, len(given.X)
    return threaded(blas_threads, given.work, lambda: N * empirical(X))
