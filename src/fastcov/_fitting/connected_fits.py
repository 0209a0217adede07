"""Fits of a whole connectivity, alone or beside gains, at one ridge and at many."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute.progress import Progress
from .._connectivity import mixed
from .._connectivity.linearised import Linearised
from .._connectivity.solve import LINEAR, METHODS, MIXED, Connected, connect, loss, path
from .._inputs.labels import Labels, outside
from .._results.connectivity import Connectivity
from .._results.mixed import Mixed
from .certificate import ConvergenceWarning
from .connected import FINE, ConnectedStart, Outcome
from .linear_path import Level, LinearFits, phi_in_units
from .settings import Settings

Array = NDArray[np.float64]

__all__ = ["METHODS", "ConnectedStart", "fit_at", "fits_at"]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is asked of all fits of a call, beside their ridges."""

    method: str
    settings: Settings
    labels: Labels
    stacked: bool
    extra: dict[str, Any]  # entries of stats

    @property
    def shown(self) -> Any:
        """Index of the targets that a fit shows: all of a stack, or the single one."""
        return slice(None) if self.stacked else 0


def fit_at(start: ConnectedStart, ridge: Any, relative: Any, asked: Asked, started: float) -> Any:
    """The fit at one ridge, given as it is or relative, since a time of the clock."""
    level = start.level(ridge, relative, gains=asked.method == MIXED)
    if asked.method == MIXED:
        return _mixed(start, level, start.beside([level], asked.settings)[0], asked, started)
    if _in_closed_form(start, asked):
        one = _linear(start, [level], asked)[0]
        one.stats["seconds"] = time.perf_counter() - started
        return one
    limits = start.limits(asked.settings)
    with start.reduced.products():
        found = [connect(asked.method, start.reduced, S, level.own, limits) for S in start.target]
        made = _made(start, level, found, asked, time.perf_counter() - started)
    warn_short(made, limits.tol)
    return made


def fits_at(start: ConnectedStart, values: Sequence[float], asked: Asked, *, relative: bool) -> Sequence[Any]:
    """The fits at several ridges, each from the one at the next larger."""
    if asked.method == MIXED:
        return _mixed_path(start, start.gain_levels(values, relative=relative), asked)
    levels = start.levels(values, relative=relative)
    if _in_closed_form(start, asked):
        return _linear(start, levels, asked)
    limits, started = start.limits(asked.settings), time.perf_counter()
    found: list[list[Any]] = [[None] * len(start.target) for _ in levels]
    done, total = 0, len(levels) * len(start.target)
    with start.reduced.products():
        for t, S in enumerate(start.target):
            for k, each in path(asked.method, start.reduced, S, [level.own for level in levels], limits):
                found[k][t] = each
                done += 1
                asked.settings.watch(Progress("path", done / total))
        share = (time.perf_counter() - started) / len(levels)
        made = [_made(start, level, row, asked, share) for level, row in zip(levels, found, strict=True)]
    for one in made:
        warn_short(one, limits.tol)
    return made


def _made(
    start: ConnectedStart, level: Level, found: Sequence[Connected], asked: Asked, seconds: float
) -> Connectivity:
    """The result of a fit, in the caller's units."""
    outcomes = [
        Outcome(
            each.covariance, loss(start.reduced, S, level.own, each), each.residual, each.status, each.stats
        )
        for S, each in zip(start.target, found, strict=True)
    ]
    fields = start.fields(outcomes, asked.labels, asked.shown)
    fields["stats"] |= asked.extra | {"seconds": seconds}
    return Connectivity(
        phi=phi_in_units(start.problem, np.stack([each.phi for each in found]))[asked.shown],
        ridge=level.value, relative_ridge=level.relative, **fields,
        **start.common(asked.method, asked.labels, asked.shown),
    )  # fmt: skip


# --- linearised


def _in_closed_form(start: ConnectedStart, asked: Asked) -> bool:
    """Whether one eigendecomposition serves every ridge: that of a metric would not be one of Γ."""
    return asked.method == LINEAR and start.problem.metric is None


