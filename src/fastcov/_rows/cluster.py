"""Use a Dask cluster: load chunks onto its workers, hold them there, and run tasks on these workers.

A task on a chunk is bound to the worker that holds the chunk: no large data move, and no task is stolen.
"""

from __future__ import annotations

import contextlib
import platform
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np

from .worker_faults import MonitoredClient, WorkerLost, workers_of

# Share of a worker's memory that may be filled: at 0.6 a worker begins to spill its data to disk.
FILLED = 0.6


def client_of(name: str, X: Any) -> Any:
    """Return the client of dask.distributed that would compute X; None if a local scheduler would."""
    from dask.base import get_scheduler

    try:
        client = getattr(get_scheduler(collections=[X]), "__self__", None)
        waits = not getattr(client, "asynchronous", False)
    except RuntimeError as error:  # Dask raises this if a client is asynchronous, or if there is none
        client = _client_in_task()
        if client is None and "asynchronous" not in str(error):
            raise
        waits = client is not None
    if not waits:
        raise TypeError(
            f"Argument '{name}' must be computed by a client that waits, not by an asynchronous one: use "
            "Client(address)."
        )
    library = sys.modules.get("distributed")
    return client if library is not None and isinstance(client, library.Client) else None


def _client_in_task() -> Any:
    """Return the client that a worker makes on request; None if this does not run in a task."""
    from distributed import get_client, get_worker

    try:
        get_worker()
    except ValueError:
        return None
    return get_client()


def smallest_memory(client: Any) -> float:
    """Return the memory limit of the smallest worker, in bytes."""
    return min((told["memory_limit"] or np.inf for told in workers_of(client).values()), default=np.inf)


def versions() -> dict[str, str]:
    """Return the versions that must be the same here and on workers, for functions and for serialisation."""
    from .._version import __version__

    return {
        "fastcov": __version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "NumPy": np.__version__.split(".")[0],
    }


