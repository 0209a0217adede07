"""Noise ceilings: r of two halves by hand, and ceilings against scores of the true covariance."""

import pathlib
import re
import runpy

import numpy as np
import pytest
from cases import data
from hypothesis import given
from hypothesis import strategies as st

import fastcov as fc
from fastcov._results.score import SCORES

SHARES = [score for score in SCORES if "r2" in score]


def halves(Y, s, seed=0):
    """The halves that the generator draws in split s, of single rows."""
    random = np.random.default_rng(seed)
    for _ in range(s + 1):
        order = random.permutation(len(Y))
    n = len(Y) // 2
    return order[:n], order[n : 2 * n]


def plain(Y, center=True):
    rows = Y - Y.mean(axis=0) if center else Y
    C = rows.T @ rows
    return C / np.trace(C)


def vector(C, score, folds):
    """What a score compares: variances and pairs with the weights of held-out blocks, or pairs alone."""
    D = len(C)
    pairs, diagonal = C[np.triu_indices(D, 1)], np.diag(C)
    if score in ("r2", "cosine"):
        sizes = [len(part) for part in np.array_split(np.arange(D), folds)]
        share = sum(k * (k - 1) for k in sizes) / (D * (D - 1))
        return np.concatenate([diagonal, np.sqrt(2 * share) * pairs])
    if score == "r2-diagonal":
        return diagonal
    if score.endswith("rsa"):
        pairs = (C / np.sqrt(np.outer(diagonal, diagonal)))[np.triu_indices(D, 1)]
    return pairs if score in ("cross-r2", "cross-cosine") else pairs - pairs.mean()


def agreement(A, B, score, folds=5):
    a, b = vector(A, score, folds), vector(B, score, folds)
    if score in SHARES:
        return 2 * a @ b / (a @ a + b @ b)
    return a @ b / np.sqrt((a @ a) * (b @ b))


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(("M", "folds"), [(16, 5), (17, 3)])
def test_r_of_cells_is_that_of_both_halves_by_each_formula(M, folds, center):
    Y = data(M, 9) + 3.0
    found = fc.noise_ceiling(Y, n_splits=4, center=center, folds=folds)
    assert set(found.reliability) == set(SCORES)
    for s in range(4):
        A, B = (plain(Y[half], center) for half in halves(Y, s))
        for score in SCORES:
            # Both sides are sums over 36 pairs of covariances of 8 cells whose offset of 3 is cancelled.
            wanted = pytest.approx(agreement(A, B, score, folds), abs=1e-12)
            assert found.reliability[score][s] == wanted, score


