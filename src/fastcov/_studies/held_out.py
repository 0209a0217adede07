"""A study of held-out conditions: data that all folds share, and the fits and scores of each fold."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._connectivity.reduced import Reduced
from .._connectivity.solve import METHODS
from .._fitting.connected import ConnectedStart
from .._fitting.settings import Settings
from .._fitting.start import Ridge, Start
from .._model.group_forms import forms_bytes
from .._model.groups import Groups
from .._model.problem import Problem
from .._model.products import covariance_columns
from .._model.target import rounding_floor
from .._results.score import BASELINES, N_SUMS, Split, sums_of
from .baselines import Block, added, baselines
from .connected import connected_paths
from .ridge_path import outcomes

if TYPE_CHECKING:
    from .._model.metric import Metric

Array = NDArray[np.float64]
Order = NDArray[np.intp]

# The starts of folds are kept for other orders of conditions, up to this many bytes of responses.
KEPT_BYTES = 1 << 28


class ConstantError(ValueError):
    """The covariance of X or Y is zero in the training conditions of a fold."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Argument '{name}' must vary over its channels in the training conditions of each fold, not "
            "have a covariance of zero there: pass other folds."
        )
        self.name = name


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Scores of one fit on pairs it did not see."""

    sums: Array  # see Moments
    errors: Array  # squared error of each held-out condition
    residual: float = 0.0
    status: str = ""
    gains: Array | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """Data that all folds share. Covariances are in units in which that of X is near one."""

    given: Problem
    exact: Problem  # `given` in float64
    output: Problem | None  # None: the target is a matrix, on the scale of X
    at_one: Array  # covariance of X at gains of one (D, D)
    mean: Array  # √N times the mean of X over channels (D,), in the root of these units
    target: Array  # covariance of Y, or S (D, D)
    weights: Array  # of pairs (D, D)
    metric: Metric | None
    unit: float
    ridges: list[float]
    relative: bool
    groups: Groups | None = None  # of channels that share a gain
    starts: dict[bytes, Start] = dataclasses.field(default_factory=dict)
    # What a connectivity needs of X, by training conditions.
    connected: dict[bytes, Reduced] = dataclasses.field(default_factory=dict)
    # The largest eigenvalue of GᵀG by training conditions. It does not depend on method, ridges or shuffles.
    largest: dict[bytes, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        given: Problem,
        output: Problem | None,
        S: Array | None,
        metric: Metric | None,
        ridges: list[float],
        relative: bool,
        groups: Groups | None = None,
    ) -> HeldOut:
        exact = given.astype(np.float64)
        fits = given.rows.in_memory and 8 * given.X.size <= KEPT_BYTES
        if fits and exact.exponent == 0 and not exact.ready(given.X):
            exact = exact.converted()
        at_one = exact.unscaled(exact.covariance(), y=2)
        weights = np.ones_like(at_one) if metric is None or metric.weights is None else metric.weights
        target = S
        if output is not None:
            wide = output.astype(np.float64)
            target = wide.unscaled(wide.covariance(), y=2)
        assert target is not None
        unit = math.ldexp(1.0, -math.frexp(float(np.abs(at_one).max()))[1])
        mean = math.sqrt(unit * given.shape[0]) * exact.unscaled(exact.mean, x=1)
        return cls(
            given, exact, output, unit * at_one, mean, target, np.ascontiguousarray(weights), metric, unit,
            ridges, relative, groups,
        )  # fmt: skip

    def scale(self, train: Order, target: Array) -> float:
        """Factor from the target's units to those of X, computed from the training conditions."""
        if self.output is None:
            return 1.0
        traces = []
        of_one = self.at_one / self.unit
        for name, problem, C in (("X", self.given, of_one), ("Y", self.output, target)):
            traces.append(float(np.trace(C[np.ix_(train, train)])))
            if not traces[-1] > rounding_floor(problem, len(train)):
                raise ConstantError(name)
        return traces[0] / traces[1]

    def fold(self, split: Split, order: Order) -> Fold:
        """A split, with the conditions of the target in the given order."""
        train, _ = split
        target = self.target[np.ix_(order, order)]
        weights = self.weights[np.ix_(order, order)]
        scale = self.scale(train, target)
        scaled = (self.unit * scale) * target
        block = Block.of(np.nan_to_num(scaled[np.ix_(train, train)]), weights[np.ix_(train, train)])
        return Fold(self, split, order, scale, target, scaled, weights, block)

    def start(self, fold: Fold, budget: float | None = None) -> Start:
        """The start of a fit to the training conditions, at gains of one, within `budget` bytes beyond X."""
        train, _ = fold.split
        S = fold.scale * fold.target[np.ix_(train, train)]
        metric = None if self.metric is None else self.metric.take(fold.order[train])
        key = self.key(fold)
        if key in self.starts:
            return self.starts[key].with_target(S)
        rows = self.given.rows
        part = rows.columns(train)
        problem = Problem.of(part, center=self.given.center)
        if metric is not None:
            problem = dataclasses.replace(problem, metric=metric)
        start = Start.of(problem, S, budget=budget, groups=self.groups)
        if self.relative and key not in self.largest:
            self.largest[key] = start.problem.unscaled(start.largest, y=4)
        size = 16.0 * math.prod(start.given.shape)
        if self.groups is not None:
            size += forms_bytes(len(self.groups), len(train))
        if rows.in_memory and size * (len(self.starts) + 1) <= KEPT_BYTES:
            self.starts[key] = start
        return start

    def whole(self, orders: Sequence[Order]) -> Start:
        """The start of a fit to all conditions, with the target in each of the orders."""
        every = np.arange(len(self.target))
        target = self.scale(every, self.target) * self.target
        metric = None if self.metric is None else self.metric.take(orders[0])
        problem = self.given if metric is None else dataclasses.replace(self.given, metric=metric)
        targets = np.stack([target[np.ix_(order, order)] for order in orders])
        return Start.of(problem, targets, groups=self.groups)

    @functools.cached_property
    def reduced(self) -> Reduced:
        """All conditions as a connectivity needs them, in the study's units."""
        return Reduced(self.at_one, self.mean, self.given.center, None, self.given.shape[0])

    def reduced_for(self, fold: Fold) -> Reduced:
        """The training conditions of a fold as a connectivity needs them."""
        key = self.key(fold)
        if key not in self.connected:
            train, _ = fold.split
            metric = None if self.metric is None else self.metric.take(fold.order[train])
            self.connected[key] = self.reduced.take(train, metric)
        return self.connected[key]

    def connected_start(self, fold: Fold) -> ConnectedStart:
        """The training conditions of a fold, as gains and a connectivity together need them."""
        train, _ = fold.split
        problem = Problem.of(self.given.rows.columns(train), center=self.given.center)
        if self.metric is not None:
            problem = dataclasses.replace(problem, metric=self.metric.take(fold.order[train]))
        problem = problem.astype(np.float64)
        return ConnectedStart.of(problem, fold.scale * fold.target[np.ix_(train, train)], lambda _: None)

    def key(self, fold: Fold) -> bytes:
        """A key to everything, apart from the target, that the matrices of a training block depend on."""
        train, _ = fold.split
        return train.tobytes() + (b"" if self.even else fold.order[train].tobytes())

    @functools.cached_property
    def even(self) -> bool:
        """Whether all pairs off the diagonal have one weight, and all on the diagonal have one."""
        off = self.weights[np.triu_indices(len(self.weights), 1)]
        return all(len(w) == 0 or np.ptp(w) == 0 for w in (off, np.diagonal(self.weights)))

    def grid(self, fold: Fold, start: Start, places: Sequence[int]) -> list[Ridge]:
        """The ridges at some indices, for this fold."""
        if not self.relative:
            return [start.ridge(self.ridges[k], None) for k in places]
        largest = self.largest[self.key(fold)]
        return [start.ridge(largest * self.ridges[k], None) for k in places]

    def paths(
        self, split: Split, orders: Sequence[Order], method: str, settings: Settings, places: Sequence[int],
        keep: bool,
    ) -> list[dict[int, Prediction]]:  # fmt: skip
        """Predictions of one method on one fold, at the ridges with these indices, for each order.

        Several orders are allowed only if pairs count alike.
        """
        folds = [self.fold(split, order) for order in orders]
        if method in METHODS:
            return connected_paths(self, folds, method, settings, places)
        start = self.start(folds[0], settings.budget)
        if len(folds) > 1:
            train, _ = split
            start = start.with_target(
                np.stack([fold.scale * fold.target[np.ix_(train, train)] for fold in folds])
            )
        grid = self.grid(folds[0], start, places)
        found: list[dict[int, Prediction]] = [{} for _ in folds]
        for some, fits in outcomes(start, grid, method, settings):
            for k, outcome in zip(some, fits, strict=True):
                gains = start.by_channel(outcome.gains)
                for t, fold in enumerate(folds):
                    covariance = None
                    if outcome.covariance is not None:
                        covariance = start.problem.unscaled(outcome.covariance[t], y=2)
                    found[t][places[k]] = dataclasses.replace(
                        fold.predicted(gains[t], covariance, keep),
                        residual=float(outcome.residual[t]), status=outcome.status,
                    )  # fmt: skip
        return found

    def compared(self, split: Split, order: Order) -> Array:
        """Sums behind the scores of each baseline (3, N_SUMS)."""
        fold = self.fold(split, order)
        found = baselines(self.at_one, np.nan_to_num(fold.scaled), fold.weights, split, fold.block)
        out = np.empty((len(BASELINES), N_SUMS))
        for row, name in zip(out, BASELINES, strict=True):
            row[:] = fold.scored(*found[name])[0]
        return out


