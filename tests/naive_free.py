"""The oracle of the free model: W (N, N) formed, loss and gradient from their definitions, and L-BFGS over W.

As in naive.py, nothing is imported from fastcov and nothing is fast.
"""

import numpy as np
import scipy.optimize


def changed(X, W, center=True):
    """J(I + W)X."""
    Y = X + W @ X
    return Y - Y.mean(axis=0) if center else Y


def loss_and_gradient(X, S, W, ridge, center=True, image=None, adjoint=None):
    """½‖R(S − YᵀY)‖² + (λ/2)‖W‖² and its gradient 2 Y RᵀR(YᵀY − S) Xᵀ + λW, with R as functions."""
    Y = changed(X, W, center)
    E = Y.T @ Y - S
    E = E if image is None else image(E)
    value = (np.sum(E * E) + ridge * np.sum(W * W)) / 2
    return value, 2 * Y @ (E if adjoint is None else adjoint(E)) @ X.T + ridge * W


def minimum(X, S, ridge, center=True, image=None, adjoint=None, kind="free", start=None):
    """W and the loss at a minimum that L-BFGS reaches over W, over symmetric W, or over I + W = VVᵀ."""
    N = len(X)

    def of(v):
        if kind == "free":
            return v
        return (v + v.T) / 2 if kind == "symmetric" else v @ v.T - np.eye(N)

    def function(flat):
        v = flat.reshape(N, N)
        value, gradient = loss_and_gradient(X, S, of(v), ridge, center, image, adjoint)
        if kind != "free":
            gradient = (gradient + gradient.T) / 2
        return value, (2 * gradient @ v if kind == "psd" else gradient).ravel()

    begin = np.eye(N) * (kind == "psd") if start is None else start
    scale = function(begin.ravel())[0] or 1.0
    found = scipy.optimize.minimize(
        lambda v: tuple(each / scale for each in function(v)), begin.ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": 30000, "maxfun": 60000, "ftol": 0.0, "gtol": 1e-13, "maxcor": 30},
    )  # fmt: skip
    return of(found.x.reshape(N, N)), found.fun * scale


def atoms(X, center=True):
    """The matrix (D², N²) with C − Γ = G vec(W) to first order in W."""
    N, D = X.shape
    Y = X - X.mean(axis=0) if center else X
    columns = np.empty((D, D, N, N))
    for i in range(N):
        for j in range(N):  # W_ij adds x_j to channel i
            columns[:, :, i, j] = np.outer(Y[i], X[j]) + np.outer(X[j], Y[i])
    return columns.reshape(D * D, N * N)


def linearised(X, S, ridge, center=True, image=None):
    """W of the linearised model: the ridge solution with all N² atoms."""
    N, D = X.shape
    Y = X - X.mean(axis=0) if center else X
    G, e = atoms(X, center), (S - Y.T @ Y).ravel()
    if image is not None:
        G = np.stack([image(column.reshape(D, D)).ravel() for column in G.T], axis=1)
        e = image(e.reshape(D, D)).ravel()
    return (G.T @ np.linalg.solve(G @ G.T + ridge * np.eye(D * D), e)).reshape(N, N)


def symmetric_basis(D):
    """An orthonormal basis of the symmetric matrices (P, D, D)."""
    basis = []
    for i in range(D):
        for j in range(i + 1):
            E = np.zeros((D, D))
            E[i, j] = E[j, i] = 1.0
            basis.append(E / np.linalg.norm(E))
    return np.array(basis)


def spectrum(X, center=True, image=None):
    """Eigenvalues of GGᵀ on symmetric matrices, ascending."""
    D = X.shape[1]
    G = atoms(X, center)
    basis = symmetric_basis(D)
    rows = basis if image is None else np.array([image(E) for E in basis])
    images = rows.reshape(len(basis), -1) @ G
    return np.linalg.eigvalsh(images @ images.T)
