"""What is done in a few compiled calls where all stays in the caches, beside the general road."""

import warnings

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from cases import target
from hypothesis import given
from hypothesis import strategies as st

import fastcov as fc
from fastcov._compute import kernels
from fastcov._fitting.small_fit import REASON
from fastcov._fitting.start import Start
from fastcov._model import products
from fastcov._model.problem import Problem

EPS = np.finfo(np.float64).eps


def responses(N=40, D=12):
    """Some with an offset, two of them dead and two alike."""
    X = np.random.default_rng(0).lognormal(0.0, 1.0, (N, D)) + 3.0
    X[[4, 9]] = 0.0
    X[11] = X[10]
    return X


def both(monkeypatch, call):
    """What a call gives in short, and in general."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fc.OvershootWarning)
        one = call()
        with monkeypatch.context() as patch:
            patch.setattr(Problem, "fits_caches", lambda *_: False)
            return one, call()


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", ["linear", "line-search", "diagonal", "exact"])
@pytest.mark.parametrize("given", [{"ridge": 300.0}, {"relative_ridge": 1e-3}], ids=str)
@pytest.mark.parametrize("stacked", [False, True])
def test_a_fit_is_the_same_on_both_roads(monkeypatch, method, given, stacked, center):
    X = responses()
    S = target(X.shape[1], size=400)
    S = np.stack([S, 3.0 * S, fc.covariance(X, center=center)]) if stacked else S
    short, general = both(monkeypatch, lambda: fc.fit(X, S, method=method, center=center, **given))
    if method == "linear":
        assert short.stats["reason"] == REASON != general.stats["reason"]
    # Gains of a regular system are off by its condition in units of rounding; exact ones by the tolerance.
    off = 1e-5 if method == "exact" else 1e-9
    for name in ("gains", "loss", "r2", "loss_at_one"):
        one, other = np.asarray(getattr(short, name)), np.asarray(getattr(general, name))
        assert np.abs(one - other).max() <= off * max(1.0, np.abs(other).max()), name
    np.testing.assert_allclose(short.ridge, general.ridge, rtol=1e-9)
    assert short.status == general.status
    assert (np.atleast_2d(short.gains)[:, [4, 9]] == 1.0).all()


def test_the_certificate_is_of_the_gains_and_not_of_the_solver(monkeypatch):
    X, solve = responses(), products.blas.cholesky_solve
    monkeypatch.setattr("fastcov._fitting.small_fit.blas.cholesky_solve", lambda L, b: 1.01 * solve(L, b))
    with pytest.warns(fc.ConvergenceWarning):
        fit = fc.fit(X, target(12, size=400), ridge=300.0)
    b = fc.overlaps(X, target(12, size=400))
    assert fit.residual == pytest.approx(0.01, rel=1e-6)
    left = b - fc.gram(X) @ fit.delta - 300.0 * fit.delta
    assert fit.residual == pytest.approx(np.linalg.norm(left) / np.linalg.norm(b), rel=1e-6)


def test_the_layout_and_kind_of_responses_do_not_matter():
    X = np.round(10.0 * responses())
    S = target(12, size=40_000)
    fits = [fc.fit(each, S, relative_ridge=0.1) for each in (X, np.asfortranarray(X), X.astype(int), X[:, :])]
    for fit in fits:
        np.testing.assert_array_equal(fit.gains, fits[0].gains)
        assert fit.loss == fits[0].loss
        assert fit.stats["reason"] == REASON


def test_gains_of_one_are_exact_where_the_target_is_reached(center):
    X = responses()
    fit = fc.fit(X, fc.covariance(X, center=center), ridge=1.0, center=center)
    assert (fit.loss, fit.loss_at_one, fit.r2) == (0.0, 0.0, 1.0)
    np.testing.assert_array_equal(fit.gains, 1.0)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.floats(-1e3, 1e3)),
    st.integers(0, 2**32 - 1),
)
def test_the_leading_value_is_the_largest_eigenvalue(B, seed):
    # In units in which responses are near one, as problems are.
    B = B / (np.abs(B).max() or 1.0)
    A = B @ B.T
    n = len(A)
    basis, found = np.empty((n, n)), np.empty(3)
    basis[0] = np.random.default_rng(seed).standard_normal(n)
    kernels.leading_value(A, 1e-6, basis, found, size=0)
    if not A.any():
        assert found[0] == 0.0
        return
    values = np.linalg.eigvalsh(A)
    # A residual of r puts an eigenvalue within r; with a basis as large as A it is the largest.
    assert np.abs(values - found[0]).min() <= (1e-6 + 100 * n * EPS) * values[-1]
    if found[2] == n:
        assert found[0] == pytest.approx(values[-1], rel=1e-6)


@pytest.mark.parametrize("shape", [(148, 48), (60, 12), (200, 40), (40, 10)], ids=str)
def test_a_relative_ridge_is_of_the_largest_eigenvalue(shape, center):
    sim = fc.datasets.simulate(*shape, rng=0)
    assert Start.of(Problem.of(sim.X), sim.S).gram is not None
    fit = fc.fit(sim.X, sim.S, relative_ridge=0.5, method="diagonal", center=center)
    assert fit.ridge == pytest.approx(0.5 * np.linalg.eigvalsh(fc.gram(sim.X, center=center))[-1], rel=1e-10)


def test_fits_of_a_path_are_made_once_and_do_not_need_the_responses():
    sim = fc.datasets.simulate(60, 12, rng=0)
    X, shares = sim.X.copy(), [0.1, 1.0, 10.0]
    path = fc.ridge_path(X, sim.S, relative_ridges=shares)
    alone = [fc.fit(sim.X, sim.S, relative_ridge=share) for share in shares]
    X[:] = np.nan
    assert path[0] is path[0] is path.fits[-3]
    path[1].stats["mine"] = 1
    assert path[1].stats["mine"] == 1
    assert "mine" not in path[2].stats
    assert [fit.ridge for fit in path[1:]] == path.ridges[1:].tolist()
    with pytest.raises(IndexError):
        path[3]
    for k, fit in enumerate(alone):
        np.testing.assert_allclose(path[k].gains, fit.gains, rtol=1e-12)
        np.testing.assert_allclose(path[k].covariance(), fit.covariance(), rtol=1e-9, atol=1e-9)
        for name in ("loss", "r2", "residual", "gains", "delta", "status"):
            np.testing.assert_array_equal(getattr(path, name)[k], getattr(path[k], name))
    assert not path[0].delta.flags.writeable
