"""Bootstraps of a linear fit by one product, since it is linear in the target.

With P the penalty, A = GᵀG + P, and C the covariance at gains of one, δ = A⁻¹ Gᵀ RᵀR (S − C). The target is a
sum over cells, S = c Σ_m n_m y_m y_mᵀ for counts n_m, and so Gᵀ RᵀR S is a sum over the columns
b_m = Gᵀ RᵀR y_m y_mᵀ of a matrix B (N, M). All draws take one product of their counts (n, M) with Bᵀ, and one
with A⁻¹. What a draw has of its own is its mean over cells, which is one column more, and its scale c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.progress import Progress
from .._model.problem import n_pairs
from .._model.products import apply_adjoint
from .curvature import Stationary
from .influence import BLOCK_BYTES, LEAST_TOGETHER, of_cells
from .populations import Population

Array = NDArray[np.float64]


def is_shorter(there: Stationary, cells: Sequence[Population]) -> bool:
    """Whether columns of B take fewer flops for each draw than its target, over pairs of conditions.

    2NM + 4ND for M cells, and 2PM + 2ND² for P = D(D+1)/2 pairs. Where pairs have weights of their own, the
    column of the mean takes 2ND² as well.
    """
    (N, D), M = there.given.shape, sum(len(each.Y) for each in cells)
    return n_pairs(D) * M + N * D * D > N * M + 2 * N * D


def from_cells(
    there: Stationary, cells: Sequence[Population], counts: Sequence[NDArray[Any]], inverse: Array,
    places: NDArray[np.intp], watch: Callable[[Progress], object],
) -> Array:  # fmt: skip
    """Gains (n, k) of these channels for the counts (n, A) of each population's groups.

    2nN (M + 2D + k) flops for n draws of M cells. 16nN bytes beside counts, gains and a block of B.
    """
    n, N = len(counts[0]), len(there.gains)
    total = np.zeros((n, N))
    for number, (population, drawn) in enumerate(zip(cells, counts, strict=True)):
        often = population.often(drawn)
        pulled = np.zeros((n, N))
        _add_cells(pulled, there, often, population.Y)
        traces = blas.product(often, np.square(population.Y).sum(axis=1)[:, np.newaxis])[:, 0]
        if there.given.center:
            sums = blas.product(often, population.Y)
            sums /= np.sqrt(often.sum(axis=1))[:, np.newaxis]
            _subtract_means(pulled, there, sums)
            traces -= np.square(sums).sum(axis=1)
        pulled *= scales_of(there, number, traces)[:, np.newaxis]
        total += pulled
        watch(Progress("gains", 0.5 * (number + 1) / len(cells)))
    if len(cells) > 1:
        total /= len(cells)
    return _solved(there, total, inverse, places, watch)


def from_targets(
    there: Stationary, counts: NDArray[Any], inverse: Array, places: NDArray[np.intp],
    watch: Callable[[Progress], object],
) -> Array:  # fmt: skip
    """Gains (n, k) of these channels where each of T targets was drawn so often (n, T)."""
    pulled = _pulled(there, there.targets)
    return _solved(there, blas.product(counts / len(there.targets), pulled), inverse, places, watch)


def scales_of(there: Stationary, number: int, traces: Array) -> Array:
    """c (n,) for traces of the covariance of cells that were drawn for this target: to X's, if it was so."""
    if not there.matched[number]:
        return np.ones(len(traces))
    return np.divide(np.trace(there.at_one), traces, out=np.zeros(len(traces)), where=traces > 0)


def _add_cells(total: Array, there: Stationary, often: Array, Y: Array) -> None:
    """Add the counts of cells (n, M) times Bᵀ, for some cells and channels at a time."""
    step = max(LEAST_TOGETHER, BLOCK_BYTES // (8 * there.given.block_rows))
    for rows, part in there.given.parts():
        for first in range(0, len(Y), step):
            some = slice(first, min(first + step, len(Y)))
            B = of_cells(part, Y[some])
            total[:, rows] += blas.product(np.ascontiguousarray(often[:, some]), B, tb=True)


def _subtract_means(total: Array, there: Stationary, sums: Array) -> None:
    """Subtract Gᵀ RᵀR ssᵀ for the sums of each draw s (n, D), over the root of the number of cells."""
    step = max(LEAST_TOGETHER, BLOCK_BYTES // (8 * there.given.block_rows))
    for rows, part in there.given.parts():
        for first in range(0, len(sums), step):
            some = slice(first, min(first + step, len(sums)))
            total[some, rows] -= of_cells(part, np.ascontiguousarray(sums[some])).T


def _pulled(there: Stationary, S: Array) -> Array:
    """Gᵀ RᵀR S for a stack of S (m, D, D): (m, N)."""
    metric = there.given.metric
    return apply_adjoint(there.given, S if metric is None else metric.image(S))


def _solved(
    there: Stationary, pulled: Array, inverse: Array, places: NDArray[np.intp],
    watch: Callable[[Progress], object],
) -> Array:  # fmt: skip
    """1 + A⁻¹ (Gᵀ RᵀR S − Gᵀ RᵀR C) of some channels, for rows Gᵀ RᵀR S (n, N), which are changed."""
    pulled -= _pulled(there, there.at_one[np.newaxis])
    pulled[:, there.given.sizes == 0] = 0.0
    chosen = there.rows(inverse, places)
    gains = blas.product(pulled, chosen, tb=True)
    gains += 1.0
    watch(Progress("gains", 1.0))
    return gains