@dataclasses.dataclass(frozen=True, eq=False)
class Fold:
    """One split, with the target in the study's units and its conditions in a given order."""

    study: HeldOut
    split: Split
    order: Order
    scale: float
    target: Array  # in its own units
    scaled: Array  # the target in the study's units; NaN where it is unknown
    weights: Array
    block: Block

    def scored(self, columns: Array, diagonal: Array) -> tuple[Array, Array]:
        return sums_of(columns, diagonal, self.scaled, self.weights, self.split, self.block.covariance)

    def predicted(self, gains: Array, covariance: Array | None, keep: bool) -> Prediction:
        """The scores of what gains predict; see `columns`."""
        return self.prediction(*self.columns(gains, covariance), gains=gains.copy() if keep else None)

    def prediction(self, columns: Array, diagonal: Array, **certificate: Any) -> Prediction:
        """The scores of predicted columns of held-out conditions, and of the predicted diagonal."""
        return Prediction(*self.scored(columns, diagonal), **certificate)

    def columns(self, gains: Array, covariance: Array | None = None) -> tuple[Array, Array]:
        """The columns (D, k) of held-out conditions that gains predict, and the diagonal (D,).

        `covariance` is that of the training block at these gains; it is computed if None and needed.
        """
        study, (train, test) = self.study, self.split
        there = study.exact.at(gains)
        columns, diagonal = covariance_columns(there, test)
        columns, diagonal = (study.unit * there.unscaled(M, y=2) for M in (columns, diagonal))
        if study.metric is None or not study.metric.nuisance:
            return columns, diagonal
        block = np.ix_(train, train)
        if covariance is None:
            covariance = there.unscaled(there.covariance(), y=2)[block]
        return self.with_terms(columns, diagonal, study.unit * covariance)

    def with_terms(self, columns: Array, diagonal: Array, covariance: Array) -> tuple[Array, Array]:
        """A prediction with the nuisance terms that suit the covariance of the training block best."""
        metric, (train, test) = self.study.metric, self.split
        if metric is None or not metric.nuisance:
            return columns, diagonal
        metric = metric.take(self.order[train])
        left = np.nan_to_num(self.scaled[np.ix_(train, train)]) - covariance
        terms = dict(zip(metric.nuisance, metric.terms(left).ravel().tolist(), strict=True))
        return added(columns, diagonal, terms.get("diagonal", 0.0), terms.get("constant", 0.0), test)
