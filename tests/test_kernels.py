"""The pieces against the oracle: covariance, gram, overlaps, atom norms, target covariance."""

import naive
import numpy as np
import pytest
from cases import (
    LAYOUTS,
    absolute_atoms,
    absolute_error,
    data,
    magnitudes,
    parallel_dtypes,
    random_gains,
    rounding,
    run_python,
    target,
    within,
)

import fastcov as fc
from fastcov._compute import blas, jit, kernels
from fastcov._model import products
from fastcov._model.problem import NARROW, Problem, n_parts

# One channel and one condition, either side of a tile (64), of a panel and of a summed group of rows (256).
SHAPES = [(1, 1), (1, 4), (2, 1), (2, 3), (33, 5), (63, 2), (64, 3), (65, 3), (129, 2), (257, 3)]


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_covariance_is_its_definition(shape, dtype, center, at):
    X, z = data(*shape, dtype), at(shape[0])
    _, y = magnitudes(X, z, center)
    C = fc.covariance(X, gains=z, center=center)
    assert C.dtype == np.float64
    np.testing.assert_array_equal(C, C.T)
    within(C, naive.covariance(X, z, center), rounding(X) * (y.T @ y))


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gram_is_the_inner_products_of_the_atoms(shape, dtype, center, at):
    X, z = data(*shape, dtype), at(shape[0])
    G = absolute_atoms(X, z, center)
    A = fc.gram(X, gains=z, center=center)
    assert A.dtype == dtype
    np.testing.assert_array_equal(A, A.T)
    within(A, naive.gram(X, z, center), rounding(X) * (G.T @ G))


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_overlaps_are_the_atoms_times_the_error(shape, dtype, center, at):
    X, z, S = data(*shape, dtype), at(shape[0]), target(shape[1])
    bound = absolute_atoms(X, z, center).T @ absolute_error(X, S, z, center).ravel()
    o = fc.overlaps(X, S, gains=z, center=center)
    assert o.dtype == np.float64
    within(o, naive.overlaps(X, S, z, center), rounding(X) * bound)


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_atom_norms_are_the_norms_of_the_atoms(shape, dtype, center, at):
    X, z = data(*shape, dtype), at(shape[0])
    bound = np.linalg.norm(absolute_atoms(X, z, center), axis=0)
    norms = fc.atom_norms(X, gains=z, center=center)
    assert norms.dtype == np.float64
    # Summed in float64 even for float32 X.
    within(norms, np.linalg.norm(naive.atoms(X, z, center), axis=0), rounding(X, np.float64) * bound)


def test_overlaps_of_a_stack_are_those_of_each_target():
    X, S = data(9, 4), np.stack([target(4, seed) for seed in range(3)])
    np.testing.assert_array_equal(fc.overlaps(X, S), [fc.overlaps(X, s) for s in S])
    assert fc.overlaps(X, S[:1]).shape == (1, 9)


def test_overlaps_are_minus_the_gradient_of_the_loss():
    X, S, z = data(9, 4), target(4), random_gains(9)
    bound = absolute_atoms(X, z).T @ absolute_error(X, S, z).ravel()
    _, gradient = fc.loss_and_gradient(X, S, z)
    within(fc.overlaps(X, S, gains=z), -gradient, rounding(X) * bound)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pieces_do_not_depend_on_memory_layout(layout, dtype, tmp_path):
    X = LAYOUTS[layout](data(11, 4, dtype), tmp_path)
    plain, S = np.array(X, np.float64 if layout == "list" else dtype), target(4)
    G = absolute_atoms(plain)
    eps = rounding(plain)
    within(fc.covariance(X), fc.covariance(plain), eps * absolute_error(plain, 0 * S))
    within(fc.gram(X), fc.gram(plain), eps * (G.T @ G))
    within(fc.overlaps(X, S), fc.overlaps(plain, S), eps * (G.T @ absolute_error(plain, S).ravel()))
    within(fc.atom_norms(X), fc.atom_norms(plain), eps * np.linalg.norm(G, axis=0))


