"""Bad and odd input: what is refused, in which words; what is taken; and that nothing is written to."""

import re

import numpy as np
import pytest
from cases import LAYOUTS, data, needs_jit, random_gains, target
from scipy import sparse

import fastcov as fc
from fastcov._inputs import validation
from fastcov._model.problem import Problem

N, D = 6, 3
X, S, Z = data(N, D), target(D), random_gains(N)

# What they all call, and every public call that takes responses, with the name it gives them.
TAKES_X = {
    "Problem.of": ("X", lambda X: Problem.of(X)),
    "covariance": ("X", lambda X: fc.covariance(X)),
    "target_covariance": ("Y", lambda X: fc.target_covariance(X)),
    "target_covariance-like": ("like", lambda X: fc.target_covariance(data(N, D), like=X)),
    "gram": ("X", lambda X: fc.gram(X)),
    "overlaps": ("X", lambda X: fc.overlaps(X, S)),
    "atom_norms": ("X", lambda X: fc.atom_norms(X)),
    "AtomOperator": ("X", lambda X: fc.AtomOperator(X)),
    "GramOperator": ("X", lambda X: fc.GramOperator(X)),
    "loss": ("X", lambda X: fc.loss(X, S, Z)),
    "loss_and_gradient": ("X", lambda X: fc.loss_and_gradient(X, S, Z)),
    "fit": ("X", lambda X: fc.fit(X, S, ridge=1.0)),
    "fit-diagonal": ("X", lambda X: fc.fit(X, S, ridge=1.0, method="diagonal")),
}
TAKES_S = {
    "overlaps": lambda S: fc.overlaps(X, S),
    "loss": lambda S: fc.loss(X, S, Z),
    "loss_and_gradient": lambda S: fc.loss_and_gradient(X, S, Z),
    "fit": lambda S: fc.fit(X, S, ridge=1.0),
    "fit-diagonal": lambda S: fc.fit(X, S, ridge=1.0, method="diagonal"),
}
TAKES_GAINS = {
    "covariance": lambda z: fc.covariance(X, gains=z),
    "gram": lambda z: fc.gram(X, gains=z),
    "overlaps": lambda z: fc.overlaps(X, S, gains=z),
    "atom_norms": lambda z: fc.atom_norms(X, gains=z),
    "AtomOperator": lambda z: fc.AtomOperator(X, gains=z),
    "GramOperator": lambda z: fc.GramOperator(X, gains=z),
    "loss": lambda z: fc.loss(X, S, z),
    "loss_and_gradient": lambda z: fc.loss_and_gradient(X, S, z),
}
TAKES_RIDGE = {
    "fit": lambda ridge: fc.fit(X, S, ridge=ridge),
    "fit-diagonal": lambda ridge: fc.fit(X, S, ridge=ridge, method="diagonal"),
    "loss": lambda ridge: fc.loss(X, S, Z, ridge=ridge),
    "loss_and_gradient": lambda ridge: fc.loss_and_gradient(X, S, Z, ridge=ridge),
}

x_calls = pytest.mark.parametrize(("name", "call"), TAKES_X.values(), ids=TAKES_X)
s_calls = pytest.mark.parametrize("call", TAKES_S.values(), ids=TAKES_S)
gains_calls = pytest.mark.parametrize("call", TAKES_GAINS.values(), ids=TAKES_GAINS)
ridge_calls = pytest.mark.parametrize("call", TAKES_RIDGE.values(), ids=TAKES_RIDGE)


def refused(kind, name, message):
    """The exception, with a message "Argument 'X' must ..., not ..." in which `message` is found."""
    return pytest.raises(kind, match=rf"^Argument '{name}'(, .*,)? must (?=.*not )(?s:.*){message}")


