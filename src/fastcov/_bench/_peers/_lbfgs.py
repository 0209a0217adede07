"""Exact fits as users would minimise: SciPy's L-BFGS-B on a loss and its gradient from any library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize

from ._given import Array, PeerInput

# The gradient of the exact loss over that at gains of one, as in exact fits by fastcov.
TOL = 1e-6

ValueAndGradient = Callable[[Array], tuple[float, Array]]


def lbfgs(loss: ValueAndGradient, start: Array, goal: float) -> Array:
    """Minimise from `start` until the gradient's norm is at most `goal`; return the gains."""
    first, _ = loss(start)
    last: dict[str, Any] = {}

    def scaled(z: Array) -> tuple[float, Array]:
        value, gradient = loss(z)
        last["gains"], last["slope"] = z.copy(), np.linalg.norm(gradient)
        return value / first, gradient / first

    def ended(_: Array) -> None:
        if last["slope"] <= goal:
            raise StopIteration

    # L-BFGS-B's own criteria apply to single entries; they are set tighter than the goal.
    gtol = goal / first / np.sqrt(len(start)) / 10
    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0.0, "gtol": gtol}
    minimize(scaled, start, jac=True, method="L-BFGS-B", callback=ended, options=options)
    if last["slope"] > goal:
        raise RuntimeError(f"L-BFGS-B stopped at a gradient of {last['slope']:.1e}, not {goal:.1e}.")
    return last["gains"]


def minimum(given: PeerInput, loss: ValueAndGradient) -> Callable[[], Array]:
    """Return a call that minimises from gains of one until the gradient is `tol` of that at the start."""
    ones = np.ones(len(given.X))

    def run() -> Array:
        _, slope = loss(ones)
        return lbfgs(loss, ones, (given.tol or TOL) * float(np.linalg.norm(slope)))

    return run
