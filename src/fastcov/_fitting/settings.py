"""The options of a fit, validated, and the outcome that a method gives back."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute.progress import Progress, unwatched
from .._connectivity.solve import METHODS, MIXED
from .._inputs.labels import by_channel, outside
from .._inputs.validation import (
    check_budget,
    check_choice,
    check_gains,
    check_generator,
    check_nonnegative,
    check_tolerance,
    check_whole,
)
from .._model.bounds import Bounds
from .._model.groups import Groups
from .._model.problem import Problem
from .._results.chosen_ridge import ChosenRidge
from .._solvers import SOLVERS, Options
from .certificate import ConvergenceWarning

Array = NDArray[np.float64]

NAMES = ("linear", "diagonal", "line-search", "exact")
# Defaults of `tol`: for the residual of a linear system, and for the gradient of the exact loss.
LINEAR_TOL, EXACT_TOL = 1e-8, 1e-6


def method_for(method: str | None, ridge: Any, relative_ridge: Any) -> str:
    """The method: as asked for, else that of a `ChosenRidge`, else the linear one."""
    for name, value, relative in (("ridge", ridge, False), ("relative_ridge", relative_ridge, True)):
        if isinstance(value, ChosenRidge):
            if value.relative is not relative:
                other = "relative_ridge" if value.relative else "ridge"
                raise ValueError(
                    f"Argument '{name}' must not be a ridge that was chosen as a {other}, as {value:.4g} "
                    f"was: pass {other}={value:.4g}."
                )
            method = value.method if method is None else method
    return "linear" if method is None else method


def check_options(method: str, **given: Any) -> None:
    """Raise if an option is given that only gains have; `given` holds those that are not None."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"Argument '{name}' must be left out for method={method!r}, which fits a connectivity, not "
                f"{value!r}: use method='exact'."
            )


@dataclasses.dataclass(frozen=True)
class Settings:
    """Validated options; each method reads the ones it needs."""

    solver: str
    tol: float | None  # as asked for; None: LINEAR_TOL or EXACT_TOL
    max_iterations: int
    rank: int | None  # of the preconditioner
    rng: Any
    budget: float | None  # bytes beyond X; None: what is available
    bounds: Bounds | None
    gains0: Array | None  # (n,) or (T, n), of channels or groups
    n_starts: int
    watch: Callable[[Progress], object] = unwatched
    free_ridge: float | None = None  # of a connectivity beside gains, relative where theirs is
    eager: bool = False  # whether `watch` is told of each step, however short

    @classmethod
    def of(
        cls,
        method: str,
        given: Problem,
        *,
        solver: str = "auto",
        tol: float | None = None,
        max_iterations: int = 1000,
        rank: int | None = None,
        rng: Any = 0,
        memory_budget: float | None = None,
        bounds: Any = None,
        gains0: Any = None,
        n_starts: int = 1,
        groups: Groups | None = None,
        free_ridge: Any = None,
    ) -> Settings:
        """Validate options for these responses; with groups, bounds and gains0 are theirs."""
        n, axis = (given.shape[0], "channel") if groups is None else (len(groups), "group")
        check_choice("method", method, (*NAMES, *METHODS))
        if method in METHODS:
            name = "groups" if groups is None else groups.argument
            check_options(
                method, bounds=bounds, gains0=gains0, rank=rank, n_starts=None if n_starts == 1 else n_starts,
                solver=None if solver == "auto" else solver, **{name: groups},
            )  # fmt: skip
        check_choice("solver", solver, ("auto", *SOLVERS))
        if rank is not None and check_whole("rank", rank, 0) > n:
            raise ValueError(f"Argument 'rank' must be at most the {n} {axis}s, not {rank}.")
        if tol is not None:
            check_tolerance(tol)
        limits = None if bounds is None else Bounds.of(bounds, n, given.labels, groups)
        most, random = check_whole("max_iterations", max_iterations, 1), check_generator(rng)
        if gains0 is not None:
            aligned = (
                by_channel("gains0", gains0, given.labels) if groups is None
                else groups.vector("gains0", gains0)
            )  # fmt: skip
            gains0 = check_gains("gains0", aligned, n, batch=True, axis=axis)
            outside = np.zeros(gains0.shape, bool) if limits is None else gains0 != limits.clip(gains0)
            if outside.any():
                i = int(np.argwhere(outside)[0][-1])
                raise ValueError(
                    f"Argument 'gains0' must lie within the bounds, not at {gains0[..., i].ravel()[0]:g} for "
                    f"{axis} {i}: clip it."
                )
        n_starts = check_whole("n_starts", n_starts, 1)
        if method != "exact" and (gains0 is not None or n_starts > 1):
            raise ValueError(
                f"Argument 'method' must be 'exact' where gains0 or n_starts are given, not {method!r}: the "
                "others do not depend on where they start."
            )
        if method == "line-search" and limits is not None and not np.all(limits.clip(np.ones(n)) == 1.0):
            raise ValueError(
                "Argument 'bounds' must allow gains of one for method='line-search', whose line begins "
                "there: use method='exact'."
            )
        budget = check_budget(memory_budget)
        if free_ridge is not None:
            if method != MIXED:
                raise ValueError(
                    f"Argument 'free_ridge' must be left out for method={method!r}, not {free_ridge!r}: it "
                    f"is for the connectivity beside gains, method={MIXED!r}."
                )
            free_ridge = check_nonnegative("free_ridge", free_ridge)
        return cls(solver, tol, most, rank, random, budget, limits, gains0, n_starts, free_ridge=free_ridge)

    @property
    def linear_tol(self) -> float:
        """Relative residual of a linear system."""
        return self.tol or LINEAR_TOL

    @property
    def exact_tol(self) -> float:
        """Norm of the gradient of the exact loss, relative to that at gains of one."""
        return self.tol or EXACT_TOL

    def options(self, budget: float = math.inf) -> Options:
        """The options of a solver of linear systems, which may take `budget` bytes."""
        return Options(
            self.linear_tol, self.max_iterations, self.rank, self.rng, budget, self.watch, self.eager
        )

    def watched(self, watch: Callable[[Progress], object], **changes: Any) -> Settings:
        """The same with progress told to `watch`, and other changes."""
        return dataclasses.replace(self, watch=watch, **changes)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Gains of each target with their certificate."""

    gains: Array  # (T, n), of channels or groups
    delta: Array  # gains − 1, which has more digits where gains are near one
    residual: Array  # (T,)
    status: str
    stats: dict[str, Any]
    warning: str | None = None  # if it stopped short
    covariance: Array | None = None  # at the gains, if the method computed it
    slopes: Array | None = None  # G δ (T, D, D), if computed
    quartics: Array | None = None  # of the exact loss along each gain (T, 4, N), if computed; not of groups

    def warn(self) -> None:
        """Warn the caller of this package where a fit stopped short."""
        if self.warning is not None:
            warnings.warn(self.warning, ConvergenceWarning, stacklevel=outside())
