"""Reference formulas in NumPy and float64, by blocks of rows, and bounds on rounding, to check results.

Nothing here is computed by fastcov, so that a mistake there cannot hide itself. Cases use fastcov only for a
ridge, in `_fits.absolute`, and for gains that are first checked by these formulas, in `_studies.held_out_r2`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROWS = 4096
# The rounding errors of a sum of n terms are a random walk of n steps of the unit roundoff: an error beyond
# ten times √n unit roundoffs is a mistake, not rounding (Higham and Mary 2019: a probability of 2 exp(−50)).
RANDOM_WALK_FACTOR = 10.0
# Steps at which a solution has rounding errors: the matrix, the solution, and the residual.
STEPS = 3.0
# The accuracy that fits promise, relative to the right-hand side, and to the gradient at gains of one.
RESIDUAL, GRADIENT = 1e-8, 1e-6
# Factor for the rounding of the certificate itself.
CERTIFICATE_TOLERANCE = 1.01


class InaccurateError(AssertionError):
    """A result that is wrong, or less accurate than rounding and the solver's promise explain."""


def require(holds: Any, said: str) -> None:
    """Raise InaccurateError unless it holds: an `assert` that `python -O` keeps."""
    if not holds:
        raise InaccurateError(said)


def rounding(dtype: Any, n: float) -> float:
    """Bound the rounding error of sums of n terms, relative to the sum of the terms' absolute values."""
    return RANDOM_WALK_FACTOR * float(np.sqrt(n)) * float(np.finfo(dtype).eps)


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Covariance, loss and atoms of X (N, D) by their definitions, for any precision of X."""

    X: NDArray[Any]

    def blocks(self, z: Array | None = None) -> Iterator[tuple[slice, Array, Array]]:
        """Yield rows, x_i, and ỹ_i = z_i x_i minus the mean over channels."""
        N = len(self.X)
        z = np.ones(N) if z is None else z
        mean = sum(z[rows] @ self.X[rows].astype(np.float64) for rows in self._rows()) / N
        for rows in self._rows():
            x = self.X[rows].astype(np.float64)
            yield rows, x, z[rows, np.newaxis] * x - mean

    def _rows(self) -> list[slice]:
        return [slice(start, start + ROWS) for start in range(0, len(self.X), ROWS)]

    def covariance(self, z: Array | None = None) -> Array:
        """Return Xᵀ diag(z) J diag(z) X."""
        C: Array = sum((y.T @ y for _, _, y in self.blocks(z)), np.zeros((self.X.shape[1],) * 2))
        return C

    def atoms(self, v: Array) -> Array:
        """Return G v as a matrix, the sum of Xᵀ diag(v) X̃ and its transpose."""
        half: Array = sum(
            ((v[rows, np.newaxis] * x).T @ y for rows, x, y in self.blocks()),
            np.zeros((self.X.shape[1],) * 2),
        )
        return half + half.T

    def adjoint(self, M: Array, z: Array | None = None) -> Array:
        """Return Gᵀ vec(M) = 2 rowsum((X M) ∘ Ỹ) for a symmetric M."""
        out = np.empty(len(self.X))
        for rows, x, y in self.blocks(z):
            out[rows] = 2 * ((x @ M) * y).sum(axis=1)
        return out

    def gram(self) -> Array:
        """Return GᵀG (N, N), with the entries 2 [(x_i · x_j)(x̃_i · x̃_j) + (x_i · x̃_j)(x̃_i · x_j)]."""
        X = self.X.astype(np.float64)
        centred = X - X.mean(axis=0)
        across = X @ centred.T
        out: Array = 2 * ((X @ X.T) * (centred @ centred.T) + across * across.T)
        return out

    def counted(self, M: Array) -> Array:
        """Return the part of an error that counts in the loss: all of it."""
        return M

    def gradient(self, S: Array, z: Array, ridge: Any = 0.0) -> Array:
        """Return ∇L = 2 rowsum(X ∘ (Ỹ E)) + λ(z − 1), with E the part of C − S that counts in the loss."""
        return self.adjoint(self.counted(self.covariance(z) - S), z) + ridge * (z - 1)

    def scale(self, z: Array | None = None) -> float:
        """Return the largest diagonal entry of Xᵀ diag(z)² X, a Cauchy-Schwarz bound on sums of products."""
        z = np.ones(len(self.X)) if z is None else z
        squares = sum(
            (np.square(z[rows, np.newaxis] * x).sum(axis=0) for rows, x, _ in self.blocks()),
            np.zeros(self.X.shape[1]),
        )
        return float(np.max(squares))

    def largest_row(self) -> float:
        """Return max ‖x_i‖²."""
        return max(float(np.square(x).sum(axis=1).max()) for _, x, _ in self.blocks())

    @property
    def roundoff(self) -> float:
        """Rounding error of sums over channels and conditions in the precision of X."""
        return rounding(self.X.dtype, sum(self.X.shape))


class Projected(Reference):
    """The same with nuisance terms: the loss ignores an error's mean on the diagonal, and its mean off it."""

    def counted(self, M: Array) -> Array:
        beta, gamma = self.terms(M)
        return M - beta * np.eye(len(M)) - gamma

    def terms(self, M: Array) -> tuple[float, float]:
        """Return β and γ that minimise ‖M − βI − γ11ᵀ‖."""
        D = len(M)
        on = float(np.trace(M))
        gamma = float(M.sum() - on) / (D * (D - 1))
        return on / D - gamma, gamma


