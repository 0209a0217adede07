"""Which gains differ from those that are fitted to targets with shuffled conditions."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.jit import blas_for
from .._compute.progress import Progress, watching
from .._fitting.certificate import ConvergenceWarning
from .._fitting.methods import METHODS
from .._fitting.settings import Settings
from .._fitting.start import Start
from .._inputs.labels import outside
from .._results.cross_validation import CrossValidation
from .._results.fit import Fit
from .._results.permutation_test import ChannelTest
from .._results.score import FINE
from .held_out import HeldOut

Array = NDArray[np.float64]
Orders = Sequence[NDArray[np.intp]]
Callback = Callable[[Progress], object] | None

# Targets are fitted together up to this many bytes of their gains and covariances.
TOGETHER_BYTES = 1 << 26


def compared_at_the_best(
    cv: CrossValidation, study: HeldOut, orders: Orders, method: str, settings: Settings, callback: Callback
) -> ChannelTest:  # fmt: skip
    """Compare gains fitted to all conditions at the best ridge with those of each shuffle."""
    given, fit = study.given, cv.fits[method]
    with blas_for(given.X.size * sum(given.shape)), watching(callback) as watch:
        fits = _Fits(study, orders[1:], method, settings.watched(watch))
        # If pairs have unequal weights, the largest eigenvalue differs between orders.
        absolute = study.even or fit.relative_ridge is None
        ridge = (fit.ridge, None) if absolute else (None, fit.relative_ridge)
        gains = np.concatenate([fit.gains[np.newaxis], fits.at(ridge, watch)])
    fits.warn()
    away, unit = _from_mean(gains)
    away[away <= unit] = 0.0
    return _found(fit, gains, away)


def compared_at_every_ridge(
    cv: CrossValidation, study: HeldOut, orders: Orders, method: str, settings: Settings, callback: Callback
) -> ChannelTest:  # fmt: skip
    """Compare gains fitted to all conditions at each ridge with those of each shuffle, at all of them.

    With z̄ and s the mean and the standard deviation of a channel's gains z_k(λ) over all orders, what is
    compared is max_λ |z_k(λ) − z̄(λ)| / s(λ). The maximum is taken in each order, so that p is valid; and no
    ridge has to be chosen, of which those that predict best tell single channels apart least.
    """
    given, fit, best = study.given, cv.fits[method], cv.place(method)
    away = np.zeros((len(orders), given.shape[0]))
    largest, kept = np.zeros(given.shape[0]), away
    falling = np.argsort(cv.ridges)[::-1].tolist()
    with blas_for(given.X.size * sum(given.shape)), watching(callback) as watch:
        fits = _Fits(study, orders, method, settings.watched(watch))
        for done, k in enumerate(falling):
            value = float(cv.ridges[k])
            ridge = (None, value) if cv.relative else (value, None)
            gains = fits.at(ridge, watch, done / len(falling), 1 / len(falling))
            if k == best:
                kept = gains
            size, unit = _from_mean(gains)
            spread = gains.std(axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                size = np.where(size > unit, size / spread, 0.0)
            signed = np.copysign(size[0], gains[0] - gains.mean(axis=0))
            largest = np.where(size[0] > away[0], signed, largest)
            np.maximum(away, size, out=away)
    fits.warn()
    return _found(fit, kept, away, largest)


class _Fits:
    """Fits of all conditions to the target in several orders, which share what does not depend on these."""

    def __init__(self, study: HeldOut, orders: Orders, method: str, settings: Settings) -> None:
        (N, D), self.n = study.given.shape, len(orders)
        together = max(1, TOGETHER_BYTES // (8 * (N + 4 * D * D))) if study.even else 1
        self.starts: Iterable[Start] = (
            study.whole(orders[first : first + together]) for first in range(0, self.n, together)
        )
        self.method, self.settings = method, settings
        self.last: list[Array] = []  # gains of each start at the ridge before
        self.short = 0

    def at(
        self, ridge: tuple[Any, Any], watch: Callable[[Progress], object], before: float = 0.0,
        share: float = 1.0,
    ) -> Array:  # fmt: skip
        """Gains (orders, N) at a ridge, or at a relative ridge; exact fits begin at those of the last one."""
        found: list[Array] = []
        kept = []
        for k, start in enumerate(self.starts):
            settings = self.settings
            if self.method == "exact" and self.last:
                settings = dataclasses.replace(settings, gains0=self.last[k])
            outcome = METHODS[self.method](start, start.ridge(*ridge), settings)
            found.append(start.by_channel(outcome.gains))
            kept.append(start)
            self.short += len(start.target) * (outcome.status not in FINE)
            watch(Progress("gains", before + share * min(1.0, sum(map(len, found)) / self.n)))
        self.starts, self.last = kept, found
        return np.concatenate(found)

    def warn(self) -> None:
        if self.short:
            warnings.warn(
                f"Fits of all conditions stopped short for some of {self.short} shuffles: their gains are "
                "compared as they are. Use a larger ridge, a larger tol or more max_iterations.",
                ConvergenceWarning,
                stacklevel=outside(),
            )


def _from_mean(gains: Array) -> tuple[Array, Array]:
    """How far each gain (K, N) is from the mean of its channel, and how much of that may be rounding (N,)."""
    # Rounding in channels that do not move is not a difference.
    rounding = 1e-12 * np.maximum(1.0, np.maximum(gains.max(axis=0), -gains.min(axis=0)))
    return np.abs(gains - gains.mean(axis=0)), rounding


def _found(fit: Fit, gains: Array, away: Array, largest: Array | None = None) -> ChannelTest:
    """The test of gains (K, N), those of the data first, by how far each is from what is usual."""
    p = (1 + (away[1:] >= away[0]).sum(axis=0)) / len(gains)
    first = fit.gains.copy()
    return ChannelTest(
        gains=first, mean=gains[1:].mean(axis=0), deviation=gains[1:].std(axis=0, ddof=1), p=p,
        q=_false_discovery_rates(away), names=fit.channels,
        correlation=np.array([_correlation(first, row) for row in gains[1:]]), largest=largest,
    )  # fmt: skip


def _false_discovery_rates(away: Array) -> Array:
    """q of each channel, from how far each gain is from what is usual (K, N), those of the data first.

    p of a single channel is at least 1/K: with 100 shuffles either a tenth of all channels or none would have
    q ≤ 0.1. Here the distances of a channel are measured by their root mean square, and compared with those
    of the shuffles of all channels that move.
    """
    from scipy.stats import false_discovery_control  # takes half a second, and only this needs it

    sizes = np.sqrt(np.square(away).mean(axis=0))
    moves, pooled = sizes > 0.0, np.ones(len(sizes))
    if moves.any():
        t = away[:, moves] / sizes[moves]
        null = np.sort(t[1:], axis=None)
        # Channels that are alike have equal values, up to rounding.
        below = np.searchsorted(null, t[0] * (1.0 - 1e-9))
        pooled[moves] = (1 + len(null) - below) / (1 + len(null))
    q: Array = false_discovery_control(pooled)
    return q


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = blas.norm(a) * blas.norm(b)
    return float(blas.dot(a, b) / size) if size > 0 else float("nan")
