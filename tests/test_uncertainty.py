"""Fit.uncertainty against refitted data, and against formulas with G formed."""

import csv
import pickle
import tracemalloc

import naive
import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc

# Fits go to a gradient of TOL of that at gains of one, so that derivatives are those of a minimum.
TOL = 1e-10


def data(N=9, D=6, M=14, seed=0):
    random = np.random.default_rng(seed)
    X = np.abs(random.standard_normal((N, D))) + 0.3 * random.standard_normal((N, 1))
    mixture = random.random((M, N)) / N * 3
    return X, mixture @ (np.exp(0.3 * random.standard_normal(N))[:, None] * X) + 0.1 * random.standard_normal(
        (M, D)
    )


def root_of(ridge, N):
    """A matrix whose square is the penalty."""
    if np.ndim(ridge) == 2:
        return np.asarray(ridge)
    return np.diag(np.sqrt(np.broadcast_to(ridge, N)))


def weighted_fit(
    X, Y, ridge, *, cells, conditions, exact, center=True, terms=(), pairs=None, start=None, free=None
):
    """Gains of weighted cells and conditions: least squares over gains, β and γ, from the definition."""
    N, D = X.shape
    mean = (cells @ Y) / cells.sum() if center else 0.0
    raw = (Y - mean).T @ (cells[:, None] * (Y - mean))
    ones = naive.covariance(X, center=center)
    S = raw * (conditions @ np.diagonal(ones)) / (conditions @ np.diagonal(raw))
    weight = np.sqrt(np.outer(conditions, conditions) * (1.0 if pairs is None else pairs)).ravel()
    extra = [{"diagonal": np.eye(D), "constant": np.ones((D, D))}[name] for name in terms]
    root, G = root_of(ridge, N), naive.atoms(X, None, center)
    free = np.ones(N, bool) if free is None else free
    base = np.ones(N) if start is None else start.copy()

    def parts(theta):
        z = base.copy()
        z[free] = theta[: free.sum()]
        there = naive.covariance(X, z, center) if exact else ones + (G @ (z - 1)).reshape(D, D)
        for value, matrix in zip(theta[free.sum() :], extra, strict=True):
            there = there + value * matrix
        return z, there - S

    def residual(theta):
        z, error = parts(theta)
        return np.concatenate([weight * error.ravel(), root @ (z - 1)])

    def jacobian(theta):
        z, _ = parts(theta)
        atoms = naive.atoms(X, z, center) if exact else G
        columns = [weight[:, None] * atoms[:, free], *(weight[:, None] * m.ravel()[:, None] for m in extra)]
        below = np.hstack([root[:, free], np.zeros((len(root), len(extra)))])
        return np.vstack([np.hstack(columns), below])

    first = np.concatenate([base[free], np.zeros(len(extra))])
    for _ in range(2):
        first = scipy.optimize.least_squares(
            residual, first, jacobian, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15
        ).x
    return parts(first)[0]


def derivatives(X, Y, fit, kind, free=None, **options):
    """How the gains move with the weight of each cell or condition, by differences of order h⁴ (n, N)."""
    n, h, out = (len(Y) if kind == "cells" else X.shape[1]), 2e-3, []
    for m in range(n):
        moved = {}
        for k in (-2, -1, 1, 2):
            weights = {"cells": np.ones(len(Y)), "conditions": np.ones(X.shape[1])}
            weights[kind][m] += k * h
            moved[k] = weighted_fit(X, Y, fit.ridge, start=fit.gains, free=free, **weights, **options)
        out.append((8 * (moved[1] - moved[-1]) - (moved[2] - moved[-2])) / (12 * h))
    return np.array(out)


def errors(f):
    n = len(f)
    return np.sqrt(n / (n - 1) * (np.square(f).sum(0) - f.sum(0) ** 2 / n))


def hessian(X, S, fit, center=True):
    """H with all of its matrices formed."""
    N = len(X)
    root = root_of(fit.ridge, N)
    z = fit.gains if fit.method == "exact" else None
    G = naive.atoms(X, z, center)
    H = G.T @ G + root.T @ root
    if fit.method == "exact":
        J = np.eye(N) - 1 / N if center else np.eye(N)
        H = H + 2 * (X @ (naive.covariance(X, fit.gains, center) - S) @ X.T) * J
    return H, root.T @ root


