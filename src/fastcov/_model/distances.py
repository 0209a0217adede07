"""Distances: the metric under which atoms are squared differences between conditions.

With M = Σ_i w_i x_i x_iᵀ, the sums Σ_i w_i (x_ia − x_ib)² are the distances F(M)_ab = M_aa + M_bb − 2 M_ab.
The adjoint of F is twice the Laplacian of a symmetric matrix U, Fᵀ U = 2 (diag(U1) − U). So a problem whose
targets are distances is the plain one with R F in place of R, where R weighs pairs and removes an offset, as
in `metric`. A target of distances T is the target −T/2 of products, with a diagonal of zero.

Rows of X must sum to zero: differences stay the same, and inner products of atoms then have no further terms,

    Σ_ab (x_ia − x_ib)² (x_ja − x_jb)² = 2 [ D (x_i²)·(x_j²) + ‖x_i‖² ‖x_j‖² + 2 (x_i·x_j)² ].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.labels import UNLABELLED, Labels
from .metric import Metric, check_nuisance, check_pairs

Array = NDArray[np.float64]


class Distances(Metric):
    """Weights of pairs of different conditions, and whether an offset of all distances is removed."""

    @classmethod
    def of(cls, nuisance: Any, pairs: Any, D: int, labels: Labels = UNLABELLED) -> Distances:
        """As `Metric.of`; a condition is at no distance from itself, and that pair never counts."""
        weights = check_pairs(pairs, D, labels)
        weights = np.ones((D, D)) if weights is None else weights
        np.fill_diagonal(weights, 0.0)
        found = cls(check_nuisance(nuisance), weights, D)
        found._checked()
        return found

    @staticmethod
    def between(M: Array) -> Array:
        """F(M), the distances of products M (..., D, D)."""
        own = np.diagonal(M, axis1=-2, axis2=-1)
        return own[..., :, np.newaxis] + own[..., np.newaxis, :] - 2.0 * M

    @staticmethod
    def _laplacian(U: Array) -> Array:
        """Fᵀ U."""
        out = -2.0 * U
        places = np.arange(U.shape[-1])
        out[..., places, places] += 2.0 * U.sum(axis=-1)
        return out

    def image(self, M: Array) -> Array:
        """R F(M)."""
        return super().image(self.between(M))

    def adjoint(self, M: Array) -> Array:
        """Fᵀ Rᵀ M."""
        return self._laplacian(super().adjoint(M))

    def weighed(self, image: Array) -> Array:
        """Fᵀ Rᵀ of an image under R F."""
        return self._laplacian(super().weighed(image))

    def squares(self, M: Array) -> Array:
        """Σ_ab w_ab F(M)²_ab of each matrix of a stack (T, D, D)."""
        return super().squares(self.between(M))

    def terms(self, error: Array) -> Array:
        """The offset that leaves the least of F(error)."""
        return super().terms(self.between(error))
