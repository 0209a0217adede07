"""One gain for each group of channels: a baseline between gains of one and a gain for each channel.

With gains g_a of groups, z = Σ_a g_a 1_a for indicators 1_a of their channels, and

    C(z) = Σ_{a ≤ b} g_a g_b F_ab,    F_aa = C(1_a),    F_ab = C(1_a + 1_b) − C(1_a) − C(1_b).

So a few D × D matrices, made once from X, are all that a fold needs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from .._compute import blas
from .._compute.jit import blas_for
from .._compute.progress import Progress
from .._results.group_studies import GroupGains
from .._results.score import N_SUMS, Moments, Split
from .held_out import HeldOut, Order

Array = NDArray[np.float64]

# Gradient of the loss, in units of that of the target, at which a fit ends.
TOL = 1e-9


def group_gains(
    study: HeldOut, splits: Sequence[Split], orders: Sequence[Order], repeats: int, names: Sequence[str],
    places: NDArray[np.intp], watch: Callable[[Progress], object],
) -> GroupGains:  # fmt: skip
    """Fit a gain for each group on every fold, in every order of conditions, and score them.

    `places` is the group of each channel (N,). The first order is that of the data.
    """
    with blas_for(0):
        forms = _forms(study, len(names), places)
        sums = np.empty((len(orders), len(splits), N_SUMS))
        gains = np.empty((len(splits), len(names)))
        for f, split in enumerate(splits):
            model = None
            for s, order in enumerate(orders):
                if model is None or not study.even:
                    model = _Model(study, forms, split[0], order)
                fold = study.fold(split, order)
                found = model.minimum(np.nan_to_num(fold.scaled[np.ix_(split[0], split[0])]))
                sums[s, f] = fold.predicted(found[places], None, keep=False).sums
                if s == 0:
                    gains[f] = found
                watch(Progress("groups", (f * len(orders) + s + 1) / (len(splits) * len(orders))))
        every = np.arange(len(study.target))
        target = np.nan_to_num(study.unit * study.scale(every, study.target) * study.target)
        fitted = _Model(study, forms, every, orders[0]).minimum(target)
    return GroupGains(
        names=tuple(names), gains=fitted, folds=gains, moments=Moments(sums[0], repeats),
        shuffled=Moments(sums[1:], repeats) if len(orders) > 1 else None,
    )  # fmt: skip


def _forms(study: HeldOut, A: int, places: NDArray[np.intp]) -> Array:
    """F_ab for a ≤ b (A(A + 1)/2, D, D), in units of the study. A(A + 1)/2 covariances of X."""

    def covariance(*groups: int) -> Array:
        there = study.exact.at(np.isin(places, groups).astype(np.float64))
        return np.asarray(study.unit * there.unscaled(there.covariance(), y=2))

    own = [covariance(a) for a in range(A)]
    forms = []
    for a, b in itertools.combinations_with_replacement(range(A), 2):
        forms.append(own[a] if a == b else covariance(a, b) - own[a] - own[b])
    return np.array(forms)


class _Model:
    """The loss of the gains of groups on some conditions: ½qᵀMq − qᵀv with q_ab = g_a g_b, and a constant."""

    def __init__(self, study: HeldOut, forms: Array, train: Order, order: Order) -> None:
        self.metric = None if study.metric is None else study.metric.take(order[train])
        some = np.ascontiguousarray(forms[:, train[:, np.newaxis], train])
        self.images = self._image(some).reshape(len(some), -1)
        self.M = blas.product(self.images, self.images, tb=True)
        A = round((np.sqrt(8 * len(forms) + 1) - 1) / 2)
        self.first, self.second = np.triu_indices(A)
        self.A = A

    def _image(self, M: Array) -> Array:
        return M if self.metric is None else self.metric.image(M)

    def minimum(self, target: Array) -> Array:
        """The gains (A,) at the minimum that is reached from gains of one."""
        v = blas.product(self.images, self._image(target).reshape(-1, 1))[:, 0]
        size = float(blas.norm(v)) or 1.0
        found = scipy.optimize.minimize(
            self._loss, np.ones(self.A), (v, size), jac=True, method="BFGS", options={"gtol": TOL}
        )
        return np.asarray(found.x, np.float64)

    def _loss(self, g: Array, v: Array, size: float) -> tuple[float, Array]:
        q = g[self.first] * g[self.second]
        Mq = blas.product(self.M, q[:, np.newaxis])[:, 0]
        slope = (Mq - v) / size
        gradient: Array = np.bincount(self.first, slope * g[self.second], self.A).astype(np.float64)
        gradient += np.bincount(self.second, slope * g[self.first], self.A)
        return float(blas.dot(q, 0.5 * Mq - v)) / size, gradient
