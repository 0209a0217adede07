"""Losses for PyTorch with exact gradients: covariance penalties, quadratic forms, the loss of gains.

    import fastcov.torch as fct

    hidden = encoder(inputs)                                    # activations (samples, units)
    loss = cross_entropy(readout(hidden), labels) + 0.1 * fct.decov(hidden, samples_axis=0)
    loss.backward()

Each is a `torch.autograd.Function` on CPU tensors, and never stores a covariance of units. Values and first
derivatives are those of `fastcov.penalties`, `fastcov.quadratic_forms` and `fastcov.loss`; there are no
second derivatives. The number of threads is limited by both `torch.set_num_threads` and `fastcov.threads`.
Needs PyTorch 2.2 or newer: pip install "fastcov-gains[torch]".
"""

# Import this before PyTorch, if PyTorch is not loaded yet: kernels here then use PyTorch's OpenMP library,
# which reads only once how long threads should spin. PyTorch is as fast with fastcov's setting; with the
# default of the library, fits at (1004, 187) on two cores with other work take 1.5 to 2 times as long.
from .._compute import jit  # noqa: F401  isort: skip

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError('fastcov.torch needs PyTorch >= 2.2: pip install "fastcov-gains[torch]"') from error

from ._loss import loss
from ._penalties import (
    covariance_distance,
    decov,
    mean_absolute_covariance,
    mean_covariance,
    mean_squared_covariance,
    vicreg_covariance,
)
from ._quadratic_forms import QuadraticForms, quadratic_forms

__all__ = [
    "QuadraticForms", "covariance_distance", "decov", "loss", "mean_absolute_covariance", "mean_covariance",
    "mean_squared_covariance", "quadratic_forms", "vicreg_covariance",
]  # fmt: skip
