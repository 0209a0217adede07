"""The Hessian of the loss at fitted gains, and columns of its inverse."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from .._compute import blas, kernels
from .._compute.jit import blas_for
from .._exact_loss.grouped import GroupObjective
from .._exact_loss.objective import Objective, Point
from .._model.group_forms import GroupForms
from .._model.groups import Groups
from .._model.problem import Problem
from .._model.products import gram_triangle, squared_norms
from .._model.ridge_penalty import Penalty

Array = NDArray[np.float64]

# Columns of H that are made, or penalised, together.
PANEL = 256
# Traces of target and input that differ by a smaller share are the same.
ALIKE = 1e-6
# Conjugate gradients end at this relative residual, far below what a standard error needs, or here.
TOL, MOST = 1e-8, 2000


@dataclasses.dataclass(frozen=True, eq=False)
class Stationary:
    """A fit at its gains z, in the units of the problem. Gains at a bound are held.

    The target S that was fitted is the mean of T targets that share the gains; T is one for most fits.
    """

    given: Problem  # at gains of one, products in float64
    targets: Array  # (T, D, D)
    penalty: Penalty  # of channels, or of groups
    gains: Array  # z (N,)
    held: NDArray[np.bool_]
    linear: bool
    at_one: Array  # C(1)
    groups: Groups | None = None  # of channels that share a gain

    @functools.cached_property
    def target(self) -> Array:
        """S (D, D)."""
        return self.targets[0] if len(self.targets) == 1 else self.targets.mean(axis=0)

    @functools.cached_property
    def matched(self) -> NDArray[np.bool_]:
        """Whether the trace of each target is that of X's covariance, as `target_covariance` makes it (T,).

        The scale of the target then varies with the cells and conditions that are drawn.
        """
        trace, traces = float(np.trace(self.at_one)), np.trace(self.targets, axis1=1, axis2=2)
        return np.asarray(np.abs(traces - trace) <= ALIKE * trace)

    @functools.cached_property
    def objective(self) -> Objective:
        norms, penalty = squared_norms(self.given), self.penalty if self.groups is None else Penalty(0.0)
        return Objective(self.given, self.target, penalty, self.at_one, norms, linear=self.linear)

    @functools.cached_property
    def point(self) -> Point:
        """The loss at z, with its gradient."""
        return self.objective.at(self.gains)

    @property
    def around(self) -> Problem:
        """The responses around the gains at which atoms are taken: ones for the linearised loss, else z."""
        return self.point.problem

    def hessian(self) -> Array:
        """The lower triangle of H (N, N); rows and columns of held gains are those of the identity.

        4N²D flops. 8N² bytes, and as much for PANEL columns.
        """
        point, N = self.point, len(self.gains)
        H = gram_triangle(self.around)
        self.penalty.add_to(H)
        if point.second_diagonal is not None:
            H.flat[:: N + 1] += point.second_diagonal
            if self.around.center:
                self._subtract_mean_products(H)
        H[self.held] = 0.0
        H[:, self.held] = 0.0
        H[self.held, self.held] = 1.0
        return H

    def _subtract_mean_products(self, H: Array) -> None:
        """Subtract (2/N) X W Xᵀ from the lower triangle, with W = RᵀR E."""
        N = len(self.gains)
        X = self.given.responses()
        XW = blas.product(X, self.point.weighed)
        XW *= -2.0 / N
        for first in range(0, N, PANEL):
            columns = slice(first, min(first + PANEL, N))
            H[first:, columns] += blas.product(XW[first:], X[columns], tb=True)

    def inverse(self, watch: Callable[[float], object]) -> Array | None:
        """H⁻¹ (N, N), or None unless H is positive definite. N³ flops after `hessian`, in its memory.

        With groups it is that of their gains (A, A).
        """
        H = self.hessian() if self.groups is None else self._hessian_of_groups(self.groups)
        N = len(H)
        with blas_for(float(N) ** 3):
            if blas.cholesky(H, watch):
                return None
            # To Fortran, the lower triangle of H is the upper one of its transpose.
            _, info = lapack.dpotri(H.T, lower=0, overwrite_c=1)
        if info:
            return None
        kernels.mirror_lower(H, size=H.size)
        return H

    def _hessian_of_groups(self, groups: Groups) -> Array:
        """H (A, A) in the gains of groups. 4A²D² flops."""
        forms, A = GroupForms.of(self.given, groups), len(groups)
        objective = GroupObjective(
            self.given, self.target, self.penalty, self.at_one, np.zeros(A), linear=self.linear, forms=forms
        )
        point, held = objective.at(self.gains[groups.first]), self.held[groups.first]
        H = np.stack([objective.product(point, unit)[0] for unit in np.eye(A)])
        H[held] = 0.0
        H[:, held] = 0.0
        H[held, held] = 1.0
        return H

    def rows(self, inverse: Array, places: NDArray[np.intp]) -> Array:
        """H⁻¹ e_i for some gains i, as rows (k, N), from what `inverse` returns; with groups P H⁻¹ Pᵀ e_i."""
        if self.groups is not None:
            return self.groups.expand(inverse[self.groups.places[places]])
        return inverse if len(places) == len(inverse) else inverse[places]

    def columns(self, places: NDArray[np.intp], watch: Callable[[float], object]) -> Array | None:
        """H⁻¹ e_i for some gains i, as rows (k, N), or None unless H is positive definite there.

        Preconditioned conjugate gradients, one gain after another. 4ND² flops for each iteration.
        """
        out = np.empty((len(places), len(self.gains)))
        scales = 1.0 / self.point.diagonal(self.penalty.weights)
        for done, (row, i) in enumerate(zip(out, places, strict=True), 1):
            right = np.zeros(len(scales))
            right[i] = 1.0
            found = None if self.held[i] else self._solved(right, scales)
            if self.held[i]:
                row[:] = right
            elif found is None:
                return None
            else:
                row[:] = found
            watch(done / len(places))
        return out

    def _solved(self, right: Array, scales: Array) -> Array | None:
        """H⁻¹ `right`; None where H is not positive definite, or the iterations do not end."""
        free = ~self.held
        x, r = np.zeros_like(right), right.copy()
        z = scales * r
        p, inner, goal = z.copy(), blas.dot(r, z), TOL * float(blas.norm(right))
        for _ in range(MOST):
            if float(blas.norm(r)) <= goal:
                return x
            image, _ = self.objective.product(self.point, p)
            image = np.where(free, image, 0.0)
            curvature = blas.dot(p, image)
            if not curvature > 0.0:
                return None
            step = inner / curvature
            x += step * p
            r -= step * image
            z = scales * r
            inner, before = blas.dot(r, z), inner
            p = z + (inner / before) * p
        return None

    def resolution(self, inverse: Array, places: NDArray[np.intp]) -> Array:
        """1 − (P H⁻¹)_ii of these gains, for rows of H⁻¹ (k, N)."""
        share, each = np.empty(len(places)), places
        if self.groups is not None:
            inverse, each = inverse[:, self.groups.first], self.groups.places[places]
        for first in range(0, len(places), PANEL):
            some = slice(first, first + PANEL)
            rows, index = inverse[some], each[some]
            if self.penalty.root is None:
                weights = np.broadcast_to(np.asarray(self.penalty.weights), rows.shape[1])
                share[some] = weights[index] * rows[np.arange(len(index)), index]
            else:
                pulled = self.penalty.products(np.ascontiguousarray(rows))
                share[some] = pulled[np.arange(len(index)), index]
        out = 1.0 - share
        dead = self.given.sizes == 0
        if self.groups is not None:
            dead = self.groups.expand(self.groups.all_of(dead))
        out[self.held[places] | dead[places]] = 0.0
        return out
