"""Penalties on the covariance of activations: definitions, derivatives, and what leaves them as they are.

Every penalty is a function of C = Ã Ãᵀ/(m − 1) and its gradient 2 F Ã/(m − 1) with F = ∂L/∂C, so what
rounding may do to both follows from what it may do to C.
"""

import hypothesis.strategies as st
import naive
import numpy as np
import pytest
from cases import data, needs_jit, needs_two_threads, parallel_dtypes, rounding, within
from hypothesis import given
from optional import needs

import fastcov as fc
from fastcov import penalties

# More units than samples, as many, fewer; one unit; two samples.
SHAPES = [(1, 2), (1, 7), (2, 2), (5, 3), (4, 4), (9, 33), (65, 17), (70, 70)]
# Those without options, and the power of the activations that the value goes with.
PENALTIES = {
    "mean_covariance": 2,
    "mean_absolute_covariance": 2,
    "mean_squared_covariance": 4,
    "decov": 4,
    "vicreg_covariance": 4,
}
each = pytest.mark.parametrize("name", PENALTIES)


def degree(name):
    return PENALTIES.get(name, 4)


@pytest.fixture(autouse=True, params=["whole", "by-blocks"])
def blocks(request, monkeypatch):
    """What large layers take: many blocks, and absolute values through signs."""
    if request.param == "by-blocks":
        monkeypatch.setattr("fastcov.penalties.SIGNS_PAY", 0)
        for name, units in (("TILE_UNITS", 16), ("SIGN_UNITS", 300), ("TILE_SIGNS", 48), ("LEAST_UNITS", 5)):
            monkeypatch.setattr(f"fastcov._activations.products.{name}", units)
    return request.param


def a_target(n, seed=3):
    """A symmetric target with entries of the size of a covariance of `data`."""
    root = np.random.default_rng(seed).standard_normal((n, n + 3))
    return root @ root.T / (n + 2)


# Those and the others: label -> (name, options for n units).
CALLS = {
    **{name: (name, lambda n: {}) for name in PENALTIES},
    "smooth": ("mean_absolute_covariance", lambda n: {"epsilon": 0.1}),
    "distance": ("covariance_distance", lambda n: {"target": a_target(n)}),
    "coral": ("covariance_distance", lambda n: {"target": a_target(n), "coral": True}),
}
calls = pytest.mark.parametrize(("name", "options"), CALLS.values(), ids=CALLS)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def curvature(name, C, F, dC, epsilon=0.0):
    """What an error dC of C may do to F = ∂L/∂C."""
    n = len(C)
    if name == "mean_covariance":
        return np.zeros_like(C)
    if name == "mean_absolute_covariance":  # a sign may be either one where C is within its error of zero
        steep = np.divide(dC, np.maximum(epsilon, np.abs(C)), out=np.zeros_like(C), where=epsilon > 0)
        return np.minimum(2, steep if epsilon > 0 else 2.0 * (np.abs(C) <= dC)) / n**2
    if name in ("decov", "vicreg_covariance"):
        return (1 if name == "decov" else 2 / n) * (dC - np.diag(np.diag(dC)))
    if name == "mean_squared_covariance":
        return 2 / n**2 * dC
    raise AssertionError(name)


# Differences of squares, which are only taken where there are fewer samples than units, are summed in another
# way where they leave less than a hundredth of the squares.
CANCELLATION = 1e-2


