"""study(): the same numbers as its pieces one by one, groups and differences by hand, and bad input."""

import dataclasses
import itertools
import json
import re

import naive
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from cases import data
from test_saved import same, suffixes

import fastcov as fc
from fastcov._results.group_studies import over_groups
from fastcov._results.score import SCORES
from fastcov._studies.permutations import make_orders
from fastcov._whole.progress import Bar

pd = pytest.importorskip("pandas")

N, M, D, K = 24, 30, 12, 19
ODOURS = [f"odour {d}" for d in range(D)]
CHANNELS = [f"g{i}" for i in range(N)]
GROUPS = np.array(["a", "b", "c"])[np.arange(N) % 3]
OPTIONS = {"relative_ridges": [1e-2, 1e-1, 1.0], "folds": 4, "shuffles": K}


def pair():
    """Y is X with gains between 0.2 and 3, mixed: there is something to find."""
    X = data(N, D)
    gains = np.exp(np.linspace(-1.6, 1.1, N))
    mix = np.random.default_rng(3).standard_normal((M, N)) / np.sqrt(N)
    return X, mix @ (gains[:, np.newaxis] * (X - X.mean(axis=0)))


X, Y = pair()
OTHER = data(20, D, seed=8)


@pytest.fixture(scope="module")
def alone():
    return fc.study(X, Y, **OPTIONS)


@pytest.fixture(scope="module")
def several():
    """Two populations and three groups, with names."""
    named = pd.DataFrame(X, index=CHANNELS, columns=ODOURS)
    ys = {"mitral": pd.DataFrame(Y, columns=ODOURS), "tufted": pd.DataFrame(OTHER, columns=ODOURS)}
    return fc.study(named, ys, groups=GROUPS, **OPTIONS)


# --- the same numbers as its pieces


def test_scores_p_and_choices_are_those_of_the_test_and_of_nested_folds(alone):
    test = fc.permutation_test(X, Y, **OPTIONS)
    cv = fc.cross_validate(X, Y, nested=True, **OPTIONS)
    assert alone.p == test.p
    assert alone.test.p_over == test.p_over
    np.testing.assert_array_equal(alone.test.null, test.null)
    for name in SCORES:
        np.testing.assert_array_equal(alone.cv.scores["exact"].pooled(name), cv.scores["exact"].pooled(name))
    np.testing.assert_array_equal(
        alone.cv.scores["exact"].nested.moments.sums, cv.scores["exact"].nested.moments.sums
    )
    assert alone.cv.best_ridge == cv.best_ridge
    np.testing.assert_array_equal(alone.fit.gains, cv.fit.gains)


@pytest.mark.parametrize("by", ["cells", "conditions", "both"])
def test_intervals_ceiling_and_table_are_those_of_the_fit_and_of_the_cells(by):
    found = fc.study(X, Y, by=by, level=0.9, fdr=0.2, nested=False, **OPTIONS)
    uncertainty = found.fit.uncertainty(Y, by=by, level=0.9)
    for name in ("gains", "se", "lower", "upper", "resolution"):
        np.testing.assert_array_equal(getattr(found.uncertainty, name), getattr(uncertainty, name))
    table = uncertainty.table(found.test, fdr=0.2)
    for name in ("names", "p", "q", "changed"):
        np.testing.assert_array_equal(getattr(found.channels, name), getattr(table, name))
    ceiling = fc.noise_ceiling(Y, folds=4)
    assert all(found.ceiling.ceiling(name) == ceiling.ceiling(name) for name in SCORES)


