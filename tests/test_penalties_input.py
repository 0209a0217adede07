"""Activations as they are given: what is taken and left as it is, what has no entries, what is refused."""

import re

import naive
import numpy as np
import pytest
from cases import LAYOUTS, data, needs_jit, peak_bytes, within
from optional import needs
from scipy import sparse
from test_input import not_real, refused
from test_penalties import CALLS, a_target, bounds

import fastcov as fc
from fastcov import penalties

N, M = 6, 9
A = data(N, M)


def call_of(label):
    """A penalty on (N, M) activations, with its other arguments."""
    name, options = CALLS[label]
    return lambda A, **others: getattr(penalties, name)(A, **{**options(N), **others})


PENALTY_CALLS = [pytest.param(call_of(label), id=label) for label in CALLS]
penalty_calls = pytest.mark.parametrize("call", PENALTY_CALLS)
distances = pytest.mark.parametrize("coral", [False, True], ids=["plain", "coral"])


# --- what is taken


@pytest.mark.covering(1, whole="decov")
@penalty_calls
@pytest.mark.parametrize("samples_axis", [0, 1])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_activations_of_any_layout_are_taken_and_not_written_to(call, layout, samples_axis, dtype, tmp_path):
    plain = A.astype(dtype)
    made = LAYOUTS[layout](plain if samples_axis else plain.T.copy(), tmp_path)
    before = np.array(made)
    value, gradient = call(made, samples_axis=samples_axis)
    np.testing.assert_array_equal(made, before)
    units = before if samples_axis else before.T
    expected = call(np.ascontiguousarray(units, before.dtype.newbyteorder("=")))
    assert value == pytest.approx(expected[0], rel=1e-5 if dtype == np.float32 else 1e-13)
    size = np.abs(expected[1]).max()
    np.testing.assert_allclose(
        gradient if samples_axis else gradient.T,
        expected[1],
        rtol=0,
        atol=200 * np.finfo(expected[1].dtype).eps * size,
    )
    assert gradient.flags.writeable
    assert gradient.flags.aligned
    assert gradient.dtype.isnative
    assert not np.may_share_memory(gradient, made)


@pytest.mark.covering(2)
@pytest.mark.parametrize("samples_axis", [0, 1])
@pytest.mark.parametrize("order", ["C", "F"])
@penalty_calls
def test_gradients_have_the_axes_of_the_activations_and_are_c_ordered(call, order, samples_axis, dtype):
    made = np.asarray(A if samples_axis else A.T, dtype, order)
    _, gradient = call(made, samples_axis=samples_axis)
    assert gradient.shape == made.shape
    assert gradient.flags.c_contiguous


DTYPES = {
    "f8": "f8", "f4": "f4", "f2": "f4", "g": "f8", ">f8": "f8", ">f4": "f4", ">f2": "f4",
    "i1": "f8", "i4": "f8", "i8": "f8", "u2": "f8", ">i4": "f8", "?": "f8",
}  # fmt: skip


@pytest.mark.covering(1, whole="decov")
@penalty_calls
@pytest.mark.parametrize(("given", "result"), DTYPES.items(), ids=DTYPES)
def test_real_numbers_of_any_kind_are_taken_in_the_precision_they_have(call, given, result):
    made = (np.round(4 * A) > 3 if given == "?" else np.round(4 * A).clip(0, 100)).astype(given)
    value, gradient = call(made)
    assert gradient.dtype == np.dtype(result)
    expected = call(made.astype(result))
    assert value == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])


def test_whole_numbers_are_not_added_up_as_such():
    value, _ = penalties.mean_squared_covariance((100 * A).astype(np.int8))
    assert value == penalties.mean_squared_covariance((100 * A).astype(np.int8).astype(float))[0]
    assert value > 127**2


@pytest.mark.parametrize("form", [None, ">f8", "f4", "g", "list", "Fortran", "read-only"])
@distances
def test_targets_of_any_kind_are_taken_and_not_written_to(form, coral):
    S = a_target(N).astype(np.float32).astype(float)
    made = LAYOUTS[form](S, None) if form in LAYOUTS else S.astype(form)
    before = np.array(made)
    value, gradient = penalties.covariance_distance(A, made, coral=coral)
    expected = penalties.covariance_distance(A, S, coral=coral)
    assert value == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])
    np.testing.assert_array_equal(made, before)


# --- what has no entries


@pytest.mark.covering(2)
@pytest.mark.parametrize("label", CALLS)
@pytest.mark.parametrize("shape", [(0, 5), (0, 0), (4, 0)], ids=str)
@pytest.mark.parametrize("samples_axis", [0, 1])
def test_nothing_has_a_covariance_of_zero(label, shape, samples_axis, dtype, center):
    name, options = CALLS[label]
    kwargs, n = options(shape[0]), shape[0]
    made = np.empty(shape if samples_axis else shape[::-1], dtype)
    value, gradient = getattr(penalties, name)(made, samples_axis=samples_axis, center=center, **kwargs)
    expected = naive.COVARIANCE_PENALTIES[name](np.zeros((n, n)), **kwargs)[0] if n else 0.0
    assert value == pytest.approx(expected, rel=1e-14)
    assert isinstance(value, float)
    assert gradient.shape == made.shape
    assert gradient.dtype == dtype


