"""GainModel with nuisance terms and pairs: the fits and scores of `fastcov.fit`, and those of the oracle."""

import naive
import numpy as np
import pytest

import fastcov as fc

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from test_sklearn import D, X, y

from fastcov.sklearn import GainModel

__all__ = ["X", "y"]  # fixtures

RIDGE = 500.0
BOTH = ("diagonal", "constant")
OFF = 1.0 - np.eye(D)
CASES = [("diagonal", None), ("constant", None), (BOTH, None), (None, "off-diagonal"), (BOTH, "off-diagonal")]
cases = pytest.mark.parametrize(("nuisance", "pairs"), CASES, ids=str)


def terms(nuisance):
    return (nuisance,) if isinstance(nuisance, str) else nuisance or ()


@cases
@pytest.mark.parametrize("method", ["linear", "exact"])
def test_its_fit_is_that_of_fastcov(X, y, nuisance, pairs, method):
    model = GainModel(RIDGE, method=method, nuisance=nuisance, pairs=pairs).fit(X, y)
    options = {"ridge": RIDGE, "method": method, "nuisance": nuisance, "pairs": pairs}
    fit = fc.fit(np.asfortranarray(X).T, responses=y.T, **options)
    np.testing.assert_array_equal(model.gains_, fit.gains)
    assert model.fit_.nuisance == fit.nuisance
    assert set(fit.nuisance) == set(terms(nuisance))
    plain = GainModel(RIDGE, method=method).fit(X, y)
    assert np.linalg.norm(model.delta_ - plain.delta_) > 1e-3 * np.linalg.norm(plain.delta_)


@cases
def test_gains_and_scores_are_those_of_the_projected_problem(X, y, nuisance, pairs):
    model = GainModel(RIDGE, nuisance=nuisance, pairs=pairs).fit(X, y)
    S = model.target_scale_ * naive.covariance(y.T)
    known = None if pairs is None else OFF
    problem = naive.Counted(X.T, S, RIDGE, True, terms(nuisance), known)
    np.testing.assert_allclose(model.delta_, problem.linear(), rtol=1e-8, atol=1e-10)
    # Of the conditions that were fitted, what the terms leave is the loss without its ridge.
    left = problem.loss(model.gains_) - RIDGE / 2 * model.delta_ @ model.delta_
    size = np.sum(S**2 * (1.0 if known is None else known))
    assert model.score(X, y) == pytest.approx(1 - 2 * left / size, rel=1e-10)
    assert model.score(X, y) == pytest.approx(model.fit_.r2, rel=1e-10)


def test_new_conditions_are_scored_with_the_terms_and_pairs_that_were_fitted(X, y):
    train, test = np.arange(8), np.arange(8, D)
    model = GainModel(RIDGE, nuisance=BOTH, pairs="off-diagonal").fit(X[train], y[train])
    S = model.target_scale_ * naive.covariance(y[test].T)
    P = naive.covariance(X[test].T, model.gains_) + model.fit_.nuisance["constant"]
    apart = ~np.eye(len(test), dtype=bool)
    assert model.score(X[test], y[test]) == pytest.approx(
        1 - np.sum((P - S)[apart] ** 2) / np.sum(S[apart] ** 2), rel=1e-10
    )


def test_a_precomputed_target_with_nuisance_terms(X, y):
    S = naive.covariance(y.T)
    model = GainModel(RIDGE, target="precomputed", nuisance=BOTH).fit(X, S)
    np.testing.assert_array_equal(
        model.gains_, fc.fit(np.asfortranarray(X).T, S, ridge=RIDGE, nuisance=BOTH).gains
    )


def test_a_search_is_over_them_too(X, y):
    model = GainModel(RIDGE)
    grid = {"nuisance": [None, "diagonal", BOTH], "pairs": [None, "off-diagonal"]}
    search = GridSearchCV(model, grid, cv=KFold(3), error_score="raise").fit(X, y)
    assert len(search.cv_results_["mean_test_score"]) == 6
    assert clone(search.best_estimator_).get_params() == search.best_estimator_.get_params()
    assert model.get_params()["nuisance"] is model.get_params()["pairs"] is None


@pytest.mark.parametrize("pairs", ["all", np.ones((D, D)), 3], ids=["all", "a matrix", "a number"])
def test_other_pairs_are_refused(X, y, pairs):
    with pytest.raises(ValueError, match="Argument 'pairs' must be one of 'off-diagonal', not"):
        GainModel(RIDGE, pairs=pairs).fit(X, y)


def test_other_terms_are_refused_as_by_fit(X, y):
    with pytest.raises(ValueError, match="Argument 'nuisance' must be of 'diagonal', 'constant', not 'mean'"):
        GainModel(RIDGE, nuisance="mean").fit(X, y)
