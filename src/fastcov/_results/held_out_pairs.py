"""HeldOutPairs: how well weights of channels predict pairs of conditions that they were not fitted to."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .frames import frame
from .html import html_table
from .score import Split

Array = NDArray[np.float64]

WIDTH = 108
# Correlations of held-out conditions among each other, and of these with the conditions of training.
PAIR_SCORES = ("pearson", "spearman", "cross-pearson", "cross-spearman")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class HeldOutPairs:
    """Scores of held-out conditions, by nested cross-validation; prints itself as a table.

    Each of F folds holds out some conditions. Inner folds of the other conditions choose the ridge, the
    weights are fitted to all pairs of these, and the held-out pairs are predicted. So no score is of a pair
    that chose a ridge or a weight.

    Attributes
    ----------
    score : str
        The score that chose ridges.
    relative_ridges : ndarray, shape (K,)
        λ over the largest eigenvalue of AᵀA, of the pairs of each training set.
    folds : list of (train, test)
        Conditions of each fold.
    repeats : int
        How often the folds were drawn.
    chosen : ndarray, shape (F,)
        The relative ridge that the inner folds chose.
    nested : dict of str to ndarray, shape (F,)
        The correlation of prediction and target in each fold at that ridge. ``"pearson"`` and ``"spearman"``
        are over pairs of two held-out conditions. ``"cross-pearson"`` and ``"cross-spearman"`` are over pairs
        of a held-out and a training condition, less the mean over the held-out conditions for each training
        condition, of whose level its other pairs tell. NaN for fewer than three pairs, or if the target does
        not vary; 0 if the prediction does not.
    by_ridge : dict of str to ndarray, shape (F, K)
        The same at each ridge.
    equal : dict of str to ndarray, shape (F,)
        The same with equal weights: classical representational similarity analysis.
    predicted : ndarray, shape (D, D)
        The prediction of each pair, in the mean over the folds in which at least one of its conditions was
        held out; NaN for pairs that never were.
    """

    score: str
    relative_ridges: Array
    folds: list[Split]
    repeats: int
    chosen: Array
    nested: dict[str, Array]
    by_ridge: dict[str, Array]
    equal: dict[str, Array]
    predicted: Array

    def mean(self, score: str = "pearson") -> float:
        """The mean of a nested score over the folds in which it is defined; NaN if there are none."""
        return _mean(self.nested[score])

    @property
    def pearson(self) -> float:
        """Mean correlation over pairs of two held-out conditions."""
        return self.mean("pearson")

    @property
    def spearman(self) -> float:
        """Mean rank correlation over pairs of two held-out conditions."""
        return self.mean("spearman")

    @property
    def best(self) -> int:
        """The place of the ridge with the best mean of `score` over the folds; −1 if none is defined."""
        return best_of(self.by_ridge[self.score])

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each fold; needs pandas.

        Its columns are ``repeat``, ``fold``, ``held_out`` (how many conditions), ``relative_ridge`` (the one
        chosen), each nested score, and each with equal weights as ``equal-pearson``, ….
        """
        F = len(self.folds)
        return frame({
            "repeat": np.arange(F) // (F // self.repeats),
            "fold": np.arange(F),
            "held_out": np.array([len(test) for _, test in self.folds]),
            "relative_ridge": self.chosen,
            **self.nested,
            **{f"equal-{name}": values for name, values in self.equal.items()},
        })  # fmt: skip

    def __repr__(self) -> str:
        head, rows = self._table()
        lines = [self._title(), f"  {head[0]:<18}" + "".join(f"{text:>20}" for text in head[1:])]
        lines += [f"  {name:<18}" + "".join(f"{cell:>20}" for cell in cells) for name, *cells in rows]
        for note in self._notes():
            lines += textwrap.wrap(note, WIDTH, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head, rows = self._table()
        return html_table(self._title(), rows, head=head, notes=self._notes())

    def _title(self) -> str:
        folds = f"{len(self.folds)} folds" + (f" ({self.repeats} repeats)" if self.repeats > 1 else "")
        return f"Held-out conditions: {folds}, mean +- standard deviation over folds"

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        rows = [
            (name, *(_cell(scores[name]) for scores in (self.nested, self.equal))) for name in PAIR_SCORES
        ]
        return ("", "reweighted", "equal weights"), rows

    def _notes(self) -> list[str]:
        low, high = self.chosen.min(), self.chosen.max()
        same = f"{low:.4g} in all" if low == high else f"{low:.4g} to {high:.4g}"
        return [f"Ridge chosen by {self.score} in inner folds, relative to the largest eigenvalue: {same}."]


def best_of(scores: Array) -> int:
    """The place of the ridge with the best mean of scores (F, K) over the folds; −1 if none is defined."""
    means = np.array([_mean(column) for column in scores.T])
    return -1 if np.isnan(means).all() else int(np.nanargmax(means))


def _mean(values: Array) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


def _cell(values: Array) -> str:
    there = values[np.isfinite(values)]
    return f"{there.mean():.3f} +- {there.std():.3f}" if len(there) else "-"
