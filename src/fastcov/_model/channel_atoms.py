"""Similarities of single channels: products x_i x_iᵀ, and squared differences (x_ia − x_ib)².

A problem without centring has atoms 2 x_i x_iᵀ. So weighted sums Σ_i w_i x_i x_iᵀ are G (w / 2), once the
mean over channels is subtracted from X itself. Squared differences are the same sums under `Distances`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.labels import Labels, without_names
from .._inputs.validation import require_memory
from .._rows.dask_arrays import dask_array
from .distances import Distances
from .metric import Metric
from .problem import Problem
from .products import weighted_atoms

Array = NDArray[np.float64]

PRODUCT, SQUARED_EUCLIDEAN = "product", "squared-euclidean"
ATOMS = (PRODUCT, SQUARED_EUCLIDEAN)


@dataclasses.dataclass(frozen=True)
class Centring:
    """Subtracts the mean over channels (D,), and for differences each channel's mean over conditions.

    Channels of which no more than `floor` is left are zero: the rest is rounding.
    """

    mean: Array
    of_rows: bool
    floor: float

    def __call__(self, rows: Any) -> Array:
        out = np.array(rows, np.float64)
        out -= self.mean
        if self.of_rows:
            out -= out.mean(axis=1, keepdims=True)
        if len(out):
            out[np.abs(out).max(axis=1) <= self.floor] = 0.0
        return out


class CentredRows:
    """An array outside memory whose rows are centred as they are read."""

    def __init__(self, X: Any, centring: Centring) -> None:
        self._X, self._centring = X, centring
        self.shape, self.dtype = tuple(X.shape), np.dtype(np.float64)

    def __getitem__(self, rows: slice) -> Array:
        return self._centring(self._X[rows])


def atoms_problem(X: Any, atoms: str, center: bool, name: str = "X") -> Problem:
    """The problem whose atoms are those of the channels of X.

    X is copied, in float64, if it is in memory and has to be centred. Products take the precision of X.
    """
    draft = Problem.of(X, center=center, name=name)
    differences = atoms == SQUARED_EUCLIDEAN
    if not (center or differences):
        return draft
    floor = draft.unscaled(draft.rounding_floor * draft.sizes.max(), x=1) if center else 0.0
    centring = Centring(draft.unscaled(draft.mean, x=1), differences, float(floor))
    rows = draft.rows
    values: Any
    if rows.in_memory:
        require_memory(8 * rows.size, "A centred copy of X", "pass it as a file, as a numpy.memmap")
        values = centring(rows[:])
    elif rows.on_workers:
        lazy = dask_array(name, without_names(X)).rechunk({1: -1})
        values = lazy.map_blocks(centring, dtype=np.float64)
    else:
        values = CentredRows(rows, centring)
    found = Problem.of(values, center=False)
    return dataclasses.replace(found, labels=draft.labels).astype(draft.dtype)


def of_conditions(problem: Problem, conditions: NDArray[np.intp], atoms: str) -> Problem:
    """The problem of some of the conditions, without a metric."""
    values = problem.rows.columns(conditions)
    if atoms == SQUARED_EUCLIDEAN:
        centring = Centring(np.zeros(len(conditions)), True, 0.0)
        values = centring(values) if problem.rows.in_memory else CentredRows(values, centring)
    found = Problem.of(values, center=False)
    return found.astype(problem.dtype)


def with_pairs(problem: Problem, atoms: str, offset: bool, pairs: Any, labels: Labels) -> Problem:
    """The same problem with weights of pairs, and with an offset of all pairs if there is one."""
    kind = Distances if atoms == SQUARED_EUCLIDEAN else Metric
    metric = kind.of("constant" if offset else None, pairs, problem.shape[1], labels)
    return dataclasses.replace(problem, metric=metric)


def weighted_similarities(problem: Problem, weights: Array, atoms: str) -> Array:
    """Σ_i w_i x_i x_iᵀ, or Σ_i w_i (x_ia − x_ib)², for rows w of weights (T, N): (T, D, D), in scaled units.

    2ND² flops for each, one pass over X.
    """
    found = weighted_atoms(problem.plain.astype(np.float64), 0.5 * weights)[0]
    return Distances.between(found) if atoms == SQUARED_EUCLIDEAN else found
