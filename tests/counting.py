"""Counts that do not depend on noise: flops, rows of X that are read, and arrays that are made.

`work` counts what SciPy's BLAS and LAPACK and the kernels are asked for, from the shapes of their
arguments; `Rows` the rows that are read of an array outside memory; `allocations` the arrays that NumPy
makes for the calling thread.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import os
import sys

import numpy as np
import pytest
import scipy.linalg.blas
import scipy.linalg.lapack

import fastcov
from fastcov._activations.kernels import GROUP
from fastcov._compute import blas
from fastcov._compute.jit import Kernel
from fastcov._compute.trust_region_kernels import CG_ITERATIONS, PASSES, PRODUCTS, STEPS
from fastcov._model import products as model_products
from fastcov._solvers import _nystrom


class Work:
    """Calls of BLAS, LAPACK and kernels by name: how many, their flops by formula, elements of X they read.

    Those of `ELEMENTWISE` take an element, or a number of a vector, once; all others are products.
    """

    def __init__(self):
        self.flops, self.calls, self.read = (collections.Counter() for _ in range(3))

    def add(self, name, flops, read=0):
        self.calls[name] += 1
        self.flops[name] += flops
        self.read[name] += read

    def products(self):
        """Flops of products and factorisations."""
        return sum(flops for name, flops in self.flops.items() if name not in ELEMENTWISE)

    def passes(self, X):
        """Reads of all of X by kernels, in one piece or by blocks."""
        return sum(self.read.values()) / np.size(X)

    def __repr__(self):
        return ", ".join(f"{self.calls[name]} {name}: {flops:.8g}" for name, flops in self.flops.items())


# --- BLAS and LAPACK


def _shape(A, transposed):
    return np.shape(A)[::-1] if transposed else np.shape(A)


def _gemm(alpha, A, B, *, trans_a=0, trans_b=0, **_):
    (m, k), (_, n) = _shape(A, trans_a), _shape(B, trans_b)
    return 2 * m * n * k


def _syrk(alpha, A, *, trans=0, **_):
    n, k = _shape(A, trans)
    return n * n * k


def _vector(*vectors, **_):
    return 2 * np.size(vectors[0])


VECTORS = ("dot", "nrm2", "axpy", "amax")
# By name, without the letter of the precision, from the arguments of SciPy's wrappers.
WRAPPED = {
    "gemm": _gemm,
    "gemv": lambda alpha, A, *_, **__: 2 * np.size(A),
    "syrk": _syrk,
    "trsm": lambda alpha, A, B, **_: len(A) * np.size(B),  # from the left
    "potrs": lambda L, B, **_: 2 * len(L) * np.size(B),
    "potri": lambda L, **_: 2 * len(L) ** 3 / 3,
    **dict.fromkeys(VECTORS, _vector),
}
# From those that Fortran takes, which `blas` calls by address.
BY_ADDRESS = {
    "potrf": lambda uplo, n, *_: n**3 / 3,
    "trsm": lambda side, uplo, trans, diag, m, n, *_: m * m * n,  # from the left
    "syrk": lambda uplo, trans, n, k, *_: n * n * k,
    "pstrf": lambda uplo, n, *_: n**3 / 3,
    "trtri": lambda uplo, diag, n, *_: n**3 / 3,
    "geqp3": lambda m, n, *_: 2 * m * n * n,
    "orgqr": lambda m, n, k, *_: 2 * m * n * k,
    "syevd": lambda jobz, uplo, n, *_: 9 * n**3,
}


def _counted(work, name, function, flops):
    @functools.wraps(function, assigned=(), updated=())
    def call(*args, **options):
        work.add(name, flops(*args, **options))
        return function(*args, **options)

    return call


def _watch_wrappers(work, patch):
    """Count every routine of `scipy.linalg.blas` and `lapack`; one without a formula is an error."""
    for module in (scipy.linalg.blas, scipy.linalg.lapack):
        for name in vars(module):
            routine = getattr(module, name)
            if type(routine).__name__ == "fortran":
                short = "amax" if name in ("idamax", "isamax") else name[1:]
                counted = _counted(work, short, routine, WRAPPED.get(short, _unknown(name)))
                patch.setattr(module, name, counted)


def _unknown(name):
    def fail(*_, **__):
        raise AssertionError(f"{name} has no formula in tests/counting.py.")

    return fail


def _watch_addresses(work, patch):
    def by_address(module, name, dtype):
        def call(*args):
            values = [getattr(getattr(a, "_obj", a), "value", a) for a in args]
            work.add(name, BY_ADDRESS[name](*values))
            routine(*args)

        routine = found(module, name, dtype)
        return call

    found = blas._by_address
    patch.setattr(blas, "_by_address", by_address)


def _watch_solvers(work, patch):
    """What modules take of `scipy.linalg` by name."""
    for module, name, flops in (
        (_nystrom, "solve_triangular", lambda L, B, **_: len(L) * np.size(B)),
        (model_products, "eigh", lambda A, **_: 4 / 3 * len(A) ** 3),  # eigenvalues alone
    ):
        patch.setattr(module, name, _counted(work, name, getattr(module, name), flops))


# --- kernels


# Flops of each kernel after the call, from its arguments: what its docstring says.
def _model_step(X, weights, mean, error, root, means, own, diagonal, numbers, *_):
    return 4 * X.size * X.shape[1] * int(numbers[CG_ITERATIONS])


def _descend(done, coarse, X, *_):
    """Of all targets, from what the call added to their counts."""
    products = 4 * (done[:, PASSES] + done[:, PRODUCTS]) + 2 * done[:, STEPS]
    return int(products.sum()) * X.size * X.shape[1]


def _descend_reads(done, coarse, X, center, *_):
    mean = int(center)
    reads = (2 + mean) * done[:, PASSES] + 2 * done[:, PRODUCTS] + (1 + mean) * done[:, STEPS]
    return int(reads.sum())


def _forms(products):
    def flops(inputs, mean, matrices, factored, *_):
        return products[bool(factored)] * 2 * inputs.size * inputs.shape[2]

    return flops


def _sign_product(A, B, U, V, edge, tiles, *_):
    return 2 * len(tiles) * edge * edge * len(U) * U.shape[2]


KERNELS = {
    "weighted_sums": lambda X, *_: 3 * X.size,
    "centred_rows": lambda X, *_: 3 * X.size,
    "atom_products": lambda X, first, weights, mean, V, *_: 2 * len(V) * X.size * X.shape[1],
    "adjoint_products": lambda X, first, weights, mean, M, *_: 2 * len(M) * X.size * X.shape[1],
    "centred_products": lambda X, *_: 2 * X.size * X.shape[1],
    "squared_norms": lambda X, *_: 9 * X.size,
    "atom_sums": lambda X, *_: 4 * X.size,
    "gram_from_product": lambda K, *_: 4.5 * K.size,
    "block_from_product": lambda K, *_: 9 * K.size,
    "block_from_products": lambda XX, *_: 4 * XX.size,
    "mirror_lower": lambda A: 0,
    "score_sums": lambda P, *_: 30 * P.size,
    "pair_products": lambda Y, out: out.size,
    "packed_errors": lambda packed, w, *_: 2.5 * w.size * w.shape[1],
    "packed_products": lambda packed, v, out: 2 * v.size * v.shape[1],
    "pair_atoms": lambda X, *_: 2 * X.size * X.shape[1],
    "pivoted_rows": lambda B, least, accepted, rows: 2 * B.size * int(accepted[:-1].sum()),
    "evaluate": lambda X, *_: 4 * X.size * X.shape[1],
    "model_step": _model_step,
    "spread": lambda X, *_: 2 * X.size * X.shape[1],
    "descend": _descend,
    "covariance_parts": lambda X, gains, *_: 2 * len(gains) * X.size * X.shape[1],
    "sums_by_row": lambda X, gains, *_: 2 * len(gains) * X.size * X.shape[1],
    "whole_start": lambda X, weights, mean, target, *_: 2 * (len(target) + 1) * X.size * X.shape[1],
    "whole_gram": lambda X, *_: len(X) * X.size + 2 * X.size,
    "leading_value": lambda A, tol, basis, found: 2 * A.size * found[2],
    "whole_outcome": lambda X, *args: (4 * len(args[2]) + 2 * len(args[-1])) * X.size * X.shape[1],
    "whole_error": lambda X, *args: (4 if len(args[6]) else 2) * X.size * X.shape[1],
    "linear_divisors": lambda inverse, *_: 5 * inverse.size,
    "linear_solution": lambda error, *args: (38 + 2 * int(args[-1][4])) * error.size,
    "linear_distance": lambda C, *_: 4 * C.size,
    # of activations
    "row_ranges": lambda A, *_: 3 * A.size,
    "shifted_rows": lambda A, *_: 3 * A.size,
    "row_dots": lambda A, *_: 2 * A.size,
    "smooth_signs": lambda T, *_: 5 * T.size,
    "unit_rows": lambda A, *_: 3 * A.size,
    "product_signs": _sign_product,
    "exact_signs": lambda A, B, edge, tiles, *_: 2 * len(tiles) * edge * edge * A.shape[1],
    "signed_sums": lambda A, bits, out: A.size * len(out) / GROUP,
    # of stacks of matrices
    "forms": _forms([1, 1]),
    "forms_and_gradients": _forms([2, 3]),
    "symmetric_parts": lambda A, *_: A.size,
    "self_products": lambda L, *_: 2 * L.size * L.shape[1],
    "lower_products": lambda M, *_: 2 * M.size * M.shape[1],
    "cholesky_factors": lambda A, *_: A.size * A.shape[1] / 3,
    "copied_factors": lambda *_: 0,
    "eigen_factors": lambda Q, *_: 4 * Q.size * Q.shape[1],
    "solutions": lambda L, rhs, *_: 2 * rhs.size * L.shape[1],
    "inverses": lambda L, *_: 2 * L.size * L.shape[1],
    "unit_lower": lambda L, *_: L.size,
    "square_norms": lambda L, *_: L.size,
}
ELEMENTWISE = {
    *VECTORS, "weighted_sums", "centred_rows", "squared_norms", "gram_from_product", "block_from_product",
    "block_from_products", "score_sums", "mirror_lower", "pair_products", "packed_errors", "packed_products",
    "pair_atoms", "atom_sums", "row_ranges", "shifted_rows", "row_dots", "smooth_signs", "unit_rows",
    "leading_value", "linear_divisors", "linear_solution", "linear_distance",
    "symmetric_parts", "copied_factors", "unit_lower", "square_norms",
}  # fmt: skip
# Names of first arguments that hold responses or inputs of units. Kernels read them once, but for some: sums,
# if there is a mean, products and rows; two halves of a product. Activations have no name of their own.
RESPONSES = ("X", "Y", "inputs")
READS = {
    "row_ranges": lambda *_: 1,
    "shifted_rows": lambda *_: 1,
    "evaluate": lambda X, weights, center, *_: 3 if center else 2,
    "model_step": lambda *args: 2 * int(args[8][CG_ITERATIONS]),
    "spread": lambda X, weights, center, *_: 2 if center else 1,
    "descend": _descend_reads,
    "covariance_parts": lambda X, gains, *_: len(gains),
    "sums_by_row": lambda X, gains, *_: len(gains),
    "whole_start": lambda *_: 3,
    "whole_outcome": lambda *args: len(args[-1]) + 2,
    "whole_error": lambda X, *args: 3 if len(args[6]) else 2,
}
# Place of the argument that counts what a kernel does: the formulas are given what the call adds to it first.
COUNTS_IN = {"descend": 11}


def _watch_kernels(work, patch):
    run = Kernel.__call__

    def call(self, *args, size):
        name, X = self.__name__, args[0]
        place = COUNTS_IN.get(name)
        before = None if place is None else args[place].copy()
        run(self, *args, size=size)
        if before is not None:
            args = (args[place] - before, *args)
        once = self.__wrapped__.__code__.co_varnames[0] in RESPONSES
        reads = READS[name](*args) if name in READS else int(once)
        work.add(name, KERNELS[name](*args), reads * X.size)

    patch.setattr(Kernel, "__call__", call)


@contextlib.contextmanager
def work():
    """Count the calls in a `with` block."""
    counted = Work()
    with pytest.MonkeyPatch.context() as patch:
        for watch in (_watch_wrappers, _watch_addresses, _watch_solvers, _watch_kernels):
            watch(counted, patch)
        yield counted


# --- rows of an array outside memory


class Rows:
    """An array outside memory that counts the rows that are read of it, in order and one by one."""

    def __init__(self, values):
        self.shape, self.dtype = values.shape, values.dtype
        self._values, self._read = values, 0

    def __getitem__(self, rows):
        found = self._values[rows]
        self._read += len(found)
        return found

    @property
    def passes(self):
        """Rows read over those that there are."""
        return self._read / len(self._values)


# --- arrays that NumPy makes

# Larger than what holds a block of rows or is of one condition by another at the sizes of the tests.
LARGE = 1_000_000


class _Allocator(ctypes.Structure):
    """NumPy's PyDataMemAllocator."""

    _fields_ = [
        ("ctx", ctypes.c_void_p), ("malloc", ctypes.c_void_p), ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p), ("free", ctypes.c_void_p),
    ]  # fmt: skip


