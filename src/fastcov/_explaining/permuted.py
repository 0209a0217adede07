"""How much gains correct for targets with permuted conditions, in which there is nothing to find."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._fitting.start import Start
from .._inputs.validation import require_memory
from .._model.packed import pack, unpack
from .._model.products import apply_adjoint
from .._solvers import System
from .atom_range import Range
from .modes import Complete

Array = NDArray[np.float64]

# Targets are fitted together up to this many bytes of matrices and gains: all of them if conditions are few.
TOGETHER_BYTES = 1 << 24


@dataclasses.dataclass(frozen=True)
class Permuted:
    """For each of K permuted targets: shares of ‖e₀‖², and the correlation of its δ with δ of the target."""

    corrected: Array  # (K,)
    left_by_ridge: Array  # (K,)
    correlations: Array  # (K,)

    @classmethod
    def none(cls) -> Permuted:
        return cls(np.empty(0), np.empty(0), np.empty(0))


def permuted(
    start: Start, system: System, modes: Complete, span: Range, delta: Array, shuffles: int, rng: Any
) -> Permuted:
    """Fit all permuted targets with the modes: 2KN(D² + 2n) flops, and some MB for those fitted together."""
    (N, D), random = start.problem.shape, np.random.default_rng(rng)
    live = start.norms > 0
    metric = start.problem.metric
    uneven = metric is not None and metric.weights is not None and not metric.off_diagonal
    if shuffles == 0 or D < 2 or uneven or not live.any():  # one condition has no other order
        return Permuted.none()
    together = max(1, TOGETHER_BYTES // (32 * D * D + 24 * N))
    require_memory(
        8 * min(together, shuffles) * (3 * N + 4 * D * D),
        f"{shuffles} permuted targets",
        "use fewer shuffles",
    )
    orders = [random.permutation(D) for _ in range(shuffles)]
    found = [
        _some(start, system, modes, span, delta, live, orders[first : first + together])
        for first in range(0, shuffles, together)
    ]
    return Permuted(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _some(
    start: Start, system: System, modes: Complete, span: Range, delta: Array, live: NDArray[np.bool_],
    orders: list[NDArray[np.intp]],
) -> tuple[Array, Array, Array]:  # fmt: skip
    """The fields of `Permuted` for some orders."""
    target = start.target[0]
    stack = np.stack([target[np.ix_(order, order)] for order in orders])
    errors = dataclasses.replace(start, target=stack).error
    overlaps = apply_adjoint(start.problem, errors) * live
    totals, (deltas, removed) = blas.squares(errors), _fitted(system, modes, errors, overlaps)
    reached = np.minimum(span.squares(errors, overlaps), totals)
    removed = np.minimum(removed, reached)
    below = np.where(totals > 0, totals, 1.0)
    return removed / below, (reached - removed) / below, _correlations(delta[live], deltas[:, live])


def _fitted(system: System, modes: Complete, errors: Array, overlaps: Array) -> tuple[Array, Array]:
    """δ of each error (K, N), and ‖e₀‖² − ‖e₀ − Gδ‖² (K,)."""
    values, ridge = modes.values, system.ridge
    with np.errstate(divide="ignore"):
        inverse = 1.0 / (values + ridge)
    if modes.state.dual:
        amplitudes = blas.product(pack(errors), modes.state.vectors, tb=True)
        packed = blas.product(amplitudes * inverse, modes.state.vectors)
        deltas = apply_adjoint(system.problem, unpack(packed, errors.shape[-1]))
        squares = amplitudes**2 * values
    else:
        weights = blas.product(overlaps, modes.state.vectors, tb=True)
        deltas = blas.product(weights * inverse, modes.state.vectors)
        squares = weights**2
    # (u_kᵀe₀)² (1 − (λ / (σ² + λ))²), with σ² (u_kᵀe₀)² in `squares`
    return deltas, (squares * ((values + 2.0 * ridge) * inverse**2)).sum(axis=1)


def _correlations(one: Array, many: Array) -> Array:
    """Correlation of a vector (n,) with each row (K, n); 0 if either is constant."""
    one = (one - one.mean())[np.newaxis]
    many = many - many.mean(axis=1, keepdims=True)
    sizes = blas.norms(many) * blas.norms(one)
    products = blas.product(np.ascontiguousarray(many), one, tb=True)[:, 0]
    return np.divide(products, sizes, out=np.zeros_like(sizes), where=sizes > 0)
