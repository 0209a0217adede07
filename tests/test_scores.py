"""Scores of held-out conditions, baselines, choices and what is printed of them: against the oracle."""

import copy
import dataclasses
import pickle

import naive
import numpy as np
import pytest
from cases import data, run_python, target

import fastcov as fc
from fastcov._results import score as moments_module
from fastcov._results import score_kernels
from fastcov._results.chosen_ridge import ChosenRidge, chosen, jackknife
from fastcov._results.score import BASELINES, SCORES, Moments, sums_of
from fastcov._studies.baselines import Block, baselines
from fastcov._studies.scored_target import check_score

ridge_fit = {
    "linear": lambda X, S, ridge, center: 1 + naive.linear_fit(X, S, ridge, center),
    "diagonal": lambda X, S, ridge, center: 1 + naive.diagonal_fit(X, S, ridge, center),
}


def covariance(D, seed, shift=0.0):
    return target(D, seed, 2 * D) / D + shift


def made_up(D=11, seed=0, weights=None, n_folds=3):
    """Folds of random predictions: what the library and the oracle make of them."""
    rng = np.random.default_rng(seed)
    S, sums, pairs = covariance(D, seed, 0.3), [], []
    for test in np.array_split(rng.permutation(D), n_folds):
        test, train = np.sort(test), np.setdiff1d(np.arange(D), test)
        P = covariance(D, int(rng.integers(10**6))) + 0.5 * S
        W = np.ones_like(S) if weights is None else weights
        block = np.ix_(train, train)
        g = Block.of(np.nan_to_num(S[block]), W[block]).covariance
        columns = np.ascontiguousarray(P[:, test])
        sums.append(sums_of(columns, np.diagonal(P).copy(), S, W, (train, test), g)[0])
        pairs.append(naive.unseen_pairs(P, S, train, test, weights))
    return np.array(sums), pairs


def symmetric_weights(D, seed=5):
    W = np.random.default_rng(seed).uniform(0.2, 2.0, (D, D))
    W[np.random.default_rng(seed + 1).random((D, D)) < 0.2] = 0.0
    W = (W + W.T) / 2
    W[2, 3] = W[3, 2] = W[4, 4] = 0.0
    return W


# --- what a score is


# Sums of some hundred products of numbers near one: 1e-12 is a thousand times their rounding.
NEAR = {"rtol": 0, "atol": 1e-12}


@pytest.mark.parametrize("weighted", [False, True], ids=["all-pairs", "weights"])
@pytest.mark.parametrize("score", SCORES)
def test_a_score_is_its_definition_fold_by_fold_and_pooled(score, weighted):
    D = 11
    sums, pairs = made_up(D, weights=symmetric_weights(D) if weighted else None)
    moments = Moments(sums)
    np.testing.assert_allclose(moments.by_fold(score), [naive.scores([p])[score] for p in pairs], **NEAR)
    np.testing.assert_allclose(moments.pooled(score), naive.scores(pairs)[score], **NEAR)
    without = [naive.scores(pairs[:f] + pairs[f + 1 :])[score] for f in range(3)]
    np.testing.assert_allclose(moments.without(score), without, rtol=0, atol=1e-11)


def test_the_folds_of_a_repeat_are_scored_together():
    sums, pairs = made_up(12, n_folds=4)
    moments = Moments(sums, repeats=2)
    for score in SCORES:
        expected = [naive.scores(pairs[:2])[score], naive.scores(pairs[2:])[score]]
        np.testing.assert_allclose(moments.by_repeat(score), expected, **NEAR)
        np.testing.assert_array_equal(moments.at(slice(0, 2)).by_fold(score), moments.by_fold(score)[:2])


def test_errors_are_those_of_each_held_out_condition_over_all_unseen_pairs():
    D, train, test = 9, np.array([0, 2, 3, 5, 6, 8]), np.array([1, 4, 7])
    P, S, W = covariance(D, 1), covariance(D, 2), symmetric_weights(D)
    _, errors = sums_of(np.ascontiguousarray(P[:, test]), np.diagonal(P).copy(), S, W, (train, test), 0.0)
    np.testing.assert_allclose(errors, (W * (P - S) ** 2)[:, test].sum(axis=0), rtol=1e-13)


