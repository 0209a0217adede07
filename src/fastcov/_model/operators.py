"""What users see of G and GᵀG: SciPy operators that never form them, and the matrices themselves.

Column i of G is the atom g_i = vec(x_i ỹ_iᵀ + ỹ_i x_iᵀ), the derivative of the covariance with
respect to gain i. All in the user's units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator

from .._compute.jit import blas_for
from .._inputs.validation import check_array, require_memory
from .problem import Problem
from .products import (  # fmt: skip
    PANEL,
    apply_adjoint,
    apply_atoms,
    apply_gram,
    gram_columns,
    gram_triangle,
    squared_norms,
)

Array = NDArray[Any]


class AtomOperator(LinearOperator):
    """The matrix of atoms G (D², N) as a SciPy LinearOperator, never formed.

    Column i is g_i = vec(x_i ỹ_iᵀ + ỹ_i x_iᵀ), where y_i = z_i x_i and ỹ_i is y_i less the mean over
    channels: the derivative of the covariance with respect to gain i. At gains of one the
    covariance changes by G δ + O(δ²).

    Parameters
    ----------
    X : array_like, shape (N, D)
        Responses: one row a channel, one column a condition. float32 stays so in the products; what
        is summed over channels, and all vectors over channels, are float64.
    gains : array_like, shape (N,), optional
        Expansion point z; ones by default.
    center : bool, default True
        Whether the covariance is that of responses less their mean over channels.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape.

    Notes
    -----
    ``matvec`` G v = Xᵀ diag(v) Ỹ + its transpose, raveled, and ``rmatvec``
    Gᵀ vec(M) = 2 rowsum((X M) ∘ Ỹ) with M made symmetric: 2ND² flops, one pass over X and memory
    for a block of rows each. Units: those of X squared, times those of v or M.

    Examples
    --------
    >>> import fastcov as fc
    >>> G = fc.AtomOperator([[1.0, 2.0], [3.0, 5.0], [4.0, 1.0]])
    >>> G.shape
    (4, 3)
    """

    def __init__(self, X: ArrayLike, *, gains: ArrayLike | None = None, center: bool = True) -> None:
        self.problem = Problem.of(X, gains=gains, center=center)
        N, D = self.problem.shape
        super().__init__(np.float64, (D * D, N))

    def _matvec(self, v: Array) -> Array:
        return self.problem.unscaled(apply_atoms(self.problem, _vector(v)), x=1, y=1).ravel()

    def _rmatvec(self, u: Array) -> Array:
        D = self.problem.shape[1]
        M = _vector(u).reshape(1, D, D)
        return self.problem.unscaled(apply_adjoint(self.problem, (M + M.transpose(0, 2, 1)) / 2), x=1, y=1)[0]

    def columns(self, index: ArrayLike) -> Array:
        """G[:, index], shape (D², k), float64. 2kD² flops and 8kD² bytes."""
        chosen = _channels(index, self.shape[1])
        require_memory(24 * self.shape[0] * len(chosen), "Atoms of so many channels", "take fewer at a time")
        part = self.problem.take(chosen)
        part = part.astype(np.float64)
        half = part.responses()[:, :, np.newaxis] * part.centred()[:, np.newaxis, :]
        atoms = (half + half.transpose(0, 2, 1)).reshape(len(half), -1)
        return self.problem.unscaled(atoms.T, x=1, y=1)

    def dense(self) -> Array:
        """G itself, shape (D², N): for checks at small sizes. MemoryError where it does not fit."""
        rows, N = self.shape
        require_memory(24 * rows * N, "The dense matrix of atoms", "use the operator, or columns()")
        return self.columns(np.arange(N))


class GramOperator(LinearOperator):
    """The Gram matrix of the atoms GᵀG (N, N) as a SciPy LinearOperator, never formed.

    (GᵀG)_ij = 2 [(x_i·x_j)(ỹ_i·ỹ_j) + (x_i·ỹ_j)(ỹ_i·x_j)]: symmetric and positive semidefinite.

    Parameters
    ----------
    X, gains, center
        As for `AtomOperator`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape.

    Notes
    -----
    ``matvec`` takes 4ND² flops and two passes over X. Units: X to the fourth. Vectors are float64
    (``dtype``); ``columns`` and ``dense`` are float32 for float32 X.

    Examples
    --------
    The largest eigenvalue, to which a ridge is compared:

    >>> import fastcov as fc
    >>> from scipy.sparse.linalg import eigsh
    >>> A = fc.GramOperator([[1.0, 2.0], [3.0, 5.0], [4.0, 1.0]], center=False)
    >>> eigsh(A, k=1, v0=A.diagonal(), return_eigenvectors=False).round(3)
    array([5069.474])
    """

    def __init__(self, X: ArrayLike, *, gains: ArrayLike | None = None, center: bool = True) -> None:
        self.problem = Problem.of(X, gains=gains, center=center)
        N, _ = self.problem.shape
        super().__init__(np.float64, (N, N))

    def _matvec(self, v: Array) -> Array:
        return self.problem.unscaled(apply_gram(self.problem, _vector(v)), x=2, y=2)[0]

    def _adjoint(self) -> GramOperator:
        return self

    _transpose = _adjoint

    def diagonal(self) -> NDArray[np.float64]:
        """‖g_i‖², shape (N,), from one pass over X. 9ND flops."""
        return self.problem.unscaled(squared_norms(self.problem), x=2, y=2)

    def columns(self, index: ArrayLike) -> Array:
        """GᵀG[:, index], shape (N, k), in the dtype of the products. 2NDk flops at gains of one."""
        exponent, chosen = _gram_exponent(self.problem), _channels(index, self.shape[1])
        nbytes = self.problem.dtype.itemsize * len(chosen) * (self.shape[0] + 2 * self.problem.shape[1])
        require_memory(nbytes, "Columns of so many channels", "take fewer at a time")
        with blas_for(2.0 * self.problem.X.size * len(chosen)):
            columns = gram_columns(self.problem, chosen)
        return np.ldexp(columns, exponent, out=columns) if exponent else columns

    def dense(self) -> Array:
        """GᵀG itself, shape (N, N), in the dtype of the products: what `fastcov.gram` returns."""
        N, D = self.shape[0], self.problem.shape[1]
        beside = D if self.problem.at_ones else 3 * D + 5 * PANEL
        nbytes = self.problem.dtype.itemsize * N * (N + beside)
        require_memory(nbytes, f"A Gram matrix of {N} channels", "use GramOperator, or columns()")
        exponent = _gram_exponent(self.problem)
        with blas_for(float(N * N * D)):
            A = gram_triangle(self.problem, mirror=True)
        return np.ldexp(A, exponent, out=A) if exponent else A


def _vector(v: Array) -> NDArray[np.float64]:
    """A stack of one."""
    if np.iscomplexobj(v):
        raise TypeError("Argument 'v' must be real, not complex: apply to its parts one by one.")
    return np.array(v, np.float64).reshape(1, -1)


def _channels(index: ArrayLike, n: int) -> NDArray[np.intp]:
    channels = check_array("index", index, ("channel",))
    if channels.dtype == bool and len(channels) == n:
        channels = np.flatnonzero(channels)
    if channels.dtype.kind not in "iu" or not (-n <= channels.min() and channels.max() < n):
        raise IndexError(f"Argument 'index' must hold channels from 0 to {n - 1}, not {index!r}.")
    return channels.astype(np.intp) % n


def _gram_exponent(problem: Problem) -> int:
    """Exponent of two from GᵀG in scaled units to the caller's, if its dtype can hold that."""
    if problem.dtype == np.float32:  # X to the fourth is in range only for X near one
        limits = np.finfo(np.float32)
        largest = problem.unscaled(squared_norms(problem), x=2, y=2).max()
        if largest > limits.max or 0 < largest < limits.tiny:
            raise ValueError(
                f"Argument 'X' must be float64 for its Gram matrix to be held, not {problem.X.dtype}: "
                f"entries reach {largest:.3g}."
            )
    return -4 * problem.exponent + 2 * problem.gain_exponent


