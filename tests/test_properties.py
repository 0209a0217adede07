"""Identities that hold for any input: symmetry, sign, permutation, scale, blocks, precision, offset."""

import naive
import numpy as np
import pytest
from cases import absolute_atoms, absolute_error, data, gains_bound, rounding, target, within
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastcov as fc

EPS = np.finfo(np.float64).eps

# Exact in float16, hence in every type; zeros and repeated values are frequent.
numbers = st.floats(-8, 8, width=16) | st.integers(-2, 2).map(float)


@st.composite
def responses(draw, min_channels=1):
    """Responses (N, D), at times with dead and duplicate channels."""
    N, D = draw(st.integers(min_channels, 12)), draw(st.integers(1, 5))
    X = draw(hnp.arrays(np.float64, (N, D), elements=numbers))
    for _ in range(draw(st.integers(0, 2))):
        X[draw(st.integers(0, N - 1))] = X[draw(st.integers(0, N - 1))]
    if draw(st.booleans()):
        X[draw(st.integers(0, N - 1))] = 0.0
    return X


@st.composite
def problems(draw):
    """Responses, a symmetric target (of either sign, not zero), gains, center."""
    X = draw(responses())
    N, D = X.shape
    half = draw(hnp.arrays(np.float64, (D, D), elements=numbers))
    z = draw(hnp.arrays(np.float64, N, elements=numbers))
    S = half + half.T if (half + half.T).any() else np.eye(D)
    return X, S, z, draw(st.booleans())


def some_ridge(X, center):
    """A hundredth of the largest eigenvalue of GᵀG, and not less than one."""
    return 0.01 * np.linalg.norm(naive.atoms(X, None, center), 2) ** 2 + 1.0


# --- symmetry and sign


@given(problems(), st.sampled_from([np.float32, np.float64]))
def test_gram_is_symmetric_and_positive_semidefinite(problem, dtype):
    X, _, z, center = problem
    for gains in (None, z):
        A = fc.gram(X.astype(dtype), gains=gains, center=center)
        np.testing.assert_array_equal(A, A.T)
        values = np.linalg.eigvalsh(A.astype(np.float64))
        # Entries have errors of `rounding` times those of the magnitudes, whose norm bounds the shift
        # of an eigenvalue (Weyl).
        G = absolute_atoms(X, gains, center)
        assert values[0] >= -rounding(X, dtype) * np.linalg.norm(G.T @ G) - EPS * len(X) * values[-1]


@given(st.integers(0, 10**6), st.sampled_from([(3, 2), (12, 4), (40, 3), (70, 5)]), st.booleans())
def test_smallest_eigenvalue_of_the_gram_of_spread_responses_is_not_below_rounding(seed, shape, center):
    X = np.random.default_rng(seed).standard_normal(shape)
    values = np.linalg.eigvalsh(fc.gram(X, center=center))
    assert values[0] >= -4 * len(X) * EPS * values[-1]


@given(problems())
def test_covariance_is_symmetric_and_positive_semidefinite(problem):
    X, _, z, center = problem
    C = fc.covariance(X, gains=z, center=center)
    np.testing.assert_array_equal(C, C.T)
    size = np.linalg.norm(absolute_error(X, 0 * C, z, center))
    assert np.linalg.eigvalsh(C)[0] >= -rounding(X) * size


@given(problems())
def test_loss_is_not_negative_and_zero_exactly_at_its_own_covariance(problem):
    X, S, z, center = problem
    assert fc.loss(X, S, z, center=center) >= 0
    assert fc.loss(X, fc.covariance(X, gains=z, center=center), z, center=center) == 0


@given(problems())
def test_covariance_does_not_change_with_the_sign_of_all_gains(problem):
    X, S, z, center = problem
    np.testing.assert_array_equal(
        fc.covariance(X, gains=-z, center=center), fc.covariance(X, gains=z, center=center)
    )
    assert fc.loss(X, S, -z, center=center) == fc.loss(X, S, z, center=center)


