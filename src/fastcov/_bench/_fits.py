"""Fits: each method and solver, several targets, bounds, a ridge for each channel, and X in a file.

Flops and bytes are those of the leading terms, as in `_pieces`. For a fit by a solver they are those of
`fastcov.plan`, and for one that minimises the exact loss those of its products, counted outside the clock.
"""

from __future__ import annotations

import pathlib
import shutil
import tempfile
import weakref
from typing import Any

import numpy as np

import fastcov as fc

from .._exact_loss.objective import COMPILED
from ..datasets import Simulation
from . import _naive
from ._operation import (
    FLY,
    IN_MEMORY,
    LARGE,
    LARGEST,
    LONG,
    MANY,
    MIDDLE,
    NARROW,
    SMALL,
    TINY,
    UP_TO_LONG,
    WIDE,
    Task,
    atom_bytes,
    bare,
    bare_eigenvectors,
    bare_products,
    bare_steps,
    covariance_flops,
    operation,
    pairs,
)
from ._reference import (
    GRADIENT,
    RESIDUAL,
    LinearSystem,
    Minimum,
    Projected,
    Reference,
    delta_of,
    gains_of,
    near,
    require,
)

# λ over the largest eigenvalue of GᵀG: a ridge at which the linear fit can be trusted; one at which an
# iterative solver has work to do; and one at which the linear fit begins to overshoot, so that the exact fit
# is needed.
TRUSTED, ITERATED, EXACT = 0.1, 1e-3, 1e-2
# With few channels per condition the spectrum falls slowly, and a smaller ridge makes a harder test.
HARDER = {NARROW: 1e-4}
TARGETS = 8
TERMS = ("diagonal", "constant")
# Largest number of channels for which the floor of a fit is the direct solution.
DIRECT = 10_000
# Equivalent flops of a singular value decomposition of G over N²D²: about 12, at less than half the speed of
# products.
SVD = 30.0


def absolute(simulation: Simulation, relative: float) -> float:
    """Return λ as a share of the largest eigenvalue, which is found once outside the clock."""
    ridge = fc.fit(simulation.X, simulation.S, relative_ridge=relative, method="diagonal").ridge
    return float(ridge)


def _linear(simulation: Simulation, relative: float, **asked: Any) -> tuple[float, LinearSystem, Any]:
    """Return λ, its linear system, and the plan for the requested solver."""
    X, S = simulation.X, simulation.S
    ridge = absolute(simulation, relative)
    plan = fc.plan(*X.shape, relative_ridge=relative, dtype=X.dtype, **asked)
    return ridge, LinearSystem(Reference(X), S, ridge, ridge / relative), plan.cost(plan.solver)


def _naive_solution(simulation: Simulation) -> dict[str, Any]:
    """Return bytes and flops to form G and the smaller of GᵀG and GGᵀ, and to solve."""
    N, D = simulation.X.shape
    n = min(N, D**2)
    return {
        "naive_bytes": atom_bytes((N, D)) + 16.0 * n**2, "naive_flops": 2.0 * N * D**2 * n + n**3
    }  # fmt: skip


def bare_solution(simulation: Simulation, ridge: Any, targets: int = 1) -> Any:
    """Make the bare direct solution: SYRK of the centred X, POTRF and POTRS."""
    X, N = simulation.X, len(simulation.X)
    centred, diagonal = X - X.mean(axis=0), np.arange(len(X))
    b = np.ones((N, targets), X.dtype, order="F")
    syrk, potrf, potrs = bare(simulation, "syrk", "potrf", "potrs")

    def floor() -> Any:
        A = syrk(1.0, centred.T, trans=1, lower=1)
        A[diagonal, diagonal] += ridge
        factor, _ = potrf(A, lower=1, clean=0, overwrite_a=1)
        return potrs(factor, b, lower=1)

    return floor


def _pair_factorisation(simulation: Simulation, ridge: float) -> Any:
    """Make the bare solution over pairs of conditions: SYRK of their products, POTRF and POTRS."""
    X, D = simulation.X, simulation.X.shape[1]
    first, second = np.triu_indices(D)
    products, diagonal = X[:, first] * X[:, second], np.arange(pairs(D))
    b = np.ones((pairs(D), 1), X.dtype, order="F")
    syrk, potrf, potrs = bare(simulation, "syrk", "potrf", "potrs")

    def floor() -> Any:
        A = syrk(1.0, products.T, lower=1)
        A[diagonal, diagonal] += ridge
        factor, _ = potrf(A, lower=1, clean=0, overwrite_a=1)
        return potrs(factor, b, lower=1)

    return floor


