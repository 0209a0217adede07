"""A minimiser for gains: trust-region Newton steps, scaled by the exact quartic, within bounds.

A step minimises the quadratic model by conjugate gradients that stop at the trust region, at negative
curvature, or when they are as good as the model is (Steihaug 1983, Toint 1981), preconditioned by the
diagonal. An exact line search follows: the loss along a step is a quartic with known coefficients. So no
step is ever refused, and the radius follows the lengths. With bounds, the active set (channels at a bound
that the gradient pushes against it) is held, channels close to their bound are sent to it (Bertsekas 1982),
and a step is projected and, where that raises the loss, halved.

The loss is not convex. But along a single gain it is a quartic, all of whose minima are known. So near a
minimum, and at it, each gain that has a lower minimum of its own moves there, one after another, and the
minimiser goes on. Where it ends, no single gain lowers the loss.

Where a pass over X is short, all of this is one compiled call, `descend`, for many targets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

from .._compute.jit import ELEMENT_PRODUCTS, threads_pay
from .._compute.on_cores import on_cores
from .._compute.progress import Progress
from .._compute.trust_region_kernels import (
    BREAKDOWN,
    CG_ITERATIONS,
    CG_MAX,
    CG_RADIUS,
    CG_RESIDUAL,
    CG_TOL,
    CODE,
    CONVERGED,
    EPSILON,
    ESCAPES,
    EXHAUSTED,
    GOING,
    ITERATIONS,
    LARGEST_YET,
    MOST_PRODUCTS,
    NEEDS_FLOAT64,
    NO_DECREASE,
    NUMBERS,
    PRODUCTS,
    RESIDUAL,
    ROWS,
    STAGNATED,
    STALLED_STEPS,
    STATE,
    THRESHOLD,
    TRUST_RADIUS,
    VALUE,
    VV,
    accuracy,
    advance,
    begin,
    check_convergence,
    descend,
    escape,
    escaped,
    least_drop,
    lower_elsewhere,
    model_step,
    should_search,
    start_state,
    sweep,
    update_radius,
)
from .._exact_loss.objective import Objective, Point, best_step, kernel_form, norm
from .._exact_loss.single_gains import share
from .._model.bounds import Bounds

Array = NDArray[np.float64]
Watch = Callable[[Progress], object]

# A projected step is accepted if the loss falls by this share of the first-order decrease (Armijo).
SUFFICIENT = 1e-4
HALVINGS = 20
# Gains at most this far from a bound may be sent to it.
NEAR = 1e-3
# Most flops of a compiled call, unless a callback is told of each step: some 50 ms, after which Ctrl-C is
# answered.
CALL_FLOPS = 1e9
# Parts that many targets are split into, per core, so that no core waits long for another.
PARTS = 8
ENDS = {
    CONVERGED: "converged",
    STAGNATED: "stagnated",
    EXHAUSTED: "max-iterations",
    BREAKDOWN: "breakdown",
}


@dataclasses.dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended, and how."""

    gains: Array
    value: float
    residual: float  # norm of the gradient, without the active set of bounds
    status: str  # "converged", "stagnated", "max-iterations" or "breakdown"
    iterations: int
    products: int
    escapes: int

    @classmethod
    def of(cls, gains: Array, state: Array) -> Minimum:
        counts = (int(state[k]) for k in (ITERATIONS, PRODUCTS, ESCAPES))
        return cls(gains, float(state[VALUE]), float(state[RESIDUAL]), ENDS[int(state[CODE])], *counts)


def minima(
    objectives: Sequence[Objective],
    gains: Array,
    bounds: Bounds | None,
    *,
    goals: Array,
    max_iterations: int,
    watch: Watch,
    eager: bool = True,
) -> list[Minimum]:
    """Minimise objectives that differ only in their target, from gains (T, N) within the bounds.

    Each ends at a gradient of norm `goals` (T,), or of rounding. `watch` is told of every step if `eager`,
    otherwise now and then.
    """
    states = np.empty((len(gains), STATE))
    for state, goal in zip(states, goals, strict=True):
        start_state(state, float(goal), float(max_iterations))
    if bounds is None and objectives[0].in_one_call:
        gains = np.array(gains)
        _descend(objectives, gains, states, watch, 0.0 if eager else CALL_FLOPS)
    else:
        gains = np.stack([
            _minimise(objective, z, bounds, state, watch)
            for objective, z, state in zip(objectives, gains, states, strict=True)
        ])  # fmt: skip
    return [Minimum.of(z, state) for z, state in zip(gains, states, strict=True)]