@pytest.mark.parametrize("T", [2, 3, 6])
def test_trials_are_averaged_in_each_half_and_each_possible_split_is_taken_once(T):
    Y = data(12, 7)[np.newaxis] + 0.5 * np.random.default_rng(3).standard_normal((T, 12, 7))
    found = fc.noise_ceiling(Y, n_splits=100)
    count = {2: 1, 3: 3, 6: 10}[T]
    assert (found.by, found.n_splits, found.times) == ("trials", count, T / (T // 2))
    wanted = []
    for mask in range(1, 2**T):
        a = [t for t in range(T) if mask >> t & 1]
        for other in range(1, 2**T):
            b = [t for t in range(T) if other >> t & 1]
            if len(a) == len(b) == T // 2 and a < b and not set(a) & set(b):
                wanted.append(agreement(plain(Y[a].mean(axis=0)), plain(Y[b].mean(axis=0)), "pearson"))
    np.testing.assert_allclose(np.sort(found.reliability["pearson"]), np.sort(wanted), atol=1e-12)


def test_cells_of_trials_are_those_of_the_mean():
    Y = np.random.default_rng(0).standard_normal((3, 14, 6))
    found, mean = fc.noise_ceiling(Y, by="cells"), fc.noise_ceiling(Y.mean(axis=0))
    assert (found.by, found.stats["n_trials"], mean.stats["n_trials"]) == ("cells", 3, None)
    np.testing.assert_allclose(found.reliability["rsa"], mean.reliability["rsa"], atol=1e-12)


def test_the_ceiling_is_the_root_for_correlations_and_r_full_for_shares():
    found = fc.noise_ceiling(data(17, 9), n_splits=30)
    assert found.times == 17 / 8
    for score in SCORES:
        r = found.halves(score)
        assert r == np.mean(found.reliability[score])
        whole = found.times * r / (1 + (found.times - 1) * r) if r > 0 else 0.0
        assert found.whole(score) == pytest.approx(whole, rel=1e-14)
        assert found.ceiling(score) == pytest.approx(whole if score in SHARES else whole**0.5, rel=1e-14)


def test_the_band_is_of_the_percentiles_of_splits():
    found = fc.noise_ceiling(data(40, 8), n_splits=60)
    r = np.sort(found.reliability["cosine"])
    ceilings = np.sqrt(2 * r / (1 + r))
    assert found.band("cosine") == pytest.approx(np.quantile(ceilings, [0.025, 0.975]))
    assert found.band("cosine", level=0.5) == pytest.approx(np.quantile(ceilings, [0.25, 0.75]))
    for level in (0, 1, 2.0):
        with pytest.raises(ValueError, match="'level' must be between 0 and 1"):
            found.band("cosine", level)


def population(kind, D=20):
    """A function that draws cells: few factors, rectified, with noise of each condition."""
    loadings = np.random.default_rng(1).standard_normal((D, 5))

    def draw(n, random):
        factors = random.standard_normal((n, 5))
        if kind == "heavy":
            factors *= random.standard_t(5, (n, 1))
        noise = random.standard_normal((n, D)) * (1 + np.arange(D) / D)
        return np.maximum(0.5 * factors @ loadings.T + noise, -0.5)

    return draw


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "M"), [("plain", 60), ("plain", 200), ("heavy", 200)])
def test_the_true_covariance_scores_as_high_as_the_ceiling_says(kind, M):
    draw, random, sets = population(kind), np.random.default_rng(0), 150
    truth = plain(np.concatenate([draw(100_000, random) for _ in range(4)]))
    reached = {score: np.empty(sets) for score in SCORES}
    ceilings = {score: np.empty(sets) for score in SCORES}
    for k in range(sets):
        Y = draw(M, random)
        found = fc.noise_ceiling(Y, n_splits=40, rng=k)
        for score in SCORES:
            p, s = (vector(C, score, 5) for C in (truth, plain(Y)))
            shares = score in SHARES
            reached[score][k] = (
                1 - (p - s) @ (p - s) / (s @ s) if shares else agreement(truth, plain(Y), score)
            )
            ceilings[score][k] = found.ceiling(score)
    for score in SCORES:
        difference = ceilings[score] - reached[score]
        # The formula is that of expectations; a mean of ratios differs by some 1 / (number of free pairs).
        assert abs(difference.mean()) < 0.02 + 3 * difference.std() / sets**0.5, score


@pytest.mark.slow
def test_the_script_of_the_page_prints_its_rows(monkeypatch, capsys):
    root = pathlib.Path(__file__).parents[1]
    monkeypatch.setattr("sys.argv", ["ceiling.py", "--sets", "2"])
    runpy.run_path(str(root / "bench" / "ceiling.py"), run_name="__main__")
    page = (root / "docs" / "trials.md").read_text(encoding="utf-8")
    table = page[page.index("| population |") :].split("\n\n")[0]
    rows = (re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE) for text in (capsys.readouterr().out, table))
    printed, shown = rows
    assert len(printed) > 10
    assert printed == shown


@pytest.mark.slow
def test_trials_with_little_noise_give_the_score_of_the_expected_covariance():
    random, sets, T, M, D = np.random.default_rng(0), 100, 4, 60, 15
    loadings = 0.4 * random.standard_normal((D, 5))
    reached, ceilings = np.empty(sets), np.empty(sets)
    for k in range(sets):
        cells = random.standard_normal((M, 5)) @ loadings.T
        Y = cells + random.standard_normal((T, M, D))
        expected = np.cov(cells.T) + np.eye(D) / T
        reached[k] = agreement(expected, plain(Y.mean(axis=0)), "pearson")
        ceilings[k] = fc.noise_ceiling(Y, rng=k).ceiling("pearson")
    assert reached.mean() < 0.99  # noise matters
    # Products of noise with noise fall faster than 1 / T, and the formula does not know: some 0.004 here.
    assert abs((ceilings - reached).mean()) < 0.01


def test_noise_lowers_the_ceiling():
    random, Y = np.random.default_rng(0), data(60, 12)
    found = [
        fc.noise_ceiling(Y + sd * random.standard_normal((6, *Y.shape))).ceiling() for sd in (0.1, 1.0, 10.0)
    ]
    assert found[0] > found[1] > found[2]


