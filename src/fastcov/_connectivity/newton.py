"""The exact minimum of the free model, ½‖S − Xᵀ(I+W)ᵀJ(I+W)X‖² + (λ/2)‖W‖², by Newton steps over conditions.

Let K = XᵀX = Vᵀ s² V with eigenvectors as rows of V, and U = X Vᵀ s⁻¹, an orthonormal basis of the columns of
X. At the minimum I + W is J U Z Uᵀ on that basis, with a symmetric positive definite Z. With H = UᵀJU,

    C = s Z H Z s,    E = C − S,    ‖W‖² = tr (Z − I) H (Z − I)

in the basis V. The gradient vanishes where E is the matrix E_Z for which Z⁻¹ = I + (2/λ) s E_Z s. The Newton
step for this equation solves, with P = s Z s,

    λu + 2(PuC + CuP) = E − E_Z

over symmetric u, and moves Z⁻¹ by 2 s u s, or Z by −2 Z s u s Z, which is the same to first order. Its
operator is positive definite for any Z. In the eigenvectors of P + C it is nearly diagonal, and at large λ in
the basis V, too, so few steps of conjugate gradients solve the system. Z moves along a line, to where the
loss, a quartic along it, is least. Where it would come near a singular Z, it moves along a curve on which it
stays positive definite.

The metric replaces E by RᵀRE, see `_model.metric`. Then u = Rᵀφ − e, where e is the part of E_Z/λ that is no
image under Rᵀ, and φ solves the system with R A Rᵀ in place of A: u ↦ 2(PuC + CuP).

C alone determines the loss, and in C it is convex: the least ‖W‖² for a given C is a Bures–Wasserstein
distance (Bhatia, Jain, Lim, "On the Bures–Wasserstein distance between positive definite matrices", 2019). So
there is one minimum, wherever the steps begin, as long as C may have the rank of K.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.linalg.blas import ddot, dgemm

from .._compute import blas
from .._compute.trust_region_kernels import least_of_quartic
from .reduced import Reduced, both_ways, mirrored, rotated

Array = NDArray[np.float64]

# Relative residual at which conjugate gradients end a step; smaller near the minimum, for fast convergence.
LOOSE, TIGHT = 0.1, 1e-6
# Steps of conjugate gradients from which on an eigendecomposition pays, which takes as long as ten of them.
ENOUGH_PRODUCTS = 6
# The most conjugate gradient steps in one Newton step.
MAX_INNER = 200
# A step in Z goes at most this share of the way to where Z is singular.
NEARER = 0.9
# A step along a curve is halved, so many times at most, until the loss falls by this share of its slope.
ENOUGH, MAX_HALVINGS = 1e-4, 30
# Steps in a row that lower the loss by no more than rounding, a share of it, after which nothing is gained.
STALLED, ROUNDING = 3, 1e-14


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """Where the steps ended."""

    Z: Array  # (r, r) for K of rank r
    gradient: float  # norm of the gradient in W, over that at W = 0
    status: str
    iterations: int
    products: int  # with the operator of the Newton steps


def minimum(
    reduced: Reduced,
    S: Array,
    ridge: float,
    tol: float,
    max_iterations: int,
    unit: float,
    Z: Array | None = None,
    watch: Callable[[float], object] | None = None,
) -> Found:
    """The minimum for one target (D, D), from W = 0 or the Z of a neighbouring ridge.

    `unit` is the norm of the gradient at W = 0, of which `tol` is a share. Some 6 steps of 70D³ flops.
    `watch` is told the gradient of each step, as such a share.
    """
    free = _Free(reduced, S, ridge)
    state = _At(free, np.eye(len(free.s)) if Z is None or unit == 0.0 else Z)
    stalled, products, status, turned = 0, 0, "max-iterations", False
    for iteration in range(max_iterations + 1):
        gradient = state.gradient / unit if unit > 0 else 0.0  # W = 0 is the minimum
        if watch is not None:
            watch(gradient)
        if gradient <= tol:
            status = "converged"
            break
        if stalled == STALLED:
            status = "stagnated"
            break
        if iteration == max_iterations:
            break
        moved = None
        for accuracy in (min(LOOSE, gradient), TIGHT):  # only an accurate step is sure to go downhill
            u, inner = state.direction(accuracy, turned=turned)
            products += inner
            turned = turned or inner > ENOUGH_PRODUCTS
            moved = state.moved(u)
            if moved is not None:
                break
        if moved is None:
            status = "stagnated"
            break
        stalled = 0 if moved.loss < state.loss * (1.0 - ROUNDING) else stalled + 1
        state = moved
    return Found(state.Z, gradient, status, iteration, products)


def gradient_at_zero(reduced: Reduced, S: Array) -> float:
    """The norm of the gradient in W at W = 0; zero where rounding explains it."""
    found = reduced.gradient_norm(2.0 * reduced.pull(reduced.covariance - S))
    parts = (reduced.root, reduced.pull(reduced.covariance), reduced.wide_root)
    size = 2.0 * math.prod(float(blas.norm(part)) for part in parts)
    return found if found > len(S) * np.finfo(np.float64).eps * size else 0.0


def omega_of(reduced: Reduced, Z: Array) -> Array:
    """Ω (D, D) of W = X̃ΩXᵀ."""
    s, V = reduced.moments_eigen
    core = Z.copy()
    core[np.diag_indices(len(s))] -= 1.0
    core /= np.outer(s, s)
    return mirrored(rotated(V, core, back=True))


class _Free:
    """The problem in the eigenvectors of K."""

    def __init__(self, reduced: Reduced, S: Array, ridge: float) -> None:
        self.reduced, self.S, self.ridge = reduced, S, ridge
        self.s, self.V = reduced.moments_eigen
        self.scales = np.outer(self.s, self.s)
        self.own = rotated(self.V, S)
        # What of S no covariance can reach, where K has no full rank.
        self.rest = max(blas.norm(S) ** 2 - blas.norm(self.own) ** 2, 0.0)
        self.factor = self._factor()

    def _factor(self) -> Array | None:
        """A matrix F with FᵀF = H; None where H = I, as without a mean."""
        reduced = self.reduced
        if reduced.at_one is not None:  # X is not at gains of one
            return blas.product(reduced.root, self.V, tb=True) / self.s
        if not reduced.mean.any():
            return None
        # H = I − qqᵀ, and its root I − c qqᵀ.
        q = np.einsum("ij,j->i", self.V, reduced.mean) / self.s
        square = _inner(q, q)
        c = (1.0 - max(1.0 - square, 0.0) ** 0.5) / square if square > 0 else 0.0
        root = np.outer(-c * q, q)
        root[np.diag_indices(len(q))] += 1.0
        return root

    def half(self, M: Array) -> Array:
        """F M."""
        return M if self.factor is None else _product(self.factor, M)


class _At:
    """The loss at Z."""

    def __init__(self, free: _Free, Z: Array) -> None:
        self.free, self.Z = free, Z
        self.Y = free.half(Z) * free.s
        self.C = _product(self.Y, self.Y, ta=True)
        if free.reduced.metric is None:
            self.E = self.C - free.own
            fitted = _inner(self.E, self.E) + free.rest
        else:
            error = rotated(free.V, self.C, back=True) - free.S
            self.image = free.reduced.metric.image(error)
            fitted = _inner(self.image, self.image)
        self.moved_by = free.half(Z - np.eye(len(Z)))  # F(Z − I)
        self.loss = 0.5 * fitted + 0.5 * free.ridge * _inner(self.moved_by, self.moved_by)

    @functools.cached_property
    def pulled(self) -> Array:
        """RᵀRE in the basis V."""
        metric = self.free.reduced.metric
        return self.E if metric is None else rotated(self.free.V, metric.weighed(self.image))

    @functools.cached_property
    def slope(self) -> Array:
        """F times the gradient of the loss in the part of W that Z moves, (r, r) or (D, r)."""
        free = self.free
        out = _product(self.Y, self.pulled)
        out *= 2.0 * free.s
        out += free.ridge * self.moved_by
        return out

    @functools.cached_property
    def gradient(self) -> float:
        return float(blas.norm(self.slope))

    def direction(self, tol: float, *, turned: bool) -> tuple[Array, int]:
        """u of the Newton step, and the products that it took.

        It is `turned` into the eigenvectors of P + C, or preconditioned in the basis V.
        """
        free = self.free
        P = free.scales * self.Z
        vectors = None
        if turned:
            vectors = P + self.C
            blas.eigh(vectors)
        inverse = _inverse(self.Z)
        inverse[np.diag_indices(len(inverse))] -= 1.0
        e = 0.5 * inverse / free.scales
        if free.reduced.metric is None:
            return self._plain(P, vectors, e, tol)
        return self._weighed(P, vectors, e, tol)

    def _plain(self, P: Array, vectors: Array | None, e: Array, tol: float) -> tuple[Array, int]:
        """All in the eigenvectors, where the preconditioner is a division."""
        ridge, C = self.free.ridge, self.C
        right = self.E - ridge * e
        if vectors is not None:
            P, C, right = (rotated(vectors, M) for M in (P, C, right))
        divisor = self._divisor(np.diagonal(P), np.diagonal(C), 1.0)

        P = 2.0 * P

        def multiply(u: Array) -> Array:
            half = _product(_product(P, u), C)
            half += half.T.copy()
            half += ridge * u
            return half

        share = 1.0 - ridge / divisor
        u, inner = conjugate_gradients(
            multiply, lambda r: r / divisor, right, tol, lambda r, z: _inner(share * r, z)
        )
        return u if vectors is None else rotated(vectors, u, back=True), inner

    def _weighed(self, P: Array, vectors: Array | None, e: Array, tol: float) -> tuple[Array, int]:
        """The metric is that of conditions, not of the basis V."""
        free = self.free
        metric, ridge, V = free.reduced.metric, free.ridge, free.V
        assert metric is not None
        P, C, e = (rotated(V, M, back=True) for M in (P, self.C, e))
        weights, mean, plain = metric.weights, 1.0, e
        if weights is not None:
            plain = np.divide(e, weights, out=np.zeros_like(e), where=weights > 0)
            mean = float(weights[weights > 0].mean())
        own = metric.image(plain)  # Rᵀ of this is the part of e that is an image under Rᵀ
        rest = e - metric.adjoint(own)
        right = self.image - ridge * own + metric.image(both_ways(P, rest, C))
        vectors = V if vectors is None else _product(vectors, V)
        p, c = (np.diagonal(rotated(vectors, M)) for M in (P, C))
        divisor = self._divisor(p, c, mean)

        def multiply(phi: Array) -> Array:
            return ridge * phi + metric.image(both_ways(P, metric.adjoint(phi), C))

        def precondition(r: Array) -> Array:
            r = rotated(vectors, metric.projected(r)) / divisor
            return metric.projected(rotated(vectors, r, back=True))

        def size(r: Array, z: Array) -> float:
            return max(_inner(r, z) - ridge * _inner(z, z), 0.0)

        phi, inner = conjugate_gradients(multiply, precondition, right, tol, size)
        return rotated(V, metric.adjoint(phi) - rest), inner

    def _divisor(self, p: Array, c: Array, mean: float) -> Array:
        """The diagonal of the operator in the eigenvectors."""
        products = np.outer(np.maximum(p, 0.0), np.maximum(c, 0.0))
        divisor = self.free.ridge + 2.0 * mean * (products + products.T)
        return np.maximum(divisor, np.finfo(np.float64).eps * divisor.max() or 1.0)

    def moved(self, u: Array) -> _At | None:
        """Where the step ends; None if the loss does not fall along it."""
        free = self.free
        dF = 2.0 * free.scales * u
        dZ = -_product(_product(self.Z, dF), self.Z)
        dZ = 0.5 * (dZ + dZ.T)
        half = free.half(dZ)
        slope = _inner(self.slope, half)
        if not slope < 0.0:
            return None
        t = self._best_length(half, slope)
        nearly = self.Z + (t / NEARER) * dZ
        if np.isfinite(t) and blas.cholesky(nearly) == 0:
            return _At(free, self.Z + t * dZ)
        return self._bent(dF, slope)

    def _best_length(self, half: Array, slope: float) -> float:
        """The length of a step in Z at which the loss, a quartic along it, is least; `half` is F dZ."""
        free, reduced = self.free, self.free.reduced
        dY = half * free.s
        C1 = _product(self.Y, dY, ta=True)
        C1 = C1 + C1.T
        C2 = _product(dY, dY, ta=True)
        R0 = self.E if reduced.metric is None else self.image
        if reduced.metric is not None:
            C1, C2 = (reduced.metric.image(rotated(free.V, M, back=True)) for M in (C1, C2))
        square = free.ridge * _inner(half, half)
        return float(least_of_quartic(
            slope, 0.5 * _inner(C1, C1) + _inner(R0, C2) + 0.5 * square, _inner(C1, C2),
            0.5 * _inner(C2, C2), np.inf,
        ))  # fmt: skip

    def _bent(self, dF: Array, slope: float) -> _At | None:
        """Along a curve on which Z stays positive definite: Z⁻¹ moves by dF where that grows, else Z."""
        L = np.tril(self.Z)
        if blas.cholesky(L):
            return None
        vectors = _product(_product(L, dF, ta=True), L)
        mu = blas.eigh(vectors)  # Z⁻¹ grows by these, in units of itself
        T, t = _product(L, vectors, tb=True), 1.0
        for _ in range(MAX_HALVINGS):
            grown = t * mu
            factor = np.where(grown > 0, 1.0 / (1.0 + np.maximum(grown, 0.0)), 1.0 - grown)
            new = _At(self.free, _product(T * factor, T, tb=True))
            if new.loss <= self.loss * (1.0 + ROUNDING) + ENOUGH * t * slope:
                return new
            t *= 0.5
        return None


def conjugate_gradients(
    multiply: Callable[[Array], Array],
    precondition: Callable[[Array], Array],
    right: Array,
    tol: float,
    size: Callable[[Array, Array], float] | None = None,
) -> tuple[Array, int]:
    """Solve A u = right for matrices, to a relative residual in the norm of the preconditioner.

    `size` may give another squared norm of a residual r, from r and the preconditioned r. It ends early where
    A is found not to be positive definite, with what it has.
    """
    size = _inner if size is None else size
    u, r = np.zeros_like(right), right.copy()
    z = precondition(r)
    p, rz = z, _inner(r, z)
    first, k = size(r, z), 0
    while rz > 0.0 and k < MAX_INNER:
        k += 1
        Ap = multiply(p)
        curvature = _inner(p, Ap)
        if not curvature > 0.0:
            return (p if k == 1 else u), k
        alpha = rz / curvature
        u += alpha * p
        r -= alpha * Ap
        z = precondition(r)
        if size(r, z) <= tol * tol * first:
            break
        rz, before = _inner(r, z), rz
        p = z + (rz / before) * p
    return u, k


def _product(A: Array, B: Array, *, ta: bool = False, tb: bool = False) -> Array:
    """`blas.product` of small matrices in float64, in half its overhead."""
    found: Array = dgemm(1.0, B.T, A.T, trans_a=tb, trans_b=ta).T
    return found


def _inner(A: Array, B: Array) -> float:
    a, b = A.reshape(-1), B.reshape(-1)
    return float(ddot(a, b)) if 0 < len(a) <= blas.PIECE else blas.dot(a, b)


def _inverse(Z: Array) -> Array:
    """The inverse of a positive definite matrix. D³ flops."""
    L, _ = lapack.dpotrf(Z.T, lower=0)
    inverse, _ = lapack.dpotri(L, lower=0)
    return mirrored(np.ascontiguousarray(inverse.T))
