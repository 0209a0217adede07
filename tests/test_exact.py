"""The exact fit and the line search: minima by their gradient, against SciPy, and what leaves them."""

import h5py
import naive
import numba
import numpy as np
import pytest
from cases import (
    LAYOUTS,
    absolute_error,
    data,
    gradient_rounding,
    minimum,
    parallel_dtypes,
    random_gains,
    rounding,
    slow_but,
    target,
    within,
)
from hypothesis import given
from hypothesis import strategies as st

import fastcov as fc

EPS = np.finfo(np.float64).eps
TOL = 1e-6
FINE = ("converged", "stagnated")


def exact(X, S, **options):
    return fc.fit(X, S, method="exact", **options)


def certify(X, S, fit, tol=TOL, center=True):
    """The gradient, by the oracle in long double, is below tol of that at gains of one, or is rounding."""
    X = np.asarray(X, np.float64)
    gradient, at_one = (
        np.linalg.norm(naive.loss_gradient(X, S, z, fit.ridge, center, np.longdouble).astype(float))
        for z in (fit.gains, np.ones(len(X)))
    )
    noise = gradient_rounding(X, S, fit.gains, fit.ridge, center)
    assert gradient <= 1.001 * tol * at_one + noise
    assert abs(fit.residual * at_one - gradient) <= 1e-6 * gradient + noise


def near(X, S, fit, tol, center=True):
    """How far two fits may lie apart that both have gradients of tol: 2 tol ‖∇L(1)‖ / λ_min(H)."""
    X = np.asarray(X, np.float64)
    at_one = np.linalg.norm(naive.loss_gradient(X, S, np.ones(len(X)), fit.ridge, center))
    curvature = np.linalg.eigvalsh(naive.hessian(X, S, fit.gains, fit.ridge, center))[0]
    assert curvature > 0
    bound = 3 * (tol * at_one + gradient_rounding(X, S, fit.gains, fit.ridge, center)) / curvature
    assert bound < 1e-2  # or nothing is tested
    return bound


def top(X, center=True):
    return np.linalg.norm(naive.atoms(X, None, center), 2) ** 2


# --- a minimum


@pytest.mark.covering(2)
@pytest.mark.parametrize("relative", [1.0, 1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (2, 2), (5, 7), (12, 4), (33, 3), (65, 6)], ids=str)
def test_the_gradient_vanishes_at_an_exact_fit(shape, relative, dtype, center):
    X, S = data(*shape, dtype), target(shape[1], size=shape[0])
    ridge = relative * (top(X, center) or 1.0)
    fit = exact(X, S, ridge=ridge, center=center)
    assert fit.status == "converged"
    assert fit.method == "exact"
    if shape[0] == 1 and center:  # it is its own mean
        np.testing.assert_array_equal(fit.gains, 1.0)
        return
    certify(X, S, fit, center=center)
    assert fit.loss <= fit.loss_at_one
    # And it is a minimum, not a saddle: what is negative in the Hessian is what the gradient left.
    H = np.linalg.eigvalsh(naive.hessian(X, S, fit.gains, ridge, center))
    assert H[0] >= -1e-4 * H[-1]


@pytest.mark.covering(2)
@pytest.mark.parametrize("relative", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_that_of_another_minimiser_or_less(seed, relative, center):
    sim = fc.datasets.simulate(40, 8, rng=seed)
    S = fc.target_covariance(sim.Y, like=sim.X, center=center)
    fit = exact(sim.X, S, relative_ridge=relative, center=center)
    certify(sim.X, S, fit, center=center)
    other = minimum(sim.X, S, fit.ridge, center)
    reference = naive.loss(sim.X, S, other, fit.ridge, center)
    assert reference < fit.loss_at_one
    assert fit.loss <= reference * (1 + 1e-3)


def test_the_exact_fit_recovers_gains_that_made_the_target():
    X = data(12, 8)
    z = np.exp(0.3 * np.random.default_rng(3).standard_normal(12))
    fit = exact(X, naive.covariance(X, z), ridge=0.0, tol=1e-12)
    np.testing.assert_allclose(fit.gains, z, rtol=1e-6)  # the condition of G squared, times tol
    assert fit.r2 > 1 - 1e-10


@pytest.mark.parametrize("relative", [1e-3, 1e-1])
def test_a_float32_input_has_the_fit_of_its_values_in_float64(relative):
    X, S = data(40, 6, np.float32), target(6, size=40)
    ridge = relative * top(X.astype(float))
    one, other = exact(X, S, ridge=ridge, tol=1e-9), exact(X.astype(float), S, ridge=ridge, tol=1e-9)
    certify(X, S, one, 1e-9)
    within(one.gains, other.gains, near(X, S, other, 1e-9))


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-8, 1e-10])
def test_a_tolerance_is_reached(tol):
    X, S = data(30, 6), target(6, size=30)
    fit = exact(X, S, relative_ridge=1e-3, tol=tol)
    assert fit.status == "converged"
    assert fit.residual <= 1.001 * tol
    certify(X, S, fit, tol)


