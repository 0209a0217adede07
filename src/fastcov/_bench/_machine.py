"""Describe the machine and the process of a measurement, for its record."""

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

# Packages that a user might take instead, by the names under which they are installed.
PEERS = ("scikit-learn", "himalaya", "torch", "jax", "jaxlib")
# Prefixes of environment variables that change how libraries compute; PLACES, such as the cache folder, do
# not.
PREFIXES = ("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "BLIS_", "VECLIB_", "NUMBA_", "FASTCOV_")
PLACES = ("NUMBA_CACHE_DIR", "FASTCOV_REAL_DATA")


def machine() -> dict[str, Any]:
    """Return processor, memory, versions, BLAS and its kernels, threads, and environment variables."""
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
    """Return the average number of processes that ran or waited in the last minute; before a run, others'."""
    return round(psutil.getloadavg()[0], 2)


def processor() -> str:
    """Return the model of the processor, or what the system reports instead."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    model = _output("sysctl", "-n", "machdep.cpu.brand_string") if sys.platform == "darwin" else None
    return model or platform.processor() or platform.machine() or "unknown"


def commit() -> str | None:
    """Return the commit of this code, with "-dirty" if it was changed since; None outside a checkout."""
    folder = pathlib.Path(__file__).parent
    # A checkout of another project may contain this package in a virtual environment.
    if not _output("git", "-C", str(folder), "ls-files", pathlib.Path(__file__).name):
        return None
    return _output("git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _output(*command: str) -> str | None:
    """Return the output of a command; None if it does not exist, fails, or prints nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
