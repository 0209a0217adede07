"""reweight(): one weight per channel so that weighted similarities of its responses become the target."""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._compute.jit import blas_for
from .._compute.progress import Progress, watching
from .._fitting.methods import METHODS
from .._fitting.settings import Settings
from .._inputs.labels import conditions_of
from .._inputs.validation import check_choice
from .._model.channel_atoms import ATOMS, PRODUCT, atoms_problem, weighted_similarities, with_pairs
from .._model.metric import OFF_DIAGONAL
from .._model.target import ALL_NEEDED
from .._results.agreement import explained, pearson, spearman
from .._results.held_out_pairs import PAIR_SCORES, HeldOutPairs
from .._results.reweighting import Reweighting, with_offset
from .._rows.responses import over_trials
from .bounded import bounded
from .held_out import held_out
from .weights import WeightsStart

Array = NDArray[np.float64]


def reweight(
    X: ArrayLike,
    S: ArrayLike,
    ridge: Any = None,
    *,
    relative_ridge: Any = None,
    atoms: str = PRODUCT,
    pairs: str | ArrayLike = OFF_DIAGONAL,
    center: bool = True,
    offset: bool = False,
    shrink_to: float = 0.0,
    bounds: Any = None,
    folds: Any = 5,
    repeats: int = 1,
    relative_ridges: ArrayLike | None = None,
    score: str = "pearson",
    solver: str = "auto",
    tol: float | None = None,
    max_iterations: int = 1000,
    rng: Any = 0,
    memory_budget: float | None = None,
    callback: Callable[[Progress], object] | None = None,
) -> Reweighting:
    """Fit one weight a channel, so that the weighted similarities of its responses become the target.

    This is representational similarity analysis with weighted features. With x_i the responses of channel i
    to D conditions, the prediction P of the similarity of conditions a and b is

    * ``atoms="product"``: P_ab = Σ_i w_i x_ia x_ib + c,
    * ``atoms="squared-euclidean"``: P_ab = Σ_i w_i (x_ia − x_ib)² + c, a dissimilarity.

    The weights minimise ½ Σ_{a<b} (P_ab − S_ab)² + (λ/2)‖w − w₀‖². P is linear in w, so that there is one
    minimum. The matrix A of pairs × channels is never formed. With K = XXᵀ, AᵀA is (K∘K − (X∘X)(X∘X)ᵀ)/2 for
    products. For differences, with the mean over conditions subtracted from each channel, it is
    D (X∘X)(X∘X)ᵀ + ssᵀ + 2 K∘K, where s_i = ‖x_i‖².

    Gains (see `fit`) multiply responses, so that they weigh products of *two* channels with the mean
    subtracted after weighing, and cannot make a product negative. Weights here are those of single channels.

    Parameters
    ----------
    X : array_like, shape (N, D) or (trials, N, D)
        Responses, as for `fit`: an array, a file that is read by rows, a dask array, a DataFrame or a
        DataArray. Trials are averaged.
    S : array_like, shape (D, D) or (T, D, D)
        Target similarities, or dissimilarities: any symmetric matrix. A stack of T targets shares one
        factorisation. Names of conditions are aligned with those of X. It may be NaN where pairs do not
        count, as on the diagonal.
    ridge : float, array_like of shape (N,), matrix (K, N), or "cv"
        λ ≥ 0, in units of X to the fourth. One for each channel, or a matrix Γ for ½‖Γ(w − w₀)‖², as in
        `fit`. 0 gives the weights nearest to w₀ among the best. "cv" chooses the best of `relative_ridges` on
        held-out conditions, and scores these by nested cross-validation.
    relative_ridge : float, or array_like of shape (N,)
        λ divided by the largest eigenvalue of AᵀA, in place of `ridge`.
    atoms : {"product", "squared-euclidean"}
    pairs : {"off-diagonal", "all"} or array_like of shape (D, D)
        Which pairs of conditions count: those of two conditions, all, a symmetric mask, or symmetric weights
        v ≥ 0 of the squares. A condition with itself then counts half as much as a pair, as it stands in
        the matrix once; it never counts for differences.
    center : bool, default True
        Whether the mean over channels is subtracted from the responses to each condition, as in `fit`.
    offset : bool, default False
        Whether there is an offset c, on which there is no ridge.
    shrink_to : float, default 0
        w₀, to which the ridge draws all weights: 0, or 1 for the plain sum over channels.
    bounds : (lower, upper), optional
        Least and largest weight, as for `fit`. (0, None) keeps weights from being negative.
    folds, repeats : default 5 and 1
        Of ``ridge="cv"``: folds of conditions, as for `cross_validate`.
    relative_ridges : array_like, shape (K,), optional
        Of ``ridge="cv"``: relative ridges to choose from; by default 1e-4 to 1 in half decades.
    score : {"pearson", "spearman", "cross-pearson", "cross-spearman"}
        Of ``ridge="cv"``: what chooses. Correlation, or rank correlation, over pairs of two held-out
        conditions, or over pairs of a held-out and a training condition: see `HeldOutPairs`.
    solver, tol, max_iterations, rng, memory_budget, callback
        As for `fit`. `rng` also draws the folds.

    Returns
    -------
    Reweighting
        With ``weights``, ``prediction``, ``r2``, the certificate, and with ``ridge="cv"`` ``scores``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape, S is not symmetric, λ < 0, or not
        exactly one of `ridge` and `relative_ridge` is given; if bounds cross, names repeat or are not those
        of X, or no pair counts; for "cv" if S is a stack, or folds leave too few pairs to correlate.
    MemoryError
        If the solver does not fit the memory that is available, before it is begun.
    OSError
        If X is in a file that cannot be read.

    Warns
    -----
    ConvergenceWarning
        If the residual or the gradient is larger than `tol` or rounding explain.
    LabelWarning
        If conditions of S are in another order than those of X. They are aligned by name.

    Notes
    -----
    With N channels and P = D(D + 1)/2 pairs, the solvers take, as in `plan`, N²D + N³/3 flops (twice N²D for
    differences), or NP² + P³/3 if there are more channels than pairs, or 4ND² for each iteration; beside X,
    8N² or 8P² bytes, or some vectors. The design matrix would take PN numbers and PN² flops. Weights of
    single pairs make the first of these N²D²/2 + N³/3. If responses are centred, X is copied in float64 where
    it is in memory; rows of a file are centred as they are read. "cv" fits folds² + folds times, each with
    one eigendecomposition for all ridges or one factorisation for each. Bounds take some ten solves in place
    of one, of the channels that no bound holds (Kim and Park, "Fast nonnegative matrix factorization", 2011).

    Kaniuth and Hebart, "Feature-reweighted representational similarity analysis" (2022), fit such weights
    with a design matrix; Khaligh-Razavi and Kriegeskorte (2014) fitted weights of layers.

    Examples
    --------
    >>> import fastcov as fc
    >>> sim = fc.datasets.simulate(60, 12, rng=0)
    >>> found = fc.reweight(sim.X, fc.covariance(sim.Y), relative_ridge=0.1)
    >>> found.weights.shape, found.status
    ((60,), 'converged')
    """
    started = time.perf_counter()
    check_choice("atoms", atoms, ATOMS)
    check_choice("score", score, PAIR_SCORES)
    anchor = _finite("shrink_to", shrink_to)
    if not isinstance(offset, (bool, np.bool_)):
        raise TypeError(f"Argument 'offset' must be True or False, not {offset!r}.")
    chooses = isinstance(ridge, str) and ridge == "cv"
    X = over_trials("X", X, rows=ALL_NEEDED)
    given = atoms_problem(X, atoms, center)
    labels = given.labels.with_conditions_from(conditions_of(S))
    problem = with_pairs(given, atoms, bool(offset), pairs, labels)
    settings = Settings.of(
        "linear", problem, solver=solver, tol=tol, max_iterations=max_iterations, rng=rng,
        memory_budget=memory_budget, bounds=bounds,
    )  # fmt: skip
    scores: HeldOutPairs | None = None
    with blas_for(problem.X.size * sum(problem.shape)), watching(callback) as watch:
        settings = settings.watched(watch, eager=callback is not None)
        if chooses:
            if relative_ridge is not None:
                raise ValueError(
                    "Argument 'ridge' must be a number, not 'cv', where relative_ridge is given."
                )
            scores = held_out(
                problem, S, atoms, anchor, settings, folds=folds, repeats=repeats, score=score,
                relative_ridges=relative_ridges,
            )  # fmt: skip
            ridge, relative_ridge = None, float(scores.relative_ridges[scores.best])
        begun = WeightsStart.of(problem, S, atoms, anchor, settings.budget)
        chosen, value = begun.ridge(ridge, relative_ridge)
        method = METHODS["linear"] if settings.bounds is None else bounded
        outcome = method(begun.start, chosen, begun.settings(settings))
        outcome.warn()
        weights = begun.weights(outcome, settings.bounds)
        plain = weighted_similarities(problem, weights, atoms)
    return _described(
        begun, atoms, weights, plain, outcome, ridge=value, relative=chosen.relative, penalty=chosen.penalty,
        labels=labels, scores=scores, stacked=np.ndim(S) == 3, center=bool(center), offset=bool(offset),
        seconds=time.perf_counter() - started,
    )  # fmt: skip


