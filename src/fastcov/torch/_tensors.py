"""Convert tensors to arrays, and functions of arrays to tensors that autograd can differentiate."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import numba
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._compute.jit import threads

Array = NDArray[Any]
P = ParamSpec("P")
T = TypeVar("T")

# In half precision a sum of squares overflows, or loses all digits but two; these are computed in float32.
HALVES = (torch.float16, torch.bfloat16)
FLOATS = (torch.float64, torch.float32, *HALVES)


def isolated_from_torch(function: Callable[P, T]) -> Callable[P, T]:
    """Keep PyTorch and the computations here from interfering with each other.

    torch.compile would replace NumPy's operations by its own; instead, the graph breaks here. (This loads a
    part of PyTorch, which takes a second, and which the first optimiser loads anyway.) Numba's kernels set
    the number of threads of the OpenMP library that both libraries share; afterwards PyTorch's number is
    restored. Meanwhile no more threads are used than PyTorch has.
    """

    @functools.wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> T:
        n = torch.get_num_threads()
        try:
            with threads(n) if n < numba.get_num_threads() else contextlib.nullcontext():
                return function(*args, **options)
        finally:
            if torch.get_num_threads() != n:
                torch.set_num_threads(n)

    return torch.compiler.disable(run)


def checked(name: str, value: Any) -> Tensor:
    """Return a dense tensor of real floats on the CPU, or raise an error that says what to do."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"Argument '{name}' must be a tensor, not {type(value).__name__}: use torch.as_tensor, or the "
            "function of the same name for arrays."
        )
    if value.is_nested:
        raise TypeError(f"Argument '{name}' must be one tensor, not a nested one: pass its parts one by one.")
    if value.is_quantized:
        raise TypeError(f"Argument '{name}' must not be quantized: call .dequantize() on it.")
    if value.layout != torch.strided:
        raise TypeError(
            f"Argument '{name}' must be a dense tensor, not of layout {value.layout}: call .to_dense() on it."
        )
    if value.device.type == "meta":
        raise ValueError(
            f"Argument '{name}' must hold numbers, not be on the device meta, which has none: make it on the "
            "CPU."
        )
    if value.device.type != "cpu":
        raise ValueError(
            f"Argument '{name}' must be on the CPU, not on {value.device}: call .cpu() on it, through which "
            "gradients pass."
        )
    if value.is_complex():
        raise TypeError(
            f"Argument '{name}' must hold real numbers, not {value.dtype}: take its real part or its modulus."
        )
    if value.dtype not in FLOATS:
        raise TypeError(
            f"Argument '{name}' must be of a floating dtype, as float32, not {value.dtype}, which has no "
            "gradients: call .float() on it."
        )
    return value


def constant(name: str, value: Any) -> Any:
    """Convert an argument without a gradient: a tensor becomes an array, anything else stays as it is."""
    if not isinstance(value, Tensor):
        return value
    if checked(name, value).requires_grad:
        raise ValueError(
            f"Argument '{name}' must not require a gradient: it is taken as constant. Call .detach() on it."
        )
    return as_array(at_least_float32(value))


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half precision to float32, to compute in; gradients come back in the original dtype."""
    return tensor.float() if tensor.dtype in HALVES else tensor


def result_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """Return the dtype of a result of these tensors."""
    return functools.reduce(torch.promote_types, (t.dtype for t in tensors))


def as_array(tensor: Tensor) -> Array:
    """Return the tensor as an array that shares its memory."""
    return tensor.numpy(force=True)


def refuse_second_derivatives() -> None:
    """Refuse second derivatives in `backward`, where gradients are arrays that would count as constant."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "fastcov.torch has first derivatives alone: its gradients cannot be differentiated again, as "
            "create_graph=True asks for."
        )


def scalar(evaluate: Callable[..., tuple[float, tuple[Array | None, ...]]], *tensors: Tensor) -> Tensor:
    """Compute a number from checked tensors, in the result_dtype of their dtypes, with its gradients.

    `evaluate(needed, *arrays)` returns the number and its gradient with respect to each array, or None for
    each gradient that is not needed.
    """
    needed = tuple(torch.is_grad_enabled() and t.requires_grad for t in tensors)
    value = _Scalar.apply(functools.partial(evaluate, needed), *map(at_least_float32, tensors))
    return value.to(result_dtype(tensors))


class _Scalar(torch.autograd.Function):
    """A number whose gradients are computed with it; `backward` multiplies them by the incoming gradient."""

    @staticmethod
    def forward(ctx: Any, evaluate: Any, *tensors: Tensor) -> Tensor:
        value, gradients = evaluate(*map(as_array, tensors))
        ctx.save_for_backward(*(None if g is None else torch.from_numpy(g) for g in gradients))
        return torch.tensor(value, dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        return None, *(None if g is None else weight * g for g in ctx.saved_tensors)
