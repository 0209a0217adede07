"""Compute F Ã for a matrix F that depends on the covariance of activations: by tiles, samples or signs.

With C = Ã Ãᵀ / (m − 1) and F = ∂f/∂C, the gradient of f(C) with respect to the activations is
2 F Ã / (m − 1). Only a part of C or F is held at a time. T = Ã Ãᵀ and all values are in the scaled units of
`Activations`, and are not divided by m − 1. Functions return a value and F Ã.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.jit import SMALL_FLOPS, blas_for
from .._compute.kernels import mirror_lower
from . import kernels
from .activations import Activations, Array

# Replaces a tile of T, with these rows and columns, by that of F, and returns the tile's share of the value.
Transform = Callable[[Array, slice, slice], float]

# Units in a tile: a tile of float64 takes 8 MB.
TILE_UNITS = 1024
# Units in a block of signs: the tables of sums are made once for each block.
SIGN_UNITS = 2 * kernels.ROWS
# Units in a tile of signs: its product in float32 and the factors fit the second-level cache.
TILE_SIGNS = 240
# Samples in one product for signs: the error of its sums in float32 is that of DEPTH roundings.
DEPTH = 512
# Fewest units in a block, however many samples there are: smaller blocks do not pay for a product.
LEAST_UNITS = 256
# If a difference is a smaller share than this of the numbers subtracted, two digits are lost to cancellation,
# and the sum is taken by tiles instead.
CANCELLATION = 1e-2


def by_tiles(activations: Activations, transform: Transform) -> tuple[float, Array]:
    """Return the sum of `transform` over tiles, and F Ã. About 3n²m flops, and 8 MB besides the blocks."""
    gradient, out = activations.zeros()
    total = 0.0
    for rows in activations.slices(TILE_UNITS, LEAST_UNITS):
        A = activations.block(rows)
        for columns in activations.slices(TILE_UNITS, LEAST_UNITS):
            if columns == rows:
                tile = blas.self_product(A)
                mirror_lower(tile, size=tile.size)
                total += transform(tile, rows, columns)
                _add_product(out, rows, tile, A)
                break
            B = activations.block(columns)
            tile = blas.product(A, B, tb=True)
            total += 2.0 * transform(tile, rows, columns)
            _add_product(out, rows, tile, B)
            _add_product(out, columns, tile, A, ta=True)
    return total, gradient


def _add_product(out: Array, units: slice, F: Array, A: Array, *, ta: bool = False) -> None:
    """Add F A to out[units], or Fᵀ A with `ta`."""
    part = out[units]
    if part.flags.c_contiguous:
        blas.product(F, A, ta=ta, out=part, add=True)
    else:
        part += blas.product(F, A, ta=ta)


def squares(tile: Array, rows: slice, columns: slice) -> float:
    """Transform with the value Σ T² and F = T."""
    return _sum_of_squares(tile)


def different(tile: Array, rows: slice, columns: slice) -> float:
    """Transform with the value Σ_{i≠j} T² and F = T − diag T."""
    if rows == columns:
        np.fill_diagonal(tile, 0.0)
    return _sum_of_squares(tile)


def differences(S: Array) -> Transform:
    """Return the transform with the value ‖T − S‖² and F = T − S."""

    def transform(tile: Array, rows: slice, columns: slice) -> float:
        tile -= S[rows, columns]
        return _sum_of_squares(tile)

    return transform


def magnitudes(epsilon: float) -> Transform:
    """Return the transform with the value Σ √(T² + ε²) and F = T / √(T² + ε²)."""

    def transform(tile: Array, rows: slice, columns: slice) -> float:
        totals = np.empty(len(tile))
        kernels.smooth_signs(tile, epsilon, totals, size=8 * tile.size)
        return float(totals.sum())

    return transform


def _sum_of_squares(A: Array) -> float:
    """Return Σ A², summed in float64."""
    dots = np.empty(len(A))
    kernels.row_dots(A, A, dots, size=A.size)
    return float(dots.sum())


def by_sums(activations: Activations) -> tuple[float, Array]:
    """Return Σ T and 1 1ᵀÃ. About 3nm flops."""
    gradient, out = activations.zeros()
    total = np.zeros(activations.shape[1])
    for units in activations.slices():
        total += activations.block(units).sum(axis=0, dtype=np.float64)
    out[:] = total
    return blas.dot(total, total), gradient


def squares_by_samples(activations: Activations) -> tuple[float, Array]:
    """Return Σ T² = ‖ÃᵀÃ‖² and T Ã = Ã ÃᵀÃ. 3nm² flops, 8m² bytes."""
    K, _ = _samples_product(activations)
    gradient, out = activations.zeros()
    for units in activations.slices():
        _add_product(out, units, activations.block(units), K.astype(out.dtype, copy=False))
    return _sum_of_squares(K), gradient


def different_by_samples(activations: Activations) -> tuple[float, Array] | None:
    """Do the same without the diagonal of T; return None if the diagonal is nearly all of T."""
    K, variances = _samples_product(activations)
    whole = _sum_of_squares(K)
    total = whole - blas.dot(variances, variances)
    if total < CANCELLATION * whole:
        return None
    gradient, out = activations.zeros()
    for units in activations.slices():
        A = activations.block(units)
        np.multiply(A, -variances[units, np.newaxis], out=out[units], casting="same_kind")
        _add_product(out, units, A, K.astype(out.dtype, copy=False))
    return total, gradient


def distance_by_samples(activations: Activations, S: Array) -> tuple[float, Array] | None:
    """Return ‖T − S‖² = ‖T‖² − 2 <Ã, S Ã> + ‖S‖² and (T − S) Ã; None if T is nearly S. 2n²m + 3nm² flops."""
    K, _ = _samples_product(activations)
    n = len(S)
    A = activations.block(slice(0, n))
    P = blas.product(S.astype(A.dtype, copy=False), A)
    parts = _sum_of_squares(K), _sum_of_squares(S)
    dots = np.empty(n)
    kernels.row_dots(A, P, dots, size=2 * A.size)
    total = sum(parts) - 2.0 * float(dots.sum())
    if total < CANCELLATION * sum(parts):
        return None
    gradient, out = activations.zeros()
    out -= P
    _add_product(out, slice(0, n), A, K.astype(A.dtype, copy=False))
    return total, gradient


def _samples_product(activations: Activations) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return K = ÃᵀÃ (m, m), and the diagonal of T. nm² flops."""
    n, m = activations.shape
    K, variances = np.zeros((m, m)), np.empty(n)
    for units in activations.slices():
        A = activations.block(units)
        parts = numba.get_num_threads() if 2 * m < len(A) and len(A) * m * m > SMALL_FLOPS else 1
        if parts > 1:
            with blas_for(0):
                for product in blas.tall_products(A, parts):
                    K += np.tril(product)
        else:
            blas.add_self_product(K, A)
        kernels.row_dots(A, A, variances[units], size=A.size)
    mirror_lower(K, size=K.size)
    return K, variances


