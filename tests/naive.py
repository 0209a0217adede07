"""The oracle: every quantity from its definition, in plain NumPy, with G formed.

Nothing is imported from fastcov and nothing is fast. `dtype=np.longdouble` gives a reference of
higher precision where the platform has one, for everything but the fits.
"""

import numpy as np


def responses(X, gains=None, center=True, dtype=np.float64):
    """X, and Y = J diag(z) X."""
    X = np.asarray(X).astype(dtype)
    z = np.ones(len(X), dtype) if gains is None else np.asarray(gains).astype(dtype)
    Y = z[:, np.newaxis] * X
    if center:
        Y = Y - Y.mean(axis=0)
    return X, Y


def covariance(X, gains=None, center=True, dtype=np.float64):
    """C = Xᵀ diag(z) J diag(z) X."""
    _, Y = responses(X, gains, center, dtype)
    return Y.T @ Y


def outer_atoms(X, Y):
    """The matrix with columns vec(x_i y_iᵀ + y_i x_iᵀ)."""
    return np.stack([(np.outer(x, y) + np.outer(y, x)).ravel() for x, y in zip(X, Y, strict=True)], axis=1)


def atoms(X, gains=None, center=True, dtype=np.float64):
    """G (D², N)."""
    return outer_atoms(*responses(X, gains, center, dtype))


def gram(X, gains=None, center=True, dtype=np.float64):
    """GᵀG (N, N)."""
    G = atoms(X, gains, center, dtype)
    return G.T @ G


def error(X, S, gains=None, center=True, dtype=np.float64):
    """e = vec(S − C)."""
    return (np.asarray(S).astype(dtype) - covariance(X, gains, center, dtype)).ravel()


def overlaps(X, S, gains=None, center=True, dtype=np.float64):
    """Gᵀe."""
    return atoms(X, gains, center, dtype).T @ error(X, S, gains, center, dtype)


def loss(X, S, gains, ridge=0.0, center=True, dtype=np.float64):
    """½‖C − S‖² + (λ/2)‖z − 1‖²."""
    e = error(X, S, gains, center, dtype)
    return (e @ e + ridge * np.sum((np.asarray(gains).astype(dtype) - 1) ** 2)) / 2


def loss_gradient(X, S, gains, ridge=0.0, center=True, dtype=np.float64):
    """∇L = −Gᵀe + λ(z − 1)."""
    return ridge * (np.asarray(gains).astype(dtype) - 1) - overlaps(X, S, gains, center, dtype)


def linear_fit(X, S, ridge, center=True):
    """δ of least ‖e₀ − Gδ‖² + λ‖δ‖², and of least norm for λ = 0."""
    G, e = atoms(X, None, center), error(X, S, None, center)
    if ridge == 0:
        return np.linalg.pinv(G, rcond=1e-6) @ e
    return np.linalg.solve(G.T @ G + ridge * np.eye(G.shape[1]), G.T @ e)


def solve(X, b, ridge, gains=None, center=True):
    """(GᵀG + λI)⁻¹ b for the rows b of `b`, and GᵀG's pseudoinverse times b for λ = 0."""
    G = atoms(X, gains, center)
    if ridge == 0:
        inverse = np.linalg.pinv(G, rcond=1e-6)
        return b @ inverse @ inverse.T
    return np.linalg.solve(G.T @ G + ridge * np.eye(G.shape[1]), b.T).T


def diagonal_fit(X, S, ridge, center=True):
    """δ_i = g_iᵀe₀ / (‖g_i‖² + λ), 0 where both are 0."""
    G, e = atoms(X, None, center), error(X, S, None, center)
    top, bottom = G.T @ e, np.sum(G**2, axis=0) + ridge
    return np.array([t / b if b > 0 else 0.0 for t, b in zip(top, bottom, strict=True)])
