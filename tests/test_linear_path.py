"""Paths of linearised free fits: numbers at once, matrices when they are read, and both as of single fits."""

import pickle

import hypothesis
import hypothesis.strategies as st
import naive
import naive_free
import numpy as np
import pytest
from counting import work

import fastcov as fc
from fastcov._compute.jit import blas
from fastcov._connectivity import linearised
from fastcov._connectivity.linearised import Linearised
from fastcov._connectivity.reduced import Reduced
from fastcov._results.overshoot import beyond_rounding

EPS = np.finfo(float).eps
SHARES = (1.0, 1e-6, 1e-2, 0.0, 1e-4)


def problem(N=14, D=5, seed=0, mean=1.0, targets=0):
    rng = np.random.default_rng([N, D, seed])
    X = rng.standard_normal((N, D)) + mean
    S = np.stack([naive.covariance(rng.standard_normal((2 * D, D))) for _ in range(targets or 1)])
    return X, S if targets else S[0]


def ridges_for(X):
    return np.array(SHARES) * np.linalg.eigvalsh(naive.covariance(X))[-1] ** 2


def path_of(X, S, **options):
    return fc.ridge_path(X, S, ridges=ridges_for(X), method="free-linear", **options)


def forbid(monkeypatch):
    def fail(*_):
        raise AssertionError("a connectivity was made")

    monkeypatch.setattr(Linearised, "matrices", fail)


@pytest.mark.parametrize("targets", [0, 3])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("shape", [(14, 5), (6, 6), (4, 7), (9, 1)])
def test_a_path_is_of_single_fits(shape, center, targets):
    """To rounding, which the least eigenvalues of Γ may enlarge in Ω alone, and not in W."""
    X, S = problem(*shape, targets=targets)
    path = path_of(X, S, center=center)
    for k, ridge in enumerate(ridges_for(X)):
        one, found = fc.fit(X, S, ridge=ridge, method="free-linear", center=center), path[k]
        assert type(found) is fc.Connectivity
        np.testing.assert_allclose(found.phi, one.phi, rtol=1e-12, atol=1e-12 * np.abs(one.phi).max())
        size = np.linalg.norm(one.covariance())
        np.testing.assert_allclose(found.covariance(), one.covariance(), atol=1e-12 * size)
        for name in ("loss", "r2", "residual", "loss_at_one"):
            np.testing.assert_allclose(getattr(found, name), getattr(one, name), rtol=1e-10, atol=1e-12)
            np.testing.assert_array_equal(getattr(found, name), np.asarray(path._each(name)[k]))
        assert (found.ridge, found.status, found.method) == (one.ridge, one.status, one.method)
        assert found.stats.keys() == one.stats.keys()


@pytest.mark.parametrize("center", [True, False])
def test_numbers_are_those_of_w(center):
    """Loss, R² and certificate, which are computed in the eigenvectors of Γ, from W formed."""
    X, S = problem()
    path = path_of(X, S, center=center)
    C = naive.covariance(X, center=center)
    Xc = X - X.mean(axis=0) * center
    unit = np.linalg.norm(2 * Xc @ (C - S) @ X.T)
    for k, ridge in enumerate(ridges_for(X)):
        W = path[k].W.left @ path[k].W.right.T
        value, _ = naive_free.loss_and_gradient(X, S, W, ridge, center)
        Y = naive_free.changed(X, W, center)
        np.testing.assert_allclose(path.loss[k], value, rtol=1e-9)
        np.testing.assert_allclose(path.r2[k], 1 - np.sum((Y.T @ Y - S) ** 2) / np.sum(S**2), rtol=1e-9)
        first = Xc.T @ W @ X
        left = np.linalg.norm(2 * Xc @ (C + first + first.T - S) @ X.T + ridge * W) / unit
        assert left < 1e-12 * (1 + np.linalg.norm(W) * ridge / unit)
        assert path.residual[k] < 1e-12


def test_the_certificate_sees_a_wrong_connectivity(monkeypatch):
    X, S = problem()
    solution = linearised.linear_kernels.linear_solution
    _, other = problem(seed=1)

    def wrong(error, *args, size):
        solution(error + other, *args, size=size)  # the minimum of another target
        *most, found = args
        found[0] = 0.0
        _, values, n, _, ridge, unit, _, omega, _, u = most
        linearised.linear_kernels.linear_norms(error, omega, values, n, u, ridge, unit, found)

    monkeypatch.setattr(linearised.linear_kernels, "linear_solution", wrong)
    assert np.all(path_of(X, S).residual > 0.01)


@pytest.mark.parametrize("targets", [0, 2])
def test_numbers_and_tables_make_no_fit(targets, monkeypatch):
    X, S = problem(targets=targets)
    path = path_of(X, S)
    with monkeypatch.context() as patch:
        forbid(patch)
        shape = (len(SHARES), targets) if targets else (len(SHARES),)
        assert path.loss.shape == path.r2.shape == path.residual.shape == shape
        assert path.status == ["converged"] * len(SHARES)
        assert path.method == "free-linear"
        np.testing.assert_allclose(path.ridges, ridges_for(X))
        assert path.relative_ridges is None
        assert np.shape(path.loss_at_one) == shape[1:]
        pytest.importorskip("pandas")
        assert len(path.to_frame()) == len(SHARES) * max(targets, 1)
        with pytest.raises(AssertionError, match="was made"):
            path[0]
    assert path[1] is path[1]
    assert path[1:3] == (path[1], path[2])
    assert path[-1] is path[len(SHARES) - 1]
    with pytest.raises(IndexError):
        path[len(SHARES)]
    with pytest.raises(AttributeError, match="gains"):
        _ = path.gains


