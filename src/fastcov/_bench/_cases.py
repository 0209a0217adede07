"""The cases: every public operation on data, at sizes from one recording to the memory of a machine.

A case is one operation, shape and precision of X: `case("gram", (1004, 187))`. SUITES lists the cases that
`fastcov bench` runs together.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from . import _pieces as _pieces  # these modules register their operations, in the order of a table

# isort: split
from . import _connected as _connected
from . import _evidence as _evidence
from . import _fits as _fits
from . import _shared as _shared

# isort: split
from . import _after as _after

# isort: split
from . import _reweighting as _reweighting
from . import _studies as _studies
from . import _uncertainty as _uncertainty

# isort: split
from . import _penalties as _penalties

# isort: split
from . import _forms as _forms

# isort: split
from .._timings.runs import FLOOR, NAIVE, OURS
from ..datasets import Simulation
from ._case import Case, data
from ._operation import FLY, MIDDLE, OPERATIONS, SMALL, TINY, Key, Operation, Shape
from ._peers import peers as peers_of

# Largest memory and work of a naive version, about twenty seconds; beyond these it is left out.
NAIVE_BYTES, NAIVE_FLOPS = 8e9, 1e12


def case(operation: str, shape: Shape, dtype: str = "float64", *, peers: bool = True) -> Case:
    """Make the case of an operation at a size, on simulated data.

    `peers=False` leaves out implementations from optional libraries. Raises ValueError for an operation that
    is not in OPERATIONS.
    """
    return case_of(operation, _simulation(operation, shape, dtype), peers=peers)


def case_of(operation: str, simulation: Simulation, *, peers: bool = True, **given: Any) -> Case:
    """Make the case of an operation on any data; keywords go to the operation, such as `relative_ridge`."""
    found = _operation(operation)
    task = found.make(simulation, **given)
    runs, skipped = {OURS: task.ours}, {}
    if task.naive_bytes > NAIVE_BYTES:
        skipped[NAIVE] = f"G and its temporaries would take {task.naive_bytes / 1e9:.3g} GB"
    elif task.naive_flops > NAIVE_FLOPS:
        skipped[NAIVE] = f"it would take {task.naive_flops:.1g} flops"
    elif task.naive is not None:
        runs[NAIVE] = task.naive
    if task.floor is not None:
        runs[FLOOR] = task.floor
    if peers and found.peers is not None:
        others, missing = peers_of(found.peers, simulation.X, simulation.S, **task.given)
        runs |= others
        skipped |= missing
    N, D = simulation.X.shape
    return Case(
        operation, (N, D), str(simulation.X.dtype), runs, task.check, task.flops, task.nbytes, skipped,
        task.repeats, task.before,
    )  # fmt: skip


def _operation(name: str) -> Operation:
    if name not in OPERATIONS:
        raise ValueError(f"Argument 'operation' must be one of {', '.join(OPERATIONS)}, not {name!r}.")
    return OPERATIONS[name]


def _simulation(operation: str, shape: Shape, dtype: str) -> Simulation:
    """Simulate responses, or make zeros without memory for an operation that needs only their shape."""
    if _operation(operation).on_data:
        return data(shape, dtype)
    zero, (N, D) = np.zeros((), dtype), shape
    X = np.broadcast_to(zero, shape)
    return Simulation(X, X, np.broadcast_to(np.float64(0), (D, D)), np.broadcast_to(np.float64(1), N))


def installed(operation: str) -> bool:
    """Return whether the library that an operation needs can be imported: an installed one may be broken."""
    needs = OPERATIONS[operation].needs
    try:
        return needs is None or bool(importlib.import_module(needs))
    except Exception:  # a broken library may raise anything
        return False


_QUICK: list[Key] = [
    ("covariance", MIDDLE, "float64"),
    ("gram", SMALL, "float64"),
    ("overlaps", SMALL, "float64"),
    ("application", MIDDLE, "float64"),
    ("loss", FLY, "float64"),
    ("loss", MIDDLE, "float32"),
    ("losses", TINY, "float64"),
    ("loss-and-gradient", SMALL, "float64"),
    ("fit", TINY, "float64"),
    ("fit", SMALL, "float64"),
    ("fit", SMALL, "float32"),
    ("diagonal", SMALL, "float64"),
    ("exact", TINY, "float64"),
    ("after-product", SMALL, "float64"),
    ("exact-after-product", SMALL, "float64"),
    ("ridge-path", TINY, "float64"),
    ("cross-validate", TINY, "float64"),
    ("explain", TINY, "float64"),
    ("apply", SMALL, "float64"),
    ("mean-absolute-covariance", TINY, "float64"),
    ("decov", TINY, "float64"),
    ("quadratic-forms", TINY, "float64"),
]
_FULL = [key for found in OPERATIONS.values() for key in found.keys]
# The standard suite has each operation at its largest size with at most this number of responses.
_STANDARD_SIZE = 200_000
_STANDARD: list[Key] = [
    (name, max(moderate, key=math.prod), "float64")
    for name, found in OPERATIONS.items()
    if (moderate := [shape for shape in found.sizes if math.prod(shape) <= _STANDARD_SIZE])
]
SUITES: dict[str, list[Key]] = {
    "quick": [key for key in _QUICK if installed(key[0])],
    "standard": [key for key in _FULL if key in {*_QUICK, *_STANDARD} and installed(key[0])],
    "full": [key for key in _FULL if installed(key[0])],
}
