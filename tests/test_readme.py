"""The README's Python example runs as it stands."""

import os
import pathlib
import re
import runpy

import pytest

compiled = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="slow without compiling")
README = pathlib.Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@compiled
def test_python_examples_run_one_after_another_and_print_converged_fits(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # they may write files
    scope, printed = {}, []
    for code in blocks("python"):
        exec(compile(code, str(README), "exec"), scope)
        printed.append(capsys.readouterr().out)
    assert re.search(r"linear \((cholesky|dual|pcg)\): converged", printed[0])
    assert "(48, 48)" in printed[0]
    assert scope["fit"].status == "converged"


def test_python_examples_are_of_about_ten_lines():
    for code in blocks("python"):
        assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_no_text_tells_users_to_install_the_unrelated_package():
    root = README.parent
    texts = [*root.glob("*.md"), *root.glob("src/**/*.py"), root / "pyproject.toml"]
    offending = [
        p.name for p in texts if re.search(r"pip install (fast)cov(?!-)", p.read_text(encoding="utf-8"))
    ]
    assert not offending


@compiled
def test_the_example_that_makes_the_table_of_ridges_runs(monkeypatch, capsys):
    monkeypatch.delenv("FASTCOV_REAL_DATA", raising=False)
    runpy.run_path(str(README.parent / "examples" / "when_to_trust.py"))
    printed = capsys.readouterr().out
    assert printed.count("\n") == 11
    assert printed.startswith("| λ / λ_max | 1 | 0.3 | 0.1 |")


@compiled
def test_the_example_that_makes_the_table_of_held_out_conditions_runs(monkeypatch, capsys):
    monkeypatch.delenv("FASTCOV_REAL_DATA", raising=False)
    runpy.run_path(str(README.parent / "examples" / "held_out.py"))
    printed = capsys.readouterr().out
    assert printed.count("\n") == 6
    assert printed.startswith("| λ / λ_max | 1 | 0.3 | 0.1 |")


@compiled
def test_the_example_that_explains_a_gain_says_why_and_draws_the_readmes_figure(
    monkeypatch, capsys, tmp_path
):
    pytest.importorskip("matplotlib")
    script, figure = README.parent / "examples" / "explain.py", tmp_path / "why.png"
    monkeypatch.setattr("sys.argv", [str(script), str(figure)])
    runpy.run_path(str(script))
    printed = capsys.readouterr().out
    assert "The gain of channel 23 goes up to 2.59" in printed
    assert "- Alone it would be 3.50. Others change that by -0.92:" in printed
    assert "+1.06 comes through mode 2, as does 64% of what the fit takes off the loss" in printed
    assert f"Saved the figure to {figure}" in printed
    sizes = [path.read_bytes()[16:24] for path in (figure, README.parent / "docs" / "explain.png")]
    assert sizes[0] == sizes[1]
