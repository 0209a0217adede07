"""AtomOperator and GramOperator against dense matrices, over types, layouts and sizes."""

import naive
import numpy as np
import pytest
from cases import LAYOUTS, absolute_atoms, absolute_error, data, rounding, target, within
from scipy.sparse.linalg import aslinearoperator, eigsh, lsqr, svds

import fastcov as fc
from fastcov._model import products
from fastcov._model.problem import Problem

# One channel; one condition; the dense switch of the largest eigenvalue (32); tiles of 64; panels of 256.
SHAPES = [(1, 1), (1, 3), (2, 3), (7, 1), (33, 3), (64, 2), (65, 2), (257, 2)]
OPERATORS = ["AtomOperator", "GramOperator"]


def symmetrised(U, D):
    """Columns of U as matrices, made symmetric."""
    M = U.reshape(D, D, -1)
    return ((M + M.transpose(1, 0, 2)) / 2).reshape(D * D, -1)


def check_atoms(operator, X, gains, center):
    """Every way to use G agrees with the dense G, and ⟨G v, M⟩ = ⟨v, Gᵀ M⟩."""
    N, D = X.shape
    rng = np.random.default_rng(0)
    G, bound = naive.atoms(X, gains, center), rounding(X) * absolute_atoms(X, gains, center)
    assert operator.shape == G.shape
    assert operator.dtype == np.float64
    V, U = rng.standard_normal((N, 3)), rng.standard_normal((D * D, 3))  # U: matrices without symmetry
    within(operator.matvec(V[:, 0]), G @ V[:, 0], bound @ abs(V[:, 0]))
    within(operator @ V[:, :1], G @ V[:, :1], bound @ abs(V[:, :1]))
    within(operator.matmat(V), G @ V, bound @ abs(V))
    within(operator @ V, G @ V, bound @ abs(V))
    within(operator.rmatvec(U[:, 0]), G.T @ U[:, 0], bound.T @ abs(U[:, 0]))
    within(operator.rmatmat(U), G.T @ U, bound.T @ abs(U))
    within(operator.T @ U, G.T @ U, bound.T @ abs(U))
    within(operator.H.matvec(U[:, 1]), G.T @ U[:, 1], bound.T @ abs(U[:, 1]))
    np.testing.assert_array_equal(operator.rmatvec(U[:, 0]), operator.rmatvec(symmetrised(U[:, :1], D)[:, 0]))
    image = operator.matvec(V[:, 0]).reshape(D, D)
    np.testing.assert_array_equal(image, image.T)
    left, right = operator.matvec(V[:, 0]) @ U[:, 0], V[:, 0] @ operator.rmatvec(U[:, 0])
    assert abs(left - right) <= 2 * abs(U[:, 0]) @ bound @ abs(V[:, 0])
    # Outer products alone, in float64: a few roundings of the entries.
    exact = rounding(X, np.float64) * absolute_atoms(X, gains, center)
    if X.dtype == np.float32:
        exact = exact + 4 * np.finfo(np.float32).eps * absolute_atoms(X, gains, center)
    within(operator.dense(), G, exact)
    index = rng.integers(0, N, 5)
    within(operator.columns(index), G[:, index], exact[:, index])


