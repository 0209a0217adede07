"""Missing values: means over the trials that are there, and covariances of the channels that are there."""

import inspect
import pathlib
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from cases import data
from hypothesis import given
from hypothesis import strategies as st

import fastcov as fc
from fastcov._inputs.trials import nearest_factor, pairwise_covariance

N, M, D, T = 14, 12, 7, 4
OPTIONS = {"relative_ridge": 0.1}
PAIRWISE = {"nan_policy": "pairwise"}
RIDGES = {"relative_ridges": [0.1, 1.0], "method": "linear", "folds": 3}
X, Y = data(N, D), data(M, D, seed=9)
Y3 = Y + 0.5 * np.random.default_rng(1).standard_normal((T, M, D))


def without(values, share=0.2, seed=0):
    """A copy in which some values are NaN."""
    return np.where(np.random.default_rng(seed).random(values.shape) < share, np.nan, values)


def positive(C):
    """The nearest positive semi-definite matrix, and how far away it is."""
    values, vectors = np.linalg.eigh(C)
    near = (vectors * values.clip(0)) @ vectors.T
    return near, np.linalg.norm(near - C) / np.linalg.norm(C)


def by_pairs(Y, center=True):
    """The covariance of the rows that have both conditions, scaled to all rows, as pandas has it."""
    if center:
        return pd.DataFrame(Y).cov().to_numpy() * (len(Y) - 1)
    found = np.empty((Y.shape[1],) * 2)
    for i in range(len(found)):
        for j in range(len(found)):
            both = np.isfinite(Y[:, i]) & np.isfinite(Y[:, j])
            found[i, j] = len(Y) / both.sum() * (Y[both, i] @ Y[both, j])
    return found


FEW3 = without(Y3, 0.3, seed=2)
assert np.isfinite(FEW3).any(axis=0).all()
assert np.isnan(FEW3).any()


# --- means over the trials that are there


def test_means_are_over_the_trials_that_are_there():
    mean = np.nanmean(FEW3, axis=0)
    for policy in ("omit-trials", "pairwise"):
        options = {"nan_policy": policy}
        S = fc.target_covariance(FEW3, like=X, **options)
        np.testing.assert_allclose(S, fc.target_covariance(mean, like=X), atol=1e-12)
        np.testing.assert_allclose(fc.covariance(FEW3, **options), fc.covariance(mean), atol=1e-12)
        fit = fc.fit(X, responses=FEW3, **options, **OPTIONS)
        np.testing.assert_allclose(fit.gains, fc.fit(X, responses=mean, **OPTIONS).gains, atol=1e-12)
        assert fit.stats["trials"]["responses"]["missing"] == np.isnan(FEW3).sum()
        cv = fc.cross_validate(X, FEW3, **options, **RIDGES)
        wanted = fc.cross_validate(X, mean, **RIDGES)
        np.testing.assert_allclose(cv.scores["linear"].r2, wanted.scores["linear"].r2, atol=1e-10)


def test_channels_of_x_may_lack_trials_too():
    X3 = without(X + 0.1 * np.random.default_rng(5).standard_normal((5, N, D)), 0.2)
    mean = np.nanmean(X3, axis=0)
    fit = fc.fit(X3, responses=Y, nan_policy="omit-trials", **OPTIONS)
    np.testing.assert_allclose(fit.gains, fc.fit(mean, responses=Y, **OPTIONS).gains, atol=1e-12)
    options = {"shuffles": 19, **RIDGES}
    test = fc.permutation_test(X3, FEW3, nan_policy="omit-trials", **options)
    wanted = fc.permutation_test(mean, np.nanmean(FEW3, axis=0), **options)
    np.testing.assert_allclose(test.null, wanted.null, atol=1e-10)


