"""The certificate of a fit, computed apart from the solver: what is left of its system, or its gradient."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._model.bounds import Bounds
from .._model.products import apply_adjoint, apply_atoms
from .._solvers import Solution, System

Array = NDArray[np.float64]

# A backward stable solver leaves a residual of a few units of rounding in ‖A‖‖δ‖ + ‖b‖.
BACKWARD_ERROR = 1e-13

_CAUSES = {
    "converged": "more than rounding explains: use a larger ridge",
    "minimum-norm": "more than rounding explains: use a larger ridge",
    "max-iterations": "when the iterations ended: use another solver, more max_iterations or a larger ridge",
    "stagnated": "where rounding stops it: use a larger ridge, a larger tol, or solver='cholesky'",
    "breakdown": "where rounding has broken it: use a larger ridge, or solver='cholesky'",
}

_ORDER = ("converged", "stagnated", "max-iterations", "breakdown")
_ENDS = {
    "converged": "more than rounding explains: use a larger ridge or a larger tol",
    "stagnated": "where rounding stops it: use a larger tol or a larger ridge",
    "max-iterations": "when the iterations ended: use more max_iterations, a larger ridge or a larger tol",
    "breakdown": "where the loss is beyond double precision: begin nearer to one",
}


class ConvergenceWarning(UserWarning):
    """A solver stopped short of its tolerance; `Fit.status` and `Fit.residual` say how far."""


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What was found for each target (T,), the status it leaves, and what to warn of."""

    residual: Array
    status: str
    warning: str | None = None
    slopes: Array | None = None  # G δ, of the linear system (T, D, D)


def certificates(
    systems: Sequence[System], error: Array, overlaps: Array, solutions: Sequence[Solution], tol: float
) -> list[Certificate]:
    """Relative residuals for each target of each of some linear systems that differ in the penalty alone."""
    problem = systems[0].problem.astype(np.float64)
    values = np.concatenate([solution.value for solution in solutions])
    slopes = apply_atoms(problem, values).reshape(len(systems), *error.shape)
    left = apply_adjoint(problem, (error - slopes).reshape(-1, *error.shape[1:]))
    b = blas.norms(overlaps)
    found = []
    for system, solution, slope, part in zip(
        systems, solutions, slopes, left.reshape(len(systems), *overlaps.shape), strict=True
    ):
        part -= system.penalty.products(solution.value)
        verdict = judged(system, error, b, solution, blas.norms(part), tol)
        found.append(dataclasses.replace(verdict, slopes=slope))
    return found


def certificates_by(
    gram: Array, systems: Sequence[System], error: Array, overlaps: Array, solutions: Sequence[Solution],
    tol: float,
) -> list[Certificate]:  # fmt: skip
    """As `certificates`, by GᵀG made apart from the solver, for penalties of one number each."""
    values, K = np.concatenate([solution.value for solution in solutions]), len(systems)
    ridges = np.repeat([float(system.penalty.own) for system in systems], len(overlaps))
    left = blas.product(values, gram)
    left += ridges[:, np.newaxis] * values
    left -= np.tile(overlaps, (K, 1))
    sizes, b = np.sqrt(blas.squares(left)).reshape(K, -1), blas.norms(overlaps)
    residuals = np.divide(sizes, b, out=np.zeros_like(sizes), where=b > 0)
    small = np.all(residuals <= BACKWARD_ERROR, axis=1)
    return [
        # As nearly all are; what else there is to be said takes longer than the residual.
        Certificate(residual, "converged") if fine and solution.status == "converged"
        else judged(system, error, b, solution, size, tol)
        for system, solution, size, residual, fine in zip(
            systems, solutions, sizes, residuals, small, strict=True
        )
    ]  # fmt: skip


def judged(
    system: System, error: Array, b: Array, solution: Solution, size: Array, tol: float
) -> Certificate:
    """What a residual of this size (T,) says, beside overlaps of size b (T,)."""
    penalty = system.penalty
    residual = np.divide(size, b, out=np.zeros_like(b), where=b > 0)
    if solution.status == "approximate":
        return Certificate(residual, solution.status)
    small = None
    if solution.status == "minimum-norm" and penalty.largest > 0:
        small = (
            "The ridge is too small beside GᵀG to count in double precision: these are the gains of "
            "minimum norm. Use a larger ridge, or ridge=0 if that is meant."
        )
    reached = "minimum-norm" if solution.status == "minimum-norm" else "converged"
    asked = 1.001 * tol if "iterations" in solution.stats else BACKWARD_ERROR
    if np.all(residual <= asked):
        return Certificate(residual, reached, small)
    # ‖GᵀG‖ is at most its trace. What a minimum-norm solution leaves out has singular values up to
    # √(N ε) of the largest.
    norm = system.diagonal.sum()
    rounding = BACKWARD_ERROR * (system.sizes(solution.value) + b)
    if solution.status == "minimum-norm":
        rounding += np.sqrt(len(solution.value[0]) * np.finfo(np.float64).eps * norm * blas.squares(error))
    if np.all(size <= rounding):
        return Certificate(residual, reached, small)
    warning = (
        f"The linear system is solved to a relative residual of {residual.max():.1e} only, "
        f"{_CAUSES[solution.status]}."
    )
    status = "inaccurate" if solution.status == reached else solution.status
    return Certificate(residual, status, warning)


def stationarity(
    gradient: Array,
    rounding: Array,
    gains: Array,
    bounds: Bounds | None,
    statuses: Sequence[str],
    goals: Array,
    scale: Array,
) -> Certificate:
    """Norm of the gradient for each target (T, N), less what bounds hold, over `scale`.

    `rounding` explains as much of it (T,); `goals` are what the minimiser was to reach, statuses how it
    ended.
    """
    if bounds is not None:
        held = [bounds.active(z, g) for z, g in zip(gains, gradient, strict=True)]
        gradient = np.where(held, 0.0, gradient)
    size = blas.norms(np.ascontiguousarray(gradient))
    residual = np.divide(size, scale, out=np.zeros_like(size), where=scale > 0)
    # What the iterations found may lie a rounding apart from what is found here.
    if np.all(size <= np.maximum(1.001 * goals, 2.0 * rounding)):
        return Certificate(residual, "converged")
    status = max(statuses, key=_ORDER.index)
    short = f"at a gradient of {residual.max():.1e} of that at gains of one"
    warning = f"The minimiser stopped {short}, {_ENDS[status]}."
    status = "inaccurate" if status == "converged" else status
    return Certificate(residual, status, warning)
