"""Minima over matrices by trust-region Newton steps with conjugate gradients (Steihaug 1983).

For what `newton` cannot do: connectivities that must be symmetric or positive semi-definite, and responses
with so few channels, or so nearly alike ones, that C may not have the rank of K.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._compute import blas

Array = NDArray[np.float64]

# The most conjugate gradient steps in one Newton step, and the least relative residual that they seek.
MAX_INNER, TIGHT = 400, 1e-4
# Steps in a row that cannot lower the loss by more than this share of it, after which nothing is gained.
STALLED, ROUNDING = 4, 1e-14


class Point(Protocol):
    """A loss around one matrix."""

    @property
    def loss(self) -> float:
        """Its value."""

    @property
    def gradient(self) -> Array:
        """Its gradient."""

    def curvature(self, direction: Array) -> Array:
        """The Hessian times a direction."""

    def precondition(self, residual: Array) -> Array:
        """A symmetric positive definite approximation of the inverse Hessian, times a residual."""


P = TypeVar("P", bound=Point)


@dataclasses.dataclass(frozen=True, eq=False)
class Ended(Generic[P]):
    """Where the steps ended."""

    value: Array
    point: P
    status: str
    iterations: int
    products: int


def minimise(
    at: Callable[[Array], P],
    value: Array,
    size: Callable[[P], float],
    tol: float,
    max_iterations: int,
    watch: Callable[[float], object] | None = None,
) -> Ended[P]:
    """Go from `value` to a minimum, until the `size` of the gradient is at most `tol`."""
    point, radius, stalled, products, status = at(value), np.inf, 0, 0, "max-iterations"
    for iteration in range(max_iterations + 1):
        gradient = size(point)
        if watch is not None:
            watch(gradient)
        if gradient <= tol:
            status = "converged"
            break
        if stalled == STALLED:
            status = "stagnated"
            break
        if iteration == max_iterations:
            break
        step, length, fall, inner = _step(point, radius, min(0.1, max(gradient, TIGHT)))
        products += inner
        new = at(value + step)
        gain, floor = point.loss - new.loss, ROUNDING * abs(point.loss)
        # Where the quadratic falls by rounding alone, the gradient tells whether a step gains anything.
        little = fall <= floor
        stalled = stalled + 1 if little and not size(new) < 0.5 * gradient else 0
        ratio = 1.0 if little else gain / fall
        if ratio < 0.25:
            radius = 0.25 * length
        elif ratio > 0.75 and length >= 0.99 * radius:
            radius *= 2.0
        if gain > 0 or (little and size(new) < gradient):
            value, point = value + step, new
    return Ended(value, point, status, iteration, products)


def _step(point: Point, radius: float, tol: float) -> tuple[Array, float, float, int]:
    """A step, its length in the norm of the preconditioner, by what the quadratic falls, and products."""
    r = -point.gradient
    u = np.zeros_like(r)
    z = point.precondition(r)
    p, rz = z, _inner(r, z)
    first, uu, up, pp = rz, 0.0, 0.0, rz  # squared lengths and inner products of u and p
    fall = 0.0
    for k in range(1, MAX_INNER + 1):
        Hp = point.curvature(p)
        curvature = _inner(p, Hp)
        alpha = rz / curvature if curvature > 0 else np.inf
        length = uu + 2 * alpha * up + alpha * alpha * pp if np.isfinite(alpha) else np.inf
        if length >= radius * radius or not np.isfinite(alpha):
            # To the edge of the region; without one, as far as the gradient says.
            edge = radius if np.isfinite(radius) else (uu + pp) ** 0.5
            tau = (-up + (up * up + pp * (edge * edge - uu)) ** 0.5) / pp
            fall += tau * rz - 0.5 * tau * tau * curvature
            return u + tau * p, edge, fall, k
        u = u + alpha * p
        fall += 0.5 * alpha * rz
        r = r - alpha * Hp
        uu = length
        z = point.precondition(r)
        rz, before = _inner(r, z), rz
        if rz <= tol * tol * first:
            break
        beta = rz / before
        up = beta * (up + alpha * pp)
        pp = rz + beta * beta * pp
        p = z + beta * p
    return u, uu**0.5, fall, k


def _inner(A: Array, B: Array) -> float:
    return blas.dot(A.reshape(-1), B.reshape(-1))