def _linear(start: ConnectedStart, levels: Sequence[Level], asked: Asked) -> LinearFits:
    """The linearised fits: their losses and certificates now, and the rest when one of them is read."""
    started, problem = time.perf_counter(), start.problem

    def watch(done: float) -> None:
        if len(levels) > 1:  # otherwise it is no path
            asked.settings.watch(Progress("path", done))

    linearised = Linearised(start.reduced, start.target)
    with start.reduced.products(), np.errstate(divide="ignore", invalid="ignore"):
        solutions = linearised.solve([level.own for level in levels], watch)
        r2 = 1.0 - solutions.left / start.target_squares
    return LinearFits(
        levels=tuple(levels), linearised=linearised, solutions=solutions,
        loss=problem.unscaled(solutions.loss, y=4), r2=r2, residual=solutions.residual,
        common=start.common(LINEAR, asked.labels, asked.shown) | {"status": FINE},
        stats=start.stats(asked.shown) | {"solver": "closed form"} | asked.extra,
        seconds=(time.perf_counter() - started) / len(levels), shown=asked.shown,
        units=dataclasses.replace(problem.plain, X=np.empty((0, problem.shape[1]))), shared=start.shared,
    )  # fmt: skip


# --- gains beside a connectivity


def _mixed(
    start: ConnectedStart, level: Level, other: Level, asked: Asked, started: float,
    warm: Sequence[Any] | None = None,
) -> Mixed:  # fmt: skip
    """Gains and a connectivity for each target, at a ridge of each."""
    limits, problem = start.limits(asked.settings), start.problem
    with start.reduced.products():
        found = [
            mixed.minimum(problem.astype(np.float64), start.reduced, S, level.own, other.own, limits, begin)
            for S, begin in zip(start.target, warm or [None] * len(start.target), strict=True)
        ]
    outcomes = [
        Outcome(each.covariance, each.loss, each.residual, each.status, {
            "solver": "L-BFGS over gains", "iterations": each.iterations, "products": each.products,
        })
        for each in found
    ]  # fmt: skip
    shown, omega = asked.shown, np.stack([each.omega for each in found])
    fields = start.fields(outcomes, asked.labels, shown)
    fields["stats"] |= asked.extra | {"seconds": time.perf_counter() - started}
    made = Mixed(
        delta=np.stack([each.gains for each in found])[shown] - 1.0,
        omega=np.ldexp(omega, 2 * problem.exponent)[shown],
        ridge=level.value, free_ridge=other.value, relative_ridge=level.relative,
        relative_free_ridge=other.relative,
        _covariance_at_gains=problem.unscaled(np.stack([each.at_gains for each in found]), y=2)[shown],
        **fields, **start.common(MIXED, asked.labels, shown),
    )  # fmt: skip
    warn_short(made, limits.tol)
    return made


def _mixed_path(start: ConnectedStart, levels: Sequence[Level], asked: Asked) -> list[Mixed]:
    """The same at several ridges, from the largest on, each from the gains at the one before."""
    fits: dict[int, Mixed] = {}
    others, warm = start.beside(levels, asked.settings), None
    for k in sorted(range(len(levels)), key=lambda k: -levels[k].own):
        fits[k] = _mixed(start, levels[k], others[k], asked, time.perf_counter(), warm)
        warm = list(np.atleast_2d(fits[k].gains))
        asked.settings.watch(Progress("path", len(fits) / len(levels)))
    return [fits[k] for k in range(len(levels))]


def warn_short(found: Connectivity | Mixed, tol: float) -> None:
    """Warn the caller of this package if a fit stopped short."""
    if found.status == FINE or found.method == LINEAR:
        return
    warnings.warn(
        f"The gradient is {np.max(found.residual):.1e} of that at W = 0, more than the {tol:.0e} asked for "
        f"({found.status}): use a larger ridge, more max_iterations or a larger tol.",
        ConvergenceWarning,
        stacklevel=outside(),
    )
