"""Nuisance terms and pairs on a cluster of Dask: the same answers as here."""

import numpy as np
import pytest
from cases import data
from dask_cases import AGREEMENT, D, N, chunked, client, fits, same, shared_cluster, wanted

import fastcov as fc

__all__ = ["client", "shared_cluster"]  # fixtures

pytestmark = pytest.mark.usefixtures("client")

X, S, BOTH = data(N, D), wanted(), ("diagonal", "constant")
WEIGHTS = np.random.default_rng(0).random((D, D))
METRICS = {
    "terms": {"nuisance": BOTH},
    "off-diagonal": {"nuisance": "constant", "pairs": "off-diagonal"},
    "weights": {"nuisance": BOTH, "pairs": WEIGHTS + WEIGHTS.T},
}
METHODS = [
    ("linear", "pcg"),
    ("linear", "dual"),
    ("linear", "cholesky"),
    ("exact", "auto"),
    ("diagonal", "auto"),
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("method", "solver"), METHODS)
def test_fits_with_terms_and_pairs_give_the_local_answer(metric, method, solver):
    keywords = {"ridge": 1e3, "method": method, "solver": solver, **METRICS[metric]}
    fit, expected = fits(chunked(X, (1, 61, 58)), S, **keywords), fits(X, S, **keywords)
    same(fit.delta, expected.delta)
    same(fit.loss, expected.loss)
    same(fit.r2, expected.r2)
    for name, value in expected.nuisance.items():
        np.testing.assert_allclose(fit.nuisance[name], value, rtol=1e3 * AGREEMENT)


@pytest.mark.parametrize("metric", METRICS)
def test_relative_ridges_losses_and_explanations_with_terms_are_the_local_ones(metric):
    keywords, there = METRICS[metric], chunked(X, 50)
    here = fc.explain(X, S, relative_ridge=0.1, **keywords)
    why = fc.explain(there, S, relative_ridge=0.1, **keywords)
    np.testing.assert_allclose(why.ridge, here.ridge, rtol=1e-8)  # Lanczos
    np.testing.assert_allclose(why.spectrum, here.spectrum, atol=1e-9 * here.spectrum[0])
    z = 1 + 0.1 * np.random.default_rng(1).standard_normal(N)
    loss, gradient = fc.loss_and_gradient(there, S, z, **keywords)
    expected, slope = fc.loss_and_gradient(X, S, z, **keywords)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, slope, atol=1e-11 * np.abs(slope).max())


@pytest.mark.parametrize("metric", [{}, METRICS["terms"]], ids=["plain", "terms"])
@pytest.mark.parametrize("method", ["free", "free-linear", "symmetric", "psd", "mixed"])
def test_a_connectivity_on_a_cluster_is_the_local_one(method, metric):
    keywords = {"relative_ridge": 0.1, "method": method, "tol": 1e-9, **metric}
    found, expected = fc.fit(chunked(X, (1, 61, 58)), S, **keywords), fc.fit(X, S, **keywords)
    np.testing.assert_allclose(found.ridge, expected.ridge, rtol=1e-8)  # Lanczos
    np.testing.assert_allclose(found.covariance(), expected.covariance(), atol=1e-7 * np.linalg.norm(S))
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-7)
    np.testing.assert_allclose(found.norm(), expected.norm(), rtol=1e-6)
    v = np.random.default_rng(0).standard_normal(N)
    W = found.operator(chunked(X, 50))
    np.testing.assert_allclose(W @ v, expected.W @ v, atol=1e-6 * expected.norm() * np.linalg.norm(v))
    np.testing.assert_allclose(W.T @ v, expected.W.T @ v, atol=1e-6 * expected.norm() * np.linalg.norm(v))
