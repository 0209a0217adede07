"""ridge_path(): each fit is that of fit() at its ridge, whatever the solver, the order and the method."""

import naive
import numpy as np
import pytest
from cases import data, gains_bound, gradient_rounding, target, within

import fastcov as fc
from fastcov._fitting.start import Start
from fastcov._studies import ridge_path

RELATIVE = [1e-3, 1.0, 0.1, 1e-2]  # in no order
METHODS = ["linear", "line-search", "exact", "diagonal"]


def top(X, center=True):
    return np.linalg.norm(naive.atoms(X, None, center), 2) ** 2


@pytest.mark.covering(2)
@pytest.mark.parametrize("solver", ["auto", "spectral", "cholesky", "dual", "pcg"])
@pytest.mark.parametrize("shape", [(30, 4), (12, 6), (2, 2)], ids=str)
def test_linear_fits_of_a_path_are_those_alone(shape, solver, dtype, center):
    X, S = data(*shape, dtype), target(shape[1], size=shape[0])
    path = fc.ridge_path(X, S, relative_ridges=RELATIVE, solver=solver, center=center, tol=1e-10)
    assert len(path) == 4
    for fit, relative in zip(path, RELATIVE, strict=True):
        alone = fc.fit(X, S, ridge=fit.ridge, center=center, solver="cholesky", tol=1e-10)
        assert fit.relative_ridge == relative
        np.testing.assert_allclose(fit.ridge, relative * top(X.astype(float), center), rtol=1e-9)
        # of rounding, and of what pcg and refined float32 factors leave: 1e-10 ‖b‖ / λ
        left = np.linalg.norm(naive.overlaps(X, S, None, center)) / fit.ridge
        bound = 2 * gains_bound(X, S, fit.ridge, center) + 2e-10 * left * (1 + np.sqrt(len(X)))
        assert bound < 1e-3  # or nothing is tested
        within(fit.delta, alone.delta, bound)
        within(fit.delta, naive.linear_fit(X, S, fit.ridge, center), bound)
        assert fit.status == "converged"


@pytest.mark.parametrize("solver", ["auto", "spectral", "cholesky", "dual", "pcg"])
def test_line_searches_of_a_path_are_those_alone(solver, center):
    X, S = data(30, 4), 3 * target(4, size=30)
    path = fc.ridge_path(
        X, S, relative_ridges=RELATIVE, method="line-search", solver=solver, center=center, tol=1e-10
    )
    for fit in path:
        alone = fc.fit(X, S, ridge=fit.ridge, method="line-search", center=center, solver="cholesky")
        np.testing.assert_allclose(fit.loss, alone.loss, rtol=1e-7)
        np.testing.assert_allclose(fit.stats["step"], alone.stats["step"], rtol=1e-5)
        assert fit.loss <= fit.loss_at_one


@pytest.mark.parametrize("options", [{}, {"bounds": (0.9, 1.1)}], ids=["free", "bounded"])
def test_exact_fits_of_a_path_are_minima(options, dtype, center):
    X, S = data(30, 5, dtype), target(5, size=30)
    path = fc.ridge_path(X, S, relative_ridges=RELATIVE, method="exact", center=center, **options)
    lower, upper = options.get("bounds", (-np.inf, np.inf))
    for fit in path:
        assert fit.status == "converged"
        assert (fit.gains >= lower).all()
        assert (fit.gains <= upper).all()
        gradient, at_one = (
            naive.loss_gradient(X, S, z, fit.ridge, center, np.longdouble).astype(float)
            for z in (fit.gains, np.ones(30))
        )
        left = np.linalg.norm(naive.projected(gradient, fit.gains, lower, upper))
        noise = gradient_rounding(X, S, fit.gains, fit.ridge, center)
        assert left <= 1.001e-6 * np.linalg.norm(at_one) + noise
        # and no higher than from gains of one
        alone = fc.fit(X, S, ridge=fit.ridge, method="exact", center=center, **options)
        assert fit.loss <= alone.loss * (1 + 1e-3)


def test_exact_fits_of_a_path_begin_where_the_larger_ridge_ended():
    X, S = data(40, 6), target(6, size=40)
    dense = np.logspace(-3, 0, 40)
    path = fc.ridge_path(X, S, relative_ridges=dense, method="exact")
    alone = [fc.fit(X, S, relative_ridge=r, method="exact").stats["iterations"] for r in dense]
    assert sum(fit.stats["iterations"] for fit in path) < 0.7 * sum(alone)
    # the loss of a minimum falls with the ridge, for each is a bound of the next
    assert (np.diff(path.loss) > 0).all()