# What is no array of real numbers, whatever its shape, made from one that is.
NOT_REAL = {
    "complex": (lambda A: A + 0j, "hold real numbers, not dtype complex128: take its real part"),
    "complex64": (lambda A: A.astype(np.complex64), "hold real numbers, not dtype complex64"),
    "object": (lambda A: A.astype(object), r"hold real numbers, not dtype object: .*astype\(float\)"),
    "none-inside": (
        lambda A: [[None]],
        "hold real numbers, not dtype object",
    ),
    "string": (lambda A: A.astype(str), "hold real numbers, not dtype <U.*astype"),
    "bytes": (lambda A: A.astype("S"), r"hold real numbers, not dtype \|S.*astype"),
    "datetime": (lambda A: A.astype("M8[s]"), r"hold real numbers, not dtype datetime64\[s\]: convert"),
    "timedelta": (lambda A: A.astype("m8[s]"), r"hold real numbers, not dtype timedelta64\[s\]: convert"),
    "records": (lambda A: A.astype([("a", float)]), "hold real numbers, not dtype .*: pass one field"),
    "masked": (lambda A: np.ma.masked_array(A, A > 100), r"be an array without a mask, not .*: fill it"),
}
if hasattr(np.dtypes, "StringDType"):  # of NumPy 2
    NOT_REAL["variable-string"] = (
        lambda A: A.astype(np.dtypes.StringDType()), "hold real numbers, not dtype StringDType",
    )  # fmt: skip
not_real = pytest.mark.parametrize(("make", "message"), NOT_REAL.values(), ids=NOT_REAL)


# --- X


@pytest.mark.covering(1, whole="Problem.of")
@x_calls
@not_real
def test_responses_that_are_not_real_numbers_are_a_type_error(name, call, make, message):
    with refused(TypeError, name, message):
        call(make(X))


@pytest.mark.covering(1, whole="Problem.of")
@x_calls
@pytest.mark.parametrize("form", ["csr_array", "csr_matrix", "csc_array", "coo_array"])
def test_sparse_responses_are_a_type_error(name, call, form):
    with refused(TypeError, name, rf"be a dense array, not {form}: call \.toarray\(\)"):
        call(getattr(sparse, form)(X))


@pytest.mark.covering(1, whole="Problem.of")
@x_calls
@pytest.mark.parametrize("value", ["text", None, ..., {"a": 1}, {1.0, 2.0}, 1j], ids=repr)
def test_responses_that_are_no_array_are_a_type_error(name, call, value):
    if name == "like" and value is None:
        pytest.skip("None is the default")
    # A path and a group of arrays have messages of their own.
    messages = {str: "be an array, not a path: open it", dict: "be an array, not a dict: name one"}
    with refused(TypeError, name, messages.get(type(value), "hold real numbers, not dtype")):
        call(value)


@pytest.mark.covering(1, whole="Problem.of")
@x_calls
@pytest.mark.parametrize("shape", [(), (6,), (1, 6, 3, 1)], ids=str)
def test_responses_of_another_dimension_are_refused(name, call, shape):
    forms = "2 axes (channels, conditions) or 3 axes (trials, channels, conditions)"
    with refused(ValueError, name, re.escape(f"have {forms}, not shape {shape}")):
        call(np.ones(shape))


@pytest.mark.covering(1, whole="Problem.of")
@x_calls
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_empty_responses_are_refused(name, call, shape):
    with refused(ValueError, name, re.escape(f"not shape {shape}")):
        call(np.empty(shape))
    with refused(ValueError, name, "not shape"):
        call([[]])


@x_calls
def test_ragged_responses_are_refused(name, call):
    with refused(ValueError, name, "array of real numbers, not "):
        call([[1.0, 2.0, 3.0], [4.0, 5.0]])


PLACES = [
    ([(0, 0)], "1 place, first at channel 0, condition 0 "),
    ([(5, 2)], "1 place, first at channel 5, condition 2 "),
    ([(4, 1), (4, 2), (1, 2)], "3 places, first at channel 1, condition 2 "),
    ([(2, 0), (2, 1), (2, 2), (3, 0)], "4 places, first at channel 2, condition 0 "),
]


@pytest.mark.covering(1, whole="Problem.of")
@x_calls
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("places", "message"), PLACES)
@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "g", ">f8"])
def test_responses_that_are_not_finite_are_counted_and_located(name, call, value, places, message, kind):
    bad = X.astype(kind)
    bad[tuple(np.transpose(places))] = value
    with refused(ValueError, name, f"be finite, not NaN or infinite in {message}"):
        call(bad)


