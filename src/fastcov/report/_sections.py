"""What a page is made of: sections of sentences, tables and figures."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches. The wide one fills a page of a screen or of paper, the narrow one a phone, so that letters of 9
# points are legible on both.
WIDE, NARROW = 9.0, 4.2
# Sharp where a screen has two dots for each pixel of a page 860 wide, or of a phone.
DPI = 180
# Letters of a cell, of which four fit beside each other on a phone.
_SHORT = 8
# Columns of a table that has no room for another beside it.
_COLUMNS = 4


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table of a fit: what it is called, its value, what that means."""

    name: str
    value: str
    meaning: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells under a head; the first column names the rows."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure, drawn twice: ``draw(figure)`` gets an empty one, wide or narrow, of these heights in inches.

    `alt` says in words what is to be seen, for those who cannot.
    """

    heading: str
    alt: str
    caption: str
    draw: Callable[[Figure], object]
    heights: tuple[float, float] = (3.2, 3.4)

    def sources(self) -> tuple[str, str]:
        """The wide and the narrow image, as data URIs."""
        wide, narrow = zip((WIDE, NARROW), self.heights, strict=True)
        return self._source(*wide), self._source(*narrow)

    def _source(self, width: float, height: float) -> str:
        import PIL.Image  # matplotlib needs it, too

        from ..plot._style import new_figure

        figure, file = new_figure(width, height), io.BytesIO()
        self.draw(figure)
        # Without transparency, which no figure has, and packed as well as PNG can: a page is to be small.
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
        """Whether two of its tables have room beside each other on a phone."""
        return all(
            len(row) <= 2 and all(len(cell) <= _SHORT for cell in row)
            for table in self.tables
            for row in (table.head, *table.rows)
        )

    @property
    def broad(self) -> bool:
        """Whether its tables need the width of a page."""
        return any(len(table.head) >= _COLUMNS for table in self.tables)


@dataclasses.dataclass(frozen=True)
class Headline:
    """What a reader should know in ten seconds.

    `verdict` is one word, `kind` "good", "bad" or "open"; `tiles` are numbers with what they are compared to.
    """

    verdict: str
    kind: str
    sentences: Sequence[str]
    tiles: Sequence[Row]
    warnings: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Part:
    """All about the fit of one target; `heading` is empty where there is only one."""

    heading: str
    headline: Headline
    sections: Sequence[Section]
