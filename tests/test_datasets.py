"""Simulated responses: known gains, reproducible, and like the recordings they stand for."""

import dataclasses
import os

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc
from fastcov import datasets


def statistics(X):
    """Figures by which recordings and simulations are compared."""
    X = np.asarray(X, float)
    responses = X[X != 0]
    centred = (X - X.mean()) / X.std()
    eigenvalues = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1]
    amplitudes = np.sqrt((X**2).mean(axis=1))
    live = X[amplitudes > 0]
    correlations = np.corrcoef(live)[np.triu_indices(len(live), 1)]
    return {
        "zeros": np.mean(X == 0),
        "skewness": np.mean(centred**3),
        "kurtosis": np.mean(centred**4) - 3,
        "mean response": responses.mean(),
        "tail": np.quantile(responses, 0.99) / np.median(responses),
        "amplitude spread": np.log(amplitudes[amplitudes > 0]).std(),
        "mean correlation": correlations.mean(),
        "correlation spread": correlations.std(),
        "first eigenvalue": eigenvalues[0] / eigenvalues.sum(),
        "second eigenvalue": eigenvalues[1] / eigenvalues.sum(),
        "effective rank": eigenvalues.sum() ** 2 / np.square(eigenvalues).sum(),
        "dead": np.mean(amplitudes == 0),
    }