@pytest.mark.covering(2)
@penalty_calls
@pytest.mark.parametrize("samples_axis", [0, 1])
def test_one_sample_has_no_covariance(call, samples_axis, center):
    made = A[:, :1] if samples_axis else A[:, :1].T
    with refused(ValueError, "activations", "samples"):
        call(made, samples_axis=samples_axis, center=center)


# --- what is refused


@pytest.mark.covering(1, whole="decov")
@penalty_calls
@not_real
def test_activations_that_are_not_real_numbers_are_a_type_error(call, make, message):
    with refused(TypeError, "activations", message):
        call(make(A))


@pytest.mark.covering(1, whole="decov")
@penalty_calls
@pytest.mark.parametrize("form", ["csr_array", "csr_matrix", "coo_array"])
def test_sparse_activations_are_a_type_error(call, form):
    with refused(TypeError, "activations", rf"be a dense array, not {form}: call \.toarray\(\)"):
        call(getattr(sparse, form)(A))


@pytest.mark.covering(1, whole="decov")
@penalty_calls
@pytest.mark.parametrize("value", ["text", None, ..., {1.0, 2.0}, 1j], ids=repr)
def test_activations_that_are_no_array_are_a_type_error(call, value):
    with refused(TypeError, "activations", ""):
        call(value)


@pytest.mark.covering(1, whole="decov")
@penalty_calls
@pytest.mark.parametrize("shape", [(), (6,), (6, 9, 1), (0,), (2, 0, 3)], ids=str)
def test_activations_of_another_dimension_are_refused(call, shape):
    with refused(ValueError, "activations", r"have 2 axes \(.*\), not shape " + re.escape(str(shape))):
        call(np.ones(shape))


@penalty_calls
def test_ragged_activations_are_refused(call):
    with refused(ValueError, "activations", "array of real numbers, not "):
        call([[1.0, 2.0, 3.0], [4.0, 5.0]])


PLACES = [
    ([(0, 0)], "1 place, first at unit 0, sample 0"),
    ([(5, 8)], "1 place, first at unit 5, sample 8"),
    ([(4, 7), (4, 8), (5, 2)], "3 places, first at unit 4, sample 7"),
]


@pytest.mark.covering(1, whole="decov")
@penalty_calls
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("places", "message"), PLACES)
@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "g", ">f8"])
def test_activations_that_are_not_finite_are_counted_and_located(call, value, places, message, kind):
    bad = A.astype(kind)
    bad[tuple(np.transpose(places))] = value
    wanted = re.escape(f"be finite, not NaN or infinite in {message} (counted from 0).") + "$"
    with refused(ValueError, "activations", wanted):
        call(bad)


@pytest.mark.covering(1, whole="decov")
@penalty_calls
@pytest.mark.parametrize("order", ["C", "F"])
def test_places_keep_their_names_where_samples_come_first(call, order):
    bad = np.array(A.T, order=order)
    bad[7, 4] = np.nan
    with refused(ValueError, "activations", r"in 1 place, first at (unit 4, sample 7|sample 7, unit 4) "):
        call(bad, samples_axis=0)


@needs_jit  # NumPy's numbers warn
@penalty_calls
def test_infinities_that_cancel_are_found(call):
    bad = A.copy()
    bad[1, 0], bad[1, 3] = np.inf, -np.inf
    with refused(ValueError, "activations", "in 2 places, first at unit 1, sample 0"):
        call(bad)


@penalty_calls
def test_long_doubles_beyond_float64_are_refused(call):
    if np.finfo(np.longdouble).max <= np.finfo(np.float64).max:
        pytest.skip("long double is float64 here")
    with refused(ValueError, "activations", f"be finite, not NaN or infinite in {N * M} places"):
        call(np.abs(A).astype(np.longdouble) * np.longdouble("1e400"))


@pytest.mark.covering(1, whole="decov")
@penalty_calls
@pytest.mark.parametrize("value", [2, -1, 0.5, 1.0, True, [0], "samples", None], ids=repr)
def test_another_axis_of_samples_is_refused(call, value):
    with refused((TypeError, ValueError), "samples_axis", "be 0 or 1, not "):
        call(A, samples_axis=value)


@pytest.mark.covering(1, whole="decov")
@penalty_calls
@pytest.mark.parametrize("value", [1, None, "yes", 0.0], ids=repr)
def test_center_is_true_or_false(call, value):
    with refused(TypeError, "center", "be True or False, not "):
        call(A, center=value)


@pytest.mark.parametrize("value", [1, None, "yes"], ids=repr)
def test_coral_is_true_or_false(value):
    with refused(TypeError, "coral", "be True or False, not "):
        penalties.covariance_distance(A, a_target(N), coral=value)


@pytest.mark.parametrize("value", [-1.0, -1e-300, np.nan, np.inf], ids=repr)
def test_epsilons_that_are_no_length_are_refused(value):
    with refused(ValueError, "epsilon", "be a finite number >= 0, not"):
        penalties.mean_absolute_covariance(A, epsilon=value)


