"""permutation_test(): whether gains predict, and which gains differ from those of shuffled conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._compute.progress import Progress
from .._connectivity.solve import METHODS
from .._fitting.settings import Settings
from .._inputs.validation import check_generator, check_whole, require_memory
from .._model.target import ALL_NEEDED
from .._results import evidence
from .._results.permutation_test import PermutationTest
from .._results.score import SCORE, SCORES
from .._rows.responses import check_responses, over_trials
from .channel_test import compared_at_every_ridge, compared_at_the_best
from .cross_validation import run_study
from .held_out import HeldOut
from .trial_columns import unrepeated

Array = NDArray[np.float64]

# Default ridges of a test, relative to the largest eigenvalue, over the range in which gains predict at all.
# Fewer ridges make the test faster. They make it no less reliable, as it takes the largest score over them.
RIDGES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)


def permutation_test(
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    S: ArrayLike | None = None,
    shuffles: int = 199,
    rng: Any = 0,
    groups: Any = None,
    permute: str = "conditions",
    trials: Any = None,
    score: str = SCORE,
    ridges: ArrayLike | None = None,
    relative_ridges: ArrayLike | None = None,
    folds: Any = 5,
    repeats: int = 1,
    method: str = "exact",
    channels: bool = True,
    nuisance: str | Sequence[str] | None = None,
    pairs: Any = None,
    solver: str = "auto",
    center: bool = True,
    bounds: Any = None,
    tol: float | None = None,
    max_iterations: int = 1000,
    nan_policy: str = "raise",
    memory_budget: float | None = None,
    callback: Callable[[Progress], object] | None = None,
) -> PermutationTest:
    """Test whether X, with gains, predicts held-out covariances, against studies of shuffled conditions.

    The whole of `cross_validate`, including the choice of λ, is repeated K times, each with the conditions of
    Y in a random order. Let s(λ) be the held-out score, and s_k(λ) that of shuffle k. Then

        p = (1 + #{k : max_λ s_k(λ) ≥ max_λ s(λ)}) / (K + 1).

    This p is valid under the null hypothesis that it does not matter which condition of Y is which.
    Conditions must therefore be exchangeable; those in an order, such as in time, are not. The same holds for
    p-values of all other scores, and of the improvement over each baseline: ``p_over["one"]`` tells whether
    fitted gains add to what gains of one predict. Each channel's gain z, from all conditions at the best λ,
    is compared with its gains z_k from shuffled targets. With z̄ the mean of all K + 1 gains of the channel,
    the two-sided p is (1 + #{k : |z_k − z̄| ≥ |z − z̄|}) / (K + 1). For the false discovery rate q, |z − z̄| is
    divided by its root mean square over all K + 1, which gives t, and shuffles of all N channels are pooled:
    p' = (1 + #{(k, j) : t_kj ≥ t_i}) / (1 + KN), adjusted by Benjamini and Hochberg.

    Parameters
    ----------
    X, Y, S
        As for `cross_validate`.
    shuffles : int, default 199
        K. The smallest possible p is 1 / (K + 1); p = 0.05 needs at least 19 shuffles.
    rng : default 0
        Draws folds and shuffles.
    groups, permute
        As for `cross_validate`: what may be exchanged. If classes of stimuli are known to differ, permute
        "within" them.
    trials : sequence of D labels, optional
        As for `cross_validate`: the condition of each column, if columns are single trials, which folds and
        shuffles then keep together.
    score : str, default "cross-pearson"
        The score that `p` refers to.
    ridges, relative_ridges : array_like, shape (L,)
        As for `cross_validate`. By default relative, 1e-3 to 0.1 in half decades, and 1.
    folds, repeats, method, nuisance, pairs
        As for `cross_validate`, with one method.
    channels : bool, default True
        Whether to test the gain of each channel too, by K + 1 fits of all conditions. A connectivity has no
        gains, and is tested without.
    solver, center, bounds, tol, max_iterations, nan_policy, memory_budget, callback
        As for `fit`.

    Returns
    -------
    PermutationTest

    Raises
    ------
    TypeError, ValueError, MemoryError
        As for `cross_validate`; if `shuffles`, or the orders that groups allow, are too few for p = 0.05.

    Warns
    -----
    ConvergenceWarning, LabelWarning
        As for `cross_validate`; and if fits of all conditions to shuffled targets stop short.

    Notes
    -----
    The cost is that of K + 1 studies: with 200 shuffles, 5 folds and 6 ridges, exact fits take some seconds
    at (148, 48) and a minute or two at (871, 52). docs/evidence.md has the rate of false positives, and the
    power. For the method see Phipson and Smyth, "Permutation p-values should never be zero" (2010). The
    maximum over λ is taken in each shuffle, because a λ chosen on the data favours the data. p of one channel
    is at least 1 / (K + 1), too coarse for a false discovery rate over hundreds of channels; pooling assumes
    that t has much the same distribution in all of them (Storey and Tibshirani, "Statistical significance for
    genomewide studies", 2003).

    Examples
    --------
    >>> import fastcov as fc
    >>> sim = fc.datasets.simulate(60, 20, rng=0)
    >>> test = fc.permutation_test(sim.X, sim.Y, shuffles=19, relative_ridges=[1e-2, 1e-1], folds=4)
    >>> test.p
    0.05
    """
    found, _, _ = run_test(
        X, Y, S=S, shuffles=shuffles, rng=rng, groups=groups, permute=permute, score=score, ridges=ridges,
        relative_ridges=relative_ridges, folds=folds, repeats=repeats, method=method, channels=channels,
        nuisance=nuisance, pairs=pairs, solver=solver, center=center, bounds=bounds, tol=tol,
        max_iterations=max_iterations, trials=trials, nan_policy=nan_policy, memory_budget=memory_budget,
        callback=callback,
    )  # fmt: skip
    return found


def run_test(
    X: Any, Y: Any, *, S: Any, shuffles: int, rng: Any, groups: Any, permute: str, score: str, ridges: Any,
    relative_ridges: Any, folds: Any, repeats: int, method: str, channels: bool, nuisance: Any, pairs: Any,
    solver: str, center: bool, bounds: Any, tol: float | None, max_iterations: int,
    trials: Any, nan_policy: str, memory_budget: float | None,
    callback: Callable[[Progress], object] | None, nested: bool = False, every_ridge: bool = False,
    n_starts: int = 1,
) -> tuple[PermutationTest, HeldOut, list[NDArray[np.intp]]]:  # fmt: skip
    """`permutation_test`, which also returns what it held out and the orders of conditions.

    With `nested` the study of the data, and not those of shuffles, has nested folds. With `every_ridge`
    channels are compared at all ridges, and the largest difference counts: see `compared_at_every_ridge`.
    """
    K = check_whole("shuffles", shuffles, 1)
    if not isinstance(method, str):
        raise TypeError(f"Argument 'method' must be one method, not {method!r}: test one after another.")
    if 1 / (K + 1) > evidence.LEVEL:
        raise ValueError(
            f"Argument 'shuffles' must be at least {round(1 / evidence.LEVEL) - 1} for a p of "
            f"{evidence.LEVEL}, not {K}, whose least p is {1 / (K + 1):.2g}."
        )
    if ridges is None and relative_ridges is None:
        relative_ridges = RIDGES
    X = over_trials("X", unrepeated("X", X, trials), nan_policy, rows=ALL_NEEDED)
    channels = channels and method not in METHODS  # a connectivity has no gains
    if channels:
        N = check_responses("X", X).shape[0]
        require_memory(24 * N * (K + 1), f"Gains of {N} channels in {K + 1} orders", "pass channels=False")
    random = check_generator(rng)
    cv, study, orders = run_study(
        X, Y, S=S, ridges=ridges, relative_ridges=relative_ridges, folds=folds, method=method,
        repeats=repeats, rng=random, score=score, shuffles=K, groups=groups, permute=permute, trials=trials,
        nested=nested, nuisance=nuisance, pairs=pairs, refit="best", solver=solver, center=center,
        bounds=bounds, tol=tol, max_iterations=max_iterations, nan_policy=nan_policy,
        memory_budget=memory_budget, callback=callback, level=evidence.LEVEL, n_starts=n_starts,
    )  # fmt: skip
    observed, null = evidence.maxima(cv, method, score)
    names = tuple(cv.baselines)
    over = {name: evidence.maxima(cv, method, score, name) for name in names}
    found = None
    if channels and method in cv.fits:
        settings = Settings.of(
            method, study.given, solver=solver, tol=tol, max_iterations=max_iterations, rng=0,
            memory_budget=memory_budget, bounds=bounds,
        )  # fmt: skip
        compared = compared_at_every_ridge if every_ridge else compared_at_the_best
        found = compared(cv, study, orders, method, settings, callback)
    test = PermutationTest(
        score=score, method=method, observed=observed, null=null, p=evidence.exceeded(observed, null),
        p_over={name: evidence.exceeded(*over[name]) for name in names},
        gain_over={name: over[name][0] for name in names},
        null_over={name: over[name][1] for name in names},
        p_values={each: float(cv.p_value(method, each) or np.nan) for each in SCORES},
        channels=found, cv=cv,
    )  # fmt: skip
    return test, study, orders