def fitted(X, Y, method, ridge=0.3, **options):
    tol = {"tol": TOL} if method == "exact" else {}
    return fc.fit(X, responses=Y, ridge=ridge, method=method, **tol, **options)


RIDGES = {
    "one": 5.0,
    "each": np.arange(1.0, 10.0),
    "matrix": np.vstack([np.eye(9) * 2.0, np.diff(np.eye(9), axis=0)]),
}
OFF = 1.0 - np.eye(6)
WEIGHTS = (lambda w: w + w.T)(np.random.default_rng(5).random((6, 6)))


@pytest.mark.covering(strength=2)
@pytest.mark.parametrize("method", ["linear", "exact"])
@pytest.mark.parametrize("kind", ["cells", "conditions"])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("terms", [(), ("diagonal",), ("diagonal", "constant")], ids=str)
@pytest.mark.parametrize("pairs", [None, OFF, WEIGHTS], ids=["all", "off", "weights"])
def test_errors_are_those_of_refitted_weights(method, kind, center, ridge, terms, pairs):
    X, Y = data()
    fit = fitted(X, Y, method, RIDGES[ridge], center=center, nuisance=list(terms) or None, pairs=pairs)
    f = derivatives(X, Y, fit, kind, exact=method == "exact", center=center, terms=terms, pairs=pairs)
    # Least squares go to √ε ~ 1e-8 of a gain, which the differences divide by h.
    assert_allclose(fit.uncertainty(Y, kind).se, errors(f), rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("method", ["linear", "exact"])
@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("center", [True, False])
def test_resolution_is_that_of_the_inverse_hessian(method, ridge, center):
    X, Y = data()
    fit = fitted(X, Y, method, RIDGES[ridge], center=center)
    H, P = hessian(X, fit.target(), fit, center)
    assert_allclose(fit.uncertainty(Y).resolution, 1 - np.diagonal(P @ np.linalg.inv(H)), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 12), st.integers(2, 8), st.integers(3, 20), st.integers(0, 99),
    st.sampled_from(["linear", "exact"]), st.sampled_from([1e-10, 1e-3, 1e3, 1e8, 1e40]),
)  # fmt: skip
def test_both_adds_the_variances_and_units_do_not_matter(N, D, M, seed, method, unit):
    X, Y = data(N, D, M, seed)
    fit = fc.fit(X, responses=Y, relative_ridge=0.2, method=method)
    one, other, both = (fit.uncertainty(Y, by).se for by in ("cells", "conditions", "both"))
    assert_allclose(both, np.hypot(one, other), rtol=1e-12)
    scaled = fc.fit(unit * X, responses=Y / unit, relative_ridge=0.2, method=method)
    assert_allclose(scaled.uncertainty(Y / unit, "both").se, both, rtol=1e-3, atol=1e-6)


def test_a_scale_that_is_not_matched_stays_as_it_is():
    X, Y = data()
    S = 0.5 * fc.target_covariance(Y, like=X)
    fit = fc.fit(X, S, ridge=0.3)
    G, H = naive.atoms(X), hessian(X, S, fc.fit(X, S, ridge=0.3))[0]
    centred = Y - Y.mean(0)
    c = np.trace(S) / np.square(centred).sum()
    u = np.stack([c * (G.T @ np.outer(y, y).ravel()) for y in centred])
    assert_allclose(fit.uncertainty(Y).se, errors(np.linalg.solve(H, u.T).T), rtol=1e-9)


