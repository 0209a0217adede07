"""Nuisance terms and pairs: how fits show, keep and apply them, and what is refused."""

import numpy as np
import pytest
from cases import data, target
from test_metric import BOTH, RIDGE, D, N, weights

import fastcov as fc


def test_a_saved_fit_has_its_terms(tmp_path):
    fit = fc.fit(data(N, D), np.stack([target(D)] * 2), ridge=RIDGE, nuisance=BOTH, pairs=weights())
    fit.save(tmp_path / "fit.npz")
    same = fc.load(tmp_path / "fit.npz")
    assert all(np.array_equal(same.nuisance[name], fit.nuisance[name]) for name in BOTH)
    assert np.array_equal(same.prediction(), fit.prediction())
    assert same.stats["pairs"] == "26 of 28, weighted"


def test_a_fit_applied_adds_its_terms():
    X, S = data(N, D), target(D)
    fit = fc.fit(X, S, ridge=RIDGE, nuisance=BOTH)
    applied = fit.apply(X, S)
    np.testing.assert_allclose(applied.covariance, fit.prediction(), rtol=1e-12)
    np.testing.assert_allclose([applied.r2, applied.r2_at_one], [fit.r2, fit.stats["r2_at_one"]], rtol=1e-10)
    off = fc.fit(X, S, ridge=RIDGE, nuisance="constant", pairs="off-diagonal")
    applied = off.apply(X, S)
    np.testing.assert_allclose([applied.r2, applied.r2_at_one], [off.r2, off.stats["r2_at_one"]], rtol=1e-10)


@pytest.mark.slow
def test_a_fit_shows_its_terms(tmp_path):
    fit = fc.fit(data(N, D), target(D), ridge=RIDGE, nuisance=BOTH, pairs="off-diagonal")
    assert "nuisance diagonal 0, constant" in repr(fit)
    assert "pairs    off-diagonal" in repr(fit)
    page = fit.report(tmp_path / "fit.html").read_text()
    assert "Nuisance terms" in page
    assert "Pairs that count" in page
    pytest.importorskip("xarray")
    assert float(fit.to_xarray()["nuisance_constant"]) == fit.nuisance["constant"]


def test_pairs_are_aligned_by_the_names_of_conditions():
    pandas = pytest.importorskip("pandas")
    names = list("abcdefg")
    X = pandas.DataFrame(data(N, D), columns=names)
    W = pandas.DataFrame(weights(), index=names, columns=names)
    turned = W.loc[names[::-1], names[::-1]]
    plain = fc.fit(data(N, D), target(D), ridge=RIDGE, pairs=weights())
    with pytest.warns(fc.LabelWarning, match="'pairs'"):
        fit = fc.fit(X, target(D), ridge=RIDGE, pairs=turned)
    assert np.array_equal(fit.gains, plain.gains)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"nuisance": "offset"}, "'nuisance' must be of 'diagonal', 'constant', not 'offset'"),
        ({"nuisance": ["constant", "constant"]}, "'nuisance' must name each term once"),
        ({"pairs": "upper"}, "'pairs' must be 'all', 'off-diagonal', or a matrix, not 'upper'"),
        ({"pairs": np.ones((D, D - 1))}, "'pairs' must be 7 x 7"),
        ({"pairs": np.ones((3, 3))}, "'pairs' must be 7 x 7"),
        ({"pairs": np.triu(np.ones((D, D)))}, "'pairs' must be symmetric, not 1 and 0 at conditions 0 and 1"),
        ({"pairs": -np.eye(D)}, "'pairs' must be of weights ≥ 0, not -1 at conditions 0 and 0"),
        ({"pairs": np.full((D, D), np.nan)}, "'pairs' must be finite"),
        ({"pairs": np.zeros((D, D))}, "'pairs' must leave at least one pair"),
        ({"nuisance": BOTH, "pairs": np.diag([1.0] + [0.0] * (D - 1))}, "'nuisance' must leave something"),
    ],
)
def test_what_is_no_metric_is_refused_in_one_line(keywords, message):
    X, S = data(N, D), target(D)
    for call in (
        lambda: fc.fit(X, S, ridge=1.0, **keywords),
        lambda: fc.ridge_path(X, S, ridges=[1.0], **keywords),
        lambda: fc.explain(X, S, 1.0, **keywords),
        lambda: fc.loss(X, S, np.ones(N), **keywords),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)
    with pytest.raises(TypeError, match="'nuisance' must be a name"):
        fc.fit(X, S, ridge=1.0, nuisance=3)


def test_unknown_pairs_that_count_are_refused_with_the_remedy():
    X, S = data(N, D), target(D)
    S[1, 4] = S[4, 1] = np.nan
    for pairs in (None, "off-diagonal"):
        with pytest.raises(
            ValueError, match=r"2 places, first at condition 1, condition 4.*pairs=np.isfinite\(S\)"
        ):
            fc.fit(X, S, ridge=1.0, pairs=pairs)
    fit = fc.fit(X, S, ridge=1.0, pairs=np.isfinite(S))
    assert (fit.stats["pairs"], fit.target()[1, 4]) == ("27 of 28", 0)
    S[1, 4] = np.inf
    with pytest.raises(ValueError, match="finite"):
        fc.fit(X, S, ridge=1.0, pairs=np.isfinite(S) & np.isfinite(S.T))
    S[1, 4], S[4, 1] = np.nan, 5.0  # of a pair that does not count, one side is enough
    assert np.array_equal(fc.fit(X, S, ridge=1.0, pairs=fit.target() != 0).gains, fit.gains)
