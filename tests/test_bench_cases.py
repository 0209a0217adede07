"""The benchmark's cases: what they run is right, their checks can fail, and nothing public is left out."""

import ast
import dataclasses
import functools
import importlib.util
import pathlib

import numpy as np
import pytest
from optional import library_of, needing

import fastcov as fc
from fastcov._bench import _cases, _naive
from fastcov._bench._cases import OPERATIONS, SUITES, case, case_of, installed
from fastcov._bench._children import child, in_fresh_process
from fastcov._bench._operation import LARGEST, Task
from fastcov._bench._peers import PEERS
from fastcov._bench._pieces import CANDIDATES
from fastcov._bench._reference import InaccurateError, Reference, delta_of, gains_of, near
from fastcov._timings.runs import FLOOR, NAIVE, OURS

SHAPE = (36, 12)
DTYPES = ("float64", "float32")
KEYS = [(name, dtype) for name in OPERATIONS for dtype in DTYPES]
# Penalties and quadratic forms, which peers have, too.
OF_LAYERS = [
    name for name, found in OPERATIONS.items()
    if found.peers and found.make.__module__.endswith(("_penalties", "_forms"))
]  # fmt: skip
# Public names that compute nothing on data: results, progress, warnings, settings, figures of results.
NO_DATA = {
    "Applied", "ChannelTable", "ChannelTest", "ChosenRidge", "Comparison", "Connectivity",
    "Contributions", "ConvergenceWarning", "CrossValidation", "Explanation", "Fit", "HeldOutPairs",
    "LabelWarning", "MissingValuesWarning", "Mixed", "NoiseCeiling", "OvershootWarning", "PermutationTest",
    "Plan", "Progress", "Reweighting", "RidgePath", "SingleGainLosses", "Study", "Uncertainty", "Verdict",
    "__version__", "datasets.Simulation", "plot", "quadratic_forms.Gradients", "threads",
}  # fmt: skip


@functools.cache
def small(operation, dtype):
    if not installed(operation):
        pytest.skip(f"{OPERATIONS[operation].needs} is not installed")
    return case(operation, SHAPE, dtype, peers=False)


@pytest.mark.parametrize(("operation", "dtype"), KEYS)
def test_ours_and_the_naive_version_pass_the_check(operation, dtype):
    found = small(operation, dtype)
    assert OURS in found.runs
    for name in {OURS, NAIVE} & set(found.runs):
        found.check(found.runs[name]())


@pytest.mark.slow
@pytest.mark.parametrize(("operation", "dtype"), KEYS)
def test_the_floor_runs_on_what_was_made_ready(operation, dtype):
    found = small(operation, dtype)
    if FLOOR not in found.runs:
        pytest.skip("it has none")
    found.runs[FLOOR]()
    found.check(found.runs[OURS]())  # on what the floor has not written to


def perturbed(result):
    """As it is, with a hundredth of its largest entry added to one place."""
    if isinstance(result, fc.RidgePath):
        return fc.RidgePath((perturbed(result[0]), *result.fits[1:]))
    if isinstance(result, fc.Fit):
        delta = perturbed(result.delta)
        return dataclasses.replace(result, delta=delta, _gains=1.0 + delta)
    if isinstance(result, fc.Connectivity):
        return dataclasses.replace(result, phi=perturbed(result.phi))
    if isinstance(result, fc.Mixed):
        return dataclasses.replace(result, delta=perturbed(result.delta))
    if isinstance(result, list):
        return [perturbed(result[0]), *result[1:]]
    if isinstance(result, fc.Explanation):
        return dataclasses.replace(result, spectrum=perturbed(result.spectrum))
    if isinstance(result, fc.CrossValidation):
        return 0.9 * result.r2
    if isinstance(result, fc.Comparison):
        return 0.9 * result["gains"].cv.r2[:, 0]
    if isinstance(result, fc.PermutationTest):
        return dataclasses.replace(result, channels=perturbed(result.channels))
    if isinstance(result, fc.Reweighting):
        return dataclasses.replace(result, weights=perturbed(result.weights))
    if isinstance(result, fc.Study):
        one = result["Y"]
        populations = {"Y": dataclasses.replace(one, evidence=perturbed(one.evidence))}
        return dataclasses.replace(result, populations=populations)
    if isinstance(result, fc.NoiseCeiling):
        reliability = result.reliability | {"pearson": perturbed(result.reliability["pearson"])}
        return dataclasses.replace(result, reliability=reliability)
    if isinstance(result, fc.Uncertainty):
        name = "se" if result.draws is None else "draws"
        return dataclasses.replace(result, **{name: perturbed(getattr(result, name))})
    if isinstance(result, fc.ChannelTest):
        return dataclasses.replace(result, gains=perturbed(result.gains))
    if isinstance(result, fc.Applied):
        return dataclasses.replace(result, covariance=perturbed(result.covariance))
    if isinstance(result, fc.datasets.Simulation):
        return dataclasses.replace(result, X=perturbed(result.X))
    if isinstance(result, fc.Plan):
        return dataclasses.replace(result, solver="none")
    if isinstance(result, tuple):
        return (perturbed(result[0]), *result[1:])
    array = np.array(result)
    if array.shape == (CANDIDATES,):  # every twelfth is compared
        return 1.01 * array
    place = np.unravel_index(np.abs(array).argmax(), array.shape)
    array[place] *= 1.01
    return array


