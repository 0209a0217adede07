"""ChannelTable: the channels whose gains changed, by name, and how surely."""

from __future__ import annotations

import csv
import dataclasses
import os
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.container import save
from .._inputs.files import check_output, writing
from .._inputs.optional import optional
from .._inputs.validation import check_between
from .html import html_table
from .intervals import shrunken

Array = NDArray[np.float64]

STABLE = (
    "That a gain keeps its side of one in folds, starts or resamples says that it is stable, not that it is "
    "right."
)
SHOWN = 10  # rows of a printed table
COLUMNS = ("gain", "se", "lower", "upper", "resolution", "p", "q", "folds", "starts", "resamples")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ChannelTable:
    """One row a channel: gain, interval, resolution, tests, and agreement; those that changed come first.

    Rows are sorted by `changed`, and then by |z − 1| / SE. All arrays have the length of the table.

    Attributes
    ----------
    names : tuple
        Names of the channels, or their numbers in the fit.
    gain, se, lower, upper, resolution : ndarray
        As in `Uncertainty`. A gain at a bound has no interval: NaN.
    p, q : ndarray
        Of each gain against gains fitted to shuffled targets, as in `ChannelTest`; NaN without a test.
    folds, starts, resamples : ndarray
        Agreement: the share of folds, of starts and of bootstraps in which the gain is on the same side of
        one as in the fit. NaN where there were none. With the jackknife, `resamples` is that share for a
        normal variable with the gain's standard error.
    changed : ndarray of bool
        Whether the interval leaves out one and, with a test, q ≤ `fdr`.
    by : str
        What the intervals are over: "cells", "conditions" or "both".
    level, fdr : float
        Coverage of the intervals, and the false discovery rate of q.
    tested : bool
        Whether p and q are known.
    """

    names: tuple[Any, ...]
    gain: Array
    se: Array
    lower: Array
    upper: Array
    resolution: Array
    p: Array
    q: Array
    folds: Array
    starts: Array
    resamples: Array
    changed: NDArray[np.bool_]
    by: str
    level: float
    fdr: float
    tested: bool

    def __len__(self) -> int:
        return len(self.names)

    @property
    def up(self) -> int:
        """How many gains changed to above one."""
        return int((self.changed & (self.gain > 1.0)).sum())

    @property
    def down(self) -> int:
        """How many gains changed to below one."""
        return int((self.changed & (self.gain < 1.0)).sum())

    def to_frame(self) -> Any:
        """A pandas DataFrame, indexed by ``"channel"``, in the order of the table. ImportError without it."""
        pandas = optional("pandas", "to_frame()")
        columns = {name: getattr(self, name) for name in (*COLUMNS, "changed")}
        return pandas.DataFrame(columns, index=pandas.Index(list(self.names), name="channel"))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table as text, with a header; numbers have all their digits, and NaN is empty.

        The file appears at `path` when it is complete. Raises ValueError or OSError if no .csv or .tsv file
        can be written there.
        """
        write_table(path, ("channel", *COLUMNS, "changed"), self.texts())

    def texts(self) -> Iterator[tuple[str, ...]]:
        """The rows as texts with all digits, NaN as an empty text: the name, the columns, and yes or no."""
        for i, name in enumerate(self.names):
            values = [float(getattr(self, column)[i]) for column in COLUMNS]
            texts = ("" if np.isnan(value) else repr(value) for value in values)
            yield (str(name), *texts, "yes" if self.changed[i] else "no")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a .npz, .h5 or .hdf5 file, which `fastcov.load` reads; as `Fit.save` does."""
        save(self, path, {})

    def _head(self) -> str:
        return f"ChannelTable: {int(self.changed.sum())} of {len(self)} gains changed"

    def cells(self, n: int | None = SHOWN) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The head and the first n rows, as texts; columns that are unknown throughout are left out."""
        known = [name for name in COLUMNS[4:] if np.isfinite(getattr(self, name)).any()]
        head = ("channel", "gain", f"{self.level:.0%} interval", *known, "changed")
        rows = []
        for i in range(len(self) if n is None else min(n, len(self))):
            ends = self.lower[i], self.upper[i]
            interval = "at a bound" if np.isnan(ends[0]) else f"{ends[0]:.2f} to {ends[1]:.2f}"
            rest = [_short(name, float(getattr(self, name)[i])) for name in known]
            gain = f"{self.gain[i]:.2f}"
            rows.append((str(self.names[i]), gain, interval, *rest, "yes" if self.changed[i] else ""))
        return head, rows

    def _notes(self) -> list[str]:
        rule = "Changed: the interval leaves out one"
        if self.tested:
            rule += f", and q is at most {self.fdr:g} against gains of shuffled targets."
        else:
            rule += ". It is not corrected for the number of channels: pass test=fc.permutation_test(X, Y)."
        known = [name for name in COLUMNS[-3:] if np.isfinite(getattr(self, name)).any()]
        return [rule, shrunken(self.by), *([STABLE] if known else [])]

    def __repr__(self) -> str:
        head, rows = self.cells()
        widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]
        lines = [self._head()]
        lines += [
            "  " + "  ".join(text.rjust(w) for text, w in zip(row, widths, strict=True)).rstrip()
            for row in (head, *rows)
        ]
        if len(rows) < len(self):
            lines.append(f"  … and {len(self) - len(rows)} more: to_frame(), to_csv(path)")
        for note in self._notes():
            lines += textwrap.wrap(note, 108, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head, rows = self.cells()
        return html_table(self._head(), rows, head=head, notes=self._notes())


def write_table(
    path: str | os.PathLike[str], head: Iterable[str], rows: Iterable[Iterable[str]]
) -> None:  # fmt: skip
    """Write rows of texts to a .csv or .tsv file, which appears at `path` when it is complete."""
    target = check_output(path, (".csv", ".tsv"))
    with writing(target) as draft, open(draft, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if target.suffix.lower() == ".tsv" else ",")
        writer.writerow(head)
        writer.writerows(rows)


def _short(name: str, value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.2g}" if name in ("p", "q") else f"{value:.2f}"


def same_side(gains: Array, fitted: Array) -> Array:
    """The share of rows of `gains` (K, N) that are on the same side of one as the fitted gains (N,)."""
    sides: Array = (np.sign(gains - 1.0) == np.sign(fitted - 1.0)).mean(axis=0)
    return sides


def table_of(found: Any, test: Any, *, fdr: float, target: int | None) -> ChannelTable:
    """The table of an `Uncertainty`, with what a study of the same responses adds."""
    fdr = check_between("fdr", fdr, 0.1)
    gains, t = found.gains, _target(found, target)
    arrays = {"gain": gains, "se": found.se, "lower": found.lower, "upper": found.upper,
              "resolution": found.resolution}  # fmt: skip
    arrays = {name: value if t is None else value[t] for name, value in arrays.items()}
    z, n, unknown = arrays["gain"], len(found.places), np.full(len(found.places), np.nan)
    told = unknown, unknown, unknown
    tested = False
    if test is not None:
        tested, told = _told(found, test, z)
    p, q, folds = told
    starts = found.agreement.get("starts", unknown)
    resamples = found.agreement.get("resamples", unknown)
    starts, resamples = (each if t is None or each.ndim == 1 else each[t] for each in (starts, resamples))
    changed = found.excludes_one if t is None else found.excludes_one[t]
    if found.draws is None:  # gains at a bound have no interval
        held = found.held if t is None else found.held[t]
        arrays |= {name: np.where(held, np.nan, arrays[name]) for name in ("lower", "upper")}
    if tested:
        changed = changed & (q <= fdr)
    with np.errstate(divide="ignore", invalid="ignore"):
        sureness = np.nan_to_num(np.abs(z - 1.0) / arrays["se"], nan=0.0, posinf=0.0)
    order = np.lexsort((np.arange(n), -sureness, ~changed))
    names = found.names
    columns = arrays | {"p": p, "q": q, "folds": folds, "starts": starts, "resamples": resamples}
    return ChannelTable(
        names=tuple(names[i] for i in order), changed=changed[order], by=found.by, level=found.level,
        fdr=fdr, tested=tested, **{name: value[order] for name, value in columns.items()},
    )  # fmt: skip


def _told(found: Any, test: Any, z: Array) -> tuple[bool, tuple[Array, Array, Array]]:
    """Whether a study tests single gains, and p, q and the agreement over folds of the chosen channels."""
    cv, wanted = getattr(test, "cv", test), found.stats
    if not hasattr(cv, "scores"):
        raise TypeError(
            "Argument 'test' must be a PermutationTest or a CrossValidation, not a "
            f"{type(test).__name__}: fc.permutation_test(X, Y)."
        )
    if tuple(cv.stats["shape"]) != tuple(wanted["shape"]):
        shapes = [
            "{} channels x {} conditions".format(*each) for each in (wanted["shape"], cv.stats["shape"])
        ]
        raise ValueError(
            f"Argument 'test' must be of the fitted {shapes[0]}, not of {shapes[1]}: test the responses that "
            "were fitted."
        )
    method = wanted["fit"]
    if method not in cv.scores:
        raise ValueError(
            f"Argument 'test' must be of method={method!r}, as the fit is, not of "
            f"{', '.join(map(repr, cv.scores))}: use test.cv.fit, or test that method."
        )
    place, channels, fitted = found.places, getattr(test, "channels", None), cv.fits.get(method)
    names = channels.names if channels is not None else None if fitted is None else fitted.channels
    if names is not None and found.channels is not None:
        at = {str(name): i for i, name in enumerate(names)}
        missing = [name for name in found.channels if str(name) not in at]
        if missing:
            raise ValueError(
                f"Argument 'test' must have the channels of the fit, not be without {str(missing[0])!r} "
                f"({len(missing)} in all): test the responses that were fitted."
            )
        place = np.array([at[str(name)] for name in found.channels], np.intp)
    p, q, folds = (np.full(len(place), np.nan) for _ in range(3))
    k = _ridge(cv, wanted)
    if channels is not None:
        if channels.largest is None and k != cv.place(method):  # of a study, it is of all ridges
            raise ValueError(
                f"Argument 'test' must be of the ridge of the fit, {_lambda(wanted)}, and its gains are "
                f"tested at {cv.ridges[cv.place(method)]:.4g}: use test.cv.fit.uncertainty(Y).table(test)."
            )
        p, q = channels.p[place], channels.q[place]
    kept = cv.scores[method].gains
    if kept is not None and k >= 0:
        folds = same_side(kept[:, k][:, place], z)
    return channels is not None, (p, q, folds)


def _ridge(cv: Any, wanted: dict[str, Any]) -> int:
    """Index of the ridge of a fit in a study; −1 if the study does not have it."""
    ridge = wanted["relative_ridge"] if cv.relative else wanted["ridge"]
    if ridge is None or hasattr(ridge, "nnz") or np.ndim(ridge):
        return -1
    near = np.flatnonzero(np.abs(cv.ridges - ridge) <= 1e-6 * abs(float(ridge)))
    return int(near[0]) if len(near) else -1


def _lambda(wanted: dict[str, Any]) -> str:
    relative, ridge = wanted["relative_ridge"], wanted["ridge"]
    if np.ndim(ridge) or hasattr(ridge, "nnz"):
        return "which is not one number"
    return f"{ridge:.4g}" if relative is None else f"{float(relative):.4g} of the largest eigenvalue"


def _target(found: Any, target: int | None) -> int | None:
    """The index of the target that is meant; None for a fit of one target."""
    if found.gains.ndim == 1:
        if target not in (None, 0):
            raise ValueError(f"Argument 'target' must be None for a fit of one target, not {target!r}.")
        return None
    T = len(found.gains)
    if target is None or not (isinstance(target, (int, np.integer)) and -T <= target < T):
        raise ValueError(f"Argument 'target' must be one of the {T} targets, 0 to {T - 1}, not {target!r}.")
    return int(target)
