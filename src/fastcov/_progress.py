"""A bar on a terminal for work that lasts, and nothing anywhere else."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._solvers import Progress

# Seconds of work before a bar appears.
DELAY = 1.0
# Whether a bar is watched already: work inside other work has none of its own.
_busy = threading.Lock()
_FORMAT = "fastcov {desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left"


@contextlib.contextmanager
def watching(callback: Callable[[Progress], object] | None) -> Iterator[Callable[[Progress], object]]:
    """What to tell of progress: a bar if stderr is a terminal, and `callback`."""
    if callback is not None and not callable(callback):
        raise TypeError(f"Argument 'callback' must be a function of a Progress, not {callback!r}.")
    if sys.stderr is None or not sys.stderr.isatty() or not _busy.acquire(blocking=False):
        yield (lambda _: None) if callback is None else callback
        return
    started = time.monotonic()
    bar: Any = None
    stage = ""

    def watch(progress: Progress) -> None:
        nonlocal bar, stage
        if bar is not None and stage != progress.stage:
            bar.close()
            bar = None
        stage = progress.stage
        text = stage
        if progress.iteration is not None:
            text += f" {progress.iteration}, residual {progress.residual:.1e}"
        if bar is None and time.monotonic() - started >= DELAY:
            from tqdm import tqdm

            size = shutil.get_terminal_size()  # some terminals say they have no rows, and show nothing
            bar = tqdm(
                desc=text, total=1.0, initial=progress.done, leave=False, file=sys.stderr,
                bar_format=_FORMAT, ncols=size.columns - 1, nrows=size.lines,
            )  # fmt: skip
        if bar is not None:
            bar.set_description_str(text, refresh=False)
            bar.update(progress.done - bar.n)
        if callback is not None:
            callback(progress)

    try:
        yield watch
    finally:
        _busy.release()
        if bar is not None:
            bar.close()
