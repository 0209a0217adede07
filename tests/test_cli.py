"""The command line: results to stdout, messages to stderr, one line and code 2 for bad input."""

import csv
import json
import os
import pathlib
import re
import subprocess
import sys
import warnings

import click
import numpy as np
import pytest
from cases import slow_but
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal
from scipy.io import savemat

import fastcov as fc
from fastcov import cli
from fastcov._results.score import SCORES

compiled = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="slow without compiling")
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
    assert result.exit_code == 0
    assert result.stdout == f"{fc.fit(data['X'], responses=data['Y'], relative_ridge=0.2)}\n"
    assert f", target of {len(data['Y'])} channels" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("method", ["linear", "line-search", "exact", "diagonal"])
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    drawn.clear()
    run("fit", "data.npz:X", "--target", "data.npz:S", "--method", "exact", "--plot", "fit.svg", "--lower", 0)
    assert list(drawn) == ["exact", "linear", "diagonal"]
    assert all(fit.gains.min() >= 0 for fit in drawn.values())


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


def told(result):
    return [line for line in result.stderr.splitlines() if "overshoot" in line]


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("arguments", "n"),
    [
        (("fit", "data.npz:X", "--target", "far.npy", "--relative-ridge", 1e-6), 1),
        slow(("fit", "data.npz:X", "--target", "far.npy", "--relative-ridge", 1e-6, "--plot", "fit.png"), 1),
        slow(("fit", "data.npz:X", "--target", "far.npy", "--relative-ridge", 1e-6, "--method", "exact",
          "--plot", "fit.png"), 0),
        (("path", "data.npz:X", "--target", "far.npy", "--relative-ridges", "1e-6,1e-5,10"), 1),
        slow(("report", "data.npz:X", "--target", "far.npy", "--relative-ridge", 1e-6), 1),
        slow(("report", "data.npz:X", "--target", "far.npy", "--relative-ridge", 1e-6, "--method", "exact"),
             1),
        slow(("report", "data.npz:X", "--target", "far.npy", "--relative-ridge", 10), 0),
        (("fit", "data.npz:X", "--responses", "data.npz:Y", "--relative-ridge", 10), 0),
        slow(("demo", "--channels", 20, "--conditions", 8, "--relative-ridge", 1e-6), 0),
        (("doctor",), 0),
    ],
    ids=lambda each: " ".join(map(str, each)) if isinstance(each, tuple) else str(each),
)  # fmt: skip
def test_overshoot_is_one_line_on_stderr_where_it_was_asked_for(run, arguments, n):
    np.save("far.npy", 30 * load()["S"])
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    lines = told(result)
    assert len(lines) == n, result.stderr
    assert all(line.startswith("Warning: The exact loss is ") for line in lines)


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


def test_options_of_a_fit_reach_it(run):
    data = load()
    arguments = ("fit", "data.npz:X", "--target", "data.npz:S", "--ridge", 5, "--json")
    exact = {"method": "exact", "bounds": (0.9, 1.2), "n_starts": 3, "rng": 4, "tol": 1e-4}
    command = "--method exact --lower 0.9 --upper 1.2 --n-starts 3 --seed 4 --tol 1e-4"
    pcg = {"solver": "pcg", "rank": 3, "rng": 4}
    for options, given in ((exact, command), (pcg, "--solver pcg --rank 3 --seed 4")):
        found = json.loads(run(*arguments, *given.split()).stdout)
        fit = fc.fit(data["X"], data["S"], ridge=5, **options)
        assert_array_equal(found["gains"], fit.gains)
        assert found["iterations"] == fit.stats["iterations"]
    one_sided = json.loads(run(*arguments, "--upper", 1).stdout)
    assert_array_equal(one_sided["gains"], fc.fit(data["X"], data["S"], ridge=5, bounds=(None, 1)).gains)


def test_tol_is_by_default_that_of_the_method(run):
    data = load()
    S = fc.target_covariance(data["Y"], like=data["X"])
    for method in ("exact", "linear"):
        arguments = ("--ridge", 5, "--method", method, "--solver", "pcg", "--json")
        found = json.loads(run("fit", "data.npz:X", "--responses", "data.npz:Y", *arguments).stdout)
        assert_array_equal(found["gains"], fc.fit(data["X"], S, ridge=5, method=method, solver="pcg").gains)


def test_a_fit_that_stops_short_says_so_in_its_table_and_on_stderr_and_is_no_error(run):
    arguments = ("--method", "exact", "--relative-ridge", 1e-3, "--max-iterations", 1)
    result = run("fit", "data.npz:X", "--responses", "data.npz:Y", *arguments)
    assert result.exit_code == 0
    assert "exact: max-iterations" in result.stdout
    assert result.stderr.startswith("Warning: The minimiser stopped")
    assert result.stderr.count("\n") == 1


