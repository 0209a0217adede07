"""PermutationTest: p-values of a study, and the channels whose gains differ."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.container import save
from . import evidence
from .cross_validation import CrossValidation
from .html import html_table
from .nouns import nouns_of
from .page import StudyPage
from .printed import size_text

Array = NDArray[np.float64]

# The false discovery rate at which channels are counted.
FDR = 0.1


WIDTH = 108


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelTest:
    """Gains compared with those fitted to shuffled targets, channel by channel.

    Attributes
    ----------
    gains : ndarray, shape (N,)
        Gains fitted to all conditions, at the best ridge.
    mean, deviation : ndarray, shape (N,)
        Mean and standard deviation of the gains fitted to shuffled targets.
    p : ndarray, shape (N,)
        Two-sided p-value.
    q : ndarray, shape (N,)
        False discovery rate, from shuffles of all channels together (see `permutation_test`): of the channels
        with q ≤ 0.1, 10 % are expected to differ by chance alone.
    names : tuple or None
        Names of the channels.
    correlation : ndarray, shape (shuffles,)
        Correlation of `gains` with the gains of each shuffle. It measures the part of the gains that does not
        depend on which condition is which.
    largest : ndarray, shape (N,), or None
        If channels were compared at several ridges: for each, the largest difference of the gain from its
        mean over all orders, in standard deviations over these, with its sign. None: at the best ridge alone.
    """

    gains: Array
    mean: Array
    deviation: Array
    p: Array
    q: Array
    names: tuple[Any, ...] | None
    correlation: Array
    largest: Array | None = None

    def different(self, level: float = FDR) -> NDArray[np.bool_]:
        """Mask (N,) of channels whose gains differ from those of shuffles, at this false discovery rate."""
        return self.q <= level


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PermutationTest(StudyPage):
    """Test of whether a fit predicts held-out covariances; prints itself with its verdict.

    Attributes
    ----------
    p : float
        p-value of `observed`.
    score, method : str
        The score that is tested, and the method of the fits.
    observed : float
        The largest score over all ridges, all folds together.
    null : ndarray, shape (shuffles,)
        The permutation null: the largest score over all ridges for each shuffle.
    p_over, gain_over, null_over : dict by baseline
        For the improvement of the largest score over each baseline: its p-value, the improvement itself, and
        that of each shuffle.
    p_values : dict of str to float
        p-value of every score.
    channels : ChannelTest or None
        Test of each channel's gain; a connectivity has none.
    cv : CrossValidation
        The study, with all shuffles.
    """

    score: str
    method: str
    observed: float
    null: Array
    p: float
    p_over: dict[str, float]
    gain_over: dict[str, float]
    null_over: dict[str, Array]
    p_values: dict[str, float]
    channels: ChannelTest | None
    cv: CrossValidation

    @property
    def verdict(self) -> evidence.Verdict:
        """Whether held-out covariances are predicted better than without X."""
        return self.cv.verdicts()[self.method]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the test with its study to a .npz, .h5 or .hdf5 file, which `fastcov.load` reads.

        It works, and raises, as `CrossValidation.save` does.
        """
        save(self, path, {name: getattr(self, name) for name in ("method", "score", "observed", "p")})

    def __repr__(self) -> str:
        head, rows = self._table()
        lines = [self._title(), "  " + f"{head[0]:<26}" + "".join(f"{text:>16}" for text in head[1:])]
        lines += [f"  {name:<26}" + "".join(f"{cell:>16}" for cell in cells) for name, *cells in rows]
        for note in self._notes():
            lines += textwrap.wrap(note, WIDTH, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head, rows = self._table()
        return html_table(self._title(), rows, head=head, notes=self._notes())

    def _title(self) -> str:
        return (
            f"PermutationTest: {size_text(self.cv.stats)}, {self.method}, {len(self.null)} shuffles, "
            f"{self.score}"
        )

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        def row(name: str, observed: float, null: Array, p: float) -> tuple[str, ...]:
            return (
                name,
                f"{observed:.3f}",
                f"{np.mean(null):.3f}",
                f"{np.quantile(null, 0.95):.3f}",
                f"{p:.3g}",
            )

        rows = [row("largest over all ridges", self.observed, self.null, self.p)]
        rows += [
            row(
                f"over {nouns_of(self.method).labels[name]}",
                self.gain_over[name],
                self.null_over[name],
                self.p_over[name],
            )
            for name in self.p_over
        ]
        return ("", "observed", "shuffles, mean", "95 % below", "p"), rows

    def _notes(self) -> list[str]:
        notes = [str(self.verdict)]
        if self.channels is not None:
            found, N = int(self.channels.different().sum()), len(self.channels.p)
            known = self.channels.correlation[np.isfinite(self.channels.correlation)]
            alike = f"; they correlate by {known.mean():.2f} with those of such targets" if len(known) else ""
            notes.append(
                f"{found} of {N} gains differ from those of shuffled targets (false discovery rate {FDR:.0%})"
                f"{alike}."
            )
        return notes
