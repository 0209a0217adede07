"""Fit.uncertainty(): from a fit and the responses behind it to standard errors, intervals and resolution."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from .._compute.jit import blas_for
from .._compute.progress import Progress, watching
from .._inputs.labels import places_of
from .._inputs.validation import (
    SMALL,
    available_memory,
    check_between,
    check_budget,
    check_choice,
    check_generator,
    check_whole,
)
from .._model.bounds import Bounds
from .._model.groups import Groups
from .._model.problem import Problem
from .._model.ridge_penalty import Penalty
from .._results.channel_table import same_side
from .._results.fit import Fit, target_of_stack
from .._results.intervals import OF
from .._results.uncertainty import Uncertainty
from . import bootstrap
from .curvature import PANEL, Stationary
from .given import cells_of, responses_of, targets_of
from .influence import Cells, Conditions, Kind, Targets, standard_errors
from .populations import Population

Array = NDArray[np.float64]

# Vectors over channels, for each of PANEL columns, beside H: the blocks of a factorisation and of influences.
PANELS = 4
METHODS = ("linear", "exact")
# For some of more channels than this, iterations take less time than a factorisation.
FACTORED = 2000
# A standard error below this share of a gain is rounding.
ROUNDING = 1e-12


def estimate(
    fit: Fit, Y: Any, by: str, *, X: Any, cell_groups: Any, channels: Any, level: float, n_boot: int,
    rng: Any, nan_policy: str, memory_budget: float | None, callback: Callable[[Progress], object] | None,
) -> Uncertainty:  # fmt: skip
    """See `Fit.uncertainty`."""
    started = time.perf_counter()
    check_choice("by", by, tuple(OF))
    check_choice("nan_policy", nan_policy, ("raise", "omit-trials"))
    level = check_between("level", level, 0.95)
    n_boot, random = check_whole("n_boot", n_boot, 0), check_generator(rng)
    if n_boot == 1:
        raise ValueError("Argument 'n_boot' must be 0 or at least 2, not 1: some 200 give errors to 5 %.")
    if fit.method not in METHODS and not n_boot:
        raise ValueError(
            f"Argument 'n_boot' must be above 0 for a fit with method={fit.method!r}, which minimises no "
            "loss: use n_boot=200, or method='exact'."
        )
    if by == "targets" and targets_of(fit).shape[1] < 2:
        raise ValueError(
            "Argument 'by' must be 'cells', 'conditions' or 'both' for gains of a single target, not "
            "'targets': fit(X, targets, shared=True) has gains that several targets share."
        )
    given = responses_of(fit, X)
    N, places = given.shape[0], places_of(channels, fit.channels, given.shape[0])
    if by in ("conditions", "both") and given.shape[1] < 2:
        raise ValueError(
            f"Argument 'by' must be 'cells' for a fit of one condition, not {by!r}: a single condition has "
            "no spread."
        )
    cells = cells_of(fit, Y, cell_groups, by, given, nan_policy)
    fits = [fit] if fit.gains.ndim == 1 else [target_of_stack(fit, k) for k in range(len(fit.gains))]
    budget = check_budget(memory_budget)
    groups = groups_of(fit)
    dense = fit.method in METHODS and (groups is not None or _factors(N, places, budget, n_boot))
    wanted, back = places, np.arange(len(places))
    if groups is not None:  # one channel answers for all of its group
        asked, back = np.unique(groups.places[places], return_inverse=True)
        wanted = groups.first[asked]
    points = _stationary(fit, fits, given, resampled=n_boot > 0)
    found, inverse = [], None
    with blas_for(float(N) * N * N if dense else given.X.size), watching(callback) as watch:
        for each, there, own in zip(fits, points, cells, strict=True):
            # Linear fits of several targets have one Hessian, unless gains are at bounds.
            if dense and (inverse is None or not there.linear or there.held.any()):
                inverse = there.inverse(lambda done: watch(Progress("factor", done)))
            found.append(
                _one(each, there, own, by, wanted, dense, inverse, level, n_boot, random, budget, watch)
            )
    parts = found[0] if fit.gains.ndim == 1 else {
        name: np.stack([each[name] for each in found], axis=1 if name == "draws" else 0) for name in found[0]
    }  # fmt: skip
    parts = {name: values[..., back] for name, values in parts.items()}
    starts = fit.stats.get("gains_of_starts")
    agreement = {"resamples": parts.pop("resamples")}
    if starts is not None:
        chosen = starts[..., places]
        agreement["starts"] = (
            same_side(chosen, fit.gains[places]) if chosen.ndim == 2
            else np.stack([same_side(own, z[places]) for own, z in zip(chosen, fit.gains, strict=True)])
        )  # fmt: skip
    n = {
        "cells": [own.n for each in cells for own in each], "conditions": given.shape[1],
        "targets": len(points[0].targets),
    }  # fmt: skip
    return Uncertainty(
        by=by, level=float(level), places=places, agreement=agreement,
        channels=None if fit.channels is None else tuple(fit.channels[i] for i in places),
        draws=parts.pop("draws", None),
        stats={
            "method": "bootstrap" if n_boot else "jackknife", "n_boot": n_boot,
            "solver": "factor" if dense else "iterations", "shape": given.shape,
            "n": {name: n[name] for name in (("cells", "conditions") if by == "both" else (by,))},
            **({} if cell_groups is None else {"cell_groups": n["cells"]}),
            "ridge": fit.ridge, "relative_ridge": fit.relative_ridge, "fit": fit.method,
            "seconds": time.perf_counter() - started,
        },
        **parts,
    )  # fmt: skip


# ---- one target


def _one(
    fit: Fit, there: Stationary, cells: Sequence[Population], by: str, places: NDArray[np.intp], dense: bool,
    inverse: Array | None, level: float, n_boot: int, random: np.random.Generator, budget: float | None,
    watch: Callable[[Progress], object],
) -> dict[str, Any]:  # fmt: skip
    """Arrays of an `Uncertainty` for a fit of one target, with its H⁻¹ if it is `dense` and has one."""
    resolution, rows = np.full(len(places), np.nan), None
    if dense and inverse is not None:
        rows = there.rows(inverse, places)
    elif not dense and fit.method in METHODS and (not n_boot or len(places) < len(there.gains)):
        rows = there.columns(places, lambda done: watch(Progress("channels", done)))
    if rows is not None:
        resolution = there.resolution(rows, places)
    elif not n_boot:
        raise _not_definite(fit)
    z = there.gains[places]
    held = there.held[places]
    if n_boot:
        draws = bootstrap.draws(there, fit, cells, by, inverse, places, n_boot, random, budget, watch)
        se = draws.std(axis=0, ddof=1)
        tail = (1.0 - level) / 2.0
        lower, upper = np.quantile(draws, [tail, 1.0 - tail], axis=0)
        extra = {"draws": draws, "resamples": same_side(draws, z)}
    else:
        assert rows is not None
        kinds: list[Kind] = [Cells(there, own, k) for k, own in enumerate(cells)]
        if by == "targets":
            kinds.append(Targets(there))
        if by in ("conditions", "both"):
            kinds.append(Conditions(there))
        errors, freedoms = np.array([standard_errors(there, rows, kind) for kind in kinds]).transpose(1, 0, 2)
        errors[errors <= ROUNDING * np.maximum(1.0, np.abs(z))] = 0.0
        squares = np.square(errors)
        total = squares.sum(axis=0)
        se = np.sqrt(total)
        se[held] = 0.0
        doubt = (squares * squares / freedoms).sum(axis=0)
        freedom = np.divide(total * total, doubt, out=np.full(len(se), 1.0), where=doubt > 0)
        half = se * stdtrit(freedom, 0.5 + level / 2.0)
        lower, upper = z - half, z + half
        with np.errstate(divide="ignore", invalid="ignore"):
            extra = {"resamples": np.where(se > 0, ndtr(np.abs(z - 1.0) / se), np.nan)}
    arrays = {"gains": z, "se": se, "lower": lower, "upper": upper, "resolution": resolution}
    return arrays | extra | {"held": held}


def _stationary(whole: Fit, fits: Sequence[Fit], given: Problem, *, resampled: bool) -> list[Stationary]:
    """The fits of single targets in scaled units. Bootstraps take columns of X, which then is in memory."""
    problem, first = given.astype(np.float64), fits[0]
    dead, groups = problem.sizes == 0, groups_of(first)
    if groups is not None:
        dead = groups.all_of(dead)
    # Scaled here, before a copy of X is scaled, too: all three are then in the same units.
    penalty = Penalty.of("ridge", first.ridge, len(dead)).in_units(problem.exponent, dead)
    targets = [problem.target(each) for each in targets_of(whole)]
    if resampled or (problem.rows.in_memory and not problem.ready(problem.X)):
        problem = problem.converted()
    if "at_bounds" in first.stats and "bounds" not in first.stats:
        raise ValueError(
            "Argument 'fit' must know its bounds, and this one was saved by an older fastcov: fit again."
        )
    bounds = Bounds(*first.stats["bounds"]) if "bounds" in first.stats else None
    at_one = problem.covariance()
    held = [np.zeros(len(fit.gains), bool) for fit in fits]
    if bounds is not None and groups is None:
        held = [bounds.at(fit.gains) for fit in fits]
    elif bounds is not None and groups is not None:
        held = [groups.expand(bounds.at(fit.gains[groups.first])) for fit in fits]
    return [
        Stationary(problem, own, penalty, fit.gains, at_bound, fit.method == "linear", at_one, groups)
        for fit, own, at_bound in zip(fits, targets, held, strict=True)
    ]


def groups_of(fit: Fit) -> Groups | None:
    """The groups of channels that share a gain in a fit."""
    if fit.groups is None or fit.group_places is None:
        return None
    return Groups(fit.groups, fit.group_places)


def _not_definite(fit: Fit) -> ValueError:
    if not hasattr(fit.ridge, "nnz") and not np.any(fit.ridge):
        return ValueError(
            "Argument 'fit' must have a ridge above zero for standard errors where its Hessian has no "
            "inverse, not 0 (which any relative ridge is if channels are all alike): fit with ridge=λ, or "
            "draw n_boot=200 bootstraps."
        )
    return ValueError(
        f"Argument 'fit' must be at a minimum with a positive definite Hessian, not end as {fit.status!r} "
        "where it has none: fit with a larger ridge or more max_iterations, or draw n_boot=200 bootstraps."
    )


def _factors(N: int, places: NDArray[np.intp], budget: float | None, n_boot: int) -> bool:
    """Whether H is factored. A MemoryError if it does not fit and all channels are asked for."""
    needed = 8.0 * N * N + 8.0 * N * PANEL * PANELS
    room = math.inf if needed < SMALL else available_memory()
    room = room if budget is None else min(room, budget)
    if needed <= room:
        return len(places) == N or bool(n_boot) or N <= FACTORED
    if len(places) == N and not n_boot:
        raise MemoryError(
            f"The intervals of all {N} channels take {needed / 1e9:.3g} GB, and {room / 1e9:.3g} GB are "
            "available: name some with channels=[…], or draw n_boot=200 bootstraps."
        )
    return False
