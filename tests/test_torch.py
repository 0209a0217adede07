"""fastcov.torch: what holds for all of its operations: what is refused, dtypes, layouts, threads."""

import pathlib
import runpy

import numba
import numpy as np
import pytest
from cases import run_python
from numpy.testing import assert_allclose
from optional import needs

import fastcov as fc

needs("torch")

import torch
from torch_cases import form_problem, normal, value_and_gradients

import fastcov.torch as fct


@pytest.fixture
def set_pytorch_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


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
