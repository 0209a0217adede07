"""Comparison: models that were scored on the same held-out conditions, and how far they differ."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.container import save
from .._inputs.files import json_text
from .._inputs.validation import check_between, check_choice
from . import evidence
from .channel_table import write_table
from .cross_validation import CrossValidation
from .frames import Table, frame
from .html import html_table
from .noise_ceiling import NoiseCeiling
from .page import StudyPage
from .score import SCORES, Moments
from .summaries import CHOICES, SUMMARIES, error_of

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class ModelScores:
    """One model of a comparison.

    Attributes
    ----------
    name, words : str
        Its name, and what it is in a few words.
    cv : CrossValidation or None
        The cross-validation, with all ridges, folds and shuffles; None for a baseline, which has no ridge.
    baseline : Moments or None
        The sums behind the scores of a baseline, (F, …).
    shuffled : Moments or None
        The same with shuffled conditions, (shuffles, F, …); None without shuffles, or if it has a `cv`.
    degrees_of_freedom : float
        Effective number of free parameters: see `fastcov.compare`. NaN where it is not known.
    seconds : float
        Time that its fits took.
    """

    name: str
    words: str
    cv: CrossValidation | None
    baseline: Moments | None
    shuffled: Moments | None
    degrees_of_freedom: float
    seconds: float

    @property
    def is_baseline(self) -> bool:
        return self.cv is None

    @property
    def method(self) -> str:
        """The method of its fits; empty for a baseline."""
        return "" if self.cv is None else self.cv.methods[0]

    @property
    def fit(self) -> Any:
        """The fit of all conditions at the best ridge; None for a baseline, or if no score is finite."""
        return None if self.cv is None else self.cv.fits.get(self.method)

    @property
    def best_ridge(self) -> float:
        """The ridge with the best score, in the units of `cv.ridges`; NaN for a baseline."""
        return math.nan if self.cv is None else float(self.cv.choices("best")[self.method])

    def moments(self, choice: str) -> Moments | None:
        """The sums behind the scores of all folds, at the ridges of a choice; None if no score is finite."""
        if self.cv is None:
            return self.baseline
        table = self.cv.scores[self.method]
        if choice == "nested":
            return None if table.nested is None else table.nested.moments
        k = self.cv.place(self.method)
        return None if k < 0 else table.moments.at(k)

    def maxima(self, score: str) -> tuple[float, Array | None]:
        """The pooled score at its best ridge, and in each shuffle; None without shuffles."""
        if self.cv is None:
            assert self.baseline is not None
            null = None if self.shuffled is None else self.shuffled.pooled(score)
            return float(self.baseline.pooled(score)), null
        table = self.cv.scores[self.method]
        null = None if table.shuffled is None else np.asarray(evidence.largest(table.shuffled.pooled(score)))
        return float(evidence.largest(table.pooled(score))), null

    def p(self, score: str) -> float | None:
        """p-value of a score: see `Comparison.p`."""
        observed, null = self.maxima(score)
        return None if null is None else evidence.exceeded(observed, null)


@dataclasses.dataclass(frozen=True)
class ModelDifference:
    """How much higher one model scores than another, on the same folds.

    Attributes
    ----------
    first, second : str
        The models. `value` is the pooled score of the first less that of the second.
    value : float
    se : float
        Standard error of the difference over conditions, by the jackknife over folds; for scores of pairs of
        a held-out and a training condition twice that, because each such pair counts in two folds.
    lower, upper : float
        Ends of its interval, by Student's t with one less than the number of folds of a repeat.
    level : float
        Coverage of the interval.
    p : float
        Two-sided p-value of the difference, by the same t. It tests whether the two models would differ in
        the mean over other conditions like these, for these very channels and cells.
    p_shuffled : float or None
        How often, with shuffled conditions, the two models differ as much at their best ridges. There
        neither has anything to predict. So a small value says that one of them predicts, and not that
        one predicts better than the other. None without shuffles.
    """

    first: str
    second: str
    value: float
    se: float
    lower: float
    upper: float
    level: float
    p: float
    p_shuffled: float | None = None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison(StudyPage):
    """Models that were scored on the same held-out conditions; prints itself as a table with a verdict.

    Of each model the table has the pooled `score` with its standard error; over folds the mean and median
    R², the R² of all folds together, the mean correlation of held-out pairs off the diagonal, and that of
    pairs of a held-out and a training condition; the effective degrees of freedom; and p. Scores are at
    the ridges that inner folds chose ("nested"), or if there are none, at the best ridge.

    Attributes
    ----------
    models : dict of str to ModelScores
        By name, in the order given.
    score : str
        The score that chooses ridges, heads the table and is tested.
    reference : str
        The model that others are compared with: "gains" if it is among them, else that with the best score.
    ceiling : NoiseCeiling or None
        How well any prediction could score; None where the target is a matrix.
    stats : dict
        ``shape`` (N, D), ``folds`` (F), ``repeats``, ``shuffles``, ``level``, ``seconds``.
    """

    models: dict[str, ModelScores]
    score: str
    reference: str
    ceiling: NoiseCeiling | None
    stats: dict[str, Any]

    def __getitem__(self, name: str) -> ModelScores:
        if name not in self.models:
            raise KeyError(f"Argument 'name' must be one of {', '.join(self.models)}, not {name!r}.")
        return self.models[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models, in the order given."""
        return tuple(self.models)

    @property
    def fitted(self) -> tuple[str, ...]:
        """Names of the models that are fitted, without baselines."""
        return tuple(name for name, one in self.models.items() if not one.is_baseline)

    @property
    def choice(self) -> str:
        """How ridges of scores are chosen by default: "nested" if there are inner folds, else "best"."""
        return "nested" if self._first.scores[self.models[self.fitted[0]].method].nested else "best"

    @property
    def fits(self) -> dict[str, Any]:
        """The fit of all conditions of each model that is fitted, at its best ridge."""
        return {name: self.models[name].fit for name in self.fitted}

    @property
    def _first(self) -> CrossValidation:
        cv = self.models[self.fitted[0]].cv
        assert cv is not None
        return cv

    def value(self, name: str, score: str | None = None, choice: str | None = None) -> tuple[float, float]:
        """A model's pooled score, by default `score`, and its standard error over conditions.

        Parameters
        ----------
        name : str
            A model.
        score : str, optional
            A score of `CrossValidation`.
        choice : {"nested", "best"}, optional
            At the ridges that inner folds chose, or at the best ridge. By default nested if there are inner
            folds.

        Returns
        -------
        tuple of float
            The standard error is as in `ModelDifference`.

        Raises
        ------
        KeyError, ValueError
            If there is no such model, score or choice.
        """
        moments = self._moments(name, choice)
        score = self._checked(score)
        if moments is None:
            return math.nan, math.nan
        return float(moments.pooled(score)), float(error_of(moments.without(score), self._first.times, score))

    def by_fold(self, name: str, score: str | None = None, choice: str | None = None) -> Array:
        """The score of a model in each fold (F,), with the options of `value`; NaN if no score is finite."""
        moments = self._moments(name, choice)
        if moments is None:
            return np.full(len(self._first.folds), np.nan)
        return moments.by_fold(self._checked(score))

    def summary(self, name: str, choice: str | None = None) -> dict[str, float]:
        """The numbers of a model in the table: ``r2_mean``, ``r2_median``, ``r2_pooled``, …"""
        moments = self._moments(name, choice)
        if moments is None:
            return dict.fromkeys(SUMMARIES, math.nan)
        return {key: made(moments, score) for key, (_, score, made) in SUMMARIES.items()}

    def p(self, name: str, score: str | None = None) -> float | None:
        """p-value of a model: whether it predicts at all.

        (1 + #{max over λ of a shuffle ≥ max over λ observed}) / (shuffles + 1), from the same shuffled orders
        of conditions for all models. None without shuffles.
        """
        return self[name].p(self._checked(score))

    def difference(
        self, first: str, second: str, score: str | None = None, choice: str | None = None, *,
        level: float | None = None,
    ) -> ModelDifference:  # fmt: skip
        """The pooled score of one model less that of another, on the same folds, with its interval.

        What both models owe to a fold cancels. The interval is over folds, by Student's t; it says how the
        difference varies over conditions, for these very cells. Takes the options of `value`, and `level`,
        the coverage, by default that of the comparison.
        """
        import scipy.stats

        name = self._checked(score)
        one, other = (self._moments(each, choice) for each in (first, second))
        level = self.stats["level"] if level is None else check_between("level", level, 0.95)
        cv = self._first
        value = error = math.nan
        if one is not None and other is not None:
            value = float(one.pooled(name) - other.pooled(name))
            with np.errstate(invalid="ignore"):
                error = float(error_of(one.without(name) - other.without(name), cv.times, name))
        t = scipy.stats.t(max(1, len(cv.folds) // cv.repeats - 1))
        half = error * float(t.ppf(0.5 + level / 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            p = float(2.0 * t.sf(np.abs(np.float64(value) / error)))
        (a, null), (b, others) = (self[each].maxima(name) for each in (first, second))
        shuffled = None
        if null is not None and others is not None and first != second:
            shuffled = evidence.exceeded(abs(a - b), np.abs(null - others))
        return ModelDifference(first, second, value, error, value - half, value + half, level, p, shuffled)

    def differences(
        self, reference: str | None = None, score: str | None = None, choice: str | None = None
    ) -> tuple[ModelDifference, ...]:
        """The differences of all other models to one of them, by default to `reference`."""
        reference = self.reference if reference is None else self[reference].name
        return tuple(
            self.difference(name, reference, score, choice) for name in self.models if name != reference
        )

    def _moments(self, name: str, choice: str | None) -> Moments | None:
        if choice is None:
            choice = self.choice
        if check_choice("choice", choice, CHOICES) == "nested" and self.choice != "nested":
            raise ValueError(
                "Argument 'choice' must be 'best' without inner folds, not 'nested': use nested=True."
            )
        return self[name].moments(choice)

    def _checked(self, score: str | None) -> str:
        return self.score if score is None else check_choice("score", score, tuple(SCORES))

    @property
    def verdict(self) -> str:
        """What the comparison shows, and what it does not, in plain English."""
        from .comparison_words import sentences

        return " ".join(sentences(self))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the comparison to a .npz, .h5 or .hdf5 file, which `fastcov.load` reads.

        It works, and raises, as `CrossValidation.save` does.
        """
        readable: dict[str, Any] = {"verdict": self.verdict, "names": np.array(self.names, dtype=str)}
        for name in self.names:
            readable[f"scores.{name}"] = self.by_fold(name)
        save(self, path, readable)

    def table(self) -> Table:
        """Columns of the table: a row for each model and choice of ridges."""
        from .comparison_words import table

        return table(self)

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each model and choice of ridges.

        Raises ImportError without pandas.
        """
        return frame(self.table())

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write what `to_frame` has as text, with all digits: .csv or .tsv.

        Raises ValueError or OSError if no such file can be written there.
        """
        columns = self.table()
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        write_table(path, columns, ([str(value) for value in row] for row in rows))

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The verdict, all scores, differences and p-values as JSON; NaN becomes null.

        Parameters
        ----------
        path : path of a .json file, optional
            Where to write it, too.

        Returns
        -------
        str

        Raises
        ------
        ValueError, OSError
            If no .json file can be written there.
        """
        from .comparison_words import record

        return json_text(record(self), path)

    def __repr__(self) -> str:
        from .comparison_words import text

        return text(self)

    def _repr_html_(self) -> str:
        from .comparison_words import tables

        return "".join(
            html_table(caption, rows, head=head, notes=notes) for caption, head, rows, notes in tables(self)
        )
