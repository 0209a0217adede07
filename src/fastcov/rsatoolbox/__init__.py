"""Weights and gains of channels as models of rsatoolbox, for its cross-validation, bootstraps and figures.

    model = fastcov.rsatoolbox.WeightModel("V1", dataset, relative_ridge=0.1)
    train, test, ceiling = rsatoolbox.inference.sets_k_fold_pattern(rdms, k=5)
    rsatoolbox.inference.crossval(model, rdms, train, test, ceil_set=ceiling, method="corr")

Rows of measurements are conditions there and columns channels, the transpose of what `fastcov.reweight`
takes. `responses` and `matrices` bring datasets and RDMs here, `dataset` and `rdms` bring arrays there. Needs
rsatoolbox 0.2 or newer: pip install "fastcov-gains[rsatoolbox]".
"""

from __future__ import annotations

try:
    import rsatoolbox as _library  # noqa: F401
except ImportError as error:
    raise ImportError(
        'fastcov.rsatoolbox needs rsatoolbox >= 0.2: pip install "fastcov-gains[rsatoolbox]"'
    ) from error

from ._convert import dataset, matrices, rdms, responses
from ._models import GainModel, WeightModel

__all__ = ["GainModel", "WeightModel", "dataset", "matrices", "rdms", "responses"]
