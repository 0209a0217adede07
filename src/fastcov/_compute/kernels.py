"""Compiled code: arrays in, arrays out.

Arrays are C-contiguous and writeable. `X` is a block of rows (n, D) in float32 or float64; weights,
means and sums are float64. `Y` below is the weighted, centred block, y_ij = w_i x_ij - m_j. It is
made on the fly: nothing of the size of X is ever allocated here.

Inner loops run over slices. The compiler cannot rule out that an index which is a difference is negative,
and it does not vectorise such a loop (two to six times slower).

Callers and callees stay in this file: Numba's cache does not notice an edited callee in another file.
"""

import numpy as np
from numba import prange

from .jit import Kernel, inlined, inner

# Rows that one thread sums on its own. Partial sums are added in a fixed order, so that the result does
# not depend on the number of threads.
SUM_ROWS = 256
# TILE is the edge of a square tile: two float64 tiles of this edge fill a 64 KiB first-level cache. BLOCK is
# the edge of the blocks in which a tile is transposed, in registers; a fixed size is 2.3 times faster.
TILE, BLOCK = 64, 8
# Rows that are multiplied by a matrix at once: as many as fit the second-level cache, but no more than an
# eighth of all rows, so that several threads have work, and no fewer than make a BLAS call worthwhile.
CHUNK_BYTES, CHUNKS, CHUNK_ROWS = 1 << 18, 8, 64


@Kernel
def weighted_sums(X, bits, mask, weights, sums, sizes):
    """sums[b] = sum_i w_i x_i over the b-th group of SUM_ROWS rows; sizes[i] = max_j |x_ij|.

    sums is (ceil(n / SUM_ROWS), D). bits (n, D) is X, and sizes (n,) are the sizes, both viewed as whole
    numbers; mask removes the sign bit. Whole numbers without sign are in the order of the magnitudes, and
    their maximum is vectorised, unlike that of floats, which may be NaN. 3nD flops, one read of X. A NaN or
    an infinity in X shows in sums.
    """
    n, d = X.shape
    for b in prange(sums.shape[0]):
        total = sums[b]
        total[:] = 0.0
        for i in range(b * SUM_ROWS, min(n, (b + 1) * SUM_ROWS)):
            x, w = X[i], weights[i]
            for j in range(d):
                total[j] += w * x[j]
            x_bits, size = bits[i], 0
            for j in range(d):
                size = max(size, x_bits[j] & mask)
            sizes[i] = size


@Kernel
def centred_rows(X, weights, mean, scales, out):
    """out_ij = s_i (w_i x_ij - m_j). 3nD flops, one read of X and one write of out."""
    n, d = X.shape
    for i in prange(n):
        w = weights[i]
        s = scales[i]
        for j in range(d):
            out[i, j] = s * (w * X[i, j] - mean[j])