def test_the_noise_is_that_of_the_trials_that_are_there():
    record = fc.fit(X, responses=FEW3, nan_policy="omit-trials", **OPTIONS).stats["trials"]["responses"]
    counts = np.isfinite(FEW3).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.nansum((FEW3 - np.nanmean(FEW3, axis=0)) ** 2, axis=0)
        variance = np.where(counts > 1, left / (counts - 1) / counts, np.nan)
    np.testing.assert_allclose(record["noise_variance"], np.nanmean(variance, axis=0), rtol=1e-12)


# --- covariances of the channels that are there


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_pairs_have_the_covariance_of_the_channels_with_both(share, center):
    few = without(Y, share) + (0.0 if center else 1.0)
    wanted, moved = positive(by_pairs(few, center))
    with pytest.warns(fc.MissingValuesWarning, match=rf"{np.isnan(few).sum()} missing values of 84") as said:
        S = fc.target_covariance(few, center=center, nan_policy="pairwise")
    np.testing.assert_allclose(S, wanted, atol=1e-11 * np.abs(wanted).max())
    assert f"moved by {moved:.2g} of its norm" in str(said[0].message)
    assert said[0].filename == __file__
    with pytest.warns(fc.MissingValuesWarning):
        scaled = fc.target_covariance(few, like=X, center=center, nan_policy="pairwise")
    trace = np.trace(fc.covariance(X, center=center))
    np.testing.assert_allclose(scaled, S * trace / np.trace(S), atol=1e-11 * trace)
    with pytest.warns(fc.MissingValuesWarning):
        np.testing.assert_allclose(fc.covariance(few, center=center, nan_policy="pairwise"), S, atol=1e-11)


def test_an_indefinite_matrix_is_moved_and_the_record_says_how_far():
    few = without(Y, 0.45, seed=4)
    wanted, moved = positive(by_pairs(few))
    assert moved > 0.01
    with pytest.warns(fc.MissingValuesWarning):
        fit = fc.fit(X, responses=few, nan_policy="pairwise", **OPTIONS)
    record = fit.stats["trials"]["responses"]
    assert record["moved"] == pytest.approx(moved, rel=1e-9)
    assert (record["missing"], record["n_channels"]) == (np.isnan(few).sum(), M)
    assert fit.stats["n_responses"] == M
    scale = np.trace(fc.covariance(X)) / np.trace(wanted)
    np.testing.assert_allclose(fit.target(), scale * wanted, atol=1e-10 * np.abs(scale * wanted).max())
    np.testing.assert_allclose(fit.stats["target_scale"], scale, rtol=1e-10)
    np.testing.assert_allclose(fit.gains, fc.fit(X, scale * wanted, **OPTIONS).gains, atol=1e-9)


@given(st.integers(0, 1000), st.integers(1, 12))
def test_no_positive_matrix_is_nearer(seed, n):
    random = np.random.default_rng(seed)
    C = random.standard_normal((n, n))
    C = C + C.T
    factor, moved = nearest_factor(C)
    near, wanted = positive(C)
    size = n * np.abs(C).max()
    np.testing.assert_allclose(factor.T @ factor, near, atol=1e-13 * size)
    assert moved == pytest.approx(wanted, abs=1e-13)
    other = random.standard_normal((n, n))
    assert np.linalg.norm(other @ other.T - C) >= np.linalg.norm(near - C) * (1 - 1e-12)


def test_without_gaps_pairs_give_the_covariance_itself():
    there = np.ones_like(Y)
    np.testing.assert_allclose(pairwise_covariance("Y", Y, there, True), fc.covariance(Y), atol=1e-12)
    np.testing.assert_array_equal(fc.target_covariance(Y, nan_policy="pairwise"), fc.target_covariance(Y))
    np.testing.assert_array_equal(fc.covariance(Y, nan_policy="omit-trials"), fc.covariance(Y))


def test_gaps_at_random_leave_no_bias():
    random, cells = np.random.default_rng(0), data(60, 5)
    true = fc.covariance(cells)
    found = np.array([
        pairwise_covariance("Y", np.where(there, cells, 0.0), there.astype(float), True)
        for there in random.random((600, 60, 5)) > 0.3
    ])  # fmt: skip
    error = found.std(axis=0) / len(found) ** 0.5
    # n_ij varies from set to set, which moves the mean by some 1 / n of the spread.
    assert (np.abs(found.mean(axis=0) - true) < 4 * error).all()


