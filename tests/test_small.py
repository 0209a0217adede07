"""Single losses in one compiled call: the numbers of the general road, and nothing that is not plain."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc
from fastcov._exact_loss import loss as loss_module
from fastcov._exact_loss import small

SHAPES = [(1, 1), (1, 5), (7, 1), (3, 9), (40, 12), (148, 48), (60, 64), (300, 20), (700, 30)]


def arrays(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=shape) + rng.normal(size=shape[1])).astype(dtype)
    S = fc.covariance(rng.normal(size=(shape[0] + 5, shape[1])))
    return X, S, rng.lognormal(0.0, 0.4, shape[0])


def plain(X, S, z, ridge=0.0, center=True):
    return small.plain_loss(X, S, z, ridge, center, gradient=True)


def general(monkeypatch, *args, **options):
    with monkeypatch.context() as patch:
        patch.setattr(loss_module, "plain_loss", lambda *a, **k: None)
        return fc.loss(*args, **options), *fc.loss_and_gradient(*args, **options)


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("ridge", [0.0, 3, np.float64(0.7)])
def test_one_call_gives_the_numbers_of_the_general_road(monkeypatch, shape, dtype, center, ridge):
    X, S, z = arrays(shape, dtype)
    options = {"ridge": ridge, "center": center}
    assert plain(X, S, z, **options) is not None
    expected, again, slopes = general(monkeypatch, X, S, z, **options)
    found, (with_gradient, gradient) = fc.loss(X, S, z, **options), fc.loss_and_gradient(X, S, z, **options)
    assert isinstance(found, float)
    assert found == with_gradient
    assert expected == again
    # Products of N terms in the precision of X, of the size of the covariance and the target.
    Y = z[:, np.newaxis] * X.astype(np.float64)
    Y -= center * Y.mean(axis=0)
    size = np.square(Y).sum() + np.linalg.norm(S)
    rounding = 8 * (np.sqrt(shape[0]) + 8) * np.finfo(dtype).eps
    off = rounding * size
    error = np.sqrt(2 * expected) + off
    assert found == expected  # the same sums in the same order
    rows = np.linalg.norm(X.astype(np.float64), axis=1)
    largest = np.linalg.norm(Y, axis=1).max() + np.linalg.norm(Y)
    ends = 4 * np.finfo(np.float64).eps * (np.abs(slopes) + ridge * np.abs(z - 1.0))
    assert np.all(np.abs(gradient - slopes) <= 4 * rows * largest * (off + rounding * error) + ends)


WRONG = {
    "NaN in X": lambda X, S, z: (X.__setitem__((1, 2), np.nan), X, S, z)[1:],
    "infinite X": lambda X, S, z: (X.__setitem__((1, 2), -np.inf), X, S, z)[1:],
    "NaN in S": lambda X, S, z: (S.__setitem__((1, 1), np.nan), X, S, z)[1:],
    "infinite S": lambda X, S, z: (S.__setitem__((1, 1), np.inf), X, S, z)[1:],
    "S not symmetric": lambda X, S, z: (S.__setitem__((1, 2), 9.0), X, S, z)[1:],
    "NaN in gains": lambda X, S, z: (z.__setitem__(3, np.nan), X, S, z)[1:],
    "infinite gain": lambda X, S, z: (z.__setitem__(3, np.inf), X, S, z)[1:],
    "gains of another length": lambda X, S, z: (X, S, z[:-1].copy()),
    "S of another size": lambda X, S, z: (X, S[:-1, :-1].copy(), z),
    "S of no square": lambda X, S, z: (X, S[:-1].copy(), z),
    "complex X": lambda X, S, z: (X + 0j, S, z),
    "X of text": lambda X, S, z: (X.astype(str), S, z),
    "masked X": lambda X, S, z: (np.ma.masked_less(X, 0.0), S, z),
    "X of one axis": lambda X, S, z: (X.ravel(), S, z),
    "empty X": lambda X, S, z: (X[:0].copy(), S, z[:0].copy()),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said_by_the_general_road(wrong):
    X, S, z = WRONG[wrong](*arrays((20, 6)))
    assert plain(X, S, z) is None
    with pytest.raises((TypeError, ValueError), match=r"Argument '(X|S|gains)' must"):
        fc.loss(X, S, z)


@pytest.mark.parametrize("ridge", [-1.0, np.nan, np.inf, "cv", True, 1j, None])
def test_ridges_that_are_wrong_are_left_to_the_general_road(ridge):
    X, S, z = arrays((20, 6))
    assert plain(X, S, z, ridge) is None
    with pytest.raises((TypeError, ValueError), match="Argument 'ridge' must"):
        fc.loss_and_gradient(X, S, z, ridge=ridge)


def test_a_center_that_is_neither_true_nor_false_is_left_to_the_general_road():
    X, S, z = arrays((20, 6))
    assert plain(X, S, z, center=1) is None
    with pytest.raises(TypeError, match="Argument 'center' must"):
        fc.loss(X, S, z, center=1)


OTHER = {
    "Fortran order": lambda X, S, z: (np.asfortranarray(X), S, z),
    "read-only": lambda X, S, z: (X.setflags(write=False), X, S, z)[1:],
    "big-endian": lambda X, S, z: (X.astype(">f8"), S, z),
    "long double": lambda X, S, z: (X.astype(np.longdouble), S, z),
    "every other row": lambda X, S, z: (np.repeat(X, 2, axis=0)[::2], S, z),
    "lists": lambda X, S, z: (X.tolist(), S.tolist(), z.tolist()),
    "a stack": lambda X, S, z: (X, S[np.newaxis], z),
    "candidates": lambda X, S, z: (X, S, z[np.newaxis]),
    "S symmetric to rounding": lambda X, S, z: (X, S * (1 + 1e-16 * np.tri(len(S))) , z),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHER)
def test_other_forms_of_the_same_numbers_have_the_same_loss(other):
    X, S, z = arrays((40, 12))
    expected = fc.loss(X, S, z)
    given = OTHER[other](X.copy(), S.copy(), z.copy())
    assert_allclose(np.ravel(fc.loss(*given))[0], expected, rtol=1e-12)


@pytest.mark.parametrize("exponent", [-60, -30, -19, -17, 0, 17, 19, 30, 60])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_units_make_no_difference_at_either_side_of_what_is_plain(exponent, dtype):
    X, S, z = arrays((40, 12), dtype)
    if dtype == np.float32 and abs(exponent) > 30:
        pytest.skip("beyond float32 with a margin for the spread of X")
    size, slope = fc.loss_and_gradient(X, S, z)
    scale = 2.0**exponent
    scaled, slopes = fc.loss_and_gradient((X * dtype(scale)).astype(dtype), S * scale**2, z)
    rtol = 1e-12 if dtype == np.float64 else 1e-5
    assert_allclose(scaled / scale**4, size, rtol=rtol)
    assert_allclose(slopes / scale**4, slope, rtol=rtol, atol=rtol * np.abs(slope).max())


@pytest.mark.parametrize("size", [2.0**60, 2.0**90])
def test_a_target_far_above_the_covariance_keeps_a_finite_gradient_in_float32(size):
    X, S, z = arrays((40, 12), np.float32)
    loss, gradient = fc.loss_and_gradient(X, S * size, z)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    expected = fc.loss_and_gradient(X.astype(np.float64), S * size, z)[1]
    assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_inputs_are_not_written_to_and_bits_repeat():
    given = arrays((148, 48))
    before = [array.copy() for array in given]
    first, second = (fc.loss_and_gradient(*given) for _ in range(2))
    for array, kept in zip(given, before, strict=True):
        assert_array_equal(array, kept)
    assert first[0] == second[0]
    assert_array_equal(first[1], second[1])
    assert not np.shares_memory(first[1], second[1])


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("center", [True, False])
def test_the_loss_is_zero_where_the_target_is_the_covariance_at_the_gains(shape, dtype, center):
    X, _, z = arrays(shape, dtype)
    S = fc.covariance(X, gains=z, center=center)
    if S.any():
        assert plain(X, S, z, center=center) is not None
    assert fc.loss(X, S, z, center=center) == 0.0


@pytest.mark.parametrize("shape", [(64, 65), (60, 128), (456, 48), (1, 1023)])
def test_what_blas_would_give_to_its_threads_or_kernels_to_theirs_is_left_to_the_general_road(shape):
    assert plain(*arrays(shape)) is None
