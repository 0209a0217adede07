"""The exact loss of one vector of gains in one compiled call, for arguments that fit the caches.

At 148 x 48 the arithmetic takes 20 us, and Python's share of the general code six times that. So plain
arguments are checked and evaluated in one pass, with the same sums in the same order. The loss is bit for bit
the one that the general code would give, and it is zero where a target is the covariance at the gains.
Arguments that are not plain are left to the general code, which raises the errors. These are other kinds of
arrays, names, units that have to be scaled, and wrong numbers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute.jit import PARALLEL_SIZE
from .._compute.kernels import chunk_rows
from .._model.problem import n_parts
from .small_kernels import NUMBERS, whole_error

Array = NDArray[np.float64]

# OpenBLAS gives products of more than 4 * 2**16 multiplications to its threads. If no product of a chunk of
# rows takes more, OpenBLAS need not be held at one thread, which takes 10 us.
ALONE = 1 << 18
# If the sum of squares of some numbers is below the second, and their mean square above the first, they need
# no other units: the largest is at most the root of the sum, and at least the root of the mean. That is well
# within what `_inputs.validation.SAFE_EXPONENT` allows.
LEAST_SQUARE, LARGEST_SQUARE = 2.0**-36, 2.0**36
# The largest sum of squares of a target: its products with such responses stay in the range of float32.
LARGEST_TARGET = 2.0**80


def plain_loss(
    X: Any, S: Any, gains: Any, ridge: Any, center: Any, *, gradient: bool
) -> tuple[float, Array | None] | None:
    """The loss, and with `gradient` its gradient; None if the arguments are not plain."""
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
    with np.errstate(over="ignore", invalid="ignore"):  # matters only where nothing is compiled
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
    """Whether it is an ndarray, of no subclass, that kernels take as it is."""
    return (
        type(array) is np.ndarray and array.ndim == ndim and array.dtype.char in "df"
        and array.flags.carray and array.dtype.isnative
    )  # fmt: skip
