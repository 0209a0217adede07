"""Responses in single trials, (trials, channels, conditions), and responses with missing values.

Both become what the rest of the library takes, responses (channels, conditions) without NaN, with a record of
what was done.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .labels import Axis, Labelled, Labels, kind_of, order_of, outside, trial_axis, without_names
from .validation import (
    LARGEST_EXPONENT,
    check_array,
    check_choice,
    check_form,
    check_unmasked,
    nonfinite,
    require_memory,
)

Array = NDArray[Any]
Floats = NDArray[np.float64]

AXES = ("trial", "channel", "condition")
POLICIES = ("raise", "omit-trials", "pairwise")
LEAVE_OUT = "leave out the channel or the condition, or use nan_policy='pairwise'"
LEAVE_OUT_CONDITION = "leave the condition out"


class MissingValuesWarning(UserWarning):
    """Responses had missing values, and their covariance was made of the cells that are there.

    The message says how many entries were missing, and how far the matrix was from a covariance of responses.
    """


@dataclasses.dataclass(frozen=True, eq=False)
class Averaged(Labelled):
    """Responses (channels, conditions) without NaN, with a record of the trials that they are the mean of.

    The record has ``n_trials``; ``noise_variance`` (D,), the variance of the mean over trials, in its mean
    over channels (NaN with one trial); ``missing``, how many values were missing; and ``n_channels``. With
    missing channels the values are others with the same covariance, and ``moved`` says how far it was moved.
    """

    record: dict[str, Any] = dataclasses.field(default_factory=dict)

    def ordered(self, order: NDArray[np.intp], conditions: Any) -> Averaged:
        """The same with its conditions in another order, and named so."""
        record = dict(self.record)
        if "noise_variance" in record:
            record["noise_variance"] = record["noise_variance"][order]
        return Averaged(self.values[:, order], self.channels, conditions, record)


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """Responses (trials, channels, conditions), in memory or in a file that is read trial by trial."""

    name: str
    values: Any
    labels: Labels

    @classmethod
    def of(cls, name: str, X: Any) -> Stack | None:
        """The stack of any array with three axes, or of a list of arrays with two; None for all others."""
        check_unmasked(name, X)
        if (axis := trial_axis(X, name)) is None:
            return None
        if isinstance(X, (list, tuple)):
            return cls._of_list(name, X)
        labels, values = Labels.of(name, X), X.values if isinstance(X, Labelled) else X
        if kind_of(X) == "xarray":
            values = X.data if axis == 0 else X.data.transpose(axis, *(i for i in range(3) if i != axis))
        library = sys.modules.get("dask.array")
        if library is not None and isinstance(values, library.Array):
            raise TypeError(
                f"Argument '{name}' must have two axes (channels, conditions) where it is a dask array, not "
                f"trials: pass {name}.mean(axis=0)."
            )
        if not isinstance(getattr(values, "dtype", None), np.dtype):
            values = check_array(name, values, AXES)
        check_form(name, values, AXES)
        return cls(name, values, labels)

    @classmethod
    def _of_list(cls, name: str, trials: Any) -> Stack:
        first = Labels.of(name, trials[0])
        values = [
            _ordered(f"{name}[{t}]", each, first, f"'{name}[0]'") if t else np.asarray(each)
            for t, each in enumerate(trials)
        ]
        if len(shapes := sorted({each.shape for each in values})) > 1:
            raise ValueError(
                f"Argument '{name}' must have the same channels and conditions in each trial, not shapes "
                f"{' and '.join(map(str, shapes[:2]))}: pass an array with NaN where there is no value."
            )
        stacked = np.stack(values)
        check_form(name, stacked, AXES)
        return cls(name, stacked, first)

    @property
    def shape(self) -> tuple[int, int, int]:
        T, M, D = self.values.shape
        return int(T), int(M), int(D)

    def trial(self, t: int) -> Floats:
        """The responses of one trial (channels, conditions) in float64."""
        return np.asarray(self.values[t], np.float64)

    def array(self) -> Floats:
        """All responses in float64, as a new array; infinite ones are refused."""
        require_memory(8 * int(np.prod(self.shape)), f"All trials of '{self.name}'", "average them first")
        out = np.empty(self.shape)
        for t, rows in enumerate(out):
            rows[...] = self.values[t]
        return out

    def invalid(self, values: Any) -> ValueError | None:
        """The error for what is not finite in `values`, which have the axes of this stack."""
        return nonfinite(self.name, values, AXES, (None, self.labels.channels, self.labels.conditions))


def _ordered(name: str, X: Any, wanted: Labels, like: str) -> Array:
    labels, values = Labels.of(name, X), np.asarray(X)
    rows = order_of(labels.rows, wanted.rows, "channel", name, like)
    columns = order_of(labels.columns, wanted.columns, "condition", name, like)
    values = values if rows is None else values[rows]
    return values if columns is None else values[:, columns]


def reduced(
    name: str, X: Any, nan_policy: str = "raise", *, center: bool = True, rows: str | None = None
) -> Any:
    """X, or where it has trials or missing values, `Averaged` responses with two axes.

    `rows` says what needs the rows of X, so that channels with missing values are refused: errors have it.
    """
    check_choice("nan_policy", nan_policy, POLICIES)
    stack = Stack.of(name, X)
    if stack is None:
        if nan_policy == "raise":
            return X
        check_unmasked(name, X)
        if not (isinstance(without_names(X), np.ndarray) or kind_of(X) or isinstance(X, (list, tuple))):
            return X  # outside memory; what is missing is found later, and is an error
        values, labels = np.asarray(X), Labels.of(name, X)
        if values.dtype.kind != "f" or values.ndim != 2 or not np.isnan(values).any():
            return X
        if nan_policy == "omit-trials":
            raise ValueError(_needs_trials(name, values, labels))
        return _without_missing(name, np.asarray(values, np.float64), labels, {}, center, rows)
    mean, record = averaged(stack, nan_policy)
    if record["missing"] and np.isnan(mean).any():
        return _without_missing(name, mean, stack.labels, record, center, rows)
    return Averaged(mean, stack.labels.rows, stack.labels.columns, record)


def missing_in(name: str, values: Floats, labels: Labels, nan_policy: str) -> int:
    """How many values of an array, whose last axes are channels and conditions, are missing.

    Raises if that is not allowed, or a value is infinite.
    """
    if np.isfinite(values).all():
        return 0
    axes, names = AXES[-values.ndim :], (None, labels.channels, labels.conditions)[-values.ndim :]
    if nan_policy == "raise" or np.isinf(values).any():
        if nan_policy != "raise":
            values = np.where(np.isnan(values), 0.0, values)
        error = nonfinite(name, values, axes, names)
        remedy = "see nan_policy" if nan_policy == "raise" else "only NaN is a missing value"
        raise ValueError(f"{str(error)[:-1]}: {remedy}.")
    there: NDArray[Any] = ~np.isnan(values)
    if values.ndim == 3:
        there = np.any(there, axis=0)
    elif nan_policy == "omit-trials":
        raise ValueError(_needs_trials(name, values, labels))
    if not there.all() and (nan_policy == "omit-trials" or not there.any(axis=0).all()):
        where = "in every trial " if values.ndim == 3 else ""
        gone = np.where(there, 0.0, np.nan)
        raise ValueError(f"{_missing(name, gone, labels, where)}: {_remedy(gone)}.")
    return int(np.isnan(values).sum())


def averaged(stack: Stack, nan_policy: str) -> tuple[Floats, dict[str, Any]]:
    """The mean over trials (channels, conditions), and its record. NaN where all trials are missing.

    Two passes over the trials, and three arrays of the size of one.
    """
    T, M, D = stack.shape
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.zeros((M, D))
        for t in range(T):
            total += stack.trial(t)
    counts: Any = T
    missing = 0
    if not np.isfinite(total).all():
        if nan_policy == "raise":
            error = stack.invalid(stack.array())
            raise ValueError(
                f"{str(error)[:-1]}: nan_policy='omit-trials' takes the mean over the trials that are there."
            )
        total, counts = np.zeros((M, D)), np.zeros((M, D))
        for t in range(T):
            values = stack.trial(t)
            there = ~np.isnan(values)
            total += np.where(there, values, 0.0)
            counts += there
        if not np.isfinite(total).all():
            values = stack.array()
            error = stack.invalid(np.where(np.isnan(values), 0.0, values))
            raise ValueError(f"{str(error)[:-1]}: only NaN is a missing value.")
        missing = int(T * M * D - counts.sum())
        if nan_policy == "omit-trials" and not counts.all():
            never = np.where(counts > 0, 0.0, np.nan)
            said = _missing(stack.name, never, stack.labels, "in every trial ")
            raise ValueError(f"{said}: {_remedy(never)}.")
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / counts
    noise = np.full(D, np.nan)
    if T > 1:
        squares = np.zeros((M, D))
        for t in range(T):
            left = stack.trial(t) - mean
            with np.errstate(over="ignore"):  # what is so large is refused where the mean is taken
                squares += np.square(np.where(np.isnan(left), 0.0, left) if missing else left)
        known = np.broadcast_to(np.asarray(counts) > 1, (M, D))
        spread = np.where(known, squares / np.maximum(counts * (np.asarray(counts) - 1.0), 1.0), 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            noise = spread.sum(axis=0) / known.sum(axis=0)
    single = stack.values.dtype.kind == "f" and stack.values.dtype.itemsize <= 4
    record = {"n_trials": T, "n_channels": M, "noise_variance": noise, "missing": missing}
    return (mean.astype(np.float32) if single and not missing else mean), record


def _needs_trials(name: str, values: Array, labels: Labels) -> str:
    if np.isnan(values).all(axis=0).any():
        return f"{_missing(name, values, labels)}: {LEAVE_OUT_CONDITION}."
    return (
        f"{_missing(name, values, labels)}: nan_policy='omit-trials' needs trials, an array (trials, "
        "channels, conditions). Use 'pairwise' for the covariance of the channels that are there."
    )


def _remedy(values: Array) -> str:
    """What to do without values: a condition that no channel has cannot be had by pairs either."""
    return LEAVE_OUT_CONDITION if np.isnan(values).all(axis=0).any() else LEAVE_OUT


def _missing(name: str, values: Array, labels: Labels, where: str = "") -> str:
    """What is wrong: how many values are missing, and where; for a whole condition, which one."""
    empty = np.flatnonzero(np.isnan(values).all(axis=0))
    names: Axis | None = labels.conditions
    if len(empty):
        j = int(empty[0])
        called = "" if names is None else f" ({names[j]!r})"
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        return (
            f"Argument '{name}' must have a value of some channel in each condition, not NaN in all of "
            f"condition {j}{called}{more} (counted from 0)"
        )
    bad = np.argwhere(np.isnan(values))
    i, j = bad[0]
    channel = "" if labels.channels is None else f" ({labels.channels[i]!r})"
    condition = "" if names is None else f" ({names[j]!r})"
    places = "1 place" if len(bad) == 1 else f"{len(bad)} places"
    return (
        f"Argument '{name}' must have a value for each channel and condition, not NaN {where}in {places}, "
        f"first at channel {i}{channel}, condition {j}{condition} (counted from 0)"
    )


# ---- covariances of the channels that are there


def _without_missing(
    name: str, values: Floats, labels: Labels, record: dict[str, Any], center: bool, rows: str | None
) -> Averaged:
    """Responses whose covariance is that of the channels that are there, projected; a warning says so."""
    M, D = values.shape
    gone = int(np.isnan(values).sum())
    if np.isinf(values).any():
        raise ValueError(f"Argument '{name}' must be finite or NaN, not infinite: only NaN is missing.")
    if rows is not None or np.isnan(values).all(axis=0).any():
        remedy = f"{rows}: fill them, or leave out these channels" if rows else LEAVE_OUT_CONDITION
        raise ValueError(f"{_missing(name, values, labels)}: {remedy}.")
    there = ~np.isnan(values)
    filled = np.where(there, values, 0.0)
    size = max(float(filled.max()), -float(filled.min()))
    if size > 0 and not 2.0**-LARGEST_EXPONENT < size < 2.0**LARGEST_EXPONENT:
        raise ValueError(
            f"Argument '{name}' must lie between 1e-72 and 1e+72 in magnitude, not near {size:.3g}: "
            "rescale it."
        )
    exponent = math.frexp(size)[1]  # of 2: so no square leaves the range of float64, and nothing is rounded
    C = pairwise_covariance(name, np.ldexp(filled, -exponent), there.astype(np.float64), center, labels)
    # A mean of M values has as many roundings; the covariance of two channels counts as that of M.
    if not np.trace(C) > 2.0 * M * D * ((M + 8.0) * np.finfo(np.float64).eps) ** 2:
        needed = "vary over its channels" if center else "have responses other than 0"
        raise ValueError(
            f"Argument '{name}' must {needed}, not have a covariance of zero: pass channels that respond"
            + (" differently." if center else ".")
        )
    factor, moved = nearest_factor(C)
    warnings.warn(
        f"Argument '{name}' has {gone} missing values of {M * D}: the covariance of each pair of conditions "
        f"is of the channels with both. It was moved by {moved:.2g} of its norm to the nearest positive "
        "semi-definite matrix.",
        MissingValuesWarning,
        stacklevel=outside(),
    )
    # Rows r and -r: their mean is zero, so that the covariance is the same with and without centring.
    factor *= math.ldexp(math.sqrt(0.5), exponent)
    record = {"missing": gone, "n_channels": M} | record | {"moved": moved}
    return Averaged(np.concatenate([factor, -factor]), None, labels.columns, record)


def pairwise_covariance(
    name: str, values: Floats, there: Floats, center: bool, labels: Labels | None = None, where: str = ""
) -> Floats:
    """C_ij of the channels with both conditions, as if all M channels had been there; need not be definite.

    With n the channels with both and m their means, C_ij = (M − 1)/(n − 1) Σ (y_i − m_i)(y_j − m_j), or
    M/n Σ y_i y_j without centring. `values` must be zero where `there` is. 6MD² flops.
    """
    M = len(values)
    if center:  # by the mean of each condition, so that little is cancelled below
        values = (values - values.sum(axis=0) / np.maximum(there.sum(axis=0), 1.0)) * there
    n = blas.product(there, there, ta=True)
    C = blas.product(values, values, ta=True)
    least = 1 + center
    if (n < least).any():
        i, j = np.argwhere(n < least)[0]
        names = None if labels is None else labels.conditions
        called = "" if names is None else f" ({names[i]!r} and {names[j]!r})"
        raise ValueError(
            f"Argument '{name}' must have {least} channels or more with both conditions of a pair{where}, "
            f"not {int(n[i, j])} for conditions {i} and {j}{called}: leave one out."
        )
    if center:
        sums = blas.product(values, there, ta=True)  # of condition i, over the channels with j
        C -= sums * sums.T / n
        C *= (M - 1.0) / (n - 1.0)
    else:
        C *= M / n
    return np.asarray(0.5 * (C + C.T))


def nearest_factor(C: Floats) -> tuple[Floats, float]:
    """R with RᵀR the positive semi-definite matrix nearest to C, and its distance over the norm of C.

    In the Frobenius norm it is C with its negative eigenvalues set to zero: Higham, "Computing a nearest
    symmetric positive semidefinite matrix" (1988), theorem 2.1. 9D³ flops.
    """
    vectors = np.array(C, order="C")
    values = blas.eigh(vectors)
    size = float(np.sqrt(np.square(values).sum()))
    moved = float(np.sqrt(np.square(np.minimum(values, 0.0)).sum())) / size if size > 0 else 0.0
    kept = values > 0
    return vectors[kept] * np.sqrt(values[kept])[:, np.newaxis], moved
