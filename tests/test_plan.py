"""Which solver a fit takes: the fastest that fits, within the memory that there is."""

import math
import re

import numpy as np
import pytest
from cases import data, needs_jit, peak_bytes, target

import fastcov as fc
from fastcov._solvers import NAMES, _plan, base_bytes
from fastcov._solvers._nystrom import working_bytes
from fastcov._solvers._solution import RESOLVED

SHAPES = [(1, 1), (40, 4), (300, 4), (300, 40), (2_000, 187), (5_000, 20), (100_000, 100), (10**7, 50)]


def costs_in(message):
    """Solvers that a message offers."""
    return re.findall(r"solver='(\w+)'", message)


@pytest.fixture
def available(monkeypatch):
    """A function that sets the memory that there is."""

    def set_bytes(nbytes):
        for module in ("_inputs.validation", "_solvers._plan"):
            monkeypatch.setattr(f"fastcov.{module}.available_memory", lambda: nbytes)
            monkeypatch.setattr(f"fastcov.{module}.SMALL", 0)

    return set_bytes


@pytest.mark.covering(2)
@pytest.mark.parametrize("relative", [0.0, 1e-12, 1e-6, 0.1, 1e300])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("memory", [3e9, 3e10, 1e15])
def test_the_choice_is_the_fastest_that_fits(memory, shape, relative, available):
    available(memory)
    try:
        plan = fc.plan(*shape, relative_ridge=relative)
    except MemoryError:
        least = _plan.base_bytes(*shape, 1) + working_bytes(*shape, _plan.LEAST_RANK)
        assert least > memory or relative / _plan.TRACE <= RESOLVED  # eigenvectors, or nothing
        return
    assert plan.shape == shape
    assert plan.available == memory
    assert [c.solver for c in plan.costs] == list(NAMES)
    for cost in plan.costs:
        assert cost.flops > 0
        assert cost.seconds > 0
        assert cost.fits == (cost.nbytes <= memory)
    counts = relative / _plan.TRACE > RESOLVED
    others = [c for c in plan.costs if c.fits and (c.solver == "spectral") != counts]
    chosen = plan.cost(plan.solver)
    assert chosen in others
    assert chosen.seconds == min(c.seconds for c in others)
    assert (f"{chosen.seconds:.2g} s" in plan.reason) == counts


@pytest.mark.parametrize("shape", SHAPES[1:6], ids=str)
def test_eigenvectors_are_for_a_ridge_that_does_not_count(shape):
    assert fc.plan(*shape, relative_ridge=1e-3).solver != "spectral"
    assert not math.isfinite(fc.plan(*shape, relative_ridge=0).cost("cholesky").seconds)
    N, D = 40, 4
    X, S = data(N, D), target(D, size=N)
    assert fc.plan(N, D, relative_ridge=0).solver == "spectral"
    assert fc.fit(X, S, ridge=0).stats["solver"] == "spectral"
    assert fc.fit(X, S, relative_ridge=1e-3).stats["solver"] != "spectral"


def test_each_solver_has_its_place():
    assert fc.plan(100, 20).solver == "cholesky"
    assert fc.plan(100_000, 100).solver == "pcg"
    assert fc.plan(20_000, 12, relative_ridge=1e-6).solver == "dual"


def test_costs_grow_with_what_is_asked():
    base = fc.plan(1000, 50)
    for more in ({"n_targets": 4}, {"relative_ridge": 1e-4}, {"tol": 1e-12}):
        assert fc.plan(1000, 50, **more).cost("pcg").flops > base.cost("pcg").flops
    base, half = fc.plan(5000, 50), fc.plan(5000, 50, dtype=np.float32)
    assert half.cost("cholesky").nbytes < 0.6 * base.cost("cholesky").nbytes
    assert half.cost("cholesky").seconds < base.cost("cholesky").seconds


@pytest.mark.parametrize("solver", NAMES)
def test_a_fit_takes_the_solver_of_its_plan(solver):
    X, S = data(40, 4), target(4, size=40)
    plan = fc.plan(40, 4, solver=solver)
    assert (plan.solver, plan.reason) == (solver, "as asked for")
    fit = fc.fit(X, S, relative_ridge=0.1, solver=solver)
    assert fit.stats["solver"] == solver
    assert f"linear ({solver}): converged" in repr(fit)
    auto = fc.fit(X, S, relative_ridge=0.1)
    assert auto.stats["solver"] == fc.plan(40, 4).solver
    assert auto.stats["reason"].startswith("the fastest that fits, ")