def by_signs(activations: Activations) -> tuple[float, Array]:
    """Return Σ|T| and sign(T) Ã, with subgradient 0 at 0, in about half the time of `by_tiles`.

    T itself is not needed, only its signs. They are taken from products in float32, and computed in float64
    where those products are within their rounding error. Multiplying by a matrix of signs takes a sixth of
    the additions of a product, through tables of sums. Blocks that contain a zero go through products.
    """
    gradient, out = activations.zeros()
    blocks = list(activations.slices(SIGN_UNITS, LEAST_UNITS))
    edge = _tile_edge(max(units.stop - units.start for units in blocks))
    for rows in blocks:
        A = activations.block(rows)
        U = _unit_rows(A, edge)
        for columns in blocks:
            same = columns == rows
            B = A if same else activations.block(columns)
            bits = _signs(A, B, U, U if same else _unit_rows(B, edge), edge)
            if bits is None:
                _add_signs_and_zeros(out, rows, columns, A, B)
            else:
                _add_signed(out, rows, bits[0], B)
                if not same:
                    _add_signed(out, columns, bits[1], A)
            if same:
                break
    out[activations.silent] = 0.0
    return _dots(activations, out), gradient


def _add_signs_and_zeros(out: Array, rows: slice, columns: slice, A: Array, B: Array) -> None:
    """Add F B to out[rows] and Fᵀ A to out[columns] for F = sign(A Bᵀ), which is computed in float64."""
    for start in range(0, len(A), TILE_UNITS):
        part = A[start : start + TILE_UNITS]
        F = blas.product(part.astype(np.float64, copy=False), B.astype(np.float64, copy=False), tb=True)
        F = np.sign(F, out=F).astype(out.dtype, copy=False)
        first = rows.start + start
        _add_product(out, slice(first, first + len(part)), F, B)
        if columns != rows:
            _add_product(out, columns, F, part, ta=True)


