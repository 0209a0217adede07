"""Products with G and GᵀG, computed from blocks of rows of X; neither is formed unless it is asked for.

Column i of G is the atom g_i = vec(x_i ỹ_iᵀ + ỹ_i x_iᵀ), the derivative of the covariance with
respect to gain i. All values are in the scaled units of a Problem.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh

from .._compute import blas, kernels
from .._compute.jit import ELEMENT_PRODUCTS, PARALLEL_SIZE, blas_for
from .._rows.rows import by_channels, summed
from . import metric_atoms
from .distances import Distances
from .explicit_atoms import ExplicitAtoms
from .metric import Metric
from .problem import PART_BYTES, Problem, n_parts

Array = NDArray[Any]

# Columns of GᵀG that are made together at a general expansion point: their four products fit the caches.
PANEL = 256
# Where a metric leaves less than this share of the trace of GᵀG, subtraction would lose three digits.
CANCELLATION = 1e-3
# For Lanczos with GᵀG as a matrix: the relative residual to reach, and the most vectors. Eight are enough in
# most cases.
SHORT_TOL, SHORT_BASIS = 1e-6, 24
# GᵀG is made for Lanczos alone where it has at most so many bytes, which stay in the last-level cache, and N
# is at most this share of D². It takes N²D flops, and a product then reads N² elements, in place of 4ND²
# flops. Ratios of times: 0.2 at (500, 187), 0.3 at (1004, 187), 0.6 at (871, 100), 0.9 at (1400, 100).
LANCZOS_BYTES, LANCZOS_SHARE = 1 << 24, 1 / 8


def apply_atoms(problem: Problem, V: NDArray[np.float64]) -> NDArray[np.float64]:
    """G v = Xᵀ diag(v) Ỹ + its transpose for each row v of V (T, N), as a stack (T, D, D).

    With a metric, the image R G v. 2ND² flops for each v, one pass over X.
    """
    if isinstance(problem, ExplicitAtoms):
        return problem.combined(V)
    slopes = weighted_atoms(problem.plain, V)[0]
    return slopes if problem.metric is None else problem.metric.image(slopes)


@summed(each=1)
def weighted_atoms(
    problem: Problem, V: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """G v without the metric, and the sums Σ v_i x_i (T, D) from the same pass."""
    D, T = problem.shape[1], len(V)
    total = np.zeros((T, D + 1, D))
    V, exponent = problem.safe(V)
    with blas_for(0):  # the kernels' own threads
        for rows, block in problem.blocks(streamed=True):
            parts = n_parts(len(block), D)
            together = max(1, PART_BYTES // (8 * parts * D * (D + 1)))
            for t in range(0, T, together):
                some = slice(t, min(t + together, T))
                kernels.atom_products(
                    block, rows.start, problem.gains, problem.mean, V[some],
                    np.empty((parts, *total[some].shape)), total[some],
                    # a single part is summed by a single thread, however many vectors there are
                    size=len(V[some]) * block.size * D // ELEMENT_PRODUCTS if parts > 1 else 0,
                )  # fmt: skip
    if exponent:
        np.ldexp(total, exponent, out=total)
    return total[:, :D] + total[:, :D].transpose(0, 2, 1), total[:, D]


def apply_adjoint(problem: Problem, M: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gᵀ M = 2 rowsum((X M) ∘ Ỹ) for a stack of symmetric M (T, D, D), as rows (T, N).

    With a metric, (R G)ᵀ M, where M is an image under R. 2ND² flops for each M, one pass over X.
    """
    if isinstance(problem, ExplicitAtoms):
        return problem.inner(M)
    M = M if problem.metric is None else problem.metric.adjoint(M)
    return weighted_adjoint(problem.plain, M)[0]


