"""One vector of gains, or one connectivity, for several targets: the fit to their mean.

With T targets S_t, their mean S̄, and R of the metric (without one, R M = M), the mean of their losses is

    (1/T) Σ_t ½‖R (C − S_t)‖² = ½‖R (C − S̄)‖² + (1/2T) Σ_t ‖R (S_t − S̄)‖²,

because the terms ⟨R (C − S̄), R (S_t − S̄)⟩ add up to zero. The last sum, `spread`, depends on no gains.
Nuisance terms are projected out by R, and so each target has its own β and γ.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._compute import blas
from .._model.problem import Problem

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class SharedTargets:
    """Targets (T, D, D) that share one vector of gains, in the scaled units of a problem."""

    problem: Problem
    stack: Array

    @classmethod
    def of(cls, given: Problem, S: ArrayLike) -> SharedTargets:
        """Check a stack of targets."""
        problem = given.astype(np.float64)
        stack = problem.target(S)
        if np.ndim(S) != 3:
            raise ValueError(
                f"Argument 'S' must be a stack of targets, (T, D, D), for shared=True, not of shape "
                f"{np.shape(S)}: one target needs no shared=True, and targets of populations are "
                "np.stack([target_covariance(Y, like=X) for Y in populations])."
            )
        return cls(problem, stack)

    @property
    def mean(self) -> Array:
        """S̄ (D, D), in the caller's units."""
        found: Array = self.problem.unscaled(self.stack.mean(axis=0), y=2)
        return found

    @functools.cached_property
    def spread(self) -> float:
        """(1/2T) Σ_t ‖R (S_t − S̄)‖², in the caller's units."""
        apart = self._image(self.stack - self.stack.mean(axis=0))
        return float(self.problem.unscaled(0.5 * blas.squares(apart).mean(), y=4))

    @functools.cached_property
    def _sizes(self) -> Array:
        """‖S_t‖² (T,), summed over the pairs that count."""
        metric = self.problem.metric
        return blas.squares(self.stack) if metric is None else metric.squares(self.stack)

    def r2(self, covariance: Array) -> Array:
        """R² of each target (T,) at a covariance (D, D) in scaled units."""
        left = blas.squares(self._image(self.stack - covariance))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(1.0 - left / self._sizes)

    def stats(self, at_one: Array, covariance: Array) -> dict[str, Any]:
        """What a fit knows of its targets, from the covariance at gains of one and its own."""
        targets = self.problem.unscaled(self.stack, y=2)
        return {
            "targets": targets, "r2": self.r2(covariance), "r2_at_one": self.r2(at_one), "spread": self.spread
        }  # fmt: skip

    def _image(self, M: Array) -> Array:
        metric = self.problem.metric
        return np.ascontiguousarray(M if metric is None else metric.image(M))


def shared_targets(shared: Any, given: Problem, S: Any, responses: Any) -> SharedTargets | None:
    """The targets that share gains; None unless `shared`."""
    if not isinstance(shared, (bool, np.bool_)):
        raise TypeError(f"Argument 'shared' must be True or False, not {shared!r}.")
    if not shared:
        return None
    if responses is not None:
        raise ValueError(
            "Argument 'responses' must be None for shared=True: pass S=np.stack([target_covariance(Y, "
            "like=X) for Y in populations])."
        )
    return SharedTargets.of(given, S)
