"""The Dask cluster that a command was told of, or that it starts for itself."""

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

# Seconds for a scheduler to answer, for workers to start, and for either to let go.
ANSWERS, STARTS, ENDS = 5.0, 60.0, 5.0


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where arrays are loaded to."""

    client: Any

    def load(self, spec: str, array: Any, name: str) -> Any:
        """An array in a file, or of one, with its names: its chunks on the workers."""
        from .._inputs.labels import Labelled
        from .._rows.chunked import Chunked
        from .._rows.shared_files import as_dask

        if isinstance(array, Labelled):
            return dataclasses.replace(array, values=self.load(spec, array.values, name))
        n_threads = sum(self.client.nthreads().values())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # of what is in memory here: once
            return Chunked.of(name, as_dask(spec, array, n_threads=n_threads, name=name), self.client)


def cluster_of(address: str | None, n_workers: int | None) -> Cluster | None:
    """The cluster that is asked for, until the command ends; None where none is."""
    if address is None and n_workers is None:
        return None
    from .._inputs.optional import optional

    for module in ("dask.array", "distributed"):
        optional(module, "Fitting on a Dask cluster", "dask")
    client = click.get_current_context().with_resource(_client(address, n_workers))
    return Cluster(client)


@contextlib.contextmanager
def _client(address: str | None, n_workers: int | None) -> Iterator[Any]:
    """A client, and workers of its own where there is no address: both are gone in the end."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        client = _connected(address) if address is not None else stack.enter_context(_local(n_workers or 1))
        stack.callback(client.close, timeout=ENDS)
        yield client


def _connected(address: str) -> Any:
    from distributed import Client

    try:
        return Client(address, timeout=ANSWERS)
    except Exception as error:  # of whatever kind: of the system, of the address, of what else is there
        cause = " ".join(str(error).split()) or type(error).__name__
        raise click.UsageError(
            f"--dask must be the address of a Dask scheduler, as tcp://host:8786, and none answers at "
            f"{address!r} ({cause}): start it with 'dask scheduler', or see its log for the address."
        ) from error


@contextlib.contextmanager
def _local(n_workers: int) -> Iterator[Any]:
    """A client of processes of one thread each on this machine, which share the memory there is."""
    from distributed import Client, LocalCluster

    from .._inputs.validation import available_memory

    with _uninterrupted():
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
        with _uninterrupted():
            cluster.close(timeout=ENDS)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the end, and processes that are started meanwhile never see it.

    A terminal sends it to all of them, and each would tell of it; this one ends them.
    """
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its start would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Only fastcov says what is wrong, once."""
    from distributed.versions import VersionMismatchWarning

    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # what matters is looked at
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
