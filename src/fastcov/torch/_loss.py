"""The exact loss of gains as a PyTorch operation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .._compute import blas
from .._inputs.validation import check_array
from .._model.problem import Problem
from .._model.products import apply_adjoint
from .._model.ridge_penalty import Penalty
from ._tensors import checked, constant, isolated_from_torch, scalar

Array = NDArray[Any]


@isolated_from_torch
def loss(X: Tensor, S: Tensor, gains: Tensor, *, ridge: Any = 0.0, center: bool = True) -> Tensor:
    """Return the exact loss of gains, L(z) = ½‖Xᵀ diag(z) J diag(z) X − S‖²_F + (λ/2)‖z − 1‖².

    J removes the mean over channels. With Ỹ = J diag(z) X and E = ỸᵀỸ − S, the gradients are

        ∂L/∂z = 2 rowsum(X ∘ (ỸE)) + λ(z − 1)      ∂L/∂X = 2 diag(z) ỸE      ∂L/∂S = −E

    Parameters
    ----------
    X : Tensor, shape (N, D)
        Responses: one row per channel, one column per condition. (A layer returns the transpose: pass
        ``h.T``.)
    S : Tensor, shape (D, D)
        Target covariance, symmetric.
    gains : Tensor, shape (N,)
        z. For many candidates at once, see `fastcov.loss_and_gradient`.
    ridge : float, array_like or Tensor, default 0.0
        λ ≥ 0, λ of each channel, or Γ, as for `fastcov.loss`; no gradient passes through it.
    center : bool, default True
        Whether to remove the mean over channels before taking the covariance.

    Returns
    -------
    Tensor, shape ()
        L, in units of X to the fourth and in the result_dtype of the dtypes.

    Raises
    ------
    TypeError, ValueError
        If a tensor is not dense, real, floating and on the CPU, of the right shape and finite; if S is not
        symmetric, or λ < 0.
    RuntimeError
        In `backward`, if a graph of the gradients is requested (``create_graph=True``).

    Notes
    -----
    ND² flops (twice that up to 128 conditions), and 2ND² each for the gradients with respect to X and
    gains. Gradients are computed together with the value, but only those that are requested. Memory is needed
    for these gradients, a block of rows, and a D × D matrix.

    Examples
    --------
    >>> import torch, fastcov.torch as fct
    >>> X = torch.tensor([[1.0, 2.0], [3.0, 4.0], [2.0, 0.0]])
    >>> gains = torch.ones(3, requires_grad=True)
    >>> fct.loss(X, torch.eye(2), gains).backward()
    >>> gains.grad
    tensor([-10., 158., -16.])
    """
    tensors = checked("X", X), checked("S", S), checked("gains", gains)
    ridges = constant("ridge", ridge)

    def evaluate(needed: tuple[bool, ...], X: Array, S: Array, z: Array) -> tuple[float, Any]:
        return _evaluate(needed, X, S, z, ridges, center)

    return scalar(evaluate, *tensors)


def _evaluate(
    needed: tuple[bool, ...], X: Array, S: Array, z: Array, ridge: Any, center: bool
) -> tuple[float, tuple[Array | None, ...]]:
    """Compute the loss, and those of its gradients with respect to X, S and z that are needed."""
    of_X, of_S, of_z = needed
    problem = Problem.of(X, gains=z, center=center)
    penalty = Penalty.of("ridge", ridge, len(X))
    error = problem.covariance() - problem.target(check_array("S", S, ("condition", "condition")))[0]
    delta = z.astype(np.float64) - 1.0
    dX, dS, dz = None, None, None
    with np.errstate(over="ignore"):  # numbers beyond the range of a dtype become infinite
        value = float(problem.unscaled(0.5 * np.square(error).sum(), y=4) + 0.5 * penalty.quadratic(delta))
        if of_X:
            dX = _by_responses(problem, error)
        if of_S:
            dS = problem.unscaled(-error, y=2).astype(S.dtype)
        if of_z:
            dz = problem.unscaled(apply_adjoint(problem, error[np.newaxis])[0], x=1, y=3)
            dz = (dz + penalty.products(delta)).astype(z.dtype)
    return value, (dX, dS, dz)


def _by_responses(problem: Problem, error: NDArray[np.float64]) -> Array:
    """Return 2 diag(z) ỸE (N, D), in the units of the loss divided by those of X. 2ND² flops."""
    N, D = problem.shape
    E, lacking = problem.safe(2.0 * error)
    E = E.astype(problem.dtype)
    out, buffer = np.empty((N, D), problem.dtype), np.empty((problem.block_rows, D), problem.dtype)
    for rows, block in problem.blocks():
        weighted = problem.centre(rows, block, buffer, problem.gains[rows])
        blas.product(weighted, E, out=out[rows])
    return problem.unscaled(out, x=-1, y=4, lacking=lacking)