def bare_work(simulation: Simulation, ridge: float, solver: str) -> dict[str, Any]:
    """Make the floor of a linear fit with a solver, and say how often it repeats its work.

    The floor is the direct solution, or for an iterative solver with more channels than DIRECT, the products
    of as many iterations as fastcov takes, counted before.
    """
    X, S = simulation.X, simulation.S
    if solver == "dual":
        return {"floor": _pair_factorisation(simulation, ridge)}
    if solver != "pcg" or len(X) <= DIRECT:
        return {"floor": bare_solution(simulation, ridge)}
    iterations = max(1, int(fc.fit(X, S, ridge=ridge, solver=solver).stats["iterations"]))
    # The products are in float32, as in fastcov if the ridge is well above the rounding of float32.
    return {"floor": bare_products(X.astype(np.float32), iterations), "repeats": float(iterations)}


def _solved(simulation: Simulation, relative: float, **asked: Any) -> Task:
    """Make the task of a linear fit with a solver, beside bare work and a NumPy solution that forms G."""
    X, S = simulation.X, simulation.S
    ridge, system, cost = _linear(simulation, relative, **asked)
    return Task(
        ours=lambda: fc.fit(X, S, ridge=ridge, **asked), check=system.check,
        flops=cost.flops, nbytes=cost.nbytes,
        naive=lambda: _naive.linear_fit(X, S, ridge),
        **_naive_solution(simulation),
        **bare_work(simulation, ridge, cost.solver),
        given={"ridge": ridge, "tol": RESIDUAL if cost.solver == "pcg" else None},
    )  # fmt: skip


@operation("fit", ["fit"], IN_MEMORY, singles=(SMALL, MIDDLE, LARGE, LARGEST), peers="fit")
def fit(simulation: Simulation, relative_ridge: float = TRUSTED) -> Task:
    """Linear fit with default settings; flops and bytes are those of `fastcov.plan`."""
    return _solved(simulation, relative_ridge)


@operation("cholesky", ["fit"], (*UP_TO_LONG[:-1], NARROW))
def cholesky(simulation: Simulation, relative_ridge: float = ITERATED) -> Task:
    """Linear fit by Cholesky, N²D + N³/3 flops."""
    return _solved(simulation, relative_ridge, solver="cholesky")


@operation("dual", ["fit"], ((3000, 30), (20_000, 12), (100_000, 6)), peers="dual")
def dual(simulation: Simulation, relative_ridge: float = ITERATED) -> Task:
    """Linear fit by the dual system, NP² + P³/3 flops, P = D(D+1)/2: for more channels than pairs."""
    return _solved(simulation, relative_ridge, solver="dual")


@operation(
    "pcg", ["fit"], (SMALL, MIDDLE, LONG, NARROW, MANY, LARGE), singles=(MIDDLE, LARGE, LARGEST), peers="pcg"
)
def pcg(simulation: Simulation, relative_ridge: float | None = None) -> Task:
    """Linear fit by pcg, 4ND² flops for each iteration, to a residual of 1e-8."""
    relative = relative_ridge or HARDER.get(simulation.X.shape, ITERATED)
    return _solved(simulation, relative, solver="pcg")


@operation("file", ["fit"], (SMALL, LONG, MANY, LARGE), singles=(LARGE, LARGEST))
def file(simulation: Simulation, relative_ridge: float = TRUSTED) -> Task:
    """Linear fit of X in a `.npy` file, read by blocks in each pass; the floor is that of `fit`."""
    X, S = simulation.X, simulation.S
    ridge, system, cost = _linear(simulation, relative_ridge)
    folder = tempfile.mkdtemp()
    path = pathlib.Path(folder) / "X.npy"
    np.save(path, X)
    mapped = np.load(path, mmap_mode="r")
    weakref.finalize(mapped, shutil.rmtree, folder, ignore_errors=True)
    return Task(
        ours=lambda: fc.fit(mapped, S, ridge=ridge), check=system.check, flops=cost.flops, nbytes=cost.nbytes,
        naive=lambda: _naive.linear_fit(np.load(path), S, ridge),
        **_naive_solution(simulation),
        **bare_work(simulation, ridge, cost.solver),
    )  # fmt: skip