@pytest.mark.covering(2)
@pytest.mark.parametrize("tol", [1e-13, 1e-14, 1e-16, 1e-300])
@pytest.mark.parametrize("relative", [1.0, 1e-3, 0.0])
def test_a_tolerance_below_rounding_ends(tol, relative, dtype, recwarn):
    X, S = data(30, 6, dtype), target(6, size=30)
    fit = exact(X, S, relative_ridge=relative, tol=tol, max_iterations=200)
    assert fit.status in FINE
    assert (fit.status == "stagnated") == (len(recwarn) == 1)
    recwarn.clear()
    assert fit.stats["iterations"] < 100
    certify(X, S, fit, 1e-12)


def test_what_is_asked_for_in_vain_is_said_in_a_warning():
    X, S = data(30, 6), target(6, size=30)
    with pytest.warns(fc.ConvergenceWarning, match=r"gradient of .* of that at gains of one, when") as caught:
        fit = exact(X, S, relative_ridge=1e-3, max_iterations=1)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # it points at the caller
    assert fit.status == "max-iterations"
    assert fit.stats["iterations"] == 1
    assert fit.residual > TOL
    assert "max-iterations" in repr(fit)
    certify(X, S, fit, fit.residual)


# --- what must not change the answer


def test_channels_in_another_order_have_the_same_gains(center):
    X, S = data(30, 6), target(6, size=30)
    order = np.random.default_rng(0).permutation(30)
    ridge = 1e-2 * top(X, center)
    one = exact(X, S, ridge=ridge, tol=1e-10, center=center)
    other = exact(X[order], S, ridge=ridge, tol=1e-10, center=center)
    within(other.gains, one.gains[order], near(X, S, one, 1e-10, center))


def test_conditions_in_another_order_leave_the_gains():
    X, S = data(30, 6), target(6, size=30)
    order = np.random.default_rng(0).permutation(6)
    ridge = 1e-2 * top(X)
    one = exact(X, S, ridge=ridge, tol=1e-10)
    other = exact(X[:, order], S[np.ix_(order, order)], ridge=ridge, tol=1e-10)
    within(other.gains, one.gains, near(X, S, one, 1e-10))


@pytest.mark.parametrize("exponent", [-200, -100, -30, -7, 7, 30, 100, 200])
@pytest.mark.parametrize("method", ["exact", "line-search"])
def test_units_that_are_a_power_of_two_leave_the_gains_to_rounding(method, exponent):
    X, S = data(30, 6), target(6, size=30)
    one = fc.fit(X, S, ridge=30.0, method=method)
    other = fc.fit(
        np.ldexp(X, exponent), np.ldexp(S, 2 * exponent), ridge=np.ldexp(30.0, 4 * exponent), method=method
    )
    # The same steps, which may differ in how sums are rounded: a rounding at each, grown by the condition.
    H = np.linalg.cond(naive.hessian(X, S, one.gains, 30.0))
    np.testing.assert_allclose(other.gains, one.gains, rtol=0, atol=100 * EPS * H)
    assert other.stats.get("iterations") == one.stats.get("iterations")
    np.testing.assert_allclose(np.ldexp(other.loss, -4 * exponent), one.loss, rtol=1e-12)


@pytest.mark.parametrize("size", [1e-60, 1e-30, 1e-3, 1e30, 1e60])
def test_any_units_leave_the_gains(size):
    X, S = data(30, 6), target(6, size=30)
    one = exact(X, S, ridge=30.0, tol=1e-10)
    other = exact(size * X, size**2 * S, ridge=30.0 * size**4, tol=1e-10)
    within(other.gains, one.gains, near(X, S, one, 1e-10))
    assert other.status == "converged"


@pytest.mark.parametrize("exponent", [-100, 100])
def test_float32_of_any_units_leaves_the_gains(exponent):
    X, S = data(30, 6, np.float32), target(6, size=30)
    one = exact(X, S, ridge=30.0, tol=1e-10)
    scaled = np.ldexp(X, exponent)
    assert scaled.dtype == np.float32
    other = exact(scaled, np.ldexp(S, 2 * exponent), ridge=np.ldexp(30.0, 4 * exponent), tol=1e-10)
    within(other.gains, one.gains, near(X, S, one, 1e-10))


@pytest.mark.covering(2)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", ["exact", "line-search"])
def test_memory_layout_leaves_the_gains(layout, method, dtype, tmp_path):
    X, S = LAYOUTS[layout](data(20, 4, dtype), tmp_path), target(4, size=20)
    plain = np.array(X, np.float64 if layout == "list" else dtype)
    ridge = 0.03 * top(plain.astype(float)) or 1.0
    expected = fc.fit(plain, S, ridge=ridge, method=method, tol=1e-10)
    found = fc.fit(X, LAYOUTS["Fortran"](S, None), ridge=ridge, method=method, tol=1e-10)
    if method == "exact":
        certify(plain, S, found, 1e-10)
    within(found.gains, expected.gains, near(plain, S, exact(plain, S, ridge=ridge), 1e-10))


