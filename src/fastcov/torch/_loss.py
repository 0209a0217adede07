"""The exact loss of gains as an operation of PyTorch."""

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
from ._tensors import apart, checked, constant, scalar

Array = NDArray[Any]


@apart
def loss(X: Tensor, S: Tensor, gains: Tensor, *, ridge: Any = 0.0, center: bool = True) -> Tensor:
    """Exact loss of gains, L(z) = ½‖Xᵀ diag(z) J diag(z) X − S‖²_F + (λ/2)‖z − 1‖².

    J removes the mean over channels. With Ỹ = J diag(z) X and E = ỸᵀỸ − S the gradients are

        ∂L/∂z = 2 rowsum(X ∘ (ỸE)) + λ(z − 1)      ∂L/∂X = 2 diag(z) ỸE      ∂L/∂S = −E

    Parameters
    ----------
    X : Tensor, shape (N, D)
        Responses: one row a channel, one column a condition. (A layer gives the transpose: pass ``h.T``.)
    S : Tensor, shape (D, D)
        Target covariance, symmetric.
    gains : Tensor, shape (N,)
        z. For many candidates at once see `fastcov.loss_and_gradient`.
    ridge : float, array_like or Tensor, default 0.0
        λ ≥ 0, λ of each channel, or Γ, as for `fastcov.loss`; no gradient passes through it.
    center : bool, default True
        Whether the covariance is that of responses less their mean over channels.

    Returns
    -------
    Tensor, shape ()
        In units of X to the fourth, of the widest of the dtypes.

    Raises
    ------
    TypeError, ValueError
        If a tensor is not dense, real, floating and on the CPU, of the right shape and finite; S is not
        symmetric, or λ < 0.
    RuntimeError
        From `backward`, where it is asked for a graph of the gradients (``create_graph=True``).

    Notes
    -----
    ND² flops (twice that up to 128 conditions), and 2ND² each for the gradients with respect to X and
    gains. Gradients are made with the value, those alone that are asked for. Memory for them, a block of rows
    and D × D.

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
    """The loss, and its gradients with respect to X, S and z, as far as they are needed."""
    of_X, of_S, of_z = needed
    problem = Problem.of(X, gains=z, center=center)
    penalty = Penalty.of("ridge", ridge, len(X))
    error = problem.covariance() - problem.target(check_array("S", S, ("condition", "condition")))[0]
    delta = z.astype(np.float64) - 1.0
    dX, dS, dz = None, None, None
    with np.errstate(over="ignore"):  # what is beyond a dtype is infinite
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
    """2 diag(z) ỸE (N, D), in the units of the loss over those of X. 2ND² flops."""
    N, D = problem.shape
    E, lacking = problem.safe(2.0 * error)
    E = E.astype(problem.dtype)
    out, buffer = np.empty((N, D), problem.dtype), np.empty((problem.block_rows, D), problem.dtype)
    for rows, block in problem.blocks():
        weighted = problem.centre(rows, block, buffer, problem.gains[rows])
        blas.product(weighted, E, out=out[rows])
    return problem.unscaled(out, x=-1, y=4, lacking=lacking)