@pytest.mark.covering(2)
@pytest.mark.parametrize("rows", [1, 2, 7, 10, 11])
def test_pieces_do_not_depend_on_the_size_of_a_block(rows, dtype, center, at, set_block_rows):
    X, S, z = data(11, 4, dtype), target(4), at(11)
    set_block_rows(rows, 4)
    G = absolute_atoms(X, z, center)
    E = absolute_error(X, S, z, center)
    C, A = fc.covariance(X, gains=z, center=center), fc.gram(X, gains=z, center=center)
    within(C, naive.covariance(X, z, center), rounding(X) * E)
    within(A, naive.gram(X, z, center), rounding(X) * (G.T @ G))
    o, norms = fc.overlaps(X, S, gains=z, center=center), fc.atom_norms(X, gains=z, center=center)
    within(o, naive.overlaps(X, S, z, center), rounding(X) * (G.T @ E.ravel()))
    within(norms**2, np.diag(naive.gram(X, z, center)), rounding(X) * (G * G).sum(axis=0))


@pytest.fixture(scope="module")
def large():
    """More channels than 16 bits count, in whole numbers so that sums are exact."""
    return np.random.default_rng(0).integers(-3, 4, ((1 << 16) + 3, 2)).astype(float)


def test_no_index_wraps_at_two_to_the_sixteen(large):
    S = np.eye(2)
    np.testing.assert_array_equal(fc.covariance(large, center=False), large.T @ large)
    # Integers below 2**53: no rounding anywhere.
    E = S - large.T @ large
    expected = 2 * np.einsum("ia,ab,ib->i", large, E, large)
    np.testing.assert_array_equal(fc.overlaps(large, S, center=False), expected)
    squares = np.square(large).sum(axis=1)
    np.testing.assert_allclose(fc.atom_norms(large, center=False), 2 * squares, rtol=1e-15)
    last = np.array([0, len(large) - 1])
    A = fc.GramOperator(large, center=False).columns(last)
    np.testing.assert_array_equal(A, 4 * (large @ large[last].T) ** 2)


def test_center_false_is_the_overlap_of_the_conditions():
    X = np.array([[1.0, 2.0], [3.0, 5.0]])
    np.testing.assert_array_equal(fc.covariance(X, center=False), [[10.0, 17.0], [17.0, 29.0]])
    np.testing.assert_array_equal(fc.covariance(X), [[2.0, 3.0], [3.0, 4.5]])


def test_gram_of_a_dead_channel_is_exactly_zero(dtype, at):
    X = data(70, 3, dtype)
    X[[0, 40, 69]] = 0.0
    A = fc.gram(X, gains=at(70))
    columns = fc.GramOperator(X, gains=at(70)).columns([40, 41])
    assert not A[[0, 40, 69]].any()
    assert not A[:, [0, 40, 69]].any()
    assert not columns[:, 0].any()
    assert not columns[[0, 40, 69]].any()
    assert (np.diag(A)[1:40] > 0).all()


def test_gram_entries_of_duplicate_channels_are_equal_to_rounding():
    X = data(12, 3)
    X[7] = X[2]
    G = absolute_atoms(X)
    A = fc.gram(X)
    within(A[7], A[2], rounding(X) * (G.T @ G)[2])


def test_a_gram_beyond_float32_is_refused_where_one_response_is_far_above_the_typical_one():
    # The typical response of a channel is a mean over D conditions; one response may be D times that.
    X = np.zeros((3, 4096), np.float32)
    X[:, 0] = np.array([0.5, 0.75, 0.875]) * 2.0**32
    with pytest.raises(ValueError, match=r"^Argument 'X' must be float64 .*, not float32"):
        fc.gram(X, center=False)  # entries to 4 x⁴ = 2**129.2
    expected = 4 * np.outer(X[:, 0], X[:, 0]).astype(np.float64) ** 2
    np.testing.assert_allclose(fc.gram(X.astype(np.float64), center=False), expected, rtol=1e-15)


@pytest.mark.parametrize(("dtype", "factor"), [(np.float32, 2.0**40), (np.float32, 2.0**-60)])
def test_a_gram_outside_the_range_of_float32_is_refused(dtype, factor):
    with pytest.raises(ValueError, match=r"^Argument 'X' must be float64 .*, not float32"):
        fc.gram(factor * data(5, 3, dtype))
    within(fc.gram(factor * data(5, 3)) / factor**4, fc.gram(data(5, 3)), 0.0)


# --- target covariance


