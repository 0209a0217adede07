"""What the covariance depends on where groups of channels share a gain: sums over each group, from one pass.

With c the mean over channels at gains of one, x̂_i = x_i − c, and for each group a of n_a channels

    K_a = Σ x̂_i x̂_iᵀ,    μ_a = (1/N) Σ x̂_i        (sums over the channels of the group)

the covariance at gains g of the groups is C(g) = F(g, g), where F is bilinear and symmetric. With
z̄_g = Σ n_a g_a / N and w_g = Σ g_a μ_a,

    F(g, h) = Σ g_a h_a K_a − (N/2) (w_g w_hᵀ + w_h w_gᵀ) + q cᵀ + c qᵀ + v ccᵀ
    q = (N/2) Σ (2 g_a h_a − g_a z̄_h − h_a z̄_g) μ_a,      v = Σ n_a (g_a − z̄_g)(h_a − z̄_h)

Without a mean to remove, F(g, h) = Σ g_a h_a K_a alone. The mean is subtracted before anything is multiplied:
sums of x_i x_iᵀ would lose the digits that c takes. The atom of group a at g is 2 F(g, e_a), the sum of those
of its channels. So no pass over X is needed after the first: K takes A D(D+1)/2 numbers, and a product with
the atoms, or with the Hessian of the exact loss, some 2AD² flops.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas, pair_kernels
from .._compute.jit import blas_for
from .._inputs.validation import available_memory
from . import metric_atoms
from .explicit_atoms import ExplicitAtoms
from .groups import Groups
from .packed import pack, unpack
from .problem import BLOCK_BYTES, Problem, n_pairs

Array = NDArray[np.float64]

# Arrays of the size of K that a fit holds: K, the atoms, and what is made of either.
COPIES = 3


@dataclasses.dataclass(frozen=True, eq=False)
class GroupForms:
    """The sums of each group, in the scaled units of a problem at gains of one."""

    groups: Groups
    problem: Problem  # at gains of one, in float64
    K: Array  # packed (A, P)
    means: Array  # μ_a (A, D); zero if no mean is removed

    @classmethod
    def of(cls, problem: Problem, groups: Groups, budget: float | None = None) -> GroupForms:
        """Make the sums. ND² flops, one pass over X. A MemoryError if they do not fit."""
        (N, D), A = problem.shape, len(groups)
        needed = forms_bytes(A, D)
        room = needed if needed < BLOCK_BYTES else available_memory()
        room = room if budget is None else min(room, budget)
        if needed > room:
            raise MemoryError(
                f"The sums of {A} groups over the {n_pairs(D)} pairs of {D} conditions take "
                f"{needed / 1e9:.3g} GB, and {room / 1e9:.3g} GB are available: use fewer groups."
            )
        problem = problem.astype(np.float64)
        nbytes = int(8 * A * (n_pairs(D) + D))
        K, means = problem.rows.map_sum(_sums, problem, groups.places, A, each=1, nbytes=nbytes)
        return cls(groups, problem, K, means / N if problem.center else np.zeros_like(means))

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def n_conditions(self) -> int:
        return self.problem.shape[1]

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Groups of silent channels alone (A,)."""
        return self.groups.all_of(self.problem.sizes == 0)

    @functools.cached_property
    def atoms(self) -> ExplicitAtoms:
        """The atoms at gains of one, or their images under the metric."""
        rows = np.empty_like(self.K)
        for some in self.blocks():
            rows[some] = self.slopes(np.ones(len(self)), some)
        rows[self.dead] = 0.0
        return ExplicitAtoms.of_rows(rows, self.n_conditions)

    def blocks(self) -> Iterator[slice]:
        """Groups, as many at a time as stay in the caches."""
        step = max(1, BLOCK_BYTES // (8 * self.K.shape[1]))
        for first in range(0, len(self), step):
            yield slice(first, min(first + step, len(self)))

    # --- the bilinear form, without the metric

    def mixed(self, g: Array, h: Array) -> Array:
        """F(g, h) (D, D). AD² flops."""
        out = unpack(blas.product((g * h)[np.newaxis], self.K), self.n_conditions)[0]
        if self.problem.center:
            (zg, wg), (zh, wh), n, c = self._moments(g), self._moments(h), self.groups.counts, self._c
            q = self._combined(2.0 * g * h - g * zh - h * zg) * (self._N / 2.0)
            v = float((n * (g - zg) * (h - zh)).sum())
            half = np.outer(q + 0.5 * v * c, c) - (self._N / 2.0) * np.outer(wg, wh)
            out += half + half.T
        return out

    def inner(self, g: Array, M: Array) -> Array:
        """⟨F(g, e_a), M⟩ for each group (A,), and a symmetric M. AD² flops."""
        return g * self.with_sums(M) + self._rest(g, M)

    def with_sums(self, M: Array) -> Array:
        """⟨K_a, M⟩ for each group (A,)."""
        return blas.product(pack(M[np.newaxis]), self.K, tb=True)[0]

    def inner_known(self, g: Array, M: Array, with_sums: Array) -> Array:
        """`inner`, given `with_sums` of M."""
        return g * with_sums + self._rest(g, M)

    def _rest(self, g: Array, M: Array) -> Array:
        """The part of `inner` that is not of K."""
        if not self.problem.center:
            return np.zeros(len(g))
        (z, w), n, c, N = self._moments(g), self.groups.counts, self._c, self._N
        Mc, Mw = (blas.product(x[np.newaxis], M)[0] for x in (c, w))
        on_c, on_w = (blas.product(x[np.newaxis], self.means, tb=True)[0] for x in (Mc, Mw))
        out = N * (2.0 * g - z) * on_c - N * on_w - n * float((w * Mc).sum())
        out += n * (g - z) * float((c * Mc).sum())
        return np.asarray(out)

    def second(self, M: Array, with_sums: Array) -> Array:
        """⟨F(e_a, e_a), M⟩ for each group (A,), given `with_sums` of M. 2AD² flops."""
        if not self.problem.center:
            return with_sums.copy()
        c, N, free = self._c, self._N, 1.0 - self._shares
        Mc = blas.product(c[np.newaxis], M)[0]
        out = with_sums - N * (blas.product(self.means, M) * self.means).sum(axis=1)
        out += 2.0 * N * free * blas.product(self.means, Mc[:, np.newaxis])[:, 0]
        out += self.groups.counts * free * float((c * Mc).sum())
        return np.asarray(out)

    # --- rows of packed matrices, or their images under the metric

    def slopes(self, g: Array, some: slice) -> Array:
        """The atoms 2 F(g, e_a) of some groups (n, P), as images. 5nD² flops."""
        out = 2.0 * g[some, np.newaxis] * self.K[some]
        if self.problem.center:
            (z, w), n, c, N = self._moments(g), self.groups.counts[some], self._c, self._N
            sides = N * (np.outer(2.0 * g[some] - z, c) - w)
            out += _symmetric(self.means[some], sides)
            out += np.outer(2.0 * n * (g[some] - z), 0.5 * _symmetric(c[np.newaxis], c[np.newaxis]))
            out -= np.outer(n, _symmetric(w[np.newaxis], c[np.newaxis]))
        return self._images(out)

    def curves(self, some: slice) -> Array:
        """F(e_a, e_a) of some groups (n, P), as images: C(g + t e_a) has it times t²."""
        out = self.K[some].copy()
        if self.problem.center:
            n, c, N, free = self.groups.counts[some], self._c, self._N, (1.0 - self._shares)[some]
            means = self.means[some]
            sides = N * (np.outer(free, c) - 0.5 * means)
            out += _symmetric(means, sides)
            out += np.outer(n * free, 0.5 * _symmetric(c[np.newaxis], c[np.newaxis]))
        return self._images(out)

    def _images(self, rows: Array) -> Array:
        return rows if self._maker is None else np.asarray(self._maker.project(rows))

    @functools.cached_property
    def _maker(self) -> metric_atoms.Images | None:
        metric = self.problem.metric
        return None if metric is None else metric_atoms.Images(metric, np.dtype(np.float64))

    # --- numbers of all groups

    @property
    def _N(self) -> float:
        return float(len(self.groups.places))

    @property
    def _c(self) -> Array:
        return self.problem.mean

    @functools.cached_property
    def _shares(self) -> Array:
        """n_a / N."""
        return self.groups.counts / self._N

    def _moments(self, g: Array) -> tuple[float, Array]:
        """z̄ and w."""
        return float((self._shares * g).sum()), self._combined(g)

    def _combined(self, g: Array) -> Array:
        """Σ g_a μ_a (D,)."""
        return blas.product(g[np.newaxis], self.means)[0]


def forms_bytes(A: int, D: int) -> float:
    """Bytes that the sums of A groups take, with what is made of them."""
    return 8.0 * COPIES * A * n_pairs(D)


def _symmetric(X: Array, Y: Array) -> Array:
    """x_i y_iᵀ + y_i x_iᵀ for each pair of rows, packed (n, P)."""
    out = np.empty((len(X), n_pairs(X.shape[1])))
    with blas_for(0):
        pair_kernels.pair_atoms(np.ascontiguousarray(X), np.ascontiguousarray(Y), out, size=out.size)
    return out


def _sums(problem: Problem, places: NDArray[np.intp], A: int) -> tuple[Array, Array]:
    """Σ x̂_i x̂_iᵀ, packed (A, P), and Σ x̂_i (A, D), over the channels of each group."""
    D = problem.shape[1]
    K, sums = np.zeros((A, n_pairs(D))), np.zeros((A, D))
    together = max(1, BLOCK_BYTES // (8 * D * D))
    with blas_for(0):
        for channels, part in _parts(problem, places):
            own = places[channels]
            order = np.argsort(own, kind="stable")
            X = np.ascontiguousarray(part.centred()[order])
            there, starts = np.unique(own[order], return_index=True)
            ends = [*starts[1:].tolist(), len(own)]
            sums[there] += np.add.reduceat(X, starts, axis=0)
            for first in range(0, len(there), together):
                some = slice(first, first + together)
                stack = np.empty((len(there[some]), D, D))
                for out, start, end in zip(stack, starts[some], ends[some], strict=True):
                    blas.self_product(X[start:end], transpose=True, out=out)
                K[there[some]] += pack(np.swapaxes(stack, 1, 2))
    return K, sums


def _parts(problem: Problem, places: NDArray[np.intp]) -> Iterator[tuple[Any, Problem]]:
    """Channels and the problem of these, some at a time; in memory one group after another."""
    if not problem.rows.in_memory:
        yield from problem.parts()
        return
    order, step = np.argsort(places, kind="stable"), problem.block_rows
    for first in range(0, len(order), step):
        channels = order[first : first + step]
        yield channels, problem.take(channels)
