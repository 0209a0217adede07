"""Runs calls of one compiled function side by side, each on one core."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any

import numba


class _Cancelled(BaseException):
    """Ends a call that runs on another thread."""


def on_cores(
    work: Callable[[Any, Callable[[Any], object]], object],
    parts: Sequence[Any],
    workers: int,
    watch: Callable[[float], object],
) -> None:
    """Run `work` on each of the parts. `watch` is told, in this thread, the share of parts that are done.

    `work` is given a part and a check, which it calls now and then. The check ends the work after an error
    in another part, or after Ctrl-C.
    """
    cancelled = False

    def check(_: Any) -> None:
        if cancelled:
            raise _Cancelled

    def guarded(part: Any) -> None:
        check(None)
        work(part, check)

    with concurrent.futures.ThreadPoolExecutor(
        workers, "fastcov-part", initializer=numba.set_num_threads, initargs=(1,)
    ) as pool:
        try:
            waiting, done = {pool.submit(guarded, part) for part in parts}, 0
            while waiting:
                # A short wait: a signal that comes just before a wait does not end it.
                ready, waiting = concurrent.futures.wait(waiting, 0.2, concurrent.futures.FIRST_COMPLETED)
                for future in ready:
                    future.result()
                done += len(ready)
                watch(done / len(parts))
        finally:  # parts that still run end at their next check
            cancelled = True
            pool.shutdown(cancel_futures=True)
