"""Quadratic forms xᵀ A x of many inputs and units, where each unit has its own positive-definite matrix.

import numpy as np
from fastcov.quadratic_forms import SPDBatch, quadratic_forms, quadratic_forms_and_gradients
batch = SPDBatch.random(256, 64, rng=0)                     # or .from_matrices, .from_cholesky, .from_eigen
x = np.random.default_rng(0).standard_normal((512, 256, 64))  # samples, units, inputs
g = quadratic_forms(x, batch)                               # (512, 256), never negative
g, gradients = quadratic_forms_and_gradients(x, batch)      # with respect to inputs, matrices and mean
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._compute.jit import blas_for
from ._inputs.validation import check_array, nonfinite, require_memory
from ._unit_forms import form_kernels as kernels
from ._unit_forms.spd import SPDBatch
from ._unit_forms.stacks import (
    Array,
    blocks,
    check_finite,
    check_flag,
    check_stack,
    dtype_of,
    factorised,
    ready,
)

__all__ = ["Gradients", "SPDBatch", "quadratic_forms", "quadratic_forms_and_gradients"]

INPUTS = ("sample", "unit", "input")
# Bytes for all partial sums of outer products together, unless one alone takes more.
PART_BYTES = 1 << 24


def quadratic_forms(
    inputs: ArrayLike,
    matrices: ArrayLike | SPDBatch,
    *,
    mean: ArrayLike | None = None,
    log_determinant: bool = False,
) -> Array:
    """Return g_lz = (x_lz − μ_z)ᵀ A_z (x_lz − μ_z), minus log det A_z with `log_determinant`.

    With `log_determinant`, g/2 + (I/2) log 2π is the negative log density of a Gaussian with mean μ_z and
    inverse covariance A_z.

    Parameters
    ----------
    inputs : array_like, shape (L, Z, I)
        x: L samples of the I inputs of each of Z units. Without samples or without units, g is empty.
    matrices : array_like, shape (Z, I, I), or SPDBatch
        A, one matrix per unit. Matrices must be symmetric to rounding, and their symmetric part is taken;
        they must be positive definite, which is checked by a Cholesky factorisation. A batch is not checked
        again.
    mean : array_like, shape (Z, I), optional
        μ, in units of x; zero by default.
    log_determinant : bool, default False
        Whether to subtract log det A_z.

    Returns
    -------
    ndarray, shape (L, Z)
        g, in units of A times those of x squared; float32 if inputs and matrices are, else float64. A number
        beyond the range of that dtype is infinite.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape; or if a matrix is not symmetric or not
        positive definite: the error names the unit, and its smallest eigenvalue.

    Notes
    -----
    2LZI² flops, and ZI³/3 to check matrices; one read of the inputs, which are not copied. Besides g, memory
    is needed for a copy of matrices that are not symmetric to the bit, and for buffers that do not grow with
    L or Z (up to 16 MB if inputs are not C-ordered or of another dtype, and are converted by blocks). μ is
    subtracted first; the product A (x − μ) is in the dtype, and the sum over its entries in float64. For a
    batch, g = ‖Lᵀ(x − μ)‖² is never negative. If x is an eigenvector of the smallest eigenvalue, g is off by
    about ε times the square root of the condition number, not ε times the condition number. Inputs of 1e±150
    (1e±18 in float32) neither overflow nor underflow unless g does.

    Examples
    --------
    >>> from fastcov.quadratic_forms import quadratic_forms
    >>> quadratic_forms([[[1.0, 1.0]], [[2.0, 0.0]]], [[[4.0, 2.0], [2.0, 5.0]]])
    array([[13.],
           [16.]])
    """
    given = _Given.of(inputs, matrices, mean, log_determinant)
    n, units, d = given.inputs.shape
    require_memory(
        n * units * given.dtype.itemsize, f"Forms of {n} x {units}", "pass fewer samples at a time"
    )
    out = np.empty((n, units), given.dtype)
    for rows, block in given.blocks(products=1):
        kernels.forms(
            block, given.mean, given.matrices, int(given.factored), out[rows], size=block.size * d // 4
        )
    return given.finished(out)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Gradients:
    """Gradients of Σ_lz w_lz g_lz, in the dtype of g.

    Attributes
    ----------
    inputs : ndarray, shape (L, Z, I)
        2 w_lz A_z (x_lz − μ_z).
    matrices : ndarray, shape (Z, I, I)
        Σ_l w_lz (x_lz − μ_z)(x_lz − μ_z)ᵀ, minus (Σ_l w_lz) A_z⁻¹ with the log determinant; symmetric to the
        bit. All entries count as free: for a symmetric dA, the change of the sum is Σ_ij of the gradient
        times dA. `SPDBatch.factor_gradient` converts it to the gradient with respect to the factors.
    mean : ndarray, shape (Z, I), or None
        −Σ_l of the gradients `inputs`; None if no mean was given.
    """

    inputs: Array
    matrices: Array
    mean: Array | None

    def __repr__(self) -> str:
        mean = None if self.mean is None else self.mean.shape
        return f"Gradients: inputs {self.inputs.shape}, matrices {self.matrices.shape}, mean {mean}"


def quadratic_forms_and_gradients(
    inputs: ArrayLike,
    matrices: ArrayLike | SPDBatch,
    *,
    weights: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    log_determinant: bool = False,
) -> tuple[Array, Gradients]:
    """Return g as `quadratic_forms` does, and the gradients of Σ_lz w_lz g_lz.

    Parameters
    ----------
    inputs, matrices, mean, log_determinant
        As for `quadratic_forms`.
    weights : array_like, shape (L, Z), optional
        w: the gradient, with respect to g, of a function that is computed from g; ones by default.

    Returns
    -------
    g : ndarray, shape (L, Z)
    gradients : Gradients

    Raises
    ------
    TypeError, ValueError
        As for `quadratic_forms`.

    Notes
    -----
    4LZI² flops, 6LZI² for a batch (2 w L (Lᵀ(x − μ)) keeps the accuracy of its factors), and 2ZI³ more with
    the log determinant; one read of the inputs and one write of their gradient, which is as large. Sums over
    the samples of a chunk are in the dtype, and sums over chunks in float64.

    Examples
    --------
    >>> from fastcov.quadratic_forms import quadratic_forms_and_gradients
    >>> g, gradients = quadratic_forms_and_gradients([[[1.0, 1.0]]], [[[4.0, 2.0], [2.0, 5.0]]])
    >>> g, gradients.inputs
    (array([[13.]]), array([[[12., 14.]]]))
    """
    given = _Given.of(inputs, matrices, mean, log_determinant, invert=True)
    shape = given.inputs.shape[:2]
    w = np.ones(shape) if weights is None else _matching("weights", weights, INPUTS[:2], shape)
    g, by_inputs, matrix_gradient, by_mean = _weighted(given, w, (True, True, mean is not None))
    assert by_inputs is not None
    assert matrix_gradient is not None
    return g, Gradients(by_inputs, matrix_gradient, by_mean)


def needed_gradients(
    inputs: Array,
    matrices: Array | SPDBatch,
    *,
    weights: Array,
    mean: Array | None,
    log_determinant: bool,
    needed: tuple[bool, bool, bool],
) -> tuple[Array | None, Array | None, Array | None]:
    """Return the gradients with respect to inputs, matrices and mean, each None if it is not needed.

    The weights (L, Z) may have any value: infinity and NaN propagate as in the arithmetic.
    """
    given = _Given.of(inputs, matrices, mean, log_determinant, invert=needed[1])
    return _weighted(given, ready(weights, np.float64), needed)[1:]


def _weighted(
    given: _Given, w: NDArray[np.float64], needed: tuple[bool, bool, bool]
) -> tuple[Array, Array | None, Array | None, Array | None]:
    """Compute the forms, and the gradients that are needed."""
    n, units, d = given.inputs.shape
    of_inputs, of_matrices, of_mean = needed
    require_memory(
        of_inputs * given.inputs.size * given.dtype.itemsize + of_matrices * 16 * units * d * d,
        f"Gradients of {n} x {units} x {d}",
        "pass fewer samples at a time",
    )
    out, slopes = np.empty((n, units), given.dtype), np.empty((n * of_inputs, units, d), given.dtype)
    # With fewer units than the wanted number of tasks, parts of the samples are summed separately.
    tasks = -(-kernels.TASKS // max(1, units))
    parts = max(1, min(tasks, n // (4 * max(d, 32)), PART_BYTES // (8 * d * d * max(1, units))))
    totals, sums = np.zeros((parts, units, *2 * (d * of_matrices,))), np.zeros((parts, units, d))
    for rows, block in given.blocks(products=3):
        kernels.forms_and_gradients(
            block, given.mean, given.matrices, int(given.factored), w[rows], out[rows], slopes[rows],
            totals, sums, size=block.size * d // 4,
        )  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):  # beyond the range of the dtype: infinite
        by_mean = -sums.sum(axis=0).astype(given.dtype, copy=False) if of_mean else None
        matrix_gradient = given.matrix_gradient(totals, w) if of_matrices else None
    return given.finished(out), slopes if of_inputs else None, matrix_gradient, by_mean


def _matching(name: str, value: Any, axes: tuple[str, ...], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return a finite float64 array that shares two axes with the inputs, or raise."""
    array = check_array(name, value, axes, empty=True)
    if array.shape != shape:
        raise ValueError(
            f"Argument '{name}' must have the {shape[0]} {axes[0]}s and {shape[1]} {axes[1]}s of 'inputs', "
            f"not shape {array.shape}."
        )
    return check_finite(name, array, axes)


