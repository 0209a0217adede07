"""fastcov.torch: values and gradients against PyTorch's own of the plain formula, its gradcheck, training."""

import copy
import functools
import math
import pathlib
import runpy

import naive
import numba
import numpy as np
import pytest
from cases import data, run_python, target
from numpy.testing import assert_allclose

import fastcov as fc

pytest.importorskip("torch")

import torch

import fastcov.torch as fct

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


@pytest.fixture
def set_pytorch_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# --- penalties


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


def value_and_gradients(function, *tensors):
    value = function(*tensors)
    return value, torch.autograd.grad(value, tensors)


def agree(actual, expected, size, rounding):
    """Numbers that differ by no more than `rounding` times the `size` of what is summed."""
    assert actual.shape == expected.shape
    assert float((actual - expected).detach().abs().max()) <= rounding * float(size.detach().max())


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


# --- the loss of gains


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


# --- quadratic forms


def form_problem(dtype=torch.float64, L=5, Z=3, n=4):
    roots = normal(Z, n, n, seed=1)
    tensors = normal(L, Z, n), roots @ roots.mT + torch.eye(n), normal(Z, n, seed=2)
    return [t.to(dtype).requires_grad_() for t in tensors]


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


# --- what holds for all of them

OPERATIONS = {
    "decov": ("activations", lambda t: fct.decov(t, samples_axis=1)),
    "loss-of-X": ("X", lambda t: fct.loss(t, torch.eye(3), torch.ones(3))),
    "loss-of-S": ("S", lambda t: fct.loss(torch.ones(2, 3), t, torch.ones(2))),
    "loss-of-gains": ("gains", lambda t: fct.loss(torch.eye(3), torch.eye(3), t)),
    "forms-of-inputs": ("inputs", lambda t: fct.quadratic_forms(t, torch.eye(3)[None])),
    "forms-of-matrices": ("matrices", lambda t: fct.quadratic_forms(torch.ones(2, 1, 3), t)),
    "forms-of-mean": (
        "mean", lambda t: fct.quadratic_forms(torch.ones(2, 1, 3), torch.eye(3)[None], mean=t),
    ),
    "distance": ("target", lambda t: fct.covariance_distance(torch.ones(3, 5), t, samples_axis=1)),
    "ridge": ("ridge", lambda t: fct.loss(torch.eye(3), torch.eye(3), torch.ones(3), ridge=t)),
}  # fmt: skip
EACH_OPERATION = pytest.mark.parametrize("name", OPERATIONS)


class Elsewhere(torch.Tensor):
    """A tensor that says it is on another device."""

    device = torch.device("cuda", 1)


@EACH_OPERATION
@pytest.mark.parametrize(
    ("tensor", "kind", "message"),
    [
        (torch.ones(3).as_subclass(Elsewhere), ValueError, r"on the CPU, not on cuda:1: call \.cpu\(\)"),
        (torch.ones(3, device="meta"), ValueError, "hold numbers, not be on the device meta"),
        (torch.ones(3, dtype=torch.complex64), TypeError, "real numbers, not torch.complex64: take its real"),
        (torch.ones(3, dtype=torch.int64), TypeError, r"floating dtype.* not torch.int64.*\.float\(\)"),
        (torch.ones(3, dtype=torch.bool), TypeError, r"floating dtype.* not torch.bool"),
        (torch.eye(3).to_sparse(), TypeError, r"dense tensor, not of layout torch.sparse_coo"),
        (torch.nested.nested_tensor([torch.ones(3)], layout=torch.jagged), TypeError, "not a nested one"),
    ],
    ids=["device", "meta", "complex", "integer", "bool", "sparse", "nested"],
)  # fmt: skip
def test_tensors_that_cannot_be_used_are_refused_with_a_reason(name, tensor, kind, message):
    argument, call = OPERATIONS[name]
    with pytest.raises(kind, match=rf"^Argument '{argument}' must .*{message}"):
        call(tensor)


@EACH_OPERATION
def test_arrays_are_refused_with_a_reason(name):
    argument, call = OPERATIONS[name]
    if argument in ("target", "ridge"):
        pytest.skip("may be an array")
    with pytest.raises(TypeError, match=rf"^Argument '{argument}' must be a tensor, not ndarray: use torch"):
        call(np.eye(3))


@pytest.mark.filterwarnings("ignore:.*quant")  # which are on their way out of PyTorch
def test_a_quantized_tensor_is_refused_with_a_reason():
    quantized = torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.quint8)
    with pytest.raises(TypeError, match=r"^Argument 'activations' must not be quantized: call .dequantize"):
        fct.decov(quantized, samples_axis=0)


@pytest.mark.parametrize("name", ["distance", "ridge"])
def test_constants_that_ask_for_a_gradient_are_refused(name):
    argument, call = OPERATIONS[name]
    with pytest.raises(ValueError, match=rf"^Argument '{argument}' must not require a gradient.*detach"):
        call(torch.eye(3).requires_grad_())