def test_ridge_cv_is_the_best_on_held_out_conditions_and_shows_why(run):
    data = load()
    arguments = ("fit", "data.npz:X", "--responses", "data.npz:Y", "--ridge", "cv", "--seed", 2)
    assert "4 folds" in run(*arguments).stdout  # of two conditions each
    np.savez("wide.npz", **{name: np.tile(data[name], 2) for name in "XY"})
    wide = [str(word).replace("data.npz", "wide.npz") for word in arguments]
    X, Y = load("wide.npz")["X"], load("wide.npz")["Y"]
    cv = fc.cross_validate(X, Y, method="linear", rng=2, refit=None)
    found = json.loads(run(*wide, "--json", "--output", "fit.npz").stdout)
    assert found["relative_ridge"] == cv.best_ridge
    assert_array_equal(found["cv"]["r2"], cv.r2)
    assert found["cv"]["pooled"] == cv.summary("linear")[0].tolist()
    assert found["cv"]["verdict"]["words"] == str(cv.verdict)
    assert_array_equal(fc.load("fit.npz").stats["cv"].r2, cv.r2)
    assert_array_equal(
        load("fit.npz")["stats.cv.scores.linear.moments.sums"], cv.scores["linear"].moments.sums
    )
    table = run(*wide).stdout
    assert f"({cv.best_ridge:g} of the largest eigenvalue)" in table
    assert table.endswith(f"\n\n{cv}\n")


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
        (["data.npz:X", "--target", "data.npz:S", "--ridge", "cv"], ["--ridge cv", "--responses"]),
        (["data.npz:X", "--target", "data.npz:S", "--n-starts", 2], ["--n-starts", "--method exact"]),
        (["data.npz:X", "--target", "data.npz:S", "--n-starts", 0], ["'--n-starts'", "x>=1"]),
        (
            ["data.npz:X", "--target", "data.npz:S", "--lower", 2, "--upper", 1],
            ["--lower", "--upper", "2 > 1"],
        ),
        (["data.npz:X", "--target", "data.npz:S", "--lower", "nan"], ["--lower", "NaN"]),
        (["data.npz:X", "--target", "data.npz:S", "--tol", 1], ["'--tol'", "0<x<1"]),
        (["data.npz:X", "--target", "data.npz:S", "--rank", -1], ["'--rank'", "x>=0"]),
        (["data.npz:X", "--target", "data.npz:S", "--rank", 41], ["'rank'", "40 channels"]),
        (["data.npz:X", "--target", "data.npz:S", "--output", "no/x.npz"], ["--output", "create it"]),
        (["data.npz:X", "--target", "data.npz:S", "--output", "x.txt"], ["--output", ".npz, .csv, .h5"]),
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

    monkeypatch.setattr("fastcov._inputs.files.open_array", fail)
    refused(run("fit", "data.npz:X", "--target", "data.npz:S"), words)


def test_outputs_are_refused_before_anything_is_read(run, monkeypatch):
    monkeypatch.setattr(
        "fastcov._inputs.files.open_array", lambda *a, **k: pytest.fail("read before the check")
    )
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

    monkeypatch.setattr("fastcov._inputs.files.open_array", fail)
    assert isinstance(run("fit", "x.npy", "--target", "s.npy").exception, AssertionError)


# ---- cv


def study(data, **options):
    """What the commands of these tests ask for."""
    asked = {"method": ["exact", "linear"], "folds": 3, "repeats": 2, "shuffles": 2, "rng": 5}
    return fc.cross_validate(data["X"], data["Y"], relative_ridges=[1e-2, 1.0], **(asked | options))


WORDS = (
    "cv data.npz:X --responses data.npz:Y --relative-ridges 1e-2,1 --method exact --method linear --folds 3 "
    "--repeats 2 --shuffles 2 --seed 5"
)
STUDY = WORDS.split()


def test_cv_prints_the_table_of_the_study(run):
    result = run(*STUDY)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{study(load())}\n"


def assert_same(found, wanted, name):
    """Whether JSON has these numbers; null is NaN."""
    assert_array_equal(np.array(found, dtype=float), np.asarray(wanted, float), err_msg=name)


@pytest.mark.slow
def test_cv_json_has_all_scores_by_method_beside_baselines_with_p_and_verdict(run):
    found = json.loads(run(*STUDY, "--json", "--nested").stdout)
    cv = study(load(), nested=True)
    assert found["held_out"] == [test.tolist() for _, test in cv.folds]
    assert (found["channels"], found["conditions"], found["repeats"], found["relative"]) == (40, 8, 2, True)
    assert found["score"] == "cross-pearson"
    for name, moments in cv.baselines.items():
        for score in SCORES:
            assert_same(found["baselines"][name]["scores"][score], moments.by_fold(score), score)
            assert_same(found["baselines"][name]["pooled"][score], moments.pooled(score), score)
    for method, table in cv.scores.items():
        one = found["methods"][method]
        for score in SCORES:
            value, error = cv.summary(method, score)
            assert_same(one["scores"][score], table.by_fold(score), score)
            assert_same(one["pooled"][score], value, score)
            assert_same(one["standard_error"][score], error, score)
            assert_same(one["shuffled"][score], table.shuffled.pooled(score), score)
            assert_same(one["p"][score], cv.p_value(method, score), score)
        assert one["p_over"] == {name: cv.p_value(method, over=name) for name in cv.baselines}
        verdict = cv.verdicts()[method]
        assert one["verdict"] == {
            "better": verdict.better, "p": verdict.p, "words": verdict.words, "more": list(verdict.more),
        }  # fmt: skip
        assert one["nested"]["ridges"] == cv.ridges[table.nested.places].tolist()
        assert_same(one["nested"]["pooled"]["r2"], table.nested.moments.pooled("r2"), "nested")
        assert_array_equal(one["status"], table.status)
        assert_array_equal(one["residual"], table.residual)
        assert one["best_ridge"] == cv.best_ridge[method]
        assert one["one_se_ridge"] == cv.one_se_ridge[method]
        assert_array_equal(one["fit"]["gains"], cv.fits[method].gains)


@pytest.mark.slow
def test_cv_output_has_one_array_of_each_score_with_methods_first(run):
    result = run(*STUDY, "--output", "cv.npz", "--refit", "one-se", "--lower", 0, "--no-center")
    assert result.stderr == "Saved the scores to cv.npz\n"
    cv = study(load(), refit="one-se", bounds=(0, None), center=False)
    saved = load("cv.npz")
    assert saved["methods"].tolist() == ["exact", "linear"]
    assert saved["baselines"].tolist() == ["one", "no-x", "scaled"]
    assert saved["verdict"].tolist() == [str(cv.verdicts()[name]) for name in cv.methods]
    for score in SCORES:
        key = score.replace("-", "_")
        for k, (method, table) in enumerate(cv.scores.items()):
            assert_array_equal(saved[key][k], table.by_fold(score))
            assert_array_equal(saved[f"pooled.{key}"][k], cv.summary(method, score)[0])
            assert_array_equal(saved[f"shuffled.{key}"][k], table.shuffled.pooled(score))
            assert_array_equal(saved[f"p.{key}"][k], cv.p_value(method, score))
        for k, moments in enumerate(cv.baselines.values()):
            assert_array_equal(saved[f"baselines.{key}"][k], moments.by_fold(score))
    for k, (method, scores) in enumerate(cv.scores.items()):
        assert_array_equal(saved["status"][k], scores.status.astype(str))
        assert_array_equal(saved["gains"][k], cv.fits[method].gains)
        assert saved["fit_ridge"][k] == cv.fits[method].ridge
        assert_array_equal(saved["p_over"][k], [cv.p_value(method, over=name) for name in cv.baselines])
    assert [np.flatnonzero(row).tolist() for row in saved["held_out"]] == [t.tolist() for _, t in cv.folds]
    assert saved["one_se_ridge"].tolist() == list(cv.one_se_ridge.values())


