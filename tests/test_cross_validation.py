"""cross_validate(): against the definition, leakage, folds of every kind, choices, threads, bad input."""

import collections
import dataclasses
import itertools
import os
import signal
import sys
import threading

import h5py
import naive
import numba
import numpy as np
import pytest
from cases import data, minimum, needs_two_threads, target
from hypothesis import given
from hypothesis import strategies as st

import fastcov as fc
from fastcov._compute.jit import blas
from fastcov._studies import cross_validation
from fastcov._studies import held_out as held_out_module
from fastcov._studies.folds import make_folds

RELATIVE = [1e-2, 1.0, 1e-1]
METHODS = ["linear", "line-search", "exact", "diagonal"]


def pair(N=30, M=25, D=12, dtype=np.float64):
    return data(N, D, dtype), data(M, D, dtype, seed=9)


def study(X, Y, **options):
    return fc.cross_validate(X, Y, **{"relative_ridges": RELATIVE, "folds": 4, "refit": None, **options})


def naive_line_search(X, S, ridge, center):
    delta = naive.linear_fit(X, S, ridge, center)
    t = np.linspace(-1, 1, 5)
    p = np.poly1d(np.polyfit(t, [naive.loss(X, S, 1 + s * delta, ridge, center) for s in t], 4))
    steps = [r.real for r in p.deriv().roots if abs(r.imag) < 1e-9 and r.real > 0]
    return 1 + min(steps, key=p) * delta


FITS = {
    "linear": lambda X, S, ridge, center: 1 + naive.linear_fit(X, S, ridge, center),
    "line-search": naive_line_search,
    "exact": minimum,
    "diagonal": lambda X, S, ridge, center: 1 + naive.diagonal_fit(X, S, ridge, center),
}


# --- what it computes


@pytest.mark.covering(2)
@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
@pytest.mark.parametrize("method", METHODS)
def test_scores_are_their_definition(method, relative, dtype, center):
    X, Y = pair(dtype=dtype)
    ridges = RELATIVE if relative else [300.0, 10.0, 3000.0]
    name = "relative_ridges" if relative else "ridges"
    cv = fc.cross_validate(
        X, Y, folds=3, method=method, center=center, refit=None, tol=1e-9, **{name: ridges}
    )
    X, Y = X.astype(float), Y.astype(float)
    expected = naive.cross_validation(X, Y, ridges, cv.folds, FITS[method], relative=relative, center=center)
    # The target of float32 responses comes from sums in float32, and L-BFGS-B goes to 1e-10 of a loss.
    tolerance = 2e-4 if dtype == np.float32 or method == "exact" else 1e-7
    for found, wanted in zip((cv.r2, cv.r2_over_one, cv.pearson), expected, strict=True):
        assert found.shape == (3, 3)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)
    ones = naive.cross_validation(X, Y, [0.0], cv.folds, lambda A, *_: np.ones(len(A)), center=center)
    np.testing.assert_allclose(cv.r2_at_one, ones[0, :, 0], rtol=0, atol=tolerance)
    np.testing.assert_allclose(cv.pearson_at_one, ones[2, :, 0], rtol=0, atol=tolerance)
    np.testing.assert_array_equal(cv.ridges, ridges)
    assert cv.relative is relative
    assert (cv.status == ("approximate" if method == "diagonal" else "converged")).all()


def test_gains_that_predict_are_preferred():
    sim = fc.datasets.simulate(60, 20, rng=0)
    cv = fc.cross_validate(sim.X, sim.Y, folds=4)
    assert cv.r2.shape == (4, 9)
    assert cv.r2.mean(axis=0).max() > cv.r2_at_one.mean()
    assert cv.fit.r2 > cv.fit.stats["r2_at_one"]


def test_a_fold_is_a_fit_to_its_training_conditions(center):
    X, Y = pair()
    cv = study(X, Y, center=center)
    for f, (train, test) in enumerate(cv.folds):
        S = fc.target_covariance(Y[:, train], like=X[:, train], center=center)
        scale = S[0, 0] / fc.covariance(Y, center=center)[train[0], train[0]]
        held_out = scale * fc.covariance(Y, center=center)[np.ix_(test, test)]
        path = fc.ridge_path(X[:, train], S, relative_ridges=RELATIVE, method="exact", center=center)
        for k, fit in enumerate(path):
            C = naive.covariance(X[:, test], fit.gains, center)
            r2, over, pearson = naive.prediction_scores(
                C, held_out, naive.covariance(X[:, test], None, center)
            )
            np.testing.assert_allclose(cv.r2[f, k], r2, rtol=0, atol=1e-5)
            np.testing.assert_allclose(cv.r2_over_one[f, k], over, rtol=0, atol=1e-5)
            np.testing.assert_allclose(cv.pearson[f, k], pearson, rtol=0, atol=1e-5)
            assert cv.status[f, k] == fit.status
            assert cv.residual[f, k] <= 1e-6


