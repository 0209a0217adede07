"""Batched quadratic forms as a PyTorch operation, and a module whose matrices stay positive definite."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import quadratic_forms as forms
from .._inputs.validation import check_whole
from .._unit_forms.stacks import check_flag
from ._tensors import (
    Array,
    as_array,
    at_least_float32,
    checked,
    isolated_from_torch,
    refuse_second_derivatives,
    result_dtype,
)

# The remedy in errors for parameters that training has driven out of their range.
_REMEDY = "take smaller steps, or clip gradients"


def quadratic_forms(
    inputs: Tensor, matrices: Tensor, *, mean: Tensor | None = None, log_determinant: bool = False
) -> Tensor:
    """Return g_lz = (x_lz − μ_z)ᵀ A_z (x_lz − μ_z), with one symmetric positive-definite matrix per unit.

    Gradients pass to inputs, matrices and mean. After a step of an optimiser a matrix may no longer be
    positive definite; the next call then raises an error that names its unit. To avoid this, compute the
    matrices from free parameters M, such as M Mᵀ + I, or use a `QuadraticForms` module.

    Parameters
    ----------
    inputs : Tensor, shape (L, Z, I)
        x: a vector of inputs for each sample and unit.
    matrices : Tensor, shape (Z, I, I)
        A.
    mean : Tensor, shape (Z, I), optional
        μ; zero by default.
    log_determinant : bool, default False
        Whether to subtract log det A_z: g/2 + (I/2) log 2π is then the negative log density of a Gaussian
        with inverse covariance A_z.

    Returns
    -------
    Tensor, shape (L, Z)
        g, in the result_dtype of the dtypes.

    Raises
    ------
    TypeError, ValueError
        If a tensor is not dense, real, floating and on the CPU, of the right shape and finite, or if a matrix
        is not symmetric and positive definite.
    RuntimeError
        In `backward`, if a graph of the gradients is requested (``create_graph=True``).

    Notes
    -----
    The cost is that of `fastcov.quadratic_forms.quadratic_forms`, and for the gradients that of
    `quadratic_forms_and_gradients`.

    Examples
    --------
    >>> import torch, fastcov.torch as fct
    >>> inputs = torch.tensor([[[1.0, 2.0]], [[0.0, 1.0]]])  # two samples, one unit, two inputs
    >>> fct.quadratic_forms(inputs, torch.tensor([[[2.0, 0.0], [0.0, 3.0]]]))
    tensor([[14.],
            [ 3.]])
    """
    return _apply(inputs, matrices, mean, log_determinant, factored=False)


class QuadraticForms(torch.nn.Module):
    """A layer of units that each have a mean and an inverse covariance, g = (x − μ)ᵀ A (x − μ).

    A = L Lᵀ, where L has the entries of `lower` below its diagonal, and the exponential of `log_diagonal` on
    it. The matrices stay positive definite for all values of the parameters that keep the exponentials from
    becoming zero or infinite: `log_diagonal` from −87 to 88 in float32 and bfloat16, −708 to 709 in float64,
    −16 to 11 in float16. (A itself, which `matrices` returns but the forms do not need, is rounded, and
    leaves the range of its dtype at half of these values.)

    Parameters
    ----------
    n_units, n_inputs : int
        Z and I.
    mean : bool, default True
        Whether units have a mean that is trained with the other parameters; otherwise it is zero.
    log_determinant : bool, default False
        Whether to subtract log det A: the mean of g is then twice a Gaussian negative log likelihood, up to a
        constant. Without it, all forms are minimised by matrices of zero.

    Attributes
    ----------
    log_diagonal : Parameter, shape (Z, I)
    lower : Parameter, shape (Z, I (I − 1)/2)
        Entries below the diagonal, row by row. They start as small random numbers, so that units differ; all
        other parameters start at zero.
    mean : Parameter, shape (Z, I), or None

    Raises
    ------
    TypeError, ValueError
        If a number of units or inputs is not positive, or `mean` or `log_determinant` is neither True nor
        False; in a call, if `log_diagonal` is out of that range or `lower` is not finite (the error names
        unit and place), or as for `fastcov.torch.quadratic_forms`.

    Examples
    --------
    >>> import torch, fastcov.torch as fct
    >>> layer = fct.QuadraticForms(n_units=4, n_inputs=3, log_determinant=True)
    >>> layer(torch.randn(10, 4, 3)).shape, layer.matrices().shape
    (torch.Size([10, 4]), torch.Size([4, 3, 3]))
    """

    def __init__(
        self, n_units: int, n_inputs: int, *, mean: bool = True, log_determinant: bool = False
    ) -> None:
        super().__init__()
        Z, n = check_whole("n_units", n_units, 1), check_whole("n_inputs", n_inputs, 1)
        mean, self.log_determinant = check_flag("mean", mean), check_flag("log_determinant", log_determinant)
        self.log_diagonal = torch.nn.Parameter(torch.empty(Z, n))
        self.lower = torch.nn.Parameter(torch.empty(Z, n * (n - 1) // 2))
        self.register_parameter("mean", torch.nn.Parameter(torch.empty(Z, n)) if mean else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset to matrices near the identity, and means of zero."""
        torch.nn.init.zeros_(self.log_diagonal)
        # The rows of L then have a norm of about one, however many inputs there are.
        torch.nn.init.normal_(self.lower, std=0.1 / math.sqrt(self.log_diagonal.shape[1]))
        if self.mean is not None:
            torch.nn.init.zeros_(self.mean)

    def cholesky(self) -> Tensor:
        """Return L (Z, I, I), lower triangular with a positive diagonal."""
        factors = torch.diag_embed(self.log_diagonal.exp())
        rows, columns = torch.tril_indices(*factors.shape[1:], offset=-1)
        return factors.index_put((torch.arange(len(factors))[:, None], rows, columns), self.lower)

    def matrices(self) -> Tensor:
        """Return A = L Lᵀ (Z, I, I)."""
        factors = self.cholesky()
        return factors @ factors.mT

    def forward(self, inputs: Tensor) -> Tensor:
        """Return g (L, Z) for inputs (L, Z, I); see `fastcov.torch.quadratic_forms`."""
        self._check()
        return _apply(inputs, self.cholesky(), self.mean, self.log_determinant, factored=True)

    @isolated_from_torch
    def _check(self) -> None:
        """Raise if the parameters do not give finite factors with a positive diagonal."""
        logs = checked("log_diagonal", self.log_diagonal).detach()
        lower = checked("lower", self.lower).detach()
        diagonal = logs.exp()
        for unit, i in (~(diagonal.isfinite() & (diagonal > 0))).nonzero()[:1].tolist():
            raise ValueError(
                f"Argument 'log_diagonal' must have exponentials that are positive numbers of {logs.dtype}, "
                f"not hold {logs[unit, i]:.3g} at unit {unit}, input {i} (counted from 0): {_REMEDY}."
            )
        for unit, k in (~lower.isfinite()).nonzero()[:1].tolist():
            row, column = torch.tril_indices(logs.shape[1], logs.shape[1], offset=-1)[:, k].tolist()
            raise ValueError(
                f"Argument 'lower' must be finite, not {lower[unit, k]:.3g} at unit {unit}, place {k}, which "
                f"is row {row} and column {column} of its factor (counted from 0): {_REMEDY}."
            )

    def extra_repr(self) -> str:
        n_units, n_inputs = self.log_diagonal.shape
        return (
            f"n_units={n_units}, n_inputs={n_inputs}, mean={self.mean is not None}, "
            f"log_determinant={self.log_determinant}"
        )


