"""Draw figures of fits, explanations, ridge paths, scores on held-out conditions, and benchmarks.

    figure = fastcov.plot.summary(X, S, {"exact": fit, "linear": other})
    figure.savefig("fit.png")
    fastcov.plot.cross_validation(cv).figure.savefig("cv.png")
    fastcov.plot.connectivity(fastcov.fit(X, S, relative_ridge=0.1, method="free")).savefig("free.png")
    fastcov.plot.explanation(fastcov.explain(X, S, relative_ridge=0.1)).savefig("why.png")

Needs matplotlib: pip install "fastcov-gains[plot]".
"""

from ._benchmarks import scaling, speedups
from ._changed import changed_channels
from ._channels import contributions, importance, overlaps
from ._connectivity import connectivity, modes
from ._explanations import covariance_modes, explanation, reachable, spectrum
from ._fits import covariances, gains, summary
from ._held_out import cross_validation
from ._models import models
from ._studies import ridge_path, study
from ._style import require_matplotlib

__all__ = [
    "changed_channels", "connectivity", "contributions", "covariance_modes", "covariances",
    "cross_validation", "explanation", "gains", "importance", "models", "modes", "overlaps", "reachable",
    "require_matplotlib", "ridge_path", "scaling", "spectrum", "speedups", "study", "summary",
]  # fmt: skip