class _Handler(ctypes.Structure):
    """NumPy's PyDataMem_Handler."""

    _fields_ = [("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("allocator", _Allocator)]


_MALLOC = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_CALLOC = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
# NumPy calls them, and wants to be called, with the interpreter locked.
# Places in the table of NumPy's C functions, the same in all releases from 1.22 on.
_SET_HANDLER, _GET_HANDLER = 304, 305


def _place():
    """File and line of the library that an array is made for."""
    root, frame = os.path.dirname(fastcov.__file__), sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith(root):
        frame = frame.f_back
    if frame is None:
        return "outside"
    return f"{os.path.relpath(frame.f_code.co_filename, root)}:{frame.f_lineno} {frame.f_code.co_name}"


class _Memory:
    """A handler of NumPy's memory that notes what is asked for and passes it on to the one before.

    What frees an array is NumPy's own function, so that arrays may outlive all of this.
    """

    def __init__(self):
        api = ctypes.pythonapi
        api.PyCapsule_GetPointer.restype = ctypes.c_void_p
        api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
        api.PyCapsule_New.restype = ctypes.py_object
        api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        core = getattr(np, "_core", None) or np.core
        table = ctypes.cast(
            api.PyCapsule_GetPointer(core._multiarray_umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p)
        )
        self.set = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[_SET_HANDLER])
        get = ctypes.PYFUNCTYPE(ctypes.py_object)(table[_GET_HANDLER])
        own = _Handler.from_address(api.PyCapsule_GetPointer(get(), b"mem_handler"))
        malloc, calloc = _MALLOC(own.allocator.malloc), _CALLOC(own.allocator.calloc)
        self.made = None

        def note(nbytes):
            if self.made is not None and nbytes >= LARGE:
                self.made.append((nbytes, _place()))

        def noted_malloc(ctx, nbytes):
            note(nbytes)
            return malloc(ctx, nbytes)

        def noted_calloc(ctx, count, size):
            note(count * size)
            return calloc(ctx, count, size)

        self._callbacks = _MALLOC(noted_malloc), _CALLOC(noted_calloc)
        addresses = [ctypes.cast(c, ctypes.c_void_p).value for c in self._callbacks]
        allocator = _Allocator(own.allocator.ctx, *addresses, own.allocator.realloc, own.allocator.free)
        self._handler = _Handler(b"counting", own.version, allocator)
        self.capsule = api.PyCapsule_New(ctypes.addressof(self._handler), b"mem_handler", None)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._handler))  # arrays may outlive the module


@functools.cache
def _memory():
    return _Memory()


@contextlib.contextmanager
def allocations():
    """The arrays of at least `LARGE` bytes that NumPy makes in a `with` block, as (bytes, place).

    Of the calling thread. Not counted: what is made larger in place, what is no array, as the scratch of
    compiled kernels and of LAPACK, and a view.
    """
    memory = _memory()
    before = memory.set(memory.capsule)
    memory.made = made = []
    try:
        yield made
    finally:
        memory.made = None
        memory.set(before)
