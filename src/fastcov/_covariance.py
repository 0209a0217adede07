"""covariance() and target_covariance(): covariances over conditions, of sums over channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._problem import Problem


def covariance(X: ArrayLike, *, gains: ArrayLike | None = None, center: bool = True) -> NDArray[np.float64]:
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
        Symmetric, in units of X squared. It is a sum over channels: divide by N or N − 1 for a mean.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape.

    Notes
    -----
    ND² flops; 8D² bytes and one block of rows beside X, which is not copied. The mean is subtracted
    before the product, so that a large common offset costs no digits. For float32 X products within a
    block of rows are summed in float32: good to some 1e-6 of the largest entry.
    """
    problem = Problem.of(X, gains=gains, center=center)
    return problem.unscaled(problem.covariance(), y=2)


def target_covariance(
    Y: ArrayLike, *, like: ArrayLike | None = None, center: bool = True
) -> NDArray[np.float64]:
    """Target covariance S from the responses of another population, on the scale of X's.

    S = c · YᵀJY with c = tr(XᵀJX) / tr(YᵀJY), so that the number of channels and the units of the
    two recordings do not matter.

    Parameters
    ----------
    Y : array_like, shape (M, D)
        Responses of the other population to the same conditions in the same order.
    like : array_like, shape (N, D), optional
        The input responses X whose covariance gives the trace. Without it c = 1.
    center : bool, default True
        As in `covariance`; the same as in the fit.

    Returns
    -------
    ndarray, shape (D, D)

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array, the conditions differ in number, or Y does not
        vary over its channels (its covariance has no trace to match).

    Notes
    -----
    (M + N)D² flops at most.
    """
    output = Problem.of(Y, center=center, name="Y")
    S: NDArray[np.float64] = output.unscaled(output.covariance(), y=2)
    if like is None:
        return S
    reference = Problem.of(like, center=center, name="like")
    if output.shape[1] != reference.shape[1]:
        raise ValueError(
            f"Argument 'Y' must have the {reference.shape[1]} conditions of 'like', not {output.shape[1]}."
        )
    trace = np.trace(S)
    if not trace > dust(output, output.shape[1]):
        raise ValueError("Argument 'Y' must vary over its channels, not have a covariance of zero.")
    wanted = reference.unscaled(np.trace(reference.covariance()), y=2)
    return S * (wanted / trace)


def target_of(S: ArrayLike | None, responses: ArrayLike | None, X: ArrayLike, center: bool) -> ArrayLike:
    """What a fit was given of the two: S, or the responses whose target covariance it is."""
    if responses is None:
        if S is None:
            raise TypeError("Argument 'S' must be a target covariance, not None: pass one, or responses=Y.")
        return S
    if S is not None:
        raise ValueError("Argument 'S' or 'responses' must be given, one of the two, not both.")
    return target_covariance(responses, like=X, center=center)


def dust(problem: Problem, n_conditions: int) -> float:
    """The trace that rounding may leave of so many conditions, to which all channels respond alike."""
    return (
        problem.shape[0]
        * n_conditions
        * float(problem.unscaled(problem.dust * problem.sizes.max(), x=1)) ** 2
    )