def check_gram(operator, X, gains, center):
    """Every way to use GᵀG agrees with the dense one, and it is symmetric."""
    N, _ = X.shape
    rng = np.random.default_rng(0)
    absolute = absolute_atoms(X, gains, center)
    A, bound = naive.gram(X, gains, center), 2 * rounding(X) * (absolute.T @ absolute)
    assert operator.shape == A.shape
    assert operator.dtype == np.float64
    V = rng.standard_normal((N, 3))
    within(operator.matvec(V[:, 0]), A @ V[:, 0], bound @ abs(V[:, 0]))
    within(operator.rmatvec(V[:, 0]), A @ V[:, 0], bound @ abs(V[:, 0]))
    within(operator.matmat(V), A @ V, bound @ abs(V))
    within(operator.rmatmat(V), A @ V, bound @ abs(V))
    within(operator.T @ V, A @ V, bound @ abs(V))
    within(operator.H @ V, A @ V, bound @ abs(V))
    left, right = V[:, 1] @ operator.matvec(V[:, 0]), V[:, 0] @ operator.matvec(V[:, 1])
    assert abs(left - right) <= 2 * abs(V[:, 1]) @ bound @ abs(V[:, 0])
    within(operator.dense(), A, bound)
    np.testing.assert_array_equal(operator.dense(), fc.gram(X, gains=gains, center=center))
    within(operator.diagonal(), np.diag(A), np.diag(bound))
    index = rng.integers(0, N, 5)
    columns = operator.columns(index)
    assert columns.dtype == X.dtype
    within(columns, A[:, index], bound[:, index])


CHECKS = {"AtomOperator": check_atoms, "GramOperator": check_gram}


def largest_eigenvalue(problem):
    return products.largest_eigenvalue(problem, products.squared_norms(problem), problem.covariance())


@pytest.mark.covering(2)
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_operator_is_the_dense_matrix_at_every_size(name, shape, dtype, center, at):
    X, z = data(*shape, dtype), at(shape[0])
    CHECKS[name](getattr(fc, name)(X, gains=z, center=center), X, z, center)


@pytest.mark.covering(2)
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_operator_is_the_dense_matrix_in_every_layout(name, layout, dtype, center, at, tmp_path):
    X, z = LAYOUTS[layout](data(7, 4, dtype), tmp_path), at(7)
    plain = np.array(X, np.float64 if layout == "list" else dtype)
    CHECKS[name](getattr(fc, name)(X, gains=z, center=center), plain, z, center)


@pytest.mark.covering(2)
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("rows", [1, 3, 10])
def test_operator_is_the_dense_matrix_when_channels_come_in_many_blocks(
    name, rows, dtype, center, at, set_block_rows
):
    set_block_rows(rows, 4)
    X, z = data(11, 4, dtype), at(11)
    CHECKS[name](getattr(fc, name)(X, gains=z, center=center), X, z, center)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("factor", [2.0**-190, 2.0**190])
def test_operator_is_in_the_units_of_its_input_where_they_are_scaled_inside(name, factor, center):
    X = data(7, 3)
    operator, scaled = getattr(fc, name)(X, center=center), getattr(fc, name)(factor * X, center=center)
    power = 2 if name == "AtomOperator" else 4
    v = np.arange(1.0, 8.0)
    bound = 2 * rounding(X) * np.abs(operator.dense()).max() * v.sum() * 10
    within(scaled.matvec(v) / factor**power, operator.matvec(v), bound)
    within(scaled.dense() / factor**power, operator.dense(), bound)
    within(scaled.columns([6]) / factor**power, operator.columns([6]), bound)
    if name == "GramOperator":
        within(scaled.diagonal() / factor**4, operator.diagonal(), bound)
    else:
        u = np.arange(9.0)
        bound = rounding(X) * absolute_atoms(X, None, center).T @ u
        within(scaled.rmatvec(u) / factor**2, operator.rmatvec(u), bound)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("size", [2.0**-160, 2.0**160])
def test_operator_is_linear_in_vectors_beyond_the_range_of_float32(name, size, dtype, at):
    operator = getattr(fc, name)(data(7, 3, dtype), gains=at(7))
    v, u = np.arange(1.0, 8.0), np.arange(1.0, operator.shape[0] + 1)
    within(operator.matvec(size * v) / size, operator.matvec(v), 1e-5 * np.abs(operator.matvec(v)).max())
    within(operator.rmatvec(size * u) / size, operator.rmatvec(u), 1e-5 * np.abs(operator.rmatvec(u)).max())


