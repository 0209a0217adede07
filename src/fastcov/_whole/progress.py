"""One bar for many computations, each of which reports its own progress."""

from __future__ import annotations

from collections.abc import Callable

from .._compute.progress import Progress

# The stages of a computation that take most of its time, and their shares of it, one after another.
STAGES = {"folds": (0.0, 0.85), "gains": (0.85, 0.15), "groups": (0.0, 1.0), "deals": (0.0, 1.0)}


class Bar:
    """Shares of a whole, which are done one after another."""

    def __init__(self, watch: Callable[[Progress], object], total: float) -> None:
        self.watch, self.total = watch, total
        self.before = self.share = self.done = 0.0

    def step(self, share: float) -> Callable[[Progress], object]:
        """Begin the next part, a share of the total; gives the callback of its computation."""
        self.before, self.share = self.before + self.share, share
        self._tell(0.0)
        return self._told

    def _told(self, progress: Progress) -> None:
        if progress.stage in STAGES:
            first, share = STAGES[progress.stage]
            self._tell(first + share * progress.done)

    def _tell(self, done: float) -> None:
        self.done = max(self.done, min(1.0, (self.before + self.share * done) / self.total))
        self.watch(Progress("study", self.done))

    def end(self) -> None:
        self.watch(Progress("study", 1.0))
