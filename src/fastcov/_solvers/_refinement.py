"""Iterative refinement: digits that a factor lacks, from residuals in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ._solution import System

Array = NDArray[np.float64]

# Stop at a residual that a float64 factor would leave, or where a step does not halve it.
REFINED = 1e-13
MAX_STEPS = 20


def refine(system: System, rhs: Array, approximate: Callable[[Array], Array]) -> tuple[Array, int, float]:
    """x += approximate(b − A x) for the rows b of `rhs` (T, N), A = GᵀG + λI.

    Returns x, the steps after the first, and the largest residual beside that of `rhs`.
    """
    system = system.astype(np.float64)
    scale = np.abs(rhs).max(axis=1, keepdims=True)
    scale[scale == 0] = 1.0
    x, left, last = np.zeros_like(rhs), rhs / scale, np.inf
    steps = -1
    while steps < MAX_STEPS:
        x += approximate(left)
        steps += 1
        left = rhs / scale - system.product(x)
        size = float(np.abs(left).max())
        if size <= REFINED or not size <= last / 2:
            break
        last = size
    return x * scale, steps, size
