"""BLAS and LAPACK on C-ordered arrays, short and long calls; symmetric matrices over pairs of conditions."""

import threading

import naive
import numpy as np
import pytest
from cases import absolute_atoms, data, rounding, within

from fastcov._compute import blas
from fastcov._model import packed
from fastcov._model.problem import Problem, n_pairs
from fastcov._solvers import _pairs

SIZES = [1, 2, 7, 64, 130]


@pytest.fixture(params=["short", "long"])
def length(request, monkeypatch):
    """Whether calls are made directly, or in a thread of their own; says how many threads there were."""
    if request.param == "long":
        monkeypatch.setattr(blas, "LONG_FLOPS", 0.0)
    started, start = [], threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda self: (started.append(self), start(self))[1])
    yield request.param
    assert bool(started) == (request.param == "long")
    for thread in started:  # it tells that its call has ended, and then ends
        thread.join(10.0)
    assert not any(thread.is_alive() for thread in started)


def matrix(rows, columns, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(dtype)


def definite(n, dtype):
    root = matrix(n, n + 3)
    return (root @ root.T).astype(dtype)


def bound(A, B, dtype):
    """n ε times the terms of A B."""
    return (A.shape[1] + 10) * np.finfo(dtype).eps * (np.abs(A) @ np.abs(B))


@pytest.mark.parametrize("n", SIZES)
def test_eigenvectors_are_those_of_the_lower_triangle(n, length):
    A = definite(n, np.float64)
    expected = np.linalg.eigvalsh(A)
    vectors = np.tril(A)  # what stands above is not read
    vectors[np.triu_indices(n, 1)] = np.nan
    values = blas.eigh(vectors)
    limit = 30 * n * np.finfo(float).eps
    within(values, expected, np.full(n, limit * expected[-1]))
    within(vectors @ vectors.T, np.eye(n), np.full((n, n), limit))
    within(vectors @ A, values[:, np.newaxis] * vectors, np.full((n, n), limit * expected[-1]))


def test_an_eigendecomposition_that_fails_says_so(monkeypatch):
    def fails(routine, *arguments, flops):
        arguments[-1].value = 3  # LAPACK's info

    monkeypatch.setattr(blas, "_call", fails)
    with pytest.raises(np.linalg.LinAlgError, match=r"did not converge \(3\)"):
        blas.eigh(np.eye(4))


@pytest.mark.covering(2)
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (70, 3), (3, 70)], ids=str)
def test_a_self_product_is_the_lower_triangle_of_the_product(shape, add, transpose, dtype, length):
    A = matrix(*shape, dtype)
    B = (A.T if transpose else A).astype(np.float64)
    n = len(B)
    out = matrix(n, n, dtype, seed=1) if add else np.full((n, n), np.nan, dtype)
    before = out.copy()
    found = blas.self_product(A, transpose=transpose, out=out, add=add)
    assert found is out
    lower, upper = np.tril_indices(n), np.triu_indices(n, 1)
    expected = B @ B.T + (before if add else 0.0)
    limit = bound(B, B.T, dtype) + 10 * np.finfo(dtype).eps * np.abs(expected)
    within(found[lower], expected[lower], limit[lower])
    np.testing.assert_array_equal(found[upper], before[upper])  # left as it was


@pytest.mark.parametrize("n", [257, 300])
def test_a_cholesky_factor_by_panels_is_that_of_the_matrix(n, dtype, length):
    A = definite(n, dtype)
    L, shares = A.copy(), []
    assert blas.cholesky(L, shares.append) == 0
    np.testing.assert_array_equal(L[np.triu_indices(n, 1)], A[np.triu_indices(n, 1)])
    lower = np.tril(L).astype(np.float64)
    within(lower @ lower.T, A, (n + 10) * np.finfo(dtype).eps * (np.abs(lower) @ np.abs(lower.T)))
    assert shares == sorted(shares)
    assert len(shares) == 2
    assert shares[-1] == 1.0


@pytest.mark.parametrize("minor", [1, 200, 256, 257, 300])
def test_a_matrix_that_is_not_definite_is_found_by_its_minor(minor, dtype, length):
    A = np.eye(300, dtype=dtype)
    A[minor - 1, minor - 1] = -1.0
    assert blas.cholesky(A) == minor
    if length == "long" and minor <= 256:
        blas.cholesky(np.eye(300))  # the first one ended before a long call


@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (130, 70)], ids=str)
def test_the_product_of_a_row_is_that_of_a_matrix(shape, tb, dtype):
    B, A = matrix(*shape, dtype), matrix(3, shape[1] if tb else shape[0], dtype, seed=1)
    expected = A @ (B.T if tb else B)
    limit = bound(A, B.T if tb else B, dtype)
    for i in range(3):
        row = blas.product(A[i : i + 1], B, tb=tb)
        within(row, expected[i : i + 1], 2 * limit[i : i + 1])
        out = np.full_like(row, np.nan)
        assert blas.product(A[i : i + 1], B, tb=tb, out=out) is out
        np.testing.assert_array_equal(out, row)
        blas.product(A[i : i + 1], B, tb=tb, out=out, add=True)  # by gemm
        within(out, 2 * expected[i : i + 1], 4 * limit[i : i + 1])
    within(blas.product(A, B, tb=tb), expected, 2 * limit)