def test_cv_takes_a_target_a_score_and_the_folds_of_leave_one_out(run):
    data = load()
    command = "cv data.npz:X --target data.npz:S --relative-ridges 1e-2,1 --method linear --score cross-rsa"
    cv = fc.cross_validate(
        data["X"], S=data["S"], method="linear", relative_ridges=[1e-2, 1.0], score="cross-rsa",
        folds="leave-one-out",
    )  # fmt: skip
    assert run(*command.split(), "--folds", "leave-one-out").stdout == f"{cv}\n"


@pytest.mark.parametrize(
    ("option", "permute"), [("--permute-within", "within"), ("--permute-groups", "groups")]
)
def test_what_shuffles_may_exchange_can_be_said(run, option, permute):
    labels = ["a", "b", "a", "b", "c", "c", "d", "d"]
    pathlib.Path("labels.txt").write_text("\n".join(labels))
    cv = study(load(), groups=labels, permute=permute)
    assert run(*STUDY, f"--permute-{permute}", "labels.txt").stdout == f"{cv}\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["cv", "test"])
def test_studies_write_their_page(run, command):
    pytest.importorskip("jinja2")
    words = f"{command} data.npz:X --responses data.npz:Y --relative-ridges 1e-1,1 --shuffles 19 --folds 4"
    result = run(*words.split(), "--report", "page.html")
    assert (result.exit_code, result.stderr) == (0, "Saved the report to page.html\n")
    text = pathlib.Path("page.html").read_text(encoding="utf-8")
    assert "<title>Prediction of held-out conditions: data.npz:X to data.npz:Y</title>" in text
    assert "predicted better than without X" in text
    refused(run(*words.split(), "--report", "page.pdf"), "'--report' must end in .html")


TEST_WORDS = (
    "test data.npz:X --responses data.npz:Y --relative-ridges 1e-1,1 --shuffles 19 --folds 4 --seed 3"
)
TEST = TEST_WORDS.split()


def permutation(**options):
    data = load()
    return fc.permutation_test(
        data["X"], data["Y"], relative_ridges=[1e-1, 1.0], shuffles=19, folds=4, rng=3, **options
    )


def test_test_prints_what_permutation_test_finds(run):
    result = run(*TEST)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{permutation()}\n"
    plain = run(*TEST, "--no-gains", "--method", "linear", "--score", "cross-r2").stdout
    assert plain == f"{permutation(channels=False, method='linear', score='cross-r2')}\n"


def test_test_saves_p_values_and_a_table_of_channels(run):
    found = json.loads(run(*TEST, "--json", "--output", "test.npz").stdout)
    test, saved = permutation(), load("test.npz")
    assert (found["p"], found["shuffles"], found["observed"]) == (test.p, 19, test.observed)
    assert found["p_over"] == test.p_over
    assert_same(list(found["p_values"].values()), list(test.p_values.values()), "p_values")
    assert_array_equal(found["gains"]["q"], test.channels.q)
    assert_array_equal(saved["null"], test.null)
    assert_array_equal(saved["gains.p"], test.channels.p)
    assert saved["p_over"].tolist() == [test.p_over[name] for name in saved["baselines"]]
    assert run(*TEST, "--output", "test.csv").stderr == "Saved the test to test.csv\n"
    header, *rows = read_csv("test.csv")
    assert header == ["channel", "gain", "shuffled_mean", "shuffled_deviation", "p", "q"]
    assert_array_equal(np.array(rows, float)[:, 5], test.channels.q)


@pytest.mark.slow
def test_cv_plot_draws_the_study(run):
    result = run(*STUDY, "--plot", "cv.png")
    assert result.stderr == "Saved the figure to cv.png\n"
    assert pathlib.Path("cv.png").read_bytes()[:4] == PNG


def test_cv_holds_out_one_group_after_another(run):
    labels = ["a", "b", "a", "c", "b", "c", "a", "a"]
    pathlib.Path("groups.txt").write_text("\n".join(labels) + "\n\n")
    arguments = ("cv", "data.npz:X", "--responses", "data.npz:Y", "--ridges", "3 5", "--json")
    found = json.loads(run(*arguments, "--groups", "groups.txt").stdout)
    assert found["held_out"] == [[0, 2, 6, 7], [1, 4], [3, 5]]
    assert found["ridges"] == [3, 5]
    assert not found["relative"]
    data = load()
    cv = fc.cross_validate(data["X"], data["Y"], ridges=[3, 5], folds=labels)
    assert_array_equal(found["methods"]["exact"]["scores"]["r2"], cv.r2)


