"""What is asked of a Dask cluster: chunks loaded and held, tasks on the workers that hold them, faults told.

Tasks on chunks are bound to the worker that has the chunk: nothing large moves, and nothing is stolen. Dask
would wait for such a worker for ever once it is gone, so whoever waits here looks after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, NoReturn, TypeVar

import numpy as np

T = TypeVar("T")

# Seconds between looks at the workers; that a scheduler may be away, and that it may leave a question without
# an answer; that workers may all be away, as while a nanny starts another; and that one may be paused for
# want of memory.
LOOK, SCHEDULER_AWAY, SCHEDULER_SILENT, WORKERS_AWAY, PAUSED = 0.5, 3.0, 8.0, 15.0, 10.0
# Share of a worker's memory that may be filled: at 0.6 it begins to write to disk what it holds.
FILLED = 0.6


class WorkerLost(Exception):
    """A worker that held something has gone: what it held has to be found or made again."""


def client_of(name: str, X: Any) -> Any:
    """The client of dask.distributed that X would be computed by; None where that is a local scheduler."""
    from dask.base import get_scheduler

    try:
        client = getattr(get_scheduler(collections=[X]), "__self__", None)
        waits = not getattr(client, "asynchronous", False)
    except RuntimeError:  # so Dask says it
        waits = False
    if not waits:
        raise TypeError(
            f"Argument '{name}' must be computed by a client that waits, not by an asynchronous one: use "
            "Client(address)."
        )
    library = sys.modules.get("distributed")
    return client if library is not None and isinstance(client, library.Client) else None


def workers_of(client: Any) -> dict[str, Any]:
    """What the scheduler last said of each worker."""
    try:
        info = client.scheduler_info(n_workers=-1)
    except TypeError:  # before Dask 2025 it tells of all
        info = client.scheduler_info()
    return dict(info["workers"])


def smallest_memory(client: Any) -> float:
    """Bytes that the smallest worker may use."""
    return min((told["memory_limit"] or np.inf for told in workers_of(client).values()), default=np.inf)


def versions() -> dict[str, str]:
    """What has to be the same here and there: the functions, and how they and arrays are sent."""
    from . import __version__

    return {
        "fastcov": __version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "NumPy": np.__version__.split(".")[0],
    }


def unreadable(name: str, where: str, error: BaseException) -> Exception:
    """What is said of an array that cannot be computed, in the kind of its cause."""
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    kind = OSError if isinstance(error, OSError) else RuntimeError
    return kind(
        f"Argument '{name}' must be intact, and {where} could not be computed ({cause}): see that what it is "
        "made from can be read, on each worker."
    )


class Cluster:
    """The workers of a client, as far as they hold chunks of one array."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._holders: dict[str, str] = {}  # worker by key of a chunk
        self._since: dict[str, float] = {}  # when something was first found wrong

    @classmethod
    def of(cls, client: Any) -> Cluster:
        """With workers that are there, and of the same version."""
        self = cls(client)
        if not self._threads():
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

    @property
    def address(self) -> str:
        return str(getattr(self._client.scheduler, "address", "an unknown address"))

    def _threads(self) -> dict[str, int]:
        """Threads of each worker that is there, if the scheduler says so soon."""
        ask = self._client.scheduler.ncores
        return dict(self._client.sync(ask, workers=None, callback_timeout=SCHEDULER_SILENT))

    # Chunks

    def loaded(self, name: str, X: Any, nbytes: Sequence[int], convert: Callable[..., Any]) -> list[Any]:
        """Futures of what `convert` makes of each chunk, that takes so many bytes: loaded once, and evenly.

        `convert` is given the name, the first row, the shape and the chunk. Chunks that are on the workers
        stay there.
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
        """A worker for each chunk: as many bytes for each thread, chunks beside each other on one worker."""
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
        """Futures of tasks whose results stay where they are made, and the workers as far as these go."""
        other = Cluster(self._client)
        futures = other._submitted(tasks, places, keys, allow_other_workers=True)
        with self._cancelling(futures):
            other._wait(futures)
            other._remember(futures)
        return other, futures

    def places(self, chunks: Sequence[Any]) -> list[str]:
        """The worker of each chunk."""
        return [self._holders[chunk.key] for chunk in chunks]

    def found_again(self, chunks: Sequence[Any]) -> None:
        """Wait until chunks that were lost are there again, made anew by Dask, and see where."""
        self._wait(chunks)
        self._remember(chunks)

    def _remember(self, chunks: Sequence[Any]) -> None:
        self._holders = dict(zip((chunk.key for chunk in chunks), self._find(chunks), strict=True))

    def _find(self, futures: Sequence[Any]) -> list[str]:
        """The worker that has each."""
        while True:
            holders = self._client.who_has(list(futures))
            if all(holders[future.key] for future in futures):
                return [holders[future.key][0] for future in futures]
            self._wait(futures)  # lost since
            self._look(())

    def free(self) -> dict[str, float]:
        """Bytes that each worker may still fill."""
        return {
            worker: max(0.0, FILLED * (told["memory_limit"] or np.inf) - told["metrics"].get("memory", 0))
            for worker, told in workers_of(self._client).items()
        }

    # Tasks

    def results(self, tasks: dict[str, Any], places: Mapping[str, str], keys: Sequence[str]) -> list[Any]:
        """What tasks give, each on the worker in `places`, if there is one; raises WorkerLost."""
        futures = self._submitted(tasks, places, keys)
        used = set(places.values())
        with self._cancelling(futures):
            self._wait(futures, used=used)
            return self._gathered(futures, used)

    @contextlib.contextmanager
    def _cancelling(self, futures: list[Any]) -> Iterator[None]:
        """An error, or Ctrl-C, leaves none of them behind, whoever holds on to its traceback."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):  # the client may be gone as well
                self._client.cancel(futures)
            raise

    def _gathered(self, futures: Sequence[Any], used: set[str]) -> list[Any]:
        """What they hold."""

        async def gather() -> list[Any]:
            return list(await self._client.gather(list(futures), asynchronous=True))

        try:
            return self._watched(gather, used)
        except CancelledError as error:
            self._cancelled(used, error)

    def _watched(self, work: Callable[[], Coroutine[Any, Any, T]], used: set[str] | tuple[()]) -> T:
        """What comes of work of the client, looked after meanwhile: Dask waits for what is lost for ever."""
        coming = asyncio.run_coroutine_threadsafe(work(), self._client.loop.asyncio_loop)
        try:
            while True:
                try:
                    return coming.result(LOOK)
                except TimeoutError:
                    if coming.done():
                        raise
                self._look(used)
        finally:
            coming.cancel()
            del coming  # an error that it holds would hold this frame, and all that called it

    def _submitted(
        self, tasks: dict[str, Any], places: Mapping[str, str], keys: Sequence[str], **more: Any
    ) -> list[Any]:
        from dask.base import annotate

        self._require_scheduler()
        with annotate(workers=lambda key: places.get(key, []), **more):
            return list(self._client.get(tasks, list(keys), sync=False))

    def placed(self, parts: Sequence[Any], chunks: Sequence[Any]) -> list[Any]:
        """Futures of arrays, each on the worker of a chunk."""
        futures: list[Any] = []
        for worker, group in _runs(self.places(chunks)):
            futures += self._scatter([parts[c] for c in group], [worker])
        return futures

    def scattered(self, value: Any, *, everywhere: bool = False) -> Any:
        """A future of a value on some worker, from which others have it, or on all."""
        return self._scatter([value], None, broadcast=everywhere)[0]

    def _scatter(self, values: list[Any], workers: list[str] | None, *, broadcast: bool = False) -> list[Any]:
        self._require_scheduler()
        try:
            return list(self._client.scatter(values, workers=workers, hash=False, broadcast=broadcast))
        except Exception as error:  # to a worker that has gone, of whatever kind
            self._look(set(workers or ()))
            raise WorkerLost from error

    # Faults

    def _wait(
        self, futures: Sequence[Any], name: str = "X", used: set[str] | tuple[()] = (),
        rows: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """Until all are there; an error of a task, or of the cluster, is raised.

        `used` are workers without which they cannot be made; `rows` the first of each, and the end, of
        chunks that are loaded.
        """
        from distributed import wait

        async def finished() -> None:
            with self._client.as_current():
                await wait(list(futures))

        try:
            self._watched(finished, used)
        except CancelledError as error:
            self._cancelled(used, error)
        except (KeyboardInterrupt, WorkerLost, MemoryError):
            raise
        except Exception:  # of a client that has been closed it may be anything
            self._require_scheduler()
            raise
        self._since.clear()
        failed = next((c for c, future in enumerate(futures) if future.status != "finished"), None)
        if failed is None:
            return
        if futures[failed].status != "error":
            self._cancelled(used, None)
        where = f"its rows {rows[failed]} to {rows[failed + 1] - 1}" if rows else ""
        self._fail(futures[failed].exception(), name, where)

    def _fail(self, raised: BaseException, name: str, where: str) -> NoReturn:
        """Raise the error of a task, and say of what."""
        from distributed.scheduler import KilledWorker

        if isinstance(raised, KilledWorker):
            raise MemoryError(
                f"Workers at {self.address} died one after another while they held '{name}', most likely for "
                "want of memory: use more workers, smaller chunks, or float32."
            ) from raised
        if not where or str(raised).startswith(f"Argument '{name}' must"):
            raise raised
        if isinstance(raised, MemoryError):
            raise MemoryError(
                f"A worker at {self.address} has no memory for '{name}', {where}: use more workers, smaller "
                "chunks, or float32."
            ) from raised
        raise unreadable(name, where, raised) from raised

    def _look(self, used: set[str] | tuple[()]) -> None:
        """Raise if a worker in use, all workers, or the scheduler have gone, or one is short of memory."""
        self._require_scheduler()
        workers = self._workers_now()
        if set(used) - set(workers):
            raise WorkerLost
        if self._for_long("workers", not workers, WORKERS_AWAY):
            raise RuntimeError(f"The cluster at {self.address} has lost all of its workers: start others.")
        paused = sorted(w for w, told in workers_of(self._client).items() if told.get("status") == "paused")
        if self._for_long("paused", bool(paused), PAUSED):
            raise MemoryError(
                f"The worker at {paused[0]} is short of memory and does no more: use more workers, smaller "
                "chunks, or float32."
            )

    def _workers_now(self) -> dict[str, int]:
        try:
            return self._threads()
        except Exception as error:  # of whatever kind, from a connection that has gone
            raise self._away() from error

    def _for_long(self, what: str, wrong: bool, seconds: float) -> bool:
        """Whether something is, and has been found, wrong for so long."""
        if not wrong:
            self._since.pop(what, None)
            return False
        return time.monotonic() - self._since.setdefault(what, time.monotonic()) > seconds

    def _require_scheduler(self) -> None:
        if self._client.status in ("closed", "closing"):
            raise RuntimeError(
                f"The client of the cluster at {self.address} has been closed, or its scheduler has gone: "
                "connect again with Client(address)."
            )
        if self._client.status == "connecting":
            deadline = time.monotonic() + SCHEDULER_AWAY
            while self._client.status == "connecting" and time.monotonic() < deadline:
                time.sleep(0.05)
            if self._client.status != "running":
                raise self._away()

    def _away(self) -> RuntimeError:
        return RuntimeError(
            f"The scheduler at {self.address} does not answer any more: see its log, and connect again."
        )

    def _cancelled(self, used: set[str] | tuple[()], error: BaseException | None) -> NoReturn:
        """Raise what it is that cancelled a task: a worker that has gone, or somebody."""
        self._look(used)
        if used:  # chunks may be there still, and what was made of them can be made again
            raise WorkerLost
        raise RuntimeError(
            f"Tasks at {self.address} were cancelled, by client.cancel or by a restart of the cluster: begin "
            "again."
        ) from error

    def too_many_lost(self, times: int) -> RuntimeError:
        return RuntimeError(
            f"The cluster at {self.address} lost workers {times} times during one pass: see the logs of its "
            "workers."
        )


def _key(what: str) -> str:
    return f"fastcov-{what}-{uuid.uuid4().hex}"


def _runs(where: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Each worker with the places of what it has that are beside each other."""
    first = 0
    for c in range(1, len(where) + 1):
        if c == len(where) or where[c] != where[first]:
            yield where[first], list(range(first, c))
            first = c
