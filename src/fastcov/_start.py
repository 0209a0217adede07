"""Where every fit starts: responses and targets at gains of one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._problem import Problem
from ._products import apply_adjoint, largest_eigenvalue, squared_norms
from ._solvers import Progress, System
from ._sources import Stored
from ._validation import check_nonnegative

Array = NDArray[np.float64]

LARGEST_RIDGE = 1e300


@dataclasses.dataclass(frozen=True)
class Ridge:
    """λ as asked for, in the caller's units and in those of the problem."""

    value: float
    scaled: float
    relative: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """The problem at gains of one, with all that fits of any method and ridge share."""

    given: Problem  # with products in the precision of X, for solvers
    problem: Problem  # in float64, for all else
    target: Array  # (T, D, D)
    covariance: Array  # (D, D)
    norms: Array  # ‖g_i‖² (N,)
    overlaps: Array  # Gᵀe₀ (T, N)

    @classmethod
    def of(
        cls,
        given: Problem,
        S: ArrayLike,
        watch: Callable[[Progress], object] | None = None,
    ) -> Start:
        """From responses that are checked, and targets that are not."""
        problem = given.astype(np.float64)
        target = problem.target(S)
        N, D = problem.shape
        if isinstance(given.X, Stored) and watch is not None:
            given.X.watch = lambda done: watch(Progress("read", done))
        covariance = problem.covariance()
        norms = squared_norms(problem)
        overlaps = apply_adjoint(problem, target - covariance)
        # What rounding leaves of channels that are all alike is no atom.
        if norms.sum() <= N * (2.0 * D * problem.dust * problem.sizes.max() ** 2) ** 2:
            norms[:] = 0.0
            overlaps[:] = 0.0
        return cls(given, problem, target, covariance, norms, overlaps)

    @property
    def error(self) -> Array:
        """e₀ as matrices (T, D, D)."""
        return self.target - self.covariance

    @functools.cached_property
    def largest(self) -> float:
        """Largest eigenvalue of GᵀG, in scaled units. 7 products."""
        return largest_eigenvalue(self.problem, self.norms, self.covariance)

    def system(self, ridge: Ridge) -> System:
        return System(self.given, ridge.scaled, self.norms)

    def ridge(self, ridge: Any, relative: Any) -> Ridge:
        """One of the two, checked."""
        if (ridge is None) == (relative is None):
            given = "neither" if ridge is None else "both"
            raise ValueError(
                f"Argument 'ridge' or 'relative_ridge' must be given, one of the two, not {given}: "
                "relative_ridge=0.1 is a cautious start."
            )
        if relative is not None:
            share = check_nonnegative("relative_ridge", relative)
            scaled = share * self.largest
            with np.errstate(over="ignore"):
                value = float(self.problem.unscaled(scaled, y=4))
            if not np.isfinite(value):
                raise ValueError(f"Argument 'relative_ridge' must give a finite ridge, not {relative!r}.")
            return Ridge(value, min(scaled, LARGEST_RIDGE), share)
        value = check_nonnegative("ridge", ridge)
        with np.errstate(over="ignore", under="ignore"):
            scaled = float(np.ldexp(value, 4 * self.problem.exponent))
        return Ridge(value, min(scaled, LARGEST_RIDGE), None)  # all gains are one anyway
