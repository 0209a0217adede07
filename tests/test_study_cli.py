"""fastcov study: the same as fc.study, in files and on stdout, and one line for bad input."""

import json

import numpy as np
import pytest
from cases import data
from click.testing import CliRunner
from test_cli import refused

import fastcov as fc
from fastcov import cli

pd = pytest.importorskip("pandas")

N, M, D = 20, 16, 10
FAST = ("--shuffles", 0, "--no-nested", "--relative-ridges", "0.1,1", "--folds", 3)
OPTIONS = {"shuffles": 0, "nested": False, "relative_ridges": [0.1, 1.0], "folds": 3}
ODOURS = [f"odour {d}" for d in range(D)]


def tables():
    names, cells = [f"g{i}" for i in range(N)], [f"m{i}" for i in range(M)]
    X, Y = pd.DataFrame(data(N, D), names, ODOURS), pd.DataFrame(data(M, D, seed=9), cells, ODOURS)
    return X, Y, Y.iloc[::2] * 2.0


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run `fastcov study` in a folder with tables of glomeruli, mitral and tufted cells, and their groups."""
    monkeypatch.chdir(tmp_path)
    for name, table in zip(("glomeruli", "mitral", "tufted"), tables(), strict=True):
        table.to_csv(f"{name}.csv")
    animals = ["left", "right"] * (N // 2)
    pd.DataFrame({"id": range(N), "animal": animals}).to_csv("meta.csv", index=False)
    (tmp_path / "animals.txt").write_text("\n".join(animals), encoding="utf-8")
    (tmp_path / "cells.txt").write_text("\n".join(["right", "left"] * (M // 2)), encoding="utf-8")

    def call(*arguments):
        return CliRunner().invoke(cli.main, ["study", *map(str, arguments)], prog_name="fastcov")

    return call


def test_it_prints_the_study(run):
    result = run("glomeruli.csv", "mitral.csv", *FAST)
    assert result.exit_code == 0, result.output
    X, Y, _ = tables()
    assert result.stdout == f"{fc.study(X, Y, **OPTIONS)}\n"
    assert "What not to conclude" in result.stdout
    assert result.stderr == ""


def test_everything_is_written(run, tmp_path):
    pytest.importorskip("matplotlib")
    result = run(
        "glomeruli.csv", "mitral.csv", *FAST, "--groups-x", "meta.csv:animal", "--output", "s.npz", "--table",
        "t.csv", "--plot", "s.png", "--json", "--by", "conditions", "--fdr", 0.3, "--level", 0.9,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    X, Y, _ = tables()
    found = fc.study(
        X, Y, groups=["left", "right"] * (N // 2), by="conditions", fdr=0.3, level=0.9, **OPTIONS
    )
    record, saved = json.loads(result.stdout), fc.load("s.npz")
    assert record["populations"]["Y"]["table"] == json.loads(found.to_json())["populations"]["Y"]["table"]
    assert saved.verdict == found.verdict
    table = pd.read_csv("t.csv")
    assert table["channel"].tolist() == list(found.channels.names)
    np.testing.assert_array_equal(table["gain"], found.channels.gain)
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert result.stderr.count("Saved") == 3


def test_several_files_are_populations_with_the_names_of_their_files(run):
    result = run(
        "glomeruli.csv", "mitral.csv", "tufted.csv", *FAST, "--table", "t.tsv", "--groups-x", "animals.txt",
        "--groups-y", "cells.txt", "--groups-y", "cells8.txt",
    )  # fmt: skip
    refused(result, "cells8.txt")
    with open("cells8.txt", "w", encoding="utf-8") as file:
        file.write("\n".join(["right"] * 4 + ["left"] * 4))
    result = run(
        "glomeruli.csv", "mitral.csv", "tufted.csv", *FAST, "--table", "t.tsv", "--groups-x", "animals.txt",
        "--groups-y", "cells.txt", "--groups-y", "cells8.txt",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    X, Y, other = tables()
    cells = {"mitral": ["right", "left"] * (M // 2), "tufted": ["right"] * 4 + ["left"] * 4}
    found = fc.study(
        X, {"mitral": Y, "tufted": other}, groups=(["left", "right"] * (N // 2), cells), **OPTIONS
    )
    assert result.stdout == f"{found}\n"
    table = pd.read_csv("t.tsv", sep="\t")
    assert table["population"].value_counts().to_dict() == {"mitral": N, "tufted": N}
    assert table["channel"].tolist() == [*found["mitral"].channels.names, *found["tufted"].channels.names]
    np.testing.assert_array_equal(table["se"][N:], found["tufted"].channels.se)


def test_arrays_of_one_file_are_populations_by_their_names(run):
    X, Y, other = (table.to_numpy() for table in tables())
    np.savez("data.npz", X=X, a=Y, b=other, animal=np.array(["left", "right"] * (N // 2)))
    result = run("data.npz:X", "data.npz:a", "data.npz:b", *FAST, "--groups-x", "data.npz:animal")
    assert result.exit_code == 0, result.output
    found = fc.study(X, {"a": Y, "b": other}, groups=["left", "right"] * (N // 2), **OPTIONS)
    assert result.stdout == f"{found}\n"


def test_shuffles_permute_what_they_may(run, tmp_path):
    labels = ["food", "fear"] * (D // 2)
    (tmp_path / "classes.txt").write_text("\n".join(labels), encoding="utf-8")
    options = (*FAST, "--shuffles", 19, "--permute-within", "classes.txt", "--seed", 3)
    result = run("glomeruli.csv", "mitral.csv", *options)
    X, Y, _ = tables()
    found = fc.study(X, Y, **{**OPTIONS, "shuffles": 19}, permute="within", condition_groups=labels, rng=3)
    assert result.stdout == f"{found}\n"


@pytest.mark.slow
def test_the_page_is_named_for_the_files(run, tmp_path):
    pytest.importorskip("jinja2")
    result = run("glomeruli.csv", "mitral.csv", *FAST, "--report", "s.html")
    assert result.exit_code == 0, result.output
    assert "Which gains change: glomeruli.csv to mitral.csv" in (tmp_path / "s.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("glomeruli.csv",), ("Y...",)),
        (("glomeruli.csv", "mitral.csv", "mitral.csv"), ("two are called 'mitral'",)),
        (("glomeruli.csv", "mitral.csv", "--groups-y", "cells.txt"), ("--groups-y needs --groups-x",)),
        (("glomeruli.csv", "mitral.csv", "--groups-x", "animals.txt", "--groups-y", "a", "--groups-y", "b"),
         ("one --groups-y for each Y, 1, not 2",)),
        (("glomeruli.csv", "mitral.csv", "--groups-x", "meta.csv:mouse"), ("--groups-x", "'mouse'")),
        (("glomeruli.csv", "mitral.csv", "--groups-x", "cells.txt"), ("--groups-x", str(N), str(M))),
        (("glomeruli.csv", "mitral.csv", "--shuffles", 3), ("'shuffles' must be at least 19",)),
        (("glomeruli.csv", "mitral.csv", "--output", "s.csv"), ("--output", ".npz")),
        (("glomeruli.csv", "mitral.csv", "--table", "t.npz"), ("--table", ".csv")),
        (("glomeruli.csv", "mitral.csv", "--table", "meta.csv", "--groups-x", "meta.csv:animal"),
         ("--table", "must not be a file that is read")),
        (("glomeruli.csv", "no.csv"), ("no.csv",)),
        (("glomeruli.csv", "mitral.csv", "--groups-x", "no.txt"),
         ("Argument '--groups-x' must be a file, and 'no.txt' is missing",)),
        (("glomeruli.csv", "mitral.csv", "--groups-x", "no.csv:animal"),
         ("Argument '--groups-x' must be a file, and 'no.csv' is missing",)),
        (("glomeruli.csv", "mitral.csv", "--trials", "no.txt"), ("'--trials' must be a file, and 'no.txt'",)),
        (("glomeruli.csv", "mitral.csv", "--trials", "cells.txt"), ("--trials", str(D), str(M))),
        (("glomeruli.csv", "mitral.csv", "--trials", "meta.csv", "--table", "meta.csv"),
         ("--table", "must not be a file that is read")),
        (("glomeruli.csv", "mitral.csv", "--n-starts", 2, "--method", "linear"), ("must be 'exact'",)),
        (("glomeruli.csv", "mitral.csv", "--permute-within", "a", "--permute-groups", "b"), ("not both",)),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(run, arguments, words):
    refused(run(*arguments), *words)


def test_trials_starts_and_missing_values_are_passed_on(run, tmp_path):
    X, Y, _ = (table.to_numpy() for table in tables())
    stack = np.stack([Y, Y + 1.0])
    stack[0, 3, 2] = np.nan
    np.save("x.npy", X)
    np.save("y.npy", stack)
    options = (*FAST, "--nan-policy", "omit-trials", "--n-starts", 2, "--groups-x", "animals.txt")
    result = run("x.npy", "y.npy", *options)
    assert result.exit_code == 0, result.output
    animals = ["left", "right"] * (N // 2)
    found = fc.study(X, stack, nan_policy="omit-trials", n_starts=2, groups=animals, **OPTIONS)
    assert result.stdout == f"{found}\n"
    odours = [f"odour {d // 2}" for d in range(D)]
    (tmp_path / "odours.txt").write_text("\n".join(odours), encoding="utf-8")
    np.save("y.npy", Y)
    result = run("x.npy", "y.npy", *FAST, "--trials", "odours.txt")
    assert result.exit_code == 0, result.output
    found = fc.study(X, Y, trials=odours, **OPTIONS)
    assert all(set(test) == {d ^ 1 for d in test} for _, test in found.cv.folds)
    assert result.stdout == f"{found}\n"


def test_conditions_of_other_files_are_refused_with_the_names(run):
    _, Y, _ = tables()
    Y.rename(columns={"odour 3": "odour x"}).to_csv("other.csv")
    refused(run("glomeruli.csv", "other.csv", *FAST), "'Y'", "odour 3", "odour x")
    refused(run("glomeruli.csv", "mitral.csv", "other.csv", *FAST), "Y['other']", "odour 3")
