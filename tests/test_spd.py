"""SPDBatch: each way in and out of it against dense matrices, and what is refused."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import scipy.linalg
from cases import needs_jit, needs_two_threads, within

import fastcov as fc
from fastcov._unit_forms import spd, stacks
from fastcov.quadratic_forms import SPDBatch

EPS = np.finfo(np.float64).eps
# Units and order: one, either side of four pivots at a time, of a tile (32) and of right-hand sides (64).
SHAPES = [(1, 1), (3, 2), (2, 5), (5, 8), (2, 33), (1, 67)]


@pytest.fixture(params=["kernels", "LAPACK"])
def by(request, monkeypatch):
    """Both ways to factorise and solve, whatever the order."""
    for each in (spd, stacks):
        monkeypatch.setattr(each, "LARGE", 0 if request.param == "LAPACK" else 10_000)


def random(shape, dtype=np.float64, condition=10.0, seed=0):
    return SPDBatch.random(*shape, dtype=dtype, condition=condition, rng=seed)


def dense(batch):
    """L and A in float64."""
    L = batch.cholesky.astype(np.float64)
    return L, L @ L.transpose(0, 2, 1)


def rounding(batch):
    """30 I ε of the dtype of what is returned, as LAPACK's tests have it, and norms of A as a column."""
    _, A = dense(batch)
    return 30 * batch.shape[1] * np.finfo(batch.dtype).eps, np.linalg.norm(A, axis=(1, 2), keepdims=True)


@pytest.mark.covering(2)
@pytest.mark.usefixtures("by")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matrices_are_factorised(shape, dtype):
    batch = random(shape, dtype)
    A = batch.matrices()
    eps, norm = rounding(batch)
    within(A, dense(batch)[1], eps * norm + 0 * A)
    np.testing.assert_array_equal(A, A.transpose(0, 2, 1))
    again = SPDBatch.from_matrices(A)
    assert (again.dtype, again.shape, len(again)) == (dtype, (shape[0], shape[1], shape[1]), shape[0])
    within(dense(again)[1], A, eps * norm + 0 * A)
    assert not np.triu(again.cholesky, 1).any()
    assert (np.diagonal(again.cholesky, axis1=1, axis2=2) > 0).all()


@pytest.mark.covering(2)
@pytest.mark.usefixtures("by")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_solutions_and_inverses_are_backward_stable(shape, dtype):
    batch = random(shape, dtype, condition=1e4)
    _, A = dense(batch)
    eps, norm = rounding(batch)
    rng = np.random.default_rng(1)
    for leading in ((), (1,), (70,)):
        y = rng.standard_normal((*leading, *shape)).astype(dtype)
        x = batch.solve(y)
        assert (x.dtype, x.shape) == (dtype, y.shape)
        residual = np.linalg.norm(np.einsum("zij,...zj->...zi", A, x) - y, axis=-1)
        assert (residual <= eps * norm[:, 0, 0] * np.linalg.norm(x, axis=-1)).all()
    inverse = batch.inverse()
    np.testing.assert_array_equal(inverse, inverse.transpose(0, 2, 1))
    size = norm * np.linalg.norm(inverse, axis=(1, 2), keepdims=True)
    within(A @ inverse, np.broadcast_to(np.eye(shape[1]), A.shape), eps * size + 0 * A)
    assert inverse.dtype == dtype


@pytest.mark.usefixtures("by")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_eigenvectors_and_values_give_the_matrices_trace_and_determinant(shape):
    rng = np.random.default_rng(2)
    Q = np.linalg.qr(rng.standard_normal((shape[0], shape[1], shape[1])))[0]
    values = rng.uniform(0.5, 3.0, shape)
    batch = SPDBatch.from_eigen(Q, values)
    eps, norm = rounding(batch)
    within(dense(batch)[1], Q * values[:, np.newaxis] @ Q.transpose(0, 2, 1), eps * norm + 0 * Q)
    within(batch.trace(), values.sum(axis=1), eps * values.sum(axis=1))
    within(batch.logdet(), np.log(values).sum(axis=1), eps * shape[1] * np.ones(shape[0]))
    assert not np.triu(batch.cholesky, 1).any()


