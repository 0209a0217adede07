"""Turn outcomes into `Fit` objects: exact losses and covariances, in the caller's units."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._inputs.labels import Labels
from .._model.problem import BLOCK_BYTES, Problem
from .._results.fit import STACKED, Fit
from .._results.kept import Kept
from .._results.overshoot import beyond, sizes
from .._results.ridge_path import LazyFits
from .settings import Outcome
from .shared import SharedTargets
from .start import Ridge, Start

Array = NDArray[np.float64]

# Bytes of covariance errors that are evaluated together: they stay in the caches.
GROUP_BYTES = BLOCK_BYTES // 8


def describe(
    start: Start, ridge: Ridge, outcome: Outcome, *, method: str, stacked: bool, seconds: float,
    labels: Labels, extra: dict[str, Any], shared: SharedTargets | None = None,
) -> Fit:  # fmt: skip
    """Make the Fit of an outcome. ND² flops a target unless the outcome has its covariance."""
    return fits_of(
        start, [ridge], [outcome], method=method, stacked=stacked, seconds=[seconds], labels=labels,
        extra=extra, shared=shared,
    )[0]  # fmt: skip


def fits_of(
    start: Start, ridges: Sequence[Ridge], outcomes: Sequence[Outcome], *, method: str, stacked: bool,
    seconds: Sequence[float], labels: Labels, extra: dict[str, Any], shared: SharedTargets | None = None,
) -> Fits:  # fmt: skip
    """Make the fits of outcomes at several ridges; see `describe`."""
    problem, target = start.problem, start.target
    (N, D), T, K, metric = problem.shape, len(target), len(outcomes), problem.metric
    outcomes = [kept(start, one) for one in outcomes]
    left, terms, nuisance = np.empty((K, T)), np.empty((K, T)), []
    together = max(1, GROUP_BYTES // (8 * T * max(N, D * D)))
    for first in range(0, K, together):
        some = slice(first, first + together)
        error = _stacked([each.covariance for each in outcomes[some]])
        error = np.subtract(target, error).reshape(-1, D, D)
        nuisance += _nuisance(problem, error, T)
        left[some] = blas.squares(error if metric is None else metric.image(error)).reshape(-1, T)
        terms[some] = _terms(problem, ridges[some], _stacked([each.delta for each in outcomes[some]]))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        losses = problem.unscaled(0.5 * left, y=4) + terms
        r2 = 1.0 - left / start.target_squares
        r2_at_one = 1.0 - start.error_squares / start.target_squares
    shown = slice(None) if stacked else 0
    stats = {
        "shape": problem.shape,
        "r2_at_one": r2_at_one[shown],
        "trace_ratio": start.trace_ratio[shown],
        "dtype": str(start.given.dtype),
        "center": problem.center,
        "pairs": "all" if metric is None else metric.pairs,
        **extra,
    }
    for at_one in _nuisance(problem, target - start.covariance, T):
        stats["nuisance_at_one"] = _shown(at_one, shown)
    groups = None if start.forms is None else start.forms.groups
    common = {
        "loss_at_one": problem.unscaled(0.5 * start.error_squares, y=4)[shown],
        "method": method,
        "channels": labels.channels,
        "conditions": labels.conditions,
        "_target": problem.unscaled(target, y=2)[shown],
        "_covariance_at_one": problem.unscaled(start.covariance, y=2),
        "groups": None if groups is None else groups.names,
        "group_places": None if groups is None else groups.places,
        "_kept": Kept(start.given),
    }
    residual = np.array([each.residual for each in outcomes])
    units = dataclasses.replace(problem.plain, X=np.empty((0, 0)))  # a fit keeps the units, not X
    each = tuple(by_channel(start, one) for one in outcomes)
    return Fits(
        tuple(ridges), each, losses, r2, residual, tuple(seconds), tuple(nuisance), common, stats,
        shown, units, None if shared is None else functools.partial(shared.stats, start.covariance),
    )  # fmt: skip


def kept(start: Start, outcome: Outcome) -> Outcome:
    """The outcome with its covariance, and without the slopes, which fits do not keep."""
    if outcome.covariance is None:
        gains = start.by_channel(outcome.gains)
        covariance = np.stack([start.problem.at(z).covariance() for z in gains])
        return dataclasses.replace(outcome, covariance=covariance, slopes=None)
    return outcome if outcome.slopes is None else dataclasses.replace(outcome, slopes=None)


def by_channel(start: Start, outcome: Outcome) -> Outcome:
    """The outcome with gains of channels, where it has those of groups."""
    if start.forms is None:
        return outcome
    gains, delta = start.by_channel(outcome.gains), start.by_channel(outcome.delta)
    return dataclasses.replace(outcome, gains=gains, delta=delta)


def _stacked(parts: Sequence[Any]) -> Any:
    """Stack K arrays (T, …) to (K, T, …); a single one is not copied."""
    return parts[0][np.newaxis] if len(parts) == 1 else np.stack(parts)


def _terms(problem: Problem, ridges: Sequence[Ridge], delta: Array) -> Array:
    """The ridge terms ½ δᵀPδ (K, T) for δ (K, T, N), in the caller's units."""
    if all(ridge.penalty.uniform for ridge in ridges):
        values = np.array([ridge.value for ridge in ridges])
        return 0.5 * values[:, np.newaxis] * np.square(delta).sum(axis=2)
    return np.stack([
        problem.unscaled(0.5 * ridge.penalty.quadratic(each), y=4)
        for ridge, each in zip(ridges, delta, strict=True)
    ])  # fmt: skip


