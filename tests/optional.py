"""What `pip install -e ".[all]"` does not bring: tests of it are skipped, and say what to install.

FASTCOV_REQUIRED names what has been installed, as "torch jax chromium": its tests then run or fail, whatever
is wrong with it. FASTCOV_SKIPPED names a file to which those that were skipped are added, by the names that
pytest takes: what another environment has to run.
"""

import importlib
import importlib.util
import os
import shutil

import pytest

ABSENT = '".[all]" does not bring '
PEERS = 'pip install -e ".[peers]"'
INSTALL = {
    "torch": PEERS,
    "jax": PEERS,
    "rsatoolbox": 'pip install -e ".[rsatoolbox]"',
    "sklearn": PEERS,
    "himalaya": PEERS,
    "chromium": "apt-get install chromium chromium-driver",
}
# The name of a library as peers have it, and its module.
MODULES = {"scikit-learn": "sklearn", "himalaya": "himalaya", "PyTorch": "torch", "JAX": "jax"}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def library_of(peer):
    """The module that a peer needs, None where that is no more than SciPy."""
    return next((module for library, module in MODULES.items() if library in peer), None)


def browser_paths():
    """Paths of Chromium and of chromedriver, None where they are missing."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None), shutil.which("chromedriver")


def absent(name):
    """Why tests of it are to be skipped; None where they are to run."""
    if name in os.environ.get("FASTCOV_REQUIRED", "").split():
        return None
    found = all(browser_paths()) if name == "chromium" else importlib.util.find_spec(name) is not None
    return None if found else f"{ABSENT}{name}: {INSTALL.get(name, f'pip install {name}')}"


def needs(name):
    """Skips the tests of a file, or the one that calls it, without a library; returns its module."""
    if reason := absent(name):
        pytest.skip(reason, allow_module_level=True)
    return importlib.import_module(name)


def needing(name):
    """The mark of a test that needs a library; of any where that is None."""
    reason = name and absent(name)
    return pytest.mark.skipif(bool(reason), reason=reason or "is installed")


def note(report):
    """Adds what is skipped for want of a library to the file that is named for it."""
    file = os.environ.get("FASTCOV_SKIPPED")
    if file and report.skipped and isinstance(report.longrepr, tuple) and ABSENT in report.longrepr[2]:
        with open(file, "a", encoding="utf-8") as list_of_skipped:
            list_of_skipped.write(f"{report.nodeid}\n")
