"""Fit.apply: what gains predict for other conditions."""

import dataclasses

import naive
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc

N, M, D, OLD = 30, 25, 14, 9
SIM = fc.datasets.simulate(N, D, rng=0)
X, Y = SIM.X + 1.0, SIM.Y[:M]
TRAIN, TEST = slice(None, OLD), slice(OLD, None)
CHANNELS = [f"g{i}" for i in range(N)]
ODOURS = [f"o{j}" for j in range(D)]
XF, YF = pd.DataFrame(X, CHANNELS, ODOURS), pd.DataFrame(Y, columns=ODOURS)


def fitted(center=True, **options):
    options = {"responses": Y[:, TRAIN], "relative_ridge": 0.05, "method": "exact"} | options
    return fc.fit(X[:, TRAIN], **options, center=center)


def scale(center):
    traces = [np.trace(naive.covariance(A[:, TRAIN], None, center)) for A in (X, Y)]
    return traces[0] / traces[1]


def test_predictions_are_those_of_the_definitions(center):
    fit = fitted(center)
    z = fit.gains
    S = scale(center) * naive.covariance(Y[:, TEST], None, center)
    C, at_one = (naive.covariance(X[:, TEST], gains, center) for gains in (z, None))
    r2, over_one, pearson = naive.prediction_scores(C, S, at_one)
    for given in ({"responses": Y[:, TEST]}, {"S": S}):
        found = fit.apply(X[:, TEST], **given)
        assert_allclose(found.covariance, C, rtol=1e-10)
        assert_allclose(found.target, S, rtol=1e-10)
        assert_allclose(found.responses, z[:, np.newaxis] * X[:, TEST], rtol=1e-14)
        assert found.r2 == pytest.approx(r2, rel=1e-9)
        assert found.r2_over_one == pytest.approx(over_one, rel=1e-9)
        assert found.pearson == pytest.approx(pearson, rel=1e-9)
        assert found.r2_at_one == pytest.approx(naive.prediction_scores(at_one, S, at_one)[0], rel=1e-9)
    assert fit.stats["target_scale"] == pytest.approx(scale(center), rel=1e-12)


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_scores_are_those_of_conditions_held_out_by_cross_validation(method):
    split = np.arange(OLD), np.arange(OLD, D)
    cv = fc.cross_validate(X, Y, folds=[split], relative_ridges=[0.05], method=method)
    found = fitted(method=method).apply(X[:, TEST], responses=Y[:, TEST])
    assert found.r2 == pytest.approx(cv.r2[0, 0], rel=1e-9)
    assert found.r2_over_one == pytest.approx(cv.r2_over_one[0, 0], rel=1e-9)
    assert found.pearson == pytest.approx(cv.pearson[0, 0], rel=1e-9)
    assert found.r2_at_one == pytest.approx(cv.r2_at_one[0], rel=1e-9)


def test_on_the_conditions_that_were_fitted_it_says_what_the_fit_says():
    for fit in (fitted(), *fc.ridge_path(X[:, TRAIN], responses=Y[:, TRAIN], relative_ridges=[0.1, 1])):
        found = fit.apply(X[:, TRAIN], responses=Y[:, TRAIN])
        assert_allclose(found.covariance, fit.covariance(), rtol=1e-9)
        assert_allclose(found.target, fit.target(), rtol=1e-12)
        assert found.r2 == pytest.approx(fit.r2, rel=1e-9)
        assert found.r2_at_one == pytest.approx(fit.stats["r2_at_one"], rel=1e-9)


def test_a_refit_after_cross_validation_knows_its_scale():
    cv = fc.cross_validate(X[:, TRAIN], Y[:, TRAIN], folds=3, method="linear")
    chosen = fc.fit(X[:, TRAIN], responses=Y[:, TRAIN], ridge="cv")
    for fit in (cv.fit, chosen):
        assert fit.stats["target_scale"] == pytest.approx(scale(True), rel=1e-12)


