"""Place ridges on a logarithmic axis that also has room for a ridge of 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

# Largest number of ridges that are labelled one by one if they span less than a decade and a half.
_FEW = 6


class RidgeScale:
    """A logarithmic axis of ridges on which 0 has its own place, left of all others."""

    def __init__(self, ridges: Array) -> None:
        positive = np.unique(ridges[ridges > 0])
        self._ridges = positive if len(positive) else np.ones(1)
        self._zero = len(positive) < len(np.unique(ridges))
        self._first, self._last = np.log10(self._ridges[[0, -1]])
        step = max(0.3, (self._last - self._first) / 8)
        self._left = self._first - step if self._zero and len(positive) else self._first
        self._only_zero = not len(positive)

    def __call__(self, ridges: Array) -> Array:
        return np.where(ridges > 0, ridges, 10.0**self._left)

    def apply(self, ax: Axes, relative: bool, more: str = "") -> None:
        from matplotlib.ticker import FixedLocator, NullFormatter

        span = self._last - self._left
        room = 0.04 * span or 0.5
        ax.set_xscale("log")
        ax.set_xlim(10.0 ** (self._left - room), 10.0 ** (self._last + room))
        ticks, names = self._ticks()
        if self._zero:
            ticks, names = [10.0**self._left, *ticks], ["0", *names]
            if not self._only_zero:  # the axis has no scale between 0 and the other ridges
                ax.axvline(10.0 ** ((self._left + self._first) / 2), color="0.8", linewidth=1, zorder=0)
        ax.set_xticks(ticks, names)
        minor = [m * 10.0**e for e in range(*self._decades(1)) for m in range(2, 10)] if span > 1 else []
        ax.xaxis.set_minor_locator(
            FixedLocator([m for m in minor if self._first <= np.log10(m) <= self._last])
        )
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(f"ridge λ{' / largest eigenvalue' if relative else ''}{more}", fontsize=9)

    def _decades(self, more: int) -> tuple[int, int]:
        return int(np.floor(self._first)), int(np.ceil(self._last)) + more

    def _ticks(self) -> tuple[list[float], list[str]]:
        if self._only_zero:
            return [], []
        if self._last - self._first < 1.5:
            few = self._ridges[:: -(-len(self._ridges) // _FEW)]
            return few.tolist(), [f"{ridge:.3g}" for ridge in few]
        decades = [e for e in range(*self._decades(1)) if self._first - 1e-9 <= e <= self._last + 1e-9]
        decades = decades[:: -(-len(decades) // 10)]
        return [10.0**e for e in decades], [f"$10^{{{e}}}$" for e in decades]
