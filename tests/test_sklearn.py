"""GainModel: scikit-learn's checks, gains and scores against fastcov and the oracle, pipelines, searches."""

import pickle

import naive
import numpy as np
import pytest
from cases import data, run_python, target
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc

pytest.importorskip("sklearn")

import pandas as pd
import scipy.sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, LeaveOneOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastcov.sklearn import GainModel

D, N, M = 12, 30, 25


@pytest.fixture
def X():
    return data(N, D).T.copy()


@pytest.fixture
def y():
    return data(M, D, seed=9).T.copy()


def naive_target(X, y, center=True):
    """S and c."""
    S, C = naive.covariance(y.T, None, center), naive.covariance(X.T, None, center)
    c = np.trace(C) / np.trace(S)
    return c * S, c


# --- the checks of scikit-learn


class TwoOutputs(GainModel):
    """GainModel for the checks that come with one output: beside it there is a column of zeros."""

    def fit(self, X, y):
        return super().fit(X, y if y is None else self._beside_zeros(y))

    def score(self, X, y):
        return super().score(X, self._beside_zeros(y))

    def _beside_zeros(self, y):
        y = np.asarray(y)
        return np.column_stack([y, np.zeros_like(y)]) if y.ndim == 1 or y.shape[1] == 1 else y


# Checks that fit one output, whatever the tag `single_output` says: the covariance of one output less its
# mean over outputs is zero, and a GainModel with center=True says so in a ValueError. They all pass with
# center=False, and for TwoOutputs, which differs in a second column alone. Nothing else is excepted.
# (check_array_api_input is skipped where SCIPY_ARRAY_API is not set.)
ONE_OUTPUT = "y has one output, and with center=True a covariance needs two: ValueError"
WITH_ONE_OUTPUT = [
    "check_fit_score_takes_y", "check_estimators_overwrite_params", "check_dont_overwrite_parameters",
    "check_estimators_fit_returns_self", "check_readonly_memmap_input",
    "check_n_features_in_after_fitting", "check_positive_only_tag_during_fit", "check_estimators_dtypes",
    "check_dtype_object", "check_pipeline_consistency", "check_estimators_nan_inf",
    "check_estimators_pickle", "check_f_contiguous_array_estimator",
    "check_transformer_data_not_an_array", "check_transformer_general",
    "check_transformer_preserve_dtypes", "check_methods_sample_order_invariance",
    "check_methods_subset_invariance", "check_fit2d_1sample", "check_fit2d_1feature",
    "check_dict_unchanged", "check_fit_idempotent", "check_fit_check_is_fitted", "check_n_features_in",
    "check_fit2d_predict1d", "check_array_api_input",
]  # fmt: skip


def exceptions(model):
    centred = type(model) is GainModel and model.center
    return dict.fromkeys(WITH_ONE_OUTPUT, ONE_OUTPUT) if centred else {}


# target="precomputed" is not among them: the checks have no square y.
@pytest.mark.slow
@parametrize_with_checks(
    [
        GainModel(center=False),
        GainModel(center=False, method="exact", bounds=(0, None)),
        GainModel(),
        TwoOutputs(),
        TwoOutputs(method="line-search", solver="pcg"),
    ],
    expected_failed_checks=exceptions,
)
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


def test_the_reason_for_each_exception_is_true(X, y):
    for one in (y[:, 0], y[:, :1]):
        with pytest.raises(ValueError, match=r"^Argument 'y' must have two outputs or more for center=True"):
            GainModel().fit(X, one)
        assert GainModel(center=False).fit(X, one).fit_.status == "converged"


def test_tags_say_what_y_may_be():
    for center in (True, False):
        tags = get_tags(GainModel(center=center))
        assert tags.target_tags.required
        assert tags.target_tags.multi_output
        assert tags.target_tags.single_output is not center
        assert tags.requires_fit
        assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]
        assert not tags.input_tags.sparse
        assert not tags.non_deterministic


# --- gains and scores


