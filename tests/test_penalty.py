"""Penalties ½ δᵀPδ with P = λI, diag(λ_i) or ΓᵀΓ, in every method and solver beside the oracle."""

import naive
import numpy as np
import pytest
import scipy.sparse as sp
from cases import data, gradient_rounding, minimum, random_gains, target

import fastcov as fc
from fastcov._compute import blas
from fastcov._exact_loss.objective import Objective
from fastcov._model.problem import Problem
from fastcov._model.products import squared_norms
from fastcov._model.ridge_penalty import Penalty
from fastcov._solvers import NAMES, pcg

EPS = np.finfo(np.float64).eps
# N below, at and above P = D(D+1)/2 = 10.
SHAPES = [(7, 4), (10, 4), (40, 4)]
TOL = 1e-12  # of pcg


def differences(N, unit=1.0):
    """Γ of neighbours: blind to what is common to all gains."""
    return unit * np.diff(np.eye(N), axis=0)


def unit(X, center=True):
    """‖G‖², the size of a ridge that counts."""
    return np.linalg.norm(naive.atoms(X, None, center), 2) ** 2


def _each(N):
    return 10.0 ** np.random.default_rng(3).uniform(-3, 0, N)


def _some_free(N):
    weights = _each(N)
    weights[[1, N - 2]] = 0.0
    return weights


def _full(N):
    return np.random.default_rng(4).standard_normal((N + 3, N)) / np.sqrt(N)


def _sparse(N):
    """Differences of every second pair, some channels on their own, two entries in one place."""
    rows, columns = np.repeat(np.arange(N - 1), 2), np.arange(2 * (N - 1)) // 2 + np.arange(2 * (N - 1)) % 2
    values = np.tile([1.0, -0.7], N - 1)
    matrix = sp.coo_array(
        (np.r_[values, 0.25, 0.25], (np.r_[rows, N - 1, N - 1], np.r_[columns, 0, 0])), shape=(N, N)
    )
    return matrix


# Each, for N channels and penalties of the size of one; where P is singular, G is not there.
PENALTIES = {
    "each": _each,
    "some-free": _some_free,
    "differences": differences,
    "full": _full,
    "sparse": _sparse,
}
DIAGONAL = ("each",)
penalties = pytest.mark.parametrize("form", PENALTIES)


def dense(ridge):
    return ridge.toarray() if sp.issparse(ridge) else np.asarray(ridge)


def a_penalty(form, X, size, center=True):
    """A ridge of this form and size, and P."""
    N = len(X)
    ridge = PENALTIES[form](N)
    ridge = ridge * (size * unit(X, center)) ** (0.5 if np.ndim(ridge) == 2 or sp.issparse(ridge) else 1.0)
    return ridge, naive.penalty(dense(ridge), N)


def residual_of(X, S, P, delta, center):
    """‖b − (GᵀG + P) δ‖ and what a residual is measured with, ‖A‖ ‖δ‖ + ‖b‖, in long double."""
    A = naive.gram(X, None, center, np.longdouble) + P
    b = naive.overlaps(X, S, None, center, np.longdouble)
    left = np.linalg.norm((b - A @ delta).astype(np.float64))
    b, A = np.linalg.norm(b.astype(np.float64)), np.linalg.norm(A.astype(np.float64), 2)
    return left, A * np.linalg.norm(delta) + b, b


def solvers_for(form):
    return NAMES if form in DIAGONAL else ("cholesky", "pcg")


