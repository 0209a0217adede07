"""p-values of shuffled conditions: by hand, against the oracle, and on data of which the answer is known."""

import math

import naive
import numpy as np
import pytest
from cases import data, target
from hypothesis import given
from hypothesis import strategies as st

import fastcov as fc
from fastcov._results import evidence
from fastcov._results.score import BASELINES, SCORES
from fastcov._studies.permutations import make_orders

LABELS = np.repeat(np.arange(3), 4)
# With labels for folds the generator draws nothing but shuffles.
OPTIONS = {"relative_ridges": [1e-2, 1e-1, 1.0], "folds": LABELS, "method": "linear", "tol": 1e-10}


def pair():
    return data(20, 12), data(16, 12, seed=9)


def linear(X, S, ridge, center):
    return 1 + naive.linear_fit(X, S, ridge, center)


def orders_of(n, D=12, seed=0, **options):
    return make_orders(n, D, np.random.default_rng(seed), **options)[0]


# --- p of what was found


def test_a_tie_and_what_is_not_defined_count_against():
    assert evidence.exceeded(0.5, np.array([0.1, 0.5, 0.6, np.nan])) == (1 + 3) / 5
    assert evidence.exceeded(0.5, np.array([0.1, 0.4999, -np.inf])) == 1 / 4
    assert evidence.exceeded(0.5, np.full(19, 0.5)) == 1.0
    assert math.isnan(evidence.exceeded(np.nan, np.array([0.1, 0.2])))


def test_the_largest_score_is_of_those_that_are_finite():
    table = np.array([[0.1, np.nan, 0.3], [np.inf, -2.0, -np.inf], [np.nan, np.nan, -np.inf]])
    np.testing.assert_array_equal(evidence.largest(table), [0.3, -2.0, np.nan])


@pytest.fixture(scope="module")
def shuffled():
    X, Y = pair()
    cv = fc.cross_validate(X, Y, shuffles=4, refit=None, **OPTIONS)
    ridges = OPTIONS["relative_ridges"]
    tables = [
        naive.held_out_study(X, Y, ridges, cv.folds, linear, relative=True, order=order)
        for order in [None, *orders_of(4)]
    ]
    return cv, tables


@pytest.mark.parametrize("score", SCORES)
def test_scores_of_shuffles_are_those_of_the_oracle(shuffled, score):
    cv, tables = shuffled
    expected = [[naive.scores(row)[score] for row in table] for table, _, _ in tables]
    # λ is relative to an eigenvalue that is found to some digits.
    found = cv.scores["linear"].shuffled.pooled(score)
    np.testing.assert_allclose(found, expected[1:], rtol=0, atol=1e-5)
    assert cv.p_value("linear", score) == naive.permutation_p(expected[0], expected[1:])
    for name in BASELINES:
        beside = [naive.scores(table[name])[score] for _, table, _ in tables]
        np.testing.assert_allclose(cv.baselines_shuffled[name].pooled(score), beside[1:], rtol=0, atol=1e-9)
        over = [[value - one for value in row] for row, one in zip(expected, beside, strict=True)]
        assert cv.p_value("linear", score, over=name) == naive.permutation_p(over[0], over[1:])


def test_p_is_of_the_score_that_was_asked_for_and_shuffles_leave_the_rest(shuffled):
    cv, _ = shuffled
    assert cv.p == cv.p_value("linear", "cross-pearson")
    plain = fc.cross_validate(*pair(), refit=None, **OPTIONS)
    np.testing.assert_array_equal(plain.scores["linear"].moments.sums, cv.scores["linear"].moments.sums)
    assert plain.p is None
    assert plain.baselines_shuffled == {}
    with pytest.raises(ValueError, match=r"^Argument 'score' must "):
        cv.p_value("linear", "r3")


def test_a_shuffle_is_the_study_of_responses_in_that_order(shuffled):
    cv, _ = shuffled
    X, Y = pair()
    for order, sums in zip(orders_of(4), cv.scores["linear"].shuffled.sums, strict=True):
        other = fc.cross_validate(X, Y[:, order], refit=None, **OPTIONS)
        np.testing.assert_allclose(sums, other.scores["linear"].moments.sums, rtol=0, atol=1e-7)


# --- verdicts on data of which the answer is known


