"""Compiled code for activations against plain NumPy, at the edges of its tiles, tables, strips and pieces."""

import numpy as np
import pytest
from cases import needs_jit, needs_two_threads, parallel_dtypes, within

from fastcov._activations import kernels, products
from fastcov._activations.kernels import COLUMNS, GROUP, ROWS, SHARE, TABLES

SERIAL, PARALLEL = 0, 1 << 40  # sizes
# One, some, and so many rows and columns that vectors leave something over.
SHAPES = pytest.mark.parametrize("shape", [(1, 1), (3, 2), (7, 33), (130, 5)], ids=str)


def activations(n, m, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal((n, m)).astype(dtype)


def eps(dtype):
    return np.finfo(dtype).eps


def after(kernel, *args, size=SERIAL):
    """The arguments once a kernel has run on copies of them; one array given twice stays one."""
    copies = {id(a): a.copy() for a in args if isinstance(a, np.ndarray)}
    given = [copies.get(id(a), a) for a in args]
    kernel(*given, size=size)
    return given


# --- rows


@SHAPES
def test_ranges_of_rows(shape, dtype):
    A = activations(*shape, dtype)
    _, means, lowest, highest = after(kernels.row_ranges, A, *np.empty((3, len(A))))
    within(means, A.mean(axis=1, dtype=np.float64), shape[1] * eps(np.float64) * np.abs(A).max())
    np.testing.assert_array_equal(lowest, A.min(axis=1))
    np.testing.assert_array_equal(highest, A.max(axis=1))


def test_the_mean_of_a_constant_row_is_its_value_to_the_bit(dtype):
    values = np.array([0.1, -0.3, 0.0, 1e-30, 3.0], dtype)
    A = np.repeat(values[:, np.newaxis], 7, axis=1)
    _, means, *_ = after(kernels.row_ranges, A, *np.empty((3, len(A))))
    np.testing.assert_array_equal(means, values)


@pytest.mark.covering(2)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 8])
@pytest.mark.parametrize("others", ["constant", "drawn"])
def test_what_is_not_finite_shows_in_the_mean_of_its_row_alone(wrong, place, others, dtype):
    A = np.zeros((3, 9), dtype) if others == "constant" else activations(3, 9, dtype)
    A[1, place] = wrong
    _, means, *_ = after(kernels.row_ranges, A, *np.empty((3, len(A))))
    np.testing.assert_array_equal(np.isfinite(means), [True, False, True])


@SHAPES
def test_rows_are_shifted_in_place_or_not_and_have_no_mean_then(shape, dtype):
    A, means = activations(*shape, dtype), activations(1, shape[0], seed=1)[0]
    shifted = A - means[:, np.newaxis]
    expected = shifted - shifted.mean(axis=1, keepdims=True)
    given, _, out = after(kernels.shifted_rows, A, means, np.empty_like(A))
    np.testing.assert_array_equal(given, A)
    np.testing.assert_allclose(out, expected, rtol=0, atol=4 * eps(dtype) * np.abs(shifted).max())
    np.testing.assert_array_equal(after(kernels.shifted_rows, A, means, A)[0], out)


@SHAPES
def test_dots_of_rows_are_in_float64(shape, dtype):
    A, P = activations(*shape, dtype), activations(*shape, dtype, seed=1)
    terms = A.astype(np.float64) * P
    *_, dots = after(kernels.row_dots, A, P, np.empty(len(A)))
    within(dots, terms.sum(axis=1), shape[1] * eps(np.float64) * np.abs(terms).sum(axis=1))
    size = np.asarray(1e30 if dtype == np.float32 else 1e150, dtype)  # its square is beyond float32
    *_, dots = after(
        kernels.row_dots, size * np.ones((1, 3), dtype), size * np.ones((1, 3), dtype), np.empty(1)
    )
    np.testing.assert_allclose(dots, 3 * np.float64(size) ** 2, rtol=1e-15)


@SHAPES
@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_smooth_signs_and_sums_of_their_roots(shape, epsilon, dtype):
    T = activations(*shape, dtype)
    T[0, 0] = 0.0
    roots = np.hypot(T.astype(np.float64), epsilon)
    F, _, totals = after(kernels.smooth_signs, T, epsilon, np.empty(len(T)))
    within(F, np.divide(T, roots, out=np.zeros_like(roots), where=roots > 0), 4 * eps(dtype))
    within(totals, roots.sum(axis=1), (shape[1] + 3) * eps(np.float64) * roots.sum(axis=1))
    assert F[0, 0] == 0.0