def test_gains_and_scale_are_their_definition(X, y, center):
    model = GainModel(ridge=300.0, center=center).fit(X, y)
    S, c = naive_target(X, y, center)
    assert_allclose(model.delta_, naive.linear_fit(X.T, S, 300.0, center), rtol=1e-8, atol=1e-12)
    assert_allclose(model.gains_, 1 + model.delta_, rtol=1e-15)
    assert model.target_scale_ == pytest.approx(c, rel=1e-12)
    assert model.n_features_in_ == N


def test_the_score_of_other_conditions_is_its_definition(X, y, center):
    train, test = np.arange(8), np.arange(8, D)
    model = GainModel(ridge=300.0, center=center).fit(X[train], y[train])
    _, c = naive_target(X[train], y[train], center)
    C = naive.covariance(X[test].T, model.gains_, center)
    S = c * naive.covariance(y[test].T, None, center)
    expected, *_ = naive.prediction_scores(C, S, naive.covariance(X[test].T, None, center))
    assert model.score(X[test], y[test]) == pytest.approx(expected, rel=1e-10)


def test_scores_of_float32_are_as_good_as_those_of_float64(X, y):
    model = GainModel().fit(X, y)  # responses are exact in float32
    assert model.score(X.astype(np.float32), y.astype(np.float32)) == pytest.approx(
        model.score(X, y), rel=1e-12
    )


def test_the_score_of_what_was_fitted_is_that_of_the_fit(X, y):
    model = GainModel(method="exact", relative_ridge=0.01).fit(X, y)
    assert model.score(X, y) == pytest.approx(model.fit_.r2, rel=1e-10)
    S = target(D, size=N)
    model = GainModel(method="exact", target="precomputed").fit(X, S)
    assert model.score(X, S) == pytest.approx(model.fit_.r2, rel=1e-10)


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, {"relative_ridge": 0.1}),
        ({"ridge": 50.0}, {"ridge": 50.0}),
        ({"ridge": 0}, {"ridge": 0}),
        ({"relative_ridge": 0.3, "method": "diagonal"}, {"relative_ridge": 0.3, "method": "diagonal"}),
        ({"center": False}, {"relative_ridge": 0.1, "center": False}),
        ({"bounds": (0.9, 1.05)}, {"relative_ridge": 0.1, "bounds": (0.9, 1.05)}),
        ({"solver": "pcg", "tol": 1e-2}, {"relative_ridge": 0.1, "solver": "pcg", "tol": 1e-2}),
        (
            {"method": "exact", "n_starts": 3, "random_state": 5},
            {"relative_ridge": 0.1, "method": "exact", "n_starts": 3, "rng": 5},
        ),
        ({"ridge": "cv", "random_state": 3}, {"ridge": "cv", "rng": 3}),
    ],
    ids=lambda value: ",".join(value) or "none",
)
def test_every_parameter_means_what_it_means_to_fit(X, y, given, asked):
    model = GainModel(**given).fit(X, y)
    expected = fc.fit(X.T, responses=y.T, **asked)
    assert_allclose(model.gains_, expected.gains, rtol=1e-11)
    assert model.fit_.ridge == pytest.approx(expected.ridge, rel=1e-12)
    assert model.fit_.stats["solver"] == expected.stats["solver"]
    assert_allclose(model.fit_.stats.get("losses", 0), expected.stats.get("losses", 0), rtol=1e-11)


def test_max_iterations_end_a_fit(X, y):
    model = GainModel(method="exact", relative_ridge=1e-3, max_iterations=1)
    with pytest.warns(fc.ConvergenceWarning):
        model.fit(X, y)
    assert model.fit_.status == "max-iterations"


def test_one_ridge_a_channel_is_passed_on_as_it_is(X, y, monkeypatch):
    ridges, seen = np.linspace(100.0, 500.0, N), []
    fit = fc.fit

    def spy(*arrays, ridge, **options):
        seen.append(ridge)
        return fit(*arrays, ridge=300.0, **options)

    monkeypatch.setattr("fastcov.sklearn.fit", spy)
    GainModel(ridges).fit(X, y)
    assert seen[0] is ridges


