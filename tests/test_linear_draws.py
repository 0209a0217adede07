"""Bootstraps of linear fits by one product, groups of cells, and shared gains, beside refitting."""

import naive
import numpy as np
import pytest
from cases import data
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc
from fastcov._uncertainty import bootstrap, linear_draws


def population(N, D, M, seed=0):
    """X, and the responses of cells that differ in size."""
    random = np.random.default_rng(seed)
    X = data(N, D, seed=seed)
    return X, random.random((M, N)) / N * 3 @ X + 0.3 * random.standard_normal((M, D))


def counts(n, of, seed=0, least=2):
    """The first draws of a generator with this seed."""
    return np.random.default_rng(seed).multinomial(of, np.full(of, 1 / of), size=n)


def weighted_target(Y, weights, at_one, center=True, matched=True, conditions=None):
    """Σ w y yᵀ of weighted cells about their weighted mean; its trace, over weighted conditions, is X's."""
    mean = weights @ Y / weights.sum() if center else 0.0
    S = (Y - mean).T @ (weights[:, np.newaxis] * (Y - mean))
    if not matched:
        return S
    v = np.ones(len(S)) if conditions is None else conditions
    return S * (v @ np.diagonal(at_one)) / (v @ np.diagonal(S))


def condition(X, ridge, center):
    """How much rounding may grow: 1 + ‖GᵀG‖ / λ."""
    return 1 + np.linalg.norm(naive.atoms(X, None, center), 2) ** 2 / ridge


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12), st.integers(2, 8), st.integers(4, 20), st.integers(0, 99), st.booleans(),
    st.booleans(), st.sampled_from([1e-10, 1.0, 1e8]), st.sampled_from([1e-3, 1e-1, 10.0]),
)  # fmt: skip
def test_draws_by_product_are_linear_fits_of_the_drawn_cells(N, D, M, seed, center, product, unit, ridge):
    X, Y = population(N, D, M, seed)
    top = np.linalg.norm(naive.atoms(X, None, center), 2) ** 2
    if not top > 1e-6 * np.square(X).sum() ** 2:  # one channel about its own mean
        return
    fit = fc.fit(unit * X, responses=Y / unit, ridge=unit**4 * ridge * top, center=center)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_draws, "is_shorter", lambda *_: product)
        found = fit.uncertainty(Y / unit, n_boot=5).draws
    ones = naive.covariance(X, None, center)
    for draw, n in zip(found, bootstrap._counts(np.random.default_rng(0), 5, M, 2), strict=True):
        S = weighted_target(Y, n.astype(float), ones, center)
        expected = naive.linear_fit(X, S, ridge * top, center)
        # A and b are sums of N or M products each, of sizes at most ‖GᵀG‖ and ‖G‖ ‖e₀‖.
        size = 1 + np.linalg.norm(S - ones) / np.sqrt(top)
        bound = 1e-14 * (N + M + D) * (1 + 1 / ridge) * size / ridge
        assert np.abs(draw - 1 - expected).max() <= bound


RIDGES = {
    "each": np.arange(1.0, 10.0) * 3,
    "matrix": np.vstack([np.eye(9) * 4.0, np.diff(np.eye(9), axis=0)]),
}
OFF = 1.0 - np.eye(6)
WEIGHTS = (lambda w: w + w.T)(np.random.default_rng(5).random((6, 6)))


@pytest.mark.covering(strength=2)
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("ridge", [*RIDGES, "one"])
@pytest.mark.parametrize("terms", [(), ("diagonal",), ("diagonal", "constant")], ids=str)
@pytest.mark.parametrize("pairs", [None, OFF, WEIGHTS], ids=["all", "off", "weights"])
@pytest.mark.parametrize("scale", [None, 0.5])
@pytest.mark.parametrize("product", [True, False])
def test_draws_by_product_take_every_penalty_term_and_pair(
    monkeypatch, center, ridge, terms, pairs, scale, product
):
    X, Y = population(9, 6, 14)
    options = {
        "ridge": RIDGES.get(ridge, 9.0),
        "center": center,
        "nuisance": list(terms) or None,
        "pairs": pairs,
    }
    S = (scale or 1.0) * fc.target_covariance(Y, like=X, center=center)
    fit = fc.fit(X, S, **options)
    monkeypatch.setattr(linear_draws, "is_shorter", lambda *_: product)
    found = fit.uncertainty(Y, n_boot=4).draws
    ones = naive.covariance(X, None, center)
    factor = np.trace(S) / np.trace(naive.covariance(Y, None, center))
    for draw, n in zip(found, counts(4, len(Y)), strict=True):
        drawn = weighted_target(Y, n.astype(float), ones, center, matched=scale is None)
        alone = fc.fit(X, drawn * (1.0 if scale is None else factor), **options)
        assert_allclose(draw, alone.gains, atol=1e-10)


