"""Exact minima beside the lowest that are known, in plain NumPy and SciPy: nothing of fastcov finds them.

Two ways of finding them: the lowest of many starts of L-BFGS-B, and that of the method's author, who goes
from a minimum to where the best change of a single gain leads, minimises again, and so on until no single
gain lowers the loss. Along one gain, z_i + s, the loss is a quartic in s: with x the row of X and ỹ that of J
diag(z) X, E the error, κ = 1 − 1/N, p = x·x, q = ỹ·ỹ, a = x·ỹ and δ = z_i − 1,

    L(s) − L(0) = s (2 xᵀEỹ + λδ) + s² (pq + a² + κ xᵀEx + λ/2) + s³ 2κpa + s⁴ κ²p²/2
"""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py

# isort: split
import functools
import os
from typing import Any

from numpy.typing import NDArray
from scipy.optimize import minimize

import fastcov as fc
from fastcov._bench._case import data
from fastcov._bench._peers._given import blas_threads
from first_rows import SMALL, TINY, Measured, Row, recordings

Array = NDArray[np.float64]

SHARES = (1e-1, 1e-2, 1e-3, 1e-4)
STARTS = 50
# The gradient at a minimum over that at gains of one, as fits have it.
TOL = 1e-6
# Of the loss: a single gain that lowers it by less is not followed. At a gradient of TOL the loss is its
# minimum but for the order of the square of that.
LEAST = 1e-9
# Restarts of the author's way: it ends long before.
MOST = 1000


class Problem:
    """½‖C(z) − S‖² + (λ/2)‖z − 1‖², C(z) = Xᵀ diag(z) J diag(z) X."""

    def __init__(self, X: Array, S: Array, ridge: float) -> None:
        self.X, self.S, self.ridge = X, S, ridge
        self.unit, slope = self.loss_and_gradient(np.ones(len(X)))
        self.goal = TOL * float(np.linalg.norm(slope))

    def parts(self, z: Array) -> tuple[Array, Array]:
        """Ỹ = J diag(z) X, and E."""
        Y = z[:, np.newaxis] * self.X
        Y -= Y.mean(axis=0)
        return Y, Y.T @ Y - self.S

    def loss_and_gradient(self, z: Array) -> tuple[float, Array]:
        Y, E = self.parts(z)
        delta = z - 1.0
        value = 0.5 * float(np.vdot(E, E)) + 0.5 * self.ridge * float(delta @ delta)
        return value, 2.0 * np.einsum("ij,ij->i", self.X, Y @ E) + self.ridge * delta

    def descend(self, start: Array) -> tuple[float, Array]:
        """A minimum by L-BFGS-B, and its loss."""
        options = {
            "maxiter": 20_000, "maxfun": 40_000, "ftol": 0.0,
            "gtol": self.goal / self.unit / len(self.X) ** 0.5,
        }  # fmt: skip

        def scaled(z: Array) -> tuple[float, Array]:
            value, slope = self.loss_and_gradient(z)
            return value / self.unit, slope / self.unit

        z: Array = minimize(scaled, start, jac=True, method="L-BFGS-B", options=options).x
        return self.loss_and_gradient(z)[0], z

    def single_gains(self, z: Array) -> Array:
        """Coefficients (N, 4) of s, s², s³, s⁴ along each gain."""
        Y, E = self.parts(z)
        XE, kappa = self.X @ E, 1.0 - 1.0 / len(z)
        p, q, a, b, c = (
            np.einsum("ij,ij->i", *pair)
            for pair in ((self.X, self.X), (Y, Y), (self.X, Y), (XE, Y), (XE, self.X))
        )
        return np.stack([
            2.0 * b + self.ridge * (z - 1.0), p * q + a**2 + kappa * c + 0.5 * self.ridge,
            2.0 * kappa * p * a, 0.5 * kappa**2 * p**2,
        ], axis=1)  # fmt: skip

    def best_move(self, z: Array) -> tuple[float, int, float]:
        """The change of the loss, the channel, and the change of its gain that lowers the loss most."""
        best = (0.0, 0, 0.0)
        for i, (c1, c2, c3, c4) in enumerate(self.single_gains(z)):
            if c4 == 0.0:  # a dead channel
                continue
            roots = np.roots([4.0 * c4, 3.0 * c3, 2.0 * c2, c1])
            for s in roots[np.abs(roots.imag) <= 1e-9 * (1.0 + np.abs(roots))].real:
                best = min(best, (float(s * (c1 + s * (c2 + s * (c3 + s * c4)))), i, float(s)))
        return best

    def escapes(self) -> tuple[float, int]:
        """The author's way: its loss, and how many moves it took."""
        value, z = self.descend(np.ones(len(self.X)))
        for moves in range(MOST):
            change, i, s = self.best_move(z)
            if change >= -LEAST * value:
                return value, moves
            z = z.copy()
            z[i] += s
            value, z = self.descend(z)
        return value, MOST

    def starts(self) -> float:
        """The lowest of STARTS minima: from ones, and from gains around one, every other of random signs."""
        random, lowest = np.random.default_rng(0), np.inf
        for k in range(STARTS):
            z = np.ones(len(self.X))
            if k:
                z += 0.5 * random.standard_normal(len(z))
            if k % 2:
                z *= random.choice([-1.0, 1.0], len(z))
            lowest = min(lowest, self.descend(z)[0])
        return lowest


@functools.cache
def small() -> tuple[fc.datasets.Simulation, str] | None:
    """148 glomeruli and 48 odours of the recordings: the channels of most variance, the first conditions."""
    real, at = recordings()
    if "FASTCOV_REAL_DATA" not in os.environ:
        return None
    N, D = TINY
    # In their order, so that it is the same whatever sorts.
    most = np.sort(np.argsort(-real.X.var(axis=1), kind="stable")[:N])
    X, Y = np.ascontiguousarray(real.X[most, :D]), np.ascontiguousarray(real.Y[:, :D])
    simulation = fc.datasets.Simulation(X, Y, fc.target_covariance(Y, like=X), np.ones(N))
    return simulation, f"{TINY} of {at}"


def minima(_: int, simulation: fc.datasets.Simulation, share: float) -> Measured:
    """The exact fit's loss over the lowest of both ways, each by the NumPy loss."""
    X, S = simulation.X.astype(np.float64), simulation.S
    fit = fc.fit(X, S, relative_ridge=share, method="exact")
    with blas_threads(1):
        problem = Problem(X, S, float(fit.ridge))
        ours = problem.loss_and_gradient(fit.gains)[0]
        starts, (escapes, moves) = problem.starts(), problem.escapes()
    said = f"{ours / starts:.5f} of the lowest of {STARTS} starts, {ours / escapes:.5f} of {moves} escapes"
    return ours / min(starts, escapes), said


def rows() -> list[Row]:
    """A row for each set and ridge."""
    sets: list[tuple[Any, str]] = [(data(TINY), f"{TINY}, simulated"), *filter(None, [small()]), recordings()]
    assert sets[-1][0].X.shape == SMALL
    what = "loss at the exact minimum / the lowest known"
    return [
        Row(what, f"{at}, λ/λ_max {share:g}", "≤ 1.001",
            functools.partial(minima, simulation=simulation, share=share), ".5f")
        for simulation, at in sets for share in SHARES
    ]  # fmt: skip
