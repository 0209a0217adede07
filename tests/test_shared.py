"""shared=True: one vector of gains for several targets is where the mean of their losses is least."""

import naive
import numpy as np
import pandas as pd
import pytest
import scipy.optimize
from cases import data, target
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc

N, D, T = 9, 5, 4
OFF = 1.0 - np.eye(D)
WEIGHTS = (lambda w: w + w.T)(np.random.default_rng(5).random((D, D)))


def targets(n=T, size=N, D=D):
    """Targets of populations that differ in their size, too."""
    return np.stack([target(D, seed=10 + k, size=size) * (0.5 + k) for k in range(n)])


def least_squares(X, S, ridge, center, terms, pairs, linear):
    """Gains of the least sum over targets, as one problem of least squares with all of them below each other.

    The mean over targets is their sum over T, so each residual is divided by √T.
    """

    def residual(z):
        each = [naive.shared_residual(X, one, z, center, terms, pairs, linear) for one in S]
        return np.concatenate([*(part / np.sqrt(len(S)) for part in each), np.sqrt(ridge) * (z - 1)])

    found = np.ones(len(X))
    for _ in range(3):
        found = scipy.optimize.least_squares(residual, found, xtol=1e-15, ftol=1e-15, gtol=1e-15).x
    return found


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", ["linear", "exact"])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("terms", [(), ("diagonal",), ("constant",), ("diagonal", "constant")], ids=str)
@pytest.mark.parametrize("pairs", [None, OFF, WEIGHTS], ids=["all", "off", "weights"])
def test_shared_gains_are_where_the_mean_over_targets_is_least(method, center, terms, pairs):
    X, S = data(N, D), targets()
    options = {"center": center, "nuisance": list(terms) or None, "pairs": pairs}
    tol = {"tol": 1e-10} if method == "exact" else {}
    fit = fc.fit(X, S, relative_ridge=0.1, method=method, shared=True, **options, **tol)
    found = least_squares(X, S, fit.ridge, center, terms, pairs, method == "linear")
    # Differences of residuals are good to √ε, and the least of squares is found to that.
    assert_allclose(fit.gains, found, atol=3e-6)
    mean = naive.mean_loss(X, S, fit.gains, fit.ridge, center, terms, pairs)
    assert_allclose(fit.loss + fit.stats["shared"]["spread"], mean, rtol=1e-9)
    root = np.sqrt(np.ones((D, D)) if pairs is None else pairs)
    for gains, name in ((fit.gains, "r2"), (np.ones(N), "r2_at_one")):
        left = [np.sum(naive.shared_residual(X, one, gains, center, terms, pairs) ** 2) for one in S]
        assert_allclose(fit.stats["shared"][name], 1 - left / np.sum((root * S) ** 2, axis=(1, 2)), rtol=1e-9)


@pytest.mark.parametrize("bounds", [None, (0.9, 1.05)])
def test_a_line_search_takes_the_best_step_for_all_targets(bounds):
    X, S = data(N, D), targets()
    fit = fc.fit(X, S, relative_ridge=0.01, method="line-search", shared=True, bounds=bounds)
    linear = fc.fit(X, S, ridge=fit.ridge, shared=True, bounds=bounds)
    along = np.linspace(0, 2, 2001) * fit.stats["step"]
    losses = [naive.mean_loss(X, S, 1 + t * linear.delta, fit.ridge) for t in along]
    inside = along * np.abs(linear.delta).max() > 0
    if bounds is not None:
        z = 1 + along[:, np.newaxis] * linear.delta
        inside &= np.all((z >= 0.9 - 1e-12) & (z <= 1.05 + 1e-12), axis=1)
    assert along[inside][np.argmin(np.array(losses)[inside])] == pytest.approx(fit.stats["step"], rel=2e-3)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 8), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99),
    st.sampled_from(["linear", "diagonal"]), st.sampled_from([1e-10, 1.0, 1e8]),
)  # fmt: skip
def test_shared_gains_of_a_linear_method_are_the_mean_of_those_of_each_target(N, D, T, seed, method, unit):
    """δ is linear in S; with a λ that means the same, however many targets there are."""
    X, S = unit * data(N, D, seed=seed), unit**2 * targets(T, size=N, D=D)
    ridge = unit**4 * 5.0
    shared = fc.fit(X, S, ridge=ridge, method=method, shared=True, solver="cholesky")
    each = fc.fit(X, S, ridge=ridge, method=method, solver="cholesky")
    assert shared.gains.shape == (N,)
    # Both solve one system, of a condition that the ridge bounds: at most ‖GᵀG‖ / λ.
    bound = 1e-14 * N * (1 + 4 * np.sum(naive.covariance(X / unit) ** 2) / 5.0 + 1)
    size = max(1.0, np.abs(each.delta).max())
    assert np.abs(shared.delta - each.delta.mean(axis=0)).max() <= bound * size


def test_equal_targets_are_one_target_with_the_same_ridge():
    X, S = data(N, D), target(D, size=N)
    for method in ("linear", "diagonal", "line-search", "exact"):
        one = fc.fit(X, S, ridge=20.0, method=method)
        many = fc.fit(X, np.stack([S] * 4), ridge=20.0, method=method, shared=True)
        assert_array_equal(many.gains, one.gains)
        assert many.stats["shared"]["spread"] == 0.0
        assert_allclose(many.stats["shared"]["r2"], one.r2, rtol=1e-12)


