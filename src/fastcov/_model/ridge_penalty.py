"""The ridge penalty, which keeps gains near one: ½ δᵀPδ with δ = z − 1 and P = λI, diag(λ_i) or ΓᵀΓ.

The last is Tikhonov's, with a matrix Γ.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .._compute import blas
from .._compute.jit import blas_for
from .._inputs.validation import as_float64, check_array, check_nonnegative, nonfinite

Array = NDArray[np.float64]

# Columns of ΓᵀΓ that are made together.
PANEL = 256
# One element of Γ, which is read once, takes the time of this many flops of other products.
ELEMENT_FLOPS = 16.0
# Penalties are limited to this: with larger ones, too, gains are one. Entries of Γ have a limit of their own,
# as they are squared and summed.
LARGEST_PENALTY = 1e300
LARGEST_ROOT = 1e140


@dataclasses.dataclass(frozen=True, eq=False)
class Penalty:
    """P = diag(own) + ΓᵀΓ; `own` is one number for all channels or one for each, and Γ may be absent."""

    own: float | Array
    root: Any = None  # Γ (K, N), as an array or as a sparse matrix in compressed rows

    @classmethod
    def of(cls, name: str, value: Any, n: int, axis: str = "channel") -> Penalty:
        """Check an argument: a number, one number for each of n channels (or groups), or Γ with n columns."""
        if sp.issparse(value):
            return _of_matrix(name, _checked_sparse(name, value, n, axis))
        if not isinstance(value, (list, tuple)) and np.ndim(value) == 0:
            return cls(check_nonnegative(name, value))
        array = check_array(name, value, (axis,), ("penalty", axis))
        _check_columns(name, array.shape, n, axis)
        values = as_float64(array)
        axes = (axis,) if array.ndim == 1 else ("penalty", axis)
        if not np.isfinite(values).all() and (error := nonfinite(name, array, axes)):
            raise error
        if array.ndim == 2:
            return _of_matrix(name, values.copy() if np.may_share_memory(values, array) else values)
        if (values < 0).any():
            i = int(np.argmax(values < 0))
            raise ValueError(
                f"Argument '{name}' must be >= 0 for each {axis}, not {values[i]:g} for {axis} {i}."
            )
        return cls(_one_or_each(values))

    def in_units(self, exponent: int, dead: NDArray[np.bool_]) -> Penalty:
        """The same penalty in units in which X is 2**exponent times as large.

        Dead channels have no part in Γ, and get a penalty of their own if they have none.
        """
        if self.uniform and exponent == 0:
            return self if self.own <= LARGEST_PENALTY else Penalty(LARGEST_PENALTY)
        with np.errstate(over="ignore", under="ignore"):
            own = np.minimum(np.ldexp(self.own, 4 * exponent), LARGEST_PENALTY)
            if self.uniform:
                return Penalty(float(own))
            root = self.root
            if root is not None:
                factors = np.where(dead, 0.0, np.ldexp(1.0, 2 * exponent))
                root = root.multiply(factors).tocsr() if sp.issparse(root) else root * factors
                values = root.data if sp.issparse(root) else root
                np.clip(values, -LARGEST_ROOT, LARGEST_ROOT, out=values)
        own = np.array(np.broadcast_to(own, dead.shape))
        largest = float(Penalty(own, root).weights.max())
        own[dead & (own == 0.0)] = largest or 1.0
        return Penalty(own, root)

    @property
    def value(self) -> Any:
        """The penalty as a user gives it: λ, λ of each channel, or Γ."""
        return self.own if self.root is None else self.root

    @property
    def uniform(self) -> bool:
        """Whether P is λI."""
        return self.root is None and isinstance(self.own, float)

    @property
    def definite(self) -> bool:
        """Whether P is λI, or diagonal with an inverse."""
        return self.uniform or (self.root is None and bool(np.min(self.own) > 0))

    @property
    def weights(self) -> Any:
        """The diagonal of P: one number where P is uniform, otherwise (N,)."""
        return self.own if self.root is None else self._diagonal

    @property
    def largest(self) -> float:
        """An upper bound of the largest eigenvalue of P, which is exact where P is diagonal."""
        if self.uniform:
            return float(self.own)
        return float(np.max(self.own) if self.root is None else self.weights.sum())

    @functools.cached_property
    def _diagonal(self) -> Array:
        squares = self.root.multiply(self.root) if sp.issparse(self.root) else np.square(self.root)
        return self.own + squares.sum(axis=0)

    def products(self, V: Array) -> Array:
        """P v for each row v of V (T, N)."""
        out = self.own * V
        if self.root is not None:
            rows, images = np.atleast_2d(out), self._images(V)
            if sp.issparse(self.root):
                rows += (self.root.T @ images.T).T
            else:
                with self._held(rows):
                    blas.product(images, self.root, out=rows, add=True)
        return out

    def _images(self, V: Array) -> Array:
        """Γ v for each row v of V (T, N), or for one vector."""
        rows = np.atleast_2d(V)
        if sp.issparse(self.root):
            return (self.root @ rows.T).T
        with self._held(rows):
            return blas.product(rows, self.root, tb=True)

    def _held(self, rows: Array) -> contextlib.AbstractContextManager[None]:
        """Hold BLAS at one thread, unless threads pay for products of rows (T, N) with Γ."""
        return blas_for(max(ELEMENT_FLOPS, 2.0 * len(rows)) * self.root.size)

    def quadratic(self, V: Array) -> Array:
        """vᵀPv for each row v of V (T, N), or for one vector."""
        if self.uniform:
            return self.own * np.square(V).sum(axis=-1)
        out = (self.own * np.square(V)).sum(axis=-1)
        if self.root is not None:
            squares = np.square(self._images(V)).sum(axis=1)
            out = out + (squares if np.ndim(V) == 2 else squares[0])
        return out

    def add_to(self, A: NDArray[Any]) -> None:
        """Add P to A, at least in the lower triangle."""
        n = len(A)
        A.flat[:: n + 1] += np.asarray(self.own).astype(A.dtype)
        for first in range(0, n if self.root is not None else 0, PANEL):
            columns = slice(first, min(first + PANEL, n))
            if sp.issparse(self.root):
                panel = (self.root[:, first:].T @ self.root[:, columns]).toarray()
            else:
                left, right = (
                    np.ascontiguousarray(self.root[:, some]) for some in (slice(first, n), columns)
                )
                panel = blas.product(left, right, ta=True)
            with np.errstate(invalid="ignore"):  # entries above the diagonal may be anything
                A[first:, columns] += panel


def _one_or_each(values: Array) -> float | Array:
    return float(values[0]) if np.all(values == values[0]) else values.copy()


def _of_matrix(name: str, root: Any) -> Penalty:
    """The penalty ΓᵀΓ, as a diagonal one where no row of Γ has two entries."""
    values = root.data if sp.issparse(root) else root
    if np.abs(values).max(initial=0.0) > 1e150:
        raise ValueError(f"Argument '{name}' must have entries below 1e150, not {np.abs(values).max():.3g}.")
    counts = np.diff(root.indptr) if sp.issparse(root) else np.count_nonzero(root, axis=1)
    penalty = Penalty(0.0, root)
    return Penalty(_one_or_each(penalty.weights)) if counts.max(initial=0) <= 1 else penalty


def _checked_sparse(name: str, value: Any, n: int, axis: str) -> Any:
    """A checked copy of a sparse matrix, in compressed rows."""
    if value.dtype.kind not in "biuf":
        raise TypeError(f"Argument '{name}' must hold real numbers, not dtype {value.dtype}.")
    if value.ndim != 2:
        raise ValueError(f"Argument '{name}' must be a matrix if it is sparse, not of shape {value.shape}.")
    _check_columns(name, value.shape, n, axis)
    root = sp.csr_array(value, dtype=np.float64, copy=True)
    root.sum_duplicates()
    root.eliminate_zeros()
    bad = np.flatnonzero(~np.isfinite(root.data))
    if len(bad):
        place = root.tocoo()
        i, j = place.row[bad[0]], place.col[bad[0]]
        raise ValueError(
            f"Argument '{name}' must be finite, not NaN or infinite in {len(bad)} places, first at penalty "
            f"{i}, {axis} {j} (counted from 0)."
        )
    return root


def _check_columns(name: str, shape: tuple[int, ...], n: int, axis: str) -> None:
    if shape[-1] != n or 0 in shape:
        raise ValueError(
            f"Argument '{name}' must be a number, one for each of the {n} {axis}s, or a matrix with {n} "
            f"columns, not of shape {shape}."
        )