def bounds(name, A, center, *, exact=False, **options):
    """Largest errors of value and gradient.

    The mean of a unit has an error of at most δ = k ε mean|a|, the same for all of its samples, and each
    difference from it is rounded once, so an entry is at most P = |Ã| + δ and C is known to ΔC = (k ε P Pᵀ
    + m δ δᵀ)/(m − 1): Ã has no mean that a constant could meet. Errors of F follow from its slope, those of
    value and gradient are sums of products. For `exact`, C has no error where it is zero.
    """
    eps = rounding(A)
    C, centred = naive.unit_covariance(A, center)
    m, delta = centred.shape[1], np.zeros((len(C), 1))
    if center:
        delta = eps * np.mean(np.abs(np.asarray(A).astype(np.float64)), axis=1, keepdims=True)
    P = np.abs(centred) + delta
    dC = (eps * P @ P.T + m * delta @ delta.T) / (m - 1)
    F = naive.COVARIANCE_PENALTIES[name](C, **options)[1]
    if name == "covariance_distance":
        dC += eps * np.abs(options["target"])
        dF = (1 / (2 * len(C) ** 2) if options.get("coral") else 2) * dC
    else:
        dF = curvature(name, C, F, dC, **options)
    if exact:
        dF = np.where(C == 0, 0, dF)
    value = abs(naive.COVARIANCE_PENALTIES[name](C, **options)[0])
    if m < len(C) and name in ("decov", "vicreg_covariance"):  # the diagonal is taken away at last
        whole = np.sqrt(np.sum((C - np.diag(np.diag(C))) ** 2) / CANCELLATION)
        dF += eps * (1 if name == "decov" else 2 / len(C)) * np.diag(np.minimum(np.diag(C), whole))
    U = np.abs(F) + dF
    value = np.sum(U * dC) + eps * value * (1 / CANCELLATION if m < len(C) and degree(name) == 4 else 1)
    return value, 2 / (m - 1) * ((dF + 2 * eps * U) @ P + U @ np.broadcast_to(delta, P.shape))


def check(name, A, center=True, *, exact=False, **options):
    """Value and gradient against the definition; both are returned."""
    value, gradient = getattr(penalties, name)(A, center=center, **options)
    assert isinstance(value, float)
    # The reference has a higher precision where that does not take seconds.
    dtype = np.longdouble if len(A) * np.size(A) < 1e6 else np.float64
    expected = naive.covariance_penalty(name, A, center, dtype, **options)
    allowed = bounds(name, A, center, exact=exact, **options)
    within(value, float(expected[0]), allowed[0])
    within(gradient, expected[1].astype(np.float64), allowed[1] + np.finfo(gradient.dtype).tiny)
    return value, gradient


# --- definitions and derivatives


@pytest.mark.covering(2)
@calls
@shapes
def test_values_and_gradients_are_their_definitions(name, options, shape, dtype, center):
    A = data(*shape, dtype)
    _, gradient = check(name, A, center, **options(len(A)))
    assert gradient.dtype == dtype
    assert gradient.shape == A.shape


@parallel_dtypes
@pytest.mark.covering(2)
@needs_jit
@calls
@pytest.mark.parametrize("shape", [(300, 70), (130, 260), (521, 12)], ids=str)
def test_more_units_than_a_block_has_are_no_other_penalty(name, options, shape, dtype, center, parallel):
    check(name, data(*shape, dtype), center, **options(shape[0]))


@calls
@given(n=st.integers(1, 40), m=st.integers(2, 40), seed=st.integers(0, 2**20), center=st.booleans(),
       single=st.booleans(), mean=st.sampled_from([0.0, 1.0, 1e4]))  # fmt: skip
def test_any_activations_have_the_penalty_of_the_definition(name, options, n, m, seed, center, single, mean):
    A = (np.random.default_rng(seed).standard_normal((n, m)) + mean).astype("f4" if single else "f8")
    check(name, A, center, **options(n))


def central_differences(f, A, step):
    """∂f/∂A from four values for each entry; exact for polynomials of degree four."""
    gradient = np.empty_like(A)
    for place in np.ndindex(A.shape):
        values = []
        for k in (1, -1, 2, -2):
            moved = A.copy()
            moved[place] += k * step
            values.append(f(moved))
        near, far = values[0] - values[1], values[2] - values[3]
        gradient[place] = (8 * near - far) / (12 * step)
    return gradient