@pytest.mark.slow
def test_pure_noise_is_never_said_to_be_predicted_and_seldom_to_be_worth_a_test():
    words = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X, Y = rng.standard_normal((300, 40)), rng.standard_normal((200, 40))
        cv = fc.cross_validate(X, Y, method="linear", refit=None)
        assert cv.verdict.better in (False, None)
        assert cv.verdict.words in " ".join(repr(cv).split())
        words.append(cv.verdict.words.split(": ")[1].split(" (")[0])
    assert set(words) <= {"no", "not shown without shuffles"}
    assert "no" in words  # where the best of nine ridges is no better than without X


@pytest.mark.slow
def test_noise_beside_shuffles_is_said_to_be_predicted_no_more_often_than_the_level():
    p, found = [], []
    for seed in range(24):
        rng = np.random.default_rng(1000 + seed)
        X, Y = rng.standard_normal((30, 14)), rng.standard_normal((25, 14))
        cv = fc.cross_validate(
            X, Y, method="linear", relative_ridges=[1e-2, 0.1, 1.0], folds=3, shuffles=19, refit=None
        )
        p.append(cv.verdict.p)
        found.append(cv.verdict.better)
        assert cv.verdict.better == (cv.verdict.p <= 0.05)
        assert (": yes, p = " if cv.verdict.better else ": no, p = ") in cv.verdict.words
    # Multiples of 1/20, all as likely: more than 5 of 24 at the first have a chance of 0.1 %, and a mean
    # beyond 0.2 of 0.525, three of its standard errors, one of 0.2 %.
    assert sum(found) <= 5
    assert abs(np.mean(p) - 0.525) < 0.2


def test_conditions_in_random_order_are_not_said_to_be_predicted():
    sim = fc.datasets.simulate(60, 20, rng=0)
    Y = sim.Y[:, np.random.default_rng(1).permutation(20)]
    cv = fc.cross_validate(sim.X, Y, relative_ridges=[1e-2, 0.1, 1.0], shuffles=19, refit=None)
    assert cv.verdict.better is False


def test_gains_that_are_there_are_found_with_the_least_p():
    sim = fc.datasets.simulate(60, 20, rng=0)
    cv = fc.cross_validate(sim.X, sim.Y, relative_ridges=[1e-2, 0.1, 1.0], shuffles=19, refit=None)
    assert cv.p == 0.05
    assert cv.verdict.better is True
    assert cv.verdict.p == 0.05
    assert ": yes, p = 0.05 (" in " ".join(repr(cv).split())
    few = fc.cross_validate(sim.X, sim.Y, relative_ridges=[1e-2, 0.1], shuffles=9, refit=None)
    assert few.verdict.better is None  # nine shuffles cannot say so
    assert "not shown, p = 0.1, the least that 9 shuffles can give (" in few.verdict.words
    none = fc.cross_validate(sim.X, sim.Y, relative_ridges=[1e-2, 0.1, 1.0], refit=None)
    assert none.verdict.better is None
    assert "shuffles=99 tests it" in " ".join(repr(none).split())


def test_gains_that_add_nothing_to_gains_of_one_are_not_said_to_help():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 6)) @ rng.standard_normal((6, 20)) + rng.standard_normal((60, 20))
    Y = np.linalg.qr(rng.standard_normal((60, 60)))[0] @ (X - X.mean(axis=0))  # true gains of one
    cv = fc.cross_validate(X, Y, folds=4, relative_ridges=[1e-2, 0.1, 1.0], shuffles=19, refit=None)
    assert cv.verdict.better is True
    assert cv.verdict.gains_help is not True
    assert "that fitted gains add to it is not shown" in " ".join(repr(cv).split())


def test_a_covariance_in_a_file_is_refused_as_responses(tmp_path):
    X, Y = pair()
    np.save(tmp_path / "S.npy", fc.covariance(Y))
    with pytest.raises(ValueError, match=r"^Argument 'Y' must be responses, .* pass that as S="):
        fc.cross_validate(X, np.load(tmp_path / "S.npy", mmap_mode="r"), refit=None, **OPTIONS)


# --- permutation_test


@pytest.fixture(scope="module")
def tested():
    X, Y = pair()
    X[3] = 0.0
    return X, Y, fc.permutation_test(X, Y, shuffles=29, **OPTIONS)


