"""The benchmark's floors and flops: bare work, as often as ours repeats it; and flops, as counted."""

import collections
import functools
import pathlib
import sys

import numpy as np
import pytest
from cases import needs_jit, slow_but
from counting import work

import fastcov as fc
from fastcov._bench import _cases, _operation
from fastcov._bench._case import reference
from fastcov._bench._cases import OPERATIONS, case, case_of, installed
from fastcov._bench._reference import InaccurateError
from fastcov._model.problem import NARROW
from fastcov._timings.runs import FLOOR, NAIVE, OURS

SHAPE = (36, 12)
INSTALLED = [name for name in OPERATIONS if installed(name)]


@functools.cache
def small(operation):
    return case(operation, SHAPE, peers=False)


@pytest.mark.parametrize("direct", [10, 10_000])
@pytest.mark.parametrize("operation", INSTALLED)
def test_there_is_a_reference_without_peers_and_without_a_naive_version_that_takes_long(
    operation, direct, monkeypatch
):
    monkeypatch.setattr("fastcov._bench._fits.DIRECT", direct)
    monkeypatch.setattr(_cases, "NAIVE_BYTES", 0)
    monkeypatch.setattr(_cases, "NAIVE_FLOPS", 0)
    assert reference(case(operation, SHAPE, peers=False).runs) is not None


def entered(call):
    """Functions of fastcov that a call enters, but those of the benchmark itself."""
    root, found = pathlib.Path(fc.__file__).parent, set()

    def note(frame, event, _):
        path = pathlib.Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(root) and not path.is_relative_to(root / "_bench"):
            found.add(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("operation", INSTALLED)
def test_nothing_of_fastcov_runs_in_a_floor_or_a_naive_version(operation):
    found = small(operation)
    assert entered(found.runs[OURS])
    # Beside a fit after a product stands the same fit alone.
    bare = {NAIVE} if operation.endswith("after-product") else {FLOOR, NAIVE}
    for name in bare & set(found.runs):
        assert not entered(found.runs[name]), name


@pytest.fixture
def routines(monkeypatch):
    """Calls of bare BLAS routines, by name."""
    calls, get = collections.Counter(), _operation.get_blas_funcs

    def counted(name, routine):
        def call(*args, **options):
            calls[name] += 1
            return routine(*args, **options)

        return call

    def found(names, **options):
        return [counted(*pair) for pair in zip(names, get(names, **options), strict=True)]

    monkeypatch.setattr(_operation, "get_blas_funcs", found)
    return calls


def test_the_floor_of_iterations_makes_the_products_it_counts(routines, monkeypatch):
    monkeypatch.setattr("fastcov._bench._fits.DIRECT", 10)
    shape = (100, 20)
    found = case("pcg", shape, peers=False)
    assert found.repeats == found.runs[OURS]().stats["iterations"] > 1
    found.runs[FLOOR]()
    assert routines == {"gemm": 2 * found.repeats}
    routines.clear()
    found = case("modes", shape, peers=False)
    assert found.repeats == found.runs[OURS]().stats["applications"] > 1
    found.runs[FLOOR]()
    assert routines == {"gemm": 2 * found.repeats}


@pytest.mark.parametrize("operation", ["exact", "bounded", "exact-nuisance", "exact-path", "cross-validate"])
def test_the_floor_of_minimisations_makes_the_products_and_steps_it_counts(operation, routines):
    found = case(operation, SHAPE, peers=False)
    result = found.runs[OURS]()
    if operation != "cross-validate":  # whose fits are not kept
        fits = [result] if isinstance(result, fc.Fit) else result
        products, steps = (sum(fit.stats[name] for fit in fits) for name in ("products", "iterations"))
        assert found.repeats == products + 0.75 * steps
    found.runs[FLOOR]()
    steps = routines["syrk"]
    products = (routines["gemm"] - steps) / 2
    assert min(products, steps) > 0
    assert found.repeats == products + 0.75 * steps


def test_more_iterations_are_more_repeats():
    sim = fc.datasets.simulate(*SHAPE, rng=0)
    few, many = (case_of("exact", sim, peers=False, relative_ridge=r).repeats for r in (1.0, 1e-3))
    assert many > 2 * few


@pytest.mark.parametrize("operation", ["gram", "fit", "diagonal", "ridge-path", "apply", "plan"])
def test_work_that_the_size_alone_says_is_done_once(operation):
    assert small(operation).repeats == 1.0


@pytest.mark.parametrize("operation", ["spectral", "ridge-path", "explain", "modes"])
def test_a_floor_of_eigenvectors_is_that_of_the_fastest_driver(operation, monkeypatch):
    given = []
    monkeypatch.setattr(_operation, "eigh", lambda A, **options: given.append(options))
    small(operation).runs[FLOOR]()
    assert given == [{"driver": "evd", "check_finite": False}]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_floor_of_a_prediction_is_of_both_its_covariances(dtype, routines):
    found = case("apply", SHAPE, dtype, peers=False)
    found.runs[FLOOR]()
    assert routines == {"syrk": 2}
    _, r2, at_one = found.runs[NAIVE]()
    applied = found.runs[OURS]()
    assert (r2, at_one) == pytest.approx((applied.r2, applied.r2_at_one), rel=1e-4)
    with pytest.raises(InaccurateError):
        found.check((applied.covariance, applied.r2, applied.r2_at_one + 0.01 * (1 + abs(applied.r2_at_one))))


def test_the_naive_version_of_columns_centres_within_the_clock():
    sim = fc.datasets.simulate(*SHAPE, rng=0)
    naive = case_of("columns", sim, peers=False).runs[NAIVE]
    before = naive()
    np.multiply(sim.X, 2.0, out=sim.X)
    np.testing.assert_allclose(naive(), 16 * before, rtol=1e-12)


# --- flops

COUNTED = {  # and how much more products of ours may take than the leading terms
    "covariance": 0, "target-covariance": 0, "overlaps": 0, "atoms": 0, "adjoint": 0, "application": 0,
    "loss": 0, "losses": 0, "loss-and-gradient": 0, "diagonal": 0, "apply": 0, "gram": 0.02, "columns": 0.02,
    "exact": 0.15, "exact-nuisance": 0.15, "exact-path": 0.15, "cross-validate": 0.15,
    "mean-absolute-covariance": 0, "smooth-absolute-covariance": 0, "mean-squared-covariance": 0,
    "decov": 0, "vicreg-covariance": 0, "covariance-distance": 0, "quadratic-forms": 0,
    "quadratic-forms-and-gradients": 0, "spd-batch": 0,
}  # fmt: skip


@pytest.mark.slow
@needs_jit
@pytest.mark.parametrize("D", slow_but({NARROW}, [40, NARROW, NARROW + 12]))
@pytest.mark.parametrize("operation", COUNTED)
def test_flops_are_those_of_the_products_that_ours_makes(operation, D):
    N = 200
    found = case(operation, (N, D), peers=False)
    with work() as counted:
        found.runs[OURS]()
    trace = 8 * N * D if operation == "target-covariance" else 0  # no product
    ratio = counted.products() / (found.flops - trace)
    assert -1e-12 <= ratio - 1 <= COUNTED[operation] + 1e-12, counted
