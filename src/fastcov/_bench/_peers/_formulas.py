"""Formulas that PyTorch and JAX differentiate, written once for the arrays of both libraries.

Squared penalties go through the smaller product, that of samples or that of units. In PyTorch this took a
third of the time of the larger product at (2000, 500), forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._given import PeerInput

Formula = Callable[..., Any]


def _centred(A: Any) -> tuple[Any, int, int]:
    n, m = A.shape
    return A - A.mean(1, keepdims=True), n, m - 1


def _square_norm(A: Any) -> Any:
    """Return ‖A Aᵀ‖²."""
    K = A.T @ A if A.shape[1] < A.shape[0] else A @ A.T
    return (K * K).sum()


def mean_covariance(A: Any) -> Any:
    A, n, divisor = _centred(A)
    total = A.sum(0)
    return (total @ total) / (n**2 * divisor)


def mean_absolute_covariance(A: Any) -> Any:
    A, n, divisor = _centred(A)
    return abs(A @ A.T).sum() / (n**2 * divisor)


def smooth_absolute_covariance(A: Any, epsilon: Any) -> Any:
    A, n, divisor = _centred(A)
    C = A @ A.T / divisor
    return ((C * C + epsilon**2) ** 0.5).sum() / n**2


def mean_squared_covariance(A: Any) -> Any:
    A, n, divisor = _centred(A)
    return _square_norm(A) / (n**2 * divisor**2)


def decov(A: Any) -> Any:
    A, _, divisor = _centred(A)
    variances = (A * A).sum(1)
    return 0.5 * (_square_norm(A) - variances @ variances) / divisor**2


def vicreg_covariance(A: Any) -> Any:
    return 2.0 / A.shape[0] * decov(A)


def covariance_distance(A: Any, S: Any) -> Any:
    A, n, divisor = _centred(A)
    if 3 * A.shape[1] < n:
        return _square_norm(A) / divisor**2 - 2.0 * (A * (S @ A)).sum() / divisor + (S * S).sum()
    E = A @ A.T / divisor - S
    return (E * E).sum()


PENALTIES: dict[str, Formula] = {
    formula.__name__: formula
    for formula in (
        mean_covariance, mean_absolute_covariance, smooth_absolute_covariance, mean_squared_covariance, decov,
        vicreg_covariance, covariance_distance,
    )
}  # fmt: skip
# Penalties for which all of C is held, however few samples there are.
OF_ENTRIES = (mean_absolute_covariance, smooth_absolute_covariance)


def require_room(formula: Formula, given: PeerInput) -> None:
    """Raise Unavailable if the product, its gradient and the intermediates exceed the memory of a peer."""
    n, m = given.X.shape
    order = n if formula in OF_ENTRIES else min(n, m)
    given.room("the covariance and what is made of it", 3 * given.X.itemsize * order**2)


def quadratic_forms(x: Any, matrices: Any) -> Any:
    """Return x_lzᵀ A_z x_lz by products of stacks, units first (Z, L)."""
    units = x.swapaxes(0, 1)
    return ((units @ matrices) * units).sum(2)
