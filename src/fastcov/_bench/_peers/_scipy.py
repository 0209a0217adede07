"""NumPy and SciPy as peers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import eigh, svd
from scipy.sparse.linalg import LinearOperator, eigsh, lsqr

from ._atoms import pairs, system
from ._given import RESIDUAL, Array, PeerInput, blas_threads, threaded, writeable
from ._lbfgs import TOL, ValueAndGradient, lbfgs, minimum


def operator(X: Array) -> LinearOperator:
    """Return G (D², N) as an operator that does not form it, by two products with X.

    Its adjoint takes vectors of symmetric matrices.
    """
    N, D = X.shape
    centred = X - X.mean(axis=0)

    def forward(v: Array) -> Array:
        half = X.T @ (v.reshape(N, 1) * centred)
        return (half + half.T).ravel()

    def adjoint(M: Array) -> Array:
        return 2.0 * np.einsum("ij,ij->i", X @ M.reshape(D, D), centred)

    return LinearOperator((D * D, N), matvec=forward, rmatvec=adjoint, dtype=np.float64)


def fit(given: PeerInput) -> Callable[[], Array]:
    X, S = given.double
    # Ask for half the tolerance: lsqr bounds the residual by an estimate of ‖G‖ ‖e‖, which may be too large.
    # `lsmr`, and `cg` on the normal equations, take as many iterations and about the same time.
    tol = (given.tol or RESIDUAL) / 2

    def run() -> Array:
        G, centred = operator(X), X - X.mean(axis=0)
        e = (S - centred.T @ centred).ravel()
        return 1.0 + lsqr(G, e, damp=np.sqrt(given.ridge), atol=tol, btol=tol, iter_lim=10_000)[0]

    return threaded(blas_threads, given.work, run)


def path(given: PeerInput) -> Callable[[], Array]:
    X, S = given.double
    P, N, ridges = pairs(given), len(X), np.asarray(given.ridges, np.float64)

    def run() -> Array:
        # Decompose the smaller of GᵀG and GGᵀ: a sixth of the time of `svd` of G at (148, 48).
        G, e = system(X, S)
        if P < N:
            values, vectors = eigh(G @ G.T, driver="evd", overwrite_a=True, check_finite=False)
            parts = (vectors.T @ e) / (values + ridges[:, np.newaxis])
            return 1.0 + (parts @ vectors.T) @ G
        values, vectors = eigh(G.T @ G, driver="evd", overwrite_a=True, check_finite=False)
        parts = (vectors.T @ (e @ G)) / (values + ridges[:, np.newaxis])
        return 1.0 + parts @ vectors.T

    return threaded(blas_threads, given.work, run)


def spectrum(given: PeerInput) -> Callable[[], tuple[Array, Array]]:
    X, S = given.double
    pairs(given)

    def run() -> tuple[Array, Array]:
        G, e = system(X, S)
        U, values, modes = svd(G, full_matrices=False, overwrite_a=True, check_finite=False)
        return values**2, 1.0 + (values * (e @ U) / (values**2 + given.ridge)) @ modes

    return threaded(blas_threads, given.work, run)


def _loss(X: Array, S: Array, ridge: float) -> ValueAndGradient:
    """Return the exact loss and its gradient in NumPy, as a function."""

    def loss(z: Array) -> tuple[float, Array]:
        Y = z[:, np.newaxis] * X
        Y -= Y.mean(axis=0)
        E = Y.T @ Y - S
        delta = z - 1.0
        value = 0.5 * np.vdot(E, E) + 0.5 * ridge * (delta @ delta)
        return value, 2.0 * np.einsum("ij,ij->i", X, Y @ E) + ridge * delta

    return loss


def exact(given: PeerInput) -> Callable[[], Array]:
    return threaded(blas_threads, given.work, minimum(given, _loss(*given.double, given.ridge)))


def _largest(X: Array) -> float:
    """Return the largest eigenvalue of GᵀG."""
    G, N = operator(X), len(X)
    gram = LinearOperator((N, N), matvec=lambda v: G.rmatvec(G.matvec(v)), dtype=np.float64)
    return float(eigsh(gram, k=1, tol=1e-10, v0=np.ones(N), return_eigenvectors=False)[0])


def _covariance(X: Array) -> Array:
    centred = X - X.mean(axis=0)
    return centred.T @ centred


def study(given: PeerInput) -> Callable[[], Array]:
    X = writeable(given.X, np.float64)
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
                loss = _loss(A, scale * fitted, relative[k] * largest)
                z = lbfgs(loss, z, (given.tol or TOL) * float(np.linalg.norm(loss(ones)[1])))
                left = _covariance(z[:, np.newaxis] * B) - scale * held_out
                r2[f, k] = 1.0 - np.vdot(left, left) / np.vdot(scale * held_out, scale * held_out)
        return r2

    return threaded(blas_threads, given.work, run)


def covariance(given: PeerInput) -> Callable[[], Array]:
    X, N = given.X, len(given.X)
    # Use the precision of X, because NumPy's default is float64.
    return threaded(blas_threads, given.work, lambda: N * np.cov(X, rowvar=False, bias=True, dtype=X.dtype))


def quadratic_forms(given: PeerInput) -> Callable[[], Array]:
    """Contract pairs of arrays, first by a product of stacks."""
    x, matrices = given.by_units()
    return threaded(
        blas_threads, given.work, lambda: np.einsum("lzi,zik,lzk->lz", x, matrices, x, optimize=True)
    )
