"""Operations of many fits, explanations, and uses of a fit: prediction, files, an estimator.

Flops and bytes are those of the leading terms, as in `_pieces`.
"""

from __future__ import annotations

import importlib
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

import fastcov as fc

from ..datasets import Simulation
from . import _naive
from ._fits import EXACT, SVD, TRUSTED, absolute, bare_work, minimisation
from ._operation import (
    FLY,
    LARGE,
    LARGEST,
    LONG,
    MANY,
    MIDDLE,
    SMALL,
    TINY,
    WIDE,
    Task,
    atom_bytes,
    bare,
    bare_eigenvectors,
    bare_products,
    covariance_flops,
    operation,
    pairs,
)
from ._reference import LinearSystem, Minimum, Reference, gains_of, near, require, rounding

RIDGES = tuple(float(share) for share in np.logspace(-4, 0, 100))
FEW_RIDGES = tuple(float(share) for share in np.logspace(-4, 0, 8))
FOLDS, MODES = 5, 50
# Places of the fits of a long path that are checked.
CHECKED = (0, 49, 99)
# Largest difference in held-out R² between two runs that find the same minimum to GRADIENT.
SCORE = 1e-3


@operation("ridge-path", ["ridge_path"], (TINY, SMALL, FLY, MIDDLE, WIDE), peers="ridge_path")
def ridge_path(simulation: Simulation) -> Task:
    """100 linear fits by one eigendecomposition: 9n³ flops, n = min(N, D(D+1)/2), and 6ND² + 2n² for each.

    They take 24n² bytes. The floor is LAPACK's eigendecomposition of GᵀG.
    """
    X, S, (N, D) = simulation.X, simulation.S, simulation.X.shape
    largest, n = absolute(simulation, 1.0), min(N, pairs(D))
    values = largest * np.array(RIDGES)
    A = fc.gram(X.astype(np.float64))

    def naive() -> Any:
        A, b = _naive.system(X.astype(np.float64), S)
        w, V = np.linalg.eigh(A)
        return 1 + (V @ ((V.T @ b)[:, np.newaxis] / (w[:, np.newaxis] + values))).T

    def check(result: Any) -> None:
        gains = gains_of(result)
        require(gains.shape == (len(values), N), f"gains of shape {gains.shape}")
        for k in CHECKED:
            one = result[k] if hasattr(result, "fits") else gains[k]
            LinearSystem(Reference(X), S, values[k], largest).check(one)

    return Task(
        ours=lambda: fc.ridge_path(X, S, ridges=values), check=check,
        flops=9.0 * n**3 + (6.0 * N * D**2 + 2.0 * n**2) * len(values), nbytes=24.0 * n**2,
        naive=naive, naive_bytes=atom_bytes((N, D)) + 24.0 * N**2,
        naive_flops=2.0 * N**2 * D**2 + 9.0 * N**3, floor=bare_eigenvectors(A),
        given={"ridges": values},
    )  # fmt: skip


def chain(X: Any, S: Any, ridges: Sequence[float] = FEW_RIDGES) -> list[fc.Fit]:
    """Make exact fits from the largest ridge down, each warm-started at the last minimum, as in a fold."""
    fits: list[fc.Fit] = []
    for ridge in sorted(ridges, reverse=True):
        gains = fits[-1].gains if fits else None
        fits.append(fc.fit(X, S, relative_ridge=ridge, method="exact", gains0=gains))
    return fits


@operation("exact-path", ["ridge_path"], (TINY, SMALL, FLY, MIDDLE), singles=(SMALL,))
def exact_path(simulation: Simulation) -> Task:
    """8 exact fits, each warm-started at the last minimum; flops are those of their products."""
    X, S, (N, D) = simulation.X, simulation.S, simulation.X.shape
    values = absolute(simulation, 1.0) * np.array(FEW_RIDGES)

    def ours() -> Any:
        return fc.ridge_path(X, S, ridges=values, method="exact")

    def check(result: Any) -> None:
        gains = gains_of(result)
        require(gains.shape == (len(values), N), f"gains of shape {gains.shape}")
        for k, ridge in enumerate(values):
            one = result[k] if hasattr(result, "fits") else gains[k]
            Minimum(Reference(X), S, ridge).check(one)

    return Task(ours=ours, check=check, nbytes=12.0 * N * D, **minimisation(X, ours()))