def test_a_large_offset_costs_no_digits():
    few = without(Y, 0.2)
    with pytest.warns(fc.MissingValuesWarning):
        S, shifted = (fc.target_covariance(few + offset, nan_policy="pairwise") for offset in (0.0, 2.0**20))
    np.testing.assert_allclose(shifted, S, atol=1e-8 * np.abs(S).max())


@pytest.mark.filterwarnings("ignore::fastcov.MissingValuesWarning")
@pytest.mark.parametrize("exponent", [-230, -60, 60, 230])
def test_units_do_not_matter(exponent):
    few = without(Y)
    scaled = np.ldexp(few, exponent)
    wanted, found = (fc.target_covariance(each, **PAIRWISE) for each in (few, scaled))
    matched, same = (fc.target_covariance(each, like=X, **PAIRWISE) for each in (few, scaled))
    np.testing.assert_allclose(np.ldexp(found, -2 * exponent), wanted, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(same, matched, rtol=1e-12, atol=1e-14)


def test_folds_scale_the_pairs_of_their_training_conditions():
    few = without(Y, 0.15)
    S, _ = positive(by_pairs(few))
    with pytest.warns(fc.MissingValuesWarning):
        cv = fc.cross_validate(X, few, nan_policy="pairwise", **RIDGES)
    C = fc.covariance(X)
    for (train, test), r2 in zip(cv.folds, cv.scores["linear"].r2, strict=True):
        block = np.ix_(train, train)
        scale = np.trace(C[block]) / np.trace(S[block])
        fit = fc.fit(X[:, train], scale * S[block], relative_ridge=0.1)
        P = fc.covariance(X, gains=fit.gains)
        held = np.ix_(test, test)
        wanted = 1 - np.sum((P - scale * S)[held] ** 2) / np.sum((scale * S)[held] ** 2)
        assert r2[0] == pytest.approx(wanted, abs=1e-8)
    assert cv.stats["trials"]["Y"]["n_channels"] == M


def test_names_stay_with_a_table_that_has_gaps():
    odours = [f"o{j}" for j in range(D)]
    few = pd.DataFrame(without(Y, 0.1), columns=odours)
    with pytest.warns(fc.MissingValuesWarning):
        S = fc.target_covariance(few, nan_policy="pairwise")
    assert list(S.index) == list(S.columns) == odours
    array = xr.DataArray(FEW3, dims=("trial", "cell", "odour"), coords={"odour": odours})
    S = fc.target_covariance(array, nan_policy="omit-trials")
    assert (S.dims, list(S["odour"].values)) == (("odour", "odour_2"), odours)
    with pytest.warns(fc.LabelWarning), pytest.warns(fc.MissingValuesWarning):
        fit = fc.fit(
            pd.DataFrame(X, columns=odours), responses=few[odours[::-1]], nan_policy="pairwise", **OPTIONS
        )
    wanted = fc.fit(X, positive(by_pairs(few.to_numpy()))[0], **OPTIONS)
    np.testing.assert_allclose(
        fit.target() / np.trace(fit.target()), wanted.target() / np.trace(wanted.target()), atol=1e-12
    )


def test_the_callers_array_is_not_changed():
    few, kept = without(Y, 0.02), without(Y, 0.02)
    fc.noise_ceiling(few, nan_policy="pairwise")
    with pytest.warns(fc.MissingValuesWarning):
        fc.target_covariance(few, nan_policy="pairwise")
    np.testing.assert_array_equal(few, kept)


# --- noise ceilings


def half_of(Y, half):
    C = by_pairs(Y[half])
    return C[np.triu_indices(D, 1)]


def test_a_ceiling_of_cells_with_gaps_compares_covariances_by_pairs():
    big = data(40, D, seed=3)
    few = without(big, 0.1)
    found = fc.noise_ceiling(few, n_splits=3, nan_policy="pairwise")
    random = np.random.default_rng(0)
    for r in found.reliability["pearson"]:
        order = random.permutation(40)
        a, b = half_of(few, order[:20]), half_of(few, order[20:])
        assert r == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)
    assert found.stats["missing"] == np.isnan(few).sum()
    assert "values are missing" in str(found)