def test_what_is_not_finite_is_named():
    hidden = normal(5, 4)
    hidden[2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"^Argument 'activations' must be finite, .* at sample 2, unit 1"):
        fct.decov(hidden, samples_axis=0)
    with pytest.raises(ValueError, match=r"^Argument 'X' must be finite, .* at channel 2, condition 1"):
        fct.loss(hidden, torch.eye(4), torch.ones(5))


# Of each kind of operation one, of activations that a network made, as its loss.
LOSSES = {
    "penalty": lambda h: fct.decov(h, samples_axis=0),
    "gains": lambda h: fct.loss(h.T, torch.eye(len(h), dtype=h.dtype), torch.ones(h.shape[1], dtype=h.dtype)),
    "forms": lambda h: fct.quadratic_forms(h[:, None], torch.eye(h.shape[1], dtype=h.dtype)[None]).mean(),
}
EACH_LOSS = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@EACH_LOSS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_halves_are_computed_in_float32_and_keep_their_dtype(loss, dtype):
    hidden = normal(8, 4).to(dtype).requires_grad_()
    wide = hidden.detach().float().requires_grad_()
    value, (gradient,) = value_and_gradients(loss, hidden)
    expected, (slope,) = value_and_gradients(loss, wide)
    assert value.dtype == gradient.dtype == dtype
    assert torch.equal(value, expected.to(dtype))
    assert torch.equal(gradient, slope.to(dtype))


@EACH_LOSS
def test_tensors_of_any_layout_have_the_same_gradients(loss):
    plain = normal(8, 4).requires_grad_()
    expected, (slope,) = value_and_gradients(loss, plain)
    wide = torch.stack([plain.detach(), torch.full((8, 4), torch.nan)], dim=2)
    layouts = {
        "transposed": plain.detach().T.contiguous().T,
        "strided": wide[:, :, 0],
        "negative": torch.complex(torch.zeros_like(wide[:, :, 0]), -plain.detach()).conj().imag,
        "parameter": torch.nn.Parameter(plain.detach().clone()),
    }
    for tensor in layouts.values():
        value, (gradient,) = value_and_gradients(loss, tensor.requires_grad_())
        assert_allclose(value.item(), expected.item(), rtol=1e-14)
        assert_allclose(gradient, slope, rtol=1e-12, atol=1e-14)


@EACH_LOSS
def test_an_expanded_tensor_has_the_sum_of_the_gradients_of_its_rows(loss):
    row = normal(4).requires_grad_()
    copies = row.detach().repeat(8, 1).requires_grad_()
    _, (gradient,) = value_and_gradients(lambda row: loss(row.expand(8, 4)), row)
    _, (slope,) = value_and_gradients(loss, copies)
    assert_allclose(gradient, slope.sum(dim=0), rtol=1e-12, atol=1e-13)


def test_empty_batches_have_empty_gradients():
    for shape in ((0, 4), (5, 0)):
        hidden = torch.empty(shape, requires_grad=True)
        value = fct.mean_squared_covariance(hidden, samples_axis=0)
        value.backward()
        assert value.item() == 0
        assert hidden.grad.shape == shape
    inputs, matrices = torch.empty(0, 2, 3, requires_grad=True), torch.eye(3).repeat(2, 1, 1).requires_grad_()
    fct.quadratic_forms(inputs, matrices).sum().backward()
    assert inputs.grad.shape == (0, 2, 3)
    assert not matrices.grad.any()


@EACH_LOSS
def test_what_comes_back_scales_gradients_and_they_add_up(loss):
    hidden = normal(8, 4).requires_grad_()
    _, (once,) = value_and_gradients(loss, hidden)
    value = loss(hidden)
    (-3 * value).backward(retain_graph=True)
    value.backward()
    assert_allclose(hidden.grad, -2 * once, rtol=1e-12, atol=1e-14)


@EACH_LOSS
def test_without_gradients_there_is_a_value_alone(loss):
    hidden = normal(8, 4).requires_grad_()
    with torch.no_grad():
        quiet = loss(hidden)
    with torch.inference_mode():
        inferred = loss(hidden)
    assert not quiet.requires_grad
    assert not inferred.requires_grad
    assert quiet.item() == inferred.item() == loss(hidden).item()


@EACH_LOSS
def test_a_second_derivative_is_refused(loss):
    hidden = normal(8, 4).requires_grad_()
    with pytest.raises(RuntimeError, match=r"^fastcov\.torch has first derivatives alone"):
        torch.autograd.grad(loss(hidden), hidden, create_graph=True)


@EACH_LOSS
def test_transforms_of_functions_are_refused_by_pytorch(loss):
    with pytest.raises(RuntimeError, match=r"functorch|vmap"):
        torch.func.grad(loss)(normal(8, 4))