@pytest.mark.usefixtures("by")
def test_a_condition_of_1e20_keeps_its_determinant_where_the_matrix_itself_is_refused():
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((2, 7, 7)))[0]
    values = np.geomspace([1.0] * 2, [1e-20] * 2, 7, axis=1)
    batch = SPDBatch.from_eigen(Q, values)
    # Singular values of W are off by some ε ‖W‖, relatively to the smallest of 1e-10.
    within(batch.logdet(), np.log(values).sum(axis=1), np.full(2, 30 * 7 * EPS * 1e10))
    A = Q * values[:, np.newaxis] @ Q.transpose(0, 2, 1)
    with pytest.raises(ValueError, match="positive definite"):
        SPDBatch.from_matrices((A + A.transpose(0, 2, 1)) / 2)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ldl_trace_and_logdet_are_those_of_the_matrices(shape, dtype):
    batch = random(shape, dtype)
    _, A = dense(batch)
    eps, norm = rounding(batch)
    L, D = batch.ldl()
    assert L.dtype == D.dtype == dtype
    assert (D > 0).all()
    np.testing.assert_array_equal(np.diagonal(L, axis1=1, axis2=2), 1.0)
    assert not np.triu(L, 1).any()
    L, D = L.astype(np.float64), D.astype(np.float64)
    within(L * D[:, np.newaxis] @ L.transpose(0, 2, 1), A, eps * norm + 0 * A)
    assert batch.trace().dtype == batch.logdet().dtype == np.float64
    within(batch.trace(), np.trace(A, axis1=1, axis2=2), 30 * shape[1] * EPS * norm[:, 0, 0] * shape[1])
    within(batch.logdet(), np.linalg.slogdet(A)[1], 300 * shape[1] ** 2 * EPS * np.ones(shape[0]))


@pytest.mark.parametrize("dtype_of_M", [np.float64, np.float32, np.int64], ids=str)
def test_gradient_of_factors_is_the_slope_along_them(dtype_of_M):
    batch = random((3, 5))
    rng = np.random.default_rng(4)
    M = (4 * rng.standard_normal(batch.shape)).astype(dtype_of_M)  # not symmetric
    gradient = batch.factor_gradient(M)
    assert not np.triu(gradient, 1).any()
    dL = np.tril(rng.standard_normal(batch.shape))
    L = batch.cholesky
    plus, minus = ((M * (F @ F.transpose(0, 2, 1))).sum() for F in (L + dL, L - dL))  # of second degree
    within(np.sum(gradient * dL), (plus - minus) / 2, 1e-13 * np.abs(M).sum() * np.abs(L + dL).max() ** 2 * 5)


@needs_two_threads
@pytest.mark.usefixtures("parallel")
def test_parallel_kernels_agree_with_those_on_one_thread():
    shape, dtype = (9, 37), np.float64

    def call():
        batch = random(shape, dtype)
        A = batch.matrices()
        x = np.linspace(-1, 1, 3 * 9 * 37, dtype=dtype).reshape(3, *shape)
        L, D = batch.ldl()
        return [
            batch.cholesky, A, SPDBatch.from_matrices(A).cholesky, SPDBatch.from_cholesky(L).cholesky, D,
            batch.inverse(), batch.solve(x), batch.trace(), batch.factor_gradient(A),
        ]  # fmt: skip

    together, again = call(), call()
    with fc.threads(1):
        alone = call()
    for a, b, c in zip(together, again, alone, strict=True):
        np.testing.assert_array_equal(a, b)
        within(a, c, 30 * 37 * np.finfo(dtype).eps * np.abs(c).max() + 0 * c)