@operation("spectral", ["fit"], (TINY, SMALL, FLY))
def spectral(simulation: Simulation) -> Task:
    """Minimum-norm fit without ridge, by eigenvectors: N²D + 9N³ flops if N < D(D+1)/2, and 24N² bytes.

    A dead channel keeps its gain of one. The floor is LAPACK's eigendecomposition of GᵀG.
    """
    X, S, (N, D) = simulation.X, simulation.S, simulation.X.shape
    largest = absolute(simulation, 1.0)
    A = fc.gram(X.astype(np.float64))

    def naive() -> Any:
        G = _naive.atoms(double := X.astype(np.float64))
        return 1 + np.linalg.lstsq(G, (S - _naive.covariance(double)).ravel(), rcond=1e-6)[0]

    def check(result: Any) -> None:
        LinearSystem(Reference(X), S, 0.0, largest).check(result)
        delta = delta_of(result)
        dead = delta[~X.any(axis=1)]
        allowed = (0.0 if hasattr(result, "delta") else RESIDUAL) * float(np.linalg.norm(delta))
        near(dead, np.zeros(len(dead)), allowed)

    return Task(
        ours=lambda: fc.fit(X, S, ridge=0.0), check=check, flops=N**2 * D + 9.0 * N**3, nbytes=24.0 * N**2,
        naive=naive, naive_bytes=2 * atom_bytes((N, D)), naive_flops=SVD * N**2 * D**2,
        floor=bare_eigenvectors(A),
    )  # fmt: skip


@operation("diagonal", ["fit"], (TINY, SMALL, MIDDLE, LONG, LARGE))
def diagonal(simulation: Simulation, relative_ridge: float = TRUSTED) -> Task:
    """Diagonal fit: two covariances and 6ND² flops, with certificate and loss; X is read four times.

    The floor is SYRK and GEMM.
    """
    X, S, (N, D), w = simulation.X, simulation.S, simulation.X.shape, simulation.X.itemsize
    ridge = absolute(simulation, relative_ridge)

    def gains(X: Any, S: Any) -> Any:
        centred = X - X.mean(axis=0)
        overlaps = 2 * ((X @ (S - centred.T @ centred)) * centred).sum(axis=1)
        return 1 + overlaps / (_naive.squared_norms(X) + ridge)

    def check(result: Any) -> None:
        reference = Reference(X)
        size = 2 * reference.largest_row() * (np.linalg.norm(S) + np.linalg.norm(reference.covariance()))
        expected = gains(X.astype(np.float64), S)
        near(gains_of(result), expected, reference.roundoff * (1 + float(size) / ridge))

    return Task(
        ours=lambda: fc.fit(X, S, ridge=ridge, method="diagonal"), check=check,
        flops=2 * covariance_flops(N, D) + 6.0 * N * D**2, nbytes=4.0 * w * N * D,
        naive=lambda: gains(X, S.astype(X.dtype)), floor=bare_steps(X, 1),
    )  # fmt: skip


@operation("targets", ["fit"], (TINY, SMALL, MIDDLE, LONG))
def targets(simulation: Simulation, relative_ridge: float = TRUSTED) -> Task:
    """Linear fit of 8 targets, which share a factorisation; flops and bytes are those of `fastcov.plan`."""
    X, N = simulation.X, len(simulation.X)
    Z = np.random.default_rng(0).lognormal(0, 0.3, (TARGETS, N))
    stack = np.stack([fc.covariance(X, gains=z) for z in Z])
    ridge, system, cost = _linear(simulation, relative_ridge, n_targets=TARGETS)

    def naive() -> Any:
        G = _naive.atoms(double := X.astype(np.float64))
        e = (stack - _naive.covariance(double)).reshape(TARGETS, -1)
        return 1 + np.linalg.solve(G.T @ G + ridge * np.eye(N), G.T @ e.T).T

    def check(result: Any) -> None:
        gains = gains_of(result)
        require(gains.shape == (TARGETS, N), f"gains of shape {gains.shape}")
        for S, z in zip(stack, gains, strict=True):
            LinearSystem(system.reference, S, ridge, system.largest).check(z)

    return Task(
        ours=lambda: fc.fit(X, stack, ridge=ridge), check=check, flops=cost.flops, nbytes=cost.nbytes,
        naive=naive, **_naive_solution(simulation),
        floor=bare_solution(simulation, ridge, TARGETS),
    )  # fmt: skip


