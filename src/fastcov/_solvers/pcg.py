"""Preconditioned conjugate gradients on GᵀG + λI, which is never formed.

4ND² flops an iteration, and memory for some vectors over channels and the preconditioner
(`_nystrom`). Products are in float32 where the ridge is well above its rounding, at twice the speed;
the residual is computed again in float64 whenever three digits are gained, and before anything is
called solved.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from .. import _blas
from ._nystrom import Preconditioner, choose_pivots
from ._solution import Options, Progress, Solution, System

Array = NDArray[np.float64]

# Compute the residual again after so much of it has gone, for float32 products lose the next digits,
# or after so many iterations.
RENEWED, PATIENCE = 1e-4, 100
# A true residual that is not this much below the last one: rounding has the upper hand.
STAGNANT = 0.5


@dataclasses.dataclass(frozen=True)
class State:
    """GᵀG + λI, in the precision of the iterations, with its preconditioner."""

    system: System
    precondition: Preconditioner
    options: Options


def init(system: System, options: Options) -> State:
    """Make the preconditioner for GᵀG + λI."""
    N, _ = system.problem.shape
    system = system.astype(np.float32 if system.single else np.float64)
    pivots = choose_pivots(system, options)
    fits = options.budget / (N * system.problem.dtype.itemsize)
    if fits < len(pivots.channels) <= 2 * fits:  # nearly as good, and half the work of making it again
        pivots = pivots.first(int(fits))
    return State(system, Preconditioner.of(system, pivots, keep=fits >= len(pivots.channels)), options)


def solve(state: State, rhs: Array) -> Solution:
    """Solve for the rows of `rhs` (T, N), all at once: each pass over X serves those not yet solved."""
    options, system = state.options, state.system
    exact = system.astype(np.float64)
    scale = np.sqrt(_blas.dots(rhs, rhs))
    value = np.zeros_like(rhs)
    rows = np.flatnonzero(scale)  # of `rhs`, that the arrays below belong to
    b = rhs[rows] / scale[rows, np.newaxis]
    x, r = np.zeros_like(b), b.copy()
    z = state.precondition(r)
    p, rz = z, _blas.dots(r, z)
    true = np.ones(len(b))  # ‖r‖ when it was last computed from x
    iteration, renewals, since, status = 0, 0, 0, "converged"
    while len(rows):
        if iteration == options.max_iterations:
            status = "max-iterations"
            break
        q = system.product(p)
        curvature = _blas.dots(p, q)
        if not np.all(curvature * rz > 0):  # NaN as well
            status = "breakdown"
            break
        iteration, since = iteration + 1, since + 1
        step = rz / curvature
        _blas.add_scaled(x, step, p)
        _blas.add_scaled(r, -step, q)
        size = np.sqrt(_blas.dots(r, r))
        digits = math.log(max(size.max(), options.tol)) / math.log(min(options.tol, 0.5))
        options.watch(Progress("iterate", min(max(digits, 0.0), 1.0), iteration, float(size.max())))

        claimed = size <= np.maximum(options.tol, RENEWED * true)
        due = np.flatnonzero(claimed | (since >= PATIENCE))
        stagnant = np.zeros(len(rows), bool)
        if len(due):
            r[due] = b[due] - exact.product(x[due])
            left = np.sqrt(_blas.dots(r[due], r[due]))
            single = system.problem.dtype == np.float32
            stagnant[due] = (left > STAGNANT * true[due]) & (left > options.tol) & (claimed[due] | single)
            true[due], renewals, since = left, renewals + 1, 0
            solved = np.zeros(len(rows), bool)
            solved[due] = left <= options.tol
            if stagnant.any() and not single:
                status, solved = "stagnated", solved | stagnant
            if solved.any():
                value[rows[solved]] = x[solved]
                b, x, r, p = (vectors[~solved] for vectors in (b, x, r, p))
                rz, true = rz[~solved], true[~solved]
                rows, stagnant = rows[~solved], stagnant[~solved]
            if not len(rows):
                break
            if stagnant.any():
                system = exact
        z = state.precondition(r)
        last, rz = rz, _blas.dots(r, z)
        for t in range(len(rows)):
            p[t] *= 0.0 if stagnant[t] else rz[t] / last[t]
        p += z
    value[rows] = x
    value *= scale[:, np.newaxis]
    stats = {
        "iterations": iteration,
        "renewals": renewals,
        "rank": len(state.precondition.pivots.channels),
        "preconditioner": "kept" if state.precondition.factor is not None else "made again",
        "products": str(system.problem.dtype),
    }
    return Solution(value, status, stats)
