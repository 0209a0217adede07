"""The linearised free model: one eigendecomposition of Γ serves every λ.

To first order in W, C − Γ = XᵀJWX and its transpose, and the minimum of ½‖S − C‖² + (λ/2)‖W‖² is
W = X̃ΩXᵀ with Ω = 2e, where e (D × D, symmetric) solves

    λe + 2(KeΓ + ΓeK) = S − Γ,    K = Γ + nnᵀ.

In the eigenvectors of Γ, with eigenvalues γ, the equation is

    e_ij = (E₀_ij − 2 n_i v_j − 2 v_i n_j) / (λ + 4γ_iγ_j),    v_i = γ_i Σ_j e_ij n_j.

If X has no mean over channels, n = 0, and that is all. Otherwise v follows from a D × D system, which is
symmetric and positive definite. (K and Γ together cannot be diagonalised to the same end: the generalised
eigenvectors of the pair are not orthogonal, and λe stays coupled in them.)
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .newton import conjugate_gradients
from .reduced import Reduced, both_ways, mirrored

Array = NDArray[np.float64]

# Relative residual of the conjugate gradients that take the place of the closed form with a metric.
METRIC_TOL = 1e-13


@dataclasses.dataclass(frozen=True, eq=False)
class Linearised:
    """The closed form for one target; `solve` gives Ω in the eigenvectors of Γ, `omega` in conditions."""

    reduced: Reduced
    S: Array

    @functools.cached_property
    def error(self) -> Array:
        """E₀ = S − Γ in the eigenvectors."""
        return self.rotated(self.S - self.reduced.covariance)

    @functools.cached_property
    def mean(self) -> Array:
        """n in the eigenvectors."""
        return np.einsum("ij,j->i", self.reduced.eigen[1], self.reduced.mean)

    def rotated(self, M: Array, *, back: bool = False) -> Array:
        vectors = self.reduced.eigen[1]
        return blas.product(blas.product(vectors, M, ta=back), vectors, tb=not back)

    def omega(self, ridge: float) -> Array:
        """Ω (D, D) in conditions. One D × D system, 2D³/3 flops, and 4D³."""
        if self.reduced.metric is not None:
            return self._weighed(ridge)
        return mirrored(self.rotated(self.solve(ridge), back=True))

    def solve(self, ridge: float) -> Array:
        """Ω (D, D) in the eigenvectors of Γ."""
        values, n = self.reduced.eigen[0], self.mean
        inverse = ridge + 4.0 * np.outer(values, values)
        least = np.finfo(np.float64).tiny
        with np.errstate(divide="ignore"):
            inverse = np.where(inverse > least, 1.0 / inverse, 0.0)
        if not n.any():
            out: Array = self.error * inverse
            out *= 2.0
            return out
        live = np.flatnonzero(values > 0.0)
        v = np.zeros(len(n))
        if len(live):
            right = np.einsum("ij,ij,j->i", self.error, inverse, n)[live]
            A = 2.0 * inverse[np.ix_(live, live)] * n[live, np.newaxis] * n[live]
            A[np.diag_indices(len(live))] += (
                1.0 / values[live] + 2.0 * np.einsum("ij,j->i", inverse, n * n)[live]
            )
            # The diagonal may span many orders of magnitude, so it is scaled to one.
            scale = 1.0 / np.sqrt(np.diagonal(A))
            A *= scale[:, np.newaxis] * scale
            blas.cholesky(A)
            v[live] = scale * blas.cholesky_solve(A, (scale * right)[np.newaxis])[0]
        cross = np.outer(n, v)
        out = self.error - 2.0 * (cross + cross.T)
        out *= inverse
        out *= 2.0
        return out

    def _weighed(self, ridge: float) -> Array:
        """With a metric, the equation for φ, Ω = 2 Rᵀφ, by conjugate gradients."""
        reduced, values = self.reduced, self.reduced.eigen[0]
        metric = reduced.metric
        assert metric is not None
        K, G = reduced.moments, reduced.covariance
        weights = metric.weights
        mean = 1.0 if weights is None else float(weights[weights > 0].mean())
        k = values + self.mean**2
        products = np.outer(k, values)
        divisor = ridge + 2.0 * mean * (products + products.T)
        divisor = np.maximum(divisor, np.finfo(np.float64).eps * divisor.max() or 1.0)

        def multiply(phi: Array) -> Array:
            return ridge * phi + metric.image(both_ways(K, metric.adjoint(phi), G))

        def precondition(r: Array) -> Array:
            return metric.projected(self.rotated(self.rotated(metric.projected(r)) / divisor, back=True))

        phi, _ = conjugate_gradients(multiply, precondition, metric.image(self.S - G), METRIC_TOL)
        return 2.0 * metric.adjoint(phi)