@pytest.mark.slow
@pytest.mark.parametrize(("operation", "dtype"), KEYS)
def test_the_check_fails_where_one_entry_is_a_hundredth_off(operation, dtype):
    found = small(operation, dtype)
    for name in {OURS, NAIVE} & set(found.runs):
        with pytest.raises(InaccurateError):
            found.check(perturbed(found.runs[name]()))


@pytest.mark.parametrize(("operation", "dtype"), [key for key in KEYS if key[0] in OF_LAYERS])
def test_the_check_fails_where_one_entry_of_a_gradient_is_a_hundredth_off(operation, dtype):
    found = small(operation, dtype)
    result = found.runs[NAIVE]()
    if not isinstance(result, tuple):
        pytest.skip("it has no gradient")
    for place in range(1, len(result)):
        with pytest.raises(InaccurateError):
            found.check((*result[:place], perturbed(result[place]), *result[place + 1 :]))


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if "fit" in OPERATIONS[name].covers])
def test_a_fit_that_says_it_stopped_short_fails_the_check(operation):
    found = small(operation, "float64")
    result = found.runs[OURS]()
    if operation in ("diagonal", "targets"):
        pytest.skip("gains are compared, not their certificate")
    with pytest.raises(AssertionError):
        found.check(dataclasses.replace(result, status="max-iterations"))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_arithmetic_and_traffic_are_known_and_grow_with_the_problem(operation):
    if not installed(operation):
        pytest.skip(f"{OPERATIONS[operation].needs} is not installed")
    found, larger = small(operation, "float64"), case(operation, (72, 12), peers=False)
    if operation in ("plan", "save"):
        assert found.flops == 0
    else:
        assert 0 < found.flops < larger.flops
    if operation != "plan":
        assert 0 < found.nbytes < larger.nbytes


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_names_cases_that_exist_and_each_once(suite):
    keys = SUITES[suite]
    assert keys
    assert len(set(keys)) == len(keys)
    for operation, shape, dtype in keys:
        assert operation in OPERATIONS
        assert dtype in DTYPES
        assert len(shape) == 2
    assert set(SUITES["quick"]) <= set(SUITES["standard"]) <= set(SUITES["full"])


def test_the_quick_suite_has_both_precisions_and_all_groups():
    keys = SUITES["quick"]
    assert 12 <= len(keys) <= 24
    assert {dtype for _, _, dtype in keys} == set(DTYPES)
    modules = {OPERATIONS[name].make.__module__.rpartition(".")[2] for name, _, _ in keys}
    assert modules == {"_pieces", "_fits", "_after", "_studies", "_penalties", "_forms"}


def public_names(module):
    """Functions and classes that are a module's own."""
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return getattr(
        module, "__all__", [n for n, v in own.items() if getattr(v, "__module__", "") == module.__name__]
    )


def test_every_public_function_on_data_has_a_case():
    covered = {name for found in OPERATIONS.values() for name in found.covers}
    modules = {name: importlib.import_module(f"fastcov.{name}") for name in set(fc._MODULES) - NO_DATA}
    inside = {f"{name}.{public}" for name, module in modules.items() for public in public_names(module)}
    public = set(fc.__all__) - set(modules) | inside
    public -= NO_DATA
    assert public <= covered, f"without a case: {sorted(public - covered)}"
    assert {"Fit.apply", "Fit.save", "sklearn.GainModel"} <= covered
    for name in covered:  # and no case is of what is not there
        if name.startswith("sklearn") and importlib.util.find_spec("sklearn") is None:
            continue
        functools.reduce(getattr, name.split("."), fc)


def test_an_unknown_operation_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match=r"'operation' must be one of covariance, .*, not 'fitt'"):
        case("fitt", SHAPE)


def test_a_naive_version_that_would_not_fit_is_left_out_with_the_reason(monkeypatch):
    monkeypatch.setattr(_cases, "NAIVE_BYTES", 1e3)
    found = case("gram", SHAPE, peers=False)
    assert NAIVE not in found.runs
    assert "GB" in found.skipped[NAIVE]
    monkeypatch.setattr(_cases, "NAIVE_BYTES", 1e9)
    monkeypatch.setattr(_cases, "NAIVE_FLOPS", 1e3)
    assert "flops" in case("gram", SHAPE, peers=False).skipped[NAIVE]


def test_the_naive_fit_solves_the_smaller_system():
    found = case("dual", (60, 5), peers=False)  # 25 rows of G
    found.check(found.runs[NAIVE]())
    with pytest.raises(AssertionError):
        found.check(perturbed(found.runs[NAIVE]()))


def test_a_case_of_a_shape_alone_simulates_nothing(monkeypatch):
    monkeypatch.setattr(_cases, "data", lambda *_: pytest.fail("simulated"))
    found = case("plan", LARGEST)
    assert found.shape == LARGEST
    found.check(found.runs[OURS]())
    found.check(found.runs[NAIVE]())


