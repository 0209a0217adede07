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
    monkeypatch.setattr(datasets, "BLOCK_SIZE", 64)
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
    ],
)
def test_bad_arguments_are_named_with_a_remedy(arguments, error, message):
    with pytest.raises(error, match=message):
        datasets.simulate(**arguments)