def test_a_warning_of_overshoots_makes_no_fit(monkeypatch):
    """It names the ridges at which the fits themselves overshoot, without making them."""
    X, S = problem(seed=3)
    with monkeypatch.context() as patch:
        forbid(patch)
        with pytest.warns(fc.OvershootWarning, match="The exact loss is above that at W = 0 at"):
            path = path_of(X, 10.0 * S)
    expected = [bool(np.any(beyond_rounding(fit))) for fit in path]
    assert list(path.fits.overshooting()) == expected
    assert True in expected
    assert False in expected


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_saved_and_pickled(suffix, tmp_path):
    if suffix == "h5":
        pytest.importorskip("h5py")
    X, S = problem(targets=2)
    path = path_of(X, S)
    path.save(tmp_path / f"path.{suffix}")
    for again in (fc.load(tmp_path / f"path.{suffix}"), pickle.loads(pickle.dumps(path_of(X, S)))):
        np.testing.assert_array_equal(again.loss, path.loss)
        np.testing.assert_array_equal(again.ridges, path.ridges)
        for found, fit in zip(again, path, strict=True):
            np.testing.assert_array_equal(found.phi, fit.phi)
            np.testing.assert_array_equal(found.covariance(), fit.covariance())
        assert repr(again) == repr(path)


@pytest.mark.parametrize("targets", [0, 2])
def test_ridges_side_by_side_are_those_in_turn(targets):
    X, S = problem(200, 90, targets=targets)
    ridges = np.logspace(-3, 3, 40)
    told = []
    path = fc.ridge_path(
        X, S, ridges=ridges, method="free-linear",
        callback=lambda p: told.append(p.done) if p.stage == "path" else None,
    )  # fmt: skip
    assert told == sorted(told)
    assert told[-1] == 1.0
    with fc.threads(1):
        alone = fc.ridge_path(X, S, ridges=ridges, method="free-linear")
    np.testing.assert_allclose(path.loss, alone.loss, rtol=1e-10)
    np.testing.assert_allclose(path[3].phi, alone[3].phi, atol=1e-9 * np.abs(alone[3].phi).max())


def test_an_error_in_a_callback_ends_the_path():
    X, S = problem(200, 90)

    def stop(progress):
        if progress.stage == "path":
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fc.ridge_path(X, S, ridges=np.logspace(-3, 3, 40), method="free-linear", callback=stop)


def test_a_ridge_takes_one_product():
    """D³ flops for each more, beside what is of D²; and one eigendecomposition for all."""
    X, S = problem(40, 12)

    def counted(K):
        with work() as found:
            fc.ridge_path(X, S, ridges=np.logspace(0, 2, K), method="free-linear")
        return found

    few, many = counted(3), counted(23)
    assert few.calls["syevd"] == many.calls["syevd"] == 1
    assert many.products() - few.products() == 20 * 12**3
    assert many.flops["linear_solution"] < (38 + 2 * 20) * 23 * 12**2


@hypothesis.given(
    seed=st.integers(0, 10**6),
    D=st.integers(2, 40),
    decades=st.floats(0, 12),
    zeros=st.integers(0, 3),
    power=st.floats(-0.5, 1.5),
    size=st.floats(-3, 3),
    share=st.floats(-14, 1),
)
def test_the_system_is_solved_wherever_the_mean_lies(seed, D, decades, zeros, power, size, share):
    """Conjugate gradients against a factorisation, each to a few hundred units in the last place."""
    rng = np.random.default_rng(seed)
    values = np.sort(10.0 ** -rng.uniform(0, decades, D))
    values[: min(zeros, D - 1)] = 0.0
    n = 10.0**size * values**power * rng.standard_normal(D) if zeros == 0 else rng.standard_normal(D)
    given = Linearised(Reduced(np.diag(values), n, True), np.zeros((1, D, D)))
    E = rng.standard_normal((D, D))
    given.__dict__["errors"], ridge = (E + E.T)[np.newaxis], 4.0 * 10.0**share
    vectors = given.reduced.eigen[1]
    values, n = given.reduced.eigen[0], vectors @ n
    v = given.solve([ridge]).v[0, 0]
    live = values > 0
    inverse = 1 / (ridge + 4 * np.outer(values, values))
    A = 2 * inverse * np.outer(n, n)
    A = A[np.ix_(live, live)] + np.diag(1 / values[live] + 2 * inverse[live] @ n**2)
    scale = 1 / np.sqrt(np.diag(A))
    expected = np.linalg.solve(A * np.outer(scale, scale), scale * ((given.errors[0] * inverse) @ n)[live])
    assert not v[~live].any()
    found = v[live] / scale
    assert np.linalg.norm(found - expected) <= 1e4 * EPS * np.linalg.norm(expected)


@pytest.mark.filterwarnings("ignore::fastcov.ConvergenceWarning")
@pytest.mark.parametrize("method", ["free", "free-linear", "psd"])
def test_products_of_few_conditions_run_on_one_thread(method, monkeypatch):
    """Two threads take longer for these, and much longer beside another program."""
    seen, eigh = [], fc._compute.blas.eigh

    def watched(A):
        seen.append([library.num_threads for library in blas().lib_controllers])
        return eigh(A)

    monkeypatch.setattr(fc._compute.blas, "eigh", watched)
    X, S = problem(2000, 100)
    fc.fit(X, S, ridge=1e6, method=method, max_iterations=3)
    path = fc.ridge_path(X, S, ridges=[1e6, 1e7], method="free-linear")
    assert path[0].status == "converged"
    assert {n for each in seen for n in each} == {1}
    before = [library.num_threads for library in blas().lib_controllers]
    with Reduced(np.eye(400), np.zeros(400), True).products():
        assert [library.num_threads for library in blas().lib_controllers] == before