@pytest.mark.covering(2)
@pytest.mark.parametrize("rows", slow_but({7, 20}, [1, 7, 20]))
@pytest.mark.parametrize("method", ["exact", "line-search"])
def test_rows_of_a_file_give_the_same_answer(rows, method, dtype, tmp_path, set_block_rows, monkeypatch):
    X, S = data(20, 4, dtype), target(4, size=20)
    ridge = 0.03 * top(X.astype(float))
    expected = fc.fit(X, S, ridge=ridge, method=method, tol=1e-9)
    set_block_rows(rows, 4)
    monkeypatch.setattr("fastcov._rows.stored.CHUNK_BYTES", rows * 4 * X.itemsize)
    monkeypatch.setattr("fastcov._model.problem.STREAMED_FLOPS", 1)
    monkeypatch.setattr("fastcov._exact_loss.objective.COMPILED", 0)
    with h5py.File(tmp_path / "X.h5", "w") as file:
        file["X"] = X
        found = fc.fit(file["X"], S, ridge=ridge, method=method, tol=1e-9)
        bounded = fc.fit(file["X"], S, ridge=ridge, method="exact", bounds=(0.9, 1.05), tol=1e-9)
    bound = near(X, S, exact(X, S, ridge=ridge), 1e-9)
    within(found.gains, expected.gains, bound)
    again = fc.fit(X, S, ridge=ridge, method=method, tol=1e-9)  # of memory, by blocks
    within(again.gains, expected.gains, bound)
    in_memory = exact(X, S, ridge=ridge, bounds=(0.9, 1.05), tol=1e-9)
    within(bounded.gains, in_memory.gains, 10 * bound)  # fewer free channels, no less curvature: λ in each


@pytest.mark.parametrize("method", ["exact", "line-search"])
def test_the_same_call_gives_the_same_bits(method, dtype):
    X, S = data(257, 4, dtype), target(4, size=257)
    one, other = (fc.fit(X, S, relative_ridge=1e-3, method=method) for _ in range(2))
    np.testing.assert_array_equal(one.gains, other.gains)
    assert (one.loss, one.residual) == (other.loss, other.residual)
    np.testing.assert_array_equal(one.covariance(), other.covariance())


@parallel_dtypes
@pytest.mark.parametrize("method", ["exact", "line-search"])
def test_parallel_kernels_give_the_same_answer(method, dtype, parallel):
    X, S = data(300, 4, dtype), target(4, size=300)
    ridge = 1e-2 * top(X.astype(float))
    one = fc.fit(X, S, ridge=ridge, method=method, tol=1e-9)
    with fc.threads(1):
        other = fc.fit(X, S, ridge=ridge, method=method, tol=1e-9)
    within(other.gains, one.gains, near(X, S, exact(X, S, ridge=ridge), 1e-9))


@pytest.mark.covering(2)
@pytest.mark.parametrize("options", [{}, {"bounds": (0.9, 1.1)}, {"gains0": np.full(200, -0.1)}], ids=str)
@pytest.mark.parametrize("N", [1, 20, 200])
def test_steps_that_are_one_call_are_those_by_passes(N, options, dtype, center, monkeypatch):
    X, S = data(N, 4, dtype), target(4, size=N)
    options = {name: value[:N] if name == "gains0" else value for name, value in options.items()}
    ridge = 1e-2 * (top(X.astype(float), center) or 1.0)
    one = exact(X, S, ridge=ridge, center=center, tol=1e-9, **options)
    monkeypatch.setattr("fastcov._exact_loss.objective.COMPILED", 0)
    other = exact(X, S, ridge=ridge, center=center, tol=1e-9, **options)
    assert abs(one.stats["iterations"] - other.stats["iterations"]) <= 2
    bound = 0.0 if N == 1 and center else near(X, S, exact(X, S, ridge=ridge, center=center), 1e-9, center)
    if "gains0" not in options:  # which may lead elsewhere
        within(one.gains, other.gains, 10 * bound + 4 * EPS)
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-9)


@pytest.mark.parametrize("method", ["exact", "line-search"])
def test_a_stack_of_targets_is_fitted_one_by_one(method, dtype):
    X, S = data(20, 4, dtype), np.stack([target(4, seed, size=20) for seed in range(3)])
    stack = fc.fit(X, S, ridge=100.0, method=method)
    assert stack.gains.shape == (3, 20)
    for t, s in enumerate(S):
        one = fc.fit(X, s, ridge=100.0, method=method)
        if method == "exact":
            np.testing.assert_array_equal(stack.gains[t], one.gains)
            certify(X, s, one)
        else:
            np.testing.assert_allclose(stack.gains[t], one.gains, rtol=1e-9)
            np.testing.assert_allclose(stack.stats["step"][t], one.stats["step"], rtol=1e-9)
        np.testing.assert_allclose(stack.loss[t], one.loss, rtol=1e-12)
        np.testing.assert_allclose(stack.residual[t], one.residual, rtol=1e-3, atol=1e-12)
    assert fc.fit(X, S[:1], ridge=100.0, method=method).gains.shape == (1, 20)


