"""A benchmark case: one public operation on data of one size, and the implementations it is compared with."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .. import datasets
from .._timings.runs import FLOOR, NAIVE, OURS, case_name


@dataclasses.dataclass(frozen=True)
class Case:
    """One operation at one size and precision.

    Attributes
    ----------
    operation : str
        The operation, such as "gram"; cases are reported by operation.
    shape : tuple of int
        Channels and conditions; for activations, units and samples.
    dtype : str
        Dtype of X: "float64" or "float32".
    runs : mapping
        Implementations by name, each a call without arguments that returns its result: "fastcov"; "naive",
        a direct translation of the formulas into NumPy; "floor", the bare BLAS or LAPACK work that every
        implementation of this algorithm needs, on arrays prepared outside the clock; and peers, which a user
        might take instead. Implementations that do not exist or do not fit in memory are left out.
    check : callable
        Takes the result of any run except the floor's; raises AssertionError if it is not accurate.
    flops, nbytes : float
        Arithmetic and memory traffic of fastcov by formula.
    skipped : mapping
        Names of runs that could exist, and why they do not, such as "PyTorch is not installed".
    before : mapping
        Calls by the names of runs, made right before each run of that name, outside the clock.
    repeats : float
        How often the floor repeats its work, counted in the run of fastcov; 1 if the size determines the
        work. The time of the floor is divided by this number: otherwise more iterations of fastcov would also
        lengthen the floor, and would not show as a change.
    """

    operation: str
    shape: tuple[int, int]
    dtype: str
    runs: Mapping[str, Callable[[], Any]]
    check: Callable[[Any], None]
    flops: float
    nbytes: float
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    repeats: float = 1.0
    before: Mapping[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the case, such as "gram 1004x187 float64", by which a recorded case is found."""
        return case_name(self.operation, self.shape, self.dtype)


def reference(runs: Iterable[str]) -> str | None:
    """Return the run to compare fastcov with over time: the floor, else the naive version, else a peer."""
    found = [run for run in runs if run != OURS]
    return next((run for run in (FLOOR, NAIVE, *found) if run in found), None)


def error_summary(error: BaseException) -> str:
    """Return the message of an error, or else its type, as one short printable line."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    return (text if len(text) <= 200 else f"{text[:197]}...") or type(error).__name__


@functools.lru_cache(maxsize=2)
def data(shape: tuple[int, int], dtype: str = "float64") -> datasets.Simulation:
    """Simulate the responses for all cases of a size."""
    return datasets.simulate(*shape, rng=0, dtype=dtype)
