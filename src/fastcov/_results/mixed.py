"""Mixed: gains and a connectivity together, with their certificate, as returned to users."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._connectivity.channels import ConnectivityOperator
from .._connectivity.reduced import Reduced
from .._inputs.container import save
from .applied import Applied, apply_connectivity
from .connectivity_text import mixed_rows, remarks
from .frames import fit_frame
from .html import html_table
from .kept import problem_of
from .matched import Matched

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Mixed(Matched):
    """Fitted gains z and connectivity W of responses (diag(z) + W)X; prints itself as a short table.

    W = J diag(z) X Ω Xᵀ (N × N) has rank D at most and is never formed. For a stack of T targets every array
    has a leading axis of length T, and every number but the ridges is an array (T,); `select` gives that of
    one target.

    Attributes
    ----------
    gains : ndarray, shape (N,)
        The gains z.
    delta : ndarray, shape (N,)
        δ = z − 1.
    omega : ndarray, shape (D, D)
        Ω, symmetric, in units of X to the power −2.
    loss, loss_at_one : float
        ½‖S − C‖²_F + (λ/2)‖z − 1‖² + (μ/2)‖W‖²_F, and the same at z = 1 and W = 0.
    r2 : float
        1 − ‖C − S‖²_F / ‖S‖²_F, with nuisance terms and `pairs` as for `Fit`.
    ridge, free_ridge : float
        λ of the gains and μ of W, in units of X to the fourth.
    relative_ridge, relative_free_ridge : float or None
        The same over the largest eigenvalues of GᵀG and of the free model's GGᵀ (see `Connectivity`), if they
        were given so.
    residual : float
        Certificate: the norm of the gradient in z and W together, over that at z = 1 and W = 0.
    status : str
        As for `Connectivity`.
    method : str
        "mixed".
    stats : dict
        As for `Connectivity`.
    channels, conditions : tuple or None
    nuisance : dict
        As for `Fit`.
    """

    _OF_TARGETS = ("delta", "omega", "_covariance_at_gains")

    delta: Array
    omega: Array
    loss: Any
    loss_at_one: Any
    r2: Any
    ridge: float
    free_ridge: float
    relative_ridge: float | None
    relative_free_ridge: float | None
    residual: Any
    status: str
    method: str
    stats: dict[str, Any]
    channels: tuple[Any, ...] | None
    conditions: tuple[Any, ...] | None
    _covariance: Array
    _target: Array
    _covariance_at_one: Array
    _covariance_at_gains: Array  # of diag(z)X
    _mean: Array
    nuisance: dict[str, Any] = dataclasses.field(default_factory=dict)
    _kept: Any = dataclasses.field(default=None, metadata={"saved": False})

    @property
    def gains(self) -> Array:
        """z = 1 + δ, (N,) or (T, N)."""
        return 1.0 + self.delta

    def covariance_at_gains(self) -> Array:
        """The covariance of diag(z)X, without W, (D, D) or (T, D, D), in units of X squared."""
        return self._covariance_at_gains.copy()

    @property
    def W(self) -> ConnectivityOperator:
        """W (N, N) as a SciPy LinearOperator with factors ``left`` and ``right``: see `operator`."""
        return self.operator()

    def operator(self, X: ArrayLike | None = None) -> ConnectivityOperator:
        """W (N, N), without the gains, as a SciPy LinearOperator of rank D at most.

        Parameters
        ----------
        X : array_like, shape (N, D), optional
            The fitted responses, as for `Connectivity.operator`.
        """
        self._of_one("operator")
        problem = problem_of(self, X, weighed=False)
        return ConnectivityOperator(problem, self._phi(self.omega), self.gains)

    def norm(self) -> Any:
        """‖W‖_F, a number or (T,), to compare with ‖δ‖; O(D³), without X."""
        found = []
        D = self._target.shape[-1]
        pairs = zip(
            self.omega.reshape(-1, D, D), self._covariance_at_gains.reshape(-1, D, D), strict=True
        )  # fmt: skip
        for omega, covariance in pairs:
            there = dataclasses.replace(self._reduced, covariance=covariance, at_one=self._reduced)
            found.append(there.gradient_norm(omega))
        return np.array(found) if self.delta.ndim == 2 else found[0]

    def apply(
        self, X_new: ArrayLike, S: ArrayLike | None = None, *, responses: ArrayLike | None = None,
        X: ArrayLike | None = None,
    ) -> Applied:  # fmt: skip
        """Apply gains and W to responses of the same channels to other conditions.

        Arguments, result and errors are those of `Connectivity.apply`, with diag(z) + W in place of I + W.
        """
        return apply_connectivity(self, X_new, S, responses, problem_of(self, X, weighed=False))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a .npz, .h5 or .hdf5 file, which `fastcov.load` reads; as `Fit.save` does."""
        readable = {
            "method": self.method, "status": self.status, "center": self.stats["center"],
            "gains": self.gains, "ridge": self.ridge, "free_ridge": self.free_ridge,
        }  # fmt: skip
        save(self, path, readable)

    def to_frame(self) -> Any:
        """A pandas DataFrame with columns gain and delta and a row for each channel, as `Fit.to_frame`."""
        return fit_frame(self)

    def __repr__(self) -> str:
        lines = ["Mixed", *(f"  {name:<9}{value}" for name, value in mixed_rows(self))]
        for note in remarks(self):
            lines += textwrap.wrap(note, 108, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table("Mixed", mixed_rows(self), notes=remarks(self))

    # --- inside

    def _phi(self, omega: Array) -> Array:
        """Φ of J diag(z) X Ω Xᵀ over the columns of J diag(z) X, and of x̂ to the right."""
        return Reduced(self._covariance_at_one, self._mean, bool(self.stats["center"])).phi(omega)

    def _stack(self) -> Array:
        D = self._target.shape[-1]
        return np.stack([self._phi(omega) for omega in self.omega.reshape(-1, D, D)])