@pytest.mark.covering(2)
@calls
@pytest.mark.parametrize("shape", [(3, 7), (6, 4)], ids=str)
def test_gradients_are_the_finite_differences_of_the_values(name, options, shape, center):
    A, kwargs = data(*shape), options(shape[0])
    penalty = getattr(penalties, name)
    # A polynomial has no error but rounding, even with steps of the size of A. |C| is one between its zeros.
    step = 2.0**-5 if name != "mean_absolute_covariance" else 2.0**-10
    C, centred = naive.unit_covariance(A, center)
    if name == "mean_absolute_covariance" and not kwargs:
        assert np.abs(C).min() > 4 * step * np.abs(centred).max()
    value, gradient = penalty(A, center=center, **kwargs)
    found = central_differences(lambda A: penalty(A, center=center, **kwargs)[0], A, step)
    # 18 values of a relative error of k ε, and for √(C² + ε²), whose fifth derivative in a is at most
    # 60 (∂C/∂a)⁵/ε⁴ / n² for each of 2n entries, 4 h⁴/5! times it.
    allowed = 18 * (bounds(name, A, center, **kwargs)[0] + rounding(A) * value) / (12 * step)
    if "epsilon" in kwargs:
        slope = 2 * np.abs(centred).max() / (shape[1] - 1)
        allowed += 4 * step**4 / 120 * 60 * slope**5 / kwargs["epsilon"] ** 4 * 2 / shape[0]
    within(found, gradient, allowed + bounds(name, A, center, **kwargs)[1])


TORCH = {
    "mean_covariance": lambda C, torch: C.mean(),
    "mean_absolute_covariance": lambda C, torch: C.abs().mean(),
    "smooth": lambda C, torch: torch.sqrt(C**2 + 0.1**2).mean(),
    "mean_squared_covariance": lambda C, torch: (C**2).mean(),
    "decov": lambda C, torch: (C - torch.diag(C.diagonal())).pow(2).sum() / 2,
    "vicreg_covariance": lambda C, torch: (C - torch.diag(C.diagonal())).pow(2).sum() / len(C),
    "distance": lambda C, torch: (C - torch.from_numpy(a_target(len(C)))).pow(2).sum(),
    "coral": lambda C, torch: (C - torch.from_numpy(a_target(len(C)))).pow(2).sum() / (4 * len(C) ** 2),
}


@pytest.mark.covering(2)
@pytest.mark.parametrize("label", CALLS)
@pytest.mark.parametrize("shape", [(1, 5), (12, 30), (30, 12)], ids=str)
def test_gradients_are_what_autograd_makes_of_the_formula(label, shape, center):
    torch = needs("torch")  # its autograd
    name, options = CALLS[label]
    A, kwargs = data(*shape), options(shape[0])
    leaf = torch.from_numpy(A.copy()).requires_grad_()
    centred = leaf - leaf.mean(1, keepdim=True) if center else leaf
    expected = TORCH[label](centred @ centred.T / (shape[1] - 1), torch)
    expected.backward()
    value, gradient = getattr(penalties, name)(A, center=center, **kwargs)
    allowed = bounds(name, A, center, **kwargs)
    within(value, expected.item(), 2 * allowed[0])
    within(gradient, leaf.grad.numpy(), 2 * allowed[1])


# --- identities


def test_the_mean_covariance_is_that_of_the_summed_units(dtype, center):
    A = data(20, 13, dtype)
    _, centred = naive.unit_covariance(A, center)
    total = centred.sum(axis=0)
    value, gradient = penalties.mean_covariance(A, center=center)
    eps = rounding(A) * np.abs(A).sum(axis=0).max() ** 2
    within(value, total @ total / (20**2 * 12), eps / 20**2)
    np.testing.assert_array_equal(gradient, np.broadcast_to(gradient[0], A.shape))
    within(gradient[0], 2 * total / (20**2 * 12), rounding(A) * np.abs(A).sum(axis=0).max())


