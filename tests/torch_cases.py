"""What tests of fastcov.torch share: tensors, and how gradients are compared."""

import pytest
from cases import data
from optional import needs

needs("torch")

import torch

N_UNITS, N_SAMPLES = 6, 9
AXES = pytest.mark.parametrize("samples_axis", [0, 1], ids=["samples-first", "units-first"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=generator(seed))


def activations(samples_axis, dtype=torch.float64):
    """With a mean that is not small, and values that are exact in float32."""
    units_first = torch.from_numpy(data(N_UNITS, N_SAMPLES)).to(dtype)
    return (units_first if samples_axis else units_first.T.contiguous()).requires_grad_()


def value_and_gradients(function, *tensors):
    value = function(*tensors)
    return value, torch.autograd.grad(value, tensors)


def agree(actual, expected, size, rounding):
    """Numbers that differ by no more than `rounding` times the `size` of what is summed."""
    assert actual.shape == expected.shape
    assert float((actual - expected).detach().abs().max()) <= rounding * float(size.detach().max())


def form_problem(dtype=torch.float64, L=5, Z=3, n=4):
    roots = normal(Z, n, n, seed=1)
    tensors = normal(L, Z, n), roots @ roots.mT + torch.eye(n), normal(Z, n, seed=2)
    return [t.to(dtype).requires_grad_() for t in tensors]
