"""Compiled code for the exact loss of one vector of gains in one call."""

import numpy as np

from .._compute.jit import Kernel
from .._compute.kernels import SUM_ROWS

# Places in the numbers that the kernel finds: the sums of squares of X, z and S, and the asymmetry of S.
OF_X, OF_GAINS, OF_TARGET, SKEW, NUMBERS = range(5)


@Kernel
def whole_error(X, weights, target, center, step, parts, error, gradient, numbers):
    """E = Y^T Y - S (D, D) of all X (n, D) at weights z, and the gradient 2 x_i^T E y_i (n,).

    No gradient is computed if its length is 0. The sums are those of `weighted_sums`, `centred_products` and
    `mirror_lower`, with `step` rows at once and `parts` parts. 2nD^2 flops and two reads of X; the gradient
    takes as many flops again, and one read. The kernel also fills numbers, which tell whether its results can
    be used.
    """
    n, d = X.shape
    mean, sums, squares = np.zeros(d), np.empty(d), np.zeros(d)
    of_gains = 0.0
    for first in range(0, n, SUM_ROWS):
        sums[:] = 0.0
        for i in range(first, min(n, first + SUM_ROWS)):
            w, x = weights[i], X[i]
            of_gains += w * w
            for j in range(d):
                sums[j] += w * x[j]
            for j in range(d):
                v = np.float64(x[j])
                squares[j] += v * v
        for j in range(d):
            mean[j] += sums[j]
    of_x = 0.0
    for j in range(d):
        of_x += squares[j]
        mean[j] = mean[j] / n if center else 0.0
    A, product, part = np.empty((step, d), X.dtype), np.empty((d, d), X.dtype), np.empty((d, d))
    error[:] = 0.0
    for p in range(parts):
        part[:] = 0.0
        stop = (p + 1) * n // parts
        for start in range(p * n // parts, stop, step):
            end = min(start + step, stop)
            for i in range(start, end):
                w, x, y = weights[i], X[i], A[i - start]
                for j in range(d):
                    y[j] = w * x[j] - mean[j]
            np.dot(A[: end - start].T, A[: end - start], product)
            for a in range(d):
                for b in range(d):
                    part[a, b] += product[a, b]
        for a in range(d):
            for b in range(d):
                error[a, b] += part[a, b]
    of_target, skew = 0.0, 0.0
    for a in range(d):
        for b in range(d):
            of_target += target[a, b] * target[a, b]
        for b in range(a + 1):
            skew += abs(target[a, b] - target[b, a])
            e = error[a, b] - target[a, b]
            error[a, b] = e
            error[b, a] = e
    numbers[OF_X], numbers[OF_GAINS], numbers[OF_TARGET], numbers[SKEW] = of_x, of_gains, of_target, skew
    if len(gradient):
        for a in range(d):
            for b in range(d):
                product[a, b] = 2.0 * error[a, b]
        for start in range(0, n, step):
            end = min(start + step, n)
            np.dot(X[start:end], product, A[: end - start])
            for i in range(start, end):
                w, x, m = weights[i], X[i], A[i - start]
                s = 0.0
                for j in range(d):
                    s += m[j] * (w * x[j] - mean[j])
                gradient[i] = s
