"""One gain for each group of channels: a baseline between gains of one and a gain for each channel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .._compute.jit import blas_for
from .._compute.progress import Progress
from .._fitting.methods import exact
from .._fitting.settings import Settings
from .._model.groups import Groups
from .._results.group_studies import GroupGains
from .._results.score import N_SUMS, Moments, Split
from .held_out import HeldOut, Order

# Norm of the gradient, relative to that at gains of one, at which a fit ends.
TOL = 1e-9
# Targets that are fitted in one call, between which progress is told.
TOGETHER = 8


def group_gains(
    study: HeldOut, splits: Sequence[Split], orders: Sequence[Order], repeats: int, names: Sequence[str],
    places: NDArray[np.intp], watch: Callable[[Progress], object],
) -> GroupGains:  # fmt: skip
    """Fit a gain for each group on every fold, in every order of conditions, and score them.

    They are exact fits without a ridge. `places` is the group of each channel (N,). The first order is that
    of the data.
    """
    groups = Groups(tuple(names), places)
    study = dataclasses.replace(study, groups=groups, ridges=[0.0], relative=False, starts={}, largest={})
    settings = Settings.of("exact", study.given, tol=TOL, groups=groups)
    sums = np.empty((len(orders), len(splits), N_SUMS))
    gains = np.empty((len(splits), len(names)))
    step = TOGETHER if study.even else 1
    with blas_for(0):
        for f, split in enumerate(splits):
            for first in range(0, len(orders), step):
                some = orders[first : first + step]
                found = study.paths(split, some, "exact", settings, [0], keep=first == 0)
                for s, each in enumerate(found):
                    sums[first + s, f] = each[0].sums
                if found[0][0].gains is not None:
                    gains[f] = found[0][0].gains[groups.first]
                done = f * len(orders) + first + len(some)
                watch(Progress("groups", done / (len(splits) * len(orders))))
        start = study.whole(orders[:1])
        fitted = exact(start, start.ridge(0.0, None), settings).gains[0]
    return GroupGains(
        names=tuple(names), gains=fitted, folds=gains, moments=Moments(sums[0], repeats),
        shuffled=Moments(sums[1:], repeats) if len(orders) > 1 else None,
    )  # fmt: skip