@pytest.mark.parametrize("state", [np.random.RandomState, np.random.default_rng])
def test_a_random_state_draws_starts_and_goes_on(X, y, state):
    def losses(random):
        model = GainModel(method="exact", relative_ridge=1e-3, n_starts=3, random_state=random)
        return model.fit(X, y).fit_.stats["losses"]

    random = state(3)
    first, second = losses(random), losses(random)
    assert_array_equal(first, losses(state(3)))
    assert np.any(first != second)


def test_a_precomputed_target_is_fitted_as_it_is(X):
    S = target(D, size=N)
    model = GainModel(ridge=300.0, target="precomputed").fit(X, S)
    assert_allclose(model.delta_, naive.linear_fit(X.T, S, 300.0), rtol=1e-8, atol=1e-12)
    assert model.target_scale_ == 1.0


def test_gains_do_not_depend_on_the_layout_of_responses_and_these_are_not_written_to(X, y):
    expected = GainModel().fit(X, y).gains_
    for values in (np.asfortranarray(X), X[::-1].copy()[::-1], X.tolist(), pd.DataFrame(X)):
        assert_allclose(GainModel().fit(values, y).gains_, expected, rtol=1e-12)
    before = X.copy(), y.copy()
    for array in (X, y):
        array.flags.writeable = False
    model = GainModel(method="exact").fit(X, y)
    model.transform(X)
    model.score(X, y)
    assert_array_equal(X, before[0])
    assert_array_equal(y, before[1])


def test_large_channels_first_responses_are_not_copied(monkeypatch):
    seen = []
    fit = fc.fit
    monkeypatch.setattr("fastcov.sklearn.fit", lambda X, S, **options: seen.append(X) or fit(X, S, **options))
    responses = data(N, D)
    GainModel().fit(responses.T, data(M, D, seed=9).T)
    assert np.shares_memory(seen[0], responses)
    assert seen[0].values.flags.c_contiguous


# --- transform


def test_transform_multiplies_by_the_gains_in_the_precision_of_responses(X, y, dtype):
    model = GainModel().fit(X.astype(dtype), y)
    new = data(N, 5, dtype, seed=4).T
    result = model.transform(new)
    assert result.dtype == dtype
    assert_allclose(result, new * model.gains_, rtol=4 * np.finfo(dtype).eps)
    assert_array_equal(GainModel().fit_transform(X.astype(dtype), y), model.transform(X.astype(dtype)))


def test_the_covariance_of_what_is_transformed_is_that_of_the_fit(X, y):
    model = GainModel(method="exact").fit(X, y)
    assert_allclose(fc.covariance(model.transform(X).T), model.fit_.covariance(), rtol=1e-10, atol=1e-10)


def test_names_of_channels_are_kept(X, y):
    frame = pd.DataFrame(
        X, columns=[f"glomerulus {i}" for i in range(N)], index=[f"odour {d}" for d in range(D)]
    )
    model = GainModel().fit(frame, pd.DataFrame(y))
    assert_array_equal(model.feature_names_in_, frame.columns)
    assert_array_equal(model.get_feature_names_out(), frame.columns)
    assert_array_equal(GainModel().fit(X, y).get_feature_names_out()[:2], ["x0", "x1"])
    result = model.set_output(transform="pandas").transform(frame)
    pd.testing.assert_frame_equal(result, frame * model.gains_)
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(frame.rename(columns={"glomerulus 0": "other"}))


# --- with the rest of scikit-learn


