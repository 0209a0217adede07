"""Gains and a connectivity together, against a minimisation over z and all N² entries of W."""

import dataclasses

import naive
import naive_free
import numpy as np
import pytest
import scipy.optimize
from test_free import METRICS, maps, problem

import fastcov as fc


def loss_and_gradients(X, S, z, W, ridge, other, center=True, **metric):
    """The loss, and its gradients in z and in W."""
    change = W + np.diag(z - 1)
    value, gradient = naive_free.loss_and_gradient(X, S, change, 0.0, center, **metric)
    value += ridge / 2 * np.sum((z - 1) ** 2) + other / 2 * np.sum(W**2)
    return value, np.diag(gradient) + ridge * (z - 1), gradient + other * W


def minimum(X, S, ridge, other, center=True, **metric):
    N = len(X)

    def function(v):
        value, of_z, of_w = loss_and_gradients(
            X, S, v[:N], v[N:].reshape(N, N), ridge, other, center, **metric
        )
        return value, np.concatenate([of_z, of_w.ravel()])

    start = np.concatenate([np.ones(N), np.zeros(N * N)])
    found = scipy.optimize.minimize(
        function, start, jac=True, method="L-BFGS-B",
        options={"maxiter": 30000, "maxfun": 60000, "ftol": 0.0, "gtol": 1e-11, "maxcor": 30},
    )  # fmt: skip
    return found.x[:N], found.x[N:].reshape(N, N), found.fun


def formed(found):
    return found.W.left @ found.W.right.T


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("shape", [(14, 5), (8, 6)])
def test_joint_minimum(shape, center, metric):
    X, S, unit = problem(*shape, center=center)
    options, functions = METRICS[metric], maps(shape[1], METRICS[metric])
    ridge, other = 1e-2 * unit, 3e-2 * unit
    found = fc.fit(
        X, S, ridge=ridge, free_ridge=other, method="mixed", center=center, tol=1e-8, **options
    )  # fmt: skip
    W = formed(found)
    value, *gradients = loss_and_gradients(X, S, found.gains, W, ridge, other, center, **functions)
    _, *at_one = loss_and_gradients(X, S, np.ones(len(X)), 0 * W, ridge, other, center, **functions)
    residual = np.hypot(*map(np.linalg.norm, gradients)) / np.hypot(*map(np.linalg.norm, at_one))
    assert found.status == "converged"
    assert residual < 1e-7
    np.testing.assert_allclose(found.residual, residual, rtol=0.1, atol=1e-11)
    np.testing.assert_allclose(found.loss, value, rtol=1e-10)
    np.testing.assert_allclose(found.norm(), np.linalg.norm(W), rtol=1e-9)
    z, other_W, lowest = minimum(X, S, ridge, other, center, **functions)
    np.testing.assert_allclose(found.loss, lowest, rtol=1e-7)
    np.testing.assert_allclose(found.gains, z, atol=1e-3)
    np.testing.assert_allclose(W, other_W, atol=1e-3)


def test_a_ridge_of_one_part_leaves_the_other():
    """A very large ridge of W gives the exact gains, and one of the gains the free model."""
    X, S, unit = problem(14, 5)
    gains = fc.fit(X, S, ridge=1e-2 * unit, method="exact", tol=1e-9)
    found = fc.fit(X, S, ridge=1e-2 * unit, free_ridge=1e9 * unit, method="mixed", tol=1e-6)
    np.testing.assert_allclose(found.gains, gains.gains, atol=1e-3)
    np.testing.assert_allclose(found.loss, gains.loss, rtol=1e-5)
    free = fc.fit(X, S, ridge=1e-2 * unit, method="free", tol=1e-9)
    found = fc.fit(X, S, ridge=1e9 * unit, free_ridge=1e-2 * unit, method="mixed", tol=1e-6)
    np.testing.assert_allclose(found.omega, free.omega, atol=1e-3 * np.abs(free.omega).max())
    np.testing.assert_allclose(found.covariance_at_gains(), found.covariance_at_one(), rtol=1e-6)


