"""Operations on a whole connectivity: the free model, its path, and gains beside it."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

import fastcov as fc

from ..datasets import Simulation
from ._operation import FLY, LARGE, SMALL, TINY, Task, bare, bare_eigenvectors, covariance_flops, operation
from ._reference import Reference, near, require

Array = NDArray[Any]

# λ over the square of the largest eigenvalue of Γ, and ridges of a path in the same units.
SHARE, SHARES = 1e-2, tuple(float(share) for share in np.logspace(-4, 0, 100))
# Norm of the gradient at which fits end, over that at W = 0, and the one that is accepted.
TOL, ACCEPTED = 1e-6, 2e-6
# Eigendecompositions in the floor: as many as the Newton steps of a fit, and what a few products take.
TIMES = 10
CHECKED = (0, 49, 99)


class _Enough(Exception):
    """Raised where the gradient is small enough."""


class _Moments:
    """Γ, n = √N m and K of some responses, in plain NumPy, and gradients of the loss in W = X̃ΩXᵀ."""

    def __init__(self, X: Array) -> None:
        wide = X.astype(np.float64)
        mean = wide.mean(axis=0)
        self.G = (wide - mean).T @ (wide - mean)
        self.n = np.sqrt(len(X)) * mean
        self.K = self.G + np.outer(self.n, self.n)
        values, vectors = np.linalg.eigh(self.G)
        self.root = np.sqrt(np.maximum(values, 0.0))[:, np.newaxis] * vectors.T
        self.x = np.vstack([self.root, self.n])
        self.unit = float(values[-1]) ** 2

    def size(self, T: Array) -> float:
        """‖X̃ T Xᵀ‖."""
        return float(np.linalg.norm(self.root @ T @ self.x.T))

    def residual(self, S: Array, omega: Array, ridge: float) -> float:
        """The gradient at Ω, over that at W = 0."""
        B = np.eye(len(S)) + omega @ self.K
        E = B.T @ self.G @ B - S
        return self.size(2 * B @ E + ridge * omega) / self.size(2 * (self.G - S))

    def residual_of_linear(self, S: Array, omega: Array, ridge: float) -> float:
        """The same of the linearised loss."""
        M = self.K @ omega @ self.G
        return self.size(2 * (S - self.G - M - M.T) - ridge * omega) / self.size(2 * (S - self.G))

    def minimum(self, S: Array, ridge: float) -> Array:
        """Ω by L-BFGS over the D x (D + 1) numbers of W in orthonormal coordinates of channels."""
        D, x = len(S), self.x
        unit, scale = np.linalg.norm(2 * x[:D] @ (self.G - S) @ x.T), np.sum((self.G - S) ** 2)
        ends = [np.zeros((D, D + 1))]

        def function(v: Array) -> tuple[float, Array]:
            M = v.reshape(D, D + 1)
            Y = x[:D] + M @ x
            E = Y.T @ Y - S
            gradient = 2 * Y @ E @ x.T + ridge * M
            if np.linalg.norm(gradient) <= TOL * unit:
                ends.append(np.linalg.solve(self.root, M @ x) @ np.linalg.inv(self.K))
                raise _Enough
            return (np.sum(E * E) + ridge * np.sum(M * M)) / scale, 2 * gradient.ravel() / scale

        with contextlib.suppress(_Enough):
            scipy.optimize.minimize(
                function, ends[0].ravel(), jac=True, method="L-BFGS-B",
                options={"maxiter": 10**5, "maxfun": 10**5, "ftol": 0.0, "gtol": 0.0, "maxcor": 20},
            )  # fmt: skip
        return ends[-1]


def _target(simulation: Simulation) -> Array:
    return np.asarray(simulation.S, np.float64)


@operation("free", ["fit"], (TINY, SMALL, FLY, LARGE), singles=(SMALL,))
def free(simulation: Simulation) -> Task:
    """The free model at λ/γ² of 0.01: a covariance, and some 6 Newton steps of 70D³ flops.

    The naive version is L-BFGS over D x (D + 1) numbers. The floor is SYRK of X and ten eigendecompositions
    of D x D matrices. The certificate is computed from Ω in plain NumPy.
    """
    X, S, (N, D) = simulation.X, _target(simulation), simulation.X.shape
    moments = _Moments(X)
    ridge = SHARE * moments.unit
    (syrk,) = bare(simulation, "syrk")
    eigenvectors = bare_eigenvectors(moments.G)

    def check(result: Any) -> None:
        omega = result.omega if isinstance(result, fc.Connectivity) else result
        if isinstance(result, fc.Connectivity):
            require(result.status == "converged", f"status {result.status}")
            near(result.covariance(), result.covariance().T, 0.0)
        accepted = ACCEPTED if X.dtype == np.float64 else 1e-3
        found = moments.residual(S, omega, ridge)
        require(found <= accepted, f"a gradient of {found:.1e}, more than {accepted:.0e}")

    def floor() -> None:
        syrk(1.0, X.T)
        for _ in range(TIMES):
            eigenvectors()

    return Task(
        ours=lambda: fc.fit(X, S, ridge=ridge, method="free"), check=check, floor=floor,
        naive=lambda: _Moments(X).minimum(S, ridge), flops=covariance_flops(N, D) + 420.0 * D**3,
        nbytes=float(X.nbytes) + 80.0 * D**2,
    )  # fmt: skip


@operation("free-path", ["ridge_path"], (TINY, SMALL, FLY))
def free_path(simulation: Simulation) -> Task:
    """The linearised free model at 100 ridges: one eigendecomposition, then 2D³ flops for each ridge.

    The naive version solves the D x D system of each ridge by LU, and rotates each Ω back. The floor is SYRK
    of X, one eigendecomposition, and a SYRK of D x D for each ridge. The certificates of three are computed.
    """
    X, S, (N, D) = simulation.X, _target(simulation), simulation.X.shape
    moments = _Moments(X)
    ridges = [share * moments.unit for share in SHARES]
    (syrk,) = bare(simulation, "syrk")
    eigenvectors, square = bare_eigenvectors(moments.G), np.asfortranarray(moments.G)

    def naive() -> list[Array]:
        found = _Moments(X)
        g, V = np.linalg.eigh(found.G)
        n, E = V.T @ found.n, V.T @ (S - found.G) @ V
        omegas = []
        for ridge in ridges:
            inverse = 1 / (ridge + 4 * np.outer(g, g))
            A = 2 * (g * n)[:, np.newaxis] * inverse * n + np.diag(1 + 2 * g * (inverse @ n**2))
            cross = np.outer(n, np.linalg.solve(A, g * ((E * inverse) @ n)))
            omegas.append(2 * V @ ((E - 2 * (cross + cross.T)) * inverse) @ V.T)
        return omegas

    def check(result: Any) -> None:
        for k in CHECKED:
            one: Any = result[k]
            omega = one.omega if isinstance(one, fc.Connectivity) else one
            found = moments.residual_of_linear(S, omega, ridges[k])
            require(
                found <= (1e-9 if X.dtype == np.float64 else 1e-4), f"a gradient of {found:.1e} at ridge {k}"
            )

    def floor() -> None:
        syrk(1.0, X.T)
        eigenvectors()
        for _ in ridges:
            syrk(1.0, square)

    return Task(
        ours=lambda: fc.ridge_path(X, S, ridges=ridges, method="free-linear"), check=check, naive=naive,
        floor=floor, flops=covariance_flops(N, D) + 9.0 * D**3 + 200.0 * D**3,
        nbytes=8.0 * N * D + 2400.0 * D**2,
    )  # fmt: skip


@operation("mixed", ["fit"], (TINY, SMALL))
def mixed(simulation: Simulation) -> Task:
    """Gains beside a connectivity: some 30 evaluations of 4ND² flops and of Newton steps over D x D.

    There is no naive version: N + N² unknowns. The floor is 30 covariances and products with an error. The
    gradients in gains and in W are computed.
    """
    X, S, (N, D) = simulation.X, _target(simulation), simulation.X.shape
    moments, reference = _Moments(X), Reference(X)
    ridge, other = 1e-2 * float(np.square(X, dtype=np.float64).sum(axis=1).max()) ** 2, SHARE * moments.unit
    syrk, gemm = bare(simulation, "syrk", "gemm")
    error = np.zeros((D, D), X.dtype, order="F")

    def check(result: Any) -> None:
        require(result.status == "converged", f"status {result.status}")
        z, omega = result.gains, result.omega
        Xz = z[:, np.newaxis] * X.astype(np.float64)
        Yz = Xz - Xz.mean(axis=0)
        B = np.eye(D) + omega @ moments.K
        Y = Yz @ B
        E = Y.T @ Y - S
        in_gains = 2 * np.sum(X * (Y @ E), axis=1) + ridge * (z - 1)
        in_w = np.linalg.norm(Yz @ (2 * B @ E + other * omega) @ moments.x.T)
        at_one = reference.gradient(S, np.ones(N))
        unit = np.hypot(np.linalg.norm(at_one), moments.size(2 * (moments.G - S)))
        found = np.hypot(np.linalg.norm(in_gains), in_w) / unit
        require(found <= ACCEPTED, f"a gradient of {found:.1e}, more than {ACCEPTED:.0e}")

    def floor() -> None:
        for _ in range(30):
            syrk(1.0, X.T)
            gemm(1.0, error, X.T)

    return Task(
        ours=lambda: fc.fit(X, S, ridge=ridge, free_ridge=other, method="mixed"), check=check, floor=floor,
        flops=30.0 * (4.0 * N * D**2 + 140.0 * D**3), nbytes=24.0 * N * D,
    )  # fmt: skip