def test_p_is_that_of_the_study_by_hand(tested):
    _, _, test = tested
    table = test.cv.scores["linear"]
    observed, null = table.pooled("cross-pearson"), table.shuffled.pooled("cross-pearson")
    assert null.shape == (29, 3)
    assert test.p == naive.permutation_p(observed, null)
    assert test.observed == observed.max()
    np.testing.assert_array_equal(test.null, null.max(axis=1))
    for name in BASELINES:
        one = test.cv.baselines[name].pooled("cross-pearson")
        each = test.cv.baselines_shuffled[name].pooled("cross-pearson")
        assert test.gain_over[name] == observed.max() - one
        np.testing.assert_array_equal(test.null_over[name], null.max(axis=1) - each)
        assert test.p_over[name] == naive.permutation_p(observed - one, null - each[:, np.newaxis])
    assert test.p_values.keys() == SCORES.keys()
    for score, p in test.p_values.items():
        assert p == naive.permutation_p(table.pooled(score), table.shuffled.pooled(score))
    assert test.p_values[test.score] == test.p


def test_p_of_each_channel_is_by_hand_that_of_gains_of_shuffled_targets(tested):
    X, Y, test = tested
    found, fit = test.channels, test.cv.fit
    C = naive.covariance(Y)
    S = C * np.trace(naive.covariance(X)) / np.trace(C)
    every = [np.arange(12), *orders_of(29)]
    gains = np.array([linear(X, S[np.ix_(order, order)], fit.ridge, True) for order in every])
    np.testing.assert_allclose(found.gains, gains[0], rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.mean, gains[1:].mean(axis=0), rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.deviation, gains[1:].std(axis=0, ddof=1), rtol=0, atol=1e-8)
    alive = np.arange(20) != 3
    apart = np.abs(gains - gains.mean(axis=0))
    np.testing.assert_array_equal(found.p[alive], (np.sum(apart >= apart[0], axis=0) / 30)[alive])
    assert found.p[3] == 1.0  # the dead one, which never moves
    np.testing.assert_allclose(found.q, naive.pooled_q(apart * alive), rtol=1e-9)
    np.testing.assert_array_equal(found.different(0.3), found.q <= 0.3)
    correlation = [np.corrcoef(gains[0], row)[0, 1] for row in gains[1:]]
    np.testing.assert_allclose(found.correlation, correlation, rtol=0, atol=1e-7)


def test_targets_fitted_together_or_one_by_one_give_the_same(tested, monkeypatch):
    X, Y, test = tested
    monkeypatch.setattr("fastcov._studies.channel_test.TOGETHER_BYTES", 1)
    one_by_one = fc.permutation_test(X, Y, shuffles=29, **OPTIONS)
    np.testing.assert_allclose(one_by_one.channels.mean, test.channels.mean, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(one_by_one.channels.p, test.channels.p)
    np.testing.assert_array_equal(one_by_one.null, test.null)


def test_the_same_generator_gives_the_same_test_and_another_does_not(tested):
    X, Y, test = tested
    again = fc.permutation_test(X, Y, shuffles=29, rng=np.random.default_rng(0), **OPTIONS)
    np.testing.assert_array_equal(again.null, test.null)
    np.testing.assert_array_equal(again.channels.p, test.channels.p)
    other = fc.permutation_test(X, Y, shuffles=29, rng=1, channels=False, **OPTIONS)
    assert other.observed == test.observed  # the folds are given
    assert not np.array_equal(other.null, test.null)
    assert other.channels is None


def test_a_target_matrix_can_be_tested():
    X, S = data(20, 12), target(12, 4)
    test = fc.permutation_test(X, S=S, shuffles=19, **OPTIONS)
    order = orders_of(19)[0]
    other = fc.cross_validate(X, S=S[np.ix_(order, order)], refit=None, **OPTIONS)
    np.testing.assert_allclose(test.null[0], other.summary("linear")[0].max(), rtol=0, atol=1e-7)
    gains = linear(X, S, test.cv.fit.ridge, True)
    np.testing.assert_allclose(test.channels.gains, gains, rtol=0, atol=1e-7)


def test_a_test_prints_its_numbers_and_verdict(tested):
    _, _, test = tested
    text = repr(test)
    assert max(map(len, text.splitlines())) <= 110
    for label in BASELINES.values():
        assert f"over {label}" in text
    assert f"{test.observed:.3f}" in text
    assert test.verdict.words in " ".join(text.split())
    assert f"{int(test.channels.different().sum())} of 20 gains differ" in text
    assert f"{test.observed:.3f}" in test._repr_html_()


def test_gains_of_one_channel_correlate_with_nothing_and_are_printed():
    X, Y = data(1, 9), data(8, 9, seed=9)
    test = fc.permutation_test(
        X, Y, shuffles=19, folds=3, method="linear", center=False, relative_ridges=[0.1]
    )
    assert np.isnan(test.channels.correlation).all()
    assert "of 1 gains differ" in repr(test)


# --- what is refused


def test_too_few_shuffles_are_refused_with_the_least_p():
    with pytest.raises(
        ValueError, match=r"^Argument 'shuffles' must be at least 19 .*not 9, .*least p is 0.1"
    ):
        fc.permutation_test(*pair(), shuffles=9)
    with pytest.raises(TypeError, match=r"^Argument 'method' must be one method"):
        fc.permutation_test(*pair(), method=["linear", "exact"])


@pytest.mark.parametrize(
    ("groups", "permute", "n"),
    [(LABELS, "groups", 6), ([0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8], "within", 12)],
)
def test_too_few_orders_are_refused_before_anything_is_fitted(groups, permute, n):
    seen = []
    with pytest.raises(ValueError, match=rf"^Argument 'groups' must leave at least 20 orders .*not {n},"):
        fc.permutation_test(*pair(), shuffles=19, groups=groups, permute=permute, callback=seen.append)
    assert seen == []


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"groups": LABELS}, ValueError, "'groups' must .*left out otherwise, not given"),
        ({"permute": "within"}, ValueError, "'groups' must be a label .*not left out"),
        ({"permute": "groups"}, ValueError, "'groups' must be a label .*not left out"),
        ({"groups": LABELS, "permute": "Within"}, ValueError, "'permute' must"),
        ({"groups": LABELS[:3], "permute": "within"}, ValueError, "'groups' must .* 12 conditions, not 3"),
        ({"groups": 3, "permute": "within"}, TypeError, "'groups' must be a label"),
        ({"groups": range(12), "permute": "within"}, ValueError, "'groups' must leave .*permute='groups'"),
        ({"groups": [0] * 12, "permute": "groups"}, ValueError, "'groups' must leave .*permute='within'"),
        ({"groups": [0] * 5 + [1] * 7, "permute": "groups"}, ValueError, "'groups' must leave "),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("shuffles", [0, 2])
