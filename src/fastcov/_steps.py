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
# Of a plain squared norm, what rounding may leave where a metric takes all, for each condition.
LOST = 8.0 * 2.0**-52
# Places in the numbers that a step is made of, with y = r / diagonal and norms of v and p those of the
# diagonal: r.y, ||v||^2, v.p, ||p||^2, ||r|| / max |g|, max |g|, iterations; then what ends it: the radius,
# ||r|| / max |g| that is enough, iterations at most.
RY, VV, VP, PP, LEFT, LARGEST, COUNT, RADIUS, ENOUGH, MOST, NUMBERS = range(11)


@inner
def begin(gradient: Any, diagonal: Any, numbers: Any, vectors: Any, slope: Any) -> None:
    """v = 0, r = g, p = -r / diagonal, the rows of vectors (3, n); zero where the diagonal is infinite."""
    v, r, p = vectors[0], vectors[1], vectors[2]
    slope[:] = 0.0
    largest, ry, rr = 0.0, 0.0, 0.0
    for i in range(len(r)):
        v[i] = 0.0
        r[i] = gradient[i] if diagonal[i] < np.inf else 0.0
        p[i] = -r[i] / diagonal[i]
        ry -= r[i] * p[i]
        largest = max(largest, abs(r[i]))
    if largest > 0.0:
        for i in range(len(r)):
            rr += (r[i] / largest) ** 2
    numbers[RY], numbers[VV], numbers[VP], numbers[PP] = ry, 0.0, 0.0, ry
    numbers[LEFT], numbers[LARGEST], numbers[COUNT] = np.sqrt(rr), largest, 0.0


@inner
def advance(Hp: Any, Gp: Any, diagonal: Any, numbers: Any, vectors: Any, slope: Any) -> bool:
    """One iteration of Steihaug and Toint, given H p and G p; True where it is the last.

    A step goes to the edge of the trust region where it would leave it, or where the curvature along p is
    not positive: if there is no edge, LEAP times as far as it came.
    """
    v, r, p = vectors[0], vectors[1], vectors[2]
    radius, ry, vv, vp, pp = numbers[RADIUS], numbers[RY], numbers[VV], numbers[VP], numbers[PP]
    curvature = 0.0
    for i in range(len(p)):
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
        if diagonal[i] < np.inf:
            r[i] += alpha * Hp[i]
        rr += (r[i] / numbers[LARGEST]) ** 2
        ry += r[i] * (r[i] / diagonal[i])
    beta = ry / before
    for i in range(len(p)):
        p[i] = beta * p[i] - r[i] / diagonal[i]
    numbers[RY], numbers[VV] = ry, vv + alpha * (2.0 * vp + alpha * pp)
    numbers[VP], numbers[PP] = beta * (vp + alpha * pp), ry + beta * beta * pp
    numbers[LEFT] = np.sqrt(rr)
    numbers[COUNT] += 1.0
    return last or numbers[LEFT] <= numbers[ENOUGH]


