"""The loss along each gain alone, and the minimiser's escapes along it."""

import naive
import numpy as np
import pytest
from cases import absolute_error, data, random_gains, rounding, target, within

import fastcov as fc
from fastcov._compute.trust_region_kernels import least_either_way, quartic_change

METRICS = [
    {}, {"nuisance": "diagonal"}, {"nuisance": ("diagonal", "constant")}, {"pairs": "off-diagonal"},
    {"pairs": "off-diagonal", "nuisance": "constant"},
]  # fmt: skip
EPS = np.finfo(np.float64).eps


def exact(X, S, **options):
    return fc.fit(X, S, method="exact", **options)


def check(X, S, losses, gains, loss):
    """Coefficients against the losses of gains of which one is moved."""
    N = len(gains)
    assert losses.coefficients.shape == (N, 5)
    for i in range(0, N, max(1, N // 5)):
        for t in (-2.5, -0.5, 0.25, 3.0):
            moved = gains.copy()
            moved[i] += t
            size = np.sum(absolute_error(X, S, np.abs(moved) + np.abs(gains)) ** 2)
            within(losses(moved)[i], loss(moved), 16 * rounding(X, np.float64) * size)


@pytest.mark.covering(2)
@pytest.mark.parametrize("metric", METRICS, ids=str)
@pytest.mark.parametrize("shape", [(7, 4), (40, 6), (300, 5)], ids=str)
def test_coefficients_are_those_of_the_exact_loss(shape, metric, dtype, center):
    N, D = shape
    X, S = data(N, D, dtype), target(D, size=N)
    ridge = 30.0 + np.arange(N)
    fit = exact(X, S, ridge=ridge, center=center, **metric)

    def loss(z):
        return fc.loss(X.astype(float), S, z, ridge=ridge, center=center, **metric)

    check(X, S, fit.single_gain_losses(), fit.gains, loss)
    linear = fc.fit(X, S, ridge=ridge, center=center, **metric)
    check(X, S, linear.single_gain_losses(X), linear.gains, loss)


def test_coefficients_are_those_of_the_oracle(center):
    X, S = data(12, 4), target(4, size=12)
    fit = exact(X, S, ridge=5.0, center=center)
    check(X, S, fit.single_gain_losses(), fit.gains, lambda z: naive.loss(X, S, z, 5.0, center))


@pytest.mark.parametrize("options", [{"ridge": np.diff(np.eye(12), axis=0)}, {"bounds": (0.5, 2.0)}], ids=str)
def test_coefficients_bear_other_penalties_bounds_and_weights(options):
    X, S = data(12, 4), target(4, size=12)
    pairs = np.abs(target(4, seed=5))
    options = {"ridge": 5.0, **options}
    fit = exact(X, S, pairs=pairs, **options)
    loss = lambda z: fc.loss(X, S, z, ridge=options["ridge"], pairs=pairs)  # noqa: E731
    check(X, S, fit.single_gain_losses(), fit.gains, loss)
    with pytest.raises(ValueError, match=r"^Argument 'X' must be left out"):
        fit.single_gain_losses(X)


@pytest.mark.parametrize("size", [1e-40, 1e40])
def test_coefficients_are_in_the_units_of_the_caller(size):
    X, S = data(12, 4), target(4, size=12)
    one, other = exact(X, S, ridge=5.0), exact(size * X, size**2 * S, ridge=5.0 * size**4)
    for fit, given in ((other, None), (other, size * X)):
        found = fit.single_gain_losses(given).coefficients / size**4
        np.testing.assert_allclose(found[:, 2:], one.single_gain_losses().coefficients[:, 2:], rtol=1e-4)


def test_a_stack_has_coefficients_for_each_target(tmp_path):
    X, S = data(12, 4), np.stack([target(4, seed, size=12) for seed in range(3)])
    stack = exact(X, S, ridge=5.0)
    losses = stack.single_gain_losses()
    assert losses.coefficients.shape == (3, 12, 5)
    assert losses(stack.gains).shape == losses.lowest()[0].shape == (3, 12)
    np.testing.assert_allclose(losses(stack.gains), np.repeat(stack.loss[:, np.newaxis], 12, axis=1))
    stack.save(tmp_path / "fit.npz")
    again = fc.load(tmp_path / "fit.npz").single_gain_losses()
    np.testing.assert_array_equal(again.coefficients, losses.coefficients)
    with_X = stack.single_gain_losses(X).coefficients
    np.testing.assert_allclose(with_X[..., 2:], losses.coefficients[..., 2:], rtol=1e-10)


def test_what_is_not_kept_is_asked_for():
    X, S = data(12, 4), target(4, size=12)
    fit = fc.fit(X, S, ridge=5.0)
    with pytest.raises(ValueError, match=r"^Argument 'X' must be the responses that were fitted, not None"):
        fit.single_gain_losses()
    with pytest.raises(ValueError, match=r"^Argument 'X' must be the responses .* not of shape \(11, 4\)"):
        fit.single_gain_losses(X[:11])


def escapable(seed=0):
    """A recording and a target that small ridges fit with a gain of the other sign."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((40, 12)) + rng.standard_normal(12)
    z = np.exp(0.5 * rng.standard_normal(40)) * np.where(rng.random(40) < 0.3, -1.0, 1.0)
    return X, naive.covariance(X, z)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("bounds", [None, (-0.5, None)])
def test_no_single_gain_lowers_the_loss_of_an_exact_fit(bounds, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr("fastcov._exact_loss.objective.COMPILED", 0)
    escapes = 0
    for seed in range(4):
        X, S = escapable(seed)
        fit = exact(X, S, relative_ridge=1e-4, bounds=bounds)
        escapes += fit.stats["escapes"]
        assert fit.status == "converged"
        assert fit.stats["lower_elsewhere"] == 0
        gains, lowest = fit.single_gain_losses().lowest()
        if bounds is not None:
            lowest = lowest[gains >= bounds[0]]
        assert (lowest >= fit.loss * (1 - 1e-5)).all()
    assert escapes > 0  # otherwise nothing was tried


def test_escapes_lower_the_loss(monkeypatch):
    found = {}
    for worth in ("as it is", "none"):
        if worth == "none":
            monkeypatch.setattr("fastcov._exact_loss.objective.COMPILED", 0)
            monkeypatch.setattr(
                "fastcov._minimise.trust_region._swept", lambda objective, point, bounds: (point.gains, 0)
            )
        fits = [exact(*escapable(seed), relative_ridge=1e-4) for seed in range(6)]
        found[worth] = np.array([fit.loss for fit in fits])
    assert (found["as it is"] <= found["none"] * (1 + 1e-6)).all()
    assert (found["as it is"] < 0.999 * found["none"]).any()
    assert any(fit.stats["lower_elsewhere"] for fit in fits)  # which the certificate says


@pytest.mark.parametrize("seed", range(20))
def test_the_least_of_a_quartic_either_way_is_that_of_a_grid(seed):
    rng = np.random.default_rng(seed)
    c = [*rng.standard_normal(3), abs(rng.standard_normal()) + 0.1]
    low, high = -3 * rng.random(), 3 * rng.random()
    t = least_either_way(*c, low, high)
    grid = np.linspace(low, high, 20001)
    values = (((c[3] * grid + c[2]) * grid + c[1]) * grid + c[0]) * grid
    assert low <= t <= high
    assert quartic_change(*c, t) <= values.min() + 64 * EPS * np.abs(values).max()


def test_a_path_takes_the_lower_of_neighbours():
    for seed in range(3):
        X, S = escapable(seed)
        grid = np.logspace(-5, -1, 9)
        path = fc.ridge_path(X, S, relative_ridges=grid, method="exact")
        for k, other in [(i, j) for i in range(9) for j in (i - 1, i + 1) if 0 <= j < 9]:
            loss = fc.loss(X, S, path.gains[other], ridge=path.ridges[k])
            assert path.loss[k] <= loss * (1 + 1e-6)


@pytest.mark.parametrize("flipped", [0.0, 1.0])
def test_starts_flip_signs(flipped, monkeypatch):
    seen = []
    monkeypatch.setattr("fastcov._fitting.minimised.START_FLIPPED", flipped)
    from fastcov._fitting import minimised

    plain = minimised.minima

    def watched(objectives, gains, *args, **options):
        seen.append(gains.copy())
        return plain(objectives, gains, *args, **options)

    monkeypatch.setattr("fastcov._fitting.minimised.minima", watched)
    X, S = data(12, 4), target(4, size=12)
    exact(X, S, relative_ridge=1e-2, n_starts=3, gains0=random_gains(12))
    first = np.sign(seen[0])
    for gains in seen[1:]:
        np.testing.assert_array_equal(np.sign(gains), -first if flipped else first)
