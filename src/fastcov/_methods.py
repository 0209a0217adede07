"""The methods of a fit: from the problem at gains of one and a ridge to gains and their certificate."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._bounds import Bounds
from ._certificate import ConvergenceWarning, certificate, stationarity
from ._exact import Minimum, minimise
from ._jit import blas_for
from ._objective import COMPILED, Objective, Point, best_step
from ._problem import Problem
from ._products import apply_atoms
from ._solvers import (
    SOLVERS,
    Options,
    Plan,
    Progress,
    Solution,
    base_bytes,
    choose,
    solver_budget,
)
from ._sources import Stored
from ._start import Ridge, Start
from ._validation import (
    SMALL,
    available_memory,
    check_budget,
    check_choice,
    check_gains,
    check_generator,
    check_tolerance,
    check_whole,
    require_memory,
)

Array = NDArray[np.float64]

# Of the residual of a linear system, and of the gradient of the exact loss.
LINEAR_TOL, EXACT_TOL = 1e-8, 1e-6
# What a minimiser holds at once, of N and of D x D numbers, beside what a fit holds.
MINIMISER_VECTORS, MINIMISER_MATRICES = 24, 16
# Spread of the logarithms of random starts: most lie within a factor of three of the first.
START_SPREAD = 0.5


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a user may ask of a method; each takes what concerns it."""

    solver: str
    options: Options
    tol: float  # relative norm of the gradient of the exact loss
    memory_budget: float | None
    bounds: Bounds | None
    gains0: Array | None  # (N,) or (T, N)
    n_starts: int

    @classmethod
    def of(
        cls,
        method: str,
        given: Problem,
        *,
        solver: str = "auto",
        tol: float | None = None,
        max_iterations: int = 1000,
        rank: int | None = None,
        rng: Any = 0,
        memory_budget: float | None = None,
        bounds: Any = None,
        gains0: Any = None,
        n_starts: int = 1,
    ) -> Settings:
        """Checked, for responses of this shape."""
        N = given.shape[0]
        check_choice("method", method, tuple(METHODS))
        check_choice("solver", solver, ("auto", *SOLVERS))
        if rank is not None and check_whole("rank", rank, 0) > N:
            raise ValueError(f"Argument 'rank' must be at most the {N} channels, not {rank}.")
        if tol is not None:
            check_tolerance(tol)
        limits = Bounds.of(bounds, N)
        options = Options(
            tol=tol or LINEAR_TOL, max_iterations=check_whole("max_iterations", max_iterations, 1),
            rank=rank, rng=check_generator(rng),
        )  # fmt: skip
        if gains0 is not None:
            gains0 = check_gains("gains0", gains0, N, batch=True)
            outside = np.zeros(gains0.shape, bool) if limits is None else gains0 != limits.clip(gains0)
            if outside.any():
                i = int(np.argwhere(outside)[0][-1])
                raise ValueError(
                    f"Argument 'gains0' must lie within the bounds, not at {gains0[..., i].ravel()[0]:g} for "
                    f"channel {i}: clip it."
                )
        n_starts = check_whole("n_starts", n_starts, 1)
        if method != "exact" and (gains0 is not None or n_starts > 1):
            raise ValueError(
                f"Argument 'method' must be 'exact' where gains0 or n_starts are given, not {method!r}: the "
                "others do not depend on where they start."
            )
        if method == "line-search" and limits is not None and not np.all(limits.clip(np.ones(N)) == 1.0):
            raise ValueError(
                "Argument 'bounds' must allow gains of one for method='line-search', whose line begins "
                "there: use method='exact'."
            )
        budget = check_budget(memory_budget)
        return cls(solver, options, tol or EXACT_TOL, budget, limits, gains0, n_starts)

    def watched(self, watch: Callable[[Progress], object], **options: Any) -> Settings:
        """The same, told where; and with other options of solvers."""
        return dataclasses.replace(self, options=dataclasses.replace(self.options, watch=watch, **options))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Gains of each target with their certificate."""

    gains: Array  # (T, N)
    delta: Array  # gains less one, with more digits where they are near one
    residual: Array  # (T,)
    status: str
    stats: dict[str, Any]
    warning: str | None = None  # that it stopped short
    covariance: Array | None = None  # at the gains, if it is there anyway

    def warn(self, stacklevel: int = 3) -> None:
        """What `fit` says to its caller."""
        if self.warning is not None:
            warnings.warn(self.warning, ConvergenceWarning, stacklevel=stacklevel)


def linear(start: Start, ridge: Ridge, settings: Settings) -> Outcome:
    """δ = (GᵀG + λI)⁻¹ Gᵀe₀, or the same loss minimised within bounds."""
    if settings.bounds is not None:
        return _minimised(start, ridge, settings, linear=True)
    (N, D), T, options = start.problem.shape, len(start.target), settings.options
    plan = plan_for(start, ridge, settings)
    budget = solver_budget(plan.available - base_bytes(N, D, T), settings.memory_budget)
    chosen = SOLVERS[plan.solver]
    if isinstance(start.given.X, Stored):
        start.given.X.watch = None  # the solver tells more
    state = chosen.init(start.system(ridge), dataclasses.replace(options, budget=budget))
    stats = {"solver": plan.solver, "reason": plan.reason}
    return certified(start, ridge, settings, chosen.solve(state, start.overlaps), stats)


def plan_for(start: Start, ridge: Ridge, settings: Settings) -> Plan:
    """Which solver for the linear system."""
    N, D = start.problem.shape
    return choose(
        N, D, settings.solver, share=start.system(ridge).share, n_targets=len(start.target),
        tol=settings.options.tol, itemsize=start.given.dtype.itemsize, budget=settings.memory_budget,
        rank=settings.options.rank,
    )  # fmt: skip


def certified(
    start: Start, ridge: Ridge, settings: Settings, solution: Solution, stats: dict[str, Any]
) -> Outcome:
    """The outcome of a linear system."""
    delta = solution.value
    delta[:, start.problem.sizes == 0] = 0.0  # the gain of a dead channel is exactly 1
    gains = 1.0 + delta
    if settings.bounds is not None:
        gains = settings.bounds.clip(gains)
        delta[:] = gains - 1.0
        stats = {**stats, **_at_bounds(settings.bounds, gains)}
    found = certificate(start.system(ridge), start.error, start.overlaps, solution, settings.options.tol)
    return Outcome(gains, delta, found.residual, found.status, {**stats, **solution.stats}, found.warning)


def diagonal(start: Start, ridge: Ridge, settings: Settings) -> Outcome:
    """δ_i = g_iᵀe₀ / (‖g_i‖² + λ), zero where both are; within bounds, the nearest value."""
    denominator = start.norms + ridge.scaled
    with np.errstate(invalid="ignore", divide="ignore"):
        delta = np.where(denominator > 0, start.overlaps / denominator, 0.0)
    return certified(start, ridge, settings, Solution(delta, "approximate", {}), {"solver": None})


def line_search(start: Start, ridge: Ridge, settings: Settings) -> Outcome:
    """The linear direction, with the length at which the exact loss along it is least."""
    return stepped(start, ridge, settings, linear(start, ridge, settings))


def stepped(start: Start, ridge: Ridge, settings: Settings, found: Outcome) -> Outcome:
    """A linear outcome with the best length."""
    steps = []
    for target, delta in zip(start.target, found.delta, strict=True):
        objective = Objective(start.problem, target, ridge.scaled, start.covariance, start.norms)
        at_one = objective.at(np.ones(len(delta)))
        slope = apply_atoms(start.problem, delta[np.newaxis])[0]
        longest = math.inf
        if settings.bounds is not None:  # as far as they allow
            longest = settings.bounds.longest(np.ones(len(delta)), delta)
        steps.append(best_step(objective.along(at_one, delta, slope), longest))
    step = np.array(steps)
    delta = found.delta * step[:, np.newaxis]
    gains = 1.0 + delta
    if settings.bounds is not None:
        gains = settings.bounds.clip(gains)
        delta = gains - 1.0
    stats = {**found.stats, "step": step, **_at_bounds(settings.bounds, gains)}
    return dataclasses.replace(found, gains=gains, delta=delta, stats=stats)


def exact(start: Start, ridge: Ridge, settings: Settings) -> Outcome:
    """The minimum of the exact loss that is reached from `gains0`, or the least of several."""
    return _minimised(start, ridge, settings, linear=False)


METHODS: dict[str, Callable[[Start, Ridge, Settings], Outcome]] = {
    "linear": linear,
    "diagonal": diagonal,
    "line-search": line_search,
    "exact": exact,
}


def _minimised(start: Start, ridge: Ridge, settings: Settings, *, linear: bool) -> Outcome:
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
    if not start.norms.any():  # channels that are all alike, or dead: nothing but the ridge
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
        objective = Objective(problem, target, ridge.scaled, start.covariance, start.norms, single, linear)
        minima = []
        for k in range(1 if linear else settings.n_starts):
            z = gains if k == 0 else gains * np.exp(START_SPREAD * random.standard_normal(N))
            z = np.where(start.problem.sizes == 0, 1.0, z)  # the gain of a dead channel
            name = "bounds" if settings.gains0 is None else "gains0"
            point = _begin(objective, z if bounds is None else bounds.clip(z), name)
            with blas_for(0):  # products are the kernels', and vectors not worth threads
                minima.append(
                    minimise(
                        objective, point, bounds,
                        goal=goal, max_iterations=options.max_iterations, watch=watch,
                    )
                )  # fmt: skip
        best.append(min(minima, key=lambda minimum: minimum.point.value))
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
    stats |= _at_bounds(bounds, gains)
    shared = (ridge.scaled, start.covariance, start.norms, None, linear, False)
    plain = [Objective(start.problem, S, *shared) for S in start.target]
    found = stationarity(plain, gains, bounds, [m.status for m in best], goals, scale)
    covariance = None if linear else found.covariance
    return Outcome(gains, gains - 1.0, found.residual, found.status, stats, found.warning, covariance)


def _at_bounds(bounds: Bounds | None, gains: Array) -> dict[str, Any]:
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
