"""cross_validate(): which ridge best predicts the covariance of held-out conditions."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._compute.jit import blas_for
from .._compute.progress import Progress, watching
from .._connectivity.solve import METHODS as METHODS_OF_CONNECTIVITY
from .._connectivity.solve import MIXED
from .._fitting.certificate import ConvergenceWarning
from .._fitting.connected_fits import Asked, ConnectedStart, fit_at
from .._fitting.describe import describe
from .._fitting.methods import METHODS
from .._fitting.settings import Settings
from .._fitting.start import Start
from .._inputs.labels import outside
from .._inputs.validation import check_choice, check_generator, check_whole
from .._model.groups import Groups
from .._model.problem import Problem
from .._model.target import ALL_NEEDED, Target, aligned, records
from .._results.cross_validation import CrossValidation, Nested, Scores
from .._results.overshoot import warn_overshoot
from .._results.score import BASELINES, FINE, N_SUMS, SCORE, Moments, Split
from .._rows.responses import over_trials
from .folds import as_given, inner_folds, make_folds
from .held_out import HeldOut, Prediction
from .permutations import make_orders, members_of
from .ridge_path import check_ridges
from .scored_target import check_score, held_out_target
from .side_by_side import side_by_side
from .trial_columns import unrepeated

Array = NDArray[np.float64]


def cross_validate(
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    S: ArrayLike | None = None,
    ridges: ArrayLike | None = None,
    relative_ridges: ArrayLike | None = None,
    folds: Any = 5,
    method: str | Sequence[str] = "exact",
    repeats: int = 1,
    rng: Any = 0,
    score: str = SCORE,
    shuffles: int = 0,
    groups: Any = None,
    permute: str = "conditions",
    trials: Any = None,
    nested: bool = False,
    nuisance: str | Sequence[str] | None = None,
    pairs: Any = None,
    channel_groups: Any = None,
    refit: str | None = "best",
    solver: str = "auto",
    center: bool = True,
    bounds: Any = None,
    free_ridge: float | None = None,
    tol: float | None = None,
    max_iterations: int = 1000,
    nan_policy: str = "raise",
    memory_budget: float | None = None,
    callback: Callable[[Progress], object] | None = None,
) -> CrossValidation:
    """Fit gains to some conditions, and predict the covariances of held-out conditions.

    C_X and C_Y are the covariances of X and Y. In a fold with training conditions a and held-out conditions
    b, gains z are fitted to X[:, a] with the target c·C_Y[a, a], where c = tr C_X[a, a] / tr C_Y[a, a]. Not
    even the scale of the held-out conditions is used. The gains predict P = Xᵀ diag(z) J diag(z) X, plus
    nuisance terms if requested; J removes the mean over channels. P is scored against S = c·C_Y on pairs that
    no fit saw: of two held-out conditions, P[b, b], and of a held-out and a training condition, P[a, b].
    Baselines that need no gains are scored too (see `CrossValidation`), and on request shuffled conditions.

    Parameters
    ----------
    X : array_like, shape (N, D) or (trials, N, D)
        Responses of the input channels. X and Y may be dask arrays, and have trials, as for `fit`.
    Y : array_like, shape (M, D) or (trials, M, D)
        Responses of the other population to the same conditions, in the same order; or in any order if the
        conditions of X and Y have names.
    S : array_like, shape (D, D), optional
        In place of Y, a target covariance on the scale of X's. Its rows and columns are held out together.
        Pairs that are NaN are left out.
    ridges, relative_ridges : array_like, shape (K,)
        λ as for `ridge_path`. Relative ridges refer to the largest eigenvalue of the training block, so that
        a choice holds for any number of conditions. By default relative, 1e-4 to 1 in half decades.
    folds : default 5
        A number of folds, drawn with `rng`; "leave-one-out" or "leave-two-out", which the linear method
        computes from one factorisation; a scikit-learn splitter, whose samples are the conditions; (train,
        test) pairs of indices or masks; or a label for each condition, each label being held out once.
    method : str or sequence of str, default "exact"
        A method of `fit`, or several methods to compare on the same folds. A connectivity W that was fitted
        to training conditions predicts (I + W)X of all; its relative ridges refer to the free model.
    repeats : int, default 1
        How often to draw the folds, because one split says little.
    rng : default 0
        Anything that `numpy.random.default_rng` takes. It draws folds and shuffles.
    score : str, default "cross-pearson"
        The score that chooses λ, heads the table and is tested; `CrossValidation` lists them. The default
        best separates data in which gains predict from data in which they do not, see docs/evidence.md.
    shuffles : int, default 0
        How often to repeat the study with the conditions of Y in random order, where there is nothing to
        find, for p-values.
    groups : sequence of D labels, optional
        The group of each condition, for `permute`.
    permute : {"conditions", "within", "groups"}
        What a shuffle permutes: all conditions; the conditions within each group (trials of a stimulus, or a
        class of stimuli); or whole groups of the same size.
    trials : sequence of D labels, optional
        The condition of each column, if columns are single trials. All folds then keep the trials of a
        condition together, as numbers, "leave-one-out" and splitters count conditions; otherwise a condition
        would be predicted from its own trials. Shuffles exchange whole conditions that have as many trials.
        Columns of X and Y then may have names that repeat: trials of one name are taken in their order.
    nested : bool, default False
        For each fold, let inner folds of its training conditions choose λ, and score it at that λ. The
        printed study then says how far the choice of the best λ flatters its score. It takes as many times
        longer as there are folds.
    nuisance, pairs
        As for `fit`: terms βI and γ11ᵀ that are fitted beside the gains, and the pairs that count in fits,
        scores and baselines.
    channel_groups : sequence of N labels, optional
        Groups of channels that share a gain, as `groups` of `fit`. (`groups` are those of conditions here.)
    free_ridge : float, optional
        Of W with method "mixed", as for `ridge_path`.
    refit : {"best", "one-se", None}
        Fit all conditions with `best_ridge` or `one_se_ridge`.
    solver, center, bounds, tol, max_iterations, nan_policy, memory_budget, callback
        As for `fit`.

    Returns
    -------
    CrossValidation

    Raises
    ------
    TypeError, ValueError
        As for `fit`; if Y is a covariance; if given folds or groups divide the trials of a condition; if a
        fold has fewer than two training conditions, or holds out a condition that it trains on; if `score`
        needs pairs among held-out conditions and fewer than three are held out; if groups or trials leave
        nothing to permute.

    Warns
    -----
    LabelWarning
        If the conditions of Y are in a different order from those of X. They are then aligned by name.
    MissingValuesWarning
        If the covariance of Y is of the channels that are there.
    ConvergenceWarning
        Once, if fits stop short; see `CrossValidation.status`. Their scores are kept.

    Notes
    -----
    A fold is a `ridge_path` on its training conditions. For exact fits it is cut into paths of four ridges,
    each beginning at gains of one. The paths run in parallel, one single-threaded path on each core;
    `threads` limits them. Each shuffle takes as long as the study without it.

    Examples
    --------
    >>> import fastcov as fc
    >>> sim = fc.datasets.simulate(60, 20, rng=0)
    >>> cv = fc.cross_validate(sim.X, sim.Y, relative_ridges=[1e-2, 1e-1, 1.0], folds=4)
    >>> cv.r2.shape, cv.best_ridge in cv.ridges
    ((4, 3), True)
    >>> bool(cv.baseline("no-x")[0] < cv.summary("exact")[0].max())
    True
    """
    result, _, _ = run_study(
        X, Y, S=S, ridges=ridges, relative_ridges=relative_ridges, folds=folds, method=method,
        repeats=repeats, rng=rng, score=score, shuffles=shuffles, groups=groups, permute=permute,
        trials=trials, nested=nested, nuisance=nuisance, pairs=pairs, refit=refit, solver=solver,
        center=center, bounds=bounds, tol=tol, max_iterations=max_iterations, nan_policy=nan_policy,
        free_ridge=free_ridge, memory_budget=memory_budget, callback=callback, channel_groups=channel_groups,
    )  # fmt: skip
    return result


def run_study(
    X: Any, Y: Any, *, S: Any, ridges: Any, relative_ridges: Any, folds: Any, method: Any, repeats: int,
    rng: Any, score: str, shuffles: int, groups: Any, permute: str, nested: bool, nuisance: Any, pairs: Any,
    refit: str | None, solver: str, center: bool, bounds: Any, tol: float | None, max_iterations: int,
    memory_budget: float | None, callback: Callable[[Progress], object] | None,
    trials: Any = None, nan_policy: str = "raise", level: float = 1.0, n_starts: int = 1,
    channel_groups: Any = None,
    free_ridge: float | None = None,
) -> tuple[CrossValidation, HeldOut, list[NDArray[np.intp]]]:  # fmt: skip
    """`cross_validate`, which also returns its `HeldOut` and the orders of conditions.

    Raises ValueError if there are too few possible orders for a p-value of `level`. The fit of all
    conditions has `n_starts`.
    """
    started = time.perf_counter()
    if not isinstance(method, (str, Sequence)):
        raise TypeError(f"Argument 'method' must be a method or a list of methods, not {method!r}.")
    methods = [method] if isinstance(method, str) else list(method)
    if not methods or len(set(methods)) < len(methods):
        raise ValueError(f"Argument 'method' must name each method once, and at least one, not {method!r}.")
    if refit is not None:
        check_choice("refit", refit, ("best", "one-se"))
    n_shuffles, random = check_whole("shuffles", shuffles, 0), check_generator(rng)
    X = over_trials("X", unrepeated("X", X, trials), nan_policy, rows=ALL_NEEDED)
    if Y is not None:
        Y = over_trials("Y", unrepeated("Y", Y, trials), nan_policy, center=center)
    given = Problem.of(X, center=center)
    D = given.shape[1]
    members = None if trials is None else members_of("trials", trials, D)
    grouped = None
    if channel_groups is not None:
        grouped = Groups.of(channel_groups, given.shape[0], given.labels, "channel_groups")
    settings = {
        each: Settings.of(
            each, given, solver=solver, tol=tol, max_iterations=max_iterations, rng=0,
            memory_budget=memory_budget, bounds=bounds, groups=grouped,
            free_ridge=free_ridge if each == MIXED or MIXED not in methods else None,
        )
        for each in methods
    }  # fmt: skip
    values, relative = check_ridges(ridges, relative_ridges)
    if Y is not None:
        Y = aligned("Y", Y, given.labels)
    target = held_out_target(given, Y, S, nuisance, pairs)
    folds = as_given(folds)
    splits = make_folds(folds, repeats, D, random, members)
    check_score(score, splits)
    shuffled, count = make_orders(n_shuffles, D, random, groups, permute, members)
    if 1 / count > level:
        name = "groups" if groups is not None else "X" if trials is None else "trials"
        raise ValueError(
            f"Argument '{name}' must leave at least {math.ceil(1 / level)} orders of conditions for a p of "
            f"{level}, not {count:.0f}, whose least p is {1 / count:.2g}: permute more."
        )
    orders = [np.arange(D), *shuffled]
    inner = [inner_folds(folds, train, random, members) for train, _ in splits] if nested else []
    for some in inner:
        check_score(score, some, inner=True)
    study = HeldOut.of(given, target.output, target.S, target.metric, values, relative, grouped)
    with watching(callback) as watch:
        results = side_by_side(study, splits, [each for some in inner for each in some], orders, settings,
                       memory_budget, watch)  # fmt: skip
    compared = np.stack([[study.compared(split, order) for split in splits] for order in orders])
    baselines = {name: compared[:, :, k] for k, name in enumerate(BASELINES)}
    scores = {each: _table(study, each, splits, len(orders), repeats, results) for each in methods}
    result = CrossValidation(
        ridges=np.array(values),
        relative=relative,
        folds=tuple(splits),
        repeats=repeats,
        score=score,
        scores=scores,
        baselines={name: Moments(sums[0], repeats) for name, sums in baselines.items()},
        baselines_shuffled={
            name: Moments(sums[1:], repeats) for name, sums in baselines.items() if n_shuffles
        },
        fits={},
        stats={
            "shape": given.shape, "center": given.center, "seconds": 0.0, "permute": permute,
            "nuisance": () if target.metric is None else tuple(target.metric.nuisance),
            **({} if grouped is None else {"channel_groups": grouped.names}),
            **records(X=X, Y=Y), **({} if members is None else {"conditions": len(members)}),
        },
    )  # fmt: skip
    for each in methods if nested else ():
        nest = _nested(result, each, inner, results, len(splits))
        result.scores[each] = dataclasses.replace(result.scores[each], nested=nest)
    _warn_short(results)
    if refit is not None:
        there = given if target.metric is None else dataclasses.replace(given, metric=target.metric)
        wanted = Target.of(target.S, Y, there, name="Y")
        with blas_for(given.X.size * sum(given.shape)), watching(callback) as watch:
            whole = _Whole(there, wanted, watch, grouped)
            for each in methods:
                if result.place(each, refit) < 0:
                    warnings.warn(
                        f"No ridge has a finite score with method={each!r}: is the target constant, or does "
                        "no pair count that the score takes? There is no fit of all conditions.",
                        ConvergenceWarning,
                        stacklevel=outside(),
                    )
                    continue
                chosen = dataclasses.replace(settings[each], n_starts=n_starts).watched(watch)
                result.fits[each] = whole.fit(result, each, refit, chosen)
                warn_overshoot(result.fits[each])
    result.stats["seconds"] = time.perf_counter() - started
    return result, study, orders


def _warn_short(results: Mapping[Any, dict[int, Prediction]]) -> None:
    statuses = [found.status for row in results.values() for found in row.values()]
    short = [status for status in statuses if status not in FINE]
    if short:
        warnings.warn(
            f"{len(short)} of {len(statuses)} fits stopped short ({', '.join(sorted(set(short)))}): see "
            "status.",
            ConvergenceWarning,
            stacklevel=outside(),
        )


def _table(
    study: HeldOut, method: str, splits: list[Split], n_orders: int, repeats: int,
    results: Mapping[tuple[str, int, int], dict[int, Prediction]],
) -> Scores:  # fmt: skip
    """Scores of one method. The first order is that of the data; the others are shuffled."""
    F, K, D = len(splits), len(study.ridges), len(study.at_one)
    sums = np.empty((n_orders, K, F, N_SUMS))
    for s in range(n_orders):
        for f in range(F):
            for k, found in results[method, s, f].items():
                sums[s, k, f] = found.sums
    plain = [[results[method, 0, f][k] for k in range(K)] for f in range(F)]
    errors = np.full((F, K, D), np.nan)
    for f, row in enumerate(plain):
        for k, found in enumerate(row):
            errors[f, k, splits[f][1]] = found.errors
    kept = plain[0][0].gains is not None
    return Scores(
        moments=Moments(sums[0], repeats),
        residual=np.array([[found.residual for found in row] for row in plain]),
        status=np.array([[found.status for found in row] for row in plain], dtype=object),
        errors=errors,
        gains=np.array([[found.gains for found in row] for row in plain]) if kept else None,
        shuffled=Moments(sums[1:], repeats) if n_orders > 1 else None,
    )


def _nested(
    result: CrossValidation, method: str, inner: list[list[Split]],
    results: Mapping[tuple[str, int, int], dict[int, Prediction]], first: int,
) -> Nested:  # fmt: skip
    """Scores of the outer folds, each at the ridge that its own inner folds chose."""
    table, K, places = result.scores[method], len(result.ridges), []
    for splits in inner:
        sums = np.stack([[results[method, 0, first + i][k].sums for i in range(len(splits))]
                         for k in range(K)])  # fmt: skip
        scores = np.nan_to_num(Moments(sums).pooled(result.score), nan=-np.inf)
        places.append(int(np.argmax(scores)))
        first += len(splits)
    outer = table.moments.sums[places, np.arange(len(places))]
    return Nested(np.array(places), Moments(outer, result.repeats))


class _Whole:
    """All conditions, to be fitted with the chosen ridges."""

    def __init__(
        self, problem: Problem, target: Target, watch: Callable[[Progress], object], groups: Groups | None
    ) -> None:
        self.problem, self.target, self.watch, self.groups = problem, target, watch, groups

    @functools.cached_property
    def gains(self) -> Start:
        return Start.of(self.problem, self.target.S, self.watch, self.budget, self.groups)

    @functools.cached_property
    def connected(self) -> ConnectedStart:
        return ConnectedStart.of(self.problem, self.target.S, self.watch)

    def fit(self, result: CrossValidation, method: str, choice: str, settings: Settings) -> Any:
        began = time.perf_counter()
        self.budget = settings.budget
        chosen = float(result.choices(choice)[method])
        ridge, relative = (None, chosen) if result.relative else (chosen, None)
        labels, extra = self.target.labels, self.target.stats
        if method in METHODS_OF_CONNECTIVITY:
            asked = Asked(method, settings, labels, False, extra)
            return fit_at(self.connected, ridge, relative, asked, began)
        start = self.gains
        at = start.ridge(ridge, relative)
        outcome = METHODS[method](start, at, settings)
        outcome.warn()
        return describe(
            start, at, outcome, method=method, stacked=False, labels=labels, extra=extra,
            seconds=time.perf_counter() - began,
        )  # fmt: skip
