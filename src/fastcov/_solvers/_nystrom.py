"""The preconditioner of `pcg`: a randomly pivoted, partial Cholesky factorisation of GᵀG.

With pivots I, A = GᵀG and A_II = L Lᵀ, the factor F = A[:, I] L⁻ᵀ (N, k) gives the Nyström
approximation F Fᵀ ≈ A, and (F Fᵀ + μI)⁻¹ = (1/μ) [I − F (FᵀF + μI)⁻¹ Fᵀ] (Woodbury).

Pivots are drawn one after another with probabilities proportional to the diagonal of what is left,
A − F Fᵀ (Chen, Epperly, Tropp and Webber 2022). They are proposed from an old diagonal and accepted
with the probability that corrects for it (Epperly, Tropp and Webber 2024): the
distribution is the same, and the cost of drawing does not grow with N. One pass over X then makes F. Where F
does not fit the budget it is not kept: F = Gᵀ G_I L⁻ᵀ, so the two halves of a product with GᵀG apply it.

With one penalty a channel, A stands for the matrix in standard form, S GᵀG S, throughout.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas as scipy_blas
from scipy.linalg import solve_triangular

from .._compute import blas, kernels
from .._compute.jit import blas_for
from .._compute.progress import Progress
from .._model.problem import BLOCK_BYTES, Problem
from .._model.products import apply_adjoint, apply_atoms, gram_block
from .._rows.rows import by_channels
from ._solution import Options, System

Array = NDArray[Any]

# Proposals in a batch: enough for a BLAS call, few beside the pivots that are wanted. Batches of 128 give
# small problems more pivots than pay off: with 64 a fit at (148, 48) takes 0.8 of the time, with 32 no less.
BATCH = 64
# Bytes of rows of the factor that are made together: large products that stay in the caches.
PANEL_BYTES = 1 << 20
# Below this share of its diagonal, what is left of a pivot is rounding.
ROUNDING = 1e-10
# Costs, in flops of float32 products (150 GF/s on two cores). First the cost of reading a number of the
# factor, in the caches (100 GB/s) and beyond them (28 GB/s); then the overhead of a proposal, and of an
# iteration.
WORD_IN_CACHE, WORD_BEYOND, CACHE_BYTES = 6.0, 20.0, 2e7
PROPOSAL, ITERATION = 2e5, 2e7


@dataclasses.dataclass
class Pivots:
    """Channels I with the Cholesky factor L of A_II, and the share of the trace of A that they leave."""

    problem: Problem  # of these channels, in memory
    channels: NDArray[np.intp]  # (k,)
    lower: NDArray[np.float64]  # (k, k)
    left: float  # trace of A − F Fᵀ over that of A, estimated

    def first(self, k: int) -> Pivots:
        """The first k pivots drawn."""
        if k >= len(self.channels):
            return self
        return Pivots(self.problem.take(slice(k)), self.channels[:k], self.lower[:k, :k], self.left)


def choose_pivots(system: System, options: Options) -> Pivots:
    """Draw `rank` pivots, or as many as save more iterations than they cost."""
    problem, scales, rank = system.problem.astype(np.float64).unlabelled(), system.scales, options.rank
    diagonal = system.to_standard_form(system.to_standard_form(system.diagonal))
    random = np.random.default_rng(options.rng)
    N, D = problem.shape
    trace, at_ones = float(diagonal.sum()), problem.at_ones
    none = np.empty(0, np.intp)
    pivots = Pivots(problem.take(none), none, np.empty((0, 0)), 1.0)
    most = N if rank is None else min(rank, N)
    ranks = range(1, most + 1)
    most = bisect.bisect_right(ranks, options.budget, key=lambda k: working_bytes(N, D, k))
    weights, cumulative, drawn = diagonal, np.cumsum(diagonal), 0
    with blas_for(0):  # products of a hundred rows: on a busy machine, threads would wait for each other
        while (k := len(pivots.channels)) < most and cumulative[-1] > ROUNDING * trace:
            if rank is None and not _pays(N, D, k, pivots.left, system.share, options.tol):
                break
            u, accept = random.random((2, BATCH))
            u *= np.nextafter(cumulative[-1], 0.0)  # below the end, where there may be dead channels
            c = np.searchsorted(cumulative, u, side="right")
            proposed = problem.take(c)
            B = _scaled(gram_block(proposed, proposed, at_ones=at_ones), scales, c, c)
            F = np.empty((BATCH, 0))
            if k:
                F = _scaled(gram_block(proposed, pivots.problem, at_ones=at_ones), scales, c, pivots.channels)
                scipy_blas.dtrsm(1.0, pivots.lower.T, F.T, lower=0, trans_a=1, overwrite_b=1)  # F L⁻ᵀ
                B -= blas.product(F, F, tb=True)
            share = np.clip(B.diagonal() / weights[c], 0.0, 1.0)
            pivots.left = float(share.mean() * cumulative[-1] / trace)
            least = np.maximum(accept * weights[c], ROUNDING * diagonal[c])
            _take(pivots, c, proposed, F, B, least, most)
            drawn += BATCH
            if drawn >= N:  # as many proposals as a pass over all channels
                weights, drawn = diagonal - explained(problem, scales, pivots, _at(scales, pivots)), 0
                weights[weights < ROUNDING * diagonal] = 0.0
                weights[pivots.channels] = 0.0
                cumulative = np.cumsum(weights)
                pivots.left = float(cumulative[-1] / trace)
    return pivots


def _pays(N: int, D: int, k: int, left: float, share: float, tol: float) -> bool:
    """Whether one more pivot is expected to save more time in iterations than it takes.

    The model: the trace that is left falls as 1/k, the iterations as its root, and a flop of the preparation
    takes twice the time of a flop of the iterations.
    """
    if k == 0 or left <= ROUNDING:
        return k == 0
    word = WORD_IN_CACHE if 4 * N * k < CACHE_BYTES else WORD_BEYOND
    expected = iterations(left / share, tol)
    saved = expected / (2 * k) * (N * (4 * D * D + 2 * word * k) + ITERATION)
    return saved > N * (4 * D + 8 * k + 2 * word * expected) + (PROPOSAL + 4 * k * k) / left


def working_bytes(N: int, D: int, k: int) -> float:
    """Bytes of a preconditioner of rank k without its factor: matrices of order k, batches, panels."""
    panels = min(5.0 * PANEL_BYTES, 8.0 * N * (2 * D + 3 * k)) + 2.0 * min(BLOCK_BYTES, 8 * N * D)
    return 48.0 * k * k + 8.0 * k * D + max(panels, 24.0 * BATCH * (BATCH + k + D))


def iterations(left: float, tol: float) -> float:
    """Expected iterations, if the trace of A − F Fᵀ is `left` times the ridge."""
    return 0.035 * np.log(2 / tol) * np.sqrt(left)


def _take(pivots: Pivots, c: Array, proposed: Problem, F: Array, B: Array, least: Array, most: int) -> None:
    """Accept each proposal of which enough is left after those before it. Overwrites B."""
    k = len(pivots.channels)
    rows, accepted = np.empty_like(B), np.full(len(c) + 1, most - k)
    kernels.pivoted_rows(B, least, accepted, rows, size=0)  # one thread
    chosen = np.flatnonzero(accepted[:-1])
    lower = np.zeros((k + len(chosen),) * 2)
    lower[:k, :k] = pivots.lower
    lower[k:, :k] = F[chosen]
    lower[k:, k:] = np.tril(rows[np.ix_(chosen, chosen)].T)
    pivots.lower = lower
    pivots.channels = np.concatenate([pivots.channels, c[chosen]])
    pivots.problem = pivots.problem.with_channels(proposed.take(chosen))


def _scaled(block: Array, scales: Array | None, rows: Any, columns: Any) -> Array:
    """Turn a block of GᵀG into one of S GᵀG S, in place."""
    if scales is not None:
        block *= scales[rows, np.newaxis]
        block *= scales[columns]
    return block


@by_channels(each=1)
def explained(problem: Problem, scales: Array | None, pivots: Pivots, pivot_scales: Array | None) -> Array:
    """The diagonal of F Fᵀ (N,). N (2Dk + k²) flops, one pass over X."""
    out = np.empty(problem.shape[0])
    for rows, block in factor_blocks(problem, pivots, scales, pivot_scales):
        out[rows] = np.square(block).sum(axis=1)
    return out


def factor_blocks(
    problem: Problem, pivots: Pivots, scales: Array | None = None, pivot_scales: Array | None = None
) -> Iterator[tuple[slice, Array]]:
    """Rows of F = A[:, I] L⁻ᵀ, block by block. The scales are those of the channels and of the pivots.

    N (2Dk + k²) flops, one pass over X.
    """
    chosen, at_ones = pivots.problem.astype(problem.dtype), problem.at_ones
    # Multiplying with the inverse is twice as fast as solving, and accurate enough for a preconditioner.
    inverse = solve_triangular(pivots.lower, np.eye(len(pivots.channels)), lower=True)
    inverse = np.ascontiguousarray((1.0 if scales is None else pivot_scales) * inverse, problem.dtype)
    k = max(problem.shape[1], len(pivots.channels))
    for rows, part in problem.parts(step=max(1, PANEL_BYTES // (problem.dtype.itemsize * k))):
        block = blas.product(gram_block(part, chosen, at_ones=at_ones), inverse, tb=True)
        if scales is not None:
            block *= scales[rows, np.newaxis].astype(block.dtype)
        yield rows, block


def _at(scales: Array | None, pivots: Pivots) -> Any:
    """Scales of the pivots."""
    return 1.0 if scales is None else scales[pivots.channels]


@dataclasses.dataclass(frozen=True)
class Preconditioner:
    """S (F Fᵀ + μI)⁻¹ S: Fᵀ (k, N) is kept, or applied by the two halves of a product with GᵀG."""

    system: System
    pivots: Pivots
    shift: float  # μ
    core: NDArray[np.float64]  # (FᵀF + μI)⁻¹
    factor: Array | None

    @classmethod
    def of(cls, system: System, pivots: Pivots, options: Options, *, keep: bool) -> Preconditioner:
        problem = system.problem
        N, k = problem.shape[0], len(pivots.channels)
        shift = system.ridge
        factor = np.empty((k, N), problem.dtype) if keep else None
        inner = np.zeros((k, k))
        scales = system.scales
        for rows, block in factor_blocks(problem, pivots, scales, _at(scales, pivots)) if k else ():
            blas.add_self_product(inner, block)
            if factor is not None:
                factor[:, rows] = block.T
            options.watch(Progress("precondition", rows.stop / N))
        inner.flat[:: k + 1] += shift
        if blas.cholesky(inner):
            raise np.linalg.LinAlgError("The preconditioner is not positive definite.")
        core = blas.cholesky_solve(inner, np.eye(k)) if k else inner
        return cls(system, pivots, shift, core, factor)

    def __call__(self, R: Array) -> Array:
        """S (F Fᵀ + μI)⁻¹ S r for the rows r of R (T, N)."""
        R = self.system.to_standard_form(R)
        if not len(self.core):
            return self.system.to_standard_form(R / self.shift)
        out = self._expand(blas.product(self._shrink(R), self.core))
        np.subtract(R, out, out=out)
        out /= self.shift
        return self.system.to_standard_form(out)

    def _shrink(self, R: Array) -> Array:
        """Fᵀ r = L⁻¹ G_Iᵀ (G r), for each row (T, k)."""
        if self.factor is not None:
            return scaled_product(R, self.factor, tb=True)
        problem = self.system.problem
        chosen = self.pivots.problem.astype(problem.dtype)
        products = apply_adjoint(chosen, apply_atoms(problem, self.system.to_standard_form(R)))
        products *= _at(self.system.scales, self.pivots)
        return np.ascontiguousarray(solve_triangular(self.pivots.lower, products.T, lower=True).T)

    def _expand(self, W: Array) -> Array:
        """F w = Gᵀ (G_I L⁻ᵀ w), for each row (T, N)."""
        if self.factor is not None:
            return scaled_product(W, self.factor)
        problem = self.system.problem
        chosen = self.pivots.problem.astype(problem.dtype)
        weights = solve_triangular(self.pivots.lower, W.T, lower=True, trans=1).T
        weights = np.ascontiguousarray(weights * _at(self.system.scales, self.pivots))
        return self.system.to_standard_form(apply_adjoint(problem, apply_atoms(chosen, weights)))


def scaled_product(A: Array, B: Array, *, tb: bool = False) -> Array:
    """A B in the precision of B; A is scaled into its range."""
    scale = np.abs(A).max(initial=0.0) or 1.0
    return blas.product((A / scale).astype(B.dtype), B, tb=tb).astype(np.float64) * scale