def test_trials_that_differ_in_one_value_differ():
    Y = np.stack([data(12, 6)] * 3)
    Y[2, 4, 3] *= 1 + 1e-9
    assert fc.noise_ceiling(Y).ceiling() == pytest.approx(1.0)
    Y[:2, 4, 3] = np.nan  # no other trial to differ from
    with pytest.raises(ValueError, match="must vary over its trials"):
        fc.noise_ceiling(Y, nan_policy="pairwise")


def test_a_rough_ceiling_of_noisy_trials_is_said():
    random, Y = np.random.default_rng(0), data(60, 12)
    for sd, rough in ((0.1, False), (5.0, True)):
        found = fc.noise_ceiling(Y + sd * random.standard_normal((6, *Y.shape)))
        assert ("the ceiling is rough" in str(found)) == rough
        assert (found.halves() < 0.6) == rough


def test_nothing_that_repeats_has_a_ceiling_of_zero_and_a_note():
    Y = np.random.default_rng(3).standard_normal((8, 6))
    found = fc.noise_ceiling(Y, n_splits=20)
    assert found.halves("pearson") < 0
    assert found.ceiling("pearson") == found.whole("pearson") == 0.0
    assert found.band("pearson")[0] == 0.0
    assert "nothing in common, so that the ceiling is 0" in str(found)


def test_scores_that_are_undefined_are_said():
    # Each cell responds to one condition, without centring: no pair of conditions has a covariance.
    Y = np.tile(np.eye(3), (4, 1)) * np.arange(1.0, 13.0)[:, np.newaxis]
    with pytest.warns(UserWarning, match="no ceiling for r2-off-diagonal, pearson, rsa, cross-r2"):
        found = fc.noise_ceiling(Y, center=False, n_splits=10)
    assert np.isnan(found.ceiling("pearson"))
    assert np.isnan(found.band("pearson")).all()
    assert found.ceiling("r2-diagonal") > 0
    assert "Undefined, as all pairs have the same covariance: r2-off-diagonal in 10" in str(found)
    assert found.to_frame()["undefined"].max() == 10


@pytest.mark.slow
@given(st.integers(-60, 60))
def test_units_do_not_matter(exponent):
    Y = data(12, 6)
    scaled = fc.noise_ceiling(10.0**exponent * Y, n_splits=5)
    for score, r in fc.noise_ceiling(Y, n_splits=5).reliability.items():
        np.testing.assert_allclose(scaled.reliability[score], r, atol=1e-12)


@pytest.mark.parametrize("by", ["cells", "trials"])
def test_a_large_offset_costs_no_digits(by):
    Y = np.random.default_rng(0).standard_normal((4, 16, 6))
    found, shifted = (fc.noise_ceiling(Y + offset, by=by, n_splits=5) for offset in (0.0, 2.0**24))
    for score in SCORES:  # the offset takes 24 of 53 bits, and a few more are lost in sums
        np.testing.assert_allclose(shifted.reliability[score], found.reliability[score], atol=2.0**-24)


def test_many_conditions_are_taken_a_few_splits_at_a_time(monkeypatch):
    from fastcov._studies import noise_ceiling as module

    Y = np.random.default_rng(0).standard_normal((5, 20, 9))
    for by in ("cells", "trials"):
        once = fc.noise_ceiling(Y, by=by, n_splits=7)
        monkeypatch.setattr(module, "GROUP_BYTES", 1)
        again = fc.noise_ceiling(Y, by=by, n_splits=7)
        monkeypatch.undo()
        for score in SCORES:
            np.testing.assert_allclose(once.reliability[score], again.reliability[score], rtol=1e-13)


@pytest.mark.parametrize("by", ["cells", "trials"])
def test_memory_without_values_is_not_read(by, monkeypatch):
    Y = np.random.default_rng(0).standard_normal((4, 16, 9))
    wanted, real = fc.noise_ceiling(Y, by=by, n_splits=3), np.empty

    def signalling(*args, **options):
        """An array of NaN that warn where they are read."""
        out = real(*args, **options)
        if out.dtype == np.float64:
            out.view(np.uint64)[...] = 0x7FF0000000000001
        return out

    monkeypatch.setattr(np, "empty", signalling)
    with np.errstate(all="raise"):
        found = fc.noise_ceiling(Y, by=by, n_splits=3)
    monkeypatch.undo()
    for score in SCORES:
        np.testing.assert_array_equal(found.reliability[score], wanted.reliability[score])


