"""ridge="cv" of reweight: folds of conditions, nested choice, scores and predictions by their definition."""

import itertools

import naive
import numpy as np
import pytest
from cases import data
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc
from fastcov._results.agreement import pearson, spearman

ATOMS = ("product", "squared-euclidean")
RIDGES = [1e-2, 1e-1, 1.0]
each_atoms = pytest.mark.parametrize("atoms", ATOMS)


def target(D, seed=1):
    Y = data(30, D, seed=seed)
    return Y.T @ Y


def design(X, atoms):
    """Similarities of each channel (N, D, D), with the mean over channels subtracted."""
    X = X - X.mean(axis=0)
    if atoms == "product":
        return X[:, :, None] * X[:, None, :]
    return np.square(X[:, :, None] - X[:, None, :])


def predicted(X, S, train, share, atoms, offset, shrink_to):
    """The prediction of all pairs from weights fitted to the training conditions, with the design matrix."""
    centred = X - X.mean(axis=0)
    inside = np.ix_(train, train)
    A, _, _ = naive.pair_design(centred[:, train], atoms, center=False)
    projected = A - A.mean(axis=0) if offset else A
    ridge = share * np.linalg.eigvalsh(projected.T @ projected)[-1]
    w, c = naive.reweighted(centred[:, train], S[inside], ridge, atoms, False, None, offset, shrink_to)
    return np.einsum("i,iab->ab", w, design(X, atoms)) + c


def within(P, S, test):
    a, b = np.triu_indices(len(test), 1)
    return P[test[a], test[b]], S[test[a], test[b]]


def across(P, S, train, test):
    return ((M[np.ix_(test, train)] - M[np.ix_(test, train)].mean(axis=0)).ravel() for M in (P, S))


@pytest.mark.parametrize(("offset", "shrink_to"), [(False, 1.0), (True, 0.0)])
@each_atoms
def test_scores_and_choice_are_those_of_fits_with_the_design_matrix(atoms, offset, shrink_to):
    N, D = 15, 16
    X, S = data(N, D), target(D)
    options = {"atoms": atoms, "offset": offset, "shrink_to": shrink_to}
    found = fc.reweight(X, S, "cv", folds=3, relative_ridges=RIDGES, **options)
    scores = found.scores
    sums, counts = np.zeros((D, D)), np.zeros((D, D))
    for k, (train, test) in enumerate(scores.folds):
        predictions = [predicted(X, S, train, share, atoms, offset, shrink_to) for share in RIDGES]
        # The relative ridge is of Lanczos, to 1e-10 or so, and the condition number is some thousands.
        for j, P in enumerate(predictions):
            pairs = {"": within(P, S, test), "cross-": across(P, S, train, test)}
            for prefix, both in pairs.items():
                p, s = both
                assert scores.by_ridge[prefix + "pearson"][k, j] == pytest.approx(
                    np.corrcoef(p, s)[0, 1], abs=1e-6
                )
                wanted = naive.rank_correlation(p, s)
                assert scores.by_ridge[prefix + "spearman"][k, j] == pytest.approx(wanted, abs=1e-9)
        place = RIDGES.index(scores.chosen[k])
        for name, values in scores.nested.items():
            assert values[k] == scores.by_ridge[name][k, place]
        unseen = np.zeros((D, D), bool)
        unseen[test] = unseen[:, test] = True
        sums[unseen] += predictions[place][unseen]
        counts += unseen
        plain = design(X, atoms).sum(axis=0)
        assert scores.equal["pearson"][k] == pytest.approx(
            np.corrcoef(*within(plain, S, test))[0, 1], abs=1e-10
        )
    off = ~np.eye(D, dtype=bool)
    assert_allclose(scores.predicted[off], (sums / counts)[off], atol=1e-6 * np.abs(scores.predicted).max())
    assert_array_equal(scores.predicted, scores.predicted.T)
    best = np.argmax(scores.by_ridge["pearson"].mean(axis=0))
    assert found.relative_ridge == RIDGES[best]
    assert_allclose(found.weights, fc.reweight(X, S, relative_ridge=RIDGES[best], **options).weights)


@each_atoms
def test_the_ridge_of_a_fold_is_chosen_without_its_held_out_pairs(atoms):
    """What is held out may be anything: neither the choice of its fold nor its prediction changes."""
    N, D = 12, 24
    X, S = data(N, D), target(D)
    folds = [(np.arange(6, D), np.arange(6)), (np.r_[0:6, 12:D], np.arange(6, 12))]
    one = fc.reweight(X, S, "cv", folds=folds, atoms=atoms, relative_ridges=RIDGES)
    other = S.copy()
    other[:6] = 100 * data(6, D, seed=9)
    other[:, :6] = other[:6].T
    other[:6, :6] = target(6, seed=7)
    changed = fc.reweight(X, other, "cv", folds=folds, atoms=atoms, relative_ridges=RIDGES)
    assert changed.scores.chosen[0] == one.scores.chosen[0]
    assert_array_equal(changed.scores.predicted[:6, 12:], one.scores.predicted[:6, 12:])


@pytest.mark.parametrize("score", ["spearman", "cross-pearson", "cross-spearman"])
def test_another_score_chooses(score):
    X, S = data(20, 20), target(20)
    found = fc.reweight(X, S, "cv", folds=4, score=score, relative_ridges=RIDGES)
    assert found.scores.score == score
    assert found.scores.best == np.argmax(found.scores.by_ridge[score].mean(axis=0))