@pytest.mark.parametrize("method", ["linear", "exact"])
def test_a_search_finds_the_scores_of_cross_validate_on_the_same_folds(X, y, method):
    ridges, folds = [1e-2, 1.0, 1e-1], KFold(4, shuffle=True, random_state=1)
    search = GridSearchCV(GainModel(method=method, tol=1e-10), {"relative_ridge": ridges}, cv=folds).fit(X, y)
    scores = np.array([[search.cv_results_[f"split{f}_test_score"][k] for k in range(3)] for f in range(4)])
    cv = fc.cross_validate(
        X.T, y.T, relative_ridges=ridges, folds=list(folds.split(X)), method=method, tol=1e-10
    )
    assert_allclose(scores, cv.r2, rtol=1e-8)
    # A search chooses by the mean of the scores of folds, and cross_validate by that of all folds together.
    best = ridges[int(np.argmax(cv.r2.mean(axis=0)))]
    assert search.best_params_ == {"relative_ridge": best}
    alone = fc.fit(X.T, responses=y.T, relative_ridge=best, method=method, tol=1e-10)
    assert_allclose(search.best_estimator_.gains_, alone.gains, rtol=1e-7)
    if method == "linear":
        r2, *_ = naive.cross_validation(
            X.T, y.T, ridges, list(folds.split(X)),
            lambda X, S, ridge, center: 1 + naive.linear_fit(X, S, ridge, center), relative=True,
        )  # fmt: skip
        # 7 products find the largest eigenvalue to some digits, and the score moves with the ridge.
        assert_allclose(scores, r2, rtol=1e-3)


@pytest.mark.slow
def test_a_search_runs_in_processes(X, y):
    grid = {"relative_ridge": [1e-2, 1e-1], "method": ["linear", "exact"]}
    one, two = (GridSearchCV(GainModel(), grid, cv=3, n_jobs=n).fit(X, y) for n in (1, 2))
    assert_allclose(
        two.cv_results_["mean_test_score"], one.cv_results_["mean_test_score"], rtol=1e-9, atol=1e-9
    )