def test_the_callers_array_is_not_changed():
    Y = data(12, 6)
    before = Y.copy()
    fc.noise_ceiling(Y)
    fc.noise_ceiling(np.stack([Y, Y[::-1]]))
    np.testing.assert_array_equal(Y, before)


def test_it_prints_and_shows_all_scores():
    found = fc.noise_ceiling(data(12, 6) + np.random.default_rng(0).standard_normal((4, 12, 6)))
    text = str(found)
    assert text.startswith("NoiseCeiling: 4 trials x 12 cells x 6 conditions, 3 splits of trials in halves")
    assert all(f"  {score} " in text for score in SCORES)
    assert f"{found.ceiling('rsa'):.3f}" in text
    assert "<table>" in found._repr_html_()
    frame = found.to_frame()
    assert list(frame["score"]) == list(SCORES)
    np.testing.assert_array_equal(frame["ceiling"], [found.ceiling(score) for score in SCORES])
    np.testing.assert_array_equal(frame[["low", "high"]], [found.band(score) for score in SCORES])


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_a_saved_ceiling_is_the_same(tmp_path, suffix):
    found = fc.noise_ceiling(data(12, 6))
    path = tmp_path / f"ceiling{suffix}"
    found.save(path)
    same = fc.load(path)
    assert str(same) == str(found)
    assert same.stats == found.stats
    for score in SCORES:
        np.testing.assert_array_equal(same.reliability[score], found.reliability[score])


def test_a_file_whose_splits_differ_is_refused(tmp_path):
    found = fc.noise_ceiling(data(12, 6))
    path = tmp_path / "ceiling.npz"
    found.reliability["rsa"] = found.reliability["rsa"][:-1]
    found.save(path)
    with pytest.raises(ValueError, match=r"reliability\.rsa"):
        fc.load(path)


ONE = np.ones((5, 6))
BAD = {
    "one cell": (np.ones((1, 6)), {}, "at least 4 cells to be split by cells, not 1"),
    "three cells": (data(3, 6), {}, "at least 4 cells"),
    "one cell without centring": (data(1, 6), {"center": False}, "at least 2 cells"),
    "one trial": (data(8, 6)[np.newaxis], {}, "at least 2 trials to be split by trials, not 1"),
    "one cell in trials": (np.ones((3, 1, 6)), {}, "at least 2 cells to be split by trials"),
    "two conditions": (data(8, 2), {}, "at least 3 conditions"),
    "cells alike": (ONE * np.arange(6), {}, "must vary over its cells"),
    "cells alike in trials": (np.stack([ONE, 2 * ONE]), {}, "must vary over its cells"),
    "trials alike": (np.stack([data(8, 6)] * 3), {}, "must vary over its trials"),
    "trials alike but for rounding": (
        np.stack([data(8, 6), 3 * (data(8, 6) / 3), 7 * (data(8, 6) / 7)]),
        {},
        "must vary over its trials",
    ),
    "trials alike where they are": (
        np.where(np.arange(3)[:, np.newaxis, np.newaxis] == np.eye(8, 6), np.nan, data(8, 6)),
        {"nan_policy": "omit-trials"},
        "must vary over its trials",
    ),
    "no trials": (data(8, 6), {"by": "trials"}, "'by' must be 'cells' where Y has no trials"),
    "by rows": (data(8, 6), {"by": "rows"}, "'by' must be one of 'cells', 'trials'"),
    "no splits": (data(8, 6), {"n_splits": 0}, "'n_splits' must be at least 1"),
    "one fold": (data(8, 6), {"folds": 1}, "'folds' must be at least 2"),
    "policy": (data(8, 6), {"nan_policy": "omit"}, "'nan_policy' must be one of 'raise'"),
    "axes": (np.ones((2, 2, 2, 2)), {}, "must have 2 axes"),
    "infinite": (
        np.where(np.eye(8, 6) > 0, np.inf, 1.0),
        {"nan_policy": "pairwise"},
        "only NaN is a missing",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_missing_is_said(case):
    Y, options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        fc.noise_ceiling(Y, **options)


def test_an_unknown_score_is_refused_with_the_choices():
    found = fc.noise_ceiling(data(12, 6))
    with pytest.raises(ValueError, match="'score' must be one of 'r2'"):
        found.ceiling("r")
    with pytest.raises(TypeError, match="'center' must be True or False"):
        fc.noise_ceiling(data(12, 6), center=2)
