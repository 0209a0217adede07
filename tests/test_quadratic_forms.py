"""Quadratic forms, their gradients, and what is refused, against loops over samples and units."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import naive
import numpy as np
import pytest
from cases import needs_jit, needs_two_threads, within
from counting import allocations

import fastcov as fc
from fastcov import quadratic_forms as module
from fastcov._unit_forms import stacks
from fastcov.quadratic_forms import Gradients, SPDBatch, quadratic_forms, quadratic_forms_and_gradients

# Samples, units, inputs: one of each, either side of what is taken at once, and few units with many samples.
SHAPES = [(1, 1, 1), (3, 4, 2), (70, 2, 5), (5, 3, 33), (301, 1, 3)]
LOOPED = (70, 2, 5)


def case(shape, dtype=np.float64, seed=0):
    """Inputs, a batch, weights of both signs and a mean."""
    n, units, d = shape
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) + 1.0).astype(dtype)
    return (
        x,
        SPDBatch.random(units, d, dtype=dtype, rng=rng),
        rng.standard_normal((n, units)),
        rng.standard_normal((units, d)),
    )


@pytest.fixture(params=["matrices", "factors"])
def held(request):
    """What the functions are given of a batch, and the matrices in float64 that it stands for."""

    def of(batch):
        if request.param == "matrices":
            return batch.matrices(), batch.matrices().astype(np.float64)
        L = batch.cholesky.astype(np.float64)
        return batch, L @ L.transpose(0, 2, 1)

    return of


def bounds(x, batch, w, mean, dtype):
    """Rounding of g and of the gradients: sums of n or 4d terms, of magnitudes |x| + |μ|, |w|, |L| |Lᵀ|."""
    n, _, d = x.shape
    eps = (n + 4 * d + 20) * np.finfo(dtype).eps
    size = np.abs(x.astype(np.float64)) + (0 if mean is None else np.abs(mean))
    L = np.abs(batch.cholesky.astype(np.float64))
    A, w = L @ L.transpose(0, 2, 1), np.abs(w)
    by_x, by_A, by_mean = naive.quadratic_form_gradients(size, A, w)
    # ‖A⁻¹‖ and the condition are below 4 and 10.
    inverse = 40 * d * w.sum(axis=0)[:, np.newaxis, np.newaxis]
    log = d * np.log(10.0)
    return (
        eps * (naive.quadratic_forms(size, A) + log),
        eps * by_x,
        eps * (by_A + inverse),
        eps * np.abs(by_mean),
    )


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "options", [(False, False), (True, False), (True, True)], ids=["plain", "mean", "energy"]
)
def test_forms_and_gradients_are_their_definitions(shape, dtype, held, options):
    x, batch, w, mean = case(shape, dtype)
    given, A = held(batch)
    mean = mean if options[0] else None
    call = {"mean": mean, "log_determinant": options[1]}
    bound = bounds(x, batch, w, mean, dtype)
    g = quadratic_forms(x, given, **call)
    again, gradients = quadratic_forms_and_gradients(x, given, weights=w, **call)
    expected = naive.quadratic_forms(x, A, **call)
    by_x, by_A, by_mean = naive.quadratic_form_gradients(x, A, w, **call)
    assert {a.dtype for a in (g, again, gradients.inputs, gradients.matrices)} == {np.dtype(dtype)}
    within(g, expected, bound[0])
    within(again, expected, bound[0])
    within(gradients.inputs, by_x, bound[1])
    within(gradients.matrices, by_A, bound[2])
    np.testing.assert_array_equal(gradients.matrices, gradients.matrices.transpose(0, 2, 1))
    if mean is None:
        assert gradients.mean is None
    else:
        assert gradients.mean.dtype == dtype
        within(gradients.mean, by_mean, bound[3])


@pytest.mark.usefixtures("parallel")
def test_parallel_kernels_give_the_definition_too(held):
    x, batch, w, _ = case((70, 9, 5))
    given, A = held(batch)
    g, gradients = quadratic_forms_and_gradients(x, given, weights=w)
    bound = bounds(x, batch, w, None, np.float64)
    within(quadratic_forms(x, given), naive.quadratic_forms(x, A), bound[0])
    within(g, naive.quadratic_forms(x, A), bound[0])
    within(gradients.matrices, naive.quadratic_form_gradients(x, A, w)[1], bound[2])


@hypothesis.given(
    x=hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.float16, np.int32, np.uint8, np.bool_]),
        hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6),
        elements=st.integers(0, 1),
    ),
    seed=st.integers(0, 5),
    batched=st.booleans(),
)
def test_any_shape_and_dtype_gives_the_definition_and_euler_identities(x, seed, batched):
    batch = SPDBatch.random(*x.shape[1:], rng=seed)
    g, gradients = quadratic_forms_and_gradients(x, batch if batched else batch.matrices())
    assert g.dtype == np.float64
    bound = bounds(x, batch, np.ones(g.shape), None, np.float64)
    within(g, naive.quadratic_forms(x, batch.matrices()), bound[0])
    # A form is of degree two in x and one in A.
    within(np.sum(gradients.inputs * x), 2 * g.sum(), 2 * np.sum(np.abs(x) * bound[1]) + np.sum(bound[0]))
    A = batch.matrices()
    within(np.sum(gradients.matrices * A), g.sum(), np.sum(np.abs(A) * bound[2]) + np.sum(bound[0]))


@pytest.mark.parametrize("dtype", [np.int16, np.float16, np.float32, "mixed"], ids=str)
def test_result_is_float32_only_where_both_are_at_most_that(dtype):
    mixed = dtype == "mixed"
    x = np.ones((4, 2, 3), np.float32 if mixed else dtype)
    batch = SPDBatch.random(2, 3, dtype=np.float64 if mixed else np.float32)
    expected = np.float64 if dtype in ("mixed", np.int16) else np.float32
    for matrices in (batch, batch.matrices()):
        assert quadratic_forms(x, matrices).dtype == expected


def total(x, A, w, mean, log_determinant=False):
    return np.sum(w * quadratic_forms(x, A, mean=mean, log_determinant=log_determinant))


def test_gradients_are_the_slopes_of_the_forms(held):
    x, batch, w, mean = case((6, 2, 4))
    given, A = held(batch)
    _, gradients = quadratic_forms_and_gradients(x, given, weights=w, mean=mean)
    rng = np.random.default_rng(3)
    dx, dA, dm = rng.standard_normal(x.shape), rng.standard_normal(A.shape), rng.standard_normal(mean.shape)
    dA = (
        0.1 * (dA + dA.transpose(0, 2, 1)) / np.abs(dA).sum(axis=(1, 2), keepdims=True)
    )  # A ± dA are definite
    # g is of second degree in x and the mean and of first in A, so that central differences are exact.
    eps = 1e-12 * np.sum(np.abs(w) * (quadratic_forms(np.abs(x) + np.abs(dx) + 5.0, A)))
    for slope, plus, minus in (
        (gradients.inputs * dx, total(x + dx, A, w, mean), total(x - dx, A, w, mean)),
        (gradients.matrices * dA, total(x, A + dA, w, mean), total(x, A - dA, w, mean)),
        (gradients.mean * dm, total(x, A, w, mean + dm), total(x, A, w, mean - dm)),
    ):
        within(np.sum(slope), (plus - minus) / 2, eps)


def test_gradient_of_the_log_determinant_is_its_slope(held):
    x, batch, w, mean = case((6, 2, 4))
    given, A = held(batch)
    _, gradients = quadratic_forms_and_gradients(x, given, weights=w, mean=mean, log_determinant=True)
    dA = np.random.default_rng(3).standard_normal(A.shape)
    dA += dA.transpose(0, 2, 1)
    h = 1e-4
    slope = (total(x, A + h * dA, w, mean, True) - total(x, A - h * dA, w, mean, True)) / (2 * h)
    # The third derivative of log det along dA is 2 tr (A⁻¹ dA)³, and rounding is divided by h.
    third = np.abs(w).sum() * (np.linalg.norm(dA, axis=(1, 2)).max() * np.sqrt(10)) ** 3
    within(np.sum(gradients.matrices * dA), slope, h**2 * third + 1e-9)


def test_half_of_it_with_the_constant_is_the_density_of_a_gaussian(held):
    stats = pytest.importorskip("scipy.stats")
    x, batch, _, mean = case((5, 2, 3))
    given, A = held(batch)
    energy = quadratic_forms(x, given, mean=mean, log_determinant=True) / 2 + 3 / 2 * np.log(2 * np.pi)
    for z in range(2):
        density = stats.multivariate_normal(mean[z], np.linalg.inv(A[z])).logpdf(x[:, z])
        np.testing.assert_allclose(energy[:, z], -density, rtol=1e-12, atol=1e-12)


def test_a_large_common_offset_costs_no_digits(held):
    x, batch, _, mean = case((20, 3, 4))
    x, mean = np.round(8 * x), np.round(8 * mean)
    given, _ = held(batch)
    # All of it is whole numbers, so that what is left after the mean is the same to the bit.
    np.testing.assert_array_equal(
        quadratic_forms(x + 2.0**40, given, mean=mean + 2.0**40), quadratic_forms(x, given, mean=mean)
    )


def test_forms_of_factors_are_accurate_where_the_matrix_is_singular_to_rounding():
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((1, 6, 6)))[0]
    values = np.geomspace(1.0, 1e-20, 6)[np.newaxis]
    batch = SPDBatch.from_eigen(Q, values)
    g = quadratic_forms(Q.transpose(0, 2, 1)[0][:, np.newaxis], batch)[:, 0]
    # W is known to rounding of its largest singular value, and g is the square of one.
    root = np.sqrt(values[0])
    within(g, values[0], 100 * np.finfo(float).eps * (root + 100 * np.finfo(float).eps))
    assert (g > 0).all()


# --- layouts, sizes, repeatability


def _strided(x):
    wide = np.full([2 * n for n in x.shape], np.nan, x.dtype)
    wide[::2, ::2, ::2] = x
    return wide[::2, ::2, ::2]


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": _strided,
    "every second sample": lambda x: np.repeat(x, 2, axis=0)[::2],
    "units first": lambda x: np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2),
    "read-only": _read_only,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "long double": lambda x: x.astype(np.longdouble),
    "list": lambda x: x.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("by_block", [False, True], ids=["at once", "by blocks"])
def test_no_layout_changes_the_answer_or_is_written_to(layout, by_block, monkeypatch):
    x, batch, w, mean = case(LOOPED)
    A = batch.matrices()
    expected = quadratic_forms_and_gradients(x, A, weights=w, mean=mean)
    bound = bounds(x, batch, w, mean, np.float64)
    if by_block:
        monkeypatch.setattr(stacks, "BLOCK_BYTES", 8 * 9 * x[0].size)
        monkeypatch.setattr(stacks, "BLOCK_FLOPS", 6 * 7 * A.size)
    make = LAYOUTS[layout]
    given = [make(x), make(A), make(w[..., np.newaxis])[..., 0] if layout != "list" else w.tolist()]
    before = [np.array(a) for a in given]
    g, gradients = quadratic_forms_and_gradients(given[0], given[1], weights=given[2], mean=mean)
    within(g, expected[0], bound[0])
    within(gradients.inputs, expected[1].inputs, bound[1])
    within(gradients.matrices, expected[1].matrices, bound[2])
    within(quadratic_forms(given[0], given[1], mean=mean), expected[0], bound[0])
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_the_symmetric_part_of_matrices_off_by_rounding_is_what_counts():
    x, batch, _, _ = case(LOOPED)
    A = batch.matrices()
    A[:, 0, 1] = np.nextafter(A[:, 0, 1], np.inf)
    g, gradients = quadratic_forms_and_gradients(x, A)
    symmetric = quadratic_forms_and_gradients(x, (A + A.transpose(0, 2, 1)) / 2)
    np.testing.assert_array_equal(g, symmetric[0])
    np.testing.assert_array_equal(gradients.inputs, symmetric[1].inputs)


def test_extreme_sizes_overflow_only_where_the_form_does(held):
    given, _ = held(SPDBatch.from_cholesky([np.eye(2), 2 * np.eye(2)]))
    for size in (1e150, 1e-150):
        x = np.full((3, 2, 2), size)
        g, gradients = quadratic_forms_and_gradients(x, given)
        np.testing.assert_allclose(g, np.multiply([2.0, 8.0], size**2) * np.ones((3, 1)), rtol=1e-15)
        np.testing.assert_allclose(gradients.inputs[0, 1], 8 * size, rtol=1e-15)
        np.testing.assert_allclose(gradients.matrices, 3 * size**2, rtol=1e-15)
        np.testing.assert_array_equal(quadratic_forms(x, given), g)
    np.testing.assert_array_equal(quadratic_forms(np.full((1, 2, 2), -1e200), given), np.inf)
    # inf - inf within a product is no reason for a NaN
    assert quadratic_forms([[[1e300, -1e300]]], [[[1e200, 9e199], [9e199, 1e200]]]) == np.inf
    assert quadratic_forms([[[1e200, 0.0]]], [1e-250 * np.eye(2)]) == pytest.approx(1e150)
    single = quadratic_forms(np.full((1, 2, 2), 1e18, np.float32), SPDBatch.random(2, 2, dtype=np.float32))
    assert np.isfinite(single).all()
    assert np.isinf(quadratic_forms(np.full((1, 1, 1), 1e30, np.float32), np.ones((1, 1, 1), np.float32)))


@needs_jit
@needs_two_threads
@pytest.mark.usefixtures("parallel")
def test_results_are_the_same_bits_again_and_to_rounding_on_one_thread(held):
    x, batch, w, mean = case((300, 5, 17))
    given, _ = held(batch)

    def call():
        g, gradients = quadratic_forms_and_gradients(x, given, weights=w, mean=mean, log_determinant=True)
        return quadratic_forms(x, given), g, gradients.inputs, gradients.matrices, gradients.mean

    first, again = call(), call()
    with fc.threads(1):
        alone = call()
    bound = bounds(x, batch, w, mean, np.float64)
    for a, b, c, limit in zip(first, again, alone, (bound[0], *bound), strict=True):
        np.testing.assert_array_equal(a, b)
        within(a, c, 2 * limit)


@needs_jit
def test_memory_beside_the_results_does_not_grow_with_the_inputs():
    x, batch, _, _ = case((400, 64, 64))
    matrices = batch.matrices()
    small = np.asfortranarray(x)
    slopes, sums = x.nbytes, matrices.nbytes
    for given in (batch, matrices):
        with allocations() as made:
            quadratic_forms(x, given)
        assert made == []
        with allocations() as made:
            quadratic_forms_and_gradients(x, given)
        assert sorted(nbytes for nbytes, _ in made) == [sums, slopes]
    with allocations() as made:
        quadratic_forms(small, batch)
    ((nbytes, place),) = made
    assert nbytes <= stacks.BLOCK_BYTES
    assert place.endswith("blocks")


def test_memory_that_is_not_there_is_asked_for_before_any_work(little_memory):
    x = np.broadcast_to(1.0, (2000, 20, 9))
    batch = SPDBatch.from_cholesky(np.stack([np.eye(9)] * 20))
    for function in (quadratic_forms, quadratic_forms_and_gradients):
        with pytest.raises(MemoryError, match=r"of 2000 x 20.*pass fewer samples at a time"):
            little_memory(lambda function=function: function(x, batch))


def test_parts_of_few_units_take_bounded_memory(monkeypatch):
    x, batch, w, _ = case((3000, 1, 6))
    _, together = quadratic_forms_and_gradients(x, batch, weights=w)
    monkeypatch.setattr(module, "PART_BYTES", 1)
    _, apart = quadratic_forms_and_gradients(x, batch, weights=w)
    within(apart.matrices, together.matrices, bounds(x, batch, w, None, np.float64)[2])


# --- empty and bad input


def test_no_samples_and_no_units_are_defined(held):
    given, _ = held(SPDBatch.random(3, 2))
    g, gradients = quadratic_forms_and_gradients(np.zeros((0, 3, 2)), given, mean=np.ones((3, 2)))
    assert quadratic_forms(np.zeros((0, 3, 2)), given).shape == g.shape == (0, 3)
    assert gradients.inputs.shape == (0, 3, 2)
    np.testing.assert_array_equal(gradients.matrices, np.zeros((3, 2, 2)))
    np.testing.assert_array_equal(gradients.mean, np.zeros((3, 2)))
    given, _ = held(SPDBatch.random(0, 2))
    g, gradients = quadratic_forms_and_gradients(np.zeros((4, 0, 2)), given, log_determinant=True)
    assert quadratic_forms(np.zeros((4, 0, 2)), given).shape == g.shape == (4, 0)
    assert (gradients.inputs.shape, gradients.matrices.shape) == ((4, 0, 2), (0, 2, 2))


X, EYE = np.zeros((4, 3, 2)), np.stack([np.eye(2)] * 3)


def _with(array, place, value):
    array = np.array(array, dtype=float)
    array[place] = value
    return array


REFUSED = {
    "inputs without axes": (
        ValueError,
        {"inputs": X[0]},
        r"'inputs' must have 3 axes \(sample, unit, input\)",
    ),
    "text": (TypeError, {"inputs": X.astype(str)}, "'inputs' must hold real numbers"),
    "masked": (TypeError, {"inputs": np.ma.masked_array(X)}, "'inputs' must be an array without a mask"),
    "complex matrices": (TypeError, {"matrices": EYE + 0j}, "'matrices' must hold real numbers"),
    "not square": (ValueError, {"matrices": np.ones((3, 2, 4))}, r"square matrices.*\(3, 2, 4\)"),
    "no inputs": (
        ValueError,
        {"inputs": np.zeros((4, 3, 0)), "matrices": np.zeros((3, 0, 0))},
        "'matrices' must hold square matrices of order 1 or more",
    ),
    "other units": (ValueError, {"matrices": EYE[:2]}, "of order 2 for each of the 3 units.*not be of shape"),
    "other order": (ValueError, {"matrices": SPDBatch.random(3, 5)}, r"of order 2.*\(3, 5, 5\)"),
    "NaN": (
        ValueError,
        {"inputs": _with(X, (2, 1, 0), np.nan)},
        "'inputs' must be finite, not NaN or infinite in 1 place, first at sample 2, unit 1, input 0",
    ),
    "infinite": (ValueError, {"inputs": _with(X, (2, 1, 1), -np.inf)}, "sample 2, unit 1, input 1"),
    "NaN in a matrix": (
        ValueError,
        {"matrices": _with(EYE, (1, 0, 1), np.nan)},
        "'matrices' must be finite.*first at unit 1, row 0, column 1",
    ),
    "infinite in a matrix": (ValueError, {"matrices": _with(EYE, (2, 1, 1), np.inf)}, "unit 2, row 1"),
    "not symmetric": (
        ValueError,
        {"matrices": _with(EYE, (1, 1, 0), 0.25)},
        r"'matrices' must be symmetric, not different by 0\.25 at unit 1, row 0, column 1",
    ),
    "indefinite": (
        ValueError,
        {"matrices": np.stack([np.eye(2), [[1.0, 2.0], [2.0, 1.0]], -np.eye(2)])},
        "'matrices' must be positive definite, not with 2 of 3 that are not, first that of unit 1 .*"
        "smallest eigenvalue is -1 and largest 3: add",
    ),
    "mean of another shape": (ValueError, {"mean": np.zeros(2)}, "'mean' must have 2 axes"),
    "mean of other units": (
        ValueError,
        {"mean": np.zeros((2, 2))},
        "'mean' must have the 3 units and 2 inputs",
    ),
    "NaN in the mean": (ValueError, {"mean": np.full((3, 2), np.nan)}, "'mean' must be finite.*in 6 places"),
    "a number for a flag": (
        TypeError,
        {"log_determinant": 1},
        "'log_determinant' must be True or False, not 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_with_its_name_and_place(name):
    error, change, message = REFUSED[name]
    call = {"inputs": X, "matrices": EYE, **change}
    for function in (quadratic_forms, quadratic_forms_and_gradients):
        with pytest.raises(error, match=message):
            function(**call)


def test_bad_weights_are_refused():
    for weights, message in (
        (np.ones((3, 4)), r"'weights' must have the 4 samples and 3 units of 'inputs', not shape \(3, 4\)"),
        (np.full((4, 3), np.inf), "'weights' must be finite.*in 12 places"),
        (np.ones(3), "'weights' must have 2 axes"),
    ):
        with pytest.raises(ValueError, match=message):
            quadratic_forms_and_gradients(X, EYE, weights=weights)


@pytest.mark.parametrize("needed", [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)], ids=str)
def test_gradients_that_are_not_needed_are_not_made(held, needed, monkeypatch):
    x, batch, w, mean = case(LOOPED)
    given, _ = held(batch)
    options = {"weights": w, "mean": mean, "log_determinant": True}
    _, full = quadratic_forms_and_gradients(x, given, **options)
    kernel, made = module.kernels.forms_and_gradients, []

    def watched(*arrays, **sizes):
        made.append((arrays[6].size > 0, arrays[7].size > 0))
        kernel(*arrays, **sizes)

    monkeypatch.setattr(module.kernels, "forms_and_gradients", watched)
    found = module.needed_gradients(x, given, needed=tuple(map(bool, needed)), **options)
    assert made == [(bool(needed[0]), bool(needed[1]))]
    for wanted, gradient, expected in zip(
        needed, found, (full.inputs, full.matrices, full.mean), strict=True
    ):
        if wanted:
            np.testing.assert_array_equal(gradient, expected)
        else:
            assert gradient is None


def test_gradients_print_themselves_shortly():
    _, gradients = quadratic_forms_and_gradients(X, EYE)
    assert repr(gradients) == "Gradients: inputs (4, 3, 2), matrices (3, 2, 2), mean None"
    assert isinstance(gradients, Gradients)


def test_the_module_is_a_door_of_the_package():
    assert fc.quadratic_forms is module
