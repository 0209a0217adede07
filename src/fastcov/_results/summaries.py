"""The numbers by which models are compared: scores of folds, and how folds are put together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .chosen_ridge import jackknife
from .score import Moments

Made = Callable[[Moments, str], float]


def _mean(moments: Moments, score: str) -> float:
    return float(np.mean(moments.by_fold(score)))


def _median(moments: Moments, score: str) -> float:
    return float(np.median(moments.by_fold(score)))


def _pooled(moments: Moments, score: str) -> float:
    return float(moments.pooled(score))


def error_of(without: NDArray[np.float64], times: float, score: str) -> NDArray[np.float64]:
    """Standard error, over conditions, of a score or a difference, from its leave-one-fold-out values (…, F).

    A pair of a held-out and a training condition is scored when either is held out, and the jackknife leaves
    it out only once. Other conditions would change both. To first order this doubles the error, as for any
    mean over pairs of conditions.
    """
    return np.asarray(jackknife(without, times) * (2.0 if score.startswith("cross-") else 1.0))


# How the ridge of each fold was chosen: by its own inner folds, or as the best of all folds together.
CHOICES = ("nested", "best")
# The label of a column, the score, and how folds are put together.
SUMMARIES: dict[str, tuple[str, str, Made]] = {
    "r2_mean": ("mean R²", "r2", _mean),
    "r2_median": ("median R²", "r2", _median),
    "r2_pooled": ("pooled R²", "r2", _pooled),
    "pearson_mean": ("Pearson", "pearson", _mean),
    "cross_pearson_mean": ("cross-Pearson", "cross-pearson", _mean),
}
