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
from .._connectivity.reduced import Reduced
from .._connectivity.solve import LINEAR, METHODS, Connected, Limits, connect, loss, path
from .._inputs.labels import Labels, outside
from .._inputs.validation import check_nonnegative
from .._model.problem import Problem
from .._results.connectivity import Connectivity
from .._results.kept import Kept
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

    def level(self, ridge: Any, relative: Any) -> Level:
        """Validate `ridge` or `relative`, of which exactly one is given."""
        if (ridge is None) == (relative is None):
            given = "neither" if ridge is None else "both"
            raise ValueError(
                f"Argument 'ridge' or 'relative_ridge' must be given, one of the two, not {given}: "
                "relative_ridge=0.01 is a start."
            )
        name, value = ("ridge", ridge) if relative is None else ("relative_ridge", relative)
        if np.ndim(value) != 0 or hasattr(value, "nnz"):
            raise ValueError(
                f"Argument '{name}' must be one number for a connectivity, not of shape {np.shape(value)}: "
                "its ridge is (λ/2)‖W‖²."
            )
        return self.levels([check_nonnegative(name, value)], relative=relative is not None)[0]

    def levels(self, values: Sequence[float], *, relative: bool) -> list[Level]:
        """Many ridges, which are validated."""
        e = 4 * self.problem.exponent
        if not relative:
            return [Level(value, math.ldexp(value, e), None) for value in values]
        own = [value * self.reduced.largest for value in values]
        return [Level(math.ldexp(mine, -e), mine, value) for mine, value in zip(own, values, strict=True)]

    def fit(
        self, level: Level, settings: Settings, *, method: str, stacked: bool, labels: Labels,
        extra: dict[str, Any], started: float,
    ) -> Connectivity:  # fmt: skip
        """The connectivity of each target at one ridge."""
        limits = self.limits(settings)
        found = [connect(method, self.reduced, S, level.own, limits) for S in self.target]
        made = self.made(method, level, found, labels, stacked=stacked, extra=extra, started=started)
        warn_short(made, limits.tol)
        return made

    def path(
        self, levels: Sequence[Level], settings: Settings, *, method: str, stacked: bool, labels: Labels,
        extra: dict[str, Any],
    ) -> list[Connectivity]:  # fmt: skip
        """The connectivities at several ridges, each from the one at the next larger."""
        limits, started = self.limits(settings), time.perf_counter()
        found: list[list[Connected | None]] = [[None] * len(self.target) for _ in levels]
        done, total = 0, len(levels) * len(self.target)
        for t, S in enumerate(self.target):
            for k, each in path(method, self.reduced, S, [level.own for level in levels], limits):
                found[k][t] = each
                done += 1
                settings.watch(Progress("path", done / total))
        share = started + (time.perf_counter() - started) * (1.0 - 1.0 / len(levels))
        return [
            self.made(method, level, row, labels, stacked=stacked, extra=extra, started=share)  # type: ignore[arg-type]
            for level, row in zip(levels, found, strict=True)
        ]

    def limits(self, settings: Settings) -> Limits:
        def watch(gradient: float) -> None:
            settings.watch(Progress("minimise", gradient))

        return Limits(settings.exact_tol, settings.max_iterations, watch)

    def made(
        self, method: str, level: Level, found: Sequence[Connected], labels: Labels, *, stacked: bool,
        extra: dict[str, Any], started: float,
    ) -> Connectivity:  # fmt: skip
        """The result of a fit, in the caller's units."""
        shown: Any
        problem, shown = self.problem, slice(None) if stacked else 0
        at = self._at_one
        losses = np.array([
            loss(self.reduced, S, level.own, each) for S, each in zip(self.target, found, strict=True)
        ])  # fmt: skip
        left = np.array([
            float(blas.norm(self.reduced.image(each.covariance - S))) ** 2
            for S, each in zip(self.target, found, strict=True)
        ])  # fmt: skip
        with np.errstate(divide="ignore", invalid="ignore"):
            r2 = 1.0 - left / self._target_squares
            r2_at_one = 1.0 - at / self._target_squares
        statuses = [each.status for each in found]
        counts: dict[str, Any] = {
            name: sum(each.stats[name] for each in found)
            for name in ("iterations", "products")
            if name in found[0].stats
        }
        metric = problem.metric
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
            errors = self.target - np.stack([each.covariance for each in found])
            terms = problem.unscaled(metric.terms(errors), y=2)
            nuisance = {name: terms[:, k][shown] for k, name in enumerate(metric.nuisance)}
            nuisance = {n: v if np.ndim(v) else float(v) for n, v in nuisance.items()}
        stats["seconds"] = time.perf_counter() - started
        return Connectivity(
            phi=self._in_units(np.stack([each.phi for each in found]))[shown],
            loss=problem.unscaled(losses, y=4)[shown],
            loss_at_one=problem.unscaled(0.5 * at, y=4)[shown],
            r2=r2[shown],
            ridge=level.value,
            relative_ridge=level.relative,
            residual=np.array([each.residual for each in found])[shown],
            status=next((s for s in statuses if s != FINE), FINE),
            method=method,
            stats=stats,
            channels=labels.channels,
            conditions=labels.conditions,
            _covariance=problem.unscaled(np.stack([each.covariance for each in found]), y=2)[shown],
            _target=problem.unscaled(self.target, y=2)[shown],
            _covariance_at_one=problem.unscaled(self.reduced.covariance, y=2),
            _mean=problem.unscaled(self.reduced.mean, x=1),
            nuisance=nuisance,
            _kept=Kept(problem.plain),
        )

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


def warn_short(found: Connectivity, tol: float) -> None:
    """Warn the caller of this package if a fit stopped short."""
    if found.status == FINE or found.method == LINEAR:
        return
    warnings.warn(
        f"The gradient is {np.max(found.residual):.1e} of that at W = 0, more than the {tol:.0e} asked for "
        f"({found.status}): use a larger ridge, more max_iterations or a larger tol.",
        ConvergenceWarning,
        stacklevel=outside(),
    )
