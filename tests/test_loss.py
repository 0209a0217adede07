"""The exact loss and its gradient: alone, in batches and stacks, by either path, and where digits cancel."""

import naive
import numpy as np
import pytest
from cases import LAYOUTS, absolute_atoms, absolute_error, data, random_gains, rounding, target, within

import fastcov as fc
from fastcov._exact_loss import loss

SHAPES = [(1, 1), (1, 3), (2, 1), (7, 4), (33, 3), (65, 2), (257, 3)]
EPS = np.finfo(np.float64).eps


def candidates(K, N, seed=5):
    """Gains of both signs, among them ones and zeros."""
    Z = 1.0 + np.random.default_rng(seed).standard_normal((K, N))
    Z[0] = 1.0
    Z[-1] = 0.0
    return Z


def check(X, S, z, ridge, center, losses, gradient):
    """One loss and gradient against the oracle, to the rounding of the sums."""
    terms = absolute_error(X, S, z, center)
    eps = rounding(X)
    penalty = 4 * EPS * ridge * np.sum((np.abs(z) + 1) ** 2)
    within(losses, naive.loss(X, S, z, ridge, center), eps * np.sum(terms**2) + penalty)
    bound = absolute_atoms(X, z, center).T @ terms.ravel()
    penalty = 4 * EPS * ridge * (np.abs(z) + 1)
    within(gradient, naive.loss_gradient(X, S, z, ridge, center), eps * bound + penalty)


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_and_gradient_of_one_vector_are_their_definitions(shape, dtype, center):
    N, D = shape
    X, S = data(N, D, dtype), target(D, size=N)
    for z in (np.ones(N), random_gains(N), np.zeros(N)):
        value, gradient = fc.loss_and_gradient(X, S, z, ridge=2.5, center=center)
        assert isinstance(value, float)
        assert gradient.shape == (N,)
        assert gradient.dtype == np.float64
        check(X, S, z, 2.5, center, value, gradient)
        assert fc.loss(X, S, z, ridge=2.5, center=center) == value


# Either side of the switch to products of pairs, at 16 candidates.
@pytest.mark.covering(2)
@pytest.mark.parametrize("K", [1, 2, 15, 16, 17, 40])
@pytest.mark.parametrize("shape", [(7, 4), (65, 2), (2, 1)], ids=str)
def test_a_batch_is_each_candidate_alone(K, shape, dtype, center):
    N, D = shape
    X, S, Z = data(N, D, dtype), target(D, size=N), candidates(K, N)
    values, gradients = fc.loss_and_gradient(X, S, Z, ridge=2.5, center=center)
    assert values.shape == (K,)
    assert gradients.shape == (K, N)
    for z, value, gradient in zip(Z, values, gradients, strict=True):
        check(X, S, z, 2.5, center, value, gradient)
    np.testing.assert_array_equal(fc.loss(X, S, Z, ridge=2.5, center=center), values)


@pytest.mark.parametrize("T", [1, 3, 16, 20])
def test_a_stack_of_targets_goes_pair_by_pair(T, dtype, center):
    X, S = data(9, 4, dtype), np.stack([target(4, seed) for seed in range(T)])
    Z = candidates(T, 9)
    values, gradients = fc.loss_and_gradient(X, S, Z, ridge=2.5, center=center)
    assert values.shape == (T,)
    for s, z, value, gradient in zip(S, Z, values, gradients, strict=True):
        check(X, s, z, 2.5, center, value, gradient)


@pytest.mark.parametrize("T", [1, 3, 20])
def test_a_stack_of_targets_takes_one_vector_of_gains(T, dtype):
    X, S, z = data(9, 4, dtype), np.stack([target(4, seed) for seed in range(T)]), random_gains(9)
    values, gradients = fc.loss_and_gradient(X, S, z)
    assert values.shape == (T,)
    assert gradients.shape == (T, 9)
    for s, value, gradient in zip(S, values, gradients, strict=True):
        check(X, s, z, 0.0, True, value, gradient)


