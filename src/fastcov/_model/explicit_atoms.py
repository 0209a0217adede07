"""Atoms that are written out, one a row, for atoms that are not those of single channels.

Products with them, and all solvers of (GᵀG + P) δ = b, then need no responses.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._compute import blas
from .._inputs.labels import UNLABELLED
from .packed import pack, unpack
from .problem import BLOCK_BYTES, Problem

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class ExplicitAtoms(Problem):
    """A atoms, or their images under a metric, as packed rows of X (A, P); it is always in float64.

    To a solver they are what the channels of a `Problem` are, over D conditions.
    """

    n_conditions: int = 0

    @classmethod
    def of_rows(cls, rows: NDArray[np.float64], D: int) -> ExplicitAtoms:
        """Atoms from their packed images (A, P), which are not copied."""
        A, P = rows.shape
        sizes = np.abs(rows).max(axis=1)
        return cls(rows, rows.dtype, False, np.ones(A), np.zeros(P), sizes, labels=UNLABELLED, n_conditions=D)

    @property
    def shape(self) -> tuple[int, int]:
        """Atoms and conditions, (A, D)."""
        return len(self.X), self.n_conditions

    @property
    def block_rows(self) -> int:
        return max(1, min(len(self.X), BLOCK_BYTES // (8 * self.X.shape[1])))

    def astype(self, dtype: DTypeLike) -> ExplicitAtoms:
        return self

    def combined(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        """Σ v_a G_a for each row v of V (T, A), as a stack (T, D, D). 2AP flops for each."""
        return unpack(blas.product(V, self.X[:]), self.n_conditions)

    def inner(self, M: NDArray[np.float64]) -> NDArray[np.float64]:
        """⟨G_a, M⟩ for a stack of symmetric M (T, D, D), as rows (T, A). 2AP flops for each."""
        return blas.product(pack(M), self.X[:], tb=True)
