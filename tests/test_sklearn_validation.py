"""permutation_test_score, cross_val_score and learning_curve of scikit-learn with a GainModel."""

import naive
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc

pytest.importorskip("sklearn")

import pandas as pd
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    ShuffleSplit,
    cross_val_score,
    learning_curve,
    permutation_test_score,
)

from fastcov.sklearn import GainModel

N, D, FOLDS, RIDGE = 40, 16, 4, 0.1
ODOURS = [f"odour {j}" for j in range(D)]


@pytest.fixture(scope="module")
def sim():
    return fc.datasets.simulate(N, D, rng=3)


def frames(sim, index):
    return pd.DataFrame(sim.X.T, index), pd.DataFrame(sim.Y.T, index)


def naive_score(X, y, train, test, relative_ridge=RIDGE):
    """R² of held-out conditions of a linear fit, from the formulas; rows are conditions."""
    C, S = naive.covariance(X[train].T), naive.covariance(y[train].T)
    c = np.trace(C) / np.trace(S)
    G = naive.atoms(X[train].T)
    ridge = relative_ridge * np.linalg.eigvalsh(G.T @ G)[-1]
    gains = 1 + naive.linear_fit(X[train].T, c * S, ridge)
    P, S = naive.covariance(X[test].T, gains), c * naive.covariance(y[test].T)
    return 1 - np.sum((P - S) ** 2) / np.sum(S**2)


# 7 products find the largest eigenvalue to some digits, and the score moves with the ridge.
NEAR = 2e-3


def test_cross_val_score_is_the_score_of_held_out_conditions_from_the_formulas(sim):
    X, y = sim.X.T, sim.Y.T
    found = cross_val_score(GainModel(), X, y, cv=KFold(FOLDS))
    wanted = [naive_score(X, y, train, test) for train, test in KFold(FOLDS).split(X)]
    assert_allclose(found, wanted, atol=NEAR)
    for index in (None, ODOURS):
        assert_allclose(cross_val_score(GainModel(), *frames(sim, index), cv=KFold(FOLDS)), found, rtol=1e-9)


def naive_permutation_scores(X, y, groups, cv, n, seed):
    """Mean scores of folds: as it is, and with the rows of y permuted as scikit-learn draws them."""
    random = np.random.RandomState(seed)
    orders = [np.arange(D)]
    for _ in range(n):
        if groups is None:
            orders.append(random.permutation(D))
        else:
            order = np.arange(D)
            for group in np.unique(groups):
                order[groups == group] = random.permutation(order[groups == group])
            orders.append(order)
    folds = list(cv.split(X, y, groups))
    return [np.mean([naive_score(X, y[order], *fold) for fold in folds]) for order in orders]


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("index", ["arrays", "default", "numbers", "shuffled", "names of X", "numpy"])
def test_permutation_test_score_permutes_whatever_names_rows_have(sim, grouped, index):
    """The null is that of the formulas: with frames y was once brought back into order, so that p was 1."""
    X, y = sim.X.T, sim.Y.T
    numbers = np.random.default_rng(0).permutation(D)
    a, b = {
        "arrays": (X, y),
        "default": frames(sim, None),
        "numbers": frames(sim, range(100, 100 + D)),
        "shuffled": frames(sim, numbers),
        "names of X": (pd.DataFrame(X, ODOURS), pd.DataFrame(y)),
        "numpy": (pd.DataFrame(X, ODOURS), pd.DataFrame(y, ODOURS).to_numpy()),
    }[index]
    groups = np.repeat(np.arange(FOLDS), D // FOLDS) if grouped else None
    cv, n = GroupKFold(FOLDS) if grouped else KFold(FOLDS), 19
    score, null, p = permutation_test_score(
        GainModel(), a, b, groups=groups, cv=cv, n_permutations=n, random_state=5
    )
    wanted = naive_permutation_scores(X, y, groups, cv, n, 5)
    assert_allclose([score, *null], wanted, atol=NEAR)
    assert null.std() > 0.05
    assert p == (1 + np.sum(null >= score)) / (n + 1) == 0.05


@pytest.mark.parametrize("grouped", [False, True])
def test_permuted_names_are_refused_and_never_undone(sim, grouped):
    groups = np.repeat(np.arange(FOLDS), D // FOLDS) if grouped else None
    cv = GroupKFold(FOLDS) if grouped else KFold(FOLDS)
    with pytest.raises(ValueError, match=r"or y\.to_numpy\(\) to take rows by their places"):
        permutation_test_score(
            GainModel(), *frames(sim, ODOURS), groups=groups, cv=cv, n_permutations=5, random_state=0
        )


@pytest.mark.slow
def test_a_search_inside_the_test_chooses_its_ridge_in_each_permutation(sim):
    search = GridSearchCV(GainModel(), {"relative_ridge": [0.03, 0.3]}, cv=3)
    score, null, p = permutation_test_score(
        search, *frames(sim, None), cv=KFold(FOLDS), n_permutations=19, random_state=0
    )
    assert score > null.max()
    assert p == 0.05


@pytest.mark.parametrize("framed", [False, True])
def test_a_learning_curve_is_of_the_number_of_conditions(sim, framed):
    X, y = sim.X.T, sim.Y.T
    a, b = frames(sim, ODOURS) if framed else (X, y)
    cv = ShuffleSplit(6, test_size=4, random_state=1)
    sizes, trained, held_out = learning_curve(GainModel(), a, b, train_sizes=[2, 6, 12], cv=cv)
    assert_array_equal(sizes, [2, 6, 12])
    assert trained.shape == held_out.shape == (3, 6)
    for k, size in enumerate(sizes):
        for f, (train, test) in enumerate(cv.split(X)):
            assert held_out[k, f] == pytest.approx(naive_score(X, y, train[:size], test), abs=NEAR)
            assert trained[k, f] == pytest.approx(naive_score(X, y, train[:size], train[:size]), abs=NEAR)
