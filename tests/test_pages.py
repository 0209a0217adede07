"""Pages for contributors: every file and every name that they send a reader to is there."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCE = ROOT / "src" / "fastcov"
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Where a path in a page may begin; a path of a recipe may have the file that it makes.
FOLDERS = (ROOT, SOURCE, ROOT / "tests", ROOT / "bench", ROOT / "docs")
MADE = {"src/fastcov/_solvers/name.py"}


def paths(page):
    """Files that a page names in code."""
    text = page.read_text(encoding="utf-8")
    return sorted(set(re.findall(r"`([\w./-]+\.(?:py|md|toml|json|txt|cff|yml))`", text)) - MADE)


@pytest.mark.parametrize("page", [page for page in PAGES if paths(page)], ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page):
    missing = [path for path in paths(page) if not any((folder / path).exists() for folder in FOLDERS)]
    assert not set(missing) - {"kernels.py"}  # the end of a name


def test_the_architecture_names_every_room():
    rooms = {
        path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert not [room for room in rooms - {"__init__", "__main__"} if f"`{room}`" not in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_another_page_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