def _tell(watch: Watch, state: Array) -> None:
    """Tell how far a minimiser has come."""
    residual, most, enough = (float(state[k]) for k in (RESIDUAL, LARGEST_YET, THRESHOLD))
    known = 0.0 < enough < most and residual > 0.0
    done = math.log(residual / most) / math.log(enough / most) if known else 0.0
    watch(
        Progress("iteration", max(done, 0.0), int(state[ITERATIONS]), residual / most if most > 0.0 else 0.0)
    )


# --- short passes: one compiled call


def _descend(objectives: Sequence[Objective], gains: Array, states: Array, watch: Watch, work: float) -> None:
    """Minimise in place: many targets on all cores."""
    problem, (N, D), single = objectives[0].problem, objectives[0].problem.shape, objectives[0].single
    targets = np.stack([objective.target for objective in objectives])
    own = np.broadcast_to(np.asarray(objectives[0].penalty.own, np.float64), N).copy()
    infinite, size = np.full(N, np.inf), N * D * D // ELEMENT_PRODUCTS

    def run(places: NDArray[np.intp], told: Callable[[Array], object], work: float = CALL_FLOPS) -> None:
        """Minimise the targets at these places, one after another."""
        z, state, S = gains[places], states[places], targets[places]
        mean, errors, rows = np.empty(D), np.empty((3, D, D)), np.empty((ROWS, N))
        X: Any = problem.X if single is None else single.X
        while True:
            descend(
                X, problem.X, problem.center, S, *kernel_form(problem), own, -infinite, infinite,
                share(problem), z, state, work, mean, errors, rows, size=size,
            )  # fmt: skip
            going = np.flatnonzero(state[:, CODE] == GOING)
            if not len(going):
                finer = state[:, CODE] == NEEDS_FLOAT64
                if not finer.any():
                    break
                X, state[finer, CODE], state[finer, STALLED_STEPS], state[finer, NO_DECREASE] = (
                    problem.X,
                    GOING,
                    0.0,
                    0.0,
                )
            else:
                told(state[going[0]])
        gains[places], states[places] = z, state

    everyone = np.arange(len(gains))
    workers = min(numba.get_num_threads(), len(gains))
    if workers == 1 or threads_pay(size):
        run(everyone, lambda state: _tell(watch, state), work)
        return
    parts = np.array_split(everyone, min(len(gains), PARTS * workers))
    on_cores(run, parts, workers, lambda done: watch(Progress("targets", done)))


# --- long passes, and bounds: one pass after another


def _minimise(
    objective: Objective,
    gains: Array,
    bounds: Bounds | None,
    state: Array,
    watch: Watch,
) -> Array:
    point = objective.at(gains)
    while True:
        gradient = point.gradient if bounds is None else point.gradient * _free(bounds, point)
        check_convergence(
            state, point.value, float(blas.dnrm2(gradient)), point.rounding, objective.single is not None
        )
        if should_search(state) and not objective.linear:
            gains, moved = _swept(objective, point, bounds)
            escaped(state, moved)
            if moved:
                point = objective.at(gains)
                continue
        if state[CODE] == NEEDS_FLOAT64:
            objective = dataclasses.replace(objective, single=None)
            point = dataclasses.replace(point, coarse=point.problem)
            state[CODE], state[STALLED_STEPS] = GOING, 0.0
        if state[CODE] != GOING:
            return point.gains
        _tell(watch, state)
        step = _step(objective, point, bounds, float(state[TRUST_RADIUS]), float(accuracy(state)))
        coefficients = objective.along(point, step.v, step.slope)
        t = best_step(coefficients)
        if bounds is None:
            gains = point.gains + t * step.v
        else:
            gains, t = _within(objective, point, bounds, step.v, t, coefficients)
        update_radius(state, t, step.length)
        last, point = point, objective.at(gains)
        state[PRODUCTS] += step.products
        state[ITERATIONS] += 1
        state[NO_DECREASE] = last.value - point.value <= 10.0 * EPSILON * last.value  # all but rounding