@needs_jit
def test_sizes_near_the_ends_of_the_range_factorise():
    for size in (1e290, 1e-290):
        A = size * random((2, 6)).matrices()
        batch = SPDBatch.from_matrices(A)
        np.testing.assert_allclose(batch.matrices() / size, A / size, rtol=1e-14, atol=1e-15)
        values = size * np.linspace(0.5, 1.0, 12).reshape(2, 6)
        batch = SPDBatch.from_eigen(np.stack([np.eye(6)] * 2), values)
        np.testing.assert_allclose(batch.trace() / size, values.sum(axis=1) / size, rtol=1e-14)
    huge = SPDBatch.from_cholesky([1e200 * np.eye(2)])
    np.testing.assert_allclose(huge.logdet(), 4 * 200 * np.log(10))
    np.testing.assert_array_equal(np.diagonal(huge.matrices()[0]), np.inf)


# --- what a batch is


def test_random_is_reproducible_and_within_its_condition(dtype):
    batch = random((20, 6), dtype, condition=50.0)
    np.testing.assert_array_equal(batch.cholesky, random((20, 6), dtype, condition=50.0).cholesky)
    assert (batch.cholesky != random((20, 6), dtype, condition=50.0, seed=1).cholesky).any()
    values = np.linalg.eigvalsh(dense(batch)[1])
    slack = 1 + 1000 * np.finfo(dtype).eps
    assert values.min() >= 50.0**-0.5 / slack
    assert values.max() <= 50.0**0.5 * slack
    assert values.max() / values.min() > 30  # 120 of them
    np.testing.assert_allclose(random((2, 3), condition=1).matrices(), np.stack([np.eye(3)] * 2), atol=1e-14)


def test_random_directions_are_uniform():
    # E A = E(values) I, as all directions are alike; of 4000 matrices with values of a deviation below 1.
    mean = random((4000, 3)).matrices().mean(axis=0)
    assert np.abs(mean - np.eye(3) * np.trace(mean) / 3).max() < 5 / np.sqrt(4000)


def test_a_batch_is_not_changed_from_outside():
    factors = np.stack([np.eye(3)] * 2)
    batch = SPDBatch.from_cholesky(factors)
    factors[:] = np.nan
    np.testing.assert_array_equal(batch.cholesky, np.stack([np.eye(3)] * 2))
    with pytest.raises(ValueError, match="read-only"):
        batch.cholesky[0] = 0.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch._factors = factors


@pytest.mark.parametrize("given", [(), (np.eye(2)[np.newaxis],), ([[[4.0, 2.0], [2.0, 5.0]]],)])
def test_a_batch_is_not_made_by_its_class(given):
    with pytest.raises(TypeError, match=r"use SPDBatch\.from_matrices, from_cholesky, from_eigen or random"):
        SPDBatch(*given)
    with pytest.raises(TypeError, match="An SPDBatch must be made by one of its methods"):
        SPDBatch(_factors=np.eye(2)[np.newaxis])


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))])
def test_a_batch_is_copied_and_pickled(again, dtype):
    batch = random((3, 4), dtype)
    other = again(batch)
    assert (type(other), other.dtype) == (SPDBatch, dtype)
    np.testing.assert_array_equal(other.cholesky, batch.cholesky)
    np.testing.assert_array_equal(other.matrices(), batch.matrices())
    with pytest.raises(dataclasses.FrozenInstanceError):
        other._factors = batch.cholesky


def test_a_batch_prints_itself_shortly():
    assert repr(random((3, 2))) == "SPDBatch: 3 matrices of 2 x 2, float64"
    assert repr(random((1, 2), np.float32)) == "SPDBatch: 1 matrix of 2 x 2, float32"