def test_a_stack_on_all_cores_is_one_on_one_core_and_tells_how_many_are_done():
    X, S, seen = data(20, 4), np.stack([target(4, seed, size=20) for seed in range(40)]), []
    many = exact(X, S, ridge=10.0, callback=seen.append)
    with fc.threads(1):
        one = exact(X, S, ridge=10.0)
    np.testing.assert_array_equal(many.gains, one.gains)
    np.testing.assert_array_equal(
        many.single_gain_losses().coefficients, one.single_gain_losses().coefficients
    )
    if numba.get_num_threads() > 1:
        shares = [p.done for p in seen if p.stage == "targets"]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_a_callback_raises_ends_a_stack_on_all_cores(error):
    def watch(progress):
        if progress.stage in ("targets", "iteration"):
            raise error

    X, S = data(20, 4), np.stack([target(4, seed, size=20) for seed in range(40)])
    with pytest.raises(error):
        exact(X, S, ridge=10.0, callback=watch)
    assert exact(X, S, ridge=10.0).status == "converged"


def test_a_stack_takes_a_start_for_each_target():
    X, S = data(20, 4), np.stack([target(4, seed, size=20) for seed in range(3)])
    minima = exact(X, S, ridge=100.0)
    again = exact(X, S, ridge=100.0, gains0=minima.gains)
    assert again.stats["iterations"] <= 3
    one = exact(X, S[1], ridge=100.0, gains0=minima.gains[1])
    np.testing.assert_array_equal(one.gains, again.gains[1])


@pytest.mark.parametrize("method", ["exact", "line-search"])
def test_what_the_caller_holds_is_never_changed(method, dtype):
    X, S, z = data(20, 4, dtype), target(4, size=20), np.full(20, 0.9)
    lower, upper = np.full(20, 0.5), np.full(20, 1.5)
    kept = [a.copy() for a in (X, S, z, lower, upper)]
    start = {"gains0": z} if method == "exact" else {}
    fc.fit(X, S, ridge=1.0, method=method, bounds=(lower, upper), **start)
    fc.fit(X, S, ridge=1.0, method=method, **start)
    for before, now in zip(kept, (X, S, z, lower, upper), strict=True):
        np.testing.assert_array_equal(before, now)
    for array in (X, S, z, lower, upper):
        array.flags.writeable = False
    fc.fit(X, S, ridge=1.0, method=method, bounds=(lower, upper), **start)


# --- degenerate channels, targets and ridges


@pytest.mark.covering(2)
@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1e3])
@pytest.mark.parametrize(
    "options",
    [{}, {"gains0": 3.0}, {"gains0": -2.0}, {"n_starts": 3}, {"bounds": (0, None)}, {"bounds": (0.5, 1.2)}],
    ids=str,
)
def test_the_gain_of_a_dead_channel_is_exactly_one(options, ridge, dtype, center):
    X, S = data(20, 4, dtype), target(4, size=20)
    dead = [0, 5, 19]
    X[dead] = 0.0
    options = {name: np.full(20, value) if name == "gains0" else value for name, value in options.items()}
    fit = exact(X, S, ridge=ridge, center=center, **options)
    np.testing.assert_array_equal(fit.gains[dead], 1.0)
    assert np.isfinite(fit.gains).all()


@pytest.mark.covering(2)
@pytest.mark.parametrize("ridge", [0.0, 1.0])
@pytest.mark.parametrize("method", ["exact", "linear", "diagonal"])
@pytest.mark.parametrize(("bounds", "nearest"), [((1.5, 3), 1.5), ((-1, 0.25), 0.25), ((None, 0.5), 0.5)])
def test_the_gain_of_a_dead_channel_is_the_bound_nearest_to_one(method, ridge, bounds, nearest, dtype):
    X, S = data(20, 4, dtype), target(4, size=20)
    X[[0, 5, 19]] = 0.0
    fit = fc.fit(X, S, ridge=ridge, method=method, bounds=bounds)
    np.testing.assert_array_equal(fit.gains[[0, 5, 19]], nearest)


@pytest.mark.parametrize("relative", [1e-3, 0.1])
def test_duplicate_channels_have_equal_gains(relative, center):
    X, S = data(12, 6), target(6, size=12)
    X[7] = X[2]
    ridge = relative * top(X, center)
    fit = exact(X, S, ridge=ridge, center=center, tol=1e-10)
    # Exchanging the two gives as good a fit, and from gains of one the same.
    assert abs(fit.gains[7] - fit.gains[2]) <= near(X, S, fit, 1e-10, center)


@pytest.mark.parametrize("shape", [(40, 4), (10, 4), (6, 5), (3, 8)], ids=str)
def test_ridge_zero_is_fitted(shape, dtype, center):
    X, S = data(*shape, dtype), target(shape[1], size=shape[0])
    fit = exact(X, S, ridge=0, center=center)
    assert fit.status == "converged"
    certify(X, S, fit, center=center)
    assert fit.loss < fit.loss_at_one
    if shape == (40, 4) and center:  # ten pairs of conditions: the target can be reached
        assert fit.r2 > 1 - 1e-6


