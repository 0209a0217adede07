"""What goes wrong on a cluster: workers that die, a scheduler that goes away, somebody who cancels."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from cases import data
from dask_cases import (
    OPTIONS,
    SOON,
    D,
    N,
    chunked,
    client,
    distributed,
    expects_nothing_else,
    fits,
    left_behind,
    local_cluster,
    processes,
    ridge_of,
    same,
    shared_cluster,
    wait,
    wanted,
)  # fmt: skip

import fastcov as fc
from fastcov._rows import worker_faults

__all__ = ["client", "shared_cluster"]  # fixtures

X, S = data(N, D), wanted()
RIDGE, SMALL_RIDGE = ridge_of(0.5), ridge_of(1e-3)
CHUNKS = 20
ITERATIONS = {"ridge": SMALL_RIDGE, "solver": "pcg", "rank": 2}


@pytest.fixture(scope="module")
def mortal_cluster():
    """Two workers that may be killed: their nannies start others."""
    with expects_nothing_else(), distributed.LocalCluster(n_workers=2, **OPTIONS) as cluster:
        yield cluster


@pytest.fixture
def mortal(mortal_cluster):
    with expects_nothing_else(), distributed.Client(mortal_cluster) as client:
        client.wait_for_workers(2, timeout=SOON)
        yield client


def kill_one(client):
    """End the process of a worker, without a word."""
    pids = client.run(os.getpid)
    os.kill(pids[min(pids)], signal.SIGKILL)


class Once:
    """A callback that does something in the middle of the work, once."""

    def __init__(self, act, stage="iteration", after=2):
        self.act, self.stage, self.left, self.since = act, stage, after, None

    def __call__(self, progress):
        if progress.stage == self.stage:
            self.left -= 1
            if self.left == 0:
                self.since = time.monotonic()
                self.act()

    @property
    def seconds(self):
        """Since it was done."""
        return time.monotonic() - self.since


FAULTY = {
    "exact": {"ridge": 3 * RIDGE, "method": "exact"},
    "one-a-channel": {**ITERATIONS, "ridge": SMALL_RIDGE * np.linspace(1.0, 9.0, N)},
}


@pytest.mark.parametrize("kind", FAULTY)
def test_a_worker_that_dies_during_a_fit_is_lived_through(kind, mortal):
    asked = FAULTY[kind]
    once = Once(lambda: kill_one(mortal))
    fit = fits(chunked(X, CHUNKS), S, callback=once, **asked)
    assert once.since is not None
    expected = fits(X, S, **asked)
    same(fit.delta, expected.delta)
    same(fit.loss, expected.loss)
    assert fit.status == expected.status
    del fit
    assert not left_behind(mortal)


def test_a_worker_that_dies_between_two_uses_of_what_is_held_is_lived_through(mortal):
    A = fc.GramOperator(chunked(X, CHUNKS))
    expected, v = fc.GramOperator(X), np.arange(N) / N
    same(A @ v, expected @ v)
    kill_one(mortal)
    same(A @ v, expected @ v)
    same(A.columns([0, 70]), expected.columns([0, 70]))


def dies_once(rows, marker):
    """Rows that take the worker with them the first time that they are computed."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return rows
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_while_chunks_are_loaded_is_lived_through(mortal, tmp_path):
    lazy = chunked(X, CHUNKS).map_blocks(dies_once, str(tmp_path / "marker"), dtype=X.dtype, meta=X[:0])
    same(fits(lazy, S, ridge=RIDGE).delta, fits(X, S, ridge=RIDGE).delta)
    assert (tmp_path / "marker").exists()


def test_a_worker_that_dies_during_cross_validation_is_lived_through(mortal):
    asked = {"ridges": [RIDGE], "folds": 2, "method": "linear", "solver": "pcg", "tol": 1e-12}
    Y = data(77, D, seed=4)
    once = Once(lambda: kill_one(mortal), "folds", 1)
    cv = fc.cross_validate(chunked(X, CHUNKS), chunked(Y, 30), callback=once, **asked)
    assert once.since is not None
    same(cv.r2, fc.cross_validate(X, Y, **asked).r2)


