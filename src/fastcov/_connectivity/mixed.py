"""Gains and a connectivity together, ½‖S − C‖² + (λ/2)‖z − 1‖² + (μ/2)‖W‖² with C that of (diag(z) + W)X.

For given gains z, W is a free connectivity of the responses diag(z)X: W = Ỹ_z Ω Xᵀ with Ỹ_z = J diag(z) X.
The exact minimum over W takes a few Newton steps over conditions, see `newton`. So the loss is minimised over
z alone, f(z) = min_W loss(z, W), by L-BFGS with the gradient

    ∇f = 2 rowsum(X ∘ (Ỹ_z B E)) + λ(z − 1),    B = I + ΩK,

in which W may be held, as the loss is at its minimum in W (variable projection: Golub and Pereyra 1973). To
alternate between exact fits of either part leads to the same points, and takes many more rounds where the two
parts can make the same change.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from .._compute import blas
from .._model.problem import Problem
from .._model.products import squared_norms, weighted_adjoint
from . import newton
from .reduced import Reduced
from .solve import Limits

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
        there = self.problem.at(z)
        reduced = dataclasses.replace(self.reduced, covariance=there.covariance(), at_one=self.reduced)
        scale = newton.gradient_at_zero(reduced, self.S)
        inner = INNER * self.tol * self.unit / scale if scale > 0 else 1.0
        found = newton.minimum(reduced, self.S, self.other, min(inner, 1e-2), MOST_STEPS, scale, self.Z)
        self.Z, self.products = found.Z, self.products + found.products
        self.omega = newton.omega_of(reduced, found.Z)
        K = reduced.moments
        B = blas.product(self.omega, K)
        B[np.diag_indices(len(B))] += 1.0
        self.C = reduced.covariance_of(B)
        image = reduced.image(self.C - self.S)
        pulled = reduced.pull(self.C - self.S)
        WK = blas.product(blas.product(reduced.root, self.omega), reduced.wide_root)
        self.square = float(blas.norm(WK)) ** 2
        delta = z - 1.0
        self.value = 0.5 * float(blas.norm(image)) ** 2 + 0.5 * self.ridge * float(delta @ delta)
        self.value += 0.5 * self.other * self.square
        M = np.ascontiguousarray(blas.product(B, pulled).T)
        gradient = weighted_adjoint(there.plain, M[np.newaxis])[0][0] + self.ridge * delta
        T = 2.0 * blas.product(B, pulled) + self.other * self.omega
        self.size = float(np.hypot(blas.norm(gradient), reduced.gradient_norm(T)))
        self.at_gains = reduced.covariance
        return self.value, gradient


def minimum(
    problem: Problem, reduced: Reduced, S: Array, ridge: float, other: float, limits: Limits,
    warm: Array | None = None,
) -> Mixed:  # fmt: skip
    """A joint minimum for one target, from gains of one or those of a neighbouring ridge.

    Each evaluation takes 2ND² flops for Γ_z and as many for the gradient, and some Newton steps over D × D.
    """
    loss = _Loss(problem, reduced, S, ridge, other, limits.tol)
    best: list[tuple[float, Array]] = []
    counted = 0

    def function(u: Array) -> tuple[float, Array]:
        nonlocal counted
        counted += 1
        z = 1.0 + u / loss.h
        value, gradient = loss.evaluate(z)
        share = loss.size / loss.unit if loss.unit > 0 else 0.0
        if limits.watch is not None:
            limits.watch(share)
        best[:] = [(share, z)]
        if share <= limits.tol:
            raise _Enough
        return value, gradient / loss.h

    start = np.zeros(problem.shape[0]) if warm is None else (warm - 1.0) * loss.h
    status = "max-iterations"
    try:
        ended = scipy.optimize.minimize(
            function, start, jac=True, method="L-BFGS-B",
            options={
                "maxiter": limits.max_iterations, "maxfun": 2 * limits.max_iterations, "ftol": 0.0,
                "gtol": 0.0, "maxcor": MEMORY, "maxls": SEARCH,
            },
        )  # fmt: skip
        z = 1.0 + ended.x / loss.h
        loss.evaluate(z)
        if ended.nit < limits.max_iterations and ended.nfev < 2 * limits.max_iterations:
            status = "stagnated"
    except _Enough:
        z, status = best[0][1], "converged"
    residual = loss.size / loss.unit if loss.unit > 0 else 0.0
    return Mixed(
        z, loss.omega, loss.at_gains, loss.C, loss.square, loss.value, residual, status, counted,
        loss.products, z,
    )  # fmt: skip