def test_gains_at_a_bound_are_held():
    X, Y = data()
    plain = fitted(X, Y, "exact", 0.05)
    lowest = np.sort(plain.gains)[2]
    fit = fitted(X, Y, "exact", 0.05, bounds=(lowest + 0.01, None))
    found = fit.uncertainty(Y)
    held = fit.gains <= lowest + 0.01
    assert 2 <= held.sum() < 9
    assert_array_equal(found.held, held)
    assert not found.se[held].any()
    assert not found.resolution[held].any()
    f = derivatives(X, Y, fit, "cells", exact=True, free=~held)
    assert_allclose(found.se[~held], errors(f)[~held], rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("method", ["linear", "exact"])
def test_a_stack_is_each_target_alone(method):
    X, _ = data()
    Y = [data(seed=s)[1] for s in (1, 2)]
    S = np.stack([fc.target_covariance(each, like=X) for each in Y])
    together = fc.fit(X, S, ridge=0.3, method=method)
    for by in ("cells", "conditions"):
        found = together.uncertainty(Y, by)
        for k, each in enumerate(Y):
            alone = fc.fit(X, S[k], ridge=0.3, method=method).uncertainty(each, by)
            for name in ("gains", "se", "lower", "upper", "resolution"):
                assert_allclose(getattr(found, name)[k], getattr(alone, name), rtol=1e-4, atol=1e-6)
    assert found.to_frame().index.names == ["target", "channel"]
    assert len(found.table(target=1)) == 9


# ---- the bootstrap


def counts(n, of, seed=0):
    return np.random.default_rng(seed).multinomial(of, np.full(of, 1 / of), size=n)


@pytest.mark.parametrize("method", ["linear", "exact", "line-search", "diagonal"])
@pytest.mark.parametrize("options", [{}, {"nuisance": "diagonal"}, {"bounds": (0.8, 1.3)}], ids=str)
def test_draws_of_cells_are_fits_of_these_cells(method, options):
    X, Y = data(12, 6, 15)
    fit = fitted(X, Y, method, 20.0, **options)
    found = fit.uncertainty(Y, n_boot=6)
    for draw, n in zip(found.draws, counts(6, len(Y)), strict=True):
        alone = fitted(X, np.repeat(Y, n, axis=0), method, 20.0, **options)
        assert_allclose(draw, alone.gains, atol=1e-5)


@pytest.mark.parametrize("method", ["linear", "exact", "line-search", "diagonal"])
@pytest.mark.parametrize("bounds", [None, (0.8, 1.3)])
def test_draws_of_conditions_are_fits_of_these_conditions(method, bounds):
    X, Y = data(12, 8, 15)
    ridge = 20.0 if bounds is None else 300.0  # a single minimum within the bounds
    fit = fitted(X, Y, method, ridge, bounds=bounds)
    found = fit.uncertainty(by="conditions", n_boot=6)
    for draw, n in zip(found.draws, counts(6, 8), strict=True):
        some = np.repeat(np.arange(8), n)
        alone = fitted(X[:, some], Y[:, some], method, ridge, bounds=bounds)
        assert_allclose(draw, alone.gains, atol=1e-5)


def test_draws_of_both_are_fits_of_both():
    X, Y = data(12, 8, 15)
    found = fitted(X, Y, "exact", 20.0).uncertainty(Y, "both", n_boot=4)
    random = np.random.default_rng(0)
    cells = random.multinomial(15, np.full(15, 1 / 15), size=4)
    conditions = random.multinomial(8, np.full(8, 1 / 8), size=4)
    for draw, n, w in zip(found.draws, cells, conditions, strict=True):
        some = np.repeat(np.arange(8), w)
        alone = fitted(X[:, some], np.repeat(Y, n, axis=0)[:, some], "exact", 20.0)
        assert_allclose(draw, alone.gains, atol=1e-5)


def test_weights_of_conditions_count_in_nuisance_terms():
    X, Y = data()
    fit = fitted(X, Y, "exact", 20.0, nuisance=["diagonal", "constant"])
    found = fit.uncertainty(by="conditions", n_boot=5)
    for draw, w in zip(found.draws, counts(5, 6), strict=True):
        alone = weighted_fit(
            X, Y, 20.0, cells=np.ones(len(Y)), conditions=w.astype(float), exact=True,
            terms=("diagonal", "constant"), start=draw,
        )  # fmt: skip
        assert_allclose(draw, alone, atol=1e-5)


def test_intervals_of_a_bootstrap_are_percentiles_of_its_draws():
    X, Y = data()
    found = fitted(X, Y, "exact").uncertainty(Y, n_boot=40, level=0.8)
    assert_allclose(found.se, found.draws.std(axis=0, ddof=1))
    assert_allclose([found.lower, found.upper], np.quantile(found.draws, [0.1, 0.9], axis=0))
    again = fitted(X, Y, "exact").uncertainty(Y, n_boot=40, level=0.8)
    assert_array_equal(found.draws, again.draws)


@pytest.mark.slow
def test_the_jackknife_agrees_with_a_bootstrap():
    sim = fc.datasets.simulate(148, 48, rng=1)
    fit = fc.fit(sim.X, responses=sim.Y, relative_ridge=0.1, method="exact")
    live = sim.X.any(axis=1)
    random = np.random.default_rng(3)
    ratios = []
    for by in ("cells", "conditions"):
        draws = []
        for _ in range(120):
            some = random.integers(148, size=148) if by == "cells" else slice(None)
            kept = random.integers(48, size=48) if by == "conditions" else slice(None)
            X, Y = sim.X[:, kept], sim.Y[some][:, kept]
            draws.append(fc.fit(X, responses=Y, ridge=fit.ridge, method="exact").gains)
        jackknife = fit.uncertainty(sim.Y, by).se
        ratios.append(np.median(jackknife[live] / np.std(draws, axis=0, ddof=1)[live]))
    # An SE from 120 draws has an error of 6.5 %, the median over correlated gains hardly less.
    assert abs(ratios[0] - 1) < 0.13
    assert abs(ratios[1] - 1) < 0.25


# ---- chosen channels, and what the fit remembers


@pytest.mark.parametrize("method", ["linear", "exact"])
@pytest.mark.parametrize("options", [{}, {"nuisance": "diagonal"}, {"bounds": (0.9, 1.1)}], ids=str)
def test_chosen_channels_are_those_of_all(method, options, monkeypatch):
    X, Y = data(12, 6, 15)
    fit = fitted(X, Y, method, 20.0, **options)
    every = fit.uncertainty(Y, "both")
    monkeypatch.setattr("fastcov._uncertainty.estimate.SMALL", 0)
    found = fit.uncertainty(Y, "both", channels=[7, -1, 0], memory_budget=10_000)
    assert found.stats["solver"] == "iterations"
    assert every.stats["solver"] == "factor"
    assert found.names == [7, 11, 0]
    for name in ("gains", "se", "lower", "upper", "resolution", "held"):
        assert_allclose(getattr(found, name), getattr(every, name)[[7, 11, 0]], rtol=1e-6, atol=1e-12)


def test_many_channels_need_a_choice():
    X, Y = data()
    with pytest.raises(MemoryError, match=r"name some with channels=\[…\]"):
        fitted(X, Y, "exact").uncertainty(Y, memory_budget=100)


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.float64])
def test_other_dtypes_and_layouts(dtype):
    X, Y = data()
    X = np.asfortranarray((10 * X).astype(dtype))
    fit = fc.fit(X, responses=Y, relative_ridge=0.1, method="exact")
    alone = fc.fit(X.astype(float), responses=Y, relative_ridge=0.1, method="exact")
    assert_allclose(fit.uncertainty(Y, "both").se, alone.uncertainty(Y, "both").se, rtol=1e-4)


