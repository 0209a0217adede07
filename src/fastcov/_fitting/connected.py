"""The start of every fit of a connectivity: the problem over conditions, ridges, and what results share."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.progress import Progress
from .._connectivity.reduced import Reduced
from .._connectivity.solve import Limits
from .._inputs.labels import Labels
from .._inputs.validation import check_nonnegative
from .._model.problem import Problem
from .._model.products import largest_eigenvalue, squared_norms
from .._results.kept import Kept
from .linear_path import Level
from .settings import Settings
from .shared import SharedTargets

Array = NDArray[np.float64]

FINE = "converged"


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

    # --- ridges

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
        if not relative:
            return self._levels(values, None)
        with self.reduced.products():
            return self._levels(values, self.reduced.largest)

    def gain_levels(self, values: Sequence[float], *, relative: bool) -> list[Level]:
        """Ridges of gains beside a connectivity, relative to the largest eigenvalue of GᵀG."""
        return self._levels(values, self._largest_of_gains if relative else None)

    def beside(self, levels: Sequence[Level], settings: Settings) -> list[Level]:
        """The ridge of the connectivity beside each of the gains: `free_ridge`, or that of the gains."""
        relative, asked = levels[0].relative is not None, settings.free_ridge
        own = [level.value if level.relative is None else level.relative for level in levels]
        return self.levels(own if asked is None else [asked] * len(own), relative=relative)

    def _levels(self, values: Sequence[float], largest: float | None) -> list[Level]:
        e = 4 * self.problem.exponent
        if largest is None:
            return [Level(value, math.ldexp(value, e), None) for value in values]
        own = [value * largest for value in values]
        return [Level(math.ldexp(mine, -e), mine, value) for mine, value in zip(own, values, strict=True)]

    @functools.cached_property
    def _largest_of_gains(self) -> float:
        problem = self.problem.astype(np.float64)
        return largest_eigenvalue(problem, squared_norms(problem), self.reduced.covariance)

    # --- what results share

    def limits(self, settings: Settings) -> Limits:
        def watch(gradient: float) -> None:
            settings.watch(Progress("minimise", gradient))

        return Limits(settings.exact_tol, settings.max_iterations, watch)

    def fields(self, found: Sequence[Outcome], labels: Labels, shown: Any) -> dict[str, Any]:
        """Fields of a result at one ridge, in the caller's units."""
        problem = self.problem
        covariance = np.stack([each.covariance for each in found])
        left = np.array([float(blas.norm(self.reduced.image(M))) ** 2 for M in covariance - self.target])
        with np.errstate(divide="ignore", invalid="ignore"):
            r2 = 1.0 - left / self.target_squares
        stats = self.stats(shown) | {"solver": max((each.stats["solver"] for each in found), key=len)}
        for name in ("iterations", "products"):
            if name in found[0].stats:
                stats[name] = sum(each.stats[name] for each in found)
        if self.shared is not None:
            stats["shared"] = self.shared.stats(self.reduced.covariance, found[0].covariance)
        for name in ("outside", "several"):
            if any(each.stats.get(name) for each in found):
                stats[name] = True
        return {
            "loss": problem.unscaled(np.array([each.loss for each in found]), y=4)[shown],
            "r2": r2[shown],
            "residual": np.array([each.residual for each in found])[shown],
            "status": next((each.status for each in found if each.status != FINE), FINE),
            "stats": stats,
            "nuisance": self.nuisance(covariance, shown),
            "_covariance": problem.unscaled(covariance, y=2)[shown],
        }

    def common(self, method: str, labels: Labels, shown: Any) -> dict[str, Any]:
        """Fields that the results at all ridges share."""
        problem = self.problem
        return {
            "loss_at_one": problem.unscaled(0.5 * self.at_one, y=4)[shown],
            "method": method,
            "channels": labels.channels,
            "conditions": labels.conditions,
            "_target": problem.unscaled(self.target, y=2)[shown],
            "_covariance_at_one": problem.unscaled(self.reduced.covariance, y=2),
            "_mean": problem.unscaled(self.reduced.mean, x=1),
            "_kept": Kept(problem.plain),
        }

    def stats(self, shown: Any) -> dict[str, Any]:
        """Entries of stats that the results at all ridges share."""
        problem, metric = self.problem, self.problem.metric
        with np.errstate(divide="ignore", invalid="ignore"):
            r2_at_one = 1.0 - self.at_one / self.target_squares
            traces = np.trace(self.target, axis1=1, axis2=2) / np.trace(self.reduced.covariance)
        stats: dict[str, Any] = {
            "shape": problem.shape, "r2_at_one": r2_at_one[shown], "trace_ratio": traces[shown],
            "dtype": str(problem.dtype), "center": problem.center,
            "pairs": "all" if metric is None else metric.pairs,
        }  # fmt: skip
        if metric is not None and metric.nuisance:
            stats["nuisance_at_one"] = self.nuisance(self.reduced.covariance, shown)
        return stats

    def nuisance(self, covariance: Array, shown: Any) -> dict[str, Any]:
        """β and γ beside a covariance, (D, D) or (T, D, D), in the caller's units."""
        problem, metric = self.problem, self.problem.metric
        if metric is None or not metric.nuisance:
            return {}
        terms = problem.unscaled(metric.terms(self.target - covariance), y=2)
        chosen = {name: terms[:, k][shown] for k, name in enumerate(metric.nuisance)}
        return {name: each if np.ndim(each) else float(each) for name, each in chosen.items()}

    @functools.cached_property
    def at_one(self) -> Array:
        """‖R(S − Γ)‖² of each target."""
        return np.array([
            float(blas.norm(self.reduced.image(S - self.reduced.covariance))) ** 2 for S in self.target
        ])  # fmt: skip

    @functools.cached_property
    def target_squares(self) -> Array:
        metric = self.problem.metric
        return blas.squares(self.target) if metric is None else metric.squares(self.target)
