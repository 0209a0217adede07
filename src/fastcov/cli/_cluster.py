"""Connect to the Dask cluster given to a command, or start one for the command."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click

# Timeouts in seconds: for a scheduler to answer, for workers to start, and for either to close.
ANSWERS, STARTS, ENDS = 5.0, 60.0, 5.0


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster that arrays are loaded onto."""

    client: Any

    def load(self, spec: str, array: Any, name: str) -> Any:
        """Load an array in a file, or one read from it, onto the workers in chunks; keep its names."""
        from .._inputs.labels import Labelled
        from .._rows.chunked import Chunked
        from .._rows.shared_files import as_dask

        if isinstance(array, Labelled):
            return dataclasses.replace(array, values=self.load(spec, array.values, name))
        n_threads = sum(self.client.nthreads().values())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # an array in memory here is sent once
            return Chunked.of(name, as_dask(spec, array, n_threads=n_threads, name=name), self.client)


def cluster_of(address: str | None, n_workers: int | None) -> Cluster | None:
    """Return the requested cluster, which closes when the command ends; None if none is requested."""
    if address is None and n_workers is None:
        return None
    from .._inputs.optional import optional

    for module in ("dask.array", "distributed"):
        optional(module, "Fitting on a Dask cluster", "dask")
    client = click.get_current_context().with_resource(_client(address, n_workers))
    return Cluster(client)


@contextlib.contextmanager
def _client(address: str | None, n_workers: int | None) -> Iterator[Any]:
    """Yield a client, with its own workers if there is no address; close both at the end."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        client = _connected(address) if address is not None else stack.enter_context(_local(n_workers or 1))
        stack.callback(client.close, timeout=ENDS)
        yield client


def _connected(address: str) -> Any:
    from distributed import Client

    try:
        return Client(address, timeout=ANSWERS)
    except Exception as error:  # the system, the address, or another service there may raise anything
        cause = " ".join(str(error).split()) or type(error).__name__
        raise click.UsageError(
            f"--dask must be the address of a Dask scheduler, as tcp://host:8786, and none answers at "
            f"{address!r} ({cause}): start it with 'dask scheduler', or see its log for the address."
        ) from error


@contextlib.contextmanager
def _local(n_workers: int) -> Iterator[Any]:
    """Yield a client of processes on this machine, with one thread each, that share the available memory."""
    from distributed import Client, LocalCluster

    from .._inputs.validation import available_memory

    with _block_sigint():
        cluster = LocalCluster(
            n_workers=n_workers, threads_per_worker=1, processes=True, silence_logs=logging.CRITICAL,
            memory_limit=available_memory() // n_workers,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        )  # fmt: skip
    try:
        client = Client(cluster, timeout=ANSWERS)
        client.wait_for_workers(n_workers, timeout=STARTS)
        yield client
    finally:
        with _block_sigint():
            cluster.close(timeout=ENDS)


@contextlib.contextmanager
def _block_sigint() -> Iterator[None]:
    """Block Ctrl-C until the end, and permanently in processes that are started meanwhile.

    A terminal sends Ctrl-C to all processes, and each would report it; this process ends the others.
    """
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # if started later, it would let Ctrl-C through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Dask, so that only fastcov reports an error, once."""
    from distributed.versions import VersionMismatchWarning

    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # fastcov checks the versions that matter
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
