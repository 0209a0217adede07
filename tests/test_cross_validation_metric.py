"""Studies with nuisance terms, pairs that count, and targets that are not known everywhere."""

import naive
import numpy as np
import pytest
from cases import data, slow_but

import fastcov as fc
from fastcov._results.score import SCORES

RELATIVE = [1e-2, 1e-1]
FOLDS = [(np.arange(9), np.arange(9, 13)), (np.arange(4, 13), np.arange(4))]
D = 13
TERMS = ("diagonal", "constant")

ONE = np.zeros((D, D))
ONE[0, 1] = ONE[1, 0] = 1.0


def pair(N=25, M=30):
    return data(N, D), data(M, D, seed=9)


def some_pairs(seed=0):
    W = np.random.default_rng(seed).random((D, D)) * 2
    W[np.random.default_rng(seed + 1).random((D, D)) < 0.15] = 0.0
    return np.triu(W) + np.triu(W, 1).T


METRICS = {
    "both": {"nuisance": TERMS},
    "diagonal": {"nuisance": "diagonal"},
    "constant": {"nuisance": "constant"},
    "off-diagonal": {"pairs": "off-diagonal"},
    "off-diagonal-constant": {"pairs": "off-diagonal", "nuisance": "constant"},
    "weights": {"pairs": some_pairs()},
    "weights-both": {"pairs": some_pairs(), "nuisance": TERMS},
}


def weights_of(pairs):
    if pairs is None:
        return np.ones((D, D))
    return 1.0 - np.eye(D) if isinstance(pairs, str) else pairs


def predicted(X, gains, S, train, nuisance=(), pairs=None):
    """C(z) + βI + γ11ᵀ with what leaves least of the training block, by a least-squares solver."""
    nuisance = (nuisance,) if isinstance(nuisance, str) else nuisance
    P = naive.covariance(X, gains)
    block = np.ix_(train, train)
    root = np.sqrt(weights_of(pairs)[block]).ravel()
    shapes = {"diagonal": np.eye(D), "constant": np.ones((D, D))}
    if nuisance:
        A = np.stack([root * shapes[name][block].ravel() for name in nuisance], axis=1)
        left = root * np.nan_to_num(S - P)[block].ravel()
        for share, name in zip(np.linalg.lstsq(A, left, rcond=None)[0], nuisance, strict=True):
            P = P + share * shapes[name]
    return P


@pytest.mark.parametrize("method", ["exact", "linear"])
@pytest.mark.parametrize("kind", METRICS)
def test_a_fold_is_a_fit_with_the_same_terms_whose_prediction_is_scored(kind, method):
    X, Y = pair()
    metric = METRICS[kind]
    cv = fc.cross_validate(X, Y, folds=FOLDS, method=method, relative_ridges=RELATIVE, refit=None, **metric)
    W = weights_of(metric.get("pairs"))
    for f, (train, test) in enumerate(FOLDS):
        block = np.ix_(train, train)
        scale = np.trace(naive.covariance(X)[block]) / np.trace(naive.covariance(Y)[block])
        S = scale * naive.covariance(Y)
        own = dict(metric)
        if isinstance(own.get("pairs"), np.ndarray):
            own["pairs"] = own["pairs"][block]
        for k, ridge in enumerate(RELATIVE):
            fit = fc.fit(X[:, train], S[block], relative_ridge=ridge, method=method, **own)
            gains = cv.scores[method].gains[f, k]
            # Exact fits end at 1e-6 of the gradient, from the minimum before or from gains of one.
            np.testing.assert_allclose(gains, fit.gains, rtol=0, atol=1e-4 if method == "exact" else 1e-9)
            P = predicted(X, gains, S, train, **metric)
            expected = naive.scores([naive.unseen_pairs(P, S, train, test, W)])
            for score in SCORES:
                found = cv.scores[method].by_fold(score)[f, k]
                np.testing.assert_allclose(found, expected[score], rtol=1e-9, atol=1e-10, err_msg=score)
        for name, P in naive.baselines(naive.covariance(X), S, train, W).items() if W.trace() else ():
            expected = naive.scores([naive.unseen_pairs(P, S, train, test, W)])
            for score in SCORES:
                found = cv.baselines[name].by_fold(score)[f]
                np.testing.assert_allclose(found, expected[score], rtol=1e-8, atol=1e-9, err_msg=score)


