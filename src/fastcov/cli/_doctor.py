"""Examine the installation for `fastcov doctor`: versions, threads, BLAS, cache, memory, and a test fit."""

from __future__ import annotations

import os
import platform
from typing import Any

import numba
import numpy as np

from .. import datasets
from .._compute import blas_spin
from .._compute.system import (
    CLUSTER,
    blas_pools,
    cache_folder,
    threading_layer,
    usable_cores,
    versions,
    writable,
)
from .._fit import fit
from .._inputs.validation import available_memory

# Largest difference in the self-check: the fit and its dense counterpart solve a system with a condition
# number of at most 1e3.
TOLERANCE = 1e-10


def examine() -> dict[str, Any]:
    """Return the report by section; `warnings` lists the problems, each with its remedy."""
    check = _self_check()
    folder = cache_folder()
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
        "spin": dict(blas_spin.done),
        "cache": {"folder": folder, "writable": folder is not None and writable(folder)},
        "memory": {"available_gb": round(available_memory() / 1e9, 2)},
        "wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "self_check": {"difference": check, "passed": check <= TOLERANCE},
    }
    return report | {"warnings": complaints(report)}


def complaints(report: dict[str, Any]) -> list[str]:
    """List the problems in a report, one line each."""
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
    """Format the report for people."""
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


def _self_check() -> float:
    """Return the largest difference between a small fit and its dense solution, relative to the largest δ."""
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
