"""Compiled code for stacks of small matrices, one per unit: Cholesky factors, their checks, solutions.

Conventions are those of `form_kernels`. Factorisations and solutions run in float64 whatever the dtype, with
scratch memory of the size of one unit for each thread. Kernels raise nothing: they report flaws in arrays.
"""

from typing import Any

import numpy as np
from numba import prange

from .._compute.jit import Kernel, inner
from .form_kernels import MAX_PARALLEL_RUNS, TILE

# Right-hand sides that are substituted at once, as the columns of Y.
SIDES = 64
# Places in the report on a matrix: the largest difference from its transpose, where it is (row I + column),
# and the largest magnitude of the matrix if there is a difference; the order of the first leading minor that
# is not positive, or 0; log det.
SKEW, WHERE, SIZE, MINOR, LOGDET, REPORT = range(6)


@inner
def upper_factor(U: Any) -> int:
    """Overwrite the upper triangle of U (d, d) with the transpose of its Cholesky factor. d^3 / 3 flops.

    Returns the order of the first leading minor that is not positive and finite, or 0. It takes four pivots
    at a time, so that each entry of the remaining rows is read and written once for eight flops.
    """
    d = len(U)
    for start in range(0, d, 4):
        stop = min(start + 4, d)
        for j in range(start, stop):
            row = U[j, j:]
            for k in range(start, j):
                above = U[k, j:]
                u = above[0]
                for i in range(len(row)):
                    row[i] -= u * above[i]
            if not 0.0 < row[0] < np.inf:
                return j + 1
            root = np.sqrt(row[0])
            for i in range(len(row)):
                row[i] /= root
        if stop == d:
            break
        for i in range(stop, d):
            row, a, b, c, e = U[i, i:], U[start, i:], U[start + 1, i:], U[start + 2, i:], U[start + 3, i:]
            ua, ub, uc, ue = a[0], b[0], c[0], e[0]
            for k in range(len(row)):
                row[k] -= ua * a[k] + ub * b[k] + uc * c[k] + ue * e[k]
    return 0


