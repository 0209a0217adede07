"""Which ridge a score chooses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .score import Moments

Array = NDArray[np.float64]


class ChosenRidge(float):
    """A ridge λ that was chosen for a method: a float that knows which, and in what units.

    Parameters
    ----------
    value : float
    method : str
        The method whose held-out score chose it; `fit` takes it where it is not told another.
    relative : bool
        Whether it is over the largest eigenvalue of GᵀG: then it is a ``relative_ridge``.
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
    """The standard error of a pooled score, from that of all folds but one (…, F); NaN for one fold.

    Of a mean it is the standard deviation over √F. Folds hold out each condition `times` times, and those
    beyond the first do not make a score surer.
    """
    F = without.shape[-1]
    if F < 2:
        return np.full(without.shape[:-1], np.nan)
    with np.errstate(invalid="ignore"):
        spread = np.square(without - without.mean(axis=-1, keepdims=True)).sum(axis=-1)
        return np.asarray(np.sqrt((F - 1) / F * spread * times))


def chosen(moments: Moments, score: str, ridges: Array, choice: str, times: float) -> int:
    """The place of the "best" ridge, or of the largest within one standard error: −1 if no score is finite.

    "one-se" goes by the standard error of the paired *difference* to the best: what all ridges share from
    fold to fold says nothing of which is better.
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
