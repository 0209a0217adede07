"""fit(): responses and a target in, gains and their certificate out."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._compute.jit import blas_for
from ._compute.progress import Progress, watching
from ._fitting.connected_fits import METHODS as CONNECTED
from ._fitting.connected_fits import Asked, ConnectedStart, fit_at
from ._fitting.describe import describe
from ._fitting.methods import METHODS
from ._fitting.settings import Settings, method_for
from ._fitting.shared import shared_targets
from ._fitting.start import Start
from ._inputs.validation import check_choice
from ._model.groups import Groups
from ._model.problem import Problem
from ._model.target import ALL_NEEDED, TRIALS, Target, aligned, records
from ._results.overshoot import warn_overshoot
from ._rows.responses import over_trials
from ._studies.cross_validation import cross_validate

Array = NDArray[np.float64]

# Options that `cross_validate` takes as well.
_OF_STUDIES = ("solver", "bounds", "free_ridge", "tol", "max_iterations", "rng", "memory_budget")


def fit(
    X: ArrayLike,
    S: ArrayLike | None = None,
    *,
    responses: ArrayLike | None = None,
    ridge: Any = None,
    relative_ridge: Any = None,
    method: str | None = None,
    solver: str = "auto",
    center: bool = True,
    nuisance: str | Sequence[str] | None = None,
    pairs: str | ArrayLike | None = None,
    groups: Any = None,
    free_ridge: float | None = None,
    bounds: Any = None,
    gains0: ArrayLike | None = None,
    n_starts: int = 1,
    tol: float | None = None,
    max_iterations: int = 1000,
    rank: int | None = None,
    rng: Any = 0,
    trials: str = "mean",
    nan_policy: str = "raise",
    shared: bool = False,
    memory_budget: float | None = None,
    callback: Callable[[Progress], object] | None = None,
) -> Any:
    """Fit gains of channels, or of groups, so that the covariance of the responses becomes the target.

    The covariance loss is L(z) = ½‖Xᵀ diag(z) J diag(z) X − S‖²_F + (λ/2)‖z − 1‖². Linearised at gains
    of one it is a ridge problem in δ = z − 1, which explains; its exact minimum comes closest.
    Whether gains predict conditions that were not fitted, `cross_validate` and `permutation_test` tell.

    * ``method="linear"``: δ = (GᵀG + λI)⁻¹ Gᵀe₀,
    * ``method="line-search"``: z = 1 + tδ with the linear δ, and t where the exact loss, a quartic in t, is
      least,
    * ``method="exact"``: a minimum of L, from gains of one or `gains0`,
    * ``method="diagonal"``: δ_i = g_iᵀe₀ / (‖g_i‖² + λ), which ignores the correlations among atoms
      and is usually poor.

    Beyond gains, I + W in place of diag(z) with the ridge (λ/2)‖W‖²_F, which gives a `Connectivity`:

    * ``method="free"``: the minimum over all W (N × N), which has rank D at most and is never formed. With
      no more channels than conditions, and centring, it is a minimum of several,
    * ``method="free-linear"``: the same linearised at W = 0, in closed form,
    * ``method="symmetric"``, ``"psd"``: the minimum over symmetric W, and over those with a positive
      semi-definite I + W,
    * ``method="mixed"``: gains and W together, diag(z) + W with a ridge of each, which gives a `Mixed`.

    G = [vec(x_i x̃_iᵀ + x̃_i x_iᵀ)] and e₀ = vec(S − XᵀJX); G is never formed.

    Parameters
    ----------
    X : array_like, shape (N, D) or (trials, N, D)
        Responses: one row a channel, one column a condition. It may be larger than memory: a
        `numpy.memmap`, an HDF5 or a Zarr array, or anything with ``shape``, ``dtype`` and slices of
        rows is read block by block, ahead of the work. It may be a dask array: with a client of
        `distributed` its chunks of rows stay on the workers of that cluster, where all that is large is
        done; see docs/dask.md. float32 halves the memory and the time of the
        factorisation; the answer keeps the accuracy of float64. A DataFrame of pandas (index: channels,
        columns: conditions) or a DataArray of xarray gives its names to `Fit.channels` and
        `Fit.conditions`; all that has other names is refused, and what has them in another order aligned.
        An index that only counts is no name, but the same numbers in another order are aligned with it.
        Trials are averaged: they are the first axis, or the dimension of a DataArray that has the name
        "trial" or "repeat"; a list of arrays is one of trials. ``stats["trials"]`` has what is known of them.
    S : array_like, shape (D, D) or (T, D, D)
        Target covariance on the scale of X's, a sum over channels: from `target_covariance`, not
        `numpy.cov`. A stack of T targets shares one factorisation.
    responses : array_like, shape (M, D) or (trials, M, D)
        In place of S, the responses Y whose `target_covariance` it is.
    ridge : float, array_like of shape (N,) or (K, N), sparse matrix, or "cv"
        λ ≥ 0, in units of X to the fourth. 0 gives the linear solution of minimum norm. One λ a channel,
        (N,), gives ½ Σ λ_i δ_i² in place of (λ/2)‖δ‖²: the larger, the nearer a gain is kept to one. A
        matrix Γ with N columns, which may be sparse, gives ½‖Γδ‖²: with rows of differences, gains that are
        alike among neighbours. Entries of Γ are in units of X squared, and √λ I is the plain ridge. With
        `responses`, "cv" is the best of 1e-4 to 1 times the largest eigenvalue on held-out conditions, see
        `cross_validate`.
    relative_ridge : float, or array_like of shape (N,)
        λ divided by the largest eigenvalue of GᵀG, instead of `ridge`. On real recordings 0.1 is
        cautious; below some 0.03 the linear fit tends to overshoot.
    method : str, optional
        As above: "linear", "line-search", "exact", "diagonal", "free", "free-linear", "symmetric", "psd" or
        "mixed". By default "linear"; for a ridge that `cross_validate` chose (a `ChosenRidge`, as
        `best_ridge`), the method that it was chosen for.
    solver : {"auto", "cholesky", "dual", "spectral", "pcg"}
        Of the linear fit without bounds: "cholesky" factors GᵀG (N × N), "dual" GGᵀ (P × P for the
        P = D(D+1)/2 pairs of conditions), "spectral" takes eigenvectors of the smaller of the two, and
        "pcg" iterates without either. "auto" is the fastest that fits the memory, see `plan`; which
        one and why is in `Fit.stats`. Where λ is below 1e-10 of the trace of GᵀG, "spectral" takes the
        place of any: only eigenvectors tell what counts. All serve one λ a channel as well; a matrix Γ, or
        channels without a penalty beside others, are for "cholesky" and "pcg".
    center : bool, default True
        Whether the covariance is that of responses less their mean over channels.
    nuisance : {"diagonal", "constant"} or a sequence of both, optional
        Terms of S that gains need not explain: S ≈ C(z) + βI + γ11ᵀ with β of "diagonal", as noise of each
        condition alone, and γ of "constant", what all pairs share. They are where the loss is least, for any
        gains, and in `Fit.nuisance`.
    pairs : {"all", "off-diagonal"} or array_like of shape (D, D), optional
        Which pairs of conditions count: all but those of a condition with itself, a symmetric mask, or
        symmetric weights w ≥ 0, with the loss ½ Σ w (C + βI + γ11ᵀ − S)². S may be NaN where w is 0. Aligned
        by the names of the conditions, where it has them.
    groups : sequence of N labels, optional
        Groups of channels that share a gain: z = P g for the gains g of A groups, where P (N, A) has a one
        where a channel is in a group. The penalty is (λ/2)‖g − 1‖²: each group pays once, however many
        channels it has. G P takes the place of G, and A that of N; vectors of `ridge`, `bounds` and `gains0`
        have an entry for each group, in the order in which labels first occur, or by name as a Series.
        Labels are aligned by the names of channels. A label for all is one gain; a channel of no group needs
        a label of its own. A silent channel has the gain of its group.
    free_ridge : float, optional
        With "mixed", μ ≥ 0 of (μ/2)‖W‖²_F, where `ridge` is λ of the gains; relative to the largest
        eigenvalue of the free model where that is relative. By default the same number as for the gains.
    bounds : (lower, upper), optional
        Least and largest gain: numbers, one a channel, or None for no bound. (0, None) keeps gains from being
        negative; where the two meet a gain is fixed. The linear fit then is the minimum of its loss within.
    gains0 : array_like, shape (N,) or (T, N), optional
        Where the exact fit begins; by default at gains of one.
    n_starts : int, default 1
        Minima to look for with the exact fit, the first from `gains0` and others from there times
        exp(0.5 · normal); the lowest is taken, and ``stats["losses"]`` has all.
    tol : float, optional
        "pcg" stops at this relative residual, ‖b − Aδ‖ / ‖b‖ computed anew, by default 1e-8; the other
        solvers go to rounding. The exact fit, and any with bounds, stops where the norm of the gradient is
        this share of that at gains of one, by default 1e-6.
    max_iterations : int, default 1000
        Of "pcg", and Newton steps of the exact fit.
    rank : int, optional
        Of the preconditioner of "pcg", from 0 to N; as it pays by default.
    rng : default 0
        What `numpy.random.default_rng` takes: draws pivots of the preconditioner, random starts and folds.
    trials : {"mean", "cross"}
        How trials of `responses` become a target, as for `target_covariance`: "cross" has no bias by noise,
        and may be indefinite.
    nan_policy : {"raise", "omit-trials", "pairwise"}
        What to do with NaN, as for `target_covariance`. Channels of X need a response to each condition, in
        some trial; "pairwise" is for `responses`.
    shared : bool, default False
        Whether T targets, S of shape (T, D, D), share one vector of gains. The loss is then the mean over
        targets, (1/T) Σ_t ½‖C − S_t‖² + (λ/2)‖z − 1‖², so that λ means what it means for one target, however
        many there are. As (1/T) Σ_t ½‖C − S_t‖² = ½‖C − S̄‖² + (1/2T) Σ_t ‖S_t − S̄‖², it is the fit to the
        mean target S̄: `Fit.loss` and `Fit.r2` are of S̄. R² of each target, and the last sum, which no gains
        change, are in ``Fit.stats["shared"]``. Nuisance terms are then of each target by itself.
    memory_budget : float, optional
        Bytes that the fit may take beyond X; what is available by default.
    callback : callable, optional
        Called with a `Progress` as the solver goes on. What it raises ends the fit.

    Returns
    -------
    Fit
        A `Connectivity` for "free", "free-linear", "symmetric" and "psd", and a `Mixed` for "mixed".

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape, S is not symmetric, λ < 0, or
        not exactly one of `ridge` and `relative_ridge` is given; if bounds cross, or `gains0` is outside;
        if a penalty and G share a null space, so that there is no one solution; if names repeat, or are
        not those of X; if `pairs` are no weights, or `nuisance` spans all pairs that count; if values are
        missing that `nan_policy` cannot do without; if `shared` is given for one target, or for responses; if
        `groups` has no label for some channel.
    MemoryError
        If the solver, or the sums of groups, do not fit the memory that is available, before it is begun.
    OSError
        If X is in a file that cannot be read.

    Warns
    -----
    ConvergenceWarning
        If the residual or the gradient is larger than `tol` or rounding explain.
    OvershootWarning
        If the exact loss of a target is above that at gains of one by more than rounding explains.
    LabelWarning
        If conditions of S or `responses`, or channels of `gains0`, `bounds` or a ridge by channel, are in
        another order than those of X: they are aligned by name.
    MissingValuesWarning
        If the covariance of `responses` is of the channels that are there.

    Notes
    -----
    ``linear``: what the solver takes (see `plan`), and 7ND² flops more for each target; with a matrix Γ, or
    channels without a penalty, one solve more, which tells whether there is one solution. ``diagonal``: 8ND²
    flops and no memory to speak of. ``exact``: 4ND² flops for each product with the curvature, some twenty at
    λ/λ_max of 0.1 and hundreds at 1e-4, and copies of X in float64 and float32 where it is in memory in
    another form; trust-region Newton steps of truncated conjugate gradients (Steihaug 1983), of the length at
    which the quartic along them is least. The loss is not convex: at small λ other starts may end in other
    minima, of nearly the same loss. A relative ridge takes some 30ND² flops, or N²D flops and 8N² bytes where
    X is a float64 array in memory, N ≤ D²/8 and N ≤ 1448. Nuisance terms add little to any of these, and so
    do pairs off the diagonal; other pairs cost "cholesky" N²D² / 2 flops in place of N²D. A groups take ND²
    flops and one pass over X for their sums, 12AD² bytes in all, and then A²D² / 2 flops for "cholesky",
    2AD² for each product. Exact fits then move one group at a time to a lower minimum along its own gain.

    ``free``: one pass over X, ND² flops or twice that, then some 6 Newton steps of 70D³ flops, whatever N is;
    "symmetric", "psd", and "free" where X has no more channels than conditions and a mean over channels is
    removed, take hundreds of products of D × D matrices. ``mixed``: 4ND² flops for each of some 20 to 50
    evaluations. See docs/free.md.

    The linear fit can be trusted while it lowers the exact loss: compare `Fit.loss` with
    `Fit.loss_at_one`, as the printed table does. At small λ it overshoots, and the exact loss at
    the linear solution can be thousands of times that at gains of one.

    Examples
    --------
    >>> import fastcov as fc
    >>> sim = fc.datasets.simulate(60, 12, rng=0)
    >>> fit = fc.fit(sim.X, sim.S, relative_ridge=0.1)
    >>> bool(fit.loss < fit.loss_at_one), fit.status
    (True, 'converged')
    """
    X = over_trials("X", X, nan_policy, rows=ALL_NEEDED)
    if trials != "mean":
        _check_trials(trials, responses, ridge)
    known = None if responses is None else over_trials("responses", responses, nan_policy, center=center)
    if isinstance(ridge, str) and ridge == "cv":
        if shared:
            raise ValueError(
                "Argument 'ridge' must be a number for shared=True, not 'cv': cross_validate(X, "
                "S=targets.mean(axis=0)) finds one."
            )
        return _at_best_ridge(
            X, S, known, relative_ridge, method=method or "linear", solver=solver, center=center,
            nuisance=nuisance, pairs=pairs, groups=groups, bounds=bounds, gains0=gains0, n_starts=n_starts,
            tol=tol, free_ridge=free_ridge, max_iterations=max_iterations, rank=rank, rng=rng,
            memory_budget=memory_budget, callback=callback,
        )  # fmt: skip
    started = time.perf_counter()
    given = Problem.of(X, center=center)
    method = method_for(method, ridge, relative_ridge)
    if responses is not None:
        known = aligned("responses", known, given.labels, quiet=trials != "mean")
    target = Target.of(S, known if trials == "mean" else responses, given, trials=trials)
    given = given.with_metric(nuisance, pairs, target.labels)
    grouped = None if groups is None else Groups.of(groups, given.shape[0], given.labels)
    together = shared_targets(shared, given, target.S, responses)
    fitted_to = target.S if together is None else together.mean
    settings = Settings.of(
        method, given, solver=solver, tol=tol, max_iterations=max_iterations, rank=rank, rng=rng,
        memory_budget=memory_budget, bounds=bounds, gains0=gains0, n_starts=n_starts,
        free_ridge=free_ridge, groups=grouped,
    )  # fmt: skip
    extra = target.stats | records(X=X, responses=known)
    with blas_for(given.X.size * sum(given.shape)), watching(callback) as watch:
        settings = settings.watched(watch, eager=callback is not None)
        if method in CONNECTED:
            connected = ConnectedStart.of(given, fitted_to, watch, together)
            asked = Asked(method, settings, target.labels, np.ndim(fitted_to) == 3, extra)
            found = fit_at(connected, ridge, relative_ridge, asked, started)
            warn_overshoot(found)
            return found
        start = Start.of(given, fitted_to, watch, settings.budget, grouped)
        chosen = start.ridge(ridge, relative_ridge)
        outcome = METHODS[method](start, chosen, settings)
        outcome.warn()
        fitted = describe(
            start, chosen, outcome, method=method, stacked=np.ndim(fitted_to) == 3, labels=target.labels,
            extra=extra, shared=together, seconds=time.perf_counter() - started,
        )  # fmt: skip
    warn_overshoot(fitted)
    return fitted


def _check_trials(trials: Any, responses: Any, ridge: Any) -> None:
    """Raise unless `trials`, which is not "mean", is "cross", and there is something that it applies to."""
    check_choice("trials", trials, TRIALS)
    if responses is None or (isinstance(ridge, str) and ridge == "cv"):
        given = "ridge='cv' is given" if responses is not None else "responses are not given"
        raise ValueError(
            f"Argument 'trials' must be 'mean' where {given}, not {trials!r}: pass S=target_covariance(Y, "
            f"like=X, trials={trials!r}), to fit or to cross_validate."
        )


def _at_best_ridge(X: Any, S: Any, responses: Any, relative_ridge: Any, **asked: Any) -> Any:
    """`fit` at the relative ridge that `cross_validate` finds best; the study is ``stats["cv"]``."""
    started, method = time.perf_counter(), asked["method"]
    given = Problem.of(X, center=asked["center"])
    X, D = given.reusable(X), given.shape[1]
    if responses is not None:
        responses = aligned("responses", responses, given.labels)
    if S is not None or responses is None:
        Target.of(S, responses, given)
    shared = {name: asked[name] for name in _OF_STUDIES}
    alone = {name: asked[name] for name in ("gains0", "n_starts", "rank")}
    groups = None if asked["groups"] is None else Groups.of(asked["groups"], given.shape[0], given.labels)
    Settings.of(method, given, groups=groups, **shared, **alone)
    for wrong, why in (
        (responses is None, "where S is given: conditions are held out of responses=Y"),
        (relative_ridge is not None, "where relative_ridge is given: it is chosen"),
        (asked["gains0"] is not None, "where gains0 is given: folds begin at gains of one"),
        (D < 4, f"for {D} conditions: two are held out, and two trained on"),
    ):
        if wrong:
            raise ValueError(f"Argument 'ridge' must be a number, not 'cv', {why}.")
    metric = {name: asked[name] for name in ("nuisance", "pairs") if asked[name] is not None}
    cv = cross_validate(
        X, responses, folds=min(5, D // 2), method=method, center=asked["center"], refit=None,
        channel_groups=asked["groups"], callback=asked["callback"], **shared, **metric,
    )  # fmt: skip
    if math.isnan(cv.best_ridge):
        raise ValueError("Argument 'responses' must not be zero in any fold for ridge='cv': give a number.")
    found = fit(X, responses=responses, relative_ridge=cv.best_ridge, **asked)
    stats = found.stats | {"cv": cv, "seconds": time.perf_counter() - started}
    return dataclasses.replace(found, stats=stats)
