"""Bounds: the KKT conditions by the oracle, against SciPy, fixed channels, and pairs that are none."""

import naive
import numpy as np
import pytest
from cases import data, gradient_rounding, minimum, target, within
from hypothesis import given
from hypothesis import strategies as st

import fastcov as fc
from fastcov._model.bounds import Bounds

EPS = np.finfo(np.float64).eps
TOL = 1e-6
LOSSES = {
    "exact": (naive.loss, naive.loss_gradient),
    "linear": (naive.linear_loss, naive.linear_loss_gradient),
}

PAIRS = {
    "not-negative": (0, None),
    "above": (0.9, None),
    "below": (None, 1.05),
    "narrow": (0.95, 1.05),
    "a-tenth": (0.1, 1.1),  # 0.1 − 1 + 1 is below 0.1
    "above-one": (1.1, 2.0),
    "below-one": (-0.5, 0.7),
    "from-one": (1.0, np.inf),
    "wide": (-100, 100),
}


def sides(bounds, N):
    """Lower and upper as arrays."""
    lower, upper = bounds
    lower, upper = (-np.inf if lower is None else lower), (np.inf if upper is None else upper)
    return np.broadcast_to(lower, N).astype(float), np.broadcast_to(upper, N).astype(float)


def certify(X, S, fit, bounds, tol=TOL, center=True):
    """Within bounds, and the projected gradient, by the oracle, below tol of the gradient at one."""
    X, N, linear = np.asarray(X, np.float64), len(X), fit.method == "linear"
    lower, upper = sides(bounds, N)
    z, slope = fit.gains, LOSSES[fit.method][1]
    assert (z >= lower).all()
    assert (z <= upper).all()
    gradient = slope(X, S, z, fit.ridge, center, np.longdouble).astype(float)
    left = np.linalg.norm(naive.projected(gradient, z, lower, upper))
    at_one = np.linalg.norm(slope(X, S, np.ones(N), fit.ridge, center))
    noise = gradient_rounding(X, S, z, fit.ridge, center, linear=linear)
    assert noise < 0.1 * tol * at_one  # or nothing is tested
    assert left <= 1.001 * tol * at_one + noise
    assert abs(fit.residual * at_one - left) <= 1e-6 * left + noise
    assert fit.stats["at_bounds"] == np.sum((z <= lower) | (z >= upper))
    return gradient


@pytest.mark.covering(2)
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("relative", [1e-1, 1e-3])
@pytest.mark.parametrize("shape", [(2, 2), (12, 4), (40, 6)], ids=str)
@pytest.mark.parametrize("method", ["exact", "linear"])
def test_the_conditions_of_a_bounded_minimum_hold(method, shape, relative, pair, dtype, center):
    X, S, bounds = data(*shape, dtype), target(shape[1], size=shape[0]), PAIRS[pair]
    fit = fc.fit(X, S, relative_ridge=relative, method=method, bounds=bounds, center=center)
    assert fit.status == "converged"
    certify(X, S, fit, bounds, center=center)
    start = np.clip(np.ones(len(X)), *sides(bounds, len(X)))
    value = LOSSES[method][0]
    assert value(X, S, fit.gains, fit.ridge, center) <= value(X, S, start, fit.ridge, center) * (1 + 1e-12)


def test_bounds_are_active_and_free_in_the_cases_above():
    X, S = data(40, 6), target(6, size=40)
    counts = {
        pair: int(fc.fit(X, S, relative_ridge=1e-3, method="exact", bounds=PAIRS[pair]).stats["at_bounds"])
        for pair in PAIRS
    }
    assert counts["wide"] == 0
    assert all(0 < counts[pair] < 40 for pair in ("above", "below", "narrow", "a-tenth"))


@pytest.mark.parametrize("tol", [1e-3, 1e-9])
@pytest.mark.parametrize("method", ["exact", "linear"])
def test_a_tolerance_is_reached_within_bounds(method, tol):
    X, S = data(40, 6), target(6, size=40)
    fit = fc.fit(X, S, relative_ridge=1e-3, method=method, bounds=(0.7, 1.1), tol=tol)
    assert fit.status == "converged"
    certify(X, S, fit, (0.7, 1.1), tol)


