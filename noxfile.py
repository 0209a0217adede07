"""Tests and checks in environments of their own: `nox -l` lists them, `nox -s tests-3.12` runs one.

What a change has to pass as a whole is .ci/run.
"""

import nox

PYTHONS = ("3.11", "3.12", "3.13")
nox.options.sessions = ["lint", "tests"]
nox.needs_version = ">=2024.4.15"


@nox.session(python=PYTHONS)
def tests(session):
    """What one runs before a commit, with each Python."""
    session.install("-e", ".[all]")
    session.run("pytest", *session.posargs)


@nox.session(name="all")
def everything(session):
    """All tests, also those that take long, with worker processes, and in a browser."""
    session.install("-e", ".[all]")
    session.run("pytest", "-m", "", *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session):
    """The oldest releases that pyproject.toml allows."""
    session.install("-e", ".[test]", "-c", "tests/lowest.txt")
    # Old releases call what newer ones beside them deprecate.
    deprecated = ("-W", "default::DeprecationWarning", "-W", "default::FutureWarning")
    session.run("pytest", *deprecated, *session.posargs)


@nox.session
def lint(session):
    """Style, types, and which part imports which."""
    session.install("-e", ".[all]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def interpreted(session):
    """What is compiled elsewhere, as Python runs it, by tests that reach all of it."""
    session.install("-e", ".[all]")
    session.run(
        "pytest", "-m", "", "@tests/interpreted.txt", *session.posargs, env={"NUMBA_DISABLE_JIT": "1"}
    )


@nox.session
def gate(session):
    """Whether anything has become slower."""
    session.install("-e", ".[all]")
    session.run("python", "bench/gate.py", success_codes=[0, 75])
