"""The objective of the exact and of the linearised fit: gradient, curvature, the quartic along a line."""

import decimal
import itertools
import math

import naive
import numpy as np
import pytest
from cases import (
    absolute_atoms,
    absolute_error,
    data,
    magnitudes,
    parallel_dtypes,
    random_gains,
    rounding,
    target,
    within,
)
from hypothesis import example, given
from hypothesis import strategies as st

from fastcov._exact_loss.objective import Objective, best_step
from fastcov._model.problem import Problem
from fastcov._model.products import squared_norms
from fastcov._model.ridge_penalty import Penalty

SHAPES = [(1, 1), (1, 3), (2, 1), (7, 4), (33, 3), (70, 2)]
EPS = np.finfo(np.float64).eps
RIDGE = 2.5


@pytest.fixture(params=[False, True], ids=["exact", "linear"])
def linear(request):
    return request.param


@pytest.fixture(params=["one-call", "by-passes"])
def compiled(request, monkeypatch):
    """Whether a point of a small problem is one compiled call."""
    if request.param == "by-passes":
        monkeypatch.setattr("fastcov._exact_loss.objective.COMPILED", 0)
    return request.param == "one-call"


def objective(X, S, center=True, *, linear=False, single=False, ridge=RIDGE):
    problem = Problem.of(X, center=center).astype(np.float64)
    assert problem.exponent == 0  # so that its units are those of the oracle
    coarse = problem.astype(np.float32) if single else None
    return Objective(
        problem,
        problem.target(S)[0],
        Penalty(ridge),
        problem.covariance(),
        squared_norms(problem),
        coarse,
        linear,
    )


def value(X, S, z, center, linear, dtype=np.longdouble):
    return (naive.linear_loss if linear else naive.loss)(X, S, z, RIDGE, center, dtype)


def curvature(X, S, z, center, linear):
    """The Hessian, dense, and bounds on the terms that are summed for its entries."""
    z_of_atoms = None if linear else z
    G = absolute_atoms(X, z_of_atoms, center)
    terms = G.T @ G + RIDGE * np.eye(len(X))
    if linear:
        return naive.gram(X, None, center) + RIDGE * np.eye(len(X)), terms
    x, _ = magnitudes(X, z, center)
    terms += 2 * (x @ absolute_error(X, S, z, center) @ x.T)
    return naive.hessian(X, S, z, RIDGE, center), terms


def gradient_terms(X, S, z, center, linear):
    """Bounds on the sums of magnitudes behind a gradient."""
    if linear:
        G = absolute_atoms(X, None, center)
        E = absolute_error(X, S, None, center).ravel() + G @ (np.abs(z) + 1)
    else:
        G, E = absolute_atoms(X, z, center), absolute_error(X, S, z, center).ravel()
    return G.T @ E + RIDGE * (np.abs(z) + 1)


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("compiled")
def test_value_and_gradient_are_their_definitions(shape, dtype, center, linear):
    N, D = shape
    X, S = data(N, D, dtype), target(D, size=N)
    f = objective(X, S, center, linear=linear)
    gradient = naive.linear_loss_gradient if linear else naive.loss_gradient
    for z in (np.ones(N), random_gains(N), np.zeros(N), -3 * random_gains(N)):
        point = f.at(z)
        E = absolute_error(X, S, None if linear else z, center)
        if linear:
            E = E + (absolute_atoms(X, None, center) @ (np.abs(z) + 1)).reshape(D, D)
        size = np.sum(E**2) + RIDGE * np.sum((np.abs(z) + 1) ** 2)
        within(point.value, float(value(X, S, z, center, linear)), 2 * rounding(X, np.float64) * size)
        within(f.value(z), point.value, 2 * rounding(X, np.float64) * size)
        bound = 2 * rounding(X, np.float64) * gradient_terms(X, S, z, center, linear)
        expected = gradient(X, S, z, RIDGE, center, np.longdouble).astype(float)
        within(point.gradient, expected, bound)


