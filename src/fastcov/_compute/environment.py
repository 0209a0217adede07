"""What a process was given: its variables without ours, and whether NumPy came before fastcov.

A library reads its variables when it is loaded. So what fastcov sets reaches NumPy's BLAS only where fastcov
is imported before NumPy, which few programs do.
"""

from __future__ import annotations

import os
import sys

# What fastcov sets where the user has not, in `__init__` and `jit`.
DEFAULTS = {"OPENBLAS_THREAD_TIMEOUT": "16", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "10000"}
# As fastcov is imported, which imports this first.
NUMPY_FIRST = "numpy" in sys.modules
_not_given = {name for name in DEFAULTS if name not in os.environ}


def as_given() -> dict[str, str]:
    """The variables as the user has them: for a process that is to be as the user's would be."""
    return {
        name: value
        for name, value in os.environ.items()
        if not (name in _not_given and value == DEFAULTS[name])
    }
