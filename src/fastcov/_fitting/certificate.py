"""Certificates: the residual of a linear system, or a gradient, computed apart from the solver."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._model.bounds import Bounds
from .._solvers import Solution, System
from .start import Start

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
    """Residual and status for each target (T,), with the warning that they call for."""

    residual: Array
    status: str
    warning: str | None = None
    slopes: Array | None = None  # G δ, of the linear system (T, D, D)


def certificates(
    start: Start, systems: Sequence[System], solutions: Sequence[Solution], tol: float
) -> list[Certificate]:
    """Certify linear systems that differ only in the penalty: a relative residual for each target of each."""
    error, overlaps = start.error, start.overlaps
    values = np.concatenate([solution.value for solution in solutions])
    slopes = start.slopes(values).reshape(len(systems), *error.shape)
    left = start.pulls((error - slopes).reshape(-1, *error.shape[1:]))
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
    gram: Array, start: Start, systems: Sequence[System], solutions: Sequence[Solution], tol: float
) -> list[Certificate]:
    """As `certificates`, but multiply with a GᵀG that the solver did not make; penalties are numbers."""
    error, overlaps = start.error, start.overlaps
    values, K = np.concatenate([solution.value for solution in solutions]), len(systems)
    ridges = np.repeat([float(system.penalty.own) for system in systems], len(overlaps))
    left = blas.product(values, gram)
    left += ridges[:, np.newaxis] * values
    left -= np.tile(overlaps, (K, 1))
    sizes, b = np.sqrt(blas.squares(left)).reshape(K, -1), blas.norms(overlaps)
    residuals = np.divide(sizes, b, out=np.zeros_like(sizes), where=b > 0)
    small = np.all(residuals <= BACKWARD_ERROR, axis=1)
    return [
        # Nearly all systems end here: judging the others takes longer than computing the residual.
        Certificate(residual, "converged") if fine and solution.status == "converged"
        else judged(system, error, b, solution, size, tol)
        for system, solution, size, residual, fine in zip(
            systems, solutions, sizes, residuals, small, strict=True
        )
    ]  # fmt: skip


def judged(
    system: System, error: Array, b: Array, solution: Solution, size: Array, tol: float
) -> Certificate:
    """Judge residuals of these norms (T,), relative to overlaps of norms b (T,)."""
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
    """Certify a minimum by the norm of its gradient (T, N) over `scale`, without the active set of bounds.

    `rounding` (T,) is the part of the norm that rounding explains, `goals` (T,) the norms that the minimiser
    was asked for, and `statuses` say how it ended.
    """
    if bounds is not None:
        held = [bounds.active(z, g) for z, g in zip(gains, gradient, strict=True)]
        gradient = np.where(held, 0.0, gradient)
    size = blas.norms(np.ascontiguousarray(gradient))
    residual = np.divide(size, scale, out=np.zeros_like(size), where=scale > 0)
    # The gradient of the iterations may differ from this one by rounding.
    if np.all(size <= np.maximum(1.001 * goals, 2.0 * rounding)):
        return Certificate(residual, "converged")
    status = max(statuses, key=_ORDER.index)
    short = f"at a gradient of {residual.max():.1e} of that at gains of one"
    warning = f"The minimiser stopped {short}, {_ENDS[status]}."
    status = "inaccurate" if status == "converged" else status
    return Certificate(residual, status, warning)
