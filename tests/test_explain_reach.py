"""What gains can reach, beside an SVD of the atoms; permuted targets; and which modes and words are shown."""

import dataclasses
import itertools

import hypothesis
import hypothesis.strategies as st
import naive
import numpy as np
import pytest
from cases import data, needs_jit, target
from test_explain import a_ridge, close, problem, shapes
from test_input import refused

import fastcov as fc
from fastcov._compute import blas
from fastcov._explaining import atom_range, tables

# Of ‖e₀‖²: what is promised.
PROMISED = 1e-8
# Singular values of atoms of norm one, over the largest, between which double precision does not tell
# directions of the range to eight digits, or the factor leaves them out.
UNCERTAIN = (1e-11, 2e-6)


def residual(why, X, center):
    """e₀ less its image, both by the oracle, and the image's squared norm."""
    e = naive.error(X, why.fit.target(), None, center)
    image = naive.reach(X, e, center)
    return e, image, np.sum((e - image) ** 2)


def singular_values(X, center):
    """Of atoms of norm one, over the largest."""
    G = naive.atoms(X, None, center)[:, X.any(axis=1)]
    s = np.linalg.svd(G / np.linalg.norm(G, axis=0), compute_uv=False)
    return s / s[:1]


def span_of(why):
    return atom_range.range_of(why._start, why._modes)


def duplicated(X):
    X[len(X) // 2 :] = X[: len(X) - len(X) // 2]


def nearly_duplicated(X):
    half = len(X) // 2
    X[half:] = X[: len(X) - half] + 1e-4 * np.random.default_rng(5).standard_normal(X[half:].shape)


def dead(X):
    X[::3] = 0.0


def correlated(X):
    X += 3.0 * np.outer(np.linspace(1, 2, len(X)), np.random.default_rng(6).standard_normal(X.shape[1]))


def of_few_conditions(X):
    X[:, 2:] = X[:, :2] @ np.random.default_rng(7).standard_normal((2, X.shape[1] - 2))


def weak(X):
    X[::2] *= 1e-5


def of_scales(X):
    X *= np.geomspace(1.0, 1e-2, len(X))[:, np.newaxis]


KINDS = {f.__name__: f for f in (duplicated, nearly_duplicated, dead, correlated, of_few_conditions, weak,
                                 of_scales)}  # fmt: skip


@st.composite
def problems(draw):
    """Channels below and above the pairs of conditions, spoilt in up to two ways; X, S and center."""
    N, D = draw(st.integers(2, 40)), draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    X = rng.standard_normal((N, D)) + draw(st.sampled_from([0.0, 1.0, 10.0]))
    for kind in draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=2)):
        KINDS[kind](X)
    root = rng.standard_normal((N + D, D))
    return X, root.T @ root, draw(st.booleans())


@hypothesis.given(problems(), st.sampled_from([1.0, 1e-2, 1e-4]))
def test_what_is_out_of_reach_is_right_to_eight_digits_whatever_the_channels(given, relative):
    X, S, center = given
    hypothesis.assume(naive.atoms(X, None, center).any())
    s = singular_values(X, center)
    hypothesis.assume(not ((s > UNCERTAIN[0]) & (s < UNCERTAIN[1])).any())
    why = fc.explain(X, S, relative_ridge=relative, center=center, shuffles=1)
    hypothesis.assume(why.squared_norms.any())
    e, _, unreachable = residual(why, X, center)
    assert abs(why.unreachable - unreachable) <= PROMISED * (e @ e)
    assert abs(why.reachable - (e @ e - unreachable)) <= PROMISED * (e @ e)
    close(why.total, e @ e)


def generic(X, center):
    """A target whose error has no direction of its own."""
    root = np.random.default_rng(8).standard_normal((X.shape[1],) * 2)
    C = fc.covariance(X, center=center)
    return C + np.linalg.norm(C) / 30 * (root + root.T)


