"""Paired differences between populations that were studied on the same folds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.labels import Labelled, Labels
from .._results import evidence
from .._results.chosen_ridge import jackknife
from .._results.cross_validation import CrossValidation
from .._results.study import Difference, PopulationStudy
from .._rows.responses import check_responses
from .._rows.rows import rows_of

Array = NDArray[np.float64]


def difference(
    first: PopulationStudy, second: PopulationStudy, level: float, null: Array | None
) -> Difference:
    """The score of the first less that of the second, each at its best ridge, with its standard error.

    `null` has differences with cells that were dealt anew.
    """
    import scipy.stats

    one, other = ((each.cv, each.cv.place(each.method)) for each in (first, second))
    values, without = [], []
    for cv, k in (one, other):
        moments = cv.scores[cv.methods[0]].moments
        values.append(float(moments.pooled(cv.score)[k]) if k >= 0 else float("nan"))
        without.append(moments.without(cv.score)[k])
    value = values[0] - values[1]
    cv = first.cv
    error = float(jackknife(without[0] - without[1], cv.times)) if np.isfinite(value) else float("nan")
    freedom = max(1, len(cv.folds) // cv.repeats - 1)
    half = error * float(scipy.stats.t.ppf(0.5 + level / 2, freedom))
    p = None
    if null is not None:
        p = evidence.exceeded(abs(value), np.abs(null))
    return Difference(first.name, second.name, value, error, value - half, value + half, level, p, null)


def dealt(
    Y: Mapping[str, Any], n: int, random: np.random.Generator, studied: Callable[[Any], CrossValidation],
    watch: Callable[[float], object],
) -> dict[tuple[str, str], Array]:  # fmt: skip
    """Differences of each pair of populations whose cells are dealt anew to the two, n times.

    The scores of two random parts of all cells of the pair differ by chance alone. So p is valid for the
    hypothesis that the cells of both come from one population. Shuffled conditions would not do: they test
    whether either is predicted, and not whether both are predicted alike.
    """
    found = {}
    pairs = list(itertools.combinations(Y, 2))
    for done, (first, second) in enumerate(pairs):
        parts = [
            np.asarray(rows_of(check_responses(f"Y[{name!r}]", Y[name]))[:], np.float64)
            for name in (first, second)
        ]
        cells, M = np.concatenate(parts), len(parts[0])
        conditions = Labels.of("Y", Y[first]).columns
        null = np.empty(n)
        for k in range(n):
            order = random.permutation(len(cells))
            scores = []
            for part in (order[:M], order[M:]):
                cv = studied(Labelled(cells[part], None, conditions))
                scores.append(float(evidence.largest(cv.scores[cv.methods[0]].pooled(cv.score))))
            null[k] = scores[0] - scores[1]
            watch((done * n + k + 1) / (len(pairs) * n))
        found[first, second] = null
    return found
