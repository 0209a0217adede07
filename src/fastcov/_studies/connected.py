"""Predictions of held-out conditions by a whole connectivity, which needs covariances alone.

The columns x̂ of the training conditions are some of those of all conditions. So a W that was fitted to these
is x̂ Φ x̂ᵀ with zeros in Φ for the conditions that are held out. J(I + W)X = X̃B as in `_connectivity.reduced`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.progress import Progress
from .._connectivity.solve import Connected, Limits, path
from .._fitting.settings import Settings

Array = NDArray[np.float64]

# A `HeldOut`, a `Fold` and a `Prediction` are `Any` here: their classes import this module.


def connected_paths(
    study: Any, folds: Sequence[Any], method: str, settings: Settings, places: Sequence[int]
) -> list[dict[int, Any]]:
    """Predictions of each fold, which have one split, at the ridges with these indices."""
    return [
        {
            k: fold.prediction(*_columns(study, fold, each), residual=each.residual, status=each.status)
            for k, each in _fits(study, fold, method, settings, places)
        }
        for fold in folds
    ]


def connected_columns(
    study: Any, fold: Any, method: str, settings: Settings, place: int
) -> tuple[Array, Array]:
    """The columns (D, k) of held-out conditions, and the diagonal (D,), as predicted at one ridge."""
    ((_, found),) = _fits(study, fold, method, settings, [place])
    return _columns(study, fold, found)


def _fits(
    study: Any, fold: Any, method: str, settings: Settings, places: Sequence[int]
) -> Iterator[tuple[int, Connected]]:
    """Connectivities of the training conditions of a fold, at the ridges with these indices."""
    train, _ = fold.split
    limits = Limits(
        settings.exact_tol, settings.max_iterations,
        lambda gradient: settings.watch(Progress("minimise", gradient)),
    )  # fmt: skip
    reduced = study.reduced_for(fold)
    S = np.nan_to_num(fold.scaled[np.ix_(train, train)])
    scale = reduced.largest if study.relative else study.unit**2
    for k, found in path(method, reduced, S, [scale * study.ridges[k] for k in places], limits):
        yield places[k], found


def _columns(study: Any, fold: Any, found: Connected) -> tuple[Array, Array]:
    train, test = fold.split
    D = len(study.at_one)
    whole = study.reduced
    live = np.append(train, D) if whole.center else train
    phi = np.zeros((D + whole.center,) * 2)
    phi[np.ix_(live, live)] = found.phi
    Y = blas.product(whole.root, whole.response(phi))
    columns = blas.product(Y, np.ascontiguousarray(Y[:, test]), ta=True)
    diagonal = np.square(Y).sum(axis=0)
    predicted: tuple[Array, Array] = fold.with_terms(columns, diagonal, found.covariance)
    return predicted
