"""study(): which channels' gains change, how surely, and whether they predict held-out conditions."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._compute.progress import Progress, watching
from .._inputs.labels import outside
from .._inputs.validation import check_generator
from .._model.target import ALL_NEEDED, record_of
from .._results.cross_validation import CrossValidation
from .._results.fit import Fit
from .._results.group_studies import GroupStudies, correlation
from .._results.noise_ceiling import NoiseCeiling
from .._results.permutation_test import FDR, PermutationTest
from .._results.score import SCORE
from .._results.study import PopulationStudy, Study
from .._results.uncertainty import Uncertainty
from .._rows.responses import over_trials
from .._studies.cross_validation import run_study
from .._studies.folds import apart, as_given
from .._studies.group_gains import group_gains
from .._studies.held_out import HeldOut
from .._studies.noise_ceiling import noise_ceiling
from .._studies.permutation_test import RIDGES, run_test
from .._studies.trial_columns import unrepeated
from .checks import Populations, check, check_cells
from .differences import dealt, difference
from .groups import Groups, is_pair, some_rows, why
from .predicted import held_out_covariances
from .progress import Bar

Orders = list[NDArray[np.intp]]


def study(
    X: ArrayLike,
    Y: ArrayLike | Mapping[str, ArrayLike],
    *,
    groups: Any = None,
    shuffles: int = 100,
    nested: bool = True,
    method: str = "exact",
    n_starts: int = 1,
    score: str = SCORE,
    ridges: ArrayLike | None = None,
    relative_ridges: ArrayLike | None = None,
    folds: Any = 5,
    repeats: int = 1,
    by: str = "cells",
    level: float = 0.95,
    n_boot: int = 0,
    fdr: float = FDR,
    group_shuffles: int = 0,
    deals: int = 0,
    permute: str = "conditions",
    condition_groups: Any = None,
    trials: Any = None,
    nan_policy: str = "raise",
    nuisance: str | Sequence[str] | None = None,
    pairs: Any = None,
    bounds: Any = None,
    center: bool = True,
    solver: str = "auto",
    tol: float | None = None,
    max_iterations: int = 1000,
    rng: Any = 0,
    memory_budget: float | None = None,
    callback: Callable[[Progress], object] | None = None,
) -> Study:
    """Find which channels' gains change, how surely, and whether gains predict held-out conditions.

    One call does, on the same folds, what these do one by one: `cross_validate` with nested folds, the
    `permutation_test`, `noise_ceiling`, and `Fit.uncertainty` with its table of channels. The result prints
    a verdict in plain English.

    A channel's gain counts as changed if two things hold. Its interval leaves out one. And it differs from
    gains that are fitted to targets with shuffled conditions, at a false discovery rate of `fdr`. With z_k(λ)
    the gain in order k at ridge λ, order 0 being that of the data, and z̄(λ) and s(λ) their mean and standard
    deviation over all K + 1 orders,

        t_k = max_λ |z_k(λ) − z̄(λ)| / s(λ),    p = (1 + #{k ≥ 1 : t_k ≥ t_0}) / (K + 1).

    The maximum is taken in each order, so that p is valid if conditions are exchangeable. No ridge has to be
    chosen for it: small ridges, which may predict best, tell single channels apart least. q pools shuffles
    of all channels, as in `permutation_test`.

    Parameters
    ----------
    X : array_like, shape (N, D) or (trials, N, D)
        Responses of the input channels. Trials are averaged, as for `fit`.
    Y : array_like, shape (M, D) or (trials, M, D), or mapping of name to these
        Responses of the other population, or of several populations, to the same conditions. Conditions with
        names are aligned. Several populations are studied on the same folds and shuffles, and compared.
    groups : sequence of N labels, or a pair of these and of labels of the cells of Y, optional
        The group of each channel of X, such as its animal. Each group of channels is studied by itself, too:
        against all cells of Y, or if these have labels (a sequence of M, or for several populations a mapping
        of name to these), against the cells with the same label. One gain for each group is a further
        baseline: the exact minimum of the loss over gains that are alike within groups, without a ridge, as
        it is reached from gains of one.
    shuffles : int, default 100
        How often to repeat the study with shuffled conditions; at least 19, or 0 for no p-values.
    nested : bool, default True
        Score each fold at the ridge that inner folds of its training conditions choose, too.
    method : str, default "exact"
        A method of `fit`. For "line-search" and "diagonal", intervals need `n_boot`. A connectivity ("free",
        "symmetric", "psd") is tested on held-out conditions, and has no gains to tell apart.
    n_starts : int, default 1
        Starts of the exact fit of all conditions, as for `fit`. The table of channels then says in which
        share of them each gain is on the same side of one.
    score, folds, repeats
        As for `cross_validate`.
    ridges, relative_ridges : array_like, shape (L,)
        As for `cross_validate`. By default relative, 1e-3 to 0.1 in half decades, and 1.
    by, level, n_boot
        What intervals are over, their coverage, and whether they come from bootstraps: see `Fit.uncertainty`.
    fdr : float, default 0.1
        False discovery rate at which gains count as changed.
    group_shuffles : int, default 0
        Shuffles of the study of each group; at least 19, or 0.
    deals : int, default 0
        For p-values of differences between populations: how often to deal the cells of each pair of them anew
        to the two; at least 19, or 0. Cells must then be in the same units. Shuffled conditions would not
        tell: they test whether either population is predicted, not whether both are predicted alike.
    permute : {"conditions", "within", "groups"}
        What a shuffle permutes, as for `cross_validate`.
    condition_groups : sequence of D labels, optional
        The group of each condition, for `permute`.
    trials : sequence of D labels, optional
        The condition of each column, if columns are single trials, as for `cross_validate`.
    nan_policy : {"raise", "omit-trials", "pairwise"}
        What to do with NaN, as for `fit`. With "pairwise" only covariances are known where cells have missing
        values: intervals then need ``by="conditions"``.
    nuisance, pairs, bounds, center, solver, tol, max_iterations, memory_budget
        As for `fit`.
    rng : default 0
        Draws folds and shuffles, as for `permutation_test`, bootstraps, halves and deals. A generator is left
        as it was, as all populations have the same.
    callback : callable, optional
        Called with a `Progress` of stage "study".

    Returns
    -------
    Study

    Raises
    ------
    TypeError, ValueError, MemoryError
        As for the functions above; if populations have other conditions than X; if a group has one channel,
        or no cells of Y.

    Warns
    -----
    UserWarning
        If intervals cannot be computed: the table of channels is then left out. If a group cannot be studied
        by itself, because its channels or its cells do not vary in the training conditions of a fold.
    ConvergenceWarning, LabelWarning
        As for the functions above.

    Notes
    -----
    The cost is that of K + 1 studies for each population, plus L(K + 1) fits of all conditions. Groups add a
    study each, without shuffles.

    The standard error of a difference between populations is the jackknife's over folds of the paired
    difference. Its interval uses Student's t with one less than the number of folds of a repeat. Both say how
    the difference varies over conditions, and not over cells: of two samples of cells from one population it
    may leave out 0 in most cases. Only `deals` tests whether other cells would differ, too.

    Examples
    --------
    >>> import fastcov as fc
    >>> sim = fc.datasets.simulate(40, 14, rng=0)
    >>> found = fc.study(sim.X, sim.Y, shuffles=19, relative_ridges=[1e-2, 1e-1], folds=4)
    >>> found.p
    0.05
    >>> found.channels.to_frame().shape
    (40, 11)
    """
    started = time.perf_counter()
    named = isinstance(Y, Mapping)
    X = over_trials("X", unrepeated("X", X, trials), nan_policy, rows=ALL_NEEDED)
    found = Populations.of(X, Y, trials, nan_policy, center)
    populations = found.responses
    level, fdr = check(
        method, by, n_boot, shuffles, group_shuffles, deals, fdr, level, n_starts, len(populations)
    )
    check_cells(found, is_pair(groups), deals)
    found_groups = Groups.of(groups, X, populations, named)
    seed, folds = check_generator(rng), as_given(folds)
    if ridges is None and relative_ridges is None:
        relative_ridges = RIDGES
    shared: dict[str, Any] = {
        "ridges": ridges, "relative_ridges": relative_ridges, "method": method, "repeats": repeats,
        "score": score, "groups": condition_groups, "permute": permute, "trials": trials,
        "nan_policy": "raise", "nuisance": nuisance, "pairs": pairs,
        "solver": solver, "center": center, "bounds": bounds, "tol": tol, "max_iterations": max_iterations,
        "memory_budget": memory_budget,
    }  # fmt: skip
    run = _Run(
        X, found_groups, shared, folds, seed, shuffles, group_shuffles, nested, by, level, n_boot, fdr,
        n_starts,
    )  # fmt: skip
    with watching(callback) as watch:
        bar = Bar(watch, run.cost(len(populations), deals))
        ceilings = {
            name: functools.partial(noise_ceiling, each, by="cells", center=center, nan_policy=nan_policy)
            for name, each in found.given.items()
        }
        for name, ceiling in ceilings.items():
            # One split refuses what all would. They need the number of folds, and are made when it is known.
            with found.named(name), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ceiling(n_splits=1)
        parts = {}
        for name, each in populations.items():
            with found.named(name):
                parts[name] = run.population(name, each, ceilings[name], bar)
        nulls: dict[tuple[str, str], Any] = {}
        if deals:
            told = bar.step(run.cost_of_deals(len(populations), deals))
            like = next(iter(parts.values())).cv
            nulls = dealt(
                populations, deals, copy.deepcopy(seed), lambda cells: run.plain(X, cells, like),
                lambda done: told(Progress("deals", done)),
            )  # fmt: skip
        bar.end()
    return Study(
        populations=parts,
        differences=tuple(
            difference(parts[a], parts[b], level, nulls.get((a, b)))
            for a, b in itertools.combinations(parts, 2)
        ),
        stats={
            "shape": next(iter(parts.values())).cv.stats["shape"], "by": by, "level": level, "fdr": fdr,
            "shuffles": shuffles, "named": named,
            "cells": {name: int(shape[0]) for name, shape in found.shapes.items()},
            "seconds": time.perf_counter() - started,
        },
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """What all parts of a study share."""

    X: Any
    groups: Groups | None
    shared: dict[str, Any]
    folds: Any
    seed: np.random.Generator
    shuffles: int
    group_shuffles: int
    nested: bool
    by: str
    level: float
    n_boot: int
    fdr: float
    n_starts: int

    def cost(self, populations: int, deals: int) -> float:
        """All work, in studies without shuffles."""
        groups = 0 if self.groups is None else 1.0 + self.group_shuffles + self._baseline
        return populations * (self._own + self._errors + groups) + self.cost_of_deals(populations, deals)

    @property
    def _own(self) -> float:
        return 1.0 + self.shuffles + (5.0 if self.nested else 0.0)

    @property
    def _errors(self) -> float:
        return 1.0 + 0.1 * self.n_boot

    @property
    def _baseline(self) -> float:
        return 0.1 * (1.0 + self.shuffles)

    def cost_of_deals(self, populations: int, deals: int) -> float:
        return populations * (populations - 1.0) * deals

    def population(
        self, name: str, Y: Any, ceiling: Callable[..., NoiseCeiling], bar: Bar
    ) -> PopulationStudy:
        """Study one population."""
        evidence, held_out, orders = self.evidence(
            self.X, Y, self.folds, self.shuffles, self.nested, bar.step(self._own)
        )
        cv = evidence.cv if isinstance(evidence, PermutationTest) else evidence
        top = ceiling(folds=apart(cv), rng=copy.deepcopy(self.seed))
        found = PopulationStudy(name, evidence, top, None, None)
        told = bar.step(self._errors)
        uncertainty, missing = self.uncertainty(found, Y, told)
        channels = None if uncertainty is None else uncertainty.table(evidence, fdr=self.fdr)
        groups = None
        if self.groups is not None:
            groups = self.studies(name, Y, found, held_out, orders, bar)
        return dataclasses.replace(
            found,
            uncertainty=uncertainty,
            channels=channels,
            groups=groups,
            missing=missing,
            predicted=held_out_covariances(
                held_out, found.cv, tol=self.shared["tol"], max_iterations=self.shared["max_iterations"]
            ),
        )

    def evidence(
        self, X: Any, Y: Any, folds: Any, shuffles: int, nested: bool, callback: Callable[[Progress], object]
    ) -> tuple[PermutationTest | CrossValidation, HeldOut, Orders]:
        """A test of X and Y, or without shuffles a cross-validation; draws what `permutation_test` draws."""
        whole = folds is self.folds  # a group by itself has the folds of the whole, and one start
        shared = self.shared | {
            "repeats": self.shared["repeats"] if whole else 1,
            "n_starts": self.n_starts if whole else 1,
        }
        random = copy.deepcopy(self.seed)
        if shuffles:
            return run_test(
                X, Y, S=None, shuffles=shuffles, rng=random, folds=folds, channels=True, every_ridge=True,
                nested=nested, callback=callback, **shared,
            )  # fmt: skip
        shared |= {"groups": None, "permute": "conditions"}
        return run_study(
            X, Y, S=None, shuffles=0, rng=random, folds=folds, nested=nested, refit="best", callback=callback,
            **shared,
        )  # fmt: skip

    def plain(self, X: Any, Y: Any, like: CrossValidation) -> CrossValidation:
        """A cross-validation on the folds of another, without a fit of all conditions."""
        shared = self.shared | {"groups": None, "permute": "conditions", "repeats": 1}
        cv, _, _ = run_study(
            X, Y, S=None, shuffles=0, rng=0, folds=like.folds, nested=False, refit=None, callback=None,
            **shared,
        )  # fmt: skip
        return cv

    def uncertainty(
        self, found: PopulationStudy, Y: Any, callback: Callable[[Progress], object]
    ) -> tuple[Uncertainty | None, str]:
        """Intervals of all gains; where there are none, None and the reason, of which it warns."""
        if found.fit is None:
            return None, "no ridge has a finite score"
        if not isinstance(found.fit, Fit):
            return None, f"method={found.method!r} fits a connectivity, whose entries have no intervals"
        if "moved" in (record_of(Y) or {}) and self.by != "conditions":
            reason = "with nan_policy='pairwise' covariances are known, and cells are not: by='conditions'"
            warnings.warn(f"There are no intervals of gains: {reason}", UserWarning, stacklevel=outside())
            return None, reason
        try:
            return found.fit.uncertainty(
                Y, by=self.by, X=self.X, level=self.level, n_boot=self.n_boot, rng=copy.deepcopy(self.seed),
                memory_budget=self.shared["memory_budget"], callback=callback,
            ), ""  # fmt: skip
        except (ValueError, MemoryError) as error:
            # Hours of shuffles must not be lost because a factorisation does not fit.
            warnings.warn(f"There are no intervals of gains: {error}", UserWarning, stacklevel=outside())
            return None, str(error)

    def studies(
        self, name: str, Y: Any, found: PopulationStudy, held_out: HeldOut, orders: Orders, bar: Bar
    ) -> GroupStudies:
        """Study each group of channels, and score one gain for each."""
        assert self.groups is not None
        cv = found.cv
        gains = group_gains(
            held_out, list(cv.folds), orders, cv.repeats, self.groups.names, self.groups.places,
            bar.step(self._baseline),
        )  # fmt: skip
        studies: dict[str, CrossValidation | PermutationTest] = {}
        missing: dict[str, str] = {}
        agreement = np.full(len(self.groups.names), np.nan)
        each = (1.0 + self.group_shuffles) / len(self.groups.names)
        for k, group in enumerate(self.groups.names):
            channels, told = self.groups.channels(group), bar.step(each)
            try:
                alone, _, _ = self.evidence(
                    some_rows("X", self.X, channels), self.groups.target(group, name, Y), list(cv.folds),
                    self.group_shuffles, False, told,
                )  # fmt: skip
            except (ValueError, MemoryError) as error:
                # All shuffles are made, and other groups may be defined.
                missing[group] = why(error)
                warnings.warn(
                    f"Group {group!r} has no study of its own: {missing[group]}", UserWarning,
                    stacklevel=outside(),
                )  # fmt: skip
                continue
            studies[group] = alone
            fit = (alone.cv if isinstance(alone, PermutationTest) else alone).fits.get(found.method)
            if isinstance(fit, Fit) and isinstance(found.fit, Fit):
                agreement[k] = correlation(fit.gains, found.fit.gains[channels])
        return GroupStudies(gains, studies, self.groups.places, bool(self.groups.cells), agreement, missing)
