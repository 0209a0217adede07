"""The dual solver: where channels outnumber pairs of conditions, GGᵀ is smaller than GᵀG.

(GᵀG + λI)⁻¹ b = (1/λ) [b − Gᵀ (GGᵀ + λI)⁻¹ G b] with GGᵀ on symmetric matrices, P × P, P = D(D+1)/2:
NP² + P³/3 flops and 8P² bytes, half for float32 X; one pass over X. The difference loses digits where λ
is far below ‖GGᵀ‖, and so does a float32 factor; iterative refinement with float64 residuals recovers them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._inputs.validation import require_memory
from .._model.packed import pack, unpack
from .._model.problem import n_pairs
from .._model.products import apply_adjoint, apply_atoms
from . import spectral
from ._pairs import block_rows, dual_gram
from ._refinement import refine
from ._solution import Options, Solution, System

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class State:
    """The lower triangle L of L Lᵀ = GGᵀ + λI, in the precision of the problem."""

    system: System
    lower: Array

    def solve(self, rhs: Array) -> Solution:
        value, steps, _ = refine(self.system.astype(np.float64).product, rhs, self._approximate)
        return Solution(value, "converged", {"refinements": steps})

    def _approximate(self, rhs: Array) -> Array:
        system, problem = self.system, self.system.problem.astype(np.float64)
        scaled = system.to_standard_form(rhs)
        packed = blas.cholesky_solve(self.lower, pack(apply_atoms(problem, system.to_standard_form(scaled))))
        errors = unpack(packed, problem.shape[1])
        return (
            system.to_standard_form(scaled - system.to_standard_form(apply_adjoint(problem, errors)))
            / system.ridge
        )


def init(system: System, options: Options) -> State | spectral.State:
    """Factor GGᵀ + λI."""
    if system.singular:
        return spectral.init(system, options)
    if not system.single:
        system = system.astype(np.float64)
    D, dtype = system.problem.shape[1], system.problem.dtype
    P = n_pairs(D)
    nbytes = dtype.itemsize * P * (P + block_rows(D))
    require_memory(nbytes, f"A factor over the {P} pairs of {D} conditions", "use solver='pcg'")
    K = dual_gram(system.problem, options.watch_factor, system.scales)
    K.flat[:: P + 1] += dtype.type(system.ridge)
    if blas.cholesky(K) == 0:
        return State(system, K)
    del K
    if dtype == np.float32:
        return init(system.astype(np.float64), options)
    return spectral.init(system, options)


def solve(state: State | spectral.State, rhs: Array) -> Solution:
    """Solve for the rows of `rhs` (T, N)."""
    return state.solve(rhs)
