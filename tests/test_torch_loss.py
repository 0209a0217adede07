"""The loss of gains for PyTorch against its own of the plain formula, and its gradcheck."""

import functools

import naive
import numpy as np
import pytest
from cases import data, target
from numpy.testing import assert_allclose
from optional import needs

import fastcov as fc

needs("torch")

import torch
from torch_cases import DTYPES, agree, normal, value_and_gradients

import fastcov.torch as fct


def plain_loss(X, S, gains, ridge=0.0, center=True):
    Y = gains[:, None] * X
    if center:
        Y = Y - Y.mean(dim=0)
    return ((Y.T @ Y - S) ** 2).sum() / 2 + ridge * ((gains - 1) ** 2).sum() / 2


def gain_problem(dtype=torch.float64, N=20, D=7):
    X, S = torch.from_numpy(data(N, D)), torch.from_numpy(target(D))
    gains = 1 + normal(N) / 2
    return [t.to(dtype).requires_grad_() for t in (X, S, gains)]


@DTYPES
def test_the_loss_and_its_gradients_are_those_of_the_plain_formula(dtype, center):
    X, S, gains = problem = gain_problem(dtype)
    value, gradients = value_and_gradients(functools.partial(fct.loss, ridge=3.0, center=center), X, S, gains)
    exact = [t.detach().double().requires_grad_() for t in problem]
    expected, slopes = value_and_gradients(functools.partial(plain_loss, ridge=3.0, center=center), *exact)
    # Of the terms of C and S, without the cancellation.
    X, S, gains = (t.detach().abs() for t in exact)
    E = (gains[:, None] * X).T @ (gains[:, None] * X) * 2 + S
    P = 2 * (gains[:, None] * X) @ E
    sizes = gains[:, None] * P, E, (X * P).sum(dim=1) + 3
    rounding = (2 * len(X) + 2 * len(S) + 20) * torch.finfo(dtype).eps
    agree(value.double(), expected, (E**2).sum(), rounding)
    for gradient, slope, size in zip(gradients, slopes, sizes, strict=True):
        assert gradient.dtype == dtype
        agree(gradient.double(), slope, size.max(), rounding)


def test_gradients_of_the_loss_pass_gradcheck(center):
    X, _, gains = gain_problem(N=5, D=3)
    M = normal(3, 3).requires_grad_()  # S has to stay symmetric
    ridges = np.linspace(0.0, 2.0, 5)
    assert torch.autograd.gradcheck(
        lambda X, M, z: fct.loss(X, M + M.T, z, ridge=ridges, center=center), (X, M, gains)
    )


@pytest.mark.parametrize("needed", range(3), ids=["X", "S", "gains"])
def test_the_loss_gives_each_gradient_alone(needed):
    problem = gain_problem()
    _, expected = value_and_gradients(fct.loss, *problem)
    alone = [t.detach() for t in problem]
    alone[needed].requires_grad_()
    fct.loss(*alone).backward()
    assert torch.equal(alone[needed].grad, expected[needed])


@DTYPES
def test_a_gradient_of_common_size_does_not_overflow_on_its_way(dtype):
    scale = 1e-20
    X, _, gains = (t.detach() for t in gain_problem(dtype))
    small = (X * scale).requires_grad_()
    fct.loss(small, torch.eye(7, dtype=dtype) / scale, gains).backward()
    Y = gains[:, None] * X  # beside S, C is nothing: the gradient is that of -<C, S>
    expected = -2 * gains[:, None] * (Y - Y.mean(dim=0))
    agree(small.grad, expected, 10 * expected.abs(), 30 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(
    "ridge",
    [
        0.5,
        np.linspace(0, 1, 20),
        np.diff(np.eye(20), axis=0),
        torch.tensor(0.5),
        torch.linspace(0, 1, 20).half(),
    ],
    ids=["number", "each", "matrix", "tensor", "each-in-a-tensor"],
)
def test_the_loss_is_that_of_fastcov_for_any_ridge(ridge):
    X, S, gains = gain_problem()
    expected, slope = fc.loss_and_gradient(X.detach(), S.detach(), gains.detach(), ridge=np.asarray(ridge))
    value, (gradient,) = value_and_gradients(lambda z: fct.loss(X, S, z, ridge=ridge), gains)
    assert_allclose(value.item(), expected, rtol=1e-13)
    assert_allclose(gradient, slope, rtol=1e-11)


def test_gains_of_any_size_have_the_gradients_of_the_oracle(center):
    X, S, _ = (t.detach() for t in gain_problem())
    gains = torch.full((20,), 1e20, dtype=torch.float64, requires_grad=True)
    fct.loss(X, S, gains, center=center).backward()
    expected = naive.loss_gradient(X.numpy(), S.numpy(), gains.detach().numpy(), center=center)
    assert_allclose(gains.grad, expected, rtol=1e-9)
