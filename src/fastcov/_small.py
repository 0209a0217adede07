"""The exact loss of one vector of gains in one compiled call, for what fits the caches.

At 148 x 48 the arithmetic takes 20 us, and Python's share of the general road six times that. So what is
plain is checked and evaluated in one pass, by the same sums in the same order: the loss has the bits that the
general road would give, and is zero where a target is the covariance at the gains. Whatever is not plain, as
other kinds of arrays, names, units that have to be scaled, or numbers that are wrong, is left to that road,
which says what there is to say.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._compute.jit import PARALLEL_SIZE, Kernel
from ._compute.kernels import SUM_ROWS, chunk_rows
from ._model.problem import n_parts

Array = NDArray[np.float64]

# OpenBLAS gives products of more than 4 * 2**16 multiplications to its threads. Where rows meet a matrix in
# chunks of no more it need not be held at one, which takes 10 us.
ALONE = 1 << 18
# Sums of squares between these are of numbers that need no other units: the largest is at most the root of
# the sum, and at least that of the mean. Well within what `_compute.scaling.SAFE_EXPONENT` allows.
LEAST_SQUARE, LARGEST_SQUARE = 2.0**-36, 2.0**36
# And of targets, whose products with such responses stay in the range of float32.
LARGEST_TARGET = 2.0**80
# Places in what the kernel finds: sums of squares of X, z and S, and what S is off symmetry.
OF_X, OF_GAINS, OF_TARGET, SKEW, NUMBERS = range(5)


@Kernel
def whole_error(X, weights, target, center, step, parts, error, gradient, numbers):
    """E = Y^T Y - S (D, D) at weights z of all X (n, D), and 2 x_i^T E y_i (n,) unless that is of length 0.

    With the sums of `weighted_sums`, `centred_products` and `mirror_lower`: `step` rows at once, and so many
    parts. 2nD^2 flops and two reads of X, and as much again for the gradient, with one read. Fills numbers,
    which tell whether any of it can be used.
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
    step = int(chunk_rows(n, d, X.itemsize))
    if min(step, n) * d * d > ALONE:
        return None
    error, slope, numbers = np.empty((d, d)), np.empty(n if gradient else 0), np.empty(NUMBERS)
    with np.errstate(over="ignore", invalid="ignore"):  # where nothing is compiled
        whole_error(X, gains, S, center, step, n_parts(n, d), error, slope, numbers, size=0)
    of_x, of_gains, of_target, skew = numbers.tolist()
    if not (
        skew == 0.0 and of_target < LARGEST_TARGET
        and n * d * LEAST_SQUARE < of_x < LARGEST_SQUARE and n * LEAST_SQUARE < of_gains < LARGEST_SQUARE
    ):  # fmt: skip
        return None
    loss = 0.5 * np.square(error).sum()
    if ridge:
        delta = gains - 1.0
        loss += 0.5 * (ridge * np.square(delta).sum())
        if gradient:
            slope += ridge * delta
    return float(loss), slope if gradient else None


def _plain(array: Any, ndim: int) -> bool:
    """Whether it is an array that kernels take as it is, and nothing more."""
    return (
        type(array) is np.ndarray and array.ndim == ndim and array.dtype.char in "df"
        and array.flags.carray and array.dtype.isnative
    )  # fmt: skip
