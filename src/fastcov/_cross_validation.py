"""cross_validate(): which ridge predicts the covariance of conditions that were held out."""

from __future__ import annotations

import concurrent.futures
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._certificate import ConvergenceWarning
from ._covariance import Target, aligned
from ._folds import Split, make_folds
from ._jit import blas_for
from ._methods import METHODS
from ._path import RELATIVE_RIDGES, check_ridges
from ._problem import Problem, check_responses
from ._progress import watching
from ._result import Fit, describe
from ._scores import FINE, CrossValidation, Scores
from ._settings import Settings
from ._solvers import Progress, plan
from ._sources import Stored
from ._start import Start
from ._study import Score, Study
from ._validation import available_memory, check_choice, check_generator, check_whole

Array = NDArray[np.float64]

# Exact fits that begin where one before ended, in a path that is cut so that parts run side by side. From
# gains of one they take 1.2 times the products at 1e-4 to 1; the first of each four hardly counts.
CHAIN = 4
# What a fold holds for each response of its training conditions: copies in float64 and float32, and what
# is made of them.
FOLD_BYTES = 24


def cross_validate(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    ridges: ArrayLike | None = None,
    relative_ridges: ArrayLike | None = None,
    folds: Any = 5,
    method: str | Sequence[str] = "exact",
    repeats: int = 1,
    rng: Any = 0,
    shuffles: int = 0,
    refit: str | None = "best",
    solver: str = "auto",
    center: bool = True,
    bounds: Any = None,
    tol: float | None = None,
    max_iterations: int = 1000,
    memory_budget: float | None = None,
    callback: Callable[[Progress], object] | None = None,
) -> CrossValidation:
    """Fit gains to some conditions, and predict the covariance of those that were held out.

    For each fold with training conditions a and held-out conditions b, gains z are fitted to the block
    X[:, a] with the target c·C_Y[a, a], c = tr C_X[a, a] / tr C_Y[a, a]: nothing of the held-out
    conditions, not even their scale, is used. They are scored on the block that they predict,
    C = X[:, b]ᵀ diag(z) J diag(z) X[:, b], against S = c·C_Y[b, b].

    Parameters
    ----------
    X : array_like, shape (N, D)
        Responses of the input channels. X and Y may be dask arrays, as for `fit`.
    Y : array_like, shape (M, D)
        Responses of the other population to the same conditions: in the same order, or in any where those of
        X and Y have names.
    ridges, relative_ridges : array_like, shape (K,)
        λ as for `ridge_path`; relative ones are of the largest eigenvalue of the training block, so that a
        choice holds for any number of conditions. By default relative, 1e-4 to 1 in half decades.
    folds : default 5
        A number of folds, drawn with `rng`; a splitter of scikit-learn, whose samples are the
        conditions; (train, test) pairs of indices or masks; or a label for each condition, of which
        one after another is held out.
    method : str or sequence of str, default "exact"
        One of those of `fit`, or several to compare on the same folds.
    repeats : int, default 1
        Draw the folds so many times: one split says little.
    rng : default 0
        What `numpy.random.default_rng` takes: draws folds and shuffles.
    shuffles : int, default 0
        So many times, with the conditions of Y in random order: R² where there is nothing to find.
    refit : {"best", "one-se", None}
        Fit all conditions with `best_ridge` or `one_se_ridge`.
    solver, center, bounds, tol, max_iterations, memory_budget, callback
        As for `fit`.

    Returns
    -------
    CrossValidation

    Raises
    ------
    TypeError, ValueError
        As for `fit`; if a fold has fewer than two conditions to train on or to hold out, or holds out what it
        trains on.

    Warns
    -----
    LabelWarning
        If the conditions of Y are in another order than those of X: they are aligned by name.
    ConvergenceWarning
        Once, if fits stop short: `CrossValidation.status` says which. Their scores are kept.

    Notes
    -----
    A fold is a `ridge_path` on its training conditions, of exact fits one for each four ridges, which
    begins at gains of one. They run side by side, one on each core with one thread. `threads` limits them.

    Examples
    --------
    >>> import fastcov as fc
    >>> sim = fc.datasets.simulate(60, 20, rng=0)
    >>> cv = fc.cross_validate(sim.X, sim.Y, relative_ridges=[1e-2, 1e-1, 1.0], folds=4)
    >>> cv.r2.shape, cv.best_ridge in cv.ridges
    ((4, 3), True)
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
    given = Problem.of(X, center=center)
    D = given.shape[1]
    settings = {
        each: Settings.of(
            each, given, solver=solver, tol=tol, max_iterations=max_iterations, rng=0,
            memory_budget=memory_budget, bounds=bounds,
        )
        for each in methods
    }  # fmt: skip
    values, relative = check_ridges(ridges, relative_ridges)
    Y = aligned("Y", Y, given.labels)
    other = check_responses("Y", Y)
    if other.shape[1] != D:
        raise ValueError(
            f"Argument 'Y' must have the {D} conditions of X in its columns, not {other.shape[1]}: is one of "
            "them conditions x channels?"
        )
    splits = make_folds(folds, repeats, D, random)
    output = Problem.of(Y, center=center, name="Y")
    orders = [np.arange(D)] + [random.permutation(D) for _ in range(n_shuffles)]
    study = Study(given, output, _covariance(given), _covariance(output), values, relative)
    with watching(callback) as watch:
        results = _run(study, splits, orders, settings, memory_budget, watch)
    scores = {
        each: _table([[results[each, s, f] for f in range(len(splits))] for s in range(len(orders))])
        for each in methods
    }
    ones = [study.score(split, np.ones(given.shape[0]), orders[0]) for split in splits]
    result = CrossValidation(
        ridges=np.array(values),
        relative=relative,
        folds=tuple(splits),
        repeats=repeats,
        scores=scores,
        r2_at_one=np.array([one.r2 for one in ones]),
        pearson_at_one=np.array([one.pearson for one in ones]),
        fits={},
        stats={"shape": given.shape, "center": given.center, "seconds": 0.0},
    )
    short = [s for each in scores.values() for s in each.status.ravel() if s not in FINE]
    if short:
        total = sum(each.status.size for each in scores.values())
        warnings.warn(
            f"{len(short)} of {total} fits stopped short ({', '.join(sorted(set(short)))}): see status.",
            ConvergenceWarning,
            stacklevel=2,
        )
    if refit is not None:
        target = Target.of(None, Y, given, name="Y")
        with blas_for(given.X.size * sum(given.shape)), watching(callback) as watch:
            start = Start.of(given, target.S, watch)
            for each in methods:
                if np.isnan(result.choices(refit)[each]):
                    warnings.warn(
                        f"No ridge has a finite mean R² with method={each!r}: is the held-out target of some "
                        "fold zero? There is no fit of all conditions.",
                        ConvergenceWarning,
                        stacklevel=2,
                    )
                    continue
                result.fits[each] = _refit(start, target, result, each, refit, settings[each].watched(watch))
    result.stats["seconds"] = time.perf_counter() - started
    return result


def _covariance(problem: Problem) -> Array:
    return problem.unscaled(problem.astype(np.float64).covariance(), y=2)


def _table(rows: list[list[dict[int, Score]]]) -> Scores:
    """Of one method, from the scores of each order, fold and ridge; those after the first are shuffled."""

    def field(part: list[dict[int, Score]], name: str) -> Array:
        return np.array([[getattr(row[k], name) for k in range(len(row))] for row in part], np.float64)

    plain, *shuffled = rows
    status = np.array([[row[k].status for k in range(len(row))] for row in plain], dtype=object)
    return Scores(
        **{name: field(plain, name) for name in ("r2", "r2_over_one", "pearson", "residual")},
        status=status,
        r2_shuffled=np.stack([field(part, "r2") for part in shuffled]) if shuffled else None,
    )


def _refit(
    start: Start, target: Target, result: CrossValidation, method: str, choice: str, settings: Settings
) -> Fit:
    began = time.perf_counter()
    chosen = result.choices(choice)[method]
    ridge = start.ridge(None, chosen) if result.relative else start.ridge(chosen, None)
    outcome = METHODS[method](start, ridge, settings)
    outcome.warn(stacklevel=4)
    seconds = time.perf_counter() - began
    return describe(
        start, ridge, outcome, method=method, stacked=False, labels=target.labels, extra=target.stats,
        seconds=seconds,
    )  # fmt: skip


def _bytes(study: Study, method: str, n_conditions: int, settings: Settings) -> float:
    """What a fold takes, as far as it is known before."""
    N, dtype = study.given.shape[0], study.given.dtype
    copies = FOLD_BYTES * N * n_conditions
    if method not in ("linear", "line-search") or settings.bounds is not None:
        return copies
    smallest = min((ridge for ridge in study.ridges if study.relative), default=RELATIVE_RIDGES[0])
    found = plan(
        N, n_conditions, solver=settings.solver, relative_ridge=smallest, dtype=dtype,
        tol=settings.options.tol, memory_budget=settings.memory_budget,
    )  # fmt: skip
    return copies + next(cost.nbytes for cost in found.costs if cost.solver == found.solver)


class _Cancelled(BaseException):
    """Ends a fit on another thread."""


def _run(
    study: Study,
    splits: list[Split],
    orders: list[NDArray[np.intp]],
    settings: Mapping[str, Settings],
    budget: float | None,
    watch: Callable[[Progress], object],
) -> dict[tuple[str, int, int], dict[int, Score]]:
    """Every method on every fold, with the conditions in each of the orders, on all cores."""
    cores = numba.get_num_threads()
    whole = [(m, s, f) for s in range(len(orders)) for f in range(len(splits)) for m in settings]
    falling = np.argsort(study.ridges)[::-1]
    cut = np.array_split(falling, -(-len(falling) // CHAIN))
    chains = {m: cut[::-1] if m == "exact" else [falling] for m in settings}
    tasks = [(*each, chain.tolist()) for each in whole for chain in chains[each[0]]]
    tasks.sort(key=lambda task: study.ridges[task[-1][-1]])  # small ridges take longest
    most = max(len(train) for train, _ in splits)
    needed = max(_bytes(study, m, most, asked) for m, asked in settings.items())
    free = available_memory() if budget is None else min(budget, available_memory())
    workers = max(1, min(cores, len(tasks), int(free // needed)))
    if isinstance(study.given.X, Stored):
        workers = 1  # files are not read by many at once
    results: dict[tuple[str, int, int], dict[int, Score]] = {each: {} for each in whole}
    cancelled = False
    under_way: list[threading.Event] = []

    def check(_: Progress | None) -> None:
        if cancelled:
            raise _Cancelled

    def work(m: str, s: int, f: int, part: list[int]) -> tuple[tuple[str, int, int], dict[int, Score]]:
        ended = threading.Event()
        under_way.append(ended)
        try:
            check(None)
            asked = settings[m].watched(check, rng=np.random.default_rng(0))
            return (m, s, f), study.path(splits[f], orders[s], m, asked, part)
        finally:
            ended.set()

    if workers == 1:
        for done, task in enumerate(tasks, 1):
            key, scores = work(*task)
            results[key].update(scores)
            watch(Progress("folds", done / len(tasks)))
        return results
    pool = concurrent.futures.ThreadPoolExecutor(
        workers, "fastcov-fold", initializer=numba.set_num_threads, initargs=(1,)
    )
    with blas_for(0):
        try:
            waiting = {pool.submit(work, *task) for task in tasks}
            while waiting:  # not for longer at once: a signal that comes just before a wait does not end it
                ready, waiting = concurrent.futures.wait(waiting, 0.2, concurrent.futures.FIRST_COMPLETED)
                for future in ready:
                    key, scores = future.result()
                    results[key].update(scores)
                if ready:
                    watch(Progress("folds", 1.0 - len(waiting) / len(tasks)))
        finally:  # after an error of a fold or a callback, or Ctrl-C, what is under way ends at once
            cancelled = True
            pool.shutdown(cancel_futures=True)
            for ended in under_way:  # a thread whose start was interrupted is one that the pool does not know
                ended.wait()
    return results
