"""Connectivities among channels: products with W = x̂ Φ x̂ᵀ by passes over X, without W."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from .._compute import blas
from .._model.problem import Problem
from .._rows.rows import by_channels, summed

Array = NDArray[np.float64]


class ConnectivityOperator(LinearOperator):
    """W = left rightᵀ (N × N) as a SciPy LinearOperator; W itself is never formed.

    A product with k vectors takes two passes over X, 4NDk flops.

    Attributes
    ----------
    left, right : ndarray, shape (N, D) or (N, D + 1)
        Factors of W, computed at each access: X̃Ω and X where the fit is free, J diag(z) X Ω and X beside
        gains.
    """

    def __init__(self, problem: Problem, phi: Array, gains: Array | None = None) -> None:
        N = problem.shape[0]
        super().__init__(np.dtype(np.float64), (N, N))
        self._problem, self._phi = problem, phi
        self._out = problem if gains is None else problem.at(gains)

    def _matmat(self, V: Any) -> Array:
        c = blas.product(projected(self._problem, _rows(V)), self._phi, tb=True)
        return expanded(self._out, c).T

    def _rmatmat(self, V: Any) -> Array:
        c = blas.product(projected(self._out, _rows(V)), self._phi)
        return expanded(self._problem, c).T

    def _matvec(self, v: Any) -> Array:
        return self._matmat(np.reshape(v, (-1, 1)))[:, 0]

    def _rmatvec(self, v: Any) -> Array:
        return self._rmatmat(np.reshape(v, (-1, 1)))[:, 0]

    @property
    def left(self) -> Array:
        return expanded(self._out, np.ascontiguousarray(self._factors()[0])).T

    @property
    def right(self) -> Array:
        return expanded(self._problem, np.ascontiguousarray(self._factors()[1])).T

    def _factors(self) -> tuple[Array, Array]:
        """Factors as rows over the columns of x̂."""
        D, phi = self._problem.shape[1], self._phi
        if len(phi) == D or phi[D].any():
            return phi.T, np.eye(len(phi))
        left, right = np.zeros((D, D + 1)), np.eye(D, D + 1)
        left[:, :D] = phi[:D, :D].T
        right[:, D] = math.sqrt(self._problem.shape[0]) * self._problem.unscaled(self._problem.mean, x=1)
        return left, right


def _rows(V: Any) -> Array:
    if np.iscomplexobj(V):
        raise TypeError("Argument 'v' must be real, not complex: multiply its parts one by one.")
    return np.ascontiguousarray(np.asarray(V, np.float64).T)


def projected(problem: Problem, v: Array) -> Array:
    """x̂ᵀ times vectors over channels (k, N), as rows (k, p). 2NDk flops."""
    D = problem.shape[1]
    found = _sums(problem, v)
    out = np.empty((len(v), D + problem.center))
    out[:, :D] = problem.unscaled(found[:, :D], x=1)
    if problem.center:
        out[:, D] = found[:, D] / math.sqrt(problem.shape[0])
    return out


def expanded(problem: Problem, c: Array) -> Array:
    """x̂ times coefficients, rows (k, p) to rows (k, N). 2NDk flops."""
    D = problem.shape[1]
    out: Array = problem.unscaled(_products(problem, np.ascontiguousarray(c[:, :D])), x=1)
    if problem.center:
        out += c[:, D:] / math.sqrt(problem.shape[0])
    return out


def diagonal(problem: Problem, phi: Array) -> Array:
    """W_ii = x̂_iᵀ Φ x̂_i (N,). 2ND² flops."""
    D = problem.shape[1]
    scale = np.float64(problem.unscaled(1.0, x=1))
    inner = np.ascontiguousarray(phi[:D, :D]) * scale * scale
    if len(phi) == D:
        return _forms(problem, inner, np.zeros(D), 0.0)
    N = problem.shape[0]
    linear = (phi[:D, D] + phi[D, :D]) * (scale / math.sqrt(N))
    return _forms(problem, inner, linear, float(phi[D, D]) / N)


@summed(each=1)
def _sums(problem: Problem, v: Array) -> Array:
    """Σ_i v_ki x̃_i, and Σ_i v_ki in a further column (k, D + 1)."""
    total = np.zeros((len(v), problem.shape[1] + 1))
    exact = problem.astype(np.float64)
    buffer = np.empty((exact.block_rows, problem.shape[1]))
    for rows, block in exact.blocks():
        some = np.ascontiguousarray(v[:, rows])
        total[:, :-1] += blas.product(some, exact.centre(rows, block, buffer))
        total[:, -1] += some.sum(axis=1)
    return total


@by_channels()
def _products(problem: Problem, c: Array) -> Array:
    """Σ_d c_kd x̃_id (k, N)."""
    exact = problem.astype(np.float64)
    out, buffer = np.empty((len(c), problem.shape[0])), np.empty((exact.block_rows, problem.shape[1]))
    for rows, block in exact.blocks():
        out[:, rows] = blas.product(c, exact.centre(rows, block, buffer), tb=True)
    return out


@by_channels()
def _forms(problem: Problem, inner: Array, linear: Array, constant: float) -> Array:
    """x̃_iᵀ A x̃_i + b·x̃_i + c for each channel (N,)."""
    exact = problem.astype(np.float64)
    out, buffer = np.empty(problem.shape[0]), np.empty((exact.block_rows, problem.shape[1]))
    for rows, block in exact.blocks():
        centred = exact.centre(rows, block, buffer)
        out[rows] = np.einsum("id,id->i", blas.product(centred, inner) + linear, centred) + constant
    return out