# As in the docstring of `simulate`: the recording, and how far one seed may be from it.
RECORDED = {
    "zeros": (0.755, 0.06),
    "skewness": (3.13, 0.8),
    "kurtosis": (15.95, 6.0),
    "mean response": (0.987, 0.12),
    "tail": (4.21, 1.0),
    "amplitude spread": (0.595, 0.1),
    "mean correlation": (0.133, 0.15),
    "correlation spread": (0.263, 0.08),
    "first eigenvalue": (0.238, 0.1),
    "second eigenvalue": (0.183, 0.1),
    "effective rank": (9.01, 3.0),
    "dead": (0.0207, 0.02),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_simulated_responses_have_the_statistics_of_recorded_ones(seed):
    found = statistics(datasets.simulate(871, 52, rng=seed).X)
    off = {k: (found[k], v) for k, (v, margin) in RECORDED.items() if abs(found[k] - v) > margin}
    assert not off


def test_the_statistics_that_are_written_down_are_those_of_the_recording():
    path = os.environ.get("FASTCOV_REAL_DATA")
    if not path:
        pytest.skip("FASTCOV_REAL_DATA is not set")
    with np.load(path) as file:
        found = statistics(file["glomeruli"])
    assert_allclose([found[k] for k in RECORDED], [v for v, _ in RECORDED.values()], rtol=0.01)


def test_without_noise_the_target_is_the_covariance_at_the_known_gains():
    sim = datasets.simulate(noise=0)
    expected = fc.covariance(sim.X, gains=sim.gains)
    assert_allclose(sim.S, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def test_noise_adds_its_variance_to_the_target():
    clean, noisy = (datasets.simulate(2000, 20, noise=noise) for noise in (0.0, 0.5))
    assert_array_equal(clean.X, noisy.X)
    power = np.square(clean.Y).sum() / clean.Y.size
    added = np.trace(noisy.S - clean.S) / len(clean.X) / 20
    assert added == pytest.approx(0.25 * power, rel=0.05)
    assert np.linalg.norm(noisy.S - clean.S) > 0.01 * np.linalg.norm(clean.S)


def test_target_is_the_covariance_of_the_output_population():
    sim = datasets.simulate(50, 9)
    assert_array_equal(sim.S, fc.covariance(sim.Y))


def test_output_cells_are_the_channels_times_their_gains_in_another_order():
    sim = datasets.simulate(80, 10, noise=0)
    scaled = sim.gains[:, np.newaxis] * sim.X
    assert not np.array_equal(sim.Y, scaled)
    assert_array_equal(sim.Y[np.lexsort(sim.Y.T)], scaled[np.lexsort(scaled.T)])


def test_gains_are_positive_and_lognormal_with_the_spread_asked_for():
    gains = datasets.simulate(20000, 3, gain_spread=0.4).gains
    assert np.all(gains > 0)
    assert np.log(gains).std() == pytest.approx(0.4, rel=0.03)
    assert np.mean(gains**2) == pytest.approx(1.0, rel=0.05)
    assert_array_equal(datasets.simulate(30, 4, gain_spread=0).gains, np.ones(30))


def test_responses_are_zero_or_above_the_floor():
    X = datasets.simulate(200, 30).X
    assert set(np.unique(X[X < 0.45])) == {0.0}


def test_fewer_latent_modes_make_channels_more_alike():
    ranks = [statistics(datasets.simulate(400, 40, n_latent=k).X)["effective rank"] for k in (1, 30)]
    assert ranks[0] < ranks[1]


@pytest.mark.parametrize("rng", [3, [1, 2], np.random.SeedSequence(7)])
def test_same_seed_gives_the_same_data_and_another_seed_others(rng):
    first, second = datasets.simulate(20, 5, rng=rng), datasets.simulate(20, 5, rng=rng)
    for field in dataclasses.fields(first):
        assert_array_equal(getattr(first, field.name), getattr(second, field.name))
    assert not np.array_equal(first.X, datasets.simulate(20, 5, rng=99).X)


def test_a_generator_goes_on_where_it_was():
    generator = np.random.default_rng(0)
    first = datasets.simulate(20, 5, rng=generator)
    assert_array_equal(first.X, datasets.simulate(20, 5).X)
    assert not np.array_equal(first.X, datasets.simulate(20, 5, rng=generator).X)


def test_float32_responses_are_the_float64_ones_rounded():
    single, double = (datasets.simulate(300, 20, dtype=dtype) for dtype in (np.float32, np.float64))
    assert single.X.dtype == single.Y.dtype == np.float32
    assert_array_equal(single.X, double.X.astype(np.float32))
    assert_allclose(single.Y, double.Y, rtol=1e-5, atol=1e-6)
    assert_array_equal(single.gains, double.gains)
    assert_allclose(single.S, double.S, rtol=1e-4, atol=1e-4 * np.abs(double.S).max())


def test_blocks_of_rows_are_simulated_alike(monkeypatch):
    monkeypatch.setattr("fastcov.datasets._responses.BLOCK_SIZE", 64)
    sim = datasets.simulate(200, 10, noise=0)
    assert statistics(sim.X)["zeros"] == pytest.approx(0.75, abs=0.15)
    assert_allclose(sim.S, fc.covariance(sim.X, gains=sim.gains), rtol=1e-12, atol=1e-12)


def test_linear_fit_lowers_the_loss_of_the_default_simulation_and_the_diagonal_fit_does_not():
    sim = datasets.simulate()
    linear, diagonal = (fc.fit(sim.X, sim.S, relative_ridge=0.1, method=m) for m in ("linear", "diagonal"))
    assert linear.loss < 0.6 * linear.loss_at_one
    assert diagonal.loss > 2 * diagonal.loss_at_one


def test_simulation_prints_shapes_and_what_the_gains_explain():
    text = repr(datasets.simulate(60, 12, noise=0))
    assert "60 channels x 12 conditions, float64" in text
    assert "R2 = 1 of it" in text
    assert len(text.splitlines()) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_channels": 1}, ValueError, "'n_channels' must be at least 2, not 1"),
        ({"n_channels": 10.0}, TypeError, "'n_channels' must be a whole number, not 10.0"),
        ({"n_conditions": 0}, ValueError, "'n_conditions' must be at least 1"),
        ({"n_conditions": True}, TypeError, "'n_conditions' must be a whole number, not True"),
        ({"n_latent": 0}, ValueError, "'n_latent' must be at least 1"),
        ({"gain_spread": -1}, ValueError, "'gain_spread' must be a finite number >= 0"),
        ({"gain_spread": 4}, ValueError, "'gain_spread' must be at most 3, not 4"),
        ({"noise": np.nan}, ValueError, "'noise' must be a finite number >= 0"),
        ({"dtype": np.int32}, TypeError, "'dtype' must be float32 or float64"),
        ({"dtype": "nonsense"}, TypeError, "'dtype' must be float32 or float64, not 'nonsense'"),
        ({"rng": "seed"}, TypeError, "'rng' must be what numpy.random.default_rng takes"),
        ({"rng": -1}, ValueError, "'rng' must be what numpy.random.default_rng takes, not -1"),
        ({"n_channels": 10**13}, MemoryError, "ask for fewer channels"),
        ({"n_channels": 10**13, "realistic": True}, MemoryError, "ask for fewer channels"),
        ({"realistic": "yes"}, TypeError, "'realistic' must be True or False, not 'yes'"),
        ({"n_cells": 20}, ValueError, "'n_cells' must be None, not 20: pass realistic=True, too"),
        ({"hidden": 0.5}, ValueError, "'hidden' must be None, not 0.5: pass realistic=True, too"),
        ({"n_cells": 1, "realistic": True}, ValueError, "'n_cells' must be at least 2, not 1"),
        ({"hidden": 1.5, "realistic": True}, ValueError, "'hidden' must be at most 1, not 1.5"),
        ({"hidden": -0.5, "realistic": True}, ValueError, "'hidden' must be a finite number >= 0"),
    ],
)
def test_bad_arguments_are_named_with_a_remedy(arguments, error, message):
    with pytest.raises(error, match=message):
        datasets.simulate(**arguments)


