"""CrossValidation: scores on held-out conditions, and the ridges they choose."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._folds import Split
from ._frames import cv_table, frame
from ._html import html_table
from ._result import Fit

Array = NDArray[np.float64]

# How a fit may end without having stopped short.
FINE = ("converged", "minimum-norm", "approximate")


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Of one method on every fold (F) at every ridge (K), on the conditions held out.

    Attributes
    ----------
    r2 : ndarray, shape (F, K)
        1 − ‖C − S‖²_F / ‖S‖²_F.
    r2_over_one : ndarray, shape (F, K)
        1 − ‖C − S‖²_F / ‖C(1) − S‖²_F: 0 is no better than gains of one, 1 is perfect.
    pearson : ndarray, shape (F, K)
        Correlation of C and S over the pairs of conditions, above the diagonal; NaN for fewer than three
        pairs.
    residual : ndarray, shape (F, K)
    status : ndarray of str, shape (F, K)
        Certificate of each fit, as in `Fit`.
    r2_shuffled : ndarray, shape (shuffles, F, K), or None
        R² with the conditions of Y in random order.
    """

    r2: Array
    r2_over_one: Array
    pearson: Array
    residual: Array
    status: NDArray[Any]
    r2_shuffled: Array | None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CrossValidation:
    """Scores on held-out conditions; prints itself as a table.

    `r2`, `r2_over_one`, `pearson`, `residual`, `status`, `r2_shuffled`, `best_ridge`, `one_se_ridge` and
    `fit` are those of the one method, or with several a dict of them by method.

    Attributes
    ----------
    ridges : ndarray, shape (K,)
        λ in the order given: in units of X to the fourth, or where `relative`, over the largest eigenvalue
        of GᵀG of the training block.
    relative : bool
    folds : tuple of (train, test)
        Conditions of each of the F folds, all repeats one after another.
    repeats : int
    scores : dict of str to Scores
        By method.
    r2_at_one, pearson_at_one : ndarray, shape (F,)
        Scores of gains of one: the baseline.
    fits : dict of str to Fit
        Fits of all conditions with the ridge that was chosen; empty without `refit`, or where no mean R² is
        finite.
    stats : dict
    """

    ridges: Array
    relative: bool
    folds: tuple[Split, ...]
    repeats: int
    scores: dict[str, Scores]
    r2_at_one: Array
    pearson_at_one: Array
    fits: dict[str, Fit]
    stats: dict[str, Any]

    def _of(self, values: Mapping[str, Any]) -> Any:
        return next(iter(values.values())) if len(self.scores) == 1 else dict(values)

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(self.scores)

    @property
    def r2(self) -> Any:
        """1 − ‖C − S‖²_F / ‖S‖²_F on the conditions held out, shape (F, K)."""
        return self._of({name: s.r2 for name, s in self.scores.items()})

    @property
    def r2_over_one(self) -> Any:
        """1 − ‖C − S‖²_F / ‖C(1) − S‖²_F, shape (F, K)."""
        return self._of({name: s.r2_over_one for name, s in self.scores.items()})

    @property
    def pearson(self) -> Any:
        """Correlation over pairs of conditions, shape (F, K)."""
        return self._of({name: s.pearson for name, s in self.scores.items()})

    @property
    def residual(self) -> Any:
        """The certificate of each fit, shape (F, K)."""
        return self._of({name: s.residual for name, s in self.scores.items()})

    @property
    def status(self) -> Any:
        """How each fit ended, shape (F, K)."""
        return self._of({name: s.status for name, s in self.scores.items()})

    @property
    def r2_shuffled(self) -> Any:
        """R² with the conditions of Y in random order, shape (shuffles, F, K), or None."""
        return self._of({name: s.r2_shuffled for name, s in self.scores.items()})

    @property
    def best_ridge(self) -> Any:
        """λ of the highest mean R²; NaN if none is finite, as where a held-out target is zero.

        Where `relative`, to be passed on as ``relative_ridge``.
        """
        return self._of(self.choices("best"))

    @property
    def one_se_ridge(self) -> Any:
        """The largest λ whose mean R² is within one standard error of the highest."""
        return self._of(self.choices("one-se"))

    @property
    def fit(self) -> Any:
        """The fit of all conditions with the ridge that was chosen; None without one."""
        return self._of(self.fits) if self.fits else None

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
        from ._saved import save

        save(self, path)

    def to_frame(self) -> Any:
        """A DataFrame of pandas with a row for each method, fold and ridge, and a column for each score.

        ``relative`` says of what the ridges are, as above; ``r2_at_one`` is the baseline of the fold. Raises
        ImportError without pandas.
        """
        return frame(cv_table(self))

    def choices(self, choice: str) -> dict[str, float]:
        """The ridge that is ``"best"`` or the ``"one-se"`` choice, by method."""
        return {name: self._choice(name, choice) for name in self.scores}

    def summary(self, method: str) -> tuple[Array, Array]:
        """Mean R² over all folds at each ridge (K,), and its standard error.

        See `standard_error`; NaN for one fold.
        """
        r2 = self.scores[method].r2
        return r2.mean(axis=0), self.standard_error(r2)

    def standard_error(self, scores: Array) -> Array:
        """Of the mean over folds, the first axis.

        The standard deviation over all folds by the root of how many hold out every condition once: folds
        beyond these hold the same conditions, and do not make the mean surer.
        """
        D = self.stats["shape"][1]
        times = max(1.0, sum(len(test) for _, test in self.folds) / D)
        if len(scores) < 2:
            return np.full(scores.shape[1:], np.nan)
        with np.errstate(invalid="ignore"):  # infinite where a held-out target is zero
            return np.asarray(np.std(scores, axis=0, ddof=1) / np.sqrt(len(scores) / times))

    def _choice(self, method: str, choice: str) -> float:
        mean, error = self.summary(method)
        finite = np.isfinite(mean)
        if not finite.any():
            return float("nan")
        best = int(np.argmax(np.where(finite, mean, -np.inf)))
        if choice == "best":
            return float(self.ridges[best])
        return float(self.ridges[mean >= mean[best] - np.nan_to_num(error[best])].max())

    def _shuffled(self) -> list[str]:
        """What is found where there is nothing to find, at the best ridge of each method."""
        texts = []
        for name, table in self.scores.items():
            best = np.flatnonzero(self.ridges == self._choice(name, "best"))
            if table.r2_shuffled is not None and len(best):
                means = table.r2_shuffled[:, :, best[0]].mean(axis=1)
                texts.append(f"{means.mean():.3f} ({means.min():.3f} to {means.max():.3f})")
        shuffles = f"conditions of Y shuffled, at the best ridge, mean and range: {', '.join(texts)}"
        return [shuffles] if texts else []

    def __repr__(self) -> str:
        width = 22
        (ridge, *names), rows = self._table()
        lines = [self._title(), f"  {ridge:<14}" + "".join(f"{name:>{width}}" for name in names)]
        for value, *cells in rows:
            starred = (cell if cell.endswith("*") else f"{cell} " for cell in cells)  # beside the column
            lines.append(f"  {value:<14}" + "".join(f"{cell:>{width}}" for cell in starred))
        return "\n".join([*lines, *(f"  {note}" for note in self._notes())])

    def _repr_html_(self) -> str:
        head, rows = self._table()
        return html_table(self._title(), rows, head=head, notes=self._notes())

    def _title(self) -> str:
        N, D = self.stats["shape"]
        folds = f"{len(self.folds)} folds" + (f" ({self.repeats} repeats)" if self.repeats > 1 else "")
        return f"CrossValidation: {N} channels x {D} conditions, {folds}, held-out R2 and its standard error"

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Head and rows of the table that a study shows itself as: R² at each ridge, the best marked."""
        summaries = {name: self.summary(name) for name in self.methods}
        best = self.choices("best")
        rows = []
        for k in np.argsort(self.ridges)[::-1]:
            cells = [
                f"{mean[k]:.3f} +- {error[k]:.3f}" + "*" * bool(self.ridges[k] == best[name])
                for name, (mean, error) in summaries.items()
            ]
            rows.append((f"{self.ridges[k]:.4g}", *cells))
        return ("ridge/largest" if self.relative else "ridge", *self.methods), rows

    def _notes(self) -> list[str]:
        chosen = ", ".join(f"{self.choices('one-se')[name]:.4g}" for name in self.methods)
        notes = [
            f"gains of one {self.r2_at_one.mean():.3f} +- {self.standard_error(self.r2_at_one):.3f}; "
            f"* best; largest within a standard error: {chosen}",
            *self._shuffled(),
        ]
        short = sum(int(np.sum(~np.isin(s.status.astype(str), FINE))) for s in self.scores.values())
        if short:
            notes.append(f"{short} fits stopped short: see status")
        return notes
