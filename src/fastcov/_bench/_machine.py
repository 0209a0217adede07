"""What a record says of the machine and the process that it was measured in."""

from __future__ import annotations

import contextlib
import pathlib
import platform
import subprocess
import sys
from typing import Any

import numba
import psutil

from .._compute import environment, system

# What a user might take instead, under the names that they are installed by.
PEERS = ("scikit-learn", "himalaya", "torch", "jax", "jaxlib")
# Variables that change what the libraries below do. Where compiled code is kept is not one of them.
PREFIXES = ("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "BLIS_", "VECLIB_", "NUMBA_", "FASTCOV_")
PLACES = ("NUMBA_CACHE_DIR", "FASTCOV_REAL_DATA")


def machine() -> dict[str, Any]:
    """Processor, memory, versions, BLAS and its kernels, threads, and what the process was given."""
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "platform": platform.platform(),
        "cores": system.usable_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 2),
        "versions": system.versions(*PEERS),
        "commit": commit(),
        "blas": system.blas_pools(),
        "numba": {"threads": numba.get_num_threads(), "layer": system.threading_layer()},
        "imported_first": "numpy" if environment.NUMPY_FIRST else "fastcov",
        "environment": {
            name: value
            for name, value in sorted(environment.as_given().items())
            if name.startswith(PREFIXES) and name not in PLACES
        },
    }


def load() -> float:
    """Processes that ran or waited in the last minute, on average: those of others before a run."""
    return round(psutil.getloadavg()[0], 2)


def processor() -> str:
    """The model, or what the system says of it."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    model = _output("sysctl", "-n", "machdep.cpu.brand_string") if sys.platform == "darwin" else None
    return model or platform.processor() or platform.machine() or "unknown"


def commit() -> str | None:
    """The commit of this code, with "-dirty" where it was changed since; None outside a checkout."""
    folder = pathlib.Path(__file__).parent
    # A checkout of something else may have this package in a virtual environment inside.
    if not _output("git", "-C", str(folder), "ls-files", pathlib.Path(__file__).name):
        return None
    return _output("git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _output(*command: str) -> str | None:
    """What a command prints; None where it is not there, fails, or says nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
