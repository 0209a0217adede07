"""The linearised free model: one eigendecomposition of Γ serves every λ.

To first order in W, C − Γ = XᵀJWX and its transpose, and the minimum of ½‖S − C‖² + (λ/2)‖W‖² is
W = X̃ΩXᵀ with Ω = 2e, where e (D × D, symmetric) solves

    λe + 2(KeΓ + ΓeK) = S − Γ,    K = Γ + nnᵀ.

In the eigenvectors of Γ, with eigenvalues γ, the equation is

    e_ij = (E₀_ij − 2 n_i v_j − 2 v_i n_j) / (λ + 4γ_iγ_j),    v_i = γ_i Σ_j e_ij n_j.

If X has no mean over channels, n = 0, and that is all. Otherwise v follows from a D × D system, which is
symmetric and positive definite. Scaled to a diagonal of one its condition number is small, whatever λ is: a
dozen conjugate gradients solve it to rounding, in less time than a factorisation. So with E₀ in the
eigenvectors of Γ once, all that a ridge takes is O(D²), but for the exact loss, which takes D³ flops for C.
(K and Γ together cannot be diagonalised to the same end: the generalised eigenvectors of the pair are not
orthogonal, and λe stays coupled in them.)
"""

from __future__ import annotations

import dataclasses
import functools
import math
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
        values, roots, found = self.reduced.eigen[0], np.sqrt(self.reduced.eigen[0]), []
        for error in self.errors:
            size = float(np.abs(error).max()) or 1.0  # so that no square overflows
            half = error * (roots / size)[:, np.newaxis]
            own = np.einsum("ij,ij,j", half, half, values)
            found.append(size * np.sqrt(own + np.square(np.einsum("ij,j->i", half, self.mean)).sum()))
        sizes = np.array(found)
        return np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0)

    def solve(
        self, ridges: Sequence[float], watch: Callable[[float], object] = lambda done: None
    ) -> Solutions:
        """The minima at all ridges, with their certificates; `watch` is told the share that is done.

        D³ flops for a target of a ridge, and O(D²). Each certificate is computed by plugging Ω into the
        gradient, in the eigenvectors. Ridges are solved for side by side on all threads.
        """
        K, (T, D) = len(ridges), self.targets.shape[:2]
        v, numbers = np.empty((K, T, D)), np.empty((K, T, 5))
        _ = self.reduced.eigen, self.errors, self.mean, self.units  # before there are threads

        def work(places: Any, check: Callable[[Any], object]) -> None:
            room = self._room()
            for k in places:
                check(k)
                room.divide(float(ridges[k]))
                for t in range(T):
                    self._solved(room, t, v[k, t], numbers[k, t])

        workers = min(numba.get_num_threads(), K)
        if workers == 1 or D < ALONE or K * T * D**3 < SMALL_FLOPS:
            work(range(K), lambda k: watch(k / K))
            watch(1.0)
        else:
            with blas_for(0):  # each ridge on one thread
                on_cores(work, np.array_split(np.arange(K), min(K, PARTS * workers)), workers, watch)
        residual, squares, left, size, _ = np.moveaxis(numbers, -1, 0)
        return Solutions(tuple(ridges), v, left, squares, np.sqrt(size), np.sqrt(residual))

    def _room(self) -> _Room:
        return _Room(self.reduced.eigen[0], self.mean)

    def _solved(self, room: _Room, t: int, v: Array, numbers: Array) -> None:
        error, D = self.errors[t], len(v)
        linear_kernels.linear_solution(
            error, room.inverse, room.values, room.mean, room.sums, room.ridge, float(self.units[t]), v,
            room.omega, room.Y, room.u, numbers, size=D,
        )  # fmt: skip
        room.square()
        linear_kernels.linear_distance(room.omega, error, room.values, numbers, size=D)

    def matrices(self, ridge: float, v: Array) -> tuple[Array, Array]:
        """Φ (T, p, p) and C (T, D, D) in conditions, from v (T, D). 7D³ flops for each target."""
        vectors = self.reduced.eigen[1]
        room = self._room()
        room.divide(ridge)
        phi, covariances = [], np.empty_like(self.targets)
        for t, (mine, C) in enumerate(zip(v, covariances, strict=True)):
            linear_kernels.linear_omega(
                self.errors[t], room.inverse, room.values, room.mean, mine, room.omega, room.Y, room.u
            )
            phi.append(self.reduced.phi(mirrored(rotated(vectors, room.omega, back=True))))
            blas.self_product(blas.product(room.Y, vectors), transpose=True, out=C)
            mirrored(C)
        return np.stack(phi), covariances


class _Room:
    """Matrices (D, D) that one thread works in, in turn for each ridge."""

    def __init__(self, values: Array, mean: Array) -> None:
        D, m = len(values), int(np.count_nonzero(values > 0.0))
        shapes = [(D,), (D,), (D,), (D,), (D, D), (D, D), (m, D)]
        room, at, parts = np.empty(sum(math.prod(s) + linear_kernels.APART for s in shapes)), 0, []
        for shape in shapes:
            at += linear_kernels.APART
            parts.append(room[at : at + math.prod(shape)].reshape(shape))
            at += math.prod(shape)
        self.values, self.mean, self.sums, self.u, self.inverse, self.omega, self.Y = parts
        self.values[:], self.mean[:], self.ridge = values, mean, 0.0
        self.square = blas.repeated_self_product(self.Y, self.omega)  # C, in place of Ω

    def divide(self, ridge: float) -> None:
        """Take a ridge, whose divisors all targets share."""
        self.ridge = ridge
        linear_kernels.linear_divisors(
            self.inverse, self.values, self.mean, ridge, self.sums, size=len(self.mean)
        )


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
