"""Iterative refinement: float64 residuals recover the digits that a factor lacks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Stop at the residual that a float64 factor would leave, or when a step does not halve it.
REFINED = 1e-13
MAX_STEPS = 20


def refine(
    product: Callable[[Array], Array], rhs: Array, approximate: Callable[[Array], Array]
) -> tuple[Array, int, float]:
    """x += approximate(b − A x) for the rows b of `rhs` (T, N), with A x the product in float64.

    Each row is refined as long as that helps, and may have its own A. Returns x, the number of steps after
    the first, and the largest residual relative to `rhs`.
    """
    scale = np.abs(rhs).max(axis=1, keepdims=True)
    scale[scale == 0] = 1.0
    x, left, last = np.zeros_like(rhs), rhs / scale, np.full(len(rhs), np.inf)
    steps = -1
    while steps < MAX_STEPS:
        x += approximate(left)
        steps += 1
        left = rhs / scale - product(x)
        size = np.abs(left).max(axis=1)
        going = (size > REFINED) & (size <= last / 2)
        if not going.any():
            break
        left[~going] = 0.0  # rows that are done stay as they are
        last = size
    return x * scale, steps, float(size.max())
