"""The command line: results to stdout, messages to stderr, one line and code 2 for bad input."""

import json
import os
import pathlib
import subprocess
import sys
import warnings

import click
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal
from scipy.io import savemat

import fastcov as fc
from fastcov import cli

compiled = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="a process of its own is slow without compiling"
)
PNG = b"\x89PNG"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty folder with data.npz (X, Y, S) and return click's result."""
    monkeypatch.chdir(tmp_path)
    sim = fc.datasets.simulate(40, 8)
    np.savez("data.npz", X=sim.X, Y=sim.Y, S=sim.S)

    def call(*arguments):
        return CliRunner().invoke(cli.main, list(map(str, arguments)), prog_name="fastcov")

    return call


def refused(result, *words, code=2):
    """Assert one line on stderr with `words`, nothing on stdout, and the exit code."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def load(path="data.npz"):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fastcov", *arguments], capture_output=True, text=True, check=False, **options
    )


# ---- fit


def test_fit_prints_the_table_of_the_fit(run):
    result = run("fit", "data.npz:X", "--responses", "data.npz:Y", "--relative-ridge", 0.2)
    data = load()
    S = fc.target_covariance(data["Y"], like=data["X"])
    assert result.exit_code == 0
    assert result.stdout == f"{fc.fit(data['X'], S, relative_ridge=0.2)}\n"
    assert result.stderr == ""


@pytest.mark.parametrize("method", ["linear", "diagonal"])
def test_json_is_one_object_with_the_numbers_and_gains_of_the_fit(run, method):
    result = run("fit", "data.npz:X", "--target", "data.npz:S", "--ridge", 7, "--method", method, "--json")
    data = load()
    fit = fc.fit(data["X"], data["S"], ridge=7, method=method)
    found = json.loads(result.stdout)
    assert_allclose(found["gains"], fit.gains, rtol=1e-12)
    assert found["method"] == method
    assert found["status"] == fit.status
    assert (found["channels"], found["conditions"], found["center"]) == (40, 8, True)
    for name in ("loss", "loss_at_one", "r2", "ridge"):
        assert found[name] == pytest.approx(getattr(fit, name), rel=1e-12)
    assert found["relative_ridge"] is None
    assert found["version"] == fc.__version__


@pytest.mark.parametrize("suffix", ["npy", "h5", "zarr"])
def test_fits_from_files_that_are_read_by_rows_are_those_from_memory(run, suffix):
    data = load()
    if suffix == "npy":
        for name in "XYS":
            np.save(f"{name}.npy", data[name])
        x, y, s = "X.npy", "Y.npy", "S.npy"
    else:
        library = pytest.importorskip({"h5": "h5py", "zarr": "zarr"}[suffix])
        file = library.File("d.h5", "w") if suffix == "h5" else library.open_group("d.zarr", mode="w")
        for name in "XYS":
            make = file.create_array if hasattr(file, "create_array") else file.create_dataset
            make(name, shape=data[name].shape, dtype="f8")[:] = data[name]
        if suffix == "h5":
            file.close()
        x, y, s = (f"d.{suffix}:{name}" for name in "XYS")
    for source, expected in (
        (("--responses", y), ("--responses", "data.npz:Y")),
        (("--target", s), ("--target", "data.npz:S")),
    ):
        result = run("fit", x, *source, "--plot", "fit.png", "--json")
        assert result.exit_code == 0, result.output
        found, wanted = (
            json.loads(result.stdout),
            json.loads(run("fit", "data.npz:X", *expected, "--json").stdout),
        )
        assert_allclose(found["gains"], wanted["gains"], rtol=1e-12)
    refused(run("fit", x.replace("X", "Z"), "--target", s), "Argument 'X' must ")


def test_nan_in_json_is_null(run):
    np.save("zero.npy", np.zeros((8, 8)))
    result = run("fit", "data.npz:X", "--target", "zero.npy", "--json")
    assert "NaN" not in result.stdout
    assert json.loads(result.stdout)["r2"] is None


def test_the_default_ridge_is_the_relative_one_in_the_help(run):
    found = json.loads(run("fit", "data.npz:X", "--target", "data.npz:S", "--json").stdout)
    assert found["relative_ridge"] == cli.RELATIVE_RIDGE
    assert f"[default: {cli.RELATIVE_RIDGE}]" in run("fit", "--help").stdout


def test_no_center_fits_the_overlap(run):
    arguments = ("fit", "data.npz:X", "--responses", "data.npz:Y", "--ridge", 5, "--no-center", "--json")
    found = json.loads(run(*arguments).stdout)
    data = load()
    S = fc.target_covariance(data["Y"], like=data["X"], center=False)
    assert_allclose(found["gains"], fc.fit(data["X"], S, ridge=5, center=False).gains, rtol=1e-12)


def test_output_holds_the_whole_fit_without_pickle(run):
    arguments = ("fit", "data.npz:X", "--responses", "data.npz:Y", "--ridge", 5, "--output", "out.npz")
    result = run(*arguments)
    data = load()
    S = fc.target_covariance(data["Y"], like=data["X"])
    fit = fc.fit(data["X"], S, ridge=5)
    assert result.stderr == "Saved the fit to out.npz\n"
    saved = load("out.npz")
    assert_array_equal(saved["gains"], fit.gains)
    assert_array_equal(saved["delta"], fit.delta)
    assert_array_equal(saved["covariance"], fit.covariance())
    assert_array_equal(saved["target"], S)
    for name in ("loss", "loss_at_one", "r2", "ridge", "residual", "status", "method"):
        assert saved[name][()] == getattr(fit, name)
    assert np.isnan(saved["relative_ridge"])
    assert saved["version"] == fc.__version__


def test_a_stack_of_targets_is_fitted_and_saved(run):
    S = load()["S"]
    np.save("stack.npy", np.stack([S, 2 * S]))
    result = run("fit", "data.npz:X", "--target", "stack.npy", "--output", "out.npz", "--json")
    found = json.loads(result.stdout)
    assert np.shape(found["gains"]) == (2, 40)
    assert np.shape(found["loss"]) == (2,)
    assert load("out.npz")["covariance"].shape == (2, 8, 8)
    refused(run("fit", "data.npz:X", "--target", "stack.npy", "--plot", "x.png"), "draws one target")


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_plot_draws_both_fits(run, suffix, monkeypatch):
    drawn = {}
    summary = fc.plot.summary

    def spy(X, S, fits, **options):
        drawn.update(fits)
        return summary(X, S, fits, **options)

    monkeypatch.setattr(fc.plot, "summary", spy)
    result = run("fit", "data.npz:X", "--target", "data.npz:S", "--plot", f"fit.{suffix}")
    assert result.exit_code == 0
    assert result.stderr == f"Saved the figure to fit.{suffix}\n"
    assert os.path.getsize(f"fit.{suffix}") > 10_000
    assert list(drawn) == ["linear", "diagonal"]
    assert drawn["linear"].ridge == drawn["diagonal"].ridge


def test_files_of_every_kind_can_be_mixed(run):
    data = load()
    savemat("x.mat", {"X": data["X"]})
    names = ",".join(f"odour {j}" for j in range(8))
    rows = [f"cell {i}," + ",".join(map(repr, row)) for i, row in enumerate(data["Y"].tolist())]
    with open("y.csv", "w") as file:
        file.write("\n".join([f"cell,{names}", *rows]))
    mixed = run("fit", "x.mat", "--responses", "y.csv", "--ridge", 5)
    assert mixed.stdout == run("fit", "data.npz:X", "--responses", "data.npz:Y", "--ridge", 5).stdout


def test_overshoot_is_said_in_the_table(run):
    np.save("far.npy", 30 * load()["S"])
    result = run("fit", "data.npz:X", "--target", "far.npy", "--relative-ridge", 1e-6)
    assert result.exit_code == 0
    assert "overshoots" in result.stdout


def test_a_convergence_warning_is_one_line_on_stderr(run, monkeypatch):
    from fastcov import _fit

    fit = _fit.fit

    def short(*args, **kwargs):
        warnings.warn("The solver stopped\nshort.", fc.ConvergenceWarning, stacklevel=2)
        return fit(*args, **kwargs)

    monkeypatch.setattr(_fit, "fit", short)
    result = run("fit", "data.npz:X", "--target", "data.npz:S")
    assert result.exit_code == 0
    assert result.stdout.startswith("Fit\n")
    assert result.stderr == "Warning: The solver stopped short.\n"


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data.npz:X"], ["one of --responses and --target, not neither", "--help"]),
        (["data.npz:X", "--responses", "data.npz:Y", "--target", "data.npz:S"], ["not both"]),
        (
            ["data.npz:X", "--target", "data.npz:S", "--ridge", 1, "--relative-ridge", 1],
            ["one of --ridge and --relative-ridge, not both"],
        ),
        (["no.npz:X", "--target", "data.npz:S"], ["'X'", "'no.npz' is missing"]),
        (["data.npz:X", "--target", "no.npy"], ["'S'", "'no.npy' is missing"]),
        (["data.npz:Z", "--target", "data.npz:S"], ["'Z' is not one", "X 40 x 8, Y 40 x 8, S 8 x 8"]),
        (["data.npz:X", "--responses", "data.npz"], ["'Y'", "none was given"]),
        (["data.npz:X", "--target", "data.npz:X"], ["'S' must be 8 x 8"]),
        (["data.npz:X", "--responses", "data.npz:S[1:]"], ["'S[1:]' is not one"]),
        (["data.npz:X", "--target", "data.npz:S", "--ridge", -1], ["'ridge'", ">= 0"]),
        (["data.npz:X", "--target", "data.npz:S", "--ridge", "nan"], ["'ridge'", "not nan"]),
        (["data.npz:X", "--target", "data.npz:S", "--ridge", "much"], ["'--ridge'", "much"]),
        (["data.npz:X", "--target", "data.npz:S", "--method", "cubic"], ["'cubic'", "linear"]),
        (["data.npz:X", "--target", "data.npz:S", "--output", "no/x.npz"], ["--output", "create it"]),
        (["data.npz:X", "--target", "data.npz:S", "--output", "x.csv"], ["--output", ".npz"]),
        (["data.npz:X", "--target", "data.npz:S", "--plot", "x.gif"], ["--plot", ".png, .pdf or .svg"]),
        (["data.npz:X", "--target", "data.npz:S", "--rigde", 1], ["--rigde"]),
        ([], ["Missing argument 'X'"]),
    ],
)
def test_bad_input_is_one_line_and_code_2(run, arguments, words):
    refused(run("fit", *arguments), *words)


def test_text_nan_and_asymmetry_are_refused_in_one_line(run):
    X = load()["X"]
    np.save("words.npy", np.array([["a", "b"]]))
    np.save("nan.npy", np.where(X > 2, np.nan, X))
    np.save("skew.npy", np.triu(np.ones((8, 8))))
    refused(run("fit", "words.npy", "--target", "data.npz:S"), "'X' must hold real numbers")
    refused(run("fit", "nan.npy", "--target", "data.npz:S"), "'X' must be finite")
    refused(run("fit", "data.npz:X", "--target", "skew.npy"), "'S' must be symmetric")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "MemoryError: use smaller arrays"),
        (MemoryError("8 GB are needed"), "8 GB are needed"),
        (KeyError("key"), "key"),
        (TypeError("two\n  lines"), "two lines"),
        (PermissionError(13, "Permission denied", "x.npy"), "Permission denied: 'x.npy'"),
    ],
)
def test_errors_from_below_are_one_line_and_code_2(run, monkeypatch, error, words):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("fastcov._io.open_array", fail)
    refused(run("fit", "data.npz:X", "--target", "data.npz:S"), words)


def test_outputs_are_refused_before_anything_is_read(run, monkeypatch):
    monkeypatch.setattr("fastcov._io.open_array", lambda *a, **k: pytest.fail("read before the check"))
    refused(run("fit", "data.npz:X", "--target", "data.npz:S", "--output", "no/x.npz"), "create it")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    refused(run("fit", "data.npz:X", "--target", "data.npz:S", "--plot", "x.png"), "fastcov-gains[plot]")


def test_ctrl_c_is_one_line_and_130_and_leaves_no_file(run, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupt)
    result = run("fit", "data.npz:X", "--target", "data.npz:S", "--output", "out.npz")
    refused(result, "interrupted", code=130)
    assert os.listdir() == ["data.npz"]


def test_errors_that_are_ours_are_not_hidden(run, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("a bug")

    monkeypatch.setattr("fastcov._io.open_array", fail)
    assert isinstance(run("fit", "x.npy", "--target", "s.npy").exception, AssertionError)


# ---- demo


def test_demo_compares_losses_and_draws(run):
    result = run("demo", "--channels", 60, "--conditions", 10, "--seed", 3)
    assert result.exit_code == 0
    assert result.stderr == "Saved the figure to demo.png\n"
    with open("demo.png", "rb") as file:
        assert file.read(4) == PNG
    sim = fc.datasets.simulate(60, 10, rng=3)
    linear = fc.fit(sim.X, sim.S, relative_ridge=0.1)
    diagonal = fc.fit(sim.X, sim.S, ridge=linear.ridge, method="diagonal")
    assert result.stdout.startswith(repr(sim))
    lines = {line[2:16].strip(): line[16:].split() for line in result.stdout.splitlines()}
    size = np.square(sim.S).sum()
    for name, gains in (
        ("all one", np.ones(60)),
        ("diagonal fit", diagonal.gains),
        ("linear fit", linear.gains),
        ("true gains", sim.gains),
    ):
        loss, ratio, r2 = map(float, lines[name])
        exact = fc.loss(sim.X, sim.S, gains, ridge=linear.ridge)
        assert loss == pytest.approx(exact, rel=1e-3)
        assert ratio == pytest.approx(exact / linear.loss_at_one, abs=1e-3)
        assert r2 == pytest.approx(1 - 2 * fc.loss(sim.X, sim.S, gains) / size, abs=1e-3)


def test_the_default_demo_shows_a_linear_fit_that_helps_and_a_diagonal_one_that_harms(run):
    lines = {line[2:16].strip(): line[16:].split() for line in run("demo").stdout.splitlines()}
    assert float(lines["linear fit"][1]) < 0.6
    assert float(lines["diagonal fit"][1]) > 3


def test_demo_without_matplotlib_prints_the_table_and_says_how_to_get_the_figure(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("demo", "--channels", 40, "--conditions", 5)
    assert result.exit_code == 0
    assert "linear fit" in result.stdout
    assert 'pip install "fastcov-gains[plot]"' in result.stderr
    assert result.stderr.count("\n") == 1
    assert os.listdir() == ["data.npz"]


def test_demo_refuses_what_cannot_be_simulated_or_saved(run):
    refused(run("demo", "--channels", 1), "'n_channels' must be at least 2")
    refused(run("demo", "--seed", -1), "'rng'")
    refused(run("demo", "--output", "no/demo.png"), "--output", "create it")


# ---- the group


def test_help_lists_the_commands_and_nothing_else_is_needed(run):
    for arguments in ([], ["--help"], ["-h"]):
        result = run(*arguments)
        assert result.exit_code == 0
        assert all(f"\n  {command} " in result.stdout for command in ("demo", "doctor", "fit"))
    refused(run("cook"), "No such command 'cook'", "fastcov --help")


def test_version_is_that_of_the_package(run):
    assert run("--version").stdout.split()[-1] == fc.__version__


def test_group_can_be_called_from_python(run):
    assert cli.main(["demo", "--channels", "1"], standalone_mode=False) == 2
    assert isinstance(cli.main, click.Group)


# ---- processes of their own


def test_help_imports_nothing_heavy():
    code = (
        "import sys, fastcov.cli\n"
        "fastcov.cli.main(['fit', '--help'], standalone_mode=False)\n"
        "assert not {'numpy', 'numba', 'scipy', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@compiled
def test_module_runs_and_says_its_name():
    result = process("cook")
    assert result.returncode == 2
    assert result.stderr == "Error: No such command 'cook'. See 'fastcov --help'.\n"


@compiled
def test_a_closed_pipe_gives_no_traceback_and_keeps_the_files(run):
    arguments = ["fit", "data.npz:X", "--target", "data.npz:S", "--output", "out.npz", "--json"]
    reading, writing = os.pipe()
    os.close(reading)  # whoever read has left before anything was printed
    result = subprocess.run(
        [sys.executable, "-m", "fastcov", *arguments],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert result.stderr == "Saved the fit to out.npz\n"
    assert os.path.exists("out.npz")


@compiled
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal to send")
def test_a_real_ctrl_c_answers_with_one_line():
    code = (
        "import os, signal, fastcov._io as files, fastcov.cli\n"
        "files.open_array = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGINT)\n"
        "fastcov.cli.main(['fit', 'x.npy', '--target', 's.npy'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "Error: interrupted.\n")


@compiled
def test_real_recordings_are_fitted_as_written_in_the_help(tmp_path):
    path = os.environ.get("FASTCOV_REAL_DATA")
    if not path:
        pytest.skip("FASTCOV_REAL_DATA is not set")
    os.symlink(os.path.abspath(path), tmp_path / "data.npz")
    command = "fit data.npz:glomeruli --responses data.npz:mitral --relative-ridge 0.1 --plot fit.png"
    result = process(*command.split(), cwd=tmp_path)
    assert result.returncode == 0
    assert "0.6633 of the loss at gains of one" in result.stdout
    assert (tmp_path / "fit.png").read_bytes()[:4] == PNG


def test_a_file_that_is_read_is_never_written_over(run):
    before = pathlib.Path("data.npz").read_bytes()
    result = run("fit", "data.npz:X", "--target", "data.npz:S", "--output", "./data.npz")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "must not be a file that is read" in result.stderr
    assert pathlib.Path("data.npz").read_bytes() == before


def test_responses_with_other_conditions_are_refused_by_the_names_on_the_command_line(run):
    np.save("other.npy", np.ones((4, 3)))
    result = run("fit", "data.npz:X", "--responses", "other.npy")
    assert result.exit_code == 2
    assert "Argument 'Y' must have the" in result.stderr
    assert "'like'" not in result.stderr


def test_what_is_wrong_with_x_is_said_of_x_where_responses_are_given(run):
    np.save("bad.npy", np.array([[1.0, np.nan], [2.0, 3.0]]))
    np.save("good.npy", np.eye(2))
    result = run("fit", "bad.npy", "--responses", "good.npy")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: Argument 'X' must be finite")
