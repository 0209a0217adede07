"""Fits by minimisation: of the exact loss, and within bounds of the linearised loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.jit import blas_for
from .._compute.trust_region_kernels import least_drop, lower_elsewhere
from .._exact_loss.derivatives import derivatives
from .._exact_loss.grouped import GroupObjective
from .._exact_loss.objective import COMPILED, Objective, norm
from .._inputs.validation import SMALL, available_memory, require_memory
from .._minimise.trust_region import Minimum, minima
from .._model.bounds import Bounds
from .._model.problem import Problem
from .._model.ridge_penalty import Penalty
from .._solvers import base_bytes
from .certificate import stationarity
from .settings import Outcome, Settings
from .start import Ridge, Start

Array = NDArray[np.float64]

# Vectors over channels and D x D matrices that a minimiser holds, beside those of a fit.
MINIMISER_VECTORS, MINIMISER_MATRICES = 24, 16
# Vectors for each target afterwards: quartics of its gains, in units of the problem and of the caller.
CERTIFIED_VECTORS = 14
# Spread of the logarithms of random starts: most lie within a factor of three of the first.
START_SPREAD = 0.5
# Share of gains whose sign a random start flips.
START_FLIPPED = 0.1


def minimised(start: Start, ridge: Ridge, settings: Settings, *, linear: bool) -> Outcome:
    """A minimum for each target: the lowest one that the starts reach."""
    N, T = start.n_gains, len(start.target)
    bounds = settings.bounds
    if settings.gains0 is not None and settings.gains0.ndim == 2 and len(settings.gains0) != T:
        raise ValueError(
            f"Argument 'gains0' must hold one start, or one for each of the {T} targets, not "
            f"{len(settings.gains0)}."
        )
    _require(start, settings.budget)
    ones = np.ones(N) if bounds is None else bounds.clip(np.ones(N))
    # All channels are alike, or dead: only the penalty is left, and the gains nearest to one minimise it.
    if not start.norms.any() and (ridge.penalty.root is None or (ones == 1.0).all()):
        gains = np.tile(ones, (T, 1))
        return Outcome(gains, gains - 1.0, np.zeros(T), "converged", {"solver": None, "iterations": 0})
    problem, single = start.problem, None
    if start.forms is None:
        problem, single = _in_memory(start, settings.budget, start.system(ridge).coarse)
    first = np.broadcast_to(ones if settings.gains0 is None else settings.gains0, (T, N))
    random = np.random.default_rng(settings.rng)
    scale = blas.norms(start.overlaps)  # norms of the gradient at gains of one
    goals = settings.exact_tol * scale
    objectives = [
        objective_of(start, target, ridge, problem=problem, single=single, linear=linear)
        for target in start.target
    ]
    n_starts = 1 if linear else settings.n_starts
    tried: list[list[Minimum]] = []
    for k in range(n_starts):
        z = first if k == 0 else first * _factors(random, first.shape)
        z = np.where(start.dead, 1.0, z)  # dead channels keep a gain of one
        # Kernels make the products, and vectors are too short for BLAS threads. A loss that overflows ends as
        # a breakdown.
        with blas_for(0), np.errstate(over="ignore", invalid="ignore"):
            tried.append(minima(
                objectives, z if bounds is None else bounds.clip(z), bounds, goals=goals,
                max_iterations=settings.max_iterations, watch=settings.watch, eager=settings.eager,
            ))  # fmt: skip
        for there, found in zip(z, tried[-1], strict=True):
            if found.status == "breakdown" and not found.iterations:
                raise _not_finite(there, "bounds" if settings.gains0 is None else "gains0")
    best = [min(found, key=_height) for found in zip(*tried, strict=True)]
    stats: dict[str, Any] = {
        "solver": None,
        "iterations": sum(m.iterations for m in best),
        "products": sum(m.products for m in best),
        "escapes": sum(m.escapes for m in best),
        "precision": str(np.dtype(np.float64 if single is None else np.float32)),
    }
    if settings.n_starts > 1:
        losses = np.array([[m.value for m in found] for found in zip(*tried, strict=True)])
        stats["losses"] = start.problem.unscaled(losses, y=4)
        reached = np.stack([[m.gains for m in found] for found in zip(*tried, strict=True)])
        stats["gains_of_starts"] = start.by_channel(reached)
    gains = np.stack([m.gains for m in best])
    stats |= at_bounds(bounds, gains)
    statuses = [m.status for m in best]
    if start.forms is not None:
        return _certified_groups(start, ridge, objectives, gains, bounds, statuses, goals, stats)
    if linear:
        shared = (ridge.penalty, start.covariance, start.norms, None, True, False)
        points = [
            Objective(start.problem, S, *shared).at(z) for S, z in zip(start.target, gains, strict=True)
        ]
        gradient, rounding = np.stack([p.gradient for p in points]), np.array([p.rounding for p in points])
        verdict = stationarity(gradient, rounding, gains, bounds, statuses, goals, scale)
        return Outcome(gains, gains - 1.0, verdict.residual, verdict.status, stats, verdict.warning)
    there = derivatives(problem, start.target, ridge.penalty, gains)
    verdict = stationarity(there.gradient, there.rounding, gains, bounds, statuses, goals, scale)
    stats["lower_elsewhere"] = lower_along_axes(there.quartics, there.worth, gains, bounds)
    return Outcome(
        gains, gains - 1.0, verdict.residual, verdict.status, stats, verdict.warning, there.covariance,
        quartics=there.quartics,
    )  # fmt: skip


def objective_of(
    start: Start, target: Array, ridge: Ridge, *, problem: Problem | None = None,
    single: Problem | None = None, linear: bool = False,
) -> Objective:  # fmt: skip
    """The objective of one target, in the gains of channels or of groups."""
    given = (problem or start.problem, target, ridge.penalty, start.covariance, start.norms, single, linear)
    return Objective(*given) if start.forms is None else GroupObjective(*given, forms=start.forms)


def _certified_groups(
    start: Start, ridge: Ridge, objectives: Sequence[Objective], gains: Array, bounds: Bounds | None,
    statuses: Sequence[str], goals: Array, stats: dict[str, Any],
) -> Outcome:  # fmt: skip
    """The outcome for gains of groups (T, A). The minimiser used sums over groups; the gradient is of X."""
    linear, free = objectives[0].linear, Penalty(0.0)
    points = [each.at(z) for each, z in zip(objectives, gains, strict=True)]
    covariance, gradient = np.empty_like(start.target), np.empty_like(gains)
    for k, (S, z) in enumerate(zip(start.target, gains, strict=True)):
        plain = Objective(start.problem, S, free, start.covariance, start.norms, None, linear, compiled=False)
        there = plain.at(start.by_channel(z))
        covariance[k] = there.error + S
        gradient[k] = start.of_gains(there.gradient) + ridge.penalty.products(z - 1.0)
    rounding = np.array([point.rounding for point in points])
    scale = blas.norms(start.overlaps)
    verdict = stationarity(gradient, rounding, gains, bounds, statuses, goals, scale)
    if not linear:
        quartics = np.stack([each.quartics(at) for each, at in zip(objectives, points, strict=True)])
        sizes = [
            2.0 * norm(each.target) + norm(at.error) for each, at in zip(objectives, points, strict=True)
        ]
        worth = np.array([least_drop(at.value, size) for at, size in zip(points, sizes, strict=True)])
        stats["lower_elsewhere"] = lower_along_axes(quartics, worth, gains, bounds)
    return Outcome(
        gains, gains - 1.0, verdict.residual, verdict.status, stats, verdict.warning,
        None if linear else covariance,
    )  # fmt: skip


def lower_along_axes(quartics: Array, worths: Array, gains: Array, bounds: Bounds | None) -> NDArray[np.intp]:
    """Count the gains that alone would lower the loss of each target by twice the worth of a step (T,)."""
    infinite, drops = np.full(gains.shape[1], np.inf), np.empty(gains.shape[1])
    lower, upper = (-infinite, infinite) if bounds is None else (bounds.lower, bounds.upper)
    sides = [np.array(side, np.float64) for side in (lower, upper)]
    return np.array([
        lower_elsewhere(quartic, z, *sides, 2.0 * float(worth), drops) if math.isfinite(worth) else 0
        for quartic, z, worth in zip(quartics, gains, worths, strict=True)
    ])  # fmt: skip


def at_bounds(bounds: Bounds | None, gains: Array) -> dict[str, Any]:
    """The bounds, and how many gains of each target are at one."""
    if bounds is None:
        return {}
    return {"at_bounds": bounds.at(gains).sum(axis=1), "bounds": (bounds.lower, bounds.upper)}


def _require(start: Start, budget: float | None) -> None:
    """Raise a MemoryError unless there is room for the vectors and matrices of a minimiser."""
    N, D, T = start.n_gains, start.problem.shape[1], len(start.target)
    vectors = max(MINIMISER_VECTORS, CERTIFIED_VECTORS * T)
    least = base_bytes(N, D, T) + 8.0 * (vectors * N + MINIMISER_MATRICES * D * D)
    if budget is not None and budget < least:
        raise ValueError(
            f"Argument 'memory_budget' must be at least {math.ceil(least / 1e6) * 10**6} bytes for {N} "
            f"channels and {T} targets, not {budget:.10g}."
        )
    require_memory(int(least), f"A minimiser of {N} gains", "fit fewer targets at a time")


def _height(minimum: Minimum) -> float:
    return minimum.value if math.isfinite(minimum.value) else math.inf


def _factors(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Factors by which a random start multiplies the gains."""
    signs = np.where(random.random(shape) < START_FLIPPED, -1.0, 1.0)
    return np.asarray(signs * np.exp(START_SPREAD * random.standard_normal(shape)))


def _not_finite(gains: Array, name: str) -> ValueError:
    return ValueError(
        f"Argument '{name}' must have gains of a finite loss to begin at, not as large as "
        f"{np.abs(gains).max():.3g}: begin nearer to one."
    )


def _in_memory(start: Start, budget: float | None, coarse: bool) -> tuple[Problem, Problem | None]:
    """The problem in float64, and in float32 where that is accurate enough; as copies if there is room."""
    problem, X = start.problem, start.problem.X
    single = problem.astype(np.float32) if coarse else None
    if not problem.rows.in_memory:
        return problem, single
    N, D = problem.shape
    room = math.inf if 12 * N * D < SMALL else available_memory() / 2
    if budget is not None:
        room = min(room, budget - base_bytes(N, D, 1))
    # Most passes are products with the curvature. Where these are in float32, few are in float64.
    often = single is None or N * D * D < COMPILED
    if often and not problem.ready(X) and room >= 8 * N * D:
        problem, room = problem.converted(), room - 8 * N * D
    if single is not None and not single.ready(X) and room >= 4 * N * D:
        single = single.converted()
    return problem, single