def _described(
    begun: WeightsStart, atoms: str, weights: Array, plain: Array, outcome: Any, *, ridge: Any, relative: Any,
    penalty: Any, labels: Any, scores: HeldOutPairs | None, stacked: bool, center: bool, offset: bool,
    seconds: float,
) -> Reweighting:  # fmt: skip
    """The result, from weights (T, N) and their similarities (T, D, D) in scaled units."""
    problem, target = begun.plain.problem, begun.target
    metric, D = problem.metric, problem.shape[1]
    counted = np.ones((D, D)) if metric is None or metric.weights is None else metric.weights
    constant = np.zeros(len(weights))
    if offset:
        constant = (counted * (target - plain)).sum(axis=(1, 2)) / counted.sum()
    prediction = with_offset(plain, constant, atoms)
    a, b = np.triu_indices(D, 1)
    there = counted[a, b] > 0
    P, S = prediction[:, a[there], b[there]], target[:, a[there], b[there]]
    left = (counted * np.square(prediction - target)).sum(axis=(1, 2))
    delta = 0.5 * (weights - begun.shrink_to)
    with np.errstate(over="ignore"):
        loss = problem.unscaled(0.25 * (left + penalty.quadratic(delta)), y=4)
    r2 = np.array([explained(p, s, counted) for p, s in zip(prediction, target, strict=True)])
    shown = slice(None) if stacked else 0
    stats = {
        "shape": problem.shape, "dtype": str(begun.plain.given.dtype), "center": center,
        "pairs": "all" if metric is None else metric.pairs, "offset": offset, **outcome.stats,
        "seconds": seconds,
    }  # fmt: skip
    for name in ("bounds", "sides"):
        stats.pop(name, None)
    if "at_bounds" in stats:
        stats["at_bounds"] = stats["at_bounds"][shown]
    return Reweighting(
        weights=weights[shown],
        offset=_number(problem.unscaled(constant, y=2)[shown]),
        prediction=problem.unscaled(prediction, y=2)[shown],
        target=problem.unscaled(target, y=2)[shown],
        loss=_number(loss[shown]),
        r2=_number(r2[shown]),
        pearson=_number(np.array([pearson(p, s) for p, s in zip(P, S, strict=True)])[shown]),
        spearman=_number(np.array([spearman(p, s) for p, s in zip(P, S, strict=True)])[shown]),
        ridge=ridge,
        relative_ridge=relative,
        residual=_number(outcome.residual[shown]),
        status=outcome.status,
        atoms=atoms,
        shrink_to=begun.shrink_to,
        stats=stats,
        channels=labels.channels,
        conditions=labels.conditions,
        scores=scores,
    )  # fmt: skip


def _number(value: Any) -> Any:
    return value if np.ndim(value) else float(value)


def _finite(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"Argument '{name}' must be a number, not {value!r}: 0 and 1 are usual.")
    if not math.isfinite(value):
        raise ValueError(f"Argument '{name}' must be finite, not {value!r}: 0 and 1 are usual.")
    return float(value)
