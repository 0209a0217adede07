"""Preconditioned conjugate gradients on GᵀG + P, which is never formed.

An iteration takes 4ND² flops. Memory is needed for some vectors over channels and the preconditioner
(`_nystrom`). Products are in float32, at twice the speed, where the ridge is well above its rounding.
Residual replacement: the residual is computed again in float64 whenever it fell far enough, and before a
target counts as solved.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.jit import blas_for
from .._compute.progress import Progress
from . import conditions, spectral
from ._nystrom import Preconditioner, choose_pivots, working_bytes
from ._solution import RESOLVED, Options, Solution, System

Array = NDArray[np.float64]

# Residual replacement: compute the residual anew once it fell by this factor, because float32 products lose
# the next digits, or after this many iterations.
REPLACED_AFTER_DROP, REPLACED_EVERY = 1e-4, 50
# Where some channels have no penalty, curvature below this share of that of the diagonal is rounding: the
# system is singular to working precision.
BREAKDOWN = 0.1 * RESOLVED
# If the true residual is not below this share of the last one, rounding dominates. If it is more than PARTED
# times that of the recurrence, the two have parted.
STAGNANT = 0.5
PARTED = 10.0
# Cost of an element of the factor, which is read twice, in flops of other products.
FACTOR_FLOPS = 32.0


@dataclasses.dataclass(frozen=True)
class State:
    """The system, exact and in the precision of the iterations, with its preconditioner."""

    exact: System
    system: System
    precondition: Preconditioner
    options: Options


def init(system: System, options: Options) -> State | spectral.State | conditions.State:
    """Make the preconditioner for GᵀG + P."""
    if system.singular:
        return spectral.init(system, options)
    if system.problem.rows.on_workers:
        return conditions.init(system, options)
    exact, system = system, system.astype(np.float32 if system.coarse else np.float64)
    (N, D), itemsize = system.problem.shape, system.problem.dtype.itemsize
    pivots = choose_pivots(exact, options)
    left = options.budget - working_bytes(N, D, len(pivots.channels))
    fits = max(0.0, left) / (N * itemsize)
    if (
        fits < len(pivots.channels) <= 2 * fits
    ):  # nearly as good, and half the work of a factor that is not kept
        pivots = pivots.first(int(fits))
    keep = fits >= len(pivots.channels)
    X, convert = system.problem.X, len(pivots.channels) * keep + D <= fits
    if convert and system.problem.rows.in_memory and not system.problem.ready(X):
        system = dataclasses.replace(system, problem=system.problem.converted())
    return State(exact, system, Preconditioner.of(system, pivots, options, keep=keep), options)


def solve(state: State | spectral.State | conditions.State, rhs: Array) -> Solution:
    """Solve for all rows of `rhs` (T, N) at once: each pass over X serves those not yet solved."""
    if not isinstance(state, State):
        return state.solve(rhs)
    # Between the kernels BLAS only applies the preconditioner. Setting its threads once, not in each product,
    # saves 10 us an iteration.
    with blas_for(FACTOR_FLOPS * rhs.size * len(state.precondition.core)):
        return _iterated(state, rhs)


def _iterated(state: State, rhs: Array) -> Solution:
    """The iterations of `solve`."""
    options, system = state.options, state.system
    exact = state.exact.astype(np.float64)
    scale = blas.norms(rhs)
    value = np.zeros_like(rhs)
    rows = np.flatnonzero(scale)  # rows of `rhs` that the arrays below belong to
    b = rhs[rows] / scale[rows, np.newaxis]
    x, r = np.zeros_like(b), b.copy()
    z = state.precondition(r)
    p, rz = z, blas.dots(r, z)
    true = np.ones(len(b))  # the smallest ‖r‖ among those computed from x
    regular, sizes = exact.definite, exact.diagonal + exact.penalty.weights
    iteration, renewals, since, done, status = 0, 0, 0, 0.0, "converged"
    while len(rows):
        if iteration == options.max_iterations:
            status = "max-iterations"
            break
        q = system.product(p)
        curvature = blas.dots(p, q)
        least = np.zeros(len(p)) if regular else BREAKDOWN * blas.dots(p, p * sizes)
        if not np.all((curvature > least) & (rz > 0)):  # NaN as well
            if system.problem.dtype == np.float64:
                status = "breakdown"
                break
            system, p = exact, state.precondition(r)
            rz = blas.dots(r, p)
            continue
        iteration, since = iteration + 1, since + 1
        step = rz / curvature
        blas.add_scaled(x, step, p)
        blas.add_scaled(r, -step, q)
        del q  # vectors over channels take most of the memory here
        size = blas.norms(r)
        done = max(done, math.log(max(size.max(), options.tol)) / math.log(options.tol))
        options.watch(Progress("iteration", done, iteration, float(size.max())))

        claimed = size <= np.maximum(options.tol, REPLACED_AFTER_DROP * true)
        due = np.flatnonzero(claimed | (since >= REPLACED_EVERY))
        stagnant = np.zeros(len(rows), bool)
        if len(due):
            every = slice(None) if len(due) == len(rows) else due  # a view, not a copy
            product = exact.product(x[every])
            r[every] = np.subtract(b[every], product, out=product)
            left = blas.norms(product)
            del product
            single = system.problem.dtype == np.float32
            better = due[left < true[due]]
            value[rows[better]] = x[better]
            # Slow is not stagnant: when stagnant, the recurrence and the true residual have parted.
            parted = claimed[due] | (left > PARTED * size[due])
            stagnant[due] = parted & (left > STAGNANT * true[due]) & (left > options.tol)
            true[due], renewals, since = np.minimum(left, true[due]), renewals + 1, 0
            ended = np.zeros(len(rows), bool)
            rounding = np.finfo(np.float64).eps * exact.sizes(x[every])  # of A x
            ended[due] = left <= np.maximum(options.tol, rounding)
            if stagnant.any() and not single:
                status, ended = "stagnated", ended | stagnant
            if ended.any():
                b, x, r, p = (vectors[~ended] for vectors in (b, x, r, p))
                rz, true = rz[~ended], true[~ended]
                rows, stagnant = rows[~ended], stagnant[~ended]
            if not len(rows):
                break
            if stagnant.any():
                system = exact
        z = state.precondition(r)
        last, rz = rz, blas.dots(r, z)
        for t in range(len(rows)):
            p[t] *= 0.0 if stagnant[t] else rz[t] / last[t]
        p += z
        del z
    if len(rows):  # ended early: keep what is better than at the last replacement
        gained = blas.norms(b - exact.product(x)) < true
        value[rows[gained]] = x[gained]
    value *= scale[:, np.newaxis]
    stats = {
        "iterations": iteration,
        "renewals": renewals,
        "rank": len(state.precondition.pivots.channels),
        "preconditioner": "kept" if state.precondition.factor is not None else "made again",
        "products": str(system.problem.dtype),
    }
    return Solution(value, status, stats)
