"""The part of a report that an explanation of the fit adds."""

from __future__ import annotations

from typing import Any

from ._sections import Section


def explanation_sections(explanation: Any) -> list[Section]:
    """Figures and tables of an explanation: none without one."""
    if explanation is None:
        return []
    raise TypeError(
        f"Argument 'explanation' must be None, not {type(explanation).__name__}: reports have no part for it."
    )