@operation(
    "cross-validate", ["cross_validate"], (TINY, SMALL, MIDDLE), singles=(SMALL,), peers="cross_validate"
)
def cross_validate(simulation: Simulation) -> Task:
    """5 folds of 8 exact fits on four fifths of the conditions; flops and floor are those of a path per fold.

    R² on the held-out conditions is compared, folds x ridges.
    """
    X, Y, (N, D) = simulation.X, simulation.Y, simulation.X.shape
    n_folds = min(FOLDS, D // 2)

    def ours() -> Any:
        return fc.cross_validate(X, Y, relative_ridges=FEW_RIDGES, folds=n_folds, refit=None)

    folds = fc.cross_validate(X, Y, relative_ridges=[1.0], folds=n_folds, method="diagonal", refit=None).folds
    # At smaller ridges there are several minima, which predict differently.
    k = next(k for k, share in enumerate(FEW_RIDGES) if share >= EXACT)

    def check(result: Any) -> None:
        r2 = np.asarray(getattr(result, "r2", result))
        require(r2.shape == (n_folds, len(FEW_RIDGES)), f"scores of shape {r2.shape}")
        near(r2[:, k], [held_out_r2(X, Y, a, b, FEW_RIDGES[k]) for a, b in folds], SCORE)

    train = D * (n_folds - 1) // n_folds
    works = []
    for chosen, _ in folds:
        given, S = training(X, Y, chosen)
        works.append(minimisation(given, chain(given, S)))
    return Task(
        ours=ours, check=check, nbytes=24.0 * N * train,
        flops=sum(work["flops"] for work in works), repeats=sum(work["repeats"] for work in works),
        floor=lambda: [work["floor"]() for work in works],
        given={"responses": Y, "folds": folds, "relative_ridges": FEW_RIDGES},
    )  # fmt: skip


def training(X: Any, Y: Any, train: Any) -> tuple[Any, Any]:
    """Return X and the target for the conditions of a fold: Y's covariance, scaled to the trace of X's."""
    given = np.ascontiguousarray(X[:, train])
    S = Reference(Y[:, train]).covariance()
    return given, S * (np.trace(Reference(given).covariance()) / np.trace(S))


def held_out_r2(X: Any, Y: Any, train: Any, test: Any, relative: float) -> float:
    """Compute R² of one fold from its definition, with the gains of a checked exact fit."""
    given, S = training(X, Y, train)
    fit = fc.fit(given, S, relative_ridge=relative, method="exact")
    Minimum(Reference(given), S, fit.ridge).check(fit)
    other = Reference(Y).covariance()
    share = np.trace(S) / np.trace(other[np.ix_(train, train)])
    return float(_naive.r2(Reference(X[:, test]).covariance(fit.gains), share * other[np.ix_(test, test)]))


def _spectrum_of(result: Any) -> Any:
    """Return eigenvalues of GᵀG, the largest first, from an explanation, or from the start of a tuple."""
    return np.asarray(result.spectrum if hasattr(result, "spectrum") else result[0], np.float64)


def _check_explanation(simulation: Simulation, system: LinearSystem, result: Any, expected: Any) -> None:
    """Check eigenvalues and gains, and for fastcov's explanation the split of the error and a filter."""
    X = simulation.X
    share = rounding(np.float64, len(X) + X.shape[1] ** 2)
    found = _spectrum_of(result)
    common = min(len(found), len(expected))  # fastcov leaves out eigenvalues that are zero up to rounding
    allowed = max(share, 1e-10) * float(expected[0])
    near(found[:common], expected[:common], allowed)
    near(expected[common:], np.zeros(len(expected) - common), allowed)
    if not hasattr(result, "fit"):
        if len(result) > 1:
            system.check(result[1])
    else:
        system.check(result.fit)
        near(result.reachable + result.unreachable, result.total, 1e-10 * result.total)
        near(result.filter(0) @ result.overlaps, result.delta[0], 1e-8 * float(np.abs(result.delta).max()))


@operation("explain", ["explain"], (TINY, SMALL, FLY, MIDDLE), peers="explain")
def explain(simulation: Simulation) -> Task:
    """Explanation by all modes: N²D + 9n³ flops and 24n² bytes, n = min(N, D(D+1)/2).

    The floor is LAPACK's eigendecomposition of GᵀG. The eigenvalues, the largest first, and the gains are
    compared.
    """
    X, S, (N, D) = simulation.X, simulation.S, simulation.X.shape
    largest, n = absolute(simulation, 1.0), min(N, pairs(D))
    system = LinearSystem(Reference(X), S, TRUSTED * largest, largest)
    A = fc.gram(X.astype(np.float64))

    def naive() -> Any:
        G, e = _naive.atoms(double := X.astype(np.float64)), (S - _naive.covariance(double)).ravel()
        U, s, Vt = np.linalg.svd(G, full_matrices=False)
        return s**2, 1 + (s * (e @ U) / (s**2 + system.ridge)) @ Vt

    def check(result: Any) -> None:
        expected = np.linalg.eigvalsh(Reference(X).gram())[::-1][:n]
        _check_explanation(simulation, system, result, expected)

    return Task(
        ours=lambda: fc.explain(X, S, ridge=system.ridge), check=check,
        flops=N**2 * D + 9.0 * n**3, nbytes=24.0 * n**2,
        naive=naive, naive_bytes=2 * atom_bytes((N, D)), naive_flops=SVD * N**2 * D**2,
        floor=bare_eigenvectors(A),
        given={"ridge": system.ridge},
    )  # fmt: skip


@operation("modes", ["explain"], (MIDDLE, LONG, MANY), singles=(MANY,))
def modes(simulation: Simulation, relative_ridge: float = TRUSTED) -> Task:
    """Explanation by 50 modes: 4ND² flops for each product with GᵀG, and 8N(6·50 + 200) bytes.

    The naive version is `eigsh` of SciPy with products in NumPy. The floor is two GEMMs for each product;
    with so few channels that no products are needed, it is LAPACK's eigendecomposition.
    """
    X, S, (N, D) = simulation.X, simulation.S, simulation.X.shape
    largest = absolute(simulation, 1.0)
    system = LinearSystem(Reference(X), S, relative_ridge * largest, largest)
    n = min(MODES, N, pairs(D))

    def ours() -> Any:
        return fc.explain(X, S, ridge=system.ridge, modes=n)

    applications = int(ours().stats.get("applications", 0))

    def naive() -> Any:
        double = X.astype(np.float64)
        A = LinearOperator((N, N), matvec=lambda v: _naive.product(double, np.ravel(v)))
        start = np.ones(N)
        return (np.sort(eigsh(A, k=min(n, N - 1), v0=start, return_eigenvectors=False))[::-1],)

    def check(result: Any) -> None:
        reference = _operator(X)
        start = np.ones(N)
        expected = np.sort(eigsh(reference, k=min(n, N - 1), v0=start, return_eigenvectors=False))[::-1]
        _check_explanation(simulation, system, result, expected)

    if applications:
        work = {"flops": 4.0 * applications * N * D**2, "floor": bare_products(X, applications)}
    else:
        A = Reference(X).gram()
        work = {"flops": N**2 * D + 9.0 * N**3, "floor": bare_eigenvectors(A)}
    return Task(
        ours=ours, check=check, nbytes=8.0 * N * (6 * n + 200), naive=naive,
        repeats=float(max(1, applications)), **work,
    )  # fmt: skip


def _operator(X: Any) -> LinearOperator:
    """Return GᵀG in float64 as an operator, by products with X."""
    reference, N = Reference(X), len(X)
    return LinearOperator((N, N), matvec=lambda v: reference.adjoint(reference.atoms(np.ravel(v))))


@operation("apply", ["Fit.apply"], (TINY, SMALL, MIDDLE, LONG, LARGE))
def apply(simulation: Simulation) -> Task:
    """Prediction of as many new conditions: covariances at the gains and at gains of one, and 2wND bytes.

    The floor is two SYRKs. The predicted covariance, and R² of both, are compared.
    """
    X, S, (N, D), w = simulation.X, simulation.S, simulation.X.shape, simulation.X.itemsize
    fit = fc.fit(X, S, relative_ridge=TRUSTED, method="diagonal")
    new = np.ascontiguousarray(X[:, ::-1])  # other responses of the same channels
    target = np.ascontiguousarray(S[::-1, ::-1])
    single = fit.gains.astype(X.dtype)
    (syrk,) = bare(simulation, "syrk")

    def naive() -> Any:
        C = _naive.covariance(new, single)
        return C, _naive.r2(C, target), _naive.r2(_naive.covariance(new), target)

    def check(result: Any) -> None:
        reference = Reference(new)
        ours = hasattr(result, "covariance")
        C, *scores = (result.covariance, result.r2, result.r2_at_one) if ours else result
        expected = reference.covariance(fit.gains)
        near(C, expected, reference.roundoff * reference.scale(fit.gains))
        r2 = np.array([_naive.r2(expected, target), _naive.r2(reference.covariance(), target)])
        near(scores, r2, 1e-4 * (1 + float(np.abs(r2).max())))

    return Task(
        ours=lambda: fit.apply(new, target), check=check,
        flops=2 * covariance_flops(N, D), nbytes=2.0 * w * N * D,
        naive=naive, floor=lambda: (syrk(1.0, new.T), syrk(1.0, new.T)),
    )  # fmt: skip


@operation("save", ["Fit.save", "load"], (SMALL, MIDDLE, LARGE))
def save(simulation: Simulation) -> Task:
    """Save a fit and load it, 8(10N + 3D²) bytes each way; the naive version saves only gains and target."""
    X, S, (N, D) = simulation.X, simulation.S, simulation.X.shape
    fit = fc.fit(X, S, relative_ridge=TRUSTED, method="diagonal")
    gains = fit.gains

    def ours() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "fit.npz"
            fit.save(path)
            return fc.load(path)

    def naive() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "fit.npz"
            np.savez(path, gains=gains, covariance=S)
            with np.load(path) as loaded:
                return loaded["gains"]

    def check(result: Any) -> None:
        require(np.array_equal(gains_of(result), gains), "gains are not those saved")

    return Task(ours=ours, check=check, flops=0.0, nbytes=16.0 * (10 * N + 3 * D**2), naive=naive)


@operation("plan", ["plan"], (TINY, LARGEST), singles=(), on_data=False)
def plan(simulation: Simulation) -> Task:
    """Plan of a fit: a few formulas, without flops or bytes of data.

    The naive version computes the leading flops of the direct solvers.
    """
    (N, D), P = simulation.X.shape, pairs(simulation.X.shape[1])

    def naive() -> Any:
        return np.array([N**2 * D + N**3 / 3, N * P**2 + P**3 / 3])

    def check(result: Any) -> None:
        direct = N**2 * D + N**3 / 3
        if isinstance(result, np.ndarray):
            near(result, [direct, N * P**2 + P**3 / 3], rounding(np.float64, 1) * float(result.min()))
            return
        found = result.cost("cholesky").flops
        require(direct <= found <= 1.5 * direct + 100.0 * N * D**2, f"cholesky of {found:.1e} flops")
        fitting = [cost.solver for cost in result.costs if cost.fits]
        require(result.solver in fitting, f"{result.solver} is none of {fitting}")

    return Task(ours=lambda: fc.plan(N, D), check=check, flops=0.0, nbytes=0.0, naive=naive)


@operation("simulate", ["datasets.simulate"], (TINY, SMALL, MIDDLE, LONG, LARGE), singles=(LARGE,))
def simulate(simulation: Simulation) -> Task:
    """Simulation: ND(2·8 + D) flops, 2wND bytes; the floor draws as many normal numbers."""
    (N, D), w, dtype = simulation.X.shape, simulation.X.itemsize, simulation.X.dtype

    def check(result: Any) -> None:
        require(np.array_equal(result.X, simulation.X), "X is not that of the same seed")
        made = Reference(result.Y)
        near(result.S, made.covariance(), made.roundoff * made.scale())

    return Task(
        ours=lambda: fc.datasets.simulate(N, D, rng=0, dtype=dtype), check=check,
        flops=float(N * D * (16 + D)), nbytes=2.0 * w * N * D,
        floor=lambda: np.random.default_rng(0).standard_normal((2 * N, D)),
    )  # fmt: skip


@operation("estimator", ["sklearn.GainModel"], (TINY, SMALL, MIDDLE, LONG), needs="sklearn")
def estimator(simulation: Simulation) -> Task:
    """`GainModel.fit` of the transposed responses; flops, bytes and floor are those of `fit`."""
    model = importlib.import_module("fastcov.sklearn").GainModel
    X, S = simulation.X, simulation.S
    ridge = absolute(simulation, TRUSTED)
    plan = fc.plan(*X.shape, relative_ridge=TRUSTED, dtype=X.dtype)
    cost = plan.cost(plan.solver)
    return Task(
        ours=lambda: model(ridge=ridge, target="precomputed").fit(X.T, S).fit_,
        check=LinearSystem(Reference(X), S, ridge, ridge / TRUSTED).check,
        flops=cost.flops, nbytes=cost.nbytes, **bare_work(simulation, ridge, cost.solver),
    )  # fmt: skip