# --- signs


def unit_rows(A, edge, depth, monkeypatch):
    """As `by_signs` has them, in pieces of so many samples."""
    monkeypatch.setattr(products, "DEPTH", depth)
    return products._unit_rows(A, edge)


@pytest.mark.parametrize(("m", "depth"), [(1, 8), (8, 8), (9, 8), (20, 8), (24, 8)])
def test_unit_rows_have_length_one_in_pieces_with_zeros_for_what_is_not_there(m, depth, dtype, monkeypatch):
    A = activations(5, m, dtype)
    A[2] = 0.0
    A[3] *= np.asarray(2.0**-60, dtype)
    U = unit_rows(A, 6, depth, monkeypatch)
    pieces, n, width = U.shape
    assert (pieces, n) == (-(-m // depth), 6)
    assert m <= pieces * width < m + pieces
    whole = U.transpose(1, 0, 2).reshape(6, -1)
    norms = np.linalg.norm(A.astype(np.float64), axis=1, keepdims=True)
    expected = np.divide(A, norms, out=np.zeros(A.shape), where=norms > 0)
    within(whole[:5, :m], expected, 2 * eps(np.float32) * np.abs(expected))
    assert not whole[:, m:].any()
    assert not whole[5].any()


def test_rows_whose_squares_underflow_are_left_to_float64(monkeypatch):
    A = np.array([[1e-162, 2e-162, 1.5e-162], [1e-140, 0.0, 0.0]])  # of 2e-162 alone the square is not zero
    U = unit_rows(A, 6, 8, monkeypatch)
    np.testing.assert_array_equal(U[0, :2], [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])


def unpacked(bits, n, k):
    """Booleans (n, k) of bits of `n` rows, of which GROUP make a byte."""
    positive = np.array([(bits >> j) & 1 for j in range(GROUP)], bool)  # (GROUP, groups, rows)
    return positive.transpose(2, 1, 0).reshape(bits.shape[1], -1)[:n, :k]


def signed(A, B, edge, depth, monkeypatch, size=SERIAL, exact=True):
    """Where A Bᵀ is positive, from the bits along rows and from those along columns, and zeros by tile.

    Tiles that are left are done in float64, all with `exact="all"`, none with `exact=False`.
    """
    U, V = (unit_rows(each, edge, depth, monkeypatch) for each in (A, B))
    tops, lefts = np.meshgrid(range(0, U.shape[1], edge), range(0, V.shape[1], edge), indexing="ij")
    tiles = np.stack([tops.ravel(), lefts.ravel(), np.full(tops.size, -1)], axis=1)
    by_rows, by_columns = products._empty_sign_bits(U, V), products._empty_sign_bits(V, U)
    if exact != "all":
        *_, tiles, by_rows, by_columns = after(
            kernels.product_signs, A, B, U, V, edge, tiles, by_rows, by_columns, size=size
        )
    left = tiles[:, 2] < 0
    if exact:
        *_, tiles[left], by_rows, by_columns = after(
            kernels.exact_signs, A, B, edge, depth, tiles[left], by_rows, by_columns, size=size
        )
    assert not by_rows[-(-V.shape[1] // GROUP) :].any()  # of tables that are not there
    n, k = len(A), len(B)
    return unpacked(by_rows, n, k), unpacked(by_columns, k, n).T, tiles[:, 2].reshape(tops.shape)


@pytest.mark.covering(2)
@pytest.mark.parametrize("edge", [GROUP, 2 * GROUP])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (6, 6), (5, 13), (30, 17)])
@pytest.mark.parametrize(
    ("m", "depth", "exact"),
    [(7, 16, False), (16, 16, False), (37, 16, False), (7, 7, "all"), (37, 16, "all")],
)
def test_bits_are_signs_of_the_product(n, k, edge, m, depth, exact, dtype, monkeypatch):
    A, B = activations(n, m, dtype), activations(k, m, dtype, seed=1)
    expected = A.astype(np.float64) @ B.T.astype(np.float64) > 0
    by_rows, by_columns, zeros = signed(A, B, edge, depth, monkeypatch, exact=exact)
    np.testing.assert_array_equal(by_rows, expected)
    np.testing.assert_array_equal(by_columns, expected)
    assert not zeros.any()


def nearly_orthogonal(n, k, scale=1.0):
    """Units whose products are -1, 0 or 1 times the square of a scale, at lengths of some 2^30 times it."""
    random, large = np.random.default_rng(2), 2.0**30
    s = random.integers(-1, 2, (n, k)).astype(float)
    A = np.zeros((n, n + 1))
    A[:, 0], A[np.arange(n), 1 + np.arange(n)] = large, 1.0
    B = np.ascontiguousarray(np.c_[np.ones(k), s.T - large])
    return scale * A, scale * B, s  # A_i . B_j = large - large + s_ij, to the bit


@pytest.mark.parametrize("scale", [1.0, 2.0**-300, 2.0**-490, 2.0**300])
def test_signs_of_products_far_below_rounding_in_float32_are_those_of_float64(scale, monkeypatch):
    A, B, s = nearly_orthogonal(20, 15, scale)
    by_rows, by_columns, zeros = signed(A, B, 2 * GROUP, 8, monkeypatch)
    np.testing.assert_array_equal(by_rows[s != 0], s[s != 0] > 0)
    np.testing.assert_array_equal(by_columns[s != 0], s[s != 0] > 0)
    expected = [[np.sum(s[i : i + 12, j : j + 12] == 0) for j in (0, 12)] for i in (0, 12)]
    np.testing.assert_array_equal(zeros, expected)


def test_few_entries_within_the_error_of_float32_are_settled_and_a_tile_with_more_is_left(monkeypatch):
    edge = 4 * GROUP
    few = edge**2 // SHARE
    for k in (few, few + 1):
        A, B, s = nearly_orthogonal(1, k)
        A = np.concatenate([A, activations(edge - 1, 2, seed=4)])
        expected = A @ B.T
        expected[0] = np.where(s[0] == 0, 1, s[0])
        by_rows, by_columns, zeros = signed(A, B, edge, 8, monkeypatch, exact=False)
        if k > few:
            assert zeros.tolist() == [[-1]]
        else:
            np.testing.assert_array_equal(by_rows, expected > 0)
            np.testing.assert_array_equal(by_columns, expected > 0)
            assert zeros.tolist() == [[np.sum(s == 0)]]


@pytest.mark.parametrize("size", [1e-158, 1e-163])
def test_signs_of_units_whose_squares_underflow_are_those_of_float64(size, monkeypatch):
    B = activations(12, 40, seed=1)
    A = size * (activations(6, 12) @ B + 1e-4 * activations(6, 40, seed=2))
    by_rows, _, zeros = signed(A, B, GROUP, 64, monkeypatch)
    np.testing.assert_array_equal(by_rows, (A / size) @ B.T > 0)
    assert not zeros.any()


def test_products_with_units_of_zeros_are_no_zeros_that_count(dtype, monkeypatch):
    A, B = activations(9, 5, dtype), activations(8, 5, dtype, seed=1)
    A[4], B[2] = 0.0, 0.0
    by_rows, _, zeros = signed(A, B, GROUP, 8, monkeypatch)
    some = np.ix_(np.arange(9) != 4, np.arange(8) != 2)
    np.testing.assert_array_equal(by_rows[some], (A.astype(np.float64) @ B.T > 0)[some])
    assert not zeros.any()
    A[0, :2], B[3] = (2.0, 1.0), (1.0, -2.0, 0.0, 0.0, 0.0)
    assert signed(A, B, GROUP, 8, monkeypatch)[2].tolist() == [[1, 0], [0, 0]]


# --- sums with signs


def bits_of(positive):
    """Those of booleans (n, k), for as many tables as are added at once, or a multiple."""
    n, k = positive.shape
    groups = -(-k // (GROUP * TABLES)) * TABLES
    padded = np.zeros((n, groups * GROUP), np.uint8)
    padded[:, :k] = positive
    weights = (1 << np.arange(GROUP)).astype(np.uint8)
    return np.ascontiguousarray((padded.reshape(n, groups, GROUP) * weights).sum(axis=2, dtype=np.uint8).T)


SUMS = [
    (1, 1, 1), (5, GROUP - 1, 3), (5, GROUP, COLUMNS), (3, GROUP + 1, COLUMNS + 1), (9, GROUP * TABLES, 5),
    (9, GROUP * TABLES + 1, 5), (ROWS, 7, 2), (ROWS + 3, 13, COLUMNS + 5), (2 * ROWS + 1, 4, 1),
]  # fmt: skip


@pytest.mark.parametrize(("n", "k", "m"), SUMS)
def test_sums_from_tables_are_the_product_with_the_signs(n, k, m, dtype):
    positive = np.random.default_rng(3).random((n, k)) < 0.5
    A, start = activations(k, m, dtype), activations(n, m, dtype, seed=1)
    F = np.where(positive, 1.0, -1.0)
    *_, out = after(kernels.signed_sums, A, bits_of(positive), start)
    terms = np.abs(start) + np.abs(A).sum(axis=0)
    within(out, start + F @ A.astype(np.float64), (k + 2) * eps(dtype) * terms)


# --- twins, and many rows


@parallel_dtypes
@needs_two_threads
@needs_jit
def test_parallel_twins_are_serial_ones_to_rounding_and_signs_to_the_bit(dtype, monkeypatch):
    A, P = activations(37, 53, dtype), activations(37, 53, dtype, seed=1)
    means, vector, positive = np.full(37, 0.3), np.empty(37), A @ A.T > 0
    for kernel, length, *args in (  # of sums, whose order is the compiler's
        (kernels.row_ranges, 53, A, *np.empty((3, 37))),
        (kernels.shifted_rows, 0, A, means, np.empty_like(A)),
        (kernels.row_dots, 53, A, P, vector),
        (kernels.smooth_signs, 53, A, 0.5, vector),
        (kernels.unit_rows, 53, A, np.empty((2, 42, 27), np.float32)),
        (kernels.signed_sums, 0, A, bits_of(positive), P),
    ):
        both = after(kernel, *args), after(kernel, *args, size=PARALLEL)
        for serial, parallel in zip(*both, strict=True):
            size = length * np.abs(np.asarray(serial)).max()
            within(parallel, serial, np.finfo(np.asarray(serial, dtype).dtype).eps * size)
    for exact in (False, "all"):
        both = [signed(A, P, 2 * GROUP, 27, monkeypatch, size, exact) for size in (SERIAL, PARALLEL)]
        for serial, parallel in zip(*both, strict=True):
            np.testing.assert_array_equal(parallel, serial)


MANY = (1 << 16) + 5


@pytest.mark.parametrize("size", [SERIAL, PARALLEL])
def test_rows_beyond_two_bytes_of_index_are_found(size):
    A = np.arange(2.0 * MANY).reshape(MANY, 2)
    _, means, lowest, highest = after(kernels.row_ranges, A, *np.empty((3, MANY)), size=size)
    np.testing.assert_array_equal((means, lowest, highest), (A.mean(axis=1), A[:, 0], A[:, 1]))
    *_, out = after(kernels.shifted_rows, A, means, np.empty_like(A), size=size)
    np.testing.assert_array_equal(out, np.tile([-0.5, 0.5], (MANY, 1)))
    *_, dots = after(kernels.row_dots, A, out, np.empty(MANY), size=size)
    np.testing.assert_array_equal(dots, np.full(MANY, 0.5))


@needs_jit  # takes some seconds interpreted
@pytest.mark.parametrize("size", [SERIAL, PARALLEL])
def test_signs_and_sums_of_rows_beyond_two_bytes_of_index_are_found(size):
    A = np.where(np.arange(MANY) % 3 == 0, -1.0, 1.0)[:, np.newaxis]
    B = np.array([[1.0], [2.0], [-1.0]])
    U, V = products._unit_rows(A, GROUP), products._unit_rows(B, GROUP)
    top = MANY // GROUP * GROUP
    tiles = np.array([[top, 0, -1]])
    bits = products._empty_sign_bits(U, V), products._empty_sign_bits(V, U)
    for kernel, *given in ((kernels.product_signs, A, B, U, V, GROUP), (kernels.exact_signs, A, B, GROUP, 1)):
        *_, by_rows, _ = after(kernel, *given, tiles, *bits, size=size)
        np.testing.assert_array_equal(unpacked(by_rows, MANY, 3)[top:], A[top:] * B.T > 0)
    positive = A * B.T > 0
    *_, out = after(kernels.signed_sums, B, bits_of(positive), np.zeros((MANY, 1)), size=size)
    np.testing.assert_array_equal(out, np.where(positive, 1.0, -1.0) @ B)