def test_no_units_are_a_batch():
    for batch in (SPDBatch.random(0, 3), SPDBatch.from_matrices(np.zeros((0, 3, 3)))):
        assert (len(batch), batch.shape) == (0, (0, 3, 3))
        assert batch.solve(np.zeros((0, 3))).shape == (0, 3)
        assert batch.solve(np.zeros((5, 0, 3))).shape == (5, 0, 3)
        assert batch.logdet().shape == batch.trace().shape == (0,)
        assert [a.shape for a in batch.ldl()] == [(0, 3, 3), (0, 3)]
        arrays = batch.matrices(), batch.inverse(), batch.factor_gradient(batch.matrices())
        assert {a.shape for a in arrays} == {(0, 3, 3)}
        assert len(SPDBatch.from_cholesky(batch.cholesky)) == 0
    assert len(SPDBatch.from_eigen(np.zeros((0, 3, 3)), np.zeros((0, 3)))) == 0


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": lambda A: np.repeat(A, 2, axis=0)[::2],
    "big-endian": lambda A: A.astype(A.dtype.newbyteorder(">")),
    "read-only": lambda A: np.broadcast_to(A, A.shape),
    "list": lambda A: A.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_layout_changes_the_answer_or_is_written_to(layout, monkeypatch):
    make, batch = LAYOUTS[layout], random((4, 5))
    A, Q, values = batch.matrices(), np.stack([np.eye(5)] * 4), np.linspace(1, 2, 20).reshape(4, 5)
    y = np.random.default_rng(0).standard_normal((9, 4, 5))
    monkeypatch.setattr(stacks, "BLOCK_BYTES", 2 * y[0].nbytes)
    given = [make(array) for array in (A, batch.cholesky, Q, values, y)]
    before = [np.array(array) for array in given]
    np.testing.assert_array_equal(
        SPDBatch.from_matrices(given[0]).cholesky, SPDBatch.from_matrices(A).cholesky
    )
    np.testing.assert_array_equal(SPDBatch.from_cholesky(given[1]).cholesky, batch.cholesky)
    np.testing.assert_array_equal(
        SPDBatch.from_eigen(given[2], given[3]).cholesky, SPDBatch.from_eigen(Q, values).cholesky
    )
    within(batch.solve(given[4]), batch.solve(y), 1e-13 * np.abs(y).max() + 0 * y)
    np.testing.assert_array_equal(batch.factor_gradient(given[0]), batch.factor_gradient(A))
    for array, kept in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_dtypes_are_those_of_all_arguments():
    single, double = random((2, 3), np.float32), random((2, 3))
    assert (
        single.solve(np.ones((2, 3))).dtype == double.solve(np.ones((2, 3), np.float32)).dtype == np.float64
    )
    assert single.solve(np.ones((2, 3), np.float16)).dtype == np.float32
    eye = np.stack([np.eye(3, dtype=np.float32)])
    assert SPDBatch.from_eigen(eye, np.ones((1, 3))).dtype == np.float64
    assert SPDBatch.from_eigen(eye, np.ones((1, 3), np.float32)).dtype == np.float32
    assert (
        SPDBatch.from_matrices(eye.astype(int)).dtype == SPDBatch.from_cholesky(eye > 0).dtype == np.float64
    )
    assert SPDBatch.from_cholesky(eye.astype(np.float16)).dtype == np.float32


# --- bad input


def changed(A, place, value):
    A = np.array(A, dtype=float)
    A[place] = value
    return A


