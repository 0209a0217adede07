"""Fits on a cluster of Dask: the same answers as here."""

import functools

import dask
import hypothesis.strategies as st
import naive
import numpy as np
import pytest
from cases import data, gains_bound, random_gains, within
from dask_cases import (
    AGREEMENT,
    TOL,
    D,
    N,
    chunked,
    client,
    da,
    fits,
    parts,
    ridge_of,
    same,
    shared_cluster,
    submitted,
    wait,
    wanted,
)  # fmt: skip
from hypothesis import HealthCheck, given, settings
from numpy.testing import assert_array_equal

import fastcov as fc
from fastcov._model.problem import Problem
from fastcov._model.products import squared_norms
from fastcov._model.ridge_penalty import Penalty
from fastcov._solvers import Options, System, conditions

__all__ = ["client", "shared_cluster"]  # fixtures

pytestmark = pytest.mark.usefixtures("client")

X, S, RIDGE = data(N, D), wanted(), ridge_of(0.5)
Z = np.stack([random_gains(N, seed) for seed in range(3)])
UNEVEN = (1, 61, 0, 58)
METHODS = [
    ("linear", "auto"),
    ("linear", "pcg"),
    ("linear", "dual"),
    ("linear", "spectral"),
    ("linear", "cholesky"),
    ("line-search", "auto"),
    ("exact", "auto"),
    ("diagonal", "auto"),
]


@functools.cache
def local(method, solver):
    return fits(X, S, ridge=RIDGE, method=method, solver=solver)


def agrees(fit, expected):
    same(fit.delta, expected.delta)
    same(fit.gains, expected.gains)
    same(fit.loss, expected.loss)
    same(fit.r2, expected.r2)
    same(fit.covariance(), expected.covariance())
    assert fit.status == expected.status


@pytest.mark.parametrize(("method", "solver"), METHODS)
def test_each_method_gives_the_local_answer(method, solver):
    fit = fits(chunked(X, UNEVEN), S, ridge=RIDGE, method=method, solver=solver)
    agrees(fit, local(method, solver))
    assert solver in ("auto", fit.stats["solver"])
    assert np.max(fit.residual) <= 10 * max(TOL, np.max(local(method, solver).residual))


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_the_number_of_chunks_does_not_matter(count):
    rows = parts(N, count)
    assert len(rows) == count
    assert sum(rows) == N
    agrees(fits(chunked(X, rows), S, ridge=RIDGE, solver="pcg"), local("linear", "pcg"))


@pytest.mark.parametrize("center", [True, False])
def test_the_oracle_agrees(center):
    ridge = ridge_of(0.1, center=center)
    fit = fits(chunked(X, UNEVEN), S, ridge=ridge, solver="pcg", center=center)
    expected = naive.linear_fit(X, S, ridge, center)
    within(fit.delta, expected, gains_bound(X, S, ridge, center) + 10 * TOL * np.linalg.norm(expected) / 0.1)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(0, 25), min_size=1, max_size=6).filter(sum),
    d=st.integers(1, 9),
    method=st.sampled_from([each for each in METHODS if "exact" not in each]),
    center=st.booleans(),
    single=st.booleans(),
)
def test_any_chunks_and_shapes(lengths, d, method, center, single):
    n = sum(lengths)
    A = data(n, d, np.float32 if single else np.float64, seed=n)
    asked = {"ridge": ridge_of(0.1, n, n, d, center) or 1.0, "method": method[0], "solver": method[1]}
    fit, expected = (fits(x, wanted(n, d), center=center, **asked) for x in (chunked(A, tuple(lengths)), A))
    size = max(np.linalg.norm(expected.delta), np.finfo(float).eps)
    assert np.linalg.norm(fit.delta - expected.delta) <= AGREEMENT * size


# --- what X may be


def duplicated(A):
    A[3] = A[100]
    A[N - 1] = A[0]
    return A


def dead(A):
    A[[0, 51, 60, N - 1]] = 0.0
    return A


def far(A):
    return A + 1e4