@pytest.mark.covering(2)
@calls
def test_the_order_of_units_and_samples_does_not_matter(name, options, dtype, center):
    A, rng, kwargs = data(31, 18, dtype), np.random.default_rng(4), options(31)
    value, gradient = getattr(penalties, name)(A, center=center, **kwargs)
    allowed = bounds(name, A, center, **kwargs)
    units, samples = rng.permutation(31), rng.permutation(18)
    if "target" in kwargs:
        kwargs["target"] = kwargs["target"][np.ix_(units, units)]
    moved = getattr(penalties, name)(A[np.ix_(units, samples)], center=center, **kwargs)
    within(moved[0], value, 2 * allowed[0])
    within(moved[1], gradient[np.ix_(units, samples)], 2 * allowed[1][np.ix_(units, samples)])


@pytest.mark.covering(2)
@calls
@pytest.mark.parametrize("shape", [(12, 40), (40, 12)], ids=str)
@pytest.mark.parametrize("size", [1.0, 2.0**20])
def test_a_constant_on_a_unit_does_not_count_once_centred(name, options, shape, size):
    # On a grid of 2⁻²⁰ sums are exact, so that both have the same differences from the mean.
    A = np.round(2.0**20 * data(*shape)) * 2.0**-20
    moved = A + size * np.arange(1, shape[0] + 1)[:, np.newaxis]
    kwargs = options(shape[0])
    value, gradient = check(name, moved, True, **kwargs)
    allowed = [here + there for here, there in zip(
        bounds(name, A, True, **kwargs), bounds(name, moved, True, **kwargs), strict=True
    )]  # fmt: skip
    expected = getattr(penalties, name)(A, **kwargs)
    within(value, expected[0], allowed[0])
    within(gradient, expected[1], allowed[1])
    within(gradient.sum(axis=1), np.zeros(shape[0]), allowed[1].sum(axis=1))  # nothing that moves the mean


@pytest.mark.covering(2)
@each
@pytest.mark.parametrize("power", [-3, 5])
@pytest.mark.parametrize("shape", [(12, 40), (40, 12)], ids=str)
def test_values_go_with_a_power_of_the_activations_bit_by_bit(name, power, shape, dtype, center):
    A = data(*shape, dtype)
    value, gradient = getattr(penalties, name)(A, center=center)
    larger = getattr(penalties, name)(np.ldexp(A, power), center=center)
    assert larger[0] == np.ldexp(value, power * degree(name))
    np.testing.assert_array_equal(larger[1], np.ldexp(gradient, power * (degree(name) - 1)))


def test_epsilon_and_targets_go_with_the_square_of_the_activations(dtype, center):
    A, S = data(12, 9, dtype), a_target(12)
    for power in (-3, 5):
        larger = np.ldexp(A, power)
        value, gradient = penalties.mean_absolute_covariance(A, epsilon=0.1, center=center)
        both = penalties.mean_absolute_covariance(larger, epsilon=np.ldexp(0.1, 2 * power), center=center)
        assert both[0] == np.ldexp(value, 2 * power)
        np.testing.assert_array_equal(both[1], np.ldexp(gradient, power))
        value, gradient = penalties.covariance_distance(A, S, center=center)
        both = penalties.covariance_distance(larger, np.ldexp(S, 2 * power), center=center)
        assert both[0] == np.ldexp(value, 4 * power)
        np.testing.assert_array_equal(both[1], np.ldexp(gradient, 3 * power))