@pytest.mark.parametrize(
    ("folds", "apart"),
    [(3, 3), (7, 7), ("leave-one-out", D), ("leave-two-out", D // 2), (np.arange(D) % 6, 6)],
    ids=["3", "7", "leave-one-out", "leave-two-out", "labels"],
)
def test_the_ceiling_is_that_of_as_many_folds(folds, apart):
    options = {"shuffles": 0, "nested": False, "relative_ridges": [1.0], "method": "linear"}
    found = fc.study(X, Y, folds=folds, score="r2", **options).ceiling
    ceiling = fc.noise_ceiling(Y, folds=apart)
    assert all(found.ceiling(name) == ceiling.ceiling(name) for name in SCORES)
    if apart == 3:  # folds of one repeat
        found = fc.study(X, Y, folds=folds, repeats=2, **options).ceiling
        assert found.ceiling("r2") == ceiling.ceiling("r2") != fc.noise_ceiling(Y).ceiling("r2")


def test_channels_are_compared_with_shuffles_at_every_ridge():
    found = fc.study(X, Y, method="linear", tol=1e-12, nested=False, **OPTIONS)
    folds = np.random.default_rng(0)
    folds.permutation(D)  # what draws the folds
    orders = [np.arange(D), *make_orders(K, D, folds)[0]]
    S = fc.target_covariance(Y, like=X)
    top = np.linalg.norm(naive.atoms(X), 2) ** 2
    away = np.zeros((K + 1, N))
    signed = np.zeros((len(OPTIONS["relative_ridges"]), N))
    for r, ridge in enumerate(OPTIONS["relative_ridges"]):
        z = np.array([1 + naive.linear_fit(X, S[np.ix_(o, o)], ridge * top) for o in orders])
        t = (z - z.mean(axis=0)) / z.std(axis=0)
        away, signed[r] = np.maximum(away, np.abs(t)), t[0]
    p = (1 + (away[1:] >= away[0]).sum(axis=0)) / (K + 1)
    channels = found.test.channels
    np.testing.assert_array_equal(channels.p, p)
    np.testing.assert_allclose(channels.q, naive.pooled_q(away), rtol=1e-9)
    expected = signed[np.abs(signed).argmax(axis=0), np.arange(N)]
    np.testing.assert_allclose(channels.largest, expected, rtol=1e-5)
    # Folds and shuffles are drawn as permutation_test draws them; this one takes the best ridge alone.
    assert fc.permutation_test(X, Y, method="linear", **OPTIONS).channels.largest is None


def test_exact_fits_of_all_ridges_are_compared_from_one_ridge_to_the_next(alone):
    channels, K1 = alone.test.channels, K + 1
    assert (channels.p * K1 == np.round(channels.p * K1)).all()
    np.testing.assert_array_equal(channels.gains, alone.fit.gains)
    # The mean over shuffles is that of permutation_test at the same ridge, up to the start of the fits.
    plain = fc.permutation_test(X, Y, **OPTIONS).channels
    np.testing.assert_allclose(channels.mean, plain.mean, atol=2e-2)


def test_predictions_pair_by_pair_are_the_mean_over_folds_that_held_a_pair_out(alone):
    cv, k = alone.cv, alone.cv.place("exact")
    C_Y = naive.covariance(Y)
    total, times = np.zeros((D, D)), np.zeros((D, D))
    for (train, test), z in zip(cv.folds, cv.scores["exact"].gains[:, k], strict=True):
        block = np.ix_(train, train)
        scale = np.trace(naive.covariance(X)[block]) / np.trace(C_Y[block])
        P = naive.covariance(X, z) / scale
        out = np.zeros((D, D), bool)
        out[test] = out[:, test] = True
        total[out] += P[out]
        times[out] += 1
    np.testing.assert_allclose(alone["Y"].predicted, total / times, rtol=1e-10)


def test_starts_of_the_fit_of_all_conditions_agree_or_not():
    options = {**OPTIONS, "shuffles": 0, "nested": False, "relative_ridges": [1e-3], "by": "conditions"}
    found = fc.study(X, Y, n_starts=3, groups=GROUPS, **options)
    fit = fc.fit(X, responses=Y, method="exact", relative_ridge=1e-3, n_starts=3)
    starts = found.fit.stats["gains_of_starts"]
    np.testing.assert_allclose(starts, fit.stats["gains_of_starts"], rtol=1e-6)
    np.testing.assert_array_equal(found.fit.gains, starts[np.argmin(found.fit.stats["losses"])])
    same_side = (np.sign(starts - 1) == np.sign(found.fit.gains - 1)).mean(axis=0)
    np.testing.assert_array_equal(found.channels.starts, same_side[np.array(found.channels.names)])
    # Held-out fits, and those of groups, have one start.
    plain = fc.study(X, Y, **options)
    assert np.isnan(plain.channels.starts).all()
    np.testing.assert_array_equal(
        found.cv.scores["exact"].moments.sums, plain.cv.scores["exact"].moments.sums
    )
    assert "gains_of_starts" not in found.groups.cv("a").fit.stats


def test_without_shuffles_there_is_no_p_and_the_rest_is_the_same(alone):
    found = fc.study(X, Y, **{**OPTIONS, "shuffles": 0})
    assert found.p is None
    assert found.test is None
    assert not found.channels.tested
    np.testing.assert_array_equal(found.fit.gains, alone.fit.gains)
    np.testing.assert_array_equal(np.sort(found.channels.se), np.sort(alone.channels.se))
    assert "shuffles=100" in found.verdict


# --- groups


def group_fit(X, S, labels):
    """One gain for each group, by BFGS from gains of one on the loss of all entries."""
    names = list(dict.fromkeys(labels))
    places = np.array([names.index(label) for label in labels])
    size = np.linalg.norm(S) ** 2
    found = scipy.optimize.minimize(
        lambda g: naive.loss(X, S, g[places]) / size,
        np.ones(len(names)),
        method="BFGS",
        options={"gtol": 1e-10},
    )
    return found.x, places


@pytest.mark.parametrize("nuisance", [None, ("diagonal", "constant")])
def test_one_gain_a_group_is_the_minimum_over_gains_that_are_alike(several, nuisance):
    if nuisance is None:
        found = several["mitral"].groups.gains
        cv = several["mitral"].cv
    else:
        study = fc.study(X, Y, groups=GROUPS, nuisance=nuisance, nested=False, **{**OPTIONS, "shuffles": 0})
        found, cv = study.groups.gains, study.cv
    C_Y, rows = naive.covariance(Y), []
    for (train, test), g in zip(cv.folds, found.folds, strict=True):
        block = np.ix_(train, train)
        scale = np.trace(naive.covariance(X)[block]) / np.trace(C_Y[block])
        expected, places = group_fit(X[:, train], scale * C_Y[block], GROUPS)
        P = naive.covariance(X, g[places])
        if nuisance is None:
            np.testing.assert_allclose(g, expected, atol=1e-4)
        else:  # no gain of a group can lower the loss, with nuisance terms fitted
            model = naive.Counted(X[:, train], scale * C_Y[block], 0.0, nuisance=nuisance)
            slopes = np.bincount(places, model.gradient(g[places]))
            assert np.abs(slopes).max() < 1e-6 * np.abs(model.gradient(np.ones(N))).sum()
            (beta, gamma), _ = naive.nuisance_terms(scale * C_Y[block] - P[block], nuisance)
            P = P + beta * np.eye(D) + gamma
        rows.append(naive.unseen_pairs(P, scale * C_Y, train, test))
    scores = naive.scores(rows)
    for name in SCORES:
        np.testing.assert_allclose(found.moments.pooled(name), scores[name], atol=1e-8, err_msg=name)


def test_folds_may_be_drawn_again_where_there_are_groups():
    found = fc.study(X, Y, groups=GROUPS, repeats=2, **{**OPTIONS, "shuffles": 0, "nested": False})
    assert found.cv.repeats == 2
    assert len(found.groups.gains.folds) == 8
    same(list(found.groups.cv("a").folds), list(found.cv.folds))


def test_p_of_gains_by_channel_over_gains_by_group_is_of_the_same_shuffles(several):
    one = several["tufted"]
    gained, _, p = over_groups(one.cv, "exact", one.groups.gains)
    best = one.cv.scores["exact"].shuffled.pooled(one.cv.score).max(axis=1)
    null = best - one.groups.gains.shuffled.pooled(one.cv.score)
    assert p == (1 + (null >= gained).sum()) / (K + 1)
    assert p != (1 + (best >= gained).sum()) / (K + 1)


def test_gains_by_group_of_shuffles_and_their_p(several):
    one = several["mitral"]
    random = np.random.default_rng(0)
    random.permutation(D)
    order = make_orders(K, D, random)[0][4]
    other = fc.study(X, Y[:, order], groups=GROUPS, **{**OPTIONS, "shuffles": 0, "folds": list(one.cv.folds)})
    np.testing.assert_allclose(one.groups.gains.shuffled.sums[4], other.groups.gains.moments.sums, rtol=1e-8)
    gained, error, p = over_groups(one.cv, "exact", one.groups.gains)
    null = one.cv.scores["exact"].shuffled.pooled(one.cv.score).max(axis=1)
    null = null - one.groups.gains.shuffled.pooled(one.cv.score)
    best = one.cv.scores["exact"].pooled(one.cv.score).max()
    assert gained == pytest.approx(best - one.groups.gains.moments.pooled(one.cv.score))
    assert p == (1 + (null >= gained).sum()) / (K + 1)
    assert error > 0


def test_each_group_is_studied_by_itself_on_the_same_folds(several):
    found = several["mitral"].groups
    assert found.names == ("a", "b", "c")
    np.testing.assert_array_equal(found.sizes, [8, 8, 8])
    folds = list(several["mitral"].cv.folds)
    ridges = OPTIONS["relative_ridges"]
    for k, name in enumerate(found.names):
        rows = np.flatnonzero(name == GROUPS)
        cv = fc.cross_validate(X[rows], Y, relative_ridges=ridges, folds=folds)
        np.testing.assert_allclose(
            found.cv(name).scores["exact"].moments.sums, cv.scores["exact"].moments.sums
        )
        assert found.scores()[k] == pytest.approx(np.nanmax(cv.scores["exact"].pooled(cv.score)))
        assert found.scores("one")[k] == pytest.approx(found.scores()[k] - cv.baseline("one")[0])
        expected = np.corrcoef(cv.fit.gains, several["mitral"].fit.gains[rows])[0, 1]
        assert found.agreement[k] == pytest.approx(expected, rel=1e-6)
        assert found.cv(name).fit.channels == tuple(np.array(CHANNELS)[rows])


@pytest.mark.parametrize(
    ("channels", "cells", "what"),
    [
        (0.0, None, "its channels"),
        (np.where(np.arange(D) == 2, 1.0, 0.0), None, "its channels"),  # silent in the fold without this one
        (None, 1.0, "the cells that it is compared with"),
    ],
    ids=["silent", "silent in a fold", "alike"],
)
def test_a_study_outlives_a_group_that_does_not_vary(tmp_path, channels, cells, what):
    X2, Y2, own = X.copy(), Y.copy(), GROUPS[np.arange(M) % N]
    if channels is not None:
        X2[GROUPS == "b"] = channels * X2[GROUPS == "b"]
    if cells is not None:
        Y2[own == "b"] = cells
    options = {**OPTIONS, "nested": False, "groups": (GROUPS, own)}
    with pytest.warns(UserWarning, match=f"Group 'b' has no study of its own: in the .* fold {what} are"):
        study = fc.study(X2, Y2, **options)
    found = study.groups
    assert study.p is not None
    assert list(found.studies) == ["a", "c"]
    np.testing.assert_array_equal(np.isnan(found.scores()), [False, True, False])
    np.testing.assert_array_equal(np.isnan(found.agreement), [False, True, False])
    assert found.above("one")[1] == 2
    said = f"Group b has no study of its own: in the training conditions of a fold {what} are silent, or all"
    assert said in study.verdict
    rows = json.loads(study.to_json())["populations"]["Y"]["groups"]["groups"]
    assert [bool(row["missing"]) for row in rows] == [False, True, False]
    with pytest.raises(KeyError, match=f"one of a, c, not 'b': in the training conditions of a fold {what}"):
        found.cv("b")
    study.save(tmp_path / "study.npz")
    assert repr(fc.load(tmp_path / "study.npz")) == repr(study)
    pytest.importorskip("jinja2")
    page = study.report(tmp_path / "study.html").read_text(encoding="utf-8")
    assert said in page


@pytest.mark.slow
def test_groups_of_cells_are_compared_with_their_own(several):
    cells = np.array(["b", "c", "a"])[np.arange(M) % 3]
    found = fc.study(X, Y, groups=(GROUPS, cells), **{**OPTIONS, "shuffles": 0})
    assert found.groups.own
    assert not several["mitral"].groups.own
    cv = fc.cross_validate(
        X[GROUPS == "c"],
        Y[cells == "c"],
        relative_ridges=OPTIONS["relative_ridges"],
        folds=list(found.cv.folds),
    )
    np.testing.assert_allclose(
        found.groups.cv("c").scores["exact"].moments.sums, cv.scores["exact"].moments.sums
    )
    named = {"mitral": Y, "tufted": OTHER}
    both = fc.study(
        X, named, groups=(GROUPS, {"mitral": cells, "tufted": cells[:20]}), **{**OPTIONS, "shuffles": 0}
    )
    np.testing.assert_array_equal(
        both["mitral"].groups.cv("c").scores["exact"].moments.sums,
        found.groups.cv("c").scores["exact"].moments.sums,
    )
    assert both["tufted"].groups.cv("c").fit.stats["n_responses"] == (cells[:20] == "c").sum()


def test_groups_with_names_are_aligned_with_the_channels(several):
    series = pd.Series(GROUPS, index=CHANNELS)[::-1]
    named = pd.DataFrame(X, index=CHANNELS, columns=ODOURS)
    with pytest.warns(fc.LabelWarning, match="'groups'"):
        found = fc.study(named, Y, groups=series, **{**OPTIONS, "shuffles": 0})
    assert set(found.groups.names) == {"a", "b", "c"}
    assert {
        name: int((found.groups.places == k).sum()) for k, name in enumerate(found.groups.names)
    } == dict.fromkeys("abc", 8)
    assert [found.groups.names[k] for k in found.groups.places] == GROUPS.tolist()


def test_a_sign_test_counts_groups_on_either_side(several):
    found = several["mitral"].groups
    k, n, p = found.above("one")
    gained = found.scores("one")
    assert (k, n) == ((gained > 0).sum(), 3)
    assert p == pytest.approx(scipy.stats.binomtest(int(k), int(n)).pvalue)


@pytest.mark.slow
def test_groups_may_be_tested_with_shuffles_of_their_own():
    found = fc.study(X, Y, groups=GROUPS, group_shuffles=19, **{**OPTIONS, "shuffles": 0}).groups
    test = fc.permutation_test(X[GROUPS == "a"], Y, **{**OPTIONS, "folds": list(found.cv("a").folds)})
    assert found.studies["a"].p == test.p


# --- populations


def test_populations_are_studied_on_the_same_folds_and_shuffles(several, alone):
    mitral, tufted = several["mitral"], several["tufted"]
    same(mitral.cv.folds, tufted.cv.folds)
    np.testing.assert_array_equal(mitral.test.null, alone.test.null)
    assert several.p == {"mitral": mitral.p, "tufted": tufted.p}
    np.testing.assert_array_equal(
        mitral.cv.scores["exact"].moments.sums, alone.cv.scores["exact"].moments.sums
    )
    assert mitral.p == 1 / (K + 1)
    assert tufted.cv.verdicts()["exact"].better is False


def test_a_difference_is_paired_over_folds(several):
    (found,) = several.differences
    assert (found.first, found.second, found.p) == ("mitral", "tufted", None)
    values, without = [], []
    for name in ("mitral", "tufted"):
        cv = several[name].cv
        sums = cv.scores["exact"].moments.at(cv.place("exact"))
        values.append(float(sums.pooled(cv.score)))
        without.append(sums.without(cv.score))
    apart = without[0] - without[1]
    se = np.sqrt(3 / 4 * np.square(apart - apart.mean()).sum())
    assert found.value == pytest.approx(values[0] - values[1])
    assert found.se == pytest.approx(se)
    t = scipy.stats.t.ppf(0.975, 3)
    np.testing.assert_allclose([found.lower, found.upper], [found.value - t * se, found.value + t * se])


def test_a_difference_of_three_populations_is_of_each_pair():
    found = fc.study(X, {"a": Y, "b": OTHER, "c": Y[:9]}, **{**OPTIONS, "shuffles": 0, "nested": False})
    assert [(d.first, d.second) for d in found.differences] == list(itertools.combinations("abc", 2))


@pytest.mark.slow
def test_dealt_cells_give_p_of_a_difference():
    n = 19
    found = fc.study(X, {"a": Y, "b": OTHER}, deals=n, **{**OPTIONS, "shuffles": 0, "nested": False})
    (difference,) = found.differences
    cells, random, null = np.concatenate([Y, OTHER]), np.random.default_rng(0), []
    for _ in range(n):
        order = random.permutation(len(cells))
        options = {"folds": list(found["a"].cv.folds), "relative_ridges": OPTIONS["relative_ridges"]}
        dealt = [fc.cross_validate(X, cells[part], refit=None, **options) for part in (order[:M], order[M:])]
        scores = [cv.summary("exact")[0].max() for cv in dealt]
        null.append(scores[0] - scores[1])
    np.testing.assert_allclose(difference.null, null, atol=1e-9)
    assert difference.p == (1 + (np.abs(null) >= abs(difference.value)).sum()) / (n + 1)


def test_p_of_a_difference_is_two_sided():
    options = {**OPTIONS, "shuffles": 0, "nested": False}
    (found,) = fc.study(X, {"a": Y[:12], "b": Y[12:]}, deals=19, **options).differences
    beyond = np.abs(found.null) >= abs(found.value)
    assert beyond.sum() > (found.null >= abs(found.value)).sum()  # some are as far on the other side
    assert found.p == (1 + beyond.sum()) / 20


def test_conditions_of_each_population_are_aligned_by_name():
    frame = pd.DataFrame(X, columns=ODOURS)
    ys = {"a": pd.DataFrame(Y, columns=ODOURS), "b": pd.DataFrame(OTHER, columns=ODOURS)}
    options = {**OPTIONS, "shuffles": 0, "nested": False}
    plain = fc.study(frame, ys, **options)
    turned = {"a": ys["a"], "b": ys["b"][ODOURS[::-1]]}
    with pytest.warns(fc.LabelWarning, match=re.escape("Y['b']")):
        found = fc.study(frame, turned, **options)
    np.testing.assert_allclose(found["b"].fit.gains, plain["b"].fit.gains, rtol=1e-10)
    missing = {"a": ys["a"], "b": ys["b"].rename(columns={"odour 3": "odour x"})}
    with pytest.raises(ValueError, match=r"^Argument 'Y\['b'\]' must have the conditions of 'X', .*odour 3"):
        fc.study(frame, missing, **options)
    fewer = {"b": ys["b"][ODOURS[1:]]}
    with pytest.raises(ValueError, match=r"^Argument 'Y\['b'\]' must have the conditions of 'X', .*odour 0"):
        fc.study(frame, fewer, **options)


# --- trials and missing values


@pytest.mark.slow
def test_trials_are_averaged_and_kept_together():
    rng = np.random.default_rng(4)
    ys = Y + 0.1 * rng.standard_normal((3, M, D))
    options = {**OPTIONS, "shuffles": 0, "nested": False}
    found = fc.study(X, ys, **options)
    plain = fc.study(X, ys.mean(axis=0), **options)
    np.testing.assert_allclose(found.fit.gains, plain.fit.gains, rtol=1e-8)
    np.testing.assert_allclose(found.uncertainty.se, plain.uncertainty.se, rtol=1e-6)
    assert found.ceiling.ceiling() == pytest.approx(fc.noise_ceiling(ys, by="cells").ceiling())
    columns = np.repeat(np.arange(D // 2), 2)
    tested = fc.study(X, Y, trials=columns, **{**OPTIONS, "nested": False})
    test = fc.permutation_test(X, Y, trials=columns, **OPTIONS)
    assert tested.p == test.p
    np.testing.assert_array_equal(tested.test.null, test.null)


def test_missing_trials_are_left_out_and_missing_cells_leave_covariances_alone():
    ys = np.stack([Y, Y])
    ys[0, 3, 2] = np.nan
    options = {**OPTIONS, "shuffles": 0, "nested": False}
    plain = fc.study(X, Y, **options)
    found = fc.study(X, ys, nan_policy="omit-trials", **options)
    np.testing.assert_allclose(found.fit.gains, plain.fit.gains, rtol=1e-8)
    holes = Y.copy()
    holes[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"^Argument 'Y' must"):
        fc.study(X, holes, **options)
    with pytest.warns(fc.MissingValuesWarning), pytest.warns(UserWarning, match="by='conditions'"):
        found = fc.study(X, holes, nan_policy="pairwise", **options)
    assert found.channels is None
    with pytest.warns(fc.MissingValuesWarning):
        found = fc.study(X, holes, nan_policy="pairwise", by="conditions", **options)
    assert len(found.channels) == N
    cells = np.array(["a", "b", "c"])[np.arange(M) % 3]
    with pytest.warns(fc.MissingValuesWarning), pytest.raises(ValueError, match="'groups' must be"):
        fc.study(X, holes, nan_policy="pairwise", groups=(GROUPS, cells), **options)
    with (
        pytest.warns(fc.MissingValuesWarning),
        pytest.raises(ValueError, match=r"^Argument 'deals' must be without"),
    ):
        fc.study(X, {"a": holes, "b": OTHER}, nan_policy="pairwise", deals=19, **options)


# --- what it says


def test_the_verdict_tells_what_is_found_and_what_is_not(several):
    text = " ".join(several.verdict.split())
    mitral, tufted = several["mitral"], several["tufted"]
    assert "The gains predict conditions that they were not fitted to." in text
    assert "That the gains predict conditions that they were not fitted to is not shown." in text
    changed = int(mitral.channels.changed.sum())
    assert (f"The gains of {changed} of {N} channels changed" in text) is bool(changed)
    assert f"p = {mitral.p:.2g}" in text
    assert f"{tufted.value()[0]:.2f}".replace("-", "−") in text
    assert re.search(
        r"mitral scores 0\.\d\d ± \d\.\d\d more than tufted .*Whether other cells would, too, was not", text
    )
    assert "shrunken gain" in text
    assert " ".join(repr(several).split()).endswith(text.split("An interval")[1])
    assert f"{N} channels x {D} conditions, to mitral, tufted" in repr(several)
    assert repr(several).count("noise ceiling") >= 1


def with_ceiling(study, **tops):
    """The same study with other noise ceilings; r of halves varies by 0.05 over splits."""
    ones = dict(study.populations)
    for name, top in tops.items():
        r = top**2 / (2 - top**2) + np.array([-0.05, 0.0, 0.05])
        halves = dict.fromkeys(SCORES, r)
        ones[name] = dataclasses.replace(ones[name], ceiling=fc.NoiseCeiling("cells", halves, 2.0, {}))
    return dataclasses.replace(study, populations=ones)


def test_the_verdict_says_how_near_to_the_ceiling_a_score_is(alone):
    value, _ = alone["Y"].value()
    assert 0.2 < value < 0.9
    exceeds = f"The score exceeds the noise ceiling, {value - 0.1:.2f} (from halves of the cells of Y)"
    for top, words in (
        (value - 0.1, exceeds), (value - 0.02, "the gains reach that."), (value / 0.8, "reach 80% of that."),
    ):  # fmt: skip
        text = with_ceiling(alone, Y=top).verdict
        assert words in text
        assert ("exceeds" in text) is (words == exceeds)
        assert ("is expected to score above" in text) is (words != exceeds)


def test_differences_are_worded_by_size_interval_and_ceilings(several):
    (found,) = several.differences

    def words(value, lower, upper, mitral=0.8, tufted=0.8, p=0.05):
        apart = dataclasses.replace(found, value=value, se=0.01, lower=lower, upper=upper, p=p)
        study = dataclasses.replace(with_ceiling(several, mitral=mitral, tufted=tufted), differences=(apart,))
        return study.verdict.split("\n\n")[-2]

    assert words(-0.2, -0.3, -0.1).startswith(
        "tufted is predicted better than mitral by 0.20 ± 0.01 (95% int"
    )
    text = words(0.2, -0.1, 0.5, p=None)
    assert text.startswith("mitral scores 0.20 ± 0.01 more than tufted (95% interval −0.10 to 0.50, ")
    assert text.endswith("folds): a difference is not shown.")
    # An interval over folds says nothing of other cells.
    assert words(0.2, 0.1, 0.3, p=0.2).endswith("a difference is not shown.")
    untested = words(0.2, 0.1, 0.3, p=None)
    assert "better" not in untested
    assert untested.endswith("deals=99 tests it.")
    for value in (0.0, 0.004, -0.004):
        assert "score alike: the difference is 0.00 ± 0.01" in words(value, value - 0.001, value + 0.001)
    assert "ceilings" not in words(0.2, 0.1, 0.3)
    text = words(-0.2, -0.3, -0.1, 0.5, 0.9)
    assert re.search(r"noise ceilings are 0\.90? and 0\.50?", text)


def test_numbers_of_the_verdict_are_those_of_the_tables(alone):
    table, text = alone.channels, " ".join(alone.verdict.split())
    value, error = alone["Y"].value()
    assert f"{value:.2f} ± {error:.2f}" in text
    assert f"{alone.ceiling.ceiling(alone.score):.2f}" in text
    if table.up:
        first = next(i for i in range(N) if table.changed[i] and table.gain[i] > 1)
        assert f"{table.up} rose" in text
        assert f"channel {table.names[first]} ({table.gain[first]:.2f})" in text
    resolved = int((table.resolution > 0.8).sum())
    assert f"for {resolved} channels" in text


def test_json_is_plain_and_has_every_channel(several, tmp_path):
    path = tmp_path / "study.json"
    text = several.to_json(path)

    def refuse(name):
        raise AssertionError(name)

    found = json.loads(text, parse_constant=refuse)
    assert json.loads(path.read_text(encoding="utf-8")) == found
    mitral, table = found["populations"]["mitral"], several["mitral"].channels
    assert [row["channel"] for row in mitral["table"]] == list(table.names)
    assert [row["gain"] for row in mitral["table"]] == table.gain.tolist()
    assert mitral["table"][0]["starts"] is None
    assert mitral["p"] == several["mitral"].p
    assert mitral["score"] == several["mitral"].value()[0]
    assert [row["name"] for row in mitral["groups"]["groups"]] == ["a", "b", "c"]
    assert found["differences"][0]["value"] == several.differences[0].value
    assert found["cells"] == {"mitral": M, "tufted": 20}
    assert "\n\n".join(part["text"] for part in found["verdict"]) == several.verdict


def test_frames_have_a_row_for_each_channel(alone, several):
    assert alone.to_frame().equals(alone.channels.to_frame())
    found = several.to_frame()
    assert found.index.names == ["population", "channel"]
    assert found.loc["tufted"].equals(several["tufted"].channels.to_frame())


def test_tables_of_channels_are_written_alike(alone, several, tmp_path):
    alone.to_csv(tmp_path / "alone.csv")
    alone.channels.to_csv(tmp_path / "own.csv")
    assert (tmp_path / "alone.csv").read_bytes() == (tmp_path / "own.csv").read_bytes()
    several.to_csv(tmp_path / "several.tsv")
    lines = (tmp_path / "several.tsv").read_bytes().splitlines(keepends=True)
    for name in ("mitral", "tufted"):
        several[name].channels.to_csv(tmp_path / "own.tsv")
        head, *rows = (tmp_path / "own.tsv").read_bytes().splitlines(keepends=True)
        assert lines[0] == b"population\t" + head
        first = 1 + N * (name == "tufted")
        assert lines[first : first + N] == [name.encode() + b"\t" + row for row in rows]
    assert len(lines) == 1 + 2 * N
    with pytest.raises(ValueError, match=r"^Argument 'path' must end in \.csv or \.tsv"):
        several.to_csv(tmp_path / "several.txt")


def test_html_has_scores_and_channels(several):
    html = several._repr_html_()
    assert html.count("<table>") == 3
    assert "noise ceiling" in html
    assert str(several["mitral"].channels.names[0]) in html


@suffixes
@pytest.mark.parametrize("name", ["alone", "several"])
def test_a_study_comes_back_bit_by_bit(request, tmp_path, suffix, name):
    found, file = request.getfixturevalue(name), tmp_path / f"study.{suffix}"
    found.save(file)
    loaded = fc.load(file)
    assert isinstance(loaded, fc.Study)
    assert repr(loaded) == repr(found)
    assert loaded.to_json() == found.to_json()
    for key, one in found.populations.items():
        other = loaded[key]
        same(one.evidence.cv.scores, other.evidence.cv.scores)
        same(one.channels, other.channels)
        same(one.predicted, other.predicted)
        if one.groups is not None:
            same(one.groups.gains, other.groups.gains)
            same(one.groups.places, other.groups.places)


def test_a_file_whose_parts_do_not_fit_is_refused(several, tmp_path):
    one = several["mitral"]
    columns = {field.name: getattr(one.channels, field.name) for field in dataclasses.fields(one.channels)}
    cut = {name: value[:5] for name, value in columns.items() if np.ndim(value)}
    groups = dataclasses.replace(one.groups, places=one.groups.places[1:])
    broken = {
        "channels": dataclasses.replace(one, channels=dataclasses.replace(one.channels, **cut)),
        "predicted": dataclasses.replace(one, predicted=one.predicted[1:]),
        "places": dataclasses.replace(one, groups=groups),
    }
    for name, other in broken.items():
        path = tmp_path / f"{name}.npz"
        dataclasses.replace(several, populations={**several.populations, "mitral": other}).save(path)
        with pytest.raises(ValueError, match=f"intact file.*{name}"):
            fc.load(path)


@pytest.mark.slow
def test_progress_is_one_bar_that_never_falls():
    told = []
    fc.study(X, {"a": Y, "b": OTHER}, groups=GROUPS, deals=19, callback=told.append, **OPTIONS)
    done = [each.done for each in told]
    assert {each.stage for each in told} == {"study"}
    assert done == sorted(done)
    assert done[-1] == 1.0
    assert len(set(done)) > 20


def test_a_bar_waits_where_a_part_begins_anew():
    told = []
    bar = Bar(lambda progress: told.append(progress.done), 4.0)
    first = bar.step(1.0)
    for stage, done in (("folds", 1.0), ("read", 0.1), ("folds", 0.2), ("gains", 1.0)):
        first(fc.Progress(stage, done))
    bar.step(3.0)(fc.Progress("groups", 0.5))
    bar.end()
    np.testing.assert_allclose(told, [0.0, 0.2125, 0.2125, 0.25, 0.25, 0.625, 1.0])


def test_folds_are_drawn_from_a_generator_that_is_left_as_it_was(alone):
    random = np.random.default_rng(0)
    found = fc.study(X, Y, rng=random, **OPTIONS)
    np.testing.assert_array_equal(found.test.null, alone.test.null)
    assert random.random() == np.random.default_rng(0).random()


# --- figures and pages


def test_the_figure_has_a_panel_for_each_question(several):
    pytest.importorskip("matplotlib")
    figure = fc.plot.study(several, population="tufted")
    assert [ax.get_title(loc="left")[0] for ax in figure.axes] == list("abcde")
    assert figure.get_suptitle().startswith("tufted: That gains predict")
    table = several["tufted"].channels
    names = [label.get_text() for label in figure.axes[4].get_yticklabels()]
    assert set(names) <= set(map(str, table.names))
    figure = fc.plot.study(several)
    assert figure.get_suptitle().startswith("mitral: Gains predict held-out conditions")
    figure.draw_without_rendering()


def test_the_figure_says_what_was_not_made():
    pytest.importorskip("matplotlib")
    found = fc.study(X, Y, **{**OPTIONS, "shuffles": 0, "nested": False})
    figure = fc.plot.study(found)
    assert "shuffles=100" in figure.axes[1].texts[0].get_text()


def test_a_figure_of_a_study_takes_no_path(alone):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=r"^Argument 'population' must be one of Y, not 'x'"):
        fc.plot.study(alone, population="x")
    with pytest.raises(TypeError, match=r"^Argument 'path' must be left out with a Study"):
        fc.plot.study(alone, object())
    with pytest.raises(TypeError, match=r"^Argument 'path' must be a RidgePath"):
        fc.plot.study(alone.cv)
    with pytest.raises(TypeError, match=r"^Argument 'population' must be left out"):
        fc.plot.study(alone.cv, object(), population="a")


@pytest.mark.slow
def test_the_page_has_the_verdict_the_channels_and_the_groups(several, tmp_path):
    pytest.importorskip("jinja2")
    text = several.report(tmp_path / "study.html", title="A < B").read_text(encoding="utf-8")
    assert "A &lt; B" in text
    for heading in ("All populations", "Which gains change?", "Groups of channels", "What not to conclude"):
        assert heading in text
    assert str(several["mitral"].channels.names[0]) in text


# --- bad input, and what cannot be computed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": ["a"] * (N - 1) + ["b"]}, r"'groups' must have at least 2 channels in each group, not 1"),
        ({"groups": ["a"] * N}, r"'groups' must name at least two groups, not only 'a'"),
        ({"groups": ["a", "b"]}, rf"'groups' must have a label for each channel of X, {N}, not 2"),
        ({"groups": [None, *GROUPS[1:]]}, r"'groups' must have a label for each channel of X, not None"),
        ({"groups": [*GROUPS[1:], np.nan]}, rf"'groups' .* not nan for number {N - 1}"),
        ({"groups": (GROUPS, ["a"] * M)}, r"'groups\[1\]' must have cells of each group of X, not none"),
        ({"groups": (GROUPS, ["a", "b"] * 14 + ["b", "c"])}, r"'groups\[1\]' must have at least 2 cells"),
        ({"groups": (GROUPS, ["a"] * 3)}, rf"'groups\[1\]' must have a label for each cell of Y, {M}, not 3"),
        ({"Y": {}}, r"'Y' must hold at least one population"),
        ({"Y": {"a": Y[:, 1:]}}, rf"'Y\['a'\]' must have the {D} conditions of X in"),
        ({"Y": Y[:, 1:]}, rf"'Y' must have the {D} conditions of X"),
        ({"Y": Y[:1]}, r"'Y' must have at least \d cells"),
        ({"shuffles": 5}, r"'shuffles' must be at least 19 for a p of 0.05, or 0 for none, not 5"),
        ({"group_shuffles": 5}, r"'group_shuffles' must be at least 19"),
        ({"deals": 19}, r"'deals' must be 0 for one population"),
        ({"n_starts": 0}, r"'n_starts' must be at least 1, not 0"),
        ({"n_starts": 2, "method": "linear"}, r"'method' must be 'exact' where n_starts is above 1, not"),
        ({"deals": 5, "Y": {"a": Y, "b": OTHER}}, r"'deals' must be at least 19 for a p of 0.05"),
        ({"method": "diagonal"}, r"'n_boot' must be above 0 with method='diagonal'"),
        ({"by": "odours"}, r"'by' must be "),
        ({"level": 1.0}, r"'level' must be between 0 and 1"),
        ({"fdr": 0}, r"'fdr' must be between 0 and 1"),
        ({"score": "r3"}, r"'score' must be "),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_error_before_any_fit(monkeypatch, changes, message):
    def fitted(*_, **__):
        raise AssertionError("a fit was made")

    monkeypatch.setattr("fastcov._studies.cross_validation.side_by_side", fitted)
    given = {"X": X, "Y": Y, **OPTIONS, **changes}
    with pytest.raises(ValueError, match=rf"^Argument {message}"):
        fc.study(given.pop("X"), given.pop("Y"), **given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": "abc"}, r"'groups' must be a label for each channel of X, not 'abc'"),
        ({"groups": 3}, r"'groups' must be a label for each channel of X, not 3"),
        ({"method": ["exact", "linear"]}, r"'method' must be one method"),
        ({"Y": {1: Y}}, r"'Y' must name populations by text, not 1"),
        (
            {"Y": {"a": Y}, "groups": (GROUPS, ["a"] * M)},
            r"'groups' must have labels of the cells of Y in the form",
        ),
        (
            {"groups": (GROUPS, {"Y": ["a"] * M})},
            r"'groups' must have labels of the cells of Y in the form of Y",
        ),
    ],
)
def test_input_of_another_type_is_refused(changes, message):
    given = {"X": X, "Y": Y, **OPTIONS, **changes}
    with pytest.raises(TypeError, match=rf"^Argument {message}"):
        fc.study(given.pop("X"), given.pop("Y"), **given)


@pytest.mark.parametrize(
    "broken",
    [Y[:3], np.ones((M, D)), np.where(np.arange(D) == 3, np.nan, Y), np.where(np.arange(D) < 1, Y, 1.0)],
    ids=["few", "alike", "missing", "late"],
)
def test_errors_name_the_population(broken):
    with pytest.raises(ValueError, match=r"^Argument 'Y\['b'\]' must "):
        fc.study(X, {"a": Y, "b": broken}, **{**OPTIONS, "folds": "leave-one-out"})


def test_folds_that_can_be_read_once_serve_all_populations(several):
    folds = several["mitral"].cv.folds
    options = {**OPTIONS, "shuffles": 0, "nested": False, "folds": (pair for pair in folds)}
    found = fc.study(X, {"a": Y, "b": OTHER}, **options)
    same(found["b"].cv.folds, folds)


def test_numbers_of_numpy_are_numbers():
    options = {**OPTIONS, "shuffles": 0, "nested": False}
    found = fc.study(X, Y, level=np.float32(0.875), fdr=np.float32(0.25), **options)
    same(found.channels, fc.study(X, Y, level=0.875, fdr=0.25, **options).channels)
    with pytest.raises(TypeError, match=r"^Argument 'fdr' must be a finite number"):
        fc.study(X, Y, fdr="small", **options)


def test_groups_of_other_populations_are_refused():
    with pytest.raises(ValueError, match=r"^Argument 'groups' must have labels of the cells of a, not of b"):
        fc.study(X, {"a": Y}, groups=(GROUPS, {"b": ["a"] * M}), **OPTIONS)
    with pytest.raises(KeyError, match="must be one of"):
        fc.study(X, Y, **{**OPTIONS, "shuffles": 0, "nested": False})["a"]


def test_a_study_outlives_intervals_that_cannot_be_computed(monkeypatch, tmp_path):
    def fails(*_, **__):
        raise MemoryError("8 GB are needed: choose channels.")

    monkeypatch.setattr(fc.Fit, "uncertainty", fails)
    with pytest.warns(UserWarning, match="no intervals of gains: 8 GB are needed"):
        found = fc.study(X, Y, **OPTIONS)
    assert found.channels is None
    assert found.p == 1 / (K + 1)
    assert "8 GB are needed" in found.verdict
    assert json.loads(found.to_json())["populations"]["Y"]["table"] is None
    found.save(tmp_path / "study.npz")
    assert repr(fc.load(tmp_path / "study.npz")) == repr(found)
    with pytest.raises(ValueError, match="no table of channels: 8 GB"):
        found.to_frame()
    with pytest.raises(ValueError, match="no table of channels: 8 GB"):
        found.to_csv(tmp_path / "study.csv")
    assert not (tmp_path / "study.csv").exists()
    pytest.importorskip("matplotlib")
    fc.plot.study(found).draw_without_rendering()
