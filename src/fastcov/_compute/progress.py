"""Progress of a long computation: calls of a callback, and a progress bar where stderr is a terminal."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

# Seconds of work before a bar appears.
DELAY = 1.0
# Held while a bar is shown: a computation inside another one shows no bar of its own.
_busy = threading.Lock()
_FORMAT = "fastcov {desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left"


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a long computation has come. A `callback` is called with it.

    Attributes
    ----------
    stage : str
        The stage that is running: "read" (a pass over a file), "factor", "precondition" or "iteration".
        Explanations also have "modes", and many fits "targets", "path", "folds",
        "gains" or "channels".
    done : float
        Share of the stage that is done, from 0 to 1. For iterations it is counted in digits of the residual.
    iteration : int or None
        Number of iterations done.
    residual : float or None
        Largest relative residual so far.
    """

    stage: str
    done: float
    iteration: int | None = None
    residual: float | None = None


def unwatched(_: Progress) -> None:
    """Ignore progress."""


@contextlib.contextmanager
def watching(callback: Callable[[Progress], object] | None) -> Iterator[Callable[[Progress], object]]:
    """Give a function that reports progress: to a bar if stderr is a terminal, and to `callback`."""
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

            size = shutil.get_terminal_size()  # with a terminal that reports no rows, tqdm shows nothing
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