def test_a_path_keeps_the_order_that_was_asked_for():
    X, S = data(30, 4), target(4, size=30)
    for method in METHODS:
        up = fc.ridge_path(X, S, ridges=[1.0, 10.0, 100.0], method=method)
        mixed = fc.ridge_path(X, S, ridges=[10.0, 100.0, 1.0], method=method)
        np.testing.assert_array_equal(up.ridges, [1.0, 10.0, 100.0])
        np.testing.assert_array_equal(mixed.ridges, [10.0, 100.0, 1.0])
        np.testing.assert_array_equal(mixed.gains, up.gains[[1, 2, 0]])
        assert up.relative_ridges is None


@pytest.mark.parametrize("method", METHODS)
def test_default_ridges_are_half_decades_below_the_largest_eigenvalue(method):
    X, S = data(30, 4), target(4, size=30)
    path = fc.ridge_path(X, S, method=method)
    np.testing.assert_allclose(path.relative_ridges, 10.0 ** np.arange(-4, 0.5, 0.5), rtol=1e-12)
    np.testing.assert_allclose(path.ridges / path.relative_ridges, top(X), rtol=1e-9)
    assert all(fit.method == method for fit in path)


@pytest.mark.parametrize("method", METHODS)
def test_a_path_of_one_ridge_is_a_path(method):
    X, S = data(30, 4), target(4, size=30)
    for ridges in (30.0, [30.0], np.array(30), np.array([30], np.float32), (30,)):
        path = fc.ridge_path(X, S, ridges=ridges, method=method)
        assert len(path) == 1
        alone = fc.fit(X, S, ridge=30.0, method=method)
        np.testing.assert_allclose(path[0].gains, alone.gains, rtol=1e-9)


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("solver", ["auto", "spectral", "cholesky"])
def test_a_ridge_of_zero_is_allowed_on_a_path(method, solver, center):
    X, S = data(30, 4), target(4, size=30)
    path = fc.ridge_path(X, S, ridges=[0, 100.0], method=method, solver=solver, center=center)
    alone = fc.fit(X, S, ridge=0, method=method, solver=solver, center=center)
    assert path[0].ridge == 0
    assert path[0].status == alone.status
    if method != "exact":
        # the square of the condition of G, some 1e3 here, times rounding
        np.testing.assert_allclose(path[0].delta, alone.delta, rtol=0, atol=1e-9 * np.abs(alone.delta).max())
    else:
        gradient = np.linalg.norm(naive.loss_gradient(X, S, path[0].gains, 0.0, center))
        at_one = np.linalg.norm(naive.loss_gradient(X, S, np.ones(30), 0.0, center))
        assert gradient <= 1.001e-6 * at_one


def test_a_ridge_too_small_to_count_is_warned_of_for_that_ridge_alone():
    X, S = data(40, 4), target(4)
    X[7] = X[3]
    with pytest.warns(fc.ConvergenceWarning, match="too small beside GᵀG to count") as caught:
        path = fc.ridge_path(X, S, relative_ridges=[1e-16, 0.1, 1.0])
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert path.status == ["minimum-norm", "converged", "converged"]


def test_each_fit_that_stops_short_warns():
    X, S = data(30, 4), target(4, size=30)
    with pytest.warns(fc.ConvergenceWarning) as caught:
        path = fc.ridge_path(X, S, relative_ridges=[1e-3, 1e-2], method="exact", max_iterations=1, tol=1e-9)
    assert len(caught) == 2
    assert path.status == ["max-iterations"] * 2


@pytest.mark.parametrize("method", METHODS)
def test_a_path_for_a_stack_of_targets_is_that_of_each(method, dtype):
    X, S = data(20, 4, dtype), np.stack([target(4, seed, size=20) for seed in range(3)])
    path = fc.ridge_path(X, S, ridges=[10.0, 100.0], method=method, tol=1e-10)
    assert path.gains.shape == path.delta.shape == (2, 3, 20)
    assert path.loss.shape == path.r2.shape == path.residual.shape == (2, 3)
    assert path.loss_at_one.shape == (3,)
    for t, s in enumerate(S):
        one = fc.ridge_path(X, s, ridges=[10.0, 100.0], method=method, tol=1e-10)
        assert one.gains.shape == (2, 20)
        assert one.loss.shape == (2,)
        # λ_max / λ times 1e-10, and what a refined float32 factor leaves
        np.testing.assert_allclose(path.gains[:, t], one.gains, rtol=0, atol=1e-6)
        np.testing.assert_allclose(path.loss[:, t], one.loss, rtol=1e-7)


