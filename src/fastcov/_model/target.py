"""covariance() and target_covariance(): covariances over conditions, as sums over channels."""

from __future__ import annotations

import dataclasses
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._inputs.labels import Labelled, Labels, conditions_of, like_matrix, order_of
from .._inputs.validation import check_choice
from .._rows.responses import check_responses, over_trials
from .._rows.rows import rows_of
from .problem import Problem

Array = NDArray[np.float64]


# How trials become a target.
TRIALS = ("mean", "cross")
# Why X may not have channels without a response to some condition.
ALL_NEEDED = "gains need all responses of a channel"


@overload
def covariance(
    X: NDArray[Any], *, gains: ArrayLike | None = None, center: bool = True, nan_policy: str = "raise"
) -> Array: ...
@overload
def covariance(
    X: Any, *, gains: ArrayLike | None = None, center: bool = True, nan_policy: str = "raise"
) -> Any: ...
def covariance(
    X: Any, *, gains: ArrayLike | None = None, center: bool = True, nan_policy: str = "raise"
) -> Any:
    """Covariance of responses over conditions, C = Xᵀ diag(z) J diag(z) X.

    X holds N channels and D conditions, z is a gain for each channel, and J removes the mean over channels.

    Parameters
    ----------
    X : array_like, shape (N, D) or (trials, N, D)
        Responses: one row per channel, one column per condition. Trials are averaged.
    gains : array_like, shape (N,), optional
        Gains z, one per channel; ones by default.
    center : bool, default True
        Whether to remove the mean over channels, condition by condition (J = I − 11ᵀ/N). With ``False``,
        J = I and C is the "overlap" of the conditions.
    nan_policy : {"raise", "omit-trials", "pairwise"}
        What to do with missing values, as for `target_covariance`. "pairwise" takes no gains.

    Returns
    -------
    ndarray, shape (D, D)
        Symmetric, in units of X squared. It is a sum over channels: divide by N or N − 1 for a mean. If X is
        a DataFrame or DataArray, so is the result, with the names of the conditions.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape, or as `nan_policy` has it.

    Warns
    -----
    MissingValuesWarning
        If covariances are of the channels that are there.

    Notes
    -----
    It takes ND² flops, or twice that up to 128 conditions, where a kernel on all threads is faster. It needs
    8D² bytes and one block of rows beside X, which is not copied. The mean is subtracted before the product,
    so that a large common offset costs no digits. For float32 X, products within a block of rows are summed
    in float32, and the result is accurate to some 1e-6 of the largest entry.
    """
    needed = None if gains is None else ALL_NEEDED
    problem = Problem.of(
        over_trials("X", X, nan_policy, center=center, rows=needed), gains=gains, center=center
    )
    return like_matrix(problem.unscaled(problem.covariance(), y=2), X, problem.labels.columns)