@given(problems())
def test_gains_are_responses_scaled(problem):
    X, S, z, center = problem
    scaled = z[:, np.newaxis] * X
    bound = rounding(X) * absolute_error(X, S, z, center)
    C = fc.covariance(X, gains=z, center=center)
    within(C, fc.covariance(scaled, center=center), bound)
    # G at z is G of the scaled responses at ones, over the gains.
    u = np.random.default_rng(0).standard_normal(len(S) ** 2)
    left = z * fc.AtomOperator(X, gains=z, center=center).rmatvec(u)
    right = fc.AtomOperator(scaled, center=center).rmatvec(u)
    within(left, right, 2 * rounding(X) * np.abs(z) * (absolute_atoms(X, z, center).T @ np.abs(u)) + 1e-300)


@given(problems())
def test_atoms_times_ones_is_twice_the_covariance(problem):
    # C is of second order in the gains (Euler).
    X, _, z, center = problem
    G = fc.AtomOperator(X, gains=z, center=center)
    bound = (
        4
        * rounding(X)
        * (absolute_atoms(X, z, center) @ np.abs(z) + absolute_error(X, 0.0, z, center).ravel())
    )
    within(G.matvec(z), 2 * fc.covariance(X, gains=z, center=center).ravel(), bound)


@given(problems(), st.integers(0, 10**6))
def test_adjoint_identity(problem, seed):
    X, _, z, center = problem
    N, D = X.shape
    rng = np.random.default_rng(seed)
    v, M = rng.standard_normal(N), rng.standard_normal(D * D)
    G = fc.AtomOperator(X, gains=z, center=center)
    terms = np.abs(M) @ absolute_atoms(X, z, center) @ np.abs(v)
    symmetric = np.abs(M.reshape(D, D).T.ravel()) @ absolute_atoms(X, z, center) @ np.abs(v)
    assert abs(G.matvec(v) @ M - v @ G.rmatvec(M)) <= 2 * rounding(X) * (terms + symmetric)


@given(problems())
def test_gram_operator_is_the_square_of_the_atom_operator(problem):
    X, _, z, center = problem
    G, A = fc.AtomOperator(X, gains=z, center=center), fc.GramOperator(X, gains=z, center=center)
    v = np.random.default_rng(0).standard_normal(len(X))
    absolute = absolute_atoms(X, z, center)
    bound = 2 * rounding(X) * absolute.T @ (absolute @ np.abs(v))
    within(A.matvec(v), G.rmatvec(G.matvec(v)), bound)
    within(fc.gram(X, gains=z, center=center) @ v, A.matvec(v), 2 * bound)


# --- permutation


@given(problems(), st.randoms(use_true_random=False))
def test_results_follow_a_permutation_of_channels(problem, random):
    X, S, z, center = problem
    order = list(range(len(X)))
    random.shuffle(order)
    G, E, eps = absolute_atoms(X, z, center), absolute_error(X, S, z, center), 2 * rounding(X)
    kwargs = {"gains": z, "center": center}
    permuted = {"gains": z[order], "center": center}
    A = fc.gram(X, **kwargs)[np.ix_(order, order)]
    within(fc.gram(X[order], **permuted), A, eps * (G.T @ G)[np.ix_(order, order)])
    o = fc.overlaps(X, S, **kwargs)[order]
    within(fc.overlaps(X[order], S, **permuted), o, eps * (G.T @ E.ravel())[order])
    value = fc.loss(X, S, z, center=center)
    within(fc.loss(X[order], S, z[order], center=center), value, eps * np.sum(E**2))
    ridge = some_ridge(X, center)
    delta = fc.fit(X, S, ridge=ridge, center=center).delta
    bound = 2 * gains_bound(X, S, ridge, center)
    within(fc.fit(X[order], S, ridge=ridge, center=center).delta, delta[order], bound)