KINDS = {
    "float32": lambda A: A.astype(np.float32),
    "float16": lambda A: A.astype(np.float16),
    "integers": lambda A: np.round(20 * A).astype(np.int16),
    "long-double": lambda A: A.astype(np.longdouble),
    "tiny": lambda A: A * 1e-40,
    "huge": lambda A: A * 1e40,
    "tiny-float32": lambda A: (A * 1e-30).astype(np.float32),
    "dead": lambda A: dead(A.copy()),
    "duplicates": lambda A: duplicated(A.copy()),
    "far": far,
}


BROUGHT_HERE = ["tiny", "huge", "tiny-float32", "duplicates"]


@pytest.mark.parametrize(
    ("kind", "solver"), [(kind, "pcg") for kind in KINDS] + [(kind, "auto") for kind in BROUGHT_HERE]
)
def test_each_kind_of_responses(kind, solver):
    A = KINDS[kind](X)
    S = fc.covariance(A[::2]) * 2.5
    ridge = 0.1 * np.sum(fc.atom_norms(A) ** 2) / 4
    fit = fits(chunked(A, UNEVEN), S, ridge=ridge, solver=solver)
    expected = fits(A, S, ridge=ridge, solver=solver)
    same(fit.delta, expected.delta)
    assert fit.status == expected.status == "converged"
    assert (fit.gains[~A.any(axis=1)] == 1.0).all()


def read_only(rows):
    rows = np.asfortranarray(rows)
    rows.flags.writeable = False
    return rows


@pytest.mark.parametrize(
    "layout", [read_only, lambda rows: rows[::-1].copy()[::-1], lambda rows: rows.astype(">f8")]
)
def test_chunks_of_any_layout(layout):
    lazy = chunked(X, UNEVEN).map_blocks(layout, dtype=X.dtype)
    same(fits(lazy, S, ridge=RIDGE, solver="dual").delta, local("linear", "dual").delta)


@pytest.mark.parametrize("kept", ["persisted", "persisted-in-part"])
def test_responses_that_the_user_holds_stay_as_they_are(kept, client):
    lazy = chunked(X, UNEVEN)
    if kept == "persisted":
        lazy = client.persist(lazy)
    else:
        lazy = da.concatenate([client.persist(lazy[:51]), lazy[51:]])
    same(fits(lazy, S, ridge=RIDGE, solver="dual").delta, local("linear", "dual").delta)
    assert_array_equal(lazy.compute(), X)


def test_more_conditions_than_channels_in_a_chunk():
    A = data(30, 14)
    T, ridge = wanted(30, 14), ridge_of(0.1, 0, 30, 14)
    for solver in ("pcg", "dual"):
        expected = fits(A, T, ridge=ridge, solver=solver)
        same(fits(chunked(A, 3), T, ridge=ridge, solver=solver).delta, expected.delta)


def test_chunks_of_one_row():
    A, T = data(24, 4), wanted(24, 4)
    expected = fits(A, T, ridge=50.0, solver="pcg")
    same(fits(chunked(A, 1), T, ridge=50.0, solver="pcg").delta, expected.delta)


@pytest.mark.parametrize("kind", ["regular", "duplicates", "more-conditions"])
def test_no_ridge_gives_the_solution_of_minimum_norm(kind):
    A = data(20, 9) if kind == "more-conditions" else X
    A = duplicated(A.copy()) if kind == "duplicates" else A
    T = wanted(*A.shape)
    fit, expected = (fc.fit(x, T, ridge=0.0) for x in (chunked(A, 7), A))
    assert fit.status == expected.status == "minimum-norm"
    same(fit.delta, naive.linear_fit(A, T, 0.0), 1e-9)
    same(fit.delta, expected.delta)
    assert fit.stats["rank"] == expected.stats["rank"]


def test_names_are_kept():
    xarray = pytest.importorskip("xarray")
    channels, conditions = [f"n{i}" for i in range(N)], [f"odour {j}" for j in range(D)]
    named = {"dims": ("channel", "condition"), "coords": {"channel": channels, "condition": conditions}}
    fit = fits(xarray.DataArray(chunked(X, UNEVEN), **named), S, ridge=RIDGE)
    same(fit.delta, local("linear", "auto").delta)
    assert list(fit.channels) == channels
    assert list(fit.conditions) == conditions
    Y = data(77, D, seed=4)
    shuffled = xarray.DataArray(chunked(Y, 30), dims=named["dims"], coords={"condition": conditions})[:, ::-1]
    with pytest.warns(fc.LabelWarning):
        both = fits(xarray.DataArray(chunked(X, UNEVEN), **named), responses=shuffled, ridge=RIDGE)
    same(both.delta, fits(X, responses=Y, ridge=RIDGE).delta)


