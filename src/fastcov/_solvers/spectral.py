"""The spectral solver: one eigendecomposition, of the smaller of GᵀG and GGᵀ, serves any ridge.

With G = U Σ Vᵀ, (GᵀG + λI)⁻¹ b = V (Σ² + λI)⁻¹ Vᵀ b + (b − V Vᵀ b) / λ. Some 9n³ flops and 24n² bytes
for n = min(N, D(D+1)/2), beside those of the matrix. Where λ does not count beside GᵀG in double
precision, the part of b outside the range of Gᵀ is rounding and is left out; for λ = 0 that gives the
minimum-norm solution. Eigenvectors of GᵀG are orthogonal to rounding, so a solution is as accurate as one
with a Cholesky factor. Those of GGᵀ give V = Gᵀ U Σ⁻¹, which is not orthogonal for small σ; iterative
refinement recovers the digits.

With one penalty a channel, in standard form (see `System`), G stands for G diag(s), and the norm is ‖δ / s‖.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._inputs.validation import require_memory
from .._model.packed import pack, unpack
from .._model.problem import n_pairs
from .._model.products import apply_adjoint, apply_atoms, gram_triangle
from .._model.ridge_penalty import Penalty
from ._pairs import block_rows, dual_gram
from ._refinement import refine
from ._solution import RESOLVED, Options, Solution, System, products

Array = NDArray[np.float64]


# LAPACK counts 2n² numbers of work space in 32 bits.
LARGEST_ORDER = 32_000


@dataclasses.dataclass(frozen=True)
class State:
    """Squared singular values of G above rounding (rank,), and the eigenvectors, one a row.

    The eigenvectors are those of GᵀG (rank, N), or of GGᵀ (rank, P) where `dual`.
    """

    system: System
    values: Array
    vectors: Array
    dual: bool

    def solve(self, rhs: Array) -> Solution:
        (found,) = next(self.each([[self.system.penalty]], rhs))
        return found

    def each(self, groups: Iterable[Sequence[Penalty]], rhs: Array) -> Iterator[list[Solution]]:
        """Solve with all ridges of each group at once. They are uniform if that of the state is."""
        inside, outside = (functools.cache(lambda f=f: f(rhs)) for f in (self._inside, self._outside))
        trace = float(self.system.to_standard_form(self.system.to_standard_form(self.system.diagonal)).sum())

        def singular(penalty: Penalty) -> bool:
            """`System.singular` for a penalty that differs only by a factor."""
            if not penalty.uniform:
                return dataclasses.replace(self.system, penalty=penalty).singular
            return float(penalty.own) <= RESOLVED * trace

        for group in groups:
            found: list[Solution] = []
            for without, some in itertools.groupby(group, key=singular):
                found += self._together(list(some), rhs, inside, outside, without)
            yield found

    def _together(
        self, penalties: list[Penalty], rhs: Array, inside: Callable[[], Array],
        outside: Callable[[], Array], singular: bool,
    ) -> list[Solution]:  # fmt: skip
        """Solve for the rows of `rhs` (T, N) in systems of which all, or none, are singular."""
        K, stats = len(penalties), {"rank": len(self.values)}
        each = [float(p.own) for p in penalties] if self.system.penalty.uniform else [self.system.ridge]
        ridges = np.repeat(each, len(rhs))[:, np.newaxis]
        if self.dual and not singular:
            systems = [dataclasses.replace(self.system, penalty=penalty) for penalty in penalties]
            multiply = functools.partial(products, systems)
            value, steps, _ = refine(multiply, np.tile(rhs, (K, 1)), lambda b: self._regular(b, ridges))
            stats["refinements"] = steps
        else:
            value = self._combined(np.tile(inside(), (K, 1)) / (self.values + ridges))
            if not singular:
                value += np.tile(outside(), (K, 1)) / ridges
        status = "minimum-norm" if singular else "converged"
        return [Solution(x, status, stats) for x in value.reshape(K, *rhs.shape)]

    def _regular(self, rhs: Array, ridges: Array) -> Array:
        """The solution as b / λ less a part in the range of Gᵀ: 1 / (σ² + λ) = 1 / λ − σ² / (λ (σ² + λ))."""
        inside = self._combined(self._inside(rhs) * (self.values / (self.values + ridges) / ridges))
        return self.system.to_standard_form(self.system.to_standard_form(rhs)) / ridges - inside

    def _inside(self, rhs: Array) -> Array:
        """Vᵀ S b for the rows b of `rhs`, divided by σ² where `dual`."""
        problem, scaled = self.system.problem, self.system.to_standard_form(rhs)
        if not self.dual:
            return blas.product(scaled, self.vectors, tb=True)
        # V = Gᵀ U Σ⁻¹, on both sides
        image = pack(apply_atoms(problem, self.system.to_standard_form(scaled)))
        return blas.product(image, self.vectors, tb=True) / self.values

    def _combined(self, parts: Array) -> Array:
        """S V c for rows c of the form of `_inside`."""
        sums = blas.product(parts, self.vectors)
        if not self.dual:
            return self.system.to_standard_form(sums)
        inside = apply_adjoint(self.system.problem, unpack(sums, self.system.problem.shape[1]))
        return self.system.to_standard_form(self.system.to_standard_form(inside))

    def _outside(self, rhs: Array) -> Array:
        """S (I − V Vᵀ) S b with eigenvectors of GᵀG. It projects twice: once leaves rounding inside."""
        left = self.system.to_standard_form(rhs).copy()
        for _ in range(2):
            left -= blas.product(blas.product(left, self.vectors, tb=True), self.vectors)
        return self.system.to_standard_form(left)


def init(system: System, options: Options) -> State:
    """Decompose GᵀG or GGᵀ."""
    system = system.astype(np.float64)
    N, D = system.problem.shape
    dual = n_pairs(D) < N or system.problem.rows.on_workers
    n = n_pairs(D) if dual else N
    if n > LARGEST_ORDER:
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
    values = blas.eigh(A)
    rounding = max(N, n) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    first = int(np.searchsorted(values, rounding, "right"))
    return State(system, values[first:], A[first:], dual)


def solve(state: State, rhs: Array) -> Solution:
    """Solve for the rows of `rhs` (T, N)."""
    return state.solve(rhs)