@overload
def target_covariance(
    Y: NDArray[Any], *, like: ArrayLike | None = None, center: bool = True, trials: str = "mean",
    nan_policy: str = "raise",
) -> Array: ...  # fmt: skip
@overload
def target_covariance(
    Y: Any, *, like: ArrayLike | None = None, center: bool = True, trials: str = "mean",
    nan_policy: str = "raise",
) -> Any: ...  # fmt: skip
def target_covariance(
    Y: Any, *, like: Any = None, center: bool = True, trials: str = "mean", nan_policy: str = "raise"
) -> Any:
    """Target covariance S from the responses Y of another population, on the scale of X's covariance.

    S = c · YᵀJY with c = tr(XᵀJX) / tr(YᵀJY), where J removes the mean over channels. So the number of
    channels and the units of the two recordings do not matter.

    Parameters
    ----------
    Y : array_like, shape (M, D) or (trials, M, D)
        Responses of the other population to the same conditions, in the same order. The order may differ if
        both Y and `like` name their conditions (DataFrame, DataArray). Trials are the first axis, or the
        dimension of a DataArray that has the name "trial" or "repeat"; a list of arrays is one of trials.
    like : array_like, shape (N, D) or (trials, N, D), optional
        The input responses X, whose covariance gives the trace, and whose conditions give the order. Without
        it, c = 1.
    center : bool, default True
        As in `covariance`. It must be the same as in the fit.
    trials : {"mean", "cross"}
        How T trials Y_t become a covariance. "mean": the covariance of their mean Ȳ, to whose variances noise
        adds its own over T, and to whose covariances what noise of two conditions has in common. "cross":
        the mean of Y_sᵀ J Y_t over all pairs of different trials, ((ΣY)ᵀJ(ΣY) − Σ Y_tᵀJY_t) / (T(T − 1)), to
        which noise that is independent from trial to trial adds nothing in the mean. It is symmetric, but it
        need not be positive semi-definite, and single entries are as noisy as before.
    nan_policy : {"raise", "omit-trials", "pairwise"}
        What to do with NaN. "raise": it is an error. "omit-trials": the mean is over the trials that are
        there, of which each channel and condition needs one. "pairwise": in addition, a channel without any
        for some condition is left out of the pairs with this condition. C_ij then is of the channels with
        both, times (M − 1) / (n_ij − 1) for n_ij such channels (M / n_ij without centring), and the matrix is
        projected to the nearest positive semi-definite one.

    Returns
    -------
    ndarray, shape (D, D)
        Symmetric. If Y is a DataFrame or DataArray, so is the result, with the names of the conditions.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array, the conditions differ in number or in name, or Y does
        not vary over its channels (its covariance has no trace to match); if trials are needed and there are
        none, or have nothing in common; if values are missing that `nan_policy` cannot do without.

    Warns
    -----
    MissingValuesWarning
        If covariances are of the channels that are there: how many values are missing, and how far the
        projection moved the matrix.
    LabelWarning
        If the conditions of Y are in another order than those of `like`. They are aligned by name.

    Notes
    -----
    It takes the flops of `covariance` for Y (T + 1 times for "cross"), and 8ND for the trace of X's
    covariance. For the projection see Higham, "Computing a nearest symmetric positive semidefinite matrix"
    (1988), theorem 2.1.
    """
    check_choice("trials", trials, TRIALS)
    given = Y if trials == "cross" else over_trials("Y", Y, nan_policy, center=center)
    if like is None:
        cross = trials == "cross"
        found = Measured.across("Y", Y, center, nan_policy) if cross else Measured.of("Y", given, center)
        return like_matrix(found.covariance, Y, found.labels.columns)
    reference = Problem.of(like, center=center, name="like")
    S, _, _ = scaled_target(given, reference, trials=trials, nan_policy=nan_policy)
    own = Labels.of("Y", given)
    labels = own if reference.labels.columns is None else reference.labels.with_conditions_from(own)
    return like_matrix(S, Y, labels.columns)


@dataclasses.dataclass(frozen=True)
class Measured:
    """The covariance (D, D) of responses, in their units and order, and what is known of it."""

    covariance: Array
    labels: Labels
    floor: float  # the largest trace that rounding may leave
    n_channels: int

    @classmethod
    def of(cls, name: str, Y: Any, center: bool) -> Measured:
        """The covariance of responses, of the mean of those in trials."""
        output = Problem.of(Y, center=center, name=name)
        C = output.unscaled(output.covariance(), y=2)
        M = output.shape[0] if (record := record_of(Y)) is None else record["n_channels"]
        return cls(C, output.labels, rounding_floor(output, output.shape[1]), M)

    @classmethod
    def across(cls, name: str, Y: Any, center: bool, nan_policy: str) -> Measured:
        """The mean covariance of pairs of different trials."""
        from .._inputs.trials import Stack  # few need it

        stack = Stack.of(name, Y)
        if stack is None or stack.shape[0] < 2:
            found = "without trials" if stack is None else "of one trial"
            raise ValueError(
                f"Argument '{name}' must be (trials, channels, conditions), with two trials or more, for "
                f"trials='cross', not {found}: use trials='mean'."
            )
        T, M, _ = stack.shape
        total = np.zeros(stack.shape[1:])
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(T):
                total += stack.trial(t)
        if not np.isfinite(total).all() and (error := stack.invalid(stack.array())):
            remedy = "" if nan_policy == "raise" else ": trials='cross' needs all values; use trials='mean'"
            raise ValueError(f"{str(error)[:-1]}{remedy}.")
        whole = cls.of(name, total, center)
        S = whole.covariance
        for t in range(T):
            S = S - cls.of(name, stack.trial(t), center).covariance
        return cls(S / (T * (T - 1)), stack.labels, whole.floor / (T * (T - 1)), M)


