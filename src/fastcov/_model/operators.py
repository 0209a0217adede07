"""G and GᵀG for users: SciPy operators that never form them, and functions that give the matrices.

Column i of G is the atom g_i = vec(x_i ỹ_iᵀ + ỹ_i x_iᵀ), the derivative of the covariance with
respect to gain i. All values are in the user's units.
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

    Column i of G is the atom g_i of channel i, the derivative of the covariance with respect to gain i. Let
    x_i be the responses of channel i, y_i = z_i x_i with its gain z_i, and ỹ_i equal to y_i minus the mean
    over channels. Then g_i = vec(x_i ỹ_iᵀ + ỹ_i x_iᵀ). If gains change from z to z + δ, the covariance
    changes by G δ + O(δ²).

    Parameters
    ----------
    X : array_like, shape (N, D)
        Responses: one row per channel, one column per condition. Products are in float32 for float32 X; sums
        over channels, and all vectors over channels, are float64.
    gains : array_like, shape (N,), optional
        Gains z at which the derivative is taken; ones by default.
    center : bool, default True
        Whether the mean over channels is subtracted from the responses y_i. If not, ỹ_i = y_i.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape.

    Notes
    -----
    ``matvec`` is G v = Xᵀ diag(v) Ỹ + its transpose, raveled, where ỹ_i are the rows of Ỹ. ``rmatvec`` is
    Gᵀ vec(M) = 2 rowsum((X M) ∘ Ỹ), with M made symmetric. Each takes 2ND² flops, one pass over X and memory
    for a block of rows. Results have the units of X squared, times those of v or M.

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
        """Columns G[:, index], shape (D², k), in float64. 2kD² flops and 8kD² bytes."""
        chosen = _channels(index, self.shape[1])
        require_memory(24 * self.shape[0] * len(chosen), "Atoms of so many channels", "take fewer at a time")
        part = self.problem.take(chosen)
        part = part.astype(np.float64)
        half = part.responses()[:, :, np.newaxis] * part.centred()[:, np.newaxis, :]
        atoms = (half + half.transpose(0, 2, 1)).reshape(len(half), -1)
        return self.problem.unscaled(atoms.T, x=1, y=1)

    def dense(self) -> Array:
        """G itself, shape (D², N), for checks at small sizes. Raises MemoryError if it does not fit."""
        rows, N = self.shape
        require_memory(24 * rows * N, "The dense matrix of atoms", "use the operator, or columns()")
        return self.columns(np.arange(N))


class GramOperator(LinearOperator):
    """The Gram matrix of the atoms, GᵀG (N, N), as a SciPy LinearOperator, never formed.

    (GᵀG)_ij = 2 [(x_i·x_j)(ỹ_i·ỹ_j) + (x_i·ỹ_j)(ỹ_i·x_j)], with x_i and ỹ_i as in `AtomOperator`. It is
    symmetric and positive semidefinite.

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
    ``matvec`` takes 4ND² flops and two passes over X. The matrix has the units of X to the fourth. Vectors
    are float64 (``dtype``); ``columns`` and ``dense`` are float32 for float32 X.

    Examples
    --------
    This is the largest eigenvalue, to which a ridge is compared:

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
        """The diagonal ‖g_i‖², shape (N,), from one pass over X. 9ND flops."""
        return self.problem.unscaled(squared_norms(self.problem), x=2, y=2)

    def columns(self, index: ArrayLike) -> Array:
        """Columns GᵀG[:, index], shape (N, k), in the dtype of the products. 2NDk flops at gains of one."""
        exponent, chosen = _gram_exponent(self.problem), _channels(index, self.shape[1])
        nbytes = self.problem.dtype.itemsize * len(chosen) * (self.shape[0] + 2 * self.problem.shape[1])
        require_memory(nbytes, "Columns of so many channels", "take fewer at a time")
        with blas_for(2.0 * self.problem.X.size * len(chosen)):
            columns = gram_columns(self.problem, chosen)
        return np.ldexp(columns, exponent, out=columns) if exponent else columns

    def dense(self) -> Array:
        """GᵀG itself, shape (N, N), in the dtype of the products. `fastcov.gram` returns the same."""
        N, D = self.shape[0], self.problem.shape[1]
        beside = D if self.problem.at_ones else 3 * D + 5 * PANEL
        nbytes = self.problem.dtype.itemsize * N * (N + beside)
        require_memory(nbytes, f"A Gram matrix of {N} channels", "use GramOperator, or columns()")
        exponent = _gram_exponent(self.problem)
        with blas_for(float(N * N * D)):
            A = gram_triangle(self.problem, mirror=True)
        return np.ldexp(A, exponent, out=A) if exponent else A


