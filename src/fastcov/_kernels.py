"""All compiled code: arrays in, arrays out.

Arrays are C-contiguous and writeable. `X` is a block of rows (n, D) in float32 or float64; weights,
means and sums are float64. `Y` below is the weighted, centred block, y_ij = w_i x_ij - m_j. It is
made on the fly: nothing of the size of X is ever allocated here.

Inner loops run over slices: an index that is a difference may be negative for all that the compiler
knows, and such a loop is not vectorised (two to six times slower).

Callers and callees stay in this file: Numba's cache does not notice an edited callee elsewhere.
"""

import numpy as np
from numba import prange

from ._jit import Kernel, inlined, inner

# Rows that one thread sums on its own. Partial sums are added in fixed order, so that a result does
# not depend on the number of threads.
SUM_ROWS = 256
# Edge of a square tile: two float64 tiles of this edge fill a 64 KiB first-level cache. And of the blocks in
# which a tile is transposed, in registers: of a fixed size, which is 2.3 times faster.
TILE, BLOCK = 64, 8
# Rows that meet a matrix at once: as many as are in the second-level cache, but no more than an eighth of
# all, so that there is work for some threads, and no fewer than a BLAS call is worth.
CHUNK_BYTES, CHUNKS, CHUNK_ROWS = 1 << 18, 8, 64


@Kernel
def weighted_sums(X, bits, mask, weights, sums, sizes):
    """sums[b] = sum_i w_i x_i over the b-th SUM_ROWS rows; sizes[i] = max_j |x_ij|.

    sums (ceil(n / SUM_ROWS), D). bits (n, D) are X and sizes (n,) the sizes seen as whole numbers, of which
    mask leaves the sign out: those are in the order of magnitudes, and unlike floats, which may be NaN, they
    have a maximum that is vectorised. 3nD flops, one read of X. A NaN or an infinity in X comes out in sums.
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
    """Rows of X (n, D) that meet a matrix at once."""
    return max(CHUNK_ROWS, min(CHUNK_BYTES // (itemsize * d), (n + CHUNKS - 1) // CHUNKS))


@Kernel
def atom_products(X, first, weights, mean, V, parts, total):
    """Adds sum_i v_ti x_i y_i^T to the first D rows of total_t (T, D + 1, D), and sum_i v_ti x_i to its last.

    X (n, D) holds the channels from `first` on of weights (N,) and V (T, N). Each of `parts` (p, T, D + 1, D)
    takes the sum over a part of the rows, in float64; what is in the caches at once is multiplied in the
    precision of X. 2TnD^2 flops, one read of X.
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

    Rows as in `atom_products`; offsets o (T, D); out (T, N), and squares (T, N) or (T, 0) where they
    are not wanted. 2TnD^2 flops, one read of X; the dots are summed in float64.
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
    """Adds sum_i y_i y_i^T to total (D, D); all else as in `atom_products`. 2nD^2 flops."""
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
    """out_i = the sums of x_i y_i^T on the diagonal, x_i.y_i, and off it (n, 2). 4nD flops, one read of X."""
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
    """Copy the block of A (n, n) at (top, left), as far as it is below the diagonal, to above it."""
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

    With a_i = y_i.m and c = m.m:  2 [ (k + a_i + a_j + c) k + (k + a_i)(k + a_j) ], k = K_ij.
    4.5 N^2 flops; `mirror` != 0 copies the result to the upper triangle. No other memory.
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
    """The same for a block K = Y Y'^T of the rows of Y and Y', with b_j = y'_j.m. In place."""
    n, k = K.shape
    for i in prange(n):
        for j in range(k):
            v = K[i, j]
            K[i, j] = 2.0 * ((v + a[i] + b[j] + c) * v + (v + a[i]) * (v + b[j]))


@Kernel
def block_from_products(XX, YX, XY, YY):
    """YY_ij = 2 [ (x_i.x_j)(y_i.y_j) + (x_i.y_j)(y_i.x_j) ], at any gains, in place. 4nk flops.

    All (n, k): XX_ij = x_i.x_j, YX_ij = y_i.x_j, and so on.
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

    packed (K, D (D + 1) / 2) holds upper triangles row by row; w (K, D); S (T, D, D), T = 1 or K.
    kept[k] = trace(P_k - w_k w_k^T) / trace(P_k), the share that the subtraction leaves. 2.5 K D^2
    flops, one pass over packed.
    """
    d = w.shape[1]
    for k in prange(packed.shape[0]):
        # a parallel index is unsigned, and unifies with a signed one to a float
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
    """out[k] = E_k v_k from packed upper triangles, whose off-diagonal entries are then doubled.

    Doubled, packed[k] . (upper triangle of x x^T) = x^T E_k x. v and out (K, D). 2 K D^2 flops.
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

    So scaled, inner products of rows are those of the matrices. X and Y (n, D), out (n, D (D + 1) / 2).
    2 n D^2 flops.
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


@Kernel
def pivoted_rows(B, least, accepted, rows):
    """Pivoted Cholesky of B (n, n) in place, each pivot taken where B_jj, by then, is above least[j].

    accepted[j] = 1 for those, whose columns of the factor are written to rows[j] (n, n); accepted[n] is
    the most that may be taken. 2 n^2 flops a pivot; what B holds then is what they leave.
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
