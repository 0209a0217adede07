"""Responses in trials: averaged, without the bias of noise, and kept together in folds and shuffles."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from cases import data

import fastcov as fc
from fastcov._inputs.labels import trial_axis
from fastcov._studies.folds import inner_folds, make_folds
from fastcov._studies.permutations import make_orders, members_of

N, M, D, T = 14, 11, 8, 3
OPTIONS = {"relative_ridge": 0.1}
RIDGES = {"relative_ridges": [0.1, 1.0], "method": "linear", "folds": 4}


def in_trials(values, n_trials=T, sd=0.5, seed=0):
    return values + sd * np.random.default_rng(seed).standard_normal((n_trials, *values.shape))


X3, Y3 = in_trials(data(N, D)), in_trials(data(M, D, seed=9), seed=1)
X, Y = X3.mean(axis=0), Y3.mean(axis=0)
J = np.eye(M) - 1 / M


def named(values, dims, coords):
    return xr.DataArray(values, dims=dims, coords=coords)


FORMS = {
    "array": lambda values: values,
    "list of arrays": lambda values: list(values),
    "list of lists": lambda values: values.tolist(),
    "read only, Fortran order": lambda values: np.asfortranarray(values),
    "DataArray, trials first": lambda values: named(values, ("run", "cell", "odour"), {}),
    "DataArray, trials last": lambda values: named(values.transpose(1, 2, 0), ("cell", "odour", "Trial"), {}),
    "DataArray, repeats between": lambda values: named(
        values.transpose(1, 0, 2), ("cell", "repeat", "odour"), {}
    ),
    "list of tables": lambda values: [pd.DataFrame(each) for each in values],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_function_takes_the_mean_of_trials_in_any_form(form):
    x, y = FORMS[form](X3), FORMS[form](Y3)
    S = fc.target_covariance(Y, like=X)
    kept = np.array(X3), np.array(Y3)
    np.testing.assert_allclose(np.asarray(fc.covariance(x)), fc.covariance(X), atol=1e-12)
    np.testing.assert_allclose(np.asarray(fc.target_covariance(y, like=x)), S, atol=1e-12)
    np.testing.assert_allclose(np.asarray(fc.target_covariance(y)), fc.target_covariance(Y), atol=1e-12)
    plain = fc.fit(X, responses=Y, **OPTIONS)
    for fit in (fc.fit(x, responses=y, **OPTIONS), fc.fit(x, S, **OPTIONS)):
        np.testing.assert_allclose(fit.gains, plain.gains, atol=1e-12)
    np.testing.assert_allclose(
        fc.ridge_path(x, responses=y, relative_ridges=[0.1]).gains[0], plain.gains, atol=1e-12
    )
    cv, wanted = fc.cross_validate(x, y, **RIDGES), fc.cross_validate(X, Y, **RIDGES)
    np.testing.assert_allclose(cv.scores["linear"].r2, wanted.scores["linear"].r2, atol=1e-10)
    assert fc.loss(x, S, np.ones(N)) == pytest.approx(fc.loss(X, S, np.ones(N)))
    np.testing.assert_allclose(fc.overlaps(x, S), fc.overlaps(X, S), atol=1e-10)
    np.testing.assert_array_equal(X3, kept[0])
    np.testing.assert_array_equal(Y3, kept[1])


@pytest.mark.slow
def test_a_test_of_trials_is_that_of_their_mean():
    options = {**RIDGES, "shuffles": 19}
    found, wanted = fc.permutation_test(X3, Y3, **options), fc.permutation_test(X, Y, **options)
    assert found.p == wanted.p
    np.testing.assert_allclose(found.null, wanted.null, atol=1e-10)
    np.testing.assert_array_equal(found.channels.p, wanted.channels.p)


def test_trials_in_files_are_read_one_by_one(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["X"] = X3
        np.testing.assert_allclose(fc.covariance(file["X"]), fc.covariance(X), atol=1e-12)
    np.save(tmp_path / "x.npy", X3)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_allclose(fc.covariance(mapped), fc.covariance(X), atol=1e-12)


def test_single_precision_and_whole_numbers_keep_their_precision():
    assert fc.fit(X3.astype(np.float32), responses=Y3, **OPTIONS).stats["dtype"] == "float32"
    counts = np.rint(10 * X3).astype(np.int16)
    np.testing.assert_allclose(fc.covariance(counts), fc.covariance(counts.mean(axis=0)), rtol=1e-12)


def test_a_stack_of_targets_stays_a_stack():
    S = np.stack([fc.target_covariance(Y, like=X), fc.target_covariance(2 * Y[:-1], like=X)])
    assert fc.fit(X3, S, **OPTIONS).gains.shape == (2, N)


def test_the_record_has_the_noise_of_the_mean():
    fit = fc.fit(X3, responses=Y3, **OPTIONS)
    for name, values in (("X", X3), ("responses", Y3)):
        record = fit.stats["trials"][name]
        assert (record["n_trials"], record["n_channels"], record["missing"]) == (T, values.shape[1], 0)
        np.testing.assert_allclose(
            record["noise_variance"], values.var(axis=0, ddof=1).mean(axis=0) / T, rtol=1e-12
        )
    assert "in 3 trials" in str(fit)
    assert fit.stats["n_responses"] == M
    cv = fc.cross_validate(X3, Y, **RIDGES)
    assert set(cv.stats["trials"]) == {"X"}
    assert "trials" not in fc.fit(X, responses=Y, **OPTIONS).stats
    assert np.isnan(fc.fit(X3[:1], responses=Y, **OPTIONS).stats["trials"]["X"]["noise_variance"]).all()
    path = fc.ridge_path(X3, responses=Y3, relative_ridges=[0.1, 1.0])
    assert path[0].stats["trials"]["X"]["n_trials"] == T


def test_a_fit_of_trials_is_saved_with_its_record(tmp_path):
    fit = fc.fit(X3, responses=Y3, **OPTIONS)
    fit.save(tmp_path / "fit.npz")
    same = fc.load(tmp_path / "fit.npz")
    np.testing.assert_array_equal(
        same.stats["trials"]["X"]["noise_variance"], fit.stats["trials"]["X"]["noise_variance"]
    )


def test_the_ridge_is_chosen_of_trials_as_of_their_mean():
    found, wanted = fc.fit(X3, responses=Y3, ridge="cv"), fc.fit(X, responses=Y, ridge="cv")
    assert found.ridge == pytest.approx(wanted.ridge)
    assert found.stats["trials"]["X"]["n_trials"] == T


# --- names


def test_names_are_aligned_where_trials_stand_anywhere():
    odours, cells = [f"o{j}" for j in range(D)], [f"c{i}" for i in range(M)]
    order = np.random.default_rng(0).permutation(D)
    x = named(X3, ("trial", "cell", "odour"), {"odour": odours})
    y = named(
        Y3[:, :, order].transpose(2, 0, 1), ("odour", "trial", "cell"),
        {"odour": np.array(odours)[order], "cell": cells},
    ).transpose("cell", "odour", "trial")  # fmt: skip
    with pytest.warns(fc.LabelWarning, match="aligned by name"):
        S = fc.target_covariance(y, like=x)
    assert S.dims == ("odour", "odour_2")
    wanted = fc.target_covariance(Y, like=X)
    np.testing.assert_allclose(S.sel(odour=odours, odour_2=odours), wanted, atol=1e-12)
    with pytest.warns(fc.LabelWarning, match="aligned by name"):
        fit = fc.fit(x, responses=y, **OPTIONS)
    assert fit.conditions == tuple(odours)
    np.testing.assert_allclose(fit.target(), wanted, atol=1e-12)
    np.testing.assert_allclose(
        fit.stats["trials"]["responses"]["noise_variance"],
        Y3.var(axis=0, ddof=1).mean(axis=0) / T, rtol=1e-12,
    )  # fmt: skip
    for trials in ("mean", "cross"):
        with pytest.warns(fc.LabelWarning, match="aligned by name"):
            fit = fc.fit(x, responses=y, trials=trials, **OPTIONS)
        np.testing.assert_allclose(fit.target(), fc.target_covariance(Y3, like=X3, trials=trials), atol=1e-12)


def test_trials_that_are_tables_are_aligned_with_the_first():
    odours = [f"o{j}" for j in range(D)]
    tables = [pd.DataFrame(each, columns=odours) for each in Y3]
    tables[1] = tables[1][odours[::-1]]
    with pytest.warns(fc.LabelWarning, match=r"conditions of 'Y\[1\]' are in another order"):
        S = fc.target_covariance(tables)
    np.testing.assert_allclose(S, fc.target_covariance(Y), atol=1e-12)
    tables[1] = tables[1].rename(columns={"o1": "p"})
    with pytest.raises(ValueError, match=r"'Y\[1\]' must have the conditions of 'Y\[0\]'"):
        fc.target_covariance(tables)


def test_the_axis_of_trials_is_found():
    assert trial_axis(X) is None
    assert trial_axis(X.tolist()) is None
    assert trial_axis(pd.DataFrame(X)) is None
    assert trial_axis([]) is None
    assert trial_axis(X3) == 0
    assert trial_axis(named(X3, ("a", "b", "REPEATS"), {})) == 2


def test_two_dimensions_of_trials_are_refused():
    both = named(Y3, ("repeat", "trial", "odour"), {})
    said = "must have one dimension of trials, not 'repeat' and 'trial': rename"
    for name, call in {
        "X": lambda: fc.covariance(both),
        "Y": lambda: fc.target_covariance(both, like=X),
        "responses": lambda: fc.fit(X, responses=both, **OPTIONS),
    }.items():
        with pytest.raises(ValueError, match=f"'{name}' {said}"):
            call()
    for call in (fc.noise_ceiling, lambda Y: fc.cross_validate(X, Y, **RIDGES)):
        with pytest.raises(ValueError, match=f"'Y' {said}"):
            call(both)


REFUSED = {
    "four axes": (np.ones((2, 2, 3, 4)), "must have 2 axes"),
    "no trial": (np.ones((0, 3, 4)), "no empty axis"),
    "trials of other sizes": ([X, X[:-1]], "same channels and conditions in each trial"),
    "complex": (X3 + 1j, "must hold real numbers"),
    "NaN": (np.where(X3[1, 2, 3] == X3, np.nan, X3), "first at trial 1, channel 2, condition 3"),
    "infinite": (np.where(X3[1, 2, 3] == X3, np.inf, X3), "first at trial 1, channel 2, condition 3"),
    "a mask": (np.ma.masked_array(X3, X3 > 0), "without a mask"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_trials_that_cannot_be_averaged_are_refused(case):
    value, message = REFUSED[case]
    for call in (
        lambda: fc.covariance(value),
        lambda: fc.fit(value, np.eye(4), **OPTIONS),
        lambda: fc.loss(value, np.eye(4), np.ones(3)),
    ):
        with pytest.raises((TypeError, ValueError), match=f"'X' .*{message}"):
            call()


def test_trials_in_dask_arrays_are_to_be_averaged_first():
    dask = pytest.importorskip("dask.array")
    with pytest.raises(TypeError, match=r"pass X\.mean\(axis=0\)"):
        fc.covariance(dask.from_array(X3))


# --- covariances across trials


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("n_trials", [2, 3, 5])
def test_a_covariance_across_trials_is_the_mean_over_pairs_of_trials(n_trials, center):
    Z = in_trials(data(M, D, seed=9), n_trials)
    K = J if center else np.eye(M)
    pairs = [Z[s].T @ K @ Z[t] for s in range(n_trials) for t in range(n_trials) if s != t]
    S = fc.target_covariance(Z, center=center, trials="cross")
    np.testing.assert_allclose(S, np.mean(pairs, axis=0), atol=1e-10)
    np.testing.assert_array_equal(S, S.T)
    scaled = fc.target_covariance(Z, like=X, center=center, trials="cross")
    assert np.trace(scaled) == pytest.approx(np.trace(fc.covariance(X, center=center)))
    np.testing.assert_allclose(scaled * np.trace(S), S * np.trace(scaled), rtol=1e-12)


def test_fits_and_studies_take_a_covariance_across_trials():
    S = fc.target_covariance(Y3, like=X3, trials="cross")
    fit = fc.fit(X3, responses=Y3, trials="cross", **OPTIONS)
    np.testing.assert_allclose(fit.gains, fc.fit(X3, S, **OPTIONS).gains, atol=1e-12)
    assert fit.stats["trials"]["responses"]["n_trials"] == T
    assert fit.stats["n_responses"] == M
    assert fc.cross_validate(X3, S=S, **RIDGES).scores["linear"].r2.shape == (4, 2)
    applied = fit.apply(X, responses=Y)
    assert np.isfinite(applied.r2)


def test_an_indefinite_target_is_fitted():
    random = np.random.default_rng(0)
    weak = random.standard_normal((2, M, D)) + 0.5 * data(M, D)
    S = fc.target_covariance(weak, like=X, trials="cross")
    assert np.linalg.eigvalsh(S)[0] < 0
    assert fc.fit(X, S, method="exact", **OPTIONS).status == "converged"


@pytest.mark.slow
def test_noise_adds_to_the_variances_of_a_mean_and_not_across_trials():
    random, cells, n_trials, sets, sd = np.random.default_rng(0), data(40, 6), 4, 400, 2.0
    true = np.cov(cells.T) * 39
    found = {name: np.empty((sets, 6, 6)) for name in ("mean", "cross")}
    for k in range(sets):
        Z = cells + sd * random.standard_normal((n_trials, 40, 6))
        for name, values in found.items():
            values[k] = fc.target_covariance(Z, trials=name)
    error = {name: values.std(axis=0) / sets**0.5 for name, values in found.items()}
    bias = 39 * sd**2 / n_trials * np.eye(6)
    # 21 entries: none is further than 4 standard errors but by chance of some 0.1 %.
    assert (np.abs(found["mean"].mean(axis=0) - true - bias) < 4 * error["mean"]).all()
    assert (np.abs(found["cross"].mean(axis=0) - true) < 4 * error["cross"]).all()
    assert bias[0, 0] > 20 * error["cross"][0, 0]


CROSS = {
    "no trials": (lambda: fc.target_covariance(Y, trials="cross"), "two trials or more.* not without trials"),
    "one trial": (lambda: fc.target_covariance(Y3[:1], trials="cross"), "not of one trial"),
    "nothing repeats": (
        lambda: fc.target_covariance(np.stack([Y, -Y]), like=X, trials="cross"),
        "must have trials that agree",
    ),
    "channels alike": (
        lambda: fc.target_covariance(np.stack([Y[[0] * M], 3 * Y[[1] * M]]), like=X, trials="cross"),
        "must have trials that agree",
    ),
    "unknown": (lambda: fc.target_covariance(Y3, trials="both"), "'trials' must be one of 'mean', 'cross'"),
    "unknown in a fit": (
        lambda: fc.fit(X, responses=Y3, trials="both", **OPTIONS),
        "'trials' must be one of",
    ),
    "S": (lambda: fc.fit(X, np.eye(D), trials="cross", **OPTIONS), "'trials' must be 'mean' where responses"),
    "cv": (lambda: fc.fit(X, responses=Y3, trials="cross", ridge="cv"), "'mean' where ridge='cv'"),
    "NaN": (
        lambda: fc.target_covariance(np.where(Y3 > 1, np.nan, Y3), trials="cross", nan_policy="omit-trials"),
        "first at trial .* trials='cross' needs all values",
    ),
    "conditions": (
        lambda: fc.target_covariance(Y3[..., 1:], like=X, trials="cross"),
        "have the 8 conditions",
    ),
}


@pytest.mark.parametrize("case", CROSS)
def test_what_covariances_across_trials_need_is_said(case):
    call, message = CROSS[case]
    with pytest.raises(ValueError, match=message):
        call()


# --- trials as columns

LABELS = ["b", "a", "b", "c", "d", "c", "a", "d", "d"]  # 2, 2, 2 and 3 trials
MEMBERS = members_of("trials", LABELS, 9)


def whole(splits, labels):
    """Whether no condition is on both sides of any split, and each column that is on one is there once."""
    labels = np.array([str(each) for each in labels])
    return all(not set(labels[train]) & set(labels[test]) for train, test in splits)


@pytest.mark.parametrize("folds", [2, 3, 4, "leave-one-out", "leave-two-out"])
def test_folds_are_drawn_of_conditions(folds):
    random = np.random.default_rng(0)
    splits = make_folds(folds, 1, 9, random, MEMBERS)
    assert whole(splits, LABELS)
    assert len(splits) == {"leave-one-out": 4, "leave-two-out": 6}.get(folds, folds)
    if folds != "leave-two-out":
        np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in splits])), np.arange(9))
    for train, _ in splits:
        if len({LABELS[i] for i in train}) > 2:
            inner = inner_folds(folds, train, random, MEMBERS)
            assert whole(inner, LABELS)
            assert all(set(a) | set(b) == set(train) for a, b in inner)


def test_repeats_draw_other_conditions():
    splits = make_folds(2, 5, 9, np.random.default_rng(0), MEMBERS)
    assert len(splits) == 10
    assert whole(splits, LABELS)
    assert len({tuple(test) for _, test in splits}) > 2


def test_a_splitter_splits_conditions():
    model_selection = pytest.importorskip("sklearn.model_selection")
    splits = make_folds(model_selection.LeaveOneOut(), 1, 9, np.random.default_rng(0), MEMBERS)
    assert [tuple(test) for _, test in splits] == [tuple(part) for part in MEMBERS]


def test_given_folds_must_keep_conditions_together():
    random = np.random.default_rng(0)
    agree = [0, 1, 0, 0, 1, 0, 1, 1, 1]
    assert whole(make_folds(agree, 1, 9, random, MEMBERS), LABELS)
    with pytest.raises(
        ValueError, match=r"'folds' must keep the trials of a condition together.*columns 0, 2"
    ):
        make_folds([0, 1, 1, 0, 1, 0, 1, 1, 1], 1, 9, random, MEMBERS)
    with pytest.raises(ValueError, match=r"train on at least 2 conditions in each fold, not on trials of 1"):
        make_folds([([0, 2], [1, 6])], 1, 9, random, MEMBERS)
    with pytest.raises(ValueError, match="'folds' must be at most the 4 conditions, not 5"):
        make_folds(5, 1, 9, random, MEMBERS)


def test_shuffles_move_whole_conditions_of_as_many_trials():
    orders, count = make_orders(50, 9, np.random.default_rng(0), conditions=MEMBERS)
    assert round(count) == 6  # a, b and c; d has three trials
    seen = set()
    for order in orders:
        places = [tuple(order[part]) for part in MEMBERS]
        assert set(places) == {tuple(part) for part in MEMBERS}
        assert places[[tuple(part) for part in MEMBERS].index((4, 7, 8))] == (4, 7, 8)
        seen.add(tuple(places))
    assert len(seen) == 6
    kinds = ["x", "y", "x", "x", "y", "x", "y", "y", "y"]  # a and d, b and c
    orders, count = make_orders(
        20, 9, np.random.default_rng(0), groups=kinds, permute="within", conditions=MEMBERS
    )
    assert round(count) == 2
    assert {tuple(order[[1, 6]]) for order in orders} == {(1, 6)}
    assert {tuple(order[[0, 2]]) for order in orders} == {(0, 2), (3, 5)}


def test_what_trials_in_columns_need_is_said():
    x, y = np.tile(X, 3), np.tile(Y, 3)
    labels = np.tile(np.arange(D), 3)
    with pytest.raises(ValueError, match="'trials' must have a label for each of the 24 conditions, not 8"):
        fc.cross_validate(x, y, trials=np.arange(D), **RIDGES)
    with pytest.raises(TypeError, match="'trials' must be a label for each"):
        fc.cross_validate(x, y, trials=3, **RIDGES)
    with pytest.raises(ValueError, match="'permute' must be 'conditions' or 'within' where trials are given"):
        fc.cross_validate(x, y, trials=labels, groups=labels, permute="groups", shuffles=1, **RIDGES)
    with pytest.raises(ValueError, match="'groups' must have one label for all trials of a condition"):
        fc.cross_validate(
            x, y, trials=labels, groups=np.arange(24) // 5, permute="within", shuffles=1, **RIDGES
        )
    few = np.array([0, 1, 1, 2, 2, 2, 3, 3, 3, 3])
    with pytest.raises(ValueError, match="'trials' must leave conditions to permute"):
        fc.cross_validate(data(9, 10), data(9, 10, seed=3), trials=few, shuffles=1, **RIDGES)
    with pytest.raises(ValueError, match="'trials' must leave at least 20 orders"):
        fc.permutation_test(
            data(9, 9), data(9, 9, seed=3), trials=np.arange(9) // 3, shuffles=19,
            relative_ridges=[1.0], folds=3, method="linear",
        )  # fmt: skip


@pytest.mark.parametrize("label", [np.nan, None, pd.NA, pd.NaT, np.float32("nan"), np.datetime64("NaT")])
def test_a_missing_label_is_no_condition(label):
    x, y = np.tile(X, 2), np.tile(Y, 2)
    labels = [*range(D), *range(D - 1), label]
    said = rf"must have a label for each of the {2 * D} conditions, not .* for number {2 * D - 1} \(counted"
    with pytest.raises(ValueError, match=f"'trials' {said}"):
        fc.cross_validate(x, y, trials=labels, **RIDGES)
    with pytest.raises(ValueError, match=f"'groups' {said}"):
        fc.cross_validate(x, y, groups=labels, permute="within", shuffles=1, **RIDGES)


def test_a_condition_may_be_called_nan():
    x, y = np.tile(X, 2), np.tile(Y, 2)
    labels = [*map(str, range(D - 1)), "nan"] * 2
    assert fc.cross_validate(x, y, trials=labels, **RIDGES).stats["conditions"] == D


def test_names_that_repeat_are_taken_with_trials_and_point_to_it_without():
    names = [f"o{j}" for j in range(D)] * 2
    x = pd.DataFrame(np.concatenate(X3[:2], axis=1), columns=names)
    y = pd.DataFrame(np.concatenate(Y3[:2], axis=1), columns=names)
    with pytest.raises(
        ValueError, match=r"'X' must name each condition once.*groupby.*trials=labels to study, cross_v"
    ):
        fc.cross_validate(x, y, **RIDGES)
    cv = fc.cross_validate(x, y, trials=names, **RIDGES)
    assert whole(cv.folds, names)
    assert cv.stats["conditions"] == D
    assert f"{N} channels x 16 trials of 8 conditions" in str(cv)
    order = np.random.default_rng(0).permutation(D)
    both = np.concatenate([order, D + order])  # trials of one name stay in their order
    with pytest.warns(fc.LabelWarning, match="aligned by name"):
        again = fc.cross_validate(x, y.iloc[:, both], trials=names, **RIDGES)
    np.testing.assert_allclose(again.scores["linear"].r2, cv.scores["linear"].r2, atol=1e-12)
    test = fc.permutation_test(x, y, trials=names, shuffles=19, **RIDGES)
    assert "16 trials of 8 conditions" in str(test)
    averaged = x.T.groupby(level=0).mean().T
    np.testing.assert_allclose(averaged[names[:D]], X3[:2].mean(axis=0), atol=1e-12)


def test_random_folds_flatter_trials_in_columns():
    """X and Y are independent: a condition is "predicted" because other trials of it were fitted."""
    random = np.random.default_rng(0)
    cells, others = random.standard_normal((40, 12)), random.standard_normal((50, 12))
    labels = np.tile(np.arange(12), 4)
    x = cells[:, labels] + 0.3 * random.standard_normal((40, 48))
    y = others[:, labels] + 0.3 * random.standard_normal((50, 48))
    options = {"relative_ridges": [1e-3, 1e-2, 1e-1], "folds": 4, "repeats": 2, "refit": None}
    flattered = fc.cross_validate(x, y, **options).scores["exact"].pooled("cross-pearson").max()
    honest = fc.cross_validate(x, y, trials=labels, **options).scores["exact"].pooled("cross-pearson").max()
    assert flattered > honest + 0.2


def test_nested_folds_keep_trials_together():
    x, y, labels = np.concatenate(X3, axis=1), np.concatenate(Y3, axis=1), np.tile(np.arange(D), T)
    cv = fc.cross_validate(x, y, trials=labels, nested=True, **RIDGES)
    assert cv.scores["linear"].nested is not None
    assert whole(cv.folds, labels)
