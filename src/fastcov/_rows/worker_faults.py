"""Wait for a Dask cluster, and diagnose what is wrong with it.

If a task is bound to a worker, Dask waits for that worker for ever, even when it is gone. Functions that wait
here therefore check the workers and the scheduler in the meantime.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

# Seconds between checks of the workers; how long a scheduler may be away, and how long it may leave a
# question unanswered; how long all workers may be away, as while a nanny starts another; and how long a
# worker may be paused because it is short of memory.
LOOK, SCHEDULER_AWAY, SCHEDULER_SILENT, WORKERS_AWAY, PAUSED = 0.5, 3.0, 8.0, 15.0, 10.0
# Seconds between checks of the state of the workers, of which there may be a thousand.
TOLD = 2.0


class WorkerLost(Exception):
    """A worker that held data has gone: the data must be found elsewhere or computed again."""


def workers_of(client: Any) -> dict[str, Any]:
    """Return what the scheduler last reported about each worker."""
    try:
        info = client.scheduler_info(n_workers=-1)
    except TypeError:  # before Dask 2025 it reports all workers
        info = client.scheduler_info()
    return dict(info["workers"])


def unreadable(name: str, where: str, error: BaseException) -> Exception:
    """Make the error for an array that cannot be computed, of the same kind as its cause."""
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    kind = OSError if isinstance(error, OSError) else RuntimeError
    return kind(
        f"Argument '{name}' must be intact, and {where} could not be computed ({cause}): see that what it is "
        "made from can be read, on each worker."
    )


class MonitoredClient:
    """A client, and ways to wait for its work; `_holders` are the workers that hold the needed chunks."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.address = str(getattr(client.scheduler, "address", "an unknown address"))
        self._holders: dict[str, str] = {}  # worker by key of a chunk
        self._since: dict[str, float] = {}  # when each problem was first noticed
        self._told = 0.0  # when the state of the workers was last checked

    def _threads(self) -> dict[str, int]:
        """Return the threads of each present worker; the scheduler must answer within SCHEDULER_SILENT."""
        ask = self._client.scheduler.ncores
        return dict(self._client.sync(ask, workers=None, callback_timeout=SCHEDULER_SILENT))

    def _watched(self, work: Callable[[], Coroutine[Any, Any, T]], used: set[str] | tuple[()]) -> T:
        """Run work of the client, and check the cluster meanwhile: Dask waits for ever for lost workers."""
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
            del coming  # its error would keep this frame, and those of all callers, alive

    def _wait(
        self, futures: Sequence[Any], name: str = "X", used: set[str] | tuple[()] = (),
        rows: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """Wait until all futures are finished; raise the error of a task or of the cluster.

        `used` are the workers without which the futures cannot be computed. If chunks are loaded, `rows` are
        the first row of each, and the end.
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
        except Exception:  # a closed client may raise anything
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
        """Raise the error of a task, and name the rows that it concerns."""
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
        """Raise if a worker in use, all workers or the scheduler have gone, or one is short of memory."""
        self._require_scheduler()
        workers = self._workers_now()
        if set(used) - set(workers):
            raise WorkerLost
        if self._persists("workers", not workers, WORKERS_AWAY):
            raise RuntimeError(f"The cluster at {self.address} has lost all of its workers: start others.")
        if time.monotonic() - self._told < TOLD:
            return
        self._told = time.monotonic()
        needed = set(used) or set(self._holders.values()) or set(workers)
        paused = sorted(
            worker for worker, told in workers_of(self._client).items()
            if worker in needed and told.get("status") == "paused"
        )  # fmt: skip
        if self._persists("paused", bool(paused), PAUSED):
            raise MemoryError(
                f"The worker at {paused[0]} is short of memory and does no more: use more workers, smaller "
                "chunks, or float32."
            )

    def _workers_now(self) -> dict[str, int]:
        try:
            return self._threads()
        except Exception as error:  # a lost connection may raise anything
            raise self._away() from error

    def _persists(self, what: str, wrong: bool, seconds: float) -> bool:
        """Return whether a problem is present, and has been for more than `seconds`."""
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
        """Raise an error for the cause of a cancelled task: a worker that has gone, or a call to cancel."""
        self._look(used)
        if used:  # chunks may still exist, and their results can be computed again
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