@x_calls
def test_infinities_that_cancel_are_found(name, call):
    bad = X.copy()
    bad[1, 0], bad[3, 0] = np.inf, -np.inf
    with refused(ValueError, name, "in 2 places, first at channel 1, condition 0"):
        call(bad)


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("layout", ["Fortran", "strided", "read-only", "big-endian"])
def test_a_nan_is_located_in_every_block_and_layout(rows, layout, set_block_rows):
    set_block_rows(rows, D)
    bad = data(11, D)
    bad[9, 1] = np.nan
    with refused(ValueError, "X", "in 1 place, first at channel 9, condition 1"):
        fc.gram(LAYOUTS[layout](bad, None))


def test_a_nan_where_the_gain_is_zero_is_found():
    bad = X.copy()
    bad[2, 1] = np.inf
    z = np.ones(N)
    z[2] = 0.0
    with refused(ValueError, "X", "in 1 place, first at channel 2, condition 1"):
        fc.loss(bad, S, z)


def test_a_nan_far_into_a_large_array_is_located():
    # The search goes by pieces of 2**22 numbers.
    big = np.zeros(((1 << 21) + 5, 2), np.float16)
    big[1 << 21, 1] = np.nan
    big[-1, 0] = np.inf
    error = validation.nonfinite("X", big, ("channel", "condition"))
    assert f"in 2 places, first at channel {1 << 21}, condition 1 " in str(error)
    big[0, 1] = np.inf
    error = validation.nonfinite("X", big, ("channel", "condition"))
    assert "in 3 places, first at channel 0, condition 1 " in str(error)


@needs_jit
def test_a_nan_in_the_last_of_many_channels_is_found():
    big = np.zeros((1 << 18, 3))
    big[-1, -1] = np.nan
    with refused(ValueError, "X", f"in 1 place, first at channel {(1 << 18) - 1}, condition 2"):
        fc.atom_norms(big)


@pytest.mark.covering(1, whole="Problem.of")
@x_calls
@pytest.mark.parametrize("size", [1e100, 1e-100, 1e200, 1e308])
def test_responses_of_which_the_fourth_power_overflows_are_refused_with_the_remedy(name, call, size):
    with refused(ValueError, name, r"lie between 1e-72 and 1e\+72 in magnitude, not near .*: rescale it"):
        call(size * np.sign(X))


@x_calls
def test_long_doubles_beyond_float64_are_refused(name, call):
    if np.finfo(np.longdouble).max <= np.finfo(np.float64).max:
        pytest.skip("long double is float64 here")
    with refused(ValueError, name, "be finite, not NaN or infinite in 18 places"):
        call(X.astype(np.longdouble) * np.longdouble("1e400"))


@gains_calls
def test_gains_that_take_responses_out_of_range_are_refused(call):
    with refused(ValueError, "X", "lie between"):
        call(np.full(N, 1e100))


# --- S


@pytest.mark.covering(1, whole="overlaps")
@s_calls
@not_real
def test_a_target_that_is_not_of_real_numbers_is_a_type_error(call, make, message):
    with refused(TypeError, "S", message):
        call(make(S))


@s_calls
def test_a_sparse_target_is_a_type_error(call):
    with refused(TypeError, "S", r"be a dense array, not csr_array: call \.toarray\(\)"):
        call(sparse.csr_array(S))


@s_calls
@pytest.mark.parametrize("value", ["text", object()], ids=["text", "object"])
def test_a_target_that_is_no_array_is_a_type_error(call, value):
    with refused(TypeError, "S", "hold real numbers, not dtype"):
        call(value)


@s_calls
def test_a_target_of_none_is_a_type_error(call):
    # fit() may do without one, and says how
    with refused(
        TypeError, "S", "(be a target covariance, not None: .*responses=Y|hold real numbers, not dtype)"
    ):
        call(None)


@s_calls
@pytest.mark.parametrize("ragged", [[[1, 2, 3], [4, 5]], [[[1, 2], [3]]]])
def test_a_ragged_target_is_refused(call, ragged):
    with refused(ValueError, "S", "array of real numbers, not "):
        call(ragged)


@pytest.mark.covering(1, whole="overlaps")
@s_calls
@pytest.mark.parametrize("shape", [(), (3,), (9,), (1, 1, 3, 3)], ids=str)
def test_a_target_of_another_dimension_is_refused(call, shape):
    wanted = f"have 2 axes (condition, condition) or 3 axes (target, condition, condition), not shape {shape}"
    with refused(ValueError, "S", re.escape(wanted)):
        call(np.ones(shape))