# --- nothing of what is held out is used


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("which", ["X", "Y"])
def test_gains_do_not_depend_on_conditions_that_are_held_out(which, method):
    X, Y = pair()
    folds = [(np.arange(8), np.arange(8, 12))]
    cv = study(X, Y, folds=folds, method=method)
    gains = cv.scores[method].gains
    assert gains.shape == (1, 3, 30)
    assert len(np.unique(gains[0], axis=0)) == 3
    other = {"X": X.copy(), "Y": Y.copy()}
    other[which][:, 8:] = 1e3 * np.random.default_rng(5).standard_normal(other[which][:, 8:].shape)
    other_cv = study(other["X"], other["Y"], folds=folds, method=method)
    np.testing.assert_array_equal(gains, other_cv.scores[method].gains)
    assert not np.allclose(cv.r2, other_cv.r2)  # what is scored has changed
    # while a training condition does change them
    other[which][:, 3] *= 2
    moved = study(other["X"], other["Y"], folds=folds, method=method)
    assert not np.array_equal(moved.scores[method].gains, gains)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [2.0**-100, 2.0**-3, 2.0**100, 1e-30, 3.7])
def test_units_of_the_other_population_change_no_score(factor, method):
    X, Y = pair()
    one, other = study(X, Y, method=method), study(X, factor * Y, method=method)
    for name in ("r2", "r2_over_one", "pearson"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=0, atol=1e-6)
    np.testing.assert_allclose(other.r2_at_one, one.r2_at_one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", [2.0**-100, 2.0**100, 0.3])
def test_units_of_the_responses_change_no_score(factor):
    X, Y = pair()
    one, other = study(X, Y), study(factor * X, Y)
    np.testing.assert_allclose(other.r2, one.r2, rtol=0, atol=1e-6)
    absolute = fc.cross_validate(X, Y, ridges=[100.0], folds=4, refit=None)
    scaled = fc.cross_validate(factor * X, Y, ridges=[100.0 * factor**4], folds=4, refit=None)
    np.testing.assert_allclose(scaled.r2, absolute.r2, rtol=0, atol=1e-6)


def test_channels_in_another_order_change_no_score():
    X, Y = pair()
    rng = np.random.default_rng(0)
    one = study(X, Y, tol=1e-9)
    other = study(X[rng.permutation(30)], Y[rng.permutation(25)], tol=1e-9)
    np.testing.assert_allclose(other.r2, one.r2, rtol=0, atol=1e-6)


# --- folds


def check_folds(folds, D):
    for train, test in folds:
        assert len(np.intersect1d(train, test)) == 0
        assert len(train) >= 2
        assert len(test) >= 1
        assert train.dtype == test.dtype == np.intp
        assert (np.diff(train) > 0).all()
        assert (np.diff(test) > 0).all()
        assert min(train[0], test[0]) >= 0
        assert max(train[-1], test[-1]) < D


@pytest.mark.parametrize("n", [2, 3, 5, 6])
@pytest.mark.parametrize("repeats", [1, 3])
def test_a_number_of_folds_holds_out_each_condition_once_a_repeat(n, repeats):
    X, Y = pair(10, 9, 13)
    cv = study(X, Y, folds=n, repeats=repeats, method="diagonal")
    assert len(cv.folds) == len(cv.r2) == n * repeats
    check_folds(cv.folds, 13)
    for r in range(repeats):
        part = cv.folds[r * n : (r + 1) * n]
        np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in part])), np.arange(13))
        sizes = [len(test) for _, test in part]
        assert max(sizes) - min(sizes) <= 1
        for train, test in part:
            np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(13))
    if repeats > 1:
        assert len({tuple(test) for _, test in cv.folds}) > n  # drawn anew


def test_folds_are_drawn_from_rng():
    X, Y = pair(10, 9)
    draws = {seed: study(X, Y, rng=seed, method="diagonal") for seed in (0, 1)}
    again = study(X, Y, rng=0, method="diagonal")
    generator = study(X, Y, rng=np.random.default_rng(0), method="diagonal")
    tests = {seed: [test.tolist() for _, test in cv.folds] for seed, cv in draws.items()}
    assert tests[0] != tests[1]
    for cv in (again, generator):
        assert [test.tolist() for _, test in cv.folds] == tests[0]
        np.testing.assert_array_equal(cv.r2, draws[0].r2)


PAIRS = [([0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11]), ([4, 5, 6, 7, 8, 9, 10, 11], [0, 1])]


def masks(pairs, D=12):
    return [tuple(np.isin(np.arange(D), part) for part in entry) for entry in pairs]


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        iter,
        lambda pairs: [tuple(np.array(part) for part in entry) for entry in pairs],
        lambda pairs: [list(entry) for entry in pairs],
        lambda pairs: [tuple(np.array(part, np.uint8) for part in entry) for entry in pairs],
        lambda pairs: [tuple(np.array(part)[::-1] for part in entry) for entry in pairs],
        lambda pairs: [(np.array(train) - 12, test) for train, test in pairs],
        masks,
        lambda pairs: [(a.tolist(), b.tolist()) for a, b in masks(pairs)],
        lambda pairs: ((train, test) for train, test in pairs),
    ],
    ids=["list", "tuple", "iterator", "arrays", "lists", "small-ints", "reversed", "negative", "masks",
         "mask-lists", "generator"],
)  # fmt: skip
def test_pairs_of_indices_or_masks_are_folds(form):
    X, Y = pair(10, 9)
    cv = study(X, Y, folds=form(PAIRS), method="diagonal")
    check_folds(cv.folds, 12)
    assert [(train.tolist(), test.tolist()) for train, test in cv.folds] == PAIRS


