"""tests/lowest.txt, with which the oldest releases are tested, names what pyproject.toml allows."""

import itertools
import pathlib
import tomllib

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = pathlib.Path(__file__).parents[1]
ITSELF = "fastcov-gains"


def floors():
    """The oldest release of each library, the highest where several extras name it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {}
    for text in itertools.chain(project["dependencies"], *project["optional-dependencies"].values()):
        wanted = Requirement(text)
        if wanted.name != ITSELF:
            (limit,) = wanted.specifier
            assert limit.operator == ">=", text
            found.setdefault(wanted.name, []).append(Version(limit.version))
    return {name: max(versions) for name, versions in found.items()}


def test_the_oldest_releases_that_are_tested_are_those_that_are_allowed():
    lines = (ROOT / "tests" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    named = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {each.name: Version(str(each.specifier).removeprefix("==")) for each in named}
    assert len(versions) == len(named)
    assert versions == floors()
