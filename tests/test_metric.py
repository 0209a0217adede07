"""Nuisance terms and pairs that count: S ≈ C(z) + βI + γ11ᵀ over some pairs of conditions."""

import naive
import numpy as np
import pytest
from cases import data, target, within
from hypothesis import given, settings
from hypothesis import strategies as st

import fastcov as fc
from fastcov._inputs.labels import UNLABELLED
from fastcov._model.metric import Metric
from fastcov._model.packed import pack
from fastcov._model.problem import Problem
from fastcov._model.products import gram_columns, gram_triangle, squared_norms
from fastcov._solvers._pairs import dual_gram

N, D, SHARE = 40, 7, 0.05
RIDGE = 300.0
BOTH = ("diagonal", "constant")


def weights(seed=5):
    W = np.random.default_rng(seed).random((D, D))
    W = W + W.T
    W[0, 1] = W[1, 0] = W[2, 2] = 0.0
    return W


def mask():
    return weights() > 0.6


OFF = 1.0 - np.eye(D)
CASES = {
    "diagonal": (("diagonal",), None),
    "constant": (("constant",), None),
    "both": (BOTH, None),
    "off-diagonal": ((), OFF),
    "off-diagonal, constant": (("constant",), OFF),
    "off-diagonal, both": (BOTH, OFF),
    "mask": ((), mask()),
    "mask, both": (BOTH, mask()),
    "weights": ((), weights()),
    "weights, constant": (("constant",), weights()),
    "weights, both": (BOTH, weights()),
    "pairs of one condition, both": (BOTH, np.eye(D)),
}
cases = pytest.mark.parametrize("case", CASES)
centers = pytest.mark.parametrize("center", [True, False])


def asked(case):
    """Arguments of a fit; off-diagonal pairs by name."""
    nuisance, pairs = CASES[case]
    return {"nuisance": nuisance, "pairs": "off-diagonal" if pairs is OFF else pairs}


def oracle(case, X, S, center=True, ridge=RIDGE):
    return naive.Counted(X, S, ridge, center, *CASES[case])


def unknown(S, case):
    """S with NaN where pairs do not count."""
    pairs = CASES[case][1]
    return S if pairs is None else np.where(np.asarray(pairs) == 0, np.nan, S)


def rounding(problem, delta):
    """Largest error of a linear solution: ε (‖A‖‖δ‖ + ‖b‖) / λ, of plain atoms, times the lengths of sums."""
    G = naive.atoms(problem.X, None, problem.center)
    scale = np.max(np.abs(problem.R)) ** 2 * np.linalg.norm(G)
    size = scale * (
        np.linalg.norm(G) * np.linalg.norm(delta)
        + np.linalg.norm(problem.S)
        + np.linalg.norm(naive.covariance(problem.X, None, problem.center))
    )
    return (N + 2 * D * D) * np.finfo(np.float64).eps * size / problem.ridge


@pytest.mark.covering(2)
@cases
@centers
@pytest.mark.parametrize("solver", ["cholesky", "dual", "spectral", "pcg"])
def test_linear_fits_are_those_of_projected_atoms_with_each_solver(case, center, solver):
    X, S = data(N, D), target(D)
    problem = oracle(case, X, S, center)
    fit = fc.fit(X, unknown(S, case), ridge=RIDGE, solver=solver, center=center, tol=1e-12, **asked(case))
    delta = problem.linear()
    # pcg leaves a residual of 1e-12 of b, or of rounding.
    pcg = 1e-12 * np.linalg.norm(problem.G.T @ problem.e) / RIDGE
    assert np.linalg.norm(fit.delta - delta) <= rounding(problem, delta) + pcg * (solver == "pcg")
    assert solver not in ("cholesky", "dual") or "rank" not in fit.stats  # no other took its place
    np.testing.assert_allclose(fit.loss, problem.loss(fit.gains), rtol=1e-11)
    np.testing.assert_allclose(fit.loss_at_one, problem.e @ problem.e / 2, rtol=1e-11)


