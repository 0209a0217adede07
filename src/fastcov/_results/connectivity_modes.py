"""What a connectivity does: its singular vectors as patterns over conditions, and how it scales modes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._connectivity.reduced import Reduced
from .frames import frame, named
from .html import html_table

Array = NDArray[np.float64]

# Singular values below this share of the largest are rounding.
ROUNDING = 1e-12
# Rows of a printed table.
SHOWN = 8


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Modes:
    """Modes of a connectivity: W = Σ_k σ_k u_k v_kᵀ over channels; prints itself as a table.

    Attributes
    ----------
    singular_values : ndarray, shape (K,)
        σ_k, descending.
    inputs : ndarray, shape (K, D)
        v_kᵀX: how far each condition drives the input pattern v_k.
    outputs : ndarray, shape (K, D)
        u_kᵀX̃: how far each condition, before W, already has the output pattern u_k.
    share : ndarray, shape (K,)
        Share of ‖W‖²_F that the first k modes keep together.
    share_of_correlations : ndarray, shape (K,)
        Share of ‖WᵀW‖²_F that they keep, which is also that of ‖WWᵀ‖²_F: of the correlations that W makes
        among its inputs and among its outputs.
    conditions : tuple or None
    """

    singular_values: Array
    inputs: Array
    outputs: Array
    share: Array
    share_of_correlations: Array
    conditions: tuple[Any, ...] | None
    _left: Array  # coefficients of u_k over the columns of x̂ (K, p)
    _right: Array

    def __len__(self) -> int:
        return len(self.singular_values)

    def to_frame(self) -> Any:
        """A pandas DataFrame: a row for each mode, its σ and shares, then inputs and outputs by condition."""
        names = named(self.conditions, self.inputs.shape[1])
        table: dict[str, Any] = {
            "singular_value": self.singular_values, "share": self.share,
            "share_of_correlations": self.share_of_correlations,
        }  # fmt: skip
        for kind, values in (("input", self.inputs), ("output", self.outputs)):
            table |= {f"{kind}_{name}": values[:, j] for j, name in enumerate(names)}
        return frame(table)

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        names = named(self.conditions, self.inputs.shape[1])
        rows: list[tuple[str, ...]] = []
        for k in range(min(len(self), SHOWN)):
            strongest = names[int(np.abs(self.inputs[k]).argmax())]
            rows.append((
                str(k), f"{self.singular_values[k]:.4g}", f"{self.share[k]:.3f}",
                f"{self.share_of_correlations[k]:.3f}", str(strongest),
            ))  # fmt: skip
        return ("mode", "singular value", "of |W|2", "of |W'W|2", "strongest input"), rows

    def _title(self) -> str:
        return f"Modes of W: {len(self)} (the first {min(len(self), SHOWN)} shown, shares add up)"

    def __repr__(self) -> str:
        return printed(self._title(), *self._table())

    def _repr_html_(self) -> str:
        head, rows = self._table()
        return html_table(self._title(), rows, head=head)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Scaling:
    """How a connectivity scales the modes of Γ = XᵀJX, its eigenvectors; prints itself as a table.

    Attributes
    ----------
    variances : ndarray, shape (D,)
        γ_i, eigenvalues of Γ, descending: the variance of X along mode i.
    modes : ndarray, shape (D, D)
        Eigenvectors, one a row, over conditions.
    fitted, target : ndarray, shape (D,)
        The variances of C and of S along the same modes.
    error, error_left : ndarray, shape (D, D)
        S − Γ and S − C between modes i and j.
    left : ndarray, shape (D, D)
        1 / (1 + 4γ_iγ_j/λ): the share of each error that the linearised fit leaves where X has no mean over
        channels.
    conditions : tuple or None
    """

    variances: Array
    modes: Array
    fitted: Array
    target: Array
    error: Array
    error_left: Array
    left: Array
    conditions: tuple[Any, ...] | None

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each mode: its variances, their ratio, and what is left."""
        return frame({
            "variance": self.variances, "fitted": self.fitted, "target": self.target, "scaled": self.scaled,
            "left": np.diagonal(self.left).copy(),
        })  # fmt: skip

    @property
    def scaled(self) -> Array:
        """Fitted variance over that of X (D,); NaN where X has none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.variances > 0, self.fitted / self.variances, np.nan)

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        total = self.variances.sum() or 1.0
        rows: list[tuple[str, ...]] = [
            (
                str(k), f"{self.variances[k] / total:.3f}", f"{self.target[k] / total:.3f}",
                f"{self.fitted[k] / total:.3f}", f"{self.scaled[k]:.3g}", f"{self.left[k, k]:.2g}",
            )
            for k in range(min(len(self.variances), SHOWN))
        ]  # fmt: skip
        return ("mode", "of X", "of target", "of fit", "scaled by", "error left"), rows

    def _title(self) -> str:
        return f"Variances along the modes of X's covariance, over its trace ({len(self.variances)} modes)"

    def __repr__(self) -> str:
        return printed(self._title(), *self._table())

    def _repr_html_(self) -> str:
        head, rows = self._table()
        return html_table(self._title(), rows, head=head)


def printed(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table with columns to the right."""
    widths = [max(len(row[j]) for row in (head, *rows)) for j in range(len(head))]
    lines = ["  " + "  ".join(text.rjust(w) for text, w in zip(row, widths, strict=True))
             for row in (head, *rows)]  # fmt: skip
    return "\n".join([title, *lines])


def modes_of(reduced: Reduced, phi: Array, n_modes: int | None, conditions: Any) -> Modes:
    """Singular vectors of W in an orthonormal basis of the columns of x̂, as patterns over conditions."""
    core = reduced.sandwiched(phi)
    left, values, right = np.linalg.svd(core)
    total, fourth = float((values**2).sum()) or 1.0, float((values**4).sum()) or 1.0
    n = int(np.count_nonzero(values > ROUNDING * values[0])) if values[0] > 0 else 0
    if n_modes is not None:
        if not isinstance(n_modes, (int, np.integer)) or not 1 <= n_modes <= len(values):
            raise ValueError(
                f"Argument 'n_modes' must be from 1 to {len(values)}, not {n_modes!r}: leave it out for all."
            )
        n = min(n, int(n_modes))
    u, v = left.T[:n], right[:n]
    D = reduced.n_conditions
    of_root = reduced.root
    inputs = np.einsum("kd,de->ke", v[:, :D], of_root)
    if v.shape[1] > D:
        inputs = inputs + np.multiply.outer(v[:, D], reduced.mean)
    outputs = np.einsum("kd,de->ke", u[:, :D], of_root)
    return Modes(
        values[:n].copy(), inputs, outputs, np.cumsum(values**2)[:n] / total,
        np.cumsum(values**4)[:n] / fourth, conditions,
        u, v,
    )  # fmt: skip


def scaling_of(reduced: Reduced, C: Array, S: Array, ridge: float, conditions: Any) -> Scaling:
    """The modes of Γ, largest first, with what W makes of them."""
    values, vectors = (each[::-1] for each in reduced.eigen)
    turned = {
        name: np.einsum("id,de,je->ij", vectors, M, vectors, optimize=True)
        for name, M in (("C", C), ("S", S), ("E", S - reduced.covariance), ("left", S - C))
    }
    products = np.outer(values, values)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(products > 0, ridge / (ridge + 4.0 * products), 1.0)
    return Scaling(
        values.copy(), vectors.copy(), np.diagonal(turned["C"]).copy(), np.diagonal(turned["S"]).copy(),
        turned["E"], turned["left"], left, conditions,
    )  # fmt: skip