def test_responses_that_kill_every_worker_are_an_error(mortal, monkeypatch):
    def deadly(rows):
        os.kill(os.getpid(), signal.SIGKILL)

    lazy = chunked(X, N).map_blocks(deadly, dtype=X.dtype, meta=X[:0])
    mortal.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
    try:
        with pytest.raises(MemoryError, match=r"died one after another while they held 'X'.*smaller chunks"):
            fits(lazy, S, ridge=RIDGE)
    finally:
        mortal.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 3))


@pytest.mark.cluster
def test_a_restart_of_the_cluster_is_an_error():
    with expects_nothing_else(), local_cluster(1) as own:
        once = Once(lambda: own.restart(timeout=SOON))
        with pytest.raises(RuntimeError, match=r"cancelled, by client.cancel or by a restart of the cluster"):
            fits(chunked(X, CHUNKS), S, callback=once, **ITERATIONS)
        assert once.seconds < SOON
        same(fits(chunked(X, CHUNKS), S, ridge=RIDGE).delta, fits(X, S, ridge=RIDGE).delta)


# --- without nannies


@pytest.mark.cluster
def test_without_another_worker_the_rest_goes_on_and_the_end_of_the_last_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_faults, "WORKERS_AWAY", 1.0)
    with expects_nothing_else(), processes(tmp_path) as (_, _, workers):
        once = Once(lambda: workers[0].kill())
        fit = fits(chunked(X, CHUNKS), S, callback=once, **ITERATIONS)
        assert once.since is not None
        same(fit.delta, fits(X, S, **ITERATIONS).delta)
        once = Once(lambda: workers[1].kill())
        with pytest.raises(RuntimeError, match=r"cluster at tcp://\S+ has lost all of its workers: start"):
            fits(chunked(X, CHUNKS), S, callback=once, **ITERATIONS)
        assert once.seconds < SOON
        with pytest.raises(ValueError, match=r"Argument 'X' must be on a cluster that has workers"):
            fits(chunked(X, CHUNKS), S, ridge=RIDGE)


@pytest.mark.cluster
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="has no such signals")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"], ids=["gone", "silent"])
def test_a_scheduler_that_goes_away_is_an_error_within_seconds(how, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_faults, "SCHEDULER_SILENT", 1.0)
    with expects_nothing_else(), processes(tmp_path, 1) as (_, scheduler, _):
        once = Once(lambda: scheduler.send_signal(getattr(signal, how)))
        with pytest.raises(
            RuntimeError, match=r"scheduler at tcp://\S+ does not answer|has been closed, or its"
        ):
            fits(chunked(X, CHUNKS), S, callback=once, **ITERATIONS)
        assert once.seconds < 10.0
        with pytest.raises(RuntimeError, match=r"scheduler at tcp://\S+ does not answer|has been closed"):
            fits(chunked(X, CHUNKS), S, ridge=RIDGE)
        scheduler.kill()


@pytest.mark.cluster
def test_many_workers_that_compile_at_once_give_the_right_numbers(tmp_path):
    (tmp_path / "cache").mkdir()
    with processes(tmp_path, 4, NUMBA_CACHE_DIR=str(tmp_path / "cache")) as (client, _, _):
        lazy = client.persist(chunked(X, 5))
        wait(lazy)
        same(fc.covariance(lazy), fc.covariance(X))
        assert len(set(client.run(os.getpid))) == 4


# --- somebody who cancels


def test_a_client_that_is_closed_meanwhile_is_an_error(shared_cluster):
    with distributed.Client(shared_cluster) as other:
        once = Once(lambda: threading.Thread(target=other.close).start())
        with pytest.raises(
            RuntimeError, match=r"client of the cluster at \S+ has been closed|were cancelled"
        ):
            fits(chunked(X, CHUNKS), S, callback=once, **ITERATIONS)
        assert once.seconds < SOON