# --- what may be asked of a fit

OPTIONS = {
    "several-targets": {"S": np.stack([S, 2.0 * S, wanted(seed=3)])},
    "a-ridge-a-channel": {"ridge": RIDGE * np.linspace(0.5, 20.0, N)},
    "bounds": {"bounds": (0.9, 1.05)},
    "bounds-exact": {"bounds": (0.95, None), "method": "exact", "ridge": 2 * RIDGE},
    "gains0": {"gains0": np.linspace(0.99, 1.01, N), "method": "exact", "ridge": 2 * RIDGE},
    "a-ridge-a-channel-exact": {"ridge": RIDGE * np.linspace(5.0, 20.0, N), "method": "exact"},
    "not-centred": {"center": False, "method": "line-search"},
    "relative": {"ridge": None, "relative_ridge": 0.1},
    "no-preconditioner": {"solver": "pcg", "rank": 0},
    "rank": {"solver": "pcg", "rank": 5},
    "several-targets-pcg": {"S": np.stack([S, 0.0 * S, wanted(seed=3)]), "solver": "pcg"},
    "ridges-pcg": {"ridge": RIDGE * np.linspace(0.5, 20.0, N), "solver": "pcg"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_gives_the_local_answer(name):
    asked = {"S": S, "ridge": RIDGE, **OPTIONS[name]}
    T = asked.pop("S")
    fit, expected = (fits(x, T, **asked) for x in (chunked(X, UNEVEN), X))
    same(fit.delta, expected.delta)
    same(fit.loss, expected.loss)
    assert fit.status == expected.status


@pytest.mark.parametrize("form", ["ndarray", "dask"])
def test_responses_in_place_of_a_target(form):
    Y = data(77, D, seed=4)
    fit = fits(chunked(X, UNEVEN), responses=chunked(Y, 20) if form == "dask" else Y, ridge=RIDGE)
    same(fit.delta, fits(X, responses=Y, ridge=RIDGE).delta)


def test_the_ridge_is_chosen_by_cross_validation():
    A, Y = data(60, 4), data(77, 4, seed=4)
    fit, expected = (
        fits(x, responses=y, ridge="cv", method="diagonal")
        for x, y in ((chunked(A, 25), chunked(Y, 30)), (A, Y))
    )
    same(fit.relative_ridge, expected.relative_ridge)
    same(fit.delta, expected.delta)


# --- other doors


@pytest.mark.parametrize("method", ["linear", "exact"])
def test_a_path(method):
    ridges = RIDGE * np.array([10.0, 30.0])
    path, expected = (
        fc.ridge_path(x, S, ridges=ridges, method=method, tol=TOL) for x in (chunked(X, UNEVEN), X)
    )
    same(path.delta, expected.delta)
    assert path.status == expected.status


def test_a_path_by_eigenvectors():
    ridges = RIDGE * np.geomspace(1e-2, 1.0, 5)
    path, expected = (fc.ridge_path(x, S, ridges=ridges, solver="spectral") for x in (chunked(X, UNEVEN), X))
    same(path.delta, expected.delta)


@pytest.mark.parametrize("method", ["linear", "line-search"])
def test_cross_validation(method):
    Y = data(77, D, seed=4)
    asked = {"ridges": RIDGE * np.array([0.1, 1.0]), "folds": 2, "method": method, "tol": TOL, "shuffles": 1}
    cv, expected = (
        fc.cross_validate(x, y, **asked) for x, y in ((chunked(X, UNEVEN), chunked(Y, 30)), (X, Y))
    )
    same(cv.r2, expected.r2)
    same(cv.scores[method].moments.sums, expected.scores[method].moments.sums)
    same(cv.scores[method].shuffled.sums, expected.scores[method].shuffled.sums)
    for name in cv.baselines:
        same(cv.baselines[name].sums, expected.baselines[name].sums)
    same(cv.scores[method].gains, expected.scores[method].gains)
    assert cv.best_ridge == expected.best_ridge
    same(cv.fit.delta, expected.fit.delta)


def test_an_explanation_by_all_modes():
    why, expected = (fc.explain(x, S, RIDGE) for x in (chunked(X, UNEVEN), X))
    for name in (
        "overlaps",
        "delta",
        "spectrum",
        "total",
        "reachable",
        "left_by_ridge",
        "dof",
        "linear_loss",
        "importance",
        "resolution",
    ):
        same(getattr(why, name), getattr(expected, name))
    assert why.complete
    same(why.filter(5), expected.filter(5))
    same(why.whitened_filter(5), expected.whitened_filter(5))
    same(why.whitened_overlaps, expected.whitened_overlaps)
    same(why.covariance_modes(2) ** 2, expected.covariance_modes(2) ** 2)
    same(why.gain_modes(2) ** 2, expected.gain_modes(2) ** 2)


def test_an_explanation_by_few_modes():
    why, expected = (fc.explain(x, S, RIDGE, modes=4) for x in (chunked(X, UNEVEN), X))
    for name in ("overlaps", "delta", "spectrum", "total", "reachable", "dof", "dof_upper"):
        same(getattr(why, name), getattr(expected, name))
    assert not why.complete
    same(why.filter(5), expected.filter(5), 1e-9)
    same(why.whitened_overlaps, expected.whitened_overlaps, 1e-9)
    same(why.importance, expected.importance, 1e-9)
    same(why.importance_silenced, expected.importance_silenced, 1e-9)


def test_gains_that_targets_share():
    stack = np.stack([S, 2.0 * S, S + np.eye(len(S))])
    found, expected = (fc.fit(x, stack, ridge=RIDGE, shared=True) for x in (chunked(X, UNEVEN), X))
    same(found.gains, expected.gains)
    same(found.stats["shared"]["r2"], expected.stats["shared"]["r2"])


def test_losses_and_gradients():
    lazy, Z = chunked(X, UNEVEN), np.stack([random_gains(N, seed) for seed in range(18)])
    for z, center in ((Z[0], True), (Z[:3], False), (Z, True)):
        asked = {"ridge": RIDGE, "center": center}
        same(fc.loss(lazy, S, z, **asked), fc.loss(X, S, z, **asked))
        found = fc.loss_and_gradient(lazy, S, z, **asked)
        for part, expected in zip(found, fc.loss_and_gradient(X, S, z, **asked), strict=True):
            same(part, expected)


@pytest.mark.parametrize("gains", [None, random_gains(N)], ids=["at-ones", "at-gains"])
def test_covariances_overlaps_and_operators(gains, center):
    lazy, at = chunked(X, UNEVEN), {"gains": gains, "center": center}
    same(fc.covariance(lazy, **at), fc.covariance(X, **at))
    same(fc.overlaps(lazy, S, **at), fc.overlaps(X, S, **at))
    same(fc.atom_norms(lazy, **at), fc.atom_norms(X, **at))
    same(fc.gram(lazy, **at), fc.gram(X, **at))
    there, here = fc.GramOperator(lazy, **at), fc.GramOperator(X, **at)
    same(there.columns([3, 70, -1, 3]), here.columns([3, 70, -1, 3]))
    same(there.diagonal(), here.diagonal())
    same(there @ Z[0], here @ Z[0])
    same(there @ Z.T, here @ Z.T)
    there, here = fc.AtomOperator(lazy, **at), fc.AtomOperator(X, **at)
    same(there.columns([3, 70, -1, 3]), here.columns([3, 70, -1, 3]))
    same(there @ Z[0], here @ Z[0])
    same(there.T @ S.ravel(), here.T @ S.ravel())
    same(there.dense(), here.dense())


def test_target_covariances():
    Y = data(77, D, seed=4)
    expected = fc.target_covariance(Y, like=X)
    for y, x in ((chunked(Y, 30), X), (Y, chunked(X, UNEVEN)), (chunked(Y, 30), chunked(X, UNEVEN))):
        same(fc.target_covariance(y, like=x), expected)
    same(fc.target_covariance(chunked(Y, 30)), fc.target_covariance(Y))


def test_gains_are_applied_to_other_conditions():
    fit, other = fits(chunked(X, UNEVEN), S, ridge=RIDGE), data(N, 3, seed=8)
    same(fit.apply(chunked(other, 50)).covariance, fit.apply(other).covariance)


# --- right-hand sides that are not overlaps


@pytest.mark.parametrize("ridges", [1.0, np.linspace(0.5, 20.0, N)], ids=["one", "one-a-channel"])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_any_right_hand_side(ridges, kind):
    A = X.astype(kind)
    problem = Problem.of(chunked(A, UNEVEN))
    norms = squared_norms(problem)
    penalty = Penalty.of("ridge", RIDGE * ridges, N).in_units(problem.exponent, norms == 0)
    system, options = System(problem, penalty, norms), Options(tol=TOL)
    state = conditions.init(system, options)
    rhs = np.random.default_rng(0).standard_normal((3, N))
    rhs[1] = 0.0
    solution = state.solve(rhs)
    expected = np.linalg.solve(naive.gram(X) + np.diag(np.broadcast_to(RIDGE * ridges, N)), rhs.T).T
    same(solution.value, expected)
    assert solution.status == "converged"
    assert (solution.value[1] == 0.0).all()


# --- schedulers and workers


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_a_local_scheduler_computes_what_it_is_asked_for(scheduler, monkeypatch):
    given = submitted(monkeypatch)
    with dask.config.set(scheduler=scheduler):
        fit = fits(chunked(X, UNEVEN), S, ridge=RIDGE)
    agrees(fit, local("linear", "auto"))
    assert not given


def test_a_local_scheduler_reads_blocks_of_what_is_too_large(monkeypatch):
    monkeypatch.setattr("fastcov._rows.dask_arrays.available_memory", lambda: 0)
    with dask.config.set(scheduler="threads"):
        fit = fits(chunked(X, UNEVEN), S, ridge=RIDGE)
    same(fit.delta, local("linear", "auto").delta)


def test_sums_do_not_depend_on_where_chunks_are(client):
    names = list(client.scheduler_info()["workers"])

    def bits(workers):
        held = client.persist(chunked(X, (12,) * 10, name=False), workers=workers)
        wait(held)
        assert {w for where in client.who_has(held).values() for w in where} == set(workers)
        return [fits(held, S, ridge=RIDGE, solver=solver).delta.tobytes() for solver in ("pcg", "dual")] + [
            fc.covariance(held).tobytes()
        ]

    assert bits(names) == bits(names[:1])


@pytest.mark.parametrize("options", [{}, {"offset": True}, {"center": False}, {"bounds": (0, None)}], ids=str)
@pytest.mark.parametrize("atoms", ["product", "squared-euclidean"])
def test_weights_of_similarities_are_the_same_as_here(atoms, options):
    asked = {"relative_ridge": 0.05, "atoms": atoms, **options}
    lazy, here = fc.reweight(chunked(X, UNEVEN), S, **asked), fc.reweight(X, S, **asked)
    assert lazy.status == "converged"
    # Both residuals are at most 1e-8, and the condition number is 20.
    np.testing.assert_allclose(lazy.weights, here.weights, rtol=0, atol=1e-6 * np.abs(here.weights).max())
    size = np.abs(here.prediction).max()
    np.testing.assert_allclose(lazy.prediction, here.prediction, rtol=0, atol=1e-6 * size)


def test_a_study_of_weights_is_the_same_as_here():
    wide, other = data(N, 18), data(30, 18, seed=1)
    asked = {"folds": 3, "relative_ridges": [0.1, 1.0]}
    lazy, here = (fc.reweight(each, other.T @ other, "cv", **asked) for each in (chunked(wide, UNEVEN), wide))
    for name, values in here.scores.nested.items():
        np.testing.assert_allclose(lazy.scores.nested[name], values, rtol=0, atol=1e-4)