@inner
def chunk_rows(n: Any, d: Any, itemsize: Any) -> int:
    """Rows that meet a matrix at once, as in `_kernels`; here, for the sake of Numba's cache."""
    return max(CHUNK_ROWS, min(CHUNK_BYTES // (itemsize * d), (n + CHUNKS - 1) // CHUNKS))


@inner
def image(M: Any, root: Any, means: Any, out: Any) -> None:
    """out = R M for M (d, d), which may be the same: see `Metric`. means (2, 2)."""
    d, weighted = len(M), len(root) > 0
    on, off = 0.0, 0.0
    for a in range(d):
        for b in range(d):
            m = M[a, b] * root[a, b] ** 2 if weighted else M[a, b]
            if a == b:
                on += m
            else:
                off += m
    taken_on, taken_off = means[0, 0] * on + means[0, 1] * off, means[1, 0] * on + means[1, 1] * off
    for a in range(d):
        for b in range(d):
            m = M[a, b] - (taken_on if a == b else taken_off)
            out[a, b] = m * root[a, b] if weighted else m


@Kernel
def evaluate(X, weights, center, target, root, means, mean, errors, rows):
    """The exact loss at weights z, of all X (n, D): fills mean (D,), errors (3, D, D) and rows (3, n).

    errors = E = C - S, and unless `means` is empty R E and R^T R E. rows = 2 x_i^T E y_i, the gradient;
    2 x_i^T E x_i, both of R^T R E; and ||g_i||^2, of R g_i unless `root` holds weights. 4nD^2 flops, three
    reads of X.
    """
    error = errors[0]
    n, d = X.shape
    step = chunk_rows(n, d, X.itemsize)
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
    counted, on_on, on_off, off_off = error, 0.0, 0.0, 0.0
    if len(means):
        image(error, root, means, errors[1])
        counted = errors[2]
        for a in range(d):
            for b in range(d):
                counted[a, b] = errors[1, a, b] * root[a, b] if len(root) else errors[1, a, b]
        if not len(root):
            on_on, on_off, off_off = means[0, 0], means[0, 1] + means[1, 0], means[1, 1]
    M = np.empty((d, d), X.dtype)
    for a in range(d):
        for b in range(d):
            M[a, b] = 2.0 * counted[a, b]
    for c in prange(chunks):
        start, end = c * step, min((c + 1) * step, n)
        A = np.dot(X[start:end], M)
        for i in range(start, end):
            slope, bend, xx, xy, yy, sx, sy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for j in range(d):
                x = np.float64(X[i, j])
                y = weights[i] * x - mean[j]
                slope += A[i - start, j] * y
                bend += A[i - start, j] * x
                xx += x * x
                xy += x * y
                yy += y * y
                sx += x
                sy += y
            off = sx * sy - xy
            plain, taken = (
                xx * yy + xy * xy,
                2.0 * (on_on * xy * xy + on_off * xy * off + off_off * off * off),
            )
            rows[0, i], rows[1, i] = slope, bend
            rows[2, i] = 0.0 if plain - taken <= LOST * d * plain else 2.0 * (plain - taken)


@Kernel
def model_step(X, weights, mean, error, root, means, own, diagonal, numbers, vectors, slope):
    """Iterates `advance` from what `begin` left.

    H p = 2 [rowsum((X M) * Y) - X (E m)] + own * p with M = G p = X^T diag(p) Y + its transpose and
    m = X^T p / n; unless `means` is empty M = R^T R G p, and the slope is of R G p; E is zero where there
    is no mean; own (n,), the bends and the ridge. X (n, D) is all that there is. 4nD^2 flops and two reads
    of X each time.
    """
    n, d = X.shape
    step = chunk_rows(n, d, X.itemsize)
    chunks = (n + step - 1) // step
    p = vectors[2]
    parts = np.empty((chunks, d + 1, d))
    half, Gp, M = np.empty((d + 1, d)), np.empty((d, d)), np.empty((d, d), X.dtype)
    offset, Hp = np.empty(d), np.empty(n)
    while numbers[COUNT] < numbers[MOST]:
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
                o += error[a, b] * half[d, b]
            offset[a] = 2.0 / n * o
        if len(means):
            image(Gp, root, means, Gp)
        for a in range(d):
            for b in range(d):
                M[a, b] = 2.0 * Gp[a, b] * root[a, b] if len(root) else 2.0 * Gp[a, b]
        for c in prange(chunks):
            start, end = c * step, min((c + 1) * step, n)
            A = np.dot(X[start:end], M)
            for i in range(start, end):
                s = 0.0
                for j in range(d):
                    s += A[i - start, j] * (weights[i] * X[i, j] - mean[j]) - X[i, j] * offset[j]
                Hp[i] = s + own[i] * p[i]
        if advance(Hp, Gp, diagonal, numbers, vectors, slope):
            break