def _swept(objective: Objective, point: Point, bounds: Bounds | None) -> tuple[Array, int]:
    """Move each gain that has a lower minimum elsewhere; returns the gains, and how many moved."""
    found, penalty, n = objective.quartics(point), objective.penalty, len(point.gains)
    infinite = np.full(n, np.inf)
    lower, upper = (-infinite, infinite) if bounds is None else (bounds.lower, bounds.upper)
    lower, upper = (np.array(side, np.float64) for side in (lower, upper))
    gains, drops = point.gains.copy(), np.empty_like(point.gains)
    worth = float(least_drop(point.value, 2.0 * norm(objective.target) + norm(point.error)))
    if not math.isfinite(worth) or not lower_elsewhere(found, gains, lower, upper, worth, drops):
        return gains, 0
    if not objective.by_channel:
        a = int(np.argmax(drops))
        t = escape(*found[:, a], lower[a] - gains[a], upper[a] - gains[a], worth)
        gains[a] = min(max(gains[a] + t, lower[a]), upper[a])
        return gains, 1
    # A penalty that couples gains changes its slope when others move: then one gain moves at a time.
    problem = point.problem
    weights = np.broadcast_to(np.asarray(penalty.weights, np.float64), n)
    index = np.flatnonzero(drops) if penalty.root is None else np.array([int(np.argmax(drops))])
    rows = np.ascontiguousarray(problem.take(index).responses())
    pull = penalty.products(gains - 1.0)
    parts = [np.ascontiguousarray(a[index]) for a in (gains, weights, pull, lower, upper, drops)]
    moved = sweep(
        rows, *parts, share(problem), problem.mean.copy(), point.image.copy(), *kernel_form(problem), worth
    )
    gains[index] = parts[0]
    return gains, int(moved)


def _free(bounds: Bounds, point: Point, room: float = 0.0) -> NDArray[np.bool_]:
    """Channels outside the active set, which reaches `room` away from the bounds."""
    return ~bounds.active(point.gains, point.gradient, room)


@dataclasses.dataclass(frozen=True)
class _Step:
    v: Array
    slope: Array  # G v, or its image
    length: float  # of v, in the norm of the diagonal
    products: int


def _step(objective: Objective, point: Point, bounds: Bounds | None, radius: float, accuracy: float) -> _Step:
    """A step: free channels by the model, channels close to a bound to that bound."""
    diagonal = point.diagonal(objective.penalty.weights)
    if bounds is None:
        return _model_step(objective, point, diagonal, radius, accuracy)
    moved = bounds.clip(point.gains - point.gradient / diagonal) - point.gains
    room = min(NEAR, float(np.abs(moved).max()))  # at most what a short step moves
    clear, free = _free(bounds, point, room), _free(bounds, point)
    step = _model_step(objective, point, np.where(clear, diagonal, np.inf), radius, accuracy)
    sent = moved * (free & ~clear)
    if not sent.any():
        return step
    v, slope = step.v + sent, step.slope + objective.slope(point, sent)
    length = float(blas.dnrm2(np.sqrt(diagonal) * v))
    return dataclasses.replace(step, v=v, slope=slope, length=length)


def _model_step(objective: Objective, point: Point, diagonal: Array, radius: float, accuracy: float) -> _Step:
    """Minimise gᵀv + ½ vᵀHv in the trust region (Steihaug, Toint). An infinite diagonal fixes a channel."""
    n, D = len(diagonal), len(objective.target)
    slope, vectors, numbers = np.empty((D, D)), np.empty((3, n)), np.zeros(NUMBERS)
    begin(point.gradient, diagonal, numbers, vectors, slope)
    numbers[CG_RADIUS], numbers[CG_TOL], numbers[CG_MAX] = (
        radius,
        accuracy * numbers[CG_RESIDUAL],
        MOST_PRODUCTS,
    )
    problem = point.coarse
    if numbers[CG_RESIDUAL] == 0.0:
        pass
    elif objective.pass_in_one_call and problem.ready(problem.X):
        own = objective.penalty.own + (
            np.zeros(n) if point.second_diagonal is None else point.second_diagonal
        )
        error = point.weighed if problem.center and point.second_diagonal is not None else np.zeros((D, D))
        model_step(
            problem.X, problem.gains, problem.mean, error, *kernel_form(problem), own,
            diagonal, numbers, vectors, slope, size=n * D * D // ELEMENT_PRODUCTS,
        )  # fmt: skip
        if problem is not point.problem and not np.isfinite(slope).all():  # beyond float32
            point = dataclasses.replace(point, coarse=point.problem)
            return _model_step(objective, point, diagonal, radius, accuracy)
    else:
        ended = False
        while not ended and numbers[CG_ITERATIONS] < MOST_PRODUCTS:
            Hp, Gp = objective.product(point, vectors[2])
            ended = advance(Hp, Gp, diagonal, numbers, vectors, slope)
    return _Step(vectors[0].copy(), slope, math.sqrt(numbers[VV]), int(numbers[CG_ITERATIONS]))


def _within(
    objective: Objective,
    point: Point,
    bounds: Bounds,
    v: Array,
    t: float,
    coefficients: tuple[float, ...],
) -> tuple[Array, float]:
    """Project t v on the bounds, and halve t until the loss falls enough; returns the step and its t."""
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
    longest = bounds.longest(point.gains, v)  # the quartic holds up to the first bound
    first = best_step(coefficients, longest) if longest > 0 else 0.0
    return bounds.clip(point.gains + first * v), first
