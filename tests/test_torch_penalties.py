"""Covariance penalties for PyTorch against its own of the plain formula, and its gradcheck."""

import functools

import pytest
from cases import target
from numpy.testing import assert_allclose
from optional import needs

needs("torch")

import torch
from torch_cases import AXES, DTYPES, N_SAMPLES, N_UNITS, activations, agree, normal, value_and_gradients

import fastcov.torch as fct


def plain_covariance(A, samples_axis, center):
    A = A if samples_axis else A.T
    if center:
        A = A - A.mean(dim=1, keepdim=True)
    return A @ A.T / (A.shape[1] - 1)


def off_diagonal(C):
    return C - torch.diag(torch.diag(C))


S = torch.from_numpy(target(N_UNITS, size=2))
# Each with its definition, of C and S.
PENALTIES = {
    "mean_covariance": (fct.mean_covariance, lambda C, S: C.mean()),
    "mean_absolute_covariance": (fct.mean_absolute_covariance, lambda C, S: C.abs().mean()),
    "smooth_absolute_covariance": (
        functools.partial(fct.mean_absolute_covariance, epsilon=0.3),
        lambda C, S: (C**2 + 0.09).sqrt().mean(),
    ),
    "mean_squared_covariance": (fct.mean_squared_covariance, lambda C, S: (C**2).mean()),
    "decov": (fct.decov, lambda C, S: (off_diagonal(C) ** 2).sum() / 2),
    "vicreg_covariance": (fct.vicreg_covariance, lambda C, S: (off_diagonal(C) ** 2).sum() / len(C)),
    "covariance_distance": (
        functools.partial(fct.covariance_distance, target=S),
        lambda C, S: ((C - S) ** 2).sum(),
    ),
    "coral": (
        functools.partial(fct.covariance_distance, target=S.numpy(), coral=True),
        lambda C, S: ((C - S) ** 2).sum() / (4 * len(C) ** 2),
    ),
}  # fmt: skip
EACH_PENALTY = pytest.mark.parametrize("name", PENALTIES)


@EACH_PENALTY
@AXES
@DTYPES
def test_penalties_and_gradients_are_those_of_the_plain_formula(name, samples_axis, center, dtype):
    ours, formula = PENALTIES[name]
    A = activations(samples_axis, dtype)
    value, (gradient,) = value_and_gradients(lambda A: ours(A, samples_axis=samples_axis, center=center), A)
    assert value.dtype == gradient.dtype == dtype
    exact = A.detach().double().requires_grad_()
    expected, (slope,) = value_and_gradients(
        lambda A: formula(plain_covariance(A, samples_axis, center), S), exact
    )
    # The same of magnitudes, where nothing cancels, is the size of what is summed. Sums have three axes.
    size, (slope_size,) = value_and_gradients(
        lambda A: formula(plain_covariance(A, samples_axis, False), -S.abs()),
        exact.detach().abs().requires_grad_(),
    )  # fmt: skip
    rounding = 4 * N_UNITS * N_SAMPLES * torch.finfo(dtype).eps
    agree(value.double(), expected, size, rounding)
    agree(gradient.double(), slope, slope_size, rounding)


@EACH_PENALTY
@AXES
def test_gradients_of_penalties_pass_gradcheck(name, samples_axis, center):
    ours, _ = PENALTIES[name]
    function = functools.partial(ours, samples_axis=samples_axis, center=center)
    assert torch.autograd.gradcheck(function, (activations(samples_axis),))


def test_the_axis_of_samples_has_to_be_said():
    with pytest.raises(TypeError, match="samples_axis"):
        fct.decov(activations(0))


def test_options_that_are_tensors_are_refused_as_what_they_are():
    with pytest.raises(ValueError, match=r"^Argument 'samples_axis' must be 0 or 1, not tensor\(0\)"):
        fct.decov(activations(0), samples_axis=torch.tensor(0))
    with pytest.raises(TypeError, match=r"^Argument 'center' must be True or False, not tensor\(True\)"):
        fct.decov(activations(0), samples_axis=0, center=torch.tensor(True))


def test_epsilon_may_be_a_tensor():
    smooth = functools.partial(fct.mean_absolute_covariance, activations(0), samples_axis=0)
    assert torch.equal(smooth(epsilon=torch.tensor(0.25)), smooth(epsilon=0.25))


def test_distances_of_two_learning_covariances_add_up_to_the_gradients_of_one():
    A, B = activations(1), normal(N_UNITS, 7).requires_grad_()
    coral = functools.partial(fct.covariance_distance, samples_axis=1, coral=True)
    both = coral(A, torch.cov(B).detach()) + coral(B, torch.cov(A).detach())
    plain = ((torch.cov(A) - torch.cov(B)) ** 2).sum() / (4 * N_UNITS**2)
    assert_allclose(both.item(), 2 * plain.item(), rtol=1e-12)
    for ours, expected in zip(
        torch.autograd.grad(both, (A, B)), torch.autograd.grad(plain, (A, B)), strict=True
    ):
        assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)
