"""A ridge that was chosen for a method is not fitted by another in silence."""

import copy
import pickle

import numpy as np
import pytest

import fastcov as fc

SIM = fc.datasets.simulate(40, 14, rng=0)
RELATIVE = [1e-2, 1e-1]


@pytest.fixture(scope="module")
def cv():
    return fc.cross_validate(
        SIM.X, SIM.Y, relative_ridges=RELATIVE, folds=4, method=["exact", "linear"], refit="best"
    )


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_a_fit_with_a_chosen_ridge_is_the_fit_that_was_chosen(cv, method):
    fit = fc.fit(SIM.X, responses=SIM.Y, relative_ridge=cv.best_ridge[method])
    assert fit.method == method
    np.testing.assert_array_equal(fit.gains, cv.fit[method].gains)


def test_a_method_that_is_asked_for_counts_more_than_that_of_the_ridge(cv):
    assert fc.fit(SIM.X, SIM.S, relative_ridge=cv.best_ridge["exact"], method="linear").method == "linear"


def test_a_plain_number_is_fitted_by_the_linear_method(cv):
    for ridge in (0.1, float(cv.best_ridge["exact"]), 1.0 * cv.best_ridge["exact"]):
        assert type(ridge) is float
        assert fc.fit(SIM.X, SIM.S, relative_ridge=ridge).method == "linear"


def test_a_relative_ridge_is_refused_as_an_absolute_one_and_the_other_way_round(cv):
    with pytest.raises(ValueError, match=r"^Argument 'ridge' must not be .* pass relative_ridge="):
        fc.fit(SIM.X, SIM.S, ridge=cv.best_ridge["exact"])
    absolute = fc.cross_validate(SIM.X, SIM.Y, ridges=[1e3, 1e4], folds=4, refit=None)
    with pytest.raises(ValueError, match=r"^Argument 'relative_ridge' must not be .* pass ridge="):
        fc.fit(SIM.X, SIM.S, relative_ridge=absolute.best_ridge)
    assert fc.fit(SIM.X, SIM.S, ridge=absolute.best_ridge).method == "exact"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_a_copy_of_a_chosen_ridge_knows_its_method(cv, copied):
    ridge = copied(cv.best_ridge["exact"])
    assert (ridge, ridge.method, ridge.relative) == (cv.best_ridge["exact"], "exact", True)
