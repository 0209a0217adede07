"""Uncertainty: standard errors, intervals and resolution of gains."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.container import save
from .._inputs.optional import optional
from .channel_table import ChannelTable, table_of
from .frames import named
from .html import html_table
from .intervals import OF, RESOLVED, shrunken

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Uncertainty:
    """Standard errors, intervals and resolution of gains; prints itself as a short table.

    For a fit of T targets, arrays over channels have a leading axis of length T.

    Attributes
    ----------
    gains : ndarray, shape (N,)
        The fitted gains z.
    se : ndarray, shape (N,)
        Standard error of each gain, over other cells, conditions or both.
    lower, upper : ndarray, shape (N,)
        Ends of the interval of each gain.
    resolution : ndarray, shape (N,)
        1 − λ(H⁻¹)_ii: the share of a gain that the data determine; the ridge determines the rest. 0 for a
        gain at a bound and for a dead channel; NaN for methods that minimise nothing.
    held : ndarray of bool, shape (N,)
        Gains at a bound. With the jackknife their standard error is 0, and they have no interval.
    by : {"cells", "conditions", "both", "targets"}
    level : float
        Coverage of the intervals.
    channels : tuple or None
        Names of the channels.
    places : ndarray of int, shape (N,)
        Index of each channel in the fit: 0 to N − 1, unless some channels were chosen.
    draws : ndarray, shape (n_boot, N), or None
        Gains of each bootstrap, (n_boot, T, N) for T targets; None for the jackknife.
    agreement : dict
        The share of bootstraps, ``"resamples"``, and of starts, ``"starts"``, in which a gain is on the same
        side of one as in the fit (N,). With the jackknife, that of a normal variable with the gain's error.
    stats : dict
        How it was computed: ``method``, "jackknife" or "bootstrap"; ``solver``, "factor" or "iterations";
        ``n``, the numbers of cells (or of their groups), conditions or targets whose influence was summed;
        ``cell_groups``, the numbers of groups, if cells were grouped; ``ridge``; ``seconds``.
    """

    gains: Array
    se: Array
    lower: Array
    upper: Array
    resolution: Array
    held: NDArray[np.bool_]
    by: str
    level: float
    channels: tuple[Any, ...] | None
    places: NDArray[np.intp]
    draws: Array | None
    stats: dict[str, Any]
    agreement: dict[str, Array] = dataclasses.field(default_factory=dict)

    @property
    def excludes_one(self) -> NDArray[np.bool_]:
        """Whether the interval of each gain leaves out one; not where there is no interval, as at a bound."""
        return ((self.lower > 1.0) | (self.upper < 1.0)) & (self.se > 0.0)

    def table(self, test: Any = None, *, fdr: float = 0.1, target: int | None = None) -> ChannelTable:
        """The channels, those that changed most surely first: see `ChannelTable`.

        Parameters
        ----------
        test : PermutationTest or CrossValidation, optional
            A study of the same responses, method and ridge; `test.cv.fit` is a fit with these. A test gives p
            and q of each gain, against gains fitted to shuffled targets. Both give the agreement of gains
            over folds, if the study has the ridge of the fit. Channels with names are aligned.
        fdr : float, default 0.1
            A gain counts as changed if its interval leaves out one and, with a test, q ≤ `fdr`.
        target : int, optional
            Which of T targets; needed if there is more than one.

        Returns
        -------
        ChannelTable

        Raises
        ------
        TypeError, ValueError
            If `test` is no study, or one of other channels, conditions, another method or ridge; if `fdr`
            is not between 0 and 1; if there is no such target.
        """
        return table_of(self, test, fdr=fdr, target=target)

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each channel, in the order of the fit.

        Columns are gain, se, lower, upper, resolution and held. The index is ``"channel"``, or for T targets
        (target, channel). Raises ImportError without pandas.
        """
        pandas = optional("pandas", "to_frame()")
        names = self.names
        index = pandas.Index(names, name="channel")
        if self.gains.ndim == 2:
            index = pandas.MultiIndex.from_product(
                [range(len(self.gains)), names], names=["target", "channel"]
            )
        columns: dict[str, NDArray[Any]] = {
            "gain": self.gains,
            "se": self.se,
            "lower": self.lower,
            "upper": self.upper,
        }
        columns |= {"resolution": self.resolution, "held": self.held}
        return pandas.DataFrame({name: values.ravel() for name, values in columns.items()}, index=index)

    @property
    def names(self) -> list[Any]:
        """Names of the channels, or their numbers in the fit."""
        return self.places.tolist() if self.channels is None else named(self.channels, len(self.places))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a .npz, .h5 or .hdf5 file, which `fastcov.load` reads; as `Fit.save` does."""
        save(self, path, {"by": self.by, "level": self.level})

    def _head(self) -> str:
        N, D = self.stats["shape"]
        how = f"{self.stats['n_boot']} bootstraps" if self.draws is not None else "jackknife"
        some = "" if len(self.places) == N else f"{len(self.places)} of "
        groups = self.stats.get("cell_groups")
        of = OF[self.by] + (f" in {'+'.join(map(str, groups))} groups" if groups else "")
        return f"Uncertainty: {some}{N} channels x {D} conditions, over {of}, {how}"

    def _rows(self) -> list[tuple[str, str]]:
        out, total = int(self.excludes_one.sum()), self.gains.size
        up = int((self.excludes_one & (self.lower > 1.0)).sum())
        live = self.se[self.se > 0]
        spread = f"{np.median(live):.3g} (median), up to {live.max():.3g}" if len(live) else "0"
        rows = [
            ("error", f"standard errors of {spread}"),
            ("intervals", f"{self.level:.0%} intervals of {out} of {total} gains leave out one: {up} above, "
                          f"{out - up} below"),
        ]  # fmt: skip
        known = self.resolution[np.isfinite(self.resolution)]
        if len(known):
            sure = int((known > RESOLVED).sum())
            rows.append((
                "resolution",
                f"{np.median(known):.2f} (median), {known.min():.2f} to {known.max():.2f}; above "
                f"{RESOLVED:g} for {sure} gains",
            ))  # fmt: skip
        if self.held.any() and self.draws is None:
            rows.append(("bounds", f"{int(self.held.sum())} gains are at a bound: no interval"))
        return rows

    def _notes(self) -> list[str]:
        return [shrunken(self.by)]

    def __repr__(self) -> str:
        lines = [self._head(), *(f"  {name:<12}{value}" for name, value in self._rows())]
        for note in self._notes():
            lines += textwrap.wrap(note, 108, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table(self._head(), self._rows(), notes=self._notes())