def test_pairs_across_folds_can_be_scored_where_two_conditions_are_held_out():
    X, S = data(12, 7), target(7)
    found = fc.reweight(X, S, "cv", folds="leave-two-out", score="cross-pearson", relative_ridges=RIDGES)
    assert len(found.scores.folds) == 21
    assert np.isnan(found.scores.pearson)
    assert np.isfinite(found.scores.mean("cross-pearson"))
    for folds, score in (("leave-one-out", "cross-pearson"), ("leave-two-out", "pearson")):
        with pytest.raises(ValueError, match=r"^Argument 'folds' must hold out enough conditions"):
            fc.reweight(X, S, "cv", folds=folds, score=score)


@each_atoms
def test_scores_centre_on_zero_where_conditions_are_shuffled(atoms):
    """In the mean over orders of the held-out conditions among each other, every score but ranks is zero."""
    X, S = data(15, 20), target(20)
    folds = [(np.arange(4, 20), np.arange(4)), (np.r_[0:16], np.arange(16, 20))]
    found = []
    for order in itertools.permutations(range(4)):
        moved = np.r_[np.array(order), 4:20]
        shuffled = S[np.ix_(moved, moved)]
        study = fc.reweight(X, shuffled, "cv", folds=folds, atoms=atoms, relative_ridges=RIDGES, offset=True)
        found.append([study.scores.nested[name][0] for name in ("pearson", "cross-pearson")])
    # Neither the weights of the first fold nor its choice see which held-out condition is which.
    assert_allclose(np.mean(found, axis=0), 0.0, atol=1e-9)
    assert np.abs(found).max() > 0.05


def test_pairs_that_do_not_count_are_neither_fitted_nor_scored():
    X, S = data(12, 18), target(18)
    v = 1 - np.eye(18)
    v[0, 5] = v[5, 0] = v[2, 3] = v[3, 2] = 0
    wild = S.copy()
    wild[0, 5] = wild[5, 0] = 1e6
    wild[2, 3] = wild[3, 2] = np.nan
    options = {"pairs": v, "folds": 3, "relative_ridges": RIDGES, "offset": True}
    one, other = (fc.reweight(X, each, "cv", **options) for each in (S, wild))
    for name, values in one.scores.nested.items():
        assert_allclose(other.scores.nested[name], values, atol=1e-9)


@each_atoms
def test_bounds_hold_in_every_fold(atoms):
    X, S = data(20, 18), target(18)
    found = fc.reweight(X, S, "cv", folds=3, relative_ridges=RIDGES, bounds=(0, None), atoms=atoms)
    assert (found.weights >= 0).all()
    # Weighted sums of squares cannot be negative.
    if atoms == "squared-euclidean":
        assert (found.scores.predicted >= 0).all()


def test_repeats_draw_folds_anew_and_the_seed_decides():
    X, S = data(12, 18), target(18)
    options = {"folds": 3, "repeats": 2, "relative_ridges": RIDGES}
    one, same, other = (fc.reweight(X, S, "cv", rng=seed, **options) for seed in (0, 0, 1))
    assert len(one.scores.folds) == 6
    assert any((a[1] != b[1]).any() for a, b in zip(one.scores.folds[:3], one.scores.folds[3:], strict=True))
    assert_array_equal(one.scores.nested["pearson"], same.scores.nested["pearson"])
    assert (one.scores.nested["pearson"] != other.scores.nested["pearson"]).any()
    frame = one.scores.to_frame()
    assert list(frame["repeat"]) == [0, 0, 0, 1, 1, 1]
    assert_array_equal(frame["spearman"], one.scores.nested["spearman"])


def test_weights_of_a_known_truth_are_found_and_predict_what_was_held_out():
    random = np.random.default_rng(0)
    X, w = random.standard_normal((20, 30)), random.random(20)
    for atoms in ATOMS:
        S = np.einsum("i,iab->ab", w, design(X, atoms))
        found = fc.reweight(X, S, "cv", atoms=atoms, relative_ridges=[1e-7, 1e-2])
        # The ridge is 1e-5 of the smallest eigenvalue or less.
        assert found.scores.pearson > 1 - 1e-8
        assert found.scores.spearman > 0.999
        assert_allclose(found.weights, w, atol=1e-4)


def test_a_target_that_does_not_vary_is_refused():
    with pytest.raises(ValueError, match=r"^Argument 'S' must vary over held-out pairs"):
        fc.reweight(data(12, 18), np.ones((18, 18)), "cv", folds=3)


def test_scores_print_as_a_table():
    found = fc.reweight(data(12, 18), target(18), "cv", folds=3, relative_ridges=RIDGES)
    text = str(found)
    for word in (
        "Held-out conditions: 3 folds",
        "reweighted",
        "equal weights",
        "cross-spearman",
        "inner folds",
    ):
        assert word in text
    assert found._repr_html_().count("<table>") == 2


def test_progress_is_told_and_can_end_it():
    told = []
    fc.reweight(data(12, 18), target(18), "cv", folds=3, relative_ridges=RIDGES, callback=told.append)
    done = [each.done for each in told if each.stage == "folds"]
    assert done == sorted(done)
    assert done[-1] == 1.0


# ---- correlations


def test_correlations_are_by_their_definition_and_say_where_there_is_none():
    random = np.random.default_rng(0)
    a, b = random.integers(0, 4, 30).astype(float), random.standard_normal(30)
    assert pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert spearman(a, b) == pytest.approx(naive.rank_correlation(a, b))
    for correlation in (pearson, spearman):
        assert correlation(np.ones(30), b) == 0.0
        assert correlation(1.0 + 1e-16 * b, b) == 0.0
        assert np.isnan(correlation(a, np.ones(30)))
        assert np.isnan(correlation(a[:2], b[:2]))
        assert np.isnan(correlation(np.full(30, np.nan), b))
        assert correlation(1e200 * b, 1e-200 * b) == pytest.approx(1.0)
        assert correlation(b, -b) == pytest.approx(-1.0)
