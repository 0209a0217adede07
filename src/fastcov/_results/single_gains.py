"""Fit.single_gain_losses(): stored by an exact fit, computed from X for any other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._exact_loss.derivatives import derivatives
from .._exact_loss.single_gains import SingleGainLosses
from .._model.metric import ALL, OFF_DIAGONAL
from .._model.ridge_penalty import Penalty
from .kept import problem_of


def losses_of(fit: Any, X: ArrayLike | None) -> SingleGainLosses:
    """The quartics of a fit: those it stored, or computed from X."""
    if fit.groups is not None:
        raise ValueError(
            "Argument 'fit' must have a gain for each channel, not one for each group, which no channel "
            "changes alone: fit without groups."
        )
    if X is None:
        if fit._single_gains is None:
            raise ValueError(
                f"Argument 'X' must be the responses that were fitted, not None, for method={fit.method!r}"
                f"{' within bounds' if 'at_bounds' in fit.stats else ''}: only an exact fit keeps the losses."
            )
        return SingleGainLosses(fit.gains, fit._single_gains.copy())
    pairs = fit.stats["pairs"]
    if pairs not in (ALL, OFF_DIAGONAL):
        raise ValueError(
            f"Argument 'X' must be left out where pairs have weights ({pairs}), which a fit does not keep: "
            "use method='exact', which keeps the losses."
        )
    given = problem_of(fit, X)
    problem = given.astype(np.float64)
    target = problem.target(fit.target())
    gains = np.atleast_2d(fit.gains)
    penalty = Penalty.of("ridge", fit.ridge, len(gains[0])).in_units(problem.exponent, problem.sizes == 0)
    if problem.rows.in_memory and not problem.ready(problem.X):
        problem = problem.converted()
    there = derivatives(problem, target, penalty, gains)
    coefficients = np.empty((*gains.shape, 5))
    coefficients[..., 0] = there.value[:, np.newaxis]
    coefficients[..., 1:] = np.moveaxis(there.quartics, 1, -1)
    coefficients = given.unscaled(coefficients, y=4)
    return SingleGainLosses(fit.gains, coefficients if fit.gains.ndim == 2 else coefficients[0])
