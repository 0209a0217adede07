"""What one writes in NumPy from the formulas: G is formed, and nothing is compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def atoms(X: Array, chosen: Any = slice(None)) -> Array:
    """Columns of G (D², N): x_i x̃_iᵀ + x̃_i x_iᵀ."""
    centred = (X - X.mean(axis=0))[chosen]
    half = X[chosen][:, :, np.newaxis] * centred[:, np.newaxis, :]
    return (half + half.transpose(0, 2, 1)).reshape(len(centred), -1).T


def covariance(X: Array, z: Array | None = None) -> Array:
    """Xᵀ diag(z) J diag(z) X."""
    Y = X if z is None else z[:, np.newaxis] * X
    Y = Y - Y.mean(axis=0)
    return Y.T @ Y


def squared_norms(X: Array) -> Array:
    """‖g_i‖² = 2 [‖x_i‖² ‖x̃_i‖² + (x_i · x̃_i)²]."""
    centred = X - X.mean(axis=0)
    own, across = np.einsum("ij,ij->i", X, X), np.einsum("ij,ij->i", X, centred)
    out: Array = 2 * (own * np.einsum("ij,ij->i", centred, centred) + across**2)
    return out


def r2(C: Array, S: Array) -> Any:
    """1 − ‖C − S‖² / ‖S‖²."""
    return 1 - np.square(C - S).sum() / np.square(S).sum()


def system(X: Array, S: Array) -> tuple[Array, Array]:
    """GᵀG and Gᵀe₀."""
    G = atoms(X)
    return G.T @ G, G.T @ (S - covariance(X)).ravel()


def linear_fit(X: Array, S: Array, ridge: Any) -> Array:
    """Gains 1 + (GᵀG + λI)⁻¹ Gᵀe₀, in float64 whatever X: as accurate as fits are here.

    With channels more than G has rows, 1 + Gᵀ(GGᵀ + λI)⁻¹ e₀.
    """
    X = X.astype(np.float64)
    if X.shape[1] ** 2 < len(X) and np.ndim(ridge) == 0:
        G, e = atoms(X), (S - covariance(X)).ravel()
        return 1 + G.T @ np.linalg.solve(G @ G.T + ridge * np.eye(len(G)), e)
    A, b = system(X, S)
    return 1 + np.linalg.solve(A + np.diag(np.broadcast_to(ridge, len(X))), b)


def loss(X: Array, S: Array, z: Array) -> Any:
    """½‖C(z) − S‖²."""
    return 0.5 * np.square(covariance(X, z) - S).sum()


def loss_and_gradient(X: Array, S: Array, z: Array) -> tuple[Any, Array]:
    """The loss, and 2 rowsum(X ∘ (Ỹ E))."""
    Y = z[:, np.newaxis] * X
    Y = Y - Y.mean(axis=0)
    E = Y.T @ Y - S
    return 0.5 * np.square(E).sum(), 2 * (X * (Y @ E)).sum(axis=1)


def product(X: Array, v: Array) -> Array:
    """GᵀG v without G: two products of X with D x D matrices."""
    centred = X - X.mean(axis=0)
    half = X.T @ (v[:, np.newaxis] * centred)
    return 2 * ((X @ (half + half.T)) * centred).sum(axis=1)
