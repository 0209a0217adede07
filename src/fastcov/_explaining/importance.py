"""How much the linear loss rises if one gain is held at a value, and all others are fitted again.

With A = GᵀG + λI and δ its solution, let δ_i be held at v. The others then lower the loss as far as they can,
and it is above its minimum by

    ½ (v − δ_i)² / (A⁻¹)_ii,

because 1 / (A⁻¹)_ii is the curvature that is left along gain i once all others follow: the Schur complement
of the others in A. So the diagonal of A⁻¹ is all that is needed. With h_i = g_iᵀ (GGᵀ + λI)⁻¹ g_i, the
leverage of atom i, (A⁻¹)_ii = (1 − h_i) / λ (Woodbury), which takes P × P matrices for P pairs of conditions.

As λ goes to 0, a gain whose atom the others can make together costs nothing to hold: (A⁻¹)_ii is infinite.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._inputs.validation import require_memory
from .._model.problem import Problem, n_pairs
from .._model.products import gram_triangle
from .._rows.rows import by_channels
from .._solvers import System
from .._solvers._pairs import block_rows, dual_gram, packed_atoms
from .modes import Complete, Truncated

Array = NDArray[np.float64]

# With λ = 0, others can make part of an atom if its leverage is below 1 by more than this. Eigenvectors mix
# with those of the null space where σ² is little more than rounding, and then leverages are no better known.
INSIDE = 1e-6
# Number of modes of which squares are held.
TOGETHER = 256


@dataclasses.dataclass(frozen=True)
class Diagonal:
    """(A⁻¹)_ii (N,), infinite where a gain costs nothing to hold, and leverages 1 − λ (A⁻¹)_ii (N,)."""

    inverse: Array
    leverage: Array

    @classmethod
    def of(cls, system: System, modes: Complete | Truncated) -> Diagonal:
        """In scaled units. 2NK flops with K modes of GᵀG, and 2NPK with those of GGᵀ.

        If not all modes are known, the smaller of A and GGᵀ + λI is inverted: N²D + N³ flops and 8N² bytes,
        or 3NP² + 2P³ / 3 and 8P².
        """
        if isinstance(modes, Complete):
            return cls._of_modes(system, modes)
        N, D = system.problem.shape
        dual = n_pairs(D) < N or system.problem.rows.on_workers
        inverse = None if dual else _inverse_diagonal(system)
        leverage = _dual_leverages(system) if inverse is None else 1.0 - system.ridge * inverse
        return cls._of(system, leverage, inverse)

    @classmethod
    def _of_modes(cls, system: System, modes: Complete) -> Diagonal:
        N, values = system.problem.shape[0], modes.values
        scales = 1.0 / (values if system.singular else values + system.ridge)
        if modes.state.dual:
            leverage = leverages(system.problem, modes.state.vectors * np.sqrt(scales)[:, np.newaxis])
            return cls._of(system, leverage, None)
        leverage, inverse, inside = np.zeros((3, N))
        for first in range(0, len(values), TOGETHER):
            some = slice(first, first + TOGETHER)
            squares = np.square(modes.state.vectors[some])
            leverage += blas.product((values * scales)[np.newaxis, some], squares)[0]
            inverse += blas.product(scales[np.newaxis, some], squares)[0]
            inside += squares.sum(axis=0)
        if not system.singular and len(values) < N:
            inverse += np.maximum(0.0, 1.0 - inside) / system.ridge
        return cls._of(system, leverage, inverse)

    @classmethod
    def _of(cls, system: System, leverage: Array, inverse: Array | None) -> Diagonal:
        """From leverages, and the diagonal of A⁻¹ if it is known without a difference."""
        leverage = np.clip(leverage, 0.0, 1.0)
        leverage[system.diagonal == 0] = 0.0
        if system.singular:
            # Where h_i is 1, no other atom has a part of this one: along it, the curvature is ‖g_i‖² …
            alone = leverage > 1.0 - INSIDE
            below = np.where(alone, 1.0 if inverse is None else inverse, np.inf)
            if inverse is None:
                below = np.where(alone, 1.0 / np.where(alone, system.diagonal, 1.0), np.inf)
            return cls(below, leverage)
        found = (1.0 - leverage) / system.ridge if inverse is None else inverse
        # (A⁻¹)_ii ≥ 1 / A_ii, which rounding of 1 − h must not undo.
        return cls(np.maximum(found, 1.0 / (system.diagonal + system.ridge)), leverage)


@by_channels()
def leverages(problem: Problem, root: Array) -> Array:
    """‖R g_i‖² (N,) for R (K, P) on packed pairs. 2PK flops for each channel, one pass over X."""
    out = np.empty(problem.shape[0])
    for rows, atoms in packed_atoms(problem):
        image = blas.product(atoms, root, tb=True)
        out[rows] = blas.dots(image, image)
    return out


def _inverse_diagonal(system: System) -> Array | None:
    """The diagonal of A⁻¹ from its Cholesky factor L, A⁻¹ = L⁻ᵀ L⁻¹; None where rounding leaves none."""
    N, D = system.problem.shape
    require_memory(8 * N * (N + D), f"The inverse for {N} channels", "explain fewer channels")
    A = gram_triangle(system.problem)
    A.flat[:: N + 1] += system.ridge
    if blas.cholesky(A):
        return None
    blas.invert_lower(A)
    return np.square(A).sum(axis=0)


def _dual_leverages(system: System) -> Array:
    """h (N,) from the Cholesky factor L of GGᵀ + λI: h_i = ‖L⁻¹ g_i‖²."""
    D = system.problem.shape[1]
    P = n_pairs(D)
    require_memory(8 * P * (P + 2 * block_rows(D)), f"The inverse for {P} pairs", "explain fewer conditions")
    K = dual_gram(system.problem, lambda _: None)
    K.flat[:: P + 1] += system.ridge
    if blas.cholesky(K):
        raise ValueError(
            "Argument 'ridge' must be larger for the importance of channels, where rounding leaves GGᵀ + λI "
            "no inverse: use a larger one, or all modes."
        )
    blas.invert_lower(K)
    return leverages(system.problem, K)