# --- memory


@pytest.mark.parametrize("solver", ["cholesky", "dual", "spectral"])
def test_what_does_not_fit_is_refused_with_what_would_and_that_works(solver, available, little_memory):
    X, S = data(600, 24), target(24, size=600)
    needed = fc.plan(600, 24, solver=solver).cost(solver).nbytes
    memory = int(0.9 * needed)
    fc.fit(X[:9], S, relative_ridge=0.1, solver="pcg")  # compiles
    with pytest.raises(MemoryError) as caught:
        little_memory(lambda: fc.fit(X, S, ridge=1e6, solver=solver), memory)
    message = str(caught.value)
    assert f"takes {needed / 1e9:.3g} GB, and {memory / 1e9:.3g} GB are available" in message
    offered = costs_in(message)
    assert "pcg" in offered
    assert solver not in offered
    available(memory)
    with pytest.raises(MemoryError, match="would fit"):
        fc.plan(600, 24, solver=solver)
    for name in offered:
        assert fc.fit(X, S, relative_ridge=0.1, solver=name).status == "converged"
    assert fc.plan(600, 24).solver in offered


@pytest.mark.parametrize("n_targets", [1, 3])
def test_a_budget_that_is_too_small_is_refused_with_the_least_which_works(n_targets):
    X, S = data(300, 6), np.stack([target(6, size=300)] * n_targets)
    options = {"relative_ridge": 0.1, "solver": "auto"}
    with pytest.raises(
        ValueError, match=r"^Argument 'memory_budget' must be at least .* not 1000\.$"
    ) as caught:
        fc.fit(X, S, memory_budget=1000, **options)
    assert f"300 channels and {n_targets} targets" in str(caught.value)
    least = float(re.search(r"at least (\S+) bytes", str(caught.value))[1])
    assert fc.fit(X, S, memory_budget=least, **options).status == "converged"
    assert fc.plan(300, 6, n_targets=n_targets, memory_budget=least).available == least


@pytest.mark.parametrize("N", [10**3, 123_456, 99_999_999, 10**8, 123_456_789])
def test_the_least_budget_that_is_named_is_enough(N, available):
    available(10**15)
    with pytest.raises(ValueError, match="at least") as caught:
        fc.plan(N, 3, memory_budget=1)
    least = float(re.search(r"at least (\S+) bytes", str(caught.value))[1])
    fc.plan(N, 3, memory_budget=least)
    with pytest.raises(ValueError, match="at least"):  # and not far above the least
        fc.plan(N, 3, memory_budget=max(1, 0.99 * least - 1e6))


def peak_of(X, S, **options):
    """Bytes at the peak of a fit, and the fit."""
    fc.fit(X, S, **options)  # compiles, imports
    return peak_bytes(lambda: fc.fit(X, S, **options))


@needs_jit
@pytest.mark.parametrize("relative", [0.1, 1e-3])  # at 1e-4 the ridge may be too small for float32
@pytest.mark.parametrize("solver", ["cholesky", "dual", "spectral", "pcg"])
def test_a_fit_keeps_to_what_its_plan_says(solver, relative, dtype):
    N, D = 1500 if solver == "cholesky" else 4000, 16
    X, S = data(N, D, dtype), target(D, size=N)
    needed = fc.plan(N, D, solver=solver, dtype=dtype, relative_ridge=relative).cost(solver).nbytes
    options = {"solver": solver, "relative_ridge": relative}
    peak, fit = peak_of(X, S, memory_budget=math.ceil(needed), **options)
    assert fit.status == "converged"
    assert peak <= needed


@pytest.mark.slow
@needs_jit
@pytest.mark.parametrize("relative", [0.1, 1e-4])
@pytest.mark.parametrize("preconditioner", ["made again", "kept"])
def test_conjugate_gradients_keep_to_their_budget(preconditioner, relative, dtype):
    N, D, rank = 10_000, 24, 80
    X, S = data(N, D, dtype), np.stack([target(D, 1, N), target(D, 2, N)])
    factor = 8 * N * (rank + D) if preconditioner == "kept" else 0
    budget = base_bytes(N, D, 2) + working_bytes(N, D, rank) + factor
    options = {"solver": "pcg", "relative_ridge": relative, "memory_budget": budget, "rank": rank}
    peak, fit = peak_of(X, S, **options)
    assert (fit.status, fit.stats["preconditioner"]) == ("converged", preconditioner)
    assert peak <= budget


