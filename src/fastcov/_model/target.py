"""covariance() and target_covariance(): covariances over conditions, as sums over channels."""

from __future__ import annotations

import dataclasses
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._inputs.labels import Labelled, Labels, conditions_of, like_matrix, order_of
from .._rows.responses import check_responses
from .._rows.rows import rows_of
from .problem import Problem

Array = NDArray[np.float64]


@overload
def covariance(X: NDArray[Any], *, gains: ArrayLike | None = None, center: bool = True) -> Array: ...
@overload
def covariance(X: Any, *, gains: ArrayLike | None = None, center: bool = True) -> Any: ...
def covariance(X: Any, *, gains: ArrayLike | None = None, center: bool = True) -> Any:
    """Covariance of responses over conditions, C = Xᵀ diag(z) J diag(z) X.

    X holds N channels and D conditions, z is a gain for each channel, and J removes the mean over channels.

    Parameters
    ----------
    X : array_like, shape (N, D)
        Responses: one row per channel, one column per condition.
    gains : array_like, shape (N,), optional
        Gains z, one per channel; ones by default.
    center : bool, default True
        Whether to remove the mean over channels, condition by condition (J = I − 11ᵀ/N). With ``False``,
        J = I and C is the "overlap" of the conditions.

    Returns
    -------
    ndarray, shape (D, D)
        Symmetric, in units of X squared. It is a sum over channels: divide by N or N − 1 for a mean. If X is
        a DataFrame or DataArray, so is the result, with the names of the conditions.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape.

    Notes
    -----
    It takes ND² flops, or twice that up to 128 conditions, where a kernel on all threads is faster. It needs
    8D² bytes and one block of rows beside X, which is not copied. The mean is subtracted before the product,
    so that a large common offset costs no digits. For float32 X, products within a block of rows are summed
    in float32, and the result is accurate to some 1e-6 of the largest entry.
    """
    problem = Problem.of(X, gains=gains, center=center)
    return like_matrix(problem.unscaled(problem.covariance(), y=2), X, problem.labels.columns)


@overload
def target_covariance(Y: NDArray[Any], *, like: ArrayLike | None = None, center: bool = True) -> Array: ...
@overload
def target_covariance(Y: Any, *, like: ArrayLike | None = None, center: bool = True) -> Any: ...
def target_covariance(Y: Any, *, like: Any = None, center: bool = True) -> Any:
    """Target covariance S from the responses Y of another population, on the scale of X's covariance.

    S = c · YᵀJY with c = tr(XᵀJX) / tr(YᵀJY), where J removes the mean over channels. So the number of
    channels and the units of the two recordings do not matter.

    Parameters
    ----------
    Y : array_like, shape (M, D)
        Responses of the other population to the same conditions, in the same order. The order may differ if
        both Y and `like` name their conditions (DataFrame, DataArray).
    like : array_like, shape (N, D), optional
        The input responses X, whose covariance gives the trace, and whose conditions give the order. Without
        it, c = 1.
    center : bool, default True
        As in `covariance`. It must be the same as in the fit.

    Returns
    -------
    ndarray, shape (D, D)
        Symmetric. If Y is a DataFrame or DataArray, so is the result, with the names of the conditions.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array, the conditions differ in number or in name, or Y does
        not vary over its channels (its covariance has no trace to match).

    Warns
    -----
    LabelWarning
        If the conditions of Y are in another order than those of `like`. They are aligned by name.

    Notes
    -----
    It takes the flops of `covariance` for Y, and 8ND for the trace of X's covariance.
    """
    if like is None:
        output = Problem.of(Y, center=center, name="Y")
        return like_matrix(output.unscaled(output.covariance(), y=2), Y, output.labels.columns)
    reference = Problem.of(like, center=center, name="like")
    S, _, _ = scaled_target(Y, reference)
    own = Labels.of("Y", Y)
    labels = own if reference.labels.columns is None else reference.labels.with_conditions_from(own)
    return like_matrix(S, Y, labels.columns)


def scaled_target(
    Y: Any, given: Problem, like: str = "'like'", *, name: str = "Y"
) -> tuple[Array, float, int]:
    """The target covariance of responses Y, its factor c, and the number M of Y's channels.

    It has the scale and the order of conditions of the problem `given`.
    """
    output = Problem.of(aligned(name, Y, given.labels, like), center=given.center, name=name)
    if output.shape[1] != given.shape[1]:
        raise ValueError(
            f"Argument '{name}' must have the {given.shape[1]} conditions of {like}, not {output.shape[1]}: "
            "is one of them conditions x channels?"
        )
    S: Array = output.unscaled(output.covariance(), y=2)
    trace = np.trace(S)
    if not trace > rounding_floor(output, output.shape[1]):
        raise ValueError(f"Argument '{name}' must vary over its channels, not have a covariance of zero.")
    scale = given.unscaled(given.trace(), y=2) / trace
    return S * scale, float(scale), output.shape[0]


def aligned(name: str, Y: Any, wanted: Labels, like: str = "'X'") -> Any:
    """Responses with their conditions in the order of the wanted labels, where both have names."""
    labels = Labels.of(name, Y)
    order = order_of(labels.columns, wanted.columns, "condition", name, like)
    if order is None:
        return Y
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
    def of(cls, S: Any, responses: Any, given: Problem, *, name: str = "responses") -> Target:
        """The target from either S or responses, of which exactly one is given; errors say `name`."""
        if responses is None:
            if S is None:
                raise TypeError(
                    "Argument 'S' must be a target covariance, not None: pass one, or responses=Y."
                )
            return cls(S, None, given.labels.with_conditions_from(conditions_of(S)))
        if S is not None:
            raise ValueError("Argument 'S' or 'responses' must be given, one of the two, not both.")
        responses = aligned(name, responses, given.labels)
        target, scale, M = scaled_target(responses, given, "'X'", name=name)
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
