"""Fits by minimising: the exact loss, and within bounds the linearised one too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._bounds import Bounds
from ._certificate import stationarity
from ._exact import Minimum, minimise
from ._jit import blas_for
from ._objective import COMPILED, Objective, Point
from ._problem import Problem
from ._settings import Outcome, Settings
from ._solvers import base_bytes
from ._sources import Stored
from ._start import Ridge, Start
from ._validation import SMALL, available_memory, require_memory

Array = NDArray[np.float64]

# What a minimiser holds at once, of N and of D x D numbers, beside what a fit holds.
MINIMISER_VECTORS, MINIMISER_MATRICES = 24, 16
# Spread of the logarithms of random starts: most lie within a factor of three of the first.
START_SPREAD = 0.5


def minimised(start: Start, ridge: Ridge, settings: Settings, *, linear: bool) -> Outcome:
    """The minimum for each target, from the start that leads lowest."""
    N, T = start.problem.shape[0], len(start.target)
    bounds, options, watch = settings.bounds, settings.options, settings.options.watch
    if settings.gains0 is not None and settings.gains0.ndim == 2 and len(settings.gains0) != T:
        raise ValueError(
            f"Argument 'gains0' must hold one start, or one for each of the {T} targets, not "
            f"{len(settings.gains0)}."
        )
    _require(start, settings.memory_budget)
    ones = np.ones(N) if bounds is None else bounds.clip(np.ones(N))
    # Channels that are all alike, or dead: nothing but the penalty, least at the gains nearest to one.
    if not start.norms.any() and (ridge.penalty.root is None or (ones == 1.0).all()):
        gains = np.tile(ones, (T, 1))
        return Outcome(gains, gains - 1.0, np.zeros(T), "converged", {"solver": None, "iterations": 0})
    problem, single = _in_memory(start, settings.memory_budget, start.system(ridge).coarse)
    first = np.broadcast_to(ones if settings.gains0 is None else settings.gains0, (T, N))
    if isinstance(start.given.X, Stored):
        start.given.X.watch = None
    random = np.random.default_rng(options.rng)
    scale = np.linalg.norm(start.overlaps, axis=1)  # of the gradient at gains of one
    goals = settings.tol * scale
    best: list[Minimum] = []
    tried: list[list[float]] = []
    for target, gains, goal in zip(start.target, first, goals, strict=True):
        objective = Objective(problem, target, ridge.penalty, start.covariance, start.norms, single, linear)
        minima = []
        for k in range(1 if linear else settings.n_starts):
            z = gains if k == 0 else gains * np.exp(START_SPREAD * random.standard_normal(N))
            z = np.where(start.problem.sizes == 0, 1.0, z)  # the gain of a dead channel
            name = "bounds" if settings.gains0 is None else "gains0"
            point = _begin(objective, z if bounds is None else bounds.clip(z), name)
            # Products are the kernels, and vectors not worth threads; a loss that overflows is a breakdown.
            with blas_for(0), np.errstate(over="ignore", invalid="ignore"):
                minima.append(
                    minimise(
                        objective, point, bounds,
                        goal=goal, max_iterations=options.max_iterations, watch=watch,
                    )
                )  # fmt: skip
        best.append(min(minima, key=lambda m: m.point.value if math.isfinite(m.point.value) else math.inf))
        tried.append([m.point.value for m in minima])
    stats: dict[str, Any] = {
        "solver": None,
        "iterations": sum(m.iterations for m in best),
        "products": sum(m.products for m in best),
        "precision": str(np.dtype(np.float64 if single is None else np.float32)),
    }
    if settings.n_starts > 1:
        stats["losses"] = start.problem.unscaled(np.array(tried), y=4)
    gains = np.stack([m.point.gains for m in best])
    stats |= at_bounds(bounds, gains)
    shared = (ridge.penalty, start.covariance, start.norms, None, linear, False)
    plain = [Objective(start.problem, S, *shared) for S in start.target]
    found = stationarity(plain, gains, bounds, [m.status for m in best], goals, scale)
    covariance = None if linear else found.covariance
    return Outcome(gains, gains - 1.0, found.residual, found.status, stats, found.warning, covariance)


def at_bounds(bounds: Bounds | None, gains: Array) -> dict[str, Any]:
    return {} if bounds is None else {"at_bounds": bounds.at(gains).sum(axis=1)}


def _require(start: Start, budget: float | None) -> None:
    """Room for the vectors and matrices of a minimiser, before they are made."""
    (N, D), T = start.problem.shape, len(start.target)
    least = base_bytes(N, D, T) + 8.0 * (MINIMISER_VECTORS * N + MINIMISER_MATRICES * D * D)
    if budget is not None and budget < least:
        raise ValueError(
            f"Argument 'memory_budget' must be at least {math.ceil(least / 1e6) * 10**6} bytes for {N} "
            f"channels and {T} targets, not {budget:.10g}."
        )
    require_memory(int(least), f"A minimiser of {N} gains", "fit fewer targets at a time")


def _begin(objective: Objective, gains: Array, name: str) -> Point:
    with np.errstate(over="ignore", invalid="ignore"):
        point = objective.at(gains)
    if not (math.isfinite(point.value) and np.isfinite(point.gradient).all()):
        raise ValueError(
            f"Argument '{name}' must have gains of a finite loss to begin at, not as large as "
            f"{np.abs(gains).max():.3g}: begin nearer to one."
        )
    return point


def _in_memory(start: Start, budget: float | None, coarse: bool) -> tuple[Problem, Problem | None]:
    """The problem in float64, and where that is fine enough in float32, as copies if there is room."""
    problem, X = start.problem, start.given.X
    single = problem.astype(np.float32) if coarse else None
    if isinstance(X, Stored):
        return problem, single
    N, D = problem.shape
    room = math.inf if 12 * N * D < SMALL else available_memory() / 2
    if budget is not None:
        room = min(room, budget - base_bytes(N, D, 1))
    # Most passes are products of curvature: those of float64 are few where float32 does for these.
    often = single is None or N * D * D < COMPILED
    if often and not problem.ready(X) and room >= 8 * N * D:
        problem, room = problem.converted(), room - 8 * N * D
    if single is not None and not single.ready(X) and room >= 4 * N * D:
        single = single.converted()
    return problem, single
