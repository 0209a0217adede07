"""Operations on stacks of matrices, one per unit: quadratic forms, their gradients, factors and solutions.

The N responses of a simulation to D conditions serve as N = L Z inputs, L samples of D numbers for each of Z
units. There are 256 units if N is at least 4096, else 16, or the next smaller number that divides N. Thus
(131072, 64) is 512 samples, 256 units, 64 inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastcov as fc

from ..datasets import Simulation
from . import _naive
from ._operation import TINY, Task, bare, operation
from ._reference import near, require, rounding

Array = NDArray[Any]

SMALL_UNITS, UNITS = (8192, 16), (131_072, 64)
SIZES = (TINY, SMALL_UNITS, UNITS)


def _by_units(simulation: Simulation) -> tuple[Array, Array]:
    """Return inputs (L, Z, I), and matrices (Z, I, I) that are covariances of 2I random vectors."""
    X, (N, D) = simulation.X, simulation.X.shape
    units = max(z for z in range(1, (256 if N >= 4096 else 16) + 1) if N % z == 0)
    roots = np.random.default_rng(0).standard_normal((units, D, 2 * D))
    matrices = (roots @ roots.transpose(0, 2, 1) / (2 * D)).astype(X.dtype)
    return X.reshape(-1, units, D), np.ascontiguousarray((matrices + matrices.transpose(0, 2, 1)) / 2)


def _ready(x: Array, matrices: Array) -> tuple[list[Array], list[Array]]:
    """Return the inputs of each unit (L, I), and its matrix, transposed and in Fortran order for BLAS."""
    return [np.ascontiguousarray(unit).T for unit in x.transpose(1, 0, 2)], [each.T for each in matrices]


def _sizes(x: Array, matrices: Array) -> tuple[Array, Array]:
    """Return ‖x_lz‖ (L, Z), and ‖A_z‖ (Z)."""
    return np.linalg.norm(x, axis=2), np.linalg.norm(matrices, axis=(1, 2))


def _check_forms(g: Any, x: Array, matrices: Array, dtype: Any) -> None:
    """Check sums of I² products, whose absolute values sum to at most ‖x‖² ‖A‖."""
    norms, sizes = _sizes(x, matrices)
    expected = np.stack([((unit @ A) * unit).sum(axis=1) for unit, A in _units(x, matrices)], axis=1)
    near(g, expected, rounding(dtype, 2 * x.shape[2]) * float((norms**2 * sizes).max()))


def _units(x: Array, matrices: Array) -> Any:
    return zip(x.transpose(1, 0, 2), matrices, strict=True)


@operation(
    "quadratic-forms", ["quadratic_forms.quadratic_forms"], SIZES, singles=(UNITS,), peers="quadratic_forms"
)
def quadratic_forms(simulation: Simulation) -> Task:
    """Quadratic forms: 2LZI² flops, and ZI³/3 to check the matrices; each input is read once.

    The naive version is a plain `einsum`; the floor is one GEMM per unit.
    """
    x, matrices = _by_units(simulation)
    (L, Z, D), w = x.shape, x.itemsize
    inputs, factors = _ready(x, matrices)
    (gemm,), out = bare(simulation, "gemm"), np.empty((D, L), x.dtype, order="F")

    def floor() -> None:
        for unit, A in zip(inputs, factors, strict=True):
            gemm(1.0, A, unit, c=out, overwrite_c=1)

    def check(g: Any) -> None:
        _check_forms(g, x.astype(np.float64), matrices.astype(np.float64), x.dtype)

    return Task(
        ours=lambda: fc.quadratic_forms.quadratic_forms(x, matrices), check=check,
        flops=2.0 * L * Z * D**2 + Z * D**3 / 3, nbytes=w * (x.size + matrices.size + L * Z),
        naive=lambda: _naive.quadratic_forms(x, matrices), naive_flops=3.0 * L * Z * D**2, floor=floor,
        given={"matrices": matrices},
    )  # fmt: skip


@operation(
    "quadratic-forms-and-gradients", ["quadratic_forms.quadratic_forms_and_gradients"], SIZES,
    singles=(UNITS,), peers="quadratic_forms_and_gradients",
)  # fmt: skip
def quadratic_forms_and_gradients(simulation: Simulation) -> Task:
    """Forms and gradients: 4LZI² flops, and ZI³/3; each input is read once, and its gradient written once.

    The floor is two GEMMs per unit.
    """
    x, matrices = _by_units(simulation)
    (L, Z, D), w = x.shape, x.itemsize
    inputs, factors = _ready(x, matrices)
    (gemm,), ones = bare(simulation, "gemm"), np.ones((L, Z), x.dtype)
    out, outer = (np.empty((D, k), x.dtype, order="F") for k in (L, D))

    def floor() -> None:
        for unit, A in zip(inputs, factors, strict=True):
            gemm(1.0, A, unit, c=out, overwrite_c=1)
            gemm(1.0, unit, unit, trans_b=1, c=outer, overwrite_c=1)

    def check(result: Any) -> None:
        g, *slopes = result
        ours = len(slopes) == 1
        by_inputs, matrix_gradient = (slopes[0].inputs, slopes[0].matrices) if ours else slopes
        double, stack = x.astype(np.float64), matrices.astype(np.float64)
        norms, sizes = _sizes(double, stack)
        _check_forms(g, double, stack, x.dtype)
        expected = 2 * np.stack([unit @ A for unit, A in _units(double, stack)], axis=1)
        near(by_inputs, expected, 2 * rounding(x.dtype, D) * float((norms * sizes).max()))
        expected = np.stack([unit.T @ unit for unit, _ in _units(double, stack)])
        near(matrix_gradient, expected, rounding(x.dtype, L) * float((norms**2).sum(axis=0).max()))

    return Task(
        ours=lambda: fc.quadratic_forms.quadratic_forms_and_gradients(x, matrices), check=check,
        flops=4.0 * L * Z * D**2 + Z * D**3 / 3, nbytes=w * (2 * x.size + 2 * matrices.size + L * Z),
        naive=lambda: _naive.quadratic_forms_and_gradients(x, matrices, ones), naive_flops=4.0 * L * Z * D**2,
        floor=floor, given={"matrices": matrices},
    )  # fmt: skip


@operation("spd-batch", ["quadratic_forms.SPDBatch"], SIZES, singles=(UNITS,))
def spd_batch(simulation: Simulation) -> Task:
    """Factors of all matrices, ZI³/3 flops, and solutions for all inputs, 2LZI².

    Both are in float64 whatever the dtype. The floor is POTRF and POTRS of each unit in the dtype.
    """
    x, matrices = _by_units(simulation)
    (L, Z, D), w = x.shape, x.itemsize
    inputs, factors = _ready(x, matrices)
    potrf, potrs = bare(simulation, "potrf", "potrs")

    def floor() -> None:
        for unit, A in zip(inputs, factors, strict=True):
            potrs(potrf(A, clean=0)[0], unit)

    def check(y: Any) -> None:
        """Check residuals against a factorisation's and two substitutions' rounding, a share of ‖A‖ ‖y‖."""
        double, stack = np.asarray(y, np.float64), matrices.astype(np.float64)
        require(double.shape == x.shape, f"shape {double.shape}")
        norms, sizes = _sizes(double, stack)
        left = np.stack([unit @ A for unit, A in _units(double, stack)], axis=1)
        near(left, x, 3 * rounding(x.dtype, D) * float((norms * sizes).max()))

    return Task(
        ours=lambda: fc.quadratic_forms.SPDBatch.from_matrices(matrices).solve(x), check=check,
        flops=Z * D**3 / 3 + 2.0 * L * Z * D**2, nbytes=w * (2 * x.size + 2 * matrices.size),
        naive=lambda: _naive.solutions(matrices, x), naive_flops=2.0 * Z * D**2 * (D / 3 + L), floor=floor,
    )  # fmt: skip
