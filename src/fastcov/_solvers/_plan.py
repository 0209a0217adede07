"""The choice of a solver: flops, bytes and seconds of each, and the fastest that fits the memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import DTypeLike

from .._inputs.validation import (
    SMALL,
    available_memory,
    check_budget,
    check_choice,
    check_nonnegative,
    check_tolerance,
    check_whole,
)
from .._model.problem import n_pairs
from .._rows.stored import CHUNK_BYTES
from ._nystrom import iterations, working_bytes
from ._pairs import block_rows
from ._solution import RESOLVED, SINGLE

# Larger sizes are mistakes, and their powers overflow.
LARGEST_SIZE = 10**15

NAMES = ("cholesky", "dual", "spectral", "pcg")
# Factor of iterations for a penalty that is no ridge. Only its diagonal preconditions, so the factor depends
# on how far the penalty is from diagonal: from one to hundreds.
ANY_PENALTY_FACTOR = 100.0
# Solvers that only multiply with the penalty; the others need a diagonal inverse.
FOR_ANY_PENALTY = ("cholesky", "pcg")

# Fitted to measurements of `python bench/solvers.py`, on two cores of an AMD EPYC with AVX-512 (SciPy 1.17
# with its OpenBLAS). Flops per second in float64, twice that in float32 but for eigenvectors:
GEMM = 70e9  # products of X with D x D matrices
SYRK = 85e9  # GᵀG, and GGᵀ from rows of G
POTRF, POTRF_HALF = 95e9, 400.0  # of large matrices; the order at which half of that is reached
EIGH = 80e9
# Overhead in seconds: of a call, a refinement, an iteration and a proposed pivot; and of a product with GᵀG,
# for each channel and each element of X, which counts where conditions are few. An iteration takes 0.1 ms,
# and is counted as 0.4: that leaves small problems to a factorisation, which gives all digits in similar
# time.
CALL, REFINEMENT, ITERATION, PROPOSAL = 2e-4, 1e-4, 4e-4, 8e-6
CHANNEL, ELEMENT = 1.2e-8, 5e-10
# Memory bandwidth, in bytes per second, for data that is read once.
BANDWIDTH = 13e9
# Trace of GᵀG over its largest eigenvalue: 4 to 6 in recordings and simulations. Then the number of pivots
# that leave about half of the trace.
TRACE, HALVED = 5.0, 25.0
# Bytes of its preconditioner that `pcg` may keep by default.
FACTOR_BYTES = 1e9
# Refinement of a float32 factor may fail below this share of the trace.
REFINABLE = 1e-6
# Every budget has room for a preconditioner of this rank.
LEAST_RANK = 16
# Vectors over channels that a fit holds: a fixed number, and more for each target.
VECTORS, VECTORS_A_TARGET = 3, 7


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one solver.

    Attributes
    ----------
    solver : str
    flops, nbytes, seconds : float
        Estimates. Bytes are those at the peak, beyond X.
    fits : bool
        Whether the bytes are available.
    """

    solver: str
    flops: float
    nbytes: float
    seconds: float
    fits: bool


@dataclasses.dataclass(frozen=True, repr=False)
class Plan:
    """The solver of a linear fit and why, with the cost of every solver; prints itself as a table.

    Attributes
    ----------
    solver, reason : str
    shape : tuple of int
        (N, D).
    available : float
        Bytes: the memory budget, or what the system has; infinite where next to nothing is needed.
    costs : tuple of Cost
    """

    solver: str
    reason: str
    shape: tuple[int, int]
    available: float
    costs: tuple[Cost, ...]

    def cost(self, solver: str) -> Cost:
        return next(cost for cost in self.costs if cost.solver == solver)

    def __repr__(self) -> str:
        N, D = self.shape
        memory = "" if math.isinf(self.available) else f", {self.available / 1e9:.3g} GB available"
        rows = [f"Plan for {N} channels x {D} conditions{memory}"]
        for c in self.costs:
            mark = "*" if c.solver == self.solver else " "
            seconds = f"{c.seconds:>10.3g} s" if math.isfinite(c.seconds) else f"{'singular':>12}"
            rows.append(
                f" {mark}{c.solver:<9}{c.flops:>10.2g} flops{c.nbytes / 1e9:>10.3g} GB{seconds}"
                + ("" if c.fits else "  does not fit")
            )
        return "\n".join([*rows, f"  {self.solver}: {self.reason}"])