@pytest.mark.parametrize("tol", [1e-13, 1e-16, 1e-300])
@pytest.mark.parametrize("method", ["exact", "linear"])
def test_a_tolerance_below_rounding_ends_within_bounds(method, tol, recwarn):
    X, S = data(40, 6), target(6, size=40)
    fit = fc.fit(X, S, relative_ridge=1e-2, method=method, bounds=(0.7, 1.1), tol=tol, max_iterations=300)
    assert fit.status in ("converged", "stagnated")
    recwarn.clear()
    certify(X, S, fit, (0.7, 1.1), 1e-10)


@pytest.mark.covering(2)
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("relative", [1e-1, 1e-2, 1e-3])
def test_the_linear_fit_within_bounds_is_the_one_solution(pair, relative, center):
    X, S, bounds = data(20, 5), target(5, size=20), PAIRS[pair]
    fit = fc.fit(X, S, relative_ridge=relative, bounds=bounds, center=center, tol=1e-9)
    other = minimum(X, S, fit.ridge, center, bounds=sides(bounds, 20), linear=True)
    # Strongly convex: ‖z − z*‖ ≤ 2 (‖p‖ + ‖p'‖) / λ for projected gradients p and p' (of the other,
    # by the oracle), wherever bounds are active.
    gradients = [naive.linear_loss_gradient(X, S, z, fit.ridge, center) for z in (fit.gains, other)]
    left = sum(
        np.linalg.norm(naive.projected(g, z, *sides(bounds, 20)))
        for g, z in zip(gradients, (fit.gains, other), strict=True)
    )
    bound = 2 * left / fit.ridge
    assert bound < 1e-3  # or nothing is tested
    within(fit.gains, other, np.full(20, bound))


