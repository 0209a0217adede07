"""`fastcov bench`: what it measures, prints and saves, and what its comparison says and returns."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from test_bench_compare import pair, rounds  # noqa: F401  (a fixture)
from test_bench_record import record  # noqa: F401  (a fixture)

from fastcov import cli
from fastcov._bench import _cases, _compare, _run
from fastcov._bench._case import Case
from fastcov._bench._children import output
from fastcov._compute.environment import DEFAULTS, as_given
from fastcov._timings import record as _record
from fastcov._timings.runs import FLOOR, OURS, case_name
from fastcov.cli import _again, _bench

STOPS = """
import os, signal, sys
class Stops:
    def find_spec(self, name, *_):
        if name == "fastcov._bench" and "numpy" in sys.modules:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Stops())
"""
KEYS = [("gram", (40, 8), "float64"), ("loss", (40, 8), "float64"), ("gram", (40, 8), "float32")]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty folder, with a suite of three tiny cases."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_cases, "SUITES", dict.fromkeys(("quick", "standard", "full"), KEYS))

    def call(*arguments):
        return CliRunner().invoke(cli.main, ["bench", *map(str, arguments)], prog_name="fastcov")

    return call


def refused(result, *words, code=2):
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def test_tiny_cases_are_measured_printed_saved_and_compared(run):
    for name in ("before.json", "after.json"):
        result = run("--rounds", 9, "--only", "gram", "--no-peers", "--threads", 1, "--json", name)
        assert result.exit_code == 0, result.output
        assert result.stderr == f"Saved the rounds to {name}\n"
        lines = [line for line in result.stdout.splitlines() if line.startswith("gram")]
        assert [line.split()[4] for line in lines] == ["float64", "float32"]
    found = _record.load("after.json")
    assert [case.operation for case in found.cases] == ["gram", "gram"]
    assert (found.suite, found.settings["rounds"], found.settings["peers"]) == ("standard", 9, False)
    assert {OURS, FLOOR} <= set(found.cases[0].seconds)
    assert run("compare", "before.json", "after.json", "--fail-above", 100).exit_code in (0, 2)  # or noisy
    assert run("compare", "before.json", "before.json").exit_code == 2


def process(*arguments):
    command = [sys.executable, "-m", "fastcov", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=as_given())


@pytest.mark.slow
def test_it_is_measured_in_a_process_that_imports_numpy_first_without_our_variables(tmp_path):
    path = tmp_path / "a.json"
    result = process(
        "--suite", "full", "--only", "^plan 1000000", "--rounds", 1, "--no-peers", "--json", path
    )
    assert (result.returncode, result.stderr) == (0, f"Saved the rounds to {path}\n")
    assert "NumPy imported first; " in result.stdout
    found = _record.load(path).machine
    assert found["imported_first"] == "numpy"
    assert not set(DEFAULTS) - set(as_given()) & set(found["environment"])


@pytest.mark.slow
def test_the_exit_code_and_the_one_line_are_those_of_that_process():
    result = process("--only", "(")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)


def test_a_process_with_numpy_first_goes_on_and_one_that_stays_waits_for_the_other():
    assert (
        output("import numpy, fastcov.cli._again as a; a.restart_with_numpy_first(); print('on')") == "on\n"
    )
    with pytest.raises(SystemExit) as ended:
        _again._beside([sys.executable, "-c", "raise SystemExit(7)"])
    assert ended.value.code == 7


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal to send")
def test_ctrl_c_reaches_the_process_that_measures(tmp_path):
    """It is sent where that process, which has NumPy, begins to import what it measures."""
    (tmp_path / "sitecustomize.py").write_text(STOPS)
    command = [sys.executable, "-m", "fastcov", "bench", "--quick", "--json", str(tmp_path / "a.json")]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env=as_given() | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "Error: interrupted.\n")
    assert not (tmp_path / "a.json").exists()


def test_the_suites_hold_cases_that_can_be_made(run):
    for suite in _bench.SUITES:
        assert run("--suite", suite, "--list").exit_code == 0
    assert run("--quick", "--list").stdout.splitlines() == [case_name(*key) for key in KEYS]
    assert run("--list", "--only", "32$").stdout == "gram 40x8 float32\n"


def test_options_of_the_command_line_are_those_of_the_package():
    assert set(_bench.SUITES) == set(_cases.SUITES) == set(_run.BUDGETS)
    assert _bench.ACROSS == _compare.ACROSS
    assert _bench.RATIOS not in {dtype for _, _, dtype in KEYS}
    defaults = {option.name: option.default for option in cli.main.commands["bench"].params}
    assert defaults["rounds"] == _run.ROUNDS
    (most,) = (option.type.max for option in cli.main.commands["bench"].params if option.name == "rounds")
    assert most == _record.MOST_ROUNDS
    (line,) = (option for option in cli.main.commands["bench"].commands["compare"].params
               if option.name == "fail_above")  # fmt: skip
    assert line.default == _compare.FAIL_ABOVE
    assert ", ".join(f"{each:g}" for each in list(_run.BUDGETS.values())[:2]) in run_help()


def run_help():
    text = CliRunner().invoke(cli.main, ["bench", "--help"]).stdout
    return " ".join(text.split())


def test_help_lists_the_command_and_its_comparison():
    assert "bench" in CliRunner().invoke(cli.main, ["--help"]).stdout
    assert "compare" in run_help()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "("), ("--only must be a regular expression",)),
        (("--only", "nothing"), ("no case of the suite 'standard'", "--list")),
        (("--quick", "--suite", "full"), ("--quick", "--suite full")),
        (("--json", "a.txt"), ("--json", ".json")),
        (("--json", "none/a.json"), ("--json",)),
        (("--figure", "a.gif"), ("--figure", ".png")),
        (("--rounds", "0"), ("--rounds",)),
        (("--rounds", "1001"), ("--rounds", "1000")),
        (("--budget", "0"), ("--budget",)),
        (("--budget", "inf"), ("--budget", "finite")),
        (("--budget", "nan"), ("--budget", "finite")),
        (("--threads", "100000"), ("Argument 'n' must be a whole number of threads",)),
        (("compare", "none.json", "none.json"), ("Argument 'BEFORE.json'", "missing")),
        (("compare", ".", "."), ("Argument 'BEFORE.json'", "folder")),
        (("compare", "one.json"), ("AFTER.json",)),
        (("compare", "a.json", "b.json", "--fail-above", "0.9"), ("--fail-above",)),
        (("compare", "a.json", "b.json", "--fail-above", "1"), ("--fail-above",)),
        (("compare", "a.json", "b.json", "--fail-above", "nan"), ("--fail-above", "finite")),
        (("--quick", "--json", "z.json", "compare", "a", "b"), ("'compare'", "--quick, --json")),
        (("compare", "a.json", "b.json", "--across", "moon"), ("--across",)),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_measured(run, monkeypatch, arguments, words):
    monkeypatch.setattr(_run._cases, "case", lambda *_, **__: pytest.fail("it measured"))
    refused(run(*arguments), *words)


def test_a_wrong_result_is_an_error_that_names_it(run, monkeypatch):
    def wrong(_):
        raise AssertionError("it is far off")

    monkeypatch.setattr(_cases, "case", lambda *key, **_: Case(*key, {OURS: lambda: 0}, wrong, 1.0, 1.0))
    refused(run("--json", "a.json"), "'fastcov' gives for 'gram 40x8 float64' is wrong (it is far off)")
    assert not os.listdir()


def test_ctrl_c_leaves_no_file_and_the_older_one_and_says_so(run, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    with open("a.json", "w") as file:
        file.write("older")
    monkeypatch.setattr(_cases, "case", lambda *key, **_: Case(*key, {OURS: stop}, print, 1.0, 1.0))
    result = run("--json", "a.json")
    assert result.exit_code == 130
    assert "no file was written" in result.stderr
    assert "interrupted" in result.stderr
    assert os.listdir() == ["a.json"]
    with open("a.json") as file:
        assert file.read() == "older"


@pytest.mark.slow
def test_the_table_for_a_page_and_the_figures(run):
    pytest.importorskip("matplotlib")
    result = run("--rounds", 1, "--only", "gram", "--no-peers", "--markdown", "--figure", "a.svg")
    assert result.exit_code == 0, result.output
    assert "| gram | 40 x 8 | float64 |" in result.stdout
    assert sorted(os.listdir()) == ["a.svg", "a_float32.svg", "a_ratios.svg"]


def test_one_precision_is_drawn_where_only_one_is_measured(run):
    pytest.importorskip("matplotlib")
    result = run("--rounds", 1, "--only", "float32", "--no-peers", "--figure", "a.svg")
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir()) == ["a.svg", "a_ratios.svg"]


def test_the_table_is_printed_where_nothing_ran_beside_that_a_figure_could_show(run, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(_cases, "case", lambda *key, **_: Case(*key, {OURS: lambda: 0}, id, 1.0, 1.0))
    result = run("--rounds", 1, "--only", "loss", "--figure", "a.svg")
    assert result.exit_code == 0, result.output
    assert "loss       40 x 8" in result.stdout
    assert "Warning: a_ratios.svg was not drawn: nothing ran beside fastcov.\n" in result.stderr
    assert os.listdir() == ["a.svg"]


def test_the_table_is_not_lost_where_a_figure_fails(run, monkeypatch):
    plot = pytest.importorskip("fastcov.plot")
    pytest.importorskip("matplotlib")

    def broken(*_, **__):
        raise ValueError("no figure")

    monkeypatch.setattr(plot, "scaling", broken)
    result = run("--rounds", 1, "--only", "loss", "--no-peers", "--figure", "a.svg")
    assert result.exit_code != 0
    assert "loss       40 x 8" in result.stdout


# ---- compare


@pytest.fixture
def files(run, pair):  # noqa: F811
    """A function that saves two records and compares them."""

    def call(before, after, *options, **machine):
        first, second = pair(before, after)
        _record.save(first, "a.json")
        _record.save(dataclasses.replace(second, machine=second.machine | machine), "b.json")
        return run("compare", "a.json", "b.json", *options)

    return call


def test_the_same_speed_passes_with_a_table(files):
    result = files({"gram": rounds()}, {"gram": rounds(seed=1)})
    assert (result.exit_code, result.stderr) == (0, "")
    assert "gram 148x48 float64" in result.stdout


def test_a_slower_operation_fails_and_is_named_with_its_interval(files):
    result = files({"gram": rounds(), "fit": rounds()}, {"gram": rounds(1.3, seed=1), "fit": rounds(seed=2)})
    assert result.exit_code == 1
    assert result.stderr.startswith("Slower: gram 148x48 float64: 1.2")
    assert " to " in result.stderr
    assert "fit" not in result.stderr
    assert files({"gram": rounds()}, {"gram": rounds(1.3, seed=1)}, "--fail-above", 1.5).exit_code == 0


def test_what_cannot_be_told_is_said_and_is_2_or_1_beside_a_slower_operation(files):
    before = {"gram": rounds(noise=0.4), "fit": rounds(noise=0.4), "loss": rounds(), "apply": rounds()}
    after = {"gram": rounds(1.2, noise=0.4), "fit": rounds(noise=0.4, seed=2), "loss": rounds(seed=1)}
    result = files(before, after)
    assert result.exit_code == 2
    assert "Cannot compare: apply 148x48 float64: only in the first file" in result.stderr
    assert "gram 148x48 float64: 1.200 times" in result.stderr
    assert "may be noise" in result.stderr
    assert "noise of fit 148x48 float64: measure again" in result.stderr
    assert files(before, after | {"loss": rounds(1.3, seed=1)}).exit_code == 1


def test_another_machine_is_refused_and_with_across_told(files):
    case = {"gram": rounds()}, {"gram": rounds(seed=1)}
    refused(files(*case, cores=4), "Cannot compare: other machine: cores 2, then 4 (--across machine)")
    result = files(*case, "--across", "machine", cores=4)
    assert result.exit_code == 0
    assert result.stdout.startswith("Across other machine: cores 2, then 4\n")


@pytest.mark.parametrize("which", ["a.json", "b.json"])
@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: "", lambda text: "{}"])
def test_a_damaged_file_is_refused_by_name(files, run, which, damage):
    files({"gram": rounds()}, {"gram": rounds(seed=1)})
    with open(which) as file:
        text = file.read()
    with open(which, "w") as file:
        file.write(damage(text))
    refused(run("compare", "a.json", "b.json"), which, "BEFORE" if which == "a.json" else "AFTER")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="whoever runs this may read anything")
def test_a_file_that_cannot_be_read_is_refused(files, run):
    files({"gram": rounds()}, {"gram": rounds(seed=1)})
    os.chmod("b.json", 0)
    refused(run("compare", "a.json", "b.json"), "b.json")


def test_no_flipped_field_passes_unseen(files, run):
    """Any field of the machine that is changed refuses the comparison, but those that change nothing."""
    files({"gram": rounds()}, {"gram": rounds(seed=1)})
    with open("b.json") as file:
        value = json.load(file)
    for name, other in (("processor", "x"), ("cores", 1), ("memory_gb", 1.0), ("system", "x")):
        changed = value | {"machine": value["machine"] | {name: other}}
        with open("b.json", "w") as file:
            json.dump(changed, file)
        refused(run("compare", "a.json", "b.json"), "Cannot compare")
