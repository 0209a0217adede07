"""The exact loss of one vector of gains in one compiled call, for what fits the caches.

At 148 x 48 the arithmetic takes 20 us, and Python's share of the general road six times that. So what is
plain is checked and evaluated in one pass. Whatever is not, as other kinds of arrays, names, units that have
to be scaled, or numbers that are wrong, is left to the general road, which says what there is to say.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._jit import PARALLEL_SIZE, Kernel, inner

Array = NDArray[np.float64]

# OpenBLAS gives products of more than 4 * 2**16 multiplications to its threads. In pieces below that it need
# not be held at one, which takes 10 us.
PIECE = 1 << 18
# Sums of squares between these are of numbers that need no other units: the largest is at most the root of
# the sum, and at least that of the mean. Well within what `_problem.SAFE_EXPONENT` allows.
LEAST_SQUARE, LARGEST_SQUARE = 2.0**-36, 2.0**36
# And of targets, whose products with such responses stay in the range of float32.
LARGEST_TARGET = 2.0**80
# Places in what the kernel finds: the loss, sums of squares of X, z and S, and what S is off symmetry.
LOSS, OF_X, OF_GAINS, OF_TARGET, SKEW, NUMBERS = range(6)


@inner
def piece_rows(d: Any) -> int:
    """Rows whose product with a matrix (d, d) is one thread's; here, for the sake of Numba's cache."""
    return max(1, PIECE // (d * d))


@Kernel
def whole_loss(X, weights, target, center, ridge, gradient, numbers):
    """The exact loss at weights z of all X (n, D), and its gradient (n,) unless that is of length 0.

    E = Y^T Y - S in float64 from products in the precision of X; the loss is ||E||^2 / 2 and
    ridge / 2 ||z - 1||^2, the gradient 2 x_i^T E y_i + ridge (z_i - 1). 2nD^2 flops and two reads of X, and
    as much again for the gradient, with one read. Fills numbers, which tell whether any of it can be used.
    """
    n, d = X.shape
    step = piece_rows(d)
    mean, error = np.zeros(d), np.empty((d, d))
    squares = np.zeros(d)
    of_gains, moved = 0.0, 0.0
    for i in range(n):
        w, x = weights[i], X[i]
        of_gains += w * w
        moved += (w - 1.0) * (w - 1.0)
        for j in range(d):
            v = np.float64(x[j])
            squares[j] += v * v
            mean[j] += w * v
    of_x = 0.0
    for j in range(d):
        of_x += squares[j]
        mean[j] = mean[j] / n if center else 0.0
    of_target, skew = 0.0, 0.0
    for a in range(d):
        for b in range(d):
            s = target[a, b]
            error[a, b] = -s
            of_target += s * s
        for b in range(a):
            skew += abs(target[a, b] - target[b, a])
    A, product = np.empty((min(step, n), d), X.dtype), np.empty((d, d), X.dtype)
    for start in range(0, n, step):
        end = min(start + step, n)
        for i in range(start, end):
            w, x, y = weights[i], X[i], A[i - start]
            for j in range(d):
                y[j] = w * x[j] - mean[j]
        np.dot(A[: end - start].T, A[: end - start], product)
        for a in range(d):
            for b in range(d):
                error[a, b] += product[a, b]
    left = 0.0
    for a in range(d):
        for b in range(d):
            left += error[a, b] * error[a, b]
            product[a, b] = 2.0 * error[a, b]
    numbers[LOSS] = 0.5 * left + 0.5 * ridge * moved
    numbers[OF_X], numbers[OF_GAINS], numbers[OF_TARGET], numbers[SKEW] = of_x, of_gains, of_target, skew
    if len(gradient):
        for start in range(0, n, step):
            end = min(start + step, n)
            np.dot(X[start:end], product, A[: end - start])
            for i in range(start, end):
                w, x, m = weights[i], X[i], A[i - start]
                s = 0.0
                for j in range(d):
                    s += m[j] * (w * x[j] - mean[j])
                gradient[i] = s + ridge * (w - 1.0)


def plain_loss(
    X: Any, S: Any, gains: Any, ridge: Any, center: Any, *, gradient: bool
) -> tuple[float, Array | None] | None:
    """The loss, and its gradient if asked for; None for all that is not plain."""
    if not (_plain(X, 2) and _plain(S, 2) and _plain(gains, 1)) or S.dtype != np.float64:
        return None
    n, d = X.shape
    if not 0 < n * d * d < PARALLEL_SIZE or S.shape != (d, d) or gains.shape != (n,):
        return None
    if gains.dtype != np.float64 or not (center is True or center is False):
        return None
    if type(ridge) not in (float, int, np.float64) or not 0.0 <= ridge < LARGEST_SQUARE:
        return None
    slope, numbers = np.empty(n if gradient else 0), np.empty(NUMBERS)
    whole_loss(X, gains, S, center, float(ridge), slope, numbers, size=0)
    loss, of_x, of_gains, of_target, skew = numbers.tolist()
    if not (
        skew == 0.0 and of_target < LARGEST_TARGET
        and n * d * LEAST_SQUARE < of_x < LARGEST_SQUARE and n * LEAST_SQUARE < of_gains < LARGEST_SQUARE
        and math.isfinite(loss)
    ):  # fmt: skip
        return None
    return loss, slope if gradient else None


def _plain(array: Any, ndim: int) -> bool:
    """Whether it is an array that kernels take as it is, and nothing more."""
    return (
        type(array) is np.ndarray and array.ndim == ndim and array.dtype.char in "df"
        and array.flags.carray and array.dtype.isnative
    )  # fmt: skip
