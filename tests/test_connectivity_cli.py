"""The command line with methods that fit a connectivity, and files of these."""

import csv
import dataclasses
import json
import pathlib
import pickle

import numpy as np
import pytest
from click.testing import CliRunner
from test_connectivity_shown import formed
from test_saved import refused as refused_file
from test_saved import same

import fastcov as fc
from fastcov import cli
from fastcov._inputs.labels import Labelled
from fastcov.cli import _files
from fastcov.report import _sections

METHODS = ("free", "free-linear", "symmetric", "psd")
SIM = fc.datasets.simulate(30, 10, rng=0)
QUICK = ("--relative-ridges", "0.1,1", "--folds", "4")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty folder with data.npz (X, Y, S) and return click's result."""
    monkeypatch.chdir(tmp_path)
    # Figures of few dots, and pages without any, as most of the time is theirs.
    monkeypatch.setattr(_files, "DPI", 30)
    monkeypatch.setattr(_sections.Picture, "_source", lambda *_: "data:image/png;base64,")
    np.savez("data.npz", X=SIM.X, Y=SIM.Y, S=SIM.S)

    def call(command, *arguments, y="--responses"):
        of = (
            ("data.npz:Y",)
            if command == "study"
            else (y, "data.npz:Y" if y == "--responses" else "data.npz:S")
        )
        return CliRunner().invoke(
            cli.main, [command, "data.npz:X", *of, *map(str, arguments)], prog_name="fastcov"
        )

    return call


def fine(result):
    assert result.exit_code == 0, result.output
    return result