@by_channels()
def weighted_adjoint(
    problem: Problem,
    M: NDArray[np.float64],
    offsets: NDArray[np.float64] | None = None,
    *,
    squares: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gᵀ M without the metric, minus 2 x_i·o_t for offsets o (T, D); and 2 x_iᵀ M x_i with `squares`."""
    (N, D), T = problem.shape, len(M)
    out, quadratic = np.empty((T, N)), np.empty((T, N if squares else 0))
    M, exponent = problem.safe(2.0 * M)
    offsets = np.zeros((T, D)) if offsets is None else np.ldexp(offsets, 1 - exponent)
    M = np.ascontiguousarray(M, problem.dtype)
    with blas_for(0):
        for rows, block in problem.blocks(streamed=True):
            kernels.adjoint_products(
                block, rows.start, problem.gains, problem.mean, M, offsets, out, quadratic,
                size=T * block.size * D // ELEMENT_PRODUCTS,
            )  # fmt: skip
    if exponent:
        np.ldexp(out, exponent, out=out)
        np.ldexp(quadratic, exponent, out=quadratic)
    return out, quadratic


def apply_gram(problem: Problem, V: NDArray[np.float64]) -> NDArray[np.float64]:
    """GᵀG v for each row v of V (T, N). 4ND² flops for each, two passes over X."""
    return apply_adjoint(problem, apply_atoms(problem, V))


@by_channels()
def squared_norms(problem: Problem) -> NDArray[np.float64]:
    """‖g_i‖², the diagonal of GᵀG. 9ND flops, one pass over X."""
    out = np.empty(problem.shape[0])
    for rows, block in problem.blocks(streamed=True):
        kernels.squared_norms(block, problem.gains[rows], problem.mean, out[rows], size=block.size)
    return out if problem.metric is None else metric_atoms.squared_norms(problem, out)


def gram_triangle(problem: Problem, *, mirror: bool = False) -> Array:
    """GᵀG (N, N), its lower triangle or with `mirror` all of it, in the problem's dtype. N²D flops at z = 1.

    At gains of one, K = ỸỸᵀ alone is enough, and is turned into GᵀG in place. X is centred before
    the product: the other order cancels catastrophically when the mean is large. The part that a metric
    removes is subtracted if it is of low rank and enough of the trace remains. Otherwise images of the atoms
    are multiplied, which takes N²D² / 2 flops.
    """
    if isinstance(problem, ExplicitAtoms):
        inner = blas.self_product(problem.X[:])
        if mirror:
            kernels.mirror_lower(inner, size=inner.size)
        return inner
    N, _ = problem.shape
    A = _triangle_at_ones(problem, mirror) if problem.at_ones else None
    if A is None:
        A = np.empty((N, N), problem.dtype)
        for start in range(0, N, PANEL):
            columns = slice(start, min(start + PANEL, N))
            tail = problem.take(slice(start, None))
            A[start:, columns] = gram_block(
                tail, problem.take(columns), at_ones=False, images=problem.at_ones
            )
            A[columns, start:] = A[start:, columns].T
    dead = np.flatnonzero(problem.sizes == 0)
    if len(dead):  # zero exactly, not up to rounding
        A[dead] = 0.0
        A[:, dead] = 0.0
    return A


def _triangle_at_ones(problem: Problem, mirror: bool) -> Array | None:
    """`gram_triangle` at gains of one; None where the metric does not allow it."""
    metric = problem.metric
    if metric is not None and not metric_atoms.of_low_rank(metric):
        return None
    centred = problem.centred()
    if isinstance(metric, Distances):
        centred *= np.sqrt(2.0)
    A = blas.self_product(centred)
    a, c = _mean_products(problem, centred)
    if metric is None:
        kernels.gram_from_product(A, a, c, mirror, size=A.size)
        return A
    kernels.gram_from_product(A, a, c, False, size=A.size)
    if isinstance(metric, Distances):
        metric_atoms.add_distances(problem, A)
    Q = metric_atoms.removed_products(metric, problem)
    trace = float(np.trace(A, dtype=np.float64))
    if trace - float(np.einsum("ij,ij->", Q, Q)) < CANCELLATION * trace:
        return None
    blas.subtract_self_product(A, np.ascontiguousarray(Q, A.dtype))
    if mirror:
        kernels.mirror_lower(A, size=A.size)
    return A


def gram_columns(problem: Problem, index: Array) -> Array:
    """GᵀG[:, index] (N, k), in the problem's dtype. 2NDk flops at z = 1, otherwise four times that."""
    columns, at_ones = problem.take(index), problem.at_ones
    out: Array
    if problem.rows.on_workers:
        rows = problem.rows.map_channels(_column_rows, problem, columns.unlabelled(), at_ones)
        out = np.ascontiguousarray(rows.T)
    else:
        out = np.empty((problem.shape[0], len(index)), problem.dtype)
        _fill_columns(problem, columns, at_ones, out)
    out[problem.sizes == 0] = 0.0
    out[:, columns.sizes == 0] = 0.0
    return out


def _fill_columns(problem: Problem, columns: Problem, at_ones: bool, out: Array) -> None:
    for rows, part in problem.parts(step=PANEL):
        out[rows] = gram_block(part, columns, at_ones=at_ones)


def _column_rows(problem: Problem, columns: Problem, at_ones: bool) -> Array:
    """The columns of GᵀG for a chunk of n channels, as rows (k, n)."""
    out = np.empty((len(columns.gains), problem.shape[0]), problem.dtype)
    _fill_columns(problem, columns, at_ones, out.T)
    return out


def gram_block(rows: Problem, columns: Problem, *, at_ones: bool, images: bool = False) -> Array:
    """The block of GᵀG for two sets of channels; `at_ones` says whether all gains of the problem are one.

    With a metric whose part to subtract is not of low rank, or with `images`, it is the product of the
    images of the atoms.
    """
    if isinstance(rows, ExplicitAtoms):
        return blas.product(rows.X[:], columns.X[:], tb=True)
    if (metric := rows.metric) is not None:
        if images or not metric_atoms.of_low_rank(metric):
            return _image_block(metric, rows, columns)
        A = gram_block(rows.plain, columns, at_ones=at_ones)
        if isinstance(metric, Distances):
            A *= 4.0
            metric_atoms.add_distances(rows, A, columns)
        Qr, Qc = (metric_atoms.removed_products(metric, part).astype(A.dtype) for part in (rows, columns))
        A -= blas.product(Qr, Qc, tb=True)
        return A
    Yr, Yc = rows.centred(), columns.centred()
    YY = blas.product(Yr, Yc, tb=True)
    if at_ones:
        ar, c = _mean_products(rows, Yr)
        ac, _ = _mean_products(columns, Yc)
        kernels.block_from_product(YY, ar, ac, c, size=YY.size)
        return YY
    Xr, Xc = rows.responses(), columns.responses()
    XX, XY, YX = (blas.product(A, B, tb=True) for A, B in ((Xr, Xc), (Xr, Yc), (Yr, Xc)))
    kernels.block_from_products(XX, YX, XY, YY, size=YY.size)
    return YY


def _image_block(metric: Metric, rows: Problem, columns: Problem) -> Array:
    """The block of inner products of the images of atoms. nkD² flops."""
    maker = metric_atoms.Images(metric, rows.dtype)
    right = maker.of(columns.responses(), columns.centred())
    out = np.empty((rows.shape[0], len(right)), rows.dtype)
    for some, part in rows.parts(step=PANEL):
        blas.product(maker.of(part.responses(), part.centred()), right, tb=True, out=out[some])
    return out


def _mean_products(problem: Problem, centred: Array) -> tuple[NDArray[np.float64], float]:
    """a_i = ỹ_i·m for each channel, and c = m·m, with the mean m."""
    mean = problem.mean.astype(problem.dtype)
    a = blas.product(centred, mean[:, np.newaxis])[:, 0]
    return a.astype(np.float64), blas.dot(problem.mean, problem.mean)


def _gram_product(problem: Problem, v: Array) -> Array:
    """GᵀG v (N,) for one vector v."""
    return apply_gram(problem, v[np.newaxis])[0]


@summed()
def _dual_product(problem: Problem, v: Array) -> Array:
    """GGᵀ M for a symmetric matrix M; both are vectors (D²,)."""
    D = problem.shape[1]
    return apply_atoms(problem, apply_adjoint(problem, v.reshape(1, D, D))).ravel()


def beginning(problem: Problem, covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix from which Lanczos starts: the covariance, or its image under the metric.

    Where that image is next to nothing, it is the image of a random combination of atoms.
    """
    if problem.metric is None:
        return covariance
    image: NDArray[np.float64] = problem.metric.image(covariance)
    if np.abs(image).max() > CANCELLATION * np.abs(covariance).max():
        return image
    V = np.random.default_rng(0).standard_normal((1, problem.shape[0]))
    return np.asarray(apply_atoms(problem, V)[0])


def small_gram(problem: Problem) -> NDArray[np.float64] | None:
    """GᵀG (N, N) at gains of one, if X and GᵀG stay in the caches of a core; otherwise None."""
    N, D = problem.shape
    few = N * N * D <= ELEMENT_PRODUCTS * PARALLEL_SIZE
    if not (few and problem.fits_caches() and problem.ready(problem.X)):
        return None
    A = np.empty((N, N))
    with blas_for(0):
        kernels.whole_gram(problem.X, problem.mean, problem.sizes, A, size=0)
    return A


def lanczos_with_gram(problem: Problem, room: float) -> bool:
    """Whether Lanczos is faster with GᵀG as a matrix, made for it alone, which may take `room` bytes."""
    N, D = problem.shape
    few = N <= LANCZOS_SHARE * D * D and min(room, LANCZOS_BYTES) >= 8 * N * N
    return few and problem.metric is None and problem.at_ones and problem.ready(problem.X)


def largest_eigenvalue(
    problem: Problem, diagonal: NDArray[np.float64], covariance: NDArray[np.float64],
    gram: NDArray[np.float64] | None = None, room: float = math.inf,
) -> float:  # fmt: skip
    """λ_max(GᵀG) by Lanczos, given the diagonal of GᵀG and the covariance. Some 30ND² flops.

    With `gram`, which is GᵀG, each product takes 2N² flops. Where that pays and `room` bytes are enough, GᵀG
    is made here, N²D flops, and dropped.
    """
    N, D = problem.shape
    if not diagonal.any():
        return 0.0
    if gram is None and lanczos_with_gram(problem, room):
        with blas_for(1.0 * N * N * D):
            gram = gram_triangle(problem, mirror=True)
    if gram is not None:
        basis, found = np.empty((min(N, SHORT_BASIS), N)), np.empty(3)
        basis[0] = apply_adjoint(problem, covariance[np.newaxis])[0]
        with blas_for(0):
            kernels.leading_value(gram, SHORT_TOL, basis, found, size=0)
        if found[1] <= SHORT_TOL:
            return float(found[0])
    if N <= 32:
        # only the lower triangle holds numbers, so the matrix must not be checked for NaN as a whole
        A = gram_triangle(problem)
        return float(eigh(A, lower=True, eigvals_only=True, check_finite=False)[-1])
    # ARPACK compares with an absolute size near unit roundoff, so the eigenvalue is scaled to about one.
    # The leading eigenvector mostly scales the covariance, so Lanczos starts there. A basis of 6, with 7
    # products, then gives the eigenvalue to 1e-10 in all recordings and simulations tried; the error is the
    # square of `tol`. Nuisance terms remove most of that eigenvector; with them a basis of 7 avoids a second
    # round of products.
    top = diagonal.max()
    if problem.rows.on_workers:  # GGᵀ has the same eigenvalue, and needs no vector over channels to be sent
        n, start = covariance.size, beginning(problem, covariance).ravel()
        multiply = functools.partial(_dual_product, problem)
    else:
        n, start = N, apply_adjoint(problem, beginning(problem, covariance)[np.newaxis])[0]
        multiply = functools.partial(_gram_product, problem)
    operator = LinearOperator((n, n), matvec=lambda v: multiply(v) / top, dtype=np.float64)
    start = start / np.abs(start).max()
    (value,) = eigsh(
        operator, k=1, v0=start, tol=1e-5, ncv=6 if problem.metric is None else 7, return_eigenvectors=False
    )
    value *= top
    return float(value)


@summed()
def covariance_columns(
    problem: Problem, columns: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """C[:, columns] (D, k) and the diagonal of C (D,), in scaled units. 2NDk flops, one pass over X."""
    N, D = problem.shape
    out, diagonal = np.zeros((D, len(columns))), np.zeros(D)
    buffer = np.empty((problem.block_rows, D), problem.dtype)
    with blas_for(2.0 * N * D * len(columns)):
        for rows, block in problem.blocks():
            centred = problem.centre(rows, block, buffer)
            blas.product(centred, np.ascontiguousarray(centred[:, columns]), ta=True, out=out, add=True)
            diagonal += np.einsum("ij,ij->j", centred, centred)
    return out, diagonal
