"""The machine and the process: versions, cores, BLAS libraries, threads, and the cache of compiled code."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from typing import Any

import numba
import numpy as np
from threadpoolctl import threadpool_info

from .._version import __version__
from . import kernels
from .jit import PARALLEL_SIZE

PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "threadpoolctl", "psutil", "click", "matplotlib")


# Fits on a cluster need these; elsewhere their versions change nothing.
CLUSTER = ("dask", "distributed")


def versions(*more: str) -> dict[str, str | None]:
    """Versions of fastcov, Python, the packages it depends on and `more`; None for one not installed."""
    packages = (*PACKAGES, *more)
    found: dict[str, str | None] = dict.fromkeys(("fastcov", "python", *packages))
    found |= {"fastcov": __version__, "python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def blas_pools() -> list[dict[str, Any]]:
    """The BLAS libraries of this process."""
    return [
        {
            key: pool.get(key)
            for key in ("internal_api", "version", "architecture", "num_threads", "threading_layer")
        }
        | {"file": os.path.basename(pool["filepath"])}
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]


def usable_cores() -> int:
    """Number of cores that this process may run on; all cores where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threading_layer() -> str | None:
    """Numba's threading layer, which it chooses when a parallel kernel first runs; None with one thread."""
    kernels.mirror_lower(np.zeros((2, 2)), size=PARALLEL_SIZE)
    try:
        return str(numba.threading_layer())
    except ValueError:  # no parallel kernel has run: there is one thread, or nothing is compiled
        return None


def _probe() -> None:
    """An empty function, from which Numba tells its cache folder."""


def cache_folder() -> str | None:
    try:
        return str(numba.njit(cache=True)(_probe).stats.cache_path)
    except (RuntimeError, OSError, AttributeError):  # no folder can be written to, or compiling is off
        return None


def writable(folder: str) -> bool:
    while not os.path.exists(folder):  # Numba makes the folder when it first has code to keep
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK)
