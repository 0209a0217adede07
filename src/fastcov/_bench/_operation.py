"""An operation that is measured: how its case is made at any size, and where that makes sense."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scipy.linalg import get_blas_funcs, get_lapack_funcs

from ..datasets import Simulation

Shape = tuple[int, int]
Key = tuple[str, Shape, str]  # operation, shape, dtype

# Sizes of problems: 148 glomeruli and 48 odours of one recording, 871 and 52 of many, the bulb of a fly,
# conditions as in a survey of images, and channels until a solver has to iterate, or memory is short.
TINY, SMALL, FLY, MIDDLE = (148, 48), (871, 52), (1004, 187), (2000, 187)
WIDE, WIDEST, LONG, NARROW = (1000, 500), (4000, 500), (8000, 187), (4000, 100)
MANY, LARGE, LARGEST = (20_000, 100), (200_000, 100), (1_000_000, 100)
UP_TO_LONG = (TINY, SMALL, FLY, MIDDLE, WIDE, WIDEST, LONG)
IN_MEMORY = (*UP_TO_LONG, NARROW, MANY, LARGE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What an operation is at one size; see `Case`, which is made of it.

    `naive_bytes` and `naive_flops` say what the naive version takes, where that may be too much, and `given`
    is what the peers need beside X and S.
    """

    ours: Callable[[], Any]
    check: Callable[[Any], None]
    flops: float
    nbytes: float
    naive: Callable[[], Any] | None = None
    naive_bytes: float = 0.0
    naive_flops: float = 0.0
    floor: Callable[[], Any] | None = None
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes
    ----------
    name : str
    make : callable
        Its task for a simulation, with what keywords the operation has.
    covers : tuple of str
        What of the public face it measures, as "gram" or "Fit.apply".
    sizes : sequence of Shape
        Where it is measured in float64, and the smaller of them in float32.
    peers : str or None
        What `peers` calls it, where somebody else has it.
    needs : str or None
        A library that it cannot do without.
    """

    name: str
    make: Callable[..., Task]
    covers: tuple[str, ...]
    sizes: Sequence[Shape]
    singles: Sequence[Shape]
    peers: str | None
    needs: str | None

    @property
    def keys(self) -> list[Key]:
        """All sizes and precisions at which it is measured."""
        return [(self.name, shape, "float64") for shape in self.sizes] + [
            (self.name, shape, "float32") for shape in self.singles
        ]


OPERATIONS: dict[str, Operation] = {}


def operation(
    name: str,
    covers: Sequence[str],
    sizes: Sequence[Shape],
    *,
    singles: Sequence[Shape] | None = None,
    peers: str | None = None,
    needs: str | None = None,
) -> Callable[[Callable[..., Task]], Callable[..., Task]]:
    """Enter a function in OPERATIONS; `singles` are its sizes in float32, by default two of them."""
    if singles is None:
        singles = [shape for shape in (SMALL, MIDDLE) if shape in sizes] or sizes[:1]

    def enter(make: Callable[..., Task]) -> Callable[..., Task]:
        OPERATIONS[name] = Operation(name, make, tuple(covers), tuple(sizes), tuple(singles), peers, needs)
        return make

    return enter


def bare(simulation: Simulation, *names: str) -> list[Any]:
    """Routines of BLAS or LAPACK for the precision of X: `bare(simulation, "syrk", "potrf")`."""
    dtype = simulation.X.dtype
    blas = {"syrk", "gemm"}
    return [(get_blas_funcs if name in blas else get_lapack_funcs)((name,), dtype=dtype)[0] for name in names]


def pairs(D: int) -> int:
    """P = D(D+1)/2, the pairs of conditions."""
    return D * (D + 1) // 2


def atom_bytes(shape: Shape, itemsize: int = 8) -> float:
    """What a naive version holds that forms G: the products, their sum, and one of them in order."""
    N, D = shape
    return 3.0 * itemsize * N * D**2
