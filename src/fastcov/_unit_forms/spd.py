"""SPDBatch: a stack of symmetric positive-definite matrices, one per unit, stored as Cholesky factors."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._compute import blas
from .._compute.jit import blas_for
from .._inputs.validation import (
    check_array,
    check_generator,
    check_nonnegative,
    check_whole,
    nonfinite,
    require_memory,
)
from . import factor_kernels as factor_kernels
from . import form_kernels as kernels
from .stacks import (  # fmt: skip
    LARGE,
    MATRIX,
    Array,
    blocks,
    check_dtype,
    check_eigenvalues,
    check_finite,
    check_stack,
    dtype_of,
    factorised,
    max_eigenvalue_ratio,
    ready,
    reflected,
    refuse_factors,
    rounding,
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SPDBatch:
    """Symmetric positive-definite matrices A_z = L_z L_zᵀ, one per unit, stored as their Cholesky factors.

    L Lᵀ is positive definite for any factor L with a positive diagonal, so L is the natural parameter to
    train. Make a batch with `from_cholesky`, `from_eigen`, `from_matrices` or `random`; it does not change
    afterwards.

    Attributes
    ----------
    cholesky : ndarray, shape (Z, I, I)
        The lower factors L with a positive diagonal, read-only; zero above it.
    shape : tuple
        (Z, I, I).
    dtype : numpy.dtype
        float32 or float64: the dtype of the factors and of all results of their size.

    Notes
    -----
    A batch takes 4ZI² or 8ZI² bytes. Factorisations and solutions run in float64, on one unit a thread up to
    I = 256, and above that one unit after another with LAPACK; results are rounded to `dtype`. Products are
    summed in `dtype`. Every operation on factors is valid if these are normal numbers. Where A, A⁻¹ or D
    leave the range of the dtype (factors beyond 1e±154 in float64, 1e±19 in float32) their entries are
    infinite or zero.

    Examples
    --------
    >>> from fastcov.quadratic_forms import SPDBatch
    >>> batch = SPDBatch.from_matrices([[[4.0, 2.0], [2.0, 5.0]]])
    >>> batch
    SPDBatch: 1 matrix of 2 x 2, float64
    >>> batch.cholesky
    array([[[2., 0.],
            [1., 2.]]])
    >>> batch.trace(), batch.solve([[8.0, 12.0]])
    (array([9.]), array([[1., 2.]]))
    """

    _factors: Array

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError(
            "An SPDBatch must be made by one of its methods, not by its class, which checks nothing: use "
            "SPDBatch.from_matrices, from_cholesky, from_eigen or random."
        )

    @classmethod
    def _of(cls, factors: Array) -> SPDBatch:
        """Make a batch of factors known to be valid and C-contiguous, without a copy; the batch owns them."""
        batch = object.__new__(cls)
        object.__setattr__(batch, "_factors", factors)
        return batch

    @classmethod
    def from_cholesky(cls, factors: ArrayLike) -> SPDBatch:
        """Make the matrices L Lᵀ from their factors.

        Parameters
        ----------
        factors : array_like, shape (Z, I, I)
            Lower triangular, with a positive diagonal; copied.

        Raises
        ------
        TypeError, ValueError
            If `factors` is not a real, finite array of that shape, or a factor has a nonzero number above its
            diagonal or a number on it that is not positive: the error names unit, row and column.
        """
        given = check_stack("factors", factors)
        own = np.empty(given.shape, dtype_of(given))
        flaws = np.zeros(len(given), np.intp)
        L = ready(given, own.dtype)
        factor_kernels.copied_factors(L, own, flaws, size=L.size)
        if flaws.any():
            refuse_factors(given, flaws)
        return cls._of(own)

    @classmethod
    def from_eigen(cls, vectors: ArrayLike, values: ArrayLike) -> SPDBatch:
        """Make the matrices Q Λ Qᵀ from eigenvectors and eigenvalues.

        A is not formed. W = Q Λ^½ = L V, where V has orthonormal rows, gives A = L Lᵀ. The factor is exact
        for a W that differs by rounding (it is backward stable), even if the largest eigenvalue is 1e16 times
        the smallest or more, where a Cholesky factorisation of A would break down. The limit is a ratio of
        ε⁻², for the dtype of the factors: 2e31 in float64, 7e13 in float32. Smaller eigenvalues are lost to
        rounding.

        Parameters
        ----------
        vectors : array_like, shape (Z, I, I)
            Q: orthogonal, with one eigenvector per column.
        values : array_like, shape (Z, I)
            Λ: positive, in units of A, and between 1e-290 and 1e290, because squares of their roots are
            summed.

        Raises
        ------
        TypeError, ValueError
            If an argument is not a real, finite array of the right shape, a value is not positive (the error
            names unit and place), or a Q is not orthogonal to rounding (it names the unit); or if the values
            of a unit are further apart than ε⁻² (it names the unit and the values), or so small that a row of
            W vanishes.

        Notes
        -----
        4ZI³ flops: modified Gram-Schmidt (Björck 1967) up to I = 256, LAPACK's reflections above.
        """
        Q = check_stack("vectors", vectors)
        Z, d = Q.shape[:2]
        given = check_array("values", values, ("unit", "input"), empty=True)
        if given.shape != (Z, d):
            raise ValueError(
                f"Argument 'values' must hold {d} eigenvalues for each of the {Z} units of 'vectors', not be "
                f"of shape {given.shape}."
            )
        eigenvalues = check_finite("values", given, ("unit", "input"))
        dtype = dtype_of(Q, given)
        check_eigenvalues(eigenvalues, dtype)
        factors, deviations, flaws = np.zeros((Z, d, d), dtype), np.empty(Z), np.zeros(Z, np.intp)
        if d > LARGE:
            for z in range(Z):
                factors[z], deviations[z], flaws[z] = reflected(np.array(Q[z], np.float64), eigenvalues[z])
        else:
            with blas_for(0.0):
                factor_kernels.eigen_factors(
                    ready(Q, dtype), eigenvalues, factors, deviations, flaws, size=Q.size * d
                )
        skewed = ~(deviations <= rounding(Q))
        if (skewed.any() or flaws.any()) and (error := nonfinite("vectors", Q, MATRIX)):
            raise error
        if skewed.any():
            z = int(skewed.argmax())
            raise ValueError(
                f"Argument 'vectors' must be orthogonal, not with products of rows that are off by "
                f"{deviations[z]:.3g} at unit {z} (counted from 0): pass what numpy.linalg.eigh returns."
            )
        if flaws.any():
            z = int(np.flatnonzero(flaws)[0])
            raise ValueError(
                f"Argument 'values' must leave factors with a positive diagonal, not one of zero at unit {z} "
                f"(counted from 0), where they lie between {eigenvalues[z].min():.3g} and "
                f"{eigenvalues[z].max():.3g}: rescale them, or raise the smallest."
            )
        return cls._of(factors)

    @classmethod
    def from_matrices(cls, matrices: ArrayLike) -> SPDBatch:
        """Check the matrices, and factorise them.

        Parameters
        ----------
        matrices : array_like, shape (Z, I, I)
            Positive definite and symmetric to rounding; their symmetric part is taken.

        Raises
        ------
        TypeError, ValueError
            If `matrices` is not a real, finite array of that shape; if a matrix is not symmetric (the error
            names the unit, the largest difference and its place); or if one is not positive definite (it
            names the first such unit, its smallest eigenvalue, and how many there are).

        Notes
        -----
        ZI³/3 flops, one read.
        """
        return cls._of(factorised(check_stack("matrices", matrices), keep=True)[1])

    @classmethod
    def random(
        cls,
        n_units: int,
        n_inputs: int,
        *,
        condition: float = 10.0,
        dtype: DTypeLike = np.float64,
        rng: Any = 0,
    ) -> SPDBatch:
        """Draw random matrices Q Λ Qᵀ: Q is uniform over rotations and reflections, and log Λ uniform.

        Parameters
        ----------
        n_units, n_inputs : int
            Z and I.
        condition : float, default 10.0
            Eigenvalues lie between condition^∓½; at most ε⁻², which is 2e31 in float64 and 7e13 in float32.
        dtype : float32 or float64
            The dtype of the factors, which are computed in float64.
        rng : int or numpy.random.Generator, default 0
            Seed; the same seed gives the same matrices.

        Raises
        ------
        TypeError, ValueError
            If a number is out of range, or `dtype` is neither float32 nor float64.

        Notes
        -----
        About 8ZI³ flops. Q comes from the QR factorisation of normal numbers. It has the Haar distribution
        except for the signs of its columns (Mezzadri 2007), and those cancel in A.
        """
        Z, d = check_whole("n_units", n_units, 0), check_whole("n_inputs", n_inputs, 1)
        spread = check_nonnegative("condition", condition)
        if spread < 1.0:
            raise ValueError(
                f"Argument 'condition' must be at least 1, not {condition!r}: 1 gives the identity."
            )
        kept = check_dtype(dtype)
        if spread > (most := max_eigenvalue_ratio(kept)):
            raise ValueError(
                f"Argument 'condition' must be at most {most:.3g}, not {spread:.3g}: factors of dtype {kept} "
                f"hold no more; {'lower it' if kept == np.float64 else 'lower it, or use float64'}."
            )
        require_memory(40 * Z * d * d, f"{Z} random matrices of {d} x {d}", "make fewer at a time")
        generator = check_generator(rng)
        vectors = generator.standard_normal((Z, d, d))
        with blas_for(0.0):  # more threads gain nothing up to I = 1000
            for Q in vectors:
                Q[...] = scipy.linalg.qr(Q, check_finite=False)[0]
        values = np.exp(np.log(spread) * generator.uniform(-0.5, 0.5, (Z, d)))
        return cls._of(cls.from_eigen(vectors, values)._factors.astype(kept, copy=False))

    @property
    def cholesky(self) -> Array:
        view = self._factors.view()
        view.flags.writeable = False
        return view

    @property
    def shape(self) -> tuple[int, int, int]:
        Z, d = self._factors.shape[:2]
        return Z, d, d

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._factors.dtype

    def __len__(self) -> int:
        return len(self._factors)

    def __repr__(self) -> str:
        Z, d = self.shape[:2]
        return f"SPDBatch: {Z} {'matrix' if Z == 1 else 'matrices'} of {d} x {d}, {self.dtype}"

    def matrices(self) -> Array:
        """Return A = L Lᵀ (Z, I, I), symmetric to the bit. 2ZI³ flops."""
        out = np.empty_like(self._factors)
        with blas_for(0.0):
            kernels.self_products(self._factors, out, size=out.size * out.shape[1])
        kernels.symmetric_parts(out, out, size=out.size)
        return out

    def inverse(self) -> Array:
        """Return A⁻¹ (Z, I, I), symmetric to the bit. 2ZI³ flops."""
        out = np.empty_like(self._factors)
        Z, d = self.shape[:2]
        if d > LARGE:
            identity = np.eye(d)
            for z in range(Z):
                out[z] = blas.cholesky_solve(self._factors[z].astype(np.float64), identity)
        else:
            factor_kernels.inverses(self._factors, out, size=out.size * d)
        kernels.symmetric_parts(out, out, size=out.size)
        return out

    def ldl(self) -> tuple[Array, Array]:
        """Return (L, D) with A = L diag(D) Lᵀ: L (Z, I, I) has a unit diagonal, D (Z, I) > 0. ZI² flops."""
        out, pivots = np.empty_like(self._factors), np.empty(self.shape[:2], self.dtype)
        factor_kernels.unit_lower(self._factors, out, pivots, size=out.size)
        return out, pivots

    def logdet(self) -> NDArray[np.float64]:
        """Return log det A = 2 Σ_i log L_ii (Z,), in float64. ZI logarithms."""
        return 2.0 * np.log(np.diagonal(self._factors, axis1=1, axis2=2), dtype=np.float64).sum(axis=1)

    def trace(self) -> NDArray[np.float64]:
        """Return tr A = ‖L‖²_F (Z,), the sum of the eigenvalues, in float64. ZI² flops."""
        out = np.empty(len(self))
        factor_kernels.square_norms(self._factors, out, size=self._factors.size)
        return out

    def solve(self, rhs: ArrayLike) -> Array:
        """Return A_z⁻¹ y_z for each unit.

        Parameters
        ----------
        rhs : array_like, shape (Z, I) or (L, Z, I)
            y: one vector per unit, or L samples of these.

        Returns
        -------
        ndarray of the shape of `rhs`
            float32 if both the batch and `rhs` are, else float64.

        Raises
        ------
        TypeError, ValueError
            If `rhs` is not a real, finite array of one of these shapes.

        Notes
        -----
        2I² flops per vector, for forward and backward substitution in float64. Besides the solution it takes
        a few MB that do not grow with L, and 8ZI² bytes for a copy of a float32 batch if `rhs` is float64.
        """
        forms = (("unit", "input"), ("sample", "unit", "input"))
        given = check_array("rhs", rhs, *forms, empty=True)
        if given.shape[-2:] != self.shape[:2]:
            raise ValueError(
                f"Argument 'rhs' must have one entry for each of the {self.shape[1]} inputs of the "
                f"{self.shape[0]} units on its last two axes, not shape {given.shape}."
            )
        dtype = dtype_of(self._factors, given)
        require_memory(given.size * dtype.itemsize, "Solutions of this size", "pass fewer samples at a time")
        factors, out = ready(self._factors, dtype), np.empty(given.shape, dtype)
        Z, d = self.shape[:2]
        stack, solved = (a if a.ndim == 3 else a[np.newaxis] for a in (given, out))
        for rows, block in blocks(stack, dtype, 2 * Z * d * d):
            if d > LARGE:
                for z in range(Z):
                    L = factors[z].astype(np.float64, copy=False)
                    solved[rows, z] = blas.cholesky_solve(L, block[:, z])
            else:
                factor_kernels.solutions(factors, block, solved[rows], size=block.size * d)
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.isfinite(out.sum()) and (error := nonfinite("rhs", given, forms[given.ndim - 2])):
                raise error
        return out

    def factor_gradient(self, gradient: ArrayLike) -> Array:
        """Return the gradient of a function of A with respect to L: the lower triangle of (M + Mᵀ) L.

        Parameters
        ----------
        gradient : array_like, shape (Z, I, I)
            M, the function's gradient with respect to A, as `quadratic_forms_and_gradients` returns it.

        Returns
        -------
        ndarray, shape (Z, I, I)
            Zero above the diagonal. If you train t_i = log L_ii in place of L_ii, multiply the diagonal of
            this gradient by L_ii.

        Raises
        ------
        TypeError, ValueError
            If `gradient` is not a real, finite array of that shape.

        Notes
        -----
        2ZI³ flops, and a copy of `gradient`.
        """
        given = check_array("gradient", gradient, MATRIX, empty=True)
        if given.shape != self.shape:
            raise ValueError(
                f"Argument 'gradient' must have the shape {self.shape} of the factors, not {given.shape}."
            )
        return self._factor_gradient(check_finite("gradient", given, MATRIX, self.dtype))

    def _factor_gradient(self, M: Array) -> Array:
        """Do the same for any M in the dtype; infinity and NaN propagate as in the arithmetic."""
        symmetric, out = np.empty_like(M), np.empty_like(M)
        with blas_for(0.0), np.errstate(over="ignore", invalid="ignore"):
            kernels.symmetric_parts(M, symmetric, size=M.size)
            kernels.lower_products(symmetric, self._factors, out, size=M.size * M.shape[1])
        return out
