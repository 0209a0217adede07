"""Free, symmetric and positive semi-definite connectivities in orthonormal coordinates of the channels.

Let the columns of U be an orthonormal basis of those of x̂ (see `reduced`), q of them, the last one 1/√N where
the mean is removed. With x = UᵀX and W = U A Uᵀ, the problem for N channels is that for q of them:

    ½‖S − YᵀY‖² + (λ/2)‖A‖²,    Y = J(I + A)x,

where J drops the last row. Symmetric connectivities have a symmetric A; positive semi-definite are those with
I + A = VVᵀ, in which the loss is smooth. Where the gradient 𝒢 with respect to A, symmetrised, is positive
semi-definite and 𝒢V = 0, the conditions of a minimum over semi-definite I + A hold (Burer and Monteiro 2003).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .newton import gradient_at_zero
from .reduced import Reduced
from .trust_region import Ended, minimise

Array = NDArray[np.float64]

# Eigenvalues of Γ above this share of the largest give coordinates.
LIVE = 1e-13
# Eigenvalues of I + A below this share of the largest count as zero.
NULL = 1e-8
# Negative eigenvalues of I + A are set to this share of the largest, where the semi-definite fit begins.
BEGIN = 1e-2

Watch = Callable[[float], object] | None


@dataclasses.dataclass(frozen=True, eq=False)
class Core:
    """The problem in the coordinates U."""

    reduced: Reduced
    S: Array
    ridge: float

    @functools.cached_property
    def live(self) -> NDArray[np.intp]:
        """U = x̂ [V_live γ^−½, and 1 for the last column]: which eigenvalues of Γ are live."""
        values = self.reduced.eigen[0]
        return np.flatnonzero(values > LIVE * values[-1])

    @functools.cached_property
    def x(self) -> Array:
        """UᵀX (q, D)."""
        rows = self.reduced.eigen_root[self.live]
        return np.vstack([rows, self.reduced.mean]) if self.reduced.center else rows.copy()

    @property
    def kept(self) -> int:
        """The number of rows that J keeps."""
        return len(self.live)

    @functools.cached_property
    def scale(self) -> float:
        """The norm of the gradient at W = 0; infinite where W = 0 is the minimum."""
        return gradient_at_zero(self.reduced, self.S) or np.inf

    @functools.cached_property
    def basis(self) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors (rows) of xxᵀ, for the preconditioner."""
        vectors = blas.product(self.x, self.x, tb=True)
        return np.maximum(blas.eigh(vectors), 0.0), vectors

    def phi(self, A: Array) -> Array:
        """Φ of W = U A Uᵀ."""
        values, vectors = self.reduced.eigen
        D, k = len(values), self.kept
        back = np.ascontiguousarray((vectors[self.live] / np.sqrt(values[self.live])[:, np.newaxis]).T)
        p = D + self.reduced.center
        Q = np.zeros((p, len(self.x)))
        Q[:D, :k] = back
        if self.reduced.center:
            Q[D, k] = 1.0
        return blas.product(blas.product(Q, A), Q, tb=True)

    def omega(self, A: Array) -> Array:
        """Ω of the free W = X̃ΩXᵀ, of which A has the rows that J keeps: a minimum has no other part."""
        values, vectors = self.reduced.eigen
        back = vectors[self.live].T / np.sqrt(values[self.live])
        s, V = self.reduced.moments_eigen
        right = blas.product(np.ascontiguousarray(A[: self.kept]), blas.product(self.x, V, tb=True) / s**2)
        return blas.product(np.ascontiguousarray(back), blas.product(right, V))

    def output(self, A: Array) -> Array:
        """Y = J(I + A)x (kept, D)."""
        Y = blas.product(np.ascontiguousarray(A[: self.kept]), self.x)
        Y += self.x[: self.kept]
        return Y

    def at(self, A: Array, *, symmetric: bool) -> _At:
        return _At(self, A, symmetric)


class _At:
    """The loss around A, with its gradient and curvature."""

    def __init__(self, core: Core, A: Array, symmetric: bool) -> None:
        self.core, self.symmetric = core, symmetric
        self.Y = core.output(A)
        E = blas.product(self.Y, self.Y, ta=True) - core.S
        image = core.reduced.image(E)
        self.loss = float(0.5 * blas.norm(image) ** 2 + 0.5 * core.ridge * blas.norm(A) ** 2)
        self.pulled = E if core.reduced.metric is None else core.reduced.metric.weighed(image)
        self.gradient = self._spread(2.0 * blas.product(self.Y, self.pulled)) + core.ridge * A

    def _spread(self, M: Array) -> Array:
        """M xᵀ (q, q) for M of the kept rows; symmetrised where A is symmetric."""
        q = len(self.core.x)
        out = np.zeros((q, q))
        blas.product(np.ascontiguousarray(M), self.core.x, tb=True, out=out[: len(M)])
        return 0.5 * (out + out.T) if self.symmetric else out

    def curvature(self, dA: Array) -> Array:
        core = self.core
        dY = blas.product(np.ascontiguousarray(dA[: core.kept]), core.x)
        dC = blas.product(dY, self.Y, ta=True)
        dC = core.reduced.pull(dC + dC.T)
        return (
            self._spread(2.0 * (blas.product(dY, self.pulled) + blas.product(self.Y, dC))) + core.ridge * dA
        )

    @functools.cached_property
    def _divisor(self) -> Array:
        """The diagonal of the Hessian without E, in the eigenvectors of xxᵀ."""
        core, (k, vectors) = self.core, self.core.basis
        Y = np.zeros(core.x.shape)
        Y[: core.kept] = self.Y
        left = blas.product(vectors, Y)
        y = np.square(left).sum(axis=1)
        h = np.einsum("ij,ij->i", left, blas.product(vectors, core.x))
        both = np.outer(y, k)
        whole = both + both.T + 2.0 * np.outer(h, h) if self.symmetric else 2.0 * both
        whole = core.ridge + np.maximum(whole, 0.0)
        return np.maximum(whole, np.finfo(np.float64).eps * whole.max() or 1.0)

    def diagonally(self, r: Array) -> Array:
        """The inverse of the diagonal, times r."""
        vectors = self.core.basis[1]
        inside = blas.product(blas.product(vectors, r), vectors, tb=True) / self._divisor
        return blas.product(blas.product(vectors, inside, ta=True), vectors)

    def precondition(self, r: Array) -> Array:
        out = self.diagonally(r)
        if self.symmetric:
            return 0.5 * (out + out.T)
        out[self.core.kept :] = 0.0
        return out


