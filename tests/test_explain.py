"""explain(): every way to write a linear fit gives the same gains, and the oracle's."""

import naive
import numpy as np
import pytest
from cases import LAYOUTS, data, target

import fastcov as fc
from fastcov._solvers import _refinement

EPS = np.finfo(np.float64).eps
# Of what is well conditioned, relative and in norm.
CLOSE = 1e-10
# N below, at and above the P = D(D+1)/2 = 10 pairs of conditions: beyond, it is GGᵀ that is decomposed.
SHAPES = [(7, 4), (10, 4), (40, 4)]

shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def a_ridge(X, relative, center=True):
    return relative * np.linalg.norm(naive.atoms(X, None, center), 2) ** 2


def problem(shape, dtype=np.float64):
    return data(*shape, dtype), target(shape[1], size=shape[0])


def close(found, expected, tol=CLOSE, *, beside=0.0):
    """Assert ‖found − expected‖ ≤ tol ‖expected‖, or of `beside` where that is larger."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    apart = np.linalg.norm((found - expected).ravel())
    size = max(np.linalg.norm(expected.ravel()), beside)
    assert apart <= tol * size, f"{apart / size if size else apart} beyond {tol}"


def rounding_of(oracle):
    """What rounding of GᵀG, 30 N ε of it, and a refinement that has ended may do: times its condition."""
    N = len(oracle.norms)
    return (30 * N * EPS + np.sqrt(N) * _refinement.REFINED) * oracle.spectrum[0] / oracle.spectrum[-1]


def check_whole(why, oracle, tol, *, beyond=None):
    """All of a complete explanation beside the oracle, and with itself.

    `beyond` is for the inverse, which divides by λ what rounding leaves beyond the range of Gᵀ.
    """
    beyond = beyond or tol
    N, K = len(oracle.norms), len(oracle.s)
    assert why.complete
    close(why.overlaps, oracle.overlaps, tol)
    close(why.squared_norms, oracle.norms, tol)
    close(why.delta, oracle.delta, beyond)
    # δ once more: from filters, from whitened products, from modes
    F, W = why.filters(), why.whitened_filters()
    close(F, oracle.filters, beyond)
    close(W, oracle.whitened_filters, beyond)
    close(why.whitened_overlaps, oracle.whitened_overlaps, tol)
    assert F.shape == W.shape == (N, N)
    close(F @ why.overlaps, why.delta, beyond)
    close(W @ why.whitened_overlaps, why.delta, beyond)
    close(why.coefficients @ why.gain_modes(), why.delta, beyond)
    for i in (0, N // 2, N - 1):
        close(why.filter(i), F[i], beyond)
        close(why.whitened_filter(i), W[i], beyond)
    # modes
    V, U = why.gain_modes(), why.covariance_modes()
    assert V.shape == (K, N)
    close(why.spectrum, oracle.spectrum, tol)
    assert np.all(np.diff(why.spectrum) <= 0)
    close(V @ V.T, np.eye(K), tol)
    np.testing.assert_array_equal(U, U.transpose(0, 2, 1))
    flat = U.reshape(K, -1)
    close(flat @ flat.T, np.eye(K), tol)
    sigma = np.sqrt(why.spectrum)
    close(V @ oracle.G.T, sigma[:, np.newaxis] * flat, tol)
    close(flat @ oracle.G, sigma[:, np.newaxis] * V, tol)
    assert np.all(why.coefficients >= 0)  # the signs of modes are those in which δ has them
    close(
        why.coefficients * (sigma**2 + oracle.ridge) / sigma,
        flat @ oracle.e,
        tol,
        beside=np.linalg.norm(oracle.e),
    )
    close(why.shrinkage, oracle.shrinkage, tol)
    close(why.delta_shares, oracle.delta_shares, tol)
    close(why.loss_shares, oracle.loss_shares, tol)
    close(why.delta_shares.sum(), 1.0, tol)
    close(why.loss_shares.sum(), 1.0, tol)
    # the error
    for name in ("total", "reachable", "unreachable", "left_by_ridge", "linear_loss"):
        close(getattr(why, name), getattr(oracle, name), tol, beside=oracle.total)
    close(why.reachable + why.unreachable, why.total, tol)
    left = oracle.e - oracle.G @ why.delta
    close(why.unreachable + why.left_by_ridge, left @ left, tol, beside=oracle.total)
    close(why.fit.loss, oracle.loss, beyond, beside=oracle.total)
    close(why.linearisation_error, oracle.loss - oracle.linear_loss, beyond, beside=oracle.total)
    close(why.dof, oracle.dof, tol)
    assert why.dof_upper == why.dof
    # channel by channel
    close(why.diagonal_delta, np.nan_to_num(oracle.overlaps / (oracle.norms + oracle.ridge)), tol)
    close(why.coherences(), oracle.coherences(), tol)
    for i in range(0, N, 3):
        parts = why.contributions(i)
        terms = np.linalg.norm(oracle.others(i)) + abs(why.diagonal_delta[i])
        close(parts.others, oracle.others(i), beyond, beside=terms)
        close(parts.diagonal + parts.others.sum(), parts.delta, 10 * beyond, beside=terms)
        assert (parts.index, parts.channel) == (i, i)
        assert parts.delta == why.delta[i]
        assert parts.diagonal == why.diagonal_delta[i]
        assert parts.others[i] == 0.0
        close(parts.coherence, oracle.coherences()[i], tol)
        close(why.coherence(i), oracle.coherences()[i], tol)
        pairs = why.overlap_pairs(i)
        size = np.sqrt(oracle.norms[i] * oracle.total)
        close(pairs, (oracle.G[:, i] * oracle.e).reshape(pairs.shape), tol, beside=size)
        close(pairs.sum(), why.overlaps[i], tol, beside=size)


@pytest.mark.covering(2)
@pytest.mark.parametrize("relative", [1.0, 1e-3])
@shapes
def test_filters_whitening_modes_and_contributions_all_give_the_gains(shape, relative, dtype, center):
    X, S = problem(shape, dtype)
    ridge = a_ridge(X, relative, center)
    why = fc.explain(X, S, ridge, center=center)
    assert why.ridge == ridge
    check_whole(why, naive.Explained(X, S, ridge, center), CLOSE)
    assert why.fit.status == "converged"
    fit = fc.fit(X, S, ridge=ridge, center=center, solver="spectral")
    close(why.fit.delta, fit.delta)
    close(why.fit.covariance(), fit.covariance())


@pytest.mark.covering(2)
@pytest.mark.parametrize("relative", [0.0, 1e-18, 1e-14, 1e-8, 1e-6])
@shapes
def test_ridges_that_hardly_count_or_not_at_all_are_explained_too(shape, relative, center):
    X, S = problem(shape)
    ridge = a_ridge(X, relative, center)
    oracle = naive.Explained(X, S, ridge, center)
    tol = rounding_of(oracle)
    assert tol < 1e-6  # or nothing is tested
    too_small = 0 < relative < 1e-11
    if too_small:  # the minimum norm, which leaves out what λ alone would determine
        oracle.filters = oracle.V.T / (oracle.spectrum + ridge) @ oracle.V
        oracle.whitened_filters = oracle.V.T / np.sqrt(oracle.spectrum + ridge) @ oracle.V
        with pytest.warns(fc.ConvergenceWarning, match="too small beside GᵀG to count"):
            why = fc.explain(X, S, ridge, center=center)
    else:
        why = fc.explain(X, S, ridge, center=center)
    assert why.fit.status == ("minimum-norm" if relative < 1e-11 else "converged")
    counts = relative > 1e-11 and shape[0] > 10
    check_whole(why, oracle, tol, beyond=30 * shape[0] * EPS / relative if counts else tol)
    if relative == 0.0:
        close(why.shrinkage, np.ones(min(shape[0], 10)))
        assert abs(why.left_by_ridge) <= tol * why.total


@pytest.mark.covering(2)
@pytest.mark.parametrize(("dtype", "exponent"), [(np.float64, 60), (np.float64, 15), (np.float32, 27)])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("modes", [None, 3])
@shapes
def test_units_of_the_responses_are_those_of_the_explanation(shape, modes, sign, dtype, exponent):
    X, S = problem(shape, dtype)
    ridge, k = a_ridge(X, 0.01), sign * exponent
    plain = fc.explain(X, S, ridge, modes=modes)
    scaled = np.ldexp(X, k).astype(dtype)
    assert np.array_equal(np.ldexp(scaled, -k), X)
    why = fc.explain(scaled, np.ldexp(S, 2 * k), np.ldexp(ridge, 4 * k), modes=modes)
    powers = {
        "delta": 0, "overlaps": 4, "squared_norms": 4, "spectrum": 4, "total": 4, "reachable": 4,
        "unreachable": 4, "left_by_ridge": 4, "linear_loss": 4, "linearisation_error": 4, "dof": 0,
        "dof_upper": 0, "whitened_overlaps": 2, "shrinkage": 0, "coefficients": 0, "delta_shares": 0,
        "loss_shares": 0, "diagonal_delta": 0,
    }  # fmt: skip
    for name, power in powers.items():
        close(np.ldexp(getattr(why, name), -power * k), getattr(plain, name), 1e-9)
    for name, power in {"filter": -4, "whitened_filter": -2, "coherence": 0, "overlap_pairs": 4}.items():
        close(np.ldexp(getattr(why, name)(2), -power * k), getattr(plain, name)(2))
    for name, power in {"filters": -4, "whitened_filters": -2, "coherences": 0, "gain_modes": 0,
                        "covariance_modes": 0}.items():  # fmt: skip
        close(np.ldexp(getattr(why, name)(), -power * k), getattr(plain, name)(), 1e-9)
    one, other = why.contributions(1), plain.contributions(1)
    close(one.others, other.others)
    close(one.diagonal, other.diagonal)


@shapes
def test_dead_and_duplicate_channels_are_explained(shape, dtype, center):
    X, S = problem(shape, dtype)
    X[[0, 5]] = 0.0
    X[3] = X[1]
    ridge = a_ridge(X, 1e-2, center)
    why = fc.explain(X, S, ridge, center=center)
    np.testing.assert_array_equal(why.delta[[0, 5]], 0.0)
    np.testing.assert_array_equal(why.overlaps[[0, 5]], 0.0)
    np.testing.assert_array_equal(why.coherence(5), 0.0)
    np.testing.assert_array_equal(why.overlap_pairs(5), 0.0)
    np.testing.assert_array_equal(why.coherences()[0], 0.0)
    parts = why.contributions(5)
    assert (parts.delta, parts.diagonal) == (0.0, 0.0)
    np.testing.assert_array_equal(parts.others, 0.0)
    close(why.filter(0), np.eye(len(X))[0] / ridge)
    close(why.whitened_filter(0), np.eye(len(X))[0] / np.sqrt(ridge))
    close(why.coherence(1)[3], 1.0)
    close(why.delta[3], why.delta[1])
    live = np.ones(len(X), bool)
    live[[0, 5]] = False
    if not center:  # centred, the oracle has rounding for atoms of dead channels
        check_whole(why, naive.Explained(X, S, ridge, center), CLOSE)
    oracle = naive.Explained(X, S, ridge, center)
    close(why.delta[live], oracle.delta[live])
    close(why.spectrum, oracle.spectrum)
    close(why.reachable + why.unreachable, oracle.total)


@pytest.mark.covering(2)
@pytest.mark.parametrize("modes", [None, 2])
@pytest.mark.parametrize("ridge", [0.0, 1.0])
@pytest.mark.parametrize("make", ["alike", "dead", "one"])
def test_channels_without_atoms_have_no_modes(make, ridge, modes, dtype):
    X = {
        "alike": np.tile(np.random.default_rng(0).random(6), (50, 1)),
        "dead": np.zeros((5, 6)),
        "one": np.arange(6.0)[np.newaxis],
    }[make].astype(dtype)
    why = fc.explain(X, np.eye(6), ridge, modes=modes)
    assert why.complete
    assert len(why.spectrum) == len(why.gain_modes()) == len(why.covariance_modes()) == 0
    np.testing.assert_array_equal(why.delta, 0.0)
    np.testing.assert_array_equal(why.overlaps, 0.0)
    assert why.dof == why.dof_upper == why.reachable == why.left_by_ridge == 0.0
    assert why.unreachable == why.total > 0.0
    close(why.linear_loss, why.total / 2)
    close(why.filters(), np.eye(len(X)) / ridge if ridge else np.zeros((len(X),) * 2))
    close(why.whitened_filters(), np.eye(len(X)) * (ridge > 0))
    np.testing.assert_array_equal(why.whitened_overlaps, 0.0)
    np.testing.assert_array_equal(why.overlap_pairs(0), np.zeros((6, 6)))
    np.testing.assert_array_equal(why.contributions(0).others, 0.0)
    np.testing.assert_array_equal(why.coherences(), 0.0)
    assert "100.00%  no gains correct it" in repr(why)
    assert "sum: delta" in repr(why.contributions(0))


@pytest.mark.parametrize("modes", [None, 3])
@shapes
def test_a_target_that_is_met_leaves_nothing_to_explain(shape, modes, center):
    X, _ = problem(shape)
    why = fc.explain(X, fc.covariance(X, center=center), a_ridge(X, 0.1), center=center, modes=modes)
    np.testing.assert_array_equal(why.delta, 0.0)
    np.testing.assert_array_equal(why.coefficients, 0.0)
    assert why.total == why.reachable == why.unreachable == why.linear_loss == why.linearisation_error == 0.0
    np.testing.assert_array_equal(why.delta_shares, 0.0)
    np.testing.assert_array_equal(why.loss_shares, 0.0)
    assert np.isfinite(why.whitened_overlaps).all()
    assert why.dof > 0.5
    assert "nan" not in repr(why) + repr(why.contributions(0))


@shapes
def test_a_target_that_gains_reach_to_first_order_is_all_reachable(shape):
    X, _ = problem(shape)
    G = naive.atoms(X)
    e = (G @ np.random.default_rng(4).standard_normal(len(X))).reshape(4, 4) * 1e-2
    why = fc.explain(X, fc.covariance(X) + (e + e.T) / 2, a_ridge(X, 1e-2))
    close(why.reachable, why.total)
    assert why.unreachable <= 1e-20 * why.total + 1e-24  # what rounding of e leaves: (ε cond)²


def test_what_is_out_of_reach_is_told_from_what_eigenvectors_of_small_eigenvalues_are_not_good_for():
    # Conditions of sizes far apart: eigenvalues of GᵀG are as far apart as their fourth powers.
    sizes = np.array([1.0, 0.1, 0.01, 0.003])
    X, root = data(40, 4) * sizes, np.random.default_rng(0).standard_normal((4, 4))
    S = fc.covariance(X) + np.outer(sizes, sizes) * (root + root.T)
    why = fc.explain(X, S, 1e-3)
    assert why.spectrum[9] < 1e-10 * why.spectrum[0]
    assert why.unreachable <= 1e-25 * why.total  # 40 channels span the 10 pairs


@pytest.mark.covering(2)
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "broadcast"])
@pytest.mark.parametrize("modes", [None, 4])
def test_explanations_do_not_depend_on_memory_layout(layout, modes, dtype, tmp_path):
    X, S = problem((40, 4), dtype)
    ridge = a_ridge(X, 1e-2)
    plain = fc.explain(X.astype(np.float64), S, ridge, modes=modes)
    for form in ("C", "Fortran", "read-only", "strided"):
        given = LAYOUTS[layout](X, tmp_path)
        why = fc.explain(given, LAYOUTS[form](S, None), ridge, modes=modes)
        for name in ("delta", "spectrum", "whitened_overlaps", "loss_shares", "reachable"):
            close(getattr(why, name), getattr(plain, name), 1e-9)
        close(why.filter(3), plain.filter(3), 1e-9)
        close(why.contributions(3).others, plain.contributions(3).others, 1e-9)
        close(why.overlap_pairs(3), plain.overlap_pairs(3), 1e-9)
        close(why.covariance_modes(2), plain.covariance_modes(2), 1e-9)
        np.testing.assert_array_equal(given, X)


@pytest.mark.parametrize("modes", [None, 4])
def test_no_argument_is_changed_and_no_result_changes_an_explanation(modes):
    X, S = problem((40, 4))
    before = X.copy(), S.copy()
    why = fc.explain(X, S, 30.0, modes=modes)
    first = why.delta, why.gain_modes(), why.filter(2), why.coefficients, why.whitened_filter(1)
    kept = [a.copy() for a in first]
    why.covariance_modes(), why.coherences(), why.filters(), why.whitened_filters(), why.contributions(3)
    for a in first:
        a[...] = -7.0
    again = why.delta, why.gain_modes(), why.filter(2), why.coefficients, why.whitened_filter(1)
    for a, b in zip(again, kept, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(S, before[1])


@pytest.mark.parametrize("modes", [None, 4])
@shapes
def test_the_same_explanation_twice_has_the_same_bits(shape, modes, dtype):
    X, S = problem(shape, dtype)
    first, second = (fc.explain(X, S, 30.0, modes=modes) for _ in range(2))
    for name in ("delta", "spectrum", "whitened_overlaps", "loss_shares", "reachable", "dof_upper"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(first.filters(), second.filters())
    np.testing.assert_array_equal(first.gain_modes(), second.gain_modes())


def test_relative_ridges_and_responses_are_those_of_a_fit():
    X, Y = data(40, 4), data(30, 4, seed=8)
    why = fc.explain(X, responses=Y, relative_ridge=0.2)
    fit = fc.fit(X, responses=Y, relative_ridge=0.2)
    close(why.delta, fit.delta)
    assert (why.ridge, why.fit.relative_ridge) == (fit.ridge, 0.2)
    np.testing.assert_array_equal(
        why.delta, fc.explain(X, fc.target_covariance(Y, like=X), ridge=why.ridge).delta
    )


def test_a_ridge_that_is_the_same_for_all_channels_is_one_number():
    X, S = problem((7, 4))
    np.testing.assert_array_equal(fc.explain(X, S, np.full(7, 30.0)).delta, fc.explain(X, S, 30.0).delta)


def test_numbers_of_a_case_that_is_done_by_hand():
    # Channels of one condition each, not centred: atoms 2 x² e eᵀ, orthogonal, and e₀ = s − x².
    X, S = np.diag([1.0, 2.0]), np.diag([2.0, 3.0])
    S[0, 1] = S[1, 0] = 0.5  # out of reach: 2 · 0.25
    why = fc.explain(X, S, 4.0, center=False)
    close(why.overlaps, [2.0, -8.0])
    close(why.spectrum, [64.0, 4.0])
    close(why.delta, [2 / 8, -8 / 68])
    close(why.coefficients, [8 / 68, 2 / 8])
    close(why.shrinkage, [64 / 68, 4 / 8])
    close(why.filters(), np.diag([1 / 8, 1 / 68]))
    close(why.whitened_filters(), np.diag([8**-0.5, 68**-0.5]))
    close(why.gain_modes(), [[0, -1], [1, 0]])
    close(why.covariance_modes(1), [[[0, 0], [0, -1]]])
    assert (why.total, round(why.unreachable, 12), round(why.reachable, 12)) == (2.5, 0.5, 2.0)
    left = np.array([1 - 2 * 0.25, -1 + 8 * 8 / 68])
    close(why.left_by_ridge, left @ left)
    close(why.linear_loss, (0.5 + left @ left + 4 * (0.25**2 + (8 / 68) ** 2)) / 2)
    close(why.delta_shares, np.array([(8 / 68) ** 2, 0.25**2]) / (0.25**2 + (8 / 68) ** 2))
    close(why.loss_shares, np.array([64 / 68, 0.5]) / (64 / 68 + 0.5))
    close(why.contributions(0).others, [0.0, 0.0], beside=1.0)
    close(why.dof, 64 / 68 + 0.5)


@pytest.mark.parametrize("relative", [0.1, 1e-3, 1e-6])
def test_modes_too_small_to_tell_from_rounding_are_in_no_mode_but_in_the_gains(relative):
    # σ² over twenty decades, of which GᵀG in double precision tells sixteen.
    X = np.random.default_rng(0).standard_normal((200, 20)) * 10.0 ** -np.linspace(0, 5, 20)
    S = fc.target_covariance(np.random.default_rng(1).standard_normal((100, 20)), like=X)
    why = fc.explain(X, S, relative_ridge=relative)
    size = np.abs(why.delta).max()
    for i in (0, 3, 150):
        assert abs(why.filter(i) @ why.overlaps - why.delta[i]) <= 1e-10 * size
        assert abs(why.whitened_filter(i) @ why.whitened_overlaps - why.delta[i]) <= 1e-10 * size
    parts = why.coefficients @ why.gain_modes() + why.remainder
    np.testing.assert_allclose(parts, why.delta, rtol=0, atol=1e-10 * size)
    assert abs(why.reachable + why.unreachable - why.total) <= 1e-10 * why.total
    np.testing.assert_allclose(np.linalg.norm(why.covariance_modes(), axis=(1, 2)), 1.0, rtol=1e-14)
