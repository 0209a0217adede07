"""What a caller of Fit.uncertainty() gave, checked: responses, channels, and the cells behind each target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._model.problem import Problem
from .._model.target import ALL_NEEDED, aligned
from .._results.fit import Fit
from .._results.kept import problem_of
from .._rows.responses import over_trials
from .curvature import ALIKE
from .populations import Population, check_groups

Array = NDArray[np.float64]


def targets_of(fit: Fit) -> Array:
    """The targets of a stack (T, 1, D, D), or those that share one vector of gains (1, T, D, D)."""
    if "shared" in fit.stats:
        found: Array = fit.stats["shared"]["targets"]
        return found[np.newaxis]
    S = fit.target()
    return S[np.newaxis, np.newaxis] if S.ndim == 2 else S[:, np.newaxis]


def responses_of(fit: Fit, X: Any) -> Problem:
    """The responses of the fit, with a covariance that is still that of the fit."""
    given = problem_of(fit, X)
    if given.rows.on_workers:
        raise ValueError(
            "Argument 'X' must be in memory or in a file, not on a Dask cluster: pass X=X.compute(), or some "
            "of its channels to a fit of their own."
        )
    problem = given.astype(np.float64)
    found, kept = problem.unscaled(problem.covariance(), y=2), fit.covariance_at_one()
    if not _alike(found, kept):
        raise ValueError(
            "Argument 'X' must be the responses that were fitted, and their covariance is another one: were "
            "they changed since? Fit again, or pass X as it was."
        )
    return given


def _alike(A: Array, B: Array) -> bool:
    size = float(np.abs(B).max())
    return bool(np.abs(A - B).max() <= ALIKE * size)


def cells_of(
    fit: Fit, Y: Any, groups: Any, by: str, given: Problem, nan_policy: str
) -> list[list[Population]]:  # fmt: skip
    """The cells behind the targets of each fit, as `targets_of` has these; none if not asked for."""
    targets = targets_of(fit)
    if by not in ("cells", "both"):
        if groups is not None:
            raise ValueError(
                f"Argument 'cell_groups' must be None for by={by!r}, where no cells are drawn: use "
                "by='cells' or by='both'."
            )
        return [[] for _ in targets]
    if Y is None:
        raise ValueError(
            f"Argument 'Y' must be the responses of the other population for by={by!r}, not None: pass the "
            "responses whose covariance was fitted, or use by='conditions'."
        )
    n = len(targets) * targets.shape[1]
    if fit.gains.ndim == 1 and "shared" not in fit.stats:
        Y, groups = [Y], [groups]
    elif not isinstance(Y, (list, tuple)) or len(Y) != n:
        raise ValueError(
            f"Argument 'Y' must be a list with the responses behind each of the {n} targets, in their order."
        )
    if groups is None:
        groups = [None] * n
    elif not isinstance(groups, (list, tuple)) or len(groups) != n:
        raise ValueError(
            f"Argument 'cell_groups' must be a list with the labels of the cells behind each of the {n} "
            "targets, or None for cells without."
        )
    flat = targets.reshape(n, *targets.shape[2:])
    found = [
        _population(*each, given, nan_policy) for each in zip(Y, groups, flat, strict=True)
    ]  # fmt: skip
    return [found] if len(targets) == 1 else [[each] for each in found]


def _population(Y: Any, groups: Any, S: Array, given: Problem, nan_policy: str) -> Population:
    """The checked cells behind a target, centred, and scaled so that YᵀY is the target."""
    Y = over_trials("Y", Y, nan_policy, rows=ALL_NEEDED)
    output = Problem.of(aligned("Y", Y, given.labels), center=given.center, name="Y").astype(np.float64)
    M, D = output.shape
    if given.shape[1] != D:
        raise ValueError(
            f"Argument 'Y' must have the {given.shape[1]} conditions of X, not {D}: is it transposed?"
        )
    least = 3 if given.center else 2  # two cells about their mean are one pattern
    if least > M:
        raise ValueError(
            f"Argument 'Y' must have at least {least} cells, not {M}, for standard errors over cells: use "
            "by='conditions', or more cells."
        )
    problem = given.astype(np.float64)
    S = problem.target(S)[0]
    values = output.centred()
    own = output.covariance()
    trace = float(np.trace(own))
    scale = float(np.trace(S)) / trace if trace > 0 else 0.0
    if not _alike(scale * own, S):
        raise ValueError(
            "Argument 'Y' must be the responses whose covariance was fitted, and their covariance is another "
            "one (even with another scale): pass the Y that S was made from, or use by='conditions'."
        )
    values *= math.sqrt(max(scale, 0.0))
    return Population.of(values, None if groups is None else check_groups("cell_groups", groups, M))
