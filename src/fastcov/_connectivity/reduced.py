"""The free model over conditions: all that it needs of X, and what a connectivity does to it.

With x̂ = X̃ (and a further column 1/√N where the mean over channels is removed), X = x̂ T for a matrix T of
D columns, and every connectivity of this room is W = x̂ Φ x̂ᵀ with a small matrix Φ. Then

    x̂ᵀx̂ = diag(Γ, 1),    T = [I; √N mᵀ],    K = XᵀX = Γ + nnᵀ,    n = √N m,
    J(I + W)X = X̃ B,    B = I + Φ_D [Γ; nᵀ],

with Γ = XᵀJX, m the mean over channels, and Φ_D the first D rows of Φ. So one pass over X is enough.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

from .._compute import blas, kernels
from .._compute.jit import blas_for
from .._model.metric import Metric
from .._model.problem import Problem

Array = NDArray[np.float64]

# Eigenvalues of Γ below this share of the largest, times D, are rounding.
RANK_TOL = float(np.finfo(np.float64).eps)
# The least pivot of a Cholesky factor of Γ, over the largest, with which it serves as a root.
PIVOT = 1e-5
# Relative accuracy of the largest eigenvalue.
EIGENVALUE_TOL = 1e-10


@dataclasses.dataclass(frozen=True, eq=False)
class Reduced:
    """Γ and n of some responses, in units that are safe to multiply, with the metric of the distance."""

    covariance: Array  # Γ (D, D)
    mean: Array  # n (D,); zero without centring
    center: bool
    metric: Metric | None = None
    n_channels: int | None = None
    at_one: Reduced | None = None  # of the same X at gains of one, where `covariance` is at other gains

    @classmethod
    def of(cls, problem: Problem) -> Reduced:
        """From responses at gains of one. One pass over X: ND² flops, or twice that up to 128 conditions."""
        N = problem.shape[0]
        return cls(problem.covariance(), math.sqrt(N) * problem.mean, problem.center, problem.metric, N)

    def take(self, conditions: NDArray[np.intp], metric: Metric | None) -> Reduced:
        """The same for some of the conditions, with the metric of these."""
        part = np.ascontiguousarray(self.covariance[np.ix_(conditions, conditions)])
        return Reduced(part, self.mean[conditions], self.center, metric, self.n_channels)

    @property
    def n_conditions(self) -> int:
        return len(self.mean)

    def products(self) -> contextlib.AbstractContextManager[None]:
        """Hold BLAS at one thread inside a block, where products of D × D matrices are small for it."""
        return blas_for(2.0 * self.n_conditions**3)

    @functools.cached_property
    def moments(self) -> Array:
        """K = XᵀX (D, D)."""
        if self.at_one is not None:
            return self.at_one.moments
        return self.covariance + np.outer(self.mean, self.mean)

    @functools.cached_property
    def eigen(self) -> tuple[Array, Array]:
        """Eigenvalues γ of Γ, ascending and zero where they are rounding, and eigenvectors as rows."""
        vectors = self.covariance.copy()
        values = blas.eigh(vectors)
        values[values <= RANK_TOL * len(values) * values[-1]] = 0.0
        return values, vectors

    @functools.cached_property
    def eigen_root(self) -> Array:
        """L (D, D) with LᵀL = Γ, whose rows are eigenvectors."""
        values, vectors = self.eigen
        return np.sqrt(values)[:, np.newaxis] * vectors

    @functools.cached_property
    def root(self) -> Array:
        """L (D, D) with LᵀL = Γ: a Cholesky factor, unless Γ is nearly singular."""
        lower = np.tril(self.covariance)
        if len(lower) and blas.cholesky(lower) == 0:
            pivots = np.diagonal(lower)
            if pivots.min() > PIVOT * pivots.max():
                return np.ascontiguousarray(lower.T)
        return self.eigen_root

    @functools.cached_property
    def moments_eigen(self) -> tuple[Array, Array]:
        """Roots s of the eigenvalues of K that are not rounding (r,), and its eigenvectors as rows (r, D)."""
        if self.at_one is not None:
            return self.at_one.moments_eigen
        if not self.mean.any():
            values, vectors = self.eigen
        else:
            vectors = self.moments.copy()
            values = blas.eigh(vectors)
        live = values > RANK_TOL * len(values) * values[-1]
        return np.sqrt(values[live]), np.ascontiguousarray(vectors[live])

    @functools.cached_property
    def outside(self) -> float:
        """1 − nᵀK⁺n, the share of the mean over channels outside the span of X; 1 without a mean."""
        s, vectors = self.moments_eigen
        q = np.einsum("ij,j->i", vectors, self.mean) / s
        return max(1.0 - float(np.square(q).sum()), 0.0)

    @functools.cached_property
    def wide_root(self) -> Array:
        """[Lᵀ, n] (D, D + 1), whose product with its transpose is K."""
        if self.at_one is not None:
            return self.at_one.wide_root
        return np.ascontiguousarray(np.column_stack([self.root.T, self.mean]))

    def response(self, phi: Array) -> Array:
        """B (D, D) of a connectivity Φ. 2D³ flops."""
        D = self.n_conditions
        top = np.ascontiguousarray(phi[:D])
        B = blas.product(np.ascontiguousarray(top[:, :D]), self.covariance)
        if phi.shape[1] > D:
            B += np.outer(top[:, D], self.mean)
        B[np.diag_indices(D)] += 1.0
        return B

    def covariance_of(self, B: Array) -> Array:
        """BᵀΓB (D, D), in which nothing cancels. 3D³ flops."""
        Y = blas.product(self.root, B)
        C = blas.self_product(Y, transpose=True)
        return mirrored(C)

    def phi(self, omega: Array) -> Array:
        """Φ of the connectivity X̃ΩXᵀ: Ω T in the first D rows."""
        if not self.center:
            return omega.copy()
        D = self.n_conditions
        out = np.zeros((D + 1, D + 1))
        out[:D, :D] = omega
        out[:D, D] = np.einsum("ij,j->i", omega, self.mean)
        return out

    def squared_norm(self, phi: Array) -> float:
        """‖W‖² = ‖x̂ Φ x̂ᵀ‖². 4D³ flops."""
        return float(np.square(self.sandwiched(phi)).sum())

    def sandwiched(self, phi: Array) -> Array:
        """R Φ Rᵀ with RᵀR = x̂ᵀx̂: W in an orthonormal basis of the columns of x̂."""
        D = self.n_conditions
        out = blas.product(blas.product(self.root, np.ascontiguousarray(phi[:D, :D])), self.root, tb=True)
        if len(phi) == D:
            return out
        whole = np.empty((D + 1, D + 1))
        whole[:D, :D] = out
        whole[:D, D] = np.einsum("ij,j->i", self.root, phi[:D, D])
        whole[D, :D] = np.einsum("ij,j->i", self.root, phi[D, :D])
        whole[D, D] = phi[D, D]
        return whole

    def gradient_norm(self, T: Array) -> float:
        """‖X̃ T Xᵀ‖_F, in which nothing cancels. 4D³ flops."""
        return float(blas.norm(blas.product(blas.product(self.root, T), self.wide_root)))

    def gram(self, p: int) -> Array:
        """x̂ᵀx̂ = diag(Γ, 1) (p, p)."""
        out = np.eye(p)
        out[: self.n_conditions, : self.n_conditions] = self.covariance
        return out

    def nearest(self, S: Array, n_channels: int) -> Array:
        """The covariance nearest to S that a connectivity reaches: semi-definite, of rank N − 1 at most."""
        s, V = self.moments_eigen
        own = mirrored(blas.product(blas.product(V, S), V, tb=True))
        values = blas.eigh(own)
        most = min(len(s), n_channels - self.center)
        values[: len(values) - most] = 0.0
        rows = blas.product(own * np.sqrt(np.maximum(values, 0.0))[:, np.newaxis], V)
        return mirrored(blas.self_product(rows, transpose=True))

    def image(self, M: Array) -> Array:
        """R M of the metric, or M."""
        return M if self.metric is None else self.metric.image(M)

    def pull(self, M: Array) -> Array:
        """RᵀR M of the metric, or M."""
        return M if self.metric is None else self.metric.pull(M)

    @functools.cached_property
    def largest(self) -> float:
        """The largest eigenvalue of GGᵀ for the atoms G of all entries of W: E ↦ 2(KEΓ + ΓEK).

        Without a mean it is 4γ² with the largest eigenvalue γ of Γ. With one, Lanczos steps find it, some
        15, each of O(D²) flops in the eigenvectors of Γ; with a metric each takes 4D³.
        """
        K, G, D, metric = self.moments, self.covariance, self.n_conditions, self.metric
        size = float(np.abs(K).max()) * float(np.abs(G).max())
        if size == 0.0:
            return 0.0
        if metric is None and not self.mean.any():
            return float(4.0 * self.eigen[0][-1] ** 2)
        values, vectors = self.eigen
        products, n = 4.0 * np.outer(values, values), np.einsum("ij,j->i", vectors, self.mean)

        def multiply(v: Any) -> Array:
            E = np.ascontiguousarray(v, np.float64).reshape(D, D)
            E = 0.5 * (E + E.T)
            if metric is not None:
                return (self.image(both_ways(K, metric.adjoint(E), G)) / size).ravel()
            cross = np.outer(2.0 * n, values * np.einsum("ij,j->i", E, n))
            return ((products * E + cross + cross.T) / size).ravel()

        if D <= 2:  # ARPACK needs more dimensions
            columns = [multiply(row) for row in np.eye(D * D)]
            return float(np.linalg.eigvalsh(np.array(columns))[-1]) * size
        operator = LinearOperator((D * D, D * D), matvec=multiply, dtype=np.float64)
        start = (np.diag(values) if metric is None else self.image(G)).ravel()
        (value,) = eigsh(
            operator, k=1, v0=start if start.any() else None, tol=EIGENVALUE_TOL, ncv=min(D * D, 12),
            return_eigenvectors=False,
        )  # fmt: skip
        return float(value) * size


def both_ways(P: Array, E: Array, C: Array) -> Array:
    """2(PEC + CEP) for symmetric matrices. 4D³ flops."""
    M = blas.product(blas.product(P, E), C)
    out: Array = M + M.T
    out *= 2.0
    return out


def rotated(vectors: Array, M: Array, *, back: bool = False) -> Array:
    """V M Vᵀ for eigenvectors as rows of V; VᵀMV to go back. 4D³ flops."""
    first = blas.product(vectors, M, ta=back)
    return blas.product(first, vectors, tb=not back)


def mirrored(C: Array) -> Array:
    """The symmetric matrix with the lower triangle of C, in place."""
    kernels.mirror_lower(C, size=C.size)
    return C
