"""The responses of a fit, for what is computed from them later."""

from __future__ import annotations

import dataclasses
import math
import weakref
from typing import Any

import numpy as np

from .._model.metric import ALL, OFF_DIAGONAL
from .._model.problem import Problem

# A fit keeps X up to this size. It refers to a larger X without keeping it in memory.
KEPT_BYTES = 1 << 26


# Means over channels of the same responses differ by less than this share of their size, in any precision.
SAME = 1e-4


class Kept:
    """The problem of a fit, as long as its X is there. Neither files nor pickles contain it."""

    def __init__(self, given: Problem | None) -> None:
        self._problem: Problem | None = None
        self._refer: Any = None
        X = None if given is None else given.X
        if given is None or not isinstance(X, np.ndarray):
            return
        if X.nbytes <= KEPT_BYTES:
            self._problem = given
        else:
            self._problem = dataclasses.replace(given, X=np.empty((0, 0), X.dtype))
            self._refer = weakref.ref(X)

    def get(self) -> Problem | None:
        """The problem; None where its X is gone, or was not in memory."""
        if self._refer is None or self._problem is None:
            return self._problem
        X = self._refer()
        return None if X is None else dataclasses.replace(self._problem, X=X)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Kept, (None,))


def problem_of(fit: Any, X: Any, *, weighed: bool = True) -> Problem:
    """The problem of a fit, from X if it is given; otherwise from the responses that the fit has kept.

    Not `weighed`, nuisance terms and weights of pairs do not matter.
    """
    if X is None:
        kept = None if fit._kept is None else fit._kept.get()
        if kept is None:
            raise ValueError(
                "Argument 'X' must be the responses that were fitted, not None: a fit keeps no X that is "
                "in a file or larger than 64 MB, and neither does a file of a fit. Pass X=X."
            )
        return kept
    pairs = fit.stats["pairs"]
    if weighed and pairs not in (ALL, OFF_DIAGONAL):
        raise ValueError(
            f"Argument 'X' must be left out where pairs have weights ({pairs}), which X does not tell."
        )
    given = Problem.of(X, center=fit.stats["center"])
    if given.shape != tuple(fit.stats["shape"]):
        raise ValueError(
            f"Argument 'X' must be the responses that were fitted, {fit.stats['shape'][0]} x "
            f"{fit.stats['shape'][1]}, not of shape {given.shape}."
        )
    names = given.labels.channels
    if names is not None and fit.channels is not None and tuple(names) != tuple(fit.channels):
        raise ValueError(
            "Argument 'X' must have the channels that were fitted, in their order, not others: use "
            "X.loc[fit.channels]."
        )
    conditions = given.labels.conditions
    if conditions is not None and fit.conditions is not None and tuple(conditions) != tuple(fit.conditions):
        raise ValueError(
            "Argument 'X' must have the conditions that were fitted, in their order, not others: use "
            "X[list(fit.conditions)]."
        )
    if not weighed:
        _check_mean(fit, given)
        return given
    return given.with_metric(tuple(fit.nuisance) or None, pairs, given.labels)


def _check_mean(fit: Any, given: Problem) -> None:
    """Raise if X, which is given for a connectivity, has not the mean over channels of what was fitted.

    Other responses would give another W, which nothing else shows.
    """
    if not given.center:
        return
    mean = math.sqrt(given.shape[0]) * given.unscaled(given.mean, x=1)
    size = np.sqrt(np.trace(fit.covariance_at_one()) + np.square(fit._mean).sum())
    if np.abs(mean - fit._mean).max() > SAME * size:
        raise ValueError(
            "Argument 'X' must be the responses that were fitted, not others: means over channels differ."
        )
