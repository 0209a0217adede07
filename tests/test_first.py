"""The table of bench/first.py: its rows, its words, and the reference that minima are held against."""

import ast
import os
import pathlib
import re
import runpy

import numpy as np
import pytest
from cases import BENCH, bench_modules

import fastcov as fc
from fastcov._bench._children import output

ROOT = pathlib.Path(__file__).parents[1]
NEEDED = ("study", "layers", "first_rows", "first_minima", "first")


@pytest.fixture(scope="module")
def modules():
    """bench/first.py and what it imports, without recordings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FASTCOV_REAL_DATA", raising=False)
        with bench_modules(*NEEDED) as found:
            yield found


@pytest.fixture
def problem(modules):
    sim = fc.datasets.simulate(14, 6, rng=0)
    ridge = fc.fit(sim.X, sim.S, relative_ridge=1e-3, method="diagonal").ridge
    return modules["first_minima"].Problem(sim.X, sim.S, float(ridge))


@pytest.mark.parametrize(
    ("aim", "value", "said"),
    [("≤ 1.3", 1.3, "yes"), ("≤ 1.3", 1.31, "no"), ("≥ 5", 5.0, "yes"), ("≥ 5", 4.99, "no"),
     ("≤ 0", float("nan"), "no")],
)  # fmt: skip
def test_an_aim_is_met_or_not(modules, aim, value, said):
    assert modules["first"].met(aim, value) == said


def test_every_row_has_an_aim_and_cells_of_a_page_and_differs(modules):
    first = modules["first"]
    rows = modules["first_rows"].rows() + modules["first_minima"].rows()
    lines = [first.line(row, 1.0) for row in rows]
    assert {line.count("|") for line in lines} == {first.HEAD.splitlines()[0].count("|")}
    assert len(set(lines)) == len(rows)
    assert all(re.fullmatch(r"[≤≥] [0-9.]+", row.aim) for row in rows)
    assert any("simulated" in row.at for row in rows)  # there is no file


def test_rows_are_chosen_by_their_text(modules):
    rows = modules["first_rows"].rows()
    assert [row.what for row in modules["first"].chosen(rows, "DSYRK")] == ["`gram` / bare `dsyrk`"]
    assert modules["first"].chosen(rows, None) == rows


def test_what_is_said_to_come_before_comes_before_each_timed_run(modules):
    calls = []
    modules["first_rows"].paired(
        lambda: calls.append("a"), lambda: calls.append("b"), 2,
        {"above": lambda: calls.append("before a")},
    )  # fmt: skip
    assert calls.count("before a") == 2
    assert all(calls[i + 1] == "a" for i, call in enumerate(calls) if call == "before a")


def test_a_row_prints_a_page_and_its_notes(modules, monkeypatch, capsys):
    first, Row = modules["first"], modules["first_rows"].Row
    rows = [Row("one", "here", "≤ 2", lambda pairs: (pairs / 10, "said")), Row("two", "", "≥ 3", print)]
    monkeypatch.setattr(first.first_rows, "rows", lambda: rows)
    monkeypatch.setattr("sys.argv", ["first.py", "--only", "one", "--pairs", "15"])
    assert first.main() == 0
    shown = capsys.readouterr().out
    assert "| one | here | ≤ 2 | 1.50 | yes |\n" in shown
    assert "- one, here: said.\n" in shown


def test_coefficients_along_single_gains_are_those_of_the_loss(problem):
    z = np.random.default_rng(1).lognormal(0.0, 0.3, 14)
    before, coefficients = problem.loss_and_gradient(z)[0], problem.single_gains(z)
    for i in (0, 5, 13):
        for s in (-1.5, 0.3, 2.0):
            moved = z + s * np.eye(14)[i]
            change = coefficients[i] @ [s, s**2, s**3, s**4]
            assert problem.loss_and_gradient(moved)[0] - before == pytest.approx(change, rel=1e-9)


def test_its_gradient_is_that_of_its_loss(problem):
    z, step = np.random.default_rng(1).lognormal(0.0, 0.3, 14), 1e-6
    slope = problem.loss_and_gradient(z)[1]
    for i in range(3):
        ends = [problem.loss_and_gradient(z + sign * step * np.eye(14)[i])[0] for sign in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope[i], rel=1e-5)


def test_the_best_move_is_the_lowest_of_a_search_and_none_at_a_reference(problem):
    z = np.ones(14)
    z[3] = -1.0
    change, i, s = problem.best_move(z)
    before = problem.loss_and_gradient(z)[0]
    moved = z + s * np.eye(14)[i]
    assert problem.loss_and_gradient(moved)[0] == pytest.approx(before + change, rel=1e-9)
    steps = np.linspace(-4, 4, 4001)
    powers = np.stack([steps, steps**2, steps**3, steps**4])
    assert change <= (problem.single_gains(z) @ powers).min()
    value, moves = problem.escapes()
    assert value <= problem.descend(np.ones(14))[0]
    assert moves < 100


def test_a_dead_channel_is_never_moved(modules):
    sim = fc.datasets.simulate(14, 6, rng=0)
    X = sim.X.copy()
    X[2] = 0.0
    _, i, _ = modules["first_minima"].Problem(X, sim.S, 0.0).best_move(np.ones(14))
    assert i != 2


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="nothing says what a thread takes")
def test_the_process_that_counts_what_numpys_threads_do_is_one_that_runs(modules):
    """Its code is a text, which nothing else looks at; one call of one size is enough."""
    tree = ast.parse(modules["first_rows"].WAKES)
    imports = [node.names[0].name for node in ast.walk(tree) if isinstance(node, ast.Import)]
    assert imports.index("numpy") < imports.index("fastcov")
    code = modules["first_rows"].WAKES.replace(", (871, 52), (1004, 187), (30000, 60)", ", ")
    assert "a NumPy product" in output(re.sub(r"time\.sleep\(0\.3\)", "pass", code), FASTCOV_KEEP_BLAS="1")


@pytest.mark.slow
def test_every_script_of_bench_that_measures_here_imports_numpy_before_fastcov():
    for path in sorted(BENCH.glob("*.py")):
        names = imported(path)
        if "fastcov" in names and path.name != "scaling.py":  # which measures in processes that do so
            assert names.index("numpy") < names.index("fastcov"), path.name


def imported(path):
    """Names in the order of imports, those of scripts beside it followed."""
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            name = (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
            beside = BENCH / f"{name}.py"
            names += imported(beside) if beside.exists() else [name]
    return names


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="slow without compiling")
def test_the_example_of_a_notebook_prints_milliseconds(monkeypatch, capsys):
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    monkeypatch.delenv("FASTCOV_REAL_DATA", raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    runpy.run_path(str(ROOT / "examples" / "as_in_a_notebook.py"))
    printed = capsys.readouterr().out
    assert printed.startswith("Simulated responses of 871 channels and 52 conditions\n")
    assert [line.count("|") for line in printed.splitlines()[1:]] == [5] * 6