def test_a_pipeline_fits_scores_and_names_what_went_before(X, y):
    names = [f"c{i}" for i in range(N)]
    pipeline = make_pipeline(StandardScaler(with_mean=False), GainModel(method="exact"))
    pipeline.fit(pd.DataFrame(X, columns=names), y)
    scaled = X / X.std(axis=0)
    alone = GainModel(method="exact").fit(scaled, y)
    assert_allclose(pipeline[-1].gains_, alone.gains_, rtol=1e-7)
    assert pipeline.score(pd.DataFrame(X, columns=names), y) == pytest.approx(
        alone.score(scaled, y), rel=1e-7
    )
    assert_array_equal(pipeline.get_feature_names_out(), names)
    grid = {"gainmodel__relative_ridge": [1e-2, 1e-1]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_gains_in_the_middle_of_a_pipeline_are_handed_on(X, y):
    pipeline = make_pipeline(GainModel(), FunctionTransformer(np.sqrt, feature_names_out="one-to-one"))
    model = GainModel().fit(np.abs(X), y)
    assert_allclose(pipeline.fit_transform(np.abs(X), y), np.sqrt(model.transform(np.abs(X))), rtol=1e-12)


def test_clones_and_pickles_are_the_same_model(X, y):
    given = GainModel(
        np.arange(1.0, N + 1), method="exact", bounds=(0, None), n_starts=2, target="precomputed"
    )
    copy = clone(given)
    assert_array_equal(copy.ridge, given.ridge)
    others = {name: value for name, value in given.get_params().items() if name != "ridge"}
    assert {name: value for name, value in copy.get_params().items() if name != "ridge"} == others
    assert set(others) | {"ridge"} == {
        "ridge", "relative_ridge", "method", "target", "center", "bounds", "solver", "tol", "max_iterations",
        "random_state", "n_starts", "nuisance", "pairs",
    }  # fmt: skip
    model = GainModel(method="exact").fit(X, y)
    assert not hasattr(clone(model), "gains_")
    loaded = pickle.loads(pickle.dumps(model))
    assert_array_equal(loaded.gains_, model.gains_)
    assert loaded.score(X, y) == model.score(X, y)
    assert repr(loaded.fit_) == repr(model.fit_)
    assert loaded.set_params(method="linear", ridge=3.0).get_params()["ridge"] == 3.0


def test_a_covariance_can_be_cross_validated_as_responses(X):
    """The recipe of the docstring."""
    S = target(D, size=N)
    w, V = np.linalg.eigh(S)
    R = V * np.sqrt(w.clip(0))
    y = np.hstack([R, -R])
    model = GainModel().fit(X, y)
    scaled = S * np.trace(naive.covariance(X.T)) / np.trace(S)
    assert_allclose(model.gains_, GainModel(target="precomputed").fit(X, scaled).gains_, rtol=1e-9)
    assert np.isfinite(cross_val_score(GainModel(), X, y, cv=3)).all()


# --- what is refused


def test_a_covariance_cut_by_a_search_says_what_to_do(X):
    S = target(D, size=N)
    with pytest.raises(ValueError, match=r"^Argument 'y' must be 8 x 8 .* pass responses to cross-validate"):
        cross_val_score(GainModel(target="precomputed"), X, S, cv=KFold(3), error_score="raise")


def test_one_condition_held_out_has_no_score(X, y):
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        cross_val_score(GainModel(), X, y, cv=LeaveOneOut(), error_score="raise")


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda X, y: (X, y[:-1]), ValueError, "inconsistent numbers of samples"),
        (lambda X, y: (X, None), ValueError, "requires y to be passed"),
        (lambda X, y: (scipy.sparse.csr_array(X), y), TypeError, "Sparse data was passed for X"),
        (lambda X, y: (X, scipy.sparse.csr_array(y)), TypeError, "Sparse data was passed for y"),
        (lambda X, y: (np.ma.array(X), y), TypeError, "^Argument 'X' must be an array without a mask"),
        (lambda X, y: (X, np.ma.array(y)), TypeError, "^Argument 'y' must be an array without a mask"),
        (lambda X, y: (X * 1j, y), ValueError, "Complex data not supported"),
        (lambda X, y: (X, np.where(y > 2, np.nan, y)), ValueError, "Input y contains NaN"),
        (lambda X, y: (X[:, 0], y), ValueError, "Expected 2D array"),
        (lambda X, y: (X, y[..., np.newaxis]), ValueError, "dim 3"),
        (lambda X, y: (X, np.ones((D, 3))), ValueError, "must vary over its channels"),
    ],
)
def test_wrong_arrays_are_refused(X, y, change, kind, message):
    X_bad, y_bad = change(X, y)
    with pytest.raises(kind, match=message):
        GainModel().fit(X_bad, y_bad)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"target": "covariance"}, ValueError, "^Argument 'target' must be one of"),
        ({"method": "best"}, ValueError, "^Argument 'method' must be one of"),
        ({"ridge": 1.0, "relative_ridge": 1.0}, ValueError, "not both"),
        ({"relative_ridge": -1.0}, ValueError, "^Argument 'relative_ridge' must be"),
        ({"center": "yes"}, TypeError, "^Argument 'center' must be True or False"),
    ],
)
def test_wrong_parameters_are_refused_by_fit_alone(X, y, given, kind, message):
    model = GainModel(**given)
    with pytest.raises(kind, match=message):
        model.fit(X, y)


def test_a_target_must_be_square_and_symmetric(X, y):
    model = GainModel(target="precomputed")
    with pytest.raises(ValueError, match=r"^Argument 'y' must be 12 x 12 .* not of shape \(12, 25\)"):
        model.fit(X, y)
    S = target(D, size=N)
    model.fit(X, S)
    S[0, 1] += 1.0
    for method in (model.fit, model.score):
        with pytest.raises(ValueError, match="must be symmetric"):
            method(X, S)


