"""ridge_path(): one fit for each of many ridges, each warm-started from the one before."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._compute.jit import blas_for
from .._compute.progress import Progress, watching
from .._exact_loss.derivatives import covariances
from .._fitting.connected_fits import METHODS as CONNECTED
from .._fitting.connected_fits import Asked, ConnectedStart, fits_at
from .._fitting.describe import fits_of, kept
from .._fitting.methods import METHODS, all_certified, plan_for, stepped
from .._fitting.settings import Outcome, Settings
from .._fitting.shared import shared_targets
from .._fitting.start import Ridge, Start
from .._inputs.validation import as_float64, check_array, check_nonnegative
from .._model.groups import Groups
from .._model.problem import BLOCK_BYTES, NARROW, Problem, n_pairs
from .._model.target import Target, aligned, records
from .._results.overshoot import warn_overshoots
from .._results.ridge_path import RidgePath
from .._rows.responses import over_trials
from .._solvers import SOLVERS
from .._solvers._plan import BANDWIDTH
from .neighbours import refined_from_neighbours

Array = NDArray[np.float64]

# λ over the largest eigenvalue, in half decades. At 1 gains hardly move; well above 1e-4 predictions of
# held-out covariances already become worse.
RELATIVE_RIDGES = tuple(float(10.0 ** (k / 2)) for k in range(-8, 1))

# Ridges are solved for, and certified, in groups. A matrix or vector for each ridge of a group takes this
# many bytes together. At 148 x 48, half as much takes 5 % longer, and so does eight times as much, which
# exceeds the caches.
GROUP_BYTES = BLOCK_BYTES // 8


def ridge_path(
    X: ArrayLike,
    S: ArrayLike | None = None,
    *,
    responses: ArrayLike | None = None,
    ridges: ArrayLike | None = None,
    relative_ridges: ArrayLike | None = None,
    method: str = "linear",
    solver: str = "auto",
    center: bool = True,
    nuisance: str | Sequence[str] | None = None,
    pairs: str | ArrayLike | None = None,
    groups: Any = None,
    free_ridge: float | None = None,
    bounds: Any = None,
    tol: float | None = None,
    max_iterations: int = 1000,
    rank: int | None = None,
    rng: Any = 0,
    shared: bool = False,
    memory_budget: float | None = None,
    callback: Callable[[Progress], object] | None = None,
) -> RidgePath:
    """Fit gains for each of many ridges λ, to see how gains depart from one as λ falls.

    Everything that does not depend on λ is computed once. Write G = U Σ Vᵀ for the atoms and e₀ for the error
    at gains of one. Linear fits, δ(λ) = V (Σ² + λI)⁻¹ Σ Uᵀ e₀, share one eigendecomposition of the smaller of
    GᵀG and GGᵀ, if that is faster than a solver for each λ. Exact fits go from the largest λ to the smallest,
    each from the minimum before. This is faster than from gains of one, and follows one branch of minima. If
    the fit at the next smaller λ moved to a branch that is lower at this λ too, this fit moves there.

    Parameters
    ----------
    X, S, responses
        As for `fit`; X and responses may have trials, (trials, channels, conditions), or be dask arrays.
    ridges : array_like, shape (K,)
        λ ≥ 0, in units of X to the fourth, in any order.
    relative_ridges : array_like, shape (K,), optional
        λ over the largest eigenvalue of GᵀG, in place of `ridges`. By default 1e-4 to 1 in half decades.
    method : str
        As for `fit`. Connectivities are a path, too: "free-linear" takes one eigendecomposition for all λ.
    free_ridge : float, optional
        Of W with method "mixed", the same at all ridges of the gains; by default equal to these.
    nuisance, pairs, groups
        As for `fit`.
    solver, center, bounds, tol, max_iterations, rank, rng, shared, memory_budget, callback
        As for `fit`. ``solver="spectral"`` is the eigendecomposition; "auto" uses it where it is faster.

    Returns
    -------
    RidgePath
        A `Fit` (or `Connectivity`, or `Mixed`) for each ridge, in the order given.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As for `fit`.

    Warns
    -----
    ConvergenceWarning
        For each ridge at which the fit stops short; see `RidgePath.status`.
    OvershootWarning
        Once, with the ridges at which fits end above the exact loss at gains of one, if there are any.
    LabelWarning
        As for `fit`.

    Notes
    -----
    The spectral solver takes 9n³ flops once, with n = min(N, D(D+1)/2), then 6ND² + 2n² for each ridge, or
    about 14ND² if n < N. If X and GᵀG stay in the caches, 2N² replaces 4ND² of these. Memory holds vectors
    and matrices for as many ridges as fit the caches: some 2 MB, or those of one ridge.

    A path with ``method="free-linear"`` takes one eigendecomposition of Γ = XᵀJX (D × D), and then D³ flops
    and O(D²) for each ridge and target. Loss, R² and certificate are computed there, in the eigenvectors of
    Γ, and the matrices of a `Connectivity` when it is read: 7D³. With nuisance terms or `pairs` each ridge is
    a fit by itself.

    Examples
    --------
    >>> import fastcov as fc
    >>> sim = fc.datasets.simulate(60, 12, rng=0)
    >>> path = fc.ridge_path(sim.X, sim.S, relative_ridges=[1e-3, 1e-2, 1e-1], method="exact")
    >>> path.gains.shape, bool(path.loss[0] < path.loss[2])
    ((3, 60), True)
    """
    X = over_trials("X", X)
    given = Problem.of(X, center=center)
    if responses is not None:
        responses = aligned("responses", over_trials("responses", responses), given.labels)
    target = Target.of(S, responses, given)
    given = given.with_metric(nuisance, pairs, target.labels)
    grouped = None if groups is None else Groups.of(groups, given.shape[0], given.labels)
    together = shared_targets(shared, given, target.S, responses)
    fitted_to = target.S if together is None else together.mean
    settings = Settings.of(
        method, given, solver=solver, tol=tol, max_iterations=max_iterations, rank=rank, rng=rng,
        memory_budget=memory_budget, bounds=bounds, free_ridge=free_ridge, groups=grouped,
    )  # fmt: skip
    values, relative = check_ridges(ridges, relative_ridges)
    with blas_for(given.X.size * sum(given.shape)), watching(callback) as watch:
        settings = settings.watched(watch, eager=callback is not None)
        if method in CONNECTED:
            connected = ConnectedStart.of(given, fitted_to, watch, together)
            asked = Asked(
                method, settings, target.labels, np.ndim(fitted_to) == 3,
                target.stats | records(X=X, responses=responses),
            )  # fmt: skip
            fits: Any = fits_at(connected, values, asked, relative=relative)
            path = RidgePath(fits)
            warn_overshoots(path)
            return path
        start = Start.of(given, fitted_to, watch, settings.budget, grouped)
        grid = start.ridges(values, relative=relative)
        found: dict[int, tuple[Outcome, float]] = {}
        started = time.perf_counter()
        rounds = outcomes(start, grid, method, settings)
        if method == "exact":
            rounds = refined_from_neighbours(start, grid, settings, rounds)
        for places, some in rounds:
            share = (time.perf_counter() - started) / len(places)
            for k, outcome in zip(places, some, strict=True):
                found[k] = kept(start, outcome), share
                outcome.warn()
                watch(Progress("path", len(found) / len(grid)))
            started = time.perf_counter()
        reached, seconds = zip(*(found[k] for k in range(len(grid))), strict=True)
        path = RidgePath(fits_of(
            start, grid, reached, method=method, stacked=np.ndim(fitted_to) == 3,
            labels=target.labels, extra=target.stats | records(X=X, responses=responses), seconds=seconds,
            shared=together,
        ))  # fmt: skip
    warn_overshoots(path)
    return path


def check_ridges(ridges: Any, relative: Any) -> tuple[list[float], bool]:
    """The values of whichever argument is given, or else RELATIVE_RIDGES; and whether they are relative."""
    if ridges is not None and relative is not None:
        raise ValueError("Argument 'ridges' or 'relative_ridges' must be given, one of the two, not both.")
    if ridges is None and relative is None:
        return list(RELATIVE_RIDGES), True
    name, given = ("ridges", ridges) if relative is None else ("relative_ridges", relative)
    array = as_float64(
        check_array(
            name, [given] if np.isscalar(given) or getattr(given, "ndim", 1) == 0 else given, ("ridge",)
        )
    )
    values = [check_nonnegative(name, value) for value in array.tolist()]
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"Argument '{name}' must hold each value once, not {twice:g} twice.")
    return values, ridges is None


def outcomes(
    start: Start, grid: Sequence[Ridge], method: str, settings: Settings
) -> Iterator[tuple[list[int], list[Outcome]]]:
    """Yield the outcomes for some ridges at a time, with their indices in the grid, from the largest on."""
    order = sorted(range(len(grid)), key=lambda k: -grid[k].penalty.largest)
    linear = method in ("linear", "line-search") and settings.bounds is None
    if linear and _spectral_is_faster(start, [grid[k] for k in reversed(order)], settings):
        yield from _by_eigenvectors(start, grid, order, method, settings)
        return
    for k in order:
        outcome = METHODS[method](start, grid[k], settings)
        if method == "exact":
            settings = dataclasses.replace(settings, gains0=outcome.gains)
        yield [k], [outcome]


def _by_eigenvectors(
    start: Start, grid: Sequence[Ridge], order: list[int], method: str, settings: Settings
) -> Iterator[tuple[list[int], list[Outcome]]]:
    """Yield the outcomes from one eigendecomposition, for as many ridges at a time as fit the caches."""
    state = SOLVERS["spectral"].init(start.system(grid[order[0]]), settings.options())
    stats = {"solver": "spectral", "reason": "one decomposition for all ridges"}
    N, D, T = start.n_gains, start.problem.shape[1], len(start.target)
    together = max(1, GROUP_BYTES // (8 * T * max(N, D * (D + 1))))
    some = [order[first : first + together] for first in range(0, len(order), together)]
    solved = state.each(([grid[k].penalty for k in places] for places in some), start.overlaps)
    # A line search also needs the slopes, and its covariances are at different gains.
    linear = method == "linear"
    gram = start.gram if linear else None
    there = functools.partial(_covariances, start) if _cached(start.problem) else None
    for places, solutions in zip(some, solved, strict=True):
        ridges = [grid[k] for k in places]
        found = all_certified(start, ridges, settings, solutions, stats, gram, there if linear else None)
        if not linear:
            found = [stepped(start, r, settings, one) for r, one in zip(ridges, found, strict=True)]
            if there is not None:
                each = there(np.concatenate([one.gains for one in found]))
                each = each.reshape(len(found), T, *each.shape[1:])
                found = [dataclasses.replace(one, covariance=C) for one, C in zip(found, each, strict=True)]
        yield places, found


def _cached(problem: Problem) -> bool:
    """Whether X stays in the caches, so that covariances at many gains are computed in one call."""
    N, D = problem.shape
    return problem.rows.in_memory and 8 * N * D <= BLOCK_BYTES and D <= NARROW


def _covariances(start: Start, gains: Array) -> Array:
    """Covariances (K, D, D) at gains (K, n)."""
    problem, gains = start.problem, start.by_channel(gains)
    with blas_for(0):
        _, block = next(problem.blocks(step=len(problem.sizes)))  # one block of all rows
        # The size counts elements, not products: at 148 x 48, several threads took 3.7 ms for 100 ridges, and
        # one thread took 1.4 ms.
        return covariances(block, gains, problem.center, size=len(gains) * block.size)[0]


def _spectral_is_faster(start: Start, ridges: Sequence[Ridge], settings: Settings) -> bool:
    """Whether one eigendecomposition is faster than a solver for each of `ridges`, which ascend."""
    plan = plan_for(start, ridges[0], settings)  # the smallest ridge takes the most memory
    if settings.solver != "auto":
        return settings.solver == "spectral"
    spectral, n = plan.cost("spectral"), min(start.n_gains, n_pairs(start.problem.shape[1]))
    left = spectral.seconds + len(ridges) * 32.0 * n * n / BANDWIDTH
    # A plan takes as long as a small solution, so plans are made only until the answer is clear. The largest
    # ridge comes first, because it takes no longer than any other.
    least = plan_for(start, ridges[-1], settings)
    if left < len(ridges) * least.cost(least.solver).seconds:
        return spectral.fits
    for ridge in ridges:
        plan = plan_for(start, ridge, settings)
        left -= plan.cost(plan.solver).seconds
        if left < 0:
            return spectral.fits
    return False