@pytest.mark.covering(1, whole="overlaps")
@s_calls
@pytest.mark.parametrize("shape", [(2, 2), (4, 4), (3, 4), (3, 1), (2, 2, 2), (2, 3, 4)], ids=str)
def test_a_target_of_another_shape_is_refused(call, shape):
    with refused(
        ValueError, "S", re.escape("be 3 x 3, one row and column for each condition of X, not of shape ")
    ):
        call(np.ones(shape))


@s_calls
@pytest.mark.parametrize("shape", [(0, 0), (0, 3, 3)], ids=str)
def test_an_empty_target_is_refused(call, shape):
    with refused(ValueError, "S", re.escape(f"not shape {shape}")):
        call(np.ones(shape))


@s_calls
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_target_that_is_not_finite_is_located(call, value):
    bad = S.copy()
    bad[1, 2] = bad[2, 1] = value
    with refused(
        ValueError, "S", "be finite, not NaN or infinite in 2 places, first at condition 1, condition 2 "
    ):
        call(bad)
    with refused(ValueError, "S", "in 2 places, first at target 1, condition 1, condition 2 "):
        call(np.stack([S, bad]))


@s_calls
@pytest.mark.parametrize("amount", [1e-9, 1.0])
def test_a_target_that_is_not_symmetric_is_refused_with_the_place(call, amount):
    bad = S.copy()
    bad[0, 2] += amount
    bad[1, 0] += amount / 2
    message = rf"be symmetric, not different by {amount:.3g} at conditions 0 and 2: use \(S \+ S\.T\) / 2"
    with refused(ValueError, "S", message):
        call(bad)
    with refused(ValueError, "S", rf"different by {amount:.3g} at target 1, conditions 0 and 2"):
        call(np.stack([S, bad]))


@s_calls
def test_a_target_symmetric_to_rounding_is_taken(call):
    rounded = S.copy()
    rounded[0, 2] *= 1 + 4 * np.finfo(float).eps
    assert call(rounded) is not None
    assert call((S * (1 + np.triu(np.full((D, D), 1e-7)))).astype(np.float32)) is not None


@s_calls
@pytest.mark.parametrize("size", [1e160, 1e300, 1e308])
def test_a_target_of_which_the_loss_overflows_is_refused(call, size):
    with refused(ValueError, "S", "be comparable with the covariance of X, not as large as"):
        call(size * (S / np.abs(S).max()))


@pytest.mark.parametrize(("x", "size"), [(1e-60, 1e160), (1e-60, 1e300), (1e60, 1e300)])
def test_a_target_of_which_the_loss_overflows_is_refused_where_responses_are_scaled(x, size):
    with refused(ValueError, "S", "be comparable with the covariance of X, not as large as"):
        fc.fit(x * X, size * np.eye(D), ridge=1.0)


@pytest.mark.covering(2)
@pytest.mark.parametrize("x", [-119, 0, 119])
@pytest.mark.parametrize("size", [100, 240, 260, 300, 490])
@pytest.mark.parametrize("method", ["linear", "diagonal"])
def test_a_target_far_above_the_covariance_is_fitted_with_a_certificate_or_refused(x, size, method):
    # δ is of order S / X², and the exact loss there of order S⁴ / X⁴.
    try:
        fit = fc.fit(2.0**x * X, 2.0**size * np.eye(D), ridge=2.0 ** (4 * x), method=method)
    except ValueError as refusal:
        message = str(refusal)
    else:
        message = ""
        assert np.isfinite([fit.loss, fit.residual, fit.r2]).all()
        assert np.isfinite(fit.covariance()).all()
    assert re.match("$|Argument 'S' must be comparable with the covariance of X, not ", message)


@s_calls
def test_long_double_targets_beyond_float64_are_refused(call):
    if np.finfo(np.longdouble).max <= np.finfo(np.float64).max:
        pytest.skip("long double is float64 here")
    with refused(ValueError, "S", "be finite, not NaN or infinite in 3 places|not as large as"):
        call(np.diag(np.full(D, np.longdouble("1e400"))))


# --- gains


@pytest.mark.covering(1, whole="AtomOperator")
@gains_calls
@not_real
def test_gains_that_are_not_real_numbers_are_a_type_error(call, make, message):
    with refused(TypeError, "gains", message):
        call(make(Z))