def test_pairs_of_the_same_length_are_folds_too():
    X, Y = pair(10, 9)
    for folds in ([([0, 1, 2], [3, 4, 5])], np.array([[[0, 1, 2], [3, 4, 5]]])):
        cv = study(X, Y, folds=folds, method="diagonal")
        assert [(train.tolist(), test.tolist()) for train, test in cv.folds] == [([0, 1, 2], [3, 4, 5])]


@pytest.mark.parametrize(
    "labels",
    [
        [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2],
        list("aaaabbbbcccc"),
        np.arange(12) // 4,
        np.array(["alcohol"] * 4 + ["ester"] * 4 + ["ketone"] * 4),
        (0.5,) * 4 + (1.5,) * 4 + (2.5,) * 4,
        [True] * 4 + [False] * 8,
        ["1"] * 4 + [2] * 4 + [None] * 4,
    ],
    ids=["ints", "letters", "array", "words", "floats", "bools", "mixed"],
)
def test_labels_hold_out_one_group_after_another(labels):
    X, Y = pair(10, 9)
    cv = study(X, Y, folds=labels, method="diagonal")
    check_folds(cv.folds, 12)
    tests = sorted(test.tolist() for _, test in cv.folds)
    groups = collections.defaultdict(list)
    for i, label in enumerate(labels):
        groups[str(label)].append(i)
    assert tests == sorted(groups.values())
    for train, test in cv.folds:
        np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(12))


@pytest.mark.parametrize(
    "name", ["KFold", "ShuffleSplit", "LeavePGroupsOut", "PredefinedSplit", "RepeatedKFold"]
)
def test_a_splitter_of_scikit_learn_holds_out_what_it_says(name):
    selection = pytest.importorskip("sklearn.model_selection")
    X, Y = pair(10, 9)
    groups = np.arange(12) // 4
    splitter, given = {
        "KFold": lambda: (selection.KFold(4, shuffle=True, random_state=3), None),
        "ShuffleSplit": lambda: (selection.ShuffleSplit(5, test_size=3, random_state=0), None),
        "LeavePGroupsOut": lambda: (selection.LeavePGroupsOut(1), groups),
        "PredefinedSplit": lambda: (selection.PredefinedSplit(groups - 1), None),
        "RepeatedKFold": lambda: (selection.RepeatedKFold(n_splits=3, n_repeats=2, random_state=0), None),
    }[name]()
    expected = [(np.sort(a).tolist(), np.sort(b).tolist()) for a, b in splitter.split(X.T, groups=given)]
    folds = splitter if given is None else list(splitter.split(X.T, groups=given))
    cv = study(X, Y, folds=folds, method="diagonal")
    assert [(train.tolist(), test.tolist()) for train, test in cv.folds] == expected


def test_a_splitter_is_asked_anew_for_each_repeat():
    selection = pytest.importorskip("sklearn.model_selection")
    X, Y = pair(10, 9)
    splitter = selection.ShuffleSplit(2, test_size=3, random_state=np.random.RandomState(0))
    cv = study(X, Y, folds=splitter, repeats=3, method="diagonal")
    assert len(cv.folds) == 6
    assert len({tuple(test) for _, test in cv.folds}) == 6


def test_a_splitter_that_needs_groups_is_refused_with_what_to_do():
    selection = pytest.importorskip("sklearn.model_selection")
    for splitter in (selection.GroupKFold(3), selection.StratifiedKFold(3)):
        with pytest.raises((TypeError, ValueError), match=r"^Argument 'folds' must "):
            study(*pair(10, 9), folds=splitter)


@given(st.integers(4, 40), st.integers(2, 45), st.integers(1, 3), st.integers(0, 1000))
def test_numbered_folds_of_any_size_cover_all_conditions(D, n, repeats, seed):
    if n > D:
        with pytest.raises(ValueError, match=rf"^Argument 'folds' must be at most the {D} conditions"):
            make_folds(n, repeats, D, np.random.default_rng(seed))
        return
    folds = make_folds(n, repeats, D, np.random.default_rng(seed))
    check_folds(folds, D)
    counts = np.bincount(np.concatenate([test for _, test in folds]), minlength=D)
    assert (counts == repeats).all()


@pytest.mark.parametrize(("folds", "held_out"), [("leave-one-out", 1), ("leave-two-out", 2)])
def test_leaving_out_holds_out_every_condition_or_pair_once(folds, held_out):
    X, Y = pair(10, 9, 7)
    cv = study(X, Y, folds=folds, method="linear")
    check_folds(cv.folds, 7)
    assert [tuple(test) for _, test in cv.folds] == list(itertools.combinations(range(7), held_out))
    assert all(len(train) == 7 - held_out for train, _ in cv.folds)
    scores = cv.scores["linear"]
    for name in ("pearson", "rsa", "r2-off-diagonal"):
        assert np.isnan(scores.by_fold(name)).all() == (name != "r2-off-diagonal" or held_out == 1)
    for name in ("cross-pearson", "cross-r2", "cross-rsa", "cross-cosine", "cross-r2-off-diagonal", "r2"):
        assert np.isfinite(scores.by_fold(name)).all()
    assert cv.times == held_out * len(cv.folds) / 7
    assert np.isfinite(cv.best_ridge)
    if held_out == 1:
        same = study(X, Y, folds=7, method="linear")
        order = np.argsort([test[0] for _, test in same.folds])
        np.testing.assert_array_equal(same.scores["linear"].r2[order], cv.r2)