def near(result: Any, expected: Any, allowed: float) -> None:
    """Raise InaccurateError if an entry differs by more than `allowed` from its expected value."""
    result, expected = np.asarray(result, np.float64), np.asarray(expected)
    require(result.shape == expected.shape, f"shape {result.shape} in place of {expected.shape}")
    apart = float(np.abs(result - expected).max(initial=0.0))
    require(apart <= allowed, f"off by {apart:.1e}, more than {allowed:.1e}")


def gains_of(result: Any) -> Array:
    """Return the gains (N,), or (K, N), of a fit, a path or an estimator, or the array itself."""
    for name in ("gains", "gains_"):
        if hasattr(result, name):
            return np.asarray(getattr(result, name))
    return np.asarray(result, np.float64)


def delta_of(result: Any) -> Array:
    """Return gains minus one, with full accuracy if the result has it."""
    for name in ("delta", "delta_"):
        if hasattr(result, name):
            return np.asarray(getattr(result, name))
    return gains_of(result) - 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class LinearSystem:
    """The system (GᵀG + λI)δ = b with b = Gᵀe₀; λ may be a vector. `largest` is GᵀG's largest eigenvalue."""

    reference: Reference
    S: Array
    ridge: Any
    largest: float

    def residual(self, delta: Array) -> Array:
        """Return b − (GᵀG + λI)δ, with GᵀG as two products."""
        error = self.S - self.reference.covariance() - self.reference.atoms(delta)
        return self.reference.adjoint(self.reference.counted(error)) - self.ridge * delta

    @property
    def right_hand_side(self) -> Array:
        return self.residual(np.zeros(len(self.reference.X)))

    def allowed(self, delta: Array, *, ours: bool, iterative: bool) -> float:
        """Return the largest residual of an accurate solution.

        Rounding leaves a residual in proportion to (‖A‖ + λ)‖δ‖ + ‖G‖‖e₀‖, from sums over channels or over
        the entries of an atom, at the precision of float64, whatever the precision of X. A solver that
        returns gains has rounded these, not δ. An iterative solver stops at RESIDUAL of ‖b‖.
        """
        X = self.reference.X
        share = STEPS * rounding(np.float64, len(X) + X.shape[1] ** 2)
        size = float(np.linalg.norm(delta)) + (0.0 if ours else float(np.sqrt(len(X))))
        largest = self.largest + float(np.max(self.ridge))
        error = float(np.linalg.norm(self.S)) + float(np.linalg.norm(self.reference.covariance()))
        stops = (
            CERTIFICATE_TOLERANCE * RESIDUAL * float(np.linalg.norm(self.right_hand_side))
            if iterative
            else 0.0
        )
        return share * (largest * size + float(np.sqrt(self.largest)) * error) + stops

    def check(self, result: Any) -> None:
        """Raise InaccurateError unless the gains solve the system, and the fit's certificate says so."""
        ours = hasattr(result, "delta")
        if ours:
            require(result.status in ("converged", "minimum-norm"), f"it ends as {result.status}")
        iterative = not ours or result.stats["solver"] == "pcg"
        delta = delta_of(result)
        require(delta.shape == (len(self.reference.X),), f"gains of shape {delta.shape}")
        left = float(np.linalg.norm(self.residual(delta)))
        allowed = self.allowed(delta, ours=ours, iterative=iterative)
        require(left <= allowed, f"a residual of {left:.1e}, more than {allowed:.1e}")


@dataclasses.dataclass(frozen=True, eq=False)
class Minimum:
    """A minimum of the exact loss, where the gradient is zero except against a bound."""

    reference: Reference
    S: Array
    ridge: float
    lower: float = -np.inf

    def check(self, result: Any) -> None:
        """Raise InaccurateError unless the gradient is GRADIENT of that at gains of one, or rounding."""
        z, X = gains_of(result), self.reference.X
        require(z.shape == (len(X),), f"gains of shape {z.shape}")
        require(z.min() >= self.lower, f"a gain of {z.min():.3g}, less than {self.lower:.3g}")
        ours = hasattr(result, "delta")
        require(not ours or result.status == "converged", f"it ends as {getattr(result, 'status', None)}")
        gradient = self.reference.gradient(self.S, z, self.ridge)
        at_bound = z <= self.lower
        gradient[at_bound] = np.minimum(gradient[at_bound], 0.0)
        first = np.linalg.norm(self.reference.gradient(self.S, np.ones(len(X))))
        error = np.linalg.norm(self.S) + np.linalg.norm(self.reference.covariance(z))
        share = rounding(np.float64, sum(X.shape))
        size = float(np.sqrt(len(X)) * self.reference.largest_row() * np.abs(z).max() * error)
        allowed = CERTIFICATE_TOLERANCE * GRADIENT * float(first) + share * size
        left = float(np.linalg.norm(gradient))
        require(left <= allowed, f"a gradient of {left:.1e}, more than {allowed:.1e}")