def test_target_covariance_has_the_trace_of_the_input_covariance(center):
    Y, X = data(13, 4, seed=3), 7.0 * data(9, 4)
    S = fc.target_covariance(Y, like=X, center=center)
    C, wanted = naive.covariance(Y, center=center), np.trace(naive.covariance(X, center=center))
    # Two traces and a quotient of them.
    tolerance = 4 * rounding(Y)
    np.testing.assert_allclose(S, C * wanted / np.trace(C), rtol=0, atol=tolerance * wanted)
    np.testing.assert_allclose(np.trace(S), wanted, rtol=tolerance)


def test_target_covariance_alone_is_the_covariance(center, dtype):
    Y = data(13, 4, dtype)
    np.testing.assert_array_equal(fc.target_covariance(Y, center=center), fc.covariance(Y, center=center))


def test_target_covariance_does_not_depend_on_units_or_the_number_of_channels():
    Y, X = data(13, 4, seed=3), data(9, 4)
    S = fc.target_covariance(Y, like=X)
    tolerance = 4 * rounding(Y) * np.trace(S)
    np.testing.assert_allclose(fc.target_covariance(1e9 * Y, like=X), S, rtol=0, atol=tolerance)
    doubled = fc.target_covariance(np.concatenate([Y, Y]), like=X)
    np.testing.assert_allclose(doubled, S, rtol=0, atol=2 * tolerance)


@pytest.mark.parametrize("factor", [1e-60, 1e60])
def test_target_covariance_bridges_units_far_apart(factor):
    Y, X = data(13, 4, seed=3), data(9, 4)
    S = fc.target_covariance(factor * Y, like=X / factor)
    expected = fc.target_covariance(Y, like=X) / factor**2
    np.testing.assert_allclose(S, expected, rtol=0, atol=8 * rounding(Y) * np.trace(expected))


def test_target_covariance_of_different_conditions_is_refused():
    with pytest.raises(ValueError, match=r"^Argument 'Y' must have the 3 conditions of 'like', not 4"):
        fc.target_covariance(data(5, 4), like=data(5, 3))


@pytest.mark.parametrize(
    "Y", [np.full((5, 3), 0.1), np.zeros((5, 3)), np.ones((1, 3)), 1e50 * np.ones((9, 2))]
)
def test_target_covariance_of_responses_that_do_not_vary_is_refused(Y):
    with pytest.raises(ValueError, match=r"^Argument 'Y' must vary over its channels, not "):
        fc.target_covariance(Y, like=data(5, Y.shape[1]))


# --- BLAS and LAPACK on C-ordered arrays


def poisoned_triangle(A):
    """A with NaN above the diagonal, where nothing may be read or written."""
    return np.where(np.tri(len(A), dtype=bool), A, np.nan).astype(A.dtype)


@pytest.mark.covering(2)
@pytest.mark.parametrize("panel", [1, 3, 64, 256])
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 257, 300])
def test_cholesky_factors_whatever_the_panel(n, panel, dtype, monkeypatch):
    monkeypatch.setattr(blas, "CHOLESKY_PANEL", panel)
    root = np.random.default_rng(0).standard_normal((n, n + 3))
    A = (root @ root.T + np.eye(n)).astype(dtype)
    L = poisoned_triangle(A)
    assert blas.cholesky(L) == 0
    assert np.isnan(L[np.triu_indices(n, 1)]).all()
    factor = np.tril(L).astype(np.float64)
    # Higham, theorem 10.3: |A − L Lᵀ| ≤ (n + 1) ε |L| |Lᵀ|.
    within(
        factor @ factor.T, A.astype(np.float64), (n + 2) * np.finfo(dtype).eps * abs(factor) @ abs(factor).T
    )


@pytest.mark.covering(2)
@pytest.mark.parametrize("panel", [1, 4, 5, 256])
@pytest.mark.parametrize("bad", [0, 3, 4, 5, 8, 11])
def test_cholesky_says_which_minor_is_not_positive_definite(bad, panel, dtype, monkeypatch):
    monkeypatch.setattr(blas, "CHOLESKY_PANEL", panel)
    root = np.random.default_rng(0).standard_normal((12, 15))
    A = (root @ root.T).astype(dtype)
    A[bad, bad] = -1.0
    assert blas.cholesky(poisoned_triangle(A)) == bad + 1  # as LAPACK counts