# (31, 8): fewer channels than the 36 pairs. (60, 8): more, which span all pairs where nothing is spoilt.
@pytest.mark.covering(2)
@pytest.mark.parametrize("kind", ["plain", *KINDS])
@pytest.mark.parametrize("shape", [(31, 8), (60, 8)], ids=str)
def test_what_is_left_is_orthogonal_to_all_atoms_and_adds_up(shape, kind, center):
    X = data(*shape)
    if kind != "plain":
        KINDS[kind](X)
    why = fc.explain(X, generic(X, center), a_ridge(X, 1e-2, center), center=center)
    left = span_of(why).residual(why._start.error[0])
    scale = np.sqrt(why._start.norms) * np.linalg.norm(why._start.error[0])
    slopes = atom_range.apply_adjoint(why._start.problem, left[np.newaxis])[0]
    # Directions of the range are off by rounding over their singular value, of atoms of norm one.
    s = singular_values(X, center)
    assert np.all(np.abs(slopes) <= 100 * len(X) * np.finfo(float).eps / s[s > 1e-10][-1] * scale)
    close(why.reachable + why.unreachable, why.total)
    _, _, unreachable = residual(why, X, center)
    close(why.unreachable, unreachable, PROMISED, beside=why.total)
    if (s > 1e-10).sum() < 36:  # not all pairs of conditions are spanned
        assert why.unreachable > 1e-2 * why.total
    else:
        close(why.unreachable, 0.0, 1e-15, beside=why.total)


@pytest.mark.parametrize("shape", [(31, 8), (60, 8)], ids=str)
def test_order_and_units_of_channels_do_not_change_what_can_be_reached(shape):
    X = data(*shape)
    of_few_conditions(X)
    S = generic(X, False)
    why = fc.explain(X, S, 1e3, center=False)
    assert 0.01 < why.unreachable / why.total < 0.99
    order = np.random.default_rng(0).permutation(len(X))
    close(fc.explain(X[order], S, 1e3, center=False).unreachable, why.unreachable, PROMISED)
    big = fc.explain(X * 2.0**20, S * 2.0**40, 1e3 * 2.0**80, center=False)
    close(big.unreachable / 2.0**80, why.unreachable, PROMISED)
    # Not centred, a channel's atom is its own: any unit spans the same.
    scales, error = (
        10.0 ** np.random.default_rng(1).uniform(-2, 2, (len(X), 1)),
        S - fc.covariance(X, center=False),
    )
    X = X * scales
    other = fc.explain(X, fc.covariance(X, center=False) + error, 1e3, center=False)
    close(other.unreachable, why.unreachable, 1e-6)  # S less the covariance is off by its rounding


def test_singular_values_that_gram_matrices_cannot_tell_are_reached():
    # One channel so near to another that σ² of their difference is rounding beside the largest σ².
    X, S = problem((20, 8))
    X[0] *= 30.0
    X[2] = X[1] + 3e-5 * data(1, 8, seed=3)[0]
    why = fc.explain(X, S, relative_ridge=1e-2, center=False)
    e, _, unreachable = residual(why, X, False)
    assert len(why.spectrum) == 19  # or nothing is tested
    close(why.unreachable, unreachable, PROMISED)
    kept = why.covariance_modes().reshape(19, -1)
    missed = np.sum((e - kept.T @ (kept @ e)) ** 2) - unreachable
    assert missed > 1e-5 * unreachable


def test_a_channel_nearer_to_others_than_double_precision_tells_adds_nothing():
    X, S = problem((20, 8))
    without = fc.explain(X, S, 1e3, center=False)
    beside = np.vstack([X, X[3] + 1e-12 * X[4]])
    e = S - fc.covariance(X, center=False)
    why = fc.explain(beside, fc.covariance(beside, center=False) + e, 1e3, center=False)
    close(why.unreachable, without.unreachable, PROMISED)


def test_channels_weak_beside_the_mean_have_atoms_all_the_same():
    X = np.random.default_rng(0).standard_normal((26, 7)) + 300.0
    X[::3] *= 1e-5
    S = target(7, size=26)
    why = fc.explain(X, S, relative_ridge=1e-2)
    e, _, unreachable = residual(why, X, True)
    assert 26 * why.squared_norms[0] < 4 * np.sum(X.mean(axis=0) ** 2) ** 2  # or nothing is tested
    close(why.unreachable, unreachable, PROMISED, beside=e @ e)