@pytest.mark.parametrize("folds", ["leave-one-out", "leave-two-out"])
def test_leaving_out_is_the_same_each_time_and_not_to_be_repeated(folds):
    with pytest.raises(ValueError, match=r"^Argument 'repeats' must be 1 with folds="):
        study(*pair(10, 9), folds=folds, repeats=2)


@pytest.mark.parametrize(
    ("folds", "least"), [("leave-one-out", 1), ("leave-two-out", 2), (12, 1), (5, 2), ([PAIRS[1]], 2)]
)
def test_a_score_that_folds_do_not_have_is_refused_with_another(folds, least):
    match = rf"^Argument 'score' must .*hold out {least}, not 'pearson'.*'cross-pearson'"
    with pytest.raises(ValueError, match=match):
        study(*pair(10, 9), folds=folds, score="pearson", method="diagonal")


# --- several methods, shuffles, choices, refit


def test_several_methods_are_compared_on_the_same_folds():
    X, Y = pair()
    cv = study(X, Y, method=METHODS, refit="best")
    assert cv.methods == tuple(METHODS)
    for method in METHODS:
        alone = study(X, Y, method=method, refit="best")
        np.testing.assert_array_equal(cv.r2[method], alone.r2)
        np.testing.assert_array_equal(cv.pearson[method], alone.pearson)
        np.testing.assert_array_equal(cv.status[method], alone.status)
        assert cv.best_ridge[method] == alone.best_ridge
        assert cv.one_se_ridge[method] == alone.one_se_ridge
        np.testing.assert_array_equal(cv.fit[method].gains, alone.fit.gains)
        assert cv.fit[method].method == method
        assert cv.r2_shuffled[method] is None
    np.testing.assert_array_equal(cv.r2_at_one, alone.r2_at_one)
    text = repr(cv)
    assert all(method in text for method in METHODS)


def test_shuffled_targets_are_predicted_worse():
    sim = fc.datasets.simulate(60, 16, rng=0)
    cv = fc.cross_validate(sim.X, sim.Y, relative_ridges=[1e-2, 1e-1], folds=4, shuffles=3, refit=None)
    assert cv.r2_shuffled.shape == (3, 4, 2)
    assert np.isfinite(cv.r2_shuffled).all()
    assert (cv.r2_shuffled.mean(axis=1) < cv.r2.mean(axis=0)).all()
    assert len(np.unique(cv.r2_shuffled[:, 0, 0])) == 3  # three orders
    plain = fc.cross_validate(sim.X, sim.Y, relative_ridges=[1e-2, 1e-1], folds=4, refit=None)
    np.testing.assert_array_equal(cv.r2, plain.r2)  # and leave the folds and scores
    assert plain.r2_shuffled is None


def test_repeats_do_not_make_the_standard_error_smaller():
    X, Y = pair()
    cv = study(X, Y, folds=3, repeats=4, method="linear")
    given = study(X, Y, folds=list(cv.folds), method="linear")
    np.testing.assert_array_equal(given.r2, cv.r2)
    np.testing.assert_array_equal(given.summary("linear")[1], cv.summary("linear")[1])
    assert cv.times == given.times == 4
    # The same folds four times over are as sure as they are once, but for F − 1 in place of F.
    once = study(X, Y, folds=list(cv.folds[:3]), method="linear")
    again = study(X, Y, folds=list(cv.folds[:3]) * 4, method="linear", score="r2-diagonal")
    assert again.times == 4
    np.testing.assert_allclose(again.summary("linear", "r2")[0], once.summary("linear", "r2")[0], rtol=1e-12)
    ratio = again.summary("linear", "r2")[1] / once.summary("linear", "r2")[1]
    assert (ratio > 0.7).all()  # and not a half of it, as of four times the data
    assert (ratio < 1.1).all()


@pytest.mark.parametrize(("choice", "name"), [("best", "best_ridge"), ("one-se", "one_se_ridge")])
@pytest.mark.parametrize("kind", ["ridges", "relative_ridges"])
def test_all_conditions_are_fitted_with_the_ridge_that_was_chosen(choice, name, kind, center):
    X, Y = pair()
    ridges = RELATIVE if kind == "relative_ridges" else [30.0, 3000.0]
    cv = fc.cross_validate(X, Y, folds=4, refit=choice, center=center, **{kind: ridges})
    chosen = {kind[:-1]: getattr(cv, name)}
    alone = fc.fit(X, fc.target_covariance(Y, like=X, center=center), method="exact", center=center, **chosen)
    np.testing.assert_array_equal(cv.fit.gains, alone.gains)
    assert cv.fit.loss == alone.loss
    assert cv.fit.status == "converged"


def test_no_refit_leaves_no_fit():
    cv = study(*pair(), refit=None)
    assert cv.fit is None
    assert cv.fits == {}


def test_best_and_one_se_are_told_apart_by_some_data():
    cv = study(*pair(), method="linear")
    assert cv.one_se_ridge >= cv.best_ridge


