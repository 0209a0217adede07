"""Operations that ask how surely a fit knows its gains, and how much each of them matters."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import fastcov as fc

from ..datasets import Simulation
from . import _naive
from ._fits import EXACT, TRUSTED, absolute
from ._operation import FLY, MIDDLE, NARROW, SMALL, TINY, Task, bare, operation, pairs
from ._reference import GRADIENT, near

# Bootstraps of one call. They suffice to compare times, not for a standard error. Linear fits take so little
# time each that only many tell it from the factorisation.
DRAWS, LINEAR_DRAWS = 50, 500
# Modes of an explanation whose importances are measured: with few, an inverse is made for these.
MODES = 4
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


@operation("linear-bootstrap", ["Fit.uncertainty"], (TINY, SMALL, FLY))
def linear_bootstrap(simulation: Simulation, relative_ridge: float = TRUSTED) -> Task:
    """500 linear fits of resampled cells: 2N (M + N + 2D) flops each, beside one inverse.

    The naive version makes each target, its overlaps, and its solution from the factor. The floor is LAPACK's
    factorisation and inverse, and the products of all counts with N x M numbers and of the sums with the
    inverse.
    """
    X, Y = simulation.X.astype(np.float64), simulation.Y.astype(np.float64)
    (N, D), M = X.shape, len(Y)
    fit = fc.fit(X, responses=Y, ridge=absolute(simulation, relative_ridge))
    C, ridge = _naive.covariance(X), fit.ridge
    counts = np.random.default_rng(0).multinomial(M, np.full(M, 1.0 / M), size=LINEAR_DRAWS)
    A, B = np.eye(N, order="F"), np.ones((N, M), order="F")
    often = np.asfortranarray(counts.T.astype(np.float64))
    potrf, potri, gemm = bare(simulation, "potrf", "potri", "gemm")

    def naive() -> Any:
        centred = X - X.mean(axis=0)
        K, across = X @ X.T, X @ centred.T
        inverse = np.linalg.inv(2 * (K * (centred @ centred.T) + across * across.T) + ridge * np.eye(N))
        targets = (_naive.covariance(np.repeat(Y, n, axis=0)) for n in counts)
        errors = (S * np.trace(C) / np.trace(S) - C for S in targets)
        return np.stack([1 + inverse @ (2 * ((X @ E) * centred).sum(axis=1)) for E in errors])

    expected = naive()

    def check(result: Any) -> None:
        # Both solve to rounding, of which the condition of GᵀG + λI makes 1 + λ_max / λ at most.
        near(result.draws if hasattr(result, "draws") else result, expected, 1e-8 * float(expected.max()))

    def floor() -> None:
        factor, _ = potrf(A, overwrite_a=0)
        potri(factor, overwrite_c=1)
        gemm(1.0, A, gemm(1.0, B, often))

    return Task(
        ours=lambda: fit.uncertainty(Y, n_boot=LINEAR_DRAWS), check=check, naive=naive, floor=floor,
        flops=float(N) ** 3 + LINEAR_DRAWS * 2.0 * N * (M + N + 2 * D),
        nbytes=8.0 * N**2 + 24.0 * LINEAR_DRAWS * N,
    )  # fmt: skip


@operation("importance", ["explain"], (SMALL, FLY, (3000, 30), NARROW))
def importance(simulation: Simulation, relative_ridge: float = TRUSTED) -> Task:
    """Importance of all channels after an explanation by few modes, which has no inverse yet.

    N²D + N³ flops, or 3NP² + 2P³/3 for P = D(D+1)/2 pairs, if P < N. The naive version inverts GᵀG + λI. The
    floor is LAPACK's factorisation and inverse of the smaller matrix.
    """
    X, S, (N, D) = simulation.X, simulation.S, simulation.X.shape
    ridge, P = absolute(simulation, relative_ridge), pairs(simulation.X.shape[1])
    why = fc.explain(X, S, ridge=ridge, modes=min(MODES, N, P))
    delta, n = why.delta, min(N, P)
    A = np.eye(n, order="F", dtype=X.dtype)
    potrf, potri = bare(simulation, "potrf", "potri")

    def naive() -> Any:
        double = X.astype(np.float64)
        centred = double - double.mean(axis=0)
        across = double @ centred.T
        gram = 2 * ((double @ double.T) * (centred @ centred.T) + across * across.T)
        return delta**2 / 2 / np.diagonal(np.linalg.inv(gram + ridge * np.eye(N)))

    def check(result: Any) -> None:
        wanted = naive()
        near(result, wanted, 1e-8 * float(wanted.max()))

    def floor() -> None:
        factor, _ = potrf(A, overwrite_a=0)
        potri(factor, overwrite_c=1)

    return Task(
        # A copy has no diagonal of the inverse yet.
        ours=lambda: dataclasses.replace(why).importance, check=check, naive=naive, floor=floor,
        flops=3.0 * N * P**2 + 2.0 * P**3 / 3 if P < N else N**2 * D + float(N) ** 3, nbytes=8.0 * n**2,
        naive_bytes=40.0 * N**2, naive_flops=2.0 * float(N) ** 3,
    )  # fmt: skip
