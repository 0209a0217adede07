"""The four methods of `fit`: each takes a start and a ridge, and returns gains with their certificate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._exact_loss.objective import best_step
from .._solvers import (  # fmt: skip
    FOR_ANY_PENALTY,
    SOLVERS,
    Plan,
    Solution,
    System,
    base_bytes,
    choose,
    conditions,
    solver_budget,
)
from .._solvers._solution import RESOLVED, shared_null_space
from .certificate import certificates, certificates_by
from .minimised import at_bounds, minimised, objective_of
from .settings import NAMES, Outcome, Settings
from .small_fit import direct
from .start import Ridge, Start

Array = NDArray[np.float64]

# Relative residual of the solve that probes whether a system has an inverse.
PROBE_TOL = 1e-4


def linear(start: Start, ridge: Ridge, settings: Settings) -> Outcome:
    """δ = (GᵀG + λI)⁻¹ Gᵀe₀, or the same loss minimised within bounds."""
    return _linear(start, ridge, settings, final=True)


def _linear(start: Start, ridge: Ridge, settings: Settings, *, final: bool) -> Outcome:
    """`linear`; if not `final`, the gains only serve as a direction, and need no covariance."""
    if settings.bounds is not None:
        return minimised(start, ridge, settings, linear=True)
    found = direct(start, ridge, settings, final=final)
    if found is not None:
        return found
    N, D, T = start.n_gains, start.problem.shape[1], len(start.target)
    if not (start.norms.any() or ridge.penalty.uniform):  # nothing to correct, whatever the penalty
        return certified(
            start, ridge, settings, Solution(np.zeros((T, N)), "converged", {}), {"solver": None}
        )
    plan = plan_for(start, ridge, settings)
    budget = solver_budget(plan.available - base_bytes(N, D, T), settings.budget)
    chosen = SOLVERS[plan.solver]
    system = start.system(ridge)
    options = settings.options(budget)
    state = chosen.init(system, options)
    stats = {"solver": plan.solver, "reason": plan.reason}
    if isinstance(state, conditions.State):
        solution = state.solve_errors(start.error, start.overlaps)
    else:
        solution = chosen.solve(state, start.overlaps)
    unsolved = not system.definite and solution.status != "converged"
    if unsolved and (settings.solver, plan.solver) == ("auto", "pcg") and plan.cost("cholesky").fits:
        outcome = _linear(start, ridge, dataclasses.replace(settings, solver="cholesky"), final=final)
        reason = f"pcg ended with {solution.status} for this penalty"
        return dataclasses.replace(outcome, stats={**outcome.stats, "reason": reason})
    if not system.definite:
        loose = dataclasses.replace(state, options=dataclasses.replace(options, tol=PROBE_TOL))
        _require_regular(system, lambda rhs: chosen.solve(loose, rhs))
    return certified(start, ridge, settings, solution, stats)


def _require_regular(system: System, solve: Callable[[Array], Solution]) -> None:
    """Raise a ValueError where the system A is singular in double precision. Takes one more solve.

    If A has a null space, a random r has about 1/√N of its length there. Then either the iterations find no
    solution of A x = r, or x is as long as ‖r‖ over an eigenvalue that is rounding. The test uses units in
    which the diagonal of A is one, because penalties of channels may differ by orders of magnitude.
    """
    sizes = np.sqrt(system.diagonal + system.penalty.weights)
    r = np.random.default_rng(0).standard_normal((1, len(sizes)))
    with np.errstate(all="ignore"):
        found = solve(r * sizes)
        least = blas.norm(r) / blas.norm(found.value * sizes)
    unsolved = found.status in ("stagnated", "breakdown")
    if unsolved or not least > RESOLVED * len(sizes):
        raise shared_null_space()


def plan_for(start: Start, ridge: Ridge, settings: Settings) -> Plan:
    """Choose the solver of the linear system."""
    N, D, system = start.n_gains, start.problem.shape[1], start.system(ridge)
    solvers = tuple(SOLVERS) if system.definite else FOR_ANY_PENALTY
    if system.problem.rows.on_workers:  # GᵀG over channels can only be made in this process
        if not system.definite and settings.solver not in ("auto", "cholesky"):
            raise ValueError(
                "Argument 'ridge' must be a number, or one above zero for each channel, where X is on a Dask "
                "cluster, not a matrix or zero for some: compute X first, or use solver='cholesky'."
            )
        here = not system.definite or settings.solver == "cholesky"
        solvers = ("cholesky",) if here else ("dual", "spectral", "pcg")
    return choose(
        N, D, settings.solver, share=system.share, n_targets=len(start.target),
        tol=settings.linear_tol, itemsize=system.problem.dtype.itemsize, budget=settings.budget,
        rank=settings.rank, solvers=solvers,
    )  # fmt: skip


def certified(
    start: Start, ridge: Ridge, settings: Settings, solution: Solution, stats: dict[str, Any]
) -> Outcome:
    """The outcome of one linear system."""
    return all_certified(start, [ridge], settings, [solution], stats)[0]


def all_certified(
    start: Start, ridges: Sequence[Ridge], settings: Settings, solutions: Sequence[Solution],
    stats: dict[str, Any], gram: Array | None = None,
    covariances: Callable[[Array], Array] | None = None,
) -> list[Outcome]:  # fmt: skip
    """The outcomes of linear systems with several ridges, certified by the same passes over X, or by GᵀG.

    `covariances` computes those of all gains (K·T, N) at once, where it is given.
    """
    dead, K = start.dead, len(ridges)
    for solution in solutions:
        solution.value[:, dead] = 0.0  # the gain of a dead channel is exactly 1
    values = [solution.value for solution in solutions]
    gains = 1.0 + (values[0] if K == 1 else np.concatenate(values))
    if settings.bounds is not None:
        gains = settings.bounds.clip(gains)
        for solution, z in zip(solutions, gains.reshape(K, -1, len(dead)), strict=True):
            solution.value[:] = z - 1.0
    systems = [start.system(ridge) for ridge in ridges]
    given = (start, systems, solutions, settings.linear_tol)
    found = certificates(*given) if gram is None else certificates_by(gram, *given)
    there = [None] * K if covariances is None else covariances(gains).reshape(K, *start.target.shape)
    return [
        Outcome(
            z, solution.value, each.residual, each.status,
            {**stats, **at_bounds(settings.bounds, z), **solution.stats}, each.warning, covariance,
            each.slopes,
        )
        for z, solution, each, covariance in zip(
            gains.reshape(K, -1, len(dead)), solutions, found, there, strict=True
        )
    ]  # fmt: skip


def diagonal(start: Start, ridge: Ridge, settings: Settings) -> Outcome:
    """δ_i = g_iᵀe₀ / (‖g_i‖² + P_ii), and 0 where both are 0; bounds clip the gains."""
    denominator = start.norms + ridge.penalty.weights
    with np.errstate(invalid="ignore", divide="ignore"):
        delta = np.where(denominator > 0, start.overlaps / denominator, 0.0)
    return certified(start, ridge, settings, Solution(delta, "approximate", {}), {"solver": None})


def line_search(start: Start, ridge: Ridge, settings: Settings) -> Outcome:
    """A line search along the linear δ: its length minimises the exact loss, a quartic along the line."""
    return stepped(start, ridge, settings, _linear(start, ridge, settings, final=False))


def stepped(start: Start, ridge: Ridge, settings: Settings, found: Outcome) -> Outcome:
    """The line search from a linear outcome."""
    steps = []
    slopes = start.slopes(found.delta) if found.slopes is None else found.slopes
    for target, overlaps, delta, slope in zip(start.target, start.overlaps, found.delta, slopes, strict=True):
        objective = objective_of(start, target, ridge)
        at_one = objective.at_one_from(overlaps)
        longest = math.inf
        if settings.bounds is not None:  # the longest step within bounds
            longest = settings.bounds.longest(np.ones(len(delta)), delta)
        steps.append(best_step(objective.along(at_one, delta, slope), longest))
    step = np.array(steps)
    delta = found.delta * step[:, np.newaxis]
    gains = 1.0 + delta
    if settings.bounds is not None:
        gains = settings.bounds.clip(gains)
        delta = gains - 1.0
    stats = {**found.stats, "step": step, **at_bounds(settings.bounds, gains)}
    return dataclasses.replace(found, gains=gains, delta=delta, stats=stats)


def exact(start: Start, ridge: Ridge, settings: Settings) -> Outcome:
    """A minimum of the exact loss, reached from `gains0`; with several starts, the lowest one."""
    return minimised(start, ridge, settings, linear=False)


METHODS: dict[str, Callable[[Start, Ridge, Settings], Outcome]] = dict(
    zip(NAMES, (linear, diagonal, line_search, exact), strict=True)
)
