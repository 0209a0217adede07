"""A study of held-out conditions: what its folds share, and the path and scores of one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._covariance import dust
from ._folds import Split
from ._path import outcomes
from ._problem import Problem
from ._settings import Settings
from ._sources import Stored
from ._start import Start

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Score:
    """Of one fit, on what it did not see."""

    r2: float
    r2_over_one: float
    pearson: float
    residual: float = 0.0
    status: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """What all folds share."""

    given: Problem
    output: Problem
    at_one: Array  # covariance of X at gains of one (D, D)
    target: Array  # covariance of Y (D, D)
    ridges: list[float]
    relative: bool
    # The largest eigenvalue of GᵀG by training conditions: whatever the method, ridges and shuffles.
    largest: dict[bytes, float] = dataclasses.field(default_factory=dict)

    def block(self, conditions: NDArray[np.intp]) -> Problem:
        """The responses to some conditions."""
        X = self.given.X
        part: Any = X.columns(conditions) if isinstance(X, Stored) else np.take(X, conditions, axis=1)
        return Problem.of(part, center=self.given.center)

    def scale(self, train: NDArray[np.intp], target: Array) -> float:
        """From the target's units to those of X, by the training conditions."""
        traces = []
        for name, problem, C in (("X", self.given, self.at_one), ("Y", self.output, target)):
            traces.append(float(np.trace(C[np.ix_(train, train)])))
            if not traces[-1] > dust(problem, len(train)):
                raise ValueError(
                    f"Argument '{name}' must vary over its channels in the training conditions of each fold, "
                    "not have a covariance of zero there: pass other folds."
                )
        return traces[0] / traces[1]

    def score(self, split: Split, gains: Array, order: NDArray[np.intp]) -> Score:
        """Of the covariance that gains predict for the held-out conditions."""
        train, test = split
        target = self.target[np.ix_(order, order)]
        S = self.scale(train, target) * target[np.ix_(test, test)]
        return score_of(self.block(test).astype(np.float64), gains, S, self.at_one[np.ix_(test, test)])

    def path(
        self,
        split: Split,
        order: NDArray[np.intp],
        method: str,
        settings: Settings,
        places: Sequence[int],
    ) -> dict[int, Score]:
        """Scores of one method on one fold, at the ridges in these places."""
        train, test = split
        target = self.target[np.ix_(order, order)]
        scale = self.scale(train, target)
        start = Start.of(self.block(train), scale * target[np.ix_(train, train)])
        ridges = self.ridges
        if self.relative:
            key = train.tobytes()
            if key not in self.largest:
                self.largest[key] = start.problem.unscaled(start.largest, y=4)
            ridges = [self.largest[key] * share for share in ridges]
        grid = [start.ridge(ridges[k], None) for k in places]
        held_out = self.block(test).astype(np.float64)
        S, at_one = scale * target[np.ix_(test, test)], self.at_one[np.ix_(test, test)]
        scores = {}
        for some, found in outcomes(start, grid, method, settings):
            for k, outcome in zip(some, found, strict=True):
                score = score_of(held_out, outcome.gains[0], S, at_one)
                scores[places[k]] = dataclasses.replace(
                    score, residual=float(outcome.residual[0]), status=outcome.status
                )
        return scores


def score_of(problem: Problem, gains: Array, S: Array, at_one: Array) -> Score:
    return score_between(problem.unscaled(problem.at(gains).covariance(), y=2), S, at_one)


def score_between(C: Array, S: Array, at_one: Array) -> Score:
    """Of a predicted covariance against the target, and against that at gains of one."""
    above = np.triu_indices(len(S), 1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        left = np.square(C - S).sum()
        r2, over_one = 1.0 - left / np.square(S).sum(), 1.0 - left / np.square(at_one - S).sum()
        pearson = np.nan
        if len(above[0]) > 2:
            a, b = (M[above] / np.abs(M).max() for M in (C, S))  # products of any scale stay in range
            a, b = a - a.mean(), b - b.mean()
            pearson = (a @ b) / np.sqrt((a @ a) * (b @ b))
    return Score(float(r2), float(over_one), float(pearson))
