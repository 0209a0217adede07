"""Gains that groups of channels share, against fits with G formed and its columns summed."""

import json
import pathlib

import dask.array as da
import naive
import numpy as np
import pandas as pd
import pytest
import scipy.optimize
from cases import data, target
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc
from fastcov import cli
from fastcov._model.group_forms import GroupForms
from fastcov._model.groups import Groups
from fastcov._model.problem import Problem

EPS = np.finfo(np.float64).eps
N, D = 40, 7
LABELS = [f"g{k}" for k in np.random.default_rng(5).integers(0, 6, N)]
METHODS = ("linear", "line-search", "exact", "diagonal")


def size_of(X, labels, share, center=True):
    """A ridge of a share of the largest eigenvalue of PᵀGᵀGP."""
    return share * np.linalg.norm(naive.atoms(X, None, center) @ naive.membership(labels)[1], 2) ** 2


def lowest(X, S, labels, ridge, center=True, R=None, bounds=None):
    """Gains of groups at a minimum, from ones: L-BFGS-B."""
    unit = naive.group_loss(X, S, labels, np.ones(len(set(labels))), ridge, center, R)
    found = scipy.optimize.minimize(
        lambda g: naive.group_loss(X, S, labels, g, ridge, center, R) / unit,
        np.ones(len(set(labels))) if bounds is None else np.clip(np.ones(len(set(labels))), *bounds),
        jac=lambda g: naive.group_gradient(X, S, labels, g, ridge, center, R) / unit,
        method="L-BFGS-B", bounds=None if bounds is None else scipy.optimize.Bounds(*bounds),
        options={"maxiter": 5000, "maxfun": 20000, "ftol": 1e-16, "gtol": 1e-11},
    )  # fmt: skip
    return found.x


def left_of(X, S, labels, g, ridge, center=True):
    """‖b − A δ‖ over ‖A‖‖δ‖ + ‖b‖, of the linear system with G formed."""
    P = naive.membership(labels)[1]
    G = naive.atoms(X, None, center, np.longdouble) @ P
    b = G.T @ naive.error(X, S, None, center, np.longdouble)
    A = G.T @ G + np.diag(np.broadcast_to(np.asarray(ridge), P.shape[1]))
    size = np.linalg.norm(A.astype(float)) * np.linalg.norm(g - 1) + np.linalg.norm(b.astype(float))
    return float(np.linalg.norm((b - A @ (g - 1)).astype(float)) / size)