@pytest.mark.slow
def test_checks_do_not_rest_on_assert_which_python_may_leave_out(monkeypatch):
    folder = pathlib.Path(_cases.__file__).parent
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), path.name
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    code = (
        "from fastcov._bench._reference import InaccurateError, near\n"
        "try: near([1.0], [2.0], 0.5)\n"
        "except InaccurateError: print(1)\n"
    )
    assert child(code) == 1.0


def test_a_case_of_other_data_and_another_ridge():
    sim = fc.datasets.simulate(40, 14, rng=3)
    found = case_of("exact", sim, peers=False, relative_ridge=0.1)
    fit = found.runs[OURS]()
    found.check(fit)
    largest = fc.fit(sim.X, sim.S, relative_ridge=1.0, method="diagonal").ridge
    assert fit.ridge == pytest.approx(0.1 * largest)


@functools.cache
def beside_peers(operation, dtype):
    return case(operation, SHAPE, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("operation", "name"),
    [
        pytest.param(operation, name, marks=needing(library_of(name)))
        for operation in ("fit", *OF_LAYERS)
        for name in PEERS[OPERATIONS[operation].peers]
    ],
)
def test_peers_pass_the_check_beside_ours(operation, name, dtype):
    found = beside_peers(operation, dtype)
    assert name in found.runs, found.skipped[name]
    found.check(found.runs[name]())


def test_a_file_is_gone_when_its_case_is(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = case("file", SHAPE, peers=False)
    assert list(tmp_path.glob("*/X.npy"))
    del found
    assert not list(tmp_path.iterdir())


# --- the reference


def test_the_reference_agrees_with_itself_across_blocks(monkeypatch):
    sim = fc.datasets.simulate(50, 6)
    z, v = sim.gains, np.random.default_rng(0).standard_normal(50)
    whole = Reference(sim.X)
    expected = [whole.covariance(z), whole.atoms(v), whole.adjoint(sim.S, z), whole.scale(z)]
    monkeypatch.setattr("fastcov._bench._reference.ROWS", 7)
    found = [whole.covariance(z), whole.atoms(v), whole.adjoint(sim.S, z), whole.scale(z)]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(b).max())


def test_the_adjoint_of_the_reference_is_that_of_its_atoms():
    sim = fc.datasets.simulate(50, 6)
    v = np.random.default_rng(0).standard_normal(50)
    reference = Reference(sim.X)
    assert np.vdot(reference.atoms(v), sim.S) == pytest.approx(v @ reference.adjoint(sim.S), rel=1e-12)


def test_the_gram_matrix_of_the_reference_and_norms_are_those_of_atoms():
    X = fc.datasets.simulate(50, 6).X
    G = _naive.atoms(X)
    np.testing.assert_allclose(Reference(X).gram(), G.T @ G, rtol=1e-12)
    np.testing.assert_allclose(_naive.squared_norms(X), np.square(G).sum(axis=0), rtol=1e-12)


def test_eigenvalues_are_compared_with_those_of_numpy(monkeypatch):
    found = small("explain", "float64")
    result = found.runs[OURS]()
    monkeypatch.setattr(fc, "GramOperator", None)
    found.check(result)


def test_its_gradient_is_that_of_its_loss():
    sim = fc.datasets.simulate(20, 5)
    reference, z, step = Reference(sim.X), sim.gains, 1e-6
    gradient = reference.gradient(sim.S, z, 2.0)

    def loss(z):
        return 0.5 * np.square(reference.covariance(z) - sim.S).sum() + np.square(z - 1).sum()

    for i in range(3):
        ends = [loss(z + sign * step * np.eye(20)[i]) for sign in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(gradient[i], rel=1e-5)


def test_gains_of_whatever_holds_them():
    sim = fc.datasets.simulate(30, 6)
    fit = fc.fit(sim.X, sim.S, relative_ridge=0.1)
    assert np.array_equal(gains_of(fit), gains_of(fit.gains))
    assert np.array_equal(delta_of(fit), fit.delta)
    np.testing.assert_allclose(delta_of(fit.gains), fit.delta, atol=1e-15 * np.abs(fit.gains).max() * 2)


def test_another_shape_is_not_near():
    with pytest.raises(AssertionError, match="shape"):
        near(np.zeros(3), np.zeros(4), 1.0)


def test_a_task_needs_no_more_than_ours_and_a_check():
    task = Task(ours=int, check=bool, flops=0.0, nbytes=0.0)
    assert task.naive is None
    assert task.floor is None


# --- fresh processes


@pytest.mark.slow
def test_a_fresh_process_says_what_a_first_call_takes():
    found = in_fresh_process(("covariance", (30, 6), "float64"))
    assert found["first_call_seconds_with_import"] > found["first_call_seconds"] > 0
    assert found["traced_peak_bytes"] > 8 * 6 * 6
    assert found["resident_peak_bytes"] is None or found["resident_peak_bytes"] >= 0


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="no such thing"):
        child("raise SystemExit('no such thing')")


def test_the_median_of_fresh_processes():
    assert child("print(3)", runs=2) == 3.0
