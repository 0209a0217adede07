"""Flops, passes and arrays of penalties on activations and of quadratic forms: those of their formulas."""

import numpy as np
import pytest
from cases import needs_jit, peak_bytes
from counting import allocations, work

import fastcov as fc
from fastcov import penalties
from fastcov._activations import products
from fastcov._activations.activations import SAMPLE_BLOCK_BYTES
from fastcov._activations.kernels import GROUP
from fastcov.quadratic_forms import SPDBatch, quadratic_forms, quadratic_forms_and_gradients

pytestmark = needs_jit  # counts are the same interpreted, but take minutes

SQUARES = {
    "mean_squared_covariance": penalties.mean_squared_covariance,
    "decov": penalties.decov,
    "vicreg_covariance": penalties.vicreg_covariance,
}
# Of more units than samples, and of fewer.
WIDE, LONG = (300, 48), (60, 300)


def layer(n, m, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal((n, m)).astype(dtype)


def counted(call):
    with work() as found:
        call()
    return found


def check(found, A, flops, passes):
    assert found.products() == pytest.approx(flops, rel=1e-12), found
    assert found.passes(A) == pytest.approx(passes, rel=1e-12), found


@pytest.fixture
def tiles(monkeypatch):
    """A function that makes tiles and blocks of so many units."""

    def set_units(units):
        monkeypatch.setattr(products, "TILE_UNITS", units)
        monkeypatch.setattr(products, "SIGN_UNITS", units)
        monkeypatch.setattr(products, "LEAST_UNITS", 1)

    return set_units


# --- penalties


@pytest.mark.covering(2)
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("name", SQUARES)
def test_a_squared_penalty_of_few_samples_is_two_products_through_samples(
    name, blocks, dtype, center, monkeypatch
):
    n, m = WIDE
    A = layer(n, m, dtype)
    monkeypatch.setattr("fastcov._activations.activations.SAMPLE_BLOCK_BYTES", 8 * A.size // blocks)
    found = counted(lambda: SQUARES[name](A, center=center))
    # Ranges; one block is centred once, several for the product of samples, and for that with it.
    check(found, A, 3 * n * m * m, 1 + min(blocks, 2) * center)
    assert (found.flops["syrk"], found.flops["gemm"]) == (n * m * m, 2 * n * m * m)


@pytest.mark.covering(2)
@pytest.mark.parametrize("blocks", [1, 4])
@pytest.mark.parametrize("name", [*SQUARES, "smooth", "distance"])
def test_tiles_are_half_a_square_and_two_products(name, blocks, dtype, center, tiles):
    n, m = LONG
    A, S = layer(n, m, dtype), layer(n, n)
    tiles(n // blocks)
    call = {
        **SQUARES,
        "smooth": lambda A, center: penalties.mean_absolute_covariance(A, epsilon=0.1, center=center),
        "distance": lambda A, center: penalties.covariance_distance(A, S + S.T, center=center),
    }[name]
    found = counted(lambda: call(A, center=center))
    # Each block is centred for its own row of tiles, and for those below.
    check(found, A, 3 * n * n * m, 1 + center * (blocks + 1) / 2)
    assert found.calls["syrk"] == blocks
    assert found.calls["gemm"] == blocks + 3 * blocks * (blocks - 1) / 2


def test_a_distance_of_few_samples_is_a_product_with_the_target_more(dtype, center):
    n, m = WIDE
    A, S = layer(n, m, dtype), layer(n, n)
    found = counted(lambda: penalties.covariance_distance(A, S + S.T, center=center))
    check(found, A, 2 * n * n * m + 3 * n * m * m, 1 + center)


def test_a_nearly_diagonal_covariance_is_no_more_than_a_try_and_its_tiles():
    n, m = 40, 32
    A = np.eye(n, m)
    found = counted(lambda: penalties.decov(A, center=False))
    check(found, A, n * m * m + 3 * n * n * m, 1)


@pytest.mark.parametrize("blocks", [1, 3])
def test_signs_are_half_a_product_in_float32_and_a_sixth_of_additions(blocks, dtype, monkeypatch, tiles):
    n, m = 720, 90
    A = layer(n, m, dtype)
    monkeypatch.setattr(penalties, "SIGNS_PAY", 0)
    tiles(n // blocks)
    found = counted(lambda: penalties.mean_absolute_covariance(A))
    assert found.calls["gemm"] == found.calls["syrk"] == 0
    side = n // 240  # tiles, those on the diagonal whole
    assert found.flops["product_signs"] == (1 + 1 / side) * n * n * m
    assert found.flops["signed_sums"] == n * n * m / GROUP


def test_a_block_with_a_zero_takes_products_and_no_other_does(monkeypatch, tiles):
    n, m = 480, 90
    A = layer(n, m)
    A[0], A[1] = np.eye(m)[:2]  # and nobody else's product is zero
    monkeypatch.setattr(penalties, "SIGNS_PAY", 0)
    tiles(n // 2)
    found = counted(lambda: penalties.mean_absolute_covariance(A, center=False))
    assert found.flops["gemm"] == 2 * 2 * (n // 2) ** 2 * m
    assert found.flops["signed_sums"] == 3 / 4 * n * n * m / GROUP


def test_a_mean_takes_no_product(dtype, center):
    A = layer(*WIDE, dtype)
    check(counted(lambda: penalties.mean_covariance(A, center=center)), A, 0, 1 + center)


# --- what they hold

CALLS = {
    **SQUARES,
    "mean_covariance": penalties.mean_covariance,
    "mean_absolute_covariance": penalties.mean_absolute_covariance,
    "smooth": lambda A, **options: penalties.mean_absolute_covariance(A, epsilon=0.1, **options),
}


@pytest.mark.covering(2)
@pytest.mark.parametrize("name", CALLS)
def test_a_penalty_makes_its_gradient_and_blocks_but_no_matrix_of_units(name, dtype, center):
    n, m = 3000, 200
    A = layer(n, m, dtype)
    with allocations() as made:
        _, gradient = CALLS[name](A, center=center)
    sizes = [nbytes for nbytes, _ in made]
    assert sizes.count(gradient.nbytes) >= 1
    assert max(sizes) <= max(gradient.nbytes, SAMPLE_BLOCK_BYTES)  # a matrix of units has 36 MB, or 72
    peak, _ = peak_bytes(lambda: CALLS[name](A, center=center))
    # Two blocks, a tile, its product; in the activations' own units all of it.
    assert peak <= gradient.nbytes + 4 * SAMPLE_BLOCK_BYTES


# --- quadratic forms


def units(n, Z, d, dtype):
    x = layer(n, Z * d, dtype).reshape(n, Z, d)
    return x, SPDBatch.random(Z, d, rng=0, dtype=dtype)


def test_forms_are_a_product_a_unit_and_one_pass(dtype):
    n, Z, d = 40, 6, 16
    x, batch = units(n, Z, d, dtype)
    found = counted(lambda: quadratic_forms(x, batch))
    check(found, x, 2 * n * Z * d * d, 1)
    A = batch.matrices()
    found = counted(lambda: quadratic_forms(x, A))
    check(found, x, 2 * n * Z * d * d + Z * d**3 / 3, 1)


def test_gradients_of_forms_are_a_product_more_and_two_of_factors(dtype):
    n, Z, d = 40, 6, 16
    x, batch = units(n, Z, d, dtype)
    found = counted(lambda: quadratic_forms_and_gradients(x, batch))
    check(found, x, 6 * n * Z * d * d, 1)
    found = counted(lambda: quadratic_forms_and_gradients(x, batch, log_determinant=True))
    check(found, x, 6 * n * Z * d * d + 2 * Z * d**3, 1)
    A = batch.matrices()
    found = counted(lambda: quadratic_forms_and_gradients(x, A))
    check(found, x, 4 * n * Z * d * d + Z * d**3 / 3, 1)


def test_a_batch_is_factorised_once(dtype):
    n, Z, d = 40, 6, 16
    x, batch = units(n, Z, d, dtype)
    A = batch.matrices()
    found = counted(lambda: SPDBatch.from_matrices(A).solve(x))
    assert found.products() == pytest.approx(Z * d**3 / 3 + 2 * n * Z * d * d)
    for call, flops in {
        batch.matrices: 2, batch.inverse: 2, batch.ldl: 0, batch.trace: 0, batch.logdet: 0,
        lambda: batch.factor_gradient(A): 2,
    }.items():  # fmt: skip
        assert counted(call).products() == flops * Z * d**3


def test_forms_make_no_copy_of_inputs(dtype):
    n, Z, d = 2000, 64, 32
    x, batch = units(n, Z, d, dtype)
    for matrices in (batch, batch.matrices()):
        with allocations() as made:
            g = quadratic_forms(x, matrices)
        assert [nbytes for nbytes, _ in made] == [g.nbytes] * (g.nbytes >= 1_000_000)
        with fc.threads(1), allocations() as made:
            g, gradients = quadratic_forms_and_gradients(x, matrices)
        assert [nbytes for nbytes, _ in made if nbytes > 8 * max(n * Z, Z * d * d)] == [x.nbytes]
        assert gradients.inputs.nbytes == x.nbytes
