"""Operations on a Dask cluster: load and hold chunks, and run tasks on the workers that hold them.

A task on a chunk is bound to the worker that holds it: no large data move, and no task is stolen.
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

from .worker_faults import Watched, WorkerLost, workers_of

# Fraction of a worker's memory that may be filled: at 0.6 a worker begins to spill its data to disk.
FILLED = 0.6


def client_of(name: str, X: Any) -> Any:
    """The client of dask.distributed that would compute X; None if a local scheduler would."""
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
    """The client of a worker, which it creates on request; None outside of a task."""
    from distributed import get_client, get_worker

    try:
        get_worker()
    except ValueError:
        return None
    return get_client()


def smallest_memory(client: Any) -> float:
    """Bytes that the smallest worker may use."""
    return min((told["memory_limit"] or np.inf for told in workers_of(client).values()), default=np.inf)


def versions() -> dict[str, str]:
    """Versions that must agree here and on the workers: of the functions, and of how data are serialised."""
    from .._version import __version__

    return {
        "fastcov": __version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "NumPy": np.__version__.split(".")[0],
    }


class Cluster(Watched):
    """The workers of a client that hold chunks of one array."""

    @classmethod
    def of(cls, client: Any) -> Cluster:
        """The cluster of a client; raises unless it has workers, and they have the same versions."""
        self = cls(client)
        _leave_thread()
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
        """Futures of converted chunks, each loaded once and spread evenly by their sizes `nbytes`.

        `convert` is called with the name, the first row, the shape and the chunk. Chunks that are already on
        workers stay there.
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
        """A worker for each chunk, with equal bytes for each thread and neighbouring chunks together."""
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
        """Futures of tasks whose results stay where they are computed, and the cluster that holds them."""
        other = Cluster(self._client)
        futures = other._submitted(tasks, places, keys, allow_other_workers=True)
        with self._cancelling(futures):
            other._wait(futures)
            other._remember(futures)
        return other, futures

    def places(self, chunks: Sequence[Any]) -> list[str]:
        """The worker that holds each chunk."""
        return [self._holders[chunk.key] for chunk in chunks]

    def found_again(self, chunks: Sequence[Any]) -> None:
        """Wait until Dask has recomputed chunks that were lost, and find which workers hold them."""
        self._wait(chunks)
        self._remember(chunks)

    def _remember(self, chunks: Sequence[Any]) -> None:
        self._holders = dict(zip((chunk.key for chunk in chunks), self._find(chunks), strict=True))

    def _find(self, futures: Sequence[Any]) -> list[str]:
        """The worker that holds the result of each future."""
        while True:
            holders = self._client.who_has(list(futures))
            if all(holders[future.key] for future in futures):
                return [holders[future.key][0] for future in futures]
            self._wait(futures)  # some were lost in the meantime
            self._look(())

    def free(self) -> dict[str, float]:
        """Bytes that each worker may still use."""
        return {
            worker: max(0.0, FILLED * (told["memory_limit"] or np.inf) - told["metrics"].get("memory", 0))
            for worker, told in workers_of(self._client).items()
        }

    # Tasks

    def results(self, tasks: dict[str, Any], places: Mapping[str, str], keys: Sequence[str]) -> list[Any]:
        """Results of tasks, each run on its worker in `places`, if any; raises WorkerLost if one is gone."""
        futures = self._submitted(tasks, places, keys)
        used = set(places.values())
        with self._cancelling(futures):
            self._wait(futures, used=used)
            return self._gathered(futures, used)

    @contextlib.contextmanager
    def _cancelling(self, futures: list[Any]) -> Iterator[None]:
        """Cancel all futures after an error or Ctrl-C, even if something keeps its traceback."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):  # the client may be gone too
                self._client.cancel(futures)
            raise

    def _gathered(self, futures: Sequence[Any], used: set[str]) -> list[Any]:
        """The results of futures."""

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
        """Futures of arrays, each sent to the worker of its chunk."""
        futures: list[Any] = []
        for worker, group in _runs(self.places(chunks)):
            futures += self._scatter([parts[c] for c in group], [worker])
        return futures

    def scattered(self, value: Any, *, everywhere: bool = False) -> Any:
        """A future of a value sent to one worker, from which others get it, or to all."""
        return self._scatter([value], None, broadcast=everywhere)[0]

    def _scatter(self, values: list[Any], workers: list[str] | None, *, broadcast: bool = False) -> list[Any]:
        self._require_scheduler()
        try:
            return list(self._client.scatter(values, workers=workers, hash=False, broadcast=broadcast))
        except Exception as error:  # sending to a worker that is gone may raise anything
            self._look(set(workers or ()))
            raise WorkerLost from error


def _leave_thread() -> None:
    """If this runs in a task of the cluster, leave its thread to others: a fit waits for the same workers."""
    from distributed import get_worker, secede

    with contextlib.suppress(ValueError, KeyError):  # not in a task, or in one that has already left
        get_worker()
        secede()


def _key(what: str) -> str:
    return f"fastcov-{what}-{uuid.uuid4().hex}"


def _runs(where: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Each run of neighbouring entries with the same worker: the worker, and the indices of the run."""
    first = 0
    for c in range(1, len(where) + 1):
        if c == len(where) or where[c] != where[first]:
            yield where[first], list(range(first, c))
            first = c