@pytest.mark.covering(1, whole="AtomOperator")
@gains_calls
@pytest.mark.parametrize("value", ["text", object()], ids=["text", "object"])
def test_gains_that_are_no_array_are_a_type_error(call, value):
    with refused(TypeError, "gains", "hold real numbers, not dtype"):
        call(value)


@gains_calls
def test_sparse_gains_are_a_type_error(call):
    with refused(TypeError, "gains", r"be a dense array, not csr_array: call \.toarray\(\)"):
        call(sparse.csr_array(Z[np.newaxis]))


@gains_calls
def test_ragged_gains_are_refused(call):
    with refused(ValueError, "gains", "array of real numbers, not "):
        call([[1.0, 2.0], [3.0]])


@pytest.mark.covering(1, whole="AtomOperator")
@gains_calls
@pytest.mark.parametrize("length", [1, 5, 7])
def test_gains_of_another_length_are_refused(call, length):
    with refused(ValueError, "gains", rf"have one entry for each of the 6 channels, not shape \({length},\)"):
        call(np.ones(length))


@pytest.mark.covering(1, whole="AtomOperator")
@gains_calls
@pytest.mark.parametrize("shape", [(), (2, 2, 6)], ids=str)
def test_gains_of_another_dimension_are_refused(call, shape):
    batch = r"( or 2 axes \(candidate, channel\))?"
    with refused(ValueError, "gains", rf"have 1 axis \(channel\){batch}, not shape {re.escape(str(shape))}"):
        call(np.ones(shape))


@pytest.mark.covering(1, whole="AtomOperator")
@gains_calls
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gains_that_are_not_finite_are_located(call, value):
    bad = Z.copy()
    bad[3] = value
    with refused(ValueError, "gains", "be finite, not NaN or infinite in 1 place, first at channel 3 "):
        call(bad)


@pytest.mark.parametrize("K", [2, 20])
def test_a_batch_of_gains_is_checked_as_one_vector_is(K):
    bad = np.ones((K, N))
    bad[1, 4] = np.nan
    with refused(ValueError, "gains", "in 1 place, first at candidate 1, channel 4 "):
        fc.loss(X, S, bad)
    with refused(ValueError, "gains", rf"each of the 6 channels, not shape \({K}, 5\)"):
        fc.loss(X, S, np.ones((K, 5)))
    with refused(ValueError, "gains", "have no empty axis, not shape"):
        fc.loss(X, S, np.ones((0, N)))
    with refused(ValueError, "X", "lie between"):
        fc.loss(X, S, 1e100 * np.ones((K, N)))


@gains_calls
def test_long_double_gains_beyond_float64_are_refused(call):
    if np.finfo(np.longdouble).max <= np.finfo(np.float64).max:
        pytest.skip("long double is float64 here")
    with refused(ValueError, "gains", "be finite, not NaN or infinite in 6 places, first at channel 0"):
        call(np.full(N, np.longdouble("1e400")))


# --- ridge, method, solver


@pytest.mark.covering(1, whole="fit-diagonal")
@ridge_calls
@pytest.mark.parametrize(
    "ridge",
    [-1, -1e-300, np.nan, np.inf, -np.inf, np.float32(-2), np.float64("nan"), 10**400],
    ids=lambda r: f"{r:.6}"[:9] if isinstance(r, float) else str(r)[:9],
)
def test_a_ridge_that_is_negative_or_not_finite_is_a_value_error(call, ridge):
    with refused(ValueError, "ridge", "be a finite number >= 0, not "):
        call(ridge)


@pytest.mark.covering(1, whole="fit-diagonal")
@ridge_calls
@pytest.mark.parametrize("ridge", ["1", b"1", 1j, np.array("a"), np.array(1j), {}], ids=repr)
def test_a_ridge_that_is_no_number_is_a_type_error(call, ridge):
    with refused(TypeError, "ridge", "be a finite number >= 0, not "):
        call(ridge)


@ridge_calls
@pytest.mark.parametrize("ridge", [[1.0], np.ones(2)], ids=repr)
def test_ridges_that_are_not_one_a_channel_are_a_value_error(call, ridge):
    with refused(
        ValueError, "ridge", "be a number, one for each of the 6 channels, or a matrix with 6 columns"
    ):
        call(ridge)


