"""The cases: every public operation that works on data, at sizes from one recording to what a machine holds.

A case is one operation, shape and precision of X: `case("gram", (1004, 187))`. SUITES names those that
`fastcov bench` runs together.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from ..datasets import Simulation
from . import _fits as _fits  # enters its operations
from . import _pieces as _pieces
from . import _studies as _studies
from ._case import FLOOR, NAIVE, OURS, Case, data
from ._operation import OPERATIONS, Key, Shape
from ._peers import peers as peers_of

# What the naive version may hold; beyond, it is left out.
NAIVE_BYTES = 8e9


def case(operation: str, shape: Shape, dtype: str = "float64", *, peers: bool = True) -> Case:
    """The case of an operation at a size, on simulated data.

    `peers=False` leaves out what only optional libraries have. Raises ValueError for an operation that is
    not in OPERATIONS.
    """
    return case_of(operation, data(shape, dtype), peers=peers)


def case_of(operation: str, simulation: Simulation, *, peers: bool = True, **given: Any) -> Case:
    """The case of an operation on any data; keywords are those of the operation, as `relative_ridge`."""
    if operation not in OPERATIONS:
        raise ValueError(f"Argument 'operation' must be one of {', '.join(OPERATIONS)}, not {operation!r}.")
    found = OPERATIONS[operation]
    task = found.make(simulation, **given)
    runs, skipped = {OURS: task.ours}, {}
    if task.naive is not None and task.naive_bytes <= NAIVE_BYTES:
        runs[NAIVE] = task.naive
    elif task.naive is not None:
        skipped[NAIVE] = f"it would hold {task.naive_bytes / 1e9:.3g} GB"
    if task.floor is not None:
        runs[FLOOR] = task.floor
    if peers and found.peers is not None:
        others, missing = peers_of(found.peers, simulation.X, simulation.S, **task.given)
        runs |= others
        skipped |= missing
    N, D = simulation.X.shape
    return Case(
        operation, (N, D), str(simulation.X.dtype), runs, task.check, task.flops, task.nbytes, skipped
    )


def installed(operation: str) -> bool:
    """Whether the library that an operation needs can be imported."""
    needs = OPERATIONS[operation].needs
    return needs is None or importlib.util.find_spec(needs) is not None


TINY, SMALL, FLY, MIDDLE, LONG = (148, 48), (871, 52), (1004, 187), (2000, 187), (8000, 187)
_QUICK: list[Key] = [
    ("covariance", LONG, "float64"),
    ("gram", FLY, "float64"),
    ("overlaps", FLY, "float64"),
    ("application", LONG, "float64"),
    ("loss", FLY, "float64"),
    ("loss", MIDDLE, "float32"),
    ("losses", TINY, "float64"),
    ("loss-and-gradient", SMALL, "float64"),
    ("fit", TINY, "float64"),
    ("fit", SMALL, "float32"),
    ("pcg", MIDDLE, "float64"),
    ("exact", SMALL, "float64"),
    ("ridge-path", TINY, "float64"),
    ("cross-validate", TINY, "float64"),
    ("explain", SMALL, "float64"),
    ("apply", SMALL, "float64"),
]
_FULL: list[Key] = [key for found in OPERATIONS.values() for key in found.keys]
# Problems of up to so many responses.
_STANDARD_SIZE = 200_000
SUITES: dict[str, list[Key]] = {
    name: [key for key in keys if installed(key[0])]
    for name, keys in {
        "quick": _QUICK,
        "standard": [key for key in _FULL if key[1][0] * key[1][1] <= _STANDARD_SIZE],
        "full": _FULL,
    }.items()
}