EYE = np.stack([np.eye(3)] * 4)
ONES = np.ones((4, 3))


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (EYE[0], r"'factors' must have 3 axes \(unit, row, column\), not shape \(3, 3\)"),
        (EYE[:, :2], "'factors' must hold square matrices of order 1 or more"),
        (np.zeros((2, 0, 0)), "'factors' must hold square matrices of order 1 or more"),
        (changed(EYE, (2, 1, 2), 0.5), r"be lower triangular, not hold 0\.5 at unit 2, row 1, column 2"),
        (changed(EYE, (3, 1, 1), 0.0), "have a positive diagonal, not hold 0 at unit 3, row 1, column 1"),
        (changed(EYE, (1, 0, 0), -2.0), "have a positive diagonal, not hold -2 at unit 1, row 0, column 0"),
        (changed(EYE, (1, 2, 0), np.nan), "'factors' must be finite.*unit 1, row 2, column 0"),
        (changed(EYE, (1, 0, 2), np.nan), "'factors' must be finite.*unit 1, row 0, column 2"),
        (changed(EYE, (1, 2, 2), np.inf), "'factors' must be finite.*unit 1, row 2, column 2"),
    ],
)
def test_factors_that_are_none_are_refused(factors, message):
    with pytest.raises(ValueError, match=message):
        SPDBatch.from_cholesky(factors)


@pytest.mark.usefixtures("by")
@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        (changed(EYE, (2, 1, 0), 0.25), r"symmetric, not different by 0\.25 at unit 2, row 0, column 1"),
        (changed(EYE, (1, 2, 2), -3.0), "not with 1 of 4 .*unit 1 .*smallest eigenvalue is -3 and largest 1"),
        (changed(EYE, (1, 0, 0), 0.0), "not with 1 of 4 .*unit 1 .*smallest eigenvalue is 0 and largest 1"),
        (changed(EYE, (3, 0, 2), np.nan), "'matrices' must be finite.*unit 3, row 0, column 2"),
        (changed(EYE, (3, 2, 0), np.inf), "'matrices' must be finite.*unit 3, row 2, column 0"),
        (changed(EYE, (3, 1, 1), np.nan), "'matrices' must be finite.*unit 3, row 1, column 1"),
    ],
)
def test_matrices_that_are_not_positive_definite_are_refused(matrices, message):
    with pytest.raises(ValueError, match=message):
        SPDBatch.from_matrices(matrices)


@pytest.mark.usefixtures("by")
def test_symmetric_to_the_rounding_of_its_dtype_is_symmetric():
    L = random((5, 40), np.float32).cholesky
    A = np.einsum("zij,zkj->zik", L, L)
    A[:, 0, 1] = np.nextafter(A[:, 0, 1], np.float32(np.inf), dtype=np.float32)
    symmetric = (A + A.transpose(0, 2, 1)).astype(np.float64) / 2
    eps, norm = rounding(random((5, 40), np.float32))
    within(dense(SPDBatch.from_matrices(A))[1], symmetric, eps * norm + 0 * symmetric)
    with pytest.raises(ValueError, match="symmetric"):
        SPDBatch.from_matrices(A.astype(np.float64))


@pytest.mark.usefixtures("by")
@pytest.mark.parametrize(
    ("vectors", "values", "message"),
    [
        (changed(EYE, (2, 1, 0), 0.25), ONES, r"'vectors' must be orthogonal, .* by 0\.25 at unit 2"),
        (5 * EYE, ONES, "'vectors' must be orthogonal, .* by 24 at unit 0"),
        (changed(EYE, (2, 1, 0), np.nan), ONES, "'vectors' must be finite.*unit 2, row 1, column 0"),
        (EYE, ONES[:, :2], r"'values' must hold 3 eigenvalues for each of the 4 units.*\(4, 2\)"),
        (EYE, changed(ONES, (2, 1), -1.0), "'values' must be positive, not -1 at unit 2, input 1"),
        (EYE, changed(ONES, (2, 1), 0.0), "'values' must be positive, not 0 at unit 2, input 1"),
        (EYE, changed(ONES, (2, 1), np.inf), "'values' must be finite.*unit 2, input 1"),
    ],
)
def test_eigenvectors_and_values_that_are_none_are_refused(vectors, values, message):
    with pytest.raises(ValueError, match=message):
        SPDBatch.from_eigen(vectors, values)


