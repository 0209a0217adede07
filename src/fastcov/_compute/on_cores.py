"""Compiled calls of one kind side by side on the cores, each on one."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any

import numba


class _Cancelled(BaseException):
    """Ends what is under way on another thread."""


def on_cores(
    work: Callable[[Any, Callable[[Any], object]], object],
    parts: Sequence[Any],
    workers: int,
    watch: Callable[[float], object],
) -> None:
    """`work` on each of the parts; `watch` is told in this thread what share of them is done.

    `work` calls what it is given now and then, which ends it after an error of another, or Ctrl-C.
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
                # Not for longer at once: a signal that comes just before a wait does not end it.
                ready, waiting = concurrent.futures.wait(waiting, 0.2, concurrent.futures.FIRST_COMPLETED)
                for future in ready:
                    future.result()
                done += len(ready)
                watch(done / len(parts))
        finally:  # what is under way ends at its next look
            cancelled = True
            pool.shutdown(cancel_futures=True)
