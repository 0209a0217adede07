"""Compiled code for the certificate of exact fits, separate from the minimiser's, for many gains at once."""

import numpy as np
from numba import prange

from .._compute.jit import Kernel

# Rows that are multiplied by a matrix at once; `covariance_parts` takes up to twice as many.
ROWS = 128
# Places of the sums that `sums_by_row` fills: x.W y, x.W x, x.x, x.y, y.y, the sum of x and the sum of y.
XWY, XWX, XX, XY, YY, SX, SY, SUMS = range(8)


@Kernel
def covariance_parts(X, gains, means, parts):
    """parts[t, c] = the contribution of the c-th of C parts of the rows to the covariance at gains[t].

    X is (n, D), gains are (T, n), means (T, D) are the means of gains * X, and parts are (T, C, D, D).
    2TnD^2 flops.
    """
    n, d = X.shape
    chunks = parts.shape[1]
    for item in prange(len(gains) * chunks):
        t, c = item // chunks, item % chunks
        start, end = c * n // chunks, (c + 1) * n // chunks
        Y = np.empty((end - start, d), X.dtype)
        for i in range(start, end):
            for j in range(d):
                Y[i - start, j] = gains[t, i] * X[i, j] - means[t, j]
        part = parts[t, c]
        np.dot(Y.T, Y, part)
        for a in range(d):  # not every BLAS rounds both sides alike
            for b in range(a):
                part[b, a] = part[a, b]


@Kernel
def sums_by_row(X, gains, means, W, out):
    """out[t, :, i] = the sums for x = x_i and y = gains[t, i] x_i - means[t], at the places XWY to SY.

    W (T, D, D) is symmetric. 2TnD^2 flops.
    """
    n, d = X.shape
    chunks = (n + ROWS - 1) // ROWS
    for item in prange(len(gains) * chunks):
        t, c = item // chunks, item % chunks
        start, end = c * ROWS, min((c + 1) * ROWS, n)
        WX = np.dot(X[start:end], W[t])
        for i in range(start, end):
            k = i - start
            xwy, xwx, xx, xy, yy, sx, sy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for j in range(d):
                x = X[i, j]
                y = gains[t, i] * x - means[t, j]
                xwy += WX[k, j] * y
                xwx += WX[k, j] * x
                xx += x * x
                xy += x * y
                yy += y * y
                sx += x
                sy += y
            out[t, XWY, i], out[t, XWX, i], out[t, XX, i], out[t, XY, i] = xwy, xwx, xx, xy
            out[t, YY, i], out[t, SX, i], out[t, SY, i] = yy, sx, sy