def test_a_ceiling_of_trials_takes_those_that_are_there_in_each_half():
    few = Y3.copy()
    few[0, 2, 3] = few[3, 5, 1] = np.nan
    found = fc.noise_ceiling(few, nan_policy="omit-trials")
    wanted = []
    for a, b in (([0, 1], [2, 3]), ([0, 2], [1, 3]), ([0, 3], [1, 2])):
        means = (np.nanmean(few[half], axis=0) for half in (a, b))
        wanted.append(np.corrcoef(*(half_of(mean, np.arange(M)) for mean in means))[0, 1])
    np.testing.assert_allclose(found.reliability["pearson"], wanted, atol=1e-12)
    few[:2, 2, 3] = np.nan  # the first split has no such trial in one half
    with pytest.raises(
        ValueError, match=r"a trial of each cell and condition in each half.*channel 2, condition 3"
    ):
        fc.noise_ceiling(few, nan_policy="omit-trials")
    pairs = fc.noise_ceiling(few, nan_policy="pairwise").reliability["pearson"]
    means = [np.nanmean(few[2:], axis=0)]
    with pytest.warns(RuntimeWarning, match="Mean of empty slice"):
        means.append(np.nanmean(few[:2], axis=0))
    wanted = np.corrcoef(*(half_of(mean, np.arange(M)) for mean in means))[0, 1]
    assert pairs[0] == pytest.approx(wanted, abs=1e-12)
    assert fc.noise_ceiling(few, by="cells", nan_policy="omit-trials").stats["missing"] == 3


def test_the_page_names_every_function_that_takes_a_policy():
    page = (pathlib.Path(__file__).parents[1] / "docs" / "trials.md").read_text(encoding="utf-8")
    listed = re.search(r"says what to do\. (.*?) take it\.", page, re.DOTALL).group(1)
    public = [name for name in fc.__all__ if inspect.isfunction(getattr(fc, name))]
    taking = {name for name in public if "nan_policy" in inspect.signature(getattr(fc, name)).parameters}
    assert set(re.findall(r"`fc\.(\w+)`", listed)) == taking


# --- errors