def plan(
    n_channels: int,
    n_conditions: int,
    *,
    solver: str = "auto",
    relative_ridge: float = 0.1,
    n_targets: int = 1,
    dtype: DTypeLike = np.float64,
    tol: float = 1e-8,
    memory_budget: float | None = None,
) -> Plan:
    """Estimate what a linear fit takes with each solver, and say which one `fit` would choose.

    Parameters
    ----------
    n_channels, n_conditions : int
        N and D.
    solver : {"auto", "cholesky", "dual", "spectral", "pcg"}
        "auto" chooses the fastest that fits.
    relative_ridge : float, default 0.1
        λ over the largest eigenvalue of GᵀG: the iterations of ``"pcg"`` go with its root.
    n_targets : int, default 1
    dtype : default float64
        Of X.
    tol : float, default 1e-8
        Relative residual of ``"pcg"``.
    memory_budget : float, optional
        Bytes beyond X; by default what is available.

    Returns
    -------
    Plan

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, or the budget is below the least that would do.
    MemoryError
        If the solver that was asked for, or every one, needs more than there is.

    Notes
    -----
    Nothing is allocated. Seconds come from a model fitted to measurements on two cores, and compare
    solvers; on another machine they all shift. With P = D(D+1)/2:

    ========= ================================= ==========================
    solver    flops                             bytes
    ========= ================================= ==========================
    cholesky  N²D + N³/3                        8N²
    dual      NP² + P³/3                        8P²
    spectral  the smaller matrix, 9 min(N, P)³  24 min(N, P)²
    pcg       4ND² an iteration                 4N·rank, or less if not kept
    ========= ================================= ==========================

    Examples
    --------
    >>> import fastcov as fc
    >>> fc.plan(500, 50).solver, fc.plan(100_000, 100).solver
    ('cholesky', 'pcg')
    """
    N = check_whole("n_channels", n_channels, 1, LARGEST_SIZE)
    D = check_whole("n_conditions", n_conditions, 1, LARGEST_SIZE)
    share = check_nonnegative("relative_ridge", relative_ridge) / TRACE
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind.kind not in "biuf":
        raise TypeError(f"Argument 'dtype' must be one of real numbers, not {dtype!r}.")
    itemsize = 4 if kind.kind == "f" and kind.itemsize <= 4 else 8
    T, tol = check_whole("n_targets", n_targets, 1, LARGEST_SIZE), check_tolerance(tol)
    return choose(
        N, D, solver, share=share, n_targets=T, itemsize=itemsize, tol=tol,
        budget=check_budget(memory_budget), every=True,
    )  # fmt: skip


