"""The choice of a ridge by its held-out score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .score import Moments

Array = NDArray[np.float64]


class ChosenRidge(float):
    """A chosen ridge λ: a float that knows the method it was chosen for, and its units.

    Parameters
    ----------
    value : float
        λ.
    method : str
        The method whose held-out score chose λ; `fit` uses it if no other method is given.
    relative : bool
        Whether λ is divided by the largest eigenvalue of GᵀG, and is thus a ``relative_ridge``.
    """

    method: str
    relative: bool

    def __new__(cls, value: float, method: str, *, relative: bool) -> ChosenRidge:
        ridge = super().__new__(cls, value)
        ridge.method, ridge.relative = method, relative
        return ridge

    def __getnewargs_ex__(self) -> tuple[tuple[float, str], dict[str, bool]]:
        return (float(self), self.method), {"relative": self.relative}


def jackknife(without: Array, times: float) -> Array:
    """Jackknife standard error of a pooled score, from its leave-one-fold-out values (…, F); NaN if F is 1.

    For a mean it equals the standard deviation over √F. Folds hold out each condition `times` times;
    repetitions beyond the first do not reduce the standard error.
    """
    F = without.shape[-1]
    if F < 2:
        return np.full(without.shape[:-1], np.nan)
    with np.errstate(invalid="ignore"):
        spread = np.square(without - without.mean(axis=-1, keepdims=True)).sum(axis=-1)
        return np.asarray(np.sqrt((F - 1) / F * spread * times))


def chosen(moments: Moments, score: str, ridges: Array, choice: str, times: float) -> int:
    """Index of the "best" ridge, or of the largest within one standard error; −1 if no score is finite.

    "one-se" uses the standard error of the paired *difference* to the best score, because variation from
    fold to fold that all ridges share does not tell which is better.
    """
    values = moments.pooled(score)
    finite = np.isfinite(values)
    if not finite.any():
        return -1
    best = int(np.argmax(np.where(finite, values, -np.inf)))
    if choice == "best":
        return best
    without = moments.without(score)
    with np.errstate(invalid="ignore"):
        error = np.nan_to_num(jackknife(without[best] - without, times))
        near = finite & (values[best] - values <= error)
    near[best] = True
    return int(np.argmax(np.where(near, ridges, -np.inf)))
