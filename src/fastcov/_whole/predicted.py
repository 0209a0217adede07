"""The covariances of held-out conditions as gains predict them, pair by pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._compute.jit import blas_for
from .._results.cross_validation import CrossValidation
from .._studies.held_out import HeldOut

Array = NDArray[np.float64]


def held_out_covariances(study: HeldOut, cv: CrossValidation) -> Array | None:
    """Predictions at the best ridge (D, D), in units of Y's covariance.

    Each is the mean over the folds that held out one of the two conditions, or both; NaN where none did. None
    if gains of folds were not kept, or no ridge has a finite score.
    """
    method = cv.methods[0]
    k, gains = cv.place(method), cv.scores[method].gains
    if k < 0 or gains is None:
        return None
    D = len(study.target)
    total, times, order = np.zeros((D, D)), np.zeros((D, D)), np.arange(D)
    with blas_for(0):
        for (train, test), mine in zip(cv.folds, gains[:, k], strict=True):
            fold = study.fold((train, test), order)
            columns, _ = fold.columns(mine)
            columns /= study.unit * fold.scale
            everything = np.concatenate([train, test])
            total[np.ix_(everything, test)] += columns[everything]
            times[np.ix_(everything, test)] += 1.0
            total[np.ix_(test, train)] += columns[train].T
            times[np.ix_(test, train)] += 1.0
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(times > 0, total / times, np.nan))