@pytest.mark.usefixtures("compiled")
def test_gradient_is_the_derivative_of_the_loss_in_long_double(center, linear):
    X, S, z = data(6, 3), target(3), random_gains(6)
    gradient = objective(X, S, center, linear=linear).at(z).gradient
    h = np.longdouble(0.125)

    def difference(i, k):
        step = k * h * np.eye(6, dtype=np.longdouble)[i]
        return (value(X, S, z + step, center, linear) - value(X, S, z - step, center, linear)) / (2 * k * h)

    # A quartic in each gain: Richardson's extrapolation of central differences leaves no error but
    # rounding, in long double, or where there is none in double, of some loss / h.
    eps = np.finfo(np.longdouble).eps
    loss = float(np.sum((absolute_error(X, S, np.abs(z) + 0.25, center)) ** 2))
    noise = 200 * eps * loss / float(h) + 2 * rounding(X) * gradient_terms(X, S, z, center, linear)
    expected = [float((4 * difference(i, 1) - difference(i, 2)) / 3) for i in range(6)]
    within(gradient, expected, noise)


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.usefixtures("compiled")
def test_products_of_curvature_are_those_of_the_hessian(shape, single, center, linear):
    N, D = shape
    X, S = data(N, D), target(D, size=N)
    f = objective(X, S, center, linear=linear, single=single)
    eps = 4 * rounding(X, np.float32 if single else np.float64)
    for z in (np.ones(N), random_gains(N)):
        H, terms = curvature(X, S, z, center, linear)
        at = None if linear else z
        for v in (random_gains(N, seed=8), np.eye(N)[0], np.zeros(N)):
            product, slope = f.product(f.at(z), v)
            within(product, H @ v, eps * terms @ np.abs(v))
            expected = (naive.atoms(X, at, center) @ v).reshape(D, D)
            bound = (absolute_atoms(X, at, center) @ np.abs(v)).reshape(D, D)
            within(slope, expected, eps * bound)
            np.testing.assert_array_equal(slope, slope.T)


@pytest.mark.covering(2)
@pytest.mark.parametrize("size", [2.0**-60, 2.0**-30, 2.0**30, 2.0**60])
@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
def test_products_of_curvature_bear_vectors_of_any_size(size, single, center, linear):
    # In float32 the squares of these are beyond the range.
    X, S, z, v = data(9, 4), target(4), random_gains(9), random_gains(9, seed=8)
    f = objective(X, S, center, linear=linear, single=single)
    product, slope = f.product(f.at(z), v)
    scaled, scaled_slope = f.product(f.at(z), size * v)
    _, terms = curvature(X, S, z, center, linear)
    eps = 8 * rounding(X, np.float32 if single else np.float64)
    within(scaled / size, product, eps * terms @ np.abs(v))
    within(scaled_slope / size, slope, eps * absolute_error(X, S, np.abs(z) + np.abs(v), center))


@pytest.mark.usefixtures("compiled")
def test_products_of_curvature_are_the_derivative_of_the_gradient(center, linear):
    X, S, z, v = data(8, 3), target(3), random_gains(8), random_gains(8, seed=8)
    f = objective(X, S, center, linear=linear)
    product, _ = f.product(f.at(z), v)
    h = 0.125

    def difference(k):
        return (f.at(z + k * h * v).gradient - f.at(z - k * h * v).gradient) / (2 * k * h)

    # The gradient is a cubic along a line, so that nothing but rounding is left.
    far = np.abs(z) + 0.25 * np.abs(v)
    noise = 4 * rounding(X) * gradient_terms(X, S, far, center, linear) / h
    within((4 * difference(1) - difference(2)) / 3, product, noise)


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.usefixtures("compiled")
def test_curvature_is_symmetric(single, center, linear):
    X, S, z = data(20, 4), target(4), random_gains(20)
    f = objective(X, S, center, linear=linear, single=single)
    point = f.at(z)
    _, terms = curvature(X, S, z, center, linear)
    for seed in range(5):
        v, w = random_gains(20, seed), random_gains(20, seed + 10)
        bound = 4 * rounding(X, np.float32 if single else np.float64) * np.abs(v) @ terms @ np.abs(w)
        assert abs(v @ f.product(point, w)[0] - w @ f.product(point, v)[0]) <= bound


def test_curvature_of_the_linearised_loss_is_the_same_everywhere(center):
    X, S, v = data(9, 4), target(4), random_gains(9, seed=8)
    f = objective(X, S, center, linear=True)
    one, other = (f.product(f.at(z), v)[0] for z in (np.ones(9), 50 * random_gains(9)))
    np.testing.assert_array_equal(one, other)


def test_the_curvature_has_a_negative_direction_where_the_oracle_has_one(center):
    # At small gains E is about −S, and the curvature 2 J ∘ (X E Xᵀ) is negative.
    X, S, z = data(9, 4), 50 * target(4), np.full(9, 1e-3)
    values, vectors = np.linalg.eigh(naive.hessian(X, S, z, RIDGE, center))
    assert values[0] < 0
    f = objective(X, S, center)
    product, _ = f.product(f.at(z), np.ascontiguousarray(vectors[:, 0]))
    np.testing.assert_allclose(vectors[:, 0] @ product, values[0], rtol=1e-10)


