"""Results of studies that write a page of their own."""

from __future__ import annotations

import os
import pathlib
from typing import Any


class StudyPage:
    """A study or a test with a page: its verdict, scores and figures."""

    def report(self, path: str | os.PathLike[str], *, title: str | None = None) -> pathlib.Path:
        """Write a page: the verdict, scores beside baselines, p-values and figures; see `Fit.report`.

        Parameters
        ----------
        path : path of a .html file
        title : str, optional
            The default states the numbers of channels and conditions.

        Returns
        -------
        pathlib.Path
            Path of the page.

        Raises
        ------
        ImportError
            Without jinja2 or matplotlib: pip install "fastcov-gains[report]".
        TypeError, ValueError, OSError
            If `title` is not a string, or no .html file can be written there.
        """
        from ..report import write_study

        study: Any = self
        return write_study(study, path, title=title)