@isolated_from_torch
def _apply(
    inputs: Tensor, matrices: Tensor, mean: Tensor | None, log_determinant: bool, *, factored: bool
) -> Tensor:
    """Compute the forms from the matrices or their Cholesky factors."""
    tensors = {"inputs": checked("inputs", inputs), "matrices": checked("matrices", matrices)}
    if mean is not None:
        tensors["mean"] = checked("mean", mean)
    dtype = result_dtype(tensors.values())
    alike = {name: at_least_float32(t.to(dtype)) for name, t in tensors.items()}
    g = _Forms.apply(log_determinant, factored, alike["inputs"], alike["matrices"], alike.get("mean"))
    return g.to(dtype)


class _Forms(torch.autograd.Function):
    """The forms; `backward` receives the weights of the sum to be differentiated."""

    @staticmethod
    def forward(
        ctx: Any, log_determinant: bool, factored: bool, inputs: Tensor, matrices: Tensor, mean: Tensor | None
    ) -> Tensor:
        ctx.log_determinant, ctx.factored = log_determinant, factored
        ctx.save_for_backward(inputs, matrices, mean)
        x, A, options = _arguments(ctx, inputs, matrices, mean)
        return torch.from_numpy(forms.quadratic_forms(x, A, **options))

    @staticmethod
    @isolated_from_torch
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        x, A, options = _arguments(ctx, *ctx.saved_tensors)
        needed = ctx.needs_input_grad[2:]
        # Any weights are allowed: a GradScaler finds its scale by weights that overflow.
        of_x, of_A, of_mean = forms.needed_gradients(
            x, A, weights=as_array(weights), needed=needed, **options
        )
        if ctx.factored and of_A is not None:
            of_A = A._factor_gradient(of_A)
        return None, None, *(None if g is None else torch.from_numpy(g) for g in (of_x, of_A, of_mean))


def _arguments(
    ctx: Any, inputs: Tensor, matrices: Tensor, mean: Tensor | None
) -> tuple[Array, Any, dict[str, Any]]:
    """Convert tensors to arguments of the functions for arrays."""
    A = as_array(matrices)
    return (
        as_array(inputs),
        forms.SPDBatch.from_cholesky(A) if ctx.factored else A,
        {"mean": None if mean is None else as_array(mean), "log_determinant": ctx.log_determinant},
    )
