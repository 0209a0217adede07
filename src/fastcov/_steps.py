"""The compiled work of a minimiser's step, for responses in memory of which a pass is short.

One call evaluates the loss at a point, and one takes all products of a step of the quadratic model, by
truncated conjugate gradients. In calls of 40 us each, as larger problems are content with, two threads
that fit side by side would wait for the interpreter's lock as long as they compute, and be no faster than
one; and Python's own share, 70 us a product, was as much again.
"""

from typing import Any

import numpy as np
from numba import prange

from ._jit import Kernel, inner
from ._kernels import CHUNK_BYTES, CHUNK_ROWS, CHUNKS

# A step along negative curvature, before its exact length is found, beside the step so far.
LEAP = 10.0


@inner
def begin(gradient: Any, free: Any, diagonal: Any, state: Any, v: Any, r: Any, p: Any, slope: Any) -> None:
    """v = 0, r = g where free, p = -r / diagonal.

    state = (r.y, ||v||^2, v.p, ||p||^2, ||r|| / largest, count, largest), with y = r / diagonal, norms of v
    and p those of the diagonal, and `largest` the largest of |r|.
    """
    slope[:] = 0.0
    largest, ry, rr = 0.0, 0.0, 0.0
    for i in range(len(r)):
        v[i] = 0.0
        r[i] = gradient[i] if free[i] else 0.0
        p[i] = -r[i] / diagonal[i]
        ry -= r[i] * p[i]
        largest = max(largest, abs(r[i]))
    if largest > 0.0:
        for i in range(len(r)):
            rr += (r[i] / largest) ** 2
    state[0], state[1], state[2], state[3] = ry, 0.0, 0.0, ry
    state[4], state[5], state[6] = np.sqrt(rr), 0.0, largest


@inner
def advance(
    Hp: Any, Gp: Any, free: Any, diagonal: Any, limits: Any, state: Any, v: Any, r: Any, p: Any, slope: Any
) -> bool:
    """One iteration of Steihaug and Toint, given H p and G p; True where it is the last.

    limits = (radius, ||r|| / largest that is enough, iterations at most). A step goes to the edge of the
    trust region where it would leave it, or where the curvature along p is not positive: if there is no
    edge, LEAP times as far as it came.
    """
    radius, enough = limits[0], limits[1]
    ry, vv, vp, pp = state[0], state[1], state[2], state[3]
    curvature = 0.0
    for i in range(len(p)):
        if free[i]:
            curvature += p[i] * Hp[i]
    alpha = ry / curvature if curvature > 0.0 else np.inf
    last = not vv + alpha * (2.0 * vp + alpha * pp) < radius * radius
    if last:
        edge = radius
        if radius == np.inf:
            edge = LEAP * np.sqrt(vv) if vv > 0.0 else np.sqrt(pp)
        left = edge * edge - vv
        alpha = left / (vp + np.hypot(vp, np.sqrt(pp) * np.sqrt(left))) if left > 0.0 else 0.0
    slope += alpha * Gp
    ry, rr, before = 0.0, 0.0, ry
    for i in range(len(p)):
        v[i] += alpha * p[i]
        if free[i]:
            r[i] += alpha * Hp[i]
        rr += (r[i] / state[6]) ** 2
        ry += r[i] * (r[i] / diagonal[i])
    beta = ry / before
    for i in range(len(p)):
        p[i] = beta * p[i] - r[i] / diagonal[i]
    state[0] = ry
    state[1] = vv + alpha * (2.0 * vp + alpha * pp)
    state[2] = beta * (vp + alpha * pp)
    state[3] = ry + beta * beta * pp
    state[4] = np.sqrt(rr)
    return last or state[4] <= enough


