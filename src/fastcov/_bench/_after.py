"""Time fits right after a matrix product of the user, whose threads still spin while they wait for work.

NumPy's BLAS has its own pool of threads, besides those of SciPy's BLAS and of Numba, and its threads spin on
the cores that a fit needs. The product is `A @ A` of order ORDER in NumPy, outside the clock.

The floor is the same fit alone: after threads have gone to sleep, and after a pass over as many bytes as the
product uses, so that caches are equally cold. A ratio above 1 is the cost of the product's threads.
"""

from __future__ import annotations

import functools
import glob
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastcov as fc

from .._timings.runs import FLOOR, OURS
from ..datasets import Simulation
from ._fits import TRUSTED, absolute, minimisation
from ._operation import FLY, SMALL, Task, operation
from ._reference import LinearSystem, Minimum, Reference

ORDER = 600
# Seconds after which waiting threads have gone to sleep: those of OpenBLAS spin for an eighth of a second.
SPIN = 0.2
# Seconds between checks whether threads still run.
LOOK = 1e-3


@functools.cache
def _matrix() -> Any:
    return np.random.default_rng(0).standard_normal((ORDER, ORDER))


def product() -> Any:
    """Compute the product that a user computes right before a fit."""
    return _matrix() @ _matrix()


def quiet() -> None:
    """Wait until no other thread of this process runs; for SPIN seconds at most, or if that is unknown."""
    own, until = str(os.getpid()), time.monotonic() + SPIN
    asleep = 0
    while time.monotonic() < until and asleep < 2:  # a single check may catch a thread that yields its core
        time.sleep(LOOK)
        paths = [path for path in glob.glob("/proc/self/task/*/stat") if path.split("/")[4] != own]
        known = os.path.exists("/proc/self/stat")
        asleep = asleep + 1 if known and not any(map(_runs, paths)) else 0


def _runs(path: str) -> bool:
    """Return whether a thread is on a core, or waits for one."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "R"
    except (OSError, IndexError):  # the thread has ended
        return False


def alone() -> None:
    """Let threads go to sleep, and empty the caches as the product does, by a sum of two matrices."""
    quiet()
    first, second, out = _scratch()
    np.add(first, second, out=out)


@functools.cache
def _scratch() -> tuple[Any, Any, Any]:
    return np.zeros((ORDER, ORDER)), np.zeros((ORDER, ORDER)), np.zeros((ORDER, ORDER))


def _task(ours: Callable[[], Any], check: Callable[[Any], None], flops: float, nbytes: float) -> Task:
    return Task(
        ours=ours, check=check, flops=flops, nbytes=nbytes, floor=ours,
        before={OURS: product, FLOOR: alone},
    )  # fmt: skip


@operation("after-product", ["fit"], (SMALL, FLY), singles=(SMALL,))
def after_product(simulation: Simulation, relative_ridge: float = TRUSTED) -> Task:
    """Linear fit; flops and bytes are those of `fastcov.plan`."""
    X, S = simulation.X, simulation.S
    ridge = absolute(simulation, relative_ridge)
    plan = fc.plan(*X.shape, relative_ridge=relative_ridge, dtype=X.dtype)
    cost = plan.cost(plan.solver)
    check = LinearSystem(Reference(X), S, ridge, ridge / relative_ridge).check
    return _task(lambda: fc.fit(X, S, ridge=ridge), check, cost.flops, cost.nbytes)


@operation("exact-after-product", ["fit"], (SMALL,), singles=(SMALL,))
def exact_after_product(simulation: Simulation, relative_ridge: float = TRUSTED) -> Task:
    """Exact fit; flops and bytes are those of the fit alone."""
    X, S = simulation.X, simulation.S
    ridge = absolute(simulation, relative_ridge)

    def ours() -> Any:
        return fc.fit(X, S, ridge=ridge, method="exact")

    flops = minimisation(X, [ours()])["flops"]
    return _task(ours, Minimum(Reference(X), S, ridge).check, flops, 12.0 * X.size)
