"""The influence of each cell and each condition on fitted gains, to first order: the infinitesimal jackknife.

If the weight of m grows by dw, the gradient of the loss at the fitted gains changes by −u_m dw, and the gains
by f_m dw with f_m = H⁻¹ u_m. With G the atoms where H has them, and R of the metric (without one, R M = M),

    a cell y:         u = Gᵀ RᵀR [yyᵀ − S ‖y‖² / tr S]
    a group of cells: u of its cells, added up
    a target S_t:     u = Gᵀ RᵀR [S_t − S] / T, where gains are fitted to the mean S of T targets
    a condition d:    u = −Gᵀ [e_d r_dᵀ + r_d e_dᵀ] + Gᵀ RᵀR S · (C(1)_dd − S_dd) / tr C(1)

Cells are centred and scaled so that S = Σ yyᵀ. r_d is a column of the residual RᵀR (C − S), and nuisance
terms take their part of the matrix in brackets. The terms in S are there only where the scale of the target
is matched to X, because other cells or conditions then change the scale, too. Where S is the mean of T
targets, the first line is of each of them, over T, and the last term of the last line is their mean.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._model.metric import Metric
from .._model.problem import Problem
from .._model.products import weighted_adjoint
from .curvature import Stationary
from .populations import Population

Array = NDArray[np.float64]

# Influences of at least so many are computed together, and of more while their blocks take fewer bytes.
LEAST_TOGETHER, BLOCK_BYTES = 256, 1 << 26


class Kind(Protocol):
    """What might have been otherwise: cells, groups of them, conditions or targets, `n` of them."""

    @property
    def n(self) -> int: ...

    def derivatives(self, part: Problem, some: slice) -> Array:
        """u of some of the n, for some of the channels (channels, n)."""
        ...


def of_cells(part: Problem, y: Array) -> Array:
    """Gᵀ RᵀR yyᵀ for some channels and for each row of y (m, D), as columns (channels, m).

    Gᵀ yyᵀ = 2 (X y) ∘ (Ỹ y): 4D flops for each channel and cell; 2D² where pairs have weights.
    """
    metric = part.metric
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
    return u


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """The cells, or groups of cells, of the target with this number."""

    there: Stationary
    cells: Population
    number: int = 0

    @property
    def n(self) -> int:
        return self.cells.n

    def derivatives(self, part: Problem, some: slice) -> Array:
        ends, Y = self.cells.ends[some.start : some.stop + 1], self.cells.Y
        if not self.cells.grouped:
            return self._of(part, Y[some])
        u = np.zeros((part.shape[0], len(ends) - 1))
        for column, (first, end) in enumerate(itertools.pairwise(ends)):
            for start in range(first, end, LEAST_TOGETHER):
                u[:, column] += self._of(part, Y[start : min(start + LEAST_TOGETHER, end)]).sum(axis=1)
        return u

    def _of(self, part: Problem, y: Array) -> Array:
        """u of some cells."""
        u, there = of_cells(part, y), self.there
        if there.matched[self.number]:
            S = there.targets[self.number]
            u -= np.outer(_pulled(part, S[np.newaxis])[0], np.square(y).sum(axis=1) / float(np.trace(S)))
        if len(there.targets) > 1:
            u /= len(there.targets)
        return u


@dataclasses.dataclass(frozen=True, eq=False)
class Targets:
    """Targets that share one vector of gains, such as those of animals."""

    there: Stationary

    @property
    def n(self) -> int:
        return len(self.there.targets)

    def derivatives(self, part: Problem, some: slice) -> Array:
        """2D² flops for each channel and target."""
        there = self.there
        return np.ascontiguousarray(_pulled(part, there.targets[some] - there.target).T / self.n)


@dataclasses.dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions: a weight of condition d counts in row and column d of the error."""

    there: Stationary

    @property
    def n(self) -> int:
        return len(self.there.at_one)

    def derivatives(self, part: Problem, some: slice) -> Array:
        """4D flops for each channel and condition."""
        there, X, Yc = self.there, part.X[:], part.centred()
        R, ones = there.point.weighed, np.diagonal(there.at_one)
        columns = np.ascontiguousarray(R[:, some])
        u = X[:, some] * blas.product(Yc, columns)
        u += Yc[:, some] * blas.product(X, columns)
        u *= -2.0
        own, total = np.diagonal(R)[some], columns.sum(axis=0)
        _remove_nuisance(u, part, -2.0 * own, -2.0 * (total - own))
        if there.matched.any():
            S = there.targets[there.matched]
            lacking = (ones - np.diagonal(S, axis1=1, axis2=2))[:, some] / float(ones.sum())
            u += blas.product(_pulled(part, S), lacking / len(there.targets), ta=True)
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
    """Gᵀ RᵀR S for a stack of S (m, D, D): (m, N)."""
    return _adjoints(part, S if part.metric is None else part.metric.pull(S))


def _adjoints(part: Problem, stack: Array) -> Array:
    """Gᵀ M for a stack of symmetric M (m, D, D), without the metric: (m, N)."""
    return weighted_adjoint(part.plain, stack)[0]
