"""RidgePath: fits for several ridges, as one sequence and one table."""

from __future__ import annotations

import abc
import dataclasses
import os
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .._inputs.container import save
from .fit import Fit
from .frames import frame, path_table
from .html import html_table
from .overshoot import beyond_rounding

Array = NDArray[np.float64]


class LazyFits(Sequence[Fit]):
    """Fits stored as arrays. An attribute of all of them is read without creating any `Fit`."""

    @abc.abstractmethod
    def each(self, name: str) -> list[Any]:
        """The attribute of each fit."""

    @abc.abstractmethod
    def overshooting(self) -> NDArray[np.bool_]:
        """Whether each fit ends above gains of one by more than rounding explains (K,)."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RidgePath(Sequence[Fit]):
    """Fits for K ridges, in the order in which these were given; prints itself as a table.

    It is a sequence of `Fit`. Each attribute stacks that of the fits along a first axis of length K. For a
    stack of T targets, a second axis has length T.

    Attributes
    ----------
    fits : sequence of Fit
        `ridge_path` stores them as arrays, and creates each `Fit` when it is read.
    """

    fits: Sequence[Fit]

    @overload
    def __getitem__(self, k: int) -> Fit: ...
    @overload
    def __getitem__(self, k: slice) -> tuple[Fit, ...]: ...
    def __getitem__(self, k: Any) -> Any:
        return self.fits[k]

    def __len__(self) -> int:
        return len(self.fits)

    @property
    def ridges(self) -> Array:
        """λ (K,), in units of X to the fourth."""
        return np.array(self._each("ridge"))

    @property
    def relative_ridges(self) -> Array | None:
        """λ over the largest eigenvalue of GᵀG (K,), for a path of relative ridges; else None."""
        values = self._each("relative_ridge")
        return None if None in values else np.array(values)

    @property
    def gains(self) -> Array:
        """z, shape (K, N); none for a path of connectivities."""
        return np.array(self._each("gains"))

    @property
    def delta(self) -> Array:
        """z − 1, shape (K, N)."""
        return np.array(self._each("delta"))

    @property
    def loss(self) -> Array:
        """Exact loss, ridge term included (K,)."""
        return np.array(self._each("loss"))

    @property
    def loss_at_one(self) -> Any:
        """Exact loss at gains of one, the same for all ridges."""
        return self._each("loss_at_one")[0]

    @property
    def method(self) -> str:
        """The method of all fits."""
        return str(self._each("method")[0])

    @property
    def r2(self) -> Array:
        """R² of the covariance (K,)."""
        return np.array(self._each("r2"))

    @property
    def residual(self) -> Array:
        """The certificate of each fit (K,)."""
        return np.array(self._each("residual"))

    @property
    def status(self) -> list[str]:
        """The status of each fit, as in `Fit`."""
        return self._each("status")

    def _each(self, name: str) -> list[Any]:
        """An attribute of all fits."""
        if isinstance(self.fits, LazyFits):
            return self.fits.each(name)
        return [getattr(fit, name) for fit in self.fits]

    def _overshooting(self) -> NDArray[np.intp]:
        """Indices of the fits that end above gains of one by more than rounding explains."""
        if isinstance(self.fits, LazyFits):
            return np.flatnonzero(self.fits.overshooting())
        return np.flatnonzero([np.any(beyond_rounding(fit)) for fit in self.fits])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all fits to one .npz, .h5 or .hdf5 file, which `fastcov.load` reads.

        It works as `Fit.save` does. Entries have the names of attributes, such as ``"ridges"`` and
        ``"loss"``, or ``"fits.0.gains"`` for the first fit.

        Raises
        ------
        ValueError, OSError
            If such a file cannot be written there.
        TypeError
            If a value added to the stats of a fit consists of anything but numbers, strings, lists and dicts.
        ImportError
            If h5py is needed and missing.
        """
        names = ("ridges", "relative_ridges", "loss", "r2", "residual", "status")
        numbers = {name: each for name in names if (each := getattr(self, name)) is not None}
        whole = dataclasses.replace(self, fits=tuple(self.fits))  # some may not exist yet
        save(whole, path, {"method": self.method, **numbers})

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each ridge: method, ridge, loss, r2, residual, status, …

        For T targets there is a row for each ridge and target, and a column target. Raises ImportError
        without pandas.
        """
        return frame(path_table(self))

    def __repr__(self) -> str:
        head, rows = self._table()
        widths = [max(len(row[j]) for row in (head, *rows)) for j in range(len(head))]
        table = "\n".join(
            "  " + "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
            for row in (head, *rows)
        )
        return f"{self._title()}\n{table}"

    def _repr_html_(self) -> str:
        head, rows = self._table()
        return html_table(self._title(), rows, head=head)

    def _title(self) -> str:
        N, D = self.fits[0].stats["shape"]
        shared = self.fits[0].stats.get("shared")
        targets = f", shared by {len(shared['r2'])} targets" if shared else ""
        return f"RidgePath: {self.method}, {N} channels x {D} conditions{targets}"

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Head and rows of the table that a path prints."""
        relative = self.fits[0].relative_ridge is not None
        moved = "gains" if isinstance(self.fits[0], Fit) else "norm of W"
        head = ("ridge/largest" if relative else "ridge", "loss/at one", "R2", moved, "residual", "status")
        rows: list[tuple[str, ...]] = []
        for fit in self.fits:
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.mean(np.divide(fit.loss, fit.loss_at_one))
            rows.append((
                f"{fit.relative_ridge if relative else fit.ridge:.4g}", f"{share:.4g}",
                f"{np.mean(fit.r2):.4g}", _size(fit),
                f"{np.max(fit.residual):.1e}", fit.status,
            ))  # fmt: skip
        return head, rows


def _size(fit: Any) -> str:
    """How far a fit went: the span of its gains, or the norm of its connectivity."""
    if isinstance(fit, Fit):
        return f"{fit.gains.min():.3g} to {fit.gains.max():.3g}"
    return f"{np.max(fit.norm()):.3g}"