def test_without_a_target_there_is_a_prediction_and_no_score():
    found = fitted().apply(X[:, TEST])
    assert (found.target, found.r2, found.r2_at_one, found.r2_over_one, found.pearson) == (None,) * 5
    assert repr(found).splitlines() == [
        "Applied: 30 channels x 5 conditions",
        "  no target to compare with: pass S or responses",
    ]
    assert found.covariance.shape == (5, 5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.r2 = 1.0


def test_it_prints_its_scores():
    found = fitted().apply(X[:, TEST], responses=Y[:, TEST])
    text = repr(found)
    assert f"R2       {found.r2:.4g} ({found.r2_at_one:.4g} at gains of one)" in text
    assert f"pearson  {found.pearson:.4g}" in text
    page = found._repr_html_()
    assert f"{found.r2:.4g} ({found.r2_at_one:.4g} at gains of one)" in page
    assert "Applied: 30 channels x 5 conditions" in page


def test_each_target_of_a_stack_has_its_prediction():
    S = naive.covariance(Y)
    stack = np.stack([S, 2 * S, 0.5 * S])
    fit = fitted(responses=None, S=stack[:, TRAIN, TRAIN])
    found = fit.apply(X[:, TEST], stack[:, TEST, TEST])
    assert found.responses.shape == (3, N, D - OLD)
    for t, z in enumerate(fit.gains):
        C, at_one = naive.covariance(X[:, TEST], z), naive.covariance(X[:, TEST])
        r2, over_one, pearson = naive.prediction_scores(C, stack[t, TEST, TEST], at_one)
        assert_allclose(found.covariance[t], C, rtol=1e-10)
        assert_allclose(found.responses[t], z[:, np.newaxis] * X[:, TEST], rtol=1e-14)
        assert_allclose(
            (found.r2[t], found.r2_over_one[t], found.pearson[t]), (r2, over_one, pearson), rtol=1e-9
        )
    assert "3 targets" in repr(found)
    assert "(mean)" in repr(found)
    one = fit.apply(X[:, TEST], S[TEST, TEST])
    assert one.r2[0] == pytest.approx(found.r2[0], rel=1e-12)


# ---- names


def test_channels_and_conditions_are_aligned_by_name_and_names_are_kept():
    fit = fc.fit(XF.iloc[:, TRAIN], responses=YF.iloc[:, TRAIN], relative_ridge=0.05, method="exact")
    wanted = fit.apply(X[:, TEST], responses=Y[:, TEST])
    order = np.random.default_rng(0).permutation(N)
    new, other = XF.iloc[order, TEST], YF.iloc[:, TEST].iloc[:, ::-1]
    with (
        pytest.warns(fc.LabelWarning, match="^channels of 'X_new' .* than those of the fit: aligned by name"),
        pytest.warns(fc.LabelWarning, match="^conditions of 'responses' .* than those of 'X_new': "),
    ):
        found = fit.apply(new, responses=other)
    assert_allclose(found.covariance, wanted.covariance, rtol=1e-10)
    assert found.r2 == pytest.approx(wanted.r2, rel=1e-9)
    assert found.conditions == tuple(ODOURS[TEST])
    pd.testing.assert_frame_equal(
        found.responses.loc[CHANNELS], pd.DataFrame(wanted.responses, CHANNELS, ODOURS[TEST]), rtol=1e-12
    )
    S = pd.DataFrame(wanted.target, ODOURS[TEST], ODOURS[TEST]).iloc[::-1, ::-1]
    with pytest.warns(fc.LabelWarning, match="^conditions of 'S' .* than those of 'X_new': "):
        found = fit.apply(XF.iloc[:, TEST], S)
    assert found.r2 == pytest.approx(wanted.r2, rel=1e-9)


def test_responses_are_of_the_kind_that_was_given():
    fit = fitted()
    new = xr.DataArray(
        X[:, TEST], dims=("cell", "odour"), coords={"odour": ODOURS[TEST]}, attrs={"unit": "dF/F"}
    )
    found = fit.apply(new).responses
    assert (found.dims, found.attrs) == (new.dims, new.attrs)
    assert_allclose(found, fit.gains[:, np.newaxis] * X[:, TEST], rtol=1e-14)
    assert fit.apply(X[:, TEST].astype(np.float32)).responses.dtype == np.float32
    S = naive.covariance(Y[:, TRAIN])
    two = fitted(responses=None, S=np.stack([S, 2 * S]))
    frame = two.apply(XF.iloc[:, TEST]).responses
    assert frame.index.names[0] == "target"
    assert_allclose(frame.loc[1], two.gains[1][:, np.newaxis] * X[:, TEST], rtol=1e-14)
    array = two.apply(new).responses
    assert (array.dims, array.shape) == (("target", "cell", "odour"), (2, N, D - OLD))


def test_responses_in_a_file_are_read_by_rows(tmp_path):
    np.save(tmp_path / "x.npy", X[:, TEST])
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    found, wanted = (fitted().apply(each, responses=Y[:, TEST]) for each in (stored, X[:, TEST]))
    assert_allclose(found.covariance, wanted.covariance, rtol=1e-12)
    assert_array_equal(found.responses, wanted.responses)


@pytest.mark.parametrize("size", [1e-60, 1e60])
def test_sizes_far_from_one_change_nothing_but_the_units(size):
    fit = fc.fit(X[:, TRAIN] * size, responses=Y[:, TRAIN], relative_ridge=0.05)
    plain = fc.fit(X[:, TRAIN], responses=Y[:, TRAIN], relative_ridge=0.05)
    found = fit.apply(X[:, TEST] * size, responses=Y[:, TEST])
    wanted = plain.apply(X[:, TEST], responses=Y[:, TEST])
    assert found.r2 == pytest.approx(wanted.r2, rel=1e-9)
    assert_allclose(found.covariance / size**2, wanted.covariance, rtol=1e-9)
    assert_allclose(found.responses / size, wanted.responses, rtol=1e-9)


# ---- refused


def refused(call, *words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    for word in ("Argument '", *words):
        assert word in str(caught.value)


def test_what_does_not_belong_to_the_fit_is_refused():
    fit = fitted()
    new, S = X[:, TEST], naive.covariance(Y[:, TEST])
    refused(lambda: fit.apply(new[1:]), "'X_new' must have the 30 channels", "not 29", "transpose it")
    refused(lambda: fit.apply(new, S, responses=Y[:, TEST]), "at most one of the two, not both")
    refused(lambda: fit.apply(new, responses=Y), "'responses' must have the 5 conditions", "not 14")
    refused(lambda: fit.apply(new, S[1:, 1:]), "'S' must be 5 x 5")
    refused(lambda: fit.apply(np.where(new > 2, np.nan, new)), "'X_new' must be finite")
    refused(lambda: fit.apply(new, np.stack([S, S])), "'S' must be one target", "each of the 1", "not 2")
    given_s = fitted(responses=None, S=naive.covariance(Y[:, TRAIN]))
    refused(lambda: given_s.apply(new, responses=Y[:, TEST]), "where the fit was given S", "Pass S")
    named = fc.fit(XF.iloc[:, TRAIN], responses=Y[:, TRAIN], ridge=1)
    refused(
        lambda: named.apply(XF.iloc[1:, TEST]), "'X_new' must have the channels of the fit", "without 'g0'"
    )
    other = YF.iloc[:, TEST].rename(columns={"o13": "p"})
    refused(
        lambda: named.apply(XF.iloc[:, TEST], responses=other),
        "'responses' must have the conditions of 'X_new', not be without 'o13' and with 'p'",
    )


def test_responses_that_do_not_fit_the_memory_are_refused_beforehand(little_memory):
    found = fitted().apply(X[:, TEST])
    with pytest.raises(MemoryError, match="Responses of 30 x 5"):
        little_memory(lambda: found.responses)


def test_one_new_condition_has_no_correlation_over_pairs():
    sim = fc.datasets.simulate(20, 6, rng=0)
    applied = fc.fit(sim.X, sim.S, relative_ridge=0.1).apply(sim.X[:, :1], sim.S[:1, :1])
    assert np.isnan(applied.pearson)
    assert np.isfinite(applied.r2)
