"""Which gain per channel turns one population's covariance into another's?

import fastcov as fc
sim = fc.datasets.simulate(rng=0)                     # or your own X (channels, conditions) ...
S = fc.target_covariance(sim.Y, like=sim.X)           # ... and responses Y of another population
fit = fc.fit(sim.X, S, relative_ridge=0.1)
print(fit)                                            # the loss, R2, and the fit's certificate
fit.gains, fit.covariance()
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from ._compute import environment as _environment  # noqa: F401 - before any variable is set
from ._version import __version__ as __version__

# OpenBLAS threads spin for a tenth of a second after each call, and NumPy and SciPy have a pool each:
# right after a NumPy product a fit at (1004, 187) takes 57 ms on two cores, and 24 ms where the spin is
# cut. 2**16 cycles, some 20 us, are as good for BLAS as 2**20, and leave the cores to the kernels: right
# after a product the loss and gradient at (871, 52) take 1.6 times the bare BLAS work, and 2.5 with 2**20. A
# library reads this when it is loaded, so it serves NumPy's pool where fastcov is imported first, and
# SciPy's in nearly all cases.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")

# Name -> module. Everything is imported when it is first used (PEP 562): `import fastcov` takes a
# millisecond, Numba and SciPy half a second.
_NAMES = {
    "Applied": "_results.applied",
    "AtomOperator": "_model.operators",
    "ConvergenceWarning": "_fitting.certificate",
    "ChannelTable": "_results.channel_table",
    "ChannelTest": "_results.permutation_test",
    "ChosenRidge": "_results.chosen_ridge",
    "Comparison": "_results.comparison",
    "Connectivity": "_results.connectivity",
    "Contributions": "_explaining.contributions",
    "CrossValidation": "_results.cross_validation",
    "Explanation": "_explaining.explanation",
    "Fit": "_results.fit",
    "GramOperator": "_model.operators",
    "HeldOutPairs": "_results.held_out_pairs",
    "LabelWarning": "_inputs.labels",
    "MissingValuesWarning": "_inputs.trials",
    "Mixed": "_results.mixed",
    "NoiseCeiling": "_results.noise_ceiling",
    "OvershootWarning": "_results.overshoot",
    "PermutationTest": "_results.permutation_test",
    "Plan": "_solvers",
    "Progress": "_compute.progress",
    "Reweighting": "_results.reweighting",
    "RidgePath": "_results.ridge_path",
    "Study": "_results.study",
    "SingleGainLosses": "_exact_loss.single_gains",
    "Uncertainty": "_results.uncertainty",
    "Verdict": "_results.evidence",
    "atom_norms": "_model.operators",
    "compare": "_whole.compare",
    "covariance": "_model.target",
    "cross_validate": "_studies.cross_validation",
    "explain": "_explaining.explain",
    "fit": "_fit",
    "gram": "_model.operators",
    "load": "_load",
    "loss": "_exact_loss.loss",
    "loss_and_gradient": "_exact_loss.loss",
    "noise_ceiling": "_studies.noise_ceiling",
    "overlaps": "_model.operators",
    "permutation_test": "_studies.permutation_test",
    "plan": "_solvers",
    "reweight": "_reweighting.reweight",
    "ridge_path": "_studies.ridge_path",
    "study": "_whole.study",
    "target_covariance": "_model.target",
    "threads": "_compute.jit",
}
_MODULES = ("datasets", "penalties", "plot", "quadratic_forms")
# Modules by the name of a library that they need, in neither __all__ nor dir(): `from fastcov import *` must
# not hide that library, and neither this nor help(fastcov) may fail where it is missing.
_DOORS = ("rsatoolbox", "sklearn", "torch")

if TYPE_CHECKING:
    from . import datasets as datasets
    from . import penalties as penalties
    from . import plot as plot
    from . import quadratic_forms as quadratic_forms
    from . import rsatoolbox as rsatoolbox
    from . import sklearn as sklearn
    from . import torch as torch
    from ._compute.jit import threads as threads
    from ._compute.progress import Progress as Progress
    from ._exact_loss.loss import loss as loss
    from ._exact_loss.loss import loss_and_gradient as loss_and_gradient
    from ._exact_loss.single_gains import SingleGainLosses as SingleGainLosses
    from ._explaining.contributions import Contributions as Contributions
    from ._explaining.explain import explain as explain
    from ._explaining.explanation import Explanation as Explanation
    from ._fit import fit as fit
    from ._fitting.certificate import ConvergenceWarning as ConvergenceWarning
    from ._inputs.labels import LabelWarning as LabelWarning
    from ._inputs.trials import MissingValuesWarning as MissingValuesWarning
    from ._load import load as load
    from ._model.operators import AtomOperator as AtomOperator
    from ._model.operators import GramOperator as GramOperator
    from ._model.operators import atom_norms as atom_norms
    from ._model.operators import gram as gram
    from ._model.operators import overlaps as overlaps
    from ._model.target import covariance as covariance
    from ._model.target import target_covariance as target_covariance
    from ._results.applied import Applied as Applied
    from ._results.channel_table import ChannelTable as ChannelTable
    from ._results.chosen_ridge import ChosenRidge as ChosenRidge
    from ._results.comparison import Comparison as Comparison
    from ._results.connectivity import Connectivity as Connectivity
    from ._results.cross_validation import CrossValidation as CrossValidation
    from ._results.evidence import Verdict as Verdict
    from ._results.fit import Fit as Fit
    from ._results.held_out_pairs import HeldOutPairs as HeldOutPairs
    from ._results.mixed import Mixed as Mixed
    from ._results.noise_ceiling import NoiseCeiling as NoiseCeiling
    from ._results.overshoot import OvershootWarning as OvershootWarning
    from ._results.permutation_test import ChannelTest as ChannelTest
    from ._results.permutation_test import PermutationTest as PermutationTest
    from ._results.reweighting import Reweighting as Reweighting
    from ._results.ridge_path import RidgePath as RidgePath
    from ._results.study import Study as Study
    from ._results.uncertainty import Uncertainty as Uncertainty
    from ._reweighting.reweight import reweight as reweight
    from ._solvers import Plan as Plan
    from ._solvers import plan as plan
    from ._studies.cross_validation import cross_validate as cross_validate
    from ._studies.noise_ceiling import noise_ceiling as noise_ceiling
    from ._studies.permutation_test import permutation_test as permutation_test
    from ._studies.ridge_path import ridge_path as ridge_path
    from ._whole.compare import compare as compare
    from ._whole.study import study as study

__all__ = [*_NAMES, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in (*_MODULES, *_DOORS):
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
