"""fit(): the certificate of each method, minimum norm, stacks, ridges, statuses and the printed table."""

import dataclasses
import types

import naive
import numpy as np
import psutil
import pytest
from cases import LAYOUTS, absolute_error, data, gains_bound, gradient_rounding, rounding, target, within

import fastcov as fc
from fastcov._fitting import methods
from fastcov._inputs import validation
from fastcov._model.problem import Problem
from fastcov._model.products import squared_norms
from fastcov._model.ridge_penalty import Penalty
from fastcov._solvers import Options, Solution, System, _refinement, cholesky

SHAPES = [(1, 1), (1, 3), (2, 2), (5, 7), (12, 4), (33, 3), (65, 6), (257, 5)]
EPS = np.finfo(np.float64).eps


def largest_eigenvalue(X, center=True):
    return np.linalg.norm(naive.atoms(X, None, center), 2) ** 2


def backward_error(X, S, ridge, delta, center):
    """‖b − Aδ‖ / ((‖A‖ ‖δ‖ + ‖b‖) ε) with A and b of the oracle, in long double."""
    A = naive.gram(X, None, center, np.longdouble) + ridge * np.eye(len(X))
    b = naive.overlaps(X, S, None, center, np.longdouble)
    residual = np.linalg.norm((b - A @ delta).astype(np.float64))
    size = np.linalg.norm(A.astype(np.float64), 2) * np.linalg.norm(delta)
    return residual / ((size + np.linalg.norm(b.astype(np.float64))) * EPS)


