"""GGᵀ on symmetric matrices as vectors over the P = D(D+1)/2 pairs of conditions, see `packed`.

GGᵀ has the nonzero eigenvalues of GᵀG.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas, pair_kernels
from .._model import metric_atoms
from .._model.explicit_atoms import ExplicitAtoms
from .._model.problem import BLOCK_BYTES, Problem, n_pairs

Array = NDArray[Any]

# Fewest rows of a block: with fewer, a product reads and writes all of GGᵀ for little work.
LEAST_ROWS = 256


def block_rows(D: int) -> int:
    """Rows of G that are made at once."""
    return max(LEAST_ROWS, BLOCK_BYTES // (8 * n_pairs(D)))


def dual_gram(
    problem: Problem, watch: Callable[[float], None], scales: NDArray[np.float64] | None = None
) -> Array:
    """Lower triangle of GGᵀ (P, P), or of G diag(s)² Gᵀ with scales s (N,), in the problem's dtype.

    NP² flops, one pass over X.
    """
    if isinstance(problem, ExplicitAtoms):
        scaled = problem.X[:] if scales is None else problem.X[:] * scales[:, np.newaxis]
        watch(1.0)
        return blas.self_product(scaled, transpose=True)
    if problem.rows.on_workers:
        nbytes = problem.dtype.itemsize * n_pairs(problem.shape[1]) ** 2
        K: Array = problem.rows.map_sum(_dual_part, problem, scales, each=1, nbytes=nbytes)
        watch(1.0)
        return K
    N, D = problem.shape
    K = np.zeros((n_pairs(D),) * 2, problem.dtype)
    for rows, part in packed_atoms(problem):
        if scales is not None:
            part *= scales[rows, np.newaxis].astype(part.dtype)
        blas.self_product(part, transpose=True, out=K, add=True)
        watch(rows.stop / N)
    return K


def packed_atoms(problem: Problem) -> Iterator[tuple[slice, Array]]:
    """Yield a slice of channels and their atoms as rows (channels, P), packed, or their images.

    A block is valid until the next one is asked for.
    """
    N, D = problem.shape
    step = min(N, block_rows(D))
    images = None if problem.metric is None else metric_atoms.Images(problem.metric, problem.dtype)
    atoms, centred = np.empty((step, n_pairs(D)), problem.dtype), np.empty((step, D), problem.dtype)
    for rows, block in problem.blocks(step=step):
        part = atoms[: len(block)]
        pair_kernels.pair_atoms(block, problem.centre(rows, block, centred), part, size=part.size)
        if images is not None:
            images.project(part)
        yield rows, part


def _dual_part(problem: Problem, scales: NDArray[np.float64] | None) -> Array:
    return dual_gram(problem, lambda _: None, scales)