@given(problems(), st.randoms(use_true_random=False))
def test_gains_do_not_change_with_the_order_of_conditions(problem, random):
    X, S, z, center = problem
    order = list(range(X.shape[1]))
    random.shuffle(order)
    T = S[np.ix_(order, order)]
    G, E, eps = absolute_atoms(X, z, center), absolute_error(X, S, z, center), 2 * rounding(X)
    Y = X[:, order]
    within(fc.gram(Y, gains=z, center=center), fc.gram(X, gains=z, center=center), eps * (G.T @ G))
    o = fc.overlaps(X, S, gains=z, center=center)
    within(fc.overlaps(Y, T, gains=z, center=center), o, eps * (G.T @ E.ravel()))
    within(fc.loss(Y, T, z, center=center), fc.loss(X, S, z, center=center), eps * np.sum(E**2))
    ridge = some_ridge(X, center)
    delta = fc.fit(X, S, ridge=ridge, center=center).delta
    bound = 2 * gains_bound(X, S, ridge, center)
    within(fc.fit(Y, T, ridge=ridge, center=center).delta, delta, bound)


@given(problems(), st.integers(0, 10**6))
def test_gains_do_not_change_with_a_rotation_of_the_conditions(problem, seed):
    X, S, _, center = problem
    D = X.shape[1]
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((D, D)))
    ridge = some_ridge(X, center)
    T = Q.T @ S @ Q
    delta = fc.fit(X, S, ridge=ridge, center=center).delta
    rotated = fc.fit(X @ Q, (T + T.T) / 2, ridge=ridge, center=center).delta
    # Magnitudes grow by √D in a rotation, to the fourth power in all.
    within(rotated, delta, 4 * D**2 * gains_bound(X, S, ridge, center))


# --- scale


@pytest.mark.parametrize("method", ["linear", "diagonal"])
@given(problems(), st.integers(-8, 8), st.sampled_from([np.float32, np.float64]))
def test_gains_keep_their_bits_when_units_change_by_a_power_of_two(method, problem, power, dtype):
    X, S, _, center = problem
    X, s = X.astype(dtype), 2.0**power
    ridge = some_ridge(X, center)
    one = fc.fit(X, S, ridge=ridge, method=method, center=center)
    other = fc.fit(X * dtype(s), s**2 * S, ridge=s**4 * ridge, method=method, center=center)
    np.testing.assert_array_equal(other.delta, one.delta)
    assert other.loss == s**4 * one.loss
    np.testing.assert_array_equal(other.covariance(), s**2 * one.covariance())
    assert (other.residual, other.status) == (one.residual, one.status)


EXTREME = [(np.float64, 1e-60), (np.float64, 1e60), (np.float32, 1e-30), (np.float32, 1e30)]


@pytest.mark.parametrize("method", ["linear", "diagonal"])
@pytest.mark.parametrize(("dtype", "size"), EXTREME)
@pytest.mark.parametrize("center", [True, False])
def test_gains_do_not_change_in_extreme_units(method, dtype, size, center):
    s = 2.0 ** np.round(np.log2(size))
    X, S = data(12, 4, dtype), target(4)
    X[3] = 0.0
    ridge = some_ridge(X, center)
    one = fc.fit(X, S, ridge=ridge, method=method, center=center)
    other = fc.fit(X * dtype(s), s**2 * S, ridge=s**4 * ridge, method=method, center=center)
    tolerance = 2 * gains_bound(X, S, ridge, center)
    if dtype == np.float32:
        tolerance += 2e-13 * np.sqrt(12) * np.linalg.norm(naive.overlaps(X, S, None, center)) / ridge
    within(other.delta, one.delta, tolerance)
    np.testing.assert_allclose(other.loss / s**4, one.loss, rtol=1e-9)
    np.testing.assert_allclose(other.loss_at_one / s**4, one.loss_at_one, rtol=1e-12)
    np.testing.assert_allclose(other.covariance() / s**2, one.covariance(), rtol=1e-9)
    assert other.status == one.status
    assert other.residual < 1e-12 if method == "linear" else other.residual > 0
    assert np.isfinite([other.r2, other.residual, other.ridge]).all()