@pytest.mark.covering(2)
@each
@pytest.mark.parametrize("shape", [(12, 40), (40, 12)], ids=str)
def test_gradients_along_the_activations_are_the_degree_times_the_value(name, shape, center):
    A = data(*shape)
    value, gradient = getattr(penalties, name)(A, center=center)
    allowed = bounds(name, A, center)
    terms = np.sum(np.abs(A) * (allowed[1] + rounding(A) * np.abs(gradient)))
    within(np.sum(A * gradient), degree(name) * value, terms + degree(name) * allowed[0])


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", [(1, 5), (12, 40), (40, 12)], ids=str)
def test_penalties_on_squares_are_parts_of_one_another(shape, dtype, center):
    A, n = data(*shape, dtype), shape[0]
    names = ("mean_squared_covariance", "decov", "vicreg_covariance")
    (mean, slope), (decov, decov_slope), (vicreg, vicreg_slope) = (
        getattr(penalties, name)(A, center=center) for name in names
    )
    loose = {name: bounds(name, A, center) for name in names}
    within(vicreg, 2 / n * decov, 2 * loose["vicreg_covariance"][0])
    within(vicreg_slope, 2 / n * decov_slope, 2 * loose["vicreg_covariance"][1])
    C, centred = naive.unit_covariance(A, center)
    allowed = loose["mean_squared_covariance"]
    within(n**2 * mean, 2 * decov + np.sum(np.diag(C) ** 2), 3 * n**2 * allowed[0])
    diagonal = 4 / (shape[1] - 1) * np.diag(C)[:, np.newaxis] * centred
    within(n**2 * slope, 2 * decov_slope + diagonal, 3 * n**2 * allowed[1])
    zero = np.zeros((n, n))
    for coral, factor in ((False, n**2), (True, 1 / 4)):
        distance = penalties.covariance_distance(A, zero, coral=coral, center=center)
        within(distance[0], factor * mean, 2 * factor * allowed[0])
        within(distance[1], factor * slope, 2 * factor * allowed[1])


def test_one_unit_has_no_other_to_be_correlated_with(dtype, center):
    A = data(1, 9, dtype)
    for name in ("decov", "vicreg_covariance"):
        value, gradient = getattr(penalties, name)(A, center=center)
        assert value == 0.0
        np.testing.assert_array_equal(gradient, np.zeros_like(A))


@pytest.mark.covering(2)
@pytest.mark.parametrize("label", CALLS)
@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (3, 3)], ids=str)
def test_samples_by_units_have_the_transposed_gradient(label, shape, dtype, center):
    name, options = CALLS[label]
    A, kwargs = data(*shape, dtype), options(shape[0])
    value, gradient = getattr(penalties, name)(A, center=center, **kwargs)
    allowed = bounds(name, A, center, **kwargs)
    for form in (np.ascontiguousarray(A.T), A.T):
        other = getattr(penalties, name)(form, samples_axis=0, center=center, **kwargs)
        within(other[0], value, 2 * allowed[0])
        within(other[1], gradient.T, 2 * allowed[1].T)
        assert other[1].dtype == dtype


@parallel_dtypes
@pytest.mark.covering(2)
@calls
@pytest.mark.parametrize("shape", [(90, 40), (40, 90)], ids=str)
def test_a_result_repeats_bit_by_bit(name, options, shape, dtype, parallel):
    A, kwargs = data(*shape, dtype), options(shape[0])
    first, second = (getattr(penalties, name)(A, **kwargs) for _ in range(2))
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1], second[1])


@parallel_dtypes
@pytest.mark.covering(2)
@needs_two_threads
@calls
@pytest.mark.parametrize("shape", [(90, 40), (40, 90)], ids=str)
def test_threads_change_a_result_by_rounding_only(name, options, shape, dtype, parallel, monkeypatch):
    monkeypatch.setattr("fastcov._activations.products.SMALL_FLOPS", 0.0)
    A, kwargs = data(*shape, dtype), options(shape[0])
    results = []
    for count in (1, 2):
        with fc.threads(count):
            results.append(getattr(penalties, name)(A, **kwargs))
    allowed = bounds(name, A, True, **kwargs)
    within(results[0][0], results[1][0], 2 * allowed[0])
    within(results[0][1], results[1][1], 2 * allowed[1])
