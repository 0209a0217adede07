"""What the gains minimise: the exact loss, or its linearisation, with gradient and products of curvature.

With ỹ_i the weighted, centred responses at gains z and E the error of the covariance there:

    L = ½‖E‖² + (λ/2)‖z − 1‖²,    ∇L = Gᵀ E + λ(z − 1),    G at z,
    H v = Gᵀ(G v) + λ v + 2 rowsum(X ∘ (Ṽ E)),             Ṽ = J diag(v) X

Along a line z + t v the error is E + t G v + t² ṼᵀṼ, so that the loss is a quartic in t. The linearised
loss has E = G δ − e₀ and G at gains of one throughout, and no terms of second order. Scaled units of a
Problem; gains are plain numbers.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

from ._jit import blas_for
from ._problem import SAFE_EXPONENT, Problem
from ._products import apply_atoms, squared_norms, weighted_adjoint, weighted_atoms
from ._steps import evaluate

Array = NDArray[np.float64]

EPSILON = float(np.finfo(np.float64).eps)
# Up to so many multiplications a product, all of a step is one compiled call: some 0.2 s at most.
COMPILED = 20_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """The objective at gains z."""

    gains: Array
    problem: Problem  # around z; around ones for the linearised loss
    coarse: Problem  # the same in the precision of products of curvature
    error: Array  # E (D, D)
    value: float
    gradient: Array  # (N,)
    bends: Array | None  # 2 x_iᵀ E x_i: curvature along each gain that is not of GᵀG; None: not any
    norms: Array  # ‖g_i‖²
    rounding: float  # norm of a gradient that rounding of E and z explains

    def diagonal(self, ridge: float) -> Array:
        """Of the Hessian, less what makes it negative there: GᵀG + λI with the positive bends."""
        out = self.norms + ridge
        if self.bends is not None:
            out += np.maximum(self.bends, 0.0)
        out[out <= 0.0] = 1.0  # a dead channel, without a ridge
        return out


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """The loss of one target, exact or linearised."""

    problem: Problem  # at gains of one, with products in float64
    target: Array  # (D, D)
    ridge: float
    at_one: Array  # the covariance at gains of one
    norms: Array  # ‖g_i‖² at gains of one
    single: Problem | None = None  # the same with products in float32, for those of curvature
    linear: bool = False

    @property
    def short(self) -> bool:
        """Whether a pass over X is one compiled call."""
        N, D = self.problem.shape
        return not self.linear and N * D * D < COMPILED and self.problem.ready(self.problem.X)

    def at(self, gains: Array) -> Point:
        """Value, gradient and what the curvature needs. 3ND² flops."""
        (N, D), delta = self.problem.shape, gains - 1.0
        if self.linear:
            problem, norms, bends = self.problem, self.norms, None
            change = apply_atoms(problem, delta[np.newaxis])[0]
            error = change - (self.target - self.at_one)
            gradient = weighted_adjoint(problem, error[np.newaxis])[0][0]
        elif self.short:
            mean, error, rows = np.empty(D), np.empty((D, D)), np.empty((3, N))
            with blas_for(0):
                evaluate(
                    self.problem.X, gains, self.problem.center, self.target, mean, error, rows,
                    size=N * D * D,
                )  # fmt: skip
            problem = dataclasses.replace(self.problem, gains=gains, mean=mean)
            gradient, bends, norms = rows
        else:
            problem = self.problem.at(gains)
            error, norms = problem.covariance() - self.target, squared_norms(problem)
            gradients, squares = weighted_adjoint(problem, error[np.newaxis], squares=True)
            gradient, bends = gradients[0], squares[0]
        blas.daxpy(delta, gradient, a=self.ridge)
        value = 0.5 * _inner(error, error) + 0.5 * self.ridge * blas.ddot(delta, delta)
        size = 2.0 * _norm(self.target) + _norm(error)  # at least that of what E is the difference of
        rounding = EPSILON * (size * math.sqrt(norms.sum()) + self.ridge * _norm(gains))
        coarse = problem
        if self.single is not None and np.abs(gains).max() < 2.0**SAFE_EXPONENT:
            coarse = dataclasses.replace(self.single, gains=problem.gains, mean=problem.mean)
        return Point(gains, problem, coarse, error, value, gradient, bends, norms, rounding)

    def product(self, point: Point, v: Array) -> tuple[Array, Array]:
        """H v (N,), and G v (D, D), the slope of the covariance along v. 4ND² flops."""
        problem = point.coarse
        if point.bends is None:
            slope = apply_atoms(problem, v[np.newaxis])
            out = weighted_adjoint(problem, slope)[0][0]
        else:
            slope, sums = weighted_atoms(problem, v[np.newaxis])
            offsets = None
            if problem.center:  # what the mean of diag(v) X takes away
                offsets = blas.dgemv(1.0 / len(v), point.error.T, sums[0])[np.newaxis]
            out = weighted_adjoint(problem, slope, offsets)[0][0]
            out += point.bends * v
        blas.daxpy(v, out, a=self.ridge)
        return out, slope[0]

    def along(self, point: Point, v: Array, slope: Array) -> tuple[float, ...]:
        """Coefficients of the loss at z + t v, from t⁰ to t⁴. ND² flops."""
        # Of the precision of the slope, which comes from the same products.
        bend = np.zeros_like(slope) if self.linear else point.coarse.at(v).covariance()
        E = point.error
        return (
            point.value,
            float(blas.ddot(point.gradient, v)),  # near a minimum a slope in float32 has not the digits
            0.5 * _inner(slope, slope) + _inner(E, bend) + 0.5 * self.ridge * blas.ddot(v, v),
            _inner(slope, bend),
            0.5 * _inner(bend, bend),
        )

    def value(self, gains: Array) -> float:
        """The value alone, of the exact loss. ND² flops."""
        if self.linear:
            return self.at(gains).value
        error, delta = self.problem.at(gains).covariance() - self.target, gains - 1.0
        return 0.5 * _inner(error, error) + 0.5 * self.ridge * float(blas.ddot(delta, delta))


def _inner(A: Array, B: Array) -> float:
    return float(blas.ddot(A.ravel(), B.ravel()))


def _norm(A: Array) -> float:
    return float(blas.dnrm2(A.ravel()))


def best_step(coefficients: tuple[float, ...], longest: float = math.inf) -> float:
    """t in (0, longest] at which a quartic that falls at 0 is least, from its coefficients of t⁰ to t⁴."""
    _, c1, c2, c3, c4 = coefficients

    def gain(t: float) -> float:
        return (((c4 * t + c3) * t + c2) * t + c1) * t

    candidates = [longest] if longest < math.inf else []
    for t in _stationary(4.0 * c4, 3.0 * c3, 2.0 * c2, c1):
        for _ in range(3):  # closed forms lose digits where the coefficients are far apart
            slope = ((4.0 * c4 * t + 3.0 * c3) * t + 2.0 * c2) * t + c1
            bend = (12.0 * c4 * t + 6.0 * c3) * t + 2.0 * c2
            if not bend > 0:
                break
            t -= slope / bend
        if 0 < t <= longest:
            candidates.append(t)
    return min(candidates, key=gain, default=0.0)


def _stationary(a: float, b: float, c: float, d: float) -> list[float]:
    """Real roots of a t³ + b t² + c t + d, in closed form, and -d / c where c > 0."""
    roots = [-d / c] if c > 0 else []
    if not a > 0:  # then b is zero too: both are products with the same matrix
        return roots
    # In units of a bound on the roots all coefficients are at most one.
    size = max(abs(b / a), math.sqrt(abs(c / a)), abs(d / a) ** (1 / 3))
    if not 0 < size < math.inf:
        return roots
    b, c, d = b / a / size, c / a / size / size, d / a / size / size / size
    p, q = c - b * b / 3.0, (2.0 * b * b - 9.0 * c) * b / 27.0 + d
    inside = q * q / 4.0 + p * p * p / 27.0
    if inside > 0:
        root = math.sqrt(inside)
        found = [math.cbrt(-q / 2.0 + root) + math.cbrt(-q / 2.0 - root)]
    else:
        radius = 2.0 * math.sqrt(max(-p / 3.0, 0.0))
        angle = math.acos(max(-1.0, min(1.0, -4.0 * q / radius**3))) if radius > 0 else 0.0
        found = [radius * math.cos((angle - 2.0 * math.pi * k) / 3.0) for k in range(3)]
    return roots + [size * (u - b / 3.0) for u in found]
