"""The range of G: the part of an error that gains can reach at all, to first order.

Eigenvectors of GᵀG are too inaccurate for it. Its eigenvalues are σ², and below N ε of the largest they are
rounding. Singular values of G below √(N ε) are therefore lost; on recordings, that took 0.14 % off the
unreachable part. Far more is resolved by atoms of norm one, a pivoted Cholesky factor of their Gram matrix,
and residuals that are computed with the atoms themselves.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._fitting.start import Start
from .._inputs.validation import require_memory
from .._model.packed import pack, unpack
from .._model.problem import n_pairs
from .._model.products import apply_adjoint, apply_atoms, apply_gram, gram_triangle
from .modes import Complete

Array = NDArray[np.float64]

EPSILON = float(np.finfo(np.float64).eps)
# Limit on steps of conjugate gradients. They end in two or three steps if the Cholesky factor is good to more
# than a few digits.
MOST_STEPS = 20
# Directions below this fraction of the largest are left out of a basis. They are known to a millionth at
# best, and rounding leaves as much where a mean is 10⁵ times as large as the deviations from it.
RESOLVED = 1e-9
# Number of combinations of atoms that are computed together.
TOGETHER = 256


class Range(Protocol):
    """The range of G."""

    def residual(self, error: Array) -> Array:
        """The part of a matrix (D, D) outside the range."""

    def squares(self, errors: Array, overlaps: Array) -> Array:
        """‖·‖² (T,) of the parts inside the range of matrices (T, D, D), whose overlaps Gᵀe are (T, N)."""


def range_of(start: Start, modes: Complete) -> Range:
    """The range, in a form chosen by the shape of G and by its modes."""
    if not start.norms.any():
        return _Nothing()
    if not modes.state.dual:
        return _Atoms.of(start)
    if len(modes.values) == n_pairs(start.problem.shape[1]):
        return _Everything()
    return _Basis.of(start)


def _recompute_weak(start: Start, A: Array) -> None:
    """Recompute from atoms the rows and columns of GᵀG (N, N) of channels that are weak beside the mean m.

    GᵀG is computed from products of centred responses, in which |x_i|² is a difference of numbers near |m|².
    For atoms of norm one, its error is ε |m|⁴ / ‖g_i‖², which is to stay below N ε. 4ND² flops for each
    channel recomputed.
    """
    problem, (N, _) = start.problem, start.problem.shape
    square = blas.dot(problem.mean, problem.mean)
    weak = np.flatnonzero((start.norms > 0) & (N * start.norms < 4.0 * square**2))
    for first in range(0, len(weak), TOGETHER):
        some = weak[first : first + TOGETHER]
        unit = np.zeros((len(some), N))
        unit[np.arange(len(some)), some] = 1.0
        columns = apply_gram(problem, unit)
        A[some] = columns
        A[:, some] = columns.T


class _Nothing:
    """The range if all atoms are zero."""

    def residual(self, error: Array) -> Array:
        return error

    def squares(self, errors: Array, overlaps: Array) -> Array:
        return np.zeros(len(errors))


class _Everything:
    """The range if the atoms span all symmetric matrices: GGᵀ has no eigenvalue at or below rounding."""

    def residual(self, error: Array) -> Array:
        return np.zeros_like(error)

    def squares(self, errors: Array, overlaps: Array) -> Array:
        return blas.squares(errors)


@dataclasses.dataclass(frozen=True)
class _Atoms:
    """Linearly independent atoms, of norm one, and the Cholesky factorisation LLᵀ of their Gram matrix.

    An atom counts as in the span of those chosen before it if its part outside is below √(N ε) of its norm
    (4e-7 for N = 871). The square of this part is a pivot of the factorisation, and smaller pivots are
    rounding.
    """

    start: Start
    chosen: NDArray[np.intp]  # numbers of the channels, by falling pivot (rank,)
    scales: Array  # 1 / ‖g_i‖ of these
    factor: Array  # L (rank, rank)

    @classmethod
    def of(cls, start: Start) -> _Atoms:
        """Choose and factorise the atoms, in N²D + N³/3 flops and 16N² bytes."""
        N, D = start.problem.shape
        require_memory(8 * N * (2 * N + D), f"Cholesky factors of {N} channels", "ask for fewer modes")
        sizes = np.sqrt(start.norms)
        scales = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        A = gram_triangle(start.problem)
        _recompute_weak(start, A)
        A *= scales
        A *= scales[:, np.newaxis]
        A.flat[:: N + 1] = scales > 0
        order, rank = blas.pivoted_cholesky(A, N * EPSILON)
        chosen = order[:rank]
        return cls(start, chosen, scales[chosen], np.ascontiguousarray(A[:rank, :rank]))

    def residual(self, error: Array) -> Array:
        """Least squares by conjugate gradients, preconditioned by the Cholesky factor; 4ND² flops a step.

        The first step is the solution of the semi-normal equations; the next steps correct it.
        """
        problem = self.start.problem
        left, total = error.copy(), float(np.square(error).sum())
        direction, last = np.zeros(len(self.chosen)), np.inf
        for _ in range(MOST_STEPS):
            slope = self._overlaps(apply_adjoint(problem, left[np.newaxis]))
            step = blas.cholesky_solve(self.factor, slope)
            size = float(blas.dots(slope, step)[0])
            direction = step[0] + (size / last) * direction
            last = size
            x = np.zeros((1, problem.shape[0]))
            x[0, self.chosen] = self.scales * direction
            image = apply_atoms(problem, x)[0]
            length = float(np.square(image).sum())
            if not (size > 0 and length > 0):
                break
            left -= (size / length) * image
            # Stop once a step hardly reduces ‖left‖².
            if size * (size / length) <= EPSILON * float(np.square(left).sum()) + EPSILON**2 * total:
                break
        return left

    def squares(self, errors: Array, overlaps: Array) -> Array:
        """‖L⁻¹ b‖² of the semi-normal equations, as accurate as the condition of the factor allows."""
        b = self._overlaps(overlaps)
        return blas.dots(b, blas.cholesky_solve(self.factor, b))

    def _overlaps(self, overlaps: Array) -> Array:
        """Overlaps of the chosen atoms, scaled to atoms of norm one."""
        return np.ascontiguousarray(overlaps[:, self.chosen] * self.scales)


@dataclasses.dataclass(frozen=True)
class _Basis:
    """An orthonormal basis, for more channels than pairs of conditions whose atoms do not span all matrices.

    Random combinations of atoms of norm one, as many as there are pairs, span the same space. Their pivoted
    QR factorisation gives the basis.
    """

    D: int
    rows: Array  # (rank, P), packed

    @classmethod
    def of(cls, start: Start) -> _Basis:
        """Compute the basis, in 4NP² + 4P³ flops and 8 (2P² + 256N) bytes."""
        N, D = start.problem.shape
        P = n_pairs(D)
        n = min(N, P)
        require_memory(8 * (2 * n * P + 2 * TOGETHER * N), f"A basis of {P} pairs", "ask for fewer modes")
        sizes = np.sqrt(start.norms)
        scales = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        rng, images = np.random.default_rng(0), np.empty((n, P))
        for first in range(0, n, TOGETHER):
            rows = np.arange(first, min(first + TOGETHER, n))
            if n < N:
                weights = rng.standard_normal((len(rows), N))
            else:  # the atoms themselves
                weights = np.zeros((len(rows), N))
                weights[np.arange(len(rows)), rows] = 1.0
            images[rows] = pack(apply_atoms(start.problem, weights * scales))
        return cls(D, blas.orthonormal(images, RESOLVED))

    def residual(self, error: Array) -> Array:
        left = pack(error[np.newaxis])
        for _ in range(2):  # the second pass removes what rounding left
            left -= blas.product(blas.product(left, self.rows, tb=True), self.rows)
        return unpack(left, self.D)[0]

    def squares(self, errors: Array, overlaps: Array) -> Array:
        inside = blas.product(pack(errors), self.rows, tb=True)
        return blas.dots(inside, inside)
