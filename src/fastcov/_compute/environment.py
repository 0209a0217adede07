"""The environment of a process as the user set it, and whether NumPy was imported before fastcov.

A library reads its environment variables when it is loaded. So the variables that fastcov sets reach NumPy's
BLAS only where fastcov is imported before NumPy, which few programs do.
"""

from __future__ import annotations

import os
import sys

# Variables that `__init__` and `jit` set where the user has not set them.
DEFAULTS = {"OPENBLAS_THREAD_TIMEOUT": "16", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "10000"}
# Whether NumPy was there when fastcov was imported: fastcov imports this module first.
NUMPY_FIRST = "numpy" in sys.modules
_not_given = {name for name in DEFAULTS if name not in os.environ}


def as_given() -> dict[str, str]:
    """The variables as the user has them, for a process that should run as if the user had started it."""
    return {
        name: value
        for name, value in os.environ.items()
        if not (name in _not_given and value == DEFAULTS[name])
    }