def test_names_are_aligned():
    X, Y = data()
    odours = [f"o{i}" for i in range(6)]
    glomeruli = [f"g{i}" for i in range(9)]
    X, Y = pd.DataFrame(X, glomeruli, odours), pd.DataFrame(Y, columns=odours)
    fit = fc.fit(X, responses=Y, ridge=0.3, method="exact")
    plain = fit.uncertainty(Y)
    with pytest.warns(fc.LabelWarning):
        other = fit.uncertainty(Y[odours[::-1]])
    assert_allclose(plain.se, other.se, rtol=1e-9)
    assert plain.channels == tuple(glomeruli)
    assert fit.uncertainty(Y, channels=["g3"]).channels == ("g3",)
    assert plain.to_frame().index[0] == "g0"
    with pytest.raises(ValueError, match="'channels' must be among the names of the 9 channels, not 'g77'"):
        fit.uncertainty(Y, channels=["g77"])
    assert set(plain.table().names) == set(glomeruli)


def test_a_loaded_or_pickled_fit_needs_its_responses(tmp_path):
    X, Y = data()
    fit = fitted(X, Y, "exact")
    fit.save(tmp_path / "fit.npz")
    for other in (fc.load(tmp_path / "fit.npz"), pickle.loads(pickle.dumps(fit))):
        with pytest.raises(ValueError, match=r"'X' must be the responses that were fitted, not None.*X=X"):
            other.uncertainty(Y)
        assert_array_equal(other.uncertainty(Y, X=X).se, fit.uncertainty(Y).se)


