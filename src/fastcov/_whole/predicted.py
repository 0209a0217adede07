"""The covariances of held-out conditions as they are predicted, pair by pair."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute.jit import blas_for
from .._connectivity.solve import METHODS
from .._fitting.settings import Settings
from .._results.cross_validation import CrossValidation
from .._studies.connected import connected_columns
from .._studies.held_out import HeldOut

Array = NDArray[np.float64]


def held_out_covariances(study: HeldOut, cv: CrossValidation, **limits: Any) -> Array | None:
    """Predictions at the best ridge (D, D), in units of Y's covariance.

    Each is the mean over the folds that held out one of the two conditions, or both; NaN where none did. None
    if gains of folds were not kept, or no ridge has a finite score. A connectivity is fitted to each fold
    again, within `limits`.
    """
    method = cv.methods[0]
    k, gains = cv.place(method), cv.scores[method].gains
    if k < 0 or (gains is None and method not in METHODS):
        return None
    settings = Settings.of(method, study.given, **limits)
    D = len(study.target)
    total, times, order = np.zeros((D, D)), np.zeros((D, D)), np.arange(D)
    with blas_for(0):
        for f, (train, test) in enumerate(cv.folds):
            fold = study.fold((train, test), order)
            if gains is None:
                columns, _ = connected_columns(study, fold, method, settings, k)
            else:
                columns, _ = fold.columns(gains[f, k])
            columns /= study.unit * fold.scale
            everything = np.concatenate([train, test])
            total[np.ix_(everything, test)] += columns[everything]
            times[np.ix_(everything, test)] += 1.0
            total[np.ix_(test, train)] += columns[train].T
            times[np.ix_(test, train)] += 1.0
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(times > 0, total / times, np.nan))
