"""Fit.apply(): apply the gains of a fit to responses to other conditions."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._connectivity.channels import expanded, projected
from .._inputs.labels import Labels, Names, by_condition, conditions_of, kind_of, order_of
from .._inputs.validation import require_memory
from .._model.metric import OFF_DIAGONAL, nuisance_matrix
from .._model.problem import Problem
from .._model.target import aligned
from .html import html_table
from .nouns import nouns_of
from .score import scored, sums_of

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Applied:
    """Gains of a fit, or a connectivity, applied to new responses X_new; prints itself as a short table.

    C is the predicted covariance, and S is the target of the new conditions. For a fit of T targets every
    array has a leading axis of length T, and every score is an array (T,). Scores are None if neither S nor
    responses were given.

    Attributes
    ----------
    covariance : ndarray, shape (D_new, D_new)
        C = X_newᵀ diag(z) J diag(z) X_new, with J as in the fit and I + W in place of diag(z) for a
        connectivity, plus βI + γ11ᵀ if the fit has nuisance terms, as in `Fit.prediction`; in units of X_new
        squared. All scores use this C.
    target : ndarray, shape (D_new, D_new), or None
        S, in the order of the conditions of X_new.
    conditions : tuple or None
        Names of the new conditions.
    r2 : float or None
        1 − ‖C − S‖²_F / ‖S‖²_F.
    r2_at_one : float or None
        The same for the baseline, gains of one or W = 0, with its own nuisance terms. If the fit counts only
        pairs off the diagonal, so do all three R².
    r2_over_one : float or None
        1 − ‖C − S‖²_F / ‖C(1) − S‖²_F. 0 is no better than gains of one; 1 is perfect.
    pearson : float or None
        Correlation of C and S over pairs of conditions, above the diagonal; NaN for fewer than three pairs.
    """

    covariance: Array
    target: Array | None
    conditions: Names | None
    r2: Any
    r2_at_one: Any
    r2_over_one: Any
    pearson: Any
    _change: Callable[[Array], Array]  # turns responses (N, D_new) into those of each target
    _targets: int | None  # the number of targets of a stack
    _problem: Problem
    _given: Any
    _at_one: str  # the baseline in words

    @property
    def responses(self) -> Any:
        """z_i x_i, or (I + W)X_new, shape (N, D_new) or (T, N, D_new), from X_new as it is at each access.

        If X_new is a DataFrame or DataArray, so is this, with the same names. For T targets a frame has rows
        (target, channel). It is float32 if X_new is.
        """
        N, D = self._problem.shape
        T = () if self._targets is None else (self._targets,)
        require_memory(
            8 * N * D * (2 + sum(T)), f"Responses of {N} x {D}", "apply the fit to fewer conditions at a time"
        )
        X = self._problem.unscaled(self._problem.responses(), x=1)
        values = self._change(X)
        kind, given = kind_of(self._given), self._given
        if kind == "pandas":
            pandas = sys.modules["pandas"]
            if not T:
                return pandas.DataFrame(values, index=given.index, columns=given.columns)
            frames = [pandas.DataFrame(each, index=given.index, columns=given.columns) for each in values]
            return pandas.concat(dict(enumerate(frames)), names=["target"])
        if kind == "xarray":
            if not T:
                return given.copy(data=values)
            return sys.modules["xarray"].concat([given.copy(data=each) for each in values], dim="target")
        return values

    def __repr__(self) -> str:
        rows = [f"  {name:<9}{value}" for name, value in self._rows()]
        return "\n".join([self._title(), *rows, *(f"  {note}" for note in self._notes())])

    def _repr_html_(self) -> str:
        return html_table(self._title(), self._rows(), notes=self._notes())

    def _title(self) -> str:
        N, D = self._problem.shape
        targets = "" if self._targets is None else f", {self._targets} targets"
        return f"Applied: {N} channels x {D} conditions{targets}"

    def _rows(self) -> list[tuple[str, str]]:
        if self.r2 is None:
            return []
        one, over_one = _mean(self.r2_at_one), _mean(self.r2_over_one)
        r2 = f"{_mean(self.r2)} ({one} at {self._at_one}), {over_one} over {self._at_one}"
        return [("R2", r2), ("pearson", _mean(self.pearson))]

    def _notes(self) -> list[str]:
        return ["no target to compare with: pass S or responses"] if self.r2 is None else []


def _mean(values: Any) -> str:
    return f"{np.mean(values):.4g}" + (" (mean)" if np.ndim(values) else "")


def apply(fit: Any, X_new: Any, S: Any, responses: Any) -> Applied:
    """Apply the gains of a fit to new responses, and score the prediction if there is a target."""
    problem, order = _new_responses(fit, X_new)
    gains = fit.gains
    if order is not None:
        gains[..., order] = fit.gains
    exact = problem.astype(np.float64)
    C = np.stack([exact.unscaled(exact.at(z).covariance(), y=2) for z in np.atleast_2d(gains)])

    def change(X: Array) -> Array:
        return np.asarray(gains[..., np.newaxis].astype(X.dtype) * X)

    return _scored(fit, X_new, problem, C, S, responses, change, stacked=gains.ndim == 2)


def apply_connectivity(found: Any, X_new: Any, S: Any, responses: Any, fitted: Problem) -> Applied:
    """Apply a connectivity, or gains with one, to new responses.

    With A = x̂ᵀX_new, P = Φ_D A and Q = X̃_zᵀ diag(z) X_new, J(diag(z) + W)X_new = J diag(z) X_new + X̃_z P has
    the covariance C_new(z) + QᵀP + PᵀQ + PᵀΓ_z P. Without gains z = 1.
    """
    problem, order = _new_responses(found, X_new)
    exact, D = problem.astype(np.float64), fitted.shape[1]
    new = exact.unscaled(exact.responses(), x=1)
    stacked = found._target.ndim == 3
    own_gains = np.atleast_2d(found.gains) if hasattr(found, "gains") else None
    if order is not None:
        new = new[order]
    rows = np.ascontiguousarray(new.T)
    A = projected(fitted, rows).T
    stack = found._stack()
    C, moved = np.empty((len(stack), new.shape[1], new.shape[1])), []
    for k, (each, phi) in enumerate(zip(C, stack, strict=True)):
        if own_gains is None:
            there, Q, at = fitted, A[:D], found._covariance_at_one
            own = exact.unscaled(exact.covariance(), y=2)
        else:
            z = own_gains[k]
            there = fitted.at(z)
            Q = projected(there, np.ascontiguousarray(rows * z)).T[:D]
            at = found._covariance_at_gains.reshape(-1, D, D)[k]
            placed = z if order is None else z[np.argsort(order)]
            own = exact.unscaled(exact.at(placed).covariance(), y=2)
        P = np.einsum("dp,pe->de", phi[:D], A)
        half = np.einsum("de,df->ef", Q + 0.5 * np.einsum("dg,ge->de", at, P), P)
        each[:] = own + half + half.T
        moved.append((there, np.einsum("pq,qe->ep", phi, A)))

    def change(X: Array) -> Array:
        values = np.array([expanded(*each).T for each in moved])
        values += new if own_gains is None else own_gains[..., np.newaxis] * new
        if order is not None:
            values = values[:, np.argsort(order)]
        return np.asarray(values.astype(X.dtype) if stacked else values[0].astype(X.dtype))

    return _scored(found, X_new, problem, C, S, responses, change, stacked=stacked)


def _new_responses(fit: Any, X_new: Any) -> tuple[Problem, Any]:
    """New responses, and the places of the fit's channels in them, if they are in another order."""
    problem = Problem.of(X_new, center=fit.stats["center"], name="X_new")
    N = fit.stats["shape"][0]
    channels = range(N) if fit.channels is None else fit.channels  # a fit without names numbers them
    order = order_of(problem.labels.rows, channels, "channel", "X_new", "the fit")
    if problem.shape[0] != N:
        raise ValueError(
            f"Argument 'X_new' must have the {N} channels of the fit as its rows, not {problem.shape[0]}: "
            "record the same channels, or transpose it."
        )
    return problem, order