@pytest.mark.slow
@pytest.mark.parametrize("kind", slow_but({"weights-both"}, ["both", "off-diagonal", "weights-both"]))
@pytest.mark.parametrize("folds", ["leave-one-out", "leave-two-out"])
def test_leaving_out_from_one_factorisation_is_refitting(kind, folds, monkeypatch):
    X, Y = pair(N=120)
    options = {
        "method": "linear", "folds": folds, "relative_ridges": RELATIVE, "refit": None, **METRICS[kind]
    }  # fmt: skip
    at_once = fc.cross_validate(X, Y, **options)
    monkeypatch.setattr("fastcov._studies.side_by_side.pays", lambda *_: False)
    refitted = fc.cross_validate(X, Y, **options)
    one, other = (cv.scores["linear"] for cv in (at_once, refitted))
    # λ is 1e-2 of the largest eigenvalue at least: a hundred roundings, in each of some hundred pairs.
    size = np.abs(other.gains - 1.0).max()
    np.testing.assert_allclose(one.gains, other.gains, rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(one.moments.sums, other.moments.sums, rtol=1e-9, atol=1e-11)
    assert one.residual.max() < 1e-12
    assert (one.status == "converged").all()


def test_plain_leaving_out_is_refitting_too(monkeypatch, center):
    X, Y = pair(N=120)
    options = {"method": "linear", "folds": "leave-one-out", "relative_ridges": [1e-3, 1.0], "refit": None}
    at_once = fc.cross_validate(X, Y, center=center, shuffles=2, **options)
    monkeypatch.setattr("fastcov._studies.side_by_side.pays", lambda *_: False)
    refitted = fc.cross_validate(X, Y, center=center, shuffles=2, **options)
    size = np.abs(refitted.scores["linear"].gains - 1.0).max()
    np.testing.assert_allclose(
        at_once.scores["linear"].gains, refitted.scores["linear"].gains, rtol=0, atol=1e-11 * size
    )
    for name in ("moments", "shuffled"):
        one, other = (getattr(cv.scores["linear"], name).sums for cv in (at_once, refitted))
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


def test_unknown_pairs_of_a_target_change_nothing(monkeypatch):
    X, Y = pair()
    S = fc.target_covariance(Y, like=X)
    unknown = np.zeros((D, D), bool)
    unknown[[2, 7, 5], [7, 2, 5]] = True
    found = []
    for filled in (np.nan, 1e3):
        T = np.where(unknown, filled, S)
        more = {} if np.isnan(filled) else {"pairs": 1.0 - unknown}
        found.append(fc.cross_validate(X, S=T, folds=FOLDS, relative_ridges=RELATIVE, **more))
    one, other = (cv.scores["exact"] for cv in found)
    np.testing.assert_array_equal(one.gains, other.gains)
    for score in SCORES:
        if not score.endswith("rsa"):  # which takes the unknown variance
            np.testing.assert_array_equal(one.by_fold(score), other.by_fold(score))
    assert np.isnan(one.by_fold("cross-rsa")).all()
    np.testing.assert_array_equal(found[0].fit.gains, found[1].fit.gains)


def test_unknown_pairs_go_with_their_conditions_in_a_shuffle():
    X, Y = pair()
    S = fc.target_covariance(Y, like=X)
    S[2, 7] = S[7, 2] = np.nan
    options = {"folds": FOLDS, "relative_ridges": RELATIVE, "method": "linear", "refit": None}
    cv = fc.cross_validate(X, S=S, shuffles=2, rng=3, **options)
    random = np.random.default_rng(3)
    for k in range(2):
        order = random.permutation(D)
        other = fc.cross_validate(X, S=S[np.ix_(order, order)], **options)
        np.testing.assert_allclose(
            cv.scores["linear"].shuffled.sums[k], other.scores["linear"].moments.sums, rtol=1e-9, atol=1e-12
        )


def test_terms_that_gains_cannot_give_are_taken_by_nuisance_terms():
    sim = fc.datasets.simulate(60, D, rng=0, noise=0.0)
    S = sim.S + 30.0 * np.trace(sim.S) / D * np.eye(D)
    plain, terms = (
        fc.cross_validate(sim.X, S=S, folds=4, relative_ridges=RELATIVE, refit=None, nuisance=nuisance)
        for nuisance in (None, "diagonal")
    )
    assert terms.summary("exact")[0].max() > plain.summary("exact")[0].max() + 0.1


def test_a_refit_has_the_terms_and_the_ridge_of_its_study():
    X, Y = pair()
    cv = fc.cross_validate(X, Y, folds=FOLDS, relative_ridges=RELATIVE, nuisance=TERMS)
    fit = fc.fit(X, responses=Y, relative_ridge=cv.best_ridge, nuisance=TERMS)
    np.testing.assert_array_equal(cv.fit.gains, fit.gains)
    assert cv.fit.nuisance == fit.nuisance
    assert cv.stats["nuisance"] == TERMS
    chosen = fc.fit(X, responses=Y, ridge="cv", method="exact", nuisance=TERMS)
    assert chosen.stats["cv"].stats["nuisance"] == TERMS


@pytest.mark.slow
def test_a_permutation_test_takes_terms_and_pairs():
    X, Y = pair()
    options = {"shuffles": 19, "folds": FOLDS, "relative_ridges": RELATIVE, "method": "linear"}
    for metric in METRICS.values():
        test = fc.permutation_test(X, Y, **metric, **options)
        assert 0.05 <= test.p <= 1.0
        assert test.channels.p.shape == (25,)
        first = fc.fit(
            X, responses=Y, ridge=test.cv.fit.ridge, method="linear",
            **metric,
        )  # fmt: skip
        np.testing.assert_allclose(test.channels.gains, first.gains, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nuisance": "offset"}, r"^Argument 'nuisance' must "),
        ({"pairs": "diagonal"}, r"^Argument 'pairs' must "),
        ({"pairs": np.ones((3, 3))}, r"^Argument 'pairs' must "),
        (
            {"nuisance": "constant", "pairs": ONE},
            r"^Argument 'nuisance' must .*, not span all of the 1 pairs",
        ),
    ],
)
def test_terms_and_pairs_of_the_wrong_form_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fc.cross_validate(*pair(), folds=FOLDS, relative_ridges=RELATIVE, **options)
