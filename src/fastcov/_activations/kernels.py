"""Compiled code for activations. Rows are units, columns samples; arrays are C-contiguous and writeable.

`A` is a block of units (n, m) in float32 or float64. As in `_compute.kernels`, callers and
callees stay in this file.
"""

import numpy as np
from numba import prange

from .._compute.jit import Kernel, inlined

# Number of signs that form one index into a table: a table of 2**GROUP sums reduces n additions to n / GROUP.
# 6 is the fastest of 4, 5, 6 and 8 at 2000 units and 500 samples.
GROUP = 6
TABLE = 1 << GROUP
# TABLES are added at once, so that a sum is read and written once for all of them. A table has COLUMNS
# columns, 256 bytes in float64. The tables in use and the sums of ROWS units stay in the second-level cache.
TABLES, COLUMNS, ROWS = 8, 32, 1024
# A sum of squares below this has lost some or all of its digits to underflow.
LEAST_SQUARE = 2.0**-960
# At most one in SHARE entries of a tile is computed as a dot product, which takes ten times as long for each
# entry as a matrix product.
SHARE = 64


@Kernel
def row_ranges(A, means, lowest, highest):
    """Set means[i], lowest[i] and highest[i] to those of row i. 3nm flops, one read of A.

    A NaN or an infinity shows in the means. The mean of a constant row is exactly that constant.
    """
    n, m = A.shape
    for i in prange(n):
        a = A[i]
        total, low, high = 0.0, a[0], a[0]
        for j in range(m):
            total += np.float64(a[j])
            low = min(low, a[j])
            high = max(high, a[j])
        means[i] = a[0] if low == high and total == total else total / m  # comparisons miss a NaN
        lowest[i] = low
        highest[i] = high


@Kernel
def shifted_rows(A, means, out):
    """Set out_ij = a_ij - means_i - r_i, where r_i is the mean of a_ij - means_i. out may be A. 3nm flops.

    means_i is rounded, and the error of a large mean would shift its whole row; r_i corrects that. There are
    three loops because the compiler may reorder the sums within one, which would undo the correction. One
    read of A and one write of out.
    """
    n, m = A.shape
    for i in prange(n):
        a, row, mean, rest = A[i], out[i], means[i], 0.0
        for j in range(m):
            row[j] = a[j] - mean
        for j in range(m):
            rest += np.float64(row[j])
        rest /= m
        for j in range(m):
            row[j] -= rest


@Kernel
def row_dots(A, P, dots):
    """Set dots[i] = a_i . p_i, in float64. 2nm flops, one read of A and of P."""
    n, m = A.shape
    for i in prange(n):
        a, p, total = A[i], P[i], 0.0
        for j in range(m):
            total += np.float64(a[j]) * np.float64(p[j])
        dots[i] = total


@Kernel
def smooth_signs(T, epsilon, totals):
    """Replace t_ij by t_ij / sqrt(t_ij^2 + epsilon^2), or by 0 if that is 0 / 0; totals[i] sums the roots.

    5nk flops, one pass over T.
    """
    n, k = T.shape
    for i in prange(n):
        row, total = T[i], 0.0
        for j in range(k):
            t = np.float64(row[j])
            root = np.sqrt(t * t + epsilon * epsilon) if epsilon > 0.0 else abs(t)
            total += root
            row[j] = t / root if root > 0.0 else 0.0
        totals[i] = total


@Kernel
def unit_rows(A, out):
    """Set out[c, i] to piece c of the samples of a_i / ||a_i||, in float32; 0 if the squares underflow.

    out has shape (pieces, n', samples of a piece), padded with zeros beyond the last unit and sample. 3nm
    flops.
    """
    n, m = A.shape
    width = out.shape[2]
    for i in prange(out.shape[1]):
        if i >= n:
            out[:, i] = 0.0
            continue
        a, square = A[i], 0.0
        for j in range(m):
            square += np.float64(a[j]) * np.float64(a[j])
        factor = 1.0 / np.sqrt(square) if square > LEAST_SQUARE else 0.0
        for c in range(out.shape[0]):
            part, u = a[c * width : (c + 1) * width], out[c, i]
            for j in range(len(part)):
                u[j] = np.float32(factor * part[j])
            u[len(part) :] = 0.0


