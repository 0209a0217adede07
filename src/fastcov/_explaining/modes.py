"""The modes of the atoms, G = U Σ Vᵀ: all of them, or the first, with Krylov spaces for the rest.

Both apply functions of GᵀG to a vector, f(GᵀG) b = V f(Σ²) Vᵀ b + f(0) (b − V Vᵀ b), with f(t) = 1/(t + λ)
for filters and f(t) = 1/√(t + λ) for whitening. Everything is in float64 and in the scaled units of a
Problem.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from .._compute import blas
from .._compute.progress import Progress
from .._inputs.validation import require_memory
from .._model.packed import pack, unpack
from .._model.products import apply_adjoint, apply_atoms, apply_gram
from .._solvers import SOLVERS, Options, System

Array = NDArray[np.float64]

# A Krylov space is large enough if (GᵀG + λI) x = b is solved to this residual, relative to b.
KRYLOV_TOL = 1e-13
# It has at most this many vectors for each known mode, or this many altogether, whichever is more.
KRYLOV_A_MODE, KRYLOV_LEAST = 6, 200
# If the rank is less than the number of Lanczos vectors, eigsh draws more at random. Since SciPy 1.17 it
# takes a generator for them.
SEEDED = "rng" in inspect.signature(eigsh).parameters
EPSILON = float(np.finfo(np.float64).eps)
# Lanczos vectors held for each mode. With fewer, Lanczos restarts more often; with more, it goes further than
# needed.
LANCZOS_A_MODE = 2
# Eigenvalues that differ by less than this fraction count as one multiple eigenvalue.
TIED = 1e-10
# Products with GᵀG expected for each mode, to estimate progress.
PRODUCTS_A_MODE = 5


@dataclasses.dataclass(frozen=True)
class Parts:
    """A vector b (N,) = Σ_k w_k v_k + outside, with eigenvectors v_k of GᵀG, or Ritz vectors that suit b."""

    values: Array  # σ² of each v_k
    weights: Array  # w
    expand: Callable[[Array], Array]  # Σ_k w_k v_k for any weights
    outside: Array | None  # the part of b that GᵀG maps to zero
    left: float = 0.0  # ‖b − (GᵀG + λI) x‖ / ‖b‖ for the best x in the Krylov space

    def function(self, f: Callable[[Any], Any]) -> Array:
        """f(GᵀG) b (N,)."""
        out = self.expand(self.weights * f(self.values))
        if self.outside is not None:
            blas.add_scaled(out[np.newaxis], [float(f(0.0))], self.outside[np.newaxis])
        return out


@dataclasses.dataclass(frozen=True)
class Complete:
    """All modes above rounding, from eigenvectors of the smaller of GᵀG and GGᵀ."""

    system: System
    state: Any  # of the spectral solver, from the largest eigenvalue to the smallest

    complete = True
    applications = 0

    @classmethod
    def of(cls, system: System, watch: Callable[[Progress], object]) -> Complete:
        """Compute all modes, in 9n³ flops and 24n² bytes for n = min(N, D(D+1)/2)."""
        state = SOLVERS["spectral"].init(system, Options(watch=watch))
        if not system.diagonal.any():  # if all channels are alike, only rounding is left
            state = dataclasses.replace(state, values=state.values[:0], vectors=state.vectors[:0])
        values, vectors = (np.ascontiguousarray(a[::-1]) for a in (state.values, state.vectors))
        return cls(state.system, dataclasses.replace(state, values=values, vectors=vectors))

    @property
    def values(self) -> Array:
        """σ² (K,), from the largest to the smallest."""
        return self.state.values

    def gain_modes(self, n: int) -> Array:
        """The first n rows of Vᵀ (n, N)."""
        if not self.state.dual:
            return self.state.vectors[:n].copy()
        scaled = self.state.vectors[:n] / np.sqrt(self.values[:n, np.newaxis])
        return apply_adjoint(self.system.problem, unpack(scaled, self.system.problem.shape[1]))

    def covariance_modes(self, n: int) -> Array:
        """The first n columns of U, as symmetric matrices of norm one (n, D, D)."""
        if self.state.dual:
            return unpack(self.state.vectors[:n], self.system.problem.shape[1])
        return _images(self.system, self.state.vectors[:n], self.values[:n])

    def parts(self, b: Array, *, within: bool = False) -> Parts:
        """The parts of b (N,), which is in the range of Gᵀ if `within`."""
        weights = self._weights(b)
        outside = None if within else b - self._expand(weights)
        return Parts(self.values, weights, self._expand, outside)

    def _weights(self, b: Array) -> Array:
        """Vᵀ b (K,)."""
        if not self.state.dual:
            return _times(self.state.vectors, b)
        image = pack(apply_atoms(self.system.problem, b[np.newaxis]))[0]
        return _times(self.state.vectors, image) / np.sqrt(self.values)

    def _expand(self, weights: Array) -> Array:
        """V w (N,)."""
        if not self.state.dual:
            return _combined(weights, self.state.vectors)
        packed = _combined(weights / np.sqrt(self.values), self.state.vectors)[np.newaxis]
        return apply_adjoint(self.system.problem, unpack(packed, self.system.problem.shape[1]))[0]


@dataclasses.dataclass
class Truncated:
    """The first K modes, by Lanczos, and a Krylov space for the rest of each vector."""

    system: System
    values: Array  # σ² (K,), from the largest to the smallest
    vectors: Array  # Vᵀ (K, N)
    applications: int  # number of products with GᵀG so far
    complete: bool  # whether fewer modes are above rounding than were requested

    @classmethod
    def of(cls, system: System, k: int, rng: Any, watch: Callable[[Progress], object]) -> Truncated:
        """Compute the first k modes, in about 3 to 5 products with GᵀG for each, and 8N(4k + 2) bytes."""
        N, _ = system.problem.shape
        held = min(N, LANCZOS_A_MODE * k + 1)
        require_memory(8 * N * (held + k), f"{k} modes of {N} channels", "ask for fewer modes")
        top, applications = float(system.diagonal.max()), 0

        def multiply(v: Array) -> Array:
            nonlocal applications
            applications += 1
            watch(Progress("modes", min(0.99, applications / (PRODUCTS_A_MODE * k))))
            return apply_gram(system.problem, np.ascontiguousarray(v).reshape(1, N))[0] / top

        operator = LinearOperator((N, N), matvec=multiply, dtype=np.float64)
        random = np.random.default_rng(rng)
        start = random.standard_normal(N) * (system.diagonal > 0)
        more = {"rng": random} if SEEDED else {}
        while True:
            try:
                values, vectors = eigsh(operator, k=k, v0=start, ncv=held, **more)
                break
            except ArpackError:  # many equal eigenvalues: with more vectors, Lanczos converges
                if held == N:
                    raise ValueError(
                        f"Argument 'modes' must be another number, or that of all modes, not {k}: Lanczos "
                        "does not find so many here, where some have the same size."
                    ) from None
                held = min(N, 2 * held)
                require_memory(8 * N * (held + k), f"{k} modes of {N} channels", "ask for fewer modes")
        rows = np.ascontiguousarray(vectors.T)
        while _tied(values):  # Lanczos finds equal eigenvalues only by rounding: some may be missing
            require_memory(8 * N * (held + 2 * k), f"{k} modes of {N} channels", "ask for fewer modes")

            def beside(v: Array, known: Array = rows) -> Array:
                v = np.ascontiguousarray(v).ravel()
                v = v - _combined(_times(known, v), known)
                v = multiply(v)
                return v - _combined(_times(known, v), known)

            begin = random.standard_normal(N) * (system.diagonal > 0)
            begin -= _combined(_times(rows, begin), rows)
            operator = LinearOperator((N, N), matvec=beside, dtype=np.float64)
            try:
                others, found_beside = eigsh(operator, k=k, v0=begin, ncv=held, **more)
            except ArpackError:  # almost nothing is left beside the known modes
                break
            if not others.max() > values.min() * (1.0 + TIED):
                break
            values, rows = np.concatenate([values, others]), np.concatenate([rows, found_beside.T])
            largest = np.argsort(values)[::-1][:k]
            values, rows = values[largest], np.ascontiguousarray(rows[largest])
        counts = values > N * EPSILON * values.max()  # beyond the rank, modes are only rounding
        order = np.argsort(values)[::-1][: counts.sum()]
        found = top * values[order], np.ascontiguousarray(rows[order])
        return cls(system, *found, applications, complete=len(order) < k)

    def gain_modes(self, n: int) -> Array:
        """The first n rows of Vᵀ (n, N)."""
        return self.vectors[:n].copy()

    def covariance_modes(self, n: int) -> Array:
        """The first n columns of U, as symmetric matrices of norm one (n, D, D)."""
        return _images(self.system, self.vectors[:n], self.values[:n])

    def parts(self, b: Array, *, within: bool = False) -> Parts:
        """The parts of b (N,) in the modes, and in the Krylov space of the rest of b."""
        size, weights = float(blas.norm(b)), _times(self.vectors, b)
        space = self._krylov(b - _combined(weights, self.vectors), KRYLOV_TOL * size)
        return Parts(
            values=np.concatenate([self.values, space.values]),
            weights=np.concatenate([weights, space.weights]),
            expand=functools.partial(_expanded, self.vectors, space),
            outside=None,
            left=space.left / size if size > 0 else 0.0,
        )

    def _krylov(self, c: Array, enough: float) -> _Space:
        """The Krylov space of c, GᵀG c, (GᵀG)² c, … that solves (GᵀG + λI) x = c to a residual of `enough`.

        Every vector is orthogonalised twice, against the modes and the vectors before it. This keeps Lanczos
        free of the copies of converged vectors that rounding would bring.
        """
        N, ridge = len(c), self.system.ridge
        size = float(blas.norm(c))
        most = min(N - len(self.values), max(KRYLOV_A_MODE * len(self.values), KRYLOV_LEAST))
        require_memory(8 * N * most, f"A Krylov space of {N} channels", "ask for fewer modes")
        basis = np.empty((most, N))
        diagonal, beside = np.empty(most), np.empty(most)
        m, left, pivot = 0, size, 1.0  # pivot: of the LDLᵀ factorisation of the tridiagonal matrix
        while m < most and left > enough:
            basis[m] = c / (beside[m - 1] if m else size)
            c = apply_gram(self.system.problem, basis[m : m + 1])[0]
            self.applications += 1
            diagonal[m] = blas.dot(c, basis[m])
            for _ in range(2):
                c -= _combined(_times(self.vectors, c), self.vectors)
                c -= _combined(_times(basis[: m + 1], c), basis[: m + 1])
            beside[m] = blas.norm(c)
            pivot = diagonal[m] + ridge - (beside[m - 1] ** 2 / pivot if m else 0.0)
            left *= beside[m] / pivot
            m += 1
        if m == 0:
            return _Space(np.empty(0), np.empty(0), np.empty((0, 0)), basis[:0], left)
        values, ritz = eigh_tridiagonal(diagonal[:m], beside[: m - 1])
        return _Space(np.maximum(values, 0.0), size * ritz[0], ritz, basis[:m], left)


@dataclasses.dataclass(frozen=True)
class _Space:
    values: Array  # Ritz values (m,)
    weights: Array  # of the Ritz vectors in c
    ritz: Array  # eigenvectors of the tridiagonal matrix, one in each column (m, m)
    basis: Array  # (m, N)
    left: float  # ‖c − (GᵀG + λI) x‖


def _tied(values: Array) -> bool:
    """Whether two eigenvalues above rounding are equal."""
    above = np.sort(values[values > len(values) * EPSILON * values.max()])
    return bool((np.diff(above) <= TIED * above[1:]).any())


def _expanded(vectors: Array, space: _Space, weights: Array) -> Array:
    """Σ w_k v_k over modes, then over Ritz vectors."""
    K = len(vectors)
    return _combined(weights[:K], vectors) + _combined(_times(space.ritz, weights[K:]), space.basis)


def _times(rows: Array, b: Array) -> Array:
    """Inner products of b with each row."""
    return blas.product(b[np.newaxis], rows, tb=True)[0]


def _combined(weights: Array, rows: Array) -> Array:
    """The weighted sum of rows."""
    return blas.product(np.ascontiguousarray(weights)[np.newaxis], rows)[0]


def _images(system: System, vectors: Array, values: Array) -> Array:
    """u = G v / σ as matrices. They are normalised, because rounding of the smallest σ changes the norm."""
    images = apply_atoms(system.problem, vectors) / np.sqrt(values)[:, np.newaxis, np.newaxis]
    return images / np.linalg.norm(images, axis=(1, 2), keepdims=True)