@pytest.mark.covering(2)
@pytest.mark.parametrize("ridge", [1e6, 1e10, 1e14, 1e18, 1e50, 1e300])
@pytest.mark.parametrize("options", [{}, {"bounds": (0, None)}, {"gains0": 100.0}], ids=str)
def test_a_ridge_above_everything_leaves_the_gains_at_one(ridge, options, dtype):
    X, S = data(20, 4, dtype), target(4, size=20)
    options = {name: np.full(20, value) if name == "gains0" else value for name, value in options.items()}
    fit = exact(X, S, ridge=ridge, **options)
    # ‖δ‖ ≤ 2‖∇L(1)‖/λ while curvature but the ridge is small, and gains of one have a rounding.
    gradient = np.linalg.norm(naive.loss_gradient(X.astype(float), S, np.ones(20)))
    np.testing.assert_allclose(fit.gains, 1.0, rtol=0, atol=2 * gradient / ridge + EPS)
    assert fit.status == "converged"
    np.testing.assert_allclose(fit.loss, fit.loss_at_one, rtol=2 * gradient**2 / ridge / fit.loss + 1e-12)


@pytest.mark.parametrize("ridge", [0.0, 1.0, 1e10])
@pytest.mark.parametrize("method", ["exact", "line-search"])
def test_a_target_that_is_met_leaves_gains_of_one(method, ridge, center):
    X = data(20, 4)
    fit = fc.fit(X, fc.covariance(X, center=center), ridge=ridge, method=method, center=center)
    np.testing.assert_array_equal(fit.gains, 1.0)
    assert fit.residual == 0.0
    assert fit.loss == 0.0
    assert fit.status in ("converged", "minimum-norm")


def test_a_target_that_is_met_is_found_again_from_elsewhere():
    X = data(20, 4)
    S = fc.covariance(X)
    fit = exact(X, S, ridge=1.0, gains0=np.full(20, 1.3))
    np.testing.assert_allclose(fit.gains, 1.0, rtol=0, atol=1e-9)
    assert fit.status == "converged"


@pytest.mark.parametrize("ridge", [0.0, 1.0, 100.0])
def test_a_target_of_zero_is_fitted(ridge, dtype):
    X, S = data(20, 4, dtype), np.zeros((4, 4))
    fit = exact(X, S, ridge=ridge)
    certify(X, S, fit)
    assert fit.loss < fit.loss_at_one
    if ridge == 0:
        assert fit.loss < 1e-6 * fit.loss_at_one
    assert not np.isfinite(fit.r2)


@pytest.mark.parametrize("factor", [1e-12, 1e-6, 1e6, 1e12])
@pytest.mark.parametrize("relative", [1e-3, 1e-1])
def test_a_target_of_another_scale_is_fitted(factor, relative, dtype):
    X, S = data(20, 4, dtype), factor * target(4, size=20)
    fit = exact(X, S, relative_ridge=relative)
    assert fit.status == "converged"
    # Gains of the root of the factor: rounding may be above what is left at gains of one.
    certify(X, S, fit)
    reference = naive.loss(X, S, minimum(X.astype(float), S, fit.ridge, start=fit.gains), fit.ridge)
    assert fit.loss <= (1 + 1e-6) * reference


@pytest.mark.parametrize("options", [{"ridge": 0}, {"ridge": 1.0}, {"relative_ridge": 0.1}], ids=str)
@pytest.mark.parametrize("method", ["exact", "line-search"])
def test_channels_that_are_all_alike_have_gains_of_one(method, options, dtype):
    X = np.tile(np.random.default_rng(0).random(6), (50, 1)).astype(dtype)
    fit = fc.fit(X, np.eye(6), method=method, **options)
    np.testing.assert_array_equal(fit.gains, 1.0)
    assert fit.status in ("converged", "minimum-norm")


def test_all_dead_channels_have_gains_of_one(dtype):
    for method in ("exact", "line-search"):
        for ridge in (0.0, 1.0):
            fit = fc.fit(np.zeros((4, 3), dtype), np.eye(3), ridge=ridge, method=method)
            np.testing.assert_array_equal(fit.gains, 1.0)
            assert fit.loss == fit.loss_at_one == 1.5


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_a_large_common_offset_costs_no_more_digits_than_the_input_has_lost(offset):
    X, S = data(20, 4) + offset, target(4, size=20)
    ridge = 1e-2 * top(X)
    fit = exact(X, S, ridge=ridge)
    gradient, at_one = (
        np.linalg.norm(naive.loss_gradient(X, S, z, ridge, dtype=np.longdouble).astype(float))
        for z in (fit.gains, np.ones(20))
    )
    assert gradient <= 1.001 * TOL * at_one + gradient_rounding(X, S, fit.gains, ridge)
    assert fit.status == "converged"
    assert fit.loss < fit.loss_at_one


# --- where it starts


@pytest.mark.parametrize("start", [0.0, 1e-3, 0.5, 10.0, 100.0, -1.0, -100.0, 1e4, 1e6, -1e8])
@pytest.mark.parametrize("relative", [1e-3, 0.1])
def test_a_start_far_away_leads_to_a_minimum(start, relative):
    X, S = data(30, 6), target(6, size=30)
    fit = exact(X, S, relative_ridge=relative, gains0=np.full(30, start))
    assert fit.status == "converged"
    certify(X, S, fit)
    H = np.linalg.eigvalsh(naive.hessian(X, S, fit.gains, fit.ridge))
    assert H[0] >= -1e-4 * H[-1]


