"""What a caller, a terminal and Ctrl-C see of a solver at work."""

import contextlib
import functools
import io
import signal
import subprocess
import sys

import numpy as np
import pytest
import tqdm
from cases import data, run_python, target

import fastcov as fc
from fastcov._compute import blas
from fastcov._compute import progress as progress_bar
from fastcov._solvers import NAMES

# Sizes at which a factor takes several panels, and G several blocks of rows.
SIZES = {"cholesky": (300, 6), "dual": (300, 6), "spectral": (300, 6), "pcg": (300, 6)}

needs_timers = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="has no timers")


@pytest.fixture
def small_steps(monkeypatch, set_block_rows):
    """Factors by panels of 64, and G by blocks of 64 rows."""
    monkeypatch.setattr(blas, "CHOLESKY_PANEL", 64)
    set_block_rows(64, 6)


def seen_by(solver, **options):
    """What a callback is called with."""
    X, S = data(*SIZES[solver]), target(6, size=300)
    seen = []
    fit = fc.fit(X, S, relative_ridge=1e-4, solver=solver, callback=seen.append, **options)
    return seen, fit


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("solver", NAMES)
def test_a_callback_sees_how_far_a_solver_is(solver):
    seen, fit = seen_by(solver)
    assert len(seen) >= 3
    assert all(isinstance(progress, fc.Progress) for progress in seen)
    assert all(0.0 <= progress.done <= 1.0 for progress in seen)
    assert {progress.stage for progress in seen} == (
        {"precondition", "iteration"} if solver == "pcg" else {"factor"}
    )
    if solver == "pcg":
        seen = [progress for progress in seen if progress.stage == "iteration"]
    assert all((p.iteration is None) == (p.residual is None) == (solver != "pcg") for p in seen)
    done = [progress.done for progress in seen]
    if solver == "pcg":
        assert [progress.iteration for progress in seen] == list(range(1, fit.stats["iterations"] + 1))
        assert seen[-1].residual < seen[0].residual
    assert done == sorted(done)
    assert done[-1] == 1.0


@pytest.mark.parametrize("rank", [None, 0, 20])
@pytest.mark.parametrize("relative", [1e-2, 1e-5, 1e-8])
def test_iterations_do_not_go_back_though_residuals_do(relative, rank):
    X, S, seen = data(300, 6), np.stack([target(6, seed) for seed in range(3)]), []
    fc.fit(X, S, relative_ridge=relative, solver="pcg", rank=rank, callback=seen.append)
    done = [progress.done for progress in seen if progress.stage == "iteration"]
    assert done == sorted(done)
    assert done[-1] == 1.0


@pytest.mark.parametrize("solver", NAMES)
def test_a_callback_changes_nothing(solver):
    _, fit = seen_by(solver)
    again = fc.fit(data(*SIZES[solver]), target(6, size=300), relative_ridge=1e-4, solver=solver)
    np.testing.assert_array_equal(fit.delta, again.delta)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("solver", NAMES)
def test_what_a_callback_raises_ends_the_fit_and_reaches_the_caller(solver, error):
    calls = []

    def stop(progress):
        calls.append(progress)
        raise error("enough")

    with pytest.raises(error, match="enough"):
        fc.fit(data(*SIZES[solver]), target(6), relative_ridge=1e-4, solver=solver, callback=stop)
    assert len(calls) == 1


@pytest.mark.parametrize("solver", NAMES)
def test_nothing_is_printed_where_stderr_is_no_terminal(solver, capfd, monkeypatch):
    monkeypatch.setattr(progress_bar, "DELAY", 0.0)
    seen_by(solver)
    assert capfd.readouterr() == ("", "")


