"""Symmetric matrices as vectors over the P = D(D+1)/2 pairs of conditions: packed symmetric storage.

Entries off the diagonal count twice in ⟨A, B⟩ = Σ A_ab B_ab, so they are scaled by √2: inner products are
preserved.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def pack(M: Array) -> Array:
    """Pack symmetric matrices (T, D, D) into vectors (T, P)."""
    i, j = np.triu_indices(M.shape[-1])
    return np.ascontiguousarray(M[:, i, j] * np.where(i == j, 1.0, np.sqrt(2.0)))


def unpack(V: Array, D: int) -> Array:
    """Unpack vectors (T, P) to symmetric matrices (T, D, D)."""
    i, j = np.triu_indices(D)
    M = np.empty((len(V), D, D))
    M[:, i, j] = M[:, j, i] = V * np.where(i == j, 1.0, np.sqrt(0.5))
    return M
