"""JAX as a peer, with everything compiled. Its CPU threads are those of the process, and cannot be set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import _formulas
from ._atoms import pairs
from ._given import Array, PeerInput, blas_threads, jax_double, library, within, writeable
from ._lbfgs import minimum


def _arrays(jax: Any, *arrays: Array) -> tuple[Any, ...]:
    """Move arrays to JAX's device, in their own precision."""
    with jax_double(jax):
        return tuple(jax.numpy.asarray(array) for array in arrays)


def _run(jax: Any, function: Callable[..., Any], *arrays: Array) -> Callable[[], Any]:
    """Return a call of a compiled function that waits for all results, and returns them as NumPy arrays."""
    compiled, moved = jax.jit(function), _arrays(jax, *arrays)
    return within(lambda: jax_double(jax), lambda: jax.tree.map(np.asarray, compiled(*moved)))


def fit(given: PeerInput) -> Callable[[], Array]:
    jax = library("jax", "numpy", "scipy.linalg")
    pairs(given, copies=4)
    X, S = given.double
    N, D = X.shape
    i, j = np.triu_indices(D)
    weights = np.where(i == j, 1.0, np.sqrt(2.0))

    def solve(X: Any, S: Any) -> Any:
        centred = X - X.mean(axis=0)
        columns, shifted = X.T, centred.T
        e = (S - shifted @ centred)[i, j] * weights
        G = (columns[i] * shifted[j] + shifted[i] * columns[j]) * weights[:, np.newaxis]
        wide = len(G) < N
        A = G @ G.T if wide else G.T @ G
        factor = jax.scipy.linalg.cho_factor(A + given.ridge * np.eye(len(A)))
        found = jax.scipy.linalg.cho_solve(factor, e if wide else e @ G)
        return 1.0 + (found @ G if wide else found)

    return _run(jax, solve, X, S)


def gram(given: PeerInput) -> Callable[[], Array]:
    jax = library("jax", "numpy")
    given.room("GᵀG and what it is made of", 3 * given.X.itemsize * len(given.X) ** 2)

    def product(X: Any) -> Any:
        mean = X.mean(axis=0)
        centred = X - mean
        K, a = centred @ centred.T, centred @ mean
        half = K + a[:, np.newaxis]
        return 2.0 * ((half + a + mean @ mean) * K + half * half.T)

    return _run(jax, product, given.X)


def _loss(z: Any, X: Any, S: Any, ridge: float) -> Any:
    Y = z[:, np.newaxis] * X
    Y = Y - Y.mean(axis=0)
    return 0.5 * ((Y.T @ Y - S) ** 2).sum() + 0.5 * ridge * ((z - 1.0) ** 2).sum()


def loss(given: PeerInput) -> Callable[[], float]:
    jax = library("jax", "numpy")
    run = _run(jax, lambda X, S, z: _loss(z, X, S, given.ridge), *given.alike(given.gains))
    return lambda: float(run())


def losses(given: PeerInput) -> Callable[[], Array]:
    jax = library("jax", "numpy")

    def values(X: Any, S: Any, Z: Any) -> Any:
        # Compute one after another: `vmap` takes 1.6 times as long at both sizes.
        return jax.lax.map(lambda z: _loss(z, X, S, given.ridge), Z)

    return _run(jax, values, *given.alike(given.candidates))


def loss_and_gradient(given: PeerInput) -> Callable[[], tuple[float, Array]]:
    jax = library("jax", "numpy")
    slope = jax.value_and_grad(_loss)
    return _run(jax, lambda X, S, z: slope(z, X, S, given.ridge), *given.alike(given.gains))


def exact(given: PeerInput) -> Callable[[], Array]:
    jax = library("jax", "numpy")
    slope = jax.jit(jax.value_and_grad(_loss))
    X, S = _arrays(jax, *given.double)

    def differentiated(z: Array) -> tuple[float, Array]:
        value, gradient = slope(z, X, S, given.ridge)
        return float(value), np.asarray(gradient)

    run = minimum(given, differentiated)

    def alone() -> Array:
        with blas_threads(1):  # only vectors of length N are left to NumPy and SciPy
            return run()

    return within(lambda: jax_double(jax), alone)


def covariance(given: PeerInput) -> Callable[[], Array]:
    jax = library("jax", "numpy")
    return _run(jax, lambda X: len(X) * jax.numpy.cov(X, rowvar=False, bias=True), given.X)


def penalty(formula: _formulas.Formula) -> Callable[[PeerInput], Callable[[], tuple[float, Array]]]:
    def make(given: PeerInput) -> Callable[[], tuple[float, Array]]:
        jax = library("jax", "numpy")
        _formulas.require_room(formula, given)
        beside = [writeable(each, given.X.dtype) for each in given.beside]
        return _run(jax, jax.value_and_grad(formula), given.X, *beside)

    return make


def quadratic_forms(given: PeerInput) -> Callable[[], Array]:
    jax = library("jax", "numpy")
    return _run(jax, lambda x, A: _formulas.quadratic_forms(x, A).T, *given.by_units())


def quadratic_forms_and_gradients(given: PeerInput) -> Callable[[], tuple[Array, ...]]:
    jax = library("jax", "numpy")

    def differentiated(x: Any, A: Any) -> tuple[Any, ...]:
        g, back = jax.vjp(_formulas.quadratic_forms, x, A)
        return g.T, *back(jax.numpy.ones_like(g))

    return _run(jax, differentiated, *given.by_units())