@Kernel
def cholesky_factors(A, factors, reports):
    """Compute lower Cholesky factors of the symmetric parts of A (Z, I, I), and a report on each matrix.

    factors is (Z, I, I), or (0, I, I) if they are not wanted. reports is (Z, REPORT) in float64; a NaN or an
    infinity in A counts as a minor that is not positive. ZI^3 / 3 flops, one read of A.
    """
    d = A.shape[1]
    lanes = min(MAX_PARALLEL_RUNS, len(A))
    for lane in prange(lanes):
        U = np.empty((d, d))
        for z in range(np.intp(lane) * len(A) // lanes, (np.intp(lane) + 1) * len(A) // lanes):
            report = reports[z]
            report[:] = 0.0
            for top in range(0, d, TILE):
                for left in range(0, top + 1, TILE):
                    for i in range(top, min(d, top + TILE)):
                        for j in range(left, min(i + 1, left + TILE)):
                            U[j, i] = A[z, i, j]
            for i in range(d):
                below, above, differ = U[i, i:], A[z, i, i:], 0
                for k in range(len(below)):
                    differ += below[k] != above[k]
                if differ:
                    for k in range(len(below)):
                        difference = abs(below[k] - above[k])
                        if difference > report[SKEW]:
                            report[SKEW], report[WHERE] = difference, i * d + i + k
                        below[k] = 0.5 * below[k] + 0.5 * above[k]
            if report[SKEW] > 0.0:
                for i in range(d):
                    for j in range(d):
                        report[SIZE] = max(report[SIZE], abs(A[z, i, j]))
            report[MINOR] = upper_factor(U)
            if report[MINOR]:
                continue
            for i in range(d):
                report[LOGDET] += 2.0 * np.log(U[i, i])
            if len(factors):
                for i in range(d):
                    row = factors[z, i]
                    for j in range(d):
                        row[j] = U[j, i] if j <= i else 0.0


@Kernel
def copied_factors(factors, out, flaws):
    """Copy factors (Z, I, I), and set flaws[z] to 1 + the place (row I + column) of the first flaw, or to 0.

    A flaw is a nonzero number above the diagonal, a number on it that is not positive, or any number that is
    not finite. One read and one write.
    """
    d = factors.shape[1]
    for z in prange(len(factors)):
        flaw = 0
        for i in range(d):
            row, to = factors[z, i], out[z, i]
            wrong = 0
            for j in range(d):
                to[j] = row[j]
            for j in range(i):
                wrong += not abs(row[j]) < np.inf
            wrong += not 0.0 < row[i] < np.inf
            for j in range(i + 1, d):
                wrong += row[j] != 0.0
            if wrong and not flaw:
                for j in range(d):
                    sound = row[j] == 0.0 if j > i else abs(row[j]) < np.inf and (j < i or row[j] > 0.0)
                    if not sound:
                        flaw = i * d + j + 1
                        break
        flaws[z] = flaw


@Kernel
def eigen_factors(vectors, values, factors, deviations, flaws):
    """Compute Cholesky factors of Q diag(values) Q^T without that product: Q diag(sqrt(values)) = W = L V.

    V has orthonormal rows, from modified Gram-Schmidt of the rows of W; its L is as accurate as that from
    Householder reflections (Bjorck 1967). vectors is Q (Z, I, I), and values (Z, I) in float64. Sets
    deviations[z] = max |Q Q^T - 1|, and flaws[z] to 1 + the first row that vanishes, or to 0. 4ZI^3 flops.
    """
    d = vectors.shape[1]
    lanes = min(MAX_PARALLEL_RUNS, len(vectors))
    for lane in prange(lanes):
        W, V = np.empty((d, d)), np.empty((d, d))
        for z in range(np.intp(lane) * len(vectors) // lanes, (np.intp(lane) + 1) * len(vectors) // lanes):
            for i in range(d):
                for j in range(d):
                    W[i, j] = vectors[z, i, j]
            np.dot(W, W.T, V)
            deviation = 0.0
            for i in range(d):
                for j in range(d):
                    deviation = max(deviation, abs(V[i, j] - (1.0 if i == j else 0.0)))
            deviations[z] = deviation
            for j in range(d):
                V[0, j] = np.sqrt(values[z, j])
            for i in range(d):
                for j in range(d):
                    W[i, j] *= V[0, j]
            flaws[z] = 0
            for j in range(d):
                v = W[j]
                square = 0.0
                for k in range(d):
                    square += v[k] * v[k]
                norm = np.sqrt(square)
                if not 0.0 < norm < np.inf:
                    flaws[z] = j + 1
                    break
                for k in range(d):
                    v[k] /= norm
                for i in range(j):
                    factors[z, i, j] = 0.0
                factors[z, j, j] = norm
                for i in range(j + 1, d):
                    w = W[i]
                    c = 0.0
                    for k in range(d):
                        c += w[k] * v[k]
                    for k in range(d):
                        w[k] -= c * v[k]
                    factors[z, i, j] = c


@inner
def substitute(L: Any, Y: Any) -> None:
    """Overwrite Y (d, r) with the solution of L L^T X = Y. 2rd^2 flops, four rows of Y at a time."""
    d = len(L)
    for i in range(d):
        y, fours = Y[i], i - i % 4
        for k in range(0, fours, 4):
            a, b, c, e = Y[k], Y[k + 1], Y[k + 2], Y[k + 3]
            la, lb, lc, le = L[i, k], L[i, k + 1], L[i, k + 2], L[i, k + 3]
            for r in range(len(y)):
                y[r] -= la * a[r] + lb * b[r] + lc * c[r] + le * e[r]
        for k in range(fours, i):
            a, la = Y[k], L[i, k]
            for r in range(len(y)):
                y[r] -= la * a[r]
        for r in range(len(y)):
            y[r] /= L[i, i]
    for back in range(d):
        i = d - 1 - back
        y, fours = Y[i], d - back % 4
        for k in range(fours, d):
            a, la = Y[k], L[k, i]
            for r in range(len(y)):
                y[r] -= la * a[r]
        for k in range(i + 1, fours, 4):
            a, b, c, e = Y[k], Y[k + 1], Y[k + 2], Y[k + 3]
            la, lb, lc, le = L[k, i], L[k + 1, i], L[k + 2, i], L[k + 3, i]
            for r in range(len(y)):
                y[r] -= la * a[r] + lb * b[r] + lc * c[r] + le * e[r]
        for r in range(len(y)):
            y[r] /= L[i, i]


@Kernel
def solutions(factors, rhs, out):
    """Set out_lz = A_z^-1 rhs_lz. rhs and out are (n, Z, I). 2nZI^2 flops, one read and one write."""
    n, units, d = rhs.shape
    chunks = (n + SIDES - 1) // SIDES
    tasks = chunks * units
    lanes = min(MAX_PARALLEL_RUNS, tasks)
    for lane in prange(lanes):
        L, Y = np.empty((d, d)), np.empty((d, min(n, SIDES)))
        for t in range(np.intp(lane) * tasks // lanes, (np.intp(lane) + 1) * tasks // lanes):
            z, start = t // chunks, t % chunks * SIDES
            rows = min(n, start + SIDES) - start
            for i in range(d):
                for j in range(d):
                    L[i, j] = factors[z, i, j]
            for r in range(min(n, SIDES)):
                for j in range(d):
                    Y[j, r] = rhs[start + r, z, j] if r < rows else 0.0
            substitute(L, Y)
            for r in range(rows):
                for j in range(d):
                    out[start + r, z, j] = Y[j, r]


@Kernel
def inverses(factors, out):
    """Set out_z = A_z^-1, which is symmetric only to rounding. factors and out are (Z, I, I). 2ZI^3 flops."""
    units, d = factors.shape[:2]
    lanes = min(MAX_PARALLEL_RUNS, units)
    for lane in prange(lanes):
        L, Y = np.empty((d, d)), np.empty((d, d))
        for z in range(np.intp(lane) * units // lanes, (np.intp(lane) + 1) * units // lanes):
            for i in range(d):
                for j in range(d):
                    L[i, j] = factors[z, i, j]
                    Y[i, j] = 1.0 if i == j else 0.0
            substitute(L, Y)
            for i in range(d):
                for j in range(d):
                    out[z, i, j] = Y[i, j]


@Kernel
def unit_lower(factors, out, pivots):
    """Compute A = L D L^T with ones on the diagonal of L: out_z = L, and pivots (Z, I) = D. ZI^2 flops."""
    d = factors.shape[1]
    for z in prange(len(factors)):
        for j in range(d):
            pivots[z, j] = factors[z, j, j]
        for i in range(d):
            row, to, diagonal = factors[z, i], out[z, i], pivots[z]
            for j in range(d):
                to[j] = row[j] / diagonal[j]
        for j in range(d):
            pivots[z, j] *= pivots[z, j]


@Kernel
def square_norms(factors, out):
    """Set out_z = ||L_z||^2, in float64. factors is (Z, I, I). ZI^2 flops."""
    d = factors.shape[1]
    for z in prange(len(factors)):
        s = 0.0
        for i in range(d):
            row = factors[z, i]
            for j in range(i + 1):
                s += np.float64(row[j]) * row[j]
        out[z] = s