def test_a_study_whose_fits_stop_short_says_so_and_is_no_error(run):
    result = run(*STUDY, "--max-iterations", 1, "--tol", 1e-9, "--json")
    assert result.exit_code == 0
    assert "fits stopped short" in result.stderr
    assert "max-iterations" in np.array(json.loads(result.stdout)["methods"]["exact"]["status"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cv"], ["Missing argument 'X'"]),
        (["cv", "data.npz:X"], ["one of --responses and --target, not neither"]),
        (["test", "data.npz:X"], ["one of --responses and --target, not neither"]),
        ([*TEST, "--shuffles", "9"], ["'shuffles'", "at least 19"]),
        ([*TEST, "--no-gains", "--output", "x.csv"], ["--no-gains"]),
        ([*TEST, "--permute-within", "groups.txt"], ["--permute-within", "8 conditions", "holds 2"]),
        ([*STUDY, "--permute-within", "a", "--permute-groups", "b"], ["not both"]),
        ([*STUDY, "--folds", "leave-three-out"], ["'--folds'", "leave-two-out"]),
        ([*STUDY, "--score", "r3"], ["'--score'", "cross-pearson"]),
        ([*STUDY, "--nuisance", "all"], ["'--nuisance'", "diagonal"]),
        ([*STUDY, "--pairs", "no.npy"], ["'pairs'", "'no.npy' is missing"]),
        ([*STUDY, "--ridges", "1"], ["one of --ridges and --relative-ridges, not both"]),
        ([*STUDY, "--relative-ridges", "1,much"], ["'--relative-ridges'", "'1,much'", "0.01,0.1,1"]),
        ([*STUDY, "--relative-ridges", "1,-1"], ["'--relative-ridges'", ">= 0"]),
        ([*STUDY, "--relative-ridges", "1,nan"], ["'--relative-ridges'", ">= 0"]),
        ([*STUDY, "--relative-ridges", ","], ["'--relative-ridges'", "list of numbers"]),
        ([*STUDY, "--relative-ridges", "1,1.0"], ["'--relative-ridges'", "twice"]),
        ([*STUDY, "--folds", "1"], ["'--folds'", "x>=2"]),
        ([*STUDY, "--folds", "9"], ["'folds'", "at most the 8 conditions"]),
        ([*STUDY, "--repeats", "0"], ["'--repeats'", "x>=1"]),
        ([*STUDY, "--shuffles", "-1"], ["'--shuffles'", "x>=0"]),
        ([*STUDY, "--method", "cubic"], ["'--method'", "'cubic'"]),
        ([*STUDY, "--lower", "2", "--upper", "1"], ["--lower", "2 > 1"]),
        ([*STUDY, "--groups", "groups.txt"], ["one of --folds and --groups, not both"]),
        ([*STUDY[:4], "--groups", "groups.txt", "--repeats", "2"], ["--repeats", "--groups"]),
        ([*STUDY[:4], "--groups", "groups.txt"], ["--groups", "8 conditions", "holds 2"]),
        ([*STUDY[:4], "--groups", "data.npz"], ["--groups", "text file"]),
        ([*STUDY[:4], "--groups", "no.txt"], ["no.txt"]),
        ([*STUDY, "--output", "data.npz"], ["--output", "a file that is read"]),
        ([*STUDY, "--plot", "x.gif"], ["--plot", ".png, .pdf or .svg"]),
        (["cv", "data.npz:X", "--responses", "data.npz:S[1]"], ["'S[1]' is not one"]),
        (["path", "data.npz:X"], ["one of --responses and --target, not neither"]),
        (["path", "data.npz:X", "--target", "data.npz:S", "--ridges", "a"], ["'--ridges'", "'a'"]),
        (["path", "data.npz:X", "--target", "data.npz:S", "--upper", "nan"], ["--upper", "NaN"]),
        (["path", "data.npz:X", "--target", "data.npz:X"], ["'S' must be 8 x 8"]),
        (["path", "data.npz:X", "--target", "data.npz:S", "--output", "x.mat"], ["--output", ".npz"]),
    ],
)
def test_bad_input_to_studies_is_one_line_and_code_2(run, arguments, words):
    pathlib.Path("groups.txt").write_text("a\nb\n")
    refused(run(*arguments), *words)


def test_studies_refuse_outputs_before_anything_is_read(run, monkeypatch):
    monkeypatch.setattr(
        "fastcov._inputs.files.open_array", lambda *a, **k: pytest.fail("read before the check")
    )
    refused(run(*STUDY, "--output", "no/x.npz"), "create it")
    refused(run("path", "data.npz:X", "--target", "data.npz:S", "--plot", "no/x.png"), "create it")


# ---- path


def test_path_prints_a_table_for_each_method(run):
    arguments = ("path", "data.npz:X", "--responses", "data.npz:Y", "--method", "exact", "--method", "linear")
    result = run(*arguments)
    data = load()
    S = fc.target_covariance(data["Y"], like=data["X"])
    tables = [str(fc.ridge_path(data["X"], S, method=method)) for method in ("exact", "linear")]
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "\n\n".join(tables) + "\n"


def test_path_saves_draws_and_prints_the_same_fits(run):
    command = "path data.npz:X --target data.npz:S --ridges 9,3 --upper 1.1 --no-center --method linear"
    result = run(*command.split(), "--output", "path.npz", "--plot", "path.png", "--json")
    assert result.stderr == "Saved the path to path.npz\nSaved the figure to path.png\n"
    assert pathlib.Path("path.png").read_bytes()[:4] == PNG
    data = load()
    path = fc.ridge_path(data["X"], data["S"], ridges=[9, 3], bounds=(None, 1.1), center=False)
    found = json.loads(result.stdout)["methods"]["linear"]
    saved = load("path.npz")
    assert saved["ridges"].tolist() == [9, 3]
    assert np.isnan(saved["relative_ridges"])
    assert saved["gains"].shape == (1, 2, 40)
    for k, fit in enumerate(path):
        assert_array_equal(found[k]["gains"], fit.gains)
        assert (found[k]["ridge"], found[k]["status"]) == (fit.ridge, fit.status)
        for name in ("gains", "loss", "r2", "residual", "status"):
            assert_array_equal(saved[name][0, k], getattr(fit, name))


def test_path_fits_a_stack_of_targets_and_draws_one(run):
    S = load()["S"]
    np.save("stack.npy", np.stack([S, 2 * S]))
    arguments = ("path", "data.npz:X", "--target", "stack.npy", "--relative-ridges", "0.1,1")
    assert run(*arguments, "--output", "path.npz").exit_code == 0
    assert load("path.npz")["gains"].shape == (1, 2, 2, 40)
    refused(run(*arguments, "--plot", "x.png"), "draws one target")


# ---- demo


