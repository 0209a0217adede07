"""A minimiser for gains: trust-region Newton steps, scaled by the exact quartic, within bounds.

A step minimises the quadratic model by conjugate gradients that stop at the trust region, at negative
curvature, or when they are as good as the model is (Steihaug 1983, Toint 1981), preconditioned by the
diagonal. Its length is then the minimum of the quartic along it, which has closed coefficients: so no
step is ever refused, and the radius follows the lengths. With bounds, channels that are at a bound and
pushed against it are held, those almost there are sent to it (Bertsekas 1982), and a step is projected
and, where that raises the loss, halved. Where the gradient vanishes but the loss is concave in some gain,
it goes on along that one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

from ._bounds import Bounds
from ._objective import EPSILON, Objective, Point, best_step, kernel_form
from ._products import apply_atoms
from ._solvers import Progress
from ._steps import COUNT, ENOUGH, LEFT, MOST, NUMBERS, RADIUS, VV, advance, begin, model_step

Array = NDArray[np.float64]

# Conjugate gradients end at this share of the gradient, or its root: a model that is far from the minimum
# is not worth more, and the last steps converge faster than linearly.
ACCURACY = 0.1
# Products for one step at most.
MOST_PRODUCTS = 500
# Less curvature along one gain than this share of the largest is a saddle's, not rounding's.
SADDLE = 1e-6
# Steps that end this far below their length were too long for the model.
TOO_LONG = 0.7
# The loss no longer falls, nor the gradient by half, in so many steps: rounding.
STALE = 3
# A projected step is taken if the loss falls by this share of what the gradient promises.
SUFFICIENT = 1e-4
HALVINGS = 20
# Gains this near to a bound are sent there, at most.
NEAR = 1e-3


@dataclasses.dataclass(frozen=True)
class Minimum:
    """Where it ended, and how."""

    point: Point
    residual: float  # norm of the gradient, less what bounds hold
    status: str  # "converged", "stagnated", "max-iterations" or "breakdown"
    iterations: int
    products: int


def minimise(
    objective: Objective,
    point: Point,
    bounds: Bounds | None,
    *,
    goal: float,
    max_iterations: int,
    watch: Callable[[Progress], object],
) -> Minimum:
    """From a point within the bounds to a gradient of norm `goal`, or of rounding."""
    radius, products, iteration, stale, still = math.inf, 0, 0, 0, False
    least, most = math.inf, 0.0  # of the residuals so far
    while True:
        gradient = point.gradient if bounds is None else point.gradient * _free(bounds, point)
        residual = float(blas.dnrm2(gradient))
        enough = max(goal, point.rounding)
        stale = stale + still if residual > 0.5 * least else 0
        least, most = min(least, residual), max(most, residual)
        step = _escape(objective, point, bounds) if residual <= enough else None
        if residual <= enough and step is None:
            status = "converged"
            break
        if not math.isfinite(point.value + residual):
            status = "breakdown"
            break
        known = 0.0 < enough < most and residual > 0.0
        done = math.log(residual / most) / math.log(enough / most) if known else 0.0
        watch(Progress("iteration", done, iteration, residual / most if most > 0.0 else 0.0))
        if iteration == max_iterations:
            status = "max-iterations"
            break
        if stale == STALE:
            if objective.single is None:
                status = "stagnated"
                break
            objective, stale = dataclasses.replace(objective, single=None), 0
            point = dataclasses.replace(point, coarse=point.problem)

        if step is None:
            accuracy = max(min(ACCURACY, math.sqrt(residual / most)), 0.5 * enough / residual)
            step = _step(objective, point, bounds, radius, accuracy)
        coefficients = objective.along(point, step.v, step.slope)
        t = best_step(coefficients)
        if bounds is None:
            gains = point.gains + t * step.v
        else:
            gains, t = _within(objective, point, bounds, step.v, t, coefficients)
        if t < TOO_LONG:
            radius = max(t, 0.25) * step.length
        else:
            radius = max(2.0 * t * step.length, 0.0 if radius == math.inf else radius)
        last, point = point, objective.at(gains)
        products, iteration = products + step.products, iteration + 1
        still = last.value - point.value <= 10.0 * EPSILON * last.value  # all but rounding
    return Minimum(point, residual, status, iteration, products)


def _escape(objective: Objective, point: Point, bounds: Bounds | None) -> _Step | None:
    """From where the gradient vanishes, a step along the gain that the loss is most concave in, if any."""
    if point.bends is None:
        return None
    share = 1.0 - 1.0 / len(point.gains) if point.problem.center else 1.0
    curvature = point.norms + objective.penalty.weights + share * point.bends
    if bounds is not None:
        curvature[bounds.at(point.gains)] = 0.0
    i = int(np.argmin(curvature))
    if curvature[i] >= -SADDLE * float(np.abs(point.bends).max()):
        return None
    v = np.zeros_like(curvature)
    v[i] = -1.0 if point.gradient[i] > 0 else 1.0
    return _Step(v, apply_atoms(point.problem, v[np.newaxis])[0], math.inf, 0)


def _free(bounds: Bounds, point: Point, room: float = 0.0) -> NDArray[np.bool_]:
    """Channels that no bound holds, be it `room` away."""
    return ~bounds.held(point.gains, point.gradient, room)


@dataclasses.dataclass(frozen=True)
class _Step:
    v: Array
    slope: Array  # G v, or its image
    length: float  # of v, in the norm of the diagonal
    products: int


def _step(objective: Objective, point: Point, bounds: Bounds | None, radius: float, accuracy: float) -> _Step:
    """A step of the free channels, and of those almost at a bound to it."""
    diagonal = point.diagonal(objective.penalty.weights)
    if bounds is None:
        return _model_step(objective, point, diagonal, radius, accuracy)
    moved = bounds.clip(point.gains - point.gradient / diagonal) - point.gains
    room = min(NEAR, float(np.abs(moved).max()))  # no more than a short step moves
    clear, free = _free(bounds, point, room), _free(bounds, point)
    step = _model_step(objective, point, np.where(clear, diagonal, np.inf), radius, accuracy)
    sent = moved * (free & ~clear)
    if not sent.any():
        return step
    v, slope = step.v + sent, step.slope + apply_atoms(point.problem, sent[np.newaxis])[0]
    length = float(blas.dnrm2(np.sqrt(diagonal) * v))
    return dataclasses.replace(step, v=v, slope=slope, length=length)


def _model_step(objective: Objective, point: Point, diagonal: Array, radius: float, accuracy: float) -> _Step:
    """Least of gᵀv + ½ vᵀHv in the trust region: Steihaug and Toint. An infinite diagonal holds a channel."""
    N, D = point.problem.shape
    slope, vectors, numbers = np.empty((D, D)), np.empty((3, N)), np.zeros(NUMBERS)
    begin(point.gradient, diagonal, numbers, vectors, slope)
    numbers[RADIUS], numbers[ENOUGH], numbers[MOST] = radius, accuracy * numbers[LEFT], MOST_PRODUCTS
    problem = point.coarse
    if numbers[LEFT] == 0.0:
        pass
    elif objective.short and problem.ready(problem.X):
        own = objective.penalty.own + (np.zeros(N) if point.bends is None else point.bends)
        error = point.weighed if problem.center and point.bends is not None else np.zeros((D, D))
        model_step(
            problem.X, problem.gains, problem.mean, error, *kernel_form(problem), own,
            diagonal, numbers, vectors, slope, size=N * D * D,
        )  # fmt: skip
        if problem is not point.problem and not np.isfinite(slope).all():  # beyond float32
            point = dataclasses.replace(point, coarse=point.problem)
            return _model_step(objective, point, diagonal, radius, accuracy)
    else:
        ended = False
        while not ended and numbers[COUNT] < MOST_PRODUCTS:
            Hp, Gp = objective.product(point, vectors[2])
            ended = advance(Hp, Gp, diagonal, numbers, vectors, slope)
    return _Step(vectors[0].copy(), slope, math.sqrt(numbers[VV]), int(numbers[COUNT]))


def _within(
    objective: Objective,
    point: Point,
    bounds: Bounds,
    v: Array,
    t: float,
    coefficients: tuple[float, ...],
) -> tuple[Array, float]:
    """A step t v projected on the bounds, t halved until that lowers the loss enough; with its t."""
    for halvings in range(HALVINGS):
        far = point.gains + t * v
        gains = bounds.clip(far)
        if not halvings and np.array_equal(gains, far):
            return gains, t
        promised = float(blas.ddot(point.gradient, gains - point.gains))
        value = objective.value(gains)
        if promised < 0 and value <= point.value + SUFFICIENT * promised + EPSILON * point.value:
            return gains, t
        t /= 2.0
    longest = bounds.longest(point.gains, v)  # up to the first bound the quartic holds
    first = best_step(coefficients, longest) if longest > 0 else 0.0
    return bounds.clip(point.gains + first * v), first
