"""Predictions of held-out conditions by a whole connectivity, which needs covariances alone.

The columns x̂ of the training conditions are some of those of all conditions. So a W that was fitted to these
is x̂ Φ x̂ᵀ with zeros in Φ for the conditions that are held out. J(I + W)X = X̃B as in `_connectivity.reduced`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.progress import Progress
from .._connectivity import mixed
from .._connectivity.reduced import Reduced
from .._connectivity.solve import MIXED, Connected, Limits, path
from .._fitting.settings import Settings

Array = NDArray[np.float64]

# A `HeldOut`, a `Fold` and a `Prediction` are `Any` here: their classes import this module.


def connected_paths(
    study: Any, folds: Sequence[Any], method: str, settings: Settings, places: Sequence[int]
) -> list[dict[int, Any]]:
    """Predictions of each fold, which have one split, at the ridges with these indices."""
    train, _ = folds[0].split
    found: list[dict[int, Any]] = []
    limits = Limits(
        settings.exact_tol, settings.max_iterations,
        lambda gradient: settings.watch(Progress("minimise", gradient)),
    )  # fmt: skip
    if method == MIXED:
        return [_mixed(study, fold, settings, places, limits) for fold in folds]
    for fold in folds:
        reduced = study.reduced_for(fold)
        S = np.nan_to_num(fold.scaled[np.ix_(train, train)])
        with reduced.products():
            scale = reduced.largest if study.relative else study.unit**2
        ridges = [scale * study.ridges[k] for k in places]
        with study.reduced.products():
            found.append({
                places[k]: _predicted(study, fold, each)
                for k, each in path(method, reduced, S, ridges, limits)
            })  # fmt: skip
    return found


def _predicted(study: Any, fold: Any, found: Connected) -> Any:
    train, test = fold.split
    D = len(study.at_one)
    whole = study.reduced
    live = np.append(train, D) if whole.center else train
    phi = np.zeros((D + whole.center,) * 2)
    phi[np.ix_(live, live)] = found.phi
    Y = blas.product(whole.root, whole.response(phi))
    columns = blas.product(Y, np.ascontiguousarray(Y[:, test]), ta=True)
    diagonal = np.square(Y).sum(axis=0)
    return fold.prediction(
        *fold.with_terms(columns, diagonal, found.covariance), residual=found.residual, status=found.status
    )


def _mixed(
    study: Any, fold: Any, settings: Settings, places: Sequence[int], limits: Limits
) -> dict[int, Any]:
    """Predictions of gains and a connectivity: the covariance at the gains takes the place of that of X."""
    train, test = fold.split
    D, found, warm = len(study.at_one), {}, None
    start = study.connected_start(fold)
    relative = study.relative
    levels = start.gain_levels([study.ridges[k] for k in places], relative=relative)
    others = start.beside(levels, settings)
    S = start.target[0]
    for j in sorted(range(len(places)), key=lambda j: -levels[j].own):
        each = mixed.minimum(start.problem, start.reduced, S, levels[j].own, others[j].own, limits, warm)
        warm = each.gains
        there = study.exact.at(each.gains)
        at = Reduced(study.unit * there.unscaled(there.covariance(), y=2), study.mean, study.given.center)
        omega = np.ldexp(each.omega, 2 * start.problem.exponent) / study.unit
        B = np.eye(D)
        B[train] += blas.product(omega, np.ascontiguousarray(study.reduced.moments[train]))
        Y = blas.product(at.root, B)
        columns = blas.product(Y, np.ascontiguousarray(Y[:, test]), ta=True)
        covariance = study.unit * start.problem.unscaled(each.covariance, y=2)
        found[places[j]] = fold.prediction(
            *fold.with_terms(columns, np.square(Y).sum(axis=0), covariance), residual=each.residual,
            status=each.status,
        )  # fmt: skip
    return found