class _Factored:
    """The loss around V with I + A = VVᵀ."""

    def __init__(self, core: Core, V: Array) -> None:
        self.V = V
        self.A = blas.product(V, V, tb=True)
        self.A[np.diag_indices(len(V))] -= 1.0
        self.inner = core.at(self.A, symmetric=True)
        self.loss = self.inner.loss
        self.gradient = 2.0 * blas.product(self.inner.gradient, V)

    def curvature(self, dV: Array) -> Array:
        dA = blas.product(dV, self.V, tb=True)
        dG = self.inner.curvature(dA + dA.T)
        return 2.0 * (blas.product(dG, self.V) + blas.product(self.inner.gradient, dV))

    def precondition(self, r: Array) -> Array:
        """The preconditioner of symmetric A for both sides of V, which is near I on the whole."""
        return 0.25 * self.inner.diagonally(r)

    @functools.cached_property
    def slope(self) -> float:
        return float(blas.norm(inwards(self.A, self.inner.gradient)))


def inwards(A: Array, gradient: Array) -> Array:
    """The gradient without what leads out of the matrices A with a positive semi-definite I + A."""
    vectors = A + np.eye(len(A))
    values = blas.eigh(vectors)
    G = blas.product(blas.product(vectors, gradient), vectors, tb=True)
    null = np.flatnonzero(values <= NULL * values[-1])
    if len(null):
        slopes = np.ascontiguousarray(-G[np.ix_(null, null)])
        G[np.ix_(null, null)] = np.diag(np.maximum(blas.eigh(slopes), 0.0))  # in its own eigenvectors
    return G


def free(core: Core, tol: float, most: int, watch: Watch = None) -> tuple[Array, Ended[Any]]:
    """A minimum over all A, and the norm of its gradient over that at A = 0."""
    return _smooth(core, False, tol, most, watch)


def symmetric(core: Core, tol: float, most: int, watch: Watch = None) -> tuple[Array, Ended[Any]]:
    """A minimum over symmetric A.

    There may be several where the mean over channels is removed. If the one that is reached from A = 0 has an
    indefinite I + A, it has changed the sign of a pattern on its way. Then the one that is reached from the
    semi-definite minimum is taken if it is lower.
    """
    A, ended = _smooth(core, True, tol, most, watch)
    vectors = A + np.eye(len(A))
    values = blas.eigh(vectors)
    if values[0] >= 0.0:
        return A, ended
    other, within = _within(core, values, vectors, tol, most, watch)
    B, again = _smooth(core, True, tol, most, watch, start=other)
    chosen = (B, again) if again.point.loss < ended.point.loss else (A, ended)
    return chosen[0], _counted(chosen[1], ended, within, again)


def semidefinite(core: Core, tol: float, most: int, watch: Watch = None) -> tuple[Array, Ended[Any]]:
    """A minimum over A with a positive semi-definite I + A: the symmetric one where that is so."""
    A, ended = _smooth(core, True, tol, most, watch)
    vectors = A + np.eye(len(A))
    values = blas.eigh(vectors)
    if values[0] >= 0.0:
        return A, ended
    A, within = _within(core, values, vectors, tol, most, watch)
    return A, _counted(within, ended, within)


def _within(
    core: Core, values: Array, vectors: Array, tol: float, most: int, watch: Watch
) -> tuple[Array, Ended[Any]]:
    """A minimum with a semi-definite I + A, from an I + A with these eigenvalues and eigenvectors."""
    values = np.maximum(values, BEGIN * values[-1])
    V = blas.product(np.sqrt(values)[:, np.newaxis] * vectors, vectors, ta=True)
    ended = minimise(lambda V: _Factored(core, V), V, lambda at: at.slope / core.scale, tol, most, watch)
    return ended.point.A, ended


def _counted(chosen: Ended[Any], *all_of_them: Ended[Any]) -> Ended[Any]:
    """The chosen end, with the counts of all."""
    return dataclasses.replace(
        chosen, iterations=sum(each.iterations for each in all_of_them),
        products=sum(each.products for each in all_of_them),
    )  # fmt: skip


def _smooth(
    core: Core, symmetric: bool, tol: float, most: int, watch: Watch, start: Array | None = None
) -> tuple[Array, Ended[Any]]:
    q = len(core.x)
    ended = minimise(
        lambda A: core.at(A, symmetric=symmetric), np.zeros((q, q)) if start is None else start,
        lambda at: float(blas.norm(at.gradient)) / core.scale, tol, most, watch,
    )  # fmt: skip
    return ended.value, ended
