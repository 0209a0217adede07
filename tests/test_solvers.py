"""Every solver of (GᵀG + λI) δ = b beside the dense answer, whatever the size, dtype, layout and ridge."""

import hypothesis
import hypothesis.strategies as st
import naive
import numpy as np
import pytest
from cases import LAYOUTS, data, target, within

import fastcov as fc
from fastcov._model.problem import Problem
from fastcov._model.products import squared_norms
from fastcov._model.ridge_penalty import Penalty
from fastcov._solvers import SOLVERS, Options, System, _refinement, spectral

EPS = np.finfo(np.float64).eps

# Name in the table: solver, and options for N channels.
TABLE = {
    "cholesky": ("cholesky", lambda N: {}),
    "dual": ("dual", lambda N: {}),
    "spectral": ("spectral", lambda N: {}),
    "pcg": ("pcg", lambda N: {}),
    "pcg-bare": ("pcg", lambda N: {"rank": 0}),
    "pcg-full-rank": ("pcg", lambda N: {"rank": N}),
    "pcg-made-again": ("pcg", lambda N: {"rank": N // 2, "budget": 0.0}),
}
# N below, at and above the P = D(D+1)/2 pairs of conditions, and one channel.
SHAPES = [(1, 3), (7, 4), (10, 4), (40, 4)]
RELATIVE = [10.0, 1.0, 1e-3, 1e-6]


def a_system(X, relative, gains=None, center=True):
    """GᵀG + λI with λ beside the largest eigenvalue; the same from the oracle, and that eigenvalue."""
    top = np.linalg.norm(naive.atoms(X, gains, center), 2) ** 2
    ridge = relative * (top or 1.0)
    problem = Problem.of(X, gains=gains, center=center)
    assert problem.exponent == problem.gain_exponent == 0  # or the units are not those of the oracle
    A = naive.gram(X, gains, center, np.longdouble) + ridge * np.eye(len(X))
    return System(problem, Penalty(ridge), squared_norms(problem)), A, top


def right_hand_sides(X, gains=None, center=True):
    """In the range of Gᵀ, large and small; a unit vector, twice; any; and zero."""
    G, random = naive.atoms(X, gains, center), np.random.default_rng(5)
    inside = random.standard_normal((2, len(G))) @ G
    unit = np.eye(len(X))[0]
    return np.stack([inside[0], 1e-6 * inside[1], unit, random.standard_normal(len(X)), 0 * unit, unit])


def solve(name, system, rhs, **more):
    solver, options = TABLE[name]
    module = SOLVERS[solver]
    options = Options(**{**options(rhs.shape[1]), **more})
    return module.solve(module.init(system, options), rhs)


def residuals(A, x, b):
    return np.linalg.norm((b - x @ A).astype(np.float64), axis=1)


def allowed(name, A, x, b, tol=Options.tol):
    """Norm of a residual: 30 roundings, as in LAPACK's own tests, and what the solver stops at.

    Refinement stops at a largest residual of REFINED times the largest of b.
    """
    norm = np.linalg.norm(A.astype(np.float64), 2)
    size = np.linalg.norm(b, axis=1)
    stops = tol * size if name.startswith("pcg") else 0.0
    stops = stops + np.sqrt(b.shape[1]) * _refinement.REFINED * np.abs(b).max(axis=1)
    return 30 * EPS * (norm * np.linalg.norm(x, axis=1) + size) + stops


@pytest.mark.covering(2)
@pytest.mark.parametrize("relative", RELATIVE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", TABLE)
def test_every_solver_leaves_no_more_than_it_says(name, shape, relative, dtype, center, at):
    X, gains = data(*shape, dtype), at(shape[0])
    system, A, _ = a_system(X, relative, gains, center)
    b = right_hand_sides(X, gains, center)
    before = b.copy()
    solution = solve(name, system, b)
    x = solution.value
    np.testing.assert_array_equal(b, before)
    assert solution.status == "converged"
    limit = allowed(name, A, x, b)
    within(residuals(A, x, b), 0.0 * limit, limit)
    np.testing.assert_array_equal(x[4], 0.0)  # b = 0
    # A ≥ λ: no error is larger than a residual over λ; so are two solutions of one system.
    limit = (
        limit + allowed(name, A, dense := naive.solve(X, b, system.ridge, gains, center), b)
    ) / system.ridge
    within(np.linalg.norm(x - dense, axis=1), 0.0 * limit, limit)
    assert np.linalg.norm(x[2] - x[5]) <= 2 * limit[2]


@pytest.mark.covering(2)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", TABLE)
def test_no_solver_depends_on_memory_layout(name, layout, dtype, center, tmp_path):
    plain = data(40, 4, dtype)
    if layout == "broadcast":
        plain = np.repeat(plain[:, :1], 4, axis=1)
    X = LAYOUTS[layout](data(40, 4, dtype), tmp_path)
    system, A, _ = a_system(plain, 1e-3, None, center)
    b = right_hand_sides(plain, None, center)
    problem = Problem.of(X, center=center)
    found = solve(name, System(problem, system.penalty, squared_norms(problem)), b)
    limit = allowed(name, A, found.value, b)
    within(residuals(A, found.value, b), 0.0 * limit, limit)


# The error is at most the residual times the condition of GᵀG + λI, relative to the solution.
AGREEMENT = 1e-6


def tolerance_for(relative):
    """Of pcg, for gains good to AGREEMENT: it times λ / (λ_max + λ)."""
    return AGREEMENT * relative / (1 + relative)


@pytest.mark.covering(2)
@pytest.mark.parametrize("relative", RELATIVE)
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
@pytest.mark.parametrize("solver", SOLVERS)
def test_fits_of_all_solvers_agree_with_the_dense_one_for_both_dtypes(solver, shape, relative, dtype, center):
    # The values of X are those of float32 for both dtypes: the oracle's answer is one.
    N, D = shape
    X, S = data(N, D, dtype), np.stack([target(D, 1, N), target(D, 2, N)])
    ridge = relative * np.linalg.norm(naive.atoms(X, None, center), 2) ** 2
    fit = fc.fit(X, S, ridge=ridge, center=center, solver=solver, tol=tolerance_for(relative))
    assert fit.stats["solver"] == solver
    assert fit.status == "converged"
    expected = np.stack([naive.linear_fit(X, s, ridge, center) for s in S])
    error = np.linalg.norm(fit.delta - expected, axis=1)
    assert np.all(error <= AGREEMENT * np.linalg.norm(expected, axis=1))


# Powers of two, so that the scaled responses are exact: 1e±30 and 1e±60.
@pytest.mark.covering(2)
@pytest.mark.parametrize(("dtype", "exponent"), [(np.float32, 100), (np.float64, 200), (np.float64, 3)])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("solver", SOLVERS)
def test_no_gain_depends_on_the_units_of_the_responses(solver, sign, dtype, exponent):
    X, S = data(40, 4, dtype), target(4, size=40)
    ridge, k = 1e-2 * np.linalg.norm(naive.atoms(X), 2) ** 2, sign * exponent
    expected = naive.linear_fit(X, S, ridge)
    scaled = np.ldexp(X, k).astype(dtype)
    assert np.array_equal(np.ldexp(scaled, -k), X)
    fit = fc.fit(scaled, np.ldexp(S, 2 * k), ridge=np.ldexp(ridge, 4 * k), solver=solver, tol=1e-12)
    assert fit.status == "converged"
    assert np.linalg.norm(fit.delta - expected) <= AGREEMENT * np.linalg.norm(expected)


@pytest.mark.parametrize("solver", SOLVERS)
def test_gains_move_with_their_channels(solver, dtype, center):
    X, S, order = data(40, 4, dtype), target(4, size=40), np.random.default_rng(3).permutation(40)
    ridge = 1e-3 * np.linalg.norm(naive.atoms(X, None, center), 2) ** 2
    options = {"ridge": ridge, "center": center, "solver": solver, "tol": tolerance_for(1e-3)}
    fit, moved = fc.fit(X, S, **options), fc.fit(X[order], S, **options)
    assert np.linalg.norm(moved.delta - fit.delta[order]) <= 2 * AGREEMENT * np.linalg.norm(fit.delta)


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
@pytest.mark.parametrize("solver", SOLVERS)
def test_dead_channels_stay_at_one_and_duplicates_are_alike(solver, shape, dtype, center):
    X, S = data(*shape, dtype), target(shape[1], size=shape[0])
    X[[0, 5]] = 0.0
    X[3] = X[1]
    ridge = 1e-3 * np.linalg.norm(naive.atoms(X, None, center), 2) ** 2
    fit = fc.fit(X, S, ridge=ridge, center=center, solver=solver, tol=tolerance_for(1e-3))
    expected = naive.linear_fit(X, S, ridge, center)
    expected[[0, 5]] = 0.0  # centred, they have atoms of 0 x̃ᵀ = 0: rounding in the oracle, exact here
    np.testing.assert_array_equal(fit.gains[[0, 5]], 1.0)
    limit = AGREEMENT * np.linalg.norm(expected)
    assert np.linalg.norm(fit.delta - expected) <= limit
    assert abs(fit.delta[3] - fit.delta[1]) <= 2 * limit


@pytest.mark.covering(2)
@pytest.mark.parametrize("rows", [1, 7, 40])
@pytest.mark.parametrize("name", TABLE)
def test_no_solver_depends_on_how_a_file_is_read(name, rows, dtype, set_block_rows, monkeypatch, tmp_path):
    plain = data(40, 4, dtype)
    system, A, _ = a_system(plain, 1e-3)
    b = right_hand_sides(plain)
    set_block_rows(rows, 4)
    monkeypatch.setattr("fastcov._rows.stored.CHUNK_BYTES", 2 * rows * 4 * plain.itemsize)
    problem = Problem.of(LAYOUTS["memory-map"](plain, tmp_path))
    found = solve(name, System(problem, system.penalty, squared_norms(problem)), b)
    limit = allowed(name, A, found.value, b)
    within(residuals(A, found.value, b), 0.0 * limit, limit)


def test_a_state_serves_several_right_hand_sides_and_keeps_none():
    X = data(40, 4)
    system, _, _ = a_system(X, 1e-3)
    b = right_hand_sides(X)
    for solver in SOLVERS.values():
        state = solver.init(system, Options())
        first, again = solver.solve(state, b), solver.solve(state, b)
        np.testing.assert_array_equal(first.value, again.value)
        assert not np.shares_memory(first.value, again.value)


# --- spectral: one decomposition, many ridges


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_one_spectral_state_serves_all_ridges(shape, dtype, center, at):
    X, gains = data(*shape, dtype), at(shape[0])
    b = right_hand_sides(X, gains, center)
    system, _, top = a_system(X, 1.0, gains, center)
    state = spectral.init(system, Options())
    assert state.dual == (shape[0] > shape[1] * (shape[1] + 1) // 2)
    for relative in RELATIVE:
        _, A, _ = a_system(X, relative, gains, center)
        solution = next(state.each([[Penalty(relative * top)]], b))[0]
        assert solution.status == "converged"
        limit = allowed("spectral", A, solution.value, b)
        within(residuals(A, solution.value, b), 0.0 * limit, limit)
    assert state.system.ridge == top  # that of the state stays


@pytest.mark.covering(2)
@pytest.mark.parametrize("rank_of_x", [4, 2])
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_spectral_without_a_ridge_is_the_pseudoinverse(shape, rank_of_x, dtype, center):
    N, D = shape
    X = data(N, D, dtype)
    if rank_of_x < D:  # small whole numbers: the rank is exact in any precision
        random = np.random.default_rng(7)
        X = (random.integers(-3, 4, (N, rank_of_x)) @ random.integers(-2, 3, (rank_of_x, D))).astype(dtype)
    G = naive.atoms(X, None, center)
    values = np.linalg.svd(G, compute_uv=False)
    rank = int(np.sum(values > 1e-6 * values[0]))
    assert rank < min(N, D * (D + 1) // 2) or rank_of_x == D
    system, _, _ = a_system(X, 1.0, None, center)
    b = right_hand_sides(X, None, center)
    solution = next(spectral.init(system, Options()).each([[Penalty(0.0)]], b))[0]
    assert solution.status == "minimum-norm"
    assert solution.stats["rank"] == rank
    # Vectors of GᵀG are good to N ε times its largest eigenvalue over the smallest that counts, and
    # its inverse is as large as one over that.
    condition = (values[0] / values[rank - 1]) ** 2
    limit = 30 * N * EPS * condition / values[rank - 1] ** 2 * np.linalg.norm(b, axis=1)
    assert 30 * N * EPS * condition < 1e-6
    within(np.linalg.norm(solution.value - naive.solve(X, b, 0, None, center), axis=1), 0 * limit, limit)


@pytest.mark.parametrize("solver", ["cholesky", "dual", "spectral"])
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_factors_leave_a_ridge_of_zero_to_the_spectral_solver(solver, shape, dtype):
    X, S = data(*shape, dtype), target(shape[1])
    fit, spectral_fit = (fc.fit(X, S, ridge=0, solver=s) for s in (solver, "spectral"))
    assert fit.status == "minimum-norm"
    np.testing.assert_array_equal(fit.delta, spectral_fit.delta)


# --- random problems


@st.composite
def problems(draw):
    N, D = draw(st.integers(1, 40)), draw(st.integers(1, 8))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    X = random.standard_normal((N, D)) + draw(st.sampled_from([0.0, 1.0, 30.0]))
    X *= 10.0 ** random.uniform(-draw(st.sampled_from([0, 3])), 0, (N, 1))  # channels of other sizes
    if draw(st.booleans()):
        X[random.integers(N, size=N // 3)] = X[0]
    if draw(st.booleans()):
        X[random.integers(N, size=1 + N // 4)] = 0.0
    X = X.astype(np.float32) * 2.0 ** draw(st.integers(-10, 10))
    return X.astype(draw(st.sampled_from([np.float32, np.float64]))), draw(st.booleans())


@hypothesis.given(problems(), st.sampled_from(sorted(TABLE)), st.floats(-9, 3), st.sampled_from([1e-4, 1e-8]))
def test_what_is_called_converged_is(problem, name, decades, tol):
    X, center = problem
    system, A, _ = a_system(X, 10.0**decades, None, center)
    b = right_hand_sides(X, None, center)
    solution = solve(name, system, b, tol=tol)
    x = solution.value
    assert np.isfinite(x).all()
    assert solution.status in (("converged", "stagnated") if name.startswith("pcg") else ("converged",))
    if solution.status == "stagnated":  # what rounding explains, and it is said
        assert decades < -5
        return
    limit = allowed(name, A, x, b, tol)
    within(residuals(A, x, b), 0.0 * limit, limit)
