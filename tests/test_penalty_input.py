"""Penalties as they are given: formats, dtypes and layouts that are taken, and what is refused, and how."""

import naive
import numpy as np
import pytest
import scipy.sparse as sp
from cases import LAYOUTS, data, random_gains, target
from test_input import not_real, refused
from test_penalty import DIAGONAL, PENALTIES, TOL, _full, a_penalty, dense, differences, penalties, unit

import fastcov as fc

FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"]


@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("form", FORMATS)
def test_sparse_matrices_of_every_format_give_the_gains_of_dense_ones(form, kind):
    X, S = data(20, 4), target(4)
    root = differences(20, np.sqrt(0.1 * unit(X)))
    given = getattr(sp, f"{form}_{kind}")(root)
    before = given.copy()
    z = random_gains(20)
    for solver in ("cholesky", "pcg"):
        fit, expected = (fc.fit(X, S, ridge=r, solver=solver, tol=TOL) for r in (given, root))
        np.testing.assert_allclose(
            fit.delta, expected.delta, rtol=0, atol=1e-9 * np.abs(expected.delta).max()
        )
    np.testing.assert_allclose(fc.loss(X, S, z, ridge=given), fc.loss(X, S, z, ridge=root), rtol=1e-12)
    slopes = [fc.loss_and_gradient(X, S, z, ridge=r)[1] for r in (given, root)]
    np.testing.assert_allclose(*slopes, rtol=1e-11)
    exact = [fc.fit(X, S, ridge=r, method="exact", tol=1e-10).delta for r in (given, root)]
    np.testing.assert_allclose(*exact, rtol=0, atol=1e-7)
    assert type(given) is type(before)
    assert (given != before).nnz == 0


def test_columns_of_a_matrix_are_squared_panel_by_panel(monkeypatch, dtype):
    X, S = data(40, 4, dtype), target(4)
    root = np.sqrt(0.01 * unit(X)) * _full(40)
    expected = fc.fit(X, S, ridge=root, solver="cholesky").delta
    for panel in (1, 7, 39, 40):
        monkeypatch.setattr("fastcov._model.ridge_penalty.PANEL", panel)
        for form in (root, sp.csr_array(root)):
            delta = fc.fit(X, S, ridge=form, solver="cholesky").delta
            np.testing.assert_allclose(delta, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["f4", "f2", "i4", "?", ">f8", "g"])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_penalties_of_any_real_numbers_are_taken(kind, make):
    if make is sp.csr_array and kind in ("f2", ">f8"):
        pytest.skip("SciPy has none of these")
    X, S = data(10, 4), target(4)
    root = np.abs(np.diff(np.eye(10), axis=0)).astype(kind)
    fit = fc.fit(X, S, ridge=make(root))
    np.testing.assert_allclose(fit.delta, fc.fit(X, S, ridge=root.astype(float)).delta, rtol=1e-9)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "broadcast"])
@pytest.mark.parametrize("form", ["each", "full"])
def test_penalties_of_any_layout_are_taken_and_not_changed(layout, form, tmp_path):
    X, S = data(20, 4), target(4)
    plain, _ = a_penalty(form, X, 0.1)
    if plain.ndim == 1 and layout in ("negative-strides", "strided"):
        pytest.skip("made for matrices")
    given = LAYOUTS[layout](plain, tmp_path)
    for method in ("linear", "exact", "diagonal"):
        fit, expected = (fc.fit(X, S, ridge=r, method=method) for r in (given, plain))
        np.testing.assert_array_equal(fit.delta, expected.delta)
    fc.loss_and_gradient(X, S, fit.gains, ridge=given)
    np.testing.assert_array_equal(given, plain)


@penalties
def test_a_fit_keeps_a_ridge_of_its_own(form):
    X, S = data(20, 4), target(4)
    ridge, _ = a_penalty(form, X, 0.1)
    fit = fc.fit(X, S, ridge=ridge)
    if sp.issparse(ridge):
        ridge.data[...] = -1.0
    else:
        ridge[...] = -1.0
    assert not np.any(dense(fit.ridge) == -1.0)


# --- what cannot be done


@pytest.mark.parametrize("solver", ["dual", "spectral"])
@pytest.mark.parametrize("form", [form for form in PENALTIES if form not in DIAGONAL])
def test_solvers_that_need_the_inverse_of_a_penalty_say_so(form, solver):
    X, S = data(20, 4), target(4)
    ridge, _ = a_penalty(form, X, 0.1)
    with refused(
        ValueError, "solver", "be 'auto', 'cholesky' or 'pcg' for a penalty that is a matrix or leaves"
    ):
        fc.fit(X, S, ridge=ridge, solver=solver)