@operation("ridges", ["fit"], (TINY, SMALL, MIDDLE, LONG))
def ridges(simulation: Simulation, relative_ridge: float = TRUSTED) -> Task:
    """Linear fit with one λ per channel, ten times larger for a fifth; flops and bytes as with a single λ."""
    X, S, N = simulation.X, simulation.S, len(simulation.X)
    ridge, system, cost = _linear(simulation, relative_ridge)
    each = np.where(np.arange(N) % 5 == 0, 10 * ridge, ridge)
    return Task(
        ours=lambda: fc.fit(X, S, ridge=each),
        check=LinearSystem(system.reference, S, each, system.largest).check,
        flops=cost.flops, nbytes=cost.nbytes,
        naive=lambda: _naive.linear_fit(X, S, each),
        **_naive_solution(simulation),
        floor=bare_solution(simulation, each),
    )  # fmt: skip


def _check_terms(reference: Projected, S: Any, result: Any) -> None:
    """Raise unless β and γ of a fit of fastcov minimise its loss at its own gains."""
    if not hasattr(result, "nuisance"):
        return
    require(tuple(result.nuisance) == TERMS, f"terms {tuple(result.nuisance)}")
    z = gains_of(result)
    size = reference.scale(z) + float(np.abs(S).max())
    expected = np.array(reference.terms(S - reference.covariance(z)))
    near(list(result.nuisance.values()), expected, reference.roundoff * size)


@operation("nuisance", ["fit"], (TINY, SMALL, MIDDLE, LONG))
def nuisance(simulation: Simulation, relative_ridge: float = TRUSTED) -> Task:
    """Linear fit with βI + γ11ᵀ; flops, bytes and floor are those without. The naive version projects G.

    λ is relative to the largest eigenvalue of GᵀG, which is larger than that of the projected GᵀG.
    """
    X, S = simulation.X, simulation.S
    ridge, plain, cost = _linear(simulation, relative_ridge)
    reference = Projected(X)
    system = LinearSystem(reference, S, ridge, plain.largest)

    def check(result: Any) -> None:
        system.check(result)
        _check_terms(reference, S, result)

    return Task(
        ours=lambda: fc.fit(X, S, ridge=ridge, nuisance=TERMS), check=check,
        flops=cost.flops, nbytes=cost.nbytes,
        naive=lambda: _naive.projected_fit(X, S, ridge), **_naive_solution(simulation),
        **bare_work(simulation, ridge, cost.solver),
    )  # fmt: skip


@operation("line-search", ["fit"], (TINY, SMALL, MIDDLE, WIDE, LONG))
def line_search(simulation: Simulation, relative_ridge: float = EXACT) -> Task:
    """Linear fit, and 4ND² flops for the quartic along its direction; the floor contains both."""
    X, S, (N, D) = simulation.X, simulation.S, simulation.X.shape
    ridge, system, cost = _linear(simulation, relative_ridge)
    linear, quartic = bare_work(simulation, ridge, cost.solver), bare_products(X, 1)

    def floor() -> None:
        linear["floor"]()
        quartic()

    def naive() -> Any:
        delta = _naive.linear_fit(X, S, ridge) - 1
        steps = np.linspace(0, 1, 5)  # five values determine a quartic
        values = [_naive.loss(X, S, 1 + t * delta) + 0.5 * ridge * t**2 * delta @ delta for t in steps]
        along = np.polynomial.Polynomial.fit(steps, values, 4)
        roots = along.deriv().roots()
        real = roots[abs(roots.imag) < 1e-9].real
        return 1 + real[np.argmin(along(real))] * delta

    def check(result: Any) -> None:
        """Check that gains lie in the direction of the linear fit, where the exact loss has no slope."""
        status = getattr(result, "status", "converged")
        require(status == "converged", f"it ends as {status}")
        delta, b = delta_of(result), system.right_hand_side
        image = b - system.residual(delta)
        step = float(image @ b) / float(b @ b)
        ours = hasattr(result, "delta")
        allowed = step * system.allowed(delta / step, ours=ours, iterative=True)
        left = float(np.linalg.norm(step * b - image))
        require(left <= allowed, f"off the direction by {left:.1e}, more than {allowed:.1e}")
        slope = float(system.reference.gradient(S, 1 + delta, ridge) @ delta)
        # From values of the loss alone, its minimum is known only to the square root of their rounding error.
        share = float(np.sqrt(system.reference.roundoff))
        allowed = share * abs(float(system.reference.gradient(S, np.ones(N)) @ delta))
        require(abs(slope) <= allowed, f"a slope of {slope:.1e}, more than {allowed:.1e}")

    return Task(
        ours=lambda: fc.fit(X, S, ridge=ridge, method="line-search"), check=check,
        flops=cost.flops + 4.0 * N * D**2, nbytes=cost.nbytes,
        naive=naive, **_naive_solution(simulation), **linear | {"floor": floor},
    )  # fmt: skip