def _tile_edge(n: int) -> int:
    """Return the units in a tile of signs: a multiple of GROUP that splits n units with little left over."""
    return kernels.GROUP * -(-n // (-(-n // TILE_SIGNS) * kernels.GROUP))


def _unit_rows(A: Array, edge: int) -> NDArray[np.float32]:
    """Scale rows to norm 1 in float32, by pieces of samples, and add zero rows up to a multiple of `edge`."""
    n, m = A.shape
    pieces = -(-m // DEPTH)
    U = np.empty((pieces, -(-n // edge) * edge, -(-m // pieces)), np.float32)
    kernels.unit_rows(A, U, size=3 * A.size)
    return U


def _signs(A: Array, B: Array, U: Array, V: Array, edge: int) -> tuple[Array, Array] | None:
    """Return the signs of A Bᵀ along rows and along columns, as bits; None if any are zero."""
    same = A is B
    tops, lefts = np.meshgrid(np.arange(0, U.shape[1], edge), np.arange(0, V.shape[1], edge), indexing="ij")
    wanted = tops >= lefts if same else np.ones_like(tops, bool)
    tiles = np.stack([tops[wanted], lefts[wanted], np.zeros_like(tops[wanted])], axis=1)
    row_bits = _empty_sign_bits(U, V)
    column_bits = row_bits if same else _empty_sign_bits(V, U)
    flops = len(tiles) * edge * edge * A.shape[1]
    with blas_for(0):
        kernels.product_signs(A, B, U, V, edge, tiles, row_bits, column_bits, size=flops // 8)
        left = tiles[tiles[:, 2] < 0]
        if len(left):
            depth = min(DEPTH, A.shape[1])
            kernels.exact_signs(A, B, edge, depth, left, row_bits, column_bits, size=flops // 4)
    return None if (tiles[:, 2] > 0).any() or left[:, 2].any() else (row_bits, column_bits)


def _empty_sign_bits(U: Array, V: Array) -> NDArray[np.uint8]:
    groups = -(-V.shape[1] // (kernels.GROUP * kernels.TABLES)) * kernels.TABLES
    return np.zeros((groups, U.shape[1]), np.uint8)


def _add_signed(out: Array, units: slice, bits: Array, A: Array) -> None:
    """Add F A to out[units], for the signs F."""
    part = out[units]
    total = part if part.flags.c_contiguous else np.zeros(part.shape, out.dtype)
    kernels.signed_sums(A, bits, total, size=total.size * len(A) // (2 * kernels.GROUP))
    if total is not part:
        part += total


def _dots(activations: Activations, out: Array) -> float:
    """Return <Ã, out>, summed in float64."""
    total = 0.0
    for units in activations.slices():
        A = activations.block(units)
        dots = np.empty(len(A))
        kernels.row_dots(A, np.ascontiguousarray(out[units]), dots, size=2 * A.size)
        total += float(dots.sum())
    return total
