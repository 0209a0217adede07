"""Losses for PyTorch with exact gradients: covariance penalties, quadratic forms, the loss of gains.

    import fastcov.torch as fct

    hidden = encoder(inputs)                                    # activations (samples, units)
    loss = cross_entropy(readout(hidden), labels) + 0.1 * fct.decov(hidden, samples_axis=0)
    loss.backward()

Each is a `torch.autograd.Function` on tensors in the memory of the CPU that never stores a covariance of
units. Values and first derivatives are those of `fastcov.penalties`, `fastcov.quadratic_forms` and
`fastcov.loss`; there are no second ones. At most as many threads are used as `torch.set_num_threads` and
`fastcov.threads` both allow. Needs PyTorch 2.2 or newer: pip install "fastcov-gains[torch]".
"""

# Before PyTorch, where that is not loaded yet: kernels here then use its OpenMP library, which reads once how
# long threads are to spin. PyTorch is as fast with what fastcov asks for; with the library's own answer, fits
# at (1004, 187) on two cores with other work take 1.5 to 2 times as long.
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