def _vector(v: Array) -> NDArray[np.float64]:
    """A real vector as a stack (1, N) of one."""
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
    """The exponent of 2 from GᵀG in scaled units to the caller's units.

    Raises ValueError if the dtype of GᵀG cannot hold the result.
    """
    if problem.dtype == np.float32:  # X to the fourth is in range only if X is near one
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

    Column i of G is the atom of channel i, the derivative of the covariance with respect to gain i (see
    `AtomOperator`). With x_i the responses of channel i, y_i = z_i x_i, and ỹ_i equal to y_i minus the mean
    over channels, (GᵀG)_ij = 2 [(x_i·x_j)(ỹ_i·ỹ_j) + (x_i·ỹ_j)(ỹ_i·x_j)].

    Parameters
    ----------
    X : array_like, shape (N, D)
        Responses: one row per channel, one column per condition.
    gains : array_like, shape (N,), optional
        Gains z at which the derivative is taken; ones by default.
    center : bool, default True
        Whether the mean over channels is subtracted from the responses y_i. If not, ỹ_i = y_i.

    Returns
    -------
    ndarray, shape (N, N)
        Symmetric and positive semidefinite, in units of X to the fourth; float32 for float32 X. Rows
        and columns of dead channels (all responses zero) are exactly zero.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape.
    MemoryError
        If it does not fit in the memory that is available. This is checked before anything is allocated.

    Notes
    -----
    It takes N²D flops at gains of one (a symmetric rank-D update and one pass in place), and four times that
    at other gains. It needs 8N² + 8ND bytes in float64, and half of that in float32; at other gains it needs
    8N² + 24ND + 10⁴N. Entries are accurate to rounding of ‖g_i‖‖g_j‖, and, where one channel dwarfs all
    others, to rounding of the size of the mean over channels.
    """
    return GramOperator(X, gains=gains, center=center).dense()


def overlaps(
    X: ArrayLike, S: ArrayLike, *, gains: ArrayLike | None = None, center: bool = True
) -> NDArray[np.float64]:
    """Overlaps of the atoms with the error, Gᵀe₀: the negative gradient of the loss without a ridge.

    Column i of G is the atom g_i of channel i, the derivative of the covariance C with respect to gain i (see
    `AtomOperator`). The error at gains z is e₀ = vec(S − C(z)). So g_iᵀe₀ = 2 x_iᵀ (S − C) ỹ_i is minus the
    derivative of ½‖C − S‖² with respect to gain i.

    Parameters
    ----------
    X : array_like, shape (N, D)
        Responses: one row per channel, one column per condition.
    S : array_like, shape (D, D) or (T, D, D)
        Target covariance, or a stack of T target covariances.
    gains : array_like, shape (N,), optional
        Gains z at which the derivative is taken; ones by default.
    center : bool, default True
        Whether the mean over channels is subtracted from the responses y_i. If not, ỹ_i = y_i.

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
    It takes (1 + 2T)ND² flops, and ND² more up to 128 conditions (see `covariance`). It needs memory for a
    block of rows.
    """
    problem = Problem.of(X, gains=gains, center=center)
    target = problem.target(S)
    result = problem.unscaled(apply_adjoint(problem, target - problem.covariance()), x=1, y=3)
    return result if np.ndim(S) == 3 else result[0]


def atom_norms(X: ArrayLike, *, gains: ArrayLike | None = None, center: bool = True) -> NDArray[np.float64]:
    """Norms of the atoms, ‖g_i‖ = √(2 [(x_i·x_i)(ỹ_i·ỹ_i) + (x_i·ỹ_i)²]).

    The atom g_i is the derivative of the covariance with respect to gain i; x_i and ỹ_i are as in
    `AtomOperator`. The diagonal of `gram` holds the squares of these norms.

    Parameters
    ----------
    X, gains, center
        As for `gram`.

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
    It takes 9ND flops and one pass over X.
    """
    problem = Problem.of(X, gains=gains, center=center)
    return problem.unscaled(np.sqrt(squared_norms(problem)), x=1, y=1)
