"""What `fastcov doctor` looks at: versions, threads, BLAS, cache, memory, and a fit checked by hand."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from typing import Any

import numba
import numpy as np
from threadpoolctl import threadpool_info

from . import __version__, _kernels, _pools, datasets
from ._fit import fit
from ._jit import PARALLEL_SIZE
from ._validation import available_memory

PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "threadpoolctl", "psutil", "click", "matplotlib")
# What fits on a cluster need; elsewhere versions of these change nothing.
CLUSTER = ("dask", "distributed")
# The fit of the check and its dense twin solve a system with a condition number of 1e3 at most.
TOLERANCE = 1e-10


def examine() -> dict[str, Any]:
    """Everything that is reported, by section; `warnings` holds what hurts, each with its remedy."""
    check = _self_check()
    folder = _cache_folder()
    report: dict[str, Any] = {
        "versions": versions(*CLUSTER),
        "platform": platform.platform(),
        "cores": {"total": os.cpu_count(), "usable": usable_cores()},
        "numba": {
            "threads": numba.get_num_threads(),
            "layer": threading_layer(),
            "compiles": not numba.config.DISABLE_JIT,
        },
        "blas": blas_pools(),
        "spin": dict(_pools.done),
        "cache": {"folder": folder, "writable": folder is not None and _writable(folder)},
        "memory": {"available_gb": round(available_memory() / 1e9, 2)},
        "wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "self_check": {"difference": check, "passed": check <= TOLERANCE},
    }
    return report | {"warnings": complaints(report)}


def complaints(report: dict[str, Any]) -> list[str]:
    """What in a report hurts, one line each."""
    found = []
    usable, threads = report["cores"]["usable"], report["numba"]["threads"]
    if not report["self_check"]["passed"]:
        found.append(
            f"A small fit differs from its dense solution by {report['self_check']['difference']:.1e}: "
            "results of this installation cannot be trusted: clear the cache folder, or reinstall."
        )
    if not report["numba"]["compiles"]:
        found.append("NUMBA_DISABLE_JIT is set and nothing is compiled: unset it.")
    elif not report["cache"]["writable"]:
        found.append(
            "Compiled code cannot be kept, and each process compiles again for seconds: set NUMBA_CACHE_DIR "
            "to a folder that can be written to."
        )
    if report["numba"]["layer"] == "workqueue":
        found.append(
            "Numba has no OpenMP and uses its workqueue layer, where threads wait for each other: install an "
            "OpenMP runtime (libgomp, or llvm-openmp on macOS), and leave NUMBA_THREADING_LAYER unset."
        )
    spinning = [pool for pool in report["blas"] if pool["num_threads"] > 1]
    if spinning and (report["wait_policy"] or "").lower() == "active":
        found.append(
            f"OMP_WAIT_POLICY=active keeps Numba's idle threads spinning beside {len(spinning)} BLAS thread "
            "pools, some five times slower: unset it, or set it to passive."
        )
    if threads > usable:
        found.append(
            f"Numba starts {threads} threads on {usable} usable cores: set NUMBA_NUM_THREADS={usable}."
        )
    if any(pool["num_threads"] > usable for pool in report["blas"]):
        found.append(
            f"BLAS starts more threads than the {usable} usable cores: set OPENBLAS_NUM_THREADS={usable}."
        )
    return found


def table(report: dict[str, Any]) -> str:
    """The report for reading."""
    cores, cache, check = report["cores"], report["cache"], report["self_check"]
    compiled = report["numba"]
    layer = compiled["layer"] or "not needed"
    jit = "" if compiled["compiles"] else ", compiling is off"
    writable = "" if cache["writable"] or not cache["folder"] else " (cannot be written to)"
    rows = [
        *report["versions"].items(),
        ("platform", report["platform"]),
        ("cores", f"{cores['usable']} usable of {cores['total']}"),
        ("Numba", f"{compiled['threads']} threads, layer {layer}{jit}"),
        *(
            ("BLAS", f"{p['internal_api']} {p['version']}, {p['num_threads']} threads ({p['file']})")
            for p in report["blas"]
        ),
        *(("spin", f"{words} ({file})") for file, words in report["spin"].items()),
        ("cache", f"{cache['folder'] or 'none'}{writable}"),
        ("memory", f"{report['memory']['available_gb']} GB available"),
        ("check", f"{'passed' if check['passed'] else 'FAILED'}: fit and dense solution differ by "
                  f"{check['difference']:.1e}"),
    ]  # fmt: skip
    return "\n".join(f"{name:<15}{'not installed' if value is None else value}" for name, value in rows)


def versions(*more: str) -> dict[str, str | None]:
    """Of fastcov, Python, the packages it stands on and `more`; None for what is not installed."""
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
    """Cores this process may run on; all of them where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threading_layer() -> str | None:
    """The layer Numba chose, after a parallel kernel made it choose; None with one thread."""
    _kernels.mirror_lower(np.zeros((2, 2)), size=PARALLEL_SIZE)
    try:
        return str(numba.threading_layer())
    except ValueError:  # no parallel kernel has run: there is one thread, or nothing is compiled
        return None


def _probe() -> None:
    """Exist, to be asked where Numba would keep code of this package."""


def _cache_folder() -> str | None:
    try:
        return str(numba.njit(cache=True)(_probe).stats.cache_path)
    except (RuntimeError, OSError, AttributeError):  # nowhere to keep it, or compiling is off
        return None


def _writable(folder: str) -> bool:
    while not os.path.exists(folder):  # it is made when there is something to keep
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK)


def _self_check() -> float:
    """Largest difference between a small fit and its dense solution, relative to the largest δ."""
    simulation = datasets.simulate(40, 8)
    X, S = simulation.X, simulation.S
    centred = X - X.mean(axis=0)
    products = np.einsum("ia,ib->iab", X, centred)
    G = (products + products.transpose(0, 2, 1)).reshape(len(X), -1).T
    ridge = 1e-3 * np.linalg.norm(G, 2) ** 2
    error = S - centred.T @ centred
    dense = np.linalg.solve(G.T @ G + ridge * np.eye(len(X)), G.T @ error.ravel())
    delta = fit(X, S, ridge=float(ridge)).delta
    return float(np.abs(delta - dense).max() / np.abs(dense).max())