def _scored(
    fit: Any, X_new: Any, problem: Problem, C: Array, S: Any, responses: Any,
    change: Callable[[Array], Array], *, stacked: bool,
) -> Applied:  # fmt: skip
    """The prediction C (T, D_new, D_new), without nuisance terms, with its scores if there is a target."""
    exact = problem.astype(np.float64)
    if fit.nuisance:
        C += nuisance_matrix(fit.nuisance, C.shape[-1])
    target, labels = None, problem.labels
    if S is not None and responses is not None:
        raise ValueError("Argument 'S' or 'responses' must be given, at most one of the two, not both.")
    if S is not None:
        labels = labels.with_conditions_from(conditions_of(S))
        S = by_condition("S", S, problem.labels, like="'X_new'")
        target = exact.unscaled(exact.target(S), y=2)
        if len(target) not in (1, len(C)):
            raise ValueError(
                f"Argument 'S' must be one target, or one for each of the {len(C)} of the fit, not "
                f"{len(target)}: apply a fit of as many targets."
            )
    elif responses is not None:
        labels = labels.with_conditions_from(Labels.of("responses", responses))
        target = _predicted(fit, problem, responses)[np.newaxis]
    one = slice(None) if stacked else 0
    scores: dict[str, Any] = dict.fromkeys(("r2", "r2_at_one", "r2_over_one", "pearson"))
    if target is not None:
        target = np.broadcast_to(target, C.shape)
        at_one = exact.unscaled(exact.covariance(), y=2)
        ones = np.broadcast_to(at_one, C.shape)
        if fit.nuisance:
            ones = ones + nuisance_matrix(fit.stats["nuisance_at_one"], C.shape[-1])
        counts = np.ones(C.shape[-2:])
        if fit.stats.get("pairs") == OFF_DIAGONAL:
            np.fill_diagonal(counts, 0.0)
        columns = {
            name: np.array([_score(name, c, s, counts) for c, s in zip(C, target, strict=True)])
            for name in ("r2", "pearson")
        }
        columns["r2_at_one"] = np.array(
            [_score("r2", b, s, counts) for b, s in zip(ones, target, strict=True)]
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            columns["r2_over_one"] = 1.0 - (1.0 - columns["r2"]) / (1.0 - columns["r2_at_one"])
        scores = {name: column[one] for name, column in columns.items()}
        target = target[one].copy()
    return Applied(
        covariance=C[one], target=target, conditions=labels.conditions, **scores, _change=change,
        _targets=len(C) if stacked else None, _problem=problem, _given=X_new,
        _at_one=nouns_of(fit.method).at_one,
    )  # fmt: skip


def _score(name: str, C: Array, S: Array, weights: Array) -> float:
    """Score of a predicted covariance against the target, over the pairs of conditions that count."""
    size = max(float(np.abs(C).max()), float(np.abs(S).max())) or 1.0  # products of any scale stay in range
    C, S, every = C / size, S / size, np.arange(len(S))
    sums, _ = sums_of(C, np.diagonal(C).copy(), S, weights, (every[:0], every), 0.0)
    return float(scored(name, sums))


def _predicted(fit: Any, problem: Problem, responses: Any) -> Array:
    """The target covariance from new responses, on the scale of the fitted target."""
    if "target_scale" not in fit.stats:
        raise ValueError(
            "Argument 'responses' must be left out where the fit was given S, not responses: the scale of "
            "its target is not known. Pass S, on the scale of that S."
        )
    output = Problem.of(
        aligned("responses", responses, problem.labels, "'X_new'"), center=problem.center, name="responses"
    )
    if output.shape[1] != problem.shape[1]:
        raise ValueError(
            f"Argument 'responses' must have the {problem.shape[1]} conditions of 'X_new', not "
            f"{output.shape[1]}: pass those of the same conditions."
        )
    exact = output.astype(np.float64)
    C: Array = exact.unscaled(exact.covariance(), y=2)
    return C * fit.stats["target_scale"]
