"""Correlations of two matrices over pairs of conditions, by value and by rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .score import CONSTANT

Array = NDArray[np.float64]

# A correlation of fewer pairs says nothing.
LEAST_PAIRS = 3


def ranks(values: Array) -> Array:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - 0.5 * (counts - 1))[inverse.reshape(-1)])


def pearson(a: Array, b: Array) -> float:
    """Correlation of two vectors; 0 if the first does not vary, NaN if the second does not.

    NaN for fewer than LEAST_PAIRS, too.
    """
    left, right = _centred(a), _centred(b)
    if left is None or right is None or not right.any():
        return float("nan")
    if not left.any():
        return 0.0
    r = (left * right).sum() / np.sqrt(np.square(left).sum() * np.square(right).sum())
    return float(np.clip(r, -1.0, 1.0))


def spearman(a: Array, b: Array) -> float:
    """Correlation of the ranks of two vectors, as `pearson` otherwise."""
    left, right = _centred(a), _centred(b)
    if left is None or right is None or not (left.any() and right.any()):
        return pearson(a, b)
    return pearson(ranks(a), ranks(b))


def _centred(values: Array) -> Array | None:
    """Values less their mean, of size one or less, or zero if they differ by rounding only.

    None if they are too few, or not finite.
    """
    if len(values) < LEAST_PAIRS or not np.isfinite(values).all():
        return None
    values = values / max(float(np.abs(values).max()), np.finfo(np.float64).tiny)
    left = values - values.mean()
    return left * bool(np.square(left).sum() > CONSTANT * np.square(values).sum())


CORRELATIONS = {"pearson": pearson, "spearman": spearman}


def explained(prediction: Array, target: Array, weights: Array) -> float:
    """1 − Σ w (P − S)² / Σ w (S − S̄)² with the weighted mean S̄; NaN if the target does not vary."""
    total = weights.sum()
    about = target - (weights * target).sum() / total
    size = float((weights * about * about).sum())
    if size <= CONSTANT * float((weights * target * target).sum()):
        return float("nan")
    return 1.0 - float((weights * np.square(prediction - target)).sum()) / size