def test_a_start_of_both_signs_leads_to_a_minimum(dtype, center):
    X, S = data(30, 6, dtype), target(6, size=30)
    fit = exact(X, S, relative_ridge=1e-2, gains0=random_gains(30), center=center)
    assert fit.status == "converged"
    certify(X, S, fit, center=center)


@pytest.mark.parametrize("start", [1e100, 1e200, 1e300, -1e150])
@pytest.mark.parametrize("bounds", [None, (None, None)])
def test_a_start_where_the_loss_is_infinite_is_refused(start, bounds):
    X, S = data(10, 4), target(4, size=10)
    with pytest.raises(ValueError, match=r"^Argument 'gains0' must "):
        exact(X, S, ridge=1.0, gains0=np.full(10, start), bounds=bounds)


def test_a_start_at_a_maximum_is_left_along_negative_curvature():
    # Near gains of zero, without a ridge: the gradient is small, the curvature negative, and the
    # minimum far away.
    X, S = data(30, 6), target(6, size=30)
    z = np.full(30, 1e-3)
    assert np.linalg.eigvalsh(naive.hessian(X, S, z))[0] < 0
    fit = exact(X, S, ridge=0.0, gains0=z)
    certify(X, S, fit)
    assert fit.loss < 0.5 * fit.loss_at_one


@pytest.mark.parametrize("relative", [1e-3, 1e-2, 1e-1])
def test_a_start_at_the_solution_takes_hardly_a_step(relative, dtype, center):
    X, S = data(30, 6, dtype), target(6, size=30)
    ridge = relative * top(X.astype(float), center)
    fit = exact(X, S, ridge=ridge, center=center)
    again = exact(X, S, ridge=ridge, center=center, gains0=fit.gains)
    assert again.stats["iterations"] <= 1
    assert again.status == "converged"
    within(again.gains, fit.gains, near(X, S, fit, TOL, center))


def test_several_starts_are_the_same_each_time_and_lead_no_higher():
    X, S = data(20, 5), 5 * target(5, size=20)
    one = exact(X, S, relative_ridge=1e-3)
    fits = [exact(X, S, relative_ridge=1e-3, n_starts=5, rng=rng) for rng in (3, 3, 4)]
    np.testing.assert_array_equal(fits[0].gains, fits[1].gains)
    np.testing.assert_array_equal(fits[0].stats["losses"], fits[1].stats["losses"])
    assert not np.array_equal(fits[0].stats["losses"], fits[2].stats["losses"])
    for fit in fits:
        losses = fit.stats["losses"]
        assert losses.shape == (5,)
        np.testing.assert_allclose(losses[0], one.loss, rtol=1e-10)  # the first is from gains of one
        np.testing.assert_allclose(losses.min(), fit.loss, rtol=1e-10)
        assert fit.loss <= one.loss
        certify(X, S, fit)
    assert "losses" not in one.stats
    generator = np.random.default_rng(3)
    np.testing.assert_array_equal(
        exact(X, S, relative_ridge=1e-3, n_starts=5, rng=generator).gains, fits[0].gains
    )


def test_several_starts_for_a_stack_in_other_units_have_losses_in_those():
    X, S = data(12, 4), np.stack([target(4, seed, size=12) for seed in range(2)])
    plain = exact(X, S, ridge=10.0, n_starts=3)
    scaled = exact(2.0**60 * X, 2.0**120 * S, ridge=10.0 * 2.0**240, n_starts=3)
    assert plain.stats["losses"].shape == (2, 3)
    np.testing.assert_allclose(plain.stats["losses"].min(axis=1), plain.loss, rtol=1e-10)
    np.testing.assert_allclose(scaled.stats["losses"] / 2.0**240, plain.stats["losses"], rtol=1e-6)


def test_starts_within_bounds_stay_there():
    X, S = data(12, 4), target(4, size=12)
    fit = exact(X, S, relative_ridge=1e-3, n_starts=4, bounds=(0.9, 1.1))
    assert fit.stats["losses"].shape == (4,)
    assert (fit.gains >= 0.9).all()
    assert (fit.gains <= 1.1).all()


# --- progress


def test_progress_goes_from_nothing_towards_all():
    seen = []
    X, S = data(30, 6), target(6, size=30)
    fit = exact(X, S, relative_ridge=1e-3, callback=seen.append)
    steps = [p for p in seen if p.stage == "iteration"]
    assert [p.iteration for p in steps] == list(range(fit.stats["iterations"]))
    assert steps[0].done == 0.0
    assert all(0.0 <= p.done <= 1.0 for p in seen)
    assert steps[-1].done > 0.3  # the last but one of some ten steps
    assert steps[0].residual == 1.0
    assert steps[-1].residual < 0.1


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("after", [0, 2])
def test_what_a_callback_raises_ends_the_fit(error, after):
    def watch(progress):
        if progress.iteration == after:
            raise error

    with pytest.raises(error):
        exact(data(30, 6), target(6, size=30), relative_ridge=1e-3, callback=watch)