GONE = np.where(np.arange(D) == 3, np.nan, Y)
ODOURS = [f"o{j}" for j in range(D)]
APART = np.where(np.arange(M)[:, np.newaxis] % 2 == np.arange(D) % 2, np.nan, Y)
ONE = Y.copy()
ONE[4, 2] = np.nan
NEVER = Y3.copy()
NEVER[:, 4, 2] = np.nan
OMIT = {"nan_policy": "omit-trials"}
ALIKE = np.where(np.eye(M, D) > 0, np.nan, 0.1)
ERRORS = {
    "by default": (lambda: fc.fit(X, responses=ONE, **OPTIONS), "'responses' must be finite.*channel 4"),
    "trials by default": (
        lambda: fc.target_covariance(NEVER),
        "'Y' must be finite.*4 places.*nan_policy='omit-trials'",
    ),
    "no trials to omit": (
        lambda: fc.target_covariance(ONE, **OMIT),
        "channel 4, condition 2.*nan_policy='omit-trials' needs trials",
    ),
    "none of the trials": (
        lambda: fc.fit(X, responses=NEVER, **OMIT, **OPTIONS),
        "'responses' .* not NaN in every trial in 1 place, first at channel 4, condition 2.*or use nan_p",
    ),
    "a condition": (
        lambda: fc.target_covariance(GONE, **PAIRWISE),
        r"not NaN in all of condition 3 \(counted",
    ),
    "a condition of trials": (
        lambda: fc.cross_validate(X, np.stack([GONE, GONE]), **PAIRWISE, **RIDGES),
        "'Y' .* all of condition 3 ",
    ),
    "a named condition": (
        lambda: fc.target_covariance(pd.DataFrame(GONE, columns=ODOURS), **PAIRWISE),
        "condition 3 .'o3'. ",
    ),
    "a condition in a ceiling": (
        lambda: fc.noise_ceiling(GONE, **PAIRWISE),
        r"'Y' .* all of condition 3 \(counted from 0\): leave the condition out\.$",
    ),
    "a condition in a ceiling of trials": (
        lambda: fc.noise_ceiling(np.stack([GONE, GONE]), **PAIRWISE),
        r"'Y' .* all of condition 3 \(counted from 0\): leave the condition out\.$",
    ),
    "a condition of trials to omit": (
        lambda: fc.target_covariance(np.stack([GONE, GONE]), **OMIT),
        r"'Y' .* all of condition 3 \(counted from 0\): leave the condition out\.$",
    ),
    "a condition and no trials to omit": (
        lambda: fc.target_covariance(GONE, **OMIT),
        r"'Y' .* all of condition 3 \(counted from 0\): leave the condition out\.$",
    ),
    "a ceiling by default": (lambda: fc.noise_ceiling(ONE), "'Y' must be finite.*see nan_policy"),
    "a ceiling without trials": (lambda: fc.noise_ceiling(ONE, **OMIT), "needs trials"),
    "a ceiling without all": (lambda: fc.noise_ceiling(NEVER, **OMIT), "every trial in 1 place"),
    "no pair": (
        lambda: fc.target_covariance(APART, **PAIRWISE),
        "2 channels or more with both.*0 for conditions",
    ),
    "channels alike": (
        lambda: fc.target_covariance(ALIKE, like=X, **PAIRWISE),
        "'Y' must vary over its channels, not have a covariance of zero: pass channels that resp",
    ),
    "trials of channels alike": (
        lambda: fc.fit(X, responses=np.stack([ALIKE, ALIKE]), **PAIRWISE, **OPTIONS),
        "'responses' must vary over its channels",
    ),
    "a study of channels alike": (
        lambda: fc.study(X, ALIKE, by="conditions", shuffles=19, **PAIRWISE),
        "'Y' must vary over its channels",
    ),
    "only zeros": (
        lambda: fc.covariance(0.0 * ALIKE, center=False, **PAIRWISE),
        "'X' must have responses other than 0, not have a covariance of zero",
    ),
    "large": (
        lambda: fc.target_covariance(1e160 * ONE, **PAIRWISE),
        r"'Y' must lie between 1e-72 and 1e\+72 in magnitude, not near [0-9.]+e\+160: rescale",
    ),
    "small": (lambda: fc.target_covariance(1e-170 * ONE, **PAIRWISE), "'Y' must lie between 1e-72"),
    "large trials": (lambda: fc.target_covariance(1e160 * NEVER, **PAIRWISE), "'Y' must lie between 1e-72"),
    "X": (
        lambda: fc.fit(np.where(X[3, 1] == X, np.nan, X), responses=Y, **PAIRWISE, **OPTIONS),
        "'X' .*channel 3, condition 1.*gains need all responses of a channel: fill them, or leave out",
    ),
    "gains": (lambda: fc.covariance(ONE, gains=np.ones(M), **PAIRWISE), "gains need all responses"),
    "infinite": (
        lambda: fc.target_covariance(np.where(Y[0, 0] == Y, np.inf, ONE), **PAIRWISE),
        "not infinite",
    ),
    "infinite trials": (
        lambda: fc.target_covariance(np.where(Y3[0, 0, 0] == Y3, np.inf, NEVER), **OMIT),
        "only NaN is a missing",
    ),
    "unknown": (
        lambda: fc.target_covariance(Y, nan_policy="drop"),
        "'nan_policy' must be one of 'raise', 'omit",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_done_without_is_said(case):
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        call()