def test_tasks_that_somebody_cancels_are_an_error_or_made_again(client):
    def cancel():
        futures = [distributed.Future(key, client) for key in list(client.futures)]
        client.cancel(futures, force=True)

    once = Once(cancel)
    with pytest.raises(RuntimeError, match=r"cancelled, by client.cancel or by a restart of the cluster"):
        fits(chunked(X, CHUNKS), S, callback=once, **ITERATIONS)
    assert once.seconds < SOON
    assert not left_behind(client)
    same(fits(chunked(X, CHUNKS), S, ridge=RIDGE).delta, fits(X, S, ridge=RIDGE).delta)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_a_callback_raises_ends_the_fit_and_leaves_nothing(error, client):
    def fail():
        raise error

    once = Once(fail)
    with pytest.raises(error):
        fits(chunked(X, CHUNKS), S, callback=once, **ITERATIONS)
    assert once.seconds < 2.0
    assert not left_behind(client)
    same(fits(chunked(X, CHUNKS), S, ridge=RIDGE).delta, fits(X, S, ridge=RIDGE).delta)


INTERRUPTED = """
import sys
import numpy as np, dask.array as da, distributed
import fastcov as fc
client = distributed.Client(sys.argv[1])
X = da.from_array(np.random.default_rng(0).standard_normal((2000, 20)), chunks=(50, 20))
print("begun", flush=True)
fc.ridge_path(X, np.eye(20), relative_ridges=np.geomspace(1e-4, 1, 500), solver="pcg", method="diagonal",
              callback=lambda progress: print(progress.stage, flush=True))
"""


def test_ctrl_c_ends_at_once_and_leaves_the_cluster_clean(client):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, client.scheduler.address],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(fc.__file__).parents[1])},
    )  # fmt: skip
    with process:
        try:
            while process.stdout.readline().strip() != "path":
                assert process.poll() is None
            since = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=SOON)
        finally:
            process.kill()
    assert "KeyboardInterrupt" in told.splitlines()[-1]
    assert time.monotonic() - since < 5.0
    assert not left_behind(client)
    same(fits(chunked(X, CHUNKS), S, ridge=RIDGE).delta, fits(X, S, ridge=RIDGE).delta)


# --- workers that are there, but do nothing


def test_a_worker_that_is_paused_for_want_of_memory_is_an_error(client, monkeypatch):
    monkeypatch.setattr(worker_faults, "PAUSED", 0.5)
    monkeypatch.setattr(worker_faults, "TOLD", 0.1)

    def to(share):
        def change(dask_worker):  # as its monitor does, by how much of its memory is full
            dask_worker.memory_manager.memory_pause_fraction = share

        return lambda: client.run(change)

    once = Once(to(1e-9))
    try:
        with pytest.raises(MemoryError, match=r"worker at tcp://\S+ is short of memory.*smaller chunks"):
            fits(chunked(X, CHUNKS), S, callback=once, **ITERATIONS)
        assert once.seconds < SOON
    finally:
        to(0.8)()
    same(fits(chunked(X, CHUNKS), S, ridge=RIDGE).delta, fits(X, S, ridge=RIDGE).delta)


# --- chunks that cannot be computed


def missing(rows, block_info=None):
    if block_info[0]["chunk-location"][0] == 4:
        return np.load("/nowhere/X-4.npy")
    return rows


def test_a_chunk_that_cannot_be_read_is_an_error_with_its_cause(client):
    lazy = chunked(X, CHUNKS).map_blocks(missing, dtype=X.dtype, meta=X[:0])
    with pytest.raises(
        OSError, match=r"Argument 'X' must be intact.* rows 80 to 99 .*/nowhere/X-4.npy"
    ) as caught:
        fits(lazy, S, ridge=RIDGE)
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(OSError, match=r"Argument 'responses' must be .* rows 80 to 99 .*/nowhere/X-4.npy"):
        fits(X, responses=lazy, ridge=RIDGE)
    del caught
    assert not left_behind(client)
