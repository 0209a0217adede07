"""Symmetric matrices as vectors over the P = D(D+1)/2 pairs of conditions: packed symmetric storage.

Entries off the diagonal count twice in ⟨A, B⟩ = Σ A_ab B_ab, so they are scaled by √2: inner products are
preserved.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@functools.lru_cache(maxsize=4)
def _pairs(D: int) -> tuple[Array, Array, Array, Array]:
    """Places of pairs among D² entries, and of their mirror images; scales to pack, and to unpack."""
    i, j = np.triu_indices(D)
    off = i != j
    return i * D + j, j * D + i, np.where(off, np.sqrt(2.0), 1.0), np.where(off, np.sqrt(0.5), 1.0)


def pack(M: Array) -> Array:
    """Pack symmetric matrices (T, D, D) into vectors (T, P)."""
    places, _, scale, _ = _pairs(M.shape[-1])
    return np.ascontiguousarray(M).reshape(len(M), -1)[:, places] * scale


def unpack(V: Array, D: int) -> Array:
    """Unpack vectors (T, P) to symmetric matrices (T, D, D)."""
    places, mirrored, _, scale = _pairs(D)
    M = np.empty((len(V), D * D))
    M[:, places] = M[:, mirrored] = V * scale
    return M.reshape(-1, D, D)
