"""Minima of the exact loss for many targets at once, near a minimum whose H⁻¹ is known.

L-BFGS (Nocedal 1980) for each target, with H⁻¹ in place of the usual multiple of the identity. A step is
halved until the loss falls. Targets whose minimum is not reached in time are left to the caller.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._exact_loss.derivatives import derivatives, values_and_gradients
from .._fitting.minimised import lower_along_axes
from .._model.products import weighted_adjoint
from .curvature import Stationary

Array = NDArray[np.float64]

# Pairs of steps and changes of the gradient that are kept, evaluations at most, and halvings of a step.
PAIRS, EVALUATIONS, HALVINGS = 8, 40, 4
# A target whose gradient is above this share of its first after so many evaluations is slow: the minimiser,
# which multiplies with H itself, takes less time there. At (148, 48) most targets are at λ/λ_max of 0.01, and
# few at 0.1.
PATIENCE, SLOW = 3, 0.4
# A step is taken if the loss falls by this share of the first-order decrease (Armijo), or by rounding.
SUFFICIENT, ROUNDING = 1e-4, 1e-13


@dataclasses.dataclass(eq=False)
class _Rows:
    """The targets that are not done: where they are, and the pairs that they have seen."""

    index: NDArray[np.intp]
    gains: Array
    gradient: Array
    value: Array
    direction: Array
    step: Array
    halvings: NDArray[np.intp]
    steps: list[Array]
    changes: list[Array]

    def take(self, on: NDArray[np.bool_]) -> _Rows:
        """Those of the rows that go on."""
        if on.all():
            return self
        parts: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            parts[field.name] = [each[on] for each in value] if isinstance(value, list) else value[on]
        return _Rows(**parts)

    def directions(self, inverse: Array) -> Array:
        """−B g for the inverse Hessian B that the pairs and H⁻¹ tell (T, N). 2N² flops each."""
        q, shares = self.gradient.copy(), []
        for s, y in zip(reversed(self.steps), reversed(self.changes), strict=True):
            inner = _dots(s, y)
            known = inner > 0.0  # also not for rows that did not move
            share = np.divide(_dots(s, q), inner, out=np.zeros_like(inner), where=known)
            q -= share[:, np.newaxis] * y
            shares.append((share, inner, known))
        r = blas.product(q, inverse)
        for s, y, (share, inner, known) in zip(self.steps, self.changes, reversed(shares), strict=True):
            back = np.divide(_dots(y, r), inner, out=np.zeros_like(inner), where=known)
            r += np.where(known, share - back, 0.0)[:, np.newaxis] * s
        return -r


def near_minima(there: Stationary, inverse: Array, S: Array, goals: Array) -> tuple[Array, NDArray[np.intp]]:
    """Gains (T, N) for targets S (T, D, D), and which of them are not at a minimum.

    `goals` are the norms of the gradient that count as a minimum. Some 4ND² + 2N² flops for each evaluation
    and target, of which there are five to twenty.
    """
    T, N = len(S), len(there.gains)
    out, left = np.tile(there.gains, (T, 1)), list[int]()
    value, gradient = _at_the_fit(there, S)
    rows = _Rows(
        np.arange(T), out.copy(), gradient, value, np.empty((T, N)), np.ones(T), np.zeros(T, np.intp), [], []
    )
    rows.direction = rows.directions(inverse)
    slow = SLOW * np.sqrt(np.square(gradient).sum(axis=1))
    for k in range(1, EVALUATIONS):
        if not len(rows.index):
            break
        trial = rows.gains + rows.step[:, np.newaxis] * rows.direction
        value, gradient = values_and_gradients(there.given, S[rows.index], there.penalty, trial)
        slope = _dots(rows.gradient, rows.direction)
        with np.errstate(invalid="ignore", over="ignore"):
            limit = rows.value + SUFFICIENT * rows.step * slope + ROUNDING * np.abs(rows.value)
            fell = value <= limit
        size = np.sqrt(np.square(gradient).sum(axis=1))
        done = fell & (size <= goals[rows.index])
        out[rows.index[done]] = trial[done]
        moved = np.where(fell, 1.0, 0.0)[:, np.newaxis]
        rows.steps.append(moved * (trial - rows.gains))
        rows.changes.append(moved * np.nan_to_num(gradient - rows.gradient))
        del rows.steps[:-PAIRS], rows.changes[:-PAIRS]
        rows.gains = np.where(fell[:, np.newaxis], trial, rows.gains)
        rows.gradient = np.where(fell[:, np.newaxis], gradient, rows.gradient)
        rows.value = np.where(fell, value, rows.value)
        rows.halvings = np.where(fell, 0, rows.halvings + 1)
        rows.step = np.where(fell, 1.0, 0.5 * rows.step)
        stuck = ~done & (rows.halvings > HALVINGS)
        if k == PATIENCE:
            stuck |= ~done & ~(size <= slow[rows.index])
        out[rows.index[stuck]] = rows.gains[stuck]
        left += rows.index[stuck].tolist()
        fell, rows = fell[~(done | stuck)], rows.take(~(done | stuck))
        if len(rows.index):
            rows.direction = np.where(fell[:, np.newaxis], rows.directions(inverse), rows.direction)
    out[rows.index] = rows.gains
    left += rows.index.tolist()
    reached = np.setdiff1d(np.arange(T), left)
    if len(reached):
        found = derivatives(there.given, S[reached], there.penalty, out[reached])
        left += reached[lower_along_axes(found.quartics, found.worth, out[reached], None) > 0].tolist()
    return out, np.array(sorted(left), np.intp)


def _at_the_fit(there: Stationary, S: Array) -> tuple[Array, Array]:
    """The loss (T,) of targets S (T, D, D) and its gradient (T, N), at the fitted gains. 2ND² for each."""
    metric, change = there.given.metric, S - there.target
    error = there.point.error - change
    if metric is not None:
        error, change = metric.image(error), metric.pull(change)
    value = 0.5 * (np.square(error).sum(axis=(1, 2)) + there.penalty.quadratic(there.gains - 1.0))
    return value, there.point.gradient - weighted_adjoint(there.around.plain, change)[0]


def _dots(A: Array, B: Array) -> Array:
    found: Array = np.einsum("tn,tn->t", A, B)
    return found