@pytest.mark.parametrize("method", ["linear", "exact", "diagonal"])
def test_a_path_of_shared_gains_is_its_fits(method):
    X, S = data(N, D), targets()
    path = fc.ridge_path(X, S, relative_ridges=[0.03, 0.3], method=method, shared=True)
    assert path.gains.shape == (2, N)
    for fit in path:
        alone = fc.fit(X, S, ridge=fit.ridge, method=method, shared=True)
        # Exact fits end where the gradient is 1e-6 of its first, wherever they began.
        assert_allclose(fit.gains, alone.gains, atol=1e-4 if method == "exact" else 1e-10)
        for name in ("r2", "r2_at_one", "spread"):
            assert_allclose(fit.stats["shared"][name], alone.stats["shared"][name], rtol=1e-6)
    assert "shared by 4 targets" in repr(path)


@pytest.mark.parametrize("method", ["free", "free-linear", "symmetric"])
def test_a_connectivity_that_is_shared_is_that_of_the_mean_target(method):
    X, S = data(N, D), targets()
    alone = fc.fit(X, S.mean(axis=0), relative_ridge=0.1, method=method)
    found = fc.fit(X, S, relative_ridge=0.1, method=method, shared=True)
    assert_allclose(found.covariance(), alone.covariance(), rtol=1e-6, atol=1e-6 * S.max())
    left = np.sum((found.covariance() - S) ** 2, axis=(1, 2))
    assert_allclose(found.stats["shared"]["r2"], 1 - left / np.sum(S**2, axis=(1, 2)), rtol=1e-9)
    left = np.sum((naive.covariance(X) - S) ** 2, axis=(1, 2))
    assert_allclose(found.stats["shared"]["r2_at_one"], 1 - left / np.sum(S**2, axis=(1, 2)), rtol=1e-9)
    assert "one connectivity for 4 targets; R2 of each" in repr(found)
    path = fc.ridge_path(X, S, relative_ridges=[0.1, 1.0], method=method, shared=True)
    assert_allclose(path[0].covariance(), alone.covariance(), rtol=1e-4, atol=1e-4 * S.max())


def test_targets_may_lack_pairs_that_do_not_count():
    X, S = data(N, D), targets()
    known = np.ones((D, D), bool)
    known[0, 2] = known[2, 0] = False
    holes = S.copy()
    holes[:, ~known] = np.nan
    there = fc.fit(X, S, ridge=5.0, pairs=known, shared=True)
    found = fc.fit(X, holes, ridge=5.0, pairs=known, shared=True)
    assert_allclose(found.gains, there.gains, rtol=1e-12)
    assert_allclose(found.stats["shared"]["r2"], there.stats["shared"]["r2"], rtol=1e-12)


def test_conditions_with_names_are_aligned():
    xarray = pytest.importorskip("xarray")
    X, S, names = data(N, D), targets(), list("abcde")
    plain = fc.fit(X, S, ridge=5.0, shared=True)
    turned = xarray.DataArray(
        S[:, ::-1, ::-1],
        dims=("target", "condition", "condition_2"),
        coords={"condition": names[::-1], "condition_2": names[::-1]},
    )
    with pytest.warns(fc.LabelWarning):
        found = fc.fit(pd.DataFrame(X, columns=names), turned, ridge=5.0, shared=True)
    assert_allclose(found.gains, plain.gains, rtol=1e-12)
    assert found.conditions == tuple(names)


def test_a_shared_fit_prints_and_saves_its_targets(tmp_path):
    X, S = data(N, D), targets()
    fit = fc.fit(X, S, relative_ridge=0.1, shared=True)
    assert "one vector of gains for 4 targets; R2 of each" in repr(fit)
    assert "of the mean target" in repr(fit)
    fit.save(tmp_path / "fit.npz")
    again = fc.load(tmp_path / "fit.npz")
    assert repr(again) == repr(fit)
    for name in ("r2", "r2_at_one", "targets", "spread"):
        assert_array_equal(again.stats["shared"][name], fit.stats["shared"][name])
    assert_allclose(fit.target(), S.mean(axis=0))
    assert_array_equal(fit.stats["shared"]["targets"], S)
    # What takes a fit takes a shared one: it is the fit to the mean target.
    assert fit.apply(X, S[0]).covariance.shape == (D, D)
    assert_allclose(fc.loss(X, fit.target(), fit.gains, ridge=fit.ridge), fit.loss)
    explained = fc.explain(X, fit.target(), fit.ridge)
    assert_allclose(explained.delta, fit.delta, atol=1e-12)


def test_bad_arguments():
    X, S = data(N, D), targets()
    with pytest.raises(TypeError, match="'shared' must be True or False, not 'yes'"):
        fc.fit(X, S, ridge=1.0, shared="yes")
    for function in (fc.fit, lambda *a, **k: fc.ridge_path(*a, relative_ridges=[k.pop("ridge")], **k)):
        with pytest.raises(ValueError, match=r"'S' must be a stack .* not of shape \(5, 5\)"):
            function(X, S[0], ridge=1.0, shared=True)
        with pytest.raises(ValueError, match="'responses' must be None for shared=True"):
            function(X, responses=X, ridge=1.0, shared=True)
    with pytest.raises(ValueError, match="'ridge' must be a number for shared=True, not 'cv'"):
        fc.fit(X, responses=X, ridge="cv", shared=True)
    with pytest.raises(ValueError, match="'S' must be symmetric"):
        fc.fit(X, S + np.triu(np.ones((D, D))), ridge=1.0, shared=True)