# --- cells of the same truth, and the realistic mode

SMALL = {"n_channels": 40, "n_conditions": 8}
MODES = {
    "default": {},
    "realistic": {"realistic": True},
    "gains alone": {"realistic": True, "hidden": 0.0, "noise": 0.0},
    "hidden alone": {"realistic": True, "hidden": 1.0, "noise": 0.0},
    "few noisy cells": {"realistic": True, "hidden": 0.3, "noise": 1.5, "n_cells": 6},
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_the_expected_target_is_the_mean_over_fresh_cells(mode):
    sim = datasets.simulate(**SMALL, **MODES[mode], rng=1)
    draws = 4000
    found = np.array([fc.covariance(sim.fresh_cells(seed)) for seed in range(draws)])
    error = found.std(axis=0) / np.sqrt(draws)
    drawn = error > 0  # conditions to which no channel responds have no covariance
    assert_array_equal(sim.expected[~drawn], 0.0)
    apart = (found.mean(axis=0) - sim.expected)[drawn] / error[drawn]
    # 36 correlated entries of unit variance: the largest of so many is above 4.5 once in 4000 times.
    assert np.abs(apart).max() < 4.5
    assert np.sqrt(np.mean(apart**2)) < 2


def test_without_hidden_channels_and_noise_the_expected_target_is_the_covariance_at_the_gains():
    sim = datasets.simulate(**SMALL, **MODES["gains alone"])
    at_gains = fc.covariance(sim.X, gains=sim.gains)
    assert_allclose(sim.expected, at_gains, rtol=1e-10, atol=1e-12 * np.abs(at_gains).max())
    assert np.trace(at_gains) == pytest.approx(np.trace(fc.covariance(sim.X)), rel=1e-12)


def test_hidden_channels_alone_make_a_target_without_the_gains():
    sim = datasets.simulate(**SMALL, **MODES["hidden alone"])
    of_hidden = fc.covariance(sim.hidden)
    scale = np.trace(sim.expected) / np.trace(of_hidden)
    assert_allclose(sim.expected, scale * of_hidden, rtol=1e-10, atol=1e-12 * np.abs(sim.expected).max())


def test_the_default_target_is_expected_to_be_that_of_the_gains_and_noise():
    sim = datasets.simulate(30, 6, noise=0.3)
    power = np.mean((sim.gains[:, np.newaxis] * sim.X) ** 2)
    added = 29 * 0.09 * power * np.eye(6)
    assert_allclose(sim.expected, fc.covariance(sim.X, gains=sim.gains) + added, rtol=1e-12)


def test_each_realistic_cell_mixes_two_channels_with_weights_of_sum_one():
    sim = datasets.simulate(20, 30, realistic=True, hidden=0.0, noise=0.0)
    scaled = sim.gains[:, np.newaxis] * sim.X
    live = np.flatnonzero(scaled.any(axis=1))
    pairs = [[i, j] for i in live for j in live if i < j]
    for cell in sim.fresh_cells(3)[:5] / sim._law[2]:
        weights = [np.linalg.lstsq(scaled[pair].T, cell)[0] for pair in pairs]
        errors = [np.sum((w @ scaled[pair] - cell) ** 2) for w, pair in zip(weights, pairs, strict=True)]
        assert min(errors) < 1e-20 * np.sum(cell**2)
        assert weights[int(np.argmin(errors))].sum() == pytest.approx(1.0, rel=1e-8)


@pytest.mark.parametrize("realistic", [False, True])
def test_fresh_cells_are_of_the_same_seed_the_same_and_of_another_others(realistic):
    sim = datasets.simulate(**SMALL, realistic=realistic, dtype=np.float32)
    first = sim.fresh_cells(3)
    assert first.dtype == np.float32
    assert first.shape == sim.Y.shape
    assert_array_equal(first, sim.fresh_cells(3))
    assert not np.array_equal(first, sim.fresh_cells(4))
    assert sim.fresh_cells(3, n_cells=5).shape == (5, 8)
    with pytest.raises(ValueError, match="'n_cells' must be at least 2, not 1"):
        sim.fresh_cells(n_cells=1)


def test_cells_of_other_data_are_not_drawn():
    sim = datasets.Simulation(np.eye(3), np.eye(3), np.eye(3), np.ones(3))
    with pytest.raises(ValueError, match=r"must be made by fastcov\.datasets\.simulate"):
        sim.fresh_cells()


def test_responses_of_realistic_cells_are_missing_as_often_as_noise_says():
    quiet, noisy = (
        datasets.simulate(200, 30, realistic=True, noise=noise, n_cells=4000).Y for noise in (0.0, 1.0)
    )
    left = np.mean(noisy != 0) / np.mean(quiet != 0)
    assert left == pytest.approx(0.5, abs=0.01)  # 1 / (1 + noise²), of 120,000 responses


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_realistic_channels_have_the_statistics_of_recorded_ones(seed):
    sim = datasets.simulate(871, 52, rng=seed, realistic=True)
    found = statistics(sim.X)
    off = {k: (found[k], v) for k, (v, margin) in RECORDED.items() if abs(found[k] - v) > margin}
    assert not off
    assert sim.Y.shape == (642, 52)
    assert np.mean(sim.Y == 0) == pytest.approx(0.70, abs=0.06)
    assert np.log(sim.gains).std() == pytest.approx(0.8, rel=0.05)
    assert_array_equal(np.unique(sim.animals), [1, 2, 3, 4, 5])
    assert len(sim.animals) == 871


@pytest.mark.slow
def test_realistic_gains_predict_held_out_conditions_about_as_badly_as_recorded_ones():
    found = []
    for seed in range(4):
        sim = datasets.simulate(871, 52, rng=seed, realistic=True)
        cv = fc.cross_validate(sim.X, sim.Y, relative_ridges=[0.03, 0.01], folds=5, refit=None)
        baselines = [cv.baseline(name, "r2")[0] for name in ("one", "no-x")]
        found.append([*(cv.summary("exact", s)[0].max() for s in ("r2", "cross-pearson")), *baselines])
    # Recordings 0.51, 0.58, 0.13, 0.59; the mean over ten seeds is 0.59, 0.63, 0.30, 0.59.
    assert_allclose(np.mean(found, axis=0), [0.55, 0.6, 0.25, 0.6], atol=0.2)
    easy = datasets.simulate(871, 52)
    cv = fc.cross_validate(easy.X, easy.Y, relative_ridges=[0.01], folds=5, refit=None)
    assert cv.summary("exact", "r2")[0].max() > 0.95


def test_a_realistic_float32_simulation_has_the_truth_of_the_float64_one():
    single, double = (datasets.simulate(60, 12, realistic=True, dtype=d) for d in (np.float32, np.float64))
    assert single.X.dtype == single.Y.dtype == np.float32
    assert_array_equal(single.X, double.X.astype(np.float32))
    assert_array_equal(single.gains, double.gains)
    assert_array_equal(single.expected, double.expected)
    assert_allclose(single.Y, double.Y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(2, 1), (3, 2), (7, 1)])