def minimisation(X: Any, fits: Any) -> dict[str, Any]:
    """Return the flops of exact fits, and as a floor the bare BLAS work of as many products and steps.

    A product is two GEMMs, and a step a SYRK and a GEMM; `repeats` counts both by their flops, in products.
    """
    N, D = X.shape
    products = int(sum(np.sum(fit.stats["products"]) for fit in fits))
    steps = int(sum(np.sum(fit.stats["iterations"]) for fit in fits))
    single = all(fit.stats["precision"] == "float32" for fit in fits)
    step, curvature = bare_steps(X, steps), bare_products(X.astype(np.float32) if single else X, products)

    def floor() -> None:
        step()
        curvature()

    # A step evaluates loss and gradient, and computes the covariance along the step.
    # In a single compiled call, covariances are products of whole matrices for any D.
    covariance = 2.0 * N * D**2 if N * D**2 < COMPILED else covariance_flops(N, D)
    flops = 4.0 * products * N * D**2 + steps * (2 * covariance + 2.0 * N * D**2)
    return {"flops": flops, "floor": floor, "repeats": max(1.0, products + 0.75 * steps)}


def _exact(simulation: Simulation, relative: float, lower: float | None) -> Task:
    X, S, (N, D) = simulation.X, simulation.S, simulation.X.shape
    ridge = absolute(simulation, relative)
    bounds = None if lower is None else (lower, None)

    def ours() -> Any:
        return fc.fit(X, S, ridge=ridge, method="exact", bounds=bounds)

    least = Minimum(Reference(X), S, ridge, -np.inf if lower is None else lower)
    return Task(
        ours=ours, check=least.check, nbytes=12.0 * N * D, **minimisation(X, [ours()]),
        given={"ridge": ridge},
    )  # fmt: skip


@operation(
    "exact", ["fit"], (TINY, SMALL, FLY, MIDDLE, LONG, MANY, (50_000, 100)), singles=(SMALL, MIDDLE),
    peers="exact",
)  # fmt: skip
def exact(simulation: Simulation, relative_ridge: float = EXACT) -> Task:
    """Exact fit: 4ND² flops for each product with the curvature, two covariances and 2ND² for each step.

    Bytes are those of copies of X in both precisions.
    """
    return _exact(simulation, relative_ridge, None)


@operation("bounded", ["fit"], (TINY, SMALL, FLY, MIDDLE, LONG), singles=(SMALL,))
def bounded(simulation: Simulation, relative_ridge: float = EXACT) -> Task:
    """Exact fit of nonnegative gains; flops and bytes are those without bounds."""
    return _exact(simulation, relative_ridge, 0.0)


@operation("exact-nuisance", ["fit"], (TINY, SMALL, MIDDLE), singles=(SMALL,))
def exact_nuisance(simulation: Simulation, relative_ridge: float = EXACT) -> Task:
    """Exact fit with βI + γ11ᵀ; flops and bytes are those without. The naive version is L-BFGS."""
    X, S, (N, D) = simulation.X, simulation.S, simulation.X.shape
    ridge = absolute(simulation, relative_ridge)
    reference = Projected(X)
    least = Minimum(reference, S, ridge)

    def ours() -> Any:
        return fc.fit(X, S, ridge=ridge, method="exact", nuisance=TERMS)

    def check(result: Any) -> None:
        least.check(result)
        _check_terms(reference, S, result)

    return Task(
        ours=ours, check=check, nbytes=12.0 * N * D, **minimisation(X, [ours()]),
        naive=lambda: _naive.projected_minimum(X, S, ridge, GRADIENT),
    )  # fmt: skip
