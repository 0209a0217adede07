"""What is timed: each operation beside its naive vectorised version and its BLAS/LAPACK floor.

The naive version is what one writes in NumPy from the formulas: it forms G, or a copy of X for each
candidate. The floor is the bare BLAS or LAPACK work that no implementation by this algorithm can do
without, on arrays made ready outside the clock.
"""

from __future__ import annotations

import fastcov as fc  # first: it cuts the spin of BLAS threads, which NumPy's library reads when loaded

# isort: split
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import blas, lapack

SIZES = [(148, 48), (871, 52), (1004, 187), (2000, 187), (1000, 500), (4000, 500)]
GROUPS = ("gram", "overlaps", "fit", "loss")
# λ over the largest eigenvalue of GᵀG for `pcg`, 1e-3 elsewhere.
RIDGES = {(8000, 187): 1e-3, (4000, 100): 1e-4}
CANDIDATES = 256
# The naive version holds G and two temporaries of its size.
NAIVE_BYTES = 8e9


@dataclasses.dataclass(frozen=True)
class Case:
    """One operation at one size. `naive` is None where it would not fit the machine."""

    group: str
    shape: tuple[int, int]
    ours: Callable[[], Any]
    floor: Callable[[], Any]
    naive: Callable[[], Any] | None
    check: Callable[[Any], None]

    @property
    def name(self) -> str:
        return f"{self.group} {self.shape[0]}x{self.shape[1]}"


@functools.lru_cache(maxsize=2)
def data(shape: tuple[int, int]) -> fc.datasets.Simulation:
    return fc.datasets.simulate(*shape, rng=0)


def case(group: str, shape: tuple[int, int]) -> Case:
    """The case of a group ("gram", "overlaps", "fit", "loss", "losses", "pcg", "application") at a size."""
    sim = data(shape)
    made: Case = globals()[f"_{group}"](shape, sim.X, sim.S)
    return made


def _atoms(X, chosen=slice(None)):
    """Columns of G."""
    centred = (X - X.mean(axis=0))[chosen]
    half = X[chosen][:, :, np.newaxis] * centred[:, np.newaxis, :]
    return (half + half.transpose(0, 2, 1)).reshape(len(centred), -1).T


def _adjoint(X, M):
    """Gᵀ vec(M) for a symmetric M, in plain NumPy."""
    return 2 * ((X @ M) * (X - X.mean(axis=0))).sum(axis=1)


def _fits(shape) -> bool:
    return 3 * 8 * shape[0] * shape[1] ** 2 < NAIVE_BYTES


def _gram(shape, X, S) -> Case:
    centred = X - X.mean(axis=0)

    def naive():
        G = _atoms(X)
        return G.T @ G

    def check(A):
        i = np.random.default_rng(0).choice(len(X), 20, replace=False)
        G = _atoms(X, i)
        expected = G.T @ G
        np.testing.assert_allclose(A[np.ix_(i, i)], expected, rtol=1e-11, atol=1e-12 * expected.max())

    return Case(
        "gram", shape, lambda: fc.gram(X), lambda: blas.dsyrk(1.0, centred.T, trans=1),
        naive if _fits(shape) else None, check,
    )  # fmt: skip


def _overlaps(shape, X, S) -> Case:
    def naive():
        centred = X - X.mean(axis=0)
        return _atoms(X).T @ (S - centred.T @ centred).ravel()

    def floor():
        return blas.dgemm(1.0, blas.dsyrk(1.0, X.T), X.T)

    def check(b):
        centred = X - X.mean(axis=0)
        expected = _adjoint(X, S - centred.T @ centred)
        np.testing.assert_allclose(b, expected, rtol=1e-10, atol=1e-11 * abs(expected).max())

    return Case("overlaps", shape, lambda: fc.overlaps(X, S), floor, naive if _fits(shape) else None, check)


