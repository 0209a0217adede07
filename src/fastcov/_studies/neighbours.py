"""Exact fits of a path: each is tried from the minima of its neighbours, and takes those that are lower."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._fitting.methods import exact
from .._fitting.settings import Outcome, Settings
from .._fitting.start import Ridge, Start

Array = NDArray[np.float64]

# A loss counts as lower only if it is lower by more than this fraction.
BETTER = 1e-9
# Stats that add up over all fits that were tried.
COUNTS = ("iterations", "products")


def refined_from_neighbours(
    start: Start, grid: Sequence[Ridge], settings: Settings, rounds: Iterable[tuple[list[int], list[Outcome]]]
) -> Iterator[tuple[list[int], list[Outcome]]]:
    """Yield the outcomes of a path from the largest ridge on, none above what its neighbours lead to.

    If gains of a fit escaped to minima of the other sign, the fit left the valley of the one before. Its
    minimum is then tried as a start for the next larger ridge. Every minimum that has become lower is tried
    for the ridges on both sides. Gains of a neighbour are also tried if their loss, without further fitting,
    is lower here.
    """
    found = {place: outcome for places, some in rounds for place, outcome in zip(places, some, strict=True)}
    order = list(found)  # from the largest ridge on
    pairs = [(order[k + 1], order[k]) for k in reversed(range(len(order) - 1))]
    left = {place for place in order if found[place].stats.get("escapes")}
    while pairs:
        giver, taker = pairs.pop(0)
        found[taker], lower = _lower(start, grid[taker], settings, found[taker], found[giver], giver in left)
        if lower:
            left.add(taker)
            k = order.index(taker)
            for other in order[max(k - 1, 0) : k + 2]:
                if other not in (giver, taker) and (taker, other) not in pairs:
                    pairs.append((taker, other))
    for place in order:
        yield [place], [found[place]]


def _lower(
    start: Start, ridge: Ridge, settings: Settings, mine: Outcome, other: Outcome, left: bool
) -> tuple[Outcome, bool]:
    """The outcome after a start from the other's gains, and whether the loss of any target became lower.

    The other targets start from their own gains again.
    """
    apart = (np.sign(mine.gains) != np.sign(other.gains)).any(axis=1)
    here = _losses(start, ridge, mine)
    if not left:
        apart &= _losses(start, ridge, other) < (1.0 - BETTER) * here
    if not apart.any():
        return mine, False

    def led(from_gains: Array) -> tuple[Outcome, NDArray[np.bool_]]:
        outcome = exact(start, ridge, dataclasses.replace(settings, gains0=from_gains, n_starts=1))
        return outcome, _losses(start, ridge, outcome) < (1.0 - BETTER) * here

    outcome, lower = led(np.where(apart[:, np.newaxis], other.gains, mine.gains))
    tried = [outcome]
    if lower.any() and not lower[apart].all():
        tried.append(led(np.where(lower[:, np.newaxis], outcome.gains, mine.gains))[0])
    taken = tried[-1] if lower.any() else mine
    # Fits that were tried in vain count as part of the work.
    counts = {name: sum(each.stats[name] for each in (mine, *tried)) for name in COUNTS}
    return dataclasses.replace(taken, stats=taken.stats | counts), bool(lower.any())


def _losses(start: Start, ridge: Ridge, outcome: Outcome) -> Array:
    """The loss of each target, in scaled units."""
    if outcome.covariance is None:  # there is nothing to fit
        return np.zeros(len(outcome.gains))
    error, metric = outcome.covariance - start.target, start.problem.metric
    squares = blas.squares(error if metric is None else np.ascontiguousarray(metric.image(error)))
    return 0.5 * (squares + ridge.penalty.quadratic(outcome.delta))
