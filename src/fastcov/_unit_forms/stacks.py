"""Check stacks of matrices, one per unit, and process them one block or one unit at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
import scipy.linalg
from numpy.typing import DTypeLike, NDArray

from .._compute import blas
from .._compute.jit import blas_for
from .._inputs.validation import check_array, nonfinite
from . import factor_kernels as kernels
from .form_kernels import symmetric_parts

Array = NDArray[Any]

# Above this order LAPACK factorises and solves one unit after another, with the threads of BLAS.
LARGE = 256
# Bytes that are converted at a time of an array that the kernels cannot read as it is, and flops in one call
# of a kernel: about 0.1 s, so that Ctrl-C is answered in between.
BLOCK_BYTES, BLOCK_FLOPS = 1 << 24, 1 << 33

MATRIX = ("unit", "row", "column")


def check_stack(name: str, value: Any) -> Array:
    """Return a real array of matrices (Z, I, I), or raise; Z may be 0."""
    array = check_array(name, value, MATRIX, empty=True)
    if array.shape[1] != array.shape[2] or array.shape[1] == 0:
        raise ValueError(
            f"Argument '{name}' must hold square matrices of order 1 or more, not be of shape {array.shape}."
        )
    return array


def check_finite(name: str, array: Array, axes: tuple[str, ...], dtype: DTypeLike = np.float64) -> Array:
    """Return a real array in the layout of the kernels; raise if it has a NaN or an infinity."""
    if array.size and (error := nonfinite(name, array, axes)):
        raise error
    return ready(array, dtype)


def dtype_of(*arrays: Array) -> np.dtype[Any]:
    """Return the dtype to compute in: float32 if no array is more precise, else float64."""
    single = all(a.dtype.kind == "f" and a.dtype.itemsize <= 4 for a in arrays)
    return np.dtype(np.float32 if single else np.float64)


def check_flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"Argument '{name}' must be True or False, not {value!r}.")
    return bool(value)


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the dtype, which must be float32 or float64."""
    try:
        found = None if dtype is None else np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        found = None
    if found is None or found not in (np.float32, np.float64):
        given = repr(dtype) if found is None else str(found)
        raise TypeError(f"Argument 'dtype' must be float32 or float64, not {given}: pass one of these.")
    return found


def max_eigenvalue_ratio(dtype: np.dtype[Any]) -> float:
    """Return the largest ratio of eigenvalues, ε⁻²: beyond it the root of the smallest is rounding error."""
    return float(np.finfo(dtype).eps) ** -2


def check_eigenvalues(eigenvalues: NDArray[np.float64], dtype: np.dtype[Any]) -> None:
    """Raise if 'values' (Z, I) are not positive, or too far apart for factors in the dtype."""
    if not (eigenvalues > 0).all():
        z, i = np.argwhere(~(eigenvalues > 0))[0]
        raise ValueError(
            f"Argument 'values' must be positive, not {eigenvalues[z, i]:.3g} at unit {z}, input {i} "
            "(counted from 0): a covariance that is singular has no inverse; add to its eigenvalues."
        )
    smallest, largest = eigenvalues.min(axis=1), eigenvalues.max(axis=1)
    most = max_eigenvalue_ratio(dtype)
    lost = np.flatnonzero(smallest < largest / most)
    if len(lost):
        z, single = lost[0], dtype == np.float32
        raise ValueError(
            f"Argument 'values' must lie within a factor of {most:.3g} in a unit, not between "
            f"{smallest[z]:.3g} and {largest[z]:.3g} as at unit {z} (counted from 0): factors of dtype "
            f"{dtype} hold no more; raise the smallest{', or use float64' if single else ''}."
        )


def ready(array: Array, dtype: DTypeLike) -> Array:
    """Return the array in the layout of the kernels, copied if it is not."""
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinite
        return np.require(array, dtype, ["C", "A", "W"])