def _nuisance(problem: Problem, error: Array, T: int) -> list[dict[str, Array]]:
    """β and γ (T,) of the errors S − C (K·T, D, D), for each of K fits, in the caller's units."""
    if problem.metric is None or not problem.metric.nuisance:
        return []
    terms = problem.unscaled(problem.metric.terms(error), y=2).reshape(-1, T, len(problem.metric.nuisance))
    return [{name: each[:, k] for k, name in enumerate(problem.metric.nuisance)} for each in terms]


def _shown(terms: dict[str, Array], shown: Any) -> dict[str, Any]:
    found = {name: value[shown] for name, value in terms.items()}
    return {name: value if np.ndim(value) else float(value) for name, value in found.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Fits(LazyFits):
    """Fits of one start at several ridges, kept as arrays; each `Fit` is made once, on first access."""

    ridges: tuple[Ridge, ...]
    outcomes: tuple[Outcome, ...]
    loss: Array  # (K, T)
    r2: Array  # (K, T)
    residual: Array  # (K, T)
    seconds: tuple[float, ...]
    nuisance: tuple[dict[str, Array], ...]  # one for each outcome, or empty
    common: dict[str, Any]  # fields that all fits share
    stats: dict[str, Any]  # stats that all fits share
    shown: Any  # index of the targets that a Fit shows: all of a stack, or the single one
    units: Problem  # units of the outcomes
    shared: Callable[[Array], dict[str, Any]] | None = None  # stats of targets whose mean was fitted
    made: dict[int, Fit] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.outcomes)

    @overload
    def __getitem__(self, k: int) -> Fit: ...
    @overload
    def __getitem__(self, k: slice) -> tuple[Fit, ...]: ...
    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return tuple(self[each] for each in range(len(self))[k])
        place = range(len(self))[k]
        if place not in self.made:
            self.made[place] = self._make(place)
        return self.made[place]

    def overshooting(self) -> NDArray[np.bool_]:
        """Whether any target of each fit ends above gains of one by more than rounding explains (K,)."""
        at_one, found = np.atleast_1d(self.common["loss_at_one"]), np.zeros(len(self), bool)
        places = np.flatnonzero((self.loss > at_one).any(axis=1))
        if len(places):
            size = [sizes(self.units.unscaled(self.outcomes[k].covariance, y=2)) for k in places]
            fixed = sizes(self.common["_target"]) + sizes(self.common["_covariance_at_one"])
            found[places] = beyond(self.loss[places], at_one, size + fixed, self.stats).any(axis=1)
        return found

    def each(self, name: str) -> list[Any]:
        """An attribute of all fits, without making any."""
        if name in ("loss", "r2", "residual"):
            return list(getattr(self, name)[:, self.shown])
        if name in ("gains", "delta"):
            return [getattr(outcome, name)[self.shown] for outcome in self.outcomes]
        if name in self.common:
            return [self.common[name]] * len(self)
        if name == "status":
            return [outcome.status for outcome in self.outcomes]
        return [{"ridge": each.value, "relative_ridge": each.relative}[name] for each in self.ridges]

    def _make(self, k: int) -> Fit:
        outcome, shown = self.outcomes[k], self.shown
        delta, gains, covariance = outcome.delta, outcome.gains, outcome.covariance
        assert covariance is not None
        if len(self) > 1:  # a user who keeps one fit must not keep the arrays of all
            delta, gains, covariance = delta.copy(), gains.copy(), covariance.copy()
        delta.flags.writeable = False  # every other number of the Fit is computed from it
        numbers = {name: value[shown] for name, value in outcome.stats.items() if name in STACKED}
        single = None
        if outcome.quartics is not None:
            single = np.empty((*delta.shape, 5))
            single[..., 0] = self.loss[k, :, np.newaxis]
            single[..., 1:] = self.units.unscaled(np.moveaxis(outcome.quartics, 1, -1), y=4)
            single = single[shown]
        stats = {**self.stats, **outcome.stats, **numbers, "seconds": self.seconds[k]}
        if self.shared is not None:
            stats["shared"] = self.shared(covariance[0])
        ridge = self.ridges[k]
        return Fit(
            delta=delta[shown],
            loss=self.loss[k, shown],
            r2=self.r2[k, shown],
            ridge=ridge.value,
            relative_ridge=ridge.relative,
            residual=self.residual[k, shown],
            status=outcome.status,
            stats=stats,
            _gains=gains[shown],
            _covariance=self.units.unscaled(covariance, y=2)[shown],
            nuisance=_shown(self.nuisance[k], shown) if self.nuisance else {},
            _single_gains=single,
            **self.common,
        )