def gram(X: ArrayLike, *, gains: ArrayLike | None = None, center: bool = True) -> Array:
    """Gram matrix of the atoms, GᵀG, without forming G.

    (GᵀG)_ij = 2 [(x_i·x_j)(ỹ_i·ỹ_j) + (x_i·ỹ_j)(ỹ_i·x_j)], with y_i = z_i x_i and ỹ_i = y_i less the
    mean over channels.

    Parameters
    ----------
    X : array_like, shape (N, D)
        Responses: one row a channel, one column a condition.
    gains : array_like, shape (N,), optional
        Expansion point z; ones by default.
    center : bool, default True
        Whether the covariance is that of responses less their mean over channels.

    Returns
    -------
    ndarray, shape (N, N)
        Symmetric, positive semidefinite, in units of X to the fourth; float32 for float32 X. Rows
        and columns of dead channels (all responses zero) are exactly zero.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape.
    MemoryError
        If it does not fit the memory that is available, before anything is allocated.

    Notes
    -----
    N²D flops at gains of one (a symmetric rank-D update and one pass in place), four times that at
    other gains. 8N² + 8ND bytes in float64, half in float32; off the ones 8N² + 24ND + 10⁴N. Entries
    are good to rounding in ‖g_i‖‖g_j‖, and in the size of the mean over channels, where one channel
    dwarfs all others.
    """
    return GramOperator(X, gains=gains, center=center).dense()