def test_printed_cross_validation_has_the_key_numbers():
    cv = study(*pair(), repeats=2)
    text = repr(cv)
    assert str(cv) == text
    assert "30 channels x 12 conditions, 8 folds (2 repeats)" in text
    assert "gains of one" in text
    for pooled in cv.summary("exact")[0]:
        assert f"{pooled:.3f} +-" in text
    assert text.count("*") == 2  # the best, and what it means
    assert all(len(line) <= 110 for line in text.splitlines())


def test_two_conditions_held_out_have_no_correlation():
    X, Y = pair(10, 9, 4)
    cv = study(X, Y, folds=2)
    assert np.isnan(cv.pearson).all()  # of one pair
    assert np.isfinite(cv.r2).all()


# --- threads, files, memory, interruption


@needs_two_threads
@pytest.mark.parametrize("method", METHODS)
def test_one_thread_gives_the_same_as_many(method, dtype):
    X, Y = pair(dtype=dtype)
    many = study(X, Y, method=method)
    with fc.threads(1):
        one = study(X, Y, method=method)
    np.testing.assert_allclose(one.r2, many.r2, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(one.status, many.status)


@needs_two_threads
@pytest.mark.parametrize("folds", [[PAIRS[0]], [(np.arange(6), np.arange(6, 12))]], ids=["uneven", "even"])
def test_where_cores_outnumber_folds_the_path_is_shared(folds):
    X, Y = pair()
    many = study(X, Y, folds=folds, relative_ridges=[1e-3, 1e-2, 1e-1, 1.0])
    with fc.threads(1):
        one = study(X, Y, folds=folds, relative_ridges=[1e-3, 1e-2, 1e-1, 1.0])
    # Parts begin at gains of one, where the whole is at the minimum before: minima to 1e-6 of a gradient.
    np.testing.assert_allclose(one.r2, many.r2, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", [*METHODS, "pcg"])
def test_the_same_call_gives_the_same_bits(method):
    X, Y = pair()
    options = {"method": "linear", "solver": "pcg"} if method == "pcg" else {"method": method}
    one, other = (study(X, Y, shuffles=1, refit="best", repeats=2, **options) for _ in range(2))
    for name in ("r2", "r2_over_one", "pearson", "r2_shuffled", "residual"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.fit.gains, other.fit.gains)


@pytest.mark.slow
@pytest.mark.covering(1)
@pytest.mark.parametrize("kind", ["h5", "memory-map"])
def test_responses_in_files_give_the_same(kind, tmp_path, dtype, monkeypatch):
    X, Y = pair(dtype=dtype)
    expected = study(X, Y, refit="best", tol=1e-9)
    monkeypatch.setattr("fastcov._rows.stored.CHUNK_BYTES", 7 * 12 * X.itemsize)
    if kind == "h5":
        with h5py.File(tmp_path / "data.h5", "w") as file:
            file["X"], file["Y"] = X, Y
            found = study(file["X"], file["Y"], refit="best", tol=1e-9)
    else:
        np.save(tmp_path / "X.npy", X)
        np.save(tmp_path / "Y.npy", Y)
        found = study(
            np.load(tmp_path / "X.npy", mmap_mode="r"), np.load(tmp_path / "Y.npy", mmap_mode="r"),
            refit="best", tol=1e-9,
        )  # fmt: skip
    # Y's covariance is summed in its own precision, chunk by chunk.
    tolerance = 1e-4 if dtype == np.float32 else 1e-6
    np.testing.assert_allclose(found.r2, expected.r2, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.fit.gains, expected.fit.gains, rtol=0, atol=tolerance)


@pytest.mark.parametrize("layout", ["Fortran", "strided", "read-only", "list"])
def test_layout_changes_no_score(layout):
    X, Y = pair()
    expected = study(X, Y)
    form = {
        "Fortran": np.asfortranarray,
        "strided": lambda A: np.repeat(A, 2, axis=1)[:, ::2],
        "read-only": lambda A: np.broadcast_to(A, A.shape),
        "list": np.ndarray.tolist,
    }[layout]
    kept = X.copy(), Y.copy()
    found = study(form(X), form(Y))
    np.testing.assert_allclose(found.r2, expected.r2, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(X, kept[0])
    np.testing.assert_array_equal(Y, kept[1])


def test_little_memory_is_enough_for_one_fold_at_a_time():
    X, Y = pair()
    expected, found = study(X, Y), study(X, Y, memory_budget=1e5)
    np.testing.assert_allclose(found.r2, expected.r2, rtol=0, atol=1e-5)


def fold_threads():
    return [t for t in threading.enumerate() if t.name.startswith("fastcov")]


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=needs_two_threads)])
def test_what_a_callback_raises_ends_all_and_leaves_no_thread(error, threads):
    seen = []

    def watch(progress):
        seen.append(progress)
        if progress.stage == "folds":
            raise error

    with fc.threads(threads), pytest.raises(error):
        study(*pair(), repeats=5, callback=watch)
    assert sum(p.stage == "folds" for p in seen) == 1
    assert fold_threads() == []


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=needs_two_threads)])
def test_an_error_of_one_fold_is_raised_once_and_leaves_no_thread(threads, monkeypatch):
    calls = []
    score = held_out_module.sums_of

    def fail(*args):
        calls.append(1)
        if len(calls) == 5:
            raise Stop("in a fold")
        return score(*args)

    monkeypatch.setattr(held_out_module, "sums_of", fail)
    with fc.threads(threads), pytest.raises(Stop, match=r"^in a fold$") as caught:
        study(*pair(), repeats=5)
    assert caught.value.__cause__ is None
    assert fold_threads() == []
    assert len(calls) < 40  # of 60: the others were given up


