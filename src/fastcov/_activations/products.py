"""F Ã for a matrix F that is made of the covariance of activations: by tiles, by samples, by signs.

With C = Ã Ãᵀ / (m − 1) and F = ∂f/∂C, the gradient of f(C) with respect to the activations is
2 F Ã / (m − 1), and no more than a part of C or F is ever held. Products T = Ã Ãᵀ and values are in the units
of `Activations`, and not divided by m − 1.
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

# Turns a tile of T, of these rows and columns, into that of F in place, and returns its share of the value.
Transform = Callable[[Array, slice, slice], float]

# Units of a tile: one of float64 takes 8 MB.
TILE_UNITS = 1024
# Units whose signs are held together: tables of sums are made for each such block.
SIGN_UNITS = 2 * kernels.ROWS
# Units of a tile of signs: its product in float32 and its factors fit the second-level cache.
TILE_SIGNS = 240
# Samples of a product for signs: in float32 the error of its sums is that of so many roundings.
DEPTH = 512
# Units of a block at least, however many samples: less is not worth a product.
LEAST_UNITS = 256
# Where a difference leaves a smaller share of what is subtracted, and two digits are lost, it is summed by
# tiles.
CANCELLATION = 1e-2


def by_tiles(activations: Activations, transform: Transform) -> tuple[float, Array]:
    """The sum over tiles of what `transform` returns, and F Ã. Some 3n²m flops, and 8 MB beside blocks."""
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
    """out[units] += F A, or Fᵀ A for `ta`."""
    part = out[units]
    if part.flags.c_contiguous:
        blas.product(F, A, ta=ta, out=part, add=True)
    else:
        part += blas.product(F, A, ta=ta)


def squares(tile: Array, rows: slice, columns: slice) -> float:
    """Σ T² and F = T."""
    return _sum_of_squares(tile)


def different(tile: Array, rows: slice, columns: slice) -> float:
    """Σ_{i≠j} T² and F = T − diag T."""
    if rows == columns:
        np.fill_diagonal(tile, 0.0)
    return _sum_of_squares(tile)


def differences(S: Array) -> Transform:
    """‖T − S‖² and F = T − S."""

    def transform(tile: Array, rows: slice, columns: slice) -> float:
        tile -= S[rows, columns]
        return _sum_of_squares(tile)

    return transform


def magnitudes(epsilon: float) -> Transform:
    """Σ √(T² + ε²) and F = T / √(T² + ε²)."""

    def transform(tile: Array, rows: slice, columns: slice) -> float:
        totals = np.empty(len(tile))
        kernels.smooth_signs(tile, epsilon, totals, size=8 * tile.size)
        return float(totals.sum())

    return transform


def _sum_of_squares(A: Array) -> float:
    """In float64."""
    dots = np.empty(len(A))
    kernels.row_dots(A, A, dots, size=A.size)
    return float(dots.sum())


def by_sums(activations: Activations) -> tuple[float, Array]:
    """Σ T and 1 1ᵀÃ. Some 3nm flops."""
    gradient, out = activations.zeros()
    total = np.zeros(activations.shape[1])
    for units in activations.slices():
        total += activations.block(units).sum(axis=0, dtype=np.float64)
    out[:] = total
    return blas.dot(total, total), gradient


def squares_by_samples(activations: Activations) -> tuple[float, Array]:
    """Σ T² = ‖ÃᵀÃ‖² and T Ã = Ã ÃᵀÃ. 3nm² flops, 8m² bytes."""
    K, _ = _samples_product(activations)
    gradient, out = activations.zeros()
    for units in activations.slices():
        _add_product(out, units, activations.block(units), K.astype(out.dtype, copy=False))
    return _sum_of_squares(K), gradient


def different_by_samples(activations: Activations) -> tuple[float, Array] | None:
    """The same without what is on the diagonal of T; None where that is nearly all of it."""
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
    """‖T − S‖² = ‖T‖² − 2 <Ã, S Ã> + ‖S‖² and (T − S) Ã; None where T is nearly S. 2n²m + 3nm² flops."""
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
    """K = ÃᵀÃ (m, m), and the diagonal of T. nm² flops."""
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
    """Σ|T| and sign(T) Ã, with subgradient 0 at 0, in some half of the time of `by_tiles`.

    T itself is not needed: its signs are those of products in float32, but for what is within their error,
    which is computed in float64. A matrix of signs takes a sixth of the additions of a product, through
    tables of sums. Blocks that hold a zero go through products.
    """
    gradient, out = activations.zeros()
    blocks = list(activations.slices(SIGN_UNITS, LEAST_UNITS))
    edge = _edge(max(units.stop - units.start for units in blocks))
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
    """out[rows] += F B and out[columns] += Fᵀ A for F = sign(A Bᵀ), which is made in float64."""
    for start in range(0, len(A), TILE_UNITS):
        part = A[start : start + TILE_UNITS]
        F = blas.product(part.astype(np.float64, copy=False), B.astype(np.float64, copy=False), tb=True)
        F = np.sign(F, out=F).astype(out.dtype, copy=False)
        first = rows.start + start
        _add_product(out, slice(first, first + len(part)), F, B)
        if columns != rows:
            _add_product(out, columns, F, part, ta=True)


def _edge(n: int) -> int:
    """Units of a tile of signs: a multiple of GROUP, so that those of n units leave little over."""
    return kernels.GROUP * -(-n // (-(-n // TILE_SIGNS) * kernels.GROUP))


def _unit_rows(A: Array, edge: int) -> NDArray[np.float32]:
    """Rows of length 1 in float32, by pieces of samples, and rows of zeros up to a multiple of `edge`."""
    n, m = A.shape
    pieces = -(-m // DEPTH)
    U = np.empty((pieces, -(-n // edge) * edge, -(-m // pieces)), np.float32)
    kernels.unit_rows(A, U, size=3 * A.size)
    return U


def _signs(A: Array, B: Array, U: Array, V: Array, edge: int) -> tuple[Array, Array] | None:
    """The signs of A Bᵀ along rows and along columns, as bits; None where some are zero."""
    same = A is B
    tops, lefts = np.meshgrid(np.arange(0, U.shape[1], edge), np.arange(0, V.shape[1], edge), indexing="ij")
    wanted = tops >= lefts if same else np.ones_like(tops, bool)
    tiles = np.stack([tops[wanted], lefts[wanted], np.zeros_like(tops[wanted])], axis=1)
    row_bits = _no_bits(U, V)
    column_bits = row_bits if same else _no_bits(V, U)
    flops = len(tiles) * edge * edge * A.shape[1]
    with blas_for(0):
        kernels.product_signs(A, B, U, V, edge, tiles, row_bits, column_bits, size=flops // 8)
        left = tiles[tiles[:, 2] < 0]
        if len(left):
            depth = min(DEPTH, A.shape[1])
            kernels.exact_signs(A, B, edge, depth, left, row_bits, column_bits, size=flops // 4)
    return None if (tiles[:, 2] > 0).any() or left[:, 2].any() else (row_bits, column_bits)


def _no_bits(U: Array, V: Array) -> NDArray[np.uint8]:
    groups = -(-V.shape[1] // (kernels.GROUP * kernels.TABLES)) * kernels.TABLES
    return np.zeros((groups, U.shape[1]), np.uint8)


def _add_signed(out: Array, units: slice, bits: Array, A: Array) -> None:
    """out[units] += F A, for the signs F."""
    part = out[units]
    total = part if part.flags.c_contiguous else np.zeros(part.shape, out.dtype)
    kernels.signed_sums(A, bits, total, size=total.size * len(A) // (2 * kernels.GROUP))
    if total is not part:
        part += total


def _dots(activations: Activations, out: Array) -> float:
    """<Ã, out>, summed in float64."""
    total = 0.0
    for units in activations.slices():
        A = activations.block(units)
        dots = np.empty(len(A))
        kernels.row_dots(A, np.ascontiguousarray(out[units]), dots, size=2 * A.size)
        total += float(dots.sum())
    return total