def choose(
    N: int,
    D: int,
    solver: str,
    *,
    share: float,
    n_targets: int,
    itemsize: int,
    tol: float,
    budget: float | None,
    rank: int | None = None,
    solvers: Sequence[str] = NAMES,
    every: bool = False,
) -> Plan:
    """`plan` for a ridge of `share` times the trace of GᵀG, among the given solvers.

    Whether it fits is certain of the solver that is chosen, and of all only with `every`: the system is not
    asked what is free where the fastest needs next to nothing.
    """
    check_choice("solver", solver, ("auto", *NAMES))
    if solver not in ("auto", *solvers):
        names = [repr(name) for name in ("auto", *solvers)]
        raise ValueError(
            f"Argument 'solver' must be {', '.join(names[:-1])} or {names[-1]} for a penalty that is a "
            f"matrix or leaves a channel free, not {solver!r}."
        )
    base = base_bytes(N, D, n_targets)
    estimates = _estimates(N, D, share=share, T=n_targets, itemsize=itemsize, tol=tol, rank=rank)
    estimates = {name: cost for name, cost in estimates.items() if name in solvers}
    if "pcg" in estimates and "dual" not in solvers:
        flops, nbytes, seconds = estimates["pcg"]
        estimates["pcg"] = ANY_PENALTY_FACTOR * flops, nbytes, ANY_PENALTY_FACTOR * seconds
    if every:
        needed = max(nbytes for _, nbytes, _ in estimates.values())
    elif share <= RESOLVED or solver != "auto":
        needed = estimates["spectral" if share <= RESOLVED else solver][1]
    else:  # of the least seconds
        needed = min((cost for name, cost in estimates.items() if name != "spectral"), key=itemgetter(2))[1]
    free = math.inf if base + needed < SMALL else available_memory()
    available = free if budget is None else min(free, budget)
    limit = solver_budget(available - base, budget)
    costs = []
    for name, (flops, nbytes, seconds) in estimates.items():
        if name == "pcg" and nbytes > limit:  # each iteration makes the preconditioner again
            least = working_bytes(N, D, LEAST_RANK if rank is None else min(rank, N))
            nbytes, flops, seconds = max(limit, least), 2 * flops, 2 * seconds
        costs.append(Cost(name, flops, base + nbytes, seconds, base + nbytes <= available))
    fitting = [c for c in costs if c.fits and math.isfinite(c.seconds)]
    if not fitting and budget is not None and budget < free:
        least = math.ceil(min(c.nbytes for c in costs if math.isfinite(c.seconds)) / 1e6) * 1e6
        raise ValueError(
            f"Argument 'memory_budget' must be at least {least:.10g} bytes for {N} channels and {n_targets} "
            f"targets, not {budget:.10g}."
        )
    if share <= RESOLVED or solver != "auto":
        reason = "as asked for"
        if share <= RESOLVED:
            solver, reason = "spectral", "the ridge is too small to count beside GᵀG"
        asked = next(c for c in costs if c.solver == solver)
        if not asked.fits:
            would = ", ".join(f"solver={c.solver!r} ({c.nbytes / 1e9:.3g} GB)" for c in fitting)
            raise _too_large(f"A {solver} fit", N, asked.nbytes, available, would, share)
        return Plan(solver, reason, (N, D), available, tuple(costs))
    # Eigenvectors are for many ridges, or for one too small to count; for one ridge a factor is cheaper.
    candidates = [c for c in fitting if c.solver != "spectral"]
    if not candidates:
        raise _too_large("A fit", N, min(c.nbytes for c in costs), available, "", share)
    best, *others = sorted(candidates, key=lambda c: c.seconds)
    reason = f"the fastest that fits, {best.seconds:.2g} s by estimate"
    if others and math.isfinite(others[0].seconds):
        reason += f"; {others[0].solver} {others[0].seconds:.2g} s"
    return Plan(best.solver, reason, (N, D), available, tuple(costs))


def _too_large(what: str, N: int, nbytes: float, available: float, would: str, share: float) -> MemoryError:
    remedy = f"{would} would fit" if would else "use method='diagonal', or fewer targets at a time"
    if share <= RESOLVED:
        remedy = "use a larger ridge, for which there are other solvers"
    return MemoryError(
        f"{what} of {N} channels takes {nbytes / 1e9:.3g} GB, and {available / 1e9:.3g} GB are available: "
        f"{remedy}."
    )


def base_bytes(N: int, D: int, T: int) -> float:
    """Bytes that a fit takes with any solver: vectors over channels, D x D matrices, read buffers."""
    vectors, matrices = N * (VECTORS + VECTORS_A_TARGET * T), D * D * (4 + 6 * T)
    return 8.0 * (vectors + matrices) + min(2.5 * CHUNK_BYTES, 16.0 * N * D)