@pytest.mark.covering(2)
@pytest.mark.parametrize("solver", ["auto", "cholesky", "dual", "spectral", "pcg"])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("share", [1e-1, 1e-4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("labels", [LABELS, list(range(N // 2)) * 2, [0] * N], ids=["few", "pairs", "one"])
def test_the_linear_fit_solves_the_system_of_summed_columns(solver, center, share, dtype, labels):
    X = data(N, D, dtype)
    S = target(D, size=N)
    ridge = size_of(X, labels, share, center)
    fit = fc.fit(X, S, ridge=ridge, groups=labels, center=center, solver=solver)
    names, P = naive.membership(labels)
    assert fit.groups == tuple(names)
    assert_array_equal(fit.gains, P @ fit.group_gains)
    # pcg stops at a residual, the others at rounding, which the mean of X enlarges
    assert left_of(X, S, labels, fit.group_gains, ridge, center) <= (1e-8 if solver == "pcg" else 300 * EPS)
    want = naive.group_loss(X, S, labels, fit.group_gains, ridge, center)
    assert_allclose(fit.loss, want, rtol=1e-12)
    assert fit.status == "converged"


@pytest.mark.covering(2)
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("share", [1e-1, 1e-3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("labels", [LABELS, list(range(N // 2)) * 2], ids=["few", "pairs"])
def test_the_exact_fit_is_at_a_minimum_no_higher_than_that_of_lbfgs(center, share, dtype, labels):
    X = data(N, D, dtype)
    S = target(D, size=N)
    ridge = size_of(X, labels, share, center)
    fit = fc.fit(X, S, ridge=ridge, groups=labels, center=center, method="exact")
    slope = naive.group_gradient(X, S, labels, fit.group_gains, ridge, center)
    at_one = naive.group_gradient(X, S, labels, np.ones(len(fit.groups)), ridge, center)
    share_left = np.linalg.norm(slope) / np.linalg.norm(at_one)
    assert share_left <= 1.001e-6
    assert_allclose(fit.residual, share_left, rtol=1e-3, atol=1e-9)
    found = lowest(X, S, labels, ridge, center)
    assert fit.loss <= naive.group_loss(X, S, labels, found, ridge, center) * (1 + 1e-9)
    assert fit.stats["lower_elsewhere"] == 0


def test_one_group_is_one_gain_at_the_least_of_its_quartic():
    X, S = data(N, D), target(D, size=N)
    C, ridge = naive.covariance(X), size_of(X, [0] * N, 0.1)
    # ½‖g²C − S‖² + (λ/2)(g − 1)²
    roots = np.roots([2 * np.sum(C * C), 0.0, ridge - 2 * np.sum(C * S), -ridge])
    real = roots[np.abs(roots.imag) < 1e-9].real
    best = min(real, key=lambda g: np.sum((g * g * C - S) ** 2) + ridge * (g - 1) ** 2)
    fit = fc.fit(X, S, ridge=ridge, groups=["all"] * N, method="exact", tol=1e-10)
    assert_allclose(fit.group_gains, best, rtol=1e-9)
    assert_allclose(fit.gains, best, rtol=1e-9)
    assert "one gain for all channels" in str(fit)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("center", [True, False])
def test_a_group_of_each_channel_alone_is_a_fit_without_groups(method, center):
    X, S = data(N, D), target(D, size=N)
    alone, plain = (
        fc.fit(X, S, relative_ridge=0.05, method=method, center=center, tol=1e-11, groups=groups)
        for groups in ([f"c{i}" for i in range(N)], None)
    )
    assert_allclose(alone.gains, plain.gains, rtol=1e-8)
    assert_allclose(alone.loss, plain.loss, rtol=1e-10)
    assert_allclose(alone.ridge, plain.ridge, rtol=1e-9)
    assert alone.groups == tuple(f"c{i}" for i in range(N))
    assert plain.groups is plain.group_gains is None


def test_the_diagonal_fit_ignores_correlations_among_groups_alone():
    X, S, ridge = data(N, D), target(D, size=N), 30.0
    G = naive.atoms(X) @ naive.membership(LABELS)[1]
    want = 1 + G.T @ naive.error(X, S) / (np.sum(G**2, axis=0) + ridge)
    assert_allclose(fc.fit(X, S, ridge=ridge, groups=LABELS, method="diagonal").group_gains, want, rtol=1e-11)


def test_the_line_search_ends_where_the_exact_loss_is_least_along_the_linear_fit():
    X, S = data(N, D), target(D, size=N)
    ridge = size_of(X, LABELS, 1e-3)
    linear, searched = (fc.fit(X, S, ridge=ridge, groups=LABELS, method=m) for m in ("linear", "line-search"))
    delta = linear.group_gains - 1

    def along(t):
        return naive.group_loss(X, S, LABELS, 1 + t * delta, ridge)

    step = searched.stats["step"]
    assert_allclose(searched.group_gains, 1 + step * delta, rtol=1e-12)
    assert_allclose(searched.loss, along(step), rtol=1e-11)
    times = np.linspace(0.0, 2.0, 401)
    assert searched.loss <= min(map(along, times)) * (1 + 1e-12)


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", ["linear", "exact"])
@pytest.mark.parametrize("bounds", [(0.9, 1.1), (0, None), (1.05, 2.0)], ids=str)
@pytest.mark.parametrize("center", [True, False])
def test_bounded_gains_meet_the_conditions_of_karush_kuhn_and_tucker(method, bounds, center):
    X, S = data(N, D), target(D, size=N)
    ridge = size_of(X, LABELS, 1e-2, center)
    fit = fc.fit(X, S, ridge=ridge, groups=LABELS, method=method, bounds=bounds, center=center)
    lower, upper = (-np.inf if bounds[0] is None else bounds[0]), (np.inf if bounds[1] is None else bounds[1])
    g, ones, P = fit.group_gains, np.ones(len(fit.groups)), naive.membership(LABELS)[1]
    if method == "exact":
        slope, at_one = (naive.group_gradient(X, S, LABELS, x, ridge, center) for x in (g, ones))
    else:
        slope, at_one = (
            P.T @ naive.linear_loss_gradient(X, S, P @ x, 0.0, center) + ridge * (x - 1) for x in (g, ones)
        )
    assert ((g >= lower) & (g <= upper)).all()
    assert np.linalg.norm(naive.projected(slope, g, lower, upper)) <= 1.001e-6 * np.linalg.norm(at_one)
    assert fit.stats["at_bounds"] == np.sum((g <= lower) | (g >= upper))
    assert f"of {len(ones)} gains at a bound" in str(fit)


@pytest.mark.covering(2)
@pytest.mark.parametrize("nuisance", [None, ("diagonal",), ("diagonal", "constant")], ids=str)
@pytest.mark.parametrize("pairs", [None, "off-diagonal", "weights"])
@pytest.mark.parametrize("method", ["linear", "exact"])
def test_nuisance_terms_and_pairs_count_as_for_channels(nuisance, pairs, method):
    X, S = data(N, D), target(D, size=N)
    weights = np.random.default_rng(3).random((D, D))
    weights = {"off-diagonal": 1 - np.eye(D), "weights": weights + weights.T}.get(pairs)
    R = naive.projection(D, nuisance or (), weights)
    P = naive.membership(LABELS)[1]
    G = R @ naive.atoms(X) @ P
    ridge = 0.02 * np.linalg.norm(G, 2) ** 2
    fit = fc.fit(
        X, S, relative_ridge=0.02, groups=LABELS, method=method, nuisance=nuisance,
        pairs=weights if pairs == "weights" else pairs, tol=None if method == "linear" else 1e-9,
    )  # fmt: skip
    assert_allclose(fit.ridge, ridge, rtol=1e-6)
    if method == "linear":
        want = 1 + np.linalg.solve(G.T @ G + ridge * np.eye(len(fit.groups)), G.T @ R @ naive.error(X, S))
        assert_allclose(fit.group_gains, want, rtol=1e-5)
        return
    slope, at_one = (
        naive.group_gradient(X, S, LABELS, g, fit.ridge, R=R) for g in (fit.group_gains, np.ones(P.shape[1]))
    )
    assert np.linalg.norm(slope) <= 1.1e-9 * np.linalg.norm(at_one)
    assert_allclose(fit.loss, naive.group_loss(X, S, LABELS, fit.group_gains, fit.ridge, R=R), rtol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_a_stack_of_targets_is_as_many_fits(method):
    X, S = data(N, D), np.stack([target(D, seed, size=N) for seed in (1, 2, 3)])
    ridge = size_of(X, LABELS, 0.05)
    stack = fc.fit(X, S, ridge=ridge, groups=LABELS, method=method)
    assert stack.group_gains.shape == (3, len(stack.groups))
    assert stack.to_frame()["group"].tolist() == LABELS * 3
    for k, each in enumerate(S):
        one = fc.fit(X, each, ridge=ridge, groups=LABELS, method=method)
        assert_allclose(stack.group_gains[k], one.group_gains, rtol=1e-10)
        assert_allclose(stack.loss[k], one.loss, rtol=1e-11)


# ---- what the fits rest on


@settings(max_examples=60, deadline=None)
@given(data=st.data(), center=st.booleans(), offset=st.sampled_from([0.0, 1.0, 1e4]))
def test_sums_over_any_groups_give_covariances_and_derivatives(data, center, offset):
    n, d = data.draw(st.integers(2, 12)), data.draw(st.integers(1, 5))
    labels = data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    X = random.standard_normal((n, d)) + offset
    names, P = naive.membership(labels)
    g, h = random.standard_normal((2, len(names)))
    if offset > 1.0:  # with other gains the covariance itself is of the size of the offset
        g = 1.0 + 1e-4 * g
    forms = GroupForms.of(Problem.of(X, center=center), Groups.of(labels, n, Problem.of(X).labels))
    X_long = X.astype(np.longdouble)
    C = naive.covariance(X_long, P @ g, center, np.longdouble).astype(float)
    # what is small, after the mean is removed first, keeps its digits
    size = np.abs(C).max() + np.abs(naive.covariance(X, None, center)).max()
    assert np.abs(forms.mixed(g, g) - C).max() <= 200 * n * EPS * (size + EPS * offset**2)
    M = random.standard_normal((d, d))
    M = M + M.T
    slopes = (P.T @ naive.atoms(X_long, P @ g, center, np.longdouble).T).astype(float)
    bound = (
        1e3 * n * EPS * np.abs(M).max() * (np.abs(slopes).max() + np.abs(X).max() * np.abs(X - offset).max())
    )
    assert np.abs(2 * forms.inner(g, M) - slopes @ M.ravel()).max() <= bound
    # F is bilinear and symmetric
    assert_allclose(forms.mixed(g, h), forms.mixed(h, g), atol=200 * EPS * np.abs(forms.mixed(h, h)).max())
    both = forms.mixed(g + h, g + h) - forms.mixed(g, g) - forms.mixed(h, h)
    bound = 1e3 * EPS * sum(np.abs(forms.mixed(x, x)).max() for x in (g, h, g + h))
    assert np.abs(2 * forms.mixed(g, h) - both).max() <= bound


@settings(max_examples=40, deadline=None)
@given(data=st.data(), center=st.booleans())
def test_exact_fits_of_random_groups_are_stationary_and_no_gain_alone_is_lower(data, center):
    n, d = data.draw(st.integers(2, 14)), data.draw(st.integers(1, 4))
    labels = data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    X, Y = random.standard_normal((n, d)) + 0.5, random.standard_normal((n, d))
    S = Y.T @ Y
    ridge = size_of(X, labels, data.draw(st.sampled_from([1e-1, 1e-2, 1e-3])), center)
    if not ridge > 0:
        return
    fit = fc.fit(X, S, ridge=ridge, groups=labels, method="exact", center=center)
    g, ones = fit.group_gains, np.ones(len(fit.groups))
    slope, at_one = (naive.group_gradient(X, S, labels, x, ridge, center) for x in (g, ones))
    noise = 100 * EPS * (np.linalg.norm(S) + np.linalg.norm(naive.covariance(X, fit.gains, center)))
    noise *= np.linalg.norm(naive.atoms(X, fit.gains, center))
    assert np.linalg.norm(slope) <= 1.001e-6 * np.linalg.norm(at_one) + noise
    here = naive.group_loss(X, S, labels, g, ridge, center)
    for a in range(len(g)):
        for other in np.linspace(-4.0, 4.0, 81):
            moved = np.where(np.arange(len(g)) == a, other, g)
            assert naive.group_loss(X, S, labels, moved, ridge, center) >= here * (1 - 1e-3) - 1e-12


@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_units_leave_gains_as_they_are(scale):
    X, S = data(N, D), target(D, size=N)
    ridge = size_of(X, LABELS, 0.05)
    for method in ("linear", "exact"):
        plain = fc.fit(X, S, ridge=ridge, groups=LABELS, method=method)
        other = fc.fit(X * scale, S * scale**2, ridge=ridge * scale**4, groups=LABELS, method=method)
        assert_allclose(other.group_gains, plain.group_gains, rtol=1e-6)
        assert_allclose(other.loss, plain.loss * scale**4, rtol=1e-10)


def test_a_silent_channel_has_the_gain_of_its_group_and_a_silent_group_that_of_one():
    X, S = data(N, D), target(D, size=N)
    labels = [*LABELS[:-2], "silent", "silent"]
    X[[3, -2, -1]] = 0.0
    for method in METHODS:
        fit = fc.fit(X, S, relative_ridge=0.05, groups=labels, method=method)
        gains = dict(zip(fit.groups, fit.group_gains, strict=True))
        assert gains["silent"] == 1.0
        assert fit.gains[3] == gains[labels[3]] != 1.0


@pytest.mark.parametrize("method", ["linear", "exact"])
def test_files_memory_maps_and_dask_give_the_fit_of_the_array(method, tmp_path):
    X = data(300, D, np.float32)
    S, labels = target(D, size=300), np.random.default_rng(0).integers(0, 9, 300)
    want = fc.fit(X, S, relative_ridge=0.05, groups=labels, method=method, tol=1e-10)
    np.save(tmp_path / "X.npy", X)
    stored = np.load(tmp_path / "X.npy", mmap_mode="r")
    for given_ in (stored, da.from_array(X, chunks=(41, D)), np.asfortranarray(X)):
        fit = fc.fit(given_, S, relative_ridge=0.05, groups=labels, method=method, tol=1e-10)
        assert_allclose(fit.group_gains, want.group_gains, rtol=1e-8)


def test_more_memory_than_there_is_is_refused_before_it_is_taken():
    X, S = data(600, 20), target(20, size=600)
    with pytest.raises(MemoryError, match=r"sums of 300 groups over the 210 pairs .* use fewer groups"):
        fc.fit(X, S, ridge=1.0, groups=np.arange(600) // 2, memory_budget=1e6)


# ---- arguments


def test_vectors_over_groups_are_aligned_by_the_names_of_groups():
    X, S = data(N, D), target(D, size=N)
    fit = fc.fit(X, S, ridge=10.0, groups=LABELS)
    ridge = pd.Series(np.arange(1.0, 1 + len(fit.groups)), index=list(fit.groups))
    want = naive.group_fit(X, S, LABELS, ridge.to_numpy())
    assert_allclose(fc.fit(X, S, ridge=ridge.to_numpy(), groups=LABELS).group_gains, want, rtol=1e-9)
    with pytest.warns(fc.LabelWarning, match=r"groups of 'ridge' are in another order"):
        found = fc.fit(X, S, ridge=ridge[::-1], groups=LABELS)
    assert_allclose(found.group_gains, want, rtol=1e-9)
    assert "by group" in str(found)
    least = pd.Series(0.0, index=list(fit.groups))
    least[fit.groups[2]] = 1.5
    with pytest.warns(fc.LabelWarning, match=r"groups of 'bounds'"):
        found = fc.fit(X, S, ridge=10.0, groups=LABELS, bounds=(least[::-1], None), method="exact")
    assert found.group_gains[2] >= 1.5
    start = np.ones(len(fit.groups)) * 1.2
    assert (
        fc.fit(X, S, ridge=10.0, groups=LABELS, gains0=start, method="exact", tol=1e-9).status == "converged"
    )
    with pytest.raises(ValueError, match=r"'gains0' must have one entry for each of the 6 groups"):
        fc.fit(X, S, ridge=10.0, groups=LABELS, gains0=np.ones(N), method="exact")
    with pytest.raises(ValueError, match=r"'ridge' must be a number, one for each of the 6 groups"):
        fc.fit(X, S, ridge=np.ones(N), groups=LABELS)


def test_a_matrix_couples_the_gains_of_groups():
    X, S = data(N, D), target(D, size=N)
    root = 5.0 * np.vstack([np.diff(np.eye(6), axis=0), 0.1 * np.eye(6)])
    G = naive.atoms(X) @ naive.membership(LABELS)[1]
    want = 1 + np.linalg.solve(G.T @ G + root.T @ root, G.T @ naive.error(X, S))
    fit = fc.fit(X, S, ridge=root, groups=LABELS)
    assert_allclose(fit.group_gains, want, rtol=1e-9)
    exact = fc.fit(X, S, ridge=root, groups=LABELS, method="exact")
    slope = naive.group_gradient(X, S, LABELS, exact.group_gains) + root.T @ root @ (exact.group_gains - 1)
    at_one = naive.group_gradient(X, S, LABELS, np.ones(6))
    assert np.linalg.norm(slope) <= 1.001e-6 * np.linalg.norm(at_one)


def test_labels_with_names_of_channels_are_aligned():
    X, S = data(N, D), target(D, size=N)
    names = [f"c{i}" for i in range(N)]
    table, labels = pd.DataFrame(X, index=names), pd.Series(LABELS, index=names)
    want = fc.fit(X, S, ridge=10.0, groups=LABELS)
    with pytest.warns(fc.LabelWarning, match=r"channels of 'groups' are in another order"):
        fit = fc.fit(table, S, ridge=10.0, groups=labels[::-1])
    assert_array_equal(fit.gains, want.gains)
    assert fit.groups == want.groups
    with pytest.raises(ValueError, match=r"'groups' must have the channels of 'X'"):
        fc.fit(table, S, ridge=10.0, groups=labels.rename({"c3": "other"}))


@pytest.mark.parametrize(
    "labels",
    [
        [("a", 1), ("b", 2)] * (N // 2), [1.5, 2.5] * (N // 2), np.array([True, False] * (N // 2)),
        pd.Series([0, 1] * (N // 2)), pd.Categorical(["u", "v"] * (N // 2)), [b"u", "v"] * (N // 2),
        (k % 2 for k in range(N)),
    ],
    ids=["tuples", "floats", "bool", "series", "categorical", "bytes", "generator"],
)  # fmt: skip
def test_any_labels_name_groups(labels):
    fit = fc.fit(data(N, D), target(D, size=N), ridge=10.0, groups=labels)
    want = fc.fit(data(N, D), target(D, size=N), ridge=10.0, groups=[0, 1] * (N // 2))
    assert len(fit.groups) == 2
    assert_array_equal(fit.gains, want.gains)


BAD = {
    "few": (LABELS[:-1], ValueError, "not 39 labels"),
    "many": ([*LABELS, "a"], ValueError, "not 41 labels"),
    "none": ([*LABELS[:-1], None], ValueError, "not None at channel 39"),
    "nan": ([float("nan"), 1.0] * (N // 2), ValueError, r"not nan at channel 0 \(20 in all\)"),
    "na": (pd.Series([pd.NA, "b"] * (N // 2)), ValueError, "not (<NA>|nan) at channel 0"),
    "nat": (np.array(["NaT", "2020-01-01"] * (N // 2), "M8[D]"), ValueError, "at channel 0"),
    "text": ("a" * N, TypeError, "not 'aaa"),
    "number": (3, TypeError, "not 3"),
    "matrix": (np.zeros((N, 2)), TypeError, "at channel 0: pass numbers or texts along one axis"),
    "lists": ([["a"]] * N, TypeError, "at channel 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_labels_that_do_not_cover_the_channels_are_refused(case):
    labels, kind, detail = BAD[case]
    X, S = data(N, D), target(D, size=N)
    message = rf"^Argument '{{}}' must hold one label for each of the {N} channels, .*{detail}"
    with pytest.raises(kind, match=message.format("groups")):
        fc.fit(X, S, ridge=10.0, groups=labels)
    with pytest.raises(kind, match=message.format("groups")):
        fc.ridge_path(X, S, groups=labels)
    with pytest.raises(kind, match=message.format("channel_groups")):
        fc.cross_validate(X, S=S, channel_groups=labels)


def test_a_connectivity_has_no_gains_to_share():
    with pytest.raises(ValueError, match=r"'groups' must be left out for method='free'"):
        fc.fit(data(N, D), target(D, size=N), ridge=10.0, groups=LABELS, method="free")
    with pytest.raises(ValueError, match=r"'channel_groups' must be left out for method='free'"):
        fc.cross_validate(data(N, D), S=target(D, size=N), channel_groups=LABELS, method="free")


# ---- paths and studies


@pytest.mark.parametrize("method", METHODS)
def test_a_path_is_of_fits_with_groups(method):
    X, S = data(N, D), target(D, size=N)
    shares = [1.0, 1e-1, 1e-2]
    path = fc.ridge_path(X, S, relative_ridges=shares, groups=LABELS, method=method, tol=1e-9)
    for share, found in zip(shares, path, strict=True):
        one = fc.fit(X, S, relative_ridge=share, groups=LABELS, method=method, tol=1e-9)
        assert found.groups == one.groups
        assert_allclose(found.loss, one.loss, rtol=1e-9)
        assert_allclose(found.group_gains, one.group_gains, rtol=1e-6)


@pytest.mark.parametrize("solver", ["auto", "spectral"])
def test_one_decomposition_serves_a_path_of_groups(solver):
    X, S = data(N, D), target(D, size=N)
    path = fc.ridge_path(X, S, ridges=np.geomspace(1, 1e4, 30), groups=LABELS, solver=solver)
    for fit in path:
        assert left_of(X, S, LABELS, fit.group_gains, fit.ridge) <= 300 * EPS


@pytest.mark.parametrize("method", ["linear", "exact"])
@pytest.mark.parametrize("relative", [True, False])
def test_folds_predict_with_gains_of_groups(method, relative):
    random = np.random.default_rng(0)
    X, Y = data(24, 10), random.standard_normal((30, 10)) + 1.0
    labels = [f"g{k}" for k in random.integers(0, 4, 24)]
    P = naive.membership(labels)[1]
    folds = [
        (np.arange(10)[np.arange(10) % 5 != k], np.flatnonzero(np.arange(10) % 5 == k)) for k in range(5)
    ]
    ridges = [1.0, 0.1] if relative else [300.0, 30.0]

    def fit(X, S, ridge, center):
        if relative:  # of the largest eigenvalue of PᵀGᵀGP, where the study has that of GᵀG
            G = naive.atoms(X, None, center)
            ridge *= np.linalg.norm(G @ P, 2) ** 2 / np.linalg.norm(G, 2) ** 2
        g = naive.group_fit(X, S, labels, ridge, center)
        return P @ (g if method == "linear" else lowest(X, S, labels, ridge, center))

    grid = {"relative_ridges" if relative else "ridges": ridges}
    cv = fc.cross_validate(
        X, Y, **grid, folds=folds, method=method, channel_groups=labels, tol=1e-10, refit="best"
    )
    table, _, gains = naive.held_out_study(X, Y, ridges, folds, fit, relative=relative)
    assert_allclose(cv.scores[method].gains, gains, rtol=1e-5, atol=1e-6)
    want = [naive.scores(row)["cross-pearson"] for row in table]
    assert_allclose(cv.summary(method)[0], want, rtol=1e-5)
    assert cv.fits[method].groups == tuple(dict.fromkeys(labels))
    assert cv.stats["channel_groups"] == cv.fits[method].groups


def test_nested_choice_shuffles_and_left_out_conditions_take_groups():
    sim = fc.datasets.simulate(40, 12, rng=0)
    labels = [f"g{k}" for k in np.random.default_rng(0).integers(0, 5, 40)]
    cv = fc.cross_validate(
        sim.X, sim.Y, channel_groups=labels, relative_ridges=[1.0, 0.1], nested=True, shuffles=3, folds=4
    )
    assert cv.scores["exact"].nested is not None
    assert cv.scores["exact"].shuffled.sums.shape[0] == 3
    kept = cv.scores["exact"].gains
    P = naive.membership(labels)[1]
    assert_array_equal(kept, kept[..., [labels.index(name) for name in dict.fromkeys(labels)]] @ P.T)


def test_leave_one_out_fits_each_fold_where_groups_share_gains():
    sim = fc.datasets.simulate(40, 12, rng=0)
    labels = [f"g{k}" for k in np.random.default_rng(0).integers(0, 5, 40)]
    one_by_one = [(np.delete(np.arange(12), k), [k]) for k in range(12)]
    asked = {"channel_groups": labels, "method": "linear", "relative_ridges": [0.1, 0.01]}
    short, long = (fc.cross_validate(sim.X, sim.Y, folds=f, **asked) for f in ("leave-one-out", one_by_one))
    assert_allclose(short.scores["linear"].gains, long.scores["linear"].gains, rtol=1e-9)


def test_a_ridge_that_folds_choose_is_chosen_with_groups():
    sim = fc.datasets.simulate(40, 12, rng=0)
    labels = np.arange(40) % 4
    fit = fc.fit(sim.X, responses=sim.Y, ridge="cv", groups=labels, method="exact")
    assert len(fit.groups) == 4
    assert fit.stats["cv"].stats["channel_groups"] == (0, 1, 2, 3)


@pytest.mark.parametrize("bounds", [None, (0.9, 1.1), "each"])
def test_a_comparison_counts_the_gains_of_groups_that_are_free(bounds):
    sim = fc.datasets.simulate(40, 12, rng=0)
    labels = [f"g{k}" for k in np.random.default_rng(0).integers(0, 5, 40)]
    limits = ([0.9, -np.inf, 0.5, 0.9, 0.9], 1.1) if bounds == "each" else bounds
    models = {"groups": {"relative_ridges": [0.1], "bounds": limits}, "gains": {"relative_ridges": [0.1]}}
    found = fc.compare(sim.X, sim.Y, models=models, groups=labels, nested=False, folds=3)
    fit = found.models["groups"].cv.fits["exact"]
    g = fit.group_gains
    free = np.ones(5, bool)
    if limits is not None:
        free = (g > np.asarray(limits[0])) & (g < limits[1])
    G = naive.atoms(sim.X, fit.gains) @ naive.membership(labels)[1][:, free]
    values = np.linalg.eigvalsh(G.T @ G) if free.any() else np.zeros(0)
    want = np.sum(values / (values + fit.ridge))
    assert_allclose(found.models["groups"].degrees_of_freedom, want, rtol=1e-9, atol=1e-12)


# ---- results


@pytest.fixture(scope="module")
def fitted():
    sim = fc.datasets.simulate(40, 10, rng=1)
    labels = np.array(["a", "b", "c"])[np.random.default_rng(1).integers(0, 3, 40)]
    return sim, labels, fc.fit(sim.X, responses=sim.Y, relative_ridge=0.05, groups=labels, method="exact")


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_a_saved_fit_keeps_its_groups(fitted, suffix, tmp_path):
    _, _, fit = fitted
    fit.save(tmp_path / f"fit{suffix}")
    same = fc.load(tmp_path / f"fit{suffix}")
    assert same.groups == fit.groups
    assert_array_equal(same.group_places, fit.group_places)
    assert_array_equal(same.group_gains, fit.group_gains)
    if suffix == ".npz":
        assert_array_equal(np.load(tmp_path / "fit.npz")["group_gains"], fit.group_gains)


def test_tables_and_text_name_the_groups(fitted):
    _, labels, fit = fitted
    assert "one gain for each of 3 groups: " in str(fit)
    for name, gain in zip(fit.groups, fit.group_gains, strict=True):
        assert f"{name} {gain:.3g}" in str(fit)
    frame = fit.to_frame()
    assert_array_equal(frame["group"], labels)
    means = frame.groupby("group")["gain"].agg(["min", "max"])
    assert_array_equal(means["min"], means["max"])
    dataset = fit.to_xarray()
    assert_array_equal(dataset["group_gains"].sel(group=list(fit.groups)), fit.group_gains)
    assert_array_equal(np.array(fit.groups)[dataset["group_of_channel"]], labels)


def test_a_report_says_that_gains_are_shared(fitted, tmp_path):
    sim, _, fit = fitted
    page = fit.report(tmp_path / "fit.html").read_text()
    assert "Channels of a group share one gain" in page
    why = fc.explain(sim.X, responses=sim.Y, relative_ridge=0.05)
    with pytest.raises(ValueError, match=r"'explanation' must be left out for gains that groups share"):
        fit.report(tmp_path / "other.html", explanation=why)


def test_gains_apply_to_other_conditions(fitted):
    _, _, fit = fitted
    new = data(40, 4)
    assert_allclose(fit.apply(new).covariance, naive.covariance(new, fit.gains), rtol=1e-12)


def test_no_channel_of_a_group_changes_alone(fitted):
    sim, _, fit = fitted
    for X in (None, sim.X):
        with pytest.raises(ValueError, match=r"'fit' must have a gain for each channel"):
            fit.single_gain_losses(X)


# ---- uncertainty


def weighted(X, Y, labels, ridge, cells, conditions):
    """Gains of groups of a linear fit where cells and conditions have weights; ridges stay as they are."""
    root = np.sqrt(conditions)
    mean = cells @ Y / cells.sum()
    raw = (Y - mean).T @ (cells[:, None] * (Y - mean))
    ones = naive.covariance(X)
    S = raw * (conditions @ np.diagonal(ones)) / (conditions @ np.diagonal(raw))
    return naive.group_fit(X * root, S * np.outer(root, root), labels, ridge)


@pytest.mark.parametrize("by", ["cells", "conditions"])
def test_errors_of_linear_fits_are_those_of_reweighted_fits(by):
    random = np.random.default_rng(2)
    X, Y = data(30, 6), random.standard_normal((25, 6)) + 1.0
    labels = [f"g{k}" for k in random.integers(0, 4, 30)]
    fit = fc.fit(X, responses=Y, relative_ridge=0.05, groups=labels)
    n, step = (25, 1e-5) if by == "cells" else (6, 1e-5)

    def moved(m, by_much):
        weights = np.ones(n)
        weights[m] += by_much
        each = (weights, np.ones(6)) if by == "cells" else (np.ones(25), weights)
        return weighted(X, Y, labels, fit.ridge, *each)

    f = np.stack([(moved(m, step) - moved(m, -step)) / (2 * step) for m in range(n)])
    want = np.sqrt(n / (n - 1) * (np.sum(f**2, axis=0) - np.sum(f, axis=0) ** 2 / n))
    found = fit.uncertainty(Y, by=by)
    P = naive.membership(labels)[1]
    assert_allclose(found.se, P @ want, rtol=1e-5)
    G = naive.atoms(X) @ P
    H = G.T @ G + fit.ridge * np.eye(4)
    assert_allclose(found.resolution, P @ (1 - fit.ridge * np.diagonal(np.linalg.inv(H))), rtol=1e-9)
    some = fit.uncertainty(Y, by=by, channels=[7, 3])
    assert_allclose(some.se, found.se[[7, 3]], rtol=1e-10)


def test_resolution_of_an_exact_fit_is_of_the_projected_hessian(fitted):
    sim, labels, fit = fitted
    S = fit.target()
    H = naive.group_hessian(sim.X, S, list(labels), fit.group_gains, fit.ridge)
    P = naive.membership(list(labels))[1]
    want = P @ (1 - fit.ridge * np.diagonal(np.linalg.inv(H)))
    assert_allclose(fit.uncertainty(sim.Y).resolution, want, rtol=1e-8)


@pytest.mark.parametrize("method", ["linear", "exact"])
@pytest.mark.parametrize("channels", [None, [5, 2, 11]])
def test_bootstraps_fit_groups_again(fitted, method, channels):
    sim, labels, _ = fitted
    fit = fc.fit(sim.X, responses=sim.Y, relative_ridge=0.05, groups=labels, method=method)
    found = fit.uncertainty(sim.Y, n_boot=5, rng=0, channels=channels)
    counts = np.random.default_rng(0).multinomial(len(sim.Y), np.full(len(sim.Y), 1 / len(sim.Y)), size=5)
    for draw, row in zip(found.draws, counts, strict=True):
        Y = np.repeat(sim.Y, row, axis=0)
        again = fc.fit(sim.X, responses=Y, ridge=fit.ridge, groups=labels, method=method)
        assert_allclose(draw, again.gains[slice(None) if channels is None else channels], rtol=1e-4)


@pytest.mark.parametrize("method", ["linear", "exact"])
def test_targets_that_share_gains_of_groups(fitted, method):
    sim, labels, _ = fitted
    parts = [sim.Y[:20], sim.Y[20:]]
    S = np.stack([fc.target_covariance(part, like=sim.X) for part in parts])
    asked = {"relative_ridge": 0.05, "groups": labels, "method": method}
    fit, mean = fc.fit(sim.X, S, shared=True, **asked), fc.fit(sim.X, S.mean(axis=0), **asked)
    assert_allclose(fit.group_gains, mean.group_gains, rtol=1e-9)
    drawn = fit.uncertainty(parts, n_boot=300).se
    assert_allclose(fit.uncertainty(parts).se, drawn, rtol=1.0)
    first = [list(labels).index(name) for name in fit.groups]
    assert_array_equal(drawn, drawn[first][fit.group_places])


def test_gains_held_at_bounds_have_no_error(fitted):
    sim, labels, _ = fitted
    fit = fc.fit(
        sim.X, responses=sim.Y, relative_ridge=0.01, groups=labels, method="exact", bounds=(0.9, 1.1)
    )
    at = (fit.gains <= 0.9) | (fit.gains >= 1.1)
    assert at.any()
    found = fit.uncertainty(sim.Y)
    assert_array_equal(found.se[at], 0.0)
    assert_array_equal(found.held, at)


# ---- the command line


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run a command in a folder with data.npz (X, Y and labels g), labels.txt and table.csv."""
    monkeypatch.chdir(tmp_path)
    sim = fc.datasets.simulate(N, 8, rng=0)
    np.savez("data.npz", X=sim.X, Y=sim.Y, g=np.array(LABELS))
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    pd.DataFrame({"cell": range(N), "layer": LABELS}).to_csv("table.csv", index=False)

    def call(name, *arguments):
        given = [name, "data.npz:X", "--responses", "data.npz:Y", *arguments]
        return CliRunner().invoke(cli.main, given, prog_name="fastcov")

    return sim, call


@pytest.mark.parametrize("file", ["labels.txt", "data.npz:g", "table.csv:layer"])
def test_groups_are_read_from_files(command, file):
    sim, call = command
    result = call("fit", "--groups", file, "--method", "exact", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    want = fc.fit(sim.X, responses=sim.Y, relative_ridge=0.1, method="exact", groups=LABELS)
    assert found["groups"] == list(want.groups)
    assert_allclose(found["group_gains"], want.group_gains, rtol=1e-12)


def test_commands_take_groups(command):
    sim, call = command
    assert call("fit", "--groups", "labels.txt", "--output", "gains.csv").exit_code == 0
    assert pd.read_csv("gains.csv")["group"].tolist() == LABELS
    path = call("path", "--groups", "labels.txt", "--relative-ridges", "0.1", "--json")
    assert len(json.loads(path.stdout)["methods"]["linear"][0]["group_gains"]) == 6
    cv = call("cv", "--channel-groups", "labels.txt", "--relative-ridges", "0.1,1", "--json")
    want = fc.cross_validate(sim.X, sim.Y, relative_ridges=[0.1, 1.0], channel_groups=LABELS)
    found = json.loads(cv.stdout)["methods"]["exact"]
    assert_allclose(found["best_ridge"], want.best_ridge)
    assert_allclose(found["fit"]["group_gains"], want.fits["exact"].group_gains, rtol=1e-9)
    assert call("report", "--groups", "labels.txt", "--output", "page.html").exit_code == 0
    assert "Channels of a group share one gain" in pathlib.Path("page.html").read_text()


def test_commands_refuse_labels_of_other_channels(command):
    _, call = command
    pathlib.Path("few.txt").write_text("a\nb\n")
    for name, option in (("fit", "--groups"), ("path", "--groups"), ("cv", "--channel-groups")):
        result = call(name, option, "few.txt")
        assert result.exit_code == 2
        assert option in result.stderr
        assert "40 channels" in result.stderr
    assert call("report", "--groups", "labels.txt", "--channel", "3").exit_code == 2
