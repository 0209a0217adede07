"""Write the page of `fastcov cv` and `fastcov test`."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import click


def check_page(report: str | None, read: Sequence[str | None]) -> pathlib.Path | None:
    """Return the path of the page; check it before anything is read."""
    if report is None:
        return None
    from .._inputs.files import check_output
    from ..report import require

    page = check_output(report, (".html",), name="--report", read=[file for file in read if file is not None])
    require()
    return page


def save_page(study: Any, page: pathlib.Path | None, x: str, y: str | None) -> None:
    if page is None:
        return
    first, second = (pathlib.Path(file).name for file in (x, str(y)))
    study.report(page, title=f"Prediction of held-out conditions: {first} to {second}")
    click.echo(f"Saved the report to {page}", err=True)