@pytest.mark.slow
def test_demo_compares_losses_and_draws(run):
    result = run("demo", "--channels", 60, "--conditions", 10, "--seed", 3)
    assert result.exit_code == 0
    assert result.stderr == "Saved the figure to demo.png\nSaved the figure to demo_cv.png\n"
    for name in ("demo.png", "demo_cv.png"):
        with open(name, "rb") as file:
            assert file.read(4) == PNG
    sim = fc.datasets.simulate(60, 10, rng=3, noise=0.5)
    fits = {
        method: fc.fit(sim.X, sim.S, relative_ridge=0.1, method=method)
        for method in ("diagonal", "linear", "line-search", "exact")
    }
    linear = fits["linear"]
    assert result.stdout.startswith(repr(sim))
    lines = {line[2:18].strip(): line[18:].split() for line in result.stdout.splitlines()}
    size = np.square(sim.S).sum()
    for name, gains in (
        ("all one", np.ones(60)),
        *((f"{method} fit", fit.gains) for method, fit in fits.items()),
        ("true gains", sim.gains),
    ):
        loss, ratio, r2 = map(float, lines[name])
        exact = fc.loss(sim.X, sim.S, gains, ridge=linear.ridge)
        assert loss == pytest.approx(exact, rel=1e-3)
        assert ratio == pytest.approx(exact / linear.loss_at_one, abs=1e-3)
        assert r2 == pytest.approx(1 - 2 * fc.loss(sim.X, sim.S, gains) / size, abs=1e-3)


@pytest.mark.slow
@compiled
def test_the_default_demo_shows_which_fits_help_and_that_the_diagonal_one_harms(run):
    output = run("demo").stdout
    lines = {line[2:18].strip(): line[18:].split() for line in output.splitlines()}
    diagonal, linear, line_search, exact = (
        float(lines[f"{method} fit"][1]) for method in ("diagonal", "linear", "line-search", "exact")
    )
    assert exact < line_search < linear < 0.6
    assert diagonal > 3
    sim = fc.datasets.simulate(noise=0.5)
    cv = fc.cross_validate(sim.X, sim.Y, method=["exact", "linear", "diagonal"], shuffles=19, refit=None)
    assert output.endswith(f"{cv}\n")
    exact, linear, diagonal = (cv.summary(method)[0].max() for method in cv.methods)
    assert exact > linear > diagonal
    assert cv.ridges.min() < cv.best_ridge["exact"] < cv.ridges.max()


@pytest.mark.slow
def test_demo_saves_what_it_simulates_for_the_commands_in_its_help(run):
    arguments = ("--channels", 20, "--conditions", 9, "--data", "demo.npz", "--cv-output", "other.svg")
    assert run("demo", *arguments).exit_code == 0
    assert {*os.listdir()} == {"data.npz", "demo.npz", "demo.png", "other.svg"}
    sim = fc.datasets.simulate(20, 9, noise=0.5)
    saved = load("demo.npz")
    for name in ("X", "Y", "S", "gains"):
        assert_array_equal(saved[name], getattr(sim, name))
    command = "cv demo.npz:X --responses demo.npz:Y --folds 2 --method exact --method linear --plot cv.png"
    assert run(*command.split()).exit_code == 0


@pytest.mark.slow
def test_demo_takes_as_few_conditions_as_can_be_held_out(run):
    assert run("demo", "--channels", 10, "--conditions", 4).exit_code == 0
    refused(run("demo", "--conditions", 3), "'--conditions'", "x>=4")