@pytest.mark.usefixtures("compiled")
def test_the_diagonal_bounds_that_of_the_hessian_and_is_positive(center, linear):
    X, S = data(9, 4), 50 * target(4)
    X[4] = 0.0
    for ridge in (0.0, RIDGE):
        f = objective(X, S, center, linear=linear, ridge=ridge)
        for z in (np.ones(9), random_gains(9), np.zeros(9)):
            diagonal = f.at(z).diagonal(ridge)
            assert (diagonal > 0).all()
            H = naive.gram(X) + ridge * np.eye(9) if linear else naive.hessian(X, S, z, ridge, center)
            if center and linear:
                assert (diagonal >= np.diag(H) * (1 - 1e-12)).all()


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("compiled")
def test_the_loss_along_a_line_is_a_quartic_with_these_coefficients(shape, dtype, center, linear):
    N, D = shape
    X, S = data(N, D, dtype), target(D, size=N)
    f = objective(X, S, center, linear=linear)
    for z in (np.ones(N), random_gains(N)):
        point, v = f.at(z), random_gains(N, seed=8)
        coefficients = f.along(point, v, f.product(point, v)[1])
        assert len(coefficients) == 5
        for t in (-2.0, -0.5, 0.0, 0.25, 1.0, 3.0, 10.0):
            far = np.abs(z) + abs(t) * np.abs(v)
            E = absolute_error(X, S, None if linear else far, center)
            if linear:
                E = E + (absolute_atoms(X, None, center) @ (far + 1)).reshape(D, D)
            size = np.sum(E**2) + RIDGE * np.sum((far + 1) ** 2)
            found = sum(c * t**k for k, c in enumerate(coefficients))
            expected = float(value(X, S, z + t * v, center, linear))
            within(found, expected, 4 * rounding(X, np.float64) * size)
        if linear:
            assert coefficients[3] == coefficients[4] == 0.0


@pytest.mark.parametrize("size", [2.0**-60, 2.0**-30, 1.0, 2.0**30, 2.0**60])
def test_the_quartic_of_a_line_bears_directions_of_any_size_in_float32(size, center):
    # t and the direction are one: the coefficient of tᵏ is of order k in the direction.
    X, S, z, v = data(9, 4), target(4), random_gains(9), random_gains(9, seed=8)
    f, g = objective(X, S, center, single=True), objective(X, S, center)
    expected = f.along(f.at(z), v, g.product(g.at(z), v)[1])
    found = f.along(f.at(z), size * v, f.product(f.at(z), size * v)[1])
    terms = absolute_error(X, S, np.abs(z) + np.abs(v), center)
    bound = 8 * rounding(X, np.float32) * (np.sum(terms**2) + RIDGE * v @ v)
    within([c / size**k for k, c in enumerate(found)], expected, bound)


@parallel_dtypes
@pytest.mark.parametrize("N", [1, 63, 64, 65, 200])
def test_one_call_and_passes_are_the_same_point(N, dtype, center, parallel, monkeypatch):
    X, S, z = data(N, 3, dtype).astype(float), target(3, size=N), random_gains(N)
    assert objective(X, S, center).pass_in_one_call
    one = objective(X, S, center).at(z)
    monkeypatch.setattr("fastcov._exact_loss.objective.COMPILED", 0)
    assert not objective(X, S, center).pass_in_one_call
    other = objective(X, S, center).at(z)
    eps, E = 2 * rounding(X), absolute_error(X, S, z, center)
    within(one.error, other.error, eps * E)
    within(one.gradient, other.gradient, eps * gradient_terms(X, S, z, center, False))
    x, _ = magnitudes(X, z, center)
    within(one.second_diagonal, other.second_diagonal, eps * 2 * np.einsum("ia,ab,ib->i", x, E, x))
    within(one.norms, other.norms, eps * (absolute_atoms(X, z, center) ** 2).sum(axis=0))
    within(one.problem.mean, other.problem.mean, eps * np.abs(z[:, np.newaxis] * X).mean(axis=0))


@pytest.mark.usefixtures("compiled")
def test_caller_arrays_are_left_alone(center, linear):
    X, S, z, v = data(9, 4), target(4), random_gains(9), random_gains(9, seed=8)
    f = objective(X, S, center, linear=linear)
    point = f.at(z)
    kept = [a.copy() for a in (z, v, point.gradient, point.error, f.target)]
    f.along(point, v, f.product(point, v)[1])
    f.value(z)
    for before, now in zip(kept, (z, v, point.gradient, point.error, f.target), strict=True):
        np.testing.assert_array_equal(before, now)


# --- the best step