@inner
def chunk_rows(n, d, itemsize):
    """Number of rows of X (n, D) that are multiplied by a matrix at once."""
    return max(CHUNK_ROWS, min(CHUNK_BYTES // (itemsize * d), (n + CHUNKS - 1) // CHUNKS))


@Kernel
def atom_products(X, first, weights, mean, V, parts, total):
    """Add sum_i v_ti x_i y_i^T to the first D rows of total_t (D + 1, D), and sum_i v_ti x_i to its last row.

    X (n, D) holds n of the N channels, from number `first` on; weights (N,) and V (T, N) hold all. total is
    (T, D + 1, D). Each of `parts` (p, T, D + 1, D) takes the sum over one part of the rows, in float64. The
    rows that are multiplied at once, which fit the caches, are multiplied in the precision of X. 2TnD^2
    flops, one read of X.
    """
    n, d = X.shape
    step = chunk_rows(n, d, X.itemsize)
    for p in prange(len(parts)):
        stop = (p + 1) * n // len(parts)
        A = np.empty((step, d), X.dtype)
        product = np.empty((d, d), X.dtype)
        part = parts[p]
        part[:] = 0.0
        for start in range(p * n // len(parts), stop, step):
            end = min(start + step, stop)
            for t in range(len(V)):
                for i in range(start, end):
                    w, v = weights[first + i], V[t, first + i]
                    for j in range(d):
                        A[i - start, j] = v * (w * X[i, j] - mean[j])
                        part[t, d, j] += v * X[i, j]
                np.dot(X[start:end].T, A[: end - start], product)
                for a in range(d):
                    for b in range(d):
                        part[t, a, b] += product[a, b]
    for a in prange(d + 1):
        for t in range(len(V)):
            for p in range(len(parts)):
                for b in range(d):
                    total[t, a, b] += parts[p, t, a, b]


@Kernel
def adjoint_products(X, first, weights, mean, M, offsets, out, squares):
    """out_ti = x_i^T M_t y_i - x_i.o_t and squares_ti = x_i^T M_t x_i, for symmetric M (T, D, D).

    Rows are as in `atom_products`. offsets o are (T, D), out is (T, N), and squares are (T, N), or (T, 0)
    where they are not wanted. 2TnD^2 flops, one read of X; inner products are summed in float64.
    """
    n, d = X.shape
    step = chunk_rows(n, d, X.itemsize)
    for c in prange((n + step - 1) // step):
        start, end = c * step, min((c + 1) * step, n)
        A = np.empty((end - start, d), X.dtype)
        for t in range(len(M)):
            np.dot(X[start:end], M[t], A)
            for i in range(start, end):
                w = weights[first + i]
                s, q = 0.0, 0.0
                for j in range(d):
                    s += A[i - start, j] * (w * X[i, j] - mean[j]) - X[i, j] * offsets[t, j]
                    q += A[i - start, j] * X[i, j]
                out[t, first + i] = s
                if squares.shape[1]:
                    squares[t, first + i] = q


@Kernel
def centred_products(X, first, weights, mean, parts, total):
    """Add sum_i y_i y_i^T to total (D, D); otherwise as `atom_products`. 2nD^2 flops."""
    n, d = X.shape
    step = chunk_rows(n, d, X.itemsize)
    for p in prange(len(parts)):
        part = parts[p]
        part[:] = 0.0
        stop = (p + 1) * n // len(parts)
        A = np.empty((step, d), X.dtype)
        product = np.empty((d, d), X.dtype)
        for start in range(p * n // len(parts), stop, step):
            end = min(start + step, stop)
            for i in range(start, end):
                w = weights[first + i]
                for j in range(d):
                    A[i - start, j] = w * X[i, j] - mean[j]
            np.dot(A[: end - start].T, A[: end - start], product)
            for a in range(d):
                for b in range(d):
                    part[a, b] += product[a, b]
    for a in prange(d):
        for p in range(len(parts)):
            for b in range(d):
                total[a, b] += parts[p, a, b]


@Kernel
def squared_norms(X, weights, mean, out):
    """out_i = ||g_i||^2 = 2 [ (x_i.x_i)(y_i.y_i) + (x_i.y_i)^2 ]. 9nD flops, one read of X."""
    n, d = X.shape
    for i in prange(n):
        w = weights[i]
        xx = 0.0
        xy = 0.0
        yy = 0.0
        for j in range(d):
            x = np.float64(X[i, j])
            y = w * x - mean[j]
            xx += x * x
            xy += x * y
            yy += y * y
        out[i] = 2.0 * (xx * yy + xy * xy)


@Kernel
def atom_sums(X, weights, mean, out):
    """out_i = the sum of x_i y_i^T on its diagonal, x_i.y_i, and the sum off it; out is (n, 2).

    4nD flops, one read of X.
    """
    n, d = X.shape
    for i in prange(n):
        w = weights[i]
        xy = 0.0
        sx = 0.0
        sy = 0.0
        for j in range(d):
            x = np.float64(X[i, j])
            y = w * x - mean[j]
            xy += x * y
            sx += x
            sy += y
        out[i, 0] = xy
        out[i, 1] = sx * sy - xy


@inlined
def mirror_block(A, top, left):
    """Copy the part below the diagonal of the block of A (n, n) at (top, left) to above the diagonal."""
    n = A.shape[0]
    if top + BLOCK <= n and left + BLOCK <= top:
        for j in range(BLOCK):
            for i in range(BLOCK):
                A[left + j, top + i] = A[top + i, left + j]
    else:
        for j in range(left, min(n, left + BLOCK)):
            for i in range(max(j + 1, top), min(n, top + BLOCK)):
                A[j, i] = A[i, j]


@Kernel
def gram_from_product(K, a, c, mirror):
    """Turn the lower triangle of K = Y Y^T (N, N) into that of G^T G in place, at gains of one.

    With the mean m, a_i = y_i.m and c = m.m, k = K_ij becomes
    2 [ (k + a_i + a_j + c) k + (k + a_i)(k + a_j) ]. 4.5 N^2 flops; `mirror` != 0 copies the result to the
    upper triangle. It allocates no memory.
    """
    n = K.shape[0]
    edge = (n + TILE - 1) // TILE
    for t in prange(edge * (edge + 1) // 2):
        # tile t of the lower triangle is (p, q), q <= p, t = p (p + 1) / 2 + q
        p = np.intp((np.sqrt(8.0 * t + 1.0) - 1.0) / 2.0)
        while p * (p + 1) // 2 > t:
            p -= 1
        while (p + 1) * (p + 2) // 2 <= t:
            p += 1
        q = t - p * (p + 1) // 2
        for i in range(p * TILE, min(n, (p + 1) * TILE)):
            row, ai, aj = K[i, q * TILE : min(i + 1, (q + 1) * TILE)], a[i], a[q * TILE :]
            for j in range(len(row)):
                k = row[j]
                row[j] = 2.0 * ((k + ai + aj[j] + c) * k + (k + ai) * (k + aj[j]))
        if mirror:
            for top in range(p * TILE, min(n, (p + 1) * TILE), BLOCK):
                for left in range(q * TILE, min(top + 1, (q + 1) * TILE), BLOCK):
                    mirror_block(K, top, left)


@Kernel
def block_from_product(K, a, b, c):
    """As `gram_from_product`, in place, for a block K = Y Y'^T of rows of Y and Y', with b_j = y'_j.m."""
    n, k = K.shape
    for i in prange(n):
        for j in range(k):
            v = K[i, j]
            K[i, j] = 2.0 * ((v + a[i] + b[j] + c) * v + (v + a[i]) * (v + b[j]))


@Kernel
def block_from_products(XX, YX, XY, YY):
    """YY_ij = 2 [ (x_i.x_j)(y_i.y_j) + (x_i.y_j)(y_i.x_j) ], at any gains, in place. 4nk flops.

    All arrays are (n, k): XX_ij = x_i.x_j, YX_ij = y_i.x_j, and so on.
    """
    n, k = YY.shape
    for i in prange(n):
        for j in range(k):
            YY[i, j] = 2.0 * (XX[i, j] * YY[i, j] + XY[i, j] * YX[i, j])


@Kernel
def mirror_lower(A):
    """Copy the lower triangle of A (n, n) to the upper one, in place."""
    n = A.shape[0]
    for p in prange((n + BLOCK - 1) // BLOCK):
        top = np.intp(p) * BLOCK
        for left in range(0, top + 1, BLOCK):
            mirror_block(A, top, left)


@Kernel
def pivoted_rows(B, least, accepted, rows):
    """Partial Cholesky factor of B (n, n): j becomes a pivot where the B_jj that is left is above least[j].

    accepted[j] = 1 for a pivot, whose column of the factor is written to rows[j]; rows is (n, n).
    accepted[n] is the largest number of pivots. 2 n^2 flops a pivot. B is overwritten with the matrix that
    the pivots leave (the Schur complement).
    """
    n = B.shape[0]
    taken = 0
    for j in range(n):
        accepted[j] = 0
        if B[j, j] > least[j] and taken < accepted[n]:
            accepted[j] = 1
            taken += 1
            root = np.sqrt(B[j, j])
            for i in range(n):
                rows[j, i] = B[j, i] / root
            for i in range(n):
                c = rows[j, i]
                for k in range(n):
                    B[i, k] -= c * rows[j, k]


@Kernel.of(centred_products, mirror_lower, squared_norms, adjoint_products)
def whole_start(X, weights, mean, target, parts, covariance, norms, overlaps):
    """C (D, D), ||g_i||^2 (N,) and G^T (S_t - C) (T, N) for X (N, D) at its weights; S = target (T, D, D).

    It calls the kernels for these one after the other. 2(T + 1)ND^2 flops, three reads of X.
    """
    d = X.shape[1]
    covariance[:] = 0.0
    centred_products(X, 0, weights, mean, parts, covariance)
    mirror_lower(covariance)
    squared_norms(X, weights, mean, norms)
    M = np.empty(target.shape, X.dtype)
    for t in range(len(target)):
        for a in range(d):
            for b in range(d):
                M[t, a, b] = 2.0 * (target[t, a, b] - covariance[a, b])
    zeros, none = np.zeros((len(target), d)), np.empty((len(target), 0))
    adjoint_products(X, 0, weights, mean, M, zeros, overlaps, none)


@Kernel.of(mirror_lower)
def whole_gram(X, mean, sizes, A):
    """A = G^T G (N, N) at gains of one, by the formula of `gram_from_product`. N^2 D flops and more.

    Rows and columns are zero for channels whose entry of sizes (N,) is zero.
    """
    n, d = X.shape
    Y, a, alive, c = np.empty((n, d), X.dtype), np.zeros(n), np.empty(n), 0.0
    for i in range(n):
        s = 0.0
        alive[i] = 1.0 if sizes[i] > 0.0 else 0.0
        for j in range(d):
            y = X[i, j] - mean[j]
            Y[i, j] = y
            s += y * mean[j]
        a[i] = s
    for j in range(d):
        c += mean[j] * mean[j]
    for start in range(0, n, TILE):
        end = min(start + TILE, n)
        K = np.dot(Y[start:end], Y[:end].T)
        for i in range(start, end):
            row, out, ai = K[i - start, : i + 1], A[i, : i + 1], a[i]
            for j in range(len(row)):
                k = row[j]
                out[j] = alive[i] * alive[j] * 2.0 * ((k + ai + a[j] + c) * k + (k + ai) * (k + a[j]))
    mirror_lower(A)


@Kernel
def leading_value(A, tol, basis, found):
    """The largest eigenvalue of A (n, n), which has none below zero, by Lanczos from basis[0].

    basis is (m, n). found[0] is the eigenvalue, found[1] the relative residual (the norm of the residual of
    the eigenvector, divided by the eigenvalue), and found[2] the number of products. The relative error of
    the eigenvalue is of the order of the square of that residual. The iteration ends where the residual is at
    most tol, or when the basis is full.
    """
    m, n = basis.shape
    T, v = np.zeros((m, m)), basis[0]
    v /= np.sqrt(np.dot(v, v))
    for k in range(m):
        v = basis[k]
        w = np.dot(A, v)
        for _again in range(2):
            for j in range(k + 1):
                s = np.dot(basis[j], w)
                if j == k:
                    T[k, k] += s
                for i in range(n):
                    w[i] -= s * basis[j, i]
        b = np.sqrt(np.dot(w, w))
        values, vectors = np.linalg.eigh(T[: k + 1, : k + 1].copy())
        found[0], found[1], found[2] = values[k], 0.0, k + 1
        if values[k] > 0.0:
            found[1] = b * abs(vectors[k, k]) / values[k]
        if found[1] <= tol or k + 1 == m:
            break
        T[k, k + 1] = T[k + 1, k] = b
        for i in range(n):
            basis[k + 1, i] = w[i] / b


@Kernel.of(atom_products, adjoint_products, centred_products, mirror_lower)
def whole_outcome(X, weights, mean, error, ridge, delta, center, parts, slopes, left, covariances):
    """G d_t (T, D, D), G^T (e_t - G d_t) - ridge d_t (T, N), and C (T, D, D) at gains of weights + d_t.

    error e is (T, D, D) and delta d is (T, N). No C is computed where covariances has length zero. It calls
    the kernels for these one after the other. 6TND^2 flops, T + 2 reads of X.
    """
    n, d = X.shape
    T = len(delta)
    total, M = np.zeros((T, d + 1, d)), np.empty(error.shape, X.dtype)
    atom_products(X, 0, weights, mean, delta, np.empty((len(parts), T, d + 1, d)), total)
    for t in range(T):
        for a in range(d):
            for b in range(d):
                s = total[t, a, b] + total[t, b, a]
                slopes[t, a, b] = s
                M[t, a, b] = 2.0 * (error[t, a, b] - s)
    adjoint_products(X, 0, weights, mean, M, np.zeros((T, d)), left, np.empty((T, 0)))
    gains, there = np.empty(n), mean.copy()
    for t in range(T):
        for i in range(n):
            left[t, i] -= ridge * delta[t, i]
    for t in range(len(covariances)):
        for i in range(n):
            gains[i] = weights[i] + delta[t, i]
        if center:
            for j in range(d):
                there[j] = mean[j] + total[t, d, j] / n
        C = covariances[t]
        C[:] = 0.0
        centred_products(X, 0, gains, there, parts, C)
        mirror_lower(C)