def test_one_candidate_in_a_batch_is_a_batch():
    X, S, z = data(9, 4), target(4), random_gains(9)
    values, gradients = fc.loss_and_gradient(X, S, z[np.newaxis])
    assert values.shape == (1,)
    assert gradients.shape == (1, 9)
    assert values[0] == fc.loss(X, S, z)


def test_a_stack_and_a_batch_of_other_lengths_are_refused():
    S = np.stack([target(4)] * 3)
    with pytest.raises(ValueError, match=r"^Argument 'gains' must .*one for each of the 3 targets, not 2"):
        fc.loss(data(9, 4), S, np.ones((2, 9)))


@pytest.mark.parametrize(("name", "value"), [("PAIR_CANDIDATES", 10**6), ("PAIR_CONDITIONS", 0)])
def test_both_paths_give_the_same(name, value, dtype, center, monkeypatch):
    X, S, Z = data(33, 5, dtype), target(5, size=33), candidates(20, 33)
    by_pairs = fc.loss_and_gradient(X, S, Z, center=center)
    monkeypatch.setattr(loss, name, value)
    alone = fc.loss_and_gradient(X, S, Z, center=center)
    for z, one, other, g, h in zip(Z, by_pairs[0], alone[0], by_pairs[1], alone[1], strict=True):
        terms = absolute_error(X, S, z, center)
        within(one, other, 2 * rounding(X) * np.sum(terms**2))
        within(g, h, 2 * rounding(X) * absolute_atoms(X, z, center).T @ terms.ravel())


def test_the_path_by_pairs_is_taken_exactly_where_it_pays(monkeypatch):
    taken = []
    by_pairs = loss._by_pairs
    monkeypatch.setattr(loss, "_by_pairs", lambda *args: taken.append(1) or by_pairs(*args))
    for K, D, expected in ((15, 4, 0), (16, 4, 1), (16, 96, 1), (16, 97, 0)):
        taken.clear()
        fc.loss(data(4, D), np.eye(D), candidates(K, 4))
        assert len(taken) == expected, (K, D)


@pytest.mark.parametrize("group", [1, 3, 16, 19])
@pytest.mark.parametrize("stack", [False, True], ids=["one-target", "stack"])
def test_a_batch_does_not_depend_on_how_it_is_grouped(group, stack, dtype, monkeypatch):
    N, D, K = 9, 4, 20
    X, Z = data(N, D, dtype), candidates(K, N)
    S = np.stack([target(D, seed) for seed in range(K)]) if stack else target(D)
    monkeypatch.setattr(loss, "GROUP_BYTES", 4 * D * (D + 1) * group)
    values, gradients = fc.loss_and_gradient(X, S, Z)
    for k, z in enumerate(Z):
        check(X, S[k] if stack else S, z, 0.0, True, values[k], gradients[k])


@pytest.mark.parametrize("N", [31, 32, 33, 64, 65])
def test_a_batch_does_not_depend_on_blocks_of_channels(N, dtype, center, monkeypatch):
    # PAIR_BYTES below that of 32 channels: blocks of 32, the least.
    monkeypatch.setattr(loss, "PAIR_BYTES", 1)
    X, S, Z = data(N, 3, dtype), target(3, size=N), candidates(17, N)
    values, gradients = fc.loss_and_gradient(X, S, Z, center=center)
    for z, value, gradient in zip(Z, values, gradients, strict=True):
        check(X, S, z, 0.0, center, value, gradient)


@pytest.mark.covering(2)
@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("K", [2, 17])
def test_loss_does_not_depend_on_the_size_of_a_block(rows, K, dtype, center, set_block_rows):
    set_block_rows(rows, 4)
    X, S, Z = data(9, 4, dtype), target(4), candidates(K, 9)
    values, gradients = fc.loss_and_gradient(X, S, Z, center=center)
    for z, value, gradient in zip(Z, values, gradients, strict=True):
        check(X, S, z, 0.0, center, value, gradient)


