"""A bar on a terminal for work that lasts, and nothing anywhere else."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._solvers import Progress

# Seconds of work before a bar appears.
DELAY = 1.0
_FORMAT = "fastcov {desc} {percentage:3.0f}% |{bar:30}|{postfix} [{elapsed}, {remaining} left]"


@contextlib.contextmanager
def watching(callback: Callable[[Progress], object] | None) -> Iterator[Callable[[Progress], object]]:
    """What to tell of progress: a bar if stderr is a terminal, and `callback`."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield (lambda _: None) if callback is None else callback
        return
    from tqdm import tqdm

    started = time.monotonic()
    bar: Any = None

    def watch(progress: Progress) -> None:
        nonlocal bar
        if bar is not None and bar.desc != progress.stage:
            bar.close()
            bar = None
        if bar is None and time.monotonic() - started >= DELAY:
            bar = tqdm(total=1.0, initial=progress.done, leave=False, file=sys.stderr, bar_format=_FORMAT)
            bar.desc = progress.stage
        if bar is not None:
            if progress.iteration is not None:
                bar.set_postfix_str(
                    f"iteration {progress.iteration}, residual {progress.residual:.1e}", refresh=False
                )
            bar.update(progress.done - bar.n)
        if callback is not None:
            callback(progress)

    try:
        yield watch
    finally:
        if bar is not None:
            bar.close()
