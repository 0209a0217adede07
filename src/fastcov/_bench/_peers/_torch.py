"""PyTorch as a peer, on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from . import _formulas
from ._atoms import pairs, system
from ._given import Array, PeerInput, blas_threads, library, threaded, torch_threads, writeable
from ._lbfgs import ValueAndGradient, minimum

# Bytes of the scaled responses of candidates that are processed together: part of a cache. All 64 together
# took 1.15 times as long as one after another at (1004, 187), and 0.9 times as long at (148, 48).
CHUNK = 1 << 22


def _threaded(given: PeerInput, torch: Any, run: Callable[[], Any]) -> Any:
    return threaded(functools.partial(torch_threads, torch), given.work, run)


def fit(given: PeerInput) -> Callable[[], Array]:
    torch = library("torch")
    X, S = given.double
    N, P = len(X), pairs(given)

    def run() -> Array:
        # Form G in NumPy: it takes half the time of the same in PyTorch, and a tenth of that by indices of
        # pairs.
        with blas_threads(1):
            G, e = map(torch.from_numpy, system(X, S))
        A = G @ G.T if P < N else G.T @ G
        A.diagonal().add_(given.ridge)
        right = e if P < N else e @ G
        found = torch.cholesky_solve(right[:, None], torch.linalg.cholesky(A))[:, 0]
        return 1.0 + (found @ G if P < N else found).numpy()

    return _threaded(given, torch, run)


def gram(given: PeerInput) -> Callable[[], Array]:
    torch = library("torch")
    given.room("GᵀG and what it is made of", 4 * given.X.itemsize * len(given.X) ** 2)
    X = torch.from_numpy(given.X)

    def run() -> Array:
        with torch.inference_mode():
            mean = X.mean(0)
            centred = X - mean
            K, a = centred @ centred.T, centred @ mean
            half = K + a[:, None]
            G = half + a
            G += mean @ mean
            G *= K
            G.addcmul_(half, half.T)
            G *= 2.0
            return G.numpy()

    return _threaded(given, torch, run)


def _values(torch: Any, X: Any, S: Any, ridge: float) -> Callable[[Any], Any]:
    """Return the exact loss of candidates (K, N), as a function."""

    def values(Z: Any) -> Any:
        Y = Z[:, :, None] * X
        Y = Y - Y.mean(1, keepdim=True)
        E = torch.baddbmm(S, Y.mT, Y, beta=-1.0)
        return 0.5 * E.square().sum((1, 2)) + 0.5 * ridge * (Z - 1.0).square().sum(1)

    return values


def losses(given: PeerInput) -> Callable[[], Array]:
    torch = library("torch")
    X, S, Z = (torch.from_numpy(array) for array in given.alike(given.candidates))
    values, rows = _values(torch, X, S, given.ridge), max(1, CHUNK // given.X.nbytes)

    def run() -> Array:
        with torch.inference_mode():
            return torch.cat([values(some) for some in Z.split(rows)]).numpy()

    return _threaded(given, torch, run)


def _loss(X: Any, S: Any, ridge: float) -> Callable[[Any], Any]:
    def loss(z: Any) -> Any:
        Y = z[:, None] * X
        Y = Y - Y.mean(0)
        return 0.5 * (Y.T @ Y - S).square().sum() + 0.5 * ridge * (z - 1.0).square().sum()

    return loss


def loss(given: PeerInput) -> Callable[[], float]:
    torch = library("torch")
    X, S, z = (torch.from_numpy(array) for array in given.alike(given.gains))
    value = _loss(X, S, given.ridge)

    def run() -> float:
        with torch.inference_mode():
            return float(value(z))

    return _threaded(given, torch, run)


def _differentiated(torch: Any, X: Array, S: Array, ridge: float) -> ValueAndGradient:
    value = _loss(torch.from_numpy(X), torch.from_numpy(S), ridge)

    def loss(gains: Array) -> tuple[float, Array]:
        z = torch.from_numpy(gains).requires_grad_()
        result = value(z)
        (gradient,) = torch.autograd.grad(result, z)
        return result.item(), gradient.numpy()

    return loss


def loss_and_gradient(given: PeerInput) -> Callable[[], tuple[float, Array]]:
    torch = library("torch")
    X, S, gains = given.alike(given.gains)
    value = _differentiated(torch, X, S, given.ridge)
    return _threaded(given, torch, lambda: value(gains))


def exact(given: PeerInput) -> Callable[[], Array]:
    torch = library("torch")
    run = minimum(given, _differentiated(torch, *given.double, given.ridge))

    def alone() -> Array:
        with blas_threads(1):  # only vectors of length N are left to NumPy and SciPy
            return run()

    return _threaded(given, torch, alone)


def covariance(given: PeerInput) -> Callable[[], Array]:
    torch = library("torch")
    X, N = torch.from_numpy(given.X), len(given.X)
    return _threaded(given, torch, lambda: (N * torch.cov(X.T, correction=0)).numpy())


def penalty(formula: _formulas.Formula) -> Callable[[PeerInput], Callable[[], tuple[float, Array]]]:
    """Return a peer that computes a penalty forward and backward."""

    def make(given: PeerInput) -> Callable[[], tuple[float, Array]]:
        torch = library("torch")
        _formulas.require_room(formula, given)
        A = torch.from_numpy(given.X)
        beside = [torch.from_numpy(writeable(each, given.X.dtype)) for each in given.beside]

        def run() -> tuple[float, Array]:
            leaf = A.detach().requires_grad_()
            value = formula(leaf, *beside)
            (gradient,) = torch.autograd.grad(value, leaf)
            return value.item(), gradient.numpy()

        return _threaded(given, torch, run)

    return make


def quadratic_forms(given: PeerInput) -> Callable[[], Array]:
    torch = library("torch")
    x, matrices = map(torch.from_numpy, given.by_units())

    def run() -> Array:
        with torch.inference_mode():
            return _formulas.quadratic_forms(x, matrices).T.numpy()

    return _threaded(given, torch, run)


def quadratic_forms_and_gradients(given: PeerInput) -> Callable[[], tuple[Array, ...]]:
    torch = library("torch")
    x, matrices = map(torch.from_numpy, given.by_units())

    def run() -> tuple[Array, ...]:
        leaves = x.detach().requires_grad_(), matrices.detach().requires_grad_()
        g = _formulas.quadratic_forms(*leaves)
        slopes = torch.autograd.grad(g.sum(), leaves)
        return g.T.detach().numpy(), *(slope.numpy() for slope in slopes)

    return _threaded(given, torch, run)
