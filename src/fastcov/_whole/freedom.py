"""Effective degrees of freedom of a fit: how many numbers the data determine, and the ridge leaves free."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.jit import blas_for
from .._model.bounds import Bounds
from .._model.problem import Problem, n_pairs
from .._model.products import apply_atoms, gram_triangle, squared_norms
from .._solvers._pairs import dual_gram, pack
from .._studies.held_out import HeldOut

Array = NDArray[np.float64]

# Above this order an eigendecomposition takes minutes.
LARGEST_ORDER = 8000


def degrees_of_freedom(fit: Any, study: HeldOut, groups: Sequence[str] | None) -> float:
    """Σ σ² / (σ² + λ) over the eigenvalues σ² of GᵀG at the fitted gains, and one for each nuisance term.

    Gains at a bound are not free; with `groups`, the label of each channel, atoms are summed over groups. A
    fit of another kind knows its own number. NaN where it would take minutes. Some 9n³ flops for
    n = min(N, D(D+1)/2), and those of the matrix.
    """
    if fit is None:
        return math.nan
    if hasattr(fit, "degrees_of_freedom"):
        return float(fit.degrees_of_freedom) + len(fit.nuisance)
    around = dataclasses.replace(study.exact, metric=study.metric)
    if fit.method == "exact":
        around = around.at(fit.gains)
    N = len(fit.gains)
    free = ~Bounds(*fit.stats["bounds"]).at(fit.gains) if "bounds" in fit.stats else np.ones(N, bool)
    values = _eigenvalues(around, fit.method == "diagonal", free, groups)
    if values is None:
        return math.nan
    values = around.unscaled(np.maximum(values, 0.0), x=2, y=2)
    ridge = float(fit.ridge)
    rounding = len(values) * np.finfo(np.float64).eps * values.max(initial=0.0)
    values = values[values > rounding]
    return float((values / (values + ridge)).sum()) + len(fit.nuisance)


def _eigenvalues(
    around: Problem, diagonal: bool, free: NDArray[np.bool_], groups: Sequence[str] | None
) -> Array | None:
    """Eigenvalues of GᵀG of the channels that are free, in the units of the problem."""
    N, D = around.shape
    if groups is not None:
        _, places = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        members = np.zeros((int(places.max()) + 1, N))
        members[places, np.arange(N)] = free
        sums = pack(apply_atoms(around, members))
        return blas.eigh(blas.product(sums, sums, tb=True))
    if diagonal:
        return np.asarray(squared_norms(around)[free])
    if min(N, n_pairs(D)) > LARGEST_ORDER:
        return None
    scales = free.astype(np.float64)
    with blas_for(float(N) * N * D):
        if n_pairs(D) < N or around.rows.on_workers:
            return blas.eigh(dual_gram(around, lambda _: None, scales))
        A = gram_triangle(around)
        A *= scales
        A *= scales[:, np.newaxis]
        return blas.eigh(A)
