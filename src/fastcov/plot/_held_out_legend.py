"""Draw the legend of scores on held-out conditions, fitted to axes of any size."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Size of axes in inches below which letters are small and legend entries short.
SMALL_WIDTH, SMALL_HEIGHT = 4.0, 2.9
# Numbers of columns and font sizes in points, in the order in which they are tried, for large and small axes.
_TRIED = {
    False: ((2, 9.0), (1, 9.0), (1, 8.0)),
    True: ((2, 9.0), (2, 8.0), (2, 7.0), (2, 6.0), (2, 5.5), (1, 6.0), (1, 5.0)),
}
# Height of a figure in inches, such as one for a phone, from which letters need not be small.
_TALL = 4.0
# Largest share of the height for a legend inside the axes.
_MOST = 0.6


@dataclasses.dataclass(frozen=True)
class Entry:
    """A legend entry: its text in full and in short, and its handle."""

    full: str
    short: str
    handle: Any


def is_small(ax: Axes) -> bool:
    """Return whether axes have the size for a column of a paper, or for a phone."""
    figure = ax.figure
    box = ax.get_position()
    width, height = (size / figure.dpi for size in (figure.bbox.width, figure.bbox.height))
    return bool(box.width * width < SMALL_WIDTH or box.height * height < SMALL_HEIGHT)


def letters(ax: Axes, small: bool) -> float:
    """Return the font size of labels, in points."""
    return 9.0 if not small or ax.figure.bbox.height / ax.figure.dpi >= _TALL else 7.0


def draw_legend(ax: Axes, entries: list[Entry], place: str, small: bool) -> None:
    """Draw the legend above the axes, or inside at the top, with the range extended to make room."""
    figure: Any = ax.figure
    root = getattr(figure, "figure", figure) or figure
    where: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.03), "borderaxespad": 0}
    if place == "inside":
        where = {"loc": "upper left", "borderaxespad": 0.2}
    spacing: dict[str, Any] = {"labelspacing": 0.3, "handlelength": 1.6} if small else {}
    tried = [(columns, points) for columns, points in _TRIED[small] if points <= letters(ax, small)]
    for k, (columns, points) in enumerate(tried):
        legend = ax.legend(
            [entry.handle for entry in entries], [entry.short if small else entry.full for entry in entries],
            ncols=columns, fontsize=points, frameon=False, handletextpad=0.5, columnspacing=1.2,
            **spacing, **where,
        )  # fmt: skip
        # A legend knows its own size even before the figure is laid out.
        root.draw_without_rendering()
        box, room = legend.get_window_extent(), ax.get_window_extent()
        right = room.x1 if place == "inside" else figure.bbox.x1
        fits = box.x1 <= right + 1 and (place == "above" or box.height <= _MOST * room.height)
        if fits or k == len(tried) - 1:
            break
    if place == "inside":
        low, high = ax.get_ylim()
        ax.set_yticks([tick for tick in ax.get_yticks() if low <= tick <= high])  # no ticks beside the legend
        share = min(_MOST, (box.height + 4) / room.height)
        ax.set_ylim(low, low + (high - low) / (1 - share))
