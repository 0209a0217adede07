"""Penalties where digits are lost: signs near zero, differences of squares, sizes far apart."""

import naive
import numpy as np
import pytest
import scipy.linalg
from cases import data, rounding, within
from test_penalties import CALLS, PENALTIES, a_target, blocks, bounds, calls, check, degree, each  # noqa: F401

from fastcov import penalties

OFF_DIAGONAL = pytest.mark.parametrize("name", ["decov", "vicreg_covariance"])


def orthogonal(n, m, seed=6):
    """Units of variance near one and means of zero that are uncorrelated to rounding, n < m."""
    columns = np.c_[np.ones(m), np.random.default_rng(seed).standard_normal((m, n))]
    return np.sqrt(m) * np.linalg.qr(columns)[0][:, 1:].T


def noise(shape, seed=7):
    return np.random.default_rng(seed).standard_normal(shape)


def signs(A, center, sizes=1.0):
    """W (n, n) of the gradient 2 W Ã/(n²(m − 1)) for units in these sizes; they are independent."""
    _, gradient = check("mean_absolute_covariance", sizes * A, center)
    _, centred = naive.unit_covariance(A, center)
    n, m = A.shape
    W = np.linalg.lstsq(centred.T, n**2 * (m - 1) / 2 * gradient.T, rcond=None)[0].T / np.transpose(sizes)
    assert np.abs(W - np.round(W)).max() < 0.01
    return np.round(W)


# --- signs of covariances


@pytest.mark.covering(2)
@pytest.mark.parametrize("size", [1e-3, 1e-5, 1e-7, 1e-8, 1e-9, 1e-10])
@pytest.mark.parametrize("shape", [(24, 64), (61, 173), (130, 257)], ids=str)
def test_the_sign_of_a_small_covariance_is_right_as_long_as_float64_knows_it(shape, size, center):
    A = orthogonal(*shape) + size * noise(shape)
    sizes = 2.0 ** np.random.default_rng(8).integers(-8, 9, (shape[0], 1))
    C, centred = naive.unit_covariance(A, center, np.longdouble)
    known = np.abs(C) > rounding(A) * np.abs(centred) @ np.abs(centred).T / (shape[1] - 1)
    assert known.mean() > 0.95
    for scale in (1.0, sizes):
        np.testing.assert_array_equal(signs(A, center, scale)[known], np.sign(C)[known])


@pytest.mark.parametrize("m", [16, 64])
def test_units_that_are_uncorrelated_get_nothing_but_their_own_share(m, dtype, center):
    # Rows of a Hadamard matrix, in sizes of powers of two: every covariance of two is exactly zero.
    sizes = 2.0 ** np.random.default_rng(9).integers(-3, 4, (m - 1, 1))
    A = (sizes * scipy.linalg.hadamard(m)[1:]).astype(dtype)
    n = len(A)
    value, gradient = check("mean_absolute_covariance", A, center, exact=True)
    within(value, m / (m - 1) * np.sum(sizes**2) / n**2, rounding(A, np.float64) * np.sum(sizes**2))
    np.testing.assert_allclose(gradient, 2 / (n**2 * (m - 1)) * A, rtol=4 * np.finfo(dtype).eps, atol=0)
    for name in ("decov", "vicreg_covariance"):
        value, gradient = getattr(penalties, name)(A, center=center)
        assert value <= (rounding(A) * np.sum(sizes**2)) ** 2
        within(gradient, np.zeros_like(A), rounding(A) * np.sum(sizes**2) * np.abs(A))


@pytest.mark.parametrize(("n", "first"), [(37, 20), (521, 9)])
def test_units_that_never_respond_together_do_not_meet(n, first, dtype):
    A = data(n, 20, dtype)
    A[:first, 12:] = A[first:, :12] = 0
    _, gradient = check("mean_absolute_covariance", A, False, exact=True)
    assert not gradient[:first, 12:].any()
    assert not gradient[first:, :12].any()


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", [(1, 3), (37, 50), (50, 13)], ids=str)
@pytest.mark.parametrize("label", CALLS)
def test_dead_units_get_no_gradient_and_give_none(label, shape, dtype, center):
    name, options = CALLS[label]
    A, kwargs = data(*shape, dtype), options(shape[0])
    A[::3] = 0
    if "target" in kwargs:  # of which dead units want no covariance
        kwargs["target"][::3] = kwargs["target"][:, ::3] = 0
    _, gradient = check(name, A, center, exact=True, **kwargs)
    if name != "mean_covariance":  # which pushes all units alike
        assert not gradient[::3].any()


