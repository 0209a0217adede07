"""Baseline predictions, which need no fitted gains and which gains have to beat."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from .._compute.jit import blas_for
from .._results.score import Split

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Block:
    """The mean variance and the mean covariance of a target over the training conditions."""

    variance: float
    covariance: float  # g

    @classmethod
    def of(cls, S: Array, weights: Array) -> Block:
        """The means over the pairs that count."""
        off = weights.copy()
        np.fill_diagonal(off, 0.0)
        return cls(_mean(np.diagonal(S), np.diagonal(weights)), _mean(S, off))


def _mean(values: Array, weights: Array) -> float:
    total = float(weights.sum())
    return float((values * weights).sum()) / total if total > 0 else 0.0


def baselines(
    at_one: Array, S: Array, weights: Array, split: Split, block: Block
) -> dict[str, tuple[Array, Array]]:
    """The held-out columns (D, k) that each baseline predicts, and its diagonal (D,).

    `one` is C(1). `no-x` has on the diagonal the mean variance of S over the training conditions, and off the
    diagonal its mean covariance. `scaled` is a C(1) + βI + γ11ᵀ, fitted by least squares to the training
    block.
    """
    train, test = split
    C, own, known = (M[np.ix_(train, train)] for M in (at_one, S, weights))
    columns, diagonal = np.ascontiguousarray(at_one[:, test]), np.diagonal(at_one).copy()
    root = np.sqrt(known).ravel()
    terms = (C, np.eye(len(train)), np.ones_like(C))
    sizes = [np.abs(C).max() or 1.0, 1.0, 1.0]
    A = np.stack([root * (M / size).ravel() for M, size in zip(terms, sizes, strict=True)], axis=1)
    with blas_for(0.0):
        (a, beta, gamma), *_ = scipy.linalg.lstsq(
            A, root * own.ravel(), cond=len(A) * np.finfo(np.float64).eps, check_finite=False
        )
    a /= sizes[0]
    return {
        "one": (columns, diagonal),
        "no-x": _constant(block.variance - block.covariance, block.covariance, len(S), test),
        "scaled": added(a * columns, a * diagonal, float(beta), float(gamma), test),
    }


def _constant(beta: float, gamma: float, D: int, test: NDArray[np.intp]) -> tuple[Array, Array]:
    return added(np.zeros((D, len(test))), np.zeros(D), beta, gamma, test)


def added(
    columns: Array, diagonal: Array, beta: float, gamma: float, test: NDArray[np.intp]
) -> tuple[Array, Array]:
    """Held-out columns and the diagonal of a prediction, with βI + γ11ᵀ added."""
    columns, diagonal = columns + gamma, diagonal + (beta + gamma)
    columns[test, np.arange(len(test))] += beta
    return columns, diagonal