def refused(result, *words):
    """Assert one line on stderr with `words`, nothing on stdout, and exit code 2."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr, result.stderr


@pytest.mark.parametrize("method", METHODS)
def test_fit_prints_saves_and_tabulates_a_connectivity(run, method):
    expected = fc.fit(SIM.X, responses=SIM.Y, relative_ridge=0.2, method=method)
    W = formed(expected)
    given = ("--method", method, "--relative-ridge", 0.2)
    assert repr(expected) == fine(run("fit", *given, "--output", "free.npz")).stdout.rstrip()
    loaded = fc.load("free.npz")
    np.testing.assert_array_equal(loaded.phi, expected.phi)
    record = json.loads(fine(run("fit", *given, "--output", "free.csv", "--json")).stdout)
    assert record["method"] == method
    assert "gains" not in record
    np.testing.assert_allclose(record["norm"], np.linalg.norm(W), rtol=1e-8)
    values = np.linalg.svd(W, compute_uv=False)[: len(record["singular_values"])]
    np.testing.assert_allclose(record["singular_values"], values, atol=1e-8)
    np.testing.assert_allclose(record["degrees_of_freedom"], expected.degrees_of_freedom)
    with open("free.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["channel"] for row in rows] == [str(i) for i in range(30)]
    for name, wanted in (
        ("diagonal", np.diagonal(W)),
        ("row_norm", np.linalg.norm(W, axis=1)),
        ("column_norm", np.linalg.norm(W, axis=0)),
    ):
        np.testing.assert_allclose([float(row[name]) for row in rows], wanted, atol=1e-8)
        np.testing.assert_allclose(record[name], wanted, atol=1e-8)


def test_fit_of_several_targets_and_of_a_file_larger_than_what_is_kept(run, monkeypatch):
    monkeypatch.setattr("fastcov._results.kept.KEPT_BYTES", 0)
    np.save("X.npy", SIM.X)
    np.save("S.npy", np.stack([SIM.S, 2 * SIM.S]))
    result = CliRunner().invoke(
        cli.main, ["fit", "X.npy", "--target", "S.npy", "--method", "free", "--output", "two.csv"]
    )
    fine(result)
    found = fc.fit(SIM.X, np.stack([SIM.S, 2 * SIM.S]), relative_ridge=0.1, method="free")
    with open("two.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for t in range(2):
        W = formed_of(found.select(t))
        np.testing.assert_allclose([float(r[f"diagonal_{t}"]) for r in rows], np.diagonal(W), atol=1e-8)


def formed_of(found):
    operator = found.operator(SIM.X)
    return operator.left @ operator.right.T


def test_fit_and_report_draw_and_describe_a_connectivity(run):
    fine(run("fit", "--method", "free", "--ridge", "cv", "--plot", "free.png"))
    assert pathlib.Path("free.png").read_bytes()[:4] == b"\x89PNG"
    fine(run("report", "--method", "free", "--output", "free.html"))
    page = pathlib.Path("free.html").read_text(encoding="utf-8")
    assert "Connectivity from data.npz:X to data.npz:Y" in page
    assert "The first 3 modes of W over conditions" in page
    fine(run("report", "--method", "psd", "--ridge", "cv", "--output", "cv.html"))
    assert "Does the connectivity predict?" in pathlib.Path("cv.html").read_text(encoding="utf-8")


def test_paths_have_singular_values_in_place_of_gains(run):
    both = ("--method", "free", "--method", "psd", "--relative-ridges", "0.1,1")
    result = fine(run("path", *both, "--output", "path.npz", "--plot", "path.png", "--json"))
    fits = json.loads(result.stdout)["methods"]
    assert list(fits) == ["free", "psd"]
    with np.load("path.npz") as file:
        assert "gains" not in file
        for k, method in enumerate(fits):
            for j, ridge in enumerate((0.1, 1)):
                found = fc.fit(SIM.X, responses=SIM.Y, relative_ridge=ridge, method=method)
                values = np.linalg.svd(formed(found), compute_uv=False)
                np.testing.assert_allclose(
                    file["singular_values"][k, j], values[: file["singular_values"].shape[-1]], atol=1e-6
                )
    mixed = ("--method", "free", "--method", "linear", "--relative-ridges", "0.1,1")
    for option in ("--output", "path.npz"), ("--plot", "path.png"):
        refused(run("path", *mixed, *option), "are of gains or of connectivities", "--method")
    fine(run("path", *mixed, "--output", "path.csv"))
    with open("path.csv", newline="", encoding="utf-8") as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["free"] * 2 + ["linear"] * 2


def test_scores_of_gains_and_connectivities_stand_side_by_side(run):
    both = ("--method", "free", "--method", "exact", *QUICK)
    result = fine(run("cv", *both, "--output", "cv.npz", "--json", "--report", "cv.html", "--plot", "cv.png"))
    record = json.loads(result.stdout)["methods"]
    assert "gains" in record["exact"]["fit"]
    assert "gains" not in record["free"]["fit"]
    assert record["free"]["fit"]["norm"] > 0
    with np.load("cv.npz") as file:
        assert file["fit_methods"].tolist() == ["free", "exact"]
        assert np.isnan(file["gains"][0]).all()  # a row for each method
        np.testing.assert_allclose(file["gains"][1], record["exact"]["fit"]["gains"])
    fine(run("cv", "--method", "psd", *QUICK, "--output", "psd.npz"))
    with np.load("psd.npz") as file:
        assert "gains" not in file


def test_tests_and_studies(run):
    given = ("--method", "free", "--shuffles", 19, *QUICK)
    result = fine(run("test", *given, "--output", "test.npz", "--report", "test.html"))
    assert "over W = 0" in result.stdout
    assert json.loads(fine(run("test", *given, "--json")).stdout)["gains"] is None
    result = fine(run("study", *given, "--output", "s.npz", "--plot", "s.png", "--report", "s.html"))
    assert "The connectivity predicts" in result.stdout
    assert "Does a connectivity predict: data.npz:X to" in pathlib.Path("s.html").read_text(encoding="utf-8")
    assert type(fc.load("s.npz").fit) is fc.Connectivity


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("command", "option"),
    [
        *(("fit", option) for option in (("--lower", 0), ("--upper", 2), ("--rank", 3), ("--solver", "pcg"))),
        *((command, ("--lower", 0)) for command in ("report", "path", "cv", "test", "study")),
        *((command, ("--solver", "dual")) for command in ("report", "path", "cv", "test", "study")),
        ("report", ("--channel", 3)),
        ("study", ("--table", "table.csv")),
        ("study", ("--n-boot", 20)),
    ],
)
def test_options_that_only_gains_have_are_refused_at_once(run, command, option, method):
    refused(run(command, "--method", method, *option), option[0], "is for gains", f"--method {method}")


def test_other_options_of_gains_are_refused(run):
    refused(run("fit", "--method", "free", "--n-starts", 3), "--n-starts is for --method exact, not for free")
    refused(run("test", "--method", "free", "--output", "t.csv"), "--output as a table is of the channels")
    refused(run("study", "--method", "free", "--n-starts", 3), "n_starts")


# ---- files


def fits():
    channels, odours = [f"glomerulus {i}" for i in range(30)], ["pinene", "β-citral", 3, "", 'q"', *"abcde"]
    named = Labelled(SIM.X, channels, odours)
    yield "named", fc.fit(named, responses=SIM.Y, relative_ridge=0.1, method="free")
    yield "chosen", fc.fit(named, responses=SIM.Y, ridge="cv", method="free")
    stack = np.stack([SIM.S, 2 * SIM.S, 0 * SIM.S])
    yield "stack", fc.fit(SIM.X, stack, ridge=3.0, method="symmetric")
    yield "apart", fc.fit(SIM.X, SIM.S, ridge=3.0, method="psd", center=False)
    terms = {"nuisance": ("diagonal", "constant"), "pairs": "off-diagonal"}
    yield "terms", fc.fit(SIM.X.astype(np.float32), SIM.S, ridge=3.0, method="free-linear", **terms)


FITS = dict(fits())


@pytest.mark.parametrize("suffix", ["npz", "h5"])
@pytest.mark.parametrize("name", FITS)
def test_a_connectivity_comes_back_bit_by_bit(tmp_path, suffix, name):
    pytest.importorskip("h5py")
    found = FITS[name]
    found.save(tmp_path / f"found.{suffix}")
    loaded = fc.load(tmp_path / f"found.{suffix}")
    same(found, loaded)
    assert repr(loaded) == repr(found)
    assert loaded._repr_html_() == found._repr_html_()
    unpickled = pickle.loads(pickle.dumps(found))
    same(found, unpickled)
    with pytest.raises(ValueError, match=r"Argument 'X' must be the responses that were fitted, not None"):
        unpickled.to_frame()


def test_a_file_is_read_without_fastcov(tmp_path):
    found = FITS["named"]
    found.save(tmp_path / "found.npz")
    with np.load(tmp_path / "found.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["phi"], found.phi)
        np.testing.assert_array_equal(file["covariance"], found.covariance())
        assert file["method"] == "free"
        assert file["relative_ridge"] == 0.1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("phi", np.zeros((10, 10))),
        ("_mean", np.zeros(9)),
        ("_target", np.zeros((9, 9))),
        ("_covariance_at_one", np.zeros((3, 10, 10))),
        ("loss", np.zeros(2)),
        ("channels", ("a", "b")),
        ("conditions", ("a",)),
    ],
)
def test_a_file_whose_shapes_disagree_is_refused(tmp_path, field, value):
    dataclasses.replace(FITS["named"], **{field: value}).save(tmp_path / "found.npz")
    refused_file(tmp_path / "found.npz", "the shape of")


def test_a_damaged_file_is_refused(tmp_path):
    FITS["named"].save(tmp_path / "found.npz")
    with np.load(tmp_path / "found.npz") as file:
        entries = dict(file)
    entries["phi"] = entries["phi"] + 1.0
    np.savez(tmp_path / "found.npz", **entries)
    refused_file(tmp_path / "found.npz", "checksum")
    data = (tmp_path / "found.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    refused_file(tmp_path / "cut.npz")


def test_a_path_of_gains_and_connectivities_is_refused(tmp_path):
    path = fc.ridge_path(SIM.X, SIM.S, relative_ridges=[0.1, 1], method="free")
    path.save(tmp_path / "path.npz")
    same(tuple(path), tuple(fc.load(tmp_path / "path.npz")))
    gains = fc.fit(SIM.X, SIM.S, relative_ridge=0.1)
    dataclasses.replace(path, fits=(path[0], gains)).save(tmp_path / "both.npz")
    refused_file(tmp_path / "both.npz", "it is not of fits")


def test_xarray_has_all_but_what_is_n_by_n():
    pytest.importorskip("xarray")
    for name in ("named", "stack"):
        found = FITS[name]
        each = [found] if found.phi.ndim == 2 else [found.select(k) for k in range(3)]
        dataset = found.to_xarray()
        W = np.stack([formed_of(one) for one in each]).reshape(*found.phi.shape[:-2], 30, 30)
        np.testing.assert_allclose(dataset["diagonal"], np.diagonal(W, axis1=-2, axis2=-1), atol=1e-9)
        np.testing.assert_allclose(dataset["row_norm"], np.linalg.norm(W, axis=-1), atol=1e-9)
        np.testing.assert_allclose(dataset["column_norm"], np.linalg.norm(W, axis=-2), atol=1e-9)
        np.testing.assert_allclose(dataset["norm"], np.linalg.norm(W, axis=(-2, -1)), atol=1e-9)
        np.testing.assert_array_equal(dataset["covariance"], found.covariance())
        np.testing.assert_array_equal(dataset["r2"], found.r2)
        assert dataset.sizes["channel"] == 30
        assert dataset.attrs == {"method": found.method, "status": found.status, "center": 1}
        frame = found.to_frame()
        np.testing.assert_array_equal(frame["diagonal"], dataset["diagonal"].values.ravel())
    assert dataset.sizes["target"] == 3
    assert FITS["named"].to_xarray()["diagonal"].coords["channel"].values[1] == "glomerulus 1"