@dataclasses.dataclass(frozen=True)
class _Given:
    """The arguments of the functions, checked except for NaN in the inputs, which shows in g."""

    inputs: Array
    dtype: np.dtype[Any]
    matrices: Array  # A, or L if `factored`
    factored: bool
    mean: NDArray[np.float64]
    logdet: NDArray[np.float64] | None
    batch: SPDBatch | None  # the matrices as a batch, if they were given or are needed as one

    @classmethod
    def of(
        cls, inputs: Any, matrices: Any, mean: Any, log_determinant: bool, *, invert: bool = False
    ) -> _Given:
        """Check the arguments; `invert`: make a batch if there is a log determinant, to invert matrices."""
        log_determinant = check_flag("log_determinant", log_determinant)
        x = check_array("inputs", inputs, INPUTS, empty=True)
        units, d = x.shape[1:]
        factored = isinstance(matrices, SPDBatch)
        stack = matrices.cholesky if isinstance(matrices, SPDBatch) else check_stack("matrices", matrices)
        if stack.shape != (units, d, d):
            raise ValueError(
                f"Argument 'matrices' must hold one matrix of order {d} for each of the {units} units of "
                f"'inputs', not be of shape {stack.shape}: inputs are (samples, units, inputs)."
            )
        mu = np.zeros((units, d)) if mean is None else _matching("mean", mean, INPUTS[1:], (units, d))
        dtype = dtype_of(x, stack)
        if isinstance(matrices, SPDBatch):
            logdet = matrices.logdet() if log_determinant else None
            return cls(x, dtype, ready(matrices._factors, dtype), factored, mu, logdet, matrices)
        keep = log_determinant and invert
        A, factors, logdets = factorised(stack, keep=keep, dtype=dtype)
        batch = SPDBatch._of(factors) if keep else None
        return cls(x, dtype, A, factored, mu, logdets if log_determinant else None, batch)

    def blocks(self, *, products: int) -> Iterator[tuple[slice, Array]]:
        """Yield blocks of rows of the inputs, for this number of products with each row."""
        _, units, d = self.inputs.shape
        with blas_for(0.0), np.errstate(over="ignore", invalid="ignore"):
            yield from blocks(self.inputs, self.dtype, 2 * products * units * d * d)

    def matrix_gradient(self, totals: NDArray[np.float64], w: NDArray[np.float64]) -> Array:
        """Return the gradient with respect to matrices, from its partial sums over samples."""
        total = totals[0] if len(totals) == 1 else totals.sum(axis=0)
        kernels.symmetric_parts(total, total, size=total.size)
        if self.logdet is not None and self.batch is not None:
            total -= w.sum(axis=0)[:, np.newaxis, np.newaxis] * self.batch.inverse()
        return total.astype(self.dtype, copy=False)

    def finished(self, out: Array) -> Array:
        """Subtract the log determinants from the forms; raise if inputs are not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            total = out.sum(dtype=np.float64)
        if not np.isfinite(total) and (error := nonfinite("inputs", self.inputs, INPUTS)):
            raise error
        if self.logdet is not None:
            out -= self.logdet
        return out
