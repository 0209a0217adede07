"""Scores of held-out conditions, computed from sums over pairs of conditions that add up over folds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import score_kernels

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Split = tuple[Indices, Indices]  # training and held-out conditions

# Statuses of fits that can be scored without a warning.
FINE = ("converged", "minimum-norm", "approximate")
# Predictions that need no fitted gains: name -> label in tables and figures.
BASELINES = {"one": "gains of one", "no-x": "no X", "scaled": "aC+βI+γ11ᵀ"}

# Scores and their formulas, for each block of pairs. "held-out": pairs of two held-out conditions; "cross":
# pairs of a held-out and a training condition. No fit saw either kind.
SCORES = {
    "r2": "1 − Σ(P − S)² / ΣS², held-out pairs and variances",
    "r2-diagonal": "the same of the variances alone",
    "r2-off-diagonal": "1 − Σ(P − S)² / Σ(S − g)² off the diagonal, g the mean that was trained on",
    "pearson": "correlation of P and S off the diagonal",
    "rsa": "correlation of the correlation matrices of P and S off the diagonal",
    "cosine": "⟨P, S⟩ / ‖P‖‖S‖",
    "cross-r2": "1 − Σ(P − S)² / ΣS² over pairs of a trained and a held-out condition",
    "cross-r2-off-diagonal": "1 − Σ(P − S)² / Σ(S − g)² over these pairs",
    "cross-pearson": "correlation of P and S over these pairs",
    "cross-rsa": "correlation of the correlation matrices over these pairs",
    "cross-cosine": "⟨P, S⟩ / ‖P‖‖S‖ over these pairs",
}
# The default score. Of several, it best distinguished data in which gains predict from data in which they do
# not: docs/evidence.md.
SCORE = "cross-pearson"
# Scores that need pairs among held-out conditions, and the least number of held-out conditions for them.
PAIRED, LEAST_PAIRED = ("r2-off-diagonal", "pearson", "rsa"), 3
N_SUMS = score_kernels.ON + 2 * score_kernels.OFF
# A variance below this fraction of the mean square is rounding, so no correlation is defined.
CONSTANT = 1e-14


def sums_of(
    columns: Array, diagonal: Array, S: Array, weights: Array, split: Split, g: float
) -> tuple[Array, Array]:
    """Sums (N_SUMS,) for a prediction of held-out columns (D, k), and the error of each condition (k,)."""
    train, test = split
    sums, errors = np.empty(N_SUMS), np.empty(len(test))
    score_kernels.score_sums(columns, diagonal, S, weights, test, train, g, sums, errors, size=0)
    return sums, errors


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Sums over pairs (…, F, N_SUMS) for F folds, all repeats one after another.

    The score of several folds together is computed from the total of their sums. Means are subtracted fold
    by fold, so that differences in size between folds do not count as correlation.
    """

    sums: Array
    repeats: int = 1

    def by_fold(self, score: str) -> Array:
        """Score of each fold (…, F)."""
        return scored(score, self.sums)

    def by_repeat(self, score: str) -> Array:
        """Score of all folds of each repeat together (…, R)."""
        *lead, F, Q = self.sums.shape
        return scored(score, self.sums.reshape(*lead, self.repeats, F // self.repeats, Q).sum(axis=-2))

    def pooled(self, score: str) -> Array:
        """Score of all folds together (…)."""
        return scored(score, self.sums.sum(axis=-2))

    def without(self, score: str) -> Array:
        """Score of all folds but one, for each fold left out (…, F)."""
        with np.errstate(invalid="ignore"):  # sums may not be finite
            return scored(score, self.sums.sum(axis=-2, keepdims=True) - self.sums)

    def at(self, index: Any) -> Moments:
        """Sums at an index into the leading axes."""
        return Moments(self.sums[index], self.repeats)


def scored(score: str, sums: Array) -> Array:
    """The score with this name, computed from sums (…, N_SUMS)."""
    name = score.removeprefix("cross-")
    off = score_kernels.ON + score_kernels.OFF * (name != score)

    def at(place: int) -> Array:
        return np.asarray(sums[..., off + place])

    with np.errstate(all="ignore"):
        if name == "r2":
            left, size = at(score_kernels.LEFT), at(score_kernels.SIZE)
            if name == score:
                left, size = (
                    left + sums[..., score_kernels.DIAGONAL_LEFT],
                    size + sums[..., score_kernels.DIAGONAL_SIZE],
                )
            return np.asarray(1.0 - left / size)
        if name == "r2-diagonal":
            return np.asarray(
                1.0 - sums[..., score_kernels.DIAGONAL_LEFT] / sums[..., score_kernels.DIAGONAL_SIZE]
            )
        if name == "r2-off-diagonal":
            return np.asarray(1.0 - at(score_kernels.LEFT) / at(score_kernels.ABOUT))
        if name == "cosine":
            pp, ss, ps = at(score_kernels.PP), at(score_kernels.SIZE), at(score_kernels.PS)
            if name == score:
                pp, ss = (
                    pp + sums[..., score_kernels.DIAGONAL_PP],
                    ss + sums[..., score_kernels.DIAGONAL_SIZE],
                )
                ps = ps + sums[..., score_kernels.DIAGONAL_PS]
            return np.asarray(ps / (np.sqrt(pp) * np.sqrt(ss)))
        if name == "pearson":
            floors = CONSTANT * at(score_kernels.PP), CONSTANT * at(score_kernels.SIZE)
            return _correlation(
                at(score_kernels.VAR_P), at(score_kernels.VAR_S), at(score_kernels.COV), *floors
            )
        return _correlation(
            at(score_kernels.RHO_P), at(score_kernels.RHO_S), at(score_kernels.RHO), CONSTANT, CONSTANT
        )


def _correlation(var_p: Array, var_s: Array, cov: Array, floor_p: Any, floor_s: Any) -> Array:
    """Correlation; 0 if the prediction does not vary, NaN if the target does not vary."""
    r = cov / (np.sqrt(var_p) * np.sqrt(var_s))
    return np.where(var_s > floor_s, np.where(var_p <= floor_p, 0.0, r), np.nan)
