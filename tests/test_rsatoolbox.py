"""fastcov.rsatoolbox: models that rsatoolbox fits, cross-validates and bootstraps; datasets and RDMs."""

import warnings

import naive
import numpy as np
import pytest
from cases import data
from numpy.testing import assert_allclose, assert_array_equal
from optional import needs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    rsatoolbox = needs("rsatoolbox")

import fastcov as fc
from fastcov.rsatoolbox import GainModel, WeightModel, dataset, matrices, rdms, responses

# rsatoolbox warns of its own.
pytestmark = pytest.mark.filterwarnings("ignore")

N, D = 15, 12


def features(seed=0):
    return data(N, D, seed=seed).T


def target(seed=1, n=2):
    others = [rsatoolbox.data.Dataset(data(20, D, seed=seed + k).T) for k in range(n)]
    return rsatoolbox.rdm.concat([rsatoolbox.rdm.calc_rdm(each, method="euclidean") for each in others])


@pytest.mark.parametrize("method", ["cosine", "corr", "spearman"])
@pytest.mark.parametrize("bounds", [None, (0, None)])
def test_weights_are_those_of_reweight_for_the_pooled_rdm(method, bounds):
    X, of = features(), target()
    model = WeightModel("model", X, bounds=bounds)
    theta = model.fit(of, method=method)
    pooled = rsatoolbox.util.inference_util.pool_rdm(of, method=method).get_matrices()[0]
    options = {"relative_ridge": 0.1, "atoms": "squared-euclidean", "center": False, "offset": True}
    wanted = fc.reweight(X.T, pooled, bounds=bounds, **options)
    assert_allclose(theta, wanted.weights, rtol=1e-10, atol=1e-14)
    assert_allclose(model.fit_.weights, theta)
    a, b = np.triu_indices(D, 1)
    # The prediction is without the offset, which no correlation sees.
    assert_allclose(model.predict(theta), (wanted.prediction - wanted.offset)[a, b], rtol=1e-9, atol=1e-12)


def test_weights_are_those_of_rsatoolbox_s_own_regression_on_an_rdm_for_each_channel():
    X, of = features(), target(n=1)
    singles = np.stack([np.subtract.outer(x, x)[np.triu_indices(D, 1)] ** 2 for x in X.T])
    own = rsatoolbox.model.ModelWeighted("own", singles)
    gram = singles @ singles.T
    ridge = 0.1 * np.linalg.eigvalsh(gram)[-1]
    pooled = rsatoolbox.util.inference_util.pool_rdm(of, method="cosine")
    wanted = rsatoolbox.model.fitter.fit_regress(
        own, of, method="cosine", ridge_weight=ridge, normalize=False
    )
    theta = WeightModel("model", X, offset=False, bounds=None).fit(of, method="cosine")
    # Lanczos has the largest eigenvalue, and so the ridge, to 1e-9 or so.
    assert_allclose(theta, wanted, rtol=0, atol=1e-8 * np.abs(wanted).max())
    w, _ = naive.reweighted(X.T, pooled.get_matrices()[0], ridge, "squared-euclidean", center=False)
    assert_allclose(wanted, w, rtol=0, atol=1e-9 * np.abs(w).max())


@pytest.mark.parametrize("kind", [WeightModel, GainModel])
def test_predictions_of_ones_are_the_squared_distances(kind):
    X = features()
    model = kind("model", X)
    plain = rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(X), method="euclidean").get_vectors()[0] * N
    if kind is GainModel:
        model = kind("model", X, center=False)
    assert_allclose(model.predict(), plain, rtol=1e-12)
    assert_allclose(model.predict_rdm().get_vectors()[0], plain, rtol=1e-12)
    with pytest.raises(ValueError, match=rf"'theta' must have one entry for each of the {N} channels"):
        model.predict(np.ones(3))


def test_gains_are_those_of_fit_and_found_where_distances_come_from_gains():
    X = features()
    z = 1.0 + 0.2 * np.random.default_rng(3).standard_normal(N)
    centred = X.T - X.T.mean(axis=1, keepdims=True)
    C = fc.covariance(centred, gains=z)
    own = np.diag(C)
    T = own[:, None] + own[None] - 2 * C
    model = GainModel("gains", X, relative_ridge=1e-5)
    theta = model.fit(rdms(T), method="euclid")
    scale = np.trace(fc.covariance(centred)) / np.trace(C)
    assert_allclose(model.fit_.target(), C * scale, rtol=0, atol=1e-12 * np.abs(C).max())
    found = model.predict(theta)
    # Little ridge: the gains reproduce the distances, up to their scale.
    assert np.corrcoef(found, T[np.triu_indices(D, 1)])[0, 1] > 0.999