@pytest.mark.parametrize(("dtype", "size"), EXTREME)
def test_relative_ridge_and_minimum_norm_do_not_change_in_extreme_units(dtype, size):
    s = 2.0 ** np.round(np.log2(size))
    X, S = data(40, 4, dtype), target(4)
    for kwargs in ({"relative_ridge": 0.1}, {"ridge": 0}):
        one, other = fc.fit(X, S, **kwargs), fc.fit(X * dtype(s), s**2 * S, **kwargs)
        np.testing.assert_allclose(other.delta, one.delta, rtol=0, atol=1e-8)
        assert other.status == one.status
        np.testing.assert_allclose(other.ridge / s**4, one.ridge, rtol=1e-9)


@pytest.mark.parametrize(("dtype", "size"), EXTREME)
def test_pieces_do_not_change_in_extreme_units(dtype, size):
    s = 2.0 ** np.round(np.log2(size))
    X, S, z = data(12, 4, dtype), target(4), np.linspace(0.5, 2.0, 12)
    big = X * dtype(s)
    eps = 2 * rounding(X)
    G, E = absolute_atoms(X, z), absolute_error(X, S, z)
    within(fc.covariance(big, gains=z) / s**2, fc.covariance(X, gains=z), eps * E)
    within(fc.overlaps(big, s**2 * S, gains=z) / s**4, fc.overlaps(X, S, gains=z), eps * (G.T @ E.ravel()))
    within(fc.atom_norms(big, gains=z) / s**2, fc.atom_norms(X, gains=z), eps * np.linalg.norm(G, axis=0))
    within(fc.loss(big, s**2 * S, z) / s**4, fc.loss(X, S, z), eps * np.sum(E**2))
    A = fc.gram(big.astype(np.float64), gains=z)
    within(A / s**4, fc.gram(X.astype(np.float64), gains=z), eps * (G.T @ G))


# --- blocks and precision


