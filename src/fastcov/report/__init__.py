"""Report a fit, or a study of held-out conditions, on one HTML page for a screen, a phone and paper.

    fit.report("report.html", cv=cv)
    cv.report("study.html")

Needs jinja2 and matplotlib: pip install "fastcov-gains[report]".
"""

from ._page import require, write, write_study

__all__ = ["require", "write", "write_study"]