@pytest.mark.parametrize("size", [1e-50, 1e50])
def test_overlaps_with_a_target_beyond_the_range_of_float32_are_right(size, dtype):
    X, S = data(7, 3, dtype), target(3)
    if size < 1:  # so that S counts
        X = X * dtype(1e-25)
    bound = absolute_atoms(X).T @ absolute_error(X, size * S).ravel()
    within(fc.overlaps(X, size * S), naive.overlaps(X, size * S), rounding(X) * bound)


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_takes_vectors_of_integers_and_of_any_stride(name):
    operator = getattr(fc, name)(data(6, 3))
    v = np.arange(12)
    np.testing.assert_array_equal(operator @ v[::2], operator @ v[::2].astype(float))
    np.testing.assert_array_equal(operator @ v[::-2], operator @ v[::-2].astype(float))


@pytest.mark.parametrize("name", OPERATORS)
def test_columns_take_negative_numbers_and_masks(name):
    operator = getattr(fc, name)(data(6, 3))
    dense = operator.columns(np.arange(6))
    np.testing.assert_array_equal(operator.columns([-1, 0]), dense[:, [5, 0]])
    mask = np.array([True, False, False, True, True, False])
    np.testing.assert_array_equal(operator.columns(mask), dense[:, mask])


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("index", [[6], [-7], [0.0], [0, 10**6], [True, False]])
def test_columns_outside_the_channels_are_refused(name, index):
    with pytest.raises(IndexError, match=r"^Argument 'index' must hold channels from 0 to 5, not "):
        getattr(fc, name)(data(6, 3)).columns(index)


@pytest.mark.parametrize("name", OPERATORS)
def test_complex_vectors_are_refused_not_truncated(name):
    operator = getattr(fc, name)(data(6, 3))
    with pytest.raises(TypeError, match=r"^Argument 'v' must be real, not complex"):
        operator @ np.full(6, 1j)
    with pytest.raises(TypeError, match=r"^Argument 'v' must be real, not complex"):
        operator.rmatvec(np.full(operator.shape[0], 1j))


def test_gram_operator_is_its_own_transpose():
    A = fc.GramOperator(data(6, 3))
    assert A.T is A
    assert A.H is A


# --- in SciPy


def test_svds_of_the_atoms_finds_the_largest_singular_values():
    X = data(20, 5)
    expected = np.linalg.svd(naive.atoms(X), compute_uv=False)
    found = svds(fc.AtomOperator(X), k=3, v0=np.ones(20), return_singular_vectors=False)
    # ARPACK's own tolerance is ε, on the squares.
    np.testing.assert_allclose(np.sort(found)[::-1], expected[:3], rtol=1e-10)


def test_lsqr_on_the_atoms_finds_the_linear_fit():
    X, ridge = data(20, 5), 50.0
    e = np.random.default_rng(0).standard_normal((5, 5))
    e += e.T
    G = naive.atoms(X)
    delta = lsqr(fc.AtomOperator(X), e.ravel(), damp=np.sqrt(ridge), atol=1e-14, btol=1e-14)[0]
    gradient = G.T @ (e.ravel() - G @ delta) - ridge * delta  # zero at the minimum
    assert np.linalg.norm(gradient) <= 1e-10 * np.linalg.norm(G.T @ e.ravel())


def test_eigsh_of_the_gram_finds_the_largest_eigenvalues():
    X = data(20, 5)
    found = eigsh(fc.GramOperator(X), k=3, v0=np.ones(20), return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(found), np.linalg.eigvalsh(naive.gram(X))[-3:], rtol=1e-10)


def test_operators_combine_as_scipy_operators_do():
    X = data(6, 3)
    G, A = fc.AtomOperator(X), fc.GramOperator(X)
    v = np.arange(6.0)
    bound = rounding(X) * np.sum(absolute_atoms(X).T @ absolute_atoms(X) @ v)
    within((G.T @ G) @ v, A @ v, bound)
    within((A + 2 * aslinearoperator(np.eye(6))) @ v, A @ v + 2 * v, bound)


# --- largest eigenvalue


