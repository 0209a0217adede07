"""Exact fits as users minimise: L-BFGS-B of SciPy over a loss and its gradient, whatever computes those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize

from ._given import Array, Given

# The gradient of the exact loss over that at gains of one, as exact fits have it here.
TOL = 1e-6

ValueAndGradient = Callable[[Array], tuple[float, Array]]


def lbfgs(loss: ValueAndGradient, start: Array, goal: float) -> Array:
    """Gains from a start at which the gradient's norm is at most `goal`."""
    first, _ = loss(start)
    last: dict[str, Any] = {}

    def scaled(z: Array) -> tuple[float, Array]:
        value, gradient = loss(z)
        last["gains"], last["slope"] = z.copy(), np.linalg.norm(gradient)
        return value / first, gradient / first

    def ended(_: Array) -> None:
        if last["slope"] <= goal:
            raise StopIteration

    # Its own criteria are of single entries; they are set beyond the goal.
    gtol = goal / first / np.sqrt(len(start)) / 10
    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0.0, "gtol": gtol}
    minimize(scaled, start, jac=True, method="L-BFGS-B", callback=ended, options=options)
    if last["slope"] > goal:
        raise RuntimeError(f"L-BFGS-B stopped at a gradient of {last['slope']:.1e}, not {goal:.1e}.")
    return last["gains"]


def minimum(given: Given, loss: ValueAndGradient) -> Callable[[], Array]:
    """A call that goes from gains of one to a gradient of `tol` of that there."""
    ones = np.ones(len(given.X))

    def run() -> Array:
        _, slope = loss(ones)
        return lbfgs(loss, ones, (given.tol or TOL) * float(np.linalg.norm(slope)))

    return run