@pytest.mark.covering(2)
@pytest.mark.parametrize("solver", ["auto", "cholesky", "pcg"])
@pytest.mark.parametrize("kind", ["free", "duplicates", "differences", "one-row", "no-rows", "tiny"])
def test_a_null_space_that_a_penalty_shares_with_the_atoms_is_said(kind, solver, dtype):
    X, S = data(40, 4, dtype), target(4)  # 10 pairs: 30 directions are for the penalty
    size = np.sqrt(unit(X))
    if kind == "duplicates":
        X[6] = X[2]
    elif kind == "differences":
        X[:] = np.sign(X)  # X_i X̃_i: none, so make what is common to all gains free
        X = np.concatenate([X[:20], X[:20]])
    ridge = {
        "free": unit(X) * np.r_[np.zeros(20), np.ones(20)],
        "duplicates": unit(X) * np.r_[np.zeros(7), np.ones(33)],
        "differences": size * (np.eye(40)[:20] + np.eye(40)[20:]),  # blind to +1 and -1 for twins
        "one-row": np.full((1, 40), size),
        "no-rows": sp.csr_array((3, 40)) + sp.csr_array(([size, size], ([0, 0], [0, 1])), shape=(3, 40)),
        "tiny": unit(X) * np.r_[np.full(20, 1e-25), np.ones(20)],
    }[kind]
    with refused(
        ValueError, "ridge", "leave a direction of gains free that the covariance does not determine"
    ) as e:
        fc.fit(X, S, ridge=ridge, solver=solver)
    assert str(e.value).count("Argument") == 1


@pytest.mark.parametrize("solver", ["auto", "cholesky", "pcg"])
def test_a_penalty_with_a_null_space_of_its_own_is_enough_where_atoms_see_it(solver, center):
    X, S = data(40, 4), target(4)
    root = differences(40, np.sqrt(unit(X, center)))
    fit = fc.fit(X, S, ridge=root, solver=solver, center=center, tol=TOL)
    assert fit.status == "converged"
    assert abs(fit.delta.mean()) > 0.01  # what the penalty does not see
    expected = naive.penalised_fit(X, S, root.T @ root, center)
    np.testing.assert_allclose(fit.delta, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", [(6,), (8,), (3, 6), (7, 8), (7, 1)], ids=str)
@pytest.mark.parametrize("make", [np.ones, sp.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("call", ["fit", "loss", "loss_and_gradient"])
def test_penalties_for_another_number_of_channels_are_refused(call, make, shape):
    if make is sp.csr_array and len(shape) == 1:
        pytest.skip("a matrix")
    with refused(
        ValueError, "ridge", r"one for each of the 7 channels, or a matrix with 7 columns, not of shape \("
    ):
        CALLS[call](make(shape))


X, S, Z = data(7, 4), target(4), random_gains(7)
CALLS = {
    "fit": lambda ridge: fc.fit(X, S, ridge=ridge),
    "exact": lambda ridge: fc.fit(X, S, ridge=ridge, method="exact"),
    "diagonal": lambda ridge: fc.fit(X, S, ridge=ridge, method="diagonal"),
    "loss": lambda ridge: fc.loss(X, S, Z, ridge=ridge),
    "loss_and_gradient": lambda ridge: fc.loss_and_gradient(X, S, Z, ridge=ridge),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@calls
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_penalties_that_are_not_finite_are_located(call, value):
    each, root = np.ones(7), differences(7)
    each[4] = root[2, 3] = value
    with refused(ValueError, "ridge", r"be finite, not NaN or infinite in 1 place, first at channel 4 "):
        call(each)
    with refused(
        ValueError, "ridge", r"be finite, not NaN or infinite in 1 place, first at penalty 2, channel 3 "
    ):
        call(root)
    for form in ("csr", "csc", "coo"):
        with refused(
            ValueError,
            "ridge",
            r"be finite, not NaN or infinite in 1 places?, first at penalty 2, channel 3 ",
        ):
            call(getattr(sp, f"{form}_array")(root))


@calls
def test_penalties_that_are_negative_are_located(call):
    each = np.ones(7)
    each[5] = -0.5
    with refused(ValueError, "ridge", "be >= 0 for each channel, not -0.5 for channel 5"):
        call(each)
    assert np.isfinite(
        np.sum(np.asarray(getattr(call(-differences(7)), "delta", 0.0)))
    )  # of Γ the sign does not count


@pytest.mark.covering(1)
@calls
@not_real
def test_penalties_that_are_not_real_numbers_are_a_type_error(call, make, message):
    with refused(TypeError, "ridge", message):
        call(make(differences(7)))


@calls
def test_penalties_that_are_no_arrays_are_refused(call):
    with refused(TypeError, "ridge", "hold real numbers, not dtype complex128"):
        call(sp.csr_array(differences(7) * 1j))
    for ragged in ([[1.0, 2.0], [3.0]], [1.0, [2.0, 3.0]]):
        with refused(ValueError, "ridge", "array of real numbers, not "):
            call(ragged)
    with refused(ValueError, "ridge", "not shape"):
        call(np.ones((2, 7, 7)))
    with refused(ValueError, "ridge", "have no empty axis"):
        call(np.ones((0, 7)))
    with refused(ValueError, "ridge", "have entries below 1e150, not 1e"):
        call(1e160 * differences(7))
    with refused(ValueError, "ridge", "have entries below 1e150, not 1e"):
        call(sp.csr_array(1e160 * differences(7)))
    for value in ({"a": 1}, object(), "strong"):
        with refused(TypeError, "ridge", "be a finite number >= 0"):
            call(value)


def test_relative_matrices_are_refused():
    for root in (differences(7), sp.csr_array(differences(7))):
        with refused(ValueError, "relative_ridge", "be a number, or one for each channel, not a matrix"):
            fc.fit(X, S, relative_ridge=root)
    with refused(ValueError, "relative_ridge", "be >= 0 for each channel, not -1 for channel 0"):
        fc.fit(X, S, relative_ridge=-np.ones(7))
    with refused(ValueError, "relative_ridge", "give a finite ridge"):
        fc.fit(X * 1e60, S * 1e120, relative_ridge=np.arange(7.0) * 1e200)
