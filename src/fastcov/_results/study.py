"""Study: which channels' gains change, how surely, and whether they predict, of one population or several."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.container import save
from .._inputs.files import json_text
from .._inputs.optional import optional
from .channel_table import COLUMNS, ChannelTable, write_table
from .connectivity import Connectivity
from .cross_validation import CrossValidation
from .fit import Fit
from .group_studies import GroupStudies
from .html import html_table
from .mixed import Mixed
from .noise_ceiling import NoiseCeiling
from .page import StudyPage
from .permutation_test import PermutationTest
from .uncertainty import Uncertainty

Array = NDArray[np.float64]

WIDTH = 108


@dataclasses.dataclass(frozen=True, eq=False)
class PopulationStudy:
    """What a study found of one population.

    Attributes
    ----------
    name : str
    evidence : PermutationTest or CrossValidation
        Held-out scores beside baselines, with shuffles if there were any: see `test` and `cv`.
    ceiling : NoiseCeiling
        How well any prediction could score.
    uncertainty : Uncertainty or None
        Intervals and resolution of all gains; None if they could not be computed, or there are no gains: see
        `missing`.
    channels : ChannelTable or None
        One row a channel, those that changed most surely first.
    groups : GroupStudies or None
        Studies of each group of channels.
    missing : str
        Why there are no intervals; empty if there are.
    predicted : ndarray, shape (D, D), or None
        The covariance of Y as the fits of folds at the best ridge predict it, in units of Y: for each pair
        of conditions the mean over folds that held out one or both. NaN where none did; None if gains of
        folds were not kept.
    """

    name: str
    evidence: PermutationTest | CrossValidation
    ceiling: NoiseCeiling
    uncertainty: Uncertainty | None
    channels: ChannelTable | None
    groups: GroupStudies | None = None
    missing: str = ""
    predicted: Array | None = None

    @property
    def test(self) -> PermutationTest | None:
        """The test against shuffles; None without shuffles."""
        return self.evidence if isinstance(self.evidence, PermutationTest) else None

    @property
    def cv(self) -> CrossValidation:
        """The cross-validation."""
        return self.evidence.cv if isinstance(self.evidence, PermutationTest) else self.evidence

    @property
    def method(self) -> str:
        return self.cv.methods[0]

    @property
    def fit(self) -> Fit | Connectivity | Mixed | None:
        """The fit of all conditions at the best ridge; None if no ridge has a finite score."""
        return self.cv.fits.get(self.method)

    @property
    def p(self) -> float | None:
        """p-value of the score; None without shuffles."""
        return None if self.test is None else self.test.p

    def value(self, score: str | None = None) -> tuple[float, float]:
        """A score at the best ridge, by default that of the study, and its standard error."""
        k = self.cv.place(self.method)
        if k < 0:
            return float("nan"), float("nan")
        values, error = self.cv.summary(self.method, score)
        return float(values[k]), float(error[k])


@dataclasses.dataclass(frozen=True, eq=False)
class Difference:
    """How much better one population is predicted than another, on the same folds.

    Attributes
    ----------
    first, second : str
        The populations. `value` is the score of the first less that of the second, each at its best ridge.
    value : float
    se : float
        Standard error of the difference, by the jackknife over folds.
    lower, upper : float
        Ends of its interval, by Student's t with one less than the number of folds of a repeat. It is over
        conditions, for these very cells: samples of cells from one population may well differ by more.
    level : float
        Coverage of the interval.
    p : float or None
        Two-sided p-value from cells that were dealt anew to the two populations; None without `deals`.
    null : ndarray, shape (deals,), or None
        The differences of these.
    """

    first: str
    second: str
    value: float
    se: float
    lower: float
    upper: float
    level: float
    p: float | None = None
    null: Array | None = None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Study(StudyPage):
    """A whole study; prints its verdict in plain English.

    For one population, `cv`, `test`, `fit`, `p`, `channels`, `uncertainty`, `ceiling` and `groups` are its
    own; for several, dicts by population.

    Attributes
    ----------
    populations : dict of str to PopulationStudy
        What was found of each population, in the order given.
    differences : tuple of Difference
        One for each pair of populations.
    stats : dict
        ``shape`` (N, D), ``by``, ``level``, ``fdr``, ``shuffles``, ``seconds``, ``named`` (whether
        populations were given by name), and ``cells``, the number of cells of each population.
    """

    populations: dict[str, PopulationStudy]
    differences: tuple[Difference, ...]
    stats: dict[str, Any]

    def __getitem__(self, name: str) -> PopulationStudy:
        if name not in self.populations:
            raise KeyError(f"Argument 'name' must be one of {', '.join(self.populations)}, not {name!r}.")
        return self.populations[name]

    def _of(self, values: Mapping[str, Any]) -> Any:
        return dict(values) if self.stats["named"] else next(iter(values.values()))

    def _each(self, name: str) -> Any:
        return self._of({key: getattr(one, name) for key, one in self.populations.items()})

    @property
    def cv(self) -> Any:
        """The cross-validation, with all scores and shuffles."""
        return self._each("cv")

    @property
    def test(self) -> Any:
        """The test against shuffles; None without shuffles."""
        return self._each("test")

    @property
    def fit(self) -> Any:
        """The fit of all conditions at the best ridge."""
        return self._each("fit")

    @property
    def p(self) -> Any:
        """p-value of the score; None without shuffles."""
        return self._each("p")

    @property
    def channels(self) -> Any:
        """The table of channels, those that changed most surely first."""
        return self._each("channels")

    @property
    def uncertainty(self) -> Any:
        """Intervals and resolution of all gains."""
        return self._each("uncertainty")

    @property
    def ceiling(self) -> Any:
        """The noise ceiling."""
        return self._each("ceiling")

    @property
    def groups(self) -> Any:
        """Studies of each group of channels; None without groups."""
        return self._each("groups")

    @property
    def method(self) -> str:
        """The method of all fits."""
        return next(iter(self.populations.values())).method

    @property
    def score(self) -> str:
        """The name of the score."""
        return next(iter(self.populations.values())).cv.score

    @property
    def verdict(self) -> str:
        """What the study shows, and what it does not: paragraphs of plain English."""
        from .study_words import paragraphs

        return "\n\n".join(text for _, text in paragraphs(self))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the study to a .npz, .h5 or .hdf5 file, which `fastcov.load` reads.

        It works, and raises, as `CrossValidation.save` does.
        """
        readable: dict[str, Any] = {"verdict": self.verdict}
        for name, one in self.populations.items():
            if isinstance(one.fit, (Fit, Mixed)):
                readable[f"gains.{name}"] = one.fit.gains
            elif one.fit is not None:
                readable[f"singular_values.{name}"] = one.fit.singular_values
        save(self, path, readable)

    def to_frame(self) -> Any:
        """A pandas DataFrame of the tables of channels.

        The index is ``"channel"``, or (population, channel) for populations that were given by name. Raises
        ImportError without pandas, ValueError if no population has a table.
        """
        pandas = optional("pandas", "to_frame()")
        tables = {name: one.channels for name, one in self.populations.items() if one.channels is not None}
        if not tables:
            raise ValueError(f"There is no table of channels: {self._missing()}")
        frames = {name: table.to_frame() for name, table in tables.items()}
        if not self.stats["named"]:
            return next(iter(frames.values()))
        return pandas.concat(frames, names=["population", "channel"])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the tables of channels as text, as `ChannelTable.to_csv` does.

        Tables of populations that were given by name stand one below the other, with the name in a first
        column, ``population``. Raises ValueError if no population has a table, and as `ChannelTable.to_csv`.
        """
        tables = {name: one.channels for name, one in self.populations.items() if one.channels is not None}
        if not tables:
            raise ValueError(f"There is no table of channels: {self._missing()}")
        if not self.stats["named"]:
            next(iter(tables.values())).to_csv(path)
            return
        rows = ((name, *row) for name, table in tables.items() for row in table.texts())
        write_table(path, ("population", "channel", *COLUMNS, "changed"), rows)

    def _missing(self) -> str:
        return "; ".join(dict.fromkeys(one.missing for one in self.populations.values() if one.missing))

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The verdict, scores, p-values and tables as JSON; NaN becomes null.

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
        from .study_record import record

        return json_text(record(self), path)

    def __repr__(self) -> str:
        from .study_words import paragraphs, score_rows, title

        head, rows = score_rows(self)
        widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]
        lines = [title(self)]
        for name, *cells in (head, *rows):
            beside = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
            lines.append("  " + "  ".join((name.ljust(widths[0]), *beside)).rstrip())
        for heading, text in paragraphs(self):
            lines += ["", *textwrap.wrap(f"{heading}: {text}", WIDTH, break_on_hyphens=False)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from .study_words import paragraphs, score_rows, title

        head, rows = score_rows(self)
        notes = [f"{heading}: {text}" for heading, text in paragraphs(self)]
        parts = [html_table(title(self), rows, head=head, notes=notes)]
        for name, one in self.populations.items():
            if one.channels is not None:
                cells, body = one.channels.cells()
                of = f" ({name})" if self.stats["named"] else ""
                parts.append(html_table(f"Channels{of}", body, head=cells))
        return "".join(parts)
