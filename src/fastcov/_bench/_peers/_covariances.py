"""Peers of covariances and Gram matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._given import Array, Given, blas_threads, library, within


def _numpy_cov(given: Given) -> Callable[[], Array]:
    X, N = given.X, len(given.X)
    # In the precision of X: NumPy has float64 unless it is told.
    return within(
        lambda: blas_threads(given.work), lambda: N * np.cov(X, rowvar=False, bias=True, dtype=X.dtype)
    )


def _scikit_learn(given: Given) -> Callable[[], Array]:
    empirical = library("sklearn", "covariance").covariance.empirical_covariance
    X, N = given.X, len(given.X)
    return within(lambda: blas_threads(given.work), lambda: N * empirical(X))


COVARIANCES: dict[str, Callable[[Given], Callable[[], Any]]] = {
    "NumPy cov": _numpy_cov,
    "scikit-learn": _scikit_learn,
}
GRAMS: dict[str, Callable[[Given], Callable[[], Any]]] = {}
