"""The direct solver: one Cholesky factorisation of GᵀG + P, in place.

N²D + N³/3 flops and 8N² bytes; half the bytes for float32 X. Iterative refinement with float64
residuals then gives the accuracy of a float64 factor. Where GᵀG + P is singular to working precision,
the spectral solver takes over.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._inputs.validation import require_memory
from .._model.products import gram_triangle
from . import spectral
from ._refinement import REFINED, refine
from ._solution import Options, Solution, System, shared_null_space

Array = NDArray[Any]


@dataclasses.dataclass
class State:
    """The lower triangle L of L Lᵀ = GᵀG + P, in the precision of the problem."""

    system: System
    lower: Array
    options: Options

    def solve(self, rhs: Array) -> Solution:
        if self.lower.dtype == np.float64:
            return Solution(self._approximate(rhs), "converged", {})
        value, steps, left = refine(self.system.astype(np.float64).product, rhs, self._approximate)
        if left <= REFINED:
            return Solution(value, "converged", {"refinements": steps})
        self.lower = np.empty((0, 0))  # the float32 factor and a float64 one do not fit together
        other = init(self.system.astype(np.float64), self.options)
        if isinstance(other, State):
            self.system, self.lower = other.system, other.lower
        return other.solve(rhs)

    def _approximate(self, rhs: Array) -> Array:
        return blas.cholesky_solve(self.lower, rhs).astype(np.float64, copy=False)


def init(system: System, options: Options) -> State | spectral.State:
    """Factor GᵀG + P."""
    if system.singular:
        return spectral.init(system, options)
    if system.penalty.largest > float(np.finfo(system.problem.dtype).max) / 2:
        system = system.astype(np.float64)
    N, D = system.problem.shape
    dtype = system.problem.dtype
    require_memory(dtype.itemsize * N * (N + D), f"A Cholesky factor of {N} channels", "use solver='pcg'")
    A = gram_triangle(system.problem)
    with np.errstate(over="ignore"):  # an overflow of float32 makes the factorisation fail
        system.penalty.add_to(A)
    if blas.cholesky(A, options.watch_factor) == 0:
        return State(system, A, options)
    del A
    if dtype == np.float32:
        return init(system.astype(np.float64), options)
    if not system.definite:
        raise shared_null_space()
    return spectral.init(system, options)


def solve(state: State | spectral.State, rhs: Array) -> Solution:
    """Solve for the rows of `rhs` (T, N)."""
    return state.solve(rhs)
