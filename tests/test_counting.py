"""The instruments of the counts: they count what is done, no less and no more."""

import numpy as np
import pytest
import scipy.linalg.blas
from counting import KERNELS, LARGE, Rows, allocations, work

import fastcov as fc
from fastcov._bench._compiled import kernels
from fastcov._compute import blas
from fastcov._model import products
from fastcov._model.problem import Problem


def matrix(*shape, dtype=np.float64):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def test_every_kernel_has_its_flops():
    assert set(kernels()) == set(KERNELS)


def test_products_are_counted_from_their_shapes(dtype):
    A, B, b = matrix(30, 20, dtype=dtype), matrix(30, 10, dtype=dtype), matrix(1, 30, dtype=dtype)
    for call, name, flops in (
        (lambda: blas.product(A, B, ta=True), "gemm", 2 * 20 * 30 * 10),
        (lambda: blas.product(B, B, tb=True), "gemm", 2 * 30 * 10 * 30),
        (lambda: blas.product(b, A), "gemv", 2 * 30 * 20),
        (lambda: blas.self_product(A), "syrk", 30 * 30 * 20),
        (lambda: blas.self_product(A, transpose=True), "syrk", 20 * 20 * 30),
        (lambda: blas.cholesky(np.eye(30, dtype=dtype)), "potrf", 30**3 / 3),
        (lambda: blas.cholesky_solve(np.eye(30, dtype=dtype), b), "potrs", 2 * 30 * 30),
        (lambda: blas.norms(np.ones((3, 7))), "nrm2", 3 * 2 * 7),
        (lambda: scipy.linalg.blas.dtrsm(1.0, np.eye(30), np.ones((30, 4))), "trsm", 30 * 30 * 4),
    ):
        with work() as found:
            call()
        assert dict(found.flops) == {name: flops}
    with work() as found:
        blas.eigh(np.eye(30))
    assert dict(found.flops) == {"syevd": 9 * 30**3}


@pytest.mark.parametrize("n", [40, 256, 257, 700])
def test_a_factorisation_by_panels_and_by_address_has_its_flops(n, dtype, monkeypatch):
    monkeypatch.setattr(blas, "LONG_FLOPS", 0.0)  # SYRK by address, too
    A = matrix(n, n, dtype=dtype)
    with work() as found:
        A = blas.self_product(A)
        A.flat[:: n + 1] += n
        blas.cholesky(A)
    assert found.products() == pytest.approx(n**3 + n**3 / 3, rel=1e-12)


def test_what_is_counted_computes_as_before_and_what_is_not_in_the_block_does_not_count():
    X = matrix(40, 6)
    with work() as found:
        counted = fc.gram(X)
    before = dict(found.flops)
    np.testing.assert_array_equal(counted, fc.gram(X))
    assert dict(found.flops) == before


def test_a_routine_without_a_formula_is_an_error():
    with work(), pytest.raises(AssertionError, match="dsyr2k has no formula"):
        scipy.linalg.blas.dsyr2k(1.0, np.eye(3), np.eye(3))


@pytest.mark.parametrize("superfluous", ["product", "factorisation", "pass"])
def test_what_is_superfluous_is_found(superfluous, monkeypatch):
    X = matrix(150, 48)
    S, centred, factor = X.T @ X, Problem.centred, blas.cholesky

    def wasteful(problem):
        if superfluous == "product":
            blas.self_product(np.ones((48, 150)))
        elif superfluous == "factorisation":
            factor(np.eye(150))
        else:
            products.squared_norms(problem)
        return centred(problem)

    def fit():
        with work() as found:
            fc.fit(X, S, ridge=1e4, solver="spectral")
        return found

    before = fit()
    monkeypatch.setattr(Problem, "centred", wasteful)
    after = fit()
    more = {"product": 48 * 48 * 150, "factorisation": 150**3 / 3, "pass": 0}[superfluous]
    assert after.products() - before.products() == pytest.approx(more, rel=1e-9)
    assert after.passes(X) - before.passes(X) == (superfluous == "pass")


def test_rows_are_counted_as_they_are_read():
    X = Rows(matrix(30, 4))
    assert X.passes == 0
    X[:10], X[25:40]
    assert X.passes == 0.5


def test_large_arrays_are_counted_however_they_are_made():
    n = LARGE // 8
    with allocations() as made:
        A = np.ones(n)
        B = A + 1.0
        C = np.zeros((2, n))
        views = A[1:], C.T, B.reshape(1, -1)
        small = A[: n - 1].copy()
        D = scipy.linalg.blas.dgemm(1.0, np.ones((400, 1)), np.ones((1, 400)))
    np.empty(n)
    assert [nbytes for nbytes, _ in made] == [8 * n, 8 * n, 16 * n, D.nbytes]
    assert {place for _, place in made} == {"outside"}
    assert len(views) + len(small) > 0


def test_a_large_array_is_found_where_the_library_makes_it():
    X = matrix(500, 10)
    with allocations() as made:
        fc.gram(X)
    ((nbytes, place),) = made
    assert nbytes == 8 * 500 * 500
    assert place.startswith("_compute/blas.py:")
    assert place.endswith(" self_product")