def test_a_path_is_a_sequence_of_fits():
    X, S = data(20, 4), target(4, size=20)
    path = fc.ridge_path(X, S, ridges=[1.0, 10.0, 100.0])
    assert [fit.ridge for fit in path] == [1.0, 10.0, 100.0]
    assert path[-1].ridge == 100.0
    assert [fit.ridge for fit in path[1:]] == [10.0, 100.0]
    assert path[1] in path
    with pytest.raises(IndexError):
        path[3]
    np.testing.assert_array_equal(path.loss, [fit.loss for fit in path])
    np.testing.assert_array_equal(path.gains, 1 + path.delta)
    assert path.loss_at_one == path[0].loss_at_one
    assert path.status == ["converged"] * 3
    text = repr(path)
    assert "RidgePath: linear, 20 channels x 4 conditions" in text
    assert len(text.splitlines()) == 5
    assert all(len(line) <= 110 for line in text.splitlines())


@pytest.mark.parametrize("method", METHODS)
def test_the_same_path_has_the_same_bits_twice(method, dtype):
    X, S = data(65, 4, dtype), target(4, size=65)
    solver = "pcg" if method == "linear" else "auto"
    one, other = (
        fc.ridge_path(X, S, relative_ridges=RELATIVE, method=method, solver=solver) for _ in range(2)
    )
    np.testing.assert_array_equal(one.gains, other.gains)


@pytest.mark.parametrize("method", METHODS)
def test_what_the_caller_holds_is_never_changed(method):
    X, S, ridges = data(20, 4), target(4, size=20), np.array([3.0, 1.0])
    kept = [a.copy() for a in (X, S, ridges)]
    fc.ridge_path(X, S, ridges=ridges, method=method)
    for before, now in zip(kept, (X, S, ridges), strict=True):
        np.testing.assert_array_equal(before, now)


def test_the_decomposition_is_taken_where_it_pays():
    X, S = data(400, 30), target(30, size=400)
    many = fc.ridge_path(X, S, relative_ridges=np.logspace(-3, 0, 60))
    assert {fit.stats["solver"] for fit in many} == {"spectral"}
    assert fc.ridge_path(X, S, relative_ridges=[0.1])[0].stats["solver"] != "spectral"
    forced = fc.ridge_path(X, S, relative_ridges=[0.1], solver="spectral")
    assert forced[0].stats["solver"] == "spectral"


def test_one_decomposition_serves_all_ridges(monkeypatch):
    calls = []
    spectral = ridge_path.SOLVERS["spectral"]
    init = spectral.init
    monkeypatch.setattr(spectral, "init", lambda *args: calls.append(1) or init(*args))
    fc.ridge_path(data(30, 4), target(4, size=30), relative_ridges=RELATIVE, solver="spectral")
    assert len(calls) == 1


def test_progress_of_a_path_ends_at_one():
    seen = []
    fc.ridge_path(data(20, 4), target(4, size=20), relative_ridges=RELATIVE, callback=seen.append)
    shares = [p.done for p in seen if p.stage == "path"]
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_what_a_callback_raises_ends_the_path():
    def stop(progress):
        if progress.stage == "path":
            raise KeyboardInterrupt

    for method in METHODS:
        with pytest.raises(KeyboardInterrupt):
            fc.ridge_path(data(20, 4), target(4, size=20), method=method, callback=stop)


@pytest.mark.parametrize("factor", [2.0**-100, 2.0**100])
@pytest.mark.parametrize("method", METHODS)
def test_units_leave_the_gains_of_a_path(method, factor):
    X, S, ridges = data(20, 4), target(4, size=20), np.array([0.0, 1.0, 100.0])
    one = fc.ridge_path(X, S, ridges=ridges, method=method)
    other = fc.ridge_path(factor * X, factor**2 * S, ridges=factor**4 * ridges, method=method)
    np.testing.assert_allclose(other.gains, one.gains, rtol=0, atol=1e-9)


@pytest.mark.covering(2)
@pytest.mark.parametrize(
    ("ridges", "error", "match"),
    [
        ([], ValueError, "no empty axis"),
        ([[1.0, 2.0]], ValueError, "1 axis"),
        ([-1.0], ValueError, ">= 0"),
        ([1.0, np.nan], ValueError, "finite"),
        ([np.inf], ValueError, "finite"),
        ([1j], TypeError, "real"),
        (["a"], TypeError, "real"),
        ("abc", TypeError, "real"),
        ([None], TypeError, "real"),
        ([1, 2, 1.0], ValueError, "each value once, not 1 twice"),
        ([0.0, -0.0], ValueError, "each value once"),
        ([[1.0], [2.0, 3.0]], ValueError, ""),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["ridges", "relative_ridges"])
@pytest.mark.parametrize("call", ["path", "cv"])
def test_ridges_of_the_wrong_form_are_refused(call, name, ridges, error, match):
    function, other = (fc.ridge_path, target(8)) if call == "path" else (fc.cross_validate, data(9, 8))
    with pytest.raises(error, match=f"^Argument '{name}' must .*{match}"):
        function(data(6, 8), other, **{name: ridges})


def test_both_kinds_of_ridges_at_once_are_refused():
    with pytest.raises(ValueError, match=r"^Argument 'ridges' or 'relative_ridges' must .* not both"):
        fc.ridge_path(data(6, 3), target(3), ridges=[1.0], relative_ridges=[0.1])


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("method", "cv", ValueError),
        ("solver", "x", ValueError),
        ("tol", 2.0, ValueError),
        ("max_iterations", 0, ValueError),
        ("rank", 7, ValueError),
        ("center", "no", TypeError),
        ("callback", 3, TypeError),
        ("memory_budget", "all", TypeError),
    ],
)
def test_other_options_of_the_wrong_form_are_refused(name, value, error):
    with pytest.raises(error, match=f"^Argument '{name}' must "):
        fc.ridge_path(data(6, 3), target(3), **{name: value})


