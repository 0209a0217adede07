"""Exact fits of a path that take the minima of their neighbours where these are lower."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from . import _blas
from ._methods import exact
from ._settings import Outcome, Settings
from ._start import Ridge, Start

Array = NDArray[np.float64]

# A loss is lower by more than this share of it, or as good.
BETTER = 1e-9


def lowest_of_neighbours(
    start: Start, grid: Sequence[Ridge], settings: Settings, rounds: Iterable[tuple[list[int], list[Outcome]]]
) -> Iterator[tuple[list[int], list[Outcome]]]:
    """The outcomes of a path from the largest ridge on, none of them above what a neighbour leads to.

    Minima of neighbours are in other valleys where gains have other signs. Each is tried on the next larger
    ridge; and what has become lower, on both sides.
    """
    found = {place: outcome for places, some in rounds for place, outcome in zip(places, some, strict=True)}
    order = list(found)  # from the largest ridge on
    pairs = [(order[k + 1], order[k]) for k in reversed(range(len(order) - 1))]
    while pairs:
        giver, taker = pairs.pop(0)
        outcome = _lower(start, grid[taker], settings, found[taker], found[giver])
        if outcome is not None:
            found[taker] = outcome
            k = order.index(taker)
            for other in order[max(k - 1, 0) : k + 2]:
                if other not in (giver, taker) and (taker, other) not in pairs:
                    pairs.append((taker, other))
    for place in order:
        yield [place], [found[place]]


def _lower(start: Start, ridge: Ridge, settings: Settings, mine: Outcome, other: Outcome) -> Outcome | None:
    """What the other's gains lead to, for each target that it leads lower; None where it does for none."""
    apart = (np.sign(mine.gains) != np.sign(other.gains)).any(axis=1)
    if not apart.any():
        return None
    here = _losses(start, ridge, mine)

    def led(from_gains: Array) -> tuple[Outcome, NDArray[np.bool_]]:
        outcome = exact(start, ridge, dataclasses.replace(settings, gains0=from_gains, n_starts=1))
        return outcome, _losses(start, ridge, outcome) < (1.0 - BETTER) * here

    outcome, lower = led(np.where(apart[:, np.newaxis], other.gains, mine.gains))
    if not lower.any():
        return None
    if not lower[apart].all():
        outcome, _ = led(np.where(lower[:, np.newaxis], outcome.gains, mine.gains))
    return outcome


def _losses(start: Start, ridge: Ridge, outcome: Outcome) -> Array:
    """Of each target, in scaled units."""
    if outcome.covariance is None:  # there is nothing to fit
        return np.zeros(len(outcome.gains))
    error, metric = outcome.covariance - start.target, start.problem.metric
    squares = _blas.squares(error if metric is None else np.ascontiguousarray(metric.image(error)))
    return 0.5 * (squares + ridge.penalty.quadratic(outcome.delta))
