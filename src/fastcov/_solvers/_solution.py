"""System, options and solution: what every solver takes and returns."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._compute import blas
from .._compute.progress import Progress, unwatched
from .._model.explicit_atoms import ExplicitAtoms
from .._model.problem import Problem
from .._model.products import apply_gram
from .._model.ridge_penalty import Penalty

Array = NDArray[np.float64]

# With λ at this share of the trace of GᵀG, the rounding of float32 products is some hundred times below λ.
SINGLE = 1e-5
# Rounding leaves a part of b outside the range of Gᵀ, and a factor of GᵀG + λI divides it by λ. With λ at
# this share of the trace, gains are accurate to 1e-6 where GᵀG is singular (200 channels, 6 conditions; 1e-15
# where it is not). Below it, gains may be all wrong while the residual is tiny.
RESOLVED = 1e-10
# Penalty that the preconditioner gives a channel without one, as a share of the trace of GᵀG.
LEAST_WEIGHT = 1e-6
# Channels in the sample that estimates the offset.
SAMPLE = 512


@dataclasses.dataclass(frozen=True)
class System:
    """GᵀG + P in the scaled units of a problem, P = λI or any other penalty, and the diagonal of GᵀG.

    A diagonal P is brought to standard form (Tikhonov): with the scales s_i = √(λ / P_ii), S GᵀG S + λI has a
    ridge again. For any other P, its diagonal takes its place in the preconditioner.
    """

    problem: Problem
    penalty: Penalty
    diagonal: Array

    @functools.cached_property
    def definite(self) -> bool:
        """Whether P has a diagonal inverse, and counts beside GᵀG for all channels or for none."""
        if self.penalty.uniform or not self.penalty.definite:
            return self.penalty.definite
        weights, trace = self.penalty.weights, self.diagonal.sum()
        with np.errstate(over="ignore"):
            share = (self.diagonal / weights).sum()
        return bool(share * RESOLVED < 1.0 or weights.max() <= RESOLVED * trace)

    @functools.cached_property
    def _weights(self) -> Any:
        """The diagonal of P, with a small positive value where it is zero and has to be inverted."""
        weights = self.penalty.weights
        return weights if self.definite else np.maximum(weights, LEAST_WEIGHT * self.diagonal.sum())

    @property
    def ridge(self) -> float:
        """λ of the standard form."""
        return float(self.penalty.own if self.penalty.uniform else np.min(self._weights))

    @property
    def scales(self) -> Array | None:
        """s (N,), or None where all are one."""
        return None if self.penalty.uniform else self._scales

    @functools.cached_property
    def _scales(self) -> Array:
        return np.sqrt(self.ridge / self._weights)

    def to_standard_form(self, V: Array) -> Array:
        """S v for the rows of V: a diagonal penalty becomes λI, the standard form of Tikhonov."""
        return V if self.scales is None else V * self.scales

    @functools.cached_property
    def share(self) -> float:
        """λ over the trace of S GᵀG S, which is at least its largest eigenvalue."""
        trace = float(self.to_standard_form(self.to_standard_form(self.diagonal)).sum())
        return self.ridge / trace if trace > 0 else float(np.inf if self.ridge > 0 else 0.0)

    @property
    def singular(self) -> bool:
        """Whether the ridge is too small to make the system regular in double precision."""
        return self.share <= RESOLVED

    @property
    def single(self) -> bool:
        """Whether float32 is accurate enough to multiply with the system."""
        fine = self.definite and self.share >= SINGLE and not isinstance(self.problem, ExplicitAtoms)
        return fine and self.penalty.largest < float(np.finfo(np.float32).max) / 2

    @property
    def coarse(self) -> bool:
        """Whether float32 is accurate enough to iterate: an offset common to channels costs digits, too."""
        return self.single and self.share >= SINGLE * _offset(self.problem)

    def astype(self, dtype: DTypeLike) -> System:
        """The same system with products in another precision."""
        return dataclasses.replace(self, problem=self.problem.astype(dtype))

    def sizes(self, V: Array) -> Array:
        """Upper bounds of ‖(GᵀG + P) v‖ for the rows v of V (T, N), from the norms of its terms."""
        pull = blas.norms(V) * self.penalty.largest
        if self.penalty.root is None and not self.penalty.uniform:
            pull = blas.norms(V * self.penalty.own)
        return blas.norms(V) * self.diagonal.sum() + pull

    def product(self, V: Array) -> Array:
        """(GᵀG + P) v for the rows v of V (T, N)."""
        return products((self,), V)


def products(systems: Sequence[System], V: Array) -> Array:
    """(GᵀG + P_k) v for the rows v of V (K·T, N): T rows for each of K systems that differ only in P."""
    out = apply_gram(systems[0].problem, V)
    shape = len(systems), -1, V.shape[1]
    for system, rows, images in zip(systems, V.reshape(shape), out.reshape(shape), strict=True):
        if system.penalty.uniform:
            blas.add_scaled(images, np.full(len(rows), system.ridge), rows)
        else:
            images += system.penalty.products(rows)
    return out


def _offset(problem: Problem) -> float:
    """Responses over centred responses, in norm, for a sample of channels: digits that float32 loses."""
    if problem.dtype == np.float32:
        return 1.0
    channels = np.linspace(0, problem.shape[0] - 1, min(SAMPLE, problem.shape[0])).astype(np.intp)
    part = problem.take(channels)
    centred = float(blas.norm(part.centred()))
    return float(blas.norm(part.responses())) / centred if centred > 0 else 1.0


@dataclasses.dataclass(frozen=True)
class Options:
    """Validated options; each solver reads the ones it needs."""

    tol: float = 1e-8  # relative residual ‖b − Aδ‖ / ‖b‖
    max_iterations: int = 1000
    rank: int | None = None  # of the preconditioner; None: the fastest
    rng: Any = 0
    budget: float = float("inf")  # bytes beyond X and the vectors over channels
    watch: Callable[[Progress], object] = unwatched
    eager: bool = False  # whether `watch` is told of each step, however short

    def watch_factor(self, done: float) -> None:
        """Tell the share of a factorisation that is done."""
        self.watch(Progress("factor", done))


@dataclasses.dataclass(frozen=True)
class Solution:
    """δ for each right-hand side, with the status and stats of the solver."""

    value: NDArray[np.float64]  # (T, N)
    status: str
    stats: dict[str, Any]


def shared_null_space() -> ValueError:
    """The error for a penalty that shares a null space with GᵀG, so that the system is singular."""
    return ValueError(
        "Argument 'ridge' must not leave a direction of gains free that the covariance does not determine "
        "either: the penalty and G share a null space, or nearly. Add a small ridge: λ to that of each "
        "channel, or rows of √λ I below Γ."
    )
