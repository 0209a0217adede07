"""fastcov reweight: the same as fc.reweight, in files and on stdout, and one line for bad input."""

import json

import numpy as np
import pytest
from cases import data
from click.testing import CliRunner
from test_cli import refused

import fastcov as fc
from fastcov import cli

pd = pytest.importorskip("pandas")

N, M, D = 12, 16, 18
ODOURS = [f"odour {d}" for d in range(D)]


def tables():
    X = pd.DataFrame(data(N, D), [f"g{i}" for i in range(N)], ODOURS)
    return X, pd.DataFrame(data(M, D, seed=9), [f"m{i}" for i in range(M)], ODOURS)


def distances(C):
    own = np.diag(C)
    return own[:, None] + own[None] - 2 * C


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run `fastcov reweight` in a folder with tables of responses, of a target and of weights of pairs."""
    monkeypatch.chdir(tmp_path)
    X, Y = tables()
    X.to_csv("x.csv")
    Y.to_csv("y.csv")
    np.save("s.npy", fc.covariance(Y.to_numpy()))
    np.save("stack.npy", np.stack([fc.covariance(Y.to_numpy())] * 2))
    np.save("v.npy", np.ones((D, D)) - np.eye(D))

    def call(*arguments):
        return CliRunner().invoke(cli.main, ["reweight", *map(str, arguments)], prog_name="fastcov")

    return call


@pytest.mark.parametrize("atoms", ["product", "squared-euclidean"])
@pytest.mark.parametrize("correlations", [False, True])
def test_the_target_is_of_the_responses(run, atoms, correlations):
    result = run("x.csv", "--responses", "y.csv", "--atoms", atoms, "--json",
                 *(["--correlations"] if correlations else []))  # fmt: skip
    assert result.exit_code == 0, result.output
    X, Y = tables()
    C = fc.covariance(Y.to_numpy())
    if correlations:
        C = np.corrcoef(Y.to_numpy().T)
    S = C if atoms == "product" else 1 - C if correlations else distances(C)
    found = fc.reweight(X, S, relative_ridge=0.1, atoms=atoms)
    record = json.loads(result.stdout)
    np.testing.assert_allclose(record["weights"], found.weights, rtol=1e-9)
    assert record["channel_names"] == list(X.index)
    assert record["relative_ridge"] == 0.1
    assert record["status"] == "converged"


def test_it_prints_and_saves(run):
    options = ["--ridge", 5, "--lower", 0, "--offset", "--shrink-to", 1, "--pairs", "v.npy"]
    result = run("x.csv", "--target", "s.npy", *options, "--output", "w.npz")
    assert result.exit_code == 0, result.output
    saved = fc.load("w.npz")
    assert result.stdout == f"{saved}\n"
    X, _ = tables()
    found = fc.reweight(X, np.load("s.npy"), 5, bounds=(0, None), offset=True, shrink_to=1)
    np.testing.assert_allclose(saved.weights, found.weights, rtol=1e-9, atol=1e-12)
    assert run("x.csv", "--target", "s.npy", *options, "--output", "w.csv").exit_code == 0
    table = pd.read_csv("w.csv")
    assert table["channel"].tolist() == list(X.index)
    np.testing.assert_array_equal(table["weight"], saved.weights)
    assert run("x.csv", "--target", "stack.npy", "--pairs", "all", "--output", "w.csv").exit_code == 0
    assert list(pd.read_csv("w.csv")) == ["channel", "weight_0", "weight_1"]


def test_held_out_scores_are_in_the_record(run):
    asked = ["--ridge", "cv", "--folds", 3, "--relative-ridges", "0.1,1", "--score", "spearman", "--seed", 3]
    result = run("x.csv", "--responses", "y.csv", *asked, "--json")
    assert result.exit_code == 0, result.output
    X, Y = tables()
    found = fc.reweight(
        X, fc.covariance(Y), "cv", folds=3, relative_ridges=[0.1, 1.0], score="spearman", rng=3
    )
    held_out = json.loads(result.stdout)["held_out"]
    np.testing.assert_allclose(held_out["nested"]["pearson"], found.scores.nested["pearson"])
    assert "Held-out conditions: 3 folds" in run("x.csv", "--responses", "y.csv", *asked).stdout


@pytest.mark.parametrize(("arguments", "words"), [
    (["x.csv"], "Give one of --responses and --target, not neither"),
    (["x.csv", "--target", "s.npy", "--correlations"], "--correlations are of --responses"),
    (["x.csv", "--target", "s.npy", "--ridge", 1, "--relative-ridge", 1], "Give one of --ridge and"),
    (["x.csv", "--target", "s.npy", "--lower", 1, "--upper", 0], "--lower must be at most --upper"),
    (["x.csv", "--target", "stack.npy", "--ridge", "cv"], "must be one target for ridge='cv'"),
    (["x.csv", "--target", "s.npy", "--pairs", "missing.npy"], "missing.npy"),
])  # fmt: skip
def test_bad_input_is_one_line(run, arguments, words):
    refused(run(*arguments), words)


def test_a_constant_condition_has_no_correlations(run):
    Y = tables()[1]
    Y.iloc[:, 3] = 1.0
    Y.to_csv("flat.csv")
    refused(run("x.csv", "--responses", "flat.csv", "--correlations"), "constant in condition 3")
