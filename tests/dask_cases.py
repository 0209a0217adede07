"""Clusters for the tests: real worker processes on loopback, and how answers are compared."""

import contextlib
import functools
import os
import subprocess
import sys
import time
import warnings

import naive
import numpy as np
import pytest
from cases import data, target

import fastcov as fc
from fastcov._rows import cluster as cluster_module

WHY = "is about clusters of Dask, and distributed is not installed"
da = pytest.importorskip("dask.array", reason=WHY)
distributed = pytest.importorskip("distributed", reason=WHY)

N, D = 120, 6
# Relative difference between a fit on a cluster and one here, for the same ridge and residuals of TOL.
AGREEMENT, TOL = 1e-10, 1e-12
# Worker processes of one thread each; a free port for the scheduler's pages, which it always has.
OPTIONS = {"threads_per_worker": 1, "processes": True, "dashboard_address": "127.0.0.1:0"}
# What is beyond this has not been answered within seconds.
SOON = 20.0


@contextlib.contextmanager
def local_cluster(n_workers=2, **options):
    """A client of worker processes with one thread each; all of it ends with the block."""
    with (
        distributed.LocalCluster(n_workers=n_workers, **{**OPTIONS, **options}) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(n_workers)
        yield client


# Not for the session: a fixture that modules import is another in each, whose workers and scheduler would
# take time, and memory that other tests count, until the last test of all.
@pytest.fixture(scope="module")
def shared_cluster():
    """Two workers for all tests of a module in which none of them dies."""
    with distributed.LocalCluster(n_workers=2, **OPTIONS) as cluster:
        yield cluster


@pytest.fixture
def client(shared_cluster):
    with distributed.Client(shared_cluster) as client:
        yield client


def chunked(X, chunks, **options):
    """X in chunks of rows: so many rows each, or the rows of each."""
    return da.from_array(X, chunks=(chunks, np.shape(X)[1]), **options)


def parts(n, count):
    """Rows of each of so many chunks, very uneven ones."""
    weights = np.arange(count) ** 3 + 0.1
    return tuple(map(int, 1 + np.random.default_rng(0).multinomial(n - count, weights / weights.sum())))


@functools.cache
def ridge_of(share, seed=0, n=N, d=D, center=True):
    """λ that is this share of the largest eigenvalue of GᵀG."""
    return share * np.linalg.norm(naive.atoms(data(n, d, seed=seed), None, center), 2) ** 2


def wanted(n=N, d=D, seed=1):
    """A target of the size of the covariance of n channels."""
    return target(d, seed, size=n)


def same(actual, expected, share=AGREEMENT):
    """Assert ‖actual − expected‖ ≤ share ‖expected‖, for finite numbers."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    apart, size = np.linalg.norm(actual - expected), np.linalg.norm(expected)
    assert apart <= share * size, f"{apart / size if size else np.inf:.1e} relative difference"


def left_behind(client, seconds=SOON):
    """Keys of the library that the scheduler knows, once it had time to forget."""

    def known(dask_scheduler):
        return [key for key in dask_scheduler.tasks if "fastcov" in str(key) or "Basis" in str(key)]

    deadline = time.monotonic() + seconds
    while found := client.run_on_scheduler(known):
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return found


def submitted(monkeypatch):
    """A list that grows by what is given to the cluster: (tasks, keys that are asked for)."""
    given = []
    original = cluster_module.Cluster._submitted

    def record(self, tasks, places, keys, **more):
        given.append((dict(tasks), list(keys)))
        return original(self, tasks, places, keys, **more)

    monkeypatch.setattr(cluster_module.Cluster, "_submitted", record)
    return given


@contextlib.contextmanager
def processes(folder, n_workers=2, **environment):
    """A client, the process of its scheduler, and those of its workers, without nannies."""
    file = folder / "scheduler.json"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    command = [sys.executable, "-m", "distributed.cli"]

    def start(what, *arguments):
        return subprocess.Popen(
            [*command[:2], f"distributed.cli.dask_{what}", "--scheduler-file", str(file), *arguments],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    running = [start("scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1")]
    try:
        running += [
            start("worker", "--no-nanny", "--nthreads", "1", "--no-dashboard") for _ in range(n_workers)
        ]
        with distributed.Client(scheduler_file=str(file), timeout=SOON) as client:
            client.wait_for_workers(n_workers, timeout=SOON)
            yield client, running[0], running[1:]
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


@contextlib.contextmanager
def expects_nothing_else():
    """Warnings of distributed about a cluster that is meant to break are no failures."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="distributed")
        yield


wait = distributed.wait
fits = functools.partial(fc.fit, tol=TOL)