# Tenths are no binary fractions: their mean has an error, and differences from it need not be zero.
@pytest.mark.covering(2)
@pytest.mark.parametrize("m", [2, 3, 7, 50])
@pytest.mark.parametrize("constant", [0.1, -1 / 3, 1e6 + 0.1])
def test_units_that_are_constant_are_dead_once_centred(constant, m, dtype):
    A = data(9, m, dtype)
    alive = penalties.mean_absolute_covariance(A)
    A = np.concatenate([A, np.full((4, m), constant, dtype)])
    value, gradient = penalties.mean_absolute_covariance(A)
    assert not gradient[9:].any()
    within(value, (9 / 13) ** 2 * alive[0], rounding(A) * alive[0])
    within(gradient[:9], (9 / 13) ** 2 * alive[1], rounding(A) * np.abs(alive[1]).max())


def test_twins_and_their_mirror_images_have_equal_and_opposite_gradients(dtype, center):
    A = data(21, 30, dtype)
    A[7], A[14] = A[3], -A[3]
    _, gradient = check("mean_absolute_covariance", A, center)
    _, allowed = bounds("mean_absolute_covariance", A, center)
    within(gradient[7], gradient[3], 2 * allowed[3])
    within(gradient[14], -gradient[3], 2 * allowed[3])


@pytest.mark.covering(2)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 7, 47, 48, 49, 241])
def test_any_number_of_units_has_the_signs_of_its_covariances(n, dtype, center):
    for m in (2, 3, 5, 8, 17, 530):  # by signs, products of more than 512 samples are in two pieces
        check("mean_absolute_covariance", noise((n, m)).astype(dtype), center)


# --- smooth absolute values


def test_a_small_epsilon_changes_nothing_away_from_zero(dtype, center):
    A = data(20, 30, dtype)
    C, _ = naive.unit_covariance(A, center)
    epsilon = 1e-6 * np.abs(C).min()
    value, gradient = penalties.mean_absolute_covariance(A, center=center)
    smooth = penalties.mean_absolute_covariance(A, epsilon=epsilon, center=center)
    allowed = bounds("mean_absolute_covariance", A, center)
    within(smooth[0], value, epsilon + 2 * allowed[0])
    within(smooth[1], gradient, 2 * allowed[1] + 1e-12 * np.abs(gradient).max())


@pytest.mark.covering(2)
@pytest.mark.parametrize("epsilon", [1e-300, 1e-20, 1e-3, 1.0, 1e3, 1e20, 1e100])
def test_epsilons_of_any_size_are_their_definition(epsilon, dtype, center):
    for A in (data(20, 30, dtype), orthogonal(20, 30).astype(dtype), np.zeros((3, 4), dtype)):
        value, _ = check("mean_absolute_covariance", A, center, epsilon=epsilon)
        assert value >= epsilon * (1 - float(rounding(A)))


def test_a_large_epsilon_makes_it_the_mean_square(dtype, center):
    A = data(20, 30, dtype)
    epsilon = 2.0**40
    value, gradient = penalties.mean_absolute_covariance(A, epsilon=epsilon, center=center)
    _, slope = penalties.mean_squared_covariance(A, center=center)
    assert value == pytest.approx(epsilon, rel=1e-14)
    allowed = bounds("mean_squared_covariance", A, center)
    within(2 * epsilon * gradient.astype(np.float64), slope, 2 * allowed[1] + rounding(A) * np.abs(slope))


# --- differences of squares


@pytest.mark.covering(2)
@OFF_DIAGONAL
@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-5, 1e-7])
def test_what_is_left_of_nearly_uncorrelated_units_is_known(name, size, center):
    check(name, orthogonal(24, 64) + size * noise((24, 64)), center)


@pytest.mark.covering(2)
@OFF_DIAGONAL
@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-5, 1e-7])
def test_likewise_where_the_product_over_samples_is_the_smaller_one(name, size, center):
    A = np.zeros((90, 32))  # most units are dead
    A[::6] = orthogonal(15, 32) + size * noise((15, 32))
    check(name, A, center)


@pytest.mark.covering(2)
@OFF_DIAGONAL
@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (41, 40)], ids=str)
@pytest.mark.parametrize("size", [5.0, 20.0, 1e2, 1e4, 1e8])
def test_the_variance_of_one_large_unit_does_not_hide_covariances(name, shape, size, center):
    A = noise(shape)
    A[3] *= size
    check(name, A, center)


@pytest.mark.covering(2)
@pytest.mark.parametrize("coral", [False, True])
@pytest.mark.parametrize("shape", [(1, 9), (12, 40), (40, 12), (41, 40)], ids=str)
@pytest.mark.parametrize("size", [0.0, 1e-3, 1e-6])
def test_a_target_that_is_nearly_met_leaves_what_is_missed(size, shape, coral, dtype, center):
    A = data(*shape, dtype)
    C, _ = naive.unit_covariance(A, center)
    missed = size * a_target(shape[0])
    value, _ = check("covariance_distance", A, center, target=C + missed, coral=coral)
    if size == 0.0:
        assert value <= (rounding(A) * np.linalg.norm(A) ** 2) ** 2