def solver_budget(left: float, asked: float | None) -> float:
    """Bytes that `pcg` may take of those that the fit leaves."""
    return max(0.0, left if asked is not None else min(left / 2, FACTOR_BYTES))


def _estimates(
    N: int, D: int, *, share: float, T: int, itemsize: int, tol: float, rank: int | None
) -> dict[str, tuple[float, float, float]]:
    """Flops, bytes beyond the vectors, and seconds of each solver."""
    P = n_pairs(D)
    n = min(N, P)
    single, faster = share >= SINGLE, 8 / itemsize
    product = 4.0 * N * D * D * T
    multiply = product / GEMM + N * T * (CHANNEL + D * ELEMENT)

    gram, factor = 1.0 * N * N * D, N**3 / 3
    seconds = CALL + (gram / SYRK + factor / _potrf(N) + 16.0 * N * N / BANDWIDTH) / faster
    refinements = 0 if itemsize == 8 else 3
    solves = 2.0 * N * N * T
    flops = gram + factor + solves + refinements * product
    seconds += solves / BANDWIDTH + refinements * multiply
    width = itemsize if share >= REFINABLE else 8  # a float32 factor may be replaced by a float64 one
    cholesky = (flops, width * N * (N + D), seconds)

    gram, factor, refined = 1.0 * N * P * P, P**3 / 3, 5 * product
    seconds = CALL + (gram / SYRK + factor / _potrf(P)) / (faster if single else 1) + 5 * multiply
    width = itemsize if single else 8
    dual = (gram + factor + refined, width * P * (P + block_rows(D)), seconds + REFINEMENT)

    gram = N * P * P if P < N else N * N * D
    seconds = CALL + gram / SYRK + 9 * n**3 / EIGH + 3 * multiply
    spectral = (gram + 9 * n**3 + 3 * product, 24 * n * n + 8 * (block_rows(D) * n), seconds)

    pcg = _estimate_pcg(N, D, share=max(share, RESOLVED), T=T, tol=tol, rank=rank)
    if share <= RESOLVED:  # only eigenvectors tell which modes count
        cholesky, dual, pcg = ((*cost[:2], math.inf) for cost in (cholesky, dual, pcg))
    return dict(zip(NAMES, (cholesky, dual, spectral, pcg), strict=True))


def _potrf(n: int) -> float:
    return POTRF * n / (n + POTRF_HALF)


def _estimate_pcg(
    N: int, D: int, *, share: float, T: int, tol: float, rank: int | None
) -> tuple[float, float, float]:
    """The estimate for the fastest of the ranks tried."""
    n, single = min(N, n_pairs(D)), share >= SINGLE
    rate = GEMM * (2 if single else 1)
    product, itemsize = 4.0 * N * D * D * T, 4 if single else 8
    best = (math.inf, math.inf, math.inf)
    ranks = [min(rank, n)] if rank is not None else [0, *(2**j for j in range(4, 14) if 2**j < n)]
    for k in ranks:
        left = (1.0 + k / HALVED) ** -0.8 * (1.0 - k / n)
        expected = 2.0 + min(iterations(left / share, tol), n)
        setup = N * (2.0 * D * k + 2.0 * k * k)
        flops = setup + expected * (product + 4.0 * N * k * T) + 3 * product
        seconds = (setup + expected * product) / rate + 3 * product / GEMM
        seconds += (expected + 3) * N * T * (CHANNEL + D * ELEMENT)
        seconds += expected * (ITERATION + 2.0 * N * k * itemsize * T / BANDWIDTH)
        seconds += CALL + PROPOSAL * k * (1.0 + k / HALVED) ** 0.8
        if seconds < best[2]:
            best = (flops, itemsize * N * k + working_bytes(N, D, k), seconds)
    return best
