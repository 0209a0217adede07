"""Compiled code for stacks of small matrices, one per unit: quadratic forms, their gradients, products.

As in `_compute.kernels`, kernels take and fill arrays that are C-contiguous and writeable, and callers and
callees stay in one file. Matrices A are (Z, I, I), as are lower Cholesky factors L with A = L L^T; inputs are
(n, Z, I). Products are in the precision of the data, sums over them in float64.
"""

from typing import Any

import numpy as np
from numba import prange

from .._compute.jit import Kernel, inner

# Rows of one unit that are multiplied by its matrix at once: as many as stay in the first-level cache (29 ms
# for 512 x 256 x 64 on one core, and 34 with four times as many), but enough to be worth a BLAS call, and few
# enough that there are TASKS tasks even with few units.
CHUNK_BYTES, CHUNK_ROWS, TASKS = 1 << 15, 64, 8
# Threads take runs of tasks, each run with its own buffers. MAX_PARALLEL_RUNS is the largest number of runs:
# about the number of cores or a few times that, and no more, because fresh memory costs time.
MAX_PARALLEL_RUNS = 64
# Edge of the tiles in which a matrix is averaged with its transpose, so that both stay in the first-level
# cache.
TILE = 32
# Rows of a product that one task computes.
PANEL = 128


@inner
def rows_at_once(n: Any, units: Any, d: Any, itemsize: Any) -> int:
    """Return how many rows of a unit's inputs (n, d) are multiplied by its matrix at once."""
    most = max(CHUNK_ROWS, min(CHUNK_BYTES // (itemsize * d), (n * units + TASKS - 1) // TASKS))
    return max(1, min(n, most))


@Kernel
def forms(inputs, mean, matrices, factored, out):
    """Set out_lz = b^T A_z b with b = x_lz - mu_z, or inf if that overflows or an input is not finite.

    inputs is (n, Z, I), mean (Z, I) in float64, out (n, Z). matrices (Z, I, I) holds A or, if `factored`, L,
    and then b^T A b = ||L^T b||^2. 2nZI^2 flops, one read of the inputs; the last sum is in float64.
    """
    n, units, d = inputs.shape
    step = rows_at_once(n, units, d, inputs.itemsize)
    chunks = (n + step - 1) // step
    tasks = chunks * units
    lanes = min(MAX_PARALLEL_RUNS, tasks)
    for lane in prange(lanes):
        B, P = np.empty((step, d), inputs.dtype), np.empty((step, d), inputs.dtype)
        for t in range(np.intp(lane) * tasks // lanes, (np.intp(lane) + 1) * tasks // lanes):
            z, start = t // chunks, t % chunks * step
            rows = min(n, start + step) - start
            mu = mean[z]
            for r in range(rows):
                x, b = inputs[start + r, z], B[r]
                for j in range(d):
                    b[j] = x[j] - mu[j]
            np.dot(B[:rows], matrices[z], P[:rows])
            for r in range(rows):
                p, other = P[r], P[r] if factored else B[r]
                s = 0.0
                for j in range(d):
                    s += np.float64(p[j]) * other[j]
                out[start + r, z] = s if abs(s) < np.inf else np.inf


@Kernel
def forms_and_gradients(inputs, mean, matrices, factored, weights, out, slopes, totals, sums):
    """Compute the same, and the gradients of sum_lz w_lz out_lz.

    Sets slopes_lz = 2 w A b, and adds sum_l w b b^T to totals_z and sum_l slopes_lz to sums_z. weights is
    (n, Z), and slopes (n, Z, I), or (0, Z, I) if they are not wanted. totals is (p, Z, I, I), or (p, Z, 0, 0)
    if not wanted, and sums (p, Z, I), both in float64, with one entry for each of p parts of the rows.
    4nZI^2 flops, 6 if `factored`, and 2 less without totals; one read of the inputs and one write of slopes.
    """
    n, units, d = inputs.shape
    parts = len(totals)
    # Each chunk adds to a total once; that should not take longer than the chunk's product.
    step = min(n, max(rows_at_once(n, units, d, inputs.itemsize), d // 2))
    tasks = parts * units
    lanes = min(MAX_PARALLEL_RUNS, tasks)
    for lane in prange(lanes):
        B, P = np.empty((step, d), inputs.dtype), np.empty((step, d), inputs.dtype)
        Q = np.empty((step, d), inputs.dtype)
        product = np.empty((d, d), inputs.dtype)
        for t in range(np.intp(lane) * tasks // lanes, (np.intp(lane) + 1) * tasks // lanes):
            z, part = t // parts, t % parts
            mu, total, slope_sum = mean[z], totals[part, z], sums[part, z]
            stop = (part + 1) * n // parts
            for start in range(part * n // parts, stop, step):
                rows = min(stop, start + step) - start
                for r in range(rows):
                    x, b = inputs[start + r, z], B[r]
                    for j in range(d):
                        b[j] = x[j] - mu[j]
                np.dot(B[:rows], matrices[z], P[:rows])
                if factored:
                    np.dot(P[:rows], matrices[z].T, Q[:rows])
                for r in range(rows):
                    p, b, w = P[r], B[r], weights[start + r, z]
                    other, ab = (p, Q[r]) if factored else (b, p)
                    slope = slopes[start + r, z] if len(slopes) else p
                    twice, s = 2.0 * w, 0.0
                    for j in range(d):
                        s += np.float64(p[j]) * other[j]
                    out[start + r, z] = s if abs(s) < np.inf else np.inf
                    for j in range(d):
                        v = twice * ab[j]
                        slope[j] = v
                        slope_sum[j] += v
                    for j in range(d):
                        p[j] = w * b[j]
                if len(total):
                    np.dot(B[:rows].T, P[:rows], product)
                for i in range(len(total)):
                    row, more = total[i], product[i]
                    for j in range(d):
                        row[j] += more[j]


@Kernel
def symmetric_parts(A, out):
    """Set out_z = (A_z + A_z^T) / 2, symmetric to the bit. A is (Z, I, I); out may be A. ZI^2 flops."""
    d = A.shape[1]
    for z in prange(len(A)):
        for top in range(0, d, TILE):
            for left in range(0, top + 1, TILE):
                for i in range(top, min(d, top + TILE)):
                    for j in range(left, min(i + 1, left + TILE)):
                        v = 0.5 * A[z, i, j] + 0.5 * A[z, j, i]
                        out[z, i, j] = v
                        out[z, j, i] = v


@Kernel
def self_products(factors, out):
    """Set out_z = L_z L_z^T, symmetric only to rounding. factors and out are (Z, I, I). 2ZI^3 flops."""
    d = factors.shape[1]
    panels = (d + PANEL - 1) // PANEL
    for t in prange(panels * len(factors)):
        z, start = np.intp(t) // panels, np.intp(t) % panels * PANEL
        stop = min(d, start + PANEL)
        np.dot(factors[z, start:stop], factors[z].T, out[z, start:stop])


@Kernel
def lower_products(M, factors, out):
    """Set out_z to the lower triangle of 2 M_z L_z. M, factors and out are (Z, I, I). 2ZI^3 flops."""
    d = factors.shape[1]
    panels = (d + PANEL - 1) // PANEL
    for t in prange(panels * len(factors)):
        z, start = np.intp(t) // panels, np.intp(t) % panels * PANEL
        stop = min(d, start + PANEL)
        np.dot(M[z, start:stop], factors[z], out[z, start:stop])
        for i in range(start, stop):
            row = out[z, i]
            for j in range(d):
                row[j] = 2.0 * row[j] if j <= i else 0.0