@pytest.mark.covering(2)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("K", [1, 17])
def test_loss_does_not_depend_on_memory_layout(layout, K, dtype, tmp_path):
    X, S, Z = LAYOUTS[layout](data(7, 4, dtype), tmp_path), target(4), candidates(K, 7)
    plain = np.array(X, np.float64 if layout == "list" else dtype)
    for form in ("C", "Fortran", "strided", "negative-strides", "read-only", "big-endian", "list"):
        given = LAYOUTS[form](Z, None)
        values, gradients = fc.loss_and_gradient(X, LAYOUTS[form](S, None), given)
        for z, value, gradient in zip(Z, values, gradients, strict=True):
            check(plain, S, z, 0.0, True, value, gradient)
    repeated = fc.loss(X, S, np.broadcast_to(Z[0], (17, 7)))
    within(
        repeated,
        np.full(17, naive.loss(plain, S, Z[0])),
        rounding(plain) * np.sum(absolute_error(plain, S, Z[0]) ** 2),
    )


# --- the gradient


@pytest.mark.parametrize("K", [1, 16])
def test_gradient_is_the_central_difference_of_the_loss(K, center):
    X, S, ridge = data(6, 3), target(3), 3.0
    Z = candidates(K, 6) if K > 1 else random_gains(6)[np.newaxis]
    _, gradients = fc.loss_and_gradient(X, S, Z, ridge=ridge, center=center)
    # L is a quartic in each gain, L = Σ c_k (z_i − z)^k, so that a central difference over h is
    # c_1 + c_3 h²; c_3 is found from differences over h and 2h (Richardson), exactly but for
    # rounding, 2 δL / h in all with δL the rounding of a loss. h = 1/8 is exact.
    h = 0.125
    for z, gradient in zip(Z, gradients, strict=True):
        for i in range(6):
            step = h * np.eye(6)[i]

            def difference(k, z=z, step=step):
                up, down = (fc.loss(X, S, z + s * k * step, ridge=ridge, center=center) for s in (1, -1))
                return (up - down) / (2 * k * h)

            terms = absolute_error(X, S, np.abs(z) + 2 * step, center)
            noise = 2 * rounding(X) * np.sum(terms**2) / h
            assert abs((4 * difference(1) - difference(2)) / 3 - gradient[i]) <= noise


def test_gradient_at_ones_is_minus_the_overlaps():
    X, S = data(9, 4), target(4)
    _, gradient = fc.loss_and_gradient(X, S, np.ones(9))
    bound = absolute_atoms(X).T @ absolute_error(X, S).ravel()
    within(gradient, -fc.overlaps(X, S), 2 * rounding(X) * bound)


def test_gradient_vanishes_at_the_gains_that_made_the_target():
    X, z = data(9, 4), random_gains(9)
    S = fc.covariance(X, gains=z)
    value, gradient = fc.loss_and_gradient(X, S, z)
    terms = absolute_error(X, S, z)
    assert value <= (rounding(X) * np.linalg.norm(terms)) ** 2
    within(gradient, np.zeros(9), rounding(X) * absolute_atoms(X, z).T @ terms.ravel())


# --- where digits cancel


def homogenising(tiny, N=40, D=4, seed=7):
    """x_i = s_i (p + tiny n_i) and z_i = 1 / s_i: the scaled responses are all but alike."""
    rng = np.random.default_rng(seed)
    s, p = np.exp(rng.standard_normal(N)), 1.0 + rng.random(D)
    X = s[:, np.newaxis] * (p + tiny * rng.standard_normal((N, D)))
    return X, 1.0 / s