def test_what_was_not_fitted_or_has_other_channels_is_refused(X, y):
    for method in ("transform", "score"):
        with pytest.raises(NotFittedError):
            getattr(GainModel(), method)(*(X, y)[: 1 + (method == "score")])
    model = GainModel().fit(X, y)
    with pytest.raises(ValueError, match="X has 29 features, but GainModel is expecting 30"):
        model.transform(X[:, 1:])
    with pytest.raises(ValueError, match="X has 29 features, but GainModel is expecting 30"):
        model.score(X[:, 1:], y)
    with pytest.raises(TypeError, match=r"^Argument 'X' must be an array without a mask"):
        model.transform(np.ma.array(X))


def test_the_score_of_a_target_of_zero_is_not_a_number_to_choose_by(X, y):
    model = GainModel(center=False).fit(X, y)
    assert model.score(X, np.zeros_like(y)) == -np.inf


@pytest.mark.slow
def test_scikit_learn_is_imported_with_its_door_alone():
    script = (
        "import sys, numpy as np, fastcov as fc; sim = fc.datasets.simulate(8, 6);"
        "fc.cross_validate(sim.X, sim.Y, folds=2); before = 'sklearn' in sys.modules;"
        "fc.sklearn.GainModel; print(before, 'sklearn' in sys.modules)"
    )
    assert run_python(script).split() == ["False", "True"]


def test_the_fit_knows_the_names_of_the_features():
    sim = fc.datasets.simulate(12, 8, rng=0)
    names = [f"glomerulus {i}" for i in range(12)]
    model = GainModel().fit(pd.DataFrame(sim.X.T, columns=names), sim.Y.T)
    assert model.fit_.channels == tuple(names)


# --- names of conditions

ODOURS = [f"odour {i}" for i in range(D)]
MIXED = np.random.default_rng(4).permutation(D)


@pytest.mark.parametrize("kind", ["pandas", "xarray"])
@pytest.mark.parametrize("made", ["words", "numbers in words", "days"])
def test_named_conditions_in_another_order_are_refused_by_fit_and_score(X, y, kind, made):
    names = {
        "words": ODOURS, "numbers in words": list(map(str, range(D))),
        "days": pd.date_range("2020-01-01", periods=D),
    }[made]  # fmt: skip
    wrap = (lambda frame: frame) if kind == "pandas" else pytest.importorskip("xarray").DataArray
    x, other = wrap(pd.DataFrame(X, names)), wrap(pd.DataFrame(y, names).iloc[MIXED])
    model = GainModel(ridge=300.0).fit(x, wrap(pd.DataFrame(y, names)))
    assert_array_equal(model.gains_, GainModel(ridge=300.0).fit(X, y).gains_)
    first = int(np.flatnonzero(np.arange(D) != MIXED)[0])
    own, wanted = (str(np.asarray(pd.Index(names).astype(str))[i]) for i in (MIXED[first], first))
    match = rf"^Argument 'y' must have the conditions of 'X' in the same order, not '{own}.*' for '{wanted}"
    match += rf".*' in row {first}: pass y\.loc\[X\.index\], or y\.to_numpy\(\)"
    for method in (model.fit, model.score):
        with pytest.raises(ValueError, match=match):
            method(x, other)
    S = wrap(pd.DataFrame(naive.covariance(y.T), names, names).iloc[MIXED, MIXED])
    with pytest.raises(ValueError, match=match):
        GainModel(target="precomputed").fit(x, S)


def test_the_columns_of_a_covariance_must_be_in_the_order_of_its_rows(X, y):
    S = pd.DataFrame(naive.covariance(y.T), ODOURS, ODOURS)
    x = pd.DataFrame(X, ODOURS)
    GainModel(target="precomputed").fit(x, S)
    with pytest.raises(ValueError, match="must have the conditions of 'X' in the same order"):
        GainModel(target="precomputed").fit(x, S.iloc[:, MIXED])


