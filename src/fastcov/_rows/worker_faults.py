"""Waiting for a Dask cluster, and telling what is wrong with it.

Dask waits for a worker that a task is bound to for ever, also once it is gone; so whoever waits here looks
after the workers, and the scheduler.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

# Seconds between looks at the workers; that a scheduler may be away, and that it may leave a question without
# an answer; that workers may all be away, as while a nanny starts another; and that one may be paused for
# want of memory.
LOOK, SCHEDULER_AWAY, SCHEDULER_SILENT, WORKERS_AWAY, PAUSED = 0.5, 3.0, 8.0, 15.0, 10.0
# And between looks at how the workers are, of which there may be a thousand.
TOLD = 2.0


class WorkerLost(Exception):
    """A worker that held something has gone: what it held has to be found or made again."""


def workers_of(client: Any) -> dict[str, Any]:
    """What the scheduler last said of each worker."""
    try:
        info = client.scheduler_info(n_workers=-1)
    except TypeError:  # before Dask 2025 it tells of all
        info = client.scheduler_info()
    return dict(info["workers"])


def unreadable(name: str, where: str, error: BaseException) -> Exception:
    """What is said of an array that cannot be computed, in the kind of its cause."""
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    kind = OSError if isinstance(error, OSError) else RuntimeError
    return kind(
        f"Argument '{name}' must be intact, and {where} could not be computed ({cause}): see that what it is "
        "made from can be read, on each worker."
    )


class Watched:
    """A client whose work is waited for; `holders` are the workers that hold what is needed."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.address = str(getattr(client.scheduler, "address", "an unknown address"))
        self._holders: dict[str, str] = {}  # worker by key of a chunk
        self._since: dict[str, float] = {}  # when something was first found wrong
        self._told = 0.0  # when workers were last asked how they are

    def _threads(self) -> dict[str, int]:
        """Threads of each worker that is there, if the scheduler says so soon."""
        ask = self._client.scheduler.ncores
        return dict(self._client.sync(ask, workers=None, callback_timeout=SCHEDULER_SILENT))

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
        if time.monotonic() - self._told < TOLD:
            return
        self._told = time.monotonic()
        needed = set(used) or set(self._holders.values()) or set(workers)
        paused = sorted(
            worker for worker, told in workers_of(self._client).items()
            if worker in needed and told.get("status") == "paused"
        )  # fmt: skip
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
