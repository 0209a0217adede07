"""The certificate of a linear fit: what is left of its system, computed apart from the solver."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from ._products import apply_adjoint, apply_atoms
from ._solvers import Solution, System

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


class ConvergenceWarning(UserWarning):
    """A solver stopped short of its tolerance; `Fit.status` and `Fit.residual` say how far."""


def certificate(
    system: System, error: Array, overlaps: Array, solution: Solution, tol: float
) -> tuple[Array, str]:
    """Relative residual of the linear system for each target, and the status it leaves."""
    problem, ridge = system.problem.astype(np.float64), system.ridge
    left = apply_adjoint(problem, error - apply_atoms(problem, solution.value))
    left -= ridge * solution.value
    size, b = np.linalg.norm(left, axis=1), np.linalg.norm(overlaps, axis=1)
    residual = np.divide(size, b, out=np.zeros_like(b), where=b > 0)
    if solution.status == "approximate":
        return residual, solution.status
    if solution.status == "minimum-norm" and ridge > 0:
        warnings.warn(
            "The ridge is too small beside GᵀG to count in double precision: these are the gains of "
            "minimum norm. Use a larger ridge, or ridge=0 if that is meant.",
            ConvergenceWarning,
            stacklevel=3,
        )
    reached = "minimum-norm" if solution.status == "minimum-norm" else "converged"
    asked = 1.001 * tol if "iterations" in solution.stats else BACKWARD_ERROR
    if np.all(residual <= asked):
        return residual, reached
    # ‖GᵀG‖ is at most its trace. What a minimum-norm solution leaves out has singular values up to
    # √(N ε) of the largest.
    norm = system.diagonal.sum()
    rounding = BACKWARD_ERROR * ((norm + ridge) * np.linalg.norm(solution.value, axis=1) + b)
    if solution.status == "minimum-norm":
        rounding += np.sqrt(len(solution.value[0]) * np.finfo(np.float64).eps * norm * squares(error))
    if np.all(size <= rounding):
        return residual, reached
    warnings.warn(
        f"The linear system is solved to a relative residual of {residual.max():.1e} only, "
        f"{_CAUSES[solution.status]}.",
        ConvergenceWarning,
        stacklevel=3,
    )
    return residual, "inaccurate" if solution.status == reached else solution.status


def squares(matrices: Array) -> Array:
    """‖·‖²_F of each matrix of a stack."""
    return np.square(matrices).sum(axis=(1, 2))