# --- sizes


@pytest.mark.covering(2)
@calls
@pytest.mark.parametrize("power", [-200, -100, 100, 200])  # 1e±60 in float64
@pytest.mark.parametrize("shape", [(12, 40), (40, 12)], ids=str)
def test_large_and_small_activations_have_all_their_digits(name, options, shape, power, center):
    A, kwargs = data(*shape), options(shape[0])
    value, gradient = getattr(penalties, name)(A, center=center, **kwargs)
    for option in ("epsilon", "target"):
        if option in kwargs:
            kwargs[option] = np.ldexp(kwargs[option], 2 * power)
    scaled = getattr(penalties, name)(np.ldexp(A, power), center=center, **kwargs)
    assert scaled[0] == np.ldexp(value, degree(name) * power)
    np.testing.assert_array_equal(scaled[1], np.ldexp(gradient, (degree(name) - 1) * power))


@pytest.mark.covering(2)
@each
@pytest.mark.parametrize("power", [-500, 500])  # 1e±150
@pytest.mark.parametrize("shape", [(12, 40), (40, 12)], ids=str)
def test_values_beyond_float64_are_infinite_or_zero_and_others_are_right(name, shape, power, center):
    A = data(*shape)
    value, gradient = getattr(penalties, name)(A, center=center)
    scaled = getattr(penalties, name)(np.ldexp(A, power), center=center)
    with np.errstate(over="ignore"):
        assert scaled[0] == np.ldexp(value, degree(name) * power)
        np.testing.assert_array_equal(scaled[1], np.ldexp(gradient, (degree(name) - 1) * power))


@pytest.mark.covering(2)
@pytest.mark.parametrize("power", [-1070, -1030, -600, 1020])
@pytest.mark.parametrize("name", [*PENALTIES, "covariance_distance"])
def test_activations_at_the_ends_of_float64_are_taken(name, power, center):
    # Whole numbers keep their digits among subnormal ones.
    A, kwargs = np.round(4 * data(12, 9)), {"target": np.zeros((12, 12))} if name not in PENALTIES else {}
    expected = getattr(penalties, name)(A, center=center, **kwargs)
    value, gradient = getattr(penalties, name)(np.ldexp(A, power), center=center, **kwargs)
    with np.errstate(over="ignore", under="ignore"):
        assert value == np.ldexp(expected[0], degree(name) * power)
        scaled = np.ldexp(expected[1], (degree(name) - 1) * power)
    np.testing.assert_allclose(gradient, scaled, rtol=1e-12, atol=2.0**-1074)


def test_a_large_mean_costs_the_gradient_no_digits():
    A = noise((20, 300)) + 1e6
    exact = A.astype(np.longdouble)
    exact -= exact.mean(axis=1, keepdims=True)
    C = exact @ exact.T / 299
    np.fill_diagonal(C, 0.0)
    expected = 2.0 * C @ exact / 299
    # Each of Ã is good to rounding of its own: 300 terms of C and 20 of the product, at most.
    bound = (
        320 * np.finfo(float).eps * (2.0 * (np.abs(exact) @ np.abs(exact).T) @ np.abs(exact)).max() / 299**2
    )
    assert np.abs(penalties.decov(A)[1] - expected).max() <= bound
    assert bound < 1e-9 * np.abs(expected).max()  # a mean that is rounded would leave more


@pytest.mark.covering(2)
@each
@pytest.mark.parametrize("power", [-100, 100])  # 1e±30
@pytest.mark.parametrize("shape", [(12, 40), (40, 12)], ids=str)
def test_large_and_small_activations_of_single_precision_likewise(name, shape, power, center):
    A = data(*shape, np.float32)
    value, gradient = getattr(penalties, name)(A, center=center)
    scaled = getattr(penalties, name)(np.ldexp(A, power), center=center)
    assert scaled[0] == np.ldexp(value, degree(name) * power)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(scaled[1], np.ldexp(gradient, (degree(name) - 1) * power))


@pytest.mark.covering(2)
@calls
@pytest.mark.parametrize("shape", [(24, 40), (40, 24)], ids=str)
@pytest.mark.parametrize("power", [4, 20, 60])
def test_units_of_sizes_far_apart_have_gradients_of_their_own(name, options, shape, power, center):
    sizes = 10.0 ** np.random.default_rng(10).choice([-power, 0, power], (shape[0], 1))
    check(name, sizes * noise(shape), center, **options(shape[0]))


@pytest.mark.parametrize("power", [4, 20])
def test_sizes_far_apart_in_single_precision_likewise(power, center):
    sizes = 10.0 ** np.random.default_rng(10).choice([-power, 0, power], (40, 1))
    for name in ("mean_covariance", "mean_absolute_covariance"):  # others are beyond float32
        check(name, (sizes * noise((40, 24))).astype(np.float32), center)
