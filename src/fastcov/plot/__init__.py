"""Figures: of a fit, of fits along a path of ridges, and of scores on held-out conditions.

    figure = fastcov.plot.summary(X, S, {"exact": fit, "linear": other})
    figure.savefig("fit.png")
    fastcov.plot.cross_validation(cv).figure.savefig("cv.png")

Needs matplotlib: pip install "fastcov-gains[plot]".
"""

from ._fits import covariances, gains, summary
from ._studies import cross_validation, ridge_path, study
from ._style import require_matplotlib

__all__ = [
    "covariances", "cross_validation", "gains", "require_matplotlib", "ridge_path", "study", "summary",
]  # fmt: skip
