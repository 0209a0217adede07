"""Fixtures for all tests."""

import signal
import tracemalloc

import hypothesis
import numba
import numpy as np
import pytest
from cases import random_gains
from covering import kept
from optional import note

from fastcov._bench._compiled import modules
from fastcov._compute.jit import Kernel

# The same cases in every run, and no limit on the time of one: the first call compiles.
hypothesis.settings.register_profile("fastcov", deadline=None, derandomize=True, max_examples=40)
hypothesis.settings.load_profile("fastcov")


# Once: this is asked for before and after each of thousands of tests.
COMPILED = modules()


def compiled_constants():
    """Those of all modules with kernels, by module."""
    return {m.__name__: {name: value for name, value in vars(m).items() if name.isupper()} for m in COMPILED}


CONSTANTS = compiled_constants()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """Fail a test that changes a constant of compiled code: it stays in what is cached on disk."""
    result = yield
    assert compiled_constants() == CONSTANTS
    return result


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(obj):
    """Leave out cases of a test that is marked `covering`, as covering.py has it."""
    made = yield
    for mark in getattr(obj, "pytestmark", ()) if isinstance(made, list) else ():
        if mark.name == "covering":
            made = kept(made, *mark.args, **mark.kwargs)
    return made


# What is started by each of these fixtures, by mark. Tests that start such things themselves say so.
STARTED = {"cluster": {"shared_cluster", "mortal_cluster"}, "browser": {"browser"}}


def pytest_itemcollected(item):
    """Mark tests that need worker processes or a browser, which plain `pytest` leaves out."""
    for mark, fixtures in STARTED.items():
        if not fixtures.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(mark)


@pytest.fixture(autouse=True, scope="session")
def ctrl_c():
    """Ctrl-C as Python has it, in the tests and in processes that they start.

    A shell's background jobs ignore SIGINT, and so would all processes that come from them.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_collectreport(report):
    note(report)


def pytest_runtest_logreport(report):
    note(report)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["centred", "not-centred"])
def center(request):
    return request.param


@pytest.fixture(params=["at-ones", "at-gains"])
def at(request):
    """Expansion point for N channels."""
    return {"at-ones": lambda N: None, "at-gains": random_gains}[request.param]


@pytest.fixture
def set_block_rows(monkeypatch):
    """A function that sets how many rows of D conditions a block has."""

    def set_rows(rows, D):
        monkeypatch.setattr("fastcov._model.problem.BLOCK_BYTES", 8 * D * rows)
        monkeypatch.setattr("fastcov._solvers._pairs.block_rows", lambda _: rows)
        monkeypatch.setattr("fastcov._solvers._nystrom.PANEL_BYTES", 8 * D * rows)

    return set_rows


@pytest.fixture
def interpreted(monkeypatch):
    """Run kernels as Python runs them: coverage sees nothing of what is compiled."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    for module in COMPILED:
        for name, value in tuple(vars(module).items()):
            if isinstance(value, Kernel):
                monkeypatch.setattr(value, "_twins", {})
                monkeypatch.setattr(value, "_nested", {})
            elif hasattr(value, "py_func"):
                monkeypatch.setattr(module, name, value.py_func)


@pytest.fixture
def parallel(monkeypatch):
    """Run the parallel kernels whatever the size."""
    monkeypatch.setattr("fastcov._compute.jit.PARALLEL_SIZE", 1)


@pytest.fixture
def little_memory(monkeypatch):
    """A function that calls another while 1 kB is available, and checks that it allocates little."""

    def call(function, available=1000):
        for module in ("_inputs.validation", "_solvers._plan"):
            monkeypatch.setattr(f"fastcov.{module}.available_memory", lambda: available)
            monkeypatch.setattr(f"fastcov.{module}.SMALL", 0)
        tracemalloc.start()
        try:
            return function()
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 4e6, f"{peak} bytes were allocated before memory was asked for"

    return call
