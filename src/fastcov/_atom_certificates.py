"""Certificates of many ridges at once, where the atoms of all channels fit the caches: two products."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import _blas, _kernels
from ._certificate import Certificate, judged
from ._jit import blas_for
from ._problem import BLOCK_BYTES, Problem
from ._solvers import Solution, System
from ._solvers._pairs import n_pairs, pack
from ._sources import Stored

Array = NDArray[np.float64]


def small_atoms(problem: Problem) -> Array | None:
    """G with an atom a row (N, P), packed; None where that is more than a block. 2ND² flops.

    Made of X, apart from what a solver makes of it.
    """
    N, D = problem.shape
    if problem.metric is not None or isinstance(problem.X, Stored) or 8 * N * n_pairs(D) > BLOCK_BYTES:
        return None
    problem = problem.astype(np.float64)
    atoms, centred = np.empty((N, n_pairs(D))), np.empty((N, D))
    for rows, block in problem.blocks(step=N):  # one of all rows
        _kernels.pair_atoms(block, problem.centre(rows, block, centred), atoms, size=atoms.size)
    return atoms


def certificates_of(
    atoms: Array, systems: Sequence[System], error: Array, overlaps: Array, solutions: Sequence[Solution],
    tol: float,
) -> list[Certificate]:  # fmt: skip
    """As `certificates`, for penalties of one number each. 4NP flops a ridge and target."""
    values = np.concatenate([solution.value for solution in solutions])
    ridges = np.repeat([float(system.penalty.own) for system in systems], len(overlaps))
    left = np.tile(pack(error), (len(systems), 1))
    with blas_for(4.0 * len(values) * atoms.size):
        left -= _blas.product(values, atoms)
        parts = _blas.product(left, atoms, tb=True)
    parts -= ridges[:, np.newaxis] * values
    sizes, b = _blas.norms(parts).reshape(len(systems), -1), _blas.norms(overlaps)
    return [
        judged(system, error, b, solution, size, tol)
        for system, solution, size in zip(systems, solutions, sizes, strict=True)
    ]