def test_the_smallest_realistic_simulations_are_finite(size):
    for seed in range(20):
        sim = datasets.simulate(*size, realistic=True, n_latent=1, n_cells=2, rng=seed)
        for values in (sim.X, sim.Y, sim.S, sim.gains, sim.expected):
            assert np.isfinite(values).all()


def test_a_realistic_simulation_prints_what_x_lacks():
    text = repr(datasets.simulate(60, 12, realistic=True))
    assert "44 output cells" in text
    assert "20 channels that X lacks drive 60% of the output cells; X is of 5 animals" in text


def test_trials_are_the_responses_and_noise_of_their_own():
    sim = datasets.simulate(200, 30, realistic=True, dtype=np.float32)
    X, Y = sim.trials(50, noise=0.5, rng=2)
    for trials, responses in ((X, sim.X), (Y, sim.Y)):
        assert trials.dtype == np.float32
        assert trials.shape == (50, *responses.shape)
        size = np.sqrt(np.mean(responses.astype(float) ** 2))
        noise = trials - responses
        assert noise.std() == pytest.approx(0.5 * size, rel=0.01)
        # Of independent trials; a mean over 50 of them has 1/50 of the variance.
        assert noise.mean(axis=0).std() == pytest.approx(0.5 * size / np.sqrt(50), rel=0.05)
    assert_array_equal(sim.trials(2, noise=0)[0], np.stack([sim.X, sim.X]))
    assert_array_equal(sim.trials(2, rng=1)[1], sim.trials(2, rng=1)[1])
    with pytest.raises(ValueError, match="'n_trials' must be at least 1"):
        sim.trials(0)
    with pytest.raises(MemoryError, match="ask for fewer trials"):
        sim.trials(10**9)
