"""Importance of channels: what the linear loss rises by if a gain is held, beside refitting all others."""

import csv

import naive
import numpy as np
import pandas as pd
import pytest
from cases import data, target
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc
from fastcov._compute import blas

# N below, at and above the P = D(D+1)/2 = 10 pairs of conditions.
SHAPES = [(7, 4), (10, 4), (40, 4)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
OFF = 1.0 - np.eye(4)
WEIGHTS = (lambda w: w + w.T)(np.random.default_rng(5).random((4, 4)))
EPS = np.finfo(np.float64).eps


def problem(shape, dtype=np.float64):
    return data(*shape, dtype), target(shape[1], size=shape[0])


def largest(X, center=True):
    return np.linalg.norm(naive.atoms(X, None, center), 2) ** 2


def refitted(X, S, ridge, gain, center=True, terms=(), pairs=None):
    """The rise of the linear loss for each gain that is held by itself (N,), from two fits for each."""
    D = X.shape[1]
    nuisance = [{"diagonal": np.eye(D), "constant": np.ones((D, D))}[name] for name in terms] or None
    values, delta = np.broadcast_to(gain, len(X)), fit_of(X, S, ridge, center, nuisance, pairs)
    return np.array([
        naive.loss_with_gain_held(X, S, ridge, i, v, center, nuisance, pairs)
        - naive.loss_with_gain_held(X, S, ridge, i, 1 + delta[i], center, nuisance, pairs)
        for i, v in enumerate(values)
    ])  # fmt: skip


def fit_of(X, S, ridge, center, nuisance, pairs):
    """δ of the linear fit with nuisance matrices and weights of pairs, by least squares."""
    N, D = X.shape
    root = np.sqrt(np.ones(D * D) if pairs is None else np.ravel(pairs))[:, np.newaxis]
    extra = np.zeros((D * D, 0)) if nuisance is None else np.reshape(nuisance, (-1, D * D)).T
    A = np.vstack([
        root * np.hstack([naive.atoms(X, None, center), extra]),
        np.hstack([np.sqrt(ridge) * np.eye(N), np.zeros((N, extra.shape[1]))]),
    ])  # fmt: skip
    b = np.concatenate([root[:, 0] * naive.error(X, S, None, center), np.zeros(N)])
    return np.linalg.lstsq(A, b, rcond=1e-7 if ridge == 0 else None)[0][:N]


@pytest.mark.covering(2)
@pytest.mark.parametrize("modes", [None, 3])
@pytest.mark.parametrize("relative", [1.0, 1e-3])
@pytest.mark.parametrize("terms", [(), ("diagonal",), ("diagonal", "constant")], ids=str)
@pytest.mark.parametrize("pairs", [None, OFF, WEIGHTS], ids=["all", "off", "weights"])
@shapes
def test_a_rise_is_that_of_the_loss_with_all_others_refitted(shape, modes, relative, terms, pairs, center):
    if terms and pairs is OFF:
        terms = ("constant",)  # the diagonal does not count
    X, S = problem(shape)
    ridge = relative * largest(X, center)
    options = {"center": center, "nuisance": list(terms) or None, "pairs": pairs, "modes": modes}
    why = fc.explain(X, S, ridge, **options)
    # Differences of losses, each good to 1e-13 of the loss at gains of one.
    tolerance = {"rtol": 1e-8, "atol": 1e-12 * why.fit.loss_at_one}
    found = refitted(X, S, ridge, 1.0, center, terms, pairs)
    assert_allclose(why.importance, found, **tolerance)
    assert_allclose(why.importance_silenced, refitted(X, S, ridge, 0.0, center, terms, pairs), **tolerance)
    values = np.linspace(-0.5, 2.0, len(X))
    rise = refitted(X, S, ridge, values, center, terms, pairs)
    assert_allclose(why.loss_rise(values), rise, **tolerance)
    own = ridge / 2 * ((values - 1) ** 2 - why.delta**2)
    assert_allclose(why.loss_rise(values, own_ridge=False), rise - own, **tolerance)
    assert_allclose(why.loss_rise(why.fit.gains), 0.0, atol=1e-25 * why.total)


@pytest.mark.covering(2)
@pytest.mark.parametrize("modes", [None, 3])
@pytest.mark.parametrize("relative", [1.0, 1e-2, 1e-5])
@shapes
def test_importances_have_the_formula_of_the_inverse(shape, modes, relative, dtype, center):
    X, S = problem(shape, dtype)
    ridge = relative * largest(X, center)
    why = fc.explain(X, S, ridge, center=center, modes=modes)
    inverse = np.diagonal(np.linalg.inv(naive.gram(X, None, center) + ridge * np.eye(len(X))))
    # The inverse is good to ε times the condition of the matrix.
    rtol = 30 * len(X) * EPS * (1 + 1 / relative)
    assert_allclose(why.importance, why.delta**2 / 2 / inverse, rtol=max(rtol, 1e-12))
    assert_allclose(why.importance_silenced, why.fit.gains**2 / 2 / inverse, rtol=max(rtol, 1e-12))
    assert_allclose(why.resolution, 1 - ridge * inverse, atol=max(rtol, 1e-12))
    assert_allclose(why.resolution.sum(), np.trace(naive.gram(X, None, center) @ np.linalg.inv(
        naive.gram(X, None, center) + ridge * np.eye(len(X)))), rtol=1e-8)  # fmt: skip
    wanted = naive.linear_loss(X, S, np.ones(len(X)), ridge, center)
    wanted -= naive.linear_loss(X, S, why.fit.gains, ridge, center)
    assert_allclose(why.loss_removed, wanted, rtol=1e-8)


def test_resolutions_are_those_of_uncertainty():
    X, S = problem((12, 6))
    fit = fc.fit(X, S, ridge=30.0)
    assert_allclose(
        fc.explain(X, S, 30.0).resolution, fit.uncertainty(by="conditions").resolution, atol=1e-10
    )


@pytest.mark.parametrize("modes", [None, 3])
@shapes
def test_dead_and_equal_channels_are_of_little_importance(shape, modes):
    X, S = problem(shape)
    X[[0, 5]], X[3] = 0.0, X[1]
    ridge = 1e-6 * largest(X)
    why = fc.explain(X, S, ridge, modes=modes)
    assert_array_equal(why.importance[[0, 5]], 0.0)
    assert_array_equal(why.resolution[[0, 5]], 0.0)
    # Nothing but the ridge term of a gain of zero, and nothing at all without it.
    assert_allclose(why.importance_silenced[[0, 5]], ridge / 2, rtol=1e-12)
    assert_allclose(why.loss_rise(0.0, own_ridge=False)[[0, 5]], 0.0, atol=1e-12 * ridge)
    # Each of two equal channels can do what both did, for the ridge alone: with (a, a) moved to (0, 2a), the
    # ridge term rises by λ a² from λ a².
    assert_array_equal(why.importance[[1, 3]] <= 1.0001 * ridge * why.delta[1] ** 2, True)
    assert_allclose(why.importance[1], why.importance[3], rtol=1e-5)
    assert_allclose(why.importance[1], refitted(X, S, ridge, 1.0)[1], atol=1e-10 * why.total)


@pytest.mark.parametrize("relative", [0.0, 1e-14])
@shapes
def test_without_a_ridge_only_what_no_other_channel_can_do_is_important(shape, relative):
    X, S = problem(shape)
    X[2] = X[4]
    X[6] = 0.0
    ridge = relative * largest(X)
    if relative:
        with pytest.warns(fc.ConvergenceWarning, match="too small beside"):
            why = fc.explain(X, S, ridge)
    else:
        why = fc.explain(X, S, ridge)
    found = refitted(X, S, 0.0, 1.0)
    assert_allclose(why.importance, found, rtol=1e-6, atol=1e-9 * why.total)
    assert_allclose(why.importance_silenced, refitted(X, S, 0.0, 0.0), rtol=1e-6, atol=1e-9 * why.total)
    assert_array_equal(why.importance[[2, 4, 6]], 0.0)
    assert_array_equal(why.importance_silenced[[2, 4, 6]], 0.0)
    if shape[0] == 40:  # ten pairs of conditions: any ten atoms reach all
        assert_array_equal(why.importance, 0.0)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 14), st.integers(1, 5), st.integers(0, 999), st.booleans(),
    st.sampled_from([1e-8, 1.0, 1e6]), st.sampled_from([1e-3, 1.0]), st.booleans(),
)  # fmt: skip
def test_units_and_odd_sizes(N, D, seed, center, unit, relative, few):
    X, S = data(N, D, seed=seed), target(D, seed=seed, size=N)
    top = largest(X, center)
    if not top > 1e-6 * np.square(X).sum() ** 2:
        return
    ridge = relative * top
    modes = 1 if few else None
    why = fc.explain(unit * X, unit**2 * S, unit**4 * ridge, center=center, modes=modes)
    size = naive.linear_loss(X, S, np.zeros(N), ridge, center)
    for gain, found in ((1.0, why.importance), (0.0, why.importance_silenced)):
        assert_allclose(found / unit**4, refitted(X, S, ridge, gain, center), atol=1e-9 * size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_of_channels_of_a_file_are_as_channels_in_memory(tmp_path, dtype):
    X, S = problem((600, 5), dtype)
    np.save(tmp_path / "x.npy", X)
    there = np.load(tmp_path / "x.npy", mmap_mode="r")
    ridge = 0.01 * largest(X)
    plain = fc.explain(X.astype(np.float64), S, ridge)
    for modes in (None, 4):
        why = fc.explain(there, S, ridge, modes=modes)
        assert_allclose(why.importance, plain.importance, rtol=1e-8)


def test_the_frame_and_the_file_have_the_importances(tmp_path):
    X, S = problem((12, 4))
    frame = pd.DataFrame(X, [f"g{i}" for i in range(12)])
    why = fc.explain(frame, S, 30.0)
    table = why.to_frame()
    why.to_csv(tmp_path / "why.csv")
    with open(tmp_path / "why.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["channel"] for row in rows] == [f"g{i}" for i in range(12)]
    assert list(rows[0])[1:] == list(table)
    for name in ("delta", "importance", "importance_silenced", "resolution"):
        assert_array_equal(table[name], getattr(why, name))
        assert [float(row[name]) for row in rows] == table[name].tolist()
    few = fc.explain(frame, S, 30.0, modes=3)
    assert "importance" not in few.to_frame()
    few.to_csv(tmp_path / "few.tsv")
    assert (tmp_path / "few.tsv").read_text().startswith("channel\tdelta\t")
    with pytest.raises(ValueError, match=r"'path' must end in"):
        why.to_csv(tmp_path / "why.txt")


def test_the_printed_table_names_the_most_important_channels():
    X, S = problem((12, 4))
    why = fc.explain(pd.DataFrame(X, [f"g{i}" for i in range(12)]), S, 30.0)
    first = int(np.argmax(why.importance))
    assert f"held at one  g{first} {why.importance[first] / why.loss_removed:.2%}, " in repr(why)
    silenced = why.loss_rise(0.0, own_ridge=False)
    first = int(np.argmax(silenced))
    assert f"silenced     g{first} {silenced[first] / why.loss_removed:.2%}, " in repr(why)
    assert "held at one" not in repr(fc.explain(X, S, 30.0, modes=2))
    assert "held at one" not in repr(fc.explain(X, fc.covariance(X), 30.0))


def test_bad_gains():
    X, S = problem((12, 4))
    why = fc.explain(X, S, 30.0)
    for wrong in (np.ones(3), [np.nan], np.inf):
        with pytest.raises(ValueError, match="'gain' must be a finite number, or one for each of the 12"):
            why.loss_rise(wrong)
    with pytest.raises(TypeError, match="'gain' must hold real numbers"):
        why.loss_rise("one")


@pytest.mark.parametrize("n", [1, 2, 70])
def test_the_inverse_of_a_triangle_has_nothing_above_it(n):
    L = np.tril(np.random.default_rng(0).random((n, n))) + np.eye(n) * n
    below = L + np.triu(np.full((n, n), 7.0), 1)
    blas.invert_lower(below)
    assert_array_equal(np.triu(below, 1), 0.0)
    assert np.abs(below @ L - np.eye(n)).max() <= 30 * n * EPS
