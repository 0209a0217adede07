"""The direct solver: one Cholesky factorisation of GᵀG + λI, in place.

N²D + N³/3 flops and 8N² bytes; half the bytes for float32 X, whose factor is refined with float64
residuals to the accuracy of a float64 one. Where GᵀG + λI is singular to working precision, its
eigendecomposition gives the solution of minimum norm instead: some 9N³ flops, 32N² bytes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from .. import _blas
from .._operators import apply_gram, gram_triangle, squared_norms
from .._problem import Problem
from .._validation import require_memory
from ._solution import Solution

Array = NDArray[Any]

# The factor divides by λ what rounding leaves of b outside the range of Gᵀ. With λ at this share of the
# trace gains are still good to 1e-6 where GᵀG is singular (200 channels, 6 conditions; 1e-15 where it
# is not). Below, they may be all wrong while the residual is tiny; eigenvectors leave that part out.
RESOLVED = 1e-10
# A float32 factor gains some six digits a step while λ is well above its rounding. Stop at a
# residual that a float64 factor would leave; give the factor up where a step does not halve it.
REFINED = 1e-13
MAX_REFINEMENTS = 20


@dataclasses.dataclass(frozen=True)
class Factor:
    """The lower triangle L of L Lᵀ = GᵀG + λI, in the precision of `problem`."""

    problem: Problem
    ridge: float
    lower: Array

    def solve(self, rhs: Array) -> Solution:
        if self.lower.dtype == np.float64:
            return Solution(_blas.cholesky_solve(self.lower, rhs), "converged", {})
        return self._refined(rhs)

    def _refined(self, rhs: Array) -> Solution:
        """Iterative refinement: x += (L Lᵀ)⁻¹ (b − A x), with the residual in float64."""
        problem = self.problem.astype(np.float64)
        scale = np.abs(rhs).max(axis=1, keepdims=True)
        scale[scale == 0] = 1.0
        x = np.zeros_like(rhs)
        residual, last = rhs / scale, np.inf
        for step in range(MAX_REFINEMENTS):
            x += _blas.cholesky_solve(self.lower, residual)
            residual = rhs / scale - apply_gram(problem, x) - self.ridge * x
            size = float(np.abs(residual).max())
            if size <= REFINED:
                return Solution(x * scale, "converged", {"refinements": step})
            if size > last / 2:
                break
            last = size
        return init(problem, self.ridge).solve(rhs)


@dataclasses.dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues of GᵀG above rounding (rank,), and their vectors, one a row (rank, N)."""

    ridge: float
    values: Array
    vectors: Array

    def solve(self, rhs: Array) -> Solution:
        parts = _blas.product(rhs, self.vectors, tb=True) / (self.values + self.ridge)
        return Solution(_blas.product(parts, self.vectors), "minimum-norm", {"rank": len(self.values)})


def init(problem: Problem, ridge: float) -> Factor | Eigenpairs:
    """Factor GᵀG + λI, both in the scaled units of `problem`."""
    N, D = problem.shape
    if ridge > RESOLVED * squared_norms(problem).sum():  # the trace, at least ‖GᵀG‖
        if ridge > float(np.finfo(problem.dtype).max) / 2:
            problem = problem.astype(np.float64)
        nbytes = problem.dtype.itemsize * N * (N + D)
        require_memory(nbytes, f"A Cholesky fit of {N} channels", "method='diagonal' would fit")
        A = gram_triangle(problem)
        with np.errstate(over="ignore"):  # beyond float32: the factorisation finds it
            A.flat[:: N + 1] += problem.dtype.type(ridge)
        if _blas.cholesky(A) == 0:
            return Factor(problem, ridge, A)
        if problem.dtype == np.float32:
            return init(problem.astype(np.float64), ridge)
        del A
    problem = problem.astype(np.float64)
    nbytes = 32 * N * N + 8 * N * D
    require_memory(nbytes, f"A minimum-norm fit of {N} channels", "a larger ridge, or method='diagonal'")
    A = gram_triangle(problem)
    values, vectors = eigh(A.T, lower=False, overwrite_a=True, check_finite=False, driver="evd")
    keep = values > N * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return Eigenpairs(ridge, values[keep], np.ascontiguousarray(vectors.T[keep]))


def solve(state: Factor | Eigenpairs, rhs: Array) -> Solution:
    """Solve for the rows of `rhs` (T, N)."""
    return state.solve(rhs)