@needs_two_threads
def test_a_fit_under_way_is_ended_when_another_fails(monkeypatch):
    under_way, ended = threading.Event(), []

    def fit(start, ridge, settings):
        if start.problem.shape[1] == 5:  # the one fold
            assert under_way.wait(60)
            raise Stop
        under_way.set()
        try:
            for _ in range(10**7):  # seconds
                settings.watch(None)
        except BaseException as error:
            ended.append(error)
            raise

    monkeypatch.setitem(cross_validation.METHODS, "exact", fit)
    folds = [(np.arange(5), np.arange(5, 12)), (np.arange(6), np.arange(6, 12))]
    with fc.threads(2), pytest.raises(Stop):
        study(*pair(), folds=[tuple(part.tolist() for part in fold) for fold in folds], relative_ridges=[0.1])
    assert len(ended) == 1
    assert fold_threads() == []


@needs_two_threads
@pytest.mark.skipif(sys.platform == "win32", reason="there a process cannot send itself SIGINT")
def test_ctrl_c_ends_the_fits_under_way(monkeypatch):
    both, ended = threading.Barrier(2, timeout=60), []

    def fit(start, ridge, settings):
        if both.wait() == 0:
            os.kill(os.getpid(), signal.SIGINT)
        try:
            for _ in range(10**8):  # minutes, less than Ctrl-C would wait
                settings.watch(None)
        except BaseException as error:
            ended.append(error)
            raise

    monkeypatch.setitem(cross_validation.METHODS, "exact", fit)
    with fc.threads(2), pytest.raises(KeyboardInterrupt):
        study(*pair(), folds=2, relative_ridges=[0.1])
    assert len(ended) == 2
    assert fold_threads() == []


def test_threads_are_as_they_were_afterwards():
    before = numba.get_num_threads(), [library.num_threads for library in blas().lib_controllers]
    study(*pair())
    assert (numba.get_num_threads(), [library.num_threads for library in blas().lib_controllers]) == before
    assert fold_threads() == []


def test_progress_of_folds_ends_at_one():
    seen = []
    study(*pair(), callback=seen.append, refit="best")
    shares = [p.done for p in seen if p.stage == "folds"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert all(0 <= p.done <= 1 for p in seen)


# --- fits that stop short


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=needs_two_threads)])
def test_a_fold_that_stops_short_is_reported_and_kept(threads):
    X, Y = pair()
    with (
        fc.threads(threads),
        pytest.warns(fc.ConvergenceWarning, match=r"^12 of 12 fits stopped short") as caught,
    ):
        cv = study(X, Y, max_iterations=1, tol=1e-9)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert (cv.status == "max-iterations").all()
    assert (cv.residual > 1e-9).all()
    assert np.isfinite(cv.r2).all()
    assert "12 fits stopped short" in repr(cv)


def test_only_the_fits_that_stop_short_are_counted():
    # At a large ridge two steps are enough.
    X, Y = pair()
    with pytest.warns(fc.ConvergenceWarning, match=r"^4 of 8 fits stopped short \(max-iterations\)"):
        cv = study(X, Y, relative_ridges=[1e-4, 1e3], max_iterations=3)
    assert (cv.status[:, 0] == "max-iterations").all()
    assert (cv.status[:, 1] == "converged").all()


def test_shuffled_fits_that_stop_short_are_not_passed_over_in_silence():
    X, Y = pair()
    with pytest.warns(fc.ConvergenceWarning, match="stopped short"):
        study(X, Y, relative_ridges=[1e-4], max_iterations=3, shuffles=1)


def test_a_refit_that_stops_short_warns(monkeypatch):
    # Only the last fit, of all conditions, is given too few steps.
    X, Y = pair()
    refit = cross_validation._Whole.fit

    def hurried(*given):
        *others, settings = given
        return refit(*others, dataclasses.replace(settings, max_iterations=1))

    monkeypatch.setattr(cross_validation._Whole, "fit", hurried)
    with pytest.warns(fc.ConvergenceWarning) as caught:
        cv = study(X, Y, refit="best", tol=1e-9)
    assert cv.fit.status == "max-iterations"
    assert len(caught) == 1


# --- degenerate data


def test_bounds_are_kept_in_every_fold():
    X, Y = pair()
    fitted = study(X, Y, bounds=(0.9, 1.05), relative_ridges=[1e-3, 1e-2]).scores["exact"].gains
    assert fitted.shape == (4, 2, 30)
    assert fitted.min() >= 0.9
    assert fitted.max() <= 1.05
    assert (fitted == 0.9).any()