@pytest.mark.covering(2)
@pytest.mark.parametrize("relative", [1e-6, 1e-3, 0.1, 10.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_linear_fit_solves_its_system_backward_stably(shape, relative, dtype, center):
    N, D = shape
    X, S = data(N, D, dtype), target(D, size=N)
    ridge = relative * (largest_eigenvalue(X, center) or 1.0)
    fit = fc.fit(X, S, ridge=ridge, center=center, solver="cholesky")
    # A float64 factor: 30, as in LAPACK's own tests. A refined float32 factor is left at a largest
    # residual of REFINED times the largest entry of b: √N REFINED in the norm.
    limit = 30.0 if dtype == np.float64 else 30.0 + np.sqrt(N) * _refinement.REFINED / EPS
    if N == 1 and center:  # one channel is its own mean: no atoms
        assert abs(fit.delta[0]) * ridge <= 1e-20
    else:
        assert backward_error(X, S, ridge, fit.delta, center) < limit
    assert fit.status == "converged"
    assert fit.stats["solver"] == "cholesky"


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_linear_fit_is_the_dense_ridge_solution(shape, dtype, center):
    N, D = shape
    X, S = data(N, D, dtype), target(D, size=N)
    ridge = 0.1 * largest_eigenvalue(X, center) + 1e-3
    delta = fc.fit(X, S, ridge=ridge, center=center, solver="cholesky").delta
    bound = gains_bound(X, S, ridge, center)
    if dtype == np.float32:
        size = np.linalg.norm(naive.overlaps(X, S, None, center))
        bound += np.sqrt(N) * _refinement.REFINED * size / ridge
    within(delta, naive.linear_fit(X, S, ridge, center), bound)


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_diagonal_fit_is_its_formula(shape, dtype, center):
    N, D = shape
    if N == 1 and center:
        pytest.skip("one centred channel: an atom of zero, or of rounding")
    X, S = data(N, D, dtype), target(D, size=N)
    fit = fc.fit(X, S, ridge=3.0, method="diagonal", center=center)
    expected = naive.diagonal_fit(X, S, 3.0, center)
    G = np.abs(naive.atoms(X, None, center))
    bound = rounding(X, np.float64) * 20 * G.T @ absolute_error(X, S, None, center).ravel()
    bottom = np.diag(naive.gram(X, None, center)) + 3.0
    within(fit.delta, expected, bound / bottom + rounding(X, np.float64) * 20 * abs(expected))
    assert fit.status == "approximate"
    assert fit.stats["solver"] is None


def test_diagonal_and_linear_fits_agree_where_atoms_are_orthogonal():
    # Channels that respond to one condition each, not centred: GᵀG is diagonal.
    X = np.diag([1.0, 2.0, 3.0])
    S = np.diag([2.0, 3.0, 1.0])
    linear, diagonal = (fc.fit(X, S, ridge=0.5, method=m, center=False) for m in ("linear", "diagonal"))
    np.testing.assert_allclose(linear.delta, diagonal.delta, rtol=8 * EPS)
    # g = 2 x² and e = s − x²: δ = 2 x² (s − x²) / (4 x⁴ + λ)
    np.testing.assert_allclose(linear.delta, [2 / 4.5, -8 / 64.5, -144 / 324.5], rtol=8 * EPS)


def test_residual_is_that_of_the_linear_system(dtype, center):
    X, S = data(12, 4, dtype), target(4)
    ridge = 0.1 * largest_eigenvalue(X, center)
    b = naive.overlaps(X, S, None, center)
    noise = 100 * rounding(X, np.float64)
    for method in ("linear", "line-search", "diagonal"):
        fit = fc.fit(X, S, ridge=ridge, method=method, center=center)
        direction = fit.delta / fit.stats.get("step", 1.0)  # of a line search: that of its direction
        left = b - naive.gram(X, None, center) @ direction - ridge * direction
        np.testing.assert_allclose(
            fit.residual, np.linalg.norm(left) / np.linalg.norm(b), rtol=1e-6, atol=noise
        )
    assert fit.residual > 0.1  # the last one, diagonal, ignores the correlations of the atoms


def test_residual_of_an_exact_fit_is_its_gradient_over_that_at_gains_of_one(dtype, center):
    X, S = data(12, 4, dtype), target(4)
    ridge = 0.1 * largest_eigenvalue(X, center)
    fit = fc.fit(X, S, ridge=ridge, method="exact", center=center)
    left, at_one = (
        np.linalg.norm(naive.loss_gradient(X, S, z, ridge, center, np.longdouble).astype(float))
        for z in (fit.gains, np.ones(12))
    )
    noise = gradient_rounding(X, S, fit.gains, ridge, center) / at_one
    np.testing.assert_allclose(fit.residual, left / at_one, rtol=1e-6, atol=noise)
    assert noise < fit.residual <= 1e-6


def test_linear_fit_of_a_target_that_is_met_is_one(center):
    X = data(12, 4)
    fit = fc.fit(X, fc.covariance(X, center=center), ridge=1.0, center=center)
    np.testing.assert_array_equal(fit.gains, np.ones(12))
    assert fit.residual == 0.0
    assert fit.loss == fit.loss_at_one == 0.0
    assert fit.r2 == 1.0


# --- ridge = 0: minimum norm


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", [(40, 4), (20, 6), (10, 4), (6, 5), (3, 8), (2, 1)], ids=str)
def test_ridge_zero_gives_the_minimum_norm_solution(shape, dtype, center):
    N, D = shape
    X, S = data(N, D, dtype), target(D, size=N)
    G, e = naive.atoms(X, None, center), naive.error(X, S, None, center)
    values = np.linalg.svd(G, compute_uv=False)
    rank = np.linalg.matrix_rank(G)
    assert rank == min(N, D * (D + 1) // 2)
    condition = values[0] / values[rank - 1]
    fit = fc.fit(X, S, ridge=0, center=center)
    assert fit.stats["rank"] == rank
    assert fit.status == "minimum-norm"
    # From the normal equations: the square of the condition of G, times the rounding of GᵀG and Gᵀe₀.
    terms = np.linalg.norm(absolute_error(X, S, None, center)) / values[0]
    bound = rounding(X, np.float64) * 10 * condition**2 * (np.linalg.norm(fit.delta) + terms)
    assert bound < 1e-4  # or nothing is tested
    within(fit.delta, naive.linear_fit(X, S, 0, center), bound)
    within(fit.delta, np.linalg.lstsq(G, e, rcond=1e-6)[0], bound)


def test_ridge_zero_reaches_a_target_that_can_be_reached():
    X = data(40, 4)
    atoms = naive.atoms(X)
    e = (atoms @ np.random.default_rng(0).standard_normal(40) * 1e-3).reshape(4, 4)
    fit = fc.fit(X, fc.covariance(X) + (e + e.T) / 2, ridge=0)
    reached = atoms @ fit.delta
    # The normal equations square the condition of G.
    condition = np.linalg.cond(atoms.T, p=2) if len(atoms) > 40 else np.linalg.svd(atoms)[1]
    ratio = condition[0] / condition[9]  # 10 = D(D+1)/2
    np.testing.assert_allclose(
        reached, e.ravel(), rtol=0, atol=rounding(X) * ratio**2 * np.linalg.norm(absolute_error(X, e))
    )


@pytest.mark.parametrize("relative", [1e-18, 1e-14, 1e-12, 1e-11])
def test_a_ridge_too_small_to_count_gives_the_minimum_norm_with_a_warning(relative, dtype):
    # 40 channels, two of them the same, 10 pairs of conditions: GᵀG is singular. A factor of
    # GᵀG + λI may exist, and have a tiny residual, and gains that are all wrong.
    X, S = data(40, 4, dtype), target(4)
    X[7] = X[3]
    with pytest.warns(fc.ConvergenceWarning, match="too small beside GᵀG to count"):
        fit = fc.fit(X, S, ridge=relative * largest_eigenvalue(X))
    assert fit.status == "minimum-norm"
    G = naive.atoms(X.astype(float))
    U, s, Vt = np.linalg.svd(G, full_matrices=False)
    rank = fit.stats["rank"]
    error = (S - naive.covariance(X.astype(float))).ravel()
    expected = Vt[:rank].T @ (s * (U.T @ error) / (s**2 + fit.ridge))[:rank]
    # eigenvalues are good to N ε of the largest, and the smallest that counts is s²
    tolerance = 40 * np.finfo(float).eps * s[0] ** 2 / s[rank - 1] ** 2
    assert np.linalg.norm(fit.delta - expected) < tolerance * np.linalg.norm(expected)
    assert abs(fit.delta[7] - fit.delta[3]) < tolerance * np.linalg.norm(expected)


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", ["linear", "diagonal"])
@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1e3, 1e300])
def test_gain_of_a_dead_channel_is_exactly_one(method, ridge, dtype, center):
    X, S = data(20, 4, dtype), target(4)
    X[[0, 5, 19]] = 0.0
    fit = fc.fit(X, S, ridge=ridge, method=method, center=center)
    np.testing.assert_array_equal(fit.gains[[0, 5, 19]], 1.0)
    assert np.isfinite(fit.gains).all()
    # and it takes no part: the others are those without its row, where the mean is not removed
    if not center and ridge == 1e3:
        alive = np.delete(np.arange(20), [0, 5, 19])
        alone = fc.fit(X[alive], S, ridge=ridge, method=method, center=False)
        tolerance = 2 * gains_bound(X, S, ridge, False) + 1e-10 * (dtype == np.float32)
        within(fit.delta[alive], alone.delta, tolerance)


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", ["linear", "diagonal"])
@pytest.mark.parametrize("ridge", [{"ridge": 0}, {"ridge": 1.0}, {"relative_ridge": 0.1}], ids=str)
@pytest.mark.parametrize("N", [1, 4, 40])
def test_all_dead_channels_have_gains_of_one(method, ridge, N, dtype):
    fit = fc.fit(np.zeros((N, 3), dtype), np.eye(3), method=method, **ridge)
    np.testing.assert_array_equal(fit.gains, np.ones(N))
    assert fit.loss == fit.loss_at_one == 1.5


@pytest.mark.parametrize("ridge", [{"ridge": 0}, {"ridge": 1.0}, {"relative_ridge": 0.1}], ids=str)
def test_one_centred_channel_has_a_gain_of_one(ridge):
    # It is its own mean: its covariance is zero whatever the gain.
    fit = fc.fit(np.array([[1.0, 2.0, 3.0]]), np.eye(3), **ridge)
    np.testing.assert_array_equal(fit.gains, 1.0)


@pytest.mark.parametrize("ridge", [0.0, 10.0])
def test_duplicate_channels_have_the_same_gain(ridge, center):
    X, S = data(8, 5), target(5)
    X[6] = X[2]
    fit = fc.fit(X, S, ridge=ridge, center=center)
    values = np.linalg.svd(naive.atoms(X, None, center), compute_uv=False)
    tolerance = 10 * rounding(X) * (values[0] / values[6]) ** 2 * (1 + np.linalg.norm(fit.delta))
    assert abs(fit.delta[6] - fit.delta[2]) <= tolerance < 1e-6
    if ridge == 0:
        assert fit.stats["rank"] == 7


# --- stacks, ridges, layouts


@pytest.mark.parametrize("method", ["linear", "diagonal"])
@pytest.mark.parametrize("ridge", [0.0, 30.0])
def test_a_stack_of_targets_equals_one_by_one(method, ridge, dtype):
    X, S = data(9, 4, dtype), np.stack([target(4, seed) for seed in range(3)])
    stack = fc.fit(X, S, ridge=ridge, method=method)
    ones = [fc.fit(X, s, ridge=ridge, method=method) for s in S]
    assert stack.gains.shape == (3, 9)
    assert stack.covariance().shape == (3, 4, 4)
    for t, one in enumerate(ones):
        assert one.status == stack.status
        size = np.abs(one.delta).max()
        # λ = 0: the normal equations. For this X cond(GᵀG) is some 1e3, checked here.
        values = np.linalg.svd(naive.atoms(X), compute_uv=False)
        condition = (values[0] / values[-1]) ** 2
        assert condition < 1e5
        tolerance = 10 * rounding(X, np.float64) * condition * size
        if dtype == np.float32:
            tolerance += 3 * _refinement.REFINED * condition * size
        within(stack.delta[t], one.delta, tolerance)
        for name in ("loss", "loss_at_one", "r2"):
            np.testing.assert_allclose(getattr(stack, name)[t], getattr(one, name), rtol=1e-7)
        np.testing.assert_allclose(stack.covariance()[t], one.covariance(), rtol=1e-7)
    single = fc.fit(X, S[:1], ridge=ridge, method=method)
    assert single.delta.shape == (1, 9)
    assert single.loss.shape == (1,)


def test_a_stack_with_a_target_that_is_met_is_fitted():
    X = data(9, 4)
    fit = fc.fit(X, np.stack([fc.covariance(X), target(4)]), ridge=1.0)
    np.testing.assert_array_equal(fit.gains[0], np.ones(9))
    assert fit.residual[0] == 0
    assert fit.status == "converged"


@pytest.mark.parametrize("N", [5, 33, 65])
def test_relative_ridge_is_the_ridge_over_the_largest_eigenvalue(N, dtype, center):
    X, S = data(N, 4, dtype), target(4)
    fit = fc.fit(X, S, relative_ridge=0.25, center=center)
    np.testing.assert_allclose(fit.ridge, 0.25 * largest_eigenvalue(X, center), rtol=1e-9)  # Lanczos: 1e-10
    assert fit.relative_ridge == 0.25
    same = fc.fit(X, S, ridge=fit.ridge, center=center)
    np.testing.assert_array_equal(same.delta, fit.delta)
    assert same.relative_ridge is None


def test_relative_ridge_of_zero_is_a_ridge_of_zero():
    X, S = data(9, 4), target(4)
    np.testing.assert_array_equal(fc.fit(X, S, relative_ridge=0).delta, fc.fit(X, S, ridge=0.0).delta)


@pytest.mark.parametrize("ridge", [1e50, 1e300])
def test_a_ridge_above_everything_leaves_the_gains_at_one(ridge, dtype):
    fit = fc.fit(data(9, 4, dtype), target(4), ridge=ridge)
    np.testing.assert_allclose(fit.gains, 1.0, rtol=0, atol=EPS)
    assert fit.status == "converged"
    np.testing.assert_allclose(fit.loss, fit.loss_at_one, rtol=1e-12)


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", ["linear", "diagonal"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_fit_does_not_depend_on_memory_layout(layout, method, dtype, tmp_path):
    X, S = LAYOUTS[layout](data(9, 4, dtype), tmp_path), target(4)
    plain = np.array(X, np.float64 if layout == "list" else dtype)
    ridge = 0.1 * largest_eigenvalue(plain)
    expected = fc.fit(plain, S, ridge=ridge, method=method)
    for form in ("C", "Fortran", "strided", "negative-strides", "read-only", "big-endian"):
        found = fc.fit(X, LAYOUTS[form](S, None), ridge=ridge, method=method)
        within(found.delta, expected.delta, 2 * gains_bound(plain, S, ridge) + 1e-11 * (dtype == np.float32))
    stacked = fc.fit(X, np.broadcast_to(S, (2, 4, 4)), ridge=ridge, method=method)
    within(stacked.delta[1], expected.delta, 2 * gains_bound(plain, S, ridge) + 1e-11 * (dtype == np.float32))


@pytest.mark.parametrize("method", ["linear", "diagonal"])
@pytest.mark.parametrize("ridge", [0.0, 30.0])
@pytest.mark.parametrize("N", [9, 257])
def test_fit_gives_the_same_bits_twice(N, ridge, method, dtype):
    X, S = data(N, 4, dtype), target(4)
    first, second = (fc.fit(X, S, ridge=ridge, method=method) for _ in range(2))
    np.testing.assert_array_equal(first.delta, second.delta)
    np.testing.assert_array_equal(first.covariance(), second.covariance())
    assert (first.loss, first.r2, first.residual) == (second.loss, second.r2, second.residual)


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_fit_does_not_depend_on_the_size_of_a_block(rows, dtype, set_block_rows):
    X, S = data(11, 4, dtype), target(4)
    ridge = 0.1 * largest_eigenvalue(X)
    set_block_rows(rows, 4)
    delta = fc.fit(X, S, ridge=ridge).delta
    within(delta, naive.linear_fit(X, S, ridge), gains_bound(X, S, ridge) + 1e-11 * (dtype == np.float32))


# --- what comes with the gains


@pytest.mark.parametrize("method", ["linear", "diagonal"])
@pytest.mark.parametrize("ridge", [0.0, 30.0])
def test_loss_r2_and_covariance_are_those_at_the_gains(method, ridge, dtype, center):
    X, S = data(12, 4, dtype), target(4)
    fit = fc.fit(X, S, ridge=ridge, method=method, center=center)
    z = fit.gains
    np.testing.assert_array_equal(z, 1 + fit.delta)
    C = naive.covariance(X, z, center)
    terms = absolute_error(X, S, z, center)
    bound = rounding(X, np.float64) * np.sum(terms**2)
    within(fit.loss, naive.loss(X, S, z, ridge, center), bound + 8 * EPS * abs(fit.loss))
    within(fit.loss_at_one, naive.loss(X, S, np.ones(12), 0.0, center), bound)
    within(fit.covariance(), C, rounding(X, np.float64) * terms)
    within(fit.r2, 1 - np.sum((C - S) ** 2) / np.sum(S**2), 2 * bound / np.sum(S**2) + EPS)
    float_X = X.astype(np.float64)  # fc.loss multiplies in the precision of X
    within(fit.loss, fc.loss(float_X, S, z, ridge=ridge, center=center), bound + 8 * EPS * abs(fit.loss))
    within(fit.covariance(), fc.covariance(float_X, gains=z, center=center), rounding(X, np.float64) * terms)


def test_r2_of_a_target_of_zero_is_not_finite_but_is_printed():
    fit = fc.fit(data(9, 4), np.zeros((4, 4)), ridge=30.0)
    assert not np.isfinite(fit.r2)  # nothing to explain
    assert np.isfinite(fit.loss)
    assert "R2" in repr(fit)


def test_results_of_one_target_are_numbers_not_arrays():
    fit = fc.fit(data(9, 4), target(4), ridge=30.0)
    for name in ("loss", "loss_at_one", "r2", "residual", "ridge"):
        assert isinstance(getattr(fit, name), float), name
    assert fit.delta.shape == (9,)


def test_fit_is_frozen_and_its_covariance_is_a_copy():
    fit = fc.fit(data(9, 4), target(4), ridge=30.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        fit.ridge = 1.0
    before = fit.covariance()
    fit.covariance()[:] = 0.0
    np.testing.assert_array_equal(fit.covariance(), before)


def test_fits_can_be_compared_and_hashed_by_identity():
    one, other = (fc.fit(data(9, 4), target(4), ridge=30.0) for _ in range(2))
    assert one == one
    assert one != other
    assert len({one, other}) == 2


def test_stats_say_what_the_fit_took(dtype, center):
    fit = fc.fit(data(9, 4, dtype), target(4), ridge=30.0, center=center, solver="cholesky")
    assert fit.stats["shape"] == (9, 4)
    assert fit.stats["dtype"] == np.dtype(dtype).name
    assert fit.stats["center"] is center
    assert fit.stats["seconds"] > 0
    assert fit.method == "linear"
    if dtype == np.float32:
        assert 1 <= fit.stats["refinements"] < _refinement.MAX_STEPS
    assert fit.stats["solver"] == "cholesky"
    assert fit.stats["reason"] == "as asked for"
    assert "fastest that fits" in fc.fit(data(9, 4, dtype), target(4), ridge=30.0).stats["reason"]


@pytest.mark.parametrize("method", ["linear", "diagonal"])
def test_printed_fit_has_the_key_numbers(method):
    X, S = data(12, 4), target(4)
    fit = fc.fit(X, S, relative_ridge=0.25, method=method)
    text = repr(fit)
    assert str(fit) == text
    solver = f" ({fit.stats['solver']})" if method == "linear" else ""
    for part in (
        f"{method}{solver}: {fit.status}",
        "12 channels x 4 conditions",
        f"{fit.ridge:.4g} (0.25 of the largest eigenvalue)",
        f"{fit.loss:.4g} ({fit.loss / fit.loss_at_one:.4g} of the loss at gains of one)",
        f"{fit.r2:.4g}",
        f"{fit.gains.min():.3g} to {fit.gains.max():.3g}, median {np.median(fit.gains):.3g}",
        f"{fit.residual:.1e}",
    ):
        assert part in text, part
    assert all(len(line) <= 110 for line in text.splitlines())


def test_printed_fit_has_the_rank_and_the_number_of_targets():
    X, S = data(40, 4), np.stack([target(4, seed) for seed in range(3)])
    text = repr(fc.fit(X, S, ridge=0))
    assert "minimum-norm, rank 10 of 40" in text
    assert "3 targets" in text
    assert " to " in text


@pytest.mark.parametrize("relative", [1e-4, 1e-2, 1.0, 10.0])
@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_printed_fit_warns_of_overshoot_exactly_when_the_loss_rose(relative, scale):
    X = data(30, 5)
    S = scale * target(5, size=30)
    fit = fc.fit(X, S, relative_ridge=relative)
    assert ("overshoots" in repr(fit)) == (fit.loss > fit.loss_at_one)


def test_both_overshoot_and_none_are_among_the_cases():
    X = data(30, 5)
    bad = fc.fit(X, 30.0 * target(5, size=30), relative_ridge=1e-4)
    good = fc.fit(X, 30.0 * target(5, size=30), relative_ridge=10.0)
    assert bad.loss > bad.loss_at_one
    assert good.loss < good.loss_at_one


def test_a_fit_with_no_loss_at_one_can_be_printed():
    X = data(12, 4)
    text = repr(fc.fit(X, fc.covariance(X), ridge=1.0))
    assert "overshoots" not in text
    assert "12 channels" in text


# --- a solver that fails


def garbage(state, rhs):
    return Solution(np.ones_like(rhs), "converged", {})


def test_a_wrong_solution_is_noticed_by_the_certificate(monkeypatch):
    monkeypatch.setattr(cholesky, "solve", garbage)
    with pytest.warns(fc.ConvergenceWarning, match="relative residual of .*: use a larger ridge") as caught:
        fit = fc.fit(data(12, 4), target(4), ridge=1.0, solver="cholesky")
    assert caught[0].filename == __file__  # it points at the caller
    assert fit.status == "inaccurate"
    b = naive.overlaps(data(12, 4), target(4))
    left = b - naive.gram(data(12, 4)) @ np.ones(12) - 1.0
    np.testing.assert_allclose(fit.residual, np.linalg.norm(left) / np.linalg.norm(b), rtol=1e-10)
    assert "inaccurate" in repr(fit)


def test_one_wrong_solution_of_a_stack_is_noticed(monkeypatch):
    solve = cholesky.solve

    def nearly(state, rhs):
        solution = solve(state, rhs)
        solution.value[1] *= 1 + 1e-6
        return solution

    monkeypatch.setattr(cholesky, "solve", nearly)
    with pytest.warns(fc.ConvergenceWarning, match="relative residual"):
        fit = fc.fit(data(12, 4), np.stack([target(4, s) for s in range(3)]), ridge=1.0, solver="cholesky")
    assert fit.status == "inaccurate"
    assert fit.residual.argmax() == 1


def test_a_solution_of_nan_is_noticed(monkeypatch):
    monkeypatch.setattr(
        cholesky, "solve", lambda state, rhs: Solution(np.full_like(rhs, np.nan), "converged", {})
    )
    with pytest.warns(fc.ConvergenceWarning, match="relative residual"):
        fit = fc.fit(data(12, 4), target(4), ridge=1.0, solver="cholesky")
    assert fit.status == "inaccurate"


def test_a_refinement_that_does_not_converge_falls_back_to_float64(monkeypatch):
    monkeypatch.setattr(_refinement, "MAX_STEPS", 0)
    X, S = data(12, 4, np.float32), target(4)
    fit = fc.fit(X, S, ridge=100.0, solver="cholesky")
    assert "refinements" not in fit.stats
    assert backward_error(X, S, 100.0, fit.delta, True) < 30
    assert fit.status == "converged"


# cond(GᵀG + λI) above 1/ε of float32: the first has no float32 factor, the second one that does not help.
@pytest.mark.parametrize("relative", [1e-9, 5.6e-8])
def test_refinement_that_cannot_or_does_not_gain_digits_falls_back_to_float64(relative):
    X, S = data(40, 4, np.float32), target(4)
    ridge = relative * largest_eigenvalue(X)
    fit = fc.fit(X, S, ridge=ridge, solver="cholesky")
    assert "refinements" not in fit.stats
    assert backward_error(X, S, ridge, fit.delta, True) < 30
    assert fit.status == "converged"


def test_a_solver_state_serves_several_right_hand_sides():
    problem = Problem.of(data(9, 4))
    state = cholesky.init(System(problem, Penalty(30.0), squared_norms(problem)), Options())
    rhs = np.random.default_rng(0).standard_normal((2, 9))
    before = rhs.copy()
    first, second = cholesky.solve(state, rhs), cholesky.solve(state, rhs)
    np.testing.assert_array_equal(rhs, before)
    np.testing.assert_array_equal(first.value, second.value)


# --- memory


# 8 N (N + D) = 0.0320 GB of a factor, and some 13 N numbers beside it; a fit of any kind: those.
@pytest.mark.parametrize(
    ("solver", "what"),
    [("cholesky", r"A cholesky fit .* takes 0\.032\d"), ("auto", r"A fit .* takes 0\.001\d*")],
)
def test_a_fit_that_does_not_fit_memory_says_so_before_allocating(solver, what, little_memory):
    X, S = data(2000, 3), np.eye(3)
    fc.fit(X[:9], S, ridge=1.0)  # compiles
    match = rf"^{what} GB, and 1e-06 GB are available: use method='diagonal', or fewer targets at a time\.$"
    with pytest.raises(MemoryError, match=match):
        little_memory(lambda: fc.fit(X, S, ridge=1.0, solver=solver))


def test_the_remedy_that_is_offered_for_memory_works(little_memory):
    X, S = data(2000, 3), np.eye(3)
    fit = little_memory(lambda: fc.fit(X, S, ridge=1.0, method="diagonal"))
    assert fit.status == "approximate"


def test_available_memory_is_a_number_of_bytes():
    assert 1e6 < validation.available_memory() < 1e15


V1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"
V2 = "memory.max", "memory.current", "memory.stat"


@pytest.mark.parametrize(
    ("own", "folder", "names", "contents", "expected"),
    [
        ("0::/", "", V2, ("5000", "2000", "anon 7\ninactive_file 100"), 3100),
        ("0::/", "", V2, ("5000", "7000", "inactive_file 0"), 0),
        ("0::/", "", V2, ("max", "2000", "inactive_file 100"), None),
        ("0::/", "", V2, ("5000", "2000", "anon 7"), None),
        ("0::/", "", V2[:2], ("5000", "2000"), None),
        ("0::/slice/job_7/step", "slice/job_7", V2, ("5000", "2000", "inactive_file 100"), 3100),
        ("0::/slice/job_7", "slice/job_8", V2, ("5000", "2000", "inactive_file 100"), None),
        (
            "4:cpu:/\n3:memory,x:/",
            "memory",
            V1,
            ("900", "300", "inactive_file 1\ntotal_inactive_file 50"),
            650,
        ),
        ("4:cpu:/", "memory", V1, ("900", "300", "total_inactive_file 50"), None),
        (None, "", V2, ("5000", "2000", "inactive_file 100"), None),
    ],
)
def test_available_memory_respects_the_limit_of_a_container(
    own, folder, names, contents, expected, monkeypatch, tmp_path
):
    (tmp_path / "fs" / folder).mkdir(parents=True)
    for name, text in zip(names, contents, strict=True):
        (tmp_path / "fs" / folder / name).write_text(text + "\n")
    if own is not None:
        (tmp_path / "own").write_text(own + "\n")
    monkeypatch.setattr(validation, "CGROUPS", tmp_path / "fs")
    monkeypatch.setattr(validation, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=10**9))
    assert validation.available_memory() == (10**9 if expected is None else expected)


def test_methods_are_those_in_the_documentation():
    assert tuple(methods.METHODS) == ("linear", "diagonal", "line-search", "exact")
    for method in methods.METHODS:
        assert f'"{method}"' in fc.fit.__doc__


@pytest.mark.parametrize("exponent", [-50, -24, -16, 16, 50])
def test_the_largest_eigenvalue_does_not_depend_on_the_units_of_the_responses(exponent):
    # Independent channels: eigenvalues lie close together, and Lanczos has to go on until it is done. Units
    # that have to be scaled, those of 2^±24 and beyond, take the general code, which stops at a residual of
    # 1e-5 of the eigenvalue; others that for small X, which stops at 1e-6. The error is the square of that.
    X = np.random.default_rng(0).standard_normal((200, 20))
    S = naive.covariance(X)
    ridge = fc.fit(X, S, relative_ridge=0.1).ridge
    scaled = fc.fit(X * 2.0**exponent, S * 2.0 ** (2 * exponent), relative_ridge=0.1).ridge
    np.testing.assert_allclose(
        scaled * 2.0 ** (-4 * exponent), ridge, rtol=1e-12 if abs(exponent) <= 16 else 1e-10
    )


@pytest.mark.parametrize("call", [fc.fit, fc.overlaps, fc.loss])
@pytest.mark.parametrize("center", ["no", 0, None])
def test_a_center_that_is_neither_true_nor_false_is_refused(call, center):
    X, S = data(6, 3), target(3)
    arguments = {"ridge": 1.0} if call is fc.fit else {"gains": np.ones(6)}
    with pytest.raises(TypeError, match=r"^Argument 'center' must be True or False, not "):
        call(X, S, center=center, **arguments)


def test_gains_of_a_fit_cannot_be_changed_under_its_loss():
    fit = fc.fit(data(6, 3), target(3), ridge=1.0)
    with pytest.raises(ValueError, match="read-only"):
        fit.delta[0] = 1.0


def test_a_printed_fit_says_when_the_target_is_on_another_scale():
    X, Y = data(30, 6), data(40, 6)
    S = fc.target_covariance(Y, like=X)
    assert "trace of the target" not in repr(fc.fit(X, S, ridge=1.0))
    assert "The trace of the target is 0.01 times" in repr(fc.fit(X, 0.01 * S, ridge=1.0))


@pytest.mark.covering(2)
@pytest.mark.parametrize("options", [{"ridge": 0}, {"ridge": 1.0}, {"relative_ridge": 0.1}], ids=str)
@pytest.mark.parametrize("solver", ["auto", "cholesky", "dual", "spectral", "pcg"])
def test_channels_that_are_all_alike_have_gains_of_one(solver, options, dtype):
    X = np.tile(np.random.default_rng(0).random(6), (50, 1)).astype(dtype)
    fit = fc.fit(X, np.eye(6), solver=solver, **options)
    np.testing.assert_array_equal(fit.gains, 1.0)
    assert fit.status in ("converged", "minimum-norm")


@pytest.mark.parametrize("X", ["X.npy", {"X": np.eye(3)}], ids=["path", "group"])
def test_what_holds_an_array_is_told_from_one(X):
    with pytest.raises(TypeError, match=r"^Argument 'X' must be an array, not a .*(open it|name one)"):
        fc.fit(X, np.eye(3), ridge=1.0)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [("solver", "best", ValueError), ("memory_budget", -5, ValueError), ("callback", 5, TypeError)],
)
@pytest.mark.parametrize("method", ["linear", "diagonal"])
def test_what_a_method_does_not_need_is_checked_too(method, name, value, error):
    with pytest.raises(error, match=f"^Argument '{name}' must be "):
        fc.fit(data(5, 2), target(2), ridge=1.0, method=method, **{name: value})
