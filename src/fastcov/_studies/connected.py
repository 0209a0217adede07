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
from .._connectivity import mixed
from .._connectivity.reduced import Reduced
from .._connectivity.solve import MIXED, Connected, Limits, path
from .._fitting.settings import Settings

Array = NDArray[np.float64]
Columns = tuple[Array, Array]

# A `HeldOut`, a `Fold` and a `Prediction` are `Any` here: their classes import this module.


def connected_paths(
    study: Any, folds: Sequence[Any], method: str, settings: Settings, places: Sequence[int]
) -> list[dict[int, Any]]:
    """Predictions of each fold, which have one split, at the ridges with these indices."""
    return [
        {
            k: fold.prediction(*columns, residual=found.residual, status=found.status)
            for k, columns, found in _predicted(study, fold, method, settings, places)
        }
        for fold in folds
    ]


def connected_columns(study: Any, fold: Any, method: str, settings: Settings, place: int) -> Columns:
    """The columns (D, k) of held-out conditions, and the diagonal (D,), as predicted at one ridge."""
    ((_, columns, _),) = _predicted(study, fold, method, settings, [place])
    return columns


def _predicted(
    study: Any, fold: Any, method: str, settings: Settings, places: Sequence[int]
) -> Iterator[tuple[int, Columns, Any]]:
    """Yield the index of a ridge, what is predicted there, and the fit, from the largest ridge on."""
    limits = Limits(
        settings.exact_tol, settings.max_iterations,
        lambda gradient: settings.watch(Progress("minimise", gradient)),
    )  # fmt: skip
    if method == MIXED:
        yield from _mixed(study, fold, settings, places, limits)
        return
    train, _ = fold.split
    reduced = study.reduced_for(fold)
    S = np.nan_to_num(fold.scaled[np.ix_(train, train)])
    with study.reduced.products():
        scale = reduced.largest if study.relative else study.unit**2
        for k, found in path(method, reduced, S, [scale * study.ridges[k] for k in places], limits):
            yield places[k], _columns(study, fold, found), found


def _columns(study: Any, fold: Any, found: Connected) -> Columns:
    train, _ = fold.split
    D = len(study.at_one)
    whole = study.reduced
    live = np.append(train, D) if whole.center else train
    phi = np.zeros((D + whole.center,) * 2)
    phi[np.ix_(live, live)] = found.phi
    return _with_terms(fold, blas.product(whole.root, whole.response(phi)), found.covariance)


def _with_terms(fold: Any, Y: Array, covariance: Array) -> Columns:
    """The columns and the diagonal of YᵀY, with the nuisance terms that suit the training block best."""
    _, test = fold.split
    columns = blas.product(Y, np.ascontiguousarray(Y[:, test]), ta=True)
    found: Columns = fold.with_terms(columns, np.square(Y).sum(axis=0), covariance)
    return found


def _mixed(
    study: Any, fold: Any, settings: Settings, places: Sequence[int], limits: Limits
) -> Iterator[tuple[int, Columns, Any]]:
    """Predictions of gains and a connectivity: the covariance at the gains takes the place of that of X."""
    train, _ = fold.split
    D, warm = len(study.at_one), None
    start = study.connected_start(fold)
    levels = start.gain_levels([study.ridges[k] for k in places], relative=study.relative)
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
        covariance = study.unit * start.problem.unscaled(each.covariance, y=2)
        yield places[j], _with_terms(fold, blas.product(at.root, B), covariance), each