@pytest.mark.covering(1, whole="fit-diagonal")
@ridge_calls
@pytest.mark.parametrize("ridge", [2, np.float32(2), np.int8(2), np.array(2.0), np.array(2), 2.0])
def test_a_ridge_of_any_real_type_is_taken(call, ridge):
    result, expected = call(ridge), call(2.0)
    if isinstance(expected, fc.Fit):
        result, expected = result.delta, expected.delta
    elif isinstance(expected, tuple):
        result, expected = np.hstack(result), np.hstack(expected)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("value", [-1, np.nan, np.inf])
def test_a_relative_ridge_that_is_negative_or_not_finite_is_refused(value):
    with refused(ValueError, "relative_ridge", "be a finite number >= 0, not "):
        fc.fit(X, S, relative_ridge=value)
    with refused(TypeError, "relative_ridge", "be a finite number >= 0, not "):
        fc.fit(X, S, relative_ridge=str(value))


@pytest.mark.parametrize("method", ["linear", "diagonal"])
def test_neither_or_both_ridges_are_refused(method):
    with pytest.raises(
        ValueError, match=r"^Argument 'ridge' or 'relative_ridge' must be given, .*not neither"
    ):
        fc.fit(X, S, method=method)
    with pytest.raises(ValueError, match=r"^Argument 'ridge' or 'relative_ridge' must be given, .*not both"):
        fc.fit(X, S, ridge=1.0, relative_ridge=0.1, method=method)


@ridge_calls
def test_a_ridge_of_none_is_refused(call):
    with pytest.raises((TypeError, ValueError), match=r"^Argument 'ridge' .*must be .*, not "):
        call(None)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("method", "solver")
     for value in ("best", "Linear", "", 1, ["linear"], np.array([1, 2]))] + [("solver", None)],
    ids=repr,
)  # fmt: skip
def test_an_unknown_method_or_solver_is_refused_with_the_choices(name, value):
    methods = "'linear', 'diagonal', 'line-search', 'exact'"
    choices = {"method": methods, "solver": "'auto', 'cholesky', 'dual', 'spectral', 'pcg'"}[name]
    with refused(ValueError, name, f"be one of {choices}.*, not "):
        fc.fit(X, S, ridge=1.0, **{name: value})


def test_options_are_by_name_only():
    for call in (
        lambda: fc.fit(X, S, 1.0),
        lambda: fc.loss(X, S, Z, 1.0),
        lambda: fc.gram(X, Z),
        lambda: fc.covariance(X, Z),
        lambda: fc.overlaps(X, S, Z),
        lambda: fc.atom_norms(X, Z),
        lambda: fc.target_covariance(X, X),
        lambda: fc.AtomOperator(X, Z),
        lambda: fc.GramOperator(X, Z),
    ):
        with pytest.raises(TypeError, match="positional argument"):
            call()


@pytest.mark.parametrize("index", [[], [[0]], 0])
def test_columns_of_an_index_that_is_no_vector_are_refused(index):
    for operator in (fc.AtomOperator(X), fc.GramOperator(X)):
        with refused(ValueError, "index", "not shape"):
            operator.columns(index)


# --- what is taken


def test_lists_matrices_and_subclasses_are_arrays():
    class Labelled(np.ndarray):
        """An array with something of its own."""

    expected = fc.gram(X)
    for form in (X.tolist(), tuple(map(tuple, X)), X.view(Labelled)):
        A = fc.gram(form)
        assert type(A) is np.ndarray
        np.testing.assert_allclose(A, expected, rtol=1e-13)


def test_an_object_with_an_array_interface_is_an_array():
    class Array:
        def __array__(self, dtype=None, copy=None):
            return np.array(X, dtype)

    np.testing.assert_array_equal(fc.gram(Array()), fc.gram(X))


# --- nothing is written to

