"""Conjugate gradients: how they end, in what precision, and the preconditioner with its random pivots."""

import naive
import numpy as np
import pytest
from cases import data, random_gains, target, within

import fastcov as fc
from fastcov._model.problem import Problem
from fastcov._model.products import squared_norms
from fastcov._model.ridge_penalty import Penalty
from fastcov._solvers import Options, System, _nystrom, pcg
from fastcov._solvers._nystrom import Preconditioner, choose_pivots, working_bytes
from fastcov._solvers._solution import SINGLE

EPS = np.finfo(np.float64).eps


def a_system(X, relative, center=True, gains=None):
    """GᵀG + λI and the oracle's GᵀG."""
    A = naive.gram(X, gains, center)
    problem = Problem.of(X, gains=gains, center=center)
    return System(problem, Penalty(relative * np.linalg.norm(A, 2)), squared_norms(problem)), A


def run(system, b, **options):
    return pcg.solve(pcg.init(system, Options(**options)), b)


def inside(X, T=1, seed=5):
    """Right-hand sides in the range of Gᵀ."""
    G = naive.atoms(X)
    return np.random.default_rng(seed).standard_normal((T, len(G))) @ G


def relative_residual(system, A, x, b):
    left = b - x @ A - system.ridge * x
    return np.linalg.norm(left, axis=1) / np.linalg.norm(b, axis=1)


# --- how they end


def test_iterations_that_end_too_soon_are_said_to():
    X, S = data(40, 6), target(6, size=40)
    options = {"relative_ridge": 1e-6, "solver": "pcg", "rank": 0}
    needed = fc.fit(X, S, **options).stats["iterations"]
    assert needed > 5
    with pytest.warns(
        fc.ConvergenceWarning, match="when the iterations ended: use another solver, more max_iterations"
    ):
        fit = fc.fit(X, S, max_iterations=needed - 1, **options)
    assert fit.status == "max-iterations"
    assert "max-iterations" in repr(fit)
    assert fit.stats["iterations"] == needed - 1
    assert fit.residual > 1e-8
    assert fc.fit(X, S, max_iterations=needed, **options).status == "converged"


@pytest.mark.covering(2)
@pytest.mark.parametrize("rank", [None, 0])
@pytest.mark.parametrize("relative", [10.0, 1e-3, 1e-6])
@pytest.mark.parametrize("tol", [1e-15, 1e-16, 1e-18, 1e-300])
def test_a_tolerance_below_rounding_ends_at_rounding(tol, relative, rank):
    X, S = data(40, 4), target(4, size=40)
    fit = fc.fit(X, S, relative_ridge=relative, solver="pcg", tol=tol, rank=rank)
    assert fit.status == "converged"  # rounding explains what is left
    expected = naive.linear_fit(X, S, fit.ridge)
    # ‖A‖ ‖δ‖ roundings are left, and λ divides them.
    limit = 100 * EPS * (1 + 1 / relative) * np.linalg.norm(expected)
    assert np.linalg.norm(fit.delta - expected) <= limit
    assert fit.stats["iterations"] < 1000