def test_a_large_x_is_not_kept(monkeypatch):
    monkeypatch.setattr("fastcov._results.kept.KEPT_BYTES", 0)
    X, Y = data()
    fit = fitted(X, Y, "exact")
    assert fit.uncertainty(Y).se.shape == (9,)
    del X
    with pytest.raises(ValueError, match="keeps no X that is in a file or larger than 64 MB"):
        fit.uncertainty(Y)


def test_loaded_fits_keep_their_bounds(tmp_path):
    X, Y = data()
    fit = fitted(X, Y, "exact", bounds=(0.95, None))
    fit.save(tmp_path / "fit.npz")
    found = fc.load(tmp_path / "fit.npz").uncertainty(Y, X=X)
    assert_array_equal(found.held, fit.uncertainty(Y).held)
    assert found.held.any()


# ---- tables


def test_intervals_are_students():
    X, Y = data(M=5)
    found = fitted(X, Y, "exact").uncertainty(Y, level=0.9)
    assert_allclose((found.upper - found.gains) / found.se, 2.1318467863266499, rtol=1e-12)  # t, 4 df, 0.95
    assert_allclose(found.gains - found.lower, found.upper - found.gains)


@pytest.mark.parametrize("kind", ["cells", "conditions"])
def test_intervals_are_wider_where_few_have_most_of_the_influence(kind):
    """Degrees of freedom are those of a multiple of χ² that is as uncertain as the sum of squares."""
    X, Y = data(M=20)
    Y[0] *= 5.0
    fit = fitted(X, Y, "exact")
    f = derivatives(X, Y, fit, kind, exact=True)
    f = f - f.mean(axis=0)
    n, v = len(f), np.square(f).sum(axis=0)
    freedom = np.clip(2 * v**2 / (np.sum(f**4, axis=0) - v**2 / n), 1, n - 1)
    assert freedom.min() < (0.6 if kind == "cells" else 1.0) * (n - 1)
    found = fit.uncertainty(Y, kind)
    assert_allclose((found.upper - fit.gains) / found.se, scipy.stats.t.ppf(0.975, freedom), rtol=2e-3)
    both = fit.uncertainty(Y, "both")
    other = fit.uncertainty(Y, "conditions" if kind == "cells" else "cells")
    narrow, wide = sorted([np.median((each.upper - each.gains) / each.se) for each in (found, other)])
    assert narrow * 0.9 < np.median((both.upper - both.gains) / both.se) < wide * 1.1


def test_the_table_is_sorted_and_names_what_changed(tmp_path):
    X, Y = data(12, 8, 40, seed=3)
    fit = fc.fit(X, responses=Y, relative_ridge=0.02, method="exact", n_starts=3)
    found = fit.uncertainty(Y)
    table = found.table()
    sureness = np.abs(table.gain - 1) / table.se
    outside = (table.lower > 1) | (table.upper < 1)
    assert_array_equal(table.changed, outside)
    assert 0 < outside.sum() < 12
    first = outside.sum()
    assert outside[:first].all()
    assert (np.diff(sureness[:first]) <= 0).all()
    assert (np.diff(sureness[first:]) <= 0).all()
    assert table.up + table.down == first
    for column, values in (("gain", fit.gains), ("se", found.se), ("resolution", found.resolution)):
        assert_array_equal(getattr(table, column), values[list(table.names)])
    assert np.isfinite(table.starts).all()
    assert np.isnan(table.p).all()
    table.to_csv(tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["channel"]) for row in rows] == list(table.names)
    assert [float(row["gain"]) for row in rows] == table.gain.tolist()
    assert rows[0]["changed"] == "yes"
    assert rows[0]["p"] == ""
    assert list(table.to_frame().index) == list(table.names)