def test_a_process_without_stderr_fits(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert seen_by("pcg")[1].status == "converged"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal for stderr, on which a bar appears at once and is drawn anew every time."""
    monkeypatch.setattr(progress_bar, "DELAY", 0.0)
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 0)  # no thread that watches the bar
    monkeypatch.setattr(tqdm, "tqdm", functools.partial(tqdm.tqdm, mininterval=0.0, miniters=0))
    return Terminal()


def test_a_bar_on_a_terminal_shows_iterations_and_residual(terminal):
    with contextlib.redirect_stderr(terminal):
        seen, _ = seen_by("pcg", rank=0)
    text = terminal.getvalue()
    assert "fastcov iteration" in text
    assert "%" in text
    assert "iteration 1, residual " in text
    assert text.endswith("\r")  # and it is wiped out
    assert text.split("\r")[-2].strip() == ""
    assert len(seen) > 1  # the callback is called besides


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("solver", ["cholesky", "dual", "spectral"])
def test_a_bar_on_a_terminal_shows_a_factorisation(solver, terminal):
    with contextlib.redirect_stderr(terminal):
        seen_by(solver)
    assert "fastcov factor" in terminal.getvalue()


def test_a_bar_is_wiped_out_when_a_fit_fails(terminal):
    def stop(progress):
        raise KeyError("enough")

    with contextlib.redirect_stderr(terminal), pytest.raises(KeyError, match="enough"):
        fc.fit(data(40, 4), target(4), relative_ridge=1e-4, solver="pcg", callback=stop)
    assert terminal.getvalue().split("\r")[-2].strip() == ""


@pytest.mark.parametrize("solver", NAMES)
def test_a_short_fit_shows_no_bar(solver, terminal, monkeypatch):
    monkeypatch.setattr(progress_bar, "DELAY", 100.0)
    with contextlib.redirect_stderr(terminal):
        seen_by(solver)
    assert terminal.getvalue().strip() == ""


def test_work_inside_other_work_has_no_bar_of_its_own_and_later_work_has(terminal, monkeypatch):
    monkeypatch.setattr(progress_bar, "DELAY", 0.0)
    with contextlib.redirect_stderr(terminal):
        with progress_bar.watching(None):
            seen_by("pcg")
        assert terminal.getvalue() == ""
        seen_by("pcg")
    assert "fastcov" in terminal.getvalue()


# Ctrl-C is answered while the call goes on: its thread is alive when KeyboardInterrupt arrives, and the
# arrays, of which nothing else holds a reference, are there until it ends.
INTERRUPTED = """
import signal, threading
import numpy as np
from fastcov._compute import blas
blas.LONG_FLOPS = 1e6
n = {n}
def work():
    A = np.random.default_rng(0).standard_normal((n, n))
    A = A @ A.T + n * np.eye(n)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    while True:  # until the signal comes
        {call}
def answer(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, answer)
try:
    work()
except KeyboardInterrupt:
    running = [t for t in threading.enumerate() if t is not threading.main_thread()]
    print(len(running))
    filled = [np.full((n, n), np.nan) for _ in range(4)]  # where freed arrays would be
    for thread in running:
        thread.join()
    print("ended")
"""


@pytest.mark.slow
@needs_timers
@pytest.mark.parametrize("call", ["blas.eigh(A.copy())", "blas.self_product(A)"])
def test_ctrl_c_is_answered_during_a_long_call(call):
    # The call takes far longer than the timer: it is still running.
    n = 700 if "eigh" in call else 2500
    out = run_python(INTERRUPTED.format(n=n, call=call)).split()
    assert out == ["1", "ended"]


# A call of LAPACK that Ctrl-C leaves behind, here one of Python's, that says when it ends.
LEFT_BEHIND = """
import signal, sys, time
import fastcov.cli
from fastcov._compute import blas
def call():
    time.sleep({seconds})
    print("the call ended")
def answer(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, answer)
signal.setitimer(signal.ITIMER_REAL, 0.2)
"""


@pytest.mark.slow
@needs_timers
def test_python_does_not_exit_under_a_call_that_runs():
    script = (
        LEFT_BEHIND.format(seconds=1.0)
        + """
try:
    blas._call(call, flops=1e30)
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert run_python(script).splitlines() == ["interrupted", "the call ended"]


@pytest.mark.slow
@needs_timers
def test_the_command_line_does_not_wait_for_a_call_after_ctrl_c():
    script = (
        LEFT_BEHIND.format(seconds=1e6)
        + """
import fastcov._inputs.files as files
files.open_array = lambda *args, **kwargs: blas._call(call, flops=1e30)
fastcov.cli.main(["fit", "x.npy", "--target", "s.npy"])
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Error: interrupted.\n")


def test_ctrl_c_ends_a_fit_in_the_middle():
    script = """
import _thread, numpy as np, fastcov as fc
X = np.random.default_rng(0).standard_normal((300, 6))
seen = []
def interrupt(progress):
    seen.append(progress)
    if len(seen) == 2:
        _thread.interrupt_main()
try:
    fc.fit(X, np.eye(6), relative_ridge=1e-6, solver="pcg", rank=0, callback=interrupt)
except KeyboardInterrupt:
    print(len(seen))
"""
    assert int(run_python(script)) in (2, 3)


@pytest.mark.slow
def test_ctrl_c_reaches_these_tests_where_a_shell_had_them_in_the_background():
    # A job in the background ignores SIGINT, and its child processes do.
    script = """
import signal, sys, pytest
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", {test!r}]))
"""
    test = f"{__file__}::{test_ctrl_c_ends_a_fit_in_the_middle.__name__}"
    assert "1 passed" in run_python(script.format(test=test), PYTEST_ADDOPTS=None)