def decimal_least(c1, c2, c3, c4, longest):
    """Where c1 t + … + c4 t⁴ is least on (0, longest], to sixty digits: bisection between turning points."""
    with decimal.localcontext(prec=60, Emin=-(10**6), Emax=10**6):
        c1, c2, c3, c4 = map(decimal.Decimal, (c1, c2, c3, c4))

        def slope(t):
            return ((4 * c4 * t + 3 * c3) * t + 2 * c2) * t + c1

        edges = [decimal.Decimal(0)]
        inside = 9 * c3 * c3 - 24 * c4 * c2
        if c4 > 0 and inside > 0:
            turns = [(-3 * c3 + s * inside.sqrt()) / (12 * c4) for s in (-1, 1)]
            edges += sorted(t for t in turns if t > 0)
        if c4 > 0:
            edges.append(1 + (abs(3 * c3) + abs(2 * c2) + abs(c1)) / (4 * c4))
        else:
            edges.append(-c1 / c2)
        roots = [] if longest == math.inf else [decimal.Decimal(longest)]
        for low, high in itertools.pairwise(edges):
            if slope(low) * slope(high) > 0:
                continue
            sign = 1 if slope(high) > 0 else -1
            for _ in range(700):
                middle = (low + high) / 2
                if sign * slope(middle) > 0:
                    high = middle
                else:
                    low = middle
                if high - low <= low * decimal.Decimal("1e-40"):
                    break
            if high <= decimal.Decimal(longest):
                roots.append(high)
        return min(quartic(t, c1, c2, c3, c4) for t in roots)


def quartic(t, *coefficients):
    with decimal.localcontext(prec=60, Emin=-(10**6), Emax=10**6):
        t = decimal.Decimal(t)
        c1, c2, c3, c4 = map(decimal.Decimal, coefficients)
        return (((c4 * t + c3) * t + c2) * t + c1) * t


sizes = st.floats(-12, 12).map(lambda e: 10.0**e)
cosines = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1))


@example(1.0, 1.0, 1e-12, 1.0, 0.0, 0.0, math.inf)
@example(1e-9, 1.0, 1e9, 1e-9, -1.0, -1.0, math.inf)
@example(1e9, 1e-9, 1.0, 1.0, -1.0, 1.0, math.inf)
@given(sizes, sizes, sizes, st.floats(1e-9, 1), cosines, cosines, st.one_of(st.just(math.inf), sizes))
def test_the_best_step_is_least_whatever_the_sizes(e, a, b, slope, bend, turn, longest):
    # ½‖E + tA + t²B‖² with norms and cosines of E, A and B far apart.
    coefficients = (e * e / 2, -e * a * slope, a * a / 2 + e * b * bend, a * b * turn, b * b / 2)
    check_least(coefficients, longest)


def check_least(coefficients, longest):
    t = best_step(coefficients, longest)
    assert 0 < t <= longest
    least = decimal_least(*coefficients[1:], longest)
    assert least < 0
    # Near its minimum the quartic is flat: a root to eight digits has sixteen of the value. What the
    # terms cancel is lost, and what is below the rounding of the loss is nothing.
    terms = sum(abs(c) * t**k for k, c in enumerate(coefficients))
    assert float(quartic(t, *coefficients[1:]) - least) <= 1e-9 * abs(float(least)) + 30 * EPS * terms


@pytest.mark.parametrize("longest", [math.inf, 10.0, 1.0, 0.25, 1e-8])
@given(st.floats(-30, 30), st.integers(0, 10**6))
def test_the_best_step_of_a_loss_is_least(longest, size, seed):
    # Matrices of the sizes that meet in a fit, and a direction that falls.
    rng = np.random.default_rng(seed)
    E, A, B = (rng.standard_normal(4) * 10.0 ** (size * rng.random()) for _ in range(3))
    if E @ A > 0:
        A = -A
    coefficients = (E @ E / 2, E @ A, A @ A / 2 + E @ B, A @ B, B @ B / 2)
    check_least(coefficients, longest)


@pytest.mark.parametrize("c2", [0.5, 2.0, 1e10])
def test_the_best_step_of_a_parabola_is_its_vertex(c2):
    assert best_step((7.0, -3.0, c2, 0.0, 0.0)) == pytest.approx(3.0 / (2 * c2), rel=4 * EPS)
    assert best_step((7.0, -3.0, c2, 0.0, 0.0), 1e-12) == 1e-12


def test_the_farther_of_two_valleys_is_taken_where_it_is_deeper():
    # t (t − 1)² (t − 4)-like: a shallow minimum first, then a deep one.
    c = np.poly1d([1.0, -6.0, 10.0, -4.5, 0.0])
    minima = [t.real for t in np.roots(c.deriv()) if abs(t.imag) < 1e-12 and c.deriv(2)(t.real) > 0]
    assert len(minima) == 2
    assert min(minima) > 0
    deep = min(minima, key=c)
    assert best_step((0.0, *c.coeffs[-2::-1])) == pytest.approx(deep, rel=1e-12)
    near = next(t for t in minima if t < 2)
    assert best_step((0.0, *c.coeffs[-2::-1]), 1.1 * near) == pytest.approx(near, rel=1e-12)


def test_a_line_that_does_not_fall_has_no_step():
    assert best_step((1.0, 0.0, 1.0, 0.0, 0.0)) == 0.0
    assert best_step((1.0, 0.0, 0.0, 0.0, 0.0)) == 0.0
