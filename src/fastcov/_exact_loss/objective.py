"""The objective: the exact loss or its linearisation, with its gradient and its products with the Hessian.

With ỹ_i the weighted, centred responses at gains z, and E = C(z) − S the error of the covariance there:

    L = ½‖E‖² + ½ δᵀPδ,    ∇L = Gᵀ E + P δ,    δ = z − 1,    G at z,
    H v = Gᵀ(G v) + P v + 2 rowsum(X ∘ (Ṽ E)),             Ṽ = J diag(v) X

The first two terms of H are the Gauss-Newton Hessian. The last term has the second-order diagonal
2 x_iᵀ E x_i. With a metric, E, G v and ṼᵀṼ stand for their images under R, and Gᵀ and the second-order
diagonal take Rᵀ of these images.

Along a line z + t v the error is E + t G v + t² ṼᵀṼ, so that the loss is a quartic in t. The linearised
loss has E = G δ − e₀ and G at gains of one throughout, and no terms of second order. All values are in the
scaled units of a Problem; gains are plain numbers.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

from .._compute.jit import ELEMENT_PRODUCTS, blas_for
from .._compute.trust_region_kernels import EPSILON, FLOAT32_GAINS, ROWS, evaluate, least_of_quartic, spread
from .._model.problem import NARROW, Problem
from .._model.products import apply_adjoint, apply_atoms, squared_norms, weighted_adjoint, weighted_atoms
from .._model.ridge_penalty import Penalty
from .single_gains import quartics

Array = NDArray[np.float64]

# If a product takes fewer multiplications than this, a whole step is one compiled call: some 0.2 s at most.
COMPILED = 20_000_000
_NONE = (np.empty((0, 0)), np.empty((0, 0)))


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """The objective at gains z."""

    gains: Array
    problem: Problem  # around z; around ones for the linearised loss
    coarse: Problem  # the same in the precision of products with the Hessian
    error: Array  # E (D, D)
    image: Array  # R E, whose norm gives the loss; without a metric it is E, and so is the next
    weighed: Array  # RᵀR E
    value: float
    gradient: Array  # (N,)
    second_diagonal: Array | None  # 2 x_iᵀ E x_i: curvature along each gain beyond GᵀG; None: there is none
    norms: Array  # ‖g_i‖²
    rounding: float  # the norm of a gradient that rounding of E and z explains

    def diagonal(self, weights: Any) -> Array:
        """The diagonal of GᵀG + P, plus the positive entries of the second-order diagonal."""
        out = self.norms + weights
        if self.second_diagonal is not None:
            out += np.maximum(self.second_diagonal, 0.0)
        out[out <= 0.0] = 1.0  # a dead channel, without a ridge
        return out


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """The loss of one target, exact or linearised."""

    problem: Problem  # at gains of one, with products in float64
    target: Array  # (D, D)
    penalty: Penalty
    at_one: Array  # the covariance at gains of one
    norms: Array  # ‖g_i‖² at gains of one
    single: Problem | None = None  # the same problem with products in float32, for products with the Hessian
    linear: bool = False
    compiled: bool = True  # whether a short pass may be one compiled call

    @property
    def by_channel(self) -> bool:
        """Whether each gain is that of one channel."""
        return True

    @property
    def pass_in_one_call(self) -> bool:
        """Whether a pass over X is one compiled call."""
        N, D = self.problem.shape
        plain = self.compiled and self.penalty.root is None
        return plain and N * D * D < COMPILED and self.problem.ready(self.problem.X)

    @property
    def in_one_call(self) -> bool:
        """Whether a whole minimisation is one compiled call, too."""
        metric = self.problem.metric
        fine = self.single is None or self.single.ready(self.single.X)
        return (
            self.pass_in_one_call and fine and not self.linear and (metric is None or metric.weights is None)
        )

    def at(self, gains: Array) -> Point:
        """The value, the gradient and what products with the Hessian need, at these gains. 3ND² flops."""
        (N, D), delta = self.problem.shape, gains - 1.0
        if self.linear:
            problem, norms, second_diagonal = self.problem, self.norms, None
            change = weighted_atoms(problem, delta[np.newaxis])[0][0]
            error = change - (self.target - self.at_one)
            image, weighed = self._counted(error)
            gradient = weighted_adjoint(problem, weighed[np.newaxis])[0][0]
        elif self.pass_in_one_call:
            mean, errors, rows = np.empty(D), np.empty((3, D, D)), np.empty((ROWS, N))
            with blas_for(0):
                evaluate(
                    self.problem.X, gains, self.problem.center, self.target, *kernel_form(self.problem),
                    mean, errors, rows, size=N * D * D // ELEMENT_PRODUCTS,
                )  # fmt: skip
            problem = dataclasses.replace(self.problem, gains=gains, mean=mean)
            gradient, second_diagonal, norms = rows[:3]
            error, image, weighed = errors
            if problem.metric is None:
                image = weighed = error
            elif problem.metric.weights is not None:
                norms = squared_norms(problem)
        else:
            problem = self.problem.at(gains)
            error, norms = problem.covariance() - self.target, squared_norms(problem)
            image, weighed = self._counted(error)
            gradients, squares = weighted_adjoint(problem, weighed[np.newaxis], squares=True)
            gradient, second_diagonal = gradients[0], squares[0]
        pull = self.penalty.products(delta)
        gradient += pull
        value = 0.5 * _inner(image, image) + 0.5 * float(blas.ddot(pull, delta))
        size = 2.0 * norm(self.target) + norm(error)  # at least ‖C‖ + ‖S‖, of which E is the difference
        rounding = EPSILON * (size * math.sqrt(norms.sum()) + self.penalty.largest * norm(gains))
        coarse = problem
        if self.single is not None and np.abs(gains).max() < FLOAT32_GAINS:
            coarse = dataclasses.replace(self.single, gains=problem.gains, mean=problem.mean)
        return Point(
            gains, problem, coarse, error, image, weighed, value, gradient, second_diagonal, norms, rounding
        )

    def _counted(self, error: Array) -> tuple[Array, Array]:
        """R E and RᵀR E."""
        metric = self.problem.metric
        if metric is None:
            return error, error
        image = metric.image(error)
        return image, metric.weighed(image)

    def at_one_from(self, overlaps: Array) -> Point:
        """The exact loss at gains of one from Gᵀe₀ (N,), which is known there: enough for a line search."""
        error, ones = self.at_one - self.target, np.ones(len(overlaps))
        image, weighed = self._counted(error)
        value = 0.5 * _inner(image, image)
        shared = (error, image, weighed, value)
        return Point(ones, self.problem, self.problem, *shared, -overlaps, None, self.norms, 0.0)

    def product(self, point: Point, v: Array) -> tuple[Array, Array]:
        """H v (N,), and G v (D, D), the slope of the covariance along v, or the image of G v. 4ND² flops."""
        problem, metric = point.coarse, self.problem.metric
        if point.second_diagonal is None:
            slope = apply_atoms(problem, v[np.newaxis])
            out = apply_adjoint(problem, slope)[0]
        else:
            slope, sums = weighted_atoms(problem, v[np.newaxis])
            offsets = None
            if problem.center:  # the mean of diag(v) X is subtracted
                offsets = blas.dgemv(1.0 / len(v), point.weighed.T, sums[0])[np.newaxis]
            weighed = slope
            if metric is not None:
                slope = metric.image(slope)
                weighed = metric.weighed(slope)
            out = weighted_adjoint(problem, weighed, offsets)[0][0]
            out += point.second_diagonal * v
        out += self.penalty.products(v)
        return out, slope[0]

    def along(self, point: Point, v: Array, slope: Array) -> tuple[float, ...]:
        """The coefficients of the loss at z + t v, from t⁰ to t⁴. ND² flops."""
        quadratic = np.zeros_like(slope) if self.linear else self._curve(point, v)
        quadratic, E = self._counted(quadratic)[0], point.image
        return (
            point.value,
            float(blas.ddot(point.gradient, v)),  # near a minimum a slope in float32 lacks the digits
            0.5 * _inner(slope, slope) + _inner(E, quadratic) + 0.5 * float(self.penalty.quadratic(v)),
            _inner(slope, quadratic),
            0.5 * _inner(quadratic, quadratic),
        )

    def _curve(self, point: Point, v: Array) -> Array:
        """ṼᵀṼ, in the precision of a product."""
        coarse, D = point.coarse, len(self.target)
        if not (self.pass_in_one_call and D <= NARROW and coarse.ready(coarse.X)):
            return coarse.at(v).covariance()
        out = np.zeros((D, D))
        spread(coarse.X, v, coarse.center, np.empty(D), out, size=coarse.X.size * D // ELEMENT_PRODUCTS)
        return out

    def slope(self, point: Point, v: Array) -> Array:
        """G v (D, D), or its image."""
        return np.asarray(apply_atoms(point.problem, v[np.newaxis])[0])

    def quartics(self, point: Point) -> Array:
        """c₁ to c₄ of the loss along each gain alone (4, N). 8ND flops."""
        assert point.second_diagonal is not None
        return quartics(
            point.problem, point.gradient, point.norms, point.second_diagonal, self.penalty.weights
        )

    def value(self, gains: Array) -> float:
        """The value of the loss alone. ND² flops."""
        if self.linear:
            return self.at(gains).value
        error, delta = self.problem.at(gains).covariance() - self.target, gains - 1.0
        error, _ = self._counted(error)
        return 0.5 * _inner(error, error) + 0.5 * float(self.penalty.quadratic(delta))


def kernel_form(problem: Problem) -> tuple[Array, Array]:
    """The metric as compiled code takes it; empty arrays if there is none."""
    return _NONE if problem.metric is None else problem.metric.kernel_form


def _inner(A: Array, B: Array) -> float:
    return float(blas.ddot(A.ravel(), B.ravel()))


def norm(A: Array) -> float:
    return float(blas.dnrm2(A.ravel()))


def best_step(coefficients: tuple[float, ...], longest: float = math.inf) -> float:
    """The t in (0, longest] at which a quartic that falls at 0 is least, given its coefficients t⁰ to t⁴."""
    return float(least_of_quartic(*map(float, coefficients[1:]), float(longest)))
