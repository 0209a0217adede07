"""Conjugate gradients on GᵀG + P for channels on a cluster: all that is iterated on is D × D.

With δ = Gᵀ u, (GᵀG + λI) δ = Gᵀ e is solved where (GGᵀ + λI) u = e is, for symmetric matrices u over
conditions. The iterations are those of `pcg`, with its preconditioner, (F Fᵀ + λI)⁻¹ for F = Gᵀ Q, where
Q = G_I L⁻ᵀ has orthonormal columns: residual, direction and solution are each Gᵀ of a matrix, so that no
vector over channels is sent, or needed from one iteration to the next. One takes two maps over the chunks:

    r = Gᵀ ρ, giving Fᵀ r and ‖r‖²;     z = (r − F w) / λ with w = (FᵀF + λI)⁻¹ Fᵀ r, giving G z

Then ζ = (ρ − Q w) / λ has z = Gᵀ ζ, and for p = Gᵀ π and p' = Gᵀ π' the curvature pᵀ(GᵀG + λI)p' is
⟨G p, G p'⟩ + λ ⟨π, G p'⟩: directions are made conjugate here, to more than the last. Each chunk keeps its F,
and its r until z is made of it; what is lost with a worker is made again.

A part of ρ outside the range of G, which Gᵀ does not see, would drown ⟨π, G p⟩ in rounding. So the first
step is the preconditioner's own, u = ζ: it leaves ρ = Q w − G z, which is inside, as is all that follows.

With scales s of the channels (see `System`) all of this is of G diag(s), and δ = diag(s)² Gᵀ u.
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

from .. import _blas
from .._chunked import Chunked, Everywhere, Resident
from .._problem import Problem
from .._products import apply_adjoint, apply_atoms
from ._nystrom import Pivots, choose_pivots, factor_blocks, scaled_product
from ._refinement import refine
from ._solution import Options, Progress, Solution, System

Array = NDArray[np.float64]

# As in `pcg`: the residual is computed anew once so much of it has gone, or after so many iterations; and one
# that is not this much below the last says that rounding has the upper hand.
RENEWED, PATIENCE, STAGNANT = 1e-4, 50, 0.5
# Share of the memory that workers have free that the factors of their chunks may take.
FACTOR_SHARE = 0.5
# Directions that each new one is made conjugate to, which takes some D² flops each. Gᵀ ρ in float32 is not
# quite the residual, so that the two terms of `pcg` do not keep them conjugate: at (2000, 30) and a relative
# ridge of 1e-4 it took 276 iterations with these, and 52 with as many as there are. `pcg` takes 53.
DIRECTIONS, DIRECTION_BYTES = 50, 1 << 28
EPSILON = float(np.finfo(np.float64).eps)


@dataclasses.dataclass(frozen=True, eq=False)
class Basis:
    """Pivots that F is made from, wherever that is; and the name under which a chunk keeps it."""

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
                _blas.add_self_product(inner, block)
                F[:, rows] = block.T
            kept["factor"] = self.token, F, inner
        _, *factor = kept["factor"]
        return factor[0], factor[1]


def _times(V: Array, scales: Array | None) -> Array:
    return V if scales is None else V * scales


def _factor_products(problem: Problem, kept: dict[str, Any], scales: Array | None, basis: Basis) -> Array:
    """The lower triangle of FᵀF (k, k). N (2Dk + 2k²) flops."""
    return basis.factor(problem, kept, scales)[1]


def _residual(problem: Problem, kept: dict[str, Any], scales: Array | None, rho: Array, token: str) -> Array:
    """Gᵀ ρ (T, n), kept until another is asked for."""
    if kept.get("residual", [""])[0] != token:
        kept["residual"] = token, apply_adjoint(problem, rho)
    r: Array = kept["residual"][1]
    return r


def _reduced(
    problem: Problem, kept: dict[str, Any], scales: Array | None, basis: Basis, rho: Array, token: str
) -> tuple[Array, Array]:
    """‖r‖² (T,) and Fᵀ S r (T, k). 2nD² + 2nk flops for each target."""
    r = _residual(problem, kept, scales, rho, token)
    F, _ = basis.factor(problem, kept, scales)
    return _blas.dots(r, r), scaled_product(_times(r, scales), F, tb=True)


def _corrected(
    problem: Problem, kept: dict[str, Any], scales: Array | None, basis: Basis, rho: Array, token: str,
    w: Array, ridge: float,
) -> Array:  # fmt: skip
    """G S z (T, D, D) for z = (S r − F w) / λ. 2nD² + 2nk flops for each target."""
    r = _times(_residual(problem, kept, scales, rho, token), scales)
    kept.pop("residual")
    F, _ = basis.factor(problem, kept, scales)
    z = scaled_product(w, F)
    np.subtract(r, z, out=z)
    z /= ridge
    return apply_atoms(problem, _times(z, scales))


def _squared(problem: Problem, scales: Array | None, u: Array) -> Array:
    """G S² Gᵀ u (T, D, D). 4nD² flops for each target."""
    return apply_atoms(problem, _times(_times(apply_adjoint(problem, u), scales), scales))


class Directions:
    """Directions p = Gᵀ π so far, each conjugate to those before it, with G S p and curvatures."""

    def __init__(self, ridge: float) -> None:
        self._ridge = ridge
        self._known: list[tuple[Array, Array, Array]] = []

    def add(self, pi: Array, slope: Array) -> tuple[Array, Array, Array]:
        """π, G S p and the curvature ‖G S p‖² + λ ⟨π, G S p⟩, made conjugate to those known."""
        for known, image, curvature in self._known:
            share = _matrix((_inner(image, slope) + self._ridge * _inner(known, slope)) / curvature)
            pi, slope = pi - share * known, slope - share * image
        curvature = _inner(slope, slope) + self._ridge * _inner(pi, slope)
        self._known.append((pi, slope, curvature))
        most = max(1, DIRECTION_BYTES // (pi.nbytes + slope.nbytes))
        del self._known[: -min(most, DIRECTIONS)]
        return self._known[-1]

    def along(self, u: Array, rho: Array) -> tuple[Array, Array]:
        """u and ρ after the best step along each once more: none that is conjugate to them all does that."""
        for pi, slope, curvature in self._known:
            step = _matrix(_inner(rho, slope) / curvature)
            u, rho = u + step * pi, rho - step * (slope + self._ridge * pi)
        return u, rho

    def keep(self, going: NDArray[np.bool_]) -> None:
        """Those of some targets."""
        self._known = [tuple(a[going] for a in known) for known in self._known]  # type: ignore[misc]


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """The system, in the precision of the iterations too, with (FᵀF + λI)⁻¹ and what F is made from."""

    system: System
    problem: Problem  # in the precision of the iterations
    basis: Basis
    core: Array  # (k, k)
    options: Options

    @property
    def _X(self) -> Chunked:
        assert isinstance(self.problem.X, Chunked)
        return self.problem.X

    @functools.cached_property
    def _exact(self) -> Problem:
        return self.system.problem.astype(np.float64)

    @functools.cached_property
    def _scales(self) -> Resident | None:
        return None if self.system.scales is None else Resident(self.system.scales)

    def solve(self, rhs: Array) -> Solution:
        """For the rows of `rhs` (T, N), whatever they are: δ = S² (b − Gᵀ u) / λ, refined."""
        system, statuses, stats = self.system, ["converged"], {"iterations": 0}

        def approximate(b: Array) -> Array:
            part = system.scaled(system.scaled(b))
            errors = apply_atoms(self._exact, part)
            u, status, found = self._iterated(errors, _blas.norms(apply_adjoint(self._exact, errors)))
            statuses.append(status)
            stats["iterations"] += found["iterations"]
            correction = system.scaled(system.scaled(apply_adjoint(self._exact, u)))
            return np.asarray((part - correction) / system.ridge)

        exact = system.astype(np.float64)
        value, steps, _ = refine(exact.product, rhs, approximate)
        return Solution(value, statuses[-1], {**stats, "refinements": steps})

    def solve_errors(self, errors: Array, overlaps: Array) -> Solution:
        """For the overlaps Gᵀ e (T, N) of matrices e (T, D, D)."""
        u, status, stats = self._iterated(errors, _blas.norms(overlaps))
        value = self.system.scaled(self.system.scaled(apply_adjoint(self._exact, u)))
        return Solution(value, status, stats)

    def _iterated(self, errors: Array, scale: Array) -> tuple[Array, str, dict[str, Any]]:
        """u (T, D, D) with (G S² Gᵀ + λI) u = e as far as Gᵀ sees it, how it ended, and what it took.

        `scale` (T,) is ‖Gᵀ e‖.
        """
        options, ridge, problem = self.options, self.system.ridge, self.problem
        tol, value = options.tol, np.zeros_like(errors)
        rows = np.flatnonzero(scale)  # of `errors`, that the arrays below belong to
        e = errors[rows] / _matrix(scale[rows])
        u, rho, true = np.zeros_like(e), e, np.ones(len(rows))
        directions = Directions(ridge)
        iteration, renewals, since, done, status = 0, 0, 0, 0.0, "converged"
        while len(rows):
            shrunk, size, token = self._look(problem, rho)
            if iteration:
                done = max(done, math.log(max(float(size.max()), tol)) / math.log(tol))
                options.watch(Progress("iteration", done, iteration, float(size.max())))
            last = iteration == options.max_iterations
            claimed = size <= np.maximum(tol, RENEWED * true)
            if iteration and (claimed.any() or since >= PATIENCE or last):
                image = self._X.total(_squared, self._exact, self._scales, u, each=1)
                rounding = self._rounding(u, image)
                u, rho = directions.along(u, e - image - ridge * u)
                shrunk, left, token = self._look(self._exact, rho)
                renewals, since = renewals + 1, 0
                better = left < true
                value[rows[better]] = u[better]
                stagnant = claimed & (left > STAGNANT * true) & (left > tol)
                ended = left <= np.maximum(tol, rounding)
                if stagnant.any() and problem.dtype == np.float64:
                    status, ended = "stagnated", ended | stagnant
                elif stagnant.any():
                    problem, directions = self._exact, Directions(ridge)
                if last and not ended.all():
                    status = "max-iterations"
                    break
                true, going = np.minimum(left, true), ~ended
                rows, true = rows[going], true[going]
                e, u, rho = (matrices[going] for matrices in (e, u, rho))
                directions.keep(going)
                if not len(rows):
                    break
                if ended.any():
                    shrunk, _, token = self._look(self._exact, rho)
            w = _blas.product(shrunk, self.core)
            image = self._X.total(
                _corrected, problem, self._scales, Everywhere(self.basis), rho, token, w, ridge,
                each=1, kept=True,
            )  # fmt: skip
            inside = self._expand(w)
            zeta = (rho - inside) / ridge
            iteration, since = iteration + 1, since + 1
            if iteration == 1:
                u, rho = zeta, inside - image
                continue
            pi, slope, curvature = directions.add(zeta, image)
            if not np.all(curvature > 0):  # NaN as well
                if problem.dtype == np.float64:
                    status = "breakdown"
                    break
                problem, directions = self._exact, Directions(ridge)
                continue
            step = _matrix(_inner(rho, slope) / curvature)
            u = u + step * pi
            rho = rho - step * (slope + ridge * pi)
        stats = {
            "iterations": iteration,
            "renewals": renewals,
            "rank": len(self.core),
            "preconditioner": "kept",
            "products": str(problem.dtype),
        }
        return value * _matrix(scale), status, stats

    def _rounding(self, u: Array, image: Array) -> Array:
        """Norm of a residual that rounding of the product with δ explains (T,)."""
        length = np.sqrt(np.maximum(_inner(u, image), 0.0))  # of S Gᵀ u
        largest = math.sqrt(self.system.ridge * self.system.penalty.largest)
        return EPSILON * length * (float(self.system.diagonal.sum()) + largest)

    def _look(self, problem: Problem, rho: Array) -> tuple[Array, Array, str]:
        """Fᵀ S Gᵀ ρ, ‖Gᵀ ρ‖, and the name under which chunks keep Gᵀ ρ."""
        token = uuid.uuid4().hex
        squares, shrunk = self._X.total(
            _reduced, problem, self._scales, Everywhere(self.basis), rho, token, each=1, kept=True
        )
        return shrunk, np.sqrt(squares), token

    def _expand(self, w: Array) -> Array:
        """Q w (T, D, D)."""
        pivots = self.basis.pivots
        if not len(self.core):
            D = self.problem.shape[1]
            return np.zeros((len(w), D, D))
        weights = solve_triangular(pivots.lower, w.T, lower=True, trans=1).T
        if self.basis.scales is not None:
            weights = weights * self.basis.scales
        return apply_atoms(pivots.problem, np.ascontiguousarray(weights))


def _matrix(values: Array) -> Array:
    return values[:, np.newaxis, np.newaxis]


def _inner(A: Array, B: Array) -> Array:
    return np.asarray((A * B).sum(axis=(1, 2)))


def init(system: System, options: Options) -> State:
    """Draw pivots here, and make F there: as many as workers have room for."""
    X = system.problem.X
    assert isinstance(X, Chunked)
    problem = system.problem.astype(np.float32 if system.coarse else np.float64)
    asked = problem.shape[0] if options.rank is None else options.rank
    rank = int(min(asked, FACTOR_SHARE * X.room() / problem.dtype.itemsize))
    wanted = dataclasses.replace(options, rank=rank) if options.rank is not None else options
    pivots = choose_pivots(system, wanted).first(rank)
    scales = None if system.scales is None else system.scales[pivots.channels]
    basis = Basis(pivots, scales)
    resident = None if system.scales is None else Resident(system.scales)
    k = len(pivots.channels)
    core = np.zeros((k, k))
    if k:
        options.watch(Progress("precondition", 0.0))
        inner = X.total(_factor_products, problem, resident, Everywhere(basis), each=1, kept=True)
        inner.flat[:: k + 1] += system.ridge
        if _blas.cholesky(inner):
            raise np.linalg.LinAlgError("The preconditioner is not positive definite.")
        core = _blas.cholesky_solve(inner, np.eye(k))
        options.watch(Progress("precondition", 1.0))
    return State(system, problem, basis, core, options)
