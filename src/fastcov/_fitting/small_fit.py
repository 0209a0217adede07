"""The linear fit of small responses, which stay in the caches of a core: a few compiled calls.

It runs the same kernels as the general code, in the same order, but without Python in between, which at
148 x 48 takes twice as long as the arithmetic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._compute import blas, kernels
from .._model.problem import n_pairs, n_parts
from .._solvers import Solution
from .certificate import judged
from .settings import Outcome, Settings
from .start import Ridge, Start

Array = NDArray[np.float64]

REASON = "the fastest that fits: all stays in the caches of a core"


def direct(start: Start, ridge: Ridge, settings: Settings, *, final: bool) -> Outcome | None:
    """The outcome, if `final` with its covariances; None where the general code has to do it.

    Only with N ≤ D(D+1)/2: there `plan` chooses the Cholesky factorisation at any ridge that counts.
    """
    problem = start.problem
    (N, D), T = problem.shape, len(start.target)
    if not (
        start.forms is None and problem.fits_caches(T) and start.given.dtype == np.float64 and n_pairs(D) >= N
        and ridge.penalty.uniform and settings.bounds is None
        and settings.solver in ("auto", "cholesky") and settings.budget is None
    ):  # fmt: skip
        return None
    system = start.system(ridge)
    if system.singular or start.gram is None:
        return None
    A = start.gram.copy()
    ridge.penalty.add_to(A)
    if blas.cholesky(A, settings.options().watch_factor):
        return None
    delta, error = blas.cholesky_solve(A, start.overlaps), start.error
    delta[:, problem.sizes == 0] = 0.0  # the gain of a dead channel is exactly 1
    slopes, left = np.empty_like(error), np.empty_like(delta)
    covariances = np.empty((T if final else 0, D, D))
    kernels.whole_outcome(
        problem.X, problem.gains, problem.mean, error, system.ridge, delta, problem.center,
        np.empty((n_parts(N, D), D, D)), slopes, left, covariances, size=0,
    )  # fmt: skip
    reason = REASON if settings.solver == "auto" else "as asked for"
    solution = Solution(delta, "converged", {})
    found = judged(system, error, blas.norms(start.overlaps), solution, blas.norms(left), settings.linear_tol)
    return Outcome(
        1.0 + delta, delta, found.residual, found.status, {"solver": "cholesky", "reason": reason},
        found.warning, covariance=covariances if final else None, slopes=slopes,
    )  # fmt: skip
