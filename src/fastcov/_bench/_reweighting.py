"""Operations that weigh similarities of single channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastcov as fc

from ..datasets import Simulation
from ._fits import DIRECT, bare_solution
from ._operation import SMALL, TINY, Task, bare_products, operation
from ._reference import RESIDUAL, STEPS, require, rounding

Array = NDArray[np.float64]

# The ridge over the trace of AᵀA, and the size of features and images that reweighting is for.
SHARE = 0.02
IMAGES = (2000, 200)
CERTIFICATE = 1.01


def _design(X: Array, squared: bool) -> Array:
    """The matrix of pairs × channels."""
    a, b = np.triu_indices(X.shape[1], 1)
    return (np.square(X[:, a] - X[:, b]) if squared else X[:, a] * X[:, b]).T


def _by_design(X: Any, S: Array, ridge: float, squared: bool) -> Array:
    """Make the design matrix and solve its ridge problem, from the smaller of its two Gram matrices.

    This is the core of frrsa (feature-reweighted representational similarity analysis), written from the
    description of the method.
    """
    centred = X.astype(np.float64)
    centred -= centred.mean(axis=0)
    A, t = _design(centred, squared), S[np.triu_indices(len(S), 1)]
    if len(A) < A.shape[1]:
        K = A @ A.T
        K[np.diag_indices(len(K))] += ridge
        return np.asarray(A.T @ np.linalg.solve(K, t))
    K = A.T @ A
    K[np.diag_indices(len(K))] += ridge
    return np.asarray(np.linalg.solve(K, A.T @ t))


def _task(simulation: Simulation, atoms: str) -> Task:
    X, S, (N, D) = simulation.X, simulation.S, simulation.X.shape
    squared, n_pairs = atoms == "squared-euclidean", D * (D - 1) // 2
    centred = X.astype(np.float64)
    centred -= centred.mean(axis=0)
    target = S
    if squared:
        centred -= centred.mean(axis=1, keepdims=True)
        target = np.add.outer(np.diag(S), np.diag(S)) - 2.0 * S
    s, fourth = np.square(centred).sum(axis=1), np.power(centred, 4).sum(axis=1)
    norms = D * fourth + 3.0 * s * s if squared else 0.5 * (s * s - fourth)
    ridge = SHARE * float(norms.sum())

    def downhill(w: Array) -> Array:
        """Aᵀ(t − A w) − λw, by D × D matrices."""
        P = (centred.T * w) @ centred
        if squared:
            P = np.add.outer(np.diag(P), np.diag(P)) - 2.0 * P
        E = target - P
        np.fill_diagonal(E, 0.0)
        M = np.diag(E.sum(axis=1)) - E if squared else 0.5 * E
        return np.asarray(((centred @ M) * centred).sum(axis=1) - ridge * w)

    first = float(np.linalg.norm(downhill(np.zeros(N))))

    def check(result: Any) -> None:
        ours = isinstance(result, fc.Reweighting)
        w = np.asarray(result.weights if ours else result)
        require(w.shape == (N,), f"weights of shape {w.shape}")
        require(not ours or result.status == "converged", f"it ends as {getattr(result, 'status', None)}")
        size = (float(norms.sum()) + ridge) * float(np.linalg.norm(w)) + first
        iterative = ours and result.stats["solver"] == "pcg"
        allowed = STEPS * rounding(np.float64, N + n_pairs) * size
        allowed += CERTIFICATE * RESIDUAL * first if iterative else 0.0
        left = float(np.linalg.norm(downhill(w)))
        require(left <= allowed, f"a residual of {left:.1e}, more than {allowed:.1e}")

    # A factorisation of channels, or where they are too many ten products: iterations take that at least.
    floor = bare_solution(simulation, ridge) if N <= DIRECT else bare_products(simulation.X, 10)
    plan = fc.plan(N, D, relative_ridge=5.0 * SHARE, dtype=X.dtype)
    cost = plan.cost(plan.solver)
    return Task(
        ours=lambda: fc.reweight(X, target, ridge, atoms=atoms), check=check, flops=cost.flops,
        nbytes=cost.nbytes + 8.0 * N * D, floor=floor, naive=lambda: _by_design(X, target, ridge, squared),
        naive_bytes=24.0 * N * n_pairs,
        naive_flops=2.0 * N * n_pairs * min(N, n_pairs),
    )  # fmt: skip


@operation("reweight", ["reweight"], (TINY, SMALL, IMAGES))
def reweight(simulation: Simulation) -> Task:
    """Weights of products; flops and bytes are those of `fastcov.plan`. The naive version is frrsa's core."""
    return _task(simulation, "product")


@operation("reweight-distances", ["reweight"], (TINY, SMALL, IMAGES))
def reweight_distances(simulation: Simulation) -> Task:
    """Weights of squared differences; otherwise as ``reweight``."""
    return _task(simulation, "squared-euclidean")