def overlaps(
    X: ArrayLike, S: ArrayLike, *, gains: ArrayLike | None = None, center: bool = True
) -> NDArray[np.float64]:
    """Overlaps of the atoms with the error, Gᵀe₀, the downhill gradient of the loss.

    e₀ = vec(S − C(z)), and g_iᵀe₀ = 2 x_iᵀ (S − C) ỹ_i is minus the derivative of
    ½‖C − S‖² with respect to gain i.

    Parameters
    ----------
    X : array_like, shape (N, D)
        Responses: one row a channel, one column a condition.
    S : array_like, shape (D, D) or (T, D, D)
        Target covariance, or a stack of them.
    gains : array_like, shape (N,), optional
        Expansion point z; ones by default.
    center : bool, default True
        Whether the covariance is that of responses less their mean over channels.

    Returns
    -------
    ndarray, shape (N,) or (T, N)
        float64, in units of X to the fourth.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape, or S is not symmetric.

    Notes
    -----
    (1 + 2T)ND² flops, and ND² more up to 128 conditions (see `covariance`); memory for a block of rows.
    """
    problem = Problem.of(X, gains=gains, center=center)
    target = problem.target(S)
    result = problem.unscaled(apply_adjoint(problem, target - problem.covariance()), x=1, y=3)
    return result if np.ndim(S) == 3 else result[0]


def atom_norms(X: ArrayLike, *, gains: ArrayLike | None = None, center: bool = True) -> NDArray[np.float64]:
    """Norms of the atoms, ‖g_i‖ = √(2 [(x_i·x_i)(ỹ_i·ỹ_i) + (x_i·ỹ_i)²]).

    Parameters
    ----------
    X, gains, center
        As for `gram`, whose diagonal holds their squares.

    Returns
    -------
    ndarray, shape (N,)
        float64, in units of X squared; 0 for a dead channel.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape.

    Notes
    -----
    9ND flops, one pass over X.
    """
    problem = Problem.of(X, gains=gains, center=center)
    return problem.unscaled(np.sqrt(squared_norms(problem)), x=1, y=1)