@pytest.mark.parametrize("kind", [WeightModel, GainModel])
def test_rsatoolbox_cross_validates_with_the_conditions_that_were_trained(kind):
    X, of = features(), target(n=3)
    model = kind("model", X)
    train, test, ceiling = rsatoolbox.inference.sets_k_fold_pattern(of, k=3)
    result = rsatoolbox.inference.crossval(model, of, train, test, ceil_set=ceiling, method="corr")
    scores = result.evaluations.ravel()
    for k in range(3):
        places = np.sort(train[k][1])
        inside = train[k][0]
        other = kind("other", X[places])
        theta = other.fit(inside, method="corr")
        held = np.sort(test[k][1])
        P = model.predict_rdm(theta).get_matrices()[0][np.ix_(held, held)]
        pairs = np.triu_indices(len(held), 1)
        wanted = np.mean([np.corrcoef(P[pairs], T)[0, 1] for T in test[k][0].get_vectors()])
        assert scores[k] == pytest.approx(wanted, abs=1e-9)


def test_a_bootstrap_that_draws_conditions_twice_leaves_their_pairs_out():
    model = WeightModel("model", features())
    result = rsatoolbox.inference.bootstrap_crossval(
        [model], target(n=3), method="corr", N=4, k_pattern=2, k_rdm=1
    )
    assert np.isfinite(result.evaluations).any()
    drawn = [0, 0, 1, 2, 3]
    twice, gains = target().subsample_pattern("index", drawn), GainModel("gains", features())
    with pytest.raises(ValueError, match=r"'data' must have all dissimilarities, not NaN"):
        gains.fit(twice, pattern_idx=drawn, pattern_descriptor="index")


def test_conditions_are_selected_by_any_descriptor():
    of, names = target(), np.array(list("lkjihgfedcba"))
    described = rsatoolbox.data.Dataset(features(), obs_descriptors={"odour": names})
    model = WeightModel("model", described)
    some = ["a", "c", "d", "g", "k"]
    of.pattern_descriptors["odour"] = names
    inside = of.subsample_pattern("odour", some)
    theta = model.fit(inside, pattern_idx=some, pattern_descriptor="odour")
    places = np.flatnonzero(np.isin(names, some))
    wanted = WeightModel("other", features()[places]).fit(inside)
    assert_allclose(theta, wanted, rtol=1e-12)
    with pytest.raises(
        ValueError, match=r"'pattern_descriptor' must be one of the descriptors 'odour', 'index'"
    ):
        model.fit(inside, pattern_idx=some, pattern_descriptor="smell")
    with pytest.raises(ValueError, match=r"'data' must have the 12 conditions"):
        model.fit(inside)


def test_the_ridge_can_be_chosen_inside_each_fit():
    model = WeightModel("model", data(N, 24).T, relative_ridge="cv", folds=3)
    others = rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(data(20, 24, seed=2).T), method="euclidean")
    model.fit(others, method="corr")
    assert model.fit_.scores is not None
    with pytest.raises(ValueError, match=r"'relative_ridge' must be one of 'cv', not 'best'"):
        WeightModel("model", features(), relative_ridge="best")


def test_datasets_and_rdms_go_both_ways():
    pandas = pytest.importorskip("pandas")
    X = data(4, 3)
    frame = pandas.DataFrame(X, list("abcd"), ["x", "y", "z"])
    there = dataset(frame)
    assert_array_equal(there.measurements, X.T)
    back = responses(there, by="condition", channel="channel")
    assert_allclose(np.asarray(back), X)
    assert (back.channels, back.conditions) == (list("abcd"), ["x", "y", "z"])
    assert_array_equal(np.asarray(responses(there)), X)
    S = fc.covariance(frame)
    T = pandas.DataFrame(np.abs(np.subtract.outer(range(3), range(3))), S.index, S.columns)
    of = rdms(T, measure="steps")
    assert of.dissimilarity_measure == "steps"
    again = matrices(of, by="condition")
    assert again.conditions == ["x", "y", "z"]
    assert_array_equal(np.asarray(again), T)
    assert matrices(rdms(np.stack([T, 2 * T]))).shape == (2, 3, 3)
    assert_array_equal(matrices(rdms(T.to_numpy())), T)
    # Repetitions of a condition are averaged.
    twice = rsatoolbox.data.Dataset(np.vstack([X.T, X.T + 2]), obs_descriptors={"odour": list("xyzxyz")})
    assert_allclose(np.asarray(responses(twice, by="odour")), X + 1)


def test_a_reweighting_becomes_an_rdm():
    X = data(6, 5)
    Y = data(20, 5, seed=1)
    of_products = fc.reweight(X, Y.T @ Y, 1.0)
    P = of_products.prediction
    found = matrices(rdms(of_products))
    assert_allclose(found, np.diag(P)[:, None] + np.diag(P)[None] - 2 * P, atol=1e-12)
    of_differences = fc.reweight(X, found, 1.0, atoms="squared-euclidean")
    assert_allclose(matrices(rdms(of_differences)), of_differences.prediction)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: responses(np.ones((3, 3))), r"'data' must be a Dataset of rsatoolbox, not a ndarray"),
    (lambda: matrices(np.ones((3, 3))), r"'data' must be RDMs of rsatoolbox, not a ndarray"),
])  # fmt: skip
def test_other_objects_are_refused(call, message):
    with pytest.raises(TypeError, match=f"^Argument {message}"):
        call()


def test_a_missing_descriptor_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match=r"'by' must be one of the descriptors 'condition', not 'odour'"):
        responses(dataset(data(3, 4)), by="odour")