def test_groups_that_do_not_fit_are_refused(options, error, match, shuffles):
    with pytest.raises(error, match=f"^Argument {match}"):
        fc.cross_validate(*pair(), shuffles=shuffles, **options)


# --- orders


SOME_LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=16)


def some_orders(labels, sizes, seed, how):
    """Some orders, after their number was checked; none where nothing can be shuffled, which is refused."""
    random = np.random.default_rng(seed)
    if sizes.max() == 1:
        with pytest.raises(ValueError, match=r"^Argument 'groups' must leave something"):
            make_orders(3, len(labels), random, labels, how)
        return []
    orders, count = make_orders(3, len(labels), random, labels, how)
    assert count == pytest.approx(math.prod(math.factorial(n) for n in sizes), rel=1e-9)
    return orders


@given(SOME_LABELS, st.integers(0, 100))
def test_orders_within_groups_leave_each_condition_in_its_group(labels, seed):
    labels, sizes = np.array(labels), np.unique(labels, return_counts=True)[1]
    for order in some_orders(labels, sizes, seed, "within"):
        np.testing.assert_array_equal(np.sort(order), np.arange(len(labels)))
        np.testing.assert_array_equal(labels[order], labels)


@given(SOME_LABELS, st.integers(0, 100))
def test_orders_of_groups_move_them_as_wholes(labels, seed):
    labels = np.array(labels)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    alike = np.unique([len(part) for part in members], return_counts=True)[1]
    for order in some_orders(labels, alike, seed, "groups"):
        np.testing.assert_array_equal(np.sort(order), np.arange(len(labels)))
        for part in members:  # to the places of a group comes one group, its conditions in order
            assert any(np.array_equal(order[part], other) for other in members)


@pytest.mark.parametrize("permute", ["within", "groups"])
def test_a_study_shuffles_as_it_is_told(permute):
    X, Y = pair()
    cv = fc.cross_validate(X, Y, shuffles=3, groups=LABELS, permute=permute, refit=None, **OPTIONS)
    for order, sums in zip(
        orders_of(3, groups=LABELS, permute=permute), cv.scores["linear"].shuffled.sums, strict=True
    ):
        other = fc.cross_validate(X, Y[:, order], refit=None, **OPTIONS)
        np.testing.assert_allclose(sums, other.scores["linear"].moments.sums, rtol=0, atol=1e-7)