# --- what comes with it


@pytest.mark.parametrize("method", ["exact", "line-search"])
def test_loss_r2_and_covariance_are_those_at_the_gains(method, dtype, center):
    X, S = data(20, 4, dtype), target(4, size=20)
    fit = fc.fit(X, S, ridge=30.0, method=method, center=center)
    z, C = fit.gains, naive.covariance(X, fit.gains, center)
    terms = absolute_error(X, S, z, center)
    bound = rounding(X, np.float64) * np.sum(terms**2)
    within(fit.loss, naive.loss(X, S, z, 30.0, center), bound + 8 * EPS * abs(fit.loss))
    within(fit.loss_at_one, naive.loss(X, S, np.ones(20), 0.0, center), bound)
    within(fit.covariance(), C, rounding(X, np.float64) * terms)
    within(fit.r2, 1 - np.sum((C - S) ** 2) / np.sum(S**2), 2 * bound / np.sum(S**2) + EPS)


def test_a_printed_exact_fit_has_its_gradient_and_no_advice_to_take_it():
    text = repr(exact(data(20, 4), target(4, size=20), ridge=30.0))
    assert "exact: converged" in text
    assert "of that at gains of one after" in text
    assert "overshoots" not in text
    assert all(len(line) <= 110 for line in text.splitlines())


@pytest.mark.parametrize("method", ["linear", "diagonal", "line-search"])
@pytest.mark.parametrize("options", [{"gains0": np.ones(6)}, {"n_starts": 2}], ids=["gains0", "n_starts"])
def test_a_start_for_a_method_that_has_none_is_refused(method, options):
    with pytest.raises(ValueError, match=r"^Argument 'method' must be 'exact' where gains0 or n_starts "):
        fc.fit(data(6, 3), target(3), ridge=1.0, method=method, **options)


@pytest.mark.parametrize(
    ("gains0", "error"),
    [
        (np.ones(5), ValueError),
        (np.ones((3, 6)), ValueError),  # three starts for one target
        (np.ones((1, 1, 6)), ValueError),
        (np.full(6, np.nan), ValueError),
        (np.full(6, np.inf), ValueError),
        (1.0, ValueError),
        ("ones", TypeError),
        (np.ones(6, complex), TypeError),
        (np.ma.masked_array(np.ones(6), mask=True), TypeError),
        ([[1.0], [1.0, 2.0]], ValueError),
    ],
    ids=str,
)
def test_a_start_of_the_wrong_form_is_refused(gains0, error):
    with pytest.raises(error, match=r"^Argument 'gains0' must "):
        exact(data(6, 3), target(3), ridge=1.0, gains0=gains0)


def test_a_start_for_another_number_of_targets_is_refused():
    S = np.stack([target(3, seed) for seed in range(3)])
    with pytest.raises(ValueError, match=r"^Argument 'gains0' must "):
        exact(data(6, 3), S, ridge=1.0, gains0=np.ones((2, 6)))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("n_starts", 0, ValueError),
        ("n_starts", 1.5, TypeError),
        ("n_starts", True, TypeError),
        ("tol", 0.0, ValueError),
        ("tol", 1.0, ValueError),
        ("tol", np.nan, ValueError),
        ("tol", "small", TypeError),
        ("max_iterations", 0, ValueError),
        ("max_iterations", 2.0, TypeError),
        ("rng", "x", TypeError),
        ("callback", 5, TypeError),
        ("memory_budget", -1, ValueError),
    ],
)
def test_other_options_of_the_wrong_form_are_refused(name, value, error):
    with pytest.raises(error, match=f"^Argument '{name}' must "):
        exact(data(6, 3), target(3), ridge=1.0, **{name: value})


def test_a_target_that_makes_the_loss_infinite_is_refused():
    with pytest.raises(ValueError, match=r"^Argument 'S' must be comparable .* overflow"):
        exact(data(6, 3), 1e200 * target(3), ridge=1.0)


@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
    st.floats(-8, 8),
    st.booleans(),
)
def test_small_problems_of_any_shape_and_scale_are_fitted(N, D, seed, ridge, scale, center):
    rng = np.random.default_rng(seed)
    X, root = rng.standard_normal((N, D)), rng.standard_normal((D, D))
    X[rng.random(N) < 0.2] = 0.0
    S = 10.0**scale * root @ root.T
    S = (S + S.T) / 2
    fit = exact(X, S, ridge=ridge, center=center)
    assert fit.status == "converged"
    assert np.isfinite(fit.gains).all()
    np.testing.assert_array_equal(fit.gains[~X.any(axis=1)], 1.0)
    assert fit.loss <= fit.loss_at_one * (1 + 1e-12)
    certify(X, S, fit, center=center)


# --- the line search


def along(X, S, delta, ridge, center=True):
    """The loss along a direction as a polynomial, from its values at five points."""
    t = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    losses = [naive.loss(X, S, 1 + s * delta, ridge, center, np.longdouble) for s in t]
    return np.poly1d(np.polyfit(t, np.array(losses, float), 4))