@pytest.mark.parametrize("T", [1, 3])
def test_cholesky_solve_solves_for_each_row_and_keeps_its_input(T, dtype):
    root = np.random.default_rng(0).standard_normal((20, 25))
    A = (root @ root.T).astype(dtype)
    L = poisoned_triangle(A)
    assert blas.cholesky(L) == 0
    rhs = np.random.default_rng(1).standard_normal((T, 20))
    before = rhs.copy()
    x = blas.cholesky_solve(L, rhs)
    np.testing.assert_array_equal(rhs, before)
    assert x.dtype == dtype
    norm = np.linalg.norm(A.astype(np.float64), 2)
    for row, b in zip(x.astype(np.float64), rhs, strict=True):
        backward = np.linalg.norm(A @ row - b) / (norm * np.linalg.norm(row) + np.linalg.norm(b))
        assert backward < 30 * np.finfo(dtype).eps


@pytest.mark.covering(2)
@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (4, 1, 2), (3, 2, 1), (2, 0, 3)], ids=str)
def test_product_multiplies_arrays_of_every_shape(ta, tb, shape, dtype):
    m, k, n = shape
    rng = np.random.default_rng(0)
    A = rng.integers(-3, 4, (k, m) if ta else (m, k)).astype(dtype)
    B = rng.integers(-3, 4, (n, k) if tb else (k, n)).astype(dtype)
    expected = (A.T if ta else A) @ (B.T if tb else B)  # small integers: exact
    np.testing.assert_array_equal(blas.product(A, B, ta=ta, tb=tb), expected)
    out = np.full((m, n), np.nan, dtype)
    assert blas.product(A, B, ta=ta, tb=tb, out=out) is out
    np.testing.assert_array_equal(out, expected)
    out = np.ones((m, n), dtype)
    blas.product(A, B, ta=ta, tb=tb, out=out, add=True)
    np.testing.assert_array_equal(out, expected + 1)


@pytest.mark.parametrize("transpose", [False, True])
def test_self_product_fills_the_lower_triangle_alone(transpose, dtype):
    A = np.random.default_rng(0).integers(-3, 4, (4, 3)).astype(dtype)
    expected = A.T @ A if transpose else A @ A.T
    out = np.full(expected.shape, 7, dtype)
    blas.self_product(A, transpose=transpose, out=out)
    lower = np.tri(len(expected), dtype=bool)
    np.testing.assert_array_equal(out, np.where(lower, expected, 7))
    np.testing.assert_array_equal(np.tril(blas.self_product(A, transpose=transpose)), np.tril(expected))


def test_sums_over_blocks_are_float64_for_float32_blocks():
    A = np.array([[3.0, 1.0]], np.float32)
    total, square = np.full((2, 2), 2.0**30), np.full((2, 2), 2.0**30)  # 2**30 + 1 is no float32
    blas.add_product(total, A, A, ta=True)
    blas.add_self_product(square, A)
    np.testing.assert_array_equal(total - 2.0**30, [[9.0, 3.0], [3.0, 1.0]])
    np.testing.assert_array_equal(np.tril(square - 2.0**30), [[9.0, 0.0], [3.0, 1.0]])


def test_one_gain_far_above_the_others_costs_no_digits_in_the_gram():
    # The mean over channels is then far above most of them, and x_i.x_j must not be rebuilt from it.
    X, z = data(600, 4), np.ones(600)
    z[0] = 1e7
    A = fc.gram(X, gains=z)
    exact = naive.gram(X.astype(np.longdouble), z, dtype=np.longdouble).astype(float)
    norms = np.sqrt(np.diag(exact))
    assert (np.abs(A - exact) / np.outer(norms, norms)).max() < 100 * np.finfo(float).eps
    np.testing.assert_allclose(np.diag(A), fc.GramOperator(X, gains=z).diagonal(), rtol=1e-13)


# --- products of blocks of rows with matrices


