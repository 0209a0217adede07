"""The direct solver: one Cholesky factorisation of GᵀG + λI, in place.

N²D + N³/3 flops and 8N² bytes; half the bytes for float32 X, whose factor is refined with float64
residuals to the accuracy of a float64 one. Where the matrix is singular to working precision
(always for λ = 0 with dead or duplicate channels, or more than D(D+1)/2 of them), its
eigendecomposition gives the solution of minimum norm instead: some 9N³ flops, 24N² bytes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from .. import _blas
from .._operators import apply_adjoint, apply_atoms, gram_triangle
from .._problem import Problem
from .._validation import require_memory
from ._solution import Solution

Array = NDArray[Any]

# A float32 factor gains some six digits a step while λ is well above its rounding. Stop at a
# residual that a float64 factor would leave; give the factor up where a step does not halve it.
REFINED = 1e-13
MAX_REFINEMENTS = 20


@dataclasses.dataclass(frozen=True)
class State:
    """Either `factor`, the lower triangle L of L Lᵀ = GᵀG + λI, or its eigenpairs above rounding."""

    problem: Problem
    ridge: float
    factor: Array | None = None
    values: Array | None = None  # (rank,)
    vectors: Array | None = None  # (rank, N), one a row


def init(problem: Problem, ridge: float) -> State:
    """Factor GᵀG + λI, both in the scaled units of `problem`."""
    N, D = problem.shape
    if ridge > float(np.finfo(problem.dtype).max) / 2:
        problem = problem.astype(np.float64)
    if ridge > 0:
        nbytes = problem.dtype.itemsize * N * (N + D)
        require_memory(nbytes, f"A Cholesky fit of {N} channels", "method='diagonal' would fit")
        A = gram_triangle(problem)
        A.flat[:: N + 1] += problem.dtype.type(ridge)
        if _blas.cholesky(A) == 0:
            return State(problem, ridge, factor=A)
        if problem.dtype == np.float32:
            return init(problem.astype(np.float64), ridge)
        del A
    problem = problem.astype(np.float64)
    require_memory(32 * N * N + 8 * N * D, f"A minimum-norm fit of {N} channels", "a larger ridge would fit")
    A = gram_triangle(problem)
    values, vectors = eigh(A.T, lower=False, overwrite_a=True, check_finite=False, driver="evd")
    keep = values > N * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return State(problem, ridge, values=values[keep], vectors=np.ascontiguousarray(vectors.T[keep]))


def solve(state: State, rhs: Array) -> Solution:
    """Solve for the rows of `rhs` (T, N)."""
    if state.vectors is not None:
        assert state.values is not None
        parts = _blas.product(rhs, state.vectors, tb=True) / (state.values + state.ridge)
        rank = len(state.values)
        return Solution(_blas.product(parts, state.vectors), "minimum-norm", {"rank": rank})
    assert state.factor is not None
    if state.problem.dtype == np.float64:
        return Solution(_blas.cholesky_solve(state.factor, rhs), "converged", {})
    return _refined(state, rhs)


def _refined(state: State, rhs: Array) -> Solution:
    """Iterative refinement: x += (L Lᵀ)⁻¹ (b − A x), with the residual in float64."""
    assert state.factor is not None
    problem = state.problem.astype(np.float64)
    scale = np.abs(rhs).max(axis=1, keepdims=True)
    scale[scale == 0] = 1.0
    x = np.zeros_like(rhs)
    residual, last = rhs / scale, np.inf
    for step in range(MAX_REFINEMENTS):
        x += _blas.cholesky_solve(state.factor, residual)
        products = [apply_adjoint(problem, apply_atoms(problem, row)) for row in x]
        residual = rhs / scale - np.stack(products) - state.ridge * x
        size = float(np.abs(residual).max())
        if size <= REFINED:
            return Solution(x * scale, "converged", {"refinements": step})
        if size > last / 2:
            break
        last = size
    return solve(init(problem, state.ridge), rhs)
