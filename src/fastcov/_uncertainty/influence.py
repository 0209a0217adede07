"""The influence of each cell and each condition on fitted gains, to first order: the infinitesimal jackknife.

If the weight of m grows by dw, the gradient of the loss at the fitted gains changes by −u_m dw, and the gains
by f_m dw with f_m = H⁻¹ u_m. With G the atoms where H has them, and R of the metric (without one, R M = M),

    a cell y:         u = Gᵀ RᵀR [yyᵀ − S ‖y‖² / tr S]
    a condition d:    u = −Gᵀ [e_d r_dᵀ + r_d e_dᵀ] + Gᵀ RᵀR S · (C(1)_dd − S_dd) / tr C(1)

Cells are centred and scaled so that S = Σ yyᵀ. r_d is a column of the residual RᵀR (C − S), and nuisance
terms take their part of the matrix in brackets. The terms in S are there only where the scale of the target
is matched to X, because other cells or conditions then change the scale, too.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._model.metric import Metric
from .._model.problem import Problem
from .._model.products import weighted_adjoint
from .curvature import Stationary

Array = NDArray[np.float64]

# Influences of at least so many are computed together, and of more while their blocks take fewer bytes.
LEAST_TOGETHER, BLOCK_BYTES = 256, 1 << 26


class Kind(Protocol):
    """What might have been otherwise: cells or conditions, `n` of them."""

    @property
    def n(self) -> int: ...

    def derivatives(self, part: Problem, some: slice) -> Array:
        """u of some of the n, for some of the channels (channels, n)."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """Cells Y (M, D), centred over cells and scaled so that YᵀY is the target S."""

    there: Stationary
    Y: Array

    @property
    def n(self) -> int:
        return len(self.Y)

    def derivatives(self, part: Problem, some: slice) -> Array:
        """4D flops for each channel and cell; 2D² where pairs have weights."""
        y, metric = self.Y[some], part.metric
        if metric is None or metric.weights is None:
            u = blas.product(part.X[:], y, tb=True)
            u *= blas.product(part.centred(), y, tb=True)
            u *= 2.0
            on, total = np.square(y).sum(axis=1), np.square(y.sum(axis=1))
        else:
            u, D = np.empty((part.shape[0], len(y))), y.shape[1]
            on, total = np.empty(len(y)), np.empty(len(y))
            step = max(1, BLOCK_BYTES // (8 * D * D))
            for first in range(0, len(y), step):
                few = slice(first, first + step)
                stack = y[few, :, np.newaxis] * y[few, np.newaxis, :] * metric.weights
                u[:, few] = _adjoints(part, stack).T
                on[few], total[few] = np.trace(stack, axis1=1, axis2=2), stack.sum(axis=(1, 2))
        _remove_nuisance(u, part, on, total - on)
        if self.there.matched:
            S = self.there.target
            u -= np.outer(_pulled(part, S), np.square(y).sum(axis=1) / float(np.trace(S)))
        return u


@dataclasses.dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions: a weight of condition d counts in row and column d of the error."""

    there: Stationary

    @property
    def n(self) -> int:
        return len(self.there.target)

    def derivatives(self, part: Problem, some: slice) -> Array:
        """4D flops for each channel and condition."""
        there, X, Yc = self.there, part.X[:], part.centred()
        R, S, ones = there.point.weighed, there.target, np.diagonal(there.at_one)
        columns = np.ascontiguousarray(R[:, some])
        u = X[:, some] * blas.product(Yc, columns)
        u += Yc[:, some] * blas.product(X, columns)
        u *= -2.0
        own, total = np.diagonal(R)[some], columns.sum(axis=0)
        _remove_nuisance(u, part, -2.0 * own, -2.0 * (total - own))
        if there.matched:
            u += np.outer(_pulled(part, S), (ones - np.diagonal(S))[some] / float(ones.sum()))
        return u


def standard_errors(there: Stationary, inverse: Array, kind: Kind) -> tuple[Array, Array]:
    """Errors of the gains whose rows of H⁻¹ (k, N) are given, and the errors' degrees of freedom. 2kNn flops.

    With v = Σ (f − f̄)² the error is SE = √(v n/(n − 1)). v is uncertain itself: its variance is
    w = Σ (f − f̄)⁴ − v²/n. A multiple of χ² with 2v²/w degrees of freedom has the same mean and variance
    (Satterthwaite): n of them where influences are normal, few where few of them are most of the sum.
    """
    n, k = kind.n, len(inverse)
    sums = np.zeros((4, k))  # of the first four powers
    room = min(BLOCK_BYTES, inverse.nbytes)
    step = max(LEAST_TOGETHER, room // (8 * (k + there.around.block_rows)))
    for first in range(0, n, step):
        some = slice(first, min(first + step, n))
        f = np.zeros((k, some.stop - first))
        for rows, part in there.around.parts():
            u = kind.derivatives(part, some)
            u[there.held[rows]] = 0.0
            blas.product(np.ascontiguousarray(inverse[:, rows]), u, out=f, add=True)
        square = np.square(f)
        sums[0] += f.sum(axis=1)
        sums[1] += square.sum(axis=1)
        sums[2] += np.multiply(f, square, out=f).sum(axis=1)
        sums[3] += np.square(square, out=square).sum(axis=1)
    mean = sums[0] / n
    v = np.maximum(sums[1] - n * mean**2, 0.0)
    fourth = sums[3] - 4.0 * mean * sums[2] + 6.0 * mean**2 * sums[1] - 3.0 * n * mean**4
    spread = fourth - v * v / n
    freedom = np.divide(2.0 * v * v, spread, out=np.full(k, n - 1.0), where=spread > 0)
    return np.sqrt(v * (n / (n - 1.0))), np.clip(freedom, 1.0, n - 1.0)


def _remove_nuisance(u: Array, part: Problem, on: Array, off: Array) -> None:
    """Remove what nuisance terms take, w ∘ (p I + q (11ᵀ − I)), of matrices with these sums on and off."""
    metric: Metric | None = part.metric
    if metric is None or not metric.rank:
        return
    eye = np.eye(metric.size)
    weights = np.ones_like(eye) if metric.weights is None else metric.weights
    atoms = _adjoints(part, np.stack([weights * eye, weights * (1.0 - eye)]))
    taken = np.stack([on, off], axis=1) @ metric.means
    for k in range(2):
        u -= np.outer(atoms[k], taken[:, k])


def _pulled(part: Problem, S: Array) -> Array:
    """Gᵀ RᵀR S."""
    return _adjoints(part, (S if part.metric is None else part.metric.pull(S))[np.newaxis])[0]


def _adjoints(part: Problem, stack: Array) -> Array:
    """Gᵀ M for a stack of symmetric M (m, D, D), without the metric: (m, N)."""
    return weighted_adjoint(part.plain, stack)[0]
