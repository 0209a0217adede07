"""Operations that ask what a fit is worth: noise ceilings, tests against shuffles, whole studies."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import fastcov as fc

from ..datasets import Simulation
from . import _naive
from ._fits import EXACT, TRUSTED, absolute, bare_solution, minimisation
from ._operation import FLY, SMALL, TINY, Task, bare, operation
from ._reference import LinearSystem, Reference, near, require
from ._studies import FOLDS, SCORE, chain, held_out_r2, training

# The smallest number of shuffles that can give p = 0.05.
SHUFFLES = 19
# Splits of a noise ceiling, its default.
SPLITS = 100


@operation("noise-ceiling", ["noise_ceiling"], (TINY, SMALL, FLY))
def noise_ceiling(simulation: Simulation) -> Task:
    """Covariances of both halves of 100 splits, MD² flops each split, and their correlations by each score.

    The floor is SYRK of each half. The correlations of all pairs are compared with those of the same halves.
    """
    Y, (M, D) = simulation.Y, simulation.Y.shape
    (syrk,) = bare(simulation, "syrk")
    half = Y[: M // 2].T

    def floor() -> None:
        for _ in range(2 * SPLITS):
            syrk(1.0, half)

    expected = _naive.split_half_correlations(Y, SPLITS)

    def check(result: Any) -> None:
        r = result.reliability["pearson"] if isinstance(result, fc.NoiseCeiling) else result
        near(r, expected, M * D * np.finfo(np.float64).eps)

    return Task(
        ours=lambda: fc.noise_ceiling(Y, n_splits=SPLITS), check=check, flops=float(SPLITS * M * D**2),
        nbytes=8.0 * M * D + 3e7, naive=lambda: _naive.split_half_correlations(Y, SPLITS), floor=floor,
    )  # fmt: skip


@operation("permutation-test", ["permutation_test"], (TINY, SMALL), singles=(SMALL,))
def permutation_test(simulation: Simulation) -> Task:
    """20 studies of 5 folds with two linear fits each, and 20 fits of all conditions; flops are those of all.

    The floor factorises once for each fold and λ, and once for all conditions, and solves for all 20 targets.
    The gains from all conditions are compared, and p and the scores that it is computed from.
    """
    X, Y, (N, D) = simulation.X, simulation.Y, simulation.X.shape
    n_folds, n_ridges = min(FOLDS, D // 2), 2
    train = D * (n_folds - 1) // n_folds

    def ours() -> Any:
        return fc.permutation_test(
            X, Y, shuffles=SHUFFLES, folds=n_folds, method="linear", relative_ridges=[TRUSTED, 1.0]
        )

    given, S = training(X, Y, np.arange(D))
    ridge = absolute(simulation, TRUSTED)
    of_all = bare_solution(simulation, ridge, SHUFFLES + 1)
    of_fold = bare_solution(dataclasses.replace(simulation, X=X[:, :train]), ridge, SHUFFLES + 1)

    def check(result: Any) -> None:
        p = (1 + np.count_nonzero(result.null >= result.observed)) / (SHUFFLES + 1)
        require(len(result.null) == SHUFFLES and result.p == p, f"p of {result.p}, not {p}")
        fit, made = result.cv.fit, Reference(Y)
        share = made.roundoff * np.trace(S) / np.trace(made.covariance())
        near(fit.target(), S, share * made.scale())
        LinearSystem(Reference(given), fit.target(), fit.ridge, fit.ridge / fit.relative_ridge).check(
            result.channels.gains
        )

    def flops(conditions: int) -> float:
        plan = fc.plan(N, conditions, relative_ridge=TRUSTED, dtype=X.dtype)
        return float(plan.cost(plan.solver).flops)

    return Task(
        ours=ours, check=check, nbytes=24.0 * N * D,
        flops=(SHUFFLES + 1) * (n_folds * n_ridges * flops(train) + flops(D)),
        floor=lambda: [solve() for solve in [of_all, *[of_fold] * (n_folds * n_ridges)]],
    )  # fmt: skip


@operation("study", ["study"], (TINY, SMALL), singles=(SMALL,))
def study(simulation: Simulation) -> Task:
    """20 studies of 5 folds with two linear fits each, 20 fits of all conditions for each λ, intervals.

    Flops are those of the fits. The floor is that of ``permutation-test``, with all conditions for each λ.
    Scores, p and gains are compared as there; resolutions lie between 0 and 1.
    """
    X, Y, (N, D) = simulation.X, simulation.Y, simulation.X.shape
    n_folds, ridges = min(FOLDS, D // 2), [TRUSTED, 1.0]
    options: dict[str, Any] = {"shuffles": SHUFFLES, "folds": n_folds, "relative_ridges": ridges}
    tested = permutation_test(simulation)
    of_all = bare_solution(simulation, absolute(simulation, TRUSTED), SHUFFLES + 1)

    def check(result: Any) -> None:
        tested.check(result.test)
        resolution = result.uncertainty.resolution
        require(np.all((resolution > -1e-9) & (resolution < 1 + 1e-9)), "a resolution outside 0 to 1")
        live = np.linalg.norm(X, axis=1) > 0
        require(np.all(result.uncertainty.se[live] > 0), "a standard error of zero")
        require(result.ceiling.ceiling() <= 1.0, "a noise ceiling above 1")

    def floor() -> Any:
        return tested.floor() if tested.floor else None, of_all()

    return Task(
        ours=lambda: fc.study(X, Y, nested=False, method="linear", **options), check=check,
        nbytes=24.0 * N * D, flops=tested.flops, floor=floor,
    )  # fmt: skip


@operation("compare", ["compare"], (TINY, SMALL), singles=(SMALL,))
def compare(simulation: Simulation) -> Task:
    """Gains, all connections and baselines on 5 folds, two exact fits each; flops are those of the gains.

    The floor is that of the gains: a SYRK and a GEMM for each of their steps. Their held-out R² is compared.
    """
    X, Y, (N, D) = simulation.X, simulation.Y, simulation.X.shape
    n_folds, ridges = min(FOLDS, D // 2), (EXACT, 1.0)
    options: dict[str, Any] = {"folds": n_folds, "nested": False, "relative_ridges": ridges}
    folds = fc.cross_validate(X, Y, relative_ridges=[1.0], folds=n_folds, method="diagonal", refit=None).folds
    works = [minimisation(given, chain(given, S, ridges)) for given, S in
             (training(X, Y, train) for train, _ in folds)]  # fmt: skip

    def check(result: Any) -> None:
        r2 = result
        if isinstance(result, fc.Comparison):
            r2 = np.asarray(getattr(result["gains"].cv, "r2", None))[:, 0]
            require(result.names == ("one", "no-x", "gains", "free"), f"models {result.names}")
            require(0.0 < result["gains"].degrees_of_freedom < N, "impossible degrees of freedom")
        near(r2, [held_out_r2(X, Y, train, test, EXACT) for train, test in folds], SCORE)

    return Task(
        ours=lambda: fc.compare(X, Y, ["one", "no-x", "gains", "free"], **options), check=check,
        nbytes=24.0 * N * D,
        flops=sum(work["flops"] for work in works), repeats=sum(work["repeats"] for work in works),
        floor=lambda: [work["floor"]() for work in works],
    )  # fmt: skip