@pytest.mark.parametrize("value", ["0.1", None, [0.1], 1j, True], ids=repr)
def test_epsilons_that_are_no_number_are_a_type_error(value):
    with refused(TypeError, "epsilon", "be a finite number >= 0, not"):
        penalties.mean_absolute_covariance(A, epsilon=value)


@distances
@not_real
def test_targets_that_are_not_real_numbers_are_a_type_error(coral, make, message):
    with refused(TypeError, "target", message):
        penalties.covariance_distance(A, make(a_target(N)), coral=coral)


@distances
def test_sparse_targets_are_a_type_error(coral):
    with refused(TypeError, "target", r"be a dense array, not csr_array: call \.toarray\(\)"):
        penalties.covariance_distance(A, sparse.csr_array(a_target(N)), coral=coral)


@distances
@pytest.mark.parametrize(
    "shape",
    [(), (N,), (N, N, 1), (M, M), (1, 1), (0, 0), (N, N + 1), (N, 1), (1, N)],
    ids=str,
)
def test_targets_of_another_shape_are_refused(coral, shape):
    with refused(ValueError, "target", "shape " + re.escape(str(shape))):
        penalties.covariance_distance(A, np.ones(shape), coral=coral)


@distances
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_targets_that_are_not_finite_are_located(coral, value):
    bad = a_target(N)
    bad[1, 4] = bad[4, 1] = value
    with refused(ValueError, "target", "in 2 places, first at unit 1, unit 4 "):
        penalties.covariance_distance(A, bad, coral=coral)


@distances
@pytest.mark.parametrize("amount", [1e-6, 1.0])
def test_targets_that_are_not_symmetric_are_refused_with_the_place(coral, amount):
    bad = a_target(N)
    bad[0, 2] += amount
    with refused(ValueError, "target", rf"be symmetric, not different by {amount:.3g} at units 0 and 2"):
        penalties.covariance_distance(A, bad, coral=coral)


@distances
def test_a_target_symmetric_to_rounding_is_taken(coral):
    S = a_target(N)
    value, gradient = penalties.covariance_distance(A, S, coral=coral)
    S[0, 2] *= 1 + 4 * np.finfo(float).eps
    rounded = penalties.covariance_distance(A, S, coral=coral)
    allowed = bounds("covariance_distance", A, True, target=S, coral=coral)
    within(rounded[0], value, 2 * allowed[0])
    within(rounded[1], gradient, 2 * allowed[1])


def test_all_but_activations_and_target_are_named():
    for label in CALLS:
        name, options = CALLS[label]
        given = [a_target(N)] if "target" in options(N) else []
        with pytest.raises(TypeError, match="positional argument"):
            getattr(penalties, name)(A, *given, 1)


# --- memory


@pytest.mark.covering(2)
@needs_jit
@pytest.mark.parametrize("label", CALLS)
@pytest.mark.parametrize("shape", [(2500, 100), (100, 20000)], ids=str)
def test_no_array_of_units_by_units_or_of_samples_by_samples_is_made(label, shape, dtype):
    name, options = CALLS[label]
    made = data(*shape, dtype)
    kwargs = {"target": np.eye(shape[0])} if "target" in options(1) else options(1)
    getattr(penalties, name)(made, **kwargs)  # compiled
    peak, _ = peak_bytes(lambda: getattr(penalties, name)(made, **kwargs))
    # The gradient, centred activations, those of unit length, one block more, and tiles of 8 MB. A covariance
    # of 2500 units takes 50 MB, or 25 in float32, a product of 20000 samples a hundred times that.
    allowed = 4 * made.nbytes + (1 << 24)
    if "target" in kwargs:
        allowed += 2 * kwargs["target"].nbytes  # a copy, and what looks for its largest entry
    assert peak <= allowed


def test_targets_with_names_are_aligned_with_those_of_the_units():
    pandas, names = pytest.importorskip("pandas"), list("abcdefgh"[:N])
    frame = pandas.DataFrame(A, index=names)
    target = pandas.DataFrame(a_target(N), names, names)
    expected = penalties.covariance_distance(A, a_target(N))
    for made, axis in ((frame, 1), (frame.T, 0)):
        assert penalties.covariance_distance(made, target, samples_axis=axis)[0] == expected[0]
        with pytest.warns(fc.LabelWarning, match="units of 'target' are in another order"):
            value, _ = penalties.covariance_distance(made, target.iloc[::-1, ::-1], samples_axis=axis)
        assert value == expected[0]
    with refused(ValueError, "target", "have the units of 'activations', not be without 'a' and with 'z'"):
        penalties.covariance_distance(frame, target.rename(index={"a": "z"}, columns={"a": "z"}))


def test_tensors_that_are_no_arrays_are_refused_with_what_to_do():
    torch = needs("torch")
    for tensor in (torch.ones(3, 3, requires_grad=True), torch.ones(3, 3, dtype=torch.bfloat16)):
        with refused(TypeError, "activations", r"\.detach\(\)\.cpu\(\)\.double\(\)"):
            penalties.decov(tensor)