def test_a_test_adds_p_q_and_agreement_over_folds():
    X, Y = data(12, 10, 30, seed=3)
    test = fc.permutation_test(X, Y, shuffles=19, relative_ridges=[0.1], folds=5)
    fit = test.cv.fit
    table = fit.uncertainty(Y).table(test)
    places = list(table.names)
    assert_array_equal(table.p, test.channels.p[places])
    assert_array_equal(table.q, test.channels.q[places])
    gains = test.cv.scores["exact"].gains[:, 0]
    same = (np.sign(gains - 1) == np.sign(fit.gains - 1)).mean(axis=0)
    assert_array_equal(table.folds, same[places])
    outside = (table.lower > 1) | (table.upper < 1)
    assert_array_equal(table.changed, outside & (table.q <= 0.1))
    X, Y = data()
    other = fitted(X, Y, "exact").uncertainty(Y)
    with pytest.raises(ValueError, match="of the fitted 9 channels x 6 conditions, not of 12 channels x 10"):
        other.table(test)


def test_a_test_of_other_fits_is_refused_and_one_of_other_order_aligned():
    X, Y = data(12, 10, 30, seed=3)
    X = pd.DataFrame(X, [f"g{i}" for i in range(12)])
    test = fc.permutation_test(X, Y, shuffles=19, relative_ridges=[0.1, 1.0], folds=5)
    best = test.cv.best_ridge
    plain = test.cv.fit.uncertainty(Y).table(test)
    turned = fc.fit(X[::-1], responses=Y, relative_ridge=best).uncertainty(Y).table(test)
    assert_array_equal(plain.to_frame()[["p", "q"]].sort_index(), turned.to_frame()[["p", "q"]].sort_index())
    assert_allclose(plain.to_frame().sort_index()["folds"], turned.to_frame().sort_index()["folds"])
    with pytest.raises(ValueError, match="'test' must have the channels of the fit, not be without 'h0'"):
        fc.fit(X.rename(lambda g: g.replace("g", "h")), responses=Y, relative_ridge=best).uncertainty(
            Y
        ).table(test)
    with pytest.raises(ValueError, match="'test' must be of method='linear', as the fit is, not of 'exact'"):
        fc.fit(X, responses=Y, relative_ridge=0.1, method="linear").uncertainty(Y).table(test)
    other = fc.fit(X, responses=Y, relative_ridge=0.3, method="exact").uncertainty(Y)
    with pytest.raises(ValueError, match=r"must be of the ridge of the fit, 0\.3 of the largest"):
        other.table(test)
    assert np.isnan(other.table(test.cv).folds).all()  # that study has no such ridge


def test_gains_at_a_bound_did_not_change():
    X, Y = data()
    fit = fitted(X, Y, "exact", 0.05, bounds=(0.9, 1.1))
    found = fit.uncertainty(Y)
    assert found.held.sum() > 2
    assert not found.excludes_one[found.held].any()
    table = found.table()
    held = np.isin(table.names, np.flatnonzero(found.held))
    assert not table.changed[held].any()
    assert np.isnan(table.lower[held]).all()
    assert "at a bound" in repr(table)
    drawn = fit.uncertainty(Y, n_boot=10)
    assert np.isfinite(drawn.table().lower).all()


@pytest.mark.parametrize("by", ["cells", "conditions", "both"])
@pytest.mark.parametrize("bounds", [None, (0.8, 1.3)])
@pytest.mark.parametrize("unit", [1e-10, 1e8])
def test_units_do_not_matter_in_a_bootstrap_of_a_file(tmp_path, by, bounds, unit):
    X, Y = data(12, 8, 15)
    fit = fc.fit(X, responses=Y, relative_ridge=0.3, method="exact", bounds=bounds)
    np.save(tmp_path / "x.npy", unit * X)
    there = np.load(tmp_path / "x.npy", mmap_mode="r")
    other = fc.fit(there, responses=Y, relative_ridge=0.3, method="exact", bounds=bounds)
    draws = other.uncertainty(Y, by, X=there, n_boot=5).draws
    assert_allclose(draws, fit.uncertainty(Y, by, n_boot=5).draws, atol=1e-4)
    if bounds is None:
        found = other.uncertainty(Y, by, X=there)
        assert_allclose(found.se, fit.uncertainty(Y, by).se, rtol=1e-4, atol=1e-6)


