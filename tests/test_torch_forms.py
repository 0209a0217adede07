"""Quadratic forms for PyTorch against its own of the plain formula, its gradcheck, training."""

import copy
import functools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from optional import needs

import fastcov as fc

needs("torch")

import torch
from torch_cases import DTYPES, agree, form_problem, normal

import fastcov.torch as fct


def plain_forms(inputs, matrices, mean, log_determinant):
    B = inputs - mean
    g = torch.einsum("lzi,zik,lzk->lz", B, matrices, B)
    return g - torch.logdet(matrices) if log_determinant else g


@pytest.mark.parametrize("log_determinant", [False, True])
@DTYPES
def test_quadratic_forms_and_gradients_are_those_of_the_plain_formula(dtype, log_determinant):
    problem, weights = form_problem(dtype), normal(5, 3, seed=3).to(dtype)
    g = fct.quadratic_forms(problem[0], problem[1], mean=problem[2], log_determinant=log_determinant)
    exact = [t.detach().double().requires_grad_() for t in problem]
    expected = plain_forms(*exact, log_determinant)
    condition = float(torch.linalg.cond(exact[1].detach()).max())
    rounding = 20 * len(exact[1][0]) * torch.finfo(dtype).eps
    agree(
        g.double(), expected, torch.linalg.matrix_norm(exact[1]) * (exact[0] - exact[2]).norm() ** 2, rounding
    )
    gradients = torch.autograd.grad(g, problem, weights)
    slopes = torch.autograd.grad(expected, exact, weights.double())
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert gradient.dtype == dtype
        agree(gradient.double(), slope, 10 * slope.abs(), condition * rounding)


@pytest.mark.parametrize("log_determinant", [False, True])
def test_gradients_of_quadratic_forms_pass_gradcheck(log_determinant):
    inputs, _, mean = form_problem(L=3, Z=2, n=3)
    M = normal(2, 3, 3, seed=4).requires_grad_()  # matrices have to stay positive definite
    assert torch.autograd.gradcheck(
        lambda x, M, mean: fct.quadratic_forms(
            x, M @ M.mT + torch.eye(3), mean=mean, log_determinant=log_determinant
        ),
        (inputs, M, mean),
    )


def test_a_unit_whose_matrix_is_not_symmetric_is_named():
    inputs, matrices, _ = form_problem()
    broken = matrices.detach().clone()
    broken[1, 0, 1] += 1.0
    with pytest.raises(ValueError, match=r"^Argument 'matrices' must be .*unit 1"):
        fct.quadratic_forms(inputs, broken)


@pytest.mark.parametrize("argument", ["inputs", "matrices"])
def test_none_is_no_tensor(argument):
    given = dict(zip(("inputs", "matrices"), form_problem(), strict=False)) | {argument: None}
    with pytest.raises(TypeError, match=f"^Argument '{argument}' must be a tensor, not NoneType: use torch"):
        fct.quadratic_forms(**given)


def module_and_inputs(**options):
    """Factors that are not diagonal, means that are not zero."""
    layer = fct.QuadraticForms(3, 4, **options).double()
    for seed, parameter in enumerate(layer.parameters()):
        parameter.data = normal(*parameter.shape, seed=10 + seed)
    return layer, normal(5, 3, 4).requires_grad_()


FORMS = pytest.mark.parametrize("factored", [False, True], ids=["matrices", "factors"])