def blocks(array: Array, dtype: np.dtype[Any], flops: int) -> Iterator[tuple[slice, Array]]:
    """Yield slices of rows, of `flops` each row, and array[rows] as by `ready`, valid until the next."""
    n, flags = len(array), array.flags
    step = max(1, BLOCK_FLOPS // max(1, flops))
    buffer = None
    if not (array.dtype == dtype and flags.c_contiguous and flags.aligned and flags.writeable):
        step = max(1, min(step, BLOCK_BYTES // max(1, dtype.itemsize * array[:1].size)))
        buffer = np.empty((min(step, n), *array.shape[1:]), dtype)
    for start in range(0, n, step):
        part = array[start : start + step]
        if buffer is not None:
            with np.errstate(over="ignore"):
                np.copyto(buffer[: len(part)], part, casting="unsafe")
            part = buffer[: len(part)]
        yield slice(start, start + len(part)), part


def factorised(given: Array, *, keep: bool, dtype: DTypeLike | None = None) -> tuple[Array, Array, Array]:
    """Check 'matrices'; return symmetric parts for the kernels, L (empty unless `keep`), and log det."""
    A = ready(given, dtype or dtype_of(given))
    Z, d = A.shape[:2]
    reports, factors = np.zeros((Z, kernels.REPORT)), np.zeros((Z if keep else 0, d, d), A.dtype)
    if d > LARGE:
        for z in range(Z):
            reports[z] = _factor(A[z], factors[z : z + keep])
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # needed if kernels are interpreted
            kernels.cholesky_factors(A, factors, reports, size=A.size * (d // 4 + 1))
    skews, sizes = reports[:, kernels.SKEW], reports[:, kernels.SIZE]
    wrong = (reports[:, kernels.MINOR] > 0) | (skews > rounding(given) * sizes)
    if wrong.any():
        _refuse(given, reports)
    if skews.any():
        symmetric = np.empty_like(A)
        symmetric_parts(A, symmetric, size=A.size)
        A = symmetric
    return A, factors, reports[:, kernels.LOGDET]


def rounding(given: Array) -> float:
    """Return the relative rounding error of the entries of a product of matrices of this order and dtype."""
    single = given.dtype.kind == "f" and given.dtype.itemsize < 8
    return 8 * given.shape[-1] * float(np.finfo(given.dtype if single else np.float64).eps)


def _factor(A: Array, factor: Array) -> Array:
    """Return the report on a large matrix, and write its factor to `factor` (1, I, I)."""
    L, report = A.astype(np.float64), np.zeros(kernels.REPORT)
    if not np.array_equal(L, L.T):
        with np.errstate(invalid="ignore", over="ignore"):
            skew = np.abs(L - L.T)
        places = [kernels.SKEW, kernels.WHERE, kernels.SIZE]
        report[places] = skew.max(), skew.argmax(), np.abs(L).max()
        symmetric_parts(L[np.newaxis], L[np.newaxis], size=L.size)
    report[kernels.MINOR] = blas.cholesky(L)
    with np.errstate(invalid="ignore", divide="ignore"):
        report[kernels.LOGDET] = 2.0 * np.log(np.diagonal(L)).sum()
    if not np.isfinite(report[kernels.LOGDET]):  # not every LAPACK stops at a NaN
        report[kernels.MINOR] = max(1, report[kernels.MINOR])
    factor[...] = np.tril(L)
    return report


def _refuse(given: Array, reports: Array) -> NoReturn:
    """Raise an error for matrices that are not symmetric and positive definite, as their reports show."""
    if error := nonfinite("matrices", given, MATRIX):
        raise error
    skews = reports[:, kernels.SKEW]
    skewed = skews > rounding(given) * reports[:, kernels.SIZE]
    if skewed.any():
        z = int(np.where(skewed, skews, -1.0).argmax())
        i, j = divmod(int(reports[z, kernels.WHERE]), given.shape[1])
        raise ValueError(
            f"Argument 'matrices' must be symmetric, not different by {skews[z]:.3g} at unit {z}, row {i}, "
            f"column {j} (counted from 0), from its transpose: use (A + A.transpose(0, 2, 1)) / 2 if that is "
            "meant."
        )
    units = np.flatnonzero(reports[:, kernels.MINOR])
    A = given[units[0]].astype(np.float64)
    with blas_for(0.0):
        smallest, largest = scipy.linalg.eigvalsh(0.5 * A + 0.5 * A.T)[[0, -1]]
    raise ValueError(
        f"Argument 'matrices' must be positive definite, not with {len(units)} of {len(given)} that are not, "
        f"first that of unit {units[0]} (counted from 0), whose smallest eigenvalue is {smallest:.3g} and "
        f"largest {largest:.3g}: add a multiple of the identity."
    )


def refuse_factors(given: Array, flaws: NDArray[np.intp]) -> NoReturn:
    """Raise an error for 'factors' with flaws, in the numbering of `copied_factors`."""
    if error := nonfinite("factors", given, MATRIX):
        raise error
    z = int(np.flatnonzero(flaws)[0])
    i, j = divmod(int(flaws[z]) - 1, given.shape[1])
    what = "have a positive diagonal" if i == j else "be lower triangular"
    raise ValueError(
        f"Argument 'factors' must {what}, not hold {given[z, i, j]:.3g} at unit {z}, row {i}, "
        f"column {j} (counted from 0): "
        + ("train its logarithm." if i == j else "transpose upper factors, or take np.tril of them.")
    )


def reflected(Q: Array, values: Array) -> tuple[Array, float, int]:
    """Factorise a large Q Λ Qᵀ; return L, the deviation of Q Qᵀ from 1, and 1 + the first lost row, or 0."""
    gram = blas.self_product(Q)
    deviation = float(np.abs(np.tril(gram) - np.eye(len(Q))).max())
    if not deviation <= 1.0:
        return Q, deviation, 0
    # W.T has the Fortran order that LAPACK wants, and W = L V is its QR factorisation, transposed.
    W = Q * np.sqrt(values)
    (R,) = scipy.linalg.qr(W.T, mode="r", overwrite_a=True, check_finite=False)
    R *= np.where(np.diagonal(R) < 0, -1.0, 1.0)[:, np.newaxis]
    lost = np.flatnonzero(~(np.diagonal(R) > 0))
    return R.T, deviation, int(lost[0]) + 1 if len(lost) else 0
