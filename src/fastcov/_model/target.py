"""covariance() and target_covariance(): covariances over conditions, of sums over channels."""

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
    """Covariance over conditions of responses, C = Xᵀ diag(z) J diag(z) X.

    Parameters
    ----------
    X : array_like, shape (N, D)
        Responses: one row a channel, one column a condition.
    gains : array_like, shape (N,), optional
        One gain z a channel; ones by default.
    center : bool, default True
        Remove the mean over channels, condition by condition (J = I − 11ᵀ/N). With ``False``, J = I
        and C is the "overlap" of the conditions.

    Returns
    -------
    ndarray, shape (D, D)
        Symmetric, in units of X squared. It is a sum over channels: divide by N or N − 1 for a mean. A
        DataFrame or DataArray with the names of the conditions, where X is one.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape.

    Notes
    -----
    ND² flops, and twice that up to 128 conditions, where a kernel on all threads is faster; 8D² bytes and one
    block of rows beside X, which is not copied. The mean is subtracted
    before the product, so that a large common offset costs no digits. For float32 X products within a
    block of rows are summed in float32: good to some 1e-6 of the largest entry.
    """
    problem = Problem.of(X, gains=gains, center=center)
    return like_matrix(problem.unscaled(problem.covariance(), y=2), X, problem.labels.columns)


@overload
def target_covariance(Y: NDArray[Any], *, like: ArrayLike | None = None, center: bool = True) -> Array: ...
@overload
def target_covariance(Y: Any, *, like: ArrayLike | None = None, center: bool = True) -> Any: ...
def target_covariance(Y: Any, *, like: Any = None, center: bool = True) -> Any:
    """Target covariance S from the responses of another population, on the scale of X's.

    S = c · YᵀJY with c = tr(XᵀJX) / tr(YᵀJY), so that the number of channels and the units of the
    two recordings do not matter.

    Parameters
    ----------
    Y : array_like, shape (M, D)
        Responses of the other population to the same conditions: in the same order, or where both have
        names for them (DataFrame, DataArray) in any.
    like : array_like, shape (N, D), optional
        The input responses X whose covariance gives the trace, and whose conditions give the order. Without
        it c = 1.
    center : bool, default True
        As in `covariance`; the same as in the fit.

    Returns
    -------
    ndarray, shape (D, D)
        A DataFrame or DataArray with the names of the conditions, where Y is one.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array, the conditions differ in number or in name, or Y does
        not vary over its channels (its covariance has no trace to match).

    Warns
    -----
    LabelWarning
        If the conditions of Y are in another order than those of `like`: they are aligned by name.

    Notes
    -----
    The flops of `covariance` for Y, and 8ND for the trace of X's.
    """
    if like is None:
        output = Problem.of(Y, center=center, name="Y")
        return like_matrix(output.unscaled(output.covariance(), y=2), Y, output.labels.columns)
    reference = Problem.of(like, center=center, name="like")
    S, _, _ = scaled_target(Y, reference)
    own = Labels.of("Y", Y)
    labels = own if reference.labels.columns is None else reference.labels.or_conditions(own)
    return like_matrix(S, Y, labels.columns)


def scaled_target(
    Y: Any, given: Problem, like: str = "'like'", *, name: str = "Y"
) -> tuple[Array, float, int]:
    """The target covariance of responses, on the scale and in the order of those given; its c; and M."""
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
    """Responses with their conditions in the order of the wanted ones, where both have names."""
    labels = Labels.of(name, Y)
    order = order_of(labels.columns, wanted.columns, "condition", name, like)
    if order is None:
        return Y
    values = rows_of(check_responses(name, Y)).columns(order)
    return Labelled(values, labels.rows, wanted.columns)


@dataclasses.dataclass(frozen=True)
class Target:
    """What a fit was given of the two: S, or the responses whose target covariance it is."""

    S: Any
    scale: float | None  # c of the responses
    labels: Labels  # conditions that have names in S or the responses alone
    n_responses: int | None = None  # channels of the responses

    @classmethod
    def of(cls, S: Any, responses: Any, given: Problem, *, name: str = "responses") -> Target:
        """One of the two; errors call the responses `name`."""
        if responses is None:
            if S is None:
                raise TypeError(
                    "Argument 'S' must be a target covariance, not None: pass one, or responses=Y."
                )
            return cls(S, None, given.labels.or_conditions(conditions_of(S)))
        if S is not None:
            raise ValueError("Argument 'S' or 'responses' must be given, one of the two, not both.")
        responses = aligned(name, responses, given.labels)
        target, scale, M = scaled_target(responses, given, "'X'", name=name)
        return cls(target, scale, given.labels.or_conditions(Labels.of(name, responses)), M)

    @property
    def stats(self) -> dict[str, Any]:
        """What a fit keeps of responses, for the prediction of other conditions and to say what they were."""
        if self.scale is None:
            return {}
        return {"target_scale": self.scale, "n_responses": self.n_responses}


def rounding_floor(problem: Problem, n_conditions: int) -> float:
    """The trace that rounding may leave of so many conditions, to which all channels respond alike."""
    return (
        problem.shape[0]
        * n_conditions
        * float(problem.unscaled(problem.rounding_floor * problem.sizes.max(), x=1)) ** 2
    )