@pytest.mark.slow
def test_demo_without_matplotlib_prints_the_table_and_says_how_to_get_the_figure(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("demo", "--channels", 40, "--conditions", 5)
    assert result.exit_code == 0
    assert "linear fit" in result.stdout
    assert 'pip install "fastcov-gains[plot]"' in result.stderr
    assert result.stderr.count("\n") == 1
    assert os.listdir() == ["data.npz"]


def test_demo_refuses_what_cannot_be_simulated_or_saved(run):
    refused(run("demo", "--channels", 1), "'--channels'", "x>=2")
    refused(run("demo", "--seed", -1), "'--seed'")
    refused(run("demo", "--noise", -1), "'--noise'")
    refused(run("demo", "--output", "no/demo.png"), "--output", "create it")
    refused(run("demo", "--cv-output", "no/demo.png"), "--cv-output", "create it")
    refused(run("demo", "--data", "demo.csv"), "--data", ".npz")


# ---- the group


def test_help_lists_the_commands_and_nothing_else_is_needed(run):
    for arguments in ([], ["--help"], ["-h"]):
        result = run(*arguments)
        assert result.exit_code == 0
        assert all(
            f"\n  {command} " in result.stdout
            for command in ("cv", "demo", "doctor", "fit", "path", "plan", "test")
        )
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
        "for command in fastcov.cli.main.commands:\n"
        "    fastcov.cli.main([command, '--help'], standalone_mode=False)\n"
        "assert not {'numpy', 'numba', 'scipy', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@compiled
def test_module_runs_and_says_its_name():
    result = process("cook")
    assert result.returncode == 2
    assert result.stderr == "Error: No such command 'cook'. See 'fastcov --help'.\n"


@pytest.mark.slow
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


@pytest.mark.slow
@compiled
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal to send")
def test_a_real_ctrl_c_answers_with_one_line():
    code = (
        "import os, signal, fastcov._inputs.files as files, fastcov.cli\n"
        "files.open_array = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGINT)\n"
        "fastcov.cli.main(['fit', 'x.npy', '--target', 's.npy'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "Error: interrupted.\n")


@pytest.mark.slow
@compiled
def test_real_recordings_are_fitted_as_written_in_the_help(tmp_path):
    path = os.environ.get("FASTCOV_REAL_DATA")
    if not path:
        pytest.skip("FASTCOV_REAL_DATA is not set")
    os.symlink(os.path.abspath(path), tmp_path / "data.npz")
    recordings = "data.npz:glomeruli --responses data.npz:mitral"
    for command, words in (
        (f"fit {recordings} --relative-ridge 0.1 --plot fit.png", "0.6633 of the loss at gains of one"),
        (f"fit {recordings} --method exact --ridge cv --lower 0", "exact: converged"),
        (
            f"cv {recordings} --method exact --method linear --plot cv.png",
            "largest within one standard error",
        ),
        (f"path {recordings} --method exact --plot path.png", "0.6213"),
    ):
        result = process(*command.split(), cwd=tmp_path)
        assert (result.returncode, "Error" in result.stderr) == (0, False)
        assert words in result.stdout
    for name in ("fit.png", "cv.png", "path.png"):
        assert (tmp_path / name).read_bytes()[:4] == PNG


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


# ---- names


ODOURS = [f"odour {j}" for j in range(8)]
CELLS = [f"cell {i}" for i in range(40)]


def write_csv(path, values, columns=ODOURS, rows=None, corner="cell"):
    """A table of numbers with a header and, where there are `rows`, a first column of names."""
    lines = [",".join([corner] * (rows is not None) + [*map(str, columns)])]
    for i, row in enumerate(np.asarray(values).tolist()):
        lines.append(",".join(([str(rows[i])] if rows is not None else []) + [repr(value) for value in row]))
    pathlib.Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.slow
def test_names_of_tables_reach_json_files_and_figures(run, monkeypatch):
    data = load()
    write_csv("x.csv", data["X"], rows=CELLS)
    write_csv("y.csv", data["Y"])
    drawn = {}
    monkeypatch.setattr(
        fc.plot._matrices, "_name_conditions", lambda axis, names, *_: drawn.update({"names": names})
    )
    result = run(
        *[
            "fit",
            "x.csv",
            "--responses",
            "y.csv",
            "--ridge",
            "5",
            "--json",
            "--plot",
            "fit.png",
            "--output",
            "fit.npz",
        ]
    )
    assert result.stderr == "Saved the fit to fit.npz\nSaved the figure to fit.png\n"
    found = json.loads(result.stdout)
    assert (found["channel_names"], found["condition_names"]) == (CELLS, ODOURS)
    assert sorted(drawn["names"]) == ODOURS
    fit = fc.load("fit.npz")
    assert (fit.channels, fit.conditions) == (tuple(CELLS), tuple(ODOURS))
    plain = run("fit", "data.npz:X", "--responses", "data.npz:Y", "--ridge", "5", "--json")
    assert_allclose(found["gains"], json.loads(plain.stdout)["gains"], rtol=1e-12)
    assert "channel_names" not in plain.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", slow_but({"fit"}, ["fit", "cv", "path"]))
def test_conditions_of_tables_in_another_order_are_aligned_and_it_is_said_once_on_stderr(run, command):
    data, order = load(), [3, 1, 0, 2, 7, 6, 5, 4]
    write_csv("x.csv", data["X"])
    write_csv("y.csv", data["Y"][:, order], [ODOURS[j] for j in order])
    two = ["--plot", "x.png", "--method", "exact", "--method", "linear"]
    asked = {"fit": ["--plot", "x.png"], "cv": ["--folds", 2], "path": two}[command]
    result = run(command, "x.csv", "--responses", "y.csv", *asked, "--json")
    assert result.exit_code == 0, result.output
    said = "Warning: conditions of 'Y' are in another order than those of 'X': aligned by name.\n"
    assert result.stderr.startswith(said)
    assert result.stderr.count("aligned") == 1
    plain = run(command, "data.npz:X", "--responses", "data.npz:Y", *asked, "--json")
    found, wanted = (
        re.sub(r'"(seconds|condition_names)": (\[.*?\]|[^,]*)', "", text)
        for text in (result.stdout, plain.stdout)
    )
    numbers = [np.array(re.findall(r"-?\d+\.\d+(?:e[-+]\d+)?", text), float) for text in (found, wanted)]
    assert_allclose(*numbers, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_a_target_in_a_table_is_aligned(run):
    data, order = load(), [3, 1, 0, 2, 7, 6, 5, 4]
    S = (data["S"] + data["S"].T) / 2
    names = [ODOURS[j] for j in order]
    write_csv("x.csv", data["X"])
    write_csv("s.csv", S[np.ix_(order, order)], names, rows=names)
    result = run("fit", "x.csv", "--target", "s.csv", "--ridge", "5", "--json", "--plot", "x.png")
    assert result.stderr.count("aligned by name") == 1
    assert_allclose(json.loads(result.stdout)["gains"], fc.fit(data["X"], S, ridge=5).gains, rtol=1e-9)


@pytest.mark.parametrize("kind", ["txt", "npz", "npz-key", "npy", "h5", "h5-key", "csv-list"])
def test_names_come_from_files_of_every_kind(run, kind):
    odours = [f"odeur β {j}" for j in range(8)]
    numbers = np.arange(100, 140)
    if kind == "txt":
        pathlib.Path("o.txt").write_text("\ufeff" + "\n".join(odours) + "\n\n", encoding="utf-8")
        pathlib.Path("c.txt").write_text("\r\n".join(CELLS), encoding="utf-8")
        files, cells = ("c.txt", "o.txt"), CELLS
    elif kind == "csv-list":
        pathlib.Path("o.names").write_text("\n".join(odours), encoding="utf-8")
        files, cells = (None, "o.names"), None
    elif kind == "npy":
        np.save("o.npy", odours)
        np.save("c.npy", numbers)
        files, cells = ("c.npy", "o.npy"), numbers.tolist()
    elif kind.startswith("npz"):
        np.savez("n.npz", odours=np.char.encode(odours, "utf-8"), numbers=numbers, matrix=np.eye(3))
        files = ("n.npz", "n.npz") if kind == "npz" else ("n.npz:numbers", "n.npz:odours")
        cells = numbers.tolist()
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File("n.h5", "w") as file:
            file["group/odours"], file["numbers"], file["X"] = odours, numbers, np.eye(3)
        files = ("n.h5", "n.h5") if kind == "h5" else ("n.h5:numbers", "n.h5:group/odours")
        cells = numbers.tolist()
    options = [word for name, file in zip(("--channels", "--conditions"), files, strict=True) if file
               for word in (name, file)]  # fmt: skip
    for words, output in (
        ("fit", "out.npz"),
        ("fit", "out.h5"),
        ("path", "path.npz"),
        ("cv --folds 4", "cv.h5"),
    ):
        command, *folds = words.split()
        asked = [*folds, *options, "--output", output]
        result = run(command, "data.npz:X", "--responses", "data.npz:Y", *asked)
        assert result.exit_code == 0, result.output
    for output in ("out.npz", "out.h5"):
        fit = fc.load(output)
        assert fit.conditions == tuple(odours)
        assert fit.channels == (None if cells is None else tuple(cells))
        assert fit.stats["source"]["conditions"] == files[1]
    assert load("path.npz")["condition_names"].tolist() == odours


@pytest.mark.slow
def test_a_report_takes_names_and_does_not_write_over_their_file(run):
    pytest.importorskip("jinja2")
    pathlib.Path("o.txt").write_text("\n".join(ODOURS))
    command = ["report", "data.npz:X", "--responses", "data.npz:Y", "--conditions", "o.txt"]
    assert run(*command).stderr == "Saved the report to report.html\n"
    pathlib.Path("o.html").write_text("\n".join(ODOURS))
    refused(run(*command[:-1], "o.html", "--output", "o.html"), "must not be a file that is read")


def test_names_from_files_are_aligned_with_those_of_a_table(run):
    data = load()
    pathlib.Path("o.txt").write_text("\n".join(ODOURS))
    write_csv("y.csv", data["Y"][:, ::-1], ODOURS[::-1])
    result = run(
        *["fit", "data.npz:X", "--conditions", "o.txt", "--responses", "y.csv", "--ridge", "5", "--json"]
    )
    assert "aligned by name" in result.stderr
    wanted = run("fit", "data.npz:X", "--responses", "data.npz:Y", "--ridge", "5", "--json")
    assert_allclose(*(json.loads(each.stdout)["gains"] for each in (result, wanted)), rtol=1e-9)


def test_a_first_column_of_numbers_is_names_where_it_is_said(run):
    data, ids = load(), np.arange(1000, 1040)
    write_csv("x.csv", data["X"], rows=ids, corner="id")
    write_csv("y.csv", data["Y"], rows=range(40), corner="id")
    refused(
        run("fit", "x.csv", "--responses", "data.npz:Y"),
        "'Y' must have the 9 conditions",
        "is one of them conditions x channels? Or, if the first column of X is names, give --id-column x.",
    )
    wanted = run("fit", "data.npz:X", "--responses", "data.npz:Y", "--ridge", "5", "--json")
    for y, option in (
        ("y.csv", ["--id-column"]),
        ("y.csv", ["--id-column", "both"]),
        ("data.npz:Y", ["--id-column=both"]),
        ("data.npz:Y", ["--id-column", "x"]),
    ):
        result = run("fit", "x.csv", "--responses", y, *option, "--ridge", "5", "--json")
        found = json.loads(result.stdout)
        assert found["channel_names"] == [str(i) for i in ids]
        assert_allclose(found["gains"], json.loads(wanted.stdout)["gains"], rtol=1e-12)
    pathlib.Path("one.csv").write_text("1.5\n2.5\n")
    refused(
        run("fit", "one.csv", "--responses", "data.npz:Y", "--id-column"),
        "columns of numbers",
        "--id-column",
    )


def test_ids_in_one_of_two_tables_are_names_where_it_is_said(run):
    data, ids = load(), np.arange(1000, 1040)
    write_csv("x.csv", data["X"], columns=ODOURS)
    write_csv("y.csv", data["Y"], rows=ids[: len(data["Y"])], corner="id", columns=ODOURS)
    for command in ("fit", "cv", "path", "report"):
        refused(
            run(command, "x.csv", "--responses", "y.csv"),
            "'Y' must have the 8 conditions of X in its columns, not 9",
            "give --id-column y.",
        )
    refused(
        run("fit", "x.csv", "--responses", "y.csv", "--id-column", "x"), "'X' must name each channel once"
    )
    lost = run("fit", "y.csv", "--responses", "x.csv", "--id-column", "both")
    refused(lost, "not 7", "if the first column of Y is numbers, give --id-column x.")
    found = run("fit", "x.csv", "--responses", "y.csv", "--id-column", "y", "--ridge", "5", "--json")
    wanted = run("fit", "data.npz:X", "--responses", "data.npz:Y", "--ridge", "5", "--json")
    assert_allclose(*(json.loads(each.stdout)["gains"] for each in (found, wanted)), rtol=1e-12)
    refused(run("fit", "x.csv", "--responses", "y.csv", "--id-column", "z"), "'z' is not one of")
    same = run("fit", "y.csv", "--responses", "data.npz:Y", "--ridge", "5", "--id-column", "x")
    assert same.exit_code == 0, same.stderr


@pytest.mark.parametrize("column", ["repeats", "fractions", "negative", "no table", "wider"])
def test_a_first_column_that_is_no_id_is_not_suspected(run, column):
    X = load()["X"][:, :7]
    first = {"repeats": np.arange(len(X)) // 2, "fractions": np.arange(len(X)) + 0.5,
             "negative": -np.arange(len(X))}.get(column, np.arange(len(X)))  # fmt: skip
    wide = np.column_stack([first] * (3 if column == "wider" else 2) + [X])
    np.savetxt("x.csv", wide, delimiter=",")
    np.save("x.npy", wide)
    result = run("fit", "x.npy" if column == "no table" else "x.csv", "--responses", "data.npz:Y")
    refused(result, "'Y' must have the", "is one of them conditions x channels?")
    assert "--id-column" not in result.stderr
    np.savetxt("x.csv", np.column_stack([np.arange(len(X)), load()["X"]]), delimiter=",")
    refused(run("fit", "x.csv", "--responses", "data.npz:Y"), "give --id-column x.")


def test_numbers_of_conditions_in_tables_are_aligned(run):
    data, order = load(), [3, 0, 7, 1, 6, 2, 5, 4]
    write_csv("x.csv", data["X"], rows=range(40), columns=range(8), corner="")
    write_csv("y.csv", data["Y"][:, order], rows=range(len(data["Y"])), columns=order, corner="")
    found = run("fit", "x.csv", "--responses", "y.csv", "--ridge", "5", "--json")
    assert "aligned by name" in found.stderr
    wanted = run("fit", "data.npz:X", "--responses", "data.npz:Y", "--ridge", "5", "--json")
    assert_allclose(*(json.loads(each.stdout)["gains"] for each in (found, wanted)), rtol=1e-12)
    assert "condition_names" not in json.loads(found.stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            "--conditions short.txt",
            ["'--conditions' must hold a name for each of the 8 conditions", "holds 2"],
        ),
        ("--channels short.txt", ["'--channels' must hold a name for each of the 40 channels", "holds 2"]),
        (
            "--conditions twice.txt",
            ["'--conditions' must name each condition once, not 'a', 'c' more than once"],
        ),
        ("--conditions no.txt", ["no.txt"]),
        ("--conditions latin.txt", ["'--conditions' must be a text file", "a name a line"]),
        ("--conditions data.npz", ["'--conditions' must name an array of 'data.npz'", "none was given"]),
        (
            "--conditions data.npz:X",
            ["'--conditions' must hold a vector of texts or whole numbers", "(40, 8)"],
        ),
        ("--conditions no.npy", ["'--conditions'", "is missing"]),
        ("--conditions objects.npy", ["'--conditions'", "not unpickled"]),
        ("--output short.txt", ["--output", "must end in .npz, .csv, .h5 or .hdf5"]),
        ("--conditions o.txt --output o.txt", ["must end in"]),
    ],
)
def test_bad_names_are_one_line_and_code_2(run, arguments, words):
    pathlib.Path("short.txt").write_text("a\nb\n")
    pathlib.Path("twice.txt").write_text("a\nb\nc\na\nc\nd\ne\nf\n")
    pathlib.Path("latin.txt").write_bytes("é\n".encode("latin-1") * 8)
    np.save("objects.npy", np.array(["a", 1], dtype=object), allow_pickle=True)
    refused(run("fit", "data.npz:X", "--responses", "data.npz:Y", *arguments.split()), *words)


def test_tables_whose_conditions_do_not_match_say_which(run):
    data = load()
    write_csv("x.csv", data["X"])
    write_csv("y.csv", data["Y"], [*ODOURS[:7], "other"])
    write_csv("z.csv", data["Y"], [*ODOURS[:7], ODOURS[0]])
    for command in ("fit", "cv", "path"):
        refused(
            run(command, "x.csv", "--responses", "y.csv"),
            "'Y' must have the conditions of 'X', not be without 'odour 7' and with 'other'",
        )
    refused(run("fit", "x.csv", "--responses", "z.csv"), "'Y' must name each condition once, not 'odour 0'")


# ---- files of results


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_output_is_a_fit_that_says_where_it_comes_from(run, suffix):
    command = "fit data.npz:X --responses data.npz:Y --method exact --relative-ridge 0.1 --lower 0 --seed 3"
    result = run(*command.split(), "--output", f"out.{suffix}")
    assert result.stderr == f"Saved the fit to out.{suffix}\n"
    fit, data = fc.load(f"out.{suffix}"), load()
    wanted = fc.fit(
        data["X"], responses=data["Y"], relative_ridge=0.1, method="exact", bounds=(0, None), rng=3
    )
    assert_array_equal(fit.gains, wanted.gains)
    assert f"{fit}\n" == result.stdout
    assert fit.stats["source"] == {
        "X": "data.npz:X", "responses": "data.npz:Y", "bounds": (0.0, None), "seed": 3, "n_starts": 1,
    }  # fmt: skip
    assert fit.apply(data["X"], responses=data["Y"]).r2 == pytest.approx(fit.r2, rel=1e-9)


def texts_of(frame):
    """Header and cells of a frame, with all digits of each number."""
    return [list(frame), *([str(cell) for cell in row] for row in frame.to_numpy(dtype=object).tolist())]


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_output_is_a_table_of_the_gains(run):
    pytest.importorskip("pandas")
    data = load()
    write_csv("x.csv", data["X"], rows=CELLS)
    command = ["fit", "x.csv", "--target", "data.npz:S", "--ridge", 5]
    run(*command, "--output", "fit.npz")
    assert run(*command, "--output", "fit.csv").stderr == "Saved the fit to fit.csv\n"
    fit = fc.load("fit.npz")
    assert read_csv("fit.csv") == texts_of(fit.to_frame().reset_index())
    np.save("stack.npy", np.stack([data["S"], 2 * data["S"]]))
    command[1:4] = ["data.npz:X", "--target", "stack.npy"]
    run(*command, "--output", "fit.npz")
    run(*command, "--output", "fit.csv")
    header, *rows = read_csv("fit.csv")
    assert header == ["channel", "gain_0", "delta_0", "gain_1", "delta_1"]
    found, fit = np.array(rows, float), fc.load("fit.npz")
    assert_array_equal(found.T, [np.arange(40), fit.gains[0], fit.delta[0], fit.gains[1], fit.delta[1]])


def test_studies_and_paths_are_tables(run):
    pd = pytest.importorskip("pandas")
    assert run(*STUDY, "--output", "cv.csv").stderr == "Saved the scores to cv.csv\n"
    assert read_csv("cv.csv") == texts_of(study(load()).to_frame())
    command = "path data.npz:X --target data.npz:S --ridges 9,3 --method exact --method linear --output p.csv"
    assert run(*command.split()).exit_code == 0
    data = load()
    paths = [fc.ridge_path(data["X"], data["S"], ridges=[9, 3], method=name) for name in ("exact", "linear")]
    assert read_csv("p.csv") == texts_of(pd.concat([path.to_frame() for path in paths], ignore_index=True))


def test_studies_and_paths_are_arrays_of_hdf5(run):
    h5py = pytest.importorskip("h5py")
    assert run(*STUDY, "--output", "cv.h5").exit_code == 0
    cv = study(load())
    with h5py.File("cv.h5") as file:
        assert_array_equal(file["r2"][0], cv.r2["exact"])
        assert_array_equal(file["cross_pearson"][0], cv.scores["exact"].by_fold("cross-pearson"))
        assert file["methods"].asstr()[:].tolist() == ["exact", "linear"]
        assert file["status"].asstr()[:].tolist() == [s.status.tolist() for s in cv.scores.values()]
    command = "path data.npz:X --target data.npz:S --ridges 9,3 --output path.h5"
    assert run(*command.split()).exit_code == 0
    with h5py.File("path.h5") as file:
        assert file["gains"].shape == (1, 2, 40)
        assert np.isnan(file["relative_ridges"][()])
    with pytest.raises(ValueError, match=r"must be a file that save of a result"):
        fc.load("path.h5")


def test_hdf5_without_its_library_is_refused_before_anything_is_read(run, monkeypatch):
    monkeypatch.setattr(
        "fastcov._inputs.files.open_array", lambda *a, **k: pytest.fail("read before the check")
    )
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(run("fit", "data.npz:X", "--target", "data.npz:S", "--output", "x.h5"), "fastcov-gains[h5]")
