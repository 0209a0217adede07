"""Degrees of freedom of the linearised free model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .reduced import Reduced

Array = NDArray[np.float64]


def degrees_of_freedom(reduced: Reduced, ridge: float) -> float:
    """The trace of S ↦ C over symmetric matrices, C that of the linearised fit without a metric.

    It is Σ t/(t + λ) over the eigenvalues t of E ↦ 2(KEΓ + ΓEK). Without a mean over channels these are
    4γ_iγ_j for i ≤ j. With one, the inverse of the operator is that of the diagonal part and a term of rank
    D, see `linearised`. D³ flops.
    """
    values, vectors = reduced.eigen
    n = np.einsum("ij,j->i", vectors, reduced.mean)
    if (unit := float(values[-1])) > 0.0:  # in units in which no product overflows
        values, n, ridge = values / unit, n / np.sqrt(unit), ridge / unit / unit
    with np.errstate(divide="ignore"):
        inverse = 1.0 / (ridge + 4.0 * np.outer(values, values))
    inverse[~np.isfinite(inverse)] = 0.0
    if ridge == 0.0:  # all that W reaches
        rank = int(np.count_nonzero(values))
        outside = len(reduced.moments_eigen[0]) - rank
        return float(rank * (rank + 1) // 2 + rank * outside)
    lower = np.tril_indices(len(values))
    total = float((1.0 - ridge * inverse[lower]).sum())
    live = np.flatnonzero(values > 0.0)
    if not n.any() or not len(live):
        return total
    w = inverse * n
    M = 0.5 * (w * w.T)[np.ix_(live, live)]
    M[np.diag_indices(len(live))] += 0.5 * np.square(w).sum(axis=1)[live]
    A = 2.0 * inverse[np.ix_(live, live)] * n[live, np.newaxis] * n[live]
    own = 2.0 * np.einsum("ij,j->i", inverse, n * n)
    A[np.diag_indices(len(live))] += 1.0 / values[live] + own[live]
    scale = 1.0 / np.sqrt(np.diagonal(A))
    A *= scale[:, np.newaxis] * scale
    blas.cholesky(A)
    scaled = M * scale[:, np.newaxis] * scale
    return total + 4.0 * ridge * float(np.trace(blas.cholesky_solve(A, scaled)))
