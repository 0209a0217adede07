"""BLAS and LAPACK on C-ordered arrays, always SciPy's.

NumPy and SciPy wheels each bring an OpenBLAS with a thread pool of its own, and the two spin against
each other: `X.T @ X` followed by a SciPy factorisation is six times slower than SciPy alone. So no hot path
contains a NumPy product. (In kernels, Numba's `np.dot` is SciPy's, and runs on one thread.) A
C-ordered array is the transpose of a Fortran-ordered one, so nothing here is ever copied.
"""

import concurrent.futures
import ctypes
import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, cython_blas, cython_lapack, lapack

Array = NDArray[Any]

CHOLESKY_PANEL = 256
# OpenBLAS gives dot products of vectors of more than 10,000 numbers to its threads, which takes longer than
# the products. Pieces of this size stay on one thread: 5 us for 30,000 numbers, and waking a thread takes 50.
PIECE = 8192
# A call of more flops than this takes half a second or more, in which Python could not answer Ctrl-C.
LONG_FLOPS = 2e10
in_background: set[threading.Event] = set()  # one for each long call that is running


def _routine(module: Any, name: str, dtype: Any) -> Any:
    return getattr(module, ("s" if dtype == np.float32 else "d") + name)


def product(A: Array, B: Array, *, ta: bool = False, tb: bool = False, out: Array | None = None,
            add: bool = False) -> Array:  # fmt: skip
    """The product A B, with Aᵀ for `ta` and Bᵀ for `tb`; written to `out`, or added to it. 2mnk flops."""
    if out is None:
        out = np.empty((A.shape[1 if ta else 0], B.shape[0 if tb else 1]), A.dtype)
    if 0 in (*A.shape, *B.shape):  # BLAS takes no empty matrix
        if not add:
            out[...] = 0.0
        return out
    if len(A) == len(out) == 1 and not (ta or add):  # ten times faster
        gemv = _routine(blas, "gemv", A.dtype)
        gemv(1.0, B.T, A[0], beta=0.0, y=out[0], trans=tb, overwrite_y=1)
        return out
    gemm = _routine(blas, "gemm", A.dtype)
    gemm(1.0, B.T, A.T, beta=float(add), c=out.T, trans_a=tb, trans_b=ta, overwrite_c=1)
    return out


def subtract_self_product(out: Array, A: Array) -> None:
    """Subtract A Aᵀ from the lower triangle of `out`, for A with few columns. n²k flops."""
    if A.size:
        _routine(blas, "syrk", A.dtype)(-1.0, A.T, beta=1.0, c=out.T, trans=True, lower=0, overwrite_c=1)


def self_product(A: Array, *, transpose: bool = False, out: Array | None = None,
                 add: bool = False) -> Array:  # fmt: skip
    """Lower triangle of A Aᵀ (of Aᵀ A for `transpose`); the rest of `out` stays as it is. n²k flops."""
    k, n = A.shape if transpose else A.shape[::-1]
    if out is None:
        out = np.empty((n, n), A.dtype)
    if A.size == 0:
        if not add:
            out[...] = 0.0
        return out
    if n * n * k > LONG_FLOPS:
        _syrk_at(A, out, transpose=transpose, add=add)
        return out
    syrk = _routine(blas, "syrk", A.dtype)
    syrk(1.0, A.T, beta=float(add), c=out.T, trans=not transpose, lower=0, overwrite_c=1)
    return out


def _syrk_at(A: Array, out: Array, *, transpose: bool, add: bool) -> None:
    """`self_product` through the routine's address, so that other Python threads can run."""
    k, n = A.shape if transpose else A.shape[::-1]
    syrk, number = _by_address(cython_blas, "syrk", A.dtype), _number(A.dtype)
    ld = ctypes.c_int(A.shape[1])
    _call(syrk, b"U", b"N" if transpose else b"T", ctypes.c_int(n), ctypes.c_int(k), number(1.0),
          _at(A), ld, number(float(add)), _at(out), ctypes.c_int(n), flops=n * n * k)  # fmt: skip


