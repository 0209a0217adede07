"""The spectral solver: one eigendecomposition, of the smaller of GᵀG and GGᵀ, serves any ridge.

With G = U Σ Vᵀ, (GᵀG + λI)⁻¹ b = V (Σ² + λI)⁻¹ Vᵀ b + (b − V Vᵀ b) / λ. Some 9n³ flops and 24n² bytes
for n = min(N, D(D+1)/2), beside those of the matrix. Where λ does not count beside GᵀG in double
precision, what lies outside the range of Gᵀ is rounding and is left out: for λ = 0, the solution of
minimum norm.

For a penalty of its own for each channel, all of this is of G diag(s) (see `System`), and the norm ‖δ / s‖.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from .. import _blas
from .._penalty import Penalty
from .._products import apply_adjoint, apply_atoms, gram_triangle
from .._validation import require_memory
from ._pairs import block_rows, dual_gram, n_pairs, pack, unpack
from ._refinement import refine
from ._solution import Options, Solution, System

Array = NDArray[np.float64]


# 2n² numbers of work space have to be counted in 32 bits.
LARGEST = 32_000


@dataclasses.dataclass(frozen=True)
class State:
    """Squared singular values of G above rounding (rank,), and the vectors, one a row.

    Those of GᵀG (rank, N), or of GGᵀ (rank, P) where `dual`.
    """

    system: System
    values: Array
    vectors: Array
    dual: bool

    def at(self, penalty: Penalty) -> State:
        """The same decomposition with another ridge, the same for all channels as this one is."""
        return dataclasses.replace(self, system=dataclasses.replace(self.system, penalty=penalty))

    def solve(self, rhs: Array) -> Solution:
        stats = {"rank": len(self.values)}
        if self.system.singular:
            inside = self._filtered(rhs, 1.0 / (self.values + self.system.ridge))
            return Solution(inside, "minimum-norm", stats)
        value, steps, _ = refine(self.system, rhs, self._regular)
        return Solution(value, "converged", {**stats, "refinements": steps})

    def _regular(self, rhs: Array) -> Array:
        """b / λ less what is too much of it inside: 1 / (σ² + λ) = 1 / λ − σ² / (λ (σ² + λ))."""
        ridge = self.system.ridge
        inside = self._filtered(rhs, self.values / (self.values + ridge) / ridge)
        return self.system.scaled(self.system.scaled(rhs)) / ridge - inside

    def _filtered(self, rhs: Array, factors: Array) -> Array:
        """S V diag(factors) Vᵀ S b."""
        problem, scaled = self.system.problem, self.system.scaled(rhs)
        if not self.dual:
            parts = _blas.product(scaled, self.vectors, tb=True)
            return self.system.scaled(_blas.product(parts * factors, self.vectors))
        # V = Gᵀ U Σ⁻¹
        image = apply_atoms(problem, self.system.scaled(scaled))
        parts = _blas.product(pack(image), self.vectors, tb=True) / self.values
        packed = _blas.product(parts * factors, self.vectors)
        inside = apply_adjoint(problem, unpack(packed, problem.shape[1]))
        return self.system.scaled(self.system.scaled(inside))


def init(system: System, options: Options) -> State:
    """Decompose G."""
    system = system.astype(np.float64)
    N, D = system.problem.shape
    dual = n_pairs(D) < N
    n = min(n_pairs(D), N)
    if n > LARGEST:
        raise MemoryError(
            f"Eigenvectors of order {n} are beyond LAPACK's work space: use a ridge large enough to count."
        )
    nbytes = 24 * n * n + 8 * (block_rows(D) * n if dual else N * D)
    require_memory(nbytes, f"Eigenvectors of order {n}", "use a larger ridge, or solver='pcg'")
    if dual:
        A = dual_gram(system.problem, options.watch_factor, system.scales)
    else:
        A = gram_triangle(system.problem)
        if system.scales is not None:
            A *= system.scales
            A *= system.scales[:, np.newaxis]
    values = _blas.eigh(A)
    rounding = max(N, n) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    first = int(np.searchsorted(values, rounding, "right"))
    return State(system, values[first:], A[first:], dual)


def solve(state: State, rhs: Array) -> Solution:
    """Solve for the rows of `rhs` (T, N)."""
    return state.solve(rhs)