def test_ridges():
    """Relative ridges are over the largest eigenvalue of each part; the ridge of W is that of the gains."""
    X, S, _ = problem(14, 5)
    largest = np.linalg.eigvalsh(naive.gram(X))[-1]
    found = fc.fit(X, S, relative_ridge=0.1, method="mixed")
    np.testing.assert_allclose(found.ridge, 0.1 * largest, rtol=1e-9)
    np.testing.assert_allclose(found.free_ridge, 0.1 * naive_free.spectrum(X)[-1], rtol=1e-9)
    assert (found.relative_ridge, found.relative_free_ridge) == (0.1, 0.1)
    other = fc.fit(X, S, relative_ridge=0.1, free_ridge=0.5, method="mixed")
    np.testing.assert_allclose(other.free_ridge, 5 * found.free_ridge, rtol=1e-9)
    plain = fc.fit(X, S, ridge=found.ridge, method="mixed")
    assert plain.free_ridge == plain.ridge == found.ridge
    assert plain.relative_free_ridge is None
    with pytest.raises(ValueError, match=r"Argument 'free_ridge' must be left out for method='free'"):
        fc.fit(X, S, ridge=1.0, free_ridge=1.0, method="free")
    with pytest.raises(ValueError, match=r"Argument 'free_ridge' must be"):
        fc.fit(X, S, ridge=1.0, free_ridge=-1.0, method="mixed")
    with pytest.raises(ValueError, match=r"Argument 'bounds' must be left out for method='mixed'"):
        fc.fit(X, S, ridge=1.0, bounds=(0, 1), method="mixed")


@pytest.mark.parametrize("center", [True, False])
def test_results(center, tmp_path):
    X, S, _ = problem(14, 5, center=center)
    found = fc.fit(X, S, relative_ridge=0.01, method="mixed", center=center)
    W, z = formed(found), found.gains
    Y = z[:, np.newaxis] * X + W @ X
    C = naive.covariance(Y, center=center)
    np.testing.assert_allclose(found.covariance(), C, atol=1e-10 * np.linalg.norm(C))
    np.testing.assert_allclose(found.covariance_at_gains(), naive.covariance(X, z, center), rtol=1e-9)
    V = np.random.default_rng(0).standard_normal((14, 2))
    np.testing.assert_allclose(found.W @ V, W @ V, atol=1e-11)
    np.testing.assert_allclose(found.W.T @ V, W.T @ V, atol=1e-11)
    new = np.random.default_rng(1).standard_normal((14, 4))
    there = z[:, np.newaxis] * new + W @ new
    applied = found.apply(new)
    np.testing.assert_allclose(applied.responses, there, atol=1e-11)
    np.testing.assert_allclose(applied.covariance, naive.covariance(there, center=center), atol=1e-9)
    found.save(tmp_path / "mixed.npz")
    loaded = fc.load(tmp_path / "mixed.npz")
    assert type(loaded) is fc.Mixed
    assert repr(loaded) == repr(found)
    for field in dataclasses.fields(found):
        if field.name not in ("_kept", "stats", "nuisance"):
            np.testing.assert_array_equal(getattr(loaded, field.name), getattr(found, field.name))
    np.testing.assert_array_equal(found.to_frame()["gain"], z)
    with pytest.raises(ValueError, match=r"Argument 'X' must be the responses that were fitted"):
        _ = loaded.W
    np.testing.assert_array_equal(loaded.operator(X) @ V, found.W @ V)


def test_stacks_and_paths():
    X, S, _ = problem(14, 5)
    other = problem(14, 5, seed=5)[1]
    both = fc.fit(X, np.stack([S, other]), relative_ridge=0.1, method="mixed")
    one = fc.fit(X, other, relative_ridge=0.1, method="mixed")
    np.testing.assert_array_equal(both.select(1).gains, one.gains)
    np.testing.assert_array_equal(both.select(1).W @ X, one.W @ X)
    assert both.norm().shape == (2,)
    assert both.apply(X).responses.shape == (2, 14, 5)
    with pytest.raises(ValueError, match=r"Argument 'target' must be chosen for operator"):
        _ = both.W
    path = fc.ridge_path(X, S, relative_ridges=[1e-2, 1.0], method="mixed", free_ridge=0.1, tol=1e-9)
    for k, share in enumerate((1e-2, 1.0)):
        single = fc.fit(X, S, relative_ridge=share, free_ridge=0.1, method="mixed", tol=1e-9)
        np.testing.assert_allclose(path[k].loss, single.loss, rtol=1e-8)
        assert path[k].relative_free_ridge == 0.1
    assert len(path.to_frame()) == 2
    np.testing.assert_allclose(path.gains, [each.gains for each in path])