def test_a_dead_channel_and_a_dead_condition_are_fine():
    X, Y = pair()
    X[3], X[:, 5], Y[2] = 0.0, 0.0, 0.0
    cv = study(X, Y, refit="best")
    assert np.isfinite(cv.r2).all()
    assert cv.fit.gains[3] == 1.0


def test_ridges_of_zero_and_above_everything_are_scored():
    X, Y = pair()
    for method in METHODS:
        cv = fc.cross_validate(X, Y, ridges=[0.0, 1.0, 1e300], folds=3, method=method, refit=None)
        assert np.isfinite(cv.r2).all()
        np.testing.assert_allclose(cv.r2[:, 2], cv.r2_at_one, rtol=0, atol=1e-9)


def test_a_held_out_target_of_zero_has_no_score_and_no_other_harm():
    X, Y = pair()
    Y[:, :3] = 0.0
    cv = study(X, Y, folds=np.arange(12) // 3)
    assert not np.isfinite(cv.r2[0]).any()
    assert np.isfinite(cv.r2[1:]).all()
    assert "CrossValidation" in repr(cv)


@pytest.mark.parametrize(
    "Y",
    [
        np.zeros((9, 12)),
        np.full((9, 12), 0.7),  # of which the mean has a rounding
        np.full((100, 12), 1 / 3),
        np.tile(np.random.default_rng(0).random(12), (7, 1)),
        np.ones((1, 12)),
    ],
    ids=["zero", "constant", "thirds", "alike", "one-channel"],
)
@pytest.mark.parametrize("refit", [None, "best"])
def test_a_population_that_does_not_vary_is_refused(Y, refit):
    with pytest.raises(ValueError, match=r"^Argument 'Y' must "):
        study(pair()[0], Y, refit=refit)


def test_responses_of_zero_are_refused_or_scored_but_not_left_to_numpy():
    X, Y = pair()
    for dead in (0 * X, np.tile(X[:1], (30, 1))):
        with pytest.raises(ValueError, match=r"^Argument 'X' must "):
            study(dead, Y, refit="best")


# --- bad input


def other_folds(D):
    half = list(range(D // 2))
    return [
        (1, ValueError, "at least 2"),
        (0, ValueError, "at least 2"),
        (-3, ValueError, "at least 2"),
        (D + 1, ValueError, f"at most the {D} conditions, not {D + 1}"),
        (10**30, ValueError, "conditions"),
        (2.5, TypeError, "a number"),
        (True, TypeError, "a number"),
        (None, TypeError, "a number"),
        ("5", TypeError, "a number"),
        ("leave-three-out", TypeError, "'leave-one-out'"),
        (b"5", TypeError, "a number"),
        (object(), TypeError, "a number"),
        ([], ValueError, ""),
        (iter([]), ValueError, ""),
        ({}, (TypeError, ValueError), ""),
        ([0] * D, ValueError, "two groups"),
        ([0, 1] * (D // 2 - 1), ValueError, f"a label for each of the {D} conditions, not {D - 2}"),
        ([0, *half, *half, 1], (TypeError, ValueError), ""),
        ([0] * (D - 1) + [1], ValueError, "train on at least 2 conditions"),
        ([([0, 1, 2], [2, 3])], ValueError, "apart, not have condition 2 in both"),
        ([([0, 1, 2], [-D, 3])], ValueError, "apart, not have condition 0 in both"),
        ([([0, 1, 2], [3, D])], ValueError, f"from 0 to {D - 1}, not {D}"),
        ([([0, 1, -D - 1], [3, 4])], ValueError, f"from 0 to {D - 1}, not -{D + 1}"),
        ([([0.0, 1.0, 2.0], [3.0, 4.0])], TypeError, "indices"),
        ([(["a", "b", "c"], [3, 4])], TypeError, "indices"),
        ([([0, 1, 2], [])], ValueError, "hold out at least 1 condition in each fold, not 0"),
        ([([], [1, 2])], ValueError, "train on at least 2 conditions in each fold, not 0"),
        ([([0, 1, 2], [3]), ([0, 1], [])], ValueError, "hold out at least 1 .* in fold 1"),
        ([([0, 1], [2, 3]), ([0], [2, 3])], ValueError, "train on at least 2 .* in fold 1"),
        ([([0, 0, 1], [2, 3])], ValueError, "once in a fold, not 0 twice"),
        ([([0, 1, 2], [3, -D + 3])], ValueError, "once in a fold, not 3 twice"),
        ([([0, 1], [2, 3], [4, 5])], ValueError, "pairs"),
        ([([0, 1, 2],)], ValueError, "pairs"),
        (([0, 1, 2], [3, 4]), (TypeError, ValueError), ""),
        ([([0, 1, 2], None)], (TypeError, ValueError), ""),
        ([(0, [1, 2, 3])], (TypeError, ValueError), ""),
        ([(np.zeros((2, 2), int), [1, 3])], TypeError, "indices"),
        ([([True] * (D - 1), [False] * (D - 1))], TypeError, "masks of length"),
        ([([True] * D, [True] * D)], ValueError, "apart"),
        ([([[0, 1], [2]], [3, 4])], (TypeError, ValueError), ""),
    ]


@pytest.mark.parametrize(
    ("folds", "error", "match"), other_folds(12), ids=[f"{k}" for k in range(len(other_folds(12)))]
)
def test_folds_of_the_wrong_form_are_refused(folds, error, match):
    with pytest.raises(error, match=f"^Argument 'folds' must .*{match}"):
        study(*pair(10, 9), folds=folds, method="diagonal")


@pytest.mark.parametrize("D", [1, 2, 3])
def test_too_few_conditions_for_any_folds_are_refused(D):
    with pytest.raises(ValueError, match=r"^Argument 'folds' must "):
        study(*pair(10, 9, D), folds=2)


def test_repeats_of_folds_that_are_given_are_refused():
    for folds in ([([0, 1, 2], [3, 4, 5])], np.arange(12) // 4):
        with pytest.raises(ValueError, match=r"^Argument 'repeats' must be 1 where folds are given"):
            study(*pair(10, 9), folds=folds, repeats=2)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("repeats", 0, ValueError),
        ("repeats", 1.5, TypeError),
        ("shuffles", -1, ValueError),
        ("shuffles", "many", TypeError),
        ("refit", "Best", ValueError),
        ("refit", True, ValueError),
        ("method", [], ValueError),
        ("method", ["exact", "exact"], ValueError),
        ("method", "best", ValueError),
        ("method", ["exact", "best"], ValueError),
        ("method", None, (TypeError, ValueError)),
        ("method", 3, (TypeError, ValueError)),
        ("solver", "x", ValueError),
        ("center", 0, TypeError),
        ("tol", 2, ValueError),
        ("max_iterations", 0, ValueError),
        ("rng", "seed", TypeError),
        ("rng", -1, ValueError),
        ("memory_budget", -1, ValueError),
        ("callback", 3, TypeError),
    ],
    ids=str,
)
def test_other_options_of_the_wrong_form_are_refused(name, value, error):
    with pytest.raises(error, match=f"^Argument '{name}' must "):
        study(*pair(10, 9), **{name: value})


@pytest.mark.parametrize(
    ("Y", "error", "match"),
    [
        (data(9, 11), ValueError, "the 12 conditions of X in its columns, not 11"),
        (data(12, 9), ValueError, "the 12 conditions of X in its columns, not 9"),
        (np.ones(12), ValueError, "2 axes"),
        ("Y.npy", TypeError, "path"),
        (np.ones((3, 12), complex), TypeError, "real"),
        (np.where(np.eye(12) > 0, np.nan, 1.0), ValueError, "finite"),
        (np.ones((0, 12)), ValueError, "empty"),
    ],
    ids=["fewer", "transposed", "vector", "path", "complex", "NaN", "empty"],
)
def test_another_population_of_the_wrong_form_is_refused(Y, error, match):
    with pytest.raises(error, match=f"^Argument 'Y' must .*{match}"):
        study(pair()[0], Y)


# --- fit(ridge="cv")


@pytest.mark.parametrize("method", METHODS)
def test_a_ridge_from_cross_validation_is_its_best_one(method, center):
    X, Y = pair()
    fit = fc.fit(X, responses=Y, ridge="cv", method=method, center=center, rng=3)
    cv = fc.cross_validate(X, Y, method=method, center=center, rng=3)
    assert fit.relative_ridge == cv.best_ridge
    np.testing.assert_array_equal(fit.stats["cv"].r2, cv.r2)
    np.testing.assert_allclose(fit.gains, cv.fit.gains, rtol=0, atol=1e-12)
    assert fit.method == method
    assert "Fit" in repr(fit)


def test_responses_stand_for_their_target_covariance(center):
    X, Y = pair()
    one = fc.fit(X, responses=Y, ridge=30.0, center=center)
    other = fc.fit(X, fc.target_covariance(Y, like=X, center=center), ridge=30.0, center=center)
    np.testing.assert_array_equal(one.gains, other.gains)
    assert "cv" not in one.stats


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"S": target(12), "ridge": "cv"}, ValueError, "'ridge' must be a number, not 'cv'"),
        ({"Y": 1, "ridge": "cv", "relative_ridge": 0.1}, ValueError, "'ridge' must be a number, not 'cv'"),
        ({"Y": 1, "ridge": "cv", "gains0": np.ones(30), "method": "exact"}, ValueError, "'ridge' must"),
        ({"Y": 1, "S": target(12), "ridge": 1.0}, ValueError, "'S' or 'responses' must .* not both"),
        ({"ridge": 1.0}, TypeError, "'S' must be a target covariance, not None"),
        ({"ridge": "cv"}, TypeError, "'S' must be a target covariance, not None"),
        ({"Y": 1, "ridge": "auto"}, TypeError, "'ridge' must"),
        ({"Y": 1}, ValueError, "'ridge' or 'relative_ridge' must"),
        ({"Y": 1, "ridge": "cv", "n_starts": 3}, ValueError, "'method' must be 'exact'"),
        ({"Y": 1, "ridge": "cv", "rank": 31}, ValueError, "'rank' must"),
        ({"Y": 1, "ridge": "cv", "bounds": (2, 1)}, ValueError, "'bounds' must"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_ridge_from_cross_validation_needs_responses_alone(options, error, match):
    X, Y = pair()
    options = {("responses" if k == "Y" else k): (Y if k == "Y" else v) for k, v in options.items()}
    with pytest.raises(error, match=f"^Argument {match}"):
        fc.fit(X, **options)