@pytest.mark.covering(2)
@pytest.mark.parametrize("size", [1.0, 1e-2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("form", "solver"), [(form, s) for form in PENALTIES for s in ("auto", *solvers_for(form))]
)
def test_linear_fits_of_every_solver_solve_their_system(form, solver, shape, size, dtype, center):
    X, S = data(*shape, dtype), target(shape[1], size=shape[0])
    ridge, P = a_penalty(form, X, size, center)
    fit = fc.fit(X, S, ridge=ridge, center=center, solver=solver, tol=TOL)
    assert fit.status == "converged"
    assert fit.stats["solver"] in solvers_for(form)
    if solver != "auto":
        assert fit.stats["solver"] == solver
    left, scale, b = residual_of(X, S, P, fit.delta, center)
    # 30 roundings, as in LAPACK's tests; pcg stops at TOL, refinement at 1e-13 of the largest of b.
    noise = 30 * EPS * scale
    allowed = noise + (TOL if fit.stats["solver"] == "pcg" else 1e-13 * np.sqrt(len(X))) * b
    assert left <= allowed
    assert abs(fit.residual * b - left) <= noise  # the certificate
    condition = np.linalg.cond(naive.gram(X, None, center) + P)
    expected = naive.penalised_fit(X, S, P, center)
    assert allowed / scale * condition < 1e-4  # or nothing is tested
    assert np.linalg.norm(fit.delta - expected) <= 2 * condition * allowed / scale * np.linalg.norm(expected)
    np.testing.assert_allclose(fit.loss, naive.penalised_loss(X, S, fit.gains, P, center), rtol=1e-9)
    np.testing.assert_array_equal(
        dense(fit.ridge), dense(sp.csr_array(ridge) if sp.issparse(ridge) else ridge)
    )


@penalties
def test_a_diagonal_fit_has_the_diagonal_of_the_penalty(form, dtype, center):
    X, S = data(40, 4, dtype), target(4)
    ridge, P = a_penalty(form, X, 0.1, center)
    fit = fc.fit(X, S, ridge=ridge, method="diagonal", center=center)
    expected = naive.overlaps(X, S, None, center) / (np.diag(naive.gram(X, None, center)) + np.diag(P))
    np.testing.assert_allclose(fit.delta, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())
    left, _, b = residual_of(X, S, P, fit.delta, center)
    np.testing.assert_allclose(fit.residual, left / b, rtol=1e-9)


@penalties
def test_a_line_search_has_the_best_length_of_the_linear_fit(form, center):
    X, S = data(10, 4), 4 * target(4, size=10)
    ridge, P = a_penalty(form, X, 0.03, center)
    fit = fc.fit(X, S, ridge=ridge, method="line-search", center=center)
    direction = naive.penalised_fit(X, S, P, center)
    np.testing.assert_allclose(
        fit.delta, fit.stats["step"] * direction, rtol=0, atol=1e-7 * np.abs(direction).max()
    )
    at = [naive.penalised_loss(X, S, 1 + t * fit.delta, P, center) for t in (1 - 1e-3, 1.0, 1 + 1e-3)]
    assert at[1] < min(at[0], at[2])
    slope = naive.penalised_gradient(X, S, fit.gains, P, center) @ direction
    steepest = naive.penalised_gradient(X, S, np.ones(10), P, center) @ direction
    assert abs(slope) <= 1e-9 * abs(steepest)


BOUNDS = {"free": None, "narrow": (0.8, 1.1), "not-negative": (0, None)}


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", ["linear", "exact"])
@pytest.mark.parametrize("bounds", BOUNDS)
@penalties
def test_minima_with_a_penalty_have_no_gradient_but_what_bounds_hold(form, bounds, method, dtype, center):
    X, S, bounds = data(20, 4, dtype), target(4, size=20), BOUNDS[bounds]
    if bounds is None and method == "linear":
        pytest.skip("solved, not minimised")
    ridge, P = a_penalty(form, X, 0.1, center)
    X64, linear = X.astype(np.float64), method == "linear"
    fit = fc.fit(X, S, ridge=ridge, method=method, center=center, bounds=bounds, tol=1e-9)
    assert fit.status == "converged"
    low, high = ((-np.inf if b is None else b) if i == 0 else (np.inf if b is None else b)
                 for i, b in enumerate(bounds or (None, None)))  # fmt: skip
    assert np.all((low <= fit.gains) & (fit.gains <= high))
    at_one = np.linalg.norm(naive.overlaps(X64, S, None, center))
    slope = naive.penalised_gradient(X64, S, fit.gains, P, center, linear=linear)
    left = np.linalg.norm(naive.projected(slope, fit.gains, low, high))
    noise = gradient_rounding(X64, S, fit.gains, np.linalg.norm(P, 2), center, linear=linear)
    assert left <= 1.001e-9 * at_one + noise
    np.testing.assert_allclose(fit.residual, left / at_one, rtol=1e-6, atol=noise / at_one)
    if not linear and bounds is None:
        value, gradient = fc.loss_and_gradient(X64, S, fit.gains, ridge=ridge, center=center)
        assert np.linalg.norm(gradient) <= 1.001e-9 * at_one + noise
        np.testing.assert_allclose(fit.loss, value, rtol=1e-6 if dtype == np.float32 else 1e-10)
    if bounds == BOUNDS["narrow"]:
        assert fit.stats["at_bounds"] > 0


@penalties
def test_losses_and_gradients_hold_the_penalty(form, dtype, center):
    X, S = data(20, 4, dtype), target(4)
    ridge, P = a_penalty(form, X, 1.0, center)
    many = np.stack([random_gains(20, seed) for seed in range(20)])
    for Z in (many[0], many[:3], many):
        found = fc.loss(X, S, Z, ridge=ridge, center=center)
        losses, gradients = fc.loss_and_gradient(X, S, Z, ridge=ridge, center=center)
        rows = np.atleast_2d(Z)
        expected = np.array([naive.penalised_loss(X, S, z, P, center) for z in rows])
        slopes = np.stack([naive.penalised_gradient(X, S, z, P, center) for z in rows])
        tol = 1e-5 if dtype == np.float32 else 1e-11
        np.testing.assert_allclose(np.atleast_1d(found), expected, rtol=tol)
        np.testing.assert_array_equal(found, losses)
        assert gradients.shape == Z.shape
        np.testing.assert_allclose(np.atleast_2d(gradients), slopes, rtol=0, atol=tol * np.abs(slopes).max())
        # the penalty alone, to which rounding of covariances adds nothing
        alone = fc.loss(0 * X, 0 * S, Z, ridge=ridge, center=center)
        np.testing.assert_allclose(
            alone, ((rows - 1) @ P * (rows - 1)).sum(axis=1).reshape(np.shape(alone)) / 2, rtol=1e-12
        )


@penalties
@pytest.mark.parametrize("method", ["linear", "exact", "line-search", "diagonal"])
def test_a_stack_of_targets_shares_a_penalty(form, method, monkeypatch):
    X, S = data(40, 4), np.stack([target(4, seed, 40) for seed in range(3)])
    ridge, _ = a_penalty(form, X, 0.1)
    factors, cholesky = [], blas.cholesky
    monkeypatch.setattr(blas, "cholesky", lambda A, *more: factors.append(len(A)) or cholesky(A, *more))
    options = {"ridge": ridge, "method": method, "tol": 1e-10}
    if method in ("linear", "line-search"):
        options["solver"] = "cholesky"
    stack = fc.fit(X, S, **options)
    assert factors == ([40] if "solver" in options else [])
    assert stack.delta.shape == (3, 40)
    assert stack.status in ("converged", "approximate")
    for t, s in enumerate(S):
        one = fc.fit(X, s, **options)
        np.testing.assert_allclose(stack.delta[t], one.delta, rtol=0, atol=1e-6 * np.abs(one.delta).max())
        np.testing.assert_allclose(stack.loss[t], one.loss, rtol=1e-8)


def test_minima_with_a_penalty_are_those_of_another_minimiser(center):
    # P = λI + ΓᵀΓ as one Γ, beside L-BFGS-B of the oracle through the change of gains that makes it λI.
    X, S = data(12, 4), target(4, size=12)
    ridge = 0.1 * unit(X, center)
    expected = minimum(X, S, ridge, center)
    for form in (np.sqrt(ridge) * np.linalg.qr(_full(12)[:12])[0], np.full(12, ridge)):
        fit = fc.fit(X, S, ridge=form, method="exact", center=center, tol=1e-10)
        np.testing.assert_allclose(fit.gains, expected, rtol=0, atol=1e-6)


# --- one penalty in several forms


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", ["linear", "exact", "line-search", "diagonal"])
@pytest.mark.parametrize("solver", NAMES)
def test_the_same_number_for_each_channel_gives_the_bits_of_one_number(method, solver, dtype):
    X, S = data(40, 4, dtype), target(4)
    ridge = 0.1 * unit(X)
    plain = fc.fit(X, S, ridge=ridge, method=method, solver=solver)
    for same in (np.full(40, ridge), [ridge] * 40, np.broadcast_to(ridge, 40)):
        fit = fc.fit(X, S, ridge=same, method=method, solver=solver)
        np.testing.assert_array_equal(fit.delta, plain.delta)
        assert fit.ridge == plain.ridge
        assert (fit.loss, fit.residual) == (plain.loss, plain.residual)
    relative = fc.fit(X, S, relative_ridge=[0.1] * 40, method=method, solver=solver)
    np.testing.assert_array_equal(
        relative.delta, fc.fit(X, S, relative_ridge=0.1, method=method, solver=solver).delta
    )
    np.testing.assert_array_equal(
        fc.loss(X, S, plain.gains, ridge=np.full(40, ridge)), fc.loss(X, S, plain.gains, ridge=ridge)
    )
    # Γ = √λ I, of which the square is λ but for two roundings
    for root in (np.sqrt(ridge) * np.eye(40), sp.eye_array(40, format="dia") * np.sqrt(ridge)):
        fit = fc.fit(X, S, ridge=root, method=method, solver=solver, tol=TOL)
        again = fc.fit(X, S, ridge=fit.ridge, method=method, solver=solver, tol=TOL)
        np.testing.assert_array_equal(fit.delta, again.delta)
        np.testing.assert_allclose(fit.ridge, ridge, rtol=4 * EPS)


@pytest.mark.parametrize("solver", NAMES)
def test_a_matrix_with_one_entry_a_row_is_a_ridge_for_each(solver, dtype):
    X, S = data(40, 4, dtype), target(4)
    weights = 0.1 * unit(X) * _each(40)
    order = np.random.default_rng(0).permutation(40)
    root = np.zeros((45, 40))
    root[np.arange(40), order] = np.sqrt(weights[order])
    root[44, 3] = np.sqrt(weights[3])  # twice, and rows of nothing
    weights[3] *= 2
    expected = fc.fit(X, S, ridge=weights, solver=solver, tol=TOL)
    rows, columns = np.nonzero(root)
    explicit = sp.coo_array(  # a zero beside the entry of the first row
        (np.r_[root[rows, columns], 0.0], (np.r_[rows, 0], np.r_[columns, order[1]])), shape=root.shape
    )
    assert explicit.nnz == 42
    for form in (root, sp.csc_array(root), explicit):
        fit = fc.fit(X, S, ridge=form, solver=solver, tol=TOL)
        assert fit.stats["solver"] == solver
        np.testing.assert_allclose(fit.ridge, weights, rtol=8 * EPS)
        np.testing.assert_allclose(
            fit.delta, expected.delta, rtol=0, atol=1e-9 * np.abs(expected.delta).max()
        )


# --- scale, dead channels


@pytest.mark.covering(2)
@pytest.mark.parametrize(("dtype", "exponent"), [(np.float32, 27), (np.float64, 60), (np.float64, 3)])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("method", ["linear", "exact", "diagonal"])
@penalties
def test_no_gain_depends_on_the_units_that_a_penalty_shares(form, method, sign, dtype, exponent):
    X, S, k = data(40, 4, dtype), target(4, size=40), sign * exponent
    ridge, _ = a_penalty(form, X, 0.1)
    matrix = sp.issparse(ridge) or ridge.ndim == 2
    power = 2 * k if matrix else 4 * k
    plain = fc.fit(X, S, ridge=ridge, method=method, tol=1e-9)
    scaled = np.ldexp(X, k).astype(dtype)
    fit = fc.fit(scaled, np.ldexp(S, 2 * k), ridge=ridge * 2.0**power, method=method, tol=1e-9)
    assert fit.status == plain.status
    np.testing.assert_allclose(fit.delta, plain.delta, rtol=0, atol=1e-6 * np.abs(plain.delta).max())
    np.testing.assert_allclose(np.ldexp(fit.loss, -4 * k), plain.loss, rtol=1e-7)
    np.testing.assert_allclose(np.ldexp(fit.loss_at_one, -4 * k), plain.loss_at_one, rtol=1e-9)


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", ["linear", "exact", "line-search", "diagonal"])
@pytest.mark.parametrize("solver", ["cholesky", "pcg"])
@penalties
def test_the_gain_of_a_dead_channel_is_one_whatever_its_neighbours(form, solver, method, dtype, center):
    X, S = data(20, 4, dtype), target(4)
    dead = [0, 7, 19]
    X[dead] = 0.0
    ridge, P = a_penalty(form, X, 0.1, center)
    fit = fc.fit(X, S, ridge=ridge, method=method, solver=solver, center=center, tol=1e-9)
    np.testing.assert_array_equal(fit.gains[dead], 1.0)
    live = np.delete(np.arange(20), dead)
    assert np.all(fit.delta[live] != 0.0)
    if method == "linear":  # the minimum among gains that leave dead channels alone
        A = (naive.gram(X, None, center) + P)[np.ix_(live, live)]
        expected = np.linalg.solve(A, naive.overlaps(X, S, None, center)[live])
        np.testing.assert_allclose(fit.delta[live], expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    if method == "exact":
        _, slope = fc.loss_and_gradient(X.astype(float), S, fit.gains, ridge=ridge, center=center)
        at_one = np.linalg.norm(naive.overlaps(X, S, None, center))
        noise = gradient_rounding(X, S, fit.gains, np.linalg.norm(P, 2), center)
        assert np.linalg.norm(slope[live]) <= 1.001e-9 * at_one + noise


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", ["linear", "exact", "line-search", "diagonal"])
@pytest.mark.parametrize("ridge", ["relative", "each", "some-free", "free", "differences"])
@pytest.mark.parametrize("make", ["alike", "dead"])
def test_channels_without_atoms_keep_their_gains_whatever_the_penalty(make, ridge, method, dtype):
    X = np.tile(np.random.default_rng(0).random(6), (50, 1)).astype(dtype) * (make == "alike")
    options = {
        "relative": {"relative_ridge": _each(50)}, "each": {"ridge": _each(50)},
        "some-free": {"ridge": _some_free(50)}, "free": {"ridge": np.zeros(50)},
        "differences": {"ridge": differences(50)},
    }[ridge]  # fmt: skip
    fit = fc.fit(X, np.eye(6), method=method, **options)
    np.testing.assert_array_equal(fit.gains, 1.0)
    assert fit.status in ("converged", "minimum-norm", "approximate")
    assert "gains    1 to 1" in repr(fit)


def test_ridges_relative_to_the_largest_eigenvalue_may_differ_by_channel(dtype):
    X, S = data(40, 4, dtype), target(4)
    fit = fc.fit(X, S, relative_ridge=_each(40))
    np.testing.assert_allclose(fit.ridge, _each(40) * unit(X), rtol=1e-9)
    np.testing.assert_array_equal(fit.relative_ridge, _each(40))
    same = fc.fit(X, S, ridge=fit.ridge)
    np.testing.assert_allclose(same.delta, fit.delta, rtol=0, atol=1e-9)
    assert "by channel" in repr(fit)
    assert "a matrix, 39 x 40" in repr(fc.fit(X, S, ridge=differences(40)))


# --- ridges far apart


@pytest.mark.covering(2)
@pytest.mark.parametrize("free", [0.0, 1e-300, 1e-20, 1e-13, 1e-9])
@pytest.mark.parametrize("solver", ["auto", "cholesky", "pcg"])
def test_a_channel_with_next_to_no_ridge_is_as_one_with_none(free, solver, dtype):
    X, S = data(40, 4, dtype), target(4)
    ridge = 0.1 * unit(X) * np.r_[free, np.ones(39)]
    fit = fc.fit(X, S, ridge=ridge, solver=solver, tol=TOL)
    assert fit.status == "converged"
    expected = naive.penalised_fit(X, S, np.diag(ridge))
    np.testing.assert_allclose(fit.delta, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("huge", [1e6, 1e12, 1e20, 1e100])
@pytest.mark.parametrize("least", [0.0, 1e-2])
def test_channels_with_a_huge_ridge_are_held_and_others_fitted(huge, least):
    X, S = data(40, 4), target(4)
    ridge = unit(X) * np.r_[[least] * 3, [huge] * 37]
    expected = np.linalg.solve(
        naive.gram(X)[:3, :3] + np.diag(ridge[:3]), naive.overlaps(X, S)[:3]
    )  # of others held at one
    fit = fc.fit(X, S, ridge=ridge, solver="cholesky")
    assert fit.status == "converged"
    np.testing.assert_allclose(fit.delta[:3], expected, rtol=100 / huge + 1e-9)
    assert np.all(np.abs(fit.delta[3:]) <= 100 / huge)


@pytest.mark.parametrize("method", ["linear", "exact", "diagonal"])
def test_penalties_beyond_everything_hold_gains_at_one(method):
    X, S = data(40, 4) * 2.0**-200, target(4) * 2.0**-400
    for ridge in (1e140 * np.eye(40)[::-1], np.arange(1, 41) * 1e300, 1e140 * np.triu(np.ones((40, 40)))):
        fit = fc.fit(X, S, ridge=ridge, method=method)
        np.testing.assert_allclose(fit.gains, 1.0, rtol=0, atol=EPS)


# --- conjugate gradients


@pytest.mark.slow
@pytest.mark.covering(2)
@pytest.mark.parametrize("rank", [None, 0, 5, 300])
@pytest.mark.parametrize("kept", [True, False])
@penalties
def test_conjugate_gradients_are_preconditioned_by_the_diagonal(form, kept, rank, dtype, monkeypatch):
    X, S = data(300, 6, dtype), np.stack([target(6, seed, 300) for seed in range(2)])
    ridge, P = a_penalty(form, X, 0.05)
    states, init = [], pcg.init
    monkeypatch.setattr(pcg, "init", lambda *given: states.append(init(*given)) or states[-1])
    if not kept:
        monkeypatch.setattr("fastcov._fitting.methods.solver_budget", lambda *_: 0.0)
        monkeypatch.setattr("fastcov._solvers._nystrom.working_bytes", lambda *_: 0.0)
    fit = fc.fit(X, S, ridge=ridge, solver="pcg", rank=rank, tol=1e-10)
    assert fit.status == "converged"
    assert fit.stats["preconditioner"] == ("kept" if kept or not fit.stats["rank"] else "made again")
    expected = np.stack([naive.penalised_fit(X, s, P) for s in S])
    assert np.linalg.norm(fit.delta - expected) <= 1e-5 * np.linalg.norm(expected)
    # M = S (F Fᵀ + μI) S with F of the scaled system: with all pivots its inverse is that of GᵀG + diag(P)
    state = states[0]
    if rank == 300:
        R = np.random.default_rng(0).standard_normal((2, 300))
        weights = np.maximum(np.diag(P), 1e-6 * np.trace(naive.gram(X)))
        inverse = np.linalg.solve(naive.gram(X) + np.diag(weights), R.T).T
        single = state.system.problem.dtype == np.float32
        assert np.linalg.norm(state.precondition(R) - inverse) <= (0.05 if single else 1e-4) * np.linalg.norm(
            inverse
        )


def test_weights_of_a_preconditioner_save_iterations():
    X, S = data(300, 6), target(6, size=300)
    spread = 10.0 ** np.random.default_rng(0).uniform(-2, 4, 300) * unit(X)
    assert fc.fit(X, S, ridge=spread, solver="pcg", rank=100).stats["iterations"] <= 15


def test_a_small_budget_leaves_conjugate_gradients_right():
    X, S = data(4000, 6), target(6, size=4000)
    # Differences, and so much of each gain that conjugate gradients need not see the chain end to end.
    root = sp.diags_array([np.ones(3999), -np.ones(3999)], offsets=[0, 1], shape=(3999, 4000))
    ridge = sp.vstack([root, 0.3 * sp.eye_array(4000)]) * np.sqrt(0.1 * unit(X[:500]))
    fit = fc.fit(X, S, ridge=ridge, solver="pcg", rank=200, memory_budget=4e6, tol=1e-10)
    assert fit.stats["preconditioner"] == "made again" or fit.stats["rank"] < 200
    assert fit.status == "converged"
    left = naive.overlaps_of(X, S) - naive.gram_products(X, fit.delta) - ridge.T @ (ridge @ fit.delta)
    assert np.linalg.norm(left) <= 1.1e-10 * np.linalg.norm(naive.overlaps_of(X, S))


def test_products_quadratic_forms_and_sums_of_a_penalty_are_those_of_its_matrix():
    V = np.random.default_rng(0).standard_normal((3, 20))
    for form in PENALTIES:
        given = PENALTIES[form](20)
        P = naive.penalty(dense(given), 20)
        penalty = Penalty.of("ridge", given, 20)
        np.testing.assert_allclose(penalty.products(V), V @ P, rtol=0, atol=1e-13 * np.abs(P).sum())
        np.testing.assert_allclose(penalty.products(V[0]), V[0] @ P, rtol=0, atol=1e-13 * np.abs(P).sum())
        np.testing.assert_allclose(penalty.quadratic(V), np.sum(V @ P * V, axis=1), rtol=1e-12)
        np.testing.assert_allclose(penalty.quadratic(V[0]), V[0] @ P @ V[0], rtol=1e-12)
        np.testing.assert_allclose(penalty.weights, np.diag(P), rtol=1e-13)
        assert penalty.largest >= np.linalg.norm(P, 2) * (1 - 1e-12)
        A = np.zeros((20, 20))
        penalty.add_to(A)
        np.testing.assert_allclose(np.tril(A), np.tril(P), rtol=0, atol=1e-13 * np.abs(P).sum())


@pytest.mark.covering(2)
@pytest.mark.parametrize("short", [True, False], ids=["compiled", "by-blocks"])
@pytest.mark.parametrize("linear", [True, False], ids=["linear", "exact"])
@penalties
def test_what_is_minimised_has_value_gradient_and_curvature_of_the_penalty(form, linear, short, center):
    X, S, z = data(12, 4), target(4), random_gains(12)
    ridge, P = a_penalty(form, X, 0.1, center)
    problem = Problem.of(X, center=center)
    assert problem.exponent == 0  # or the units are not those of the oracle
    objective = Objective(
        problem, S, Penalty.of("ridge", ridge, 12), naive.covariance(X, None, center), squared_norms(problem),
        linear=linear, compiled=short,
    )  # fmt: skip
    point, v = objective.at(z), np.random.default_rng(1).standard_normal(12)

    def value(z):
        plain = naive.linear_loss if linear else naive.loss
        return plain(X, S, z, 0.0, center) + (z - 1) @ P @ (z - 1) / 2

    H = P + (naive.gram(X, None, center) if linear else naive.hessian(X, S, z, 0.0, center))
    np.testing.assert_allclose(point.value, value(z), rtol=1e-12)
    np.testing.assert_allclose(objective.value(z), value(z), rtol=1e-12)
    slope = naive.penalised_gradient(X, S, z, P, center, linear=linear)
    np.testing.assert_allclose(point.gradient, slope, rtol=0, atol=1e-11 * np.abs(slope).max())
    Hv, Gv = objective.product(point, v)
    np.testing.assert_allclose(Hv, H @ v, rtol=0, atol=1e-11 * np.abs(H).max() * np.abs(v).max())
    quartic = np.polynomial.Polynomial(objective.along(point, v, Gv))
    for t in (-1.0, 0.3, 2.0):
        np.testing.assert_allclose(quartic(t), value(z + t * v), rtol=1e-11)
    least = objective.norms if linear else np.diag(naive.gram(X, z, center))
    assert np.all(point.diagonal(objective.penalty.weights) >= (least + np.diag(P)) * (1 - 1e-12))


@pytest.mark.parametrize("size", [1e10, 1e20, 1e150])
def test_iterations_tell_rounding_of_huge_ridges_from_that_of_others(size):
    X, S = data(40, 12), target(12, size=40)
    ridge = np.r_[[0.0] * 3, [size] * 37]
    direct, iterated = (fc.fit(X, S, ridge=ridge, solver=solver) for solver in ("cholesky", "pcg"))
    assert iterated.residual <= 1.001e-8
    np.testing.assert_allclose(iterated.delta[:3], direct.delta[:3], rtol=1e-5)


def test_channels_that_are_all_alike_are_smoothed_within_bounds():
    X, S = np.ones((3, 1)) * [1.0, 2.0, 0.5], np.eye(3)  # no atoms: the loss is the penalty
    rough = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [0.1, 0.0, 0.0]])
    fit = fc.fit(X, S, ridge=rough, bounds=([2.0, -np.inf, -np.inf], None), tol=1e-10)
    np.testing.assert_allclose(fit.gains, [2.0, 2.0, 2.0], rtol=1e-8)


def test_a_penalty_far_from_its_diagonal_is_factored_where_that_fits():
    X, S = data(400, 12), target(12, size=400)
    rough = (
        1e3
        * np.sqrt(naive.gram(X).max())
        * sp.diags_array([np.ones(399), -np.ones(399)], offsets=[0, 1], shape=(399, 400))
    )
    fit = fc.fit(X, S, ridge=rough)
    assert fit.stats["solver"] == "cholesky"
    assert fit.residual < 1e-9


def test_iterations_that_do_not_end_give_way_to_a_factor(monkeypatch):
    X, S = data(60, 8), target(8, size=60)
    rough = np.diff(np.eye(60), axis=0)[:, ::1] * 1e3
    monkeypatch.setattr(
        "fastcov._solvers._plan.ANY_PENALTY_FACTOR", 0.0
    )  # so that pcg is taken for the fastest
    fit = fc.fit(X, S, ridge=rough, max_iterations=2)
    assert (fit.stats["solver"], fit.status) == ("cholesky", "converged")
    assert fit.stats["reason"].startswith("pcg ended with max-iterations")


def test_relative_ridges_are_no_matrix():
    X, S = data(20, 6), target(6)
    with pytest.raises(ValueError, match=r"Argument 'relative_ridge' must be .* not a matrix"):
        fc.fit(X, S, relative_ridge=0.1 * np.eye(20))
