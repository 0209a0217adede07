"""The numbers by which models are compared: scores of folds, and how folds are put together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .score import Moments

Made = Callable[[Moments, str], float]


def _mean(moments: Moments, score: str) -> float:
    return float(np.mean(moments.by_fold(score)))


def _median(moments: Moments, score: str) -> float:
    return float(np.median(moments.by_fold(score)))


def _pooled(moments: Moments, score: str) -> float:
    return float(moments.pooled(score))


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