def whole_numbers(n, d, N, dtype, seed=0):
    """A block of n rows, and weights of N channels and a mean, small enough for sums without rounding."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-3, 4, (n, d)).astype(dtype)
    return X, rng.integers(-2, 3, N).astype(float), rng.integers(-2, 3, d).astype(float), rng


# One row and one condition; either side of a chunk (64 rows); several chunks, the last one short.
BLOCKS = [(1, 1), (1, 3), (5, 2), (63, 2), (64, 3), (65, 3), (200, 3)]


@pytest.fixture(params=["serial", "parallel"])
def size(request):
    """What a kernel is told of its work: little, or enough for threads."""
    return {"serial": 1, "parallel": jit.PARALLEL_SIZE}[request.param]


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", BLOCKS, ids=str)
@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("p", [1, 3, 8])
def test_atom_products_add_the_sums_of_a_block(shape, first, T, p, size, dtype):
    n, d = shape
    X, weights, mean, rng = whole_numbers(n, d, first + n + 4, dtype)
    V = rng.integers(-2, 3, (T, first + n + 4)).astype(float)
    before = rng.integers(-9, 10, (T, d + 1, d)).astype(float)
    total, parts = before.copy(), np.full((p, T, d + 1, d), np.nan)
    kept = [a.copy() for a in (X, weights, mean, V)]
    kernels.atom_products(X, first, weights, mean, V, parts, total, size=size)
    rows, x = slice(first, first + n), X.astype(float)
    y = weights[rows, np.newaxis] * x - mean
    np.testing.assert_array_equal(total[:, :d], before[:, :d] + np.einsum("ti,ia,ib->tab", V[:, rows], x, y))
    np.testing.assert_array_equal(total[:, d], before[:, d] + V[:, rows] @ x)
    for old, new in zip(kept, (X, weights, mean, V), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", BLOCKS, ids=str)
@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("wanted", [True, False], ids=["squares", "no-squares"])
def test_adjoint_products_fill_the_rows_of_a_block(shape, first, T, wanted, size, dtype):
    n, d = shape
    X, weights, mean, rng = whole_numbers(n, d, first + n + 4, dtype)
    M = rng.integers(-2, 3, (T, d, d))
    M = np.ascontiguousarray(M + M.transpose(0, 2, 1), dtype)
    offsets = rng.integers(-5, 6, (T, d)).astype(float)
    out = np.full((T, first + n + 4), np.nan)
    squares = np.full((T, first + n + 4 if wanted else 0), np.nan)
    kernels.adjoint_products(X, first, weights, mean, M, offsets, out, squares, size=size)
    rows, x = slice(first, first + n), X.astype(float)
    y = weights[rows, np.newaxis] * x - mean
    expected = np.einsum("ia,tab,ib->ti", x, M, y) - offsets @ x.T
    np.testing.assert_array_equal(out[:, rows], expected)
    if wanted:
        np.testing.assert_array_equal(squares[:, rows], np.einsum("ia,tab,ib->ti", x, M, x))
    for array in (out, squares):  # and no others
        assert np.isnan(np.delete(array, np.arange(array.shape[1])[rows], axis=1)).all()


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", BLOCKS, ids=str)
@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize("p", [1, 3, 8])
def test_centred_products_add_the_sum_of_a_block(shape, first, p, size, dtype):
    n, d = shape
    X, weights, mean, rng = whole_numbers(n, d, first + n + 4, dtype)
    before = rng.integers(-9, 10, (d, d)).astype(float)
    total, parts = before.copy(), np.full((p, d, d), np.nan)
    kernels.centred_products(X, first, weights, mean, parts, total, size=size)
    y = weights[first : first + n, np.newaxis] * X - mean
    np.testing.assert_array_equal(total, before + y.T @ y)


@pytest.mark.parametrize("kernel", ["atom_products", "centred_products"])
def test_sums_over_chunks_are_float64_for_float32_blocks(kernel, size):
    # 2²⁴ of the first chunk of 64 rows and 1 of the second: their sum is no float32.
    X = np.zeros((512, 1), np.float32)
    X[0], X[64] = 2.0**12, 1.0
    one, mean = np.ones(512), np.zeros(1)
    if kernel == "atom_products":
        total = np.zeros((1, 2, 1))
        parts = np.empty((1, 1, 2, 1))
        kernels.atom_products(X, 0, one, mean, one[np.newaxis], parts, total, size=size)
        assert total[0, 1, 0] == 2.0**12 + 1
    else:
        total = np.zeros((1, 1))
        kernels.centred_products(X, 0, one, mean, np.empty((1, 1, 1)), total, size=size)
    assert total.ravel()[0] == 2.0**24 + 1


@parallel_dtypes
@pytest.mark.covering(2)
@pytest.mark.parametrize("parts", [1, 3, 64])
@pytest.mark.parametrize("rows", [1, 7, 29])
def test_products_do_not_depend_on_blocks_and_parts(
    parts, rows, dtype, center, at, parallel, set_block_rows, monkeypatch
):
    N, D, T = 29, 4, 2
    X, z, rng = data(N, D, dtype), at(N), np.random.default_rng(0)
    V, M = rng.standard_normal((T, N)), np.stack([target(D, seed) for seed in range(T)])
    offsets = rng.standard_normal((T, D))
    set_block_rows(rows, D)
    monkeypatch.setattr("fastcov._model.problem.STREAMED_FLOPS", 1)  # in memory too
    for module in ("problem", "products"):
        monkeypatch.setattr(f"fastcov._model.{module}.n_parts", lambda n, D: parts)
    problem = Problem.of(X, gains=z, center=center)
    assert len(list(problem.blocks(streamed=True))) == -(-N // problem.block_rows)
    G, x = absolute_atoms(X, z, center), np.abs(X.astype(float))
    eps = 2 * rounding(X)
    slopes, sums = products.weighted_atoms(problem, V)
    for v, slope, total in zip(V, slopes, sums, strict=True):
        bound = (G @ np.abs(v)).reshape(D, D)
        within(slope, (naive.atoms(X, z, center) @ v).reshape(D, D), eps * bound)
        within(total, v @ X.astype(float), eps * np.abs(v) @ x)
    out, squares = products.weighted_adjoint(problem, M, offsets, squares=True)
    for m, o, found, quadratic in zip(M, offsets, out, squares, strict=True):
        bound = G.T @ np.abs(m).ravel() + 2 * x @ np.abs(o)
        expected = naive.atoms(X, z, center).T @ m.ravel() - 2 * X.astype(float) @ o
        within(found, expected, eps * bound)
        expected = 2 * np.einsum("ia,ab,ib->i", X.astype(float), m, X.astype(float))
        within(quadratic, expected, eps * 2 * np.einsum("ia,ab,ib->i", x, np.abs(m), x))
    _, y = magnitudes(X, z, center)
    within(problem.covariance(), naive.covariance(X, z, center), eps * (y.T @ y))


@pytest.mark.parametrize("exponent", [-100, -40, 40, 100])
def test_products_in_float32_bear_vectors_and_matrices_of_any_size(exponent, center, at):
    X, z, rng = data(29, 4, np.float32), at(29), np.random.default_rng(0)
    problem = Problem.of(X, gains=z, center=center)
    V, M, o = rng.standard_normal((2, 29)), target(4)[np.newaxis], rng.standard_normal((1, 4))
    factor = 2.0**exponent
    for one, other in zip(
        products.weighted_atoms(problem, V), products.weighted_atoms(problem, factor * V), strict=True
    ):
        size = np.abs(one).max()
        within(other / factor, one, np.full(one.shape, rounding(X) * 29 * size))
    for one, other in zip(
        products.weighted_adjoint(problem, M, o, squares=True),
        products.weighted_adjoint(problem, factor * M, factor * o, squares=True),
        strict=True,
    ):
        within(other / factor, one, np.full(one.shape, rounding(X) * 29 * np.abs(one).max()))


@pytest.mark.parametrize("D", [NARROW, NARROW + 1])
def test_covariance_is_its_definition_either_side_of_the_switch_to_syrk(D, dtype, center, at):
    X, z = data(5, D, dtype), at(5)
    _, y = magnitudes(X, z, center)
    C = fc.covariance(X, gains=z, center=center)
    within(C, naive.covariance(X, z, center), rounding(X) * (y.T @ y))
    np.testing.assert_array_equal(C, C.T)


def test_parts_take_less_memory_than_the_rows():
    for n in (1, 100, 129, 1000, 10**5, 10**7):
        for D in (1, 2, 32, 100, 1000):
            parts = n_parts(n, D)
            assert 1 <= parts <= 64
            assert parts == 1 or parts * D * D <= n * D


def test_covariances_are_symmetric_though_not_every_product_is():
    # OpenBLAS for AVX2 rounds the two sides of A Aᵀ apart, by more than targets of float32 may differ.
    script = """
import numpy as np, fastcov as fc
for dtype in (np.float32, np.float64):
    sim = fc.datasets.simulate(150, 48, dtype=dtype)
    C = fc.covariance(sim.X)
    assert np.array_equal(C, C.T)
    fc.fit(sim.X, fc.covariance(sim.Y), relative_ridge=0.1)
print("done")
"""
    assert run_python(script, OPENBLAS_CORETYPE="Haswell").strip() == "done"
