"""fastcov compare: the same as fc.compare, in files and on stdout, and one line for bad input."""

import json

import numpy as np
import pytest
from cases import data
from click.testing import CliRunner
from test_cli import refused

import fastcov as fc
from fastcov import cli

pd = pytest.importorskip("pandas")

N, M, D = 20, 16, 12
FAST = ("--no-nested", "--relative-ridges", "0.1,1", "--folds", 3)
OPTIONS = {"nested": False, "relative_ridges": [0.1, 1.0], "folds": 3}
ODOURS = [f"odour {d}" for d in range(D)]


def tables():
    names, cells = [f"g{i}" for i in range(N)], [f"m{i}" for i in range(M)]
    return pd.DataFrame(data(N, D), names, ODOURS), pd.DataFrame(data(M, D, seed=9), cells, ODOURS)


def timeless(text):
    """The words of each line, without the seconds that a model took, which are its last."""
    lines = [line.split() for line in text.splitlines()]
    return [words[:-1] if words[:1] == ["gains"] else words for words in lines]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run `fastcov compare` in a folder with tables of glomeruli and mitral cells."""
    monkeypatch.chdir(tmp_path)
    for name, table in zip(("glomeruli", "mitral"), tables(), strict=True):
        table.to_csv(f"{name}.csv")

    def call(*arguments):
        return CliRunner().invoke(cli.main, ["compare", *map(str, arguments)], prog_name="fastcov")

    return call


def test_it_prints_the_comparison(run):
    result = run("glomeruli.csv", "mitral.csv", "--models", "one, gains", *FAST)
    assert result.exit_code == 0, result.output
    expected = fc.compare(*tables(), ["one", "gains"], **OPTIONS)
    assert timeless(result.stdout) == timeless(f"{expected}\n")
    assert result.stderr == ""


def test_everything_is_written(run, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    result = run(
        "glomeruli.csv", "mitral.csv", *FAST, "--models", "no-x,gains", "--model",
        'inhibition={"bounds": [0, 1]}', "--output", "m.npz", "--csv", "t.csv", "--plot", "m.png", "--report",
        "m.html", "--json", "--score", "r2", "--level", 0.9, "--shuffles", 19,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    models = {"no-x": {}, "gains": {}, "inhibition": {"bounds": (0, 1)}}
    expected = fc.compare(*tables(), models, score="r2", level=0.9, shuffles=19, **OPTIONS)
    record = json.loads(result.stdout)
    assert record["verdict"] == expected.verdict
    assert record["level"] == 0.9
    saved = fc.load(tmp_path / "m.npz")
    for name in expected.names:
        np.testing.assert_array_equal(saved.by_fold(name), expected.by_fold(name))
        assert saved.p(name) == expected.p(name)
    assert list(pd.read_csv("t.csv")["model"]) == list(expected.names)
    assert (tmp_path / "m.png").stat().st_size > 10_000
    assert "glomeruli.csv to mitral.csv" in (tmp_path / "m.html").read_text(encoding="utf-8")
    for word in ("comparison", "table", "figure", "report"):
        assert f"Saved the {word}" in result.stderr


def test_own_models_alone_are_compared(run):
    result = run(
        "glomeruli.csv", "mitral.csv", *FAST, "--model", 'linear={"method": "linear"}', "--models", "one",
        "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)["models"]) == ["one", "linear"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--models", "gain"), ["'models'", "not 'gain'"]),
        (("--models", "gains,gains"), ["name each model once"]),
        (("--model", "own"), ["'own' is not like"]),
        (("--model", "own=3"), ["'own=3' is not like"]),
        (("--model", "own={"), ["is not like"]),
        (("--model", '={"tol": 1}'), ["is not like"]),
        (("--models", "gains", "--model", 'gains={"tol": 1}'), ["a name of its own", "'gains'"]),
        (("--model", 'own={"folds": 3}'), ["not 'folds'"]),
        (("--shuffles", 3), ["at least 19"]),
        (("--csv", "table.txt"), ["--csv", "table.txt"]),
        (("--csv", "mitral.csv"), ["--csv"]),
        (("--output", "m.txt"), ["--output"]),
        (("--report", "m.txt"), ["--report"]),
        (("--models", "groups,gains"), ["'groups'", "label for each channel"]),
        (("--groups", "missing.txt"), ["missing.txt"]),
        (("--permute-within", "a.txt", "--permute-groups", "b.txt"), ["not both"]),
    ],
)
def test_bad_input_is_one_line(run, arguments, words):
    refused(run("glomeruli.csv", "mitral.csv", *arguments), *words)


def test_other_conditions_are_refused(run):
    tables()[1].iloc[:, :-1].to_csv("few.csv", index=False, header=False)
    refused(run("glomeruli.csv", "few.csv", *FAST), f"{D} conditions of X")