@pytest.mark.covering(2)
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("relative", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("seed", range(2))
def test_the_exact_loss_within_bounds_is_that_of_another_minimiser_or_less(pair, relative, seed):
    sim = fc.datasets.simulate(30, 7, rng=seed)
    X, S, bounds = sim.X, sim.S, PAIRS[pair]
    fit = fc.fit(X, S, relative_ridge=relative, bounds=bounds, method="exact")
    certify(X, S, fit, bounds)
    other = minimum(X, S, fit.ridge, bounds=sides(bounds, 30))
    assert fit.loss <= naive.loss(X, S, other, fit.ridge) * (1 + 1e-3)


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_bounds_far_away_change_nothing(method, dtype, center):
    X, S = data(20, 5, dtype), target(5, size=20)
    free = fc.fit(X, S, relative_ridge=1e-2, method=method, center=center, tol=1e-10)
    fit = fc.fit(X, S, relative_ridge=1e-2, method=method, center=center, tol=1e-10, bounds=(-50, 50))
    for bounds in (None, (None, None), (-np.inf, np.inf)):
        again = fc.fit(X, S, relative_ridge=1e-2, method=method, center=center, tol=1e-10, bounds=bounds)
        scale = np.linalg.norm(naive.overlaps(X, S, None, center))
        X64, z = X.astype(float), free.gains
        H = (
            naive.hessian(X64, S, z, fit.ridge, center)
            if method == "exact"
            else naive.gram(X64, None, center) + fit.ridge * np.eye(20)
        )
        bound = 4e-10 * scale / np.linalg.eigvalsh(H)[0] + 1e-9  # of two gradients of tol
        assert bound < 1e-5
        within(again.gains, free.gains, bound)
        within(fit.gains, free.gains, bound)
    assert fit.stats["at_bounds"] == 0


@pytest.mark.parametrize("method", ["exact", "linear", "diagonal", "line-search"])
def test_no_gain_is_beyond_a_bound_by_a_rounding(method):
    # 1 + (0.1 − 1) is below 0.1, and so on: gains are not to be told by their distance from one.
    X, S = data(40, 6), target(6, size=40)
    values = [(0.1, None), (0.3, 0.6), (0.7, 1.1), (None, 0.1), (None, 1 / 3), (0.9, 1.1), (1e-9, 1e-3)]
    for bounds in values:
        lower, upper = sides(bounds, 40)
        if method == "line-search" and not (lower[0] <= 1 <= upper[0]):
            continue
        fit = fc.fit(X, S, relative_ridge=1e-3, method=method, bounds=bounds)
        assert (fit.gains >= lower).all(), bounds
        assert (fit.gains <= upper).all(), bounds
        if method == "exact":  # and a fit can be gone on with
            fc.fit(X, S, relative_ridge=1e-3, method=method, bounds=bounds, gains0=fit.gains)


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_bounds_of_each_channel(method, dtype):
    X, S = data(20, 5, dtype), target(5, size=20)
    rng = np.random.default_rng(4)
    lower, upper = 1 - 0.4 * rng.random(20), 1 + 0.4 * rng.random(20)
    lower[:3], upper[3:6] = -np.inf, np.inf
    lower[6], upper[7] = 1.02, 0.98  # that exclude one
    fit = fc.fit(X, S, relative_ridge=1e-3, method=method, bounds=(lower, upper))
    certify(X, S, fit, (lower, upper))
    for pair in ((lower.tolist(), upper.tolist()), (lower[::-1][::-1], np.asfortranarray(upper))):
        again = fc.fit(X, S, relative_ridge=1e-3, method=method, bounds=pair)
        np.testing.assert_array_equal(again.gains, fit.gains)
    mixed = fc.fit(X, S, relative_ridge=1e-3, method=method, bounds=(lower, 1.1 + np.zeros(20)))
    one = fc.fit(X, S, relative_ridge=1e-3, method=method, bounds=(lower, 1.1))
    np.testing.assert_array_equal(mixed.gains, one.gains)


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_channels_in_another_order_have_the_same_gains_within_bounds(method):
    X, S = data(20, 5), target(5, size=20)
    order, rng = np.random.default_rng(0).permutation(20), np.random.default_rng(4)
    lower, upper = 1 - 0.4 * rng.random(20), 1 + 0.4 * rng.random(20)
    one = fc.fit(X, S, relative_ridge=1e-2, method=method, bounds=(lower, upper), tol=1e-10)
    other = fc.fit(
        X[order], S, ridge=one.ridge, method=method, bounds=(lower[order], upper[order]), tol=1e-10
    )
    np.testing.assert_allclose(other.gains, one.gains[order], rtol=0, atol=1e-6)  # λ_max/λ tol, and some


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_fixed_channels_stay_and_the_others_are_at_their_minimum(method, center):
    X, S = data(20, 5), target(5, size=20)
    fixed = np.arange(20) % 3 == 0
    values = np.where(fixed, np.linspace(0.3, 1.7, 20), np.nan)
    lower, upper = np.where(fixed, values, -np.inf), np.where(fixed, values, np.inf)
    fit = fc.fit(X, S, relative_ridge=1e-2, method=method, bounds=(lower, upper), center=center)
    np.testing.assert_array_equal(fit.gains[fixed], values[fixed])
    gradient = certify(X, S, fit, (lower, upper), center=center)
    # of the free ones nothing is left, of the fixed ones much
    assert np.linalg.norm(gradient[~fixed]) < 1e-4 * np.linalg.norm(gradient[fixed])


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", ["exact", "linear", "diagonal"])
@pytest.mark.parametrize("value", [1.0, 0.1, 1 / 3, 0.0, -2.5, 7.7])
def test_all_channels_fixed_are_just_that(method, value, dtype):
    X, S = data(12, 4, dtype), target(4, size=12)
    fit = fc.fit(X, S, ridge=1.0, method=method, bounds=(value, value))
    np.testing.assert_array_equal(fit.gains, value)
    if method != "diagonal":
        assert fit.status == "converged"
        assert fit.residual == 0.0
        assert fit.stats["iterations"] == 0
    np.testing.assert_allclose(
        fit.loss, naive.loss(X, S, np.full(12, value), 1.0), rtol=1e-6 if dtype == "f" else 1e-9
    )


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_bounds_of_a_hair_leave_hardly_a_choice(method):
    X, S = data(12, 4), target(4, size=12)
    lower = 1 + 1e-12 * np.arange(12)
    upper = np.nextafter(lower, 2)
    fit = fc.fit(X, S, ridge=1.0, method=method, bounds=(lower, upper))
    assert ((fit.gains == lower) | (fit.gains == upper)).all()
    assert fit.status == "converged"


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_a_target_that_is_met_within_bounds_that_exclude_it(method):
    # The gradient at gains of one is zero, and cannot be a measure.
    X = data(20, 5)
    S = fc.covariance(X)
    fit = fc.fit(X, S, ridge=1.0, method=method, bounds=(1.1, 2.0))
    slope = LOSSES[method][1]
    left = naive.projected(slope(X, S, fit.gains, 1.0), fit.gains, np.full(20, 1.1), np.full(20, 2.0))
    start = slope(X, S, np.full(20, 1.1), 1.0)
    assert np.linalg.norm(left) <= TOL * np.linalg.norm(start)
    assert fit.status == "converged"


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_ridge_zero_within_bounds(method, center):
    X, S = data(20, 4), target(4, size=20)
    fit = fc.fit(X, S, ridge=0, method=method, bounds=(0.8, 1.2), center=center)
    assert fit.status == "converged"
    certify(X, S, fit, (0.8, 1.2), center=center)


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_a_stack_of_targets_within_bounds_is_fitted_one_by_one(method):
    X, S = data(20, 4), np.stack([target(4, seed, size=20) for seed in range(3)])
    stack = fc.fit(X, S, ridge=100.0, method=method, bounds=(0.9, 1.1))
    assert stack.stats["at_bounds"].shape == (3,)
    for t, s in enumerate(S):
        one = fc.fit(X, s, ridge=100.0, method=method, bounds=(0.9, 1.1))
        np.testing.assert_array_equal(one.gains, stack.gains[t])
        assert one.stats["at_bounds"] == stack.stats["at_bounds"][t]
        assert isinstance(int(one.stats["at_bounds"]), int)


def test_the_diagonal_fit_is_clipped(center):
    X, S = data(20, 4), target(4, size=20)
    free = fc.fit(X, S, ridge=10.0, method="diagonal", center=center)
    fit = fc.fit(X, S, ridge=10.0, method="diagonal", center=center, bounds=(0.95, 1.02))
    np.testing.assert_allclose(fit.gains, np.clip(free.gains, 0.95, 1.02), rtol=4 * EPS)
    assert fit.status == "approximate"


def test_a_start_anywhere_within_bounds_leads_to_a_minimum():
    X, S = data(20, 5), target(5, size=20)
    for start in (0.0, 0.5, 2.0, np.linspace(0, 2, 20)):
        fit = fc.fit(
            X, S, relative_ridge=1e-2, method="exact", bounds=(0, 2), gains0=np.broadcast_to(start, 20)
        )
        assert fit.status == "converged"
        certify(X, S, fit, (0, 2))


def test_a_printed_fit_says_how_many_gains_are_at_a_bound():
    fit = fc.fit(data(20, 4), target(4, size=20), ridge=1.0, method="exact", bounds=(0.9, 1.1))
    assert f"{fit.stats['at_bounds']} of 20 gains at a bound" in repr(fit)


@given(
    st.integers(2, 12), st.integers(1, 4), st.integers(0, 10**6), st.sampled_from(["exact", "linear"]),
    st.sampled_from([0.0, 1.0, 100.0]), st.booleans(),
)  # fmt: skip
def test_any_bounds_are_kept_and_their_conditions_hold(N, D, seed, method, ridge, center):
    rng = np.random.default_rng(seed)
    X, root = rng.standard_normal((N, D)), rng.standard_normal((D + 1, D))
    ends = np.sort(1 + rng.standard_normal((2, N)), axis=0)
    kinds = rng.integers(0, 5, N)
    ends[0, kinds == 0], ends[1, kinds == 1] = -np.inf, np.inf
    ends[1, kinds == 2] = ends[0, kinds == 2]
    S = rng.choice([0.1, 1.0, 10.0]) * root.T @ root
    S = (S + S.T) / 2
    fit = fc.fit(X, S, ridge=ridge, method=method, bounds=tuple(ends), center=center)
    assert fit.status == "converged"
    z = fit.gains
    assert (z >= ends[0]).all()
    assert (z <= ends[1]).all()
    gradient = LOSSES[method][1](X, S, z, ridge, center)
    left = np.linalg.norm(naive.projected(gradient, z, *ends))
    at_one = np.linalg.norm(LOSSES[method][1](X, S, np.ones(N), ridge, center))
    noise = gradient_rounding(X, S, z, ridge, center, linear=method == "linear")
    assert left <= 1.001 * TOL * at_one + noise


# --- what is no pair of bounds


@pytest.mark.covering(1)
@pytest.mark.parametrize(
    ("bounds", "error", "match"),
    [
        (5, ValueError, "a pair"),
        ((0,), ValueError, "a pair"),
        ((0, 1, 2), ValueError, "a pair"),
        ("abc", ValueError, "a pair"),
        ({}, ValueError, "a pair"),
        (np.ones((3, 6)), ValueError, "a pair"),
        ((2, 1), ValueError, "lower <= upper, not 2 > 1 at channel 0"),
        ((0, [1, 1, 1, -1, 1, 1]), ValueError, "lower <= upper, not 0 > -1 at channel 3"),
        ((np.nan, 1), ValueError, "NaN, as the lower bound of channel 0"),
        ((0, [1, 1, np.nan, 1, 1, 1]), ValueError, "NaN, as the upper bound of channel 2"),
        ((np.ones(5), 2), ValueError, "each of the 6 channels, not 5"),
        ((0, np.ones(7)), ValueError, "each of the 6 channels, not 7"),
        ((0, np.ones((6, 1))), ValueError, "1 axis"),
        ((0, []), ValueError, "empty"),
        ((np.inf, None), ValueError, "a finite gain"),
        ((None, -np.inf), ValueError, "a finite gain"),
        ((np.inf, np.inf), ValueError, "a finite gain"),
        (("0", "1"), TypeError, "real numbers"),
        (("a", None), TypeError, "real numbers"),
        ((0, 1j), TypeError, "real numbers"),
        ((0, np.ones(6, complex)), TypeError, "real numbers"),
        ((..., 1), TypeError, "real numbers"),
        (([0, None, 0, 0, 0, 0], 2), TypeError, "real numbers"),
        ((np.ma.masked_array(np.zeros(6), mask=True), 2), TypeError, "mask"),
        (([[0.0], [0.0, 1.0]], 2), ValueError, ""),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["exact", "linear", "diagonal", "line-search"])
def test_what_is_no_pair_of_bounds_is_refused(method, bounds, error, match):
    with pytest.raises(error, match=f"^Argument 'bounds' must .*{match}"):
        fc.fit(data(6, 3), target(3), ridge=1.0, method=method, bounds=bounds)


@pytest.mark.parametrize("call", ["path", "cv"])
def test_bounds_are_checked_by_paths_and_cross_validation_too(call):
    function, other = (fc.ridge_path, target(8)) if call == "path" else (fc.cross_validate, data(9, 8))
    with pytest.raises(ValueError, match=r"^Argument 'bounds' must have lower <= upper"):
        function(data(6, 8), other, bounds=(2, 1))


@pytest.mark.parametrize("start", [np.full(6, 3.0), np.r_[np.ones(5), -0.1], np.full((1, 6), 1.2)], ids=str)
def test_a_start_outside_the_bounds_is_refused(start):
    with pytest.raises(ValueError, match=r"^Argument 'gains0' must lie within the bounds, not at .* channel"):
        fc.fit(data(6, 3), target(3), ridge=1.0, method="exact", bounds=(0, 1.1), gains0=start)


# --- the pieces


def test_longest_reaches_the_first_bound():
    bounds = Bounds.of(([0, -np.inf, 0, 1], [2, 2, np.inf, 1]), 4)
    z = np.ones(4)
    assert bounds.longest(z, np.array([1.0, 0.5, 1.0, 0.0])) == 1.0
    assert bounds.longest(z, np.array([-4.0, -1.0, 1.0, 0.0])) == 0.25
    assert bounds.longest(z, np.array([0.0, -1.0, 1.0, 0.0])) == np.inf
    assert bounds.longest(z, np.array([0.0, 0.0, 0.0, 1.0])) == 0.0


def test_held_are_those_that_downhill_would_take_beyond():
    bounds = Bounds.of((0, 2), 6)
    z = np.array([0.0, 0.0, 2.0, 2.0, 1.0, 0.0])
    gradient = np.array([1.0, -1.0, 1.0, -1.0, 1.0, 0.0])
    np.testing.assert_array_equal(bounds.active(z, gradient), [True, False, False, True, False, False])
    near = np.array([0.01, 0.2, 1.0, 1.99, 1.0, 1.0])
    np.testing.assert_array_equal(
        bounds.active(near, gradient, 0.1), [True, False, False, True, False, False]
    )
    assert Bounds.of((1, 1), 2).active(np.ones(2), np.array([-1.0, 0.0])).all()


@pytest.mark.parametrize("method", ["exact", "linear"])
@pytest.mark.parametrize("box", [(0.9995, 1.0005), (1, 1.0008), (0.9, 1.0001)])
@pytest.mark.parametrize("relative_ridge", [0.1, 10, 100])
def test_bounds_that_are_near_everywhere_still_converge(method, box, relative_ridge):
    sim = fc.datasets.simulate(60, 12, rng=0)
    fit = fc.fit(sim.X, sim.S, relative_ridge=relative_ridge, bounds=box, method=method)
    assert fit.status == "converged"
    assert fit.residual <= 1.001e-6