def test_a_change_in_place_before_backward_is_an_error_where_it_would_be_wrong():
    inputs, matrices, _ = (t.detach() for t in form_problem())
    inputs.requires_grad_()
    total = fct.quadratic_forms(inputs, matrices).sum()
    with torch.no_grad():
        inputs.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_a_penalty_trains_a_network_whatever_the_threads_of_pytorch(set_pytorch_threads):
    def trained(threads):
        set_pytorch_threads(threads)
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh())
        optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
        inputs, values = normal(64, 5, dtype=torch.float32), []
        for _ in range(30):
            optimiser.zero_grad()
            value = fct.decov(net(inputs), samples_axis=0)
            value.backward()
            optimiser.step()
            values.append(value.item())
        return values

    values = trained(1)
    assert values[-1] < 0.5 * values[0]
    assert_allclose(trained(2), values, rtol=1e-4)


def test_pytorch_keeps_its_number_of_threads():
    # The kernels of Numba would set it to theirs: both libraries share one of OpenMP.
    script = """
import torch, fastcov.torch as fct
for n in (1, 3):
    torch.set_num_threads(n)
    hidden = torch.randn(2000, 600, requires_grad=True)
    fct.quadratic_forms(hidden[:, None], torch.eye(600)[None]).sum().backward()
    fct.loss(hidden, torch.eye(600), torch.ones(2000)).backward()
    print(torch.get_num_threads())
"""
    assert run_python(script).split() == ["1", "3"]


@pytest.mark.parametrize("n", [1, 2])
def test_no_more_threads_are_used_than_pytorch_has(monkeypatch, set_pytorch_threads, n):
    seen = []

    def watched(hidden, **options):
        seen.append(numba.get_num_threads())
        return 0.0, np.zeros_like(hidden)

    monkeypatch.setattr(fc.penalties, "decov", watched)
    set_pytorch_threads(n)
    fct.decov(normal(8, 4), samples_axis=0)
    assert seen == [min(n, numba.get_num_threads())]


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of PyTorch, wherever a graph breaks
def test_a_compiled_step_runs_ours_uncompiled_and_gives_the_same():
    torch.manual_seed(0)
    net, layer = torch.nn.Linear(5, 4), fct.QuadraticForms(1, 4, log_determinant=True)
    inputs = normal(10, 5, dtype=torch.float32)

    def step():
        hidden = torch.tanh(net(inputs))
        gains = fct.loss(hidden.T, torch.eye(10), torch.ones(4))
        value = fct.decov(hidden, samples_axis=0) + gains + layer(hidden[:, None]).mean()
        value.backward()
        gradient, net.weight.grad = net.weight.grad, None
        return value.detach(), gradient

    for compiled, plain in zip(torch.compile(step, backend="eager")(), step(), strict=True):
        assert torch.equal(compiled, plain)


def test_a_training_step_runs_in_a_forked_child():
    script = """
import multiprocessing, torch, fastcov.torch as fct
def slope(size):
    hidden = torch.arange(1.0, 1 + size * 2000).sin().reshape(2000, size).requires_grad_()
    forms = fct.quadratic_forms(hidden[:, None], torch.eye(size)[None])
    gains = fct.loss(hidden, torch.eye(size), torch.ones(2000))
    (forms.sum() + gains + fct.decov(hidden, samples_axis=0)).backward()
    return hidden.grad
if __name__ == "__main__":
    torch.set_num_threads(1)  # as in a worker of a DataLoader: PyTorch's own threads do not survive a fork
    ours = slope(600)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        theirs = torch.as_tensor(pool.apply(slope, (600,)))
    print(float((ours - theirs).abs().max() / ours.abs().max()) < 1e-4)
"""
    assert run_python(script).strip() == "True"


def test_the_example_trains_units_that_are_less_alike_and_draws_the_figure_of_the_documentation(
    monkeypatch, capsys, tmp_path, set_pytorch_threads
):
    pytest.importorskip("matplotlib")
    root, figure = pathlib.Path(__file__).parents[1], tmp_path / "decorrelate.png"
    monkeypatch.setattr("sys.argv", ["decorrelate.py", str(figure)])
    found = runpy.run_path(str(root / "examples" / "decorrelate.py"))["found"]
    alike = {name: between for name, (_, between, _) in found.items()}
    right = {name: share for name, (_, _, share) in found.items()}
    assert alike["Trained without penalty"] > 2 * alike["Trained with DeCov"]
    assert right["Trained with DeCov"] > right["Trained without penalty"] - 0.03 > 0.7
    assert f"Saved the figure to {figure}" in capsys.readouterr().out
    sizes = [path.read_bytes()[16:24] for path in (figure, root / "docs" / "decorrelate.png")]
    assert sizes[0] == sizes[1]