@needs_jit
def test_memory_for_what_can_be_reached_is_asked_for_first(little_memory):
    tall = data(900, 20)
    of_few_conditions(tall)
    cases = [(data(200, 20), "Cholesky factors of 200 channels"), (tall, "A basis of 210 pairs")]
    for why, words in [(fc.explain(X, target(20), 1e5, shuffles=0), words) for X, words in cases]:
        with pytest.raises(MemoryError, match=rf"^{words} takes .* GB"):
            little_memory(lambda why=why: span_of(why))


# --- LAPACK


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("rank", [1, 7, 60])
def test_a_pivoted_factor_is_that_of_the_matrix_in_its_order(rank, long, monkeypatch):
    if long:
        monkeypatch.setattr(blas, "LONG_FLOPS", 0.0)
    root = np.random.default_rng(0).standard_normal((60, rank))
    A = root @ root.T
    L = np.tril(A)
    order, found = blas.pivoted_cholesky(L, 60 * np.finfo(float).eps * A.max())
    assert found == rank
    assert sorted(order) == list(range(60))
    L = np.tril(L)[:, :rank]
    close(L @ L.T, A[np.ix_(order, order)], 1e-12)
    assert np.all(np.diff(np.diagonal(L)) <= 0)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("rank", [1, 7, 40])
def test_orthonormal_rows_span_the_rows(rank, long, monkeypatch):
    if long:
        monkeypatch.setattr(blas, "LONG_FLOPS", 0.0)
    rng = np.random.default_rng(0)
    A = rng.standard_normal((40, rank)) @ rng.standard_normal((rank, 55))
    Q = blas.orthonormal(A.copy(), 1e-12)
    assert Q.shape == (rank, 55)
    close(Q @ Q.T, np.eye(rank), 1e-13)
    close(A @ Q.T @ Q, A, 1e-12)


# --- permuted targets


def permutations(D, shuffles, rng=0):
    random = np.random.default_rng(rng)
    return [random.permutation(D) for _ in range(shuffles)]


@pytest.mark.covering(2)
@pytest.mark.parametrize("kind", ["plain", "dead", "duplicated", "of_few_conditions"])
@pytest.mark.parametrize("relative", [1.0, 1e-3])
@shapes
def test_permuted_targets_are_corrected_as_by_fits_of_their_own(shape, relative, kind, center):
    X, S = problem(shape)
    if kind != "plain":
        KINDS[kind](X)
    ridge = a_ridge(X, relative, center)
    why = fc.explain(X, S, ridge, center=center, shuffles=5)
    oracle, live = naive.Explained(X, S, ridge, center), why.squared_norms > 0
    rows = [oracle.corrected(S[np.ix_(p, p)], X, center) for p in permutations(len(S), 5)]
    corrected, left, deltas = (np.array(column) for column in zip(*rows, strict=True))
    close(why.corrected_permuted, corrected, PROMISED)
    np.testing.assert_allclose(why.left_by_ridge_permuted, left, rtol=0, atol=PROMISED)
    expected = [np.corrcoef(oracle.delta[live], each[live])[0, 1] for each in deltas]
    np.testing.assert_allclose(why.delta_correlations, expected, rtol=0, atol=1e-7)


def test_permuted_targets_are_as_many_as_asked_for_and_the_same_again():
    X, S = problem((40, 4))
    why = fc.explain(X, S, 30.0)
    assert len(why.corrected_permuted) == len(why.left_by_ridge_permuted) == len(why.delta_correlations) == 19
    again, other = fc.explain(X, S, 30.0), fc.explain(X, S, 30.0, rng=1)
    np.testing.assert_array_equal(again.corrected_permuted, why.corrected_permuted)
    assert not np.array_equal(other.corrected_permuted, why.corrected_permuted)
    np.testing.assert_array_equal(other.delta, why.delta)
    for name in ("corrected_permuted", "left_by_ridge_permuted", "delta_correlations"):
        assert not getattr(why, name).flags.writeable
    none = fc.explain(X, S, 30.0, shuffles=0)
    few = fc.explain(X, S, 30.0, modes=3)
    one = fc.explain(X[:, :1], S[:1, :1], 30.0)
    for each in (none, few, one):
        assert len(each.corrected_permuted) == len(each.left_by_ridge_permuted) == 0
        assert len(each.delta_correlations) == 0
        assert "permuted" not in repr(each)
    np.testing.assert_array_equal(none.delta, why.delta)


