"""CrossValidation: scores of held-out conditions, and the ridges they choose."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.container import save
from .._inputs.validation import check_choice
from . import evidence, printed
from .chosen_ridge import ChosenRidge, chosen, jackknife
from .frames import cv_table, frame
from .html import html_table
from .page import StudyPage
from .score import SCORES, Moments, Split

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Nested:
    """Outer folds, each scored at the ridge that inner folds of its training conditions chose.

    Attributes
    ----------
    places : ndarray, shape (F,)
        Index of the ridge that each outer fold was scored at.
    moments : Moments
        The sums from which scores are computed, (F, …).
    """

    places: NDArray[np.intp]
    moments: Moments


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one method on the held-out conditions of each of F folds, at each of K ridges.

    Attributes
    ----------
    moments : Moments
        Sums from which all scores are computed, (K, F, …).
    residual : ndarray, shape (F, K)
        Certificate of each fit, as in `Fit`.
    status : ndarray of str, shape (F, K)
        Status of each fit, as in `Fit`.
    errors : ndarray, shape (F, K, D)
        Squared errors Σ (P − S)² of the prediction P of the target S, over the unseen pairs of each held-out
        condition, in units of the study; NaN for the training conditions of the fold.
    gains : ndarray, shape (F, K, N), or None
        Gains of each fold; None if they would take more than 256 MB, or if there are none.
    shuffled : Moments or None
        The same sums with the conditions of Y in random order, (shuffles, K, F, …).
    nested : Nested or None
        The scores of nested folds.
    """

    moments: Moments
    residual: Array
    status: NDArray[Any]
    errors: Array
    gains: Array | None = None
    shuffled: Moments | None = None
    nested: Nested | None = None

    def by_fold(self, score: str) -> Array:
        """A score of each fold and ridge (F, K)."""
        return self.moments.by_fold(score).T

    def by_repeat(self, score: str) -> Array:
        """A score of the folds of each repeat together (R, K)."""
        return self.moments.by_repeat(score).T

    def pooled(self, score: str) -> Array:
        """A score of all folds together (K,)."""
        return self.moments.pooled(score)

    @property
    def r2(self) -> Array:
        return self.by_fold("r2")

    @property
    def pearson(self) -> Array:
        return self.by_fold("pearson")

    @property
    def r2_shuffled(self) -> Array | None:
        """R² with the conditions of Y in random order (shuffles, F, K)."""
        return None if self.shuffled is None else np.swapaxes(self.shuffled.by_fold("r2"), 1, 2)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CrossValidation(StudyPage):
    """Scores of held-out conditions, beside baselines; prints itself as tables with a verdict.

    P is the covariance that gains predict, and S is the target. Scores compare them over pairs of conditions
    that no fit saw. A "held-out" pair has two held-out conditions; a "cross" pair has a held-out and a
    training condition. The scores are:

    ======================== =====================================================================
    r2                       1 − Σ(P − S)² / ΣS²; with few conditions, dominated by the variances
    r2-diagonal              the same over the variances S_ii alone
    r2-off-diagonal          1 − Σ(P − S)² / Σ(S − g)² over pairs; g is the mean of the training pairs
    pearson                  correlation of P and S over pairs; scale and offset do not matter
    rsa                      correlation of the two correlation matrices over pairs
    cosine                   ⟨P, S⟩ / ‖P‖‖S‖
    cross-r2, cross-r2-off-diagonal, cross-pearson, cross-rsa, cross-cosine: the same over cross pairs
    ======================== =====================================================================

    A *pooled* score is computed from sums over all folds, so that a few bad folds do not dominate it. For
    correlations, the mean of each fold is subtracted first. The baselines are `one`, gains of one; `no-x`,
    the mean variance and the mean covariance of the training block; and `scaled`, a C(1) + βI + γ11ᵀ with a,
    β and γ fitted to the training block.

    `r2`, `r2_over_one`, `pearson`, `residual`, `status`, `r2_shuffled`, `best_ridge`, `one_se_ridge`, `p`,
    `optimism` and `fit` hold the value of the method, or with several methods a dict by method.

    Attributes
    ----------
    ridges : ndarray, shape (K,)
        λ in the order given: in units of X to the fourth, or if `relative`, divided by the largest
        eigenvalue of GᵀG of the training block.
    relative : bool
    folds : tuple of (train, test)
        Conditions of each of the F folds, all repeats one after another.
    repeats : int
    score : str
        The score that chooses λ, heads the table and is tested.
    scores : dict of str to Scores
        Scores by method.
    baselines : dict of str to Moments
        Sums by baseline, (F, …), as in ``baselines["no-x"].pooled("r2")``.
    baselines_shuffled : dict of str to Moments
        The same with conditions in random order, (shuffles, F, …); empty without shuffles.
    fits : dict of str to Fit or Connectivity
        Fits of all conditions with the chosen ridge; empty without `refit`, or if no score is finite.
    stats : dict
    """

    ridges: Array
    relative: bool
    folds: tuple[Split, ...]
    repeats: int
    score: str
    scores: dict[str, Scores]
    baselines: dict[str, Moments]
    baselines_shuffled: dict[str, Moments]
    fits: dict[str, Any]
    stats: dict[str, Any]

    def _of(self, values: Mapping[str, Any]) -> Any:
        return next(iter(values.values())) if len(self.scores) == 1 else dict(values)

    def _each(self, function: Callable[[Scores], Any]) -> Any:
        return self._of({name: function(table) for name, table in self.scores.items()})

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(self.scores)

    @property
    def r2(self) -> Any:
        """1 − ‖P − S‖²_F / ‖S‖²_F over held-out conditions, shape (F, K)."""
        return self._each(lambda s: s.r2)

    @property
    def r2_over_one(self) -> Any:
        """1 − ‖P − S‖²_F / ‖C(1) − S‖²_F, shape (F, K)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._each(lambda s: 1.0 - (1.0 - s.r2) / (1.0 - self.r2_at_one[:, np.newaxis]))

    @property
    def pearson(self) -> Any:
        """Correlation over pairs of held-out conditions, shape (F, K); NaN for fewer than 3 conditions."""
        return self._each(lambda s: s.pearson)

    @property
    def r2_at_one(self) -> Array:
        """R² at gains of one (F,)."""
        return self.baselines["one"].by_fold("r2")

    @property
    def pearson_at_one(self) -> Array:
        """Correlation at gains of one (F,)."""
        return self.baselines["one"].by_fold("pearson")

    @property
    def residual(self) -> Any:
        """The certificate of each fit, shape (F, K)."""
        return self._each(lambda s: s.residual)

    @property
    def status(self) -> Any:
        """The status of each fit, shape (F, K)."""
        return self._each(lambda s: s.status)

    @property
    def r2_shuffled(self) -> Any:
        """R² with the conditions of Y in random order, shape (shuffles, F, K), or None."""
        return self._each(lambda s: s.r2_shuffled)

    @property
    def best_ridge(self) -> Any:
        """λ with the highest pooled `score`; NaN if none is finite.

        It is a `ChosenRidge`, a float that knows its method, so that ``fit(relative_ridge=cv.best_ridge)``
        repeats the chosen fit. If `relative`, pass it as ``relative_ridge``.
        """
        return self._of(self.choices("best"))

    @property
    def one_se_ridge(self) -> Any:
        """The largest λ whose score is within one standard error, of the *difference*, of the best."""
        return self._of(self.choices("one-se"))

    @property
    def fit(self) -> Any:
        """The fit of all conditions with the chosen ridge; None without refit."""
        return self._of({name: self.fits.get(name) for name in self.scores}) if self.fits else None

    @property
    def p(self) -> Any:
        """p-value of the score: (1 + #{max over λ of a shuffle ≥ max over λ observed}) / (shuffles + 1)."""
        return self._of({name: self.p_value(name) for name in self.scores})

    def p_value(self, method: str, score: str | None = None, *, over: str | None = None) -> float | None:
        """p-value of any score, or of its improvement over a baseline; None without shuffles."""
        return evidence.p_value(self, method, self._checked(score), over)

    @property
    def optimism(self) -> Any:
        """Score at the best λ less that of nested folds, which did not choose it; None if not nested."""
        return self._of({name: self._optimism(name) for name in self.scores})

    def _optimism(self, method: str) -> float | None:
        table = self.scores[method]
        if table.nested is None:
            return None
        return float(np.nanmax(table.pooled(self.score)) - table.nested.moments.pooled(self.score))

    @property
    def verdict(self) -> Any:
        """A `Verdict`: whether held-out covariances are predicted better than without X."""
        return self._of(self.verdicts())

    def verdicts(self) -> dict[str, evidence.Verdict]:
        """The verdict of each method."""
        return {name: evidence.verdict(self, name) for name in self.scores}

    def choices(self, choice: str) -> dict[str, ChosenRidge]:
        """λ of each method by `choice`, "best" or "one-se"."""
        return {
            name: ChosenRidge(self.ridges[k] if (k := self.place(name, choice)) >= 0 else np.nan, name,
                              relative=self.relative)
            for name in self.scores
        }  # fmt: skip

    def place(self, method: str, choice: str = "best") -> int:
        """Index of the ridge chosen for a method; −1 if none has a finite score."""
        return chosen(self.scores[method].moments, self.score, self.ridges, choice, self.times)

    @property
    def times(self) -> float:
        """How often the folds hold out each condition."""
        return max(1.0, sum(len(test) for _, test in self.folds) / self.stats["shape"][1])

    def summary(self, method: str, score: str | None = None) -> tuple[Array, Array]:
        """A pooled score, by default `score`, at each ridge (K,), and its standard error."""
        moments, name = self.scores[method].moments, self._checked(score)
        return moments.pooled(name), jackknife(moments.without(name), self.times)

    def baseline(self, name: str, score: str | None = None) -> tuple[float, float]:
        """The pooled score of a baseline, and its standard error."""
        moments, score = (
            self.baselines[check_choice("name", name, tuple(self.baselines))],
            self._checked(score),
        )
        return float(moments.pooled(score)), float(jackknife(moments.without(score), self.times))

    def _checked(self, score: str | None) -> str:
        return self.score if score is None else check_choice("score", score, tuple(SCORES))

    def agreement(self, method: str) -> Array | None:
        """Correlation of gains between folds at each ridge (K,): the mean over pairs of folds of a repeat.

        None if gains were not kept, or a repeat has a single fold.
        """
        return evidence.agreement(self, method)

    def condition_shares(self, method: str) -> Array:
        """Each condition's share of the squared error of predictions, at the best ridge (D,).

        NaN for a condition that is never held out, or if no score is finite.
        """
        if (k := self.place(method)) < 0:
            return np.full(self.stats["shape"][1], np.nan)
        errors = self.scores[method].errors[:, k]
        sums = np.nansum(errors, axis=0)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(np.isnan(errors).all(axis=0), np.nan, sums / sums.sum()))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the study with its fits to a .npz, .h5 or .hdf5 file, which `fastcov.load` reads.

        It works as `Fit.save` does. Entries have the names of attributes, such as ``"ridges"`` and
        ``"scores.exact.r2"``.

        Raises
        ------
        ValueError, OSError
            If such a file cannot be written there.
        TypeError
            If a value added to `stats` consists of anything but numbers, strings, lists and dicts.
        ImportError
            If h5py is needed and missing.
        """
        found: dict[str, Any] = {"methods": np.array(self.methods, dtype=str)}
        for method, scores in self.scores.items():  # the file itself holds the sums behind scores
            found |= {f"scores.{method}.{name}": getattr(scores, name) for name in ("r2", "pearson")}
        save(self, path, found)

    def to_frame(self) -> Any:
        """A pandas DataFrame of all scores, with a row for each method or baseline, fold and ridge.

        If `relative`, the column of ridges is ``relative_ridge``, else ``ridge``. Raises ImportError without
        pandas.
        """
        return frame(cv_table(self))

    def __repr__(self) -> str:
        return printed.text(self)

    def _repr_html_(self) -> str:
        return "".join(
            html_table(title, rows, head=head, notes=notes)
            for title, head, rows, notes in printed.tables(self)
        )