@Kernel
def evaluate(X, weights, center, target, mean, error, rows):
    """The exact loss at weights z, of all X (n, D): fills mean (D,), error = C - S and rows (3, n).

    rows = 2 x_i^T E y_i, the gradient; 2 x_i^T E x_i; and ||g_i||^2. 4nD^2 flops, three reads of X.
    """
    n, d = X.shape
    step = max(CHUNK_ROWS, min(CHUNK_BYTES // (X.itemsize * d), (n + CHUNKS - 1) // CHUNKS))
    chunks = (n + step - 1) // step
    parts, sums = np.empty((chunks, d, d)), np.zeros((chunks, d))
    mean[:] = 0.0
    if center:
        for c in prange(chunks):
            for i in range(c * step, min((c + 1) * step, n)):
                for j in range(d):
                    sums[c, j] += weights[i] * X[i, j]
        for c in range(chunks):
            for j in range(d):
                mean[j] += sums[c, j] / n
    for c in prange(chunks):
        start, end = c * step, min((c + 1) * step, n)
        A = np.empty((end - start, d), X.dtype)
        for i in range(start, end):
            for j in range(d):
                A[i - start, j] = weights[i] * X[i, j] - mean[j]
        product = np.dot(A.T, A)
        for a in range(d):
            for b in range(d):
                parts[c, a, b] = product[a, b]
    for a in range(d):
        for b in range(d):
            error[a, b] = -target[a, b]
    for c in range(chunks):
        for a in range(d):
            for b in range(d):
                error[a, b] += parts[c, a, b]
    M = np.empty((d, d), X.dtype)
    for a in range(d):
        for b in range(d):
            M[a, b] = 2.0 * error[a, b]
    for c in prange(chunks):
        start, end = c * step, min((c + 1) * step, n)
        A = np.dot(X[start:end], M)
        for i in range(start, end):
            slope, bend, xx, xy, yy = 0.0, 0.0, 0.0, 0.0, 0.0
            for j in range(d):
                x = np.float64(X[i, j])
                y = weights[i] * x - mean[j]
                slope += A[i - start, j] * y
                bend += A[i - start, j] * x
                xx += x * x
                xy += x * y
                yy += y * y
            rows[0, i], rows[1, i], rows[2, i] = slope, bend, 2.0 * (xx * yy + xy * xy)


@Kernel
def model_step(X, weights, mean, error, bends, ridge, free, diagonal, limits, state, vectors, slope):
    """Iterates `advance` from what `begin` left, at most limits[2] times; state[5] counts.

    H p = 2 [rowsum((X M) * Y) - X (E m)] + (bends + ridge) p with M = G p = X^T diag(p) Y + its transpose
    and m = X^T p / n; error E is zero where there is no mean. X (n, D) is all that there is; vectors (3, n)
    holds v, r and p. 4nD^2 flops and two reads of X each time.
    """
    n, d = X.shape
    step = max(CHUNK_ROWS, min(CHUNK_BYTES // (X.itemsize * d), (n + CHUNKS - 1) // CHUNKS))
    chunks = (n + step - 1) // step
    v, r, p = vectors[0], vectors[1], vectors[2]
    parts = np.empty((chunks, d + 1, d))
    half, Gp, M = np.empty((d + 1, d)), np.empty((d, d)), np.empty((d, d), X.dtype)
    offset, Hp = np.empty(d), np.empty(n)
    while state[5] < limits[2]:
        state[5] += 1.0
        for c in prange(chunks):
            start, end = c * step, min((c + 1) * step, n)
            part, A = parts[c], np.empty((end - start, d), X.dtype)
            part[d, :] = 0.0
            for i in range(start, end):
                for j in range(d):
                    A[i - start, j] = p[i] * (weights[i] * X[i, j] - mean[j])
                    part[d, j] += p[i] * X[i, j]
            product = np.dot(X[start:end].T, A)
            for a in range(d):
                for b in range(d):
                    part[a, b] = product[a, b]
        half[:] = 0.0
        for c in range(chunks):
            for a in range(d + 1):
                for b in range(d):
                    half[a, b] += parts[c, a, b]
        for a in range(d):
            o = 0.0
            for b in range(d):
                Gp[a, b] = half[a, b] + half[b, a]
                M[a, b] = 2.0 * Gp[a, b]
                o += error[a, b] * half[d, b]
            offset[a] = 2.0 / n * o
        for c in prange(chunks):
            start, end = c * step, min((c + 1) * step, n)
            A = np.dot(X[start:end], M)
            for i in range(start, end):
                s = 0.0
                for j in range(d):
                    s += A[i - start, j] * (weights[i] * X[i, j] - mean[j]) - X[i, j] * offset[j]
                Hp[i] = s + (bends[i] + ridge) * p[i]
        if advance(Hp, Gp, free, diagonal, limits, state, v, r, p, slope):
            break