@pytest.mark.parametrize(("shuffles", "kind", "words"), [(-1, ValueError, "be at least 0"),
                                                         (2.5, TypeError, "be a whole number")])  # fmt: skip
def test_shuffles_that_are_no_number_of_targets_are_refused(shuffles, kind, words):
    with refused(kind, "shuffles", words):
        fc.explain(*problem((9, 4)), 1.0, shuffles=shuffles)


# --- what is shown


def table_rows(text):
    """The rows of modes in a printed table, as words."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if "of the loss removed" in line) + 1
    return list(itertools.takewhile(lambda row: row and row[0].isdigit(), map(str.split, lines[first:])))


@pytest.mark.parametrize("modes", [None, 8])
def test_the_table_has_the_modes_that_make_the_gains(modes):
    X, S = problem((40, 8))
    why = fc.explain(X, S, relative_ridge=1e-2, modes=modes)
    shares = why.delta_shares
    assert np.all(np.diff(shares[why.order]) <= 0)
    assert sorted(why.order) == list(range(len(shares)))
    assert list(why.order) != list(range(len(shares)))  # or nothing is tested
    rows = table_rows(repr(why))
    assert [int(row[0]) for row in rows] == [k + 1 for k in why.order[:6]]
    for row, k in zip(rows, why.order, strict=False):
        assert row[2:] == [f"{a[k]:.1%}" for a in (why.shrinkage, shares, why.loss_shares)]
    assert "by their share of delta, the largest first" in repr(why)


def test_permuted_targets_stand_beside_the_target():
    why = fc.explain(*problem((40, 8)), relative_ridge=1e-2)
    corrected, left = (f"({a.mean():.2%} with permuted conditions)"
                       for a in (why.corrected_permuted, why.left_by_ridge_permuted))  # fmt: skip
    lines = {line.split()[0]: line for line in repr(why).splitlines()}
    assert lines["corrected"].endswith(corrected)
    assert lines["left"].endswith(f"held back by the ridge {left}")
    assert lines["delta"].endswith(
        f"correlates {why.delta_correlations.mean():.2f} with that of permuted conditions"
    )


def test_single_gains_are_said_to_say_little_where_they_do():
    X, S = problem((40, 8))
    X[3] = 0.0
    why = fc.explain(X, S, relative_ridge=1e-2)
    live, low, high = 39, 39 * 0.5 - 1e-9, 39 * 0.5 + 1e-9
    alike, unlike = np.array([0.2, 0.41]), np.array([0.2, 0.39])
    for dof, correlations in itertools.product((low, high), (alike, unlike)):
        each = dataclasses.replace(why, dof=dof, dof_upper=dof, delta_correlations=correlations)
        few, same = dof == low, correlations is alike
        assert (f"{dof:.3g} effective degrees of freedom for {live} gains" in each.remark) == few
        assert ("gains fitted to permuted conditions correlate 0.30 with these" in each.remark) == same
        assert bool(each.remark) == (few or same)
        printed = " ".join(repr(each).split())
        assert printed.endswith("Read patterns, not single gains.") == bool(each.remark)
        assert each.remark in printed
    bound = dataclasses.replace(why, complete=False, dof=1.0, dof_upper=low, delta_correlations=np.empty(0))
    assert "at most 19.5 effective degrees of freedom" in bound.remark
    assert not dataclasses.replace(bound, dof_upper=high).remark


def test_the_mean_resolution_of_gains_is_degrees_of_freedom_a_channel():
    X, S = problem((31, 8))
    why = fc.explain(X, S, relative_ridge=1e-2)
    close(np.mean(1 - why.ridge * np.diagonal(why.filters())), why.dof / 31)
    assert tables.RESOLUTION == 0.5  # half of a gain is its own


def test_a_met_target_and_channels_without_atoms_have_no_more_to_say():
    X, _ = problem((40, 4))
    met = fc.explain(X, fc.covariance(X), 1.0)
    assert np.all(met.delta_correlations == 0.0)
    nothing = fc.explain(np.ones((6, 3)), np.eye(3), 1.0)
    assert nothing.remark == ""
    for why in (met, nothing):
        assert "nan" not in repr(why)