def test_a_product_is_taken_where_it_is_shorter():
    """Cells beyond pairs of conditions make its matrix larger than the targets."""
    seen = []
    for N, D, M in ((9, 6, 14), (60, 4, 400), (4, 9, 1000)):
        X, Y = population(N, D, M)
        fit = fc.fit(X, responses=Y, relative_ridge=0.1)
        with pytest.MonkeyPatch.context() as patch:
            original = linear_draws.from_cells
            patch.setattr(linear_draws, "from_cells", lambda *a: seen.append(1) or original(*a))  # noqa: B023
            draws = fit.uncertainty(Y, n_boot=3).draws
        assert draws.shape == (3, N)
        seen.append(0)
    assert seen == [1, 0, 0, 1, 0]


@pytest.mark.parametrize("blocks", [1, 1 << 26])
def test_blocks_of_cells_and_channels_do_not_matter(monkeypatch, blocks):
    X, Y = population(700, 3, 600)
    X[5] = 0.0
    fit = fc.fit(X, responses=Y, relative_ridge=0.1, solver="cholesky")
    plain = fit.uncertainty(Y, n_boot=300)
    monkeypatch.setattr(linear_draws, "is_shorter", lambda *_: True)
    monkeypatch.setattr(linear_draws, "BLOCK_BYTES", blocks)
    monkeypatch.setattr("fastcov._model.problem.BLOCK_BYTES", 1 << 13)
    found = fit.uncertainty(Y, n_boot=300)
    assert_allclose(found.draws, plain.draws, atol=1e-9)
    assert_allclose(found.se, plain.se, atol=1e-9)
    assert_array_equal(found.draws[:, 5], 1.0)
    some = fit.uncertainty(Y, n_boot=300, channels=[7, 5, 699])
    assert_allclose(some.draws, plain.draws[:, [7, 5, 699]], atol=1e-9)


# ---- groups of cells


GROUPS = np.array(list("bacabbcaccdabd"))


def derivatives(gains, n, h=1e-3):
    """How gains of weights (n,) move with each, by differences of order h⁴."""
    out = []
    for m in range(n):
        moved = [gains(1.0 + k * h * (np.arange(n) == m)) for k in (-2, -1, 1, 2)]
        out.append((8 * (moved[2] - moved[1]) - (moved[3] - moved[0])) / (12 * h))
    return np.array(out)


def errors(f):
    n = len(f)
    return np.sqrt(n / (n - 1) * (np.square(f).sum(0) - f.sum(0) ** 2 / n))


def minimum(X, S, ridge, z):
    """The minimum of the exact loss near gains z, by Newton's steps, which converge quadratically."""
    for _ in range(30):
        H = naive.hessian(X, S, z, ridge)
        step = np.linalg.solve(H, naive.loss_gradient(X, S, z, ridge))
        z = z - step
        if np.abs(step).max() < 1e-13:
            break
    assert np.linalg.eigvalsh(H)[0] > 0
    return z


def fitted(X, S, fit):
    """Gains of another target, by the method of a fit."""
    if fit.method == "linear":
        return 1 + naive.linear_fit(X, S, fit.ridge)
    return minimum(X, S, fit.ridge, fit.gains)


@pytest.mark.parametrize("method", ["linear", "exact"])
def test_the_influence_of_a_group_is_that_of_its_weight(method):
    X, Y = population(9, 6, 14)
    tol = {"tol": 1e-10} if method == "exact" else {}
    fit = fc.fit(X, responses=Y, ridge=20.0, method=method, **tol)
    found = fit.uncertainty(Y, cell_groups=GROUPS)
    names, places = np.unique(GROUPS, return_inverse=True)
    ones = naive.covariance(X)
    f = derivatives(lambda w: fitted(X, weighted_target(Y, w[places], ones), fit), len(names))
    assert_allclose(found.se, errors(f), rtol=1e-5, atol=1e-7)
    assert found.stats["n"] == {"cells": [4]}
    assert "over cells in 4 groups" in repr(found)
    # Student's t has at most one degree of freedom less than there are groups.
    plain = fit.uncertainty(Y)
    half = (found.upper - found.gains) / found.se
    assert half.min() >= 3.182 > ((plain.upper - plain.gains) / plain.se).min()