class Cluster(MonitoredClient):
    """The workers of a client that hold the chunks of one array."""

    @classmethod
    def of(cls, client: Any) -> Cluster:
        """Make a cluster, after checking that it has workers and that their versions match."""
        self = cls(client)
        _secede()
        self._require_scheduler()
        if not self._workers_now():
            raise ValueError(
                f"Argument 'X' must be on a cluster that has workers, and that at {self.address} has none: "
                "scale it up, and wait with client.wait_for_workers(1)."
            )
        here = versions()
        try:
            there = client.run(versions)
        except ImportError as error:
            raise ImportError(
                f"fastcov must be installed on the workers of {self.address}, version {here['fastcov']} as "
                f"here ({error}): install fastcov-gains there."
            ) from error
        for worker, found in there.items():
            if differ := [f"{name} {found[name]}" for name in here if found[name] != here[name]]:
                wanted = ", ".join(f"{name} {here[name]}" for name in here if found[name] != here[name])
                raise RuntimeError(
                    f"Workers must have the versions of the client, {wanted}, and that at {worker} has "
                    f"{', '.join(differ)}: install the same on both."
                )
        return self

    # Chunks

    def loaded(self, name: str, X: Any, nbytes: Sequence[int], convert: Callable[..., Any]) -> list[Any]:
        """Load each chunk once, evenly over the workers, and return futures of `convert` of it.

        `nbytes` is the size of each converted chunk. `convert` is called with the name, the first row, the
        shape and the chunk. Chunks that are already on workers stay there.
        """
        from dask.delayed import delayed
        from distributed import futures_of

        load = delayed(convert, pure=False)
        ends = np.cumsum(X.chunks[0])
        blocks = [
            (int(end - n), key, block)
            for n, end, key, block in zip(
                X.chunks[0], ends, (keys[0] for keys in X.__dask_keys__()), X.to_delayed()[:, 0], strict=True
            )
            if n
        ]
        rows = [*(start for start, _, _ in blocks), len(X)]
        known = {future.key: future for future in futures_of(X)}
        if all(key in known for _, key, _ in blocks):
            there = [known[key] for _, key, _ in blocks]
            self._wait(there, name, rows=rows)
            where = self._find(there)
        else:
            where = self._shares(name, nbytes)
        pieces: list[Any] = []
        with self._cancelling(pieces):
            for worker, group in _runs(where):
                made = [
                    load(name, start, (stop - start, X.shape[1]), block, dask_key_name=_key("chunk"))
                    for start, stop, block in ((rows[c], rows[c + 1], blocks[c][2]) for c in group)
                ]
                pieces += self._client.compute(made, workers=[worker], allow_other_workers=True)
            self._wait(pieces, name, rows=rows)
            self._remember(pieces)
        return pieces

    def _shares(self, name: str, nbytes: Sequence[int]) -> list[str]:
        """Assign a worker to each chunk: equal bytes per thread, and neighbouring chunks on one worker."""
        threads, told = self._threads(), workers_of(self._client)
        limits = {w: told.get(w, {}).get("memory_limit") or np.inf for w in threads}
        total, room = float(sum(nbytes)), FILLED * sum(limits.values())
        if total > room:
            raise MemoryError(
                f"Argument '{name}' takes {total / 1e9:.3g} GB, and {len(threads)} workers may hold "
                f"{room / 1e9:.3g} GB of it: use more workers, or float32."
            )
        if max(nbytes) > (most := FILLED * max(limits.values())):
            raise MemoryError(
                f"Argument '{name}' must have chunks that fit a worker, {most / 1e9:.3g} GB, not of "
                f"{max(nbytes) / 1e9:.3g} GB: rechunk it to fewer rows."
            )
        ends = np.cumsum(list(threads.values())) / sum(threads.values())
        middles = (np.cumsum(nbytes) - np.asarray(nbytes) / 2.0) / total
        return [list(threads)[i] for i in np.minimum(np.searchsorted(ends, middles), len(threads) - 1)]

    def kept(
        self, tasks: dict[str, Any], places: Mapping[str, str], keys: Sequence[str]
    ) -> tuple[Cluster, list[Any]]:
        """Run tasks whose results stay on their workers; return the cluster that holds these, and futures."""
        other = Cluster(self._client)
        futures = other._submitted(tasks, places, keys, allow_other_workers=True)
        with self._cancelling(futures):
            other._wait(futures)
            other._remember(futures)
        return other, futures

    def places(self, chunks: Sequence[Any]) -> list[str]:
        """Return the worker of each chunk."""
        return [self._holders[chunk.key] for chunk in chunks]

    def relocate_chunks(self, chunks: Sequence[Any]) -> None:
        """Wait until Dask has computed lost chunks again, and note their workers."""
        self._wait(chunks)
        self._remember(chunks)

    def _remember(self, chunks: Sequence[Any]) -> None:
        self._holders = dict(zip((chunk.key for chunk in chunks), self._find(chunks), strict=True))

    def _find(self, futures: Sequence[Any]) -> list[str]:
        """Return the worker that holds each future."""
        while True:
            holders = self._client.who_has(list(futures))
            if all(holders[future.key] for future in futures):
                return [holders[future.key][0] for future in futures]
            self._wait(futures)  # lost in the meantime
            self._look(())

    def free(self) -> dict[str, float]:
        """Return the bytes that each worker can still hold."""
        return {
            worker: max(0.0, FILLED * (told["memory_limit"] or np.inf) - told["metrics"].get("memory", 0))
            for worker, told in workers_of(self._client).items()
        }

    # Tasks

    def results(self, tasks: dict[str, Any], places: Mapping[str, str], keys: Sequence[str]) -> list[Any]:
        """Run tasks, each on its worker in `places`, if any, and return results; may raise WorkerLost."""
        futures = self._submitted(tasks, places, keys)
        used = set(places.values())
        with self._cancelling(futures):
            self._wait(futures, used=used)
            return self._gathered(futures, used)

    @contextlib.contextmanager
    def _cancelling(self, futures: list[Any]) -> Iterator[None]:
        """Cancel the futures on an error or Ctrl-C, even if its traceback still refers to them."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):  # the client may be gone too
                self._client.cancel(futures)
            raise

    def _gathered(self, futures: Sequence[Any], used: set[str]) -> list[Any]:
        """Return the results that the futures hold."""

        async def gather() -> list[Any]:
            return list(await self._client.gather(list(futures), asynchronous=True))

        try:
            return self._watched(gather, used)
        except CancelledError as error:
            self._cancelled(used, error)

    def _submitted(
        self, tasks: dict[str, Any], places: Mapping[str, str], keys: Sequence[str], **more: Any
    ) -> list[Any]:
        from dask.base import annotate

        self._require_scheduler()
        with annotate(workers=lambda key: places.get(key, []), **more):
            return list(self._client.get(tasks, list(keys), sync=False))

    def placed(self, parts: Sequence[Any], chunks: Sequence[Any]) -> list[Any]:
        """Send one array to the worker of each chunk, and return futures of these arrays."""
        futures: list[Any] = []
        for worker, group in _runs(self.places(chunks)):
            futures += self._scatter([parts[c] for c in group], [worker])
        return futures

    def scattered(self, value: Any, *, everywhere: bool = False) -> Any:
        """Send a value to one worker, from which others fetch it, or to all; return a future of it."""
        return self._scatter([value], None, broadcast=everywhere)[0]

    def _scatter(self, values: list[Any], workers: list[str] | None, *, broadcast: bool = False) -> list[Any]:
        self._require_scheduler()
        try:
            return list(self._client.scatter(values, workers=workers, hash=False, broadcast=broadcast))
        except Exception as error:  # sending to a worker that has gone may raise anything
            self._look(set(workers or ()))
            raise WorkerLost from error


def _secede() -> None:
    """Free the thread for other tasks, if this is a task on the cluster: a fit waits for the same workers."""
    from distributed import get_worker, secede

    with contextlib.suppress(ValueError, KeyError):  # not in a task, or in one that has seceded
        get_worker()
        secede()


def _key(what: str) -> str:
    return f"fastcov-{what}-{uuid.uuid4().hex}"


def _runs(where: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Yield each run of neighbouring places with the same worker, as the worker and the places."""
    first = 0
    for c in range(1, len(where) + 1):
        if c == len(where) or where[c] != where[first]:
            yield where[first], list(range(first, c))
            first = c
