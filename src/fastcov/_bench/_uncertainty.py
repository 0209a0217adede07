"""Operations that ask how surely a fit knows its gains."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastcov as fc

from ..datasets import Simulation
from . import _naive
from ._fits import EXACT, absolute
from ._operation import FLY, MIDDLE, SMALL, TINY, Task, bare, operation
from ._reference import GRADIENT, near

# Bootstraps of one call. They suffice to compare times, not for a standard error.
DRAWS = 50
# Largest difference of gains between two fits that stop at the same norm of the gradient.
ALIKE = 1e-3


@operation("uncertainty", ["Fit.uncertainty"], (TINY, SMALL, FLY, MIDDLE))
def uncertainty(simulation: Simulation, relative_ridge: float = EXACT) -> Task:
    """Standard errors over M cells and resolution of an exact fit: N³ + 2N²M + 4N²D flops and 8N² bytes.

    The naive version forms the Hessian and its inverse. The floor is LAPACK's factorisation and inverse of
    an N x N matrix, and its product with N x M numbers.
    """
    X, Y, ridge = simulation.X.astype(np.float64), simulation.Y.astype(np.float64), relative_ridge
    (N, D), M = X.shape, len(Y)
    fit = fc.fit(X, responses=Y, ridge=absolute(simulation, ridge), method="exact")
    z, S, lam = fit.gains, fit.target(), fit.ridge
    A, right = np.eye(N, order="F"), np.ones((N, M), order="F")
    potrf, potri, gemm = bare(simulation, "potrf", "potri", "gemm")

    def naive() -> Any:
        Yt = z[:, np.newaxis] * X
        Yt = Yt - Yt.mean(axis=0)
        E, J = Yt.T @ Yt - S, np.eye(N) - 1 / N
        L = X @ Yt.T
        H = 2 * ((X @ X.T) * (Yt @ Yt.T) + L * L.T) + 2 * (X @ E @ X.T) * J + lam * np.eye(N)
        y = Y - Y.mean(axis=0)
        y *= np.sqrt(np.trace(S) / np.square(y).sum())
        share = np.square(y).sum(axis=1) / np.trace(S)
        u = 2 * (X @ y.T) * (Yt @ y.T) - np.outer(2 * (X * (Yt @ S)).sum(axis=1), share)
        inverse = np.linalg.inv(H)
        f = inverse @ u
        squares = np.square(f).sum(axis=1) - f.sum(axis=1) ** 2 / M
        return np.sqrt(M / (M - 1) * np.maximum(squares, 0.0)), 1 - lam * np.diagonal(inverse)

    def check(result: Any) -> None:
        se, resolution = (result.se, result.resolution) if hasattr(result, "se") else result
        wanted, known = naive()
        near(se, wanted, 1e-6 * float(wanted.max()))
        near(resolution, np.where(X.any(axis=1), known, 0.0), 1e-8)

    def floor() -> None:
        factor, _ = potrf(A, overwrite_a=0)
        potri(factor, overwrite_c=1)
        gemm(1.0, A, right)

    return Task(
        ours=lambda: fit.uncertainty(Y), check=check, naive=naive, floor=floor,
        flops=float(N) ** 3 + 2.0 * N**2 * M + 4.0 * N**2 * D, nbytes=8.0 * N**2,
    )  # fmt: skip


@operation("bootstrap", ["Fit.uncertainty"], (TINY, SMALL))
def bootstrap(simulation: Simulation, relative_ridge: float = EXACT) -> Task:
    """50 exact fits of resampled cells, some twelve evaluations each. The naive version is L-BFGS for each.

    Flops are those of twelve evaluations of loss and gradient; bytes are those of gains.
    """
    X, Y = simulation.X.astype(np.float64), simulation.Y.astype(np.float64)
    (N, D), M = X.shape, len(Y)
    fit = fc.fit(X, responses=Y, ridge=absolute(simulation, relative_ridge), method="exact")
    gains, ridge, trace = fit.gains, fit.ridge, np.trace(_naive.covariance(X))
    counts = np.random.default_rng(0).multinomial(M, np.full(M, 1.0 / M), size=DRAWS)

    def naive() -> Any:
        targets = [_naive.covariance(np.repeat(Y, n, axis=0)) for n in counts]
        return np.stack([
            _naive.minimum(X, C * trace / np.trace(C), ridge, GRADIENT, start=gains) for C in targets
        ])  # fmt: skip

    expected = np.stack([
        fc.fit(X, responses=np.repeat(Y, n, axis=0), ridge=ridge, method="exact").gains for n in counts
    ])  # fmt: skip

    def check(result: Any) -> None:
        near(result.draws if hasattr(result, "draws") else result, expected, ALIKE * float(gains.max()))

    return Task(
        ours=lambda: fit.uncertainty(Y, n_boot=DRAWS), check=check, naive=naive,
        flops=12.0 * DRAWS * 4.0 * N * D**2, nbytes=8.0 * DRAWS * N,
    )  # fmt: skip