def test_missing_trials_and_masks_of_channels():
    X, Y = data()
    trials = np.stack([Y, Y + 0.1, Y - 0.1])
    trials[0, 3, 2] = np.nan
    fit = fc.fit(X, responses=trials, ridge=5.0, nan_policy="omit-trials")
    found = fit.uncertainty(trials, nan_policy="omit-trials")
    mean = np.nanmean(trials, axis=0)
    assert_allclose(found.se, fc.fit(X, responses=mean, ridge=5.0).uncertainty(mean).se, rtol=1e-9)
    mask = np.arange(9) % 4 == 0
    assert_allclose(fit.uncertainty(mean, channels=mask).se, found.se[mask], rtol=1e-6)


@pytest.mark.slow
def test_intervals_hold_the_expected_gain():
    sim = fc.datasets.simulate(60, 20, rng=0)
    live = sim.X.any(axis=1)

    def target(*seed):
        return fc.target_covariance(sim.fresh_cells(seed, n_cells=300), like=sim.X)

    ridge = fc.fit(sim.X, target(0, 0), relative_ridge=0.1).ridge
    expected = fc.fit(sim.X, np.stack([target(1, k) for k in range(600)]), ridge=ridge).gains.mean(axis=0)
    held = []
    for k in range(100):
        Y = sim.fresh_cells((2, k), n_cells=300)
        found = fc.fit(sim.X, responses=Y, ridge=ridge).uncertainty(Y)
        held.append((found.lower <= expected) & (expected <= found.upper))
    assert 0.91 < np.mean(np.array(held)[:, live]) < 0.98


def test_what_is_printed_says_what_intervals_cover():
    X, Y = data()
    found = fitted(X, Y, "exact").uncertainty(Y)
    for text in (repr(found), repr(found.table()), found._repr_html_(), found.table()._repr_html_()):
        assert "shrunken gain" in " ".join(text.split())
    assert "not corrected for the number of channels" in " ".join(repr(found.table()).split())


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("n_boot", [0, 5])
def test_saved_and_loaded(tmp_path, suffix, n_boot):
    X, Y = data()
    found = fitted(X, Y, "exact").uncertainty(Y, n_boot=n_boot)
    for each in (found, found.table()):
        each.save(tmp_path / f"it{suffix}")
        again = fc.load(tmp_path / f"it{suffix}")
        assert type(again) is type(each)
        assert repr(again) == repr(each)
        for name, value in vars(each).items():
            if isinstance(value, np.ndarray):
                assert_array_equal(getattr(again, name), value)


# ---- errors