def differentiable(factored, log_determinant):
    """Inputs, matrices or what makes factors, mean; the forms of them; and the plain formula."""
    if not factored:
        call = functools.partial(fct.quadratic_forms, log_determinant=log_determinant)
        return form_problem(), lambda x, A, mean: call(x, A, mean=mean), plain_forms
    layer, inputs = module_and_inputs(log_determinant=log_determinant)
    names = [name for name, _ in layer.named_parameters()]

    def ours(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    def formula(x, log_diagonal, lower, mean, log_determinant):
        given = dict(zip(names, (log_diagonal, lower, mean), strict=True))
        L = torch.diag_embed(given["log_diagonal"].exp())
        rows, columns = torch.tril_indices(4, 4, offset=-1)
        L = L.index_put((torch.arange(3)[:, None], rows, columns), given["lower"])
        return plain_forms(x, L @ L.mT, given["mean"], log_determinant)

    return [inputs, *layer.parameters()], ours, formula


@FORMS
@pytest.mark.parametrize("log_determinant", [False, True])
@pytest.mark.parametrize("weight", [torch.inf, -torch.inf, torch.nan])
def test_weights_that_are_not_finite_spoil_gradients_of_their_unit_alone(factored, log_determinant, weight):
    tensors, ours, formula = differentiable(factored, log_determinant)
    weights = normal(5, 3, seed=3)
    weights[2, 1] = weight
    gradients = torch.autograd.grad(ours(*tensors), tensors, weights)
    slopes = torch.autograd.grad(formula(*tensors, log_determinant), tensors, weights)
    for which, (gradient, slope) in enumerate(zip(gradients, slopes, strict=True)):
        touched = torch.zeros(gradient.shape, dtype=torch.bool)
        touched[(2, 1) if which == 0 else 1] = True  # of that sample and unit, or of that unit
        assert_allclose(gradient[~touched], slope[~touched], rtol=1e-9, atol=1e-11)
        assert not torch.isfinite(gradient[touched]).any()


@FORMS
@pytest.mark.parametrize("log_determinant", [False, True])
def test_each_gradient_of_forms_is_the_same_alone(factored, log_determinant):
    tensors, ours, _ = differentiable(factored, log_determinant)
    weights = normal(5, 3, seed=3)
    together = torch.autograd.grad(ours(*tensors), tensors, weights)
    for needed, expected in enumerate(together):
        alone = [t.detach() for t in tensors]
        alone[needed].requires_grad_()
        (gradient,) = torch.autograd.grad(ours(*alone), alone[needed], weights)
        assert torch.equal(gradient, expected)


def test_no_work_is_done_for_gradients_that_are_not_needed(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a gradient with respect to matrices is not needed")

    for name in ("inverse", "_factor_gradient"):
        monkeypatch.setattr(fc.quadratic_forms.SPDBatch, name, refuse)
    for factored in (False, True):
        tensors, ours, _ = differentiable(factored, True)
        for needed in (0, -1):  # inputs and mean
            alone = [t.detach() for t in tensors]
            alone[needed].requires_grad_()
            ours(*alone).sum().backward()


@pytest.mark.skipif(not hasattr(torch.amp, "GradScaler"), reason="of PyTorch 2.3 and newer")
def test_a_scale_that_overflows_is_lowered_and_training_goes_on():
    torch.manual_seed(0)
    layer, inputs = fct.QuadraticForms(3, 4, log_determinant=True), normal(50, 3, 4, dtype=torch.float32)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    before = copy.deepcopy(layer.state_dict())
    first = layer(inputs).mean().item()
    for step in range(20):
        optimiser.zero_grad()
        energy = layer(inputs).mean()
        scaler.scale(energy / 2.0**20 * 2.0**20).backward()  # infinite from the first factor on
        scaler.step(optimiser)
        scaler.update()
        if step == 0:
            assert scaler.get_scale() == 2.0**119
            assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert scaler.get_scale() < 2.0**119
    assert energy.item() < first


def test_the_parameters_of_a_module_make_its_matrices_and_forms():
    torch.manual_seed(0)
    layer = fct.QuadraticForms(3, 4, log_determinant=True).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    L = layer.cholesky().detach()
    assert torch.equal(L, L.tril())
    assert_allclose(torch.diagonal(L, dim1=1, dim2=2), layer.log_diagonal.detach().exp(), rtol=1e-15)
    assert torch.equal(L[1, 2, :2], layer.lower[1, 1:3].detach())
    inputs = normal(5, 3, 4).requires_grad_()
    tensors = (inputs, *layer.parameters())
    value, expected = layer(inputs), plain_forms(inputs, layer.matrices(), layer.mean, True)
    assert_allclose(value.detach(), expected.detach(), rtol=1e-11)
    weights = normal(5, 3, seed=3)
    for gradient, slope in zip(
        torch.autograd.grad(value, tensors, weights),
        torch.autograd.grad(expected, tensors, weights),
        strict=True,
    ):
        assert_allclose(gradient, slope, rtol=1e-9, atol=1e-11)


@DTYPES
@pytest.mark.parametrize(
    ("parameter", "place", "value", "message"),
    [
        ("log_diagonal", (2, 1), 1000.0, "'log_diagonal' must have .* not hold 1e\\+03 at unit 2, input 1 "),
        (
            "log_diagonal",
            (1, 3),
            -1000.0,
            "'log_diagonal' must have .* not hold -1e\\+03 at unit 1, input 3 ",
        ),
        ("log_diagonal", (0, 0), torch.nan, "'log_diagonal' must have .* not hold nan at unit 0, input 0 "),
        ("log_diagonal", (0, 2), torch.inf, "'log_diagonal' must have .* not hold inf at unit 0, input 2 "),
        (
            "lower",
            (1, 4),
            torch.nan,
            "'lower' must be finite, not nan at unit 1, place 4, .* row 3 and column 1 ",
        ),
        (
            "lower",
            (2, 0),
            -torch.inf,
            "'lower' must be finite, not -inf at unit 2, place 0, .* row 1 and column 0 ",
        ),
        ("mean", (2, 0), torch.inf, "'mean' must be finite, .* unit 2, input 0"),
    ],
)
def test_parameters_that_left_their_range_are_named(dtype, parameter, place, value, message):
    layer = fct.QuadraticForms(3, 4).to(dtype)
    with torch.no_grad():
        getattr(layer, parameter)[place] = value
    with pytest.raises(ValueError, match=rf"^Argument {message}"):
        layer(normal(5, 3, 4, dtype=dtype))


@pytest.mark.parametrize(
    ("dtype", "ends"),
    [
        (torch.float32, (-87, 88)),
        (torch.float64, (-708, 709)),
        (torch.bfloat16, (-87, 88)),
        (torch.float16, (-16, 11)),
    ],
    ids=str,
)
def test_all_of_the_range_of_a_module_has_forms(dtype, ends):
    layer = fct.QuadraticForms(1, 2, mean=False).to(dtype)
    torch.nn.init.zeros_(layer.lower)
    for end in ends:
        torch.nn.init.constant_(layer.log_diagonal, end)
        x = torch.tensor([[[math.exp(-end), 0.0]]], dtype=torch.float64)
        assert layer(x).item() == pytest.approx(1.0, rel=0.2)  # of some digits, where they are fewest
    torch.nn.init.constant_(layer.log_diagonal, ends[1] + 2)
    with pytest.raises(ValueError, match="'log_diagonal'"):
        layer(x)


@pytest.mark.parametrize("flag", ["mean", "log_determinant"])
@pytest.mark.parametrize("value", [1, None, "no", torch.tensor(True)], ids=str)
def test_flags_of_a_module_are_true_or_false(flag, value):
    with pytest.raises(TypeError, match=rf"^Argument '{flag}' must be True or False, not "):
        fct.QuadraticForms(3, 4, **{flag: value})
    layer = fct.QuadraticForms(3, 4, **{flag: np.False_})
    assert (layer.mean is None, layer.log_determinant) == (flag == "mean", False)


def test_a_module_fits_gaussians_and_its_matrices_stay_positive_definite():
    torch.manual_seed(0)
    _, matrices, mean = (t.detach() for t in form_problem(torch.float32))
    inputs = torch.distributions.MultivariateNormal(mean, precision_matrix=matrices).sample((400,))
    layer = fct.QuadraticForms(3, 4, log_determinant=True)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    energies = []
    for _ in range(200):
        optimiser.zero_grad()
        energy = layer(inputs).mean()
        energy.backward()
        optimiser.step()
        energies.append(energy.item())
        assert float(torch.linalg.eigvalsh(layer.matrices().detach()).min()) > 0
    # The best that any Gaussian does for these samples: tr(S S⁻¹) + log det S.
    covariances = torch.stack([torch.cov(inputs[:, z].T, correction=0) for z in range(3)])
    best = float((4 + torch.logdet(covariances)).mean())
    assert energies[0] > best + 1
    assert best - 1e-3 < energies[-1] < best + 0.05


def test_a_module_is_saved_and_copied_and_may_have_no_mean():
    layer = fct.QuadraticForms(3, 4, mean=False)
    other = fct.QuadraticForms(3, 4, mean=False)
    assert not torch.equal(layer.lower, other.lower)
    other.load_state_dict(layer.state_dict())
    inputs = normal(2, 3, 4, dtype=torch.float32)
    assert sorted(layer.state_dict()) == ["log_diagonal", "lower"]
    assert torch.equal(layer(inputs), other(inputs))
    assert torch.equal(layer(inputs), copy.deepcopy(layer)(inputs))
    assert repr(layer) == "QuadraticForms(n_units=3, n_inputs=4, mean=False, log_determinant=False)"
    with pytest.raises(ValueError, match="Argument 'n_units' must be at least 1"):
        fct.QuadraticForms(0, 4)
