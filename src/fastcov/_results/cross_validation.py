"""CrossValidation: scores on held-out conditions, and the ridges they choose."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.container import save
from .._inputs.validation import check_choice
from . import evidence, printed
from .chosen_ridge import ChosenRidge, chosen, jackknife
from .fit import Fit
from .frames import cv_table, frame
from .html import html_table
from .score import SCORES, Moments, Split

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Nested:
    """Outer folds scored at the ridge that inner folds of their training conditions chose.

    Attributes
    ----------
    places : ndarray, shape (F,)
        Which of the ridges each outer fold was given.
    moments : Moments
        What scores are made of, (F, …).
    """

    places: NDArray[np.intp]
    moments: Moments


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Of one method on every fold (F) at every ridge (K), on the conditions held out.

    Attributes
    ----------
    moments : Moments
        Sums that all scores are made of, (K, F, …).
    residual : ndarray, shape (F, K)
    status : ndarray of str, shape (F, K)
        Certificate of each fit, as in `Fit`.
    errors : ndarray, shape (F, K, D)
        Squared errors Σ (P − S)² over the unseen pairs of each held-out condition, in units of the
        study; NaN for conditions that the fold was trained on.
    gains : ndarray, shape (F, K, N), or None
        Gains of each fold; None where they would take more than 256 MB.
    shuffled : Moments or None
        With the conditions of Y in random order, (shuffles, K, F, …).
    nested : Nested or None
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
class CrossValidation:
    """Scores on held-out conditions, beside baselines; prints itself as tables with a verdict.

    With P the covariance that gains predict and S the target, every score is of pairs of conditions that no
    fit saw: "held-out" pairs, of two held-out conditions, and "cross" pairs, of a held-out and a trained one:

    ======================== =====================================================================
    r2                       1 − Σ(P − S)² / ΣS²; of few conditions mostly a matter of the variances
    r2-diagonal              the same of the variances S_ii alone
    r2-off-diagonal          1 − Σ(P − S)² / Σ(S − g)² over pairs, g the mean that was trained on
    pearson                  correlation of P and S over pairs; scale and offset do not matter
    rsa                      correlation of the two correlation matrices over pairs
    cosine                   ⟨P, S⟩ / ‖P‖‖S‖
    cross-r2, cross-r2-off-diagonal, cross-pearson, cross-rsa, cross-cosine: the same over cross pairs
    ======================== =====================================================================

    A *pooled* score is that of the sums of all folds together, so that a few bad folds do not rule it.
    Correlations have the mean of each fold taken away. Baselines: `one`, gains of one; `no-x`, two numbers of
    the training block, its mean variance and its mean covariance; `scaled`, a C(1) + βI + γ11ᵀ with a, β and
    γ from the training block.

    `r2`, `r2_over_one`, `pearson`, `residual`, `status`, `r2_shuffled`, `best_ridge`, `one_se_ridge`, `p`,
    `optimism` and `fit` are those of the one method, or with several a dict of them by method.

    Attributes
    ----------
    ridges : ndarray, shape (K,)
        λ in the order given: in units of X to the fourth, or where `relative`, over the largest eigenvalue
        of GᵀG of the training block.
    relative : bool
    folds : tuple of (train, test)
        Conditions of each of the F folds, all repeats one after another.
    repeats : int
    score : str
        The score that chooses, heads the table and is tested.
    scores : dict of str to Scores
        By method.
    baselines : dict of str to Moments
        By name, (F, …): ``baselines["no-x"].pooled("r2")``.
    baselines_shuffled : dict of str to Moments
        The same with conditions in random order, (shuffles, F, …); empty without shuffles.
    fits : dict of str to Fit
        Fits of all conditions with the ridge that was chosen; empty without `refit`, or where no score is
        finite.
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
    fits: dict[str, Fit]
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
        """1 − ‖P − S‖²_F / ‖S‖²_F on the conditions held out, shape (F, K)."""
        return self._each(lambda s: s.r2)

    @property
    def r2_over_one(self) -> Any:
        """1 − ‖P − S‖²_F / ‖C(1) − S‖²_F, shape (F, K)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._each(lambda s: 1.0 - (1.0 - s.r2) / (1.0 - self.r2_at_one[:, np.newaxis]))

    @property
    def pearson(self) -> Any:
        """Correlation over pairs of held-out conditions, shape (F, K); NaN for fewer than three of these."""
        return self._each(lambda s: s.pearson)

    @property
    def r2_at_one(self) -> Array:
        """R² of gains of one (F,)."""
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
        """How each fit ended, shape (F, K)."""
        return self._each(lambda s: s.status)

    @property
    def r2_shuffled(self) -> Any:
        """R² with the conditions of Y in random order, shape (shuffles, F, K), or None."""
        return self._each(lambda s: s.r2_shuffled)

    @property
    def best_ridge(self) -> Any:
        """λ of the highest pooled `score`; NaN if none is finite.

        A `ChosenRidge`: a float that knows its method, so that ``fit(relative_ridge=cv.best_ridge)`` is the
        fit that was chosen. Where `relative`, to be passed on as ``relative_ridge``.
        """
        return self._of(self.choices("best"))

    @property
    def one_se_ridge(self) -> Any:
        """The largest λ whose score is within one standard error of the best, of their *difference*."""
        return self._of(self.choices("one-se"))

    @property
    def fit(self) -> Any:
        """All conditions, fitted with the ridge that was chosen; None without refit."""
        return self._of({name: self.fits.get(name) for name in self.scores}) if self.fits else None

    @property
    def p(self) -> Any:
        """p of the score: (1 + #{max over λ of a shuffle ≥ max over λ observed}) / (shuffles + 1)."""
        return self._of({name: self.p_value(name) for name in self.scores})

    def p_value(self, method: str, score: str | None = None, *, over: str | None = None) -> float | None:
        """p of any score, or of its gain over a baseline; None without shuffles."""
        return evidence.p_value(self, method, self._checked(score), over)

    @property
    def optimism(self) -> Any:
        """Score of the best λ less that of nested folds, which had no part in its choice; or None."""
        return self._of({name: self._optimism(name) for name in self.scores})

    def _optimism(self, method: str) -> float | None:
        table = self.scores[method]
        if table.nested is None:
            return None
        return float(np.nanmax(table.pooled(self.score)) - table.nested.moments.pooled(self.score))

    @property
    def verdict(self) -> Any:
        """Whether held-out covariances are predicted better than without X, in words: see `Verdict`."""
        return self._of(self.verdicts())

    def verdicts(self) -> dict[str, evidence.Verdict]:
        """The verdict of each method."""
        return {name: evidence.verdict(self, name) for name in self.scores}

    def choices(self, choice: str) -> dict[str, ChosenRidge]:
        """λ of each method: "best" or "one-se"."""
        return {
            name: ChosenRidge(self.ridges[k] if (k := self.place(name, choice)) >= 0 else np.nan, name,
                              relative=self.relative)
            for name in self.scores
        }  # fmt: skip

    def place(self, method: str, choice: str = "best") -> int:
        """Which of the ridges is chosen for a method; −1 if none has a finite score."""
        return chosen(self.scores[method].moments, self.score, self.ridges, choice, self.times)

    @property
    def times(self) -> float:
        """How often the folds hold out each condition."""
        return max(1.0, sum(len(test) for _, test in self.folds) / self.stats["shape"][1])

    def summary(self, method: str, score: str | None = None) -> tuple[Array, Array]:
        """A pooled score at each ridge (K,), and its standard error; by default `score`."""
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
        """Mean correlation of the gains of any two folds of a repeat, at each ridge (K,); or None."""
        return evidence.agreement(self, method)

    def condition_shares(self, method: str) -> Array:
        """Each condition's share of the squared error of predictions, at the best ridge (D,), or NaN."""
        if (k := self.place(method)) < 0:
            return np.full(self.stats["shape"][1], np.nan)
        errors = self.scores[method].errors[:, k]
        sums = np.nansum(errors, axis=0)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(np.isnan(errors).all(axis=0), np.nan, sums / sums.sum()))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the study with its fits to a .npz, .h5 or .hdf5 file, which `fastcov.load` reads.

        As `Fit.save`. Entries have the names of attributes, as ``"ridges"`` and ``"scores.exact.r2"``.

        Raises
        ------
        ValueError, OSError
            If such a file cannot be written there.
        TypeError
            If something was added to `stats` that is not of numbers, texts, lists and dicts.
        ImportError
            If h5py is needed and missing.
        """
        found: dict[str, Any] = {"methods": np.array(self.methods, dtype=str)}
        for method, scores in self.scores.items():  # the file holds the sums that they are made of
            found |= {f"scores.{method}.{name}": getattr(scores, name) for name in ("r2", "pearson")}
        save(self, path, found)

    def to_frame(self) -> Any:
        """A DataFrame of pandas with a row for each method or baseline, fold and ridge, and all scores.

        ``relative`` says of what the ridges are, as above. Raises ImportError without pandas.
        """
        return frame(cv_table(self))

    def report(self, path: str | os.PathLike[str], *, title: str | None = None) -> pathlib.Path:
        """Write a page: the verdict, scores beside baselines, their p-values, figures; see `Fit.report`.

        Parameters
        ----------
        path : path of a .html file
        title : str, optional
            By default the numbers of channels and conditions.

        Returns
        -------
        pathlib.Path
            Where the page is.

        Raises
        ------
        ImportError
            Without jinja2 or matplotlib: pip install "fastcov-gains[report]".
        TypeError, ValueError, OSError
            If `title` is no text, or no .html file can be written there.
        """
        from ..report import write_study

        return write_study(self, path, title=title)

    def __repr__(self) -> str:
        return printed.text(self)

    def _repr_html_(self) -> str:
        return "".join(
            html_table(title, rows, head=head, notes=notes)
            for title, head, rows, notes in printed.tables(self)
        )