@pytest.mark.covering(2)
@pytest.mark.parametrize("tol", [1e-8, 1e-12, 1e-14, 1e-16])
@pytest.mark.parametrize("shape", [(7, 4), (40, 4), (65, 6)], ids=str)
@pytest.mark.parametrize("rank", [None, 0])
def test_without_a_ridge_the_gains_are_those_of_minimum_norm_whatever_the_tolerance(rank, shape, tol):
    X, S = data(*shape), target(shape[1], size=shape[0])
    values = np.linalg.svd(naive.atoms(X), compute_uv=False)
    condition = (values[0] / values[min(shape[0], shape[1] * (shape[1] + 1) // 2) - 1]) ** 2
    fit = fc.fit(X, S, ridge=0, solver="pcg", tol=tol, rank=rank)
    assert (fit.status, fit.stats["solver"]) == ("minimum-norm", "spectral")
    expected = naive.linear_fit(X, S, 0)
    limit = 100 * EPS * condition * np.linalg.norm(expected)
    assert np.linalg.norm(fit.delta - expected) <= limit


@pytest.mark.parametrize("ridge", [1e50, 1e200, 1e300])
def test_a_ridge_above_everything_is_no_breakdown(ridge, dtype):
    fit = fc.fit(data(40, 4, dtype), target(4), ridge=ridge, solver="pcg")
    assert fit.status == "converged"
    np.testing.assert_allclose(fit.gains, 1.0, rtol=0, atol=EPS)


@pytest.mark.parametrize("factor", [np.nan, -1.0, 0.0])
def test_a_breakdown_is_told_from_slow_convergence(factor, monkeypatch):
    product = System.product
    monkeypatch.setattr(System, "product", lambda self, V: factor * product(self, V))
    with pytest.warns(fc.ConvergenceWarning, match="where rounding has broken it"):
        fit = fc.fit(data(40, 4), target(4, size=40), relative_ridge=1e-2, solver="pcg", rank=0)
    assert fit.status == "breakdown"
    np.testing.assert_array_equal(fit.gains, 1.0)  # where it began: what had been reached is kept


def test_right_hand_sides_that_are_solved_take_no_more_products(monkeypatch):
    X = data(40, 6)
    system, A = a_system(X, 1e-3)
    _, vectors = np.linalg.eigh(A)
    # one eigenvector, five of them, and all: 1, 5 and more iterations
    b = np.stack([vectors[:, -1], vectors[:, -5:].sum(axis=1), *inside(X)])
    widths, product = [], System.product

    def counted(self, V):
        widths.append(len(V))
        return product(self, V)

    monkeypatch.setattr(System, "product", counted)
    solution = run(system, b, rank=0)
    assert solution.status == "converged"
    assert np.all(relative_residual(system, A, solution.value, b) <= 1.001e-8)
    assert widths[0] == 3
    assert widths[-1] == 1
    # together they take about what they take alone; a residual that is computed anew may come sooner
    alone = [run(system, row[np.newaxis], rank=0).stats["iterations"] for row in b]
    assert alone[0] < alone[1] < alone[2] <= solution.stats["iterations"] + 2
    assert sum(widths) < 3 * len(widths)


# --- precision


def test_products_are_in_float32_where_that_will_do(dtype):
    X = data(65, 6, dtype)
    for relative, products in ((1e-2, "float32"), (SINGLE / 10, "float64")):
        system, _ = a_system(X, relative)
        solution = run(system, inside(X), tol=1e-8)
        assert solution.stats["products"] == products
        assert solution.status == "converged"


@pytest.mark.parametrize("tol", [1e-8, 1e-12])
def test_products_that_gain_no_digits_in_float32_go_on_in_float64(tol, dtype, monkeypatch):
    # λ far below what float32 resolves beside λ_max; by its own rule it would begin in float64.
    monkeypatch.setattr("fastcov._solvers._solution.SINGLE", 1e-12)
    X = data(65, 6, dtype)
    system, A = a_system(X, 3e-9)
    b = np.stack([*inside(X), np.random.default_rng(0).standard_normal(65) * 1e-3 + inside(X)[0]])
    assert system.single
    solution = run(system, b, tol=tol, rank=0)
    assert solution.stats["products"] == "float64"
    assert solution.status in ("converged", "stagnated")
    # the second one is not in the range of Gᵀ: rounding of ‖A‖ ‖x‖ is more than a small tolerance
    size = np.linalg.norm(A, 2) * np.linalg.norm(solution.value, axis=1) / np.linalg.norm(b, axis=1)
    limit = 1.001 * tol + 30 * EPS * size
    within(relative_residual(system, A, solution.value, b), np.zeros(2), limit)
    assert np.all(limit < 1e-7)


@pytest.mark.parametrize("share", [1.0, 1.5, 5.0])
def test_near_the_least_ridge_of_float32_the_tolerance_is_still_reached(share, dtype):
    X = data(65, 6, dtype)
    problem = Problem.of(X)
    diagonal, A = squared_norms(problem), naive.gram(X)
    system = System(problem, Penalty(share * SINGLE * diagonal.sum()), diagonal)
    assert system.single
    b = inside(X, 3)
    for rank in (None, 0, 65):
        solution = run(system, b, tol=1e-12, rank=rank)
        assert solution.status == "converged"
        assert np.all(relative_residual(system, A, solution.value, b) <= 1.001e-12)


@pytest.mark.parametrize("rank", [0, 30, 65])
def test_a_tiny_ridge_is_solved_as_far_as_rounding_lets_it(rank, dtype):
    X, S = data(65, 6, dtype), target(6, size=65)
    fit = fc.fit(X, S, relative_ridge=1e-9, solver="pcg", rank=rank)
    assert fit.status == "converged"
    assert fit.residual <= 1.001e-8
    if rank == 65:
        assert fit.stats["iterations"] <= 5  # the preconditioner is the inverse, to rounding / λ


# --- what it says, and repeats


@pytest.mark.parametrize(("rank", "used"), [(0, 0), (5, 5), (40, 10)])  # GᵀG of (40, 4) has a rank of 10
def test_stats_of_a_fit_by_conjugate_gradients(rank, used):
    X, S = data(40, 4), target(4, size=40)
    stats = fc.fit(X, S, relative_ridge=0.1, solver="pcg", rank=rank).stats
    assert stats["solver"] == "pcg"
    assert stats["rank"] == used
    assert stats["preconditioner"] == "kept"
    assert stats["products"] == "float32"
    assert 1 <= stats["renewals"] <= stats["iterations"] < 30


def test_the_preconditioner_saves_iterations():
    X, S = data(300, 10), target(10, size=300)
    bare, full = (
        fc.fit(X, S, relative_ridge=1e-6, solver="pcg", rank=rank).stats["iterations"] for rank in (0, 300)
    )
    assert full <= 5 < 20 < bare


def test_a_preconditioner_that_does_not_fit_is_cut_or_made_again():
    X = data(65, 6)
    system, A = a_system(X, 1e-6)
    b, column = inside(X), 65 * 8
    for columns, rank, preconditioner in ((18, 18, "kept"), (12, 12, "kept"), (3, 18, "made again")):
        solution = run(system, b, rank=18, budget=columns * column + working_bytes(65, 6, 18))
        assert (solution.stats["rank"], solution.stats["preconditioner"]) == (rank, preconditioner)
        assert np.all(relative_residual(system, A, solution.value, b) <= 1.001e-8)


def test_the_same_seed_gives_the_same_bits_and_another_the_same_answer():
    X, S = data(200, 6), target(6, size=200)
    options = {"relative_ridge": 1e-4, "solver": "pcg", "rank": 8, "tol": 1e-11}
    first, again, default = (fc.fit(X, S, rng=rng, **options) for rng in (3, np.random.default_rng(3), 0))
    np.testing.assert_array_equal(first.delta, again.delta)
    np.testing.assert_array_equal(default.delta, fc.fit(X, S, **options).delta)
    others = [fc.fit(X, S, rng=seed, **options).delta for seed in (4, 5)]
    # tol times the condition
    limit = 2 * 1e-11 * (1 + 1e4) * np.linalg.norm(first.delta)
    assert all(0 < np.linalg.norm(other - first.delta) <= limit for other in others)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("rank", 41, ValueError, "at most the 40 channels, not 41"),
        ("rank", -1, ValueError, "at least 0, not -1"),
        ("rank", 2.0, TypeError, "a whole number, not 2.0"),
        ("rank", True, TypeError, "a whole number, not True"),
        ("max_iterations", 0, ValueError, "at least 1, not 0"),
        ("tol", 0, ValueError, "between 0 and 1, not 0"),
        ("tol", 1.0, ValueError, "between 0 and 1, not 1.0"),
        ("tol", np.nan, ValueError, "finite number >= 0, not nan"),
        ("tol", "1", TypeError, "finite number >= 0, not '1'"),
        ("rng", -1, ValueError, "what numpy.random.default_rng takes, not -1"),
        ("rng", "seed", TypeError, "what numpy.random.default_rng takes, not 'seed'"),
        ("memory_budget", 1, ValueError, "at least 1000000 bytes for 40 channels and 1 targets, not 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, value, error, message):
    with pytest.raises(error, match=rf"^Argument '{name}' must .*{message}"):
        fc.fit(data(40, 4), target(4), ridge=1.0, solver="pcg", **{name: value})


def one_hot(N, D, seed=0):
    return 2.0 * np.eye(D)[np.random.default_rng(seed).integers(0, 2, N)]


@pytest.mark.parametrize(
    ("X", "S"),
    [
        (one_hot(300, 6), 300 * np.eye(6)),
        (np.ones((1000, 1)), [[3000.0]]),
        ([[5.0]], [[30.0]]),
        ([[5.0, 1.0]], np.diag([30.0, 2.0])),
    ],
    ids=["one-hot", "equal", "one-number", "one-channel"],
)
@pytest.mark.parametrize("rank", [None, 1])
def test_nothing_left_for_a_pivot_is_no_crash(X, S, rank):
    fit = fc.fit(X, S, relative_ridge=0.1, center=False, solver="pcg", rank=rank)
    assert fit.status == "converged"
    np.testing.assert_allclose(fit.delta, naive.linear_fit(X, S, fit.ridge, center=False), rtol=1e-6)


def test_slow_convergence_is_not_called_stagnation():
    random = np.random.default_rng(1)
    X = random.lognormal(0, 1, (200, 20))
    S = 1.3 * fc.covariance(X) + np.diag(random.random(20)) * 50
    ridge = 1e-6 * np.linalg.eigvalsh(naive.gram(X, center=False))[-1]
    options = {"center": False, "ridge": ridge, "solver": "pcg", "rank": 0}
    fit = fc.fit(X, S, max_iterations=5000, **options)
    assert (fit.status, fit.residual <= 1.001e-8) == ("converged", True)
    with pytest.warns(fc.ConvergenceWarning, match="when the iterations ended"):
        assert fc.fit(X, S, max_iterations=300, **options).status == "max-iterations"


@pytest.mark.parametrize("offset", [1e4, 1e5])
def test_a_large_common_offset_costs_no_iterations(offset):
    X = np.random.default_rng(0).lognormal(0, 1, (300, 12)) + offset
    fit = fc.fit(X, 1.2 * fc.covariance(X), relative_ridge=0.1, solver="pcg")
    assert (fit.status, fit.stats["products"]) == ("converged", "float64")
    assert fit.stats["iterations"] <= 20


# --- the preconditioner


def factor_of(system, pivots):
    return Preconditioner.of(system, pivots, Options(), keep=True).factor.astype(np.float64).T


@pytest.mark.covering(2)
@pytest.mark.parametrize("rank", [1, 4, 9, 40])
def test_the_factor_is_exact_on_the_rows_and_columns_of_its_pivots(rank, dtype, center, at):
    X = data(40, 4, dtype)
    system, A = a_system(X, 1e-2, center, at(40))
    pivots = choose_pivots(system, Options(rank=rank))
    chosen = pivots.channels
    assert len(set(chosen)) == len(chosen) == min(rank, 10)  # as many pairs
    F = factor_of(system, pivots)
    # Columns of A are good to rounding in the precision of the factor, and divided by L.
    limit = 100 * np.finfo(dtype).eps * np.linalg.norm(A, 2) * np.linalg.cond(pivots.lower)
    within(F @ F[chosen].T, A[:, chosen], np.full((40, len(chosen)), limit))
    left = np.trace(A - F @ F.T) / np.trace(A)
    assert left >= -1e-5
    if rank == 40:  # nothing is left but what counts as rounding
        limit = _nystrom.ROUNDING * np.trace(A) + limit
        assert np.linalg.norm(F @ F.T - A, 2) <= limit


def test_dead_and_duplicate_channels_are_no_pivots_beside_their_likes():
    X = data(40, 4)
    X[:10], X[20:30] = 0.0, X[30:]
    system, _ = a_system(X, 1e-2, center=False)
    for seed in range(20):
        chosen = choose_pivots(system, Options(rank=40, rng=seed)).channels
        assert np.all(chosen >= 10)
        likes = np.where(chosen >= 30, chosen - 10, chosen)
        assert len(set(likes)) == len(chosen)


def test_dead_channels_alone_have_no_pivots():
    system, _ = a_system(np.zeros((5, 3)), 0.0)
    assert len(choose_pivots(system, Options(rank=5)).channels) == 0


def pivot_law(A, k):
    """Probability of every ordered choice of k ≤ 2 pivots, each by the diagonal of what is left."""
    first = np.diag(A) / np.trace(A)
    if k == 1:
        return {(i,): p for i, p in enumerate(first)}
    law = {}
    for i, p in enumerate(first):
        left = np.diag(A) - A[:, i] ** 2 / A[i, i]
        left[i] = 0.0
        law.update({(i, j): p * left[j] / left.sum() for j in range(len(A)) if j != i})
    return law


# 0.999 quantiles of chi-square with 3 and 11 degrees of freedom.
@pytest.mark.slow
@pytest.mark.parametrize(("k", "quantile"), [(1, 16.27), (2, 31.26)])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_pivots_follow_the_diagonal_of_what_is_left(batch, k, quantile, monkeypatch):
    monkeypatch.setattr(_nystrom, "BATCH", batch)
    # No channel is rare, and the first two are alike.
    X = np.array([[1.0, 0.2, 0.9], [1.0, 0.5, 0.6], [0.3, 1.1, -0.4], [-0.2, 0.3, 1.2]])
    system, A = a_system(X, 1e-2, center=False)
    law, random, n = pivot_law(A, k), np.random.default_rng(11), 4000
    counts = dict.fromkeys(law, 0)
    for _ in range(n):
        counts[tuple(choose_pivots(system, Options(rank=k, rng=random)).channels)] += 1
    expected = np.array([n * p for p in law.values()])
    assert expected.min() > 5  # or the quantile is not that of chi-square
    assert np.sum((np.array(list(counts.values())) - expected) ** 2 / expected) < quantile
    assert np.ptp(expected) > 50  # and uniform choice would fail


@pytest.mark.parametrize("N", [60, 12])  # weighed again never, and often
def test_the_estimate_of_what_is_left_is_right_on_average(N, monkeypatch):
    monkeypatch.setattr(_nystrom, "BATCH", 6)
    X = data(N, 5)
    system, A = a_system(X, 1e-2)
    found, take = [], _nystrom._take

    def recorded(pivots, *arguments):
        if len(pivots.channels) > 0 and len(found) < 400:
            chosen = pivots.channels
            explained = A[:, chosen] @ np.linalg.solve(A[np.ix_(chosen, chosen)], A[chosen])
            left = np.trace(A - explained) / np.trace(A)
            found.append((pivots.left, left))
        take(pivots, *arguments)

    monkeypatch.setattr(_nystrom, "_take", recorded)
    for seed in range(100):
        choose_pivots(system, Options(rank=8, rng=seed))
    errors = np.subtract(*np.transpose(found))
    assert len(errors) >= 100
    assert abs(errors.mean()) < 4 * errors.std() / np.sqrt(len(errors))
    assert errors.std() > 0


def test_what_is_left_is_exact_after_a_pass_over_all_channels(monkeypatch):
    X = data(60, 5)
    system, A = a_system(X, 1e-2)
    assert _nystrom.BATCH >= 60
    pivots = choose_pivots(system, Options(rank=8))
    F = factor_of(system.astype(np.float64), pivots)
    np.testing.assert_allclose(pivots.left, np.trace(A - F @ F.T) / np.trace(A), rtol=1e-6)


@pytest.mark.parametrize("gains", [None, random_gains(40)], ids=["at-ones", "at-gains"])
def test_the_preconditioner_is_the_inverse_it_says_kept_or_not(gains, dtype):
    X = data(40, 4, dtype)
    system, _ = a_system(X, 1e-2, gains=gains)
    pivots = choose_pivots(system, Options(rank=6))
    kept, again = (Preconditioner.of(system, pivots, Options(), keep=keep) for keep in (True, False))
    assert again.factor is None
    F = kept.factor.astype(np.float64).T
    M = F @ F.T + system.ridge * np.eye(40)
    R = np.random.default_rng(0).standard_normal((3, 40))
    expected = np.linalg.solve(M, R.T).T
    # Rounding of F Fᵀ r in the precision of F, and of its columns divided by L; μ divides it.
    eps = np.finfo(dtype).eps * np.linalg.cond(pivots.lower)
    limit = 100 * eps * np.linalg.cond(M) * np.linalg.norm(expected, axis=1)
    for preconditioner in (kept, again):
        within(np.linalg.norm(preconditioner(R) - expected, axis=1), np.zeros(3), limit)
        # symmetric, as conjugate gradients need it
        inner = preconditioner(R) @ R.T
        within(inner, inner.T, np.full((3, 3), limit.max() * np.linalg.norm(R, 2)))


def test_a_preconditioner_without_pivots_divides_by_the_ridge():
    system, _ = a_system(data(9, 3), 1e-2)
    none = Preconditioner.of(system, choose_pivots(system, Options(rank=0)), Options(), keep=True)
    R = np.eye(9)
    np.testing.assert_array_equal(none(R), R / system.ridge)
