"""The start of every fit: responses and targets at gains of one."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._compute import blas, kernels
from .._compute.progress import Progress
from .._inputs.labels import by_channel
from .._model.group_forms import GroupForms
from .._model.groups import Groups
from .._model.problem import Problem, n_parts
from .._model.products import (
    apply_adjoint,
    apply_atoms,
    beginning,
    largest_eigenvalue,
    small_gram,
    squared_norms,
)
from .._model.ridge_penalty import LARGEST_PENALTY, Penalty
from .._solvers import System, base_bytes

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Ridge:
    """A ridge as the caller gave it, and its penalty in the units of the problem."""

    value: Any  # λ, λ of each channel, or Γ, in the caller's units
    penalty: Penalty
    relative: Any  # λ over the largest eigenvalue of GᵀG, if it was given so


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """The problem at gains of one, with everything that fits of any method and ridge share.

    Where groups of channels share a gain, the n gains are those of groups, otherwise those of the N channels.
    """

    given: Problem  # its products are in the precision of X: for solvers
    problem: Problem  # its products are in float64: for everything else
    target: Array  # (T, D, D)
    covariance: Array  # (D, D)
    norms: Array  # ‖g_i‖² (n,)
    overlaps: Array  # Gᵀe₀ (T, n)
    reading: Problem  # `problem` with progress of its passes over files, until a solver begins
    budget: float | None = None  # bytes that a fit may take beyond X
    forms: GroupForms | None = None  # where groups share a gain

    @classmethod
    def of(
        cls,
        given: Problem,
        S: ArrayLike,
        watch: Callable[[Progress], object] | None = None,
        budget: float | None = None,
        groups: Groups | None = None,
    ) -> Start:
        """From checked responses and groups, and targets that are checked here."""
        problem = given.astype(np.float64)
        target = problem.target(S)
        N, D = problem.shape
        small = given is problem and problem.fits_caches(len(target))
        if small and not problem.ready(problem.X):
            problem = problem.converted()
        reading = problem
        if watch is not None:
            reading = problem.watched(lambda done: watch(Progress("read", done)))
        if small:
            covariance, norms, overlaps = np.empty((D, D)), np.empty(N), np.empty((len(target), N))
            parts = np.empty((n_parts(N, D), D, D))
            kernels.whole_start(
                problem.X, problem.gains, problem.mean, target, parts, covariance, norms, overlaps, size=0
            )
        else:
            covariance = reading.covariance()
            norms = squared_norms(reading)
            error = target - covariance
            image = error if problem.metric is None else problem.metric.image(error)
            overlaps = apply_adjoint(reading, image)
        # Where all channels are alike, atoms are zero but for rounding.
        if norms.sum() <= N * (2.0 * D * problem.rounding_floor * problem.sizes.max() ** 2) ** 2:
            norms[:] = 0.0
            overlaps[:] = 0.0
        forms = None
        if groups is not None:
            forms = GroupForms.of(reading, groups, budget)
            norms = blas.squares(forms.atoms.X[:][:, np.newaxis]) * norms.any()
            overlaps = groups.sums(overlaps)
        return cls(given, problem, target, covariance, norms, overlaps, reading, budget, forms)

    def with_target(self, S: ArrayLike) -> Start:
        """The start of another target, which shares everything that does not depend on it."""
        target = self.problem.target(S)
        error = target - self.covariance
        if self.problem.metric is not None:
            error = self.problem.metric.image(error)
        overlaps = self.pulls(error)
        if not self.norms.any():
            overlaps[:] = 0.0
        return dataclasses.replace(self, target=target, overlaps=overlaps)

    # --- gains, those of channels or of groups

    @property
    def n_gains(self) -> int:
        """n: channels, or groups."""
        return len(self.norms)

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Gains of silent channels alone (n,)."""
        return self.problem.sizes == 0 if self.forms is None else self.forms.dead

    def by_channel(self, V: Array) -> Array:
        """Gains (..., n) for each channel (..., N)."""
        return V if self.forms is None else self.forms.groups.expand(V)

    def of_gains(self, V: Array) -> Array:
        """Derivatives with respect to gains (..., n), from those for each channel (..., N)."""
        return V if self.forms is None else self.forms.groups.sums(V)

    def slopes(self, V: Array) -> Array:
        """G v (T, D, D), or its image, for each row v of V (T, n). One pass over X."""
        return apply_atoms(self.problem, self.by_channel(V))

    def pulls(self, M: Array) -> Array:
        """Gᵀ M (T, n) for a stack of images M (T, D, D). One pass over X."""
        return self.of_gains(apply_adjoint(self.problem, M))

    # ---

    @property
    def error(self) -> Array:
        """e₀ as matrices (T, D, D), or their images under the metric."""
        return self.target - self.covariance if self.problem.metric is None else self._image

    @functools.cached_property
    def _image(self) -> Array:
        assert self.problem.metric is not None
        return self.problem.metric.image(self.target - self.covariance)

    @functools.cached_property
    def error_squares(self) -> Array:
        """‖e₀‖²_F (T,)."""
        return blas.squares(self.error)

    @functools.cached_property
    def target_squares(self) -> Array:
        """‖S‖²_F (T,), summed over the pairs that count."""
        metric = self.problem.metric
        return blas.squares(self.target) if metric is None else metric.squares(self.target)

    @functools.cached_property
    def trace_ratio(self) -> Array:
        """The traces of the targets over that of the covariance (T,), summed over the variances that count.

        Where no variance counts, it is the ratio of the norms over all pairs that count.
        """
        metric = self.problem.metric
        if metric is not None and metric.weights is not None:
            own = np.diagonal(metric.weights)
            with np.errstate(divide="ignore", invalid="ignore"):
                if own.any():
                    traces = np.trace(self.target * own, axis1=1, axis2=2)
                    return np.asarray(traces / np.trace(self.covariance * own))
                return np.sqrt(self.target_squares / metric.squares(self.covariance))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio: Array = np.trace(self.target, axis1=1, axis2=2) / np.trace(self.covariance)
        return ratio

    @functools.cached_property
    def largest(self) -> float:
        """Largest eigenvalue of GᵀG, in scaled units: see `largest_eigenvalue`."""
        room = math.inf
        if self.budget is not None:
            room = self.budget - base_bytes(*self.problem.shape, len(self.target))
        if self.forms is not None:
            first = beginning(self.reading, self.covariance)
            return largest_eigenvalue(self.forms.atoms, self.norms, first, None, room)
        return largest_eigenvalue(self.reading, self.norms, self.covariance, self.gram, room)

    @functools.cached_property
    def gram(self) -> Array | None:
        """GᵀG in scaled units, if X and it stay in the caches of a core."""
        return small_gram(self.problem) if self.forms is None else None

    def system(self, ridge: Ridge) -> System:
        given = self.given if self.forms is None else self.forms.atoms
        return System(given, ridge.penalty, self.norms)

    def ridge(self, ridge: Any, relative: Any) -> Ridge:
        """Validate `ridge` or `relative`, of which exactly one is given."""
        if (ridge is None) == (relative is None):
            given = "neither" if ridge is None else "both"
            raise ValueError(
                f"Argument 'ridge' or 'relative_ridge' must be given, one of the two, not {given}: "
                "relative_ridge=0.1 is a cautious start."
            )
        name, given = ("ridge", ridge) if relative is None else ("relative_ridge", relative)
        if relative is not None and (np.ndim(relative) == 2 or hasattr(relative, "nnz")):
            raise ValueError(
                "Argument 'relative_ridge' must be a number, or one for each channel, not a matrix: scale it "
                "and pass it as ridge."
            )
        if self.forms is None:
            penalty = Penalty.of(name, by_channel(name, given, self.problem.labels), self.n_gains)
        else:
            groups = self.forms.groups
            penalty = Penalty.of(name, groups.vector(name, given), self.n_gains, "group")
        return self._ridge(penalty, given, relative=relative is not None)

    def ridges(self, values: Sequence[float], *, relative: bool) -> list[Ridge]:
        """Many ridges, each one number that is already validated."""
        if not relative:
            return [self._ridge(Penalty(value), value, relative=False) for value in values]
        if values:  # if the largest is finite, all are
            self._ridge(Penalty(max(values)), max(values), relative=True)
        scaled = [value * self.largest for value in values]
        given = np.atleast_1d(self.problem.unscaled(np.array(scaled), y=4)).tolist()
        return [
            Ridge(mine, Penalty(min(own, LARGEST_PENALTY)), value)
            for mine, own, value in zip(given, scaled, values, strict=True)
        ]

    def _ridge(self, penalty: Penalty, given: Any, *, relative: bool) -> Ridge:
        """The ridge of a penalty that was given as `given`."""
        dead = self.dead
        if not relative:
            return Ridge(penalty.value, penalty.in_units(self.problem.exponent, dead), None)
        scaled = penalty.own * self.largest
        with np.errstate(over="ignore"):
            value = self.problem.unscaled(scaled, y=4)
        if not np.isfinite(value).all():
            raise ValueError(f"Argument 'relative_ridge' must give a finite ridge, not {given!r}.")
        return Ridge(
            value if np.ndim(value) else float(value), Penalty(scaled).in_units(0, dead), penalty.own
        )