@pytest.mark.parametrize("tiny", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("K", [1, 20])
def test_gains_that_make_the_responses_alike_keep_their_digits(tiny, K):
    X, z = homogenising(tiny)
    S = 0.5 * naive.covariance(X, z)
    S = (S + S.T) / 2
    Z = np.tile(z, (K, 1))
    Z[1:] *= np.linspace(1.0, 1.5, K)[1:, np.newaxis]  # as alike as before
    if K > 2:
        Z[5] = 1.0  # one that is not among many that are
    values, gradients = fc.loss_and_gradient(X, S, Z)
    for candidate, value, gradient in zip(Z, values, gradients, strict=True):
        exact = naive.loss(X, S, candidate, dtype=np.longdouble)
        exact_gradient = naive.loss_gradient(X, S, candidate, dtype=np.longdouble)
        # z x has a rounding of ε |z x|, 1/tiny relative to what is left of it after centring; the loss
        # is of fourth order in that. Cancelling after the product would lose 1/tiny².
        tolerance = 8 * rounding(X) / tiny
        np.testing.assert_allclose(value, float(exact), rtol=tolerance)
        largest = float(np.abs(exact_gradient).max())
        np.testing.assert_allclose(gradient, exact_gradient.astype(float), rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("offset", [1e3, 1e6])
@pytest.mark.parametrize("K", [1, 20])
def test_a_large_common_offset_costs_no_more_digits_than_the_input_has_lost(offset, K):
    # The offset is common to all channels, and the gains are one but for a little, or J would not remove it.
    X = data(30, 4) + offset
    S = target(4)
    Z = 1.0 + np.random.default_rng(3).standard_normal((K, 30)) / offset
    values, gradients = fc.loss_and_gradient(X, S, Z)
    for z, value, gradient in zip(Z, values, gradients, strict=True):
        # A rounding of z x, ε offset, is that of the spread of 1 left by centring; fourth order.
        tolerance = 8 * rounding(X) * offset
        np.testing.assert_allclose(value, float(naive.loss(X, S, z, dtype=np.longdouble)), rtol=tolerance)
        exact = naive.loss_gradient(X, S, z, dtype=np.longdouble).astype(float)
        np.testing.assert_allclose(gradient, exact, rtol=0, atol=tolerance * np.abs(exact).max())


@pytest.mark.parametrize("size", [1e-60, 1e60])
@pytest.mark.parametrize("K", [1, 20])
def test_losses_of_extreme_units_are_finite_and_right(size, K):
    factor = 2.0 ** np.round(np.log2(size))
    X, S, Z = data(9, 4), target(4), candidates(K, 9)
    values, gradients = fc.loss_and_gradient(factor * X, factor**2 * S, Z)
    for z, value, gradient in zip(Z, values, gradients, strict=True):
        check(X, S, z, 0.0, True, value / factor**4, gradient / factor**4)


@pytest.mark.parametrize("size", [2.0**-66, 2.0**-33, 2.0**33, 2.0**66])
@pytest.mark.parametrize("K", [1, 20])
def test_gains_far_from_one_do_not_overflow_float32_products(size, K):
    # Gains of 1e-20 to 1e20 on responses of one, and S of the size of the covariance there.
    X, S, Z = data(9, 4, np.float32), target(4), candidates(K, 9)
    values, gradients = fc.loss_and_gradient(X, size**2 * S, size * Z)
    for z, value, gradient in zip(Z, values, gradients, strict=True):
        check(X, S, z, 0.0, True, value / size**4, gradient / size**3)


@pytest.mark.parametrize("size", [2.0**-83, 2.0**-40, 2.0**40, 2.0**83])
@pytest.mark.parametrize("K", [1, 20])
def test_gains_that_undo_the_units_do_not_overflow_float32_products(size, K):
    # Responses of 1e25 or 1e-25 in float32, and gains that bring them to one.
    X, S, Z = data(9, 4, np.float32), target(4), candidates(K, 9)
    values, gradients = fc.loss_and_gradient(np.float32(size) * X, S, Z / size)
    for z, value, gradient in zip(Z, values, gradients, strict=True):
        check(X, S, z, 0.0, True, value, gradient / size)


def test_candidates_of_very_different_size_keep_their_digits_in_float32():
    X, S, Z = data(9, 4, np.float32), target(4), candidates(2, 9)
    value = fc.loss(X, S, np.stack([2.0**70 * Z[1], Z[0]]))[1]
    within(value, naive.loss(X, S, Z[0]), rounding(X) * np.sum(absolute_error(X, S, Z[0]) ** 2))
