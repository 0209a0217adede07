"""Linearised free fits at several ridges, kept as numbers; each connectivity is made when it is read."""

from __future__ import annotations

import dataclasses
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .._connectivity.linearised import Linearised, Solutions
from .._model.problem import Problem
from .._results.connectivity import Connectivity
from .._results.overshoot import beyond, sizes
from .._results.ridge_path import LazyFits
from .shared import SharedTargets

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Level:
    """A ridge in the caller's units and in those of the problem."""

    value: float
    own: float
    relative: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class LinearFits(LazyFits):
    """Fits of one start at K ridges, without their matrices; each is made once, on first access."""

    levels: tuple[Level, ...]
    linearised: Linearised
    solutions: Solutions
    loss: Array  # (K, T), and so are r2 and residual
    r2: Array
    residual: Array
    common: dict[str, Any]  # fields that all fits share
    stats: dict[str, Any]  # stats that all fits share
    seconds: float  # of each
    shown: Any  # index of the targets that a fit shows: all of a stack, or the single one
    units: Problem  # units of the solutions
    shared: SharedTargets | None = None  # targets whose mean is fitted
    finished: dict[int, Connectivity] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.levels)

    @overload
    def __getitem__(self, k: int) -> Any: ...
    @overload
    def __getitem__(self, k: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return tuple(self[each] for each in range(len(self))[k])
        place = range(len(self))[k]
        if place not in self.finished:
            self.finished[place] = self._make(place)
        return self.finished[place]

    def overshooting(self) -> NDArray[np.bool_]:
        """Whether any target of each fit ends above W = 0 by more than rounding explains (K,)."""
        at_one = np.atleast_1d(self.common["loss_at_one"])
        fixed = sizes(self.common["_target"]) + sizes(self.common["_covariance_at_one"])
        size = self.units.unscaled(self.solutions.sizes, y=2) + fixed
        return np.asarray(beyond(self.loss, at_one, size, self.stats).any(axis=1))

    def each(self, name: str) -> list[Any]:
        """An attribute of all fits, without making any if it is a number."""
        if name in ("loss", "r2", "residual"):
            return list(getattr(self, name)[:, self.shown])
        if name in self.common:
            return [self.common[name]] * len(self)
        if name in ("ridge", "relative_ridge"):
            return [level.value if name == "ridge" else level.relative for level in self.levels]
        return [getattr(fit, name) for fit in self]

    def _make(self, k: int) -> Connectivity:
        level, shown = self.levels[k], self.shown
        with self.linearised.reduced.products():
            phi, covariance = self.linearised.matrices(level.own, self.solutions.v[k])
        stats = {**self.stats, "seconds": self.seconds}
        if self.shared is not None:
            stats["shared"] = self.shared.stats(self.linearised.reduced.covariance, covariance[0])
        return Connectivity(
            phi=phi_in_units(self.units, phi)[shown],
            loss=self.loss[k, shown],
            r2=self.r2[k, shown],
            ridge=level.value,
            relative_ridge=level.relative,
            residual=self.residual[k, shown],
            stats=stats,
            _covariance=self.units.unscaled(covariance, y=2)[shown],
            **self.common,
        )


def phi_in_units(problem: Problem, phi: Array) -> Array:
    """Φ (T, p, p) in the caller's units, in place: X to the power −2, −1 and 0."""
    e, D = problem.exponent, problem.shape[1]
    if e:
        phi[:, :D] = np.ldexp(phi[:, :D], e)
        phi[:, :, :D] = np.ldexp(phi[:, :, :D], e)
    return phi
