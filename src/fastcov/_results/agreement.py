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
    if len(a) < LEAST_PAIRS or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    scales = [max(float(np.abs(each).max()), np.finfo(np.float64).tiny) for each in (a, b)]
    a, b = a / scales[0], b / scales[1]
    left, right = a - a.mean(), b - b.mean()
    aa, bb = float(np.square(left).sum()), float(np.square(right).sum())
    if bb <= CONSTANT * float(np.square(b).sum()):
        return float("nan")
    if aa <= CONSTANT * float(np.square(a).sum()):
        return 0.0
    return float(np.clip((left * right).sum() / np.sqrt(aa * bb), -1.0, 1.0))


def spearman(a: Array, b: Array) -> float:
    """Correlation of the ranks of two vectors, as `pearson` otherwise."""
    if np.ptp(a) if len(a) else 0.0:
        scale = float(np.abs(a).max())
        if float(np.square(a / scale - (a / scale).mean()).sum()) <= CONSTANT * len(a):
            return pearson(a, b)  # what differs is rounding
    return pearson(ranks(a), ranks(b))


CORRELATIONS = {"pearson": pearson, "spearman": spearman}


def explained(prediction: Array, target: Array, weights: Array) -> float:
    """1 − Σ w (P − S)² / Σ w (S − S̄)² with the weighted mean S̄; NaN if the target does not vary."""
    total = weights.sum()
    about = target - (weights * target).sum() / total
    size = float((weights * about * about).sum())
    if size <= CONSTANT * float((weights * target * target).sum()):
        return float("nan")
    return 1.0 - float((weights * np.square(prediction - target)).sum()) / size