def test_responses_stand_for_their_target_covariance():
    sim = fc.datasets.simulate(20, 6, rng=0)
    path = fc.ridge_path(sim.X, responses=sim.Y, relative_ridges=[0.1])
    alone = fc.ridge_path(sim.X, fc.target_covariance(sim.Y, like=sim.X), relative_ridges=[0.1])
    np.testing.assert_array_equal(path.gains, alone.gains)
    with pytest.raises(ValueError, match=r"^Argument 'S' or 'responses' must be given"):
        fc.ridge_path(sim.X, sim.S, responses=sim.Y)


@pytest.mark.covering(2)
@pytest.mark.parametrize("method", ["linear", "line-search"])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("form", ["float64", "float32", "Fortran order", "tiny units", "a stack", "wide"])
def test_covariances_made_together_are_those_of_the_gains(form, center, method):
    N, D = (30, 140) if form == "wide" else (90, 12)  # beyond NARROW each is made alone
    sim = fc.datasets.simulate(N, D, rng=1)
    X, S = sim.X + 0.5, sim.S
    if form == "float32":
        X = X.astype(np.float32)
    elif form == "Fortran order":
        X = np.asfortranarray(X)
    elif form == "tiny units":
        X, S = X * 1e-40, S * 1e-80
    elif form == "a stack":
        S = np.stack([S, 2.0 * S])
    path = fc.ridge_path(
        X, S, relative_ridges=[0.1, 0.3, 1.0], method=method, center=center, solver="spectral"
    )
    wide = X.astype(np.float64)
    for fit in path:
        for gains, found in zip(np.atleast_2d(fit.gains), fit.covariance().reshape(-1, D, D), strict=True):
            Y = gains[:, np.newaxis] * wide
            size = np.square(Y).sum()
            Y = Y - center * Y.mean(axis=0)
            np.testing.assert_array_equal(found, found.T)
            # Sums of N products; a mean that is off by rounding is off in every row.
            assert np.abs(found - Y.T @ Y).max() <= 4 * N * np.finfo(np.float64).eps * size
    kept = path[0]._covariance  # and a fit that is kept keeps no others
    assert kept.base is None or kept.base.size == kept.size


# With fewer pairs than channels refinement mends what the decomposition has wrong.
@pytest.mark.parametrize("shape", [(12, 6), (40, 12)], ids=str)
def test_certificates_by_the_gram_matrix_are_those_of_passes_over_the_responses(
    monkeypatch, shape, dtype, center
):
    X, S = data(*shape, dtype), np.stack([target(shape[1], size=shape[0])] * 2) * [[[1.0]], [[3.0]]]
    given = {"relative_ridges": [1.0, 0.1, 0.01, 1e-3], "solver": "spectral", "center": center}
    init = ridge_path.SOLVERS["spectral"].init

    def off(system, options):  # a solution that is wrong by far more than rounding
        state = init(system, options)
        return type(state)(state.system, 1.5 * state.values, state.vectors, state.dual)

    monkeypatch.setattr(ridge_path.SOLVERS["spectral"], "init", off)
    found = {}
    largest = fc.fit(X, S, relative_ridge=1.0, method="diagonal", center=center).ridge
    given["ridges"] = np.array(given.pop("relative_ridges")) * largest
    for gram in (True, False):
        if not gram:
            monkeypatch.setattr(Start, "gram", None)
        with pytest.warns(fc.ConvergenceWarning):
            found[gram] = fc.ridge_path(X, S, **given)
    assert found[True].status == found[False].status
    assert found[True].residual.min() > 1e-3  # or nothing is tested
    np.testing.assert_array_equal(found[True].gains, found[False].gains)
    np.testing.assert_allclose(found[True].residual, found[False].residual, rtol=1e-9)
