"""Weights within bounds: the exact minimum, by exchanging channels between a free set and the bounds.

The problem is min ½ δᵀHδ − bᵀδ with H = GᵀG + P, within bounds. Given which channels are free, the others
are at a bound, and the free ones solve a linear system. Free channels that leave their bounds are then sent
to them, and channels at a bound that the gradient draws inside become free. That is done to all at once as
long as their number falls, and otherwise to the last of them alone, which comes to an end where H is positive
definite (block principal pivoting: Júdice and Pires 1994, Kim and Park 2011). The result is as accurate as a
linear solve, and some ten solves are usual.

The minimiser of `fit` goes along the gradient and halves its steps. Squared differences are all positive, and
so alike that it stops far from the minimum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.progress import Progress
from .._exact_loss.objective import Objective
from .._fitting.certificate import BACKWARD_ERROR, stationarity
from .._fitting.minimised import at_bounds
from .._fitting.settings import Outcome, Settings
from .._fitting.start import Ridge, Start
from .._model.bounds import Bounds
from .._model.products import apply_adjoint, apply_atoms
from .._model.ridge_penalty import Penalty
from .._solvers import FOR_ANY_PENALTY, SOLVERS, System, choose, solver_budget

Array = NDArray[np.float64]
Sides = NDArray[np.int8]  # of each channel (N,): −1 at its lower bound, 1 at its upper one, 0 free

# How often all channels are exchanged although their number did not fall.
PATIENCE = 3


def bounded(start: Start, ridge: Ridge, settings: Settings, first: Sides | None = None) -> Outcome:
    """The minimum for each target, from the sides in `first` (T, N); `stats["sides"]` has where they end."""
    assert settings.bounds is not None
    found = [
        _Exchange(start, ridge, settings, settings.bounds, t).run(None if first is None else first[t])
        for t in range(len(start.target))
    ]
    gains = np.stack([one.gains for one in found])
    shared = (ridge.penalty, start.covariance, start.norms, None, True, False)
    points = [Objective(start.problem, S, *shared).at(z) for S, z in zip(start.target, gains, strict=True)]
    scale = blas.norms(start.overlaps)
    verdict = stationarity(
        np.stack([point.gradient for point in points]), np.array([point.rounding for point in points]), gains,
        settings.bounds, [one.status for one in found], settings.linear_tol * scale, scale,
    )  # fmt: skip
    stats = {
        "solver": found[0].solver, "reason": "of the channels that no bound holds",
        "exchanges": sum(one.exchanges for one in found), "sides": np.stack([one.sides for one in found]),
        **at_bounds(settings.bounds, gains),
    }  # fmt: skip
    return Outcome(gains, gains - 1.0, verdict.residual, verdict.status, stats, verdict.warning)


def bounded_path(
    start: Start, grid: Sequence[Ridge], settings: Settings
) -> Iterator[tuple[list[int], list[Outcome]]]:
    """As `outcomes` of a ridge path: from the largest ridge on, each from the sides of the one before."""
    sides: Sides | None = None
    for k in sorted(range(len(grid)), key=lambda k: -grid[k].penalty.largest):
        outcome = bounded(start, grid[k], settings, sides)
        sides = outcome.stats["sides"]
        yield [k], [outcome]


@dataclasses.dataclass
class _Found:
    gains: Array
    sides: Sides
    status: str
    exchanges: int
    solver: str | None


class _Exchange:
    """The minimum of one target."""

    def __init__(self, start: Start, ridge: Ridge, settings: Settings, bounds: Bounds, t: int) -> None:
        self.start, self.penalty, self.settings, self.t = start, ridge.penalty, settings, t
        self.bounds = bounds
        self.lower, self.upper = bounds.lower - 1.0, bounds.upper - 1.0
        # Channels that do not answer, or whose bounds meet, never move.
        self.fixed = (start.norms == 0.0) | (bounds.lower >= bounds.upper)
        self.diagonal = start.norms + np.asarray(self.penalty.weights)
        self.solver: str | None = None

    def run(self, sides: Sides | None) -> _Found:
        most, infinity = self.settings.max_iterations, len(self.fixed) + 1
        sides = np.zeros(len(self.fixed), np.int8) if sides is None else sides.copy()
        fewest, patience, status = infinity, PATIENCE, "max-iterations"
        delta, wrong = self._solved(sides)
        exchanges = 0
        while exchanges < most:
            n = int(np.count_nonzero(wrong))
            if n == 0:
                status = "converged"
                break
            if n < fewest:
                fewest, patience = n, PATIENCE
            elif patience > 0:
                patience -= 1
            else:  # Murty's rule
                wrong = np.where(np.arange(len(wrong)) == np.flatnonzero(wrong)[-1], wrong, 0)
            free = sides == 0
            sides = np.where(wrong != 0, np.where(free, wrong, 0), sides).astype(np.int8)
            delta, wrong = self._solved(sides)
            exchanges += 1
            self.settings.watch(Progress("iteration", 0.0, exchanges))
        gains = self.bounds.clip(1.0 + delta)
        return _Found(gains, sides, status, exchanges, self.solver)

    def _solved(self, sides: Sides) -> tuple[Array, Sides]:
        """δ (N,) for these sides; and what is wrong with these (N,).

        That is −1 or 1 for a free channel beyond that bound, and 1 for one at a bound that it should leave.
        """
        start = self.start
        free = (sides == 0) & ~self.fixed
        delta = np.where(sides < 0, self.lower, np.where(sides > 0, self.upper, 0.0))
        delta[self.fixed] = np.clip(0.0, self.lower, self.upper)[self.fixed]
        delta[free] = 0.0
        places = np.flatnonzero(free)
        if len(places):
            rhs = self._downhill(delta)[places]
            delta[places] = self._solve(places, rhs)
        left = self._downhill(delta)
        size = max(float(blas.norm(left[places])) if len(places) else 0.0,
                   BACKWARD_ERROR * float(blas.norm(start.overlaps[self.t])))  # fmt: skip
        room = size / np.where(self.diagonal > 0, self.diagonal, 1.0)
        wrong = np.zeros(len(sides), np.int8)
        wrong[free & (delta < self.lower - room)] = -1
        wrong[free & (delta > self.upper + room)] = 1
        held = (sides != 0) & ~self.fixed
        wrong[held & (sides * left < -size)] = 1
        return delta, wrong

    def _downhill(self, delta: Array) -> Array:
        """Gᵀ(e₀ − Gδ) − Pδ (N,), minus the gradient."""
        problem = self.start.problem
        if not delta.any():
            return self.start.overlaps[self.t].copy()
        error = self.start.error[self.t] - apply_atoms(problem, delta[np.newaxis])[0]
        return apply_adjoint(problem, error[np.newaxis])[0] - self.penalty.products(delta)

    def _solve(self, places: NDArray[np.intp], rhs: Array) -> Array:
        start, penalty, settings = self.start, self.penalty, self.settings
        own = penalty.own if np.ndim(penalty.own) == 0 else np.asarray(penalty.own)[places]
        part = Penalty(own, None if penalty.root is None else penalty.root[:, places])
        system = System(start.given.take(places), part, start.norms[places])
        (n, D) = system.problem.shape
        plan = choose(
            n, D, settings.solver, share=system.share, n_targets=1, tol=settings.linear_tol,
            itemsize=start.given.dtype.itemsize, budget=settings.budget, rank=settings.rank,
            solvers=tuple(SOLVERS) if system.definite else FOR_ANY_PENALTY,
        )  # fmt: skip
        self.solver = plan.solver
        options = dataclasses.replace(
            settings.options(solver_budget(plan.available, settings.budget)), watch=lambda _: None
        )
        chosen = SOLVERS[plan.solver]
        found: Array = chosen.solve(chosen.init(system, options), rhs[np.newaxis]).value[0]
        return found