@pytest.mark.slow
@given(problems(), st.integers(1, 13), st.sampled_from([np.float32, np.float64]))
def test_blocks_of_any_size_give_the_same(problem, rows, dtype):
    X, S, z, center = problem
    X = X.astype(dtype)
    ridge = some_ridge(X, center)

    def results():
        return (
            fc.covariance(X, gains=z, center=center),
            fc.gram(X, gains=z, center=center),
            fc.overlaps(X, S, gains=z, center=center),
            fc.loss(X, S, z, center=center),
            fc.fit(X, S, ridge=ridge, center=center).delta,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastcov._model.problem.BLOCK_BYTES", 8 * X.shape[1] * rows)
        blocked = results()
    G, E, eps = absolute_atoms(X, z, center), absolute_error(X, S, z, center), 2 * rounding(X)
    gains = 2 * gains_bound(X, S, ridge, center)
    if dtype == np.float32:
        gains += 2e-13 * np.sqrt(len(X)) * np.linalg.norm(naive.overlaps(X, S, None, center)) / ridge
    bounds = (eps * E, eps * (G.T @ G), eps * (G.T @ E.ravel()), eps * np.sum(E**2), gains)
    for whole, part, bound in zip(results(), blocked, bounds, strict=True):
        within(part, whole, bound)


@given(problems())
def test_a_float32_fit_has_the_accuracy_of_float64(problem):
    X, S, _, center = problem
    ridge = some_ridge(X, center)
    exact = fc.fit(X, S, ridge=ridge, center=center)
    half = fc.fit(X.astype(np.float32), S, ridge=ridge, center=center)
    # Refined to a largest residual of 1e-13 |b|, which λ ≥ λ_max / 100 turns into some 1e-11 of δ.
    refined = 1e-13 * np.sqrt(len(X)) * np.linalg.norm(naive.overlaps(X, S, None, center)) / ridge
    within(half.delta, exact.delta, refined + 2 * gains_bound(X, S, ridge, center))
    if np.linalg.norm(exact.delta) > 1e-6 * np.linalg.norm(absolute_error(X, S)) / ridge:
        assert np.linalg.norm(half.delta - exact.delta) <= 1e-9 * np.linalg.norm(exact.delta)
    within(half.loss, exact.loss, 1e-9 * np.sum(absolute_error(X, S, exact.gains, center) ** 2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u2", "?", "f2", "g", ">f8", ">i4", ">f4"])
@given(st.integers(0, 10**6))
def test_every_real_type_gives_the_answer_of_its_values_in_floating_point(kind, seed):
    whole = np.random.default_rng(seed).integers(0, 4, (9, 3)).astype(kind)
    single = whole.dtype.kind == "f" and whole.dtype.itemsize <= 4
    plain = whole.astype(np.float32 if single else np.float64)
    S = target(3)
    A = fc.gram(whole)
    assert A.dtype == plain.dtype
    G = absolute_atoms(plain)
    within(A, fc.gram(plain), rounding(plain) * (G.T @ G))
    within(
        fc.loss(whole, S, np.ones(9)),
        fc.loss(plain, S, np.ones(9)),
        rounding(plain) * np.sum(absolute_error(plain, S) ** 2),
    )
    ridge = some_ridge(plain, True)
    bound = 2 * gains_bound(plain, S, ridge) + 1e-11
    within(fc.fit(whole, S, ridge=ridge).delta, fc.fit(plain, S, ridge=ridge).delta, bound)


@pytest.mark.parametrize("kind", ["i1", "i8", "u2", "?", "f2", "f4", "g", ">f8"])
def test_targets_and_gains_of_every_real_type_are_taken(kind):
    X = data(9, 3)
    S = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 1]]).astype(kind)
    z = np.array([1, 0, 1, 1, 0, 1, 0, 0, 1]).astype(kind)
    plain, ones = S.astype(np.float64), z.astype(np.float64)
    assert fc.loss(X, S, z) == fc.loss(X, plain, ones)
    np.testing.assert_array_equal(fc.covariance(X, gains=z), fc.covariance(X, gains=ones))
    np.testing.assert_array_equal(fc.fit(X, S, ridge=1).delta, fc.fit(X, plain, ridge=1.0).delta)


# --- a large common offset


@pytest.mark.parametrize("offset", [1e3, 1e6])
@given(st.integers(0, 10**6))
def test_a_large_common_offset_costs_no_more_digits_than_it_has_taken_from_the_input(offset, seed):
    # The input itself is rounded to ε offset, which is relative to a spread of 1: no algorithm keeps more. A
    # product before centring would lose offset² ε, 1e-4 at 1e6.
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((30, 4)) + offset
    root = rng.standard_normal((9, 4))
    S = root.T @ root
    tolerance = 8 * rounding(X) * offset
    exact = naive.gram(X, dtype=np.longdouble).astype(float)
    within(fc.gram(X), exact, tolerance * np.abs(exact).max())
    columns = fc.GramOperator(X).columns([0, 29])
    within(columns, exact[:, [0, 29]], tolerance * np.abs(exact).max())
    o = naive.overlaps(X, S, dtype=np.longdouble).astype(float)
    within(fc.overlaps(X, S), o, tolerance * np.abs(o).max())
    L = float(naive.loss(X, S, np.ones(30), dtype=np.longdouble))
    within(fc.loss(X, S, np.ones(30)), L, tolerance * L)
    within(fc.loss(X, S, np.ones((16, 30))), np.full(16, L), tolerance * L)
    C = naive.covariance(X, dtype=np.longdouble).astype(float)
    within(fc.covariance(X), C, tolerance * np.abs(C).max())
    norms = np.sqrt(np.diag(exact))
    within(fc.atom_norms(X), norms, tolerance * norms.max())