def scaled_target(
    Y: Any,
    given: Problem,
    like: str = "'like'",
    *,
    name: str = "Y",
    trials: str = "mean",
    nan_policy: str = "raise",
) -> tuple[Array, float, int]:
    """The target covariance of responses Y, its factor c, and the number M of Y's channels.

    It has the scale and the order of conditions of the problem `given`.
    """
    cross = trials == "cross"
    if cross:
        found = Measured.across(name, Y, given.center, nan_policy)
    else:
        found = Measured.of(name, aligned(name, Y, given.labels, like), given.center)
    S = found.covariance
    if len(S) != given.shape[1]:
        raise ValueError(
            f"Argument '{name}' must have the {given.shape[1]} conditions of {like}, not {len(S)}: "
            "is one of them conditions x channels?"
        )
    if cross:
        order = order_of(found.labels.columns, given.labels.columns, "condition", name, like)
        S = S if order is None else S[np.ix_(order, order)]
    trace = np.trace(S)
    if not trace > found.floor:
        if cross:
            raise ValueError(
                f"Argument '{name}' must have trials that agree for trials='cross', not a covariance across "
                f"trials with a trace of {trace:.3g}: use trials='mean', and see fastcov.noise_ceiling."
            )
        raise ValueError(f"Argument '{name}' must vary over its channels, not have a covariance of zero.")
    scale = given.unscaled(given.trace(), y=2) / trace
    return S * scale, float(scale), found.n_channels


def record_of(Y: Any) -> dict[str, Any] | None:
    """What is known of the trials and missing values of responses; None where they have neither."""
    return getattr(Y, "record", None)


def records(**given: Any) -> dict[str, Any]:
    """The entry ``"trials"`` of stats, with the record of each argument that has one; empty without any."""
    found = {name: record for name, Y in given.items() if (record := record_of(Y)) is not None}
    return {"trials": found} if found else {}


def aligned(name: str, Y: Any, wanted: Labels, like: str = "'X'", *, quiet: bool = False) -> Any:
    """Responses with their conditions in the order of the wanted labels, where both have names."""
    labels = Labels.of(name, Y)
    order = order_of(labels.columns, wanted.columns, "condition", name, like, quiet=quiet)
    if order is None:
        return Y
    if record_of(Y) is not None:
        return Y.ordered(order, wanted.columns)
    values = rows_of(check_responses(name, Y)).columns(order)
    return Labelled(values, labels.rows, wanted.columns)


@dataclasses.dataclass(frozen=True)
class Target:
    """The target of a fit: S as given, or the target covariance of the responses that were given."""

    S: Any
    scale: float | None  # the factor c, if responses were given
    labels: Labels  # those of X, with conditions that only S or the responses name
    n_responses: int | None = None  # channels of the responses

    @classmethod
    def of(
        cls, S: Any, responses: Any, given: Problem, *, name: str = "responses", trials: str = "mean"
    ) -> Target:
        """The target from either S or responses, of which exactly one is given; errors say `name`."""
        if responses is None:
            if S is None:
                raise TypeError(
                    "Argument 'S' must be a target covariance, not None: pass one, or responses=Y."
                )
            return cls(S, None, given.labels.with_conditions_from(conditions_of(S)))
        if S is not None:
            raise ValueError("Argument 'S' or 'responses' must be given, one of the two, not both.")
        if trials == "mean":
            responses = aligned(name, responses, given.labels)
        target, scale, M = scaled_target(responses, given, "'X'", name=name, trials=trials)
        return cls(target, scale, given.labels.with_conditions_from(Labels.of(name, responses)), M)

    @property
    def stats(self) -> dict[str, Any]:
        """Scale and number of the responses, which a fit keeps for predictions and for its description."""
        if self.scale is None:
            return {}
        return {"target_scale": self.scale, "n_responses": self.n_responses}


def rounding_floor(problem: Problem, n_conditions: int) -> float:
    """The trace that rounding may leave of `n_conditions` conditions to which all channels respond alike."""
    return (
        problem.shape[0]
        * n_conditions
        * float(problem.unscaled(problem.rounding_floor * problem.sizes.max(), x=1)) ** 2
    )
