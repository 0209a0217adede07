"""A report of a fit: one HTML page that needs nothing else, for a screen, a phone and paper.

    fit.report("report.html")

Needs jinja2 and matplotlib: pip install "fastcov-gains[report]".
"""

from ._page import require, write

__all__ = ["require", "write"]
