"""The operations that make up a fit: covariances, the Gram matrix and products with it, the loss.

Flops and bytes are those of the leading terms, given in each docstring, with w bytes per number of X. An
array that is read or written once counts once; data that stay in the caches do not count.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastcov as fc

from .._exact_loss.loss import PAIR_CONDITIONS
from ..datasets import Simulation
from . import _naive
from ._operation import (
    FLY,
    IN_MEMORY,
    LARGE,
    LARGEST,
    LONG,
    MIDDLE,
    NARROW,
    SMALL,
    TINY,
    UP_TO_LONG,
    WIDE,
    Task,
    atom_bytes,
    bare,
    bare_products,
    bare_steps,
    covariance_flops,
    operation,
)
from ._reference import Reference, near, require, rounding

CANDIDATES = 256
COLUMNS = 200
# Number of rows of X, or of entries of a matrix, for which formulas that form G are checked.
CHECKED = 20


def _drawn(simulation: Simulation, *shape: int) -> Any:
    """Draw random gains around one."""
    return np.random.default_rng(0).lognormal(0, 0.3, (*shape, len(simulation.X)))


def _vector(N: int) -> Any:
    return np.random.default_rng(0).standard_normal(N)


@operation("covariance", ["covariance"], IN_MEMORY, singles=(SMALL, MIDDLE, LARGE), peers="covariance")
def covariance(simulation: Simulation) -> Task:
    """Covariance: ND² flops, or twice that for few conditions; X is read once, wND + 8D² bytes.

    The floor is SYRK of X.
    """
    X, (N, D), w = simulation.X, simulation.X.shape, simulation.X.itemsize
    reference = Reference(X)
    (syrk,) = bare(simulation, "syrk")

    def check(C: Any) -> None:
        near(C, reference.covariance(), reference.roundoff * reference.scale())

    return Task(
        ours=lambda: fc.covariance(X), check=check, flops=covariance_flops(N, D), nbytes=w * N * D + 8 * D**2,
        naive=lambda: _naive.covariance(X), floor=lambda: syrk(1.0, X.T),
    )  # fmt: skip


@operation("target-covariance", ["target_covariance"], (TINY, SMALL, FLY, LONG, LARGE))
def target_covariance(simulation: Simulation) -> Task:
    """Covariance of Y, and the trace of that of X; X and Y are read once, 2wND + 8D² bytes.

    Y has as many channels as X. The floor is SYRK of Y, because a trace takes only 8ND flops.
    """
    X, Y, (N, D), w = simulation.X, simulation.Y, simulation.X.shape, simulation.X.itemsize
    (syrk,) = bare(simulation, "syrk")

    def naive() -> Any:
        C = _naive.covariance(Y)
        return C * (np.trace(_naive.covariance(X)) / np.trace(C))

    def check(S: Any) -> None:
        given, other = Reference(X), Reference(Y)
        C = other.covariance()
        share = np.trace(given.covariance()) / np.trace(C)
        near(S, share * C, 3 * other.roundoff * share * other.scale())

    return Task(
        ours=lambda: fc.target_covariance(Y, like=X), check=check,
        flops=covariance_flops(N, D) + 8.0 * N * D, nbytes=2 * w * N * D + 8 * D**2,
        naive=naive, floor=lambda: syrk(1.0, Y.T),
    )  # fmt: skip


@operation("gram", ["gram"], (TINY, SMALL, FLY, MIDDLE, WIDE, (4000, 500)), peers="gram")
def gram(simulation: Simulation) -> Task:
    """Gram matrix, N²D flops; SYRK writes a triangle, one pass reads, writes and mirrors it: 2wN² bytes."""
    X, (N, D), w = simulation.X, simulation.X.shape, simulation.X.itemsize
    centred = X - X.mean(axis=0)
    (syrk,) = bare(simulation, "syrk")

    def naive() -> Any:
        G = _naive.atoms(X)
        return G.T @ G

    def check(A: Any) -> None:
        require(A.shape == (N, N), f"shape {A.shape}")
        _check_columns(simulation, A, np.arange(N))

    return Task(
        ours=lambda: fc.gram(X), check=check, flops=N**2 * D, nbytes=2 * w * N**2,
        naive=naive, naive_bytes=atom_bytes((N, D), w) + w * N**2, naive_flops=2.0 * N**2 * D**2,
        floor=lambda: syrk(1.0, centred.T, trans=1),
    )  # fmt: skip


def _check_columns(simulation: Simulation, A: Any, chosen: Any) -> None:
    """Check GᵀG[:, I]: some entries one by one, and all of them in a product with random signs.

    The entries are inner products over D² numbers, whose absolute values sum to at most 4 max ‖x_i‖⁴.
    """
    X, (N, D), random = simulation.X, simulation.X.shape, np.random.default_rng(0)
    reference, double = Reference(X), X.astype(np.float64)
    allowed = rounding(X.dtype, N + D**2) * 4 * reference.largest_row() ** 2
    i = random.choice(N, min(N, CHECKED), replace=False)
    j = random.choice(len(chosen), min(len(chosen), CHECKED), replace=False)
    near(A[np.ix_(i, j)], _naive.atoms(double, i).T @ _naive.atoms(double, chosen[j]), allowed)
    signs, v = random.choice([-1.0, 1.0], len(chosen)), np.zeros(N)
    v[chosen] = signs
    # If the errors of entries are only rounding, their sum grows like a random walk.
    near(A @ signs, reference.adjoint(reference.atoms(v)), allowed * np.sqrt(len(chosen)))


@operation("columns", ["GramOperator.columns"], (SMALL, MIDDLE, LONG, (20_000, 100)))
def columns(simulation: Simulation) -> Task:
    """Columns GᵀG[:, I] of k channels: 2NDk flops, w(ND + 2Nk) bytes. The floor is GEMM of X̃ and X̃[I]ᵀ."""
    X, (N, D), w = simulation.X, simulation.X.shape, simulation.X.itemsize
    chosen = np.sort(np.random.default_rng(1).choice(N, min(N, COLUMNS), replace=False))
    operator, ready = fc.GramOperator(X), X - X.mean(axis=0)
    rows, k = np.ascontiguousarray(ready[chosen]), len(chosen)
    (gemm,) = bare(simulation, "gemm")

    def naive() -> Any:
        centred = X - X.mean(axis=0)
        some, theirs = X[chosen], centred[chosen]
        return 2 * ((X @ some.T) * (centred @ theirs.T) + (X @ theirs.T) * (centred @ some.T))

    def check(A: Any) -> None:
        require(A.shape == (N, k), f"shape {A.shape}")
        _check_columns(simulation, A, chosen)

    return Task(
        ours=lambda: operator.columns(chosen), check=check,
        flops=2 * N * D * k, nbytes=w * (N * D + 2 * N * k),
        naive=naive, floor=lambda: gemm(1.0, rows.T, ready.T, trans_a=1),
    )  # fmt: skip


@operation("atom-norms", ["atom_norms"], (SMALL, MIDDLE, LONG, LARGE))
def atom_norms(simulation: Simulation) -> Task:
    """Norms of atoms, 9ND flops; X is read twice, for its mean and for the norms: 2wND bytes."""
    X, (N, D), w = simulation.X, simulation.X.shape, simulation.X.itemsize

    def check(norms: Any) -> None:
        expected = _naive.squared_norms(X.astype(np.float64))
        near(np.square(norms), expected, 4 * Reference(X).roundoff * Reference(X).largest_row() ** 2)

    return Task(
        ours=lambda: fc.atom_norms(X), check=check, flops=9 * N * D, nbytes=2 * w * N * D,
        naive=lambda: np.sqrt(_naive.squared_norms(X)),
    )  # fmt: skip


@operation("overlaps", ["overlaps"], IN_MEMORY)
def overlaps(simulation: Simulation) -> Task:
    """Overlaps: a covariance for the error, 2ND² flops for its product; X is read twice, 2wND bytes."""
    X, S, (N, D), w = simulation.X, simulation.S, simulation.X.shape, simulation.X.itemsize
    single = S.astype(X.dtype)

    def check(b: Any) -> None:
        reference = Reference(X)
        error = S - reference.covariance()
        size = 2 * reference.largest_row() * (np.linalg.norm(S) + np.linalg.norm(reference.covariance()))
        near(b, reference.adjoint(error), reference.roundoff * float(size))

    return Task(
        ours=lambda: fc.overlaps(X, S), check=check,
        flops=covariance_flops(N, D) + 2.0 * N * D**2, nbytes=2 * w * N * D,
        naive=lambda: _naive.atoms(X).T @ (single - _naive.covariance(X)).ravel(),
        naive_bytes=atom_bytes((N, D), w), floor=bare_steps(X, 1),
    )  # fmt: skip


@operation("atoms", ["AtomOperator"], (TINY, SMALL, MIDDLE, LONG, NARROW, LARGE))
def atoms(simulation: Simulation) -> Task:
    """Product G v as a vector: 2ND² flops, and wND bytes. The floor is one GEMM."""
    X, (N, D), w = simulation.X, simulation.X.shape, simulation.X.itemsize
    operator, v = fc.AtomOperator(X), _vector(N)
    single, half = v.astype(X.dtype), np.empty((D, D), X.dtype, order="F")
    (gemm,) = bare(simulation, "gemm")

    def check(image: Any) -> None:
        reference = Reference(X)
        allowed = 2 * reference.roundoff * float(np.abs(v).max()) * reference.scale()
        near(image, reference.atoms(v).ravel(), allowed)

    return Task(
        ours=lambda: operator.matvec(v), check=check, flops=2 * N * D**2, nbytes=w * N * D,
        naive=lambda: _naive.atoms(X) @ single, naive_bytes=atom_bytes((N, D), w),
        floor=lambda: gemm(1.0, X.T, X.T, trans_b=1, c=half, overwrite_c=1),
    )  # fmt: skip


@operation("adjoint", ["AtomOperator"], (TINY, SMALL, MIDDLE, LONG, NARROW, LARGE))
def adjoint(simulation: Simulation) -> Task:
    """Product Gᵀ vec(S): 2ND² flops, and wND bytes. The floor is one GEMM."""
    X, S, (N, D), w = simulation.X, simulation.S, simulation.X.shape, simulation.X.itemsize
    operator, u, single = fc.AtomOperator(X), S.ravel(), S.astype(X.dtype)
    out, ready = np.empty_like(X), np.asfortranarray(single)
    (gemm,) = bare(simulation, "gemm")

    def check(values: Any) -> None:
        reference = Reference(X)
        allowed = 2 * reference.roundoff * reference.largest_row() * float(np.linalg.norm(S))
        near(values, reference.adjoint(S), allowed)

    return Task(
        ours=lambda: operator.rmatvec(u), check=check, flops=2 * N * D**2, nbytes=w * N * D,
        naive=lambda: _naive.atoms(X).T @ single.ravel(), naive_bytes=atom_bytes((N, D), w),
        floor=lambda: gemm(1.0, ready, X.T, c=out.T, overwrite_c=1),
    )  # fmt: skip


@operation(
    "application", ["GramOperator"], (TINY, SMALL, MIDDLE, LONG, NARROW, LARGE),
    singles=(SMALL, MIDDLE, LARGE, LARGEST),
)  # fmt: skip
def application(simulation: Simulation) -> Task:
    """One product with GᵀG: 4ND² flops, and X is read twice, 2wND bytes. The floor is two GEMMs."""
    X, (N, D), w = simulation.X, simulation.X.shape, simulation.X.itemsize
    operator, v = fc.GramOperator(X), _vector(N)
    single = v.astype(X.dtype)

    def check(product: Any) -> None:
        reference = Reference(X)
        size = 4 * reference.largest_row() * float(np.abs(v).max()) * D * reference.scale()
        near(product, reference.adjoint(reference.atoms(v)), reference.roundoff * size)

    return Task(
        ours=lambda: operator.matvec(v), check=check, flops=4 * N * D**2, nbytes=2 * w * N * D,
        naive=lambda: _naive.product(X, single), floor=bare_products(X, 1),
    )  # fmt: skip


def _loss_rounding(simulation: Simulation, z: Any) -> tuple[Any, float]:
    """Return the loss at z, and its rounding error: E's error times E's size, and half the error squared."""
    reference = Reference(simulation.X)
    C = reference.covariance(z)
    error = float(np.linalg.norm(C - simulation.S))
    size = float(np.linalg.norm(C)) + float(np.linalg.norm(simulation.S)) + C.shape[0] * reference.scale(z)
    wrong = reference.roundoff * size
    return 0.5 * error**2, wrong * error + 0.5 * wrong**2


@operation("loss", ["loss"], IN_MEMORY, singles=(SMALL, MIDDLE, LARGE), peers="loss")
def loss(simulation: Simulation) -> Task:
    """Loss at one vector of gains: a covariance; X is read once, wND bytes. The floor is one SYRK."""
    X, S, (N, D), w = simulation.X, simulation.S, simulation.X.shape, simulation.X.itemsize
    z = _drawn(simulation)
    single = z.astype(X.dtype)
    (syrk,) = bare(simulation, "syrk")

    def check(value: Any) -> None:
        expected, allowed = _loss_rounding(simulation, z)
        near(value, expected, allowed)

    return Task(
        ours=lambda: fc.loss(X, S, z), check=check, flops=covariance_flops(N, D), nbytes=w * N * D,
        naive=lambda: _naive.loss(X, S, single), floor=lambda: syrk(1.0, X.T), given={"gains": z},
    )  # fmt: skip


@operation("losses", ["loss"], (TINY, SMALL, FLY, NARROW), singles=(TINY, SMALL), peers="losses")
def losses(simulation: Simulation) -> Task:
    """Losses at K = 256 candidates: X is read once, wND + 8KN bytes. The floor is K SYRKs.

    With few conditions, all losses are products with pairs of conditions, KN(D² + 3D) flops; otherwise they
    take the flops of K covariances.
    """
    X, S, (N, D), w = simulation.X, simulation.S, simulation.X.shape, simulation.X.itemsize
    Z = _drawn(simulation, CANDIDATES)
    single = Z.astype(X.dtype)
    together = D <= PAIR_CONDITIONS
    each = N * (D**2 + 3.0 * D) if together else covariance_flops(N, D)
    (syrk,) = bare(simulation, "syrk")

    def check(values: Any) -> None:
        require(np.shape(values) == (CANDIDATES,), f"shape {np.shape(values)}")
        for k in range(0, CANDIDATES, CANDIDATES // CHECKED):
            expected, allowed = _loss_rounding(simulation, Z[k])
            near(values[k], expected, allowed)

    return Task(
        ours=lambda: fc.loss(X, S, Z), check=check,
        flops=CANDIDATES * each, nbytes=w * N * D + 8 * CANDIDATES * N,
        naive=lambda: np.array([_naive.loss(X, S, z) for z in single]),
        floor=lambda: [syrk(1.0, X.T) for _ in Z], given={"candidates": Z},
    )  # fmt: skip


@operation(
    "loss-and-gradient", ["loss_and_gradient"], (*UP_TO_LONG, NARROW, LARGE),
    singles=(SMALL, MIDDLE, LARGE), peers="loss_and_gradient",
)  # fmt: skip
def loss_and_gradient(simulation: Simulation) -> Task:
    """Loss and gradient: a covariance and 2ND² flops; X is read twice, 2wND bytes. Floor: SYRK and GEMM."""
    X, S, (N, D), w = simulation.X, simulation.S, simulation.X.shape, simulation.X.itemsize
    z = _drawn(simulation)
    single = z.astype(X.dtype)
    target = S.astype(X.dtype)

    def check(result: Any) -> None:
        value, gradient = result
        expected, allowed = _loss_rounding(simulation, z)
        near(value, expected, allowed)
        reference = Reference(X)
        size = np.linalg.norm(S) + np.linalg.norm(reference.covariance(z))
        allowed = reference.roundoff * 2 * reference.largest_row() * float(z.max() * size)
        near(gradient, reference.gradient(S, z), allowed)

    return Task(
        ours=lambda: fc.loss_and_gradient(X, S, z), check=check,
        flops=covariance_flops(N, D) + 2.0 * N * D**2, nbytes=2 * w * N * D,
        naive=lambda: _naive.loss_and_gradient(X, target, single), floor=bare_steps(X, 1), given={"gains": z},
    )  # fmt: skip