def _fit(shape, X, S) -> Case:
    N = len(X)
    ridge = fc.fit(X, S, relative_ridge=0.1, method="diagonal").ridge
    centred, b, diagonal = X - X.mean(axis=0), fc.overlaps(X, S), np.arange(N)

    def naive():
        c = X - X.mean(axis=0)
        G = _atoms(X)
        return np.linalg.solve(G.T @ G + ridge * np.eye(N), G.T @ (S - c.T @ c).ravel())

    def floor():
        A = blas.dsyrk(1.0, centred.T, trans=1, lower=1)
        A[diagonal, diagonal] += ridge
        factor, _ = lapack.dpotrf(A, lower=1, clean=0, overwrite_a=1)
        return lapack.dpotrs(factor, b, lower=1)

    return Case(
        "fit", shape, lambda: fc.fit(X, S, ridge=ridge), floor, naive if _fits(shape) else None,
        lambda fit: _check_fit(X, S, fit, 1e-8 if fit.stats["solver"] == "pcg" else 1e-12),
    )  # fmt: skip


def _check_fit(X, S, fit, tol) -> None:
    """The relative residual of the linear system, in plain NumPy."""
    assert fit.status == "converged"
    c = X - X.mean(axis=0)
    half = X.T @ (fit.delta[:, np.newaxis] * c)
    left = _adjoint(X, S - c.T @ c - half - half.T) - fit.ridge * fit.delta
    assert np.linalg.norm(left) < 1.01 * tol * np.linalg.norm(_adjoint(X, S - c.T @ c))


def _pcg(shape, X, S) -> Case:
    """To a residual of 1e-8, beside the bare direct solution."""
    ridge = fc.fit(X, S, relative_ridge=RIDGES.get(shape, 1e-3), method="diagonal").ridge
    centred, diagonal = X - X.mean(axis=0), np.arange(len(X))

    def floor():
        A = blas.dsyrk(1.0, centred.T, trans=1, lower=1)
        A[diagonal, diagonal] += ridge
        return lapack.dpotrf(A, lower=1, clean=0, overwrite_a=1)

    return Case(
        "pcg", shape, lambda: fc.fit(X, S, ridge=ridge, solver="pcg"), floor, None,
        lambda fit: _check_fit(X, S, fit, 1e-8),
    )  # fmt: skip


def _application(shape, X, S) -> Case:
    """One product with GᵀG, beside two GEMMs of N x D with D x D."""
    operator, v = fc.GramOperator(X), np.random.default_rng(0).standard_normal(len(X))
    half, out = np.empty((X.shape[1],) * 2, order="F"), np.empty_like(X)

    def floor():
        blas.dgemm(1.0, X.T, X.T, trans_b=1, c=half, overwrite_c=1)
        return blas.dgemm(1.0, half, X.T, c=out.T, overwrite_c=1)

    def check(product):
        c = X - X.mean(axis=0)
        half = X.T @ (v[:, np.newaxis] * c)
        expected = _adjoint(X, half + half.T)
        np.testing.assert_allclose(product, expected, rtol=1e-10, atol=1e-11 * abs(expected).max())

    return Case("application", shape, lambda: operator.matvec(v), floor, None, check)


def _one_loss(X, S, z):
    Y = z[:, np.newaxis] * X
    Y -= Y.mean(axis=0)
    return 0.5 * np.square(Y.T @ Y - S).sum()


def _loss(shape, X, S) -> Case:
    z = np.random.default_rng(0).lognormal(0, 0.3, len(X))

    def check(value):
        np.testing.assert_allclose(value, _one_loss(X, S, z), rtol=1e-11)

    return Case(
        "loss", shape, lambda: fc.loss(X, S, z), lambda: blas.dsyrk(1.0, X.T),
        lambda: _one_loss(X, S, z), check,
    )  # fmt: skip


def _losses(shape, X, S) -> Case:
    Z = np.random.default_rng(0).lognormal(0, 0.3, (CANDIDATES, len(X)))

    def naive():
        return np.array([_one_loss(X, S, z) for z in Z])

    def floor():
        for _ in Z:
            blas.dsyrk(1.0, X.T)

    def check(values):
        np.testing.assert_allclose(values, naive(), rtol=1e-11)

    return Case("losses", shape, lambda: fc.loss(X, S, Z), floor, naive, check)
