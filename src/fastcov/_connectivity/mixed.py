"""Gains and a connectivity together, ½‖S − C‖² + (λ/2)‖z − 1‖² + (μ/2)‖W‖² with C that of (diag(z) + W)X.

For given gains z, W is a free connectivity of the responses diag(z)X: W = Ỹ_z Ω Xᵀ with Ỹ_z = J diag(z) X.
The exact minimum over W takes a few Newton steps over conditions, see `newton`. So the loss is minimised over
z alone, f(z) = min_W loss(z, W), by L-BFGS with the gradient

    ∇f = 2 rowsum(X ∘ (Ỹ_z B E)) + λ(z − 1),    B = I + ΩK,

in which W may be held, as the loss is at its minimum in W (variable projection: Golub and Pereyra 1973). To
alternate between exact fits of either part leads to the same points, and takes many more rounds where the two
parts can make the same change.

Where the mean over channels that is removed lies in the span of X, as with no more channels than conditions
or with a condition to which all channels respond alike, C has not the rank of K at all gains, so `newton` has
nothing to stand on. Then L-BFGS goes over z and W = A Lᵀ together, with an orthonormal basis L (N × r) of the
columns of X. There W = J diag(z) X Ω Xᵀ at a minimum for some Ω, unless I + (2/μ)EK is singular there: then
what Ω can say of W has a gradient that tells.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from .._compute import blas
from .._inputs.validation import require_memory
from .._model.problem import Problem
from .._model.products import squared_norms, weighted_adjoint
from . import newton
from .reduced import Reduced, mirrored
from .solve import INACCURATE, OUTSIDE, Limits

Array = NDArray[np.float64]

# The gradient in W is brought to this share of what is asked of both.
INNER = 0.1
# Newton steps over conditions at most, for given gains.
MOST_STEPS = 50
# Pairs of steps that L-BFGS keeps.
MEMORY = 30
# Evaluations in one line search at most.
SEARCH = 40


@dataclasses.dataclass(frozen=True, eq=False)
class Mixed:
    """Gains z and W = J diag(z) X Ω Xᵀ for one target, in the units of the problem."""

    gains: Array  # (N,)
    omega: Array  # (D, D)
    at_gains: Array  # Γ_z, the covariance at the gains alone (D, D)
    covariance: Array  # C (D, D)
    square: float  # ‖W‖²
    loss: float
    residual: float  # norm of the gradient in z and W over that at z = 1, W = 0
    status: str
    iterations: int
    products: int
    warm: Array  # what the fit at a neighbouring ridge may begin with


class _Enough(Exception):
    """Raised where the gradient is small enough."""


class _Loss:
    """f(z) and its gradient, in the variables u = h (z − 1) in which the curvature is near one."""

    def __init__(
        self, problem: Problem, reduced: Reduced, S: Array, ridge: float, other: float, tol: float
    ) -> None:
        self.problem, self.reduced, self.S = problem, reduced, S
        self.ridge, self.other, self.tol = ridge, other, tol
        norms = squared_norms(problem) + ridge
        self.h = np.sqrt(np.where(norms > 0, norms, 1.0))
        self.Z = np.eye(len(reduced.moments_eigen[0]))
        self.products = 0
        # The norm of the gradient in z and W at z = 1 and W = 0.
        E = reduced.pull(reduced.covariance - S)
        in_gains = weighted_adjoint(problem.plain, E[np.newaxis])[0][0]
        self.unit = float(np.hypot(blas.norm(in_gains), newton.gradient_at_zero(reduced, S)))

    def evaluate(self, z: Array) -> tuple[float, Array]:
        """f and ∇f at gains z."""
        reduced = self.at(z)
        scale = newton.gradient_at_zero(reduced, self.S)
        inner = INNER * self.tol * self.unit / scale if scale > 0 else 1.0
        found = newton.minimum(reduced, self.S, self.other, min(inner, 1e-2), MOST_STEPS, scale, self.Z)
        self.Z, self.products = found.Z, self.products + found.products
        return self.measured(z, reduced, newton.omega_of(reduced, found.Z))

    def measured(self, z: Array, reduced: Reduced, omega: Array) -> tuple[float, Array]:
        """The loss at z and Ω, and its gradient in z; that in W is part of `size`."""
        self.omega = omega
        K = reduced.moments
        B = blas.product(self.omega, K)
        B[np.diag_indices(len(B))] += 1.0
        self.C = reduced.covariance_of(B)
        image = reduced.image(self.C - self.S)
        pulled = reduced.pull(self.C - self.S)
        WK = blas.product(blas.product(reduced.root, self.omega), reduced.wide_root)
        self.square = float(blas.norm(WK)) ** 2
        delta = z - 1.0
        self.value = 0.5 * float(blas.norm(image)) ** 2 + 0.5 * self.ridge * blas.dot(delta, delta)
        self.value += 0.5 * self.other * self.square
        M = np.ascontiguousarray(blas.product(B, pulled).T)
        gradient = weighted_adjoint(self.problem.at(z).plain, M[np.newaxis])[0][0] + self.ridge * delta
        T = 2.0 * blas.product(B, pulled) + self.other * self.omega
        self.size = float(np.hypot(blas.norm(gradient), reduced.gradient_norm(T)))
        self.at_gains = reduced.covariance
        return self.value, gradient

    def at(self, z: Array) -> Reduced:
        """The problem over conditions at gains z."""
        covariance = self.problem.at(z).covariance()
        return dataclasses.replace(self.reduced, covariance=covariance, at_one=self.reduced)


class _Together:
    """The loss and its gradient in u = h (z − 1) and k A, where the mean is in the span of X: see above."""

    def __init__(self, loss: _Loss) -> None:
        (N, D), (self.s, self.right) = loss.problem.shape, loss.reduced.moments_eigen
        self.n_variables = N * (1 + len(self.s))
        require_memory(
            8 * (2 * MEMORY * self.n_variables + 6 * N * D),
            f"Gains and a connectivity of {N} x {D} responses whose mean over channels lies in their span",
            "leave out conditions to which all channels respond alike, or use center=False",
        )
        self.loss, self.X = loss, loss.problem.responses()
        self.k = np.sqrt(loss.other + 2.0 * np.square(self.s) * np.square(self.s).mean())
        self.size = np.inf  # norm of the gradient

    def parts(self, u: Array) -> tuple[Array, Array]:
        """z (N,) and A (N, r)."""
        N = len(self.X)
        return 1.0 + u[:N] / self.loss.h, u[N:].reshape(N, len(self.s)) / self.k

    def evaluate(self, u: Array) -> tuple[float, Array]:
        z, A = self.parts(u)
        loss, delta = self.loss, z - 1.0
        Y = z[:, np.newaxis] * self.X + blas.product(A * self.s, self.right)
        Y -= Y.mean(axis=0)
        E = blas.self_product(Y, transpose=True)
        E = mirrored(E) - loss.S
        image = loss.reduced.image(E)
        M = 2.0 * blas.product(Y, loss.reduced.pull(E))
        in_z = np.einsum("nd,nd->n", M, self.X) + loss.ridge * delta
        in_A = blas.product(M, self.right, tb=True) * self.s + loss.other * A
        self.size = float(np.hypot(blas.norm(in_z), blas.norm(in_A)))
        value = float(blas.norm(image)) ** 2 + loss.ridge * float(blas.norm(delta)) ** 2
        value += loss.other * float(blas.norm(A)) ** 2
        return 0.5 * value, np.concatenate([in_z / loss.h, (in_A / self.k).ravel()])

    def omega(self, u: Array) -> Array:
        """Ω of the W of A."""
        z, A = self.parts(u)
        out = z[:, np.newaxis] * self.X
        inverse = np.linalg.pinv(out - out.mean(axis=0))
        return blas.product(blas.product(inverse, A / self.s), self.right)


def minimum(
    problem: Problem, reduced: Reduced, S: Array, ridge: float, other: float, limits: Limits,
    warm: Array | None = None,
) -> Mixed:  # fmt: skip
    """A joint minimum for one target, from gains of one or those of a neighbouring ridge.

    Each evaluation takes 2ND² flops for Γ_z and as many for the gradient, and some Newton steps over D × D.
    """
    loss, N = _Loss(problem, reduced, S, ridge, other, limits.tol), problem.shape[0]
    together = _Together(loss) if reduced.outside <= OUTSIDE else None
    start = np.zeros(N) if warm is None else (warm - 1.0) * loss.h
    if together is not None:
        start = np.concatenate([start, np.zeros(together.n_variables - N)])
    best: list[Array] = []
    counted = 0

    def function(u: Array) -> tuple[float, Array]:
        nonlocal counted
        counted += 1
        if together is not None:
            value, slope = together.evaluate(u)
            size = together.size
        else:
            value, gradient = loss.evaluate(1.0 + u / loss.h)
            size, slope = loss.size, gradient / loss.h
        share = size / loss.unit if loss.unit > 0 else 0.0
        if limits.watch is not None:
            limits.watch(share)
        if share <= limits.tol:
            best[:] = [u.copy()]
            raise _Enough
        return value, slope

    status = "max-iterations"
    try:
        ended = scipy.optimize.minimize(
            function, start, jac=True, method="L-BFGS-B",
            options={
                "maxiter": limits.max_iterations, "maxfun": 2 * limits.max_iterations, "ftol": 0.0,
                "gtol": 0.0, "maxcor": MEMORY, "maxls": SEARCH,
            },
        )  # fmt: skip
        u = ended.x
        if together is None:
            loss.evaluate(1.0 + u / loss.h)
        if ended.nit < limits.max_iterations and ended.nfev < 2 * limits.max_iterations:
            status = "stagnated"
    except _Enough:
        u, status = best[0], "converged"
    z = 1.0 + u[:N] / loss.h
    if together is not None:
        loss.measured(z, loss.at(z), together.omega(u))
    residual = loss.size / loss.unit if loss.unit > 0 else 0.0
    if status == "converged" and residual > 100.0 * limits.tol:
        status = INACCURATE
    return Mixed(
        z, loss.omega, loss.at_gains, loss.C, loss.square, loss.value, residual, status, counted,
        loss.products, z,
    )  # fmt: skip