def test_bad_arguments():
    X, Y = data()
    fit = fitted(X, Y, "exact")
    with pytest.raises(ValueError, match="'by' must be"):
        fit.uncertainty(Y, "trials")
    with pytest.raises(ValueError, match="'level' must be between 0 and 1, not 95"):
        fit.uncertainty(Y, level=95)
    with pytest.raises(ValueError, match="'Y' must be the responses of the other population"):
        fit.uncertainty()
    for few in (1, 2):
        with pytest.raises(ValueError, match=f"'Y' must have at least 3 cells, not {few}"):
            fit.uncertainty(Y[:few])
    with pytest.raises(ValueError, match="'by' must be 'cells' for a fit of one condition"):
        fc.fit(X[:, :1], responses=Y[:, :1], ridge=1.0).uncertainty(Y[:, :1], "both")
    with pytest.raises(ValueError, match="'Y' must have the 6 conditions of X, not 14: is it transposed"):
        fit.uncertainty(Y.T)
    with pytest.raises(ValueError, match="'Y' must be the responses whose covariance was fitted"):
        fit.uncertainty(Y[1:])
    with pytest.raises(ValueError, match="'X' must be the responses that were fitted, and their covariance"):
        fit.uncertainty(Y, X=X + np.eye(9)[:, :6])
    with pytest.raises(ValueError, match="'n_boot' must be 0 or at least 2"):
        fit.uncertainty(Y, n_boot=1)
    for wrong in ("g0", 3, []):
        with pytest.raises(TypeError, match="'channels' must be a list of names or indices"):
            fit.uncertainty(Y, channels=wrong)
    for wrong in ([9], [True], ["a"]):
        with pytest.raises(ValueError, match="'channels' must be among the 9 channels"):
            fit.uncertainty(Y, channels=wrong)
    with pytest.raises(ValueError, match="'channels' must name each channel once"):
        fit.uncertainty(Y, channels=[1, 1])
    with pytest.raises(ValueError, match="'n_boot' must be above 0 for a fit with method='diagonal'"):
        fitted(X, Y, "diagonal").uncertainty(Y)
    with pytest.raises(ValueError, match="'fit' must have a ridge above zero"):
        fc.fit(X[:, :2], responses=Y[:, :2], ridge=0).uncertainty(Y[:, :2])
    with pytest.raises(ValueError, match="list with the responses behind each of the 2 targets"):
        fc.fit(X, np.stack([fit.target()] * 2), ridge=0.3).uncertainty(Y)
    with pytest.raises(ValueError, match="'fdr' must be between 0 and 1"):
        fit.uncertainty(Y).table(fdr=10)
    with pytest.raises(TypeError, match="'test' must be a PermutationTest"):
        fit.uncertainty(Y).table("yes")
    with pytest.raises(ValueError, match="'target' must be None"):
        fit.uncertainty(Y).table(target=1)


def test_a_changed_x_is_seen():
    X, Y = data()
    fit = fitted(X, Y, "exact")
    X[0] *= 2
    with pytest.raises(ValueError, match="were they changed since"):
        fit.uncertainty(Y)


def test_arguments_are_not_changed():
    X, Y = data()
    before = X.copy(), Y.copy()
    fitted(X, Y, "exact").uncertainty(Y, "both", n_boot=3)
    fitted(X, Y, "exact").uncertainty(Y, "both")
    assert_array_equal(X, before[0])
    assert_array_equal(Y, before[1])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["linear", "exact"])
def test_memory_is_that_of_a_few_matrices_over_channels(method):
    N = 1200
    sim = fc.datasets.simulate(N, 20, rng=0)
    Y = np.concatenate([sim.Y, sim.fresh_cells(1)])
    fit = fc.fit(sim.X, responses=Y, relative_ridge=0.1, method=method)
    fit.uncertainty(Y, "both")  # what is compiled and imported is not counted
    tracemalloc.start()
    fit.uncertainty(Y, "both")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 6 * 8 * N * N


def test_progress_of_chosen_channels_is_a_share(monkeypatch):
    monkeypatch.setattr("fastcov._uncertainty.estimate.SMALL", 0)
    X, Y = data()
    seen = []
    fitted(X, Y, "exact").uncertainty(Y, channels=[7, 2, 5], memory_budget=10_000, callback=seen.append)
    assert [round(each.done, 6) for each in seen] == [round(k / 3, 6) for k in (1, 2, 3)]


def test_linear_fits_of_a_stack_share_one_factorisation(monkeypatch):
    from fastcov._uncertainty.curvature import Stationary

    X, Y = data()
    made, original = [], Stationary.inverse
    monkeypatch.setattr(Stationary, "inverse", lambda *args: made.append(1) or original(*args))
    S = np.stack([fc.target_covariance(Y, like=X)] * 3)
    for method, times in (("linear", 1), ("exact", 3)):
        made.clear()
        fc.fit(X, S, ridge=5.0, method=method).uncertainty([Y] * 3)
        assert len(made) == times


def test_progress_reaches_its_end():
    X, Y = data()
    seen = []
    fitted(X, Y, "exact").uncertainty(Y, n_boot=3, callback=seen.append)
    assert seen[-1].stage == "gains"
    assert seen[-1].done == 1.0
