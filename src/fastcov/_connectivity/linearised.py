"""The linearised free model: one eigendecomposition of Γ serves every λ.

To first order in W, C − Γ = XᵀJWX and its transpose, and the minimum of ½‖S − C‖² + (λ/2)‖W‖² is
W = X̃ΩXᵀ with Ω = 2e, where e (D × D, symmetric) solves

    λe + 2(KeΓ + ΓeK) = S − Γ,    K = Γ + nnᵀ.

In the eigenvectors of Γ, with eigenvalues γ, the equation is

    e_ij = (E₀_ij − 2 n_i v_j − 2 v_i n_j) / (λ + 4γ_iγ_j),    v_i = γ_i Σ_j e_ij n_j.

If X has no mean over channels, n = 0, and that is all. Otherwise v follows from a D × D system, which is
symmetric and positive definite. So with E₀ in the eigenvectors of Γ once, a ridge takes D³/3 flops for its
system and O(D²) for Ω, ‖W‖ and the certificate, and D³ for C and the exact loss. (K and Γ together cannot be diagonalised to the same end: the generalised
eigenvectors of the pair are not orthogonal, and λe stays coupled in them.)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.jit import SMALL_FLOPS, blas_for
from .._compute.on_cores import on_cores
from . import linear_kernels
from .newton import conjugate_gradients
from .reduced import Reduced, both_ways, mirrored, rotated

Array = NDArray[np.float64]

# Relative residual of the conjugate gradients that take the place of the closed form with a metric.
METRIC_TOL = 1e-13
# A ridge of fewer conditions takes Python longer than BLAS, and then a second thread has nothing to gain.
ALONE = 80
# Parts of a path for each thread, after each of which progress is told.
PARTS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Solutions:
    """What K ridges leave of T targets, without W: numbers, and v, from which Ω is soon made."""

    ridges: tuple[float, ...]
    v: Array  # (K, T, D)
    left: Array  # ‖C − S‖² (K, T)
    squares: Array  # ‖W‖² (K, T)
    sizes: Array  # ‖C‖ (K, T)
    residual: Array  # (K, T)

    @property
    def loss(self) -> Array:
        """½‖C − S‖² + (λ/2)‖W‖² (K, T)."""
        return 0.5 * self.left + 0.5 * np.array(self.ridges)[:, np.newaxis] * self.squares


@dataclasses.dataclass(frozen=True, eq=False)
class Linearised:
    """The closed form for T targets, without a metric."""

    reduced: Reduced
    targets: Array  # (T, D, D)

    @functools.cached_property
    def errors(self) -> Array:
        """E₀ = S − Γ of each target in the eigenvectors (T, D, D). 4D³ flops each."""
        vectors = self.reduced.eigen[1]
        return np.stack([mirrored(rotated(vectors, S - self.reduced.covariance)) for S in self.targets])

    @functools.cached_property
    def mean(self) -> Array:
        """n in the eigenvectors."""
        return np.einsum("ij,j->i", self.reduced.eigen[1], self.reduced.mean)

    @functools.cached_property
    def units(self) -> Array:
        """One over the norm of the gradient in W at W = 0, of each target (T,); zero where that is."""
        roots = np.sqrt(self.reduced.eigen[0])
        found = []
        for error in self.errors:
            half = roots[:, np.newaxis] * error
            found.append(blas.norm(np.column_stack([half * roots, np.einsum("ij,j->i", half, self.mean)])))
        sizes = np.array(found)
        return np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0)

    def solve(
        self, ridges: Sequence[float], watch: Callable[[float], object] = lambda done: None
    ) -> Solutions:
        """The minima at all ridges, with their certificates; `watch` is told the share that is done.

        D³/3 flops for a ridge where X has a mean over channels, D³ for a target of a ridge, and O(D²). Each
        certificate is computed by plugging Ω into the gradient, in the eigenvectors. Ridges are solved for
        side by side on all threads.
        """
        K, (T, D) = len(ridges), self.targets.shape[:2]
        v, numbers = np.empty((K, T, D)), np.empty((K, T, 4))
        values, _, _ = self.reduced.eigen[0], self.errors, self.units  # before there are threads

        def work(places: Any, check: Callable[[Any], object]) -> None:
            room = _Room(values, system=bool(self.mean.any()))
            for k in places:
                check(k)
                room.divide(float(ridges[k]), self.mean)
                for t in range(T):
                    self._solved(room, t, v[k, t], numbers[k, t])

        workers = min(numba.get_num_threads(), K)
        if workers == 1 or D < ALONE or K * T * D**3 < SMALL_FLOPS:
            work(range(K), lambda k: watch(k / K))
            watch(1.0)
        else:
            with blas_for(0):  # each ridge on one thread
                on_cores(work, np.array_split(np.arange(K), min(K, PARTS * workers)), workers, watch)
        residual, squares, left, size = np.moveaxis(numbers, -1, 0)
        return Solutions(tuple(ridges), v, left, squares, np.sqrt(size), np.sqrt(residual))

    def _solved(self, room: _Room, t: int, v: Array, numbers: Array) -> None:
        error, D = self.errors[t], self.reduced.n_conditions
        linear_kernels.linear_mean(error, room.inverse, self.mean, room.scales, room.factor, v, size=D)
        self._omega(room, t, v)
        linear_kernels.linear_norms(
            error, room.omega, room.values, self.mean, room.u, room.ridge, float(self.units[t]), numbers[:2],
            size=D,
        )  # fmt: skip
        C = blas.self_product(room.Y, transpose=True, out=room.omega, unlocked=True)
        linear_kernels.linear_distance(C, error, room.values, numbers[2:], size=D)

    def _omega(self, room: _Room, t: int, v: Array) -> None:
        linear_kernels.linear_omega(
            self.errors[t], room.inverse, room.values, self.mean, v, room.omega, room.Y, room.u, size=len(v)
        )

    def matrices(self, ridge: float, v: Array) -> tuple[Array, Array]:
        """Φ (T, p, p) and C (T, D, D) in conditions, from v (T, D). 7D³ flops for each target."""
        vectors = self.reduced.eigen[1]
        room = _Room(self.reduced.eigen[0], system=False)
        room.divide(ridge, self.mean)
        phi, covariances = [], np.empty_like(self.targets)
        for t, (mine, C) in enumerate(zip(v, covariances, strict=True)):
            self._omega(room, t, mine)
            phi.append(self.reduced.phi(mirrored(rotated(vectors, room.omega, back=True))))
            blas.self_product(blas.product(room.Y, vectors), transpose=True, out=C)
            mirrored(C)
        return np.stack(phi), covariances


class _Room:
    """Matrices (D, D) that one thread works in, in turn for each ridge."""

    def __init__(self, values: Array, *, system: bool) -> None:
        D = len(values)
        live = int(np.count_nonzero(values > 0.0))
        self.values, self.ridge = values, 0.0
        self.inverse, self.omega, self.Y = np.empty((D, D)), np.empty((D, D)), np.empty((live, D))
        self.factor = np.empty((live * system, live * system))
        self.scales, self.u = np.empty(len(self.factor)), np.empty(D)

    def divide(self, ridge: float, mean: Array) -> None:
        """What all targets share at a ridge: the divisors, and the factor of the system."""
        self.ridge = ridge
        linear_kernels.linear_system(
            self.inverse, self.values, mean, ridge, self.scales, self.factor, size=len(mean)
        )
        if len(self.factor):
            blas.cholesky(self.factor)


def weighed(reduced: Reduced, S: Array, ridge: float) -> Array:
    """Ω (D, D) where there is a metric: the equation for φ, Ω = 2 Rᵀφ, by conjugate gradients."""
    metric, (values, vectors) = reduced.metric, reduced.eigen
    assert metric is not None
    K, G = reduced.moments, reduced.covariance
    weights = metric.weights
    mean = 1.0 if weights is None else float(weights[weights > 0].mean())
    k = values + np.square(np.einsum("ij,j->i", vectors, reduced.mean))
    products = np.outer(k, values)
    divisor = ridge + 2.0 * mean * (products + products.T)
    divisor = np.maximum(divisor, np.finfo(np.float64).eps * divisor.max() or 1.0)

    def multiply(phi: Array) -> Array:
        return ridge * phi + metric.image(both_ways(K, metric.adjoint(phi), G))

    def precondition(r: Array) -> Array:
        r = rotated(vectors, metric.projected(r)) / divisor
        return metric.projected(rotated(vectors, r, back=True))

    phi, _ = conjugate_gradients(multiply, precondition, metric.image(S - G), METRIC_TOL)
    return 2.0 * metric.adjoint(phi)