def test_a_group_for_each_cell_changes_nothing():
    X, Y = population(9, 6, 14)
    fit = fc.fit(X, responses=Y, ridge=20.0)
    for n_boot in (0, 7):
        plain, found = (
            fit.uncertainty(Y, n_boot=n_boot),
            fit.uncertainty(Y, n_boot=n_boot, cell_groups=range(14)),
        )
        assert_array_equal(found.se, plain.se)
        assert_array_equal(found.lower, plain.lower)


@pytest.mark.parametrize("method", ["linear", "exact", "line-search"])
@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_draws_of_groups_are_fits_of_all_cells_of_these_groups(monkeypatch, method, product, center):
    X, Y = population(9, 6, 14)
    ridge = 400.0  # so large that the exact loss has one minimum, wherever a fit begins
    fit = fc.fit(X, responses=Y, ridge=ridge, method=method, center=center)
    monkeypatch.setattr(linear_draws, "is_shorter", lambda *_: product)
    found = fit.uncertainty(Y, n_boot=6, cell_groups=GROUPS)
    names = np.unique(GROUPS)
    drawn = bootstrap._counts(np.random.default_rng(0), 6, len(names), 1)
    for draw, n in zip(found.draws, drawn, strict=True):
        cells = np.concatenate([np.tile(Y[names[a] == GROUPS], (n[a], 1)) for a in range(len(names)) if n[a]])
        alone = fc.fit(X, responses=cells, ridge=ridge, method=method, center=center)
        assert_allclose(draw, alone.gains, atol=1e-4 if method == "exact" else 1e-10)


def test_groups_that_are_alike_give_wider_intervals_than_their_cells():
    """Ten cells of each animal that are nearly one cell are not ten cells."""
    X, Y = population(9, 6, 8)
    Y = np.repeat(Y, 10, axis=0)
    fit = fc.fit(X, responses=Y, ridge=20.0)
    cells, animals = fit.uncertainty(Y), fit.uncertainty(Y, cell_groups=np.repeat(np.arange(8), 10))
    # Sums of ten equal influences: ten times as much variance, but for (n − 1)/n of 8 and of 80.
    assert_allclose(animals.se / cells.se, np.sqrt(10 * (8 / 7) / (80 / 79)), rtol=1e-9)
    alone = fc.fit(X, responses=Y[::10], ridge=20.0).uncertainty(Y[::10])
    assert_allclose(animals.se, alone.se, rtol=1e-9)


# ---- targets that share gains


def several(sizes=(14, 9, 20)):
    X, _ = population(9, 6, 4)
    Y = [population(9, 6, M, seed=s + 1)[1] * (s + 1) for s, M in enumerate(sizes)]
    return X, Y, np.stack([fc.target_covariance(each, like=X) for each in Y])