@given(st.integers(0, 10**6))
def test_a_large_common_offset_keeps_the_digits_of_float32(seed):
    X = (np.random.default_rng(seed).standard_normal((30, 4)) + 1e3).astype(np.float32)
    # The mean is float64 and what is left after it has 24 bits of its own: nothing more is lost.
    exact = naive.gram(X, dtype=np.longdouble).astype(float)
    within(fc.gram(X), exact, rounding(X) * np.abs(exact).max())
    C = naive.covariance(X, dtype=np.longdouble).astype(float)
    within(fc.covariance(X), C, rounding(X) * np.abs(C).max())


@given(responses(min_channels=2), st.floats(-100, 100, width=16))
def test_covariance_does_not_change_with_an_offset_common_to_all_channels(X, offset):
    shifted = X + offset
    C = fc.covariance(X)
    y = np.abs(X - X.mean(axis=0)) + EPS * (np.abs(shifted) + abs(offset))
    cross = y.T @ (EPS * len(X) * (np.abs(X) + 2 * abs(offset)))
    within(fc.covariance(shifted), C, rounding(X) * absolute_error(X, 0.0) + 4 * (cross + cross.T))


# --- dead and duplicate channels


@given(problems(), st.sampled_from([0.0, 1e-3, 1.0, 1e6]), st.sampled_from(["linear", "diagonal"]))
def test_dead_channels_keep_a_gain_of_exactly_one(problem, ridge, method):
    X, S, _, center = problem
    X[0] = 0.0
    if ridge == 0 and method == "linear":
        assume(np.linalg.norm(naive.atoms(X, None, center)) > 1e-3 * np.linalg.norm(absolute_atoms(X)) > 0)
    fit = fc.fit(X, S, ridge=ridge, method=method, center=center)
    np.testing.assert_array_equal(fit.gains[~X.any(axis=1)], 1.0)
    assert np.isfinite(fit.gains).all()


@given(problems())
def test_duplicate_channels_get_the_same_gain(problem):
    X, S, _, center = problem
    X = np.concatenate([X, X[:1]])
    ridge = some_ridge(X, center)
    fit = fc.fit(X, S, ridge=ridge, center=center)
    assert abs(fit.delta[0] - fit.delta[-1]) <= 2 * gains_bound(X, S, ridge, center)


@pytest.mark.slow
@given(problems())
def test_minimum_norm_fits_every_input_without_a_word(problem):
    # Rank is not clear-cut here: what is promised is a finite answer that does not overdo it.
    X, S, _, center = problem
    G = naive.atoms(X, None, center)
    assume(np.linalg.norm(G) > 1e-3 * np.linalg.norm(absolute_atoms(X, None, center)) > 0)
    fit = fc.fit(X, S, ridge=0, center=center)
    assert fit.status == "minimum-norm"
    assert 1 <= fit.stats["rank"] <= min(len(X), len(S) * (len(S) + 1) // 2)
    e = naive.error(X, S, None, center)
    assert np.linalg.norm(G @ fit.delta - e) <= np.linalg.norm(e) * (1 + 1e-6) + 1e-9


@given(problems(), st.floats(1e-2, 10))
def test_the_linear_fit_minimises_the_linearised_loss(problem, relative):
    X, S, _, center = problem
    ridge = relative * some_ridge(X, center)
    G, e = naive.atoms(X, None, center), naive.error(X, S, None, center)

    def objective(delta):
        return np.sum((e - G @ delta) ** 2) / 2 + ridge * np.sum(delta**2) / 2

    delta = fc.fit(X, S, ridge=ridge, center=center).delta
    lowest = objective(delta)
    noise = rounding(X) * np.sum(absolute_error(X, S, None, center) ** 2) * 10
    for seed in range(3):
        step = np.random.default_rng(seed).standard_normal(len(X))
        assert lowest <= objective(delta + 1e-3 * step) + noise
    assert lowest <= objective(np.zeros(len(X))) + noise
