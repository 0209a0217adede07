"""Penalties on the covariance of activations as PyTorch operations.

C = A J Aᵀ/(n_samples − 1) is the n × n covariance of n units. All six penalties take

    activations : Tensor, (n_samples, n_units) with samples_axis=0, as layers return them, or the transpose
    samples_axis : 0 or 1, without a default: the wrong axis would give a number too, of another matrix
    center : whether J removes the mean over samples (True), or nothing

and return a tensor of shape () in the dtype of the activations. They raise the same errors as
`fastcov.penalties`, and TypeError or ValueError for a tensor that is not dense, real, floating and on the
CPU. `fastcov.penalties` also describes their cost and purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from .. import penalties
from ._tensors import checked, constant, isolated_from_torch, scalar

Array = NDArray[Any]


def mean_covariance(activations: Tensor, *, samples_axis: int, center: bool = True) -> Tensor:
    """Return the mean of all C_ij; signs cancel, and all units have the same gradient.

    See `fastcov.penalties.mean_covariance`, and `fastcov.torch.decov` for tensors.
    """
    return _penalty(penalties.mean_covariance, activations, samples_axis=samples_axis, center=center)


def mean_absolute_covariance(
    activations: Tensor, *, samples_axis: int, epsilon: float = 0.0, center: bool = True
) -> Tensor:
    """Return the mean of all |C_ij|, or with `epsilon` that of √(C_ij² + ε²), which is smooth at 0.

    See `fastcov.penalties.mean_absolute_covariance`, and `fastcov.torch.decov` for tensors.
    """
    return _penalty(
        penalties.mean_absolute_covariance,
        activations, samples_axis=samples_axis, epsilon=epsilon, center=center,
    )  # fmt: skip


def mean_squared_covariance(activations: Tensor, *, samples_axis: int, center: bool = True) -> Tensor:
    """Return the mean of all C_ij².

    See `fastcov.penalties.mean_squared_covariance`, and `fastcov.torch.decov` for tensors.
    """
    return _penalty(penalties.mean_squared_covariance, activations, samples_axis=samples_axis, center=center)


def decov(activations: Tensor, *, samples_axis: int, center: bool = True) -> Tensor:
    """Return ½ Σ C_ij² over i ≠ j (Cogswell et al. 2016).

    Parameters
    ----------
    activations : Tensor, shape (n_samples, n_units) or (n_units, n_samples)
        Activations in float64, float32, float16 or bfloat16; the last two are computed in float32.
    samples_axis : {0, 1}
        The axis of samples in `activations`: 0 for the output of a layer.
    center : bool, default True
        Whether to remove the mean over samples.

    Returns
    -------
    Tensor, shape ()
        The penalty, in the dtype of the activations. Its gradient is computed together with it, if requested.

    Raises
    ------
    TypeError, ValueError
        If the activations are not a dense, real, floating tensor on the CPU with two axes, are not finite, or
        have only one sample.
    RuntimeError
        In `backward`, if a graph of the gradients is requested (``create_graph=True``).

    Notes
    -----
    The cost is that of `fastcov.penalties.decov`. Besides the activations it takes memory of the size of
    their gradient.

    Examples
    --------
    >>> import torch, fastcov.torch as fct
    >>> hidden = torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 0.0]], requires_grad=True)  # 3 samples, 2 units
    >>> penalty = fct.decov(hidden, samples_axis=0)
    >>> penalty.backward()
    >>> penalty.item(), hidden.grad.shape
    (1.0, torch.Size([3, 2]))
    """
    return _penalty(penalties.decov, activations, samples_axis=samples_axis, center=center)


def vicreg_covariance(activations: Tensor, *, samples_axis: int, center: bool = True) -> Tensor:
    """Return Σ C_ij² over i ≠ j, divided by the number of units (Bardes et al. 2022).

    See `fastcov.penalties.vicreg_covariance`, and `fastcov.torch.decov` for tensors.
    """
    return _penalty(penalties.vicreg_covariance, activations, samples_axis=samples_axis, center=center)


def covariance_distance(
    activations: Tensor, target: Any, *, samples_axis: int, coral: bool = False, center: bool = True
) -> Tensor:
    """Return ‖C − S‖²_F for a target S, with `coral` divided by 4 n_units² (Sun and Saenko 2016).

    S (n_units, n_units), a tensor or an array, is a constant: a tensor that requires a gradient is refused.
    If both covariances are those of activations that learn, as in Deep CORAL, add two distances: one for each
    set of activations, with the detached covariance of the other as the target. The sum has the right
    gradients, and twice the value.

    See `fastcov.penalties.covariance_distance`, and `fastcov.torch.decov` for tensors.
    """
    return _penalty(
        penalties.covariance_distance,
        activations, target=target, samples_axis=samples_axis, coral=coral, center=center,
    )  # fmt: skip


@isolated_from_torch
def _penalty(function: Callable[..., tuple[float, Array]], activations: Tensor, **options: Any) -> Tensor:
    constants = {
        name: constant(name, value) if name in ("target", "epsilon") else value
        for name, value in options.items()
    }

    def evaluate(needed: tuple[bool, ...], array: Array) -> tuple[float, tuple[Array | None]]:
        value, gradient = function(array, **constants)
        return value, (gradient if needed[0] else None,)

    return scalar(evaluate, checked("activations", activations))