@pytest.mark.parametrize("method", ["linear", "exact"])
@pytest.mark.parametrize("grouped", [False, True])
def test_errors_over_the_cells_of_all_targets_are_added(method, grouped):
    X, Y, S = several()
    tol = {"tol": 1e-10} if method == "exact" else {}
    fit = fc.fit(X, S, ridge=20.0, method=method, shared=True, **tol)
    labels = [np.arange(len(each)) // 2 for each in Y] if grouped else None
    found = fit.uncertainty(Y, cell_groups=labels)
    ones, total = naive.covariance(X), 0.0
    for t, each in enumerate(Y):
        places = labels[t] if grouped else np.arange(len(each))

        def gains(w, t=t, each=each, places=places):
            own = weighted_target(each, w[places], ones)
            return fitted(X, np.mean([own if k == t else S[k] for k in range(3)], axis=0), fit)

        total = total + errors(derivatives(gains, places.max() + 1)) ** 2
    assert_allclose(found.se, np.sqrt(total), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["linear", "exact"])
def test_errors_over_targets_are_those_of_their_weights(method):
    X, _, S = several()
    tol = {"tol": 1e-10} if method == "exact" else {}
    fit = fc.fit(X, S, ridge=20.0, method=method, shared=True, **tol)
    found = fit.uncertainty(by="targets")
    f = derivatives(lambda w: fitted(X, np.average(S, axis=0, weights=w), fit), len(S))
    assert_allclose(found.se, errors(f), rtol=1e-5, atol=1e-7)
    assert found.stats["n"] == {"targets": 3}
    assert "over targets, jackknife" in repr(found)
    assert found.table().by == "targets"
    for draw, n in zip(fit.uncertainty(by="targets", n_boot=5).draws, counts(5, 3), strict=True):
        assert_allclose(draw, fitted(X, np.average(S, axis=0, weights=n), fit), atol=1e-4)


def test_errors_over_conditions_match_the_scale_of_each_target():
    X, _, S = several()
    S[1] *= 3.0  # its scale is not matched
    fit = fc.fit(X, S, ridge=20.0, shared=True)
    ones = naive.covariance(X)

    def gains(w):
        traces = [w @ np.diagonal(ones) / (w @ np.diagonal(each)) for each in S]
        traces[1] = 1.0
        mean = np.mean([c * each for c, each in zip(traces, S, strict=True)], axis=0)
        root = np.sqrt(np.outer(w, w)).ravel()
        G = root[:, np.newaxis] * naive.atoms(X)
        return np.linalg.solve(G.T @ G + 20.0 * np.eye(9), G.T @ (root * (mean - ones).ravel()))

    assert_allclose(fit.uncertainty(by="conditions").se, errors(derivatives(gains, 6)), rtol=1e-5, atol=1e-7)
    for draw, n in zip(fit.uncertainty(by="conditions", n_boot=5).draws, counts(5, 6), strict=True):
        # The mean over channels is that of each condition, whatever its weight.
        assert_allclose(draw - 1, gains(n.astype(float)), atol=1e-10)


@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("method", ["linear", "exact"])
def test_draws_of_the_cells_of_all_targets_are_fits_of_their_mean(monkeypatch, product, method):
    X, Y, S = several()
    fit = fc.fit(X, S, ridge=20.0, method=method, shared=True)
    monkeypatch.setattr(linear_draws, "is_shorter", lambda *_: product)
    found, ones = fit.uncertainty(Y, n_boot=4), naive.covariance(X)
    random = np.random.default_rng(0)
    drawn = [bootstrap._counts(random, 4, len(each), 2) for each in Y]
    for b, draw in enumerate(found.draws):
        parts = [weighted_target(each, n[b].astype(float), ones) for each, n in zip(Y, drawn, strict=True)]
        expected = fitted(X, np.mean(parts, axis=0), fit)
        assert_allclose(draw, expected, atol=1e-4 if method == "exact" else 1e-10)


def test_a_shared_fit_that_was_loaded_knows_its_targets(tmp_path):
    X, Y, S = several()
    fit = fc.fit(X, S, ridge=20.0, shared=True)
    fit.save(tmp_path / "fit.npz")
    again = fc.load(tmp_path / "fit.npz")
    for arguments in ({"by": "targets"}, {"Y": Y}, {"by": "conditions"}):
        assert_array_equal(again.uncertainty(X=X, **arguments).se, fit.uncertainty(**arguments).se)


def test_bad_groups_and_targets():
    X, Y, S = several()
    one, shared = fc.fit(X, S[0], ridge=20.0), fc.fit(X, S, ridge=20.0, shared=True)
    with pytest.raises(ValueError, match="'cell_groups' must have a label for each of the 14 cells"):
        one.uncertainty(Y[0], cell_groups=[1, 2, 3])
    with pytest.raises(ValueError, match="'cell_groups' must name at least two groups"):
        one.uncertainty(Y[0], cell_groups=np.zeros(14))
    with pytest.raises(ValueError, match="'cell_groups' must name the group of each cell, not be nan"):
        one.uncertainty(Y[0], cell_groups=np.where(np.arange(14) == 3, np.nan, 1.0))
    with pytest.raises(ValueError, match="'cell_groups' must be None for by='conditions'"):
        one.uncertainty(by="conditions", cell_groups=GROUPS)
    with pytest.raises(ValueError, match=r"'by' must be .* for gains of a single target"):
        one.uncertainty(by="targets")
    with pytest.raises(ValueError, match="list with the responses behind each of the 3 targets"):
        shared.uncertainty(Y[0])
    with pytest.raises(ValueError, match="'cell_groups' must be a list with the labels of the cells behind"):
        shared.uncertainty(Y, cell_groups=GROUPS)
    with pytest.raises(ValueError, match=r"'by' must be .* for gains of a single target"):
        fc.fit(X, S[:1], ridge=20.0, shared=True).uncertainty(by="targets")
    missing = np.array([*"abcabcabcabca", None], dtype=object)
    assert one.uncertainty(Y[0], cell_groups=missing).stats["cell_groups"] == [4]
