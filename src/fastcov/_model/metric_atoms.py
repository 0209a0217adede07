"""Atoms under a metric: inner products ⟨R g_i, R g_j⟩ from rows of X and Ỹ, with R as in `metric`.

If all pairs count, or all but the diagonal, the metric removes a part of low rank from a plain inner product:
⟨R g_i, R g_j⟩ = ⟨g_i, g_j⟩ − q_i·q_j. Here q_i holds the inner products of the atom with an orthonormal basis
of what is left out. For other weights the images R g_i are made, as vectors over pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas, kernels, pair_kernels
from .metric import Metric
from .problem import Problem

Array = NDArray[Any]

# Rounding that may remain of a plain squared norm when the metric removes all of it, in unit roundoffs per
# condition.
LEFT = 8.0


def of_low_rank(metric: Metric) -> bool:
    """Whether inner products are the plain ones minus those of `removed_products`."""
    return metric.weights is None or metric.off_diagonal


def removed_products(metric: Metric, problem: Problem) -> NDArray[np.float64]:
    """The vectors q_i: (N, r), or (N, r + D) if the diagonal is left out. 4ND flops, one pass over X."""
    N, D = problem.shape
    r = metric.rank
    Q, sums = np.empty((N, r + D * metric.off_diagonal)), np.empty((N, 2))
    for rows, block in problem.blocks(streamed=not metric.off_diagonal):
        kernels.atom_sums(block, problem.gains[rows], problem.mean, sums[rows], size=block.size)
        if metric.off_diagonal:
            products = Q[rows, r:]
            np.multiply(
                2.0 * block.astype(np.float64), problem.centre(rows, block, np.empty_like(block)), products
            )
    for k, (p, q) in enumerate(metric.basis):
        Q[:, k] = 2.0 * (p * sums[:, 0] + q * sums[:, 1])
    return Q


def packed(M: Array, weights: bool = False) -> NDArray[np.float64]:
    """Packed upper triangle of a symmetric matrix; entries off the diagonal times √2, unless `weights`."""
    i, j = np.triu_indices(len(M))
    return M[i, j] if weights else M[i, j] * np.where(i == j, 1.0, np.sqrt(2.0))


class Images:
    """Makes the images R g_i as vectors over P = D (D + 1) / 2 pairs (n, P), scaled as in `packed`."""

    def __init__(self, metric: Metric, dtype: Any) -> None:
        D = metric.size
        root = np.ones((D, D)) if metric.root is None else metric.root
        self.root = None if metric.root is None else packed(root, weights=True).astype(dtype)
        spread = [packed(root * (p * np.eye(D) + q * (1.0 - np.eye(D)))) for p, q in metric.basis]
        self.basis = np.array(spread, dtype).reshape(-1, D * (D + 1) // 2)

    def project(self, atoms: Array) -> Array:
        """Turn plain atoms (n, P) into their images, in place."""
        if self.root is not None:
            atoms *= self.root
        if len(self.basis):
            inner = blas.product(atoms, self.basis, tb=True)
            atoms -= blas.product(inner, self.basis)
        return atoms

    def of(self, X: Array, Y: Array) -> Array:
        """The images of the atoms of rows of X and Ỹ (n, D). 2nD² flops."""
        D = X.shape[1]
        atoms = np.empty((len(X), D * (D + 1) // 2), X.dtype)
        pair_kernels.pair_atoms(X, Y, atoms, size=atoms.size)
        return self.project(atoms)


def squared_norms(problem: Problem, plain: NDArray[np.float64]) -> NDArray[np.float64]:
    """‖R g_i‖² from `plain` ‖g_i‖². Some 6ND flops, or 6ND² for general weights."""
    metric, D = problem.metric, problem.shape[1]
    assert metric is not None
    if of_low_rank(metric):
        Q = removed_products(metric, problem)
        left = plain - np.einsum("ij,ij->i", Q, Q)
    else:
        w = metric.weights
        assert w is not None
        left, plain = np.empty_like(plain), plain * w.max()
        for rows, part in problem.astype(np.float64).parts():
            left[rows] = _weighted_norms(metric, w, part.X[:], part.centred())
    left[left <= LEFT * D * np.finfo(np.float64).eps * plain] = 0.0
    return left


def _weighted_norms(metric: Metric, w: Array, X: Array, Y: Array) -> Array:
    """‖R g_i‖² = 2 [(x²)ᵀ w ỹ² + (x ỹ)ᵀ w (x ỹ)], minus what nuisance terms remove, for rows (n, D)."""
    squares, products = X * X, X * Y
    left = (blas.product(squares, w) * (Y * Y)).sum(axis=1)
    left += (blas.product(products, w) * products).sum(axis=1)
    left *= 2.0
    if metric.rank:
        on = (products * np.diagonal(w)).sum(axis=1)
        off = (blas.product(X, w) * Y).sum(axis=1) - on
        for p, q in metric.basis:
            left -= np.square(2.0 * (p * on + q * off))
    return left
