"""Fits of a whole connectivity: the problem over conditions, ridges in its units, and the results."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.progress import Progress
from .._connectivity import mixed
from .._connectivity.reduced import Reduced
from .._connectivity.solve import LINEAR, METHODS, MIXED, Connected, Limits, connect, loss, path
from .._inputs.labels import Labels, outside
from .._inputs.validation import check_nonnegative
from .._model.problem import Problem
from .._model.products import largest_eigenvalue, squared_norms
from .._results.connectivity import Connectivity
from .._results.kept import Kept
from .._results.mixed import Mixed
from .certificate import ConvergenceWarning
from .settings import Settings
from .shared import SharedTargets

Array = NDArray[np.float64]

FINE = "converged"

__all__ = ["METHODS", "ConnectedStart"]


@dataclasses.dataclass(frozen=True)
class Level:
    """A ridge in the caller's units and in those of the problem."""

    value: float
    own: float
    relative: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What all results have of one target, in the units of the problem."""

    covariance: Array
    loss: float
    residual: float
    status: str
    stats: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class ConnectedStart:
    """Responses over conditions, and targets, in units that are safe to multiply."""

    problem: Problem
    reduced: Reduced
    target: Array  # (T, D, D)
    shared: SharedTargets | None = None  # targets whose mean is fitted

    @classmethod
    def of(
        cls, given: Problem, S: Any, watch: Callable[[Progress], object], shared: SharedTargets | None = None
    ) -> ConnectedStart:
        """From checked responses, and targets that are checked here. One pass over X."""
        problem = given.astype(np.float64) if given.dtype != np.float32 else given
        target = problem.target(S)
        reading = problem.watched(lambda done: watch(Progress("read", done)))
        return cls(problem, Reduced.of(reading), target, shared)

    def level(self, ridge: Any, relative: Any, *, gains: bool = False) -> Level:
        """Validate `ridge` or `relative`, of which exactly one is given, of a connectivity or of `gains`."""
        if (ridge is None) == (relative is None):
            given = "neither" if ridge is None else "both"
            raise ValueError(
                f"Argument 'ridge' or 'relative_ridge' must be given, one of the two, not {given}: "
                "relative_ridge=0.01 is a start."
            )
        name, value = ("ridge", ridge) if relative is None else ("relative_ridge", relative)
        if np.ndim(value) != 0 or hasattr(value, "nnz"):
            raise ValueError(
                f"Argument '{name}' must be one number for a connectivity, not of shape "
                f"{np.shape(value)}: its ridge is (λ/2)‖W‖²."
            )
        levels = self.gain_levels if gains else self.levels
        return levels([check_nonnegative(name, value)], relative=relative is not None)[0]

    def levels(self, values: Sequence[float], *, relative: bool) -> list[Level]:
        """Many ridges of a connectivity, which are validated."""
        return self._levels(values, self.reduced.largest if relative else None)

    def _levels(self, values: Sequence[float], largest: float | None) -> list[Level]:
        e = 4 * self.problem.exponent
        if largest is None:
            return [Level(value, math.ldexp(value, e), None) for value in values]
        own = [value * largest for value in values]
        return [Level(math.ldexp(mine, -e), mine, value) for mine, value in zip(own, values, strict=True)]

    def fit(
        self, ridge: Any, relative: Any, settings: Settings, *, method: str, stacked: bool, labels: Labels,
        extra: dict[str, Any], started: float,
    ) -> Connectivity | Mixed:  # fmt: skip
        """The connectivity of each target at one ridge, of which one is given."""
        shared: dict[str, Any] = {"labels": labels, "stacked": stacked, "extra": extra, "started": started}
        level = self.level(ridge, relative, gains=method == MIXED)
        if method == MIXED:
            other = self.beside([level], settings)[0]
            return self.mixed(level, other, settings, **shared)
        limits = self.limits(settings)
        found = [connect(method, self.reduced, S, level.own, limits) for S in self.target]
        made = self.made(method, level, found, **shared)
        warn_short(made, limits.tol)
        return made

    def path(
        self, values: Sequence[float], settings: Settings, *, relative: bool, method: str, stacked: bool,
        labels: Labels, extra: dict[str, Any],
    ) -> list[Any]:  # fmt: skip
        """The connectivities at several ridges, each from the one at the next larger."""
        shared: dict[str, Any] = {"labels": labels, "stacked": stacked, "extra": extra}
        if method == MIXED:
            return self.mixed_path(self.gain_levels(values, relative=relative), settings, **shared)
        levels = self.levels(values, relative=relative)
        limits, started = self.limits(settings), time.perf_counter()
        found: list[list[Any]] = [[None] * len(self.target) for _ in levels]
        done, total = 0, len(levels) * len(self.target)
        for t, S in enumerate(self.target):
            for k, each in path(method, self.reduced, S, [level.own for level in levels], limits):
                found[k][t] = each
                done += 1
                settings.watch(Progress("path", done / total))
        share = started + (time.perf_counter() - started) * (1.0 - 1.0 / len(levels))
        made = [
            self.made(method, level, row, started=share, **shared)
            for level, row in zip(levels, found, strict=True)
        ]
        for one in made:
            warn_short(one, limits.tol)
        return made

    # --- gains beside a connectivity

    def mixed(
        self, level: Level, other: Level, settings: Settings, *, stacked: bool, labels: Labels,
        extra: dict[str, Any], started: float, warm: Sequence[Any] | None = None,
    ) -> Mixed:  # fmt: skip
        """Gains and a connectivity for each target, at a ridge of each."""
        limits = self.limits(settings)
        problem = self.problem.astype(np.float64)
        found = [
            mixed.minimum(problem, self.reduced, S, level.own, other.own, limits, begin)
            for S, begin in zip(self.target, warm or [None] * len(self.target), strict=True)
        ]
        problem, shown = self.problem, slice(None) if stacked else 0
        outcome = [
            Outcome(each.covariance, each.loss, each.residual, each.status, {
                "solver": "L-BFGS over gains", "iterations": each.iterations, "products": each.products,
            })
            for each in found
        ]  # fmt: skip
        common = self.common(outcome, labels, shown, extra, started)
        omega = np.ldexp(np.stack([each.omega for each in found]), 2 * problem.exponent)
        made = Mixed(
            delta=np.stack([each.gains for each in found])[shown] - 1.0, omega=omega[shown],
            ridge=level.value, free_ridge=other.value, relative_ridge=level.relative,
            relative_free_ridge=other.relative, method=MIXED,
            _covariance_at_gains=problem.unscaled(np.stack([each.at_gains for each in found]), y=2)[shown],
            **common,
        )  # fmt: skip
        warn_short(made, limits.tol)
        return made

    def mixed_path(self, levels: Sequence[Level], settings: Settings, **shared: Any) -> list[Mixed]:
        """The same at several ridges, from the largest on, each from the gains at the one before."""
        fits: dict[int, Mixed] = {}
        others = self.beside(levels, settings)
        warm = None
        for k in sorted(range(len(levels)), key=lambda k: -levels[k].own):
            began = time.perf_counter()
            fits[k] = self.mixed(levels[k], others[k], settings, started=began, warm=warm, **shared)
            warm = list(np.atleast_2d(fits[k].gains))
            settings.watch(Progress("path", len(fits) / len(levels)))
        return [fits[k] for k in range(len(levels))]

    def beside(self, levels: Sequence[Level], settings: Settings) -> list[Level]:
        """The ridge of the connectivity beside each of the gains: `free_ridge`, or that of the gains."""
        relative, asked = levels[0].relative is not None, settings.free_ridge
        values = [asked if asked is not None else level.relative or level.value for level in levels]
        return self.levels(values, relative=relative)

    def gain_levels(self, values: Sequence[float], *, relative: bool) -> list[Level]:
        """Ridges of gains beside a connectivity, relative to the largest eigenvalue of GᵀG."""
        return self._levels(values, self.largest_of_gains if relative else None)

    @functools.cached_property
    def largest_of_gains(self) -> float:
        problem = self.problem.astype(np.float64)
        return largest_eigenvalue(problem, squared_norms(problem), self.reduced.covariance)

    # --- what both have

    def limits(self, settings: Settings) -> Limits:
        def watch(gradient: float) -> None:
            settings.watch(Progress("minimise", gradient))

        return Limits(settings.exact_tol, settings.max_iterations, watch)

    def made(
        self, method: str, level: Level, found: Sequence[Connected], labels: Labels, *, stacked: bool,
        extra: dict[str, Any], started: float,
    ) -> Connectivity:  # fmt: skip
        """The result of a fit, in the caller's units."""
        shown: Any = slice(None) if stacked else 0
        outcome = [
            Outcome(
                each.covariance,
                loss(self.reduced, S, level.own, each),
                each.residual,
                each.status,
                each.stats,
            )
            for S, each in zip(self.target, found, strict=True)
        ]
        return Connectivity(
            phi=self._in_units(np.stack([each.phi for each in found]))[shown], ridge=level.value,
            relative_ridge=level.relative, method=method,
            **self.common(outcome, labels, shown, extra, started),
        )  # fmt: skip

    def common(
        self, found: Sequence[Outcome], labels: Labels, shown: Any, extra: dict[str, Any], started: float
    ) -> dict[str, Any]:
        """Fields that all results have, in the caller's units."""
        problem, metric = self.problem, self.problem.metric
        covariance = np.stack([each.covariance for each in found])
        left = np.array([float(blas.norm(self.reduced.image(M))) ** 2 for M in covariance - self.target])
        with np.errstate(divide="ignore", invalid="ignore"):
            r2 = 1.0 - left / self._target_squares
            r2_at_one = 1.0 - self._at_one / self._target_squares
        counts: dict[str, Any] = {
            name: sum(each.stats[name] for each in found)
            for name in ("iterations", "products")
            if name in found[0].stats
        }
        stats: dict[str, Any] = {
            "shape": problem.shape, "r2_at_one": r2_at_one[shown], "trace_ratio": self._trace_ratio[shown],
            "dtype": str(problem.dtype), "center": problem.center,
            "pairs": "all" if metric is None else metric.pairs,
            "solver": max((each.stats["solver"] for each in found), key=len), **counts, **extra,
        }  # fmt: skip
        if self.shared is not None:
            stats["shared"] = self.shared.stats(self.reduced.covariance, found[0].covariance)
        if any(each.stats.get("outside") for each in found):
            stats["outside"] = True
        nuisance: dict[str, Any] = {}
        if metric is not None and metric.nuisance:
            terms = problem.unscaled(metric.terms(self.target - covariance), y=2)
            nuisance = {name: terms[:, k][shown] for k, name in enumerate(metric.nuisance)}
            nuisance = {name: each if np.ndim(each) else float(each) for name, each in nuisance.items()}
        stats["seconds"] = time.perf_counter() - started
        return {
            "loss": problem.unscaled(np.array([each.loss for each in found]), y=4)[shown],
            "loss_at_one": problem.unscaled(0.5 * self._at_one, y=4)[shown],
            "r2": r2[shown],
            "residual": np.array([each.residual for each in found])[shown],
            "status": next((each.status for each in found if each.status != FINE), FINE),
            "stats": stats,
            "channels": labels.channels,
            "conditions": labels.conditions,
            "nuisance": nuisance,
            "_covariance": problem.unscaled(covariance, y=2)[shown],
            "_target": problem.unscaled(self.target, y=2)[shown],
            "_covariance_at_one": problem.unscaled(self.reduced.covariance, y=2),
            "_mean": problem.unscaled(self.reduced.mean, x=1),
            "_kept": Kept(problem.plain),
        }

    def _in_units(self, phi: Array) -> Array:
        """Φ in the caller's units: X to the power −2, −1 and 0."""
        e, D = self.problem.exponent, self.reduced.n_conditions
        if e:
            phi[:, :D] = np.ldexp(phi[:, :D], e)
            phi[:, :, :D] = np.ldexp(phi[:, :, :D], e)
        return phi

    @functools.cached_property
    def _at_one(self) -> Array:
        """‖R(S − Γ)‖² of each target."""
        return np.array([
            float(blas.norm(self.reduced.image(S - self.reduced.covariance))) ** 2 for S in self.target
        ])  # fmt: skip

    @functools.cached_property
    def _target_squares(self) -> Array:
        metric = self.problem.metric
        return blas.squares(self.target) if metric is None else metric.squares(self.target)

    @functools.cached_property
    def _trace_ratio(self) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            traces = np.trace(self.target, axis1=1, axis2=2)
            return np.asarray(traces / np.trace(self.reduced.covariance))


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
