"""Results as HTML for notebooks: small tables that set no colours, so that they fit every theme."""

from __future__ import annotations

import html
from collections.abc import Sequence

# Notebooks align all cells right, which suits neither names nor sentences.
_LEFT = ' style="text-align: left"'


def html_table(
    caption: str, rows: Sequence[Sequence[str]], *, head: Sequence[str] = (), notes: Sequence[str] = ()
) -> str:
    """A table whose first column names the rows, with `notes` below it. All text is escaped."""
    lines = [f"<table><caption{_LEFT}><strong>{html.escape(caption)}</strong></caption>"]
    if head:
        cells = "".join(f'<th scope="col"{_LEFT}>{html.escape(text)}</th>' for text in head)
        lines.append(f"<thead><tr>{cells}</tr></thead>")
    lines.append("<tbody>")
    for name, *values in rows:
        cells = "".join(f"<td{_LEFT}>{html.escape(text)}</td>" for text in values)
        lines.append(f'<tr><th scope="row"{_LEFT}>{html.escape(name)}</th>{cells}</tr>')
    lines.append("</tbody></table>")
    lines += [f"<p>{html.escape(note)}</p>" for note in notes]
    return "\n".join(lines)
