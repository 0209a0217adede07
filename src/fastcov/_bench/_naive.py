"""Naive NumPy versions of the formulas, which form G, or C, and compile nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[Any]


def atoms(X: Array, chosen: Any = slice(None)) -> Array:
    """Return columns of G (D², N): x_i x̃_iᵀ + x̃_i x_iᵀ."""
    centred = (X - X.mean(axis=0))[chosen]
    half = X[chosen][:, :, np.newaxis] * centred[:, np.newaxis, :]
    return (half + half.transpose(0, 2, 1)).reshape(len(centred), -1).T


def covariance(X: Array, z: Array | None = None) -> Array:
    """Return Xᵀ diag(z) J diag(z) X."""
    Y = X if z is None else z[:, np.newaxis] * X
    Y = Y - Y.mean(axis=0)
    return Y.T @ Y


def squared_norms(X: Array) -> Array:
    """Return ‖g_i‖² = 2 [‖x_i‖² ‖x̃_i‖² + (x_i · x̃_i)²]."""
    centred = X - X.mean(axis=0)
    own, across = np.einsum("ij,ij->i", X, X), np.einsum("ij,ij->i", X, centred)
    out: Array = 2 * (own * np.einsum("ij,ij->i", centred, centred) + across**2)
    return out


def r2(C: Array, S: Array) -> Any:
    """Return 1 − ‖C − S‖² / ‖S‖²."""
    return 1 - np.square(C - S).sum() / np.square(S).sum()


def system(X: Array, S: Array) -> tuple[Array, Array]:
    """Return GᵀG and Gᵀe₀."""
    G = atoms(X)
    return G.T @ G, G.T @ (S - covariance(X)).ravel()


def linear_fit(X: Array, S: Array, ridge: Any) -> Array:
    """Return gains 1 + (GᵀG + λI)⁻¹ Gᵀe₀, in float64 for any X: as accurate as fits of fastcov.

    With more channels than rows of G, they are 1 + Gᵀ(GGᵀ + λI)⁻¹ e₀.
    """
    X = X.astype(np.float64)
    if X.shape[1] ** 2 < len(X) and np.ndim(ridge) == 0:
        G, e = atoms(X), (S - covariance(X)).ravel()
        return 1 + G.T @ np.linalg.solve(G @ G.T + ridge * np.eye(len(G)), e)
    A, b = system(X, S)
    return 1 + np.linalg.solve(A + np.diag(np.broadcast_to(ridge, len(X))), b)


def projected(M: Array) -> Array:
    """Subtract from matrices (D², ...) the mean of the diagonal on it, and the mean of the rest elsewhere."""
    D = round(len(M) ** 0.5)
    on = np.eye(D, dtype=bool).ravel()
    out: Array = M.copy()
    out[on] -= M[on].mean(axis=0)
    out[~on] -= M[~on].mean(axis=0)
    return out


def projected_fit(X: Array, S: Array, ridge: float) -> Array:
    """Return the linear fit with G and e₀ projected, so that neither has the part of the nuisance terms."""
    X = X.astype(np.float64)
    G, e = projected(atoms(X)), projected((S - covariance(X)).ravel())
    if X.shape[1] ** 2 < len(X):
        return 1 + G.T @ np.linalg.solve(G @ G.T + ridge * np.eye(len(G)), e)
    return 1 + np.linalg.solve(G.T @ G + ridge * np.eye(len(X)), G.T @ e)


def minimum(
    X: Array, S: Array, ridge: float, share: float, *, start: Array | None = None,
    image: Callable[[Array], Array] = lambda M: M,
) -> Array:  # fmt: skip
    """Minimise ½‖R (C(z) − S)‖² + (λ/2)‖z − 1‖² by SciPy's L-BFGS; return the gains.

    R is `image`, by default nothing. It begins at `start`, by default at gains of one, and stops when the
    gradient is `share` of that at gains of one.
    """
    X, ones = X.astype(np.float64), np.ones(len(X))

    def loss_and_slope(z: Array) -> tuple[Any, Array]:
        Y = z[:, np.newaxis] * X
        Y = Y - Y.mean(axis=0)
        E = image((Y.T @ Y - S).ravel()).reshape(S.shape)
        delta = z - 1
        return (
            0.5 * np.square(E).sum() + 0.5 * ridge * delta @ delta,
            2 * (X * (Y @ E)).sum(axis=1) + ridge * delta,
        )

    unit = float(np.linalg.norm(loss_and_slope(ones)[1])) or 1.0
    found = minimize(
        lambda z: tuple(part / unit for part in loss_and_slope(z)), ones if start is None else start,
        jac=True, method="L-BFGS-B",
        options={"maxiter": 10_000, "maxfun": 20_000, "ftol": 0.0, "gtol": share / len(X) ** 0.5},
    )  # fmt: skip
    out: Array = found.x
    return out


def projected_minimum(X: Array, S: Array, ridge: float, share: float) -> Array:
    """`minimum` with R as in `projected`."""
    return minimum(X, S, ridge, share, image=projected)


def loss(X: Array, S: Array, z: Array) -> Any:
    """Return ½‖C(z) − S‖²."""
    return 0.5 * np.square(covariance(X, z) - S).sum()


def loss_and_gradient(X: Array, S: Array, z: Array) -> tuple[Any, Array]:
    """Return the loss, and its gradient 2 rowsum(X ∘ (Ỹ E))."""
    Y = z[:, np.newaxis] * X
    Y = Y - Y.mean(axis=0)
    E = Y.T @ Y - S
    return 0.5 * np.square(E).sum(), 2 * (X * (Y @ E)).sum(axis=1)


def product(X: Array, v: Array) -> Array:
    """Return GᵀG v without G, by two products of X with D x D matrices."""
    centred = X - X.mean(axis=0)
    half = X.T @ (v[:, np.newaxis] * centred)
    return 2 * ((X @ (half + half.T)) * centred).sum(axis=1)


# --- penalties on the covariance of activations A (n, m), and their gradients


def _of_units(A: Array) -> tuple[Array, Array]:
    """Return A minus the mean of each unit, and its covariance C (n, n)."""
    A = A - A.mean(axis=1, keepdims=True)
    return A, A @ A.T / (A.shape[1] - 1)


def mean_covariance(A: Array) -> tuple[Any, Array]:
    """Return (1/n²) Σ C_ij, and its gradient."""
    (n, m), (A, C) = A.shape, _of_units(A)
    return C.mean(), 2 / (n**2 * (m - 1)) * np.broadcast_to(A.sum(axis=0), A.shape)


def mean_absolute_covariance(A: Array) -> tuple[Any, Array]:
    """Return (1/n²) Σ |C_ij|, and its gradient."""
    (n, m), (A, C) = A.shape, _of_units(A)
    return np.abs(C).mean(), 2 / (n**2 * (m - 1)) * (np.sign(C) @ A)


def smooth_absolute_covariance(A: Array, epsilon: float) -> tuple[Any, Array]:
    """Return (1/n²) Σ √(C_ij² + ε²), and its gradient."""
    (n, m), (A, C) = A.shape, _of_units(A)
    roots = np.sqrt(C * C + epsilon**2)
    return roots.mean(), 2 / (n**2 * (m - 1)) * ((C / roots) @ A)


def mean_squared_covariance(A: Array) -> tuple[Any, Array]:
    """Return (1/n²) ‖C‖², and its gradient."""
    (n, m), (A, C) = A.shape, _of_units(A)
    return np.square(C).mean(), 4 / (n**2 * (m - 1)) * (C @ A)


def decov(A: Array) -> tuple[Any, Array]:
    """Return ½ (‖C‖² − ‖diag C‖²), and its gradient."""
    m, (A, C) = A.shape[1], _of_units(A)
    np.fill_diagonal(C, 0)
    return 0.5 * np.square(C).sum(), 2 / (m - 1) * (C @ A)


def vicreg_covariance(A: Array) -> tuple[Any, Array]:
    """Return 2/n times `decov`, and its gradient."""
    value, gradient = decov(A)
    return 2 / len(A) * value, 2 / len(A) * gradient


def covariance_distance(A: Array, S: Array) -> tuple[Any, Array]:
    """Return ‖C − S‖², and its gradient."""
    m, (A, C) = A.shape[1], _of_units(A)
    C -= S
    return np.square(C).sum(), 4 / (m - 1) * (C @ A)


# --- quadratic forms of inputs x (L, Z, I) with a matrix for each unit (Z, I, I)


def quadratic_forms(x: Array, matrices: Array) -> Array:
    """Return g[l, z] = x_lzᵀ A_z x_lz."""
    out: Array = np.einsum("lzi,zik,lzk->lz", x, matrices, x)
    return out


def quadratic_forms_and_gradients(x: Array, matrices: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return g, 2 w A x, and Σ_l w x xᵀ, by products of stacks of matrices."""
    units = x.transpose(1, 0, 2)
    products, weighted = units @ matrices, weights.T[:, :, np.newaxis] * units
    g = np.einsum("zli,zli->lz", products, units)
    slopes = 2 * weights[:, :, np.newaxis] * products.transpose(1, 0, 2)
    return g, slopes, units.transpose(0, 2, 1) @ weighted


def solutions(matrices: Array, x: Array) -> Array:
    """Return A_z⁻¹ x_lz."""
    out: Array = np.linalg.solve(matrices, x.transpose(1, 2, 0)).transpose(2, 0, 1)
    return out


def split_half_correlations(Y: Array, n_splits: int) -> Array:
    """Correlations of the covariances of two halves of the channels, off the diagonal (n_splits,)."""
    M, D = Y.shape
    random, pairs = np.random.default_rng(0), np.triu_indices(D, 1)
    found = np.empty(n_splits)
    for s in range(n_splits):
        order = random.permutation(M)
        A, B = (np.cov(Y[part].T, dtype=np.float64) for part in (order[: M // 2], order[M // 2 : M // 2 * 2]))
        found[s] = np.corrcoef(A[pairs], B[pairs])[0, 1]
    return found
