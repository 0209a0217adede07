"""Conjugate gradients on GᵀG + P for channels on a cluster, which iterate on D × D matrices only.

With δ = Gᵀ u, (GᵀG + λI) δ = Gᵀ e is solved where (GGᵀ + λI) u = e is, for symmetric matrices u over
conditions. The iterations are those of `pcg`, with its preconditioner, (F Fᵀ + λI)⁻¹ for F = Gᵀ Q, where
Q = G_I L⁻ᵀ has orthonormal columns: residual, direction and solution are each Gᵀ of a matrix. So no
vector over channels is sent, or kept between iterations. An iteration takes two maps over the chunks:

    r = Gᵀ ρ, giving Fᵀ r and ‖r‖²;     z = (r − F w) / λ with w = (FᵀF + λI)⁻¹ Fᵀ r, giving G z

Then ζ = (ρ − Q w) / λ has z = Gᵀ ζ, and for p = Gᵀ π and p' = Gᵀ π' the curvature pᵀ(GᵀG + λI)p' is
⟨G p, G p'⟩ + λ ⟨π, G p'⟩: new directions are made conjugate to many earlier ones, in this process. Each
chunk keeps its F, and its r until z is made of it; a new worker makes again what another lost.

Gᵀ does not see the part of ρ outside the range of G, but that part would drown ⟨π, G p⟩ in rounding. So the
first step is the preconditioner's own, u = ζ. It leaves ρ = Q w − G z, which lies in the range, as do all
later ones.

In standard form, with scales s of the channels (see `System`), G stands for G diag(s), and δ = diag(s)² Gᵀ u.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import uuid
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from .._compute import blas
from .._compute.progress import Progress
from .._model.problem import Problem
from .._model.products import apply_adjoint, apply_atoms
from .._rows.chunked import BroadcastArgument, PerChunkArgument
from .._rows.rows import Rows
from ._nystrom import Pivots, choose_pivots, factor_blocks, scaled_product
from ._refinement import refine
from ._solution import Options, Solution, System

Array = NDArray[np.float64]

# Residual replacement, as in `pcg`: compute the residual anew once it fell by the first factor, or after the
# second number of iterations. If it is not below the third share of the last one, rounding dominates.
REPLACED_AFTER_DROP, REPLACED_EVERY, STAGNANT = 1e-4, 50, 0.5
# ‖z‖² equals ⟨ζ, G z⟩ if F is Gᵀ Q. In float32, and with an offset, F may be far from it. Where the two
# differ by more than this share, z is made from ζ in place of F, for half as many flops again.
CONSISTENT = 1e-2
# Share of the free memory of workers that the factors of their chunks may take.
FACTOR_SHARE = 0.5
# Number of directions that a new one is made conjugate to, for some D² flops each. Gᵀ ρ in float32 is not
# quite the residual, so the two-term recurrence of `pcg` does not keep directions conjugate: at (2000, 30)
# and a relative ridge of 1e-4 it took 276 iterations, against 52 with all directions. `pcg` takes 53.
DIRECTIONS, DIRECTION_BYTES = 50, 1 << 28
EPSILON = float(np.finfo(np.float64).eps)


@dataclasses.dataclass(frozen=True, eq=False)
class Basis:
    """The pivots that F is made from, on any worker, and the name under which a chunk keeps F."""

    pivots: Pivots
    scales: Array | None  # of the pivots
    token: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    def factor(
        self, problem: Problem, kept: dict[str, Any], scales: Array | None
    ) -> tuple[NDArray[Any], Array]:
        """Fᵀ of a chunk (k, n), in the precision of the problem, and FᵀF (k, k)."""
        if kept.get("factor", [""])[0] != self.token:
            k = len(self.pivots.channels)
            F, inner = np.empty((k, problem.shape[0]), problem.dtype), np.zeros((k, k))
            for rows, block in factor_blocks(problem, self.pivots, scales, self.scales) if k else ():
                blas.add_self_product(inner, block)
                F[:, rows] = block.T
            kept["factor"] = self.token, F, inner
        _, *factor = kept["factor"]
        return factor[0], factor[1]


def _times(V: Array, scales: Array | None) -> Array:
    return V if scales is None else V * scales


def _factor_products(problem: Problem, kept: dict[str, Any], scales: Array | None, basis: Basis) -> Array:
    """The lower triangle of FᵀF (k, k). N (2Dk + 2k²) flops."""
    return basis.factor(problem, kept, scales)[1]


def _residual(problem: Problem, kept: dict[str, Any], rho: Array, token: str) -> Array:
    """Gᵀ ρ (T, n), which the chunk keeps until the next one."""
    known, r = kept.get("residual", ("", None))
    if known != token:
        r = apply_adjoint(problem, rho)
        kept["residual"] = token, r
    return np.asarray(r)


def _reduced(
    problem: Problem, kept: dict[str, Any], scales: Array | None, basis: Basis, rho: Array, token: str
) -> tuple[Array, Array]:
    """‖r‖² (T,) and Fᵀ S r (T, k). 2nD² + 2nk flops for each target."""
    r = _residual(problem, kept, rho, token)
    F, _ = basis.factor(problem, kept, scales)
    return blas.dots(r, r), scaled_product(_times(r, scales), F, tb=True)


def _corrected(
    problem: Problem, kept: dict[str, Any], scales: Array | None, basis: Basis, rho: Array, token: str,
    w: Array, ridge: float,
) -> tuple[Array, Array]:  # fmt: skip
    """G S z (T, D, D) and ‖z‖² (T,) for z = (S r − F w) / λ. 2nD² + 2nk flops for each target."""
    r = _times(_residual(problem, kept, rho, token), scales)
    F, _ = basis.factor(problem, kept, scales)
    z = scaled_product(w, F)
    np.subtract(r, z, out=z)
    z /= ridge
    kept.pop("residual", None)
    return apply_atoms(problem, _times(z, scales)), blas.dots(z, z)


def _squared(problem: Problem, scales: Array | None, u: Array) -> Array:
    """G S² Gᵀ u (T, D, D). 4nD² flops for each target."""
    return apply_atoms(problem, _times(_times(apply_adjoint(problem, u), scales), scales))


class Directions:
    """Directions p = Gᵀ π, each conjugate to those before it, with G S p and ‖G S p‖² + λ ⟨π, G S p⟩."""

    def __init__(self, ridge: float) -> None:
        self._ridge = ridge
        self._known: list[tuple[Array, Array, Array]] = []

    def add(self, pi: Array, slope: Array) -> bool:
        """Add π and G S p, made conjugate to those known. Returns whether every curvature is positive."""
        for known, image, curvature in self._known:
            share = _matrix((_inner(image, slope) + self._ridge * _inner(known, slope)) / curvature)
            pi, slope = pi - share * known, slope - share * image
        curvature = _inner(slope, slope) + self._ridge * _inner(pi, slope)
        self._known.append((pi, slope, curvature))
        most = max(1, DIRECTION_BYTES // (pi.nbytes + slope.nbytes))
        del self._known[: -min(most, DIRECTIONS)]
        return bool(np.all(curvature > 0))  # not NaN

    def along(self, u: Array, rho: Array, *, newest: bool) -> tuple[Array, Array]:
        """u and ρ after the best step along the newest direction, or along each.

        A replaced residual may have a part along any direction; one of the recurrence has none along earlier
        ones.
        """
        for pi, slope, curvature in self._known[-1 if newest else 0 :]:
            step = _matrix(_inner(rho, slope) / curvature)
            u, rho = u + step * pi, rho - step * (slope + self._ridge * pi)
        return u, rho

    def keep(self, going: NDArray[np.bool_]) -> None:
        """Keep only the targets that go on."""
        self._known = [tuple(a[going] for a in known) for known in self._known]  # type: ignore[misc]


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """The system, also in the precision of the iterations, with (FᵀF + λI)⁻¹ and the basis of F."""

    system: System
    problem: Problem  # in the precision of the iterations
    basis: Basis
    core: Array  # (k, k)
    options: Options

    @property
    def _rows(self) -> Rows:
        return self.problem.rows

    @functools.cached_property
    def _exact(self) -> Problem:
        return self.system.problem.astype(np.float64)

    @functools.cached_property
    def _scales(self) -> PerChunkArgument | None:
        return None if self.system.scales is None else PerChunkArgument(self.system.scales)

    def solve(self, rhs: Array) -> Solution:
        """Solve for any rows of `rhs` (T, N), by `_corrections` with iterative refinement."""
        stats: dict[str, Any] = {"iterations": 0}
        statuses: list[str] = []

        def approximate(b: Array) -> Array:
            value, status, found = self._corrections(b)
            statuses.append(status)
            stats["iterations"] += found["iterations"]
            return value

        product = self.system.astype(np.float64).product
        value, steps, left = refine(product, rhs, approximate)
        worst = next((status for status in statuses if status != "converged"), "stagnated")
        status = "converged" if left <= self.options.tol else worst
        return Solution(value, status, {**stats, "refinements": steps})

    def _corrections(self, b: Array) -> tuple[Array, str, dict[str, Any]]:
        """S² (b − Gᵀ u) / λ for the rows of b (T, N), with (G S² Gᵀ + λI) u = G S² b."""
        system, part = self.system, self.system.to_standard_form(self.system.to_standard_form(b))
        errors = apply_atoms(self._exact, part)
        u, status, stats = self._iterated(errors, blas.norms(apply_adjoint(self._exact, errors)))
        return (part - self._gains(u)) / system.ridge, status, stats

    def _gains(self, u: Array) -> Array:
        """S² Gᵀ u (T, N)."""
        return self.system.to_standard_form(self.system.to_standard_form(apply_adjoint(self._exact, u)))

    def solve_errors(self, errors: Array, overlaps: Array) -> Solution:
        """Solve for the overlaps Gᵀ e (T, N) of matrices e (T, D, D)."""
        scale, tol = blas.norms(overlaps), self.options.tol
        u, status, stats = self._iterated(errors, scale)
        value = self._gains(u)
        # u holds the part of e outside the range of G, over λ. Gᵀ removes it, except for its rounding.
        blur = EPSILON * float(self.system.diagonal.sum()) ** 1.5 * np.sqrt(_inner(u, u))
        if np.any(blur > tol * scale):
            left = overlaps - self.system.astype(np.float64).product(value)
            more = np.flatnonzero(blas.norms(left) > tol * scale)
            if len(more):
                value[more] += self._corrections(left[more])[0]
        return Solution(value, status, stats)

    def _levels(self) -> list[tuple[Problem, bool]]:
        """Problems to iterate with, and whether z is made from ζ; each is slower and more robust."""
        last = [] if self.problem.dtype == np.float64 else [(self._exact, True)]
        return [(self.problem, False), (self.problem, True), *last]

    def _iterated(self, errors: Array, scale: Array) -> tuple[Array, str, dict[str, Any]]:
        """Solve (G S² Gᵀ + λI) u = e for u (T, D, D), up to the null space of Gᵀ; with status and stats.

        `scale` (T,) is ‖Gᵀ e‖.
        """
        options, ridge, levels = self.options, self.system.ridge, self._levels()
        tol, value = options.tol, np.zeros_like(errors)
        rows = np.flatnonzero(scale)  # rows of `errors` that the arrays below belong to
        e = errors[rows] / _matrix(scale[rows])
        u, rho, true = np.zeros_like(e), e, np.ones(len(rows))
        directions, claimed, due = Directions(ridge), np.zeros(len(rows), bool), False
        iteration, renewals, since, done, level, status = 0, 0, 0, 0.0, 0, "converged"

        def surer() -> bool:
            """Begin again from the best u so far at the next level, if there is one."""
            nonlocal level, directions, u, due
            level, directions, u, due = level + 1, Directions(ridge), value[rows], True
            return level < len(levels)

        while len(rows):
            problem, sure = levels[level]
            if due:
                image = self._rows.map_sum(_squared, self._exact, self._scales, u, each=1)
                rho, renewals, since = e - image - ridge * u, renewals + 1, 0
            shrunk, size, token = self._look(self._exact if due else problem, rho)
            if iteration and not due:
                done = max(done, math.log(max(float(size.max()), tol)) / math.log(tol))
                options.watch(Progress("iteration", done, iteration, float(size.max())))
                claimed = size <= np.maximum(tol, REPLACED_AFTER_DROP * true)
                if claimed.any() or since >= REPLACED_EVERY or iteration == options.max_iterations:
                    due = True
                    continue
            if due:
                due, better = False, size < true
                value[rows[better]] = u[better]
                stagnant = claimed & (size > STAGNANT * true) & (size > tol)
                ended = size <= np.maximum(tol, self._rounding(u, image))
                if iteration == options.max_iterations and not ended.all():
                    status = "max-iterations"
                    break
                if stagnant.any() and not surer():
                    status = "stagnated"
                    break
                claimed[:], true, going = False, np.minimum(size, true), ~ended
                if due or not going.all():  # ρ of those that go on, or of other u
                    rows, true, claimed = rows[going], true[going], claimed[going]
                    e, u = e[going], u[going]
                    directions.keep(going)
                    due = True
                    continue
            w, inside = self._inside(shrunk)
            zeta = (rho - inside) / ridge
            if sure:
                image = self._rows.map_sum(_squared, problem, self._scales, zeta, each=1)
            else:
                image, squares = self._rows.map_sum(
                    _corrected, problem, self._scales, BroadcastArgument(self.basis), rho, token, w, ridge,
                    each=1, kept=True,
                )  # fmt: skip
                if np.any(np.abs(_inner(zeta, image) - squares) > CONSISTENT * squares) and surer():
                    continue
            iteration, since = iteration + 1, since + 1
            first = _matrix(~u.any(axis=(1, 2)))
            if first.any():
                u, rho = np.where(first, zeta, u), np.where(first, inside - image, rho)
            elif directions.add(zeta, image):
                u, rho = directions.along(u, rho, newest=since > 1)
            elif not surer():
                status = "breakdown"
                break
        stats = {
            "iterations": iteration,
            "renewals": renewals,
            "rank": len(self.core),
            "preconditioner": "kept",
            "products": str(levels[min(level, len(levels) - 1)][0].dtype),
        }
        return value * _matrix(scale), status, stats

    def _rounding(self, u: Array, image: Array) -> Array:
        """Residual norms that rounding of the product with δ explains (T,)."""
        length = np.sqrt(np.maximum(_inner(u, image), 0.0))  # of S Gᵀ u
        largest = math.sqrt(self.system.ridge * self.system.penalty.largest)
        return EPSILON * length * (float(self.system.diagonal.sum()) + largest)

    def _look(self, problem: Problem, rho: Array) -> tuple[Array, Array, str]:
        """Return Fᵀ S Gᵀ ρ, ‖Gᵀ ρ‖, and the name under which chunks keep Gᵀ ρ."""
        token = uuid.uuid4().hex
        squares, shrunk = self._rows.map_sum(
            _reduced, problem, self._scales, BroadcastArgument(self.basis), rho, token, each=1, kept=True
        )
        return shrunk, np.sqrt(squares), token

    def _inside(self, shrunk: Array) -> tuple[Array, Array]:
        """w = (FᵀF + λI)⁻¹ Fᵀ S r (T, k), and Q w (T, D, D)."""
        w, pivots = blas.product(shrunk, self.core), self.basis.pivots
        if not len(self.core):
            D = self.problem.shape[1]
            return w, np.zeros((len(w), D, D))
        weights = solve_triangular(pivots.lower, w.T, lower=True, trans=1).T
        if self.basis.scales is not None:
            weights = weights * self.basis.scales
        return w, apply_atoms(pivots.problem, np.ascontiguousarray(weights))


def _matrix(values: Any) -> Any:
    return values[:, np.newaxis, np.newaxis]


def _inner(A: Array, B: Array) -> Array:
    return np.asarray((A * B).sum(axis=(1, 2)))


def init(system: System, options: Options) -> State:
    """Draw pivots in this process, as many as workers have room for, and make F on the workers."""
    rows = system.problem.rows
    problem = system.problem.astype(np.float32 if system.coarse else np.float64)
    asked = problem.shape[0] if options.rank is None else options.rank
    rank = int(min(asked, FACTOR_SHARE * rows.room() / problem.dtype.itemsize))
    wanted = dataclasses.replace(options, rank=rank) if options.rank is not None else options
    pivots = choose_pivots(system, wanted).first(rank)
    scales = None if system.scales is None else system.scales[pivots.channels]
    basis = Basis(pivots, scales)
    resident = None if system.scales is None else PerChunkArgument(system.scales)
    k = len(pivots.channels)
    core = np.zeros((k, k))
    if k:
        options.watch(Progress("precondition", 0.0))
        inner = rows.map_sum(_factor_products, problem, resident, BroadcastArgument(basis), each=1, kept=True)
        inner.flat[:: k + 1] += system.ridge
        if blas.cholesky(inner):
            raise np.linalg.LinAlgError("The preconditioner is not positive definite.")
        core = blas.cholesky_solve(inner, np.eye(k))
        options.watch(Progress("precondition", 1.0))
    return State(system, problem, basis, core, options)
