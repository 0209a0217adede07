"""Compiled code over pairs of conditions: products of a row with itself, and symmetric matrices as vectors.

Arrays are as in `kernels`. Symmetric matrices are in packed storage: the upper triangle, row by row.
"""

import numpy as np
from numba import prange

from .jit import Kernel


@Kernel
def pair_products(Y, out):
    """out[i] = the upper triangle of y_i y_i^T, row by row. Y (n, D), out (n, D (D + 1) / 2)."""
    n, d = Y.shape
    for i in prange(n):
        y, start = Y[i], 0
        for a in range(d):
            row, ya, yb = out[i, start : start + d - a], y[a], y[a:]
            for b in range(len(row)):
                row[b] = ya * yb[b]
            start += d - a


@Kernel
def packed_errors(packed, w, S, losses, kept):
    """Turn P_k into E_k = P_k - w_k w_k^T - S_k in place; losses[k] = 1/2 ||E_k||^2.

    packed (K, D (D + 1) / 2) holds upper triangles row by row; w is (K, D), and S is (T, D, D) with T = 1
    or K. kept[k] = trace(P_k - w_k w_k^T) / trace(P_k) is the share of the trace that the subtraction
    leaves. 2.5 K D^2 flops, one pass over packed.
    """
    d = w.shape[1]
    for k in prange(packed.shape[0]):
        # a parallel index is unsigned, and Numba unifies it with a signed one to a float
        target = S[np.intp(0) if S.shape[0] == 1 else np.intp(k)]
        start = 0
        loss, before, after = 0.0, 0.0, 0.0
        for a in range(d):
            row, wa, wb, s = packed[k, start : start + d - a], w[k, a], w[k, a:], target[a, a:]
            before += row[0]
            after += row[0] - wa * wa
            squares = 0.0
            for b in range(len(row)):
                e = row[b] - wa * wb[b] - s[b]
                row[b] = e
                squares += e * e
            loss += squares - 0.5 * row[0] ** 2
            start += d - a
        losses[k] = loss
        kept[k] = after / before if before > 0.0 else 1.0


@Kernel
def packed_products(packed, v, out):
    """out[k] = E_k v_k from packed upper triangles; their off-diagonal entries are doubled afterwards.

    After that, packed[k] . (upper triangle of x x^T) = x^T E_k x. v and out are (K, D). 2 K D^2 flops.
    """
    d = v.shape[1]
    for k in prange(packed.shape[0]):
        out[k, :] = 0.0
        start = 0
        for a in range(d):
            row, va, vb = packed[k, start + 1 : start + d - a], v[k, a], v[k, a + 1 :]
            total, below = packed[k, start] * va, out[k, a + 1 :]
            for b in range(len(row)):
                total += row[b] * vb[b]
            out[k, a] += total
            for b in range(len(row)):
                below[b] += row[b] * va
                row[b] *= 2.0
            start += d - a


@Kernel
def pair_atoms(X, Y, out):
    """out[i] = the upper triangle of x_i y_i^T + y_i x_i^T, row by row, off the diagonal times sqrt(2).

    With this scale, inner products of rows of out are those of the matrices. X and Y are (n, D), and out is
    (n, D (D + 1) / 2). 2 n D^2 flops.
    """
    n, d = X.shape
    root = np.sqrt(2.0)
    for i in prange(n):
        start = 0
        for a in range(d):
            row, xb, yb = out[i, start : start + d - a], X[i, a:], Y[i, a:]
            xa, ya = root * X[i, a], root * Y[i, a]
            for b in range(len(row)):
                row[b] = xa * yb[b] + ya * xb[b]
            row[0] = root * xa * Y[i, a]
            start += d - a
