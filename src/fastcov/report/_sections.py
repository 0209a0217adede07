"""The parts of a page: sections of sentences, tables and figures."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Widths of figures in inches. The wide one fills a page on a screen or on paper, the narrow one a phone, so
# that letters of 9 points are legible on both.
WIDE, NARROW = 9.0, 4.2
# Dots per inch, enough for a sharp image on a screen with two dots per pixel, on a page 860 pixels wide or on
# a phone.
DPI = 180
# Letters in a cell such that four cells fit side by side on a phone.
_SHORT = 8
# Number of columns from which a table has no room for another beside it.
_COLUMNS = 4


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table: a name, its value, and the meaning of that."""

    name: str
    value: str
    meaning: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells under a head; the first column names the rows."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure that is drawn twice, wide and narrow, with these `heights` in inches.

    ``draw(figure)`` draws into an empty figure. `alt` describes the figure for those who cannot see it.
    """

    heading: str
    alt: str
    caption: str
    draw: Callable[[Figure], object]
    heights: tuple[float, float] = (3.2, 3.4)

    def sources(self) -> tuple[str, str]:
        """Return the wide and the narrow image as data URIs."""
        wide, narrow = zip((WIDE, NARROW), self.heights, strict=True)
        return self._source(*wide), self._source(*narrow)

    def _source(self, width: float, height: float) -> str:
        import PIL.Image  # matplotlib depends on it, too

        from ..plot._style import new_figure

        figure, file = new_figure(width, height), io.BytesIO()
        self.draw(figure)
        # Drop the alpha channel, since no figure is transparent, and compress as far as PNG can, for a small
        # page.
        figure.savefig(file, format="png", dpi=DPI)
        image = PIL.Image.open(file).convert("RGB")
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page, shown in this order: warnings, sentences, figures, rows, tables, notes."""

    heading: str
    sentences: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    rows: Sequence[Row] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def slim(self) -> bool:
        """Whether two of the section's tables fit side by side on a phone."""
        return all(
            len(row) <= 2 and all(len(cell) <= _SHORT for cell in row)
            for table in self.tables
            for row in (table.head, *table.rows)
        )

    @property
    def broad(self) -> bool:
        """Whether the section's tables need the full width of a page."""
        return any(len(table.head) >= _COLUMNS for table in self.tables)


@dataclasses.dataclass(frozen=True)
class Headline:
    """The part of a page that a reader should take in within ten seconds.

    `verdict` is a short phrase, and `kind` is "good", "bad" or "open"; `tiles` are numbers, each with others
    to compare it with.
    """

    verdict: str
    kind: str
    sentences: Sequence[str]
    tiles: Sequence[Row]
    warnings: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Part:
    """The part of a page about the fit of one target; `heading` is empty if there is only one."""

    heading: str
    headline: Headline
    sections: Sequence[Section]