@needs_jit
@pytest.mark.parametrize("relative", [0.0, 1e-8])
@pytest.mark.parametrize("solver", ["cholesky", "dual"])
def test_a_factor_that_is_given_up_for_another_keeps_to_its_budget(solver, relative, dtype):
    # No ridge: eigenvectors, 24 n² bytes. A small one: float32 factors are made again in float64.
    N, D = (400, 30) if solver == "cholesky" else (1200, 20)
    X, S = data(N, D, dtype), target(D, size=N)
    plan = fc.plan(N, D, solver=solver, dtype=dtype, relative_ridge=relative)
    needed = plan.cost(plan.solver).nbytes
    peak, _ = peak_of(X, S, solver=solver, relative_ridge=relative, memory_budget=math.ceil(needed))
    assert peak <= needed


@needs_jit
def test_a_relative_ridge_keeps_to_the_budget(center):
    N, D = 800, 80  # where GᵀG would be made for its largest eigenvalue
    X, S = data(N, D), target(D, size=N)
    options = {"solver": "pcg", "relative_ridge": 0.1, "rank": 16, "center": center}
    budget = base_bytes(N, D, 1) + working_bytes(N, D, 16)
    peak, fit = peak_of(X, S, memory_budget=budget, **options)
    assert fit.status == "converged"
    assert peak <= budget < 8 * N * N


def test_a_fit_does_not_ask_what_is_free_where_the_fastest_solver_needs_little(monkeypatch):
    asked = []
    monkeypatch.setattr("fastcov._solvers._plan.available_memory", lambda: asked.append(1) or 10**12)
    X, S = data(60, 100), target(100, size=60)
    assert fc.fit(X, S, ridge=1.0).stats["solver"] == "cholesky"
    assert not asked
    fc.plan(60, 100)  # says of every solver whether it fits, and the dual takes 200 MB
    assert len(asked) == 1
    assert fc.fit(X, S, ridge=1.0, solver="spectral").stats["solver"] == "spectral"
    assert len(asked) == 1


# --- the printed table, and arguments


def test_a_plan_prints_the_cost_of_every_solver():
    lines = repr(fc.plan(100_000, 100, memory_budget=1e9)).splitlines()
    assert lines[0] == "Plan for 100000 channels x 100 conditions, 1 GB available"
    assert [line.split()[0].strip("*") for line in lines[1:5]] == list(NAMES)
    assert [line for line in lines[1:5] if "*" in line] == [lines[4]]
    assert lines[1].endswith("does not fit")
    assert not lines[4].endswith("does not fit")
    assert lines[5].startswith("  pcg: the fastest that fits")
    assert all(len(line) <= 110 for line in lines)
    assert "singular" in repr(fc.plan(40, 4, relative_ridge=0)).splitlines()[1]
    assert "available" not in repr(fc.plan(40, 4))


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("n_channels", 0, ValueError, "at least 1, not 0"),
        ("n_channels", 1.5, TypeError, "a whole number, not 1.5"),
        ("n_conditions", True, TypeError, "a whole number, not True"),
        ("relative_ridge", -1, ValueError, "a finite number >= 0, not -1"),
        ("relative_ridge", math.inf, ValueError, "a finite number >= 0, not inf"),
        ("n_targets", 0, ValueError, "at least 1, not 0"),
        ("solver", "best", ValueError, "one of 'auto', .*'pcg', not 'best'"),
        ("tol", 0, ValueError, ""),
        ("tol", -1, ValueError, ""),
        ("tol", 2, ValueError, ""),
        ("tol", "1", TypeError, ""),
        ("memory_budget", -1, ValueError, "a finite number >= 0"),
        ("memory_budget", math.nan, ValueError, ""),
        ("memory_budget", "1", TypeError, ""),
    ],
)
def test_arguments_of_a_plan_that_make_no_sense_are_refused(name, value, error, message):
    arguments = {"n_channels": 40, "n_conditions": 4, name: value}
    with pytest.raises(error, match=rf"^Argument '{name}' must (be|lie) .*{message}"):
        fc.plan(**arguments)


@pytest.mark.parametrize(("value", "error"), [(math.nan, ValueError), ("1", TypeError), ([1], TypeError)])
def test_a_budget_of_a_fit_that_is_no_number_is_refused(value, error):
    with pytest.raises(error, match=r"^Argument 'memory_budget' must be "):
        fc.fit(data(40, 4), target(4), ridge=1.0, memory_budget=value)
