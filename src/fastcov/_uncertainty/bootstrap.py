"""The bootstrap: gains fitted again to cells and conditions that are drawn with replacement.

A draw is a vector of counts. Cells with counts n give the target Σ n_m y_m y_mᵀ, centred again. Conditions
with counts w give the problem in which a pair counts w_d w_e times: the conditions that were drawn, times √w.
Linear fits of other cells, or of other targets that share the gains, are one product: see `linear_draws`.

Exact fits of other cells are at minima near the fitted one. Many are found at once, by quasi-Newton steps
that begin with the H⁻¹ of the fit. Those that do not get there in time, or that could be lower along a single
gain, are left to the minimiser.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .._compute import blas, kernels
from .._compute.jit import blas_for
from .._compute.on_cores import on_cores
from .._compute.progress import Progress
from .._fitting.certificate import ConvergenceWarning
from .._fitting.methods import METHODS
from .._fitting.settings import EXACT_TOL, Settings
from .._fitting.start import Ridge, Start
from .._inputs.labels import outside
from .._inputs.validation import require_memory
from .._model.bounds import Bounds
from .._model.metric import Metric
from .._model.problem import Problem
from .._model.products import apply_adjoint
from .._results.fit import Fit
from .._results.score import FINE
from . import linear_draws
from .curvature import Stationary
from .populations import Population
from .quasi_newton import near_minima

Array = NDArray[np.float64]

# Bytes of the targets, gains and derivatives of draws that are fitted together.
GROUP_BYTES, VECTORS = 1 << 26, 40
# Bytes of the products of pairs of conditions of all cells.
PAIR_BYTES = 1 << 25
# Parts of the draws of conditions for each core, so that none waits long.
PARTS = 8


def draws(
    there: Stationary, fit: Fit, cells: Sequence[Population], by: str, inverse: Array | None,
    places: NDArray[np.intp], n: int, random: np.random.Generator, budget: float | None,
    watch: Callable[[Progress], object],
) -> Array:  # fmt: skip
    """Gains of some channels in n bootstraps (n, k)."""
    N, D = there.given.shape
    require_memory(
        24 * n * N, f"Gains of {N} channels in {n} bootstraps", "draw fewer, or fit fewer channels"
    )
    counts = [_counts(random, n, each.n, each.least) for each in cells]
    if by == "targets":
        counts = [_counts(random, n, len(there.targets), 1)]
    weights = _counts(random, n, D, 2) if by in ("conditions", "both") else None
    refit = _Refit(there, fit, cells, inverse, budget)
    if weights is None and inverse is not None and refit.by_product:
        if by == "targets":
            return linear_draws.from_targets(there, counts[0], inverse, places, watch)
        if linear_draws.is_shorter(there, cells):
            return linear_draws.from_cells(there, cells, counts, inverse, places, watch)
    if weights is None:
        out = refit.in_groups(counts, by, watch)
    else:
        out = np.empty((n, N))

        def work(part: Sequence[int], check: Callable[[Any], object]) -> None:
            for b in part:
                check(None)
                out[b] = refit.of_conditions([each[b : b + 1] for each in counts], weights[b])

        parts = np.array_split(np.arange(n), min(n, PARTS * numba.get_num_threads()))
        with blas_for(0):
            on_cores(work, parts, numba.get_num_threads(), lambda done: watch(Progress("gains", done)))
    if refit.short:
        warnings.warn(
            f"{sum(refit.short)} of {n} bootstrapped fits stopped short: they are used as they are. Use a "
            "larger ridge.",
            ConvergenceWarning,
            stacklevel=outside(),
        )
    return out[:, places]


def _counts(random: np.random.Generator, n: int, of: int, least: int) -> NDArray[np.int64]:
    """How often each is drawn, for n draws of as many as there are; `least` different ones are drawn."""
    counts = random.multinomial(of, np.full(of, 1.0 / of), size=n)
    while (few := np.flatnonzero((counts > 0).sum(axis=1) < least)).size:
        counts[few] = random.multinomial(of, np.full(of, 1.0 / of), size=len(few))
    return counts


@dataclasses.dataclass(eq=False)
class _Refit:
    """Fits the same loss to other targets and other conditions, in the units of the first fit."""

    there: Stationary
    fit: Fit
    cells: Sequence[Population]  # of each target, or none
    inverse: Array | None  # H⁻¹ at the fitted gains, if it was made
    budget: float | None
    short: list[int] = dataclasses.field(default_factory=list)  # how many of some fits stopped short

    @property
    def by_product(self) -> bool:
        """Whether gains are H⁻¹ times what is linear in the target."""
        return self.there.linear and "bounds" not in self.fit.stats

    def in_groups(
        self, counts: Sequence[NDArray[Any]], by: str, watch: Callable[[Progress], object]
    ) -> Array:
        """Gains (n, N) of other cells or targets, for as many draws at a time as fit GROUP_BYTES."""
        (N, D), n = self.there.given.shape, len(counts[0])
        out, group = np.empty((n, N)), max(1, GROUP_BYTES // (8 * (VECTORS * N + 4 * D * D)))
        for first in range(0, n, group):
            some = slice(first, min(first + group, n))
            if by == "targets":
                T = len(self.there.targets)
                flat = blas.product(counts[0][some] / T, self.there.targets.reshape(T, -1))
                S = flat.reshape(-1, D, D)
            else:
                parts = self.targets([each[some] for each in counts])
                S = parts[0] if len(parts) == 1 else np.mean(parts, axis=0)
            out[some] = self.of_targets(S)
            watch(Progress("gains", some.stop / n))
        return out

    def targets(self, counts: Sequence[NDArray[Any]]) -> list[Array]:
        """The target (T, D, D) of each population, of which groups are drawn so often (T, A).

        Their scale is matched to X where that of the first one was.
        """
        return [self._target(k, *each) for k, each in enumerate(zip(self.cells, counts, strict=True))]

    def _target(self, number: int, cells: Population, counts: NDArray[Any]) -> Array:
        """2TMD² flops for several draws, over all pairs of conditions where their products fit the caches."""
        Y, often = cells.Y, cells.often(counts)
        (M, D), T = Y.shape, len(counts)
        S = np.empty((T, D, D))
        if T > 1 and 8 * M * D * (D + 1) // 2 <= PAIR_BYTES:
            i, j = np.tril_indices(D)
            pairs = blas.product(often, Y[:, i] * Y[:, j])
            S[:, i, j] = pairs
            S[:, j, i] = pairs
        else:
            for own, out in zip(often, S, strict=True):
                blas.self_product(np.sqrt(own)[:, np.newaxis] * Y, transpose=True, out=out)
                kernels.mirror_lower(out, size=out.size)
        if self.there.given.center:
            total = blas.product(often, Y)
            total /= np.sqrt(often.sum(axis=1))[:, np.newaxis]
            S -= total[:, :, np.newaxis] * total[:, np.newaxis, :]
        scales = linear_draws.scales_of(self.there, number, np.trace(S, axis1=1, axis2=2))
        S *= scales[:, np.newaxis, np.newaxis]
        return S

    def of_targets(self, S: Array) -> Array:
        """The gains (T, N) of targets (T, D, D) with the same responses."""
        there = self.there
        if self.inverse is None or there.groups is not None or "bounds" in self.fit.stats:
            first = np.tile(there.gains, (len(S), 1))
            return self._fitted(there.given, S, first)
        if there.linear:
            error = S - there.at_one
            metric = there.given.metric
            overlaps = apply_adjoint(there.given, error if metric is None else metric.image(error))
            overlaps[:, there.given.sizes == 0] = 0.0
            return 1.0 + blas.product(overlaps, self.inverse)
        return self._minima(S, self.inverse)

    def _minima(self, S: Array, inverse: Array) -> Array:
        """Minima of the exact loss, from the fitted gains: all at once, and the rest by the minimiser."""
        there, metric = self.there, self.there.given.metric
        error = S - there.at_one
        overlaps = apply_adjoint(there.given, error if metric is None else metric.image(error))
        goals = EXACT_TOL * np.sqrt(np.square(overlaps).sum(axis=1))
        gains, left = near_minima(there, inverse, S, goals)
        if len(left):
            gains[left] = self._fitted(there.given, S[left], gains[left])
        return gains

    def of_conditions(self, counts: Sequence[NDArray[Any]], weights: NDArray[Any]) -> Array:
        """The gains (N,) where conditions, and cells if there are any, are drawn so often."""
        there, base = self.there, self.there.given
        parts = [each[0] for each in self.targets(counts)] if counts else list(there.targets)
        for k in np.flatnonzero(there.matched):  # on the conditions that are drawn
            trace = float(weights @ np.diagonal(parts[k]))
            parts[k] = parts[k] * (float(weights @ np.diagonal(there.at_one)) / trace)
        S = parts[0] if len(parts) == 1 else np.mean(parts, axis=0)
        drawn = np.flatnonzero(weights)
        root, metric = np.sqrt(weights[drawn].astype(np.float64)), base.metric
        X, S = base.X[:][:, drawn], np.ascontiguousarray(S[np.ix_(drawn, drawn)])
        if metric is None:
            X, S = X * root, S * np.outer(root, root)
        problem = Problem.measured(np.ascontiguousarray(X), np.ones(len(X)), center=base.center)
        if metric is not None:
            own = np.outer(weights[drawn], weights[drawn]).astype(np.float64)
            if metric.weights is not None:
                own *= metric.weights[np.ix_(drawn, drawn)]
            problem = dataclasses.replace(problem, metric=Metric(metric.nuisance, own, len(drawn)))
        return self._fitted(problem, S[np.newaxis], there.gains[np.newaxis])[0]

    def _fitted(self, problem: Problem, S: Array, first: Array) -> Array:
        """The gains (T, N) by the method of the fit; the minimiser begins at `first`."""
        fit, bounds, groups = self.fit, None, self.there.groups
        if "bounds" in fit.stats:
            bounds = Bounds(*fit.stats["bounds"])
        dead = problem.sizes == 0
        if groups is not None:
            dead, first = groups.all_of(dead), first[:, groups.first]
        first = np.where(dead, 1.0, first)
        if bounds is not None:
            first = bounds.clip(first)
        settings = Settings(
            "auto", None, 1000, None, 0, self.budget, bounds, first if fit.method == "exact" else None, 1
        )
        penalty = self.there.penalty.in_units(problem.exponent, dead)
        start = Start.of(problem, S, None, self.budget, groups)
        outcome = METHODS[fit.method](start, Ridge(fit.ridge, penalty, None), settings)
        if outcome.status not in FINE:
            self.short.append(len(S))  # also from several threads
        return start.by_channel(outcome.gains)
