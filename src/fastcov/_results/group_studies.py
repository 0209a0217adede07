"""GroupGains and GroupStudies: what groups of channels, such as animals, say of a prediction."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from . import evidence
from .chosen_ridge import jackknife
from .cross_validation import CrossValidation
from .permutation_test import PermutationTest
from .score import Moments

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class GroupGains:
    """A baseline: one gain for each group of channels, fitted to the training conditions without a ridge.

    Attributes
    ----------
    names : tuple of str
        The A groups.
    gains : ndarray, shape (A,)
        Gains fitted to all conditions.
    folds : ndarray, shape (F, A)
        Gains of each fold.
    moments : Moments
        Sums from which scores are computed, (F, …).
    shuffled : Moments or None
        The same with shuffled conditions, (shuffles, F, …).
    """

    names: tuple[str, ...]
    gains: Array
    folds: Array
    moments: Moments
    shuffled: Moments | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class GroupStudies:
    """A study of each group's channels alone, and the baseline of one gain for each group.

    Attributes
    ----------
    gains : GroupGains
    studies : dict of str to CrossValidation or PermutationTest
        By group: the study of the channels of this group alone, on the same folds. Without those in
        `missing`.
    places : ndarray of int, shape (N,)
        The group of each channel, as an index into `names`.
    own : bool
        Whether each group was studied with its own cells of Y, rather than with all of them.
    agreement : ndarray, shape (A,)
        Correlation of the gains that a group has by itself with those that its channels have in the fit of
        all; NaN where they do not vary.
    missing : dict of str to str
        Why groups have no study of their own, for those that have none; scores are then NaN.
    """

    gains: GroupGains
    studies: dict[str, CrossValidation | PermutationTest]
    places: NDArray[np.intp]
    own: bool
    agreement: Array
    missing: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return self.gains.names

    @property
    def sizes(self) -> NDArray[np.intp]:
        """Number of channels of each group (A,)."""
        return np.bincount(self.places, minlength=len(self.names))

    def cv(self, name: str) -> CrossValidation:
        """The cross-validation of a group; KeyError if there is none."""
        if name not in self.studies:
            reason = f"{name!r}: {self.missing[name]}" if name in self.missing else f"{name!r}."
            raise KeyError(f"Argument 'name' must be one of {', '.join(self.studies)}, not {reason}")
        found = self.studies[name]
        return found.cv if isinstance(found, PermutationTest) else found

    def scores(self, over: str | None = None) -> Array:
        """The score of each group at its best ridge (A,); with `over`, less that of a baseline."""
        values = []
        for name in self.names:
            if name in self.missing:
                values.append(math.nan)
                continue
            cv = self.cv(name)
            best = evidence.largest(cv.scores[cv.methods[0]].pooled(cv.score))
            values.append(float(best) - (0.0 if over is None else cv.baseline(over)[0]))
        return np.array(values)

    def above(self, over: str) -> tuple[int, int, float]:
        """In how many groups gains predict better than a baseline, of how many, and p of a sign test.

        p is two-sided: the chance of so uneven a count, if each group were as likely to be above as below.
        """
        gained = self.scores(over)
        gained = gained[np.isfinite(gained) & (gained != 0.0)]
        k, n = int((gained > 0).sum()), len(gained)
        few = min(k, n - k)
        p = sum(math.comb(n, i) for i in range(few + 1)) / 2 ** max(n - 1, 0) if n else math.nan
        return k, n, min(1.0, p)


def group_baseline(found: GroupGains, score: str, times: float) -> tuple[float, float]:
    """The pooled score of one gain for each group, and its standard error."""
    return float(found.moments.pooled(score)), float(jackknife(found.moments.without(score), times))


def over_groups(cv: CrossValidation, method: str, found: GroupGains) -> tuple[float, float, float | None]:
    """How far gains by channel score above gains by group: the difference, its standard error, and p."""
    k, moments, score = cv.place(method), cv.scores[method].moments, cv.score
    if k < 0:
        return math.nan, math.nan, None
    gained = float(moments.pooled(score)[k] - found.moments.pooled(score))
    with np.errstate(invalid="ignore"):
        error = float(jackknife(moments.without(score)[k] - found.moments.without(score), cv.times))
    shuffled = cv.scores[method].shuffled
    if shuffled is None or found.shuffled is None:
        return gained, error, None
    null = evidence.largest(shuffled.pooled(score)) - found.shuffled.pooled(score)
    return gained, error, evidence.exceeded(gained, np.asarray(null))


def correlation(a: Any, b: Any) -> float:
    """The correlation of two vectors; NaN where one does not vary."""
    a, b = a - a.mean(), b - b.mean()
    size = blas.norm(a) * blas.norm(b)
    return float(blas.dot(a, b) / size) if size > 0 else math.nan