# --- pairs of conditions


@pytest.mark.parametrize("D", [1, 2, 5])
def test_packing_keeps_inner_products_and_is_undone(D):
    M = matrix(3, D * D).reshape(3, D, D)
    M = M + M.transpose(0, 2, 1)
    V = packed.pack(M)
    assert V.shape == (3, n_pairs(D))
    np.testing.assert_allclose(V @ V.T, np.einsum("sij,tij->st", M, M), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(packed.unpack(V, D), M, rtol=1e-15)


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (7, 4), (40, 4)], ids=str)
def test_the_dual_gram_is_that_of_packed_atoms(shape, dtype, center, at):
    N, D = shape
    X, gains = data(N, D, dtype), at(N)
    shares = []
    K = _pairs.dual_gram(Problem.of(X, gains=gains, center=center), shares.append)
    G = packed.pack(naive.atoms(X, gains, center).T.reshape(N, D, D)).T
    bounds = packed.pack(absolute_atoms(X, gains, center).T.reshape(N, D, D)).T
    lower = np.tril_indices(len(K))
    within(K[lower], (G @ G.T)[lower], rounding(X, dtype) * (bounds @ bounds.T)[lower])
    assert shares[-1] == 1.0
    # and it has the eigenvalues of GᵀG, but for zeros
    n = min(len(K), N)
    values = np.linalg.eigvalsh(K.astype(np.float64), "L")[::-1][:n]
    expected = np.linalg.eigvalsh(naive.gram(X, gains, center))[::-1][:n]
    within(values, expected, np.full(n, rounding(X, dtype) * np.sum(bounds**2)))


@pytest.mark.parametrize("rows", [1, 7, 39, 40, 100])
def test_the_dual_gram_does_not_depend_on_blocks(rows, dtype, set_block_rows):
    X = data(40, 4, dtype)
    lower = np.tril_indices(10)
    whole = _pairs.dual_gram(Problem.of(X), lambda _: None)[lower]
    set_block_rows(rows, 4)
    shares = []
    blocks = _pairs.dual_gram(Problem.of(X), shares.append)[lower]
    bounds = packed.pack(absolute_atoms(X).T.reshape(40, 4, 4)).T
    within(blocks, whole, 2 * rounding(X, dtype) * (bounds @ bounds.T)[lower])
    assert shares == [min(1.0, rows * (i + 1) / 40) for i in range(-(-40 // rows))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_tall_products_are_those_of_parts_of_the_rows(parts, dtype):
    A = np.random.default_rng(0).integers(-9, 10, (50, 7)).astype(dtype)  # whose products are exact
    products = blas.tall_products(A, parts)
    assert len(products) == parts
    np.testing.assert_array_equal(np.tril(sum(products)), np.tril(A.T @ A))


@pytest.mark.parametrize("shape", [(50, 7), (3, 7), (0, 4)])
@pytest.mark.parametrize("length", ["short", "long"])
def test_a_repeated_self_product_is_of_what_the_arrays_hold_by_then(shape, length, monkeypatch):
    if length == "long":
        monkeypatch.setattr(blas, "LONG_FLOPS", 0.0)
    A, out = np.zeros(shape), np.full((shape[1],) * 2, np.nan)
    square = blas.repeated_self_product(A, out)
    for seed in range(2):
        A[...] = np.random.default_rng(seed).integers(-9, 10, shape)  # whose products are exact
        square()
        np.testing.assert_array_equal(np.tril(out), np.tril(A.T @ A))


@pytest.mark.parametrize("n", [0, 1, blas.PIECE, blas.PIECE + 1, 30000])
def test_vectors_by_pieces_are_as_whole_ones(n):
    A, B = matrix(2, n), matrix(2, n, seed=1)
    limit = (n + 2) * np.finfo(float).eps * (np.abs(A) * np.abs(B)).sum(axis=1)
    within(blas.dots(A, B), (A * B).sum(axis=1), limit)
    sizes = np.sqrt(np.square(A).sum(axis=1))
    within(blas.norms(A), sizes, (n + 2) * np.finfo(float).eps * sizes)
    np.testing.assert_allclose(
        blas.norm(A), np.sqrt(np.square(A).sum()), rtol=(2 * n + 2) * np.finfo(float).eps
    )
    expected = A + np.array([[2.0], [-1.0]]) * B
    blas.add_scaled(A, [2.0, -1.0], B)
    within(A, expected, 2 * np.finfo(float).eps * (np.abs(A) + 4 * np.abs(B)))


def test_a_norm_is_one_by_which_a_division_does_not_raise():
    with np.errstate(divide="ignore"):
        assert 1.0 / blas.norm(np.zeros(3)) == np.inf
    assert blas.norm(np.full(30000, 1e300)) == pytest.approx(1e300 * np.sqrt(30000))
