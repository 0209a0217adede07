"""Effective degrees of freedom of a fit: how many numbers the data determine, and the ridge leaves free."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.jit import blas_for
from .._connectivity.solve import MIXED
from .._model.bounds import Bounds
from .._model.packed import pack
from .._model.problem import Problem, n_pairs
from .._model.products import apply_atoms, gram_triangle, squared_norms
from .._solvers._pairs import dual_gram
from .._studies.held_out import HeldOut

Array = NDArray[np.float64]

# Above this order an eigendecomposition takes minutes.
LARGEST_ORDER = 8000


def degrees_of_freedom(fit: Any, study: HeldOut) -> float:
    """Σ σ² / (σ² + λ) over the eigenvalues σ² of GᵀG at the fitted gains, and one for each nuisance term.

    Gains at a bound are not free; where groups share a gain, their atoms are summed. A connectivity knows its
    own number. NaN where it would take minutes. Some 9n³ flops for n = min(N, D(D+1)/2), and those of the
    matrix.
    """
    if fit is None or fit.method == MIXED:  # of gains and a connectivity together it is not known
        return math.nan
    if hasattr(fit, "degrees_of_freedom"):
        return float(fit.degrees_of_freedom) + len(fit.nuisance)
    around = dataclasses.replace(study.exact, metric=study.metric)
    if fit.method == "exact":
        around = around.at(fit.gains)
    own = fit.gains if fit.group_places is None else fit.group_gains
    free = ~Bounds(*fit.stats["bounds"]).at(own) if "bounds" in fit.stats else np.ones(len(own), bool)
    values = _eigenvalues(around, fit.method == "diagonal", free, fit.group_places)
    if values is None:
        return math.nan
    values = around.unscaled(np.maximum(values, 0.0), x=2, y=2)
    rounding = len(values) * np.finfo(np.float64).eps * values.max(initial=0.0)
    values = values[values > rounding]
    return float((values / (values + float(fit.ridge))).sum()) + len(fit.nuisance)


def _eigenvalues(
    around: Problem, diagonal: bool, free: NDArray[np.bool_], places: NDArray[np.intp] | None
) -> Array | None:
    """Eigenvalues of GᵀG of the gains that are free, in the units of the problem.

    `places` is the group of each channel, if groups share a gain.
    """
    N, D = around.shape
    if places is not None:
        members = np.zeros((len(free), N))
        members[places, np.arange(N)] = free[places]
        sums = pack(apply_atoms(around, members))
        A = blas.product(sums, sums, tb=True)
        return np.diagonal(A).copy() if diagonal else blas.eigh(A)
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
