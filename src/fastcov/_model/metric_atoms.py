"""Atoms under a metric: inner products ⟨R g_i, R g_j⟩ from rows of X and Ỹ, with R as in `metric`.

If all pairs count, or all but the diagonal, the metric removes a part of low rank from a plain inner product:
⟨R g_i, R g_j⟩ = ⟨g_i, g_j⟩ − q_i·q_j. Here q_i holds the inner products of the atom with an orthonormal basis
of what is left out. For other weights the images R g_i are made, as vectors over pairs.

For `Distances`, the plain inner products are those of squared differences; the offset is what is left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas, kernels, pair_kernels
from .distances import Distances
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
    if isinstance(metric, Distances):
        return _offset_products(metric, problem)
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


def _offset_products(metric: Distances, problem: Problem) -> NDArray[np.float64]:
    """The vectors q_i (N, r) of squared differences: 2q times their sum 2 D ‖x_i‖². 2ND flops."""
    (N, D), rank = problem.shape, metric.rank
    Q = np.empty((N, rank))
    if rank:
        for rows, block in problem.astype(np.float64).blocks():
            Q[rows] = np.einsum("ij,ij->i", block, block)[:, np.newaxis] * (4.0 * D * metric.basis[:, 1])
    return Q


def add_distances(problem: Problem, A: Array, columns: Problem | None = None) -> None:
    """Add 8 [D (x_i²)·(x_j²) + ‖x_i‖²‖x_j‖²] to A, which has 16 (x_i·x_j)². N² (D + 1) flops.

    A is the lower triangle (N, N), or a block for the channels of `problem` and of `columns`.
    """
    left = _squares(problem)
    if columns is None:
        blas.self_product(left, out=A, add=True)
    else:
        blas.product(left, _squares(columns), tb=True, out=A, add=True)


def _squares(problem: Problem) -> Array:
    """√8 times the rows (√D x_i², ‖x_i‖²), shape (N, D + 1)."""
    N, D = problem.shape
    out = np.empty((N, D + 1), problem.dtype)
    for rows, block in problem.blocks():
        np.multiply(block, block, out=out[rows, :D])
        out[rows, D] = out[rows, :D].sum(axis=1)
        out[rows, :D] *= np.sqrt(D)
    out *= np.sqrt(8.0)
    return out


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
        self.distances = isinstance(metric, Distances)
        self.ends = np.triu_indices(D)
        spread = [packed(root * (p * np.eye(D) + q * (1.0 - np.eye(D)))) for p, q in metric.basis]
        self.basis = np.array(spread, dtype).reshape(-1, D * (D + 1) // 2)

    def project(self, atoms: Array) -> Array:
        """Turn plain atoms (n, P) into their images, in place."""
        if self.distances:
            i, j = self.ends
            root = atoms.dtype.type(np.sqrt(2.0))
            own = atoms[:, i == j] * root
            atoms *= -2.0
            atoms += own[:, i]
            atoms += own[:, j]  # on the diagonal a wrong number, whose weight is zero
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
    if isinstance(metric, Distances):
        left, plain = _distance_norms(metric, problem)
    elif of_low_rank(metric):
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


def _distance_norms(metric: Distances, problem: Problem) -> tuple[Array, Array]:
    """‖R F(x_i x_iᵀ)‖² times 4, and the same before any part is subtracted, for all channels (N,).

    (x_a − x_b)⁴ = x_a⁴ + x_b⁴ + 6 x_a² x_b² − 4 (x_a³ x_b + x_a x_b³).
    """
    (N, D), w = problem.shape, metric.weights
    left, plain = np.empty(N), np.empty(N)
    for rows, block in problem.astype(np.float64).blocks():
        squares = block * block
        if metric.off_diagonal:
            norms = squares.sum(axis=1)
            left[rows] = 8.0 * (D * np.einsum("ij,ij->i", squares, squares) + 3.0 * norms * norms)
            plain[rows] = left[rows]
            continue
        assert w is not None
        fourth = np.einsum("ij,ij,j->i", squares, squares, w.sum(axis=1))
        mixed = np.einsum("ij,ij->i", blas.product(squares, w), squares)
        odd = np.einsum("ij,ij,ij->i", blas.product(block, w), squares, block)
        left[rows] = 8.0 * (fourth + 3.0 * mixed - 4.0 * odd)
        plain[rows] = 8.0 * (fourth + 3.0 * mixed + 4.0 * np.abs(odd))
        if metric.rank:
            sums = np.einsum("ij,ij,j->i", block, block, w.sum(axis=1))
            sums -= np.einsum("ij,ij->i", blas.product(block, w), block)
            for _, q in metric.basis:
                left[rows] -= np.square(4.0 * q * sums)
    if metric.off_diagonal and metric.rank:
        Q = _offset_products(metric, problem)
        left -= np.einsum("ij,ij->i", Q, Q)
    return left, plain


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
