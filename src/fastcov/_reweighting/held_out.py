"""Nested cross-validation of weights over conditions."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute.progress import Progress
from .._fitting.settings import Settings
from .._inputs.validation import check_generator
from .._model.channel_atoms import of_conditions, weighted_similarities
from .._model.problem import Problem
from .._results.agreement import CORRELATIONS, LEAST_PAIRS
from .._results.held_out_pairs import PAIR_SCORES, HeldOutPairs, best_of
from .._results.reweighting import with_offset
from .._results.score import Indices, Split
from .._studies.folds import as_given, inner_folds, make_folds
from .._studies.ridge_path import check_ridges, outcomes
from .bounded import bounded_path
from .weights import WeightsStart

Array = NDArray[np.float64]

# What is left of a mean of as many pairs as there are conditions, over the values themselves.
ROUNDING = 1e-14


def held_out(
    problem: Problem, S: Any, atoms: str, shrink_to: float, settings: Settings, *, folds: Any, repeats: int,
    score: str, relative_ridges: Any,
) -> HeldOutPairs:  # fmt: skip
    """Choose the ridge of each fold by inner folds, and score its held-out pairs."""
    target = problem.astype(np.float64).target(S)
    if len(target) > 1 or np.ndim(S) == 3:
        raise ValueError(
            f"Argument 'S' must be one target for ridge='cv', not a stack of {len(target)}: fit each alone."
        )
    given, D = as_given(folds), problem.shape[1]
    random = check_generator(settings.rng)
    splits = make_folds(given, repeats, D, random)
    values, _ = check_ridges(None, relative_ridges)
    study = _Study(problem, problem.unscaled(target[0], y=2), atoms, shrink_to, settings, values)
    inner = [inner_folds(given, train, random) for train, _ in splits]
    for k, (split, parts) in enumerate(zip(splits, inner, strict=True)):
        _require_pairs(score, k, [split, *parts], study)
    F, K, total = len(splits), len(values), sum(1 + len(parts) for parts in inner)
    by_ridge = {name: np.full((F, K), np.nan) for name in PAIR_SCORES}
    equal = {name: np.full(F, np.nan) for name in PAIR_SCORES}
    places, done = np.zeros(F, np.intp), 0
    sums, counts = np.zeros((D, D)), np.zeros((D, D))
    for k, (split, parts) in enumerate(zip(splits, inner, strict=True)):
        within = np.full((len(parts), K), np.nan)
        for j, part in enumerate(parts):
            predicted = study.predicted(part[0])
            within[j] = [study.scores(each, part)[score] for each in predicted]
            done += 1
            settings.watch(Progress("folds", done / total))
        predicted = study.predicted(split[0])
        for name, column in _by_name([study.scores(each, split) for each in predicted]).items():
            by_ridge[name][k] = column
        for name, found in study.scores(study.equal, split).items():
            equal[name][k] = found
        places[k] = best_of(within)
        if places[k] < 0:
            raise ValueError(
                f"Argument 'S' must vary over held-out pairs, not be constant in inner folds of fold {k}: "
                "use larger folds."
            )
        unseen = np.zeros((D, D), bool)
        unseen[split[1]] = unseen[:, split[1]] = True
        unseen[np.setdiff1d(np.arange(D), np.union1d(*split))] = False
        sums[unseen] += predicted[places[k]][unseen]
        counts += unseen
        done += 1
        settings.watch(Progress("folds", done / total))
    with np.errstate(invalid="ignore"):
        mean = np.where(counts > 0, sums / np.where(counts > 0, counts, 1.0), np.nan)
    mean = 0.5 * (mean + mean.T)
    if best_of(by_ridge[score]) < 0:
        raise ValueError("Argument 'S' must vary over held-out pairs, not be constant in all folds.")
    nested = {name: table[np.arange(F), places] for name, table in by_ridge.items()}
    ridges = np.array(values)
    return HeldOutPairs(score, ridges, splits, repeats, ridges[places], nested, by_ridge, equal, mean)


def _by_name(found: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [each[name] for each in found] for name in PAIR_SCORES}


class _Study:
    """Fits to some of the conditions, and their predictions of all."""

    def __init__(
        self, problem: Problem, target: Array, atoms: str, shrink_to: float, settings: Settings,
        ridges: list[float],
    ) -> None:  # fmt: skip
        self.problem, self.target, self.atoms, self.shrink_to = problem, target, atoms, shrink_to
        self.settings, self.ridges = settings, ridges
        metric, D = problem.metric, problem.shape[1]
        there = np.ones((D, D), bool) if metric is None or metric.weights is None else metric.weights > 0
        self.counted = there & ~np.eye(D, dtype=bool)
        self.equal = self._similarities(np.ones((1, problem.shape[0])))[0]

    def _similarities(self, weights: Array) -> Array:
        found: Array = self.problem.unscaled(weighted_similarities(self.problem, weights, self.atoms), y=2)
        return found

    def predicted(self, train: Indices) -> Array:
        """Predictions (K, D, D) of weights fitted to the training conditions at each ridge."""
        some = of_conditions(self.problem, train, self.atoms)
        if self.problem.metric is not None:
            some = dataclasses.replace(some, metric=self.problem.metric.take(train))
        begun = WeightsStart.of(
            some, self.target[np.ix_(train, train)], self.atoms, self.shrink_to, self.settings.budget
        )
        grid = begun.ridges(self.ridges)
        settings = begun.settings(self.settings).watched(lambda _: None)
        weights = np.empty((len(grid), some.shape[0]))
        fits = (
            bounded_path(begun.start, grid, settings)
            if settings.bounds is not None
            else outcomes(begun.start, grid, "linear", settings)
        )
        for places, found in fits:
            for k, outcome in zip(places, found, strict=True):
                weights[k] = begun.weights(outcome, self.settings.bounds)[0]
        offsets = np.zeros(len(grid))
        similarities = self._similarities(weights)
        metric = self.problem.metric
        if metric is not None and metric.nuisance:
            inside = np.ix_(train, train)
            counted = np.ones_like(self.target) if metric.weights is None else metric.weights
            w = counted[inside]
            for k, each in enumerate(similarities):
                offsets[k] = (w * (self.target - each)[inside]).sum() / w.sum()
        return with_offset(similarities, offsets, self.atoms)

    def scores(self, prediction: Array, split: Split) -> dict[str, float]:
        """Correlations over pairs of two held-out conditions, and of a held-out and a training one."""
        inside, across = self.inside(split), self.across(split)
        compared = {
            "": [M[inside] for M in (prediction, self.target)],
            "cross-": [self._less_means(M, across) for M in (prediction, self.target)],
        }
        return {
            prefix + name: correlation(*pair)
            for prefix, pair in compared.items()
            for name, correlation in CORRELATIONS.items()
        }

    @staticmethod
    def _less_means(M: Array, pairs: tuple[Indices, Indices]) -> Array:
        """Entries at pairs of a held-out and a training condition, less their mean for the latter.

        That mean is no prediction: other pairs of the training condition were fitted, and tell of its level.
        """
        values, (_, trained) = M[pairs], pairs
        counts = np.maximum(np.bincount(trained, minlength=len(M)), 1)
        means = np.bincount(trained, values, minlength=len(M)) / counts
        left = values - means[trained]
        # A training condition with one such pair leaves rounding.
        return np.where(np.abs(left) > ROUNDING * np.abs(values).max(initial=0.0), left, 0.0)

    def inside(self, split: Split) -> tuple[Indices, Indices]:
        """Pairs of two held-out conditions."""
        i, j = np.triu_indices(len(split[1]), 1)
        return self._counted(split[1][i], split[1][j])

    def across(self, split: Split) -> tuple[Indices, Indices]:
        """Pairs of a held-out and a training condition."""
        train, test = split
        return self._counted(np.repeat(test, len(train)), np.tile(train, len(test)))

    def _counted(self, a: Indices, b: Indices) -> tuple[Indices, Indices]:
        there = self.counted[a, b]
        return a[there], b[there]


def _require_pairs(score: str, k: int, splits: list[Split], study: _Study) -> None:
    """Raise a ValueError unless each fold and its inner folds have pairs to correlate."""
    for split in splits:
        pairs = study.across(split) if score.startswith("cross-") else study.inside(split)
        alone = score.startswith("cross-") and len(split[1]) < 2
        if len(pairs[0]) < LEAST_PAIRS or alone:
            raise ValueError(
                f"Argument 'folds' must hold out enough conditions to correlate {LEAST_PAIRS} pairs in each "
                f"fold and inner fold, not {len(split[1])} as in fold {k}: use fewer folds, or with two "
                "conditions score='cross-pearson'."
            )