@inlined
def silent(a):
    """Return whether every entry of a is zero."""
    zero = True
    for k in range(len(a)):
        zero = zero and a[k] == 0.0
    return zero


@inlined
def settle(tile, A, B, bound):
    """Replace tile_ij by the sign of a_i . b_j (1 for zero) if |tile_ij| <= bound leaves its sign in doubt.

    Returns the number of zero products. Products with rows of zeros are not counted, and their entries may
    stay as they are. Returns -1, and stops early, if more than one in SHARE entries are in doubt.
    """
    zeros, left = 0, tile.size // SHARE
    for i in range(len(A)):
        row, least = tile[i], np.float32(np.inf)
        for j in range(len(B)):
            least = min(least, abs(row[j]))
        if least > bound or left < 0 or silent(A[i]):
            continue
        for j in range(len(B)):
            if abs(row[j]) > bound:
                continue
            a, b, product = A[i], B[j], 0.0
            for k in range(len(a)):
                product += np.float64(a[k]) * np.float64(b[k])
            row[j] = -1.0 if product < 0.0 else 1.0
            if product == 0.0 and not silent(b):
                zeros += 1
            left -= 1
            if left < 0:
                break
    return zeros if left >= 0 else -1


@inlined
def pack(tile, row_bits, column_bits, top, left):
    """Store the signs of a tile as bits; its first entry is at row `top` and column `left`."""
    edge = len(tile)
    positive = np.empty((edge, edge), np.uint8)
    for i in range(edge):
        row, signs = tile[i], positive[i]
        for j in range(edge):
            signs[j] = row[j] > 0.0
        for g in range(edge // GROUP):
            byte = 0
            for k in range(GROUP):
                byte |= signs[g * GROUP + k] << k
            row_bits[left // GROUP + g, top + i] = byte
    for g in range(edge // GROUP):
        column = column_bits[top // GROUP + g, left : left + edge]
        column[:] = 0
        for k in range(GROUP):
            signs = positive[g * GROUP + k]
            for j in range(edge):
                column[j] |= signs[j] << k


@Kernel
def product_signs(A, B, U, V, edge, tiles, row_bits, column_bits):
    """Store the signs of A B^T (n, k) as bits, GROUP to a byte: once along rows, and once along columns.

    Bit j of row_bits[g, i] is set if a_i . b_(g GROUP + j) > 0, and bit i of column_bits[g, j] if a_(g GROUP
    + i) . b_j > 0. U and V are the `unit_rows` of A and B. Their products in float32 have a bounded rounding
    error; entries within that bound are computed in float64. tiles[t] holds the first row and column of a
    tile with this `edge`, a multiple of GROUP. Its third entry is set to the number of zeros in the tile, not
    counting rows of zeros, or to -1 if the tile is left to `exact_signs`. 2nkm flops in float32. BLAS should
    be held at one thread.
    """
    pieces, _, width = U.shape
    # The magnitudes of the terms of a product of unit vectors sum to 1 at most, so its error is bounded by
    # the number of roundings: width + pieces in the sums, and 3 in each term.
    bound = np.float32(1.01 * (width + pieces + 3) * 2.0**-24)
    for t in prange(len(tiles)):
        top, left = tiles[t, 0], tiles[t, 1]
        tile = np.empty((edge, edge), U.dtype)
        np.dot(U[0, top : top + edge], V[0, left : left + edge].T, tile)
        if pieces > 1:
            product = np.empty((edge, edge), U.dtype)
            for c in range(1, pieces):
                np.dot(U[c, top : top + edge], V[c, left : left + edge].T, product)
                tile += product
        tiles[t, 2] = settle(tile, A[top : top + edge], B[left : left + edge], bound)
        pack(tile, row_bits, column_bits, top, left)


@Kernel
def exact_signs(A, B, edge, depth, tiles, row_bits, column_bits):
    """Do the same as `product_signs` in float64, without U and V, `depth` samples at a time. 2nkm flops."""
    m = A.shape[1]
    for t in prange(len(tiles)):
        top, left = tiles[t, 0], tiles[t, 1]
        rows, columns = A[top : top + edge], B[left : left + edge]
        P, Q = np.zeros((edge, depth)), np.zeros((edge, depth))
        tile, product = np.zeros((edge, edge)), np.empty((edge, edge))
        for start in range(0, m, depth):
            width = min(depth, m - start)
            P[:, width:] = 0.0
            for i in range(len(rows)):
                P[i, :width] = rows[i, start : start + width]
            for j in range(len(columns)):
                Q[j, :width] = columns[j, start : start + width]
            np.dot(P, Q.T, product)
            tile += product
        alive, zeros = np.empty(edge, np.bool_), 0
        for j in range(len(columns)):
            alive[j] = not silent(columns[j])
        for i in range(len(rows)):
            counts = not silent(rows[i])
            for j in range(len(columns)):
                if tile[i, j] == 0.0:
                    tile[i, j] = 1.0
                    zeros += counts and alive[j]
        tiles[t, 2] = zeros
        pack(tile, row_bits, column_bits, top, left)


@inlined
def fill_table(table, A, first, left, right):
    """Set table[s] = sum_k +-a_(first + k), with minus if bit k of s is 0, for columns `left` to `right`."""
    table[0] = 0.0
    stop, width = min(len(A), first + GROUP), right - left
    for i in range(first, stop):
        a, low = A[i, left:right], table[0, :width]
        for j in range(width):
            low[j] -= a[j]
    for i in range(first, stop):
        a, half = A[i, left:right], 1 << (i - first)
        for s in range(half):
            low, high = table[s, :width], table[half + s, :width]
            for j in range(width):
                high[j] = low[j] + 2.0 * a[j]


@Kernel
def signed_sums(A, bits, out):
    """Add sum_j f_ij a_j to out_i; f_ij is 1 if bit j % GROUP of bits[j // GROUP, i] is set, and else -1.

    A is (k, m), out (n, m), and bits (groups, n'), where groups is a multiple of TABLES. A table holds the
    sums of GROUP rows of A for all combinations of signs, and each row of out looks up one of them. This
    takes nkm / GROUP additions, and 2**GROUP km / GROUP for the tables, which are made anew for each ROWS
    rows of out. It is known as the method of four Russians (Arlazarov, Dinic, Kronrod and Faradzhev 1970).
    """
    n, m = out.shape
    strips, height = (m + COLUMNS - 1) // COLUMNS, min(n, ROWS)
    for t in prange(strips * ((n + height - 1) // height)):
        top, left = np.intp(t) // strips * height, np.intp(t) % strips * COLUMNS
        stop, right = min(n, top + height), min(m, left + COLUMNS)
        tables, sums = np.zeros((TABLES, TABLE, COLUMNS), A.dtype), np.zeros((height, COLUMNS), A.dtype)
        for first in range(0, (len(A) + GROUP - 1) // GROUP, TABLES):
            for g in range(TABLES):
                fill_table(tables[g], A, (first + g) * GROUP, left, right)
            for i in range(top, stop):
                b, total = bits[first : first + TABLES, i], sums[i - top]
                r0, r1, r2, r3 = tables[0, b[0]], tables[1, b[1]], tables[2, b[2]], tables[3, b[3]]
                r4, r5, r6, r7 = tables[4, b[4]], tables[5, b[5]], tables[6, b[6]], tables[7, b[7]]
                for j in range(COLUMNS):
                    total[j] += ((r0[j] + r1[j]) + (r2[j] + r3[j])) + ((r4[j] + r5[j]) + (r6[j] + r7[j]))
        for i in range(top, stop):
            row, total = out[i, left:right], sums[i - top]
            for j in range(right - left):
                row[j] += total[j]
