"""The connectivity of each method for one target, with its certificate; and paths of them over λ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from . import constrained, newton
from .constrained import Core
from .linearised import Linearised, weighed
from .reduced import Reduced, both_ways

Array = NDArray[np.float64]
Watch = Callable[[float], object] | None

FREE, LINEAR, SYMMETRIC, SEMIDEFINITE = "free", "free-linear", "symmetric", "psd"
MIXED = "mixed"  # gains beside a free connectivity, see `mixed`
METHODS = (FREE, LINEAR, SYMMETRIC, SEMIDEFINITE, MIXED)
# Newton steps over conditions after which the trust region takes over.
FAST_STEPS = 50
# The least part of the mean over channels that must be left outside the span of X for `newton`. Otherwise C
# has not the rank of K, as where there are fewer channels than conditions.
OUTSIDE = 1e-10
# A gradient that rounding may leave of a minimum, over that at W = 0.
ROUNDED = 1e-9
# A gradient of the linearised loss, over that at W = 0, above which its solution has lost its accuracy.
LINEAR_TOL, INACCURATE = 1e-6, "inaccurate"


@dataclasses.dataclass(frozen=True, eq=False)
class Connected:
    """A connectivity W = x̂ Φ x̂ᵀ for one target, in the units of the problem."""

    phi: Array  # (p, p), see `reduced`
    covariance: Array  # C (D, D)
    residual: float  # norm of the gradient in W over that at W = 0, computed from Φ
    status: str
    stats: dict[str, Any]
    warm: Any = None  # what the fit at a neighbouring ridge may begin with


@dataclasses.dataclass(frozen=True)
class Limits:
    """When an iteration ends, and who is told of it."""

    tol: float
    max_iterations: int
    watch: Watch = None


def connect(
    method: str, reduced: Reduced, S: Array, ridge: float, limits: Limits, warm: Any = None
) -> Connected:
    """The minimum of one method; `warm` is that of a neighbouring `Connected`."""
    if method == LINEAR:
        return next(_linear(reduced, S, [ridge]))
    if method == FREE or not reduced.mean.any():
        # Without a mean J does nothing to X, and then the free minimum is symmetric and I + W is definite.
        return _free(method, reduced, S, ridge, limits, warm)
    core, unit = Core(reduced, S, ridge), newton.gradient_at_zero(reduced, S)
    find = constrained.symmetric if method == SYMMETRIC else constrained.semidefinite
    A, ended = find(core, limits.tol, limits.max_iterations, limits.watch)
    return _certified(method, reduced, S, ridge, core.phi(A), ended, limits.tol, "trust region", unit)


def path(
    method: str, reduced: Reduced, S: Array, ridges: Sequence[float], limits: Limits
) -> Iterator[tuple[int, Connected]]:
    """Yield places in `ridges` and their minima, from the largest ridge on."""
    order, warm = sorted(range(len(ridges)), key=lambda k: -ridges[k]), None
    if method == LINEAR:
        yield from zip(order, _linear(reduced, S, [ridges[k] for k in order]), strict=True)
        return
    for k in order:
        found = connect(method, reduced, S, ridges[k], limits, warm)
        warm = found.warm
        yield k, found


def _linear(reduced: Reduced, S: Array, ridges: Sequence[float]) -> Iterator[Connected]:
    if reduced.metric is not None:
        for ridge in ridges:
            omega = weighed(reduced, S, ridge)
            phi = reduced.phi(omega)
            C, residual = reduced.covariance_of(reduced.response(phi)), _of_weighed(reduced, S, ridge, omega)
            status = "converged" if residual <= LINEAR_TOL else INACCURATE
            yield Connected(phi, C, residual, status, {"solver": "conjugate gradients"})
        return
    linearised = Linearised(reduced, S[np.newaxis])
    solved = linearised.solve(ridges)
    for k, ridge in enumerate(ridges):
        (phi,), (C,) = linearised.matrices(ridge, solved.v[k])
        residual = float(solved.residual[k, 0])
        status = "converged" if residual <= LINEAR_TOL else INACCURATE
        yield Connected(phi, C, residual, status, {"solver": "closed form"})


def _free(method: str, reduced: Reduced, S: Array, ridge: float, limits: Limits, warm: Any) -> Connected:
    fast, unit = None, newton.gradient_at_zero(reduced, S)
    if reduced.outside > OUTSIDE:
        most = min(FAST_STEPS, limits.max_iterations)
        fast = newton.minimum(reduced, S, ridge, limits.tol, most, unit, warm, limits.watch)
        phi = reduced.phi(newton.omega_of(reduced, fast.Z))
        found = _certified(method, reduced, S, ridge, phi, fast, limits.tol, "Newton", unit, fast.Z)
        if fast.status == "converged" or most < FAST_STEPS:
            return found
    core = Core(reduced, S, ridge)
    A, ended = constrained.free(core, limits.tol, limits.max_iterations, limits.watch)
    phi = reduced.phi(core.omega(A))
    slow = _certified(method, reduced, S, ridge, phi, ended, limits.tol, "trust region", unit)
    if _lower_outside(core, slow.covariance):
        slow.stats["outside"] = True
    if fast is None and unit > 0:  # C may not have the rank of K
        slow.stats["several"] = True
    if fast is None or loss(reduced, S, ridge, slow) <= loss(reduced, S, ridge, found):
        return slow
    return found


def _lower_outside(core: Core, C: Array) -> bool:
    """Whether a W that leaves the span of X̃ would lower the loss further.

    To second order a further row v of J(I + W), from the columns x = UᵀX of channels, adds v(λ/2 + xExᵀ)vᵀ
    to the loss. There is room for one where the mean over channels is in the span of X, of a rank below N.
    """
    reduced, N = core.reduced, core.reduced.n_channels
    if N is None or len(core.x) >= N:
        return False
    E = reduced.pull(C - core.S)
    form = 2.0 * blas.product(blas.product(core.x, E), core.x, tb=True)
    values = blas.eigh(form)
    return bool(core.ridge + values[0] < -ROUNDED * np.abs(values).max())


def loss(reduced: Reduced, S: Array, ridge: float, found: Connected) -> float:
    """½‖R(C − S)‖² + (λ/2)‖W‖²."""
    left = blas.norm(reduced.image(found.covariance - S))
    return float(0.5 * left**2 + 0.5 * ridge * reduced.squared_norm(found.phi))


def _certified(
    method: str, reduced: Reduced, S: Array, ridge: float, phi: Array, ended: Any, tol: float, solver: str,
    unit: float, warm: Any = None,
) -> Connected:  # fmt: skip
    """Compute B, C and the gradient anew from Φ."""
    B = reduced.response(phi)
    C = reduced.covariance_of(B)
    residual = gradient(method, reduced, S, ridge, phi, B, C) / unit if unit > 0 else 0.0
    status = ended.status
    if status == "converged" and residual > max(100.0 * tol, ROUNDED):
        status = INACCURATE
    stats = {"solver": solver, "iterations": ended.iterations, "products": ended.products}
    return Connected(phi, C, residual, status, stats, warm)


def gradient(method: str, reduced: Reduced, S: Array, ridge: float, phi: Array, B: Array, C: Array) -> float:
    """The norm of the gradient in W, in the directions that the method allows.

    In an orthonormal basis of the columns of x̂ it is R (2 [B; 0] RᵀRE [I, n] + λΦ) Rᵀ. For symmetric W it is
    symmetrised; for a positive semi-definite I + W, what leads out of these is left out as well.
    """
    D = reduced.n_conditions
    T = phi * ridge
    half = 2.0 * blas.product(B, reduced.pull(C - S))
    T[:D, :D] += half
    if len(T) > D:
        T[:D, D] += np.einsum("ij,j->i", half, reduced.mean)
    G = reduced.sandwiched(T)
    if method in (SYMMETRIC, SEMIDEFINITE):
        G = 0.5 * (G + G.T)
    if method == SEMIDEFINITE:
        A = reduced.sandwiched(phi)
        G = constrained.inwards(0.5 * (A + A.T), G)
    return float(blas.norm(G))


def _of_weighed(reduced: Reduced, S: Array, ridge: float, omega: Array) -> float:
    """‖gradient in W‖ of the linearised loss at X̃ΩXᵀ, over that at W = 0. 12D³ flops."""
    K, G = reduced.moments, reduced.covariance
    unit = reduced.gradient_norm(reduced.pull(S - G))
    T = reduced.pull(S - G - 0.5 * both_ways(K, omega, G)) - 0.5 * ridge * omega
    return reduced.gradient_norm(T) / unit if unit > 0 else 0.0
