"""NoiseCeiling: how well any prediction could score, given how reliable the target is."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.container import save
from .._inputs.validation import check_between, check_choice
from .frames import frame
from .html import html_table
from .score import SCORE, SCORES

Array = NDArray[np.float64]

WIDTH = 108
# By trials, below this r of halves the noise of single trials is so large that products of noise with noise
# count. These fall as 1 / T², and not as 1 / T as the formula has it.
NOISY = 0.6


def is_share(score: str) -> bool:
    """Whether a score is a share of squares (an R²), and no correlation."""
    return score.removeprefix("cross-").startswith("r2")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class NoiseCeiling:
    """The best score that a prediction can be expected to reach; prints itself as a table.

    Y is split into two random halves, again and again. r says how far the covariances of the two halves
    agree, as each score defines it. r_full is the r that two recordings of the size of Y would have.
    `ceiling` is √r_full for a correlation and r_full for an R²; see `noise_ceiling`.

    Attributes
    ----------
    by : {"cells", "trials"}
        What was split.
    reliability : dict of str to ndarray, shape (n_splits,)
        r of the two halves, for each score and split. NaN where it is undefined, because a covariance is
        the same for all pairs of conditions.
    times : float
        How many times as large as a half the whole is: 2, and a bit more if the number is odd, so that one
        is left out of each split.
    stats : dict
        ``shape`` (M, D), ``n_trials`` (None without trials), ``center``, ``folds``, ``missing`` (the number
        of missing values), ``seconds``.
    """

    by: str
    reliability: dict[str, Array]
    times: float
    stats: dict[str, Any]

    @property
    def n_splits(self) -> int:
        """Number of splits."""
        return len(self.reliability[SCORE])

    def halves(self, score: str = SCORE) -> float:
        """The mean of r over the splits in which it is defined; NaN if there are none.

        Raises ValueError for an unknown score.
        """
        r = self._defined(score)
        return float(r.mean()) if len(r) else float("nan")

    def whole(self, score: str = SCORE) -> float:
        """r_full = k r / (1 + (k − 1) r) with k = `times`, and r of `halves`; 0 if r is not positive."""
        return float(self._whole(np.array(self.halves(score))))

    def ceiling(self, score: str = SCORE) -> float:
        """The highest score that can be expected: √r_full, or r_full if the score is an R².

        It is 0 if r is not positive: nothing in Y repeats. It is NaN if r is undefined in all splits, of
        which `noise_ceiling` warns. Raises ValueError for an unknown score.
        """
        return float(self._ceilings(np.array(self.halves(score)), score))

    def band(self, score: str = SCORE, level: float = 0.95) -> tuple[float, float]:
        """The range of the ceiling over splits: its percentiles 2.5 and 97.5, or others for another level.

        It says how much depends on which halves were drawn. It is no confidence interval for other cells.

        Raises ValueError for an unknown score, or a level that is not between 0 and 1.
        """
        level = check_between("level", level, 0.95)
        r = self._defined(score)
        if not len(r):
            return float("nan"), float("nan")
        low, high = np.quantile(self._ceilings(r, score), [0.5 - level / 2, 0.5 + level / 2])
        return float(low), float(high)

    def _defined(self, score: str) -> Array:
        check_choice("score", score, tuple(self.reliability))
        r = self.reliability[score]
        return r[np.isfinite(r)]

    def _whole(self, r: Array) -> Array:
        r = np.where(r <= 0.0, 0.0, r)  # NaN stays NaN
        return self.times * r / (1.0 + (self.times - 1.0) * r)

    def _ceilings(self, r: Array, score: str) -> Array:
        full = self._whole(r)
        return full if is_share(score) else np.sqrt(full)

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each score; needs pandas.

        Its columns are ``score``, ``halves`` (r of two halves), ``whole`` (r_full), ``ceiling``, ``low`` and
        ``high`` (`band`), and ``undefined``, the number of splits without r.
        """
        bands = [self.band(score) for score in self.reliability]
        return frame({
            "score": np.array(list(self.reliability), dtype=object),
            **{name: np.array([getattr(self, name)(score) for score in self.reliability])
               for name in ("halves", "whole", "ceiling")},
            "low": np.array([low for low, _ in bands]),
            "high": np.array([high for _, high in bands]),
            "undefined": np.array([int((~np.isfinite(r)).sum()) for r in self.reliability.values()]),
        })  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ceiling to a .npz, .h5 or .hdf5 file, which `fastcov.load` reads.

        It works, and raises, as `Fit.save` does.
        """
        save(self, path, {"by": self.by, **{f"ceiling.{name}": self.ceiling(name) for name in SCORES}})

    def __repr__(self) -> str:
        head, rows = self._table()
        lines = [self._title(), f"  {head[0]:<22}" + "".join(f"{text:>16}" for text in head[1:])]
        lines += [f"  {name:<22}" + "".join(f"{cell:>16}" for cell in cells) for name, *cells in rows]
        for note in self._notes():
            lines += textwrap.wrap(note, WIDTH, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head, rows = self._table()
        return html_table(self._title(), rows, head=head, notes=self._notes())

    def _title(self) -> str:
        (M, D), T = self.stats["shape"], self.stats["n_trials"]
        trials = "" if T is None else f"{T} trials x "
        splits = f"{self.n_splits} splits of {self.by} in halves"
        return f"NoiseCeiling: {trials}{M} cells x {D} conditions, {splits}"

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        rows = []
        for score in self.reliability:
            numbers = (self.halves(score), self.whole(score), self.ceiling(score))
            low, high = self.band(score)
            cells = ["-" if np.isnan(value) else f"{value:.3f}" for value in numbers]
            rows.append((score, *cells, "-" if np.isnan(low) else f"{low:.2f} to {high:.2f}"))
        return ("", "r of halves", "r of whole", "ceiling", "95 % of splits"), rows

    def _notes(self) -> list[str]:
        cells = self.by == "cells"
        notes = [
            f"No prediction can be expected to score higher than the ceiling, because other {self.by} would "
            "give another covariance. Noise of X lowers scores further."
        ]
        if not cells:
            notes.append(
                "These are ceilings for the same cells: by='cells' also counts that other cells differ."
            )
            if self.halves(SCORE) < NOISY:
                notes.append(
                    "Single trials are mostly noise, so that the ceiling is rough: it may be 0.1 too low, or "
                    "too high where conditions share their noise."
                )
        zero = [score for score in self.reliability if self.halves(score) <= 0.0]
        if zero:
            notes.append(f"The halves have nothing in common, so that the ceiling is 0: {', '.join(zero)}.")
        undefined = {name: int((~np.isfinite(r)).sum()) for name, r in self.reliability.items()}
        if some := [f"{name} in {n}" for name, n in undefined.items() if n]:
            notes.append(
                f"Undefined, as all pairs have the same covariance: {', '.join(some)} of {self.n_splits} "
                "splits."
            )
        if self.stats["missing"]:
            notes.append(f"{self.stats['missing']} values are missing.")
        return notes
