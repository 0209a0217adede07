"""BLAS and LAPACK on C-ordered arrays, always SciPy's.

NumPy and SciPy wheels each bring an OpenBLAS with a thread pool of its own, and the two spin against
each other: `X.T @ X` followed by a SciPy factorisation is six times slower than SciPy alone. So no
NumPy product stands on a hot path; Numba's `np.dot` is not used either. A C-ordered array is the
transpose of a Fortran-ordered one, so nothing here is ever copied.
"""

import ctypes
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, cython_blas, cython_lapack, lapack

Array = NDArray[Any]

CHOLESKY_PANEL = 256


def _routine(module: Any, name: str, dtype: Any) -> Any:
    return getattr(module, ("s" if dtype == np.float32 else "d") + name)


def product(A: Array, B: Array, *, ta: bool = False, tb: bool = False, out: Array | None = None,
            add: bool = False) -> Array:  # fmt: skip
    """A B, with Aᵀ for `ta` and Bᵀ for `tb`; into `out`, or added to it. 2mnk flops."""
    if out is None:
        out = np.empty((A.shape[1 if ta else 0], B.shape[0 if tb else 1]), A.dtype)
    if 0 in (*A.shape, *B.shape):  # BLAS takes no empty matrix
        if not add:
            out[...] = 0.0
        return out
    gemm = _routine(blas, "gemm", A.dtype)
    gemm(1.0, B.T, A.T, beta=float(add), c=out.T, trans_a=tb, trans_b=ta, overwrite_c=1)
    return out


def self_product(A: Array, *, transpose: bool = False, out: Array | None = None,
                 add: bool = False) -> Array:  # fmt: skip
    """Lower triangle of A Aᵀ (of Aᵀ A for `transpose`); the rest of `out` is left. n²k flops."""
    if out is None:
        n = A.shape[1 if transpose else 0]
        out = np.empty((n, n), A.dtype)
    syrk = _routine(blas, "syrk", A.dtype)
    syrk(1.0, A.T, beta=float(add), c=out.T, trans=not transpose, lower=0, overwrite_c=1)
    return out


def cholesky(A: Array) -> int:
    """Overwrite the lower triangle of A with its Cholesky factor. n³/3 flops.

    Returns 0, or the order of the leading minor that is not positive definite.

    By panels: LAPACK's own routine is as fast (ratio 0.98 to 1.0 at n = 2000 to 8000) but one call of
    seconds, in which Python cannot answer Ctrl-C. SciPy's wrappers copy parts of an array, so the
    parts go to the same library by address.
    """
    n, char = len(A), "s" if A.dtype == np.float32 else "d"
    potrf = _by_address(cython_lapack, char + "potrf")
    trsm, syrk = (_by_address(cython_blas, char + name) for name in ("trsm", "syrk"))
    number = ctypes.c_float if A.dtype == np.float32 else ctypes.c_double
    one, minus_one, ld, info = number(1.0), number(-1.0), ctypes.c_int(n), ctypes.c_int()

    def at(i: int, j: int) -> ctypes.c_void_p:
        return ctypes.c_void_p(A.ctypes.data + A.itemsize * (i * n + j))

    # To Fortran, the lower triangle of A is the upper one of its transpose.
    for start in range(0, n, CHOLESKY_PANEL):
        stop = min(start + CHOLESKY_PANEL, n)
        width, rest = ctypes.c_int(stop - start), ctypes.c_int(n - stop)
        _call(potrf, b"U", width, at(start, start), ld, info)
        if info.value:
            return start + info.value
        if stop < n:
            panel = at(stop, start)
            _call(trsm, b"L", b"U", b"T", b"N", width, rest, one, at(start, start), ld, panel, ld)
            _call(syrk, b"U", b"T", rest, width, minus_one, panel, ld, one, at(stop, stop), ld)
    return 0


@functools.cache
def _by_address(module: Any, name: str) -> Any:
    """A routine of SciPy's BLAS or LAPACK, from the C interface it offers to compiled code."""
    capsule = module.__pyx_capi__[name]
    prototype = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)
    label = prototype(("PyCapsule_GetName", ctypes.pythonapi))(capsule)
    prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    return ctypes.CFUNCTYPE(None)(prototype(("PyCapsule_GetPointer", ctypes.pythonapi))(capsule, label))


def _call(routine: Any, *arguments: Any) -> None:
    """Call with every number by reference, as Fortran does."""
    routine(*(a if isinstance(a, (bytes, ctypes.c_void_p)) else ctypes.byref(a) for a in arguments))


def cholesky_solve(L: Array, rhs: Array) -> Array:
    """Solve L Lᵀ x_t = rhs_t for the rows of `rhs` (T, n). 2Tn² flops."""
    potrs = _routine(lapack, "potrs", L.dtype)
    x, _ = potrs(L.T, np.array(rhs, L.dtype, order="C").T, lower=0, overwrite_b=1)
    return np.ascontiguousarray(x.T)


def add_product(total: NDArray[np.float64], A: Array, B: Array, *, ta: bool = False) -> None:
    """total += A B (Aᵀ B for `ta`), in float64 whatever the dtype of the factors. 2mnk flops."""
    if A.dtype == np.float64:
        product(A, B, ta=ta, out=total, add=True)
    else:
        total += product(A, B, ta=ta)


def add_self_product(total: NDArray[np.float64], A: Array) -> None:
    """Add the lower triangle of Aᵀ A to that of `total`, likewise. n²k flops."""
    if A.dtype == np.float64:
        self_product(A, transpose=True, out=total, add=True)
    else:
        total += np.tril(self_product(A, transpose=True))