def test_one_output_with_names_in_another_order_is_refused(X, y):
    series = pd.Series(y[:, 0], ODOURS)
    model = GainModel(ridge=300.0, center=False)
    found = model.fit(pd.DataFrame(X, ODOURS), series).gains_
    assert_allclose(found, model.fit(X, y[:, 0]).gains_, rtol=1e-12)
    with pytest.raises(ValueError, match="must have the conditions of 'X' in the same order"):
        model.fit(pd.DataFrame(X, ODOURS), series.iloc[MIXED])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [range(D), range(5, 5 + D), MIXED], ids=["counted", "numbers", "mixed"])
@pytest.mark.parametrize(
    "others", [range(D), range(6, 6 + D), MIXED[::-1]], ids=["counted", "numbers", "mixed"]
)
def test_rows_belong_together_by_place_whatever_numbers_an_index_has(X, y, names, others):
    wanted = GainModel().fit(X, y)
    x, other = pd.DataFrame(X, names), pd.DataFrame(y, others)
    assert_array_equal(GainModel().fit(x, other).gains_, wanted.gains_)
    assert wanted.score(x, other) == wanted.score(X, y)
    S = naive.covariance(y.T)
    found = GainModel(target="precomputed").fit(x, pd.DataFrame(S, others, others)).gains_
    assert_array_equal(found, GainModel(target="precomputed").fit(X, S).gains_)


def test_other_conditions_are_refused_by_name(X, y):
    x, other = pd.DataFrame(X, ODOURS), pd.DataFrame(y, ODOURS).rename(index={"odour 3": "nonanal"})
    with pytest.raises(ValueError, match="not 'nonanal' for 'odour 3' in row 3: pass"):
        GainModel().fit(x, other)


@pytest.mark.filterwarnings("error")
def test_what_has_no_names_or_others_by_kind_is_not_compared(X, y):
    wanted = GainModel().fit(X, y).gains_
    counted, words = range(D), ODOURS[::-1]
    frames = {
        each: (X if each is None else pd.DataFrame(X, each), y if each is None else pd.DataFrame(y, each))
        for each in (None, counted, range(5, 5 + D), range(100, 100 + D), tuple(words))
    }
    for x, _ in frames.values():
        for _, other in frames.values():
            assert_array_equal(GainModel().fit(x, other).gains_, wanted)


@pytest.mark.filterwarnings("error")
def test_names_that_repeat_in_both_are_no_obstacle(X, y):
    rows = np.array([0, 0, 1, 2, 3, 4, 5, 5, 6, 7])
    x, other = pd.DataFrame(X, ODOURS).iloc[rows], pd.DataFrame(y, ODOURS).iloc[rows]
    assert_allclose(GainModel().fit(x, other).gains_, GainModel().fit(X[rows], y[rows]).gains_, rtol=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("rows", "others"),
    [(ODOURS, ODOURS), (range(D), range(D)), (range(D), ODOURS), (ODOURS, range(D)), (ODOURS, None),
     (range(D), range(100, 100 + D))],
)  # fmt: skip
def test_a_search_over_frames_is_that_over_arrays(X, y, rows, others):
    x, other = pd.DataFrame(X, rows), y if others is None else pd.DataFrame(y, others)
    folds = KFold(3, shuffle=True, random_state=0)
    grid = {"relative_ridge": [0.1, 1.0]}
    found = GridSearchCV(GainModel(), grid, cv=folds, error_score="raise").fit(x, other)
    wanted = GridSearchCV(GainModel(), grid, cv=folds).fit(X, y)
    assert_allclose(found.cv_results_["mean_test_score"], wanted.cv_results_["mean_test_score"], rtol=1e-9)


def test_a_search_over_frames_in_different_orders_is_refused(X, y):
    names = np.array(ODOURS)
    x, other = pd.DataFrame(X, names), pd.DataFrame(y, names).iloc[MIXED]
    with pytest.raises(ValueError, match="must have the conditions of 'X' in the same order"):
        cross_val_score(GainModel(), x, other, cv=3, error_score="raise")
    assert_allclose(
        cross_val_score(GainModel(), x, other.loc[x.index], cv=3), cross_val_score(GainModel(), X, y, cv=3)
    )