def repeated_self_product(A: Array, out: Array) -> Callable[[], object]:
    """A call that writes the lower triangle of Aᵀ A to `out`, for an A that changes in place. n²k flops.

    Other Python threads can run meanwhile. A call takes 2 us beside the product, and by `_syrk_at` 12.
    """
    k, n = A.shape
    if A.size == 0:
        return functools.partial(out.fill, 0.0)
    if n * n * k > LONG_FLOPS:
        return functools.partial(_syrk_at, A, out, transpose=True, add=False)
    syrk, number = _by_address(cython_blas, "syrk", A.dtype), _number(A.dtype)
    numbers = (ctypes.c_int(n), ctypes.c_int(k), number(1.0), number(0.0))
    order, length, one, zero = (ctypes.byref(each) for each in numbers)
    return functools.partial(syrk, b"U", b"N", order, length, one, _at(A), order, zero, _at(out), order)


def tall_products(A: Array, parts: int) -> list[Array]:
    """Lower triangles of Aᵀ A for `parts` parts of the rows of A, each on a thread of its own. n²k flops.

    With few columns, OpenBLAS's own threads gain little: 4000 x 250 takes 5.6 ms on two of them, 6.3 on one,
    and 4.2 this way. The caller holds BLAS at one thread.
    """
    k, n = A.shape
    outs = [np.zeros((n, n), A.dtype) for _ in range(parts)]

    def add(p: int) -> None:
        _syrk_at(A[p * k // parts : (p + 1) * k // parts], outs[p], transpose=True, add=True)

    with concurrent.futures.ThreadPoolExecutor(parts) as pool:
        list(pool.map(add, range(parts)))
    return outs


def cholesky(A: Array, watch: Callable[[float], object] | None = None) -> int:
    """Overwrite the lower triangle of A with its Cholesky factor. n³/3 flops.

    `watch` is told the share that is done.

    Returns 0, or the order of the leading minor that is not positive definite.

    It works by panels. LAPACK's own routine is as fast (ratio 0.98 to 1.0 at n = 2000 to 8000), but it is
    one call of seconds, in which Python cannot answer Ctrl-C. SciPy's wrappers would copy parts of an array,
    so the parts are passed to the same library by address.
    """
    n, number = len(A), _number(A.dtype)
    potrf = _by_address(cython_lapack, "potrf", A.dtype)
    trsm, syrk = (_by_address(cython_blas, name, A.dtype) for name in ("trsm", "syrk"))
    one, minus_one, ld, info = number(1.0), number(-1.0), ctypes.c_int(n), ctypes.c_int()

    # To Fortran, the lower triangle of A is the upper one of its transpose.
    for start in range(0, n, CHOLESKY_PANEL):
        stop = min(start + CHOLESKY_PANEL, n)
        width, rest = ctypes.c_int(stop - start), ctypes.c_int(n - stop)
        corner = _at(A, start, start)
        _call(potrf, b"U", width, corner, ld, info)
        if info.value:
            return start + info.value
        if stop < n:
            panel, work = _at(A, stop, start), width.value * rest.value
            _call(trsm, b"L", b"U", b"T", b"N", width, rest, one, corner, ld, panel, ld,
                  flops=work * width.value)  # fmt: skip
            _call(syrk, b"U", b"T", rest, width, minus_one, panel, ld, one, _at(A, stop, stop), ld,
                  flops=work * rest.value)  # fmt: skip
        if watch is not None:
            watch(1.0 - (rest.value / n) ** 3)
    return 0


def invert_lower(L: Array) -> None:
    """Overwrite a lower triangular L with its inverse, and what is above with zeros. n³/3 flops."""
    n, info = len(L), ctypes.c_int()
    # To Fortran, L is the upper triangle of its transpose.
    trtri = _by_address(cython_lapack, "trtri", L.dtype)
    _call(trtri, b"U", b"N", ctypes.c_int(n), _at(L), ctypes.c_int(n), info, flops=n**3 / 3)
    for i in range(n - 1):
        L[i, i + 1 :] = 0.0


def pivoted_cholesky(A: NDArray[np.float64], tol: float) -> tuple[NDArray[np.intp], int]:
    """Overwrite the lower triangle of A with the Cholesky factor of A[order][:, order]. n³/3 flops.

    Returns the order, in which pivots decrease, and the number of pivots above `tol`. Rows beyond that
    number hold no factor.
    """
    n = len(A)
    pstrf = _by_address(cython_lapack, "pstrf", A.dtype)
    order, rank, info = np.empty(n, np.intc), ctypes.c_int(), ctypes.c_int()
    _call(pstrf, b"U", ctypes.c_int(n), _at(A), ctypes.c_int(n), _at(order), rank, ctypes.c_double(tol),
          _at(np.empty(2 * n)), info, flops=n**3 / 3)  # fmt: skip
    return order.astype(np.intp) - 1, rank.value


def orthonormal(A: NDArray[np.float64], tol: float) -> NDArray[np.float64]:
    """Orthonormal rows that span the rows of A (m, n), m ≤ n, except for parts below `tol` of the longest.

    QR with pivoting finds them and overwrites A: 4nm² flops.
    """
    (m, n), info, rank = A.shape, ctypes.c_int(), ctypes.c_int()
    geqp3, orgqr = (_by_address(cython_lapack, name, A.dtype) for name in ("geqp3", "orgqr"))
    # To Fortran, the rows of A are columns.
    rows, columns, size = ctypes.c_int(n), ctypes.c_int(m), 2 * m + 64 * (m + 1)
    pivots, scales, work = np.zeros(m, np.intc), np.empty(m), np.empty(size)
    _call(geqp3, rows, columns, _at(A), rows, _at(pivots), _at(scales), _at(work), ctypes.c_int(size), info,
          flops=2.0 * n * m * m)  # fmt: skip
    sizes = np.abs(np.diagonal(A))
    rank.value = int(np.count_nonzero(sizes > tol * sizes[0]))
    _call(orgqr, rows, rank, rank, _at(A), rows, _at(scales), _at(work), ctypes.c_int(size), info,
          flops=2.0 * n * m * m)  # fmt: skip
    return A[: rank.value]


def eigh(A: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eigenvalues, ascending, of the symmetric matrix in the lower triangle of A (n, n).

    The rows of A become the eigenvectors. Some 9n³ flops, and 16n² bytes beside A.
    """
    n = len(A)
    syevd = _by_address(cython_lapack, "syevd", A.dtype)
    values, info, order = np.empty(n), ctypes.c_int(), ctypes.c_int(n)
    work, counts = np.empty(1 + 6 * n + 2 * n * n), np.empty(3 + 5 * n, np.intc)
    _call(syevd, b"V", b"U", order, _at(A), order, _at(values), _at(work), ctypes.c_int(len(work)),
          _at(counts), ctypes.c_int(len(counts)), info, flops=9.0 * n**3)  # fmt: skip
    if info.value:
        raise np.linalg.LinAlgError(f"The eigendecomposition did not converge ({info.value}).")
    return values


def _number(dtype: Any) -> Any:
    return ctypes.c_float if dtype == np.float32 else ctypes.c_double


def _at(A: Array, i: int = 0, j: int = 0) -> ctypes.c_void_p:
    """The address of A[i, j]. The object keeps A alive."""
    address = ctypes.c_void_p(A.ctypes.data + A.itemsize * (i * A.shape[-1] + j))
    address.owner = A  # type: ignore[attr-defined]
    return address


@functools.cache
def _by_address(module: Any, name: str, dtype: Any) -> Any:
    """A routine of SciPy's BLAS or LAPACK, from the C interface that SciPy offers to compiled code."""
    capsule = module.__pyx_capi__[("s" if dtype == np.float32 else "d") + name]
    prototype = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)
    label = prototype(("PyCapsule_GetName", ctypes.pythonapi))(capsule)
    prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    return ctypes.CFUNCTYPE(None)(prototype(("PyCapsule_GetPointer", ctypes.pythonapi))(capsule, label))


def _call(routine: Any, *arguments: Any, flops: float = 0.0) -> None:
    """Call a routine with every number by reference, as Fortran expects.

    A long call runs in a thread of its own, because Python answers Ctrl-C while it waits for a thread. The
    call itself cannot be interrupted. It goes on in the background, on memory that it keeps alive, and
    Python does not exit before it ends. (Otherwise the library would be unloaded under the call, which
    then crashes or never ends.)
    """
    passed = [a if isinstance(a, (bytes, ctypes.c_void_p)) else ctypes.byref(a) for a in arguments]
    if flops <= LONG_FLOPS:
        routine(*passed)
        return
    ended = threading.Event()

    def call() -> None:
        in_background.add(ended)
        try:
            routine(*passed)
        finally:
            in_background.discard(ended)
            ended.set()

    threading.Thread(target=call, daemon=False).start()
    # An event in place of the thread's join: Python 3.11 counts a thread as ended once its join has been
    # interrupted. Each wait is short, because a signal that comes just before a wait does not end it.
    while not ended.wait(0.2):
        pass


def cholesky_solve(L: Array, rhs: Array) -> Array:
    """Solve L Lᵀ x_t = rhs_t for each row of `rhs` (T, n). 2Tn² flops."""
    potrs = _routine(lapack, "potrs", L.dtype)
    x, _ = potrs(L.T, np.array(rhs, L.dtype, order="C").T, lower=0, overwrite_b=1)
    return np.ascontiguousarray(x.T)


def dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The inner product a·b of two vectors."""
    return float(sum(blas.ddot(a[some], b[some]) for some in _pieces(len(a))))


def norm(A: NDArray[np.float64]) -> np.float64:
    """‖A‖ over all entries, as a NumPy number, by which a division does not raise. No square overflows."""
    a = A.reshape(-1)
    sizes = [blas.dnrm2(a[some]) for some in _pieces(len(a))]
    return np.float64(sizes[0] if len(sizes) == 1 else blas.dnrm2(np.array([0.0, *sizes])))


def _pieces(n: int) -> list[slice]:
    return [slice(first, first + PIECE) for first in range(0, n, PIECE)]


def dots(A: NDArray[np.float64], B: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inner product a_t·b_t for each pair of rows of A and B (T, n)."""
    return np.array([dot(a, b) for a, b in zip(A, B, strict=True)])


def squares(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """The squared Frobenius norm of each matrix of a stack (T, m, n)."""
    flat = matrices.reshape(len(matrices), -1)
    if len(flat) > 1 and flat.shape[1] <= PIECE:
        return np.einsum("ti,ti->t", flat, flat)
    return dots(flat, flat)


def norms(A: NDArray[np.float64]) -> NDArray[np.float64]:
    """The norm ‖a_t‖ of each row of A (T, n)."""
    return np.array([norm(a) for a in A])


def add_scaled(Y: NDArray[np.float64], scales: Any, X: NDArray[np.float64]) -> None:
    """y_t += s_t x_t for each pair of rows of X and Y (T, n), in place."""
    for some in _pieces(Y.shape[1]):
        for y, s, x in zip(Y[:, some], scales, X[:, some], strict=True):
            blas.daxpy(x, y, a=s)


def add_product(total: NDArray[np.float64], A: Array, B: Array, *, ta: bool = False) -> None:
    """total += A B (Aᵀ B for `ta`); the sum is in float64, whatever the dtype of A and B. 2mnk flops."""
    if A.dtype == np.float64:
        product(A, B, ta=ta, out=total, add=True)
    else:
        total += product(A, B, ta=ta)


def add_self_product(total: NDArray[np.float64], A: Array) -> None:
    """Add the lower triangle of Aᵀ A to that of `total`; the sum is in float64 as well. n²k flops."""
    if A.dtype == np.float64:
        self_product(A, transpose=True, out=total, add=True)
    else:
        total += np.tril(self_product(A, transpose=True))
