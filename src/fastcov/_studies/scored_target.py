"""Checks the target and the score of a study of held-out conditions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.labels import by_condition
from .._inputs.validation import check_array, check_choice
from .._model.problem import Problem
from .._results.score import LEAST_PAIRED, PAIRED, SCORES, Split
from .._rows.responses import check_responses

if TYPE_CHECKING:
    from .._model.metric import Metric

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class HeldOutTarget:
    """Responses of the other population, or a target matrix with NaN for unknown entries."""

    output: Problem | None
    S: Array | None
    metric: Metric | None


def held_out_target(given: Problem, Y: Any, S: Any, nuisance: Any, pairs: Any) -> HeldOutTarget:
    """Check Y or S, whichever is given, and find which of its pairs count."""
    if (Y is None) == (S is None):
        raise ValueError(
            "Argument 'Y' or 'S' must be given, one of the two, not "
            f"{'neither' if Y is None else 'both'}: responses, or a target covariance."
        )
    D = given.shape[1]
    if Y is not None:
        other = check_responses("Y", Y)
        if other.shape[1] != D:
            raise ValueError(
                f"Argument 'Y' must have the {D} conditions of X in its columns, not {other.shape[1]}: is "
                "one of them conditions x channels?"
            )
        if other.shape[0] == D and _is_symmetric(np.asarray(other[:])):
            raise ValueError(
                "Argument 'Y' must be responses, channels x conditions, not a square symmetric matrix, as a "
                "covariance is: pass that as S=…, as in cross_validate(X, S=S) or fit(X, S). Its scale then "
                "is taken as it is, and not from the training conditions."
            )
        output = Problem.of(Y, center=given.center, name="Y")
        return HeldOutTarget(output, None, given.with_metric(nuisance, pairs, given.labels).metric)
    raw = check_array("S", by_condition("S", S, given.labels), ("condition", "condition"))
    unknown = np.isnan(raw) if raw.dtype.kind == "f" else np.zeros(raw.shape, bool)
    there = given.with_metric(nuisance, pairs, given.labels)
    if unknown.any() and unknown.shape == (D, D):
        known = np.where(unknown | unknown.T, 0.0, 1.0)
        if there.metric is not None and there.metric.weights is not None:
            known *= there.metric.weights
        there = given.with_metric(nuisance, known, given.labels)
    exact = there.astype(np.float64)
    values = exact.unscaled(exact.target(S)[0], y=2)
    return HeldOutTarget(None, np.where(unknown | unknown.T, np.nan, values), there.metric)


def _is_symmetric(Y: NDArray[Any]) -> bool:
    if Y.shape[0] != Y.shape[1] or len(Y) < 2:
        return False
    values = np.asarray(Y, np.float64)
    if not np.isfinite(values).all():
        return False
    eps = np.finfo(Y.dtype if Y.dtype.kind == "f" and Y.dtype.itemsize < 8 else np.float64).eps
    return bool(np.abs(values - values.T).max() <= 8 * len(Y) * eps * np.abs(values).max())


def check_score(score: str, splits: Sequence[Split], *, inner: bool = False) -> None:
    """Raise unless `score` is known and defined in all folds, or if these are inner folds, in any."""
    check_choice("score", score, tuple(SCORES))
    least = (max if inner else min)(len(test) for _, test in splits)
    if score in PAIRED and least < LEAST_PAIRED:
        raise ValueError(
            f"Argument 'score' must be one of cross pairs where {'inner ' * inner}folds hold out {least}, "
            f"not {score!r}, which needs {LEAST_PAIRED}: use 'cross-{score}', or fewer folds."
        )