@pytest.mark.covering(2)
@cases
@centers
@pytest.mark.parametrize("gains", [None, 1 + 0.3 * np.random.default_rng(3).standard_normal(N)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_entries_of_the_gram_are_products_of_projected_atoms(case, center, gains, dtype):
    X = data(N, D, dtype)
    G = naive.projection(D, *CASES[case]) @ naive.atoms(X, gains, center)
    problem = Problem.of(X, gains=gains, center=center).with_metric(*asked(case).values(), UNLABELLED)
    # Sums of D squares of plain atoms, from which others are subtracted.
    plain = np.max(weights()) * np.sum(naive.atoms(X, gains, center) ** 2, axis=0)
    bound = (2 * D * D + 20) * np.finfo(dtype).eps * np.sqrt(np.outer(plain, plain))
    within(gram_triangle(problem, mirror=True), G.T @ G, bound)
    within(gram_columns(problem, np.array([3, 0, 5])), G.T @ G[:, [3, 0, 5]], bound[:, [3, 0, 5]])
    within(squared_norms(problem), np.sum(G**2, axis=0), np.diag(bound))
    K = dual_gram(problem, lambda _: None)
    images = pack(np.ascontiguousarray(G.T).reshape(N, D, D))
    within(np.tril(K), np.tril(images.T @ images), (N + D * D + 20) * np.finfo(dtype).eps * plain.sum())


@cases
@centers
def test_relative_ridges_are_of_the_largest_eigenvalue_of_projected_atoms(case, center):
    X, S = data(N, D), target(D)
    fit = fc.fit(X, S, relative_ridge=SHARE, center=center, **asked(case))
    largest = np.linalg.norm(oracle(case, X, S, center).G, 2) ** 2
    assert abs(fit.ridge / (SHARE * largest) - 1) < 1e-8  # Lanczos


@pytest.mark.covering(2)
@cases
@pytest.mark.parametrize("bounds", [None, (0.8, 1.2)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_exact_fits_end_where_the_projected_gradient_vanishes(case, bounds, dtype):
    X, S = data(N, D, dtype), target(D)
    fit = fc.fit(X, unknown(S, case), ridge=RIDGE, method="exact", tol=1e-8, bounds=bounds, **asked(case))
    problem, z = oracle(case, X, S), fit.gains
    left = problem.gradient(z)
    if bounds is not None:
        left = naive.projected(left, z, *bounds)
        assert np.any((z == 0.8) | (z == 1.2))
    assert np.linalg.norm(left) <= 1.1e-8 * np.linalg.norm(problem.gradient(np.ones(N)))
    assert fit.status == "converged"
    np.testing.assert_allclose(fit.loss, problem.loss(z), rtol=1e-11)
    np.testing.assert_allclose(
        fit.covariance(), naive.covariance(X, z), rtol=0, atol=1e-12 * np.max(fit.covariance())
    )


@cases
def test_passes_that_are_not_compiled_as_one_say_the_same(case, monkeypatch):
    X, S = data(N, D), target(D)
    short = fc.fit(X, S, ridge=RIDGE, method="exact", tol=1e-9, **asked(case))
    monkeypatch.setattr("fastcov._exact_loss.objective.COMPILED", 0)
    long = fc.fit(X, S, ridge=RIDGE, method="exact", tol=1e-9, **asked(case))
    np.testing.assert_allclose(short.gains, long.gains, atol=1e-7)
    assert short.stats["iterations"] == long.stats["iterations"]


@cases
def test_the_other_methods_use_projected_atoms_too(case):
    X, S = data(N, D), target(D)
    problem = oracle(case, X, S)
    diagonal = fc.fit(X, S, ridge=RIDGE, method="diagonal", **asked(case))
    np.testing.assert_allclose(diagonal.delta, problem.diagonal(), rtol=1e-8, atol=1e-10)
    line = fc.fit(X, S, ridge=RIDGE, method="line-search", **asked(case))
    t = line.stats["step"]
    losses = [problem.loss(1 + step * problem.linear()) for step in (0.999 * t, t, 1.001 * t)]
    assert losses[1] <= min(losses)
    np.testing.assert_allclose(line.loss, losses[1], rtol=1e-10)
    bounded = fc.fit(X, S, ridge=RIDGE, bounds=(-50, 50), tol=1e-10, **asked(case))
    np.testing.assert_allclose(bounded.delta, problem.linear(), atol=1e-7)


@cases
@centers
def test_the_loss_is_least_over_the_terms_and_its_gradient_is_that_of_differences(case, center):
    X, S = data(N, D), target(D)
    nuisance, pairs = CASES[case]
    z = 1 + 0.3 * np.random.default_rng(4).standard_normal(N)
    error = S - naive.covariance(X, z, center)
    w = np.ones((D, D)) if pairs is None else pairs
    left = naive.nuisance_terms(error, nuisance, pairs)[1] if nuisance else np.sum(w * error**2)
    expected = left / 2 + RIDGE * np.sum((z - 1) ** 2) / 2
    keywords = {"ridge": RIDGE, "center": center, **asked(case)}
    loss, gradient = fc.loss_and_gradient(X, unknown(S, case), z, **keywords)
    np.testing.assert_allclose([loss, fc.loss(X, unknown(S, case), z, **keywords)], expected, rtol=1e-11)
    np.testing.assert_allclose(gradient, oracle(case, X, S, center).gradient(z), rtol=1e-9, atol=1e-9 * loss)
    step = 1e-4
    slopes = [
        (fc.loss(X, S, z + step * u, **keywords) - fc.loss(X, S, z - step * u, **keywords)) / (2 * step)
        for u in np.eye(N)[:5]
    ]
    np.testing.assert_allclose(slopes, gradient[:5], atol=1e-6 * np.abs(gradient).max())


def test_many_candidates_have_the_losses_of_one_by_one():
    X, S, Z = data(N, D), target(D), 1 + 0.2 * np.random.default_rng(0).standard_normal((20, N))
    together = fc.loss(X, S, Z, nuisance=BOTH)
    np.testing.assert_allclose(together, [fc.loss(X, S, z, nuisance=BOTH) for z in Z], rtol=1e-13)


@cases
def test_terms_and_scores_of_a_fit_are_those_of_least_squares(case):
    X, S = data(N, D), target(D)
    nuisance, pairs = CASES[case]
    fit = fc.fit(X, unknown(S, case), ridge=RIDGE, method="exact", **asked(case))
    w = np.ones((D, D)) if pairs is None else pairs
    assert tuple(fit.nuisance) == nuisance
    left = fit.prediction() - S
    assert np.isclose(fit.r2, 1 - np.sum(w * left**2) / np.sum(w * S**2), rtol=1e-10)
    added = fit.prediction() - fit.covariance()
    if nuisance:
        terms, least = naive.nuisance_terms(S - fit.covariance(), nuisance, pairs)
        assert np.isclose(np.sum(w * left**2), least, rtol=1e-10)
        if case not in ("off-diagonal, both", "pairs of one condition, both"):  # where one is not determined
            np.testing.assert_allclose(list(fit.nuisance.values()), terms, rtol=1e-8)
    expected = fit.nuisance.get("diagonal", 0) * np.eye(D) + fit.nuisance.get("constant", 0)
    np.testing.assert_allclose(added, expected, atol=1e-12 * np.max(fit.covariance()))


def test_a_term_that_no_pair_tells_is_zero():
    X, S = data(N, D), target(D)
    assert fc.fit(X, S, ridge=RIDGE, nuisance=BOTH, pairs="off-diagonal").nuisance["diagonal"] == 0
    assert fc.fit(X, S, ridge=RIDGE, nuisance=BOTH, pairs=np.eye(D)).nuisance["constant"] == 0


@settings(deadline=None, max_examples=15)
@given(st.floats(-30, 30), st.floats(-30, 30), st.permutations(range(D)), st.integers(-60, 60))
def test_gains_do_not_change_with_what_terms_take_up_order_or_units(c, d, order, exponent):
    X, S, scale = data(N, D), target(D), 2.0**exponent
    plain = fc.fit(X, S, ridge=RIDGE, nuisance=BOTH)
    order = np.array(order)
    T = scale**2 * (S + c * np.eye(D) + d)[np.ix_(order, order)]
    moved = fc.fit(scale * X[:, order], T, ridge=RIDGE * scale**4, nuisance=BOTH)
    np.testing.assert_allclose(moved.delta, plain.delta, atol=1e-10)
    found = np.array([moved.nuisance[name] for name in BOTH]) / scale**2
    np.testing.assert_allclose(
        found, [plain.nuisance["diagonal"] + c, plain.nuisance["constant"] + d], atol=1e-8
    )


def test_pairs_that_all_count_are_no_pairs_to_the_bit():
    X, S = data(N, D), target(D)
    plain = fc.fit(X, S, ridge=RIDGE, method="exact")
    for pairs in (np.ones((D, D)), np.ones((D, D), bool), "all"):
        assert np.array_equal(
            fc.fit(X, S, ridge=RIDGE, method="exact", pairs=pairs, nuisance=()).gains, plain.gains
        )
    assert (plain.nuisance, plain.stats["pairs"]) == ({}, "all")


def test_conditions_of_no_weight_are_as_if_dropped():
    X, S, kept = data(N, D), target(D), np.arange(D) != 3
    W = np.outer(kept, kept)
    some = fc.fit(X, S, ridge=RIDGE, method="exact", nuisance=BOTH, pairs=W, tol=1e-9)
    dropped = fc.fit(X[:, kept], S[np.ix_(kept, kept)], ridge=RIDGE, method="exact", nuisance=BOTH, tol=1e-9)
    np.testing.assert_allclose(some.gains, dropped.gains, atol=1e-7)
    np.testing.assert_allclose(some.loss, dropped.loss, rtol=1e-10)


def test_taken_conditions_have_the_weights_they_had():
    metric = Metric.of(BOTH, weights(), D).take([4, 1, 5])
    assert np.array_equal(metric.weights, weights()[np.ix_([4, 1, 5], [4, 1, 5])])
    assert Metric.of(None, "off-diagonal", D).take(np.arange(D) < 4).off_diagonal
    E = np.random.default_rng(0).standard_normal((3, 3))
    R = naive.projection(3, BOTH, metric.weights)
    np.testing.assert_allclose(metric.image(E).ravel(), R @ E.ravel(), atol=1e-14)
    np.testing.assert_allclose(metric.adjoint(E).ravel(), R.T @ E.ravel(), atol=1e-14)
    np.testing.assert_allclose(metric.pull(E).ravel(), R.T @ R @ E.ravel(), atol=1e-14)


@pytest.mark.parametrize("method", ["linear", "exact"])
def test_paths_and_stacks_are_their_fits_one_by_one(method):
    X, stack = data(N, D), np.stack([target(D), target(D, seed=9)])
    keywords = {"method": method, "tol": 1e-9, "nuisance": BOTH, "pairs": weights()}
    path = fc.ridge_path(X, stack, ridges=[30.0, RIDGE], **keywords)
    for fit in path:
        for k, S in enumerate(stack):
            alone = fc.fit(X, S, ridge=fit.ridge, **keywords)
            np.testing.assert_allclose(fit.gains[k], alone.gains, atol=1e-6)
            assert np.isclose(fit.nuisance["constant"][k], alone.nuisance["constant"], rtol=1e-5)
    assert "nuisance" in repr(path[0])


@cases
def test_an_explanation_adds_up(case):
    X, S = data(N, D), target(D)
    problem = oracle(case, X, S)
    why = fc.explain(X, S, RIDGE, **asked(case))
    values = np.linalg.svd(problem.G, compute_uv=False) ** 2
    K = len(why.spectrum)
    np.testing.assert_allclose(why.spectrum, values[:K], atol=1e-9 * values[0])
    np.testing.assert_allclose(why.overlaps, problem.G.T @ problem.e, atol=1e-9 * np.abs(why.overlaps).max())
    np.testing.assert_allclose(why.squared_norms, np.sum(problem.G**2, axis=0), atol=1e-10 * values[0])
    assert np.isclose(why.filter(3) @ why.overlaps, why.delta[3], atol=1e-9)
    assert np.isclose(why.total, problem.e @ problem.e)
    left = problem.e - problem.G @ why.delta
    assert np.isclose(why.unreachable + why.left_by_ridge, left @ left, rtol=1e-6, atol=1e-9 * why.total)
    assert np.isclose(why.overlap_pairs(3).sum(), why.overlaps[3], atol=1e-9 * np.abs(why.overlaps).max())
    assert np.isclose(why.contributions(3).others.sum() + why.diagonal_delta[3], why.delta[3], atol=1e-9)


@pytest.mark.parametrize("solver", ["cholesky", "dual", "pcg"])
def test_atoms_that_terms_take_up_wholly_leave_gains_of_one(solver):
    X = np.outer(1.0 + np.arange(N), np.ones(D))  # uncentred, each atom is a multiple of 11ᵀ
    fit = fc.fit(X, target(D), ridge=RIDGE, center=False, nuisance="constant", solver=solver)
    assert np.array_equal(fit.gains, np.ones(N))


def test_a_large_common_offset_that_a_term_takes_up_costs_no_gains():
    X = data(N, D) + 1e3
    S = fc.covariance(X, gains=1 + 0.01 * np.random.default_rng(1).standard_normal(N), center=False)
    fit = fc.fit(X, S, relative_ridge=0.1, center=False, nuisance="constant", solver="cholesky")
    problem = oracle("constant", X, S, False, fit.ridge)
    residual = problem.G.T @ (problem.e - problem.G @ fit.delta) - fit.ridge * fit.delta
    assert np.linalg.norm(residual) <= 1e-6 * np.linalg.norm(problem.G.T @ problem.e)