@pytest.mark.parametrize("N", [1, 2, 31, 32, 33, 64, 257])
def test_largest_eigenvalue_is_that_of_the_dense_gram(N, center):
    X = data(N, 3)
    found = largest_eigenvalue(Problem.of(X, center=center))
    expected = np.linalg.norm(naive.atoms(X, None, center), 2) ** 2
    # Lanczos to 1e-10. For one centred channel all is zero but for rounding.
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=rounding(X))


@pytest.mark.parametrize("gains", [None, "at ones"])
@pytest.mark.parametrize("shape", [(40, 20), (200, 40), (60, 33)], ids=str)
def test_largest_eigenvalue_with_a_gram_of_its_own_is_that_without(shape, gains, center):
    X = data(*shape)
    X[3] = 0.0
    problem = Problem.of(X, gains=None if gains is None else np.ones(len(X)), center=center)
    norms, C = products.squared_norms(problem), problem.covariance()
    assert products.lanczos_with_gram(problem, np.inf)
    without = products.largest_eigenvalue(problem, norms, C, room=0.0)
    np.testing.assert_allclose(products.largest_eigenvalue(problem, norms, C), without, rtol=1e-9)
    expected = np.linalg.norm(naive.atoms(X, None, center), 2) ** 2
    np.testing.assert_allclose(without, expected, rtol=1e-9)


def test_a_gram_for_lanczos_alone_keeps_to_the_budget_and_to_where_it_pays():
    def made(N, D, room=np.inf):
        return products.lanczos_with_gram(Problem.of(data(N, D)), room)

    assert made(50, 20)
    assert not made(51, 20)  # N > D² / 8
    assert made(100, 40, 8 * 100**2)
    assert not made(100, 40, 8 * 100**2 - 1)
    assert not made(1449, 120)  # more than 16 MiB
    assert not products.lanczos_with_gram(Problem.of(data(50, 20, np.float32)).astype(np.float64), np.inf)


@pytest.mark.parametrize("N", [5, 40])
def test_largest_eigenvalue_of_dead_channels_is_zero(N):
    assert largest_eigenvalue(Problem.of(np.zeros((N, 3)))) == 0.0


@pytest.mark.parametrize("N", [5, 40])
def test_largest_eigenvalue_of_equal_channels_is_negligible(N):
    # Every x̃ is zero, or what rounding leaves of it.
    X = np.full((N, 3), 0.1)
    scale = np.linalg.norm(absolute_atoms(X)) ** 2
    assert 0 <= largest_eigenvalue(Problem.of(X)) <= rounding(X) * scale


def test_largest_eigenvalue_when_one_channel_is_alive():
    X = np.zeros((50, 3))
    X[17] = [1.0, 2.0, 2.0]
    found = largest_eigenvalue(Problem.of(X, center=False))
    np.testing.assert_allclose(found, 4 * 81.0, rtol=1e-10)  # ‖2 x xᵀ‖² = 4 ‖x‖⁴


# --- memory


@pytest.mark.parametrize("name", OPERATORS)
def test_dense_refuses_what_does_not_fit_before_allocating(name, little_memory):
    operator = getattr(fc, name)(data(2000, 40, np.float32))  # 32 MB and more
    with pytest.raises(MemoryError, match=r"takes .* GB, and 1e-06 GB are available: use .*columns\(\)"):
        little_memory(operator.dense)


@pytest.mark.parametrize("name", OPERATORS)
def test_columns_refuse_what_does_not_fit_before_allocating(name, little_memory):
    operator = getattr(fc, name)(data(2000, 40, np.float32))
    with pytest.raises(MemoryError, match=r"takes .* GB, and 1e-06 GB are available: take fewer"):
        little_memory(lambda: operator.columns(np.arange(200)))


def test_gram_refuses_what_does_not_fit_before_allocating(little_memory):
    X = data(2000, 3)
    with pytest.raises(
        MemoryError, match=r"^A Gram matrix of 2000 channels takes 0.032 GB, and 1e-06 GB are"
    ):
        little_memory(lambda: fc.gram(X))
