"""Peers of exact fits and of cross-validation: L-BFGS-B of SciPy over a loss and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, eigsh

from ._fits import operator
from ._given import Array, Given, blas_threads, within

# The gradient of the exact loss over that at gains of one, as exact fits have it here.
TOL = 1e-6

ValueAndGradient = Callable[[Array], tuple[float, Array]]


def lbfgs(loss: ValueAndGradient, start: Array, goal: float) -> Array:
    """Gains from a start at which the gradient's norm is at most `goal`."""
    first, _ = loss(start)
    last: dict[str, Any] = {}

    def scaled(z: Array) -> tuple[float, Array]:
        value, gradient = loss(z)
        last["gains"], last["slope"] = z.copy(), np.linalg.norm(gradient)
        return value / first, gradient / first

    def ended(_: Array) -> None:
        if last["slope"] <= goal:
            raise StopIteration

    # Its own criteria are of single entries; they are set beyond the goal.
    gtol = goal / first / np.sqrt(len(start)) / 10
    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0.0, "gtol": gtol}
    minimize(scaled, start, jac=True, method="L-BFGS-B", callback=ended, options=options)
    if last["slope"] > goal:
        raise RuntimeError(f"L-BFGS-B stopped at a gradient of {last['slope']:.1e}, not {goal:.1e}.")
    return last["gains"]


def numpy_loss(X: Array, S: Array, ridge: float) -> ValueAndGradient:
    """The exact loss and its gradient in NumPy."""

    def loss(z: Array) -> tuple[float, Array]:
        Y = z[:, np.newaxis] * X
        Y -= Y.mean(axis=0)
        E = Y.T @ Y - S
        delta = z - 1.0
        value = 0.5 * np.vdot(E, E) + 0.5 * ridge * (delta @ delta)
        return value, 2.0 * np.einsum("ij,ij->i", X, Y @ E) + ridge * delta

    return loss


def _minimum(given: Given, loss: ValueAndGradient) -> Callable[[], Array]:
    ones = np.ones(len(given.X))

    def run() -> Array:
        _, slope = loss(ones)
        return lbfgs(loss, ones, (given.tol or TOL) * float(np.linalg.norm(slope)))

    return run


def _scipy(given: Given) -> Callable[[], Array]:
    return within(lambda: blas_threads(given.work), _minimum(given, numpy_loss(*given.double, given.ridge)))


def _largest(X: Array) -> float:
    """The largest eigenvalue of GᵀG."""
    G, N = operator(X), len(X)
    gram = LinearOperator((N, N), matvec=lambda v: G.rmatvec(G.matvec(v)), dtype=np.float64)
    return float(eigsh(gram, k=1, tol=1e-10, v0=np.ones(N), return_eigenvectors=False)[0])


def _covariance(X: Array) -> Array:
    centred = X - X.mean(axis=0)
    return centred.T @ centred


def _scipy_study(given: Given) -> Callable[[], Array]:
    X, _ = given.double
    Y, relative = np.asarray(given.responses, np.float64), np.asarray(given.relative_ridges, np.float64)

    def run() -> Array:
        target = _covariance(Y)
        r2 = np.empty((len(given.folds), len(relative)))
        for f, (train, test) in enumerate(given.folds):
            A, B = np.ascontiguousarray(X[:, train]), X[:, test]
            fitted, held_out = target[np.ix_(train, train)], target[np.ix_(test, test)]
            scale = np.trace(_covariance(A)) / np.trace(fitted)
            largest, ones = _largest(A), np.ones(len(A))
            z = ones
            for k in np.argsort(-relative):
                loss = numpy_loss(A, scale * fitted, relative[k] * largest)
                z = lbfgs(loss, z, (given.tol or TOL) * float(np.linalg.norm(loss(ones)[1])))
                left = _covariance(z[:, np.newaxis] * B) - scale * held_out
                r2[f, k] = 1.0 - np.vdot(left, left) / np.vdot(scale * held_out, scale * held_out)
        return r2

    return within(lambda: blas_threads(given.work), run)


FITS: dict[str, Callable[[Given], Callable[[], Any]]] = {"SciPy L-BFGS-B": _scipy}
STUDIES: dict[str, Callable[[Given], Callable[[], Any]]] = {"SciPy L-BFGS-B": _scipy_study}
