"""A bar on a terminal for work that lasts, and nothing anywhere else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

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

    bar = tqdm(total=1.0, delay=DELAY, leave=False, file=sys.stderr, bar_format=_FORMAT)

    def watch(progress: Progress) -> None:
        if progress.stage != bar.desc.strip(": ") or progress.done < bar.n:
            bar.reset(total=1.0)
            bar.set_description_str(progress.stage, refresh=False)
        if progress.iteration is not None:
            bar.set_postfix_str(
                f"iteration {progress.iteration}, residual {progress.residual:.1e}", refresh=False
            )
        bar.update(progress.done - bar.n)
        if callback is not None:
            callback(progress)

    with bar:
        yield watch