CALLS = {
    "covariance": lambda X, S, z: fc.covariance(X, gains=z),
    "target_covariance": lambda X, S, z: fc.target_covariance(X, like=X[:-1]),
    "gram": lambda X, S, z: fc.gram(X),
    "gram-at-gains": lambda X, S, z: fc.gram(X, gains=z),
    "overlaps": lambda X, S, z: fc.overlaps(X, S, gains=z),
    "overlaps-stack": lambda X, S, z: fc.overlaps(X, np.broadcast_to(S, (2, D, D)), gains=z),
    "atom_norms": lambda X, S, z: fc.atom_norms(X, gains=z),
    "AtomOperator": lambda X, S, z: (G := fc.AtomOperator(X, gains=z)).rmatvec(G @ z) + G.dense().T @ (G @ z),
    "GramOperator": lambda X, S, z: (A := fc.GramOperator(X, gains=z)) @ z + A.dense() @ z + A.columns([0]).T,
    "loss": lambda X, S, z: fc.loss_and_gradient(X, S, z, ridge=1.0)[1],
    "loss-batch": lambda X, S, z: fc.loss_and_gradient(X, S, np.broadcast_to(z, (17, len(z))), ridge=1.0)[1],
    "fit": lambda X, S, z: fc.fit(X, S, ridge=float(abs(S).max()) ** 2).delta,
    "fit-relative": lambda X, S, z: fc.fit(X, S, relative_ridge=0.1).delta,
    "fit-minimum-norm": lambda X, S, z: fc.fit(X, S, ridge=0).delta,
    "fit-diagonal": lambda X, S, z: fc.fit(X, S, ridge=1.0, method="diagonal").delta,
    "fit-stack": lambda X, S, z: fc.fit(X, S[np.newaxis], ridge=float(abs(S).max()) ** 2).delta,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("size", [1.0, 2.0**25, 2.0**130])
def test_no_call_writes_to_its_input(call, dtype, size):
    if size > 2.0**30 and dtype != np.float64:
        pytest.skip("beyond the range of the type, or of the Gram matrix in it")
    given = [(size * X).round(3).astype(dtype), size**2 * S, Z.copy()]
    given[0][1] = 0
    before = [a.tobytes() for a in given]
    first = call(*given)
    assert [a.tobytes() for a in given] == before
    for a in given:
        a.flags.writeable = False
    # Read-only arrays are copied by blocks, which may be aligned otherwise: equal to rounding.
    eps = np.finfo(np.float32 if dtype == np.float32 else np.float64).eps
    np.testing.assert_allclose(call(*given), first, rtol=0, atol=1e4 * eps * np.abs(first).max())
    assert [a.tobytes() for a in given] == before


@pytest.mark.parametrize("name", ["AtomOperator", "GramOperator"])
def test_operators_do_not_write_to_vectors_or_return_their_own_memory(name):
    operator = getattr(fc, name)(X)
    v, u = np.arange(6.0), np.arange(float(operator.shape[0]))
    v.flags.writeable = u.flags.writeable = False
    operator.matvec(v)[:] = np.nan
    operator.rmatvec(u)[:] = np.nan
    operator.columns([0])[:] = np.nan
    operator.dense()[:] = np.nan
    assert np.isfinite(operator.matvec(v)).all()
    assert np.isfinite(operator.dense()).all()
    np.testing.assert_array_equal(v, np.arange(6.0))


def test_results_are_the_callers_own():
    C = fc.covariance(X)
    C[:] = np.nan
    assert np.isfinite(fc.covariance(X)).all()
    gradient = fc.loss_and_gradient(X, S, Z)[1]
    gradient[:] = np.nan
    assert np.isfinite(fc.loss_and_gradient(X, S, Z)[1]).all()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_result_depends_on_memory_that_was_not_written(call, dtype, monkeypatch):
    given = (data(40, D, dtype), S, random_gains(40))
    expected = call(*given)
    empty, empty_like = np.empty, np.empty_like

    def poisoned(make):
        def empty(*args, **kwargs):
            out = make(*args, **kwargs)
            if out.dtype.kind == "f":
                out.fill(np.nan)
            return out

        return empty

    monkeypatch.setattr(np, "empty", poisoned(empty))
    monkeypatch.setattr(np, "empty_like", poisoned(empty_like))
    for rows in (slice(None), slice(0, 6)):  # both sides of the dense switch
        call(given[0][rows], given[1], given[2][rows])
    np.testing.assert_array_equal(call(*given), expected)


@x_calls
def test_a_list_with_a_masked_row_is_refused(name, call):
    rows = [np.ma.masked_array(np.ones(D), mask=[True] + [False] * (D - 1)), *np.ones((5, D))]
    with pytest.raises(TypeError, match=rf"^Argument '{name}' must be an array without a mask, not "):
        call(rows)