@pytest.mark.usefixtures("by")
@pytest.mark.parametrize(
    ("largest", "most", "advice"),
    [(np.float64(2.0), 2.0**104, "; raise the smallest"), (np.float32(2.0), 2.0**46, ", or use float64")],
    ids=["float64", "float32"],
)
def test_eigenvalues_that_are_lost_to_rounding_are_refused(largest, most, advice):
    dtype = largest.dtype
    Q, values = EYE.astype(dtype), np.ones((4, 3), dtype)
    values[2] = largest / most, 1.0, largest
    batch = SPDBatch.from_eigen(Q, values)
    np.testing.assert_allclose(np.diagonal(batch.cholesky[2]), np.sqrt(values[2]), rtol=1e-6)
    values[2, 0] = np.nextafter(values[2, 0], dtype.type(0))
    found = rf"{values[2, 0]:.3g} and 2 as at unit 2 \(counted from 0\): .* {dtype} .*{advice}\."
    with pytest.raises(ValueError, match=rf"^Argument 'values' must lie within .* not between {found}$"):
        SPDBatch.from_eigen(Q, values)


def test_a_condition_that_factors_do_not_hold_is_refused(dtype):
    most = float(np.finfo(dtype).eps) ** -2
    batch = random((3, 4), dtype, condition=most)
    L = batch.cholesky
    assert batch.dtype == dtype
    assert np.isfinite(L).all()
    assert (np.diagonal(L, axis1=1, axis2=2) > 0).all()
    advice = ", or use float64" if dtype == np.float32 else ""
    with pytest.raises(
        ValueError,
        match=rf"'condition' must be at most .*{np.dtype(dtype)} hold no more; lower it{advice}\.$",
    ):
        random((3, 4), dtype, condition=1.01 * most)


@pytest.mark.parametrize("name", ["foo", None, ..., "f4,f4", ">f8", np.float16], ids=str)
def test_a_dtype_that_is_none_of_the_two_is_refused_by_name(name):
    with pytest.raises(TypeError, match=r"^Argument 'dtype' must be float32 or float64, not "):
        random((1, 2), dtype=name)


def test_eigenvalues_of_which_nothing_is_left_are_refused():
    Q = scipy.linalg.hadamard(4)[np.newaxis] / 2.0
    with pytest.raises(
        ValueError, match=r"'values' must leave .* unit 0 .* between 4\.94e-324 and 4\.94e-324"
    ):
        SPDBatch.from_eigen(Q, np.full((1, 4), 5e-324))


def test_other_arguments_are_refused_by_name():
    batch = random((4, 3))
    for call, error, message in (
        (
            lambda: batch.solve(np.ones((3, 4))),
            ValueError,
            "'rhs' must have one entry for each of the 3 inputs",
        ),
        (lambda: batch.solve(np.ones(3)), ValueError, "'rhs' must have 2 axes .* or 3 axes"),
        (
            lambda: batch.solve(changed(ONES, (1, 2), np.nan)),
            ValueError,
            "'rhs' must be finite.*unit 1, input 2",
        ),
        (lambda: batch.solve(ONES + 0j), TypeError, "'rhs' must hold real numbers"),
        (lambda: batch.factor_gradient(EYE[:3]), ValueError, r"'gradient' must have the shape \(4, 3, 3\)"),
        (lambda: batch.factor_gradient(np.full((4, 3, 3), np.inf)), ValueError, "'gradient' must be finite"),
        (lambda: random((-1, 3)), ValueError, "'n_units' must be at least 0"),
        (lambda: random((1, 0)), ValueError, "'n_inputs' must be at least 1"),
        (lambda: random((1, 2), condition=0.5), ValueError, r"'condition' must be at least 1, not 0\.5"),
        (lambda: random((1, 2), condition="high"), TypeError, "'condition' must be a finite number"),
        (lambda: random((1, 2), dtype=np.int32), TypeError, "'dtype' must be float32 or float64, not int32"),
        (lambda: random((1, 2), seed="a"), TypeError, "'rng' must be what numpy"),
    ):
        with pytest.raises(error, match=message):
            call()
