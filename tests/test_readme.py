"""The Python examples of the README and of the pages in docs run as they stand, and print what is said."""

import contextlib
import functools
import io
import os
import pathlib
import re
import runpy
import tempfile

import pytest
from optional import needs

compiled = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="slow without compiling")
ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"


def examples(page):
    """Python blocks of a page, each with the block of text that follows it: what it prints, if given."""
    blocks = r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?"
    return re.findall(blocks, page.read_text(encoding="utf-8"), re.DOTALL)


PAGES = [page for page in (README, *sorted((ROOT / "docs").glob("*.md"))) if examples(page)]
# Pages other than README take long, and one of them worker processes.
MARKS = {"dask.md": pytest.mark.cluster}
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
# The examples of one page start workers.
run_pages = pytest.mark.parametrize(
    "page",
    [
        page if page == README else pytest.param(page, marks=MARKS.get(page.name, pytest.mark.slow))
        for page in PAGES
    ],
    ids=lambda page: page.name,
)


@functools.cache
def run(page):
    """The variables of a page's examples, run one after another, and what each printed."""
    scope, printed = {}, []
    shown = "\n".join(code for code, _ in examples(page))
    for library in set(re.findall(r"^(?:import|from) (\w+)", shown, re.MULTILINE)):
        needs(library)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # they may write files
        for code, _ in examples(page):
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(code, str(page), "exec"), scope)
            printed.append(output.getvalue())
    return scope, printed


@compiled
@run_pages
def test_python_examples_run_one_after_another_and_print_what_the_page_says(page):
    _, printed = run(page)
    for (code, text), output in zip(examples(page), printed, strict=True):
        assert text in ("", output), code


@compiled
def test_the_readmes_examples_print_converged_fits():
    scope, printed = run(README)
    assert re.search(r"linear \((cholesky|dual|pcg)\): converged", printed[0])
    assert "(48, 48)" in printed[0]
    assert scope["fit"].status == "converged"


@pages
def test_python_examples_are_of_about_ten_lines(page):
    for code, _ in examples(page):
        assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_no_text_tells_users_to_install_the_unrelated_package():
    texts = [*ROOT.glob("*.md"), *ROOT.glob("src/**/*.py"), ROOT / "pyproject.toml"]
    offending = [
        p.name for p in texts if re.search(r"pip install (fast)cov(?!-)", p.read_text(encoding="utf-8"))
    ]
    assert not offending


@compiled
def test_the_example_that_makes_the_table_of_ridges_runs(monkeypatch, capsys):
    monkeypatch.delenv("FASTCOV_REAL_DATA", raising=False)
    runpy.run_path(str(ROOT / "examples" / "when_to_trust.py"))
    printed = capsys.readouterr().out
    assert printed.count("\n") == 11
    assert printed.startswith("| λ / λ_max | 1 | 0.3 | 0.1 |")


@pytest.mark.slow
@compiled
def test_the_example_that_makes_the_table_of_held_out_conditions_runs(monkeypatch, capsys):
    monkeypatch.delenv("FASTCOV_REAL_DATA", raising=False)
    monkeypatch.setattr("sys.argv", ["held_out.py"])
    runpy.run_path(str(ROOT / "examples" / "held_out.py"))
    printed = capsys.readouterr().out
    for start in ("λ / λ_max", "exact, with βI + γ11ᵀ", "exact", "line-search", "linear", "gains of one",
                  "no X", "aC + βI + γ11ᵀ"):  # fmt: skip
        assert printed.count(f"\n| {start} | ") == 3, start  # a row in the table of each score
    assert printed.count("\n| no X | 0.00 ± 0.00 |") == 2  # of a correlation, and beside its own mean
    assert "PermutationTest" not in printed


@pytest.mark.slow
@compiled
def test_the_example_of_a_study_prints_the_figures_of_the_page(monkeypatch, capsys):
    monkeypatch.delenv("FASTCOV_REAL_DATA", raising=False)
    monkeypatch.setattr("sys.argv", ["study.py", "19"])
    runpy.run_path(str(ROOT / "examples" / "study.py"))
    printed = capsys.readouterr().out
    assert printed.startswith("Study: 60 channels x 20 conditions, 19 shuffles")
    alone, every, changed = (
        int(re.search(rf"^{words}.*: (\d+)", printed, re.MULTILINE).group(1))
        for words in ("q of at most 0.1 at the best ridge", "the same over all ridges", "of these")
    )
    assert 0 <= changed <= every <= 60
    assert 0 <= alone <= 60
    assert (
        len(re.findall(r"^(gains of one|one gain a group|one gain a channel): ", printed, re.MULTILINE)) == 3
    )


@pytest.mark.slow
@compiled
def test_the_example_that_explains_a_gain_says_why_and_draws_the_readmes_figure(
    monkeypatch, capsys, tmp_path
):
    pytest.importorskip("matplotlib")
    script, figure = ROOT / "examples" / "explain.py", tmp_path / "why.png"
    monkeypatch.setattr("sys.argv", [str(script), str(figure)])
    runpy.run_path(str(script))
    printed = capsys.readouterr().out
    assert "The gain of channel 23 goes up to 2.59" in printed
    assert "- Alone it would be 3.50. Others change that by -0.92:" in printed
    assert "+1.06 comes through mode 2, as does 64% of what the fit takes off the loss" in printed
    assert f"Saved the figure to {figure}" in printed
    sizes = [path.read_bytes()[16:24] for path in (figure, ROOT / "docs" / "explain.png")]
    assert sizes[0] == sizes[1]


@pytest.mark.slow
@compiled
@pytest.mark.parametrize(
    ("script", "row", "columns"),
    [
        ("realistic.py", "held out, `cross-pearson`: exact gains, best λ", 2),
        ("recovery.py", "true and fitted gains, correlation", 6),
    ],
)
def test_the_examples_of_the_page_on_identifiability_run_and_say_what_data_they_took(
    script, row, columns, monkeypatch, capsys
):
    monkeypatch.delenv("FASTCOV_REAL_DATA", raising=False)
    monkeypatch.setattr("sys.argv", [script, "1"])
    runpy.run_path(str(ROOT / "examples" / script))
    printed = capsys.readouterr().out
    found = re.search(rf"^\| {re.escape(row)} \|(.*)\|$", printed, re.MULTILINE)
    assert len(found.group(1).split("|")) == columns
    page = (ROOT / "docs" / "identifiability.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| ([^|]+) \|", printed, re.MULTILINE)
    assert not [name for name in names[1:] if f"| {name} |" not in page]
    if script == "recovery.py":
        assert printed.startswith("X: SIMULATED, for FASTCOV_REAL_DATA is not set")
        values = [float(text) for text in found.group(1).split("|")]
        assert values[0] > 0.6 > 0.2 > values[-1]  # without noise, and with more noise than signal
