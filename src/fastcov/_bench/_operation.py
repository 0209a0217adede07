"""Define measured operations: how to make their cases at any size, and the sizes that make sense."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, get_blas_funcs, get_lapack_funcs

from .._model.problem import NARROW as FEW_CONDITIONS
from ..datasets import Simulation

Shape = tuple[int, int]
Key = tuple[str, Shape, str]  # operation, shape, dtype

# Sizes of problems: 148 glomeruli and 48 odours of one recording, 871 and 52 of many recordings, the bulb of
# a fly, conditions as in a survey of images, and enough channels that a solver must iterate, or memory is
# short.
TINY, SMALL, FLY, MIDDLE = (148, 48), (871, 52), (1004, 187), (2000, 187)
WIDE, WIDEST, LONG, NARROW = (1000, 500), (4000, 500), (8000, 187), (4000, 100)
MANY, LARGE, LARGEST = (20_000, 100), (200_000, 100), (1_000_000, 100)
UP_TO_LONG = (TINY, SMALL, FLY, MIDDLE, WIDE, WIDEST, LONG)
# Number of rows in a tile of X Xᵀ.
TILE_ROWS = 1024
IN_MEMORY = (*UP_TO_LONG, NARROW, MANY, LARGE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """An operation at one size, from which a `Case` is made.

    `naive_bytes` and `naive_flops` are the memory and work of the naive version, if these may be too much.
    `given` holds the arguments that peers need besides X and S. `repeats` is how often the floor repeats its
    work, counted in the run of fastcov, so that additional iterations show as a change; it is 1 if the size
    determines the work. `before` holds calls to make right before runs of a name, outside the clock.
    """

    ours: Callable[[], Any]
    check: Callable[[Any], None]
    flops: float
    nbytes: float
    naive: Callable[[], Any] | None = None
    naive_bytes: float = 0.0
    naive_flops: float = 0.0
    floor: Callable[[], Any] | None = None
    repeats: float = 1.0
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    before: Mapping[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Operation:
    """One measured operation.

    Attributes
    ----------
    name : str
    make : callable
        Makes its task for a simulation; may take keywords.
    covers : tuple of str
        The public functions that it measures, such as "gram" or "Fit.apply".
    sizes : sequence of Shape
        The sizes at which it is measured in float64.
    singles : sequence of Shape
        The sizes at which it is measured in float32.
    peers : str or None
        Its name in `peers`, if another library has it.
    needs : str or None
        A library that it requires.
    on_data : bool
        Whether it uses the responses, and not only their shape.
    """

    name: str
    make: Callable[..., Task]
    covers: tuple[str, ...]
    sizes: Sequence[Shape]
    singles: Sequence[Shape]
    peers: str | None
    needs: str | None
    on_data: bool

    @property
    def keys(self) -> list[Key]:
        """All sizes and precisions at which the operation is measured."""
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
    on_data: bool = True,
) -> Callable[[Callable[..., Task]], Callable[..., Task]]:
    """Register a function in OPERATIONS; `singles` are its sizes in float32, by default two of `sizes`."""
    if singles is None:
        singles = [shape for shape in (SMALL, MIDDLE) if shape in sizes] or sizes[:1]

    def enter(make: Callable[..., Task]) -> Callable[..., Task]:
        OPERATIONS[name] = Operation(
            name, make, tuple(covers), tuple(sizes), tuple(singles), peers, needs, on_data
        )
        return make

    return enter


def bare(simulation: Simulation, *names: str) -> list[Any]:
    """Return BLAS or LAPACK routines for the precision of X: `bare(simulation, "syrk", "potrf")`."""
    dtype = simulation.X.dtype
    blas = {"syrk", "gemm", "gemv"}
    return [(get_blas_funcs if name in blas else get_lapack_funcs)((name,), dtype=dtype)[0] for name in names]


def covariance_flops(N: int, D: int) -> float:
    """Return the flops of a triangle by SYRK, or of all by the kernel that is faster for few conditions."""
    return (2.0 if D <= FEW_CONDITIONS else 1.0) * N * D**2


def pairs(D: int) -> int:
    """Return P = D(D+1)/2, the number of pairs of conditions."""
    return D * (D + 1) // 2


def atom_bytes(shape: Shape, itemsize: int = 8) -> float:
    """Return the bytes of a naive version that forms G: products, their sum, and a reordered copy of one."""
    N, D = shape
    return 3.0 * itemsize * N * D**2


def bare_products(X: NDArray[Any], count: int) -> Callable[[], None]:
    """Return a call of `count` products with GᵀG as bare GEMMs, two for each."""
    half, out = np.empty((X.shape[1],) * 2, X.dtype, order="F"), np.empty_like(X)
    (gemm,) = get_blas_funcs(("gemm",), dtype=X.dtype)

    def run() -> None:
        for _ in range(count):
            gemm(1.0, X.T, X.T, trans_b=1, c=half, overwrite_c=1)
            gemm(1.0, half, X.T, c=out.T, overwrite_c=1)

    return run


def bare_steps(X: NDArray[Any], count: int) -> Callable[[], None]:
    """Return a call of `count` covariances and products with an error: a SYRK and a GEMM for each."""
    error, out = np.zeros((X.shape[1],) * 2, X.dtype, order="F"), np.empty_like(X)
    syrk, gemm = get_blas_funcs(("syrk", "gemm"), dtype=X.dtype)

    def run() -> None:
        for _ in range(count):
            syrk(1.0, X.T)
            gemm(1.0, error, X.T, c=out.T, overwrite_c=1)

    return run


def bare_tiles(X: NDArray[Any]) -> Callable[[], None]:
    """Return a call of X Xᵀ by tiles, each multiplied by X: a SYRK and a GEMM, or three GEMMs, per tile."""
    starts, (syrk, gemm) = range(0, len(X), TILE_ROWS), get_blas_funcs(("syrk", "gemm"), dtype=X.dtype)
    out = np.empty_like(X)
    # In Fortran order: columns take the place of rows.
    parts = [(X[i : i + TILE_ROWS].T, out[i : i + TILE_ROWS].T) for i in starts]
    tile = np.empty((TILE_ROWS, TILE_ROWS), X.dtype, order="F")

    def run() -> None:
        for i, (A, sums) in enumerate(parts):
            width = A.shape[1]
            for B, others in parts[:i]:
                T = tile[:, :width]
                gemm(1.0, B, A, trans_a=1, c=T, overwrite_c=1)
                gemm(1.0, B, T, beta=1.0, c=sums, overwrite_c=1)
                gemm(1.0, A, T, trans_b=1, beta=1.0, c=others, overwrite_c=1)
            T = tile if width == TILE_ROWS else np.empty((width, width), X.dtype, order="F")
            syrk(1.0, A, trans=1, c=T, overwrite_c=1)
            gemm(1.0, A, T, beta=float(i > 0), c=sums, overwrite_c=1)

    return run


def bare_eigenvectors(A: NDArray[Any]) -> Callable[[], Any]:
    """Return a call of all eigenvalues and eigenvectors, by LAPACK's fastest driver, without a NaN check."""
    return lambda: eigh(A, driver="evd", check_finite=False)