def test_pairs_of_weight_zero_change_nothing_even_where_they_are_not_known():
    D, train, test = 9, np.array([0, 2, 3, 5, 6, 8]), np.array([1, 4, 7])
    P, S, W = covariance(D, 1), covariance(D, 2), np.ones((D, D))
    for i, j in ((1, 4), (0, 7), (2, 3)):
        W[i, j] = W[j, i] = 0.0
    unknown = np.where(W > 0, S, np.nan)
    args = np.ascontiguousarray(P[:, test]), np.diagonal(P).copy()
    known, found = (sums_of(*args, M, W, (train, test), 0.1) for M in (S, unknown))
    for one, other in zip(known, found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isfinite(known[0]).all()


KERNEL = """
import numpy as np
from fastcov._results import score_kernels as k
rng = np.random.default_rng(3)
A, B = rng.standard_normal((2, 20, 7))
P, S, W = A.T @ A, B.T @ B, rng.random((7, 7))
train, test = np.array([0, 2, 3, 6]), np.array([1, 4, 5])
sums, errors = np.empty(k.ON + 2 * k.OFF), np.empty(3)
k.score_sums(np.ascontiguousarray(P[:, test]), np.diagonal(P).copy(), S, W, test, train, 0.2, sums, errors,
             size=0)
print(" ".join(float(v).hex() for v in [*sums, *errors]))
"""


def test_compiled_sums_are_those_of_the_interpreter():
    compiled, plain = (run_python(KERNEL, NUMBA_DISABLE_JIT=off).split() for off in ("0", "1"))
    values = [[float.fromhex(v) for v in run] for run in (compiled, plain)]
    assert len(values[0]) == score_kernels.ON + 2 * score_kernels.OFF + 3
    np.testing.assert_allclose(values[0], values[1], rtol=1e-13)


def test_a_prediction_that_does_not_vary_correlates_with_nothing():
    D, train, test = 8, np.arange(4), np.arange(4, 8)
    S, flat = covariance(D, 0), np.full((D, D), 0.7) + np.eye(D)
    sums, _ = sums_of(flat[:, test].copy(), np.diagonal(flat).copy(), S, np.ones((D, D)), (train, test), 0.1)
    for score in ("pearson", "rsa", "cross-pearson", "cross-rsa"):
        assert Moments(sums[np.newaxis]).pooled(score) == 0.0


@pytest.mark.parametrize("value", [0.7, 1 / 3, 1e-9])
def test_a_target_that_does_not_vary_has_no_correlation(value):
    # Of equal entries the mean has a rounding, which is no pattern.
    D, train, test = 8, np.arange(3), np.arange(3, 8)
    S, P = np.full((D, D), value) + np.eye(D), covariance(D, 0)
    sums, _ = sums_of(P[:, test].copy(), np.diagonal(P).copy(), S, np.ones((D, D)), (train, test), value)
    for score in ("pearson", "rsa", "cross-pearson", "cross-rsa"):
        assert np.isnan(Moments(sums[np.newaxis]).pooled(score))


def test_two_held_out_conditions_have_no_correlation_whatever_their_weight():
    D, train, test = 6, np.arange(4), np.arange(4, 6)
    P, S = covariance(D, 0), covariance(D, 3)
    for weight in (1.0, 0.1, 1 / 3, 0.7):
        W = np.full((D, D), weight)
        sums, _ = sums_of(P[:, test].copy(), np.diagonal(P).copy(), S, W, (train, test), 0.1)
        for score in ("pearson", "rsa"):
            assert np.isnan(Moments(sums[np.newaxis]).pooled(score)), weight
        assert np.isfinite(Moments(sums[np.newaxis]).pooled("cross-pearson"))


def test_one_held_out_condition_has_cross_scores_and_no_others_off_the_diagonal():
    sums, pairs = made_up(7, n_folds=7)
    expected = naive.scores(pairs)
    for score in SCORES:
        found = Moments(sums).pooled(score)
        assert np.isnan(found) == (score in moments_module.PAIRED), score
        np.testing.assert_allclose(found, expected[score], **NEAR)


def test_a_score_of_pairs_among_held_out_conditions_needs_three_of_them():
    folds = [(np.arange(6), np.arange(6, 8)), (np.arange(4), np.arange(4, 8))]
    for score in ("pearson", "rsa", "r2-off-diagonal"):
        match = rf"^Argument 'score' must .* hold out 2, .*use 'cross-{score}', or fewer folds"
        with pytest.raises(ValueError, match=match):
            check_score(score, folds)
        check_score(score, folds[1:])
        check_score(f"cross-{score}", folds)
    for score in ("r2", "cosine", "r2-diagonal"):
        check_score(score, folds)


# --- baselines


@pytest.mark.parametrize("weighted", [False, True], ids=["all-pairs", "weights"])
@pytest.mark.parametrize("factor", [1.0, 2.0**30, 1e-12])
def test_baselines_are_their_definition(weighted, factor):
    D, train, test = 10, np.array([0, 1, 3, 4, 6, 7, 9]), np.array([2, 5, 8])
    C, S = factor * covariance(D, 1), covariance(D, 2, 0.4)
    W = symmetric_weights(D) if weighted else np.ones((D, D))
    block = np.ix_(train, train)
    found = baselines(C, S, W, (train, test), Block.of(S[block], W[block]))
    expected = naive.baselines(C / factor, S, train, W)
    expected["one"] = C
    assert found.keys() == BASELINES.keys() == expected.keys()
    for name, (columns, diagonal) in found.items():
        size = np.abs(expected[name]).max()
        np.testing.assert_allclose(columns, expected[name][:, test], rtol=0, atol=1e-12 * size)
        np.testing.assert_allclose(diagonal, np.diag(expected[name]), rtol=0, atol=1e-12 * size)


def test_baselines_know_nothing_of_what_is_held_out():
    D, train, test = 10, np.arange(7), np.arange(7, 10)
    C, S = covariance(D, 1), covariance(D, 2)
    other = S.copy()
    other[7:] = other[:, 7:] = 1e6
    block, W = np.ix_(train, train), np.ones((D, D))
    one, two = (baselines(C, M, W, (train, test), Block.of(M[block], W[block])) for M in (S, other))
    for name in BASELINES:
        np.testing.assert_array_equal(one[name][0], two[name][0])
        np.testing.assert_array_equal(one[name][1], two[name][1])


# --- standard errors and choices


def moments_of(r2):
    """Moments (K, F, …) in which each fold has this R² (F, K), as has each pooled mean."""
    r2 = np.asarray(r2, float)
    sums = np.zeros((*r2.T.shape, moments_module.N_SUMS))
    sums[..., score_kernels.ON + score_kernels.SIZE] = 1.0
    sums[..., score_kernels.ON + score_kernels.LEFT] = 1.0 - r2.T
    return Moments(sums)


def test_the_jackknife_error_of_a_mean_is_the_classical_one():
    values = np.random.default_rng(0).random((7, 2))
    moments = moments_of(values)
    np.testing.assert_allclose(moments.pooled("r2"), values.mean(axis=0), rtol=1e-13)
    classical = values.std(axis=0, ddof=1) / np.sqrt(7)
    np.testing.assert_allclose(jackknife(moments.without("r2"), 1.0), classical, rtol=1e-12)
    np.testing.assert_allclose(jackknife(moments.without("r2"), 3.0), classical * np.sqrt(3), rtol=1e-12)


@pytest.mark.parametrize("score", ["cross-pearson", "pearson", "r2", "rsa"])
def test_the_jackknife_error_of_a_pooled_score_is_that_of_the_oracle(score):
    sums, pairs = made_up(15, n_folds=5)
    expected = naive.jackknife_error(pairs, lambda some: naive.scores(some)[score], 2.0)
    np.testing.assert_allclose(jackknife(Moments(sums).without(score), 2.0), expected, rtol=1e-9)


def test_one_fold_has_no_error_and_its_best_ridge_is_the_choice():
    moments, ridges = moments_of([[0.1, 0.5, 0.4]]), np.array([1.0, 10.0, 100.0])
    assert np.isnan(jackknife(moments.without("r2"), 1.0)).all()
    for choice in ("best", "one-se"):
        assert chosen(moments, "r2", ridges, choice, 1.0) == 1


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_the_choice_goes_by_the_paired_difference_and_not_by_what_folds_share(order):
    # Folds differ by much more than ridges do; the difference of ridge 100 has an error of 0.01.
    shared = np.array([0.1, 0.9, 0.3, 0.7])
    wobble = 0.02 * np.sqrt(3 / 4) * np.array([1, -1, 1, -1])
    for gap, expected in ((0.0099, 100.0), (0.0101, 10.0)):
        table = np.stack([shared - 0.5, shared, shared - gap + wobble], axis=1)
        ridges = np.array([1.0, 10.0, 100.0])[order]
        moments = moments_of(table[:, order])
        assert ridges[chosen(moments, "r2", ridges, "best", 1.0)] == 10.0
        assert ridges[chosen(moments, "r2", ridges, "one-se", 1.0)] == expected
    # and a smaller ridge within the error is no choice
    ridges = np.array([1.0, 10.0, 100.0])
    moments = moments_of(np.stack([shared - 0.001 + wobble, shared, shared - 0.5], axis=1))
    assert chosen(moments, "r2", ridges, "one-se", 1.0) == 1


def test_ridges_without_a_finite_score_are_passed_over():
    ridges = np.array([1.0, 10.0, 100.0])
    for bad in (np.nan, np.inf):  # infinitely much left is an R² of −∞
        moments = moments_of([[0.9, 0.5, 0.2], [0.9, 0.3, 0.3]])
        moments.sums[0, 0] = bad
        for choice in ("best", "one-se"):
            assert ridges[chosen(moments, "r2", ridges, choice, 1.0)] in (10.0, 100.0)
        assert chosen(moments, "r2", ridges, "best", 1.0) == 1
        moments.sums[:] = bad
        assert chosen(moments, "r2", ridges, "best", 1.0) == -1


def test_a_chosen_ridge_survives_copies_and_arithmetic_makes_it_a_number():
    ridge = ChosenRidge(0.25, "line-search", relative=True)
    for found in (copy.copy(ridge), copy.deepcopy(ridge), pickle.loads(pickle.dumps(ridge))):
        assert (float(found), found.method, found.relative) == (0.25, "line-search", True)
        assert type(found) is ChosenRidge
    for value in (ridge * 2, ridge + 0.0, -ridge, float(ridge), ridge / 1, abs(ridge)):
        assert type(value) is float
    assert repr(ridge) == "0.25"


# --- the whole study against the oracle


@pytest.fixture(scope="module")
def studied():
    X, Y = data(24, 12), data(20, 12, seed=9)
    ridges = [1e-2, 1e-1, 1.0]
    cv = fc.cross_validate(
        X, Y, relative_ridges=ridges, folds=4, repeats=2, method="linear", refit=None, tol=1e-10
    )
    return cv, naive.held_out_study(X, Y, ridges, cv.folds, ridge_fit["linear"], relative=True)


# λ is found to some digits, see tests/test_sklearn.py; gains of ours are scored where that would matter.
SOLVED = 1e-5


def test_gains_of_each_fold_are_those_of_the_oracle(studied):
    cv, (_, _, gains) = studied
    found = cv.scores["linear"].gains
    assert found.shape == (8, 3, 24)
    np.testing.assert_allclose(found, gains, rtol=0, atol=1e-3)


@pytest.mark.parametrize("score", SCORES)
def test_every_score_of_a_study_is_that_of_the_oracle(studied, score):
    cv, (table, beside, _) = studied
    scores = cv.scores["linear"]
    expected = [[naive.scores([table[k][f]])[score] for k in range(3)] for f in range(8)]
    np.testing.assert_allclose(scores.by_fold(score), expected, rtol=0, atol=SOLVED * 10)
    pooled = [naive.scores(row)[score] for row in table]
    np.testing.assert_allclose(scores.pooled(score), pooled, rtol=0, atol=SOLVED)
    by_repeat = [
        [naive.scores(row[:4])[score] for row in table],
        [naive.scores(row[4:])[score] for row in table],
    ]
    np.testing.assert_allclose(scores.by_repeat(score), by_repeat, rtol=0, atol=SOLVED * 10)
    values, errors = cv.summary("linear", score)
    np.testing.assert_array_equal(values, scores.pooled(score))
    wanted = [naive.jackknife_error(row, lambda some: naive.scores(some)[score], 2.0) for row in table]
    np.testing.assert_allclose(errors, wanted, rtol=0, atol=SOLVED * 10)
    for name, row in beside.items():  # no fit, and so only rounding
        value, error = cv.baseline(name, score)
        np.testing.assert_allclose(value, naive.scores(row)[score], rtol=0, atol=1e-9)
        wanted = naive.jackknife_error(row, lambda some: naive.scores(some)[score], 2.0)
        np.testing.assert_allclose(error, wanted, rtol=0, atol=1e-9)
        np.testing.assert_allclose(
            cv.baselines[name].by_fold(score), [naive.scores([f])[score] for f in row], rtol=0, atol=1e-9
        )


@pytest.mark.parametrize("score", ["cross-pearson", "r2", "cross-r2-off-diagonal", "rsa"])
def test_choices_of_a_study_are_those_of_the_oracle(studied, score):
    cv, (table, _, _) = studied
    cv = dataclasses.replace(cv, score=score)
    best, one_se = naive.ridge_choices(table, score, list(cv.ridges), times=2.0)
    assert cv.best_ridge == best
    assert cv.one_se_ridge == one_se
    assert cv.best_ridge.relative
    assert cv.best_ridge.method == "linear"


def test_agreement_is_the_mean_correlation_of_the_gains_of_two_folds_of_a_repeat(studied):
    cv, _ = studied
    gains, above = cv.scores["linear"].gains, np.triu_indices(4, 1)
    expected = [
        np.mean([np.corrcoef(gains[first : first + 4, k])[above].mean() for first in (0, 4)])
        for k in range(3)
    ]
    np.testing.assert_allclose(cv.agreement("linear"), expected, rtol=1e-12)


def test_shares_of_conditions_are_of_the_squared_errors_and_sum_to_one(studied):
    cv, (_, _, gains) = studied
    shares = cv.condition_shares("linear")
    assert shares.shape == (12,)
    assert shares.sum() == pytest.approx(1.0, rel=1e-12)
    X, Y, k = data(24, 12), data(20, 12, seed=9), cv.place("linear")
    left = np.zeros(12)
    for f, (train, test) in enumerate(cv.folds):
        block = np.ix_(train, train)
        C = naive.covariance(Y)
        S = C * np.trace(naive.covariance(X)[block]) / np.trace(C[block])
        left[test] += ((naive.covariance(X, gains[f, k]) - S) ** 2)[:, test].sum(axis=0)
    np.testing.assert_allclose(shares, left / left.sum(), rtol=0, atol=SOLVED)


def test_a_table_for_pandas_has_all_scores_of_folds_and_baselines(studied):
    pytest.importorskip("pandas")
    cv, _ = studied
    frame = cv.to_frame()
    assert list(frame.columns) == [
        "method",
        "repeat",
        "fold",
        "relative_ridge",
        *SCORES,
        "residual",
        "status",
    ]
    assert len(frame) == 8 * 3 + 3 * 8
    own = frame[frame["method"] == "linear"]
    for score in SCORES:
        np.testing.assert_array_equal(own[score].to_numpy().reshape(8, 3), cv.scores["linear"].by_fold(score))
        for name in BASELINES:
            part = frame[frame["method"] == f"baseline: {name}"]
            np.testing.assert_array_equal(part[score], cv.baselines[name].by_fold(score))
            assert part["relative_ridge"].isna().all()
    np.testing.assert_array_equal(own["relative_ridge"].to_numpy().reshape(8, 3), [cv.ridges] * 8)
    np.testing.assert_array_equal(own["repeat"].to_numpy().reshape(8, 3)[:, 0], [0] * 4 + [1] * 4)


def test_nested_folds_choose_as_the_oracle_does_and_the_choice_flatters():
    X, Y = data(24, 12), data(20, 12, seed=9)
    labels, ridges = np.repeat(np.arange(4), 3), [1e-2, 1e-1, 1.0]
    cv = fc.cross_validate(
        X, Y, relative_ridges=ridges, folds=labels, method="linear", nested=True, refit=None, tol=1e-10
    )
    inner = [
        [
            (np.setdiff1d(train, held), held)
            for held in (np.flatnonzero(labels == g) for g in set(labels[train]))
        ]
        for train, _ in cv.folds
    ]
    places, value = naive.nested_choice(
        X, Y, ridges, cv.folds, inner, ridge_fit["linear"], "cross-pearson", relative=True
    )
    nested = cv.scores["linear"].nested
    np.testing.assert_array_equal(nested.places, places)
    np.testing.assert_allclose(nested.moments.pooled("cross-pearson"), value, rtol=0, atol=SOLVED)
    best = cv.summary("linear")[0].max()
    np.testing.assert_allclose(cv.optimism, best - value, rtol=0, atol=SOLVED)
    assert "Nested folds" in repr(cv)
    plain = fc.cross_validate(
        X, Y, relative_ridges=ridges, folds=labels, method="linear", refit=None, tol=1e-10
    )
    np.testing.assert_array_equal(plain.r2, cv.r2)  # inner folds leave the outer ones as they are
    assert plain.optimism is None


def test_nested_folds_that_cannot_be_scored_are_refused():
    X, Y = data(10, 9), data(8, 9, seed=9)
    with pytest.raises(ValueError, match=r"^Argument 'score' must .*inner folds .*'cross-pearson'"):
        fc.cross_validate(X, Y, folds=3, score="pearson", nested=True, method="diagonal")


@pytest.mark.parametrize(
    "folds",
    [np.array(3), "leave-one-out", [(np.arange(6), np.arange(6, 12))], tuple("aaabbbcccddd"),
     iter(["a"] * 4 + ["b"] * 4 + ["c"] * 4)],
    ids=["number-array", "leave-one-out", "pairs", "labels", "iterator"],
)  # fmt: skip
def test_folds_of_every_kind_can_be_nested(folds):
    X, Y = data(10, 12), data(8, 12, seed=9)
    cv = fc.cross_validate(
        X, Y, folds=folds, relative_ridges=[0.1, 1.0], nested=True, method="diagonal", refit=None
    )
    assert len(cv.scores["diagonal"].nested.places) == len(cv.folds)
    assert np.isfinite(cv.optimism)


def test_inner_folds_go_by_the_labels_however_these_are_given():
    X, Y = data(10, 12), data(8, 12, seed=9)
    labels = ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    found = [
        fc.cross_validate(
            X, Y, folds=folds, relative_ridges=[1e-2, 0.1, 1.0], nested=True, method="linear", refit=None
        )
        for folds in (labels, iter(labels), np.array(labels))
    ]
    for cv in found[1:]:
        np.testing.assert_array_equal(
            cv.scores["linear"].nested.places, found[0].scores["linear"].nested.places
        )
        assert cv.optimism == found[0].optimism


# --- a target matrix in place of responses


@pytest.mark.parametrize("method", ["linear", "exact"])
def test_a_target_on_the_scale_of_a_fold_is_scored_as_the_responses_are(method):
    X, Y = data(20, 12), data(16, 12, seed=9)
    train, test = np.arange(8), np.arange(8, 12)
    block = np.ix_(train, train)
    C = naive.covariance(Y)
    S = C * np.trace(naive.covariance(X)[block]) / np.trace(C[block])
    options = {"folds": [(train, test)], "relative_ridges": [0.1, 1.0], "method": method, "tol": 1e-9}
    cv, expected = fc.cross_validate(X, S=S, **options), fc.cross_validate(X, Y, **options)
    for score in SCORES:
        np.testing.assert_allclose(
            cv.scores[method].by_fold(score), expected.scores[method].by_fold(score), rtol=0, atol=1e-6
        )
    # and twice the target is another target
    other = fc.cross_validate(X, S=2 * S, **options)
    assert not np.allclose(other.r2, cv.r2, rtol=0, atol=1e-3)
    np.testing.assert_allclose(
        fc.fit(X, S, relative_ridge=float(cv.best_ridge), method=method, tol=1e-9).gains, cv.fit.gains,
        rtol=0, atol=1e-6,
    )  # fmt: skip


def test_a_target_matrix_is_scored_as_the_oracle_scores_it(center):
    X, S, ridges = data(20, 10), target(10, 4), [1e-2, 1.0]
    cv = fc.cross_validate(
        X, S=S, folds=3, relative_ridges=ridges, method="linear", center=center, tol=1e-10, refit=None
    )
    table, beside, _ = naive.held_out_study(
        X, None, ridges, cv.folds, ridge_fit["linear"], S=S, relative=True, center=center
    )
    for score in SCORES:
        expected = [naive.scores(row)[score] for row in table]
        np.testing.assert_allclose(cv.summary("linear", score)[0], expected, rtol=0, atol=SOLVED)
        for name in BASELINES:
            value = naive.scores(beside[name])[score]
            np.testing.assert_allclose(cv.baseline(name, score)[0], value, rtol=0, atol=1e-9)


def test_a_target_with_names_is_aligned():
    pandas = pytest.importorskip("pandas")
    X, S = data(12, 9), target(9, 4)
    names, order = list("abcdefghi"), np.random.default_rng(0).permutation(9)
    options = {"relative_ridges": [0.1, 1.0], "folds": 3, "method": "linear"}
    expected = fc.cross_validate(X, S=S, **options)
    framed = pandas.DataFrame(S, names, names).iloc[order, order]
    with pytest.warns(fc.LabelWarning):
        cv = fc.cross_validate(pandas.DataFrame(X, columns=names), S=framed, **options)
    np.testing.assert_allclose(cv.r2, expected.r2, rtol=1e-10)
    np.testing.assert_allclose(cv.fit.gains, expected.fit.gains, rtol=1e-10)


def test_both_or_neither_of_responses_and_target_are_refused():
    X, S = data(12, 9), target(9, 4)
    for given, what in (({}, "neither"), ({"Y": data(8, 9), "S": S}, "both")):
        with pytest.raises(ValueError, match=rf"^Argument 'Y' or 'S' must .* not {what}"):
            fc.cross_validate(X, **given)


def test_a_covariance_given_as_responses_is_refused_with_what_to_write(dtype):
    X, S = data(12, 9), target(9, 4).astype(dtype)
    with pytest.raises(ValueError, match=r"^Argument 'Y' must be responses.* S=…"):
        fc.cross_validate(X, S)
    S[0, 1] *= 1.01  # square responses are responses
    fc.cross_validate(X, S, folds=3, relative_ridges=[1.0], method="diagonal")


# --- units


@pytest.mark.parametrize("x", [1.0, 2.0**-100, 1e30, 1e-30])
@pytest.mark.parametrize("y", [1.0, 2.0**90, 1e30, 1e-30])
def test_units_change_no_score_and_no_baseline(x, y):
    X, Y = data(16, 10), data(12, 10, seed=9)
    options = {"relative_ridges": [0.1, 1.0], "folds": 3, "method": "linear", "refit": None, "tol": 1e-10}
    one, other = fc.cross_validate(X, Y, **options), fc.cross_validate(x * X, y * Y, **options)
    for score in SCORES:
        np.testing.assert_allclose(
            other.summary("linear", score)[0], one.summary("linear", score)[0], rtol=0, atol=1e-7
        )
        for name in BASELINES:
            np.testing.assert_allclose(
                other.baseline(name, score)[0], one.baseline(name, score)[0], rtol=0, atol=1e-9
            )
    assert other.best_ridge == one.best_ridge
    np.testing.assert_allclose(other.condition_shares("linear"), one.condition_shares("linear"), atol=1e-7)


# --- what is printed


@pytest.mark.parametrize("method", ["linear", ["exact", "linear", "line-search", "diagonal"]])
def test_tables_have_all_baselines_and_fit_a_page(method):
    X, Y = data(20, 12), data(16, 12, seed=9)
    cv = fc.cross_validate(X, Y, relative_ridges=[1e-2, 1.0], folds=3, method=method, repeats=2, shuffles=2)
    text = repr(cv)
    assert max(map(len, text.splitlines())) <= 110
    for label in BASELINES.values():
        assert sum(line.strip().startswith(label) for line in text.splitlines()) == 3, label
    html = cv._repr_html_()
    for name in BASELINES:
        value, error = cv.baseline(name)
        assert f"{value:.3f} +- {error:.3f}" in text
        assert f"{value:.3f} +- {error:.3f}" in html
    for name in cv.methods:
        for value, error in zip(*cv.summary(name), strict=True):
            assert f"{value:.3f} +- {error:.3f}" in text
        assert f"{cv.choices('one-se')[name]:.4g}" in text
    assert "nan" not in text


def test_no_finite_score_is_said_and_chosen_from_by_nothing():
    X, Y = data(20, 12), data(16, 12, seed=9)
    cv = fc.cross_validate(X, Y, relative_ridges=[1e-2, 1.0], folds=3, method="linear", refit=None)
    cv.scores["linear"].moments.sums[:] = np.nan
    assert np.isnan(cv.best_ridge)
    assert np.isnan(cv.condition_shares("linear")).all()
    assert "is defined for no ridge" in repr(cv)