@pytest.mark.covering(2)
@pytest.mark.parametrize("relative", [1e-5, 1e-3, 1e-1, 10.0])
@pytest.mark.parametrize("shape", [(5, 7), (30, 5), (65, 3)], ids=str)
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_the_line_search_goes_where_the_loss_is_least(scale, shape, relative, dtype, center):
    X, S = data(*shape, dtype), scale * target(shape[1], size=shape[0])
    ridge = relative * top(X.astype(float), center)
    linear = fc.fit(X, S, ridge=ridge, center=center)
    fit = fc.fit(X, S, ridge=ridge, center=center, method="line-search")
    step = fit.stats["step"]
    assert step > 0
    np.testing.assert_allclose(fit.delta, step * linear.delta, rtol=1e-12)
    assert fit.status == linear.status
    np.testing.assert_allclose(fit.residual, linear.residual, rtol=1e-3, atol=1e-12)
    p = along(X.astype(float), S, linear.delta, ridge, center)
    roots = p.deriv().roots
    least = min(p(t.real) for t in roots if abs(t.imag) <= 1e-6 * abs(t) and t.real > 0)
    # To the rounding of the polynomial, which five values of the loss give.
    noise = 1e3 * EPS * np.abs(p.coeffs).max()
    assert abs(fit.loss - least) <= 1e-9 * least + noise
    assert fit.loss <= fit.loss_at_one + noise
    grid = np.linspace(0, 3 * max(step, 1.0), 301)
    assert fit.loss <= p(grid).min() + 1e-9 * fit.loss + noise


def test_the_line_search_makes_good_a_linear_fit_that_overshoots():
    X, S = data(30, 5), 30.0 * target(5, size=30)
    linear = fc.fit(X, S, relative_ridge=1e-4)
    assert linear.loss > linear.loss_at_one
    fit = fc.fit(X, S, relative_ridge=1e-4, method="line-search")
    assert fit.loss < fit.loss_at_one
    assert fit.stats["step"] < 1
    assert "overshoots" not in repr(fit)
    assert f"{fit.stats['step']:.4g} of the linear fit" in repr(fit)


@pytest.mark.parametrize("solver", ["auto", "cholesky", "dual", "spectral", "pcg"])
def test_the_line_search_takes_any_solver(solver):
    X, S = data(30, 5), target(5, size=30)
    fit = fc.fit(X, S, relative_ridge=0.01, method="line-search", solver=solver)
    assert fit.stats["solver"] == (solver if solver != "auto" else fit.stats["solver"])
    other = fc.fit(X, S, relative_ridge=0.01, method="line-search", solver="cholesky")
    np.testing.assert_allclose(fit.loss, other.loss, rtol=1e-7)


def test_the_line_search_keeps_within_bounds():
    X, S = data(30, 5), 3.0 * target(5, size=30)
    for bounds in ((0.9, 1.1), (None, 1.05), (1.0, None), (np.full(30, 1.0), np.full(30, 1.0))):
        fit = fc.fit(X, S, relative_ridge=0.01, method="line-search", bounds=bounds)
        lower, upper = (
            (-np.inf if bounds[0] is None else bounds[0]),
            (np.inf if bounds[1] is None else bounds[1]),
        )
        assert (fit.gains >= lower).all()
        assert (fit.gains <= upper).all()
        assert fit.loss <= fit.loss_at_one


@pytest.mark.parametrize("bounds", [(1.5, 2.0), (None, 0.5), (np.r_[1.1, np.zeros(5)], None)], ids=str)
def test_a_line_search_without_its_start_is_refused(bounds):
    with pytest.raises(
        ValueError, match=r"^Argument 'bounds' must allow gains of one for method='line-search'"
    ):
        fc.fit(data(6, 3), target(3), ridge=1.0, method="line-search", bounds=bounds)


@pytest.mark.parametrize("bounds", [None, (-1.0, 0.5)], ids=["free", "bounds"])
def test_an_exact_saddle_is_left_along_its_negative_curvature(bounds):
    X, S = data(12, 4), target(4)
    fit = fc.fit(X, S, ridge=0, gains0=np.zeros(12), bounds=bounds, method="exact")
    assert fit.status == "converged"
    assert fit.loss < 0.9 * naive.loss(X, S, np.zeros(12))


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_a_memory_budget_that_a_minimiser_does_not_fit_is_refused(method):
    X, S = data(12, 4), target(4)
    with pytest.raises(ValueError, match=r"^Argument 'memory_budget' must be at least "):
        fc.fit(X, S, ridge=1.0, method=method, bounds=(0, None), memory_budget=1)


def test_a_start_from_which_the_loss_overflows_on_the_way_says_so():
    sim = fc.datasets.simulate(60, 12, rng=0)
    with pytest.warns(fc.ConvergenceWarning, match="begin nearer to one|use "):
        fit = fc.fit(sim.X, sim.S, relative_ridge=0.1, method="exact", gains0=np.full(60, 1e70))
    assert fit.status in ("breakdown", "stagnated", "max-iterations")