def test_units_and_precision():
    X, S, unit = problem(40, 5)
    plain = fc.fit(X, S, ridge=1e-2 * unit, method="mixed", tol=1e-9)
    for s in (2.0**100, 1e-60):
        scaled = fc.fit(s * X, s**2 * S, ridge=1e-2 * unit * s**4, method="mixed", tol=1e-9)
        np.testing.assert_allclose(scaled.gains, plain.gains, atol=1e-6)
        np.testing.assert_allclose(formed(scaled), formed(plain), atol=1e-6)
    narrow = fc.fit(X.astype(np.float32), S, ridge=1e-2 * unit, method="mixed", tol=1e-9)
    np.testing.assert_allclose(narrow.gains, plain.gains, atol=1e-3)


def test_responses_in_a_file(tmp_path):
    X, S, unit = problem(200, 5)
    np.save(tmp_path / "X.npy", X)
    plain = fc.fit(X, S, ridge=1e-2 * unit, method="mixed")
    found = fc.fit(np.load(tmp_path / "X.npy", mmap_mode="r"), S, ridge=1e-2 * unit, method="mixed")
    np.testing.assert_allclose(found.gains, plain.gains, atol=1e-6)


@pytest.mark.parametrize("metric", ["plain", "nuisance"])
def test_cross_validation_is_a_fit_and_its_application(metric):
    X, _, _ = problem(30, 9)
    Y = np.random.default_rng(8).standard_normal((20, 9)) @ np.diag(np.linspace(0.5, 2, 9))
    options, ridges = METRICS[metric], [1e-2, 1.0]
    cv = fc.cross_validate(
        X, Y, relative_ridges=ridges, free_ridge=0.1, folds=3, method="mixed", tol=1e-9, **options
    )
    C, T = naive.covariance(X), naive.covariance(Y)
    for f, (train, test) in enumerate(cv.folds):
        block, held = np.ix_(train, train), np.ix_(test, test)
        scale = np.trace(C[block]) / np.trace(T[block])
        for k, share in enumerate(ridges):
            found = fc.fit(X[:, train], scale * T[block], relative_ridge=share, free_ridge=0.1,
                           method="mixed", tol=1e-9, **options)  # fmt: skip
            P = found.apply(X).covariance
            r2 = 1 - np.sum((P - scale * T)[held] ** 2) / np.sum((scale * T)[held] ** 2)
            np.testing.assert_allclose(cv.scores["mixed"].moments.by_fold("r2")[k, f], r2, atol=1e-5)
    assert isinstance(cv.fits["mixed"], fc.Mixed)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["as many", "fewer", "two", "alike"])
def test_where_the_mean_lies_in_the_span_of_x(kind, metric):
    """C cannot have the rank of K at all gains, with so few channels or where a condition is in the mean."""
    shape = {"as many": (5, 5), "fewer": (4, 6), "two": (2, 6), "alike": (12, 4)}[kind]
    for seed in range(4):
        X, S, unit = problem(*shape, seed=seed)
        if kind == "alike":
            X[:, 0] = 1.3
        options, functions = METRICS[metric], maps(shape[1], METRICS[metric])
        ridge, other = 1e-2 * unit, 3e-2 * unit
        found = fc.fit(X, S, ridge=ridge, free_ridge=other, method="mixed", tol=1e-8, **options)
        W, one = formed(found), np.ones(len(X))
        value, *gradients = loss_and_gradients(X, S, found.gains, W, ridge, other, **functions)
        at_one, *slopes = loss_and_gradients(X, S, one, 0 * W, ridge, other, **functions)
        assert found.status == "converged"
        size = np.hypot(*map(np.linalg.norm, slopes))
        assert np.hypot(*map(np.linalg.norm, gradients)) < 1e-6 * size
        np.testing.assert_allclose(found.loss, value, rtol=1e-9)
        np.testing.assert_allclose(found.norm(), np.linalg.norm(W), rtol=1e-8)
        assert found.loss < at_one
        Y = found.gains[:, np.newaxis] * X + W @ X
        np.testing.assert_allclose(found.apply(X).responses, Y, atol=1e-8)
        np.testing.assert_allclose(found.covariance(), naive.covariance(Y), atol=1e-7 * np.linalg.norm(S))
