"""A benchmark case: one public operation on data of one size, and all it is compared with."""

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
        As "gram"; the group it is reported in.
    shape : tuple of int
        Channels and conditions; units and samples of activations.
    dtype : str
        Of X: "float64" or "float32".
    runs : mapping
        Implementations by name, each a call without arguments that returns its result: "fastcov"; "naive",
        what one writes in NumPy from the formulas; "floor", the bare BLAS or LAPACK work that no
        implementation by this algorithm can do without, on arrays made ready outside the clock; and
        peers, what a user would take instead. Those that do not exist or do not fit are not in it.
    check : callable
        Given the result of any run but the floor's; raises AssertionError where it is not accurate.
    flops, nbytes : float
        Arithmetic and memory traffic of ours by formula.
    skipped : mapping
        Names of runs that could exist and the reason why they do not, as "PyTorch is not installed".
    before : mapping
        Calls by the names of runs: what happens right before each run of that name, outside the clock.
    repeats : float
        How often the floor repeats its work, as counted in ours; 1 where the size alone says. What ours
        needs more iterations for would be in the floor as well, and be no change, if it were not divided out.
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
        """As "gram 1004x187 float64": what a recorded case is found by."""
        return case_name(self.operation, self.shape, self.dtype)


def reference(runs: Iterable[str]) -> str | None:
    """What ours is compared with over time: the floor, or else the naive version, or else a peer."""
    found = [run for run in runs if run != OURS]
    return next((run for run in (FLOOR, NAIVE, *found) if run in found), None)


def told(error: BaseException) -> str:
    """What an error says, or else its kind, in one line that can be printed and is not long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    return (text if len(text) <= 200 else f"{text[:197]}...") or type(error).__name__


@functools.lru_cache(maxsize=2)
def data(shape: tuple[int, int], dtype: str = "float64") -> datasets.Simulation:
    """The simulated responses of all cases of a size."""
    return datasets.simulate(*shape, rng=0, dtype=dtype)
